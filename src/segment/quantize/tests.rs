//! Small packages quantized, on what their volumes hold.

use super::loss::Overlap;
use super::*;
use crate::segment::Segmenter;
use crate::segment::tests::{SIZE, SPACING_MM, patient, shipped};
use crate::volume::Geometry;
use prost::Message;

#[test]
fn ranges_by_hand() {
    // 10,001 values 0, 0.01 ... 100: 0.01 % are one value at each end.
    let values: Vec<f32> = (0..=10_000).map(|k| k as f32 / 100.0).collect();
    let percentile = scale(&values, Range::Percentile, 127);
    assert_eq!(percentile, Scale { step: 99.99 / 127.0, zero: 0, levels: 127 });
    // One outlier at 1000 among 20,000 values up to 1: the squared error of the outlier decides, unless the others are many.
    let mut with_outlier: Vec<f32> = (0..200_000).map(|k| (k % 1000) as f32 / 1000.0).collect();
    with_outlier.push(10.0);
    with_outlier.sort_unstable_by(f32::total_cmp);
    let whole = Scale::over([0.0, 10.0], 127);
    assert!(scale(&with_outlier, Range::SquaredError, 127).step < whole.step);
    // -1 to 3: 127 steps of 4 / 127; 0 is byte 32 (31.75).
    let signed = Scale::over([-1.0, 3.0], 127);
    assert_eq!((signed.zero, signed.through(-5.0), signed.through(0.0)), (32, -32.0 * signed.step, 0.0));
    assert_eq!(Scale::over([1.0, 2.0], 127).zero, 0, "0 is always a byte: padding needs it");
}

#[test]
fn dice_by_hand() {
    let map = |labels: [u8; 4]| Array3::from_shape_vec((1, 1, 4), labels.to_vec()).unwrap();
    let mut overlap = Overlap::default();
    overlap.add(&map([0, 1, 1, 2]), &map([1, 1, 1, 0]));
    assert_eq!((overlap.dice(1), overlap.dice(2), overlap.dice(3)), (Some(0.8), Some(0.0), None));
}

#[test]
fn the_worst_label_decides_and_the_truth_goes_first() {
    let row = |label, against_f32, truth| Row { label, against_f32, truth, is_judged: true };
    let rows = [row("liver", 0.999, None), row("colon", 0.90, Some([0.80, 0.797]))];
    // Colon differs from f32 in many voxels, but not for the worse: 0.3 points. Liver loses 0.1.
    assert!(judge(&rows, 0.31).is_ok());
    let error = judge(&rows, 0.29).unwrap_err();
    assert!(matches!(&error, QuantizeError::Loss { label, .. } if label == "colon"), "{error}");
    assert!(error.to_string().contains("0.30") && error.to_string().contains("0.29"), "{error}");
    assert!(matches!(judge(&[], 0.5), Err(QuantizeError::NothingFound)));
    let figures = metrics(&rows, 3);
    assert_eq!(
        figures.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        [
            "int8_volumes_compared",
            "int8_dice_liver_to_f32",
            "int8_dice_colon_to_f32",
            "f32_dice_colon_to_truth",
            "int8_dice_colon_to_truth",
        ]
    );
}

/// The shipped network (8-24-48-80, trained on phantoms), quantized on a drawn patient.
#[test]
fn the_shipped_package_works_in_int8_from_end_to_end() {
    let parent = shipped();
    let (volume, _) = patient(Geometry::IDENTITY, SIZE, SPACING_MM);
    for range in [Range::Percentile, Range::SquaredError] {
        let mut calibration = Calibration::new(&Package::from_files(parent.clone()).unwrap()).unwrap();
        assert!(matches!(calibration.finish(range), Err(QuantizeError::NoVolume)));
        calibration.add(&volume).unwrap();
        let onnx = calibration.finish(range).unwrap();
        let quantized = package(&parent, onnx, "1 volume").unwrap();
        // 10 3x3x3, 3 transposed and the head, all in integers.
        assert_eq!(quantized.convolutions, [14, 0]);
        let mut files = quantized.files;
        add_metrics(&mut files, &[("int8_dice".into(), 0.99)]).unwrap();
        let made = Package::from_files(files.clone()).unwrap();
        assert_eq!((made.id.as_str(), made.metrics["int8_dice"]), ("abdomen-phantom-int8", 0.99));
        assert!(made.quantization.ends_with("int8 arithmetic"), "{}", made.quantization);
        assert!(matches!(Calibration::new(&made), Err(QuantizeError::Already)));

        let of =
            |files| Segmenter::load(Package::from_files(files).unwrap()).unwrap().segment(&volume, &|_| ()).unwrap();
        let (f32_labels, int8_labels) = (of(parent.clone()).labels.labels, of(files.clone()).labels.labels);
        let mut overlap = Overlap::default();
        overlap.add(&f32_labels, &int8_labels);
        let liver = overlap.dice(1).unwrap();
        println!("{range:?}: liver {liver:.4}, lesion {:?}", overlap.dice(2));
        assert!(liver > 0.99, "{range:?}: {liver}");
        assert_ne!(f32_labels, int8_labels, "two arithmetics differ somewhere");

        // The golden vectors are those of the integers: one changed weight of the head is noticed.
        let mut model = tract_onnx::pb::ModelProto::decode(&made.onnx[..]).unwrap();
        let weights = &mut model.graph.as_mut().unwrap().initializer;
        let head = weights.iter_mut().rfind(|w| w.name.ends_with("_int8")).unwrap();
        head.raw_data[0] ^= 0x40;
        let mut broken = made.clone();
        broken.onnx = model.encode_to_vec();
        let error = Segmenter::load(broken).err().unwrap();
        assert!(matches!(error, SegmentError::GoldenMismatch { .. }), "{error}");
    }
}

#[test]
fn an_arithmetic_that_the_network_does_not_have_is_refused() {
    let mut files = shipped();
    edit_manifest(&mut files, |manifest| {
        manifest.get_mut("quantization")?.as_table_mut()?.insert("arithmetic".into(), "int8".into());
        Some(())
    })
    .unwrap();
    let error = Package::from_files(files).and_then(Segmenter::load).err().unwrap();
    assert!(error.to_string().contains("int8 arithmetic"), "{error}");
}

#[test]
fn the_middle_of_a_large_grid() {
    let grid = Array3::from_shape_fn((8, 264, 1024), |(z, y, x)| (z + y + x) as f32);
    // 8 x 264 x 1024 = 2.2 million: x is halved once, to 512 from 256 on; then 8 x 264 x 512 = 1.08 million, and x again.
    let found = middle(grid, 8);
    assert_eq!((found.dim(), found[[0, 0, 0]]), ((8, 264, 256), 384.0));
}
