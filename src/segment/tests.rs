//! The room as a whole, on the tiny package (labels by HU alone, see models/training/tiny.py) and on the one that ships.

use super::*;
use crate::volume::Geometry;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

type Files = BTreeMap<String, Vec<u8>>;

macro_rules! files {
    ($folder:literal) => {
        Files::from([
            ("manifest.toml".to_string(), include_bytes!(concat!("../../", $folder, "/manifest.toml")).to_vec()),
            ("model.onnx".to_string(), include_bytes!(concat!("../../", $folder, "/model.onnx")).to_vec()),
            ("golden.json".to_string(), include_bytes!(concat!("../../", $folder, "/golden.json")).to_vec()),
        ])
    };
}

fn tiny() -> Files {
    files!("tests/data/segmenter-tiny")
}

fn tiny_refined() -> Files {
    let mut files = files!("tests/data/segmenter-tiny-refined");
    let second: [(&str, &[u8]); 2] = [
        ("refine.onnx", include_bytes!("../../tests/data/segmenter-tiny-refined/refine.onnx")),
        ("refine_golden.json", include_bytes!("../../tests/data/segmenter-tiny-refined/refine_golden.json")),
    ];
    files.extend(second.map(|(name, bytes)| (name.to_string(), bytes.to_vec())));
    files
}

pub fn shipped() -> Files {
    files!("models/segmenter-phantom")
}

/// Replaces text in one file and, where that is not the manifest, its hash there.
fn edited(mut files: Files, file: &str, from: &str, to: &str) -> Files {
    let hex = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let old = String::from_utf8(files[file].clone()).unwrap();
    assert!(old.contains(from), "{file} has no {from}");
    let new = old.replacen(from, to, 1);
    if file != "manifest.toml" {
        files = edited(files, "manifest.toml", &hex(old.as_bytes()), &hex(new.as_bytes()));
    }
    files.insert(file.into(), new.into_bytes());
    files
}

fn refusal(files: Files) -> SegmentError {
    match Package::from_files(files).and_then(Segmenter::load) {
        Ok(_) => panic!("the package was taken"),
        Err(error) => error,
    }
}

fn segmenter() -> Segmenter {
    Segmenter::load(Package::from_files(tiny()).unwrap()).unwrap()
}

/// A body of 140 HU in air, on a mattress of -100 HU (for the share of fat); on the patient's right a liver of 110 HU (ball of 70 mm radius: 1437 mL) with a lesion of 60 HU (20 mm).
pub fn patient(direction: [[f64; 3]; 3], size: [usize; 3], spacing_mm: [f64; 3]) -> (Volume, Array3<u8>) {
    let mut geometry = Geometry { size, spacing_mm, origin_mm: [0.0; 3], direction };
    geometry.origin_mm = geometry.position_mm(size.map(|n| (n as f64 - 1.0) / 2.0)).map(|m| -m);
    let liver = [-45.0, 0.0, 10.0]; // LPS: x to the left
    let truth = Array3::from_shape_fn(geometry.shape_zyx(), |(z, y, x)| {
        let p = geometry.position_mm([x as f64, y as f64, z as f64]);
        let within =
            |center: [f64; 3], radius: f64| (0..3).map(|a| (p[a] - center[a]).powi(2)).sum::<f64>() < radius * radius;
        match () {
            () if within([liver[0] + 20.0, liver[1], liver[2]], 20.0) => 2,
            () if within(liver, 70.0) => 1,
            () if p[0].hypot(p[1]) < 130.0 => 9,
            () if p[1] > 136.0 => 8,
            () => 0,
        }
    });
    let hu = truth.mapv(|k| [-1000.0, 110.0, 60.0, 0.0, 0.0, 0.0, 0.0, 0.0, -100.0, 140.0][usize::from(k)]);
    (Volume { hu, geometry }, truth)
}

pub const SIZE: [usize; 3] = [150, 140, 60];
pub const SPACING_MM: [f64; 3] = [2.0, 2.2, 4.0];

fn codes(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().map(|f| f.code).collect()
}

