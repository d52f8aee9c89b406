//! Makes and keeps a TUF repository for a small site: files in a folder, which any web server or stick can carry.
//!
//! ```text
//! init -> metadata/1.root.json ... timestamp.json, targets/        add -> targets/HASH.NAME, staged.json        publish -> metadata
//! ```
//! The root's keys stay in a folder of their own (a safe, a stick in a drawer); targets, snapshot and timestamp have one key each.
//! Metadata is written in the order in which clients need it, the timestamp last, so that a client never sees half a publication.

use super::archive::{pack, unpack};
use super::client::{CustomV1, SUFFIX};
use super::files::{read_bounded, remove_folder, replace};
use super::keys::{Key, canonical};
use super::package::{Compatibility, Files, check_contents, identify, read_package};
use super::transport::TARGETS_BYTES_MAX;
use super::trust::time;
use super::{Explained, UpdateError};
use crate::store::sha256_hex;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const SPEC_VERSION: &str = "1.0.31";
const STAGED: &str = "staged.json";
const DAY_MS: i64 = 86_400_000;
/// The roles whose keys are at hand when something is published.
const ONLINE: [&str; 3] = ["targets", "snapshot", "timestamp"];

/// How long metadata is valid, in days from its signature.
#[derive(Debug, Clone, Copy)]
pub struct Days {
    /// The root.
    pub root: u32,
    /// The list of packages.
    pub targets: u32,
    /// The list of lists.
    pub snapshot: u32,
    /// How long a client may believe that nothing newer exists; a stick needs weeks.
    pub timestamp: u32,
}

/// A repository in a folder.
#[derive(Debug, Clone)]
pub struct Site {
    directory: PathBuf,
    keys: PathBuf,
    days: Days,
    now_ms: i64,
}

/// A package that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// Name of the target.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
}

impl Site {
    /// A repository and the folder of its online keys, at a time.
    pub fn new(directory: &Path, keys: &Path, days: Days, now_ms: i64) -> Site {
        Site { directory: directory.into(), keys: keys.into(), days, now_ms }
    }

    /// Makes the keys and the first, empty metadata. A later root needs the signatures of more than half of the root's keys.
    pub fn init(&self, root_keys: &Path, n_root_keys: u32) -> Result<PathBuf, UpdateError> {
        if self.metadata().join("1.root.json").exists() {
            return Err(self.wrong("there is a repository already"));
        }
        if !(1..=9).contains(&n_root_keys) {
            return Err(self.wrong("it takes between 1 and 9 root keys"));
        }
        // Others read these: a web server, whoever copies them to a stick.
        for folder in [self.metadata(), self.targets()] {
            fs::create_dir_all(&folder).map_err(|e| UpdateError::io("making", &folder, e))?;
        }
        let names = (1..=n_root_keys as usize).map(|n| root_key_file(root_keys, n));
        let root = names.map(|path| Key::create(&path)).collect::<Result<Vec<_>, _>>()?;
        let mut roles = Map::new();
        let mut keys = Map::new();
        let mut add = |role: &str, of: &[Key]| {
            keys.extend(of.iter().map(|key| (key.id(), key.public())));
            let ids: Vec<String> = of.iter().map(Key::id).collect();
            roles.insert(
                role.into(),
                json!({ "keyids": ids, "threshold": if role == "root" { majority(of.len()) } else { 1 } }),
            );
        };
        add("root", &root);
        for role in ONLINE {
            add(role, &[Key::create(&self.key_file(role))?]);
        }
        let signed = json!({
            "_type": "root", "spec_version": SPEC_VERSION, "version": 1, "expires": self.expires(self.days.root),
            "consistent_snapshot": true, "keys": keys, "roles": roles,
        });
        let path = self.metadata().join("1.root.json");
        replace(&path, &file_of(&signed, &root.iter().collect::<Vec<_>>()), 0o644)?;
        self.publish()?;
        Ok(path)
    }

