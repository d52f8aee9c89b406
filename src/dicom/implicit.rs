//! Explicit to implicit VR little endian: the default transfer syntax (PS3.5 10.1), for nodes that take nothing else.

use super::DicomError;
use super::walker::{Encoding, NESTING_MAX, walk};

const UNDEFINED: u32 = 0xFFFF_FFFF;

/// A data set in explicit VR little endian without encapsulated pixels, again in implicit VR.
pub fn from_explicit(data_set: &[u8]) -> Result<Vec<u8>, DicomError> {
    walk(data_set, Encoding { explicit: true, big_endian: false })?;
    let mut out = Vec::with_capacity(data_set.len());
    let mut cursor = Cursor { bytes: data_set, at: 0 };
    cursor.elements(&mut out, None, 0)?;
    Ok(out)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], DicomError> {
        let left = self.bytes.len().saturating_sub(self.at);
        let value = self.at.checked_add(length).and_then(|end| self.bytes.get(self.at..end));
        let value = value.ok_or(DicomError::Truncated { at: self.at, claimed: length as u64, left })?;
        self.at += length;
        Ok(value)
    }

    fn u32(&mut self) -> Result<u32, DicomError> {
        Ok(self.take(4)?.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b)))
    }

    /// Elements up to `end` or, where the length is undefined, the item's delimiter.
    fn elements(&mut self, out: &mut Vec<u8>, end: Option<usize>, depth: usize) -> Result<(), DicomError> {
        if depth > NESTING_MAX {
            return Err(DicomError::Nesting { limit: NESTING_MAX });
        }
        while self.at < end.unwrap_or(self.bytes.len()) {
            let at = self.at;
            let tag = self.take(4)?;
            if tag == [0xFE, 0xFF, 0x0D, 0xE0] {
                self.u32()?;
                return Ok(());
            }
            let vr = self.take(2)?;
            let long = matches!(
                vr,
                b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"SQ" | b"SV" | b"UC" | b"UN" | b"UR" | b"UT" | b"UV"
            );
            let length = if long {
                self.take(2)?;
                self.u32()?
            } else {
                self.take(2)?.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b))
            };
            out.extend_from_slice(tag);
            if vr == b"SQ" {
                let mut inside = Vec::new();
                let end = (length != UNDEFINED).then(|| self.at + length as usize);
                self.items(&mut inside, end, depth)?;
                out.extend((inside.len() as u32).to_le_bytes());
                out.extend(inside);
            } else if length == UNDEFINED {
                return Err(DicomError::Malformed { at, what: "an undefined length that its VR does not allow" });
            } else {
                out.extend(length.to_le_bytes());
                out.extend_from_slice(self.take(length as usize)?);
            }
        }
        Ok(())
    }

    /// The items of a sequence; lengths become defined.
    fn items(&mut self, out: &mut Vec<u8>, end: Option<usize>, depth: usize) -> Result<(), DicomError> {
        while self.at < end.unwrap_or(self.bytes.len()) {
            let at = self.at;
            let tag = self.take(4)?;
            let length = self.u32()?;
            match tag {
                [0xFE, 0xFF, 0xDD, 0xE0] => return Ok(()),
                [0xFE, 0xFF, 0x00, 0xE0] => {
                    let mut inside = Vec::new();
                    let end = (length != UNDEFINED).then(|| self.at + length as usize);
                    self.elements(&mut inside, end, depth + 1)?;
                    out.extend_from_slice(tag);
                    out.extend((inside.len() as u32).to_le_bytes());
                    out.extend(inside);
                }
                _ => return Err(DicomError::Malformed { at, what: "neither an item nor the end of its sequence" }),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vrs_go_and_lengths_become_defined() {
        let explicit =
            b"\x08\x00\x60\x00CS\x02\x00CT\x06\x30\x20\x00SQ\0\0\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF\
            \x06\x30\x22\x00IS\x02\x007 \xFE\xFF\x0D\xE0\0\0\0\0\xFE\xFF\xDD\xE0\0\0\0\0";
        let implicit = b"\x08\x00\x60\x00\x02\0\0\0CT\x06\x30\x20\x00\x12\0\0\0\xFE\xFF\x00\xE0\x0A\0\0\0\x06\x30\x22\x00\x02\0\0\x007 ";
        assert_eq!(from_explicit(explicit).unwrap(), implicit);
        for cut in 1..explicit.len() {
            let _ = from_explicit(&explicit[..cut]);
        }
    }
}
