//! The sliding window: patches with half their size between them, mirrored, weighted by a Gaussian, summed in a slab
//! that moves along the first axis. Only slices that a patch can still reach are in memory.

use super::recipe::Recipe;
use crate::segment::{SegmentError, network::Network};
use ndarray::{Array3, Array4, ArrayD, ArrayView4, Axis, Ix3, Ix4, s};
use rayon::prelude::*;

/// Where the patches lie, on a grid that is padded to a whole patch.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// The patch, three axes.
    pub patch: [usize; 3],
    /// Shape of the padded grid.
    pub padded: [usize; 3],
    /// Voxels of padding before the image.
    pub below: [usize; 3],
    /// Starts of patches along each axis.
    pub starts: [Vec<usize>; 3],
}

impl Window {
    /// The patches over an image of this shape.
    pub fn over(shape: [usize; 3], recipe: &Recipe) -> Window {
        let patch = recipe.patch_3d();
        let padded: [usize; 3] = std::array::from_fn(|a| shape[a].max(patch[a]));
        let starts = std::array::from_fn(|a| {
            if a == 0 && recipe.is_2d() { (0..shape[0]).collect() } else { starts(padded[a], patch[a]) }
        });
        Window { patch, padded, below: std::array::from_fn(|a| (padded[a] - shape[a]) / 2), starts }
    }

    /// Number of patches.
    pub fn n_patches(&self) -> usize {
        self.starts.iter().map(Vec::len).product()
    }
}

/// 160 voxels, patch 64: starts 0, 32, 64, 96.
fn starts(n: usize, patch: usize) -> Vec<usize> {
    let room = n - patch;
    let steps = (room as f64 / (patch as f64 * 0.5)).ceil() as usize;
    let step = room as f64 / steps.max(1) as f64;
    (0..=steps).map(|k| (step * k as f64).round_ties_even() as usize).collect()
}

/// Weights of a patch's voxels: scipy's Gaussian of a point at half the patch, sigma an eighth of it, cut at 4 sigma;
/// peak 10; rounded to f16 as nnU-Net keeps them, zeros replaced by the smallest other weight.
pub fn gaussian(patch: [usize; 3]) -> Array3<f32> {
    let along = patch.map(|n| {
        let sigma = n as f64 / 8.0;
        let radius = (4.0 * sigma + 0.5) as i64;
        let at = |k: usize| k as i64 - (n / 2) as i64;
        (0..n)
            .map(|k| if at(k).abs() <= radius { (-0.5 * (at(k) as f64 / sigma).powi(2)).exp() } else { 0.0 })
            .collect::<Vec<f64>>()
    });
    let mut weights =
        Array3::from_shape_fn(patch, |(z, y, x)| to_f16((10.0 * along[0][z] * along[1][y] * along[2][x]) as f32));
    let least = weights.iter().copied().filter(|w| *w > 0.0).fold(f32::INFINITY, f32::min);
    weights.mapv_inplace(|w| if w > 0.0 { w } else { least });
    weights
}

/// The nearest value that f16 can hold (ties to even; positive values up to 65504).
fn to_f16(v: f32) -> f32 {
    if v < 6.103_515_6e-5 {
        return (v * 16_777_216.0).round_ties_even() / 16_777_216.0; // below 2^-14 in steps of 2^-24
    }
    let bits = v.to_bits();
    f32::from_bits((bits + 0xfff + (bits >> 13 & 1)) & !0x1fff)
}

/// What runs the patches.
pub struct Sweep<'a> {
    /// The networks, one per fold.
    pub networks: &'a [Network],
    /// The model.
    pub recipe: &'a Recipe,
    /// Whether patches are mirrored as well.
    pub mirror: bool,
    /// Passes of the network at a time.
    pub passes: usize,
    /// Told the finished and all patches.
    pub progress: &'a (dyn Fn(usize, usize) + Sync),
}

