//! The image as the network's plans see it: turned, transposed, cropped to what is not 0, normalized. All of it as
//! views.

use super::recipe::{Normalization, Recipe};
use crate::volume::Geometry;
use ndarray::{Array3, ArrayView3, ArrayViewMut3, ArrayViewMut4, Axis, s};
use rayon::prelude::*;
use std::ops::Range;

/// The network's order of axes: its axis `a` is the array's axis `axes[a]`, the other way round where `flipped`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    axes: [usize; 3],
    flipped: [bool; 3],
}

impl Frame {
    /// How a model sees an image on this grid.
    pub fn of(recipe: &Recipe, geometry: &Geometry) -> Frame {
        let (turned, flips) = if recipe.to_ras { to_ras(geometry) } else { ([0, 1, 2], [false; 3]) };
        let t = recipe.transpose_forward;
        Frame { axes: t.map(|a| turned[a]), flipped: t.map(|a| flips[a]) }
    }

    /// An array (z, y, x) in the network's order.
    pub fn view<'a, T>(&self, array: ArrayView3<'a, T>) -> ArrayView3<'a, T> {
        let mut view = array.permuted_axes(self.axes);
        (0..3).filter(|a| self.flipped[*a]).for_each(|a| view.invert_axis(Axis(a)));
        view
    }

    /// The same for writing.
    pub fn view_mut<'a, T>(&self, array: ArrayViewMut3<'a, T>) -> ArrayViewMut3<'a, T> {
        let mut view = array.permuted_axes(self.axes);
        (0..3).filter(|a| self.flipped[*a]).for_each(|a| view.invert_axis(Axis(a)));
        view
    }

    /// The same for an array with heads before its axes.
    pub fn view_heads_mut<'a>(&self, array: ArrayViewMut4<'a, f32>) -> ArrayViewMut4<'a, f32> {
        let [z, y, x] = self.axes.map(|a| a + 1);
        let mut view = array.permuted_axes([0, z, y, x]);
        (0..3).filter(|a| self.flipped[*a]).for_each(|a| view.invert_axis(Axis(a + 1)));
        view
    }

    /// Spacing in the network's order.
    pub fn spacing_mm(&self, geometry: &Geometry) -> [f64; 3] {
        self.axes.map(|a| geometry.spacing_mm[2 - a])
    }
}

/// The array axes (z, y, x) that run closest to S, A, R, and which of them run the other way.
fn to_ras(geometry: &Geometry) -> ([usize; 3], [bool; 3]) {
    let (mut axes, mut flips) = ([0, 1, 2], [false; 3]);
    let mut free = [true; 3];
    // Voxel axes choose in the order x, y, z, as nibabel's `io_orientation` lets them.
    for voxel_axis in 0..3 {
        let along = |row: usize| geometry.direction[row][voxel_axis];
        let rows = (0..3).filter(|row| free[*row]);
        let Some(row) = rows.max_by(|a, b| along(*a).abs().total_cmp(&along(*b).abs())) else { continue };
        free[row] = false;
        axes[2 - row] = 2 - voxel_axis;
        // LPS: x runs to the left and y to the back, so R and A are their other ends.
        flips[2 - row] = if row == 2 { along(row) < 0.0 } else { along(row) > 0.0 };
    }
    (axes, flips)
}

/// Box of the voxels where any channel is not 0; the whole image where all are.
pub fn crop(channels: &[ArrayView3<f32>]) -> [Range<usize>; 3] {
    let shape: [usize; 3] = channels.first().map_or([0; 3], |c| c.dim().into());
    let found: Vec<Option<[Range<usize>; 2]>> =
        (0..shape[0]).into_par_iter().map(|z| crop_of_slice(channels, z)).collect();
    let mut all = shape.map(|n| n..0);
    for (z, [y, x]) in found.into_iter().enumerate().filter_map(|(z, found)| Some((z, found?))) {
        for (all, here) in all.iter_mut().zip([z..z + 1, y, x]) {
            *all = all.start.min(here.start)..all.end.max(here.end);
        }
    }
    if all[0].is_empty() { shape.map(|n| 0..n) } else { all }
}

