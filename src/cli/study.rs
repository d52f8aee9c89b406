//! `metwatch study list|show|export|reanalyze` and `metwatch audit verify`: what a store holds, for a person at the terminal.
//! Studies are read from the status files, so these work beside a running service and never touch its trees.

use super::labels::{LabelFile, Mapping};
use super::{Failure, export};
use crate::DISCLAIMER;
use crate::dicom::Identifier;
use crate::service::{Config, Correction, reanalyze};
use crate::store::{StateV1, Store, StoreError, StudyStatusV1, read_status};
use crate::volume::{LabelScheme, Volume};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Where the store is.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub struct Place {
    /// The service's configuration, which names the store
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The store's directory
    #[arg(long, value_name = "STORE_DIR")]
    dir: Option<PathBuf>,
}

impl Place {
    /// The store's directory.
    pub fn directory(self) -> Result<PathBuf, Failure> {
        match (self.dir, self.config) {
            (Some(dir), _) => Ok(dir),
            (None, Some(config)) => Ok(Config::read(&config)?.store.directory),
            (None, None) => Ok(PathBuf::from(".")),
        }
    }
}

/// Arguments of `metwatch study`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: StudyCommand,
}

#[derive(clap::Subcommand)]
enum StudyCommand {
    /// Lists the studies, oldest first
    List {
        #[command(flatten)]
        place: Place,
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
    /// Shows a study: its state, its result and its files
    Show {
        /// The box-local number, such as S000001
        number: String,
        #[command(flatten)]
        place: Place,
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
    /// Computes a study again from labels that a person corrected: the service must not run; the old result is kept, marked as
    /// superseded by the next revision
    Reanalyze {
        /// The box-local number, such as S000001
        number: String,
        /// The edited labels: NIfTI, NRRD (also 3D Slicer's .seg.nrrd), DICOM SEG or RTSTRUCT
        #[arg(long, value_name = "FILE")]
        labels: PathBuf,
        #[command(flatten)]
        mapping: Mapping,
        /// Who corrected them, for the audit chain
        #[arg(long, value_name = "WHO")]
        by: String,
        /// Why, for the audit chain and the result
        #[arg(long, value_name = "WHY")]
        reason: String,
        /// The service's configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Writes the objects of a study, received and computed, to a folder with a DICOMDIR
    Export {
        /// The box-local number, such as S000001
        number: String,
        /// The folder, made if it is not there
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        place: Place,
    },
}

/// Arguments of `metwatch audit`.
#[derive(clap::Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(clap::Subcommand)]
enum AuditCommand {
    /// Verifies the chain from the first entry to the last; the service must not run
    Verify {
        #[command(flatten)]
        place: Place,
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs `metwatch study`.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        StudyCommand::List { place, json: true } => print_json(&read_status(&place.directory()?)?),
        StudyCommand::List { place, json: false } => list(&read_status(&place.directory()?)?),
        StudyCommand::Show { number, place, json } => {
            let directory = place.directory()?;
            let study = find(&directory, number)?;
            if json { print_json(&study) } else { show(&study, &directory) }
        }
        StudyCommand::Reanalyze { number, labels, mapping, by, reason, config } => {
            let file = LabelFile::read(&labels)?;
            let correction = Correction { by, reason, file: file.name(), sha256: file.sha256.clone() };
            let read = |volume: &Volume, frame: Option<&Identifier>, scheme: &LabelScheme| {
                file.on_scan(&mapping, &volume.geometry, frame, scheme)
            };
            let config = Config::read(&config)?;
            let directory = config.store.directory.clone();
            let done = reanalyze(config, super::decoder()?, &number, &correction, &read)?;
            eprintln!(
                "revision {} supersedes revision {}; the service sends it when it runs",
                done.revision,
                done.revision - 1
            );
            show(&find(&directory, done.number)?, &directory);
        }
        StudyCommand::Export { number, out, place } => {
            let directory = place.directory()?;
            export::run(&find(&directory, number)?, &directory, &out)?;
        }
    }
    Ok(())
}

fn find(directory: &Path, number: String) -> Result<StudyStatusV1, StoreError> {
    let found = read_status(directory)?.into_iter().find(|study| study.number.eq_ignore_ascii_case(&number));
    found.ok_or(StoreError::NoSuchStudy { number })
}

/// Runs `metwatch audit`.
pub fn run_audit(args: AuditArgs) -> Result<(), Failure> {
    let AuditCommand::Verify { place, json } = args.command;
    let report = Store::inspect(&place.directory()?)?.verify_audit()?;
    if json {
        print_json(&report);
    } else {
        println!("the audit chain holds: {} entries\nhash of the last: {}", report.n_entries, report.head);
    }
    Ok(())
}

pub fn print_json<T: serde::Serialize>(value: &T) {
    println!("{}", serde_json::to_string_pretty(value).expect("rows of text and numbers have a JSON form"));
}

fn list(studies: &[StudyStatusV1]) {
    println!("{:<9} {:<10} {:>8} {:>7}  {:<20}  result", "number", "state", "revision", "objects", "last object (UTC)");
    for study in studies {
        let (state, at) = (study.state.name(), time(study.last_received_ms));
        println!(
            "{:<9} {state:<10} {:>8} {:>7}  {at:<20}  {}",
            study.number,
            study.revision,
            study.n_objects,
            outcome(study)
        );
    }
    eprintln!("{} studies; {DISCLAIMER}", studies.len());
}

fn show(study: &StudyStatusV1, directory: &Path) {
    println!("study     {} (revision {})", study.number, study.revision);
    println!(
        "state     {}{}",
        study.state.name(),
        if study.attempts > 0 { format!(", attempt {}", study.attempts) } else { String::new() }
    );
    match &study.state {
        StateV1::Rejected { code, sentence, advice } => println!("why       {sentence}\n          {advice} ({code})"),
        StateV1::Failed { code, sentence, attempts } => {
            println!("why       {sentence} (tried {attempts} times, {code})")
        }
        _ => {}
    }
    println!(
        "objects   {}, from {} to {}",
        study.n_objects,
        time(study.first_received_ms),
        time(study.last_received_ms)
    );
    println!("changed   {}", time(study.changed_ms));
    for (name, package) in [("segmenter", &study.packages.segmenter), ("nomogram", &study.packages.nomogram)] {
        if !package.is_empty() {
            println!("{name:<9} {package}");
        }
    }
    if study.result.is_some() {
        println!("result    {}", outcome(study));
    }
    for remark in ["/reasons", "/notes"].iter().flat_map(|list| remarks(study, list)) {
        println!("          {remark}");
    }
    for (name, path) in &study.artifacts {
        println!("file      {name}: {}", directory.join(path).display());
    }
    for past in &study.superseded {
        println!("earlier   revision {} ({}), superseded {}", past.revision, past.state, time(past.ended_at_ms));
    }
    println!("{DISCLAIMER}");
}

/// One line for the result: the risk, or that there is none.
fn outcome(study: &StudyStatusV1) -> String {
    let Some(result) = &study.result else {
        return if let StateV1::Rejected { code, .. } | StateV1::Failed { code, .. } = &study.state {
            code.clone()
        } else {
            "-".into()
        };
    };
    let text = |path: &str| result.pointer(path).and_then(Value::as_str).unwrap_or("?").to_string();
    match result.pointer("/assessment/probability").and_then(Value::as_f64) {
        Some(probability) => {
            let (group, certainty) = (text("/assessment/group"), text("/assessment/certainty"));
            format!("risk {:.1} % ({group}, {certainty})", 100.0 * probability)
        }
        None => format!("no risk: {}", text("/status")),
    }
}

fn remarks<'a>(study: &'a StudyStatusV1, list: &str) -> Vec<&'a str> {
    let list = study.result.as_ref().and_then(|r| r.pointer(list)).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|remark| remark.get("sentence").and_then(Value::as_str)).collect()
}

pub fn time(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default().format("%Y-%m-%d %H:%M:%S").to_string()
}
