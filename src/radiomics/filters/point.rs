//! Filters of single voxels, scaled by the largest magnitude of the whole image.

use crate::radiomics::region::{Bounds, Grid, part};
use crate::volume::Scalar;
use ndarray::Array3;

fn largest<T: Scalar>(image: &Grid<T>) -> f64 {
    image.voxels.iter().fold(0.0, |largest, v| v.as_f64().abs().max(largest))
}

fn map<T: Scalar>(image: &Grid<T>, bounds: Bounds, f: impl Fn(f64) -> f64) -> Array3<f64> {
    part(&image.voxels.view(), bounds).mapv(|v| f(v.as_f64()))
}

/// (x / sqrt(max))^2.
pub(super) fn square<T: Scalar>(image: &Grid<T>, bounds: Bounds) -> Array3<f64> {
    let scale = 1.0 / largest(image).sqrt();
    map(image, bounds, |x| (scale * x) * (scale * x))
}

/// sqrt(max x), with the sign of x.
pub(super) fn square_root<T: Scalar>(image: &Grid<T>, bounds: Bounds) -> Array3<f64> {
    let max = largest(image);
    map(image, bounds, |x| {
        if x > 0.0 {
            (x * max).sqrt()
        } else if x < 0.0 {
            -(-x * max).sqrt()
        } else {
            x
        }
    })
}

/// ln(|x| + 1) with the sign of x, scaled so that the largest magnitude stays.
pub(super) fn logarithm<T: Scalar>(image: &Grid<T>, bounds: Bounds) -> Array3<f64> {
    let max = largest(image);
    let scale = max / (max + 1.0).ln();
    map(image, bounds, |x| {
        scale
            * if x > 0.0 {
                (x + 1.0).ln()
            } else if x < 0.0 {
                -(1.0 - x).ln()
            } else {
                x
            }
    })
}

/// exp(x ln(max) / max).
pub(super) fn exponential<T: Scalar>(image: &Grid<T>, bounds: Bounds) -> Array3<f64> {
    let max = largest(image);
    let scale = max.ln() / max;
    map(image, bounds, |x| (scale * x).exp())
}
