//! What the console shows, read from the store.

use super::analysis::Models;
use super::delivery::SendV1;
use super::features::Features;
use super::health::Shared;
use super::objects;
use super::result::{AssessmentResult, PackageRef, Remark, ResultV1, Status};
use crate::alert::Identifiers;
use crate::console::{
    AlertState, AlertView, AssessmentView, AuditRow, Command, Contribution, DeliveryRow, FeatureRow, FileRow,
    PackageRow, RegionRow, Remark as RemarkRow, Source, Status as Shown, StepRow, StudyPage, StudySummary, Viewed,
};
use crate::risk::{self, ClinicalValues};
use crate::store::{AuditNote, OutboxKind, OutboxState, OutboxV1, StateV1, Store, StoreError, StudyV1};
use crate::volume::Region;
use std::sync::{Arc, Mutex, PoisonError};

/// Audit entries on a page, newest first.
const AUDIT_ROWS_MAX: usize = 50;

/// The console's source.
pub struct StoreSource {
    /// The store.
    pub store: Store,
    /// Which identifier of the patient the pages show: the one that the site lets out over MQTT.
    pub identifiers: Identifiers,
    /// What the watcher says about the box.
    pub shared: Arc<Shared>,
    /// The packages that run now.
    pub running: Arc<Mutex<Arc<Models>>>,
}

impl StoreSource {
    fn patient(&self, study: &StudyV1) -> Option<String> {
        let text = match self.identifiers {
            Identifiers::None => None,
            Identifiers::Accession => study.accession.as_ref().map(|a| a.as_str()),
            Identifiers::PatientId => Some(study.patient_id.as_str()),
        };
        text.filter(|t| !t.is_empty()).map(Into::into)
    }

    fn alert_of(&self, study: &StudyV1) -> Result<Option<AlertView>, StoreError> {
        let newest = self
            .store
            .outbox_of(&study.number)?
            .into_iter()
            .filter(|m| m.kind == OutboxKind::Alert)
            .max_by_key(|m| m.sequence);
        Ok(newest.map(alert_view))
    }

    /// What goes to other nodes, newest first.
    fn deliveries_of(&self, study: &StudyV1) -> Result<Vec<DeliveryRow>, StoreError> {
        let rows = self.store.outbox_of(&study.number)?.into_iter().filter(|m| m.kind == OutboxKind::DicomSend).rev();
        Ok(rows
            .map(|row| DeliveryRow {
                what: serde_json::from_str::<SendV1>(&row.payload).map_or(String::new(), |sent| sent.name),
                to: row.topic,
                state: row.state.name().into(),
                attempts: row.attempts,
                parked: match row.state {
                    OutboxState::Parked { reason, .. } => Some(reason),
                    _ => None,
                },
                id: row.id,
            })
            .collect())
    }

    fn page(&self, study: &StudyV1) -> Result<StudyPage, StoreError> {
        let result = result_of(study);
        let features = match study.artifacts.get("features.csv") {
            Some(file) => String::from_utf8(self.store.read_spool(file)?).ok().and_then(|csv| Features::from_csv(&csv)),
            None => None,
        };
        let clinical = match self.store.clinical(study.patient_id.as_str())? {
            Some(stored) => {
                risk::clinical_from_json(&stored.json).map_or_else(|_| ClinicalValues::default(), |(_, values)| values)
            }
            None => ClinicalValues::default(),
        };
        let mut audit: Vec<AuditRow> = self
            .store
            .audit_entries()?
            .into_iter()
            .filter(|entry| entry.study.as_deref() == Some(&study.number))
            .map(|entry| AuditRow {
                at_ms: entry.at_ms,
                actor: entry.actor,
                action: entry.action,
                detail: entry.detail,
            })
            .collect();
        audit.reverse();
        audit.truncate(AUDIT_ROWS_MAX);
        let mut page = StudyPage {
            number: study.number.clone(),
            revision: Some(study.revision),
            patient: self.patient(study),
            description: Some(study.description.clone()).filter(|d| !d.is_empty()),
            received_at_ms: Some(study.first_received_ms),
            n_objects: Some(study.n_objects),
            status: shown(&study.state, result.as_ref()),
            state: Some(doing(&study.state).into()).filter(|_| !study.state.is_final()),
            files: study.artifacts.iter().map(|(name, f)| file_row(name, f.length)).collect(),
            pictures: study.artifacts.keys().filter(|n| n.ends_with(".png")).cloned().collect(),
            features: features.map_or(Vec::new(), feature_rows),
            clinical,
            clinical_form: matches!(study.state, StateV1::Scored | StateV1::Delivered),
            alert: self.alert_of(study)?,
            deliveries: self.deliveries_of(study)?,
            audit,
            ..StudyPage::default()
        };
        match (&study.state, result) {
            (_, Some(result)) => self.fill(&mut page, result, study),
            (StateV1::Rejected { code, sentence, advice }, None) => page.reasons = vec![row(code, sentence, advice)],
            (StateV1::Failed { code, sentence, .. }, None) => {
                page.reasons = vec![row(code, sentence, "report the log of the service")]
            }
            _ => {}
        }
        Ok(page)
    }

