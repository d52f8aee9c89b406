//! Series rules on headers that a person can check: 40 slices, 4 mm apart, then one thing odd at a time.

use super::*;
use crate::Explain;
use crate::dicom::{Patient, PixelFormat};

fn slice(k: usize) -> Header {
    Header {
        transfer_syntax: syntax::EXPLICIT_LE.into(),
        sop_class_uid: sop_class::CT.into(),
        sop_instance_uid: Identifier::new(format!("1.2.{}", k + 1)),
        study_instance_uid: "1.2.3".into(),
        series_instance_uid: "1.2.4".into(),
        frame_of_reference_uid: "1.2.5".into(),
        patient: Patient { id: "P1".into(), name: "Doe^Jane".into(), ..Default::default() },
        accession_number: "A1".into(),
        study_id: "".into(),
        study_description: "".into(),
        referring_physician: "".into(),
        study_date: "20260101".into(),
        study_time: "120000".into(),
        series_number: Some(2),
        instance_number: Some(k as i32 + 1),
        modality: "CT".into(),
        image_type: vec!["ORIGINAL".into(), "PRIMARY".into(), "AXIAL".into()],
        manufacturer: "".into(),
        model_name: "".into(),
        kernel: "STANDARD".into(),
        acquisition_number: Some(1),
        temporal_position: None,
        contrast_agent: "".into(),
        patient_position: "HFS".into(),
        slice_thickness_mm: Some(4.0),
        kvp: Some(120.0),
        position_mm: Some([-100.0, -200.0, 4.0 * k as f64]),
        row_cosines: Some([1.0, 0.0, 0.0]),
        column_cosines: Some([0.0, 1.0, 0.0]),
        pixel_spacing_mm: Some([0.8, 0.7]),
        rescale_slope: Some(1.0),
        rescale_intercept: Some(-1024.0),
        rescale_type: "HU".into(),
        modality_lut: false,
        lossy: false,
        pixels: PixelFormat {
            rows: 4,
            columns: 5,
            frames: 1,
            samples: 1,
            photometric: "MONOCHROME2".into(),
            bits_allocated: 16,
            bits_stored: 16,
            high_bit: 15,
            signed: true,
            padding: None,
            padding_limit: None,
            present: true,
        },
        content_sha256: [k as u8; 32],
    }
}

fn series(n: usize) -> Vec<Header> {
    (0..n).map(slice).collect()
}

fn code(headers: &[Header]) -> &'static str {
    plan_series(headers).unwrap_err().code()
}

fn notes(plan: &SeriesPlan) -> Vec<&'static str> {
    plan.notes.iter().map(|n| n.code).collect()
}

#[test]
fn a_regular_stack_becomes_a_grid_whatever_the_order_of_its_files() {
    let mut headers = series(40);
    headers.reverse();
    let plan = plan_series(&headers).unwrap();
    assert_eq!(plan.geometry.size, [5, 4, 40]);
    assert_eq!(plan.geometry.origin_mm, [-100.0, -200.0, 0.0]);
    assert_eq!(plan.geometry.direction, Geometry::IDENTITY);
    let [x, y, z] = plan.geometry.spacing_mm;
    assert!((x - 0.7).abs() < 1e-12 && (y - 0.8).abs() < 1e-12 && (z - 4.0).abs() < 1e-12);
    assert_eq!(plan.slices[0].index, 39);
    assert!(!plan.resampled && plan.notes.is_empty() && plan.refusals.is_empty());
}

#[test]
fn a_missing_slice_is_named_with_its_place() {
    let mut headers = series(40);
    headers.remove(17);
    let expected = SeriesError::MissingSlice { index: 16, gap_mm: 8.0, usual_mm: 4.0, missing: 1 };
    assert_eq!(plan_series(&headers), Err(expected.clone()));
    assert!(expected.may_heal());
    assert!(expected.to_string().starts_with("slices 16 and 17 lie 8.00 mm apart"));
}

#[test]
fn two_regular_runs_are_variable_spacing() {
    let mut headers = series(40);
    headers
        .iter_mut()
        .enumerate()
        .skip(20)
        .for_each(|(k, h)| h.position_mm = Some([-100.0, -200.0, 80.0 + 7.0 * (k - 20) as f64]));
    assert_eq!(code(&headers), "series.variable-spacing");
}

#[test]
fn jitter_is_resampled_with_a_note() {
    let mut headers = series(40);
    headers[7].position_mm = Some([-100.0, -200.0, 28.2]);
    let plan = plan_series(&headers).unwrap();
    assert!(plan.resampled);
    assert_eq!(notes(&plan), ["series.jitter"]);
}

