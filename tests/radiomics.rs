//! Features against what PyRadiomics 3.1.0 computed (../shared/data/golden/radiomics), name by name and both ways.

use crate::common::reference;
use metwatch::Explain;
use metwatch::radiomics::{Feature, RadiomicsError, Settings, Value, extract, extract_region};
use metwatch::volume::{Geometry, Image, Region, Voxels, decode_channel, decode_image};
use ndarray::Array3;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Relative; the project's aim (its limit is 1e-6). The floor is for features that are zero but for rounding.
const TOLERANCE: f64 = 1e-9;
const FLOOR: f64 = 1e-12;
/// MCC is an eigenvalue: PyRadiomics takes it from a general solver, which loses digits where eigenvalues lie close together.
const TOLERANCE_MCC: f64 = 1e-6;
/// Cases that are computed and equal; a case that starts to be refused fails the count.
const CASES_MIN: usize = 167;
/// Features that hang on the last bit of functions of PyRadiomics' own machine (NumPy's SVML with AVX-512), and differ:
/// - exp(ln(100)) of a flat image is 99.99999999999994 there and 100.00000000000004 here; whether the mean of equal values
///   is their value decides between the skewness 0 and 1;
/// - patterns with the same strength differ in the last bit, which decides which of them lie within the 10th percentile.
const LAST_BIT: [(&str, &str); 3] = [
    ("tiny_flat_filters", "exponential_firstorder_Kurtosis"),
    ("tiny_flat_filters", "exponential_firstorder_Skewness"),
    ("brain1_everything", "lbp-3D-m2_firstorder_RobustMeanAbsoluteDeviation"),
];

fn place(path: &str) -> PathBuf {
    let file = match path.strip_prefix("out:") {
        Some(own) => format!("golden/radiomics/{own}"),
        None => path.to_string(),
    };
    reference("golden/radiomics").join("../..").join(file)
}

fn image(path: &str) -> Option<Image> {
    decode_image(&fs::read(place(path)).ok()?).ok()
}

fn number(value: &Json) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    }
}

fn differ(name: &str, a: f64, b: f64) -> Option<String> {
    let tolerance = if name.ends_with("_glcm_MCC") { TOLERANCE_MCC } else { TOLERANCE };
    if a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * b.abs() + FLOOR {
        return None;
    }
    Some(format!("{name}: {a:?}, PyRadiomics {b:?}, relative {:e}", (a - b).abs() / b.abs()))
}

/// Differences between a diagnostic and its reference: numbers within the tolerance, all else equal.
fn compare(name: &str, ours: &Value, theirs: &Json) -> Vec<String> {
    match (ours, theirs) {
        (Value::List(a, _), Json::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).flat_map(|(a, b)| compare(name, a, b)).collect()
        }
        (Value::Map(a), Json::Object(b)) if a.iter().map(|e| &e.0).eq(b.keys()) => {
            a.iter().zip(b.values()).flat_map(|(a, b)| compare(&format!("{name}/{}", a.0), &a.1, b)).collect()
        }
        (Value::Null, Json::Null) => Vec::new(),
        (Value::Bool(a), Json::Bool(b)) if a == b => Vec::new(),
        (Value::Text(a), Json::String(b)) if a == b => Vec::new(),
        (Value::Int(a), Json::Number(b)) if b.as_i64() == Some(*a) => Vec::new(),
        (Value::Float(a), Json::Number(b)) => differ(name, *a, b.as_f64().unwrap()).into_iter().collect(),
        _ => vec![format!("{name}: {ours:?}, PyRadiomics {theirs}")],
    }
}

enum Outcome {
    Equal {
        features: usize,
    },
    /// Refused by the name of a key that is not supported.
    Refused(String),
    Wrong(Vec<String>),
}

