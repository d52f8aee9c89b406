//! Laboratory and pathology values: the drop folder.
//!
//! The simplest interface every laboratory system can serve: it renames one JSON file per patient into a folder. [`take`] checks
//! each file, makes the values durable, then moves the file to `done/`, or to `refused/` with the reason beside it.
//! The same check serves `--clinical FILE` and the console's form, so no way in is laxer than another.
//!
//! **Invariant:** a file leaves the folder only after its values are durable in the store; the room knows nothing of risk.
#![expect(clippy::disallowed_methods, reason = "edge: this room owns the drop folder")]

use crate::Explain;
use crate::risk;
use crate::store::{Store, StoreError};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Files over this size are no laboratory values.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Files taken in one round, so that a flooded folder cannot hold up the service.
const FILES_MAX: usize = 100;

/// Where values come from.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder into which the laboratory system renames `*.json` files.
    pub drop_directory: PathBuf,
}

/// Why the drop folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClinicalError {
    /// The folder or a file in it cannot be read or moved.
    #[error("{action} {}", path.display())]
    Folder {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// The store could not take the values; the file stays where it is.
    #[error("storing clinical values")]
    Store(#[source] StoreError),
}

impl Explain for ClinicalError {
    fn code(&self) -> &'static str {
        match self {
            Self::Folder { .. } => "clinical.folder",
            Self::Store(_) => "clinical.store",
        }
    }
    fn advice(&self) -> &'static str {
        match self {
            Self::Folder { .. } => "create the drop folder and give the service's user the right to write in it",
            Self::Store(_) => "free disk space or repair the store; the file stays in the folder and is tried again",
        }
    }
}

/// What became of one file. Neither carries patient data: the file is named by its place in the folder only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// The values are durable.
    Stored {
        /// How many times values came for this patient.
        revision: u32,
    },
    /// The file was moved to `refused/`.
    Refused {
        /// Stable code of the refusal.
        code: &'static str,
        /// What is wrong with the file.
        sentence: String,
        /// What to do.
        advice: &'static str,
    },
}

/// Takes the files that lie in the drop folder now.
pub fn take(config: &Config, store: &Store, now_ms: i64) -> Result<Vec<Taken>, ClinicalError> {
    let folder = &config.drop_directory;
    let entries = std::fs::read_dir(folder).map_err(at("reading", folder))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    files.retain(|f| f.is_file() && f.extension().is_some_and(|e| e == "json"));
    files.sort();
    files.truncate(FILES_MAX);
    let mut taken = Vec::new();
    for file in files {
        taken.push(match read(&file)? {
            Ok((patient_id, json)) => {
                let revision =
                    store.put_clinical(&patient_id, &json, "drop folder", now_ms).map_err(ClinicalError::Store)?;
                move_to(&file, &folder.join("done"))?;
                Taken::Stored { revision }
            }
            Err((code, sentence, advice)) => {
                let refused = folder.join("refused");
                move_to(&file, &refused)?;
                if let Some(name) = file.file_name() {
                    let reason = refused.join(name).with_extension("reason.txt");
                    std::fs::write(&reason, format!("{sentence}\n{advice}\n{code}\n"))
                        .map_err(at("writing", &reason))?;
                }
                Taken::Refused { code, sentence, advice }
            }
        });
    }
    Ok(taken)
}

type Refusal = (&'static str, String, &'static str);

/// The patient's identifier and the text of a valid file.
fn read(file: &Path) -> Result<Result<(String, String), Refusal>, ClinicalError> {
    let size = std::fs::metadata(file).map_err(at("reading", file))?.len();
    if size > FILE_BYTES_MAX {
        let sentence = format!("a file of {size} bytes is no set of laboratory values (at most {FILE_BYTES_MAX})");
        return Ok(Err(("clinical.too-large", sentence, "send one JSON object for one patient")));
    }
    let bytes = std::fs::read(file).map_err(at("reading", file))?;
    let Ok(text) = String::from_utf8(bytes) else {
        return Ok(Err((
            "clinical.not-text",
            "the file is not UTF-8 text".into(),
            "send one JSON object for one patient",
        )));
    };
    Ok(match risk::clinical_from_json(&text) {
        Err(error) => Err((error.code(), error.to_string(), error.advice())),
        Ok((None, _)) => Err((
            "clinical.no-patient",
            "the file names no patient_id".into(),
            "add the patient_id as the scanner sends it",
        )),
        Ok((Some(patient_id), _)) => Ok((patient_id, text)),
    })
}

fn move_to(file: &Path, folder: &Path) -> Result<(), ClinicalError> {
    std::fs::create_dir_all(folder).map_err(at("creating", folder))?;
    let target = folder.join(file.file_name().unwrap_or_default());
    std::fs::rename(file, &target).map_err(at("moving to", &target))
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ClinicalError {
    let path = path.to_path_buf();
    move |source| ClinicalError::Folder { action, path, source }
}
