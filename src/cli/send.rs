//! `metwatch send`: forwards a DICOM folder, as a scanner would.

use super::{Failure, FileError};
use crate::Explain;
use crate::dicom::{self, AeTitle, Delivery, Target};
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
    /// Where to: AE title, host and port, such as ARCHIVE@pacs.example:104
    #[arg(long, value_name = "AET@HOST:PORT", value_parser = parse_destination)]
    to: Destination,
    /// Our AE title
    #[arg(long, value_name = "AET", default_value = "METWATCH")]
    from: AeTitle,
    /// Only ask whether the node answers (C-ECHO)
    #[arg(long)]
    echo: bool,
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
    let Destination { ae_title, host, port } = args.to;
    let target = Target { ae_title, host, port, calling_ae: args.from };
    if args.echo {
        let time = dicom::echo(&target)?;
        println!("{} answered in {:.1} ms", target.ae_title, time.as_secs_f64() * 1000.0);
        return Ok(());
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
fn find_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
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
