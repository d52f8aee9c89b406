//! The cycle of a package, from the publisher to the slot and back.

use super::*;
use crate::line::{Peer, free_port, wait_for_port};
use std::process::Stdio;

#[test]
fn publish_apply_activate_refuse_and_roll_back_from_a_folder() {
    let site = Site::new("folder");
    let from = |command: &str, more: &[&str]| site.update(command, more);
    cycle(&site, &from);
}

#[test]
fn publish_apply_activate_refuse_and_roll_back_from_a_web_server() {
    let site = Site::new("web");
    let (port, folder) = (free_port(), site.0.text("repo"));
    let args = ["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1", "--directory", &folder];
    let server = Command::new("python3").args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let _server = Peer(server.expect("python3"));
    wait_for_port(port, "http.server");
    let url = format!("http://127.0.0.1:{port}");
    let root = site.root();
    let from =
        |command: &str, more: &[&str]| site.update_from(command, &[&["--repo", &url, "--root", &root], more].concat());
    cycle(&site, &from);
}

/// Runs a command of `metwatch update` against the repository.
type Update<'a> = &'a dyn Fn(&str, &[&str]) -> Result<Value, String>;

fn cycle(site: &Site, from: Update<'_>) {
    let package = |name: &str, files: &Files| spread(&site.0.join(name), files);
    assert_eq!(site.active("segmenter"), ("0.1.0".into(), "built-in".into()));
    assert_eq!(from("check", &[]).unwrap()["news"], Value::Array(vec![]));

    site.publish(&package("s2", &segmenter("1.2.0")));
    site.publish(&package("n2", &nomogram("1.2.0", &[])));
    let news = from("check", &[]).unwrap();
    assert_eq!(news["news"].as_array().unwrap().len(), 2, "{news}");
    assert_eq!(site.active("segmenter").0, "0.1.0", "a check changes nothing");
    let staged = from("apply", &["--stage"]).unwrap();
    assert_eq!((staged["staged"].as_array().unwrap().len(), &staged["activated"]), (2, &Value::Array(vec![])));
    assert_eq!(site.active("segmenter").1, "built-in");
    assert!(site.model(&["verify"]).unwrap().as_array().unwrap().iter().all(|row| row["ok"] == true));

    from("apply", &[]).unwrap();
    assert_eq!(site.active("segmenter"), ("1.2.0".into(), "trying".into()));
    assert_eq!(site.active("nomogram"), ("1.2.0".into(), "trying".into()));
    assert_eq!(from("apply", &[]).unwrap()["staged"], Value::Array(vec![]), "the second time there is nothing newer");

    // What the publisher signed but what does not work here is refused, remembered, and not fetched again.
    publish_unchecked(site, &wrong_golden("1.3.0"), "segmenter", SEGMENTER, "1.3.0", &["."]);
    assert_eq!(code(from("apply", &[])), "package.golden-mismatch");
    assert_eq!(site.active("segmenter").0, "1.2.0");
    assert_eq!(from("apply", &[]).unwrap()["staged"], Value::Array(vec![]));
    let offers = from("check", &[]).unwrap()["offers"].clone();
    let bad = offers.as_array().unwrap().iter().find(|o| o["version"] == "1.3.0").unwrap().clone();
    assert_eq!(bad["verdict"], "bad");

    let rolled = site.model(&["rollback", "segmenter", "--reason", "the radiologist complained"]).unwrap();
    assert_eq!(rolled["to"], Value::Null);
    assert_eq!(site.active("segmenter"), ("0.1.0".into(), "built-in".into()));
    assert_eq!(site.active("nomogram").0, "1.2.0", "the other kind stays");
    assert_eq!(from("apply", &[]).unwrap()["staged"], Value::Array(vec![]), "what was left is not tried again");
    assert_eq!(code(site.model(&["rollback", "segmenter"])), "model.nothing-before");

    site.publish(&package("s4", &segmenter("1.4.0")));
    from("apply", &[]).unwrap();
    assert_eq!(site.active("segmenter").0, "1.4.0");
    let status = from_status(site);
    assert_eq!(status["active"][0]["package"], format!("{SEGMENTER} 1.4.0"));
    assert!(status["records"].as_u64().unwrap() >= 8, "{status}");
}

fn from_status(site: &Site) -> Value {
    site.update_from("status", &[]).unwrap()
}

