//! A convolution, plain or transposed, as a sweep of rows: which taps fall inside, in which order blocks of channels are summed, and who
//! computes what.
//!
//! An output voxel `o` reads the input voxel `o * stride + k * dilation - pad` (plain), or, where `o + pad - k * dilation` is a multiple of
//! the stride, that quotient (transposed). So a transposed convolution is `stride` plain ones along x, each with some of the taps, whose
//! output voxels lie `stride` apart; along z and y the row decides.

use super::graph::Window;
use super::layout::{BLOCK, Layout};
use crate::segment::kernels::{Channels, GROUP_MAX, Kernels, Row, Tap, Taps};
use rayon::prelude::*;

/// Weights that one pass of a strip's rows reads again and again: they stay in the first-level cache (32 KiB) beside the input.
const PASS_WEIGHTS_BYTES: usize = 28 << 10;
/// Output of a task: its sums stay in the second-level cache (512 KiB and more) while blocks of input channels go by.
const STRIP_BYTES: usize = 128 << 10;

/// A convolution with its weights in the order in which kernels read them.
pub struct Convolution {
    /// Where its windows lie.
    pub window: Window,
    /// ONNX's output_padding, if it is a transposed one.
    pub transposed: Option<[usize; 3]>,
    /// Output channels.
    pub channels: usize,
    /// The tensors it reads, as if they were joined: channels and channels of a block.
    parts: Vec<(usize, usize)>,
    groups: Vec<Group>,
    /// One per output channel, whole blocks.
    bias: Vec<f32>,
    slope: f32,
}

/// Output channels that are computed together.
struct Group {
    first_block: usize,
    blocks: usize,
    /// For each block of input channels and each tap: input channel by input channel, one per output channel.
    weights: Vec<f32>,
}

/// A convolution's numbers as a graph has them.
pub struct Weights {
    /// Output channels.
    pub outputs: usize,
    /// Input channels.
    pub inputs: usize,
    /// Shape (output channels, input channels, taps).
    pub values: Vec<f32>,
    /// One per output channel.
    pub bias: Vec<f32>,
}

impl Convolution {
    /// Orders the weights. `parts`: channels and channels of a block of each input.
    pub fn new(
        kernels: Kernels,
        window: Window,
        transposed: Option<[usize; 3]>,
        weights: &Weights,
        parts: Vec<(usize, usize)>,
        slope: f32,
    ) -> Convolution {
        let n_blocks = weights.outputs.div_ceil(BLOCK);
        let n_taps: usize = window.kernel.iter().product();
        let mut groups = Vec::new();
        let mut first_block = 0;
        while first_block < n_blocks {
            let blocks = kernels.group(n_blocks - first_block);
            let mut packed = Vec::new();
            let mut before = 0;
            for (channels, block) in &parts {
                for first in (0..*channels).step_by(*block) {
                    for tap in 0..n_taps {
                        for c in first..first + block {
                            for o in first_block * BLOCK..(first_block + blocks) * BLOCK {
                                let known = o < weights.outputs && c < *channels;
                                let at = (o * weights.inputs + before + c) * n_taps + tap;
                                packed.push(if known { weights.values[at] } else { 0.0 });
                            }
                        }
                    }
                }
                before += channels;
            }
            groups.push(Group { first_block, blocks, weights: packed });
            first_block += blocks;
        }
        let mut bias = weights.bias.clone();
        bias.resize(n_blocks * BLOCK, 0.0);
        Convolution { window, transposed, channels: weights.outputs, parts, groups, bias, slope }
    }

    /// Bytes of its weights.
    pub fn memory_bytes(&self) -> usize {
        size_of::<f32>() * (self.bias.len() + self.groups.iter().map(|g| g.weights.len()).sum::<usize>())
    }

    /// Multiplications for an output of this layout, those with padding included (as others count them).
    pub fn multiplications(&self, output: &Layout) -> usize {
        let inputs: usize = self.parts.iter().map(|p| p.0).sum();
        let taps: usize = self.window.kernel.iter().product();
        let strides: usize = if self.transposed.is_some() { self.window.stride.iter().product() } else { 1 };
        output.n_voxels() * self.channels * inputs * taps / strides
    }

