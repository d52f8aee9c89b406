//! From all features to the rad-score: univariable filter, correlation filter, mRMR, penalized model with cross-validation.

use super::CohortError;
use super::join::Cohort;
use super::spec::{LambdaChoice, Spec};
use crate::statistics::hypothesis::RankMethod;
use crate::statistics::penalized::{CrossValidation, Measure, Options, Outcome, cross_validate};
use crate::statistics::selection::{self, RankedColumns};
use crate::statistics::{StatisticsError, cox};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use rayon::prelude::*;

/// Training patients of a fit; a bootstrap repeats rows.
#[derive(Debug, Clone)]
pub struct Patients {
    /// Rows of the cohort, ascending, each once.
    pub rows: Vec<usize>,
    /// Place of each among all training patients.
    pub places: Vec<usize>,
    /// How often each counts.
    pub weights: Vec<f64>,
    /// Fold of each, from 0 without a gap.
    pub folds: Vec<usize>,
    /// Whether each had the event.
    pub event: Vec<bool>,
    /// Months, for the Cox family.
    pub time: Option<Vec<f64>>,
}

impl Patients {
    /// Rows with repeats, for models that take no weights; and for each the index into `rows`.
    pub fn expanded(&self) -> Vec<usize> {
        let index = self.weights.iter().enumerate();
        index.flat_map(|(i, w)| std::iter::repeat_n(i, *w as usize)).collect()
    }

    /// Outcome as 0 and 1.
    pub fn y(&self) -> Vec<f64> {
        self.event.iter().map(|e| f64::from(u8::from(*e))).collect()
    }
}

/// The stable features of all training patients by rank, so that a resample need not sort again.
#[derive(Debug, Clone)]
pub struct Ranked {
    /// Order of the values of each feature.
    pub columns: RankedColumns,
    /// Whether each training patient had the event.
    pub event: Vec<bool>,
}

impl Ranked {
    /// Ranks of some columns of `features` (all patients of the cohort) among the training patients.
    pub fn new(cohort: &Cohort, features: ArrayView2<f64>, stable: &[usize]) -> Result<Ranked, CohortError> {
        let rows = cohort.rows(0);
        let of_training = features.select(Axis(0), &rows).select(Axis(1), stable);
        let columns = RankedColumns::new(of_training.view()).map_err(CohortError::at("ranking the features"))?;
        Ok(Ranked { columns, event: rows.iter().map(|r| cohort.event[*r]).collect() })
    }
}

/// What became of the features.
#[derive(Debug, Clone)]
pub struct Reduction {
    /// p-value of each candidate feature, in the order of `candidates`.
    pub p: Vec<f64>,
    /// Features after the univariable filter, as columns of the cohort.
    pub univariable: Vec<usize>,
    /// After the correlation filter.
    pub uncorrelated: Vec<usize>,
    /// After mRMR: those that the penalized model chooses from.
    pub offered: Vec<usize>,
    /// Training mean and SD (n - 1) of each offered feature.
    pub center: Vec<f64>,
    /// SD.
    pub scale: Vec<f64>,
    /// Path and curve of the penalized model.
    pub cv: CrossValidation,
    /// Penalty taken.
    pub index: usize,
    /// (position among `offered`, coefficient per SD).
    pub selected: Vec<(usize, f64)>,
    /// Intercept of the rad-score; 0 for Cox.
    pub intercept: f64,
    /// Rad-score of every patient of the cohort by the full fit.
    pub score: Vec<f64>,
    /// Rad-score of each of [`Patients::rows`] by the fit without its fold.
    pub out_of_fold: Vec<f64>,
}

