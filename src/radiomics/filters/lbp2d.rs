//! Local binary patterns in the plane, as scikit-image's `local_binary_pattern` computes them.

use super::{FilterSettings, Lbp2dMethod};
use crate::radiomics::region::{Bounds, Grid};
use crate::volume::Scalar;
use ndarray::{Array3, ArrayView2, Axis, Zip};
use std::f64::consts::PI;

/// Patterns in the slices of `axis` (0 = z, 1 = y, 2 = x), inside `bounds`; they are cut to the pixel type of the image.
pub(super) fn transform<T: Scalar>(
    image: &Grid<T>,
    bounds: Bounds,
    axis: usize,
    settings: &FilterSettings,
) -> Array3<f64> {
    let mut codes = patterns(image, bounds, axis, settings);
    codes.mapv_inplace(cast::<T>);
    codes
}

/// The patterns of an image that is a plane, in 64 bits.
pub(super) fn plane<T: Scalar>(image: &Grid<T>, bounds: Bounds, settings: &FilterSettings) -> Array3<f64> {
    patterns(image, bounds, 0, settings)
}

fn patterns<T: Scalar>(image: &Grid<T>, bounds: Bounds, axis: usize, settings: &FilterSettings) -> Array3<f64> {
    let circle = Circle::new(settings);
    let [x0, y0, z0] = bounds.first;
    let [nx, ny, nz] = bounds.size;
    let first = [z0, y0, x0];
    let mut out = Array3::zeros((nz, ny, nx));
    // scikit-image sees the slices with the first axis in the place of the one that it steps along.
    let (rows, columns) = match axis {
        0 => (1, 2),
        1 => (0, 2),
        _ => (1, 0),
    };
    Zip::indexed(out.axis_iter_mut(Axis(axis))).par_for_each(|i, mut plane| {
        let slice = image.voxels.index_axis(Axis(axis), first[axis] + i);
        let turned = rows > columns;
        let slice = if turned { slice.reversed_axes() } else { slice };
        let mut texture = vec![0.0; circle.offsets.len()];
        for ((a, b), value) in plane.indexed_iter_mut() {
            let (r, c) = if turned { (b, a) } else { (a, b) };
            *value = circle.code(&slice, first[rows] + r, first[columns] + c, settings.lbp_2d_method, &mut texture);
        }
    });
    out
}

/// C's cast of a double: integers wrap, NaN becomes their lowest 32 bit value.
fn cast<T: Scalar>(value: f64) -> f64 {
    if !T::INTEGER {
        return T::from_f64(value).as_f64();
    }
    let whole = if value.is_nan() { i64::from(i32::MIN) } else { value as i64 };
    let bits = 8 * T::BYTES as u32;
    let kept = whole & ((1i64 << bits) - 1);
    let signed = T::from_f64(-1.0).as_f64() < 0.0;
    (if signed && kept >> (bits - 1) == 1 { kept - (1i64 << bits) } else { kept }) as f64
}

/// The samples around a voxel.
struct Circle {
    /// Rows and columns from the center.
    offsets: Vec<(f64, f64)>,
}

impl Circle {
    fn new(settings: &FilterSettings) -> Circle {
        // scikit-image takes the radius in 32 bits and rounds the places to 5 decimals.
        let radius = f64::from(settings.lbp_2d_radius as f32);
        let n = settings.lbp_2d_samples;
        let rounded = |v: f64| (v * 1e5).round_ties_even() / 1e5;
        let place = |i: usize| {
            let angle = 2.0 * PI * i as f64 / n as f64;
            (rounded(-radius * angle.sin()), rounded(radius * angle.cos()))
        };
        Circle { offsets: (0..n).map(place).collect() }
    }

