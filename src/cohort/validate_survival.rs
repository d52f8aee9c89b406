//! How well a Cox model does in a group of patients at its month, under censoring.

use super::plot::CalibrationGroup;
use super::validate::{AucComparison, Scored, survival_curve};
use crate::statistics::calibration::{self, SurvivalCurve, SurvivalGroup};
use crate::statistics::cox::{Ties, cox};
use crate::statistics::distributions::normal_quantile;
use crate::statistics::time_dependent::{Censoring, RocPoint, brier_score, dynamic_roc};
use crate::statistics::{StatisticsError, concordance};
use ndarray::Array2;
use serde::Serialize;

/// Most groups of a calibration plot; fewer where a group would have less than [`GROUP_SIZE`] patients.
const GROUPS: usize = 10;
const GROUP_SIZE: usize = 20;

/// Calibration of the risk at a month. A number that cannot be had there is absent.
#[derive(Debug, Clone, Serialize)]
pub struct SurvivalCalibration {
    /// The month.
    pub month: u32,
    /// Mean predicted risk.
    pub mean_risk: f64,
    /// Observed risk, 1 - Kaplan-Meier, with 95 % limits (log-log); absent where nobody is followed so far.
    pub observed_risk: Option<[f64; 3]>,
    /// Mean predicted over observed risk.
    pub expected_over_observed: Option<f64>,
    /// Calibration slope: coefficient of the linear predictor in a Cox model here, with its standard error.
    pub slope: Option<[f64; 2]>,
    /// Brier score weighted for censoring (Graf), and 1 - itself over that of the Kaplan-Meier estimate.
    pub brier: Option<[f64; 2]>,
    /// Mean, median, 90th percentile and maximum of |smoothed - predicted| (ICI, E50, E90, Emax; Austin et al. 2020).
    pub distances: Option<[f64; 4]>,
    /// Groups of equal size by predicted risk (rms `groupkm`).
    pub groups: Vec<GroupRisk>,
}

/// A group of similar risk.
#[derive(Debug, Clone, Serialize)]
pub struct GroupRisk {
    /// Patients.
    pub n: usize,
    /// Events at any time.
    pub events: usize,
    /// Mean predicted risk.
    pub predicted: f64,
    /// 1 - Kaplan-Meier with 95 % limits (log scale, as rms draws them); absent where the follow-up ends before the month.
    pub observed: Option<[f64; 3]>,
}

/// The risk groups at the month.
#[derive(Debug, Clone, Serialize)]
pub struct AtHorizon {
    /// The month.
    pub month: u32,
    /// Share of the events up to the month in the high group, weighted for censoring.
    pub sensitivity: f64,
    /// Share of those beyond the month in the low group.
    pub specificity: f64,
    /// Observed risk (1 - Kaplan-Meier with 95 % limits) of the low and the high group.
    pub observed_risk: [Option<[f64; 3]>; 2],
}

/// Calibration at `month`; `censoring` of the training patients, else that of the patients themselves.
pub fn calibrate(scored: &Scored, month: u32, censoring: Option<&Censoring>) -> Option<SurvivalCalibration> {
    let (time, codes, risks) = (scored.time.as_ref()?, scored.codes(), scored.probabilities());
    let horizon = f64::from(month);
    let observed_risk = observed(scored, horizon, |_| true);
    let mean_risk = risks.iter().sum::<f64>() / risks.len() as f64;
    let lp = Array2::from_shape_fn((scored.lp.len(), 1), |(i, _)| scored.lp[i]);
    let slope = cox(lp.view(), time, &codes, None, Ties::Efron).ok();
    let own = Censoring::new(time, &codes).ok();
    let brier = censoring.or(own.as_ref()).zip(observed_risk).and_then(|(censoring, [observed, ..])| {
        let score = |survival: &dyn Fn(usize) -> f64| {
            let table = Array2::from_shape_fn((risks.len(), 1), |(i, _)| survival(i));
            brier_score(censoring, time, &codes, table.view(), &[horizon]).ok().map(|s| s[0])
        };
        let (found, null) = (score(&|i| 1.0 - risks[i])?, score(&|_| 1.0 - observed)?);
        (null > 0.0).then(|| [found, 1.0 - found / null])
    });
    let distances = SurvivalCurve::new(time, &codes, &risks, horizon).and_then(|curve| curve.distances(&risks));
    let group = |g: SurvivalGroup| GroupRisk {
        n: g.n,
        events: g.events,
        predicted: 1.0 - g.predicted,
        observed: g
            .observed
            .zip(g.limits(normal_quantile(0.975)))
            .map(|(s, (low, high))| [1.0 - s, 1.0 - high, 1.0 - low]),
    };
    Some(SurvivalCalibration {
        month,
        mean_risk,
        expected_over_observed: observed_risk.filter(|o| o[0] > 0.0).map(|o| mean_risk / o[0]),
        observed_risk,
        slope: slope.map(|c| [c.coefficients[0], c.standard_errors()[0]]),
        brier,
        distances: distances.ok().map(|d| [d.ici, d.e50, d.e90, d.emax]),
        groups: groups_of(scored, month).into_iter().map(group).collect(),
    })
}