#[test]
fn packages_that_were_tampered_with_are_refused() {
    let mut changed = tiny();
    *changed.get_mut("model.onnx").unwrap().last_mut().unwrap() ^= 1;
    let error = refusal(changed);
    assert_eq!(error.code(), "package.hash-mismatch");
    assert!(error.to_string().contains("model.onnx"), "{error}");

    for file in ["manifest.toml", "model.onnx", "golden.json"] {
        let mut without = tiny();
        without.remove(file);
        let error = refusal(without);
        assert!(error.code() == "package.invalid" && error.to_string().contains(file), "{error}");
    }
    let mut more = tiny();
    more.insert("extra.bin".into(), vec![1]);
    assert!(refusal(more).to_string().contains("extra.bin"));
}

#[test]
fn a_network_that_gives_other_logits_is_refused_with_the_figure() {
    // The first golden logit is the background's 2.
    let error = refusal(edited(tiny(), "golden.json", "[2.0, ", "[2.5, "));
    assert_eq!(error.code(), "package.golden-mismatch");
    assert!(matches!(error, SegmentError::GoldenMismatch { worst, .. } if (worst - 0.5).abs() < 1e-5), "{error}");
    assert!(error.to_string().contains("0.5000"), "{error}");
}

#[test]
fn manifests_with_odd_values_are_refused() {
    let cases = [
        ("metwatch.segmenter/1", "metwatch.segmenter/2"),
        ("not for clinical use", "for clinical use"),
        ("center_hu = 50.0", "center_hu = nan"),
        ("scale_hu = 100.0", "scale_hu = 0.0"),
        ("clip_hu = [-200.0, 300.0]", "clip_hu = [nan, 300.0]"),
        ("clip_hu = [-200.0, 300.0]", "clip_hu = [300.0, -200.0]"),
        ("spacing_mm = [4.0", "spacing_mm = [0.001"),
        ("pad_multiple = 8", "pad_multiple = 0"),
        ("pad_multiple = 8", "pad_multiple = 8\nunknown = 1"),
        ("value = 2", "value = 3"),
        ("region = \"liver_lesion\"", "region = \"liver\""),
        ("region = \"colon\"", "region = \"colonn\""),
        ("entropy_refuse_over = 0.6", "entropy_refuse_over = nan"),
        ("entropy_refuse_over = 0.6", "entropy_refuse_over = 0.1"),
        ("cut_note_over = 0.02\n", ""),
        ("output = \"logits\"", "output = \"nowhere\""),
    ];
    for (from, to) in cases {
        let error = refusal(edited(tiny(), "manifest.toml", from, to));
        assert!(matches!(error.code(), "package.invalid" | "segment.network"), "{from} -> {to}: {error}");
    }
    for (from, to) in
        [("\"lcg\"", "\"zeros\""), ("\"stride\": 41", "\"stride\": 0"), ("0.001", "1e30"), ("[8, 8, 16]", "[8, 8, 15]")]
    {
        assert_eq!(refusal(edited(tiny(), "golden.json", from, to)).code(), "package.invalid", "{to}");
    }
}

#[test]
fn a_second_network_with_odd_values_is_refused() {
    let cases = [
        ("classes = [\"liver\", \"liver_lesion\"]", "classes = [\"liver\", \"colon\"]", "classes"),
        ("classes = [\"liver\", \"liver_lesion\"]", "classes = [\"spleen\"]", "spleen"),
        ("band_mm = 8.0", "band_mm = 17.0", "out of range"), // beyond the margin it does not see
        ("scale_hu = 40.0", "scale_hu = nan", "out of range"),
        ("spacing_mm = [2.0, 2.0", "spacing_mm = [2.0, 0.0", "out of range"),
        ("file = \"refine.onnx\"", "file = \"other.onnx\"", "other.onnx"),
        ("file = \"refine.onnx\"", "file = \"refine.onnx\"\nmore = 1", "more"),
        ("liver_channel = true", "liver_channel = false", "refine"), // its network takes two channels
    ];
    for (from, to, names) in cases {
        let error = refusal(edited(tiny_refined(), "manifest.toml", from, to));
        let message = error.to_string();
        assert!(matches!(error.code(), "package.invalid" | "segment.network"), "{from} -> {to}: {error}");
        assert!(message.contains(names) || error.code() == "segment.network", "{from} -> {to}: {message}");
    }
    let error = refusal(edited(tiny_refined(), "refine_golden.json", "[2.0, ", "[2.5, "));
    assert_eq!(error.code(), "package.golden-mismatch");
    // A label that neither network gives.
    let without =
        edited(tiny_refined(), "manifest.toml", "classes = [\"liver\", \"liver_lesion\"]", "classes = [\"liver\"]");
    let segmenter = Segmenter::load(Package::from_files(without).unwrap()).unwrap();
    assert_eq!(
        segmenter.segment(&patient(Geometry::IDENTITY, SIZE, SPACING_MM).0, &|_| ()).unwrap_err().code(),
        "segment.shape"
    );
}

