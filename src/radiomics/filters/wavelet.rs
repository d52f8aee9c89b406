//! Stationary wavelet transform as PyWavelets' `swtn` computes it, one undilated level at a time, to the last bit.

use super::wavelet_table::{BIORTHOGONAL, ORTHOGONAL};
use super::{FilterSettings, Filtered, Output};
use crate::radiomics::RadiomicsError;
use crate::radiomics::region::{Bounds, Grid};
use crate::radiomics::wide::twice;
use crate::volume::Scalar;
use ndarray::{Array3, Axis, LinalgScalar, s};
use rayon::prelude::*;
use std::f64::consts::SQRT_2;

/// A floating point type that a transform is computed in.
trait Real: LinalgScalar + Scalar {
    /// See [`weighted`].
    fn weighted(row: &mut [Self], terms: &[(Self, &[Self])]);
}
impl Real for f32 {
    fn weighted(row: &mut [f32], terms: &[(f32, &[f32])]) {
        weighted_32(row, terms);
    }
}
impl Real for f64 {
    fn weighted(row: &mut [f64], terms: &[(f64, &[f64])]) {
        weighted_64(row, terms);
    }
}

/// The decomposition filters (low-pass, high-pass) of a discrete wavelet of PyWavelets.
pub(in super::super) fn bank(name: &str) -> Option<[Vec<f64>; 2]> {
    let name = if name == "db1" { "haar" } else { name };
    let reversed = |taps: &[f64]| taps.iter().rev().copied().collect::<Vec<f64>>();
    let biorthogonal = |name: &str| BIORTHOGONAL.iter().find(|entry| entry.0 == name);
    // Low-pass filters of decomposition and reconstruction; the reverse families swap and mirror them.
    let (low, back) = if let Some((_, low)) = ORTHOGONAL.iter().find(|entry| entry.0 == name) {
        (low.to_vec(), reversed(low))
    } else if let Some((_, low, back)) = biorthogonal(name) {
        (low.to_vec(), back.to_vec())
    } else {
        let (_, low, back) = biorthogonal(&format!("bior{}", name.strip_prefix("rbio")?))?;
        (reversed(back), reversed(low))
    };
    // Every filter has an even number of taps, so the last one keeps its sign.
    let high = back.iter().enumerate().map(|(k, tap)| if k % 2 == 0 { -tap } else { *tap }).collect();
    Some([low, high])
}

/// PyWavelets keeps the taps of coiflets without their factor of the square root of 2, in both precisions, and multiplies.
fn tap_of_32_bits(wavelet: &str, tap: f64) -> f64 {
    if !wavelet.starts_with("coif") {
        return tap;
    }
    f64::from((tap / SQRT_2) as f32 * SQRT_2 as f32)
}

/// The bands of all reported levels inside `bounds`, then the last approximation. `axes` (0 = z) are filtered, x first as in the names.
/// Images of 32 bit floats are computed in 32 bits.
pub(super) fn transform<T: Scalar>(
    image: &Grid<T>,
    bounds: Bounds,
    axes: &[usize],
    settings: &FilterSettings,
) -> Result<Vec<Output>, RadiomicsError> {
    let Some(bank) = bank(&settings.wavelet) else {
        return Err(RadiomicsError::Unsupported { path: format!("wavelet {}", settings.wavelet) });
    };
    Ok(if T::BYTES == 4 && !T::INTEGER {
        levels::<T, f32>(image, bounds, axes, &bank, settings)
    } else {
        levels::<T, f64>(image, bounds, axes, &bank, settings)
    })
}

