//! How well a model does in a group of patients, and how models compare.

use super::CohortError;
use super::join::Cohort;
use super::models::Model;
use super::plot::CalibrationGroup;
use super::scale::Scale;
use super::validate_survival::{self, AtHorizon, SurvivalCalibration};
use crate::statistics::distributions::normal_quantile;
use crate::statistics::roc::{self, Classification, DeLong, Direction, RocCurve};
use crate::statistics::time_dependent::{Censoring, dynamic_auc};
use crate::statistics::{StatisticsError, calibration, concordance, decision_curve, kaplan_meier, reclassification};
use ndarray::Array2;
use serde::Serialize;

/// Groups of the Hosmer-Lemeshow test and of the calibration plot.
const GROUPS: usize = 10;

/// Some patients with the prediction of one model.
#[derive(Debug, Clone)]
pub struct Scored {
    /// Name of the group.
    pub part: String,
    /// Whether the model was fitted on them (degrees of freedom of the Hosmer-Lemeshow test).
    pub development: bool,
    /// Outcome.
    pub event: Vec<bool>,
    /// Months.
    pub time: Option<Vec<f64>>,
    /// Linear predictors.
    pub lp: Vec<f64>,
    /// What they mean.
    pub scale: Scale,
}

impl Scored {
    /// The patients of `rows` by a model.
    pub fn new(cohort: &Cohort, part: &str, rows: &[usize], model: &Model, development: bool) -> Scored {
        Scored {
            part: part.to_owned(),
            development,
            event: rows.iter().map(|r| cohort.event[*r]).collect(),
            time: cohort.time.as_ref().map(|t| rows.iter().map(|r| t[*r]).collect()),
            lp: rows.iter().map(|r| model.lp[*r]).collect(),
            scale: model.scale,
        }
    }

    /// Risks.
    pub fn probabilities(&self) -> Vec<f64> {
        self.lp.iter().map(|lp| self.scale.risk(*lp)).collect()
    }

    /// Outcome as 0 and 1.
    pub fn codes(&self) -> Vec<u8> {
        self.event.iter().map(|e| u8::from(*e)).collect()
    }
}

/// Performance of a model in a group. A number that cannot be had there (one class only) is absent, never NaN.
#[derive(Debug, Clone, Serialize)]
pub struct Performance {
    /// Model.
    pub model: String,
    /// Group.
    pub part: String,
    /// Patients.
    pub n: usize,
    /// Events.
    pub events: usize,
    /// Area under the ROC curve with DeLong's 95 % limits; of a logistic model.
    pub auc: Option<[f64; 3]>,
    /// Harrell's C of the linear predictor with its standard error.
    pub c_index: Option<[f64; 2]>,
    /// Uno's C (R's weights n/G2).
    pub uno_c: Option<f64>,
    /// (months, dynamic AUC), censoring weighted by the training patients.
    pub dynamic_auc: Vec<(u32, f64)>,
    /// Calibration; of a logistic model.
    pub calibration: Option<Calibration>,
    /// At the cut-off of the model; of a logistic model.
    pub at_cut_off: Option<AtCutOff>,
    /// Calibration of a Cox model at its month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub survival_calibration: Option<SurvivalCalibration>,
    /// A Cox model at its cut-off and month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_horizon: Option<AtHorizon>,
}

impl Performance {
    /// How well patients are ordered: the AUC of a logistic, the C-index of a Cox model, with 95 % limits.
    pub fn discrimination(&self) -> Option<[f64; 3]> {
        let z = normal_quantile(0.975);
        self.auc.or_else(|| self.c_index.map(|[c, se]| [c, (c - z * se).max(0.0), (c + z * se).min(1.0)]))
    }

    /// Slope of the linear predictor here.
    pub fn slope(&self) -> Option<f64> {
        let survival = self.survival_calibration.as_ref().and_then(|c| c.slope).map(|s| s[0]);
        self.calibration.as_ref().map(|c| c.slope).or(survival)
    }

