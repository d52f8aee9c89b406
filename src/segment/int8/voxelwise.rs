//! What is computed in f32: all that is no quantized convolution. Rows are read as real numbers, worked on and written as what their tensor is.

use super::buffer::Buffer;
use crate::segment::net::graph::Window;
use rayon::prelude::*;

/// How bytes mean real numbers: `(byte - zero) * step`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// One quantization step.
    pub step: f32,
    /// The byte that means 0.
    pub zero: u8,
    /// Whether ONNX stores it as signed, 128 less.
    pub signed: bool,
}

impl Scale {
    /// As ONNX's QuantizeLinear: divided, rounded half to even, then saturated.
    fn byte(self, value: f32) -> u8 {
        let zero = f32::from(self.zero);
        (nearest((value / self.step).clamp(-zero, 255.0 - zero)) + i32::from(self.zero)) as u8
    }

    /// The bytes of two bounds.
    pub fn bytes(self, bounds: [f32; 2]) -> [u8; 2] {
        bounds.map(|v| self.byte(v))
    }

    /// The largest byte of values within bounds.
    pub fn largest(self, bounds: [f32; 2]) -> u8 {
        self.byte(bounds[1])
    }
}

/// Rounds half to even, for |v| < 2^22: there are no digits after the point beside 1.5 * 2^23. Vectorizes without SSE 4.1.
#[inline(always)]
pub fn nearest(v: f32) -> i32 {
    const LARGE: f32 = 12_582_912.0;
    (v + LARGE).to_bits() as i32 - LARGE.to_bits() as i32
}

/// What a tensor holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Form {
    /// f32.
    Real,
    /// Quantized.
    Bytes(Scale),
}

/// What happens to a value at last: `max(v, v * slope)`, then the bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finish {
    /// 1: nothing; 0: ReLU.
    pub slope: f32,
    /// Smallest and largest.
    pub bounds: [f32; 2],
}

impl Default for Finish {
    fn default() -> Finish {
        Finish { slope: 1.0, bounds: [f32::NEG_INFINITY, f32::INFINITY] }
    }
}

impl Finish {
    /// Whether no value is too small or too large.
    pub fn is_unbounded(&self) -> bool {
        self.bounds == Finish::default().bounds
    }

    fn apply(&self, values: &mut [f32]) {
        for v in values {
            let leaky = if *v > *v * self.slope { *v } else { *v * self.slope };
            *v = leaky.max(self.bounds[0]).min(self.bounds[1]);
        }
    }
}

/// A window over real numbers.
pub enum RealWindow {
    /// A convolution; weights of shape (taps, in, out).
    Convolve {
        /// Where.
        window: Window,
        /// ConvTranspose, with its output padding.
        extra: Option<[usize; 3]>,
        /// Order (taps, in, out).
        weights: Vec<f32>,
        /// One per output channel.
        bias: Vec<f32>,
    },
    /// MaxPool.
    Largest(Window),
    /// AveragePool, with ONNX's `count_include_pad`.
    Mean(Window, bool),
}

impl RealWindow {
    fn window(&self) -> &Window {
        match self {
            Self::Convolve { window, .. } | Self::Largest(window) | Self::Mean(window, _) => window,
        }
    }

    /// Size of the output; nothing where a window does not fit.
    pub fn output(&self, size: [usize; 3]) -> Option<[usize; 3]> {
        let mut found = [0; 3];
        for a in 0..3 {
            found[a] = match self {
                Self::Convolve { window, extra: Some(extra), .. } => window.spread(a, size[a], extra[a])?,
                other => other.window().slid(a, size[a])?,
            };
        }
        Some(found)
    }

    /// Where tap `k` of output voxel `at` reads along an axis of `n` voxels.
    fn reads(&self, a: usize, at: usize, k: usize, n: usize) -> Option<usize> {
        let w = self.window();
        let from = match self {
            Self::Convolve { extra: Some(_), .. } => {
                let spread = (at + w.pad_low[a]).checked_sub(k * w.dilation[a])?;
                spread.is_multiple_of(w.stride[a]).then_some(spread / w.stride[a])?
            }
            _ => (at * w.stride[a] + k * w.dilation[a]).checked_sub(w.pad_low[a])?,
        };
        (from < n).then_some(from)
    }

