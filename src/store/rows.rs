//! The rows of the store, each versioned in its name. None prints a patient identifier: not in `Debug`, not in a log.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A patient's identifier or accession number. `Debug` prints a short hash, so that a log can tell two apart and name neither.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identifier(String);

impl Identifier {
    /// The identifier itself, for matching and for what a site configured to be shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Identifier {
    fn from(text: T) -> Self {
        Identifier(text.into())
    }
}

impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            f.write_str("#none")
        } else {
            write!(f, "#{}", &super::sha256_hex(self.0.as_bytes())[..8])
        }
    }
}

/// A file of the spool: complete and synced before any row names it, never changed afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolFile {
    /// Below the store's directory, such as `spool/S000001/labels-1f2e3d4c.nii.gz`.
    pub path: String,
    /// SHA-256 of the bytes, lower case hex.
    pub sha256: String,
    /// Length in bytes.
    pub length: u64,
}

/// Where a study is in its life (architecture.md, "A study's life").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum StateV1 {
    /// Objects arrive.
    Receiving,
    /// The series was quiet long enough and made a volume.
    Assembled,
    /// The label map is there.
    Segmented,
    /// The features are there.
    Measured,
    /// The assessment is there, and its messages are in the outbox.
    Scored,
    /// All messages have their receipts.
    Delivered,
    /// Not a study for this box, or refused by a gate; announced like a result.
    Rejected {
        /// Stable code, such as `series.missing-slice`.
        code: String,
        /// What happened and what it means.
        sentence: String,
        /// What to do.
        advice: String,
    },
    /// The box could not do its work; announced like a result.
    Failed {
        /// Stable code.
        code: String,
        /// What happened and what it means.
        sentence: String,
        /// How often it was tried.
        attempts: u32,
    },
}

impl StateV1 {
    /// The state's name, as in `study list` and in status files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Receiving => "receiving",
            Self::Assembled => "assembled",
            Self::Segmented => "segmented",
            Self::Measured => "measured",
            Self::Scored => "scored",
            Self::Delivered => "delivered",
            Self::Rejected { .. } => "rejected",
            Self::Failed { .. } => "failed",
        }
    }

    /// Nothing more happens unless another object or a person asks for it.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Delivered | Self::Rejected { .. } | Self::Failed { .. })
    }
}

/// Ids of the packages that made a result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackagesV1 {
    /// Id and version of the segmenter, empty while none has run.
    pub segmenter: String,
    /// Id and version of the nomogram, empty while none has run.
    pub nomogram: String,
}

/// An earlier result of a study, or the whole of an earlier revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryV1 {
    /// The revision that ended or was scored again.
    pub revision: u32,
    /// Its state then.
    pub state: StateV1,
    /// Its result then, JSON; filled in when the study is read.
    #[serde(skip)]
    pub result_json: Option<String>,
    /// Its artifacts then.
    pub artifacts: BTreeMap<String, SpoolFile>,
    /// When it became history, unix ms UTC.
    pub ended_at_ms: i64,
    pub(super) result: Option<u32>,
}

/// One series on its way through the box.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StudyV1 {
    /// The box-local number, such as `S000001`.
    pub number: String,
    /// 1, and one more each time an object arrives after the study left `Receiving`.
    pub revision: u32,
    /// Grows with every change of this row: what [`super::Store::transition`] compares.
    pub serial: u64,
    /// Where the study is.
    pub state: StateV1,
    /// Study Instance UID.
    pub study_uid: String,
    /// Series Instance UID; one series makes one study here.
    pub series_uid: String,
    /// Patient ID (0010,0020).
    pub patient_id: Identifier,
    /// Accession Number (0008,0050).
    pub accession: Option<Identifier>,
    /// Series description as the scanner wrote it.
    pub description: String,
    /// Objects received for this series.
    pub n_objects: u32,
    /// When the first object came, unix ms UTC.
    pub first_received_ms: i64,
    /// When the last new object came, unix ms UTC.
    pub last_received_ms: i64,
    /// When this row changed last, unix ms UTC.
    pub changed_ms: i64,
    /// Attempts at the present step; [`StudyChange::attempts`] sets it.
    pub attempts: u32,
    /// The packages that made the present result.
    pub packages: PackagesV1,
    /// Files of the present revision by name, such as `labels.nii.gz`.
    pub artifacts: BTreeMap<String, SpoolFile>,
    /// The present result, JSON; filled in when the study is read.
    #[serde(skip)]
    pub result_json: Option<String>,
    /// Earlier results, oldest first.
    pub history: Vec<HistoryV1>,
    pub(super) result: Option<u32>,
    pub(super) n_results: u32,
}

