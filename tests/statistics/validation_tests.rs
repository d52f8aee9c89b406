//! Tests for table one against R's stats, Shapley values against shap.

use super::{all_close, close, columns, expected, list, numbers};
use metwatch::statistics::hypothesis::{self, Correction, RankMethod, Test, Variances};
use metwatch::statistics::{StatisticsError, attribution, selection};
use ndarray::{Array1, Array2, ArrayView2, array, s};
use serde_json::Value as Json;

#[track_caller]
fn at(case: &Json, key: &str) -> f64 {
    case[key].as_f64().unwrap_or_else(|| panic!("{key} of {case}"))
}

#[track_caller]
fn same_test(found: Test, reference: &Json, statistic: &str) {
    if !reference[statistic].is_null() {
        close(statistic, found.statistic, at(reference, statistic), 1e-9);
    }
    if !reference["df"].is_null() {
        close("df", found.df.unwrap(), at(reference, "df"), 1e-10);
    }
    close("p", found.p, at(reference, "p"), 1e-8);
}

#[test]
fn continuous_variables_of_table_one_are_those_of_r() {
    let data = columns("baseline_birthwt", "data.csv");
    let group = numbers(&data["low"]);
    for reference in expected("baseline_birthwt")["continuous"].as_array().unwrap() {
        let name = reference["variable"].as_str().unwrap();
        let values = numbers(&data[name]);
        let of = |class: f64| -> Vec<f64> {
            values.iter().zip(&group).filter(|(_, g)| **g == class).map(|(v, _)| *v).collect()
        };
        let (low, other) = (of(1.0), of(0.0));
        for (sample, k) in [(&low, 1), (&other, 0)] {
            let found = hypothesis::summarize(sample).unwrap();
            close(name, found.mean, at(reference, &format!("mean{k}")), 1e-13);
            close(name, found.standard_deviation.unwrap(), at(reference, &format!("sd{k}")), 1e-13);
            let quartiles = [found.median, found.lower_quartile, found.upper_quartile];
            all_close(name, &quartiles, &list(&reference[format!("median_iqr{k}")]), 1e-13);
        }
        same_test(hypothesis::t_test(&low, &other, Variances::Unequal).unwrap(), &reference["welch"], "t");
        same_test(hypothesis::t_test(&low, &other, Variances::Equal).unwrap(), &reference["student"], "t");
        let rank = hypothesis::wilcoxon(&low, &other, RankMethod::Normal).unwrap();
        same_test(rank, &reference["wilcoxon_corrected"], "W");
        same_test(hypothesis::shapiro_wilk(&values).unwrap(), &reference["shapiro"], "W");
        let rho = selection::spearman(&values, &group).unwrap();
        close(name, rho, at(reference, "spearman_with_group"), 1e-12);
    }
}

