//! The outbox: what leaves the box, kept until its own receipt is there.

use super::record::ROW_BYTES_MAX;
use super::trees::{Stop, Table, Tx, stop};
use super::{AuditNote, NewOutbox, OutboxKind, OutboxState, OutboxV1, Store, StoreError, audit, sha256_hex};
use std::sync::PoisonError;
use std::time::Duration;

/// Longest note on a failure.
const FAILURE_CHARS_MAX: usize = 300;

/// A stable message id (32 hex digits) from all that makes a message unique, such as `["alert", box, study, revision, variant]`.
pub fn message_id(parts: &[&str]) -> String {
    let mut bytes = Vec::new();
    for part in parts {
        // With its length before it, so that ["ab", "c"] and ["a", "bc"] differ.
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    sha256_hex(&bytes)[..32].to_string()
}

/// Refuses a message that no row can hold.
pub(super) fn check_entry(entry: &NewOutbox) -> Result<(), StoreError> {
    let length = entry.payload.len();
    if length > ROW_BYTES_MAX {
        return Err(StoreError::TooLarge { what: "a message's payload", length, limit: ROW_BYTES_MAX });
    }
    Ok(())
}

/// Puts a message into the queue, inside a transaction. The same message again changes nothing.
pub(super) fn add(tx: &Tx, new: &NewOutbox, now_ms: i64) -> Result<(), Stop> {
    let key = new.id.as_bytes();
    if let Some(old) = tx.get::<OutboxV1>(Table::Outbox, key)? {
        let same = old.kind == new.kind && old.topic == new.topic && old.payload == new.payload;
        return if same { Ok(()) } else { Err(stop(StoreError::DuplicateMessage { id: new.id.clone() })) };
    }
    let sequence = tx.next("messages")?;
    let row = OutboxV1 {
        id: new.id.clone(),
        sequence,
        kind: new.kind,
        topic: new.topic.clone(),
        payload: new.payload.clone(),
        study: new.study.clone(),
        created_at_ms: now_ms,
        expires_at_ms: new.expires_at_ms,
        file: new.file.clone(),
        failure: None,
        retried_at_ms: None,
        attempts: 0,
        state: OutboxState::Queued,
    };
    tx.put(Table::Outbox, key, &row)?;
    tx.put(Table::Open, &sequence.to_be_bytes(), &row.id)
}

/// Whether a message may go from one state to another; an error for an alert that would end without a station.
fn may_advance(row: &OutboxV1, to: &OutboxState) -> Result<bool, StoreError> {
    if row.kind == OutboxKind::Alert && matches!(to, OutboxState::Delivered { .. }) {
        return Err(StoreError::AlertEndsAtStation { id: row.id.clone() });
    }
    Ok(match (&row.state, to) {
        (OutboxState::Queued, OutboxState::Queued) => false,
        (OutboxState::Queued | OutboxState::BrokerAcked { .. } | OutboxState::Committing { .. }, _) => true,
        // What is parked moves when a person says so.
        (OutboxState::Parked { .. }, OutboxState::Queued | OutboxState::Expired { .. }) => true,
        (OutboxState::Parked { .. }, _) => false,
        // An escalated alert stays one until a station answers or its validity ends.
        (OutboxState::Escalated { .. }, OutboxState::StationAcked { .. } | OutboxState::Expired { .. }) => true,
        (OutboxState::Escalated { .. }, _) => false,
        (OutboxState::StationAcked { .. } | OutboxState::Delivered { .. } | OutboxState::Expired { .. }, _) => false,
    })
}

impl Store {
    /// Puts messages into the queue together with their audit entry. Durable on return.
    pub fn outbox_add(&self, entries: &[NewOutbox], note: &AuditNote, now_ms: i64) -> Result<(), StoreError> {
        entries.iter().try_for_each(check_entry)?;
        let study = entries.first().and_then(|e| e.study.as_deref());
        self.trees().transact("queueing a message", |tx| {
            entries.iter().try_for_each(|entry| add(tx, entry, now_ms))?;
            audit::append(tx, note, study, now_ms)
        })?;
        self.wake();
        Ok(())
    }

    /// The messages that are still open, in the order of their queueing.
    pub fn outbox_open(&self) -> Result<Vec<OutboxV1>, StoreError> {
        let mut rows = Vec::new();
        for (_, id) in self.trees().scan::<String>(Table::Open, b"")? {
            let row = self.outbox_entry(&id)?;
            let row = row.ok_or_else(|| StoreError::damaged(format!("message {id} is in the queue and has no row")))?;
            // It may have ended between the two reads.
            if row.state.is_open() {
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// A message, open or ended.
    pub fn outbox_entry(&self, id: &str) -> Result<Option<OutboxV1>, StoreError> {
        self.trees().get(Table::Outbox, id.as_bytes())
    }

    /// All messages about a study, open or ended, in the order of their queueing.
    pub fn outbox_of(&self, study: &str) -> Result<Vec<OutboxV1>, StoreError> {
        let rows = self.trees().scan::<OutboxV1>(Table::Outbox, b"")?;
        let mut rows: Vec<_> = rows.into_iter().map(|(_, r)| r).filter(|r| r.study.as_deref() == Some(study)).collect();
        rows.sort_by_key(|r| r.sequence);
        Ok(rows)
    }

    /// Moves a message on, together with its audit entry; durable on return. `false` where nothing changed: no such message, it has
    /// ended already, it is escalated and this would not end it, or it is where it shall go.
    pub fn outbox_advance(&self, id: &str, to: OutboxState, note: &AuditNote, now_ms: i64) -> Result<bool, StoreError> {
        let moved = self.trees().transact("moving a message on", |tx| {
            let Some(mut row) = tx.get::<OutboxV1>(Table::Outbox, id.as_bytes())? else { return Ok(false) };
            if !may_advance(&row, &to).map_err(stop)? {
                return Ok(false);
            }
            if matches!((&row.state, &to), (OutboxState::Parked { .. }, OutboxState::Queued)) {
                row.retried_at_ms = Some(now_ms);
            }
            row.state = to.clone();
            if !row.state.is_open() {
                tx.remove(Table::Open, &row.sequence.to_be_bytes())?;
            }
            tx.put(Table::Outbox, id.as_bytes(), &row)?;
            audit::append(tx, note, row.study.as_deref(), now_ms)?;
            Ok(true)
        })?;
        if moved {
            self.wake();
        }
        Ok(moved)
    }

    /// Counts one more handing over of a message and returns the count (0 for no such message). Not flushed: after a power loss the
    /// count may be one too low, which harms nobody and saves a disk sync per publish.
    pub fn outbox_attempt(&self, id: &str) -> Result<u32, StoreError> {
        self.trees().transact_unflushed("counting an attempt", |tx| {
            let Some(mut row) = tx.get::<OutboxV1>(Table::Outbox, id.as_bytes())? else { return Ok(0) };
            row.attempts = row.attempts.saturating_add(1);
            tx.put(Table::Outbox, id.as_bytes(), &row)?;
            Ok(row.attempts)
        })
    }

    /// Notes why a message was not delivered this time, for a person who looks. Not flushed, for the same reason.
    pub fn outbox_failed(&self, id: &str, why: &str) -> Result<(), StoreError> {
        self.trees().transact_unflushed("noting a failure", |tx| {
            let Some(mut row) = tx.get::<OutboxV1>(Table::Outbox, id.as_bytes())? else { return Ok(()) };
            row.failure = Some(why.chars().take(FAILURE_CHARS_MAX).collect());
            tx.put(Table::Outbox, id.as_bytes(), &row)
        })
    }

    /// A number that grows with every change of the outbox.
    pub fn outbox_generation(&self) -> u64 {
        *self.inner.generation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the outbox changes after generation `seen`, at most `timeout`; returns the generation now. Blocks its thread.
    pub fn wait_outbox(&self, seen: u64, timeout: Duration) -> u64 {
        let generation = self.inner.generation.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.inner.woken.wait_timeout_while(generation, timeout, |now| *now == seen);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    pub(super) fn wake(&self) {
        *self.inner.generation.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.inner.woken.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::Folder;

    fn message(kind: OutboxKind, id: &str) -> NewOutbox {
        let (topic, payload) = (format!("x/{id}"), "{}".to_string());
        NewOutbox {
            id: id.into(),
            kind,
            topic,
            payload,
            study: Some("S000001".into()),
            expires_at_ms: None,
            file: None,
        }
    }

    #[test]
    fn an_alert_ends_only_at_a_station_or_with_its_validity() {
        let folder = Folder::new("alert-ends");
        let (store, _) = Store::open(&folder.0, 1).unwrap();
        let note = AuditNote::new("test", "test");
        store.outbox_add(&[message(OutboxKind::Alert, "a"), message(OutboxKind::Result, "r")], &note, 1).unwrap();
        assert!(store.outbox_advance("a", OutboxState::BrokerAcked { at_ms: 2 }, &note, 2).unwrap());
        let delivered = OutboxState::Delivered { at_ms: 3 };
        assert!(matches!(
            store.outbox_advance("a", delivered.clone(), &note, 3),
            Err(StoreError::AlertEndsAtStation { .. })
        ));
        assert!(store.outbox_advance("r", delivered, &note, 3).unwrap());
        assert!(store.outbox_advance("a", OutboxState::Queued, &note, 4).unwrap());
        assert!(store.outbox_advance("a", OutboxState::Escalated { at_ms: 5 }, &note, 5).unwrap());
        assert!(!store.outbox_advance("a", OutboxState::BrokerAcked { at_ms: 6 }, &note, 6).unwrap());
        assert_eq!(store.outbox_open().unwrap().iter().map(|o| o.id.as_str()).collect::<Vec<_>>(), ["a"]);
        let acked = OutboxState::StationAcked { by: "ward 3".into(), at_ms: 7 };
        assert!(store.outbox_advance("a", acked.clone(), &note, 7).unwrap());
        assert!(!store.outbox_advance("a", acked, &note, 8).unwrap());
        assert!(!store.outbox_advance("unknown", OutboxState::Queued, &note, 8).unwrap());
        assert!(store.outbox_open().unwrap().is_empty());
        // One entry for the queueing, five for the changes: what changed nothing is not audited.
        assert_eq!(store.verify_audit().unwrap().n_entries, 6);
    }

    #[test]
    fn the_same_message_twice_is_one_and_another_under_its_id_is_refused() {
        let folder = Folder::new("duplicates");
        let (store, _) = Store::open(&folder.0, 1).unwrap();
        let note = AuditNote::new("test", "test");
        let first = message(OutboxKind::Event, "e");
        store.outbox_add(std::slice::from_ref(&first), &note, 1).unwrap();
        store.outbox_add(std::slice::from_ref(&first), &note, 2).unwrap();
        assert_eq!(store.outbox_open().unwrap().len(), 1);
        let other = NewOutbox { payload: "{\"other\":1}".into(), ..first };
        let both = [message(OutboxKind::Event, "f"), other];
        assert!(matches!(store.outbox_add(&both, &note, 3), Err(StoreError::DuplicateMessage { .. })));
        assert_eq!(store.outbox_open().unwrap().len(), 1, "all of a transaction or nothing");
        let large = NewOutbox { payload: "x".repeat(ROW_BYTES_MAX + 1), ..message(OutboxKind::Event, "g") };
        assert!(matches!(store.outbox_add(&[large], &note, 4), Err(StoreError::TooLarge { .. })));
    }

    #[test]
    fn order_attempts_and_waking() {
        let folder = Folder::new("order");
        let (store, _) = Store::open(&folder.0, 1).unwrap();
        let note = AuditNote::new("test", "test");
        let seen = store.outbox_generation();
        let waiter = {
            let store = store.clone();
            std::thread::spawn(move || store.wait_outbox(seen, Duration::from_secs(20)))
        };
        let ids: Vec<String> = (0..300).rev().map(|i| message_id(&["event", &i.to_string()])).collect();
        let entries: Vec<_> = ids.iter().map(|id| message(OutboxKind::Event, id)).collect();
        store.outbox_add(&entries, &note, 1).unwrap();
        assert_eq!(waiter.join().unwrap(), seen + 1);
        assert_eq!(store.wait_outbox(seen + 1, Duration::from_millis(5)), seen + 1);
        assert_eq!(store.outbox_open().unwrap().into_iter().map(|o| o.id).collect::<Vec<_>>(), ids);
        assert_eq!(store.outbox_of("S000001").unwrap().len(), 300);
        assert_eq!((store.outbox_attempt(&ids[0]).unwrap(), store.outbox_attempt(&ids[0]).unwrap()), (1, 2));
        assert_eq!(store.outbox_attempt("unknown").unwrap(), 0);
    }

    #[test]
    fn message_ids_do_not_run_together() {
        assert_eq!(message_id(&["ab", "c"]), message_id(&["ab", "c"]));
        assert_ne!(message_id(&["ab", "c"]), message_id(&["a", "bc"]));
        assert_eq!(message_id(&[]).len(), 32);
    }
}
