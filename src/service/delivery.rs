//! The outbox over DICOM: results to their destinations, answers to requests for storage commitment.
//!
//! A message is (study, kind, object) for one destination and stays until that destination's own status ends it: C-STORE success, or
//! the commitment where one is requested. What failed for now is tried again after a growing pause; what would fail again is
//! parked with its reason until a person has it sent again. A thread per destination, so that one that hangs holds nobody up.

use super::events::{self, Told};
use super::result::ResultV1;
use crate::alert::payload::EventKind;
use crate::dicom::{
    self, AeTitle, CommitAnswer, CommitReport, CommitRequest, Commitment, Delivery, Destination, ObjectKind, Reference,
    ResultGroup, Target, Tls, TlsError,
};
use crate::store::{
    AuditNote, NewOutbox, OutboxKind, OutboxState, OutboxV1, SpoolFile, Store, StoreError, StudyV1, message_id,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Objects of one association.
const BATCH_MAX: usize = 64;
/// The pause after the first failure, doubled after each further one.
const PAUSE_FIRST: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// A report over the same association is awaited this long.
const REPORT_WAIT: Duration = Duration::from_secs(5);
/// An object whose commitment is refused is sent again until it was handed over so often.
const ROUNDS_MAX: u32 = 3;
/// A report that was not confirmed over its association, and one that its requester does not take, is given up after this long.
const REPORT_GIVE_UP_MS: [i64; 2] = [10 * 60_000, 24 * 3_600_000];
const TICK: Duration = Duration::from_secs(1);
/// `outbox.json` is written so often even when no message moved: its numbers of tries and reasons do.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// Folder of reports in the spool.
const REPORTS: &str = "commitments";

/// What is sent to a destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SendV1 {
    /// `seg`, `sr`, `sc` or `pdf`.
    pub object: String,
    /// Name of the file among the study's.
    pub name: String,
    /// SOP class.
    pub sop_class: String,
    /// SOP instance; made by this box, so no patient data.
    pub sop_instance: String,
}

/// Where a commitment is reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ReportV1 {
    object: String,
    transaction: String,
    /// Our title, as it was called.
    calling: String,
    /// Without it the report goes over the association of the request only.
    address: Option<SocketAddr>,
    tls: bool,
    committed: usize,
    failed: usize,
}

/// The messages that a result makes: each DICOM object among its files, for each destination whose rules name it.
pub fn messages(
    store: &Store,
    study: &StudyV1,
    files: &BTreeMap<String, SpoolFile>,
    result: &ResultV1,
    destinations: &[Destination],
) -> Result<Vec<NewOutbox>, StoreError> {
    let group = match result.assessment.as_ref().map(|a| a.group.as_str()) {
        Some("high") => ResultGroup::High,
        Some("intermediate") => ResultGroup::Intermediate,
        Some(_) => ResultGroup::Low,
        None => ResultGroup::None,
    };
    let wanted: Vec<&Destination> = destinations.iter().filter(|d| d.groups.contains(&group)).collect();
    let mut messages = Vec::new();
    if wanted.is_empty() {
        return Ok(messages);
    }
    for (name, file) in files.iter().filter(|(name, _)| name.ends_with(".dcm")) {
        let Ok(header) = dicom::parse_header(&store.read_spool(file)?) else { continue };
        let Some(kind) = ObjectKind::of(&header.sop_class_uid) else { continue };
        let payload = SendV1 {
            object: kind.name().into(),
            name: name.clone(),
            sop_class: header.sop_class_uid,
            sop_instance: header.sop_instance_uid.as_str().into(),
        };
        for to in wanted.iter().filter(|d| d.objects.contains(&kind)) {
            // The same object again, such as after a late laboratory value, is no second message.
            let id = message_id(&["dicom", to.ae_title.as_str(), &study.number, &payload.sop_instance, &file.sha256]);
            messages.push(NewOutbox {
                id,
                kind: OutboxKind::DicomSend,
                topic: to.ae_title.to_string(),
                payload: json(&payload),
                study: Some(study.number.clone()),
                expires_at_ms: None,
                file: Some(file.clone()),
            });
        }
    }
    Ok(messages)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a struct of plain values always serializes")
}

