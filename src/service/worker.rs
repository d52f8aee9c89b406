//! The worker: takes each study to its next durable state. One study is computed at a time; rayon uses the cores inside.

use super::analysis::{self, Context, Models};
use super::choice::NOT_CHOSEN;
use super::delivery;
use super::events::{self, Told};
use super::features::Features;
use super::models::ActiveModels;
use super::objects::{self, Source};
use super::plan::{Patience, Situation, Stage, Step, is_ready, next_step};
use super::result::{Remark, ResultV1};
use super::sink::Arrivals;
use super::source::CutOffs;
use crate::alert::payload::{EventKind, rfc3339};
use crate::alert::{self, Identifiers};
use crate::dicom::{self, SeriesError, SeriesPlan};
use crate::risk::{self, ClinicalValues};
use crate::segment::Gate;
use crate::store::{AuditNote, PackagesV1, SpoolFile, StateV1, Store, StoreError, StudyChange, StudyV1};
use crate::volume::{self, LabelMap, Volume};
use crate::{Explain, clinical};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures of a step inside a living process before the study is given up.
const PANICS_MAX: u32 = 3;
/// Beginnings of a step without an end before the study is given up: it may be what ends the process.
const BEGINNINGS_MAX: u32 = 20;
/// Beginnings after which a study lets the others go first.
const BEGINNINGS_AT_ONCE: u32 = 3;
/// The longest time that the process must have lived before such a study is begun again.
const POSTPONED_MAX: Duration = Duration::from_secs(300);
/// The drop folder is looked at this often.
const CLINICAL_EVERY: Duration = Duration::from_secs(1);
/// The worker looks around at least this often.
const TICK: Duration = Duration::from_millis(200);
/// Whether other packages were made active is looked at this often.
const MODELS_EVERY: Duration = Duration::from_secs(1);

/// The worker's view of the service.
pub struct Worker {
    /// The store.
    pub store: Store,
    /// The packages of the running study.
    pub models: Arc<Models>,
    /// Where they come from, and the next ones.
    pub active: ActiveModels,
    /// What the console has to know of the nomogram.
    pub cut_offs: Arc<Mutex<CutOffs>>,
    /// What is arriving.
    pub arrivals: Arc<Arrivals>,
    /// When a series is complete.
    pub patience: Patience,
    /// Which series of a study is analyzed.
    pub rules: dicom::SeriesRules,
    /// Decodes compressed slices.
    pub decoder: dicom::Decoder,
    /// How alerts leave.
    pub alert: alert::Config,
    /// Where results are sent.
    pub destinations: Vec<dicom::Destination>,
    /// The drop folder.
    pub clinical: Option<clinical::Config>,
    /// A copy of each study's files under plain names.
    pub results_directory: Option<PathBuf>,
    /// Milliseconds since the start at which the worker was last alive; fed to the watchdog.
    pub heartbeat: Arc<AtomicU64>,
    /// Plans of series that are arriving, by number of objects; and volumes of studies under way.
    pub under_way: BTreeMap<String, UnderWay>,
}

/// What is kept in memory of a study between steps; everything in it can be made again from the store.
#[derive(Default)]
pub struct UnderWay {
    plan: Option<(u32, Result<SeriesPlan, SeriesError>)>,
    volume: Option<Volume>,
    labels: Option<LabelMap>,
    /// Voxels of the volume where nothing was measured.
    unmeasured: Vec<Range<usize>>,
    series: Option<Gate>,
    steps_ms: Vec<(String, f64)>,
    /// The stage whose beginning is recorded, and the study's revision.
    begun: Option<(Stage, u32)>,
    panics: u32,
}

/// What segmentation leaves for the steps after a restart (`segmentation.json`).
#[derive(Serialize, Deserialize)]
struct SegmentationV1 {
    series: GateV1,
    gate: GateV1,
    remarks: Vec<Remark>,
    steps_ms: Vec<(String, f64)>,
    /// The package that made the labels, by its manifest; absent before there were updates.
    segmenter_sha256: Option<String>,
    /// The radiomics settings that made the features.
    settings_sha256: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct GateV1 {
    reasons: Vec<Remark>,
    notes: Vec<Remark>,
}

/// Why a step did not come to its end.
pub(super) enum Stopped {
    /// The study cannot be analysed; this is its outcome.
    Rejected { code: String, sentence: String, advice: String },
    /// The store failed; the step is tried again later.
    Store(StoreError),
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Stopped::Store(error)
    }
}

