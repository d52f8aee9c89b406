//! What the service does next for a study: decisions only, performed elsewhere.

use std::time::Duration;

/// What is known about a study when the next step is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Situation {
    /// Where the study stands.
    pub stage: Stage,
    /// Time since its last object arrived (monotonic; starts again with the process).
    pub quiet: Duration,
    /// Whether an association that sent one of its objects is still open.
    pub sender_open: bool,
    /// Whether its slices leave a gap that a late slice could close.
    pub has_gap: bool,
    /// Whether other series of the same study are still arriving: the choice among them waits for all.
    pub siblings_arriving: bool,
    /// Whether all its outbox entries have ended.
    pub outbox_ended: bool,
    /// Whether clinical values arrived that its result does not contain.
    pub clinical_is_newer: bool,
}

/// The stages of a study's life (architecture.md), without their contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Objects are arriving.
    Receiving,
    /// A volume could be made.
    Assembled,
    /// Labels are stored.
    Segmented,
    /// Features are stored.
    Measured,
    /// The result is stored and its messages are in the outbox.
    Scored,
    /// Every message has ended.
    Delivered,
    /// Cannot be analysed.
    Rejected,
    /// Could not be analysed.
    Failed,
}

/// The next step of a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing to do now.
    Wait,
    /// Make the volume from what arrived.
    Assemble,
    /// Run the network.
    Segment,
    /// Compute the features.
    Measure,
    /// Compute the risk and announce it.
    Score,
    /// Record that everything was delivered.
    Close,
}

/// When a series counts as complete.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Patience {
    /// Quiet time after which a series without a gap is complete (T1).
    pub quiet: Duration,
    /// Quiet time after which a series is taken as it is (T2).
    pub incomplete: Duration,
}

/// Whether a series is complete, or has been waited for long enough. Both times are measured from the last object on, so a series
/// whose siblings arrive for ever is still waited for no longer than they are.
pub fn is_ready(quiet: Duration, sender_open: bool, has_gap: bool, patience: Patience) -> bool {
    let complete = quiet >= patience.quiet && !sender_open && !has_gap;
    complete || quiet >= patience.incomplete
}

/// Chooses the next step of a study.
pub fn next_step(now: &Situation, patience: Patience) -> Step {
    match now.stage {
        Stage::Receiving => {
            let ready = is_ready(now.quiet, now.sender_open, now.has_gap, patience);
            if ready && !now.siblings_arriving { Step::Assemble } else { Step::Wait }
        }
        Stage::Assembled => Step::Segment,
        Stage::Segmented => Step::Measure,
        Stage::Measured => Step::Score,
        // A late laboratory value makes a new revision of the risk from the stored features.
        Stage::Scored | Stage::Delivered if now.clinical_is_newer => Step::Score,
        Stage::Scored if now.outbox_ended => Step::Close,
        Stage::Scored | Stage::Delivered | Stage::Rejected | Stage::Failed => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { quiet: Duration::from_secs(10), incomplete: Duration::from_secs(120) };

    fn at(stage: Stage, quiet_s: u64) -> Situation {
        Situation {
            stage,
            quiet: Duration::from_secs(quiet_s),
            sender_open: false,
            has_gap: false,
            siblings_arriving: false,
            outbox_ended: false,
            clinical_is_newer: false,
        }
    }

    #[test]
    fn a_series_is_complete_when_quiet_closed_and_without_gap() {
        assert_eq!(next_step(&at(Stage::Receiving, 9), PATIENCE), Step::Wait);
        assert_eq!(next_step(&at(Stage::Receiving, 10), PATIENCE), Step::Assemble);
        let open = Situation { sender_open: true, ..at(Stage::Receiving, 60) };
        assert_eq!(next_step(&open, PATIENCE), Step::Wait);
        let gap = Situation { has_gap: true, ..at(Stage::Receiving, 60) };
        assert_eq!(next_step(&gap, PATIENCE), Step::Wait);
        assert_eq!(next_step(&Situation { quiet: Duration::from_secs(120), ..gap }, PATIENCE), Step::Assemble);
        let open = Situation { sender_open: true, ..at(Stage::Receiving, 120) };
        assert_eq!(next_step(&open, PATIENCE), Step::Assemble);
    }

    #[test]
    fn a_complete_series_waits_for_the_others_of_its_study() {
        let waiting = Situation { siblings_arriving: true, ..at(Stage::Receiving, 60) };
        assert_eq!(next_step(&waiting, PATIENCE), Step::Wait);
        assert_eq!(next_step(&Situation { siblings_arriving: false, ..waiting }, PATIENCE), Step::Assemble);
    }

    #[test]
    fn a_study_goes_on_from_where_it_stands() {
        assert_eq!(next_step(&at(Stage::Assembled, 0), PATIENCE), Step::Segment);
        assert_eq!(next_step(&at(Stage::Segmented, 0), PATIENCE), Step::Measure);
        assert_eq!(next_step(&at(Stage::Measured, 0), PATIENCE), Step::Score);
        assert_eq!(next_step(&at(Stage::Rejected, 0), PATIENCE), Step::Wait);
    }

    #[test]
    fn new_clinical_values_score_again_and_an_ended_outbox_closes() {
        let newer = Situation { clinical_is_newer: true, ..at(Stage::Delivered, 0) };
        assert_eq!(next_step(&newer, PATIENCE), Step::Score);
        assert_eq!(next_step(&at(Stage::Scored, 0), PATIENCE), Step::Wait);
        assert_eq!(next_step(&Situation { outbox_ended: true, ..at(Stage::Scored, 0) }, PATIENCE), Step::Close);
    }
}
