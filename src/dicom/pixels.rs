//! From the pixels of one object to Hounsfield units.

use super::walker::PixelSpan;
use super::{Header, Object, PixelFormat, rle, syntax};
use dicom_core::value::C;
use dicom_encoding::adapters::{PixelDataObject, RawPixelData};
use dicom_encoding::transfer_syntax::TransferSyntaxIndex;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Air, in HU: what was not measured becomes it.
pub const AIR_HU: f32 = -1000.0;
/// At or below this many HU nothing was measured (-2000 corners, padding); real air is near -1000.
pub const NOTHING_HU_MAX: f32 = -1500.0;

/// Why the pixels of an object gave no slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixelFault {
    /// Fewer bytes than Rows x Columns need.
    Short,
    /// The decoder gave up (or panicked) on the compressed frame.
    Decode,
}

/// Decodes one frame of an object with one sample of 16 bits to HU, row by row, into `hu` (rows x columns values); `slice` is what
/// was planned for the frame. What was not measured (padding, what lies below the measurable) becomes NaN; all else is
/// slope x stored + intercept, in double precision.
pub fn decode_hu(object: &Object<'_>, slice: &Header, frame: usize, hu: &mut [f32]) -> Result<(), PixelFault> {
    let stored = stored_bytes(object, frame)?;
    if stored.len() < hu.len() * 2 {
        return Err(PixelFault::Short);
    }
    let format = &slice.pixels;
    let slope = slice.rescale_slope.unwrap_or(1.0);
    let intercept = slice.rescale_intercept.unwrap_or(0.0);
    let to_hu = |raw: u16| (slope * f64::from(stored_value(raw, format)) + intercept) as f32;
    let padding = padding_range(format, to_hu);
    for (value, raw) in hu.iter_mut().zip(stored.chunks_exact(2)) {
        let raw = u16::from_le_bytes([raw[0], raw[1]]);
        let measured = to_hu(raw);
        let stored = stored_value(raw, format);
        let padded = padding.is_some_and(|(low, high)| (low..=high).contains(&stored));
        *value = if padded || measured <= NOTHING_HU_MAX { f32::NAN } else { measured };
    }
    Ok(())
}

/// Masks to Bits Stored and extends the sign: 12 stored bits 0xFFF are -1 when signed, overlay bits above are dropped.
pub fn stored_value(raw: u16, format: &PixelFormat) -> i32 {
    let unused = 16 - u32::from(format.bits_stored.clamp(1, 16));
    match format.signed {
        true => i32::from(((raw << unused) as i16) >> unused),
        false => i32::from((raw << unused) >> unused),
    }
}

/// The stored values that are padding, if they mean nothing that could be tissue: some scanners declare a padding value of 0
/// with an intercept of 0, which would be water.
fn padding_range(format: &PixelFormat, to_hu: impl Fn(u16) -> f32) -> Option<(i32, i32)> {
    let value = format.padding?;
    let limit = format.padding_limit.unwrap_or(value);
    if to_hu(value).max(to_hu(limit)) > -900.0 {
        return None;
    }
    let (a, b) = (stored_value(value, format), stored_value(limit, format));
    Some((a.min(b), a.max(b)))
}

/// The stored values of a frame, two bytes each, little endian.
fn stored_bytes<'a>(object: &'a Object<'_>, index: usize) -> Result<Cow<'a, [u8]>, PixelFault> {
    let format = &object.header.pixels;
    let pixels = usize::from(format.rows) * usize::from(format.columns);
    match object.pixels.as_ref().ok_or(PixelFault::Short)? {
        PixelSpan::Native(range) => {
            let all = object.data_set.get(range.clone()).ok_or(PixelFault::Short)?;
            let (start, end) = (index.saturating_mul(pixels * 2), (index + 1).saturating_mul(pixels * 2));
            all.get(start..end).map(Cow::Borrowed).ok_or(PixelFault::Short)
        }
        PixelSpan::Fragments(ranges) => {
            let fragments: Vec<&[u8]> = ranges.iter().filter_map(|r| object.data_set.get(r.clone())).collect();
            let frame = fragments_of(&fragments, format.frames as usize, index).ok_or(PixelFault::Short)?.concat();
            decode_frame(&frame, format, &object.header.transfer_syntax, pixels, 2)
                .map(Cow::Owned)
                .ok_or(PixelFault::Decode)
        }
    }
}

