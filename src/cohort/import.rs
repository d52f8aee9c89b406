//! A published equation as a package, marked *external, unvalidated here*.

use super::CohortError;
use crate::risk::{
    Baseline, ClinicalKey, ClinicalValues, GoldenPatient, Nomogram, Predictor, Prior, RadiomicsParameters, Source,
    Status, Term, Transform, Variant,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Put before everything that such a package says about itself.
pub const EXTERNAL: &str = "EXTERNAL, UNVALIDATED HERE";
/// No feature enters a published clinical equation.
const PARAMETERS: &str = "# No radiomic predictor.\n";

/// A published equation: logistic, clinical terms.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Equation {
    /// Short name, becomes part of the package id.
    pub name: String,
    /// Digital object identifier of the source.
    pub doi: String,
    /// The event.
    pub outcome: String,
    /// Months to which the risk refers.
    pub horizon_months: u32,
    /// Log odds with every term at 0. An equation without it gives no risk.
    pub intercept: f64,
    /// Share of events in the source's patients.
    pub incidence: f64,
    /// Risks from which the group is intermediate and high.
    pub cut_offs: [f64; 2],
    /// On whom it was fitted, from the source.
    pub cohort: String,
    /// Its terms.
    pub terms: Vec<EquationTerm>,
}

/// A term: transform of a value times a coefficient.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EquationTerm {
    /// Value of the box, such as `afp_ng_per_ml`.
    pub value: String,
    /// For people.
    pub label: String,
    /// Unit.
    #[serde(default)]
    pub unit: String,
    /// `none` (default) or `log`.
    #[serde(default)]
    pub transform: EquationTransform,
    /// The term is 1 from this value on, else 0.
    pub cut_off: Option<f64>,
    /// Log odds.
    pub coefficient: Option<f64>,
    /// Or its exponential.
    pub odds_ratio: Option<f64>,
    /// Values that the source covers; others are refused.
    pub range: [f64; 2],
}

/// Transform of a term.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EquationTransform {
    /// As it is.
    #[default]
    None,
    /// Natural logarithm.
    Log,
}

/// Makes a package of an equation as TOML.
pub fn import_equation(text: &str) -> Result<BTreeMap<String, Vec<u8>>, CohortError> {
    let equation: Equation = toml::from_str(text).map_err(|e| super::spec_check::located(&e, text))?;
    let fault = |what: String| CohortError::Spec { what };
    if !equation.doi.starts_with("10.") {
        return Err(fault("doi has to begin with 10.".into()));
    }
    let mut predictors = Vec::new();
    let mut terms = Vec::new();
    for (index, term) in equation.terms.iter().enumerate() {
        let key = ClinicalKey::from_name(&term.value)
            .ok_or_else(|| fault(format!("{} is no clinical value of the box", term.value)))?;
        let coefficient = match (term.coefficient, term.odds_ratio) {
            (Some(b), None) => b,
            (None, Some(ratio)) if ratio > 0.0 => ratio.ln(),
            _ => return Err(fault(format!("{} needs a coefficient, or an odds_ratio above 0", term.value))),
        };
        let transform = match (term.transform, term.cut_off) {
            (EquationTransform::None, None) => Transform::None,
            (EquationTransform::Log, None) => Transform::Log,
            (EquationTransform::None, Some(at)) => Transform::Cut(at),
            _ => return Err(fault(format!("{} has both a transform and a cut_off", term.value))),
        };
        terms.push(Term { predictor: index, coefficient });
        predictors.push(Predictor {
            id: term.value.clone(),
            label: term.label.clone(),
            source: Source::Clinical(key),
            unit: term.unit.clone(),
            permitted: Some(term.range),
            training: term.range,
            axis: term.range,
            transform,
            center: 0.0,
            scale: 1.0,
        });
    }
    let statement = format!(
        "{EXTERNAL}: published equation, doi {}; {:.0} % of its patients had the event",
        equation.doi,
        100.0 * equation.incidence
    );
    let risk = crate::statistics::logistic::probability(equation.intercept);
    let variant = Variant {
        name: "complete".into(),
        status: Status::Final,
        intercept: equation.intercept,
        terms,
        prior: Prior { event_rate: equation.incidence, shift: 0.0, statement: statement.clone() },
        // The source gives no curve: one point, the complement of the risk with every term at 0.
        baseline: Baseline {
            months: vec![equation.horizon_months],
            survival: vec![1.0 - risk],
            slope: 1.0,
            center: equation.intercept,
        },
        intermediate_from: equation.cut_offs[0],
        high_from: equation.cut_offs[1],
        metrics: BTreeMap::new(),
    };
    let nomogram = Nomogram {
        id: format!("external-{}", equation.name),
        version: "1".into(),
        manifest_sha256: String::new(),
        intended_use: format!("{EXTERNAL}. Research only."),
        cohort: format!("{EXTERNAL}. {} Source: doi {}.", equation.cohort, equation.doi),
        external: true,
        outcome: equation.outcome.clone(),
        link: crate::risk::Link::Logistic,
        horizon_months: equation.horizon_months,
        radiomics: RadiomicsParameters {
            yaml: PARAMETERS.into(),
            sha256: Sha256::digest(PARAMETERS.as_bytes()).iter().map(|b| format!("{b:02x}")).collect(),
        },
        predictors,
        variants: vec![variant],
        metrics: BTreeMap::new(),
    };
    let golden = [0, 1].map(|end| golden(&equation, end));
    nomogram.to_files(&golden).map_err(CohortError::package("writing the package of the equation"))
}

