//! The service with packages from the slots: exchange between studies, proof, failure, way back.

use super::*;
use crate::line::{Heard, Served, free_port, high, mosquitto, series, storescu, write};
use std::time::Duration;

/// A box with a broker, whose service takes its packages from `slots` below the service's folder.
fn served(name: &str, broker: u16) -> Served {
    Served::start_with(name, broker, 1, 5, |folder| format!("slots = \"{}\"\n", folder.text("slots")))
}

fn model(served: &Served, command: &[&str]) -> Result<Value, String> {
    let slots = served.folder.text("slots");
    json(run(&[&["model"], command, &["--slots", &slots, "--json"]].concat()))
}

fn install_and_activate(served: &Served, files: &Files, kind: &str) {
    let folder = spread(&served.folder.join("package"), files).display().to_string();
    model(served, &["install", &folder]).unwrap();
    model(served, &["activate", kind]).unwrap();
    std::fs::remove_dir_all(served.folder.join("package")).unwrap();
}

fn phase(served: &Served, kind: &str) -> (String, String) {
    let list = model(served, &["list"]).unwrap();
    let row = list["packages"].as_array().unwrap().iter().find(|p| p["kind"] == kind && p["active"] == true).cloned();
    let row = row.expect("one is active");
    (row["version"].as_str().unwrap().into(), row["phase"].as_str().unwrap().into())
}

#[test]
fn a_new_package_is_taken_between_two_studies_and_named_by_the_results_and_proven_by_them() {
    let port = free_port();
    let _broker = mosquitto(port);
    let mut heard = Heard::listen(port);
    let mut served = served("models-taken", port);
    served.drop_clinical(&high("PAT-A"));
    storescu(served.dicom, &write(&served.folder.join("a"), &series(21, "PAT-A")));
    let result = |heard: &mut Heard, study: &str| {
        heard.wait("the result", Duration::from_secs(90), |t, _| t.ends_with(&format!("/result/{study}"))).1
    };
    let before = result(&mut heard, "S000001");
    assert!(before["packages"]["segmenter"].as_str().unwrap().ends_with(" 0.1.0"), "{before}");

    // The next study is already under way when the package becomes active: it is not lost, and has one set of packages.
    storescu(served.dicom, &write(&served.folder.join("b"), &series(22, "PAT-B")));
    install_and_activate(&served, &nomogram("1.2.0", &[]), "nomogram");
    install_and_activate(&served, &segmenter("1.2.0"), "segmenter");
    let changed = heard.event("model.changed");
    assert_eq!(changed["kind"], "update");
    result(&mut heard, "S000002");
    storescu(served.dicom, &write(&served.folder.join("c"), &series(23, "PAT-C")));
    let after = result(&mut heard, "S000003");
    assert!(after["packages"]["nomogram"].as_str().unwrap().ends_with(" 1.2.0"), "{after}");
    assert!(after["packages"]["segmenter"].as_str().unwrap().ends_with(" 1.2.0"), "{after}");
    assert_eq!(phase(&served, "nomogram"), ("1.2.0".into(), "good".into()), "a study came through");
    assert_eq!(phase(&served, "segmenter"), ("1.2.0".into(), "good".into()));

    // The disk damages the active network: at the next start its hash fails, and the box goes back by itself.
    served.kill();
    let state: Value = serde_json::from_slice(&std::fs::read(served.folder.join("slots/slots.json")).unwrap()).unwrap();
    let slot = state["segmenter"]["active"].as_str().unwrap();
    let network = served.folder.join(&format!("slots/segmenter-{slot}/model.onnx"));
    let mut bytes = std::fs::read(&network).unwrap();
    bytes[300_000] ^= 1;
    std::fs::write(&network, bytes).unwrap();
    let (code, out, _) = run(&["check", "--config", &served.folder.text("metwatch.toml"), "--json"]);
    assert!(out.contains("will be left when the service starts"), "{code}: {out}");
    served.kill_and_restart();
    let left = heard.event("model.rolled-back");
    assert!(left["sentence"].as_str().unwrap().contains("1.2.0 was left for the package inside the program"), "{left}");
    storescu(served.dicom, &write(&served.folder.join("d"), &series(24, "PAT-D")));
    let last = result(&mut heard, "S000004");
    assert!(last["packages"]["segmenter"].as_str().unwrap().ends_with(" 0.1.0"), "{last}");
    assert!(last["packages"]["nomogram"].as_str().unwrap().ends_with(" 1.2.0"), "{last}");
}

#[test]
fn three_crashes_in_a_row_lead_back_and_orderly_stops_do_not() {
    let port = free_port();
    let _broker = mosquitto(port);
    let mut heard = Heard::listen(port);
    let mut served = served("models-crash", port);
    install_and_activate(&served, &nomogram("1.2.0", &[]), "nomogram");
    heard.event("model.changed");
    for _ in 0..4 {
        served.stop_and_restart();
        assert_eq!(phase(&served, "nomogram"), ("1.2.0".into(), "trying".into()));
    }
    for _ in 0..2 {
        served.kill_and_restart();
        assert_eq!(phase(&served, "nomogram"), ("1.2.0".into(), "trying".into()));
    }
    served.kill_and_restart();
    let left = heard.event("model.rolled-back");
    assert!(left["sentence"].as_str().unwrap().contains("3 times in a row"), "{left}");
    assert_eq!(phase(&served, "nomogram").0, "0.2.0");
    // It is remembered.
    let folder = spread(&served.folder.join("package"), &nomogram("1.2.0", &[])).display().to_string();
    assert_eq!(code(model(&served, &["install", &folder])), "model.known-bad");
    model(&served, &["install", &folder, "--again"]).unwrap();
}