fn groups_of(scored: &Scored, month: u32) -> Vec<SurvivalGroup> {
    let survival: Vec<f64> = scored.probabilities().iter().map(|r| 1.0 - r).collect();
    let time = scored.time.as_deref().unwrap_or_default();
    let groups = (survival.len() / GROUP_SIZE).clamp(2, GROUPS);
    calibration::survival_groups(time, &scored.codes(), &survival, f64::from(month), groups).unwrap_or_default()
}

/// Groups for the calibration plot.
pub fn groups(scored: &Scored, month: u32) -> Vec<CalibrationGroup> {
    let drawn = |g: SurvivalGroup| {
        let (low, high) = g.limits(normal_quantile(0.975))?;
        Some(CalibrationGroup { predicted: 1.0 - g.predicted, observed: [1.0 - g.observed?, 1.0 - high, 1.0 - low] })
    };
    groups_of(scored, month).into_iter().filter_map(drawn).collect()
}

/// The smooth calibration curve at some predicted risks; nothing where it cannot be had.
pub fn smooth(scored: &Scored, month: u32, at: &[f64]) -> Vec<[f64; 2]> {
    let risks = scored.probabilities();
    let time = scored.time.as_deref().unwrap_or_default();
    let Ok(curve) = SurvivalCurve::new(time, &scored.codes(), &risks, f64::from(month)) else { return Vec::new() };
    let (low, high) = risks.iter().fold((f64::INFINITY, 0.0f64), |(a, b), r| (a.min(*r), b.max(*r)));
    let within = at.iter().filter(|r| (low..=high).contains(*r));
    within.filter_map(|r| Some([*r, curve.observed(*r).ok()?])).collect()
}

/// 1 - Kaplan-Meier at `horizon` with 95 % limits among some patients; absent where the follow-up ends before, with survivors.
fn observed(scored: &Scored, horizon: f64, of: impl Fn(usize) -> bool) -> Option<[f64; 3]> {
    let curve = survival_curve(scored, of).ok()?;
    if *curve.time.last()? < horizon && *curve.survival.last()? > 0.0 {
        return None;
    }
    let after = curve.time.partition_point(|t| *t <= horizon);
    if after == 0 || curve.survival[after - 1] == 1.0 {
        return Some([0.0; 3]);
    }
    let s = curve.survival[after - 1];
    // The band has no limits once nobody is left.
    let (low, high) = (curve.lower[after - 1].unwrap_or(s), curve.upper[after - 1].unwrap_or(s));
    Some([1.0 - s, 1.0 - high, 1.0 - low])
}

/// The cut-off at the month.
pub fn at_horizon(scored: &Scored, month: u32, cut_off: f64, censoring: Option<&Censoring>) -> Option<AtHorizon> {
    let curve = roc(scored, month, censoring).ok()?;
    let point = curve.iter().rev().find(|p| p.threshold >= cut_off)?;
    let group = |high: bool| observed(scored, f64::from(month), |i| (scored.lp[i] >= cut_off) == high);
    Some(AtHorizon {
        month,
        sensitivity: point.sensitivity,
        specificity: point.specificity,
        observed_risk: [group(false), group(true)],
    })
}

/// ROC curve of the events up to `month` against the patients beyond it.
pub fn roc(scored: &Scored, month: u32, censoring: Option<&Censoring>) -> Result<Vec<RocPoint>, StatisticsError> {
    let time = scored.time.as_deref().unwrap_or_default();
    let codes = scored.codes();
    let own;
    let censoring = match censoring {
        Some(given) => given,
        None => {
            own = Censoring::new(time, &codes)?;
            &own
        }
    };
    dynamic_roc(censoring, time, &codes, &scored.lp, f64::from(month))
}

/// Linear predictor of the largest sensitivity + specificity at the month, with both: halfway to the next lower one, the first of
/// equals.
pub fn youden(scored: &Scored, month: u32, censoring: Option<&Censoring>) -> Result<(f64, f64, f64), StatisticsError> {
    let curve = roc(scored, month, censoring)?;
    let sum = |p: &RocPoint| p.sensitivity + p.specificity;
    let mut best = 0;
    for k in 1..curve.len() {
        // Equal sums can differ in their last digit.
        if sum(&curve[k]) > sum(&curve[best]) + 1e-12 {
            best = k;
        }
    }
    let threshold = curve[best].threshold;
    let next = curve.get(best + 1).map_or(threshold, |p| p.threshold);
    let lp = if threshold.is_finite() { (threshold + next) / 2.0 } else { next };
    Ok((lp, curve[best].sensitivity, curve[best].specificity))
}

/// Test of the C-indices of two Cox models; `None` without a comparable pair.
pub fn compare(names: [&str; 2], first: &Scored, second: &Scored) -> Result<Option<AucComparison>, StatisticsError> {
    let Some(time) = &first.time else { return Ok(None) };
    if !first.event.contains(&true) {
        return Ok(None);
    }
    let found = match concordance::paired_difference(time, &first.codes(), [&first.lp, &second.lp]) {
        Ok(found) => found,
        // The same order gives the same index.
        Err(StatisticsError::Degenerate { .. }) => {
            concordance::Difference { difference: 0.0, standard_error: 0.0, z: 0.0, p: 1.0 }
        }
        Err(error) => return Err(error),
    };
    Ok(Some(AucComparison {
        part: first.part.clone(),
        first: names[0].into(),
        second: names[1].into(),
        difference: found.difference,
        z: found.z,
        p: found.p,
        nri: None,
        idi: None,
    }))
}