/// A patient at one end of every range.
fn golden(equation: &Equation, end: usize) -> GoldenPatient {
    let mut clinical = ClinicalValues::default();
    for term in &equation.terms {
        let value = term.range[end];
        match ClinicalKey::from_name(&term.value) {
            Some(ClinicalKey::AfpNgPerMl) => clinical.afp_ng_per_ml = Some(value),
            Some(ClinicalKey::DissectedLymphNodes) => clinical.dissected_lymph_nodes = Some(value as u32),
            Some(ClinicalKey::PerineuralInvasion) => clinical.perineural_invasion = Some(value == 1.0),
            Some(ClinicalKey::TumorNodules) => clinical.tumor_nodules = Some(value == 1.0),
            None => {}
        }
    }
    GoldenPatient { features: BTreeMap::new(), clinical }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Explain;
    use crate::risk::assess;

    const TEXT: &str = "name = \"guo\"\ndoi = \"10.1000/x\"\noutcome = \"event\"\nhorizon_months = 60\nintercept = -2.0\nincidence = 0.2\ncut_offs = [0.2, 0.5]\ncohort = \"100 patients.\"\n\
        [[terms]]\nvalue = \"afp_ng_per_ml\"\nlabel = \"AFP\"\nunit = \"ng/mL\"\ncut_off = 5.0\nodds_ratio = 2.718281828459045\nrange = [0.1, 1000]\n\
        [[terms]]\nvalue = \"dissected_lymph_nodes\"\nlabel = \"nodes\"\ncoefficient = -0.1\nrange = [0, 100]\n";

    /// -2 + 1 (AFP 7 is 5 or more, ln e = 1) - 0.1 * 12 = -2.2.
    #[test]
    fn a_published_equation_is_applied_and_says_that_it_is_external() {
        let nomogram = Nomogram::from_files(&import_equation(TEXT).unwrap()).unwrap();
        let clinical =
            ClinicalValues { afp_ng_per_ml: Some(7.0), dissected_lymph_nodes: Some(12), ..ClinicalValues::default() };
        let result = assess(&nomogram, |_, _| None, &clinical).unwrap();
        assert!((result.linear_predictor + 2.2).abs() < 1e-12, "{}", result.linear_predictor);
        assert!(result.notes.iter().any(|n| n.to_string().starts_with(EXTERNAL)));
        assert!(nomogram.external && nomogram.id.starts_with("external-") && nomogram.cohort.contains("10.1000/x"));
    }

    #[test]
    fn an_equation_without_intercept_or_with_two_coefficients_is_refused() {
        let code = |text: String| import_equation(&text).unwrap_err().code();
        assert_eq!(code(TEXT.replace("intercept = -2.0\n", "")), "cohort.spec-line");
        assert_eq!(code(TEXT.replace("coefficient = -0.1", "coefficient = -0.1\nodds_ratio = 2.0")), "cohort.spec");
        assert_eq!(code(TEXT.replace("afp_ng_per_ml", "cea_ng_per_ml")), "cohort.spec");
    }
}
