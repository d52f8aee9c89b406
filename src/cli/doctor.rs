//! `metwatch doctor`: what is wrong with the box now, and what to do. For people a table, for scripts JSON and an exit code.

use super::Failure;
use crate::Explain;
use crate::service::{Config, Diagnosis, Severity, doctor};
use std::path::PathBuf;

/// Says what is wrong with the box now, and what to do
///
/// Exit code 0: no problem (there may be warnings; with --strict there are none), 1: problems. In the JSON, "worst" is "ok", "warning" or
/// "problem".
#[derive(clap::Args)]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    /// Warnings end with exit code 1, too
    #[arg(long)]
    strict: bool,
}

/// The box is not well; the findings were printed.
#[derive(Debug, thiserror::Error)]
#[error("{problems} problems, {warnings} warnings")]
struct NotWell {
    problems: usize,
    warnings: usize,
}

impl Explain for NotWell {
    fn code(&self) -> &'static str {
        "doctor.not-well"
    }
    fn advice(&self) -> &'static str {
        "do what stands beside each finding, then ask again"
    }
}

/// Looks and prints.
pub fn run(args: Args) -> Result<(), Failure> {
    let found = doctor(&Config::read(&args.config)?);
    let count = |severity| found.iter().filter(|d| d.severity == severity).count();
    let (problems, warnings) = (count(Severity::Problem), count(Severity::Warning));
    if args.json {
        println!("{}", json(&found, problems, warnings));
    } else {
        found.iter().for_each(print);
        println!("{problems} problems, {warnings} warnings ({})", crate::DISCLAIMER);
    }
    if 0 < problems || (args.strict && 0 < warnings) { Err(NotWell { problems, warnings }.into()) } else { Ok(()) }
}

fn print(d: &Diagnosis) {
    let mark = match d.severity {
        Severity::Ok => "ok     ",
        Severity::Warning => "WARNING",
        Severity::Problem => "PROBLEM",
    };
    println!("{mark}  {:<12}  {}", d.area, d.what);
    if d.severity != Severity::Ok {
        println!("{:23}what to do: {}\n{:23}code: {}", "", d.advice, "", d.code);
    }
}

fn json(found: &[Diagnosis], problems: usize, warnings: usize) -> serde_json::Value {
    let worst = found.iter().map(|d| d.severity).max().unwrap_or(Severity::Ok);
    let row = |d: &Diagnosis| {
        let (code, advice) = (Some(d.code).filter(|c| !c.is_empty()), Some(&d.advice).filter(|a| !a.is_empty()));
        serde_json::json!({ "area": d.area, "severity": d.severity.name(), "what": d.what, "code": code, "advice": advice })
    };
    serde_json::json!({
        "worst": worst.name(),
        "problems": problems,
        "warnings": warnings,
        "findings": found.iter().map(row).collect::<Vec<_>>(),
    })
}
