//! `metwatch dicom`: what a technician asks another node, and what a PACS administrator asks about this one.

use super::Failure;
use super::send::{self, find_files};
use crate::Explain;
use crate::dicom::{
    self, AeTitle, ClientCertificate, CommitAnswer, CommitReport, CommitRequest, Reference, Target, Tls, TlsConfig,
    failure_meaning,
};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Arguments of `metwatch dicom`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: DicomCommand,
}

#[derive(clap::Subcommand)]
enum DicomCommand {
    /// Asks whether a node answers (C-ECHO)
    Echo {
        #[command(flatten)]
        node: Node,
    },
    /// Sends DICOM files (C-STORE); the same as `metwatch send`
    Send(send::Args),
    /// Asks a node to keep objects safe that it has (storage commitment), and waits for its report
    Commit {
        /// Folder or files that were sent before
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        #[command(flatten)]
        node: Node,
        /// Port of ours on which the node reports; without it the report must come over the same association
        #[arg(long, value_name = "PORT")]
        listen: Option<u16>,
        /// How long to wait for the report, s
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        wait: u64,
    },
    /// Prints the conformance statement (Markdown)
    Conformance,
}

/// Another node, and how it is called.
#[derive(clap::Args)]
pub struct Node {
    /// Where to: AE title, host and port, such as ARCHIVE@pacs.example:104
    #[arg(long, value_name = "AET@HOST:PORT", value_parser = parse_destination)]
    to: Destination,
    /// Our AE title
    #[arg(long, value_name = "AET", default_value = "METWATCH")]
    from: AeTitle,
    /// Calls with TLS and believes certificates of these authorities (PEM)
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Our certificate (PEM), for nodes that ask for one
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM, mode 0600)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Name that the node's certificate must carry, instead of its host
    #[arg(long, value_name = "NAME", requires = "tls_ca")]
    tls_name: Option<String>,
}

impl Node {
    /// The node, certificates read.
    pub fn target(self) -> Result<Target, Failure> {
        let (certificate_file, key_file, name) = (self.tls_cert, self.tls_key, self.tls_name);
        let tls = self.tls_ca.map(|ca_file| {
            let client_certificate = ClientCertificate::Optional;
            let config =
                TlsConfig { ca_file, certificate_file, key_file, listen: None, client_certificate, only: false };
            Tls::new(&config, name)
        });
        let Destination { ae_title, host, port } = self.to;
        Ok(Target { ae_title, host, port, calling_ae: self.from, tls: tls.transpose()? })
    }
}

/// `AET@HOST:PORT`.
#[derive(Clone)]
struct Destination {
    ae_title: AeTitle,
    host: String,
    port: u16,
}

fn parse_destination(text: &str) -> Result<Destination, String> {
    let form = "write it as AET@HOST:PORT, such as ARCHIVE@pacs.example:104";
    let (title, address) = text.split_once('@').ok_or(form)?;
    let (host, port) = address.rsplit_once(':').ok_or(form)?;
    let ae_title = AeTitle::new(title).map_err(|e| e.to_string())?;
    let port = port.parse().ok().filter(|p| *p > 0).ok_or(form)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() { Err(form.into()) } else { Ok(Destination { ae_title, host: host.into(), port }) }
}

/// No report, or not all is kept.
#[derive(Debug, thiserror::Error)]
enum NotCommitted {
    #[error("the node took the request, but no report came within {wait_s} s")]
    NoReport { wait_s: u64 },
    #[error("{failed} of {count} objects are not kept safe by the other node")]
    Failed { failed: usize, count: usize },
    #[error("there is no DICOM object in the given paths")]
    Nothing,
    #[error("port {port} cannot be listened on")]
    Listen { port: u16, source: std::io::Error },
}

impl Explain for NotCommitted {
    fn code(&self) -> &'static str {
        match self {
            Self::NoReport { .. } => "commit.no-report",
            Self::Failed { .. } => "commit.failed",
            Self::Nothing => "commit.nothing",
            Self::Listen { .. } => "commit.listen",
        }
    }
    fn advice(&self) -> &'static str {
        match self {
            Self::NoReport { .. } => {
                "enter our address and the port of --listen at the other node, and see its log; it may report later"
            }
            Self::Failed { .. } => "send the objects named above again, then ask again",
            Self::Nothing => "give the folder that was sent",
            Self::Listen { .. } => "stop what listens there, or choose another port",
        }
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        DicomCommand::Echo { node } => echo(&node.target()?),
        DicomCommand::Send(args) => send::run(args),
        DicomCommand::Commit { paths, node, listen, wait } => commit(&paths, &node.target()?, listen, wait),
        DicomCommand::Conformance => {
            print!("{}", dicom::conformance_statement());
            Ok(())
        }
    }
}

