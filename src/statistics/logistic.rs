//! Logistic regression: maximum likelihood, Firth, intervals, likelihood ratio tests, stepwise selection.
//!
//! [`fit`] follows R's `glm(family = binomial)` step by step (start, stop, and the covariance of the last iteration), so its
//! numbers equal R's to the last printed digits. Unlike R it refuses what has no finite answer: columns that depend on each
//! other, and outcomes that a combination of columns separates. [`firth`] answers in the second case.
//!
//! Everywhere `x` has shape (rows, columns) without a column for the intercept, which every model has; `y` is 0 or 1 for each
//! row. Coefficients are intercept first, so column `j` of `x` is coefficient `j + 1`.

mod profile;
mod stepwise;

pub use stepwise::{Dropped, drop1, step};

use super::StatisticsError;
use super::distributions::{normal_quantile, normal_two_sided};
use super::linear::Cholesky;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use profile::read_profile;

/// R's `glm.control(epsilon)`: the relative change of the deviance at which the iterations end.
const DEVIANCE_TOLERANCE: f64 = 1e-8;
/// R stops at 25; near separation a finite answer may need more.
const ITERATIONS_MAX: usize = 60;
/// A step that moves any linear predictor by more than this, at a deviance that does not change any more, runs to infinity.
const STEP_SETTLED: f64 = 0.1;

/// What each row may have besides predictors and outcome.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Prior weight of each row, at least 0 (R's `weights`); all 1 if absent.
    pub weights: Option<&'a [f64]>,
    /// A known part of each row's linear predictor (R's `offset`); 0 if absent.
    pub offset: Option<&'a [f64]>,
}

/// A fitted logistic regression. Vectors have one entry for each coefficient, the intercept first.
#[derive(Debug, Clone)]
pub struct Logistic {
    /// Log odds (intercept) and log odds ratios per unit of each column.
    pub coefficients: Array1<f64>,
    /// Square roots of the diagonal of `covariance`.
    pub standard_errors: Array1<f64>,
    /// Coefficient over standard error.
    pub z: Array1<f64>,
    /// Two-sided p-value of `z`.
    pub p: Array1<f64>,
    /// Inverse Fisher information, shape (columns + 1, columns + 1).
    pub covariance: Array2<f64>,
    /// Linear predictor of each row, offset included.
    pub linear_predictors: Array1<f64>,
    /// Probability of each row.
    pub probabilities: Array1<f64>,
    /// -2 times the log-likelihood.
    pub deviance: f64,
    /// The deviance of the intercept alone (with the offset).
    pub null_deviance: f64,
    /// Log-likelihood, each row counted by its weight.
    pub log_likelihood: f64,
    /// Akaike's criterion.
    pub aic: f64,
    /// Bayes' criterion; rows of weight 0 do not count.
    pub bic: f64,
    /// Iterations of reweighted least squares.
    pub iterations: usize,
}

impl Logistic {
    /// Wald intervals, (lower, upper) of each coefficient, at `level` such as 0.95.
    pub fn wald_intervals(&self, level: f64) -> Vec<(f64, f64)> {
        let half = normal_quantile(0.5 + level / 2.0);
        self.coefficients.iter().zip(&self.standard_errors).map(|(b, se)| (b - half * se, b + half * se)).collect()
    }

    /// Variance inflation of each column of `x` from the covariance of the fit (R's `rms::vif`).
    pub fn variance_inflation(&self) -> Result<Vec<f64>, StatisticsError> {
        let slopes = self.covariance.slice(ndarray::s![1.., 1..]);
        let sd = slopes.diag().mapv(f64::sqrt);
        let correlation = Array2::from_shape_fn(slopes.dim(), |(i, j)| slopes[[i, j]] / (sd[i] * sd[j]));
        Ok(Cholesky::new(correlation.view())?.inverse().diag().to_vec())
    }

    /// Linear predictors (log odds) of new rows, without an offset. `x`: shape (rows, columns).
    pub fn predict(&self, x: ArrayView2<f64>) -> Result<Array1<f64>, StatisticsError> {
        if x.ncols() + 1 != self.coefficients.len() {
            let expected = self.coefficients.len() - 1;
            return Err(StatisticsError::Length { what: "the columns of new rows", found: x.ncols(), expected });
        }
        finite("a new row", x)?;
        Ok(x.dot(&self.coefficients.slice(ndarray::s![1..])) + self.coefficients[0])
    }
}

