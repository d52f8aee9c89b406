//! Why an object gave no mask on the grid of the image.

use super::DicomError;
use crate::Explain;
use crate::volume::GeometryError;

/// Why a structure set or a segmentation gave no mask. Structures and segments are named by their numbers: names are free text.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MaskError {
    /// The bytes are no object that can be read.
    #[error("the object with the mask could not be read: {0}")]
    Object(#[from] DicomError),
    /// Another kind of object than an RT Structure Set.
    #[error("the object is no RT structure set")]
    NotStructureSet,
    /// Another kind of object than a Segmentation.
    #[error("the object is no segmentation")]
    NotSegmentation,
    /// Nothing is described in it.
    #[error("the object describes no structure or segment")]
    Empty,
    /// Contour Data that are no triples of numbers.
    #[error("the points of contour {contour} of structure {structure} cannot be read")]
    Points {
        /// ROI Number.
        structure: i32,
        /// Place among the contours of the structure, from 1.
        contour: usize,
    },
    /// A structure of points, open contours or nothing.
    #[error("structure {structure} has no closed planar contour: it encloses nothing")]
    NoContours {
        /// ROI Number.
        structure: i32,
    },
    /// Closed contours that pass between the voxel centers.
    #[error("structure {structure} encloses no voxel center of the image: it is smaller than a voxel")]
    NoVoxels {
        /// ROI Number.
        structure: i32,
    },
    /// Image and mask have no common coordinates.
    #[error("the mask lies in another frame of reference than the image: their positions cannot be compared")]
    FrameOfReference,
    /// A contour that is not parallel to the slices.
    #[error("contour {contour} of structure {structure} leaves its slice by {off_mm:.2} mm: it lies in another plane")]
    OutOfPlane {
        /// ROI Number.
        structure: i32,
        /// Place among the closed contours of the structure, from 1.
        contour: usize,
        /// Farthest distance from the center of the slice, mm.
        off_mm: f64,
    },
    /// Some or all of the mask has no voxels under it.
    #[error("{outside} of {all} {what} lie outside the image: the mask belongs to another or to a larger image")]
    Outside {
        /// How many lie outside.
        outside: usize,
        /// How many there are.
        all: usize,
        /// Of what: contours of a structure, pixels of a segment.
        what: &'static str,
    },
    /// Made on thinner or thicker slices.
    #[error(
        "the slices of the mask lie {of_mask_mm:.2} mm apart, those of the image {of_image_mm:.2} mm: it was made on another series"
    )]
    OtherSlices {
        /// Distance between the planes of the mask, mm.
        of_mask_mm: f64,
        /// Distance between the slices of the image, mm.
        of_image_mm: f64,
    },
    /// Segmentation Type, bits or samples that make no mask.
    #[error("the segmentation is {0}, which is not read as a mask")]
    PixelFormat(String),
    /// A transfer syntax that the pixels cannot be decoded from.
    #[error("the pixels of the segmentation are compressed in {0}, for which there is no decoder here")]
    Codec(String),
    /// Pixels that are cut short or damaged.
    #[error("the pixels of frame {frame} are missing or damaged")]
    Pixels {
        /// Frame, from 1.
        frame: usize,
    },
    /// Frames without a description each.
    #[error("the segmentation has {frames} frames, but describes {described}")]
    FrameCount {
        /// Number of Frames.
        frames: usize,
        /// Items of the Per-Frame Functional Groups Sequence.
        described: usize,
    },
    /// A frame that does not say where it lies in the patient.
    #[error("frame {frame} tells no position, orientation or pixel spacing in the patient")]
    NoPosition {
        /// Frame, from 1.
        frame: usize,
    },
    /// A frame whose pixels are not voxels of the image.
    #[error("the pixels of frame {frame} are not the voxels of the image: {how}")]
    FrameGrid {
        /// Frame, from 1.
        frame: usize,
        /// What differs.
        how: String,
    },
    /// A frame of a segment that is not described.
    #[error("frame {frame} shows segment {number}, which is not described")]
    UnknownSegment {
        /// Frame, from 1.
        frame: usize,
        /// Segment Number.
        number: u16,
    },
    /// The image's grid is none.
    #[error("the grid of the image is unusable: {0}")]
    Grid(#[from] GeometryError),
    /// More voxels than this box holds.
    #[error("the masks on this grid would take more than {limit_mb} MB")]
    TooLarge {
        /// The limit in MiB.
        limit_mb: usize,
    },
}

impl Explain for MaskError {
    fn code(&self) -> &'static str {
        match self {
            Self::Object(error) => error.code(),
            Self::NotStructureSet => "mask.not-a-structure-set",
            Self::NotSegmentation => "mask.not-a-segmentation",
            Self::Empty => "mask.empty",
            Self::Points { .. } => "mask.points",
            Self::NoContours { .. } => "mask.no-contours",
            Self::NoVoxels { .. } => "mask.no-voxels",
            Self::FrameOfReference => "mask.frame-of-reference",
            Self::OutOfPlane { .. } => "mask.out-of-plane",
            Self::Outside { .. } => "mask.outside",
            Self::OtherSlices { .. } => "mask.other-slices",
            Self::PixelFormat(_) => "mask.pixel-format",
            Self::Codec(_) => "mask.codec",
            Self::Pixels { .. } => "mask.pixels",
            Self::FrameCount { .. } => "mask.frame-count",
            Self::NoPosition { .. } => "mask.no-position",
            Self::FrameGrid { .. } => "mask.frame-grid",
            Self::UnknownSegment { .. } => "mask.unknown-segment",
            Self::Grid(_) => "mask.grid",
            Self::TooLarge { .. } => "mask.too-large",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::Object(error) => error.advice(),
            Self::NotStructureSet => "give an RTSTRUCT object",
            Self::NotSegmentation => "give a DICOM SEG object",
            Self::Empty
            | Self::Points { .. }
            | Self::Pixels { .. }
            | Self::FrameCount { .. }
            | Self::UnknownSegment { .. } => "export the object again from the program that made it",
            Self::NoContours { .. } => "choose a structure that was drawn as closed contours",
            Self::NoVoxels { .. } => "choose a larger structure",
            Self::FrameOfReference => "give the mask that was drawn on this series, or register the two first",
            Self::OutOfPlane { .. } => "draw the structure on the slices of this series, or give it as SEG",
            Self::Outside { .. } | Self::OtherSlices { .. } => "give the series that the mask was drawn on, uncropped",
            Self::PixelFormat(_) => "export it as a BINARY, FRACTIONAL or LABELMAP segmentation",
            Self::Codec(_) => "export it in explicit VR little endian",
            Self::NoPosition { .. } => "give a segmentation of a CT series",
            Self::FrameGrid { .. } => "give the series that was segmented, or resample the mask onto its slices",
            Self::Grid(_) => "check the image",
            Self::TooLarge { .. } => "crop the image, or split the object by segments",
        }
    }
}
