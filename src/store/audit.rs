//! The audit: a chain in which each entry carries the hash of the one before it, so that a change or a gap shows.

use super::trees::{Stop, Table, Tx};
use super::{AuditNote, AuditV1, Store, StoreError, sha256_hex};
use serde::{Deserialize, Serialize};

/// Key of the chain's head in `Meta`.
const HEAD: &[u8] = b"audit";
/// What the first entry names as the hash before it.
const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

#[derive(Serialize, Deserialize)]
struct HeadV1 {
    n_entries: u64,
    hash: String,
}

/// What a verified chain holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// Entries in the chain.
    pub n_entries: u64,
    /// Hash of the last entry; written down elsewhere, it proves later that nothing before it changed.
    pub head: String,
}

/// Adds an entry to the chain, inside a transaction.
pub(super) fn append(tx: &Tx, note: &AuditNote, study: Option<&str>, now_ms: i64) -> Result<(), Stop> {
    let head: Option<HeadV1> = tx.get(Table::Meta, HEAD)?;
    let (index, previous) = head.map_or((0, NO_HASH.into()), |h| (h.n_entries, h.hash));
    let mut entry = AuditV1 {
        index,
        at_ms: now_ms,
        actor: note.actor.clone(),
        action: note.action.clone(),
        study: study.map(Into::into),
        detail: note.detail.clone(),
        previous,
        hash: String::new(),
    };
    entry.hash = hash_of(&entry).map_err(super::trees::stop)?;
    tx.put(Table::Audit, &index.to_be_bytes(), &entry)?;
    tx.put(Table::Meta, HEAD, &HeadV1 { n_entries: index + 1, hash: entry.hash })
}

/// Hash of an entry: SHA-256 of its JSON with an empty `hash`.
fn hash_of(entry: &AuditV1) -> Result<String, StoreError> {
    let bare = AuditV1 { hash: String::new(), ..entry.clone() };
    let json =
        serde_json::to_vec(&bare).map_err(|e| StoreError::damaged(format!("an audit entry has no JSON form: {e}")))?;
    Ok(sha256_hex(&json))
}

/// Holds a chain against its links and its head.
fn verify(entries: &[(Vec<u8>, AuditV1)], head: Option<HeadV1>) -> Result<AuditReport, StoreError> {
    let mut previous = NO_HASH.to_string();
    for (index, (key, entry)) in (0u64..).zip(entries) {
        let broken = |why: &str| Err(StoreError::AuditBroken { index, why: why.into() });
        if key[..] != index.to_be_bytes() || entry.index != index {
            return broken("an entry is missing before it");
        }
        if entry.previous != previous {
            return broken("it does not follow the entry before it");
        }
        if hash_of(entry)? != entry.hash {
            return broken("it was changed after it was written");
        }
        previous.clone_from(&entry.hash);
    }
    let n_entries = entries.len() as u64;
    let head = head.unwrap_or(HeadV1 { n_entries: 0, hash: NO_HASH.into() });
    if head.n_entries != n_entries || head.hash != previous {
        let why = format!("the chain should have {} entries and ends here", head.n_entries);
        return Err(StoreError::AuditBroken { index: n_entries, why });
    }
    Ok(AuditReport { n_entries, head: previous })
}

impl Store {
    /// Audits something that changes no row, such as a look at a patient or a login. Durable on return.
    pub fn audit_add(&self, note: &AuditNote, study: Option<&str>, now_ms: i64) -> Result<(), StoreError> {
        self.trees().transact("writing the audit", |tx| append(tx, note, study, now_ms))
    }

    /// All entries, oldest first.
    pub fn audit_entries(&self) -> Result<Vec<AuditV1>, StoreError> {
        Ok(self.trees().scan(Table::Audit, b"")?.into_iter().map(|(_, entry)| entry).collect())
    }

    /// Verifies the chain from the first entry to the last.
    pub fn verify_audit(&self) -> Result<AuditReport, StoreError> {
        let _quiet = self.trees().quiet();
        verify(&self.trees().scan(Table::Audit, b"")?, self.trees().get(Table::Meta, HEAD)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::Folder;

    #[test]
    fn a_change_a_gap_and_a_cut_show() {
        let folder = Folder::new("audit");
        let (store, _) = Store::open(&folder.0, 1).unwrap();
        for i in 0..5 {
            store
                .audit_add(&AuditNote::new("nurse", "patient.viewed").detail(format!("view {i}")), Some("S000001"), i)
                .unwrap();
        }
        assert_eq!(store.verify_audit().unwrap().n_entries, 5);
        let rows = store.trees().scan::<AuditV1>(Table::Audit, b"").unwrap();
        let head = || store.trees().get::<HeadV1>(Table::Meta, HEAD).unwrap();
        let index_of = |rows: &[(Vec<u8>, AuditV1)]| match verify(rows, head()) {
            Err(StoreError::AuditBroken { index, .. }) => Some(index),
            _ => None,
        };
        let mut changed = rows.clone();
        changed[2].1.detail = "view 7".into();
        assert_eq!(index_of(&changed), Some(2));
        let mut rehashed = changed.clone();
        rehashed[2].1.hash = hash_of(&rehashed[2].1).unwrap();
        assert_eq!(index_of(&rehashed), Some(3));
        let mut gap = rows.clone();
        gap.remove(1);
        assert_eq!(index_of(&gap), Some(1));
        assert_eq!(index_of(&rows[..4]), Some(4));
        assert_eq!(index_of(&rows), None);
    }
}
