//! ComBat: harmonization of features over centers (Johnson 2007), as neuroCombat computes it.
//!
//! A feature is modelled as mean + covariates + center shift + center scale x noise; shift and scale are removed.
//! Fitted on training rows and applied to any rows of the same centers. The outcome must not be a covariate where a
//! model is judged later.

use super::StatisticsError;
use super::linear::Cholesky;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

/// How the shifts and scales of the centers are estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shrinkage {
    /// Empirical Bayes with normal and inverse gamma priors over the features: the usual choice.
    Parametric,
    /// Empirical Bayes whose prior is the features themselves.
    NonParametric,
    /// Each feature by itself.
    None,
}

/// Choices of [`Combat::fit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CombatOptions {
    /// How the centers' shifts and scales are estimated.
    pub shrinkage: Shrinkage,
    /// Leave the scales alone.
    pub mean_only: bool,
}

/// A fitted harmonization; every number is public, so that it can be stored and applied elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Combat {
    /// Mean of each feature over the centers, weighted by their rows.
    pub grand_mean: Array1<f64>,
    /// Shape (covariates, features).
    pub covariate_effects: Array2<f64>,
    /// Standard deviation of the residuals over all centers, with n; of each feature.
    pub pooled_deviation: Array1<f64>,
    /// Shift of each center in pooled deviations. Shape (centers, features).
    pub center_shift: Array2<f64>,
    /// Variance of each center relative to the pooled one. Shape (centers, features).
    pub center_variance: Array2<f64>,
}

impl Combat {
    /// Fits on `features`, shape (rows, features). `centers`: of each row, numbered 0 to c - 1, all of them present;
    /// `covariates`: what differs between centers by right and is kept, shape (rows, covariates), categories as 0/1
    /// columns without the first level; no columns for none.
    pub fn fit(
        features: ArrayView2<f64>,
        centers: &[usize],
        covariates: ArrayView2<f64>,
        options: CombatOptions,
    ) -> Result<Combat, StatisticsError> {
        check_rows(features, centers, covariates)?;
        let (n, n_features) = features.dim();
        let n_centers = centers.iter().max().map_or(0, |c| c + 1);
        let rows: Vec<Vec<usize>> =
            (0..n_centers).map(|center| (0..n).filter(|&i| centers[i] == center).collect()).collect();
        if let Some(center) = rows.iter().position(|rows| rows.len() < 2) {
            return Err(StatisticsError::Degenerate {
                what: format!("center {center} (from 0) has fewer than two rows"),
            });
        }
        // Least squares on an indicator of each center and the covariates.
        let mut design = Array2::zeros((n, n_centers + covariates.ncols()));
        for (i, &center) in centers.iter().enumerate() {
            design[[i, center]] = 1.0;
        }
        design.slice_mut(ndarray::s![.., n_centers..]).assign(&covariates);
        let inverse = Cholesky::new(design.t().dot(&design).view())?.inverse();
        let effects = inverse.dot(&design.t().dot(&features));
        let shares = Array1::from_iter(rows.iter().map(|rows| rows.len() as f64 / n as f64));
        let grand_mean = shares.dot(&effects.slice(ndarray::s![..n_centers, ..]));
        let residuals = &features - &design.dot(&effects);
        let pooled_deviation = residuals.map_axis(Axis(0), |r| (r.dot(&r) / n as f64).sqrt());
        for (feature, deviation) in pooled_deviation.iter().enumerate() {
            // Rounding of a constant leaves 1e-16 of its value.
            if *deviation <= 1e-12 * grand_mean[feature].abs() {
                let what = format!("feature {feature} (from 0) does not vary within the centers");
                return Err(StatisticsError::Degenerate { what });
            }
        }
        let mut fitted = Combat {
            grand_mean,
            covariate_effects: effects.slice(ndarray::s![n_centers.., ..]).to_owned(),
            pooled_deviation,
            center_shift: Array2::zeros((n_centers, n_features)),
            center_variance: Array2::ones((n_centers, n_features)),
        };
        let standardized = (&features - &fitted.expected(covariates)) / &fitted.pooled_deviation;
        for (center, rows) in rows.iter().enumerate() {
            let (shift, variance) = center_effects(standardized.select(Axis(0), rows).view(), options)?;
            fitted.center_shift.row_mut(center).assign(&shift);
            fitted.center_variance.row_mut(center).assign(&variance);
        }
        Ok(fitted)
    }

