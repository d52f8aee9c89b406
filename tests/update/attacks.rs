//! Repositories by their attack. What the box had stays as it was.

use super::*;
use crate::line::free_port;
use std::io::{Read, Write};
use std::net::TcpListener;

/// A box that took version 1.2.0 of the nomogram.
fn updated(name: &str) -> Site {
    let site = Site::new(name);
    site.publish(&spread(&site.0.join("n2"), &nomogram("1.2.0", &[])));
    site.update("apply", &[]).expect("the first update");
    site
}

fn unharmed(site: &Site) {
    assert_eq!(site.active("nomogram").0, "1.2.0");
    assert!(site.model(&["verify"]).unwrap().as_array().unwrap().iter().all(|row| row["ok"] == true));
}

#[test]
fn rollback_to_an_older_copy() {
    let site = updated("rollback");
    let old = site.copy_of_repository("old");
    site.publish(&spread(&site.0.join("n3"), &nomogram("1.3.0", &[])));
    site.update("check", &[]).unwrap();
    let from_old = |site: &Site| site.update_from("apply", &["--from", &old.display().to_string()]);
    assert_eq!(code(from_old(&site)), "update.rollback");
    // Also when the box's own memory of the repository was put back or lost: its record has the versions too.
    std::fs::remove_file(site.0.join("box/trusted.json")).unwrap();
    let again = site.update_from("apply", &["--from", &old.display().to_string(), "--root", &site.root()]);
    assert_eq!(code(again), "update.rollback");
    unharmed(&site);
}

#[test]
fn rollback_of_one_package_in_new_metadata_is_no_update() {
    let site = updated("downgrade");
    site.repo(&["remove", &target_name(&site, "1.2.0")], &[]).unwrap();
    publish_unchecked(&site, &nomogram("1.1.5", &[]), "nomogram", &nomogram_id(&site), "1.1.5", &["."]);
    site.repo(&["publish"], &[]).unwrap();
    assert_eq!(site.update("apply", &[]).unwrap()["staged"], Value::Array(vec![]));
    unharmed(&site);
}

#[test]
fn freeze_and_expired_roles() {
    for role in ["timestamp", "snapshot", "targets"] {
        let site = updated(&format!("expired-{role}"));
        site.edit(role, "signed.expires = in_days(-1)");
        assert_eq!(code(site.update("apply", &[])), "update.expired", "{role}");
        unharmed(&site);
    }
    let site = updated("expired-root");
    let key = site.0.text("root-keys/root-1.pem");
    site.edit("root", &format!("signed.expires = in_days(-1)\nsign_with = ['{key}']"));
    assert_eq!(code(site.update("apply", &[])), "update.expired");
    unharmed(&site);
}

#[test]
fn metadata_signed_with_a_strangers_key() {
    for role in ["timestamp", "snapshot", "targets"] {
        let site = updated(&format!("stranger-{role}"));
        site.edit(role, "key = CryptoSigner.generate_ed25519()");
        assert_eq!(code(site.update("apply", &[])), "update.signature", "{role}");
        unharmed(&site);
    }
}

#[test]
fn metadata_changed_after_it_was_signed() {
    let site = updated("unsigned-change");
    site.edit("targets", "signed.targets[list(signed.targets)[0]].length += 1\nresign = False");
    assert_eq!(code(site.update("apply", &[])), "update.signature");
    unharmed(&site);
}

#[test]
fn a_new_root_below_the_threshold() {
    let site = Site(Folder::new("update-threshold"));
    site.repo(&["init"], &["--root-keys", &site.0.text("root-keys"), "--n-root-keys", "3"]).unwrap();
    site.publish(&spread(&site.0.join("n2"), &nomogram("1.2.0", &[])));
    site.update("apply", &[]).unwrap();
    let key = |n: u32| site.0.text(&format!("root-keys/root-{n}.pem"));
    let one = site.copy_of_repository("one");
    let keys = site.0.text("keys");
    python(&["edit", &one.display().to_string(), &keys, "root", &format!("sign_with = ['{}']", key(1))]);
    assert_eq!(code(site.update_from("apply", &["--from", &one.display().to_string()])), "update.signature");
    // The same key twice is one signature.
    let twice = site.copy_of_repository("twice");
    python(&[
        "edit",
        &twice.display().to_string(),
        &keys,
        "root",
        &format!("sign_with = ['{}', '{}']", key(1), key(1)),
    ]);
    site.update_from("apply", &["--from", &twice.display().to_string()]).expect_err("one key signed twice");
    site.edit("root", &format!("sign_with = ['{}', '{}']", key(1), key(3)));
    assert_eq!(site.update("check", &[]).unwrap()["versions"]["root"], 2);
    unharmed(&site);
}

