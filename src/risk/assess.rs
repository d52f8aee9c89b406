//! From features and clinical values to a risk, with its reasons.

use super::nomogram::{Group, Link, Nomogram, Predictor, Status, Variant};
use super::{ClinicalValues, RiskError};
use std::collections::BTreeSet;
use std::fmt;

/// The risk of one patient and how it came about. Shown only together with `status` and [`crate::DISCLAIMER`].
#[derive(Debug, Clone, PartialEq)]
pub struct Assessment {
    /// Package id of the nomogram.
    pub nomogram_id: String,
    /// Version of the nomogram.
    pub nomogram_version: String,
    /// The variant that was used.
    pub variant: String,
    /// Provisional while more can become known, else final.
    pub status: Status,
    /// The predicted event.
    pub outcome: String,
    /// Months to which `probability` refers.
    pub horizon_months: u32,
    /// Probability of the event within the horizon, 0 to 1.
    pub probability: f64,
    /// What the linear predictors and contributions are.
    pub link: Link,
    /// Log odds of `probability`, or log hazard.
    pub linear_predictor: f64,
    /// That of a patient at the training mean of every predictor.
    pub base_linear_predictor: f64,
    /// Points as read off the nomogram.
    pub points: Points,
    /// Group by the cut-offs of the variant.
    pub group: Group,
    /// (month, probability to be free of the event until then), ascending.
    pub survival: Vec<(u32, f64)>,
    /// One per predictor of the variant, the strongest first.
    pub contributions: Vec<Contribution>,
    /// What a reader has to know about this result.
    pub notes: Vec<Note>,
}

/// Points of the nomogram: 100 for the longest axis of the variant, linear in the linear predictor.
/// A value beyond its axis has fewer than 0 or more points than its axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Points {
    /// Sum over the predictors.
    pub total: f64,
    /// Sum of all axes: the total of a patient at the worse end of every axis.
    pub max: f64,
}

/// What one predictor did.
#[derive(Debug, Clone, PartialEq)]
pub struct Contribution {
    /// [`Predictor::id`].
    pub predictor: String,
    /// [`Predictor::label`].
    pub label: String,
    /// The value used, in `unit`.
    pub value: f64,
    /// Unit of the value; empty for a number without one.
    pub unit: String,
    /// Shapley value in log odds (log hazard of a Cox package), which for a linear predictor is beta (x - mean): the
    /// contributions sum to `linear_predictor - base_linear_predictor`.
    pub log_odds: f64,
    /// Points of this predictor.
    pub points: f64,
}

/// Something to know about an assessment. `Display` is a sentence for people.
#[derive(Debug, Clone, PartialEq)]
pub enum Note {
    /// A value beyond 5 to 95 % of the training data.
    OutsideTraining {
        /// [`Predictor::id`].
        predictor: String,
        /// [`Predictor::label`].
        label: String,
        /// The patient's value.
        value: f64,
        /// The training range.
        training: [f64; 2],
        /// Unit of both.
        unit: String,
    },
    /// A more complete variant was not possible.
    Missing {
        /// Name of that variant.
        variant: String,
        /// [`Predictor::id`] of what it misses.
        predictors: Vec<String>,
    },
    /// Values that are known and that the used variant has no place for.
    NotUsed {
        /// [`Predictor::id`] of those values.
        predictors: Vec<String>,
    },
    /// How common the event was in the training data: [`super::Prior::statement`].
    Incidence(String),
}

impl Note {
    /// Stable code, for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Note::OutsideTraining { .. } => "risk.outside-training",
            Note::Missing { .. } => "risk.missing",
            Note::NotUsed { .. } => "risk.not-used",
            Note::Incidence(_) => "risk.incidence",
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::OutsideTraining { label, value, training: [low, high], unit, .. } => {
                let (value, low, high) = (format_short(*value), format_short(*low), format_short(*high));
                let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
                write!(f, "{label} is {value}{unit}, outside the training range {low} to {high}{unit}: extrapolated")
            }
            Note::Missing { variant, predictors } => {
                write!(f, "variant {variant} was not possible without {}", predictors.join(", "))
            }
            Note::NotUsed { predictors } => write!(f, "known, but not used by this variant: {}", predictors.join(", ")),
            Note::Incidence(statement) => f.write_str(statement),
        }
    }
}