    /// Voxels of the output for an input of `shape`; `None` if the window does not fit in.
    pub fn output_shape(&self, shape: [usize; 3]) -> Option<[usize; 3]> {
        let size = |a: usize| match self.transposed {
            None => self.window.slid(a, shape[a]),
            Some(padding) => self.window.spread(a, shape[a], padding[a]),
        };
        Some([size(0)?, size(1)?, size(2)?])
    }

    /// Zero columns that its input of `shape` needs on each side.
    pub fn halo(&self, shape: [usize; 3], output: [usize; 3]) -> usize {
        let phases = self.phases(output[2]);
        let reach = phases.iter().flat_map(|p| {
            let last = p.input_step * p.n.saturating_sub(1);
            p.taps.iter().map(move |(_, d)| (-d).max(d + last as isize - (shape[2] as isize - 1)))
        });
        reach.max().unwrap_or(0).max(0) as usize
    }

    /// For each output voxel along z or y: the first input voxel and the taps inside, counted from that.
    fn places(&self, axis: usize, n_in: usize, n_out: usize) -> Places {
        let Window { kernel, stride, dilation, pad_low, .. } = self.window;
        let (s, d, pad) = (stride[axis] as isize, dilation[axis] as isize, pad_low[axis] as isize);
        let mut places = Places { patterns: Vec::new(), of: Vec::new() };
        for o in 0..n_out as isize {
            let base = if self.transposed.is_some() { o / s } else { o * s };
            let mut pattern = Vec::new();
            for k in 0..kernel[axis] {
                let read = if self.transposed.is_some() {
                    let at = o + pad - k as isize * d;
                    if at.rem_euclid(s) == 0 { at.div_euclid(s) } else { continue }
                } else {
                    o * s + k as isize * d - pad
                };
                if (0..n_in as isize).contains(&read) {
                    pattern.push((k, read - base));
                }
            }
            let known = places.patterns.iter().position(|p| *p == pattern).unwrap_or_else(|| {
                places.patterns.push(pattern);
                places.patterns.len() - 1
            });
            places.of.push((known, base));
        }
        places
    }

    fn phases(&self, n_out: usize) -> Vec<Phase> {
        let Window { kernel, stride, dilation, pad_low, .. } = self.window;
        let (s, d, pad) = (stride[2], dilation[2] as isize, pad_low[2] as isize);
        if self.transposed.is_none() {
            let taps = (0..kernel[2]).map(|k| (k, k as isize * d - pad)).collect();
            return vec![Phase { first: 0, n: n_out, output_step: 1, input_step: s, taps }];
        }
        let phase = |r: usize| {
            let at = |k: usize| r as isize + pad - k as isize * d;
            let inside = (0..kernel[2]).filter(|k| at(*k).rem_euclid(s as isize) == 0);
            let taps = inside.map(|k| (k, at(k).div_euclid(s as isize))).collect();
            Phase { first: r, n: (n_out - r).div_ceil(s), output_step: s, input_step: 1, taps }
        };
        (0..s.min(n_out)).map(phase).collect()
    }

    /// What does not change from one input of this size to the next.
    pub fn sweep(&self, inputs: &[Layout], output: Layout) -> Sweep {
        let shape = inputs[0].shape_zyx;
        let z = self.places(0, shape[0], output.shape_zyx[0]);
        let y = self.places(1, shape[1], output.shape_zyx[1]);
        let phases = self.phases(output.shape_zyx[2]);
        let [_, k_y, k_x] = self.window.kernel;
        let mut taps = Vec::new();
        for input in inputs {
            for blocks in 1..=GROUP_MAX {
                for along_z in &z.patterns {
                    for along_y in &y.patterns {
                        for phase in &phases {
                            let mut list = Vec::new();
                            for (kz, dz) in along_z {
                                for (ky, dy) in along_y {
                                    for (kx, dx) in &phase.taps {
                                        let row = (dz * input.shape_zyx[1] as isize + dy) * input.row() as isize;
                                        list.push(Tap {
                                            input: row + dx * input.block as isize,
                                            weights: ((kz * k_y + ky) * k_x + kx) * input.block * blocks * BLOCK,
                                        });
                                    }
                                }
                            }
                            taps.push(Taps::new(list));
                        }
                    }
                }
            }
        }
        Sweep { inputs: inputs.to_vec(), output, z, y, phases, taps }
    }

