//! The packages that the service runs, taken from the slots: loaded at start, exchanged between two studies, left when they fail.

use super::analysis::{Models, ModelsError, load_nomogram, load_segmenter};
use super::events::{self, Told};
use super::now_ms;
use crate::alert::payload::EventKind;
use crate::risk::Nomogram;
use crate::segment::Segmenter;
use crate::store::Store;
use crate::update::{Journal, Kind, Lock, RolledBack, Slots, ThisBox, UpdateError};
use crate::{Explain, device};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A package on trial is good after this long without a crash, if no study came to prove it.
const PROVEN_AFTER: Duration = Duration::from_secs(600);
/// Leaving a package leads to the other slot, then to the program's own; more turns than this are a fault.
const TURNS_MAX: usize = 4;

/// Segmenter and nomogram that run while no slot is active; `None` is the program's own.
type Otherwise = [Option<PathBuf>; 2];

/// The running packages and where they came from.
pub struct ActiveModels {
    models: Arc<Models>,
    slots: Option<Slots>,
    otherwise: Otherwise,
    /// Which kinds run from a slot.
    from_slot: [bool; 2],
    /// Serial of the slots' state that was last looked at.
    serial: u64,
    /// What runs, by its manifest's hash.
    running: [String; 2],
    since: Instant,
    on_trial: bool,
}

/// What changed, for the stations and the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelNews {
    /// Another package runs now.
    Changed {
        /// Its kind.
        kind: Kind,
        /// Id and version.
        name: String,
    },
    /// A package failed and was left.
    Left(RolledBack),
}

impl ModelNews {
    /// Tells the stations.
    pub fn tell(&self, store: &Store) {
        let about = now_ms().to_string();
        let (code, sentence, advice) = match self {
            ModelNews::Changed { kind, name } => {
                let sentence = format!("the {} {name} runs from now on, on trial ({})", kind.name(), crate::DISCLAIMER);
                ("model.changed", sentence, "nothing; the next results name it")
            }
            ModelNews::Left(rolled) => (
                "model.rolled-back",
                rolled.sentence(),
                "look at `metwatch model list`; tell the publisher, the version is not tried again",
            ),
        };
        tracing::warn!(code, "{sentence}");
        let told = Told { kind: EventKind::Update, code, sentence: &sentence, advice, study: None, about: &about };
        events::tell(store, &told);
    }
}

/// This program on this board, recognized or configured (`[device]`).
pub fn this_box(config: &device::Config) -> Result<ThisBox, device::BoardError> {
    Ok(ThisBox::new(device::Machine::open(config)?.choice.board.name))
}

impl ActiveModels {
    /// Loads what is active; without `slots` from the given folders or the program itself.
    pub fn load(config: &super::ModelsConfig) -> Result<(ActiveModels, Vec<ModelNews>), ModelsError> {
        let mut news = Vec::new();
        let otherwise = [config.segmenter.clone(), config.nomogram.clone()];
        let (models, slots, serial) = match &config.slots {
            None => (Models::load(config.segmenter.as_deref(), config.nomogram.as_deref())?, None, 0),
            Some(directory) => {
                let slots = Slots::new(directory);
                let (models, serial) = load_active(&slots, &otherwise, [true; 2], &mut news)?;
                (models, Some(slots), serial)
            }
        };
        let running = hashes(&models);
        let active = ActiveModels {
            models: Arc::new(models),
            from_slot: slots.as_ref().map_or([false; 2], in_use),
            slots,
            otherwise,
            serial,
            running,
            since: Instant::now(),
            on_trial: true,
        };
        Ok((active, news))
    }

    /// Packages that stay, for a command beside the service.
    pub fn fixed(models: Arc<Models>) -> ActiveModels {
        let running = hashes(&models);
        ActiveModels {
            models,
            slots: None,
            otherwise: [None, None],
            from_slot: [false; 2],
            serial: 0,
            running,
            since: Instant::now(),
            on_trial: false,
        }
    }

    /// The packages.
    pub fn models(&self) -> Arc<Models> {
        self.models.clone()
    }

    /// Looks whether others were made active meanwhile, and takes them. To be called between studies only.
    pub fn refresh(&mut self) -> Vec<ModelNews> {
        let mut news = Vec::new();
        let Some(slots) = self.slots.clone() else { return news };
        if self.on_trial && self.since.elapsed() > PROVEN_AFTER {
            self.proven();
        }
        let state = match slots.state() {
            Ok(state) => state,
            Err(error) => {
                tracing::error!(code = error.code(), %error, "the state of the model slots could not be read");
                return news;
            }
        };
        if state.serial == self.serial {
            return news;
        }
        let is_other = |(kind, running): (Kind, &String)| {
            let hash = state.kind(kind).in_use().map(|(_, package)| package.sha256.as_str());
            hash.is_some_and(|hash| hash != running) || (hash.is_none() && self.from_slot[kind as usize])
        };
        let changed = [0, 1].map(|k| is_other((Kind::ALL[k], &self.running[k])));
        if changed == [false; 2] {
            self.serial = state.serial;
            return news;
        }
        match load_active(&slots, &self.otherwise, changed, &mut news) {
            Ok((models, serial)) => {
                let running = hashes(&models);
                let names = names(&models);
                for (index, kind) in Kind::ALL.into_iter().enumerate() {
                    if running[index] != self.running[index] {
                        news.push(ModelNews::Changed { kind, name: names[index].clone() });
                    }
                }
                (self.models, self.running, self.serial) = (Arc::new(models), running, serial);
                self.from_slot = in_use(&slots);
                (self.since, self.on_trial) = (Instant::now(), true);
            }
            Err(error) => tracing::error!(code = error.code(), %error, "the active packages could not be loaded"),
        }
        news
    }