pub(super) fn rejected(error: &dyn Explain) -> Stopped {
    Stopped::Rejected { code: error.code().into(), sentence: error.to_string(), advice: error.advice().into() }
}

impl Worker {
    /// Works until `stop` is set. Returns only between steps, so that nothing is half done.
    pub fn run(mut self, stop: &AtomicBool) {
        let began = Instant::now();
        let mut clinical_due = Instant::now();
        let mut models_due = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            if clinical_due <= Instant::now() {
                self.take_clinical();
                clinical_due = Instant::now() + CLINICAL_EVERY;
            }
            match self.store.studies() {
                Ok(studies) => {
                    for study in studies.clone() {
                        self.heartbeat.store(began.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
                        if stop.load(Ordering::Relaxed) {
                            return self.active.stopped();
                        }
                        if models_due <= Instant::now() {
                            self.take_models();
                            models_due = Instant::now() + MODELS_EVERY;
                        }
                        self.advance(study, &studies, began.elapsed());
                    }
                }
                Err(error) => tracing::error!(%error, "the studies could not be read"),
            }
            self.heartbeat.store(began.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
            if models_due <= Instant::now() {
                self.take_models();
                models_due = Instant::now() + MODELS_EVERY;
            }
            self.arrivals.wait(TICK);
        }
        self.active.stopped();
    }

    /// Between two studies: takes the packages that were made active meanwhile, and tells it.
    fn take_models(&mut self) {
        let news = self.active.refresh();
        if news.is_empty() {
            return;
        }
        self.models = self.active.models();
        *self.cut_offs.lock().unwrap_or_else(PoisonError::into_inner) = CutOffs::of(&self.models.nomogram);
        news.iter().for_each(|news| news.tell(&self.store));
    }

    /// A result has one segmenter and one nomogram: labels or features that other packages made are made again.
    fn made_by_others(&self, study: &StudyV1, kept: &SegmentationV1) -> Option<Result<StudyV1, StoreError>> {
        let differs = |made: &Option<String>, now: &str| made.as_deref().is_some_and(|made| made != now);
        let segmenter = analysis::segmenter_ref(&self.models).sha256;
        let (state, what) = if differs(&kept.segmenter_sha256, &segmenter) {
            (StateV1::Assembled, "the labels were made by another segmenter")
        } else if differs(&kept.settings_sha256, &self.models.nomogram.radiomics.sha256) {
            (StateV1::Segmented, "the features were made for another nomogram")
        } else {
            return None;
        };
        let note = AuditNote::new("service", "study.made-again").detail(what);
        Some(self.store.transition(study, &StudyChange::to(state), &[], &note, super::now_ms()))
    }

    /// Records that a step begins: a step which ends the process (a codec that aborts, no memory left) is known by its
    /// beginnings without an end, whatever else was killed with it. `None`: not now.
    fn begin(&mut self, study: StudyV1, alive: Duration) -> Result<Option<StudyV1>, StoreError> {
        let stage = stage_of(&study.state);
        let now = Some((stage, study.revision));
        if self.under_way.get(&study.number).is_some_and(|u| u.begun == now) {
            return Ok(Some(study));
        }
        let attempts = study.attempts + 1;
        if attempts > BEGINNINGS_MAX {
            self.fail(&study, "the process ended again and again while this study was computed", study.attempts);
            return Ok(None);
        }
        if alive < postponement(study.attempts) {
            return Ok(None);
        }
        let change = StudyChange { attempts: Some(attempts), ..StudyChange::to(study.state.clone()) };
        let note = AuditNote::new("service", "study.begun").detail(format!("{stage:?}, beginning {attempts}"));
        let study = self.store.transition(&study, &change, &[], &note, super::now_ms())?;
        self.under_way.entry(study.number.clone()).or_default().begun = now;
        Ok(Some(study))
    }

    /// Takes one study as far as it goes now. `all`: every study of the store; `alive`: how long the process has lived.
    fn advance(&mut self, mut study: StudyV1, all: &[StudyV1], alive: Duration) {
        loop {
            let step = match self.situation(&study, all) {
                Ok(situation) => next_step(&situation, self.patience),
                Err(error) => return tracing::error!(study = %study.number, %error, "the study could not be read"),
            };
            if step == Step::Wait {
                return;
            }
            if step != Step::Close {
                study = match self.begin(study, alive) {
                    Ok(Some(begun)) => begun,
                    Ok(None) | Err(StoreError::StudyMoved { .. }) => return,
                    Err(error) => return tracing::error!(code = error.code(), %error, "a step could not be begun"),
                };
            }
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| self.perform(&study, all, step)));
            study = match outcome {
                Ok(Ok(next)) => next,
                Ok(Err(Stopped::Rejected { code, sentence, advice })) => {
                    self.reject(&study, code, sentence, advice);
                    return;
                }
                // A late slice came between: the study is read again in the next round.
                Ok(Err(Stopped::Store(StoreError::StudyMoved { .. }))) => {
                    self.under_way.remove(&study.number);
                    return;
                }
                Ok(Err(Stopped::Store(error))) => {
                    return tracing::error!(study = %study.number, code = error.code(), %error, "the step is tried again");
                }
                Err(_) => {
                    // What is in memory of it may be what was wrong.
                    let panics = self.under_way.remove(&study.number).map_or(0, |u| u.panics) + 1;
                    tracing::error!(study = %study.number, ?step, panics, "a step failed by a fault of the program");
                    self.under_way.entry(study.number.clone()).or_default().panics = panics;
                    if panics >= PANICS_MAX {
                        let sentence = format!("the step {step:?} failed {panics} times by a fault of the program");
                        self.fail(&study, &sentence, panics);
                    }
                    return;
                }
            };
        }
    }

    fn situation(&mut self, study: &StudyV1, all: &[StudyV1]) -> Result<Situation, StoreError> {
        let stage = stage_of(&study.state);
        let (quiet, sender_open, has_gap) = match stage {
            Stage::Receiving => self.arrival(study)?,
            _ => (Duration::ZERO, false, false),
        };
        let ready = stage == Stage::Receiving && is_ready(quiet, sender_open, has_gap, self.patience);
        let siblings_arriving = ready && self.siblings_arriving(study, all)?;
        let outbox_ended =
            stage == Stage::Scored && self.store.outbox_of(&study.number)?.iter().all(|m| !m.state.is_open());
        let clinical_is_newer = matches!(stage, Stage::Scored | Stage::Delivered) && self.clinical_is_newer(study)?;
        Ok(Situation { stage, quiet, sender_open, has_gap, siblings_arriving, outbox_ended, clinical_is_newer })
    }

    fn clinical_is_newer(&self, study: &StudyV1) -> Result<bool, StoreError> {
        let Some(clinical) = self.store.clinical(study.patient_id.as_str())? else { return Ok(false) };
        let known = study
            .result_json
            .as_deref()
            .and_then(|json| ResultV1::from_json(json).ok())
            .map_or(0, |r| r.clinical_revision);
        Ok(clinical.revision > known)
    }

    fn perform(&mut self, study: &StudyV1, all: &[StudyV1], step: Step) -> Result<StudyV1, Stopped> {
        let _span = tracing::info_span!("study", number = %study.number).entered();
        match step {
            Step::Wait => Ok(study.clone()),
            Step::Assemble => self.assemble(study, all),
            Step::Segment => self.segment(study),
            Step::Measure => self.measure(study),
            Step::Score => self.score(study),
            Step::Close => {
                let note = AuditNote::new("service", "study.delivered");
                let change = StudyChange::to(StateV1::Delivered);
                Ok(self.store.transition(study, &change, &[], &note, super::now_ms())?)
            }
        }
    }

    /// The plan of a series, made once per number of objects.
    pub(super) fn plan(&mut self, study: &StudyV1) -> Result<Result<SeriesPlan, SeriesError>, StoreError> {
        let entry = self.under_way.entry(study.number.clone()).or_default();
        if let Some((n, plan)) = &entry.plan
            && *n == study.n_objects
        {
            return Ok(plan.clone());
        }
        let mut headers = Vec::new();
        for object in self.store.objects(&study.number)? {
            let bytes = self.store.read_spool(&object.file)?;
            // The receiver parsed it before: a failure now means that the file changed, which read_spool would have told.
            headers.extend(dicom::parse_header(&bytes).ok());
        }
        let plan = dicom::judge_series(&headers, &self.rules).plan;
        entry.plan = Some((study.n_objects, plan.clone()));
        Ok(plan)
    }

    fn volume(&mut self, study: &StudyV1) -> Result<(SeriesPlan, Volume), Stopped> {
        let plan = self.plan(study)?.map_err(|e| rejected(&e))?;
        if let Some(volume) = self.under_way.entry(study.number.clone()).or_default().volume.take() {
            return Ok((plan, volume));
        }
        let began = Instant::now();
        let objects = self.store.objects(&study.number)?;
        let load = |index: usize| {
            let object = objects.get(index).ok_or_else(|| std::io::Error::other("the series changed"))?;
            self.store.read_spool(&object.file).map_err(std::io::Error::other)
        };
        let assembled = dicom::assemble_volume(&plan, &self.decoder, &load, &|_, _| ()).map_err(|e| rejected(&e))?;
        let under_way = self.under_way.entry(study.number.clone()).or_default();
        under_way.series = Some(analysis::series_gate(&assembled.notes, &assembled.refusals));
        under_way.unmeasured = assembled.unmeasured;
        under_way.steps_ms = vec![("assemble".into(), ms(began))];
        Ok((plan, assembled.volume))
    }

    fn assemble(&mut self, study: &StudyV1, all: &[StudyV1]) -> Result<StudyV1, Stopped> {
        match self.plan(study)? {
            Ok(plan) if plan.refusals.is_empty() => self.choose(study, all)?,
            Err(error) => return Err(self.no_plan(&error)),
            // A volume that must not be analyzed is refused with its labels, at the end.
            Ok(_) => {}
        }
        let (plan, volume) = self.volume(study)?;
        self.arrivals.forget(&study.series_uid);
        let note = AuditNote::new("service", "study.assembled").detail(format!("{} slices", plan.slices.len()));
        let next = self.store.transition(study, &StudyChange::to(StateV1::Assembled), &[], &note, super::now_ms())?;
        self.under_way.entry(study.number.clone()).or_default().volume = Some(volume);
        Ok(next)
    }

    fn segment(&mut self, study: &StudyV1) -> Result<StudyV1, Stopped> {
        let (plan, volume) = self.volume(study)?;
        let models = self.models.clone();
        let began = Instant::now();
        let mut segmentation = models.segmenter.segment(&volume, &|_| ()).map_err(|e| rejected(&e))?;
        let unmeasured = &self.under_way.entry(study.number.clone()).or_default().unmeasured;
        dicom::leave_out(unmeasured, &mut segmentation.labels.labels);
        let segment_ms = ms(began);
        tracing::info!(elapsed_ms = segment_ms, reasons = segmentation.gate.reasons.len(), "segmented");
        let began = Instant::now();
        let created_at = rfc3339(super::now_ms());
        let seed = format!("{} {}", study.series_uid, study.revision);
        let source = Some(Source { plan: &plan, seed: &seed });
        let files =
            analysis::label_files(&volume, &segmentation, &models, source, &created_at).map_err(|e| rejected(&e))?;
        let under_way = self.under_way.entry(study.number.clone()).or_default();
        under_way.steps_ms.push(("segment".into(), segment_ms));
        under_way.steps_ms.push(("label files".into(), ms(began)));
        let kept = SegmentationV1 {
            series: (&under_way.series.clone().unwrap_or_default()).into(),
            gate: (&segmentation.gate).into(),
            remarks: Vec::new(),
            steps_ms: under_way.steps_ms.clone(),
            segmenter_sha256: Some(analysis::segmenter_ref(&models).sha256),
            settings_sha256: None,
        };
        under_way.volume = Some(volume);
        under_way.labels = Some(segmentation.labels);
        let mut artifacts = self.write(study, files)?;
        artifacts.extend(self.write(study, [("segmentation.json".to_string(), json_bytes(&kept))])?);
        let change = StudyChange { artifacts, ..StudyChange::to(StateV1::Segmented) };
        let note = AuditNote::new("service", "study.segmented").detail(self.packages().segmenter);
        Ok(self.store.transition(study, &change, &[], &note, super::now_ms())?)
    }

    fn measure(&mut self, study: &StudyV1) -> Result<StudyV1, Stopped> {
        let mut kept = self.segmentation(study)?;
        if let Some(again) = self.made_by_others(study, &kept) {
            return Ok(again?);
        }
        let labels = self.labels(study)?;
        let (_, volume) = self.volume(study)?;
        let began = Instant::now();
        let (features, remarks) = analysis::measure(&volume, &labels, &self.models.settings);
        kept.steps_ms.push(("radiomics".into(), ms(began)));
        kept.remarks = remarks;
        kept.settings_sha256 = Some(self.models.nomogram.radiomics.sha256.clone());
        tracing::info!(elapsed_ms = ms(began), regions = features.regions.len(), "measured");
        let files = [
            ("features.csv".to_string(), features.to_csv().into_bytes()),
            ("segmentation.json".to_string(), json_bytes(&kept)),
        ];
        let change = StudyChange { artifacts: self.write(study, files)?, ..StudyChange::to(StateV1::Measured) };
        let note = AuditNote::new("service", "study.measured");
        let next = self.store.transition(study, &change, &[], &note, super::now_ms())?;
        self.under_way.entry(study.number.clone()).or_default().labels = Some(labels);
        Ok(next)
    }

    fn score(&mut self, study: &StudyV1) -> Result<StudyV1, Stopped> {
        let began = Instant::now();
        let kept = self.segmentation(study)?;
        if let Some(again) = self.made_by_others(study, &kept) {
            return Ok(again?);
        }
        let labels = self.labels(study)?;
        let features = Features::from_csv(&self.artifact_text(study, "features.csv")?)
            .ok_or_else(|| Stopped::Store(damaged("features.csv is not a feature table")))?;
        let clinical = self.store.clinical(study.patient_id.as_str())?;
        let values = match &clinical {
            Some(stored) => risk::clinical_from_json(&stored.json).map_err(|e| rejected(&e))?.1,
            None => ClinicalValues::default(),
        };
        let mut context = Context {
            models: &self.models,
            study: Some(study.number.clone()),
            revision: study.revision,
            created_at: rfc3339(super::now_ms()),
            reasons: [kept.series.reasons, kept.gate.reasons].concat(),
            notes: [kept.series.notes, kept.gate.notes, kept.remarks].concat(),
            labels: &labels,
            clinical: (values, clinical.map_or(0, |c| c.revision)),
            steps_ms: kept.steps_ms,
        };
        context.steps_ms.push(("risk".into(), ms(began)));
        let result = analysis::score(context, &features);
        let now_ms = super::now_ms();
        let state = match result.reasons.first() {
            None => StateV1::Scored,
            Some(first) => StateV1::Rejected {
                code: first.code.clone(),
                sentence: first.sentence.clone(),
                advice: first.advice.clone(),
            },
        };
        let mut messages = events::messages(&result, study, &self.alert, now_ms);
        if let Some(first) = result.reasons.first() {
            messages.push(self.not_analysed(study, &first.code, &first.sentence, &first.advice, now_ms));
        }
        let mut files = self.result_objects(study, &result, &features)?;
        files.insert("result.json".into(), result.to_json().into_bytes());
        let written = self.write(study, files)?;
        let files = study.artifacts.iter().chain(&written).map(|(name, file)| (name.clone(), file.clone())).collect();
        messages.extend(delivery::messages(&self.store, study, &files, &result, &self.destinations)?);
        let change = StudyChange {
            // A risk that is computed again with newer values begins a new count.
            attempts: Some(0),
            packages: Some(self.packages()),
            artifacts: written,
            result_json: Some(result.to_json()),
            ..StudyChange::to(state)
        };
        let note = AuditNote::new("service", "study.scored").detail(format!(
            "{} with {}",
            serde_json::json!(result.status),
            self.packages().nomogram
        ));
        let next = self.store.transition(study, &change, &messages, &note, now_ms)?;
        self.under_way.remove(&study.number);
        self.active.proven();
        self.copy_results(&next);
        Ok(next)
    }

    /// What says the whole result: structured report and page. They are on disk before anything about the result leaves.
    fn result_objects(
        &mut self,
        study: &StudyV1,
        result: &ResultV1,
        features: &Features,
    ) -> Result<BTreeMap<String, Vec<u8>>, Stopped> {
        let plan = self.plan(study)?.map_err(|e| rejected(&e))?;
        // Newer clinical values make another report of the same revision: an object of its own.
        let seed = format!("{} {} {}", study.series_uid, study.revision, result.created_at);
        let source = Some(Source { plan: &plan, seed: &seed });
        let there = objects::looked_at().filter(|name| study.artifacts.contains_key(*name));
        let files = there.map(|name| Ok((name.into(), self.artifact(study, name)?)));
        let files: BTreeMap<String, Vec<u8>> = files.collect::<Result<_, StoreError>>()?;
        objects::result_objects(result, features, &self.models, source, &files).map_err(|e| rejected(&e))
    }

    fn packages(&self) -> PackagesV1 {
        let (segmenter, nomogram) = (self.models.segmenter.package(), &self.models.nomogram);
        PackagesV1 {
            segmenter: format!("{} {}", segmenter.id, segmenter.version),
            nomogram: format!("{} {}", nomogram.id, nomogram.version),
        }
    }

    fn labels(&mut self, study: &StudyV1) -> Result<LabelMap, Stopped> {
        if let Some(labels) = self.under_way.entry(study.number.clone()).or_default().labels.take() {
            return Ok(labels);
        }
        let image = volume::decode_image(&self.artifact(study, "labels.nii.gz")?).map_err(|e| rejected(&e))?;
        let labels = image.to_labels().map_err(|e| rejected(&e))?;
        Ok(LabelMap { labels, geometry: image.geometry, scheme: self.models.segmenter.scheme().clone() })
    }

    fn segmentation(&self, study: &StudyV1) -> Result<SegmentationV1, Stopped> {
        let text = self.artifact_text(study, "segmentation.json")?;
        serde_json::from_str(&text).map_err(|e| Stopped::Store(damaged(format!("segmentation.json: {e}"))))
    }

    fn artifact(&self, study: &StudyV1, name: &str) -> Result<Vec<u8>, StoreError> {
        let file = study.artifacts.get(name).ok_or_else(|| damaged(format!("study {} has no {name}", study.number)))?;
        self.store.read_spool(file)
    }

    fn artifact_text(&self, study: &StudyV1, name: &str) -> Result<String, StoreError> {
        String::from_utf8(self.artifact(study, name)?).map_err(|_| damaged(format!("{name} is not text")))
    }

    fn write(
        &self,
        study: &StudyV1,
        files: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Result<BTreeMap<String, SpoolFile>, StoreError> {
        files
            .into_iter()
            .map(|(name, bytes)| Ok((name.clone(), self.store.write_spool(&study.number, &name, &bytes)?)))
            .collect()
    }

    /// Plain names for people and scripts; the store's own copies stay the truth, so a failure is only logged.
    fn copy_results(&self, study: &StudyV1) {
        let Some(folder) = self.results_directory.as_ref().map(|d| d.join(&study.number)) else { return };
        let copy = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes);
        let all = std::fs::create_dir_all(&folder).and_then(|()| {
            study.artifacts.iter().try_for_each(|(name, file)| {
                let bytes = self.store.read_spool(file).map_err(std::io::Error::other)?;
                copy(name, &bytes)
            })
        });
        if let Err(error) = all {
            tracing::warn!(study = %study.number, %error, "the results could not be copied to the results folder");
        }
    }

    fn not_analysed(
        &self,
        study: &StudyV1,
        code: &str,
        sentence: &str,
        advice: &str,
        now_ms: i64,
    ) -> crate::store::NewOutbox {
        let accession = study.accession.as_ref().map(|a| a.as_str());
        let identifiers = Identifiers::select(self.alert.identifiers, accession, Some(study.patient_id.as_str()));
        let about = format!("{} {}", study.series_uid, study.revision);
        let told =
            Told { kind: EventKind::NotAnalysed, code, sentence, advice, study: Some(&study.number), about: &about };
        events::event(&told, identifiers, now_ms)
    }

    fn reject(&mut self, study: &StudyV1, code: String, sentence: String, advice: String) {
        let now_ms = super::now_ms();
        tracing::warn!(study = %study.number, code, "not analysed");
        // That another series of the study is analyzed is no news for a station; the audit and the list of studies have it.
        let message = (code != NOT_CHOSEN).then(|| self.not_analysed(study, &code, &sentence, &advice, now_ms));
        let note = AuditNote::new("service", "study.rejected").detail(code.clone());
        let change = StudyChange::to(StateV1::Rejected { code, sentence, advice });
        if let Err(error) = self.store.transition(study, &change, message.as_slice(), &note, now_ms) {
            tracing::error!(study = %study.number, %error, "the rejection could not be stored and is tried again");
        }
        self.under_way.remove(&study.number);
        self.arrivals.forget(&study.series_uid);
    }

    fn fail(&mut self, study: &StudyV1, sentence: &str, attempts: u32) {
        let (code, now_ms) = ("service.step-failed", super::now_ms());
        let advice = "report the log of the service; the objects are kept and can be analysed again";
        let message = self.not_analysed(study, code, sentence, advice, now_ms);
        let state = StateV1::Failed { code: code.into(), sentence: sentence.into(), attempts };
        let note = AuditNote::new("service", "study.failed").detail(sentence);
        if let Err(error) = self.store.transition(study, &StudyChange::to(state), &[message], &note, now_ms) {
            tracing::error!(study = %study.number, %error, "the failure could not be stored");
        }
    }

    fn take_clinical(&self) {
        let Some(config) = &self.clinical else { return };
        match clinical::take(config, &self.store, super::now_ms()) {
            Ok(taken) => {
                for refused in taken {
                    if let clinical::Taken::Refused { code, sentence, advice } = refused {
                        let about = format!("{}", super::now_ms());
                        let told = Told {
                            kind: EventKind::Degraded,
                            code,
                            sentence: &sentence,
                            advice,
                            study: None,
                            about: &about,
                        };
                        events::tell(&self.store, &told);
                    }
                }
            }
            Err(error) => tracing::error!(code = error.code(), %error, "clinical values could not be taken"),
        }
    }
}

