//! `metwatch doctor`: what is wrong now and what to do. It looks beside a running service as well as at a box that does not start,
//! and changes nothing but a probe file that it removes.

use super::certificate;
use super::check::{self, Finding};
use super::probes::{glibc_version, run, write_speed};
use super::{Config, health, now_ms, ports};
use crate::alert::payload::{HealthV1, rfc3339};
use crate::device::policy::{self, Condition, Plan};
use crate::device::{Machine, Telemetry};
use crate::store::{self, OutboxState};
use crate::{Explain, alert, console};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A certificate that ends within this time is told.
const CERTIFICATE_WARN_S: i64 = 30 * 86_400;
/// The service writes its health every `sample_s`; missing for that long it hangs.
const HEALTH_LATE_S: i64 = 120;
/// An alert that no station acknowledged for this long is stuck, s.
const ALERT_STUCK_S: u64 = 900;
/// A disk below this makes a series of 300 slices (158 MB) wait for more than ten seconds.
const DISK_SLOW_MB_PER_S: f64 = 15.0;
/// The broker has this long.
const BROKER_WITHIN: Duration = Duration::from_secs(8);
/// What the binary needs, built on Debian 12: `hypot` asks for it.
const GLIBC_MIN: (u32, u32) = (2, 35);

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing to do.
    Ok,
    /// The box works; somebody should look when there is time.
    Warning,
    /// The box does not do its work, or soon will not.
    Problem,
}

impl Severity {
    /// As in JSON and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// Such as `clock` or `disk`.
    pub area: &'static str,
    /// How bad.
    pub severity: Severity,
    /// What was found.
    pub what: String,
    /// Stable code; empty where all is well.
    pub code: &'static str,
    /// What to do; empty where all is well.
    pub advice: String,
}

/// The findings, as they come up.
struct Doctor<'a> {
    config: &'a Config,
    all: Vec<Diagnosis>,
}

/// Looks at everything. Takes some seconds: the disk is written to, the broker called, the models load.
pub fn doctor(config: &Config) -> Vec<Diagnosis> {
    let mut doctor = Doctor { config, all: Vec::new() };
    let running = doctor.service();
    doctor.clock();
    doctor.machine();
    doctor.disk();
    doctor.ports(running.is_some());
    doctor.broker();
    doctor.certificates();
    doctor.secrets();
    doctor.models();
    doctor.store(running.is_some());
    doctor.outbox(running.as_ref());
    doctor.libraries();
    doctor.all
}

