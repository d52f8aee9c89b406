//! An existing package on new patients: external validation. Recalibration is computed and offered, never applied.

use super::join::Texts;
use super::package::region_of;
use super::scale::Scale;
use super::validate::{self, Performance, Scored};
use super::{CohortError, Frame};
use crate::risk::{ClinicalKey, ClinicalValues, Link, Nomogram, Note, assess};
use crate::statistics::calibration::{self, complementary_log_log};
use crate::statistics::cox;
use ndarray::{Array2, array};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the new patients are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationSpec {
    /// Table with identifier, outcome and clinical values.
    pub clinical: String,
    /// Feature tables.
    #[serde(default)]
    pub features: Vec<String>,
    /// Column of the identifier, in all tables.
    pub id: String,
    /// Column with 1 for the event, 0 for none.
    pub event: String,
    /// Column with months to event or end of follow-up.
    pub time: Option<String>,
    /// Columns of the clinical values, where they are not called as the box calls them: `afp_ng_per_ml = "AFP"`.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
}

impl EvaluationSpec {
    /// Reads a specification; a misspelt key is named with its line.
    pub fn parse(text: &str) -> Result<EvaluationSpec, CohortError> {
        let spec: EvaluationSpec = toml::from_str(text).map_err(|e| super::spec_check::located(&e, text))?;
        match spec.values.keys().find(|k| ClinicalKey::from_name(k).is_none()) {
            Some(key) => Err(CohortError::Spec { what: format!("{key} is no clinical value of the box") }),
            None => Ok(spec),
        }
    }
}

/// An evaluation (`metwatch.cohort-evaluation/1`).
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    /// `metwatch.cohort-evaluation/1`.
    pub schema: &'static str,
    /// [`crate::DISCLAIMER`].
    pub disclaimer: &'static str,
    /// Version of metwatch.
    pub version: &'static str,
    /// Package.
    pub nomogram: String,
    /// Its version.
    pub nomogram_version: String,
    /// sha256 of its manifest.
    pub manifest_sha256: String,
    /// The event.
    pub outcome: String,
    /// Rows of the clinical table.
    pub rows: usize,
    /// Patients with a risk and an outcome.
    pub assessed: usize,
    /// Those with the event.
    pub events: usize,
    /// Reason and number of patients without a risk or outcome.
    pub refused: Vec<(String, usize)>,
    /// Variant and number of patients assessed by it.
    pub variants: Vec<(String, usize)>,
    /// Predictor and number of patients outside its training range.
    pub outside_training: Vec<(String, usize)>,
    /// Discrimination and calibration of the package as it is.
    pub performance: Performance,
    /// Performance by variant, where several were used.
    pub by_variant: Vec<Performance>,
    /// Offered, not applied.
    pub recalibration: Option<Recalibration>,
}

/// What a recalibration would be.
#[derive(Debug, Clone, Serialize)]
pub struct Recalibration {
    /// The scale of `shift` and `intercept`: `log odds`, or for a Cox package `ln(-ln(1 - risk))`, its log cumulative hazard.
    pub scale: &'static str,
    /// New intercept alone.
    pub shift: f64,
    /// New intercept together with the slope.
    pub intercept: f64,
    /// Slope.
    pub slope: f64,
    /// Standard errors of intercept and slope.
    pub standard_errors: [f64; 2],
}

