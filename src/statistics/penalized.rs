//! LASSO and elastic net paths with cross-validation, binomial and Cox, on glmnet's grid.
