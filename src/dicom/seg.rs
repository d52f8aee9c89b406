//! DICOM SEG from a label map: one BINARY object that points back at the slices it was made from (PS3.3 A.51, C.8.20).

use super::data_set::DataSet;
use super::source::{ObjectFile, SourceUids, code, patient_and_study, reference, short};
use super::{SeriesPlan, derive_uid, part10, sop_class, syntax};
use crate::volume::{LabelMap, Region};
use crate::{DISCLAIMER, Explain};
use dicom_core::VR;
use dicom_dictionary_std::tags;
use std::collections::BTreeSet;

/// What the writer cannot know from labels and slices. Dates come from the caller: this file reads no clock.
#[derive(Debug, Clone)]
pub struct SegInfo<'a> {
    /// Name of the algorithm, such as the model package's id (at most 64 characters are written).
    pub algorithm: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Content Date, YYYYMMDD (UTC).
    pub date: &'a str,
    /// Content Time, HHMMSS.
    pub time: &'a str,
    /// Series Number of the new series.
    pub series_number: u32,
    /// What makes the new UIDs unique, such as study number and revision, or random bytes.
    pub uid_seed: &'a [u8],
}

/// Why no SEG was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegError {
    /// The label map lies on another grid than the plan.
    #[error("the label map is not on the grid of the series")]
    OtherGrid,
    /// No voxel is labeled: a SEG needs a frame.
    #[error("no voxel is labeled: there is nothing to write as SEG")]
    Empty,
    /// More labeled pixels than a DICOM element holds, or an image beyond 65535 rows or columns.
    #[error("the label map is too large for one SEG object")]
    TooLarge,
}

impl Explain for SegError {
    fn code(&self) -> &'static str {
        match self {
            Self::OtherGrid => "seg.other-grid",
            Self::Empty => "seg.empty",
            Self::TooLarge => "seg.too-large",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::OtherGrid => "resample the labels onto the grid of the volume first",
            Self::Empty => "deliver the other results; there is no structure to show",
            Self::TooLarge => "crop the volume to the abdomen",
        }
    }
}

