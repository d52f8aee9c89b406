//! Net reclassification and integrated discrimination improvement: does a new model move events up and others down?

use super::StatisticsError;
use super::distributions::normal_two_sided;
use super::sample::{check, class_sizes, mean, variance};

/// An estimate with its standard error and test.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs, reason = "the field's terms")]
pub struct Estimate {
    pub value: f64,
    pub standard_error: f64,
    /// Value over standard error.
    pub z: f64,
    /// Two-sided, by the normal distribution.
    pub p: f64,
}

impl Estimate {
    fn new(value: f64, variance: f64) -> Estimate {
        let standard_error = variance.max(0.0).sqrt();
        // Nobody moved: no difference, with certainty.
        let z = if value == 0.0 { 0.0 } else { value / standard_error };
        Estimate { value, standard_error, z, p: normal_two_sided(z) }
    }
}

/// Category-free reclassification and discrimination improvement, as Hmisc's `improveProb` gives them.
#[derive(Debug, Clone, PartialEq)]
pub struct Improvement {
    /// Share of events whose risk rises, and falls.
    pub events_up: f64,
    /// Share of events whose risk falls.
    pub events_down: f64,
    /// Share of non-events whose risk rises.
    pub others_up: f64,
    /// Share of non-events whose risk falls.
    pub others_down: f64,
    /// Net reclassification of both classes, 0 to 2.
    pub nri: Estimate,
    /// Part of the events.
    pub nri_events: Estimate,
    /// Part of the non-events.
    pub nri_others: Estimate,
    /// Mean rise of the risk of events.
    pub sensitivity_gain: f64,
    /// Mean fall of the risk of non-events.
    pub specificity_gain: f64,
    /// Integrated discrimination improvement: sum of both gains.
    pub idi: Estimate,
}

/// Compares the risks of a `new` model with those of an `old` one, row by row.
pub fn improvement(outcome: &[bool], old: &[f64], new: &[f64]) -> Result<Improvement, StatisticsError> {
    class_sizes(outcome)?;
    check("the old risks", old, outcome.len())?;
    check("the new risks", new, outcome.len())?;
    let changes = |class: bool| -> Vec<f64> {
        (0..outcome.len()).filter(|&i| outcome[i] == class).map(|i| new[i] - old[i]).collect()
    };
    let (events, others) = (changes(true), changes(false));
    let share = |v: &[f64], sign: f64| v.iter().filter(|d| **d * sign > 0.0).count() as f64 / v.len() as f64;
    let (events_up, events_down) = (share(&events, 1.0), share(&events, -1.0));
    let (others_up, others_down) = (share(&others, 1.0), share(&others, -1.0));
    let net_variance = |up: f64, down: f64, n: usize| ((up + down) - (up - down) * (up - down)) / n as f64;
    let events_variance = net_variance(events_up, events_down, events.len());
    let others_variance = net_variance(others_up, others_down, others.len());
    let (sensitivity_gain, specificity_gain) = (mean(&events), -mean(&others));
    let mean_variance = |v: &[f64]| if v.len() > 1 { variance(v) / v.len() as f64 } else { f64::INFINITY };
    Ok(Improvement {
        events_up,
        events_down,
        others_up,
        others_down,
        nri: Estimate::new((events_up - events_down) + (others_down - others_up), events_variance + others_variance),
        nri_events: Estimate::new(events_up - events_down, events_variance),
        nri_others: Estimate::new(others_down - others_up, others_variance),
        sensitivity_gain,
        specificity_gain,
        idi: Estimate::new(sensitivity_gain + specificity_gain, mean_variance(&events) + mean_variance(&others)),
    })
}

/// Moves between risk groups.
#[derive(Debug, Clone, PartialEq)]
pub struct CategoricalNri {
    /// Events that move into a higher group.
    pub events_up: usize,
    /// Events that move into a lower group.
    pub events_down: usize,
    /// Non-events that move into a higher group.
    pub others_up: usize,
    /// Non-events that move into a lower group.
    pub others_down: usize,
    /// Net reclassification of both classes.
    pub nri: Estimate,
}

/// Net reclassification over groups; a risk equal to one of the ascending `cuts` belongs to the group above it.
pub fn categorical_nri(
    outcome: &[bool],
    old: &[f64],
    new: &[f64],
    cuts: &[f64],
) -> Result<CategoricalNri, StatisticsError> {
    let (events, others) = class_sizes(outcome)?;
    check("the old risks", old, outcome.len())?;
    check("the new risks", new, outcome.len())?;
    check("the cuts", cuts, cuts.len())?;
    let group = |risk: f64| cuts.iter().filter(|&&cut| risk >= cut).count();
    let count = |class: bool, order: std::cmp::Ordering| {
        (0..outcome.len()).filter(|&i| outcome[i] == class && group(new[i]).cmp(&group(old[i])) == order).count()
    };
    let (up, down) = (std::cmp::Ordering::Greater, std::cmp::Ordering::Less);
    let (events_up, events_down) = (count(true, up), count(true, down));
    let (others_up, others_down) = (count(false, up), count(false, down));
    let net = |plus: usize, minus: usize, n: usize| (plus as f64 - minus as f64) / n as f64;
    let part = |a: usize, b: usize, n: usize| ((a + b) as f64 / n as f64 - net(a, b, n).powi(2)) / n as f64;
    Ok(CategoricalNri {
        events_up,
        events_down,
        others_up,
        others_down,
        nri: Estimate::new(
            net(events_up, events_down, events) + net(others_down, others_up, others),
            part(events_up, events_down, events) + part(others_up, others_down, others),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_on_paper() {
        let outcome = [true, true, false, false];
        let found = improvement(&outcome, &[0.5, 0.5, 0.5, 0.5], &[0.7, 0.4, 0.3, 0.5]).unwrap();
        assert_eq!((found.events_up, found.events_down, found.others_up, found.others_down), (0.5, 0.5, 0.0, 0.5));
        assert_eq!(found.nri.value, 0.5);
        assert!((found.idi.value - 0.15).abs() < 1e-15);
        let groups = categorical_nri(&outcome, &[0.5; 4], &[0.7, 0.4, 0.3, 0.5], &[0.5]).unwrap();
        assert_eq!((groups.events_up, groups.events_down, groups.others_up, groups.others_down), (0, 1, 0, 1));
        assert_eq!(groups.nri.value, 0.0);
        assert!(improvement(&[true; 2], &[0.1; 2], &[0.2; 2]).is_err());
    }
}
