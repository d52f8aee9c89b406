//! Discrimination, calibration, decision curves and reclassification against pROC, rms, Hmisc and dcurves.

use super::{all_close, close, columns, expected, list, numbers};
use metwatch::statistics::roc::{self, Classification, DeLong, Direction, PartialAxis, RocCurve};
use metwatch::statistics::{StatisticsError, decision_curve, hypothesis, reclassification};
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
        let counts =
            [table.true_positives, table.true_negatives, table.false_positives, table.false_negatives].map(|v| v as f64);
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
        let test =
            hypothesis::wilcoxon(&values(cases), &values(controls), hypothesis::RankMethod::Normal).unwrap();
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
        let curve =
            decision_curve::binary(&outcome, &numbers(&data[name]), &list(&finer["threshold"]), None).unwrap();
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
    assert!(reclassification::categorical_nri(&[true, false], &[0.1], &[0.2, 0.3], &[0.5]).is_err());
}