fn check(case: &Path) -> Outcome {
    let golden: Json = serde_json::from_str(&fs::read_to_string(case).unwrap()).unwrap();
    if golden["voxel_based"] == true {
        return Outcome::Refused("maps are compared in voxel.rs".into());
    }
    let expected_error = golden["error"].as_object();
    let text = fs::read_to_string(case.with_extension("params.yaml")).unwrap();
    let settings = match (Settings::from_yaml(&text), expected_error) {
        (Err(e @ RadiomicsError::Unsupported { .. }), _) => return Outcome::Refused(e.to_string()),
        (Err(_), Some(_)) => return Outcome::Equal { features: 0 },
        (Err(e), None) => return Outcome::Wrong(vec![format!("refused: {e}")]),
        (Ok(settings), _) => match golden["label_argument"].as_u64() {
            Some(label) => settings.with_label(label as u32),
            None => settings,
        },
    };
    let mask = fs::read(place(golden["mask"].as_str().unwrap())).ok();
    let mask = mask.and_then(|bytes| decode_channel(&bytes, settings.label_channel).ok());
    let image = image(golden["image"].as_str().unwrap());
    let (Some(image), Some(mask)) = (image, mask) else {
        let fine = expected_error.is_some();
        return if fine { Outcome::Equal { features: 0 } } else { Outcome::Refused("file not read".into()) };
    };
    let found = match (extract(&image, &mask, &settings), expected_error) {
        (Err(_), Some(_)) => return Outcome::Equal { features: 0 },
        (Ok(_), Some(error)) => return Outcome::Wrong(vec![format!("computed, but PyRadiomics says {error:?}")]),
        (Err(error), None) => return Outcome::Wrong(vec![format!("{error}")]),
        (Ok(found), None) => found,
    };
    let mut wrong = Vec::new();
    let theirs = golden["features"].as_object().unwrap();
    let names: Vec<&str> = found.features.rows.iter().map(|r| r.name.as_str()).collect();
    let expected: Vec<&String> = theirs.keys().filter(|k| !k.starts_with("diagnostics_")).collect();
    if names != expected {
        wrong.push(format!("names or their order differ: {names:?}, PyRadiomics {expected:?}"));
    }
    let case_name = case.file_stem().unwrap().to_str().unwrap();
    let decided = |row: &&Feature| !LAST_BIT.contains(&(case_name, row.name.as_str()));
    for row in found.features.rows.iter().filter(decided) {
        match theirs.get(&row.name).and_then(number) {
            Some(value) => wrong.extend(differ(&row.name, row.value, value)),
            None => wrong.push(format!("{} has no reference value", row.name)),
        }
    }
    let log: Vec<&str> = golden["log"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let warned: Vec<String> = found.warnings.iter().map(|text| format!("WARNING {text}")).collect();
    if warned != log {
        let place = warned.iter().zip(&log).take_while(|(a, b)| a == b).count();
        wrong.push(format!("warning {place}: {:?}, PyRadiomics {:?}", warned.get(place), log.get(place)));
    }
    let ours: Vec<_> = found.diagnostics.entries.iter().filter(|(n, _)| !n.contains("_Versions_")).collect();
    let notes: Vec<_> =
        theirs.iter().filter(|(n, _)| n.starts_with("diagnostics_") && !n.contains("_Versions_")).collect();
    if !ours.iter().map(|e| &e.0).eq(notes.iter().map(|e| e.0)) {
        wrong.push(format!("diagnostics differ: {:?}", ours.iter().map(|e| &e.0).collect::<Vec<_>>()));
    } else {
        wrong.extend(ours.iter().zip(&notes).flat_map(|(a, b)| compare(&a.0, &a.1, b.1)));
    }
    if wrong.is_empty() { Outcome::Equal { features: names.len() } } else { Outcome::Wrong(wrong) }
}

#[test]
fn features_equal_pyradiomics() {
    let folder = reference("golden/radiomics");
    let mut cases: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    cases.retain(|p| p.extension().is_some_and(|e| e == "json"));
    cases.sort();
    let (mut equal, mut features, mut refused, mut wrong) = (0, 0, BTreeMap::<String, usize>::new(), Vec::new());
    for case in &cases {
        let name = case.file_stem().unwrap().to_string_lossy().into_owned();
        if std::env::var("CASE").is_ok_and(|only| !name.contains(&only)) {
            continue;
        }
        match check(case) {
            Outcome::Equal { features: n } => {
                equal += 1;
                features += n;
            }
            Outcome::Refused(why) => *refused.entry(why).or_default() += 1,
            Outcome::Wrong(what) => wrong.push(format!(
                "{name}: {} differences\n  {}",
                what.len(),
                what[..what.len().min(std::env::var("ALL").map_or(12, |_| 999))].join("\n  ")
            )),
        }
    }
    println!("{equal} of {} cases equal ({features} features); refused: {refused:#?}", cases.len());
    assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
    if std::env::var("CASE").is_err() {
        assert!(equal >= CASES_MIN, "only {equal} cases are computed, {CASES_MIN} were");
    }
}

/// The tiny image and its ball, with PyRadiomics' defaults.
fn tiny() -> (Image, Image) {
    let read = |name: &str| image(&format!("out:inputs/{name}")).expect("the inputs are readable");
    (read("tiny_image.nii.gz"), read("tiny_ball.nii.gz"))
}

#[test]
fn threads_do_not_change_a_bit() {
    let (image, mask) =
        (image("pyradiomics/brain1_image.nrrd").unwrap(), image("pyradiomics/brain1_label.nrrd").unwrap());
    let settings = Settings::from_yaml("setting: {resampledPixelSpacing: [1, 1, 1], distances: [1, 2]}").unwrap();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| extract(&image, &mask, &settings)).unwrap().features
    };
    let one = with(1);
    for threads in [2, 3, 8] {
        for (a, b) in one.rows.iter().zip(with(threads).rows) {
            assert_eq!(a.value.to_bits(), b.value.to_bits(), "{} with {threads} threads", a.name);
        }
    }
}

