//! Opening: alone, within a time limit, and with everything read once. Damage is moved aside and reported, never deleted.

use super::check::{Census, census};
use super::mark::{self, Mark};
use super::record::SCHEMA;
use super::spool::{self, Spool, list, make_folder, sync_folder};
use super::status;
use super::trees::{STUDIES, Table, Trees, guarded};
use super::{Inner, Store, StoreError};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Opening and reading all rows may take this long; usual are 20 ms for the opening and 1 s for 500,000 rows.
const OPEN_LIMIT: Duration = Duration::from_secs(90);
/// sled lets go of its lock a little after its last handle is gone: wait this many times 20 ms.
const LOCK_TRIES: u32 = 150;
/// The file whose lock says that the store is in use.
pub(super) const LOCK: &str = "lock";
const TREES: &str = "trees-";
const ASIDE: &str = "store.broken-";

/// What a start found and did; each is to be told to an administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenNotice {
    /// The store was damaged and is now in a folder of its own; the box goes on with an empty one.
    MovedAside {
        /// The folder; the DICOM objects are in `spool/*/*.dcm` below it and can be put again.
        to: PathBuf,
        /// What was found.
        why: String,
    },
    /// Files that no row names were removed: leftovers of a crash, none of them was acknowledged.
    LeftoversRemoved {
        /// How many.
        n_files: usize,
    },
    /// Files that no row names were kept in a folder of their own, since the rows are older than the files.
    UnnamedKept {
        /// The folder.
        to: PathBuf,
        /// How many.
        n_files: usize,
    },
    /// A row names a file that is not there.
    FileMissing {
        /// The study.
        study: String,
        /// The file, below the store's directory.
        path: String,
    },
    /// Confirmed changes are missing at the end: sled took a damaged page for the torn end of a crash.
    ConfirmedLost {
        /// How many transactions.
        n_transactions: u64,
    },
    /// The study's row is older than what its status file tells: the disk lost what it had confirmed, or an older copy was put back.
    RolledBack {
        /// The study.
        study: String,
    },
}

impl OpenNotice {
    /// Stable code for events.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MovedAside { .. } => "store.moved-aside",
            Self::LeftoversRemoved { .. } => "store.leftovers-removed",
            Self::UnnamedKept { .. } => "store.unnamed-kept",
            Self::FileMissing { .. } => "store.file-missing",
            Self::ConfirmedLost { .. } => "store.confirmed-lost",
            Self::RolledBack { .. } => "store.rolled-back",
        }
    }
}

impl fmt::Display for OpenNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MovedAside { to, why } => {
                write!(
                    f,
                    "the store could not be used ({why}); it was moved to {}, and the box starts with an empty one",
                    to.display()
                )
            }
            Self::LeftoversRemoved { n_files } => {
                write!(f, "{n_files} unfinished files of an interrupted run were removed")
            }
            Self::UnnamedKept { to, n_files } => {
                write!(f, "{n_files} files that the store does not name were kept in {}", to.display())
            }
            Self::FileMissing { study, path } => write!(f, "{path} of study {study} is missing: send the series again"),
            Self::ConfirmedLost { n_transactions } => {
                write!(
                    f,
                    "the last {n_transactions} changes that were confirmed are missing: check the disk, send the last series again"
                )
            }
            Self::RolledBack { study } => {
                write!(f, "study {study} is older than it was before: send the series again, and check the disk")
            }
        }
    }
}

/// Opens a store: makes it, sweeps it, moves a damaged one aside.
pub(super) fn open(directory: &Path, now_ms: i64) -> Result<(Store, Vec<OpenNotice>), StoreError> {
    make_folder(directory)?;
    let lock = lock(directory)?;
    let mut notices = Vec::new();
    let (trees, census, fresh) = loop {
        let found = newest(directory)?;
        let fresh = found.is_none();
        let folder = match &found {
            Some(folder) => folder.clone(),
            None => next_folder(directory)?,
        };
        match open_guarded(&folder) {
            Ok((trees, census)) => break (trees, census, fresh),
            Err(error) if is_damage(&error) && !fresh => notices.push(move_aside(directory, &folder, &error, now_ms)?),
            Err(error) => return Err(error),
        }
    };
    for folder in [directory.to_path_buf(), newest(directory)?.unwrap_or_default()] {
        sync_folder(&folder)?;
    }
    let mark = Mark::open(directory)?;
    let n_transactions = mark.value().saturating_sub(trees.commits()?);
    if 0 < n_transactions {
        notices.push(OpenNotice::ConfirmedLost { n_transactions });
    }
    sweep(directory, &trees, &census, fresh || 0 < n_transactions, now_ms, &mut notices)?;
    let told = status::serials(directory)?;
    let store = assemble(directory, trees, mark, lock)?;
    for (number, serial) in &census.studies {
        if told.get(number) != Some(&Some(*serial)) {
            store.write_status(number);
        }
    }
    for notice in &notices {
        tracing::warn!(code = notice.code(), "{notice}");
    }
    Ok((store, notices))
}