/// The fragments of one frame. A frame in several fragments is known by the codestream that only its first one begins: neither
/// `FF D8` nor `FF 4F FF 51` can stand inside a codestream (PS3.5 A.4; the offset table may be empty and is not needed).
fn fragments_of<'a>(fragments: &'a [&'a [u8]], frames: usize, index: usize) -> Option<&'a [&'a [u8]]> {
    if frames <= 1 {
        return Some(fragments);
    }
    if fragments.len() == frames {
        return fragments.get(index..=index);
    }
    let begins = |f: &&[u8]| {
        f.starts_with(&[0xFF, 0xD8]) || f.starts_with(&[0xFF, 0x4F, 0xFF, 0x51]) || f.starts_with(b"\0\0\0\x0CjP  ")
    };
    let mut starts: Vec<usize> = (0..fragments.len()).filter(|i| begins(&fragments[*i])).collect();
    if starts.len() != frames {
        return None;
    }
    starts.push(fragments.len());
    fragments.get(*starts.get(index)?..*starts.get(index + 1)?)
}

/// True when a JPEG 2000 codestream uses the irreversible wavelet (ITU-T T.800 A.6.1, transformation 0): lossy, whatever the
/// header says. Only the main header is looked at.
pub fn codestream_is_lossy(fragment: &[u8]) -> bool {
    let Some(start) = fragment.windows(4).take(1024).position(|w| w == [0xFF, 0x4F, 0xFF, 0x51]) else { return false };
    let mut rest = &fragment[start + 2..];
    while let [0xFF, marker, high, low, body @ ..] = rest {
        match (*marker, usize::from(u16::from_be_bytes([*high, *low])).checked_sub(2)) {
            // COD: coding style 1, progression 1, layers 2, component transformation 1, levels 1, block 2, style 1, wavelet 1.
            (0x52, _) => return body.get(9) == Some(&0),
            (0x90, _) | (_, None) => return false,
            (_, Some(length)) => rest = body.get(length..).unwrap_or_default(),
        }
    }
    false
}

/// Decodes one compressed frame of `samples` samples; `None` when it is damaged or there is no decoder.
pub fn decode_frame(
    frame: &[u8],
    format: &PixelFormat,
    transfer_syntax: &str,
    samples: usize,
    bytes_per_sample: usize,
) -> Option<Vec<u8>> {
    // RLE and JPEG adapters of the registry panic on damaged frames (dicom.md section 2).
    let decoded = catch_unwind(AssertUnwindSafe(|| match transfer_syntax {
        syntax::RLE => rle::decode(frame, samples, bytes_per_sample),
        other => decode_by_registry(frame, format, other),
    }));
    decoded.ok().flatten()
}

fn decode_by_registry(frame: &[u8], format: &PixelFormat, transfer_syntax: &str) -> Option<Vec<u8>> {
    let claimed = match transfer_syntax {
        syntax::JPEG_LOSSLESS | syntax::JPEG_LOSSLESS_SV1 => jpeg_size(frame)?,
        _ => j2k_size(frame)?,
    };
    // Decoders allocate what the codestream claims and leave what it lacks at 0: it has to be what the header says.
    if claimed != (u32::from(format.rows), u32::from(format.columns), 1) {
        return None;
    }
    let syntax = TransferSyntaxRegistry.get(transfer_syntax)?;
    let frame = Frame { bytes: frame, format, transfer_syntax };
    let mut out = Vec::new();
    syntax.pixel_data_reader()?.decode_frame(&frame, 0, &mut out).ok()?;
    Some(out)
}

/// (rows, columns, components) of a JPEG frame: the first start-of-frame segment (ITU-T T.81 B.2.2).
fn jpeg_size(frame: &[u8]) -> Option<(u32, u32, u32)> {
    let mut rest = frame.strip_prefix(&[0xFF, 0xD8])?;
    loop {
        let [0xFF, marker, high, low, body @ ..] = rest else { return None };
        let length = usize::from(u16::from_be_bytes([*high, *low])).checked_sub(2)?;
        match (marker, body) {
            (0xFF, _) => rest = &rest[1..],
            (0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF, [_, a, b, c, d, components, ..]) => {
                let pair = |x: &u8, y: &u8| u32::from(u16::from_be_bytes([*x, *y]));
                return Some((pair(a, b), pair(c, d), u32::from(*components)));
            }
            _ => rest = body.get(length..)?,
        }
    }
}

/// (rows, columns, components) of a JPEG 2000 codestream, bare or in a JP2 file: its SIZ segment (ITU-T T.800 A.5.1).
fn j2k_size(frame: &[u8]) -> Option<(u32, u32, u32)> {
    let start = frame.windows(4).take(1024).position(|w| w == [0xFF, 0x4F, 0xFF, 0x51])?;
    let word = |at: usize| Some(u32::from_be_bytes(frame.get(start + at..start + at + 4)?.try_into().ok()?));
    let (width, height, left, top) = (word(8)?, word(12)?, word(16)?, word(20)?);
    let components = frame.get(start + 40..start + 42)?;
    let components = u32::from(u16::from_be_bytes([components[0], components[1]]));
    Some((height.checked_sub(top)?, width.checked_sub(left)?, components))
}

/// One compressed frame as the registry's decoders want to see it.
struct Frame<'a> {
    bytes: &'a [u8],
    format: &'a PixelFormat,
    transfer_syntax: &'a str,
}

