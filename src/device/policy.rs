//! What heat, throttling and want of room mean for the work: decisions only, performed by `service`.
//!
//! A condition is raised when it held in [`RAISE_AFTER`] looks in a row and cleared when it was over, by a margin, in
//! [`CLEAR_AFTER`]: one hot moment is no news, and a value at the limit does not make a row of events. A value that cannot be read
//! changes nothing.

/// Looks in a row that raise a condition.
pub const RAISE_AFTER: u32 = 2;
/// Looks in a row that clear it.
pub const CLEAR_AFTER: u32 = 3;
/// Memory that a study of 1,000 slices takes on top of a running service (measured: 616 MiB peak for 300 slices, 2026-11-25).
pub const MEMORY_LOW_BYTES: u64 = 512 << 20;

/// What the policy looks at.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Inputs {
    /// The temperature that counts.
    pub hottest_c: Option<f64>,
    /// Whether something is slowed down; `None` where the machine does not tell.
    pub throttled: Option<bool>,
    /// Room for the store.
    pub disk_free_bytes: Option<u64>,
    /// Memory that can be had.
    pub memory_available_bytes: Option<u64>,
}

/// Where conditions begin and end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Too hot from here on.
    pub hot_c: f64,
    /// Cool again below this.
    pub cool_c: f64,
    /// Too little room for the store; twice as much is enough again.
    pub disk_low_bytes: u64,
    /// Too little memory; twice as much is enough again.
    pub memory_low_bytes: u64,
    /// Threads of a study when all is well.
    pub threads: usize,
}

/// What may be wrong with the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// The temperature that counts is above the board's limit.
    TooHot,
    /// The machine slows itself down.
    Throttled,
    /// The store's disk is nearly full.
    DiskLow,
    /// A large study may not fit into memory.
    MemoryLow,
}

impl Condition {
    /// All of them, in the order of [`State`].
    pub const ALL: [Condition; 4] = [Condition::TooHot, Condition::Throttled, Condition::DiskLow, Condition::MemoryLow];

    /// Code of the event that raises or clears it.
    pub fn code(self, raised: bool) -> &'static str {
        match (self, raised) {
            (Self::TooHot, true) => "device.too-hot",
            (Self::TooHot, false) => "device.cooled",
            (Self::Throttled, true) => "device.throttled",
            (Self::Throttled, false) => "device.unthrottled",
            (Self::DiskLow, true) => "device.disk-low",
            (Self::DiskLow, false) => "device.disk-freed",
            (Self::MemoryLow, true) => "device.memory-low",
            (Self::MemoryLow, false) => "device.memory-freed",
        }
    }

    /// For people, without figures.
    pub fn sentence(self, raised: bool) -> &'static str {
        match (self, raised) {
            (Self::TooHot, true) => "the box is too hot: studies take half the processors, self-tests and updates wait",
            (Self::TooHot, false) => "the box has cooled down: full speed again",
            (Self::Throttled, true) => {
                "the box slows itself down: studies take half the processors, self-tests and updates wait"
            }
            (Self::Throttled, false) => "the box no longer slows itself down: full speed again",
            (Self::DiskLow, true) => "the disk of the store is nearly full: soon no more series are taken",
            (Self::DiskLow, false) => "there is room on the disk of the store again",
            (Self::MemoryLow, true) => "memory is short: studies take half the processors, self-tests and updates wait",
            (Self::MemoryLow, false) => "there is enough memory again",
        }
    }

    /// What to do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::TooHot => "check fan, dust and the air around the box",
            Self::Throttled => "check cooling, power supply and power mode: `metwatch doctor` names what slows it down",
            Self::DiskLow => "export and purge old studies, or move the store to a larger disk",
            Self::MemoryLow => "end other programs on the box, or use a board with more memory",
        }
    }
}

/// What was seen so far; [`Default`] for a fresh start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State([Track; 4]);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Track {
    active: bool,
    /// Looks in a row that speak for a change.
    streak: u32,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Studies computed at once. One always: a study uses all processors, and a second one would only make both late.
    pub studies_at_once: usize,
    /// Threads of a study; fewer make less heat. Results do not depend on it.
    pub threads: usize,
    /// Self-tests and updates wait.
    pub postpone: bool,
    /// What holds now.
    pub active: Vec<Condition>,
    /// What began (`true`) or ended with this look, to be told once.
    pub changes: Vec<(Condition, bool)>,
}

/// Decides from one look and what was seen before.
pub fn plan(limits: &Limits, now: &Inputs, before: &State) -> (State, Plan) {
    let mut state = *before;
    let mut changes = Vec::new();
    for (track, condition) in state.0.iter_mut().zip(Condition::ALL) {
        if let Some(raised) = track.see(judge(condition, limits, now)) {
            changes.push((condition, raised));
        }
    }
    let active: Vec<Condition> =
        Condition::ALL.into_iter().zip(state.0).filter(|(_, t)| t.active).map(|(c, _)| c).collect();
    let slow = active.iter().any(|c| *c != Condition::DiskLow);
    let threads = if slow { (limits.threads / 2).max(1) } else { limits.threads.max(1) };
    (state, Plan { studies_at_once: 1, threads, postpone: !active.is_empty(), active, changes })
}

/// What a look says about a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It holds.
    Holds,
    /// It is over.
    Over,
    /// Between the two limits, or nothing could be read.
    Neither,
}

