//! Discrimination, calibration, decision curves and reclassification against pROC, rms, Hmisc and dcurves.

use super::{all_close, close, columns, expected, list, numbers};
use metwatch::statistics::linear::Cholesky;
use metwatch::statistics::roc::{self, Classification, DeLong, Direction, PartialAxis, RocCurve};
use metwatch::statistics::{StatisticsError, calibration, decision_curve, hypothesis, reclassification};
use ndarray::{Array1, Array2};
use serde_json::Value as Json;

fn truth(cells: &[String]) -> Vec<bool> {
    numbers(cells).iter().map(|v| *v == 1.0).collect()
}

#[track_caller]
fn at(case: &Json, key: &str) -> f64 {
    case[key].as_f64().unwrap_or_else(|| panic!("{key} of {case}"))
}

#[test]
fn roc_curves_are_those_of_proc() {
    let data = columns("roc_asah", "data.csv");
    let outcome = truth(&data["outcome"]);
    let case = expected("roc_asah");
    for marker in case["markers"].as_array().unwrap() {
        let name = marker["marker"].as_str().unwrap();
        let scores = numbers(&data[name]);
        let direction = Direction::by_medians(&outcome, &scores).unwrap();
        assert_eq!(direction == Direction::CasesHigher, marker["direction"] == "<", "{name}");
        let delong = DeLong::new(&outcome, &scores, direction).unwrap();
        close(name, delong.auc, at(marker, "auc"), 1e-12);
        close(name, roc::auc(&outcome, &scores).unwrap(), at(marker, "auc"), 1e-12);
        close(name, delong.variance(), at(marker, "delong_var"), 1e-11);
        let (low, high) = delong.interval(0.95);
        all_close(name, &[low, delong.auc, high], &list(&marker["ci95"]), 1e-12);

        let curve = RocCurve::new(&outcome, &scores, direction).unwrap();
        let mut thresholds = list(&marker["thresholds"]);
        *thresholds.first_mut().unwrap() = f64::NEG_INFINITY;
        *thresholds.last_mut().unwrap() = f64::INFINITY;
        all_close(name, &curve.thresholds, &thresholds, 1e-13);
        all_close(name, &curve.sensitivities, &list(&marker["sensitivities"]), 1e-13);
        all_close(name, &curve.specificities, &list(&marker["specificities"]), 1e-13);

        let (best, youden) = (curve.youden()[0], &marker["youden"]);
        close(name, curve.thresholds[best], at(youden, "threshold"), 1e-13);
        close(name, curve.sensitivities[best], at(youden, "sensitivity"), 1e-13);
        close(name, curve.specificities[best], at(youden, "specificity"), 1e-13);
        let table = Classification::at(&outcome, &scores, curve.thresholds[best], direction).unwrap();
        let counts = [table.true_positives, table.true_negatives, table.false_positives, table.false_negatives]
            .map(|v| v as f64);
        all_close(name, &counts, &["tp", "tn", "fp", "fn"].map(|k| at(youden, k)), 0.0);
        let shares = [table.ppv(), table.npv(), table.accuracy(), table.sensitivity(), table.specificity()];
        let keys = ["ppv", "npv", "accuracy", "sensitivity", "specificity"];
        all_close(name, &shares.map(Option::unwrap), &keys.map(|k| at(youden, k)), 1e-13);

        let (best, corner) = (curve.closest_top_left()[0], &marker["closest_topleft"]);
        let found = [curve.thresholds[best], curve.sensitivities[best], curve.specificities[best]];
        all_close(name, &found, &["threshold", "sensitivity", "specificity"].map(|k| at(corner, k)), 1e-13);

        let area = curve.partial_area(PartialAxis::Specificity, 0.8, 1.0);
        close(name, area, at(marker, "partial_auc_spec_1_0p8"), 1e-12);
        // McClish: chance is 0.02, perfect 0.2.
        let corrected = curve.partial_area_corrected(PartialAxis::Specificity, 0.8, 1.0).unwrap();
        close(name, corrected, 0.5 * (1.0 + (area - 0.02) / 0.18), 1e-12);
        close(name, curve.sensitivity_at(0.9), at(marker, "sens_at_spec_0p9"), 1e-12);
        let (cases, controls): (Vec<_>, Vec<_>) = outcome.iter().zip(&scores).partition(|(y, _)| **y);
        let values = |rows: Vec<(&bool, &f64)>| rows.into_iter().map(|(_, s)| *s).collect::<Vec<f64>>();
        let method = hypothesis::RankMethod::NormalUncorrected;
        let test = hypothesis::wilcoxon(&values(cases), &values(controls), method).unwrap();
        close(name, test.p, at(marker, "mannwhitney_p"), 1e-10);
    }
}

