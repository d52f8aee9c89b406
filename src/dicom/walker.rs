//! A shallow walk over a data set that believes no length before it fits (dicom.md section 2).
//!
//! dicom-object allocates what a length field claims: 1.5 KB of file can take 3.9 GB. Here nothing is allocated but the index of
//! the top-level elements, so the header is read from that index and the full parser never sees bytes that were not walked.

use super::DicomError;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use std::ops::Range;

/// Largest object, packed or unpacked: 512 MiB.
pub const OBJECT_BYTES_MAX: usize = 512 << 20;
/// Largest header (everything in front of the pixels): 64 MiB.
pub const HEADER_BYTES_MAX: usize = 64 << 20;
/// Deepest sequence in a sequence.
pub const NESTING_MAX: usize = 16;
/// Most elements, items and fragments of an object.
pub const ELEMENTS_MAX: usize = 200_000;
/// Pixels may unpack to this many times the object's size.
pub const EXPANSION_MAX: u64 = 200;

const UNDEFINED: u32 = 0xFFFF_FFFF;
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);

/// How element headers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// Elements carry their VR.
    pub explicit: bool,
    /// Numbers are big endian (retired syntax).
    pub big_endian: bool,
}

/// A top-level element: its tag, its VR (from the dictionary where the encoding has none) and where its value lies.
#[derive(Debug, Clone, PartialEq)]
pub struct Element {
    /// Group and element number.
    pub tag: Tag,
    /// Value representation.
    pub vr: VR,
    /// Byte range of the value in the data set; for sequences, the items.
    pub value: Range<usize>,
}

/// Where the pixels lie in the data set.
#[derive(Debug, Clone, PartialEq)]
pub enum PixelSpan {
    /// One run of native pixels.
    Native(Range<usize>),
    /// Fragments of encapsulated frames; the first item, the offset table, is not among them.
    Fragments(Vec<Range<usize>>),
}

/// What the walk found.
#[derive(Debug, Clone, PartialEq)]
pub struct Walk {
    /// Top-level elements in front of the pixels, in file order.
    pub elements: Vec<Element>,
    /// The pixels, if the object has them. Whatever follows them is neither read nor checked.
    pub pixels: Option<PixelSpan>,
}

impl Walk {
    /// The first top-level element with this tag.
    pub fn find(&self, tag: Tag) -> Option<&Element> {
        self.elements.iter().find(|e| e.tag == tag)
    }
}

/// Walks a data set (no preamble, no file meta group) and checks every limit of this module.
pub fn walk(bytes: &[u8], encoding: Encoding) -> Result<Walk, DicomError> {
    walk_from(bytes, bytes.len(), encoding)
}

/// Walks a data set of `length` bytes of which only the beginning is here, up to its pixels; of their fragments only the first is
/// listed, as far as it is here. An error may only mean that more bytes are needed.
pub fn walk_beginning(bytes: &[u8], length: usize, encoding: Encoding) -> Result<Walk, DicomError> {
    walk_from(bytes, length.max(bytes.len()), encoding)
}

fn walk_from(bytes: &[u8], length: usize, encoding: Encoding) -> Result<Walk, DicomError> {
    if length > OBJECT_BYTES_MAX {
        return Err(DicomError::TooLarge { limit_mb: OBJECT_BYTES_MAX >> 20 });
    }
    let mut walker =
        Walker { bytes, length, position: 0, big_endian: encoding.big_endian, count: 0, levels: Vec::new() };
    let walk = walker.run(encoding.explicit)?;
    check_expansion(bytes, length, encoding, &walk)?;
    Ok(walk)
}

/// A sequence or an item that is open while walking.
struct Level {
    is_sequence: bool,
    explicit: bool,
    /// Where it ends, if its length is defined.
    end: Option<usize>,
    /// Nothing inside may pass this offset.
    limit: usize,
}

struct Walker<'a> {
    bytes: &'a [u8],
    /// Bytes of the whole data set; `bytes` may be only its beginning.
    length: usize,
    position: usize,
    big_endian: bool,
    count: usize,
    levels: Vec<Level>,
}

