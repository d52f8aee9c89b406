//! Proportional hazards: fit, baseline hazard, prediction, tests, test of proportionality, as R's `coxph`, `basehaz`,
//! `survfit.coxph` and `cox.zph`.
//!
//! `x` has shape (patients, predictors); `time` and `event` are as in [`super::kaplan_meier`]. Patients are compared
//! within strata only, numbered as the caller likes; without strata all are in stratum 0.

mod firth;
mod proportionality;
mod stepwise;

pub use firth::firth;
pub use proportionality::{Proportionality, TimeScale, proportionality};
pub use stepwise::step;

use super::StatisticsError;
use super::distributions::{chi_squared_upper_tail, normal_quantile, normal_two_sided};
use super::kaplan_meier::{Band, check, check_events, check_finite, check_length, limits, strata_rows, tied_times};
use super::linear::Cholesky;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

/// Newton's method ends here; well-behaved data need fewer than 10 steps.
const ITERATIONS_MAX: usize = 60;

/// How events at the same time share their risk set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ties {
    /// Tied events leave the risk set one after the other, on average: R's default.
    Efron,
    /// All tied events see the whole risk set.
    Breslow,
}

/// A chi-squared test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// Test statistic.
    pub chi_squared: f64,
    /// Degrees of freedom.
    pub degrees_of_freedom: usize,
    /// P value.
    pub p: f64,
}

impl Test {
    pub(super) fn new(chi_squared: f64, degrees_of_freedom: usize) -> Test {
        // A model without predictors differs from none in nothing.
        let p =
            if degrees_of_freedom == 0 { 1.0 } else { chi_squared_upper_tail(chi_squared, degrees_of_freedom as f64) };
        Test { chi_squared, degrees_of_freedom, p }
    }
}

/// Cumulative baseline hazard of a stratum: that of a patient whose predictors equal [`Cox::means`].
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    /// Number of the stratum.
    pub stratum: usize,
    /// Distinct times of the stratum, events and censorings alike, ascending.
    pub time: Vec<f64>,
    /// Cumulative hazard just after each time.
    pub cumulative_hazard: Vec<f64>,
    /// Variance of the cumulative hazard as if the coefficients were known.
    variance: Vec<f64>,
    /// Cumulative sum of hazard times the mean predictors (less [`Cox::means`]) of those at risk; shape (times,
    /// predictors).
    mean_hazard: Array2<f64>,
}

/// A fitted model.
#[derive(Debug, Clone, PartialEq)]
pub struct Cox {
    /// Log hazard ratios.
    pub coefficients: Array1<f64>,
    /// Their covariance: the inverse of the information.
    pub covariance: Array2<f64>,
    /// Log partial likelihood without predictors and at the coefficients.
    pub log_likelihood: [f64; 2],
    /// Test of all coefficients by the likelihood ratio.
    pub likelihood_ratio: Test,
    /// Test of all coefficients by their covariance.
    pub wald: Test,
    /// Test of all coefficients by the score at 0; for one factor without ties it is the log-rank test.
    pub score: Test,
    /// What R centers the predictors at: the mean, but 0 for a column that holds -1, 0 and 1 only.
    pub means: Array1<f64>,
    /// Centered at `means`, one for each patient of the fit.
    pub linear_predictors: Vec<f64>,
    /// Observed less expected events, one for each patient of the fit.
    pub martingale_residuals: Vec<f64>,
    /// One for each stratum, in ascending order of its number.
    pub baselines: Vec<Baseline>,
    /// Treatment of ties in the fit.
    pub ties: Ties,
}

/// Predicted survival of a patient at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Predicted {
    /// Probability of no event.
    pub survival: f64,
    /// Standard error of the cumulative hazard, that of the coefficients included.
    pub se_cumulative_hazard: f64,
}

impl Predicted {
    /// Confidence limits of the survival; none where the scale of the band ends.
    pub fn limits(&self, band: Band, level: f64) -> Option<(f64, f64)> {
        limits(self.survival, self.se_cumulative_hazard, normal_quantile(0.5 + level / 2.0), band)
    }
}

