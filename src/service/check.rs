//! `metwatch check`: what is wrong before the service starts. Every finding is looked for; the first does not hide the rest.

use super::analysis::Models;
use super::{Config, now_ms};
use crate::update::{Kind, Slots};
use crate::{Explain, device, dicom, store};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

/// A clock before this is a board without battery that has not heard the time yet (2026-01-01).
const CLOCK_MS_MIN: i64 = 1_767_225_600_000;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at and what was found.
    pub what: String,
    /// `None` when all is well; else the code and what to do.
    pub trouble: Option<(&'static str, &'static str)>,
}

impl Finding {
    fn good(what: impl Into<String>) -> Finding {
        Finding { what: what.into(), trouble: None }
    }
    fn bad(what: impl Into<String>, code: &'static str, advice: &'static str) -> Finding {
        Finding { what: what.into(), trouble: Some((code, advice)) }
    }
    fn of(good: impl Into<String>, result: Result<(), &dyn Explain>) -> Finding {
        match result {
            Ok(()) => Finding::good(good),
            Err(e) => Finding::bad(e.to_string(), e.code(), e.advice()),
        }
    }
}

/// Looks at everything that a start needs.
pub fn check(config: &Config) -> Vec<Finding> {
    let mut findings = vec![Finding::good(format!("machine: {}", device::survey().summary())), clock(now_ms())];
    findings.push(match device::Machine::open(&config.device) {
        Ok(machine) => Finding::good(format!("board: {}, {}", machine.choice.board.title, machine.choice.why)),
        Err(e) => Finding::bad(e.to_string(), e.code(), e.advice()),
    });
    findings.push(models(config));
    if let Some(slots) = &config.models.slots {
        findings.push(folder("the folder of the model slots", slots));
    }
    findings.push(folder("the store's folder", &config.store.directory));
    findings.extend(store(&config.store.directory));
    if let Some(results) = &config.store.results_directory {
        findings.push(folder("the results folder", results));
    }
    let verified = config.dicom.verify();
    findings.push(Finding::of(
        "DICOM certificates, callers and destinations fit together",
        verified.as_ref().map_err(|e| e as &dyn Explain).map(|_| ()),
    ));
    if !config.dicom.tls.as_ref().is_some_and(|tls| tls.only) {
        findings.push(port("DICOM", config.dicom.listen));
    }
    if let Some(address) = config.dicom.tls.as_ref().and_then(|tls| tls.listen) {
        findings.push(port("DICOM with TLS", address));
    }
    if config.dicom.allow.is_empty() {
        findings.push(Finding::bad(
            "nobody may send: dicom.allow is empty",
            "config.nobody-may-send",
            "name the scanner's AE title in dicom.allow",
        ));
    }
    findings.extend(config.dicom.send.iter().map(|to| destination(config, to)));
    findings.push(match &config.alert.broker {
        Some(broker) => Finding::good(format!("alerts go to the broker {broker}")),
        None if config.alert.embedded_port == 0 => {
            Finding::good("alerts go to the box's own broker, on a free port of loopback")
        }
        None => port("the box's own broker", SocketAddr::from(([127, 0, 0, 1], config.alert.embedded_port))),
    });
    let verified = config.alert.verify();
    findings.push(Finding::of(
        "MQTT secrets and certificates are readable",
        verified.as_ref().map_err(|e| e as &dyn Explain).map(|_| ()),
    ));
    if let Some(console) = &config.console {
        findings.push(port("the console", console.listen));
        let verified = console.verify();
        findings.push(Finding::of(
            "the console's access rules hold",
            verified.as_ref().map_err(|e| e as &dyn Explain).map(|_| ()),
        ));
    }
    if let Some(metrics) = &config.metrics {
        findings.push(port("the metrics", metrics.listen));
    }
    if let Some(clinical) = &config.clinical {
        findings.push(folder("the clinical drop folder", &clinical.drop_directory));
    }
    findings
}

