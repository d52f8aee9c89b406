//! Interpolation by windowed sinc and Gaussian kernels, with ITK's supports, borders and order of sums.

use super::resample::{Line, is_inside, size_of};
use super::settings::Interpolator;
use crate::volume::Scalar;
use ndarray::{ArrayView3, s};
use std::f64::consts::{PI, SQRT_2};

/// Voxels on each side of a sinc.
const RADIUS: i64 = 5;

/// A kernel over an image.
pub(super) struct Kernel<'a, T> {
    view: ArrayView3<'a, T>,
    size: [usize; 3],
    by: Interpolator,
}

/// What a value reads along one axis: voxels and their weights.
#[derive(Clone, Default)]
struct Support {
    at: Vec<usize>,
    weight: Vec<f64>,
}

/// The supports along x of a row; the rows of a straight grid share them.
#[derive(Default)]
pub(super) struct Memory {
    row: Option<(f64, f64)>,
    supports: Vec<Support>,
}

impl<'a, T: Scalar> Kernel<'a, T> {
    pub fn new(view: ArrayView3<'a, T>, by: Interpolator) -> Kernel<'a, T> {
        Kernel { view, size: size_of(&view), by }
    }

    /// Values along a row of the new grid; outside the image the row keeps what it has.
    pub fn evaluate(&self, row: &mut [T], line: Line, memory: &mut Memory) {
        let straight = line.is_straight();
        let known = straight && memory.row == Some(line.along_x());
        if straight && !known {
            memory.supports = (0..row.len()).map(|k| self.support(line.at(k)[0], 0)).collect();
            memory.row = Some(line.along_x());
        }
        let mut across: Option<[Support; 2]> = None;
        for (k, out) in row.iter_mut().enumerate() {
            let index = line.at(k);
            if !is_inside(index, self.size) {
                continue;
            }
            let value = if straight {
                let [y, z] = across.get_or_insert_with(|| [self.support(index[1], 1), self.support(index[2], 2)]);
                self.value(&memory.supports[k], y, z)
            } else {
                self.value(&self.support(index[0], 0), &self.support(index[1], 1), &self.support(index[2], 2))
            };
            *out = T::from_f64(value);
        }
    }

    fn value(&self, x: &Support, y: &Support, z: &Support) -> f64 {
        let (mut sum, mut weights) = (0.0, 0.0);
        let mut labels: Vec<(f64, f64)> = Vec::new();
        let mut best = (0.0, 0.0);
        for (cz, wz) in z.at.iter().zip(&z.weight) {
            for (cy, wy) in y.at.iter().zip(&y.weight) {
                let row = self.view.slice(s![*cz, *cy, ..]);
                for (cx, wx) in x.at.iter().zip(&x.weight) {
                    let value = row[*cx].as_f64();
                    match self.by {
                        Interpolator::Gaussian => {
                            let weight = wx * wy * wz;
                            sum += value * weight;
                            weights += weight;
                        }
                        Interpolator::LabelGaussian => {
                            let weight = add(&mut labels, value, wx * wy * wz);
                            if weight > best.0 {
                                best = (weight, value);
                            }
                        }
                        _ => sum += value * wx * wy * wz,
                    }
                }
            }
        }
        match self.by {
            Interpolator::Gaussian => sum / weights,
            Interpolator::LabelGaussian => best.1,
            _ => sum,
        }
    }

    fn support(&self, index: f64, axis: usize) -> Support {
        let n = self.size[axis];
        match self.by {
            // SimpleITK's widths and cutoffs, in voxels.
            Interpolator::Gaussian => gaussian(index, n, 0.8, 4.0),
            Interpolator::LabelGaussian => gaussian(index, n, 1.0, 1.0),
            _ => self.sinc(index, n),
        }
    }

    fn sinc(&self, index: f64, n: usize) -> Support {
        let below = index.floor();
        let distance = index - below;
        let offsets = 1 - RADIUS..=RADIUS;
        let last = n as i64 - 1;
        let at = offsets.clone().map(|k| (below as i64 + k).clamp(0, last) as usize).collect();
        let mut x = distance + RADIUS as f64;
        let weight = offsets.map(|k| {
            x -= 1.0;
            if distance == 0.0 { f64::from(u8::from(k == 0)) } else { window(self.by, x) * sinc(PI * x) }
        });
        Support { weight: weight.collect(), at }
    }
}

/// Adds to the weight of a label, and gives it.
fn add(labels: &mut Vec<(f64, f64)>, label: f64, weight: f64) -> f64 {
    match labels.iter_mut().find(|l| l.0 == label) {
        Some(known) => {
            known.1 += weight;
            known.1
        }
        None => {
            labels.push((label, weight));
            weight
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { x.sin() / x }
}

fn window(by: Interpolator, x: f64) -> f64 {
    let r = RADIUS as f64;
    match by {
        Interpolator::HammingSinc => 0.54 + 0.46 * (x * (PI / r)).cos(),
        Interpolator::CosineSinc => (x * (PI / (2.0 * r))).cos(),
        Interpolator::WelchSinc => 1.0 - x * (1.0 / (r * r)) * x,
        Interpolator::LanczosSinc => sinc((PI / r) * x),
        _ => 0.42 + 0.5 * (x * (PI / r)).cos() + 0.08 * (x * (2.0 * PI / r)).cos(), // Blackman
    }
}

/// Integrals of a Gaussian of `sigma` voxels over voxels that lie within `alpha` sigma.
fn gaussian(index: f64, n: usize, sigma: f64, alpha: f64) -> Support {
    let place = index + 0.5;
    let (scale, cutoff) = (1.0 / (SQRT_2 * sigma), sigma * alpha);
    let begin = (place - cutoff).floor().max(0.0) as usize;
    let end = ((place + cutoff).ceil() as usize).min(n);
    let mut t = (-0.5 - index + begin as f64) * scale;
    let mut before = erf(t);
    let weight = (begin..end).map(|_| {
        t += scale;
        let now = erf(t);
        let weight = now - before;
        before = now;
        weight
    });
    Support { weight: weight.collect(), at: (begin..end).collect() }
}

/// The error function as ITK's library (VNL) approximates it, to 3e-7: the incomplete gamma function P(1/2, x^2) by its power
/// series or its continued fraction.
fn erf(x: f64) -> f64 {
    let square = x * x;
    if square == 0.0 {
        return 0.0;
    }
    let factor = (-square + 0.5 * square.ln() - LN_GAMMA_HALF).exp();
    let value = if square < 1.5 { series(square) * factor } else { 1.0 - factor * fraction(square) };
    value.copysign(x)
}

/// VNL's approximation of ln(gamma(1/2)); the exact value ends in ..4700.
const LN_GAMMA_HALF: f64 = 0.572364942924847;
/// Where the sums stop.
const STEP_MIN: f64 = 3e-7;
/// They stop far earlier; this keeps NaN from looping.
const TERMS_MAX: usize = 100;

fn series(x: f64) -> f64 {
    let (mut a, mut term, mut sum) = (0.5, 2.0, 2.0);
    for _ in 0..TERMS_MAX {
        a += 1.0;
        term *= x / a;
        sum += term;
        if term < sum * STEP_MIN {
            break;
        }
    }
    sum
}

/// By Lentz's method; neither part comes near zero here.
fn fraction(x: f64) -> f64 {
    let mut b = x + 1.0 - 0.5;
    let (mut c, mut d) = (1.0 / 1e-30, 1.0 / b);
    let mut value = d;
    for i in 1..=TERMS_MAX {
        let a = i as f64 * (0.5 - i as f64);
        b += 2.0;
        d = 1.0 / (a * d + b);
        c = b + a / c;
        let step = d * c;
        value *= step;
        if (step - 1.0).abs() < STEP_MIN {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_function_is_that_of_vnl() {
        assert_eq!(erf(0.0), 0.0);
        // Abramowitz and Stegun, table 7.1.
        for (x, value) in [(0.1, 0.1124629160), (0.5, 0.5204998778), (-1.0, -0.8427007929), (2.0, 0.9953222650)] {
            assert!((erf(x) - value).abs() < 3e-7, "{x}: {}", erf(x));
        }
    }
}
