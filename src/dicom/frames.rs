//! Enhanced multi-frame CT (PS3.3 A.38): what each frame says about itself stands in functional groups, shared ones and
//! ones of the frame. Series rules see every frame as if it had come as a classic slice.

use super::items::{Item, read_items};
use super::{DicomError, Header};
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use std::borrow::Cow;

/// What one frame of an Enhanced CT object says about itself. Absent attributes are empty or `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Frame {
    /// Plane Position: Image Position (Patient), LPS, mm.
    pub position_mm: Option<[f64; 3]>,
    /// Plane Orientation: direction of a row, then of a column, LPS.
    pub cosines: Option<[f64; 6]>,
    /// Pixel Measures: (between rows, between columns), mm.
    pub pixel_spacing_mm: Option<[f64; 2]>,
    /// Pixel Measures: Slice Thickness, mm.
    pub slice_thickness_mm: Option<f64>,
    /// Pixel Value Transformation: Rescale Slope.
    pub rescale_slope: Option<f64>,
    /// Pixel Value Transformation: Rescale Intercept.
    pub rescale_intercept: Option<f64>,
    /// Pixel Value Transformation: Rescale Type.
    pub rescale_type: String,
    /// CT Image Frame Type, value by value.
    pub frame_type: Vec<String>,
    /// CT Reconstruction: Convolution Kernel.
    pub kernel: String,
    /// CT X-Ray Details: kVp, kV.
    pub kvp: Option<f64>,
    /// Frame Content: Frame Acquisition Number.
    pub acquisition_number: Option<i32>,
    /// Frame Content: Temporal Position Index.
    pub temporal_position: Option<i32>,
}

/// Reads the functional groups of `frames` frames; frames without an item of their own have the shared groups only.
pub(super) fn read_frames(data_set: &[u8], transfer_syntax: &str, frames: u32) -> Result<Vec<Frame>, DicomError> {
    let root = read_items(data_set, transfer_syntax)?;
    let shared = root.items(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE).first();
    let own = root.items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
    // A header may claim four billion frames: what has no item is cut short, and the rules refuse the object for it.
    let n = own.len().min(frames as usize);
    Ok(own[..n].iter().map(|own| frame(&Groups { own, shared })).collect())
}

struct Groups<'a> {
    own: &'a Item<'a>,
    shared: Option<&'a Item<'a>>,
}

impl<'a> Groups<'a> {
    /// The macro's only item: the frame's own, else the shared one.
    fn find(&self, macro_tag: Tag) -> Option<&'a Item<'a>> {
        self.own.items(macro_tag).first().or_else(|| self.shared?.items(macro_tag).first())
    }
}

fn frame(groups: &Groups<'_>) -> Frame {
    let measures = groups.find(tags::PIXEL_MEASURES_SEQUENCE);
    let values = groups.find(tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE);
    let content = groups.find(tags::FRAME_CONTENT_SEQUENCE);
    let number = |item: Option<&Item<'_>>, tag| item?.numbers_n::<1>(tag).map(|[value]| value);
    let position = groups.find(tags::PLANE_POSITION_SEQUENCE);
    let orientation = groups.find(tags::PLANE_ORIENTATION_SEQUENCE);
    let frame_type = groups.find(tags::CT_IMAGE_FRAME_TYPE_SEQUENCE).map(|i| i.text(tags::FRAME_TYPE));
    let kernel = groups.find(tags::CT_RECONSTRUCTION_SEQUENCE).map(|i| i.text(tags::CONVOLUTION_KERNEL));
    Frame {
        position_mm: position.and_then(|i| i.numbers_n(tags::IMAGE_POSITION_PATIENT)),
        cosines: orientation.and_then(|i| i.numbers_n(tags::IMAGE_ORIENTATION_PATIENT)),
        pixel_spacing_mm: measures.and_then(|i| i.numbers_n(tags::PIXEL_SPACING)),
        slice_thickness_mm: number(measures, tags::SLICE_THICKNESS),
        rescale_slope: number(values, tags::RESCALE_SLOPE),
        rescale_intercept: number(values, tags::RESCALE_INTERCEPT),
        rescale_type: values.map_or_else(String::new, |i| i.text(tags::RESCALE_TYPE)),
        frame_type: frame_type.map_or_else(Vec::new, |t| t.split('\\').map(|t| t.trim().to_owned()).collect()),
        kernel: kernel.unwrap_or_default(),
        kvp: number(groups.find(tags::CTX_RAY_DETAILS_SEQUENCE), tags::KVP),
        acquisition_number: content.and_then(|i| i.u16(tags::FRAME_ACQUISITION_NUMBER)).map(i32::from),
        temporal_position: content.and_then(|i| i.u32(tags::TEMPORAL_POSITION_INDEX)).and_then(|v| v.try_into().ok()),
    }
}

/// The object as one header per slice: for Enhanced CT one of each frame, if it describes all of them, else itself.
pub(super) fn slice_headers(header: &Header) -> Vec<Cow<'_, Header>> {
    if header.frames.is_empty() || header.frames.len() != header.pixels.frames as usize {
        return vec![Cow::Borrowed(header)];
    }
    let object = Header { frames: Vec::new(), ..header.clone() };
    header.frames.iter().map(|frame| Cow::Owned(slice_header(&object, frame))).collect()
}

fn slice_header(object: &Header, frame: &Frame) -> Header {
    let mut header = object.clone();
    header.pixels.frames = 1;
    header.position_mm = frame.position_mm;
    header.row_cosines = frame.cosines.map(|c| [c[0], c[1], c[2]]);
    header.column_cosines = frame.cosines.map(|c| [c[3], c[4], c[5]]);
    header.pixel_spacing_mm = frame.pixel_spacing_mm;
    header.slice_thickness_mm = frame.slice_thickness_mm;
    header.rescale_slope = frame.rescale_slope;
    header.rescale_intercept = frame.rescale_intercept;
    header.rescale_type = frame.rescale_type.clone();
    if !frame.frame_type.is_empty() {
        header.image_type = frame.frame_type.clone();
    }
    if !frame.kernel.is_empty() {
        header.kernel = frame.kernel.clone();
    }
    header.kvp = frame.kvp.or(header.kvp);
    header.acquisition_number = frame.acquisition_number.or(header.acquisition_number);
    header.temporal_position = frame.temporal_position;
    header
}