    /// A study came through: what is on trial is good.
    pub fn proven(&mut self) {
        if !self.on_trial {
            return;
        }
        let running = self.running.clone();
        match self.each(|slots, lock| {
            Kind::ALL.into_iter().zip(&running).try_for_each(|(kind, hash)| {
                if slots.proven(kind, hash, lock)? {
                    tracing::info!(kind = kind.name(), "the package on trial is good");
                    let detail = format!("{} {hash}", kind.name());
                    Journal::new(slots.directory()).note("service", "model.good", detail, now_ms())?;
                }
                Ok(())
            })
        }) {
            Ok(()) => self.on_trial = false,
            Err(error) => tracing::warn!(code = error.code(), %error, "a package on trial could not be called good"),
        }
    }

    /// The service ends in order, which says nothing against a package on trial.
    pub fn stopped(&self) {
        let stopped = self.each(|slots, lock| {
            Kind::ALL
                .into_iter()
                .zip(&self.running)
                .try_for_each(|(kind, hash)| slots.stopped(kind, hash, lock).map(drop))
        });
        if let Err(error) = stopped {
            tracing::warn!(code = error.code(), %error, "the end of the service was not noted in the model slots");
        }
    }

    fn each(&self, work: impl FnOnce(&Slots, &Lock) -> Result<(), UpdateError>) -> Result<(), UpdateError> {
        match &self.slots {
            Some(slots) if slots.directory().exists() => work(slots, &slots.lock()?),
            _ => Ok(()),
        }
    }
}

fn hashes(models: &Models) -> [String; 2] {
    [models.segmenter.package().sha256.clone(), models.nomogram.manifest_sha256.clone()]
}

fn names(models: &Models) -> [String; 2] {
    let (segmenter, nomogram) = (models.segmenter.package(), &models.nomogram);
    [format!("{} {}", segmenter.id, segmenter.version), format!("{} {}", nomogram.id, nomogram.version)]
}

/// Which kinds have an active slot.
fn in_use(slots: &Slots) -> [bool; 2] {
    slots.state().map_or([false; 2], |state| Kind::ALL.map(|kind| state.kind(kind).in_use().is_some()))
}

/// Loads the active package of each kind; one that fails is left for the one before it.
/// `begins`: which kinds begin to run with this, so that the start of one on trial counts.
fn load_active(
    slots: &Slots,
    otherwise: &Otherwise,
    begins: [bool; 2],
    news: &mut Vec<ModelNews>,
) -> Result<(Models, u64), ModelsError> {
    let [segmenter, nomogram] = otherwise.each_ref().map(Option::as_deref);
    if !slots.directory().exists() {
        return Ok((Models::load(segmenter, nomogram)?, 0));
    }
    let lock = slots.lock()?;
    let state = match slots.state() {
        Err(error @ UpdateError::SlotsDamaged { .. }) => {
            // A box without its slots still has the packages of the program; the operator hears of it.
            tracing::error!(code = error.code(), %error, "the packages that need no slot are used");
            return Ok((Models::load(segmenter, nomogram)?, 0));
        }
        other => other?,
    };
    let segmenter: Segmenter =
        load_kind(slots, Kind::Segmenter, begins[0], &lock, news, |active| load_segmenter(active.or(segmenter), None))?;
    let nomogram: Nomogram =
        load_kind(slots, Kind::Nomogram, begins[1], &lock, news, |active| load_checked_nomogram(active.or(nomogram)))?;
    let serial = slots.state().map_or(state.serial, |s| s.serial);
    Ok((Models::of(segmenter, nomogram)?, serial))
}

/// A nomogram whose radiomics settings are right too.
fn load_checked_nomogram(folder: Option<&Path>) -> Result<Nomogram, ModelsError> {
    let nomogram = load_nomogram(folder)?;
    crate::radiomics::Settings::from_yaml(&nomogram.radiomics.yaml)?;
    Ok(nomogram)
}

fn load_kind<T>(
    slots: &Slots,
    kind: Kind,
    begins: bool,
    lock: &Lock,
    news: &mut Vec<ModelNews>,
    load: impl Fn(Option<&Path>) -> Result<T, ModelsError>,
) -> Result<T, ModelsError> {
    let mut left = |rolled: RolledBack| {
        let noted = Journal::new(slots.directory()).note("service", "model.rolled-back", rolled.sentence(), now_ms());
        if let Err(error) = noted {
            tracing::warn!(code = error.code(), %error, "the record of updates could not be written");
        }
        news.push(ModelNews::Left(rolled));
    };
    for _ in 0..TURNS_MAX {
        if begins && let Some(rolled) = slots.begin(kind, lock)? {
            left(rolled);
            continue;
        }
        let folder: Option<PathBuf> = slots.active_folder(kind)?;
        let Some(folder) = folder else { break };
        match load(Some(&folder)) {
            Ok(loaded) => return Ok(loaded),
            Err(error) => left(slots.roll_back(kind, &error.to_string(), lock)?),
        }
    }
    load(None)
}
