//! What the statistics refuse, and what to do about it.

use crate::Explain;

/// Why a statistic was not computed. Never a NaN instead.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StatisticsError {
    /// Arguments of unequal length.
    #[error("{what}: {found} values where {expected} are needed")]
    Length {
        /// What was given.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many rows there are.
        expected: usize,
    },
    /// A value that is no finite number.
    #[error("{what} holds a value that is no finite number, first at row {row}")]
    NotFinite {
        /// What was given.
        what: &'static str,
        /// Counted from 0.
        row: usize,
    },
    /// Only one class, no event, no row.
    #[error("{what}")]
    Degenerate {
        /// Says what is missing, in words.
        what: String,
    },
    /// The data cannot decide between the coefficients.
    #[error("{what}")]
    Singular {
        /// Says which columns, in words.
        what: String,
    },
    /// A combination of columns tells events from non-events: the estimate is infinite.
    #[error(
        "{} separation of events from non-events by columns {columns:?} (from 0): their coefficients have no finite estimate",
        if *complete { "complete" } else { "quasi-complete" }
    )]
    Separated {
        /// Every row is told apart, not only some.
        complete: bool,
        /// The columns of the combination.
        columns: Vec<usize>,
    },
    /// The iterations met their limit.
    #[error("{what} did not converge in {iterations} iterations")]
    NotConverged {
        /// What was fitted.
        what: &'static str,
        /// The limit.
        iterations: usize,
    },
}

impl Explain for StatisticsError {
    fn code(&self) -> &'static str {
        match self {
            StatisticsError::Length { .. } => "statistics.length",
            StatisticsError::NotFinite { .. } => "statistics.not-finite",
            StatisticsError::Degenerate { .. } => "statistics.degenerate",
            StatisticsError::Singular { .. } => "statistics.singular",
            StatisticsError::Separated { .. } => "statistics.separated",
            StatisticsError::NotConverged { .. } => "statistics.not-converged",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            StatisticsError::Length { .. } => "give one value for each row",
            StatisticsError::NotFinite { .. } => "leave such rows out, or impute them, before the fit",
            StatisticsError::Degenerate { .. } => "look at the outcome column and at the filters before it",
            StatisticsError::Singular { .. } => "leave one of the columns out",
            StatisticsError::Separated { .. } => "use Firth's fit, or fewer predictors",
            StatisticsError::NotConverged { .. } => "look for separation, or use fewer predictors",
        }
    }
}
