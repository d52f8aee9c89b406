//! Radiomics against PyRadiomics 3.1.0, in one run and by turns: `cargo bench --bench radiomics`.
//!
//! `METWATCH_PYRADIOMICS_PYTHON` names an interpreter that has PyRadiomics; it runs beside as a child that keeps the images in
//! memory and measures itself, so neither side's start nor its reading of files counts. Without it only metwatch is timed.
//! `METWATCH_BENCH=text` runs the rows whose name contains the text. One thread on both sides; the last column uses all.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock, starts its peer and prints")]

use metwatch::radiomics::{Settings, extract, extract_voxelwise};
use metwatch::volume::{Geometry, Image, Voxels};
use ndarray::Array3;
use serde_json::{Value as Json, json};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

const PEER: &str = r#"
import json, os, sys, time
os.environ.update(OMP_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1', MKL_NUM_THREADS='1')
import logging
import numpy
import SimpleITK as sitk
from radiomics import featureextractor
logging.getLogger('radiomics').setLevel(logging.CRITICAL)
numpy.seterr(all='ignore')
import warnings
warnings.simplefilter('ignore')
sitk.ProcessObject_SetGlobalDefaultNumberOfThreads(1)
held = {}
def load(path, kind, shape, spacing):
    if path not in held:
        held[path] = sitk.GetImageFromArray(numpy.fromfile(path, kind).reshape(shape))
        held[path].SetSpacing(spacing)
    return held[path]
for line in sys.stdin:
    ask = json.loads(line)
    image = load(ask['image'], '<i2', ask['shape'], ask['spacing'])
    mask = load(ask['mask'], 'u1', ask['shape'], ask['spacing'])
    extractor = featureextractor.RadiomicsFeatureExtractor(ask['params'])
    wall, cpu = time.perf_counter(), time.process_time()
    found = extractor.execute(image, mask, voxelBased=ask['voxel'])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    def number(value):
        if isinstance(value, sitk.Image):
            value = numpy.nansum(sitk.GetArrayFromImage(value))
        return float(value)
    values = {k: number(v) for k, v in found.items() if not k.startswith('diagnostics')}
    print(json.dumps({'wall': wall, 'cpu': cpu, 'values': {k: repr(v) for k, v in values.items()}}), flush=True)
"#;

/// Image and mask, and where the peer finds them.
struct Case {
    image: Image,
    mask: Image,
    paths: [PathBuf; 2],
    n_voxels: usize,
}

/// Numbers that look like noise, the same in every run.
struct Noise(u64);

impl Noise {
    /// 0..1.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (12 uniforms).
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// A body of soft tissue with CT noise (12 HU) and slow shading; a lumpy organ fills `half_axes` (z, y, x, voxels) in it, with
/// rare bright and dark voxels (`range` HU apart) that set the number of gray levels.
fn phantom(name: &str, shape: [usize; 3], half_axes: [f64; 3], range: f64) -> Case {
    let mut noise = Noise(2026);
    let middle = shape.map(|n| (n as f64 - 1.0) / 2.0);
    let slow = |p: [f64; 3]| (p[0] * 0.11).sin() + (p[1] * 0.07 + 1.0).sin() + (p[2] * 0.05 + 2.0).sin();
    let voxels = Array3::from_shape_fn(shape, |(z, y, x)| {
        let rare = if noise.uniform() < 0.001 { (noise.uniform() - 0.5) * range } else { 0.0 };
        (90.0 + 15.0 * slow([z as f64, y as f64, x as f64]) + 12.0 * noise.normal() + rare).round() as i16
    });
    let inside = Array3::from_shape_fn(shape, |(z, y, x)| {
        let p: [f64; 3] = std::array::from_fn(|a| ([z, y, x][a] as f64 - middle[a]) / half_axes[a]);
        let lumps = 0.06 * ((p[0] * 5.0).sin() + (p[1] * 6.0).sin() + (p[2] * 7.0 + p[0] * 3.0).sin());
        u8::from(p.iter().map(|v| v * v).sum::<f64>() < 1.0 + lumps)
    });
    case(name, voxels, inside)
}

/// Writes a case for the peer.
fn case(name: &str, voxels: Array3<i16>, inside: Array3<u8>) -> Case {
    let folder = std::env::temp_dir().join(format!("metwatch-bench-radiomics-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let paths = [folder.join(format!("{name}.i16")), folder.join(format!("{name}.u8"))];
    let bytes: Vec<u8> = voxels.iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(&paths[0], bytes).expect("the image is written");
    std::fs::write(&paths[1], inside.iter().copied().collect::<Vec<u8>>()).expect("the mask is written");
    let (z, y, x) = voxels.dim();
    let geometry =
        Geometry { size: [x, y, z], spacing_mm: [1.0; 3], origin_mm: [0.0; 3], direction: Geometry::IDENTITY };
    let n_voxels = inside.iter().filter(|v| **v == 1).count();
    let image = Image { geometry: geometry.clone(), voxels: Voxels::I16(voxels), dimension: 3 };
    Case { image, mask: Image { geometry, voxels: Voxels::U8(inside), dimension: 3 }, paths, n_voxels }
}

/// Seconds.
#[derive(Clone, Copy, Default)]
struct Time {
    wall: f64,
    cpu: f64,
}

fn median(mut times: Vec<Time>) -> Time {
    let mut middle = |of: fn(&Time) -> f64| {
        times.sort_by(|a, b| of(a).total_cmp(&of(b)));
        of(&times[times.len() / 2])
    };
    Time { wall: middle(|t| t.wall), cpu: middle(|t| t.cpu) }
}

/// CPU seconds of all living threads of this process (Linux; 0 elsewhere).
fn cpu_s() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let text = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    text.filter_map(|text| text.split(' ').next()?.parse::<f64>().ok()).sum::<f64>() * 1e-9
}

fn timed(pool: &rayon::ThreadPool, run: impl Fn() + Send + Sync) -> Time {
    let (wall, cpu) = (Instant::now(), cpu_s());
    pool.install(run);
    Time { wall: wall.elapsed().as_secs_f64(), cpu: cpu_s() - cpu }
}

/// PyRadiomics beside us.
struct Peer {
    child: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

impl Peer {
    fn start() -> Option<Peer> {
        let python = std::env::var_os("METWATCH_PYRADIOMICS_PYTHON")?;
        let mut command = Command::new(python);
        command.args(["-u", "-W", "ignore", "-c", PEER]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("METWATCH_PYRADIOMICS_PYTHON names an interpreter");
        let ask = child.stdin.take().expect("it is piped");
        let answer = BufReader::new(child.stdout.take().expect("it is piped"));
        Some(Peer { child, ask, answer })
    }

    fn run(&mut self, case: &Case, params: &Json, voxel: bool) -> (Time, Json) {
        let (z, y, x) = case.image.voxels.dim();
        let ask = json!({"image": case.paths[0], "mask": case.paths[1], "shape": [z, y, x], "params": params,
            "spacing": case.image.geometry.spacing_mm, "voxel": voxel});
        writeln!(self.ask, "{ask}").expect("PyRadiomics listens");
        let mut line = String::new();
        self.answer.read_line(&mut line).expect("PyRadiomics answers");
        let answer: Json = serde_json::from_str(&line).expect("PyRadiomics computed");
        let second = |key: &str| answer[key].as_f64().expect("seconds");
        (Time { wall: second("wall"), cpu: second("cpu") }, answer["values"].clone())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Bench {
    peer: Option<Peer>,
    one: rayon::ThreadPool,
    all: rayon::ThreadPool,
    only: Option<String>,
}

/// One row of the table.
struct Row<'a> {
    name: &'a str,
    case: &'a Case,
    /// A smaller part that PyRadiomics computes instead; its times are scaled by the number of voxels.
    part: Option<&'a Case>,
    /// Parameter file.
    params: Json,
    voxel: bool,
    rounds: usize,
}

/// PyRadiomics is asked once where it takes longer, seconds.
const PATIENCE_S: f64 = 5.0;

impl Bench {
    /// Rounds of metwatch on one thread, PyRadiomics, metwatch on all threads; then a line with the medians.
    fn row(&mut self, row: Row) {
        let name = row.name;
        if self.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            return;
        }
        let settings = match Settings::from_yaml(&row.params.to_string()) {
            Ok(settings) => settings,
            Err(error) => return println!("| {name} | not computed: {error} |"),
        };
        let run = || drop(values(row.case, &settings, row.voxel));
        let part = row.part.unwrap_or(row.case);
        let scale = row.case.n_voxels as f64 / part.n_voxels as f64;
        let (mut one, mut all, mut theirs, mut off) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
        for _ in 0..row.rounds {
            one.push(timed(&self.one, run));
            if let Some(peer) = self.peer.as_mut().filter(|_| theirs.last().is_none_or(|t: &Time| t.wall < PATIENCE_S))
            {
                let (time, found) = peer.run(part, &row.params, row.voxel);
                theirs.push(time);
                off = difference(&values(part, &settings, row.voxel), &found);
            }
            all.push(timed(&self.all, run));
        }
        let (one, all) = (median(one), median(all));
        let ms = |s: f64| if s < 0.1 { format!("{:.2}", s * 1e3) } else { format!("{:.0}", s * 1e3) };
        if theirs.is_empty() {
            return println!("| {name} | | | {} | {} | {} | | | |", ms(one.wall), ms(one.cpu), ms(all.wall));
        }
        let peer = median(theirs);
        let peer = Time { wall: peer.wall * scale, cpu: peer.cpu * scale };
        println!(
            "| {name} | {} | {} | {} | {} | {} | {:.0} | {:.0} | {off:.0e} |",
            ms(peer.wall),
            ms(peer.cpu),
            ms(one.wall),
            ms(one.cpu),
            ms(all.wall),
            peer.cpu / one.cpu,
            peer.wall / all.wall
        );
    }
}

/// Name and value of all features; of a map the sum of its numbers.
fn values(case: &Case, settings: &Settings, voxel: bool) -> Vec<(String, f64)> {
    if !voxel {
        let found = extract(&case.image, &case.mask, settings).expect("metwatch computes");
        return found.features.rows.into_iter().map(|row| (row.name, row.value)).collect();
    }
    let found = extract_voxelwise(&case.image, &case.mask, settings).expect("metwatch computes");
    let sum = |image: Image| match image.voxels {
        Voxels::F64(values) => values.iter().filter(|v| !v.is_nan()).sum(),
        _ => f64::NAN,
    };
    found.maps.into_iter().map(|map| (map.name, sum(map.image))).collect()
}

/// Largest relative difference between our values and PyRadiomics'; a missing one is infinite.
fn difference(ours: &[(String, f64)], theirs: &Json) -> f64 {
    let off = |(name, value): &(String, f64)| {
        let peer = theirs[name].as_str().and_then(|text| text.parse::<f64>().ok()).unwrap_or(f64::INFINITY);
        if *value == peer || (value.is_nan() && peer.is_nan()) {
            0.0
        } else {
            (value - peer).abs() / peer.abs().max(1e-6)
        }
    };
    let missing = theirs.as_object().is_none_or(|peer| peer.len() != ours.len());
    if missing { f64::INFINITY } else { ours.iter().map(off).fold(0.0, f64::max) }
}

fn instructions() -> String {
    #[cfg(target_arch = "x86_64")]
    let found = [
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("avx512bw", std::is_x86_feature_detected!("avx512bw")),
        ("avx512vbmi", std::is_x86_feature_detected!("avx512vbmi")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let found: [(&str, bool); 0] = [];
    let names: Vec<&str> = found.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
    let compiled = if cfg!(target_feature = "avx2") { "with avx2" } else { "for the baseline" };
    format!("{}, compiled {compiled}, the processor has {}", std::env::consts::ARCH, names.join(" "))
}

fn main() {
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("threads");
    let peer = Peer::start();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut bench = Bench { peer, one: pool(1), all: pool(threads), only: std::env::var("METWATCH_BENCH").ok() };
    println!("{}; {threads} threads\n", instructions());
    println!(
        "Medians, ms. \"off\": largest relative difference of a feature (of a map's sum). One thread but where stated.\n"
    );
    println!(
        "| row | PyRadiomics wall | CPU | metwatch wall | CPU | wall, all threads | CPU ratio | wall ratio, all | off |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let small = phantom("small", [32, 40, 40], [9.0, 11.0, 12.3], 1300.0);
    let medium = phantom("medium", [60, 80, 80], [17.0, 22.5, 26.0], 330.0);
    let large = phantom("large", [141, 208, 226], [55.0, 66.0, 74.0], 900.0);
    let classes = ["firstorder", "glcm", "gldm", "glrlm", "glszm", "ngtdm", "shape"];
    let only = |class: &str| json!({"setting": {"binWidth": 25}, "featureClass": {class: null}});
    let default = || {
        let classes: serde_json::Map<String, Json> = classes.iter().map(|c| (c.to_string(), Json::Null)).collect();
        json!({"setting": {"binWidth": 25}, "featureClass": classes})
    };
    for (size, case) in [("small", &small), ("medium", &medium), ("large", &large)] {
        let name = format!("default with shape, {size} ({} voxels)", case.n_voxels);
        bench.row(Row { name: &name, case, part: None, params: default(), voxel: false, rounds: 5 });
    }
    for (size, case) in [("small", &small), ("medium", &medium), ("large", &large)] {
        for class in classes {
            let mut params = only(class);
            params["setting"]["additionalInfo"] = json!(false);
            let name = format!("{class} alone, {size}");
            bench.row(Row { name: &name, case, part: None, params, voxel: false, rounds: 5 });
        }
    }
    let mut filtered = default();
    filtered["imageType"] = json!({"Original": {}, "LoG": {"sigma": [1.0, 2.0, 3.0, 4.0, 5.0]}, "Wavelet": {}});
    let name = "LoG 1-5 mm and wavelet, large";
    bench.row(Row { name, case: &large, part: None, params: filtered, voxel: false, rounds: 1 });
    // PyRadiomics' time per voxel depends on the number of gray levels, not on that of voxels: it computes a corner of the
    // same image, in which one voxel of every level is put that does not occur there.
    let whole = phantom("whole", [50, 100, 100], [1e9; 3], 900.0).image.voxels.to_f64().mapv(|v| v as i16);
    let mut corner = whole.slice(ndarray::s![..10, ..20, ..20]).to_owned();
    let level = |v: i16| v.div_euclid(25);
    for value in &whole {
        if !corner.iter().any(|v| level(*v) == level(*value)) {
            let free = corner.iter().filter(|v| level(**v) == level(90)).count() / 2;
            let place = corner.iter_mut().filter(|v| level(**v) == level(90)).nth(free);
            *place.expect("the usual level occurs") = *value;
        }
    }
    let maps = case("maps", whole, Array3::ones([50, 100, 100]));
    let part = case("part", corner, Array3::ones([10, 20, 20]));
    for class in ["glcm", "firstorder", "gldm", "glrlm", "glszm", "ngtdm"] {
        let mut params = only(class);
        params["voxelSetting"] = json!({"kernelRadius": 2, "voxelBatch": 1000});
        let name = format!("maps of {class}, radius 2, 100x100x50 (PyRadiomics: 20x20x10, scaled)");
        bench.row(Row { name: &name, case: &maps, part: Some(&part), params, voxel: true, rounds: 1 });
    }
    if let Some(folder) = small.paths[0].parent() {
        let _ = std::fs::remove_dir_all(folder);
    }
}