    /// Harmonized `features` of rows from known centers, with the same covariates as in the fit.
    pub fn apply(
        &self,
        features: ArrayView2<f64>,
        centers: &[usize],
        covariates: ArrayView2<f64>,
    ) -> Result<Array2<f64>, StatisticsError> {
        check_rows(features, centers, covariates)?;
        for (what, found, expected) in [
            ("the features", features.ncols(), self.grand_mean.len()),
            ("the covariates", covariates.ncols(), self.covariate_effects.nrows()),
        ] {
            if found != expected {
                return Err(StatisticsError::Length { what, found, expected });
            }
        }
        if let Some(center) = centers.iter().find(|&&center| center >= self.center_shift.nrows()) {
            let what = format!("center {center} (from 0) was not in the fit: its shift is unknown");
            return Err(StatisticsError::Degenerate { what });
        }
        let expected = self.expected(covariates);
        let shift = self.center_shift.select(Axis(0), centers);
        let scale = self.center_variance.select(Axis(0), centers).mapv(f64::sqrt);
        let standardized = (&features - &expected) / &self.pooled_deviation;
        Ok((standardized - shift) / scale * &self.pooled_deviation + expected)
    }

    fn expected(&self, covariates: ArrayView2<f64>) -> Array2<f64> {
        covariates.dot(&self.covariate_effects) + &self.grand_mean
    }
}

/// Shift and variance of one center from its standardized rows, shape (rows, features).
fn center_effects(z: ArrayView2<f64>, options: CombatOptions) -> Result<(Array1<f64>, Array1<f64>), StatisticsError> {
    let n = z.nrows() as f64;
    let shift = z.sum_axis(Axis(0)) / n;
    let variance = if options.mean_only {
        Array1::ones(z.ncols())
    } else {
        let centered = &z - &shift;
        (&centered * &centered).sum_axis(Axis(0)) / (n - 1.0)
    };
    if let Some(feature) = variance.iter().position(|v| *v <= 0.0) {
        let what = format!("feature {feature} (from 0) does not vary within one of the centers");
        return Err(StatisticsError::Degenerate { what });
    }
    if options.shrinkage != Shrinkage::None && z.ncols() < 2 {
        let what = "empirical Bayes learns from many features, here is one".into();
        return Err(StatisticsError::Degenerate { what });
    }
    match options.shrinkage {
        Shrinkage::None => Ok((shift, variance)),
        Shrinkage::NonParametric => {
            let (shift, shrunk) = non_parametric(z, shift.view(), variance.view());
            Ok((shift, if options.mean_only { variance } else { shrunk }))
        }
        Shrinkage::Parametric => {
            let (center, spread) = moments(shift.view());
            if options.mean_only {
                let shrunk = shift.mapv(|g| (spread * g + center) / (spread + 1.0));
                return Ok((shrunk, variance));
            }
            let prior = Prior::new(center, spread, variance.view());
            if !prior.shape.is_finite() {
                let what = "all features have the same variance within a center: no prior can be learned".into();
                return Err(StatisticsError::Degenerate { what });
            }
            prior.posterior(z, shift, variance)
        }
    }
}

/// Mean and variance (n - 1).
fn moments(values: ArrayView1<f64>) -> (f64, f64) {
    let n = values.len() as f64;
    let center = values.sum() / n;
    (center, values.iter().map(|v| (v - center) * (v - center)).sum::<f64>() / (n - 1.0))
}

/// Normal prior of the shifts, inverse gamma prior of the variances, by moments over the features.
struct Prior {
    shift_mean: f64,
    shift_variance: f64,
    shape: f64,
    scale: f64,
}

/// The iterations need some ten.
const ITERATIONS_MAX: usize = 10_000;

/// neuroCombat's (and sva's) limit of the relative change. Loose, so that our numbers are theirs only with the same
/// rule.
const CONVERGED: f64 = 1e-4;

impl Prior {
    fn new(shift_mean: f64, shift_variance: f64, variances: ArrayView1<f64>) -> Prior {
        let (m, s) = moments(variances);
        Prior { shift_mean, shift_variance, shape: (2.0 * s + m * m) / s, scale: (m * s + m * m * m) / s }
    }

