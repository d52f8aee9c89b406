//! The box's health: looks at the machine, lets the policy decide, tells what changed, and hands the picture on to MQTT, `/metrics`,
//! the console and (as `health.json` in the store's folder) to `doctor` and whoever else looks from outside.

use super::analysis::Models;
use super::certificate::{self, InUse};
use super::counters::Counters;
use super::events::{self, Told};
use super::metrics;
use super::pulse::Pulse;
use crate::alert::payload::{
    EventKind, GpuV1, HEALTH_SCHEMA, HealthV1, MachineV1, PackagesV1, PolicyV1, RailV1, ReadingV1, WorkV1, ZoneV1,
    rfc3339,
};
use crate::device::policy::{self, Condition, Plan};
use crate::device::{Machine, Reading, Telemetry, Zone};
use crate::store::{OutboxKind, OutboxState, StateV1, Store, StoreError};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Name of the file in the store's folder.
const FILE: &str = "health.json";
/// A line of the log this often while nothing changes.
const LOG_EVERY: Duration = Duration::from_secs(1800);
/// The store's files are measured and certificates read this often.
const SLOW_EVERY: Duration = Duration::from_secs(300);
/// What the service said longer ago is no reason to wait.
const POSTPONED_MS_MAX: i64 = 2 * 3_600_000;
/// The thread looks this often whether it shall stop.
const TICK: Duration = Duration::from_millis(100);

/// What others see of the health; shared by the parts of the service.
pub struct Shared {
    /// Threads that the policy leaves to a study.
    pub threads: AtomicUsize,
    /// Whether the alert session is connected.
    pub broker_connected: AtomicBool,
    /// Sentences on what is wrong now, for people.
    pub sentences: Mutex<Vec<String>>,
    /// The text of `/metrics`.
    pub metrics: Mutex<String>,
    /// What the worker counts.
    pub counters: Counters,
}

impl Shared {
    /// Before the first look.
    pub fn new() -> Shared {
        Shared {
            threads: AtomicUsize::new(usize::MAX),
            broker_connected: AtomicBool::new(false),
            sentences: Mutex::default(),
            metrics: Mutex::default(),
            counters: Counters::default(),
        }
    }
}

/// Looks at the machine until it is told to stop.
pub struct Watcher {
    /// The machine.
    pub machine: Machine,
    /// The store: its counts, and the disk that counts.
    pub store: Store,
    /// The packages that run now.
    pub running: Arc<Mutex<Arc<Models>>>,
    /// The configuration, for its certificates and limits.
    pub config: super::Config,
    /// What others see.
    pub shared: Arc<Shared>,
    /// The health message, for the alert session.
    pub publish: watch::Sender<String>,
    /// Its sign of life.
    pub pulse: Pulse,
}

/// What is measured seldom, for `/metrics`.
#[derive(Debug, Clone, Default)]
pub struct Slow {
    /// Files of the trees, and of the spool.
    pub store_bytes: [u64; 2],
    /// Certificates in use.
    pub certificates: Vec<InUse>,
}

impl Watcher {
    /// Looks every `device.sample_s` seconds until `stop` is set.
    pub fn run(mut self, stop: &AtomicBool) {
        let began = Instant::now();
        let (mut state, mut slow) = (policy::State::default(), Slow::default());
        let (mut log_due, mut slow_due, mut due) = (began, began, began);
        // Told well before objects are refused.
        let limits = self.machine.limits(u64::from(self.config.dicom.free_mb_min) << 21);
        while !stop.load(Ordering::Relaxed) {
            self.pulse.beat();
            if Instant::now() < due {
                std::thread::sleep(TICK);
                continue;
            }
            due = Instant::now() + Duration::from_secs(self.config.device.sample_s.into());
            if slow_due <= Instant::now() {
                slow = self.slow();
                slow_due = Instant::now() + SLOW_EVERY;
            }
            let telemetry = self.machine.sample(Some(self.store.directory()));
            let (next, plan) = policy::plan(&limits, &self.machine.inputs(&telemetry), &state);
            state = next;
            self.shared.threads.store(plan.threads, Ordering::Relaxed);
            self.tell(&plan, &telemetry);
            let work = match work(&self.store, self.shared.broker_connected.load(Ordering::Relaxed)) {
                Ok(work) => work,
                Err(error) => {
                    tracing::error!(%error, "the store could not be counted");
                    continue;
                }
            };
            let health = self.health(&telemetry, &plan, work, began.elapsed());
            if log_due <= Instant::now() || !plan.changes.is_empty() {
                log(&health);
                log_due = Instant::now() + LOG_EVERY;
            }
            self.hand_on(&health, &slow);
        }
    }

