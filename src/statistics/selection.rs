//! Feature filters: rank tests, correlation, mRMR.