    /// Alternates between the posterior mean of shift and variance of all features until none changes.
    fn posterior(
        &self,
        z: ArrayView2<f64>,
        estimate: Array1<f64>,
        variance: Array1<f64>,
    ) -> Result<(Array1<f64>, Array1<f64>), StatisticsError> {
        let n = z.nrows() as f64;
        let squares: Vec<f64> = z.columns().into_iter().map(|column| column.dot(&column)).collect();
        let (mut shift, mut scale) = (estimate.clone(), variance);
        for _ in 0..ITERATIONS_MAX {
            let mut change = f64::NEG_INFINITY;
            for f in 0..z.ncols() {
                let (g, d) = (shift[f], scale[f]);
                let new_g =
                    (self.shift_variance * n * estimate[f] + d * self.shift_mean) / (self.shift_variance * n + d);
                // Sum of (z - g)^2; z is standardized, so the expansion loses nothing that matters.
                let sum = squares[f] - 2.0 * n * estimate[f] * new_g + n * new_g * new_g;
                let new_d = (0.5 * sum + self.scale) / (0.5 * n + self.shape - 1.0);
                // Negative shifts never count, in the original as well.
                change = change.max((new_g - g).abs() / g).max((new_d - d).abs() / d);
                shift[f] = new_g;
                scale[f] = new_d;
            }
            if change <= CONVERGED {
                return Ok((shift, scale));
            }
        }
        Err(StatisticsError::NotConverged { what: "ComBat's empirical Bayes", iterations: ITERATIONS_MAX })
    }
}

/// Each feature's shift and variance as the mean of all other features' estimates, weighted by their likelihood for its
/// rows.
fn non_parametric(z: ArrayView2<f64>, shift: ArrayView1<f64>, variance: ArrayView1<f64>) -> (Array1<f64>, Array1<f64>) {
    let (n, features) = (z.nrows() as f64, z.ncols());
    let (mut new_shift, mut new_variance) = (Array1::zeros(features), Array1::zeros(features));
    for f in 0..features {
        let column = z.column(f);
        let mean = column.sum() / n;
        let spread = column.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>();
        let ln_likelihood: Vec<f64> = (0..features)
            .map(|other| {
                let sum = spread + n * (mean - shift[other]).powi(2);
                -0.5 * n * variance[other].ln() - 0.5 * sum / variance[other]
            })
            .collect();
        // Relative to the largest: the product over the rows of a large center underflows.
        let others = (0..features).filter(|&other| other != f);
        let largest = others.clone().map(|other| ln_likelihood[other]).fold(f64::NEG_INFINITY, f64::max);
        let mut total = 0.0;
        for other in others {
            let weight = (ln_likelihood[other] - largest).exp();
            total += weight;
            new_shift[f] += weight * shift[other];
            new_variance[f] += weight * variance[other];
        }
        new_shift[f] /= total;
        new_variance[f] /= total;
    }
    (new_shift, new_variance)
}

fn check_rows(
    features: ArrayView2<f64>,
    centers: &[usize],
    covariates: ArrayView2<f64>,
) -> Result<(), StatisticsError> {
    let expected = features.nrows();
    for (what, found) in [("the centers", centers.len()), ("the covariates", covariates.nrows())] {
        if found != expected {
            return Err(StatisticsError::Length { what, found, expected });
        }
    }
    for (what, table) in [("the features", features), ("the covariates", covariates)] {
        if let Some(row) = table.rows().into_iter().position(|row| row.iter().any(|v| !v.is_finite())) {
            return Err(StatisticsError::NotFinite { what, row });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_shift_between_two_centers_is_removed() {
        let features = array![[0.0, 5.0], [2.0, 7.0], [10.0, 1.0], [12.0, 3.0]];
        let none = Array2::zeros((4, 0));
        let options = CombatOptions { shrinkage: Shrinkage::None, mean_only: false };
        let fitted = Combat::fit(features.view(), &[0, 0, 1, 1], none.view(), options).unwrap();
        let found = fitted.apply(features.view(), &[0, 0, 1, 1], none.view()).unwrap();
        // Both centers meet at the grand mean of 6 and 4.
        assert!((found[[0, 0]] - found[[2, 0]]).abs() < 1e-14 && (found[[0, 1]] - found[[2, 1]]).abs() < 1e-14);
        assert!((found.column(0).sum() - 24.0).abs() < 1e-13 && (found.column(1).sum() - 16.0).abs() < 1e-13);
        assert!(fitted.apply(features.view(), &[0, 0, 1, 2], none.view()).is_err());
        assert!(Combat::fit(features.view(), &[0, 0, 0, 1], none.view(), options).is_err());
        let constant = array![[1.0, 5.0], [1.0, 7.0], [2.0, 1.0], [2.0, 3.0]];
        assert!(Combat::fit(constant.view(), &[0, 0, 1, 1], none.view(), options).is_err());
    }
}
