# The analysis of the simulated cohort (../shared/data/cohort) with family = "cox", in R. Arguments: its folder, then where to write.
suppressPackageStartupMessages({library(glmnet); library(rms); library(jsonlite)})
arguments <- commandArgs(trailingOnly = TRUE)
table_of <- function(name) read.csv(file.path(arguments[1], name), check.names = FALSE)
before <- read_json(file.path(arguments[1], "reference_R.json"), simplifyVector = TRUE)
d <- table_of("clinical.csv")
d$log_afp <- log(d$afp_ng_per_ml)
d$male <- as.numeric(d$sex == "M")
d$poor <- as.numeric(d$differentiation == "poor")
x <- table_of("radiomics.csv")
x <- as.matrix(x[match(d$patient_id, x$patient_id), names(before$icc)[unlist(before$icc) >= 0.75]])
train <- which(d$split == "train")
exact <- coxph.control(eps = 1e-12, toler.chol = 1e-14, iter.max = 50)
y <- Surv(d$time_months, d$mlm)
months <- c(12, 36, 60)
month <- 36

# The way of the features.
p <- apply(x[train, ], 2, function(v) summary(coxph(y[train] ~ v, control = exact))$coefficients[5])
candidates <- names(sort(p[p < 0.05]))
rho <- abs(cor(x[train, candidates], method = "spearman"))
kept <- integer(0)
for (k in seq_along(candidates)) if (all(rho[k, kept] <= 0.9)) kept <- c(kept, k)
kept <- colnames(x)[colnames(x) %in% candidates[kept]]
z <- scale(x[, kept], colMeans(x[train, kept]), apply(x[train, kept], 2, sd))
cv <- cv.glmnet(z[train, ], y[train], family = "cox", foldid = before$foldid_train_rows_in_file_order + 0L, thresh = 1e-12,
                lambda.min.ratio = 0.05, keep = TRUE, maxit = 1e7)
b <- as.matrix(coef(cv, s = "lambda.min"))
at <- which(cv$lambda == cv$lambda.min)
answer <- list(n = c(ncol(x), length(candidates), length(kept), sum(b != 0)), p = as.list(p[rownames(b)[b != 0]]),
  lambda = cv$lambda, cvm = cv$cvm, cvsd = cv$cvsd, at = at - 1, coefficients = as.list(b[b != 0, ]))
d$rad_score <- as.vector(z %*% b)
answer$rad_score <- d$rad_score[train]
out_of_fold <- d
out_of_fold$rad_score[train] <- cv$fit.preval[, at]

# The clinical values.
terms <- c("age_years", "male", "log_afp", "t_stage", "n_stage", "dissected_lymph_nodes", "positive_lymph_nodes",
           "perineural_invasion", "lymphovascular_invasion", "tumor_nodules", "poor", "adjuvant_chemo")
formula_of <- function(terms) reformulate(terms, "Surv(time_months, mlm)")
alone <- sapply(terms, function(t) summary(coxph(formula_of(t), d[train, ], control = exact))$coefficients[c(2, 5)])
answer$alone <- list(ratio = alone[1, ], p = alone[2, ])
passed <- terms[alone[2, ] < 0.05]
training <- d[train, ]
selected <- step(do.call(coxph, list(formula_of(passed), training, control = exact)), direction = "backward", trace = 0)
chosen <- attr(terms(selected), "term.labels")
answer$selection <- list(passed = passed, kept = chosen, aic = selected$anova$AIC)

