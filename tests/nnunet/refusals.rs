//! Models and images that cannot be used: each refused by name.

use super::equality::{images, package, source};
use metwatch::Explain;
use metwatch::segment::nnunet::{ImportError, Source};
use metwatch::segment::{Options, Package, SegmentError, Segmenter};
use metwatch::volume::{Geometry, Region, Volume};
use ndarray::{Array3, s};

fn edited(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(bytes).expect("JSON");
    assert!(text.contains(from), "there is no {from}");
    text.replacen(from, to, 1).into_bytes()
}

fn refused(source: Source) -> ImportError {
    match source.take_over() {
        Ok(_) => panic!("the model was taken over"),
        Err(error) => error,
    }
}

#[test]
fn what_is_not_run_is_named() {
    // (text in plans.json, what stands there instead, what the refusal names)
    let cases = [
        ("\"3d_fullres\": {", "\"3d_fullres\": {\"previous_stage\": \"3d_lowres\", ", "3d_lowres"),
        (
            "\"resampling_fn_data\": \"resample_data_or_seg_to_shape\"",
            "\"resampling_fn_data\": \"resample_torch_fornnunet\"",
            "resample_torch_fornnunet",
        ),
        (
            "\"resampling_fn_probabilities\": \"resample_data_or_seg_to_shape\"",
            "\"resampling_fn_probabilities\": \"no_resampling_data_or_seg_to_shape\"",
            "no_resampling",
        ),
        ("\"order\": 3", "\"order\": 5", "order 5"),
        ("\"CTNormalization\"", "\"MyNormalization\"", "MyNormalization"),
        ("\"image_reader_writer\": \"SimpleITKIO\"", "\"image_reader_writer\": \"Tiff3DIO\"", "Tiff3DIO"),
        ("\"preprocessor_name\": \"DefaultPreprocessor\"", "\"preprocessor_name\": \"Mine\"", "Mine"),
        ("\"label_manager\": \"LabelManager\"", "\"label_manager\": \"Other\"", "Other"),
    ];
    for (from, to, named) in cases {
        // The model's own configuration only: the file holds others, too.
        let mut model = source("3d");
        let plans: serde_json::Value = serde_json::from_slice(&model.plans).expect("JSON");
        let mut plans = plans.as_object().expect("an object").clone();
        let own = plans["configurations"]["3d_fullres"].clone();
        plans.insert("configurations".into(), serde_json::json!({ "3d_fullres": own }));
        let text = serde_json::to_string(&plans).expect("JSON").replace("\":", "\": ");
        model.plans = edited(text.as_bytes(), from, to);
        let error = refused(model);
        assert_eq!(error.code(), "nnunet.unsupported", "{error}");
        assert!(error.to_string().contains(named), "{named}: {error}");
    }
}

#[test]
fn files_that_do_not_belong_together_are_told_apart() {
    let mut other = source("3d");
    other.networks[0].1.push(0);
    let error = refused(other);
    assert!(matches!(&error, ImportError::Mismatch(m) if m.contains("fold_0.onnx")), "{error}");

    let mut broken = source("3d");
    broken.plans.truncate(100);
    let error = refused(broken);
    assert!(error.code() == "nnunet.file" && error.to_string().contains("plans.json"), "{error}");

    let mut unknown = source("3d");
    unknown.sidecar = Some(edited(&unknown.sidecar.unwrap(), "\"3d_fullres\"", "\"3d_vast\""));
    let error = refused(unknown);
    assert!(error.to_string().contains("3d_vast") && error.to_string().contains("3d_fullres"), "{error}");

    let mut gap = source("3d");
    gap.dataset = edited(&gap.dataset, "\"tumor\": 2", "\"tumor\": 3");
    assert!(refused(gap).to_string().contains("tumor"));

    let mut named = source("3d");
    named.regions.insert("spleen".into(), Region::Liver);
    assert!(refused(named).to_string().contains("spleen"));
}

#[test]
fn heads_that_do_not_match_the_labels_are_refused() {
    let mut more = source("3d");
    more.dataset = edited(&more.dataset, "\"tumor\": 2", "\"tumor\": 2, \"spleen\": 3");
    let Err(error) = Segmenter::load(package(more)) else { panic!("three logits for four labels were taken") };
    assert!(error.to_string().contains("3 logits") && error.to_string().contains('4'), "{error}");
}

#[test]
fn golden_vectors_that_fail_refuse_the_package_with_the_figure() {
    let mut package = package(source("3d"));
    package.more_folds[0].1.logits[7] += 0.5;
    assert!(
        matches!(Segmenter::load(package), Err(SegmentError::GoldenMismatch { worst, .. }) if (worst - 0.5).abs() < 0.01)
    );
}

#[test]
fn an_operator_that_nobody_knows_is_named() {
    let mut model = source("2d");
    let onnx = &mut model.networks[0].1;
    // Field 4 of a node, nine bytes long: its operator, in every node that has it.
    let places = |onnx: &[u8]| onnx.windows(11).position(|w| w == b"\x22\x09LeakyRelu");
    assert!(places(onnx).is_some(), "the network has it");
    while let Some(at) = places(onnx) {
        onnx[at + 2..at + 11].copy_from_slice(b"LeakyFoo9");
    }
    // Without nnunet.json, whose hash would catch it first.
    let model = Source { sidecar: None, configuration: Some("2d".into()), mirror_axes: Some(vec![0, 1]), ..model };
    let files = metwatch::segment::nnunet::files(model.take_over().expect("the plans are fine"));
    let error = files.expect_err("golden vectors cannot be made");
    assert!(error.to_string().contains("LeakyFoo9"), "{error}");
}

