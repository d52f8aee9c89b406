//! `metwatch device`: what board this is, why it was taken for that, and what it measures now.

use super::Failure;
use crate::alert::payload::{MachineV1, ReadingV1};
use crate::device::{self, Board, Machine, policy};
use crate::service::{Config, machine_payload};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Loads are differences between two looks.
const BETWEEN: Duration = Duration::from_millis(300);

/// Shows what board this is and what it measures
#[derive(clap::Args)]
pub struct Args {
    /// Reads /proc, /sys and /etc below this folder
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The configuration file: its board, its root and its store's disk
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Looks and prints.
pub fn run(args: Args) -> Result<(), Failure> {
    let config = args.config.as_deref().map(Config::read).transpose()?;
    let store = config.as_ref().map(|c| c.store.directory.clone());
    let mut wanted = config.map(|c| c.device).unwrap_or_default();
    wanted.root = args.root.unwrap_or(wanted.root);
    let mut machine = Machine::open(&wanted)?;
    machine.sample(None);
    std::thread::sleep(BETWEEN);
    let telemetry = machine.sample(Some(store.as_deref().filter(|s| s.exists()).unwrap_or(Path::new("/"))));
    let measured = machine_payload(&machine, &telemetry);
    let (_, plan) = policy::plan(&machine.limits(0), &machine.inputs(&telemetry), &policy::State::default());
    if args.json {
        println!("{}", json(&machine, &measured, plan.threads, telemetry.nvml_note.as_deref()));
    } else {
        table(&machine, &measured, telemetry.nvml_note.as_deref());
    }
    Ok(())
}

fn json(machine: &Machine, measured: &MachineV1, threads: usize, nvml: Option<&str>) -> serde_json::Value {
    let (found, board) = (&machine.found, &machine.choice.board);
    serde_json::json!({
        "found": {
            "model": found.model,
            "compatible": found.compatible,
            "release": found.release,
            "jetpack": found.jetpack(),
            "architecture": found.architecture,
        },
        "board": {
            "name": board.name,
            "title": board.title,
            "why": machine.choice.why,
            "memory_gib": board.memory.sizes_gib,
            "memory_shared_with_gpu": board.memory.shared_with_gpu,
            "memory_bandwidth_gb_per_s": board.memory.bandwidth_gb_per_s,
            "accelerators": board.accelerators.iter().map(|a| serde_json::json!({
                "kind": a.kind, "name": a.name, "sparse_int8_tops": a.sparse_int8_tops,
            })).collect::<Vec<_>>(),
            "power_modes": board.power.modes,
            "watts_max": board.power.watts_max,
            "hot_c": board.thermal.hot_c,
            "cool_c": board.thermal.cool_c,
            "throttle_c": board.thermal.throttle_c,
            "shutdown_c": board.thermal.shutdown_c,
            "backend": board.backend.recommended,
            "notes": board.notes.texts,
        },
        "computes": { "summary": device::survey().summary(), "threads": threads },
        "measured": measured,
        "nvml": nvml,
    })
}

fn table(machine: &Machine, m: &MachineV1, nvml: Option<&str>) {
    let (found, board) = (&machine.found, &machine.choice.board);
    row("board", &format!("{} ({})", board.title, board.name));
    row("why", &machine.choice.why);
    row("model", found.model.as_deref().unwrap_or("no device tree"));
    if let Some(release) = &found.release {
        row("release", &found.jetpack().map_or(release.clone(), |major| format!("{release} (JetPack {major})")));
    }
    row("computes", &device::survey().summary());
    row("backend", &format!("metwatch's own engine on the CPU; recommended: {}", board.backend.recommended));
    known(board);
    let unit = |reading: &Option<ReadingV1<f64>>, factor: f64, unit: &str| {
        reading.as_ref().map_or("not known".into(), |r| format!("{:.1} {unit}  [{}]", r.value * factor, r.source))
    };
    let mib = |reading: &Option<ReadingV1<u64>>| {
        reading.as_ref().map_or("not known".into(), |r| format!("{} MiB  [{}]", r.value >> 20, r.source))
    };
    println!();
    row("memory", &format!("{}, available {}", mib(&m.memory_total_bytes), mib(&m.memory_available_bytes)));
    row("disk", &format!("{}, free {}", mib(&m.disk_total_bytes), mib(&m.disk_free_bytes)));
    row("processors", &format!("busy {}", unit(&m.cpu_busy, 100.0, "%")));
    row("uptime", &unit(&m.uptime_s, 1.0 / 3600.0, "h"));
    row("power mode", m.power_mode.as_ref().map_or("not known", |r| &r.value));
    row("power", &unit(&m.power_w, 1.0, "W"));
    for rail in &m.rails {
        row("  rail", &format!("{} {:.2} W  [{}]", rail.name, rail.watts, rail.source));
    }
    for zone in &m.zones {
        let celsius = zone.celsius.map_or("offline".into(), |c| format!("{c:.1} °C"));
        row("heat", &format!("{} {celsius}  [{}]", zone.name, zone.source));
    }
    for gpu in &m.gpus {
        let parts = [
            unit(&gpu.load, 100.0, "% busy"),
            gpu.clock_hz.as_ref().map_or("clock not known".into(), |r| format!("{} MHz", r.value / 1_000_000)),
            gpu.celsius.as_ref().map_or("heat: see its zone".into(), |r| format!("{:.0} °C", r.value)),
        ];
        row("GPU", &format!("{}: {}", gpu.name, parts.join(", ")));
    }
    let slowed: Vec<String> = m.throttled.iter().map(|r| format!("{}  [{}]", r.value, r.source)).collect();
    row("slowed down", if slowed.is_empty() { "nothing".to_owned() } else { slowed.join(", ") }.as_str());
    if let Some(why) = nvml {
        row("NVML", why);
    }
}

fn known(board: &Board) {
    let thermal = &board.thermal;
    let zone = thermal.zone.as_deref().map_or("the hottest zone".into(), |z| format!("zone {z}"));
    row("limits", &format!("{zone}: too hot from {} °C, cool below {} °C", thermal.hot_c, thermal.cool_c));
    if !board.power.modes.is_empty() {
        row("power modes", &board.power.modes.join(", "));
    }
    for accelerator in &board.accelerators {
        row("accelerator", &format!("{}: {}", accelerator.kind, accelerator.name));
    }
    for note in &board.notes.texts {
        row("note", note);
    }
}

fn row(name: &str, text: &str) {
    println!("{name:<12}  {text}");
}
