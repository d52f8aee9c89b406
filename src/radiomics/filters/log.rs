//! Laplacian of Gaussian by ITK's recursive filters (Deriche's fourth order approximation), to the last bit of its 32 bits.

use super::{Filtered, Output};
use crate::radiomics::Value;
use crate::radiomics::region::{Bounds, Grid};
use crate::radiomics::wide::twice;
use crate::volume::Scalar;
use ndarray::{Array3, ArrayViewMut2, Axis};
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
        let values = laplacian(image, bounds, axes, sigma);
        Some(Output::Image(Filtered { name, values, float32: true }))
    };
    sigmas.iter().filter_map(one).collect()
}

/// The sum of the second derivatives along the first `axes` of x, y and z, each smoothed along the other two axes in rising order. ITK holds 32 bits
/// between all steps. A line is filtered whole, for the filter has no end; of the result only what lies in the box is kept.
fn laplacian<T: Scalar>(image: &Grid<T>, bounds: Bounds, axes: usize, sigma: f64) -> Array3<f64> {
    let spacing = image.geometry.spacing_mm;
    let voxels = image.voxels.as_standard_layout();
    let (nz, ny, nx) = voxels.dim();
    let [x, y, z]: [Range<usize>; 3] = std::array::from_fn(|a| bounds.first[a]..bounds.first[a] + bounds.size[a]);
    let second = spacing.map(|mm| Recursive::second_derivative(sigma, mm));
    let smooth = spacing.map(|mm| Recursive::smoothing(sigma, mm));
    let all = voxels.as_slice().unwrap_or(&[]); // in standard layout
    let mut sum = Array3::<f64>::zeros((z.len(), y.len(), x.len()));
    let add = |mut sum: ArrayViewMut2<f64>, part: &[f32], along: usize| {
        let scale = 1.0 / (spacing[along] * spacing[along]);
        let rows = sum.rows_mut().into_iter().zip(part.chunks_exact(x.len()));
        rows.for_each(|(mut sum, part)| {
            let add = |(sum, v): (&mut f64, &f32)| *sum = f64::from((*sum + f64::from(*v) * scale) as f32);
            sum.iter_mut().zip(part).for_each(add);
        });
    };
    // Two passes at a time stay within a slice, which the cache holds.
    let (slice, kept) = (ny * nx, y.len() * x.len());
    for along in 0..2 {
        let mut tall = vec![0f32; nz * kept];
        let slices = tall.par_chunks_exact_mut(kept).zip(all.par_chunks_exact(slice));
        slices.for_each_init(Default::default, |(lines, part): &mut (Lines, Vec<f32>), (out, values)| {
            let from = Plane { values, rows: ny, width: nx, stride: nx };
            if along == 0 {
                lines.rows(&second[0], from, &x, resized(part, ny * x.len()));
                let from = Plane { values: part, rows: ny, width: x.len(), stride: x.len() };
                lines.columns(&smooth[1], from, &y, out);
            } else {
                lines.columns(&second[1], from, &y, resized(part, y.len() * nx));
                lines.rows(&smooth[0], Plane { values: part, rows: y.len(), width: nx, stride: nx }, &x, out);
            }
        });
        let planes = sum.axis_iter_mut(Axis(1)).into_par_iter().enumerate();
        planes.for_each_init(Default::default, |(lines, part): &mut (Lines, Vec<f32>), (row, sum)| {
            if axes == 2 {
                add(sum, &tall[row * x.len()..][..x.len()], along);
                return;
            }
            let from = Plane { values: &tall[row * x.len()..], rows: nz, width: x.len(), stride: kept };
            lines.columns(&smooth[2], from, &z, resized(part, z.len() * x.len()));
            add(sum, part, along);
        });
    }
    if axes == 2 {
        return sum;
    }
    let mut tall = Array3::<f32>::zeros((z.len(), ny, nx));
    let planes = tall.axis_iter_mut(Axis(1)).into_par_iter().enumerate();
    planes.for_each_init(Default::default, |(lines, part): &mut (Lines, Vec<f32>), (row, mut out)| {
        let from = Plane { values: &all[row * nx..], rows: nz, width: nx, stride: slice };
        lines.columns(&second[2], from, &z, resized(part, z.len() * nx));
        for (mut out, part) in out.rows_mut().into_iter().zip(part.chunks_exact(nx)) {
            out.iter_mut().zip(part).for_each(|(o, v)| *o = *v);
        }
    });
    let tall = tall.as_slice().unwrap_or(&[]);
    let slices = sum.axis_iter_mut(Axis(0)).into_par_iter().zip(tall.par_chunks_exact(slice));
    slices.for_each_init(Default::default, |(lines, parts): &mut (Lines, [Vec<f32>; 2]), (sum, values)| {
        let [first, second] = parts;
        let from = Plane { values, rows: ny, width: nx, stride: nx };
        lines.rows(&smooth[0], from, &x, resized(first, ny * x.len()));
        let from = Plane { values: first, rows: ny, width: x.len(), stride: x.len() };
        lines.columns(&smooth[1], from, &y, resized(second, kept));
        add(sum, second, 2);
    });
    sum
}