fn crop_of_slice(channels: &[ArrayView3<f32>], z: usize) -> Option<[Range<usize>; 2]> {
    let mut found: Option<[Range<usize>; 2]> = None;
    for channel in channels {
        for (y, row) in channel.index_axis(Axis(0), z).outer_iter().enumerate() {
            let Some(first) = row.iter().position(|v| *v != 0.0) else { continue };
            let last = row.iter().rposition(|v| *v != 0.0).unwrap_or(first);
            let [ys, xs] = found.get_or_insert([y..y + 1, first..last + 1]);
            (*ys, *xs) = (ys.start.min(y)..ys.end.max(y + 1), xs.start.min(first)..xs.end.max(last + 1));
        }
    }
    found
}

/// A part of an array.
pub fn cut<'a, T>(view: ArrayView3<'a, T>, at: &[Range<usize>; 3]) -> ArrayView3<'a, T> {
    view.slice_move(s![at[0].clone(), at[1].clone(), at[2].clone()])
}

/// Where any channel is not 0, holes filled: what the outside cannot reach over faces is inside.
pub fn nonzero_mask(channels: &[ArrayView3<f32>]) -> Array3<bool> {
    let shape: [usize; 3] = channels.first().map_or([0; 3], |c| c.dim().into());
    let mut mask = Array3::from_elem(shape, false);
    for channel in channels {
        ndarray::Zip::from(&mut mask).and(channel).par_for_each(|inside, v| *inside |= *v != 0.0);
    }
    let mut outside = Array3::from_elem(shape, false);
    let mut queue: Vec<[usize; 3]> = Vec::new();
    let visit = |at: [usize; 3], outside: &mut Array3<bool>, queue: &mut Vec<[usize; 3]>| {
        if !mask[at] && !outside[at] {
            outside[at] = true;
            queue.push(at);
        }
    };
    for ((z, y, x), _) in mask.indexed_iter() {
        let at = [z, y, x];
        if (0..3).any(|a| at[a] == 0 || at[a] + 1 == shape[a]) {
            visit(at, &mut outside, &mut queue);
        }
    }
    while let Some(at) = queue.pop() {
        for a in 0..3 {
            let (mut low, mut high) = (at, at);
            low[a] = at[a].saturating_sub(1);
            high[a] = (at[a] + 1).min(shape[a] - 1);
            visit(low, &mut outside, &mut queue);
            visit(high, &mut outside, &mut queue);
        }
    }
    outside.mapv_into(|outside| !outside)
}

/// What a channel's values become, its own statistics measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    clip: [f32; 2],
    subtract: f32,
    divide: f32,
}

/// nnU-Net divides by at least this.
const DIVISOR_MIN: f32 = 1e-8;

impl Scaling {
    /// Of a cropped channel; `mask` where it counts only inside it. An error says why its values do not fit.
    pub fn of(
        scheme: Normalization,
        image: ArrayView3<f32>,
        mask: Option<ArrayView3<bool>>,
    ) -> Result<Scaling, String> {
        let keep = Scaling { clip: [f32::NEG_INFINITY, f32::INFINITY], subtract: 0.0, divide: 1.0 };
        Ok(match scheme {
            Normalization::Ct { mean, std, percentile_00_5, percentile_99_5 } => Scaling {
                clip: [percentile_00_5 as f32, percentile_99_5 as f32],
                subtract: mean as f32,
                divide: (std as f32).max(DIVISOR_MIN),
            },
            Normalization::ZScore { .. } => {
                let [mean, std] = moments(image, mask);
                Scaling { subtract: mean as f32, divide: (std as f32).max(DIVISOR_MIN), ..keep }
            }
            Normalization::None => keep,
            Normalization::RescaleTo01 => {
                let [low, high] = range(image);
                Scaling { subtract: low, divide: (high - low).max(DIVISOR_MIN), ..keep }
            }
            Normalization::RgbTo01 => {
                let [low, high] = range(image);
                if low < 0.0 || high > 255.0 {
                    return Err(format!("the model takes colors from 0 to 255, the image has {low} to {high}"));
                }
                Scaling { divide: 255.0, ..keep }
            }
        })
    }

    /// A value of the image as the network's input.
    pub fn apply(&self, v: f32) -> f32 {
        (v.clamp(self.clip[0], self.clip[1]) - self.subtract) / self.divide
    }
}

