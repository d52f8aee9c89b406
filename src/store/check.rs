//! The whole store held against itself: every row decodes, every reference leads somewhere, every count is right.

use super::studies::{ResultV1, result_key};
use super::trees::{Table, Trees};
use super::{AuditReport, AuditV1, ClinicalV1, ObjectV1, OutboxV1, SpoolFile, Store, StoreError, StudyV1, record};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What [`Store::check`] found.
#[derive(Debug, Clone, Serialize)]
pub struct CheckReport {
    /// Studies.
    pub n_studies: usize,
    /// Objects of all studies.
    pub n_objects: usize,
    /// Messages, open or ended.
    pub n_messages: usize,
    /// Messages that are open.
    pub n_open: usize,
    /// The audit chain, verified.
    pub audit: AuditReport,
    /// Bytes of the spool that rows name.
    pub spool_bytes: u64,
    /// Bytes of the trees' own files.
    pub trees_bytes: u64,
    /// Files that a row names and that are missing or not as they were written.
    pub damaged_files: Vec<String>,
    /// Files that no row names (yet): unfinished ones, and those of work under way.
    pub unnamed_files: Vec<String>,
}

impl CheckReport {
    /// Nothing is missing and nothing differs.
    pub fn is_sound(&self) -> bool {
        self.damaged_files.is_empty()
    }
}

/// What the rows hold, after all of them were read and agreed with each other.
#[derive(Default)]
pub struct Census {
    /// Number -> serial of each study.
    pub studies: BTreeMap<String, u64>,
    /// Path -> file and study of each file that a row names.
    pub files: BTreeMap<String, (SpoolFile, String)>,
    pub n_objects: usize,
    pub n_messages: usize,
    pub n_open: usize,
}

impl Census {
    fn name(&mut self, study: &str, file: &SpoolFile) {
        self.files.insert(file.path.clone(), (file.clone(), study.into()));
    }

    /// The paths of all named files.
    pub fn paths(&self) -> BTreeSet<String> {
        self.files.keys().cloned().collect()
    }
}

/// Reads every row. An error is damage: sled's pages, a row's checksum, a reference into nothing, a wrong count.
pub fn census(trees: &Trees) -> Result<Census, StoreError> {
    let mut census = Census::default();
    let objects = objects(trees, &mut census)?;
    studies(trees, &mut census, objects)?;
    messages(trees, &mut census)?;
    clinical(trees)?;
    trees.each(Table::Meta, b"", |key, bytes| record::decode::<Value>("meta", key, bytes).map(drop))?;
    trees.each(Table::Series, b"", |key, bytes| record::decode::<String>("series", key, bytes).map(drop))?;
    trees.each(Table::Instances, b"", |key, bytes| record::decode::<String>("instances", key, bytes).map(drop))?;
    trees.each(Table::Audit, b"", |key, bytes| record::decode::<AuditV1>("audit", key, bytes).map(drop))?;
    Ok(census)
}

/// Number -> count of objects.
fn objects(trees: &Trees, census: &mut Census) -> Result<BTreeMap<String, u32>, StoreError> {
    let mut n_by_study = BTreeMap::new();
    trees.each(Table::Objects, b"", |key, bytes| {
        let object: ObjectV1 = record::decode("objects", key, bytes)?;
        let study = key.split(|b| *b == b'/').next().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
        census.name(&study, &object.file);
        *n_by_study.entry(study).or_insert(0) += 1;
        census.n_objects += 1;
        Ok(())
    })?;
    Ok(n_by_study)
}

fn studies(trees: &Trees, census: &mut Census, mut n_by_study: BTreeMap<String, u32>) -> Result<(), StoreError> {
    for (_, study) in trees.scan::<StudyV1>(Table::Studies, b"")? {
        let number = &study.number;
        let found = n_by_study.remove(number).unwrap_or(0);
        if found != study.n_objects {
            let what = format!("study {number} has {found} objects and should have {}", study.n_objects);
            return Err(StoreError::damaged(what));
        }
        for index in 0..study.n_results {
            let row = trees.get::<ResultV1>(Table::Results, &result_key(number, index))?;
            match row.ok_or_else(|| StoreError::damaged(format!("result {index} of study {number} is missing")))? {
                ResultV1::File(file) => census.name(number, &file),
                ResultV1::Inline(_) => {}
            }
        }
        let past = study.history.iter().flat_map(|h| h.artifacts.values());
        study.artifacts.values().chain(past).for_each(|file| census.name(number, file));
        census.studies.insert(number.clone(), study.serial);
    }
    match n_by_study.into_keys().next() {
        Some(number) => Err(StoreError::damaged(format!("study {number} has objects and no row"))),
        None => Ok(()),
    }
}

fn messages(trees: &Trees, census: &mut Census) -> Result<(), StoreError> {
    let mut open = BTreeMap::new();
    trees.each(Table::Outbox, b"", |key, bytes| {
        let row: OutboxV1 = record::decode("outbox", key, bytes)?;
        if row.state.is_open() {
            let study = row.study.as_deref().unwrap_or_default();
            row.file.iter().for_each(|file| census.name(study, file));
            open.insert(row.sequence.to_be_bytes().to_vec(), row.id);
        }
        census.n_messages += 1;
        Ok(())
    })?;
    census.n_open = open.len();
    let queue: BTreeMap<_, _> = trees.scan::<String>(Table::Open, b"")?.into_iter().collect();
    if queue != open {
        let what = format!("the queue names {} messages, {} are open", queue.len(), open.len());
        return Err(StoreError::damaged(what));
    }
    Ok(())
}

fn clinical(trees: &Trees) -> Result<(), StoreError> {
    trees.each(Table::Clinical, b"", |key, bytes| match key.contains(&b'/') {
        true => record::decode::<ClinicalV1>("clinical", key, bytes).map(drop),
        false => record::decode::<u32>("clinical", key, bytes).map(drop),
    })
}

impl Store {
    /// Reads everything: rows, references, the audit chain and every byte of the spool. Writers wait while the rows are read.
    pub fn check(&self) -> Result<CheckReport, StoreError> {
        let census = {
            let _quiet = self.trees().quiet();
            census(self.trees())?
        };
        let audit = self.verify_audit()?;
        let (unfinished, finished) = self.inner.spool.orphans(&census.paths())?;
        let files = census.files.values();
        let damaged = files.clone().filter(|(file, _)| self.inner.spool.read(file).is_err());
        Ok(CheckReport {
            n_studies: census.studies.len(),
            n_objects: census.n_objects,
            n_messages: census.n_messages,
            n_open: census.n_open,
            audit,
            spool_bytes: files.clone().map(|(file, _)| file.length).sum(),
            trees_bytes: self.trees().size_on_disk()?,
            damaged_files: damaged.map(|(file, _)| file.path.clone()).collect(),
            unnamed_files: unfinished.into_iter().chain(finished).collect(),
        })
    }
}
