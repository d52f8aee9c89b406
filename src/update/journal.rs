//! The record of updates: a store of its own, whose audit chain says what was installed, activated, left and believed, and when.
//!
//! It is open for moments only, since the store has one user at a time and `serve`, the timer and a technician may meet here.

use super::UpdateError;
use crate::store::{AuditNote, AuditV1, Store, StoreError};
use std::path::{Path, PathBuf};
use std::time::Duration;

const FOLDER: &str = "journal";
/// Waited for another process so often, 100 ms each.
const TRIES: u32 = 150;

/// The record of a folder of slots.
#[derive(Debug, Clone)]
pub struct Journal {
    directory: PathBuf,
}

impl Journal {
    /// Of the folder of the slots.
    pub fn new(directory: &Path) -> Journal {
        Journal { directory: directory.join(FOLDER) }
    }

    /// Opens it, waiting for whoever writes just now.
    pub fn open(&self, now_ms: i64) -> Result<Store, UpdateError> {
        let mut tries = 0;
        loop {
            match Store::open(&self.directory, now_ms) {
                Ok((store, _notices)) => return Ok(store),
                Err(StoreError::Locked { .. }) if tries < TRIES => {
                    tries += 1;
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Adds one entry, durably. `actor`: who did it.
    pub fn note(&self, actor: &str, action: &str, detail: impl Into<String>, now_ms: i64) -> Result<(), UpdateError> {
        Ok(self.open(now_ms)?.audit_add(&AuditNote::new(actor, action).detail(detail), None, now_ms)?)
    }

    /// All entries, oldest first, after the chain was verified; none where nothing was recorded yet.
    pub fn entries(&self, now_ms: i64) -> Result<Vec<AuditV1>, UpdateError> {
        if !self.directory.exists() {
            return Ok(Vec::new());
        }
        let store = self.open(now_ms)?;
        store.verify_audit()?;
        Ok(store.audit_entries()?)
    }
}