impl Sweep<'_> {
    /// Logits of an image (channels, z, y, x) on the network's grid, slice after slice along its first axis:
    /// `sink(z, logits)`, logits of shape (heads, y, x).
    pub fn run(
        &self,
        image: ArrayView4<f32>,
        sink: &mut dyn FnMut(usize, Array3<f32>) -> Result<(), SegmentError>,
    ) -> Result<(), SegmentError> {
        let (_, n_z, n_y, n_x) = image.dim();
        let window = Window::over([n_z, n_y, n_x], self.recipe);
        let weights = gaussian(window.patch);
        let mut slab =
            Array4::<f32>::zeros((self.recipe.heads.count(), window.patch[0], window.padded[1], window.padded[2]));
        let places: Vec<[usize; 2]> =
            window.starts[1].iter().flat_map(|y| window.starts[2].iter().map(move |x| [*y, *x])).collect();
        let total = window.n_patches();
        let (mut done, mut next) = (0, 0);
        for (k, z) in window.starts[0].iter().enumerate() {
            self.row(image, &window, *z, &places, &weights, &mut slab, &mut |n| (self.progress)(done + n, total))?;
            done += places.len();
            (self.progress)(done, total);
            // No later patch reaches the slices before its start.
            let end = window.starts[0].get(k + 1).copied().unwrap_or(window.padded[0]);
            while next < end {
                let at = next % window.patch[0];
                if (window.below[0]..window.below[0] + n_z).contains(&next) {
                    let sums = slab.index_axis(Axis(1), at);
                    let sums = sums.slice(s![
                        ..,
                        window.below[1]..window.below[1] + n_y,
                        window.below[2]..window.below[2] + n_x
                    ]);
                    let mut logits = sums.to_owned();
                    let weight = slice_weight(&window, &weights, next);
                    let weight = weight
                        .slice(s![window.below[1]..window.below[1] + n_y, window.below[2]..window.below[2] + n_x]);
                    logits.axis_iter_mut(Axis(0)).into_par_iter().for_each(|mut class| class /= &weight);
                    sink(next - window.below[0], logits)?;
                }
                slab.index_axis_mut(Axis(1), at).fill(0.0);
                next += 1;
            }
        }
        Ok(())
    }

    /// All patches that start at `z`, some passes at a time, added in a fixed order.
    #[expect(clippy::too_many_arguments, reason = "the parts of the sweep, made once")]
    fn row(
        &self,
        image: ArrayView4<f32>,
        window: &Window,
        z: usize,
        places: &[[usize; 2]],
        weights: &Array3<f32>,
        slab: &mut Array4<f32>,
        done: &mut dyn FnMut(usize),
    ) -> Result<(), SegmentError> {
        let axes = if self.mirror { &self.recipe.mirror_axes[..] } else { &[] };
        let n_flips = 1usize << axes.len();
        let per_patch = n_flips * self.networks.len();
        let share = 1.0 / per_patch as f32;
        let n_tasks = places.len() * per_patch;
        for first in (0..n_tasks).step_by(self.passes.max(1)) {
            let tasks: Vec<usize> = (first..(first + self.passes.max(1)).min(n_tasks)).collect();
            let found: Vec<Result<Array4<f32>, SegmentError>> = tasks
                .par_iter()
                .map(|task| {
                    let [y, x] = places[task / per_patch];
                    let network = &self.networks[task % per_patch / n_flips];
                    self.pass(network, patch(image, window, [z, y, x]), axes, task % n_flips)
                })
                .collect();
            for (task, logits) in tasks.iter().zip(found) {
                let [y, x] = places[task / per_patch];
                add(slab, logits?.view(), weights, share, [z, y, x]);
            }
            done((tasks.last().map_or(0, |t| t + 1)) / per_patch);
        }
        Ok(())
    }

    /// One pass of a patch, mirrored along those axes whose bit is set, and mirrored back.
    fn pass(
        &self,
        network: &Network,
        mut input: Array4<f32>,
        axes: &[usize],
        flips: usize,
    ) -> Result<Array4<f32>, SegmentError> {
        let flat = self.recipe.is_2d();
        let flipped = axes.iter().enumerate().filter(|(bit, _)| flips >> bit & 1 == 1);
        let flipped: Vec<Axis> = flipped.map(|(_, a)| Axis(1 + a + usize::from(flat))).collect();
        flipped.iter().for_each(|a| input.invert_axis(*a));
        let logits: ArrayD<f32> = if flat {
            network.logits(input.index_axis(Axis(1), 0).into_dyn())?
        } else {
            network.logits(input.view().into_dyn())?
        };
        let mut logits = if flat {
            logits.into_dimensionality::<Ix3>().map_err(|_| SegmentError::Shape)?.insert_axis(Axis(1))
        } else {
            logits.into_dimensionality::<Ix4>().map_err(|_| SegmentError::Shape)?
        };
        if logits.dim().0 != self.recipe.heads.count() || logits.shape()[1..] != input.shape()[1..] {
            return Err(SegmentError::Shape);
        }
        flipped.iter().for_each(|a| logits.invert_axis(*a));
        Ok(logits)
    }
}

