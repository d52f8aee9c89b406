//! The items of sequences. Structure sets and segmentations keep what matters below the top level of the data set, where the
//! walk only checks lengths.

use super::walker::{Encoding, NESTING_MAX, walk};
use super::{DicomError, syntax};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use dicom_encoding::decode::Decode;
use dicom_encoding::decode::explicit_be::ExplicitVRBigEndianDecoder;
use dicom_encoding::decode::explicit_le::ExplicitVRLittleEndianDecoder;
use dicom_encoding::decode::implicit_le::StandardImplicitVRLittleEndianDecoder;
use dicom_encoding::text::{SpecificCharacterSet, TextCodec};

const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);

/// A data set, or an item of a sequence in it.
pub struct Item<'a> {
    elements: Vec<(Tag, Value<'a>)>,
    big_endian: bool,
}

enum Value<'a> {
    Bytes(&'a [u8]),
    Items(Vec<Item<'a>>),
}

/// Walks a data set and reads its elements and sequences up to the pixels.
pub fn read_items<'a>(data_set: &'a [u8], transfer_syntax: &str) -> Result<Item<'a>, DicomError> {
    let explicit = transfer_syntax != syntax::IMPLICIT_LE;
    let big_endian = transfer_syntax == syntax::EXPLICIT_BE;
    walk(data_set, Encoding { explicit, big_endian })?;
    Cursor { bytes: data_set, at: 0, big_endian }.item(explicit, Some(data_set.len()), 0)
}

impl<'a> Item<'a> {
    fn find(&self, tag: Tag) -> Option<&Value<'a>> {
        self.elements.iter().find(|(own, _)| *own == tag).map(|(_, value)| value)
    }

    fn bytes(&self, tag: Tag) -> &'a [u8] {
        match self.find(tag) {
            Some(Value::Bytes(bytes)) => bytes,
            _ => &[],
        }
    }

    /// The items of a sequence; none when it is absent.
    pub fn items(&self, tag: Tag) -> &[Item<'a>] {
        match self.find(tag) {
            Some(Value::Items(items)) => items,
            _ => &[],
        }
    }

    /// Text in the default character set without padding; empty when absent.
    pub fn text(&self, tag: Tag) -> String {
        trimmed(&String::from_utf8_lossy(self.bytes(tag)))
    }

    /// Text that people wrote, in the character set of the object.
    pub fn text_in(&self, tag: Tag, charset: &SpecificCharacterSet) -> String {
        charset.decode(self.bytes(tag)).map_or_else(|_| self.text(tag), |text| trimmed(&text))
    }

    /// Decimal strings. `None` when one of them is no finite number; empty when absent.
    pub fn numbers(&self, tag: Tag) -> Option<Vec<f64>> {
        let text = self.text(tag);
        let parse = |value: &str| value.trim().parse().ok().filter(|v: &f64| v.is_finite());
        if text.is_empty() { Some(Vec::new()) } else { text.split('\\').map(parse).collect() }
    }

    /// A fixed number of decimal strings.
    pub fn numbers_n<const N: usize>(&self, tag: Tag) -> Option<[f64; N]> {
        self.numbers(tag)?.try_into().ok()
    }

    /// A 16-bit number.
    pub fn u16(&self, tag: Tag) -> Option<u16> {
        let raw = self.bytes(tag).get(..2)?.try_into().ok()?;
        Some(if self.big_endian { u16::from_be_bytes(raw) } else { u16::from_le_bytes(raw) })
    }

    /// A 32-bit number.
    pub fn u32(&self, tag: Tag) -> Option<u32> {
        let raw = self.bytes(tag).get(..4)?.try_into().ok()?;
        Some(if self.big_endian { u32::from_be_bytes(raw) } else { u32::from_le_bytes(raw) })
    }

    /// The character set that a data set names; of several the last one, as in the header's reader.
    pub fn charset(&self) -> SpecificCharacterSet {
        let named = self.text(tags::SPECIFIC_CHARACTER_SET);
        let code = named.split('\\').map(str::trim).rfind(|c| !c.is_empty());
        code.map_or_else(SpecificCharacterSet::default, |code| {
            SpecificCharacterSet::from_code(code).unwrap_or(SpecificCharacterSet::ISO_IR_192)
        })
    }
}

