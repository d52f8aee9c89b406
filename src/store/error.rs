//! What can go wrong in the store, and what to do about it.

use crate::Explain;
use std::io;
use std::path::{Path, PathBuf};

/// An error of the store. None carries patient data.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the store.
    #[error("the store in {} is in use by another process", directory.display())]
    Locked {
        /// The store's directory.
        directory: PathBuf,
    },
    /// No store was made there yet.
    #[error("there is no store in {}", directory.display())]
    NoStore {
        /// The directory.
        directory: PathBuf,
    },
    /// The disk is full.
    #[error("no space left on the disk while {doing}: nothing of it was kept")]
    NoSpace {
        /// The operation.
        doing: String,
    },
    /// The file system refused.
    #[error("{doing} failed")]
    Io {
        /// The operation and its object.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// A row, page or file is not what was written.
    #[error("the store is damaged: {what}")]
    Damaged {
        /// What was found.
        what: String,
    },
    /// Written by a newer metwatch.
    #[error("the store has schema {found}, this metwatch knows {known}: it was written by a newer version")]
    NewerSchema {
        /// The schema found.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// Somebody changed the study in between.
    #[error(
        "study {number} has moved on to {state} (revision {revision}): this change was made for an earlier state and was not kept"
    )]
    StudyMoved {
        /// The study.
        number: String,
        /// Its state now.
        state: &'static str,
        /// Its revision now.
        revision: u32,
    },
    /// No such study.
    #[error("there is no study {number}")]
    NoSuchStudy {
        /// The number asked for.
        number: String,
    },
    /// A value too large for a row.
    #[error("{what} has {length} bytes, a row holds at most {limit}")]
    TooLarge {
        /// Which value.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A name that could leave its folder.
    #[error("{name:?} is no name for a file of the spool")]
    BadName {
        /// The name.
        name: String,
    },
    /// Another message has this id.
    #[error("the outbox has another message with the id {id}: receivers would drop the second")]
    DuplicateMessage {
        /// The id.
        id: String,
    },
    /// An alert must not end with a broker's receipt.
    #[error("alert {id} cannot become delivered: only a station's acknowledgement or its expiry ends it")]
    AlertEndsAtStation {
        /// The alert's id.
        id: String,
    },
    /// The audit chain does not hold.
    #[error("the audit chain breaks at entry {index}: {why}")]
    AuditBroken {
        /// Index of the first entry that does not hold.
        index: u64,
        /// What does not hold.
        why: String,
    },
    /// The disk refused to sync, now or before.
    #[error(
        "the disk did not confirm what was written before {doing}: nothing is promised until the service starts again"
    )]
    Unsure {
        /// The operation.
        doing: String,
    },
    /// The engine below panicked.
    #[error("the storage engine broke down while {doing}")]
    Panicked {
        /// The operation.
        doing: String,
    },
}

impl Explain for StoreError {
    fn code(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "store.locked",
            Self::NoStore { .. } => "store.none",
            Self::NoSpace { .. } => "store.no-space",
            Self::Io { .. } => "store.io",
            Self::Damaged { .. } => "store.damaged",
            Self::NewerSchema { .. } => "store.newer-schema",
            Self::StudyMoved { .. } => "store.study-moved",
            Self::NoSuchStudy { .. } => "store.no-such-study",
            Self::TooLarge { .. } => "store.too-large",
            Self::BadName { .. } => "store.bad-name",
            Self::DuplicateMessage { .. } => "store.duplicate-message",
            Self::AlertEndsAtStation { .. } => "store.alert-ends-at-station",
            Self::AuditBroken { .. } => "store.audit-broken",
            Self::Unsure { .. } => "store.unsure",
            Self::Panicked { .. } => "store.panicked",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "use the console of the running service, or stop the service first",
            Self::NoStore { .. } => {
                "give the directory that the service's configuration names, and start the service once"
            }
            Self::NoSpace { .. } => {
                "free space on the store's disk and restart the service; senders repeat what was not acknowledged"
            }
            Self::Io { .. } => {
                "check that the store's directory exists, belongs to the service's user and that its disk is healthy"
            }
            Self::Damaged { .. } => {
                "restart the service: it moves a damaged store aside, keeps it and reports it; check the disk"
            }
            Self::NewerSchema { .. } => "run the newer version, or restore a backup made before the update",
            Self::StudyMoved { .. } => "read the study again and decide anew",
            Self::NoSuchStudy { .. } => "list the studies with `metwatch study list`",
            Self::TooLarge { .. } => "keep large values as files of the study",
            Self::BadName { .. } => "use letters, digits, dots, dashes and underscores, at most 100 of them",
            Self::DuplicateMessage { .. } => "derive message ids from all that makes a message unique",
            Self::AlertEndsAtStation { .. } => "acknowledge the alert at a station",
            Self::AuditBroken { .. } => "keep the store's directory as evidence and find out who could write to it",
            Self::Unsure { .. } => {
                "check the disk (dmesg, smartctl) and restart the service; senders repeat what was not acknowledged"
            }
            Self::Panicked { .. } => "restart the service; if it happens again, check the disk and the free space",
        }
    }
}

impl StoreError {
    /// An error of the file system, told apart by what a person can do.
    pub(super) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let doing = doing.into();
        match source.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => Self::NoSpace { doing },
            _ => Self::Io { doing, source },
        }
    }

    /// The same for a path.
    pub(super) fn file(verb: &str, path: &Path, source: io::Error) -> Self {
        Self::io(format!("{verb} {}", path.display()), source)
    }

    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }

    /// An error of sled.
    pub(super) fn sled(doing: &str, error: sled::Error) -> Self {
        match error {
            sled::Error::Io(source) => Self::io(doing, source),
            sled::Error::Corruption { at, .. } => {
                Self::damaged(format!("{doing}: a page does not match its checksum ({at:?})"))
            }
            other => Self::damaged(format!("{doing}: {other}")),
        }
    }
}
