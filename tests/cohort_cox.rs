//! The cohort with `family = "cox"` against R's glmnet, survival and rms (`cohort_cox.R`), and the package that comes of it.

use crate::cohort::{close, fit, numbers, simulated};
use crate::common::reference;
use crate::statistics::r;
use metwatch::cohort::{self, Fitted};
use metwatch::risk::{ClinicalValues, GoldenPatient, Nomogram, assess};
use serde_json::Value;
use std::collections::BTreeMap;

/// What the penalized path leaves open between glmnet and us, see `cohort::PATH`.
const PATH: f64 = 5e-4;

fn answers(test: &str) -> Vec<Value> {
    r::answers(test, "cohort_cox.R", "data/r/cohort_cox.json", &[&reference("cohort")])
}

fn cox_spec() -> (cohort::Texts, String) {
    let simulated = simulated();
    let spec = simulated.spec.replace("family = \"binomial\"", "family = \"cox\"");
    let spec = spec.replace("lambda_min_ratio = 0.01", "lambda_min_ratio = 0.05");
    let spec = spec.replace("# risk_month = 36", "risk_month = 36");
    (simulated.texts, spec.replace("local_incidence = 0.20", "# local_incidence = 0.20"))
}

fn fitted(change: impl Fn(String) -> String) -> Fitted {
    let (texts, spec) = cox_spec();
    fit(&texts, &change(spec))
}

