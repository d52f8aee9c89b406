//! `/metrics`: the health and the counts as Prometheus reads them. No patient data: studies are counts, names are of hardware.

use super::counters::{BOUNDS_S, Counts};
use super::exposition::Exposition;
use super::health::Slow;
use crate::alert::payload::{HealthV1, MachineV1, ReadingV1};
use crate::device::policy::Condition;

/// The whole text.
pub fn render(health: &HealthV1, counts: &Counts, slow: &Slow) -> String {
    let mut text = Exposition::default();
    let arch = std::env::consts::ARCH;
    text.gauge("metwatch_build_info", "Version of the program; always 1.")
        .labeled(&[("version", &health.version), ("architecture", arch)], 1);
    text.gauge("metwatch_board_info", "The board that counts; always 1.")
        .labeled(&[("board", &health.machine.board)], 1);
    let mut models = text.gauge("metwatch_model_info", "Model packages that compute; always 1.");
    for (kind, package) in [("segmenter", &health.packages.segmenter), ("nomogram", &health.packages.nomogram)] {
        let (id, version) = package.rsplit_once(' ').unwrap_or((package, ""));
        models.labeled(&[("kind", kind), ("id", id), ("version", version)], 1);
    }
    text.gauge("metwatch_running_seconds", "Since the service started.").value(health.running_s);
    let issued = chrono::DateTime::parse_from_rfc3339(&health.issued_at).ok();
    text.gauge("metwatch_sampled_timestamp_seconds", "When these values were read.")
        .maybe(issued.map(|t| t.timestamp()));
    studies(&mut text, health, counts);
    machine(&mut text, &health.machine);
    policy(&mut text, health);
    let mut store = text.gauge("metwatch_store_bytes", "Size of the store's files.");
    for (part, bytes) in ["trees", "spool"].iter().zip(slow.store_bytes) {
        store.labeled(&[("part", part)], bytes);
    }
    let mut ends = text.gauge("metwatch_certificate_expiry_timestamp_seconds", "When a certificate in use ends.");
    for certificate in &slow.certificates {
        let file = certificate.path.display().to_string();
        if let Some(at) = certificate.ends_s {
            ends.labeled(&[("purpose", certificate.purpose), ("file", &file)], at);
        }
    }
    text.finish()
}

fn studies(text: &mut Exposition, health: &HealthV1, counts: &Counts) {
    let work = &health.work;
    text.counter("metwatch_studies_received_total", "Series ever received by this store.").value(work.received);
    let mut ended = text.counter("metwatch_studies_ended_total", "Studies that came to an outcome since the start.");
    for (outcome, n) in [("analysed", counts.analysed), ("refused", counts.refused), ("failed", counts.failed)] {
        ended.labeled(&[("outcome", outcome)], n);
    }
    let mut now = text.gauge("metwatch_studies", "Studies in the store by where they stand.");
    let rows = [
        ("receiving", work.receiving),
        ("queued", work.queued),
        ("analysed", work.analysed),
        ("refused", work.refused),
        ("failed", work.failed),
    ];
    for (state, n) in rows {
        now.labeled(&[("state", state)], n);
    }
    text.gauge("metwatch_queue_studies", "Complete studies that wait for their result.").value(work.queued);
    text.histogram(
        "metwatch_analysis_seconds",
        "What the steps of an analysis took.",
        &BOUNDS_S,
        &counts.seconds,
        counts.seconds_sum,
    );
    text.gauge("metwatch_outbox_messages", "Messages without their receipt.").value(work.outbox_open);
    text.gauge("metwatch_outbox_parked_messages", "Messages that wait for a person.").value(work.outbox_parked);
    text.gauge("metwatch_alerts_unacknowledged", "Alerts that no station acknowledged.").value(work.alerts_open);
    text.gauge("metwatch_alert_oldest_age_seconds", "Age of the oldest of them; absent where there is none.")
        .maybe(work.alert_oldest_s);
    text.gauge("metwatch_broker_connected", "1 while the alert session is connected.")
        .value(u8::from(work.broker_connected));
}

