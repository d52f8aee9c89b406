//! The series rules and the choice among series, as `metwatch series explain` and the service tell them.

use crate::common::{Folder, reference, run};
use crate::line::{Heard, Served, free_port, mosquitto, storescu, wait_for_state};
use crate::made::Made;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

fn explain(folder: &Path, config: Option<&Path>) -> Value {
    let mut args = vec!["series", "explain", folder.to_str().unwrap(), "--json"];
    if let Some(config) = config {
        args.extend(["--config", config.to_str().unwrap()]);
    }
    let (code, stdout, stderr) = run(&args);
    assert_eq!(code, 0, "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

/// Codes of the findings of a rule, and how it ended.
fn rule(series: &Value, number: usize) -> (String, Vec<String>) {
    let rule = &series["rules"][number - 1];
    assert_eq!(rule["number"], number);
    let codes = rule["findings"].as_array().unwrap().iter().map(|f| f["code"].as_str().unwrap().to_string());
    (rule["outcome"].as_str().unwrap().to_string(), codes.collect())
}

/// Each rule with data made odd in one thing: the verdict, the rule and the code that tells.
#[test]
fn each_rule_has_its_verdict_code_and_sentence() {
    let folder = Folder::new("rules");
    let base = Made::default;
    let without = |left_out: &[usize]| (0..40).filter(|k| !left_out.contains(k)).collect::<Vec<_>>();
    let cases: Vec<(&str, Vec<Made>, &str, usize, &str)> = vec![
        ("fine", vec![base()], "ACCEPT", 1, ""),
        ("kernels", vec![base(), Made { part: 2, kernel: "B70f", ..base() }], "REJECT", 1, "series.several-stacks"),
        (
            "few of another kernel",
            vec![base(), Made { part: 2, kernel: "B70f", slices: (0..22).collect(), ..base() }],
            "NOTE",
            1,
            "series.stacks-left-out",
        ),
        ("mr", vec![Made { modality: "MR", ..base() }], "REJECT", 2, "series.not-ct"),
        ("scout", vec![Made { image_type: "ORIGINAL\\PRIMARY\\LOCALIZER", ..base() }], "REJECT", 2, "series.localizer"),
        ("mip", vec![Made { image_type: "DERIVED\\SECONDARY\\MIP", ..base() }], "REJECT", 2, "series.derived"),
        ("lossy", vec![Made { lossy: true, ..base() }], "REJECT", 2, "series.lossy"),
        ("jpeg", vec![Made { syntax: "1.2.840.10008.1.2.4.51", ..base() }], "REJECT", 2, "series.lossy"),
        (
            "localizer beside",
            vec![base(), Made { part: 2, slices: vec![50], image_type: "ORIGINAL\\PRIMARY\\LOCALIZER", ..base() }],
            "NOTE",
            2,
            "series.objects-left-out",
        ),
        ("skew", vec![Made { orientation: "1\\0\\0\\0.2\\0.9\\0", ..base() }], "REJECT", 3, "series.cosines"),
        ("twice", vec![base(), Made { part: 2, ..base() }], "REJECT", 4, "series.duplicates"),
        ("gap", vec![Made { slices: without(&[17, 18]), ..base() }], "REJECT", 5, "series.missing-slice"),
        (
            "every other",
            vec![Made { slices: without(&[1, 3, 4, 8, 9, 15, 21, 22, 24, 30, 31, 33]), ..base() }],
            "REJECT",
            5,
            "series.variable-spacing",
        ),
        ("tilted", vec![Made { drift_mm: 0.7, ..base() }], "NOTE", 6, "series.tilt"),
        ("tilted too much", vec![Made { drift_mm: 4.0, ..base() }], "REJECT", 6, "series.tilt"),
        ("few", vec![Made { slices: (0..10).collect(), ..base() }], "REJECT", 7, "series.too-few-slices"),
        ("short", vec![Made { spacing_mm: 2.0, ..base() }], "REJECT", 7, "series.short-extent"),
        ("thick", vec![Made { thickness: "8", ..base() }], "REJECT", 7, "series.thick-slices"),
        ("slope", vec![Made { slope: "0", ..base() }], "REJECT", 8, "series.no-hu"),
        (
            "coronal",
            vec![Made { orientation: "1\\0\\0\\0\\0\\-1", drift_mm: 5.0, spacing_mm: 0.0, ..base() }],
            "REJECT",
            9,
            "series.not-axial",
        ),
        (
            "enhanced",
            vec![Made { class: "1.2.840.10008.5.1.4.1.1.2.1", slices: vec![0], ..base() }],
            "REJECT",
            2,
            "series.no-geometry",
        ),
        (
            "two patients",
            vec![base(), Made { part: 2, patient: "OTHER", slices: vec![60], ..base() }],
            "REJECT",
            11,
            "series.mixed-patients",
        ),
    ];
    for (name, parts, verdict, number, code) in cases {
        let place = folder.join(name);
        parts.iter().for_each(|part| _ = part.write(&place));
        let told = explain(&place, None);
        let series = &told["studies"][0]["series"][0];
        assert_eq!(series["verdict"], verdict, "{name}: {series:#}");
        let (outcome, codes) = rule(series, number);
        match (verdict, code) {
            (_, "") => assert!(series["rules"].as_array().unwrap().iter().all(|r| r["outcome"] != "broken"), "{name}"),
            ("NOTE", code) => assert!(outcome == "note" && codes.contains(&code.into()), "{name}: {outcome} {codes:?}"),
            (_, code) => {
                assert!(outcome == "broken" && codes.contains(&code.into()), "{name}: {outcome} {codes:?}");
                assert_eq!(series["reasons"][0]["code"], code, "{name}");
                assert!(series["reasons"][0]["sentence"].as_str().unwrap().len() > 20, "{name}");
                assert!(series["advice"].as_str().unwrap().len() > 10, "{name}");
            }
        }
        let chosen = told["studies"][0]["choice"]["series_instance_uid"].is_string();
        assert_eq!(chosen, verdict != "REJECT", "{name}: {}", told["studies"][0]["choice"]);
    }
}

#[test]
fn real_series_have_the_verdicts_that_people_gave_them() {
    let head = explain(&reference("dicom_oddities/ge_head_variable_tilt"), None);
    let series = &head["studies"][0]["series"][0];
    assert_eq!(
        (&series["verdict"], &series["reasons"][0]["code"]),
        (&"REJECT".into(), &"series.variable-spacing".into())
    );
    assert_eq!(rule(series, 5).0, "broken");
    assert_eq!(rule(series, 7).0, "not reached");
    assert_eq!(head["studies"][0]["choice"]["code"], "choice.none");

    let liver = explain(&reference("crlm_ct/CRLM-CT-1004"), None);
    let series = &liver["studies"][0]["series"][0];
    assert_eq!(
        (&series["verdict"], &series["images"], &series["kernel"]),
        (&"ACCEPT".into(), &41.into(), &"STANDARD".into())
    );
    assert!((series["slice_spacing_mm"].as_f64().unwrap() - 5.0).abs() < 1e-9);
    assert_eq!(liver["studies"][0]["choice"]["code"], "choice.only");

    // Two frames that call themselves a reformat.
    let enhanced = explain(&reference("pydicom_data/eCT_Supplemental.dcm"), None);
    let series = &enhanced["studies"][0]["series"][0];
    assert_eq!(series["images"], 2);
    assert_eq!((&series["verdict"], rule(series, 2).0.as_str()), (&"REJECT".into(), "broken"));
    assert_eq!(series["reasons"][0]["code"], "series.derived");
}

/// A study with four reconstructions.
fn study(folder: &Path) {
    let base = Made::default;
    let all = [
        Made {
            series: "1.2.3.1",
            number: "1",
            description: "Topogram",
            image_type: "ORIGINAL\\PRIMARY\\LOCALIZER",
            slices: vec![0],
            ..base()
        },
        Made { series: "1.2.3.2", number: "2", description: "Abd arterial", ..base() },
        Made { series: "1.2.3.3", number: "3", description: "Abd portal venous", ..base() },
        Made { series: "1.2.3.4", number: "4", description: "Lung portal venous", kernel: "B70f", ..base() },
    ];
    all.iter().for_each(|made| _ = made.write(folder));
}

#[test]
fn the_configuration_chooses_the_series_and_the_table_says_why() {
    let folder = Folder::new("choice");
    study(&folder.join("study"));
    std::fs::write(folder.join("study/notes.txt"), "no DICOM").unwrap();
    let told = explain(&folder.join("study"), None);
    assert_eq!(told["studies"][0]["series"].as_array().unwrap().len(), 4);
    assert_eq!(told["studies"][0]["choice"]["series_instance_uid"], "1.2.3.3");
    assert_eq!(told["left_out"][0]["code"], "dicom.not-dicom");

    let config = |rules: &str| {
        let text = format!(
            "[store]\ndirectory = \"{0}\"\n[dicom]\n[alert]\nsite = \"test\"\nbox_id = \"box\"\n[series]\nchoose = [{rules}]\n",
            folder.text("store")
        );
        std::fs::write(folder.join("box.toml"), text).unwrap();
        let told = explain(&folder.join("study"), Some(&folder.join("box.toml")));
        let choice = &told["studies"][0]["choice"];
        (
            choice["series_instance_uid"].as_str().unwrap_or("none").to_string(),
            choice["code"].as_str().unwrap().to_string(),
        )
    };
    assert_eq!(config("{ phase = \"arterial\" }"), ("1.2.3.2".into(), "choice.rule".into()));
    assert_eq!(config("{ description = [\"lung*\"], kernel = [\"b7*\"] }"), ("1.2.3.4".into(), "choice.rule".into()));
    assert_eq!(config("{ description = [\"*venous*\"] }"), ("none".into(), "choice.several".into()));
    assert_eq!(config("{ thickness_mm = [0.5, 1] }"), ("none".into(), "choice.several".into()));

    let (code, text, _) = run(&["series", "explain", &folder.text("study")]);
    assert_eq!(code, 0);
    for part in [
        "122 files: 4 series in 1 study, 1 file left out",
        "=> ACCEPT  series 3 \"Abd portal venous\"",
        "REJECT  series 1 \"Topogram\"",
        "the series holds localizers only",
        "40 images of 64 x 64 pixels, pixels of 5.000 x 5.000 mm, 5.00 mm apart, over 195 mm, 5 mm thick",
        "=> series 3 \"Abd portal venous\" would be analysed: it is the only acceptable series of the study that fits the rule \"portal venous, soft kernel, 2 to 5 mm\"",
    ] {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
    let out = folder.text("out");
    let (code, _, stderr) = run(&["analyze", &folder.text("study"), "--out", &out, "--json"]);
    assert_eq!(code, 0, "{stderr}");
}

/// The service waits for the whole study, analyzes the chosen series and keeps the others without an alarm.
#[test]
fn the_service_analyzes_the_chosen_series_of_a_study() {
    let port = free_port();
    let _broker = mosquitto(port);
    let mut heard = Heard::listen(port);
    let served = Served::start("choose", port, 2, 6);
    // The arterial series is complete before the portal venous one begins to arrive.
    let base = Made::default;
    let arterial = Made { series: "1.2.3.2", number: "2", description: "Abd arterial", ..base() };
    let portal = Made { series: "1.2.3.3", number: "3", description: "Abd portal venous", ..base() };
    storescu(served.dicom, &arterial.write(&served.folder.join("arterial")));
    storescu(served.dicom, &portal.write(&served.folder.join("portal")));
    // Water is no liver: the gate refuses it, which is an analysis; the arterial series never comes so far.
    let (_, event) = heard.wait("the end of the portal series", Duration::from_secs(40), |t, v| {
        t.contains("/event/") && v["study"] == "S000002"
    });
    assert_ne!(event["code"], "series.not-chosen");
    let shown = wait_for_state(&served, "S000001", "rejected");
    assert_eq!(shown["state"]["code"], "series.not-chosen");
    assert!(shown["state"]["sentence"].as_str().unwrap().contains("S000002"), "{shown}");
}

/// A gap waits until T2, is announced as incomplete, and the late slice makes a new revision; a restart in between
/// changes nothing.
#[test]
fn a_gap_waits_is_announced_and_a_late_slice_makes_a_revision() {
    let port = free_port();
    let _broker = mosquitto(port);
    let mut heard = Heard::listen(port);
    let mut served = Served::start("late", port, 1, 4);
    let whole = Made::default();
    let gap = Made { slices: (0..40).filter(|k| *k != 20).collect(), ..whole.clone() };
    let sent = std::time::Instant::now();
    storescu(served.dicom, &gap.write(&served.folder.join("gap")));
    served.kill_and_restart();
    let event = heard.event("series.missing-slice");
    assert!(sent.elapsed() >= Duration::from_secs(4), "a gap waits until T2");
    let sentence = event["sentence"].as_str().unwrap();
    assert!(sentence.starts_with("INCOMPLETE: slices 19 and 20 lie 10.00 mm apart"), "{sentence}");
    assert_eq!(wait_for_state(&served, "S000001", "rejected")["n_objects"], 39, "what came is kept");

    storescu(served.dicom, &Made { slices: vec![20], ..whole }.write(&served.folder.join("late")));
    let (_, event) = heard.wait("the end of the second revision", Duration::from_secs(40), |t, v| {
        t.contains("/event/") && v["study"] == "S000001" && v["code"] != "series.missing-slice"
    });
    assert_ne!(event["code"], "series.missing-slice");
    let shown = wait_for_state(&served, "S000001", "rejected");
    assert_eq!((&shown["revision"], &shown["n_objects"]), (&2.into(), &40.into()));
}