#[test]
fn mix_and_match_of_two_publications() {
    let site = updated("mix");
    let old = site.copy_of_repository("old");
    site.publish(&spread(&site.0.join("n3"), &nomogram("1.3.0", &[])));
    let newest = |folder: &Path, role: &str| {
        let names =
            std::fs::read_dir(folder.join("metadata")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let number = |n: &String| n.split('.').next().unwrap().parse::<u32>().unwrap_or(0);
        names.filter(|n| n.ends_with(&format!("{role}.json"))).max_by_key(number).unwrap()
    };
    let new = site.0.join("repo");
    for role in ["snapshot", "targets"] {
        let mixed = site.copy_of_repository(&format!("mixed-{role}"));
        let from = old.join("metadata").join(newest(&old, role));
        std::fs::copy(from, mixed.join("metadata").join(newest(&new, role))).unwrap();
        let refused = code(site.update_from("apply", &["--from", &mixed.display().to_string()]));
        assert!(["update.altered", "update.too-large"].contains(&&refused[..]), "{role}: {refused}");
    }
    unharmed(&site);
}

#[test]
fn a_flipped_byte_a_short_and_a_long_target() {
    let site = updated("target-bytes");
    site.publish(&spread(&site.0.join("n3"), &nomogram("1.3.0", &[])));
    let name = target_name(&site, "1.3.0");
    let mut files = std::fs::read_dir(site.0.join("repo/targets")).unwrap().map(|e| e.unwrap().path());
    let path = files.find(|p| p.to_string_lossy().ends_with(&name)).unwrap();
    let good = std::fs::read(&path).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for (what, bytes) in
        [("flipped", flipped), ("short", good[..good.len() - 1].to_vec()), ("long", [&good[..], b"x"].concat())]
    {
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(code(site.update("apply", &[])), "update.altered", "{what}");
        unharmed(&site);
    }
    // Mended, it is taken: nothing of the damaged copies is left in the way.
    std::fs::write(&path, good).unwrap();
    site.update("apply", &[]).unwrap();
    assert_eq!(site.active("nomogram").0, "1.3.0");
}

#[test]
fn names_that_climb_out_of_the_folder() {
    let site = updated("names");
    let id = nomogram_id(&site);
    for (version, name) in
        [("1.3.0", "../../climbed.tar.zst"), ("1.4.0", "/tmp/climbed.tar.zst"), ("1.5.0", "a/b.tar.zst")]
    {
        site.edit(
            "targets",
            &format!(
                "f = TargetFile.from_data('x', b'x', ['sha256']); f.path = '{name}'\n\
                 f.unrecognized_fields['custom'] = {{'kind': 'nomogram', 'id': '{id}', 'version': '{version}', 'unpacked_bytes': 1}}\n\
                 signed.targets['{name}'] = f"
            ),
        );
    }
    site.edit(
        "targets",
        "f = TargetFile.from_data('y', b'y', ['sha256']); f.unrecognized_fields['custom'] = {'kind': 'nomogram', 'id': '../x', 'version': '9.0.0', 'unpacked_bytes': 1}\n\
         signed.targets['../x-9.0.0.tar.zst'] = f; f.path = '../x-9.0.0.tar.zst'",
    );
    let checked = site.update("check", &[]).unwrap();
    assert_eq!(checked["refused"].as_array().unwrap().len(), 4, "{checked}");
    assert_eq!(site.update("apply", &[]).unwrap()["staged"], Value::Array(vec![]));
    assert!(!site.0.join("climbed.tar.zst").exists() && !Path::new("/tmp/climbed.tar.zst").exists());
    unharmed(&site);
}

#[test]
fn a_signed_archive_with_links_or_paths() {
    let site = updated("links");
    let id = nomogram_id(&site);
    let folder = spread(&site.0.join("unchecked"), &nomogram("1.3.0", &[]));
    std::os::unix::fs::symlink("/etc/passwd", folder.join("link")).unwrap();
    publish_unchecked(&site, &Files::new(), "nomogram", &id, "1.3.0", &["."]);
    assert_eq!(code(site.update("apply", &[])), "model.archive");
    std::fs::remove_file(folder.join("link")).unwrap();
    publish_unchecked(
        &site,
        &nomogram("1.4.0", &[]),
        "nomogram",
        &id,
        "1.4.0",
        &["--transform", "s,^,../../,", "-P", "manifest.toml"],
    );
    assert_eq!(code(site.update("apply", &[])), "model.archive");
    unharmed(&site);
}

#[test]
fn a_signed_bomb() {
    let site = updated("bomb");
    let archive = site.0.text("bomb.tar.zst");
    // More zeros than a package may have in some hundred kilobytes.
    let script = format!(
        "truncate -s 2200M '{0}/model.onnx' && tar --zstd -cf '{archive}' -C '{0}' model.onnx && rm '{0}/model.onnx'",
        site.0.text("")
    );
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    publish_archive(&site, &archive, "nomogram", &nomogram_id(&site), "1.3.0");
    assert_eq!(code(site.update("apply", &[])), "model.archive");
    unharmed(&site);
}

#[test]
fn a_server_that_never_stops_sending() {
    let site = updated("endless");
    let port = free_port();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut request = [0; 2048];
                let n = stream.read(&mut request).unwrap_or(0);
                if request[..n].windows(9).any(|w| w == b"root.json") {
                    let _ =
                        stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                    return;
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{");
                while stream.write_all(&[b' '; 65536]).is_ok() {}
            });
        }
    });
    let url = format!("http://127.0.0.1:{port}");
    assert_eq!(code(site.update_from("apply", &["--repo", &url])), "update.too-large");
    unharmed(&site);
}

