//! Signs of life: each part of the service marks its progress, and systemd's watchdog is fed only while none is overdue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The mark of one part. A clone is another handle to it.
#[derive(Debug, Clone)]
pub struct Pulse {
    part: &'static str,
    limit: Duration,
    began: Instant,
    last_ms: Arc<AtomicU64>,
}

impl Pulse {
    /// A part that may be silent for `limit` at most. It counts as alive from now on.
    pub fn new(part: &'static str, limit: Duration) -> Pulse {
        Pulse { part, limit, began: Instant::now(), last_ms: Arc::default() }
    }

    /// Marks progress.
    pub fn beat(&self) {
        self.last_ms.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// The part's name, if it made no progress for longer than its limit.
    pub fn overdue(&self) -> Option<&'static str> {
        let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        (self.limit < self.began.elapsed().saturating_sub(last)).then_some(self.part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_without_progress_is_named() {
        let pulse = Pulse::new("worker", Duration::from_millis(30));
        assert_eq!(pulse.overdue(), None);
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(pulse.overdue(), Some("worker"));
        pulse.clone().beat();
        assert_eq!(Pulse { limit: Duration::from_secs(60), ..pulse }.overdue(), None);
    }
}