    /// Mean squared difference of outcome and risk.
    pub fn brier(&self) -> Option<f64> {
        let survival = self.survival_calibration.as_ref().and_then(|c| c.brier).map(|b| b[0]);
        self.calibration.as_ref().map(|c| c.brier).or(survival)
    }
}

/// Calibration of probabilities.
#[derive(Debug, Clone, Serialize)]
pub struct Calibration {
    /// Mean squared difference of outcome and probability.
    pub brier: f64,
    /// 1 - Brier / Brier of the mean.
    pub brier_scaled: f64,
    /// Calibration in the large: intercept with the linear predictor as offset.
    pub in_the_large: f64,
    /// Intercept fitted together with the slope.
    pub intercept: f64,
    /// Slope of the linear predictor.
    pub slope: f64,
    /// Expected over observed events.
    pub expected_over_observed: f64,
    /// Mean, median, 90th percentile and maximum of |smoothed - predicted| (ICI, E50, E90, Emax).
    pub ici: f64,
    /// Median.
    pub e50: f64,
    /// 90th percentile.
    pub e90: f64,
    /// Maximum.
    pub emax: f64,
    /// Hosmer-Lemeshow: chi-squared, degrees of freedom, p.
    pub hosmer_lemeshow: Option<[f64; 3]>,
}

impl Calibration {
    fn is_finite(&self) -> bool {
        let all = [self.brier, self.brier_scaled, self.in_the_large, self.intercept, self.slope, self.ici, self.emax];
        all.into_iter().chain([self.expected_over_observed, self.e50, self.e90]).all(f64::is_finite)
    }
}

/// Classification at a cut-off.
#[derive(Debug, Clone, Serialize)]
pub struct AtCutOff {
    /// Sensitivity with Wilson's 95 % limits.
    pub sensitivity: [f64; 3],
    /// Specificity with limits.
    pub specificity: [f64; 3],
    /// Positive predictive value.
    pub ppv: Option<f64>,
    /// Negative predictive value.
    pub npv: Option<f64>,
    /// Accuracy.
    pub accuracy: Option<f64>,
}

/// Wilson's interval of a share: estimate, lower, upper.
pub fn wilson(of: usize, n: usize) -> [f64; 3] {
    if n == 0 {
        return [0.0, 0.0, 1.0];
    }
    let (z, n) = (normal_quantile(0.975), n as f64);
    let p = of as f64 / n;
    let center = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt() / (1.0 + z * z / n);
    [p, (center - half).max(0.0), (center + half).min(1.0)]
}

/// All that is told about a model in a group. `censoring`: of the training patients, with the months to look at.
pub fn performance(
    model: &str,
    scored: &Scored,
    cut_off: Option<f64>,
    censoring: Option<(&Censoring, &[u32])>,
) -> Result<Performance, CohortError> {
    let at = |what: &str| CohortError::at(format!("{what} of the {model} model in {}", scored.part));
    let events = scored.event.iter().filter(|e| **e).count();
    let mut found = Performance {
        model: model.to_owned(),
        part: scored.part.clone(),
        n: scored.event.len(),
        events,
        auc: None,
        c_index: None,
        uno_c: None,
        dynamic_auc: Vec::new(),
        calibration: None,
        at_cut_off: None,
        survival_calibration: None,
        at_horizon: None,
    };
    if events == 0 || (events == scored.event.len() && scored.scale == Scale::Odds) {
        return Ok(found);
    }
    if scored.scale == Scale::Odds {
        let delong = DeLong::new(&scored.event, &scored.lp, Direction::CasesHigher).map_err(at("the AUC"))?;
        let (low, high) = delong.interval(0.95);
        found.auc = Some([delong.auc, low, high]);
    }
    if let Some(time) = &scored.time {
        let codes = scored.codes();
        let c = |weight| concordance::concordance(time, &codes, &scored.lp, None, weight, 0.0);
        let harrell = c(concordance::PairWeight::Equal).map_err(at("the C-index"))?;
        found.c_index = Some([harrell.c, harrell.standard_error]);
        found.uno_c = c(concordance::PairWeight::InverseCensoring).ok().map(|c| c.c).filter(|c| c.is_finite());
        if let Some((censoring, months)) = censoring {
            let risk = Array2::from_shape_fn((scored.lp.len(), 1), |(i, _)| scored.lp[i]);
            let auc = |month: u32| dynamic_auc(censoring, time, &codes, risk.view(), &[f64::from(month)]).ok();
            found.dynamic_auc = months.iter().filter_map(|m| Some((*m, auc(*m)?.0[0]))).collect();
        }
    }
    if let Some(month) = scored.scale.month() {
        let censoring = censoring.map(|c| c.0);
        found.survival_calibration = validate_survival::calibrate(scored, month, censoring);
        found.at_horizon = cut_off.and_then(|cut| validate_survival::at_horizon(scored, month, cut, censoring));
        return Ok(found);
    }
    // A group that the model tells apart completely has no slope.
    found.calibration = calibrate(scored).ok().filter(Calibration::is_finite);
    if let Some(threshold) = cut_off {
        found.at_cut_off = Some(classify(scored, threshold).map_err(at("classification"))?);
    }
    Ok(found)
}

