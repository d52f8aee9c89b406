//! Two slots per kind of package, and which of them is active.
//!
//! `slots.json` is the one truth and is replaced whole (written aside, synced, renamed). A slot's folder is filled before the state names
//! it and emptied after the state forgot it, so that a kill between two steps leaves a folder without a name, never a name without
//! its folder. Everything that changes something holds the lock.
//! ```text
//! install -> installed -> activate -> trying(starts) -> good
//!                                          |-> bad: golden vectors fail, or three starts without an end; remembered by hash
//! ```

use super::archive::unpack;
use super::files::{make_folder, read_bounded, remove_folder, replace, sync_folder};
use super::package::{Files, Identity, Kind, ThisBox, read_package, verify};
use super::{Explained, UpdateError};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SCHEMA: &str = "metwatch.slots/1";
const STATE: &str = "slots.json";
const STATE_BYTES_MAX: u64 = 1 << 20;
const LOCK: &str = "lock";
const UPDATE_LOCK: &str = "update.lock";
const INCOMING: &str = "incoming";
/// Another process holds the lock while it unpacks and checks a package: seconds. Waited for so often, 100 ms each.
const LOCK_TRIES: u32 = 150;
/// Starts of a package on trial that did not come to an end before it is called bad.
const STARTS_MAX: u32 = 3;
/// Bad packages remembered per kind; the oldest is forgotten first.
const BAD_MAX: usize = 64;

/// One of the two places of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    fn other(self) -> Slot {
        if self == Slot::A { Slot::B } else { Slot::A }
    }

    /// `a` or `b`.
    pub fn name(self) -> &'static str {
        if self == Slot::A { "a" } else { "b" }
    }
}

/// How far a package has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Phase {
    /// Checked and complete; not in use.
    Installed,
    /// In use, not yet proven.
    Trying {
        /// Starts of the service with it that did not end well so far.
        starts: u32,
    },
    /// Proven in the service.
    Good,
    /// Failed; not used again.
    Bad {
        /// What happened.
        why: String,
    },
}

impl Phase {
    /// One word, as lists print it.
    pub fn name(&self) -> &'static str {
        match self {
            Phase::Installed => "installed",
            Phase::Trying { .. } => "trying",
            Phase::Good => "good",
            Phase::Bad { .. } => "bad",
        }
    }
}

/// A package in a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledV1 {
    /// Package id.
    pub id: String,
    /// Package version.
    pub version: String,
    /// SHA-256 of its manifest.
    pub sha256: String,
    /// How far it has come.
    #[serde(flatten)]
    pub phase: Phase,
}

impl InstalledV1 {
    /// Id and version.
    pub fn name(&self) -> String {
        format!("{} {}", self.id, self.version)
    }
}

/// A package that failed here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadV1 {
    /// Package id.
    pub id: String,
    /// Package version.
    pub version: String,
    /// SHA-256 of its manifest.
    pub sha256: String,
    /// What happened.
    pub why: String,
}

/// The slots of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindV1 {
    /// The slot in use; `None`: the package inside the program.
    pub active: Option<Slot>,
    /// Slot A.
    pub a: Option<InstalledV1>,
    /// Slot B.
    pub b: Option<InstalledV1>,
    /// Packages that are not tried again.
    pub bad: Vec<BadV1>,
}

impl KindV1 {
    /// What is in a slot.
    pub fn get(&self, slot: Slot) -> Option<&InstalledV1> {
        if slot == Slot::A { self.a.as_ref() } else { self.b.as_ref() }
    }

    fn get_mut(&mut self, slot: Slot) -> &mut Option<InstalledV1> {
        if slot == Slot::A { &mut self.a } else { &mut self.b }
    }

    /// The package in use, and its slot.
    pub fn in_use(&self) -> Option<(Slot, &InstalledV1)> {
        self.active.and_then(|slot| Some((slot, self.get(slot)?)))
    }

