//! The analysis from texts to results, step by step.

use super::describe::{PriorCorrection, SampleSize, log_odds, sample_size, sample_size_survival, table_one};
use super::fit_nomogram::{axes, nomogram_of};
use super::harmonize::{Harmonized, harmonize};
use super::hazards::complete_cox;
use super::join::{Cohort, Texts};
use super::models::{Design, Hazards, Model, Training, profile_limits};
use super::nomogram_axes::{Nomogram, ScaleAxis};
use super::procedure::{Procedure, Setting, run, run_models, training};
use super::reduce::{Patients, Ranked};
use super::resample::{bootstrap, learning_curve};
use super::results::*;
use super::spec::{CutOffRule, Family, Icc, Kind, Spec};
use super::validate::{Performance, Scored};
use super::{CohortError, validate, validate_survival, warnings::warn};
use crate::statistics::reliability::{IccForm, MeanSquares};
use crate::statistics::time_dependent::Censoring;
use crate::statistics::{attribution, calibration, competing, cox, cut_off, kaplan_meier, roc};
use ndarray::{Array1, Array2, Axis};
use sha2::{Digest, Sha256};

/// A finished analysis.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// The specification.
    pub spec: Spec,
    /// All patients.
    pub cohort: Cohort,
    /// Features as they entered the model (harmonized if that was wanted).
    pub features: Array2<f64>,
    /// ComBat, if that was wanted.
    pub harmonized: Option<Harmonized>,
    /// Clinical columns.
    pub design: Design,
    /// Training patients with their folds.
    pub training: Patients,
    /// Features that are stable.
    pub stable: Vec<usize>,
    /// Everything fitted.
    pub procedure: Procedure,
    /// Axes of the main model.
    pub nomogram: Option<(Nomogram, Vec<ScaleAxis>)>,
    /// SHAP values of the main model.
    pub shap: Shap,
    /// Every number of the report.
    pub results: Results,
}

/// SHAP values in log odds: coefficient times distance from the training mean.
#[derive(Debug, Clone)]
pub struct Shap {
    /// Name of each contribution: clinical columns, then features.
    pub names: Vec<String>,
    /// Shape (patients, contributions).
    pub values: Array2<f64>,
    /// What the contributions come from, for colors. Shape (patients, contributions).
    pub inputs: Array2<f64>,
    /// Mean linear predictor in training, to which they add up.
    pub base: f64,
}

