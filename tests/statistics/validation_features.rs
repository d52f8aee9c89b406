//! Reliability, harmonization and feature filters against psych, pingouin, neuroCombat, scipy, mrmr_selection and R.

use super::{all_close, close, columns, expected, list, numbers};
use crate::common::reference;
use metwatch::statistics::combat::{Combat, CombatOptions, Shrinkage};
use metwatch::statistics::hypothesis::RankMethod;
use metwatch::statistics::reliability::{self, IccForm, MeanSquares};
use metwatch::statistics::selection::{self, RankedColumns};
use metwatch::statistics::{StatisticsError, roc};
use ndarray::{Array2, ArrayView2, Axis, array};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// Compares with psych (exact intervals) or pingouin (rounded to two digits).
#[track_caller]
fn same_iccs(name: &str, found: &MeanSquares, case: &Json) {
    let types: Vec<&str> = case["type"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    let names = if types[0] == "ICC1" {
        ["ICC1", "ICC2", "ICC3", "ICC1k", "ICC2k", "ICC3k"]
    } else {
        ["ICC(1,1)", "ICC(A,1)", "ICC(C,1)", "ICC(1,k)", "ICC(A,k)", "ICC(C,k)"]
    };
    assert_eq!(types, names);
    let iccs = IccForm::ALL.map(|form| found.icc(form, 0.95).unwrap());
    // Sums of squares of features around 1e3 leave 1e-13 of F in R.
    all_close(name, &iccs.map(|i| i.value), &list(&case["icc"]), 1e-10);
    all_close(name, &iccs.map(|i| i.f), &list(&case["F"]), 1e-10);
    all_close(name, &iccs.map(|i| i.df.0), &list(&case["df1"]), 0.0);
    all_close(name, &iccs.map(|i| i.df.1), &list(&case["df2"]), 0.0);
    all_close(name, &iccs.map(|i| i.p), &list(&case["p"]), 1e-7);
    if case["lower"].is_array() {
        all_close(name, &iccs.map(|i| i.lower), &list(&case["lower"]), 1e-8);
        all_close(name, &iccs.map(|i| i.upper), &list(&case["upper"]), 1e-8);
    }
    if let Some(rounded) = case["ci95_rounded"].as_array() {
        for (icc, rounded) in iccs.iter().zip(rounded) {
            let ends = list(rounded);
            assert!((icc.lower - ends[0]).abs() < 0.005001 && (icc.upper - ends[1]).abs() < 0.005001, "{name} {icc:?}");
        }
    }
}

#[test]
fn iccs_are_those_of_psych_and_pingouin() {
    let case = expected("icc_shrout_fleiss");
    let scores = numbers(&columns("icc_shrout_fleiss", "data.csv")["score"]);
    let table = Array2::from_shape_vec((6, 4), scores).unwrap();
    let found = MeanSquares::new(table.view()).unwrap();
    same_iccs("shrout_fleiss", &found, &case);
    same_iccs("shrout_fleiss", &found, &case["psych"]);

    let case = expected("icc_phantom_features");
    let data = columns("icc_phantom_features", "data.csv");
    let (targets, groups) = (&data["target"], &data["group"]);
    let raters: Vec<&String> = distinct(groups);
    let names: Vec<&String> = case["features"].as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 40);
    // One table for each rater, its rows in order of the first rater's targets.
    let order: Vec<&String> = targets.iter().zip(groups).filter(|(_, g)| *g == raters[0]).map(|(t, _)| t).collect();
    let readings: Vec<Array2<f64>> = raters
        .iter()
        .map(|rater| {
            let row_of: BTreeMap<&String, usize> =
                (0..targets.len()).filter(|&i| &groups[i] == *rater).map(|i| (&targets[i], i)).collect();
            let features: Vec<Vec<f64>> = names.iter().map(|name| numbers(&data[*name])).collect();
            Array2::from_shape_fn((order.len(), names.len()), |(i, j)| features[j][row_of[order[i]]])
        })
        .collect();
    let views: Vec<ArrayView2<f64>> = readings.iter().map(|r| r.view()).collect();
    let found = reliability::mean_squares_of_columns(&views).unwrap();
    for (name, found) in names.iter().zip(&found) {
        same_iccs(name, found, &case["features"][*name]);
        same_iccs(name, found, &case["psych"][*name]);
    }
}

