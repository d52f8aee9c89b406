//! Version numbers that only rise, beside the audit: what an updater has seen, for the case that its own files are lost.

use super::trees::Table;
use super::{AuditNote, Store, StoreError, audit};

fn key(name: &str) -> String {
    format!("version/{name}")
}

impl Store {
    /// The highest number seen under a name; 0 for none.
    pub fn version(&self, name: &str) -> Result<u64, StoreError> {
        Ok(self.trees().get(Table::Meta, key(name).as_bytes())?.unwrap_or(0))
    }

    /// Raises numbers that are higher than before, with an audit entry, in one transaction; durable on return.
    pub fn raise_versions(&self, seen: &[(String, u64)], note: &AuditNote, now_ms: i64) -> Result<(), StoreError> {
        self.trees().transact("raising versions", |tx| {
            seen.iter().try_for_each(|(name, version)| tx.raise(&key(name), *version))?;
            audit::append(tx, note, None, now_ms)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::Folder;

    #[test]
    fn versions_only_rise_and_last() {
        let folder = Folder::new("versions");
        let note = AuditNote::new("update", "update.checked");
        let (store, _) = Store::open(&folder.0, 1).unwrap();
        store.raise_versions(&[("root".into(), 3), ("timestamp".into(), 9)], &note, 1).unwrap();
        store.raise_versions(&[("root".into(), 2)], &note, 2).unwrap();
        drop(store);
        let (store, _) = Store::open(&folder.0, 3).unwrap();
        let seen: Vec<u64> = ["root", "timestamp", "targets"].map(|n| store.version(n).unwrap()).to_vec();
        assert_eq!(seen, [3, 9, 0]);
        assert_eq!(store.verify_audit().unwrap().n_entries, 2);
    }
}