/// Records the answer to a request for commitment, durably; the message's id.
pub fn queue_report(store: &Store, commitment: &Commitment, report: &CommitReport) -> Result<String, StoreError> {
    let now_ms = super::now_ms();
    let calling_ae = commitment.calling_ae.as_str();
    let id = message_id(&["commitment", calling_ae, &report.transaction_uid]);
    let file = store.write_spool(REPORTS, &format!("{id}.report"), &report.to_bytes(dicom::syntax::EXPLICIT_LE))?;
    let payload = ReportV1 {
        object: "commitment report".into(),
        transaction: report.transaction_uid.clone(),
        calling: commitment.called_ae.to_string(),
        address: commitment.report_to,
        tls: commitment.report_tls,
        committed: report.committed.len(),
        failed: report.failed.len(),
    };
    let message = NewOutbox {
        id: id.clone(),
        kind: OutboxKind::CommitReport,
        topic: calling_ae.into(),
        payload: json(&payload),
        study: None,
        expires_at_ms: None,
        file: Some(file),
    };
    // A transaction that was answered before is not reported again; one that is still open is the same message.
    if store.outbox_entry(&id)?.is_some_and(|row| !row.state.is_open()) {
        return Err(StoreError::DuplicateMessage { id });
    }
    let note = AuditNote::new(calling_ae, "commitment.requested").detail(format!(
        "{} objects kept, {} not",
        report.committed.len(),
        report.failed.len()
    ));
    store.outbox_add(&[message], &note, now_ms)?;
    Ok(id)
}

/// The requester confirmed a report over its own association.
pub fn report_confirmed(store: &Store, id: &str) {
    advance(store, id, OutboxState::Delivered { at_ms: super::now_ms() }, "confirmed over the same association");
}

/// Another node's report on what we asked it to keep; the number of objects that it speaks of.
pub fn take_report(store: &Store, from: &AeTitle, report: &CommitReport) -> Result<usize, StoreError> {
    let mut known = 0;
    for row in store.outbox_open()? {
        let asked =
            matches!(&row.state, OutboxState::Committing { transaction, .. } if *transaction == report.transaction_uid);
        if row.kind != OutboxKind::DicomSend || row.topic != from.as_str() || !asked {
            continue;
        }
        let Some(sent) = payload(&row) else { continue };
        let is = |r: &Reference| r.sop_instance_uid.as_str() == sent.sop_instance;
        let to = if report.committed.iter().any(is) {
            OutboxState::Delivered { at_ms: super::now_ms() }
        } else if let Some((_, reason)) = report.failed.iter().find(|(r, _)| is(r)) {
            let why = format!("{from} did not commit it: {} ({reason:#06x})", dicom::failure_meaning(*reason));
            if row.attempts < ROUNDS_MAX {
                tracing::warn!(message = row.id, why, "sent again");
                OutboxState::Queued
            } else {
                parked(store, &row, why)
            }
        } else {
            continue;
        };
        known += 1;
        let moved = store.outbox_advance(&row.id, to, &note("committed or not", &row.id), super::now_ms())?;
        tracing::info!(message = row.id, moved, "a commitment was reported");
    }
    Ok(known)
}

fn payload(row: &OutboxV1) -> Option<SendV1> {
    serde_json::from_str(&row.payload).ok()
}

fn note(detail: &str, id: &str) -> AuditNote {
    AuditNote::new("dicom", "outbox.moved").detail(format!("{detail}: message {id}"))
}

fn advance(store: &Store, id: &str, to: OutboxState, detail: &str) {
    let name = to.name();
    if let Err(error) = store.outbox_advance(id, to, &note(&format!("{name}, {detail}"), id), super::now_ms()) {
        tracing::error!(%error, message = id, "a message could not be moved on");
    }
}

fn note_failure(store: &Store, row: &OutboxV1, why: &str) {
    if let Err(error) = store.outbox_failed(&row.id, why) {
        tracing::warn!(%error, message = row.id, "a failure could not be noted");
    }
}

/// The state of a message that waits for a person, who is told by an event.
fn parked(store: &Store, row: &OutboxV1, reason: String) -> OutboxState {
    tracing::error!(message = row.id, to = row.topic, reason, "parked");
    let told = Told {
        kind: EventKind::Degraded,
        code: "dicom.parked",
        sentence: &format!("a message to {} waits for a person: {reason}", row.topic),
        advice: "correct what the reason names, then `metwatch outbox retry` or the button on the study's page",
        study: row.study.as_deref(),
        about: &row.id,
    };
    events::tell(store, &told);
    OutboxState::Parked { reason, at_ms: super::now_ms() }
}