/// Writes the labels as a SEG of the planned series. Segments are the scheme's regions that have voxels, numbered from 1 in
/// ascending order of their label values; frames without voxels are left out. Liver does not include its lesions.
pub fn write_seg(labels: &LabelMap, plan: &SeriesPlan, info: &SegInfo<'_>) -> Result<ObjectFile, SegError> {
    if labels.geometry != plan.geometry || labels.labels.dim() != plan.geometry.shape_zyx() {
        return Err(SegError::OtherGrid);
    }
    let segments = segments(labels);
    let frames = frames(labels, &segments);
    if frames.is_empty() {
        return Err(SegError::Empty);
    }
    let pixels = pack(labels, &segments, &frames);
    let rows_and_columns = (u16::try_from(labels.geometry.size[1]), u16::try_from(labels.geometry.size[0]));
    let (Ok(rows), Ok(columns), Some(pixels)) = (rows_and_columns.0, rows_and_columns.1, pixels) else {
        return Err(SegError::TooLarge);
    };
    let uids = Uids::new(plan, info);
    let object = source_attributes(plan, &uids)
        .text(tags::SPECIFIC_CHARACTER_SET, "ISO_IR 192")
        .text(tags::IMAGE_TYPE, "DERIVED\\PRIMARY")
        .text(tags::SOP_CLASS_UID, sop_class::SEGMENTATION)
        .text(tags::SOP_INSTANCE_UID, &uids.instance)
        .text(tags::SERIES_INSTANCE_UID, &uids.series)
        .text(tags::CONTENT_DATE, info.date)
        .text(tags::CONTENT_TIME, info.time)
        .text(tags::SERIES_DATE, info.date)
        .text(tags::SERIES_TIME, info.time)
        .text(tags::MODALITY, "SEG")
        .text(tags::MANUFACTURER, "metwatch")
        .text(tags::MANUFACTURER_MODEL_NAME, "metwatch")
        .text(tags::DEVICE_SERIAL_NUMBER, "0")
        .text(tags::SOFTWARE_VERSIONS, env!("CARGO_PKG_VERSION"))
        .text(tags::SERIES_DESCRIPTION, &short(&format!("Segmentation, {DISCLAIMER}")))
        .text(tags::SERIES_NUMBER, &info.series_number.to_string())
        .text(tags::INSTANCE_NUMBER, "1")
        .text(tags::CONTENT_LABEL, "SEGMENTATION")
        .text(tags::CONTENT_DESCRIPTION, &short(&format!("Liver and colorectal tumor, {DISCLAIMER}")))
        .text(tags::CONTENT_CREATOR_NAME, "metwatch^automatic")
        .text(tags::SEGMENTATION_TYPE, "BINARY")
        .text(tags::LOSSY_IMAGE_COMPRESSION, "00")
        .shorts(tags::SAMPLES_PER_PIXEL, &[1])
        .text(tags::PHOTOMETRIC_INTERPRETATION, "MONOCHROME2")
        .text(tags::NUMBER_OF_FRAMES, &frames.len().to_string())
        .shorts(tags::ROWS, &[rows])
        .shorts(tags::COLUMNS, &[columns])
        .shorts(tags::BITS_ALLOCATED, &[1])
        .shorts(tags::BITS_STORED, &[1])
        .shorts(tags::HIGH_BIT, &[0])
        .shorts(tags::PIXEL_REPRESENTATION, &[0])
        .items(
            tags::SEGMENT_SEQUENCE,
            segments.iter().enumerate().map(|(i, s)| segment_item(i, s, info, &uids)).collect(),
        )
        .item(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, shared_groups(plan))
        .items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, frames.iter().map(|f| frame_item(*f, plan)).collect());
    let object = dimensions(object, &uids).bytes(tags::PIXEL_DATA, VR::OB, pixels);
    let bytes = part10::file(&object.to_bytes(), sop_class::SEGMENTATION, &uids.instance, syntax::EXPLICIT_LE, None);
    Ok(ObjectFile { bytes, sop_instance_uid: uids.instance, series_instance_uid: uids.series })
}

struct Segment {
    value: u8,
    region: Region,
    snomed: String,
}

/// A frame: index of its segment, slice.
type Frame = (usize, usize);

fn segments(labels: &LabelMap) -> Vec<Segment> {
    let mut used = [false; 256];
    labels.labels.iter().for_each(|v| used[usize::from(*v)] = true);
    let entries = labels.scheme.entries.iter().filter(|(value, _, _)| *value != 0 && used[usize::from(*value)]);
    entries.map(|(value, region, snomed)| Segment { value: *value, region: *region, snomed: snomed.clone() }).collect()
}

fn frames(labels: &LabelMap, segments: &[Segment]) -> Vec<Frame> {
    let has = |value: u8, k: usize| labels.labels.index_axis(ndarray::Axis(0), k).iter().any(|v| *v == value);
    let slices = labels.labels.dim().0;
    let of = |(index, segment): (usize, &Segment)| {
        let value = segment.value;
        (0..slices).filter(move |k| has(value, *k)).map(move |k| (index, k)).collect::<Vec<_>>()
    };
    segments.iter().enumerate().flat_map(of).collect()
}

/// One bit per pixel, least significant first, frame after frame without gaps (PS3.5 8.1.1).
fn pack(labels: &LabelMap, segments: &[Segment], frames: &[Frame]) -> Option<Vec<u8>> {
    let area = labels.geometry.size[0].checked_mul(labels.geometry.size[1])?;
    let bits = area.checked_mul(frames.len())?;
    let mut bytes = vec![0u8; bits.div_ceil(8)];
    for (f, (segment, k)) in frames.iter().enumerate() {
        let value = segments[*segment].value;
        let plane = labels.labels.index_axis(ndarray::Axis(0), *k);
        for (i, _) in plane.iter().enumerate().filter(|(_, v)| **v == value) {
            let bit = f * area + i;
            bytes[bit / 8] |= 1 << (bit % 8);
        }
    }
    (bytes.len() < u32::MAX as usize - 1).then_some(bytes)
}

