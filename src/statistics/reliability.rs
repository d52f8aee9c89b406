//! Reliability of repeated measurements: intraclass correlation, Bland-Altman.
