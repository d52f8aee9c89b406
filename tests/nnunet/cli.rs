//! `metwatch model import-nnunet` and `metwatch segment` as a person uses them.

use super::equality::folder;
use crate::common::{Folder, run};
use metwatch::volume::decode_image;
use serde_json::Value;

/// Imports a model into a folder of its own; the package's path.
fn import(to: &Folder, model: &str, more: &[&str]) -> String {
    let (results, out) = (folder(model).display().to_string(), to.text("package"));
    let mut args = vec!["model", "import-nnunet", &results, "--onnx", &results, "--out", &out];
    args.extend(more);
    let (code, stdout, stderr) = run(&args);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("demonstration, not for clinical use") && stdout.contains("the exporter's"), "{stdout}");
    out
}

fn image(model: &str, channel: usize) -> String {
    folder(model).join(format!("image_{channel:04}.nii.gz")).display().to_string()
}

#[test]
fn a_trained_folder_becomes_a_package_that_segments() {
    let to = Folder::new("nnunet-3d");
    let package = import(&to, "3d", &[]);
    let (labels, p) = (to.text("labels.nii.gz"), to.text("p.nii.gz"));
    let (code, stdout, stderr) = run(&[
        "segment",
        &image("3d", 0),
        "--model",
        &package,
        "--out",
        &labels,
        "--probabilities",
        &p,
        "--json",
        "--threads",
        "1",
    ]);
    assert_eq!(code, 0, "{stderr}");
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(report["labels"], serde_json::json!({ "liver": 1, "liver_lesion": 2 }));
    for time in ["load_ms", "read_ms", "prepare_ms", "network_ms", "finish_ms", "segment_ms", "write_ms"] {
        assert!(report[time].as_f64().is_some_and(|ms| ms >= 0.0), "{time}: {stdout}");
    }
    assert!(report["volumes_ml"]["liver"].as_f64() > Some(1.0), "{stdout}");
    let read = |file: &str| decode_image(&std::fs::read(file).expect("written")).expect("NIfTI");
    let (found, source) = (read(&labels), read(&image("3d", 0)));
    assert_eq!(found.geometry.size, source.geometry.size);
    let expected = decode_image(&std::fs::read(folder("3d").join("labels_postprocessed.nii.gz")).unwrap()).unwrap();
    let (found, expected) = (found.to_labels().unwrap(), expected.to_labels().unwrap());
    let differ = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
    assert!(differ * 1000 <= found.len(), "{differ} voxels differ");
    // Four axes, as the header says.
    let error = decode_image(&std::fs::read(&p).unwrap()).expect_err("three axes are read here");
    assert!(error.to_string().contains("3 values along dimension 4"), "{error}");
}

#[test]
fn channels_come_in_order_and_a_missing_one_is_named() {
    let to = Folder::new("nnunet-two");
    let package = import(&to, "two", &[]);
    let out = to.text("labels.nrrd");
    let (code, _, stderr) = run(&["segment", &image("two", 0), "--model", &package, "--out", &out]);
    assert_eq!(code, 1);
    assert!(stderr.contains("segment.channels") && stderr.contains("CT, MRI"), "{stderr}");
    let args = ["segment", &image("two", 0), "--channel", &image("two", 1), "--model", &package, "--out", &out];
    let (code, stdout, stderr) = run(&args);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("liver"), "{stdout}");
    decode_image(&std::fs::read(&out).unwrap()).expect("NRRD by its ending").to_labels().expect("labels");
}

#[test]
fn a_dry_run_says_what_would_be_done_and_writes_nothing() {
    let to = Folder::new("nnunet-dry");
    let package = import(&to, "2d", &[]);
    let (code, stdout, stderr) = run(&["segment", &image("2d", 0), "--model", &package, "--dry-run", "--json"]);
    assert_eq!(code, 0, "{stderr}");
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(report["estimate"]["grid"], serde_json::json!([23, 60, 53]));
    assert_eq!(report["estimate"]["passes_per_patch"], 4);
    let (code, stdout, _) = run(&["segment", &image("2d", 0), "--model", &package, "--dry-run", "--no-mirror"]);
    assert!(code == 0 && stdout.contains("each passed 1 times") && stdout.contains("MiB"), "{stdout}");
    // The model that ships knows its needs, too.
    let (code, stdout, _) = run(&["segment", &image("2d", 0), "--dry-run"]);
    assert!(code == 0 && stdout.contains("MiB"), "{stdout}");
}

#[test]
fn folders_without_their_files_are_told_by_file() {
    let to = Folder::new("nnunet-missing");
    for file in ["plans.json", "dataset.json"] {
        let results = to.join(&format!("without-{file}"));
        std::fs::create_dir_all(&results).unwrap();
        for name in ["plans.json", "dataset.json", "nnunet.json", "fold_0.onnx"] {
            if name != file {
                std::fs::copy(folder("2d").join(name), results.join(name)).unwrap();
            }
        }
        let path = results.display().to_string();
        let (code, _, stderr) = run(&["model", "import-nnunet", &path, "--onnx", &path, "--out", &to.text("p")]);
        assert_eq!(code, 1);
        assert!(stderr.contains(file) && stderr.contains("file.read") && stderr.contains("what to do"), "{stderr}");
    }
    let empty = to.join("empty");
    std::fs::create_dir_all(&empty).unwrap();
    let results = folder("2d").display().to_string();
    let (code, _, stderr) =
        run(&["model", "import-nnunet", &results, "--onnx", &empty.display().to_string(), "--out", &to.text("p")]);
    assert!(code == 1 && stderr.contains("no .onnx file"), "{stderr}");
    assert!(!to.join("p").exists(), "nothing is written before the package is known to be good");
}

#[test]
fn a_model_without_a_liver_segments_but_does_not_analyze() {
    let to = Folder::new("nnunet-regions");
    let package = import(&to, "regions", &[]);
    let (code, stdout, stderr) =
        run(&["segment", &image("regions", 0), "--model", &package, "--out", &to.text("labels.nii.gz")]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("enhancing") && stdout.contains("gate.no-liver-label"), "{stdout}");
    let (code, _, stderr) = run(&["analyze", &image("regions", 0), "--model", &package, "--out", &to.text("result")]);
    assert!(code == 1 && stderr.contains("no label for the liver"), "{stderr}");
    let (code, _, stderr) =
        run(&["model", "import-nnunet", "x", "--onnx", "y", "--out", "z", "--label", "whole=brain"]);
    assert!(code == 2 && stderr.contains("colorectal_tumor"), "{stderr}");
}
