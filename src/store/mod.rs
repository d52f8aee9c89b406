//! The store: what the box must not lose.
//!
//! Rows are in trees of sled, large values are files of the spool, and every change of a study is one transaction with its messages
//! and its audit entry. *Durable* means here: the file and its name are synced, the transaction is done, and `flush` returned.
//! ```text
//! C-STORE -> put_object   -> spool file -> transaction (object, study) -> flush -> success to the sender
//! service -> write_spool  -> transition    -> transaction (study, result, outbox, audit) -> flush -> wait_outbox wakes the senders
//! sender  -> outbox_open  -> publish -> receipt -> outbox_advance -> transaction (outbox, audit) -> flush
//! ```
//! Main types: [`Store`]; its rows [`StudyV1`], [`ObjectV1`], [`OutboxV1`], [`ClinicalV1`], [`AuditV1`]; [`SpoolFile`]; [`OpenNotice`] for
//! what a start found. All functions block their thread for the disk: call them from a thread that may wait. A directory holds
//! ```text
//! lock   confirmed   trees-000001/   spool/S000001/<name>-<sha256>.<ext>   status/S000001.json   store.broken-20261125T081500Z/
//! outbox.json   requests/retry-<id>
//! ```
//! **Invariant:** the store knows neither the clock nor DICOM, MQTT or risks: time comes in as `now_ms`, contents as bytes and JSON text.
#![expect(
    clippy::disallowed_methods,
    reason = "base: this room owns the trees' and the spool's files, and the guarded opening"
)]

mod audit;
mod check;
mod clinical;
mod error;
mod mark;
mod open;
mod outbox;
mod outbox_files;
mod record;
mod rows;
mod spool;
mod status;
mod studies;
mod trees;
mod versions;

pub use audit::AuditReport;
pub use check::CheckReport;
pub use error::StoreError;
pub use open::{OpenNotice, is_locked};
pub use outbox::message_id;
pub use outbox_files::{OutboxRowV1, OutboxStatusV1, read_outbox, request_retry};
pub use rows::{
    AuditNote, AuditV1, ClinicalV1, HistoryV1, Identifier, NewObject, NewOutbox, ObjectV1, OutboxKind, OutboxState,
    OutboxV1, PackagesV1, PutObject, SpoolFile, StagedObject, StateV1, StudyChange, StudyV1,
};
pub use status::{StudyStatusV1, SupersededV1, read_spooled, read_status, received_files};

use sha2::{Digest, Sha256};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The store's directory, made at the first start; best on a disk of its own, for nobody but the service's user.
    pub directory: PathBuf,
}

/// The store; a clone is another handle to the same one.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// The fields are dropped in this order: the lock goes last.
struct Inner {
    directory: PathBuf,
    spool: spool::Spool,
    trees: trees::Trees,
    generation: Mutex<u64>,
    woken: Condvar,
    status: Mutex<()>,
    _lock: File,
}

impl Store {
    /// Opens the store of a directory, or makes one, and tells what it found. Reads every row once; a damaged store is moved to
    /// `store.broken-DATE` (never deleted) and an empty one takes its place. [`StoreError::Locked`] while another process holds it.
    pub fn open(directory: &Path, now_ms: i64) -> Result<(Store, Vec<OpenNotice>), StoreError> {
        open::open(directory, now_ms)
    }

    /// Opens an existing store to look at it: nothing is made, removed or moved aside, and damage is an error.
    pub fn inspect(directory: &Path) -> Result<Store, StoreError> {
        open::inspect(directory)
    }

    /// The store's directory; paths of spool files are below it.
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// Whether the disk has synced whatever it was asked to; once it has not, nothing more is promised until the next start.
    pub fn is_sure(&self) -> bool {
        self.inner.trees.is_sure()
    }

    fn trees(&self) -> &trees::Trees {
        &self.inner.trees
    }
}

/// SHA-256 in lower case hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests;