/// Calibration of the probabilities as rms::val.prob and its relatives measure it.
fn calibrate(scored: &Scored) -> Result<Calibration, StatisticsError> {
    let probabilities = scored.probabilities();
    let event = &scored.event;
    let line = calibration::recalibrate(event, &scored.lp)?;
    let distances = calibration::curve_distances(event, &probabilities)?;
    let test = calibration::hosmer_lemeshow(event, &probabilities, GROUPS).ok().and_then(|test| {
        let groups = test.groups.len() as f64;
        let (df, p) = if scored.development { (groups - 2.0, test.p_development?) } else { (groups, test.p_external) };
        Some([test.chi_squared, df, p])
    });
    Ok(Calibration {
        brier: calibration::brier(event, &probabilities)?,
        brier_scaled: calibration::brier_scaled(event, &probabilities)?,
        in_the_large: calibration::in_the_large(event, &scored.lp)?.value,
        intercept: line.0.value,
        slope: line.1.value,
        expected_over_observed: 1.0 / calibration::observed_over_expected(event, &probabilities)?,
        ici: distances.ici,
        e50: distances.e50,
        e90: distances.e90,
        emax: distances.emax,
        hosmer_lemeshow: test.filter(|t| t.iter().all(|v| v.is_finite())),
    })
}

fn classify(scored: &Scored, threshold: f64) -> Result<AtCutOff, StatisticsError> {
    let table = Classification::at(&scored.event, &scored.lp, threshold, Direction::CasesHigher)?;
    Ok(AtCutOff {
        sensitivity: wilson(table.true_positives, table.true_positives + table.false_negatives),
        specificity: wilson(table.true_negatives, table.true_negatives + table.false_positives),
        ppv: table.ppv(),
        npv: table.npv(),
        accuracy: table.accuracy(),
    })
}

/// The ROC curve as (1 - specificity, sensitivity) from (0, 0) to (1, 1).
pub fn roc_points(scored: &Scored) -> Result<Vec<[f64; 2]>, StatisticsError> {
    let curve = RocCurve::new(&scored.event, &scored.lp, Direction::CasesHigher)?;
    let points = curve.specificities.iter().zip(&curve.sensitivities).map(|(sp, se)| [1.0 - sp, *se]);
    Ok(points.rev().collect())
}

/// Threshold of the largest sensitivity + specificity, with both; the first of equals, as pROC returns it first.
pub fn youden(scored: &Scored) -> Result<(f64, f64, f64), StatisticsError> {
    let curve = RocCurve::new(&scored.event, &scored.lp, Direction::CasesHigher)?;
    let best = curve.youden()[0];
    Ok((curve.thresholds[best], curve.sensitivities[best], curve.specificities[best]))
}