fn judge(condition: Condition, limits: &Limits, now: &Inputs) -> Verdict {
    let room = |free: Option<u64>, low: u64| match free {
        Some(free) if free < low => Verdict::Holds,
        Some(free) if free >= low.saturating_mul(2) => Verdict::Over,
        _ => Verdict::Neither,
    };
    match condition {
        Condition::TooHot => match now.hottest_c {
            Some(c) if c >= limits.hot_c => Verdict::Holds,
            Some(c) if c < limits.cool_c => Verdict::Over,
            _ => Verdict::Neither,
        },
        Condition::Throttled => match now.throttled {
            Some(true) => Verdict::Holds,
            Some(false) => Verdict::Over,
            None => Verdict::Neither,
        },
        Condition::DiskLow => room(now.disk_free_bytes, limits.disk_low_bytes),
        Condition::MemoryLow => room(now.memory_available_bytes, limits.memory_low_bytes),
    }
}

impl Track {
    /// Counts a verdict; the new state where it changed.
    fn see(&mut self, verdict: Verdict) -> Option<bool> {
        let (against, needed) = if self.active { (Verdict::Over, CLEAR_AFTER) } else { (Verdict::Holds, RAISE_AFTER) };
        self.streak = if verdict == against { self.streak + 1 } else { 0 };
        (self.streak >= needed).then(|| {
            *self = Track { active: !self.active, streak: 0 };
            self.active
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { hot_c: 92.0, cool_c: 82.0, disk_low_bytes: 1000, memory_low_bytes: 100, threads: 8 };
    const WELL: Inputs = Inputs {
        hottest_c: Some(50.0),
        throttled: Some(false),
        disk_free_bytes: Some(5000),
        memory_available_bytes: Some(900),
    };

    /// Feeds looks; what began and ended, each with the number of its look from 1, and the last plan.
    fn run(looks: &[Inputs]) -> (Vec<(usize, Condition, bool)>, Plan) {
        let (mut state, mut last, mut told) = (State::default(), Plan::default(), Vec::new());
        for (k, look) in looks.iter().enumerate() {
            (state, last) = plan(&LIMITS, look, &state);
            told.extend(last.changes.iter().map(|(c, r)| (k + 1, *c, *r)));
        }
        (told, last)
    }

    fn at(celsius: &[f64]) -> Vec<Inputs> {
        celsius.iter().map(|c| Inputs { hottest_c: Some(*c), ..WELL }).collect()
    }

    #[test]
    fn a_table_of_temperatures() {
        use Condition::TooHot;
        type Told = (usize, Condition, bool);
        let cases: [(&str, &[f64], &[Told]); 7] = [
            ("well", &[50.0, 60.0, 91.9, 91.9], &[]),
            ("one hot moment is no news", &[95.0, 91.0, 95.0, 91.0], &[]),
            ("two in a row are; the limit itself counts", &[92.0, 92.0, 92.0], &[(2, TooHot, true)]),
            ("between the limits it stays", &[95.0, 95.0, 85.0, 85.0, 85.0, 85.0], &[(2, TooHot, true)]),
            ("cool is below the lower limit", &[95.0, 95.0, 82.0, 82.0, 82.0], &[(2, TooHot, true)]),
            ("three cool looks clear it", &[95.0, 95.0, 80.0, 80.0, 80.0], &[(2, TooHot, true), (5, TooHot, false)]),
            (
                "a warm look between begins the count again",
                &[95.0, 95.0, 80.0, 80.0, 83.0, 80.0, 80.0],
                &[(2, TooHot, true)],
            ),
        ];
        for (what, celsius, expected) in cases {
            assert_eq!(run(&at(celsius)).0, expected, "{what}");
        }
    }

    #[test]
    fn what_a_condition_changes() {
        let twice = |look: Inputs| run(&[look, look]).1;
        let well = twice(WELL);
        assert_eq!((well.studies_at_once, well.threads, well.postpone, well.active), (1, 8, false, vec![]));
        let hot = twice(Inputs { hottest_c: Some(100.0), ..WELL });
        assert_eq!((hot.studies_at_once, hot.threads, hot.postpone), (1, 4, true));
        let slow = twice(Inputs { throttled: Some(true), ..WELL });
        assert_eq!((slow.threads, slow.postpone, slow.active), (4, true, vec![Condition::Throttled]));
        let short = twice(Inputs { memory_available_bytes: Some(99), ..WELL });
        assert_eq!((short.threads, short.postpone), (4, true));
        // A full disk is not cured by going slowly.
        let full = twice(Inputs { disk_free_bytes: Some(0), ..WELL });
        assert_eq!((full.threads, full.postpone, full.active), (8, true, vec![Condition::DiskLow]));
    }

    #[test]
    fn zero_is_a_value_and_absence_is_none() {
        let nothing = Inputs::default();
        assert_eq!(run(&[nothing; 9]).0, []);
        // A sensor that goes away while the box is hot does not make it cool.
        let hot = Inputs { hottest_c: Some(99.0), ..WELL };
        let gone = Inputs { hottest_c: None, ..WELL };
        let (told, last) = run(&[hot, hot, gone, gone, gone, gone]);
        assert_eq!((told.len(), last.active), (1, vec![Condition::TooHot]));
        let freezing = Inputs { hottest_c: Some(0.0), ..WELL };
        assert_eq!(run(&[hot, hot, freezing, freezing, freezing]).0.len(), 2);
    }

    #[test]
    fn room_is_enough_again_when_twice_the_limit_is_free() {
        let free = |bytes: u64| Inputs { disk_free_bytes: Some(bytes), ..WELL };
        let (told, _) =
            run(&[free(999), free(999), free(1999), free(1999), free(1999), free(2000), free(2000), free(2000)]);
        assert_eq!(told, [(2, Condition::DiskLow, true), (8, Condition::DiskLow, false)]);
    }

    #[test]
    fn codes_are_distinct() {
        let all = Condition::ALL.into_iter().flat_map(|c| [c.code(true), c.code(false)]);
        assert_eq!(all.collect::<std::collections::BTreeSet<_>>().len(), 8);
    }
}
