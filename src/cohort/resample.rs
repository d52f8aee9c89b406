//! The procedure repeated: bootstrap of everything, and the learning curve.

use super::CohortError;
use super::join::Cohort;
use super::models::Model;
use super::procedure::{Procedure, Setting, patients, run_on_sample};
use super::random::Random;
use super::reduce::Patients;
use super::validate::Scored;
use crate::statistics::concordance::PairWeight;
use crate::statistics::time_dependent::{Censoring, brier_score};
use crate::statistics::{calibration, concordance, cox, roc};
use ndarray::Array2;
use rayon::prelude::*;
use serde::Serialize;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Optimism of the whole procedure (Harrell): each replicate draws patients, fits everything again and is judged on its own
/// patients and on the original ones. Copies of a patient stay in one fold.
#[derive(Debug, Clone, Serialize)]
pub struct Bootstrap {
    /// Replicates asked for.
    pub replicates: usize,
    /// Replicates in which nothing could be fitted, with the first reason.
    pub failed: usize,
    /// Why the first of them failed.
    pub first_failure: Option<String>,
    /// Each model with its optimism.
    pub models: Vec<Optimism>,
    /// How often each clinical term was selected, most frequent first.
    pub term_frequency: Vec<(String, f64)>,
    /// How often each feature got a coefficient, most frequent first (at most 40).
    pub feature_frequency: Vec<(String, f64)>,
    /// Mean number of features with a coefficient.
    pub mean_features: f64,
}

/// Optimism of one model.
#[derive(Debug, Clone, Serialize)]
pub struct Optimism {
    /// Model.
    pub model: String,
    /// `AUC`, or `C-index` of a Cox model.
    pub measure: &'static str,
    /// AUC or C-index on the training patients as fitted.
    pub apparent: f64,
    /// Mean of the measure in the replicate less that of the replicate's model on the original patients.
    pub optimism: f64,
    /// 2.5 and 97.5 percentiles of the measure of the replicates' models on the original patients.
    pub on_original: [f64; 2],
    /// Apparent Brier score.
    pub apparent_brier: f64,
    /// Its optimism, negative as a rule.
    pub brier_optimism: f64,
    /// Mean slope of the replicates' models on the original patients.
    pub slope_on_original: f64,
    /// Replicates that had this model.
    pub replicates: usize,
}

/// What one replicate gives for each model: AUC (C-index) and Brier in sample, the same and the slope on the original patients.
struct Replicate {
    models: Vec<Option<[f64; 5]>>,
    terms: Vec<usize>,
    features: Vec<usize>,
}

/// AUC (C-index) and Brier score of a model in some rows, which may repeat.
fn judge(cohort: &Cohort, model: &Model, rows: &[usize]) -> Option<[f64; 2]> {
    let scored = Scored::new(cohort, "", rows, model, true);
    let risks = scored.probabilities();
    match (model.scale.month(), &scored.time) {
        (Some(month), Some(time)) => {
            let codes = scored.codes();
            let survival = Array2::from_shape_fn((risks.len(), 1), |(i, _)| 1.0 - risks[i]);
            let censoring = Censoring::new(time, &codes).ok()?;
            let brier = brier_score(&censoring, time, &codes, survival.view(), &[f64::from(month)]).ok()?[0];
            Some([c_index(time, &codes, &scored.lp)?, brier])
        }
        _ => Some([roc::auc(&scored.event, &scored.lp).ok()?, calibration::brier(&scored.event, &risks).ok()?]),
    }
}

fn c_index(time: &[f64], codes: &[u8], lp: &[f64]) -> Option<f64> {
    Some(concordance::concordance(time, codes, lp, None, PairWeight::Equal, 0.0).ok()?.c)
}

/// Slope of the linear predictor in some rows. Where it tells events and others apart completely there is none.
fn slope(cohort: &Cohort, model: &Model, rows: &[usize]) -> Option<f64> {
    let scored = Scored::new(cohort, "", rows, model, true);
    match (model.scale.month(), &scored.time) {
        (Some(_), Some(time)) => {
            let lp = Array2::from_shape_fn((rows.len(), 1), |(i, _)| scored.lp[i]);
            Some(cox::cox(lp.view(), time, &scored.codes(), None, cox::Ties::Efron).ok()?.coefficients[0])
        }
        _ => Some(calibration::recalibrate(&scored.event, &scored.lp).ok()?.1.value),
    }
}

