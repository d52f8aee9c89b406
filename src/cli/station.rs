//! `metwatch station`: a nursing station in the terminal.

use super::Failure;
use crate::DISCLAIMER;
use crate::alert::payload::{AlertV1, IdentifiersV1, Presence, StatusOfRisk};
use crate::alert::{Acknowledge, AlertError, BoxName, BrokerAddress, Name, Received, StationConfig, Tls, listen};
use serde_json::json;
use std::collections::VecDeque;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, watch};

/// Who acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Ack {
    /// A person: Enter acknowledges the oldest alert on the screen.
    Ask,
    /// The station itself, at once (tests, wall displays whose ward reacts by other means).
    Auto,
    /// Nobody: this station only shows.
    None,
}

/// Shows the alerts, results and events of all boxes at a broker, and acknowledges alerts.
#[derive(clap::Args)]
pub struct Args {
    /// The broker.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883")]
    broker: BrokerAddress,
    /// The station's name, unique at its broker; the box's audit names it.
    #[arg(long, default_value = "station")]
    name: Name,
    /// Who acknowledges.
    #[arg(long, value_enum, default_value = "ask")]
    ack: Ack,
    /// One JSON object a line: {"type", "site", "box", "payload"}.
    #[arg(long)]
    json: bool,
    /// Ends after the first alert (with --ack ask or auto: when its acknowledgement is at the broker).
    #[arg(long)]
    once: bool,
    /// User name at the broker.
    #[arg(long, requires = "password_file")]
    username: Option<String>,
    /// File with the password, mode 0600.
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
    /// TLS: PEM file of the authorities that may have signed the broker's certificate.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

type Unanswered = Arc<Mutex<VecDeque<Acknowledge>>>;

/// Runs until Ctrl-C, or until the first alert with `--once`.
pub fn run(args: Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| AlertError::NoRuntime { why: e.to_string() })?;
    let result = runtime.block_on(show(args));
    runtime.shutdown_background();
    result
}

async fn show(args: Args) -> Result<(), Failure> {
    let config = StationConfig {
        broker: args.broker.clone(),
        name: args.name.clone(),
        username: args.username.clone(),
        password_file: args.password_file.clone(),
        tls: args.ca_file.clone().map(|ca_file| Tls { ca_file, client_cert_file: None, client_key_file: None }),
    };
    let (acks, acks_received) = mpsc::unbounded_channel();
    let (stop, stopped) = watch::channel(false);
    let unanswered = Unanswered::default();
    if args.ack == Ack::Ask {
        read_enter(unanswered.clone(), acks.clone());
    }
    let interrupted = stop.clone();
    let interrupt = async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.send_replace(true);
        }
        std::future::pending::<()>().await;
    };
    let listening = listen(config, acks_received, stopped, |received| {
        if !print(&received, &args) {
            stop.send_replace(true); // nobody reads stdout any more
        }
        match received {
            Received::Alert { from, alert, again } => {
                let acknowledge = Acknowledge { from, alert_id: alert.alert_id };
                match args.ack {
                    Ack::Auto => drop(acks.send(acknowledge)),
                    Ack::Ask if again => {}
                    Ack::Ask => unanswered.lock().unwrap_or_else(PoisonError::into_inner).push_back(acknowledge),
                    Ack::None if args.once => drop(stop.send_replace(true)),
                    Ack::None => {}
                }
            }
            Received::AckSent { .. } if args.once => drop(stop.send_replace(true)),
            _ => {}
        }
    });
    tokio::select! {
        result = listening => Ok(result?),
        () = interrupt => Ok(()),
    }
}

/// A thread that takes each line of stdin as "seen": of the oldest alert that is not acknowledged.
#[expect(clippy::disallowed_methods, reason = "edge: stdin blocks, so it has its own thread")]
fn read_enter(unanswered: Unanswered, acks: mpsc::UnboundedSender<Acknowledge>) {
    std::thread::spawn(move || {
        for _ in std::io::stdin().lock().lines().map_while(Result::ok) {
            let oldest = unanswered.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match oldest {
                Some(ack) => drop(acks.send(ack)),
                None => eprintln!("no alert is waiting"),
            }
        }
    });
}

/// Prints one message; `false` when nobody reads stdout any more.
fn print(received: &Received, args: &Args) -> bool {
    let text = if args.json { as_json(received) } else { as_text(received, args.ack) };
    match received {
        Received::Up if !args.json => eprintln!("connected to {} as station {}; {DISCLAIMER}", args.broker, args.name),
        Received::Down(error) if !args.json => {
            eprintln!("{error}\n  {}", crate::Explain::advice(error));
        }
        _ => {}
    }
    let Some(text) = text else { return true };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
}

