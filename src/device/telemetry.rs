//! What the machine measures: temperatures, power, memory, disk, load, throttling. Each value is there with its source or absent:
//! zero is a measurement, a value that cannot be read is none.

use super::board::{Board, Found};
use super::nvml::{self, Session};
use super::tree::Tree;
use std::path::Path;

/// A value and where it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading<T> {
    /// The value.
    pub value: T,
    /// Path below the root, or `nvml`, `statvfs`.
    pub source: String,
}

impl<T> Reading<T> {
    pub(super) fn new(value: T, source: impl Into<String>) -> Option<Reading<T>> {
        Some(Reading { value, source: source.into() })
    }
}

/// One look at the machine.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Telemetry {
    /// Since the machine started, s.
    pub uptime_s: Option<Reading<f64>>,
    /// Share of the processors' time that was not idle since the look before, 0 to 1.
    pub cpu_busy: Option<Reading<f64>>,
    /// Runnable tasks, mean over a minute.
    pub load_1min: Option<Reading<f64>>,
    /// Physical memory; on a Jetson the GPU's too.
    pub memory_total_bytes: Option<Reading<u64>>,
    /// What can be had without swapping.
    pub memory_available_bytes: Option<Reading<u64>>,
    /// Size of the file system of the state directory.
    pub disk_total_bytes: Option<Reading<u64>>,
    /// Room on it for the service's user.
    pub disk_free_bytes: Option<Reading<u64>>,
    /// Thermal zones, and the processor's own sensors where there are none.
    pub zones: Vec<Zone>,
    /// GPUs.
    pub gpus: Vec<Gpu>,
    /// Power rails.
    pub rails: Vec<Rail>,
    /// The whole module, W.
    pub power_w: Option<Reading<f64>>,
    /// The power mode's name, never its number.
    pub power_mode: Option<Reading<String>>,
    /// What is slowed down now, and by what.
    pub throttled: Vec<Reading<String>>,
    /// Why NVML told nothing, where it was asked and did not.
    pub nvml_note: Option<String>,
}

/// A thermal zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    /// Such as `tj-thermal`.
    pub name: String,
    /// `None` for one that is powered down: offline is not cold.
    pub celsius: Option<f64>,
    /// Where.
    pub source: String,
}

/// A GPU; each field by itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gpu {
    /// For people.
    pub name: String,
    /// Busy share, 0 to 1.
    pub load: Option<Reading<f64>>,
    /// Clock now, Hz.
    pub clock_hz: Option<Reading<u64>>,
    /// Highest clock that the power mode allows, Hz.
    pub clock_max_hz: Option<Reading<u64>>,
    /// Its own memory; none where it shares the processor's.
    pub memory_total_bytes: Option<Reading<u64>>,
    /// In use.
    pub memory_used_bytes: Option<Reading<u64>>,
    /// Draws now, W.
    pub power_w: Option<Reading<f64>>,
    /// Core temperature.
    pub celsius: Option<Reading<f64>>,
}

/// A power rail.
#[derive(Debug, Clone, PartialEq)]
pub struct Rail {
    /// Such as `VDD_IN`.
    pub name: String,
    /// Voltage times current.
    pub watts: f64,
    /// Where.
    pub source: String,
}

/// What is kept between two looks: loads and counts are differences.
#[derive(Default)]
pub struct Sampler {
    nvml: Session,
    cpu: Option<[u64; 2]>,
    events: Option<Vec<(String, i64)>>,
}

/// Real temperatures lie between; a sensor that is powered down says -256, a broken one more than any chip survives.
const CELSIUS: std::ops::RangeInclusive<f64> = -50.0..=150.0;
/// Device-tree names of the GPU's devfreq node.
const GPU_NODES: [&str; 5] = ["gpu", "ga10b", "gv11b", "gp10b", "gb10b"];
/// Beginnings of the types of cooling devices that slow a processor down. Fans are none.
const BRAKES: [&str; 7] =
    ["thermal-cpufreq", "cpufreq", "thermal-devfreq", "devfreq", "processor", "cpu-throttle", "gpu-throttle"];