/// Opens an existing store to look at it: nothing is made, swept or moved; damage is an error.
pub(super) fn inspect(directory: &Path) -> Result<Store, StoreError> {
    let missing = || StoreError::NoStore { directory: directory.into() };
    let folder = newest(directory)?.ok_or_else(missing)?;
    let lock = lock(directory)?;
    let (trees, _) = open_guarded(&folder)?;
    let mark = Mark::open(directory)?;
    let (confirmed, commits) = (mark.value(), trees.commits()?);
    if confirmed > commits {
        return Err(StoreError::damaged(format!("the last {} confirmed changes are missing", confirmed - commits)));
    }
    assemble(directory, trees, mark, lock)
}

fn assemble(directory: &Path, mut trees: Trees, mark: Mark, lock: File) -> Result<Store, StoreError> {
    trees.follow(mark)?;
    let inner = Inner {
        directory: directory.into(),
        spool: Spool::new(directory),
        trees,
        generation: Mutex::new(0),
        woken: Condvar::new(),
        status: Mutex::new(()),
        _lock: lock,
    };
    Ok(Store { inner: Arc::new(inner) })
}

/// The lock of the whole directory, spool included; it goes with the process.
fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join(LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(|e| StoreError::file("opening", &path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { directory: directory.into() }),
        Err(TryLockError::Error(e)) => Err(StoreError::file("locking", &path, e)),
    }
}

/// Whether another process holds the store: the service, or a command that looks at it.
pub fn is_locked(directory: &Path) -> bool {
    let file = File::open(directory.join(LOCK));
    file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Number of a folder of trees.
fn generation(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_prefix(TREES)?.parse().ok()
}

/// The folder of trees in use: the one with the highest number.
fn newest(directory: &Path) -> Result<Option<PathBuf>, StoreError> {
    let found = list(directory)?.into_iter().filter_map(|path| Some((generation(&path)?, path)));
    Ok(found.max().map(|(_, path)| path))
}

/// The folder for new trees. Its number was never used here, so that a thread which still hangs in a damaged store cannot write into the
/// new one: sled names its snapshots by path.
fn next_folder(directory: &Path) -> Result<PathBuf, StoreError> {
    let mut last = 0;
    for path in list(directory)? {
        let aside = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(ASIDE));
        let inside = if aside { list(&path)? } else { Vec::new() };
        last = inside.iter().chain([&path]).filter_map(|p| generation(p)).fold(last, u32::max);
    }
    Ok(directory.join(format!("{TREES}{:06}", last + 1)))
}

fn is_damage(error: &StoreError) -> bool {
    matches!(error, StoreError::Damaged { .. } | StoreError::Panicked { .. })
}

/// Runs `work` on a thread of its own and waits at most `limit`. A panic and a hang are damage; a hanging thread is left behind.
fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let (answer, answered) = channel();
    let thread = std::thread::Builder::new().name("store-open".into()).spawn(move || {
        // Nobody listens any more when the limit is over.
        let _ = answer.send(guarded("opening the store", work));
    });
    thread.map_err(|e| StoreError::io("starting a thread to open the store", e))?;
    answered.recv_timeout(limit).unwrap_or_else(|error| match error {
        RecvTimeoutError::Timeout => {
            Err(StoreError::damaged(format!("opening it did not end within {} s", limit.as_secs())))
        }
        RecvTimeoutError::Disconnected => Err(StoreError::Panicked { doing: "opening the store".into() }),
    })
}

/// The trees, after every row was read once.
fn open_guarded(folder: &Path) -> Result<(Trees, Census), StoreError> {
    let folder = folder.to_path_buf();
    within(OPEN_LIMIT, move || {
        let trees = open_trees(&folder)?;
        check_schema(&trees)?;
        let census = census(&trees)?;
        Ok((trees, census))
    })
}