fn machine(text: &mut Exposition, m: &MachineV1) {
    fn plain<T: Copy>(reading: &Option<ReadingV1<T>>) -> Option<T> {
        reading.as_ref().map(|r| r.value)
    }
    text.gauge("metwatch_uptime_seconds", "Since the machine started.").maybe(plain(&m.uptime_s));
    text.gauge("metwatch_cpu_busy_ratio", "Busy share of the processors, 0 to 1.").maybe(plain(&m.cpu_busy));
    text.gauge("metwatch_load1", "Runnable tasks, mean over a minute.").maybe(plain(&m.load_1min));
    text.gauge("metwatch_memory_size_bytes", "Physical memory.").maybe(plain(&m.memory_total_bytes));
    text.gauge("metwatch_memory_available_bytes", "Memory that can be had.").maybe(plain(&m.memory_available_bytes));
    text.gauge("metwatch_disk_size_bytes", "Size of the store's disk.").maybe(plain(&m.disk_total_bytes));
    text.gauge("metwatch_disk_free_bytes", "Room on the store's disk.").maybe(plain(&m.disk_free_bytes));
    text.gauge("metwatch_power_watts", "The whole module.").maybe(plain(&m.power_w));
    let mut rails = text.gauge("metwatch_rail_power_watts", "A power rail.");
    m.rails.iter().for_each(|r| rails.labeled(&[("rail", &r.name)], r.watts));
    let mut zones = text.gauge("metwatch_temperature_celsius", "A thermal zone; absent while it is powered down.");
    for zone in &m.zones {
        if let Some(celsius) = zone.celsius {
            // Two zones may have one name: the path tells them apart.
            zones.labeled(&[("zone", &zone.name), ("source", &zone.source)], celsius);
        }
    }
    text.gauge("metwatch_hottest_celsius", "The temperature that the policy follows.")
        .maybe(m.hottest.as_ref().and_then(|z| z.celsius));
    let gpus: Vec<(String, &_)> = m.gpus.iter().enumerate().map(|(k, g)| (k.to_string(), g)).collect();
    let mut family = |name, help, of: &dyn Fn(&crate::alert::payload::GpuV1) -> Option<f64>| {
        let mut family = text.gauge(name, help);
        for (index, gpu) in &gpus {
            if let Some(value) = of(gpu) {
                family.labeled(&[("gpu", index), ("name", &gpu.name)], value);
            }
        }
    };
    let whole = |r: &Option<ReadingV1<u64>>| plain(r).map(|v| v as f64);
    family("metwatch_gpu_load_ratio", "Busy share of a GPU, 0 to 1.", &|g| plain(&g.load));
    family("metwatch_gpu_clock_hertz", "Clock of a GPU.", &|g| whole(&g.clock_hz));
    family("metwatch_gpu_memory_used_bytes", "Memory of its own in use.", &|g| whole(&g.memory_used_bytes));
    family("metwatch_gpu_power_watts", "What a GPU draws.", &|g| plain(&g.power_w));
    family("metwatch_gpu_temperature_celsius", "Core of a GPU.", &|g| plain(&g.celsius));
    let modes = m.power_mode.iter();
    let mut info = text.gauge("metwatch_power_mode_info", "Name of the power mode; always 1.");
    modes.for_each(|mode| info.labeled(&[("mode", &mode.value)], 1));
}

fn policy(text: &mut Exposition, health: &HealthV1) {
    text.gauge("metwatch_study_threads", "Threads that a study may use.").value(health.policy.threads);
    text.gauge("metwatch_postponed", "1 while self-tests and updates wait.").value(u8::from(health.policy.postponed));
    text.gauge("metwatch_throttled", "Things that are slowed down now.").value(health.machine.throttled.len());
    let mut conditions = text.gauge("metwatch_condition", "1 while the condition holds.");
    for condition in Condition::ALL {
        let code = condition.code(true);
        let holds = health.policy.conditions.iter().any(|c| c == code);
        conditions.labeled(&[("condition", code)], u8::from(holds));
    }
}