/// Names of hwmon chips that measure the processor, for machines without thermal zones that do.
const CPU_CHIPS: [&str; 3] = ["coretemp", "k10temp", "cpu_thermal"];

impl Sampler {
    /// Looks once. `state`: a folder on the disk that counts.
    pub fn sample(&mut self, tree: &Tree, board: &Board, found: &Found, state: Option<&Path>) -> Telemetry {
        let (gpus, nvml_note) = self.gpus(tree, board, found);
        let rails = rails(tree, board);
        let memory = tree.text("/proc/meminfo");
        let memory = |key: &str| {
            let kib = meminfo_kib(memory.as_deref()?, key)?;
            Reading::new(kib * 1024, "/proc/meminfo")
        };
        let first = |path: &str| Reading::new(tree.text(path)?.split_whitespace().next()?.parse().ok()?, path);
        let disk = state.and_then(|path| rustix::fs::statvfs(path).ok());
        let mut throttled = brakes(tree);
        throttled.extend(alarms(tree, board));
        throttled.extend(self.new_events(tree));
        throttled.extend(self.nvml.slowdowns(tree));
        Telemetry {
            uptime_s: first("/proc/uptime"),
            load_1min: first("/proc/loadavg"),
            cpu_busy: self.cpu_busy(tree),
            memory_total_bytes: memory("MemTotal:"),
            memory_available_bytes: memory("MemAvailable:"),
            disk_total_bytes: disk
                .as_ref()
                .and_then(|d| Reading::new(d.f_blocks.saturating_mul(d.f_frsize), "statvfs")),
            disk_free_bytes: disk.as_ref().and_then(|d| Reading::new(d.f_bavail.saturating_mul(d.f_frsize), "statvfs")),
            zones: zones(tree),
            power_w: total_power(&rails, board).or_else(|| sum_of_gpus(&gpus)),
            power_mode: power_mode(tree, board),
            gpus,
            rails,
            throttled,
            nvml_note,
        }
    }

    /// Tegra's sysfs first; there NVML is only believed its name and load (JetPack 6 and 7 call the rest unsupported, older
    /// releases answered zeros). Elsewhere NVML, field by field.
    fn gpus(&mut self, tree: &Tree, board: &Board, found: &Found) -> (Vec<Gpu>, Option<String>) {
        let mut ours: Vec<Gpu> = tegra_gpu(tree, board).into_iter().collect();
        let (theirs, note) = self.nvml.gpus(tree);
        if ours.is_empty() && !found.is_tegra() {
            return (theirs, note);
        }
        match (ours.first_mut(), theirs.into_iter().next()) {
            (Some(gpu), Some(told)) => {
                gpu.name = told.name;
                gpu.load = gpu.load.take().or(told.load);
            }
            (None, Some(told)) => ours.push(Gpu { name: told.name, load: told.load, ..Gpu::default() }),
            (_, None) => {}
        }
        (ours, note)
    }

    fn cpu_busy(&mut self, tree: &Tree) -> Option<Reading<f64>> {
        let now = cpu_times(&tree.text("/proc/stat")?)?;
        let [idle, total] = self.cpu.replace(now).map(|old| [0, 1].map(|k| now[k].saturating_sub(old[k])))?;
        let busy = if total == 0 { return None } else { 1.0 - idle.min(total) as f64 / total as f64 };
        Reading::new(busy, "/proc/stat")
    }

    /// Counters of throttling that rose since the look before: over-current events of a Tegra, thermal ones of an x86 core.
    fn new_events(&mut self, tree: &Tree) -> Vec<Reading<String>> {
        let mut now = Vec::new();
        for chip in tree.list("/sys/class/hwmon", "hwmon") {
            let counters = tree.list(&chip, "oc").into_iter().filter(|p| p.ends_with("_event_cnt"));
            now.extend(counters.filter_map(|path| Some((tree.number(&path)?, path)).map(|(n, p)| (p, n))));
        }
        for core in tree.list("/sys/devices/system/cpu", "cpu") {
            let path = format!("{core}/thermal_throttle/core_throttle_count");
            now.extend(tree.number(&path).map(|n| (path, n)));
        }
        let before = self.events.replace(now.clone()).unwrap_or_default();
        let rose = |(path, n): &(String, i64)| before.iter().any(|(p, old)| p == path && old < n);
        let text = |path: &str| if path.contains("/oc") { "over-current" } else { "processor too hot" };
        now.iter().filter(|e| rose(e)).filter_map(|(path, _)| Reading::new(text(path).into(), path.as_str())).collect()
    }
}

