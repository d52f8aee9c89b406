//! `.../health`: how the box is, periodically (QoS 0): worth nothing later. No patient data; studies are counts.

use serde::{Deserialize, Serialize};

/// `schema` of a [`HealthV1`].
pub const HEALTH_SCHEMA: &str = "metwatch.health/1";

/// A value and where it was read; absent is `null`, never zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadingV1<T> {
    /// The value, in the unit that the field's name ends with.
    pub value: T,
    /// Path, or `nvml`, or `statvfs`.
    pub source: String,
}

/// A thermal zone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ZoneV1 {
    /// Such as `tj-thermal`.
    pub name: String,
    /// `null` for one that is powered down.
    pub celsius: Option<f64>,
    /// Where.
    pub source: String,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuV1 {
    /// Product name.
    pub name: String,
    /// Busy share, 0 to 1.
    pub load: Option<ReadingV1<f64>>,
    /// Clock now.
    pub clock_hz: Option<ReadingV1<u64>>,
    /// Highest clock that is allowed.
    pub clock_max_hz: Option<ReadingV1<u64>>,
    /// Memory of its own.
    pub memory_total_bytes: Option<ReadingV1<u64>>,
    /// In use of it.
    pub memory_used_bytes: Option<ReadingV1<u64>>,
    /// Draws now.
    pub power_w: Option<ReadingV1<f64>>,
    /// Core temperature.
    pub celsius: Option<ReadingV1<f64>>,
}

/// A power rail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RailV1 {
    /// Such as `VDD_IN`.
    pub name: String,
    /// Voltage times current.
    pub watts: f64,
    /// Where.
    pub source: String,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineV1 {
    /// Name of the board, such as `orin-nx`.
    pub board: String,
    /// The power mode's name.
    pub power_mode: Option<ReadingV1<String>>,
    /// Since the machine started.
    pub uptime_s: Option<ReadingV1<f64>>,
    /// Busy share of the processors since the message before, 0 to 1.
    pub cpu_busy: Option<ReadingV1<f64>>,
    /// Runnable tasks, mean over a minute.
    pub load_1min: Option<ReadingV1<f64>>,
    /// Physical memory.
    pub memory_total_bytes: Option<ReadingV1<u64>>,
    /// What can be had of it.
    pub memory_available_bytes: Option<ReadingV1<u64>>,
    /// Size of the store's disk.
    pub disk_total_bytes: Option<ReadingV1<u64>>,
    /// Room on it.
    pub disk_free_bytes: Option<ReadingV1<u64>>,
    /// The temperature that the policy follows.
    pub hottest: Option<ZoneV1>,
    /// All zones.
    pub zones: Vec<ZoneV1>,
    /// All GPUs.
    pub gpus: Vec<GpuV1>,
    /// The whole module.
    pub power_w: Option<ReadingV1<f64>>,
    /// All rails.
    pub rails: Vec<RailV1>,
    /// What is slowed down now.
    pub throttled: Vec<ReadingV1<String>>,
}

/// What the policy made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyV1 {
    /// Studies computed at once.
    pub studies_at_once: usize,
    /// Threads of a study.
    pub threads: usize,
    /// Self-tests and updates wait.
    pub postponed: bool,
    /// What is wrong now: codes of the events that told it, such as `device.too-hot`.
    pub conditions: Vec<String>,
}

/// Counts of the work.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WorkV1 {
    /// Series ever received by this store.
    pub received: u64,
    /// Objects still arrive, or the wait for late ones goes on.
    pub receiving: u64,
    /// Complete and not yet scored.
    pub queued: u64,
    /// With a result.
    pub analysed: u64,
    /// Refused by a rule or a gate.
    pub refused: u64,
    /// The box could not do its work.
    pub failed: u64,
    /// Messages without their receipt.
    pub outbox_open: u64,
    /// Of them those that wait for a person.
    pub outbox_parked: u64,
    /// Of them alerts that no station acknowledged.
    pub alerts_open: u64,
    /// Age of the oldest of those.
    pub alert_oldest_s: Option<u64>,
    /// Whether the broker is connected.
    pub broker_connected: bool,
}

/// `.../health`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthV1 {
    /// [`HEALTH_SCHEMA`].
    pub schema: String,
    /// RFC 3339, UTC.
    pub issued_at: String,
    /// Version of the program.
    pub version: String,
    /// Since the service started.
    pub running_s: u64,
    /// What it measures.
    pub machine: MachineV1,
    /// What follows.
    pub policy: PolicyV1,
    /// What there is to do.
    pub work: WorkV1,
    /// What computes, as `id version`.
    pub packages: super::payload::PackagesV1,
}

#[cfg(test)]
pub(super) fn example() -> HealthV1 {
    fn reading<T>(value: T, source: &str) -> Option<ReadingV1<T>> {
        Some(ReadingV1 { value, source: source.into() })
    }
    let zone =
        ZoneV1 { name: "tj-thermal".into(), celsius: Some(49.5), source: "/sys/class/thermal/thermal_zone8".into() };
    let offline =
        ZoneV1 { name: "cv0-thermal".into(), celsius: None, source: "/sys/class/thermal/thermal_zone2".into() };
    let gpu = GpuV1 {
        name: "Orin (nvgpu)".into(),
        load: reading(0.0, "/sys/class/devfreq/17000000.gpu/device/load"),
        clock_hz: reading(612_000_000, "/sys/class/devfreq/17000000.gpu/cur_freq"),
        clock_max_hz: None,
        memory_total_bytes: None,
        memory_used_bytes: None,
        power_w: None,
        celsius: None,
    };
    HealthV1 {
        schema: HEALTH_SCHEMA.into(),
        issued_at: super::payload::rfc3339(1_700_000_000_000),
        version: "0.1.0".into(),
        running_s: 60,
        machine: MachineV1 {
            board: "orin-nx".into(),
            power_mode: reading("15W".into(), "/var/lib/nvpmodel/status"),
            uptime_s: reading(3725.5, "/proc/uptime"),
            cpu_busy: None,
            load_1min: reading(0.5, "/proc/loadavg"),
            memory_total_bytes: reading(16_000_000_000, "/proc/meminfo"),
            memory_available_bytes: reading(12_000_000_000, "/proc/meminfo"),
            disk_total_bytes: reading(250_000_000_000, "statvfs"),
            disk_free_bytes: None,
            hottest: Some(zone.clone()),
            zones: vec![zone, offline],
            gpus: vec![gpu],
            power_w: reading(7.5, "/sys/bus/i2c/devices/1-0040/hwmon/hwmon1/in1_input"),
            rails: vec![RailV1 { name: "VDD_IN".into(), watts: 7.5, source: "in1_input".into() }],
            throttled: reading("thermal-cpufreq-0".into(), "cooling_device1").into_iter().collect(),
        },
        policy: PolicyV1 {
            studies_at_once: 1,
            threads: 4,
            postponed: true,
            conditions: vec!["device.throttled".into()],
        },
        work: WorkV1 { received: 3, analysed: 2, alert_oldest_s: Some(12), ..WorkV1::default() },
        packages: super::payload::PackagesV1 { segmenter: "a 1".into(), nomogram: "b 1".into() },
    }
}
