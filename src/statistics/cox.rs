//! Proportional hazards: fit, baseline hazard, prediction, tests, residual tests.
