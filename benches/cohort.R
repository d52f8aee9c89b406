# R's side of `cargo bench --bench cohort`: it stays open, and answers each line with one line of numbers.
# Seconds are measured here, so that neither start-up nor the exchange of files counts.
suppressPackageStartupMessages({library(glmnet); library(survival); library(rms); library(pROC)})

seconds <- function(run) {
  before <- proc.time()
  value <- run()
  spent <- proc.time() - before
  list(value = value, wall = spent[["elapsed"]], cpu = spent[["user.self"]] + spent[["sys.self"]])
}
doubles <- function(folder, name, n) readBin(file.path(folder, name), "double", n)
status_kb <- function(key) {
  line <- grep(paste0("^", key, ":"), readLines("/proc/self/status"), value = TRUE)
  as.numeric(gsub("[^0-9]", "", line))
}

# The path ("path") or its cross-validation ("cv"); lambdas, intercepts and coefficients go to coefficients.f64.
penalized <- function(what, family, folder, n, p, ratio, thresh) {
  x <- matrix(doubles(folder, "x.f64", n * p), n)
  y <- doubles(folder, "y.f64", n)
  if (family == "cox") y <- Surv(doubles(folder, "time.f64", n), y)
  options <- list(x = x, y = y, family = family, thresh = thresh, maxit = 1e7)
  if (ratio > 0) options$lambda.min.ratio <- ratio
  if (what == "cv") options$foldid <- as.integer(doubles(folder, "folds.f64", n)) + 1L
  invisible(gc())
  before <- status_kb("VmRSS")
  cat("5", file = "/proc/self/clear_refs")
  took <- seconds(function() suppressWarnings(do.call(if (what == "cv") cv.glmnet else glmnet, options)))
  peak <- status_kb("VmHWM")
  fit <- if (what == "cv") took$value$glmnet.fit else took$value
  intercepts <- if (family == "cox") rep(0, length(fit$lambda)) else fit$a0
  writeBin(c(fit$lambda, intercepts, as.vector(as.matrix(fit$beta))), file.path(folder, "coefficients.f64"))
  index <- if (what == "cv") took$value$index - 1 else c(0, 0)
  c(took$wall, took$cpu, length(fit$lambda), index, before, peak)
}

# The way of the features and the models, from the tables; `rows` may repeat patients of training.
procedure <- function(x, clinical, folds, rows) {
  y <- clinical$mlm[rows]
  p <- apply(x[rows, ], 2, function(v) wilcox.test(v[y == 1], v[y == 0], exact = FALSE)$p.value)
  names(p) <- colnames(x)
  candidates <- names(sort(p[!is.na(p) & p < 0.05]))
  rho <- abs(cor(apply(x[rows, candidates], 2, rank)))
  kept <- integer(0)
  for (k in seq_along(candidates)) if (all(rho[k, kept] <= 0.9)) kept <- c(kept, k)
  z <- scale(x[rows, candidates[kept]])
  cv <- cv.glmnet(z, y, family = "binomial", foldid = folds[rows], thresh = 1e-10, lambda.min.ratio = 0.01)
  score <- function(of) as.vector(predict(cv, scale(of[, candidates[kept]], attr(z, "scaled:center"),
                                                   attr(z, "scaled:scale")), s = "lambda.min"))
  data <- cbind(clinical[rows, ], rad_score = score(x[rows, ]))
  terms <- c("age_years", "male", "log_afp", "t_stage", "n_stage", "dissected_lymph_nodes", "positive_lymph_nodes",
             "perineural_invasion", "lymphovascular_invasion", "tumor_nodules", "poor", "adjuvant_chemo")
  single <- sapply(terms, function(t) {
    fit <- glm(reformulate(t, "mlm"), binomial, data)
    pchisq(fit$null.deviance - fit$deviance, fit$df.null - fit$df.residual, lower.tail = FALSE)
  })
  full <- glm(reformulate(terms[single < 0.05], "mlm"), binomial, data)
  clinical_model <- step(full, direction = "backward", trace = 0)
  combined <- glm(update(formula(clinical_model), . ~ . + rad_score), binomial, data)
  radiomic <- glm(mlm ~ rad_score, binomial, data)
  list(score = score, models = list(clinical_model, radiomic, combined), cv = cv)
}

