//! How tensors lie in memory: blocks of eight channels, so that one vector holds the same voxel of eight channels.

use ndarray::{ArrayD, ArrayViewD};
use rayon::prelude::*;

/// Channels of a block: one AVX2 vector, half an AVX-512 vector, two NEON vectors of f32. Not 16, because thin layers at full resolution
/// (8 channels in the built-in network, 45 % of its work) would be padded to twice their size.
pub const BLOCK: usize = 8;

/// Shape and place of a tensor: (blocks of channels, z, y, x, channels of a block). A 2-D tensor has one z.
///
/// Rows have `halo` zero columns on both sides, so that no kernel asks whether x is inside; along z and y kernels leave out what is outside.
/// Channels that fill up the last block are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Channels that mean something.
    pub channels: usize,
    /// Voxels along (z, y, x).
    pub shape_zyx: [usize; 3],
    /// Channels of a block: [`BLOCK`], or 1 for the network's input (planes, as it comes).
    pub block: usize,
    /// Zero columns on each side of a row.
    pub halo: usize,
}

impl Layout {
    /// Blocks of channels.
    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(self.block)
    }
    /// Values from one row to the next.
    pub fn row(&self) -> usize {
        (self.shape_zyx[2] + 2 * self.halo) * self.block
    }
    /// Rows of a block: z times y.
    pub fn rows(&self) -> usize {
        self.shape_zyx[0] * self.shape_zyx[1]
    }
    /// Values from one block to the next.
    pub fn plane(&self) -> usize {
        self.rows() * self.row()
    }
    /// Values of the whole tensor.
    pub fn len(&self) -> usize {
        self.blocks() * self.plane()
    }
    /// Index of the first voxel inside (x = 0, first channel of the block) of a row.
    pub fn at(&self, block: usize, z: usize, y: usize) -> usize {
        block * self.plane() + (z * self.shape_zyx[1] + y) * self.row() + self.halo * self.block
    }
    /// Voxels.
    pub fn n_voxels(&self) -> usize {
        self.shape_zyx.iter().product()
    }

    /// Writes zeros (`zero`: what stands for 0, a zero point) into the halo of whole rows. Buffers are used again, so it is not zero by itself.
    pub fn clear_halo<T: Copy>(&self, rows: &mut [T], zero: T) {
        let width = self.halo * self.block;
        if width > 0 {
            for row in rows.chunks_exact_mut(self.row()) {
                let end = row.len() - width;
                row[..width].fill(zero);
                row[end..].fill(zero);
            }
        }
    }

    /// From an array of shape (channels, [z,] y, x) into `values`; `convert` changes the kind of number.
    /// Halo and filling channels become `zero`.
    pub fn pack<S: Copy + Sync, T: Copy + Send + Sync>(
        &self,
        array: ArrayViewD<S>,
        values: &mut [T],
        zero: T,
        convert: impl Fn(S) -> T + Sync,
    ) {
        let array = array.as_standard_layout();
        let from = array.as_slice().expect("the standard layout is one slice");
        let (n, n_x) = (self.n_voxels(), self.shape_zyx[2]);
        values[..self.len()].par_chunks_exact_mut(self.row()).enumerate().for_each(|(k, row)| {
            let (block, start) = (k / self.rows(), k % self.rows() * n_x);
            row.fill(zero);
            for channel in block * self.block..((block + 1) * self.block).min(self.channels) {
                let source = &from[channel * n + start..][..n_x];
                let inside = &mut row[self.halo * self.block + channel % self.block..];
                inside.iter_mut().step_by(self.block).zip(source).for_each(|(to, v)| *to = convert(*v));
            }
        });
    }

    /// Back to an array of shape (channels, z, y, x), without z if `rank` is 2.
    pub fn unpack<S: Copy + Sync, T: Copy + Send + Sync + Default>(
        &self,
        values: &[S],
        rank: usize,
        convert: impl Fn(S) -> T + Sync,
    ) -> ArrayD<T> {
        let n_x = self.shape_zyx[2];
        let mut found = vec![T::default(); self.channels * self.n_voxels()];
        found.par_chunks_exact_mut(n_x).enumerate().for_each(|(k, to)| {
            let (channel, row) = (k / self.rows(), k % self.rows());
            let start = channel / self.block * self.plane() + row * self.row() + self.halo * self.block;
            let from = &values[start + channel % self.block..];
            to.iter_mut().zip(from.iter().step_by(self.block)).for_each(|(to, v)| *to = convert(*v));
        });
        let mut shape = vec![self.channels];
        shape.extend(&self.shape_zyx[3 - rank..]);
        ArrayD::from_shape_vec(shape, found).expect("one value per channel and voxel")
    }
}