#[test]
fn without_a_root_nobody_is_believed_and_a_strangers_repository_never() {
    let site = updated("stranger");
    let other = Site::new("stranger-other");
    other.publish(&spread(&other.0.join("n9"), &nomogram("1.9.0", &[])));
    let from = other.0.text("repo");
    assert_eq!(code(site.update_from("apply", &["--from", &from])), "update.signature");
    let fresh = Site(Folder::new("update-fresh"));
    assert_eq!(code(fresh.update_from("check", &["--from", &from])), "update.no-root");
    unharmed(&site);
}

#[test]
fn a_clock_in_1970_and_a_clock_that_was_ahead() {
    let site = updated("clock");
    let at = |when: &str, command: &[&str]| {
        let slots = site.0.text("box");
        let from = site.0.text("repo");
        let source: &[&str] = if command[0] == "check" { &["--from", &from] } else { &[] };
        let mut output = Command::new("faketime");
        output.args(["-f", when]).arg(metwatch().get_program()).arg("update").args(command);
        let output = output.args(["--slots", &slots]).args(source).output().expect("tests/run installs faketime");
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    };
    assert_eq!(code(at("@1970-01-02 00:00:00", &["check"])), "update.clock-wrong");
    assert_eq!(code(at("@1970-01-02 00:00:00", &["reset-clock"])), "update.clock-wrong");
    // A week ahead everything is still valid; back in the present the box says what happened, and how to go on.
    at("+7d", &["check"]).expect("valid in a week");
    let refused = at("+0d", &["check"]).expect_err("the clock stepped back");
    assert!(refused.contains("System time stepped backward") && refused.contains("reset-clock"), "{refused}");
    at("+0d", &["reset-clock"]).unwrap();
    at("+0d", &["check"]).expect("after the reset");
    let status = site.update_from("status", &[]).unwrap();
    assert!(status["checked_at"].is_string());
    let (_, shown, _) = run(&["update", "status", "--slots", &site.0.text("box")]);
    assert!(shown.contains("update.clock-reset"), "it is in the record: {shown}");
    unharmed(&site);
}

fn nomogram_id(site: &Site) -> String {
    let list = site.model(&["list"]).unwrap();
    let rows = list["packages"].as_array().unwrap().clone();
    rows.iter().find(|p| p["kind"] == "nomogram").unwrap()["id"].as_str().unwrap().into()
}

fn target_name(site: &Site, version: &str) -> String {
    format!("{}-{version}.tar.zst", nomogram_id(site))
}
