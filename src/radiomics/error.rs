//! Why no features could be computed.

use crate::Explain;

/// Why a parameter file or an extraction was refused; wording follows PyRadiomics where it has one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RadiomicsError {
    /// Text that is neither YAML nor JSON.
    #[error("the parameter file is not YAML: {0}")]
    Yaml(String),
    /// A key that PyRadiomics does not know.
    #[error("the parameter file has the unknown key {path}")]
    UnknownKey {
        /// Path of the key, such as `/setting/binwidth`.
        path: String,
    },
    /// A value outside its type or range.
    #[error("the parameter file has {value} at {path}: {expected} is needed")]
    BadValue {
        /// Path of the key.
        path: String,
        /// What is there.
        value: String,
        /// What may be there.
        expected: String,
    },
    /// A key that PyRadiomics knows and metwatch does not compute.
    #[error("the parameter file asks for {path}, which is not supported")]
    Unsupported {
        /// Path of the key, with its value where that decides.
        path: String,
    },
    /// What is wrong in a parameter file, with its place.
    #[error("line {line}: {what}{}", nearest.as_ref().map_or(String::new(), |name| format!(" (did you mean {name}?)")))]
    InFile {
        /// From 1.
        line: usize,
        /// The known name that is nearest to a misspelt one.
        nearest: Option<String>,
        /// What is wrong.
        what: Box<RadiomicsError>,
    },
    /// The mask holds nothing.
    #[error("no labels found in this mask: nothing is segmented")]
    EmptyMask,
    /// The label is not in the mask.
    #[error("label {label} is not present in the mask; it holds {present:?}")]
    MissingLabel {
        /// Asked for.
        label: u32,
        /// Labels that are there, the first 100.
        present: Vec<u32>,
    },
    /// A plane and a volume.
    #[error("the image has {image} axes, the mask {mask}")]
    Dimensions {
        /// Axes of the image.
        image: usize,
        /// Axes of the mask.
        mask: usize,
    },
    /// `resampledPixelSpacing` with too many or too few spacings.
    #[error("resampledPixelSpacing lists {listed} spacings for an image of {axes} axes")]
    Spacings {
        /// In the settings.
        listed: usize,
        /// Of the image.
        axes: usize,
    },
    /// Image and mask have different sizes.
    #[error("image ({image:?}) and mask ({mask:?}) differ in size (x, y, z)")]
    SizeMismatch {
        /// Voxels of the image.
        image: [usize; 3],
        /// Voxels of the mask.
        mask: [usize; 3],
    },
    /// Image and mask lie at different places.
    #[error(
        "image and mask do not occupy the same physical space (within the tolerance {tolerance}): they are apart by up to \
         {origin_mm:.3e} mm in origin, {spacing_mm:.3e} mm in spacing, {cosine:.3e} in direction cosines"
    )]
    GeometryMismatch {
        /// `geometryTolerance`.
        tolerance: f64,
        /// Largest difference of the origins along an axis.
        origin_mm: f64,
        /// Largest difference of the spacings.
        spacing_mm: f64,
        /// Largest difference of the direction cosines.
        cosine: f64,
    },
    /// The region reaches beyond the image.
    #[error(
        "the bounding box of the region, {lower:?} to {upper:?} in voxels (x, y, z), is larger than the image ({size:?})"
    )]
    OutsideImage {
        /// Lower corner.
        lower: [f64; 3],
        /// Upper corner.
        upper: [f64; 3],
        /// Voxels of the image.
        size: [usize; 3],
    },
    /// A region of one voxel.
    #[error("the mask only contains 1 segmented voxel: no features for a single voxel")]
    OneVoxel,
    /// A region that is too flat.
    #[error("the mask has too few dimensions (number of dimensions {found}, minimum required {minimum})")]
    TooFewDimensions {
        /// Axes along which the region is longer than a voxel.
        found: usize,
        /// `minimumROIDimensions`.
        minimum: usize,
    },
    /// A region that is too small.
    #[error("the region is too small (minimum size {minimum}, region {found} voxels)")]
    TooSmall {
        /// Voxels of the region.
        found: usize,
        /// `minimumROISize`.
        minimum: usize,
    },
    /// Nothing was left by `resegmentRange`.
    #[error("resegmentation excluded too many voxels with label {label} (retained {retained})")]
    Resegmented {
        /// The label.
        label: u32,
        /// Voxels left.
        retained: usize,
    },
    /// A region thicker than one plane, for shape2D.
    #[error("Size of the mask in dimension %i is more than 1, cannot compute 2D shape")]
    NotOnePlane,
    /// NaN or infinity where intensities are needed.
    #[error("the image holds values that are NaN or infinite {place}")]
    NotFinite {
        /// Inside the region, or anywhere for normalization.
        place: &'static str,
    },
    /// A filtered image without values where they are needed.
    #[error("the {image_type} image of the region has voxels without a value (NaN), or infinite ones")]
    Undefined {
        /// As features begin.
        image_type: String,
    },
    /// More gray levels than a co-occurrence matrix can hold.
    #[error("the bin settings give {levels} gray levels; at most {limit} are computed")]
    TooManyLevels {
        /// Highest level.
        levels: u64,
        /// Allowed.
        limit: usize,
    },
    /// A resampled grid, or the box of a region, that is too large.
    #[error("the grid of the region has {voxels} voxels; at most {limit}, and 65535 along an axis, are computed")]
    GridTooLarge {
        /// Voxels of the grid.
        voxels: u64,
        /// Allowed.
        limit: u64,
    },
    /// A mask whose shape is not that of its image or grid.
    #[error("the mask array has shape {mask:?} (z, y, x), the grid {grid:?}")]
    Shape {
        /// Of the mask.
        mask: (usize, usize, usize),
        /// Of the grid.
        grid: (usize, usize, usize),
    },
    /// Settings of the IBSI convention that cannot be used, or do not suit the image.
    #[error("the IBSI settings cannot be used: {0}")]
    Ibsi(String),
}

