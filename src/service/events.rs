//! Events and messages as outbox entries: what the stations are told.

use super::result::ResultV1;
use crate::alert::payload::{
    ALERT_SCHEMA, AlertV1, EVENT_SCHEMA, EventKind, EventV1, IdentifiersV1, PackagesV1, RESULT_SCHEMA,
    ResultV1 as ResultMessageV1, StatusOfRisk, SurvivalV1, rfc3339,
};
use crate::alert::{self, topic};
use crate::store::{AuditNote, NewOutbox, OutboxKind, Store, StudyV1, message_id};
use serde::Serialize;

/// An event to be told.
pub struct Told<'a> {
    /// What kind.
    pub kind: EventKind,
    /// Stable code.
    pub code: &'a str,
    /// What happened.
    pub sentence: &'a str,
    /// What to do.
    pub advice: &'a str,
    /// The study concerned.
    pub study: Option<&'a str>,
    /// What tells two events of the same code apart; not sent.
    pub about: &'a str,
}

/// Puts an event into the outbox; a store that cannot take it is logged, since nothing else is left.
pub fn tell(store: &Store, told: &Told<'_>) {
    let now_ms = super::now_ms();
    let entry = event(told, IdentifiersV1::None, now_ms);
    let note = AuditNote::new("service", "event").detail(told.code);
    if let Err(error) = store.outbox_add(&[entry], &note, now_ms) {
        tracing::error!(%error, code = told.code, "an event could not be put into the outbox");
    }
}

/// An event as an outbox entry.
pub fn event(told: &Told<'_>, identifiers: IdentifiersV1, now_ms: i64) -> NewOutbox {
    let id = message_id(&["event", told.code, told.study.unwrap_or(""), told.about, told.sentence]);
    let payload = EventV1 {
        schema: EVENT_SCHEMA.into(),
        event_id: id.clone(),
        kind: told.kind,
        code: told.code.into(),
        sentence: told.sentence.into(),
        advice: told.advice.into(),
        study: told.study.map(Into::into),
        issued_at: rfc3339(now_ms),
        identifiers,
    };
    entry(id, OutboxKind::Event, topic::event(told.kind), &payload, told.study, None)
}

/// The messages of a result: always the result itself, and an alert when the risk is high.
pub fn messages(result: &ResultV1, study: &StudyV1, config: &alert::Config, now_ms: i64) -> Vec<NewOutbox> {
    let accession = study.accession.as_ref().map(|a| a.as_str());
    let identifiers = config.identifiers.select(accession, Some(study.patient_id.as_str()));
    let notes: Vec<String> = result.reasons.iter().chain(&result.notes).map(|r| r.sentence.clone()).collect();
    let packages = PackagesV1 {
        segmenter: format!("{} {}", result.segmenter.id, result.segmenter.version),
        nomogram: format!("{} {}", result.nomogram.id, result.nomogram.version),
    };
    let parts = [study.series_uid.as_str(), &study.revision.to_string(), &result.clinical_revision.to_string()];
    let id_of = |kind: &str| message_id(&[kind, parts[0], parts[1], parts[2]]);
    let a = result.assessment.as_ref();
    let certainty = a.map(|a| if a.certainty == "final" { StatusOfRisk::Final } else { StatusOfRisk::Provisional });
    let message = ResultMessageV1 {
        schema: RESULT_SCHEMA.into(),
        result_id: id_of("result"),
        study: study.number.clone(),
        revision: study.revision,
        group: a.map(|a| a.group.clone()),
        probability: a.map(|a| a.probability),
        variant: a.map(|a| a.variant.clone()),
        status: certainty,
        volumes_ml: result.regions.iter().map(|r| (r.region.clone(), r.volume_ml)).collect(),
        notes: notes.clone(),
        issued_at: rfc3339(now_ms),
        packages: packages.clone(),
        identifiers: identifiers.clone(),
        disclaimer: crate::DISCLAIMER.into(),
    };
    let number = Some(study.number.as_str());
    let mut entries =
        vec![entry(id_of("result"), OutboxKind::Result, topic::result(&study.number), &message, number, None)];
    if let (Some(a), Some(status)) = (a, certainty)
        && a.group == "high"
    {
        let id = id_of("alert");
        let expires_at_ms = now_ms + i64::from(config.validity_h) * 3_600_000;
        let alert = AlertV1 {
            schema: ALERT_SCHEMA.into(),
            alert_id: id.clone(),
            study: study.number.clone(),
            revision: study.revision,
            group: a.group.clone(),
            probability: a.probability,
            variant: a.variant.clone(),
            status,
            survival: a
                .survival
                .iter()
                .map(|(month, probability)| SurvivalV1 { month: f64::from(*month), probability: *probability })
                .collect(),
            notes,
            issued_at: rfc3339(now_ms),
            expires_at: rfc3339(expires_at_ms),
            attempt: 1,
            packages,
            identifiers,
            disclaimer: crate::DISCLAIMER.into(),
        };
        entries.push(entry(id.clone(), OutboxKind::Alert, topic::alert(&id), &alert, number, Some(expires_at_ms)));
    }
    entries
}

fn entry(
    id: String,
    kind: OutboxKind,
    topic: String,
    payload: &impl Serialize,
    study: Option<&str>,
    expires_at_ms: Option<i64>,
) -> NewOutbox {
    let payload = serde_json::to_string(payload).expect("a struct of plain values always serializes");
    NewOutbox { id, kind, topic, payload, study: study.map(Into::into), expires_at_ms, file: None }
}
