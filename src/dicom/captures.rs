//! What every viewer shows: pictures as Secondary Capture images (PS3.3 A.8.1), the page as Encapsulated PDF (A.45.1).

use super::data_set::DataSet;
use super::report::date_and_time;
use super::source::{code, equipment, patient_and_study, reference, short};
use super::{Header, ObjectFile, Picture, ResultError, ResultInfo, derive_uid, part10, sop_class, syntax};
use crate::DISCLAIMER;
use dicom_core::VR;
use dicom_dictionary_std::tags;

/// Writes one Secondary Capture image per picture, all in one new series of the source's study.
pub fn write_captures(info: &ResultInfo<'_>, pictures: &[Picture]) -> Result<Vec<ObjectFile>, ResultError> {
    let series = Series::new(info, b"capture")?;
    let image = |(index, picture): (usize, &Picture)| {
        picture.check()?;
        let instance = series.uid(format!("instance {index}").as_bytes());
        let object = series
            .attributes("OT", info.series_number, "Key pictures")
            .text(tags::SOP_CLASS_UID, sop_class::SECONDARY_CAPTURE)
            .text(tags::SOP_INSTANCE_UID, &instance)
            .text(tags::INSTANCE_NUMBER, &(index + 1).to_string())
            .text(tags::IMAGE_TYPE, "DERIVED\\SECONDARY")
            .text(tags::DATE_OF_SECONDARY_CAPTURE, &series.day)
            .text(tags::TIME_OF_SECONDARY_CAPTURE, &series.time)
            .text(tags::PATIENT_ORIENTATION, picture.patient_orientation)
            .text(tags::LATERALITY, "")
            .text(tags::IMAGE_COMMENTS, &format!("{}; {DISCLAIMER}", picture.title))
            .text(tags::DERIVATION_DESCRIPTION, "Window in HU, outlines of the automatic segmentation, disclaimer")
            // Nothing in the pixels names the patient.
            .text(tags::BURNED_IN_ANNOTATION, "NO")
            .text(tags::LOSSY_IMAGE_COMPRESSION, "00")
            .shorts(tags::SAMPLES_PER_PIXEL, &[3])
            .text(tags::PHOTOMETRIC_INTERPRETATION, "RGB")
            .shorts(tags::PLANAR_CONFIGURATION, &[0])
            .shorts(tags::ROWS, &[picture.height])
            .shorts(tags::COLUMNS, &[picture.width])
            .shorts(tags::BITS_ALLOCATED, &[8])
            .shorts(tags::BITS_STORED, &[8])
            .shorts(tags::HIGH_BIT, &[7])
            .shorts(tags::PIXEL_REPRESENTATION, &[0])
            .bytes(tags::PIXEL_DATA, VR::OB, picture.rgb.clone());
        let purpose = code(("121322", "DCM", "Source image for image processing operation"));
        let shown = picture.slice.and_then(|index| info.source.get(index));
        let object = match shown {
            Some(slice) => object.item(
                tags::SOURCE_IMAGE_SEQUENCE,
                reference(slice).item(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, purpose),
            ),
            None => object,
        };
        Ok(series.file(&object, sop_class::SECONDARY_CAPTURE, instance))
    };
    pictures.iter().enumerate().map(image).collect()
}

/// Wraps the page ([`super::write_page`]) as an Encapsulated PDF in a new series of the source's study.
pub fn write_document(info: &ResultInfo<'_>, pdf: &[u8]) -> Result<ObjectFile, ResultError> {
    let series = Series::new(info, b"document")?;
    let length = u32::try_from(pdf.len()).ok().filter(|n| *n < u32::MAX - 1).ok_or(ResultError::TooLarge)?;
    let instance = series.uid(b"instance");
    let object = series
        .attributes("DOC", info.series_number, "Report as PDF")
        .text(tags::SOP_CLASS_UID, sop_class::ENCAPSULATED_PDF)
        .text(tags::SOP_INSTANCE_UID, &instance)
        .text(tags::INSTANCE_NUMBER, "1")
        .text(tags::ACQUISITION_DATE_TIME, "")
        // The page names the patient.
        .text(tags::BURNED_IN_ANNOTATION, "YES")
        .items(tags::SOURCE_INSTANCE_SEQUENCE, info.source.iter().map(|h| reference(h)).collect())
        .text(tags::DOCUMENT_TITLE, &format!("Risk of metachronous liver metastasis, {DISCLAIMER}"))
        .item(tags::CONCEPT_NAME_CODE_SEQUENCE, code(("126000", "DCM", "Imaging Measurement Report")))
        .text(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT, "application/pdf")
        .longs(tags::ENCAPSULATED_DOCUMENT_LENGTH, &[length])
        .bytes(tags::ENCAPSULATED_DOCUMENT, VR::OB, pdf.to_vec());
    Ok(series.file(&object, sop_class::ENCAPSULATED_PDF, instance))
}

/// A new series beside the source.
struct Series<'a> {
    first: &'a Header,
    info: &'a ResultInfo<'a>,
    kind: &'static [u8],
    day: String,
    time: String,
}

impl<'a> Series<'a> {
    fn new(info: &'a ResultInfo<'a>, kind: &'static [u8]) -> Result<Self, ResultError> {
        let first = *info.source.first().ok_or(ResultError::NoSource)?;
        let (day, time) = date_and_time(&info.report.created_at);
        Ok(Self { first, info, kind, day, time })
    }

    fn uid(&self, what: &[u8]) -> String {
        derive_uid(&[self.kind, self.first.sop_instance_uid.as_str().as_bytes(), self.info.uid_seed, what])
    }

    fn attributes(&self, modality: &str, number: u32, description: &str) -> DataSet {
        equipment(patient_and_study(self.first), &self.info.report.device)
            .text(tags::SPECIFIC_CHARACTER_SET, "ISO_IR 192")
            .text(tags::SERIES_INSTANCE_UID, &self.uid(b"series"))
            .text(tags::SERIES_NUMBER, &number.to_string())
            .text(tags::SERIES_DATE, &self.day)
            .text(tags::SERIES_TIME, &self.time)
            .text(tags::SERIES_DESCRIPTION, &short(&format!("{description}, {DISCLAIMER}")))
            .text(tags::CONTENT_DATE, &self.day)
            .text(tags::CONTENT_TIME, &self.time)
            .text(tags::MODALITY, modality)
            .text(tags::CONVERSION_TYPE, "WSD")
    }

    fn file(&self, object: &DataSet, class: &str, instance: String) -> ObjectFile {
        let bytes = part10::file(&object.to_bytes(), class, &instance, syntax::EXPLICIT_LE, None);
        ObjectFile { bytes, sop_instance_uid: instance, series_instance_uid: self.uid(b"series") }
    }
}
