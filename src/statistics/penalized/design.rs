//! The predictors, standardized, each column contiguous.

use super::super::StatisticsError;
use super::kernels::{Column, LANES};
use ndarray::ArrayView2;
use std::borrow::Cow;

/// A table of at least so many entries is read where it lies, if its columns lie contiguously; smaller ones are copied, which
/// costs little and spares the standardization at each use.
const IN_PLACE_FROM: usize = 1 << 20;

/// The predictors; the last column is constant 1 for the intercept.
pub(super) struct Design<'a> {
    /// Rows, filled up to a multiple of [`LANES`]; those beyond the table have weight 0 everywhere.
    pub(super) n: usize,
    pub(super) p: usize,
    /// Rows of a stored column.
    stored: usize,
    /// A copy is standardized (and filled up with zeros); otherwise this is the caller's table.
    values: Cow<'a, [f64]>,
    ones: Vec<f64>,
    pub(super) mean: Vec<f64>,
    pub(super) sd: Vec<f64>,
    /// Length of each standardized column.
    pub(super) norm: Vec<f64>,
}

impl<'a> Design<'a> {
    /// `x`: shape (rows, columns), taken with rows in `order`. Mean and SD (with n) by `weights`, which are in `order`.
    pub(super) fn new(x: ArrayView2<'a, f64>, order: &[usize], weights: &[f64]) -> Result<Design<'a>, StatisticsError> {
        let (rows, p) = x.dim();
        let n = rows.next_multiple_of(LANES);
        let in_order = order.iter().enumerate().all(|(k, i)| k == *i);
        let in_place = x.reversed_axes().to_slice().filter(|_| in_order && rows * p >= IN_PLACE_FROM);
        let (stored, mut values) = match in_place {
            Some(values) => (rows, Cow::Borrowed(values)),
            None => (n, Cow::Owned(copy(x, order, n))),
        };
        let total: f64 = weights.iter().sum();
        let (mut mean, mut sd, mut norm) = (vec![0.0; p], vec![1.0; p], vec![0.0; p]);
        for j in 0..p {
            let column = &values[j * stored..j * stored + rows];
            if let Some(i) = column.iter().position(|v| !v.is_finite()) {
                return Err(StatisticsError::NotFinite { what: "a predictor", row: order[i] });
            }
            if !is_constant(column, weights) {
                let center = column.iter().zip(weights).map(|(v, w)| w * v).sum::<f64>() / total;
                let squares: f64 = column.iter().zip(weights).map(|(v, w)| w * (v - center) * (v - center)).sum();
                (mean[j], sd[j]) = (center, (squares / total).sqrt());
                if let Cow::Owned(values) = &mut values {
                    let column = &mut values[j * stored..j * stored + rows];
                    column.iter_mut().for_each(|v| *v = (*v - mean[j]) / sd[j]);
                }
            }
        }
        let mut ones = vec![1.0; n];
        ones[rows..].fill(0.0);
        let mut design = Design { n, p, stored, values, ones, mean, sd, norm: Vec::new() };
        for (j, norm) in norm.iter_mut().enumerate() {
            *norm = design.column(j).standardized().map(|v| v * v).sum::<f64>().sqrt();
        }
        design.norm = norm;
        Ok(design)
    }

    /// Column `p` is the constant.
    pub(super) fn column(&self, j: usize) -> Column<'_> {
        if j == self.p {
            return Column { values: &self.ones, center: 0.0, scale: 1.0 };
        }
        let values = &self.values[j * self.stored..(j + 1) * self.stored];
        match self.values {
            Cow::Owned(_) => Column { values, center: 0.0, scale: 1.0 },
            Cow::Borrowed(_) => Column { values, center: self.mean[j], scale: 1.0 / self.sd[j] },
        }
    }

    pub(super) fn columns(&self, which: &[usize]) -> Vec<Column<'_>> {
        which.iter().map(|&j| self.column(j)).collect()
    }
}

/// Columns of `n` rows, the last of them 0.
fn copy(x: ArrayView2<f64>, order: &[usize], n: usize) -> Vec<f64> {
    let (rows, p) = x.dim();
    let mut values = vec![0.0; n * p];
    // In blocks of rows, so that neither side is walked with long strides alone.
    for block in (0..rows).step_by(32) {
        for j in 0..p {
            for i in block..rows.min(block + 32) {
                values[j * n + i] = x[[order[i], j]];
            }
        }
    }
    values
}

fn is_constant(column: &[f64], weights: &[f64]) -> bool {
    let mut used = column.iter().zip(weights).filter(|(_, w)| **w > 0.0).map(|(v, _)| *v);
    let first = used.next();
    used.all(|v| Some(v) == first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, ShapeBuilder};

    #[test]
    fn a_large_table_of_contiguous_columns_is_not_copied() {
        let value = |(i, j): (usize, usize)| ((i * 31 + j * 17) % 101) as f64 + j as f64;
        let by_columns = Array2::from_shape_fn((2100, 500).f(), value);
        let by_rows = Array2::from_shape_fn((2100, 500), value);
        let order: Vec<usize> = (0..2100).collect();
        let weights = vec![1.0; 2100];
        let in_place = Design::new(by_columns.view(), &order, &weights).unwrap();
        let copied = Design::new(by_rows.view(), &order, &weights).unwrap();
        assert!(matches!(in_place.values, Cow::Borrowed(_)) && matches!(copied.values, Cow::Owned(_)));
        for j in [0, 250, 499, 500] {
            let [a, b]: [Vec<f64>; 2] = [&in_place, &copied].map(|d| d.column(j).standardized().take(2100).collect());
            assert!(a.len() == 2100 && a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-13));
        }
        assert!((in_place.norm[3] - 2100_f64.sqrt()).abs() < 1e-9);
    }
}
