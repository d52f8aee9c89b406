//! From the pixels of one object to Hounsfield units.

use super::apart::Decoder;
use super::walker::PixelSpan;
use super::{Header, Object, PixelFormat, jpeg_ls, rle, syntax};
use crate::Explain;
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

/// Most tiles of a JPEG 2000 frame; scanners write one.
const J2K_TILES_MAX: u64 = 1024;

/// Why the pixels of an object gave no slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PixelFault {
    /// Fewer bytes than Rows x Columns need, or no such frame.
    #[error("there are fewer pixels than the header says")]
    Short,
    /// No pixels at all.
    #[error("the object has no pixels")]
    Missing,
    /// The decoder gave up (or panicked) on the compressed frame.
    #[error("the compressed pixels are damaged")]
    Decode,
    /// The decoder broke a limit and was ended.
    #[error("the compressed pixels are damaged: the decoder {0}")]
    Ended(&'static str),
    /// The decoder could not be started or reached: not the object's fault.
    #[error("the decoder could not be used: {0}")]
    NoDecoder(std::io::ErrorKind),
    /// Pixels that are no gray values of 8 or 16 bits.
    #[error("the pixels are not gray values of 8 or 16 bits")]
    Format,
    /// A transfer syntax that is not decoded here.
    #[error("the transfer syntax is not decoded here")]
    Syntax,
}

impl Explain for PixelFault {
    fn code(&self) -> &'static str {
        match self {
            Self::Short => "pixels.short",
            Self::Missing => "pixels.missing",
            Self::Decode => "pixels.decode",
            Self::Ended(_) => "pixels.decoder-ended",
            Self::NoDecoder(_) => "pixels.no-decoder",
            Self::Format => "pixels.format",
            Self::Syntax => "pixels.transfer-syntax",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::Short | Self::Decode | Self::Ended(_) => "send the damaged object again",
            Self::NoDecoder(_) => "check that the program may start processes, then analyze again",
            Self::Missing | Self::Format => "send the original CT slices",
            Self::Syntax => "send the object without compression, or with a lossless one",
        }
    }
}

/// Decodes one frame of an object with one sample of 16 bits to HU, row by row, into `hu` (rows x columns values); `slice` is what
/// was planned for the frame. What was not measured (padding, what lies below the measurable) becomes NaN; all else is
/// slope x stored + intercept, in double precision.
pub fn decode_hu(
    object: &Object<'_>,
    slice: &Header,
    frame: usize,
    decoder: &Decoder,
    hu: &mut [f32],
) -> Result<(), PixelFault> {
    let raw = raw_frame(object, frame, decoder)?;
    if raw.len() < hu.len() * 2 {
        return Err(PixelFault::Short);
    }
    let format = &slice.pixels;
    let slope = slice.rescale_slope.unwrap_or(1.0);
    let intercept = slice.rescale_intercept.unwrap_or(0.0);
    let to_hu = |raw: u16| (slope * f64::from(stored_value(raw, format)) + intercept) as f32;
    let padding = padding_range(format, to_hu);
    for (value, raw) in hu.iter_mut().zip(raw.chunks_exact(2)) {
        let raw = u16::from_le_bytes([raw[0], raw[1]]);
        let measured = to_hu(raw);
        let stored = stored_value(raw, format);
        let padded = padding.is_some_and(|(low, high)| (low..=high).contains(&stored));
        *value = if padded || measured <= NOTHING_HU_MAX { f32::NAN } else { measured };
    }
    Ok(())
}

