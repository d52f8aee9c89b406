//! Why no volume can be made of a set of objects.

use super::series::{SLICES_MIN, TILT_DEG_MAX};
use crate::Explain;

/// Why no volume can be made of a set of objects.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SeriesError {
    /// Nothing was given.
    #[error("there is no DICOM object here")]
    Empty,
    /// Every object is of another modality.
    #[error("the series is {modality}, not CT: it is not analyzed")]
    NotCt {
        /// Modality of the first object.
        modality: String,
    },
    /// Enhanced multi-frame objects without functional groups of each frame.
    #[error("the Enhanced CT object does not describe each of its frames: nothing says where they lie")]
    Enhanced,
    /// Only scouts.
    #[error("the series holds localizers only: there is no volume in it")]
    Localizer,
    /// Only reformats, projections, screen saves.
    #[error("the series holds derived images only (reformats, projections or screen saves)")]
    Derived,
    /// No position or orientation.
    #[error("the images have no position, orientation or pixel spacing")]
    NoGeometry,
    /// Lossy compression.
    #[error("the images were compressed with loss: texture would be measured on the compressor's artifacts")]
    Lossy,
    /// A transfer syntax that cannot be decoded.
    #[error("the pixels are stored in transfer syntax {0}, which is not decoded here")]
    Codec(String),
    /// Pixels that are not 16 bits of one MONOCHROME2 sample.
    #[error("the pixels are not 16-bit MONOCHROME2 with one sample, as CT slices are")]
    PixelFormat,
    /// Different patients in one series.
    #[error("objects of different patients came as one series: nothing was built from them")]
    MixedPatients,
    /// Cosines that are not unit vectors at right angles.
    #[error("slice {index}: the direction cosines are not unit vectors at right angles")]
    Cosines {
        /// Index into the given headers.
        index: usize,
    },
    /// Slope 0 or missing, no HU, a Modality LUT.
    #[error("slice {index}: stored values cannot be turned into HU ({why})")]
    NoHu {
        /// Index into the given headers.
        index: usize,
        /// What is missing.
        why: &'static str,
    },
    /// Slices at the same place that nothing tells apart.
    #[error(
        "{count} slices lie where another slice lies, and neither kernel, acquisition, thickness nor phase tells them apart"
    )]
    Duplicates {
        /// Slices too many.
        count: usize,
    },
    /// Fewer slices than a volume needs.
    #[error("the stack has {count} slices, at least {SLICES_MIN} are needed")]
    TooFewSlices {
        /// Slices in the largest stack.
        count: usize,
    },
    /// A hole.
    #[error("slices {index} and {} lie {gap_mm:.2} mm apart, all others {usual_mm:.2} mm: {missing} missing, so no volume was built", index + 1)]
    MissingSlice {
        /// Slice in front of the (first) gap, counted from 0 along the normal.
        index: usize,
        /// The gap, mm.
        gap_mm: f64,
        /// The usual spacing, mm.
        usual_mm: f64,
        /// Slices that are missing in all.
        missing: usize,
    },
    /// Spacing that changes within the stack.
    #[error(
        "the distance of neighboring slices varies from {min_mm:.2} to {max_mm:.2} mm: they form no regular volume"
    )]
    VariableSpacing {
        /// Smallest distance, mm.
        min_mm: f64,
        /// Largest distance, mm.
        max_mm: f64,
    },
    /// Slices that leave the line through the stack.
    #[error(
        "slice {index} lies {off_mm:.1} mm beside the line of the others: the gantry tilt or the field of view changed"
    )]
    Sidestep {
        /// Slice, counted from 0 along the normal.
        index: usize,
        /// How far, mm.
        off_mm: f64,
    },
    /// Gantry tilt beyond the limit.
    #[error("the gantry tilt is {degrees:.1} degrees, at most {TILT_DEG_MAX} can be corrected")]
    Tilt {
        /// Angle between normal and step, degrees.
        degrees: f64,
    },
    /// More than one stack that could be meant.
    #[error("the series holds {count} stacks of slices ({sizes} slices) and nothing says which is meant")]
    SeveralStacks {
        /// Number of stacks.
        count: usize,
        /// Their sizes, for people.
        sizes: String,
    },
    /// Reading an object failed.
    #[error("slice {index} could not be read: {why}")]
    Load {
        /// Slice, counted from 0 along the normal.
        index: usize,
        /// What the reader said.
        why: String,
    },
    /// Fewer pixels than the header promises.
    #[error("slice {index} has fewer pixels than its header says")]
    ShortPixels {
        /// Slice, counted from 0 along the normal.
        index: usize,
    },
    /// The decoder failed, or broke its limits of memory and time.
    #[error("slice {index}: {why}")]
    Decode {
        /// Slice, counted from 0 along the normal.
        index: usize,
        /// How the decoder ended.
        why: String,
    },
    /// An object changed between planning and assembling.
    #[error("slice {index} changed while the volume was built")]
    Changed {
        /// Slice, counted from 0 along the normal.
        index: usize,
    },
}

