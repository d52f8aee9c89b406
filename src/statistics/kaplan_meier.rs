//! Kaplan-Meier curves, quantiles, restricted means and log-rank tests, as R's `survfit` and `survdiff`.
//!
//! `time` is the follow-up of each patient in any unit, at least 0; `event` is 1 where it ended in the event, 0 where
//! it was censored. Times that differ by rounding alone count as tied (R's `timefix`).

use super::StatisticsError;
use super::distributions::{chi_squared_upper_tail, normal_quantile};
use super::linear::Cholesky;
use ndarray::{Array1, Array2};

/// Largest number of groups that are compared: their covariances fill a square.
const GROUPS_MAX: usize = 1000;

/// How the confidence band of a curve is built (`conf.type` of `survfit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Band {
    /// On log S: R's default.
    Log,
    /// On log(-log S): stays within 0 and 1.
    LogLog,
    /// On S, cut at 0 and 1.
    Plain,
}

/// A survival curve: one entry for each distinct time, events and censorings alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Ascending.
    pub time: Vec<f64>,
    /// Under observation just before the time.
    pub n_risk: Vec<usize>,
    /// Events at the time.
    pub n_event: Vec<usize>,
    /// Censored at the time.
    pub n_censor: Vec<usize>,
    /// Kaplan-Meier estimate of S just after the time.
    pub survival: Vec<f64>,
    /// Greenwood's standard error on the scale of the cumulative hazard (that of S divided by S; `std.err` of
    /// `survfit`), infinite where S is 0.
    pub se_cumulative_hazard: Vec<f64>,
    /// Nelson-Aalen.
    pub cumulative_hazard: Vec<f64>,
    /// Lower limit; none where the scale of the band does not reach (S = 0, and S = 1 for log-log).
    pub lower: Vec<Option<f64>>,
    /// Upper limit, as `lower`.
    pub upper: Vec<Option<f64>>,
}

/// Time by which a share of the patients had the event; none where the curve does not get that far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantile {
    /// From the curve.
    pub time: Option<f64>,
    /// From its lower limit.
    pub lower: Option<f64>,
    /// From its upper limit.
    pub upper: Option<f64>,
}

/// Kaplan-Meier curve of one group; `level` of the band, 0.95 as a rule.
pub fn kaplan_meier(time: &[f64], event: &[u8], band: Band, level: f64) -> Result<Curve, StatisticsError> {
    check(time, event, 1)?;
    check_share("the level of a confidence band", level)?;
    let counts = counts(&tied_times(time), event);
    let z = normal_quantile(0.5 + level / 2.0);
    let (mut s, mut greenwood, mut nelson_aalen) = (1.0, 0.0, 0.0);
    let mut curve = Curve {
        time: Vec::new(),
        n_risk: Vec::new(),
        n_event: Vec::new(),
        n_censor: Vec::new(),
        survival: Vec::new(),
        se_cumulative_hazard: Vec::new(),
        cumulative_hazard: Vec::new(),
        lower: Vec::new(),
        upper: Vec::new(),
    };
    for at in &counts {
        let (n, d) = (at.n_risk as f64, at.n_event as f64);
        if at.n_event > 0 {
            s *= 1.0 - d / n;
            greenwood += d / (n * (n - d));
            nelson_aalen += d / n;
        }
        let se = f64::sqrt(greenwood);
        let (lower, upper) = limits(s, se, z, band).unzip();
        curve.time.push(at.time);
        curve.n_risk.push(at.n_risk);
        curve.n_event.push(at.n_event);
        curve.n_censor.push(at.n_censor);
        curve.survival.push(s);
        curve.se_cumulative_hazard.push(se);
        curve.cumulative_hazard.push(nelson_aalen);
        curve.lower.push(lower);
        curve.upper.push(upper);
    }
    Ok(curve)
}