/// A number for people: four significant digits, without an exponent for everyday sizes.
pub fn format_short(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 || (value.fract() == 0.0 && magnitude < 1e9) {
        format!("{value:.0}")
    } else if (1e-4..1e6).contains(&magnitude) {
        // log10 of 0.05..0.5 is below 0, so digits grow: 0.1234 has four after the point.
        format!("{value:.*}", (3.0 - magnitude.log10().floor()).clamp(0.0, 9.0) as usize)
    } else {
        format!("{value:.3e}")
    }
}

/// Computes the risk by the most complete variant whose predictors are all known.
///
/// `feature(region, name)` gives a measured feature by PyRadiomics name, or `None` if the region or the feature is not there.
/// Refused are values outside a permitted range, and a patient of whom too little is known for any variant.
pub fn assess(
    nomogram: &Nomogram,
    feature: impl Fn(&str, &str) -> Option<f64>,
    clinical: &ClinicalValues,
) -> Result<Assessment, RiskError> {
    clinical.validate()?;
    let values: Vec<Option<f64>> = nomogram.predictors.iter().map(|p| p.value(&feature, clinical)).collect();
    for (predictor, value) in nomogram.predictors.iter().zip(&values) {
        permitted(predictor, *value)?;
    }
    let variant = choose(nomogram, &values)?;
    Ok(compute(nomogram, variant, &values))
}

/// Refuses a value outside its permitted range.
fn permitted(predictor: &Predictor, value: Option<f64>) -> Result<(), RiskError> {
    match (&predictor.source, predictor.permitted, value) {
        (super::Source::Clinical(key), Some([low, high]), Some(v)) if !(low..=high).contains(&v) => {
            Err(RiskError::OutOfRange { key: key.name(), low, high, unit: predictor.unit.clone() })
        }
        _ => Ok(()),
    }
}

/// The predictors of a variant whose values are not known, by id.
fn missing(nomogram: &Nomogram, variant: &Variant, values: &[Option<f64>]) -> Vec<String> {
    let unknown = variant.terms.iter().filter(|t| values[t.predictor].is_none());
    unknown.map(|t| nomogram.predictors[t.predictor].id.clone()).collect()
}

/// The variant that knows most among those of which everything is known: clinical values and regions are counted first, then
/// predictors; the first of equals. (A rad-score of the liver alone may have more features than one of liver and tumor.)
fn choose<'a>(nomogram: &'a Nomogram, values: &[Option<f64>]) -> Result<&'a Variant, RiskError> {
    let possible = nomogram.variants.iter().filter(|v| missing(nomogram, v, values).is_empty());
    // max_by_key returns the last of equals, the manifest's order asks for the first.
    let knows = |v: &&Variant| (sources(nomogram, v).len(), v.terms.len());
    possible.rev().max_by_key(knows).ok_or_else(|| {
        let nearest = nomogram.variants.iter().map(|v| (v, missing(nomogram, v, values))).min_by_key(|(_, m)| m.len());
        let (variant, missing) = nearest.map(|(v, m)| (v.name.clone(), m.join(", "))).unwrap_or_default();
        RiskError::NothingKnown { variant, missing }
    })
}

/// The clinical values and regions that a variant looks at.
fn sources<'a>(nomogram: &'a Nomogram, variant: &Variant) -> BTreeSet<&'a str> {
    variant.terms.iter().map(|term| source(&nomogram.predictors[term.predictor])).collect()
}

