//! The trees of sled, read with every error told and written in transactions that are flushed before they are promised.

use super::mark::Mark;
use super::{StoreError, record};
use serde::{Serialize, de::DeserializeOwned};
use sled::Transactional;
use sled::transaction::{
    ConflictableTransactionError, TransactionError, TransactionalTree, UnabortableTransactionError,
};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// sled's page cache; its own default is 1 GiB.
const CACHE_BYTES: u64 = 64 << 20;
/// sled's log below its folder.
const LOG: &str = "db";

/// The trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Schema version, counters, head of the audit chain.
    Meta,
    /// Hash of the Series Instance UID -> number of the study.
    Series,
    /// Number -> `StudyV1`.
    Studies,
    /// Number, `/`, hash of the SOP Instance UID -> `ObjectV1`.
    Objects,
    /// Hash of the SOP Instance UID -> number of the study that has the object.
    Instances,
    /// Number, `/`, index -> a result.
    Results,
    /// Hash of the patient id -> newest revision; the same, `/`, revision -> `ClinicalV1`.
    Clinical,
    /// Message id -> `OutboxV1`.
    Outbox,
    /// Sequence (8 bytes, big endian) -> id of a message that is still open.
    Open,
    /// Index (8 bytes, big endian) -> `AuditV1`.
    Audit,
}

impl Table {
    pub const ALL: [Table; 10] = [
        Self::Meta,
        Self::Series,
        Self::Studies,
        Self::Objects,
        Self::Instances,
        Self::Results,
        Self::Clinical,
        Self::Outbox,
        Self::Open,
        Self::Audit,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Series => "series",
            Self::Studies => "studies",
            Self::Objects => "objects",
            Self::Instances => "instances",
            Self::Results => "results",
            Self::Clinical => "clinical",
            Self::Outbox => "outbox",
            Self::Open => "open",
            Self::Audit => "audit",
        }
    }
}

/// Why a transaction's closure stops: a conflict that sled repeats, or an error of ours.
pub type Stop = ConflictableTransactionError<StoreError>;

/// An error of ours inside a transaction.
pub fn stop(error: StoreError) -> Stop {
    ConflictableTransactionError::Abort(error)
}

/// The open trees.
pub struct Trees {
    db: sled::Db,
    trees: Vec<sled::Tree>,
    /// Held by each transaction (sled lets one run at a time anyway) and by whoever needs all trees of one moment.
    writing: Mutex<()>,
    /// sled's log. On Linux sled's own flush ends in sync_file_range(2), which brings neither the length of a growing file nor the
    /// disk's cache to the platter: after a cut of power whole transactions would be gone (tests/power.rs shows it).
    log: File,
    /// The disk refused to sync once: what it says afterwards is worth nothing (Linux drops the pages it could not write and
    /// reports that once), so nothing more is promised until the store is opened again.
    unsure: AtomicBool,
    /// Absent until the store is whole: what opening itself writes is no promise.
    mark: Option<Mark>,
}

/// Counter of `Meta`: the numbers of studies.
pub const STUDIES: &str = "studies";
/// Counter of `Meta`: the transactions that were promised.
const COMMITS: &str = "commits";

impl Trees {
    /// Opens or creates. May panic or hang on a damaged folder: `open` guards it.
    pub fn open(folder: &Path) -> Result<Self, sled::Error> {
        let db = sled::Config::new().path(folder).flush_every_ms(None).cache_capacity(CACHE_BYTES).open()?;
        let trees = Table::ALL.iter().map(|t| db.open_tree(t.name())).collect::<Result<Vec<_>, _>>()?;
        let log = File::open(folder.join(LOG))?;
        // The names of sled's files, and its folder's own.
        for of in [Some(folder), folder.parent()].into_iter().flatten() {
            File::open(of)?.sync_all()?;
        }
        Ok(Trees { db, trees, writing: Mutex::new(()), log, unsure: AtomicBool::new(false), mark: None })
    }

    /// From here on the mark follows each promised transaction, from what the rows tell now.
    pub fn follow(&mut self, mark: Mark) -> Result<(), StoreError> {
        mark.set(self.commits()?);
        self.mark = Some(mark);
        Ok(())
    }

    /// The promised transactions that are in the rows.
    pub fn commits(&self) -> Result<u64, StoreError> {
        Ok(self.get(Table::Meta, COMMITS.as_bytes())?.unwrap_or(0))
    }

    fn tree(&self, table: Table) -> &sled::Tree {
        &self.trees[table as usize]
    }

    /// Size of sled's files in bytes.
    pub fn size_on_disk(&self) -> Result<u64, StoreError> {
        self.db.size_on_disk().map_err(|e| StoreError::sled("measuring the store", e))
    }

