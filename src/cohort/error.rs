//! What the cohort room refuses, and what to do about it.

use crate::Explain;
use crate::risk::RiskError;
use crate::statistics::StatisticsError;

/// Why a cohort was not fitted or evaluated. Patient identifiers never appear; rows are named by their line.
#[derive(Debug, thiserror::Error)]
pub enum CohortError {
    /// The specification is no TOML or has an unknown key.
    #[error("line {line} of the specification: {what}")]
    SpecLine {
        /// From 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// The specification contradicts itself.
    #[error("the specification: {what}")]
    Spec {
        /// What is wrong.
        what: String,
    },
    /// A table is no CSV.
    #[error("{file}, line {line}: {what}")]
    Csv {
        /// Name of the table.
        file: String,
        /// From 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// A column that the specification names is not there.
    #[error("{file} has no column {column}{}", nearest.as_ref().map(|n| format!("; the nearest is {n}")).unwrap_or_default())]
    NoColumn {
        /// Name of the table.
        file: String,
        /// The column that was asked for.
        column: String,
        /// The column whose name is nearest.
        nearest: Option<String>,
    },
    /// A field that cannot be what its column is.
    #[error("{file}, line {line}, column {column}: {what}")]
    Field {
        /// Name of the table.
        file: String,
        /// From 1.
        line: usize,
        /// Name of the column.
        column: String,
        /// What is wrong with the field; the field itself stays out of messages.
        what: String,
    },
    /// A patient who is in a table twice.
    #[error("{file} has the same patient on lines {first} and {second}, so it is not clear which row holds")]
    Duplicate {
        /// Name of the table.
        file: String,
        /// Line of the first row.
        first: usize,
        /// Line of the second row.
        second: usize,
    },
    /// A table needed by the specification was not given.
    #[error("the specification names the table {file}, which was not given")]
    NoTable {
        /// Name of the table.
        file: String,
    },
    /// Too little data for what was asked.
    #[error("{what}")]
    TooLittle {
        /// What is missing.
        what: String,
    },
    /// A statistic refused its input.
    #[error("{step}")]
    Statistics {
        /// The step of the analysis.
        step: String,
        /// The refusal.
        source: StatisticsError,
    },
    /// The package could not be written, read or applied.
    #[error("{step}")]
    Package {
        /// The step.
        step: String,
        /// The refusal.
        source: RiskError,
    },
}

impl CohortError {
    /// For `map_err`: names the step that a statistic belongs to.
    pub(super) fn at(step: impl Into<String>) -> impl FnOnce(StatisticsError) -> CohortError {
        let step = step.into();
        move |source| CohortError::Statistics { step, source }
    }

    /// For `map_err`: names the step that a package error belongs to.
    pub(super) fn package(step: impl Into<String>) -> impl FnOnce(RiskError) -> CohortError {
        let step = step.into();
        move |source| CohortError::Package { step, source }
    }
}

impl Explain for CohortError {
    fn code(&self) -> &'static str {
        match self {
            Self::SpecLine { .. } => "cohort.spec-line",
            Self::Spec { .. } => "cohort.spec",
            Self::Csv { .. } => "cohort.csv",
            Self::NoColumn { .. } => "cohort.no-column",
            Self::Field { .. } => "cohort.field",
            Self::Duplicate { .. } => "cohort.duplicate-patient",
            Self::NoTable { .. } => "cohort.no-table",
            Self::TooLittle { .. } => "cohort.too-little",
            Self::Statistics { source, .. } => source.code(),
            Self::Package { source, .. } => source.code(),
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::SpecLine { .. } | Self::Spec { .. } => {
                "correct the specification; `metwatch cohort fit --example` prints one with every key explained"
            }
            Self::Csv { .. } => {
                "write the table as CSV with one header line and the same number of fields in each line"
            }
            Self::NoColumn { .. } => "name the column in the specification as it is in the table's header",
            Self::Field { .. } => {
                "correct the field, leave it empty if the value is missing, or state the range it may have"
            }
            Self::Duplicate { .. } => "keep one row for each patient",
            Self::NoTable { .. } => "put the table beside the specification, or correct [files]",
            Self::TooLittle { .. } => "look at the flow counts: loosen a filter or correct the split",
            Self::Statistics { source, .. } => source.advice(),
            Self::Package { source, .. } => source.advice(),
        }
    }
}

/// The name nearest to `wanted` by edits, if it is near at all (at most a third of its letters differ).
pub(super) fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let scored = names.into_iter().map(|name| (edits(&wanted.to_lowercase(), &name.to_lowercase()), name));
    let (distance, name) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= (wanted.chars().count() / 3).max(2)).then(|| name.to_owned())
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_only_if_it_is_near() {
        assert_eq!(edits("alpha", "alhpa"), 2);
        assert_eq!(nearest("alhpa", ["lambda", "alpha"]), Some("alpha".into()));
        assert_eq!(nearest("centre", ["center", "split"]), Some("center".into()));
        assert_eq!(nearest("kras", ["time_months"]), None);
    }
}