impl fmt::Debug for StudyV1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StudyV1")
            .field("number", &self.number)
            .field("revision", &self.revision)
            .field("serial", &self.serial)
            .field("state", &self.state.name())
            .field("patient_id", &self.patient_id)
            .field("n_objects", &self.n_objects)
            .finish_non_exhaustive()
    }
}

/// What a transition sets. What is `None` or empty stays as it is.
#[derive(Clone)]
pub struct StudyChange {
    /// The new state.
    pub state: StateV1,
    /// The new count of attempts; without it a change of state starts again at 0.
    pub attempts: Option<u32>,
    /// The packages that made the result.
    pub packages: Option<PackagesV1>,
    /// Added or replaced by name.
    pub artifacts: BTreeMap<String, SpoolFile>,
    /// A new result, JSON; the one before goes into the history.
    pub result_json: Option<String>,
    /// Whether the next revision begins: everything that the study has, result and files, goes into the history first.
    pub next_revision: bool,
}

impl StudyChange {
    /// Only the state.
    pub fn to(state: StateV1) -> Self {
        StudyChange {
            state,
            attempts: None,
            packages: None,
            artifacts: BTreeMap::new(),
            result_json: None,
            next_revision: false,
        }
    }
}

/// A DICOM object as it was received.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectV1 {
    /// SOP Instance UID.
    pub sop_uid: String,
    /// The patient of this object: two patients in one series are the series rules' business.
    pub patient_id: Identifier,
    /// Facts of its header as the receiver wrote them, JSON.
    pub header_json: String,
    /// Its bytes.
    pub file: SpoolFile,
    /// When it came, unix ms UTC.
    pub received_ms: i64,
}

impl fmt::Debug for ObjectV1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectV1")
            .field("patient_id", &self.patient_id)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// A DICOM object to be kept.
#[derive(Clone)]
pub struct NewObject<'a> {
    /// Study Instance UID.
    pub study_uid: &'a str,
    /// Series Instance UID.
    pub series_uid: &'a str,
    /// SOP Instance UID.
    pub sop_uid: &'a str,
    /// Patient ID (0010,0020).
    pub patient_id: &'a str,
    /// Accession Number (0008,0050).
    pub accession: Option<&'a str>,
    /// Series description.
    pub description: &'a str,
    /// Facts of the header, JSON (at most 16 KiB): the store does not read them.
    pub header_json: &'a str,
    /// The object as it shall be kept.
    pub bytes: &'a [u8],
}

/// An object whose file is written but neither synced nor named by a row: [`super::Store::put_staged`] does both.
pub struct StagedObject {
    pub(super) number: String,
    pub(super) key: Vec<u8>,
    pub(super) object: ObjectV1,
    pub(super) study_uid: String,
    pub(super) series_uid: String,
    pub(super) accession: Option<String>,
    pub(super) description: String,
}

impl StagedObject {
    /// Series Instance UID.
    pub fn series_uid(&self) -> &str {
        &self.series_uid
    }

    /// Length of its file, bytes.
    pub fn length(&self) -> u64 {
        self.object.file.length
    }
}

/// What became of an object that was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutObject {
    /// Kept, durably.
    New {
        /// The study's number.
        study: String,
    },
    /// The same bytes were here already.
    SameAgain {
        /// The study's number.
        study: String,
    },
    /// Other bytes under the same SOP Instance UID were here already; those stay, these were not kept, and the audit says so.
    Altered {
        /// The study's number.
        study: String,
    },
}

impl PutObject {
    /// The number of the study that the object belongs to.
    pub fn study(&self) -> &str {
        match self {
            Self::New { study } | Self::SameAgain { study } | Self::Altered { study } => study,
        }
    }
}

/// What leaves the box through the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutboxKind {
    /// An alert: only a station or its expiry ends it.
    Alert,
    /// A result.
    Result,
    /// An event: not analysed, degraded, update.
    Event,
    /// A DICOM object to another node, whose AE title is the topic; the object is the file.
    DicomSend,
    /// The answer to a request for storage commitment, to the node whose AE title is the topic; the report is the file.
    CommitReport,
}

impl OutboxKind {
    /// Whether it leaves over DICOM; all others leave over MQTT.
    pub fn is_dicom(self) -> bool {
        matches!(self, Self::DicomSend | Self::CommitReport)
    }
}

