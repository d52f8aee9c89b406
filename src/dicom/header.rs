//! The header of one object: what series rules, the store and the SEG need, read from the walked index.

use super::frames::{Frame, read_frames};
use super::identifier::is_uid;
use super::pixels::codestream_is_lossy;
use super::walker::{Encoding, OBJECT_BYTES_MAX, PixelSpan, Walk, walk, walk_beginning};
use super::{DicomError, Identifier, sop_class, syntax};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use dicom_encoding::text::{SpecificCharacterSet, TextCodec};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::io::Read;

/// What one object says about itself. Absent attributes are empty or `None`; nothing is guessed.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Transfer syntax UID of the file meta group, or the one found by looking when there was no meta group.
    pub transfer_syntax: String,
    /// SOP Class UID (data set, else file meta).
    pub sop_class_uid: String,
    /// SOP Instance UID (data set, else file meta).
    pub sop_instance_uid: Identifier,
    /// Study Instance UID.
    pub study_instance_uid: Identifier,
    /// Series Instance UID.
    pub series_instance_uid: Identifier,
    /// Frame of Reference UID.
    pub frame_of_reference_uid: Identifier,
    /// Who it is of.
    pub patient: Patient,
    /// Accession Number.
    pub accession_number: Identifier,
    /// Study ID.
    pub study_id: Identifier,
    /// Study Description: free text, which may name anybody.
    pub study_description: Identifier,
    /// Referring Physician's Name.
    pub referring_physician: Identifier,
    /// Study Date, YYYYMMDD.
    pub study_date: String,
    /// Study Time, HHMMSS.FFFFFF.
    pub study_time: String,
    /// Series Number.
    pub series_number: Option<i32>,
    /// Instance Number.
    pub instance_number: Option<i32>,
    /// Series Description.
    pub series_description: String,
    /// Protocol Name.
    pub protocol_name: String,
    /// Body Part Examined.
    pub body_part: String,
    /// Modality, such as `CT`.
    pub modality: String,
    /// Image Type, value by value.
    pub image_type: Vec<String>,
    /// Manufacturer.
    pub manufacturer: String,
    /// Manufacturer's Model Name.
    pub model_name: String,
    /// Convolution Kernel, values joined by `\`.
    pub kernel: String,
    /// Acquisition Number.
    pub acquisition_number: Option<i32>,
    /// Temporal Position Identifier: the phase of a dynamic series.
    pub temporal_position: Option<i32>,
    /// Contrast/Bolus Agent; `coded` where only a sequence of codes names it.
    pub contrast_agent: String,
    /// Patient Position, such as `HFS` or `FFS`; the geometry never reads it.
    pub patient_position: String,
    /// Slice Thickness, mm.
    pub slice_thickness_mm: Option<f64>,
    /// kVp, kV.
    pub kvp: Option<f64>,
    /// Image Position (Patient): center of the first pixel, LPS, mm.
    pub position_mm: Option<[f64; 3]>,
    /// Image Orientation (Patient): direction of a row (along columns), LPS.
    pub row_cosines: Option<[f64; 3]>,
    /// Image Orientation (Patient): direction of a column (along rows), LPS.
    pub column_cosines: Option<[f64; 3]>,
    /// Pixel Spacing: (between rows, between columns), mm.
    pub pixel_spacing_mm: Option<[f64; 2]>,
    /// Rescale Slope.
    pub rescale_slope: Option<f64>,
    /// Rescale Intercept.
    pub rescale_intercept: Option<f64>,
    /// Rescale Type, such as `HU`.
    pub rescale_type: String,
    /// True when the object has a Modality LUT Sequence instead of slope and intercept.
    pub modality_lut: bool,
    /// True when Lossy Image Compression is `01`, or the codestream itself says so.
    pub lossy: bool,
    /// How the pixels are stored.
    pub pixels: PixelFormat,
    /// What the frames of an Enhanced CT object say; empty for all others.
    pub frames: Vec<Frame>,
    /// SHA-256 over the data set as received (file meta left out): same object or altered. `None` when only the header was read.
    pub content_sha256: Option<[u8; 32]>,
}

