//! Calibration of probabilities: intercept, slope, Brier, ICI, Hosmer-Lemeshow, curve, optimism.
//!
//! Conventions of R's rms 6.5 (`val.prob`, `residuals.lrm(type = "gof")`) and ResourceSelection. `outcome`: true where
//! the event happened; `probabilities`: predicted, one for each row.

mod lowess;
mod survival;

pub use lowess::lowess;
pub use survival::{SurvivalCurve, SurvivalGroup, complementary_log_log, survival_groups};

use super::StatisticsError;
use super::distributions::{chi_squared_upper_tail, normal_two_sided};
use super::linear::Cholesky;
use super::roc::auc;
use super::sample::{check, class_sizes, mean, quantile, sorted};
use ndarray::{Array1, Array2, ArrayView2};
use rayon::prelude::*;

/// A coefficient with its standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs, reason = "the field's terms")]
pub struct Coefficient {
    pub value: f64,
    pub standard_error: f64,
}

/// What [`validate_probabilities`] finds; the names of `rms::val.prob` in brackets.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbabilityValidation {
    /// Area under the ROC curve.
    pub auc: f64,
    /// Somers' Dxy, 2 (AUC - 0.5).
    pub dxy: f64,
    /// (C (ROC)) as rms 6.5 prints it: of probabilities in bins of 0.0002, so off by some 1e-5.
    pub auc_binned: f64,
    /// (R2) Nagelkerke's.
    pub r2: f64,
    /// (D) discrimination index.
    pub discrimination: f64,
    /// (D:Chi-sq) likelihood ratio against the prevalence.
    pub discrimination_chi_squared: f64,
    /// (D:p)
    pub discrimination_p: f64,
    /// (U) unreliability index.
    pub unreliability: f64,
    /// (U:Chi-sq) likelihood ratio of the recalibrated against the given probabilities, 2 degrees of freedom.
    pub unreliability_chi_squared: f64,
    /// (U:p)
    pub unreliability_p: f64,
    /// (Q) quality, D - U.
    pub quality: f64,
    /// Mean squared error.
    pub brier: f64,
    /// (Intercept) of the recalibration, fitted together with the slope.
    pub intercept: Coefficient,
    /// (Slope) of the recalibration; below 1 the predictions are too extreme.
    pub slope: Coefficient,
    /// Distances from the smooth calibration curve.
    pub distances: CurveDistances,
    /// (S:z) Spiegelhalter's test of calibration.
    pub spiegelhalter_z: f64,
    /// (S:p)
    pub spiegelhalter_p: f64,
}

/// Distances between the probabilities and the smooth curve (lowess without robustness) of the outcome over them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CurveDistances {
    /// Integrated calibration index: their mean (rms: Eavg).
    pub ici: f64,
    /// Their median.
    pub e50: f64,
    /// Their 90th percentile.
    pub e90: f64,
    /// The largest.
    pub emax: f64,
}

