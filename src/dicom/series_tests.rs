//! Series rules on headers that a person can check: 40 slices, 4 mm apart, then one thing odd at a time.

use super::*;
use crate::Explain;
use crate::dicom::{Frame, Patient, PixelFormat};

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
        series_description: "".into(),
        protocol_name: "".into(),
        body_part: "".into(),
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
            short: false,
        },
        frames: Vec::new(),
        content_sha256: Some([k as u8; 32]),
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

/// `a` gaps of 4 mm, then `b` gaps of 7 mm.
fn two_runs(a: usize, b: usize) -> Vec<Header> {
    let mut headers = series(a + b + 1);
    let z = |k: usize| 4.0 * k.min(a) as f64 + 7.0 * k.saturating_sub(a) as f64;
    headers.iter_mut().enumerate().for_each(|(k, h)| h.position_mm = Some([-100.0, -200.0, z(k)]));
    headers
}

#[test]
fn of_two_regular_runs_the_only_long_one_is_used() {
    // 84 mm and 21 x 7 mm: only the second may be analyzed.
    let plan = plan_series(&two_runs(20, 20)).unwrap();
    assert_eq!((plan.slices.len(), plan.geometry.origin_mm[2]), (21, 80.0));
    assert!((plan.geometry.spacing_mm[2] - 7.0).abs() < 1e-9 && !plan.resampled);
    assert_eq!(notes(&plan), ["series.run-taken"]);
    // Both would do: nothing says which covers the organ. None would do: 48 and 63 mm.
    assert_eq!(code(&two_runs(40, 25)), "series.variable-spacing");
    assert_eq!(code(&two_runs(12, 9)), "series.variable-spacing");
}

#[test]
fn spacing_within_one_percent_is_regular_and_beyond_ten_percent_it_is_not() {
    let moved = |by_mm: f64| {
        let mut headers = series(40);
        headers[7].position_mm = Some([-100.0, -200.0, 28.0 + by_mm]);
        plan_series(&headers).map(|plan| plan.resampled)
    };
    assert_eq!(moved(0.03), Ok(false));
    assert_eq!(moved(0.05), Ok(true));
    assert_eq!(moved(0.39), Ok(true));
    assert!(matches!(moved(0.45), Err(SeriesError::VariableSpacing { .. })));
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
    // Two frames without functional groups.
    let bare = |h: &mut Header| (h.sop_class_uid, h.pixels.frames) = (sop_class::ENHANCED_CT.into(), 2);
    assert_eq!(all(bare), "series.enhanced");
    assert_eq!(all(|h| h.sop_class_uid = "1.2.840.10008.5.1.4.1.1.7".into()), "series.not-ct");
    assert_eq!(all(|h| h.image_type[2] = "LOCALIZER".into()), "series.localizer");
    assert_eq!(all(|h| h.image_type = vec!["DERIVED".into(), "SECONDARY".into(), "MPR".into()]), "series.derived");
    assert_eq!(all(|h| h.image_type = vec!["DERIVED".into(), "PRIMARY".into(), "MIP".into()]), "series.derived");
    let screen = |h: &mut Header| h.image_type = vec!["DERIVED".into(), "SECONDARY".into(), "SCREEN SAVE".into()];
    assert_eq!(all(screen), "series.derived");
    assert_eq!(all(|h| h.position_mm = None), "series.no-geometry");
    assert_eq!(all(|h| (h.row_cosines, h.column_cosines) = (None, None)), "series.no-geometry");
    assert_eq!(all(|h| h.pixel_spacing_mm = None), "series.no-geometry");
    assert_eq!(all(|h| h.transfer_syntax = "1.2.840.10008.1.2.4.51".into()), "series.lossy");
    assert_eq!(all(|h| h.transfer_syntax = "1.2.840.10008.1.2.4.100".into()), "series.codec");
    assert_eq!(all(|h| h.pixels.samples = 3), "series.pixel-format");
    assert_eq!(all(|h| h.pixels.photometric = "MONOCHROME1".into()), "series.pixel-format");
    assert_eq!(all(|h| h.pixels.bits_allocated = 8), "series.pixel-format");
    assert_eq!(all(|h| h.pixels.short = true), "series.short-pixels");
    assert_eq!(all(|h| h.rescale_slope = Some(0.0)), "series.no-hu");
    assert_eq!(all(|h| h.rescale_slope = None), "series.no-hu");
    assert_eq!(all(|h| h.rescale_intercept = None), "series.no-hu");
    assert_eq!(all(|h| h.modality_lut = true), "series.no-hu");
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
fn loss_is_a_refusal_and_a_lossless_stack_beside_it_is_used() {
    let refusals = |plan: &SeriesPlan| plan.refusals.iter().map(|n| n.code).collect::<Vec<_>>();
    let mut headers = series(40);
    headers.iter_mut().for_each(|h| h.lossy = true);
    assert_eq!(refusals(&plan_series(&headers).unwrap()), ["series.lossy"]);
    headers.extend((0..40).map(|k| Header { sop_instance_uid: Identifier::new(format!("1.9.{k}")), ..slice(k) }));
    let plan = plan_series(&headers).unwrap();
    assert_eq!((refusals(&plan), notes(&plan)), (vec![], vec!["series.stacks-left-out"]));
    assert!(plan.slices.iter().all(|s| !s.header.lossy));
}

#[test]
fn patients_are_never_mixed() {
    let with = |change: fn(&mut Header)| {
        let mut headers = series(40);
        change(&mut headers[12]);
        plan_series(&headers).map_err(|e| e.code())
    };
    assert_eq!(with(|h| h.patient.id = "P2".into()), Err("series.mixed-patients"));
    assert_eq!(with(|h| h.patient.name = "Doe^John".into()), Err("series.mixed-patients"));
    assert_eq!(with(|h| h.patient.birth_date = "19500101".into()), Err("series.mixed-patients"));
    assert_eq!(with(|h| h.patient.sex = "M".into()), Err("series.mixed-patients"));
    assert!(with(|h| h.patient.name = "DOE^JANE^^ ".into()).is_ok(), "the same name, written differently");
    let mut nameless = series(40);
    nameless.iter_mut().for_each(|h| h.patient.id = "".into());
    assert_eq!(notes(&plan_series(&nameless).unwrap()), ["series.no-patient-id"]);
}

#[test]
fn feet_first_and_prone_are_told_by_the_cosines_and_never_by_patient_position() {
    let mut headers = series(40);
    // Prone: rows run to the patient's right, columns to the front. The normal still points to the head.
    for h in &mut headers {
        (h.row_cosines, h.column_cosines) = (Some([-1.0, 0.0, 0.0]), Some([0.0, -1.0, 0.0]));
        h.position_mm = h.position_mm.map(|[_, _, z]| [100.0, 200.0, -z]);
        h.patient_position = "HFS".into();
    }
    let plan = plan_series(&headers).unwrap();
    assert_eq!(plan.geometry.direction, [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]]);
    assert_eq!((plan.geometry.origin_mm, plan.slices[0].index), ([100.0, 200.0, -156.0], 39));
    // Supine with mirrored columns of slices: the normal points to the feet, and so does the stack.
    let mut headers = series(40);
    headers.iter_mut().for_each(|h| h.row_cosines = Some([-1.0, 0.0, 0.0]));
    let plan = plan_series(&headers).unwrap();
    assert_eq!((plan.geometry.origin_mm[2], plan.geometry.direction[2][2]), (156.0, -1.0));
}

