//! DICOMDIR: the directory of a folder of DICOM files (PS3.3 annex F; PS3.10 for file IDs and the file itself).

use super::data_set::DataSet;
use super::items::{Item, read_items};
use super::source::{code, short};
use super::{Header, ResultError, derive_uid, parse_object, part10, sop_class, syntax};
use dicom_dictionary_std::tags;
use std::collections::BTreeMap;

/// Name of the folder of files (File-set ID), at most 16 characters.
const FILE_SET_ID: &str = "METWATCH";

/// A file of the folder, as its directory lists it.
#[derive(Clone)]
pub struct DirectoryEntry {
    file_id: String,
    header: Header,
    series_description: String,
    record_type: &'static str,
    /// What the lowest record says of the object.
    keys: DataSet,
}

impl DirectoryEntry {
    /// Reads what the directory says of an object. `file_id` is the path below the directory, parts joined by `/`: at most 8
    /// parts of 1 to 8 capital letters, digits or underscores (PS3.10 8.2).
    pub fn new(file_id: &str, object: &[u8]) -> Result<Self, ResultError> {
        let parts: Vec<&str> = file_id.split('/').collect();
        let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        if parts.len() > 8 || !parts.iter().all(|p| (1..=8).contains(&p.len()) && p.chars().all(plain)) {
            return Err(ResultError::FileId { id: file_id.chars().take(80).collect() });
        }
        let object = parse_object(object)?;
        let root = read_items(&object.data_set, &object.header.transfer_syntax)?;
        let number = object.header.instance_number.unwrap_or(1).to_string();
        let common = DataSet::default().text(tags::INSTANCE_NUMBER, &number);
        let (record_type, keys) = match object.header.sop_class_uid.as_str() {
            sop_class::COMPREHENSIVE_3D_SR => ("SR DOCUMENT", report_keys(&root, common)),
            sop_class::ENCAPSULATED_PDF => ("ENCAP DOC", document_keys(&root, common)),
            _ => ("IMAGE", common),
        };
        let series_description = short(&root.text_in(tags::SERIES_DESCRIPTION, &root.charset()));
        Ok(Self { file_id: file_id.into(), header: object.header, series_description, record_type, keys })
    }

    /// The last part of the file ID.
    pub fn file_name(&self) -> &str {
        self.file_id.rsplit('/').next().unwrap_or_default()
    }

    /// SOP Instance UID of the object.
    pub fn sop_instance_uid(&self) -> &str {
        self.header.sop_instance_uid.as_str()
    }
}

fn copied(root: &Item<'_>, set: DataSet, tags: &[dicom_core::Tag]) -> DataSet {
    tags.iter().fold(set, |set, tag| set.text(*tag, &root.text(*tag)))
}

fn copied_code(root: &Item<'_>, tag: dicom_core::Tag) -> Vec<DataSet> {
    let item = |item: &Item<'_>| {
        let value = [tags::CODE_VALUE, tags::LONG_CODE_VALUE].map(|tag| item.text(tag)).concat();
        code((&value, &item.text(tags::CODING_SCHEME_DESIGNATOR), &item.text(tags::CODE_MEANING)))
    };
    root.items(tag).iter().map(item).collect()
}

/// PS3.3 F.5.31. Content that modifies the title is repeated in the record.
fn report_keys(root: &Item<'_>, keys: DataSet) -> DataSet {
    let copies = [tags::COMPLETION_FLAG, tags::VERIFICATION_FLAG, tags::CONTENT_DATE, tags::CONTENT_TIME];
    let keys = copied(root, keys, &copies)
        .items(tags::CONCEPT_NAME_CODE_SEQUENCE, copied_code(root, tags::CONCEPT_NAME_CODE_SEQUENCE));
    let modifiers: Vec<DataSet> = root
        .items(tags::CONTENT_SEQUENCE)
        .iter()
        .filter(|item| item.text(tags::RELATIONSHIP_TYPE) == "HAS CONCEPT MOD" && item.text(tags::VALUE_TYPE) == "CODE")
        .map(|item| {
            copied(item, DataSet::default(), &[tags::RELATIONSHIP_TYPE, tags::VALUE_TYPE])
                .items(tags::CONCEPT_NAME_CODE_SEQUENCE, copied_code(item, tags::CONCEPT_NAME_CODE_SEQUENCE))
                .items(tags::CONCEPT_CODE_SEQUENCE, copied_code(item, tags::CONCEPT_CODE_SEQUENCE))
        })
        .collect();
    if modifiers.is_empty() { keys } else { keys.items(tags::CONTENT_SEQUENCE, modifiers) }
}

