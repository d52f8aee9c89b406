# R's answers for one random data set: lines of a name and its numbers. Arguments: folder, then what to compute.
arguments <- commandArgs(trailingOnly = TRUE)
folder <- arguments[1]
say <- function(name, values) cat(name, format(as.numeric(values), digits = 17, trim = TRUE), "\n")
data <- read.csv(file.path(folder, "data.csv"))
x <- as.matrix(data[, grep("^x[0-9]+$", names(data))])

if ("path" %in% arguments || "cox_path" %in% arguments) {
  library(glmnet)
  family <- if ("cox_path" %in% arguments) "cox" else "binomial"
  y <- if (family == "cox") survival::Surv(data$time, data$event) else data$y
  alpha <- if ("alpha" %in% arguments) 0.5 else 1
  # Looser where n < p: there R may never end at the tighter one.
  tight <- if (nrow(x) > ncol(x)) 1e-14 else 1e-12
  options <- list(x = x, y = y, family = family, alpha = alpha, thresh = tight, maxit = 1e8)
  if (nrow(x) <= ncol(x)) options$lambda.min.ratio <- 0.1
  fit <- do.call(glmnet, options)
  say("lambda", fit$lambda)
  say("dev_ratio", fit$dev.ratio)
  say("intercept", if (family == "cox") rep(0, length(fit$lambda)) else fit$a0)
  say("beta", as.vector(as.matrix(fit$beta)))
  cv <- suppressWarnings(do.call(cv.glmnet, c(options, list(foldid = data$fold + 1))))
  say("cvm", cv$cvm)
  say("cvsd", cv$cvsd)
  say("index", cv$index - 1)
}
if ("logistic" %in% arguments) {
  model <- glm(data$y ~ x, family = binomial)
  found <- summary(model)$coefficients
  for (k in 1:4) say(c("coef", "se", "z", "p")[k], found[, k])
  say("deviance", c(deviance(model), model$null.deviance, AIC(model), BIC(model)))
  suppressPackageStartupMessages(library(rms))
  full <- lrm(data$y ~ x, tol = 1e-14, eps = 1e-10, maxit = 50)
  say("lrm", c(coef(full), full$stats[["Model L.R."]]))
  # The probabilities of another model than that of these patients, so that calibration is not perfect.
  p <- plogis(0.3 + 0.7 * predict(model))
  say("probabilities", p)
  v <- val.prob(p, data$y, pl = FALSE)
  say("val.prob", v[c("C (ROC)", "R2", "D", "D:Chi-sq", "U", "U:Chi-sq", "U:p", "Q", "Brier", "Intercept", "Slope",
                      "Emax", "E90", "Eavg", "S:z", "S:p")])
}
if ("survival" %in% arguments) {
  library(survival)
  for (ties in c("efron", "breslow")) {
    model <- coxph(Surv(time, event) ~ x, data, ties = ties, control = coxph.control(eps = 1e-12, iter.max = 50))
    say(paste0(ties, "_coef"), coef(model))
    say(paste0(ties, "_se"), sqrt(diag(vcov(model))))
    say(paste0(ties, "_loglik"), model$loglik)
    say(paste0(ties, "_tests"), c(model$score, model$wald.test, concordance(model)$concordance))
  }
  curve <- survfit(Surv(time, event) ~ 1, data)
  say("km_time", curve$time)
  say("km_surv", curve$surv)
  say("km_se", curve$std.err)
  say("km_lower", curve$lower)
  say("km_upper", curve$upper)
  test <- survdiff(Surv(time, event) ~ group, data)
  say("log_rank", c(test$obs, test$exp, test$chisq, pchisq(test$chisq, length(test$n) - 1, lower.tail = FALSE)))
}
