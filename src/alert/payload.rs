//! What the box says and hears over MQTT: versioned JSON, one struct a topic. The schemas lie beside this file in `schemas/`.
//!
//! `study` is always the box-local number (such as `S000001`), never a UID. The only patient data that can be here is in
//! [`IdentifiersV1`], and only if the site configured it ([`super::Identifiers`]).

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

pub use super::health::{GpuV1, HEALTH_SCHEMA, HealthV1, MachineV1, PolicyV1, RailV1, ReadingV1, WorkV1, ZoneV1};

/// `schema` of an [`AlertV1`].
pub const ALERT_SCHEMA: &str = "metwatch.alert/1";
/// `schema` of a [`ResultV1`].
pub const RESULT_SCHEMA: &str = "metwatch.result/1";
/// `schema` of an [`EventV1`].
pub const EVENT_SCHEMA: &str = "metwatch.event/1";
/// `schema` of a [`StatusV1`].
pub const STATUS_SCHEMA: &str = "metwatch.status/1";
/// `schema` of an [`AckV1`].
pub const ACK_SCHEMA: &str = "metwatch.ack/1";

/// JSON Schemas (2020-12) by `schema` name, for receivers.
pub const SCHEMAS: [(&str, &str); 6] = [
    (ALERT_SCHEMA, include_str!("schemas/alert.json")),
    (RESULT_SCHEMA, include_str!("schemas/result.json")),
    (EVENT_SCHEMA, include_str!("schemas/event.json")),
    (STATUS_SCHEMA, include_str!("schemas/status.json")),
    (ACK_SCHEMA, include_str!("schemas/ack.json")),
    (HEALTH_SCHEMA, include_str!("schemas/health.json")),
];

/// Whether clinical values may still change the risk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusOfRisk {
    /// Made without all clinical values; a final one may follow.
    Provisional,
    /// Made by the complete variant.
    Final,
}

/// The patient on the wire: as much as the site configured. `Debug` never prints it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentifiersV1 {
    /// Nothing; the station knows the study by its box-local number.
    #[default]
    None,
    /// Accession Number (0008,0050).
    Accession(String),
    /// Patient ID (0010,0020).
    PatientId(String),
}

impl fmt::Debug for IdentifiersV1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Accession(_) => "accession(...)",
            Self::PatientId(_) => "patient_id(...)",
        })
    }
}

/// Packages that made a result, as `id version`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackagesV1 {
    /// The segmenter.
    pub segmenter: String,
    /// The nomogram.
    pub nomogram: String,
}

/// A point of the curve: probability of being free of metachronous liver metastasis.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SurvivalV1 {
    /// Months after surgery.
    pub month: f64,
    /// 0..1.
    pub probability: f64,
}

/// `metwatch/{site}/{box}/alert/{alert_id}`: a risk that a person has to see. Repeated until a station acknowledged it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertV1 {
    /// [`ALERT_SCHEMA`].
    pub schema: String,
    /// Stable over repetitions: receivers drop duplicates by it.
    pub alert_id: String,
    /// Box-local study number.
    pub study: String,
    /// Revision of the study.
    pub revision: u32,
    /// Risk group, such as `high`.
    pub group: String,
    /// Probability of metachronous liver metastasis, 0..1.
    pub probability: f64,
    /// Variant of the nomogram, such as `image only`.
    pub variant: String,
    /// Provisional or final.
    pub status: StatusOfRisk,
    /// The survival curve, where the nomogram has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub survival: Vec<SurvivalV1>,
    /// Sentences that belong beside the number (a gate's notes, missing values).
    #[serde(default)]
    pub notes: Vec<String>,
    /// RFC 3339, UTC.
    pub issued_at: String,
    /// RFC 3339, UTC: after that the alert says nothing any more.
    pub expires_at: String,
    /// 1 for the first publication, one more for each repetition.
    pub attempt: u32,
    /// What computed it.
    pub packages: PackagesV1,
    /// The patient, as configured.
    #[serde(default)]
    pub identifiers: IdentifiersV1,
    /// [`crate::DISCLAIMER`].
    pub disclaimer: String,
}