#[test]
fn python_tuf_reads_our_repository_and_we_read_python_tufs() {
    let site = Site::new("python");
    let package = spread(&site.0.join("n2"), &nomogram("1.2.0", &[]));
    site.publish(&package);
    let port = free_port();
    let folder = site.0.text("");
    let args = ["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1", "--directory", &folder];
    let server = Command::new("python3").args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let _server = Peer(server.expect("python3"));
    wait_for_port(port, "http.server");
    let id = site.update("check", &[]).unwrap()["offers"][0]["id"].as_str().unwrap().to_string();
    let name = format!("{id}-1.2.0.tar.zst");
    let read = python(&["read", &format!("http://127.0.0.1:{port}/repo"), &site.root(), &name, &site.0.text("out")]);
    let read: Value = serde_json::from_str(&read).unwrap();
    assert_eq!((&read["custom"]["kind"], &read["custom"]["version"]), (&"nomogram".into(), &"1.2.0".into()));
    let archive = std::fs::read(read["path"].as_str().unwrap()).unwrap();
    assert_eq!(sha256(&archive), read["sha256"]);

    // The same archive in a repository that python made: two root keys, both needed.
    std::fs::write(site.0.join(&name), archive).unwrap();
    let custom = read["custom"].to_string();
    python(&["make", &site.0.text("theirs"), &site.0.text("their-keys"), &site.0.text(&name), &custom]);
    let (url, root) = (format!("http://127.0.0.1:{port}/theirs"), site.0.text("theirs/metadata/1.root.json"));
    let other_box = site.0.text("other-box");
    let args = ["update", "apply", "--repo", &url, "--root", &root, "--slots", &other_box, "--json"];
    let applied = json(run(&args)).unwrap();
    assert_eq!(applied["activated"][0]["package"], format!("{id} 1.2.0"));
    // Our tool goes on with a repository whose keys python made.
    let repository = site.0.text("theirs");
    let newer = spread(&site.0.join("n3"), &nomogram("1.3.0", &[])).display().to_string();
    let keys = site.0.text("their-keys");
    said(run(&["repo", "add", &repository, &newer, "--keys", &keys])).unwrap();
    said(run(&["repo", "publish", &repository, "--keys", &keys])).unwrap();
    assert_eq!(json(run(&args)).unwrap()["activated"][0]["package"], format!("{id} 1.3.0"));
}

#[test]
fn keys_are_rotated_and_the_old_ones_count_no_more() {
    let site = Site::new("rotation");
    site.publish(&spread(&site.0.join("n2"), &nomogram("1.2.0", &[])));
    site.update("check", &[]).unwrap();
    for role in ["timestamp", "snapshot", "targets", "root"] {
        site.repo(&["rotate"], &["--role", role, "--root-keys", &site.0.text("root-keys")]).unwrap();
        let versions =
            site.update("check", &[]).unwrap_or_else(|e| panic!("after the rotation of {role}: {e}"))["versions"]
                .clone();
        assert!(versions["root"].as_u64().unwrap() >= 2, "{versions}");
    }
    // A new box walks from the first root to the fifth.
    let fresh = site.0.text("fresh");
    let args = ["update", "check", "--from", &site.0.text("repo"), "--root", &site.root(), "--slots", &fresh, "--json"];
    assert_eq!(json(run(&args)).unwrap()["versions"]["root"], 5);
    // Who has a key that was replaced signs for nobody.
    let mut old = std::fs::read_dir(site.0.join("keys")).unwrap().map(|e| e.unwrap().path());
    let old = old.find(|p| p.to_string_lossy().contains("timestamp.pem.until")).expect("it was moved aside");
    std::fs::copy(&old, site.0.join("keys/timestamp.pem")).unwrap();
    site.edit("timestamp", "pass");
    assert_eq!(code(site.update("check", &[])), "update.signature");
}

#[test]
fn a_package_for_another_board_or_a_newer_program_is_refused() {
    let site = Site::new("board");
    let agx = nomogram("1.2.0", &[("compatibility.toml", "boards = [\"agx-orin\"]\n")]);
    let newer = nomogram("1.3.0", &[("compatibility.toml", "minimum_software = \"99.0.0\"\n")]);
    let agx = spread(&site.0.join("agx"), &agx);
    site.publish(&agx);
    site.publish(&spread(&site.0.join("newer"), &newer));
    let offers = site.update("check", &[]).unwrap()["offers"].clone();
    let verdicts: Vec<_> = offers.as_array().unwrap().iter().map(|o| o["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["misfit", "misfit"]);
    assert!(offers.to_string().contains("this board is generic-") && offers.to_string().contains("99.0.0 or newer"));
    assert_eq!(site.update("apply", &[]).unwrap()["staged"], Value::Array(vec![]));
    assert_eq!(code(site.model(&["install", &agx.display().to_string()])), "model.incompatible");
    assert_eq!(site.update("apply", &["--board", "agx-orin"]).unwrap()["activated"].as_array().unwrap().len(), 1);
    assert_eq!(site.active("nomogram").0, "1.2.0");
}

#[test]
fn any_changed_byte_of_a_package_is_refused() {
    let site = Site::new("byte");
    let good = segmenter("1.2.0");
    // The manifest of a nomogram is sealed, the one of a segmenter is covered by the signature over its archive.
    let places =
        [(&good, "golden.json", 900), (&good, "model.onnx", 300_000), (&nomogram("1.2.0", &[]), "manifest.toml", 900)];
    for (files, name, at) in places {
        let mut files = files.clone();
        files.get_mut(name).unwrap()[at] ^= 1;
        let _ = std::fs::remove_dir_all(site.0.join("changed"));
        let folder = spread(&site.0.join("changed"), &files).display().to_string();
        let refused = site.model(&["install", &folder]).expect_err(name);
        assert!(refused.contains("code: package.") || refused.contains("code: nomogram."), "{name}: {refused}");
    }
    assert_eq!(site.active("segmenter").1, "built-in");
    // The same after it was installed: the slot is checked before it becomes active.
    site.model(&["install", &spread(&site.0.join("good"), &good).display().to_string()]).unwrap();
    let network = site.0.join("box/segmenter-a/model.onnx");
    let mut bytes = std::fs::read(&network).unwrap();
    bytes[300_000] ^= 1;
    std::fs::write(&network, bytes).unwrap();
    assert_eq!(code(site.model(&["activate"])), "package.hash-mismatch");
    assert_eq!(code(site.model(&["verify"])), "package.hash-mismatch");
    assert_eq!(site.active("segmenter").1, "built-in");
}