impl PixelDataObject for Frame<'_> {
    fn transfer_syntax_uid(&self) -> &str {
        self.transfer_syntax
    }
    fn rows(&self) -> Option<u16> {
        Some(self.format.rows)
    }
    fn cols(&self) -> Option<u16> {
        Some(self.format.columns)
    }
    fn samples_per_pixel(&self) -> Option<u16> {
        Some(1)
    }
    fn bits_allocated(&self) -> Option<u16> {
        Some(self.format.bits_allocated)
    }
    fn bits_stored(&self) -> Option<u16> {
        Some(self.format.bits_stored)
    }
    fn photometric_interpretation(&self) -> Option<&str> {
        Some(&self.format.photometric)
    }
    fn number_of_frames(&self) -> Option<u32> {
        Some(1)
    }
    fn number_of_fragments(&self) -> Option<u32> {
        Some(1)
    }
    fn fragment(&self, fragment: usize) -> Option<Cow<'_, [u8]>> {
        (fragment == 0).then_some(Cow::Borrowed(self.bytes))
    }
    fn offset_table(&self) -> Option<Cow<'_, [u32]>> {
        Some(Cow::Borrowed(&[]))
    }
    fn raw_pixel_data(&self) -> Option<RawPixelData> {
        Some(RawPixelData { fragments: C::from_vec(vec![self.bytes.to_vec()]), offset_table: C::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(bits_stored: u16, signed: bool) -> PixelFormat {
        PixelFormat { bits_stored, signed, bits_allocated: 16, high_bit: bits_stored - 1, ..Default::default() }
    }

    #[test]
    fn stored_bits_are_masked_and_sign_extended() {
        assert_eq!(stored_value(0xF123, &format(12, false)), 0x123);
        assert_eq!(stored_value(0x0FFF, &format(12, true)), -1);
        assert_eq!(stored_value(0x07FF, &format(12, true)), 2047);
        assert_eq!(stored_value(0xF830, &format(16, true)), -2000);
        assert_eq!(stored_value(0xF830, &format(16, false)), 63536);
    }

    #[test]
    fn sizes_are_read_from_codestreams_before_they_are_decoded() {
        let jpeg = [0xFF, 0xD8, 0xFF, 0xE0, 0, 4, 9, 9, 0xFF, 0xC3, 0, 11, 16, 0, 20, 0, 24, 1, 1, 0x11, 0];
        assert_eq!(jpeg_size(&jpeg), Some((20, 24, 1)));
        assert_eq!(jpeg_size(&jpeg[..12]), None);
        assert_eq!(jpeg_size(&[0xFF, 0xD8, 0xFF, 0xE0, 0, 0]), None);
        let mut j2k = vec![0xFF, 0x4F, 0xFF, 0x51, 0, 41, 0, 0];
        [24u32, 20, 0, 0, 24, 20, 0, 0].iter().for_each(|v| j2k.extend(v.to_be_bytes()));
        j2k.extend([0, 1, 15, 1, 1]);
        assert_eq!(j2k_size(&j2k), Some((20, 24, 1)));
        assert_eq!(j2k_size(&j2k[..41]), None);
    }

    #[test]
    fn padding_that_could_be_tissue_is_no_padding() {
        let padded = |value: u16, intercept: f32| {
            let format = PixelFormat { padding: Some(value), ..format(16, true) };
            padding_range(&format, |raw| f32::from(raw as i16) + intercept)
        };
        assert_eq!(padded((-2000i16) as u16, 0.0), Some((-2000, -2000)));
        assert_eq!(padded(0, -1024.0), Some((0, 0)));
        assert_eq!(padded(0, 0.0), None);
    }
}
