//! What is computed in f32, voxel by voxel. Rows are read as real numbers, worked on and written as what their tensor is.

use super::buffer::Buffer;
use ndarray::{ArrayD, IxDyn};
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
        (nearest((value / self.step).max(-zero).min(255.0 - zero)) + i32::from(self.zero)) as u8
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
        // A tensor that fills its buffer is read as one voxel of the whole row: one loop that vectorizes instead of one per voxel.
        let whole = |channels: usize| self.channels == channels;
        let part = self.first..self.first + self.channels;
        match (self.data, self.form) {
            (Data::Bytes(buffer), Form::Bytes(scale)) if whole(buffer.channels) => {
                let zero = f32::from(scale.zero);
                let from = voxels(buffer, z, y);
                out.iter_mut().zip(from).for_each(|(o, b)| *o = (f32::from(*b) - zero) * scale.step);
            }
            (Data::Reals(buffer), _) if whole(buffer.channels) => out.copy_from_slice(voxels(buffer, z, y)),
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

    /// All voxels as planes of channels, shape (channels, [z,] y, x); `rank` spatial axes.
    pub fn planes(&self, rank: usize) -> ArrayD<f32> {
        let (size, channels) = (self.size(), self.channels);
        let (row, slice) = (size[2], size[1] * size[2]);
        let mut values = vec![0.0; channels * size[0] * slice];
        // A task is a slice of every channel.
        let mut slices: Vec<Vec<&mut [f32]>> = (0..size[0]).map(|_| Vec::with_capacity(channels)).collect();
        for (k, part) in values.chunks_exact_mut(slice.max(1)).enumerate() {
            slices[k % size[0]].push(part);
        }
        slices.into_par_iter().enumerate().for_each(|(z, mut channels_of_slice)| {
            let mut line = vec![0.0; row * channels];
            for y in 0..size[1] {
                self.row([z, y], &mut line);
                for (c, plane) in channels_of_slice.iter_mut().enumerate() {
                    let out = &mut plane[y * row..][..row];
                    out.iter_mut().zip(line[c..].iter().step_by(channels)).for_each(|(o, v)| *o = *v);
                }
            }
        });
        let shape: Vec<usize> = std::iter::once(channels).chain(size[3 - rank..].iter().copied()).collect();
        ArrayD::from_shape_vec(IxDyn(&shape), values).expect("as many values as voxels and channels")
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

impl Target<'_> {
    /// As [`Target::fill`] of a view's own values, where both are bytes: 256 cases, each computed once. Nothing if they are not.
    pub fn translate(&mut self, finish: Finish, from: View) -> Option<()> {
        let (Data::Bytes(input), Form::Bytes(scale), Form::Bytes(to)) = (from.data, from.form, self.form) else {
            return None;
        };
        let Data::Bytes(output) = &mut *self.data else { return None };
        let table: [u8; 256] = std::array::from_fn(|byte| {
            let mut value = [(byte as f32 - f32::from(scale.zero)) * scale.step];
            finish.apply(&mut value);
            to.byte(value[0])
        });
        let plan = Buffer { values: Vec::<u8>::new(), ..*output };
        let (row_len, rows) = (plan.row_len(), plan.whole()[0] * plan.whole()[1]);
        let (first, n) = (self.first, from.channels);
        let lines = output.values[..rows * row_len].par_chunks_mut(row_len).enumerate();
        lines.with_min_len(8).for_each(|(k, line)| {
            let Some([z, y]) = plan.row(k) else { return };
            let line = line[plan.rim[2][0] * plan.channels..].chunks_exact_mut(plan.channels);
            let voxels = input.values[input.index([z, y, 0], [0; 3])..][..input.size[2] * input.channels]
                .chunks_exact(input.channels);
            for (out, voxel) in line.zip(voxels) {
                let pairs = out[first..first + n].iter_mut().zip(&voxel[from.first..from.first + n]);
                pairs.for_each(|(o, b)| *o = table[usize::from(*b)]);
            }
        });
        Some(())
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
        let line = &mut line[plan.rim[2][0] * plan.channels..][..plan.size[2] * plan.channels];
        if channels == plan.channels {
            return store(scratch, line);
        }
        for (values, voxel) in scratch.chunks_exact_mut(channels).zip(line.chunks_exact_mut(plan.channels)) {
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