/// The stored values of one frame (from 0) of an object with one sample of 8 or 16 bits, row by row: masked to Bits Stored, sign
/// extended, neither rescaled nor padded away.
pub fn stored_values(object: &Object<'_>, frame: usize, decoder: &Decoder) -> Result<Vec<i32>, PixelFault> {
    let format = &object.header.pixels;
    let raw = raw_frame(object, frame, decoder)?;
    let value =
        |raw: &[u8]| stored_value(raw.iter().rev().fold(0, |value, byte| value << 8 | u16::from(*byte)), format);
    Ok(raw.chunks_exact(usize::from(format.bits_allocated / 8).max(1)).map(value).collect())
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

/// The pixels of a frame as they are stored, one or two bytes each, little endian.
fn raw_frame<'a>(object: &'a Object<'_>, index: usize, decoder: &Decoder) -> Result<Cow<'a, [u8]>, PixelFault> {
    let format = &object.header.pixels;
    let span = object.pixels.as_ref().ok_or(PixelFault::Missing)?;
    if format.samples != 1 || !matches!(format.bits_allocated, 8 | 16) || format.bits_stored > format.bits_allocated {
        return Err(PixelFault::Format);
    }
    let pixels = usize::from(format.rows) * usize::from(format.columns);
    let length = pixels * usize::from(format.bits_allocated / 8);
    match span {
        PixelSpan::Native(range) => {
            let all = object.data_set.get(range.clone()).ok_or(PixelFault::Short)?;
            let start = index.saturating_mul(length);
            let frame = all.get(start..start.saturating_add(length)).ok_or(PixelFault::Short)?;
            // In big endian the two bytes of a word are turned, also where they are two pixels; the VR stands before the length.
            let vr = range.start.checked_sub(8).and_then(|at| object.data_set.get(at..at + 2));
            if object.header.transfer_syntax == syntax::EXPLICIT_BE && vr == Some(b"OW") {
                let turned = (start..start + length).map(|at| all.get(at ^ 1).copied().unwrap_or_default());
                return Ok(Cow::Owned(turned.collect()));
            }
            Ok(Cow::Borrowed(frame))
        }
        PixelSpan::Fragments(ranges) => {
            if !syntax::is_decoded(&object.header.transfer_syntax) {
                return Err(PixelFault::Syntax);
            }
            let fragments: Vec<&[u8]> = ranges.iter().filter_map(|r| object.data_set.get(r.clone())).collect();
            let frame = fragments_of(&fragments, format.frames as usize, index).ok_or(PixelFault::Short)?.concat();
            let raw = decoder.decode(&frame, format, &object.header.transfer_syntax)?;
            if raw.len() < length { Err(PixelFault::Short) } else { Ok(Cow::Owned(raw)) }
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

/// Decodes one compressed frame in this process; `None` when it is damaged or there is no decoder.
pub fn decode_frame(frame: &[u8], format: &PixelFormat, transfer_syntax: &str) -> Option<Vec<u8>> {
    let pixels = usize::from(format.rows) * usize::from(format.columns);
    let bytes = usize::from(format.bits_allocated / 8);
    // JPEG adapters of the registry panic on damaged frames (dicom.md section 2).
    let decoded = catch_unwind(AssertUnwindSafe(|| match transfer_syntax {
        syntax::RLE => rle::decode(frame, pixels, bytes),
        syntax::JPEG_LS_LOSSLESS => jpeg_ls::decode(frame, format.rows, format.columns, bytes),
        other => decode_by_registry(frame, format, other),
    }));
    decoded.ok().flatten()
}

fn decode_by_registry(frame: &[u8], format: &PixelFormat, transfer_syntax: &str) -> Option<Vec<u8>> {
    let claimed = match transfer_syntax {
        syntax::JPEG_LOSSLESS | syntax::JPEG_LOSSLESS_SV1 => jpeg_size(frame)?,
        // The decoder makes something of a codestream that was cut short.
        _ if !ends(frame) => return None,
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

/// Whether a codestream has its end marker (ITU-T T.800 A.4.4); behind it may stand zeros, or one byte of any value that makes the
/// length even.
fn ends(frame: &[u8]) -> bool {
    let padding = frame.iter().rev().take_while(|byte| **byte == 0).count();
    let frame = &frame[..frame.len() - padding];
    [frame, &frame[..frame.len().saturating_sub(1)]].iter().any(|frame| frame.ends_with(&[0xFF, 0xD9]))
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
    // Decoders keep a record of each tile before they see one: 1.5 KB could claim a million tiles of a pixel.
    let (tile_width, tile_height) = (word(24)?, word(28)?);
    let tiles = u64::from(width.checked_div(tile_width)? + 1) * u64::from(height.checked_div(tile_height)? + 1);
    if tiles > J2K_TILES_MAX {
        return None;
    }
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