/// C-ECHO with its time.
pub fn echo(target: &Target) -> Result<(), Failure> {
    let time = dicom::echo(target)?;
    println!("{} answered in {:.1} ms", target.ae_title, time.as_secs_f64() * 1000.0);
    Ok(())
}

fn commit(paths: &[PathBuf], target: &Target, listen: Option<u16>, wait_s: u64) -> Result<(), Failure> {
    let mut objects = Vec::new();
    for file in find_files(paths)? {
        let header = super::read_file(&file).ok().and_then(|bytes| dicom::parse_header(&bytes).ok());
        objects
            .extend(header.map(|h| Reference { sop_class_uid: h.sop_class_uid, sop_instance_uid: h.sop_instance_uid }));
    }
    if objects.is_empty() {
        return Err(NotCommitted::Nothing.into());
    }
    let now = chrono::Utc::now().timestamp_micros().to_be_bytes();
    let transaction_uid = dicom::derive_uid(&[b"metwatch dicom commit", &now, &std::process::id().to_be_bytes()]);
    let request = CommitRequest { transaction_uid, objects };
    let begun = Instant::now();
    let mailbox = listen.map(|port| Mailbox::open(port, target)).transpose()?;
    // Where reports come on a port of ours, the association of the request is not held open for one.
    let wait = if mailbox.is_some() { Duration::from_millis(200) } else { Duration::from_secs(wait_s) };
    let report = match dicom::commit(target, &request, wait)? {
        CommitAnswer::Reported(report) => Some(report),
        CommitAnswer::Later => mailbox.and_then(|m| m.wait(&request, Duration::from_secs(wait_s))),
    };
    let report = report.ok_or(NotCommitted::NoReport { wait_s })?;
    for (object, reason) in &report.failed {
        eprintln!("{}: {} ({reason:#06x})", object.sop_instance_uid.as_str(), failure_meaning(*reason));
    }
    let (kept, count) = (report.committed.len(), request.objects.len());
    println!(
        "{kept} of {count} objects are kept safe by {}; reported after {:.1} s",
        target.ae_title,
        begun.elapsed().as_secs_f64()
    );
    if kept == count { Ok(()) } else { Err(NotCommitted::Failed { failed: count - kept, count }.into()) }
}

/// A port on which the node may report.
struct Mailbox {
    reports: std::sync::mpsc::Receiver<CommitReport>,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

/// Hands reports on, and takes nothing else.
struct Slot(Mutex<Sender<CommitReport>>);

impl dicom::Sink for Slot {
    fn store(&self, _: dicom::Received) -> Result<(), dicom::StoreFailure> {
        Err(dicom::StoreFailure::processing("only reports are taken here"))
    }
    fn commitment_report(&self, _: &AeTitle, report: &CommitReport) -> Result<(), dicom::StoreFailure> {
        let slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.send(report.clone()).map_err(|_| dicom::StoreFailure::unknown_transaction())
    }
    fn rejected(&self, _: dicom::Rejection) {}
    fn association_released(&self, _: dicom::AssociationEnd) {}
}

impl Mailbox {
    fn open(port: u16, target: &Target) -> Result<Mailbox, Failure> {
        let listener =
            std::net::TcpListener::bind(("0.0.0.0", port)).map_err(|source| NotCommitted::Listen { port, source })?;
        let caller = dicom::Caller { store: false, reports: true, ..target.ae_title.clone().into() };
        let config =
            dicom::Config { ae_title: target.calling_ae.clone(), allow: vec![caller], ..dicom::Config::default() };
        let (tell, reports) = channel();
        let (stop, slot) = (Arc::new(AtomicBool::new(false)), Arc::new(Slot(Mutex::new(tell))));
        let flag = stop.clone();
        let thread = std::thread::spawn(move || {
            let door = dicom::Door { listener, tls: false };
            if let Err(error) = dicom::serve(vec![door], config, slot, flag) {
                eprintln!("reports cannot be heard: {error}");
            }
        });
        Ok(Mailbox { reports, stop, thread })
    }

    /// The report on this request.
    fn wait(self, request: &CommitRequest, wait: Duration) -> Option<CommitReport> {
        let end = Instant::now() + wait;
        let mut found = None;
        while let Ok(report) = self.reports.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if report.transaction_uid == request.transaction_uid {
                found = Some(report);
                break;
            }
        }
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_parsed() {
        let d = parse_destination("ARCHIVE@pacs.example:104").unwrap();
        assert_eq!((d.ae_title.as_str(), d.host.as_str(), d.port), ("ARCHIVE", "pacs.example", 104));
        assert_eq!(parse_destination("A@[::1]:104").unwrap().host, "::1");
        for bad in ["ARCHIVE", "ARCHIVE@host", "@host:104", "A@:104", "A@host:0", "SEVENTEEN_LETTERS@h:1"] {
            assert!(parse_destination(bad).is_err(), "{bad}");
        }
    }
}
