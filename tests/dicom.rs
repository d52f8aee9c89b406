//! DICOM with real data and real peers: DCMTK, pynetdicom, dciodvfy.

use crate::common::reference;
use metwatch::Explain;
use metwatch::dicom::{self, Header, SeriesError, SeriesPlan, assemble_volume, parse_header, plan_series};
use std::path::{Path, PathBuf};

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()).collect();
    files.sort();
    files
}

fn plan(folder: &str) -> (Vec<PathBuf>, Result<SeriesPlan, SeriesError>) {
    let files = files(&reference(folder));
    let headers: Vec<Header> = files.iter().map(|f| parse_header(&std::fs::read(f).unwrap()).unwrap()).collect();
    let plan = plan_series(&headers);
    (files, plan)
}

fn assemble(files: &[PathBuf], plan: &SeriesPlan) -> dicom::Assembled {
    assemble_volume(plan, &|index| std::fs::read(&files[index]), &|_, _| {}).unwrap()
}

/// Expected values by pydicom and numpy: sorted along the normal, slope x stored + intercept, HU <= -1500 to -1000.
#[test]
fn a_feet_first_ct_becomes_the_volume_that_numpy_makes() {
    let (files, plan) = plan("crlm_ct/CRLM-CT-1004");
    let plan = plan.unwrap();
    let made = assemble(&files, &plan);
    let g = &made.volume.geometry;
    assert_eq!(g.size, [512, 512, 41]);
    assert_eq!(g.spacing_mm, [0.796875, 0.796875, 5.0]);
    assert_eq!(g.origin_mm, [-198.199997, -204.0, -375.0]);
    assert_eq!(g.direction, metwatch::volume::Geometry::IDENTITY);
    let sum: f64 = made.volume.hu.iter().map(|v| f64::from(*v)).sum();
    assert_eq!(sum, -7_321_181_215.0);
    assert_eq!(
        [made.volume.hu[(10, 256, 200)], made.volume.hu[(3, 300, 256)], made.volume.hu[(40, 250, 250)]],
        [497.0, 85.0, 158.0]
    );
    assert!(made.refusals.is_empty(), "{:?}", made.refusals);
    assert!(made.notes.is_empty(), "{:?}", made.notes);
}

#[test]
fn a_short_jpeg_2000_series_becomes_a_volume_that_must_not_be_analyzed() {
    let (files, plan) = plan("totalsegmentator/example_ct_dicom");
    let plan = plan.unwrap();
    let made = assemble(&files, &plan);
    assert_eq!(made.volume.geometry.size, [512, 512, 20]);
    assert_eq!(made.volume.geometry.spacing_mm, [0.9765625, 0.9765625, 2.0]);
    let sum: f64 = made.volume.hu.iter().map(|v| f64::from(*v)).sum();
    assert_eq!(sum, -3_272_217_339.0);
    assert_eq!(
        [made.volume.hu[(10, 256, 200)], made.volume.hu[(3, 300, 256)], made.volume.hu[(19, 250, 250)]],
        [86.0, 148.0, 102.0]
    );
    assert_eq!(made.refusals.iter().map(|n| n.code).collect::<Vec<_>>(), ["series.short-extent"]);
    assert!(made.notes.iter().any(|n| n.code == "series.no-uids"));
}

#[test]
fn a_head_with_changing_spacing_is_refused_with_the_reason() {
    let error = plan("dicom_oddities/ge_head_variable_tilt").1.unwrap_err();
    assert_eq!(error.code(), "series.variable-spacing");
    assert_eq!(
        error.to_string(),
        "the distance of neighboring slices varies from 1.08 to 7.00 mm: they form no regular volume"
    );
}