fn as_json(received: &Received) -> Option<String> {
    let line = |kind: &str, from: &BoxName, payload: serde_json::Value| json!({"type": kind, "site": from.site, "box": from.box_id, "payload": payload});
    let value = match received {
        Received::Up => json!({"type": "up"}),
        Received::Down(error) => {
            json!({"type": "down", "code": crate::Explain::code(error), "sentence": error.to_string()})
        }
        Received::Alert { again: true, .. } => return None,
        Received::Alert { from, alert, .. } => line("alert", from, json!(alert)),
        Received::Result { from, result } => line("result", from, json!(result)),
        Received::Event { from, event } => line("event", from, json!(event)),
        Received::Status { from, status } => line("status", from, json!(status)),
        Received::AckSent { alert_id } => json!({"type": "ack_sent", "alert_id": alert_id}),
        Received::Unreadable { topic } => json!({"type": "unreadable", "topic": topic}),
    };
    Some(value.to_string())
}

fn as_text(received: &Received, ack: Ack) -> Option<String> {
    match received {
        Received::Up | Received::Down(_) | Received::Alert { again: true, .. } => None,
        Received::Alert { from, alert, .. } => Some(alert_block(from, alert, ack)),
        Received::Result { from, result } => Some(match result.probability {
            Some(p) => format!(
                "result  {}  study {}: risk {:.1} % ({DISCLAIMER})",
                place(from),
                clean(&result.study),
                p * 100.0
            ),
            None => format!(
                "result  {}  study {}: no risk computed; {}",
                place(from),
                clean(&result.study),
                clean(&result.notes.join("; "))
            ),
        }),
        Received::Event { from, event } => {
            let study = event.study.as_ref().map(|s| format!("study {}: ", clean(s))).unwrap_or_default();
            let (code, sentence, advice) = (clean(&event.code), clean(&event.sentence), clean(&event.advice));
            Some(format!("event   {}  {study}{sentence} [{code}]\n        {advice}", place(from)))
        }
        Received::Status { from, status } => {
            let state = if status.state == Presence::Online { "online" } else { "OFFLINE" };
            Some(format!("status  {}  {state} ({})", place(from), clean(&status.reason)))
        }
        Received::AckSent { alert_id } => Some(format!("acknowledged alert {}", clean(alert_id))),
        Received::Unreadable { topic } => {
            Some(format!("a message on {} cannot be read (another version?)", clean(topic)))
        }
    }
}

fn place(from: &BoxName) -> String {
    format!("{}/{}", clean(&from.site), clean(&from.box_id))
}

/// Text from outside, without control characters: a terminal obeys them.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn alert_block(from: &BoxName, alert: &AlertV1, ack: Ack) -> String {
    let rule = "-".repeat(72);
    let status = match alert.status {
        StatusOfRisk::Provisional => "PROVISIONAL: clinical values are missing, a final risk may follow",
        StatusOfRisk::Final => "final",
    };
    let patient = match &alert.identifiers {
        IdentifiersV1::None => "see the box's console under this study number".to_owned(),
        IdentifiersV1::Accession(number) => format!("accession number {}", clean(number)),
        IdentifiersV1::PatientId(id) => format!("patient id {}", clean(id)),
    };
    let mut lines = vec![
        rule.clone(),
        format!("ALERT   study {} (revision {})   {}", clean(&alert.study), alert.revision, place(from)),
        format!("        {}", DISCLAIMER.to_uppercase()),
        format!(
            "risk    {:.1} % metachronous liver metastasis, group {}",
            alert.probability * 100.0,
            clean(&alert.group)
        ),
        format!("status  {status} (variant: {})", clean(&alert.variant)),
        format!("patient {patient}"),
    ];
    if !alert.survival.is_empty() {
        let points = alert.survival.iter().map(|s| format!("{:.0} months {:.0} %", s.month, s.probability * 100.0));
        lines.push(format!("free of metastasis: {}", points.collect::<Vec<_>>().join(", ")));
    }
    lines.extend(alert.notes.iter().map(|note| format!("note    {}", clean(note))));
    lines.push(format!("issued  {}, valid until {}", clean(&alert.issued_at), clean(&alert.expires_at)));
    lines.push(format!("alert   {} (attempt {})", clean(&alert.alert_id), alert.attempt));
    if ack == Ack::Ask {
        let how = if std::io::stdin().is_terminal() { "press Enter" } else { "a line on stdin" };
        lines.push(format!("        seen? {how} acknowledges the oldest open alert"));
    }
    lines.push(rule);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::payload::{ALERT_SCHEMA, PackagesV1};

    #[test]
    fn an_alert_says_what_it_is_not_and_obeys_no_control_characters() {
        let alert = AlertV1 {
            schema: ALERT_SCHEMA.into(),
            alert_id: "a1".into(),
            study: "S000001".into(),
            revision: 1,
            group: "high\u{1b}[2J".into(),
            probability: 0.731,
            variant: "image only".into(),
            status: StatusOfRisk::Provisional,
            survival: vec![],
            notes: vec![],
            issued_at: String::new(),
            expires_at: String::new(),
            attempt: 2,
            packages: PackagesV1::default(),
            identifiers: IdentifiersV1::None,
            disclaimer: DISCLAIMER.into(),
        };
        let from = BoxName { site: "s".into(), box_id: "b".into() };
        let text = alert_block(&from, &alert, Ack::Auto);
        assert!(text.contains("73.1 %") && text.contains("PROVISIONAL"), "{text}");
        assert!(text.contains(&DISCLAIMER.to_uppercase()), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
