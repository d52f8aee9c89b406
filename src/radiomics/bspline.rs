//! Cubic B-spline interpolation with ITK's prefilter, mirror border and order of sums.

use super::resample::{Line, is_inside, size_of};
use crate::volume::Scalar;
use ndarray::{Array3, ArrayView3, Axis, s};
use rayon::prelude::*;

/// Coefficients of the spline, over the part of the image that is read.
pub(super) struct Spline {
    /// Shape (z, y, x) of the part.
    coefficients: Array3<f64>,
    /// First voxel of the part, (x, y, z).
    first: [usize; 3],
    /// Size of the whole image, (x, y, z).
    size: [usize; 3],
}

/// First of the four voxels that a value reads along one axis, and their weights.
#[derive(Clone, Copy, Default)]
struct Support {
    at: [usize; 4],
    weight: [f64; 4],
}

impl Spline {
    /// Filters along x, then y, then z, over whole lines (the filter has no end), and keeps what `touched` names: (first,
    /// end) for x, y, z.
    pub fn new<T: Scalar>(view: ArrayView3<T>, touched: [(usize, usize); 3]) -> Spline {
        let [(x0, x1), (y0, y1), (z0, z1)] = touched;
        let size = size_of(&view);
        let mut tall = Array3::zeros((size[2], y1 - y0, x1 - x0));
        let planes: Vec<_> = tall.axis_iter_mut(Axis(0)).zip(view.axis_iter(Axis(0))).collect();
        planes.into_par_iter().for_each(|(mut out, plane)| {
            let mut line = vec![0.0; size[0]];
            let mut columns = vec![vec![0.0; size[1]]; x1 - x0];
            for (y, row) in plane.rows().into_iter().enumerate() {
                line.iter_mut().zip(row).for_each(|(l, v)| *l = v.as_f64());
                prefilter(&mut line);
                columns.iter_mut().zip(&line[x0..x1]).for_each(|(column, v)| column[y] = *v);
            }
            for (x, column) in columns.iter_mut().enumerate() {
                prefilter(column);
                out.slice_mut(s![.., x]).iter_mut().zip(&column[y0..y1]).for_each(|(o, v)| *o = *v);
            }
        });
        let planes: Vec<_> = tall.axis_iter_mut(Axis(1)).collect();
        planes.into_par_iter().for_each(|mut plane| {
            let mut line = vec![0.0; size[2]];
            for mut column in plane.axis_iter_mut(Axis(1)) {
                line.iter_mut().zip(&column).for_each(|(l, v)| *l = *v);
                prefilter(&mut line);
                column.iter_mut().zip(&line).for_each(|(v, l)| *v = *l);
            }
        });
        let coefficients = tall.slice(s![z0..z1, .., ..]).as_standard_layout().into_owned();
        Spline { coefficients, first: [x0, y0, z0], size }
    }

    /// Values along a row of the new grid; outside the image the row keeps what it has.
    pub fn evaluate<T: Scalar>(&self, row: &mut [T], line: Line) {
        if line.is_straight() {
            return self.evaluate_straight(row, line);
        }
        for (k, out) in row.iter_mut().enumerate() {
            let index = line.at(k);
            if !is_inside(index, self.size) {
                continue;
            }
            let [x, y, z]: [Support; 3] = std::array::from_fn(|a| self.support(index[a], a));
            let mut sum = 0.0;
            for (wz, cz) in z.weight.iter().zip(z.at) {
                for (wy, cy) in y.weight.iter().zip(y.at) {
                    for (wx, cx) in x.weight.iter().zip(x.at) {
                        sum += wx * wy * wz * self.coefficients[[cz, cy, cx]];
                    }
                }
            }
            *out = T::from_f64(sum);
        }
    }