#[test]
fn delong_tests_are_those_of_proc() {
    let data = columns("roc_asah", "data.csv");
    let outcome = truth(&data["outcome"]);
    let delong = |name: &str, rows: std::ops::Range<usize>| {
        let scores = numbers(&data[name]);
        let direction = Direction::by_medians(&outcome, &scores).unwrap();
        DeLong::new(&outcome[rows.clone()], &scores[rows], direction).unwrap()
    };
    for pair in expected("roc_asah")["paired_delong"].as_array().unwrap() {
        let (a, b) = (pair["a"].as_str().unwrap(), pair["b"].as_str().unwrap());
        let (first, second) = (delong(a, 0..outcome.len()), delong(b, 0..outcome.len()));
        let test = roc::paired_test(&first, &second).unwrap();
        close(a, test.statistic, at(pair, "z"), 1e-11);
        close(a, test.p, at(pair, "p"), 1e-10);
        close(a, first.covariance(&second).unwrap(), at(pair, "cov"), 1e-10);
        let halves = &pair["unpaired_halves"];
        let split = at(halves, "rows_first") as usize;
        let test = roc::unpaired_test(&delong(a, 0..split), &delong(b, split..outcome.len()));
        close(a, test.statistic, at(halves, "statistic"), 1e-11);
        close(a, test.df.unwrap(), at(halves, "df"), 1e-11);
        close(a, test.p, at(halves, "p"), 1e-10);
    }
    let same = delong("age", 0..outcome.len());
    assert_eq!(roc::paired_test(&same, &same).unwrap().p, 1.0);
}

#[test]
fn decision_curves_are_those_of_dcurves() {
    let (data, case) = (columns("decision_curve_binary", "data.csv"), expected("decision_curve_binary"));
    let outcome = truth(&data["y"]);
    let models = &case["models"];
    for name in ["full", "reduced"] {
        let thresholds = list(&models[name]["threshold"]);
        let curve = decision_curve::binary(&outcome, &numbers(&data[name]), &thresholds, None).unwrap();
        let benefit: Vec<f64> = curve.net_benefit.iter().map(|v| v.unwrap()).collect();
        all_close(name, &benefit, &list(&models[name]["net_benefit"]), 1e-11);
        all_close("all", &curve.net_benefit_all, &list(&models["all"]["net_benefit"]), 1e-11);
        assert!(list(&models["none"]["net_benefit"]).iter().all(|v| *v == 0.0));
        close("prevalence", curve.prevalence, at(&case, "prevalence"), 1e-13);
        // The same models in the calibration case, over a finer grid.
        let finer = &expected("calibration_wdbc")[format!("decision_curve_{name}")];
        let curve = decision_curve::binary(&outcome, &numbers(&data[name]), &list(&finer["threshold"]), None).unwrap();
        let benefit: Vec<f64> = curve.net_benefit.iter().map(|v| v.unwrap()).collect();
        all_close(name, &benefit, &list(&finer["net_benefit"]), 1e-11);
        all_close("all", &curve.net_benefit_all, &list(&finer["net_benefit_all"]), 1e-11);
        let avoided = curve.interventions_avoided()[9].unwrap();
        close("avoided", avoided, (benefit[9] - curve.net_benefit_all[9]) * 9.0, 1e-10);
    }

    let (data, case) = (columns("decision_curve_survival", "data.csv"), expected("decision_curve_survival"));
    let models = &case["models"];
    let curve = decision_curve::survival(
        &numbers(&data["time"]),
        &truth(&data["status"]),
        &numbers(&data["risk3y"]),
        at(&case, "time"),
        &list(&models["risk3y"]["threshold"]),
    )
    .unwrap();
    let benefit: Vec<f64> = curve.net_benefit.iter().map(|v| v.unwrap_or(f64::NAN)).collect();
    all_close("risk3y", &benefit, &list(&models["risk3y"]["net_benefit"]), 1e-11);
    all_close("all", &curve.net_benefit_all, &list(&models["all"]["net_benefit"]), 1e-11);
}