/// Limits of S from its standard error on the scale of the cumulative hazard; none where the scale of the band ends.
pub fn limits(s: f64, se: f64, z: f64, band: Band) -> Option<(f64, f64)> {
    if s <= 0.0 {
        return None;
    }
    match band {
        Band::Log => Some((s * (-z * se).exp(), (s * (z * se).exp()).min(1.0))),
        Band::LogLog if s == 1.0 => None,
        Band::LogLog => {
            let factor = (z * se / s.ln()).exp();
            Some((s.powf(1.0 / factor), s.powf(factor)))
        }
        Band::Plain => Some(((s - z * se * s).max(0.0), (s + z * se * s).min(1.0))),
    }
}

impl Curve {
    /// S just after `time`.
    pub fn survival_at(&self, time: f64) -> f64 {
        match self.time.partition_point(|&t| t <= time) {
            0 => 1.0,
            after => self.survival[after - 1],
        }
    }

    /// Patients under observation just before `time`, as listed below a plot.
    pub fn n_risk_at(&self, time: f64) -> usize {
        self.n_risk.get(self.time.partition_point(|&t| t < time)).copied().unwrap_or(0)
    }

    /// Time by which the share `p` of patients had the event (`quantile.survfit`): the first time with S <= 1 - p, or
    /// the middle of the flat part where S equals 1 - p.
    pub fn quantile(&self, p: f64) -> Result<Quantile, StatisticsError> {
        check_share("the share of a quantile", p)?;
        let survival: Vec<Option<f64>> = self.survival.iter().map(|&s| Some(s)).collect();
        Ok(Quantile {
            time: crossing(&self.time, &survival, p),
            lower: crossing(&self.time, &self.lower, p),
            upper: crossing(&self.time, &self.upper, p),
        })
    }

    /// Area under the curve up to `horizon` and its standard error (`survmean`); a curve that ends earlier goes on
    /// flat.
    pub fn restricted_mean(&self, horizon: f64) -> (f64, f64) {
        // Corners (start of a step, S on it), then the area to the right of each event.
        let mut corners = vec![(0.0, 1.0)];
        corners.extend(self.time.iter().copied().zip(self.survival.iter().copied()).take_while(|&(t, _)| t < horizon));
        let mut area_right = vec![0.0; corners.len()];
        let (mut end, mut area) = (horizon, 0.0);
        for (k, &(start, s)) in corners.iter().enumerate().rev() {
            area += (end - start) * s;
            area_right[k] = area;
            end = start;
        }
        let mut variance = 0.0;
        for (k, area) in area_right.iter().enumerate().skip(1) {
            let (n, d) = (self.n_risk[k - 1] as f64, self.n_event[k - 1] as f64);
            if n > d {
                variance += area * area * d / (n * (n - d));
            }
        }
        (area, variance.sqrt())
    }
}

/// Where a curve of S (or of one of its limits) meets 1 - p.
fn crossing(time: &[f64], s: &[Option<f64>], p: f64) -> Option<f64> {
    // R's tolerance for "equal", sqrt of the machine epsilon.
    let tolerance = f64::EPSILON.sqrt();
    // Earliest time of the smallest level of 1 - S that is at least `level`: the upper limit may rise again late.
    let first_at_least = |level: f64| {
        let known = time.iter().zip(s).filter_map(|(&t, s)| s.map(|s| (t, 1.0 - s)));
        let reached = [(0.0, 0.0)].into_iter().chain(known).filter(|&(_, y)| y >= level);
        reached.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(t, _)| t)
    };
    let start = first_at_least(p - tolerance)?;
    let ends_at_p = s.last()?.is_some_and(|s| (1.0 - s - p).abs() < tolerance);
    let end = if ends_at_p { *time.last()? } else { first_at_least(p + tolerance)? };
    Some((start + end) / 2.0)
}

