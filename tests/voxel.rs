//! 2D shapes and voxel-based maps against what PyRadiomics 3.1.0 computed (../shared/data/golden/radiomics).

use crate::common::reference;
use metwatch::radiomics::{Settings, extract, extract_voxelwise};
use metwatch::volume::{Image, decode_image};
use serde_json::Value as Json;
use std::fs;

/// Relative; the project's aim. The floor is for features that are zero but for rounding.
const TOLERANCE: f64 = 1e-9;
const FLOOR: f64 = 1e-12;
/// MCC is the root of an eigenvalue: a rounding error of 1e-16 in PyRadiomics' zero is 1e-8.
const MCC_FLOOR: f64 = 1e-7;

/// A case's reference, image, mask and settings.
fn case(name: &str) -> (Json, Image, Image, Settings) {
    let folder = reference("golden/radiomics");
    let text = |ending: &str| fs::read_to_string(folder.join(format!("{name}.{ending}"))).unwrap();
    let golden: Json = serde_json::from_str(&text("json")).unwrap();
    let image = |key: &str| {
        let path = golden[key].as_str().unwrap().strip_prefix("out:").expect("the cases here use the small inputs");
        decode_image(&fs::read(folder.join(path)).unwrap()).unwrap()
    };
    let (image, mask) = (image("image"), image("mask"));
    (golden, image, mask, Settings::from_yaml(&text("params.yaml")).unwrap())
}

/// PyRadiomics' log lines without their level.
fn log(golden: &Json) -> Vec<&str> {
    let lines = golden["log"].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
    lines.map(|line| line.split_once(' ').unwrap().1).collect()
}

#[test]
fn shapes_of_one_plane_equal_pyradiomics_with_its_skipped_coronal_planes() {
    for name in ["tiny_axial_shape2d", "tiny_sagittal_shape2d", "tiny_coronal_shape2d"] {
        let (golden, image, mask, settings) = case(name);
        let found = extract(&image, &mask, &settings).unwrap();
        let of_shape = |name: &str| name.starts_with("original_shape2D_");
        let theirs: Vec<_> = golden["features"].as_object().unwrap().iter().filter(|(n, _)| of_shape(n)).collect();
        let ours: Vec<_> = found.features.rows.iter().filter(|row| of_shape(&row.name)).collect();
        assert!(ours.iter().map(|row| &row.name).eq(theirs.iter().map(|(name, _)| *name)), "{name}");
        assert_eq!(ours.len(), if name.contains("coronal") { 0 } else { 10 });
        for (row, (_, value)) in ours.iter().zip(theirs) {
            let expected = value.as_f64().unwrap();
            assert!((row.value - expected).abs() <= TOLERANCE * expected.abs() + FLOOR, "{}", row.name);
        }
        let shape2d = |line: &&str| line.contains("2D");
        let warnings: Vec<&str> = found.warnings.iter().map(String::as_str).filter(shape2d).collect();
        assert_eq!(warnings, log(&golden).into_iter().filter(shape2d).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn a_thick_region_has_no_shape_of_one_plane() {
    let (golden, image, mask, settings) = case("tiny_ball_shape2d");
    let error = extract(&image, &mask, &settings).unwrap_err().to_string();
    assert_eq!(Some(error.as_str()), golden["error"]["message"].as_str());
}

#[test]
fn without_force2d_the_shape_of_one_plane_is_left_out_with_a_warning() {
    let (_, image, mask, _) = case("tiny_axial_shape2d");
    let found = extract(&image, &mask, &Settings::from_yaml("featureClass: {shape2D: }").unwrap()).unwrap();
    assert!(found.features.rows.is_empty());
    let expected = "radiomics.featureextractor: parameter force2D must be set to True to enable shape2D extraction";
    assert_eq!(found.warnings, [expected]);
    let usual = extract(&image, &mask, &Settings::default()).unwrap();
    assert!(!usual.warnings.iter().any(|line| line.contains("shape2D")));
}

/// Differences between the maps of a case and ours.
fn differences(name: &str) -> Vec<String> {
    let (golden, image, mask, settings) = case(name);
    let found = extract_voxelwise(&image, &mask, &settings).unwrap();
    let entries = golden["features"].as_object().unwrap();
    let theirs: Vec<_> = entries.iter().filter(|(name, _)| !name.starts_with("diagnostics_")).collect();
    assert!(found.maps.iter().map(|map| &map.name).eq(theirs.iter().map(|(name, _)| *name)), "{name}");
    let notes = entries.keys().filter(|name| name.starts_with("diagnostics_"));
    assert!(found.diagnostics.entries.iter().map(|(name, _)| name).eq(notes), "{name}");
    assert_eq!(found.warnings, log(&golden), "{name}");
    let mut wrong = Vec::new();
    for (map, (_, golden)) in found.maps.iter().zip(theirs) {
        let g = &map.image.geometry;
        assert_eq!(golden["size_xyz"], serde_json::json!(g.size), "{}", map.name);
        for (key, ours) in [("origin_xyz", g.origin_mm), ("spacing_xyz", g.spacing_mm)] {
            let theirs = golden[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap());
            assert!(theirs.zip(ours).all(|(a, b)| (a - b).abs() < 1e-9), "{} {key}", map.name);
        }
        let values = golden["values_zyx_flat"].as_array().unwrap();
        let ours = map.image.voxels.to_f64();
        assert_eq!(ours.len(), values.len());
        let floor = if map.name.ends_with("_MCC") { MCC_FLOOR } else { FLOOR };
        for (at, (a, b)) in ours.iter().zip(values).enumerate() {
            let b = if b == "NaN" { f64::NAN } else { b.as_f64().unwrap() };
            if (a - b).abs() > TOLERANCE * b.abs() + floor || a.is_nan() != b.is_nan() {
                wrong.push(format!("{} voxel {at}: {a:?}, PyRadiomics {b:?}", map.name));
            }
        }
    }
    wrong
}

#[test]
fn maps_equal_pyradiomics() {
    for (name, maps) in [("tiny_voxel_r1", 93), ("tiny_voxel_r1_unmasked_2d", 56)] {
        let (golden, ..) = case(name);
        let entries = golden["features"].as_object().unwrap();
        assert_eq!(entries.keys().filter(|name| !name.starts_with("diagnostics_")).count(), maps);
        let wrong = differences(name);
        assert!(wrong.is_empty(), "{name}: {} values differ\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
    }
}
