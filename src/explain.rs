//! What every error of metwatch can tell: what happened (`Display`), what to do, and a stable code.

/// Printed, drawn or sent wherever a person or a machine meets a risk.
pub const DISCLAIMER: &str = "demonstration, not for clinical use";

/// An error that a person can act on. `Display` says what happened and what it means; nothing here carries patient data.
pub trait Explain: std::error::Error {
    /// Stable code for stations, scripts and "not analysed" events, such as `series.missing-slice`.
    fn code(&self) -> &'static str;
    /// What to do about it, one sentence in the imperative.
    fn advice(&self) -> &'static str;
}
