//! Storage commitment, Push Model (PS3.4 annex J): what is asked for and what is answered, as data sets.

use super::data_set::DataSet;
use super::identifier::is_uid;
use super::items::{Item, read_items};
use super::{Identifier, implicit, syntax};
use dicom_core::Tag;
use dicom_dictionary_std::tags;

/// Most instances of one request.
pub const INSTANCES_MAX: usize = 20_000;
/// Longest data set of a request or a report.
pub const DATA_SET_BYTES_MAX: usize = 4 << 20;

/// An object that a commitment speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// SOP class.
    pub sop_class_uid: String,
    /// SOP instance.
    pub sop_instance_uid: Identifier,
}

/// A request to keep objects safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRequest {
    /// Names this request in its report.
    pub transaction_uid: String,
    /// The objects.
    pub objects: Vec<Reference>,
}

/// Which objects of a request are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitReport {
    /// The request's.
    pub transaction_uid: String,
    /// Kept.
    pub committed: Vec<Reference>,
    /// Not kept, each with its Failure Reason (0008,1197), such as 0x0112: no such object.
    pub failed: Vec<(Reference, u16)>,
}

impl CommitRequest {
    /// Reads the data set of an N-ACTION; `None` when it is damaged or too long.
    pub fn parse(data_set: &[u8], transfer_syntax: &str) -> Option<Self> {
        let root = read_items(data_set, transfer_syntax).ok()?;
        let objects = references(&root, tags::REFERENCED_SOP_SEQUENCE)?;
        let transaction_uid = transaction(&root)?;
        (!objects.is_empty()).then_some(Self { transaction_uid, objects })
    }

    /// The data set in a transfer syntax: implicit or explicit VR little endian.
    pub fn to_bytes(&self, transfer_syntax: &str) -> Vec<u8> {
        let items = self.objects.iter().map(item).collect();
        let data_set = DataSet::default()
            .text(tags::TRANSACTION_UID, &self.transaction_uid)
            .items(tags::REFERENCED_SOP_SEQUENCE, items);
        encode(&data_set, transfer_syntax)
    }
}

impl CommitReport {
    /// Reads the data set of an N-EVENT-REPORT; `None` when it is damaged or too long.
    pub fn parse(data_set: &[u8], transfer_syntax: &str) -> Option<Self> {
        let root = read_items(data_set, transfer_syntax).ok()?;
        let committed = references(&root, tags::REFERENCED_SOP_SEQUENCE)?;
        let failed = references(&root, tags::FAILED_SOP_SEQUENCE)?;
        let reasons = root.items(tags::FAILED_SOP_SEQUENCE).iter();
        let reasons =
            reasons.map(|item| item.u16(tags::FAILURE_REASON).unwrap_or(super::dimse::status::PROCESSING_FAILURE));
        Some(Self {
            transaction_uid: transaction(&root)?,
            committed,
            failed: failed.into_iter().zip(reasons).collect(),
        })
    }

    /// The data set in a transfer syntax: implicit or explicit VR little endian.
    pub fn to_bytes(&self, transfer_syntax: &str) -> Vec<u8> {
        let mut data_set = DataSet::default().text(tags::TRANSACTION_UID, &self.transaction_uid);
        if !self.committed.is_empty() {
            data_set = data_set.items(tags::REFERENCED_SOP_SEQUENCE, self.committed.iter().map(item).collect());
        }
        if !self.failed.is_empty() {
            let failed =
                self.failed.iter().map(|(object, reason)| item(object).shorts(tags::FAILURE_REASON, &[*reason]));
            data_set = data_set.items(tags::FAILED_SOP_SEQUENCE, failed.collect());
        }
        encode(&data_set, transfer_syntax)
    }

    /// Event Type ID: 1 when everything is kept, else 2.
    pub fn event_type(&self) -> u16 {
        if self.failed.is_empty() { 1 } else { 2 }
    }
}

fn item(object: &Reference) -> DataSet {
    DataSet::default()
        .text(tags::REFERENCED_SOP_CLASS_UID, &object.sop_class_uid)
        .text(tags::REFERENCED_SOP_INSTANCE_UID, object.sop_instance_uid.as_str())
}

fn encode(data_set: &DataSet, transfer_syntax: &str) -> Vec<u8> {
    let explicit = data_set.to_bytes();
    match transfer_syntax {
        syntax::IMPLICIT_LE => implicit::from_explicit(&explicit).unwrap_or_default(),
        _ => explicit,
    }
}

fn transaction(root: &Item<'_>) -> Option<String> {
    Some(root.text(tags::TRANSACTION_UID)).filter(|uid| is_uid(uid))
}

fn references(root: &Item<'_>, sequence: Tag) -> Option<Vec<Reference>> {
    let items = root.items(sequence);
    let reference = |item: &Item<'_>| {
        let [class, instance] =
            [tags::REFERENCED_SOP_CLASS_UID, tags::REFERENCED_SOP_INSTANCE_UID].map(|t| item.text(t));
        let good = is_uid(&class) && is_uid(&instance);
        good.then(|| Reference { sop_class_uid: class, sop_instance_uid: Identifier::new(instance) })
    };
    if items.len() > INSTANCES_MAX { None } else { items.iter().map(reference).collect() }
}

/// What a Failure Reason means (PS3.3 C.14.1.1), for people.
pub fn failure_meaning(reason: u16) -> &'static str {
    match reason {
        0x0110 => "processing failure",
        0x0112 => "it has no such object",
        0x0119 => "it has the object under another SOP class",
        0x0122 => "it does not support the SOP class",
        0x0131 => "the transaction was used before",
        0x0213 => "it has no room",
        _ => "an unknown reason",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(n: usize) -> Reference {
        Reference {
            sop_class_uid: super::super::sop_class::CT.into(),
            sop_instance_uid: Identifier::new(format!("1.2.{n}")),
        }
    }

    #[test]
    fn requests_and_reports_are_read_again_in_both_syntaxes() {
        let request = CommitRequest { transaction_uid: "1.2.3".into(), objects: (0..3).map(reference).collect() };
        let report = CommitReport {
            transaction_uid: "1.2.3".into(),
            committed: vec![reference(0)],
            failed: vec![(reference(1), 0x0112), (reference(2), 0x0119)],
        };
        for syntax in [syntax::IMPLICIT_LE, syntax::EXPLICIT_LE] {
            assert_eq!(CommitRequest::parse(&request.to_bytes(syntax), syntax), Some(request.clone()), "{syntax}");
            assert_eq!(CommitReport::parse(&report.to_bytes(syntax), syntax), Some(report.clone()), "{syntax}");
        }
        assert_eq!((report.event_type(), CommitReport { failed: vec![], ..report }.event_type()), (2, 1));
    }

    #[test]
    fn requests_without_transaction_or_objects_or_with_paths_are_refused() {
        let good = CommitRequest { transaction_uid: "1.2.3".into(), objects: vec![reference(0)] };
        let read =
            |request: CommitRequest| CommitRequest::parse(&request.to_bytes(syntax::EXPLICIT_LE), syntax::EXPLICIT_LE);
        assert!(read(good.clone()).is_some());
        assert!(read(CommitRequest { transaction_uid: "../x".into(), ..good.clone() }).is_none());
        assert!(read(CommitRequest { objects: vec![], ..good.clone() }).is_none());
        let path = Reference { sop_instance_uid: Identifier::new("../../etc"), ..reference(0) };
        assert!(read(CommitRequest { objects: vec![path], ..good }).is_none());
    }
}