    /// The same sums in the same order, all columns of the row side by side.
    fn evaluate_straight<T: Scalar>(&self, row: &mut [T], line: Line) {
        let columns: Vec<usize> = (0..row.len()).filter(|k| is_inside(line.at(*k), self.size)).collect();
        let Some(one) = columns.first() else { return };
        let supports: Vec<Support> = columns.iter().map(|k| self.support(line.at(*k)[0], 0)).collect();
        let index = line.at(*one);
        let (y, z) = (self.support(index[1], 1), self.support(index[2], 2));
        let mut sums = vec![0.0; columns.len()];
        for (wz, cz) in z.weight.iter().zip(z.at) {
            for (wy, cy) in y.weight.iter().zip(y.at) {
                let line = self.coefficients.slice(s![cz, cy, ..]);
                let Some(line) = line.as_slice() else { return };
                for (sum, support) in sums.iter_mut().zip(&supports) {
                    for (wx, cx) in support.weight.iter().zip(support.at) {
                        *sum += wx * wy * wz * line[cx];
                    }
                }
            }
        }
        columns.iter().zip(sums).for_each(|(k, sum)| row[*k] = T::from_f64(sum));
    }

    /// ITK takes the floor of the index as a 32 bit float, and the weights from the index itself.
    fn support(&self, index: f64, axis: usize) -> Support {
        let first = f64::from((index as f32).floor()) - 1.0;
        let w = index - (first + 1.0);
        let w3 = (1.0 / 6.0) * w * w * w;
        let w0 = (1.0 / 6.0) + 0.5 * w * (w - 1.0) - w3;
        let w2 = w + w0 - 2.0 * w3;
        let w1 = 1.0 - w0 - w2 - w3;
        let last = self.size[axis] as i64 - 1;
        let part = self.coefficients.shape()[2 - axis] - 1;
        let at = std::array::from_fn(|k| {
            let mut at = first as i64 + k as i64;
            if last == 0 {
                at = 0;
            } else {
                at = if at < 0 { -at } else { at };
                at = if at > last { last - (at - last) } else { at };
            }
            // Inside by construction; the bounds keep a one- or two-voxel axis safe.
            (at.clamp(0, last) as usize).saturating_sub(self.first[axis]).min(part)
        });
        Support { at, weight: [w0, w1, w2, w3] }
    }
}

/// Turns one line of values into spline coefficients (Unser's recursive filter).
pub(super) fn prefilter(line: &mut [f64]) {
    let n = line.len();
    if n < 2 {
        return;
    }
    let z = 3.0f64.sqrt() - 2.0;
    let gain = (1.0 - z) * (1.0 - 1.0 / z);
    line.iter_mut().for_each(|v| *v *= gain);
    const HORIZON: usize = 18; // ceil(ln 1e-10 / ln |z|)
    let mut power = z;
    if HORIZON < n {
        let mut sum = line[0];
        for v in &line[1..HORIZON] {
            sum += power * v;
            power *= z;
        }
        line[0] = sum;
    } else {
        let back = 1.0 / z;
        let mut mirrored = z.powi(n as i32 - 1);
        let mut sum = line[0] + mirrored * line[n - 1];
        mirrored = mirrored * mirrored * back;
        for v in &line[1..n - 1] {
            sum += (power + mirrored) * v;
            power *= z;
            mirrored *= back;
        }
        line[0] = sum / (1.0 - power * power);
    }
    for i in 1..n {
        line[i] += z * line[i - 1];
    }
    line[n - 1] = (z / (z * z - 1.0)) * (z * line[n - 2] + line[n - 1]);
    for i in (0..n - 1).rev() {
        line[i] = z * (line[i + 1] - line[i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coefficients_give_the_values_back() {
        for n in [2, 3, 10, 40] {
            let values: Vec<f64> = (0..n).map(|i| ((i * i) % 13) as f64).collect();
            let mut c = values.clone();
            prefilter(&mut c);
            for i in 0..n {
                // At a voxel the weights are 1/6, 4/6, 1/6, mirrored at the ends.
                let before = c[if i == 0 { 1 } else { i - 1 }];
                let after = c[if i + 1 == n { n - 2 } else { i + 1 }];
                assert!((before / 6.0 + c[i] * 4.0 / 6.0 + after / 6.0 - values[i]).abs() < 1e-8, "n {n} i {i}");
            }
        }
    }
}
