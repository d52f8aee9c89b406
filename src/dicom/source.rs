//! What every object of ours says about the slices it was made from: patient, study, equipment, references.

use super::data_set::DataSet;
use super::{DeviceReport, Header, Identifier, derive_uid, sop_class};
use dicom_dictionary_std::tags;

/// A Part 10 file that this box wrote.
#[derive(Debug, Clone)]
pub struct ObjectFile {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Its SOP Instance UID.
    pub sop_instance_uid: String,
    /// Its Series Instance UID.
    pub series_instance_uid: String,
}

/// The source's UIDs; where it has none, ones derived from its first object, the same for every object of ours.
pub struct SourceUids {
    pub study: String,
    pub series: String,
    pub frame_of_reference: String,
}

impl SourceUids {
    pub fn of(first: Option<&Header>) -> Self {
        let own = first.map_or("", |h| h.sop_instance_uid.as_str()).as_bytes().to_vec();
        let of_source = |uid: Option<&Identifier>, what: &[u8]| match uid {
            Some(uid) if !uid.is_empty() => uid.as_str().to_owned(),
            _ => derive_uid(&[b"source", &own, what]),
        };
        Self {
            study: of_source(first.map(|h| &h.study_instance_uid), b"study"),
            series: of_source(first.map(|h| &h.series_instance_uid), b"series"),
            frame_of_reference: of_source(first.map(|h| &h.frame_of_reference_uid), b"frame of reference"),
        }
    }
}

/// Patient and study, as the source has them.
pub fn patient_and_study(header: &Header) -> DataSet {
    let set = DataSet::default()
        .text(tags::STUDY_INSTANCE_UID, &SourceUids::of(Some(header)).study)
        .text(tags::STUDY_DATE, &header.study_date)
        .text(tags::STUDY_TIME, &header.study_time)
        .text(tags::ACCESSION_NUMBER, header.accession_number.as_str())
        .text(tags::REFERRING_PHYSICIAN_NAME, header.referring_physician.as_str())
        .text(tags::PATIENT_NAME, header.patient.name.as_str())
        .text(tags::PATIENT_ID, header.patient.id.as_str())
        .text(tags::PATIENT_BIRTH_DATE, header.patient.birth_date.as_str())
        .text(tags::PATIENT_SEX, &header.patient.sex)
        .text(tags::STUDY_ID, header.study_id.as_str());
    let known = |set: DataSet, tag, value: &Identifier| match value.as_str() {
        "" => set,
        value => set.text(tag, value),
    };
    let set = known(set, tags::ISSUER_OF_PATIENT_ID, &header.patient.issuer);
    known(set, tags::STUDY_DESCRIPTION, &header.study_description)
}

/// What wrote the object (PS3.3 C.7.5.1).
pub fn equipment(object: DataSet, device: &DeviceReport) -> DataSet {
    object
        .text(tags::MANUFACTURER, &short(&device.manufacturer))
        .text(tags::MANUFACTURER_MODEL_NAME, &short(&device.model))
        .text(tags::DEVICE_SERIAL_NUMBER, &short(&device.serial_number))
        .text(tags::SOFTWARE_VERSIONS, &short(&device.software))
}

/// Class and instance of a slice; an object without a class came as CT.
pub fn reference(header: &Header) -> DataSet {
    let class = if header.sop_class_uid.is_empty() { sop_class::CT } else { &header.sop_class_uid };
    reference_to(class, header.sop_instance_uid.as_str())
}

/// Class and instance of an object.
pub fn reference_to(class: &str, instance: &str) -> DataSet {
    DataSet::default().text(tags::REFERENCED_SOP_CLASS_UID, class).text(tags::REFERENCED_SOP_INSTANCE_UID, instance)
}

/// A coded term: value, scheme, meaning.
pub type Code<'a> = (&'a str, &'a str, &'a str);

/// The item of a code sequence. A Code Value has at most 16 characters, a longer one is a Long Code Value.
pub fn code((value, scheme, meaning): Code<'_>) -> DataSet {
    let tag = if value.chars().count() > 16 { tags::LONG_CODE_VALUE } else { tags::CODE_VALUE };
    DataSet::default()
        .text(tag, value)
        .text(tags::CODING_SCHEME_DESIGNATOR, scheme)
        .text(tags::CODE_MEANING, &short(meaning))
}

/// Text for an element of at most 64 characters (LO), without what an element may not hold.
pub fn short(text: &str) -> String {
    text.chars().filter(|c| *c != '\\' && !c.is_control()).take(64).collect()
}
