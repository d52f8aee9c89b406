//! `metwatch serve`: the service in the foreground, as systemd runs it.

use super::Failure;
use crate::service::{Config, Service};
use sd_notify::NotifyState;
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
    eprintln!(
        "metwatch: DICOM on {}, alerts through {}{console} ({})",
        service.dicom,
        service.broker,
        crate::DISCLAIMER
    );
    notify(&[NotifyState::Ready]);
    super::wait_for_stop(
        || {
            if service.is_alive() {
                notify(&[NotifyState::Watchdog]);
            }
        },
        Duration::from_secs(10),
    );
    notify(&[NotifyState::Stopping]);
    service.stop();
    Ok(())
}

/// Outside systemd there is nobody to tell.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
