//! nnU-Net's work beside nnU-Net's own: resampling onto the network's grid, and whole predictions. One thread each,
//! alternating.
//!
//!     METWATCH_BENCH_PYTHON=python cargo bench --bench nnunet        python with nnunetv2 (2.8.1 measured)
//!
//! The models are those of tests/data/nnunet; nnU-Net's side needs their trained folders: METWATCH_BENCH_NNUNET names
//! the WORK folder of models/training/nnunet_reference.py (without it only the resampling is measured).
#![allow(clippy::disallowed_methods, reason = "benches own the clock, files and processes")]

use metwatch::segment::nnunet::{self, Source};
use metwatch::segment::{Options, Package, Plan, Segmenter};
use metwatch::volume::{Geometry, Volume, decode_image};
use ndarray::Array3;
use std::path::Path;
use std::process::Command;

const ROUNDS: usize = 5;

/// Times scipy, which nnU-Net's resampling calls through skimage (a sixth slower), in one thread.
const RESAMPLING: &str = r#"
import time, numpy as np
from scipy.ndimage import zoom
x = np.random.default_rng(1).normal(0, 1, (120, 512, 512)).astype(np.float32)
t = time.process_time()
y = zoom(x, (200 / 120, 273 / 512, 273 / 512), order=3, mode="nearest", grid_mode=True)
assert y.shape == (200, 273, 273)
print(time.process_time() - t)
"#;

/// Times nnU-Net's predictor from file to label file, network loaded before.
const PREDICTION: &str = r#"
import sys, time, torch, os, glob, tempfile
torch.set_num_threads(1)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
results, folds, images = sys.argv[1], tuple(sys.argv[2].split(',')), sys.argv[3:]
p = nnUNetPredictor(device=torch.device('cpu'), allow_tqdm=False)
sys.stdout = open(os.devnull, 'w')
p.initialize_from_trained_model_folder(results, folds)
with tempfile.TemporaryDirectory() as d:
    t = time.process_time()
    p.predict_from_files_sequential([images], [d + '/labels'])
    t = time.process_time() - t
sys.stdout = sys.__stdout__
print(t)
"#;

fn python(program: &str, arguments: &[&str]) -> f64 {
    let python = std::env::var("METWATCH_BENCH_PYTHON").unwrap_or_else(|_| "python3".into());
    let one = [("OMP_NUM_THREADS", "1"), ("nnUNet_compile", "f"), ("nnUNet_def_n_proc", "1")];
    let output = Command::new(python).arg("-c").arg(program).args(arguments).envs(one).output().expect("Python runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().and_then(|l| l.trim().parse().ok());
    last.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Processor time of this process, which other processes on the machine do not lengthen as they do the clock's.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |k: usize| fields[k].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

fn ours(work: impl Fn()) -> f64 {
    let began = processor_seconds();
    work();
    processor_seconds() - began
}

fn compare(what: &str, mine: impl Fn(), other: impl Fn() -> f64) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        a.push(ours(&mine));
        b.push(other());
    }
    let middle = |v: &mut Vec<f64>| {
        v.sort_by(f64::total_cmp);
        v[v.len() / 2]
    };
    let (a, b) = (middle(&mut a), middle(&mut b));
    println!("{what}: metwatch {a:.3} s, Python {b:.3} s of one core, ratio {:.1}", b / a);
}

fn model(name: &str) -> Package {
    let folder = Path::new("tests/data/nnunet").join(name);
    let read = |file: &str| std::fs::read(folder.join(file)).expect("tests/data/nnunet is in the repository");
    let networks = (0..)
        .map_while(|k| Some((format!("fold_{k}.onnx"), std::fs::read(folder.join(format!("fold_{k}.onnx"))).ok()?)))
        .collect();
    let source = Source {
        plans: read("plans.json"),
        dataset: read("dataset.json"),
        sidecar: Some(read("nnunet.json")),
        networks,
        ..Source::default()
    };
    Package::from_files(nnunet::files(source.take_over().expect("a model")).expect("a package")).expect("a package")
}

fn resampling() {
    let Plan::Nnunet(mut recipe) = model("3d").plan else { return };
    // Below the ratio of 3 at which slices are resampled separately.
    recipe.spacing_mm = vec![1.5, 1.875, 1.875];
    let geometry = Geometry {
        size: [512, 512, 120],
        spacing_mm: [1.0, 1.0, 2.5],
        origin_mm: [0.0; 3],
        direction: Geometry::IDENTITY,
    };
    let hu = Array3::from_shape_fn((120, 512, 512), |(z, y, x)| ((z * 31 + y * 17 + x * 7) % 255) as f32 + 1.0);
    let volume = Volume { hu, geometry };
    let prepare = || nnunet::prepare(&recipe, &[&volume]).expect("a grid").image.dim();
    assert_eq!(prepare(), (1, 200, 273, 273));
    compare("512x512x120 -> 273x273x200, order 3", || _ = prepare(), || python(RESAMPLING, &[]));
}

fn prediction(work: &str, name: &str, results: &str, folds: &str) {
    let mut package = model(name);
    if let Plan::Nnunet(recipe) = &mut package.plan {
        recipe.postprocessing.clear();
    }
    let segmenter = Segmenter::load(package).expect("golden vectors hold");
    let folder = Path::new("tests/data/nnunet").join(name);
    let images: Vec<String> = (0..)
        .map(|k| folder.join(format!("image_{k:04}.nii.gz")))
        .take_while(|file| file.exists())
        .map(|file| file.display().to_string())
        .collect();
    let mine = || {
        let read = |file: &String| decode_image(&std::fs::read(file).expect("it is there")).expect("NIfTI");
        let volumes: Vec<Volume> = images.iter().map(|file| read(file).to_volume().expect("finite")).collect();
        let found = segmenter.segment_channels(&volumes.iter().collect::<Vec<_>>(), &Options::default(), &|_| ());
        let labels = found.expect("labels").labels;
        metwatch::volume::encode_nifti(labels.labels.view(), &labels.geometry).expect("NIfTI");
    };
    let results = format!("{work}/results/{results}");
    let arguments: Vec<&str> = [&results[..], folds].into_iter().chain(images.iter().map(String::as_str)).collect();
    compare(&format!("prediction, {name}"), mine, || python(PREDICTION, &arguments));
}

fn main() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    pool.install(|| {
        resampling();
        let Ok(work) = std::env::var("METWATCH_BENCH_NNUNET") else { return };
        prediction(&work, "2d", "Dataset901_Ct/nnUNetTrainer__small__2d", "0");
        prediction(&work, "3d", "Dataset901_Ct/nnUNetTrainer__small__3d_fullres", "0,1");
        prediction(&work, "thick", "Dataset902_Thick/nnUNetTrainer__small__3d_fullres", "0");
        prediction(&work, "two", "Dataset904_TwoChannels/nnUNetTrainer__small__3d_fullres", "0");
    });
}
