//! Whole predictions beside nnU-Net's own, on real trained folders (tests/data/nnunet, made by
//! models/training/nnunet_reference.py).

use metwatch::segment::nnunet::{self, Recipe, Source};
use metwatch::segment::{Options, Package, Plan, Segmentation, Segmenter};
use metwatch::volume::{Volume, decode_image};
use ndarray::{Array3, Axis, concatenate};
use std::fs;
use std::path::PathBuf;

pub const MODELS: [&str; 5] = ["2d", "3d", "thick", "regions", "two"];

pub fn folder(model: &str) -> PathBuf {
    let folder = PathBuf::from("tests/data/nnunet").join(model);
    assert!(folder.is_dir(), "{} is missing: models/training/nnunet_reference.py makes it", folder.display());
    folder
}

fn bytes(model: &str, file: &str) -> Vec<u8> {
    fs::read(folder(model).join(file)).unwrap_or_else(|e| panic!("{model}/{file}: {e}"))
}

/// The files of a model as `import-nnunet` finds them.
pub fn source(model: &str) -> Source {
    let mut networks: Vec<(String, Vec<u8>)> = Vec::new();
    while let Ok(onnx) = fs::read(folder(model).join(format!("fold_{}.onnx", networks.len()))) {
        networks.push((format!("fold_{}.onnx", networks.len()), onnx));
    }
    Source {
        folder: "results".into(),
        plans: bytes(model, "plans.json"),
        dataset: bytes(model, "dataset.json"),
        sidecar: Some(bytes(model, "nnunet.json")),
        networks,
        ..Source::default()
    }
}

pub fn package(source: Source) -> Package {
    let files = nnunet::files(source.take_over().expect("a model of nnU-Net")).expect("a package");
    Package::from_files(files).expect("a whole package")
}

fn recipe(package: &Package) -> &Recipe {
    let Plan::Nnunet(recipe) = &package.plan else { panic!("an nnU-Net package") };
    recipe
}

pub fn images(model: &str) -> Vec<Volume> {
    let n = if model == "two" { 2 } else { 1 };
    (0..n).map(|k| decode_image(&bytes(model, &format!("image_{k:04}.nii.gz"))).unwrap().to_volume().unwrap()).collect()
}

fn labels(model: &str, file: &str) -> Array3<u8> {
    decode_image(&bytes(model, file)).unwrap().to_labels().unwrap()
}

fn array(model: &str, file: &str) -> Array3<f32> {
    decode_image(&bytes(model, file)).unwrap().voxels.to_f32()
}

fn segment(segmenter: &Segmenter, volumes: &[Volume], options: &Options) -> Segmentation {
    let volumes: Vec<&Volume> = volumes.iter().collect();
    segmenter.segment_channels(&volumes, options, &|_| ()).expect("it can be segmented")
}

/// Fails unless 99.9 % of voxels are equal and each label of either side has Dice 0.999.
fn assert_same(what: &str, found: &Array3<u8>, expected: &Array3<u8>) {
    assert_eq!(found.dim(), expected.dim(), "{what}");
    let differ = found.iter().zip(expected).filter(|(a, b)| a != b).count();
    let share = differ as f64 / found.len() as f64;
    let present = (1..=255u8).filter(|v| expected.iter().chain(found).any(|k| k == v));
    for value in present {
        let (mut both, mut sum) = (0u64, 0u64);
        for (a, b) in found.iter().zip(expected) {
            both += u64::from(*a == value && *b == value);
            sum += u64::from(*a == value) + u64::from(*b == value);
        }
        let dice = 2.0 * both as f64 / sum as f64;
        println!("{what}: label {value} Dice {dice:.5}, {sum} voxels on both sides");
        assert!(dice >= 0.999, "{what}: label {value} has Dice {dice:.5}");
    }
    println!("{what}: {differ} of {} voxels differ", found.len());
    assert!(share <= 0.001, "{what}: {:.3} % of voxels differ", share * 100.0);
}

#[test]
fn images_on_the_networks_grid_are_those_of_nnunet() {
    for model in MODELS {
        let package = package(source(model));
        let volumes = images(model);
        let prepared = nnunet::prepare(recipe(&package), &volumes.iter().collect::<Vec<_>>()).expect("a grid");
        let channels: Vec<_> = prepared.image.axis_iter(Axis(0)).collect();
        let found = concatenate(Axis(0), &channels).expect("equal shapes");
        let expected = array(model, "preprocessed.nii.gz");
        assert_eq!(found.dim(), expected.dim(), "{model}");
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
        println!("{model}: {:?}, largest difference {worst:.2e}", prepared.image.dim());
        assert!(worst <= 1e-4, "{model}: {worst}");
    }
}

