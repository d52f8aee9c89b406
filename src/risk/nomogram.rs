//! A fitted nomogram: its predictors, its variants, and what it says about itself.

use super::{ClinicalKey, ClinicalValues};
use std::collections::BTreeMap;

/// A fitted nomogram as read from its package by [`Nomogram::from_files`], hashes and golden vectors checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Nomogram {
    /// Name of the package, such as `mlm-phantom`.
    pub id: String,
    /// Version of the package.
    pub version: String,
    /// sha256 of manifest.toml in hex: through the files named in it, the identity of everything in the package.
    pub manifest_sha256: String,
    /// For what the package is meant.
    pub intended_use: String,
    /// On whom (or on what) it was fitted.
    pub cohort: String,
    /// Taken over from a publication, validated on no patient of this site.
    pub external: bool,
    /// The event that is predicted.
    pub outcome: String,
    /// How a linear predictor becomes a probability.
    pub link: Link,
    /// The probability is that of the event within this many months.
    pub horizon_months: u32,
    /// How the radiomic predictors have to be measured.
    pub radiomics: RadiomicsParameters,
    /// All predictors; variants refer to them by index.
    pub predictors: Vec<Predictor>,
    /// In the order of the manifest; a tie of completeness is decided by it.
    pub variants: Vec<Variant>,
    /// Measured figures of the fit by name.
    pub metrics: BTreeMap<String, f64>,
}

/// How a linear predictor becomes a probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Link {
    /// The linear predictor is the log odds.
    #[default]
    Logistic,
    /// The linear predictor is a log hazard; the probability is that of the baseline at the horizon.
    Cox,
}

impl Link {
    /// `logistic` or `cox`.
    pub fn name(self) -> &'static str {
        match self {
            Link::Logistic => "logistic",
            Link::Cox => "cox",
        }
    }

    /// `log odds` or `log hazard`.
    pub fn unit(self) -> &'static str {
        match self {
            Link::Logistic => "log odds",
            Link::Cox => "log hazard",
        }
    }
}

/// The PyRadiomics parameter file with which the radiomic predictors were measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RadiomicsParameters {
    /// The parameter file, as `metwatch extract --params` takes it.
    pub yaml: String,
    /// sha256 of that text in hex.
    pub sha256: String,
}

/// Where the value of a predictor comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A value of laboratory or pathology.
    Clinical(ClinicalKey),
    /// A feature of a region.
    Radiomic {
        /// Name of the region, such as `liver`.
        region: String,
        /// Name of the feature as PyRadiomics writes it, such as `original_glcm_Idm`.
        feature: String,
    },
}

/// What is done to a value before it is standardized.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Transform {
    /// Nothing.
    None,
    /// Natural logarithm.
    Log,
    /// 1 from this value on, else 0.
    Cut(f64),
}

impl Transform {
    /// The transformed value; the logarithm of zero or less is not finite.
    pub fn apply(self, value: f64) -> f64 {
        match self {
            Transform::None => value,
            Transform::Log => value.ln(),
            Transform::Cut(at) => f64::from(u8::from(value >= at)),
        }
    }
}

/// One input of the nomogram. All ranges are in the unit of the value, before the transform.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictor {
    /// Short name, unique in the package.
    pub id: String,
    /// For people.
    pub label: String,
    /// Where its value comes from.
    pub source: Source,
    /// Unit of the value; empty for a number without one, `yes/no` for 1 and 0.
    pub unit: String,
    /// Values outside are refused (clinical predictors; a radiomic one has no such limit).
    pub permitted: Option<[f64; 2]>,
    /// From the 5th to the 95th percentile of the training data; outside, the assessment carries a note.
    pub training: [f64; 2],
    /// Ends of the axis on the nomogram; inside lie 0 to 100 points.
    pub axis: [f64; 2],
    /// Transform before standardization.
    pub transform: Transform,
    /// Training mean of the transformed value.
    pub center: f64,
    /// Training standard deviation of the transformed value.
    pub scale: f64,
}

