//! Shapley values of linear models: what each predictor adds to one patient's prediction.
//!
//! All three satisfy: base value + sum of the values = the patient's prediction, on the scale named.

use super::StatisticsError;
use super::linear::Cholesky;
use super::sample::check;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, Zip};

/// Shapley values and the mean prediction that they start from.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribution {
    /// Prediction of the background, on the same scale as the values.
    pub base: f64,
    /// Shape (rows, predictors).
    pub values: Array2<f64>,
}

/// Predictors of the enumerations at most: 2^20 subsets.
const PREDICTORS_MAX: usize = 20;

/// Interventional values on the log odds (shap's `LinearExplainer` with an independent masker): b (x - mean), exact.
/// `mean`: of each predictor in the background; `rows`: shape (patients, predictors).
pub fn linear(
    intercept: f64,
    coefficients: ArrayView1<f64>,
    mean: ArrayView1<f64>,
    rows: ArrayView2<f64>,
) -> Result<Attribution, StatisticsError> {
    check_model(intercept, coefficients, rows)?;
    check("the background means", &mean.to_vec(), coefficients.len())?;
    Ok(Attribution { base: intercept + coefficients.dot(&mean), values: (&rows - &mean) * coefficients })
}

/// Values on the log odds where absent predictors take their expectation given the present ones, under a normal
/// distribution with `mean` and `covariance` (predictors, predictors) of the background: correlated predictors share
/// what they carry. Exact over all subsets, at most 20 predictors.
pub fn gaussian_conditional(
    intercept: f64,
    coefficients: ArrayView1<f64>,
    mean: ArrayView1<f64>,
    covariance: ArrayView2<f64>,
    rows: ArrayView2<f64>,
) -> Result<Attribution, StatisticsError> {
    check_model(intercept, coefficients, rows)?;
    let k = coefficients.len();
    check("the background means", &mean.to_vec(), k)?;
    check("the covariance", &covariance.iter().copied().collect::<Vec<f64>>(), k * k)?;
    if k > PREDICTORS_MAX {
        return Err(too_many(k));
    }
    // A subset's expectation is linear in x - mean, so the values are as well: one matrix for all patients.
    let mut gains = Array2::<f64>::zeros((k, k));
    let weights = subset_weights(k);
    for subset in 0..1_usize << k {
        let present = members(subset, k);
        let slopes = conditional_slopes(coefficients, covariance, &present)?;
        for i in 0..k {
            // The value of i adds subsets with i and takes away those without.
            let weight = if subset >> i & 1 == 1 { weights[present.len() - 1] } else { -weights[present.len()] };
            for (&j, slope) in present.iter().zip(&slopes) {
                gains[[i, j]] += weight * slope;
            }
        }
    }
    Ok(Attribution { base: intercept + coefficients.dot(&mean), values: (&rows - &mean).dot(&gains.t()) })
}

/// Slopes over the present predictors of E(b'x | present): b_S + S_SS^-1 S_SR b_R.
fn conditional_slopes(
    coefficients: ArrayView1<f64>,
    covariance: ArrayView2<f64>,
    present: &[usize],
) -> Result<Array1<f64>, StatisticsError> {
    let absent: Vec<usize> = (0..coefficients.len()).filter(|j| !present.contains(j)).collect();
    let own = coefficients.select(Axis(0), present);
    if absent.is_empty() || present.is_empty() {
        return Ok(own);
    }
    let among = covariance.select(Axis(0), present);
    let carried = among.select(Axis(1), &absent).dot(&coefficients.select(Axis(0), &absent));
    Ok(own + Cholesky::new(among.select(Axis(1), present).view())?.solve(carried.view()))
}

/// Interventional values on the probability scale: absent predictors take the values of each `background` row in turn,
/// and the probabilities are averaged. Exact over all subsets, at most 20 predictors; shapes (patients, predictors),
/// (rows, predictors).
pub fn probability(
    intercept: f64,
    coefficients: ArrayView1<f64>,
    background: ArrayView2<f64>,
    rows: ArrayView2<f64>,
) -> Result<Attribution, StatisticsError> {
    check_model(intercept, coefficients, rows)?;
    check_model(intercept, coefficients, background)?;
    let k = coefficients.len();
    if k > PREDICTORS_MAX {
        return Err(too_many(k));
    }
    if background.nrows() == 0 {
        return Err(StatisticsError::Degenerate { what: "no background row".into() });
    }
    let terms = &background * &coefficients;
    let starts: Vec<f64> = terms.rows().into_iter().map(|row| intercept + row.sum()).collect();
    let base = starts.iter().map(|lp| expit(*lp)).sum::<f64>() / starts.len() as f64;
    let weights = subset_weights(k);
    let mut values = Array2::zeros(rows.raw_dim());
    let mut linear_predictors = vec![0.0; 1 << k];
    for (row, mut of_row) in rows.rows().into_iter().zip(values.rows_mut()) {
        let own = &row * &coefficients;
        let mut worth = vec![0.0; 1 << k];
        for (term, &start) in terms.rows().into_iter().zip(&starts) {
            linear_predictors[0] = start;
            worth[0] += expit(start);
            for subset in 1..1_usize << k {
                // A subset is a smaller one and its lowest member.
                let lowest = subset.trailing_zeros() as usize;
                let lp = linear_predictors[subset & (subset - 1)] + own[lowest] - term[lowest];
                linear_predictors[subset] = lp;
                worth[subset] += expit(lp);
            }
        }
        for (subset, worth) in worth.iter().enumerate() {
            let size = subset.count_ones() as usize;
            for i in 0..k {
                let weight = if subset >> i & 1 == 1 { weights[size - 1] } else { -weights[size] };
                of_row[i] += weight * worth / starts.len() as f64;
            }
        }
    }
    Ok(Attribution { base, values })
}