/// Comparison of survival between groups.
#[derive(Debug, Clone, PartialEq)]
pub struct LogRank {
    /// Patients of each group.
    pub n: Vec<usize>,
    /// Events of each group, weighted by S(t-)^rho.
    pub observed: Vec<f64>,
    /// Events expected if all groups had the same hazard, weighted alike.
    pub expected: Vec<f64>,
    /// Test statistic.
    pub chi_squared: f64,
    /// Groups with an expected event, less one.
    pub degrees_of_freedom: usize,
    /// P value.
    pub p: f64,
}

/// Log-rank test (`rho` 0) or Peto and Peto's modification of the Wilcoxon test (`rho` 1), as `survdiff`.
/// `group`: 0 for the first group, and so on; `strata`: any numbers, patients are compared within equal ones only.
pub fn log_rank(
    time: &[f64],
    event: &[u8],
    group: &[usize],
    strata: Option<&[usize]>,
    rho: f64,
) -> Result<LogRank, StatisticsError> {
    check(time, event, 1)?;
    check_length("groups", group.len(), time.len())?;
    check_length("strata", strata.map_or(time.len(), <[usize]>::len), time.len())?;
    check_events(event)?;
    check_rho(rho)?;
    let groups = number_of_groups(group)?;
    let time = tied_times(time);
    let mut n = vec![0; groups];
    group.iter().for_each(|&g| n[g] += 1);
    let mut sums =
        Sums { observed: vec![0.0; groups], expected: vec![0.0; groups], variance: Array2::zeros((groups, groups)) };
    for rows in strata_rows(strata, time.len()) {
        sums.add_stratum(&time, event, group, rows, rho);
    }
    let used: Vec<usize> = (0..groups).filter(|&g| sums.expected[g] > 0.0).collect();
    if used.len() < 2 {
        return Err(StatisticsError::Degenerate {
            what: "a comparison of survival needs two groups that were under observation at events".into(),
        });
    }
    // The differences add up to zero, so one group is left out.
    let tested = &used[1..];
    let difference: Array1<f64> = tested.iter().map(|&g| sums.observed[g] - sums.expected[g]).collect();
    let variance = Array2::from_shape_fn((tested.len(), tested.len()), |(i, j)| sums.variance[[tested[i], tested[j]]]);
    let factor = Cholesky::new(variance.view()).map_err(|_| StatisticsError::Singular {
        what: "the groups were never at risk together, so they cannot be compared".into(),
    })?;
    let chi_squared = difference.dot(&factor.solve(difference.view()));
    Ok(LogRank {
        n,
        observed: sums.observed,
        expected: sums.expected,
        chi_squared,
        degrees_of_freedom: tested.len(),
        p: chi_squared_upper_tail(chi_squared, tested.len() as f64),
    })
}

/// [`log_rank`] of every pair of groups, in the order (0, 1), (0, 2), (1, 2), …; p values are not adjusted.
pub fn pairwise_log_rank(
    time: &[f64],
    event: &[u8],
    group: &[usize],
    rho: f64,
) -> Result<Vec<(usize, usize, LogRank)>, StatisticsError> {
    check(time, event, 1)?;
    check_length("groups", group.len(), time.len())?;
    let groups = number_of_groups(group)?;
    let mut found = Vec::new();
    for b in 1..groups {
        for a in 0..b {
            let rows: Vec<usize> = (0..time.len()).filter(|&i| group[i] == a || group[i] == b).collect();
            let pick_time: Vec<f64> = rows.iter().map(|&i| time[i]).collect();
            let pick_event: Vec<u8> = rows.iter().map(|&i| event[i]).collect();
            let pick_group: Vec<usize> = rows.iter().map(|&i| usize::from(group[i] == b)).collect();
            found.push((a, b, log_rank(&pick_time, &pick_event, &pick_group, None, rho)?));
        }
    }
    Ok(found)
}

