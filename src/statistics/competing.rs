//! Competing events: cumulative incidence, Gray's test, Fine-Gray regression, as R's package `cmprsk`.
//!
//! `event` is 0 where follow-up was censored, else the number of what happened first; `cause` is the event of interest,
//! all other numbers compete with it.

use super::StatisticsError;
use super::cox::{Derivatives, Sums, Test, check_within, maximize, standardize};
use super::distributions::normal_two_sided;
use super::kaplan_meier::{ascending, check, check_finite, check_length, check_rho, counts, strata_rows, tied_times};
use super::linear::Cholesky;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

/// Largest number of groups that Gray's test compares: it keeps a column of groups for each group and time.
const GROUPS_MAX: usize = 50;

/// Cumulative incidence of a cause in one group.
#[derive(Debug, Clone, PartialEq)]
pub struct Incidence {
    /// Distinct times of events of the cause, ascending.
    pub time: Vec<f64>,
    /// Probability that the cause has come first by each time (Aalen-Johansen).
    pub incidence: Vec<f64>,
    /// Its variance.
    pub variance: Vec<f64>,
    /// Longest follow-up of the group.
    pub last_time: f64,
}

impl Incidence {
    /// Incidence and its variance at `time`; none beyond the longest follow-up.
    pub fn at(&self, time: f64) -> Option<(f64, f64)> {
        if time > self.last_time {
            return None;
        }
        Some(match self.time.partition_point(|&t| t <= time) {
            0 => (0.0, 0.0),
            after => (self.incidence[after - 1], self.variance[after - 1]),
        })
    }
}

/// Cumulative incidence of `cause` in one group (`cuminc`).
///
/// With S the probability of no event of any kind and F the incidence, each event at u moves F(t) by S(u-)/n times 1
/// (if of the cause) less (F(t) - F(u)) / S(u); the variance is the sum of the squares, with a correction for tied
/// events.
pub fn cumulative_incidence(time: &[f64], event: &[u8], cause: u8) -> Result<Incidence, StatisticsError> {
    check_competing(time, event, cause)?;
    let mut found = Incidence { time: Vec::new(), incidence: Vec::new(), variance: Vec::new(), last_time: 0.0 };
    let (mut n, mut s, mut f) = (time.len() as f64, 1.0, 0.0);
    // Sums over events of w a^2, w a b and w b^2, where a square is w (a - F(t) b)^2.
    let mut squares = [0.0; 3];
    for block in ascending(time).chunk_by(|&a, &b| time[a] == time[b]) {
        let [of_cause, other] = tally(block, event, cause);
        let before = s;
        s *= 1.0 - (of_cause + other) / n;
        f += before * of_cause / n;
        let inverse = if s > 0.0 { 1.0 / s } else { 0.0 };
        for (events, direct) in [(of_cause, 1.0), (other, 0.0)] {
            let weight = before * before * tied(events, n) / (n * n);
            let (a, b) = (direct + f * inverse, inverse);
            for (sum, square) in squares.iter_mut().zip([a * a, a * b, b * b]) {
                *sum += weight * square;
            }
        }
        n -= block.len() as f64;
        found.last_time = time[block[0]];
        if of_cause > 0.0 {
            found.time.push(found.last_time);
            found.incidence.push(f);
            found.variance.push(squares[0] - 2.0 * f * squares[1] + f * f * squares[2]);
        }
    }
    Ok(found)
}

/// Events of the cause and of the others among `rows`.
fn tally(rows: &[usize], event: &[u8], cause: u8) -> [f64; 2] {
    let of_cause = rows.iter().filter(|&&i| event[i] == cause).count();
    let censored = rows.iter().filter(|&&i| event[i] == 0).count();
    [of_cause as f64, (rows.len() - of_cause - censored) as f64]
}

/// Number of events times the variance of one that is drawn without replacement from `n`.
fn tied(events: f64, n: f64) -> f64 {
    if events > 1.0 { events * (1.0 - (events - 1.0) / (n - 1.0)) } else { events }
}

