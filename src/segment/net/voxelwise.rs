//! What is done voxel by voxel: normalization, sums, activation; and pooling.

use super::graph::Window;
use super::layout::{BLOCK, Layout};
use super::sweep::Moments;
use rayon::prelude::*;

/// y = max(t, slope * t), t = factor[c] * x + shift[c] + other.
pub struct Affine {
    /// One per channel, whole blocks.
    pub factor: Vec<f32>,
    /// One per channel, whole blocks.
    pub shift: Vec<f32>,
    /// 1 leaves t.
    pub slope: f32,
}

impl Affine {
    /// The one that normalizes channels with these moments (ONNX: InstanceNormalization).
    pub fn normalizing(moments: &[Moments], scale: &[f32], bias: &[f32], epsilon: f32, slope: f32) -> Affine {
        let factor = |k: usize| f64::from(scale[k]) / (moments[k].variance() + f64::from(epsilon)).sqrt();
        let shift = |k: usize| (f64::from(bias[k]) - moments[k].mean() * factor(k)) as f32;
        let all = 0..scale.len();
        Affine { factor: all.clone().map(|k| factor(k) as f32).collect(), shift: all.map(shift).collect(), slope }
    }

    /// In place.
    pub fn apply(&self, layout: Layout, values: &mut [f32], other: Option<(Layout, &[f32])>) {
        values[..layout.len()].par_chunks_exact_mut(layout.row()).enumerate().for_each(|(k, row)| {
            let (factor, shift) = self.of_block(k / layout.rows());
            let voxels = inside_mut(layout, row);
            match other {
                None => voxels
                    .iter_mut()
                    .for_each(|voxel| self.voxel(voxel, voxel.to_owned(), factor, shift, &[0.0; BLOCK])),
                Some((other, values)) => {
                    let added = inside(other, k, values);
                    let pairs = voxels.iter_mut().zip(added);
                    pairs.for_each(|(voxel, added)| self.voxel(voxel, voxel.to_owned(), factor, shift, added));
                }
            }
        });
    }

    /// Into another tensor of the same shape.
    pub fn write(&self, from: (Layout, &[f32]), layout: Layout, to: &mut [f32], other: Option<(Layout, &[f32])>) {
        to[..layout.len()].par_chunks_exact_mut(layout.row()).enumerate().for_each(|(k, row)| {
            inside_mut(layout, row).copy_from_slice(inside(from.0, k, from.1));
            layout.clear_halo(row, 0.0);
        });
        self.apply(layout, to, other);
    }

    fn of_block(&self, block: usize) -> (&[f32; BLOCK], &[f32; BLOCK]) {
        (&self.factor.as_chunks().0[block], &self.shift.as_chunks().0[block])
    }

    fn voxel(
        &self,
        to: &mut [f32; BLOCK],
        x: [f32; BLOCK],
        factor: &[f32; BLOCK],
        shift: &[f32; BLOCK],
        other: &[f32; BLOCK],
    ) {
        for c in 0..BLOCK {
            let t = x[c] * factor[c] + shift[c] + other[c];
            let u = t * self.slope;
            to[c] = if t > u { t } else { u };
        }
    }
}

/// The voxels of a row without its halo.
fn inside_mut(layout: Layout, row: &mut [f32]) -> &mut [[f32; BLOCK]] {
    &mut row.as_chunks_mut().0[layout.halo..][..layout.shape_zyx[2]]
}

/// The voxels of row `k` (over all blocks) of a tensor.
fn inside(layout: Layout, k: usize, values: &[f32]) -> &[[f32; BLOCK]] {
    &values[k * layout.row()..].as_chunks().0[layout.halo..][..layout.shape_zyx[2]]
}

/// Moments of each channel (whole blocks), row by row in a fixed order.
pub fn moments(layout: Layout, values: &[f32]) -> Vec<Moments> {
    let planes = values[..layout.len()].par_chunks_exact(layout.plane());
    let of_blocks: Vec<[Moments; BLOCK]> = planes
        .map(|plane| {
            let mut found = [Moments::default(); BLOCK];
            for k in 0..layout.rows() {
                Moments::add_row(&mut found, inside(layout, k, plane).as_flattened());
            }
            found
        })
        .collect();
    of_blocks.into_flattened()
}

/// What a pooling window gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pooling {
    /// The largest value inside.
    Max,
    /// The mean of those inside.
    Mean,
    /// Their sum divided by the size of the whole window, padding included.
    MeanWithPadding,
}

/// Pools each channel.
pub fn pool(window: &Window, pooling: Pooling, from: (Layout, &[f32]), layout: Layout, to: &mut [f32]) {
    let (input, values) = from;
    let size = input.shape_zyx;
    // The input voxels along an axis that output voxel `o` reads.
    let reads = |axis: usize, o: usize| {
        let at =
            move |k: usize| (o * window.stride[axis] + k * window.dilation[axis]).checked_sub(window.pad_low[axis]);
        (0..window.kernel[axis]).filter_map(at).filter(move |at| *at < size[axis])
    };
    to[..layout.len()].par_chunks_exact_mut(layout.row()).enumerate().for_each(|(k, row)| {
        let (block, z, y) = (k / layout.rows(), k % layout.rows() / layout.shape_zyx[1], k % layout.shape_zyx[1]);
        let start = if pooling == Pooling::Max { f32::NEG_INFINITY } else { 0.0 };
        for (x, voxel) in inside_mut(layout, row).iter_mut().enumerate() {
            let (mut found, mut n) = ([start; BLOCK], 0usize);
            for z in reads(0, z) {
                for y in reads(1, y) {
                    let row = inside(input, block * input.rows() + z * size[1] + y, values);
                    for x in reads(2, x) {
                        n += 1;
                        for (found, value) in found.iter_mut().zip(row[x]) {
                            *found = match pooling {
                                Pooling::Max => found.max(value),
                                _ => *found + value,
                            };
                        }
                    }
                }
            }
            let divisor = match pooling {
                Pooling::Max => 1,
                Pooling::Mean => n.max(1),
                Pooling::MeanWithPadding => window.kernel.iter().product(),
            };
            *voxel = found.map(|v| v / divisor as f32);
        }
        layout.clear_halo(row, 0.0);
    });
}
