//! The limits of the gate, as a package states them.

use super::Calibration;
use crate::volume::Region;
use serde::Deserialize;

/// Limits of the gate, as a package states them for its network.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// A smaller liver is not believed.
    pub liver_ml_refuse_under: f64,
    /// A larger liver is not believed.
    pub liver_ml_refuse_over: f64,
    /// A smaller liver is noted.
    pub liver_ml_note_under: f64,
    /// A larger liver is noted.
    pub liver_ml_note_over: f64,
    /// Mean entropy (nats) inside the liver above which the network does not know what it sees.
    pub entropy_refuse_over: f64,
    /// Mean entropy (nats) that is noted.
    pub entropy_note_over: f64,
    /// Share of the liver in fragments that is refused.
    pub fragments_refuse_over: f64,
    /// Share of the liver in fragments that is noted.
    pub fragments_note_over: f64,
    /// Median HU of the liver, lowest.
    pub liver_hu_refuse_under: f64,
    /// Median HU of the liver, highest.
    pub liver_hu_refuse_over: f64,
    /// Median HU below which the phase is probably not portal-venous.
    pub liver_hu_note_under: f64,
    /// Shortest scan along the body axis.
    pub z_extent_mm_refuse_under: f64,
    /// Liver area in an end slice, relative to its largest slice, that is refused.
    pub cut_refuse_over: f64,
    /// Liver area in an end slice, relative to its largest slice, that is noted.
    pub cut_note_over: f64,
    /// A larger colorectal tumor is noted.
    pub tumor_ml_note_over: f64,
    /// [`super::OnGrid::between_share`] above which the image is from another world than the network's.
    pub between_share_refuse_over: f64,
    /// Limits of what is measured without the network.
    pub image: ImageLimits,
    /// From entropy and disagreement to an expected Dice, where the package was calibrated.
    pub expected: Option<Expected>,
}

/// `[gate.image]` of a manifest: limits of what is measured on the image whatever the network says. A key that is left out has the
/// value of [`ImageLimits::default`].
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageLimits {
    /// [`super::Image::fat_share`] below which this is no CT of a patient, or its HU are wrong.
    pub fat_share_refuse_under: f64,
    /// [`super::Image::dense_share`] above which the HU scale is wrong, or this is a head.
    pub dense_share_refuse_over: f64,
    /// [`super::Image::bone_behind_mm`] below which front and back are exchanged.
    pub bone_behind_mm_refuse_under: f64,
    /// [`super::Measures::right_of_center_mm`] below which left and right are exchanged (or the segmentation is wrong).
    pub right_of_center_mm_refuse_under: f64,
    /// [`super::Image::lung_above_mm`] below which head and feet are exchanged; a slab of the dome has lung beside the liver.
    pub lung_above_mm_refuse_under: f64,
    /// Lung of less than this says nothing about up and down.
    pub lung_ml_counts_from: f64,
    /// Noise inside the liver that is noted.
    pub noise_hu_note_over: f64,
    /// Noise inside the liver that is refused.
    pub noise_hu_refuse_over: f64,
    /// Distance between slices that is noted.
    pub slice_spacing_mm_note_over: f64,
    /// Distance between slices that is refused.
    pub slice_spacing_mm_refuse_over: f64,
    /// Surface of the liver at the side of the scan that is noted.
    pub side_cut_cm2_note_over: f64,
    /// Surface of the liver at the side of the scan that is refused.
    pub side_cut_cm2_refuse_over: f64,
    /// Metal in the slices of the liver that is noted.
    pub metal_ml_note_over: f64,
    /// [`super::Image::bands_hu`] that is noted: arms beside the body, metal.
    pub bands_hu_note_over: f64,
}

impl Default for ImageLimits {
    fn default() -> Self {
        ImageLimits {
            // Edges of a water cylinder give 1.3 %.
            fat_share_refuse_under: 0.02,
            dense_share_refuse_over: 0.15,
            bone_behind_mm_refuse_under: -5.0,
            right_of_center_mm_refuse_under: 20.0,
            lung_above_mm_refuse_under: -20.0,
            lung_ml_counts_from: 200.0,
            noise_hu_note_over: 40.0,
            noise_hu_refuse_over: 120.0,
            slice_spacing_mm_note_over: 5.5,
            slice_spacing_mm_refuse_over: 10.5,
            side_cut_cm2_note_over: 5.0,
            side_cut_cm2_refuse_over: 40.0,
            metal_ml_note_over: 0.1,
            bands_hu_note_over: 8.0,
        }
    }
}

/// `[gate.expected_dice]` of a manifest: planes by region and limits of the Dice that they lead one to expect.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// An expected Dice of the liver below this is noted.
    pub note_under: f64,
    /// An expected Dice of the liver below this is refused.
    pub refuse_under: f64,
    /// One plane per region.
    pub regions: Vec<ExpectedRegion>,
}

/// `[[gate.expected_dice.regions]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedRegion {
    /// Name of the region.
    pub region: String,
    /// Its plane.
    pub plane: Calibration,
}

impl Limits {
    /// Whether all limits are finite and each refusal lies beyond its note, so that none silently never fires.
    pub fn are_ordered(&self) -> bool {
        let i = &self.image;
        let rising = [
            [self.liver_ml_refuse_under, self.liver_ml_note_under],
            [self.liver_ml_note_under, self.liver_ml_note_over],
            [self.liver_ml_note_over, self.liver_ml_refuse_over],
            [self.entropy_note_over, self.entropy_refuse_over],
            [self.fragments_note_over, self.fragments_refuse_over],
            [self.liver_hu_refuse_under, self.liver_hu_note_under],
            [self.liver_hu_note_under, self.liver_hu_refuse_over],
            [self.cut_note_over, self.cut_refuse_over],
            [0.0, self.between_share_refuse_over],
            [i.noise_hu_note_over, i.noise_hu_refuse_over],
            [i.slice_spacing_mm_note_over, i.slice_spacing_mm_refuse_over],
            [i.side_cut_cm2_note_over, i.side_cut_cm2_refuse_over],
            [i.fat_share_refuse_under, i.dense_share_refuse_over],
            [i.bone_behind_mm_refuse_under, i.lung_ml_counts_from],
            [i.lung_above_mm_refuse_under, i.lung_ml_counts_from],
            [i.right_of_center_mm_refuse_under, 200.0],
            [0.0, i.metal_ml_note_over],
            [0.0, i.bands_hu_note_over],
        ];
        let expected_fits = self.expected.as_ref().is_none_or(|expected| {
            let known = |row: &ExpectedRegion| Region::from_name(&row.region).is_some() && row.plane.is_plausible();
            (0.0..=1.0).contains(&expected.refuse_under)
                && (expected.refuse_under..=1.0).contains(&expected.note_under)
                && expected.regions.iter().all(known)
        });
        expected_fits
            && self.z_extent_mm_refuse_under.is_finite()
            && self.tumor_ml_note_over.is_finite()
            && rising.iter().all(|[low, high]| high.is_finite() && low.is_finite() && low <= high)
    }
}
