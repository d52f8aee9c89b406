//! Calibration of predicted survival at a horizon, under censoring.
//!
//! Groups and their Kaplan-Meier estimates as `groupkm` of R's rms, which `calibrate(cmethod = "KM")` and `val.surv` use; the smooth
//! curve is that of Austin, Harrell and van Klaveren (10.1002/sim.8570): a Cox model of the outcome in a restricted cubic
//! spline of ln(-ln(1 - risk)) with 3 knots.

use super::super::StatisticsError;
use super::super::cox::{Cox, Ties, cox};
use super::super::kaplan_meier::{Band, check, kaplan_meier};
use super::super::sample::{check as check_numbers, mean};
use super::super::spline::{restricted_cubic_spline, spline_knots};
use super::{CurveDistances, distances_of};
use ndarray::{Array1, Array2};

/// Knots of the smooth curve.
const KNOTS: usize = 3;

/// Patients of similar prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SurvivalGroup {
    /// Mean predicted survival at the horizon.
    pub predicted: f64,
    /// Patients.
    pub n: usize,
    /// Events at any time.
    pub events: usize,
    /// Kaplan-Meier survival at the horizon; none where the follow-up ends before it with survivors.
    pub observed: Option<f64>,
    /// Standard error of the cumulative hazard there.
    pub standard_error: Option<f64>,
}

impl SurvivalGroup {
    /// Confidence limits of the observed survival on the log scale, as rms draws them.
    pub fn limits(&self, z: f64) -> Option<(f64, f64)> {
        let (s, d) = (self.observed?, z * self.standard_error?);
        Some(if s == 0.0 { (0.0, 0.0) } else { (s * (-d).exp(), (s * d.exp()).min(1.0)) })
    }
}

/// Observed survival at `horizon` in up to `groups` groups of equal size by `predicted` survival (`groupkm(g = )`).
pub fn survival_groups(
    time: &[f64],
    event: &[u8],
    predicted: &[f64],
    horizon: f64,
    groups: usize,
) -> Result<Vec<SurvivalGroup>, StatisticsError> {
    check(time, event, 1)?;
    check_numbers("the predicted survival", predicted, time.len())?;
    let one = |rows: Vec<usize>| {
        let time: Vec<f64> = rows.iter().map(|&i| time[i]).collect();
        let event: Vec<u8> = rows.iter().map(|&i| event[i]).collect();
        let curve = kaplan_meier(&time, &event, Band::Log, 0.95)?;
        let after = curve.time.partition_point(|t| *t <= horizon + 1e-6);
        let (s, se) =
            if after == 0 { (1.0, 0.0) } else { (curve.survival[after - 1], curve.se_cumulative_hazard[after - 1]) };
        let last = curve.time.last().copied().unwrap_or(0.0);
        let known = rows.len() > 1 && (horizon <= last + 1e-6 || curve.survival.last() == Some(&0.0));
        Ok(SurvivalGroup {
            predicted: mean(&rows.iter().map(|&i| predicted[i]).collect::<Vec<f64>>()),
            n: rows.len(),
            events: event.iter().filter(|e| **e == 1).count(),
            observed: known.then_some(s),
            standard_error: known.then_some(se),
        })
    };
    quantile_groups(predicted, groups).into_iter().map(one).collect()
}

/// Rows by groups of equal size, equal values together, ascending (`cut2(x, g = )` of R's Hmisc).
fn quantile_groups(values: &[f64], groups: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    // Each group ends with the first value up to which its share of all rows lies.
    let blocks: Vec<&[usize]> = order.chunk_by(|&a, &b| values[a] == values[b]).collect();
    let n = values.len();
    let (mut found, mut rows, mut seen, mut next) = (Vec::new(), Vec::new(), 0, 1);
    for block in blocks {
        rows.extend_from_slice(block);
        seen += block.len();
        if seen * groups >= next * n {
            found.push(std::mem::take(&mut rows));
            next = seen * groups / n + 1;
        }
    }
    if !rows.is_empty() {
        found.push(rows);
    }
    found
}

/// The smooth relation of predicted to observed risk at a horizon.
#[derive(Debug, Clone)]
pub struct SurvivalCurve {
    knots: Vec<f64>,
    model: Cox,
    horizon: f64,
}

impl SurvivalCurve {
    /// `risks`: predicted probabilities of an event by `horizon`.
    pub fn new(time: &[f64], event: &[u8], risks: &[f64], horizon: f64) -> Result<SurvivalCurve, StatisticsError> {
        check_numbers("the risks", risks, time.len())?;
        let scaled: Vec<f64> = risks.iter().map(|r| complementary_log_log(*r)).collect();
        check_numbers("the risks on the scale ln(-ln(1 - risk))", &scaled, time.len())?;
        let knots = spline_knots(&scaled, KNOTS);
        if knots.len() < KNOTS || knots.windows(2).any(|w| w[0] >= w[1]) {
            return Err(StatisticsError::Degenerate { what: "too few different risks for a smooth curve".into() });
        }
        let mut x = Array2::zeros((time.len(), KNOTS - 1));
        for (mut row, v) in x.rows_mut().into_iter().zip(&scaled) {
            row.assign(&Array1::from(restricted_cubic_spline(*v, &knots)));
        }
        let model = cox(x.view(), time, event, None, Ties::Efron)?;
        let curve = SurvivalCurve { knots, model, horizon };
        curve.observed(risks[0])?;
        Ok(curve)
    }

    /// Smoothed observed risk where `risk` was predicted.
    pub fn observed(&self, risk: f64) -> Result<f64, StatisticsError> {
        let basis = Array1::from(restricted_cubic_spline(complementary_log_log(risk), &self.knots));
        Ok(1.0 - self.model.predict(basis.view(), 0, self.horizon)?.survival)
    }

    /// Mean, median, 90th percentile and maximum of |observed - predicted| over the patients.
    pub fn distances(&self, risks: &[f64]) -> Result<CurveDistances, StatisticsError> {
        let apart = risks.iter().map(|r| Ok((self.observed(*r)? - r).abs()));
        Ok(distances_of(apart.collect::<Result<Vec<f64>, StatisticsError>>()?))
    }
}

/// ln(-ln(1 - risk)): the log cumulative hazard.
pub fn complementary_log_log(risk: f64) -> f64 {
    (-(-risk).ln_1p()).ln()
}
