//! The machine: what board it is, what it measures, and what that means for the work.
//!
//! - [`survey`] looks once at what computes: cores, instruction sets, memory, GPUs. Each result names it.
//! - [`Machine`] is the board: recognized ([`Found`], [`Choice`]) or configured ([`Config`]), with what `board/*.toml` tells of it.
//!   [`Machine::sample`] reads temperatures, power, memory, disk, load and throttling ([`Telemetry`]): Tegra's sysfs first, NVML field
//!   by field elsewhere.
//! - [`policy`] decides what follows (fewer threads, waiting self-tests, an event); `service` does it.
//!
//! All files are read below [`Config::root`], so that a folder made after a board stands for it in tests. The engine runs on the
//! CPU today; an accelerator is reported, never silently assumed.
//!
//! **Invariant:** knows nothing of studies; a value that cannot be read is absent, not zero.
#![expect(clippy::disallowed_methods, reason = "edge: this room reads /proc, /sys and NVML")]

mod board;
mod nvml;
pub mod policy;
mod telemetry;
mod tree;

pub use board::{AcceleratorKind, Board, BoardError, Choice, Found, Wanted, choose, shipped};
pub use telemetry::{Gpu, Rail, Reading, Sampler, Telemetry, Zone};
pub use tree::Tree;

use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The `[device]` part of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the kernel's files are; another folder than `/` stands for another machine, in tests.
    pub root: PathBuf,
    /// A board that ships, instead of the one that is recognized.
    pub board: Option<String>,
    /// A board's own file, made after one of `board/*.toml`.
    pub board_file: Option<PathBuf>,
    /// The machine is looked at this often, s (1 to 3600).
    #[serde(deserialize_with = "seconds")]
    pub sample_s: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config { root: "/".into(), board: None, board_file: None, sample_s: 10 }
    }
}

fn seconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    match u32::deserialize(from)? {
        s @ 1..=3600 => Ok(s),
        s => Err(serde::de::Error::custom(format!("sample_s is {s}, not 1 to 3600 seconds"))),
    }
}

/// The machine that this process runs on, or the one that a folder stands for.
pub struct Machine {
    /// What it says about itself.
    pub found: Found,
    /// What counts, and why.
    pub choice: Choice,
    tree: Tree,
    sampler: Sampler,
}

impl Machine {
    /// Recognizes the board, or takes the configured one.
    pub fn open(config: &Config) -> Result<Machine, BoardError> {
        let tree = Tree::new(&config.root);
        let found = Found::read(&tree, std::env::consts::ARCH);
        let choice = choose(&found, &Wanted { board: config.board.clone(), file: config.board_file.clone() })?;
        Ok(Machine { found, choice, tree, sampler: Sampler::default() })
    }

    /// Looks once. `state`: a folder on the disk that counts. Loads and events are differences to the look before.
    pub fn sample(&mut self, state: Option<&Path>) -> Telemetry {
        self.sampler.sample(&self.tree, &self.choice.board, &self.found, state)
    }

    /// The files that it reads.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Version of NVIDIA's driver, where there is one.
    pub fn driver(&mut self) -> Option<String> {
        nvml::Session::default().driver(&self.tree)
    }

    /// Limits of the policy. `disk_low_bytes`: below it no more objects are taken.
    pub fn limits(&self, disk_low_bytes: u64) -> policy::Limits {
        let thermal = &self.choice.board.thermal;
        policy::Limits {
            hot_c: thermal.hot_c,
            cool_c: thermal.cool_c,
            disk_low_bytes,
            memory_low_bytes: policy::MEMORY_LOW_BYTES,
            threads: n_threads(),
        }
    }

    /// What the policy looks at.
    pub fn inputs(&self, telemetry: &Telemetry) -> policy::Inputs {
        policy::Inputs {
            hottest_c: telemetry.hottest(self.choice.board.thermal.zone.as_deref()).map(|(_, celsius)| celsius),
            throttled: Some(!telemetry.throttled.is_empty()),
            disk_free_bytes: telemetry.disk_free_bytes.as_ref().map(|r| r.value),
            memory_available_bytes: telemetry.memory_available_bytes.as_ref().map(|r| r.value),
        }
    }
}

/// What computes on this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Hardware threads that this process may use.
    pub n_threads: usize,
    /// Instruction sets that decide which kernels run, such as `avx2`.
    pub instruction_sets: Vec<&'static str>,
    /// Physical memory.
    pub memory_mib: Option<u64>,
    /// GPUs as NVML names them.
    pub accelerators: Vec<String>,
    /// Why NVML told nothing, where it did.
    pub nvml_note: Option<String>,
}

impl Device {
    /// One line for logs and for people.
    pub fn summary(&self) -> String {
        let memory = self.memory_mib.map_or("memory unknown".into(), |m| format!("{m} MiB"));
        let gpus = if self.accelerators.is_empty() { "no accelerator".into() } else { self.accelerators.join(", ") };
        format!("{} threads ({}), {memory}, {gpus}", self.n_threads, self.instruction_sets.join(" "))
    }
}

/// Looks at this machine once.
pub fn survey() -> Device {
    let tree = Tree::new("/");
    let (gpus, nvml_note) = nvml::Session::default().gpus(&tree);
    let meminfo = tree.text("/proc/meminfo").unwrap_or_default();
    Device {
        n_threads: n_threads(),
        instruction_sets: instruction_sets(),
        memory_mib: telemetry::meminfo_kib(&meminfo, "MemTotal:").map(|kib| kib / 1024),
        accelerators: gpus.into_iter().map(|g| g.name).collect(),
        nvml_note,
    }
}

fn n_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn instruction_sets() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let mut sets = vec!["x86-64"];
        let known = [
            ("avx2", std::arch::is_x86_feature_detected!("avx2")),
            ("fma", std::arch::is_x86_feature_detected!("fma")),
            ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
            ("avx512vnni", std::arch::is_x86_feature_detected!("avx512vnni")),
        ];
        sets.extend(known.iter().filter(|(_, there)| *there).map(|(name, _)| *name));
        sets
    }
    #[cfg(target_arch = "aarch64")]
    {
        let mut sets = vec!["aarch64"];
        let known = [
            ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
            ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
            ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
            ("sve", std::arch::is_aarch64_feature_detected!("sve")),
        ];
        sets.extend(known.iter().filter(|(_, there)| *there).map(|(name, _)| *name));
        sets
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    vec![std::env::consts::ARCH]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_surveyed_and_has_a_board() {
        let device = survey();
        assert!(device.n_threads >= 1 && device.memory_mib.is_some_and(|m| 100 < m), "{device:?}");
        assert!(!device.accelerators.is_empty() || device.nvml_note.is_some());
        let mut machine = Machine::open(&Config::default()).unwrap();
        assert_eq!(machine.choice.board.architecture, std::env::consts::ARCH, "{:?}", machine.choice);
        let telemetry = machine.sample(Some(Path::new("/")));
        assert!(telemetry.disk_total_bytes.is_some_and(|d| 0 < d.value));
        assert_eq!(telemetry.memory_total_bytes.map(|m| m.value >> 20), device.memory_mib);
    }

    #[test]
    fn the_interval_is_bounded() {
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
        assert!(toml::from_str::<Config>("sample_s = 0").unwrap_err().to_string().contains("1 to 3600"));
        assert!(toml::from_str::<Config>("samples = 1").is_err());
    }
}
