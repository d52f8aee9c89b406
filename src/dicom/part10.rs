//! File meta groups (PS3.10) that this box writes, and what it says about itself on associations.

use super::AeTitle;
use dicom_ul::pdu::UserVariableItem;

/// Implementation Class UID of metwatch, `derive_uid(&[b"metwatch implementation class"])`.
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.259527653397082070833310673172240764311";
/// Implementation Version Name, at most 16 characters.
pub const IMPLEMENTATION_VERSION: &str =
    concat!("METWATCH_", env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"));

/// A Part 10 file of a data set, whose bytes stay as they are: preamble, `DICM`, file meta group, data set.
pub fn file(
    data_set: &[u8],
    sop_class: &str,
    sop_instance: &str,
    transfer_syntax: &str,
    source: Option<&AeTitle>,
) -> Vec<u8> {
    let mut meta = Vec::new();
    meta.extend([0x02, 0, 0x01, 0]);
    meta.extend(b"OB\0\0\x02\0\0\0\0\x01");
    element(&mut meta, 0x02, b"UI", sop_class, 0);
    element(&mut meta, 0x03, b"UI", sop_instance, 0);
    element(&mut meta, 0x10, b"UI", transfer_syntax, 0);
    element(&mut meta, 0x12, b"UI", IMPLEMENTATION_CLASS_UID, 0);
    element(&mut meta, 0x13, b"SH", IMPLEMENTATION_VERSION, b' ');
    if let Some(source) = source {
        element(&mut meta, 0x16, b"AE", source.as_str(), b' ');
    }
    let mut out = Vec::with_capacity(128 + 4 + 12 + meta.len() + data_set.len());
    out.resize(128, 0);
    out.extend(b"DICM");
    out.extend([0x02, 0, 0, 0, b'U', b'L', 4, 0]);
    out.extend((meta.len() as u32).to_le_bytes());
    out.extend(meta);
    out.extend_from_slice(data_set);
    out
}

fn element(out: &mut Vec<u8>, number: u16, vr: &[u8; 2], value: &str, pad: u8) {
    let mut value = value.as_bytes().to_vec();
    if value.len() % 2 == 1 {
        value.push(pad);
    }
    out.extend([0x02, 0]);
    out.extend(number.to_le_bytes());
    out.extend(vr);
    out.extend((value.len() as u16).to_le_bytes());
    out.extend(value);
}

/// Maximum PDU length, implementation class and version, for A-ASSOCIATE.
pub fn our_user_variables(pdu_max: u32) -> Vec<UserVariableItem> {
    vec![
        UserVariableItem::MaxLength(pdu_max),
        UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS_UID.into()),
        UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION.into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::{derive_uid, parse_header, sop_class, syntax};

    #[test]
    fn our_files_are_read_again() {
        assert_eq!(IMPLEMENTATION_CLASS_UID, derive_uid(&[b"metwatch implementation class"]));
        let data_set = b"\x08\0\x60\0CS\x02\0CT";
        let bytes = file(data_set, sop_class::CT, "1.2.3", syntax::EXPLICIT_LE, Some(&AeTitle::new("CT1").unwrap()));
        let header = parse_header(&bytes).unwrap();
        assert_eq!((header.modality.as_str(), header.sop_instance_uid.as_str()), ("CT", "1.2.3"));
        assert!(bytes.ends_with(data_set));
    }
}