#[test]
fn tilt_is_sheared_or_refused() {
    let tilted = |degrees: f64| {
        let mut headers = series(40);
        let shift = 4.0 * degrees.to_radians().tan();
        headers
            .iter_mut()
            .enumerate()
            .for_each(|(k, h)| h.position_mm = Some([-100.0, -200.0 + shift * k as f64, 4.0 * k as f64]));
        headers
    };
    let plan = plan_series(&tilted(10.0)).unwrap();
    // 39 steps of 0.705 mm are 27.5 mm: 35 rows of 0.8 mm more.
    assert_eq!(plan.geometry.size, [5, 39, 40]);
    assert_eq!(notes(&plan), ["series.tilt"]);
    assert!(!plan_series(&tilted(0.3)).unwrap().resampled);
    assert_eq!(code(&tilted(40.0)), "series.tilt");
    let mut bent = series(40);
    bent[20].position_mm = Some([-90.0, -200.0, 80.0]);
    assert_eq!(code(&bent), "series.sidestep");
}

#[test]
fn short_series_are_an_error_and_short_volumes_a_refusal() {
    assert_eq!(code(&series(10)), "series.too-few-slices");
    let plan = plan_series(&series(25)).unwrap();
    assert_eq!(plan.refusals.iter().map(|n| n.code).collect::<Vec<_>>(), ["series.short-extent"]);
}

#[test]
fn what_is_no_ct_slice_is_refused_by_name() {
    let all = |change: fn(&mut Header)| {
        let mut headers = series(40);
        headers.iter_mut().for_each(change);
        code(&headers)
    };
    assert_eq!(code(&[]), "series.empty");
    assert_eq!(all(|h| h.modality = "MR".into()), "series.not-ct");
    assert_eq!(all(|h| h.sop_class_uid = sop_class::ENHANCED_CT.into()), "series.enhanced");
    assert_eq!(all(|h| h.image_type[2] = "LOCALIZER".into()), "series.localizer");
    assert_eq!(all(|h| h.image_type = vec!["DERIVED".into(), "SECONDARY".into(), "MPR".into()]), "series.derived");
    assert_eq!(all(|h| h.position_mm = None), "series.no-geometry");
    assert_eq!(all(|h| h.lossy = true), "series.lossy");
    assert_eq!(all(|h| h.transfer_syntax = "1.2.840.10008.1.2.4.80".into()), "series.codec");
    assert_eq!(all(|h| h.pixels.samples = 3), "series.pixel-format");
    assert_eq!(all(|h| h.rescale_slope = Some(0.0)), "series.no-hu");
    assert_eq!(all(|h| h.rescale_type = "US".into()), "series.no-hu");
    assert_eq!(all(|h| h.column_cosines = Some([0.0, 0.9, 0.0])), "series.cosines");
}

#[test]
fn a_localizer_beside_the_stack_is_left_out() {
    let mut headers = series(41);
    headers[40].image_type[2] = "LOCALIZER".into();
    let plan = plan_series(&headers).unwrap();
    assert_eq!((plan.slices.len(), notes(&plan)), (40, vec!["series.objects-left-out"]));
}

#[test]
fn patients_are_never_mixed() {
    let mut headers = series(40);
    headers[12].patient.id = "P2".into();
    assert_eq!(code(&headers), "series.mixed-patients");
}

#[test]
fn repeats_are_ignored_altered_repeats_are_announced() {
    let mut headers = series(40);
    headers.push(slice(3));
    assert!(plan_series(&headers).unwrap().notes.is_empty());
    headers[40].content_sha256 = [99; 32];
    assert_eq!(notes(&plan_series(&headers).unwrap()), ["series.altered-duplicate"]);
}

#[test]
fn two_kernels_are_two_stacks_and_unknown_duplicates_are_refused() {
    let mut headers = series(40);
    let again = |k: usize| Header {
        sop_instance_uid: Identifier::new(format!("1.9.{k}")),
        content_sha256: [200; 32],
        ..slice(k)
    };
    headers.extend((0..40).map(again));
    assert_eq!(code(&headers), "series.duplicates");
    headers.iter_mut().skip(40).for_each(|h| h.kernel = "BONE".into());
    assert_eq!(code(&headers), "series.several-stacks");
    let plan = plan_series(&headers[..50]).unwrap();
    assert_eq!((plan.slices.len(), notes(&plan)), (40, vec!["series.stacks-left-out"]));
    // 25 slices of 4 mm could be made, but only the 40 may be analyzed.
    let plan = plan_series(&headers[..65]).unwrap();
    assert_eq!((plan.slices.len(), notes(&plan)), (40, vec!["series.stacks-left-out"]));
}
