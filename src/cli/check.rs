//! `metwatch check`: what is wrong with a configuration, before the service starts.

use super::Failure;
use crate::Explain;
use crate::service::{self, Config};
use std::path::PathBuf;

/// Says what is wrong with a configuration before the service starts
#[derive(clap::Args)]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Something is wrong; the findings were printed.
#[derive(Debug, thiserror::Error)]
#[error("{n} of {of} checks failed")]
struct ChecksFailed {
    n: usize,
    of: usize,
}

impl Explain for ChecksFailed {
    fn code(&self) -> &'static str {
        "check.failed"
    }
    fn advice(&self) -> &'static str {
        "mend what is marked above, then check again"
    }
}

/// Checks and prints.
pub fn run(args: Args) -> Result<(), Failure> {
    let findings = service::check(&Config::read(&args.config)?);
    for finding in &findings {
        match finding.trouble {
            _ if args.json => {}
            None => println!("ok    {}", finding.what),
            Some((code, advice)) => println!("WRONG {}\n      what to do: {advice}\n      code: {code}", finding.what),
        }
    }
    if args.json {
        let row = |f: &service::CheckFinding| serde_json::json!({ "what": f.what, "ok": f.trouble.is_none(), "code": f.trouble.map(|t| t.0), "advice": f.trouble.map(|t| t.1) });
        println!("{}", serde_json::Value::from(findings.iter().map(row).collect::<Vec<_>>()));
    }
    match findings.iter().filter(|f| f.trouble.is_some()).count() {
        0 => Ok(()),
        n => Err(ChecksFailed { n, of: findings.len() }.into()),
    }
}
