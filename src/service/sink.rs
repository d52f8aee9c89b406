//! Where received DICOM objects go: into the store, durably, before the sender hears "success".

use super::events::{self, Told};
use crate::alert::payload::EventKind;
use crate::dicom::{AssociationEnd, Received, Rejection, Sink, StoreFailure};
use crate::store::{AuditNote, NewObject, PutObject, Store};
use crate::{Explain, dicom};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is known of arrivals while the process runs: which associations are open for a series, when its last object came.
#[derive(Default)]
pub struct Arrivals {
    state: Mutex<BTreeMap<String, Arrival>>,
    changed: Condvar,
}

/// Arrivals of one series.
#[derive(Debug, Clone)]
struct Arrival {
    open: BTreeSet<u64>,
    last: Instant,
}

impl Arrivals {
    fn note(&self, series: &str, association: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let arrival =
            state.entry(series.into()).or_insert_with(|| Arrival { open: BTreeSet::new(), last: Instant::now() });
        arrival.open.insert(association);
        arrival.last = Instant::now();
        self.changed.notify_all();
    }

    fn released(&self, association: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for arrival in state.values_mut() {
            arrival.open.remove(&association);
        }
        self.changed.notify_all();
    }

    /// How long a series was quiet and whether a sender is still connected. A series that this process has not heard of counts
    /// from now on: timers start again with the process and do not follow the wall clock.
    pub fn of(&self, series: &str) -> (Duration, bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Arrival { open: BTreeSet::new(), last: Instant::now() };
        let arrival = state.entry(series.into()).or_insert_with(fresh);
        (arrival.last.elapsed(), !arrival.open.is_empty())
    }

    /// Forgets a series that is complete.
    pub fn forget(&self, series: &str) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).remove(series);
    }

    /// Waits until something arrives or `timeout` passes.
    pub fn wait(&self, timeout: Duration) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.changed.wait_timeout(state, timeout);
    }
}

/// The receiver's sink.
pub struct StoreSink {
    /// Keeps the objects.
    pub store: Store,
    /// Hears of arrivals.
    pub arrivals: Arc<Arrivals>,
}

impl Sink for StoreSink {
    fn store(&self, object: Received) -> Result<(), StoreFailure> {
        let h = &object.header;
        let accession = Some(h.accession_number.as_str()).filter(|a| !a.is_empty());
        let new = NewObject {
            study_uid: h.study_instance_uid.as_str(),
            series_uid: h.series_instance_uid.as_str(),
            sop_uid: h.sop_instance_uid.as_str(),
            patient_id: h.patient.id.as_str(),
            accession,
            description: &h.kernel,
            header_json: "{}",
            bytes: &object.bytes,
        };
        let now_ms = super::now_ms();
        let put = self.store.put_object(&new, now_ms).map_err(|e| {
            tracing::error!(code = e.code(), error = %e, "an object could not be kept");
            if e.code() == "store.no-space" {
                StoreFailure::out_of_resources(e.to_string())
            } else {
                StoreFailure::processing(e.to_string())
            }
        })?;
        self.arrivals.note(h.series_instance_uid.as_str(), object.association);
        if let PutObject::Altered { study } = put {
            events::tell(
                &self.store,
                &Told {
                    kind: EventKind::DuplicateAltered,
                    code: "series.altered-duplicate",
                    sentence: "other bytes came under the UID of an object that is already here; the first ones were kept",
                    advice: "find out at the scanner why an object was changed under its own UID",
                    study: Some(&study),
                    about: h.sop_instance_uid.as_str(),
                },
            );
        }
        Ok(())
    }

    fn rejected(&self, rejection: Rejection) {
        events::tell(
            &self.store,
            &Told {
                kind: EventKind::NotAnalysed,
                code: rejection.code,
                sentence: &rejection.sentence,
                advice: "send the object again; if it is refused again, have it checked at the sender",
                study: None,
                about: rejection.sop_instance_uid.as_str(),
            },
        );
    }

    fn association_released(&self, end: AssociationEnd) {
        if end.how == dicom::HowEnded::TimedOut {
            let note = AuditNote::new("dicom", "association.timed-out").detail(end.calling_ae.to_string());
            if let Err(error) = self.store.audit_add(&note, None, super::now_ms()) {
                tracing::error!(%error, "the audit could not be written");
            }
        }
        self.arrivals.released(end.association);
    }
}
