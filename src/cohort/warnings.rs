//! What an analysis notices about itself.

use super::join::Cohort;
use super::procedure::Procedure;
use super::reduce::Patients;
use super::results::Results;
use super::validate::Performance;
use super::validate_survival::SurvivalCalibration;
use crate::statistics::roc;
use ndarray::Array2;

/// An AUC above this in training is hard to believe of a risk that lies in the future.
const AUC_PLAUSIBLE: f64 = 0.95;
/// A single feature with at least this AUC is more likely the outcome in disguise.
const AUC_LEAK: f64 = 0.98;

/// What is off with the risks of a Cox model as a whole.
fn survival_warning(main: &str, part: &str, found: &SurvivalCalibration) -> Option<String> {
    let month = found.month;
    match (found.observed_risk, found.expected_over_observed) {
        (None, _) => Some(format!(
            "Nobody of {part} is followed up to {month} months, so the risk of the {main} model up to then could not be checked there; choose an earlier validation.risk_month."
        )),
        (Some([observed, ..]), Some(ratio)) if !(0.7..=1.4).contains(&ratio) => Some(format!(
            "The {main} model expects {:.0} % with the event up to {month} months in {part}; observed are {:.0} %: risks are off as a whole.",
            100.0 * found.mean_risk,
            100.0 * observed
        )),
        _ => None,
    }
}

/// Sentences for the report.
pub fn warn(
    cohort: &Cohort,
    features: &Array2<f64>,
    stable: &[usize],
    patients: &Patients,
    procedure: &Procedure,
    results: &Results,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let training_part = &cohort.parts[0];
    let auc = |event: &[bool], values: &[f64]| roc::auc(event, values).map(|a| a.max(1.0 - a)).unwrap_or(0.5);
    let leaks: Vec<&String> = stable
        .iter()
        .filter(|j| {
            let values: Vec<f64> = patients.rows.iter().map(|r| features[[*r, **j]]).collect();
            auc(&patients.event, &values) >= AUC_LEAK
        })
        .map(|j| &cohort.feature_names[*j])
        .collect();
    for name in leaks.iter().take(5) {
        warnings.push(format!("Leakage: the feature {name} alone tells events from the others (AUC {AUC_LEAK} or more). Is it the outcome, or measured after it?"));
    }
    for term in &cohort.terms {
        let values: Vec<f64> = patients.rows.iter().map(|r| term.raw[*r]).collect();
        if auc(&patients.event, &values) >= AUC_LEAK {
            warnings.push(format!(
                "Leakage: {} alone tells events from the others. Is it the outcome, or known only after it?",
                term.candidate.label()
            ));
        }
    }
    for (model, p) in procedure
        .models
        .iter()
        .filter(|m| m.scale.month().is_some())
        .filter_map(|m| Some((m, m.cox.as_ref()?.proportionality_p?)))
    {
        if p < 0.01 {
            warnings.push(format!("The hazards of the {} model are not proportional ({}): an effect changes with time, and hazard ratios are averages.", model.name, super::report::p_text(p)));
        }
    }
    for model in procedure.models.iter().filter(|m| m.firth) {
        warnings.push(format!(
            "The {} model separates the training outcome; Firth's penalty was used, and its intervals are wide.",
            model.name
        ));
    }
    let main = procedure.main().map_or("", |m| m.name.as_str());
    let measure = procedure.main().map_or("AUC", |m| m.scale.measure());
    for performance in results.performance.iter().filter(|p| p.model == main) {
        let Performance { part, calibration, n, events, .. } = performance;
        if let Some([found, ..]) = performance.discrimination().filter(|a| a[0] > AUC_PLAUSIBLE) {
            warnings.push(format!("The {measure} of the {main} model in {part} is {found:.3}: above what a future event lets expect. Look at optimism and leakage before believing it."));
        }
        if let Some(slope) = performance.slope().filter(|s| *s < 0.8 && part != training_part) {
            warnings.push(format!("The calibration slope of the {main} model in {part} is {slope:.2}, below 0.8: predictions are too extreme there."));
        }
        if let Some(shift) =
            calibration.as_ref().map(|c| c.in_the_large).filter(|c| c.abs() > 0.5 && part != training_part)
        {
            warnings.push(format!("Calibration in the large of the {main} model in {part} is {shift:+.2} log odds: risks are off as a whole."));
        }
        if let Some(survival) = &performance.survival_calibration {
            warnings.extend(survival_warning(main, part, survival));
            if *part != *training_part && *events < 50 {
                warnings.push(format!("The part {part} has {events} events; validation wants about 100."));
            }
        } else if *part != *training_part && (*events).min(n - events) < 50 {
            warnings.push(format!(
                "The part {part} has {events} events among {n} patients; validation wants about 100 of each class."
            ));
        }
    }
    let of = |part: &str| {
        results.performance.iter().find(|p| p.model == main && p.part == part)?.discrimination().map(|a| a[0])
    };
    let worst = cohort.parts[1..].iter().filter_map(|p| Some((p, of(p)?))).min_by(|a, b| a.1.total_cmp(&b.1));
    if let (Some(apparent), Some((part, least))) = (of(training_part), worst)
        && apparent - least > 0.1
    {
        warnings.push(format!("The {measure} falls from {apparent:.3} in training to {least:.3} in {part}: much of the training value is optimism."));
    }
    if let Some(size) = &results.sample_size {
        if size.events_per_candidate < 10.0 {
            warnings.push(format!("{:.2} events per candidate parameter ({} were offered), where 10 is a common minimum: the selection would differ in another sample.", size.events_per_candidate, size.candidate_parameters));
        }
        if (patients.rows.len() as f64) < size.n_needed {
            warnings.push(format!("Training has {} patients; the criteria of Riley et al. ask for {:.0} even for {} parameters (clinical values and one rad-score).", patients.rows.len(), size.n_needed, size.final_parameters));
        }
    }
    if procedure.reduction.as_ref().is_some_and(|r| r.cv.path.limit_met) {
        warnings.push("The penalized path ended early: near saturation there was no finite answer within the limit of iterations.".into());
    }
    if results.paper_mode {
        warnings.push("paper_mode: the combined model was fitted on in-sample rad-scores, which makes its predictions too extreme in new patients.".into());
    }
    let share = patients.event.iter().filter(|e| **e).count() as f64 / patients.rows.len() as f64;
    if results.prior.is_none() && share > 0.3 {
        warnings.push(format!("{:.0} % of the training patients had the event. Where fewer do (15 to 25 % for metachronous liver metastasis) the nomogram over-predicts; state validation.local_incidence to shift it.", share * 100.0));
    }
    warnings
}