    fn code<T: Scalar>(
        &self,
        slice: &ArrayView2<T>,
        r: usize,
        c: usize,
        method: Lbp2dMethod,
        texture: &mut [f64],
    ) -> f64 {
        for (value, (dr, dc)) in texture.iter_mut().zip(&self.offsets) {
            *value = bilinear(slice, r as f64 + dr, c as f64 + dc);
        }
        let center = slice[[r, c]].as_f64();
        let bit = |i: usize| texture[i] - center >= 0.0;
        let n = texture.len();
        match method {
            Lbp2dMethod::Var => variance(texture),
            Lbp2dMethod::Uniform => {
                let changes = (1..n).filter(|i| bit(i - 1) != bit(*i)).count();
                if changes <= 2 { (0..n).filter(|i| bit(*i)).count() as f64 } else { n as f64 + 1.0 }
            }
            Lbp2dMethod::Default => f64::from(number(n, bit)),
            Lbp2dMethod::Ror => {
                let start = number(n, bit);
                let turned = |v: i32| v >> 1 | (v & 1).wrapping_shl(n as u32 - 1);
                let all = std::iter::successors(Some(start), |v| Some(turned(*v))).take(n);
                f64::from(all.min().unwrap_or(start))
            }
        }
    }
}

/// The bits as a number of 32 bits, the first sample lowest.
fn number(n: usize, bit: impl Fn(usize) -> bool) -> i32 {
    (0..n.min(32)).filter(|i| bit(*i)).fold(0, |sum, i| sum | 1i32.wrapping_shl(i as u32))
}

fn variance(texture: &[f64]) -> f64 {
    let n = texture.len() as f64;
    let (sum, squares) = texture.iter().fold((0.0, 0.0), |(sum, squares), v| (sum + v, squares + v * v));
    let variance = (squares - (sum * sum) / n) / n;
    if variance == 0.0 { f64::NAN } else { variance }
}

/// Between four pixels; zero outside the image.
fn bilinear<T: Scalar>(slice: &ArrayView2<T>, r: f64, c: f64) -> f64 {
    let (rows, columns) = slice.dim();
    let (low_r, low_c, high_r, high_c) = (r.floor(), c.floor(), r.ceil(), c.ceil());
    let (dr, dc) = (r - low_r, c - low_c);
    let pixel = |r: f64, c: f64| {
        let inside = r >= 0.0 && r < rows as f64 && c >= 0.0 && c < columns as f64;
        if inside { slice[[r as usize, c as usize]].as_f64() } else { 0.0 }
    };
    let top = (1.0 - dc) * pixel(low_r, low_c) + dc * pixel(low_r, high_c);
    let bottom = (1.0 - dc) * pixel(high_r, low_c) + dc * pixel(high_r, high_c);
    (1.0 - dr) * top + dr * bottom
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn codes_equal_scikit_image() {
        let slice = array![[3i16, 7, 1, 9, 4], [2, 8, 8, 8, 1], [5, 8, 8, 8, 3], [0, 8, 8, 8, 9], [4, 4, 2, 6, 5]];
        let circle = Circle::new(&FilterSettings::default());
        let mut texture = vec![0.0; 8];
        let mut row = |r: usize, method| -> Vec<f64> {
            (0..5).map(|c| circle.code(&slice.view(), r, c, method, &mut texture)).collect()
        };
        assert_eq!(row(1, Lbp2dMethod::Default), [199.0, 193.0, 241.0, 116.0, 124.0]);
        assert_eq!(row(1, Lbp2dMethod::Ror), [31.0, 7.0, 31.0, 29.0, 31.0]);
        assert_eq!(row(1, Lbp2dMethod::Uniform), [5.0, 3.0, 5.0, 9.0, 5.0]);
        let variances = row(2, Lbp2dMethod::Var);
        assert!((variances[0] - 9.62903248).abs() < 1e-8 && variances[2].is_nan());
        assert_eq!(cast::<i16>(65535.0), -1.0);
        assert_eq!(cast::<u8>(300.9), 44.0);
        assert_eq!((cast::<i32>(f64::NAN), cast::<i16>(f64::NAN)), (-2147483648.0, 0.0));
    }
}