    /// One row of outputs, shape (x, channels), from an input of shape (z, y, x, `channels`).
    pub fn row(
        &self,
        from: &[f32],
        size: [usize; 3],
        channels: usize,
        [z, y]: [usize; 2],
        out: &mut [f32],
        n_x: usize,
    ) {
        let n_out = out.len() / n_x;
        match self {
            Self::Convolve { bias, .. } => out.chunks_exact_mut(n_out).for_each(|v| v.copy_from_slice(bias)),
            Self::Largest(_) => out.fill(f32::NEG_INFINITY),
            Self::Mean(..) => out.fill(0.0),
        }
        let mut counts = vec![0u32; n_x];
        let kernel = self.window().kernel;
        for tap in 0..kernel.iter().product() {
            let k = [tap / (kernel[1] * kernel[2]), tap / kernel[2] % kernel[1], tap % kernel[2]];
            let (Some(z), Some(y)) = (self.reads(0, z, k[0], size[0]), self.reads(1, y, k[1], size[1])) else {
                continue;
            };
            for (x, out) in out.chunks_exact_mut(n_out).enumerate() {
                let Some(x_from) = self.reads(2, x, k[2], size[2]) else { continue };
                let voxel = &from[((z * size[1] + y) * size[2] + x_from) * channels..][..channels];
                counts[x] += 1;
                match self {
                    Self::Convolve { weights, .. } => {
                        let weights = weights[tap * channels * n_out..].chunks_exact(n_out);
                        for (v, weights) in voxel.iter().zip(weights) {
                            out.iter_mut().zip(weights).for_each(|(o, w)| *o += v * w);
                        }
                    }
                    Self::Largest(_) => out.iter_mut().zip(voxel).for_each(|(o, v)| *o = o.max(*v)),
                    Self::Mean(..) => out.iter_mut().zip(voxel).for_each(|(o, v)| *o += v),
                }
            }
        }
        if let Self::Mean(_, whole) = self {
            for (out, count) in out.chunks_exact_mut(n_out).zip(counts) {
                let n = if *whole { kernel.iter().product::<usize>() as f32 } else { count.max(1) as f32 };
                out.iter_mut().for_each(|v| *v /= n);
            }
        }
    }
}

/// The values of a buffer.
pub enum Data {
    /// Of a real tensor.
    Reals(Buffer<f32>),
    /// Of quantized ones.
    Bytes(Buffer<u8>),
}

/// A tensor within its buffer.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Where it lies.
    pub data: &'a Data,
    /// Its first channel there.
    pub first: usize,
    /// Its channels.
    pub channels: usize,
    /// How its bytes mean numbers.
    pub form: Form,
}

impl View<'_> {
    /// Voxels along z, y, x.
    pub fn size(&self) -> [usize; 3] {
        match self.data {
            Data::Reals(buffer) => buffer.size,
            Data::Bytes(buffer) => buffer.size,
        }
    }

    /// One row, shape (x, channels).
    pub fn row(&self, [z, y]: [usize; 2], out: &mut [f32]) {
        fn voxels<T: Copy + Default + PartialEq + Send + Sync>(b: &Buffer<T>, z: usize, y: usize) -> &[T] {
            &b.values[b.index([z, y, 0], [0; 3])..][..b.size[2] * b.channels]
        }
        let part = self.first..self.first + self.channels;
        match (self.data, self.form) {
            (Data::Bytes(buffer), Form::Bytes(scale)) => {
                let zero = f32::from(scale.zero);
                let from = voxels(buffer, z, y).chunks_exact(buffer.channels);
                for (out, from) in out.chunks_exact_mut(self.channels).zip(from) {
                    out.iter_mut().zip(&from[part.clone()]).for_each(|(o, b)| *o = (f32::from(*b) - zero) * scale.step);
                }
            }
            (Data::Reals(buffer), _) => {
                let from = voxels(buffer, z, y).chunks_exact(buffer.channels);
                for (out, from) in out.chunks_exact_mut(self.channels).zip(from) {
                    out.copy_from_slice(&from[part.clone()]);
                }
            }
            (Data::Bytes(_), Form::Real) => unreachable!("a real tensor lies in a real buffer"),
        }
    }

    /// All voxels, shape (z, y, x, channels).
    pub fn dense(&self) -> Vec<f32> {
        let size = self.size();
        let row = size[2] * self.channels;
        let mut found = vec![0.0; size[0] * size[1] * row];
        let rows = found.par_chunks_mut(row.max(1)).enumerate();
        rows.for_each(|(k, out)| self.row([k / size[1], k % size[1]], out));
        found
    }
}

