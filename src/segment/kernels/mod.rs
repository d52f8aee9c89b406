//! The inner loops of convolutions, for each instruction set that a machine of ours may have.
//!
//! One loop ([`tile`]) over a [`tile::Vector`] serves all of them; a set adds how one vector is loaded, multiplied and
//! stored (`x86`, `neon`, `plain`) and which tiles fit its registers. The processor is asked at run time
//! ([`InstructionSet::best`]).
//!
//! `unsafe` is in this folder only: [`Kernels::row`] checks every index before it hands pointers on.

#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::net::layout::BLOCK;
use tile::{Job, Tile};

/// Most blocks of output channels that one tile computes.
pub const GROUP_MAX: usize = 4;

/// What the processor has and a kernel uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstructionSet {
    /// AVX-512 F, VL and DQ: 16 f32 in a vector, 32 vectors.
    Avx512,
    /// AVX2 and FMA: 8 f32 in a vector, 16 vectors.
    Avx2,
    /// aarch64: 4 f32 in a vector, 32 vectors.
    Neon,
    /// Whatever the compiler makes of loops.
    Plain,
}

impl InstructionSet {
    /// Those that this processor has, the fastest first.
    pub fn available() -> Vec<InstructionSet> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma");
            if avx2 && has!("avx512f") && has!("avx512vl") && has!("avx512dq") {
                found.push(InstructionSet::Avx512);
            }
            if avx2 {
                found.push(InstructionSet::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        found.push(InstructionSet::Neon);
        found.push(InstructionSet::Plain);
        found
    }

    /// The fastest that this processor has.
    pub fn best() -> InstructionSet {
        Self::available()[0]
    }

    /// As results record it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "AVX-512",
            Self::Avx2 => "AVX2",
            Self::Neon => "NEON",
            Self::Plain => "plain",
        }
    }
}

/// One tap of a window: where it reads, counted from the first input voxel of a row of output, and its weights, counted
/// from a block's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tap {
    /// Values, may be negative.
    pub input: isize,
    /// Values.
    pub weights: usize,
}

/// The taps of a row, with the range in which they read.
#[derive(Debug, Clone, PartialEq)]
pub struct Taps {
    list: Vec<Tap>,
    low: isize,
    high: isize,
    weights_high: usize,
}

impl Taps {
    /// Any taps, none included (then a row is its bias).
    pub fn new(list: Vec<Tap>) -> Taps {
        let low = list.iter().map(|t| t.input).min().unwrap_or(0);
        let high = list.iter().map(|t| t.input).max().unwrap_or(0);
        let weights_high = list.iter().map(|t| t.weights).max().unwrap_or(0);
        Taps { list, low, high, weights_high }
    }
}

/// The input channels that a call sums over: `n_blocks` blocks of `block` channels, one `plane` apart.
#[derive(Debug, Clone, Copy)]
pub struct Channels {
    /// How many blocks.
    pub n_blocks: usize,
    /// Channels of a block: 1 or [`BLOCK`].
    pub block: usize,
    /// Values from one block to the next.
    pub plane: usize,
    /// Weights from one block to the next.
    pub weights: usize,
}

/// One row of output voxels of one group of output channels; sums over some input channels are added to it.
pub struct Row<'a, 'b> {
    /// The blocks of input channels.
    pub input: &'a [f32],
    /// Where in `input` the first voxel of the row reads, before the taps' offsets.
    pub at: isize,
    /// Values from what one output voxel reads to what the next reads.
    pub step: usize,
    /// What is summed.
    pub channels: Channels,
    /// Where.
    pub taps: &'a Taps,
    /// Weights of the group: for each block and tap, input channel by input channel, one per output channel.
    pub weights: &'a [f32],
    /// The sum's start; without it the sum goes on from what the output holds.
    pub bias: Option<&'a [f32]>,
    /// The row's memory in each block of output channels.
    pub output: &'a mut [&'b mut [f32]],
    /// Index of the row's first voxel in `output`.
    pub output_at: usize,
    /// Values from one output voxel to the next.
    pub output_step: usize,
    /// Output voxels.
    pub n: usize,
    /// max(v, slope * v) is stored: 1 leaves v.
    pub slope: f32,
}

/// The tiles of one instruction set.
#[derive(Debug, Clone, Copy)]
pub struct Kernels {
    set: InstructionSet,
}