impl Telemetry {
    /// The zone that the policy follows: the board's, else (also when that one is offline) the hottest of all, GPUs included.
    pub fn hottest(&self, zone: Option<&str>) -> Option<(String, f64)> {
        let online = self.zones.iter().filter_map(|z| Some((z.name.clone(), z.celsius?)));
        let named = |name: &str| zone.is_some_and(|z| name.to_lowercase().starts_with(&z.to_lowercase()));
        let gpus = self.gpus.iter().filter_map(|g| Some((g.name.clone(), g.celsius.as_ref()?.value)));
        let hotter = |a: &(String, f64), b: &(String, f64)| a.1.total_cmp(&b.1);
        let wanted = online.clone().filter(|(name, _)| named(name)).max_by(hotter);
        wanted.or_else(|| online.chain(gpus).max_by(hotter))
    }
}

/// `/sys/class/thermal`: names differ by release (`CPU-therm`, `cpu-thermal`), so they are compared without case.
fn zones(tree: &Tree) -> Vec<Zone> {
    let celsius = |path: &str| tree.number(path).map(|m| m as f64 / 1000.0).filter(|c| CELSIUS.contains(c));
    let mut zones = Vec::new();
    for folder in tree.list("/sys/class/thermal", "thermal_zone") {
        let Some(name) = tree.text(&format!("{folder}/type")) else { continue };
        zones.push(Zone { name, celsius: celsius(&format!("{folder}/temp")), source: folder });
    }
    for folder in tree.list("/sys/class/hwmon", "hwmon") {
        let name = tree.text(&format!("{folder}/name")).unwrap_or_default();
        if CPU_CHIPS.contains(&name.as_str()) {
            let source = format!("{folder}/temp1_input");
            zones.push(Zone { name, celsius: celsius(&source), source });
        }
    }
    zones
}

fn tegra_gpu(tree: &Tree, board: &Board) -> Option<Gpu> {
    let named = board.paths.gpu.iter().find(|path| tree.has(path)).cloned();
    let folder = named.or_else(|| {
        let node = |f: &String| tree.text(&format!("{f}/device/of_node/name"));
        tree.list("/sys/class/devfreq", "").into_iter().find(|f| node(f).is_some_and(|n| GPU_NODES.contains(&&*n)))
    })?;
    let reading = |path: String| Reading::new(tree.number(&path)?, path);
    let hz = |name: &str| {
        let read = reading(format!("{folder}/{name}"))?;
        Reading::new(u64::try_from(read.value).ok()?, read.source)
    };
    let load = reading(format!("{folder}/device/load")).or_else(|| reading(format!("{folder}/load")));
    let load = load.filter(|l| (0..=1000).contains(&l.value));
    Some(Gpu {
        name: "GPU".into(),
        load: load.map(|l| Reading { value: l.value as f64 / 1000.0, source: l.source }),
        clock_hz: hz("cur_freq"),
        clock_max_hz: hz("max_freq"),
        ..Gpu::default()
    })
}

/// hwmon folders of the INA3221 chips.
fn chips(tree: &Tree, board: &Board) -> Vec<String> {
    let below = |chip: &String| tree.list(&format!("{chip}/hwmon"), "hwmon");
    let found: Vec<String> = board.paths.power.iter().flat_map(below).collect();
    if !found.is_empty() {
        return found;
    }
    let is_ina = |f: &String| tree.text(&format!("{f}/name")).is_some_and(|n| n == "ina3221");
    tree.list("/sys/class/hwmon", "hwmon").into_iter().filter(is_ina).collect()
}

/// Channels 1 to 3 that are connected; `in7` is the chip's own sum of shunt voltages.
fn channels(tree: &Tree, board: &Board) -> Vec<(String, usize, String)> {
    let mut all = Vec::new();
    for folder in chips(tree, board) {
        for n in 1..=3 {
            let Some(name) = tree.text(&format!("{folder}/in{n}_label")) else { continue };
            if !name.is_empty() && !name.to_uppercase().starts_with("NC") {
                all.push((folder.clone(), n, name));
            }
        }
    }
    all
}

