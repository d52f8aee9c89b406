//! Small dense linear algebra: symmetric positive definite systems.

use super::StatisticsError;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

/// Cholesky factor L of a symmetric positive definite matrix, `a` = L L'. Shape (n, n); only the lower half is read.
#[derive(Debug, Clone)]
pub struct Cholesky {
    lower: Array2<f64>,
}

impl Cholesky {
    /// Fails where a pivot falls below 1e-12 of its diagonal entry: the columns depend on each other.
    pub fn new(a: ArrayView2<f64>) -> Result<Cholesky, StatisticsError> {
        let n = a.nrows();
        let mut lower = Array2::<f64>::zeros((n, n));
        for j in 0..n {
            for i in j..n {
                let mut sum = a[[i, j]];
                for k in 0..j {
                    sum -= lower[[i, k]] * lower[[j, k]];
                }
                if i > j {
                    lower[[i, j]] = sum / lower[[j, j]];
                } else if sum > 1e-12 * a[[j, j]].abs() {
                    lower[[j, j]] = sum.sqrt();
                } else {
                    return Err(StatisticsError::Singular {
                        what: format!("column {j} (from 0) is a combination of the columns before it"),
                    });
                }
            }
        }
        Ok(Cholesky { lower })
    }

    /// x with `a` x = `b`.
    pub fn solve(&self, b: ArrayView1<f64>) -> Array1<f64> {
        let l = &self.lower;
        let n = l.nrows();
        let mut x = b.to_owned();
        for i in 0..n {
            for k in 0..i {
                x[i] -= l[[i, k]] * x[k];
            }
            x[i] /= l[[i, i]];
        }
        for i in (0..n).rev() {
            for k in i + 1..n {
                x[i] -= l[[k, i]] * x[k];
            }
            x[i] /= l[[i, i]];
        }
        x
    }

    /// ln det `a`.
    pub fn log_determinant(&self) -> f64 {
        2.0 * self.lower.diag().iter().map(|v| v.ln()).sum::<f64>()
    }

    /// The inverse of `a`.
    pub fn inverse(&self) -> Array2<f64> {
        let n = self.lower.nrows();
        let mut inverse = Array2::zeros((n, n));
        for j in 0..n {
            let mut unit = Array1::zeros(n);
            unit[j] = 1.0;
            inverse.column_mut(j).assign(&self.solve(unit.view()));
        }
        inverse
    }

    /// Logarithm of the determinant of `a`.
    pub fn ln_determinant(&self) -> f64 {
        2.0 * self.lower.diag().iter().map(|v| v.ln()).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_system_is_solved_and_a_dependent_column_refused() {
        let a = array![[4.0, 2.0, 0.6], [2.0, 5.0, 1.0], [0.6, 1.0, 3.0]];
        let factor = Cholesky::new(a.view()).unwrap();
        let x = factor.solve(array![1.0, 2.0, 3.0].view());
        let back = a.dot(&x);
        assert!(back.iter().zip([1.0, 2.0, 3.0]).all(|(a, b)| (a - b).abs() < 1e-14));
        assert!((a.dot(&factor.inverse()) - Array2::<f64>::eye(3)).iter().all(|v| v.abs() < 1e-14));
        let det: f64 = 4.0 * (15.0 - 1.0) - 2.0 * (6.0 - 0.6) + 0.6 * (2.0 - 3.0);
        assert!((factor.ln_determinant() - det.ln()).abs() < 1e-14);
        assert!(Cholesky::new(array![[1.0, 2.0], [2.0, 4.0]].view()).is_err());
    }
}
