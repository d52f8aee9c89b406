//! What machine this is: cores, instruction sets, memory, accelerators.
//!
//! [`survey`] looks once; `check`, the start of the service and each result name what it found. The engine runs on the CPU today;
//! an accelerator is reported, never silently assumed.
//!
//! **Invariant:** knows nothing of studies; a value that cannot be read is absent, not zero.
#![expect(clippy::disallowed_methods, reason = "edge: this room reads /proc and NVML")]

/// What was found on this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Hardware threads that this process may use.
    pub n_threads: usize,
    /// Instruction sets that decide which kernels run, such as `avx2`.
    pub instruction_sets: Vec<&'static str>,
    /// Physical memory.
    pub memory_mib: Option<u64>,
    /// GPUs as NVML names them.
    pub accelerators: Vec<Accelerator>,
    /// Why NVML told nothing, where it did.
    pub nvml_note: Option<String>,
}

/// One GPU. NVML answers field by field: on a Jetson most of them are not supported.
#[derive(Debug, Clone, PartialEq)]
pub struct Accelerator {
    /// Product name.
    pub name: String,
    /// Its own memory.
    pub memory_mib: Option<u64>,
    /// Core temperature.
    pub temperature_c: Option<u32>,
}

impl Device {
    /// One line for logs and for people.
    pub fn summary(&self) -> String {
        let memory = self.memory_mib.map_or("memory unknown".into(), |m| format!("{m} MiB"));
        let gpus: Vec<&str> = self.accelerators.iter().map(|a| a.name.as_str()).collect();
        let gpus = if gpus.is_empty() { "no accelerator".into() } else { gpus.join(", ") };
        format!("{} threads ({}), {memory}, {gpus}", self.n_threads, self.instruction_sets.join(" "))
    }
}

/// Looks at this machine once.
pub fn survey() -> Device {
    let (accelerators, nvml_note) = match accelerators() {
        Ok(found) => (found, None),
        Err(why) => (Vec::new(), Some(why.to_string())),
    };
    Device {
        n_threads: std::thread::available_parallelism().map_or(1, usize::from),
        instruction_sets: instruction_sets(),
        memory_mib: memory_mib(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        accelerators,
        nvml_note,
    }
}

fn accelerators() -> Result<Vec<Accelerator>, nvml_wrapper::error::NvmlError> {
    let nvml = nvml_wrapper::Nvml::init()?;
    let mut found = Vec::new();
    for index in 0..nvml.device_count()? {
        let gpu = nvml.device_by_index(index)?;
        found.push(Accelerator {
            name: gpu.name().unwrap_or_else(|_| format!("GPU {index}")),
            memory_mib: gpu.memory_info().ok().map(|m| m.total >> 20),
            temperature_c: gpu.temperature(nvml_wrapper::enum_wrappers::device::TemperatureSensor::Gpu).ok(),
        });
    }
    Ok(found)
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
    #[cfg(not(target_arch = "x86_64"))]
    vec![std::env::consts::ARCH]
}

/// MemTotal of /proc/meminfo, in MiB.
fn memory_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|l| l.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_or_absent() {
        assert_eq!(memory_mib("MemTotal:       25165824 kB\nMemFree: 1 kB\n"), Some(24576));
        assert_eq!(memory_mib("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn a_machine_without_nvml_says_so() {
        let device = survey();
        assert!(device.n_threads >= 1);
        assert!(!device.accelerators.is_empty() || device.nvml_note.is_some());
    }
}