/// All of `rms::val.prob`. Rows with a probability of exactly 0 or 1 stay out of the likelihoods, as there.
pub fn validate_probabilities(
    outcome: &[bool],
    probabilities: &[f64],
) -> Result<ProbabilityValidation, StatisticsError> {
    check_probabilities(outcome, probabilities)?;
    let inner: Vec<usize> = (0..outcome.len()).filter(|&i| probabilities[i] > 0.0 && probabilities[i] < 1.0).collect();
    let y: Vec<bool> = inner.iter().map(|&i| outcome[i]).collect();
    let (events, _) = class_sizes(&y)?;
    let lp: Vec<f64> = inner.iter().map(|&i| logit(probabilities[i])).collect();
    let n = y.len() as f64;
    let prevalence = events as f64 / n;
    let null = -2.0 * n * (prevalence * prevalence.ln() + (1.0 - prevalence) * (1.0 - prevalence).ln());
    let given = deviance(&y, lp.iter().copied());
    let (intercept, slope) = recalibrate(&y, &lp)?;
    let recalibrated = deviance(&y, lp.iter().map(|v| intercept.value + slope.value * v));
    let ratio = null - given;
    let unreliability_chi_squared = given - recalibrated;
    let discrimination = (ratio - 1.0) / n;
    let unreliability = (unreliability_chi_squared - 2.0) / n;
    let auc_exact = auc(outcome, probabilities)?;
    let binned: Vec<f64> = inner.iter().map(|&i| (probabilities[i] * 5000.0).floor()).collect();
    let spiegelhalter_z = spiegelhalter(outcome, probabilities);
    Ok(ProbabilityValidation {
        auc: auc_exact,
        dxy: 2.0 * auc_exact - 1.0,
        auc_binned: auc(&y, &binned)?,
        r2: (1.0 - (-ratio / n).exp()) / (1.0 - (-null / n).exp()),
        discrimination,
        discrimination_chi_squared: ratio,
        discrimination_p: chi_squared_upper_tail(ratio, 1.0),
        unreliability,
        unreliability_chi_squared,
        unreliability_p: chi_squared_upper_tail(unreliability_chi_squared, 2.0),
        quality: discrimination - unreliability,
        brier: brier(outcome, probabilities)?,
        intercept,
        slope,
        distances: curve_distances(outcome, probabilities)?,
        spiegelhalter_z,
        spiegelhalter_p: normal_two_sided(spiegelhalter_z),
    })
}

/// Mean squared error of the probabilities.
pub fn brier(outcome: &[bool], probabilities: &[f64]) -> Result<f64, StatisticsError> {
    check_probabilities(outcome, probabilities)?;
    let squares = outcome.iter().zip(probabilities).map(|(y, p)| (number(*y) - p).powi(2));
    Ok(squares.sum::<f64>() / outcome.len() as f64)
}

/// 1 - Brier score over that of the prevalence: 1 perfect, 0 worthless.
pub fn brier_scaled(outcome: &[bool], probabilities: &[f64]) -> Result<f64, StatisticsError> {
    let (events, others) = class_sizes(outcome)?;
    let n = (events + others) as f64;
    Ok(1.0 - brier(outcome, probabilities)? / (events as f64 / n * (others as f64 / n)))
}

/// Observed over expected events.
pub fn observed_over_expected(outcome: &[bool], probabilities: &[f64]) -> Result<f64, StatisticsError> {
    check_probabilities(outcome, probabilities)?;
    class_sizes(outcome)?;
    Ok(outcome.iter().map(|y| number(*y)).sum::<f64>() / probabilities.iter().sum::<f64>())
}

/// Calibration in the large: intercept of a logistic model with the linear predictor (log odds) as offset.
pub fn in_the_large(outcome: &[bool], linear_predictor: &[f64]) -> Result<Coefficient, StatisticsError> {
    class_sizes(outcome)?;
    check("the linear predictor", linear_predictor, outcome.len())?;
    let mut shift = 0.0;
    for _ in 0..ITERATIONS_MAX {
        let p = linear_predictor.iter().map(|v| expit(v + shift));
        let (mut gradient, mut information) = (0.0, 0.0);
        for (p, y) in p.zip(outcome) {
            gradient += number(*y) - p;
            information += p * (1.0 - p);
        }
        // A far start has hardly any information: no step may leap over the answer.
        let step = (gradient / information).clamp(-2.0, 2.0);
        shift += step;
        if step.abs() < 1e-12 * f64::max(1.0, shift.abs()) {
            return Ok(Coefficient { value: shift, standard_error: 1.0 / information.sqrt() });
        }
    }
    Err(StatisticsError::NotConverged { what: "calibration in the large", iterations: ITERATIONS_MAX })
}

const ITERATIONS_MAX: usize = 100;