    fn fill(&self, page: &mut StudyPage, result: ResultV1, study: &StudyV1) {
        let rows = |remarks: &[Remark]| remarks.iter().map(|r| row(&r.code, &r.sentence, &r.advice)).collect();
        let (of_risk, of_gate): (Vec<Remark>, Vec<Remark>) =
            result.notes.iter().cloned().partition(|r| r.code.starts_with("risk."));
        page.computed_at_ms = Some(study.changed_ms);
        page.size_xyz = Some(result.size_xyz);
        page.spacing_mm = Some(result.spacing_mm);
        page.reasons = rows(&result.reasons);
        page.notes = rows(&of_gate);
        let nomogram = &result.nomogram;
        page.assessment = result.assessment.map(|a| self.assessment(a, nomogram, rows(&of_risk)));
        page.regions = result
            .regions
            .into_iter()
            .map(|r| RegionRow {
                name: Region::from_name(&r.region).map_or(r.region.clone(), |region| region.title().into()),
                volume_ml: r.volume_ml,
                n_voxels: r.n_voxels,
            })
            .collect();
        page.steps = result.steps_ms.into_iter().map(|(name, ms)| StepRow { name, ms }).collect();
        page.packages = vec![package("segmenter", result.segmenter), package("nomogram", result.nomogram)];
        page.backend = Some(result.backend);
    }

    fn assessment(&self, a: AssessmentResult, nomogram: &PackageRef, notes: Vec<RemarkRow>) -> AssessmentView {
        // Results of another nomogram have other cut-offs.
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known = Some(&running.nomogram).filter(|known| known.manifest_sha256 == nomogram.sha256);
        let of_variant = known.and_then(|known| known.variants.iter().find(|v| v.name == a.variant));
        let cut_offs = of_variant.map(|v| [v.intermediate_from, v.high_from]);
        let contributions = a
            .contributions
            .into_iter()
            .map(|c| Contribution { label: c.label, value: c.value, shap: c.shap, points: Some(c.points) })
            .collect();
        AssessmentView {
            probability: a.probability,
            group: a.group,
            cut_offs,
            horizon_months: Some(a.horizon_months),
            variant: a.variant,
            certainty: a.certainty,
            points: Some(a.points),
            points_max: Some(a.points_max),
            survival: a.survival.iter().map(|(month, p)| (f64::from(*month), *p)).collect(),
            contributions,
            notes,
        }
    }

    fn summary(&self, study: &StudyV1) -> Result<StudySummary, StoreError> {
        let result = result_of(study);
        let reason = match (&study.state, &result) {
            (StateV1::Rejected { sentence, .. } | StateV1::Failed { sentence, .. }, _) => Some(sentence.clone()),
            _ => None,
        };
        let status = shown(&study.state, result.as_ref());
        let assessment = result.and_then(|r| r.assessment);
        Ok(StudySummary {
            number: study.number.clone(),
            patient: self.patient(study),
            description: Some(study.description.clone()).filter(|d| !d.is_empty()),
            received_at_ms: Some(study.first_received_ms),
            status,
            group: assessment.as_ref().map(|a| a.group.clone()),
            probability: assessment.as_ref().map(|a| a.probability),
            certainty: assessment.map(|a| a.certainty),
            reason,
            alert: self.alert_of(study)?.map(|a| a.state),
        })
    }
}

impl Source for StoreSource {
    fn list(&self) -> Result<Vec<StudySummary>, String> {
        let studies = self.store.studies().map_err(told)?;
        studies.iter().rev().map(|study| self.summary(study).map_err(told)).collect()
    }

    fn study(&self, number: &str) -> Result<Option<StudyPage>, String> {
        let study = self.store.study(number).map_err(told)?;
        study.map(|study| self.page(&study).map_err(told)).transpose()
    }

