//! Why there is no update, or no repository, and what to do about it.

use crate::Explain;
use crate::store::StoreError;
use std::io;
use std::path::{Path, PathBuf};

/// Any error of this room.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// Nothing says whom to trust.
    #[error("no trusted root: this box does not know yet whose updates to believe")]
    NoRoot,
    /// The pinned root is none.
    #[error("the trusted root {} cannot be used: {why}", path.display())]
    RootInvalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A clock that cannot be right: everything would look fresh.
    #[error("the clock says {now}, before this program was made: no signature can be judged by it")]
    ClockWrong {
        /// What the clock says.
        now: String,
    },
    /// A clock behind the last time that was believed.
    #[error(
        "System time stepped backward: the clock says {now}, the last good check was at {last}. Either the clock is wrong now, or it was ahead then"
    )]
    ClockBack {
        /// What the clock says.
        now: String,
        /// The last good check.
        last: String,
    },
    /// Metadata past its date.
    #[error("the repository's {role} metadata has expired: it may be an old copy that hides newer updates")]
    Expired {
        /// Which role.
        role: String,
    },
    /// Older than what was seen before.
    #[error("the repository is older than what this box has already seen ({what}): a rollback is refused")]
    Rollback {
        /// What is older.
        what: String,
    },
    /// Not signed as the root demands.
    #[error("the repository's metadata is not signed as the trusted root demands: {what}")]
    Signature {
        /// Which role and why.
        what: String,
    },
    /// Files of different moments, or of nobody.
    #[error("the repository's metadata does not fit together: {what}")]
    Metadata {
        /// What does not.
        what: String,
    },
    /// The repository does not have a file.
    #[error("the repository has no {url}")]
    NotFound {
        /// Which.
        url: String,
    },
    /// The server or the medium.
    #[error("fetching {url} failed: {why}")]
    Fetch {
        /// Which file.
        url: String,
        /// The cause.
        why: String,
    },
    /// More bytes than were signed for or are sensible.
    #[error("the repository sends more than it may: {what}")]
    TooLarge {
        /// What is too large.
        what: String,
    },
    /// Bytes that are not the signed ones.
    #[error("{what} is not what was signed: its SHA-256 or length differs")]
    Altered {
        /// Which file.
        what: String,
    },
    /// A target that no package may be.
    #[error("the target {name:?} is refused: {why}")]
    Target {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
    /// Several packages of a kind and none of them is the one in use.
    #[error("the repository has several {kind} packages and none is the one in use: {ids}")]
    Ambiguous {
        /// Which kind.
        kind: &'static str,
        /// Their ids.
        ids: String,
    },
    /// A package for another board or a newer program.
    #[error("the package {package} does not suit this box: {why}")]
    Incompatible {
        /// Id and version.
        package: String,
        /// Why.
        why: String,
    },
    /// A package that failed here before.
    #[error("the package {package} was found bad on this box and is not tried again: {why}")]
    KnownBad {
        /// Id and version.
        package: String,
        /// What happened.
        why: String,
    },
    /// An archive that is none, or a dangerous one.
    #[error("the archive {} is refused: {why}", path.display())]
    Archive {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The package's own checks.
    #[error("the package {package} fails its checks: {failure}")]
    Package {
        /// Id and version, or the file.
        package: String,
        /// What failed.
        failure: Box<dyn Explain + Send + Sync>,
    },
    /// No such package in the slots.
    #[error("no {kind} package {wanted}is installed")]
    NotInstalled {
        /// Which kind.
        kind: &'static str,
        /// Which version was asked for, with a space, or nothing.
        wanted: String,
    },
    /// Nothing to go back to.
    #[error("the {kind} in use is the one inside the program: there is nothing to roll back")]
    NothingBefore {
        /// Which kind.
        kind: &'static str,
    },
    /// The state of the slots is not readable.
    #[error("the state of the model slots {} is damaged: {why}", path.display())]
    SlotsDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Another process works on the slots.
    #[error("another process is changing the models in {}", directory.display())]
    Busy {
        /// The folder.
        directory: PathBuf,
    },
    /// The disk.
    #[error("{needed_mib} MiB are needed on the disk of {}, {free_mib} MiB are free", path.display())]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// Needed, with a reserve.
        needed_mib: u64,
        /// Free.
        free_mib: u64,
    },
    /// The file system refused.
    #[error("{doing} failed: {source}")]
    Io {
        /// The operation and its object.
        doing: String,
        /// The system's own words.
        source: io::Error,
    },
    /// The record of versions.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key of a repository.
    #[error("the key {} cannot be used: {why}", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A repository that is being made.
    #[error("the repository {}: {why}", path.display())]
    Repository {
        /// Its folder.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A value on the command line or in the configuration.
    #[error("{what}")]
    Setting {
        /// What is wrong with it.
        what: String,
    },
}

impl UpdateError {
    pub(super) fn io(verb: &str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing: format!("{verb} {}", path.display()), source }
    }

    fn is_full(source: &io::Error) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge)
    }
}