/// A buffer of this length.
fn resized(buffer: &mut Vec<f32>, n: usize) -> &mut [f32] {
    buffer.resize(n, 0.0);
    buffer
}

/// Rows of values, `stride` apart.
struct Plane<'a, S> {
    values: &'a [S],
    rows: usize,
    width: usize,
    stride: usize,
}

/// ITK filters no shorter lines.
const LINE_MIN: usize = 4;
/// Lines that are filtered side by side: a step waits for the one before it in the same line, not for other lines.
const LANES: usize = 32;

/// Buffers for lines that are filtered side by side, from plane to plane.
#[derive(Default)]
struct Lines {
    data: Vec<[f64; LANES]>,
    sums: Vec<[f64; LANES]>,
}

impl Lines {
    /// Filters the columns of a plane, and writes the rows `keep` of the result.
    fn columns<S: Scalar>(&mut self, filter: &Recursive, from: Plane<S>, keep: &Range<usize>, out: &mut [f32]) {
        self.resize(from.rows);
        for start in (0..from.width).step_by(LANES) {
            let end = from.width.min(start + LANES);
            for (row, data) in self.data.iter_mut().enumerate() {
                let row = &from.values[row * from.stride + start..row * from.stride + end];
                match row.first_chunk::<LANES>() {
                    Some(row) => data.iter_mut().zip(row).for_each(|(d, v)| *d = v.as_f64()),
                    None => data.iter_mut().zip(row).for_each(|(d, v)| *d = v.as_f64()),
                }
            }
            lines(filter, &self.data, &mut self.sums);
            for (row, sums) in out.chunks_exact_mut(from.width).zip(&self.sums[keep.clone()]) {
                let row = &mut row[start..end];
                match row.first_chunk_mut::<LANES>() {
                    Some(row) => row.iter_mut().zip(sums).for_each(|(o, v)| *o = *v as f32),
                    None => row.iter_mut().zip(sums).for_each(|(o, v)| *o = *v as f32),
                }
            }
        }
    }

    /// Filters the rows of a plane, and writes the columns `keep` of the result.
    fn rows<S: Scalar>(&mut self, filter: &Recursive, from: Plane<S>, keep: &Range<usize>, out: &mut [f32]) {
        self.resize(from.width);
        for start in (0..from.rows).step_by(LANES) {
            let end = from.rows.min(start + LANES);
            // Eight rows are turned at a time: eight values of a line of the cache.
            for at in (start..end).step_by(TURNED) {
                let row = |k: usize| &from.values[(at + k).min(from.rows - 1) * from.stride..][..from.width];
                let rows: [&[S]; TURNED] = std::array::from_fn(row);
                for (i, data) in self.data.iter_mut().enumerate() {
                    let place = &mut data[at - start..at - start + TURNED];
                    place.iter_mut().zip(rows).for_each(|(d, row)| *d = row[i].as_f64());
                }
            }
            lines(filter, &self.data, &mut self.sums);
            for (lane, row) in out.chunks_exact_mut(keep.len()).skip(start).take(end - start).enumerate() {
                row.iter_mut().zip(&self.sums[keep.clone()]).for_each(|(o, v)| *o = v[lane] as f32);
            }
        }
    }

