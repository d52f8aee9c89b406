//! Label maps and what their values mean.

use super::Geometry;
use ndarray::Array3;

/// A part of the body that metwatch knows by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Region {
    /// Liver, its lesions included when it is measured as an organ.
    Liver,
    /// A lesion inside the liver.
    LiverLesion,
    /// Colon and rectum.
    Colon,
    /// The primary colorectal tumor.
    ColorectalTumor,
}

impl Region {
    /// All regions, in the order in which tables list them.
    pub const ALL: [Region; 4] = [Region::Liver, Region::LiverLesion, Region::Colon, Region::ColorectalTumor];

    /// The name in packages, tables and file names.
    pub fn name(self) -> &'static str {
        match self {
            Region::Liver => "liver",
            Region::LiverLesion => "liver_lesion",
            Region::Colon => "colon",
            Region::ColorectalTumor => "colorectal_tumor",
        }
    }

    /// The region with this [`Region::name`].
    pub fn from_name(name: &str) -> Option<Region> {
        Region::ALL.into_iter().find(|r| r.name() == name)
    }

    /// For tables and pictures that people read.
    pub fn title(self) -> &'static str {
        match self {
            Region::Liver => "Liver",
            Region::LiverLesion => "Liver lesion",
            Region::Colon => "Colon",
            Region::ColorectalTumor => "Colorectal tumor",
        }
    }
}

/// What the values of a label map mean: (value, region, SNOMED CT code), ascending by value; 0 is background.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelScheme {
    /// One entry per label value.
    pub entries: Vec<(u8, Region, String)>,
}

impl LabelScheme {
    /// The label value of a region, if the model has it.
    pub fn value_of(&self, region: Region) -> Option<u8> {
        self.entries.iter().find(|(_, r, _)| *r == region).map(|(value, _, _)| *value)
    }

    /// The region of a label value.
    pub fn region_of(&self, value: u8) -> Option<Region> {
        self.entries.iter().find(|(v, _, _)| *v == value).map(|(_, region, _)| *region)
    }
}

/// One label per voxel, on the grid of the volume it was made from.
#[derive(Debug, Clone)]
pub struct LabelMap {
    /// Label values, shape (z, y, x) = [`Geometry::shape_zyx`]; 0 is background.
    pub labels: Array3<u8>,
    /// The grid; equal to that of the source volume.
    pub geometry: Geometry,
    /// What the values mean.
    pub scheme: LabelScheme,
}

impl LabelMap {
    /// Mask of one region, shape (z, y, x). The liver as an organ includes its lesions.
    pub fn mask(&self, region: Region) -> Array3<bool> {
        let own = self.scheme.value_of(region);
        let inner = if region == Region::Liver { self.scheme.value_of(Region::LiverLesion) } else { None };
        self.labels.mapv(|v| v != 0 && (Some(v) == own || Some(v) == inner))
    }

    /// Volume of one region in milliliters.
    pub fn volume_ml(&self, region: Region) -> f64 {
        self.mask(region).iter().filter(|m| **m).count() as f64 * self.geometry.voxel_mm3() / 1000.0
    }
}