/// Two models in the same patients: DeLong's test of their AUCs, of Cox models the test of their C-indices.
#[derive(Debug, Clone, Serialize)]
pub struct AucComparison {
    /// Group.
    pub part: String,
    /// First model.
    pub first: String,
    /// Second model.
    pub second: String,
    /// Difference of the AUCs or C-indices.
    pub difference: f64,
    /// Test statistic.
    pub z: f64,
    /// Two-sided p-value.
    pub p: f64,
    /// Continuous net reclassification with its p-value; of the first over the second. None of Cox models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nri: Option<[f64; 2]>,
    /// Integrated discrimination improvement with its p-value. None of Cox models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idi: Option<[f64; 2]>,
}

/// Compares two models; `None` where one class is absent.
pub fn compare(names: [&str; 2], first: &Scored, second: &Scored) -> Result<Option<AucComparison>, CohortError> {
    let part = &first.part;
    let at = || CohortError::at(format!("comparison of {} and {} in {part}", names[0], names[1]));
    if first.scale != Scale::Odds {
        let found = validate_survival::compare(names, first, second);
        return found.map_err(at());
    }
    if first.event.iter().all(|e| *e) || !first.event.contains(&true) {
        return Ok(None);
    }
    let delong = |s: &Scored| DeLong::new(&s.event, &s.lp, Direction::CasesHigher);
    let (a, b) = (delong(first).map_err(at())?, delong(second).map_err(at())?);
    let (z, p) = match roc::paired_test(&a, &b) {
        Ok(test) => (test.statistic, test.p),
        // The same ranks give the same curve.
        Err(StatisticsError::Degenerate { .. }) => (0.0, 1.0),
        Err(error) => return Err(at()(error)),
    };
    let change =
        reclassification::improvement(&first.event, &second.probabilities(), &first.probabilities()).map_err(at())?;
    let finite = |v: [f64; 2]| if v.iter().all(|v| v.is_finite()) { v } else { [0.0, 1.0] };
    Ok(Some(AucComparison {
        part: part.clone(),
        first: names[0].into(),
        second: names[1].into(),
        difference: a.auc - b.auc,
        z,
        p,
        nri: Some(finite([change.nri.value, change.nri.p])),
        idi: Some(finite([change.idi.value, change.idi.p])),
    }))
}

/// Net benefit of a model.
#[derive(Debug, Clone, Serialize)]
pub struct NetBenefit {
    /// Model.
    pub model: String,
    /// Group.
    pub part: String,
    /// (threshold, net benefit).
    pub model_curve: Vec<[f64; 2]>,
    /// (threshold, net benefit of treating all).
    pub treat_all: Vec<[f64; 2]>,
}

/// Decision curve over thresholds 0.01 to 0.80; of a Cox model for events up to its month, under censoring, and absent where nobody
/// is followed so far.
pub fn net_benefit(model: &str, scored: &Scored) -> Result<Option<NetBenefit>, CohortError> {
    let thresholds: Vec<f64> = (1..=80).map(|i| f64::from(i) / 100.0).collect();
    let at = CohortError::at(format!("decision curve of the {model} model in {}", scored.part));
    let risks = scored.probabilities();
    let curve = match (scored.scale.month(), &scored.time) {
        (Some(month), Some(time)) => {
            match decision_curve::survival(time, &scored.event, &risks, f64::from(month), &thresholds) {
                // Nobody is followed so far in this part: there is no curve.
                Err(StatisticsError::Degenerate { .. }) => return Ok(None),
                other => other,
            }
        }
        _ => decision_curve::binary(&scored.event, &risks, &thresholds, None),
    };
    let curve = curve.map_err(at)?;
    let model_curve = curve.thresholds.iter().zip(&curve.net_benefit).filter_map(|(t, b)| Some([*t, (*b)?]));
    Ok(Some(NetBenefit {
        model: model.into(),
        part: scored.part.clone(),
        model_curve: model_curve.collect(),
        treat_all: curve.thresholds.iter().zip(&curve.net_benefit_all).map(|(t, b)| [*t, *b]).collect(),
    }))
}