fn source(predictor: &Predictor) -> &str {
    match &predictor.source {
        super::Source::Clinical(key) => key.name(),
        super::Source::Radiomic { region, .. } => region,
    }
}

/// The mathematics of one variant. All values of its predictors are known.
fn compute(nomogram: &Nomogram, variant: &Variant, values: &[Option<f64>]) -> Assessment {
    let known = || {
        let terms = variant.terms.iter();
        terms.filter_map(|t| values[t.predictor].map(|value| (&nomogram.predictors[t.predictor], t.coefficient, value)))
    };
    let base = variant.intercept + variant.prior.shift;
    let per_log_odds = points_per_log_odds(nomogram, variant);
    let mut contributions: Vec<Contribution> = known()
        .map(|(predictor, coefficient, value)| {
            let log_odds = coefficient * predictor.standardized(value);
            let points = (log_odds - axis_log_odds(predictor, coefficient)[0]) * per_log_odds;
            let (id, label, unit) = (predictor.id.clone(), predictor.label.clone(), predictor.unit.clone());
            Contribution { predictor: id, label, value, unit, log_odds, points }
        })
        .collect();
    let linear_predictor = base + contributions.iter().map(|c| c.log_odds).sum::<f64>();
    let total = contributions.iter().map(|c| c.points).sum();
    let axes = known().map(|(predictor, coefficient, _)| axis_log_odds(predictor, coefficient));
    let max = axes.map(|[low, high]| (high - low) * per_log_odds).sum();
    contributions.sort_by(|a, b| b.log_odds.abs().total_cmp(&a.log_odds.abs()));
    let logistic = 1.0 / (1.0 + (-linear_predictor).exp());
    let probability = match nomogram.link {
        Link::Logistic => logistic,
        // `from_files` refuses a Cox package without the horizon among the months of a baseline.
        Link::Cox => variant.baseline.risk(linear_predictor, nomogram.horizon_months).unwrap_or(logistic),
    };
    Assessment {
        nomogram_id: nomogram.id.clone(),
        nomogram_version: nomogram.version.clone(),
        variant: variant.name.clone(),
        status: variant.status,
        outcome: nomogram.outcome.clone(),
        horizon_months: nomogram.horizon_months,
        probability,
        link: nomogram.link,
        linear_predictor,
        base_linear_predictor: base,
        points: Points { total, max },
        group: variant.group(probability),
        survival: variant.baseline.survival(linear_predictor),
        contributions,
        notes: notes(nomogram, variant, values),
    }
}

/// Log odds at the better and at the worse end of a predictor's axis.
fn axis_log_odds(predictor: &Predictor, coefficient: f64) -> [f64; 2] {
    let [a, b] = predictor.axis.map(|end| coefficient * predictor.standardized(end));
    [a.min(b), a.max(b)]
}

/// Points of one log odds: the longest axis has 100 (rms::nomogram). `from_files` refuses a variant without any axis.
fn points_per_log_odds(nomogram: &Nomogram, variant: &Variant) -> f64 {
    let axes = variant.terms.iter().map(|t| axis_log_odds(&nomogram.predictors[t.predictor], t.coefficient));
    100.0 / axes.map(|[low, high]| high - low).fold(0.0, f64::max)
}

fn notes(nomogram: &Nomogram, variant: &Variant, values: &[Option<f64>]) -> Vec<Note> {
    let mut notes = Vec::new();
    for term in &variant.terms {
        let predictor = &nomogram.predictors[term.predictor];
        let [low, high] = predictor.training;
        if let Some(value) = values[term.predictor].filter(|v| !(low..=high).contains(v)) {
            let (id, label, unit) = (predictor.id.clone(), predictor.label.clone(), predictor.unit.clone());
            notes.push(Note::OutsideTraining { predictor: id, label, value, training: predictor.training, unit });
        }
    }
    // Variants that look at all that this one looks at, and at more.
    let looked_at = sources(nomogram, variant);
    let larger = nomogram.variants.iter().filter(|v| {
        let more = sources(nomogram, v);
        more.len() > looked_at.len() && more.is_superset(&looked_at)
    });
    notes.extend(larger.map(|v| Note::Missing { variant: v.name.clone(), predictors: missing(nomogram, v, values) }));
    // A region's other features belong to other variants; what was not looked at at all is worth a word.
    let unused =
        (0..values.len()).filter(|i| values[*i].is_some() && !looked_at.contains(source(&nomogram.predictors[*i])));
    let predictors: Vec<String> = unused.map(|i| nomogram.predictors[i].id.clone()).collect();
    if !predictors.is_empty() {
        notes.push(Note::NotUsed { predictors });
    }
    notes.push(Note::Incidence(variant.prior.statement.clone()));
    notes
}

