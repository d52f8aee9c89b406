//! Accuracy at a point in time: dynamic AUC, Brier score, with inverse probability of censoring weights.
//!
//! As scikit-survival: censoring is estimated in the training patients by [`Censoring`], the scores are those of the
//! patients given with them. Events come before censorings at the same time.

use super::StatisticsError;
use super::kaplan_meier::{Band, ascending, check, check_finite, check_length, kaplan_meier};
use ndarray::{ArrayView1, ArrayView2, Axis};

/// Risks closer than this are tied, as in scikit-survival.
const TIED: f64 = 1e-8;

/// Kaplan-Meier estimate of the probability to be still uncensored.
#[derive(Debug, Clone, PartialEq)]
pub struct Censoring {
    time: Vec<f64>,
    uncensored: Vec<f64>,
}

impl Censoring {
    /// From the training patients.
    pub fn new(time: &[f64], event: &[u8]) -> Result<Censoring, StatisticsError> {
        check(time, event, 1)?;
        let mut found = Censoring { time: Vec::new(), uncensored: Vec::new() };
        let (mut n, mut g) = (time.len() as f64, 1.0);
        for block in ascending(time).chunk_by(|&a, &b| time[a] == time[b]) {
            let events = block.iter().filter(|&&i| event[i] == 1).count() as f64;
            let censored = block.len() as f64 - events;
            if censored > 0.0 {
                g *= 1.0 - censored / (n - events);
            }
            n -= block.len() as f64;
            found.time.push(time[block[0]]);
            found.uncensored.push(g);
        }
        Ok(found)
    }

    /// Probability to be uncensored just after `time`; unknown, and an error, beyond a last training patient with an
    /// event.
    pub fn probability(&self, time: f64) -> Result<f64, StatisticsError> {
        let after = self.time.partition_point(|&t| t <= time);
        let last = self.time.len() - 1;
        if time > self.time[last] && self.uncensored[last] > 0.0 {
            return Err(StatisticsError::Degenerate {
                what: format!(
                    "time {time} lies beyond the follow-up of the training patients, which ends at {}",
                    self.time[last]
                ),
            });
        }
        Ok(if after == 0 { 1.0 } else { self.uncensored[after - 1] })
    }

    /// Weight of an event at `time`: 1 / probability.
    pub fn weight(&self, time: f64) -> Result<f64, StatisticsError> {
        match self.probability(time)? {
            0.0 => Err(StatisticsError::Degenerate {
                what: format!("all training patients are censored by time {time}, so an event then has no weight"),
            }),
            g => Ok(1.0 / g),
        }
    }
}

/// Cumulative/dynamic AUC at each of `times` and its mean over them, weighted by the events between them
/// (`cumulative_dynamic_auc`). `risk`: shape (patients, 1) for one risk of all times, or (patients, times).
/// `times`: ascending, within the follow-up of the patients.
pub fn dynamic_auc(
    censoring: &Censoring,
    time: &[f64],
    event: &[u8],
    risk: ArrayView2<f64>,
    times: &[f64],
) -> Result<(Vec<f64>, f64), StatisticsError> {
    check_scored(time, event, risk, times)?;
    let weights = time.iter().zip(event).map(|(&t, &e)| if e == 1 { censoring.weight(t) } else { Ok(0.0) });
    let weights: Vec<f64> = weights.collect::<Result<_, _>>()?;
    let column = |k: usize| risk.column(if risk.ncols() == 1 { 0 } else { k });
    let at = |(k, &t): (usize, &f64)| auc_at(t, time, event, column(k), &weights);
    let auc: Vec<f64> = times.iter().enumerate().map(at).collect::<Result<_, _>>()?;
    if auc.len() == 1 {
        return Ok((auc.clone(), auc[0]));
    }
    let curve = kaplan_meier(time, event, Band::Plain, 0.95)?;
    let (mut sum, mut before) = (0.0, 1.0);
    for (auc, &t) in auc.iter().zip(times) {
        let s = curve.survival_at(t);
        sum += auc * (before - s);
        before = s;
    }
    // There was an event by the first time, or its AUC would have been an error.
    Ok((auc, sum / (1.0 - before)))
}

/// Area under the curve of weighted patients with an event by `t` against those beyond `t`.
fn auc_at(t: f64, time: &[f64], event: &[u8], risk: ArrayView1<f64>, weights: &[f64]) -> Result<f64, StatisticsError> {
    let curve = curve_at(t, time, event, risk, weights)?;
    let strips = curve.windows(2).map(|w| {
        let [before, after] = [&w[0], &w[1]];
        (before.specificity - after.specificity) * (before.sensitivity + after.sensitivity) / 2.0
    });
    Ok(strips.sum())
}

/// A point of a cumulative/dynamic ROC curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RocPoint {
    /// Patients with this risk or more are called positive.
    pub threshold: f64,
    /// Share of those with an event by the time who are called, weighted for censoring.
    pub sensitivity: f64,
    /// Share of those beyond the time who are not called.
    pub specificity: f64,
}