/// Patient attributes. `Debug` prints hashes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Patient {
    /// Patient ID.
    pub id: Identifier,
    /// Issuer of Patient ID.
    pub issuer: Identifier,
    /// Patient's Name, as DICOM writes it (`Family^Given`).
    pub name: Identifier,
    /// Patient's Birth Date, YYYYMMDD.
    pub birth_date: Identifier,
    /// Patient's Sex: `M`, `F`, `O` or empty.
    pub sex: String,
}

/// The Image Pixel module (PS3.3 C.7.6.3); numbers that are absent are 0.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PixelFormat {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
    /// Number of Frames, 1 when absent.
    pub frames: u32,
    /// Samples per Pixel.
    pub samples: u16,
    /// Photometric Interpretation.
    pub photometric: String,
    /// Bits Allocated.
    pub bits_allocated: u16,
    /// Bits Stored.
    pub bits_stored: u16,
    /// High Bit.
    pub high_bit: u16,
    /// Pixel Representation is 1: two's complement.
    pub signed: bool,
    /// Pixel Padding Value, its 16 bits as they stand.
    pub padding: Option<u16>,
    /// Pixel Padding Range Limit, its 16 bits as they stand.
    pub padding_limit: Option<u16>,
    /// True when the object has Pixel Data.
    pub present: bool,
    /// True when native Pixel Data has fewer bytes than its frames need.
    pub short: bool,
}

/// A walked object: header, data set and where the pixels are.
#[derive(Debug)]
pub struct Object<'a> {
    /// The header.
    pub header: Header,
    /// The data set without file meta; inflated if it was deflated.
    pub data_set: Cow<'a, [u8]>,
    /// Where the pixels lie in `data_set`.
    pub pixels: Option<PixelSpan>,
}

/// Reads the header of a Part 10 file (preamble and file meta optional: a bare little-endian data set is recognized).
pub fn parse_header(bytes: &[u8]) -> Result<Header, DicomError> {
    parse_object(bytes).map(|object| object.header)
}

/// Walks an object and reads its header; pixels stay where they are.
pub fn parse_object(bytes: &[u8]) -> Result<Object<'_>, DicomError> {
    let file = split_file(bytes)?;
    parse_data_set(file)
}

/// Reads the header of a data set that came without a file (C-STORE), in a known transfer syntax.
pub(super) fn parse_received(data_set: &[u8], transfer_syntax: &str) -> Result<Header, DicomError> {
    let file = File {
        data_set,
        transfer_syntax: transfer_syntax.into(),
        sop_class: String::new(),
        sop_instance: String::new(),
    };
    parse_data_set(file).map(|object| object.header)
}

/// The data set's bytes in a file, as they stand there (deflated or not); empty when the file is none.
pub(super) fn data_set_of(bytes: &[u8]) -> &[u8] {
    split_file(bytes).map(|file| file.data_set).unwrap_or_default()
}

/// Reads the header from the beginning of a file of `length` bytes. `None`: it takes the whole file (a long or deflated header,
/// an Enhanced CT, damage).
pub(super) fn parse_beginning(beginning: &[u8], length: usize) -> Option<Header> {
    let file = split_file(beginning).ok()?;
    let encoding = encoding_of(&file.transfer_syntax).ok()?;
    if file.transfer_syntax == syntax::DEFLATED {
        return None;
    }
    let walk = walk_beginning(file.data_set, length - (beginning.len() - file.data_set.len()), encoding).ok()?;
    let header = Reader::new(file.data_set, &walk, encoding.big_endian).header(&file);
    (header.sop_class_uid != sop_class::ENHANCED_CT).then_some(header)
}

/// A file cut into what its meta group says and its data set.
struct File<'a> {
    data_set: &'a [u8],
    transfer_syntax: String,
    sop_class: String,
    sop_instance: String,
}