    /// Computes the convolution; with `statistics` also the moments of each output channel (whole blocks).
    pub fn run(
        &self,
        kernels: Kernels,
        sweep: &Sweep,
        inputs: &[&[f32]],
        output: &mut [f32],
        statistics: bool,
    ) -> Vec<Moments> {
        let layout = sweep.output;
        let most = self.groups.iter().map(|g| g.blocks).max().unwrap_or(1);
        let strip_rows = (STRIP_BYTES / (size_of::<f32>() * layout.row() * most)).clamp(1, layout.rows());
        // Memory of the output by (block, strip), then by task: all blocks of a group, one strip.
        let mut memory: Vec<Vec<Option<&mut [f32]>>> = output[..layout.len()]
            .chunks_exact_mut(layout.plane())
            .map(|plane| plane.chunks_mut(strip_rows * layout.row()).map(Some).collect())
            .collect();
        let mut tasks = Vec::new();
        for group in &self.groups {
            for strip in 0..layout.rows().div_ceil(strip_rows) {
                let of_group = memory[group.first_block..][..group.blocks].iter_mut();
                let memory: Vec<&mut [f32]> = of_group.filter_map(|strips| strips[strip].take()).collect();
                tasks.push(Task { group, first_row: strip * strip_rows, memory });
            }
        }
        let found: Vec<Vec<Moments>> =
            tasks.into_par_iter().map(|task| self.strip(kernels, sweep, inputs, task, statistics)).collect();
        // Always in the order of the strips, so that the sums do not depend on who was first.
        let mut moments = vec![Moments::default(); if statistics { layout.blocks() * BLOCK } else { 0 }];
        let strips = layout.rows().div_ceil(strip_rows);
        for (k, of_task) in found.iter().enumerate() {
            let first = self.groups[k / strips].first_block * BLOCK;
            moments.iter_mut().skip(first).zip(of_task).for_each(|(all, part)| all.join(part));
        }
        moments
    }

    fn strip(
        &self,
        kernels: Kernels,
        sweep: &Sweep,
        inputs: &[&[f32]],
        mut task: Task,
        statistics: bool,
    ) -> Vec<Moments> {
        let (layout, group) = (sweep.output, task.group);
        let n_rows = task.memory[0].len() / layout.row();
        let n_taps: usize = self.window.kernel.iter().product();
        let bias = &self.bias[group.first_block * BLOCK..][..group.blocks * BLOCK];
        let passes = self.passes(group);
        for (k, pass) in passes.iter().enumerate() {
            let input = &sweep.inputs[pass.part];
            let block_weights = n_taps * input.block * group.blocks * BLOCK;
            let channels =
                Channels { n_blocks: pass.n, block: input.block, plane: input.plane(), weights: block_weights };
            for row in 0..n_rows {
                let (z, y) =
                    ((task.first_row + row) / layout.shape_zyx[1], (task.first_row + row) % layout.shape_zyx[1]);
                let ((pattern_z, base_z), (pattern_y, base_y)) = (sweep.z.of[z], sweep.y.of[y]);
                let from = (base_z * input.shape_zyx[1] as isize + base_y) * input.row() as isize;
                for (p, phase) in sweep.phases.iter().enumerate() {
                    kernels.row(Row {
                        input: &inputs[pass.part][pass.first * input.plane()..],
                        at: from + (input.halo * input.block) as isize,
                        step: phase.input_step * input.block,
                        channels,
                        taps: sweep.taps(pass.part, group.blocks, pattern_z, pattern_y, p),
                        weights: &group.weights[pass.weights..],
                        bias: (k == 0).then_some(bias),
                        output: &mut task.memory,
                        output_at: row * layout.row() + (layout.halo + phase.first) * BLOCK,
                        output_step: phase.output_step * BLOCK,
                        n: phase.n,
                        slope: if k + 1 == passes.len() { self.slope } else { 1.0 },
                    });
                }
            }
        }
        let mut moments = vec![Moments::default(); if statistics { group.blocks * BLOCK } else { 0 }];
        for (memory, moments) in task.memory.iter_mut().zip(moments.chunks_exact_mut(BLOCK)) {
            for row in memory.chunks_exact(layout.row()) {
                Moments::add_row(moments, &row[layout.halo * BLOCK..][..layout.shape_zyx[2] * BLOCK]);
            }
        }
        task.memory.iter_mut().for_each(|memory| layout.clear_halo(memory, 0.0));
        moments
    }

