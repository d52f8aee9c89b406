//! The mark `confirmed`: how many transactions were confirmed, kept outside sled.
//!
//! When the last page of sled's log is damaged, sled takes it for the torn end of a crash and opens without it: the last transactions are
//! gone and nothing inside tells (seen: a file cut by 1 %, a flipped bit near the end). The mark is written after each flush, so it is
//! never ahead of an undamaged store; it needs no sync of its own, since behind is harmless.

use super::StoreError;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Name of the file below the store's directory.
pub const FILE: &str = "confirmed";

/// The mark, open for writing.
pub struct Mark {
    file: File,
    value: Mutex<u64>,
}

impl Mark {
    /// Opens or makes the mark; 0 where it was not there, or was itself cut or damaged.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|e| StoreError::file("opening", &path, e))?;
        let mut bytes = [0; 12];
        let value = file.read_exact_at(&mut bytes, 0).ok().and_then(|()| parse(bytes)).unwrap_or(0);
        Ok(Mark { file, value: Mutex::new(value) })
    }

    pub fn value(&self) -> u64 {
        *self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises the mark; an older transaction that ends later does not lower it.
    pub fn raise(&self, to: u64) {
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        if *value < to {
            *value = to;
            self.write(to);
        }
    }

    /// Sets the mark to what the rows tell, after a difference was reported.
    pub fn set(&self, to: u64) {
        *self.value.lock().unwrap_or_else(PoisonError::into_inner) = to;
        self.write(to);
    }

    fn write(&self, value: u64) {
        let number = value.to_le_bytes();
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&number);
        bytes[8..].copy_from_slice(&crc32fast::hash(&number).to_le_bytes());
        if let Err(error) = self.file.write_all_at(&bytes, 0) {
            tracing::warn!(%error, "the mark of confirmed transactions was not written");
        }
    }
}

fn parse(bytes: [u8; 12]) -> Option<u64> {
    let (number, crc) = bytes.split_first_chunk::<8>()?;
    (crc32fast::hash(number).to_le_bytes() == crc).then(|| u64::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::Folder;

    #[test]
    fn a_mark_rises_and_a_damaged_one_says_nothing() {
        let folder = Folder::new("mark");
        let mark = Mark::open(&folder.0).unwrap();
        assert_eq!(mark.value(), 0);
        mark.raise(7);
        mark.raise(5);
        assert_eq!(Mark::open(&folder.0).unwrap().value(), 7);
        mark.set(3);
        assert_eq!(Mark::open(&folder.0).unwrap().value(), 3);
        std::fs::write(folder.0.join(FILE), [9; 12]).unwrap();
        assert_eq!(Mark::open(&folder.0).unwrap().value(), 0);
    }
}
