//! Fourier transform of many lines at once: every step runs over all of them side by side, so the compiler can use wide
//! registers. Lengths are products of 2, 3 and 5 ([`good_length`]). Stockham's algorithm: no reordering, one more buffer.

use std::f64::consts::TAU;
use std::ops::{Add, Mul};

/// A complex number.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Complex {
    pub re: f64,
    pub im: f64,
}

impl Add for Complex {
    type Output = Complex;
    fn add(self, o: Complex) -> Complex {
        Complex { re: self.re + o.re, im: self.im + o.im }
    }
}

impl Mul for Complex {
    type Output = Complex;
    fn mul(self, o: Complex) -> Complex {
        Complex { re: self.re * o.re - self.im * o.im, im: self.re * o.im + self.im * o.re }
    }
}

impl Complex {
    /// exp(-2 pi i k / n).
    fn root(k: usize, n: usize) -> Complex {
        let (sin, cos) = (-TAU * (k % n) as f64 / n as f64).sin_cos();
        Complex { re: cos, im: sin }
    }
}

/// The shortest length from `n` on that is a product of 2, 3 and 5.
pub(super) fn good_length(n: usize) -> usize {
    let smooth = |mut n: usize| {
        for p in [2, 3, 5] {
            while n.is_multiple_of(p) {
                n /= p;
            }
        }
        n == 1
    };
    (n.max(1)..).find(|n| smooth(*n)).unwrap_or(n)
}

/// Forward transform along the first axis of `data`, shape (n, lines): sum over j of x[j] exp(-2 pi i j k / n).
/// `spare` is overwritten; both have the same length.
pub(super) fn transform(data: &mut Vec<Complex>, spare: &mut Vec<Complex>, n: usize) {
    let mut stride = data.len() / n;
    let mut rest = n;
    while rest > 1 {
        let radix =
            [4, 2, 3, 5].into_iter().find(|p| rest.is_multiple_of(*p)).expect("good_length has no other factors");
        match radix {
            4 => pass::<4>(data, spare, rest, stride),
            2 => pass::<2>(data, spare, rest, stride),
            3 => pass::<3>(data, spare, rest, stride),
            _ => pass::<5>(data, spare, rest, stride),
        }
        std::mem::swap(data, spare);
        stride *= radix;
        rest /= radix;
    }
}

/// One step: lines of length `n` are cut into `P` parts, which are summed with the roots of order P and turned.
fn pass<const P: usize>(from: &[Complex], to: &mut [Complex], n: usize, stride: usize) {
    let m = n / P;
    let roots: [[Complex; P]; P] = std::array::from_fn(|k| std::array::from_fn(|j| Complex::root(j * k, P)));
    for (p, to) in to.chunks_exact_mut(P * stride).enumerate() {
        let parts: [&[Complex]; P] = std::array::from_fn(|j| &from[(p + j * m) * stride..(p + j * m + 1) * stride]);
        for (k, to) in to.chunks_exact_mut(stride).enumerate() {
            let turn = Complex::root(p * k, n);
            let factors: [Complex; P] = std::array::from_fn(|j| roots[k][j] * turn);
            for (q, out) in to.iter_mut().enumerate() {
                let mut sum = factors[0] * parts[0][q];
                for j in 1..P {
                    sum = sum + factors[j] * parts[j][q];
                }
                *out = sum;
            }
        }
    }
}

/// Transform of a plane, shape (a, b); the result has shape (b, a), for the axes are taken in turn.
pub(super) fn transform_plane(plane: &mut Vec<Complex>, spare: &mut Vec<Complex>, a: usize, b: usize) {
    transform(plane, spare, a);
    for (i, line) in plane.chunks_exact(b).enumerate() {
        line.iter().enumerate().for_each(|(j, v)| spare[j * a + i] = *v);
    }
    std::mem::swap(plane, spare);
    transform(plane, spare, b);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transforms_equal_their_definition() {
        for (n, lines) in [(1, 2), (2, 1), (3, 2), (4, 3), (5, 1), (30, 2), (48, 1), (50, 3)] {
            let value = |i: usize| Complex { re: ((i * i) % 7) as f64, im: (i % 5) as f64 - 2.0 };
            let start: Vec<Complex> = (0..n * lines).map(value).collect();
            let (mut data, mut spare) = (start.clone(), start.clone());
            transform(&mut data, &mut spare, n);
            for k in 0..n {
                for line in 0..lines {
                    let sum = (0..n)
                        .map(|j| start[j * lines + line] * Complex::root(j * k, n))
                        .fold(Complex::default(), Complex::add);
                    let found = data[k * lines + line];
                    assert!((found.re - sum.re).abs() + (found.im - sum.im).abs() < 1e-11, "n {n}, k {k}");
                }
            }
        }
    }

    #[test]
    fn planes_come_back_turned() {
        let (a, b) = (4, 6);
        let start: Vec<Complex> = (0..a * b).map(|i| Complex { re: (i % 5) as f64, im: 0.0 }).collect();
        let (mut plane, mut spare) = (start.clone(), start.clone());
        transform_plane(&mut plane, &mut spare, a, b);
        for (ka, kb) in [(0, 0), (1, 2), (3, 5)] {
            let mut sum = Complex::default();
            for i in 0..a {
                for j in 0..b {
                    sum = sum + start[i * b + j] * Complex::root(i * ka, a) * Complex::root(j * kb, b);
                }
            }
            let found = plane[kb * a + ka];
            assert!((found.re - sum.re).abs() + (found.im - sum.im).abs() < 1e-12);
        }
    }

    #[test]
    fn lengths_have_small_factors() {
        assert_eq!([1, 7, 97, 121, 199].map(good_length), [1, 8, 100, 125, 200]);
    }
}