/// Reduces `candidates` (columns of `features`) and fits the rad-score. `features`: all patients of the cohort; `ranked`: the
/// candidates of all training patients. `None` if no feature passes the filters or none gets a coefficient.
pub fn reduce(
    features: ArrayView2<f64>,
    candidates: &[usize],
    ranked: &Ranked,
    patients: &Patients,
    spec: &Spec,
) -> Result<Option<Reduction>, CohortError> {
    let expanded = patients.expanded();
    let drawn: Vec<usize> = expanded.iter().map(|i| patients.places[*i]).collect();
    let event: Vec<bool> = expanded.iter().map(|i| patients.event[*i]).collect();
    let at = || CohortError::at("filtering the features");
    let table = |columns: &[usize]| {
        let rows: Vec<usize> = expanded.iter().map(|i| patients.rows[*i]).collect();
        let columns: Vec<usize> = columns.iter().map(|k| candidates[*k]).collect();
        features.select(Axis(0), &rows).select(Axis(1), &columns)
    };
    let p = match &patients.time {
        Some(time) => {
            let time: Vec<f64> = expanded.iter().map(|i| time[*i]).collect();
            let all: Vec<usize> = (0..candidates.len()).collect();
            univariable_cox(table(&all).view(), &time, &event)
        }
        None => ranked.columns.mann_whitney(&drawn, &ranked.event, RankMethod::Normal).map_err(at())?,
    };
    let ascending = selection::by_increasing_p(&p, spec.filters.univariable_p_max.unwrap_or(f64::INFINITY));
    let kept = match spec.filters.correlation_max {
        Some(limit) => ranked.columns.spearman_filter(&drawn, &ascending, limit).map_err(at())?,
        None => ascending.clone(),
    };
    let offered = match spec.filters.mrmr {
        Some(most) if kept.len() > most => {
            let chosen = selection::mrmr(table(&kept).view(), &event, most).map_err(at())?;
            chosen.into_iter().map(|k| kept[k]).collect()
        }
        _ => kept.clone(),
    };
    let columns = |mut of: Vec<usize>| {
        // In the order of the table, so that results can be read beside it.
        of.sort_unstable();
        of.into_iter().map(|k| candidates[k]).collect::<Vec<usize>>()
    };
    let (univariable, uncorrelated, offered) = (columns(ascending), columns(kept), columns(offered));
    if offered.is_empty() {
        return Ok(None);
    }
    rad_score(features, patients, &expanded, spec, Filtered { p, univariable, uncorrelated, offered })
}

/// What the filters left.
struct Filtered {
    p: Vec<f64>,
    univariable: Vec<usize>,
    uncorrelated: Vec<usize>,
    offered: Vec<usize>,
}

/// Wald p-values of single features; 1 where there is no finite estimate.
fn univariable_cox(x: ArrayView2<f64>, time: &[f64], event: &[bool]) -> Vec<f64> {
    let codes: Vec<u8> = event.iter().map(|e| u8::from(*e)).collect();
    let one = |j: usize| {
        let fit = cox::cox(x.select(Axis(1), &[j]).view(), time, &codes, None, cox::Ties::Efron);
        fit.map_or(1.0, |fit| fit.p()[0])
    };
    (0..x.ncols()).into_par_iter().map(one).collect()
}

fn rad_score(
    features: ArrayView2<f64>,
    patients: &Patients,
    expanded: &[usize],
    spec: &Spec,
    Filtered { p, univariable, uncorrelated, offered }: Filtered,
) -> Result<Option<Reduction>, CohortError> {
    let mut z: Array2<f64> = features.select(Axis(1), &offered);
    let (mut center, mut scale) = (Vec::new(), Vec::new());
    for mut column in z.columns_mut() {
        let of_training: Vec<f64> = expanded.iter().map(|i| column[patients.rows[*i]]).collect();
        let (mean, sd) = mean_and_sd(&of_training);
        center.push(mean);
        scale.push(sd);
        column.mapv_inplace(|v| (v - mean) / sd);
    }
    let x = z.select(Axis(0), &patients.rows);
    let options = Options {
        alpha: spec.penalized.alpha,
        weights: Some(&patients.weights),
        lambda_min_ratio: spec.penalized.lambda_min_ratio,
        ..Options::default()
    };
    let y = patients.y();
    let outcome = match &patients.time {
        Some(time) => Outcome::Survival { time, event: &patients.event },
        None => Outcome::Binary(&y),
    };
    let cv = match cross_validate(x.view(), &outcome, &options, &patients.folds, Measure::Deviance, true) {
        // A fold without an event, in a resample: there is nothing to cross-validate.
        Err(StatisticsError::Degenerate { what }) => {
            return Err(CohortError::TooLittle { what: format!("cross-validation of the rad-score: {what}") });
        }
        other => other.map_err(CohortError::at("cross-validation of the rad-score"))?,
    };
    let index = match spec.penalized.rule {
        LambdaChoice::Min => cv.index_min,
        LambdaChoice::OneSe => cv.index_1se,
    };
    let selected = cv.path.coefficients[index].clone();
    if selected.is_empty() {
        return Ok(None);
    }
    let intercept = cv.path.intercepts[index];
    let mut score = Array1::from_elem(z.nrows(), intercept);
    for (column, coefficient) in &selected {
        score.scaled_add(*coefficient, &z.column(*column));
    }
    Ok(Some(Reduction {
        p,
        univariable,
        uncorrelated,
        offered,
        center,
        scale,
        out_of_fold: cv.out_of_fold.column(index).to_vec(),
        index,
        selected,
        intercept,
        score: score.to_vec(),
        cv,
    }))
}

/// Mean and SD (n - 1); a constant has SD 1, so that it standardizes to 0.
pub fn mean_and_sd(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    let sd = (squares / (n - 1.0)).sqrt();
    (mean, if sd > 0.0 { sd } else { 1.0 })
}
