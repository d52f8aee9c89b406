//! The command line: one file per command, each an `Args` and a `run`. Data goes to stdout, all else to stderr.
//!
//! **Invariant:** commands only read arguments and files, call the rooms and print; nothing is computed here.
#![expect(clippy::disallowed_methods, reason = "top: commands own files, the clock and the terminal")]

mod analyze;
mod check;
mod demo;
mod extract;
mod load;
mod phantom;
mod score;
mod segment;
mod send;
mod serve;
mod station;
mod study;

use crate::Explain;
use clap::{Parser, Subcommand};
pub use load::{FileError, load_image, load_nomogram, load_segmenter, read_file, write_file};

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
    /// Analyses a CT (DICOM folder, NIfTI or NRRD) without network
    Analyze(analyze::Args),
    /// Segments a CT into a label map
    Segment(segment::Args),
    /// Computes radiomics of an image and a mask, as PyRadiomics does
    Extract(extract::Args),
    /// Computes the risk from features and clinical values
    Score(score::Args),
    /// Writes a synthetic CT with known truth
    Phantom(phantom::Args),
    /// Forwards a DICOM folder, as a scanner would
    Send(send::Args),
    /// A nursing station in the terminal: shows alerts and acknowledges them
    Station(station::Args),
    /// Lists and shows the studies of a store
    Study(study::Args),
    /// Verifies the audit chain of a store
    Audit(study::AuditArgs),
}

/// What a command ends with when it cannot do its work: any error that explains itself.
#[derive(Debug)]
pub struct Failure(Box<dyn Explain + Send + Sync>);

impl Failure {
    /// The error's stable code.
    pub fn code(&self) -> &'static str {
        self.0.code()
    }
}

impl<E: Explain + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure(Box::new(error))
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
        Command::Analyze(args) => analyze::run(args),
        Command::Segment(args) => segment::run(args),
        Command::Extract(args) => extract::run(args),
        Command::Score(args) => score::run(args),
        Command::Phantom(args) => phantom::run(args),
        Command::Send(args) => send::run(args),
        Command::Station(args) => station::run(args),
        Command::Study(args) => study::run(args),
        Command::Audit(args) => study::run_audit(args),
    }
}