fn split_file(bytes: &[u8]) -> Result<File<'_>, DicomError> {
    let body = match bytes {
        [_, ..] if bytes.get(128..132) == Some(b"DICM") => &bytes[132..],
        [b'D', b'I', b'C', b'M', rest @ ..] => rest,
        _ => bytes,
    };
    let mut file =
        File { data_set: body, transfer_syntax: String::new(), sop_class: String::new(), sop_instance: String::new() };
    while file.data_set.len() >= 8 && file.data_set.starts_with(&[0x02, 0x00]) {
        let data = file.data_set;
        let long = matches!(&data[4..6], b"OB" | b"UN" | b"OW" | b"SQ" | b"UT" | b"UC" | b"UR");
        let (header, length) = match data.get(8..12) {
            Some(l) if long => (12, u32::from_le_bytes([l[0], l[1], l[2], l[3]]) as usize),
            _ => (8, usize::from(u16::from_le_bytes([data[6], data[7]]))),
        };
        let left = data.len().saturating_sub(header);
        let value = data.get(header..).and_then(|d| d.get(..length));
        let value = value.ok_or(DicomError::Truncated { at: 0, claimed: length as u64, left })?;
        let text = || String::from_utf8_lossy(value).trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned();
        match u16::from_le_bytes([data[2], data[3]]) {
            0x0002 => file.sop_class = text(),
            0x0003 => file.sop_instance = text(),
            0x0010 => file.transfer_syntax = text(),
            _ => {}
        }
        file.data_set = &data[header + length..];
    }
    if file.transfer_syntax.is_empty() {
        file.transfer_syntax = sniff(file.data_set)?.into();
    }
    Ok(file)
}

/// The syntax of a data set that nobody described: it must begin in group 0008 (little endian).
fn sniff(data_set: &[u8]) -> Result<&'static str, DicomError> {
    match data_set.get(..6) {
        Some(&[0x08, 0x00, _, 0x00, a, b]) if VR::from_binary([a, b]).is_some() => Ok(syntax::EXPLICIT_LE),
        Some(&[0x08, 0x00, _, 0x00, ..]) => Ok(syntax::IMPLICIT_LE),
        _ => Err(DicomError::NotDicom),
    }
}

/// How element headers are written in a transfer syntax; every encapsulated syntax is explicit little endian (PS3.5 A.4).
fn encoding_of(transfer_syntax: &str) -> Result<Encoding, DicomError> {
    match transfer_syntax {
        syntax::IMPLICIT_LE => Ok(Encoding { explicit: false, big_endian: false }),
        syntax::EXPLICIT_BE => Ok(Encoding { explicit: true, big_endian: true }),
        other if other.starts_with("1.2.840.10008.1.2") => Ok(Encoding { explicit: true, big_endian: false }),
        other => Err(DicomError::TransferSyntax(other.chars().filter(|c| c.is_ascii_graphic()).take(64).collect())),
    }
}

fn inflate(deflated: &[u8]) -> Result<Vec<u8>, DicomError> {
    let limit = deflated.len().saturating_mul(200).saturating_add(1 << 16).min(OBJECT_BYTES_MAX);
    let mut bytes = Vec::new();
    let read = flate2::read::DeflateDecoder::new(deflated).take(limit as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|_| DicomError::Deflate)?;
    if bytes.len() > limit { Err(DicomError::TooLarge { limit_mb: limit >> 20 }) } else { Ok(bytes) }
}

