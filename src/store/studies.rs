//! Objects and studies: what was received, and each step of its life in one transaction with its messages and its audit entry.

use super::record::ROW_BYTES_MAX;
use super::trees::{STUDIES, Stop, Table, Tx, stop};
use super::{
    AuditNote, HistoryV1, NewObject, NewOutbox, ObjectV1, PackagesV1, PutObject, SpoolFile, StagedObject, StateV1,
    Store, StoreError, StudyChange, StudyV1, audit, outbox, sha256_hex,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Longest text of a header that becomes part of a row, in bytes (DICOM allows 64 characters for these).
const TEXT_BYTES_MAX: usize = 1024;

/// A result: in the row, or a file of the spool when it is large.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ResultV1 {
    Inline(String),
    File(SpoolFile),
}

pub(super) fn result_key(number: &str, index: u32) -> Vec<u8> {
    format!("{number}/{index:08}").into_bytes()
}

fn hash_key(text: &str) -> String {
    sha256_hex(text.as_bytes())[..32].to_string()
}

impl Store {
    /// Keeps a DICOM object; durable on return, so that a C-STORE success may be answered. The first object of a series makes the
    /// study; one that comes after the study left `Receiving` makes its next revision and brings it back to `Receiving`.
    pub fn put_object(&self, new: &NewObject, now_ms: i64) -> Result<PutObject, StoreError> {
        check_texts(new)?;
        let number = self.number_for(new.series_uid)?;
        let name = hash_key(new.sop_uid);
        let key = format!("{number}/{name}").into_bytes();
        if let Some(known) = self.trees().get::<ObjectV1>(Table::Objects, &key)? {
            return self.put_again(&number, &known, new, now_ms);
        }
        let file = self.inner.spool.write(&number, &format!("{name}.dcm"), new.bytes)?;
        let object = ObjectV1 {
            sop_uid: new.sop_uid.into(),
            patient_id: new.patient_id.into(),
            header_json: new.header_json.into(),
            file,
            received_ms: now_ms,
        };
        let kept = self.trees().transact("keeping an object", |tx| {
            // Another association may have brought the same object meanwhile.
            if let Some(known) = tx.get::<ObjectV1>(Table::Objects, &key)? {
                return Ok(Err(known));
            }
            put_rows(tx, &number, &key, &object, new, now_ms).map(Ok)
        })?;
        match kept {
            Ok(study) => {
                // Each sixteenth is enough for a person who watches a transfer.
                if study.n_objects % 16 == 1 {
                    self.write_status(&number);
                }
                Ok(PutObject::New { study: number })
            }
            Err(known) => {
                if known.file.path != object.file.path {
                    self.inner.spool.forget(&object.file);
                }
                self.put_again(&number, &known, new, now_ms)
            }
        }
    }

    /// Writes an object's file without waiting for the disk: many at once are brought there by [`Store::put_staged`]. `Err` of the
    /// inner result: the object was here already, and nothing is staged.
    pub fn stage_object(&self, new: &NewObject, now_ms: i64) -> Result<Result<StagedObject, PutObject>, StoreError> {
        check_texts(new)?;
        let number = self.number_for(new.series_uid)?;
        let name = hash_key(new.sop_uid);
        let key = format!("{number}/{name}").into_bytes();
        if let Some(known) = self.trees().get::<ObjectV1>(Table::Objects, &key)? {
            return self.put_again(&number, &known, new, now_ms).map(Err);
        }
        let file = self.inner.spool.write_unsynced(&number, &format!("{name}.dcm"), new.bytes)?;
        let object = ObjectV1 {
            sop_uid: new.sop_uid.into(),
            patient_id: new.patient_id.into(),
            header_json: new.header_json.into(),
            file,
            received_ms: now_ms,
        };
        Ok(Ok(StagedObject {
            number,
            key,
            object,
            study_uid: new.study_uid.into(),
            series_uid: new.series_uid.into(),
            accession: new.accession.map(Into::into),
            description: new.description.into(),
        }))
    }

