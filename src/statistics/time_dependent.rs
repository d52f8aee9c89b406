//! Accuracy at a point in time: dynamic AUC, Brier score, with inverse probability of censoring weights.
