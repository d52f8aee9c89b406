//! What a specification may not say, and how a fault in it is told.

use super::CohortError;
use super::error::nearest;
use super::spec::{Candidate, Family, Kind, Spec};
use std::collections::BTreeSet;

/// Most replicates of a bootstrap, so that a slip of a key does not cost a day.
const BOOTSTRAP_MAX: usize = 100_000;

impl Spec {
    /// Refuses what contradicts itself.
    pub(super) fn check(&self) -> Result<(), CohortError> {
        let names: BTreeSet<&str> = self.candidates.iter().map(|c| c.name.as_str()).collect();
        require(names.len() == self.candidates.len(), || "two candidates have the same name".into())?;
        self.candidates.iter().try_for_each(check_candidate)?;
        self.check_split()?;
        let filters = &self.filters;
        require(filters.icc_min.is_none() || self.files.stability.is_some(), || {
            "filters.icc_min needs files.stability".into()
        })?;
        for (name, value) in [
            ("filters.icc_min", filters.icc_min),
            ("filters.univariable_p_max", filters.univariable_p_max),
            ("filters.correlation_max", filters.correlation_max),
            ("clinical_model.univariable_p_max", Some(self.clinical_model.univariable_p_max)),
            ("validation.local_incidence", self.validation.local_incidence),
            ("penalized.lambda_min_ratio", self.penalized.lambda_min_ratio),
        ] {
            require(value.is_none_or(|v| v > 0.0 && v <= 1.0), || format!("{name} has to lie between 0 and 1"))?;
        }
        require(self.validation.local_incidence.is_none_or(|v| v < 1.0), || {
            "validation.local_incidence is 1: then there is nothing to predict".into()
        })?;
        let penalized = &self.penalized;
        require(penalized.alpha > 0.0 && penalized.alpha <= 1.0, || {
            "penalized.alpha has to lie above 0 and at most at 1".into()
        })?;
        require(penalized.fold_column.is_some() || (3..=100).contains(&penalized.folds), || {
            "penalized.folds has to be 3 to 100".into()
        })?;
        require(penalized.family == Family::Binomial || self.outcome.time.is_some(), || {
            "penalized.family is cox, but outcome.time is missing".into()
        })?;
        require(!self.harmonization.combat || self.columns.center.is_some(), || {
            "harmonization.combat needs columns.center".into()
        })?;
        require(self.outcome.competing_code.is_none_or(|c| c > 1), || {
            "outcome.competing_code is 0 or 1, which mean no event and event".into()
        })?;
        let months = &self.validation.horizon_months;
        require(!months.is_empty() && months.windows(2).all(|w| w[0] < w[1]) && months[0] > 0, || {
            "validation.horizon_months has to ascend from at least 1".into()
        })?;
        require(self.validation.risk_month.is_none_or(|m| months.contains(&m)), || {
            "validation.risk_month is none of validation.horizon_months".into()
        })?;
        require(self.validation.risk_month.is_none() || penalized.family == Family::Cox, || {
            "validation.risk_month is for penalized.family = \"cox\"; a logistic risk has no month".into()
        })?;
        require(self.validation.bootstrap <= BOOTSTRAP_MAX, || {
            format!("validation.bootstrap is above {BOOTSTRAP_MAX}")
        })?;
        require(!self.files.features.is_empty() || !self.candidates.is_empty(), || {
            "there are neither features nor candidates, so there is nothing to fit".into()
        })
    }

    fn check_split(&self) -> Result<(), CohortError> {
        let split = &self.split;
        match (&split.column, &split.date, &split.before) {
            (Some(_), None, None) => {
                require(!split.training.is_empty(), || "split.training names no value of the column".into())
            }
            (None, Some(_), Some(before)) => {
                require(is_date(before), || "split.before is no date of the form YYYY-MM-DD".into())
            }
            _ => require(false, || "[split] needs either column and training, or date and before".into()),
        }
    }
}

fn check_candidate(candidate: &Candidate) -> Result<(), CohortError> {
    let Candidate { name, kind, .. } = candidate;
    require(!name.trim().is_empty(), || "a candidate has an empty name".into())?;
    let needs = |key: &str, there: bool, wanted: bool| {
        require(there == wanted, || {
            let verb = if wanted { "needs" } else { "has no use for" };
            format!("candidate {name}: its kind {verb} the key {key}")
        })
    };
    needs("at", candidate.at.is_some(), *kind == Kind::Cut)?;
    needs("level", candidate.level.is_some(), *kind == Kind::Indicator)?;
    needs("levels", !candidate.levels.is_empty(), *kind == Kind::Factor)?;
    needs("knots", candidate.knots.is_some(), *kind == Kind::Spline)?;
    require(candidate.knots.is_none_or(|k| (3..=5).contains(&k)), || {
        format!("candidate {name}: knots has to be 3, 4 or 5")
    })?;
    require(candidate.levels.len() != 1, || format!("candidate {name}: one level alone is a constant"))?;
    require(candidate.range.is_none_or(|[a, b]| a < b), || format!("candidate {name}: range does not ascend"))?;
    let positive = *kind != Kind::Log || candidate.range.is_none_or(|[a, _]| a > 0.0);
    require(positive, || format!("candidate {name}: a logarithm needs a range above 0"))
}

fn require(right: bool, what: impl FnOnce() -> String) -> Result<(), CohortError> {
    if right { Ok(()) } else { Err(CohortError::Spec { what: what() }) }
}

/// Whether a text is a date of the form YYYY-MM-DD, which sorts as it reads.
pub fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let number =
        |i: usize, digits: usize| parts.get(i).filter(|p| p.len() == digits).and_then(|p| p.parse::<u32>().ok());
    parts.len() == 3
        && number(0, 4).is_some()
        && number(1, 2).is_some_and(|m| (1..=12).contains(&m))
        && number(2, 2).is_some_and(|d| (1..=31).contains(&d))
}

/// Line and message of a TOML error, with the nearest key where a key is unknown.
pub fn located(error: &toml::de::Error, text: &str) -> CohortError {
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text.get(..start).unwrap_or("").matches('\n').count() + 1;
    let message = error.message();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let what = match quoted.split_first() {
        Some((unknown, known)) if message.starts_with("unknown field") => {
            let near = nearest(unknown, known.iter().copied());
            let near = near.map_or_else(|| known.join(", "), |n| format!("did you mean {n}?"));
            format!(
                "the key {unknown} is not known; {}",
                if near.ends_with('?') { near } else { format!("known are {near}") }
            )
        }
        _ => message.to_owned(),
    };
    CohortError::SpecLine { line, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_dates() {
        assert!(is_date("2019-07-31"));
        assert!(!is_date("31.07.2019") && !is_date("2019-13-01") && !is_date("2019-7-1"));
    }
}
