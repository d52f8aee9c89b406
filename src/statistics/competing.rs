//! Competing events: cumulative incidence, Gray's test, Fine-Gray.
