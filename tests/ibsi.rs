//! The IBSI convention against the values that IBSI published (../shared/data/ibsi1): every one must be there and agree.

use crate::common::reference;
use metwatch::Explain;
use metwatch::radiomics::ibsi::{Bins, Family, Settings, Table, compliance, extract, extract_region};
use metwatch::volume::{Image, Voxels, decode_image};
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

#[test]
fn threads_and_the_way_in_do_not_change_a_bit() {
    let (image, mask) = phantom();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| extract(&image, &mask, &Settings::phantom())).unwrap()
    };
    let inside = mask.to_labels().unwrap().mapv(|v| v == 1);
    let region = extract_region(&image.to_volume().unwrap(), inside.view(), &Settings::phantom()).unwrap();
    let one = with(1);
    for other in [with(2), with(7), region] {
        assert_eq!(one.rows.len(), other.rows.len());
        for (a, b) in one.rows.iter().zip(&other.rows) {
            assert_eq!((&a.tag, a.value.to_bits()), (&b.tag, b.value.to_bits()));
        }
    }
}

#[test]
fn every_feature_has_its_codes() {
    let (image, mask) = phantom();
    let table = extract(&image, &mask, &Settings::phantom()).unwrap();
    let tags: BTreeSet<&str> = table.rows.iter().map(|row| row.tag.as_str()).collect();
    assert_eq!(tags.len(), table.rows.len(), "tags are unique");
    for row in table.rows.iter().filter(|row| row.family != Family::Diagnostics) {
        assert!([row.code, row.aggregation, row.family.code()].iter().all(|code| code.len() == 4), "{row:?}");
    }
    let features: BTreeSet<&str> = table.rows.iter().map(|row| row.code).filter(|code| !code.is_empty()).collect();
    assert_eq!(features.len(), 174);
}

#[test]
fn a_single_voxel_and_a_flat_slice_have_what_can_be_defined() {
    let (image, mask) = phantom();
    let inside = mask.to_labels().unwrap().mapv(|v| v == 1);
    let volume = image.to_volume().unwrap();
    let only = |keep: &dyn Fn(usize, usize, usize) -> bool| {
        let mut part = inside.clone();
        part.indexed_iter_mut().for_each(|((z, y, x), m)| *m &= keep(z, y, x));
        extract_region(&volume, part.view(), &Settings::phantom()).unwrap()
    };
    let first = inside.indexed_iter().find(|(_, m)| **m).unwrap().0;
    let voxel = only(&|z, y, x| (z, y, x) == first);
    assert_eq!(voxel.value("morph_vol_approx"), Some(8.0));
    assert_eq!(voxel.value("stat_var"), Some(0.0));
    assert!(voxel.value("cm_contrast_3D_avg").unwrap().is_nan(), "no pairs");
    assert_eq!(voxel.value("rlm_r_perc_3D_avg"), Some(1.0));
    let slice = only(&|z, _, _| z == 1);
    assert_eq!(slice.value("morph_pca_least_axis"), Some(0.0));
    assert_eq!(slice.value("szm_z_perc_2D"), slice.value("szm_z_perc_3D"));
}

#[test]
fn what_cannot_be_measured_says_so_with_a_code() {
    let (image, mask) = phantom();
    let code = |image: &Image, settings: &Settings| extract(image, &mask, settings).unwrap_err().code();
    let usual = Settings::phantom();
    assert_eq!(code(&image, &Settings { label: 9, ..usual.clone() }), "radiomics.missing-label");
    assert_eq!(code(&image, &Settings { range: Some([50.0, 60.0]), ..usual.clone() }), "radiomics.resegmented");
    assert_eq!(code(&image, &Settings { distance: 0, ..usual.clone() }), "radiomics.ibsi-settings");
    assert_eq!(code(&image, &Settings { spacing_mm: Some([1e-4; 3]), ..usual.clone() }), "radiomics.grid-too-large");
    let fine = Settings { discretization: Bins::Width(1e-6), ..usual.clone() };
    assert_eq!(code(&image, &fine), "radiomics.too-many-levels");
    let mut odd = image.clone();
    odd.voxels = Voxels::F64(image.voxels.to_f64().mapv(|v| v + 0.5));
    assert_eq!(code(&odd, &usual), "radiomics.ibsi-settings");
    odd.voxels = Voxels::F64(image.voxels.to_f64().mapv(|_| f64::NAN));
    assert_eq!(code(&odd, &usual), "radiomics.not-finite");
}
