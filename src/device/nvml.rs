//! NVIDIA's management library, where its driver is installed. It is asked field by field: what one board knows another does not.

use super::telemetry::{Gpu, Reading};
use super::tree::Tree;
use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};

/// Where values of this library are said to come from.
pub const SOURCE: &str = "nvml";

/// The library, once it could be opened; tried again until then, since a driver may come up after this process.
#[derive(Default)]
pub struct Session(Option<Nvml>);

impl Session {
    /// What it tells of each GPU, and why it tells nothing. It speaks of this machine, so it is not asked beside another root.
    pub fn gpus(&mut self, tree: &Tree) -> (Vec<Gpu>, Option<String>) {
        let nvml = match self.open(tree) {
            Ok(Some(nvml)) => nvml,
            Ok(None) => return (Vec::new(), None),
            Err(why) => return (Vec::new(), Some(why)),
        };
        let n = match nvml.device_count() {
            Ok(n) => n,
            Err(error) => return (Vec::new(), Some(error.to_string())),
        };
        ((0..n).filter_map(|index| Some(gpu(&nvml.device_by_index(index).ok()?, index))).collect(), None)
    }

    /// What slows the GPUs down beside their power limit, which is at work in every full load.
    pub fn slowdowns(&mut self, tree: &Tree) -> Vec<Reading<String>> {
        let Ok(Some(nvml)) = self.open(tree) else { return Vec::new() };
        let brakes = ThrottleReasons::HW_SLOWDOWN
            | ThrottleReasons::HW_THERMAL_SLOWDOWN
            | ThrottleReasons::SW_THERMAL_SLOWDOWN
            | ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN;
        let on = |index: u32| {
            let reasons = nvml.device_by_index(index).ok()?.current_throttle_reasons().ok()? & brakes;
            let names: Vec<String> = reasons.iter_names().map(|(n, _)| n.to_lowercase().replace('_', " ")).collect();
            (!names.is_empty()).then(|| format!("GPU {index}: {}", names.join(", ")))
        };
        (0..nvml.device_count().unwrap_or(0)).filter_map(|i| Reading::new(on(i)?, SOURCE)).collect()
    }

    /// The driver's version.
    pub fn driver(&mut self, tree: &Tree) -> Option<String> {
        self.open(tree).ok()??.sys_driver_version().ok()
    }

    fn open(&mut self, tree: &Tree) -> Result<Option<&Nvml>, String> {
        if !tree.is_this_machine() {
            return Ok(None);
        }
        if self.0.is_none() {
            self.0 = Some(Nvml::init().map_err(|e| e.to_string())?);
        }
        Ok(self.0.as_ref())
    }
}

fn gpu(gpu: &nvml_wrapper::Device<'_>, index: u32) -> Gpu {
    let memory = gpu.memory_info().ok();
    let mhz = |clock: u32| Reading::new(u64::from(clock) * 1_000_000, SOURCE);
    Gpu {
        name: gpu.name().unwrap_or_else(|_| format!("GPU {index}")),
        load: gpu.utilization_rates().ok().and_then(|u| Reading::new(f64::from(u.gpu) / 100.0, SOURCE)),
        clock_hz: gpu.clock_info(Clock::Graphics).ok().and_then(mhz),
        clock_max_hz: gpu.max_clock_info(Clock::Graphics).ok().and_then(mhz),
        memory_total_bytes: memory.as_ref().and_then(|m| Reading::new(m.total, SOURCE)),
        memory_used_bytes: memory.as_ref().and_then(|m| Reading::new(m.used, SOURCE)),
        power_w: gpu.power_usage().ok().and_then(|mw| Reading::new(f64::from(mw) / 1000.0, SOURCE)),
        celsius: gpu.temperature(TemperatureSensor::Gpu).ok().and_then(|c| Reading::new(f64::from(c), SOURCE)),
    }
}