/// In order of their first appearance.
fn distinct(cells: &[String]) -> Vec<&String> {
    let mut found: Vec<&String> = Vec::new();
    for cell in cells {
        if !found.contains(&cell) {
            found.push(cell);
        }
    }
    found
}

fn table(data: &BTreeMap<String, Vec<String>>, names: &[&str]) -> Array2<f64> {
    let columns: Vec<Vec<f64>> = names.iter().map(|name| numbers(&data[*name])).collect();
    Array2::from_shape_fn((columns[0].len(), names.len()), |(i, j)| columns[j][i])
}

fn strings(value: &Json) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
}

#[test]
fn combat_is_that_of_neurocombat() {
    let case = expected("combat_phantom");
    let data = columns("combat_phantom", "data.csv");
    let features = table(&data, &strings(&case["features"]));
    let mut batches = distinct(&data["batch"]);
    batches.sort();
    let centers: Vec<usize> = data["batch"].iter().map(|b| batches.iter().position(|c| *c == b).unwrap()).collect();
    let mut classes = distinct(&data["cls"]);
    classes.sort();
    let covariates = Array2::from_shape_fn((centers.len(), classes.len() - 1), |(i, j)| {
        f64::from(u8::from(&data["cls"][i] == classes[j + 1]))
    });
    for (key, shrinkage, mean_only) in [
        ("parametric_eb", Shrinkage::Parametric, false),
        ("no_eb", Shrinkage::None, false),
        ("non_parametric", Shrinkage::NonParametric, false),
        ("mean_only", Shrinkage::Parametric, true),
    ] {
        let options = CombatOptions { shrinkage, mean_only };
        let fitted = Combat::fit(features.view(), &centers, covariates.view(), options).unwrap();
        let found = fitted.apply(features.view(), &centers, covariates.view()).unwrap();
        let rows = case[key].as_array().unwrap();
        assert_eq!(rows.len(), found.nrows());
        for (found, row) in found.rows().into_iter().zip(rows) {
            all_close(key, &found.to_vec(), &list(row), 1e-9);
        }
        // New rows of known centers are treated like those of the fit.
        let some = [5, 100, 17];
        let apart = fitted
            .apply(
                features.select(Axis(0), &some).view(),
                &some.map(|i| centers[i]),
                covariates.select(Axis(0), &some).view(),
            )
            .unwrap();
        for (k, &i) in some.iter().enumerate() {
            all_close(key, &apart.row(k).to_vec(), &found.row(i).to_vec(), 1e-13);
        }
    }
}

