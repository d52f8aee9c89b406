//! `metwatch study export`: the objects of a study in a folder with a DICOMDIR, as a CD or a USB stick carries them.

use super::{Failure, FileError, write_file};
use crate::dicom::{self, DirectoryEntry, parse_header};
use crate::service::objects;
use crate::store::{StudyStatusV1, read_spooled, received_files};
use crate::{DISCLAIMER, Explain};
use std::path::{Path, PathBuf};

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    /// Media of one patient must not be mixed with those of another.
    #[error("{} has a DICOMDIR already", .0.display())]
    Exists(PathBuf),
}

impl Explain for ExportError {
    fn code(&self) -> &'static str {
        "export.exists"
    }
    fn advice(&self) -> &'static str {
        "choose an empty folder"
    }
}

/// Letters that begin the names of an artifact's files.
fn prefix(artifact: &str) -> &'static str {
    match artifact {
        objects::SEGMENTATION => "SG",
        objects::MEASUREMENTS => "SR",
        objects::REPORT => "PD",
        _ if objects::is_picture(artifact) => "SC",
        _ => "OB",
    }
}

/// Writes what was received and what was computed, as the bytes are, and the DICOMDIR last: a folder without it is no medium.
pub fn run(study: &StudyStatusV1, store: &Path, out: &Path) -> Result<(), Failure> {
    let directory = out.join("DICOMDIR");
    if directory.exists() {
        return Err(ExportError::Exists(out.into()).into());
    }
    let mut received = Vec::new();
    for path in received_files(store, &study.number)? {
        let header = parse_header(&read_spooled(&path)?)?;
        received.push((header.series_number, header.instance_number, path));
    }
    received.sort();
    let results = study.artifacts.iter().filter(|(name, _)| name.ends_with(".dcm"));
    let results: Vec<_> = results.map(|(name, path)| (prefix(name), store.join(path))).collect();
    let (n_received, n_results) = (received.len(), results.len());
    let mut entries: Vec<DirectoryEntry> = Vec::new();
    for (prefix, path) in received.into_iter().map(|(_, _, path)| ("CT", path)).chain(results) {
        let bytes = read_spooled(&path)?;
        let n_alike = entries.iter().filter(|e| e.file_name().starts_with(prefix)).count();
        let file_id = format!("{}/{prefix}{:06}", study.number, n_alike + 1);
        let entry = DirectoryEntry::new(&file_id, &bytes)?;
        // An object that a crash left twice in the spool is one object.
        if entries.iter().all(|e| e.sop_instance_uid() != entry.sop_instance_uid()) {
            write_file(&out.join(&file_id), &bytes)?;
            entries.push(entry);
        }
    }
    write_file(&directory, &dicom::write_directory(&entries)?)?;
    let folder = std::fs::File::open(out).and_then(|folder| folder.sync_all());
    folder.map_err(|e| FileError::write(out, e))?;
    println!("{n_received} objects as received and {n_results} of the result, with DICOMDIR, in {}", out.display());
    if !study.state.is_final() && study.result.is_none() {
        eprintln!("the study is still {}: its result is not among them", study.state.name());
    }
    eprintln!("{DISCLAIMER}");
    Ok(())
}