#[test]
fn reclassification_is_that_of_hmisc() {
    let outcome = truth(&columns("calibration_wdbc", "test.csv")["malignant"]);
    let case = expected("calibration_wdbc");
    let (full, reduced) = (list(&case["p_test_full"]), list(&case["p_test_reduced"]));
    let found = reclassification::improvement(&outcome, &reduced, &full).unwrap();
    let reference = &case["improveProb"];
    let (nri, ev, ne, idi) = (found.nri, found.nri_events, found.nri_others, found.idi);
    for (key, value) in [
        ("pup.ev", found.events_up),
        ("pup.ne", found.others_up),
        ("pdown.ev", found.events_down),
        ("pdown.ne", found.others_down),
        ("nri", nri.value),
        ("se.nri", nri.standard_error),
        ("z.nri", nri.z),
        ("nri.ev", ev.value),
        ("se.nri.ev", ev.standard_error),
        ("z.nri.ev", ev.z),
        ("nri.ne", ne.value),
        ("se.nri.ne", ne.standard_error),
        ("z.nri.ne", ne.z),
        ("improveSens", found.sensitivity_gain),
        ("improveSpec", found.specificity_gain),
        ("idi", idi.value),
        ("se.idi", idi.standard_error),
        ("z.idi", idi.z),
        ("n", outcome.len() as f64),
        ("na", outcome.iter().filter(|y| **y).count() as f64),
        ("nb", outcome.iter().filter(|y| !**y).count() as f64),
    ] {
        close(key, value, at(reference, key), 1e-11);
    }
    let groups = &case["categorical_nri"];
    let found = reclassification::categorical_nri(&outcome, &reduced, &full, &list(&groups["cuts"])).unwrap();
    let counts = [found.events_up, found.events_down, found.others_up, found.others_down].map(|v| v as f64);
    let keys = ["events_up", "events_down", "nonevents_up", "nonevents_down"];
    all_close("moves", &counts, &keys.map(|k| at(groups, k)), 0.0);
    close("nri", found.nri.value, at(groups, "nri"), 1e-12);
}

/// Predictors of the calibration case; shape (rows, 1 + columns), first the intercept.
fn design(file: &str, names: &[&str]) -> Array2<f64> {
    let data = columns("calibration_wdbc", file);
    let n = data["malignant"].len();
    let mut x = Array2::ones((n, names.len() + 1));
    for (j, name) in names.iter().enumerate() {
        x.column_mut(j + 1).assign(&Array1::from(numbers(&data[*name])));
    }
    x
}

const REDUCED: [&str; 3] = ["mean_texture", "mean_smoothness", "mean_symmetry"];
const FULL: [&str; 6] =
    ["mean_texture", "mean_smoothness", "mean_symmetry", "texture_error", "worst_compactness", "symmetry_error"];

/// Logistic regression by Newton's method on some rows.
fn logistic(x: &Array2<f64>, outcome: &[bool], rows: &[usize]) -> Array1<f64> {
    let x = x.select(ndarray::Axis(0), rows);
    let y = Array1::from_iter(rows.iter().map(|&i| f64::from(u8::from(outcome[i]))));
    let mut beta = Array1::zeros(x.ncols());
    for _ in 0..30 {
        let p = x.dot(&beta).mapv(|v: f64| 1.0 / (1.0 + (-v).exp()));
        let w = &p * &(1.0 - &p);
        let information = x.t().dot(&(&x * &w.insert_axis(ndarray::Axis(1))));
        beta += &Cholesky::new(information.view()).unwrap().solve(x.t().dot(&(&y - &p)).view());
    }
    beta
}

