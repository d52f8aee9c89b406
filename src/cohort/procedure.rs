//! The whole procedure on given training patients: what is fitted once, and again in every bootstrap replicate.

use super::CohortError;
use super::clinical::{ClinicalSelection, select_clinical};
use super::harmonize::harmonize;
use super::join::Cohort;
use super::models::{Design, Hazards, Model, Training, fit_model};
use super::random::Random;
use super::reduce::{Patients, Ranked, Reduction, reduce};
use super::spec::{Family, Spec};
use ndarray::ArrayView2;

/// What the procedure needs besides the training patients.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// Specification.
    pub spec: &'a Spec,
    /// All patients.
    pub cohort: &'a Cohort,
    /// Features of all patients, harmonized if wanted.
    pub features: ArrayView2<'a, f64>,
    /// Clinical columns of all patients.
    pub design: &'a Design,
    /// Features that are stable.
    pub stable: &'a [usize],
    /// Their values in training, by rank.
    pub ranked: &'a Ranked,
}

/// Everything that was fitted on some training patients.
#[derive(Debug, Clone)]
pub struct Procedure {
    /// The features' part, if any feature was selected.
    pub reduction: Option<Reduction>,
    /// Clinical selection.
    pub selection: ClinicalSelection,
    /// `clinical`, `radiomic` and `combined`, as far as they exist, in this order.
    pub models: Vec<Model>,
}

impl Procedure {
    /// A model by name.
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|m| m.name == name)
    }

    /// The model that says most: combined, else whichever there is.
    pub fn main(&self) -> Option<&Model> {
        self.models.last()
    }
}

/// Training patients of the cohort with their folds.
pub fn training(setting: Setting) -> Patients {
    let rows = setting.cohort.rows(0);
    let folds = setting.cohort.folds.clone().unwrap_or_else(|| {
        let count = setting.spec.penalized.folds.min(rows.len());
        let mut folds: Vec<usize> = (0..rows.len()).map(|i| i % count).collect();
        Random::new(setting.spec.analysis.seed, u64::MAX).shuffle(&mut folds);
        folds
    });
    patients(setting, (0..rows.len()).map(|place| (place, folds[place], 1.0)).collect())
}

/// Patients from (place among all training patients, fold, weight); folds that lost all their patients are closed up.
pub fn patients(setting: Setting, chosen: Vec<(usize, usize, f64)>) -> Patients {
    let mut used: Vec<usize> = chosen.iter().map(|c| c.1).collect();
    used.sort_unstable();
    used.dedup();
    let cohort = setting.cohort;
    let training = cohort.rows(0);
    let places: Vec<usize> = chosen.iter().map(|c| c.0).collect();
    let rows: Vec<usize> = places.iter().map(|place| training[*place]).collect();
    Patients {
        weights: chosen.iter().map(|c| c.2).collect(),
        folds: chosen.iter().map(|c| used.partition_point(|f| *f < c.1)).collect(),
        event: rows.iter().map(|r| cohort.event[*r]).collect(),
        time: match (setting.spec.penalized.family, &cohort.time) {
            (Family::Cox, Some(time)) => Some(rows.iter().map(|r| time[*r]).collect()),
            _ => None,
        },
        rows,
        places,
    }
}

/// Runs filters, penalized model, clinical selection and the three models.
pub fn run(setting: Setting, patients: &Patients) -> Result<Procedure, CohortError> {
    let Setting { spec, features, stable, ranked, .. } = setting;
    let reduction = if stable.is_empty() { None } else { reduce(features, stable, ranked, patients, spec)? };
    run_models(setting, patients, reduction)
}

/// Runs the whole procedure on a resample: where features are harmonized, ComBat is fitted anew on it.
pub fn run_on_sample(setting: Setting, sample: &Patients) -> Result<Procedure, CohortError> {
    let Setting { spec, cohort, stable, .. } = setting;
    if !spec.harmonization.combat {
        return run(setting, sample);
    }
    let rows: Vec<usize> = sample.expanded().iter().map(|i| sample.rows[*i]).collect();
    let (features, _) = harmonize(spec, cohort, &rows)?;
    let ranked = Ranked::new(cohort, features.view(), stable)?;
    run(Setting { features: features.view(), ranked: &ranked, ..setting }, sample)
}

/// Clinical selection and the three models, the rad-score being there.
pub fn run_models(
    setting: Setting,
    patients: &Patients,
    reduction: Option<Reduction>,
) -> Result<Procedure, CohortError> {
    let Setting { spec, cohort, design, .. } = setting;
    let expanded = patients.expanded();
    let rows: Vec<usize> = expanded.iter().map(|i| patients.rows[*i]).collect();
    let y: Vec<f64> = rows.iter().map(|r| f64::from(u8::from(cohort.event[*r]))).collect();
    let time: Option<Vec<f64>> = patients.time.as_ref().map(|time| expanded.iter().map(|i| time[*i]).collect());
    let hazards = time.as_deref().map(|time| Hazards { time, month: spec.risk_month() });
    let plain = Training { rows: &rows, y: &y, rad_score: None, hazards };
    let selection = select_clinical(&cohort.terms, design, plain, &spec.clinical_model)?;
    let mut models = Vec::new();
    if !selection.terms.is_empty() {
        models.push(fit_model("clinical", design, &selection.terms, plain, None)?);
    }
    if let Some(reduction) = &reduction {
        let of_training: Vec<f64> = if spec.analysis.paper_mode {
            rows.iter().map(|r| reduction.score[*r]).collect()
        } else {
            expanded.iter().map(|i| reduction.out_of_fold[*i]).collect()
        };
        let with_score = Training { rad_score: Some(&of_training), ..plain };
        models.push(fit_model("radiomic", design, &[], with_score, Some(&reduction.score))?);
        if !selection.terms.is_empty() {
            models.push(fit_model("combined", design, &selection.terms, with_score, Some(&reduction.score))?);
        }
    }
    Ok(Procedure { reduction, selection, models })
}
