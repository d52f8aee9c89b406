//! `metwatch serve`: the service in the foreground, as systemd runs it.

use super::Failure;
use crate::service::{Config, Service, systemd};
use std::path::PathBuf;
use std::time::Duration;

/// Runs the service: receives DICOM, analyses, announces
#[derive(clap::Args)]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs until SIGTERM or Ctrl-C.
pub fn run(args: Args) -> Result<(), Failure> {
    super::log_to_stderr("info");
    let service = Service::start(Config::read(&args.config)?, super::decoder()?)?;
    let console = service.console.map_or(String::new(), |c| format!(", pages on http://{c}/"));
    let metrics = service.metrics.map_or(String::new(), |m| format!(", metrics on http://{m}/metrics"));
    eprintln!(
        "metwatch: DICOM on {}, alerts through {}{console}{metrics} ({})",
        service.dicom,
        service.broker,
        crate::DISCLAIMER
    );
    systemd::ready();
    super::wait_for_stop(
        || match service.silent() {
            None => systemd::alive(),
            Some(part) => tracing::error!(part, "a part of the service makes no progress: the watchdog is not fed"),
        },
        Duration::from_secs(10),
    );
    systemd::stopping();
    service.stop();
    Ok(())
}