fn expit(lp: &[f64]) -> Vec<f64> {
    lp.iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect()
}

/// Linear predictors of the full model in training and test rows.
fn full_model() -> ([Vec<bool>; 2], [Vec<f64>; 2]) {
    let outcomes = ["train.csv", "test.csv"].map(|file| truth(&columns("calibration_wdbc", file)["malignant"]));
    let x = ["train.csv", "test.csv"].map(|file| design(file, &FULL));
    let rows: Vec<usize> = (0..outcomes[0].len()).collect();
    let beta = logistic(&x[0], &outcomes[0], &rows);
    (outcomes, x.map(|x| x.dot(&beta).to_vec()))
}

#[test]
fn calibration_is_that_of_rms() {
    let case = expected("calibration_wdbc");
    let (outcomes, predictors) = full_model();
    let probabilities = predictors.each_ref().map(|lp| expit(lp));
    all_close("p", &probabilities[1], &list(&case["p_test_full"]), 1e-9);
    let rows: Vec<usize> = (0..outcomes[0].len()).collect();
    let reduced = logistic(&design("train.csv", &REDUCED), &outcomes[0], &rows);
    let reduced = expit(&design("test.csv", &REDUCED).dot(&reduced).to_vec());
    all_close("reduced", &reduced, &list(&case["p_test_reduced"]), 1e-9);
    for (key, k) in [("val_prob_train", 0), ("val_prob_test", 1)] {
        let found = calibration::validate_probabilities(&outcomes[k], &probabilities[k]).unwrap();
        // On its own sample the recalibration finds nothing: what is 0 there has R's rounding, some 1e-14 of
        // chi-squared.
        let near = |name: &str, value: f64| {
            let reference = at(&case[key], name);
            let floor = if reference.abs() < 1e-10 { 1e-10 } else { 0.0 };
            assert!((value - reference).abs() <= 1e-9 * reference.abs() + floor, "{key} {name}: {value}, {reference}");
        };
        near("C (ROC)", found.auc_binned);
        near("Dxy", 2.0 * found.auc_binned - 1.0);
        assert!((found.auc - found.auc_binned).abs() < 1e-4);
        close("Dxy", found.dxy, 2.0 * roc::auc(&outcomes[k], &probabilities[k]).unwrap() - 1.0, 1e-13);
        near("R2", found.r2);
        near("D", found.discrimination);
        near("D:Chi-sq", found.discrimination_chi_squared);
        near("U", found.unreliability);
        near("U:Chi-sq", found.unreliability_chi_squared);
        near("U:p", found.unreliability_p);
        near("Q", found.quality);
        near("Brier", found.brier);
        near("Intercept", found.intercept.value);
        near("Slope", found.slope.value);
        near("Emax", found.distances.emax);
        near("E90", found.distances.e90);
        near("Eavg", found.distances.ici);
        assert!(found.distances.e50 <= found.distances.e90);
        near("S:z", found.spiegelhalter_z);
        near("S:p", found.spiegelhalter_p);
        // rms leaves D:p empty after its single iteration; chi-squared with one degree of freedom.
        assert!(found.discrimination_p < 1e-30);
    }
    let (outcome, p) = (&outcomes[1], &probabilities[1]);
    close("brier", calibration::brier(outcome, p).unwrap(), at(&case, "brier_test"), 1e-10);
    close("scaled", calibration::brier_scaled(outcome, p).unwrap(), at(&case, "brier_scaled"), 1e-10);
    close("O/E", calibration::observed_over_expected(outcome, p).unwrap(), at(&case, "oe_ratio"), 1e-10);
    let large = calibration::in_the_large(outcome, &predictors[1]).unwrap();
    close("citl", large.value, at(&case, "calibration_in_the_large"), 1e-8);
    // glm takes the standard errors from the weights before its last step.
    close("citl se", large.standard_error, at(&case, "citl_se"), 1e-6);
    let (intercept, slope) = calibration::recalibrate(outcome, &predictors[1]).unwrap();
    close("intercept", intercept.value, at(&case, "weak_intercept"), 1e-8);
    close("slope", slope.value, at(&case, "weak_slope"), 1e-8);
    close("slope se", slope.standard_error, at(&case, "slope_se"), 1e-6);

    let y: Vec<f64> = outcome.iter().map(|y| f64::from(u8::from(*y))).collect();
    let (x, smooth) = calibration::lowess(p, &y, 2.0 / 3.0, 0, None).unwrap();
    all_close("lowess x", &x, &list(&case["lowess_iter0"]["x"]), 1e-9);
    all_close("lowess y", &smooth, &list(&case["lowess_iter0"]["y"]), 1e-8);
    // rms::calibrate smooths the apparent curve in the same way.
    let curve = &case["rms_calibrate_B200"];
    let found = calibration::flexible_curve(&outcomes[0], &probabilities[0], &list(&curve["predy"])).unwrap();
    let found: Vec<f64> = found.into_iter().map(Option::unwrap).collect();
    all_close("calibrate", &found, &list(&curve["orig"]), 1e-8);
}

