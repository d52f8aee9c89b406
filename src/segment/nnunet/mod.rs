//! Models trained with nnU-Net v2, predicted as nnU-Net predicts them (followed: nnunetv2 2.8.1): turn, transpose,
//! crop, normalize, resample, sliding window with mirroring and folds, logits back onto the image's grid, labels,
//! postprocessing.
//!
//! A [`Recipe`] says how; it comes from a results folder ([`recipe_of`]) and travels in the package's manifest.
//! Differences from nnU-Net: logits are summed in f32 instead of f16, and come back slice by slice, so memory does not
//! grow with the number of patches ([`Estimate`]).

mod axis;
mod components;
mod frame;
mod import;
mod memory;
mod package;
mod recipe;
mod resample;
mod restore;
mod window;

pub use components::Components;
pub use import::{Checkpoint, ImportError, Source, recipe as recipe_of};
pub use memory::Estimate;
pub use package::{Import, files};
pub(super) use package::{load, read_golden, scheme, take_networks};
pub use recipe::{Label, Recipe, RecipeRow};
pub use resample::Resampling;

use super::{Options, SegmentError, Step, network::Network};
use crate::volume::{Geometry, Volume};
use frame::{Frame, Scaling};
use ndarray::{Array3, Array4, ArrayView3, Axis, Slice};
use recipe::Normalization;
use std::ops::Range;

/// What a model says about an image.
pub struct Prediction {
    /// Label values on the image's grid.
    pub labels: Array3<u8>,
    /// Probabilities, shape (heads, z, y, x), where they were asked for.
    pub probabilities: Option<Array4<f32>>,
    /// Mean entropy (nats) over the labels that were asked for.
    pub entropy: f64,
}

/// An image on the network's grid.
pub struct Prepared {
    /// Shape (channels, z, y, x), in the network's order of axes.
    pub image: Array4<f32>,
    frame: Frame,
    crop: [Range<usize>; 3],
    image_mm: [f64; 3],
}

/// The whole image and the part of it that a model looks at.
struct Seen<'a> {
    frame: Frame,
    channels: Vec<ArrayView3<'a, f32>>,
    crop: [Range<usize>; 3],
    image_mm: [f64; 3],
    grid_mm: [f64; 3],
}

