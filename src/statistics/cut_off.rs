//! Maximally selected rank statistics.