/// Mean and population standard deviation, summed slice by slice in f64.
fn moments(image: ArrayView3<f32>, mask: Option<ArrayView3<bool>>) -> [f64; 2] {
    let sum = |f: &(dyn Fn(f64) -> f64 + Sync)| -> (f64, f64) {
        let slice = |z: usize| {
            let values = image.index_axis(Axis(0), z);
            match &mask {
                None => (values.iter().map(|v| f(f64::from(*v))).sum::<f64>(), values.len() as f64),
                Some(mask) => values
                    .iter()
                    .zip(mask.index_axis(Axis(0), z))
                    .filter(|(_, inside)| **inside)
                    .fold((0.0, 0.0), |(sum, n), (v, _)| (sum + f(f64::from(*v)), n + 1.0)),
            }
        };
        let slices: Vec<(f64, f64)> = (0..image.dim().0).into_par_iter().map(slice).collect();
        slices.into_iter().fold((0.0, 0.0), |(sum, n), (s, k)| (sum + s, n + k))
    };
    let (total, n) = sum(&|v| v);
    let mean = total / n.max(1.0);
    let (squares, _) = sum(&|v| (v - mean) * (v - mean));
    [mean, (squares / n.max(1.0)).sqrt()]
}

fn range(image: ArrayView3<f32>) -> [f32; 2] {
    image.iter().fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], v| [low.min(*v), high.max(*v)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_cropped_to_what_is_not_zero_in_any_channel() {
        let (mut a, mut b) = (Array3::<f32>::zeros((5, 6, 7)), Array3::<f32>::zeros((5, 6, 7)));
        assert_eq!(crop(&[a.view(), b.view()]), [0..5, 0..6, 0..7], "nothing to see: nothing is cropped");
        (a[[1, 2, 3]], b[[3, 4, 1]]) = (-1.0, 2.0);
        assert_eq!(crop(&[a.view(), b.view()]), [1..4, 2..5, 1..4]);
    }

    #[test]
    fn holes_are_inside_and_dents_are_not() {
        let mut image = Array3::<f32>::zeros((7, 7, 7));
        image.slice_mut(s![1..6, 1..6, 1..6]).fill(3.0);
        (image[[3, 3, 3]], image[[1, 3, 3]]) = (0.0, 0.0);
        let mask = nonzero_mask(&[image.view()]);
        assert!(mask[[3, 3, 3]] && !mask[[1, 3, 3]] && !mask[[0, 0, 0]]);
        assert_eq!(mask.iter().filter(|m| **m).count(), 124);
    }

    #[test]
    fn scaling_by_hand() {
        let image = Array3::from_shape_vec((1, 1, 4), vec![0.0, 2.0, 4.0, 10.0]).unwrap();
        let of = |scheme| Scaling::of(scheme, image.view(), None).unwrap().apply(10.0);
        assert_eq!(of(Normalization::Ct { mean: 1.0, std: 2.0, percentile_00_5: 0.0, percentile_99_5: 5.0 }), 2.0);
        // mean 4, squares 16 + 4 + 0 + 36 = 56, std sqrt(14)
        assert!((of(Normalization::ZScore { masked: false }) - 6.0 / 14f32.sqrt()).abs() < 1e-6);
        assert_eq!([of(Normalization::None), of(Normalization::RescaleTo01)], [10.0, 1.0]);
        let mask = Array3::from_shape_vec((1, 1, 4), vec![false, true, true, false]).unwrap();
        let masked = Scaling::of(Normalization::ZScore { masked: true }, image.view(), Some(mask.view())).unwrap();
        assert_eq!(masked.apply(4.0), 1.0); // mean 3, std 1
        assert!(Scaling::of(Normalization::RgbTo01, image.mapv(|v| v * 30.0).view(), None).is_err());
    }

    #[test]
    fn ras_turns_axes_and_spacing_with_them() {
        let recipe = Recipe { to_ras: true, ..super::super::tests::recipe() };
        // Voxel x runs to the feet, y to the left, z to the front.
        let direction = [[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]];
        let g = Geometry { size: [2, 3, 4], spacing_mm: [1.0, 2.0, 3.0], origin_mm: [0.0; 3], direction };
        let frame = Frame::of(&recipe, &g);
        assert_eq!(frame.spacing_mm(&g), [1.0, 3.0, 2.0]);
        let array = Array3::from_shape_fn((4, 3, 2), |(z, y, x)| 100 * z + 10 * y + x);
        let view = frame.view(array.view());
        assert_eq!(view.dim(), (2, 4, 3));
        assert_eq!(view[[0, 0, 0]], 21, "feet, back, left: x last, z first, y last");
    }
}
