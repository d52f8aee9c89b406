//! Where received DICOM objects go: into the store, durably, before the sender hears "success".

use super::delivery;
use super::events::{self, Told};
use super::pulse::Pulse;
use crate::alert::payload::EventKind;
use crate::dicom::{
    AeTitle, AssociationEnd, CommitReport, CommitRequest, Commitment, Durability, Received, Recorded, Reference,
    Rejection, Sink, StoreFailure,
};
use crate::store::{AuditNote, NewObject, PutObject, StagedObject, Store, StoreError};
use crate::{Explain, dicom};
use serde::{Deserialize, Serialize};
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

/// So many objects, or bytes, of an open association are brought to disk before it ends.
const STAGED_MAX: usize = 2000;
const STAGED_BYTES_MAX: u64 = 2 << 30;
/// The free room of the disk is measured this often.
const ROOM_EVERY: Duration = Duration::from_millis(500);

/// The receiver's sink.
pub struct StoreSink {
    store: Store,
    arrivals: Arc<Arrivals>,
    durability: Durability,
    free_mb_min: u64,
    /// Objects of open associations that are not on disk yet, by association.
    staged: Mutex<BTreeMap<u64, Vec<StagedObject>>>,
    /// When the room was measured, and whether there was enough.
    room: Mutex<Option<(Instant, bool)>>,
    pulse: Pulse,
}

/// Facts of a header that the row of an object keeps.
#[derive(Serialize, Deserialize, Default)]
struct FactsV1 {
    #[serde(default)]
    sop_class: String,
}

impl StoreSink {
    /// A sink into a store.
    pub fn new(store: Store, arrivals: Arc<Arrivals>, config: &dicom::Config, pulse: Pulse) -> Self {
        let (durability, free_mb_min) = (config.durability, config.free_mb_min.into());
        Self { store, arrivals, durability, free_mb_min, staged: Mutex::default(), room: Mutex::default(), pulse }
    }

    /// Refuses while the disk is nearly full: the rows still need room for what was promised before, and sled does not recover
    /// from a disk that is quite full.
    fn check_room(&self) -> Result<(), StoreFailure> {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let enough = match *room {
            Some((at, enough)) if at.elapsed() < ROOM_EVERY => enough,
            _ => {
                let enough = self.store.free_mb().map_err(failure)? >= self.free_mb_min;
                *room = Some((Instant::now(), enough));
                enough
            }
        };
        if enough {
            return Ok(());
        }
        tracing::error!(free_mb_min = self.free_mb_min, "an object was refused: the disk is nearly full");
        Err(StoreFailure::out_of_resources("the disk is nearly full"))
    }

    fn stage(&self, new: &NewObject, association: u64, now_ms: i64) -> Result<Option<PutObject>, StoreFailure> {
        let object = match self.store.stage_object(new, now_ms).map_err(failure)? {
            Ok(object) => object,
            Err(known) => return Ok(Some(known)),
        };
        let full = {
            let mut staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
            let own = staged.entry(association).or_default();
            own.push(object);
            own.len() >= STAGED_MAX || own.iter().map(StagedObject::length).sum::<u64>() >= STAGED_BYTES_MAX
        };
        if full {
            self.settle(association)?;
        }
        Ok(None)
    }

    /// Which of the objects are kept, and why not.
    fn look(&self, object: &Reference) -> Result<(), u16> {
        let found = self.store.find_object(object.sop_instance_uid.as_str()).map_err(|error| {
            tracing::error!(%error, "an object could not be looked up");
            dicom::status::PROCESSING_FAILURE
        })?;
        let found = found.ok_or(dicom::status::NO_SUCH_INSTANCE)?;
        let facts: FactsV1 = serde_json::from_str(&found.header_json).unwrap_or_default();
        let same = facts.sop_class == object.sop_class_uid;
        if same { Ok(()) } else { Err(dicom::status::CLASS_INSTANCE_CONFLICT) }
    }
}

fn failure(error: StoreError) -> StoreFailure {
    tracing::error!(code = error.code(), %error, "an object could not be kept");
    if error.code() == "store.no-space" {
        StoreFailure::out_of_resources(error.to_string())
    } else {
        StoreFailure::processing(error.to_string())
    }
}

impl Sink for StoreSink {
    fn waiting(&self) {
        self.pulse.beat();
    }

    fn store(&self, object: Received) -> Result<(), StoreFailure> {
        self.check_room()?;
        let h = &object.header;
        let accession = Some(h.accession_number.as_str()).filter(|a| !a.is_empty());
        let facts = serde_json::json!(FactsV1 { sop_class: h.sop_class_uid.clone() }).to_string();
        let new = NewObject {
            study_uid: h.study_instance_uid.as_str(),
            series_uid: h.series_instance_uid.as_str(),
            sop_uid: h.sop_instance_uid.as_str(),
            patient_id: h.patient.id.as_str(),
            accession,
            description: &h.kernel,
            header_json: &facts,
            bytes: &object.bytes,
        };
        let now_ms = super::now_ms();
        let put = match self.durability {
            Durability::Object => Some(self.store.put_object(&new, now_ms).map_err(failure)?),
            Durability::Association => self.stage(&new, object.association, now_ms)?,
        };
        self.arrivals.note(h.series_instance_uid.as_str(), object.association);
        if let Some(PutObject::Altered { study }) = put {
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

    fn settle(&self, association: u64) -> Result<(), StoreFailure> {
        let staged =
            self.staged.lock().unwrap_or_else(PoisonError::into_inner).remove(&association).unwrap_or_default();
        self.store.put_staged(&staged, super::now_ms()).map_err(failure)?;
        staged.iter().map(StagedObject::series_uid).collect::<BTreeSet<_>>().into_iter().for_each(|series| {
            self.arrivals.note(series, association);
        });
        Ok(())
    }

    fn commitment_requested(&self, commitment: &Commitment) -> Result<Recorded, StoreFailure> {
        let CommitRequest { transaction_uid, objects } = commitment.request.clone();
        let mut report = CommitReport { transaction_uid, committed: Vec::new(), failed: Vec::new() };
        for object in objects {
            match self.look(&object) {
                Ok(()) => report.committed.push(object),
                Err(reason) => report.failed.push((object, reason)),
            }
        }
        let id = delivery::queue_report(&self.store, commitment, &report).map_err(failure)?;
        Ok(Recorded { id, report })
    }

    fn commitment_reported(&self, id: &str) {
        delivery::report_confirmed(&self.store, id);
    }

    fn commitment_report(&self, calling_ae: &AeTitle, report: &CommitReport) -> Result<(), StoreFailure> {
        match delivery::take_report(&self.store, calling_ae, report).map_err(failure)? {
            0 => Err(StoreFailure::unknown_transaction()),
            _ => Ok(()),
        }
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