#[test]
fn categorical_variables_of_table_one_are_those_of_r() {
    let case = expected("baseline_birthwt");
    let data = columns("baseline_birthwt", "data.csv");
    for reference in case["categorical"].as_array().unwrap() {
        let name = reference["variable"].as_str().unwrap();
        let levels: Vec<&str> = reference["levels"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
        let count = |group: &str, level: &str| {
            let rows = data["low"].iter().zip(&data[name]);
            rows.filter(|(g, v)| g.as_str() == group && v.as_str() == level).count() as u64
        };
        let counts = Array2::from_shape_fn((2, levels.len()), |(i, j)| count(["0", "1"][i], levels[j]));
        for (i, key) in ["counts0", "counts1"].iter().enumerate() {
            let found: Vec<f64> = counts.row(i).iter().map(|n| *n as f64).collect();
            all_close(name, &found, &list(&reference[key]), 0.0);
        }
        let corrected = hypothesis::chi_squared(counts.view(), true).unwrap();
        same_test(corrected.test, &reference["chisq_default"], "stat");
        close(name, corrected.expected_min, at(reference, "min_expected"), 1e-13);
        same_test(hypothesis::chi_squared(counts.view(), false).unwrap().test, &reference["chisq_uncorrected"], "stat");
        close(name, hypothesis::fisher(counts.view()).unwrap(), at(reference, "fisher_p"), 1e-9);
        if levels.len() == 2 {
            let table = [[counts[[0, 0]], counts[[0, 1]]], [counts[[1, 0]], counts[[1, 1]]]];
            let found = hypothesis::fisher_2x2(table, 0.95).unwrap();
            close(name, found.p, at(reference, "fisher_p"), 1e-10);
            // R's uniroot stops at 1.2e-4, on the odds ratio or its inverse.
            close(name, found.odds_ratio, at(reference, "fisher_or"), 3e-4);
            assert!(found.interval.0 < found.odds_ratio && found.odds_ratio < found.interval.1);
        }
    }
    let p_adjust = &case["p_adjust"];
    let raw = list(&p_adjust["raw"]);
    for (key, correction) in
        [("BH", Correction::BenjaminiHochberg), ("holm", Correction::Holm), ("bonferroni", Correction::Bonferroni)]
    {
        all_close(key, &hypothesis::adjust(&raw, correction).unwrap(), &list(&p_adjust[key]), 1e-13);
    }
}

/// Values from R 4.x documentation examples and scipy 1.17.1.
#[test]
fn tests_outside_the_case_agree_with_scipy() {
    let (a, b, c) = ([2.9, 3.0, 2.5, 2.6, 3.2], [3.8, 2.7, 4.0, 2.4], [2.8, 3.4, 3.7, 2.2, 2.0]);
    // Hollander and Wolfe (1973), 116: R's example of kruskal.test.
    let found = hypothesis::kruskal_wallis(&[&a, &b, &c]).unwrap();
    close("H", found.statistic, 0.7714285714285722, 1e-12);
    close("p", found.p, 0.6799647735788936, 1e-12);
    // Agresti's job satisfaction, R's example of fisher.test on a 4 x 4 table: p = 0.7827.
    let job = array![[1, 2, 1, 0], [3, 3, 6, 1], [10, 10, 14, 9], [6, 7, 12, 11]];
    close("4 x 4", hypothesis::fisher(job.view()).unwrap(), 0.7827, 1e-4);
    // By enumeration in fractions.
    let table = array![[12, 3, 7], [5, 9, 4], [2, 6, 11]];
    close("3 x 3", hypothesis::fisher(table.view()).unwrap(), 0.007923020998714501, 1e-10);
    let table = array![[3, 1, 0, 2], [0, 4, 1, 1]];
    close("2 x 4", hypothesis::fisher(table.view()).unwrap(), 0.18831168831168832, 1e-10);
    close("4 x 2", hypothesis::fisher(table.t()).unwrap(), 0.18831168831168832, 1e-10);
    let found = hypothesis::fisher_2x2([[8, 2], [1, 5]], 0.95).unwrap();
    close("p", found.p, 0.034965034965034975, 1e-12);
    close("odds ratio", found.odds_ratio, 15.465819716921013, 1e-9);
    close("low", found.interval.0, 1.0088492079476723, 1e-9);
    close("high", found.interval.1, 1059.6394950862782, 1e-9);

    // R's example of wilcox.test (permeability constants), and the largest exact case.
    let first = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46];
    let found = hypothesis::wilcoxon(&first, &[1.15, 0.88, 0.90, 0.74, 1.21], RankMethod::Auto).unwrap();
    assert_eq!(found.statistic, 35.0);
    close("exact", found.p, 0.2544122544122544, 1e-12);
    let first: Vec<f64> = (0..49).map(f64::from).collect();
    let second: Vec<f64> = (0..45).map(|k| f64::from(k) * 1.1 + 30.35).collect();
    let found = hypothesis::wilcoxon(&first, &second, RankMethod::Auto).unwrap();
    assert_eq!(found.statistic, 160.0);
    close("exact", found.p, 1.370907673810446e-15, 1e-11);

    for (values, w, p) in [
        (&[1.0, 3.912, 4.595][..], 0.8864110107891728, 0.34346641163938807),
        (&[1.0, 3.912, 4.595, 6.512], 0.9714319708111986, 0.8503301663366782),
        (&[1.0, 3.912, 4.595, 5.293, 6.512], 0.9397038011490917, 0.6638448183644521),
        (&[0.415, 1.0, 3.912, 4.595, 5.293, 6.512], 0.9166605240850807, 0.4816400625679928),
        (
            &[0.415, 1.0, 1.599, 2.106, 3.912, 4.595, 5.189, 5.293, 5.663, 6.512, 6.613],
            0.9065751117291356,
            0.22202119702554995,
        ),
        (
            &[0.415, 1.0, 1.599, 2.106, 3.1, 3.912, 4.595, 5.189, 5.293, 5.663, 6.512, 6.613],
            0.9328087236386627,
            0.4108361814786789,
        ),
    ] {
        let found = hypothesis::shapiro_wilk(values).unwrap();
        close("W", found.statistic, w, 1e-6);
        close("Shapiro p", found.p, p, 1e-6);
    }
}