    /// Nobody writes while this lives.
    pub fn quiet(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One row.
    pub fn get<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StoreError> {
        guarded("reading a row", || {
            let bytes = self.tree(table).get(key).map_err(|e| StoreError::sled("reading a row", e))?;
            bytes.map(|bytes| record::decode(table.name(), key, &bytes)).transpose()
        })
    }

    /// All rows whose key begins with `prefix`, in the order of their keys. The first error ends it: damage is never a shorter list.
    pub fn scan<T: DeserializeOwned>(&self, table: Table, prefix: &[u8]) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
        let mut rows = Vec::new();
        self.each(table, prefix, |key, bytes| {
            rows.push((key.to_vec(), record::decode(table.name(), key, bytes)?));
            Ok(())
        })?;
        Ok(rows)
    }

    /// The same row by row, as bytes.
    pub fn each(
        &self,
        table: Table,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        guarded("scanning the store", || {
            for row in self.tree(table).scan_prefix(prefix) {
                let (key, bytes) = row.map_err(|e| StoreError::sled("scanning the store", e))?;
                visit(&key, &bytes)?;
            }
            Ok(())
        })
    }

    /// A transaction over all trees, on disk when this returns. `work` may run several times: no effect, clock or counter of its own inside.
    pub fn transact<T>(&self, doing: &str, work: impl Fn(&Tx) -> Result<T, Stop>) -> Result<T, StoreError> {
        let (value, commits) = self.transact_unflushed(doing, |tx| Ok((work(tx)?, tx.next(COMMITS)?)))?;
        self.flush(doing)?;
        if let Some(mark) = &self.mark {
            mark.raise(commits);
        }
        Ok(value)
    }

    /// A transaction that nobody is promised: it may be lost with the power, whole.
    pub fn transact_unflushed<T>(&self, doing: &str, work: impl Fn(&Tx) -> Result<T, Stop>) -> Result<T, StoreError> {
        self.check_sure(doing)?;
        let _writing = self.quiet();
        guarded(doing, || {
            let result = self.trees[..].transaction(|views: &Vec<TransactionalTree>| work(&Tx { views }));
            result.map_err(|error| match error {
                TransactionError::Abort(error) => error,
                TransactionError::Storage(error) => StoreError::sled(doing, error),
            })
        })
    }

    /// Returns when everything written before is on disk.
    pub fn flush(&self, doing: &str) -> Result<(), StoreError> {
        self.check_sure(doing)?;
        let flushed = || self.db.flush().map(drop).and_then(|()| Ok(self.log.sync_data()?));
        let result = guarded(doing, || flushed().map_err(|e| StoreError::sled(doing, e)));
        if result.is_err() {
            self.unsure.store(true, Ordering::SeqCst);
        }
        // Another thread's failed flush may have been the one that lost this one's pages.
        result.and_then(|()| self.check_sure(doing))
    }

    /// Whether the disk has synced whatever it was asked to.
    pub fn is_sure(&self) -> bool {
        !self.unsure.load(Ordering::SeqCst)
    }

    fn check_sure(&self, doing: &str) -> Result<(), StoreError> {
        if self.is_sure() { Ok(()) } else { Err(StoreError::Unsure { doing: doing.into() }) }
    }
}

/// sled may panic on damaged pages; a panic becomes an error here.
pub fn guarded<T>(doing: &str, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(StoreError::Panicked { doing: doing.into() }))
}

/// A transaction's view of the trees.
pub struct Tx<'a> {
    views: &'a [TransactionalTree],
}

impl Tx<'_> {
    /// One row as this transaction sees it.
    pub fn get<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<T>, Stop> {
        let bytes = self.views[table as usize].get(key).map_err(lower)?;
        bytes.map(|bytes| record::decode(table.name(), key, &bytes).map_err(stop)).transpose()
    }

    /// Writes a row.
    pub fn put<T: Serialize>(&self, table: Table, key: &[u8], row: &T) -> Result<(), Stop> {
        let bytes = record::encode(key, row).map_err(stop)?;
        self.views[table as usize].insert(key, bytes).map_err(lower)?;
        Ok(())
    }

    /// Removes a row.
    pub fn remove(&self, table: Table, key: &[u8]) -> Result<(), Stop> {
        self.views[table as usize].remove(key).map_err(lower)?;
        Ok(())
    }

    /// The next value of a counter of `Meta`, from 1. It lives in the tree, so a repeated closure takes the same one.
    pub fn next(&self, counter: &str) -> Result<u64, Stop> {
        let next = self.get::<u64>(Table::Meta, counter.as_bytes())?.unwrap_or(0) + 1;
        self.put(Table::Meta, counter.as_bytes(), &next)?;
        Ok(next)
    }

    /// Brings a counter to at least `value`.
    pub fn raise(&self, counter: &str, value: u64) -> Result<(), Stop> {
        let now = self.get::<u64>(Table::Meta, counter.as_bytes())?.unwrap_or(0);
        self.put(Table::Meta, counter.as_bytes(), &now.max(value))
    }
}

fn lower(error: UnabortableTransactionError) -> Stop {
    error.into()
}
