//! The clinical, the radiomic and the combined model: logistic or, by the family of the specification, proportional hazards.
//! Selection of clinical values is in [`super::clinical`], the Cox fits are in [`super::hazards`].

use super::hazards::CoxModel;
use super::join::ClinicalTerm;
use super::scale::Scale;
use super::{CohortError, nomogram_axes::quantile};
use crate::statistics::StatisticsError;
use crate::statistics::logistic::{self, Logistic, Options};
use ndarray::{Array2, ArrayView2};
use serde::Serialize;

/// Name of the rad-score among the columns of a model.
pub const RAD_SCORE: &str = "rad_score";

/// The clinical terms of all patients as columns.
#[derive(Debug, Clone)]
pub struct Design {
    /// Shape (patients, columns).
    pub x: Array2<f64>,
    /// Name of each column.
    pub names: Vec<String>,
    /// Columns of each term.
    pub groups: Vec<Vec<usize>>,
}

impl Design {
    /// Encodes the terms.
    pub fn new(terms: &[ClinicalTerm], patients: usize) -> Design {
        let mut design = Design { x: Array2::zeros((patients, 0)), names: Vec::new(), groups: Vec::new() };
        let widths: Vec<usize> = terms.iter().map(|t| t.columns().len()).collect();
        design.x = Array2::zeros((patients, widths.iter().sum()));
        for term in terms {
            let first = design.names.len();
            design.names.extend(term.columns());
            design.groups.push((first..design.names.len()).collect());
            for (row, raw) in term.raw.iter().enumerate() {
                for (column, value) in term.encode(*raw).into_iter().enumerate() {
                    design.x[[row, first + column]] = value;
                }
            }
        }
        design
    }

    /// Columns of some terms.
    pub fn columns_of(&self, terms: &[usize]) -> Vec<usize> {
        terms.iter().flat_map(|t| self.groups[*t].iter().copied()).collect()
    }
}

/// Maximum likelihood, or Firth's fit where the outcome is separated (then `true`).
pub fn fit_logistic(x: ArrayView2<f64>, y: &[f64]) -> Result<(Logistic, bool), StatisticsError> {
    match logistic::fit(x, y, &Options::default()) {
        Err(StatisticsError::Separated { .. }) => Ok((logistic::firth(x, y, &Options::default())?, true)),
        other => Ok((other?, false)),
    }
}

/// A fitted model with what is told about it.
#[derive(Debug, Clone, Serialize)]
pub struct Model {
    /// `clinical`, `radiomic` or `combined`.
    pub name: String,
    /// Columns; the intercept of a logistic model is `(Intercept)`, a Cox model has none.
    pub names: Vec<String>,
    /// Log odds; log hazard ratios of a Cox model.
    pub coefficients: Vec<f64>,
    /// Standard errors.
    pub standard_errors: Vec<f64>,
    /// Wald z.
    pub z: Vec<f64>,
    /// Wald p-values.
    pub p: Vec<f64>,
    /// Odds ratios with 95 % Wald limits; none of a Cox model, whose hazard ratios are in `cox`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub odds_ratios: Vec<[f64; 3]>,
    /// Odds ratio limits by profile likelihood, where they could be found.
    pub profile: Option<Vec<[f64; 2]>>,
    /// Variance inflation of each column but the intercept.
    pub variance_inflation: Option<Vec<f64>>,
    /// Akaike's criterion.
    pub aic: f64,
    /// Bayes' criterion.
    pub bic: f64,
    /// Whether the outcome was separated and Firth's penalty used.
    pub firth: bool,
    /// Proportional hazards: the model itself, or the twin of a logistic model with the same columns.
    pub cox: Option<CoxModel>,
    /// Covariance of the coefficients.
    pub covariance: Vec<Vec<f64>>,
    /// Terms, as indices into the cohort's.
    #[serde(skip)]
    pub terms: Vec<usize>,
    /// Whether the rad-score is in it.
    #[serde(skip)]
    pub with_rad_score: bool,
    /// Linear predictor of every patient of the cohort.
    #[serde(skip)]
    pub lp: Vec<f64>,
    /// What the linear predictor means.
    #[serde(skip)]
    pub scale: Scale,
    /// Linear predictor where all columns are 0: the intercept, or what centers a Cox model.
    #[serde(skip)]
    pub constant: f64,
}

impl Model {
    /// First of the coefficients that belong to a column.
    pub fn first_slope(&self) -> usize {
        usize::from(self.scale == Scale::Odds)
    }

    /// Coefficients of the columns, the rad-score last.
    pub fn slopes(&self) -> &[f64] {
        &self.coefficients[self.first_slope()..]
    }

    /// Names of the columns.
    pub fn columns(&self) -> &[String] {
        &self.names[self.first_slope()..]
    }

