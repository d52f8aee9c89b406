//! What this box believes of a repository, and how it comes to believe more.
//!
//! `trusted.json` holds the newest root, timestamp, snapshot and targets byte for byte, with the last time that was believed. It is
//! replaced whole. tough works on a copy in a temporary folder, since its own store deletes before it writes and never syncs. The
//! versions are also in the store beside it, so that a lost or restored `trusted.json` does not open the way back.

use super::UpdateError;
use super::files::{make_folder, read_bounded, remove_folder, replace};
use super::journal::Journal;
use super::transport::{Fetcher, ROLE_BYTES_MAX, TARGETS_BYTES_MAX, version_of};
use crate::store::{self, AuditNote};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tough::schema::{RoleType, Root, Signed};
use tough::{Limits, Repository, RepositoryLoader};

const SCHEMA: &str = "metwatch.trusted/1";
const FILE: &str = "trusted.json";
const FILE_BYTES_MAX: u64 = 64 << 20;
const WORK: &str = "trust.work";
/// 2026-01-01: this program is younger. A board without battery starts in 1970, where nothing has expired yet.
const CLOCK_MS_MIN: i64 = 1_767_225_600_000;
/// Time synchronization may turn the clock back by this much.
const CLOCK_BACK_MS_MAX: i64 = 600_000;
/// New roots in one check.
const ROOT_UPDATES_MAX: u64 = 1024;
/// The roles below the root, as tough and the repository name their files.
const ROLES: [&str; 3] = ["timestamp", "snapshot", "targets"];

/// What is believed (`trusted.json`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustedV1 {
    schema: String,
    /// The newest root, as it was signed.
    pub root: String,
    /// The newest timestamp.
    pub timestamp: Option<String>,
    /// The newest snapshot.
    pub snapshot: Option<String>,
    /// The newest targets.
    pub targets: Option<String>,
    /// Unix ms of the last check that went well; the clock is not believed when it says less.
    pub checked_at_ms: i64,
}

impl TrustedV1 {
    fn role(&mut self, role: &str) -> &mut Option<String> {
        match role {
            "timestamp" => &mut self.timestamp,
            "snapshot" => &mut self.snapshot,
            _ => &mut self.targets,
        }
    }

    /// Versions of root, timestamp, snapshot and targets.
    pub fn versions(&self) -> [(&'static str, Option<u64>); 4] {
        let of = |text: &Option<String>| text.as_ref().and_then(|t| version_of(t.as_bytes()));
        [
            ("root", version_of(self.root.as_bytes())),
            ("timestamp", of(&self.timestamp)),
            ("snapshot", of(&self.snapshot)),
            ("targets", of(&self.targets)),
        ]
    }
}

/// The trust of a folder.
#[derive(Debug, Clone)]
pub struct Trust {
    directory: PathBuf,
}

impl Trust {
    /// Of a folder.
    pub fn new(directory: &Path) -> Trust {
        Trust { directory: directory.into() }
    }

    /// What is believed so far.
    pub fn read(&self) -> Result<Option<TrustedV1>, UpdateError> {
        let path = self.directory.join(FILE);
        let Some(bytes) = read_bounded(&path, FILE_BYTES_MAX)? else { return Ok(None) };
        let invalid = |why: String| UpdateError::RootInvalid { path: path.clone(), why };
        let trusted: TrustedV1 = serde_json::from_slice(&bytes).map_err(|e| invalid(e.to_string()))?;
        if trusted.schema == SCHEMA {
            Ok(Some(trusted))
        } else {
            Err(invalid(format!("its schema is {}", trusted.schema)))
        }
    }

    fn write(&self, trusted: &TrustedV1) -> Result<(), UpdateError> {
        make_folder(&self.directory)?;
        let bytes = serde_json::to_vec(trusted).expect("a struct of plain values always serializes");
        replace(&self.directory.join(FILE), &bytes, 0o600)
    }

    /// The newest root that is trusted: what was learned from repositories, or the pinned file if that is newer.
    pub fn pin(&self, pinned: Option<&Path>) -> Result<TrustedV1, UpdateError> {
        let known = self.read()?;
        let pinned = pinned.map(read_root).transpose()?;
        match (known, pinned) {
            (Some(known), Some((root, version))) if version_of(known.root.as_bytes()) < Some(version) => {
                Ok(TrustedV1 { root, ..known })
            }
            (Some(known), _) => Ok(known),
            (None, Some((root, _))) => Ok(TrustedV1 { schema: SCHEMA.into(), root, ..TrustedV1::default() }),
            (None, None) => Err(UpdateError::NoRoot),
        }
    }