/// Probability of a linear predictor (log odds).
pub fn probability(linear_predictor: f64) -> f64 {
    1.0 / (1.0 + (-linear_predictor).exp())
}

/// Maximum likelihood, as R's `glm(y ~ x, family = binomial, weights, offset)`.
///
/// Fails with [`StatisticsError::Separated`] where the estimate is infinite and with [`StatisticsError::Singular`] where
/// columns depend on each other.
pub fn fit(x: ArrayView2<f64>, y: &[f64], options: &Options) -> Result<Logistic, StatisticsError> {
    let rows = Rows::new(x, y, options)?;
    let start = rows.start();
    let found = rows.maximize(start)?;
    rows.summarize(found)
}

/// Firth's penalized likelihood (Jeffreys prior), as R's `brglm2` (`type = "AS_mean"`) and `logistf`: finite also under
/// separation. Deviance, likelihood and criteria of the result are those of the plain likelihood at these estimates; the
/// covariance is the inverse of the plain information there.
pub fn firth(x: ArrayView2<f64>, y: &[f64], options: &Options) -> Result<Logistic, StatisticsError> {
    let rows = Rows::new(x, y, options)?;
    let found = rows.maximize_penalized()?;
    rows.summarize(found)
}

/// Profile likelihood intervals, (lower, upper) of each coefficient, at `level` such as 0.95: R's `confint.glm`, which walks
/// the profile in steps of a fifth of its limit and reads a spline through it. `model` is the [`fit`] of the same arguments.
/// A side on which the likelihood never falls far enough is infinite (R: NA).
pub fn profile_intervals(
    x: ArrayView2<f64>,
    y: &[f64],
    options: &Options,
    model: &Logistic,
    level: f64,
) -> Result<Vec<(f64, f64)>, StatisticsError> {
    let offset = options.offset.map_or_else(|| Array1::zeros(y.len()), |o| Array1::from(o.to_vec()));
    let with_intercept = {
        let mut all = Array2::ones((x.nrows(), x.ncols() + 1));
        all.slice_mut(ndarray::s![.., 1..]).assign(&x);
        all
    };
    let z_limit = normal_quantile(1.0 - (1.0 - level) / 8.0);
    let half = normal_quantile(0.5 + level / 2.0);
    let mut intervals = Vec::new();
    for k in 0..model.coefficients.len() {
        let others: Vec<usize> = (0..x.ncols() + 1).filter(|&j| j != k).collect();
        let x_others = with_intercept.select(Axis(1), &others);
        let (mut values, mut roots) = (vec![model.coefficients[k]], vec![0.0]);
        for sign in [-1.0, 1.0] {
            let mut eta = model.linear_predictors.clone();
            for step in 1..10 {
                let value = model.coefficients[k] + sign * f64::from(step) * z_limit / 5.0 * model.standard_errors[k];
                let fixed = &offset + &(&with_intercept.column(k) * value);
                let fixed = fixed.to_vec();
                let rows = Rows::of(x_others.clone(), y, &Options { weights: options.weights, offset: Some(&fixed) })?;
                let found = rows.maximize(eta)?;
                let root = (found.deviance - model.deviance).max(0.0).sqrt();
                eta = found.eta;
                if sign < 0.0 {
                    values.insert(0, value);
                    roots.insert(0, -root);
                } else {
                    values.push(value);
                    roots.push(root);
                }
                if root >= z_limit {
                    break;
                }
            }
        }
        intervals.push(read_profile(&values, &roots, half));
    }
    Ok(intervals)
}

/// Checked input with an intercept and columns at mean 0 and SD 1, which keeps the normal equations well conditioned.
struct Rows<'a> {
    /// Shape (rows, coefficients), standardized.
    x: Array2<f64>,
    /// Means and SDs that were taken off; 0 and 1 for a constant column that stands for the intercept.
    mean: Array1<f64>,
    sd: Array1<f64>,
    /// Index of the constant column, if the model has one.
    intercept: Option<usize>,
    y: &'a [f64],
    weights: Array1<f64>,
    offset: Array1<f64>,
}

/// Where the iterations ended, in standardized columns.
struct Optimum {
    coefficients: Array1<f64>,
    eta: Array1<f64>,
    information: Cholesky,
    deviance: f64,
    iterations: usize,
}

