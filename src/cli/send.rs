//! `metwatch send`, also `metwatch dicom send`: forwards a DICOM folder, as a scanner would.

use super::dicom::Node;
use super::{Failure, FileError};
use crate::Explain;
use crate::dicom::{self, Delivery};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Most files that one call looks at.
const FILES_MAX: usize = 100_000;

/// Sends every DICOM object of a folder (or single files) to another node by C-STORE.
#[derive(clap::Args)]
pub struct Args {
    /// Folder or files; folders are searched to the bottom
    #[arg(required_unless_present = "echo")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    node: Node,
    /// Only ask whether the node answers (C-ECHO)
    #[arg(long)]
    echo: bool,
}

/// Some objects did not arrive.
#[derive(Debug, thiserror::Error)]
#[error("{failed} of {count} objects were not stored by the other node")]
struct NotAll {
    failed: usize,
    count: usize,
}

impl Explain for NotAll {
    fn code(&self) -> &'static str {
        "send.not-all"
    }
    fn advice(&self) -> &'static str {
        "see the reasons above; what was stored need not be sent again"
    }
}

/// No file to send.
#[derive(Debug, thiserror::Error)]
#[error("there is no DICOM object to send in the given paths")]
struct Nothing;

impl Explain for Nothing {
    fn code(&self) -> &'static str {
        "send.nothing"
    }
    fn advice(&self) -> &'static str {
        "give a folder of DICOM files"
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let target = args.node.target()?;
    if args.echo {
        return super::dicom::echo(&target);
    }
    let files = find_files(&args.paths)?;
    if files.is_empty() {
        return Err(Nothing.into());
    }
    let bar =
        if std::io::stderr().is_terminal() { ProgressBar::new(files.len() as u64) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos}/{len} sent, {per_sec}, {eta} left") {
        bar.set_style(style);
    }
    let load = |index: usize| std::fs::read(&files[index]);
    let sent = dicom::send(files.len(), &load, &target, &mut |done, _| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    for (file, delivery) in files.iter().zip(&sent) {
        match delivery {
            Delivery::Stored => {}
            Delivery::Warning(status) => eprintln!("{}: stored with warning {status:#06x}", file.display()),
            Delivery::Refused { status, comment } => {
                eprintln!("{}: refused with {status:#06x} {comment}", file.display())
            }
            Delivery::NotAccepted { why } => eprintln!("{}: not sent: {why}", file.display()),
            Delivery::Skipped { why } => eprintln!("{}: skipped: {why}", file.display()),
            Delivery::NotSent { why } => eprintln!("{}: not sent: {why}", file.display()),
        }
    }
    let stored = sent.iter().filter(|d| d.is_stored()).count();
    let failed = sent.iter().filter(|d| d.is_failure()).count();
    println!("{stored} of {} files stored by {}, {failed} failed", sent.len(), target.ae_title);
    match (stored, failed) {
        (0, 0) => Err(Nothing.into()),
        (_, 0) => Ok(()),
        _ => Err(NotAll { failed, count: stored + failed }.into()),
    }
}

/// All files under the paths, in order of their names.
pub fn find_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    let mut open: Vec<PathBuf> = paths.to_vec();
    while let Some(path) = open.pop() {
        let read = |e| FileError::read(&path, e);
        if std::fs::metadata(&path).map_err(read)?.is_dir() {
            for entry in std::fs::read_dir(&path).map_err(read)? {
                let entry = entry.map_err(read)?;
                // Links inside a folder are not followed: they may lead round in a circle.
                if !entry.file_type().map_err(read)?.is_symlink() && !hidden(&entry.path()) {
                    open.push(entry.path());
                }
            }
        } else {
            files.push(path);
        }
        if files.len() > FILES_MAX {
            break;
        }
    }
    files.sort();
    Ok(files)
}

fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'))
}