/// `.../result/{study}`: what the box found, alert or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultV1 {
    /// [`RESULT_SCHEMA`].
    pub schema: String,
    /// Stable message id.
    pub result_id: String,
    /// Box-local study number.
    pub study: String,
    /// Revision of the study.
    pub revision: u32,
    /// Risk group, where a risk was computed.
    pub group: Option<String>,
    /// Probability of metachronous liver metastasis, 0..1, where a risk was computed.
    pub probability: Option<f64>,
    /// Variant of the nomogram, where a risk was computed.
    pub variant: Option<String>,
    /// Provisional or final, where a risk was computed.
    pub status: Option<StatusOfRisk>,
    /// Volumes by region, in ml.
    #[serde(default)]
    pub volumes_ml: BTreeMap<String, f64>,
    /// Sentences that belong beside the numbers.
    #[serde(default)]
    pub notes: Vec<String>,
    /// RFC 3339, UTC.
    pub issued_at: String,
    /// What computed it.
    pub packages: PackagesV1,
    /// The patient, as configured.
    #[serde(default)]
    pub identifiers: IdentifiersV1,
    /// [`crate::DISCLAIMER`].
    pub disclaimer: String,
}

/// What kind of event; the last level of its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A study gets no result; the sentence says why. Silence is never an outcome.
    NotAnalysed,
    /// The box works, but not as it should.
    Degraded,
    /// Other bytes under a known SOP Instance UID.
    DuplicateAltered,
    /// An alert that nobody acknowledged in time.
    Escalated,
    /// An alert whose validity ended without an acknowledgement.
    Expired,
    /// A model or program update.
    Update,
}

impl EventKind {
    /// As in the topic and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotAnalysed => "not_analysed",
            Self::Degraded => "degraded",
            Self::DuplicateAltered => "duplicate_altered",
            Self::Escalated => "escalated",
            Self::Expired => "expired",
            Self::Update => "update",
        }
    }
}

/// `.../event/{kind}`: something that is no result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventV1 {
    /// [`EVENT_SCHEMA`].
    pub schema: String,
    /// Stable message id.
    pub event_id: String,
    /// What kind.
    pub kind: EventKind,
    /// Stable code, such as `series.missing-slice`.
    pub code: String,
    /// What happened and what it means.
    pub sentence: String,
    /// What to do.
    pub advice: String,
    /// Box-local study number, where a study is concerned.
    pub study: Option<String>,
    /// RFC 3339, UTC.
    pub issued_at: String,
    /// The patient, as configured.
    #[serde(default)]
    pub identifiers: IdentifiersV1,
}

/// Whether the box is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Published at every connection.
    Online,
    /// The last will, or published when the service stops.
    Offline,
}

/// `.../status`, retained; the offline one is also the last will.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusV1 {
    /// [`STATUS_SCHEMA`].
    pub schema: String,
    /// The site's name, as in the topic.
    pub site: String,
    /// The box's name, as in the topic.
    pub box_id: String,
    /// Online or offline.
    pub state: Presence,
    /// When this was written, RFC 3339, UTC. A last will is written when the session begins.
    pub since: String,
    /// Why, for a person: `connected`, `stopped`, or `connection lost`.
    pub reason: String,
    /// Version of the program.
    pub version: String,
}

/// `.../ack/{alert_id}`, from a station: a person has seen the alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckV1 {
    /// [`ACK_SCHEMA`].
    pub schema: String,
    /// The alert.
    pub alert_id: String,
    /// The station's name.
    pub station: String,
    /// RFC 3339, UTC, by the station's clock.
    pub at: String,
}