fn rails(tree: &Tree, board: &Board) -> Vec<Rail> {
    let rail = |(folder, n, name): (String, usize, String)| {
        let millivolt = tree.number(&format!("{folder}/in{n}_input"))?;
        let milliampere = tree.number(&format!("{folder}/curr{n}_input"))?;
        let watts = millivolt as f64 * milliampere as f64 / 1e6;
        Some(Rail { name, watts, source: format!("{folder}/in{n}_input") })
    };
    channels(tree, board).into_iter().filter_map(rail).collect()
}

fn total_power(rails: &[Rail], board: &Board) -> Option<Reading<f64>> {
    if let Some(name) = &board.paths.rail_total {
        let total = rails.iter().find(|r| r.name.eq_ignore_ascii_case(name))?;
        return Reading::new(total.watts, total.source.clone());
    }
    let first = rails.first()?;
    Reading::new(rails.iter().map(|r| r.watts).sum(), format!("{} and its neighbors, added up", first.source))
}

fn sum_of_gpus(gpus: &[Gpu]) -> Option<Reading<f64>> {
    let watts: Vec<f64> = gpus.iter().filter_map(|g| Some(g.power_w.as_ref()?.value)).collect();
    if watts.is_empty() { None } else { Reading::new(watts.iter().sum(), format!("{}, GPUs alone", nvml::SOURCE)) }
}

/// A cooling device at work means that something runs slower than asked.
fn brakes(tree: &Tree) -> Vec<Reading<String>> {
    let on = |folder: String| {
        let kind = tree.text(&format!("{folder}/type"))?;
        let lower = kind.to_lowercase();
        let source = format!("{folder}/cur_state");
        (BRAKES.iter().any(|b| lower.starts_with(b)) && 0 < tree.number(&source)?).then_some(())?;
        Reading::new(kind, source)
    };
    tree.list("/sys/class/thermal", "cooling_device").into_iter().filter_map(on).collect()
}

fn alarms(tree: &Tree, board: &Board) -> Vec<Reading<String>> {
    let mut on = Vec::new();
    for (folder, n, name) in channels(tree, board) {
        for kind in ["crit", "max"] {
            let source = format!("{folder}/curr{n}_{kind}_alarm");
            if tree.number(&source) == Some(1) {
                on.extend(Reading::new(format!("too much current on {name}"), source));
            }
        }
    }
    on
}

/// The name in `/etc/nvpmodel.conf` of the mode whose number the status file holds.
fn power_mode(tree: &Tree, board: &Board) -> Option<Reading<String>> {
    let path = board.paths.power_mode.as_deref()?;
    let status = tree.text(path)?;
    let number: u32 = status.split_once("pmode:")?.1.split_whitespace().next()?.parse().ok()?;
    let conf = tree.text("/etc/nvpmodel.conf")?;
    let value = |line: &str, key: &str| {
        let rest = line.split_once(key)?.1;
        Some(rest.split(|c: char| c.is_whitespace() || c == '>').next()?.to_owned())
    };
    let of_number = |l: &&str| l.contains("POWER_MODEL") && value(l, " ID=").is_some_and(|id| id.parse() == Ok(number));
    let line = conf.lines().filter(|l| !l.trim_start().starts_with('#')).find(of_number)?;
    Reading::new(value(line, "NAME=")?, path)
}

/// (idle, total) of all processors together, in ticks.
fn cpu_times(stat: &str) -> Option<[u64; 2]> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // user nice system idle iowait irq softirq steal; what follows is contained in the first two.
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|t| t.parse().ok()).collect();
    if ticks.len() < 5 { None } else { Some([ticks[3] + ticks[4], ticks.iter().sum()]) }
}

/// A line of `/proc/meminfo`, KiB.
pub(super) fn meminfo_kib(text: &str, key: &str) -> Option<u64> {
    text.lines().find(|l| l.starts_with(key))?.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
#[path = "telemetry_tests.rs"]
mod tests;
