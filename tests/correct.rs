//! Labels that a person corrected, in `analyze` and in the store; and what tells models apart.

use crate::common::{Folder, reference, run};
use crate::line::{Heard, Served, free_port, high, mosquitto, series, storescu, wait_for_state, write};
use metwatch::volume::{decode_image, encode_nifti};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// A label map without the tumor, and with the liver's lesions as liver.
fn without_tumor(labels: &Path, to: &Path) {
    let image = decode_image(&std::fs::read(labels).expect("labels were written")).expect("an image");
    let mut values = image.to_labels().expect("labels");
    assert!(values.iter().any(|v| *v == 4), "the network found a tumor");
    values.mapv_inplace(|v| match v {
        4 => 3,
        2 => 1,
        v => v,
    });
    std::fs::write(to, encode_nifti(values.view(), &image.geometry).expect("labels encode")).unwrap();
}

fn codes(result: &Value, of: &str) -> Vec<String> {
    let remarks = result[of].as_array().expect("a list");
    remarks.iter().map(|r| r["code"].as_str().unwrap_or_default().to_string()).collect()
}

fn study(served: &Served) -> Value {
    let (code, out, stderr) =
        run(&["study", "show", "S000001", "--config", &served.folder.text("metwatch.toml"), "--json"]);
    assert_eq!(code, 0, "{stderr}");
    serde_json::from_str(&out).expect("JSON")
}

#[test]
fn corrected_labels_supersede_the_result_and_the_audit_names_who_and_why() {
    let port = free_port();
    let _broker = mosquitto(port);
    let mut served = Served::start("correct", port, 1, 5);
    served.drop_clinical(&high("PAT-K"));
    storescu(served.dicom, &write(&served.folder.join("a"), &series(21, "PAT-K")));
    let config = served.folder.text("metwatch.toml");
    wait_for_state(&served, "S000001", "scored");
    let before = study(&served);
    assert_eq!(before["result"]["assessment"]["variant"], "complete");
    let (labels, edited) = (served.folder.join("results/S000001/labels.nii.gz"), served.folder.join("edited.nii.gz"));
    without_tumor(&labels, &edited);
    let reanalyze = |by: &str, labels: &Path| {
        let labels = labels.display().to_string();
        let reason = "the mark was a haustrum";
        run(&[
            "study",
            "reanalyze",
            "s000001",
            "--labels",
            &labels,
            "--by",
            by,
            "--reason",
            reason,
            "--config",
            &config,
        ])
    };

    // Beside the running service nothing is touched, and the message says what to do.
    let (code, _, stderr) = reanalyze("Dr. Reader", &edited);
    assert!(code == 1 && stderr.contains("store.locked") && stderr.contains("stop the service"), "{code} {stderr}");
    served.kill();

    // Labels of another patient, and nobody's labels.
    let elsewhere = reference("totalsegmentator/example_ct_labels.nii.gz");
    let (code, _, stderr) = reanalyze("Dr. Reader", &elsewhere);
    assert!(code == 1 && stderr.contains("labels."), "{code} {stderr}");
    assert!(reanalyze(" ", &edited).2.contains("reanalyze.text"));
    assert_eq!(study(&served)["revision"], 1);

    let (code, stdout, stderr) = reanalyze("Dr. Reader", &edited);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("revision 2"), "{stdout}");
    let after = study(&served);
    let result = &after["result"];
    assert_eq!((&after["revision"], &result["revision"]), (&Value::from(2), &Value::from(2)));
    assert_eq!(result["assessment"]["variant"], "complete_without_tumor", "{result}");
    let note = result["notes"].as_array().unwrap().iter().find(|n| n["code"] == "labels.corrected").expect("a note");
    let sentence = note["sentence"].as_str().unwrap();
    assert!(sentence.contains("Dr. Reader") && sentence.contains("haustrum") && sentence.contains("superseded"));
    let tumor = result["regions"].as_array().unwrap().iter().find(|r| r["region"] == "colorectal_tumor").unwrap();
    assert_eq!(tumor["n_voxels"], 0);
    let read = |name: &str| {
        let path = served.folder.join("store").join(after["artifacts"][name].as_str().expect("an artifact"));
        std::fs::read(path).expect("it is there")
    };
    assert_eq!(
        decode_image(&read("labels.nii.gz")).unwrap().to_labels().unwrap(),
        decode_image(&std::fs::read(&edited).unwrap()).unwrap().to_labels().unwrap()
    );
    // The files of the first revision are still there, and its structured report is named as the predecessor.
    for name in ["labels.nii.gz", "result.json", "measurements.dcm"] {
        let old = served.folder.join("store").join(before["artifacts"][name].as_str().unwrap());
        assert!(old.exists() && before["artifacts"][name] != after["artifacts"][name], "{name}");
    }
    let uid = |bytes: &[u8]| metwatch::dicom::parse_header(bytes).expect("DICOM").sop_instance_uid.as_str().to_string();
    let earlier =
        std::fs::read(served.folder.join("store").join(before["artifacts"]["measurements.dcm"].as_str().unwrap()));
    let earlier = uid(&earlier.unwrap());
    let report = read("measurements.dcm");
    assert!(report.windows(earlier.len()).any(|w| w == earlier.as_bytes()), "no predecessor {earlier}");

    assert_eq!(
        (&after["superseded"][0]["revision"], &after["superseded"][0]["state"]),
        (&Value::from(1), &Value::from("scored"))
    );
    assert!(stdout.contains("earlier   revision 1 (scored), superseded"), "{stdout}");

    let (code, text, stderr) = run(&["audit", "verify", "--config", &config]);
    assert_eq!(code, 0, "{stderr}");
    assert!(text.contains("the audit chain holds"), "{text}");

    // The service sends it when it runs again, and asks for nothing twice.
    let mut heard = Heard::listen(port);
    served.kill_and_restart();
    let (_, message) = heard.wait("the corrected result", Duration::from_secs(60), |t, v| {
        t.ends_with("/result/S000001") && v["revision"] == 2
    });
    assert_eq!(message["variant"], "complete_without_tumor");
    assert!(message["notes"].to_string().contains("Dr. Reader"), "{message}");
}