/// PS3.3 F.5.33.
fn document_keys(root: &Item<'_>, keys: DataSet) -> DataSet {
    let copies =
        [tags::CONTENT_DATE, tags::CONTENT_TIME, tags::DOCUMENT_TITLE, tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT];
    copied(root, keys, &copies)
        .items(tags::CONCEPT_NAME_CODE_SEQUENCE, copied_code(root, tags::CONCEPT_NAME_CODE_SEQUENCE))
}

/// A record and those below it.
#[derive(Clone)]
struct Record {
    kind: &'static str,
    keys: DataSet,
    below: Vec<Record>,
}

/// Writes the directory of these files: patients, studies, series and objects in the order of their first file.
pub fn write_directory(entries: &[DirectoryEntry]) -> Result<Vec<u8>, ResultError> {
    let mut ids: Vec<&str> = entries.iter().map(|e| e.file_id.as_str()).collect();
    ids.sort_unstable();
    if let Some(twice) = ids.windows(2).find(|w| w[0] == w[1]) {
        return Err(ResultError::FileId { id: twice[0].into() });
    }
    if entries.is_empty() {
        return Err(ResultError::NoSource);
    }
    let patients = patients(entries);
    let mut parts: Vec<&[u8]> = vec![b"directory"];
    parts.extend(entries.iter().map(|e| e.sop_instance_uid().as_bytes()));
    let instance = derive_uid(&parts);
    let file =
        |set: &DataSet| part10::file(&set.to_bytes(), sop_class::DIRECTORY, &instance, syntax::EXPLICIT_LE, None);
    // No length depends on an offset, so the records are laid out once without and once with them.
    let mut records = Vec::new();
    flatten(&patients, &mut records);
    let sequence_header = 12;
    let start = file(&head(0, 0)).len() + sequence_header;
    let item_header = 8;
    let mut at = Vec::new();
    let mut end = start;
    for record in &records {
        at.push(end);
        end += item_header + with_offsets(record, 0, 0).to_bytes().len();
    }
    let offset =
        |index: Option<usize>| index.map_or(Ok(0), |index| u32::try_from(at[index]).map_err(|_| ResultError::TooLarge));
    let mut items = Vec::new();
    for record in &records {
        items.push(with_offsets(record, offset(record.next)?, offset(record.first_below)?));
    }
    let roots: Vec<usize> = (0..records.len()).filter(|i| records[*i].kind == "PATIENT").collect();
    let ends = (offset(roots.first().copied())?, offset(roots.last().copied())?);
    Ok(file(&head(ends.0, ends.1).items(tags::DIRECTORY_RECORD_SEQUENCE, items)))
}

fn head(first: u32, last: u32) -> DataSet {
    DataSet::default()
        .text(tags::FILE_SET_ID, FILE_SET_ID)
        .longs(tags::OFFSET_OF_THE_FIRST_DIRECTORY_RECORD_OF_THE_ROOT_DIRECTORY_ENTITY, &[first])
        .longs(tags::OFFSET_OF_THE_LAST_DIRECTORY_RECORD_OF_THE_ROOT_DIRECTORY_ENTITY, &[last])
        .shorts(tags::FILE_SET_CONSISTENCY_FLAG, &[0])
}

/// A record on its place in the file.
struct Placed<'a> {
    kind: &'static str,
    keys: &'a DataSet,
    /// Index of the next record of the same parent.
    next: Option<usize>,
    first_below: Option<usize>,
}

/// Depth first: each record is followed by those below it.
fn flatten<'a>(level: &'a [Record], into: &mut Vec<Placed<'a>>) {
    let mut before: Option<usize> = None;
    for record in level {
        let index = into.len();
        if let Some(before) = before.replace(index) {
            into[before].next = Some(index);
        }
        into.push(Placed { kind: record.kind, keys: &record.keys, next: None, first_below: None });
        if !record.below.is_empty() {
            into[index].first_below = Some(index + 1);
            flatten(&record.below, into);
        }
    }
}

fn with_offsets(record: &Placed<'_>, next: u32, below: u32) -> DataSet {
    record
        .keys
        .clone()
        .longs(tags::OFFSET_OF_THE_NEXT_DIRECTORY_RECORD, &[next])
        .shorts(tags::RECORD_IN_USE_FLAG, &[0xFFFF])
        .longs(tags::OFFSET_OF_REFERENCED_LOWER_LEVEL_DIRECTORY_ENTITY, &[below])
        .text(tags::DIRECTORY_RECORD_TYPE, record.kind)
        .text(tags::SPECIFIC_CHARACTER_SET, "ISO_IR 192")
}

