//! Laplacian of Gaussian by ITK's recursive filters (Deriche's fourth order approximation), to the last bit of its 32 bits.

use super::{Filtered, Output};
use crate::radiomics::Value;
use crate::radiomics::region::{Bounds, Grid};
use crate::volume::Scalar;
use ndarray::{Array3, ArrayView2, ArrayView3, ArrayViewMut2, Axis, s};
use rayon::prelude::*;
use std::ops::Range;

/// One image per sigma (mm), scaled by sigma squared; a sigma that does not fit the image gives a warning. Of the image's
/// axes (x first) the first `axes` count.
pub(super) fn transform<T: Scalar>(image: &Grid<T>, bounds: Bounds, axes: usize, sigmas: &[Value]) -> Vec<Output> {
    let (size, spacing) = (&image.geometry.size[..axes], &image.geometry.spacing_mm[..axes]);
    let warning = |text: String| Output::Warning(format!("radiomics.imageoperations: {text}"));
    let size_text = columns(size.iter().map(usize::to_string).collect());
    if size.iter().any(|n| *n < LINE_MIN) {
        return vec![warning(format!("Image too small to apply LoG filter, size: {size_text}"))];
    }
    let one = |value: &Value| {
        let sigma = value.as_f64().filter(|sigma| *sigma > 0.0)?;
        if (0..axes).any(|a| (size[a] as f64) < (sigma / spacing[a]).ceil() + 1.0) {
            let text = format!(
                "applyLoG: sigma({})/spacing({}) + 1 must be greater than the size({size_text}) of the inputImage",
                six_digits(sigma),
                numpy_floats(spacing),
            );
            return Some(warning(text));
        }
        let name = format!("log-sigma-{}-mm-3D", value.to_python().replace('.', "-"));
        let values = laplacian(image, bounds, axes, sigma).mapv(f64::from);
        Some(Output::Image(Filtered { name, values, float32: true }))
    };
    sigmas.iter().filter_map(one).collect()
}

fn laplacian<T: Scalar>(image: &Grid<T>, bounds: Bounds, axes: usize, sigma: f64) -> Array3<f32> {
    let spacing = image.geometry.spacing_mm;
    let inside: [Range<usize>; 3] = std::array::from_fn(|a| bounds.first[a]..bounds.first[a] + bounds.size[a]);
    let [nx, ny, nz] = bounds.size;
    let mut sum = Array3::<f32>::zeros((nz, ny, nx));
    for along in 0..axes {
        // A line is filtered whole, for the filter has no end; of the result only what lies in the box is kept.
        let keep = |axis: usize| inside[axis].clone();
        let second = Recursive::second_derivative(sigma, spacing[along]);
        let mut part = pass(image.voxels.view(), along, &second, keep(along));
        for axis in (0..axes).filter(|a| *a != along) {
            part = pass(part.view(), axis, &Recursive::smoothing(sigma, spacing[axis]), keep(axis));
        }
        let scale = 1.0 / (spacing[along] * spacing[along]);
        sum.zip_mut_with(&part, |sum, v| *sum = (f64::from(*sum) + f64::from(*v) * scale) as f32);
    }
    sum
}

/// ITK filters no shorter lines.
const LINE_MIN: usize = 4;
/// Lines that are filtered side by side.
const LANES: usize = 8;

/// Filters along `axis` (0 = x), and keeps the voxels `keep` of every line.
fn pass<S: Scalar>(from: ArrayView3<S>, axis: usize, filter: &Recursive, keep: Range<usize>) -> Array3<f32> {
    let axis = 2 - axis;
    let mut shape = from.dim();
    [&mut shape.0, &mut shape.1, &mut shape.2].into_iter().nth(axis).into_iter().for_each(|n| *n = keep.len());
    let mut out = Array3::<f32>::zeros(shape);
    let across = Axis(usize::from(axis == 0));
    let planes: Vec<_> = out.axis_iter_mut(across).zip(from.axis_iter(across)).collect();
    planes.into_par_iter().for_each(|(out, from)| {
        // Lines run down the columns of a plane.
        let (out, from) = if axis == 2 { (out.reversed_axes(), from.reversed_axes()) } else { (out, from) };
        filter.columns(from, out, keep.start);
    });
    out
}

/// A causal and an anticausal recursive filter whose sum is a Gaussian or its derivative.
struct Recursive {
    causal: [f64; 4],
    anticausal: [f64; 4],
    back: [f64; 4],
    /// What stands for `back` times the results beyond the first and the last voxel, where the line goes on unchanged.
    before: [f64; 4],
    after: [f64; 4],
}

impl Recursive {
    fn smoothing(sigma: f64, spacing: f64) -> Recursive {
        let d = denominator(sigma / spacing);
        let n = numerator(sigma / spacing, 0);
        let alpha = 2.0 * sum_0(n) / (1.0 + d[0] + d[1] + d[2] + d[3]) - n[0];
        Recursive::new(n.map(|v| v * (1.0 / alpha)), d)
    }