#[test]
fn the_second_stage_finds_the_lesion_and_the_surface_that_the_first_cannot() {
    let one_stage = segmenter();
    let two_stages = Segmenter::load(Package::from_files(tiny_refined()).unwrap()).unwrap();
    let (c, s) = (0.15f64.cos(), 0.15f64.sin());
    let feet_first = [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]];
    for direction in [Geometry::IDENTITY, feet_first, [[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]]] {
        let (volume, truth) = patient(direction, [200, 190, 80], [1.5, 1.5, 3.0]);
        let (coarse, fine) =
            (one_stage.segment(&volume, &|_| ()).unwrap(), two_stages.segment(&volume, &|_| ()).unwrap());
        let mask = |labels: &LabelMap| labels.mask(Region::Liver);
        let dice = |mask: &Array3<bool>| {
            let pairs = mask.iter().zip(&truth).map(|(a, b)| (*a, [1, 2].contains(b)));
            let (both, sum) =
                pairs.fold((0, 0), |(both, sum), (a, b)| (both + u32::from(a && b), sum + u32::from(a) + u32::from(b)));
            2.0 * f64::from(both) / f64::from(sum)
        };
        let [coarse_dice, fine_dice] = [&coarse.labels, &fine.labels].map(|labels| dice(&mask(labels)));
        assert!(fine_dice > coarse_dice && fine_dice > 0.985, "{direction:?}: {coarse_dice} to {fine_dice}");
        // A ball of 20 mm radius: 33.5 mL.
        let lesion_ml = fine.labels.volume_ml(Region::LiverLesion);
        assert!((lesion_ml - 33.5).abs() < 3.0, "{lesion_ml} mL");
        let [lesion] = fine.lesions[..] else { panic!("{:?}", fine.lesions) };
        assert!((lesion.volume_ml - lesion_ml).abs() < 2.0 && lesion.probability > 0.9, "{lesion:?}");
        assert!(fine.gate.accepts(), "{:?}", fine.gate);
    }
}

#[test]
fn lesions_below_the_operating_point_are_liver() {
    let (volume, _) = patient(Geometry::IDENTITY, SIZE, SPACING_MM);
    let lesion_ml = |from: &str, to: &str| {
        let files = edited(tiny_refined(), "manifest.toml", from, to);
        let segmenter = Segmenter::load(Package::from_files(files).unwrap()).unwrap();
        let found = segmenter.segment(&volume, &|_| ()).unwrap();
        assert_eq!(found.lesions.is_empty(), found.labels.volume_ml(Region::LiverLesion) == 0.0);
        assert!((found.labels.volume_ml(Region::Liver) - 1437.0).abs() < 60.0);
        found.labels.volume_ml(Region::LiverLesion)
    };
    assert!(lesion_ml("lesion_ml_min = 1.0", "lesion_ml_min = 30.0") > 30.0);
    assert_eq!(lesion_ml("lesion_ml_min = 1.0", "lesion_ml_min = 40.0"), 0.0);
    assert_eq!(lesion_ml("lesion_probability_min = 0.6", "lesion_probability_min = 1.0"), 0.0);
}

#[test]
fn broken_networks_are_refused_and_never_panic() {
    let onnx = tiny()["model.onnx"].clone();
    let hex = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
    for length in (0..onnx.len()).step_by(7) {
        let cut = onnx[..length].to_vec();
        let mut files = edited(tiny(), "manifest.toml", &hex(&onnx), &hex(&cut));
        files.insert("model.onnx".into(), cut);
        refusal(files);
    }
}