/// Gray's test of equal cumulative incidence of `cause` in all groups (`cuminc`): 0 is the first group, and so on.
/// Groups are compared within strata only; `rho` weights times by (1 - incidence)^rho, 0 as a rule.
pub fn gray_test(
    time: &[f64],
    event: &[u8],
    group: &[usize],
    strata: Option<&[usize]>,
    cause: u8,
    rho: f64,
) -> Result<Test, StatisticsError> {
    check_competing(time, event, cause)?;
    check_length("groups", group.len(), time.len())?;
    check_length("strata", strata.map_or(time.len(), <[usize]>::len), time.len())?;
    check_rho(rho)?;
    let mut used: Vec<usize> = group.to_vec();
    used.sort_unstable();
    used.dedup();
    if !(2..=GROUPS_MAX).contains(&used.len()) {
        return Err(StatisticsError::Degenerate {
            what: format!("a comparison of incidence needs 2 to {GROUPS_MAX} groups, not {}", used.len()),
        });
    }
    let group: Vec<usize> = group.iter().map(|&g| used.partition_point(|&u| u < g)).collect();
    let tested = used.len() - 1;
    let mut score = Array1::<f64>::zeros(tested);
    let mut variance = Array2::<f64>::zeros((tested, tested));
    for mut rows in strata_rows(strata, time.len()) {
        rows.sort_by(|&a, &b| time[a].total_cmp(&time[b]));
        let times: Vec<Vec<usize>> = rows.chunk_by(|&a, &b| time[a] == time[b]).map(<[usize]>::to_vec).collect();
        let (s, v) = gray_stratum(&times, event, &group, used.len(), cause, rho);
        score += &s;
        variance += &v;
    }
    let factor = Cholesky::new(variance.view()).map_err(|_| StatisticsError::Singular {
        what: "the groups were never at risk together, so their incidences cannot be compared".into(),
    })?;
    Ok(Test::new(score.dot(&factor.solve(score.view())), tested))
}

/// How the events of one kind in one group at one time move the scores: by `direct` of the column of the group, and by
/// `indirect` times what the integral of these columns gains from here to the end.
struct Source {
    group: usize,
    variance: f64,
    direct: Array1<f64>,
    indirect: f64,
    integral_so_far: Array1<f64>,
}

/// Scores of all groups but the last in one stratum, and their variance (Gray 1988, sections 2 and 3).
/// `times`: rows at each distinct time, ascending.
fn gray_stratum(
    times: &[Vec<usize>],
    event: &[u8],
    group: &[usize],
    groups: usize,
    cause: u8,
    rho: f64,
) -> (Array1<f64>, Array2<f64>) {
    let tested = groups - 1;
    let mut n = vec![0.0; groups];
    times.iter().flatten().for_each(|&i| n[group[i]] += 1.0);
    // Just before the time, in each group: share without any event, incidence of the cause. In all under the hypothesis:
    // incidence of the cause.
    let (mut s, mut f, mut f_all) = (vec![1.0; groups], vec![0.0; groups], 0.0);
    let mut score = Array1::<f64>::zeros(tested);
    let mut integral = Array2::<f64>::zeros((groups, groups));
    let mut sources = Vec::new();
    for block in times {
        let mut events = vec![[0.0; 2]; groups];
        for &i in block.iter().filter(|&&i| event[i] != 0) {
            events[group[i]][usize::from(event[i] != cause)] += 1.0;
        }
        let [of_cause, other] = [0, 1].map(|k| events.iter().map(|e| e[k]).sum::<f64>());
        if of_cause + other > 0.0 {
            let at_risk: Vec<usize> = (0..groups).filter(|&g| n[g] > 0.0).collect();
            // Patients at risk blown up by those lost to other events: what the hazard of the incidence refers to.
            let h: Vec<f64> = (0..groups).map(|g| if n[g] > 0.0 { n[g] / s[g] } else { 0.0 }).collect();
            let h_all: f64 = h.iter().sum();
            let expected_share = |g: usize| h[g] * (1.0 - f[g]);
            let expected_all: f64 = at_risk.iter().map(|&g| expected_share(g)).sum();
            let weight = f64::powf(1.0 - f_all, rho);
            for &g in at_risk.iter().filter(|&&g| g < tested) {
                score[g] += weight * (events[g][0] - of_cause * expected_share(g) / expected_all);
            }
            let kernel = Array2::from_shape_fn((groups, groups), |(i, j)| {
                weight * h[i] * (if i == j { 1.0 } else { 0.0 } - h[j] / h_all)
            });
            integral.scaled_add(of_cause / (h_all * (1.0 - f_all)), &kernel);
            let f_all_after = f_all + of_cause / h_all;
            for &g in &at_risk {
                let [d_cause, d_other] = events[g];
                let s_after = s[g] * (n[g] - d_cause - d_other) / n[g];
                let ratio = if s_after > 0.0 { (1.0 - f_all_after) / s_after } else { 0.0 };
                let mut add = |variance: f64, direct: Array1<f64>, indirect: f64| {
                    let integral_so_far = integral.column(g).to_owned();
                    sources.push(Source { group: g, variance, direct, indirect, integral_so_far });
                };
                if of_cause > 0.0 {
                    // Expected under the hypothesis, from the events of all groups.
                    let variance = s[g] * tied(of_cause, h_all * s[g]) / (h_all * n[g]);
                    add(variance, kernel.column(g).to_owned(), 1.0 - ratio);
                }
                if d_other > 0.0 && s_after > 0.0 {
                    let variance = s[g] * s[g] * tied(d_other, n[g]) / (n[g] * n[g]);
                    add(variance, Array1::zeros(groups), -ratio);
                }
                f[g] += s[g] * d_cause / n[g];
                s[g] = s_after;
            }
            f_all = f_all_after;
        }
        block.iter().for_each(|&i| n[group[i]] -= 1.0);
    }
    let mut variance = Array2::<f64>::zeros((tested, tested));
    for source in &sources {
        let gained = &integral.column(source.group) - &source.integral_so_far;
        let move_of = &source.direct + source.indirect * gained;
        for i in 0..tested {
            for j in 0..tested {
                variance[[i, j]] += source.variance * move_of[i] * move_of[j];
            }
        }
    }
    (score, variance)
}