    /// Loads and verifies a repository, and believes what was verified. Metadata that was verified before something failed is
    /// believed too, as TUF demands: a new root counts even if the rest is refused.
    pub async fn load(
        &self,
        base: &Places,
        fetcher: &Fetcher,
        pinned: Option<&Path>,
        journal: &Journal,
        now_ms: i64,
    ) -> Result<(Repository, TrustedV1, Fetcher), UpdateError> {
        let before = self.pin(pinned)?;
        check_clock(now_ms, before.checked_at_ms)?;
        if self.read()?.is_none() {
            self.write(&before)?;
        }
        let work = self.directory.join(WORK);
        remove_folder(&work)?;
        make_folder(&work)?;
        for role in ROLES {
            if let Some(text) = before.clone().role(role) {
                replace(&work.join(format!("{role}.json")), text.as_bytes(), 0o600)?;
            }
        }
        let fetcher = fetcher.clone().knowing(&before.root, before.timestamp.as_deref());
        let loaded = RepositoryLoader::new(&before.root, base.metadata.clone(), base.targets.clone())
            .transport(fetcher.clone())
            .limits(Limits {
                max_root_size: ROLE_BYTES_MAX,
                max_targets_size: TARGETS_BYTES_MAX,
                max_timestamp_size: ROLE_BYTES_MAX,
                max_snapshot_size: ROLE_BYTES_MAX,
                max_root_updates: ROOT_UPDATES_MAX,
            })
            .datastore(&work)
            .load()
            .await
            .map_err(|e| explained(e, fetcher.failure()));
        let mut after = adopt(&before, &work, &fetcher)?;
        let seen = seen(&after);
        let record = journal.open(now_ms)?;
        for (name, now) in &seen {
            let was = record.version(name)?;
            if *now < was {
                let role = name.split('/').next().unwrap_or(name);
                return Err(UpdateError::Rollback {
                    what: format!("{role} {now} after {was}, by the box's own record"),
                });
            }
        }
        if loaded.is_ok() {
            after.checked_at_ms = now_ms;
        }
        let versions = |t: &TrustedV1| t.versions().map(|(role, v)| format!("{role} {}", v.unwrap_or(0))).join(", ");
        if versions(&after) != versions(&before) {
            let note = AuditNote::new("update", "update.trusted").detail(versions(&after));
            record.raise_versions(&seen, &note, now_ms)?;
        }
        self.write(&after)?;
        loaded.map(|repository| (repository, after, fetcher))
    }

    /// Removes the working copy of tough, after its repository is no longer read.
    pub fn tidy(&self) -> Result<(), UpdateError> {
        remove_folder(&self.directory.join(WORK))
    }

