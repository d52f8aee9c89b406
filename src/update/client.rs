//! Looking for updates, and bringing them into the slots.

use super::UpdateError;
use super::files::{make_folder, require_space, sync_folder};
use super::journal::Journal;
use super::package::{Compatibility, Identity, Kind, PACKAGE_BYTES_MAX, ThisBox, Version, check_id};
use super::slots::{BadV1, InstalledV1, Slot, Slots, SlotsV1};
use super::transport::{Fetcher, Wanted};
use super::trust::{Places, Trust, TrustedV1, explained};
use crate::Explain;
use futures::StreamExt;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tough::schema::Target;
use tough::{Repository, TargetName};

const DOWNLOADS: &str = "downloads";
/// What the name of a target ends with.
pub const SUFFIX: &str = ".tar.zst";
const ACTOR: &str = "update";

/// Where updates come from and whom they have to suit.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The folder of the slots; trust, record and downloads are in it too.
    pub directory: PathBuf,
    /// The repository: a URL, or the `file:` URL of a folder.
    pub repository: Url,
    /// The publisher's root, pinned at installation; needed at the first check only.
    pub root: Option<PathBuf>,
    /// Certificates that a server's certificate must come from; without it the system's.
    pub ca_file: Option<PathBuf>,
    /// How long a server may be silent.
    pub patience: Duration,
    /// This box.
    pub this: ThisBox,
    /// Ids that are wanted; without them the ids in use.
    pub packages: Vec<String>,
    /// What runs where no slot is active.
    pub built_in: [Identity; 2],
}

/// What a repository says of a target (`custom` in its metadata).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomV1 {
    /// What it is for.
    pub kind: Kind,
    /// Package id.
    pub id: String,
    /// Package version.
    pub version: String,
    /// Whom it suits.
    #[serde(flatten)]
    pub compatibility: Compatibility,
    /// Bytes of its files, unpacked.
    pub unpacked_bytes: u64,
}

/// How a package of the repository stands to this box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict", content = "why")]
pub enum Verdict {
    /// Newer than what runs, and fit to run here.
    New,
    /// Already in the slot that waits.
    Staged,
    /// What runs.
    Current,
    /// Older than what runs.
    Older,
    /// Another id than the one in use.
    Other,
    /// Not for this box.
    Misfit(String),
    /// Failed here before.
    Bad(String),
}

/// A package of the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// What it is for.
    pub kind: Kind,
    /// Package id.
    pub id: String,
    /// Package version.
    pub version: String,
    /// Bytes to fetch.
    pub length: u64,
    /// How it stands to this box.
    #[serde(flatten)]
    pub verdict: Verdict,
    #[serde(skip)]
    target: TargetName,
    #[serde(skip)]
    sha256: [u8; 32],
    #[serde(skip)]
    unpacked_bytes: u64,
}

impl Offer {
    /// Id and version.
    pub fn name(&self) -> String {
        format!("{} {}", self.id, self.version)
    }
}

/// A target that is no package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Its name, as the repository spells it.
    pub name: String,
    /// Why.
    pub why: String,
}

/// What a check found.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// Versions of root, timestamp, snapshot and targets.
    pub versions: Vec<(&'static str, u64)>,
    /// When the first of them expires, RFC 3339.
    pub expires: String,
    /// The packages, those of a kind together, newest last.
    pub offers: Vec<Offer>,
    /// Targets that are no packages.
    pub refused: Vec<Refused>,
}

impl Checked {
    /// What `apply` would bring.
    pub fn news(&self) -> impl Iterator<Item = &Offer> {
        self.offers.iter().filter(|o| matches!(o.verdict, Verdict::New | Verdict::Staged))
    }
}

/// What an update did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Applied {
    /// Put into the waiting slot: kind, id and version.
    pub staged: Vec<(Kind, String)>,
    /// Made active: kind, id and version.
    pub activated: Vec<(Kind, String)>,
}

/// Looks what the repository has. Nothing but metadata is fetched.
pub fn check(setup: &Setup, now_ms: i64) -> Result<Checked, UpdateError> {
    with_repository(setup, now_ms, async |_, checked, _| Ok(checked))
}

