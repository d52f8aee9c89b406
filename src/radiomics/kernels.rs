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

/// The error function, correct to the last bit but for rare ties: its power series, summed in twice the usual precision.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a > 5.9 {
        return 1f64.copysign(x);
    }
    let square = Pair::product(a, a);
    let (mut power, mut sum) = (Pair(a, 0.0), Pair(a, 0.0));
    for n in 1..200 {
        // (-1)^n a^(2n + 1) / n!, and the term of the series divides it by 2n + 1.
        power = power.times(square).over(-f64::from(n));
        let term = power.over(f64::from(2 * n + 1));
        sum = sum.plus(term);
        if term.0.abs() < 1e-30 * sum.0.abs() {
            break;
        }
    }
    // 2 / sqrt(pi)
    sum.times(Pair(std::f64::consts::FRAC_2_SQRT_PI, 1.533545961316588e-17)).0.copysign(x)
}

/// A number as the sum of two floats, the second below the last bit of the first.
#[derive(Clone, Copy)]
struct Pair(f64, f64);

impl Pair {
    fn normal(a: f64, b: f64) -> Pair {
        let sum = a + b;
        let part = sum - a;
        Pair(sum, (a - (sum - part)) + (b - part))
    }

    fn product(a: f64, b: f64) -> Pair {
        let p = a * b;
        Pair(p, a.mul_add(b, -p))
    }

    fn plus(self, other: Pair) -> Pair {
        let sum = Pair::normal(self.0, other.0);
        Pair::normal(sum.0, sum.1 + self.1 + other.1)
    }

    fn times(self, other: Pair) -> Pair {
        let p = Pair::product(self.0, other.0);
        Pair::normal(p.0, p.1 + self.0 * other.1 + self.1 * other.0)
    }

    fn over(self, divisor: f64) -> Pair {
        let q = self.0 / divisor;
        let rest = Pair::product(q, divisor);
        Pair::normal(q, (self.0 - rest.0 - rest.1 + self.1) / divisor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_function_has_the_known_values() {
        // Abramowitz and Stegun, table 7.1, and Python's math.erf for the last digits.
        let cases = [
            (0.0, 0.0),
            (0.1, 0.1124629160182849),
            (0.5, 0.5204998778130465),
            (-1.0, -0.8427007929497149),
            (2.0, 0.9953222650189527),
            (3.7, 0.9999998328489421),
            (6.5, 1.0),
        ];
        for (x, value) in cases {
            assert_eq!(erf(x), value, "{x}");
        }
    }
}