#[test]
fn frames_of_an_enhanced_object_follow_the_same_rules() {
    let frame = |k: usize| Frame {
        position_mm: Some([-100.0, -200.0, 4.0 * k as f64]),
        cosines: Some([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
        pixel_spacing_mm: Some([0.8, 0.7]),
        slice_thickness_mm: Some(4.0),
        rescale_slope: Some(1.0),
        rescale_intercept: Some(-1024.0 - k as f64),
        rescale_type: "HU".into(),
        kernel: "B30f".into(),
        ..Default::default()
    };
    let mut object = slice(0);
    object.sop_class_uid = sop_class::ENHANCED_CT.into();
    object.pixels.frames = 40;
    object.frames = (0..40).rev().map(frame).collect();
    (object.position_mm, object.rescale_slope) = (None, None);
    let plan = plan_series(std::slice::from_ref(&object)).unwrap();
    assert_eq!(plan.geometry.size, [5, 4, 40]);
    assert!(plan.slices.iter().enumerate().all(|(k, s)| (s.index, s.frame) == (0, 39 - k)));
    assert_eq!(
        (plan.slices[3].header.rescale_intercept, plan.slices[3].header.kernel.as_str()),
        (Some(-1027.0), "B30f")
    );
    object.frames.remove(20);
    assert_eq!(code(std::slice::from_ref(&object)), "series.enhanced");
    object.pixels.frames = 39;
    assert_eq!(code(std::slice::from_ref(&object)), "series.missing-slice");
    object.frames[5].rescale_slope = None;
    object.frames.truncate(19);
    object.pixels.frames = 19;
    assert_eq!(code(std::slice::from_ref(&object)), "series.too-few-slices");
}

#[test]
fn repeats_are_ignored_altered_repeats_are_announced() {
    let mut headers = series(40);
    headers.push(slice(3));
    assert!(plan_series(&headers).unwrap().notes.is_empty());
    headers[40].content_sha256 = Some([99; 32]);
    assert_eq!(notes(&plan_series(&headers).unwrap()), ["series.altered-duplicate"]);
}

#[test]
fn two_kernels_are_two_stacks_and_unknown_duplicates_are_refused() {
    let mut headers = series(40);
    let again = |k: usize| Header {
        sop_instance_uid: Identifier::new(format!("1.9.{k}")),
        content_sha256: Some([200; 32]),
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