impl Explain for UpdateError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoRoot => "update.no-root",
            Self::RootInvalid { .. } => "update.root-invalid",
            Self::ClockWrong { .. } => "update.clock-wrong",
            Self::ClockBack { .. } => "update.clock-back",
            Self::Expired { .. } => "update.expired",
            Self::Rollback { .. } => "update.rollback",
            Self::Signature { .. } => "update.signature",
            Self::Metadata { .. } => "update.metadata",
            Self::NotFound { .. } => "update.not-found",
            Self::Fetch { .. } => "update.fetch",
            Self::TooLarge { .. } => "update.too-large",
            Self::Altered { .. } => "update.altered",
            Self::Target { .. } => "update.target",
            Self::Ambiguous { .. } => "update.ambiguous",
            Self::Incompatible { .. } => "model.incompatible",
            Self::KnownBad { .. } => "model.known-bad",
            Self::Archive { .. } => "model.archive",
            Self::Package { failure, .. } => failure.code(),
            Self::NotInstalled { .. } => "model.not-installed",
            Self::NothingBefore { .. } => "model.nothing-before",
            Self::SlotsDamaged { .. } => "model.slots-damaged",
            Self::Busy { .. } => "model.busy",
            Self::NoSpace { .. } => "update.no-space",
            Self::Io { source, .. } if Self::is_full(source) => "update.no-space",
            Self::Io { .. } => "update.io",
            Self::Store(e) => e.code(),
            Self::Key { .. } => "repo.key",
            Self::Repository { .. } => "repo.invalid",
            Self::Setting { .. } => "update.setting",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::NoRoot => {
                "give the publisher's root.json once with --root, or name it as update.root in the configuration"
            }
            Self::RootInvalid { .. } => "get root.json again from the publisher, by a way that you trust",
            Self::ClockWrong { .. } => "wait for time synchronization or set the clock, then check again",
            Self::ClockBack { .. } => {
                "set the clock; if it is right now and was ahead before, run `metwatch update reset-clock` as administrator"
            }
            Self::Expired { .. } => {
                "check this box's clock; if it is right, ask the publisher for fresh metadata (`metwatch repo publish`)"
            }
            Self::Rollback { .. } => {
                "use the current repository or a newer stick; if the server was restored from a backup, publish again"
            }
            Self::Signature { .. } => "do not use this source; ask the publisher whether keys were changed",
            Self::Metadata { .. } => "copy the whole repository again, or ask the publisher to publish it again",
            Self::NotFound { .. } => "check the address: it has to hold the folders metadata/ and targets/",
            Self::Fetch { .. } => {
                "check network, server and address, then run it again: a download goes on where it stopped"
            }
            Self::TooLarge { .. } | Self::Altered { .. } => {
                "do not use this source; copy or publish the repository again"
            }
            Self::Target { .. } => "ask the publisher to add the package with `metwatch repo add`",
            Self::Ambiguous { .. } => "name the wanted one with --package",
            Self::Incompatible { .. } => "use a package made for this board and version, or update the program first",
            Self::KnownBad { .. } => {
                "wait for a newer version; `metwatch model install --again` tries this one once more"
            }
            Self::Archive { .. } => {
                "make the archive with `metwatch repo add`, or by tar and zstd from the package's files alone"
            }
            Self::Package { failure, .. } => failure.advice(),
            Self::NotInstalled { .. } => "see what is there with `metwatch model list`",
            Self::NothingBefore { .. } => "see what is there with `metwatch model list`",
            Self::SlotsDamaged { .. } => {
                "move the named file away and install the packages again; until then the built-in ones run"
            }
            Self::Busy { .. } => "wait until the other update has ended",
            Self::NoSpace { .. } => "free space on that disk, then run it again",
            Self::Io { source, .. } if Self::is_full(source) => "free space on that disk, then run it again",
            Self::Io { .. } => {
                "check that the folder exists, belongs to the service's user and that the disk is healthy"
            }
            Self::Store(e) => e.advice(),
            Self::Key { .. } => {
                "give the folder in which `metwatch repo init` put the keys; they must be readable by you alone"
            }
            Self::Repository { .. } => "see `metwatch repo --help`",
            Self::Setting { .. } => "correct the value and run it again",
        }
    }
}