/// Applies the package to every patient and measures it. Returns the evaluation and the patients for figures.
pub fn evaluate(
    nomogram: &Nomogram,
    spec: &EvaluationSpec,
    texts: &Texts,
) -> Result<(Evaluation, String), CohortError> {
    let table = |file: &str| {
        let text = texts.get(file).ok_or_else(|| CohortError::NoTable { file: file.to_owned() })?;
        Frame::parse(file, text)
    };
    let clinical = table(&spec.clinical)?;
    let ids = clinical.rows_by_id(&spec.id)?;
    let event = clinical.numbers(&spec.event)?.values;
    if let Some(row) = event.iter().position(|e| e.is_some_and(|e| e != 0.0 && e != 1.0)) {
        return Err(clinical.fault(row, &spec.event, "an event code that is neither 0 nor 1".into()));
    }
    let time = match &spec.time {
        Some(column) => Some(clinical.numbers(column)?.values),
        None => None,
    };
    if nomogram.link == Link::Cox && time.is_none() {
        let what =
            "the package is a Cox model, which is measured against times: the specification names no time".into();
        return Err(CohortError::Spec { what });
    }
    let mut known: BTreeMap<ClinicalKey, Vec<Option<f64>>> = BTreeMap::new();
    for key in ClinicalKey::ALL {
        let column = spec.values.get(key.name()).map_or(key.name(), String::as_str);
        if spec.values.contains_key(key.name()) || clinical.header.iter().any(|h| h == column) {
            known.insert(key, clinical.numbers(column)?.values);
        }
    }
    let mut features: BTreeMap<String, BTreeMap<(&'static str, String), f64>> = BTreeMap::new();
    for file in &spec.features {
        let frame = table(file)?;
        let feature_ids = frame.rows_by_id(&spec.id)?;
        let (names, values) = frame.matrix(|name| region_of(name).is_some() && !name.contains("diagnostics_"))?;
        for (row, id) in feature_ids.into_iter().enumerate() {
            let of_patient = features.entry(id).or_default();
            for (column, name) in names.iter().enumerate() {
                if let Some((region, feature)) = region_of(name) {
                    of_patient.insert((region, feature.to_owned()), values[[row, column]]);
                }
            }
        }
    }
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    let mut outside: BTreeMap<String, usize> = BTreeMap::new();
    let mut all: Vec<(String, bool, Option<f64>, f64)> = Vec::new();
    for (row, id) in ids.iter().enumerate() {
        let value = |key: ClinicalKey| known.get(&key).and_then(|v| v[row]);
        let flag = |key| value(key).map(|v| v == 1.0);
        let values = ClinicalValues {
            afp_ng_per_ml: value(ClinicalKey::AfpNgPerMl),
            dissected_lymph_nodes: value(ClinicalKey::DissectedLymphNodes).filter(|v| *v >= 0.0).map(|v| v as u32),
            perineural_invasion: flag(ClinicalKey::PerineuralInvasion),
            tumor_nodules: flag(ClinicalKey::TumorNodules),
        };
        let of_patient = features.get(id);
        let feature = |region: &str, name: &str| {
            of_patient?.iter().find(|((r, n), _)| *r == region && n == name).map(|(_, v)| *v).filter(|v| v.is_finite())
        };
        let Some(event) = event[row] else {
            *refused.entry("outcome missing".into()).or_default() += 1;
            continue;
        };
        let month = time.as_ref().map(|t| t[row]);
        if month == Some(None) {
            *refused.entry("time missing".into()).or_default() += 1;
            continue;
        }
        match assess(nomogram, feature, &values) {
            Err(error) => *refused.entry(crate::Explain::code(&error).to_owned()).or_default() += 1,
            Ok(result) => {
                for note in &result.notes {
                    if let Note::OutsideTraining { label, .. } = note {
                        *outside.entry(label.clone()).or_default() += 1;
                    }
                }
                // The linear predictors of a Cox package's variants have baselines of their own; on this scale they have one.
                let lp = match nomogram.link {
                    Link::Logistic => result.linear_predictor,
                    Link::Cox => complementary_log_log(result.probability.clamp(1e-15, 1.0 - 1e-15)),
                };
                all.push((result.variant, event == 1.0, month.flatten(), lp));
            }
        }
    }
    let scale = match nomogram.link {
        Link::Logistic => Scale::Odds,
        Link::Cox => Scale::Hazard { month: nomogram.horizon_months, survival: (-1f64).exp() },
    };
    let scored = |name: &str, of: &dyn Fn(&str) -> bool| {
        let rows: Vec<_> = all.iter().filter(|r| of(&r.0)).collect();
        Scored {
            part: name.to_owned(),
            development: false,
            event: rows.iter().map(|r| r.1).collect(),
            time: spec.time.as_ref().map(|_| rows.iter().filter_map(|r| r.2).collect()),
            lp: rows.iter().map(|r| r.3).collect(),
            scale,
        }
    };
    let everybody = scored("new patients", &|_| true);
    if everybody.event.is_empty() {
        return Err(CohortError::TooLittle { what: "no patient has both a risk and an outcome".into() });
    }
    let mut variants: BTreeMap<&str, usize> = BTreeMap::new();
    all.iter().for_each(|r| *variants.entry(&r.0).or_default() += 1);
    let mut by_variant = Vec::new();
    if variants.len() > 1 {
        for name in variants.keys() {
            by_variant.push(validate::performance(
                "package",
                &scored(&format!("variant {name}"), &|v| v == *name),
                None,
                None,
            )?);
        }
    }
    let evaluation = Evaluation {
        schema: "metwatch.cohort-evaluation/1",
        disclaimer: crate::DISCLAIMER,
        version: env!("CARGO_PKG_VERSION"),
        nomogram: nomogram.id.clone(),
        nomogram_version: nomogram.version.clone(),
        manifest_sha256: nomogram.manifest_sha256.clone(),
        outcome: nomogram.outcome.clone(),
        rows: ids.len(),
        assessed: everybody.event.len(),
        events: everybody.event.iter().filter(|e| **e).count(),
        refused: refused.into_iter().collect(),
        variants: variants.into_iter().map(|(name, n)| (name.to_owned(), n)).collect(),
        outside_training: outside.into_iter().collect(),
        performance: validate::performance("package", &everybody, None, None)?,
        by_variant,
        recalibration: recalibrate(&everybody),
    };
    let html = super::report::evaluation_html(&evaluation, &everybody);
    Ok((evaluation, html))
}

/// What a recalibration would be; `None` where the patients do not allow one.
fn recalibrate(scored: &Scored) -> Option<Recalibration> {
    let Some(month) = scored.scale.month() else {
        let shift = calibration::in_the_large(&scored.event, &scored.lp).ok()?;
        let (intercept, slope) = calibration::recalibrate(&scored.event, &scored.lp).ok()?;
        return Some(Recalibration {
            scale: scored.scale.unit(),
            shift: shift.value,
            intercept: intercept.value,
            slope: slope.value,
            standard_errors: [intercept.standard_error, slope.standard_error],
        });
    };
    let found = super::validate_survival::calibrate(scored, month, None)?;
    let lp = Array2::from_shape_fn((scored.lp.len(), 1), |(i, _)| scored.lp[i]);
    let fit = cox::cox(lp.view(), scored.time.as_ref()?, &scored.codes(), None, cox::Ties::Efron).ok()?;
    let baseline = fit.predict(array![0.0].view(), 0, f64::from(month)).ok()?;
    let hazard = -baseline.survival.ln();
    let recalibration = Recalibration {
        scale: "ln(-ln(1 - risk))",
        shift: complementary_log_log(found.observed_risk?[0]) - complementary_log_log(found.mean_risk),
        intercept: hazard.ln(),
        slope: fit.coefficients[0],
        // By the delta method, from the error of the cumulative hazard.
        standard_errors: [baseline.se_cumulative_hazard / hazard, fit.standard_errors()[0]],
    };
    [recalibration.shift, recalibration.intercept].iter().all(|v| v.is_finite()).then_some(recalibration)
}
