//! The command line: one file per command, each an `Args` and a `run`. Data goes to stdout, all else to stderr.
//!
//! **Invariant:** commands only read arguments and files, call the rooms and print; nothing is computed here.
#![expect(clippy::disallowed_methods, reason = "top: commands own files, the clock and the terminal")]

mod analyze;
mod check;
mod cohort;
mod demo;
mod device;
mod dicom;
mod doctor;
mod export;
mod extract;
mod ibsi;
mod labels;
mod load;
mod model;
mod outbox;
mod phantom;
mod repo;
mod score;
mod segment;
mod send;
mod series;
mod serve;
mod station;
mod study;
mod update;

use crate::Explain;
use clap::{Parser, Subcommand};
pub use extract::long_flags;
pub use load::{
    FileError, Scan, decoder, load_image, load_nomogram, load_rules, load_scan, load_segmenter, load_segmenter_on,
    read_file, write_file,
};

/// CT to risk of metachronous liver metastasis, on a box beside the scanner. Demonstration, not for clinical use.
#[derive(Parser)]
#[command(name = "metwatch", version, about, long_about = None)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows the whole line at work: broker, service, a synthetic patient sent by C-STORE, the alert received
    Demo(demo::Args),
    /// Runs the service: receives DICOM, analyses, announces
    Serve(serve::Args),
    /// Says what is wrong with a configuration before the service starts
    Check(check::Args),
    /// Says what is wrong with the box now, and what to do
    Doctor(doctor::Args),
    /// Shows what board this is and what it measures
    Device(device::Args),
    /// Analyses a CT (DICOM folder, NIfTI or NRRD) without network
    Analyze(analyze::Args),
    /// Says which series of a study would be analysed, and why
    Series(series::Args),
    /// Segments a CT into a label map
    Segment(segment::Args),
    /// Computes radiomics of an image and a mask, as PyRadiomics does
    Extract(extract::Args),
    /// Holds every published value of IBSI 1 against what is computed here
    Ibsi(ibsi::Args),
    /// Computes the risk from features and clinical values
    Score(score::Args),
    /// Fits, validates and evaluates nomograms on a cohort
    Cohort(cohort::Args),
    /// Writes a synthetic CT with known truth
    Phantom(phantom::Args),
    /// Forwards a DICOM folder, as a scanner would
    Send(send::Args),
    /// Speaks with other DICOM nodes: verification, sending, storage commitment
    Dicom(dicom::Args),
    /// What waits to be sent over DICOM, and sending it again
    Outbox(outbox::Args),
    /// A nursing station in the terminal: shows alerts and acknowledges them
    Station(station::Args),
    /// Lists, shows and exports the studies of a store
    Study(study::Args),
    /// Model packages: list, verify, install, activate, roll back, test, compare, import, quantize
    Model(model::Args),
    /// Newer model packages, from a server or a stick
    Update(update::Args),
    /// Makes a repository of model packages for a small site
    Repo(repo::Args),
    /// Verifies the audit chain of a store
    Audit(study::AuditArgs),
    /// Decodes compressed frames for another process of this program
    #[command(name = crate::dicom::DECODE_COMMAND, hide = true)]
    DecodeFrames,
}

/// What a command ends with when it cannot do its work: any error that explains itself.
#[derive(Debug)]
pub struct Failure(Box<dyn Explain + Send + Sync>, u8);

impl Failure {
    /// A failure that ends the process with 3, as `pyradiomics` ends when an extraction could not be made.
    fn error(error: impl Explain + Send + Sync + 'static) -> Self {
        Failure(Box::new(error), 3)
    }

    /// What the process ends with; 1 unless a command says otherwise.
    pub fn exit_code(&self) -> u8 {
        self.1
    }

    /// What happened, without its causes.
    fn sentence(&self) -> String {
        self.0.to_string()
    }

    /// The error's stable code.
    pub fn code(&self) -> &'static str {
        self.0.code()
    }
}

impl<E: Explain + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure(Box::new(error), 1)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "metwatch: {}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        write!(f, "\n  what to do: {}\n  code: {}", self.0.advice(), self.0.code())
    }
}

/// Runs one command.
pub fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Check(args) => check::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Device(args) => device::run(args),
        Command::Analyze(args) => analyze::run(args),
        Command::Series(args) => series::run(args),
        Command::Segment(args) => segment::run(args),
        Command::Extract(args) => extract::run(args),
        Command::Ibsi(args) => ibsi::run(args),
        Command::Score(args) => score::run(args),
        Command::Cohort(args) => cohort::run(args),
        Command::Phantom(args) => phantom::run(args),
        Command::Send(args) => send::run(args),
        Command::Dicom(args) => dicom::run(args),
        Command::Outbox(args) => outbox::run(args),
        Command::Station(args) => station::run(args),
        Command::Study(args) => study::run(args),
        Command::Audit(args) => study::run_audit(args),
        Command::Model(args) => model::run(args),
        Command::Update(args) => update::run(args),
        Command::Repo(args) => repo::run(args),
        Command::DecodeFrames => decode_frames(),
    }
}

/// Answers over stdin and stdout until the other side closes; it sees whatever goes wrong.
fn decode_frames() -> Result<(), Failure> {
    let ended = crate::dicom::decode_frames(std::io::stdin().lock(), std::io::stdout().lock());
    Ok(ended.map_err(|e| FileError::read(std::path::Path::new("frames"), e))?)
}

/// Logs to stderr; `RUST_LOG` overrides the level.
fn log_to_stderr(level: &str) {
    use tracing_subscriber::EnvFilter;
    // The broker's and the MQTT client's own chatter is not the box's life.
    let fallback = format!("{level},rumqttd=off,rumqttc=error");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(fallback));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
}

/// Waits for Ctrl-C or SIGTERM, calling `meanwhile` every `every`.
fn wait_for_stop(meanwhile: impl Fn(), every: std::time::Duration) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok();
        let terminated = async {
            match &mut terminate {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(terminated);
        loop {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return,
                _ = &mut terminated => return,
                () = tokio::time::sleep(every) => meanwhile(),
            }
        }
    });
}

/// A progress bar in percent on stderr; nothing where stderr is no terminal.
fn progress_bar(message: &'static str) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new(100);
    if let Ok(style) = indicatif::ProgressStyle::with_template("{msg:12} [{bar:40}] {percent:>3} % {elapsed}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(message);
    bar
}

/// Of a bar that counts patches.
fn patch_style() -> indicatif::ProgressStyle {
    let plain = indicatif::ProgressStyle::default_bar();
    let counted = plain.template("{msg:12} [{bar:40}] {pos} of {len} patches {elapsed}, {eta} left");
    counted.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()).progress_chars("=> ")
}