/// Where a tensor is written.
pub struct Target<'a> {
    /// Its buffer.
    pub data: &'a mut Data,
    /// The first channel there.
    pub first: usize,
    /// How many.
    pub channels: usize,
    /// How its bytes mean numbers.
    pub form: Form,
}

impl Target<'_> {
    /// Fills all rows: `row` makes one, shape (x, channels), `finish` is applied, and it is quantized if the tensor is.
    pub fn fill(&mut self, finish: Finish, row: impl Fn([usize; 2], &mut [f32]) + Sync) {
        let (first, channels) = (self.first, self.channels);
        match (&mut *self.data, self.form) {
            (Data::Reals(buffer), _) => fill(buffer, first, channels, &row, |values, out| {
                finish.apply(values);
                out.copy_from_slice(values);
            }),
            (Data::Bytes(buffer), Form::Bytes(scale)) => fill(buffer, first, channels, &row, |values, out| {
                finish.apply(values);
                out.iter_mut().zip(values).for_each(|(o, v)| *o = scale.byte(*v));
            }),
            (Data::Bytes(_), Form::Real) => unreachable!("a real tensor lies in a real buffer"),
        }
    }
}

fn fill<T: Copy + Default + PartialEq + Send + Sync>(
    buffer: &mut Buffer<T>,
    first: usize,
    channels: usize,
    row: &(impl Fn([usize; 2], &mut [f32]) + Sync),
    store: impl Fn(&mut [f32], &mut [T]) + Sync,
) {
    let plan = Buffer { values: Vec::<T>::new(), ..*buffer };
    let row_len = plan.row_len();
    let rows = plan.whole()[0] * plan.whole()[1];
    let scratch = || vec![0.0; plan.size[2] * channels];
    let lines = buffer.values[..rows * row_len].par_chunks_mut(row_len).enumerate();
    lines.with_min_len(8).for_each_init(scratch, |scratch, (k, line)| {
        let Some(at) = plan.row(k) else { return };
        row(at, scratch);
        let voxels = line[plan.rim[2][0] * plan.channels..].chunks_exact_mut(plan.channels);
        for (values, voxel) in scratch.chunks_exact_mut(channels).zip(voxels) {
            store(values, &mut voxel[first..first + channels]);
        }
    });
}

/// Factor and shift per channel that give each channel mean 0 and variance 1, then scale and bias (InstanceNormalization).
pub fn normalization(of: View, scale: &[f32], bias: &[f32], epsilon: f32) -> Vec<[f32; 2]> {
    let size = of.size();
    let n = of.channels;
    // Sums per slice, added in the slices' order: the same bits for any number of threads.
    let slices: Vec<Vec<[f64; 2]>> = (0..size[0])
        .into_par_iter()
        .map(|z| {
            let mut row = vec![0.0f32; size[2] * n];
            let mut sums = vec![[0.0f64; 2]; n];
            for y in 0..size[1] {
                of.row([z, y], &mut row);
                for voxel in row.chunks_exact(n) {
                    for (sum, v) in sums.iter_mut().zip(voxel) {
                        let v = f64::from(*v);
                        sum[0] += v;
                        sum[1] += v * v;
                    }
                }
            }
            sums
        })
        .collect();
    let voxels = size.iter().product::<usize>().max(1) as f64;
    (0..n)
        .map(|c| {
            let sum = |k: usize| slices.iter().map(|s| s[c][k]).sum::<f64>() / voxels;
            let (mean, variance) = (sum(0), (sum(1) - sum(0) * sum(0)).max(0.0));
            let factor = f64::from(scale[c]) / (variance + f64::from(epsilon)).sqrt();
            [factor as f32, (f64::from(bias[c]) - mean * factor) as f32]
        })
        .collect()
}