#[test]
fn goodness_of_fit_is_that_of_hosmer_and_lemeshow_and_le_cessie() {
    let case = expected("calibration_wdbc");
    let (outcomes, predictors) = full_model();
    for (key, k) in [("hosmer_lemeshow_train", 0), ("hosmer_lemeshow_test", 1)] {
        for reference in case[key].as_array().unwrap() {
            let p = expit(&predictors[k]);
            let found = calibration::hosmer_lemeshow(&outcomes[k], &p, at(reference, "groups") as usize).unwrap();
            close(key, found.chi_squared, at(reference, "chisq"), 1e-9);
            close(key, found.groups.len() as f64 - 2.0, at(reference, "df"), 0.0);
            close(key, found.p_development.unwrap(), at(reference, "p"), 1e-9);
            close(key, found.p_external, at(reference, "p_df_g_for_external"), 1e-9);
            let column = |of: fn(&calibration::RiskGroup) -> f64| found.groups.iter().map(of).collect::<Vec<f64>>();
            all_close(key, &column(|g| g.n as f64), &list(&reference["n"]), 0.0);
            all_close(key, &column(|g| g.observed as f64), &list(&reference["observed"]), 0.0);
            all_close(key, &column(|g| g.expected), &list(&reference["expected"]), 1e-9);
        }
    }
    let x = design("train.csv", &FULL);
    let test =
        calibration::sum_of_squares_test(&outcomes[0], x.slice(ndarray::s![.., 1..]), &expit(&predictors[0])).unwrap();
    let reference = &case["le_cessie_gof_train"];
    close("sse", test.sum_of_squares, at(reference, "Sum of squared errors"), 1e-9);
    close("expected", test.expected, at(reference, "Expected value|H0"), 1e-9);
    close("sd", test.standard_deviation, at(reference, "SD"), 1e-8);
    close("z", test.z, at(reference, "Z"), 1e-8);
    close("p", test.p, at(reference, "P"), 1e-8);
}

