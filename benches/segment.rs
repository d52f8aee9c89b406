//! Segmentation networks on the own engine, on tract and on onnxruntime, in alternating runs: `cargo bench --bench
//! segment [-- NETWORK...]`.
//!
//! NETWORK-int8 is a network quantized by onnxruntime (QDQ), on both sides in integers, beside the f32 network that it
//! was made from. METWATCH_BENCH_PYTHON names a Python that has onnx and onnxruntime; `segment_peer.py` makes the
//! networks (random weights, seeded) and runs beside as a child. The fastest of some runs counts, since other processes
//! only add; with one thread it is processor time, which leaves them out. GFLOP count padding, as others do.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads files, the clock and starts processes")]

use metwatch::segment::{Backend, InstructionSet, Network};
use ndarray::{ArrayD, IxDyn};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

/// A network is run until this many seconds are over for each engine, at least twice.
const SECONDS: f64 = 3.0;
const RUNS_MAX: usize = 15;
/// The network that an int8 one was made from.
const PARENT: &str = "own f32";

fn main() {
    println!("machine: {}", metwatch::device::survey().summary());
    let folder = std::env::temp_dir().join(format!("metwatch-bench-segment-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("writable");
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let python = std::env::var("METWATCH_BENCH_PYTHON").unwrap_or("/work/venv-torch/bin/python".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/segment_peer.py");
    let mut command = Command::new(python);
    command.arg(script).arg(&folder).args(&wanted).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("METWATCH_BENCH_PYTHON names an interpreter");
    let answers = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut peer = Peer { questions: child.stdin.take().expect("a pipe"), answers };
    let mut networks = Vec::new();
    loop {
        let line = peer.line();
        let words: Vec<&str> = line.split_whitespace().collect();
        match &words[..] {
            ["ready", version] => {
                break println!("beside onnxruntime {version}; NAME-int8 is NAME quantized by its quantize_static");
            }
            [name, shape @ ..] => {
                let shape: Vec<usize> = shape.iter().map(|n| n.parse().expect("a size")).collect();
                networks.push((name.to_string(), shape));
            }
            [] => panic!("METWATCH_BENCH_PYTHON needs onnx and onnxruntime"),
        }
    }
    control();
    for (name, shape) in &networks {
        measure(name, shape, &folder, &mut peer);
    }
    drop(peer);
    let _ = child.wait();
    let _ = std::fs::remove_dir_all(&folder);
}

/// onnxruntime in a child process.
struct Peer {
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the peer answers");
        line
    }
    /// Seconds of one run.
    fn run(&mut self, name: &str, threads: usize) -> f64 {
        writeln!(self.questions, "{name} {threads}").expect("the peer listens");
        self.line().trim().parse().expect("seconds")
    }
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")
}

/// Seconds that `work` takes: processor time of this thread if it is the only one, else wall time.
fn timed<T>(threads: usize, work: impl FnOnce() -> T) -> (T, f64) {
    // Nanoseconds on a processor come first (Linux, Documentation/scheduler/sched-stats).
    let on_processor = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    let (began, before) = (Instant::now(), on_processor());
    let found = work();
    let wall = began.elapsed().as_secs_f64();
    match (before, on_processor()) {
        (Some(before), Some(after)) if threads == 1 => (found, 1e-9 * (after - before)),
        _ => (found, wall),
    }
}

/// What two threads can gain on this machine at this time: multiplications in registers, nothing else.
fn control() {
    let burn = |threads: usize| {
        let one = |_: rayon::BroadcastContext| {
            let mut sums = [1.0f32; 64];
            for _ in 0..40_000_000 / 8 {
                sums.iter_mut().for_each(|s| *s = *s * 0.999 + 0.001);
            }
            std::hint::black_box(sums);
        };
        let began = Instant::now();
        pool(threads).broadcast(one);
        began.elapsed().as_secs_f64()
    };
    let best = |threads| (0..5).map(|_| burn(threads)).fold(f64::INFINITY, f64::min);
    println!("control: two threads do {:.2} x the multiplications of one", 2.0 * best(1) / best(2));
}

fn floats(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).expect("the peer wrote it");
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn measure(name: &str, shape: &[usize], folder: &Path, peer: &mut Peer) {
    let onnx = std::fs::read(folder.join(format!("{name}.onnx"))).expect("the peer wrote it");
    let input = ArrayD::from_shape_vec(IxDyn(shape), floats(&folder.join(format!("{name}.input")))).expect("its shape");
    let mut engines: Vec<(String, Network)> = InstructionSet::available()
        .into_iter()
        .filter(|set| *set != InstructionSet::Plain)
        .map(|set| Network::load_with(set, &onnx, "input", "logits").expect("known"))
        .map(|network| (network.instruction_set().to_string(), network))
        .collect();
    match name.strip_suffix("-int8") {
        // The f32 parent, to see what integers gain; its logits are others.
        Some(parent) => {
            let onnx = std::fs::read(folder.join(format!("{parent}.onnx"))).expect("the peer wrote it");
            engines.push((PARENT.into(), Network::load(&onnx, "input", "logits").expect("known")));
        }
        None => {
            engines.push(("tract".into(), Network::load_on(Backend::Tract, &onnx, "input", "logits").expect("known")))
        }
    }
    let multiplications = engines[0].1.multiplications(shape).expect("it fits").expect("the own engine");
    let gflop = 2e-9 * multiplications as f64;
    let memory = engines[0].1.memory_bytes(shape).expect("it fits").expect("the own engine");
    println!("\n{name}: input {shape:?}, {gflop:.1} GFLOP, {} MiB on the own engine", memory >> 20);
    let mut one_thread: Vec<f64> = Vec::new();
    for threads in [1, 2] {
        let pool = pool(threads);
        let mut best = vec![f64::INFINITY; engines.len()];
        let (mut peer_best, mut spent, mut runs) = (f64::INFINITY, 0.0, 0);
        peer.run(name, threads);
        while runs < 2 || (spent < SECONDS && runs < RUNS_MAX) {
            for (best, (engine, network)) in best.iter_mut().zip(&engines) {
                // tract computes on one thread.
                if !(engine == "tract" && (threads > 1 || runs > 1)) {
                    let (logits, took) = pool.install(|| timed(threads, || network.logits(input.view())));
                    let logits = logits.expect("it runs");
                    // The first run prepares.
                    if runs > 0 {
                        *best = best.min(took);
                    } else if threads == 1 && engine != PARENT {
                        let expected = floats(&folder.join(format!("{name}.logits")));
                        let pairs = || logits.iter().zip(&expected);
                        let size = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                        let worst = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                        println!("  {engine:>8}: differs from onnxruntime by {worst:.1e} (logits up to {size:.1})");
                    }
                }
            }
            let took = peer.run(name, threads);
            peer_best = peer_best.min(took);
            spent += took;
            runs += 1;
        }
        println!("  {threads} thread(s): onnxruntime {:.1} ms, {:.0} GFLOP/s", 1e3 * peer_best, gflop / peer_best);
        for (k, (engine, _)) in engines.iter().enumerate().filter(|(k, _)| best[*k].is_finite()) {
            let gain =
                if threads == 2 { format!(", {:.2} x one thread", one_thread[k] / best[k]) } else { String::new() };
            let (ms, rate, ratio) = (1e3 * best[k], gflop / best[k], best[k] / peer_best);
            println!("  {engine:>8}: {ms:.1} ms, {rate:.0} GFLOP/s, {ratio:.2} x onnxruntime's time{gain}");
        }
        one_thread = best;
    }
}
