//! What the results of a study say, in plain values: the input of the structured report, the page and the pictures.

use super::{DicomError, Header};
use crate::Explain;
use crate::risk::ClinicalKey;
use crate::volume::Region;

/// The results of one study. Nothing in it names the patient: that comes from the headers of the source.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// When the result was computed, RFC 3339, UTC.
    pub created_at: String,
    /// Box-local study number; empty outside the service.
    pub study: String,
    /// 1, or more when slices or clinical values came later.
    pub revision: u32,
    /// What computed it.
    pub device: DeviceReport,
    /// Every region that the segmenter looked for, found or not.
    pub regions: Vec<RegionReport>,
    /// The risk, where one may be given.
    pub risk: Option<RiskReport>,
    /// Why no risk is given; empty when there is one.
    pub reasons: Vec<RemarkReport>,
    /// Remarks on quality that belong to the result.
    pub notes: Vec<RemarkReport>,
    /// Clinical values that were known, as numbers: in the unit of the key's name, yes is 1, no is 0.
    pub known: Vec<(ClinicalKey, f64)>,
    /// Clinical values that nobody has told yet.
    pub missing: Vec<ClinicalKey>,
    /// The network.
    pub segmenter: PackageReport,
    /// The nomogram.
    pub nomogram: PackageReport,
    /// SHA-256 of the radiomics settings, in hexadecimal.
    pub radiomics_settings_sha256: String,
    /// What computed it: backend, arithmetic, instruction sets.
    pub backend: String,
}

/// The device, as its label has it.
#[derive(Debug, Clone)]
pub struct DeviceReport {
    /// Manufacturer.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// Serial number.
    pub serial_number: String,
    /// Version of the program.
    pub software: String,
}

impl Default for DeviceReport {
    fn default() -> Self {
        Self {
            manufacturer: "metwatch".into(),
            model: "metwatch".into(),
            serial_number: "0".into(),
            software: env!("CARGO_PKG_VERSION").into(),
        }
    }
}

/// One region.
#[derive(Debug, Clone)]
pub struct RegionReport {
    /// Which.
    pub region: Region,
    /// Its SNOMED CT code in the segmenter's scheme.
    pub snomed: String,
    /// Number of voxels; 0 when the region was not found.
    pub n_voxels: usize,
    /// Volume, mL.
    pub volume_ml: f64,
    /// Color of its outline in the pictures.
    pub color: [u8; 3],
    /// Its radiomics features; empty where none were computed.
    pub features: Vec<FeatureReport>,
}

/// One radiomics feature of a region.
#[derive(Debug, Clone)]
pub struct FeatureReport {
    /// As PyRadiomics writes it: `original_glcm_JointEntropy`.
    pub name: String,
    /// The value; NaN where it is undefined.
    pub value: f64,
    /// Unit, empty for a pure number; `I` stands for the unit of the image.
    pub unit: String,
    /// Code of the Image Biomarker Standardisation Initiative, where the definitions agree.
    pub ibsi: Option<String>,
}

/// The risk and how it came about.
#[derive(Debug, Clone, Default)]
pub struct RiskReport {
    /// Probability of the event within the horizon, 0 to 1.
    pub probability: f64,
    /// Log odds of it, or the log hazard of a Cox package.
    pub linear_predictor: f64,
    /// Nomogram points.
    pub points: f64,
    /// Points of a patient at the worse end of every axis.
    pub points_max: f64,
    /// `low`, `intermediate` or `high`.
    pub group: String,
    /// Which variant of the nomogram.
    pub variant: String,
    /// `provisional` or `final`.
    pub certainty: String,
    /// Probabilities from which on the risk is intermediate and high, where they are known.
    pub cut_offs: Option<[f64; 2]>,
    /// Months to which `probability` refers.
    pub horizon_months: u32,
    /// (month, probability of being free of metastasis).
    pub survival: Vec<(u32, f64)>,
    /// What each predictor adds, the strongest first.
    pub contributions: Vec<ContributionReport>,
}

/// What one predictor adds.
#[derive(Debug, Clone)]
pub struct ContributionReport {
    /// As the nomogram names it.
    pub predictor: String,
    /// The same for people.
    pub label: String,
    /// Its value, with unit.
    pub value: String,
    /// Shapley value, in the unit of the linear predictor.
    pub log_odds: f64,
}

/// A reason or a note.
#[derive(Debug, Clone, Default)]
pub struct RemarkReport {
    /// Stable code.
    pub code: String,
    /// What was found.
    pub sentence: String,
    /// What to do; empty where nothing can be done.
    pub advice: String,
}

/// A model package.
#[derive(Debug, Clone, Default)]
pub struct PackageReport {
    /// Package id.
    pub id: String,
    /// Version.
    pub version: String,
    /// SHA-256 of its manifest, in hexadecimal.
    pub sha256: String,
}

/// What every result object is made from.
#[derive(Debug, Clone, Copy)]
pub struct ResultInfo<'a> {
    /// Headers of the slices that were analyzed; not empty.
    pub source: &'a [&'a Header],
    /// What to say.
    pub report: &'a Report,
    /// Series Number of the new series.
    pub series_number: u32,
    /// What makes the new UIDs unique, such as study number and revision, or random bytes.
    pub uid_seed: &'a [u8],
}

