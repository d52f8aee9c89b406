//! The eleven series rules (dicom.md section 3) as people read them: each with its outcome for one series, and the verdict.

use super::series::plan_by;
use super::{Header, Note, SeriesError, SeriesPlan, SeriesRules};
use crate::Explain;

/// What the rules say of one series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Fit for analysis, nothing to remark.
    Accept,
    /// Fit for analysis, with remarks that go into the result.
    Note,
    /// Not analyzed.
    Reject,
}

impl Verdict {
    /// In capital letters, as people are told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accept => "ACCEPT",
            Self::Note => "NOTE",
            Self::Reject => "REJECT",
        }
    }
}

/// How one rule ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleState {
    /// Nothing to remark.
    Met,
    /// Met with a remark.
    Noted,
    /// Broken: the reason of a REJECT.
    Broken,
    /// Another rule ended the series before.
    NotReached,
}

impl RuleState {
    /// One or two words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Met => "ok",
            Self::Noted => "note",
            Self::Broken => "broken",
            Self::NotReached => "not reached",
        }
    }
}

/// One of the eleven rules and how it ended for a series.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleOutcome {
    /// The rule.
    pub rule: &'static Rule,
    /// How it ended.
    pub state: RuleState,
    /// What was found, if anything.
    pub findings: Vec<Note>,
}

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// 1 to 11, as in the documentation.
    pub number: u8,
    /// Stable code.
    pub code: &'static str,
    /// What it asks for, one sentence.
    pub asks: &'static str,
    /// Codes of the findings that belong to it.
    pub findings: &'static [&'static str],
}

/// The rules, by number.
pub const RULES: [Rule; 11] = [
    Rule {
        number: 1,
        code: "rule.one-stack",
        asks: "the series holds one stack of slices: one size, orientation, kernel, acquisition and phase",
        findings: &[
            "series.several-stacks",
            "series.stacks-left-out",
            "series.mixed-kernels",
            "series.mixed-kvp",
            "series.no-frame-of-reference",
            "series.no-uids",
        ],
    },
    Rule {
        number: 2,
        code: "rule.ct-slices",
        asks: "the images are slices of a CT, not scouts, reformats or screen saves, and were compressed without loss if at all",
        findings: &[
            "series.empty",
            "series.not-ct",
            "series.localizer",
            "series.derived",
            "series.derived-images",
            "series.no-geometry",
            "series.pixel-format",
            "series.lossy",
            "series.codec",
            "series.objects-left-out",
        ],
    },
    Rule {
        number: 3,
        code: "rule.order",
        asks: "direction cosines are unit vectors at right angles, so that slices can be ordered by where they lie",
        findings: &["series.cosines"],
    },
    Rule {
        number: 4,
        code: "rule.no-repeats",
        asks: "no two slices lie at one place, and no object came twice with different content",
        findings: &["series.duplicates", "series.altered-duplicate"],
    },
    Rule {
        number: 5,
        code: "rule.spacing",
        asks: "slices are equally far apart and none is missing",
        findings: &["series.missing-slice", "series.variable-spacing", "series.jitter", "series.run-taken"],
    },
    Rule {
        number: 6,
        code: "rule.tilt",
        asks: "slices lie straight above each other, or the gantry tilt is small enough to be corrected",
        findings: &["series.tilt", "series.sidestep"],
    },
    Rule {
        number: 7,
        code: "rule.coverage",
        asks: "there are enough slices, thin enough, over enough of the body, with a body and air in them",
        findings: &[
            "series.too-few-slices",
            "series.short-extent",
            "series.thick-slices",
            "series.no-body",
            "series.no-air",
            "series.little-air",
        ],
    },
    Rule {
        number: 8,
        code: "rule.hounsfield",
        asks: "stored values are complete and become Hounsfield units by slope and intercept",
        findings: &["series.no-hu", "series.short-pixels", "series.decode", "series.load", "series.changed"],
    },
    Rule {
        number: 9,
        code: "rule.orientation",
        asks: "slices are axial; which way up the patient lay is read from the direction cosines",
        findings: &["series.not-axial"],
    },
    Rule {
        number: 10,
        code: "rule.frames",
        asks: "each frame of an Enhanced CT object says where it lies",
        findings: &["series.enhanced"],
    },
    Rule {
        number: 11,
        code: "rule.one-patient",
        asks: "every object is of the same patient",
        findings: &["series.mixed-patients", "series.no-patient-id"],
    },
];