#[test]
fn the_papers_way_with_cox_models_gives_what_r_gives_step_by_step() {
    let fitted = fitted(|spec| spec.replace("paper_mode = false", "paper_mode = true"));
    let r = &fitted.results;
    for want in answers("cohort-cox") {
        let steps: Vec<f64> = r.features.steps[1..].iter().map(|(_, n)| *n as f64).collect();
        assert_eq!(steps, numbers(&want["n"]));
        let p: BTreeMap<&str, f64> = r.features.p.iter().map(|(name, p)| (name.as_str(), *p)).collect();
        for (name, value) in want["p"].as_object().unwrap() {
            assert!((p[name.as_str()] / value.as_f64().unwrap() - 1.0).abs() < 1e-6, "{name}: {}", p[name.as_str()]);
        }
        let lasso = r.penalized.as_ref().unwrap();
        assert_eq!(lasso.family, "cox");
        close("lambda", &lasso.lambda, &numbers(&want["lambda"]), 1e-9);
        // Late on the path R's folds are not converged (as in `cohort`), far beyond the penalty that is taken.
        let until = lasso.index_min + 10;
        let (cvm, cvsd) = (numbers(&want["cvm"]), numbers(&want["cvsd"]));
        close("cvm", &lasso.mean[..until], &cvm[..until], 1e-5);
        close("cvsd", &lasso.standard_error[..until], &cvsd[..until], 1e-4);
        close("cvm", &lasso.mean, &cvm, 1e-3);
        assert_eq!(lasso.index_min as f64, numbers(&want["at"])[0]);
        let coefficients = want["coefficients"].as_object().unwrap();
        assert_eq!(coefficients.len(), lasso.coefficients.len());
        for term in &lasso.coefficients {
            close(&term.name, &[term.coefficient], &numbers(&coefficients[&term.name]), PATH);
        }
        let reduction = fitted.procedure.reduction.as_ref().unwrap();
        let score: Vec<f64> = fitted.training.rows.iter().map(|row| reduction.score[*row]).collect();
        close("rad-score", &score, &numbers(&want["rad_score"]), PATH);

        let selection = &r.clinical_selection;
        let ratios: Vec<f64> = selection.univariable.iter().map(|u| u.hazard_ratios[0][0]).collect();
        close("hazard ratios", &ratios, &numbers(&want["alone"]["ratio"]), 1e-7);
        for (u, p) in selection.univariable.iter().zip(numbers(&want["alone"]["p"])) {
            assert!((u.p / p - 1.0).abs() < 1e-6, "{}: {} is not {p}", u.term, u.p);
        }
        let kept: Vec<&str> =
            want["selection"]["kept"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
        assert_eq!(selection.kept, kept);
        let aic: Vec<f64> = selection.aic_start.into_iter().chain(selection.dropped.iter().map(|d| d.1)).collect();
        close("AIC", &aic, &numbers(&want["selection"]["aic"]), 1e-9);

        for model in &r.models {
            check_model(&fitted, model, &want["paper"][&model.name]);
        }
        let cut = r.cut_off.as_ref().unwrap();
        let of = &want["cut_off"];
        close("cut-off", &[cut.lp], &numbers(&of["lp"]), PATH);
        close("its shares", &[cut.sensitivity, cut.specificity], &[f(&of["sensitivity"]), f(&of["specificity"])], 1e-9);
        let groups = &r.survival_groups[0];
        close("n", &groups.n.map(|n| n as f64), &numbers(&of["n"]), 0.0);
        close("observed", &groups.observed, &numbers(&of["obs"]), 1e-9);
        close("log-rank", &[groups.chi_squared], &numbers(&of["chi_squared"]), 1e-8);
        let main = r.performance.iter().find(|p| p.model == "combined").unwrap();
        let risks = main.at_horizon.as_ref().unwrap().observed_risk.map(|v| v.unwrap()[0]);
        close("risk of the groups", &risks, &numbers(&of["risk"]), 1e-9);
        check_nomogram(r, &want["nomogram"]);
    }
}

fn f(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn check_model(fitted: &Fitted, model: &cohort::Model, want: &Value) {
    // Without the rad-score nothing of the penalized path is in it.
    let tolerance = if model.name == "clinical" { 1e-7 } else { PATH };
    let what = |name: &str| format!("{} of the {} model", name, model.name);
    close(&what("coefficients"), &model.coefficients, &numbers(&want["coef"]), tolerance);
    close(&what("errors"), &model.standard_errors, &numbers(&want["se"]), tolerance);
    close(&what("AIC and BIC"), &[model.aic, model.bic], &[f(&want["aic"]), f(&want["bic"])], tolerance);
    let cox = model.cox.as_ref().unwrap();
    let s0: Vec<f64> = cox.baseline_survival.iter().map(|s| s.1).collect();
    close(&what("baseline"), &s0, &numbers(&want["s0"]), tolerance);
    close(&what("proportionality"), &[cox.proportionality_p.unwrap()], &numbers(&want["zph"]), 10.0 * tolerance);
    let lp: Vec<f64> = fitted.training.rows.iter().map(|row| model.lp[*row]).collect();
    close(&what("linear predictors"), &lp, &numbers(&want["lp"]), tolerance);
    assert!(model.odds_ratios.is_empty() && !model.names.contains(&"(Intercept)".to_owned()));
    for p in fitted.results.performance.iter().filter(|p| p.model == model.name) {
        let want = &want["parts"][&p.part];
        let what = |name: &str| format!("{name} of the {} model in {}", model.name, p.part);
        assert!(p.auc.is_none() && p.calibration.is_none());
        close(&what("C"), &p.c_index.unwrap(), &numbers(&want["c"]), tolerance);
        let c = p.survival_calibration.as_ref().unwrap();
        assert_eq!(c.month, 36);
        close(&what("mean risk"), &[c.mean_risk], &numbers(&want["mean_risk"]), tolerance);
        close(&what("observed risk"), &[c.observed_risk.unwrap()[0]], &numbers(&want["observed"]), 1e-9);
        close(&what("Brier"), &[c.brier.unwrap()[0]], &numbers(&want["brier"]), tolerance);
        close(&what("slope"), &c.slope.unwrap(), &numbers(&want["slope"]), tolerance);
        close(&what("distances"), &c.distances.unwrap(), &numbers(&want["distances"]), 4.0 * tolerance);
        // rms has survival where we have risk, so its groups come the other way round.
        // The fifth column, an error, is infinite where nobody is left.
        let row = |group: &Value| group.as_array().unwrap()[..4].iter().map(f).collect();
        let groups: Vec<Vec<f64>> = want["groups"].as_array().unwrap().iter().map(row).collect();
        assert_eq!(groups.len(), c.groups.len());
        for (ours, rms) in c.groups.iter().zip(groups) {
            let found = [1.0 - ours.predicted, ours.n as f64, ours.events as f64, 1.0 - ours.observed.unwrap()[0]];
            close(&what("group"), &found, &rms, tolerance);
        }
        let curve = fitted.results.decision_curves.iter().find(|d| d.model == model.name && d.part == p.part).unwrap();
        let at = |t: f64| curve.model_curve.iter().find(|c| (c[0] - t).abs() < 1e-9).map_or(0.0, |c| c[1]);
        // A patient whose risk lies at the threshold may count on either side.
        close(&what("net benefit"), &[at(0.1), at(0.25), at(0.4)], &numbers(&want["benefit"]), 1e-6);
    }
}

fn check_nomogram(r: &cohort::Results, want: &Value) {
    let axis = |name: &str| r.nomogram.iter().find(|a| a.name == name).unwrap_or_else(|| panic!("no axis {name}"));
    for (ours, term) in [("Dissected lymph nodes (nodes)", "dissected_lymph_nodes"), ("Tumor nodules", "tumor_nodules")]
    {
        if let Some(points) = want["points"].get(term) {
            close(ours, &axis(ours).points, &numbers(points), PATH);
        }
    }
    // R has the logarithm of AFP as its own axis, whose round ends lie elsewhere: total points are shifted by a constant.
    let (lp, theirs) = (&axis("Linear predictor").points, numbers(&want["lp"]["x"]));
    let offset = lp[0] - theirs[0];
    let shifted = |points: &[f64]| points.iter().map(|v| v - offset).collect::<Vec<f64>>();
    close("linear predictor", &shifted(lp), &theirs, PATH);
    for month in [12, 36, 60] {
        let scale = &want["scales"][format!("S {month}")];
        let ours = axis(&format!("Event-free at {month} months"));
        let labels: Vec<f64> = ours.labels.iter().map(|l| l.parse().unwrap()).collect();
        let ticks: Vec<f64> = match &scale["fat"] {
            Value::Array(all) => {
                all.iter().map(|v| v.as_str().map_or_else(|| f(v), |t| t.trim().parse().unwrap())).collect()
            }
            other => panic!("{other}"),
        };
        let mut both: Vec<(f64, f64)> = ticks.into_iter().zip(numbers(&scale["x"])).collect();
        both.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert_eq!(labels, both.iter().map(|b| b.0).collect::<Vec<_>>(), "{month}");
        close("survival scale", &shifted(&ours.points), &both.iter().map(|b| b.1).collect::<Vec<_>>(), PATH);
    }
}

#[test]
fn the_default_fits_the_combined_cox_model_on_out_of_fold_scores() {
    let fitted = fitted(|spec| spec);
    let combined = fitted.results.models.iter().find(|m| m.name == "combined").unwrap();
    for want in answers("cohort-cox-default") {
        let want = &want["default"]["combined"];
        close("coefficients", &combined.coefficients, &numbers(&want["coef"]), PATH);
        close("errors", &combined.standard_errors, &numbers(&want["se"]), PATH);
        let s0: Vec<f64> = combined.cox.as_ref().unwrap().baseline_survival.iter().map(|s| s.1).collect();
        close("baseline", &s0, &numbers(&want["s0"]), PATH);
    }
    let html = cohort::report_html(&fitted);
    for part in ["Hazard ratio", "Cox models", "C-index", "up to 36 months", "S0(36 months)", "Event-free at 36 months"]
    {
        assert!(html.contains(part), "the report says nothing of {part}");
    }
    for part in ["Odds ratio", "log odds", "NaN", "(Intercept)", "logistic in"] {
        assert!(!html.contains(part), "the report of Cox models says {part}");
    }
}

#[test]
fn a_cox_package_gives_the_fits_own_risk_and_survival() {
    for local in ["", "\nlocal_incidence = 0.20"] {
        let fitted = fitted(|spec| spec.replace("\n# local_incidence = 0.20", local));
        let package = cohort::package_files(&fitted, Some("imageType:\n  Original: {}\n"), None).unwrap();
        let nomogram = Nomogram::from_files(&package.files).unwrap();
        assert_eq!((nomogram.link.name(), nomogram.horizon_months), ("cox", 36));
        let shift = fitted.results.prior.as_ref().map_or(0.0, |p| p.shift);
        assert_eq!(shift == 0.0, local.is_empty());
        let main = fitted.procedure.main().unwrap();
        let cox = main.cox.as_ref().unwrap();
        let term =
            |row: usize, name: &str| fitted.cohort.terms.iter().find(|t| t.candidate.name == name).map(|t| t.raw[row]);
        for row in (0..fitted.cohort.ids.len()).step_by(7) {
            let patient = patient(&fitted, row, &term);
            let feature = |region: &str, name: &str| patient.features.get(region)?.get(name).copied();
            let found = assess(&nomogram, feature, &patient.clinical).unwrap();
            assert_eq!(found.variant, "complete");
            let lp = main.lp[row] + shift;
            close("linear predictor", &[found.linear_predictor], &[lp], 1e-12);
            close("risk", &[found.probability], &[main.scale.risk(lp)], 1e-12);
            let own: Vec<f64> = cox.baseline_survival.iter().map(|(_, s)| s.powf(lp.exp())).collect();
            close("survival", &found.survival.iter().map(|s| s.1).collect::<Vec<_>>(), &own, 1e-12);
        }
    }
}

/// A patient of the cohort as the box knows one.
fn patient(fitted: &Fitted, row: usize, term: &dyn Fn(usize, &str) -> Option<f64>) -> GoldenPatient {
    let mut features: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
    for (column, name) in fitted.cohort.feature_names.iter().enumerate() {
        let (region, feature) = cohort::region_of(name).unwrap();
        let of_region = features.entry(region.to_owned()).or_default();
        of_region.insert(feature.to_owned(), fitted.cohort.features[[row, column]]);
    }
    let clinical = ClinicalValues {
        afp_ng_per_ml: term(row, "log_afp"),
        dissected_lymph_nodes: term(row, "dissected_lymph_nodes").map(|v| v as u32),
        perineural_invasion: term(row, "perineural_invasion").map(|v| v == 1.0),
        tumor_nodules: term(row, "tumor_nodules").map(|v| v == 1.0),
    };
    GoldenPatient { features, clinical }
}

#[test]
fn what_a_cox_analysis_cannot_do_is_said() {
    let (texts, spec) = cox_spec();
    let refusal = |spec: &str| {
        let parsed = cohort::Spec::parse(spec);
        let error = match parsed {
            Err(error) => error,
            Ok(parsed) => cohort::fit(&parsed, spec, &texts, &|_, _| ()).expect_err("refused"),
        };
        error.to_string()
    };
    let late = spec.replace("[12, 36, 60]", "[12, 36, 120]").replace("risk_month = 36", "risk_month = 120");
    assert!(refusal(&late).contains("no training patient was followed up to 120 months"), "{}", refusal(&late));
    let other = spec.replace("risk_month = 36", "risk_month = 37");
    assert!(refusal(&other).contains("risk_month is none of validation.horizon_months"));
    let logistic = spec.replace("family = \"cox\"", "family = \"binomial\"");
    assert!(refusal(&logistic).contains("risk_month is for"));
    assert!(refusal(&spec.replace("time = \"time_months\"", "")).contains("outcome.time is missing"));
}

#[test]
fn bootstrap_options_and_figures_of_a_cox_analysis_are_finite() {
    let fitted = fitted(|spec| {
        spec.replace("bootstrap = 0", "bootstrap = 4")
            .replace("learning_curve = false", "learning_curve = true")
            .replace("forward_aic = false", "forward_aic = true")
            .replace("cut_off = \"youden\"", "cut_off = \"maxstat\"")
    });
    let bootstrap = fitted.results.bootstrap.as_ref().expect("replicates");
    assert_eq!((bootstrap.failed, bootstrap.models.len()), (0, 3), "{:?}", bootstrap.first_failure);
    let combined = &bootstrap.models[2];
    assert_eq!(combined.measure, "C-index");
    assert!(combined.optimism > 0.0 && combined.slope_on_original.is_finite(), "{combined:?}");
    assert_eq!(fitted.results.cut_off.as_ref().unwrap().rule, "maxstat");
    let html = cohort::report_html(&fitted);
    for word in ["NaN", ">inf", "(inf", "-inf"] {
        assert!(!html.contains(word), "{word}");
    }
    let figures = fitted.figures();
    assert!(figures.iter().any(|(name, _)| name == "roc_1") && figures.iter().any(|(name, _)| name == "calibration_1"));
    for (name, figure) in figures {
        let svg = figure.drawing.svg();
        assert!(!svg.contains("NaN") && !svg.contains("inf "), "{name}");
    }
}