/// Grows with each failure.
#[derive(Default)]
struct Pause {
    failures: u32,
    until: Option<Instant>,
}

impl Pause {
    fn is_over(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() >= until)
    }

    fn failed(&mut self) {
        let pause = PAUSE_FIRST * 2u32.pow(self.failures.min(10));
        self.failures += 1;
        self.until = Some(Instant::now() + pause.min(PAUSE_MAX));
    }
}

/// One destination and what is sent to it.
pub struct Sender {
    store: Store,
    destination: Destination,
    target: Target,
}

impl Sender {
    /// Reads the certificates.
    pub fn new(store: Store, config: &dicom::Config, destination: Destination) -> Result<Sender, TlsError> {
        Ok(Sender { store, target: target(config, &destination)?, destination })
    }

    /// Sends until `stop` is set.
    pub fn run(self, stop: &AtomicBool) {
        let mut pause = Pause::default();
        let mut seen = self.store.outbox_generation();
        while !stop.load(Ordering::Relaxed) {
            if pause.is_over() {
                match self.round() {
                    Ok(true) => pause = Pause::default(),
                    Ok(false) => pause.failed(),
                    Err(error) => {
                        tracing::error!(%error, "the outbox could not be read or written");
                        pause.failed();
                    }
                }
            }
            seen = self.store.wait_outbox(seen, TICK);
        }
    }

    /// Sends what is due; false when it failed for now.
    fn round(&self) -> Result<bool, StoreError> {
        let now_ms = super::now_ms();
        let (mut queued, mut stored) = (Vec::new(), Vec::new());
        for row in self.store.outbox_open()? {
            if row.kind != OutboxKind::DicomSend || row.topic != self.destination.ae_title.as_str() {
                continue;
            }
            match &row.state {
                OutboxState::Queued => queued.push(row),
                OutboxState::Committing { at_ms, .. }
                    if now_ms - at_ms >= i64::from(self.destination.commit_h) * 3_600_000 =>
                {
                    stored.push(row);
                }
                _ => {}
            }
        }
        let mut good = true;
        for batch in queued.chunks(BATCH_MAX) {
            let (arrived, all) = self.send(batch)?;
            good &= all;
            if self.destination.commit {
                stored.extend(arrived);
            } else {
                for row in arrived {
                    advance(&self.store, &row.id, OutboxState::Delivered { at_ms: super::now_ms() }, "stored there");
                }
            }
        }
        if !stored.is_empty() {
            good &= self.commit(stored)?;
        }
        Ok(good)
    }

    /// Sends objects; those that the destination has now, and whether none has to be tried again.
    fn send(&self, rows: &[OutboxV1]) -> Result<(Vec<OutboxV1>, bool), StoreError> {
        let to = &self.destination.ae_title;
        for row in rows {
            self.store.outbox_attempt(&row.id)?;
        }
        let load = |index: usize| {
            let file = rows.get(index).and_then(|row| row.file.as_ref());
            let file = file.ok_or_else(|| std::io::Error::other("the message has no object"))?;
            self.store.read_spool(file).map_err(std::io::Error::other)
        };
        let deliveries = match dicom::send(rows.len(), &load, &self.target, &mut |_, _| ()) {
            Ok(deliveries) => deliveries,
            Err(error) => {
                tracing::warn!(%to, %error, n = rows.len(), "results could not be sent");
                let permanent = error.is_permanent();
                rows.iter().for_each(|row| self.failed(row, &error.to_string(), permanent));
                return Ok((Vec::new(), permanent));
            }
        };
        let (mut arrived, mut all) = (Vec::new(), true);
        for (row, delivery) in rows.iter().zip(deliveries) {
            let (why, permanent) = match delivery {
                Delivery::Stored | Delivery::Warning(_) => {
                    tracing::info!(%to, message = row.id, ?delivery, "a result was stored there");
                    arrived.push(row.clone());
                    continue;
                }
                Delivery::Refused { status, comment } => {
                    (format!("{to} refused it with status {status:#06x} {comment}"), !is_for_now(status))
                }
                Delivery::NotAccepted { why } | Delivery::Skipped { why } => (why, true),
                Delivery::NotSent { why } => (why, false),
            };
            tracing::warn!(%to, message = row.id, why, permanent, "a result was not stored there");
            self.failed(row, why.trim_end(), permanent);
            all &= permanent;
        }
        Ok((arrived, all))
    }

