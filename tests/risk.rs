//! The shipped nomogram package, and `metwatch score` as a person uses it.
#![expect(clippy::disallowed_methods, reason = "a test drives files and the shipped binary")]

use metwatch::risk::{Nomogram, Source, Status, assess, clinical_from_json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PACKAGE: &str = "models/nomogram-phantom";

fn package_files() -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(PACKAGE).expect("the package is in the repository").map(|e| e.expect("readable"));
    entries.map(|e| (e.file_name().into_string().expect("UTF-8"), std::fs::read(e.path()).expect("readable"))).collect()
}

fn shipped() -> Nomogram {
    Nomogram::from_files(&package_files()).expect("the shipped package is whole and reproduces its golden vectors")
}

/// Each radiomic predictor at its training mean.
fn average(nomogram: &Nomogram) -> impl Fn(&str, &str) -> Option<f64> {
    |wanted_region, wanted| {
        nomogram.predictors.iter().find_map(|p| match &p.source {
            Source::Radiomic { region, feature } if region == wanted_region && feature == wanted => Some(p.center),
            _ => None,
        })
    }
}

#[test]
fn the_shipped_nomogram_says_that_it_is_simulated() {
    let nomogram = shipped();
    assert!(nomogram.cohort.contains("SIMULATED") && nomogram.outcome.contains("SIMULATED"));
    assert!(nomogram.variants.iter().all(|v| v.prior.statement.contains("SIMULATED")));
    let finals: Vec<_> =
        nomogram.variants.iter().filter(|v| v.status == Status::Final).map(|v| v.name.as_str()).collect();
    assert_eq!(finals, ["complete"]);
}

#[test]
fn any_changed_byte_of_the_shipped_package_is_refused() {
    let whole = package_files();
    for (name, bytes) in &whole {
        for at in (0..bytes.len()).step_by(bytes.len() / 40 + 1) {
            let mut changed = whole.clone();
            changed.get_mut(name).expect("it is there")[at] ^= 1;
            assert!(Nomogram::from_files(&changed).is_err(), "byte {at} of {name}");
        }
    }
}