/// What the rules found in one series.
#[derive(Debug, Clone)]
pub struct Judgment {
    /// The plan of the volume, or why there is none.
    pub plan: Result<SeriesPlan, SeriesError>,
    /// Remarks; with a plan they are its own.
    pub notes: Vec<Note>,
}

/// Judges a series by the rules of a site. The voxels are not looked at: [`super::assemble_volume`] does.
pub fn judge_series(headers: &[Header], rules: &SeriesRules) -> Judgment {
    let mut notes = Vec::new();
    let plan = plan_by(headers, rules, &mut notes).map(|plan| {
        notes.extend(plan.notes.iter().cloned());
        SeriesPlan { notes: notes.clone(), ..plan }
    });
    Judgment { plan, notes }
}

impl Judgment {
    /// ACCEPT, NOTE or REJECT.
    pub fn verdict(&self) -> Verdict {
        match &self.plan {
            Ok(plan) if plan.refusals.is_empty() && self.notes.is_empty() => Verdict::Accept,
            Ok(plan) if plan.refusals.is_empty() => Verdict::Note,
            Ok(_) | Err(_) => Verdict::Reject,
        }
    }

    /// The reasons of a REJECT.
    pub fn reasons(&self) -> Vec<Note> {
        match &self.plan {
            Ok(plan) => plan.refusals.clone(),
            Err(error) => vec![Note::new(error.code(), error.to_string())],
        }
    }

    /// The eleven rules with their outcomes.
    pub fn outcomes(&self) -> Vec<RuleOutcome> {
        let reasons = self.reasons();
        let met: &[u8] = self.plan.as_ref().map_or_else(met_before, |_| &ALL);
        let outcome = |rule: &'static Rule| {
            let of = |notes: &[Note]| -> Vec<Note> {
                notes.iter().filter(|n| rule.findings.contains(&n.code)).cloned().collect()
            };
            let (broken, noted) = (of(&reasons), of(&self.notes));
            let state = match () {
                () if !broken.is_empty() => RuleState::Broken,
                () if !noted.is_empty() => RuleState::Noted,
                () if met.contains(&rule.number) => RuleState::Met,
                () => RuleState::NotReached,
            };
            RuleOutcome { rule, state, findings: [broken, noted].concat() }
        };
        RULES.iter().map(outcome).collect()
    }
}

const ALL: [u8; 11] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

/// The rules that were met when this error ended the series, in the order in which they are looked at.
fn met_before(error: &SeriesError) -> &'static [u8] {
    use SeriesError as E;
    match error {
        E::MixedPatients => &[],
        E::Empty
        | E::NotCt { .. }
        | E::Localizer
        | E::Derived
        | E::NoGeometry
        | E::Lossy
        | E::Codec(_)
        | E::PixelFormat
        | E::Enhanced => &[11],
        E::Cosines { .. } => &[11, 2, 10],
        E::SeveralStacks { .. } => &[11, 2, 10, 3],
        E::Duplicates { .. } => &[11, 2, 10, 3, 1],
        E::TooFewSlices { .. } | E::NoHu { .. } | E::ShortPixels { .. } => &[11, 2, 10, 3, 1, 4],
        E::MissingSlice { .. } | E::VariableSpacing { .. } => &[11, 2, 10, 3, 1, 4, 8],
        E::Tilt { .. } | E::Sidestep { .. } => &[11, 2, 10, 3, 1, 4, 8, 5],
        // Voxels come last.
        E::Load { .. } | E::Decode { .. } | E::Changed { .. } => &[11, 2, 10, 3, 1, 4, 5, 6, 9, 7],
    }
}