/// Entries grouped by a key, in the order in which the keys come first.
fn grouped<'a>(entries: &[&'a DirectoryEntry], key: impl Fn(&Header) -> Vec<String>) -> Vec<Vec<&'a DirectoryEntry>> {
    let mut place: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    let mut groups: Vec<Vec<&DirectoryEntry>> = Vec::new();
    for entry in entries {
        let group = *place.entry(key(&entry.header)).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[group].push(entry);
    }
    groups
}

fn patients(entries: &[DirectoryEntry]) -> Vec<Record> {
    let all: Vec<&DirectoryEntry> = entries.iter().collect();
    let key = |h: &Header| vec![h.patient.id.as_str().into(), h.patient.issuer.as_str().into()];
    grouped(&all, key)
        .into_iter()
        .map(|group| {
            let patient = &group[0].header.patient;
            let keys = DataSet::default()
                .text(tags::PATIENT_NAME, patient.name.as_str())
                // Type 1: a patient without an ID still needs one here.
                .text(tags::PATIENT_ID, or(patient.id.as_str(), "UNKNOWN"));
            Record { kind: "PATIENT", keys, below: studies(&group) }
        })
        .collect()
}

/// The value, or what dcmmkdir invents too where the directory requires one that the objects lack.
fn or<'a>(value: &'a str, otherwise: &'a str) -> &'a str {
    if value.is_empty() { otherwise } else { value }
}

fn studies(entries: &[&DirectoryEntry]) -> Vec<Record> {
    grouped(entries, |h| vec![h.study_instance_uid.as_str().into()])
        .into_iter()
        .map(|group| {
            let h = &group[0].header;
            let keys = DataSet::default()
                .text(tags::STUDY_DATE, or(&h.study_date, "19000101"))
                .text(tags::STUDY_TIME, or(&h.study_time, "000000"))
                .text(tags::STUDY_DESCRIPTION, h.study_description.as_str())
                .text(tags::STUDY_INSTANCE_UID, h.study_instance_uid.as_str())
                .text(tags::STUDY_ID, or(h.study_id.as_str(), "1"))
                .text(tags::ACCESSION_NUMBER, h.accession_number.as_str());
            Record { kind: "STUDY", keys, below: series(&group) }
        })
        .collect()
}

fn series(entries: &[&DirectoryEntry]) -> Vec<Record> {
    grouped(entries, |h| vec![h.series_instance_uid.as_str().into()])
        .into_iter()
        .map(|group| {
            let h = &group[0].header;
            let keys = DataSet::default()
                .text(tags::MODALITY, or(&h.modality, "OT"))
                .text(tags::SERIES_INSTANCE_UID, h.series_instance_uid.as_str())
                .text(tags::SERIES_NUMBER, &h.series_number.unwrap_or(1).to_string())
                .text(tags::SERIES_DESCRIPTION, &group[0].series_description);
            Record { kind: "SERIES", keys, below: group.into_iter().map(object).collect() }
        })
        .collect()
}

fn object(entry: &DirectoryEntry) -> Record {
    let h = &entry.header;
    let keys = entry
        .keys
        .clone()
        .text(tags::REFERENCED_FILE_ID, &entry.file_id.replace('/', "\\"))
        .text(tags::REFERENCED_SOP_CLASS_UID_IN_FILE, &h.sop_class_uid)
        .text(tags::REFERENCED_SOP_INSTANCE_UID_IN_FILE, h.sop_instance_uid.as_str())
        .text(tags::REFERENCED_TRANSFER_SYNTAX_UID_IN_FILE, &short(&h.transfer_syntax));
    Record { kind: entry.record_type, keys, below: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_ids_of_other_than_capital_letters_and_digits_are_refused() {
        let set = DataSet::default().text(tags::MODALITY, "CT").to_bytes();
        let object = part10::file(&set, sop_class::CT, "1.2.3", syntax::EXPLICIT_LE, None);
        for id in ["", "ct1", "A.DCM", "LONGER_THAN", "A//B", "/A", "A/B/C/D/E/F/G/H/I", "../A"] {
            assert!(matches!(DirectoryEntry::new(id, &object), Err(ResultError::FileId { .. })), "{id}");
        }
        let entry = DirectoryEntry::new("S000001/CT000001", &object).unwrap();
        assert_eq!(entry.sop_instance_uid(), "1.2.3");
        let twice = write_directory(&[entry.clone(), entry]).unwrap_err();
        assert_eq!(twice, ResultError::FileId { id: "S000001/CT000001".into() });
        assert_eq!(write_directory(&[]).unwrap_err(), ResultError::NoSource);
    }
}
