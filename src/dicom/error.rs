//! Why bytes are not an object that this box can use.

use crate::Explain;

/// Why an object was refused before anything of it was believed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DicomError {
    /// No Part 10 header and no data set that looks like one.
    #[error("not DICOM: neither a Part 10 header nor a data set was found")]
    NotDicom,
    /// A length points behind the end of the bytes or of its item.
    #[error("the object is cut short or damaged: at byte {at} an element claims {claimed} bytes, {left} are left")]
    Truncated {
        /// Offset in the data set.
        at: usize,
        /// Bytes claimed by the length field (or needed for a header).
        claimed: u64,
        /// Bytes that are there.
        left: usize,
    },
    /// Sequences inside sequences beyond the limit.
    #[error("sequences are nested more than {limit} deep, as no scanner does it")]
    Nesting {
        /// The limit.
        limit: usize,
    },
    /// More elements than any real object has.
    #[error("the object has more than {limit} elements")]
    TooManyElements {
        /// The limit.
        limit: usize,
    },
    /// The object, or what it would unpack to, is larger than the box takes.
    #[error("the object is larger than {limit_mb} MB, or its header is")]
    TooLarge {
        /// The limit in MiB.
        limit_mb: usize,
    },
    /// Rows x Columns x frames x bits is far more than the bytes could hold.
    #[error("the image claims {claimed} bytes of pixels, but the object has only {size}")]
    Implausible {
        /// Bytes that the image would unpack to.
        claimed: u64,
        /// Bytes of the object.
        size: usize,
    },
    /// Delimiters or tags where none may be.
    #[error("the object is damaged at byte {at}: {what}")]
    Malformed {
        /// Offset in the data set.
        at: usize,
        /// What stood there.
        what: &'static str,
    },
    /// A transfer syntax that this box does not know.
    #[error("the transfer syntax {0} is not known here")]
    TransferSyntax(String),
    /// A file that the system does not give.
    #[error("the file could not be read: {0}")]
    Unreadable(std::io::ErrorKind),
    /// A deflated data set that does not inflate.
    #[error("the deflated data set does not inflate")]
    Deflate,
}

impl Explain for DicomError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotDicom => "dicom.not-dicom",
            Self::Truncated { .. } => "dicom.truncated",
            Self::Nesting { .. } => "dicom.nesting",
            Self::TooManyElements { .. } => "dicom.too-many-elements",
            Self::TooLarge { .. } => "dicom.too-large",
            Self::Implausible { .. } => "dicom.implausible-size",
            Self::Malformed { .. } => "dicom.malformed",
            Self::TransferSyntax(_) => "dicom.transfer-syntax",
            Self::Unreadable(_) => "dicom.unreadable",
            Self::Deflate => "dicom.deflate",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::NotDicom => "give DICOM files, as the scanner or the archive exports them",
            Self::Truncated { .. } | Self::Malformed { .. } | Self::Deflate => "send or export the object again",
            Self::Nesting { .. } | Self::TooManyElements { .. } | Self::TooLarge { .. } | Self::Implausible { .. } => {
                "look at the object on the sender: it is damaged, or no CT slice"
            }
            Self::Unreadable(_) => "check the path and that you may read it",
            Self::TransferSyntax(_) => "have the sender use explicit VR little endian",
        }
    }
}
