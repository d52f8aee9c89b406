//! The extraction at the command line beside its peers: `cargo bench --bench extract`.
//!
//! PyRadiomics 3.1: METWATCH_PYRADIOMICS_PYTHON names a Python that has it (the command `pyradiomics` beside it is timed, start
//! and reading included). nyxus and MIRP: METWATCH_PEERS_PYTHON names a Python that has them; they are timed inside their
//! process, after import, so that their start does not count. Runs alternate; medians are printed, CPU time beside wall time.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads files, the clock and starts processes")]

use metwatch::volume::{Geometry, encode_nifti};
use ndarray::Array3;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

const RUNS: usize = 5;

fn main() {
    println!("machine: {}", metwatch::device::survey().summary());
    let folder = std::env::temp_dir().join(format!("metwatch-bench-extract-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("writable");
    let small = case(&folder, "small", 10.6, 1);
    let medium = case(&folder, "medium", 21.5, 2);
    one_case(&small);
    list(&folder, &case(&folder, "list", 22.9, 3));
    peers(&medium);
    let _ = std::fs::remove_dir_all(&folder);
}

struct Files {
    image: PathBuf,
    mask: PathBuf,
    n_voxels: usize,
}

/// A ball in smooth noise, 1 mm, in a box of its size and 8 voxels.
fn case(folder: &Path, name: &str, radius: f64, seed: u64) -> Files {
    let n = 2 * radius as usize + 17;
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / (1u64 << 24) as f64 - 0.5
    };
    let center = (n / 2) as f64;
    let image = Array3::from_shape_fn((n, n, n), |(z, y, x)| {
        (60.0
            + 40.0 * ((x as f64) / 7.0).sin() * ((y as f64) / 9.0).cos()
            + 20.0 * (z as f64 / 5.0).sin()
            + 60.0 * noise()) as i16
    });
    let mask = Array3::from_shape_fn((n, n, n), |(z, y, x)| {
        let r2 = [z, y, x].iter().map(|v| (*v as f64 - center).powi(2)).sum::<f64>();
        u8::from(r2 <= radius * radius)
    });
    let geometry = Geometry {
        size: [n; 3],
        spacing_mm: [1.0; 3],
        origin_mm: [0.0; 3],
        direction: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    };
    let files = Files {
        image: folder.join(format!("{name}_image.nii.gz")),
        mask: folder.join(format!("{name}_mask.nii.gz")),
        n_voxels: mask.iter().map(|v| usize::from(*v)).sum(),
    };
    std::fs::write(&files.image, encode_nifti(image.view(), &geometry).expect("an image")).expect("writable");
    std::fs::write(&files.mask, encode_nifti(mask.view(), &geometry).expect("a mask")).expect("writable");
    files
}

/// Wall seconds and peak memory in MiB of a command.
fn timed(command: &mut Command) -> (f64, u64) {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the command starts");
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    loop {
        if let Ok(text) = std::fs::read_to_string(&status) {
            let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
            peak_kib =
                line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(peak_kib).max(peak_kib);
        }
        if let Some(done) = child.try_wait().expect("a child can be waited for") {
            assert!(done.success(), "{command:?}");
            return (began.elapsed().as_secs_f64(), peak_kib / 1024);
        }
        std::thread::sleep(std::time::Duration::from_micros(500));
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn extract(files: &Files) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_metwatch"));
    command.arg("extract").arg(&files.image).arg(&files.mask).env("RAYON_NUM_THREADS", "1");
    command
}

fn one_case(files: &Files) {
    let Some(python) = std::env::var_os("METWATCH_PYRADIOMICS_PYTHON").map(PathBuf::from) else {
        return println!("one case: METWATCH_PYRADIOMICS_PYTHON is not set, PyRadiomics was not measured");
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(timed(&mut extract(files)).0);
        theirs.push(timed(Command::new(python.with_file_name("pyradiomics")).arg(&files.image).arg(&files.mask)).0);
    }
    let (a, b) = (median(ours), median(theirs));
    println!(
        "command line, one case of {} voxels: metwatch {:.1} ms, PyRadiomics {:.0} ms, {:.0} x",
        files.n_voxels,
        a * 1e3,
        b * 1e3,
        b / a
    );
}

/// 500 cases, one and two jobs; memory beside that of 50.
fn list(folder: &Path, files: &Files) {
    let write = |n: usize| {
        let path = folder.join(format!("list-{n}.csv"));
        let mut file = std::fs::File::create(&path).expect("writable");
        writeln!(file, "Image,Mask,Number").expect("writable");
        (0..n)
            .for_each(|k| writeln!(file, "{},{},{k}", files.image.display(), files.mask.display()).expect("writable"));
        path
    };
    let (few, many) = (write(50), write(500));
    let run = |list: &Path, jobs: &str| {
        timed(Command::new(env!("CARGO_BIN_EXE_metwatch")).arg("extract").arg(list).args(["-f", "csv", "-j", jobs]))
    };
    let (_, few_mib) = run(&few, "2");
    let (one_s, one_mib) = run(&many, "1");
    let (two_s, two_mib) = run(&many, "2");
    println!(
        "list of 500 cases of {} voxels: one job {one_s:.1} s ({one_mib} MiB), two jobs {two_s:.1} s ({two_mib} MiB, 50 cases {few_mib} MiB), scaling {:.2}",
        files.n_voxels,
        one_s / two_s
    );
}

/// The peers' own process: answers each line on stdin with the seconds of one extraction.
const PEER: &str = r#"
import sys, time, warnings
warnings.filterwarnings("ignore")
name, image, mask = sys.argv[1:4]
if name == "mirp":
    import logging
    logging.disable(logging.CRITICAL)
    from mirp import extract_features
    run = lambda: extract_features(image=image, mask=mask, base_discretisation_method="fixed_bin_size", base_discretisation_bin_width=25.0, resegmentation_intensity_range=[-1000.0, 1000.0])
else:
    import os
    from nyxus import Nyxus3D
    engine = Nyxus3D(["*3D_ALL*"], n_feature_calc_threads=1)
    run = lambda: engine.featurize_files([image], [mask], False)
print("ready", flush=True)
for line in sys.stdin:
    t, c = time.perf_counter(), time.process_time()
    run()
    print(time.perf_counter() - t, time.process_time() - c, flush=True)
"#;

fn peers(files: &Files) {
    let Some(python) = std::env::var_os("METWATCH_PEERS_PYTHON") else {
        return println!("peers: METWATCH_PEERS_PYTHON is not set, nyxus and MIRP were not measured");
    };
    for name in ["nyxus", "mirp"] {
        let child = Command::new(&python)
            .args(["-c", PEER, name])
            .arg(&files.image)
            .arg(&files.mask)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.expect("Python starts");
        let mut ask = child.stdin.take().expect("piped");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        // Libraries print, too: wait for the word.
        if !lines.any(|line| line == "ready") {
            println!("{name}: could not be started");
            continue;
        }
        let (mut ours, mut wall, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..3 {
            ours.push(timed(&mut extract(files)).0);
            writeln!(ask, "go").expect("it listens");
            let answer = lines.find_map(|line| {
                let (a, b) = line.split_once(' ')?;
                Some((a.parse::<f64>().ok()?, b.parse::<f64>().ok()?))
            });
            let Some((w, c)) = answer else { break };
            wall.push(w);
            cpu.push(c);
        }
        let _ = child.kill();
        let _ = child.wait();
        if wall.is_empty() {
            println!("{name}: failed");
            continue;
        }
        let a = median(ours);
        println!(
            "{name}, {} voxels, in its process: {:.2} s wall, {:.2} s CPU; metwatch with start and reading {:.1} ms: {:.0} x",
            files.n_voxels,
            median(wall),
            median(cpu.clone()),
            a * 1e3,
            median(cpu) / a
        );
    }
}
