//! Folders made after the paths of real boards (platform.md section 6): the values are what a person would read there.

use super::*;
use crate::device::{Config, Machine};
use std::path::PathBuf;

/// A tree of files that goes with its owner.
struct Fake(PathBuf);

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Fake {
    fn new(name: &str) -> Fake {
        let root = std::env::temp_dir().join(format!("metwatch-device-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(&root).unwrap();
        Fake(root)
    }

    fn file(&self, path: &str, text: &str) -> &Fake {
        let path = self.0.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn zone(&self, n: usize, name: &str, millidegrees: &str) -> &Fake {
        let folder = format!("/sys/class/thermal/thermal_zone{n}");
        self.file(&format!("{folder}/type"), name).file(&format!("{folder}/temp"), millidegrees)
    }

    fn rail(&self, chip: &str, n: usize, name: &str, millivolt: i64, milliampere: i64) -> &Fake {
        let folder = format!("/sys/bus/i2c/devices/{chip}/hwmon/hwmon1");
        self.file(&format!("{folder}/in{n}_label"), &format!("{name}\n"))
            .file(&format!("{folder}/in{n}_input"), &millivolt.to_string())
            .file(&format!("{folder}/curr{n}_input"), &milliampere.to_string())
    }

    fn machine(&self) -> Machine {
        Machine::open(&Config { root: self.0.clone(), ..Config::default() }).unwrap()
    }
}

/// An Orin NX as JetPack 6 shows it.
fn orin_nx(name: &str) -> Fake {
    let fake = Fake::new(name);
    let gpu = "/sys/class/devfreq/17000000.gpu";
    fake.file("/proc/device-tree/model", "NVIDIA Jetson Orin NX Engineering Reference Developer Kit\0")
        .file("/proc/device-tree/compatible", "nvidia,p3768-0000+p3767-0000\0nvidia,p3767-0000\0nvidia,tegra234\0")
        .file("/etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n# more\n")
        .file(&format!("{gpu}/device/of_node/name"), "gpu\0")
        .file(&format!("{gpu}/device/load"), "437\n")
        .file(&format!("{gpu}/cur_freq"), "612000000\n")
        .file(&format!("{gpu}/max_freq"), "1020000000\n")
        .zone(0, "cpu-thermal\n", "48125\n")
        .zone(1, "gpu-thermal\n", "46906\n")
        .zone(2, "cv0-thermal\n", "-256000\n")
        .zone(8, "tj-thermal\n", "49500\n")
        .zone(10, "hot-surface\n", "71000\n")
        .rail("1-0040", 1, "VDD_IN", 19096, 392)
        .rail("1-0040", 2, "VDD_CPU_GPU_CV", 19096, 88)
        .rail("1-0040", 3, "VDD_SOC", 19096, 120)
        .file("/proc/meminfo", "MemTotal:       16013280 kB\nMemFree:  1 kB\nMemAvailable:   12000000 kB\n")
        .file("/proc/uptime", "3725.50 14000.00\n")
        .file("/proc/loadavg", "0.52 0.40 0.30 1/300 4711\n")
        .file("/proc/stat", "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 1 1 1\n")
        .file("/var/lib/nvpmodel/status", "pmode:0002\n")
        .file("/etc/nvpmodel.conf", "# < POWER_MODEL ID=2 NAME=OLD >\n< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=15W >\nCPU_ONLINE CORE_0 1\n");
    fake
}

fn value<T: Copy>(reading: &Option<Reading<T>>) -> Option<T> {
    reading.as_ref().map(|r| r.value)
}

#[test]
fn an_orin_nx_is_read_from_sysfs() {
    let fake = orin_nx("nx");
    let mut machine = fake.machine();
    assert_eq!((machine.choice.board.name.as_str(), machine.found.jetpack()), ("orin-nx", Some(6)));
    assert!(machine.found.is_tegra() && machine.choice.why.contains("p3767-0000"), "{:?}", machine.choice.why);
    let t = machine.sample(None);
    assert_eq!(t.zones.len(), 5);
    assert_eq!(t.zones[4].name, "hot-surface", "zone 10 after zone 8");
    assert_eq!((t.zones[2].name.as_str(), t.zones[2].celsius), ("cv0-thermal", None), "powered down is not cold");
    assert_eq!(t.hottest(Some("tj")), Some(("tj-thermal".into(), 49.5)));
    let gpu = &t.gpus[0];
    assert_eq!((value(&gpu.load), value(&gpu.clock_hz)), (Some(0.437), Some(612_000_000)));
    assert_eq!(gpu.load.as_ref().unwrap().source, "/sys/class/devfreq/17000000.gpu/device/load");
    assert_eq!((value(&gpu.celsius), value(&gpu.memory_total_bytes)), (None, None));
    // 19.096 V x 0.392 A
    assert!((value(&t.power_w).unwrap() - 7.485632).abs() < 1e-9);
    assert_eq!(t.rails.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]);
    assert_eq!(t.power_mode.as_ref().unwrap().value, "15W");
    assert_eq!(value(&t.memory_available_bytes), Some(12_000_000 * 1024));
    assert_eq!((value(&t.uptime_s), value(&t.load_1min)), (Some(3725.5), Some(0.52)));
    assert_eq!((value(&t.cpu_busy), value(&t.disk_free_bytes)), (None, None), "no look before, no state folder");
    assert_eq!((t.throttled.len(), &t.nvml_note), (0, &None), "NVML speaks of another machine");
    // 100 ticks idle of 400 since then.
    fake.file("/proc/stat", "cpu  300 0 200 900 0 0 0 0 0 0\n");
    assert_eq!(value(&machine.sample(None).cpu_busy), Some(0.75));
}

#[test]
fn names_of_jetpack_5_and_an_offline_junction() {
    let fake = orin_nx("jp5");
    fake.file("/etc/nv_tegra_release", "# R35 (release), REVISION: 4.1\n");
    fake.zone(0, "CPU-therm", "60000").zone(8, "Tj-Therm", "61000");
    let mut machine = fake.machine();
    assert_eq!(machine.found.jetpack(), Some(5));
    assert_eq!(machine.sample(None).hottest(Some("tj")), Some(("Tj-Therm".into(), 61.0)));
    // Offline: the hottest of the others counts, never -256.
    fake.zone(8, "Tj-Therm", "-256000");
    assert_eq!(machine.sample(None).hottest(Some("tj")), Some(("hot-surface".into(), 71.0)));
}

#[test]
fn an_agx_orin_adds_two_chips_up_and_leaves_out_what_is_not_connected() {
    let fake = Fake::new("agx");
    fake.file("/proc/device-tree/model", "NVIDIA Jetson AGX Orin Developer Kit\0")
        .rail("1-0040", 1, "VDD_GPU_SOC", 20000, 500)
        .rail("1-0040", 2, "VDD_CPU_CV", 20000, 250)
        .rail("1-0040", 3, "VIN_SYS_5V0", 5000, 1000)
        .rail("1-0041", 1, "NC", 5000, 9000)
        .rail("1-0041", 2, "VDDQ_VDD2_1V8AO", 5000, 400)
        .file("/sys/bus/i2c/devices/1-0040/hwmon/hwmon1/in7_input", "90000")
        .file("/sys/bus/i2c/devices/1-0040/hwmon/hwmon1/in7_label", "sum of shunt voltages");
    let t = fake.machine().sample(None);
    assert_eq!(t.rails.len(), 4);
    assert!((value(&t.power_w).unwrap() - 22.0).abs() < 1e-9, "10 + 5 + 5 + 2 W");
}

#[test]
fn a_zero_is_a_value_and_a_missing_file_is_none() {
    let fake = orin_nx("zero");
    fake.file("/sys/class/devfreq/17000000.gpu/device/load", "0\n").zone(8, "tj-thermal", "0\n");
    std::fs::remove_file(fake.0.join("sys/class/devfreq/17000000.gpu/cur_freq")).unwrap();
    std::fs::remove_file(fake.0.join("etc/nvpmodel.conf")).unwrap();
    let t = fake.machine().sample(None);
    assert_eq!((value(&t.gpus[0].load), value(&t.gpus[0].clock_hz)), (Some(0.0), None));
    assert_eq!(t.hottest(Some("tj")), Some(("tj-thermal".into(), 0.0)));
    assert_eq!(t.power_mode, None, "a number without its name is worth nothing");
    // Garbage is none, too.
    fake.file("/sys/class/devfreq/17000000.gpu/device/load", "90000\n").file("/proc/meminfo", "MemTotal: many kB\n");
    let t = fake.machine().sample(None);
    assert_eq!((value(&t.gpus[0].load), value(&t.memory_total_bytes)), (None, None));
}

#[test]
fn what_slows_down_is_named_and_a_fan_is_no_brake() {
    let fake = orin_nx("throttle");
    fake.file("/sys/class/thermal/cooling_device0/type", "pwm-fan\n")
        .file("/sys/class/thermal/cooling_device0/cur_state", "3\n")
        .file("/sys/class/thermal/cooling_device1/type", "thermal-cpufreq-0\n")
        .file("/sys/class/thermal/cooling_device1/cur_state", "0\n")
        .file("/sys/class/hwmon/hwmon4/oc1_event_cnt", "7\n");
    let mut machine = fake.machine();
    assert_eq!(machine.sample(None).throttled, [], "a count from before says nothing about now");
    fake.file("/sys/class/thermal/cooling_device1/cur_state", "2\n")
        .file("/sys/bus/i2c/devices/1-0040/hwmon/hwmon1/curr1_crit_alarm", "1\n")
        .file("/sys/class/hwmon/hwmon4/oc1_event_cnt", "8\n");
    let texts = |t: &Telemetry| t.throttled.iter().map(|r| r.value.clone()).collect::<Vec<_>>();
    assert_eq!(texts(&machine.sample(None)), ["thermal-cpufreq-0", "too much current on VDD_IN", "over-current"]);
    assert_eq!(texts(&machine.sample(None)), ["thermal-cpufreq-0", "too much current on VDD_IN"]);
}

#[test]
fn a_gpu_node_of_another_name_is_found_by_its_device_tree_name() {
    let fake = Fake::new("node");
    fake.file("/etc/nv_tegra_release", "# R35 (release), REVISION: 1.0\n")
        .file("/sys/class/devfreq/17000000.ga10b/device/of_node/name", "ga10b\0")
        .file("/sys/class/devfreq/17000000.ga10b/device/load", "1000")
        .file("/sys/class/devfreq/1d84000.ufs/device/of_node/name", "ufs\0");
    assert_eq!(value(&fake.machine().sample(None).gpus[0].load), Some(1.0));
    // A machine with nothing: nothing is told, nothing fails.
    let empty = Fake::new("empty");
    let t = empty.machine().sample(None);
    assert_eq!(t, Telemetry::default());
}