impl<'a> Rows<'a> {
    fn new(x: ArrayView2<f64>, y: &'a [f64], options: &Options) -> Result<Rows<'a>, StatisticsError> {
        let mut all = Array2::ones((x.nrows(), x.ncols() + 1));
        all.slice_mut(ndarray::s![.., 1..]).assign(&x);
        Rows::of(all, y, options)
    }

    /// `x`: shape (rows, coefficients); a column of ones, if there is one, is first.
    fn of(mut x: Array2<f64>, y: &'a [f64], options: &Options) -> Result<Rows<'a>, StatisticsError> {
        let n = x.nrows();
        let checked = |what, values: Option<&[f64]>, default: f64| match values {
            None => Ok(Array1::from_elem(n, default)),
            Some(v) if v.len() != n => Err(StatisticsError::Length { what, found: v.len(), expected: n }),
            Some(v) => match v.iter().position(|v| !v.is_finite()) {
                Some(row) => Err(StatisticsError::NotFinite { what, row }),
                None => Ok(Array1::from(v.to_vec())),
            },
        };
        checked("the outcome", Some(y), 0.0)?;
        let weights = checked("the weights", options.weights, 1.0)?;
        let offset = checked("the offset", options.offset, 0.0)?;
        finite("a predictor", x.view())?;
        let degenerate = |what: String| Err(StatisticsError::Degenerate { what });
        if let Some(row) = y.iter().position(|&y| y != 0.0 && y != 1.0) {
            return degenerate(format!("the outcome of row {row} (from 0) is neither 0 nor 1"));
        }
        if let Some(row) = weights.iter().position(|&w| w < 0.0) {
            return degenerate(format!("the weight of row {row} (from 0) is negative"));
        }
        let has = |class: f64| y.iter().zip(&weights).any(|(&y, &w)| y == class && w > 0.0);
        if !(has(0.0) && has(1.0)) {
            return degenerate("the outcome has only one class: there is nothing to tell apart".into());
        }
        let used: f64 = weights.iter().filter(|&&w| w > 0.0).count() as f64;
        let (mut mean, mut sd) = (Array1::zeros(x.ncols()), Array1::ones(x.ncols()));
        let intercept = (x.ncols() > 0 && x.column(0).iter().all(|&v| v == 1.0)).then_some(0);
        for (j, mut column) in x.columns_mut().into_iter().enumerate() {
            if intercept == Some(j) {
                continue;
            }
            let counted = |v: &dyn Fn(f64) -> f64, c: ArrayView1<f64>| -> f64 {
                c.iter().zip(&weights).filter(|(_, w)| **w > 0.0).map(|(&c, _)| v(c)).sum::<f64>() / used
            };
            let m = if intercept.is_some() { counted(&|v| v, column.view()) } else { 0.0 };
            let s = counted(&|v| (v - m) * (v - m), column.view()).sqrt();
            let size = column.iter().fold(0.0_f64, |a, v| a.max(v.abs()));
            if s <= 1e-13 * size {
                let name = if intercept.is_some() { j - 1 } else { j };
                return Err(StatisticsError::Singular {
                    what: format!("column {name} (from 0) has the same value in every row"),
                });
            }
            column.mapv_inplace(|v| (v - m) / s);
            (mean[j], sd[j]) = (m, s);
        }
        Ok(Rows { x, mean, sd, intercept, y, weights, offset })
    }

    /// R's start: probabilities (w y + 0.5) / (w + 1).
    fn start(&self) -> Array1<f64> {
        Array1::from_shape_fn(self.y.len(), |i| {
            let p = (self.weights[i] * self.y[i] + 0.5) / (self.weights[i] + 1.0);
            (p / (1.0 - p)).ln()
        })
    }

    fn deviance(&self, eta: &Array1<f64>) -> f64 {
        // log(1 + exp(-eta)) for an event, log(1 + exp(eta)) otherwise, without overflow or cancellation.
        let loss = |margin: f64| if margin > 0.0 { (-margin).exp().ln_1p() } else { margin.exp().ln_1p() - margin };
        let row = |i: usize| self.weights[i] * loss(if self.y[i] > 0.5 { eta[i] } else { -eta[i] });
        2.0 * (0..self.y.len()).map(row).sum::<f64>()
    }

    /// Variance mu (1 - mu) of each row at `eta`, never 0 (R cuts the probabilities at 2e-16 likewise).
    fn probabilities_and_variances(&self, eta: &Array1<f64>) -> (Array1<f64>, Array1<f64>) {
        let mu = eta.mapv(probability);
        let variance = eta.mapv(|e| (probability(e) * probability(-e)).max(f64::EPSILON));
        (mu, variance)
    }

    /// Cholesky factor of X' diag(`weights`) X.
    fn information(&self, weights: &Array1<f64>) -> Result<Cholesky, StatisticsError> {
        let weighted = &self.x * &weights.view().insert_axis(Axis(1));
        Cholesky::new(self.x.t().dot(&weighted).view())
    }

    /// Iteratively reweighted least squares from linear predictors `eta`.
    fn maximize(&self, mut eta: Array1<f64>) -> Result<Optimum, StatisticsError> {
        let mut deviance = self.deviance(&eta);
        let mut coefficients: Option<Array1<f64>> = None;
        let mut step = Array1::zeros(self.y.len());
        for iterations in 1..=ITERATIONS_MAX {
            let (mu, variance) = self.probabilities_and_variances(&eta);
            let working = &self.weights * &variance;
            let information = match self.information(&working) {
                Ok(information) => information,
                Err(singular) => {
                    return Err(self.separation(&step, 1e-3).unwrap_or_else(|| self.named(singular, iterations)));
                }
            };
            let response = Array1::from_shape_fn(self.y.len(), |i| {
                working[i] * (eta[i] - self.offset[i]) + self.weights[i] * (self.y[i] - mu[i])
            });
            let mut next = information.solve(self.x.t().dot(&response).view());
            let mut next_eta = self.x.dot(&next) + &self.offset;
            let mut next_deviance = self.deviance(&next_eta);
            if let Some(previous) = &coefficients {
                // Newton may overshoot far from the optimum; R only halves at infinite deviances.
                for _ in 0..30 {
                    if next_deviance <= deviance * (1.0 + 1e-9) + 1e-9 {
                        break;
                    }
                    next = (&next + previous) / 2.0;
                    next_eta = self.x.dot(&next) + &self.offset;
                    next_deviance = self.deviance(&next_eta);
                }
            }
            let settled = (next_deviance - deviance).abs() / (next_deviance.abs() + 0.1) < DEVIANCE_TOLERANCE;
            step = &next_eta - &eta;
            (eta, deviance) = (next_eta, next_deviance);
            if let Some(separated) = self.complete_separation(&next) {
                return Err(separated);
            }
            let largest = step.iter().fold(0.0_f64, |a, s| a.max(s.abs()));
            if settled && largest < STEP_SETTLED {
                return Ok(Optimum { coefficients: next, eta, information, deviance, iterations });
            }
            if settled && let Some(separated) = self.separation(&step, 1e-5) {
                return Err(separated);
            }
            coefficients = Some(next);
        }
        Err(self
            .separation(&step, 1e-3)
            .unwrap_or(StatisticsError::NotConverged { what: "the logistic regression", iterations: ITERATIONS_MAX }))
    }

    /// Fisher scoring on the score with Firth's correction: X' (w (y - mu) + h (1/2 - mu)), h the leverages.
    fn maximize_penalized(&self) -> Result<Optimum, StatisticsError> {
        const ITERATIONS_MAX: usize = 500;
        let penalized = |eta: &Array1<f64>| -> Result<(f64, Cholesky), StatisticsError> {
            let (_, variance) = self.probabilities_and_variances(eta);
            let information = self.information(&(&self.weights * &variance)).map_err(|e| self.named(e, 1))?;
            Ok((-0.5 * self.deviance(eta) + 0.5 * information.ln_determinant(), information))
        };
        let mut coefficients = Array1::zeros(self.x.ncols());
        let mut eta = self.offset.clone();
        let (mut likelihood, mut information) = penalized(&eta)?;
        for iterations in 1..=ITERATIONS_MAX {
            let (mu, variance) = self.probabilities_and_variances(&eta);
            let inverse = information.inverse();
            let spread = self.x.dot(&inverse);
            let score_rows = Array1::from_shape_fn(self.y.len(), |i| {
                let leverage = self.weights[i] * variance[i] * spread.row(i).dot(&self.x.row(i));
                self.weights[i] * (self.y[i] - mu[i]) + leverage * (0.5 - mu[i])
            });
            let step = inverse.dot(&self.x.t().dot(&score_rows));
            // Steps longer than 5 on the scale of log odds are cut, as in logistf; worse ones are halved.
            let longest = step.iter().fold(0.0_f64, |a, s| a.max(s.abs()));
            let mut factor = if longest > 5.0 { 5.0 / longest } else { 1.0 };
            for halving in 0.. {
                let next = &coefficients + &(&step * factor);
                let next_eta = self.x.dot(&next) + &self.offset;
                match penalized(&next_eta) {
                    Ok((value, factored)) if value >= likelihood - 1e-10 * likelihood.abs() || halving == 20 => {
                        (coefficients, eta, likelihood, information) = (next, next_eta, value, factored);
                        break;
                    }
                    Err(e) if halving == 20 => return Err(e),
                    _ => factor /= 2.0,
                }
            }
            if longest < 1e-11 * (1.0 + coefficients.iter().fold(0.0_f64, |a, c| a.max(c.abs()))) {
                let deviance = self.deviance(&eta);
                return Ok(Optimum { coefficients, eta, information, deviance, iterations });
            }
        }
        Err(StatisticsError::NotConverged { what: "Firth's regression", iterations: ITERATIONS_MAX })
    }

    /// A perfect classification by the columns themselves: the likelihood grows along the coefficients without end.
    fn complete_separation(&self, coefficients: &Array1<f64>) -> Option<StatisticsError> {
        let fitted = self.x.dot(coefficients);
        let apart = (0..self.y.len()).all(|i| self.weights[i] == 0.0 || (2.0 * self.y[i] - 1.0) * fitted[i] > 0.0);
        apart.then(|| self.separated_by(coefficients, true))
    }

    /// A step along which no row gets worse and some get better proves separation (Albert and Anderson 1984). Rows may
    /// turn by `tolerance` of the largest: those on the boundary are pulled a little while the rest runs away.
    fn separation(&self, step: &Array1<f64>, tolerance: f64) -> Option<StatisticsError> {
        let gain = |i: usize| if self.weights[i] > 0.0 { (2.0 * self.y[i] - 1.0) * step[i] } else { 0.0 };
        let largest = (0..self.y.len()).map(gain).fold(0.0, f64::max);
        let boundary = |i: usize| self.weights[i] > 0.0 && gain(i) <= tolerance * largest;
        let runs = largest > STEP_SETTLED && (0..self.y.len()).all(|i| gain(i) >= -tolerance * largest);
        // The direction in coefficients: least squares of the step on the columns.
        let direction =
            |_| self.information(&Array1::ones(self.y.len())).ok().map(|f| f.solve(self.x.t().dot(step).view()));
        let complete = !(0..self.y.len()).any(boundary);
        runs.then_some(()).and_then(direction).map(|d| self.separated_by(&d, complete))
    }

    /// Columns (from 0, of the caller's `x`) with at least a thousandth of the largest part in a direction.
    fn separated_by(&self, direction: &Array1<f64>, complete: bool) -> StatisticsError {
        let first = usize::from(self.intercept.is_some());
        let largest = direction.iter().skip(first).fold(0.0_f64, |a, d| a.max(d.abs()));
        let columns =
            (first..direction.len()).filter(|&j| direction[j].abs() > 1e-3 * largest).map(|j| j - first).collect();
        StatisticsError::Separated { complete, columns }
    }

    /// The error of a factorization in terms of the caller's columns.
    fn named(&self, error: StatisticsError, iterations: usize) -> StatisticsError {
        if iterations > 1 {
            return StatisticsError::NotConverged { what: "the logistic regression", iterations };
        }
        match self.information(&self.weights) {
            Err(_) => {
                let first = usize::from(self.intercept.is_some());
                let dependent = (1..=self.x.ncols()).find(|&k| {
                    let part = self.x.slice(ndarray::s![.., ..k]);
                    Cholesky::new(part.t().dot(&part).view()).is_err()
                });
                let name = dependent.map_or(0, |k| k - 1 - first.min(k - 1));
                StatisticsError::Singular {
                    what: format!("column {name} (from 0) is a combination of the columns before it"),
                }
            }
            Ok(_) => error,
        }
    }

    /// Back to the caller's columns.
    fn summarize(&self, found: Optimum) -> Result<Logistic, StatisticsError> {
        let m = self.x.ncols();
        let mut back = Array2::<f64>::zeros((m, m));
        for j in 0..m {
            back[[j, j]] = 1.0 / self.sd[j];
            if let Some(first) = self.intercept {
                back[[first, j]] -= self.mean[j] / self.sd[j];
            }
        }
        let coefficients = back.dot(&found.coefficients);
        let covariance = back.dot(&found.information.inverse()).dot(&back.t());
        let standard_errors = covariance.diag().mapv(f64::sqrt);
        let z = &coefficients / &standard_errors;
        let used = self.weights.iter().filter(|&&w| w > 0.0).count() as f64;
        Ok(Logistic {
            p: z.mapv(normal_two_sided),
            z,
            standard_errors,
            covariance,
            coefficients,
            probabilities: found.eta.mapv(probability),
            linear_predictors: found.eta,
            deviance: found.deviance,
            null_deviance: self.null_deviance()?,
            log_likelihood: -found.deviance / 2.0,
            aic: found.deviance + 2.0 * m as f64,
            bic: found.deviance + used.ln() * m as f64,
            iterations: found.iterations,
        })
    }

    fn null_deviance(&self) -> Result<f64, StatisticsError> {
        if self.offset.iter().all(|&o| o == 0.0) {
            let events = self.weights.iter().zip(self.y).map(|(w, y)| w * y).sum::<f64>() / self.weights.sum();
            return Ok(self.deviance(&Array1::from_elem(self.y.len(), (events / (1.0 - events)).ln())));
        }
        let intercept = Rows {
            x: Array2::ones((self.y.len(), 1)),
            mean: Array1::zeros(1),
            sd: Array1::ones(1),
            intercept: Some(0),
            y: self.y,
            weights: self.weights.clone(),
            offset: self.offset.clone(),
        };
        Ok(intercept.maximize(self.start())?.deviance)
    }
}

fn finite(what: &'static str, x: ArrayView2<f64>) -> Result<(), StatisticsError> {
    match x.rows().into_iter().position(|row| row.iter().any(|v| !v.is_finite())) {
        Some(row) => Err(StatisticsError::NotFinite { what, row }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_two_by_two_table_gives_the_odds_ratio_by_hand() {
        // 10 of 30 exposed and 5 of 45 unexposed have the event: odds 10/20 and 5/40, ratio 4.
        let x = Array2::from_shape_fn((4, 1), |(i, _)| f64::from(u8::from(i < 2)));
        let y = [1.0, 0.0, 1.0, 0.0];
        let weights = [10.0, 20.0, 5.0, 40.0];
        let model = fit(x.view(), &y, &Options { weights: Some(&weights), offset: None }).unwrap();
        assert!((model.coefficients[1] - 4.0_f64.ln()).abs() < 1e-8);
        assert!((model.coefficients[0] - (5.0_f64 / 40.0).ln()).abs() < 1e-8);
        let variance: f64 = 1.0 / 10.0 + 1.0 / 20.0 + 1.0 / 5.0 + 1.0 / 40.0;
        assert!((model.standard_errors[1] - variance.sqrt()).abs() < 1e-5);
    }

    #[test]
    fn separation_is_named_and_dependent_columns_are_refused() {
        let y = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0];
        let complete = array![[1.0, 0.3], [2.0, -0.2], [3.0, 0.1], [4.0, 0.0], [5.0, 0.2], [6.0, -0.3]];
        let found = fit(complete.view(), &y, &Options::default()).unwrap_err();
        assert!(matches!(&found, StatisticsError::Separated { complete: true, columns } if columns.contains(&0)));
        // Only rows with column 1 set have the event for certain; column 0 has a finite coefficient.
        let quasi = array![[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [1.0, 0.0], [2.5, 1.0], [3.0, 1.0], [0.5, 0.0]];
        let y = [0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0];
        let found = fit(quasi.view(), &y, &Options::default()).unwrap_err();
        assert_eq!(found, StatisticsError::Separated { complete: false, columns: vec![1] });
        let twice = array![[1.0, 2.0], [2.0, 4.0], [3.0, 6.0], [0.0, 0.0], [2.5, 5.0], [3.0, 6.0], [0.5, 1.0]];
        assert!(
            matches!(fit(twice.view(), &y, &Options::default()), Err(StatisticsError::Singular { what }) if what.contains("column 1"))
        );
        assert!(firth(quasi.view(), &y, &Options::default()).is_ok());
    }
}