    fn notices(&self) -> Vec<String> {
        self.shared.sentences.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn file(&self, number: &str, name: &str) -> Result<Option<Vec<u8>>, String> {
        let Some(study) = self.store.study(number).map_err(told)? else { return Ok(None) };
        study.artifacts.get(name).map(|file| self.store.read_spool(file).map_err(told)).transpose()
    }

    fn viewed(&self, user: &str, what: &Viewed) -> Result<(), String> {
        let (action, study, detail) = match what {
            Viewed::List => ("view.list", None, ""),
            Viewed::Study { number } => ("view.study", Some(number), ""),
            Viewed::File { number, name } => ("view.file", Some(number), name.as_str()),
        };
        let note = AuditNote::new(user, action).detail(detail);
        self.store.audit_add(&note, study.map(String::as_str), super::now_ms()).map_err(told)
    }

    fn command(&self, user: &str, command: Command) -> Result<(), String> {
        let now_ms = super::now_ms();
        let (number, json) = match command {
            Command::EnterClinical { number, json, .. } => (number, json),
            Command::SendAgain { id, .. } => {
                let retried = self.store.retry(&id, user, now_ms).map_err(told)?;
                return if retried { Ok(()) } else { Err("it is not parked any more".into()) };
            }
        };
        let study = self.store.study(&number).map_err(told)?.ok_or("there is no such study")?;
        let source = format!("console, {user}");
        let revision = self.store.put_clinical(study.patient_id.as_str(), &json, &source, now_ms).map_err(told)?;
        let note = AuditNote::new(user, "clinical.entered").detail(format!("revision {revision}"));
        self.store.audit_add(&note, Some(&number), now_ms).map_err(told)
    }
}

fn told(error: StoreError) -> String {
    error.to_string()
}

/// The result that belongs to the present state: a study that was received again has none yet.
fn result_of(study: &StudyV1) -> Option<ResultV1> {
    let has_one = matches!(study.state, StateV1::Scored | StateV1::Delivered | StateV1::Rejected { .. });
    let json = study.result_json.as_deref().filter(|_| has_one)?;
    ResultV1::from_json(json).ok().filter(|r| r.revision == study.revision)
}

fn shown(state: &StateV1, result: Option<&ResultV1>) -> Shown {
    match state {
        StateV1::Receiving => Shown::Receiving,
        StateV1::Assembled | StateV1::Segmented | StateV1::Measured => Shown::Processing,
        StateV1::Rejected { .. } => Shown::Refused,
        StateV1::Failed { .. } => Shown::Failed,
        StateV1::Scored | StateV1::Delivered => match result.map(|r| r.status) {
            Some(Status::Accepted) => Shown::Accepted,
            Some(Status::AcceptedWithNotes) => Shown::AcceptedWithNotes,
            Some(Status::Refused) | None => Shown::Refused,
        },
    }
}

fn doing(state: &StateV1) -> &'static str {
    match state {
        StateV1::Assembled => "segmenting",
        StateV1::Segmented => "measuring",
        StateV1::Measured => "computing the risk",
        other => other.name(),
    }
}

fn alert_view(message: OutboxV1) -> AlertView {
    let (state, at_ms, by) = match message.state {
        OutboxState::Queued => (AlertState::Queued, Some(message.created_at_ms), None),
        OutboxState::BrokerAcked { at_ms } => (AlertState::AtBroker, Some(at_ms), None),
        OutboxState::Escalated { at_ms } => (AlertState::Escalated, Some(at_ms), None),
        OutboxState::StationAcked { by, at_ms } => (AlertState::Acknowledged, Some(at_ms), Some(by)),
        OutboxState::Delivered { at_ms } => (AlertState::AtBroker, Some(at_ms), None),
        // An alert is never in the states of DICOM.
        OutboxState::Expired { at_ms } | OutboxState::Committing { at_ms, .. } | OutboxState::Parked { at_ms, .. } => {
            (AlertState::Expired, Some(at_ms), None)
        }
    };
    AlertView { id: Some(message.id), state, at_ms, by }
}

fn row(code: &str, sentence: &str, advice: &str) -> RemarkRow {
    RemarkRow { code: code.into(), sentence: sentence.into(), advice: advice.into() }
}

fn package(kind: &str, package: PackageRef) -> PackageRow {
    PackageRow { kind: kind.into(), id: package.id, version: package.version, sha256: package.sha256 }
}

fn file_row(name: &str, length: u64) -> FileRow {
    let title = match name {
        "labels.nii.gz" => "Label map (NIfTI)",
        objects::SEGMENTATION => "Segmentation (DICOM SEG)",
        objects::MEASUREMENTS => "Measurements and risk (DICOM SR)",
        objects::REPORT => "Report (DICOM encapsulated PDF)",
        objects::PAGE => "Report (PDF)",
        "features.csv" => "Radiomic features",
        "result.json" => "Result (JSON)",
        "segmentation.json" => "Quality gate and times",
        _ if objects::is_picture(name) => "Key picture (DICOM secondary capture)",
        _ => "",
    };
    FileRow { name: name.into(), title: title.into(), length: Some(length) }
}

fn feature_rows(features: Features) -> Vec<FeatureRow> {
    let of_region = |(region, rows): (String, Vec<(String, f64)>)| {
        rows.into_iter()
            .map(move |(name, value)| FeatureRow { region: region.clone(), name, value: risk::format_short(value) })
            .collect::<Vec<_>>()
    };
    features.regions.into_iter().flat_map(of_region).collect()
}
