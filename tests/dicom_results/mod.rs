//! The objects that carry a result into a PACS: written for a phantom, checked and read by others (dicom3tools, DCMTK, pydicom).
#![allow(clippy::disallowed_methods, reason = "tests own files and peers")]

mod pictures;
mod report;
mod segments_and_media;

use crate::common::Folder;
use metwatch::dicom::{
    self, ContributionReport, FeatureReport, Header, ObjectFile, PackageReport, PatientInfo, Picture, RegionReport,
    RemarkReport, Report, ResultError, ResultInfo, RiskReport, SegInfo, SeriesPlan, parse_header, plan_series,
};
use metwatch::risk::ClinicalKey;
use metwatch::volume::{Geometry, LabelMap, LabelScheme, Region, Volume};
use ndarray::Array3;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A phantom's series and the SEG of its labels.
struct Study {
    plan: SeriesPlan,
    slices: Vec<(String, Vec<u8>)>,
    seg: ObjectFile,
}

fn study() -> Study {
    let geometry = Geometry {
        size: [24, 20, 50],
        spacing_mm: [0.7, 0.8, 2.5],
        origin_mm: [-10.0, -20.0, 5.0],
        direction: Geometry::IDENTITY,
    };
    let hu = Array3::from_shape_fn((50, 20, 24), |(k, j, i)| ((k + j + i) as f32 * 17.0) % 1200.0 - 1000.0);
    let patient = PatientInfo {
        patient_id: "PHANTOM-1".into(),
        name: "Phantom^Jürgen".into(),
        birth_date: "19600101".into(),
        sex: "O".into(),
        accession_number: "ACC1".into(),
        study_date: "20260101".into(),
        study_time: "120000".into(),
        study_description: "Phantom".into(),
    };
    let slices = dicom::phantom_series(&Volume { hu, geometry }, &patient, 1);
    let headers: Vec<Header> = slices.iter().map(|(_, b)| parse_header(b).unwrap()).collect();
    let plan = plan_series(&headers).unwrap();
    let (_, seg) = label(&plan);
    Study { plan, slices, seg }
}

/// Labels on a plan's grid, and their SEG.
fn label(plan: &SeriesPlan) -> (LabelMap, ObjectFile) {
    let mut labels = Array3::<u8>::zeros(plan.geometry.shape_zyx());
    labels.slice_mut(ndarray::s![5..20, 2..12, 3..15]).fill(1);
    labels.slice_mut(ndarray::s![8..10, 4..6, 5..8]).fill(2);
    labels.slice_mut(ndarray::s![30..33, 7..9, 18..22]).fill(4);
    let entries = vec![
        (1, Region::Liver, "10200004".into()),
        (2, Region::LiverLesion, "108369006".into()),
        (3, Region::Colon, "71854001".into()),
        (4, Region::ColorectalTumor, "363406005".into()),
    ];
    let map = LabelMap { labels, geometry: plan.geometry.clone(), scheme: LabelScheme { entries } };
    let info = SegInfo {
        algorithm: "abdomen-phantom",
        version: "0.1.0",
        date: "20260102",
        time: "030405",
        series_number: 9001,
        uid_seed: b"test",
    };
    let seg = dicom::write_seg(&map, plan, &info).unwrap();
    (map, seg)
}

impl Study {
    fn headers(&self) -> Vec<&Header> {
        self.plan.slices.iter().map(|s| &s.header).collect()
    }
}

/// Name, value, unit, IBSI code: a public code, one that no CID has, ours, an undefined value, and a filtered image.
const FEATURES: [(&str, f64, &str, Option<&str>); 6] = [
    ("original_shape_MeshVolume", 123_456.789_012_345_67, "mm3", Some("RNU0")),
    ("original_firstorder_Mean", -1.0 / 3.0, "I", Some("Q4LE")),
    ("original_glcm_MCC", 0.1 + 0.2, "", None),
    ("original_glcm_JointEntropy", 7.123e-12, "bit", Some("TU9B")),
    ("original_ngtdm_Coarseness", f64::NAN, "", Some("QCDE")),
    ("wavelet-LLH_glcm_JointEntropy", 1.0e6 / 7.0, "bit", Some("TU9B")),
];