    /// Checks a package (a folder or an archive) and puts it beside the published ones; `publish` makes it known.
    pub fn add(&self, package: &Path, compatibility: Option<Compatibility>) -> Result<Added, UpdateError> {
        self.root()?;
        let (files, archive) = self.read(package)?;
        let identity = identify(&files, package)?;
        let unpacked_bytes = files.values().map(|b| b.len() as u64).sum();
        let identity = check_contents(files, identity)?;
        let name = format!("{}-{}{SUFFIX}", identity.id, identity.version);
        let custom = CustomV1 {
            kind: identity.kind,
            id: identity.id,
            version: identity.version,
            compatibility: compatibility.unwrap_or(identity.compatibility),
            unpacked_bytes,
        };
        let (sha256, length) = (sha256_hex(&archive), archive.len() as u64);
        let row = json!({ "length": length, "hashes": { "sha256": sha256 }, "custom": custom });
        let published = self.current("targets")?;
        if published["targets"].get(&name).is_some_and(|known| known["hashes"] != row["hashes"]) {
            return Err(self.wrong(&format!("{name} is published with other content: a change needs a new version")));
        }
        replace(&self.targets().join(format!("{sha256}.{name}")), &archive, 0o644)?;
        self.stage(&name, row)?;
        Ok(Added { name, length })
    }

    /// Takes a package off the list with the next publication.
    pub fn remove(&self, name: &str) -> Result<(), UpdateError> {
        let known = self.current("targets")?["targets"].get(name).is_some() || self.staged()?.contains_key(name);
        if !known {
            return Err(self.wrong(&format!("it has no {name}")));
        }
        self.stage(name, Value::Null)
    }

    /// Signs what was added, and a new snapshot and timestamp. Without anything new it renews what would expire.
    pub fn publish(&self) -> Result<u64, UpdateError> {
        let root = self.root()?;
        let [targets_key, snapshot_key, timestamp_key] = ONLINE.map(|role| self.key(role, &root));
        let staged = self.staged()?;
        let mut targets = self.current("targets")?;
        let half_ms = i64::from(self.days.targets) * DAY_MS / 2;
        let soon = targets["expires"].as_str().is_none_or(|at| at <= time(self.now_ms + half_ms).as_str());
        let signer = targets_key?;
        let old_key = !self.is_signed_by("targets", &targets, &signer.id())?;
        if !staged.is_empty() || soon || old_key {
            let list = targets["targets"].as_object_mut().ok_or_else(|| self.wrong("its targets are damaged"))?;
            for (name, row) in staged {
                match row {
                    Value::Null => drop(list.remove(&name)),
                    row => drop(list.insert(name, row)),
                }
            }
            raise(&mut targets, self.expires(self.days.targets));
            self.write_versioned("targets", &targets, &signer)?;
        }
        let mut snapshot = self.current("snapshot")?;
        snapshot["meta"] = json!({ "targets.json": self.meta("targets", &targets)? });
        raise(&mut snapshot, self.expires(self.days.snapshot));
        self.write_versioned("snapshot", &snapshot, &snapshot_key?)?;
        let mut timestamp = self.current("timestamp")?;
        timestamp["meta"] = json!({ "snapshot.json": self.meta("snapshot", &snapshot)? });
        raise(&mut timestamp, self.expires(self.days.timestamp));
        let path = self.metadata().join("timestamp.json");
        replace(&path, &file_of(&timestamp, &[&timestamp_key?]), 0o644)?;
        let _ = fs::remove_file(self.directory.join(STAGED));
        Ok(version(&timestamp))
    }