#[test]
fn analyze_takes_labels_in_place_of_the_network() {
    let folder = Folder::new("supplied");
    let size = ["--size", "96,96,60", "--spacing-mm", "4,4,5"];
    let (code, _, stderr) = run(&[&["phantom", "--seed", "4", "--out", &folder.text("p")], &size[..]].concat());
    assert_eq!(code, 0, "{stderr}");
    let analyze = |out: &str, more: &[&str]| {
        let (ct, out) = (folder.text("p/ct.nii.gz"), folder.text(out));
        let (code, _, stderr) = run(&[&["analyze", &ct, "--out", &out, "--model", "phantom"], more].concat());
        assert_eq!(code, 0, "{stderr}");
        let text = std::fs::read_to_string(Path::new(&out).join("result.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let truth = analyze("truth", &["--labels", &folder.text("p/labels.nii.gz")]);
    assert_eq!(truth["assessment"]["variant"], "image");
    assert!(codes(&truth, "notes").contains(&"labels.supplied".to_string()));
    // The true volumes, to the voxel.
    let labels = decode_image(&std::fs::read(folder.join("p/labels.nii.gz")).unwrap()).unwrap().to_labels().unwrap();
    let n = labels.iter().filter(|v| **v == 4).count();
    let tumor = truth["regions"].as_array().unwrap().iter().find(|r| r["region"] == "colorectal_tumor").unwrap();
    assert_eq!(tumor["n_voxels"], n);

    without_tumor(&folder.join("p/labels.nii.gz"), &folder.join("none.nii.gz"));
    let none = analyze("none", &["--labels", &folder.text("none.nii.gz")]);
    assert_eq!(none["assessment"]["variant"], "image_without_tumor", "{none}");
    assert!(codes(&none, "notes").contains(&"gate.no-tumor".to_string()));

    // What a value means can be said; what nobody explained is refused.
    let mapped = analyze(
        "mapped",
        &["--labels", &folder.text("none.nii.gz"), "--label", "1=liver", "--label", "3=colorectal_tumor"],
    );
    assert_eq!(mapped["assessment"]["variant"], "image");
    let (ct, labels, out) = (folder.text("p/ct.nii.gz"), folder.text("none.nii.gz"), folder.text("bad"));
    let (code, _, stderr) = run(&["analyze", &ct, "--labels", &labels, "--label", "1=liver", "--out", &out]);
    assert!(code == 1 && stderr.contains("labels.unknown") && stderr.contains('3'), "{stderr}");
}

#[test]
fn models_are_tested_and_compared() {
    let (code, out, stderr) = run(&["model", "self-test", "phantom", "--json"]);
    assert_eq!(code, 0, "{out}{stderr}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["passed"], true);
    assert!(report["checks"].as_array().unwrap().len() >= 7, "golden vectors, and three regions of two phantoms");

    let folder = Folder::new("compare");
    for (name, seed) in [("one", "311"), ("two", "312")] {
        let size = ["--size", "96,96,60", "--spacing-mm", "4,4,5"];
        let out = folder.text(&format!("p/{name}"));
        let (code, _, stderr) = run(&[&["phantom", "--seed", seed, "--out", &out], &size[..]].concat());
        assert_eq!(code, 0, "{stderr}");
        for (from, to) in [("ct.nii.gz", "images"), ("labels.nii.gz", "labels")] {
            std::fs::create_dir_all(folder.join(to)).unwrap();
            let to = folder.join(to).join(format!("{name}.nii.gz"));
            std::fs::copy(Path::new(&out).join(from), to).unwrap();
        }
    }
    let (images, labels, page) = (folder.text("images"), folder.text("labels"), folder.text("report.html"));
    let compare = ["model", "compare", "phantom", "models/segmenter-phantom", "--images", &images];
    let (code, out, stderr) = run(&[&compare[..], &["--labels", &labels, "--out", &page, "--json"]].concat());
    assert_eq!(code, 0, "{stderr}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let cases = report["cases"].as_array().unwrap();
    assert_eq!(cases.iter().map(|c| c["case"].as_str().unwrap()).collect::<Vec<_>>(), ["one", "two"]);
    let pairs = |what: &str| {
        let all = cases.iter().flat_map(|c| c["pairs"].as_array().unwrap());
        all.filter(|p| p["compared"] == what && p["region"] == "liver")
            .map(|p| p["dice"].as_f64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(pairs("A - B"), [1.0, 1.0], "the same package twice");
    assert!(pairs("A - labels").iter().all(|dice| (0.9..0.999).contains(dice)), "{:?}", pairs("A - labels"));
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.matches("data:image/png;base64,").count() >= 12, "two cases, two views, three label maps");
    assert!(html.contains("demonstration, not for clinical use"));
    let (code, out, _) = run(&compare);
    assert!(code == 0 && out.contains("A - B") && out.contains("mean of 2"), "{out}");
    std::fs::create_dir(folder.join("others")).unwrap();
    std::fs::copy(folder.join("labels/one.nii.gz"), folder.join("others/three.nii.gz")).unwrap();
    let (code, _, stderr) = run(&[&compare[..], &["--labels", &folder.text("others")]].concat());
    assert!(code == 1 && stderr.contains("compare.no-labels"), "{stderr}");
}

/// A self-test that cannot hold fails with 1 and names the check.
#[test]
fn a_failed_self_test_is_named() {
    let folder = Folder::new("self-test");
    for entry in std::fs::read_dir("models/segmenter-phantom").unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.join(path.file_name().unwrap().to_str().unwrap())).unwrap();
    }
    let manifest = folder.join("manifest.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("dice_min = 0.95", "dice_min = 0.9999").replace("[1, 2]", "[1]")).unwrap();
    let (code, out, stderr) = run(&["model", "self-test", &folder.text("")]);
    assert!(code == 1 && out.contains("FAIL") && out.contains("phantom 1, liver"), "{out}");
    assert!(stderr.contains("model.self-test"), "{stderr}");
}