#[test]
fn a_region_of_a_volume_has_the_features_of_its_files() {
    let (image, mask) = tiny();
    let settings = Settings::default();
    let files = extract(&image, &mask, &settings).unwrap();
    let inside = mask.to_labels().unwrap().mapv(|v| v == 1);
    let region = extract_region(&image.to_volume().unwrap(), inside.view(), &settings).unwrap();
    assert_eq!(files.features, region.features);
    assert_eq!(files.features.rows.len(), 107);
    let marked = region.features.of(Region::Liver);
    assert!(marked.rows.iter().all(|row| row.region == Some(Region::Liver)));
    assert_eq!(marked.value("original_shape_VoxelVolume").map(|v| (v * 1e6).round() / 1e6), Some(998.999988));
}

#[test]
fn what_cannot_be_measured_says_so_with_a_code() {
    let (image, mask) = tiny();
    let code = |image: &Image, mask: &Image, settings: &Settings| extract(image, mask, settings).unwrap_err().code();
    let usual = Settings::default();
    assert_eq!(code(&image, &mask, &usual.clone().with_label(9)), "radiomics.missing-label");
    let mut empty = mask.clone();
    empty.voxels = Voxels::U8(empty.to_labels().unwrap().mapv(|_| 0));
    assert_eq!(code(&image, &empty, &usual), "radiomics.empty-mask");
    let mut moved = mask.clone();
    moved.geometry.origin_mm[2] += 1.0;
    assert_eq!(code(&image, &moved, &usual), "radiomics.geometry-mismatch");
    let mut broken = image.clone();
    broken.voxels = Voxels::F32(image.voxels.to_f32().mapv(|_| f32::NAN));
    assert_eq!(code(&broken, &mask, &usual), "radiomics.not-finite");
    let fine = Settings::from_yaml("setting: {binWidth: 0.0001}").unwrap();
    assert_eq!(code(&image, &mask, &fine), "radiomics.too-many-levels");
    let huge = Settings::from_yaml("setting: {resampledPixelSpacing: [0.0001, 0.0001, 0.0001]}").unwrap();
    assert_eq!(code(&image, &mask, &huge), "radiomics.grid-too-large");
}