/// How long the process must have lived before a study with so many beginnings is begun again, so that the others are
/// computed first and a box without power does not count against the study that it happened to compute.
fn postponement(beginnings: u32) -> Duration {
    match beginnings.checked_sub(BEGINNINGS_AT_ONCE) {
        None => Duration::ZERO,
        Some(over) => Duration::from_secs(1 << over.min(16)).min(POSTPONED_MAX),
    }
}

fn stage_of(state: &StateV1) -> Stage {
    match state {
        StateV1::Receiving => Stage::Receiving,
        StateV1::Assembled => Stage::Assembled,
        StateV1::Segmented => Stage::Segmented,
        StateV1::Measured => Stage::Measured,
        StateV1::Scored => Stage::Scored,
        StateV1::Delivered => Stage::Delivered,
        StateV1::Rejected { .. } => Stage::Rejected,
        StateV1::Failed { .. } => Stage::Failed,
    }
}

impl From<&Gate> for GateV1 {
    fn from(gate: &Gate) -> Self {
        GateV1 { reasons: analysis::remarks(&gate.reasons), notes: analysis::remarks(&gate.notes) }
    }
}

fn damaged(what: impl Into<String>) -> StoreError {
    StoreError::Damaged { what: what.into() }
}

fn json_bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("a struct of plain values always serializes")
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_study_that_was_begun_often_lets_the_others_go_first() {
        let waits: Vec<u64> = [0, 2, 3, 5, 9, 19, 100].map(|n| postponement(n).as_secs()).to_vec();
        assert_eq!(waits, [0, 0, 1, 4, 64, 300, 300]);
    }
}
