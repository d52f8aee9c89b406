//! Decision curves: net benefit over thresholds (Vickers and Elkin 2006), as dcurves computes it.
//!
//! Net benefit = true positives - false positives x t / (1 - t), both as a share of all rows; positive is a risk >= t.

use super::StatisticsError;
use super::sample::{ascending, check, class_sizes};

/// Net benefit of a model at each threshold, beside treating all (treating none gives 0).
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionCurve {
    /// In [0, 1).
    pub thresholds: Vec<f64>,
    /// Of the model. None where the follow-up of those above the threshold ends before the horizon.
    pub net_benefit: Vec<Option<f64>>,
    /// Of treating everybody.
    pub net_benefit_all: Vec<f64>,
    /// Share of rows at or above the threshold.
    pub positive_rate: Vec<f64>,
    /// Share of events among all, at the horizon for survival.
    pub prevalence: f64,
}

impl DecisionCurve {
    /// Interventions avoided by the model against treating all, for one patient and without missing an event. None at a
    /// threshold of 0, where an intervention costs nothing.
    pub fn interventions_avoided(&self) -> Vec<Option<f64>> {
        let both = self.net_benefit.iter().zip(&self.net_benefit_all).zip(&self.thresholds);
        both.map(|((model, all), &t)| model.filter(|_| t > 0.0).map(|model| (model - all) / (t / (1.0 - t)))).collect()
    }
}

/// Decision curve of a yes-no outcome. `prevalence`: of the population where the sample has another one (case-control).
pub fn binary(
    outcome: &[bool],
    risks: &[f64],
    thresholds: &[f64],
    prevalence: Option<f64>,
) -> Result<DecisionCurve, StatisticsError> {
    let (events, others) = class_sizes(outcome)?;
    check("the risks", risks, outcome.len())?;
    check_thresholds(thresholds)?;
    let prevalence = prevalence.unwrap_or(events as f64 / outcome.len() as f64);
    let positives =
        |class: bool, t: f64| outcome.iter().zip(risks).filter(|(y, r)| **y == class && positive(**r, t)).count();
    let mut curve = empty(thresholds, prevalence);
    for &t in thresholds {
        let (tp, fp) = (positives(true, t), positives(false, t));
        let true_rate = tp as f64 / events as f64 * prevalence;
        let false_rate = fp as f64 / others as f64 * (1.0 - prevalence);
        curve.net_benefit.push(Some(true_rate - t / (1.0 - t) * false_rate));
        curve.positive_rate.push((tp + fp) as f64 / outcome.len() as f64);
    }
    Ok(curve)
}

/// Decision curve of events up to `horizon` (in the unit of `times`) under censoring: the Kaplan-Meier risk among the
/// rows at or above the threshold takes the place of the share of events. `event`: false where the time is censored.
pub fn survival(
    times: &[f64],
    event: &[bool],
    risks: &[f64],
    horizon: f64,
    thresholds: &[f64],
) -> Result<DecisionCurve, StatisticsError> {
    check("the times", times, event.len())?;
    check("the risks", risks, event.len())?;
    check("the horizon", &[horizon], 1)?;
    check_thresholds(thresholds)?;
    if !event.contains(&true) {
        return Err(StatisticsError::Degenerate { what: "no event in any row".into() });
    }
    let order = ascending(times);
    let reaches_horizon = |rows: &[usize]| rows.last().is_some_and(|&i| times[i] >= horizon);
    if !reaches_horizon(&order) {
        return Err(StatisticsError::Degenerate { what: format!("no follow-up reaches the horizon of {horizon}") });
    }
    let n = event.len() as f64;
    let mut curve = empty(thresholds, 1.0 - survival_at(times, event, &order, horizon));
    for &t in thresholds {
        let above: Vec<usize> = order.iter().copied().filter(|&i| positive(risks[i], t)).collect();
        let rate = above.len() as f64 / n;
        let risk = 1.0 - survival_at(times, event, &above, horizon);
        let benefit = risk * rate - t / (1.0 - t) * ((1.0 - risk) * rate);
        curve.net_benefit.push((above.is_empty() || reaches_horizon(&above)).then_some(benefit));
        curve.positive_rate.push(rate);
    }
    Ok(curve)
}

/// At a threshold of 0 a risk of exactly 0 is still no reason to treat, as in dcurves.
fn positive(risk: f64, threshold: f64) -> bool {
    risk >= threshold && risk > 0.0
}

fn empty(thresholds: &[f64], prevalence: f64) -> DecisionCurve {
    DecisionCurve {
        thresholds: thresholds.to_vec(),
        net_benefit: Vec::with_capacity(thresholds.len()),
        net_benefit_all: thresholds.iter().map(|t| prevalence - t / (1.0 - t) * (1.0 - prevalence)).collect(),
        positive_rate: Vec::with_capacity(thresholds.len()),
        prevalence,
    }
}

fn check_thresholds(thresholds: &[f64]) -> Result<(), StatisticsError> {
    check("the thresholds", thresholds, thresholds.len())?;
    if let Some(t) = thresholds.iter().find(|t| !(0.0..1.0).contains(*t)) {
        return Err(StatisticsError::Degenerate { what: format!("a threshold of {t} is no probability below 1") });
    }
    Ok(())
}

/// Kaplan-Meier estimate at `horizon` of the rows `order`, which ascend in time.
fn survival_at(times: &[f64], event: &[bool], order: &[usize], horizon: f64) -> f64 {
    let mut survival = 1.0;
    let mut at_risk = order.len();
    for group in order.chunk_by(|&a, &b| times[a] == times[b]) {
        if times[group[0]] > horizon {
            break;
        }
        let events = group.iter().filter(|&&i| event[i]).count();
        survival *= 1.0 - events as f64 / at_risk as f64;
        at_risk -= group.len();
    }
    survival
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn benefit_on_paper() {
        // At 0.5, of four rows one event and one other are positive: 1/4 - 1/4.
        let curve = binary(&[true, true, false, false], &[0.9, 0.2, 0.5, 0.1], &[0.5, 0.95], None).unwrap();
        assert_eq!(curve.net_benefit, [Some(0.0), Some(0.0)]);
        assert_eq!(curve.net_benefit_all[0], 0.0);
        // Without censoring both curves agree.
        let times = [1.0, 2.0, 9.0, 9.0];
        let event = [true, true, false, false];
        let same = survival(&times, &event, &[0.9, 0.2, 0.5, 0.1], 5.0, &[0.5, 0.95]).unwrap();
        assert_eq!(same.net_benefit, [Some(0.0), Some(0.0)]);
        let early = survival(&times, &event, &[0.9, 0.7, 0.5, 0.1], 5.0, &[0.6]).unwrap();
        assert_eq!(early.net_benefit, [None]);
        assert!(binary(&[true, false], &[0.5, 0.5], &[1.0], None).is_err());
    }
}
