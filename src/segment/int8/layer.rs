//! An int8 convolution, ready to run: weights in the kernels' order, the step from sums to outputs beside them.

use super::buffer::Buffer;
use super::tile::{self, BLOCK, Isa, QUAD, Requantize, Results, Sums};
use rayon::prelude::*;

/// A task of a thread has at least this many voxels, so that a kernel seldom has a part of its voxels to do.
const TASK_VOXELS: usize = 384;

/// A convolution or transposed convolution as ONNX writes it. Triples are z, y, x; a 2-D layer has 1, 0 in front.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Input channels.
    pub n_in: usize,
    /// Output channels.
    pub n_out: usize,
    /// Extent of the kernel.
    pub kernel: [usize; 3],
    /// Step of the window; of a transposed convolution, the factor of enlargement, which is its kernel.
    pub stride: [usize; 3],
    /// Voxels of padding before and after each axis.
    pub pads: [[usize; 2]; 3],
    /// Distance of a window's voxels.
    pub dilation: [usize; 3],
    /// ConvTranspose.
    pub transposed: bool,
}

impl Shape {
    /// Size of the output for an input of a size; nothing where the window does not fit.
    pub fn output(&self, input: [usize; 3]) -> Option<[usize; 3]> {
        let mut size = [0; 3];
        for a in 0..3 {
            size[a] = if self.transposed {
                input[a] * self.stride[a]
            } else {
                let window = self.dilation[a] * (self.kernel[a] - 1) + 1;
                (input[a] + self.pads[a][0] + self.pads[a][1]).checked_sub(window)? / self.stride[a] + 1
            };
        }
        Some(size)
    }

    /// Index into the ONNX weights: (out, in, z, y, x), or (in, out, z, y, x) where transposed.
    fn weight(&self, o: usize, i: usize, k: [usize; 3]) -> usize {
        let outer = if self.transposed { i * self.n_out + o } else { o * self.n_in + i };
        ((outer * self.kernel[0] + k[0]) * self.kernel[1] + k[1]) * self.kernel[2] + k[2]
    }
}

/// Output voxels at one position within the stride of a transposed convolution; a plain one has a single phase.
struct Phase {
    at: [usize; 3],
    /// Distance of each tap from the window's start, in voxels.
    taps: Vec<[usize; 3]>,
    /// Shape (blocks, taps, quads, 16, 4).
    weights: Vec<i8>,
    /// Per output channel of whole blocks.
    weight_sums: Vec<i32>,
    /// Likewise, the input's zero point taken off.
    bias: Vec<i32>,
}

/// All triples below `n`, the last axis fastest.
fn grid(n: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    (0..n[0]).flat_map(move |z| (0..n[1]).flat_map(move |y| (0..n[2]).map(move |x| [z, y, x])))
}

/// The weights of a phase in the kernels' order; `run` channels follow each other in memory under one tap.
fn pack(shape: &Shape, weights: &[i8], positions: &[[usize; 3]], run: usize) -> Vec<i8> {
    let (quads, blocks) = (run.div_ceil(QUAD), shape.n_out.div_ceil(BLOCK));
    let mut packed = Vec::with_capacity(blocks * positions.len() * quads * BLOCK * QUAD);
    for block in 0..blocks {
        for [z, y, x] in positions {
            for entry in 0..quads * BLOCK * QUAD {
                let (quad, o, i) = (entry / (BLOCK * QUAD), entry / QUAD % BLOCK, entry % QUAD);
                let (o, i) = (block * BLOCK + o, quad * QUAD + i);
                let there = o < shape.n_out && i < run;
                let at = || shape.weight(o, i % shape.n_in, [*z, *y, x + i / shape.n_in]);
                packed.push(if there { weights[at()] } else { 0 });
            }
        }
    }
    packed
}

