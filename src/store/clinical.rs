//! Clinical values by patient: every revision is kept, the key is a hash of the patient id.

use super::record::ROW_BYTES_MAX;
use super::trees::Table;
use super::{AuditNote, ClinicalV1, Store, StoreError, StudyV1, audit, sha256_hex};

fn patient_key(patient_id: &str) -> String {
    sha256_hex(patient_id.as_bytes())
}

fn revision_key(patient: &str, revision: u32) -> Vec<u8> {
    format!("{patient}/{revision:08}").into_bytes()
}

impl Store {
    /// Keeps clinical values (JSON) of a patient and returns their revision, durably. The same values again are no new revision.
    pub fn put_clinical(&self, patient_id: &str, json: &str, source: &str, now_ms: i64) -> Result<u32, StoreError> {
        if json.len() > ROW_BYTES_MAX {
            return Err(StoreError::TooLarge {
                what: "a set of clinical values",
                length: json.len(),
                limit: ROW_BYTES_MAX,
            });
        }
        let patient = patient_key(patient_id);
        self.trees().transact("keeping clinical values", |tx| {
            let newest = tx.get::<u32>(Table::Clinical, patient.as_bytes())?.unwrap_or(0);
            let known: Option<ClinicalV1> = tx.get(Table::Clinical, &revision_key(&patient, newest))?;
            if known.is_some_and(|k| k.json == json && k.source == source) {
                return Ok(newest);
            }
            let revision = newest + 1;
            let row = ClinicalV1 { revision, json: json.into(), source: source.into(), received_ms: now_ms };
            tx.put(Table::Clinical, &revision_key(&patient, revision), &row)?;
            tx.put(Table::Clinical, patient.as_bytes(), &revision)?;
            let note = AuditNote::new("store", "clinical.kept").detail(format!("revision {revision} from {source}"));
            audit::append(tx, &note, None, now_ms)?;
            Ok(revision)
        })
    }

    /// The newest clinical values of a patient.
    pub fn clinical(&self, patient_id: &str) -> Result<Option<ClinicalV1>, StoreError> {
        let patient = patient_key(patient_id);
        let Some(newest) = self.trees().get::<u32>(Table::Clinical, patient.as_bytes())? else { return Ok(None) };
        let row = self.trees().get(Table::Clinical, &revision_key(&patient, newest))?;
        row.map(Some).ok_or_else(|| StoreError::damaged("the newest clinical values of a patient are missing"))
    }

    /// The studies of a patient, oldest first, for scoring again.
    pub fn studies_of(&self, patient_id: &str) -> Result<Vec<StudyV1>, StoreError> {
        Ok(self.studies()?.into_iter().filter(|s| s.patient_id.as_str() == patient_id).collect())
    }
}