/// A fitted regression of the subdistribution hazard.
#[derive(Debug, Clone, PartialEq)]
pub struct FineGray {
    /// Log subdistribution hazard ratios.
    pub coefficients: Array1<f64>,
    /// Their covariance (sandwich, with the estimation of censoring).
    pub covariance: Array2<f64>,
    /// Log pseudo-likelihood without predictors and at the coefficients.
    pub log_likelihood: [f64; 2],
    /// Distinct times of events of the cause, ascending.
    pub time: Vec<f64>,
    /// Baseline subdistribution hazard cumulated up to each time: that of a patient whose predictors are all 0.
    pub cumulative_hazard: Vec<f64>,
    /// Longest follow-up.
    pub last_time: f64,
}

impl FineGray {
    /// Standard errors of the coefficients.
    pub fn standard_errors(&self) -> Array1<f64> {
        self.covariance.diag().mapv(f64::sqrt)
    }

    /// Two-sided p values of the coefficients.
    pub fn p(&self) -> Array1<f64> {
        (&self.coefficients / &self.standard_errors()).mapv(normal_two_sided)
    }

    /// Cumulative incidence of the cause for a new patient at `time` (`predict.crr`); unknown, and an error, beyond the
    /// last follow-up.
    pub fn incidence(&self, x: ArrayView1<f64>, time: f64) -> Result<f64, StatisticsError> {
        check_length("predictors of a new patient", x.len(), self.coefficients.len())?;
        check_within(time, &[self.last_time])?;
        Ok(match self.time.partition_point(|&t| t <= time) {
            0 => 0.0,
            after => -(-x.dot(&self.coefficients).exp() * self.cumulative_hazard[after - 1]).exp_m1(),
        })
    }
}

/// Fine and Gray's regression of the cumulative incidence of `cause` (`crr`), with one distribution of censoring for
/// all. `x`: shape (patients, predictors). Tied events see the whole risk set, as after Breslow.
pub fn fine_gray(x: ArrayView2<f64>, time: &[f64], event: &[u8], cause: u8) -> Result<FineGray, StatisticsError> {
    check_competing(time, event, cause)?;
    check_length("rows of x", x.nrows(), time.len())?;
    for column in x.columns() {
        check_finite("x", &column.to_vec())?;
    }
    if event.iter().all(|&e| e != cause) {
        return Err(StatisticsError::Degenerate { what: format!("no patient had the event {cause}") });
    }
    let order = ascending(time);
    let mut standardized = x.select(Axis(0), &order);
    let means = standardized.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(x.ncols()));
    let scale = standardize(&mut standardized);
    let time: Vec<f64> = order.iter().map(|&i| time[i]).collect();
    let event: Vec<u8> = order.iter().map(|&i| event[i]).collect();
    let data = Subdistribution { uncensored: uncensored_before(&time, &event), x: standardized, time, event, cause };
    let null = data.derivatives(&Array1::zeros(x.ncols()));
    // Names dependent columns before the search could run into them.
    Cholesky::new(null.information.view())?;
    let null_log_likelihood = null.log_likelihood;
    let (scaled, at) = maximize("the Fine-Gray model", &data.x, null, |beta| data.derivatives(beta))?;
    let inverse = Cholesky::new(at.information.view())?.inverse();
    let sandwich = inverse.dot(&data.score_variance(&scaled)).dot(&inverse);
    let coefficients = &scaled / &scale;
    let uncentered = (-means.dot(&coefficients)).exp();
    let (mut hazard, mut baseline) = (0.0, Vec::new());
    let steps = data.steps(&scaled);
    for step in &steps {
        hazard += step.hazard() * uncentered;
        baseline.push(hazard);
    }
    Ok(FineGray {
        covariance: Array2::from_shape_fn(sandwich.dim(), |(i, j)| sandwich[[i, j]] / (scale[i] * scale[j])),
        coefficients,
        log_likelihood: [null_log_likelihood, at.log_likelihood],
        time: steps.iter().map(|s| data.time[s.rows.start]).collect(),
        cumulative_hazard: baseline,
        last_time: data.time[data.time.len() - 1],
    })
}