#[test]
fn a_drawn_patient_gets_its_labels_in_every_orientation() {
    let segmenter = segmenter();
    let (c, s) = (0.15f64.cos(), 0.15f64.sin());
    let feet_first = [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]];
    let tilted = [[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]];
    for direction in [Geometry::IDENTITY, feet_first, tilted] {
        let (volume, truth) = patient(direction, SIZE, SPACING_MM);
        let found = segmenter.segment(&volume, &|_| ()).unwrap();
        let dice = |of: &[u8]| {
            let pairs = found.labels.labels.iter().zip(&truth).map(|(a, b)| (of.contains(a), of.contains(b)));
            let (both, sum) =
                pairs.fold((0, 0), |(both, sum), (a, b)| (both + u32::from(a && b), sum + u32::from(a) + u32::from(b)));
            2.0 * f64::from(both) / f64::from(sum)
        };
        assert!(dice(&[1, 2]) > 0.95, "{direction:?}: liver {}", dice(&[1, 2]));
        assert!(dice(&[2]) > 0.8, "{direction:?}: lesion {}", dice(&[2]));
        assert_eq!(found.labels.geometry, volume.geometry);
        assert!(found.gate.accepts(), "{:?}", found.gate);
        assert_eq!(codes(&found.gate.notes), ["gate.no-tumor"], "{:?}", found.measures);
        assert!((found.measures.right_of_center_mm - 45.0).abs() < 3.0);
        assert!((found.measures.liver_hu - 110.0).abs() <= 1.0);
    }
}

#[test]
fn one_and_two_threads_give_the_same_bits() {
    let segmenter = segmenter();
    let (volume, _) = patient(Geometry::IDENTITY, SIZE, SPACING_MM);
    let with = |n| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        pool.install(|| segmenter.segment(&volume, &|_| ()).unwrap())
    };
    let (one, two) = (with(1), with(2));
    assert_eq!(one.labels.labels, two.labels.labels);
    // As text, where NaN equals itself.
    assert_eq!(format!("{:?}", one.measures), format!("{:?}", two.measures));
}

#[test]
fn the_gate_refuses_wrong_scans_of_the_drawn_patient() {
    let segmenter = segmenter();
    let reasons = |volume: &Volume| codes(&segmenter.segment(volume, &|_| ()).unwrap().gate.reasons);
    let (good, _) = patient(Geometry::IDENTITY, SIZE, SPACING_MM);
    let with_hu = |hu: Array3<f32>| Volume { hu, geometry: good.geometry.clone() };

    assert!(reasons(&with_hu(good.hu.mapv(|hu| hu + 1024.0))).contains(&"gate.no-air"));
    assert!(reasons(&with_hu(good.hu.mapv(|_| -1000.0))).contains(&"gate.no-body"));
    assert!(
        reasons(&with_hu(good.hu.mapv(|hu| if hu == 110.0 { 140.0 } else { hu }))).contains(&"gate.liver-volume"),
        "a lesion alone"
    );
    // Left and right exchanged in the header only.
    let mut mirrored = good.clone();
    mirrored.hu.invert_axis(Axis(2));
    assert!(reasons(&mirrored).contains(&"gate.liver-side"));
    // Slices 20 to 39 only: 80 mm, and the liver is cut at both ends.
    let mut slab = good.clone();
    slab.hu = good.hu.slice(ndarray::s![20..40, .., ..]).to_owned();
    slab.geometry.size[2] = 20;
    let found = reasons(&slab);
    assert!(found.contains(&"gate.short-scan") && found.contains(&"gate.liver-cut"), "{found:?}");
}

#[test]
fn volumes_that_no_network_can_answer_are_refused() {
    let segmenter = segmenter();
    let refused = |volume: &Volume| segmenter.segment(volume, &|_| ()).unwrap_err().code();
    let (good, _) = patient(Geometry::IDENTITY, [20, 20, 20], [4.0; 3]);
    let mut odd = good.clone();
    odd.hu[[1, 2, 3]] = f32::NAN;
    assert_eq!(refused(&odd), "segment.volume");
    odd = good.clone();
    odd.geometry.size[0] = 19;
    assert_eq!(refused(&odd), "segment.volume");
    odd = good.clone();
    odd.geometry.spacing_mm[2] = -1.0;
    assert_eq!(refused(&odd), "segment.volume");
    odd = good.clone();
    odd.geometry.spacing_mm = [1e6; 3];
    assert_eq!(refused(&odd), "segment.too-large");

    let one = Volume { hu: Array3::from_elem((1, 1, 1), 110.0), geometry: Geometry { size: [1; 3], ..good.geometry } };
    let found = segmenter.segment(&one, &|_| ()).unwrap();
    assert!(codes(&found.gate.reasons).contains(&"gate.short-scan"));
}
