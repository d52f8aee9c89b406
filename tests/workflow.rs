//! The Snakemake workflow over a folder of DICOM studies: 20 phantoms and one study that is none, and what an interruption costs.

use crate::common::{Folder, run};
use serde_json::Value;
use std::fs;
use std::process::Command;
use std::time::SystemTime;

const PHANTOMS: usize = 20;

const SPEC: &str = r#"
[study]
title = "Phantoms through the workflow"
outcome = "Metachronous liver metastasis"
simulated = true
[files]
clinical = "clinical.csv"
features = ["features.csv"]
parameters = "params.yaml"
[columns]
id = "patient_id"
[outcome]
event = "event"
[split]
column = "part"
training = ["training"]
[[candidates]]
name = "afp_ng_per_ml"
unit = "ng/mL"
kind = "log"
known = "laboratory"
[penalized]
folds = 3
[clinical_model]
univariable_p_max = 1.0
[validation]
bootstrap = 0
learning_curve = false
"#;

const PARAMETERS: &str = "imageType:\n  Original: {}\nfeatureClass:\n  firstorder:\nsetting:\n  binWidth: 10\n";

/// Studies, clinical table, specification and parameters; the study `broken` holds no DICOM.
fn lay_out(folder: &Folder) {
    let mut clinical = String::from("patient_id,part,event,afp_ng_per_ml\n");
    for i in 0..PHANTOMS {
        let (name, scratch) = (format!("P{i:02}"), folder.text("scratch"));
        let seed = i.to_string();
        let size = ["--size", "192,192,80", "--spacing-mm", "2,2,4"];
        let (code, _, err) = run(&[&["phantom", "--seed", &seed, "--out", &scratch, "--dicom"], &size[..]].concat());
        assert_eq!(code, 0, "{err}");
        fs::create_dir_all(folder.join("studies")).expect("a folder");
        fs::rename(folder.join("scratch/dicom"), folder.join("studies").join(&name)).expect("moved");
        let part = if i < 14 { "training" } else { "validation" };
        clinical += &format!("{name},{part},{},{}\n", i % 2, 2.0 + (i * 7 % 11) as f64 / 3.0);
    }
    fs::create_dir_all(folder.join("studies/broken")).expect("a folder");
    fs::write(folder.join("studies/broken/readme.txt"), "no DICOM").expect("written");
    clinical += "broken,training,0,3.1\n";
    for (name, text) in [("clinical.csv", clinical.as_str()), ("SPEC.toml", SPEC), ("params.yaml", PARAMETERS)] {
        fs::write(folder.join(name), text).expect("written");
    }
}

/// Runs the workflow in a folder with the shipped configuration; its last lines, if it fails.
fn snakemake(folder: &Folder) {
    let python = std::env::var("METWATCH_TEST_PYTHON").expect("tests/run sets METWATCH_TEST_PYTHON");
    let workflow = fs::canonicalize("workflow/Snakefile").expect("the workflow is in the repository");
    let binary = format!("metwatch={}", env!("CARGO_BIN_EXE_metwatch"));
    let output = Command::new(python)
        .args(["-m", "snakemake", "--cores", "2", "--nocolor", "--quiet", "rules", "--snakefile"])
        .arg(workflow)
        .args(["--config", &binary])
        .current_dir(folder.path())
        .output()
        .expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn written(folder: &Folder, file: &str) -> SystemTime {
    fs::metadata(folder.join(file)).and_then(|m| m.modified()).unwrap_or_else(|e| panic!("{file}: {e}"))
}

#[test]
fn a_folder_of_studies_becomes_a_report_and_an_interruption_costs_one_study() {
    let folder = Folder::new("workflow");
    lay_out(&folder);
    snakemake(&folder);
    let results = fs::read_to_string(folder.join("out/cohort/results.json")).expect("results");
    let results: Value = serde_json::from_str(&results).expect("JSON");
    let flow = &results["flow"];
    let stayed: u64 = flow["parts"].as_array().expect("parts").iter().map(|p| p[1].as_u64().expect("n")).sum();
    assert_eq!((flow["in_clinical_table"].as_u64(), stayed), (Some(PHANTOMS as u64 + 1), PHANTOMS as u64), "{flow}");
    assert_eq!(flow["excluded"], serde_json::json!([["no features", 1]]));
    let table = fs::read_to_string(folder.join("out/features.csv")).expect("a table");
    let header = table.lines().next().expect("a header");
    for column in ["patient_id,", "liver_original_firstorder_Mean", "colorectal_tumor_original_firstorder_Entropy"] {
        assert!(header.contains(column), "{column} is not in {header}");
    }
    let log = fs::read_to_string(folder.join("out/logs/broken.segment.log")).expect("a log");
    assert!(log.contains("what to do"), "the reason stands in the log: {log}");

    let kept = ["out/labels/P03.nii.gz", "out/features/P03.liver.csv", "out/features/broken.liver.csv"];
    let anew = [
        "out/labels/P07.nii.gz",
        "out/features/P07.liver.csv",
        "out/features/P07.colorectal_tumor.csv",
        "out/features.csv",
        "out/cohort/report.html",
    ];
    let (kept_before, anew_before) = (kept.map(|f| written(&folder, f)), anew.map(|f| written(&folder, f)));
    snakemake(&folder);
    assert_eq!(anew.map(|f| written(&folder, f)), anew_before, "nothing to do, nothing done");
    // What an interruption in the middle of study P07 leaves: neither its files nor what comes after all studies.
    for file in &anew {
        fs::remove_file(folder.join(file)).expect("removed");
    }
    snakemake(&folder);
    assert_eq!(kept.map(|f| written(&folder, f)), kept_before, "other studies were made again");
    for (file, before) in anew.iter().zip(anew_before) {
        assert!(written(&folder, file) > before, "{file} was not made again");
    }
    assert_eq!(fs::read_to_string(folder.join("out/features.csv")).expect("a table"), table, "another result");
}