struct Uids {
    instance: String,
    series: String,
    dimension: String,
    source: SourceUids,
    seed: Vec<u8>,
}

impl Uids {
    fn new(plan: &SeriesPlan, info: &SegInfo<'_>) -> Self {
        let first = plan.slices.first().map(|s| &s.header);
        let own = first.map_or("", |h| h.sop_instance_uid.as_str()).as_bytes().to_vec();
        let new = |what: &[u8]| derive_uid(&[b"seg", &own, info.uid_seed, what]);
        Self {
            instance: new(b"instance"),
            series: new(b"series"),
            dimension: new(b"dimension"),
            source: SourceUids::of(first),
            seed: [&own[..], info.uid_seed].concat(),
        }
    }
}

/// Patient, study, frame of reference and the references to the source series.
fn source_attributes(plan: &SeriesPlan, uids: &Uids) -> DataSet {
    // The frames of an Enhanced CT object are one instance.
    let mut seen = BTreeSet::new();
    let instances = plan.slices.iter().filter(|s| seen.insert(s.index)).map(|s| reference(&s.header)).collect();
    let series = DataSet::default()
        .text(tags::SERIES_INSTANCE_UID, &uids.source.series)
        .items(tags::REFERENCED_INSTANCE_SEQUENCE, instances);
    let study = match plan.slices.first() {
        Some(first) => patient_and_study(&first.header),
        None => DataSet::default().text(tags::STUDY_INSTANCE_UID, &uids.source.study),
    };
    study
        .text(tags::FRAME_OF_REFERENCE_UID, &uids.source.frame_of_reference)
        .text(tags::POSITION_REFERENCE_INDICATOR, "")
        .item(tags::REFERENCED_SERIES_SEQUENCE, series)
}

/// Meaning of a region's SNOMED CT code, its category, where it lies, and its color (CIELab, 16 bits a channel).
pub(super) struct Terms {
    pub meaning: &'static str,
    pub category: (&'static str, &'static str),
    pub lies_in: Option<(&'static str, &'static str)>,
    color: [u16; 3],
}

pub(super) fn terms(region: Region) -> Terms {
    let anatomy = ("123037004", "Anatomical Structure");
    let abnormal = ("49755003", "Morphologically Abnormal Structure");
    match region {
        Region::Liver => Terms { meaning: "Liver", category: anatomy, lies_in: None, color: [41661, 41166, 40793] },
        Region::LiverLesion => Terms {
            meaning: "Neoplasm",
            category: abnormal,
            lies_in: Some(("10200004", "Liver")),
            color: [43639, 30341, 24504],
        },
        Region::Colon => Terms { meaning: "Colon", category: anatomy, lies_in: None, color: [56152, 33053, 55066] },
        Region::ColorectalTumor => {
            let colon = Some(("71854001", "Colon"));
            Terms {
                meaning: "Malignant tumor of colon",
                category: abnormal,
                lies_in: colon,
                color: [34252, 49435, 43202],
            }
        }
        organ => Terms { meaning: organ.title(), category: anatomy, lies_in: None, color: [41661, 32896, 32896] },
    }
}