#[test]
fn without_the_exporters_file_the_axes_of_mirroring_must_be_given() {
    let bare = || Source { sidecar: None, folder: "nnUNetTrainer__small__3d_fullres".into(), ..source("3d") };
    assert!(matches!(refused(bare()), ImportError::Unknown(what) if what.contains("mirrored")));
    assert!(
        matches!(refused(Source { folder: "model".into(), ..bare() }), ImportError::Unknown(what) if what.contains("configuration"))
    );
    let package = package(Source { mirror_axes: Some(vec![0, 2]), ..bare() });
    assert_eq!(package.more_folds.len(), 1);
    Segmenter::load(package).expect("the vectors that were made here hold here");
}

#[test]
fn manifests_with_odd_values_are_refused() {
    let files = metwatch::segment::nnunet::files(source("thick").take_over().expect("a model")).expect("a package");
    let cases = [
        ("transpose_forward = [0, 1, 2]", "transpose_forward = [0, 1, 1]"),
        ("patch_size = [8, 40, 32]", "patch_size = [8, 40]"),
        ("patch_size = [8, 40, 32]", "patch_size = [0, 40, 32]"),
        ("mirror_axes = [0, 1, 2]", "mirror_axes = [0, 3]"),
        ("normalization = \"ZScoreNormalization\"", "normalization = \"Z\""),
        ("value = 2", "value = 5"),
        ("region = \"liver\"", "region = \"brain\""),
        ("order = 3", "order = 4"),
        ("[nnunet]", "[nnunet]\nunknown = 1"),
    ];
    for (from, to) in cases {
        let mut files = files.clone();
        let manifest = edited(&files["manifest.toml"], from, to);
        files.insert("manifest.toml".into(), manifest);
        let error = Package::from_files(files).expect_err(to);
        assert_eq!(error.code(), "package.invalid", "{to}: {error}");
    }
}

#[test]
fn images_that_no_model_can_answer_are_refused() {
    let segmenter = Segmenter::load(package(source("two"))).expect("golden vectors hold");
    let code = |volumes: &[Volume], options: &Options| {
        let volumes: Vec<&Volume> = volumes.iter().collect();
        let error = segmenter.segment_channels(&volumes, options, &|_| ()).expect_err("it cannot be segmented");
        (error.code(), error.to_string())
    };
    let (good, options) = (images("two"), Options::default());
    let (found, sentence) = code(&good[..1], &options);
    assert!(found == "segment.channels" && sentence.contains("CT, MRI"), "{sentence}");
    let changed = |change: fn(&mut Volume)| {
        let mut volumes = good.clone();
        change(&mut volumes[1]);
        volumes
    };
    for change in [
        |v: &mut Volume| v.hu[[1, 2, 3]] = f32::NAN,
        |v: &mut Volume| v.hu[[1, 2, 3]] = f32::INFINITY,
        |v: &mut Volume| v.geometry.spacing_mm[0] = 0.0,
        |v: &mut Volume| v.geometry.origin_mm[1] += 3.0,
        |v: &mut Volume| v.geometry.size[0] += 1,
    ] {
        assert_eq!(code(&changed(change), &options).0, "segment.volume");
    }
    let mut vast = good.clone();
    vast.iter_mut().for_each(|v| v.geometry.spacing_mm = [1e4; 3]);
    assert!(code(&vast, &options).1.contains("spacing"), "a header that lies");
    let mut tiny = good.clone();
    tiny.iter_mut().for_each(|v| v.geometry.spacing_mm = [1e-3; 3]);
    assert_eq!(code(&tiny, &options).0, "segment.volume");
    let (found, sentence) = code(&good, &Options { memory_available: Some(10 << 20), ..options });
    assert!(found == "segment.memory" && sentence.contains("10 MiB"), "{sentence}");
}

#[test]
fn a_volume_smaller_than_a_patch_is_padded() {
    let segmenter = Segmenter::load(package(source("3d"))).expect("golden vectors hold");
    let image = images("3d").remove(0);
    let hu = image.hu.slice(s![8..11, 20..25, 20..27]).to_owned();
    let small = Volume { geometry: Geometry { size: [7, 5, 3], ..image.geometry.clone() }, hu };
    let found = segmenter.segment_channels(&[&small], &Options::default(), &|_| ()).expect("it works");
    assert_eq!(found.labels.labels.dim(), (3, 5, 7));
    let one = Volume { geometry: Geometry { size: [1; 3], ..image.geometry }, hu: Array3::from_elem((1, 1, 1), 50.0) };
    segmenter.segment_channels(&[&one], &Options::default(), &|_| ()).expect("a voxel works");
}

#[test]
fn labels_are_regions_where_their_names_say_so() {
    let liver = package(source("3d"));
    assert_eq!(liver.scheme.value_of(Region::Liver), Some(1));
    assert_eq!(liver.scheme.value_of(Region::LiverLesion), Some(2));
    // A model without a liver keeps its names, and its labels carry no risk.
    let bare = package(source("regions"));
    assert_eq!(bare.label_names(), [(1, "whole".into()), (2, "core".into()), (3, "enhancing".into())]);
    let segmenter = Segmenter::load(bare).expect("golden vectors hold");
    let found = segmenter.segment_channels(&[&images("regions")[0]], &Options::default(), &|_| ()).expect("labels");
    assert_eq!(found.gate.reasons.iter().map(|r| r.code).collect::<Vec<_>>(), ["gate.no-liver-label"]);
    let mut told = source("regions");
    told.regions.insert("whole".into(), Region::Liver);
    assert_eq!(package(told).scheme.value_of(Region::Liver), Some(1));
}
