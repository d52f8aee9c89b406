//! `metwatch model quantize`: an int8 package from phantoms, and what onnxruntime makes of it.

use crate::common::{Folder, run};
use serde_json::Value as Json;
use std::path::Path;
use std::process::Command;

const PARENT: &str = "models/segmenter-phantom";

/// Runs the package's network on its golden input in onnxruntime and prints the largest difference to the golden logits.
const PEER: &str = r#"
import json, sys
import numpy as np, onnxruntime
folder = sys.argv[1]
golden = json.load(open(folder + "/golden.json"))
x, s = np.empty(int(np.prod(golden["shape_zyx"])), np.float32), golden["seed"]
for k in range(x.size):
    s = (s * 6364136223846793005 + 1442695040888963407) % 2**64
    x[k] = np.float32((s >> 33) / 2**30 - 1.0)
session = onnxruntime.InferenceSession(folder + "/model.onnx", providers=["CPUExecutionProvider"])
logits = session.run(["logits"], {"input": x.reshape(1, 1, *golden["shape_zyx"])})[0].ravel()[:: golden["stride"]]
apart = np.abs(logits - np.array(golden["logits"]))
print(json.dumps({"worst": float(apart.max()), "mean": float(apart.mean()), "size": float(np.abs(logits).max()), "n": int(logits.size)}))
"#;

fn phantoms(folder: &Path) {
    for seed in ["31", "32"] {
        let out = folder.join(format!("case_{seed}")).display().to_string();
        let size = ["--size", "170,140,48", "--spacing-mm", "2.2,2.2,6.5"];
        let (code, _, stderr) = run(&[&["phantom", "--seed", seed, "--out", &out][..], &size].concat());
        assert_eq!(code, 0, "{stderr}");
    }
}

fn quantize(folder: &Folder, out: &str, more: &[&str]) -> (i32, String, String) {
    let volumes = folder.text("volumes");
    run(&[&["model", "quantize", PARENT, "--calibrate", &volumes, "--out", &folder.text(out)][..], more].concat())
}

#[test]
fn an_int8_package_is_made_from_volumes_measured_and_used() {
    let folder = Folder::new("quantize");
    phantoms(&folder.join("volumes"));
    let (code, stdout, stderr) = quantize(&folder, "int8", &["--json", "--max-dice-loss", "2"]);
    assert_eq!(code, 0, "{stderr}");
    let report: Json = serde_json::from_str(&stdout).expect("JSON");
    println!("{report:#}");
    assert_eq!((report["convolutions_int8"].as_u64(), report["convolutions_f32"].as_u64()), (Some(14), Some(0)));
    assert!(report["calibration"].as_str().is_some_and(|how| how.contains("2 volumes")));
    let liver = &report["dice"][0];
    let figure = |key: &str| liver[key].as_f64().expect("a number");
    assert_eq!(liver["label"], "liver");
    assert!(figure("int8_vs_f32") > 0.98 && figure("int8_vs_f32") < 1.0, "{liver}");
    // The truth lies beside: the parent knows phantoms, and the child as well.
    assert!(figure("f32_vs_truth") > 0.9 && (figure("f32_vs_truth") - figure("int8_vs_truth")).abs() < 0.02, "{liver}");

    let manifest = std::fs::read_to_string(folder.join("int8/manifest.toml")).expect("written");
    let manifest: toml::Table = manifest.parse().expect("TOML");
    assert_eq!(manifest["quantization"]["arithmetic"].as_str(), Some("int8"));
    let stored = manifest["metrics"]["int8_dice_liver_to_f32"].as_float().expect("a figure");
    assert!((stored - figure("int8_vs_f32")).abs() < 1e-4);
    assert!(manifest["metrics"].get("f32_dice_liver_to_truth").is_some());

    let image = folder.text("volumes/case_31/ct.nii.gz");
    let (code, _, stderr) =
        run(&["segment", &image, "--out", &folder.text("l.nii.gz"), "--model", &folder.text("int8")]);
    assert_eq!(code, 0, "{stderr}");

    let python = std::env::var("METWATCH_TEST_PYTHON").unwrap_or(".venv/bin/python".into());
    let peer = Command::new(python)
        .args(["-c", PEER, &folder.text("int8")])
        .output()
        .expect("METWATCH_TEST_PYTHON names a Python with onnxruntime");
    assert!(peer.status.success(), "{}", String::from_utf8_lossy(&peer.stderr));
    let peer: Json = serde_json::from_slice(&peer.stdout).expect("JSON");
    println!("beside onnxruntime: {peer}");
    // The Clip makes onnxruntime compute some layers in f32: bytes at a tie may fall to the other side.
    let [worst, mean, size] = ["worst", "mean", "size"].map(|key| peer[key].as_f64().expect("a number"));
    assert!(peer["n"].as_u64() > Some(100) && worst < 0.05 * size && mean < 0.002 * size, "{peer}");

    // The same again is the same package; a place that is taken is refused, and so is a package that is int8 already.
    assert_eq!(quantize(&folder, "again", &["--max-dice-loss", "2"]).0, 0);
    for name in ["model.onnx", "golden.json", "manifest.toml"] {
        let of = |package: &str| std::fs::read(folder.join(package).join(name)).expect("written");
        assert!(of("int8") == of("again"), "{name} differs");
    }
    let (code, _, stderr) = quantize(&folder, "int8", &[]);
    assert!(code == 1 && stderr.contains("quantize.out-taken"), "{stderr}");
    let (int8, volumes) = (folder.text("int8"), folder.text("volumes"));
    let (code, _, stderr) = run(&["model", "quantize", &int8, "--calibrate", &volumes, "--out", &folder.text("twice")]);
    assert!(code == 1 && stderr.contains("quantize.already"), "{stderr}");
}

#[test]
fn a_package_that_loses_more_than_the_limit_is_not_written() {
    let folder = Folder::new("quantize-loss");
    phantoms(&folder.join("volumes"));
    for case in ["case_31", "case_32"] {
        // Without truth, every voxel that differs from f32 counts.
        std::fs::remove_file(folder.join("volumes").join(case).join("labels.nii.gz")).expect("it was there");
    }
    let (code, _, stderr) = quantize(&folder, "int8", &["--max-dice-loss", "0.0001", "--range", "mse"]);
    assert!(code == 1 && stderr.contains("quantize.loss") && stderr.contains("no package was written"), "{stderr}");
    assert!(!folder.join("int8").exists());
    let empty = folder.text("empty");
    std::fs::create_dir(&empty).expect("writable");
    let (code, _, stderr) = run(&["model", "quantize", PARENT, "--calibrate", &empty, "--out", &folder.text("int8")]);
    assert!(code == 1 && stderr.contains("quantize.no-volume"), "{stderr}");
}