/// How far a message has come. Open: `Queued`, `BrokerAcked`, `Escalated`, `Committing` and `Parked`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum OutboxState {
    /// To be sent (again).
    Queued,
    /// The broker has it; an alert still waits for a station.
    BrokerAcked {
        /// Unix ms UTC.
        at_ms: i64,
    },
    /// A station acknowledged the alert: ended.
    StationAcked {
        /// The station's name.
        by: String,
        /// Unix ms UTC.
        at_ms: i64,
    },
    /// The receipt of a result, an event or a DICOM object is there: ended. Never for an alert.
    Delivered {
        /// Unix ms UTC.
        at_ms: i64,
    },
    /// No station answered in time and the other channel was used; still open.
    Escalated {
        /// Unix ms UTC.
        at_ms: i64,
    },
    /// The other node has the object and was asked to keep it safe; open until it reports.
    Committing {
        /// Transaction UID of the request.
        transaction: String,
        /// When it was asked, unix ms UTC.
        at_ms: i64,
    },
    /// Trying again is of no use before a person has done something; open until somebody retries it or gives it up.
    Parked {
        /// Why, for a person.
        reason: String,
        /// Unix ms UTC.
        at_ms: i64,
    },
    /// Its validity ended, or a person gave it up: ended.
    Expired {
        /// Unix ms UTC.
        at_ms: i64,
    },
}

impl OutboxState {
    /// Still somebody's work.
    pub fn is_open(&self) -> bool {
        matches!(
            self,
            Self::Queued
                | Self::BrokerAcked { .. }
                | Self::Escalated { .. }
                | Self::Committing { .. }
                | Self::Parked { .. }
        )
    }

    /// The state's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::BrokerAcked { .. } => "broker-acked",
            Self::StationAcked { .. } => "station-acked",
            Self::Delivered { .. } => "delivered",
            Self::Escalated { .. } => "escalated",
            Self::Committing { .. } => "committing",
            Self::Parked { .. } => "parked",
            Self::Expired { .. } => "expired",
        }
    }
}

/// A message to be sent. The same id with the same content again is no second message.
#[derive(Clone)]
pub struct NewOutbox {
    /// Stable message id, see [`super::message_id`].
    pub id: String,
    /// What it is.
    pub kind: OutboxKind,
    /// Suffix of the topic below `metwatch/{site}/{box}/`, such as `alert/<id>`.
    pub topic: String,
    /// JSON, at most 16 KiB.
    pub payload: String,
    /// The study it speaks of.
    pub study: Option<String>,
    /// End of its validity, unix ms UTC.
    pub expires_at_ms: Option<i64>,
    /// A file of the spool that belongs to it; kept as long as the message is open.
    pub file: Option<SpoolFile>,
}

/// A message in the outbox.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxV1 {
    /// Stable message id, hex.
    pub id: String,
    /// Place in the queue: grows with every message.
    pub sequence: u64,
    /// What it is.
    pub kind: OutboxKind,
    /// Suffix of the topic below `metwatch/{site}/{box}/`.
    pub topic: String,
    /// JSON.
    pub payload: String,
    /// The study it speaks of.
    pub study: Option<String>,
    /// When it was put here, unix ms UTC.
    pub created_at_ms: i64,
    /// End of its validity, unix ms UTC.
    pub expires_at_ms: Option<i64>,
    /// A file of the spool that belongs to it.
    #[serde(default)]
    pub file: Option<SpoolFile>,
    /// Why it was not delivered when it was tried last.
    #[serde(default)]
    pub failure: Option<String>,
    /// When a person had it sent again, unix ms UTC.
    #[serde(default)]
    pub retried_at_ms: Option<i64>,
    /// How often it was handed to the sender, see [`super::Store::outbox_attempt`].
    pub attempts: u32,
    /// How far it has come.
    pub state: OutboxState,
}

impl fmt::Debug for OutboxV1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxV1")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("study", &self.study)
            .field("attempts", &self.attempts)
            .field("state", &self.state.name())
            .finish_non_exhaustive()
    }
}

/// Clinical values of a patient, as one revision of them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClinicalV1 {
    /// 1 for the first values of the patient.
    pub revision: u32,
    /// The values, JSON.
    pub json: String,
    /// Where they came from, such as `file` or `hl7`.
    pub source: String,
    /// When they came, unix ms UTC.
    pub received_ms: i64,
}

impl fmt::Debug for ClinicalV1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClinicalV1")
            .field("revision", &self.revision)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// What the audit shall say of a change. No patient data: the study's number is the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditNote {
    /// Who: a user, or a room such as `service`.
    pub actor: String,
    /// What, such as `study.scored`.
    pub action: String,
    /// More, for a person.
    pub detail: String,
}

impl AuditNote {
    /// A note without detail.
    pub fn new(actor: &str, action: &str) -> Self {
        AuditNote { actor: actor.into(), action: action.into(), detail: String::new() }
    }

    /// The same with a detail.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}

/// A link of the audit chain. `hash` = SHA-256 of the row as JSON with an empty `hash`; `previous` is the hash before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditV1 {
    /// 0 for the first.
    pub index: u64,
    /// Unix ms UTC.
    pub at_ms: i64,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// The study concerned.
    pub study: Option<String>,
    /// More, for a person.
    pub detail: String,
    /// Hash of the link before, 64 zeros for the first.
    pub previous: String,
    /// Hash of this link.
    pub hash: String,
}