#[test]
fn voxels_that_a_filter_leaves_undefined_count_as_in_pyradiomics() {
    // The samples of a sphere in a flat region have no kurtosis. Values: PyRadiomics 3.1.0 for this image.
    let a = |z: usize, y: usize, x: usize| if x < 20 { (x * 37 + y * 101 + z * 53 + x * y * z) % 199 } else { 139 };
    let inside = |z, y, x| (3..9).contains(&z) && (3..10).contains(&y) && (14..66).contains(&x);
    let shape = (12, 14, 70);
    let geometry =
        Geometry { size: [70, 14, 12], spacing_mm: [1.0; 3], origin_mm: [0.0; 3], direction: Geometry::IDENTITY };
    let made = |voxels| Image { geometry: geometry.clone(), voxels, dimension: 3 };
    let image = made(Voxels::I16(Array3::from_shape_fn(shape, |(z, y, x)| a(z, y, x) as i16 - 99)));
    let mask = made(Voxels::U8(Array3::from_shape_fn(shape, |(z, y, x)| u8::from(inside(z, y, x)))));
    let text = "{imageType: {LBP3D: {binWidth: 1.0}}, setting: {additionalInfo: false}, featureClass: {firstorder: \
                [Mean, Entropy], glcm: [Contrast], glszm: [ZonePercentage]}}";
    let found = extract(&image, &mask, &Settings::from_yaml(text).unwrap()).unwrap().features;
    let expected = [
        ("lbp-3D-k_firstorder_Mean", 1.0913691596153554),
        ("lbp-3D-k_firstorder_Entropy", 1.1841078860163816),
        ("lbp-3D-k_glcm_Contrast", 19.10262618854248),
        ("lbp-3D-k_glszm_ZonePercentage", 0.02152014652014652),
    ];
    for (name, value) in expected {
        assert_eq!(differ(name, found.value(name).unwrap(), value), None);
    }
    let counted = Settings::from_yaml("{imageType: {LBP3D: {}}, setting: {binCount: 8}}").unwrap();
    assert_eq!(extract(&image, &mask, &counted).unwrap_err().code(), "radiomics.undefined");
}

#[test]
fn a_plane_has_its_own_axes() {
    let (image, mask) =
        (image("out:inputs/tiny2d_image.nii.gz").unwrap(), image("out:inputs/tiny2d_mask.nii.gz").unwrap());
    let names = |text: &str| -> Vec<String> {
        let found = extract(&image, &mask, &Settings::from_yaml(text).unwrap()).unwrap();
        found.features.rows.into_iter().map(|row| row.name).collect()
    };
    // force2Ddimension 0 is y there, so a wavelet runs along x alone.
    let wavelet = "{imageType: {Wavelet: {}}, setting: {force2D: true}, featureClass: {firstorder: [Mean]}}";
    assert_eq!(names(wavelet), ["wavelet-H_firstorder_Mean", "wavelet-L_firstorder_Mean"]);
    let two = "{setting: {resampledPixelSpacing: [1, 2]}, featureClass: {firstorder: [Mean]}}";
    assert_eq!(names(two), ["original_firstorder_Mean"]);
    let three = Settings::from_yaml(&two.replace("[1, 2]", "[1, 2, 3]")).unwrap();
    assert_eq!(extract(&image, &mask, &three).unwrap_err().code(), "radiomics.spacings");
    assert_eq!(extract(&tiny().0, &mask, &Settings::default()).unwrap_err().code(), "radiomics.dimensions");
}