/// Runs the bootstrap. The replicate decides its random numbers, so any number of threads gives the same result.
pub fn bootstrap(
    setting: Setting,
    fitted: &Procedure,
    training: &Patients,
    progress: &(dyn Fn(f64) + Sync),
) -> Option<Bootstrap> {
    let count = setting.spec.validation.bootstrap;
    let names: Vec<&str> = fitted.models.iter().map(|m| m.name.as_str()).collect();
    let done = AtomicUsize::new(0);
    let replicates: Vec<Result<Replicate, CohortError>> = (0..count)
        .into_par_iter()
        .map(|index| {
            let replicate = replicate(setting, &names, training, index as u64);
            progress((done.fetch_add(1, Ordering::Relaxed) + 1) as f64 / count as f64);
            replicate
        })
        .collect();
    let first_failure = replicates.iter().find_map(|r| r.as_ref().err().map(full_text));
    let good: Vec<Replicate> = replicates.into_iter().filter_map(Result::ok).collect();
    if good.is_empty() {
        return None;
    }
    let models = fitted.models.iter().enumerate().filter_map(|(index, model)| {
        let values: Vec<[f64; 5]> = good.iter().filter_map(|r| r.models[index]).collect();
        let mean = |of: &dyn Fn(&[f64; 5]) -> f64| values.iter().map(of).sum::<f64>() / values.len() as f64;
        let [apparent, brier] = judge(setting.cohort, model, &training.rows)?;
        let mut original: Vec<f64> = values.iter().map(|v| v[2]).collect();
        original.sort_by(f64::total_cmp);
        (!values.is_empty()).then(|| Optimism {
            model: model.name.clone(),
            measure: model.scale.measure(),
            apparent,
            optimism: mean(&|v| v[0] - v[2]),
            on_original: [0.025, 0.975].map(|p| super::nomogram_axes::quantile(&original, p)),
            apparent_brier: brier,
            brier_optimism: mean(&|v| v[1] - v[3]),
            slope_on_original: mean(&|v| v[4]),
            replicates: values.len(),
        })
    });
    let share = |chosen: &dyn Fn(&Replicate) -> &[usize], n: usize, name: &dyn Fn(usize) -> String| {
        let mut counts = vec![0usize; n];
        good.iter().flat_map(|r| chosen(r).iter()).for_each(|i| counts[*i] += 1);
        let mut named: Vec<(String, f64)> = counts
            .iter()
            .enumerate()
            .filter(|c| *c.1 > 0)
            .map(|(i, c)| (name(i), *c as f64 / good.len() as f64))
            .collect();
        named.sort_by(|a, b| b.1.total_cmp(&a.1));
        named
    };
    let cohort = setting.cohort;
    let mut feature_frequency =
        share(&|r| &r.features, cohort.feature_names.len(), &|i| cohort.feature_names[i].clone());
    feature_frequency.truncate(40);
    Some(Bootstrap {
        replicates: count,
        failed: count - good.len(),
        first_failure,
        models: models.collect(),
        term_frequency: share(&|r| &r.terms, cohort.terms.len(), &|i| cohort.terms[i].candidate.name.clone()),
        feature_frequency,
        mean_features: good.iter().map(|r| r.features.len() as f64).sum::<f64>() / good.len() as f64,
    })
}

/// An error with its cause.
fn full_text(error: &CohortError) -> String {
    let source = std::error::Error::source(error).map(|s| format!(": {s}")).unwrap_or_default();
    format!("{error}{source}")
}