    /// Brings staged objects to disk with one sync of the file system, and names them in one transaction; durable on return.
    pub fn put_staged(&self, staged: &[StagedObject], now_ms: i64) -> Result<(), StoreError> {
        if staged.is_empty() {
            return Ok(());
        }
        self.inner.spool.sync_all()?;
        let doubles = self.trees().transact("keeping objects", |tx| {
            let mut doubles = Vec::new();
            for (index, s) in staged.iter().enumerate() {
                match tx.get::<ObjectV1>(Table::Objects, &s.key)? {
                    // Another association, or the same one, has brought the same object; the first bytes stay.
                    Some(known) if known.file.path != s.object.file.path => doubles.push(index),
                    Some(_) => {}
                    None => {
                        let texts = NewObject {
                            study_uid: &s.study_uid,
                            series_uid: &s.series_uid,
                            sop_uid: &s.object.sop_uid,
                            patient_id: s.object.patient_id.as_str(),
                            accession: s.accession.as_deref(),
                            description: &s.description,
                            header_json: &s.object.header_json,
                            bytes: &[],
                        };
                        put_rows(tx, &s.number, &s.key, &s.object, &texts, now_ms)?;
                    }
                }
            }
            Ok(doubles)
        })?;
        for double in doubles.into_iter().filter_map(|index| staged.get(index)) {
            let note = AuditNote::new("store", "object.altered")
                .detail("other bytes under a known SOP Instance UID, the first are kept");
            self.audit_add(&note, Some(&double.number), now_ms)?;
            tracing::warn!(study = double.number, "an object came again with other bytes; the first are kept");
            self.inner.spool.forget(&double.object.file);
        }
        let numbers: BTreeSet<&str> = staged.iter().map(|s| s.number.as_str()).collect();
        numbers.into_iter().for_each(|number| self.write_status(number));
        Ok(())
    }

    /// An object by its SOP Instance UID, if it is kept: its row is there and its file has its length.
    pub fn find_object(&self, sop_uid: &str) -> Result<Option<ObjectV1>, StoreError> {
        let name = hash_key(sop_uid);
        let Some(number) = self.trees().get::<String>(Table::Instances, name.as_bytes())? else { return Ok(None) };
        let object = self.trees().get::<ObjectV1>(Table::Objects, format!("{number}/{name}").as_bytes())?;
        Ok(object.filter(|o| self.inner.spool.is_there(&o.file)))
    }

    /// Room that the disk has left for the store, MiB.
    pub fn free_mb(&self) -> Result<u64, StoreError> {
        self.inner.spool.free_mb()
    }

    /// An object whose SOP Instance UID is known already.
    fn put_again(&self, number: &str, known: &ObjectV1, new: &NewObject, now_ms: i64) -> Result<PutObject, StoreError> {
        let study = number.to_string();
        if sha256_hex(new.bytes) != known.file.sha256 {
            let note = AuditNote::new("store", "object.altered")
                .detail("other bytes under a known SOP Instance UID, the first are kept");
            self.audit_add(&note, Some(number), now_ms)?;
            tracing::warn!(study = number, "an object came again with other bytes; the first are kept");
            return Ok(PutObject::Altered { study });
        }
        // A file that got lost heals when the sender repeats it.
        if !self.inner.spool.is_there(&known.file) {
            self.inner.spool.write(number, &format!("{}.dcm", hash_key(new.sop_uid)), new.bytes)?;
        }
        // The row may be another association's and not on disk yet; this answer promises it too.
        self.trees().flush("keeping an object")?;
        Ok(PutObject::SameAgain { study })
    }

    /// The number of a series, a new one for a new series. A number without a study (a crash right here) is used when the sender repeats.
    fn number_for(&self, series_uid: &str) -> Result<String, StoreError> {
        let key = hash_key(series_uid);
        if let Some(number) = self.trees().get(Table::Series, key.as_bytes())? {
            return Ok(number);
        }
        // Flushed with the object that follows.
        self.trees().transact_unflushed("numbering a study", |tx| {
            if let Some(number) = tx.get(Table::Series, key.as_bytes())? {
                return Ok(number);
            }
            let number = format!("S{:06}", tx.next(STUDIES)?);
            tx.put(Table::Series, key.as_bytes(), &number)?;
            Ok(number)
        })
    }

    /// The objects of a study, by a hash of their SOP Instance UIDs: in no meaningful order.
    pub fn objects(&self, study: &str) -> Result<Vec<ObjectV1>, StoreError> {
        let rows = self.trees().scan(Table::Objects, format!("{study}/").as_bytes())?;
        Ok(rows.into_iter().map(|(_, object)| object).collect())
    }

    /// Writes a file of a study, durably. It stays only if a transition names it among the artifacts before the next start.
    pub fn write_spool(&self, study: &str, name: &str, bytes: &[u8]) -> Result<SpoolFile, StoreError> {
        self.inner.spool.write(study, name, bytes)
    }