fn segment_item(index: usize, segment: &Segment, info: &SegInfo<'_>, uids: &Uids) -> DataSet {
    let terms = terms(segment.region);
    let algorithm = DataSet::default()
        .item(tags::ALGORITHM_FAMILY_CODE_SEQUENCE, code(("123110", "DCM", "Artificial Intelligence")))
        .text(tags::ALGORITHM_NAME, &short(info.algorithm))
        .text(tags::ALGORITHM_VERSION, &short(info.version));
    let name = segment.region.name();
    let item = DataSet::default()
        .shorts(tags::SEGMENT_NUMBER, &[index as u16 + 1])
        .text(tags::SEGMENT_LABEL, segment.region.title())
        .text(tags::SEGMENT_DESCRIPTION, &short(&format!("{name}, {DISCLAIMER}")))
        .text(tags::SEGMENT_ALGORITHM_TYPE, "AUTOMATIC")
        .text(tags::SEGMENT_ALGORITHM_NAME, &short(info.algorithm))
        .item(tags::SEGMENTATION_ALGORITHM_IDENTIFICATION_SEQUENCE, algorithm)
        .item(tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE, code((terms.category.0, "SCT", terms.category.1)))
        .item(tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE, code((&segment.snomed, "SCT", terms.meaning)))
        .shorts(tags::RECOMMENDED_DISPLAY_CIE_LAB_VALUE, &terms.color)
        .text(tags::TRACKING_ID, name)
        .text(tags::TRACKING_UID, &derive_uid(&[b"tracking", &uids.seed, name.as_bytes()]));
    match terms.lies_in {
        Some((value, meaning)) => item.item(tags::ANATOMIC_REGION_SEQUENCE, code((value, "SCT", meaning))),
        None => item,
    }
}

fn shared_groups(plan: &SeriesPlan) -> DataSet {
    let g = &plan.geometry;
    let cosines: Vec<f64> = (0..2).flat_map(|a| (0..3).map(move |row| g.direction[row][a])).collect();
    let thickness = plan.slices.first().and_then(|s| s.header.slice_thickness_mm).unwrap_or(g.spacing_mm[2]);
    DataSet::default()
        .item(
            tags::PIXEL_MEASURES_SEQUENCE,
            DataSet::default()
                .decimals(tags::SLICE_THICKNESS, &[thickness])
                .decimals(tags::SPACING_BETWEEN_SLICES, &[g.spacing_mm[2]])
                .decimals(tags::PIXEL_SPACING, &[g.spacing_mm[1], g.spacing_mm[0]]),
        )
        .item(tags::PLANE_ORIENTATION_SEQUENCE, DataSet::default().decimals(tags::IMAGE_ORIENTATION_PATIENT, &cosines))
}

fn frame_item((segment, k): Frame, plan: &SeriesPlan) -> DataSet {
    // The plane's own slice; when planes were resampled it is still the nearest one, but no longer pixel for pixel.
    let preserved = if plan.resampled { "NO" } else { "YES" };
    let purpose = code(("121322", "DCM", "Source image for image processing operation"));
    let source = plan.slices.get(k).map(|s| match s.header.sop_class_uid.as_str() {
        sop_class::ENHANCED_CT => reference(&s.header).text(tags::REFERENCED_FRAME_NUMBER, &(s.frame + 1).to_string()),
        _ => reference(&s.header),
    });
    let source = source.unwrap_or_default();
    let source = source
        .text(tags::SPATIAL_LOCATIONS_PRESERVED, preserved)
        .item(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, purpose);
    let derivation = DataSet::default()
        .item(tags::DERIVATION_CODE_SEQUENCE, code(("113076", "DCM", "Segmentation")))
        .item(tags::SOURCE_IMAGE_SEQUENCE, source);
    let position = plan.geometry.position_mm([0.0, 0.0, k as f64]);
    DataSet::default()
        .item(
            tags::FRAME_CONTENT_SEQUENCE,
            DataSet::default().longs(tags::DIMENSION_INDEX_VALUES, &[segment as u32 + 1, k as u32 + 1]),
        )
        .item(tags::PLANE_POSITION_SEQUENCE, DataSet::default().decimals(tags::IMAGE_POSITION_PATIENT, &position))
        .item(
            tags::SEGMENT_IDENTIFICATION_SEQUENCE,
            DataSet::default().shorts(tags::REFERENCED_SEGMENT_NUMBER, &[segment as u16 + 1]),
        )
        .item(tags::DERIVATION_IMAGE_SEQUENCE, derivation)
}