    /// Parks what would fail again or has failed for too long.
    fn failed(&self, row: &OutboxV1, why: &str, permanent: bool) {
        note_failure(&self.store, row, why);
        let since_ms = row.retried_at_ms.unwrap_or(row.created_at_ms);
        let given_up = super::now_ms() - since_ms >= i64::from(self.destination.give_up_h) * 3_600_000;
        if permanent || given_up {
            let reason =
                if permanent { why.to_owned() } else { format!("{why}; tried for {} h", self.destination.give_up_h) };
            advance(&self.store, &row.id, parked(&self.store, row, reason), "not delivered");
        }
    }

    /// Asks the destination to keep objects safe. The transaction is durable before it is asked: its report may come first.
    fn commit(&self, rows: Vec<OutboxV1>) -> Result<bool, StoreError> {
        let now_ms = super::now_ms();
        let give_up_ms = i64::from(self.destination.give_up_h) * 3_600_000;
        let is_late = |row: &OutboxV1| now_ms - row.retried_at_ms.unwrap_or(row.created_at_ms) >= give_up_ms;
        let (late, rows): (Vec<_>, Vec<_>) = rows.into_iter().partition(is_late);
        for row in &late {
            let hours = self.destination.give_up_h;
            let reason = format!("{} has it, but reported no commitment for {hours} h", self.destination.ae_title);
            advance(&self.store, &row.id, parked(&self.store, row, reason), "not committed");
        }
        if rows.is_empty() {
            return Ok(true);
        }
        let parts: Vec<&[u8]> = rows.iter().map(|row| row.id.as_bytes()).collect();
        let seed = now_ms.to_be_bytes();
        let transaction = dicom::derive_uid(&[&[&b"commitment"[..], &seed], &parts[..]].concat());
        let objects = rows.iter().filter_map(payload).map(|sent| Reference {
            sop_class_uid: sent.sop_class,
            sop_instance_uid: dicom::Identifier::new(sent.sop_instance),
        });
        let request = CommitRequest { transaction_uid: transaction.clone(), objects: objects.collect() };
        for row in &rows {
            self.store.outbox_attempt(&row.id)?;
            let asked = OutboxState::Committing { transaction: transaction.clone(), at_ms: now_ms };
            advance(&self.store, &row.id, asked, "stored there, commitment requested");
        }
        match dicom::commit(&self.target, &request, REPORT_WAIT) {
            Ok(CommitAnswer::Later) => Ok(true),
            Ok(CommitAnswer::Reported(report)) => {
                take_report(&self.store, &self.destination.ae_title, &report)?;
                Ok(true)
            }
            Err(error) => {
                tracing::warn!(to = %self.destination.ae_title, %error, "commitment could not be requested");
                for row in &rows {
                    note_failure(&self.store, row, &error.to_string());
                    // Asked again with the next round.
                    let again = OutboxState::Committing { transaction: transaction.clone(), at_ms: 0 };
                    let reason = format!("{error}; the object is stored there");
                    let to = if error.is_permanent() { parked(&self.store, row, reason) } else { again };
                    advance(&self.store, &row.id, to, "not committed");
                }
                Ok(error.is_permanent())
            }
        }
    }
}

/// How a destination is called.
pub fn target(config: &dicom::Config, to: &Destination) -> Result<Target, TlsError> {
    Ok(Target {
        ae_title: to.ae_title.clone(),
        host: to.host.clone(),
        port: to.port,
        calling_ae: to.calling.clone().unwrap_or_else(|| config.ae_title.clone()),
        tls: tls(config, to.tls, to.certificate.clone(), to.ae_title.as_str())?,
    })
}

/// Statuses of C-STORE that may be another one later: no room, and a failure inside the other node.
fn is_for_now(status: u16) -> bool {
    status & 0xFF00 == 0xA700 || status == dicom::status::PROCESSING_FAILURE
}