    /// Reads a file of the spool and compares length and SHA-256 with what was written.
    pub fn read_spool(&self, file: &SpoolFile) -> Result<Vec<u8>, StoreError> {
        self.inner.spool.read(file)
    }

    /// All studies, oldest first, with their present results; those of their history are filled in by [`Store::study`] alone.
    pub fn studies(&self) -> Result<Vec<StudyV1>, StoreError> {
        let mut studies: Vec<StudyV1> =
            self.trees().scan(Table::Studies, b"")?.into_iter().map(|(_, study)| study).collect();
        for study in &mut studies {
            study.result_json = self.result_text(&study.number, study.result)?;
        }
        studies.sort_by(|a, b| (a.number.len(), &a.number).cmp(&(b.number.len(), &b.number)));
        Ok(studies)
    }

    /// A study with its present and earlier results.
    pub fn study(&self, number: &str) -> Result<Option<StudyV1>, StoreError> {
        let study = self.trees().get(Table::Studies, number.as_bytes())?;
        study.map(|study| self.fill(study)).transpose()
    }

    fn fill(&self, mut study: StudyV1) -> Result<StudyV1, StoreError> {
        study.result_json = self.result_text(&study.number, study.result)?;
        for past in &mut study.history {
            past.result_json = self.result_text(&study.number, past.result)?;
        }
        Ok(study)
    }

    fn result_text(&self, number: &str, index: Option<u32>) -> Result<Option<String>, StoreError> {
        let Some(index) = index else { return Ok(None) };
        let row = self.trees().get(Table::Results, &result_key(number, index))?;
        match row.ok_or_else(|| StoreError::damaged(format!("result {index} of study {number} is missing")))? {
            ResultV1::Inline(json) => Ok(Some(json)),
            ResultV1::File(file) => String::from_utf8(self.inner.spool.read(&file)?)
                .map(Some)
                .map_err(|_| StoreError::damaged(format!("{} is not text", file.path))),
        }
    }

    /// The step of a study from the state in which the caller read it: study, messages and audit entry in one transaction, durable on
    /// return. [`StoreError::StudyMoved`] when the study has changed since (a late object, another worker): nothing is written then.
    pub fn transition(
        &self,
        from: &StudyV1,
        change: &StudyChange,
        messages: &[NewOutbox],
        note: &AuditNote,
        now_ms: i64,
    ) -> Result<StudyV1, StoreError> {
        messages.iter().try_for_each(outbox::check_entry)?;
        if let Some(lost) = change.artifacts.values().find(|file| !self.inner.spool.is_there(file)) {
            return Err(StoreError::damaged(format!("{} is missing", lost.path)));
        }
        let result = match &change.result_json {
            Some(json) if json.len() > ROW_BYTES_MAX => {
                Some(ResultV1::File(self.inner.spool.write(&from.number, "result.json", json.as_bytes())?))
            }
            Some(json) => Some(ResultV1::Inline(json.clone())),
            None => None,
        };
        let study = self.trees().transact("moving a study on", |tx| {
            let study: Option<StudyV1> = tx.get(Table::Studies, from.number.as_bytes())?;
            let study = study.ok_or_else(|| stop(StoreError::NoSuchStudy { number: from.number.clone() }))?;
            if study.serial != from.serial {
                let (number, state, revision) = (study.number, study.state.name(), study.revision);
                return Err(stop(StoreError::StudyMoved { number, state, revision }));
            }
            let study = apply(tx, study, change, result.as_ref(), now_ms)?;
            tx.put(Table::Studies, study.number.as_bytes(), &study)?;
            messages.iter().try_for_each(|message| outbox::add(tx, message, now_ms))?;
            audit::append(tx, note, Some(&study.number), now_ms)?;
            Ok(study)
        })?;
        tracing::info!(study = %study.number, state = study.state.name(), revision = study.revision, "study moved on");
        self.write_status(&study.number);
        if !messages.is_empty() {
            self.wake();
        }
        self.fill(study)
    }
}

