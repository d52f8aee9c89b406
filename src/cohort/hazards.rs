//! Cox models of the cohort: the models of the Cox family, the twins of logistic ones, and the survival over a linear predictor.

use super::CohortError;
use super::join::Cohort;
use super::models::{Design, Hazards, Model, RAD_SCORE, Training, matrix};
use super::scale::Scale;
use crate::risk::Baseline;
use crate::statistics::StatisticsError;
use crate::statistics::cox::{self, Cox, Ties};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use serde::Serialize;

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

/// Maximum partial likelihood with Efron's ties, or Firth's fit where the likelihood has no maximum (then `true`).
pub fn fit_cox(x: ArrayView2<f64>, time: &[f64], event: &[u8]) -> Result<(Cox, bool), StatisticsError> {
    match cox::cox(x, time, event, None, Ties::Efron) {
        // Columns that depend on each other are singular too; they stay so with the penalty.
        Err(StatisticsError::Singular { .. } | StatisticsError::NotConverged { .. }) => {
            Ok((cox::firth(x, time, event, Ties::Efron)?, true))
        }
        other => Ok((other?, false)),
    }
}

/// Fits a model of the Cox family and applies it to every patient. The linear predictor is centered at the mean of every column in
/// training, as rms's `cph` does it. `rad_score`: of every patient, by the full fit.
pub fn fit_hazards(
    name: &str,
    design: &Design,
    terms: &[usize],
    (training, Hazards { time, month }): (Training, Hazards),
    rad_score: Option<&[f64]>,
) -> Result<Model, CohortError> {
    let x = matrix(design, terms, training.rows, training.rad_score);
    let event: Vec<u8> = training.y.iter().map(|y| u8::from(*y == 1.0)).collect();
    let (fit, firth) = fit_cox(x.view(), time, &event).map_err(CohortError::at(format!("the {name} model")))?;
    let centers = x.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(x.ncols()));
    let Ok(at_horizon) = fit.predict(centers.view(), 0, f64::from(month)) else {
        return Err(CohortError::TooLittle {
            what: format!(
                "no training patient was followed up to {month} months, so the risk up to then is not known; \
                 validation.risk_month names another month"
            ),
        });
    };
    if at_horizon.survival <= 0.0 {
        let what =
            format!("every training patient had the event by {month} months; validation.risk_month names another");
        return Err(CohortError::TooLittle { what });
    }
    let constant = -fit.coefficients.dot(&centers);
    let all: Vec<usize> = (0..design.x.nrows()).collect();
    let lp = matrix(design, terms, &all, rad_score).dot(&fit.coefficients) + constant;
    let mut names: Vec<String> = design.columns_of(terms).into_iter().map(|c| design.names[c].clone()).collect();
    names.extend(training.rad_score.map(|_| RAD_SCORE.to_owned()));
    let (k, events) = (names.len() as f64, event.iter().filter(|e| **e == 1).count() as f64);
    let deviance = -2.0 * fit.log_likelihood[1];
    Ok(Model {
        name: name.to_owned(),
        odds_ratios: Vec::new(),
        profile: None,
        variance_inflation: (names.len() > 1).then(|| fit.variance_inflation().ok()).flatten(),
        coefficients: fit.coefficients.to_vec(),
        standard_errors: fit.standard_errors().to_vec(),
        z: fit.z().to_vec(),
        p: fit.p().to_vec(),
        aic: deviance + 2.0 * k,
        bic: deviance + events.ln() * k,
        firth,
        covariance: fit.covariance.rows().into_iter().map(|r| r.to_vec()).collect(),
        terms: terms.to_vec(),
        with_rad_score: training.rad_score.is_some(),
        lp: lp.to_vec(),
        scale: Scale::Hazard { month, survival: at_horizon.survival },
        constant,
        cox: Some(cox_model(&fit, &names, centers.view(), &[])),
        names,
    })
}

/// What is told about a Cox model: its baseline at `centers` and at some months.
fn cox_model(fit: &Cox, names: &[String], centers: ArrayView1<f64>, months: &[u32]) -> CoxModel {
    let limits = fit.coefficients.iter().zip(fit.confidence_limits(0.95));
    let baseline = months.iter().filter_map(|m| Some((*m, fit.predict(centers, 0, f64::from(*m)).ok()?.survival)));
    CoxModel {
        names: names.to_vec(),
        hazard_ratios: limits.map(|(b, (low, high))| [b.exp(), low.exp(), high.exp()]).collect(),
        standard_errors: fit.standard_errors().to_vec(),
        p: fit.p().to_vec(),
        centers: centers.to_vec(),
        baseline_survival: baseline.collect(),
        proportionality_p: None,
        coefficients: fit.coefficients.to_vec(),
    }
}

/// Proportional hazards of a model's columns, with the baseline at whole months and the test of proportionality: the model itself
/// in the Cox family, else its twin. `None` without times, or where a logistic model has no finite twin.
pub fn complete_cox(
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
    let fit = match (cox::cox(x.view(), &time, &event, None, Ties::Efron), training.hazards) {
        // All events on one side of a predictor: there is no finite hazard ratio to tell without a penalty.
        (Err(StatisticsError::NotConverged { .. } | StatisticsError::Singular { .. }), None) => return Ok(None),
        (Err(StatisticsError::NotConverged { .. } | StatisticsError::Singular { .. }), Some(_)) => {
            cox::firth(x.view(), &time, &event, Ties::Efron)
        }
        (other, _) => other,
    };
    let fit = fit.map_err(CohortError::at(format!("proportional hazards of the {} model", model.name)))?;
    let columns: Vec<Vec<usize>> = (0..x.ncols()).map(|c| vec![c]).collect();
    let scale = cox::TimeScale::KaplanMeier;
    let proportionality = cox::proportionality(&fit, x.view(), &time, &event, None, &columns, scale);
    let centers = match &model.cox {
        Some(own) if training.hazards.is_some() => Array1::from(own.centers.clone()),
        _ => fit.means.clone(),
    };
    Ok(Some(CoxModel {
        proportionality_p: proportionality.ok().map(|t| t.global.p),
        ..cox_model(&fit, model.columns(), centers.view(), months)
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