/// Fits the model by maximum partial likelihood.
///
/// Columns that depend on each other, and a likelihood that keeps rising with a coefficient (as when all events fall on
/// one side of a predictor), are errors: R would warn and return a number.
pub fn cox(
    x: ArrayView2<f64>,
    time: &[f64],
    event: &[u8],
    strata: Option<&[usize]>,
    ties: Ties,
) -> Result<Cox, StatisticsError> {
    let mut data = Data::new(x, time, event, strata, ties)?;
    let p = x.ncols();
    let means: Array1<f64> = x.columns().into_iter().map(column_center).collect();
    // Fit on columns with mean 0 and mean absolute deviation 1: the coefficients and their steps are then of one size.
    let scale = standardize(&mut data.x);
    let null = data.derivatives(&Array1::zeros(p));
    let score = null.score.dot(&Cholesky::new(null.information.view())?.solve(null.score.view()));
    let null_log_likelihood = null.log_likelihood;
    let (scaled, at) = maximize("the Cox model", &data.x, null, |beta| data.derivatives(beta))?;
    let likelihoods = [null_log_likelihood, at.log_likelihood];
    data.finish(x, strata, [means, scale, scaled], &at.information, likelihoods, score)
}

impl Cox {
    /// Standard errors of the coefficients.
    pub fn standard_errors(&self) -> Array1<f64> {
        self.covariance.diag().mapv(f64::sqrt)
    }

    /// Coefficients over their standard errors.
    pub fn z(&self) -> Array1<f64> {
        &self.coefficients / &self.standard_errors()
    }

    /// Two-sided p values of the coefficients.
    pub fn p(&self) -> Array1<f64> {
        self.z().mapv(normal_two_sided)
    }

    /// Confidence limits of the coefficients; their exponentials are those of the hazard ratios.
    pub fn confidence_limits(&self, level: f64) -> Vec<(f64, f64)> {
        let z = normal_quantile(0.5 + level / 2.0);
        self.coefficients.iter().zip(self.standard_errors()).map(|(b, se)| (b - z * se, b + z * se)).collect()
    }

    /// Variance inflation of each column, from the correlations of the estimates (rms `vif`).
    pub fn variance_inflation(&self) -> Result<Vec<f64>, StatisticsError> {
        let sd = self.standard_errors();
        let correlation =
            Array2::from_shape_fn(self.covariance.dim(), |(i, j)| self.covariance[[i, j]] / (sd[i] * sd[j]));
        Ok(Cholesky::new(correlation.view())?.inverse().diag().to_vec())
    }

    /// Linear predictor of a new patient, centered at `means`.
    pub fn linear_predictor(&self, x: ArrayView1<f64>) -> Result<f64, StatisticsError> {
        check_length("predictors of a new patient", x.len(), self.means.len())?;
        Ok((&x - &self.means).dot(&self.coefficients))
    }

    /// Survival of a new patient at `time` with the baseline of a stratum (`survfit.coxph`). Beyond the last follow-up
    /// of the stratum, and for a stratum that was not in the fit, it is unknown: an error.
    pub fn predict(&self, x: ArrayView1<f64>, stratum: usize, time: f64) -> Result<Predicted, StatisticsError> {
        let risk = self.linear_predictor(x)?.exp();
        let Some(baseline) = self.baselines.iter().find(|b| b.stratum == stratum) else {
            return Err(StatisticsError::Degenerate { what: format!("nobody of stratum {stratum} was in the fit") });
        };
        check_within(time, &baseline.time)?;
        let after = baseline.time.partition_point(|&t| t <= time);
        if after == 0 {
            return Ok(Predicted { survival: 1.0, se_cumulative_hazard: 0.0 });
        }
        let hazard = baseline.cumulative_hazard[after - 1];
        let shift = hazard * (&x - &self.means) - baseline.mean_hazard.row(after - 1);
        let variance = baseline.variance[after - 1] + shift.dot(&self.covariance.dot(&shift));
        Ok(Predicted { survival: (-hazard * risk).exp(), se_cumulative_hazard: risk * variance.sqrt() })
    }
}

/// Fails for a time beyond the last of an ascending list.
pub(super) fn check_within(time: f64, times: &[f64]) -> Result<(), StatisticsError> {
    match times.last() {
        Some(&last) if time <= last => Ok(()),
        _ => Err(StatisticsError::Degenerate { what: format!("time {time} lies beyond the follow-up of the fit") }),
    }
}

/// Where R centers a column.
fn column_center(column: ArrayView1<f64>) -> f64 {
    if column.iter().all(|&v| v == 0.0 || v.abs() == 1.0) { 0.0 } else { column.mean().unwrap_or(0.0) }
}