/// Per output channel of packed weights.
fn sums_of_weights(packed: &[i8], blocks: usize) -> Vec<i32> {
    let size = packed.len() / blocks;
    let sum = |o: usize| {
        let of_block = packed[o / BLOCK * size..][..size].as_chunks::<QUAD>().0;
        of_block.iter().skip(o % BLOCK).step_by(BLOCK).flatten().map(|w| i32::from(*w)).sum()
    };
    (0..blocks * BLOCK).map(sum).collect()
}

/// How sums become outputs; see [`Requantize`]. Lists have an entry per output channel.
#[derive(Debug, Clone)]
pub struct Rescale {
    /// In units of the sum; the input's zero point is taken off by [`Layer::new`].
    pub bias: Vec<i32>,
    /// Per output channel.
    pub multiplier: Vec<f32>,
    /// Of the negative side.
    pub slope: f32,
    /// Smallest and largest byte, and the byte that means 0; unused for real outputs.
    pub bytes: [u8; 3],
}

/// A layer whose weights are packed.
pub struct Layer {
    shape: Shape,
    phases: Vec<Phase>,
    quads: usize,
    rescale: Rescale,
    wide: bool,
}

impl Layer {
    /// Packs weights (order of ONNX). `tight`: the input has a buffer of its own, so that neighbors along x are neighbors in memory
    /// and share quads: a 3x3x3 kernel on one channel takes 9 quads instead of 27. `input_bytes`: zero point and largest byte of the input.
    ///
    /// # Panics
    /// If the lengths do not fit the shape.
    pub fn new(shape: Shape, weights: &[i8], mut rescale: Rescale, tight: bool, input_bytes: [u8; 2]) -> Layer {
        assert_eq!(weights.len(), shape.n_in * shape.n_out * shape.kernel.iter().product::<usize>());
        assert!(rescale.bias.len() == shape.n_out && rescale.multiplier.len() == shape.n_out);
        let joined = tight && !shape.transposed && shape.dilation[2] == 1;
        // Channels that follow each other in memory under one tap.
        let run = if joined { shape.kernel[2] * shape.n_in } else { shape.n_in };
        let quads = run.div_ceil(QUAD);
        let blocks = shape.n_out.div_ceil(BLOCK);
        let phases = grid(if shape.transposed { shape.stride } else { [1; 3] })
            .map(|at| {
                // Per tap, the kernel's position there; a joined tap goes on along x.
                let positions: Vec<[usize; 3]> = match (shape.transposed, joined) {
                    (true, _) => vec![at],
                    (false, true) => grid([shape.kernel[0], shape.kernel[1], 1]).collect(),
                    (false, false) => grid(shape.kernel).collect(),
                };
                let packed = pack(&shape, weights, &positions, run);
                let sums = sums_of_weights(&packed, blocks);
                // Sum of w (u - zero) = sum of w u - zero * sum of w: the second part joins the bias.
                let bias =
                    |o: usize| rescale.bias.get(o).unwrap_or(&0).wrapping_sub(i32::from(input_bytes[0]) * sums[o]);
                let bias = (0..blocks * BLOCK).map(bias).collect();
                let tap = |k: &[usize; 3]| std::array::from_fn(|a| k[a] * shape.dilation[a]);
                let taps = if shape.transposed { vec![[0; 3]] } else { positions.iter().map(tap).collect() };
                Phase { at, taps, weights: packed, weight_sums: sums, bias }
            })
            .collect();
        rescale.multiplier.resize(blocks * BLOCK, 0.0);
        Layer { shape, phases, quads, rescale, wide: input_bytes[1] > 127 }
    }

    /// The layer's form.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Bytes of its packed weights.
    pub fn memory_bytes(&self) -> usize {
        self.phases.iter().map(|p| p.weights.len()).sum()
    }

    /// Multiply-adds per output voxel.
    pub fn products(&self) -> usize {
        let taps = if self.shape.transposed { 1 } else { self.shape.kernel.iter().product() };
        taps * self.shape.n_in * self.shape.n_out
    }