    fn resize(&mut self, n: usize) {
        self.data.resize(n, [0.0; LANES]);
        self.sums.resize(n, [0.0; LANES]);
    }
}

const TURNED: usize = 8;

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
}

twice! {
    /// Several lines side by side. Beyond its ends a line goes on with its first and last value.
    lines => lines_plain, (filter: &Recursive, data: &[[f64; LANES]], out: &mut [[f64; LANES]])
}

#[inline(always)]
fn lines_plain(filter: &Recursive, data: &[[f64; LANES]], out: &mut [[f64; LANES]]) {
    let n = data.len();
    let edge = &data[0];
    for i in 0..n {
        let value = |back: usize| if i >= back { &data[i - back] } else { edge };
        let (done, rest) = out.split_at_mut(i);
        let history = |k: usize| if i > k { (&done[i - 1 - k], filter.back[k]) } else { (edge, filter.before[k]) };
        let values = [value(0), value(1), value(2), value(3)];
        combine(values, filter.causal, [history(0), history(1), history(2), history(3)], &mut rest[0]);
    }
    let edge = &data[n - 1];
    // The last four results, that of voxel i at i modulo 4.
    let mut last = [[0.0; LANES]; 4];
    for i in (0..n).rev() {
        let value = |ahead: usize| if i + ahead < n { &data[i + ahead] } else { edge };
        let found = n - 1 - i;
        let values = [value(1), value(2), value(3), value(4)];
        let mut result = [0.0; LANES];
        let history = |k: usize| {
            if k < found { (&last[(i + 1 + k) % 4], filter.back[k]) } else { (edge, filter.after[k]) }
        };
        combine(values, filter.anticausal, [history(0), history(1), history(2), history(3)], &mut result);
        out[i].iter_mut().zip(&result).for_each(|(o, v)| *o += v);
        last[i % 4] = result;
    }
}

/// Sum of values times weights, less the sum of the history times its weights, in ITK's order.
#[inline(always)]
fn combine(values: [&[f64; LANES]; 4], weights: [f64; 4], history: [(&[f64; LANES], f64); 4], out: &mut [f64; LANES]) {
    let [v0, v1, v2, v3] = values;
    let [(a, wa), (b, wb), (c, wc), (d, wd)] = history;
    for l in 0..LANES {
        let forward = v0[l] * weights[0] + v1[l] * weights[1] + v2[l] * weights[2] + v3[l] * weights[3];
        out[l] = forward - (a[l] * wa + b[l] * wb + c[l] * wc + d[l] * wd);
    }
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
        lines(&Recursive::smoothing(2.0, 0.7), &data, &mut out);
        assert!(out.iter().flatten().all(|v| (v - 7.0).abs() < 1e-9));
        lines(&Recursive::second_derivative(2.0, 0.7), &data, &mut out);
        assert!(out.iter().flatten().all(|v| v.abs() < 1e-9));
    }

    #[test]
    fn wide_lanes_give_the_bits_of_plain_ones() {
        let data: Vec<[f64; LANES]> =
            (0..50).map(|i| std::array::from_fn(|l| ((i * 37 + l * 11) % 101) as f64)).collect();
        let (mut wide, mut plain) = (vec![[0.0; LANES]; 50], vec![[0.0; LANES]; 50]);
        let filter = Recursive::smoothing(1.3, 0.7);
        lines(&filter, &data, &mut wide);
        lines_plain(&filter, &data, &mut plain);
        assert_eq!(wide, plain);
    }
}
