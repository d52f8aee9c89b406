//! A data set to write: explicit VR little endian, UTF-8, sequences with defined lengths.

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;
use std::collections::BTreeMap;

/// Elements by tag; the VR comes from the dictionary.
#[derive(Debug, Clone, Default)]
pub struct DataSet(BTreeMap<Tag, Content>);

#[derive(Debug, Clone)]
enum Content {
    Value(VR, Vec<u8>),
    Items(Vec<DataSet>),
}

impl DataSet {
    /// Text of any kind; several values are joined by `\` beforehand.
    pub fn text(mut self, tag: Tag, value: &str) -> Self {
        let vr = StandardDataDictionary.by_tag(tag).map_or(VR::UN, |e| e.vr().relaxed());
        let mut bytes = value.as_bytes().to_vec();
        if bytes.len() % 2 == 1 {
            bytes.push(if vr == VR::UI { 0 } else { b' ' });
        }
        self.0.insert(tag, Content::Value(vr, bytes));
        self
    }

    /// Decimal strings.
    pub fn decimals(self, tag: Tag, values: &[f64]) -> Self {
        self.text(tag, &values.iter().map(|v| decimal(*v)).collect::<Vec<_>>().join("\\"))
    }

    /// 16-bit numbers (US, SS or AT as the dictionary says).
    pub fn shorts(mut self, tag: Tag, values: &[u16]) -> Self {
        let vr = StandardDataDictionary.by_tag(tag).map_or(VR::US, |e| e.vr().relaxed());
        self.0.insert(tag, Content::Value(vr, values.iter().flat_map(|v| v.to_le_bytes()).collect()));
        self
    }

    /// Unsigned 32-bit numbers.
    pub fn longs(mut self, tag: Tag, values: &[u32]) -> Self {
        self.0.insert(tag, Content::Value(VR::UL, values.iter().flat_map(|v| v.to_le_bytes()).collect()));
        self
    }

    /// Attribute tags.
    pub fn tags(self, tag: Tag, values: &[Tag]) -> Self {
        let flat: Vec<u16> = values.iter().flat_map(|t| [t.group(), t.element()]).collect();
        self.shorts(tag, &flat)
    }

    /// Bytes under a VR, padded to even length.
    pub fn bytes(mut self, tag: Tag, vr: VR, mut value: Vec<u8>) -> Self {
        if value.len() % 2 == 1 {
            value.push(0);
        }
        self.0.insert(tag, Content::Value(vr, value));
        self
    }

    /// A sequence.
    pub fn items(mut self, tag: Tag, items: Vec<DataSet>) -> Self {
        self.0.insert(tag, Content::Items(items));
        self
    }

    /// A sequence of one item.
    pub fn item(self, tag: Tag, item: DataSet) -> Self {
        self.items(tag, vec![item])
    }

    /// The encoded data set.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        for (tag, content) in &self.0 {
            out.extend(tag.group().to_le_bytes());
            out.extend(tag.element().to_le_bytes());
            match content {
                Content::Value(vr, value) => {
                    out.extend(vr.to_bytes());
                    write_length(out, *vr, value.len());
                    out.extend_from_slice(value);
                }
                Content::Items(items) => {
                    let mut body = Vec::new();
                    for item in items {
                        let mut inside = Vec::new();
                        item.write(&mut inside);
                        body.extend([0xFE, 0xFF, 0x00, 0xE0]);
                        body.extend((inside.len() as u32).to_le_bytes());
                        body.extend(inside);
                    }
                    out.extend(VR::SQ.to_bytes());
                    write_length(out, VR::SQ, body.len());
                    out.extend(body);
                }
            }
        }
    }
}

/// Short VRs have 16-bit lengths; what this box writes under them is far below 64 KiB.
fn write_length(out: &mut Vec<u8>, vr: VR, length: usize) {
    match vr {
        VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::SQ | VR::UC | VR::UN | VR::UR | VR::UT => {
            out.extend([0, 0]);
            out.extend((length as u32).to_le_bytes());
        }
        _ => out.extend((length.min(0xFFFE) as u16).to_le_bytes()),
    }
}

/// A number in at most 16 characters (VR DS), as exact as they allow.
pub fn decimal(value: f64) -> String {
    let value = if value == 0.0 { 0.0 } else { value };
    let shortest = format!("{value}");
    if shortest.len() <= 16 {
        return shortest;
    }
    let fits = |text: &String| text.len() <= 16;
    let plain = (0..15).rev().map(|digits| format!("{value:.digits$}")).find(fits);
    let plain = plain.filter(|_| value.abs() >= 1e-4);
    plain.or_else(|| (0..15).rev().map(|digits| format!("{value:.digits$e}")).find(fits)).unwrap_or_else(|| "0".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::walker::{Encoding, walk};
    use dicom_dictionary_std::tags;

    #[test]
    fn decimals_fit_sixteen_characters() {
        for (value, text) in [
            (0.796875, "0.796875"),
            (-0.0, "0"),
            (1.0 / 3.0, "0.33333333333333"),
            (-1.0 / 3.0, "-0.3333333333333"),
            (1e-9 / 3.0, "3.3333333333e-10"),
        ] {
            assert_eq!(decimal(value), text);
            assert!(decimal(value).len() <= 16);
        }
    }

    #[test]
    fn what_is_written_walks() {
        let code = DataSet::default().text(tags::CODE_VALUE, "10200004");
        let bytes = DataSet::default()
            .text(tags::MODALITY, "SEG")
            .item(tags::ANATOMIC_REGION_SEQUENCE, code)
            .shorts(tags::ROWS, &[3])
            .to_bytes();
        let walk = walk(&bytes, Encoding { explicit: true, big_endian: false }).unwrap();
        assert_eq!(
            walk.elements.iter().map(|e| e.tag).collect::<Vec<_>>(),
            [tags::MODALITY, tags::ANATOMIC_REGION_SEQUENCE, tags::ROWS]
        );
    }
}