fn dimensions(object: DataSet, uids: &Uids) -> DataSet {
    let index = |pointer, group, label: &str| {
        DataSet::default()
            .text(tags::DIMENSION_ORGANIZATION_UID, &uids.dimension)
            .tags(tags::DIMENSION_INDEX_POINTER, &[pointer])
            .tags(tags::FUNCTIONAL_GROUP_POINTER, &[group])
            .text(tags::DIMENSION_DESCRIPTION_LABEL, label)
    };
    let organization = DataSet::default().text(tags::DIMENSION_ORGANIZATION_UID, &uids.dimension);
    object.item(tags::DIMENSION_ORGANIZATION_SEQUENCE, organization).items(
        tags::DIMENSION_INDEX_SEQUENCE,
        vec![
            index(tags::REFERENCED_SEGMENT_NUMBER, tags::SEGMENT_IDENTIFICATION_SEQUENCE, "Segment Number"),
            index(tags::IMAGE_POSITION_PATIENT, tags::PLANE_POSITION_SEQUENCE, "Image Position"),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::{PatientInfo, parse_header, phantom_series, plan_series};
    use crate::volume::{Geometry, LabelScheme, Volume};
    use ndarray::Array3;

    fn labeled() -> (LabelMap, SeriesPlan) {
        let geometry = Geometry {
            size: [5, 3, 50],
            spacing_mm: [0.7, 0.8, 3.0],
            origin_mm: [0.0; 3],
            direction: Geometry::IDENTITY,
        };
        let volume = Volume { hu: Array3::zeros((50, 3, 5)), geometry };
        let files = phantom_series(&volume, &PatientInfo { patient_id: "P1".into(), ..Default::default() }, 1);
        let plan = plan_series(&files.iter().map(|(_, b)| parse_header(b).unwrap()).collect::<Vec<_>>()).unwrap();
        let entries = vec![(1, Region::Liver, "10200004".into()), (4, Region::ColorectalTumor, "363406005".into())];
        let labels = Array3::zeros((50, 3, 5));
        (LabelMap { labels, geometry: plan.geometry.clone(), scheme: LabelScheme { entries } }, plan)
    }

    const INFO: SegInfo<'_> = SegInfo {
        algorithm: "test",
        version: "1",
        date: "20260101",
        time: "120000",
        series_number: 900,
        uid_seed: b"x",
    };

    #[test]
    fn only_frames_with_voxels_are_packed_bit_by_bit() {
        let (mut labels, plan) = labeled();
        assert_eq!(write_seg(&labels, &plan, &INFO).unwrap_err(), SegError::Empty);
        labels.labels[(7, 0, 1)] = 1;
        labels.labels[(9, 2, 4)] = 4;
        let segments = segments(&labels);
        let frames = frames(&labels, &segments);
        assert_eq!(frames, [(0, 7), (1, 9)]);
        // Bit 1 of frame 0 (15 bits), bit 14 of frame 1: 1 and 29.
        assert_eq!(pack(&labels, &segments, &frames), Some(vec![0b10, 0, 0, 0b10_0000]));
        let seg = write_seg(&labels, &plan, &INFO).unwrap();
        let header = parse_header(&seg.bytes).unwrap();
        assert_eq!((header.modality.as_str(), header.pixels.frames), ("SEG", 2));
        assert_eq!(header.study_instance_uid, plan.slices[0].header.study_instance_uid);
        assert_eq!(header.frame_of_reference_uid, plan.slices[0].header.frame_of_reference_uid);
    }

    #[test]
    fn labels_of_another_grid_are_refused() {
        let (mut labels, plan) = labeled();
        labels.geometry.origin_mm[2] = 1.0;
        assert_eq!(write_seg(&labels, &plan, &INFO).unwrap_err(), SegError::OtherGrid);
    }
}