#[test]
fn filters_are_those_of_scipy_and_mrmr_selection() {
    let case = expected("feature_selection");
    let names = strings(&case["features"]);
    let x = table(&columns("feature_selection", "x.csv"), &names);
    let y = columns("feature_selection", "y.csv");
    let outcome: Vec<bool> = y.values().next().unwrap().iter().map(|v| v.parse::<f64>().unwrap() == 1.0).collect();
    let ranked = RankedColumns::new(x.view()).unwrap();
    let rows = ranked.all_rows();
    let all: Vec<usize> = (0..names.len()).collect();
    let named = |columns: &[usize]| columns.iter().map(|&j| names[j]).collect::<Vec<&str>>();

    let p = ranked.mann_whitney(&rows, &outcome, RankMethod::Normal).unwrap();
    all_close("p", &p, &list(&case["mannwhitney_p"]), 1e-9);
    let auc = ranked.auc(&rows, &outcome).unwrap();
    all_close("AUC", &auc, &list(&case["auc"]), 1e-12);
    close("AUC", roc::auc(&outcome, &x.column(3).to_vec()).unwrap(), auc[3], 1e-13);

    let rho = ranked.spearman(&rows, &all).unwrap();
    for (k, row) in case["spearman_first3rows"].as_array().unwrap().iter().enumerate() {
        all_close("rho", &rho.row(k).to_vec(), &list(row), 1e-11);
    }
    let sum: f64 = rho.iter().map(|r| r.abs()).sum();
    close("sum", sum, case["spearman_sum_abs"].as_f64().unwrap(), 1e-11);
    let kept = ranked.spearman_filter(&rows, &all, 0.9).unwrap();
    assert_eq!(named(&kept), strings(&case["greedy_column_order_0.9"]));
    let distance: Vec<f64> = auc.iter().map(|a| -(a - 0.5).abs()).collect();
    let kept = ranked.spearman_filter(&rows, &selection::by_increasing_p(&distance, 1.0), 0.9).unwrap();
    assert_eq!(named(&kept), strings(&case["greedy_by_auc_0.9"]));
    let (dropped, kept) = selection::drop_correlated(rho.view(), 0.9).unwrap();
    let iterative = &case["iterative_drop_larger_mean_0.9"];
    assert_eq!(named(&dropped), strings(&iterative["dropped"]));
    assert_eq!(named(&kept), strings(&iterative["kept"]));

    let f = selection::anova_f(x.view(), &outcome).unwrap();
    let relevance = &case["mrmr_relevance_F"];
    assert_eq!(relevance.as_object().unwrap().len(), names.len());
    for (name, f) in names.iter().zip(&f) {
        close(name, *f, relevance[*name].as_f64().unwrap(), 1e-9);
    }
    let order = strings(&case["mrmr_order_f_over_mean_abs_pearson"]);
    assert_eq!(named(&selection::mrmr(x.view(), &outcome, order.len()).unwrap()), order);
}

/// Columns of a file of the simulated cohort: names, and rows by patient.
fn cohort(file: &str) -> (Vec<String>, Vec<(String, Vec<f64>)>) {
    let text = std::fs::read_to_string(reference("cohort").join(file)).unwrap();
    let mut lines = text.lines();
    let names = lines.next().unwrap().split(',').skip(1).map(String::from).collect();
    let rows = lines.map(|line| {
        let mut cells = line.split(',');
        let patient = cells.next().unwrap().to_string();
        (patient, cells.map(|c| c.parse().unwrap_or(f64::NAN)).collect())
    });
    (names, rows.collect())
}

