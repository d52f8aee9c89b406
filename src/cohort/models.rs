//! The clinical, the radiomic and the combined model: selection of clinical values, logistic and Cox fits.

use super::join::{ClinicalTerm, Cohort};
use super::spec::ClinicalModel;
use super::{CohortError, nomogram_axes::quantile};
use crate::risk::Baseline;
use crate::statistics::distributions::chi_squared_upper_tail;
use crate::statistics::logistic::{self, Change, Direction, Logistic, Options};
use crate::statistics::{StatisticsError, cox};
use ndarray::{Array2, ArrayView2, Axis};
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

/// A clinical candidate alone.
#[derive(Debug, Clone, Serialize)]
pub struct Univariable {
    /// Name of the candidate.
    pub term: String,
    /// For people.
    pub label: String,
    /// Odds ratio, lower and upper limit (95 %, Wald) of each column.
    pub odds_ratios: Vec<[f64; 3]>,
    /// Wald p-value; of a term with several columns that of the likelihood ratio test.
    pub p: f64,
    /// Whether it passed the filter.
    pub passed: bool,
}

/// Result of the clinical selection.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ClinicalSelection {
    /// Each candidate alone.
    pub univariable: Vec<Univariable>,
    /// AIC at the start of the backward selection.
    pub aic_start: Option<f64>,
    /// Terms dropped by it, with the AIC afterwards.
    pub dropped: Vec<(String, f64)>,
    /// Indices of the terms that stay.
    #[serde(skip)]
    pub terms: Vec<usize>,
    /// Their names.
    pub kept: Vec<String>,
}

/// Maximum likelihood, or Firth's fit where the outcome is separated (then `true`).
pub fn fit_logistic(x: ArrayView2<f64>, y: &[f64]) -> Result<(Logistic, bool), StatisticsError> {
    match logistic::fit(x, y, &Options::default()) {
        Err(StatisticsError::Separated { .. }) => Ok((logistic::firth(x, y, &Options::default())?, true)),
        other => Ok((other?, false)),
    }
}

/// Univariable filter, then backward selection by AIC. `rows`: training rows (a bootstrap repeats some).
pub fn select_clinical(
    terms: &[ClinicalTerm],
    design: &Design,
    rows: &[usize],
    y: &[f64],
    rule: &ClinicalModel,
) -> Result<ClinicalSelection, CohortError> {
    let mut selection = ClinicalSelection::default();
    let mut passed = Vec::new();
    for (index, term) in terms.iter().enumerate() {
        let x = design.x.select(Axis(0), rows).select(Axis(1), &design.groups[index]);
        let label = term.candidate.label().to_owned();
        let (model, _) = match fit_logistic(x.view(), y) {
            // In a resample a rare class can vanish; the candidate then cannot speak.
            Err(StatisticsError::Singular { .. } | StatisticsError::Degenerate { .. }) => continue,
            other => other.map_err(CohortError::at(format!("{label} alone")))?,
        };
        let several = design.groups[index].len();
        let p = if several == 1 {
            model.p[1]
        } else {
            chi_squared_upper_tail(model.null_deviance - model.deviance, several as f64)
        };
        let ratio = |k: usize, (low, high): (f64, f64)| [model.coefficients[k].exp(), low.exp(), high.exp()];
        let odds_ratios =
            model.wald_intervals(0.95).into_iter().enumerate().skip(1).map(|(k, i)| ratio(k, i)).collect();
        let term_passed = p < rule.univariable_p_max;
        if term_passed {
            passed.push(index);
        }
        selection.univariable.push(Univariable {
            term: term.candidate.name.clone(),
            label,
            odds_ratios,
            p,
            passed: term_passed,
        });
    }
    selection.terms = passed.clone();
    if rule.backward_aic && passed.len() > 1 {
        let columns = design.columns_of(&passed);
        let x = design.x.select(Axis(0), rows).select(Axis(1), &columns);
        let mut next = 0;
        let groups: Vec<Vec<usize>> = passed
            .iter()
            .map(|t| {
                let first = next;
                next += design.groups[*t].len();
                (first..next).collect()
            })
            .collect();
        match logistic::step(x.view(), y, &Options::default(), &groups, Direction::Backward, 2.0) {
            Ok(steps) => {
                selection.aic_start = Some(steps.start_criterion);
                let name = |g: usize| terms[passed[g]].candidate.name.clone();
                selection.dropped = steps
                    .steps
                    .iter()
                    .map(|(change, aic)| match change {
                        Change::Drop(g) | Change::Add(g) => (name(*g), *aic),
                    })
                    .collect();
                selection.terms = steps.groups.iter().map(|g| passed[*g]).collect();
            }
            // Separated candidates cannot be compared by likelihood: all that passed the filter stay.
            Err(StatisticsError::Separated { .. } | StatisticsError::Singular { .. }) => {}
            Err(error) => return Err(CohortError::at("backward selection of clinical values")(error)),
        }
    }
    selection.kept = selection.terms.iter().map(|t| terms[*t].candidate.name.clone()).collect();
    Ok(selection)
}

/// A fitted model with what is told about it.
#[derive(Debug, Clone, Serialize)]
pub struct Model {
    /// `clinical`, `radiomic` or `combined`.
    pub name: String,
    /// Columns; the intercept is `(Intercept)`.
    pub names: Vec<String>,
    /// Log odds.
    pub coefficients: Vec<f64>,
    /// Standard errors.
    pub standard_errors: Vec<f64>,
    /// Wald z.
    pub z: Vec<f64>,
    /// Wald p-values.
    pub p: Vec<f64>,
    /// Odds ratios with 95 % Wald limits.
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
    /// Proportional hazards of the same columns.
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
}

