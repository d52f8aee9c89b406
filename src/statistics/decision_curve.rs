//! Decision curves: net benefit over thresholds.