    /// Times sigma squared.
    fn second_derivative(sigma: f64, spacing: f64) -> Recursive {
        let d = denominator(sigma / spacing);
        let (n0, n2) = (numerator(sigma / spacing, 0), numerator(sigma / spacing, 2));
        let sd = 1.0 + d[0] + d[1] + d[2] + d[3];
        let dd = d[0] + 2.0 * d[1] + 3.0 * d[2] + 4.0 * d[3];
        let ed = d[0] + 4.0 * d[1] + 9.0 * d[2] + 16.0 * d[3];
        let beta = -(2.0 * sum_0(n2) - sd * n2[0]) / (2.0 * sum_0(n0) - sd * n0[0]);
        let n: [f64; 4] = std::array::from_fn(|i| n2[i] + beta * n0[i]);
        let sn = sum_0(n2) + beta * sum_0(n0);
        let dn = sum_1(n2) + beta * sum_1(n0);
        let en = sum_2(n2) + beta * sum_2(n0);
        let alpha = (en * sd * sd - ed * sn * sd - 2.0 * dn * dd * sd + 2.0 * dd * dd * sn) / (sd * sd * sd);
        Recursive::new(n.map(|v| v * ((sigma * sigma) / alpha)), d)
    }

    fn new(n: [f64; 4], d: [f64; 4]) -> Recursive {
        let m = [n[1] - d[0] * n[0], n[2] - d[1] * n[0], n[3] - d[2] * n[0], -d[3] * n[0]];
        let sn = sum_0(n);
        let sm = m[0] + m[1] + m[2] + m[3];
        let sd = 1.0 + d[0] + d[1] + d[2] + d[3];
        Recursive { causal: n, anticausal: m, back: d, before: d.map(|d| d * sn / sd), after: d.map(|d| d * sm / sd) }
    }

    /// Filters the columns of `from`; row 0 of `out` is row `first` of the result.
    fn columns<S: Scalar>(&self, from: ArrayView2<S>, mut out: ArrayViewMut2<f32>, first: usize) {
        let (n, m) = from.dim();
        let mut data = vec![[0.0; LANES]; n];
        let mut sums = vec![[0.0; LANES]; n];
        for start in (0..m).step_by(LANES) {
            let width = LANES.min(m - start);
            for (data, row) in data.iter_mut().zip(from.slice(s![.., start..start + width]).rows()) {
                data.iter_mut().zip(row).for_each(|(d, v)| *d = v.as_f64());
            }
            self.lines(&data, &mut sums);
            for (mut row, sums) in
                out.slice_mut(s![.., start..start + width]).rows_mut().into_iter().zip(&sums[first..])
            {
                row.iter_mut().zip(sums).for_each(|(o, v)| *o = *v as f32);
            }
        }
    }

    /// Several lines side by side. Beyond its ends a line goes on with its first and last value.
    fn lines(&self, data: &[[f64; LANES]], out: &mut [[f64; LANES]]) {
        let n = data.len();
        let edge = data[0];
        for i in 0..n {
            let value = |back: usize| if i >= back { data[i - back] } else { edge };
            let (v0, v1, v2, v3) = (value(0), value(1), value(2), value(3));
            let history: [([f64; LANES], f64); 4] =
                std::array::from_fn(|k| if i > k { (out[i - 1 - k], self.back[k]) } else { (edge, self.before[k]) });
            out[i] = combine([v0, v1, v2, v3], self.causal, history);
        }
        let edge = data[n - 1];
        let mut last = [([0.0; LANES], 0.0); 4];
        for (k, last) in last.iter_mut().enumerate() {
            *last = (edge, self.after[k]);
        }
        for i in (0..n).rev() {
            let value = |ahead: usize| if i + ahead < n { data[i + ahead] } else { edge };
            let result = combine([value(1), value(2), value(3), value(4)], self.anticausal, last);
            // The newest result moves in; the others keep their place in the sum but not the weight of the border.
            let found = n - i;
            let shifted = [result, last[0].0, last[1].0, last[2].0];
            for (k, last) in last.iter_mut().enumerate() {
                *last = if k < found { (shifted[k], self.back[k]) } else { (edge, self.after[k]) };
            }
            out[i].iter_mut().zip(result).for_each(|(o, v)| *o += v);
        }
    }
}

/// Sum of values times weights, less the sum of the history times its weights, in ITK's order.
fn combine(values: [[f64; LANES]; 4], weights: [f64; 4], history: [([f64; LANES], f64); 4]) -> [f64; LANES] {
    std::array::from_fn(|l| {
        let forward = values[0][l] * weights[0]
            + values[1][l] * weights[1]
            + values[2][l] * weights[2]
            + values[3][l] * weights[3];
        let [a, b, c, d] = history;
        forward - (a.0[l] * a.1 + b.0[l] * b.1 + c.0[l] * c.1 + d.0[l] * d.1)
    })
}

fn sum_0(n: [f64; 4]) -> f64 {
    n[0] + n[1] + n[2] + n[3]
}

fn sum_1(n: [f64; 4]) -> f64 {
    n[1] + 2.0 * n[2] + 3.0 * n[3]
}

