//! `status/<number>.json`: what a person may read of a study beside the running service, without opening the trees.
//! Written after each transition, replaced as a whole, and without patient data: the number is the key.

use super::spool::list;
use super::{PackagesV1, StateV1, Store, StoreError, StudyV1};
use crate::DISCLAIMER;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// The folder of the status files below the store's directory.
pub const FOLDER: &str = "status";
const SCHEMA: &str = "metwatch.study-status/1";

/// A study for a person who looks at it from outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyStatusV1 {
    /// `metwatch.study-status/1`.
    pub schema: String,
    /// Demonstration, not for clinical use.
    pub disclaimer: String,
    /// The box-local number.
    pub number: String,
    /// Revision, from 1.
    pub revision: u32,
    /// Serial of the row that this was made from.
    pub serial: u64,
    /// Where the study is.
    pub state: StateV1,
    /// Objects received; while receiving, up to 15 behind.
    pub n_objects: u32,
    /// When the first object came, unix ms UTC.
    pub first_received_ms: i64,
    /// When the last new object came, unix ms UTC.
    pub last_received_ms: i64,
    /// When the study changed last, unix ms UTC.
    pub changed_ms: i64,
    /// Attempts at the present step.
    pub attempts: u32,
    /// The packages that made the result.
    pub packages: PackagesV1,
    /// Name -> path below the store's directory.
    pub artifacts: BTreeMap<String, String>,
    /// The present result as the service wrote it.
    pub result: Option<serde_json::Value>,
    /// What later results and revisions took the place of, oldest first.
    #[serde(default)]
    pub superseded: Vec<SupersededV1>,
}

/// An earlier result or revision of a study: its files are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SupersededV1 {
    /// The revision.
    pub revision: u32,
    /// In which state it ended.
    pub state: String,
    /// When it ended, unix ms UTC.
    pub ended_at_ms: i64,
    /// Name -> path below the store's directory.
    pub artifacts: BTreeMap<String, String>,
}

impl StudyStatusV1 {
    fn of(study: &StudyV1) -> Self {
        StudyStatusV1 {
            schema: SCHEMA.into(),
            disclaimer: DISCLAIMER.into(),
            number: study.number.clone(),
            revision: study.revision,
            serial: study.serial,
            state: study.state.clone(),
            n_objects: study.n_objects,
            first_received_ms: study.first_received_ms,
            last_received_ms: study.last_received_ms,
            changed_ms: study.changed_ms,
            attempts: study.attempts,
            packages: study.packages.clone(),
            artifacts: study.artifacts.iter().map(|(name, file)| (name.clone(), file.path.clone())).collect(),
            result: study.result_json.as_deref().and_then(|json| serde_json::from_str(json).ok()),
            superseded: study
                .history
                .iter()
                .map(|past| SupersededV1 {
                    revision: past.revision,
                    state: past.state.name().into(),
                    ended_at_ms: past.ended_at_ms,
                    artifacts: past.artifacts.iter().map(|(name, file)| (name.clone(), file.path.clone())).collect(),
                })
                .collect(),
        }
    }
}

fn path_of(directory: &Path, number: &str) -> PathBuf {
    directory.join(FOLDER).join(format!("{number}.json"))
}

/// The studies of a store as their status files tell, oldest first; works beside a running service.
pub fn read_status(directory: &Path) -> Result<Vec<StudyStatusV1>, StoreError> {
    if !directory.join(super::open::LOCK).exists() {
        return Err(StoreError::NoStore { directory: directory.into() });
    }
    let mut all = Vec::new();
    for path in list(&directory.join(FOLDER))?.into_iter().filter(|p| p.extension().is_some_and(|e| e == "json")) {
        let bytes = fs::read(&path).map_err(|e| StoreError::file("reading", &path, e))?;
        let status: StudyStatusV1 = serde_json::from_slice(&bytes)
            .map_err(|_| StoreError::damaged(format!("{} is no status of a study", path.display())))?;
        all.push(status);
    }
    all.sort_by(|a, b| (a.number.len(), &a.number).cmp(&(b.number.len(), &b.number)));
    Ok(all)
}

/// The files of the objects that were received for a study, in no meaningful order; works beside a running service.
pub fn received_files(directory: &Path, number: &str) -> Result<Vec<PathBuf>, StoreError> {
    let mut files = list(&directory.join(super::spool::FOLDER).join(number))?;
    // They are named by a hash of 32 digits; the files of results have words for names.
    let is_hash = |stem: &str| stem.len() == 32 && stem.bytes().all(|b| b.is_ascii_hexdigit());
    files.retain(|path| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        name.ends_with(".dcm") && name.split_once('-').is_some_and(|(stem, _)| is_hash(stem))
    });
    Ok(files)
}

/// Reads a file that [`received_files`] or a status names, and compares it with the hash in its name; works beside a
/// running service.
pub fn read_spooled(path: &Path) -> Result<Vec<u8>, StoreError> {
    let bytes = fs::read(path).map_err(|e| StoreError::file("reading", path, e))?;
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let named = name.rsplit_once('-').and_then(|(_, rest)| rest.split('.').next()).unwrap_or_default();
    if named.len() == 16 && super::sha256_hex(&bytes).starts_with(named) {
        Ok(bytes)
    } else {
        Err(StoreError::damaged(format!("{} is not as it was written", path.display())))
    }
}

/// The serial that a status file tells, `None` for one that cannot be read: it is written again.
pub(super) fn serials(directory: &Path) -> Result<BTreeMap<String, Option<u64>>, StoreError> {
    let mut serials = BTreeMap::new();
    for path in list(&directory.join(FOLDER))? {
        let Some(number) = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".json")) else {
            continue;
        };
        let status: Option<StudyStatusV1> = fs::read(&path).ok().and_then(|b| serde_json::from_slice(&b).ok());
        serials.insert(number.to_string(), status.map(|s| s.serial));
    }
    Ok(serials)
}

impl Store {
    /// Writes a study's status file. What fails here is told in the log and holds nobody up: the row is what counts.
    pub(super) fn write_status(&self, number: &str) {
        // One writer at a time, and the row is read inside, so that an older status never replaces a newer one.
        let _writing = self.inner.status.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.study(number).and_then(|study| match study {
            Some(study) => replace(&self.inner.directory, &StudyStatusV1::of(&study)),
            None => Ok(()),
        });
        if let Err(error) = written {
            tracing::warn!(study = number, %error, "the status file was not written");
        }
    }
}

fn replace(directory: &Path, status: &StudyStatusV1) -> Result<(), StoreError> {
    let path = path_of(directory, &status.number);
    let part = path.with_extension("json.part");
    let json = serde_json::to_vec_pretty(status)
        .map_err(|e| StoreError::damaged(format!("a status has no JSON form: {e}")))?;
    super::spool::make_folder(&directory.join(FOLDER))?;
    fs::write(&part, json).and_then(|()| fs::rename(&part, &path)).map_err(|e| StoreError::file("writing", &path, e))
}
