//! The command line: configuration, help, extraction and scoring as a person meets them.

use crate::common::{Folder, metwatch, reference, run};
use std::net::TcpListener;

fn config(folder: &Folder, change: impl Fn(String) -> String) -> String {
    let text = format!(
        "[store]\ndirectory = \"{}\"\n\n[dicom]\nlisten = \"127.0.0.1:0\"\nallow = [\"CT1\"]\n\n[alert]\nsite = \"test\"\nbox_id = \"box\"\nembedded_port = 0\n",
        folder.text("store")
    );
    std::fs::write(folder.join("metwatch.toml"), change(text)).unwrap();
    folder.text("metwatch.toml")
}

#[test]
fn a_good_configuration_passes_the_check() {
    let folder = Folder::new("check");
    let (code, stdout, stderr) = run(&["check", "--config", &config(&folder, |t| t)]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("golden vectors right") && stdout.contains("demonstration, not for clinical use"));
}

#[test]
fn the_commented_example_is_a_configuration() {
    let folder = Folder::new("example");
    let example = std::fs::read_to_string("systemd/metwatch.toml").unwrap();
    let text = example
        .replace("/var/lib/metwatch", &folder.path().display().to_string())
        .replace("0.0.0.0:11112", "127.0.0.1:0");
    let text = text
        .replace("127.0.0.1:8480", "127.0.0.1:0")
        .replace("127.0.0.1:9480", "127.0.0.1:0")
        .replace("[alert]", "[alert]\nembedded_port = 0");
    std::fs::write(folder.join("metwatch.toml"), text).unwrap();
    let (code, stdout, stderr) = run(&["check", "--config", &folder.text("metwatch.toml")]);
    assert_eq!(code, 0, "{stdout}{stderr}");
}

#[test]
fn a_misspelt_key_is_named_with_its_line() {
    let folder = Folder::new("misspelt");
    let (code, _, stderr) = run(&["check", "--config", &config(&folder, |t| t.replace("allow", "alow"))]);
    assert_eq!(code, 1);
    assert!(stderr.contains("alow") && stderr.contains("line 6") && stderr.contains("config.invalid"), "{stderr}");
    let (code, _, stderr) = run(&["serve", "--config", &folder.text("metwatch.toml")]);
    assert_eq!(code, 1, "check and serve agree");
    assert!(stderr.contains("config.invalid"), "{stderr}");
}

#[test]
fn a_port_in_use_is_told_by_check_and_by_serve() {
    let folder = Folder::new("port");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = config(&folder, |t| t.replace("127.0.0.1:0", &taken.local_addr().unwrap().to_string()));
    let (code, stdout, _) = run(&["check", "--config", &file]);
    assert_eq!(code, 1);
    assert!(stdout.contains("service.port-in-use"), "{stdout}");
    let (code, _, stderr) = run(&["serve", "--config", &file]);
    assert_eq!(code, 1);
    assert!(stderr.contains("service.port-in-use") && stderr.contains("what to do:"), "{stderr}");
}

#[test]
fn a_changed_package_stops_the_service_before_it_receives() {
    let folder = Folder::new("changed");
    std::fs::create_dir_all(folder.join("model")).unwrap();
    for entry in std::fs::read_dir("models/segmenter-phantom").unwrap() {
        let entry = entry.unwrap();
        let mut bytes = std::fs::read(entry.path()).unwrap();
        if entry.file_name() == "model.onnx" {
            bytes[5000] ^= 1;
        }
        std::fs::write(folder.join("model").join(entry.file_name()), bytes).unwrap();
    }
    let file = config(&folder, |t| format!("{t}[models]\nsegmenter = \"{}\"\n", folder.text("model")));
    for command in ["check", "serve"] {
        let (code, stdout, stderr) = run(&[command, "--config", &file]);
        assert_eq!(code, 1, "{command}");
        assert!(format!("{stdout}{stderr}").contains("package.hash-mismatch"), "{stdout}{stderr}");
    }
}

#[test]
fn a_usage_error_is_2_and_every_command_has_help() {
    assert_eq!(run(&["analyze"]).0, 2);
    assert_eq!(run(&["frobnicate"]).0, 2);
    let (code, help, _) = run(&["--help"]);
    assert_eq!(code, 0);
    for command in [
        "demo", "serve", "check", "analyze", "segment", "extract", "score", "phantom", "send", "station", "study",
        "audit",
    ] {
        assert!(help.contains(command), "{command} is not in the help");
        assert_eq!(run(&[command, "--help"]).0, 0);
    }
}

#[test]
fn extract_prints_what_pyradiomics_would() {
    let image = reference("pyradiomics/brain1_image.nrrd").display().to_string();
    let mask = reference("pyradiomics/brain1_label.nrrd").display().to_string();
    let (code, stdout, stderr) = run(&["extract", &image, &mask, "--json"]);
    assert_eq!(code, 0, "{stderr}");
    let json: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    let golden = std::fs::read_to_string(reference("golden/radiomics/brain1_default.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&golden).unwrap();
    let key = "original_glcm_JointEntropy";
    let (ours, theirs) = (json["features"][key].as_f64().unwrap(), golden["features"][key].as_f64().unwrap());
    assert!((ours - theirs).abs() <= 1e-9 * theirs.abs(), "{ours} {theirs}");
}

#[test]
fn a_closed_pipe_ends_it_without_a_panic() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = metwatch().args(["cohort", "fit", "--example"]).stdout(writer).output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(141) && said.is_empty(), "{:?} {said}", output.status);
}