/// Weak calibration: intercept and slope of a logistic model of the outcome on the linear predictor (log odds).
pub fn recalibrate(outcome: &[bool], linear_predictor: &[f64]) -> Result<(Coefficient, Coefficient), StatisticsError> {
    class_sizes(outcome)?;
    check("the linear predictor", linear_predictor, outcome.len())?;
    refuse_separation(outcome, linear_predictor)?;
    // Newton's method on the centered predictor, with halved steps where the likelihood falls.
    let center = mean(linear_predictor);
    let fitted = |b: [f64; 2]| linear_predictor.iter().map(move |v| b[0] + b[1] * (v - center));
    let mut b = [0.0, 0.0];
    let mut now = deviance(outcome, fitted(b));
    for _ in 0..ITERATIONS_MAX {
        let (mut gradient, mut information) = ([0.0; 2], [0.0; 3]);
        for ((lp, v), y) in fitted(b).zip(linear_predictor).zip(outcome) {
            let (p, d) = (expit(lp), v - center);
            let w = p * (1.0 - p);
            gradient[0] += number(*y) - p;
            gradient[1] += (number(*y) - p) * d;
            information[0] += w;
            information[1] += w * d;
            information[2] += w * d * d;
        }
        let determinant = information[0] * information[2] - information[1] * information[1];
        if determinant <= 1e-14 * information[0] * information[2] {
            return Err(StatisticsError::Singular { what: "the linear predictor is constant".into() });
        }
        let mut step = [
            (information[2] * gradient[0] - information[1] * gradient[1]) / determinant,
            (information[0] * gradient[1] - information[1] * gradient[0]) / determinant,
        ];
        let mut next = deviance(outcome, fitted([b[0] + step[0], b[1] + step[1]]));
        while next > now + 1e-9 * now.abs() {
            step = [0.5 * step[0], 0.5 * step[1]];
            next = deviance(outcome, fitted([b[0] + step[0], b[1] + step[1]]));
        }
        b = [b[0] + step[0], b[1] + step[1]];
        now = next;
        if step.iter().zip(b).all(|(s, b)| s.abs() < 1e-12 * b.abs().max(1.0)) {
            // Back from the centered predictor: the variance of b0 - center b1.
            let [a, c, s] = information.map(|v| v / determinant);
            let variance = s + 2.0 * center * c + center * center * a;
            let intercept = Coefficient { value: b[0] - center * b[1], standard_error: variance.sqrt() };
            return Ok((intercept, Coefficient { value: b[1], standard_error: a.sqrt() }));
        }
    }
    Err(StatisticsError::NotConverged { what: "the recalibration", iterations: ITERATIONS_MAX })
}

/// With no overlap of the classes the slope is infinite.
fn refuse_separation(outcome: &[bool], predictor: &[f64]) -> Result<(), StatisticsError> {
    let range = |class: bool| {
        let values = outcome.iter().zip(predictor).filter(|(y, _)| **y == class).map(|(_, v)| *v);
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    };
    let ((events_low, events_high), (others_low, others_high)) = (range(true), range(false));
    let constant = events_low.min(others_low) == events_high.max(others_high);
    if !constant && (events_low >= others_high || others_low >= events_high) {
        let what = "the predictions tell all events from all others: the calibration slope is infinite".into();
        return Err(StatisticsError::Degenerate { what });
    }
    Ok(())
}

/// Smooth calibration curve (lowess without robustness, span 2/3) at ascending or unordered `at`, interpolated linearly
/// between the probabilities that occur; none outside their range.
pub fn flexible_curve(
    outcome: &[bool],
    probabilities: &[f64],
    at: &[f64],
) -> Result<Vec<Option<f64>>, StatisticsError> {
    check_probabilities(outcome, probabilities)?;
    let y: Vec<f64> = outcome.iter().map(|y| number(*y)).collect();
    let (x, smooth) = lowess(probabilities, &y, SPAN, 0, None)?;
    Ok(at.iter().map(|&at| interpolate(&x, &smooth, at)).collect())
}