/// Whether the model packages can be used.
pub(super) fn models(config: &Config) -> Finding {
    match active_models(config) {
        Ok(m) => {
            let package = m.segmenter.package();
            Finding::good(format!(
                "models: {} {} and {} {}, hashes and golden vectors right ({})",
                package.id,
                package.version,
                m.nomogram.id,
                m.nomogram.version,
                crate::DISCLAIMER
            ))
        }
        // No reason not to start: the service leaves an active package that fails for the one before it, and tells it.
        Err(e) if config.models.slots.is_some() => Finding::good(format!(
            "an active package fails and will be left when the service starts: {e} ({})",
            e.code()
        )),
        Err(e) => Finding::bad(e.to_string(), e.code(), e.advice()),
    }
}

/// Whether a store that nobody uses is sound; `None` where there is no folder yet.
pub(super) fn store(directory: &Path) -> Option<Finding> {
    if !directory.exists() {
        return None;
    }
    Some(match store::Store::inspect(directory).and_then(|s| s.check()) {
        Ok(report) if report.is_sound() => Finding::good("the store is sound"),
        Ok(report) => Finding::bad(
            format!("the store is damaged: {report:?}"),
            "store.damaged",
            "keep a copy of the folder before the service starts",
        ),
        Err(e) if e.code() == "store.none" => Finding::good("the store will be made at the first start"),
        Err(e) => Finding::bad(e.to_string(), e.code(), e.advice()),
    })
}

/// The packages that would run, looked at without changing the slots.
pub(super) fn active_models(config: &Config) -> Result<Models, super::analysis::ModelsError> {
    let Some(directory) = &config.models.slots else {
        return Models::load(config.models.segmenter.as_deref(), config.models.nomogram.as_deref());
    };
    let slots = Slots::new(directory);
    let [segmenter, nomogram] = [Kind::Segmenter, Kind::Nomogram].map(|kind| slots.active_folder(kind));
    let [segmenter, nomogram] =
        [segmenter?.or(config.models.segmenter.clone()), nomogram?.or(config.models.nomogram.clone())];
    Models::load(segmenter.as_deref(), nomogram.as_deref())
}

pub(super) fn clock(now_ms: i64) -> Finding {
    if now_ms < CLOCK_MS_MIN {
        return Finding::bad(
            "the clock stands before 2026",
            "clock.wrong",
            "wait for time synchronization, or set the clock",
        );
    }
    Finding::good("the clock is plausible")
}

/// A folder that is missing is made and taken away again: made by an administrator, it would not belong to the service's user.
fn folder(what: &str, path: &Path) -> Finding {
    let missing: Vec<&Path> = path.ancestors().take_while(|p| !p.exists()).collect();
    let probe = path.join(".metwatch-check");
    let tried = std::fs::create_dir_all(path)
        .and_then(|()| std::fs::write(&probe, b""))
        .and_then(|()| std::fs::remove_file(&probe));
    // What was made is empty; somebody else's file in it keeps it.
    let _ = missing.iter().try_for_each(std::fs::remove_dir);
    match tried {
        Ok(()) => Finding::good(format!("{what} {} is writable", path.display())),
        Err(e) => Finding::bad(
            format!("{what} {} is not writable: {e}", path.display()),
            "folder.not-writable",
            "create it for the service's user, or name another",
        ),
    }
}

/// A destination that does not answer now is told, and no reason not to start: the outbox waits for it.
fn destination(config: &Config, to: &dicom::Destination) -> Finding {
    let target = super::delivery::target(&config.dicom, to);
    let answer = target.map_err(|e| e.to_string()).and_then(|t| dicom::echo(&t).map_err(|e| e.to_string()));
    match answer {
        Ok(time) => Finding::good(format!("{} answers C-ECHO in {} ms", to.ae_title, time.as_millis())),
        Err(why) => Finding::good(format!("{} does not answer C-ECHO now, results will wait: {why}", to.ae_title)),
    }
}

fn port(what: &str, address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::good(format!("{what} can listen on {address}")),
        Err(e) => Finding::bad(
            format!("{what} cannot listen on {address}: {e}"),
            "service.port-in-use",
            "stop the other program on that port, or choose another address in the configuration",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_without_battery_is_noticed() {
        assert_eq!(clock(0).trouble.map(|t| t.0), Some("clock.wrong"));
        assert_eq!(clock(CLOCK_MS_MIN).trouble, None);
    }

    #[test]
    fn a_port_in_use_is_noticed() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(port("DICOM", taken.local_addr().unwrap()).trouble.map(|t| t.0), Some("service.port-in-use"));
    }
}