fn parse_data_set(file: File<'_>) -> Result<Object<'_>, DicomError> {
    let encoding = encoding_of(&file.transfer_syntax)?;
    let data_set = match file.transfer_syntax.as_str() {
        syntax::DEFLATED => Cow::Owned(inflate(file.data_set)?),
        _ => Cow::Borrowed(file.data_set),
    };
    let walk = walk(&data_set, encoding)?;
    let reader = Reader::new(&data_set, &walk, encoding.big_endian);
    let mut header = reader.header(&file);
    header.content_sha256 = Some(Sha256::digest(file.data_set).into());
    if header.sop_class_uid == sop_class::ENHANCED_CT {
        header.frames = read_frames(&data_set, &file.transfer_syntax, header.pixels.frames)?;
    }
    Ok(Object { header, pixels: walk.pixels, data_set })
}

/// Values of top-level elements.
struct Reader<'a> {
    bytes: &'a [u8],
    walk: &'a Walk,
    big_endian: bool,
    charset: SpecificCharacterSet,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8], walk: &'a Walk, big_endian: bool) -> Self {
        let mut reader = Self { bytes, walk, big_endian, charset: SpecificCharacterSet::default() };
        // Code extensions are rare in Europe and the Americas: of several sets the last one decodes the names.
        let named = reader.text(tags::SPECIFIC_CHARACTER_SET);
        let code = named.split('\\').map(str::trim).rfind(|c| !c.is_empty());
        reader.charset = code.and_then(SpecificCharacterSet::from_code).unwrap_or(SpecificCharacterSet::ISO_IR_192);
        if code.is_none() {
            reader.charset = SpecificCharacterSet::default();
        }
        reader
    }

    fn raw(&self, tag: Tag) -> &'a [u8] {
        self.walk.find(tag).and_then(|e| self.bytes.get(e.value.clone())).unwrap_or_default()
    }

    /// Text without padding; nothing that an attribute of this header needs is longer than 1 KiB.
    fn text(&self, tag: Tag) -> String {
        let raw = self.raw(tag);
        let raw = &raw[..raw.len().min(1024)];
        let text = self.charset.decode(raw).unwrap_or_else(|_| String::from_utf8_lossy(raw).into_owned());
        text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned()
    }

    fn identifier(&self, tag: Tag) -> Identifier {
        Identifier::new(self.text(tag))
    }

    fn numbers<const N: usize>(&self, tag: Tag) -> Option<[f64; N]> {
        let text = self.text(tag);
        let values: Vec<f64> = text.split('\\').map_while(|t| t.trim().parse().ok()).collect();
        let values: [f64; N] = values.try_into().ok()?;
        values.iter().all(|v| v.is_finite()).then_some(values)
    }

    fn number(&self, tag: Tag) -> Option<f64> {
        self.text(tag).split('\\').next()?.trim().parse().ok().filter(|v: &f64| v.is_finite())
    }

    fn integer(&self, tag: Tag) -> Option<i32> {
        self.text(tag).parse().ok()
    }

    fn u16(&self, tag: Tag) -> Option<u16> {
        let raw: [u8; 2] = self.raw(tag).get(..2)?.try_into().ok()?;
        Some(if self.big_endian { u16::from_be_bytes(raw) } else { u16::from_le_bytes(raw) })
    }

    fn header(&self, file: &File<'_>) -> Header {
        let cosines: Option<[f64; 6]> = self.numbers(tags::IMAGE_ORIENTATION_PATIENT);
        let fragment = match &self.walk.pixels {
            Some(PixelSpan::Fragments(ranges)) => ranges.first().and_then(|r| self.bytes.get(r.clone())),
            _ => None,
        };
        let or_meta = |own: String, meta: &str| if own.is_empty() && is_uid(meta) { meta.to_owned() } else { own };
        Header {
            transfer_syntax: file.transfer_syntax.clone(),
            sop_class_uid: or_meta(self.text(tags::SOP_CLASS_UID), &file.sop_class),
            sop_instance_uid: Identifier::new(or_meta(self.text(tags::SOP_INSTANCE_UID), &file.sop_instance)),
            study_instance_uid: self.identifier(tags::STUDY_INSTANCE_UID),
            series_instance_uid: self.identifier(tags::SERIES_INSTANCE_UID),
            frame_of_reference_uid: self.identifier(tags::FRAME_OF_REFERENCE_UID),
            patient: Patient {
                id: self.identifier(tags::PATIENT_ID),
                issuer: self.identifier(tags::ISSUER_OF_PATIENT_ID),
                name: self.identifier(tags::PATIENT_NAME),
                birth_date: self.identifier(tags::PATIENT_BIRTH_DATE),
                sex: self.text(tags::PATIENT_SEX),
            },
            accession_number: self.identifier(tags::ACCESSION_NUMBER),
            study_id: self.identifier(tags::STUDY_ID),
            study_description: self.identifier(tags::STUDY_DESCRIPTION),
            referring_physician: self.identifier(tags::REFERRING_PHYSICIAN_NAME),
            study_date: self.text(tags::STUDY_DATE),
            study_time: self.text(tags::STUDY_TIME),
            series_number: self.integer(tags::SERIES_NUMBER),
            instance_number: self.integer(tags::INSTANCE_NUMBER),
            series_description: self.text(tags::SERIES_DESCRIPTION),
            protocol_name: self.text(tags::PROTOCOL_NAME),
            body_part: self.text(tags::BODY_PART_EXAMINED),
            modality: self.text(tags::MODALITY),
            image_type: self.text(tags::IMAGE_TYPE).split('\\').map(|t| t.trim().to_owned()).collect(),
            manufacturer: self.text(tags::MANUFACTURER),
            model_name: self.text(tags::MANUFACTURER_MODEL_NAME),
            kernel: self.text(tags::CONVOLUTION_KERNEL),
            acquisition_number: self.integer(tags::ACQUISITION_NUMBER),
            temporal_position: self.integer(tags::TEMPORAL_POSITION_IDENTIFIER),
            contrast_agent: self.contrast_agent(),
            patient_position: self.text(tags::PATIENT_POSITION),
            slice_thickness_mm: self.number(tags::SLICE_THICKNESS),
            kvp: self.number(tags::KVP),
            position_mm: self.numbers(tags::IMAGE_POSITION_PATIENT),
            row_cosines: cosines.map(|c| [c[0], c[1], c[2]]),
            column_cosines: cosines.map(|c| [c[3], c[4], c[5]]),
            pixel_spacing_mm: self.numbers(tags::PIXEL_SPACING),
            rescale_slope: self.number(tags::RESCALE_SLOPE),
            rescale_intercept: self.number(tags::RESCALE_INTERCEPT),
            rescale_type: self.text(tags::RESCALE_TYPE),
            modality_lut: self.walk.find(tags::MODALITY_LUT_SEQUENCE).is_some(),
            lossy: self.text(tags::LOSSY_IMAGE_COMPRESSION) == "01" || fragment.is_some_and(codestream_is_lossy),
            frames: Vec::new(),
            pixels: self.pixel_format(),
            content_sha256: None,
        }
    }

    /// Free text, or (Enhanced CT) a sequence whose presence says that there was an agent.
    fn contrast_agent(&self) -> String {
        let text = self.text(tags::CONTRAST_BOLUS_AGENT);
        let coded = self.walk.find(tags::CONTRAST_BOLUS_AGENT_SEQUENCE).is_some_and(|e| !e.value.is_empty());
        if text.is_empty() && coded { "coded".into() } else { text }
    }

    fn pixel_format(&self) -> PixelFormat {
        let mut format = PixelFormat {
            rows: self.u16(tags::ROWS).unwrap_or(0),
            columns: self.u16(tags::COLUMNS).unwrap_or(0),
            frames: self.integer(tags::NUMBER_OF_FRAMES).and_then(|n| n.try_into().ok()).unwrap_or(1),
            samples: self.u16(tags::SAMPLES_PER_PIXEL).unwrap_or(0),
            photometric: self.text(tags::PHOTOMETRIC_INTERPRETATION),
            bits_allocated: self.u16(tags::BITS_ALLOCATED).unwrap_or(0),
            bits_stored: self.u16(tags::BITS_STORED).unwrap_or(0),
            high_bit: self.u16(tags::HIGH_BIT).unwrap_or(0),
            signed: self.u16(tags::PIXEL_REPRESENTATION) == Some(1),
            padding: self.u16(tags::PIXEL_PADDING_VALUE),
            padding_limit: self.u16(tags::PIXEL_PADDING_RANGE_LIMIT),
            present: self.walk.pixels.is_some(),
            short: false,
        };
        if let Some(PixelSpan::Native(range)) = &self.walk.pixels {
            let pixels = u64::from(format.rows) * u64::from(format.columns) * u64::from(format.samples);
            let bits = pixels.saturating_mul(u64::from(format.bits_allocated)).saturating_mul(u64::from(format.frames));
            format.short = (range.len() as u64) < bits / 8;
        }
        format
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn shared(path: &str) -> PathBuf {
        let root = std::env::var_os("METWATCH_TEST_DATA").map_or("../shared/data".into(), PathBuf::from);
        let file = root.join(path);
        assert!(file.exists(), "{} is missing: set METWATCH_TEST_DATA to the shared data folder", file.display());
        file
    }

    fn read(path: &str) -> Vec<u8> {
        std::fs::read(shared(path)).unwrap()
    }

    #[test]
    fn a_ct_slice_is_read_completely() {
        let h = parse_header(&read("crlm_ct/CRLM-CT-1004/1-01.dcm")).unwrap();
        assert_eq!((h.modality.as_str(), h.patient_position.as_str(), h.kernel.as_str()), ("CT", "FFS", "STANDARD"));
        assert_eq!(h.position_mm, Some([-198.199997, -204.0, -175.0]));
        assert_eq!(h.row_cosines, Some([1.0, 0.0, 0.0]));
        assert_eq!(h.pixel_spacing_mm, Some([0.796875, 0.796875]));
        assert_eq!((h.rescale_slope, h.rescale_intercept), (Some(1.0), Some(-1024.0)));
        assert_eq!(
            (h.pixels.rows, h.pixels.bits_stored, h.pixels.signed, h.pixels.padding),
            (512, 16, true, Some((-2000i16) as u16))
        );
        assert!(!format!("{h:?}").contains("CRLM-CT-1004"), "Debug shows the patient");
    }

    #[test]
    fn files_without_preamble_or_meta_are_read_or_refused_by_name() {
        for (file, modality) in [
            ("no_meta_group_length.dcm", ""),
            ("MR_small_implicit.dcm", "MR"),
            ("MR_small_padded.dcm", "MR"),
            ("ExplVR_LitEndNoMeta.dcm", "RTPLAN"),
            ("image_dfl.dcm", "OT"),
        ] {
            let header = parse_header(&read(&format!("pydicom/{file}"))).unwrap_or_else(|e| panic!("{file}: {e}"));
            assert_eq!(header.modality, modality, "{file}");
        }
        for file in ["README.md", "no_meta.dcm", "meta_missing_tsyntax.dcm"] {
            assert_eq!(parse_header(&read(&format!("pydicom/{file}"))), Err(DicomError::NotDicom), "{file}");
        }
        assert_eq!(parse_header(b""), Err(DicomError::NotDicom));
        assert!(matches!(parse_header(&read("pydicom/MR_truncated.dcm")), Err(DicomError::Truncated { .. })));
    }

    /// Truncations and random mutations of the whole corpus: an error or a header, never a panic.
    #[test]
    fn no_bytes_make_the_reader_panic() {
        let mut state = 20260725u64;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize
        };
        let mut files = 0;
        for entry in std::fs::read_dir(shared("pydicom")).unwrap() {
            let path = entry.unwrap().path();
            if !path.is_file() {
                continue;
            }
            let original = std::fs::read(&path).unwrap();
            let original = &original[..original.len().min(20_000)];
            files += 1;
            let _ = parse_header(original);
            for _ in 0..200 {
                let mut bytes = original.to_vec();
                for _ in 0..1 + random() % 8 {
                    let at = random() % bytes.len().max(1);
                    let value = [0, 0xFF, 0x7F, 0x80, random() as u8][random() % 5];
                    bytes.get_mut(at).into_iter().for_each(|b| *b = value);
                }
                bytes.truncate(random() % (bytes.len() + 1));
                let _ = parse_header(&bytes);
            }
        }
        assert!(files > 50, "the corpus has only {files} files");
    }
}