/// Default of R's `lowess`.
const SPAN: f64 = 2.0 / 3.0;

/// ICI, E50, E90 and Emax of the smooth calibration curve.
pub fn curve_distances(outcome: &[bool], probabilities: &[f64]) -> Result<CurveDistances, StatisticsError> {
    let curve = flexible_curve(outcome, probabilities, probabilities)?;
    let distances: Vec<f64> = curve.iter().zip(probabilities).map(|(c, p)| c.map_or(0.0, |c| (c - p).abs())).collect();
    Ok(distances_of(distances))
}

fn distances_of(distances: Vec<f64>) -> CurveDistances {
    let ordered = sorted(&distances);
    CurveDistances {
        ici: mean(&distances),
        e50: quantile(&ordered, 0.5),
        e90: quantile(&ordered, 0.9),
        emax: quantile(&ordered, 1.0),
    }
}

/// Linear interpolation over ascending `x` (R's `approx` with `ties = mean`).
fn interpolate(x: &[f64], y: &[f64], at: f64) -> Option<f64> {
    let above = x.partition_point(|&x| x < at);
    let same = x[above..].iter().take_while(|&&x| x == at).count();
    if same > 0 {
        return Some(mean(&y[above..above + same]));
    }
    if above == 0 || above == x.len() {
        return None;
    }
    let mean_at = |v: f64| {
        let (first, last) = (x.partition_point(|&x| x < v), x.partition_point(|&x| x <= v));
        mean(&y[first..last])
    };
    let (left, right) = (x[above - 1], x[above]);
    Some(mean_at(left) + (mean_at(right) - mean_at(left)) * (at - left) / (right - left))
}

/// One group of the Hosmer-Lemeshow test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RiskGroup {
    /// Rows.
    pub n: usize,
    /// Events.
    pub observed: usize,
    /// Sum of the probabilities.
    pub expected: f64,
    /// Their mean.
    pub mean_probability: f64,
}

/// Hosmer and Lemeshow's goodness of fit.
#[derive(Debug, Clone, PartialEq)]
pub struct HosmerLemeshow {
    /// From low to high risk.
    pub groups: Vec<RiskGroup>,
    /// The statistic.
    pub chi_squared: f64,
    /// p with g - 2 degrees of freedom, for the sample that the model was fitted on; none for fewer than three groups.
    pub p_development: Option<f64>,
    /// p with g degrees of freedom, for new patients.
    pub p_external: f64,
}

/// Groups by quantiles (type 7) of the probabilities, each open to the left and the lowest value included; equal
/// quantiles merge groups. `groups`: 10, or 5 for small samples.
pub fn hosmer_lemeshow(
    outcome: &[bool],
    probabilities: &[f64],
    groups: usize,
) -> Result<HosmerLemeshow, StatisticsError> {
    check_probabilities(outcome, probabilities)?;
    class_sizes(outcome)?;
    if groups < 2 || groups > outcome.len() {
        return Err(StatisticsError::Degenerate { what: format!("{groups} groups of {} rows", outcome.len()) });
    }
    let ordered = sorted(probabilities);
    let mut upper: Vec<f64> = (1..=groups)
        // k times 1 / g, as R's `seq` steps.
        .map(|k| quantile(&ordered, (k as f64 * (1.0 / groups as f64)).min(1.0)))
        .collect();
    upper.dedup();
    let mut found = vec![RiskGroup { n: 0, observed: 0, expected: 0.0, mean_probability: 0.0 }; upper.len()];
    for (&y, &p) in outcome.iter().zip(probabilities) {
        let group = &mut found[upper.partition_point(|&u| u < p).min(upper.len() - 1)];
        group.n += 1;
        group.observed += usize::from(y);
        group.expected += p;
    }
    found.retain(|g| g.n > 0);
    let mut chi_squared = 0.0;
    for group in &mut found {
        group.mean_probability = group.expected / group.n as f64;
        let gap = group.observed as f64 - group.expected;
        let spread = group.expected * (1.0 - group.mean_probability);
        chi_squared += if gap == 0.0 { 0.0 } else { gap * gap / spread };
    }
    let g = found.len();
    Ok(HosmerLemeshow {
        chi_squared,
        p_development: (g > 2).then(|| chi_squared_upper_tail(chi_squared, g as f64 - 2.0)),
        p_external: chi_squared_upper_tail(chi_squared, g as f64),
        groups: found,
    })
}