fn report() -> Report {
    let feature = |(name, value, unit, ibsi): (&str, f64, &str, Option<&str>)| FeatureReport {
        name: name.into(),
        value,
        unit: unit.into(),
        ibsi: ibsi.map(Into::into),
    };
    let region = |region, snomed: &str, n_voxels, features: &[_]| RegionReport {
        region,
        snomed: snomed.into(),
        n_voxels,
        volume_ml: n_voxels as f64 * 1.4 / 1000.0,
        color: [86, 180, 233],
        features: features.iter().copied().map(feature).collect(),
    };
    let remark = |code: &str, sentence: &str| RemarkReport {
        code: code.into(),
        sentence: sentence.into(),
        ..Default::default()
    };
    let package = |id: &str| PackageReport { id: id.into(), version: "0.1.0".into(), sha256: "ab".repeat(32) };
    let contribution = |predictor: &str, label: &str, value: &str, log_odds| ContributionReport {
        predictor: predictor.into(),
        label: label.into(),
        value: value.into(),
        log_odds,
    };
    Report {
        created_at: "2026-01-02T03:04:05.678Z".into(),
        study: "S000007".into(),
        revision: 2,
        regions: vec![
            region(Region::Liver, "10200004", 1800, &FEATURES),
            region(Region::LiverLesion, "108369006", 12, &[]),
            region(Region::Colon, "71854001", 0, &[]),
            region(Region::ColorectalTumor, "363406005", 24, &FEATURES[..2]),
        ],
        risk: Some(RiskReport {
            probability: 0.231_234_567_890_123,
            linear_predictor: -1.2,
            points: 141.0,
            points_max: 300.0,
            group: "intermediate".into(),
            variant: "with-afp".into(),
            certainty: "provisional".into(),
            cut_offs: Some([0.15, 0.4]),
            horizon_months: 60,
            survival: vec![(12, 0.97), (36, 0.85), (60, 0.77)],
            contributions: vec![
                contribution("afp", "Alpha-fetoprotein", "4.2 ng/mL", 0.61),
                contribution("liver_idm", "Liver texture (inverse difference moment)", "0.342", -0.4),
            ],
        }),
        notes: vec![
            remark("series.jitter", "slices lie up to 0.2 mm beside their grid and were resampled"),
            remark("risk.missing", "variant full was not possible without perineural_invasion"),
        ],
        known: vec![(ClinicalKey::AfpNgPerMl, 4.2), (ClinicalKey::TumorNodules, 0.0)],
        missing: vec![ClinicalKey::PerineuralInvasion],
        segmenter: package("segmenter-phantom"),
        nomogram: package("mlm-phantom"),
        radiomics_settings_sha256: "cd".repeat(32),
        backend: "tract, CPU, int8 (avx2)".into(),
        ..Default::default()
    }
}

fn info<'a>(source: &'a [&'a Header], report: &'a Report) -> ResultInfo<'a> {
    ResultInfo { source, report, series_number: 9002, uid_seed: b"test" }
}

fn write(folder: &Folder, name: &str, bytes: &[u8]) -> PathBuf {
    std::fs::write(folder.join(name), bytes).unwrap();
    folder.join(name)
}

/// What a tool says on both channels, and whether it was content.
fn tool(name: &str, args: &[&Path]) -> (bool, String) {
    let out =
        Command::new(name).args(args).output().unwrap_or_else(|e| panic!("{name}: {e} (apt: dicom3tools, dcmtk)"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(!text.trim().is_empty(), "{name} said nothing");
    (out.status.success(), text)
}

fn dciodvfy_errors(file: &Path) -> Vec<String> {
    tool("dciodvfy", &[file]).1.lines().filter(|l| l.starts_with("Error")).map(str::to_owned).collect()
}

/// Errors and warnings of a DCMTK tool. That DCMTK 3.6.7 cannot check the characters of UTF-8 is its own limit.
fn complaints(text: &str) -> Vec<&str> {
    let own = "W: The VR checker does not support this Specific Character Set: ISO_IR 192";
    text.lines().filter(|l| (l.starts_with("E: ") || l.starts_with("W: ")) && *l != own).collect()
}

fn python_path() -> PathBuf {
    std::env::var_os("METWATCH_TEST_PYTHON").map_or(".venv/bin/python".into(), PathBuf::from)
}

/// A program that a Python package brought.
fn beside_python(name: &str) -> PathBuf {
    python_path().with_file_name(name)
}

/// A peer that a machine may lack is left out only where `tests/run` (or a person) says so by a variable.
fn left_out(peer: &str) -> bool {
    let left_out = std::env::var_os(format!("METWATCH_TEST_WITHOUT_{peer}")).is_some();
    if left_out {
        eprintln!("left out: {peer} is not installed");
    }
    left_out
}

/// Runs a script with pydicom and highdicom; what it prints.
fn python(script: &str, args: &[&Path]) -> String {
    let out =
        Command::new(python_path()).args(["-c", script]).args(args).output().expect("METWATCH_TEST_PYTHON is a Python");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A picture whose pixels all differ, 20 by 10.
fn picture(title: &str, slice: Option<usize>) -> Picture {
    let rgb = (0..600).map(|i| (i * 7 % 251) as u8).collect();
    Picture { title: title.into(), patient_orientation: "L\\P", slice, width: 20, height: 10, rgb }
}