    /// Replaces the key of a role: a new root says so, signed by those of the root's keys that are there. For `root` itself all its keys
    /// are replaced, and the old and the new ones sign. What the role signs has to be published again.
    pub fn rotate(&self, role: &str, root_keys: &Path) -> Result<u64, UpdateError> {
        let mut root = self.root()?;
        let old = self.root_keys(&root, root_keys)?;
        let next = version(&root) + 1;
        let n_root = key_ids(&root["roles"]["root"]).len();
        let files: Vec<PathBuf> = match role {
            "root" => (1..=n_root).map(|n| root_key_file(root_keys, n)).collect(),
            role if ONLINE.contains(&role) => vec![self.key_file(role)],
            other => return Err(self.wrong(&format!("{other:?} is no role; root, targets, snapshot or timestamp is"))),
        };
        let mut new = Vec::new();
        for file in &files {
            let aside = file.with_extension(format!("pem.until-{next}"));
            match fs::rename(file, &aside) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(UpdateError::io("moving aside", file, e));
                }
                _ => {}
            }
            new.push(Key::create(file)?);
        }
        let ids: Vec<String> = new.iter().map(Key::id).collect();
        root["roles"][role] =
            json!({ "keyids": ids, "threshold": if role == "root" { majority(ids.len()) } else { 1 } });
        let used: Vec<String> =
            root["roles"].as_object().into_iter().flat_map(|r| r.values()).flat_map(key_ids).collect();
        if let Some(keys) = root["keys"].as_object_mut() {
            keys.extend(new.iter().map(|key| (key.id(), key.public())));
            keys.retain(|id, _| used.contains(id));
        }
        raise(&mut root, self.expires(self.days.root));
        let signers: Vec<&Key> = if role == "root" { old.iter().chain(&new).collect() } else { old.iter().collect() };
        replace(&self.metadata().join(format!("{next}.root.json")), &file_of(&root, &signers), 0o644)?;
        Ok(next)
    }

    fn metadata(&self) -> PathBuf {
        self.directory.join("metadata")
    }

    fn targets(&self) -> PathBuf {
        self.directory.join("targets")
    }

    fn key_file(&self, role: &str) -> PathBuf {
        self.keys.join(format!("{role}.pem"))
    }

    fn wrong(&self, why: &str) -> UpdateError {
        UpdateError::Repository { path: self.directory.clone(), why: why.into() }
    }

    fn expires(&self, days: u32) -> String {
        time(self.now_ms + i64::from(days) * DAY_MS)
    }

    /// A package's files, and its archive as it will be published.
    fn read(&self, package: &Path) -> Result<(Files, Vec<u8>), UpdateError> {
        if package.is_dir() {
            let files = read_package(package).explained(package)?;
            let archive = pack(&files).map_err(|e| UpdateError::io("packing", package, e))?;
            return Ok((files, archive));
        }
        let work = self.directory.join("unpacked");
        unpack(package, &work)?;
        let files = read_package(&work).explained(package);
        remove_folder(&work)?;
        let archive = fs::read(package).map_err(|e| UpdateError::io("reading", package, e))?;
        Ok((files?, archive))
    }

    /// What a metadata file says under `signed`.
    fn signed(&self, name: &str) -> Result<Option<Value>, UpdateError> {
        let Some(bytes) = read_bounded(&self.metadata().join(name), TARGETS_BYTES_MAX)? else { return Ok(None) };
        let mut file: Value =
            serde_json::from_slice(&bytes).map_err(|e| self.wrong(&format!("{name} is damaged: {e}")))?;
        Ok(Some(file["signed"].take()))
    }

    /// The newest root.
    fn root(&self) -> Result<Value, UpdateError> {
        let mut newest = None;
        for version in 1u64.. {
            match self.signed(&format!("{version}.root.json"))? {
                Some(root) => newest = Some(root),
                None => break,
            }
        }
        newest.ok_or_else(|| self.wrong("there is none: make it with `metwatch repo init`"))
    }

    /// The newest content of an online role, or an empty one of version 0.
    fn current(&self, role: &str) -> Result<Value, UpdateError> {
        let empty =
            |key: &str| json!({ "_type": role, "spec_version": SPEC_VERSION, "version": 0, "expires": "", key: {} });
        let listed =
            |of: &Option<Value>, name: &str| of.as_ref().map(|v| v["meta"][name]["version"].as_u64().unwrap_or(0));
        let timestamp = self.signed("timestamp.json")?;
        if role == "timestamp" {
            return Ok(timestamp.unwrap_or_else(|| empty("meta")));
        }
        let Some(n) = listed(&timestamp, "snapshot.json") else {
            return Ok(empty(if role == "targets" { "targets" } else { "meta" }));
        };
        let gone = |name: &str| self.wrong(&format!("{name} is missing"));
        let name = format!("{n}.snapshot.json");
        let snapshot = self.signed(&name)?.ok_or_else(|| gone(&name))?;
        if role == "snapshot" {
            return Ok(snapshot);
        }
        let snapshot = Some(snapshot);
        let name = format!("{}.targets.json", listed(&snapshot, "targets.json").unwrap_or(0));
        self.signed(&name)?.ok_or_else(|| gone(&name))
    }

    /// An online key, which has to be the one that the root names.
    fn key(&self, role: &str, root: &Value) -> Result<Key, UpdateError> {
        let path = self.key_file(role);
        let key = Key::read(&path)?;
        if key_ids(&root["roles"][role]).contains(&key.id()) {
            return Ok(key);
        }
        Err(UpdateError::Key { path, why: format!("the root does not name it for {role}") })
    }

    /// Those of the root's keys that are in a folder: at least as many as a new root needs.
    fn root_keys(&self, root: &Value, folder: &Path) -> Result<Vec<Key>, UpdateError> {
        let ids = key_ids(&root["roles"]["root"]);
        let files = (1..=ids.len()).map(|n| root_key_file(folder, n)).filter(|path| path.exists());
        let keys = files.map(|path| Key::read(&path)).collect::<Result<Vec<_>, _>>()?;
        let wrong = |why: String| UpdateError::Key { path: folder.into(), why };
        if keys.iter().any(|key| !ids.contains(&key.id())) {
            return Err(wrong("these are not the root's keys".into()));
        }
        if keys.len() < majority(ids.len()) {
            return Err(wrong(format!(
                "{} of the root's keys are there, {} are needed",
                keys.len(),
                majority(ids.len())
            )));
        }
        Ok(keys)
    }

    fn is_signed_by(&self, role: &str, signed: &Value, id: &str) -> Result<bool, UpdateError> {
        let path = self.metadata().join(format!("{}.{role}.json", version(signed)));
        let Some(bytes) = read_bounded(&path, TARGETS_BYTES_MAX)? else { return Ok(false) };
        let file: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(file["signatures"].as_array().is_some_and(|all| all.iter().any(|s| s["keyid"] == id)))
    }

    fn write_versioned(&self, role: &str, signed: &Value, key: &Key) -> Result<(), UpdateError> {
        let path = self.metadata().join(format!("{}.{role}.json", version(signed)));
        replace(&path, &file_of(signed, &[key]), 0o644)
    }

    /// How the role above refers to a file.
    fn meta(&self, role: &str, signed: &Value) -> Result<Value, UpdateError> {
        let path = self.metadata().join(format!("{}.{role}.json", version(signed)));
        let bytes = fs::read(&path).map_err(|e| UpdateError::io("reading", &path, e))?;
        Ok(json!({ "version": version(signed), "length": bytes.len(), "hashes": { "sha256": sha256_hex(&bytes) } }))
    }

    fn staged(&self) -> Result<Map<String, Value>, UpdateError> {
        let path = self.directory.join(STAGED);
        let Some(bytes) = read_bounded(&path, TARGETS_BYTES_MAX)? else { return Ok(Map::new()) };
        serde_json::from_slice(&bytes).map_err(|e| self.wrong(&format!("{STAGED} is damaged: {e}")))
    }

    fn stage(&self, name: &str, row: Value) -> Result<(), UpdateError> {
        let mut staged = self.staged()?;
        staged.insert(name.into(), row);
        let bytes = serde_json::to_vec_pretty(&staged).expect("a map of plain values always serializes");
        replace(&self.directory.join(STAGED), &bytes, 0o644)
    }
}

fn root_key_file(folder: &Path, n: usize) -> PathBuf {
    folder.join(format!("root-{n}.pem"))
}

/// More than half.
fn majority(n: usize) -> usize {
    n / 2 + 1
}

fn version(signed: &Value) -> u64 {
    signed["version"].as_u64().unwrap_or(0)
}

fn raise(signed: &mut Value, expires: String) {
    signed["version"] = json!(version(signed) + 1);
    signed["expires"] = json!(expires);
}

fn key_ids(role: &Value) -> Vec<String> {
    let ids = role["keyids"].as_array().into_iter().flatten();
    ids.filter_map(|id| id.as_str().map(Into::into)).collect()
}

/// A metadata file: what is signed, and the signatures.
fn file_of(signed: &Value, keys: &[&Key]) -> Vec<u8> {
    let signatures: Vec<Value> = keys.iter().map(|key| key.sign(signed)).collect();
    canonical(&json!({ "signatures": signatures, "signed": signed })).into_bytes()
}
