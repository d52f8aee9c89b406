//! DICOM: objects in (files and C-STORE), one series to one CT volume with a verdict, objects out (SEG, phantom CT, C-STORE).
//!
//! Bytes pass [`walker`] (every length is checked before anything is believed) and become a [`Header`]; [`serve`] receives
//! objects and hands each to a [`Sink`] that makes it durable before the sender hears "success". [`plan_series`] decides what a
//! set of headers is: a [`SeriesPlan`] with notes and refusals, or a [`SeriesError`] when no volume can be made of it;
//! [`assemble_volume`] decodes the planned slices into a [`crate::volume::Volume`]. [`write_seg`] turns a label map into a DICOM
//! SEG that points back at the slices, [`phantom_series`] a volume into CT objects, [`send`] delivers files to another node.
//! A [`Report`] becomes a structured report ([`write_sr`]), a page ([`write_page`]) and, with pictures, objects that every
//! viewer shows ([`write_captures`], [`write_document`]); [`write_directory`] lists files on media.
//! [`read_seg`] and [`read_structures`] with [`rasterize`] turn what others drew into masks on the grid of a volume.
//!
//! **Invariant:** nothing from outside is parsed, decoded or stored before its lengths were walked; no identifier is printed.
#![expect(
    clippy::disallowed_methods,
    reason = "edge: this room owns the DICOM sockets, their threads and deadlines, the header scan and the decoder processes"
)]

mod ae;
mod apart;
mod assemble;
mod captures;
mod choose;
mod commitment;
mod config;
mod conformance;
mod data_set;
mod dimse;
mod directory;
mod error;
mod frames;
mod header;
mod identifier;
mod implicit;
mod items;
mod jpeg_ls;
mod judge;
mod link;
mod mask_error;
mod negotiate;
mod page;
mod part10;
mod pdf;
mod peer;
mod pixels;
mod receive;
mod report;
mod rle;
mod rtstruct;
mod rules;
mod scan;
mod seg;
mod seg_read;
mod send;
mod series;
mod series_error;
mod sink;
mod source;
mod sr;
mod sr_codes;
mod sr_items;
mod stream;
mod talk;
mod tls;
pub mod walker;
mod write;

pub use ae::{AeTitle, AeTitleError};
pub use apart::{DECODE_COMMAND, Decoder, decode_frames};
pub use assemble::{Assembled, assemble_volume, leave_out};
pub use captures::{write_captures, write_document};
pub use choose::{Candidate, Choice, choose_series};
pub use commitment::{CommitReport, CommitRequest, Reference, failure_meaning};
pub use config::{Caller, Config, Destination, Durability, ObjectKind, ResultGroup};
pub use conformance::conformance_statement;
pub use dimse::status;
pub use directory::{DirectoryEntry, write_directory};
pub use error::DicomError;
pub use frames::Frame;
pub use header::{Header, Object, Patient, PixelFormat, parse_header, parse_object};
pub use identifier::{Identifier, derive_uid};
pub use judge::{Judgment, RULES, Rule, RuleOutcome, RuleState, Verdict, judge_series};
pub use mask_error::MaskError;
pub use page::write_page;
pub use peer::{SendError, Target, echo};
pub use pixels::{PixelFault, stored_values};
pub use receive::{Door, ServeError, serve};
pub use report::{
    ContributionReport, DeviceReport, FeatureReport, PackageReport, Picture, RegionReport, RemarkReport, Report,
    ResultError, ResultInfo, RiskReport,
};
pub use rtstruct::{Contour, Structure, rasterize, read_structures};
pub use rules::{ChooseRule, Pattern, Phase, SeriesRules};
pub use scan::{find_files, scan_headers};
pub use seg::{SegError, SegInfo, write_seg};
pub use seg_read::{Segment, read_seg};
pub use send::{CommitAnswer, Delivery, commit, report_commitment, send};
pub use series::{Note, PlannedSlice, SeriesPlan, plan_series};
pub use series_error::SeriesError;
pub use sink::{AssociationEnd, Commitment, HowEnded, Received, Recorded, Rejection, Sink, StoreFailure};
pub use source::ObjectFile;
pub use sr::write_sr;
pub use tls::{ClientCertificate, Tls, TlsConfig, TlsError};
pub use write::{PatientInfo, phantom_series};