/// A picture to show, 8 bits per channel.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    /// What it shows, for people.
    pub title: String,
    /// Patient Orientation (0020,0020) of its rows and columns, such as `L\\P`; empty where it is unknown.
    pub patient_orientation: &'static str,
    /// Which slice of the source it shows; `None` for a plane across the slices.
    pub slice: Option<usize>,
    /// Width, pixels.
    pub width: u16,
    /// Height, pixels.
    pub height: u16,
    /// Row by row, R, G, B; `3 * width * height` bytes.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// A picture from PNG bytes in RGB, 8 bits.
    pub fn from_png(title: &str, png: &[u8]) -> Result<Picture, ResultError> {
        let bad = || ResultError::Picture { title: title.into() };
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().map_err(|_| bad())?;
        let size = reader.output_buffer_size().filter(|n| *n <= PICTURE_BYTES_MAX).ok_or_else(bad)?;
        let mut rgb = vec![0; size];
        let frame = reader.next_frame(&mut rgb).map_err(|_| bad())?;
        if (frame.color_type, frame.bit_depth) != (png::ColorType::Rgb, png::BitDepth::Eight) {
            return Err(bad());
        }
        rgb.truncate(frame.buffer_size());
        let sides = (u16::try_from(frame.width), u16::try_from(frame.height));
        let (Ok(width), Ok(height)) = sides else { return Err(bad()) };
        Ok(Picture { title: title.into(), width, height, rgb, ..Picture::default() })
    }

    /// Refuses a picture whose bytes are not its size.
    pub(super) fn check(&self) -> Result<(), ResultError> {
        let bytes = 3 * usize::from(self.width) * usize::from(self.height);
        let fits = bytes > 0 && bytes <= PICTURE_BYTES_MAX && self.rgb.len() == bytes;
        if fits { Ok(()) } else { Err(ResultError::Picture { title: self.title.clone() }) }
    }
}

/// Largest picture.
const PICTURE_BYTES_MAX: usize = 64 << 20;

/// Why a result object was not written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ResultError {
    /// No header of a source.
    #[error("a result needs the headers of the slices it was made from, and there are none")]
    NoSource,
    /// The segmentation object does not have a region that the report measures.
    #[error("the segmentation object has no segment for {}, which the report measures", region.name())]
    NoSegment {
        /// Which region.
        region: Region,
    },
    /// A picture that is not RGB of 8 bits, or whose bytes are not its size.
    #[error("the picture {title} is not RGB with 8 bits a channel")]
    Picture {
        /// Its title.
        title: String,
    },
    /// A document or a directory beyond what one object holds.
    #[error("the result is too large for one DICOM object")]
    TooLarge,
    /// A file ID that media may not carry.
    #[error(
        "the file ID {id} has other than 1 to 8 parts of 1 to 8 capital letters, digits or underscores, or comes twice"
    )]
    FileId {
        /// Which.
        id: String,
    },
    /// An object that cannot be read.
    #[error("an object of the results cannot be read: {0}")]
    Object(#[from] DicomError),
}

impl Explain for ResultError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoSource => "result.no-source",
            Self::NoSegment { .. } => "result.no-segment",
            Self::Picture { .. } => "result.picture",
            Self::TooLarge => "result.too-large",
            Self::FileId { .. } => "result.file-id",
            Self::Object(e) => e.code(),
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::NoSource => "give the headers of the series",
            Self::NoSegment { .. } => "give the segmentation that was written for this revision",
            Self::Picture { .. } => "give PNG pictures in RGB with 8 bits a channel",
            Self::TooLarge => "give fewer or smaller pictures",
            Self::FileId { .. } => "name the files as PS3.10 8.2 asks, such as METWATCH/SR000001",
            Self::Object(e) => e.advice(),
        }
    }
}

/// `2026-01-31T12:34:56.789Z` as YYYYMMDD and HHMMSS; what is not there is empty.
pub(super) fn date_and_time(rfc3339: &str) -> (String, String) {
    let digits: String = rfc3339.chars().filter(char::is_ascii_digit).collect();
    let part = |range: std::ops::Range<usize>| digits.get(range).unwrap_or_default().to_owned();
    (part(0..8), part(8..14))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_read_from_png_and_another_kind_is_refused() {
        let encode = |color, bytes: &[u8]| {
            let mut png = Vec::new();
            let mut encoder = png::Encoder::new(&mut png, 2, 1);
            encoder.set_color(color);
            encoder.write_header().unwrap().write_image_data(bytes).unwrap();
            png
        };
        let picture = Picture::from_png("two", &encode(png::ColorType::Rgb, &[1, 2, 3, 4, 5, 6])).unwrap();
        assert_eq!((picture.width, picture.height, &picture.rgb[..]), (2, 1, &[1, 2, 3, 4, 5, 6][..]));
        assert!(picture.check().is_ok());
        let short = Picture { rgb: vec![0; 5], ..picture };
        let refused = [short.check().unwrap_err(), Picture::from_png("two", b"GIF89a").unwrap_err()];
        let gray = Picture::from_png("two", &encode(png::ColorType::Grayscale, &[1, 2])).unwrap_err();
        assert!(refused.iter().chain([&gray]).all(|e| *e == ResultError::Picture { title: "two".into() }));
    }

    #[test]
    fn a_moment_becomes_date_and_time() {
        assert_eq!(date_and_time("2026-01-31T12:34:56.789Z"), ("20260131".into(), "123456".into()));
        assert_eq!(date_and_time(""), (String::new(), String::new()));
    }
}