tables <- function(folder) {
  clinical <- read.csv(file.path(folder, "clinical.csv"))
  clinical$log_afp <- log(clinical$afp_ng_per_ml)
  clinical$male <- clinical$sex == "M"
  clinical$poor <- clinical$differentiation == "poor"
  radiomics <- read.csv(file.path(folder, "radiomics.csv"), check.names = FALSE)
  x <- as.matrix(radiomics[match(clinical$patient_id, radiomics$patient_id), sapply(radiomics, is.numeric)])
  list(clinical = clinical, x = x)
}

stable <- function(folder, x, clinical) {
  second <- read.csv(file.path(folder, "stability.csv"), check.names = FALSE)
  columns <- intersect(colnames(x), colnames(second))
  a <- x[match(second$patient_id, clinical$patient_id), columns]
  b <- as.matrix(second[, columns])
  n <- nrow(a)
  middle <- (a + b) / 2
  grand <- colMeans(middle)
  rows <- 2 * colSums(sweep(middle, 2, grand)^2) / (n - 1)
  raters <- n * ((colMeans(a) - grand)^2 + (colMeans(b) - grand)^2)
  total <- colSums(sweep(a, 2, grand)^2) + colSums(sweep(b, 2, grand)^2)
  error <- (total - rows * (n - 1) - raters) / (n - 1)
  icc <- (rows - error) / (rows + error + 2 * (raters - error) / n)
  columns[icc >= 0.75]
}

evaluate <- function(fit, clinical) {
  for (part in unique(clinical$split)) {
    own <- clinical$split == part
    for (model in fit$models) {
      lp <- predict(model, clinical[own, ])
      curve <- roc(clinical$mlm[own], lp, quiet = TRUE, direction = "<")
      ci.auc(curve)
      concordance(Surv(time_months, mlm) ~ lp, cbind(clinical[own, ], lp = lp), reverse = TRUE)
      glm(clinical$mlm[own] ~ lp, family = binomial)
    }
  }
}

whole <- function(folder, foldid) {
  read <- tables(folder)
  clinical <- read$clinical
  train <- which(clinical$split == "train")
  folds <- rep(NA, nrow(clinical))
  folds[train] <- foldid
  keep <- stable(folder, read$x, clinical)
  fit <- procedure(read$x[, keep], clinical, folds, train)
  clinical$rad_score <- fit$score(read$x)
  evaluate(fit, clinical)
  fit
}

bootstrap <- function(folder, foldid, replicates) {
  read <- tables(folder)
  train <- which(read$clinical$split == "train")
  folds <- rep(NA, nrow(read$clinical))
  folds[train] <- foldid
  x <- read$x[, stable(folder, read$x, read$clinical)]
  set.seed(1)
  took <- seconds(function() for (b in seq_len(replicates)) {
    fit <- procedure(x, read$clinical, folds, sample(train, replace = TRUE))
    data <- cbind(read$clinical, rad_score = fit$score(x))[train, ]
    for (model in fit$models) auc(data$mlm, predict(model, data), quiet = TRUE, direction = "<")
  })
  c(took$wall, took$cpu) / replicates
}

input <- file("stdin", "r")
while (length(line <- readLines(input, 1)) > 0) {
  ask <- strsplit(line, "\t")[[1]]
  number <- function(k) as.numeric(ask[[k]])
  folds <- function(folder) doubles(folder, "folds.f64", 1e6) + 1
  answer <- switch(ask[[1]],
    cv = , path = penalized(ask[[1]], ask[[2]], ask[[3]], number(4), number(5), number(6), number(7)),
    pipeline = {
      took <- seconds(function() whole(ask[[2]], folds(ask[[3]])))
      c(took$wall, took$cpu, sum(coef(took$value$cv, s = "lambda.min") != 0) - 1)
    },
    bootstrap = bootstrap(ask[[2]], folds(ask[[3]]), number(4)))
  cat(format(answer, digits = 10, scientific = FALSE, trim = TRUE), "\n", sep = " ")
}