impl Doctor<'_> {
    fn ok(&mut self, area: &'static str, what: impl Into<String>) {
        self.all.push(Diagnosis { area, severity: Severity::Ok, what: what.into(), code: "", advice: String::new() });
    }

    fn tell(
        &mut self,
        severity: Severity,
        area: &'static str,
        code: &'static str,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.all.push(Diagnosis { area, severity, what: what.into(), code, advice: advice.into() });
    }

    fn warn(&mut self, area: &'static str, code: &'static str, what: impl Into<String>, advice: impl Into<String>) {
        self.tell(Severity::Warning, area, code, what, advice);
    }

    fn bad(&mut self, area: &'static str, code: &'static str, what: impl Into<String>, advice: impl Into<String>) {
        self.tell(Severity::Problem, area, code, what, advice);
    }

    fn error(&mut self, area: &'static str, error: &dyn Explain) {
        self.bad(area, error.code(), sentence(error), error.advice());
    }

    fn found(&mut self, area: &'static str, finding: Finding) {
        match finding.trouble {
            None => self.ok(area, finding.what),
            Some((code, advice)) => self.bad(area, code, finding.what, advice),
        }
    }

    /// Whether the service runs, by the lock on its store, and what it said last.
    fn service(&mut self) -> Option<Option<HealthV1>> {
        let directory = &self.config.store.directory;
        if !store::is_locked(directory) {
            self.warn("service", "service.not-running", "the service does not run", "systemctl start metwatch");
            return None;
        }
        let said = health::read(directory);
        let age_s = said.as_ref().and_then(|h| age_s(&h.issued_at));
        match age_s {
            Some(age) if age < HEALTH_LATE_S + i64::from(self.config.device.sample_s) => {
                let version = said.as_ref().map_or("", |h| h.version.as_str());
                self.ok("service", format!("the service (version {version}) runs and spoke {age} s ago"));
                if let Some(why) = health::postponed(directory) {
                    self.warn(
                        "service",
                        "device.postponed",
                        format!("self-tests and updates wait: {why}"),
                        "see below",
                    );
                }
            }
            Some(age) => self.bad(
                "service",
                "service.silent",
                format!("the service holds its store, but said nothing for {age} s"),
                "journalctl -u metwatch -n 100; systemd restarts it when its watchdog is not fed",
            ),
            None => self.warn(
                "service",
                "service.starting",
                "the service holds its store and has not said anything yet",
                "wait for its start to end, then ask again",
            ),
        }
        Some(said)
    }

    fn clock(&mut self) {
        let now = now_ms();
        let finding = check::clock(now);
        if finding.trouble.is_some() {
            return self.found("clock", finding);
        }
        let said = health::read(&self.config.store.directory);
        if let Some(ahead) = said.and_then(|h| age_s(&h.issued_at)).filter(|age| *age < -60) {
            self.bad(
                "clock",
                "clock.stepped-back",
                format!("the clock was {} s further before: it stepped back", -ahead),
                "check the time servers and the battery of the board's clock",
            );
        }
        // systemd-timesyncd leaves a file; timedatectl asks the kernel, and so knows chrony and ntpd as well.
        let asked = || run("timedatectl", &["show", "--property=NTPSynchronized", "--value"]);
        let synchronized =
            Path::new("/run/systemd/timesync/synchronized").exists() || asked().as_deref() == Some("yes");
        if synchronized {
            self.ok("clock", format!("{} UTC, synchronized", rfc3339(now)));
        } else {
            self.warn(
                "clock",
                "clock.unsynchronized",
                format!("{} UTC, and nothing says that it is synchronized", rfc3339(now)),
                "timedatectl set-ntp true, or set up chrony; times of alerts and updates depend on it",
            );
        }
    }

    fn machine(&mut self) {
        let mut machine = match Machine::open(&self.config.device) {
            Ok(machine) => machine,
            Err(error) => return self.error("board", &error),
        };
        // Twice: loads and events are differences.
        machine.sample(None);
        std::thread::sleep(Duration::from_millis(200));
        let telemetry = machine.sample(Some(&self.config.store.directory));
        let board = &machine.choice.board;
        self.ok("board", format!("{}: {}", board.title, machine.choice.why));
        if machine.found.jetpack().is_some_and(|major| major < 6) {
            self.bad(
                "board",
                "device.jetpack",
                format!("{} is JetPack 5 or older", machine.found.release.as_deref().unwrap_or("the release")),
                "install JetPack 6 or 7: the program needs glibc 2.35",
            );
        }
        let wanted: Vec<&str> =
            board.accelerators.iter().filter(|a| a.kind == "gpu").map(|a| a.name.as_str()).collect();
        let there: Vec<&str> = telemetry.gpus.iter().map(|g| g.name.as_str()).collect();
        match (wanted.is_empty(), there.is_empty()) {
            (false, true) => self.warn(
                "accelerator",
                "device.no-gpu",
                format!("the board has a GPU ({}), and neither sysfs nor NVML shows it", wanted.join(", ")),
                "check the driver; the engine of this version runs on the CPU, results are the same",
            ),
            (_, false) => self.ok("accelerator", format!("{}; the engine runs on the CPU", there.join(", "))),
            (true, true) => self.ok("accelerator", "none, and none is wanted: the engine runs on the CPU"),
        }
        let limits = machine.limits(u64::from(self.config.dicom.free_mb_min) << 21);
        let inputs = machine.inputs(&telemetry);
        let hottest = telemetry.hottest(board.thermal.zone.as_deref());
        match (&hottest, holding(&limits, &inputs, Condition::TooHot)) {
            (Some((zone, c)), false) => self.ok("heat", format!("{zone} {c:.1} °C, too hot from {} °C", limits.hot_c)),
            (Some((zone, c)), true) => {
                self.condition(
                    "heat",
                    Condition::TooHot,
                    format!("{zone} {c:.1} °C, too hot from {} °C", limits.hot_c),
                );
            }
            (None, _) => self.ok("heat", "no temperature can be read on this machine"),
        }
        self.slowed(&telemetry);
        if holding(&limits, &inputs, Condition::MemoryLow) {
            let mib = inputs.memory_available_bytes.unwrap_or(0) >> 20;
            self.condition("memory", Condition::MemoryLow, format!("{mib} MiB of memory are available"));
        } else if let Some(bytes) = inputs.memory_available_bytes {
            self.ok("memory", format!("{} MiB available", bytes >> 20));
        }
        if let Some(version) = machine.driver() {
            self.ok("accelerator", format!("NVIDIA driver {version}"));
        }
    }

    fn slowed(&mut self, telemetry: &Telemetry) {
        if telemetry.throttled.is_empty() {
            return self.ok("throttling", "nothing is slowed down");
        }
        let named = telemetry.throttled.iter().map(|r| format!("{} ({})", r.value, r.source));
        let named = named.collect::<Vec<_>>().join(", ");
        self.condition("throttling", Condition::Throttled, format!("slowed down: {named}"));
    }

    fn condition(&mut self, area: &'static str, condition: Condition, what: String) {
        self.warn(area, condition.code(true), what, condition.advice());
    }

    fn disk(&mut self) {
        // Before the first start, the disk that the folder will be on.
        let wanted = &self.config.store.directory;
        let directory = wanted.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/")).to_path_buf();
        let stat = match rustix::fs::statvfs(&directory) {
            Ok(stat) => stat,
            Err(error) => {
                let what = format!("{} cannot be measured: {error}", directory.display());
                return self.bad("disk", "disk.unreadable", what, "check the mount and its disk");
            }
        };
        let (free, size) =
            (stat.f_bavail.saturating_mul(stat.f_frsize) >> 20, stat.f_blocks.saturating_mul(stat.f_frsize) >> 20);
        let limit = u64::from(self.config.dicom.free_mb_min);
        let what = format!("{free} MiB of {size} MiB free for {}", directory.display());
        if free < limit {
            let advice = format!("below {limit} MiB no series are taken: {}", Condition::DiskLow.advice());
            self.bad("disk", "disk.full", what, advice);
        } else if free < 2 * limit || free < size / 20 {
            self.condition("disk", Condition::DiskLow, what);
        } else {
            self.ok("disk", what);
        }
        if 0 < stat.f_files && stat.f_favail < stat.f_files / 50 {
            let what = format!("{} of {} inodes free", stat.f_favail, stat.f_files);
            self.bad("disk", "disk.inodes", what, "purge old studies: each slice is a file");
        }
        if directory != *wanted {
            return;
        }
        match write_speed(&directory) {
            Ok((mb_per_s, sync_ms)) => {
                let what = format!("writes {mb_per_s:.0} MB/s, a small synced write takes {sync_ms:.1} ms");
                if mb_per_s < DISK_SLOW_MB_PER_S {
                    self.warn("disk", "disk.slow", what, "check the disk's health (smartctl), or use a faster one");
                } else {
                    self.ok("disk", what);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                let what = format!("nothing can be written to {} by this user", directory.display());
                self.warn("disk", "disk.not-tried", what, "run the doctor as root or as the service's user");
            }
            Err(error) => self.bad(
                "disk",
                "disk.not-writable",
                format!("{} cannot be written to: {error}", directory.display()),
                "check that its file system is mounted read-write and healthy",
            ),
        }
    }

    fn ports(&mut self, running: bool) {
        let mut wanted = Vec::new();
        let dicom = &self.config.dicom;
        if !dicom.tls.as_ref().is_some_and(|tls| tls.only) {
            wanted.push(("DICOM", dicom.listen));
        }
        wanted.extend(dicom.tls.as_ref().and_then(|tls| tls.listen).map(|a| ("DICOM with TLS", a)));
        wanted.extend(self.config.console.as_ref().map(|c| ("the console", c.listen)));
        wanted.extend(self.config.metrics.as_ref().map(|m| ("the metrics", m.listen)));
        if self.config.alert.broker.is_none() && self.config.alert.embedded_port != 0 {
            wanted.push(("the box's own broker", ([127, 0, 0, 1], self.config.alert.embedded_port).into()));
        }
        for (what, address) in wanted {
            let user = ports::user(address);
            match (ports::is_free(address), running) {
                (true, false) => self.ok("ports", format!("{what}: {address} is free")),
                (true, true) => self.bad(
                    "ports",
                    "port.not-open",
                    format!("{what}: the service runs, but nothing listens on {address}"),
                    "restart the service; was the configuration changed since its start?",
                ),
                (false, true) if user.as_deref().is_none_or(|u| u.starts_with("metwatch ")) => {
                    let by = user.map_or(String::new(), |u| format!(" by {u}"));
                    self.ok("ports", format!("{what}: {address} is open{by}"));
                }
                (false, _) => self.bad(
                    "ports",
                    "service.port-in-use",
                    format!("{what}: {address} is in use by {}", user.as_deref().unwrap_or("another program")),
                    "stop that program, or choose another address in the configuration",
                ),
            }
        }
        if dicom.allow.is_empty() {
            self.bad(
                "ports",
                "config.nobody-may-send",
                "nobody may send: dicom.allow is empty",
                "name the scanner's AE title in dicom.allow",
            );
        }
    }

    fn broker(&mut self) {
        let Some(broker) = &self.config.alert.broker else {
            return self.ok("broker", "the box runs its own, on loopback");
        };
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        let secure = if self.config.alert.tls.is_some() { ", with TLS" } else { "" };
        match runtime.block_on(alert::probe(&self.config.alert, BROKER_WITHIN)) {
            Ok(()) => self.ok("broker", format!("{broker} takes the box's login{secure}")),
            Err(error) => self.error("broker", &error),
        }
    }

    fn certificates(&mut self) {
        let now_s = now_ms() / 1000;
        for used in certificate::in_use(self.config) {
            let named = format!("{} certificate {}", used.purpose, used.path.display());
            let Some(ends_s) = used.ends_s else {
                let advice = "name a PEM file that the service's user can read";
                self.bad("certificates", "certificate.unreadable", format!("{named} cannot be read"), advice);
                continue;
            };
            let what = format!("{named} ends {}", rfc3339(ends_s * 1000));
            let days = (ends_s - now_s).div_euclid(86_400);
            if ends_s <= now_s {
                self.bad("certificates", "certificate.ended", what, "replace it now: connections are refused");
            } else if ends_s - now_s <= CERTIFICATE_WARN_S {
                let advice = format!("replace it within {days} days");
                self.warn("certificates", "certificate.ends-soon", what, advice);
            } else {
                self.ok("certificates", format!("{what}, in {days} days"));
            }
        }
    }

    /// Files that nobody but their owner may read, and the store's folder.
    fn secrets(&mut self) {
        let (dicom, mqtt) = (self.config.dicom.tls.as_ref(), &self.config.alert);
        let files: [Option<&PathBuf>; 4] = [
            dicom.and_then(|tls| tls.key_file.as_ref()),
            mqtt.tls.as_ref().and_then(|tls| tls.client_key_file.as_ref()),
            mqtt.password_file.as_ref(),
            self.config.console.as_ref().and_then(|c| c.users_file.as_ref()),
        ];
        for path in files.into_iter().flatten() {
            let mode = std::fs::metadata(path).map(|m| m.permissions().mode() & 0o777);
            match mode {
                Ok(mode) if mode & 0o077 == 0 => self.ok("secrets", format!("{} has mode {mode:03o}", path.display())),
                Ok(mode) => self.bad(
                    "secrets",
                    "secret.open",
                    format!("{} may be read by others (mode {mode:03o})", path.display()),
                    format!("chmod 600 {}, owned by the service's user", path.display()),
                ),
                Err(error) => self.bad(
                    "secrets",
                    "secret.unreadable",
                    format!("{} cannot be read: {error}", path.display()),
                    "credentials of the unit exist only while it runs: compare LoadCredential= with the configuration",
                ),
            }
        }
        let directory = &self.config.store.directory;
        if let Ok(meta) = std::fs::metadata(directory)
            && meta.permissions().mode() & 0o007 != 0
        {
            let what = format!(
                "everybody may look into {} (mode {:03o})",
                directory.display(),
                meta.permissions().mode() & 0o777
            );
            self.bad("secrets", "store.open", what, format!("chmod 700 {}", directory.display()));
        }
        for error in [self.config.dicom.verify().err().map(|e| Box::new(e) as Box<dyn Explain>)]
            .into_iter()
            .chain([self
                .config
                .console
                .as_ref()
                .and_then(|c| console::Config::verify(c).err())
                .map(|e| Box::new(e) as _)])
            .flatten()
        {
            self.error("secrets", &*error);
        }
    }

    fn models(&mut self) {
        self.found("models", check::models(self.config));
    }

    /// The store as a whole where nobody uses it; what can be read beside the service where somebody does.
    fn store(&mut self, running: bool) {
        let directory = self.config.store.directory.clone();
        if !running {
            return match check::store(&directory) {
                Some(finding) => self.found("store", finding),
                None => self.ok("store", "none yet: it is made at the first start"),
            };
        }
        match store::read_status(&directory) {
            Ok(studies) => {
                self.ok(
                    "store",
                    format!("in use; {} studies (checked as a whole while the service is stopped)", studies.len()),
                );
            }
            Err(error) => self.error("store", &error),
        }
        let aside = std::fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok);
        let aside = aside.filter(|e| e.file_name().to_string_lossy().starts_with("store.broken-")).count();
        if 0 < aside {
            let what = format!("{aside} damaged stores were moved aside in {}", directory.display());
            self.warn(
                "store",
                "store.moved-aside",
                what,
                "check the disk; keep the folders until it is clear what is missing",
            );
        }
    }

    fn outbox(&mut self, running: Option<&Option<HealthV1>>) {
        let directory = &self.config.store.directory;
        if let Ok(outbox) = store::read_outbox(directory) {
            let parked = outbox.messages.iter().filter(|m| matches!(m.state, OutboxState::Parked { .. })).count();
            if 0 < parked {
                let advice = "metwatch outbox list names each reason; metwatch outbox retry sends them again";
                self.warn("outbox", "outbox.parked", format!("{parked} objects wait for a person"), advice);
            } else {
                self.ok("outbox", format!("{} objects on their way over DICOM, none parked", outbox.messages.len()));
            }
        }
        let Some(Some(said)) = running else { return };
        match said.work.alert_oldest_s {
            Some(age) if ALERT_STUCK_S <= age => self.bad(
                "outbox",
                "alert.stuck",
                format!("{} alerts have no acknowledgement, the oldest since {age} s", said.work.alerts_open),
                "tell the ward by telephone; check that a station listens (metwatch station)",
            ),
            Some(age) => self.warn(
                "outbox",
                "alert.waiting",
                format!("{} alerts wait for a station, the oldest since {age} s", said.work.alerts_open),
                "none yet: it is repeated and escalated by itself",
            ),
            None => self.ok("outbox", "every alert was acknowledged"),
        }
        if !said.work.broker_connected {
            let advice = "see broker above; alerts wait in the outbox";
            self.bad("outbox", "alert.disconnected", "the service has no connection to the broker", advice);
        }
    }

    fn libraries(&mut self) {
        self.ok("versions", format!("metwatch {}, {}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH));
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_else(|_| "unknown".into());
        let glibc = run("getconf", &["GNU_LIBC_VERSION"]);
        let what = format!("kernel {}, {}", kernel.trim(), glibc.as_deref().unwrap_or("glibc of unknown version"));
        match glibc.as_deref().and_then(glibc_version) {
            Some(version) if version < GLIBC_MIN => {
                self.bad("versions", "versions.glibc", what, "use Debian 12, Ubuntu 22.04, JetPack 6 or later");
            }
            _ => self.ok("versions", what),
        }
    }
}

/// Whether a condition would be raised if this look lasted.
fn holding(limits: &policy::Limits, inputs: &policy::Inputs, condition: Condition) -> bool {
    let mut state = policy::State::default();
    let mut plan = Plan::default();
    for _ in 0..policy::RAISE_AFTER {
        (state, plan) = policy::plan(limits, inputs, &state);
    }
    plan.active.contains(&condition)
}

/// An error with its causes.
fn sentence(error: &dyn Explain) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// Age of a stamp, s; negative for one of the future.
fn age_s(rfc3339: &str) -> Option<i64> {
    let at = chrono::DateTime::parse_from_rfc3339(rfc3339).ok()?;
    Some((now_ms() - at.timestamp_millis()) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_may_be_of_the_future() {
        assert!((9..12).contains(&age_s(&rfc3339(now_ms() - 10_000)).unwrap()));
        assert!(age_s(&rfc3339(now_ms() + 100_000)).unwrap() < -90);
        assert_eq!(age_s("yesterday"), None);
    }
}
