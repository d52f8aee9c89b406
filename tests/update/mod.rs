//! Updates of model packages: a repository made by `metwatch repo` or by python-tuf, a box that takes from it.

mod attacks;
mod kills;
mod network;
mod packages;
mod running;

use crate::common::{Folder, metwatch, run};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A publisher and a box in one folder.
pub struct Site(pub Folder);

impl Site {
    /// With an empty repository.
    pub fn new(name: &str) -> Site {
        let site = Site(Folder::new(&format!("update-{name}")));
        site.repo(&["init"], &["--root-keys", &site.0.text("root-keys")]).expect("a repository is made");
        site
    }

    /// `metwatch repo` with the folders of this site.
    pub fn repo(&self, command: &[&str], more: &[&str]) -> Result<String, String> {
        let (repository, keys) = (self.0.text("repo"), self.0.text("keys"));
        let args = [&["repo", command[0], &repository], &command[1..], &["--keys", &keys], more].concat();
        said(run(&args))
    }

    /// Adds a package and publishes it.
    pub fn publish(&self, package: &Path) {
        self.repo(&["add", &package.display().to_string()], &[]).expect("the package is added");
        self.repo(&["publish"], &[]).expect("it is published");
    }

    /// `metwatch update` of this box, from the folder.
    pub fn update(&self, command: &str, more: &[&str]) -> Result<Value, String> {
        let (from, root) = (self.0.text("repo"), self.root());
        self.update_from(command, &[&["--from", &from, "--root", &root], more].concat())
    }

    pub fn update_from(&self, command: &str, more: &[&str]) -> Result<Value, String> {
        let slots = self.0.text("box");
        json(run(&[&["update", command, "--slots", &slots, "--json"], more].concat()))
    }

    pub fn model(&self, command: &[&str]) -> Result<Value, String> {
        let slots = self.0.text("box");
        json(run(&[&["model"], command, &["--slots", &slots, "--json"]].concat()))
    }

    pub fn root(&self) -> String {
        self.0.text("repo/metadata/1.root.json")
    }

    /// The active package of a kind: its version and phase.
    pub fn active(&self, kind: &str) -> (String, String) {
        let list = self.model(&["list"]).expect("the list");
        let packages = list["packages"].as_array().expect("packages");
        let row = packages.iter().find(|p| p["kind"] == kind && p["active"] == true).expect("one is active");
        let text = |key: &str| row[key].as_str().expect("text").to_string();
        let phase = if row["slot"] == "built-in" { "built-in".into() } else { text("phase") };
        (text("version"), phase)
    }

    /// python-tuf changes the repository.
    pub fn edit(&self, role: &str, code: &str) {
        python(&["edit", &self.0.text("repo"), &self.0.text("keys"), role, code]);
    }

    /// A copy of the repository as it is now.
    pub fn copy_of_repository(&self, name: &str) -> PathBuf {
        let to = self.0.join(name);
        let done = Command::new("cp").arg("-a").arg(self.0.join("repo")).arg(&to).status().expect("cp");
        assert!(done.success());
        to
    }
}

/// The code in an error of the command line.
pub fn code<T: std::fmt::Debug>(result: Result<T, String>) -> String {
    let error = result.expect_err("it is refused");
    error.lines().find_map(|l| l.trim().strip_prefix("code: ")).unwrap_or(&error).to_string()
}

fn said((code, out, err): (i32, String, String)) -> Result<String, String> {
    if code == 0 { Ok(out) } else { Err(err) }
}

fn json(ran: (i32, String, String)) -> Result<Value, String> {
    said(ran).map(|out| serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}")))
}

