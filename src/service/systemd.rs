//! What the service tells systemd (sd_notify(3)); outside systemd there is nobody to tell.

use sd_notify::NotifyState;
use std::time::Duration;

/// A step of the start begins and may take this long: sent as each one begins, so that a start which makes progress is never
/// killed by `TimeoutStartSec=`, and one which hangs is.
pub fn starting(what: &str, within: Duration) {
    let micros = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Status(&format!("starting: {what}")), NotifyState::ExtendTimeoutUsec(micros)]);
}

/// The service is at work.
pub fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("at work")]);
}

/// Every part made progress.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// The service ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
