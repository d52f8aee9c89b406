//! The outbox for a person at the terminal, beside the running service: `outbox.json` tells what is not delivered over DICOM yet,
//! `requests/` takes what a person asks for. Neither holds patient data.

use super::spool::{list, make_folder};
use super::{AuditNote, OutboxState, OutboxV1, Store, StoreError};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

const FILE: &str = "outbox.json";
const REQUESTS: &str = "requests";
const RETRY: &str = "retry-";
const SCHEMA: &str = "metwatch.outbox-status/1";

/// The open messages of the outbox that leave over DICOM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboxStatusV1 {
    /// `metwatch.outbox-status/1`.
    pub schema: String,
    /// The messages in the order of their queueing.
    pub messages: Vec<OutboxRowV1>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboxRowV1 {
    /// Its id.
    pub id: String,
    /// Where to: an AE title.
    pub to: String,
    /// The study that it belongs to.
    pub study: Option<String>,
    /// What it is, JSON as the sender reads it.
    pub payload: serde_json::Value,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it was not delivered when it was tried last.
    pub failure: Option<String>,
    /// When it was queued, unix ms UTC.
    pub created_at_ms: i64,
    /// How far it has come.
    pub state: OutboxState,
}

impl From<OutboxV1> for OutboxRowV1 {
    fn from(row: OutboxV1) -> Self {
        OutboxRowV1 {
            id: row.id,
            to: row.topic,
            study: row.study,
            payload: serde_json::from_str(&row.payload).unwrap_or_default(),
            attempts: row.attempts,
            failure: row.failure,
            created_at_ms: row.created_at_ms,
            state: row.state,
        }
    }
}

/// The outbox as its file tells; works beside a running service.
pub fn read_outbox(directory: &Path) -> Result<OutboxStatusV1, StoreError> {
    let path = directory.join(FILE);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|_| StoreError::damaged(format!("{} is no status of an outbox", path.display()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && directory.join(super::open::LOCK).exists() => {
            Ok(OutboxStatusV1 { schema: SCHEMA.into(), messages: Vec::new() })
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(StoreError::NoStore { directory: directory.into() }),
        Err(e) => Err(StoreError::file("reading", &path, e)),
    }
}

/// Asks the service to send a parked message again; it looks every second, or when it starts.
pub fn request_retry(directory: &Path, id: &str) -> Result<(), StoreError> {
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(StoreError::BadName { name: id.chars().take(100).collect() });
    }
    let folder = directory.join(REQUESTS);
    make_folder(&folder)?;
    let path = folder.join(format!("{RETRY}{id}"));
    fs::write(&path, b"").map_err(|e| StoreError::file("writing", &path, e))
}

impl Store {
    /// Writes `outbox.json`. What fails here is told in the log and holds nobody up: the rows are what counts.
    pub fn write_outbox(&self) {
        let written = self.outbox_open().and_then(|rows| {
            let messages = rows.into_iter().filter(|row| row.kind.is_dicom()).map(OutboxRowV1::from).collect();
            let status = OutboxStatusV1 { schema: SCHEMA.into(), messages };
            let json = serde_json::to_vec_pretty(&status).map_err(|e| StoreError::damaged(e.to_string()))?;
            let path = self.directory().join(FILE);
            let part = path.with_extension("json.part");
            fs::write(&part, json)
                .and_then(|()| fs::rename(&part, &path))
                .map_err(|e| StoreError::file("writing", &path, e))
        });
        if let Err(error) = written {
            tracing::warn!(%error, "the status of the outbox was not written");
        }
    }

    /// Does what people asked for; the number of messages that are sent again.
    pub fn take_requests(&self, now_ms: i64) -> Result<usize, StoreError> {
        let mut retried = 0;
        for path in list(&self.directory().join(REQUESTS))? {
            if let Some(id) = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(RETRY)) {
                retried += usize::from(self.retry(id, "terminal", now_ms)?);
            }
            fs::remove_file(&path).map_err(|e| StoreError::file("removing", &path, e))?;
        }
        Ok(retried)
    }

    /// Sends a parked message again; false where none is parked under this id.
    pub fn retry(&self, id: &str, who: &str, now_ms: i64) -> Result<bool, StoreError> {
        let parked = self.outbox_entry(id)?.is_some_and(|row| matches!(row.state, OutboxState::Parked { .. }));
        let note = AuditNote::new(who, "outbox.retried").detail(format!("message {id}"));
        Ok(parked && self.outbox_advance(id, OutboxState::Queued, &note, now_ms)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::Folder;
    use crate::store::{NewOutbox, OutboxKind, message_id};

    #[test]
    fn a_parked_message_is_listed_and_sent_again_on_request() {
        let folder = Folder::new("outbox-files");
        let (store, _) = Store::open(&folder.0, 1).unwrap();
        let (id, note) = (message_id(&["x"]), AuditNote::new("test", "test"));
        let message = NewOutbox {
            id: id.clone(),
            kind: OutboxKind::DicomSend,
            topic: "PACS".into(),
            payload: "{\"object\":\"seg\"}".into(),
            study: None,
            expires_at_ms: None,
            file: None,
        };
        store.outbox_add(&[message], &note, 1).unwrap();
        store.write_outbox();
        assert_eq!(read_outbox(&folder.0).unwrap().messages[0].state, OutboxState::Queued);
        let parked = OutboxState::Parked { reason: "no".into(), at_ms: 2 };
        assert!(store.outbox_advance(&id, parked.clone(), &note, 2).unwrap());
        assert!(!store.outbox_advance(&id, OutboxState::Delivered { at_ms: 3 }, &note, 3).unwrap());
        store.write_outbox();
        let row = read_outbox(&folder.0).unwrap().messages.remove(0);
        assert_eq!((row.to.as_str(), &row.state, row.payload["object"].as_str()), ("PACS", &parked, Some("seg")));
        assert!(request_retry(&folder.0, "../x").is_err());
        request_retry(&folder.0, &id).unwrap();
        assert_eq!((store.take_requests(5).unwrap(), store.take_requests(6).unwrap()), (1, 0));
        let row = store.outbox_entry(&id).unwrap().unwrap();
        assert_eq!((row.state, row.retried_at_ms), (OutboxState::Queued, Some(5)));
    }
}