impl SeriesError {
    /// True when slices that are still to come may cure it: the series is worth waiting for.
    pub fn may_heal(&self) -> bool {
        matches!(self, Self::Empty | Self::MissingSlice { .. } | Self::TooFewSlices { .. } | Self::Localizer)
    }
}

impl Explain for SeriesError {
    fn code(&self) -> &'static str {
        match self {
            Self::Empty => "series.empty",
            Self::NotCt { .. } => "series.not-ct",
            Self::Enhanced => "series.enhanced",
            Self::Localizer => "series.localizer",
            Self::Derived => "series.derived",
            Self::NoGeometry => "series.no-geometry",
            Self::Lossy => "series.lossy",
            Self::Codec(_) => "series.codec",
            Self::PixelFormat => "series.pixel-format",
            Self::MixedPatients => "series.mixed-patients",
            Self::Cosines { .. } => "series.cosines",
            Self::NoHu { .. } => "series.no-hu",
            Self::Duplicates { .. } => "series.duplicates",
            Self::TooFewSlices { .. } => "series.too-few-slices",
            Self::MissingSlice { .. } => "series.missing-slice",
            Self::VariableSpacing { .. } => "series.variable-spacing",
            Self::Sidestep { .. } => "series.sidestep",
            Self::Tilt { .. } => "series.tilt",
            Self::SeveralStacks { .. } => "series.several-stacks",
            Self::Load { .. } => "series.load",
            Self::ShortPixels { .. } => "series.short-pixels",
            Self::Decode { .. } => "series.decode",
            Self::Changed { .. } => "series.changed",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::Empty | Self::TooFewSlices { .. } | Self::MissingSlice { .. } => "send the whole series again",
            Self::NotCt { .. } | Self::Localizer | Self::Derived | Self::NoGeometry => {
                "send the axial CT series of the abdomen, as the scanner reconstructed it"
            }
            Self::Enhanced => "send the object again, or have the scanner send classic CT Image Storage objects",
            Self::Lossy | Self::Codec(_) => "send the series without compression, or with a lossless one",
            Self::PixelFormat | Self::NoHu { .. } => "send the original reconstruction in Hounsfield units",
            Self::MixedPatients => "check the identity of every object at the sender, then send one patient at a time",
            Self::Cosines { .. } | Self::VariableSpacing { .. } | Self::Sidestep { .. } | Self::Tilt { .. } => {
                "reconstruct the series with equal spacing and without gantry tilt"
            }
            Self::Duplicates { .. } | Self::SeveralStacks { .. } => {
                "send one reconstruction, one phase and one kernel per series"
            }
            Self::Load { .. } | Self::Changed { .. } => "check the disk, then analyze again",
            Self::ShortPixels { .. } | Self::Decode { .. } => "send the damaged slice again",
        }
    }
}
