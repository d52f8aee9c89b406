//! What the receiver hands on: objects, refusals, commitment, the ends of associations.

use super::commitment::{CommitReport, CommitRequest};
use super::dimse::status;
use super::{AeTitle, Header, Identifier};
use std::net::SocketAddr;

/// An object as it was received.
#[derive(Debug)]
pub struct Received {
    /// A Part 10 file: file meta group of ours, then the data set's bytes as received.
    pub bytes: Vec<u8>,
    /// Its header. UIDs are valid and agree with the command.
    pub header: Header,
    /// Who sent it.
    pub calling_ae: AeTitle,
    /// Number of the association, unique while the process runs.
    pub association: u64,
}

/// Why the sink could not keep an object; becomes the C-STORE status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFailure {
    /// C-STORE status, such as 0xA700.
    pub status: u16,
    /// One sentence for the sender's log, without patient data.
    pub sentence: String,
}

impl StoreFailure {
    /// No room (0xA700): the sender tries again later.
    pub fn out_of_resources(sentence: impl Into<String>) -> Self {
        Self { status: status::OUT_OF_RESOURCES, sentence: sentence.into() }
    }

    /// A report on a transaction that was never requested (0x0115).
    pub fn unknown_transaction() -> Self {
        Self { status: status::INVALID_ARGUMENT, sentence: "this transaction was not requested from here".into() }
    }

    /// Our own fault (0x0110).
    pub fn processing(sentence: impl Into<String>) -> Self {
        Self { status: status::PROCESSING_FAILURE, sentence: sentence.into() }
    }
}

/// An object or an association that was refused, for a "not analysed" event.
#[derive(Debug, Clone)]
pub struct Rejection {
    /// Stable code, such as `dicom.truncated`.
    pub code: &'static str,
    /// What happened, without patient data.
    pub sentence: String,
    /// Who sent it.
    pub calling_ae: AeTitle,
    /// Its SOP Instance UID as the command named it.
    pub sop_instance_uid: Identifier,
    /// Its series, when that much could be read.
    pub series_instance_uid: Option<Identifier>,
}

/// How an association ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HowEnded {
    /// Released by the sender.
    Released,
    /// Aborted, by whomever, or the connection broke.
    Aborted,
    /// Aborted by us because of a deadline or the minimum rate.
    TimedOut,
    /// Ended by us because the process stops.
    Stopped,
}

/// The end of an association.
#[derive(Debug, Clone)]
pub struct AssociationEnd {
    /// Its number, as in [`Received::association`].
    pub association: u64,
    /// Who had called.
    pub calling_ae: AeTitle,
    /// Series of the objects that were stored over it.
    pub series: Vec<Identifier>,
    /// How it ended.
    pub how: HowEnded,
}

/// A request for storage commitment as it came.
#[derive(Debug, Clone)]
pub struct Commitment {
    /// What shall be kept.
    pub request: CommitRequest,
    /// Who asks.
    pub calling_ae: AeTitle,
    /// The title that it called.
    pub called_ae: AeTitle,
    /// Where it hears the report; `None`: over this association.
    pub report_to: Option<SocketAddr>,
    /// Whether that address speaks TLS.
    pub report_tls: bool,
}

/// A commitment that was recorded: the report is durable before it is sent.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Names the record towards [`Sink::commitment_reported`].
    pub id: String,
    /// The answer.
    pub report: CommitReport,
}

/// Where objects go. The functions about commitment refuse unless a sink offers it.
pub trait Sink: Send + Sync {
    /// The receiver looks for connections: a sign of life, some hundred times a second.
    fn waiting(&self) {}
    /// Keeps an object. When this returns `Ok`, the object survives SIGKILL and power loss: the sender is told "success" next.
    /// With [`super::Durability::Association`] the latter holds from [`Sink::settle`] on.
    fn store(&self, object: Received) -> Result<(), StoreFailure>;
    /// Everything that came over an association survives power loss when this returns `Ok`. Called before a release or a
    /// commitment is answered, and when the association ends otherwise.
    fn settle(&self, _association: u64) -> Result<(), StoreFailure> {
        Ok(())
    }
    /// An object was refused before it reached [`Sink::store`].
    fn rejected(&self, rejection: Rejection);
    /// Looks which objects are kept and records the answer, durably.
    fn commitment_requested(&self, _commitment: &Commitment) -> Result<Recorded, StoreFailure> {
        Err(StoreFailure::processing("commitment is not offered here"))
    }
    /// The requester has confirmed a report that went over its own association.
    fn commitment_reported(&self, _id: &str) {}
    /// Another node reports on a request of ours; `Ok` when that is recorded. [`StoreFailure::unknown_transaction`] otherwise.
    fn commitment_report(&self, _calling_ae: &AeTitle, _report: &CommitReport) -> Result<(), StoreFailure> {
        Err(StoreFailure::unknown_transaction())
    }
    /// An association over which objects were stored (or tried) is over.
    fn association_released(&self, end: AssociationEnd);
}