/// Shifts each column to mean 0 and scales it to mean absolute deviation 1; returns what the columns were divided by.
pub(super) fn standardize(x: &mut Array2<f64>) -> Array1<f64> {
    let mut scale = Array1::ones(x.ncols());
    for (j, mut column) in x.columns_mut().into_iter().enumerate() {
        let mean = column.mean().unwrap_or(0.0);
        column -= mean;
        let deviation = column.mapv(f64::abs).mean().unwrap_or(0.0);
        if deviation > 0.0 {
            scale[j] = deviation;
            column /= deviation;
        }
    }
    scale
}

/// Newton's method with halved steps from 0, where the derivatives are `at`; `x` are the centered predictors.
pub(super) fn maximize(
    what: &'static str,
    x: &Array2<f64>,
    mut at: Derivatives,
    derivatives: impl Fn(&Array1<f64>) -> Derivatives,
) -> Result<(Array1<f64>, Derivatives), StatisticsError> {
    let not_converged = StatisticsError::NotConverged { what, iterations: ITERATIONS_MAX };
    let mut beta = Array1::zeros(at.score.len());
    for _ in 0..ITERATIONS_MAX {
        let Ok(factor) = Cholesky::new(at.information.view()) else { return Err(monotone(&beta)) };
        let step = factor.solve(at.score.view());
        let gain = step.dot(&at.score);
        // Near a maximum the step shrinks along with the gain. Where it still moves the risk of some patient by a
        // percent while nothing is gained, it follows a ridge without end, on which Newton's method takes steps of
        // about 1.
        if gain < 1e-9 && x.dot(&step).iter().any(|moved| moved.abs() > 0.01) {
            return Err(monotone(&step));
        }
        let mut share = 1.0;
        let (next_beta, next) = loop {
            let next_beta = &beta + share * &step;
            let next = derivatives(&next_beta);
            // Rounding may lower the likelihood by some of its last digits at the maximum.
            if next.log_likelihood >= at.log_likelihood - 1e-12 * at.log_likelihood.abs() {
                break (next_beta, next);
            }
            share /= 2.0;
            if share < 1e-9 {
                return Err(not_converged);
            }
        };
        (beta, at) = (next_beta, next);
        // The error after a step of length e in standard errors is of the order of e^2: 1e-14 here.
        if gain < 1e-14 {
            return Ok((beta, at));
        }
    }
    Err(not_converged)
}

/// The error of a likelihood without maximum, naming the column that runs fastest.
fn monotone(direction: &Array1<f64>) -> StatisticsError {
    let fastest = (0..direction.len()).max_by(|&a, &b| direction[a].abs().total_cmp(&direction[b].abs())).unwrap_or(0);
    StatisticsError::Singular {
        what: format!(
            "the likelihood keeps rising with the coefficient of column {fastest} (from 0): it separates those with \
             the event from those without, alone or with other columns, so it has no finite estimate"
        ),
    }
}

/// What a fit goes through again and again.
struct Data<'a> {
    /// Shape (patients, predictors), shifted and scaled as the use needs it.
    x: Array2<f64>,
    time: Vec<f64>,
    event: &'a [u8],
    /// Rows of each stratum, latest first.
    strata: Vec<Vec<usize>>,
    ties: Ties,
}

/// Log partial likelihood, its gradient and its negative second derivatives.
pub(super) struct Derivatives {
    pub log_likelihood: f64,
    pub score: Array1<f64>,
    pub information: Array2<f64>,
}

/// Sums of risk, risk times x and risk times x x' over patients.
#[derive(Clone)]
pub(super) struct Sums {
    pub risk: f64,
    pub x: Array1<f64>,
    /// Lower half.
    pub xx: Array2<f64>,
}

impl Sums {
    pub(super) fn zero(p: usize) -> Sums {
        Sums { risk: 0.0, x: Array1::zeros(p), xx: Array2::zeros((p, p)) }
    }

    pub(super) fn add(&mut self, x: ArrayView1<f64>, risk: f64) {
        self.risk += risk;
        for (i, &xi) in x.iter().enumerate() {
            let weighted = risk * xi;
            self.x[i] += weighted;
            for (j, &xj) in x.iter().enumerate().take(i + 1) {
                self.xx[[i, j]] += weighted * xj;
            }
        }
    }

    /// These and `share` of others.
    pub(super) fn plus(mut self, share: f64, others: &Sums) -> Sums {
        self.risk += share * others.risk;
        self.x.scaled_add(share, &others.x);
        self.xx.scaled_add(share, &others.xx);
        self
    }