    fn slow(&self) -> Slow {
        let folder = self.store.directory();
        let trees = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        let trees = trees.filter(|e| e.file_name().to_string_lossy().starts_with("trees-"));
        Slow {
            store_bytes: [trees.map(|e| bytes_below(&e.path())).sum(), bytes_below(&folder.join("spool"))],
            certificates: certificate::in_use(&self.config),
        }
    }

    /// Tells what began or ended as an event, in the log and to the console.
    fn tell(&self, plan: &Plan, telemetry: &Telemetry) {
        for (condition, raised) in &plan.changes {
            let sentence = self.sentence(*condition, *raised, telemetry);
            let code = condition.code(*raised);
            if *raised {
                tracing::warn!(code, "{sentence}");
            } else {
                tracing::info!(code, "{sentence}");
            }
            let advice = if *raised { condition.advice() } else { "nothing: it is over" };
            let about = super::now_ms().to_string();
            let told =
                Told { kind: EventKind::Degraded, code, sentence: &sentence, advice, study: None, about: &about };
            events::tell(&self.store, &told);
        }
        let sentences = plan.active.iter().map(|c| format!("{}; {}", self.sentence(*c, true, telemetry), c.advice()));
        *self.shared.sentences.lock().unwrap_or_else(PoisonError::into_inner) = sentences.collect();
    }

    fn sentence(&self, condition: Condition, raised: bool, telemetry: &Telemetry) -> String {
        let thermal = &self.machine.choice.board.thermal;
        let figures = match condition {
            Condition::TooHot => telemetry.hottest(thermal.zone.as_deref()).map(|(zone, celsius)| {
                format!(
                    " ({zone} {celsius:.1} °C; too hot from {} °C, cool below {} °C)",
                    thermal.hot_c, thermal.cool_c
                )
            }),
            Condition::Throttled => {
                let names: Vec<&str> = telemetry.throttled.iter().map(|r| r.value.as_str()).collect();
                (!names.is_empty()).then(|| format!(" ({})", names.join(", ")))
            }
            Condition::DiskLow => telemetry.disk_free_bytes.as_ref().map(|r| format!(" ({} MiB free)", r.value >> 20)),
            Condition::MemoryLow => {
                telemetry.memory_available_bytes.as_ref().map(|r| format!(" ({} MiB available)", r.value >> 20))
            }
        };
        format!("{}{}", condition.sentence(raised), figures.unwrap_or_default())
    }

    fn health(&self, telemetry: &Telemetry, plan: &Plan, work: WorkV1, running: Duration) -> HealthV1 {
        let models = self.running.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let package = models.segmenter.package();
        HealthV1 {
            schema: HEALTH_SCHEMA.into(),
            issued_at: rfc3339(super::now_ms()),
            version: env!("CARGO_PKG_VERSION").into(),
            running_s: running.as_secs(),
            machine: machine(&self.machine, telemetry),
            policy: PolicyV1 {
                studies_at_once: plan.studies_at_once,
                threads: plan.threads,
                postponed: plan.postpone,
                conditions: plan.active.iter().map(|c| c.code(true).into()).collect(),
            },
            work,
            packages: PackagesV1 {
                segmenter: format!("{} {}", package.id, package.version),
                nomogram: format!("{} {}", models.nomogram.id, models.nomogram.version),
            },
        }
    }

    fn hand_on(&self, health: &HealthV1, slow: &Slow) {
        let text = metrics::render(health, &self.shared.counters.now(), slow);
        *self.shared.metrics.lock().unwrap_or_else(PoisonError::into_inner) = text;
        let json = serde_json::to_string(health).expect("a struct of plain values always serializes");
        let path = self.store.directory().join(FILE);
        let part = path.with_extension("json.part");
        if let Err(error) = std::fs::write(&part, &json).and_then(|()| std::fs::rename(&part, &path)) {
            tracing::warn!(%error, "health.json was not written");
        }
        // Nobody listens any more when the service stops.
        let _ = self.publish.send(json);
    }
}

/// The health that the running service wrote last; `None` where there is none or it is of another version.
pub fn read(store: &Path) -> Option<HealthV1> {
    serde_json::from_slice(&std::fs::read(store.join(FILE)).ok()?).ok()
}

