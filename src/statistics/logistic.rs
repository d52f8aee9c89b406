//! Logistic regression: maximum likelihood, Firth, intervals, backward selection.