/// ROC curve of the events up to `t` against the patients beyond `t`, from a threshold of infinity (nobody called) downward; the
/// area below it is [`dynamic_auc`].
pub fn dynamic_roc(
    censoring: &Censoring,
    time: &[f64],
    event: &[u8],
    risk: &[f64],
    t: f64,
) -> Result<Vec<RocPoint>, StatisticsError> {
    let risk = ArrayView1::from(risk);
    check_scored(time, event, risk.insert_axis(Axis(1)), &[t])?;
    let of = |(&time, &e): (&f64, &u8)| if e == 1 && time <= t { censoring.weight(time) } else { Ok(0.0) };
    let weights: Vec<f64> = time.iter().zip(event).map(of).collect::<Result<_, _>>()?;
    curve_at(t, time, event, risk, &weights)
}

fn curve_at(
    t: f64,
    time: &[f64],
    event: &[u8],
    risk: ArrayView1<f64>,
    weights: &[f64],
) -> Result<Vec<RocPoint>, StatisticsError> {
    let mut order: Vec<usize> = (0..time.len()).collect();
    order.sort_by(|&a, &b| risk[b].total_cmp(&risk[a]));
    let (mut cases, mut controls) = (0.0, 0.0);
    let mut counts = vec![(f64::INFINITY, 0.0, 0.0)];
    for block in order.chunk_by(|&a, &b| risk[a] - risk[b] <= TIED) {
        let by_t = block.iter().filter(|&&i| time[i] <= t && event[i] == 1);
        cases += by_t.map(|&i| weights[i]).sum::<f64>();
        controls += block.iter().filter(|&&i| time[i] > t).count() as f64;
        counts.push((risk[block[block.len() - 1]], cases, controls));
    }
    if cases == 0.0 || controls == 0.0 {
        return Err(StatisticsError::Degenerate { what: format!("no patient had the event by time {t}, or all did") });
    }
    let point = |(threshold, above, below): (f64, f64, f64)| RocPoint {
        threshold,
        sensitivity: above / cases,
        specificity: 1.0 - below / controls,
    };
    Ok(counts.into_iter().map(point).collect())
}

/// Brier score at each of `times` (`brier_score`, after Graf et al. 1999). `survival`: predicted probability of no
/// event, shape (patients, times). `times`: ascending, within the follow-up of the patients.
pub fn brier_score(
    censoring: &Censoring,
    time: &[f64],
    event: &[u8],
    survival: ArrayView2<f64>,
    times: &[f64],
) -> Result<Vec<f64>, StatisticsError> {
    check_scored(time, event, survival, times)?;
    check_length("columns of survival", survival.ncols(), times.len())?;
    // Where nobody is uncensored the term is left out, as scikit-survival does.
    let share = |g: f64| if g == 0.0 { 0.0 } else { 1.0 / g };
    let mut scores = Vec::new();
    for (k, &t) in times.iter().enumerate() {
        let beyond = share(censoring.probability(t)?);
        let mut sum = 0.0;
        for (i, &s) in survival.column(k).iter().enumerate() {
            if time[i] > t {
                sum += (1.0 - s) * (1.0 - s) * beyond;
            } else if event[i] == 1 {
                sum += s * s * share(censoring.probability(time[i])?);
            }
        }
        scores.push(sum / time.len() as f64);
    }
    Ok(scores)
}

/// Mean of [`brier_score`] over the time from the first to the last of `times`, by the trapezoidal rule
/// (`integrated_brier_score`).
pub fn integrated_brier_score(
    censoring: &Censoring,
    time: &[f64],
    event: &[u8],
    survival: ArrayView2<f64>,
    times: &[f64],
) -> Result<f64, StatisticsError> {
    if times.len() < 2 {
        return Err(StatisticsError::Degenerate { what: "an integral over time needs two times".into() });
    }
    let scores = brier_score(censoring, time, event, survival, times)?;
    let pieces = times.windows(2).zip(scores.windows(2)).map(|(t, s)| (t[1] - t[0]) * (s[0] + s[1]) / 2.0);
    Ok(pieces.sum::<f64>() / (times[times.len() - 1] - times[0]))
}

fn check_scored(time: &[f64], event: &[u8], predicted: ArrayView2<f64>, times: &[f64]) -> Result<(), StatisticsError> {
    check(time, event, 1)?;
    check_length("rows of the prediction", predicted.nrows(), time.len())?;
    check_length("columns of the prediction", predicted.ncols(), if predicted.ncols() == 1 { 1 } else { times.len() })?;
    for column in predicted.columns() {
        check_finite("prediction", &column.to_vec())?;
    }
    check_finite("times", times)?;
    let (first, last) = time.iter().fold((f64::INFINITY, 0.0), |(a, b): (f64, f64), &t| (a.min(t), b.max(t)));
    let within = times.iter().all(|&t| first <= t && t < last);
    if times.is_empty() || !within || times.windows(2).any(|t| t[0] >= t[1]) {
        return Err(StatisticsError::Degenerate {
            what: format!("times have to ascend within the follow-up, from {first} to before {last}"),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn censoring_counts_those_that_outlive_the_events_of_the_day() {
        // At 2 one of three has the event, then one of the two others is censored.
        let censoring = Censoring::new(&[2.0, 2.0, 3.0], &[1, 0, 1]).unwrap();
        assert_eq!(censoring.probability(1.0).unwrap(), 1.0);
        assert_eq!(censoring.probability(2.0).unwrap(), 0.5);
        assert_eq!(censoring.weight(3.0).unwrap(), 2.0);
        assert!(censoring.probability(4.0).is_err());
    }
}
