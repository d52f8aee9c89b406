//! The second stage: liver lesions and the liver's surface, on a finer grid in the box round the liver of the first stage.

use super::engine::{self, Engine};
use super::package::Golden;
use super::{Grid, SegmentError, postprocess, resample};
use crate::volume::{Geometry, LabelMap, Region, Volume, squared_distance_mm2};
use ndarray::{Array3, Array4, Axis, s};

/// The second network of a package and how it is used (`[refine]` of the manifest).
#[derive(Debug, Clone)]
pub struct Refine {
    /// The network, ONNX.
    pub onnx: Vec<u8>,
    /// Name of the network's input.
    pub input: String,
    /// Name of the network's output (logits).
    pub output: String,
    /// Label values of logits 1, 2: the liver and, where the network has it, the lesion.
    pub classes: Vec<u8>,
    /// Spacing of its grid along x, y, z (axis-aligned LPS).
    pub spacing_mm: [f64; 3],
    /// Each axis of the input is padded to a multiple of this.
    pub pad_multiple: usize,
    /// What it sees beyond the box of the liver.
    pub margin_mm: f64,
    /// How far it may move the surface of the liver.
    pub band_mm: f64,
    /// HU minus the median of the liver are divided by this ...
    pub scale_hu: f32,
    /// ... and clipped to plus and minus this.
    pub clip: f32,
    /// Smaller components of lesion are liver.
    pub lesion_mm3_min: f64,
    /// Components of a lower mean probability of lesion are liver.
    pub lesion_probability_min: f64,
    /// Whether the first stage's probability of liver or lesion is a second channel of the input.
    pub liver_channel: bool,
    /// Golden vectors.
    pub golden: Golden,
}

/// The first stage, as the second sees it.
pub struct FirstStage<'a> {
    /// Its grid.
    pub grid: &'a Grid,
    /// Probability of liver or lesion after cleaning, shape (z, y, x) on the padded grid.
    pub liver: Array3<f32>,
}

/// A lesion that was marked for review.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Its volume on the grid of the network.
    pub volume_ml: f64,
    /// Mean probability of lesion inside it, 0 to 1.
    pub probability: f64,
}

impl Refine {
    /// Channels of the input.
    pub fn channels(&self) -> usize {
        1 + usize::from(self.liver_channel)
    }

    /// Moves the liver's surface in `labels` and marks lesions; what it found is returned, largest first.
    pub fn apply(
        &self,
        engine: &Engine,
        volume: &Volume,
        first: &FirstStage<'_>,
        labels: &mut LabelMap,
    ) -> Result<Vec<Candidate>, SegmentError> {
        let Some(ranges) = liver_box(labels, self.margin_mm) else { return Ok(Vec::new()) };
        let crop = crop(volume, &ranges);
        let grid = Grid::over(&crop.geometry, self.spacing_mm, self.pad_multiple);
        if grid.n_voxels() > engine::GRID_VOXELS_MAX {
            return Err(SegmentError::TooLarge { voxels: grid.n_voxels() });
        }
        let hu = grid.sample(&crop);
        let liver = resample::interpolate(&first.liver, first.grid, &grid);
        let Some(median) = median_inside(&hu, &liver) else { return Ok(Vec::new()) };
        let mut input = Array4::zeros((self.channels(), hu.dim().0, hu.dim().1, hu.dim().2));
        let scaled = hu.mapv(|hu| ((hu - median) / self.scale_hu).clamp(-self.clip, self.clip));
        input.index_axis_mut(Axis(0), 0).assign(&scaled);
        if self.liver_channel {
            input.index_axis_mut(Axis(0), 1).assign(&liver);
        }
        let mut probabilities = engine.logits(input, self.pad_multiple)?;
        if probabilities.dim().0 != self.classes.len() + 1 {
            return Err(SegmentError::Shape);
        }
        engine::softmax(&mut probabilities);
        keep_to_band(&mut probabilities, &liver, self.spacing_mm, self.band_mm);
        let mut classes = engine::arg_max(&probabilities);
        let lesion = (self.classes.len() > 1).then_some(2);
        let least =
            postprocess::Least { lesion_mm3: self.lesion_mm3_min, lesion_probability: self.lesion_probability_min };
        let voxel_mm3 = grid.geometry.voxel_mm3();
        postprocess::clean(&mut classes, &mut probabilities, voxel_mm3, [Some(1), lesion, None], least);
        let found = candidates(&classes, &probabilities, voxel_mm3);
        let fine = grid.labels_on(&crop.geometry, &probabilities);
        self.put_back(&fine, ranges, labels);
        Ok(found)
    }