#[test]
fn optimism_over_given_samples_is_that_of_r() {
    let case = expected("calibration_wdbc");
    let reference = &case["bootstrap_given_indices"];
    let outcome = truth(&columns("calibration_wdbc", "train.csv")["malignant"]);
    let x = design("train.csv", &FULL);
    let path = crate::common::reference("stats/calibration_wdbc/boot_indices_1based.csv");
    let samples: Vec<Vec<usize>> = std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .skip(1)
        .map(|line| line.split(',').map(|cell| cell.parse::<usize>().unwrap() - 1).collect())
        .collect();
    assert_eq!(samples.len(), 100);
    let found =
        calibration::optimism(&outcome, &samples, |rows| Ok(x.dot(&logistic(&x, &outcome, rows)).to_vec())).unwrap();
    assert_eq!(found.failed, 0);
    close("apparent", found.apparent_auc, at(reference, "apparent_auc"), 1e-11);
    close("apparent Brier", found.apparent_brier, at(reference, "brier_apparent"), 1e-9);
    let column = |of: fn(&calibration::Replicate) -> f64| found.replicates.iter().map(of).collect::<Vec<f64>>();
    all_close("in boot", &column(|r| r.auc_in_sample), &list(&reference["auc_in_boot"]), 1e-11);
    all_close("on original", &column(|r| r.auc_on_original), &list(&reference["auc_on_original"]), 1e-11);
    all_close("slope", &column(|r| r.slope_on_original), &list(&reference["slope_on_original"]), 1e-7);
    // glm stops at a relative change of the deviance of 1e-8, which leaves 1e-8 of an intercept near 0.
    for (a, b) in column(|r| r.intercept_on_original).iter().zip(list(&reference["intercept_on_original"])) {
        assert!((a - b).abs() < 1e-7, "intercept: {a}, reference {b}");
    }
    close("optimism", found.auc(), at(reference, "optimism"), 1e-10);
    close("corrected", found.corrected_auc(), at(reference, "corrected_auc"), 1e-11);
    close("slope", found.corrected_slope(), at(reference, "corrected_slope"), 1e-7);
    close("Brier", found.corrected_brier(), at(reference, "brier_corrected"), 1e-8);

    // rms::validate drew 200 samples of its own: a statistical check, within 0.01 as the case's README asks.
    let rms = &case["rms_validate_B200_seeded_statistical_check"];
    let corrected = &rms["corrected"];
    assert!((2.0 * found.corrected_auc() - 1.0 - at(corrected, "Dxy")).abs() < 0.01);
    assert!((found.corrected_slope() - at(corrected, "Slope")).abs() < 0.01);
    assert!((found.corrected_brier() - at(corrected, "B")).abs() < 0.01);
    assert!((found.apparent_brier - at(&rms["index_orig"], "B")).abs() < 1e-9);

    let failing = calibration::optimism(&outcome, &samples, |_| {
        Err(StatisticsError::NotConverged { what: "the model", iterations: 1 })
    });
    assert!(failing.is_err());
}

#[test]
fn bad_input_is_refused_with_its_place() {
    let one_class = roc::auc(&[true, true], &[1.0, 2.0]);
    assert!(matches!(one_class, Err(StatisticsError::Degenerate { .. })));
    let nan = roc::auc(&[true, false, true], &[1.0, f64::NAN, 3.0]);
    assert!(matches!(nan, Err(StatisticsError::NotFinite { row: 1, .. })));
    let short = RocCurve::new(&[true, false, true], &[1.0, 2.0], Direction::CasesHigher);
    assert!(matches!(short, Err(StatisticsError::Length { found: 2, expected: 3, .. })));
    assert_eq!(roc::auc(&[true, false, true], &[5.0; 3]), Ok(0.5));
    assert!(decision_curve::survival(&[1.0, 2.0], &[false; 2], &[0.1, 0.2], 1.0, &[0.1]).is_err());
    assert!(decision_curve::binary(&[true, false], &[0.1, f64::INFINITY], &[0.1], None).is_err());
    let constant = calibration::recalibrate(&[true, false, true], &[0.5; 3]);
    assert!(matches!(constant, Err(StatisticsError::Singular { .. })));
    assert!(calibration::validate_probabilities(&[true, false], &[0.5, 1.5]).is_err());
    assert!(calibration::hosmer_lemeshow(&[true; 10], &[0.5; 10], 5).is_err());
    assert!(calibration::brier(&[true, false], &[0.5]).is_err());
    assert!(reclassification::categorical_nri(&[true, false], &[0.1], &[0.2, 0.3], &[0.5]).is_err());
}
