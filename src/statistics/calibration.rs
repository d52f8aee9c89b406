//! Calibration of probabilities: intercept, slope, Brier, ICI, Hosmer-Lemeshow, curve, optimism.