/// Groups of equal size by predicted risk, with the observed share and its interval.
pub fn calibration_groups(scored: &Scored) -> Vec<CalibrationGroup> {
    if let Some(month) = scored.scale.month() {
        return validate_survival::groups(scored, month);
    }
    let predicted = scored.probabilities();
    let mut order: Vec<usize> = (0..predicted.len()).collect();
    order.sort_by(|a, b| predicted[*a].total_cmp(&predicted[*b]));
    let groups = GROUPS.min((order.len() / 8).max(2));
    (0..groups)
        .map(|g| &order[g * order.len() / groups..(g + 1) * order.len() / groups])
        .filter(|rows| !rows.is_empty())
        .map(|rows| CalibrationGroup {
            predicted: rows.iter().map(|r| predicted[*r]).sum::<f64>() / rows.len() as f64,
            observed: wilson(rows.iter().filter(|r| scored.event[**r]).count(), rows.len()),
        })
        .collect()
}

/// A comparison of survival between the groups at or above and below a cut-off.
#[derive(Debug, Clone, Serialize)]
pub struct SurvivalGroups {
    /// Group of patients.
    pub part: String,
    /// Patients below and from the cut-off on.
    pub n: [usize; 2],
    /// Events observed.
    pub observed: [f64; 2],
    /// Events expected if both had the same hazard.
    pub expected: [f64; 2],
    /// Log-rank chi-squared, 1 degree of freedom.
    pub chi_squared: f64,
    /// Its p-value.
    pub p: f64,
    /// Hazard ratio of the high group with 95 % limits, absent where it is infinite.
    pub hazard_ratio: Option<[f64; 3]>,
    /// Median months without the event with limits: low group, high group.
    pub median_months: [[Option<f64>; 3]; 2],
}

/// Log-rank test of the risk groups; `None` without times, or with one group or no event.
pub fn survival_groups(scored: &Scored, cut_off: f64) -> Result<Option<SurvivalGroups>, CohortError> {
    let Some(time) = &scored.time else { return Ok(None) };
    let group: Vec<usize> = scored.lp.iter().map(|lp| usize::from(*lp >= cut_off)).collect();
    let high = group.iter().sum::<usize>();
    if high == 0 || high == group.len() || !scored.event.contains(&true) {
        return Ok(None);
    }
    let codes = scored.codes();
    let at = || CohortError::at(format!("survival of the risk groups in {}", scored.part));
    let test = kaplan_meier::log_rank(time, &codes, &group, None, 0.0).map_err(at())?;
    let x = Array2::from_shape_fn((group.len(), 1), |(i, _)| group[i] as f64);
    let cox = crate::statistics::cox::cox(x.view(), time, &codes, None, crate::statistics::cox::Ties::Efron).ok();
    let hazard_ratio = cox.map(|c| {
        let (low, high) = c.confidence_limits(0.95)[0];
        [c.coefficients[0].exp(), low.exp(), high.exp()]
    });
    let mut median_months = [[None; 3]; 2];
    for (g, median) in median_months.iter_mut().enumerate() {
        let curve = survival_curve(scored, |i| group[i] == g).map_err(at())?;
        let quantile = curve.quantile(0.5).map_err(at())?;
        *median = [quantile.time, quantile.lower, quantile.upper];
    }
    Ok(Some(SurvivalGroups {
        part: scored.part.clone(),
        n: [test.n[0], test.n[1]],
        observed: [test.observed[0], test.observed[1]],
        expected: [test.expected[0], test.expected[1]],
        chi_squared: test.chi_squared,
        p: test.p,
        hazard_ratio: hazard_ratio.filter(|h| h.iter().all(|v| v.is_finite())),
        median_months,
    }))
}

/// Kaplan-Meier curve of some of the patients.
pub fn survival_curve(scored: &Scored, of: impl Fn(usize) -> bool) -> Result<kaplan_meier::Curve, StatisticsError> {
    let rows: Vec<usize> = (0..scored.lp.len()).filter(|i| of(*i)).collect();
    let time: Vec<f64> = rows.iter().map(|i| scored.time.as_ref().map_or(0.0, |t| t[*i])).collect();
    let event: Vec<u8> = rows.iter().map(|i| u8::from(scored.event[*i])).collect();
    kaplan_meier::kaplan_meier(&time, &event, kaplan_meier::Band::LogLog, 0.95)
}