/// Kaplan-Meier estimate of being uncensored just before each time; those with an event at a time are at risk of
/// censoring.
fn uncensored_before(time: &[f64], event: &[u8]) -> Vec<f64> {
    let time = tied_times(time);
    let censored: Vec<u8> = event.iter().map(|&e| u8::from(e == 0)).collect();
    let mut g = 1.0;
    let mut found = Vec::new();
    for at in counts(&time, &censored) {
        found.extend(std::iter::repeat_n(g, at.n_event + at.n_censor));
        g *= 1.0 - at.n_event as f64 / at.n_risk as f64;
    }
    found
}

/// Data of a Fine-Gray fit, rows in ascending order of time. A patient with another event stays in the risk set after
/// it, with the weight G(t-) / G(time-) of still being uncensored.
struct Subdistribution {
    x: Array2<f64>,
    time: Vec<f64>,
    event: Vec<u8>,
    cause: u8,
    /// G(time-), of each row.
    uncensored: Vec<f64>,
}

/// A time with events of the cause.
struct Step {
    /// All rows at the time.
    rows: std::ops::Range<usize>,
    events: f64,
    /// Over the risk set.
    sums: Sums,
}

impl Step {
    fn hazard(&self) -> f64 {
        self.events / self.sums.risk
    }
}

impl Subdistribution {
    fn risks(&self, beta: &Array1<f64>) -> Vec<f64> {
        self.x.dot(beta).iter().map(|eta| eta.exp()).collect()
    }

    fn competes(&self, i: usize) -> bool {
        self.event[i] != 0 && self.event[i] != self.cause
    }

    /// Rows of each distinct time.
    fn blocks(&self) -> Vec<std::ops::Range<usize>> {
        let mut start = 0;
        let lengths = self.time.chunk_by(|a, b| a == b).map(<[f64]>::len);
        lengths.map(|n| (start, start += n).0..start).collect()
    }

    /// Times with events of the cause, ascending.
    fn steps(&self, beta: &Array1<f64>) -> Vec<Step> {
        let risks = self.risks(beta);
        let blocks = self.blocks();
        // Those who had another event before, to be multiplied by G(t-).
        let mut others = Sums::zero(beta.len());
        let mut steps = Vec::new();
        for rows in &blocks {
            let events = rows.clone().filter(|&i| self.event[i] == self.cause).count() as f64;
            if events > 0.0 {
                let sums = Sums::zero(beta.len()).plus(self.uncensored[rows.start], &others);
                steps.push(Step { rows: rows.clone(), events, sums });
            }
            for i in rows.clone().filter(|&i| self.competes(i)) {
                others.add(self.x.row(i), risks[i] / self.uncensored[i]);
            }
        }
        // Those still under observation, from the last backwards.
        let mut at_risk = Sums::zero(beta.len());
        let mut remaining = steps.iter_mut().rev().peekable();
        for rows in blocks.iter().rev() {
            rows.clone().for_each(|i| at_risk.add(self.x.row(i), risks[i]));
            if let Some(step) = remaining.next_if(|step| step.rows == *rows) {
                step.sums = at_risk.clone().plus(1.0, &step.sums);
            }
        }
        steps
    }