impl Walker<'_> {
    fn run(&mut self, explicit: bool) -> Result<Walk, DicomError> {
        let mut walk = Walk { elements: Vec::new(), pixels: None };
        loop {
            while self.levels.last().is_some_and(|l| l.end == Some(self.position)) {
                self.close(&mut walk);
            }
            let (in_sequence, explicit) = self.levels.last().map_or((false, explicit), |l| (l.is_sequence, l.explicit));
            if self.levels.is_empty() && self.position == self.length {
                return Ok(walk);
            }
            self.count += 1;
            if self.count > ELEMENTS_MAX {
                return Err(DicomError::TooManyElements { limit: ELEMENTS_MAX });
            }
            if self.position > HEADER_BYTES_MAX {
                return Err(DicomError::TooLarge { limit_mb: HEADER_BYTES_MAX >> 20 });
            }
            if in_sequence {
                self.item(&mut walk, explicit)?;
            } else if let Some(pixels) = self.element(&mut walk, explicit)? {
                walk.pixels = Some(pixels);
                return Ok(walk);
            }
        }
    }

    /// The next thing in a sequence: an item or the end of it.
    fn item(&mut self, walk: &mut Walk, explicit: bool) -> Result<(), DicomError> {
        let at = self.position;
        let tag = self.tag()?;
        let length = self.u32()?;
        match tag {
            ITEM => {
                let limit = self.limit();
                let end = if length == UNDEFINED { None } else { Some(self.end_of(at, length)?) };
                self.levels.push(Level { is_sequence: false, explicit, end, limit: end.unwrap_or(limit) });
            }
            SEQUENCE_END if self.levels.last().is_some_and(|l| l.end.is_none()) => self.close(walk),
            _ => return Err(DicomError::Malformed { at, what: "neither an item nor the end of its sequence" }),
        }
        Ok(())
    }

    /// The next element of the data set or of an item; returns the top-level pixels.
    fn element(&mut self, walk: &mut Walk, explicit: bool) -> Result<Option<PixelSpan>, DicomError> {
        let at = self.position;
        let tag = self.tag()?;
        if tag == ITEM_END && self.levels.last().is_some_and(|l| l.end.is_none()) {
            self.u32()?;
            self.close(walk);
            return Ok(None);
        }
        if tag.group() == 0xFFFE {
            return Err(DicomError::Malformed { at, what: "a delimiter where an element should be" });
        }
        let (vr, length) = if explicit { self.explicit_header()? } else { (dictionary_vr(tag), self.u32()?) };
        let top = self.levels.is_empty();
        if length == UNDEFINED {
            if tag == tags::PIXEL_DATA {
                let fragments = self.fragments()?;
                return Ok(top.then_some(PixelSpan::Fragments(fragments)));
            }
            match vr {
                VR::SQ => self.open_sequence(explicit, None)?,
                // CP-246: a sequence whose VR got lost is in implicit VR. Private sequences look the same without a VR.
                VR::UN => self.open_sequence(false, None)?,
                _ if !explicit => self.open_sequence(false, None)?,
                _ => return Err(DicomError::Malformed { at, what: "an undefined length that its VR does not allow" }),
            }
            if top {
                walk.elements.push(Element { tag, vr: VR::SQ, value: self.position..self.position });
            }
            return Ok(None);
        }
        let start = self.position;
        let end = self.end_of(at, length)?;
        if top && tag == tags::PIXEL_DATA {
            return Ok(Some(PixelSpan::Native(start..end)));
        }
        if top {
            walk.elements.push(Element { tag, vr, value: start..end });
        }
        if vr == VR::SQ {
            self.open_sequence(explicit, Some(end))?;
        } else {
            self.position = end;
        }
        Ok(None)
    }

    /// VR and length of an explicit header, read as dicom-rs does: an unknown VR has the long form.
    fn explicit_header(&mut self) -> Result<(VR, u32), DicomError> {
        let [a, b] = self.take()?;
        let vr = VR::from_binary([a, b]).unwrap_or(VR::UN);
        let short = matches!(
            vr,
            VR::AE
                | VR::AS
                | VR::AT
                | VR::CS
                | VR::DA
                | VR::DS
                | VR::DT
                | VR::FL
                | VR::FD
                | VR::IS
                | VR::LO
                | VR::LT
                | VR::PN
                | VR::SH
                | VR::SL
                | VR::SS
                | VR::ST
                | VR::TM
                | VR::UI
                | VR::UL
                | VR::US
        );
        if short {
            return Ok((vr, u32::from(self.u16()?)));
        }
        self.take::<2>()?;
        Ok((vr, self.u32()?))
    }

    /// The fragments of encapsulated pixels behind the offset table.
    fn fragments(&mut self) -> Result<Vec<Range<usize>>, DicomError> {
        let mut fragments = Vec::new();
        loop {
            let at = self.position;
            let tag = self.tag()?;
            let length = self.u32()?;
            self.count += 1;
            if self.count > ELEMENTS_MAX {
                return Err(DicomError::TooManyElements { limit: ELEMENTS_MAX });
            }
            match tag {
                ITEM if length != UNDEFINED => {
                    let end = self.end_of(at, length)?;
                    fragments.push(self.position..end);
                    self.position = end;
                    if self.bytes.len() < self.length && fragments.len() == 2 {
                        let first = fragments[1].start..end.min(self.bytes.len());
                        return Ok(std::iter::once(first).collect());
                    }
                }
                SEQUENCE_END => {
                    if !fragments.is_empty() {
                        fragments.remove(0);
                    }
                    return Ok(fragments);
                }
                _ => return Err(DicomError::Malformed { at, what: "neither a fragment nor the end of the pixels" }),
            }
        }
    }

    fn open_sequence(&mut self, explicit: bool, end: Option<usize>) -> Result<(), DicomError> {
        if self.levels.iter().filter(|l| l.is_sequence).count() >= NESTING_MAX {
            return Err(DicomError::Nesting { limit: NESTING_MAX });
        }
        let limit = end.unwrap_or(self.limit());
        self.levels.push(Level { is_sequence: true, explicit, end, limit });
        Ok(())
    }

    /// Closes the innermost level; a top-level sequence of undefined length now knows its end.
    fn close(&mut self, walk: &mut Walk) {
        self.levels.pop();
        if self.levels.is_empty()
            && let Some(last) = walk.elements.last_mut()
        {
            last.value.end = self.position;
        }
    }

    fn limit(&self) -> usize {
        self.levels.last().map_or(self.length, |l| l.limit)
    }

    /// Where a value that begins here ends, if that lies within its level.
    fn end_of(&self, at: usize, length: u32) -> Result<usize, DicomError> {
        let left = self.limit() - self.position;
        if length as usize > left {
            return Err(DicomError::Truncated { at, claimed: u64::from(length), left });
        }
        Ok(self.position + length as usize)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], DicomError> {
        let left = self.limit() - self.position;
        let array = self.bytes.get(self.position..self.position + N).filter(|_| left >= N);
        let array = array.and_then(|b| b.try_into().ok());
        let array = array.ok_or(DicomError::Truncated { at: self.position, claimed: N as u64, left })?;
        self.position += N;
        Ok(array)
    }

    fn u16(&mut self) -> Result<u16, DicomError> {
        let raw = self.take()?;
        Ok(if self.big_endian { u16::from_be_bytes(raw) } else { u16::from_le_bytes(raw) })
    }

    fn u32(&mut self) -> Result<u32, DicomError> {
        let raw = self.take()?;
        Ok(if self.big_endian { u32::from_be_bytes(raw) } else { u32::from_le_bytes(raw) })
    }

    fn tag(&mut self) -> Result<Tag, DicomError> {
        Ok(Tag(self.u16()?, self.u16()?))
    }
}