#[test]
fn shapley_values_are_those_of_shap() {
    let case = expected("shap_logistic");
    let names: Vec<&str> = case["features"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    let table = |file: &str| {
        let data = columns("shap_logistic", file);
        let rows = data[names[0]].len();
        let mut x = Array2::zeros((rows, names.len()));
        for (j, name) in names.iter().enumerate() {
            x.column_mut(j).assign(&Array1::from(numbers(&data[*name])));
        }
        x
    };
    let (train, explain) = (table("train.csv"), table("explain.csv"));
    let (intercept, beta) = (at(&case, "intercept"), Array1::from(list(&case["coef"])));
    let n = train.nrows() as f64;
    let mean = train.sum_axis(ndarray::Axis(0)) / n;
    all_close("mean", mean.as_slice().unwrap(), &list(&case["background_mean"]), 1e-12);
    let centered = &train - &mean;
    let covariance = centered.t().dot(&centered) / (n - 1.0);
    same_matrix("covariance", covariance.view(), &case["background_cov_ddof1"], 1e-12);
    all_close("lp", (explain.dot(&beta) + intercept).as_slice().unwrap(), &list(&case["lp"]), 1e-11);

    let found = attribution::linear(intercept, beta.view(), mean.view(), explain.view()).unwrap();
    close("base", found.base, at(&case, "base_value_logit"), 1e-11);
    same_matrix("linear", found.values.view(), &case["shap_interventional_logit"], 1e-11);
    all_close("importance", found.importance().as_slice().unwrap(), &list(&case["mean_abs_shap_logit"]), 1e-11);
    let ranking: Vec<&str> = found.ranking().into_iter().map(|j| names[j]).collect();
    assert_eq!(serde_json::json!(ranking), case["rank"]);

    let found =
        attribution::gaussian_conditional(intercept, beta.view(), mean.view(), covariance.view(), explain.view())
            .unwrap();
    same_matrix("conditional", found.values.view(), &case["shap_conditional_gaussian_logit"], 1e-9);

    let rows = at(&case, "probability_background_first_rows_of_train") as usize;
    let found = attribution::probability(intercept, beta.view(), train.slice(s![..rows, ..]), explain.view()).unwrap();
    close("base", found.base, at(&case, "base_value_probability"), 1e-11);
    same_matrix("probability", found.values.view(), &case["shap_interventional_probability"], 1e-9);
}

#[track_caller]
fn same_matrix(what: &str, found: ArrayView2<f64>, reference: &Json, relative: f64) {
    let rows = reference.as_array().unwrap();
    assert_eq!(found.nrows(), rows.len(), "{what}");
    for (found, row) in found.rows().into_iter().zip(rows) {
        all_close(what, &found.to_vec(), &list(row), relative);
    }
}

#[test]
fn bad_input_is_refused_with_its_place() {
    let constant = hypothesis::t_test(&[1.0; 3], &[1.0; 4], Variances::Unequal);
    assert!(matches!(constant, Err(StatisticsError::Degenerate { .. })));
    assert!(matches!(hypothesis::shapiro_wilk(&[1.0; 9]), Err(StatisticsError::Degenerate { .. })));
    assert!(matches!(hypothesis::shapiro_wilk(&[1.0, 2.0]), Err(StatisticsError::Length { .. })));
    let nan = hypothesis::wilcoxon(&[1.0, f64::NAN], &[1.0], RankMethod::Auto);
    assert!(matches!(nan, Err(StatisticsError::NotFinite { row: 1, .. })));
    assert!(hypothesis::wilcoxon(&[], &[1.0], RankMethod::Auto).is_err());
    assert!(hypothesis::kruskal_wallis(&[&[1.0, 1.0], &[1.0]]).is_err());
    assert!(hypothesis::chi_squared(array![[0, 0], [1, 2]].view(), true).is_err());
    assert!(hypothesis::fisher_2x2([[0, 0], [1, 2]], 0.95).is_err());
    assert!(hypothesis::adjust(&[0.1, f64::NAN], Correction::Holm).is_err());
    assert!(hypothesis::standardized_mean_difference(&[1.0; 2], &[1.0; 2]).is_err());
    let (b, x) = (array![1.0, 2.0], array![[1.0, f64::NAN]]);
    assert!(attribution::linear(0.0, b.view(), b.view(), x.view()).is_err());
    assert!(attribution::linear(0.0, b.view(), array![0.0].view(), array![[1.0, 2.0]].view()).is_err());
    let singular = array![[1.0, 1.0], [1.0, 1.0]];
    let two = array![[1.0, 2.0]];
    let three = array![[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let b3 = array![1.0, 2.0, 3.0];
    assert!(attribution::gaussian_conditional(0.0, b.view(), b.view(), singular.view(), two.view()).is_ok());
    let found =
        attribution::gaussian_conditional(0.0, b3.view(), b3.view(), three.view(), array![[1.0, 2.0, 3.0]].view());
    assert!(matches!(found, Err(StatisticsError::Singular { .. })));
}
