//! Kaplan-Meier curves, quantiles, log-rank tests.