/// Transfer syntaxes, by UID (PS3.5 annex A).
pub mod syntax {
    /// Implicit VR little endian.
    pub const IMPLICIT_LE: &str = "1.2.840.10008.1.2";
    /// Explicit VR little endian.
    pub const EXPLICIT_LE: &str = "1.2.840.10008.1.2.1";
    /// Deflated explicit VR little endian.
    pub const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
    /// Explicit VR big endian (retired; files are read, objects in it are not accepted).
    pub const EXPLICIT_BE: &str = "1.2.840.10008.1.2.2";
    /// JPEG lossless, process 14.
    pub const JPEG_LOSSLESS: &str = "1.2.840.10008.1.2.4.57";
    /// JPEG lossless, process 14, selection value 1.
    pub const JPEG_LOSSLESS_SV1: &str = "1.2.840.10008.1.2.4.70";
    /// JPEG-LS, lossless.
    pub const JPEG_LS_LOSSLESS: &str = "1.2.840.10008.1.2.4.80";
    /// RLE lossless.
    pub const RLE: &str = "1.2.840.10008.1.2.5";
    /// JPEG 2000, lossless only.
    pub const J2K_LOSSLESS: &str = "1.2.840.10008.1.2.4.90";
    /// JPEG 2000 (lossless or not: Lossy Image Compression tells).
    pub const J2K: &str = "1.2.840.10008.1.2.4.91";
    /// Deflated image frames (segmentations; not accepted for images).
    pub const DEFLATED_FRAMES: &str = "1.2.840.10008.1.2.8.1";
    /// High-throughput JPEG 2000, lossless only.
    pub const HTJ2K_LOSSLESS: &str = "1.2.840.10008.1.2.4.201";
    /// High-throughput JPEG 2000 with RPCL order, lossless only.
    pub const HTJ2K_RPCL: &str = "1.2.840.10008.1.2.4.202";

    /// For commands without objects: commitment and verification.
    pub const PLAIN: [&str; 2] = [EXPLICIT_LE, IMPLICIT_LE];

    /// What the receiver accepts and the decoder decodes, in order of preference: cheapest to decode first.
    pub const ACCEPTED: [&str; 11] = [
        EXPLICIT_LE,
        IMPLICIT_LE,
        RLE,
        JPEG_LOSSLESS_SV1,
        JPEG_LOSSLESS,
        JPEG_LS_LOSSLESS,
        HTJ2K_LOSSLESS,
        HTJ2K_RPCL,
        J2K_LOSSLESS,
        J2K,
        DEFLATED,
    ];

    /// Whether pixels of files in a transfer syntax are read: what is accepted, and the retired big endian syntax.
    pub fn is_decoded(uid: &str) -> bool {
        ACCEPTED.contains(&uid) || uid == EXPLICIT_BE
    }
}

/// SOP classes, by UID (PS3.4 annex B).
pub mod sop_class {
    /// Verification (C-ECHO).
    pub const VERIFICATION: &str = "1.2.840.10008.1.1";
    /// Storage Commitment Push Model.
    pub const STORAGE_COMMITMENT: &str = "1.2.840.10008.1.20.1";
    /// The one instance of Storage Commitment Push Model.
    pub const STORAGE_COMMITMENT_INSTANCE: &str = "1.2.840.10008.1.20.1.1";
    /// CT Image Storage.
    pub const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
    /// Enhanced CT Image Storage.
    pub const ENHANCED_CT: &str = "1.2.840.10008.5.1.4.1.1.2.1";
    /// RT Structure Set Storage.
    pub const RT_STRUCTURE_SET: &str = "1.2.840.10008.5.1.4.1.1.481.3";
    /// Segmentation Storage.
    pub const SEGMENTATION: &str = "1.2.840.10008.5.1.4.1.1.66.4";
    /// Comprehensive 3D SR Storage.
    pub const COMPREHENSIVE_3D_SR: &str = "1.2.840.10008.5.1.4.1.1.88.34";
    /// Secondary Capture Image Storage.
    pub const SECONDARY_CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7";
    /// Encapsulated PDF Storage.
    pub const ENCAPSULATED_PDF: &str = "1.2.840.10008.5.1.4.1.1.104.1";
    /// Media Storage Directory (DICOMDIR).
    pub const DIRECTORY: &str = "1.2.840.10008.1.3.10";
    /// Label Map Segmentation Storage.
    pub const LABEL_MAP_SEGMENTATION: &str = "1.2.840.10008.5.1.4.1.1.66.7";
    /// What is analysed: UID, name.
    pub const ANALYSED: [(&str, &str); 2] = [(CT, "CT Image Storage"), (ENHANCED_CT, "Enhanced CT Image Storage")];
    /// Every storage SOP class of the standard begins so.
    pub const STORAGE_PREFIX: &str = "1.2.840.10008.5.1.4.1.1.";
}