/// One more than the largest number of a group.
fn number_of_groups(group: &[usize]) -> Result<usize, StatisticsError> {
    match group.iter().max() {
        Some(&last) if last >= GROUPS_MAX => Err(StatisticsError::Degenerate {
            what: format!("group {last} is one of more than {GROUPS_MAX}; groups are numbered from 0"),
        }),
        last => Ok(last.map_or(0, |g| g + 1)),
    }
}

/// Observed and expected events with the variance of their difference, summed over strata.
struct Sums {
    observed: Vec<f64>,
    expected: Vec<f64>,
    variance: Array2<f64>,
}

impl Sums {
    fn add_stratum(&mut self, time: &[f64], event: &[u8], group: &[usize], mut rows: Vec<usize>, rho: f64) {
        rows.sort_by(|&a, &b| time[a].total_cmp(&time[b]));
        let mut at_risk = vec![0.0; self.observed.len()];
        rows.iter().for_each(|&i| at_risk[group[i]] += 1.0);
        let (mut n, mut s) = (rows.len() as f64, 1.0_f64);
        for block in rows.chunk_by(|&a, &b| time[a] == time[b]) {
            let events: f64 = block.iter().map(|&i| f64::from(event[i])).sum();
            if events > 0.0 {
                let weight = s.powf(rho);
                for &i in block {
                    self.observed[group[i]] += weight * f64::from(event[i]);
                }
                // Hypergeometric variance; the last patient alone has none.
                let spread = if n > 1.0 { weight * weight * events * (n - events) / (n - 1.0) } else { 0.0 };
                for (g, &in_g) in at_risk.iter().enumerate() {
                    self.expected[g] += weight * events * in_g / n;
                    for (h, &in_h) in at_risk.iter().enumerate() {
                        let same = f64::from(u8::from(g == h));
                        self.variance[[g, h]] += spread * in_g / n * (same - in_h / n);
                    }
                }
                s *= 1.0 - events / n;
            }
            for &i in block {
                at_risk[group[i]] -= 1.0;
            }
            n -= block.len() as f64;
        }
    }
}

/// Patients at a distinct time.
pub(super) struct Counts {
    pub time: f64,
    pub n_risk: usize,
    pub n_event: usize,
    pub n_censor: usize,
}

/// Counts of one group at each distinct time, ascending; any code but 0 is an event.
pub(super) fn counts(time: &[f64], event: &[u8]) -> Vec<Counts> {
    let order = ascending(time);
    let mut n_risk = time.len();
    let mut found = Vec::new();
    for block in order.chunk_by(|&a, &b| time[a] == time[b]) {
        let n_event = block.iter().filter(|&&i| event[i] != 0).count();
        found.push(Counts { time: time[block[0]], n_risk, n_event, n_censor: block.len() - n_event });
        n_risk -= block.len();
    }
    found
}

/// Rows in ascending order of `value`, equal ones as they came.
pub(super) fn ascending(value: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..value.len()).collect();
    order.sort_by(|&a, &b| value[a].total_cmp(&value[b]));
    order
}

/// Rows of each stratum, strata in ascending order of their number.
pub(super) fn strata_rows(strata: Option<&[usize]>, n: usize) -> Vec<Vec<usize>> {
    let Some(strata) = strata else { return vec![(0..n).collect()] };
    let mut rows: Vec<usize> = (0..n).collect();
    rows.sort_by_key(|&i| strata[i]);
    rows.chunk_by(|&a, &b| strata[a] == strata[b]).map(<[usize]>::to_vec).collect()
}

/// Times with differences of rounding removed (R's `aeqSurv`): a distinct time within sqrt(machine epsilon) of the one
/// before, absolutely or relative to the mean of the distinct times, becomes the first of its run.
pub(super) fn tied_times(time: &[f64]) -> Vec<f64> {
    let mut distinct = time.to_vec();
    distinct.sort_by(f64::total_cmp);
    distinct.dedup();
    let tolerance = f64::EPSILON.sqrt() * (distinct.iter().sum::<f64>() / distinct.len() as f64).max(1.0);
    let mut starts: Vec<f64> = Vec::new();
    for (k, &t) in distinct.iter().enumerate() {
        if k == 0 || t - distinct[k - 1] > tolerance {
            starts.push(t);
        }
    }
    time.iter().map(|&t| starts[starts.partition_point(|&start| start <= t) - 1]).collect()
}