#[cfg(test)]
mod tests {
    use super::super::testing::{clinical, features, nomogram};
    use super::*;
    use crate::Explain;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-12 * b.abs().max(1.0), "{a} is not {b}");
    }

    /// AFP e^2 is one SD above the mean ln AFP of 1, 15 nodes one SD below 20, texture 0.5 is 2 SD above 0.3:
    /// -0.5 + 2 * 0.6 + 1 * 0.5 - 1 * -0.4 + 1 * 0.8 (perineural invasion, mean 0.5, SD 0.5: z = 1) = 2.4.
    #[test]
    fn a_worked_example_of_the_complete_variant() {
        let result = assess(
            &nomogram(),
            features(Some(0.5), Some(4.0)),
            &clinical(Some(1f64.exp().powi(2)), Some(15), Some(true)),
        );
        let result = result.unwrap();
        assert_eq!((result.variant.as_str(), result.status), ("complete", Status::Final));
        close(result.linear_predictor, 2.4);
        close(result.probability, 1.0 / (1.0 + (-2.4f64).exp()));
        close(result.base_linear_predictor, -0.5);
        close(result.contributions.iter().map(|c| c.log_odds).sum::<f64>(), 2.9);
        assert_eq!(result.group, Group::High);
        // S0 = 0.9 and 0.5 at the center 0, slope 0.5: exponent exp(1.2).
        close(result.survival[1].1, 0.5f64.powf(1.2f64.exp()));
        assert_eq!(result.contributions[0].predictor, "tumor_texture");
    }

    /// Axes in log odds: texture 0.1..0.7 = 6 SD of 0.1 * 0.6 = 3.6 (the longest: 100 points), AFP e^-1..e^4 = 5 * 0.5 = 2.5,
    /// nodes 0..40 = 8 SD * 0.4 = 3.2 (descending: 0 nodes is the worse end), perineural 2 SD * 0.8 = 1.6.
    #[test]
    fn points_are_read_off_the_axes() {
        let result =
            assess(&nomogram(), features(Some(0.7), Some(4.0)), &clinical(Some((-1f64).exp()), Some(0), Some(false)))
                .unwrap();
        let points = |id: &str| result.contributions.iter().find(|c| c.predictor == id).unwrap().points;
        close(points("tumor_texture"), 100.0);
        close(points("afp"), 0.0);
        close(points("nodes"), 3.2 / 3.6 * 100.0);
        close(points("perineural_invasion"), 0.0);
        close(result.points.total, 100.0 + 3.2 / 3.6 * 100.0);
        close(result.points.max, (3.6 + 2.5 + 3.2 + 1.6) / 3.6 * 100.0);
    }

    /// The example above, as a Cox package: the risk is the complement of the survival at the horizon.
    #[test]
    fn a_cox_package_takes_its_risk_from_the_baseline() {
        let mut cox = nomogram();
        (cox.link, cox.horizon_months) = (Link::Cox, cox.variants[0].baseline.months[1]);
        let known = clinical(Some(1f64.exp().powi(2)), Some(15), Some(true));
        let result = assess(&cox, features(Some(0.5), Some(4.0)), &known).unwrap();
        close(result.linear_predictor, 2.4);
        close(result.probability, 1.0 - 0.5f64.powf(1.2f64.exp()));
        close(result.survival[1].1, 1.0 - result.probability);
    }

    #[test]
    fn the_variant_is_the_most_complete_of_what_is_known() {
        let variant = |texture, liver, afp, nodes, invasion| {
            assess(&nomogram(), features(texture, liver), &clinical(afp, nodes, invasion))
                .map(|a| (a.variant, a.status.name()))
        };
        let t = Some(0.3);
        assert_eq!(variant(t, Some(4.0), Some(3.0), Some(20), Some(false)).unwrap(), ("complete".into(), "final"));
        assert_eq!(
            variant(t, Some(4.0), Some(3.0), None, Some(false)).unwrap(),
            ("image_laboratory".into(), "provisional")
        );
        assert_eq!(variant(t, Some(4.0), None, Some(20), Some(false)).unwrap(), ("image".into(), "provisional"));
        assert_eq!(
            variant(None, Some(4.0), Some(3.0), Some(20), Some(true)).unwrap(),
            ("liver_only".into(), "provisional")
        );
        assert_eq!(variant(Some(f64::NAN), Some(4.0), None, None, None).unwrap().0, "liver_only");
        let nothing = variant(None, None, Some(3.0), Some(20), Some(true)).unwrap_err();
        assert_eq!(nothing.code(), "risk.nothing-known");
        assert!(nothing.to_string().contains("tumor_texture") || nothing.to_string().contains("liver_entropy"));
    }

    #[test]
    fn a_missing_value_is_named_and_never_a_default() {
        let with_mean =
            assess(&nomogram(), features(Some(0.3), Some(4.0)), &clinical(Some(1f64.exp()), None, None)).unwrap();
        assert_eq!(with_mean.variant, "image_laboratory");
        assert!(with_mean.contributions.iter().all(|c| c.predictor != "nodes"));
        let missing = with_mean.notes.iter().find(|n| n.code() == "risk.missing").unwrap().to_string();
        assert_eq!(missing, "variant complete was not possible without nodes, perineural_invasion");
        let image = assess(&nomogram(), features(Some(0.3), Some(4.0)), &clinical(None, Some(20), None)).unwrap();
        let unused = image.notes.iter().find(|n| n.code() == "risk.not-used").unwrap().to_string();
        assert!(unused.contains("nodes"), "{unused}");
    }

    #[test]
    fn extrapolation_is_noted_and_impossible_values_are_refused() {
        let inside = assess(&nomogram(), features(Some(0.3), Some(4.0)), &clinical(None, None, None)).unwrap();
        assert!(inside.notes.iter().all(|n| n.code() != "risk.outside-training"));
        let outside = assess(&nomogram(), features(Some(0.55), Some(4.0)), &clinical(None, None, None)).unwrap();
        let note = outside.notes.iter().find(|n| n.code() == "risk.outside-training").unwrap().to_string();
        assert_eq!(note, "tumor texture is 0.5500, outside the training range 0.1500 to 0.4500: extrapolated");
        let refused = |c| assess(&nomogram(), features(Some(0.3), Some(4.0)), &c).unwrap_err().code();
        assert_eq!(refused(clinical(Some(0.0), None, None)), "risk.out-of-range"); // the package wants at least 0.05 ng/mL
        assert_eq!(refused(clinical(Some(2e6), None, None)), "risk.out-of-range");
        assert_eq!(refused(clinical(Some(f64::NAN), None, None)), "risk.out-of-range");
        assert_eq!(refused(clinical(None, Some(500), None)), "risk.out-of-range");
    }

    #[test]
    fn numbers_for_people_have_four_digits() {
        assert_eq!(
            [1234.56, 0.0123456, 12.0, 1e-7, 7.25].map(format_short),
            ["1235", "0.01235", "12", "1.000e-7", "7.250"]
        );
    }
}