    /// Quantized outputs, from `input`'s channels `first_in ..` into `output`'s channels `first_out ..`.
    ///
    /// # Panics
    /// If the buffers do not have the layer's sizes, or the input's rim is narrower than the padding.
    pub fn to_bytes(&self, isa: Isa, input: (&Buffer<u8>, usize), output: (&mut Buffer<u8>, usize)) {
        self.run(isa, input, output, |chunk| Results::Bytes(chunk));
    }

    /// As [`Layer::to_bytes`], with real outputs.
    ///
    /// # Panics
    /// As there.
    pub fn to_floats(&self, isa: Isa, input: (&Buffer<u8>, usize), output: (&mut Buffer<f32>, usize)) {
        self.run(isa, input, output, |chunk| Results::Floats(chunk));
    }

    fn run<T: Copy + Default + PartialEq + Send + Sync>(
        &self,
        isa: Isa,
        (input, first_in): (&Buffer<u8>, usize),
        (output, first_out): (&mut Buffer<T>, usize),
        results: impl for<'a> Fn(&'a mut [T]) -> Results<'a> + Sync,
    ) {
        let shape = &self.shape;
        assert_eq!(shape.output(input.size), Some(output.size), "sizes of input and output");
        assert!(first_in + shape.n_in <= input.channels && first_out + shape.n_out <= output.channels);
        assert!((0..3).all(|a| (0..2).all(|e| shape.pads[a][e] <= input.rim[a][e])), "the rim holds the padding");
        let low = shape.pads.map(|[low, _]| low);
        let row_len = output.row_len();
        let rows_per_task = TASK_VOXELS.div_ceil(output.size[2]);
        let plan = Buffer { values: Vec::<T>::new(), ..*output };
        let n_rows = plan.whole()[0] * plan.whole()[1];
        let step = if shape.transposed { [1; 3] } else { shape.stride };
        let grow = if shape.transposed { shape.stride } else { [1; 3] };
        let tasks = output.values[..n_rows * row_len].par_chunks_mut(rows_per_task * row_len).enumerate();
        tasks.for_each(|(task, chunk)| {
            let (mut pixels, mut places, mut taps) = (Vec::new(), Vec::new(), Vec::new());
            for phase in &self.phases {
                pixels.clear();
                places.clear();
                taps.clear();
                for row in 0..chunk.len() / row_len {
                    let Some([z, y]) = plan.row(task * rows_per_task + row) else { continue };
                    if z % grow[0] != phase.at[0] || y % grow[1] != phase.at[1] {
                        continue;
                    }
                    let start = input.index([z / grow[0] * step[0], y / grow[1] * step[1], 0], low) + first_in;
                    let place = row * row_len + (plan.rim[2][0] + phase.at[2]) * plan.channels + first_out;
                    let n = plan.size[2] / grow[2];
                    pixels.extend((0..n).map(|x| start + x * step[2] * input.channels));
                    places.extend((0..n).map(|x| place + x * grow[2] * plan.channels));
                }
                let whole = input.whole();
                taps.extend(phase.taps.iter().map(|t| ((t[0] * whole[1] + t[1]) * whole[2] + t[2]) * input.channels));
                let sums = Sums {
                    input: &input.values,
                    wide: self.wide,
                    pixels: &pixels,
                    taps: &taps,
                    quads: self.quads,
                    weights: &phase.weights,
                    weight_sums: &phase.weight_sums,
                };
                let [low, high, zero] = self.rescale.bytes.map(i32::from);
                let requantize = Requantize {
                    bias: &phase.bias,
                    multiplier: &self.rescale.multiplier,
                    slope: self.rescale.slope,
                    bounds: [(low - zero) as f32, (high - zero) as f32],
                    zero_point: zero,
                };
                tile::run(isa, &sums, &requantize, shape.n_out, &places, &mut results(&mut *chunk));
            }
        });
    }
}

#[cfg(test)]
#[path = "layer_tests.rs"]
mod tests;
