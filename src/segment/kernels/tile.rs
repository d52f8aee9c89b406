//! The loop of all convolutions: a tile of output voxels times output channels stays in registers while taps and input channels go by.

use super::{Channels, GROUP_MAX, Tap};
use crate::segment::net::layout::BLOCK;

/// What the tiles of a row share.
pub struct Job<'a> {
    pub taps: &'a [Tap],
    pub channels: Channels,
    pub weights: *const f32,
    /// Null: the sum goes on from what the output holds.
    pub bias: *const f32,
    /// The row's first voxel in each block of output channels.
    pub outputs: [*mut f32; GROUP_MAX],
    pub output_step: usize,
    pub slope: f32,
}

/// Computes a tile: what its first voxel reads, and the number of that voxel in the row.
pub type Tile = unsafe fn(&Job, *const f32, usize);

/// A vector of f32. All pointers are unaligned.
pub trait Vector: Copy {
    /// f32 in it.
    const N: usize;
    /// As many f32 as it holds.
    unsafe fn load(from: *const f32) -> Self;
    /// One value everywhere.
    unsafe fn splat(value: f32) -> Self;
    /// `self + a * b`, rounded once where the set can.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    /// Product.
    unsafe fn times(self, other: Self) -> Self;
    /// Larger of each pair.
    unsafe fn larger(self, other: Self) -> Self;
    /// Output channels `number * N` and on of a voxel, which lie in the blocks behind `from`.
    unsafe fn gather(from: &[*mut f32; GROUP_MAX], at: usize, number: usize) -> Self;
    /// The reverse of `gather`.
    unsafe fn scatter(self, to: &[*mut f32; GROUP_MAX], at: usize, number: usize);
}

/// `V` vectors of output channels times `P` output voxels, which read `STEP` values apart; `C` input channels in a block.
///
/// Each value of the input is broadcast and used for `V` products, each vector of weights for `P`; 28 sums in 32 registers at most.
///
/// # Safety
/// The processor has the vector's instruction set, and everything that the job describes for `P` voxels from `first` on lies in memory.
#[inline(always)]
pub unsafe fn tile<T: Vector, const V: usize, const P: usize, const C: usize, const STEP: usize>(
    job: &Job,
    input: *const f32,
    first: usize,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [[T::splat(0.0); V]; P];
        for (p, sums) in sums.iter_mut().enumerate() {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = if job.bias.is_null() {
                    T::gather(&job.outputs, (first + p) * job.output_step, v)
                } else {
                    T::load(job.bias.add(v * T::N))
                };
            }
        }
        for block in 0..job.channels.n_blocks {
            // Wrapping: taps in the halo lie before the first voxel.
            let input = input.wrapping_add(block * job.channels.plane);
            let weights = job.weights.add(block * job.channels.weights);
            for tap in job.taps {
                let (mut x, mut w) = (input.wrapping_offset(tap.input), weights.add(tap.weights));
                for _ in 0..C {
                    let mut of_channel = [T::splat(0.0); V];
                    for (v, weights) in of_channel.iter_mut().enumerate() {
                        *weights = T::load(w.add(v * T::N));
                    }
                    for (p, sums) in sums.iter_mut().enumerate() {
                        let value = T::splat(*x.wrapping_add(p * STEP));
                        for (sum, weights) in sums.iter_mut().zip(of_channel) {
                            *sum = sum.add_product(value, weights);
                        }
                    }
                    x = x.wrapping_add(1);
                    w = w.wrapping_add(V * T::N);
                }
            }
        }
        let slope = T::splat(job.slope);
        for (p, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                sum.larger(sum.times(slope)).scatter(&job.outputs, (first + p) * job.output_step, v);
            }
        }
    }
}

/// Makes the function that picks a tile: a table of (blocks of output channels, vector, vectors, voxels).
macro_rules! tiles {
    ($(#[$about:meta])* $name:ident, $(#[$feature:meta])?, $(($blocks:literal, $vector:ty, $v:literal, [$($p:literal)*])),*) => {
        $(#[$about])*
        pub fn $name(blocks: usize, pixels: usize, block: usize, step: usize) -> Option<$crate::segment::kernels::tile::Tile> {
            $(#[$feature])?
            unsafe fn with<
                T: $crate::segment::kernels::tile::Vector,
                const V: usize,
                const P: usize,
                const C: usize,
                const STEP: usize,
            >(
                job: &$crate::segment::kernels::tile::Job,
                input: *const f32,
                first: usize,
            ) {
                // SAFETY: as the caller promises.
                unsafe { $crate::segment::kernels::tile::tile::<T, V, P, C, STEP>(job, input, first) }
            }
            match (blocks, pixels, block, step) {
                $($(
                    ($blocks, $p, 1, 1) => Some(with::<$vector, $v, $p, 1, 1>),
                    ($blocks, $p, 8, 8) => Some(with::<$vector, $v, $p, 8, 8>),
                    ($blocks, $p, 8, 16) => Some(with::<$vector, $v, $p, 8, 16>),
                )*)*
                _ => None,
            }
        }
    };
}
pub(super) use tiles;

const _: () = assert!(BLOCK == 8, "the tables of tiles name the block");
