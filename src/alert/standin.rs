//! Stand-in for the outbox of `crate::store`, until that room is here.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboxKind {
    Alert,
    Result,
    Event,
    DicomSend,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboxState {
    Queued,
    BrokerAcked { at_ms: i64 },
    StationAcked { by: String, at_ms: i64 },
    Delivered { at_ms: i64 },
    Escalated { at_ms: i64 },
    Expired { at_ms: i64 },
}

#[derive(Debug, Clone)]
pub struct OutboxV1 {
    pub id: String,
    pub sequence: u64,
    pub kind: OutboxKind,
    pub topic: String,
    pub payload: String,
    pub study: Option<String>,
    pub created_at_ms: i64,
    pub expires_at_ms: Option<i64>,
    pub attempts: u32,
    pub state: OutboxState,
}

#[derive(Debug, thiserror::Error)]
#[error("store")]
pub struct StoreError;

#[derive(Default)]
pub struct Store {
    rows: Mutex<(u64, BTreeMap<String, OutboxV1>)>,
    changed: Condvar,
}

impl OutboxState {
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Queued | Self::BrokerAcked { .. } | Self::Escalated { .. })
    }
}

impl Store {
    pub fn put(&self, row: OutboxV1) {
        let mut rows = self.rows.lock().unwrap();
        rows.0 += 1;
        rows.1.insert(row.id.clone(), row);
        self.changed.notify_all();
    }
    pub fn outbox_get(&self, id: &str) -> Option<OutboxV1> {
        self.rows.lock().unwrap().1.get(id).cloned()
    }
    pub fn outbox_open(&self) -> Result<Vec<OutboxV1>, StoreError> {
        Ok(self.rows.lock().unwrap().1.values().filter(|r| r.state.is_open()).cloned().collect())
    }
    pub fn outbox_attempt(&self, id: &str, _now_ms: i64) -> Result<(), StoreError> {
        if let Some(row) = self.rows.lock().unwrap().1.get_mut(id) {
            row.attempts += 1;
        }
        Ok(())
    }
    pub fn outbox_advance(&self, id: &str, state: OutboxState, _now_ms: i64) -> Result<(), StoreError> {
        if let Some(row) = self.rows.lock().unwrap().1.get_mut(id) {
            row.state = state;
        }
        Ok(())
    }
    pub fn wait_outbox(&self, seen: u64, timeout: Duration) -> u64 {
        let rows = self.rows.lock().unwrap();
        self.changed.wait_timeout_while(rows, timeout, |r| r.0 == seen).unwrap().0.0
    }
}