fn trimmed(text: &str) -> String {
    text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned()
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

impl<'a> Cursor<'a> {
    /// Elements up to `end` or, where the length is undefined, the item's delimiter. `depth` 0 is the data set itself.
    fn item(&mut self, explicit: bool, end: Option<usize>, depth: usize) -> Result<Item<'a>, DicomError> {
        // The walk has counted the levels; this only keeps the recursion within them should the two ever disagree.
        if depth > NESTING_MAX {
            return Err(DicomError::Nesting { limit: NESTING_MAX });
        }
        let mut elements = Vec::new();
        while end.is_none_or(|end| self.at < end) {
            let (tag, vr, length) = self.header(explicit)?;
            let value = match (tag, vr, length) {
                (ITEM_END, ..) => break,
                (tags::PIXEL_DATA, ..) if depth == 0 => break,
                // An icon's fragments look like items, but hold no elements.
                (tags::PIXEL_DATA, _, None) => Value::Bytes(self.fragments()?),
                (_, VR::SQ, length) => Value::Items(self.items(explicit, length, depth)?),
                // CP-246: without a VR, what has no length is a sequence in implicit VR.
                (_, _, None) => Value::Items(self.items(false, None, depth)?),
                (_, _, Some(length)) => Value::Bytes(self.take(length)?),
            };
            elements.push((tag, value));
        }
        Ok(Item { elements, big_endian: self.big_endian })
    }

    fn items(&mut self, explicit: bool, length: Option<usize>, depth: usize) -> Result<Vec<Item<'a>>, DicomError> {
        let end = length.map(|length| self.at + length);
        let mut items = Vec::new();
        while end.is_none_or(|end| self.at < end) {
            let at = self.at;
            match self.header(explicit)? {
                (ITEM, _, length) => items.push(self.item(explicit, length.map(|l| self.at + l), depth + 1)?),
                (SEQUENCE_END, ..) => break,
                _ => return Err(DicomError::Malformed { at, what: "neither an item nor the end of its sequence" }),
            }
        }
        Ok(items)
    }

    /// Steps over the fragments of encapsulated pixels.
    fn fragments(&mut self) -> Result<&'a [u8], DicomError> {
        while let (ITEM, _, Some(length)) = self.header(true)? {
            self.take(length)?;
        }
        Ok(&[])
    }

    /// Tag, VR and length (`None`: undefined) of the next element or item.
    fn header(&mut self, explicit: bool) -> Result<(Tag, VR, Option<usize>), DicomError> {
        let mut source = self.bytes.get(self.at..).unwrap_or_default();
        let header = match (explicit, self.big_endian) {
            (true, false) => ExplicitVRLittleEndianDecoder::default().decode_header(&mut source),
            (true, true) => ExplicitVRBigEndianDecoder::default().decode_header(&mut source),
            (false, _) => StandardImplicitVRLittleEndianDecoder::default().decode_header(&mut source),
        };
        let (header, read) = header.map_err(|_| self.truncated(8))?;
        self.at += read;
        Ok((header.tag, header.vr(), header.len.get().map(|length| length as usize)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DicomError> {
        let value = self.bytes.get(self.at..self.at + length).ok_or_else(|| self.truncated(length))?;
        self.at += length;
        Ok(value)
    }

    fn truncated(&self, claimed: usize) -> DicomError {
        DicomError::Truncated { at: self.at, claimed: claimed as u64, left: self.bytes.len().saturating_sub(self.at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sequences of undefined length, in each encoding: ROI 7 in an item of Structure Set ROI Sequence.
    #[test]
    fn nested_items_are_read_in_every_encoding() {
        let implicit = b"\x06\x30\x20\x00\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF\
            \x06\x30\x22\x00\x02\0\0\x007 \xFE\xFF\x0D\xE0\0\0\0\0\xFE\xFF\xDD\xE0\0\0\0\0";
        let little = b"\x06\x30\x20\x00SQ\0\0\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF\
            \x06\x30\x22\x00IS\x02\x007 \xFE\xFF\x0D\xE0\0\0\0\0\xFE\xFF\xDD\xE0\0\0\0\0";
        let big = b"\x30\x06\x00\x20SQ\0\0\0\0\0\x12\xFF\xFE\xE0\x00\0\0\0\x0A\x30\x06\x00\x22IS\0\x027 ";
        // CP-246: a sequence that lost its VR is in implicit VR.
        let unknown = b"\x06\x30\x20\x00UN\0\0\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\x0A\0\0\0\
            \x06\x30\x22\x00\x02\0\0\x007 \xFE\xFF\xDD\xE0\0\0\0\0";
        for (bytes, syntax) in [
            (&implicit[..], syntax::IMPLICIT_LE),
            (&little[..], syntax::EXPLICIT_LE),
            (&big[..], syntax::EXPLICIT_BE),
            (&unknown[..], syntax::EXPLICIT_LE),
        ] {
            let root = read_items(bytes, syntax).unwrap_or_else(|e| panic!("{syntax}: {e}"));
            let items = root.items(tags::STRUCTURE_SET_ROI_SEQUENCE);
            assert_eq!(items.len(), 1, "{syntax}");
            assert_eq!(items[0].text(tags::ROI_NUMBER), "7", "{syntax}");
            assert!(root.items(tags::ROI_CONTOUR_SEQUENCE).is_empty());
        }
    }
}