impl Predictor {
    /// The value of this predictor, if it is known. A feature that is not finite, or has no transform, is not known.
    pub fn value(&self, feature: &dyn Fn(&str, &str) -> Option<f64>, clinical: &ClinicalValues) -> Option<f64> {
        let value = match &self.source {
            Source::Clinical(key) => return clinical.get(*key),
            Source::Radiomic { region, feature: name } => feature(region, name)?,
        };
        Some(value).filter(|v| v.is_finite() && self.transform.apply(*v).is_finite())
    }

    /// The transformed and standardized value.
    pub fn standardized(&self, value: f64) -> f64 {
        (self.transform.apply(value) - self.center) / self.scale
    }
}

/// Whether an assessment can still change when more becomes known about the patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Pathology is not in it yet.
    Provisional,
    /// Everything that the nomogram can use is in it.
    Final,
}

impl Status {
    /// `provisional` or `final`.
    pub fn name(self) -> &'static str {
        match self {
            Status::Provisional => "provisional",
            Status::Final => "final",
        }
    }
}

/// Risk group by the cut-offs of a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Below the first cut-off.
    Low,
    /// Between the cut-offs.
    Intermediate,
    /// At the second cut-off or above.
    High,
}

impl Group {
    /// `low`, `intermediate` or `high`.
    pub fn name(self) -> &'static str {
        match self {
            Group::Low => "low",
            Group::Intermediate => "intermediate",
            Group::High => "high",
        }
    }
}

/// One model, fitted for itself on one set of predictors.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Name, such as `image` or `complete`.
    pub name: String,
    /// Whether this is the last word.
    pub status: Status,
    /// Linear predictor at the training mean of every predictor, before [`Prior::shift`].
    pub intercept: f64,
    /// The predictors and their weights.
    pub terms: Vec<Term>,
    /// How common the outcome was in the training data, and what was done about it.
    pub prior: Prior,
    /// Event-free survival at the baseline.
    pub baseline: Baseline,
    /// Probability from which the group is intermediate.
    pub intermediate_from: f64,
    /// Probability from which the group is high.
    pub high_from: f64,
    /// Measured figures of this variant by name.
    pub metrics: BTreeMap<String, f64>,
}

/// A predictor in a variant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Term {
    /// Index into [`Nomogram::predictors`].
    pub predictor: usize,
    /// Change of the linear predictor per training standard deviation.
    pub coefficient: f64,
}

/// Prior correction: a nomogram from a sample with too many events over-predicts where fewer occur.
#[derive(Debug, Clone, PartialEq)]
pub struct Prior {
    /// Share of events within the horizon in the training data.
    pub event_rate: f64,
    /// Added to the intercept; 0 leaves the training data's incidence.
    pub shift: f64,
    /// In words, for whoever reads the result.
    pub statement: String,
}

/// Baseline on the linear predictor: S(t) = survival(t) ^ exp(slope (linear predictor - center)).
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    /// Months, ascending.
    pub months: Vec<u32>,
    /// Event-free survival at those months for a patient at `center`.
    pub survival: Vec<f64>,
    /// Log hazard per unit of the linear predictor.
    pub slope: f64,
    /// Linear predictor to which `survival` belongs.
    pub center: f64,
}

impl Baseline {
    /// Probability to be free of the event up to each month, at a linear predictor.
    pub fn survival(&self, linear_predictor: f64) -> Vec<(u32, f64)> {
        let hazard_ratio = (self.slope * (linear_predictor - self.center)).exp();
        self.months.iter().zip(&self.survival).map(|(month, s)| (*month, s.powf(hazard_ratio))).collect()
    }

    /// Probability of the event up to a month of the baseline, without loss of digits where it is small.
    pub fn risk(&self, linear_predictor: f64, month: u32) -> Option<f64> {
        let at = self.months.iter().position(|m| *m == month)?;
        let hazard_ratio = (self.slope * (linear_predictor - self.center)).exp();
        Some(-(self.survival[at].ln() * hazard_ratio).exp_m1())
    }
}

impl Variant {
    /// Low, intermediate or high.
    pub fn group(&self, probability: f64) -> Group {
        if probability >= self.high_from {
            Group::High
        } else if probability >= self.intermediate_from {
            Group::Intermediate
        } else {
            Group::Low
        }
    }
}