/// Runs the whole analysis. `progress` hears (step, share of the step from 0 to 1).
pub fn fit(
    spec: &Spec,
    spec_text: &str,
    texts: &Texts,
    progress: &(dyn Fn(&'static str, f64) + Sync),
) -> Result<Fitted, CohortError> {
    progress("reading", 0.0);
    let cohort = Cohort::join(spec, texts)?;
    let mut warnings = cohort.notes.clone();
    progress("stability", 0.0);
    let icc = stability(spec, &cohort)?;
    let stable: Vec<usize> = (0..cohort.feature_names.len())
        .filter(|i| match (&icc, spec.filters.icc_min) {
            (Some(icc), Some(limit)) => icc[*i].is_some_and(|v| v >= limit),
            _ => true,
        })
        .collect();
    let (features, harmonized) = harmonize(spec, &cohort, &cohort.rows(0))?;
    let design = Design::new(&cohort.terms, cohort.part.len());
    let ranked = Ranked::new(&cohort, features.view(), &stable)?;
    let setting =
        Setting { spec, cohort: &cohort, features: features.view(), design: &design, stable: &stable, ranked: &ranked };
    let patients = training(setting);
    progress("fitting", 0.0);
    let mut procedure = run(setting, &patients)?;
    if procedure.models.is_empty() {
        return Err(CohortError::TooLittle {
            what: "neither a clinical value nor a feature passed the selection, so there is no model".into(),
        });
    }
    if procedure.reduction.is_none() && !cohort.feature_names.is_empty() {
        warnings.push("No feature passed the filters and got a coefficient: there is no radiomic model.".into());
    }
    complete_models(setting, &patients, &mut procedure)?;
    progress("validating", 0.0);
    let scored =
        |model: &Model, part: usize| Scored::new(&cohort, &cohort.parts[part], &cohort.rows(part), model, part == 0);
    let main = procedure.main().ok_or_else(|| CohortError::TooLittle { what: "there is no model".into() })?.clone();
    let censoring = match &cohort.time {
        Some(time) => {
            let time: Vec<f64> = patients.rows.iter().map(|r| time[*r]).collect();
            let codes: Vec<u8> = patients.event.iter().map(|e| u8::from(*e)).collect();
            Censoring::new(&time, &codes).ok()
        }
        None => None,
    };
    let cut_off = cut_off_of(spec, &scored(&main, 0), censoring.as_ref())?;
    let months = &spec.validation.horizon_months;
    let with_censoring = censoring.as_ref().map(|c| (c, months.as_slice()));
    let mut results = Results {
        schema: "metwatch.cohort/1",
        disclaimer: crate::DISCLAIMER,
        version: env!("CARGO_PKG_VERSION"),
        title: spec.study.title.clone(),
        outcome: spec.study.outcome.clone(),
        simulated: spec.study.simulated,
        paper_mode: spec.analysis.paper_mode,
        seed: spec.analysis.seed,
        inputs: hashes(spec_text, texts),
        flow: cohort.flow.clone(),
        table_one_groups: Vec::new(),
        table_one: Vec::new(),
        features: feature_results(spec, &cohort, &stable, &procedure, icc.as_deref()),
        penalized: penalized_results(spec, &cohort, &procedure, &patients),
        clinical_selection: procedure.selection.clone(),
        models: procedure.models.clone(),
        performance: Vec::new(),
        by_center: Vec::new(),
        by_subgroup: Vec::new(),
        other_way: Vec::new(),
        comparisons: Vec::new(),
        survival_groups: Vec::new(),
        decision_curves: Vec::new(),
        competing: Vec::new(),
        bootstrap: None,
        learning_curve: Vec::new(),
        sample_size: None,
        prior: None,
        shap_importance: Vec::new(),
        nomogram: Vec::new(),
        warnings: Vec::new(),
        cut_off: Some(cut_off.clone()),
    };
    (results.table_one_groups, results.table_one) = table_one(&cohort);
    for part in 0..cohort.parts.len() {
        for model in &procedure.models {
            let cut = (model.name == main.name).then_some(cut_off.lp);
            results.performance.push(validate::performance(&model.name, &scored(model, part), cut, with_censoring)?);
            results.decision_curves.extend(validate::net_benefit(&model.name, &scored(model, part))?);
        }
        for other in procedure.models.iter().filter(|m| m.name != main.name) {
            let names = [main.name.as_str(), other.name.as_str()];
            results.comparisons.extend(validate::compare(names, &scored(&main, part), &scored(other, part))?);
        }
        results.survival_groups.extend(validate::survival_groups(&scored(&main, part), cut_off.lp)?);
        results.competing.extend(competing_result(spec, &cohort, &main, part, cut_off.lp));
    }
    (results.by_center, results.by_subgroup) = groups(&cohort, &main, cut_off.lp, with_censoring)?;
    results.other_way = other_way(setting, &patients, &procedure, with_censoring)?;
    results.sample_size = planned_size(&cohort, &design, &stable, &patients, &main);
    results.prior = prior(spec, &cohort, &patients, &main);
    if spec.validation.learning_curve && cohort.parts.len() > 1 {
        progress("learning curve", 0.0);
        results.learning_curve = learning_curve(setting, &patients);
    }
    if spec.validation.bootstrap > 0 {
        results.bootstrap = bootstrap(setting, &procedure, &patients, &|share| progress("bootstrap", share));
    }
    let shap = shap_values(&cohort, &features, &design, &patients, &procedure, &main)?;
    results.shap_importance = importance(&shap, &patients);
    let nomogram = nomogram_of(spec, &cohort, &design, &procedure, &main, &patients, results.prior.as_ref());
    results.nomogram = nomogram.iter().flat_map(|(n, scales)| axes(n, scales)).collect();
    warnings.extend(warn(&cohort, &features, &stable, &patients, &procedure, &results));
    results.warnings = warnings;
    Ok(Fitted {
        spec: spec.clone(),
        features,
        harmonized,
        design,
        training: patients,
        stable,
        procedure,
        nomogram,
        shap,
        results,
        cohort,
    })
}

/// sha256 of every table and of the specification.
fn hashes(spec_text: &str, texts: &Texts) -> Vec<(String, String)> {
    let hex = |text: &str| Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut all = vec![("specification".to_owned(), hex(spec_text))];
    all.extend(texts.iter().map(|(name, text)| (name.clone(), hex(text))));
    all
}

/// ICC of every feature between the two segmentations; `None` without a second one.
fn stability(spec: &Spec, cohort: &Cohort) -> Result<Option<Vec<Option<f64>>>, CohortError> {
    let (Some([first, second]), Some(_)) = (&cohort.repeats, spec.filters.icc_min) else { return Ok(None) };
    use rayon::prelude::*;
    let one = |j: usize| {
        let both = first.column(j).into_iter().zip(second.column(j)).filter(|(a, b)| a.is_finite() && b.is_finite());
        let pairs: Vec<[f64; 2]> = both.map(|(a, b)| [*a, *b]).collect();
        let ratings = Array2::from_shape_fn((pairs.len(), 2), |(i, k)| pairs[i][k]);
        let form = match spec.filters.icc {
            Icc::Agreement => IccForm::Agreement,
            Icc::Consistency => IccForm::Consistency,
        };
        MeanSquares::new(ratings.view()).ok()?.value(form)
    };
    Ok(Some((0..first.ncols()).into_par_iter().map(one).collect()))
}

/// Profile limits and proportional hazards, which only the final models get.
fn complete_models(setting: Setting, patients: &Patients, procedure: &mut Procedure) -> Result<(), CohortError> {
    let Setting { spec, cohort, design, .. } = setting;
    let y = patients.y();
    let score: Option<Vec<f64>> = procedure.reduction.as_ref().map(|r| {
        if spec.analysis.paper_mode {
            patients.rows.iter().map(|row| r.score[*row]).collect()
        } else {
            r.out_of_fold.clone()
        }
    });
    for model in &mut procedure.models {
        let rad_score = score.as_deref().filter(|_| model.with_rad_score);
        let hazards = patients.time.as_deref().map(|time| Hazards { time, month: spec.risk_month() });
        let training = Training { rows: &patients.rows, y: &y, rad_score, hazards };
        model.profile = profile_limits(model, design, training);
        model.cox = complete_cox(model, design, cohort, training, &spec.validation.horizon_months)?;
    }
    Ok(())
}

fn feature_results(
    spec: &Spec,
    cohort: &Cohort,
    stable: &[usize],
    procedure: &Procedure,
    icc: Option<&[Option<f64>]>,
) -> FeatureResults {
    let name = |i: &usize| cohort.feature_names[*i].clone();
    let mut found = FeatureResults::default();
    if cohort.feature_names.is_empty() {
        return found;
    }
    found.steps.push(("measured".into(), cohort.feature_names.len()));
    if let Some(icc) = icc {
        found.steps.push(("stable".into(), stable.len()));
        found.icc = cohort.feature_names.iter().cloned().zip(icc.iter().copied()).collect();
    }
    if let Some(reduction) = &procedure.reduction {
        if spec.filters.univariable_p_max.is_some() {
            found.steps.push(("univariable filter".into(), reduction.univariable.len()));
        }
        if spec.filters.correlation_max.is_some() {
            found.steps.push(("correlation filter".into(), reduction.uncorrelated.len()));
        }
        if reduction.offered.len() < reduction.uncorrelated.len() {
            found.steps.push(("mRMR".into(), reduction.offered.len()));
        }
        found.steps.push(("coefficient".into(), reduction.selected.len()));
        found.p = stable.iter().map(name).zip(reduction.p.iter().copied()).collect();
        found.after_univariable = reduction.univariable.iter().map(name).collect();
        found.after_correlation = reduction.uncorrelated.iter().map(name).collect();
        found.after_mrmr = reduction.offered.iter().map(name).collect();
    }
    found
}

fn penalized_results(
    spec: &Spec,
    cohort: &Cohort,
    procedure: &Procedure,
    patients: &Patients,
) -> Option<PenalizedResults> {
    let reduction = procedure.reduction.as_ref()?;
    let cv = &reduction.cv;
    Some(PenalizedResults {
        family: if spec.penalized.family == Family::Cox { "cox" } else { "binomial" },
        lambda: cv.path.lambdas.clone(),
        mean: cv.mean.clone(),
        standard_error: cv.standard_error.clone(),
        nonzero: cv.path.counts(),
        deviance_ratio: cv.path.deviance_ratios.clone(),
        optimality: cv.path.optimality.iter().copied().fold(0.0, f64::max),
        index_min: cv.index_min,
        index_1se: cv.index_1se,
        index: reduction.index,
        intercept: reduction.intercept,
        coefficients: reduction
            .selected
            .iter()
            .map(|(k, coefficient)| RadTerm {
                name: cohort.feature_names[reduction.offered[*k]].clone(),
                coefficient: *coefficient,
                center: reduction.center[*k],
                scale: reduction.scale[*k],
            })
            .collect(),
        folds: patients.folds.clone(),
    })
}

fn cut_off_of(spec: &Spec, training: &Scored, censoring: Option<&Censoring>) -> Result<CutOff, CohortError> {
    let at = || CohortError::at("the cut-off");
    let month = training.scale.month();
    let (lp, sensitivity, specificity) = match month {
        Some(month) => validate_survival::youden(training, month, censoring),
        None => validate::youden(training),
    }
    .map_err(at())?;
    let probability = |lp: f64| training.scale.risk(lp);
    let by_youden = CutOff { rule: "youden", lp, probability: probability(lp), sensitivity, specificity, p: None };
    let (CutOffRule::Maxstat, Some(time)) = (spec.validation.cut_off, &training.time) else { return Ok(by_youden) };
    let found = cut_off::cut_off(time, &training.codes(), &training.lp, (0.1, 0.9)).map_err(at())?;
    // Patients up to the cut-off are the lower group, ours is high from the threshold on: the next larger predictor.
    let next = training.lp.iter().copied().filter(|v| *v > found.cut_off).fold(f64::INFINITY, f64::min);
    let lp = if next.is_finite() { (found.cut_off + next) / 2.0 } else { found.cut_off };
    let at_month = month.and_then(|month| validate_survival::at_horizon(training, month, lp, censoring));
    let (sensitivity, specificity) = match at_month {
        Some(found) => (found.sensitivity, found.specificity),
        None => {
            let table = roc::Classification::at(&training.event, &training.lp, lp, roc::Direction::CasesHigher);
            let table = table.map_err(at())?;
            (table.sensitivity().unwrap_or(0.0), table.specificity().unwrap_or(0.0))
        }
    };
    let p = Some(found.p_lausen_1992);
    Ok(CutOff { rule: "maxstat", lp, probability: probability(lp), sensitivity, specificity, p })
}

fn competing_result(spec: &Spec, cohort: &Cohort, main: &Model, part: usize, cut: f64) -> Option<CompetingResult> {
    spec.outcome.competing_code?;
    let time = cohort.time.as_ref()?;
    let rows = cohort.rows(part);
    let times: Vec<f64> = rows.iter().map(|r| time[*r]).collect();
    let states: Vec<u8> = rows.iter().map(|r| cohort.state[*r]).collect();
    let group: Vec<usize> = rows.iter().map(|r| usize::from(main.lp[*r] >= cut)).collect();
    let gray = competing::gray_test(&times, &states, &group, None, 1, 0.0).ok().map(|t| [t.chi_squared, t.p]);
    let incidence = [0, 1].map(|wanted| {
        let of: Vec<usize> = (0..rows.len()).filter(|i| group[*i] == wanted).collect();
        let pick_time: Vec<f64> = of.iter().map(|i| times[*i]).collect();
        let pick_state: Vec<u8> = of.iter().map(|i| states[*i]).collect();
        let curve = competing::cumulative_incidence(&pick_time, &pick_state, 1).ok();
        let months = spec.validation.horizon_months.iter();
        months.filter_map(|m| Some((*m, curve.as_ref()?.at(f64::from(*m))?.0))).collect()
    });
    Some(CompetingResult { part: cohort.parts[part].clone(), gray, incidence })
}

/// The main model by center (all parts), and by subgroup among the validation patients.
fn groups(
    cohort: &Cohort,
    main: &Model,
    cut: f64,
    censoring: Option<(&Censoring, &[u32])>,
) -> Result<(Vec<Performance>, Vec<Performance>), CohortError> {
    let mut by_center = Vec::new();
    let of = |rows: Vec<usize>, name: String| {
        let scored = Scored::new(cohort, &name, &rows, main, false);
        validate::performance(&main.name, &scored, Some(cut), censoring)
    };
    if let Some(center) = &cohort.center {
        for part in 0..cohort.parts.len() {
            let mut names: Vec<&String> = cohort.rows(part).iter().map(|r| &center[*r]).collect();
            names.sort();
            names.dedup();
            for name in names {
                let rows: Vec<usize> = cohort.rows(part).into_iter().filter(|r| &center[*r] == name).collect();
                by_center.push(of(rows, format!("{}, center {name}", cohort.parts[part]))?);
            }
        }
    }
    let mut by_subgroup = Vec::new();
    let validation: Vec<usize> = (0..cohort.part.len()).filter(|r| cohort.part[*r] != 0).collect();
    for (column, values) in &cohort.subgroups {
        let mut classes: Vec<&String> = validation.iter().filter_map(|r| values[*r].as_ref()).collect();
        classes.sort();
        classes.dedup();
        // A column of numbers would give a subgroup for each patient.
        for class in classes.into_iter().take(12) {
            let rows = validation.iter().copied().filter(|r| values[*r].as_ref() == Some(class)).collect();
            by_subgroup.push(of(rows, format!("{column} {class}"))?);
        }
    }
    Ok((by_center, by_subgroup))
}

/// The main model fitted on the other kind of rad-scores, to show what that choice does.
fn other_way(
    setting: Setting,
    patients: &Patients,
    fitted: &Procedure,
    censoring: Option<(&Censoring, &[u32])>,
) -> Result<Vec<Performance>, CohortError> {
    let mut spec = setting.spec.clone();
    spec.analysis.paper_mode = !spec.analysis.paper_mode;
    let procedure = run_models(Setting { spec: &spec, ..setting }, patients, fitted.reduction.clone())?;
    let Some(main) = procedure.main().filter(|m| m.with_rad_score) else { return Ok(Vec::new()) };
    let cohort = setting.cohort;
    (0..cohort.parts.len())
        .map(|part| {
            let scored = Scored::new(cohort, &cohort.parts[part], &cohort.rows(part), main, part == 0);
            validate::performance(&main.name, &scored, None, censoring)
        })
        .collect()
}

fn planned_size(
    cohort: &Cohort,
    design: &Design,
    stable: &[usize],
    patients: &Patients,
    main: &Model,
) -> Option<SampleSize> {
    let n = patients.rows.len();
    let events = patients.event.iter().filter(|e| **e).count();
    let parameters = design.names.len() + usize::from(!cohort.feature_names.is_empty());
    let candidates = design.names.len() + stable.len();
    let share = events as f64 / n as f64;
    let null = match &patients.time {
        None => -2.0 * (events as f64 * share.ln() + (n - events) as f64 * (1.0 - share).ln()),
        Some(time) => {
            let codes: Vec<u8> = patients.event.iter().map(|e| u8::from(*e)).collect();
            let nobody = Array2::zeros((n, 0));
            -2.0 * cox::cox(nobody.view(), time, &codes, None, cox::Ties::Efron).ok()?.log_likelihood[0]
        }
    };
    let r2 = 1.0 - (-main.likelihood_ratio(null) / n as f64).exp();
    let followed = patients.time.as_ref().zip(main.scale.month());
    match followed {
        None => sample_size(candidates, parameters, n, events, r2),
        Some((time, month)) => {
            let total: f64 = time.iter().sum();
            sample_size_survival(candidates, parameters, (n, events, total), f64::from(month), r2)
        }
    }
}

/// Shift of the linear predictor from the incidence of training to the local one: of log odds, or of the log cumulative hazard up to
/// the month of a Cox model.
fn prior(spec: &Spec, cohort: &Cohort, patients: &Patients, main: &Model) -> Option<PriorCorrection> {
    let local = spec.validation.local_incidence?;
    let (share, shift) = match (main.scale.month(), &patients.time) {
        (Some(month), Some(time)) => {
            let codes: Vec<u8> = patients.event.iter().map(|e| u8::from(*e)).collect();
            let curve = kaplan_meier::kaplan_meier(time, &codes, kaplan_meier::Band::LogLog, 0.95).ok()?;
            let share = 1.0 - curve.survival_at(f64::from(month));
            let level = calibration::complementary_log_log;
            (share, level(local) - level(share))
        }
        _ => {
            let share = patients.event.iter().filter(|e| **e).count() as f64 / patients.rows.len() as f64;
            (share, log_odds(local) - log_odds(share))
        }
    };
    let last = cohort.parts.len() - 1;
    let rows: Vec<usize> = (0..cohort.part.len()).filter(|r| cohort.part[*r] != 0 || last == 0).collect();
    let mean = |shift: f64| {
        let risks = rows.iter().map(|r| main.scale.risk(main.lp[*r] + shift));
        risks.sum::<f64>() / rows.len() as f64
    };
    let found = PriorCorrection {
        training_incidence: share,
        local_incidence: local,
        shift,
        mean_risk: [mean(0.0), mean(shift)],
    };
    found.shift.is_finite().then_some(found)
}

fn shap_values(
    cohort: &Cohort,
    features: &Array2<f64>,
    design: &Design,
    patients: &Patients,
    procedure: &Procedure,
    main: &Model,
) -> Result<Shap, CohortError> {
    let columns = design.columns_of(&main.terms);
    let mut names: Vec<String> = Vec::new();
    let mut parts: Vec<(f64, Vec<f64>)> = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        names.push(label_of(cohort, &design.names[*column]));
        parts.push((main.slopes()[index], design.x.column(*column).to_vec()));
    }
    if let (true, Some(reduction)) = (main.with_rad_score, &procedure.reduction) {
        let weight = main.coefficients[main.coefficients.len() - 1];
        for (k, coefficient) in &reduction.selected {
            let feature = reduction.offered[*k];
            names.push(cohort.feature_names[feature].clone());
            parts.push((weight * coefficient / reduction.scale[*k], features.column(feature).to_vec()));
        }
    }
    let inputs = Array2::from_shape_fn((cohort.part.len(), parts.len()), |(row, j)| parts[j].1[row]);
    let weights: Array1<f64> = parts.iter().map(|(weight, _)| *weight).collect();
    let means = inputs.select(Axis(0), &patients.rows).mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(parts.len()));
    // What does not depend on the inputs: the linear predictor of anybody less the weighted inputs.
    let constant = main.lp[0] - inputs.row(0).dot(&weights);
    let found = attribution::linear(constant, weights.view(), means.view(), inputs.view());
    let found = found.map_err(CohortError::at("SHAP values"))?;
    Ok(Shap { names, values: found.values, inputs, base: found.base })
}

/// The label of the term to which a column belongs.
pub(super) fn label_of(cohort: &Cohort, column: &str) -> String {
    for term in &cohort.terms {
        if let Some(index) = term.columns().iter().position(|c| c == column) {
            let label = term.candidate.label();
            return match term.candidate.kind {
                Kind::Log => format!("ln {label}"),
                Kind::Factor => format!("{label}: {}", term.candidate.levels[index + 1]),
                Kind::Spline => format!("{label}{}", "′".repeat(index)),
                _ => label.to_owned(),
            };
        }
    }
    column.to_owned()
}

fn importance(shap: &Shap, patients: &Patients) -> Vec<(String, f64)> {
    let mean =
        |j: usize| patients.rows.iter().map(|r| shap.values[[*r, j]].abs()).sum::<f64>() / patients.rows.len() as f64;
    let mut all: Vec<(String, f64)> = shap.names.iter().enumerate().map(|(j, n)| (n.clone(), mean(j))).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all
}