    /// The blocks of input channels in the order in which they are summed.
    fn passes(&self, group: &Group) -> Vec<Pass> {
        let n_taps: usize = self.window.kernel.iter().product();
        let mut passes = Vec::new();
        let mut weights = 0;
        for (part, (channels, block)) in self.parts.iter().enumerate() {
            let n_blocks = channels.div_ceil(*block);
            let block_weights = n_taps * block * group.blocks * BLOCK;
            let most = (PASS_WEIGHTS_BYTES / (size_of::<f32>() * block_weights)).max(1);
            for first in (0..n_blocks).step_by(most) {
                let n = most.min(n_blocks - first);
                passes.push(Pass { part, first, n, weights });
                weights += n * block_weights;
            }
        }
        passes
    }
}

/// Blocks `first` to `first + n` of an input, whose weights start at `weights`.
struct Pass {
    part: usize,
    first: usize,
    n: usize,
    weights: usize,
}

/// A strip of rows of a group of output channels.
struct Task<'a, 'b> {
    group: &'a Group,
    first_row: usize,
    /// One slice per block.
    memory: Vec<&'b mut [f32]>,
}

/// How an axis is swept: patterns of (tap, input voxel from the first), and for each output voxel its pattern and first input voxel.
struct Places {
    patterns: Vec<Vec<(usize, isize)>>,
    of: Vec<(usize, isize)>,
}

/// Output voxels of a row that have the same taps: `first`, `first + output_step`, ...
struct Phase {
    first: usize,
    n: usize,
    output_step: usize,
    input_step: usize,
    taps: Vec<(usize, isize)>,
}

/// A convolution on inputs of one size.
pub struct Sweep {
    inputs: Vec<Layout>,
    output: Layout,
    z: Places,
    y: Places,
    phases: Vec<Phase>,
    /// By (input, blocks of the group, pattern along z, pattern along y, phase).
    taps: Vec<Taps>,
}

impl Sweep {
    fn taps(&self, part: usize, blocks: usize, z: usize, y: usize, phase: usize) -> &Taps {
        let by_group = part * GROUP_MAX + blocks - 1;
        let by_rows = (by_group * self.z.patterns.len() + z) * self.y.patterns.len() + y;
        &self.taps[by_rows * self.phases.len() + phase]
    }
}

/// Number, mean and sum of squared differences from it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moments {
    n: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// Population variance.
    pub fn variance(&self) -> f64 {
        self.squares / self.n.max(1.0)
    }
    /// Mean.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Chan's rule; stable where the mean is far from 0, unlike the mean of squares minus the square of the mean.
    pub fn join(&mut self, other: &Moments) {
        let n = self.n + other.n;
        if other.n > 0.0 {
            let apart = other.mean - self.mean;
            self.mean += apart * other.n / n;
            self.squares += other.squares + apart * apart * self.n * other.n / n;
            self.n = n;
        }
    }

    /// Adds the voxels of a row, each with the channels of a block; `of` has one entry per channel.
    pub fn add_row(of: &mut [Moments], row: &[f32]) {
        let (mut sum, mut squares) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
        let n = (row.len() / BLOCK) as f32;
        let voxels = || row.as_chunks::<BLOCK>().0.iter();
        for voxel in voxels() {
            (0..BLOCK).for_each(|c| sum[c] += voxel[c]);
        }
        let mean = sum.map(|s| s / n);
        for voxel in voxels() {
            (0..BLOCK).for_each(|c| squares[c] += (voxel[c] - mean[c]) * (voxel[c] - mean[c]));
        }
        for (c, moments) in of.iter_mut().enumerate() {
            let part = Moments { n: f64::from(n), mean: f64::from(mean[c]), squares: f64::from(squares[c]) };
            moments.join(&part);
        }
    }
}