fn open_trees(folder: &Path) -> Result<Trees, StoreError> {
    use std::io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    let mut tries = 0;
    loop {
        match Trees::open(folder) {
            Ok(trees) => return Ok(trees),
            Err(sled::Error::Io(e)) if e.to_string().contains("could not acquire lock") => {
                tries += 1;
                if tries == LOCK_TRIES {
                    return Err(StoreError::Locked { directory: folder.into() });
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            // sled reports odd contents of its files as these; a missing permission or a full disk is no damage.
            Err(sled::Error::Io(e)) if matches!(e.kind(), UnexpectedEof | InvalidData | InvalidInput | Other) => {
                return Err(StoreError::damaged(format!("opening it failed: {e}")));
            }
            Err(error) => return Err(StoreError::sled("opening the store", error)),
        }
    }
}

fn check_schema(trees: &Trees) -> Result<(), StoreError> {
    match trees.get::<u32>(Table::Meta, b"schema")? {
        Some(found) if found > SCHEMA.into() => Err(StoreError::NewerSchema { found, known: SCHEMA.into() }),
        Some(_) => Ok(()),
        None => trees.transact("writing the schema", |tx| tx.put(Table::Meta, b"schema", &u32::from(SCHEMA))),
    }
}

/// A new folder `store.broken-DATE` below the directory.
fn aside(directory: &Path, now_ms: i64) -> Result<PathBuf, StoreError> {
    let date = chrono::DateTime::from_timestamp_millis(now_ms).unwrap_or_default().format("%Y%m%dT%H%M%SZ");
    let names = (1..).map(|n| if n == 1 { format!("{ASIDE}{date}") } else { format!("{ASIDE}{date}-{n}") });
    let path =
        names.map(|name| directory.join(name)).find(|p| !p.exists()).unwrap_or_else(|| directory.join("store.broken"));
    make_folder(&path)?;
    Ok(path)
}

/// Moves a damaged store aside: the spool first, so that a crash in between cannot leave files beside trees that do not name them.
fn move_aside(directory: &Path, trees: &Path, error: &StoreError, now_ms: i64) -> Result<OpenNotice, StoreError> {
    let to = aside(directory, now_ms)?;
    let parts = [spool::FOLDER, status::FOLDER, mark::FILE].map(|name| directory.join(name));
    for from in parts.iter().map(PathBuf::as_path).chain([trees]) {
        let name = from.file_name().unwrap_or_default();
        match fs::rename(from, to.join(name)) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(StoreError::file("moving aside", from, e)),
        }
    }
    sync_folder(&to)?;
    sync_folder(directory)?;
    Ok(OpenNotice::MovedAside { to, why: error.to_string() })
}

/// Brings spool and rows together: missing files are reported, leftovers removed, and kept where the rows may be the older ones.
fn sweep(
    directory: &Path,
    trees: &Trees,
    census: &Census,
    rows_may_be_older: bool,
    now_ms: i64,
    notices: &mut Vec<OpenNotice>,
) -> Result<(), StoreError> {
    let spool = Spool::new(directory);
    let missing = census.files.values().filter(|(file, _)| !spool.is_there(file));
    notices
        .extend(missing.map(|(file, study)| OpenNotice::FileMissing { study: study.clone(), path: file.path.clone() }));

    let told: BTreeMap<String, Option<u64>> = status::serials(directory)?;
    let ahead = told
        .iter()
        .filter(|(number, serial)| serial.is_some_and(|s| census.studies.get(*number).is_none_or(|n| *n < s)));
    let rolled_back: Vec<_> = ahead.map(|(study, _)| OpenNotice::RolledBack { study: study.clone() }).collect();

    let (mut unfinished, finished) = spool.orphans(&census.paths())?;
    if rows_may_be_older || !rolled_back.is_empty() {
        skip_numbers(directory, trees)?;
        if !finished.is_empty() {
            let to = aside(directory, now_ms)?;
            for file in &finished {
                keep(directory, &to, file)?;
            }
            notices.push(OpenNotice::UnnamedKept { to, n_files: finished.len() });
        }
    } else {
        unfinished.extend(finished);
    }
    for file in &unfinished {
        let path = directory.join(file);
        fs::remove_file(&path).map_err(|e| StoreError::file("removing", &path, e))?;
    }
    if !unfinished.is_empty() {
        notices.push(OpenNotice::LeftoversRemoved { n_files: unfinished.len() });
    }
    // A status without its study would be told as rolled back at each start.
    for number in told.keys().filter(|number| !census.studies.contains_key(*number)) {
        let path = directory.join(status::FOLDER).join(format!("{number}.json"));
        fs::remove_file(&path).map_err(|e| StoreError::file("removing", &path, e))?;
    }
    notices.extend(rolled_back);
    Ok(())
}

/// A number is given once: message ids and results that left the box carry it. Goes past all numbers that files still tell.
fn skip_numbers(directory: &Path, trees: &Trees) -> Result<(), StoreError> {
    let all =
        list(directory)?.into_iter().filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(ASIDE)));
    let mut last = 0;
    for home in all.chain([directory.to_path_buf()]) {
        for file in
            [spool::FOLDER, status::FOLDER].iter().map(|f| list(&home.join(f))).collect::<Result<Vec<_>, _>>()?.concat()
        {
            let stem = file.file_stem().and_then(|s| s.to_str()).and_then(|s| s.strip_prefix('S'));
            last = last.max(stem.and_then(|digits| digits.parse::<u64>().ok()).unwrap_or(0));
        }
    }
    trees.transact_unflushed("skipping used numbers", |tx| tx.raise(STUDIES, last))
}

/// Moves one unnamed file below `to`.
fn keep(directory: &Path, to: &Path, file: &str) -> Result<(), StoreError> {
    let (from, target) = (directory.join(file), to.join(file));
    make_folder(target.parent().unwrap_or(to))?;
    fs::rename(&from, &target).map_err(|e| StoreError::file("moving aside", &from, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hang_and_a_panic_are_damage() {
        let slow = within(Duration::from_millis(20), || {
            std::thread::sleep(Duration::from_millis(400));
            Ok(())
        });
        assert!(slow.is_err_and(|e| is_damage(&e)));
        let panicking = within::<()>(Duration::from_secs(10), || panic!("a test of the guard"));
        assert!(panicking.is_err_and(|e| is_damage(&e)));
        assert_eq!(within(Duration::from_secs(10), || Ok(7)).unwrap(), 7);
    }
}