/// Brings what is new into the waiting slots, and activates it if wanted. `progress`: package, bytes.
pub fn apply(setup: &Setup, activate: bool, now_ms: i64, progress: &dyn Fn(&Offer)) -> Result<Applied, UpdateError> {
    with_repository(setup, now_ms, async |repository, checked, fetcher| {
        let news: Vec<&Offer> = checked.news().collect();
        sweep(&setup.directory.join(DOWNLOADS), &news)?;
        let mut applied = Applied::default();
        let mut trouble = None;
        let mut staged = Vec::new();
        for offer in news {
            progress(offer);
            // What is wrong with one package is no reason to leave the other kind as it is.
            match stage(setup, repository, fetcher, offer, now_ms).await {
                Ok(()) => {
                    staged.push(offer);
                    applied.staged.push((offer.kind, offer.name()));
                }
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        for offer in staged.into_iter().filter(|_| activate) {
            match activate_noted(&setup.directory, offer.kind, Some(&offer.version), &setup.this, ACTOR, now_ms) {
                Ok(_) => applied.activated.push((offer.kind, offer.name())),
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        trouble.map_or(Ok(applied), Err)
    })
}

/// Activates an installed package, with its entry in the record.
pub fn activate_noted(
    directory: &Path,
    kind: Kind,
    version: Option<&str>,
    this: &ThisBox,
    actor: &str,
    now_ms: i64,
) -> Result<InstalledV1, UpdateError> {
    let slots = Slots::new(directory);
    let lock = slots.lock()?;
    let package = slots.activate(kind, version, this, &lock)?;
    Journal::new(directory).note(actor, "model.activated", format!("{} {}", kind.name(), package.name()), now_ms)?;
    Ok(package)
}

/// The base URL's two folders.
pub fn places(base: &Url) -> Result<Places, UpdateError> {
    let mut base = base.clone();
    if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", base.path()));
    }
    let join = |name: &str| {
        base.join(name).map_err(|e| UpdateError::Setting { what: format!("{base} is no address of a repository: {e}") })
    };
    Ok(Places { metadata: join("metadata/")?, targets: join("targets/")? })
}

fn with_repository<T>(
    setup: &Setup,
    now_ms: i64,
    work: impl AsyncFnOnce(&Repository, Checked, &Fetcher) -> Result<T, UpdateError>,
) -> Result<T, UpdateError> {
    let places = places(&setup.repository)?;
    let slots = Slots::new(&setup.directory);
    let _alone = slots.lock_update()?;
    let trust = Trust::new(&setup.directory);
    let journal = Journal::new(&setup.directory);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| UpdateError::Io { doing: "starting the network".into(), source })?;
    let done = runtime.block_on(async {
        let fetcher = Fetcher::new(&setup.repository, setup.ca_file.as_deref(), setup.patience)?;
        let (repository, trusted, fetcher) =
            trust.load(&places, &fetcher, setup.root.as_deref(), &journal, now_ms).await?;
        let checked = judge(&repository, &trusted, &slots.state()?, setup)?;
        work(&repository, checked, &fetcher).await
    });
    trust.tidy()?;
    done
}

/// What each target of the repository is to this box.
fn judge(repository: &Repository, trusted: &TrustedV1, state: &SlotsV1, setup: &Setup) -> Result<Checked, UpdateError> {
    let (mut offers, mut refused) = (Vec::new(), Vec::new());
    for (name, target) in repository.all_targets() {
        match offer(name, target, setup) {
            Ok(offer) => offers.push(offer),
            Err(why) => refused.push(Refused { name: name.raw().chars().take(200).collect(), why }),
        }
    }
    offers.sort_by_key(|o| (o.kind, o.id.clone(), o.version.parse::<Version>().ok()));
    refused.sort_by(|a, b| a.name.cmp(&b.name));
    for kind in Kind::ALL {
        let slots = state.kind(kind);
        let built_in = setup.built_in.iter().find(|identity| identity.kind == kind);
        let built_in = built_in.map_or(("", ""), |identity| (identity.id.as_str(), identity.version.as_str()));
        let (id, version) = slots.in_use().map_or(built_in, |(_, p)| (p.id.as_str(), p.version.as_str()));
        let wanted = wanted_id(&offers, kind, id, &setup.packages)?;
        let now = version.parse::<Version>().ok().filter(|_| wanted.as_deref() == Some(id));
        let newest = offers
            .iter()
            .filter(|o| o.kind == kind && Some(&o.id) == wanted.as_ref() && o.verdict == Verdict::New)
            .filter(|o| slots.known_bad(&o.id, &o.version, None).is_none())
            .filter_map(|o| o.version.parse::<Version>().ok())
            .max();
        for offer in offers.iter_mut().filter(|o| o.kind == kind && o.verdict == Verdict::New) {
            let this = offer.version.parse::<Version>().ok();
            let is_in = |slot| slots.get(slot).is_some_and(|p| p.id == offer.id && p.version == offer.version);
            offer.verdict = if Some(&offer.id) != wanted.as_ref() {
                Verdict::Other
            } else if let Some(bad) = slots.known_bad(&offer.id, &offer.version, None) {
                Verdict::Bad(bad.why.clone())
            } else if this == now {
                Verdict::Current
            } else if this < newest || this < now {
                Verdict::Older
            } else if [Slot::A, Slot::B].into_iter().any(is_in) {
                Verdict::Staged
            } else {
                Verdict::New
            };
        }
    }
    let expires = [
        repository.root().signed.expires,
        repository.timestamp().signed.expires,
        repository.snapshot().signed.expires,
        repository.targets().signed.expires,
    ];
    let expires = expires.into_iter().min().map(|at| at.to_string()).unwrap_or_default();
    let versions = trusted.versions().into_iter().filter_map(|(role, version)| Some((role, version?))).collect();
    Ok(Checked { versions, expires, offers, refused })
}

/// The id of a kind that updates are looked for: what was asked for, else the one in use, else the only one there.
fn wanted_id(offers: &[Offer], kind: Kind, in_use: &str, asked: &[String]) -> Result<Option<String>, UpdateError> {
    let mut ids: Vec<&str> = offers.iter().filter(|o| o.kind == kind).map(|o| o.id.as_str()).collect();
    ids.dedup();
    let asked: Vec<&str> = ids.iter().copied().filter(|id| asked.iter().any(|a| a == id)).collect();
    Ok(match (&asked[..], &ids[..]) {
        ([one], _) => Some((*one).into()),
        ([], ids) if ids.contains(&in_use) => Some(in_use.into()),
        ([], [only]) => Some((*only).into()),
        ([], []) => None,
        _ => return Err(UpdateError::Ambiguous { kind: kind.name(), ids: ids.join(", ") }),
    })
}

/// A target as a package, or why it is none. What it claims is held against the package itself when it is there.
fn offer(name: &TargetName, target: &Target, setup: &Setup) -> Result<Offer, String> {
    let custom = serde_json::Value::Object(target.custom.clone().into_iter().collect());
    let custom: CustomV1 =
        serde_json::from_value(custom).map_err(|e| format!("its custom metadata describes no package: {e}"))?;
    check_id(&custom.id)?;
    custom.version.parse::<Version>()?;
    let expected = format!("{}-{}{SUFFIX}", custom.id, custom.version);
    if name.raw() != expected {
        return Err(format!("the target of this package has to be called {expected}"));
    }
    let bytes = target.length.max(custom.unpacked_bytes);
    if bytes > PACKAGE_BYTES_MAX {
        return Err(format!("it has {bytes} bytes, a package has at most {PACKAGE_BYTES_MAX}"));
    }
    let sha256: [u8; 32] = target.hashes.sha256[..].try_into().map_err(|_| "its SHA-256 is none".to_string())?;
    let verdict = custom.compatibility.misfit(&setup.this).map_or(Verdict::New, Verdict::Misfit);
    let CustomV1 { kind, id, version, unpacked_bytes, .. } = custom;
    Ok(Offer { kind, id, version, length: target.length, verdict, target: name.clone(), sha256, unpacked_bytes })
}

/// Fetches a package and puts it into the waiting slot.
async fn stage(
    setup: &Setup,
    repository: &Repository,
    fetcher: &Fetcher,
    offer: &Offer,
    now_ms: i64,
) -> Result<(), UpdateError> {
    let slots = Slots::new(&setup.directory);
    if offer.verdict == Verdict::Staged {
        return Ok(());
    }
    let archive = download(setup, repository, fetcher, offer).await?;
    let lock = slots.lock()?;
    let installed = slots.install(&archive, &setup.this, false, &lock);
    let _ = fs::remove_file(&archive);
    let installed = installed.and_then(|identity| {
        let is_it = (identity.kind, &identity.id, &identity.version) == (offer.kind, &offer.id, &offer.version);
        let why = || format!("the package inside is the {} {}", identity.kind.name(), identity.name());
        if is_it {
            Ok(identity.sha256)
        } else {
            Err(UpdateError::Target { name: offer.target.raw().into(), why: why() })
        }
    });
    match installed {
        Ok(sha256) => {
            let detail = format!("{} {} {sha256}", offer.kind.name(), offer.name());
            Journal::new(&setup.directory).note(ACTOR, "model.installed", detail, now_ms)
        }
        Err(error) => {
            // The publisher signed what cannot run here: it would fail again tomorrow.
            if matches!(error, UpdateError::Package { .. } | UpdateError::Archive { .. } | UpdateError::Target { .. }) {
                let (id, version) = (offer.id.clone(), offer.version.clone());
                let bad = BadV1 { id, version, sha256: String::new(), why: error.to_string() };
                slots.remember_bad(offer.kind, bad, &lock)?;
            }
            let detail = format!("{} {}: {}", offer.kind.name(), offer.name(), error.code());
            Journal::new(&setup.directory).note(ACTOR, "model.refused", detail, now_ms)?;
            Err(error)
        }
    }
}

/// Brings a target onto the disk, where an earlier run stopped if there was one; returned only if it is what was signed.
async fn download(
    setup: &Setup,
    repository: &Repository,
    fetcher: &Fetcher,
    offer: &Offer,
) -> Result<PathBuf, UpdateError> {
    let folder = setup.directory.join(DOWNLOADS);
    make_folder(&folder)?;
    let part = folder.join(part_name(offer));
    let have = fs::metadata(&part).map_or(0, |m| m.len());
    require_space(&folder, offer.length.saturating_sub(have).saturating_add(offer.unpacked_bytes))?;
    fetcher.want(Some(Wanted { length: offer.length, part: part.clone() }));
    let read = read_through(repository, fetcher, offer).await;
    fetcher.want(None);
    if let Err(error) = read {
        if matches!(error, UpdateError::Altered { .. } | UpdateError::TooLarge { .. }) {
            let _ = fs::remove_file(&part); // nothing to go on with
        }
        return Err(error);
    }
    let done = folder.join(offer.target.raw());
    fs::rename(&part, &done).map_err(|e| UpdateError::io("moving", &part, e))?;
    sync_folder(&folder)?;
    Ok(done)
}

/// Lets tough hash what was fetched.
async fn read_through(repository: &Repository, fetcher: &Fetcher, offer: &Offer) -> Result<(), UpdateError> {
    let missing = || UpdateError::NotFound { url: offer.target.raw().into() };
    let stream = repository.read_target(&offer.target).await.map_err(|e| explained(e, fetcher.failure()))?;
    let mut stream = std::pin::pin!(stream.ok_or_else(missing)?);
    let mut length = 0;
    while let Some(chunk) = stream.next().await {
        length += chunk.map_err(|e| explained(e, fetcher.failure()))?.len() as u64;
    }
    if length == offer.length { Ok(()) } else { Err(UpdateError::Altered { what: offer.target.raw().into() }) }
}

fn part_name(offer: &Offer) -> String {
    let hex: String = offer.sha256.iter().map(|b| format!("{b:02x}")).collect();
    format!("{hex}.part")
}

/// Removes what earlier runs left for packages that are no longer wanted.
fn sweep(downloads: &Path, news: &[&Offer]) -> Result<(), UpdateError> {
    let Ok(entries) = fs::read_dir(downloads) else { return Ok(()) };
    let wanted: Vec<String> = news.iter().map(|o| part_name(o)).collect();
    for entry in entries {
        let entry = entry.map_err(|e| UpdateError::io("reading", downloads, e))?;
        if !wanted.iter().any(|name| entry.file_name().to_str() == Some(name)) {
            fs::remove_file(entry.path()).map_err(|e| UpdateError::io("removing", &entry.path(), e))?;
        }
    }
    sync_folder(downloads)
}
