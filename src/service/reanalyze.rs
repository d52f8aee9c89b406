//! A study computed again from labels that a person corrected, while the service does not run.

use super::analysis::{Models, ModelsError};
use super::health::Shared;
use super::models::ActiveModels;
use super::plan::{Patience, Step};
use super::pulse::Pulse;
use super::result::Remark;
use super::sink::Arrivals;
use super::worker::{Stopped, Worker};
use super::{Config, check};
use crate::store::{AuditNote, StateV1, Store, StoreError, StudyChange, StudyV1};
use crate::volume::{LabelMap, LabelScheme, Volume};
use crate::{Explain, dicom};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Who corrected labels, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correction {
    /// Who, as the audit chain names them.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Name of the file that the labels came from.
    pub file: String,
    /// SHA-256 of that file.
    pub sha256: String,
}

impl Correction {
    /// What a result says about it.
    pub(super) fn remark(&self) -> Remark {
        Remark {
            code: "labels.corrected".into(),
            sentence: format!(
                "the labels were corrected by {}: {}; earlier results of this study are superseded",
                self.by, self.reason
            ),
            advice: String::new(),
        }
    }
}

/// Why a study could not be computed again.
#[derive(Debug, thiserror::Error)]
pub enum ReanalyzeError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The packages.
    #[error(transparent)]
    Models(#[from] ModelsError),
    /// Objects of the study may still arrive.
    #[error("study {0} is still receiving, so there is no volume to correct labels on")]
    Receiving(String),
    /// A name or a reason that says nothing, or too much.
    #[error("{0} must have 1 to {TEXT_BYTES_MAX} bytes of text")]
    Text(&'static str),
    /// A step that cannot be done with this study.
    #[error("the study cannot be analysed: {sentence}")]
    Rejected {
        /// Code of the step.
        code: String,
        /// What is wrong.
        sentence: String,
    },
}

/// Longest name and reason, in bytes.
const TEXT_BYTES_MAX: usize = 500;

impl Explain for ReanalyzeError {
    fn code(&self) -> &'static str {
        match self {
            Self::Store(e) => e.code(),
            Self::Models(e) => e.code(),
            Self::Receiving(_) => "reanalyze.receiving",
            Self::Text(_) => "reanalyze.text",
            Self::Rejected { .. } => "reanalyze.rejected",
        }
    }
    fn advice(&self) -> &'static str {
        match self {
            Self::Store(StoreError::Locked { .. }) => {
                "stop the service first (`systemctl stop metwatch`), run this again, start the service: it sends the new result"
            }
            Self::Store(e) => e.advice(),
            Self::Models(e) => e.advice(),
            Self::Receiving(_) => {
                "start the service, wait until the study has a result, stop the service and run this again"
            }
            Self::Text(_) => "give --by a name and --reason a sentence",
            Self::Rejected { .. } => "look at the study with `metwatch study show`",
        }
    }
}

/// Reads edited labels onto a study's volume, given the volume, the Frame of Reference of its slices and what label values mean.
pub type ReadLabels<'a, E> = &'a dyn Fn(&Volume, Option<&dicom::Identifier>, &LabelScheme) -> Result<LabelMap, E>;

/// Computes everything after the segmentation again and announces it: the study's next revision. What there was stays in its history.
/// The messages wait in the outbox until the service runs.
pub fn reanalyze<E: From<ReanalyzeError>>(
    config: Config,
    decoder: dicom::Decoder,
    number: &str,
    correction: &Correction,
    read_labels: ReadLabels<'_, E>,
) -> Result<StudyV1, E> {
    let fails = |error: ReanalyzeError| E::from(error);
    for (what, text) in [("the name (--by)", &correction.by), ("the reason (--reason)", &correction.reason)] {
        if text.trim().is_empty() || text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(fails(ReanalyzeError::Text(what)));
        }
    }
    let store_error = |error: StoreError| E::from(ReanalyzeError::Store(error));
    // Only an existing store: a mistyped folder must not become a new one.
    if !config.store.directory.exists() {
        return Err(store_error(StoreError::NoStore { directory: config.store.directory.clone() }));
    }
    let (store, _) = Store::open(&config.store.directory, super::now_ms()).map_err(store_error)?;
    let study = store.study(&number.to_uppercase()).map_err(store_error)?;
    let study = study.ok_or_else(|| store_error(StoreError::NoSuchStudy { number: number.into() }))?;
    if study.state == StateV1::Receiving {
        return Err(fails(ReanalyzeError::Receiving(study.number)));
    }
    let models = Arc::new(check::active_models(&config).map_err(|e| fails(e.into()))?);
    let mut worker = worker(config, store, models, decoder);
    let stopped = |stopped| fails(rejected(stopped));
    let (plan, volume) = worker.volume(&study).map_err(stopped)?;
    let began = Instant::now();
    let frame = plan.slices.first().map(|slice| slice.header.frame_of_reference_uid.clone());
    let scheme = worker.models.segmenter.scheme().with_targets();
    let mut labels = read_labels(&volume, frame.as_ref(), &scheme)?;
    if let Some(under_way) = worker.under_way.get(&study.number) {
        dicom::leave_out(&under_way.unmeasured, &mut labels.labels);
    }
    let judged = worker.models.segmenter.judge_labels(&volume, labels);
    let judged =
        judged.map_err(|e| fails(ReanalyzeError::Rejected { code: e.code().into(), sentence: e.to_string() }))?;
    let mut next = study.clone();
    next.revision += 1;
    let read_ms = began.elapsed().as_secs_f64() * 1000.0;
    let artifacts =
        worker.keep_labels(&next, &plan, volume, judged, read_ms, Some(correction.clone())).map_err(stopped)?;
    let change = StudyChange { artifacts, next_revision: true, ..StudyChange::to(StateV1::Segmented) };
    let note = AuditNote::new(&correction.by, "study.reanalyzed").detail(format!(
        "{} (labels from {}, sha256 {}); revision {} is superseded",
        correction.reason, correction.file, correction.sha256, study.revision
    ));
    let mut study = worker.store.transition(&study, &change, &[], &note, super::now_ms()).map_err(store_error)?;
    for step in [Step::Measure, Step::Score] {
        study = worker.perform(&study, &[], step).map_err(stopped)?;
    }
    Ok(study)
}

fn rejected(stopped: Stopped) -> ReanalyzeError {
    match stopped {
        Stopped::Store(error) => ReanalyzeError::Store(error),
        Stopped::Rejected { code, sentence, .. } => ReanalyzeError::Rejected { code, sentence },
    }
}

/// A worker that takes steps when it is told to and receives nothing.
fn worker(config: Config, store: Store, models: Arc<Models>, decoder: dicom::Decoder) -> Worker {
    Worker {
        store,
        active: ActiveModels::fixed(models.clone()),
        running: Arc::new(Mutex::new(models.clone())),
        models,
        arrivals: Arc::new(Arrivals::default()),
        rules: config.series,
        decoder,
        patience: Patience { quiet: Duration::ZERO, incomplete: Duration::ZERO },
        alert: config.alert,
        destinations: config.dicom.send,
        clinical: config.clinical,
        results_directory: config.store.results_directory,
        pulse: Pulse::new("worker", Duration::MAX),
        shared: Arc::new(Shared::new()),
        slow_pool: None,
        under_way: BTreeMap::new(),
    }
}