#[test]
fn the_shipped_nomogram_goes_from_image_to_complete_as_values_arrive() {
    let nomogram = shipped();
    let variant = |clinical: &str| {
        let (_, values) = clinical_from_json(clinical).expect("valid");
        let result = assess(&nomogram, average(&nomogram), &values).expect("assessed");
        let sum: f64 = result.contributions.iter().map(|c| c.log_odds).sum();
        assert!((sum - (result.linear_predictor - result.base_linear_predictor)).abs() < 1e-12);
        result.variant
    };
    assert_eq!(variant("{}"), "image");
    assert_eq!(variant(r#"{"afp_ng_per_ml": 3}"#), "image_laboratory");
    assert_eq!(
        variant(r#"{"afp_ng_per_ml": 3, "dissected_lymph_nodes": 15, "perineural_invasion": false}"#),
        "image_laboratory"
    );
    let all =
        r#"{"afp_ng_per_ml": 3, "dissected_lymph_nodes": 15, "perineural_invasion": false, "tumor_nodules": false}"#;
    assert_eq!(variant(all), "complete");
    // Without a tumor on the scan the variants without tumor features speak, say so, and never use one.
    let without_tumor = |clinical: &str| {
        let (_, values) = clinical_from_json(clinical).expect("valid");
        let result =
            assess(&nomogram, |r, f| average(&nomogram)(r, f).filter(|_| r == "liver"), &values).expect("assessed");
        assert!(result.contributions.iter().all(|c| !c.predictor.contains("tumor_original")), "{result:?}");
        assert!(result.notes.iter().any(|note| note.to_string().contains("colorectal_tumor_")), "{:?}", result.notes);
        assert_eq!(result.status, Status::Provisional);
        result.variant
    };
    assert_eq!(without_tumor("{}"), "image_without_tumor");
    assert_eq!(without_tumor(r#"{"afp_ng_per_ml": 3}"#), "image_laboratory_without_tumor");
    assert_eq!(without_tumor(all), "complete_without_tumor");
}

/// The relative difference is that of another processor's exp and ln, not of another table.
#[test]
fn the_shipped_nomogram_is_what_cohort_fit_makes_of_the_committed_tables() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("shipped_nomogram");
    let mut command = Command::new(env!("CARGO_BIN_EXE_metwatch"));
    command.args(["cohort", "fit", "--spec", "models/training/nomogram/SPEC.toml", "--out"]).arg(&folder);
    let output = command.output().expect("metwatch runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |name: &str| (name.to_owned(), std::fs::read(folder.join("nomogram").join(name)).expect("written"));
    let fitted = Nomogram::from_files(&[read("manifest.toml"), read("golden.json")].into()).expect("it loads");
    let shipped = shipped();
    let close = |a: f64, b: f64| assert!((a - b).abs() <= 1e-8 * b.abs().max(1e-3), "{a} is not {b}");
    assert_eq!(
        (&fitted.id, &fitted.version, &fitted.cohort, &fitted.radiomics),
        (&shipped.id, &shipped.version, &shipped.cohort, &shipped.radiomics)
    );
    assert_eq!((fitted.predictors.len(), fitted.variants.len()), (shipped.predictors.len(), shipped.variants.len()));
    for (f, s) in fitted.predictors.iter().zip(&shipped.predictors) {
        assert_eq!((&f.id, &f.source, f.transform, f.permitted), (&s.id, &s.source, s.transform, s.permitted));
        [f.center, f.scale].into_iter().zip([s.center, s.scale]).for_each(|(f, s)| close(f, s));
        f.training.into_iter().zip(s.training).for_each(|(f, s)| close(f, s));
    }
    for (f, s) in fitted.variants.iter().zip(&shipped.variants) {
        assert_eq!((&f.name, f.terms.len()), (&s.name, s.terms.len()));
        let numbers = |v: &metwatch::risk::Variant| {
            let terms = v.terms.iter().map(|t| t.coefficient);
            let baseline = v.baseline.survival.iter().copied().chain([v.baseline.slope, v.baseline.center]);
            terms.chain(baseline).chain([v.intercept, v.intermediate_from, v.high_from]).collect::<Vec<f64>>()
        };
        numbers(f).into_iter().zip(numbers(s)).for_each(|(f, s)| close(f, s));
    }
}

/// Writes a table with both regions at the training mean, and runs `metwatch score`.
fn score(test: &str, clinical: &str, flags: &[&str]) -> Output {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    let nomogram = shipped();
    let table: String = nomogram.predictors.iter().fold("id".to_owned(), |header, p| match &p.source {
        Source::Radiomic { region, feature } => format!("{header},{region}_{feature}"),
        Source::Clinical(_) => header,
    });
    let values: String = nomogram.predictors.iter().fold("7".to_owned(), |row, p| match &p.source {
        Source::Radiomic { .. } => format!("{row},{:?}", p.center),
        Source::Clinical(_) => row,
    });
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let (features, clinical) = (file("features.csv", &format!("{table}\n{values}\n")), file("clinical.json", clinical));
    let mut command = Command::new(env!("CARGO_BIN_EXE_metwatch"));
    command.arg("score").arg("--features").arg(features).arg("--clinical").arg(clinical);
    command.arg("--nomogram").arg(Path::new(PACKAGE)).args(flags).output().expect("metwatch runs")
}

#[test]
fn score_prints_a_table_and_json_with_the_disclaimer() {
    let table = score("score_table", r#"{"afp_ng_per_ml": 3.5}"#, &[]);
    let text = String::from_utf8_lossy(&table.stdout).to_lowercase();
    assert!(table.status.success(), "{}", String::from_utf8_lossy(&table.stderr));
    for part in [metwatch::DISCLAIMER, "provisional", "image_laboratory", "points", "simulated"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let json = score("score_json", r#"{"afp_ng_per_ml": 3.5}"#, &["--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["disclaimer"], metwatch::DISCLAIMER);
    assert_eq!(json["status"], "provisional");
    assert!(json["probability"].as_f64().is_some_and(|p| p > 0.0 && p < 1.0));
}

#[test]
fn score_refuses_an_unknown_key_by_name() {
    let refused = score("score_refused", r#"{"tumour_nodules": true}"#, &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stdout.is_empty(), "no risk beside an error");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("tumour_nodules"));
}