    /// Odds or hazard ratios of the columns with 95 % limits.
    pub fn ratios(&self) -> &[[f64; 3]] {
        match &self.cox {
            Some(cox) if self.scale != Scale::Odds => &cox.hazard_ratios,
            _ => self.odds_ratios.get(1..).unwrap_or_default(),
        }
    }

    /// The likelihood ratio statistic against a model without columns, where the deviance (or -2 log partial likelihood) of that
    /// one is `null`.
    pub fn likelihood_ratio(&self, null: f64) -> f64 {
        null - (self.aic - 2.0 * self.coefficients.len() as f64)
    }
}

/// What a model is fitted on.
#[derive(Debug, Clone, Copy)]
pub struct Training<'a> {
    /// Training rows; a bootstrap repeats some.
    pub rows: &'a [usize],
    /// Their outcome.
    pub y: &'a [f64],
    /// The rad-score on which the coefficients are fitted, one for each of `rows`.
    pub rad_score: Option<&'a [f64]>,
    /// Follow-up of the Cox family.
    pub hazards: Option<Hazards<'a>>,
}

/// What a Cox model is fitted on besides the events.
#[derive(Debug, Clone, Copy)]
pub struct Hazards<'a> {
    /// Months to event or end of follow-up, one for each row.
    pub time: &'a [f64],
    /// Risks are told up to this month.
    pub month: u32,
}

/// The model matrix: the columns of `terms`, then the rad-score.
pub fn matrix(design: &Design, terms: &[usize], rows: &[usize], rad_score: Option<&[f64]>) -> Array2<f64> {
    let columns = design.columns_of(terms);
    let width = columns.len() + usize::from(rad_score.is_some());
    Array2::from_shape_fn((rows.len(), width), |(i, j)| match (columns.get(j), rad_score) {
        (Some(column), _) => design.x[[rows[i], *column]],
        (None, Some(score)) => score[i],
        (None, None) => 0.0,
    })
}

/// Fits a model and applies it to every patient. `rad_score`: of every patient, by the full fit.
pub fn fit_model(
    name: &str,
    design: &Design,
    terms: &[usize],
    training: Training,
    rad_score: Option<&[f64]>,
) -> Result<Model, CohortError> {
    if let Some(hazards) = training.hazards {
        return super::hazards::fit_hazards(name, design, terms, (training, hazards), rad_score);
    }
    let x = matrix(design, terms, training.rows, training.rad_score);
    let (fit, firth) = fit_logistic(x.view(), training.y).map_err(CohortError::at(format!("the {name} model")))?;
    let all: Vec<usize> = (0..design.x.nrows()).collect();
    let lp = fit.predict(matrix(design, terms, &all, rad_score).view());
    let lp = lp.map_err(CohortError::at(format!("predictions of the {name} model")))?;
    let mut names = vec!["(Intercept)".to_owned()];
    names.extend(design.columns_of(terms).into_iter().map(|c| design.names[c].clone()));
    names.extend(training.rad_score.map(|_| RAD_SCORE.to_owned()));
    let ratios = fit.coefficients.iter().zip(fit.wald_intervals(0.95));
    Ok(Model {
        name: name.to_owned(),
        odds_ratios: ratios.map(|(b, (low, high))| [b.exp(), low.exp(), high.exp()]).collect(),
        profile: None,
        variance_inflation: (names.len() > 2).then(|| fit.variance_inflation().ok()).flatten(),
        coefficients: fit.coefficients.to_vec(),
        standard_errors: fit.standard_errors.to_vec(),
        z: fit.z.to_vec(),
        p: fit.p.to_vec(),
        aic: fit.aic,
        bic: fit.bic,
        firth,
        cox: None,
        covariance: fit.covariance.rows().into_iter().map(|r| r.to_vec()).collect(),
        terms: terms.to_vec(),
        with_rad_score: training.rad_score.is_some(),
        lp: lp.to_vec(),
        scale: Scale::Odds,
        constant: fit.coefficients[0],
        names,
    })
}

/// Limits of the odds ratios by profile likelihood; `None` under separation, for a Cox model or where the profile is not found.
pub fn profile_limits(model: &Model, design: &Design, training: Training) -> Option<Vec<[f64; 2]>> {
    if model.firth || training.hazards.is_some() {
        return None;
    }
    let x = matrix(design, &model.terms, training.rows, training.rad_score);
    let fit = logistic::fit(x.view(), training.y, &Options::default()).ok()?;
    let limits = logistic::profile_intervals(x.view(), training.y, &Options::default(), &fit, 0.95).ok()?;
    let finite = limits.iter().all(|(a, b)| a.is_finite() && b.is_finite());
    finite.then(|| limits.into_iter().map(|(a, b)| [a.exp(), b.exp()]).collect())
}

/// 5th and 95th percentile of some values.
pub fn training_range(values: &[f64]) -> [f64; 2] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    if sorted.is_empty() { [0.0, 0.0] } else { [quantile(&sorted, 0.05), quantile(&sorted, 0.95)] }
}