    /// Believes the clock again as it is now; for a box whose clock was ahead at the last check.
    pub fn reset_clock(&self, now_ms: i64) -> Result<i64, UpdateError> {
        if now_ms < CLOCK_MS_MIN {
            return Err(UpdateError::ClockWrong { now: time(now_ms) });
        }
        let mut trusted = self.read()?.ok_or(UpdateError::NoRoot)?;
        let was = trusted.checked_at_ms;
        trusted.checked_at_ms = was.min(now_ms);
        self.write(&trusted)?;
        Ok(was)
    }
}

/// Where a repository's two folders are.
#[derive(Debug, Clone)]
pub struct Places {
    /// Metadata.
    pub metadata: Url,
    /// Targets.
    pub targets: Url,
}

/// Whether signatures can be judged by this clock. `last_ms`: the last check that went well.
fn check_clock(now_ms: i64, last_ms: i64) -> Result<(), UpdateError> {
    if now_ms < CLOCK_MS_MIN {
        return Err(UpdateError::ClockWrong { now: time(now_ms) });
    }
    if now_ms < last_ms - CLOCK_BACK_MS_MAX {
        return Err(UpdateError::ClockBack { now: time(now_ms), last: time(last_ms) });
    }
    Ok(())
}

/// RFC 3339, seconds.
pub fn time(ms: i64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default();
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

fn read_root(path: &Path) -> Result<(String, u64), UpdateError> {
    let invalid = |why: String| UpdateError::RootInvalid { path: path.into(), why };
    let bytes = read_bounded(path, ROLE_BYTES_MAX)?.ok_or_else(|| invalid("it is not there".into()))?;
    let text = String::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8".into()))?;
    let root: Signed<Root> = serde_json::from_str(&text).map_err(|e| invalid(e.to_string()))?;
    root.signed.verify_role(&root).map_err(|e| invalid(e.to_string()))?;
    Ok((text, root.signed.version.get()))
}

/// What tough verified, as it was signed: a role counts when tough wrote it, since it writes only what it verified.
fn adopt(before: &TrustedV1, work: &Path, fetcher: &Fetcher) -> Result<TrustedV1, UpdateError> {
    let mut after = before.clone();
    let written = |role: &str| read_bounded(&work.join(format!("{role}.json")), 2 * TARGETS_BYTES_MAX);
    let raw = |name: &str| fetcher.fetched(name).and_then(|bytes| String::from_utf8(bytes).ok());
    let version = written("root")?.and_then(|bytes| version_of(&bytes));
    let rotated = version > version_of(before.root.as_bytes());
    if let (true, Some(version)) = (rotated, version) {
        after.root = raw(&format!("{version}.root.json")).unwrap_or(after.root);
    }
    for role in ROLES {
        let now = written(role)?;
        let old = before.clone().role(role).take();
        let unchanged = now.as_deref() == old.as_deref().map(str::as_bytes);
        match now.as_deref().and_then(version_of) {
            // Keys were rotated: what they had signed is forgotten. Otherwise a file that is gone was lost while writing.
            None if rotated => *after.role(role) = None,
            None => {}
            Some(_) if unchanged => {}
            Some(version) => {
                let plain = format!("{role}.json");
                let signed = raw(&format!("{version}.{plain}")).or_else(|| raw(&plain));
                *after.role(role) = signed.or(old);
            }
        }
    }
    Ok(after)
}

/// Names and versions for the record. Below the root they count for the keys that signed them: after a rotation they begin anew,
/// which is how a repository recovers from a thief who used up the numbers.
fn seen(trusted: &TrustedV1) -> Vec<(String, u64)> {
    let keys = serde_json::from_str::<Signed<Root>>(&trusted.root).ok().map(|root| {
        let ids = [RoleType::Timestamp, RoleType::Snapshot]
            .into_iter()
            .flat_map(|role| root.signed.roles.get(&role).map(|keys| keys.keyids.clone()).unwrap_or_default());
        let mut ids: Vec<String> = ids.map(|id| id.iter().map(|b| format!("{b:02x}")).collect()).collect();
        ids.sort();
        store::sha256_hex(ids.concat().as_bytes())
    });
    let scope = keys.unwrap_or_default();
    let name = |role: &str| if role == "root" { role.to_string() } else { format!("{role}/{scope}") };
    trusted.versions().into_iter().filter_map(|(role, version)| Some((name(role), version?))).collect()
}

/// tough's error in the words of this room. `failure`: why the transport failed, if it did.
pub fn explained(error: tough::error::Error, failure: Option<UpdateError>) -> UpdateError {
    use tough::error::Error as E;
    let text = error.to_string();
    match error {
        E::Transport { .. } if failure.is_some() => failure.unwrap_or(UpdateError::Metadata { what: text }),
        E::ExpiredMetadata { role, .. } => UpdateError::Expired { role: role.to_string() },
        E::OlderMetadata { .. }
        | E::OlderSnapshotInTimestamp { .. }
        | E::SnapshotRoleMissing { .. }
        | E::SnapshotRoleRollback { .. } => UpdateError::Rollback { what: text },
        E::VerifyMetadata { .. } | E::VerifyRoleMetadata { .. } | E::VerifyTrustedMetadata { .. } => {
            UpdateError::Signature { what: text }
        }
        E::MaxSizeExceeded { .. } | E::MaxUpdatesExceeded { .. } => UpdateError::TooLarge { what: text },
        E::HashMismatch { context, .. } => UpdateError::Altered { what: context },
        E::Transport { url, source, .. } => match inner(&source) {
            Some(E::HashMismatch { .. }) => UpdateError::Altered { what: url.to_string() },
            Some(E::MaxSizeExceeded { .. }) => UpdateError::TooLarge { what: text },
            _ => UpdateError::Fetch { url: url.to_string(), why: source.to_string() },
        },
        _ => UpdateError::Metadata { what: text },
    }
}

/// tough's own error inside a transport error.
fn inner(error: &dyn std::error::Error) -> Option<&tough::error::Error> {
    error.source().and_then(|e| e.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Explain;

    #[test]
    fn a_clock_that_cannot_be_right_is_told_apart() {
        let code = |now, last| check_clock(now, last).err().map(|e| e.code());
        let last = CLOCK_MS_MIN + 86_400_000;
        assert_eq!(code(0, 0), Some("update.clock-wrong"));
        assert_eq!(code(CLOCK_MS_MIN, last), Some("update.clock-back"));
        assert_eq!(code(last - 60_000, last), None, "a minute is time synchronization");
        assert_eq!(code(last, last), None);
    }
}
