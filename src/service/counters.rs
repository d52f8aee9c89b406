//! What the worker counts since the process started, for `/metrics`.

use std::sync::{Mutex, PoisonError};

/// Upper bounds of the analysis histogram, s; the last bucket has none.
pub const BOUNDS_S: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// How studies ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With a result.
    Analysed,
    /// Refused by a rule or a gate.
    Refused,
    /// The box could not do its work.
    Failed,
}

/// The counts at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    /// With a result.
    pub analysed: u64,
    /// Refused.
    pub refused: u64,
    /// Failed.
    pub failed: u64,
    /// Analyses by their seconds: up to each of [`BOUNDS_S`], and above. Not cumulative.
    pub seconds: [u64; 11],
    /// All seconds together.
    pub seconds_sum: f64,
}

/// Counts that the worker adds to.
#[derive(Debug, Default)]
pub struct Counters(Mutex<Counts>);

impl Counters {
    /// A study ended. `seconds`: what its steps took, where a result was computed.
    pub fn ended(&self, outcome: Outcome, seconds: Option<f64>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Outcome::Analysed => counts.analysed += 1,
            Outcome::Refused => counts.refused += 1,
            Outcome::Failed => counts.failed += 1,
        }
        if let Some(seconds) = seconds {
            counts.seconds[BOUNDS_S.iter().take_while(|bound| **bound < seconds).count()] += 1;
            counts.seconds_sum += seconds;
        }
    }

    /// The counts now.
    pub fn now(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let counters = Counters::default();
        for seconds in [0.5, 1.0, 1.5, 600.0, 601.0] {
            counters.ended(Outcome::Analysed, Some(seconds));
        }
        counters.ended(Outcome::Failed, None);
        let counts = counters.now();
        assert_eq!(counts.seconds, [2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((counts.analysed, counts.refused, counts.failed), (5, 0, 1));
        assert_eq!(counts.seconds_sum, 1204.0);
    }
}