/// Proportional hazards.
#[derive(Debug, Clone, Serialize)]
pub struct CoxModel {
    /// Columns.
    pub names: Vec<String>,
    /// Log hazard ratios.
    pub coefficients: Vec<f64>,
    /// Standard errors.
    pub standard_errors: Vec<f64>,
    /// Wald p-values.
    pub p: Vec<f64>,
    /// Hazard ratios with 95 % Wald limits.
    pub hazard_ratios: Vec<[f64; 3]>,
    /// Predictor values at which the baseline holds.
    pub centers: Vec<f64>,
    /// (months, survival at the centers).
    pub baseline_survival: Vec<(u32, f64)>,
    /// p-value of the global test of proportional hazards.
    pub proportionality_p: Option<f64>,
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
        names,
    })
}

/// Limits of the odds ratios by profile likelihood; `None` under separation or where the profile is not found.
pub fn profile_limits(model: &Model, design: &Design, training: Training) -> Option<Vec<[f64; 2]>> {
    if model.firth {
        return None;
    }
    let x = matrix(design, &model.terms, training.rows, training.rad_score);
    let fit = logistic::fit(x.view(), training.y, &Options::default()).ok()?;
    let limits = logistic::profile_intervals(x.view(), training.y, &Options::default(), &fit, 0.95).ok()?;
    let finite = limits.iter().all(|(a, b)| a.is_finite() && b.is_finite());
    finite.then(|| limits.into_iter().map(|(a, b)| [a.exp(), b.exp()]).collect())
}

/// The same columns as a proportional hazards model (Efron's ties), with its baseline at whole months.
pub fn fit_cox(
    model: &Model,
    design: &Design,
    cohort: &Cohort,
    training: Training,
    months: &[u32],
) -> Result<Option<CoxModel>, CohortError> {
    let Some(time) = &cohort.time else { return Ok(None) };
    let x = matrix(design, &model.terms, training.rows, training.rad_score);
    let time: Vec<f64> = training.rows.iter().map(|r| time[*r]).collect();
    let event: Vec<u8> = training.rows.iter().map(|r| u8::from(cohort.event[*r])).collect();
    let fit = match cox::cox(x.view(), &time, &event, None, cox::Ties::Efron) {
        // All events on one side of a predictor: there is no finite hazard ratio to tell.
        Err(
            StatisticsError::NotConverged { .. } | StatisticsError::Separated { .. } | StatisticsError::Singular { .. },
        ) => return Ok(None),
        other => other.map_err(CohortError::at(format!("proportional hazards of the {} model", model.name)))?,
    };
    let limits = fit.coefficients.iter().zip(fit.confidence_limits(0.95));
    let baseline_survival =
        months.iter().filter_map(|m| Some((*m, fit.predict(fit.means.view(), 0, f64::from(*m)).ok()?.survival)));
    let columns: Vec<Vec<usize>> = (0..x.ncols()).map(|c| vec![c]).collect();
    let scale = cox::TimeScale::KaplanMeier;
    let proportionality = cox::proportionality(&fit, x.view(), &time, &event, None, &columns, scale);
    Ok(Some(CoxModel {
        names: model.names[1..].to_vec(),
        hazard_ratios: limits.map(|(b, (low, high))| [b.exp(), low.exp(), high.exp()]).collect(),
        standard_errors: fit.standard_errors().to_vec(),
        p: fit.p().to_vec(),
        centers: fit.means.to_vec(),
        baseline_survival: baseline_survival.collect(),
        proportionality_p: proportionality.ok().map(|t| t.global.p),
        coefficients: fit.coefficients.to_vec(),
    }))
}

/// Event-free survival over a linear predictor: a Cox model with it as the only column (Breslow's ties and baseline). `None` without
/// times, or where a higher predictor does not mean a higher hazard.
pub fn survival_over(lp: &[f64], cohort: &Cohort, rows: &[usize], months: &[u32]) -> Option<Baseline> {
    let time: Vec<f64> = cohort.time.as_ref().map(|t| rows.iter().map(|r| t[*r]).collect())?;
    let event: Vec<u8> = rows.iter().map(|r| u8::from(cohort.event[*r])).collect();
    let x = Array2::from_shape_fn((lp.len(), 1), |(i, _)| lp[i]);
    let cox = cox::cox(x.view(), &time, &event, None, cox::Ties::Breslow).ok()?;
    let at = |m: &u32| Some((*m, cox.predict(cox.means.view(), 0, f64::from(*m)).ok()?.survival));
    let curve: Vec<(u32, f64)> = months.iter().filter_map(at).filter(|(_, s)| *s > 0.0).collect();
    let slope = cox.coefficients[0];
    (slope > 0.0 && !curve.is_empty()).then(|| Baseline {
        months: curve.iter().map(|c| c.0).collect(),
        survival: curve.iter().map(|c| c.1).collect(),
        slope,
        center: cox.means[0],
    })
}

/// 5th and 95th percentile of some values.
pub fn training_range(values: &[f64]) -> [f64; 2] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    if sorted.is_empty() { [0.0, 0.0] } else { [quantile(&sorted, 0.05), quantile(&sorted, 0.95)] }
}