/// A patch of the padded grid, zeros outside the image.
fn patch(image: ArrayView4<f32>, window: &Window, at: [usize; 3]) -> Array4<f32> {
    let n = image.shape();
    let mut out = Array4::zeros((n[0], window.patch[0], window.patch[1], window.patch[2]));
    // Range of the image inside the patch, and of the patch inside the image.
    let from: [_; 3] = std::array::from_fn(|a| {
        let low = at[a].saturating_sub(window.below[a]);
        let high = (at[a] + window.patch[a]).saturating_sub(window.below[a]).min(n[a + 1]);
        low..high.max(low)
    });
    let to: [_; 3] = std::array::from_fn(|a| {
        let low = from[a].start + window.below[a] - at[a];
        low..low + from[a].len()
    });
    out.slice_mut(s![.., to[0].clone(), to[1].clone(), to[2].clone()]).assign(&image.slice(s![
        ..,
        from[0].clone(),
        from[1].clone(),
        from[2].clone()
    ]));
    out
}

/// Adds weighted logits of a patch to the slab; slices of the grid lie in it by their remainder.
fn add(slab: &mut Array4<f32>, logits: ArrayView4<f32>, weights: &Array3<f32>, share: f32, [z, y, x]: [usize; 3]) {
    let (_, n_z, n_y, n_x) = logits.dim();
    let depth = slab.dim().1;
    slab.axis_iter_mut(Axis(1)).into_par_iter().enumerate().for_each(|(at, mut slice)| {
        let of_patch = (at + depth - z % depth) % depth;
        if of_patch < n_z {
            let mut slice = slice.slice_mut(s![.., y..y + n_y, x..x + n_x]);
            let weights = weights.index_axis(Axis(0), of_patch);
            for (mut sums, logits) in slice.outer_iter_mut().zip(logits.outer_iter()) {
                let logits: ndarray::ArrayView2<f32> = logits.index_axis_move(Axis(0), of_patch);
                ndarray::Zip::from(&mut sums).and(logits).and(&weights).for_each(|sum, v, w| *sum += v * (w * share));
            }
        }
    });
}

/// Sum of the weights of all patches over one slice of the padded grid.
fn slice_weight(window: &Window, weights: &Array3<f32>, z: usize) -> ndarray::Array2<f32> {
    let [depth, n_y, n_x] = window.patch;
    let mut of_slice = ndarray::Array2::<f32>::zeros((n_y, n_x));
    for start in window.starts[0].iter().filter(|start| (**start..**start + depth).contains(&z)) {
        of_slice += &weights.index_axis(Axis(0), z - start);
    }
    let mut sum = ndarray::Array2::zeros((window.padded[1], window.padded[2]));
    for y in &window.starts[1] {
        for x in &window.starts[2] {
            sum.slice_mut(s![*y..y + n_y, *x..x + n_x]).zip_mut_with(&of_slice, |a, b| *a += b);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_start_where_nnunet_starts_them() {
        // compute_steps_for_sliding_window of nnunetv2 2.8.1, tile_step_size 0.5
        assert_eq!(starts(110, 64), [0, 23, 46]);
        assert_eq!(starts(160, 64), [0, 32, 64, 96]);
        assert_eq!(starts(64, 64), [0]);
        assert_eq!(starts(65, 64), [0, 1]);
        assert_eq!(starts(37, 8), [0, 4, 7, 11, 14, 18, 22, 25, 29]);
    }

    #[test]
    fn weights_are_those_of_nnunet() {
        // compute_gaussian((5, 8, 6), value_scaling_factor=10) of nnunetv2 2.8.1 with scipy 1.17.1, as float
        let w = gaussian([5, 8, 6]);
        assert_eq!(w[[2, 4, 3]], 10.0);
        assert_eq!(w[[0, 0, 0]], 2.384_185_8e-7);
        assert_eq!(w[[2, 4, 0]], 0.003_355_026_2);
        assert_eq!(w[[1, 2, 5]], 0.010_749_817);
        assert_eq!(w[[4, 7, 1]], 1.895_427_7e-5);
    }

    #[test]
    fn halves_round_to_even_and_small_values_are_subnormal() {
        assert_eq!(to_f16(1.0 + 1.0 / 2048.0), 1.0);
        assert_eq!(to_f16(1.0 + 3.0 / 2048.0), 1.0 + 2.0 / 1024.0);
        assert_eq!(to_f16(2.0f32.powi(-24) * 1.5), 2.0f32.powi(-23));
        assert_eq!(to_f16(2.0f32.powi(-26)), 0.0);
    }
}