    /// Mean of x, weighted by risk.
    pub(super) fn mean(&self) -> Array1<f64> {
        &self.x / self.risk
    }

    /// Covariance of x, weighted by risk.
    pub(super) fn covariance(&self) -> Array2<f64> {
        let mean = self.mean();
        Array2::from_shape_fn(self.xx.dim(), |(i, j)| self.xx[[i.max(j), i.min(j)]] / self.risk - mean[i] * mean[j])
    }
}

/// A time with events in a stratum.
struct EventTime<'a> {
    stratum: usize,
    time: f64,
    dead: &'a [usize],
    at_risk: &'a Sums,
    dying: &'a Sums,
}

/// The risk set that one of tied events sees.
struct Part {
    /// Share by which all that have the event now are out of it.
    gone: f64,
    sums: Sums,
}

impl EventTime<'_> {
    fn parts(&self, ties: Ties) -> impl Iterator<Item = Part> + '_ {
        let deaths = self.dead.len();
        (0..deaths).map(move |k| {
            let gone = if ties == Ties::Efron { k as f64 / deaths as f64 } else { 0.0 };
            Part { gone, sums: self.at_risk.clone().plus(-gone, self.dying) }
        })
    }
}

impl Data<'_> {
    fn new<'a>(
        x: ArrayView2<f64>,
        time: &[f64],
        event: &'a [u8],
        strata: Option<&[usize]>,
        ties: Ties,
    ) -> Result<Data<'a>, StatisticsError> {
        check(time, event, 1)?;
        check_length("rows of x", x.nrows(), time.len())?;
        check_length("strata", strata.map_or(time.len(), <[usize]>::len), time.len())?;
        for column in x.columns() {
            check_finite("x", &column.to_vec())?;
        }
        check_events(event)?;
        let time = tied_times(time);
        let mut strata = strata_rows(strata, time.len());
        strata.iter_mut().for_each(|rows| rows.sort_by(|&a, &b| time[b].total_cmp(&time[a])));
        Ok(Data { x: x.to_owned(), time, event, strata, ties })
    }

    /// The model of coefficients `scaled` for columns that were divided by `scale`, with the information there.
    fn finish(
        mut self,
        x: ArrayView2<f64>,
        strata: Option<&[usize]>,
        [means, scale, scaled]: [Array1<f64>; 3],
        information: &Array2<f64>,
        log_likelihood: [f64; 2],
        score: f64,
    ) -> Result<Cox, StatisticsError> {
        let p = x.ncols();
        let inverse = Cholesky::new(information.view())?.inverse();
        let coefficients = &scaled / &scale;
        self.x = &x - &means;
        let linear_predictors = self.x.dot(&coefficients).to_vec();
        let (baselines, martingale_residuals) = self.baselines(&linear_predictors, strata);
        Ok(Cox {
            coefficients,
            covariance: Array2::from_shape_fn((p, p), |(i, j)| inverse[[i, j]] / (scale[i] * scale[j])),
            log_likelihood,
            likelihood_ratio: Test::new(2.0 * (log_likelihood[1] - log_likelihood[0]), p),
            wald: Test::new(scaled.dot(&information.dot(&scaled)), p),
            score: Test::new(score, p),
            means,
            linear_predictors,
            martingale_residuals,
            baselines,
            ties: self.ties,
        })
    }

    /// Goes through the event times of each stratum, latest first, with sums over the patients at risk.
    fn walk(&self, risk: &[f64], mut visit: impl FnMut(&EventTime)) {
        let p = self.x.ncols();
        for (stratum, rows) in self.strata.iter().enumerate() {
            let mut at_risk = Sums::zero(p);
            for block in rows.chunk_by(|&a, &b| self.time[a] == self.time[b]) {
                let mut dying = Sums::zero(p);
                let dead: Vec<usize> = block.iter().copied().filter(|&i| self.event[i] == 1).collect();
                block.iter().for_each(|&i| at_risk.add(self.x.row(i), risk[i]));
                if !dead.is_empty() {
                    dead.iter().for_each(|&i| dying.add(self.x.row(i), risk[i]));
                    let time = self.time[block[0]];
                    visit(&EventTime { stratum, time, dead: &dead, at_risk: &at_risk, dying: &dying });
                }
            }
        }
    }

    fn derivatives(&self, beta: &Array1<f64>) -> Derivatives {
        let p = beta.len();
        let eta = self.x.dot(beta);
        let risk: Vec<f64> = eta.iter().map(|e| e.exp()).collect();
        let mut found =
            Derivatives { log_likelihood: 0.0, score: Array1::zeros(p), information: Array2::zeros((p, p)) };
        self.walk(&risk, |at| {
            for &i in at.dead {
                found.log_likelihood += eta[i];
                found.score += &self.x.row(i);
            }
            for part in at.parts(self.ties) {
                found.log_likelihood -= part.sums.risk.ln();
                found.score -= &part.sums.mean();
                found.information += &part.sums.covariance();
            }
        });
        found
    }

    /// Cumulative hazards of the strata and martingale residuals; `x` is centered as the linear predictors are.
    fn baselines(&self, linear_predictors: &[f64], strata: Option<&[usize]>) -> (Vec<Baseline>, Vec<f64>) {
        struct Increment {
            time: f64,
            hazard: f64,
            variance: f64,
            mean_hazard: Array1<f64>,
            // What those dying see of the hazard: after Efron they are partly gone.
            hazard_of_dying: f64,
        }
        let p = self.x.ncols();
        let risk: Vec<f64> = linear_predictors.iter().map(|eta| eta.exp()).collect();
        let mut increments: Vec<Vec<Increment>> = self.strata.iter().map(|_| Vec::new()).collect();
        self.walk(&risk, |at| {
            let mut sum = Increment {
                time: at.time,
                hazard: 0.0,
                variance: 0.0,
                mean_hazard: Array1::zeros(p),
                hazard_of_dying: 0.0,
            };
            for part in at.parts(self.ties) {
                let hazard = 1.0 / part.sums.risk;
                sum.hazard += hazard;
                sum.variance += hazard * hazard;
                sum.mean_hazard.scaled_add(hazard, &part.sums.mean());
                sum.hazard_of_dying += (1.0 - part.gone) * hazard;
            }
            increments[at.stratum].push(sum);
        });
        let mut residuals = vec![0.0; risk.len()];
        let mut baselines = Vec::new();
        for (rows, increments) in self.strata.iter().zip(&increments) {
            let mut next = increments.iter().rev().peekable();
            let (mut hazard, mut variance, mut mean_hazard) = (0.0, 0.0, Array1::<f64>::zeros(p));
            let mut baseline = Baseline {
                stratum: strata.map_or(0, |s| s[rows[0]]),
                time: Vec::new(),
                cumulative_hazard: Vec::new(),
                variance: Vec::new(),
                mean_hazard: Array2::zeros((0, p)),
            };
            let mut means = Vec::new();
            for block in rows.chunk_by(|&a, &b| self.time[a] == self.time[b]).rev() {
                let time = self.time[block[0]];
                let before = hazard;
                let mut of_dying = 0.0;
                if let Some(at) = next.next_if(|at| at.time == time) {
                    hazard += at.hazard;
                    variance += at.variance;
                    mean_hazard += &at.mean_hazard;
                    of_dying = at.hazard_of_dying;
                }
                for &i in block {
                    let seen = if self.event[i] == 1 { before + of_dying } else { hazard };
                    residuals[i] = f64::from(self.event[i]) - risk[i] * seen;
                }
                baseline.time.push(time);
                baseline.cumulative_hazard.push(hazard);
                baseline.variance.push(variance);
                means.extend(mean_hazard.iter().copied());
            }
            baseline.mean_hazard = Array2::from_shape_vec((baseline.time.len(), p), means)
                .expect("one value for each time and predictor was pushed");
            baselines.push(baseline);
        }
        (baselines, residuals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn one_event_against_one_patient_decides_nothing_finite() {
        // The patient with x = 1 has the only event, so its hazard ratio has no bound.
        let x = array![[1.0], [0.0]];
        let error = cox(x.view(), &[1.0, 2.0], &[1, 0], None, Ties::Efron).unwrap_err();
        assert!(matches!(error, StatisticsError::Singular { .. }), "{error}");
    }

    #[test]
    fn a_coefficient_that_can_be_found_on_paper() {
        // x = 1 dies first of (1, 0, 1), then x = 0 of (0, 1): the likelihood is e^b / (2 e^b + 1) / (1 + e^b),
        // largest where 2 e^(2b) = 1.
        let x = array![[1.0], [0.0], [1.0]];
        let fit = cox(x.view(), &[1.0, 2.0, 3.0], &[1, 1, 0], None, Ties::Breslow).unwrap();
        assert!((fit.coefficients[0] + 0.5 * f64::ln(2.0)).abs() < 1e-12);
    }
}