impl Attribution {
    /// Mean absolute value of each predictor over the patients.
    pub fn importance(&self) -> Array1<f64> {
        let mut sum = Array1::zeros(self.values.ncols());
        for row in self.values.rows() {
            Zip::from(&mut sum).and(row).for_each(|s: &mut f64, v| *s += v.abs());
        }
        sum / self.values.nrows().max(1) as f64
    }

    /// Predictors by falling importance; ties in their own order.
    pub fn ranking(&self) -> Vec<usize> {
        let importance = self.importance();
        let mut order: Vec<usize> = (0..importance.len()).collect();
        order.sort_by(|&a, &b| importance[b].total_cmp(&importance[a]));
        order
    }
}

/// Weight of a subset of each size without the predictor: size! (k - size - 1)! / k!.
fn subset_weights(k: usize) -> Vec<f64> {
    let mut weights = Vec::with_capacity(k + 1);
    let mut choose = 1.0;
    for size in 0..k {
        weights.push(1.0 / (k as f64 * choose));
        choose *= (k - 1 - size) as f64 / (size + 1) as f64;
    }
    weights.push(0.0);
    weights
}

fn members(subset: usize, k: usize) -> Vec<usize> {
    (0..k).filter(|i| subset >> i & 1 == 1).collect()
}

fn too_many(k: usize) -> StatisticsError {
    let what = format!("{k} predictors: exact Shapley values go over all subsets, of {PREDICTORS_MAX} at most");
    StatisticsError::Degenerate { what }
}

fn check_model(intercept: f64, coefficients: ArrayView1<f64>, rows: ArrayView2<f64>) -> Result<(), StatisticsError> {
    check("the intercept", &[intercept], 1)?;
    check("the coefficients", &coefficients.to_vec(), rows.ncols())?;
    for row in 0..rows.nrows() {
        if rows.row(row).iter().any(|v| !v.is_finite()) {
            return Err(StatisticsError::NotFinite { what: "the predictors", row });
        }
    }
    Ok(())
}

fn expit(v: f64) -> f64 {
    1.0 / (1.0 + (-v).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn values_on_paper() {
        let (b, mean) = (array![2.0, -1.0], array![1.0, 1.0]);
        let rows = array![[2.0, 3.0]];
        let found = linear(0.5, b.view(), mean.view(), rows.view()).unwrap();
        assert_eq!((found.base, found.values), (1.5, array![[2.0, -2.0]]));
        // Two predictors that correlate perfectly but for noise share: with correlation 0.5 each carries half of the
        // other.
        let covariance = array![[1.0, 0.5], [0.5, 1.0]];
        let found = gaussian_conditional(0.5, b.view(), mean.view(), covariance.view(), rows.view()).unwrap();
        // v({1}) = 1.5 x 1, v({2}) = 0 x 2, v({1, 2}) = 0: values 0.5 (1.5 + 0), 0.5 (0 - 1.5).
        assert!((&found.values - &array![[0.75, -0.75]]).iter().all(|v| v.abs() < 1e-15));
        assert_eq!(subset_weights(3), [1.0 / 3.0, 1.0 / 6.0, 1.0 / 3.0, 0.0]);
    }

    #[test]
    fn values_on_the_probability_scale_add_up() {
        let b = array![1.0, 0.5, -2.0];
        let background = array![[0.0, 1.0, 0.5], [1.0, 0.0, 0.0]];
        let found = probability(0.2, b.view(), background.view(), array![[1.0, 2.0, 1.0]].view()).unwrap();
        let prediction = expit(0.2 + 1.0 + 1.0 - 2.0);
        assert!((found.base + found.values.sum() - prediction).abs() < 1e-14);
    }
}