    fn derivatives(&self, beta: &Array1<f64>) -> Derivatives {
        let p = beta.len();
        let eta = self.x.dot(beta);
        let mut found =
            Derivatives { log_likelihood: 0.0, score: Array1::zeros(p), information: Array2::zeros((p, p)) };
        for step in self.steps(beta) {
            for i in step.rows.clone().filter(|&i| self.event[i] == self.cause) {
                found.log_likelihood += eta[i];
                found.score += &self.x.row(i);
            }
            found.log_likelihood -= step.events * step.sums.risk.ln();
            found.score.scaled_add(-step.events, &step.sums.mean());
            found.information.scaled_add(step.events, &step.sums.covariance());
        }
        found
    }

    /// Sum of the squares of each patient's part in the score, that in the estimate of censoring included (Fine and
    /// Gray 1999, section 5).
    fn score_variance(&self, beta: &Array1<f64>) -> Array2<f64> {
        let (n, p) = self.x.dim();
        let risks = self.risks(beta);
        let steps = self.steps(beta);
        // Sums over the steps up to and including each, of the hazard and of hazard times mean: as they are, and times
        // G.
        let mut plain = vec![(0.0, Array1::<f64>::zeros(p))];
        let mut weighted = plain.clone();
        for (k, step) in steps.iter().enumerate() {
            let g = self.uncensored[step.rows.start];
            for (sums, factor) in [(&mut plain, 1.0), (&mut weighted, g)] {
                let hazard = factor * step.hazard();
                let next = (sums[k].0 + hazard, &sums[k].1 + hazard * &step.sums.mean());
                sums.push(next);
            }
        }
        let end = steps.len();
        let mut parts = Array2::<f64>::zeros((n, p));
        // Of those with another event before: sums of risk / G and of x risk / G.
        let mut others = (0.0, Array1::<f64>::zeros(p));
        let mut of_censoring = Array1::<f64>::zeros(p);
        for rows in self.blocks() {
            let at_risk = (n - rows.start) as f64;
            // Steps before the time, and up to it.
            let before = steps.partition_point(|s| s.rows.start < rows.start);
            let up_to = steps.partition_point(|s| s.rows.start <= rows.start);
            let rest = weighted[end].0 - weighted[before].0;
            let censoring = rest * &others.1 - others.0 * (&weighted[end].1 - &weighted[before].1);
            let censored = rows.clone().filter(|&i| self.event[i] == 0).count() as f64;
            of_censoring.scaled_add(-censored / (at_risk * at_risk), &censoring);
            for i in rows.clone() {
                let x = self.x.row(i);
                let mut part = parts.row_mut(i);
                part += &of_censoring;
                part.scaled_add(-risks[i], &(&x * plain[up_to].0 - &plain[up_to].1));
                if self.event[i] == self.cause {
                    part += &(&x - &steps[up_to - 1].sums.mean());
                } else if self.event[i] == 0 {
                    part.scaled_add(1.0 / at_risk, &censoring);
                } else {
                    let after = (weighted[end].0 - weighted[up_to].0, &weighted[end].1 - &weighted[up_to].1);
                    part.scaled_add(-risks[i] / self.uncensored[i], &(&x * after.0 - after.1));
                }
            }
            for i in rows.clone().filter(|&i| self.competes(i)) {
                let weight = risks[i] / self.uncensored[i];
                others.0 += weight;
                others.1.scaled_add(weight, &self.x.row(i));
            }
        }
        parts.t().dot(&parts)
    }
}

fn check_competing(time: &[f64], event: &[u8], cause: u8) -> Result<(), StatisticsError> {
    check(time, event, u8::MAX)?;
    if cause == 0 {
        return Err(StatisticsError::Degenerate { what: "code 0 stands for censoring and cannot be the cause".into() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incidences_of_all_causes_add_up_to_those_with_an_event() {
        let (time, event) = ([1.0, 2.0, 3.0, 4.0], [1, 2, 0, 1]);
        let [first, second] = [1, 2].map(|cause| cumulative_incidence(&time, &event, cause).unwrap());
        assert_eq!(first.at(0.5), Some((0.0, 0.0)));
        // 1/4 at 1, then all of the last half at 4
        assert!((first.at(1.5).unwrap().0 - 0.25).abs() < 1e-15);
        assert!((first.at(4.0).unwrap().0 + second.at(4.0).unwrap().0 - 1.0).abs() < 1e-15);
        assert_eq!(first.at(5.0), None);
        // the increment of one event among four, 1 / n^2, as Aalen has it
        assert!((first.at(1.0).unwrap().1 - 1.0 / 16.0).abs() < 1e-15);
    }
}