/// Follow-up that makes sense: a row, finite times of at least 0, codes up to `highest`.
pub(super) fn check(time: &[f64], event: &[u8], highest: u8) -> Result<(), StatisticsError> {
    check_length("events", event.len(), time.len())?;
    if time.is_empty() {
        return Err(StatisticsError::Degenerate { what: "there is no patient".into() });
    }
    check_finite("time", time)?;
    if let Some(row) = time.iter().position(|&t| t < 0.0) {
        return Err(StatisticsError::Degenerate { what: format!("time holds a negative value, first at row {row}") });
    }
    if let Some(row) = event.iter().position(|&e| e > highest) {
        return Err(StatisticsError::Degenerate {
            what: format!("event holds the code {}, first at row {row}; codes go from 0 to {highest}", event[row]),
        });
    }
    Ok(())
}

/// At least one event.
pub(super) fn check_events(event: &[u8]) -> Result<(), StatisticsError> {
    if event.iter().all(|&e| e == 0) {
        return Err(StatisticsError::Degenerate { what: "no patient had the event".into() });
    }
    Ok(())
}

/// A weight of times that does not grow without bound.
pub(super) fn check_rho(rho: f64) -> Result<(), StatisticsError> {
    if rho >= 0.0 && rho.is_finite() {
        return Ok(());
    }
    Err(StatisticsError::Degenerate {
        what: format!("the weight of times, rho, is a number from 0 upwards, not {rho}"),
    })
}

/// As many values as rows.
pub(super) fn check_length(what: &'static str, found: usize, expected: usize) -> Result<(), StatisticsError> {
    if found == expected { Ok(()) } else { Err(StatisticsError::Length { what, found, expected }) }
}

/// Finite values only.
pub(super) fn check_finite(what: &'static str, values: &[f64]) -> Result<(), StatisticsError> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(row) => Err(StatisticsError::NotFinite { what, row }),
        None => Ok(()),
    }
}

fn check_share(what: &str, share: f64) -> Result<(), StatisticsError> {
    if share > 0.0 && share < 1.0 {
        return Ok(());
    }
    Err(StatisticsError::Degenerate { what: format!("{what} lies between 0 and 1, not at {share}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_of_four_patients() {
        let curve = kaplan_meier(&[1.0, 2.0, 2.0, 4.0], &[1, 0, 1, 1], Band::Plain, 0.95).unwrap();
        assert_eq!(curve.n_risk, [4, 3, 1]);
        assert_eq!([0.0, 2.0, 2.5, 4.0, 4.5].map(|t| curve.n_risk_at(t)), [4, 3, 1, 1, 0]);
        assert_eq!((curve.survival_at(0.5), curve.survival_at(1.0), curve.survival_at(9.0)), (1.0, 0.75, 0.0));
        assert!((curve.survival_at(3.0) - 0.5).abs() < 1e-15);
        // S is flat at one half from 2 to 4
        assert_eq!(curve.quantile(0.5).unwrap().time, Some(3.0));
        // 1 + 0.75 + 2 * 0.5 = 2.75
        assert!((curve.restricted_mean(4.0).0 - 2.75).abs() < 1e-15);
        assert_eq!(curve.lower[2], None);
    }

    #[test]
    fn times_that_differ_by_rounding_are_tied() {
        let tied = tied_times(&[0.1 + 0.2, 0.3, 5.0]);
        assert_eq!(tied, [0.3, 0.3, 5.0]);
    }
}