    /// The slot that the next package goes into. A package on trial gives way before the proven one beside it does.
    fn next_slot(&self) -> Slot {
        let Some((active, package)) = self.in_use() else {
            // Nothing in use: the empty slot, else a bad or unproven one, else A.
            let rank = |slot| match self.get(slot).map(|p| &p.phase) {
                None => 0,
                Some(Phase::Bad { .. }) => 1,
                Some(Phase::Installed | Phase::Trying { .. }) => 2,
                Some(Phase::Good) => 3,
            };
            return if rank(Slot::B) < rank(Slot::A) { Slot::B } else { Slot::A };
        };
        let other = active.other();
        let proven_beside = self.get(other).is_some_and(|p| p.phase == Phase::Good);
        if matches!(package.phase, Phase::Trying { .. }) && proven_beside { active } else { other }
    }

    /// Where to go when the active package is left: the other slot if it is proven, else the package inside the program.
    fn fallback(&self) -> Option<Slot> {
        let other = self.active?.other();
        self.get(other).filter(|p| p.phase == Phase::Good).map(|_| other)
    }

    /// Leaves the active package for good and remembers it.
    fn leave(&mut self, why: &str) -> Option<InstalledV1> {
        let (fallback, slot) = (self.fallback(), self.active?);
        let left = self.get_mut(slot).as_mut().map(|package| {
            package.phase = Phase::Bad { why: why.into() };
            package.clone()
        });
        if let Some(left) = &left {
            let (id, version, sha256) = (left.id.clone(), left.version.clone(), left.sha256.clone());
            self.remember(BadV1 { id, version, sha256, why: why.into() });
        }
        self.active = fallback;
        left
    }

    fn remember(&mut self, bad: BadV1) {
        self.bad.retain(|known| (&known.id, &known.version, &known.sha256) != (&bad.id, &bad.version, &bad.sha256));
        self.bad.push(bad);
        let too_many = self.bad.len().saturating_sub(BAD_MAX);
        self.bad.drain(..too_many);
    }

    /// Why a package is not tried again, if so: the same content, or the same name again with other content.
    pub fn known_bad(&self, id: &str, version: &str, sha256: Option<&str>) -> Option<&BadV1> {
        self.bad.iter().find(|b| Some(b.sha256.as_str()) == sha256 || (b.id == id && b.version == version))
    }
}

/// The state of all slots (`slots.json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotsV1 {
    schema: String,
    /// Counts the changes.
    pub serial: u64,
    segmenter: KindV1,
    nomogram: KindV1,
}

impl Default for SlotsV1 {
    fn default() -> Self {
        SlotsV1 { schema: SCHEMA.into(), serial: 0, segmenter: KindV1::default(), nomogram: KindV1::default() }
    }
}

impl SlotsV1 {
    /// The slots of a kind.
    pub fn kind(&self, kind: Kind) -> &KindV1 {
        match kind {
            Kind::Segmenter => &self.segmenter,
            Kind::Nomogram => &self.nomogram,
        }
    }

    fn kind_mut(&mut self, kind: Kind) -> &mut KindV1 {
        match kind {
            Kind::Segmenter => &mut self.segmenter,
            Kind::Nomogram => &mut self.nomogram,
        }
    }
}

/// A package that was left, by itself or by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// Which kind.
    pub kind: Kind,
    /// Id and version of what was left.
    pub from: String,
    /// Id and version of what runs instead; `None`: the package inside the program.
    pub to: Option<String>,
    /// Why.
    pub why: String,
}

impl RolledBack {
    /// What happened, for people.
    pub fn sentence(&self) -> String {
        let to = self.to.as_deref().unwrap_or("the package inside the program");
        format!("the {} {} was left for {to}: {}", self.kind.name(), self.from, self.why)
    }
}

/// The slots of a folder.
#[derive(Debug, Clone)]
pub struct Slots {
    directory: PathBuf,
}

