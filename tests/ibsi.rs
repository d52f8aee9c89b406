//! The IBSI convention against the values that IBSI published (../shared/data/ibsi1): every one must be there and agree.

use crate::common::reference;
use metwatch::radiomics::ibsi::{Family, Settings, Table, compliance, extract};
use metwatch::volume::{Image, decode_image};
use std::collections::BTreeSet;
use std::fs;

fn image(path: &str) -> Image {
    decode_image(&fs::read(reference("ibsi1").join(path)).unwrap()).unwrap()
}

fn phantom() -> (Image, Image) {
    (image("digital_phantom/nifti/image/phantom.nii.gz"), image("digital_phantom/nifti/mask/mask.nii.gz"))
}

fn patient() -> (Image, Image) {
    (image("ct_phantom/nifti/image/phantom.nii.gz"), image("ct_phantom/nifti/mask/mask.nii.gz"))
}

/// Every published value of a reference file is computed and passes; `expected` is their number.
fn check(table: &Table, file: &str, expected: usize) {
    let text = fs::read_to_string(reference("ibsi1/reference").join(file)).unwrap();
    let rows = compliance(&text, table);
    let wrong: Vec<String> = rows
        .iter()
        .filter(|row| !row.passes)
        .map(|r| format!("{} ({}): {:?}, published {} +- {}", r.tag, r.code, r.value, r.reference, r.tolerance))
        .collect();
    assert!(wrong.is_empty(), "{file}: {} of {} values differ:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    assert_eq!(rows.len(), expected, "{file}");
    // And the other way: what is computed beyond the published values is known.
    let published: BTreeSet<&str> = rows.iter().map(|row| row.tag.as_str()).collect();
    let extra: BTreeSet<&str> = table
        .rows
        .iter()
        .filter(|row| row.family != Family::Diagnostics && !published.contains(row.tag.as_str()))
        .map(|row| row.tag.as_str())
        .collect();
    let without_value =
        ["ivh_auc", "morph_area_dens_mvee", "morph_area_dens_ombb", "morph_vol_dens_mvee", "morph_vol_dens_ombb"];
    assert_eq!(extra, BTreeSet::from(without_value), "{file}");
}

#[test]
fn digital_phantom() {
    let (image, mask) = phantom();
    check(&extract(&image, &mask, &Settings::phantom()).unwrap(), "ibsi_1_dig_phantom.csv", 482);
}

#[test]
fn configuration_a() {
    let (image, mask) = patient();
    check(&extract(&image, &mask, &Settings::config_a()).unwrap(), "ibsi_1_chest_config_a.csv", 406);
}

#[test]
fn configuration_b() {
    let (image, mask) = patient();
    check(&extract(&image, &mask, &Settings::config_b()).unwrap(), "ibsi_1_chest_config_b.csv", 406);
}

#[test]
fn configuration_c() {
    let (image, mask) = patient();
    check(&extract(&image, &mask, &Settings::config_c()).unwrap(), "ibsi_1_chest_config_c.csv", 270);
}

#[test]
fn configuration_d() {
    let (image, mask) = patient();
    check(&extract(&image, &mask, &Settings::config_d()).unwrap(), "ibsi_1_chest_config_d.csv", 270);
}

#[test]
fn configuration_e() {
    let (image, mask) = patient();
    check(&extract(&image, &mask, &Settings::config_e()).unwrap(), "ibsi_1_chest_config_e.csv", 270);
}
