//! Tests between groups for table one, and corrections for many tests.