impl Kernels {
    /// Those of an instruction set; `None` if the processor does not have it.
    pub fn new(set: InstructionSet) -> Option<Kernels> {
        InstructionSet::available().contains(&set).then_some(Kernels { set })
    }

    /// The instruction set.
    pub fn set(&self) -> InstructionSet {
        self.set
    }

    /// Blocks of output channels to compute together when `left` are left.
    pub fn group(&self, left: usize) -> usize {
        let sizes: &[usize] = match self.set {
            InstructionSet::Avx512 => &[4, 2, 1],
            InstructionSet::Avx2 | InstructionSet::Neon => &[2, 1],
            InstructionSet::Plain => &[1],
        };
        sizes.iter().copied().find(|n| *n <= left).unwrap_or(1)
    }

    fn pick(&self, blocks: usize, pixels: usize, block: usize, step: usize) -> Option<Tile> {
        match self.set {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => x86::avx512(blocks, pixels, block, step),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => x86::avx2(blocks, pixels, block, step),
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon => neon::neon(blocks, pixels, block, step),
            _ => plain::plain(blocks, pixels, block, step),
        }
    }

    /// Most output voxels of one tile, by what fits the registers.
    fn pixels_max(&self, blocks: usize) -> usize {
        match (self.set, blocks) {
            (InstructionSet::Avx512, _) => 12,
            (InstructionSet::Avx2, 2) | (InstructionSet::Neon, 2) => 6,
            (InstructionSet::Avx2, _) | (InstructionSet::Neon, _) => 10,
            (InstructionSet::Plain, _) => 4,
        }
    }

    /// Computes a row.
    ///
    /// # Panics
    /// If an index would lie outside a slice: a mistake of the caller.
    pub fn row(&self, row: Row) {
        let (blocks, channels, n) = (row.output.len(), row.channels, row.n);
        if n == 0 || blocks == 0 {
            return;
        }
        let width = blocks * BLOCK;
        let last_block = channels.n_blocks.saturating_sub(1);
        if channels.n_blocks > 0 && !row.taps.list.is_empty() {
            let low = row.at + row.taps.low;
            let high =
                row.at + row.taps.high + (last_block * channels.plane + (n - 1) * row.step + channels.block) as isize;
            assert!(low >= 0 && high <= row.input.len() as isize, "a row reads its input");
            let weights = last_block * channels.weights + row.taps.weights_high + channels.block * width;
            assert!(weights <= row.weights.len(), "a row reads its weights");
        }
        assert!(row.bias.is_none_or(|b| b.len() >= width), "a row reads its bias");
        let written = row.output_at + (n - 1) * row.output_step + BLOCK;
        assert!(blocks <= GROUP_MAX && row.output.iter().all(|o| o.len() >= written), "a row writes its output");
        let mut outputs = [std::ptr::null_mut(); GROUP_MAX];
        for (to, output) in outputs.iter_mut().zip(row.output.iter_mut()) {
            *to = output[row.output_at..].as_mut_ptr();
        }
        let job = Job {
            taps: &row.taps.list,
            channels,
            weights: row.weights.as_ptr(),
            bias: row.bias.map_or(std::ptr::null(), <[f32]>::as_ptr),
            outputs,
            output_step: row.output_step,
            slope: row.slope,
        };
        // Tiles of nearly the same size: 13 voxels are 7 + 6, since a tile of one voxel waits for its own sums.
        let known = self.pick(blocks, 1, channels.block, row.step).is_some();
        let n_tiles = n.div_ceil(if known { self.pixels_max(blocks) } else { 1 });
        let mut first = 0;
        for k in 0..n_tiles {
            let pixels = n / n_tiles + usize::from(k < n % n_tiles);
            // A tile of one voxel has no step: any stride can use it.
            let step = if known { row.step } else { channels.block };
            let tile = self.pick(blocks, pixels, channels.block, step).expect("every tile up to the largest is there");
            let input = row.input.as_ptr().wrapping_offset(row.at).wrapping_add(first * row.step);
            // SAFETY: the processor has the set (`Kernels::new`); the tile reads `taps`, `channels` and `pixels` from
            // `input` and writes `pixels` voxels, all inside the slices as asserted above.
            unsafe { tile(&job, input, first) };
            first += pixels;
        }
    }
}
