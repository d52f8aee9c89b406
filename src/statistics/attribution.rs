//! Shapley values of linear models.