/// Goodness of fit by the unweighted sum of squares (le Cessie, van Houwelingen, Copas, Hosmer).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SumOfSquaresTest {
    /// Sum of squared errors.
    pub sum_of_squares: f64,
    /// What it should be if the model holds.
    pub expected: f64,
    /// Its standard deviation then.
    pub standard_deviation: f64,
    /// Standardized difference.
    pub z: f64,
    /// Two-sided.
    pub p: f64,
}

/// Test of a logistic model on its own sample. `predictors`: shape (rows, columns), without the intercept.
pub fn sum_of_squares_test(
    outcome: &[bool],
    predictors: ArrayView2<f64>,
    probabilities: &[f64],
) -> Result<SumOfSquaresTest, StatisticsError> {
    check_probabilities(outcome, probabilities)?;
    let (n, k) = predictors.dim();
    if n != outcome.len() {
        return Err(StatisticsError::Length { what: "the predictors", found: n, expected: outcome.len() });
    }
    for column in predictors.columns() {
        check("a predictor", &column.to_vec(), n)?;
    }
    // Weighted regression of 1 - 2 p on the standardized predictors (the residuals do not notice the scaling).
    let mut x = Array2::ones((n, k + 1));
    for (j, column) in predictors.columns().into_iter().enumerate() {
        let center = column.sum() / n as f64;
        let scale = (column.iter().map(|v| (v - center).powi(2)).sum::<f64>() / n as f64).sqrt();
        let scaled = column.mapv(|v| (v - center) / if scale > 0.0 { scale } else { 1.0 });
        x.column_mut(j + 1).assign(&scaled);
    }
    let weights = Array1::from_iter(probabilities.iter().map(|p| p * (1.0 - p)));
    let target = Array1::from_iter(probabilities.iter().map(|p| 1.0 - 2.0 * p));
    let weighted = &x * &weights.view().insert_axis(ndarray::Axis(1));
    let beta = Cholesky::new(weighted.t().dot(&x).view())?.solve(weighted.t().dot(&target).view());
    let residuals = &target - &x.dot(&beta);
    let standard_deviation = (&residuals * &residuals).dot(&weights).sqrt();
    let sum_of_squares = brier(outcome, probabilities)? * n as f64;
    let expected = weights.sum();
    let z = (sum_of_squares - expected) / standard_deviation;
    Ok(SumOfSquaresTest { sum_of_squares, expected, standard_deviation, z, p: normal_two_sided(z) })
}

/// Bootstrap of a model: how much better it looks on its own sample (Harrell 1996).
#[derive(Debug, Clone, PartialEq)]
pub struct Optimism {
    /// One for each replicate that could be fitted.
    pub replicates: Vec<Replicate>,
    /// Replicates in which the fit failed, with the first reason.
    pub failed: usize,
    /// Of the model fitted on all rows.
    pub apparent_auc: f64,
    /// Of the model fitted on all rows.
    pub apparent_brier: f64,
}

/// One bootstrap sample's model on that sample and on the original rows.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs, reason = "the field's terms")]
pub struct Replicate {
    pub auc_in_sample: f64,
    pub auc_on_original: f64,
    pub brier_in_sample: f64,
    pub brier_on_original: f64,
    pub intercept_on_original: f64,
    pub slope_on_original: f64,
}