/// Why self-tests and updates wait, as codes of conditions; `None` where they may run, or no service says anything. For commands
/// beside the running service.
pub fn postponed(store: &Path) -> Option<String> {
    let said = read(store)?;
    let at = chrono::DateTime::parse_from_rfc3339(&said.issued_at).ok()?;
    let fresh = super::now_ms() - at.timestamp_millis() < POSTPONED_MS_MAX;
    (fresh && said.policy.postponed).then(|| said.policy.conditions.join(", "))
}

fn log(health: &HealthV1) {
    let machine = &health.machine;
    tracing::info!(
        hottest_c = machine.hottest.as_ref().and_then(|z| z.celsius),
        power_w = machine.power_w.as_ref().map(|r| r.value),
        memory_available_mib = machine.memory_available_bytes.as_ref().map(|r| r.value >> 20),
        disk_free_mib = machine.disk_free_bytes.as_ref().map(|r| r.value >> 20),
        conditions = health.policy.conditions.join(" "),
        analysed = health.work.analysed,
        outbox = health.work.outbox_open,
        "health"
    );
}

/// Counts of the store.
pub fn work(store: &Store, broker_connected: bool) -> Result<WorkV1, StoreError> {
    let mut work = WorkV1 { broker_connected, ..WorkV1::default() };
    for study in store.studies()? {
        // Numbers are given in order and never again: the highest one is how many there were.
        let digits = study.number.trim_start_matches(|c: char| !c.is_ascii_digit());
        work.received = work.received.max(digits.parse().unwrap_or(0));
        *match study.state {
            StateV1::Receiving => &mut work.receiving,
            StateV1::Assembled | StateV1::Segmented | StateV1::Measured => &mut work.queued,
            StateV1::Scored | StateV1::Delivered => &mut work.analysed,
            StateV1::Rejected { .. } => &mut work.refused,
            StateV1::Failed { .. } => &mut work.failed,
        } += 1;
    }
    let now_ms = super::now_ms();
    for message in store.outbox_open()? {
        work.outbox_open += 1;
        work.outbox_parked += u64::from(matches!(message.state, OutboxState::Parked { .. }));
        if message.kind == OutboxKind::Alert {
            work.alerts_open += 1;
            let age_s = u64::try_from((now_ms - message.created_at_ms) / 1000).unwrap_or(0);
            work.alert_oldest_s = work.alert_oldest_s.max(Some(age_s));
        }
    }
    Ok(work)
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// What the machine measures, as it is sent.
pub fn machine(machine: &Machine, t: &Telemetry) -> MachineV1 {
    fn reading<T: Clone>(r: &Option<Reading<T>>) -> Option<ReadingV1<T>> {
        r.as_ref().map(|r| ReadingV1 { value: r.value.clone(), source: r.source.clone() })
    }
    let zone = |z: &Zone| ZoneV1 { name: z.name.clone(), celsius: z.celsius, source: z.source.clone() };
    let hottest = t.hottest(machine.choice.board.thermal.zone.as_deref()).map(|(name, celsius)| {
        let source = t.zones.iter().find(|z| z.name == name).map_or("nvml".into(), |z| z.source.clone());
        ZoneV1 { name, celsius: Some(celsius), source }
    });
    let gpus = t.gpus.iter().map(|g| GpuV1 {
        name: g.name.clone(),
        load: reading(&g.load),
        clock_hz: reading(&g.clock_hz),
        clock_max_hz: reading(&g.clock_max_hz),
        memory_total_bytes: reading(&g.memory_total_bytes),
        memory_used_bytes: reading(&g.memory_used_bytes),
        power_w: reading(&g.power_w),
        celsius: reading(&g.celsius),
    });
    MachineV1 {
        board: machine.choice.board.name.clone(),
        power_mode: reading(&t.power_mode),
        uptime_s: reading(&t.uptime_s),
        cpu_busy: reading(&t.cpu_busy),
        load_1min: reading(&t.load_1min),
        memory_total_bytes: reading(&t.memory_total_bytes),
        memory_available_bytes: reading(&t.memory_available_bytes),
        disk_total_bytes: reading(&t.disk_total_bytes),
        disk_free_bytes: reading(&t.disk_free_bytes),
        hottest,
        zones: t.zones.iter().map(zone).collect(),
        gpus: gpus.collect(),
        power_w: reading(&t.power_w),
        rails: t
            .rails
            .iter()
            .map(|r| RailV1 { name: r.name.clone(), watts: r.watts, source: r.source.clone() })
            .collect(),
        throttled: t.throttled.iter().map(|r| ReadingV1 { value: r.value.clone(), source: r.source.clone() }).collect(),
    }
}
