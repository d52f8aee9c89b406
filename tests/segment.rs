//! The shipped segmenter on phantoms that it never saw, and its package.

use crate::common::{Folder, run};
use metwatch::phantom::{Options, generate};
use metwatch::segment::{Package, SegmentError, Segmenter};
use std::collections::BTreeMap;

const PACKAGE: &str = "models/segmenter-phantom";

fn files() -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(PACKAGE).expect("the package is in the repository").map(|e| e.expect("readable"));
    entries.map(|e| (e.file_name().into_string().expect("UTF-8"), std::fs::read(e.path()).expect("readable"))).collect()
}

#[test]
fn unseen_phantoms_are_segmented_well() {
    let segmenter = Segmenter::load(Package::from_files(files()).expect("whole")).expect("golden vectors hold");
    let (mut liver_least, mut tumors) = (1.0f64, Vec::new());
    for seed in 1..=8 {
        let phantom = generate(&Options::new(seed), &|_| ());
        let found = segmenter.segment(&phantom.volume, &|_| ()).expect("a phantom can be segmented");
        assert!(found.gate.accepts(), "seed {seed}: {:?}", found.gate);
        let dice = |of: &[u8]| {
            let (mut both, mut sum) = (0u64, 0u64);
            for (truth, label) in phantom.labels.labels.iter().zip(&found.labels.labels) {
                let (t, l) = (of.contains(truth), of.contains(label));
                both += u64::from(t && l);
                sum += u64::from(t) + u64::from(l);
            }
            2.0 * both as f64 / sum as f64
        };
        let (liver, tumor) = (dice(&[1, 2]), dice(&[4]));
        println!("seed {seed}: liver {liver:.3}, tumor of {:.0} mm {tumor:.3}", phantom.truth.tumor_diameter_mm);
        liver_least = liver_least.min(liver);
        tumors.push(tumor);
    }
    let mean = tumors.iter().sum::<f64>() / tumors.len() as f64;
    assert!(liver_least >= 0.95, "liver Dice {liver_least:.3} on the worst seed");
    assert!(mean >= 0.75, "mean tumor Dice {mean:.3}: {tumors:?}");
}

#[test]
fn a_package_with_one_changed_byte_is_refused_by_name() {
    for name in ["model.onnx", "golden.json"] {
        let mut changed = files();
        let bytes = changed.get_mut(name).expect("a file of the package");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let error = Package::from_files(changed).expect_err("a changed byte is refused");
        assert!(matches!(&error, SegmentError::HashMismatch { file } if file == name), "{error}");
    }
    let folder = Folder::new("package");
    for (name, mut bytes) in files() {
        if name == "model.onnx" {
            bytes[1000] ^= 4;
        }
        std::fs::write(folder.join(&name), bytes).unwrap();
    }
    let (code, _, stderr) =
        run(&["segment", "models", "--out", &folder.text("x.nii.gz"), "--model", &folder.path().display().to_string()]);
    assert_eq!(code, 1);
    assert!(stderr.contains("package.hash-mismatch") && stderr.contains("model.onnx"), "{stderr}");
}

#[test]
fn logits_other_than_the_golden_ones_refuse_the_package() {
    let mut package = Package::from_files(files()).expect("whole");
    package.golden.logits[5] += 0.5;
    assert!(matches!(Segmenter::load(package), Err(SegmentError::GoldenMismatch { worst, .. }) if worst > 0.4));
}

#[test]
fn the_same_volume_gives_the_same_labels_for_any_number_of_threads() {
    let segmenter = Segmenter::load(Package::from_files(files()).expect("whole")).expect("golden vectors hold");
    let phantom = generate(&Options::small(11), &|_| ());
    let with = |n| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("a small pool");
        pool.install(|| segmenter.segment(&phantom.volume, &|_| ()).expect("a phantom can be segmented").labels.labels)
    };
    assert_eq!(with(1), with(2));
}