/// Whoever holds it is the only one who changes anything; it goes with the process.
pub struct Lock(#[expect(dead_code, reason = "held for its drop")] File);

impl Slots {
    /// The slots of a folder; nothing is made before something is installed.
    pub fn new(directory: &Path) -> Slots {
        Slots { directory: directory.into() }
    }

    /// The folder.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The state as it is now.
    pub fn state(&self) -> Result<SlotsV1, UpdateError> {
        let path = self.directory.join(STATE);
        let Some(bytes) = read_bounded(&path, STATE_BYTES_MAX)? else { return Ok(SlotsV1::default()) };
        let damaged = |why: String| UpdateError::SlotsDamaged { path: path.clone(), why };
        let state: SlotsV1 = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if state.schema == SCHEMA { Ok(state) } else { Err(damaged(format!("its schema is {}", state.schema))) }
    }

    /// Waits for the lock.
    pub fn lock(&self) -> Result<Lock, UpdateError> {
        self.lock_file(LOCK)
    }

    /// Waits until no other update is under way. It may download for an hour, in which slots are used as ever.
    pub fn lock_update(&self) -> Result<Lock, UpdateError> {
        self.lock_file(UPDATE_LOCK)
    }

    fn lock_file(&self, name: &str) -> Result<Lock, UpdateError> {
        make_folder(&self.directory)?;
        let path = self.directory.join(name);
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = opened.map_err(|e| UpdateError::io("opening", &path, e))?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Lock(file)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(100)),
                Err(TryLockError::Error(e)) => return Err(UpdateError::io("locking", &path, e)),
            }
        }
        Err(UpdateError::Busy { directory: self.directory.clone() })
    }

    fn write(&self, state: &mut SlotsV1) -> Result<(), UpdateError> {
        state.serial += 1;
        let bytes = serde_json::to_vec_pretty(state).expect("a struct of plain values always serializes");
        replace(&self.directory.join(STATE), &bytes, 0o600)
    }

    /// The folder of a slot.
    pub fn folder(&self, kind: Kind, slot: Slot) -> PathBuf {
        self.directory.join(format!("{}-{}", kind.name(), slot.name()))
    }

    /// The folder of the package in use; `None`: the one inside the program.
    pub fn active_folder(&self, kind: Kind) -> Result<Option<PathBuf>, UpdateError> {
        Ok(self.state()?.kind(kind).in_use().map(|(slot, _)| self.folder(kind, slot)))
    }

    /// Checks a package (an archive or a folder) and puts it into the slot that is not in use. `again`: also one that failed before.
    pub fn install(&self, package: &Path, this: &ThisBox, again: bool, _lock: &Lock) -> Result<Identity, UpdateError> {
        let incoming = self.directory.join(INCOMING);
        let files = if package.is_dir() {
            let files = read_package(package).explained(package)?;
            spread(&files, &incoming)?;
            files
        } else {
            unpack(package, &incoming)?;
            read_package(&incoming).explained(package)?
        };
        let installed = verify(files, package, this).and_then(|identity| self.settle(identity, &incoming, again));
        if installed.is_err() {
            remove_folder(&incoming)?;
        }
        installed
    }

    /// Gives the checked package in `incoming` a slot.
    fn settle(&self, identity: Identity, incoming: &Path, again: bool) -> Result<Identity, UpdateError> {
        let kind = identity.kind;
        let mut state = self.state()?;
        let slots = state.kind_mut(kind);
        if again {
            slots.bad.retain(|b| b.sha256 != identity.sha256 && (b.id != identity.id || b.version != identity.version));
        } else if let Some(bad) = slots.known_bad(&identity.id, &identity.version, Some(&identity.sha256)) {
            return Err(UpdateError::KnownBad { package: identity.name(), why: bad.why.clone() });
        }
        let is_it = |p: &InstalledV1| p.sha256 == identity.sha256 && !matches!(p.phase, Phase::Bad { .. });
        if [Slot::A, Slot::B].into_iter().any(|s| slots.get(s).is_some_and(is_it) && self.is_whole(kind, s)) {
            remove_folder(incoming)?;
            return Ok(identity); // it is there already
        }
        let slot = slots.next_slot();
        if slots.active == Some(slot) {
            slots.active = slots.fallback();
        }
        *slots.get_mut(slot) = None;
        self.write(&mut state)?;
        let folder = self.folder(kind, slot);
        remove_folder(&folder)?;
        fs::rename(incoming, &folder).map_err(|e| UpdateError::io("moving", incoming, e))?;
        sync_folder(&self.directory)?;
        let (id, version, sha256) = (identity.id.clone(), identity.version.clone(), identity.sha256.clone());
        *state.kind_mut(kind).get_mut(slot) = Some(InstalledV1 { id, version, sha256, phase: Phase::Installed });
        self.write(&mut state)?;
        Ok(identity)
    }

    fn is_whole(&self, kind: Kind, slot: Slot) -> bool {
        self.folder(kind, slot).join("manifest.toml").is_file()
    }

    /// Reads and checks the package of a slot again.
    pub fn verify(&self, kind: Kind, slot: Slot, this: &ThisBox) -> Result<Identity, UpdateError> {
        let folder = self.folder(kind, slot);
        let state = self.state()?;
        let identity = verify(read_package(&folder).explained(&folder)?, &folder, this)?;
        match state.kind(kind).get(slot) {
            Some(known) if known.sha256 == identity.sha256 => Ok(identity),
            _ => Err(UpdateError::Altered { what: folder.display().to_string() }),
        }
    }

    /// Makes an installed package the active one, on trial; without `version` the one that is not in use. It is checked once more.
    pub fn activate(
        &self,
        kind: Kind,
        version: Option<&str>,
        this: &ThisBox,
        _lock: &Lock,
    ) -> Result<InstalledV1, UpdateError> {
        let mut state = self.state()?;
        let slots = state.kind(kind);
        let wanted = |slot: &Slot| match (slots.get(*slot), version) {
            (Some(package), Some(version)) => package.version == version,
            (Some(_), None) => slots.active != Some(*slot),
            (None, _) => false,
        };
        let missing = || UpdateError::NotInstalled {
            kind: kind.name(),
            wanted: version.map(|v| format!("{v} ")).unwrap_or_default(),
        };
        let rank = |slot: &Slot| match slots.get(*slot).map(|p| &p.phase) {
            Some(Phase::Installed) => 0,
            Some(Phase::Bad { .. }) => 2,
            _ => 1,
        };
        let slot = [Slot::A, Slot::B].into_iter().filter(wanted).min_by_key(rank).ok_or_else(missing)?;
        let package = slots.get(slot).cloned().ok_or_else(missing)?;
        if let Phase::Bad { why } = &package.phase {
            return Err(UpdateError::KnownBad { package: package.name(), why: why.clone() });
        }
        self.verify(kind, slot, this)?;
        if slots.active == Some(slot) {
            return Ok(package);
        }
        let slots = state.kind_mut(kind);
        slots.active = Some(slot);
        let placed = slots.get_mut(slot).as_mut().ok_or_else(missing)?;
        if placed.phase != Phase::Good {
            placed.phase = Phase::Trying { starts: 0 };
        }
        let placed = placed.clone();
        self.write(&mut state)?;
        Ok(placed)
    }

    /// Leaves the package in use for the one before it, and remembers it as bad.
    pub fn roll_back(&self, kind: Kind, why: &str, _lock: &Lock) -> Result<RolledBack, UpdateError> {
        let mut state = self.state()?;
        let slots = state.kind_mut(kind);
        let left = slots.leave(why).ok_or(UpdateError::NothingBefore { kind: kind.name() })?;
        let to = slots.in_use().map(|(_, package)| package.name());
        self.write(&mut state)?;
        Ok(RolledBack { kind, from: left.name(), to, why: why.into() })
    }

    /// Remembers a package that failed its checks, so that it is not fetched again every day.
    pub fn remember_bad(&self, kind: Kind, bad: BadV1, _lock: &Lock) -> Result<(), UpdateError> {
        let mut state = self.state()?;
        state.kind_mut(kind).remember(bad);
        self.write(&mut state)
    }

    /// Before the service loads the package in use: counts the start of one on trial, and leaves one that was started too often.
    pub fn begin(&self, kind: Kind, lock: &Lock) -> Result<Option<RolledBack>, UpdateError> {
        let mut state = self.state()?;
        let slots = state.kind_mut(kind);
        let Some(slot) = slots.active else { return Ok(None) };
        match slots.get_mut(slot) {
            None => {
                slots.active = None;
                self.write(&mut state)?;
                Ok(None)
            }
            Some(InstalledV1 { phase: Phase::Trying { starts }, .. }) if *starts >= STARTS_MAX => {
                let why = format!("the service ended {STARTS_MAX} times in a row while it was on trial");
                self.roll_back(kind, &why, lock).map(Some)
            }
            Some(InstalledV1 { phase: Phase::Trying { starts }, .. }) => {
                *starts += 1;
                self.write(&mut state)?;
                Ok(None)
            }
            Some(_) => Ok(None),
        }
    }

    /// The package with this hash did its work: it is good.
    pub fn proven(&self, kind: Kind, sha256: &str, _lock: &Lock) -> Result<bool, UpdateError> {
        self.on_trial(kind, sha256, |phase| *phase = Phase::Good)
    }

    /// The service with this package on trial was stopped, which is no crash.
    pub fn stopped(&self, kind: Kind, sha256: &str, _lock: &Lock) -> Result<bool, UpdateError> {
        self.on_trial(kind, sha256, |phase| {
            if let Phase::Trying { starts } = phase {
                *starts = 0;
            }
        })
    }

    fn on_trial(&self, kind: Kind, sha256: &str, change: impl Fn(&mut Phase)) -> Result<bool, UpdateError> {
        let mut state = self.state()?;
        let slots = state.kind_mut(kind);
        let Some(slot) = slots.active else { return Ok(false) };
        match slots.get_mut(slot) {
            Some(package) if package.sha256 == sha256 && matches!(package.phase, Phase::Trying { .. }) => {
                change(&mut package.phase);
                self.write(&mut state)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// Checks a package (an archive or a folder) as [`Slots::install`] does, and leaves nothing behind.
pub fn check_package(package: &Path, this: &ThisBox) -> Result<Identity, UpdateError> {
    if package.is_dir() {
        return verify(read_package(package).explained(package)?, package, this);
    }
    let work = std::env::temp_dir().join(format!("metwatch-verify-{}", std::process::id()));
    let files = unpack(package, &work).and_then(|()| read_package(&work).explained(package));
    remove_folder(&work)?;
    verify(files?, package, this)
}

/// Writes a package's files into a folder made anew, synced.
fn spread(files: &Files, folder: &Path) -> Result<(), UpdateError> {
    remove_folder(folder)?;
    make_folder(folder)?;
    files.iter().try_for_each(|(name, bytes)| replace(&folder.join(name), bytes, 0o600))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(version: &str, phase: Phase) -> InstalledV1 {
        InstalledV1 { id: "p".into(), version: version.into(), sha256: format!("hash of {version}"), phase }
    }

    fn kind(active: Option<Slot>, a: Option<Phase>, b: Option<Phase>) -> KindV1 {
        let (a, b) = (a.map(|p| package("1.0.0", p)), b.map(|p| package("2.0.0", p)));
        KindV1 { active, a, b, bad: Vec::new() }
    }

    #[test]
    fn a_new_package_never_takes_the_place_of_the_proven_one_that_would_be_needed() {
        use Phase::{Good, Installed};
        let trying = || Some(Phase::Trying { starts: 1 });
        let next = |active, a, b| kind(active, a, b).next_slot();
        assert_eq!(next(None, None, None), Slot::A);
        assert_eq!(next(Some(Slot::A), Some(Good), None), Slot::B);
        assert_eq!(next(Some(Slot::A), Some(Good), Some(Installed)), Slot::B);
        assert_eq!(next(Some(Slot::B), Some(Good), trying()), Slot::B, "the one on trial gives way");
        assert_eq!(next(Some(Slot::B), Some(Installed), trying()), Slot::A);
        assert_eq!(next(None, Some(Good), Some(Phase::Bad { why: String::new() })), Slot::B);
    }

    #[test]
    fn leaving_goes_to_the_proven_package_or_to_the_one_inside_the_program() {
        let trying = Some(Phase::Trying { starts: 3 });
        let mut proven = kind(Some(Slot::B), Some(Phase::Good), trying.clone());
        assert_eq!(proven.leave("it failed").map(|p| p.version), Some("2.0.0".into()));
        assert_eq!(proven.active, Some(Slot::A));
        assert!(proven.known_bad("p", "2.0.0", None).is_some(), "remembered by name");
        assert!(proven.known_bad("q", "9.0.0", Some("hash of 2.0.0")).is_some(), "and by content");
        assert!(proven.known_bad("p", "2.0.1", Some("other")).is_none());
        let mut alone = kind(Some(Slot::B), Some(Phase::Installed), trying);
        alone.leave("it failed");
        assert_eq!(alone.active, None, "an unproven package is no way back");
        assert_eq!(alone.leave("again"), None);
    }
}