# Models, and how they do at the month.
# Events come before censorings of the same day, so they are no longer at risk of it.
censoring <- survfit(Surv(training$time_months - 1e-6 * training$mlm, 1 - training$mlm) ~ 1)
uncensored <- stepfun(censoring$time, c(1, censoring$surv))
describe <- function(terms, data) {
  fit <- do.call(coxph, list(formula_of(terms), data[train, ], control = exact))
  centers <- colMeans(data[train, terms, drop = FALSE])
  s0 <- summary(survfit(fit, newdata = as.data.frame(t(centers))), times = months)$surv
  lp <- as.vector(as.matrix(d[, terms, drop = FALSE]) %*% coef(fit)) - sum(centers * coef(fit))
  risk <- 1 - s0[months == month]^exp(lp)
  parts <- lapply(c(train = "train", validation = "validation", test = "test"), function(part) {
    own <- d$split == part
    o <- y[own]
    t <- d$time_months[own]; e <- d$mlm[own]
    c <- concordance(o ~ lp[own], reverse = TRUE)
    km <- 1 - summary(survfit(o ~ 1), times = month)$surv
    brier <- mean(ifelse(t > month, risk[own]^2 / uncensored(month), 0) +
                  ifelse(t <= month & e == 1, (1 - risk[own])^2 / uncensored(t), 0))
    cll <- log(-log(1 - risk[own]))
    smooth <- coxph(o ~ rcs(cll, 3), data.frame(cll = cll), control = exact, model = TRUE)
    curve <- 1 - summary(survfit(smooth, newdata = data.frame(cll = cll)), times = month)$surv[1, ]
    slope <- coxph(o ~ lp[own], control = exact)
    apart <- abs(curve - risk[own])
    groups <- max(2, min(10, floor(sum(own) / 20)))
    benefit <- sapply(c(0.1, 0.25, 0.4), function(q) {
      high <- risk[own] >= q
      above <- if (any(high)) 1 - summary(survfit(o[high] ~ 1), times = month, extend = TRUE)$surv else 0
      mean(high) * (above - q / (1 - q) * (1 - above))
    })
    list(c = c(c$concordance, sqrt(c$var)), mean_risk = mean(risk[own]), observed = km, brier = brier,
         slope = c(coef(slope), sqrt(vcov(slope))), groups = groupkm(1 - risk[own], o, g = groups, u = month),
         distances = c(mean(apart), quantile(apart, c(0.5, 0.9)), max(apart)), benefit = benefit)
  })
  list(coef = coef(fit), se = sqrt(diag(vcov(fit))), p = summary(fit)$coefficients[, 5], aic = AIC(fit), bic = BIC(fit),
       zph = cox.zph(fit)$table["GLOBAL", "p"], s0 = s0, lp = lp[train], parts = parts)
}
answer$paper <- list(clinical = describe(chosen, d), radiomic = describe("rad_score", d),
                     combined = describe(c(chosen, "rad_score"), d))
answer$default <- list(combined = describe(c(chosen, "rad_score"), out_of_fold)[c("coef", "se", "s0")])

# The cut-off: largest sensitivity + specificity at the month, weighted for censoring.
lp <- answer$paper$combined$lp
t <- training$time_months; e <- training$mlm
weight <- ifelse(t <= month & e == 1, 1 / uncensored(t), 0)
levels <- sort(unique(lp), decreasing = TRUE)
both <- sapply(levels, function(v) c(sum(weight[lp >= v]) / sum(weight), sum(t > month & lp < v) / sum(t > month)))
best <- which.max(round(colSums(both), 12))
cut <- mean(levels[c(best, best + 1)])
high <- lp >= cut
rank_test <- survdiff(y[train] ~ high)
answer$cut_off <- list(lp = cut, sensitivity = both[1, best], specificity = both[2, best], n = as.numeric(rank_test$n), obs = as.numeric(rank_test$obs),
  chi_squared = rank_test$chisq, risk = 1 - summary(survfit(y[train] ~ high), times = month)$surv)

# The nomogram of rms.
dd <- datadist(training[, c(chosen, "rad_score")]); options(datadist = "dd")
model <- cph(formula_of(c(chosen, "rad_score")), training, x = TRUE, y = TRUE, surv = TRUE, eps = 1e-12)
survival <- Survival(model)
ticks <- c(.01, .05, .1, .2, .3, .4, .5, .6, .7, .8, .9, .95, .99)
n <- nomogram(model, fun = lapply(months, function(u) { force(u); function(lp) survival(u, lp) }),
              funlabel = paste("S", months), fun.at = ticks)
answer$nomogram <- list(points = lapply(unclass(n)[chosen], function(a) a$points), total = n$total.points$x,
  lp = list(x = n$lp$x, x.real = n$lp$x.real), scales = lapply(unclass(n)[paste("S", months)], function(a) a[c("x", "fat")]))
write_json(answer, arguments[2], digits = NA, auto_unbox = TRUE, force = TRUE)