#[test]
fn the_cohort_is_filtered_as_in_r() {
    let text = std::fs::read_to_string(reference("cohort/reference_R.json")).unwrap();
    let case: Json = serde_json::from_str(&text).unwrap();
    let (names, rows) = cohort("radiomics.csv");
    let (stability_names, stability) = cohort("stability.csv");
    assert_eq!(names, stability_names);
    assert_eq!(names.len() as f64, case["steps"]["features"].as_f64().unwrap());
    let first: BTreeMap<&String, &Vec<f64>> = rows.iter().map(|(patient, v)| (patient, v)).collect();
    let reading =
        |of: &dyn Fn(usize, usize) -> f64| Array2::from_shape_fn((stability.len(), names.len()), |(i, j)| of(i, j));
    let readings = [reading(&|i, j| first[&stability[i].0][j]), reading(&|i, j| stability[i].1[j])];
    let squares = reliability::mean_squares_of_columns(&[readings[0].view(), readings[1].view()]).unwrap();
    let icc: Vec<f64> = squares.iter().map(|s| s.value(IccForm::Agreement).unwrap()).collect();
    assert_eq!(case["icc"].as_object().unwrap().len(), names.len());
    for (name, icc) in names.iter().zip(&icc) {
        close(name, *icc, case["icc"][name].as_f64().unwrap(), 1e-10);
    }
    let stable: Vec<usize> = (0..names.len()).filter(|&j| icc[j] >= 0.75).collect();
    assert_eq!(stable.len() as f64, case["steps"]["stable_icc_0.75"].as_f64().unwrap());

    let clinical = std::fs::read_to_string(reference("cohort/clinical.csv")).unwrap();
    let header: Vec<&str> = clinical.lines().next().unwrap().split(',').collect();
    let at = |name: &str| header.iter().position(|h| *h == name).unwrap();
    let (split, mlm) = (at("split"), at("mlm"));
    let train: Vec<(usize, bool)> = clinical
        .lines()
        .skip(1)
        .enumerate()
        .map(|(i, line)| (i, line.split(',').collect::<Vec<_>>()))
        .filter(|(_, cells)| cells[split] == "train")
        .map(|(i, cells)| (i, cells[mlm] == "1"))
        .collect();
    assert_eq!(train.len(), 254);
    let outcome: Vec<bool> = train.iter().map(|(_, y)| *y).collect();
    let x = Array2::from_shape_fn((254, stable.len()), |(i, j)| rows[train[i].0].1[stable[j]]);
    let ranked = RankedColumns::new(x.view()).unwrap();
    let all = ranked.all_rows();
    let p = ranked.mann_whitney(&all, &outcome, RankMethod::Normal).unwrap();
    let reference_p = &case["mannwhitney_p_of_stable"];
    assert_eq!(reference_p.as_object().unwrap().len(), stable.len());
    for (&j, p) in stable.iter().zip(&p) {
        close(&names[j], *p, reference_p[&names[j]].as_f64().unwrap(), 1e-9);
    }
    let candidates = selection::by_increasing_p(&p, 0.05);
    assert_eq!(candidates.len() as f64, case["steps"]["mannwhitney_0.05"].as_f64().unwrap());
    let mut kept = ranked.spearman_filter(&all, &candidates, 0.9).unwrap();
    kept.sort_unstable();
    let kept_names: Vec<&str> = kept.iter().map(|&j| names[stable[j]].as_str()).collect();
    assert_eq!(kept_names, strings(&case["after_spearman"]));

    let (mean, deviation) = selection::column_scales(x.select(Axis(1), &kept).view()).unwrap();
    all_close("mean", mean.as_slice().unwrap(), &list(&case["standardise"]["mean"]), 1e-12);
    all_close("sd", deviation.as_slice().unwrap(), &list(&case["standardise"]["sd"]), 1e-12);
}

#[test]
fn bad_input_is_refused_with_its_place() {
    let ratings = array![[1.0, 2.0], [f64::NAN, 3.0]];
    assert!(matches!(MeanSquares::new(ratings.view()), Err(StatisticsError::NotFinite { row: 1, .. })));
    assert!(MeanSquares::new(array![[1.0, 2.0]].view()).is_err());
    let (a, b) = (array![[1.0], [2.0]], array![[1.0], [2.0], [3.0]]);
    let unequal = reliability::mean_squares_of_columns(&[a.view(), b.view()]);
    assert!(matches!(unequal, Err(StatisticsError::Length { found: 3, expected: 2, .. })));
    assert!(reliability::bland_altman(&[1.0, 2.0], &[1.0], 0.95).is_err());

    let x = array![[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]];
    let ranked = RankedColumns::new(x.view()).unwrap();
    let outcome = [true, false, true];
    // A constant column has no p below 1, and no correlation.
    assert_eq!(ranked.mann_whitney(&[0, 1, 2], &outcome, RankMethod::Normal).unwrap()[1], 1.0);
    let constant = ranked.spearman_filter(&[0, 1, 2], &[0, 1], 0.9);
    assert!(matches!(constant, Err(StatisticsError::Degenerate { .. })));
    assert!(ranked.mann_whitney(&[0, 2], &outcome, RankMethod::Normal).is_err());
    assert!(ranked.mann_whitney(&[0, 3], &outcome, RankMethod::Normal).is_err());
    assert!(ranked.auc(&[0, 1], &outcome[..2]).is_err());
    assert!(RankedColumns::new(array![[1.0], [f64::NAN]].view()).is_err());
    assert!(selection::spearman(&[1.0, 2.0], &[1.0, 1.0]).is_err());
    assert!(selection::mrmr(x.view(), &[true; 3], 1).is_err());
    assert_eq!(selection::mrmr(x.view(), &outcome, 2).unwrap(), Vec::<usize>::new());
}