fn tls(config: &dicom::Config, wanted: bool, name: Option<String>, who: &str) -> Result<Option<Tls>, TlsError> {
    match (&config.tls, wanted) {
        (_, false) => Ok(None),
        (Some(tls), true) => Tls::new(tls, name).map(Some),
        (None, true) => Err(TlsError::NotConfigured { what: format!("sending to {who}"), missing: "dicom.tls" }),
    }
}

/// Answers requests for commitment on associations of its own, and keeps `outbox.json` and `requests/`.
pub struct Reporter {
    /// The store.
    pub store: Store,
    /// For certificates.
    pub config: dicom::Config,
}

impl Reporter {
    /// Reports until `stop` is set.
    pub fn run(self, stop: &AtomicBool) {
        let mut pauses: BTreeMap<String, Pause> = BTreeMap::new();
        let (mut seen, mut written) = (None, Instant::now());
        while !stop.load(Ordering::Relaxed) {
            if let Err(error) = self.store.take_requests(super::now_ms()).and_then(|_| self.round(&mut pauses)) {
                tracing::error!(%error, "the outbox could not be read or written");
            }
            let now = self.store.outbox_generation();
            if seen.replace(now) != Some(now) || written.elapsed() >= WRITE_EVERY {
                self.store.write_outbox();
                written = Instant::now();
            }
            self.store.wait_outbox(now, TICK);
        }
    }

    fn round(&self, pauses: &mut BTreeMap<String, Pause>) -> Result<(), StoreError> {
        for row in self.store.outbox_open()? {
            if row.kind != OutboxKind::CommitReport || row.state != OutboxState::Queued {
                continue;
            }
            if pauses.get(&row.topic).is_some_and(|p| !p.is_over()) {
                continue;
            }
            match self.report(&row)? {
                Outcome::Done => {
                    pauses.remove(&row.topic);
                }
                Outcome::Later => pauses.entry(row.topic.clone()).or_default().failed(),
                Outcome::Waiting => {}
            }
        }
        Ok(())
    }

    fn report(&self, row: &OutboxV1) -> Result<Outcome, StoreError> {
        let age_ms = super::now_ms() - row.retried_at_ms.unwrap_or(row.created_at_ms);
        let to: Option<ReportV1> = serde_json::from_str(&row.payload).ok();
        let (Some(to), Some(file)) = (to, &row.file) else { return Ok(Outcome::Waiting) };
        let Some(address) = to.address else {
            if age_ms >= REPORT_GIVE_UP_MS[0] {
                let reason =
                    "it was not confirmed over its association, and no report_port is configured for its requester";
                advance(&self.store, &row.id, parked(&self.store, row, reason.into()), "not reported");
            }
            return Ok(Outcome::Waiting);
        };
        let report = CommitReport::parse(&self.store.read_spool(file)?, dicom::syntax::EXPLICIT_LE);
        let report = report.ok_or_else(|| StoreError::Damaged { what: format!("{} is no report", file.path) })?;
        self.store.outbox_attempt(&row.id)?;
        match self
            .target(row, &to, address)
            .and_then(|target| dicom::report_commitment(&target, &report).map_err(|e| e.to_string()))
        {
            Ok(()) => {
                advance(&self.store, &row.id, OutboxState::Delivered { at_ms: super::now_ms() }, "reported");
                Ok(Outcome::Done)
            }
            Err(why) => {
                tracing::warn!(to = row.topic, why, "a commitment could not be reported");
                note_failure(&self.store, row, &why);
                if age_ms >= REPORT_GIVE_UP_MS[1] {
                    advance(&self.store, &row.id, parked(&self.store, row, why), "not reported");
                }
                Ok(Outcome::Later)
            }
        }
    }

    fn target(&self, row: &OutboxV1, to: &ReportV1, address: SocketAddr) -> Result<Target, String> {
        let title = |text: &str| AeTitle::new(text).map_err(|e| e.to_string());
        Ok(Target {
            ae_title: title(&row.topic)?,
            host: address.ip().to_canonical().to_string(),
            port: address.port(),
            calling_ae: title(&to.calling)?,
            tls: tls(&self.config, to.tls, None, &row.topic).map_err(|e| e.to_string())?,
        })
    }
}

/// What became of a report.
enum Outcome {
    Done,
    Later,
    Waiting,
}
