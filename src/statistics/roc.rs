//! ROC curves, AUC with DeLong's variance and tests, cut-offs.