fn dictionary_vr(tag: Tag) -> VR {
    StandardDataDictionary.by_tag(tag).map_or(VR::UN, |entry| entry.vr().relaxed())
}

/// Rows x Columns x samples x frames x bits must not be out of all proportion to the bytes that are there.
fn check_expansion(bytes: &[u8], length: usize, encoding: Encoding, walk: &Walk) -> Result<(), DicomError> {
    let number = |tag: Tag| {
        let raw: [u8; 2] = bytes.get(walk.find(tag)?.value.clone())?.get(..2)?.try_into().ok()?;
        Some(u64::from(if encoding.big_endian { u16::from_be_bytes(raw) } else { u16::from_le_bytes(raw) }))
    };
    let (Some(rows), Some(columns)) = (number(tags::ROWS), number(tags::COLUMNS)) else { return Ok(()) };
    if walk.pixels.is_none() {
        return Ok(());
    }
    let frames = walk.find(tags::NUMBER_OF_FRAMES).and_then(|e| bytes.get(e.value.clone()));
    let frames =
        frames.and_then(|b| std::str::from_utf8(b).ok()).and_then(|t| t.trim().parse::<u64>().ok()).unwrap_or(1);
    let bits = number(tags::BITS_ALLOCATED).unwrap_or(16).saturating_mul(number(tags::SAMPLES_PER_PIXEL).unwrap_or(1));
    let claimed = rows.saturating_mul(columns).saturating_mul(frames).saturating_mul(bits) / 8;
    if claimed > EXPANSION_MAX.saturating_mul(length as u64) {
        return Err(DicomError::Implausible { claimed, size: length });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPLICIT: Encoding = Encoding { explicit: true, big_endian: false };

    fn short(group: u16, element: u16, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
        let mut out = [group.to_le_bytes(), element.to_le_bytes()].concat();
        out.extend(vr);
        out.extend((value.len() as u16).to_le_bytes());
        out.extend(value);
        out
    }

    fn long(group: u16, element: u16, vr: &[u8; 2], length: u32) -> Vec<u8> {
        let mut out = [group.to_le_bytes(), element.to_le_bytes()].concat();
        out.extend(vr);
        out.extend([0, 0]);
        out.extend(length.to_le_bytes());
        out
    }

    #[test]
    fn a_claim_of_4_gb_is_refused_at_its_byte() {
        let mut bytes = short(0x0028, 0x0010, b"US", &[2, 0]);
        bytes.extend(long(0x7FE0, 0x0010, b"OW", 0xF000_0000));
        bytes.extend([0; 1000]);
        let expected = DicomError::Truncated { at: 10, claimed: 0xF000_0000, left: 1000 };
        assert_eq!(walk(&bytes, EXPLICIT), Err(expected));
    }

    #[test]
    fn deep_nesting_is_refused_and_16_levels_are_not() {
        let nested = |depth: usize| {
            let mut bytes = Vec::new();
            for _ in 0..depth {
                bytes.extend(long(0x0008, 0x1140, b"SQ", UNDEFINED));
                bytes.extend([0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF]);
            }
            for _ in 0..depth {
                bytes.extend([0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0, 0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
            }
            bytes
        };
        assert!(walk(&nested(16), EXPLICIT).is_ok());
        assert_eq!(walk(&nested(10_000), EXPLICIT), Err(DicomError::Nesting { limit: 16 }));
    }

    #[test]
    fn an_image_of_65535_squared_in_ten_bytes_is_refused() {
        let mut bytes = short(0x0028, 0x0010, b"US", &[0xFF, 0xFF]);
        bytes.extend(short(0x0028, 0x0011, b"US", &[0xFF, 0xFF]));
        bytes.extend(long(0x7FE0, 0x0010, b"OW", 10));
        bytes.extend([0; 10]);
        assert!(matches!(walk(&bytes, EXPLICIT), Err(DicomError::Implausible { claimed: 8_589_672_450, .. })));
    }

    #[test]
    fn an_item_may_not_reach_beyond_its_sequence() {
        let mut bytes = long(0x0008, 0x1140, b"SQ", 16);
        bytes.extend([0xFE, 0xFF, 0x00, 0xE0, 9, 0, 0, 0]);
        bytes.extend([0; 100]);
        assert_eq!(walk(&bytes, EXPLICIT), Err(DicomError::Truncated { at: 12, claimed: 9, left: 8 }));
    }

    #[test]
    fn fragments_are_listed_without_the_offset_table() {
        let mut bytes = long(0x7FE0, 0x0010, b"OB", UNDEFINED);
        bytes.extend([0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0]);
        bytes.extend([0xFE, 0xFF, 0x00, 0xE0, 2, 0, 0, 0, 7, 7]);
        bytes.extend([0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
        let Some(PixelSpan::Fragments(fragments)) = walk(&bytes, EXPLICIT).unwrap().pixels else {
            panic!("no fragments")
        };
        assert!(matches!(&fragments[..], [std::ops::Range { start: 28, end: 30 }]), "{fragments:?}");
    }
}