fn levels<T: Scalar, R: Real>(
    image: &Grid<T>,
    bounds: Bounds,
    axes: &[usize],
    bank: &[Vec<f64>; 2],
    settings: &FilterSettings,
) -> Vec<Output> {
    let tap = |tap: &f64| R::from_f64(if R::BYTES == 4 { tap_of_32_bits(&settings.wavelet, *tap) } else { *tap });
    let bank: [Vec<R>; 2] = [0, 1].map(|f| bank[f].iter().map(tap).collect());
    let taps = bank[0].len();
    let n = settings.start_level + settings.levels;
    let period: [usize; 3] = std::array::from_fn(|a| image.geometry.size[2 - a].next_multiple_of(2));
    let inside: [Span; 3] = std::array::from_fn(|a| Span { start: bounds.first[2 - a], len: bounds.size[2 - a] });
    // What each level has to read for the levels after it, last first.
    let mut reads = vec![inside];
    for _ in 0..n {
        let mut spans = reads[reads.len() - 1];
        axes.iter().for_each(|a| spans[*a] = spans[*a].read(taps, period[*a]));
        reads.push(spans);
    }
    reads.reverse();
    let mut data = Part::<R>::of(image, period, reads[0]);
    let mut outputs = Vec::new();
    for (level, needed) in (1..=n).zip(&reads[1..]) {
        let reported = level.checked_sub(settings.start_level).filter(|l| *l > 0);
        let prefix = match reported {
            Some(1) | None => "wavelet-".to_string(),
            Some(l) => format!("wavelet{l}-"),
        };
        let mut first = None;
        if reported.is_some() {
            let mut bands = split(&data, axes, &bank, inside).into_iter();
            first = bands.next();
            outputs.extend(bands.map(|(name, part)| part.output(format!("{prefix}{name}"))));
        }
        // The first band is the approximation, reported last; for a next level more of it is needed.
        data = match first {
            Some((_, part)) if level == n => part,
            _ => axes.iter().fold(data, |data, a| data.filter(*a, &bank[0], needed[*a])),
        };
        if level == n {
            let name = format!("{prefix}{}", "L".repeat(axes.len()));
            return outputs.into_iter().chain([data.output(name)]).collect();
        }
    }
    outputs
}

/// All bands inside a box, low before high, the first axis slowest.
fn split<R: Real>(data: &Part<R>, axes: &[usize], bank: &[Vec<R>; 2], inside: [Span; 3]) -> Vec<(String, Part<R>)> {
    let Some((axis, rest)) = axes.split_first() else { return Vec::new() };
    let halves: Vec<_> = ["L", "H"].into_par_iter().zip(bank).collect();
    let bands = halves.into_par_iter().flat_map(|(letter, taps)| {
        let part = data.filter(*axis, taps, inside[*axis]);
        if rest.is_empty() {
            return vec![(letter.to_string(), part)];
        }
        let below = split(&part, rest, bank, inside);
        below.into_iter().map(|(name, part)| (format!("{letter}{name}"), part)).collect::<Vec<_>>()
    });
    bands.collect()
}

/// Consecutive voxels along a periodic axis.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Span {
    start: usize,
    len: usize,
}

impl Span {
    /// What a filter reads for these voxels.
    fn read(self, taps: usize, period: usize) -> Span {
        let len = self.len + taps - 1;
        if len >= period {
            return Span { start: 0, len: period };
        }
        // Voxel n reads n + taps/2 - (taps - 1) .. n + taps/2.
        Span { start: (self.start + taps / 2 + (taps - 1) * (period - 1)) % period, len }
    }

    /// Place of a voxel.
    fn place(self, voxel: usize, period: usize) -> usize {
        (voxel + period - self.start) % period
    }
}

/// Part of a periodic volume; arrays of three are in the order z, y, x.
struct Part<R> {
    values: Array3<R>,
    period: [usize; 3],
    spans: [Span; 3],
}

impl<R: Real> Part<R> {
    /// From the image; an odd axis is lengthened by its first voxel.
    fn of<T: Scalar>(image: &Grid<T>, period: [usize; 3], spans: [Span; 3]) -> Part<R> {
        let size = image.geometry.size;
        let voxels = image.voxels.as_standard_layout();
        let at = |a: usize, place: usize| (spans[a].start + place) % period[a] % size[2 - a];
        let columns: Vec<usize> = (0..spans[2].len).map(|x| at(2, x)).collect();
        let mut values = Array3::<R>::zeros((spans[0].len, spans[1].len, spans[2].len));
        values.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(z, mut plane)| {
            for (y, row) in plane.rows_mut().into_iter().enumerate() {
                let from = voxels.slice(s![at(0, z), at(1, y), ..]);
                row.into_iter().zip(&columns).for_each(|(value, x)| *value = R::from_f64(from[*x].as_f64()));
            }
        });
        Part { values, period, spans }
    }

    fn output(self, name: String) -> Output {
        let values = self.values.mapv_into_any(Scalar::as_f64);
        Output::Image(Filtered { name, values, float32: R::BYTES == 4 })
    }

    /// Filters along one axis, for the voxels `span` of it.
    fn filter(&self, axis: usize, taps: &[R], span: Span) -> Part<R> {
        let sums = sums(taps.len(), self.period[axis], self.spans[axis], span);
        let mut spans = self.spans;
        spans[axis] = span;
        let mut values = Array3::<R>::zeros((spans[0].len, spans[1].len, spans[2].len));
        let (_, ny, nx) = self.values.dim();
        let source = self.values.as_slice().unwrap_or(&[]); // in standard layout, as all arrays here
        let shifted = shifted(&sums);
        let planes = values.axis_iter_mut(Axis(0)).into_par_iter().enumerate();
        planes.for_each(|(z, mut plane)| {
            for (y, mut row) in plane.rows_mut().into_iter().enumerate() {
                let Some(row) = row.as_slice_mut() else { continue };
                let line = |z: usize, y: usize| (z * ny + y) * nx;
                let sum = |row: &mut [R], sums: &[(usize, usize)], place: &dyn Fn(usize) -> usize| {
                    let terms: Vec<(R, &[R])> = sums.iter().map(|(k, at)| (taps[*k], &source[place(*at)..])).collect();
                    R::weighted(row, &terms);
                };
                match axis {
                    2 => {
                        for (start, end) in &shifted {
                            sum(&mut row[*start..*end], &sums[*start], &|x| line(z, y) + x);
                        }
                    }
                    1 => sum(row, &sums[y], &|y| line(z, y)),
                    _ => sum(row, &sums[z], &|z| line(z, y)),
                }
            }
        });
        Part { values, period: self.period, spans }
    }
}