/// tests/peers/tuf_repository.py
pub fn python(args: &[&str]) -> String {
    let python = std::env::var("METWATCH_TEST_PYTHON").unwrap_or(".venv/bin/python".into());
    let output = Command::new(python).arg("tests/peers/tuf_repository.py").args(args).output();
    let output = output.expect("tests/run makes the venv");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

pub type Files = BTreeMap<String, Vec<u8>>;

fn shipped(folder: &str) -> Files {
    let read = |name: &str| std::fs::read(Path::new("models").join(folder).join(name)).ok();
    ["manifest.toml", "golden.json", "model.onnx"].iter().filter_map(|n| Some(((*n).to_string(), read(n)?))).collect()
}

/// The shipped nomogram under another version, with more files if wanted, sealed again.
pub fn nomogram(version: &str, more: &[(&str, &str)]) -> Files {
    let mut files = shipped("nomogram-phantom");
    files.extend(more.iter().map(|(name, text)| ((*name).to_string(), text.as_bytes().to_vec())));
    let text = String::from_utf8(files["manifest.toml"].clone()).expect("UTF-8");
    let text = with_version(&text, version);
    let listed: String = more.iter().map(|(n, t)| format!("\"{n}\" = \"{}\"\n", sha256(t.as_bytes()))).collect();
    let text = text.replacen("[files]\n", &format!("[files]\n{listed}"), 1);
    let rest: String = text.split_inclusive('\n').filter(|line| !line.starts_with("seal = ")).collect();
    let seal = format!("seal = \"{}\"\n", sha256(rest.as_bytes()));
    let sealed = text.split_inclusive('\n').map(|l| if l.starts_with("seal = ") { seal.as_str() } else { l }).collect();
    let sealed: String = sealed;
    files.insert("manifest.toml".into(), sealed.into_bytes());
    files
}

/// The shipped segmenter under another version.
pub fn segmenter(version: &str) -> Files {
    let mut files = shipped("segmenter-phantom");
    let text = String::from_utf8(files["manifest.toml"].clone()).expect("UTF-8");
    files.insert("manifest.toml".into(), with_version(&text, version).into_bytes());
    files
}

/// A segmenter whose network does not give its golden vectors, every hash right.
pub fn wrong_golden(version: &str) -> Files {
    let mut files = segmenter(version);
    let text = String::from_utf8(files["manifest.toml"].clone()).expect("UTF-8");
    let golden = String::from_utf8(files["golden.json"].clone()).expect("UTF-8");
    let (head, tail) =
        golden.split_once("\"logits\": [").or_else(|| golden.split_once("\"logits\":[")).expect("logits");
    let changed = format!("{head}\"logits\": [777.0, {}", tail.split_once(',').expect("several").1);
    let text = text.replace(&sha256(golden.as_bytes()), &sha256(changed.as_bytes()));
    files.insert("golden.json".into(), changed.into_bytes());
    files.insert("manifest.toml".into(), text.into_bytes());
    files
}

fn with_version(manifest: &str, version: &str) -> String {
    let line = |l: &str| if l.starts_with("version = ") { format!("version = \"{version}\"\n") } else { l.to_string() };
    manifest.split_inclusive('\n').map(line).collect()
}

/// Writes a package's folder.
pub fn spread(folder: &Path, files: &Files) -> PathBuf {
    std::fs::create_dir_all(folder).expect("writable");
    files.iter().for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes).expect("writable"));
    folder.to_path_buf()
}

/// A package that is not checked by `repo add`: archive, target and metadata by python-tuf.
pub fn publish_unchecked(site: &Site, files: &Files, kind: &str, id: &str, version: &str, tar: &[&str]) {
    let folder = spread(&site.0.join("unchecked"), files);
    let archive = site.0.text("unchecked.tar.zst");
    let made = Command::new("tar").args(["--zstd", "-cf", &archive, "-C"]).arg(&folder).args(tar).status();
    assert!(made.expect("tar").success());
    publish_archive(site, &archive, kind, id, version);
}

pub fn publish_archive(site: &Site, archive: &str, kind: &str, id: &str, version: &str) {
    let bytes = std::fs::read(archive).expect("an archive");
    let name = format!("{id}-{version}.tar.zst");
    std::fs::write(site.0.join(&format!("repo/targets/{}.{name}", sha256(&bytes))), &bytes).expect("writable");
    site.edit(
        "targets",
        &format!(
            "f = TargetFile.from_data('{name}', open('{archive}', 'rb').read(), ['sha256'])\n\
             f.unrecognized_fields['custom'] = {{'kind': '{kind}', 'id': '{id}', 'version': '{version}', 'unpacked_bytes': 1000}}\n\
             signed.targets['{name}'] = f"
        ),
    );
}

/// The ids of the shipped packages.
pub const SEGMENTER: &str = "abdomen-phantom";

#[test]
fn the_tool_is_there() {
    let output = metwatch().args(["update", "--help"]).output().expect("the binary runs");
    assert!(String::from_utf8_lossy(&output.stdout).contains("reset-clock"));
}