    /// The fine labels decide what is liver and lesion; where they say neither, other organs of the first stage stay.
    fn put_back(&self, fine: &Array3<u8>, ranges: Ranges, labels: &mut LabelMap) {
        let organ = [Region::Liver, Region::LiverLesion].map(|region| labels.scheme.value_of(region).unwrap_or(0));
        let [x, y, z] = ranges;
        let part = labels.labels.slice_mut(s![z, y, x]);
        ndarray::Zip::from(part).and(fine).par_for_each(|label, fine| {
            if let Some(value) = usize::from(*fine).checked_sub(1).and_then(|k| self.classes.get(k)) {
                *label = *value;
            } else if organ.contains(label) {
                *label = 0;
            }
        });
    }
}

/// Index ranges along x, y, z.
type Ranges = [std::ops::Range<usize>; 3];

/// The box of liver and lesions on the scan's grid with a margin, within the scan.
fn liver_box(labels: &LabelMap, margin_mm: f64) -> Option<Ranges> {
    let organ = [Region::Liver, Region::LiverLesion].map(|region| labels.scheme.value_of(region).unwrap_or(0));
    let (mut low, mut high) = ([usize::MAX; 3], [0; 3]);
    for ((z, y, x), label) in labels.labels.indexed_iter() {
        if *label != 0 && organ.contains(label) {
            for (a, at) in [x, y, z].into_iter().enumerate() {
                (low[a], high[a]) = (low[a].min(at), high[a].max(at));
            }
        }
    }
    let g = &labels.geometry;
    (low[0] != usize::MAX).then(|| {
        std::array::from_fn(|a| {
            let margin = (margin_mm / g.spacing_mm[a]).ceil() as usize;
            low[a].saturating_sub(margin)..(high[a] + 1 + margin).min(g.size[a])
        })
    })
}

fn crop(volume: &Volume, [x, y, z]: &Ranges) -> Volume {
    let g = &volume.geometry;
    let geometry = Geometry {
        size: [x.len(), y.len(), z.len()],
        origin_mm: g.position_mm([x.start as f64, y.start as f64, z.start as f64]),
        ..g.clone()
    };
    Volume { hu: volume.hu.slice(s![z.clone(), y.clone(), x.clone()]).to_owned(), geometry }
}

/// Median HU where the first stage sees liver or lesion.
fn median_inside(hu: &Array3<f32>, liver: &Array3<f32>) -> Option<f32> {
    let mut inside: Vec<f32> = hu.iter().zip(liver).filter(|(_, p)| **p > 0.5).map(|(hu, _)| *hu).collect();
    let middle = inside.len() / 2;
    (!inside.is_empty()).then(|| *inside.select_nth_unstable_by(middle, f32::total_cmp).1)
}

/// Further than the band inside the first stage's liver nothing is background, further outside all is.
fn keep_to_band(probabilities: &mut Array4<f32>, liver: &Array3<f32>, spacing_mm: [f64; 3], band_mm: f64) {
    let inside = liver.mapv(|p| p > 0.5);
    let to_liver = squared_distance_mm2(&inside, spacing_mm);
    let to_outside = squared_distance_mm2(&inside.mapv(|inside| !inside), spacing_mm);
    let limit = band_mm * band_mm;
    for ((z, y, x), inside) in inside.indexed_iter() {
        let mut voxel = probabilities.slice_mut(s![.., z, y, x]);
        if !inside && to_liver[[z, y, x]] > limit {
            voxel.fill(0.0);
            voxel[0] = 1.0;
        } else if *inside && to_outside[[z, y, x]] > limit {
            let rest = 1.0 - voxel[0];
            voxel[0] = 0.0;
            if rest > 1e-6 {
                voxel.mapv_inplace(|p| p / rest);
            } else {
                voxel[1] = 1.0;
            }
        }
    }
}

fn candidates(classes: &Array3<u8>, probabilities: &Array4<f32>, voxel_mm3: f64) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = postprocess::components(&classes.mapv(|class| class == 2))
        .iter()
        .map(|part| Candidate {
            volume_ml: part.len() as f64 * voxel_mm3 / 1000.0,
            probability: postprocess::mean_probability(part, probabilities, 2),
        })
        .collect();
    found.sort_by(|a, b| b.volume_ml.total_cmp(&a.volume_ml));
    found
}
