# What R says about Cox models on the lung cancer data of ../shared/data/stats/survival_lung: stepwise selection, comparison of C,
# calibration under censoring, Firth's penalty. Arguments: data.csv, then where to write.
suppressPackageStartupMessages({library(survival); library(rms); library(jsonlite)})
arguments <- commandArgs(trailingOnly = TRUE)
d <- na.omit(read.csv(arguments[1]))
d$event <- as.numeric(d$status)
exact <- coxph.control(eps = 1e-12, iter.max = 50)
y <- Surv(d$time, d$event)
full <- coxph(y ~ age + sex + ph_ecog + ph_karno + wt_loss, d, control = exact, x = TRUE)
none <- coxph(y ~ 1, d)
steps <- function(found) list(terms = attr(terms(found), "term.labels"), aic = extractAIC(found)[2],
                              steps = found$anova$Step, path = found$anova$AIC)
scope <- list(lower = ~ 1, upper = ~ age + sex + ph_ecog + ph_karno + wt_loss)
answer <- list(
  backward = steps(step(full, trace = 0)),
  forward = steps(step(none, scope, direction = "forward", trace = 0)),
  both = steps(step(full, scope, direction = "both", trace = 0)),
  criteria = c(AIC(full), BIC(full)), vif = as.numeric(rms::vif(full)))

small <- coxph(y ~ age + wt_loss, d, control = exact)
pair <- concordance(full, small)
contrast <- c(1, -1)
answer$pair <- list(c = as.numeric(coef(pair)), se = sqrt(diag(vcov(pair))), difference = sum(contrast * coef(pair)),
                    difference_se = sqrt(drop(contrast %*% vcov(pair) %*% contrast)))

# A model of half of the patients, calibrated in the others.
half <- seq_len(nrow(d)) %% 2 == 0
dd <- datadist(d); options(datadist = "dd")
model <- cph(Surv(time, event) ~ age + sex + ph_ecog + ph_karno, d[half, ], x = TRUE, y = TRUE, surv = TRUE, eps = 1e-12)
others <- d[!half, ]
u <- 365
predicted <- as.numeric(survest(model, others, times = u)$surv)
observed <- Surv(others$time, others$event)
answer$calibration <- list(u = u, lp = as.numeric(predict(model, others)), predicted = predicted,
  center = model$center, groups = lapply(c(3, 5, 10), function(g) groupkm(predicted, observed, g = g, u = u)))
risk <- 1 - predicted
scaled <- log(-log(1 - risk))
smooth <- coxph(observed ~ rcs(scaled, 3), control = exact)
curve <- 1 - summary(survfit(smooth, newdata = data.frame(scaled = scaled)), times = u)$surv[1, ]
apart <- abs(curve - risk)
answer$calibration$smooth <- as.numeric(curve)
answer$calibration$distances <- c(mean(apart), quantile(apart, c(0.5, 0.9)), max(apart))
slope <- coxph(observed ~ answer$calibration$lp, control = exact)
answer$calibration$slope <- c(coef(slope), sqrt(vcov(slope)))

# Firth: the largest of log likelihood + log det(information) / 2, both as coxph gives them without a step.
d$young <- as.numeric(d$age < 45 & d$event == 0)
penalized <- function(formula, ties) {
  at <- function(b) suppressWarnings(coxph(formula, d, init = b, control = coxph.control(iter.max = 0), ties = ties))
  value <- function(b) { m <- at(b); m$loglik[2] + 0.5 * log(det(solve(m$var))) }
  best <- optim(rep(0, length(all.vars(formula[[3]]))), function(b) -value(b), method = "BFGS",
                control = list(reltol = 1e-15, maxit = 1000))
  best <- optim(best$par, function(b) -value(b), method = "Nelder-Mead", control = list(reltol = 1e-15, maxit = 5000))
  list(coef = best$par, value = -best$value, null = value(best$par * 0), se = sqrt(diag(at(best$par)$var)))
}
answer$firth <- lapply(c(efron = "efron", breslow = "breslow"), function(t) penalized(Surv(time, event) ~ young + ph_ecog, t))
write_json(answer, arguments[2], digits = NA, auto_unbox = TRUE, pretty = FALSE)