impl Explain for RadiomicsError {
    fn code(&self) -> &'static str {
        match self {
            Self::Yaml(_) => "radiomics.yaml",
            Self::UnknownKey { .. } => "radiomics.unknown-key",
            Self::BadValue { .. } => "radiomics.bad-value",
            Self::Unsupported { .. } => "radiomics.unsupported",
            Self::InFile { what, .. } => what.code(),
            Self::EmptyMask => "radiomics.empty-mask",
            Self::MissingLabel { .. } => "radiomics.missing-label",
            Self::Dimensions { .. } => "radiomics.dimensions",
            Self::Spacings { .. } => "radiomics.spacings",
            Self::SizeMismatch { .. } => "radiomics.size-mismatch",
            Self::GeometryMismatch { .. } => "radiomics.geometry-mismatch",
            Self::OutsideImage { .. } => "radiomics.outside-image",
            Self::OneVoxel => "radiomics.one-voxel",
            Self::TooFewDimensions { .. } => "radiomics.too-few-dimensions",
            Self::TooSmall { .. } => "radiomics.too-small",
            Self::Resegmented { .. } => "radiomics.resegmented",
            Self::NotOnePlane => "radiomics.not-one-plane",
            Self::NotFinite { .. } => "radiomics.not-finite",
            Self::Undefined { .. } => "radiomics.undefined",
            Self::TooManyLevels { .. } => "radiomics.too-many-levels",
            Self::GridTooLarge { .. } => "radiomics.grid-too-large",
            Self::Shape { .. } => "radiomics.shape",
            Self::Ibsi(_) => "radiomics.ibsi-settings",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::Yaml(_) => "check the file's indentation and brackets",
            Self::UnknownKey { .. } => "correct the spelling: keys are those of PyRadiomics 3.1.0",
            Self::BadValue { .. } => "correct the value",
            Self::Unsupported { .. } => "remove the key, or compute these features with PyRadiomics",
            Self::InFile { what, .. } => what.advice(),
            Self::EmptyMask => "check that the mask belongs to this image",
            Self::MissingLabel { .. } => "choose one of the labels that are present",
            Self::Dimensions { .. } => "give the mask of this image, of as many axes",
            Self::Spacings { .. } => "give one spacing per axis: x, y, z, or x, y for a plane",
            Self::SizeMismatch { .. } => {
                "give the mask of this image, or resample it: --correct-mask (setting correctMask: true)"
            }
            Self::GeometryMismatch { .. } => {
                "resample the mask: --correct-mask (setting correctMask: true), or raise geometryTolerance"
            }
            Self::OutsideImage { .. } => "check that the mask belongs to this image",
            Self::OneVoxel | Self::TooFewDimensions { .. } | Self::TooSmall { .. } => {
                "check the segmentation, or lower minimumROIDimensions or minimumROISize"
            }
            Self::Resegmented { .. } => "widen resegmentRange",
            Self::NotOnePlane => "give a mask of one slice, or leave shape2D out",
            Self::NotFinite { .. } => "replace NaN and infinite values",
            Self::Undefined { .. } => "leave this image type out for this region, or set binWidth in place of binCount",
            Self::TooManyLevels { .. } => "raise binWidth, or set binCount",
            Self::GridTooLarge { .. } => "raise resampledPixelSpacing, or check the mask",
            Self::Shape { .. } => "give the mask on the grid of the image",
            Self::Ibsi(_) => "correct the settings: keys are the fields of radiomics::ibsi::Settings",
        }
    }
}