/// For every voxel of `out` the terms of its sum, (tap, place in `from`), in the order in which PyWavelets adds them.
fn sums(taps: usize, period: usize, from: Span, out: Span) -> Vec<Vec<(usize, usize)>> {
    (0..out.len)
        .map(|place| {
            let last = (out.start + place) % period + taps / 2;
            // What lies beyond the end comes first, backwards; the rest in the order of the taps.
            let beyond = (last + 1).saturating_sub(period);
            let wrapped = (0..beyond).rev().enumerate().map(|(i, tap)| (tap, i % period));
            let rest = (beyond..taps).map(|tap| (tap, (last + taps * period - tap) % period));
            wrapped.chain(rest).map(|(tap, voxel)| (tap, from.place(voxel, period))).collect()
        })
        .collect()
}

/// Ranges of neighbors whose terms are shifted copies of each other.
fn shifted(sums: &[Vec<(usize, usize)>]) -> Vec<(usize, usize)> {
    let follows = |i: usize| {
        let pairs = sums[i - 1].iter().zip(&sums[i]);
        pairs.into_iter().all(|(a, b)| a.0 == b.0 && a.1 + 1 == b.1)
    };
    let breaks: Vec<usize> = (0..=sums.len()).filter(|i| *i == 0 || *i == sums.len() || !follows(*i)).collect();
    breaks.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

twice! {
    weighted_64 => weighted::<f64>, (row: &mut [f64], terms: &[(f64, &[f64])])
}
twice! {
    weighted_32 => weighted::<f32>, (row: &mut [f32], terms: &[(f32, &[f32])])
}

/// A row as the sum of weighted rows, in their order.
#[inline(always)]
fn weighted<R: Real>(row: &mut [R], terms: &[(R, &[R])]) {
    const LANES: usize = 16;
    let n = row.len();
    let (blocks, rest) = row.as_chunks_mut::<LANES>();
    for (block, sums) in blocks.iter_mut().enumerate() {
        let mut lanes = [R::zero(); LANES];
        for (tap, from) in terms {
            let Some(from) = from[block * LANES..].first_chunk::<LANES>() else { continue };
            lanes.iter_mut().zip(from).for_each(|(sum, v)| *sum = *sum + *tap * *v);
        }
        *sums = lanes;
    }
    let done = n - rest.len();
    for (i, sum) in rest.iter_mut().enumerate() {
        *sum = terms.iter().fold(R::zero(), |sum, (tap, from)| sum + *tap * from[done + i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coiflets_of_32_bits_are_those_of_pywavelets() {
        // What pywt.swt makes of a unit impulse of float32 (PyWavelets 1.8.0).
        let coif2 = [
            -0.0007205494330264628,
            -0.0018232088768854737,
            0.005611434578895569,
            0.023680172860622406,
            -0.05943441390991211,
            -0.07648859918117523,
            0.41700518131256104,
            0.8127236366271973,
            0.3861100673675537,
            -0.06737255305051804,
            -0.04146493598818779,
            0.01638733595609665,
        ];
        let low = &bank("coif2").expect("PyWavelets has it")[0];
        assert_eq!(low.iter().map(|tap| tap_of_32_bits("coif2", *tap)).collect::<Vec<f64>>(), coif2);
        assert!(low.iter().zip(coif2).any(|(tap, theirs)| f64::from(*tap as f32) != theirs));
    }
}