fn check_texts(new: &NewObject) -> Result<(), StoreError> {
    let texts = [
        ("the Study Instance UID", new.study_uid, TEXT_BYTES_MAX),
        ("the Series Instance UID", new.series_uid, TEXT_BYTES_MAX),
        ("the SOP Instance UID", new.sop_uid, TEXT_BYTES_MAX),
        ("the Patient ID", new.patient_id, TEXT_BYTES_MAX),
        ("the Accession Number", new.accession.unwrap_or(""), TEXT_BYTES_MAX),
        ("the description", new.description, TEXT_BYTES_MAX),
        ("the facts of the header", new.header_json, ROW_BYTES_MAX),
    ];
    match texts.into_iter().find(|(_, text, limit)| text.len() > *limit) {
        Some((what, text, limit)) => Err(StoreError::TooLarge { what, length: text.len(), limit }),
        None => Ok(()),
    }
}

/// The rows of a new object: itself, where it is found, and its study.
fn put_rows(
    tx: &Tx,
    number: &str,
    key: &[u8],
    object: &ObjectV1,
    new: &NewObject,
    now_ms: i64,
) -> Result<StudyV1, Stop> {
    let study = receive(tx, number, new, now_ms)?;
    tx.put(Table::Objects, key, object)?;
    tx.put(Table::Instances, hash_key(&object.sop_uid).as_bytes(), &number)?;
    tx.put(Table::Studies, number.as_bytes(), &study)?;
    Ok(study)
}

/// The study's row after one more object, with the audit entry where that is more than one object more.
fn receive(tx: &Tx, number: &str, new: &NewObject, now_ms: i64) -> Result<StudyV1, Stop> {
    let mut study = match tx.get::<StudyV1>(Table::Studies, number.as_bytes())? {
        None => {
            audit::append(tx, &AuditNote::new("store", "study.created"), Some(number), now_ms)?;
            new_study(number, new, now_ms)
        }
        Some(study) if study.state == StateV1::Receiving => study,
        Some(study) => {
            let note =
                AuditNote::new("store", "study.revised").detail(format!("an object came while {}", study.state.name()));
            audit::append(tx, &note, Some(number), now_ms)?;
            revise(study, now_ms)
        }
    };
    study.n_objects += 1;
    study.serial += 1;
    study.last_received_ms = now_ms;
    study.changed_ms = now_ms;
    Ok(study)
}

fn new_study(number: &str, new: &NewObject, now_ms: i64) -> StudyV1 {
    StudyV1 {
        number: number.into(),
        revision: 1,
        serial: 0,
        state: StateV1::Receiving,
        study_uid: new.study_uid.into(),
        series_uid: new.series_uid.into(),
        patient_id: new.patient_id.into(),
        accession: new.accession.filter(|a| !a.is_empty()).map(Into::into),
        description: new.description.into(),
        n_objects: 0,
        first_received_ms: now_ms,
        last_received_ms: now_ms,
        changed_ms: now_ms,
        attempts: 0,
        packages: PackagesV1::default(),
        artifacts: BTreeMap::new(),
        result_json: None,
        history: Vec::new(),
        result: None,
        n_results: 0,
    }
}

/// The next revision: what there was goes into the history, and the study receives again.
fn revise(mut study: StudyV1, now_ms: i64) -> StudyV1 {
    let past = to_history(&mut study, now_ms);
    study.history.push(past);
    study.artifacts.clear();
    study.packages = PackagesV1::default();
    study.state = StateV1::Receiving;
    study.attempts = 0;
    study.revision += 1;
    study
}

fn to_history(study: &mut StudyV1, now_ms: i64) -> HistoryV1 {
    HistoryV1 {
        revision: study.revision,
        state: study.state.clone(),
        result_json: None,
        artifacts: study.artifacts.clone(),
        ended_at_ms: now_ms,
        result: study.result.take(),
    }
}

/// The study's row after a change; a new result is written beside it.
fn apply(
    tx: &Tx,
    mut study: StudyV1,
    change: &StudyChange,
    result: Option<&ResultV1>,
    now_ms: i64,
) -> Result<StudyV1, Stop> {
    if change.next_revision {
        study = revise(study, now_ms);
    }
    if let Some(result) = result {
        if study.result.is_some() {
            let past = to_history(&mut study, now_ms);
            study.history.push(past);
        }
        tx.put(Table::Results, &result_key(&study.number, study.n_results), result)?;
        study.result = Some(study.n_results);
        study.n_results += 1;
    }
    let same_step = study.state.name() == change.state.name();
    study.attempts = change.attempts.unwrap_or(if same_step { study.attempts } else { 0 });
    study.state = change.state.clone();
    if let Some(packages) = &change.packages {
        study.packages = packages.clone();
    }
    study.artifacts.extend(change.artifacts.clone());
    study.serial += 1;
    study.changed_ms = now_ms;
    Ok(study)
}