impl<'a> Seen<'a> {
    fn of(recipe: &Recipe, channels: &[&'a Volume]) -> Result<Seen<'a>, SegmentError> {
        check_channels(recipe, channels)?;
        let geometry = &channels[0].geometry;
        let frame = Frame::of(recipe, geometry);
        let channels: Vec<ArrayView3<f32>> = channels.iter().map(|c| frame.view(c.hu.view())).collect();
        let image_mm = frame.spacing_mm(geometry);
        let crop = frame::crop(&channels);
        Ok(Seen { frame, channels, crop, image_mm, grid_mm: recipe.grid_spacing_mm(image_mm) })
    }

    fn crop_shape(&self) -> [usize; 3] {
        self.crop.clone().map(|r| r.len())
    }

    fn estimate(&self, recipe: &Recipe, networks: u64, options: &Options) -> Result<Estimate, SegmentError> {
        let sizes = memory::Sizes {
            image: self.channels[0].dim().into(),
            crop: self.crop_shape(),
            grid: resample::target_shape(self.crop_shape(), self.image_mm, self.grid_mm),
            spacing_mm: self.grid_mm,
            networks,
            probabilities: options.probabilities,
            mirror: options.mirror,
        };
        Estimate::of(recipe, &sizes, options.passes, options.memory_limit).map_err(SegmentError::Volume)
    }

    fn prepare(self, recipe: &Recipe, grid: [usize; 3]) -> Result<Prepared, SegmentError> {
        let masked = |n: &Normalization| matches!(n, Normalization::ZScore { masked: true });
        let mask =
            recipe.channels.iter().any(|c| masked(&c.normalization)).then(|| frame::nonzero_mask(&self.channels));
        let mask = mask.as_ref().map(|m| frame::cut(m.view(), &self.crop));
        let resampling = &recipe.image_resampling;
        let separate = resampling.separate_axis(self.image_mm, self.grid_mm);
        let mut image = Array4::zeros((self.channels.len(), grid[0], grid[1], grid[2]));
        for (k, (channel, about)) in self.channels.iter().zip(&recipe.channels).enumerate() {
            let part = frame::cut(*channel, &self.crop);
            let mask = mask.filter(|_| masked(&about.normalization));
            let scaling = Scaling::of(about.normalization, part, mask).map_err(SegmentError::Volume)?;
            let value = |at: [usize; 3], v: f32| if mask.is_some_and(|m| !m[at]) { v } else { scaling.apply(v) };
            let mut to = image.index_axis_mut(Axis(0), k);
            resampling.image(part, value, to.view_mut(), separate);
        }
        Ok(Prepared { image, frame: self.frame, crop: self.crop, image_mm: self.image_mm })
    }
}

fn check_channels(recipe: &Recipe, channels: &[&Volume]) -> Result<(), SegmentError> {
    if channels.len() != recipe.channels.len() {
        let names = recipe.channels.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(SegmentError::Channels { found: channels.len(), expected: recipe.channels.len(), names });
    }
    for channel in channels {
        super::check(channel)?;
    }
    let near = |a: &Geometry, b: &Geometry| {
        let corners = [[0.0; 3], a.size.map(|n| n as f64)];
        let apart = |at: [f64; 3]| {
            a.position_mm(at).iter().zip(b.position_mm(at)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
        };
        // Half a hundredth of a voxel over the whole image is rounding in a header.
        let tolerance = 0.01 * a.spacing_mm.iter().copied().fold(f64::MAX, f64::min);
        a.size == b.size && corners.into_iter().all(|at| apart(at) <= tolerance)
    };
    match channels.iter().skip(1).position(|c| !near(&channels[0].geometry, &c.geometry)) {
        Some(k) => Err(SegmentError::Volume(format!("image {} lies on another grid than the first", k + 2))),
        None => Ok(()),
    }
}

/// What [`predict`] will do and need; `networks` counts their bytes.
pub fn estimate(
    recipe: &Recipe,
    networks: u64,
    channels: &[&Volume],
    options: &Options,
) -> Result<Estimate, SegmentError> {
    Seen::of(recipe, channels)?.estimate(recipe, networks, options)
}

/// The image as the network will see it.
pub fn prepare(recipe: &Recipe, channels: &[&Volume]) -> Result<Prepared, SegmentError> {
    let seen = Seen::of(recipe, channels)?;
    let grid = seen.estimate(recipe, 0, &Options::default())?.grid;
    seen.prepare(recipe, grid)
}

/// Logits on the network's grid, slice after slice: `sink(z, logits)`, logits of shape (heads, y, x).
pub fn logits(
    recipe: &Recipe,
    networks: &[Network],
    prepared: &Prepared,
    options: &Options,
    passes: usize,
    progress: &(dyn Fn(Step) + Sync),
    sink: &mut dyn FnMut(usize, Array3<f32>) -> Result<(), SegmentError>,
) -> Result<(), SegmentError> {
    let patches = |done, total| progress(Step::Patch { done, total });
    let sweep = window::Sweep { networks, recipe, mirror: options.mirror, passes, progress: &patches };
    sweep.run(prepared.image.view(), sink)
}

/// Segments an image (one volume per channel, in the model's order). `entropy_of`: labels whose mean entropy is
/// measured.
pub fn predict(
    recipe: &Recipe,
    networks: &[Network],
    network_bytes: u64,
    channels: &[&Volume],
    entropy_of: &[u8],
    options: &Options,
    progress: &(dyn Fn(Step) + Sync),
) -> Result<Prediction, SegmentError> {
    let seen = Seen::of(recipe, channels)?;
    let estimate = seen.estimate(recipe, network_bytes, options)?;
    if let Some(available) = options.memory_available.filter(|available| *available < estimate.bytes) {
        return Err(SegmentError::Memory { needed: estimate.bytes, available });
    }
    let prepared = seen.prepare(recipe, estimate.grid)?;
    progress(Step::Prepared);
    let shape = channels[0].hu.dim();
    let mut labels = Array3::<u8>::zeros(shape);
    let heads = recipe.heads.count();
    let mut probabilities = options.probabilities.then(|| Array4::<f32>::zeros((heads, shape.0, shape.1, shape.2)));
    if let Some(p) = &mut probabilities {
        restore::outside(&recipe.heads, p);
    }
    let grid_mm = recipe.grid_spacing_mm(prepared.image_mm);
    let separate = recipe.logits_resampling.separate_axis(grid_mm, prepared.image_mm);
    let crop = &prepared.crop;
    let mut restore = restore::Restore::new(
        &recipe.heads,
        &recipe.logits_resampling,
        estimate.grid,
        separate,
        cut_mut(prepared.frame.view_mut(labels.view_mut()), crop),
        probabilities.as_mut().map(|p| restore::cut_heads(prepared.frame.view_heads_mut(p.view_mut()), crop)),
        entropy_of,
    );
    logits(recipe, networks, &prepared, options, estimate.passes_at_a_time, progress, &mut |z, logits| {
        restore.push(z, logits);
        Ok(())
    })?;
    let entropy = restore.mean_entropy();
    drop(restore);
    Ok(Prediction { labels, probabilities, entropy })
}

/// Keeps the largest component of each union of labels that the model's postprocessing names.
pub fn postprocess(recipe: &Recipe, labels: &mut Array3<u8>) {
    for values in &recipe.postprocessing {
        Components::of(labels.view(), values).keep_largest(labels);
    }
}

fn cut_mut<'a>(mut view: ndarray::ArrayViewMut3<'a, u8>, at: &[Range<usize>; 3]) -> ndarray::ArrayViewMut3<'a, u8> {
    for (axis, range) in at.iter().enumerate() {
        view.slice_axis_inplace(Axis(axis), Slice::from(range.clone()));
    }
    view
}

#[cfg(test)]
mod tests;