#[test]
fn logits_are_those_of_nnunet() {
    for model in MODELS {
        let mut package = package(source(model));
        let volumes = images(model);
        let expected = array(model, "logits.nii.gz");
        // Without postprocessing and resampling back: what the sliding window gives.
        let Plan::Nnunet(recipe) = &mut package.plan else { panic!("an nnU-Net package") };
        recipe.postprocessing.clear();
        let segmenter = Segmenter::load(package).expect("golden vectors hold");
        let found = segmenter
            .nnunet_logits(&volumes.iter().collect::<Vec<_>>(), &Options::default())
            .expect("logits")
            .expect("an nnU-Net model");
        let classes: Vec<_> = found.axis_iter(Axis(0)).collect();
        let found = concatenate(Axis(0), &classes).expect("equal shapes");
        assert_eq!(found.dim(), expected.dim(), "{model}");
        // nnU-Net sums in f16. Where only a patch's corner reaches, the weight is f16's smallest value (6e-8), so that its sums
        // are whole numbers there and its logits off by up to a half (0.49 measured): the mean is held, not the largest.
        let difference = |(a, b): (&f32, &f32)| (a - b).abs() / (1.0 + b.abs());
        let worst = found.iter().zip(&expected).map(difference).fold(0.0f32, f32::max);
        let mean = found.iter().zip(&expected).map(difference).sum::<f32>() / found.len() as f32;
        println!("{model}: relative difference of logits {worst:.2e} at most, {mean:.2e} on average");
        assert!(mean <= 2e-3, "{model}: {mean}");
    }
}

#[test]
fn labels_are_those_of_nnunets_predictor() {
    for model in MODELS {
        let mut package = package(source(model));
        let volumes = images(model);
        if model == "3d" {
            let Plan::Nnunet(recipe) = &mut package.plan else { panic!("an nnU-Net package") };
            assert_eq!(recipe.postprocessing, [vec![1, 2], vec![2]]);
            recipe.postprocessing.clear(); // which nnUNetv2_predict does not apply
        }
        let segmenter = Segmenter::load(package).expect("golden vectors hold");
        let found = segment(&segmenter, &volumes, &Options::default());
        assert_eq!(found.labels.geometry, volumes[0].geometry);
        assert_same(model, &found.labels.labels, &labels(model, "labels.nii.gz"));
        let plain = segment(&segmenter, &volumes, &Options { mirror: false, ..Options::default() });
        assert_same(&format!("{model} not mirrored"), &plain.labels.labels, &labels(model, "labels_no_mirror.nii.gz"));
    }
}

#[test]
fn postprocessing_is_that_of_nnunet() {
    let segmenter = Segmenter::load(package(source("3d"))).expect("golden vectors hold");
    let found = segment(&segmenter, &images("3d"), &Options::default());
    assert_same("3d postprocessed", &found.labels.labels, &labels("3d", "labels_postprocessed.nii.gz"));
}

#[test]
fn the_same_labels_for_any_number_of_threads_and_passes() {
    for model in ["2d", "thick"] {
        let segmenter = Segmenter::load(package(source(model))).expect("golden vectors hold");
        let volumes = images(model);
        let with = |threads, passes| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a small pool");
            let options = Options { passes, probabilities: true, ..Options::default() };
            pool.install(|| segment(&segmenter, &volumes, &options))
        };
        let (one, many) = (with(1, 1), with(2, 3));
        assert_eq!(one.labels.labels, many.labels.labels);
        assert_eq!(one.probabilities, many.probabilities, "to the bit");
        // As text: an organ that the model does not know is a NaN in both.
        assert_eq!(format!("{:?}", one.measures), format!("{:?}", many.measures));
    }
}

#[test]
fn probabilities_belong_to_the_labels() {
    for model in ["2d", "regions"] {
        let segmenter = Segmenter::load(package(source(model))).expect("golden vectors hold");
        let options = Options { probabilities: true, ..Options::default() };
        let found = segment(&segmenter, &images(model), &options);
        let p = found.probabilities.expect("they were asked for");
        for ((z, y, x), label) in found.labels.labels.indexed_iter() {
            let voxel: Vec<f32> = p.slice(ndarray::s![.., z, y, x]).to_vec();
            let expected = if model == "2d" {
                assert!((voxel.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                let best = voxel.iter().copied().fold(0.0, f32::max);
                voxel.iter().position(|v| *v == best).unwrap_or(0) as u8
            } else {
                voxel.iter().zip([1, 2, 3]).filter(|(v, _)| **v > 0.5).map(|(_, k)| k).next_back().unwrap_or(0)
            };
            assert_eq!(*label, expected, "{model} {voxel:?}");
        }
    }
}
