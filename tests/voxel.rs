//! 2D shapes and voxel-based maps against what PyRadiomics 3.1.0 computed (../shared/data/golden/radiomics).

use crate::common::reference;
use metwatch::radiomics::{Settings, extract};
use metwatch::volume::{Image, decode_image};
use serde_json::Value as Json;
use std::fs;

/// Relative; the project's aim. The floor is for features that are zero but for rounding.
const TOLERANCE: f64 = 1e-9;
const FLOOR: f64 = 1e-12;

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
    assert!(extract(&image, &mask, &Settings::default()).unwrap().warnings.is_empty());
}