impl Optimism {
    fn mean(&self, of: impl Fn(&Replicate) -> f64) -> f64 {
        self.replicates.iter().map(of).sum::<f64>() / self.replicates.len() as f64
    }

    /// Mean fall of the AUC from the bootstrap sample to the original rows.
    pub fn auc(&self) -> f64 {
        self.mean(|r| r.auc_in_sample - r.auc_on_original)
    }

    /// Apparent AUC less its optimism.
    pub fn corrected_auc(&self) -> f64 {
        self.apparent_auc - self.auc()
    }

    /// Apparent Brier score less its (negative) optimism.
    pub fn corrected_brier(&self) -> f64 {
        self.apparent_brier - self.mean(|r| r.brier_in_sample - r.brier_on_original)
    }

    /// Mean slope on the original rows; apparently it is 1.
    pub fn corrected_slope(&self) -> f64 {
        self.mean(|r| r.slope_on_original)
    }

    /// Mean intercept on the original rows; apparently it is 0.
    pub fn corrected_intercept(&self) -> f64 {
        self.mean(|r| r.intercept_on_original)
    }
}

/// Optimism over given bootstrap samples, each a list of row numbers from 0. `fit` gets such a list, runs the whole
/// procedure on these rows (repeats count) and returns the linear predictors (log odds) of *all* rows. Replicates run
/// in parallel; the result does not depend on the number of threads. Fails with the first error if no replicate could
/// be fitted.
pub fn optimism<F>(outcome: &[bool], samples: &[Vec<usize>], fit: F) -> Result<Optimism, StatisticsError>
where
    F: Fn(&[usize]) -> Result<Vec<f64>, StatisticsError> + Sync,
{
    class_sizes(outcome)?;
    let all: Vec<usize> = (0..outcome.len()).collect();
    let predictor = fit(&all)?;
    let probabilities: Vec<f64> = predictor.iter().map(|v| expit(*v)).collect();
    let outcomes: Vec<Result<Replicate, StatisticsError>> =
        samples.par_iter().map(|rows| replicate(outcome, rows, &fit)).collect();
    let first_error = outcomes.iter().find_map(|r| r.as_ref().err().cloned());
    let replicates: Vec<Replicate> = outcomes.into_iter().flatten().collect();
    if replicates.is_empty() {
        let none = StatisticsError::Degenerate { what: "no bootstrap sample".into() };
        return Err(first_error.unwrap_or(none));
    }
    Ok(Optimism {
        failed: samples.len() - replicates.len(),
        replicates,
        apparent_auc: auc(outcome, &predictor)?,
        apparent_brier: brier(outcome, &probabilities)?,
    })
}

fn replicate<F>(outcome: &[bool], rows: &[usize], fit: &F) -> Result<Replicate, StatisticsError>
where
    F: Fn(&[usize]) -> Result<Vec<f64>, StatisticsError>,
{
    if let Some(row) = rows.iter().find(|&&row| row >= outcome.len()) {
        let what = format!("a bootstrap sample names row {row} of {} (from 0)", outcome.len());
        return Err(StatisticsError::Degenerate { what });
    }
    let predictor = fit(rows)?;
    check("the fitted linear predictor", &predictor, outcome.len())?;
    let sample_outcome: Vec<bool> = rows.iter().map(|&i| outcome[i]).collect();
    let sample_predictor: Vec<f64> = rows.iter().map(|&i| predictor[i]).collect();
    let probabilities = |v: &[f64]| v.iter().map(|v| expit(*v)).collect::<Vec<f64>>();
    let (intercept, slope) = recalibrate(outcome, &predictor)?;
    Ok(Replicate {
        auc_in_sample: auc(&sample_outcome, &sample_predictor)?,
        auc_on_original: auc(outcome, &predictor)?,
        brier_in_sample: brier(&sample_outcome, &probabilities(&sample_predictor))?,
        brier_on_original: brier(outcome, &probabilities(&predictor))?,
        intercept_on_original: intercept.value,
        slope_on_original: slope.value,
    })
}