fn sum_2(n: [f64; 4]) -> f64 {
    n[1] + 4.0 * n[2] + 9.0 * n[3]
}

// Fit of the Gaussian (order 0) and its second derivative by two damped waves; Deriche 1993, digits of ITK.
const W: [f64; 2] = [0.6681, 2.0787];
const L: [f64; 2] = [-1.3932, -1.3732];
/// (A1, B1, A2, B2).
const ORDER_0: [f64; 4] = [1.3530, 1.8151, -0.3531, 0.0902];
const ORDER_2: [f64; 4] = [-1.3563, 5.2318, 0.3446, -2.2355];

fn numerator(sigma: f64, order: usize) -> [f64; 4] {
    let [a1, b1, a2, b2] = if order == 0 { ORDER_0 } else { ORDER_2 };
    let [(sin1, cos1), (sin2, cos2)] = W.map(|w| (w / sigma).sin_cos());
    let [exp1, exp2] = L.map(|l| (l / sigma).exp());
    let n0 = a1 + a2;
    let n1 = exp2 * (b2 * sin2 - (a2 + 2.0 * a1) * cos2) + exp1 * (b1 * sin1 - (a1 + 2.0 * a2) * cos1);
    let mut n2 = (a1 + a2) * cos2 * cos1 - (b1 * cos2 * sin1 + b2 * cos1 * sin2);
    n2 *= 2.0 * exp1 * exp2;
    n2 += a2 * exp1 * exp1 + a1 * exp2 * exp2;
    let n3 = exp2 * exp1 * exp1 * (b2 * sin2 - a2 * cos2) + exp1 * exp2 * exp2 * (b1 * sin1 - a1 * cos1);
    [n0, n1, n2, n3]
}

fn denominator(sigma: f64) -> [f64; 4] {
    let [cos1, cos2] = W.map(|w| (w / sigma).cos());
    let [exp1, exp2] = L.map(|l| (l / sigma).exp());
    let d1 = -2.0 * (exp2 * cos2 + exp1 * cos1);
    let d2 = 4.0 * cos2 * cos1 * exp1 * exp2 + (exp1 * exp1 + exp2 * exp2);
    let d3 = -2.0 * cos1 * exp1 * exp2 * exp2 + -2.0 * cos2 * exp2 * exp1 * exp1;
    let d4 = exp1 * exp1 * exp2 * exp2;
    [d1, d2, d3, d4]
}

/// A number as C's `%g` writes it.
fn six_digits(value: f64) -> String {
    let text = format!("{value:.5e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text.to_string(),
    };
    if (-4..6).contains(&exponent) {
        return trimmed(&format!("{value:.*}", (5 - exponent) as usize));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(digits), exponent.abs())
}

/// Numbers as NumPy writes an array of them: at most 8 decimals, points below each other.
fn numpy_floats(values: &[f64]) -> String {
    let texts = values.iter().map(|v| {
        let short = format!("{v:?}");
        let rounded = format!("{v:.8}");
        let text = if short.len() <= rounded.len() { short } else { rounded };
        text.trim_end_matches('0').to_string()
    });
    let texts: Vec<String> = texts.collect();
    let decimals = |text: &str| text.len() - text.find('.').map_or(text.len(), |at| at + 1);
    let longest = texts.iter().map(|t| decimals(t)).max().unwrap_or(0);
    columns(texts.iter().map(|t| format!("{t}{}", " ".repeat(longest - decimals(t)))).collect())
}

/// `[ 1 10 100]`, all as wide as the widest.
fn columns(texts: Vec<String>) -> String {
    let width = texts.iter().map(String::len).max().unwrap_or(0);
    let padded: Vec<String> = texts.iter().map(|t| format!("{t:>width$}")).collect();
    format!("[{}]", padded.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_warnings_look_as_in_python() {
        assert_eq!(numpy_floats(&[0.78125, 0.78125, 6.5]), "[0.78125 0.78125 6.5    ]");
        assert_eq!(numpy_floats(&[0.800000011920929, 1.0, 12.5]), "[ 0.80000001  1.         12.5       ]");
        assert_eq!(columns([256, 256, 25].map(|n| n.to_string()).to_vec()), "[256 256  25]");
        let cases = [(500.0, "500"), (0.5, "0.5"), (1234567.0, "1.23457e+06"), (0.00001, "1e-05"), (40.125, "40.125")];
        for (value, text) in cases {
            assert_eq!(six_digits(value), text);
        }
    }

    #[test]
    fn smoothing_keeps_a_constant_and_the_derivative_removes_it() {
        let data = vec![[7.0; LANES]; 30];
        let mut out = vec![[0.0; LANES]; 30];
        Recursive::smoothing(2.0, 0.7).lines(&data, &mut out);
        assert!(out.iter().flatten().all(|v| (v - 7.0).abs() < 1e-9));
        Recursive::second_derivative(2.0, 0.7).lines(&data, &mut out);
        assert!(out.iter().flatten().all(|v| v.abs() < 1e-9));
    }
}
