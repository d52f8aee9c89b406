//! Which clinical values a model takes: each alone, then stepwise by AIC.

use super::CohortError;
use super::hazards::fit_cox;
use super::join::ClinicalTerm;
use super::models::{Design, Training, fit_logistic};
use super::spec::ClinicalModel;
use crate::statistics::distributions::chi_squared_upper_tail;
use crate::statistics::logistic::{self, Options};
use crate::statistics::stepwise::{Change, Direction};
use crate::statistics::{StatisticsError, cox};
use ndarray::{Array2, ArrayView2, Axis};
use serde::Serialize;

/// A clinical candidate alone.
#[derive(Debug, Clone, Serialize)]
pub struct Univariable {
    /// Name of the candidate.
    pub term: String,
    /// For people.
    pub label: String,
    /// Odds ratio, lower and upper limit (95 %, Wald) of each column; none in the Cox family.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub odds_ratios: Vec<[f64; 3]>,
    /// Hazard ratio with limits, in the Cox family.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hazard_ratios: Vec<[f64; 3]>,
    /// Wald p-value; of a term with several columns that of the likelihood ratio test.
    pub p: f64,
    /// Whether it passed the filter.
    pub passed: bool,
}

impl Univariable {
    /// Odds or hazard ratios, by the family.
    pub fn ratios(&self) -> &[[f64; 3]] {
        if self.hazard_ratios.is_empty() { &self.odds_ratios } else { &self.hazard_ratios }
    }
}

/// Result of the clinical selection.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ClinicalSelection {
    /// Each candidate alone.
    pub univariable: Vec<Univariable>,
    /// AIC at the start of the stepwise selection.
    pub aic_start: Option<f64>,
    /// Terms dropped by it, with the AIC afterwards.
    pub dropped: Vec<(String, f64)>,
    /// Terms added by it, with the AIC afterwards.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<(String, f64)>,
    /// Indices of the terms that stay.
    #[serde(skip)]
    pub terms: Vec<usize>,
    /// Their names.
    pub kept: Vec<String>,
}

/// Univariable filter, then stepwise selection by AIC. `training.rows`: a bootstrap repeats some.
pub fn select_clinical(
    terms: &[ClinicalTerm],
    design: &Design,
    training: Training,
    rule: &ClinicalModel,
) -> Result<ClinicalSelection, CohortError> {
    let mut selection = ClinicalSelection::default();
    let mut passed = Vec::new();
    let of_training = design.x.select(Axis(0), training.rows);
    for (index, term) in terms.iter().enumerate() {
        let x = of_training.select(Axis(1), &design.groups[index]);
        let label = term.candidate.label().to_owned();
        let (ratios, p) = match alone(x.view(), training) {
            // In a resample a rare class can vanish; the candidate then cannot speak.
            Err(StatisticsError::Singular { .. } | StatisticsError::Degenerate { .. }) => continue,
            other => other.map_err(CohortError::at(format!("{label} alone")))?,
        };
        let term_passed = p < rule.univariable_p_max;
        if term_passed {
            passed.push(index);
        }
        let hazards = training.hazards.is_some();
        let (odds_ratios, hazard_ratios) = if hazards { (Vec::new(), ratios) } else { (ratios, Vec::new()) };
        let term = term.candidate.name.clone();
        selection.univariable.push(Univariable { term, label, odds_ratios, hazard_ratios, p, passed: term_passed });
    }
    selection.terms = passed.clone();
    if let Some(direction) = rule.direction().filter(|_| passed.len() > 1) {
        let x = of_training.select(Axis(1), &design.columns_of(&passed));
        let mut next = 0;
        let groups: Vec<Vec<usize>> = passed
            .iter()
            .map(|t| {
                let first = next;
                next += design.groups[*t].len();
                (first..next).collect()
            })
            .collect();
        match stepwise(&x, training, &groups, direction) {
            Ok(steps) => {
                selection.aic_start = Some(steps.start);
                for (change, aic) in steps.changes {
                    let name = |g: usize| terms[passed[g]].candidate.name.clone();
                    match change {
                        Change::Drop(g) => selection.dropped.push((name(g), aic)),
                        Change::Add(g) => selection.added.push((name(g), aic)),
                    }
                }
                selection.terms = steps.groups.iter().map(|g| passed[*g]).collect();
            }
            // Separated candidates cannot be compared by likelihood: all that passed the filter stay.
            Err(StatisticsError::Separated { .. } | StatisticsError::Singular { .. }) => {}
            Err(error) => return Err(CohortError::at("stepwise selection of clinical values")(error)),
        }
    }
    selection.kept = selection.terms.iter().map(|t| terms[*t].candidate.name.clone()).collect();
    Ok(selection)
}

/// Ratios with limits of a candidate's columns, and its p-value: Wald's of one column, of several that of the likelihood ratio.
fn alone(x: ArrayView2<f64>, training: Training) -> Result<(Vec<[f64; 3]>, f64), StatisticsError> {
    let ratio = |(b, (low, high)): (&f64, (f64, f64))| [b.exp(), low.exp(), high.exp()];
    match training.hazards {
        Some(hazards) => {
            let event: Vec<u8> = training.y.iter().map(|y| u8::from(*y == 1.0)).collect();
            let (fit, _) = fit_cox(x, hazards.time, &event)?;
            let p = if x.ncols() == 1 { fit.p()[0] } else { fit.likelihood_ratio.p };
            Ok((fit.coefficients.iter().zip(fit.confidence_limits(0.95)).map(ratio).collect(), p))
        }
        None => {
            let (fit, _) = fit_logistic(x, training.y)?;
            let several = x.ncols() as f64;
            let lr = fit.null_deviance - fit.deviance;
            let p = if x.ncols() == 1 { fit.p[1] } else { chi_squared_upper_tail(lr, several) };
            Ok((fit.coefficients.iter().zip(fit.wald_intervals(0.95)).skip(1).map(ratio).collect(), p))
        }
    }
}

/// A stepwise selection, whatever the model.
struct Steps {
    start: f64,
    changes: Vec<(Change, f64)>,
    groups: Vec<usize>,
}

fn stepwise(
    x: &Array2<f64>,
    training: Training,
    groups: &[Vec<usize>],
    direction: Direction,
) -> Result<Steps, StatisticsError> {
    match training.hazards {
        Some(hazards) => {
            let event: Vec<u8> = training.y.iter().map(|y| u8::from(*y == 1.0)).collect();
            let found = cox::step(x.view(), hazards.time, &event, cox::Ties::Efron, groups, direction, 2.0)?;
            Ok(Steps { start: found.start_criterion, changes: found.steps, groups: found.groups })
        }
        None => {
            let found = logistic::step(x.view(), training.y, &Options::default(), groups, direction, 2.0)?;
            Ok(Steps { start: found.start_criterion, changes: found.steps, groups: found.groups })
        }
    }
}