fn replicate(setting: Setting, names: &[&str], training: &Patients, index: u64) -> Result<Replicate, CohortError> {
    let n = training.rows.len();
    let mut times = vec![0usize; n];
    Random::new(setting.spec.analysis.seed, index).resample(n).into_iter().for_each(|i| times[i] += 1);
    let drawn = (0..n).filter(|i| times[*i] > 0);
    let sample = patients(setting, drawn.map(|i| (i, training.folds[i], times[i] as f64)).collect());
    let procedure = run_on_sample(setting, &sample)?;
    let in_sample: Vec<usize> = sample.expanded().iter().map(|i| sample.rows[*i]).collect();
    let judged = names.iter().map(|name| {
        let model = procedure.model(name)?;
        let [measure, brier] = judge(setting.cohort, model, &in_sample)?;
        let [measure_original, brier_original] = judge(setting.cohort, model, &training.rows)?;
        let slope = slope(setting.cohort, model, &training.rows)?;
        let values = [measure, brier, measure_original, brier_original, slope];
        values.iter().all(|v| v.is_finite()).then_some(values)
    });
    let models = judged.collect();
    let features = procedure.reduction.as_ref().map(|r| r.selected.iter().map(|(k, _)| r.offered[*k]).collect());
    Ok(Replicate { models, terms: procedure.selection.terms, features: features.unwrap_or_default() })
}

/// A point of the learning curve: mean over draws.
#[derive(Debug, Clone, Serialize)]
pub struct LearningPoint {
    /// Training patients.
    pub n: usize,
    /// Draws that could be fitted.
    pub draws: usize,
    /// AUC (C-index of a Cox model) on the training patients drawn.
    pub training: f64,
    /// The same on all validation patients.
    pub validation: f64,
}

/// Sizes of the learning curve as shares of training, and draws at each.
const LEARNING_SHARES: [f64; 5] = [0.3, 0.45, 0.6, 0.75, 0.9];
const LEARNING_DRAWS: u64 = 6;

/// Refits everything on random parts of training (events and others in the same proportion).
pub fn learning_curve(setting: Setting, training: &Patients) -> Vec<LearningPoint> {
    let cohort = setting.cohort;
    let validation: Vec<usize> = (0..cohort.part.len()).filter(|r| cohort.part[*r] != 0).collect();
    let one = |share: f64, stream: u64| {
        let mut random = Random::new(setting.spec.analysis.seed, stream);
        let mut chosen = Vec::new();
        for class in [true, false] {
            let mut of_class: Vec<usize> = (0..training.rows.len()).filter(|i| training.event[*i] == class).collect();
            random.shuffle(&mut of_class);
            of_class.truncate((share * of_class.len() as f64).round() as usize);
            chosen.extend(of_class);
        }
        chosen.sort_unstable();
        let sample = patients(setting, chosen.iter().map(|i| (*i, training.folds[*i], 1.0)).collect());
        let procedure = run_on_sample(setting, &sample).ok()?;
        let model = procedure.main()?;
        let measure = |rows: &[usize]| {
            let scored = Scored::new(cohort, "", rows, model, false);
            match (model.scale.month(), &scored.time) {
                (Some(_), Some(time)) => c_index(time, &scored.codes(), &scored.lp),
                _ => roc::auc(&scored.event, &scored.lp).ok(),
            }
        };
        Some([measure(&sample.rows)?, measure(&validation)?])
    };
    let jobs: Vec<(usize, u64)> =
        (0..LEARNING_SHARES.len()).flat_map(|s| (0..LEARNING_DRAWS).map(move |d| (s, d))).collect();
    // Streams far from those of the bootstrap.
    let stream = |(s, d): (usize, u64)| (1 << 40) + s as u64 * LEARNING_DRAWS + d;
    let results: Vec<Option<[f64; 2]>> = jobs.par_iter().map(|job| one(LEARNING_SHARES[job.0], stream(*job))).collect();
    let point = |s: usize| {
        let of: Vec<[f64; 2]> =
            jobs.iter().zip(&results).filter(|(job, _)| job.0 == s).filter_map(|(_, r)| *r).collect();
        let mean = |k: usize| of.iter().map(|v| v[k]).sum::<f64>() / of.len() as f64;
        (!of.is_empty()).then(|| LearningPoint {
            n: (LEARNING_SHARES[s] * training.rows.len() as f64).round() as usize,
            draws: of.len(),
            training: mean(0),
            validation: mean(1),
        })
    };
    (0..LEARNING_SHARES.len()).filter_map(point).collect()
}