fn check_probabilities(outcome: &[bool], probabilities: &[f64]) -> Result<(), StatisticsError> {
    check("the probabilities", probabilities, outcome.len())?;
    if outcome.is_empty() {
        return Err(StatisticsError::Degenerate { what: "no row".into() });
    }
    if let Some(p) = probabilities.iter().find(|p| !(0.0..=1.0).contains(*p)) {
        return Err(StatisticsError::Degenerate { what: format!("{p} is no probability") });
    }
    Ok(())
}

fn spiegelhalter(outcome: &[bool], probabilities: &[f64]) -> f64 {
    let (mut sum, mut square) = (0.0, 0.0);
    for (&y, &p) in outcome.iter().zip(probabilities) {
        sum += (number(y) - p) * (1.0 - 2.0 * p);
        square += (1.0 - 2.0 * p).powi(2) * p * (1.0 - p);
    }
    if sum == 0.0 { 0.0 } else { sum / square.sqrt() }
}

fn number(y: bool) -> f64 {
    f64::from(u8::from(y))
}

fn expit(v: f64) -> f64 {
    1.0 / (1.0 + (-v).exp())
}

fn logit(p: f64) -> f64 {
    p.ln() - (-p).ln_1p()
}

/// -2 log likelihood of log odds.
fn deviance(outcome: &[bool], linear_predictor: impl Iterator<Item = f64>) -> f64 {
    // ln(1 + e^-v) for events, ln(1 + e^v) for others, neither overflowing.
    let part = |(y, v): (&bool, f64)| {
        let v = if *y { -v } else { v };
        v.max(0.0) + (-v.abs()).exp().ln_1p()
    };
    2.0 * outcome.iter().zip(linear_predictor).map(part).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_of_val_prob_is_that_of_its_bins() {
        // rms 6.5.0: val.prob(p, y)["C (ROC)"] = 0.409090909090909; the exact one is 0.4065657.
        let p = [
            497045, 500133, 492418, 493187, 505892, 495329, 506618, 503125, 499771, 494980, 495858, 498258, 492309,
            498722, 494251, 500062, 498885, 504439, 497039, 496721, 496587, 499921, 497787, 501763, 500366, 500036,
            499062, 496172, 498895, 495082, 494479, 495309, 503393, 492113, 495650, 502423, 499070, 507727, 496943,
            498261,
        ]
        .map(|millionths| f64::from(millionths) / 1e6);
        let y = "0010100110010010101011000011101001101010".bytes().map(|b| b == b'1').collect::<Vec<bool>>();
        let found = validate_probabilities(&y, &p).unwrap();
        assert!((found.auc_binned - 0.409090909090909).abs() < 1e-14, "{}", found.auc_binned);
        assert!((found.auc - 0.4065657).abs() < 1e-7, "{}", found.auc);
    }

    #[test]
    fn calibration_on_paper() {
        // Half of the rows have the event where a quarter was predicted: the log odds are short by ln 3.
        let outcome = [true, false, true, false];
        let shift = in_the_large(&outcome, &[-(3.0_f64.ln()); 4]).unwrap();
        assert!((shift.value - 3.0_f64.ln()).abs() < 1e-14);
        assert!((shift.standard_error - 1.0).abs() < 1e-14);
        assert_eq!(brier(&outcome, &[0.5; 4]).unwrap(), 0.25);
        assert_eq!(brier_scaled(&outcome, &[0.5; 4]).unwrap(), 0.0);
        assert_eq!(observed_over_expected(&outcome, &[0.25; 4]).unwrap(), 2.0);
        assert!(matches!(recalibrate(&outcome, &[1.0; 4]), Err(StatisticsError::Singular { .. })));
        assert!(recalibrate(&outcome, &[2.0, 0.0, 3.0, 1.0]).is_err());
    }
}