/// Unix milliseconds as RFC 3339 in UTC; the epoch for what no calendar holds.
pub fn rfc3339(unix_ms: i64) -> String {
    DateTime::from_timestamp_millis(unix_ms).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The payload of an alert with its `attempt` set. Text that is no object is sent as it is.
pub(super) fn with_attempt(payload: &str, attempt: u32) -> String {
    let Ok(serde_json::Value::Object(mut object)) = serde_json::from_str(payload) else { return payload.to_owned() };
    object.insert("attempt".into(), attempt.into());
    serde_json::Value::Object(object).to_string()
}

/// Reads an acknowledgement that came on the topic of `alert_id`; `None` if it is none, or speaks of another alert.
pub(super) fn read_ack(payload: &[u8], alert_id: &str) -> Option<AckV1> {
    let ack: AckV1 = serde_json::from_slice(payload).ok()?;
    let name = &ack.station;
    let fine = !name.is_empty() && name.len() <= super::config::NAME_BYTES_MAX && !name.chars().any(char::is_control);
    (ack.schema == ACK_SCHEMA && ack.alert_id == alert_id && fine).then_some(ack)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn examples() -> Vec<Value> {
        let identifiers = IdentifiersV1::Accession("A-1".into());
        let packages = PackagesV1 { segmenter: "abdomen-phantom 0.1.0".into(), nomogram: "phantom 0.1.0".into() };
        let (issued_at, disclaimer) = (rfc3339(1_700_000_000_000), crate::DISCLAIMER.to_owned());
        let alert = AlertV1 {
            schema: ALERT_SCHEMA.into(),
            alert_id: "a1".into(),
            study: "S000001".into(),
            revision: 1,
            group: "high".into(),
            probability: 0.731,
            variant: "image only".into(),
            status: StatusOfRisk::Provisional,
            survival: vec![SurvivalV1 { month: 12.0, probability: 0.8 }],
            notes: vec!["AFP is unknown".into()],
            issued_at: issued_at.clone(),
            expires_at: rfc3339(1_700_086_400_000),
            attempt: 1,
            packages: packages.clone(),
            identifiers: identifiers.clone(),
            disclaimer: disclaimer.clone(),
        };
        let result = ResultV1 {
            schema: RESULT_SCHEMA.into(),
            result_id: "r1".into(),
            study: "S000001".into(),
            revision: 1,
            group: Some("low".into()),
            probability: Some(0.1),
            variant: Some("complete".into()),
            status: Some(StatusOfRisk::Final),
            volumes_ml: [("liver".to_owned(), 1502.5)].into(),
            notes: vec![],
            issued_at: issued_at.clone(),
            packages,
            identifiers: IdentifiersV1::None,
            disclaimer,
        };
        let event = EventV1 {
            schema: EVENT_SCHEMA.into(),
            event_id: "e1".into(),
            kind: EventKind::NotAnalysed,
            code: "series.missing-slice".into(),
            sentence: "a slice is missing".into(),
            advice: "send the whole series again".into(),
            study: Some("S000001".into()),
            issued_at: issued_at.clone(),
            identifiers,
        };
        let status = StatusV1 {
            schema: STATUS_SCHEMA.into(),
            site: "s".into(),
            box_id: "b".into(),
            state: Presence::Online,
            since: issued_at.clone(),
            reason: "connected".into(),
            version: "0.1.0".into(),
        };
        let ack = AckV1 { schema: ACK_SCHEMA.into(), alert_id: "a1".into(), station: "ward 3".into(), at: issued_at };
        let health = super::super::health::example();
        [json!(alert), json!(result), json!(event), json!(status), json!(ack), json!(health)].into()
    }

    /// The part of JSON Schema that ours use; panics with the place where the value does not fit.
    fn check(value: &Value, schema: &Value, place: &str) {
        for (key, rule) in schema.as_object().expect("a schema is an object") {
            match key.as_str() {
                "$schema" | "$id" | "title" | "description" | "format" => {}
                "type" => {
                    let names = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                    let fits = |name: &Value| match name.as_str().expect("a type is a word") {
                        "object" => value.is_object(),
                        "array" => value.is_array(),
                        "string" => value.is_string(),
                        "number" => value.is_number(),
                        "integer" => value.is_i64() || value.is_u64(),
                        "null" => value.is_null(),
                        "boolean" => value.is_boolean(),
                        other => panic!("{place}: type {other}"),
                    };
                    assert!(names.iter().any(fits), "{place} is {value}, not {rule}");
                }
                "const" => assert_eq!(value, rule, "{place}"),
                "enum" => assert!(rule.as_array().expect("an array").contains(value), "{place}: {value} not in {rule}"),
                "minimum" => assert!(value.as_f64().is_none_or(|v| v >= rule.as_f64().expect("a number")), "{place}"),
                "maximum" => assert!(value.as_f64().is_none_or(|v| v <= rule.as_f64().expect("a number")), "{place}"),
                "required" => {
                    for name in rule.as_array().expect("an array") {
                        assert!(value.get(name.as_str().expect("a word")).is_some(), "{place} lacks {name}");
                    }
                }
                "properties" => {
                    for (name, part) in value.as_object().expect("an object") {
                        check(part, rule.get(name).unwrap_or_else(|| panic!("{place}.{name} unknown")), name);
                    }
                }
                "additionalProperties" => {
                    value.as_object().expect("an object").values().for_each(|v| check(v, rule, place))
                }
                "items" => value.as_array().expect("an array").iter().for_each(|v| check(v, rule, place)),
                "oneOf" => {
                    let fits = |part: &&Value| std::panic::catch_unwind(|| check(value, part, place)).is_ok();
                    assert_eq!(rule.as_array().expect("an array").iter().filter(fits).count(), 1, "{place}: {value}");
                }
                other => panic!("{place}: this test does not know {other}"),
            }
        }
    }

    #[test]
    fn examples_fit_their_schemas_and_have_every_property() {
        for (example, (name, schema)) in examples().iter().zip(SCHEMAS) {
            let schema: Value = serde_json::from_str(schema).expect("a schema is JSON");
            assert_eq!(example["schema"], name);
            check(example, &schema, name);
            let keys = |v: &Value| v.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(example), keys(&schema["properties"]), "{name}");
        }
    }

    #[test]
    fn examples_survive_a_round_trip() {
        let [alert, result, event, status, ack, health] = examples().try_into().expect("six");
        assert_eq!(json!(serde_json::from_value::<AlertV1>(alert.clone()).unwrap()), alert);
        assert_eq!(json!(serde_json::from_value::<ResultV1>(result.clone()).unwrap()), result);
        assert_eq!(json!(serde_json::from_value::<EventV1>(event.clone()).unwrap()), event);
        assert_eq!(json!(serde_json::from_value::<StatusV1>(status.clone()).unwrap()), status);
        assert_eq!(json!(serde_json::from_value::<AckV1>(ack.clone()).unwrap()), ack);
        assert_eq!(json!(serde_json::from_value::<HealthV1>(health.clone()).unwrap()), health);
    }

    #[test]
    fn the_attempt_is_set_and_nothing_else_changes() {
        let text = with_attempt(r#"{"b":0.1234567890123,"attempt":1,"a":"x"}"#, 3);
        assert_eq!(text, r#"{"b":0.1234567890123,"attempt":3,"a":"x"}"#);
        assert_eq!(with_attempt("no json", 3), "no json");
    }

    #[test]
    fn an_acknowledgement_counts_only_for_its_own_topic() {
        let ack = |id: &str, station: &str| {
            format!(r#"{{"schema":"metwatch.ack/1","alert_id":"{id}","station":"{station}","at":""}}"#)
        };
        assert_eq!(read_ack(ack("a1", "ward").as_bytes(), "a1").unwrap().station, "ward");
        assert_eq!(read_ack(ack("a2", "ward").as_bytes(), "a1"), None);
        assert_eq!(read_ack(ack("a1", "").as_bytes(), "a1"), None);
        assert_eq!(read_ack(b"\xff{", "a1"), None);
    }

    #[test]
    fn debug_hides_the_patient() {
        let text = format!("{:?}", IdentifiersV1::PatientId("4711".into()));
        assert!(!text.contains("4711"), "{text}");
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(rfc3339(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
    }
}
