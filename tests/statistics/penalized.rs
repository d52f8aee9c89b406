//! LASSO paths and their cross-validation against glmnet.

use super::{all_close, close, columns, expected, list, numbers};
use crate::common::reference;
use metwatch::statistics::penalized::{self, CrossValidation, Measure, Options, Outcome, Path};
use ndarray::{Array2, Axis};
use serde_json::Value as Json;

/// A case of a binary outcome: predictors in the order of `coef_names`, outcome, folds from 0.
struct Case {
    expected: Json,
    x: Array2<f64>,
    y: Vec<f64>,
    time: Vec<f64>,
    event: Vec<bool>,
    folds: Vec<usize>,
}

fn case(name: &str) -> Case {
    let expected = expected(name);
    let survival = name.contains("cox");
    let names: Vec<&str> = expected["tight"]["coef_names"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    let table = columns(name, "x.csv");
    let found: Vec<Vec<f64>> = names.iter().skip(usize::from(!survival)).map(|n| numbers(&table[*n])).collect();
    assert_eq!(found.len(), table.len(), "a column without a coefficient");
    let outcome = columns(name, "y.csv");
    let folds = numbers(&outcome["foldid"]).iter().map(|f| *f as usize - 1).collect();
    let x = Array2::from_shape_fn((found[0].len(), found.len()), |(i, j)| found[j][i]);
    let of = |name: &str| outcome.get(name).map_or(vec![], |c| numbers(c));
    let event = of("status").iter().map(|s| *s == 1.0).collect();
    Case { expected, x, y: of("y"), time: of("time"), event, folds }
}

impl Case {
    fn outcome(&self) -> Outcome<'_> {
        if self.y.is_empty() {
            Outcome::Survival { time: &self.time, event: &self.event }
        } else {
            Outcome::Binary(&self.y)
        }
    }

    fn fit(&self, options: &Options) -> Path {
        penalized::fit(self.x.view(), &self.outcome(), options).unwrap()
    }

    fn cross_validate(&self, measure: Measure, grouped: bool) -> CrossValidation {
        penalized::cross_validate(self.x.view(), &self.outcome(), &Options::default(), &self.folds, measure, grouped).unwrap()
    }
}

/// Coefficients as glmnet lists them: intercept first, if there is one.
fn coefficients(path: &Path, lambda: f64, survival: bool) -> Vec<f64> {
    let (intercept, all) = path.at(lambda);
    std::iter::once(intercept).skip(usize::from(survival)).chain(all).collect()
}

/// Within `relative` of each coefficient, or 1e-5 of the largest (glmnet's own accuracy, see the README of the data).
#[track_caller]
fn coefficients_close(what: &str, a: &[f64], b: &[f64], relative: f64, of_largest: f64) {
    assert_eq!(a.len(), b.len(), "{what}");
    let largest = b.iter().skip(1).fold(0.0_f64, |m, v| m.max(v.abs()));
    for (j, (a, b)) in a.iter().zip(b).enumerate() {
        let fine = (a - b).abs() <= relative * b.abs() || (a - b).abs() <= of_largest * largest.max(1e-12);
        assert!(fine, "{what}[{j}]: {a:?}, glmnet {b:?}, relative {:e}, of the largest {:e}", (a - b).abs() / b.abs(), (a - b).abs() / largest);
    }
}

/// A converged path: the same lambdas, counts, deviance ratios and coefficients, and optimal by a computation of its own.
#[track_caller]
fn path_equals(what: &str, case: &Case, path: &Path, reference: &Json, options: &Options) {
    let survival = case.y.is_empty();
    assert!(!path.limit_met, "{what}");
    all_close(&format!("{what} lambda"), &path.lambdas, &list(&reference["lambda"]), 1e-9);
    close(&format!("{what} nulldev"), path.null_deviance, reference["nulldev"].as_f64().unwrap(), 1e-10);
    let ratios = list(&reference["dev_ratio"]);
    let df = list(&reference["df"]);
    let counts = path.counts();
    let mut different = 0;
    for k in 0..path.lambdas.len() {
        assert!((path.deviance_ratios[k] - ratios[k]).abs() < 1e-6, "{what} dev_ratio[{k}]");
        different += usize::from(counts[k] as f64 != df[k]);
        let relative = if 2 * k < path.lambdas.len() { 1e-4 } else { 1e-3 };
        let given = list(&reference["coef_by_lambda"][k]);
        let found = coefficients(path, path.lambdas[k], survival);
        coefficients_close(&format!("{what} coef at {k}"), &found, &given, relative, 1e-5);
        assert!(path.optimality[k] < 1e-9, "{what} optimality[{k}] = {:e}", path.optimality[k]);
        let own = optimality(case, path, k, options);
        assert!(own < 1e-8, "{what}: optimality at {k}, computed from the coefficients, {own:e}");
    }
    // glmnet's coefficients enter up to a lambda late where it has not converged.
    assert!(different * 20 <= counts.len(), "{what}: {different} of {} counts differ", counts.len());
}

/// The worst violation of the optimality conditions relative to lambda, from the published coefficients alone.
fn optimality(case: &Case, path: &Path, k: usize, options: &Options) -> f64 {
    let (intercept, b) = path.at(path.lambdas[k]);
    let n = case.x.nrows();
    let weights = options.weights.map_or(vec![1.0; n], <[f64]>::to_vec);
    let total: f64 = weights.iter().sum();
    let eta = case.x.dot(&b) + intercept;
    let residual: Vec<f64> = if case.y.is_empty() {
        (0..n)
            .map(|i| {
                let hazard = |t: f64| -> f64 {
                    let deaths = (0..n).filter(|&j| case.event[j] && case.time[j] == t).count() as f64;
                    deaths / (0..n).filter(|&j| case.time[j] >= t).map(|j| eta[j].exp()).sum::<f64>()
                };
                let mut times: Vec<f64> =
                    (0..n).filter(|&j| case.event[j] && case.time[j] <= case.time[i]).map(|j| case.time[j]).collect();
                times.sort_by(f64::total_cmp);
                times.dedup();
                let cumulative: f64 = times.into_iter().map(hazard).sum();
                (f64::from(u8::from(case.event[i])) - eta[i].exp() * cumulative) / total
            })
            .collect()
    } else {
        (0..n).map(|i| weights[i] * (case.y[i] - 1.0 / (1.0 + (-eta[i]).exp())) / total).collect()
    };
    let p = case.x.ncols();
    let factors = options.penalty_factors.map_or(vec![1.0; p], <[f64]>::to_vec);
    let scale = p as f64 / factors.iter().sum::<f64>();
    let lambda = path.lambdas[k];
    let mut worst: f64 = 0.0;
    for j in 0..p {
        let column = case.x.column(j);
        let mean = column.iter().zip(&weights).map(|(v, w)| v * w).sum::<f64>() / total;
        let variance = column.iter().zip(&weights).map(|(v, w)| w * (v - mean) * (v - mean)).sum::<f64>() / total;
        let sd = if options.standardize { variance.sqrt() } else { 1.0 };
        let gradient: f64 = column.iter().zip(&residual).map(|(v, r)| (v - mean) / sd * r).sum();
        let factor = factors[j] * scale;
        // The first lambda of a grid stands for an infinite one.
        let penalty = lambda * options.alpha * factor;
        let force = gradient - lambda * (1.0 - options.alpha) * factor * b[j] * sd;
        worst = worst.max(if b[j] == 0.0 { force.abs() - penalty } else { (force - b[j].signum() * penalty).abs() });
    }
    worst.max(if case.y.is_empty() { 0.0 } else { residual.iter().sum::<f64>().abs() }) / lambda
}

/// glmnet's own default accuracy: the grid, and how much is explained.
#[track_caller]
fn default_path_is_near(path: &Path, reference: &Json) {
    let lambdas = list(&reference["lambda"]);
    assert!(lambdas.len().abs_diff(path.lambdas.len()) <= 1);
    for (k, (a, b)) in path.lambdas.iter().zip(&lambdas).enumerate() {
        close("default lambda", *a, *b, 1e-9);
        assert!((path.deviance_ratios[k] - list(&reference["dev_ratio"])[k]).abs() < 1e-2);
    }
    close("default nulldev", path.null_deviance, reference["nulldev"].as_f64().unwrap(), 1e-10);
}

#[track_caller]
fn curve_equals(what: &str, case: &Case, found: &CrossValidation, reference: &Json) {
    all_close(&format!("{what} lambda"), &found.path.lambdas, &list(&reference["lambda"]), 1e-9);
    let near = |what: &str, a: &[f64], b: Vec<f64>| {
        assert_eq!(a.len(), b.len(), "{what}");
        for k in 0..a.len() {
            assert!((a[k] - b[k]).abs() <= 1e-5, "{what}[{k}]: {} or {}", a[k], b[k]);
        }
    };
    near(&format!("{what} cvm"), &found.mean, list(&reference["cvm"]));
    near(&format!("{what} cvsd"), &found.standard_error, list(&reference["cvsd"]));
    let shifted = |sign: f64| -> Vec<f64> { found.mean.iter().zip(&found.standard_error).map(|(m, s)| m + sign * s).collect() };
    near(&format!("{what} cvup"), &shifted(1.0), list(&reference["cvup"]));
    near(&format!("{what} cvlo"), &shifted(-1.0), list(&reference["cvlo"]));
    let nonzero = list(&reference["nzero"]);
    let different = found.path.counts().iter().zip(&nonzero).filter(|(a, b)| **a as f64 != **b).count();
    assert!(different * 20 <= nonzero.len(), "{what}: {different} of nzero differ");
    close(&format!("{what} lambda_min"), found.lambda_min(), reference["lambda_min"].as_f64().unwrap(), 1e-9);
    close(&format!("{what} lambda_1se"), found.lambda_1se(), reference["lambda_1se"].as_f64().unwrap(), 1e-9);
    for (key, lambda) in [("coef_min", found.lambda_min()), ("coef_1se", found.lambda_1se())] {
        let given: Vec<f64> = reference[key].as_object().unwrap().values().map(|v| v.as_f64().unwrap()).collect();
        coefficients_close(&format!("{what} {key}"), &coefficients(&found.path, lambda, case.y.is_empty()), &given, 1e-3, 1e-5);
    }
}

fn binomial(name: &str) {
    let case = case(name);
    let e = &case.expected;
    let path = case.fit(&Options::default());
    path_equals("tight", &case, &path, &e["tight"], &Options::default());
    default_path_is_near(&path, &e["default"]);
    for (key, measure, label) in [
        ("cv_deviance", Measure::Deviance, "Binomial Deviance"),
        ("cv_auc", Measure::Auc, "AUC"),
        ("cv_class", Measure::Misclassification, "Misclassification Error"),
    ] {
        assert_eq!(e[key]["name"], label);
        curve_equals(key, &case, &case.cross_validate(measure, true), &e[key]);
    }
}

#[test]
fn breast_cancer_path_and_curves_equal_glmnet() {
    binomial("lasso_binomial_wdbc");
}

#[test]
fn radiomics_path_and_curves_equal_glmnet() {
    binomial("lasso_binomial_crlm_radiomics");
}

#[test]
fn breast_cancer_options_equal_glmnet() {
    let case = case("lasso_binomial_wdbc");
    let e = &case.expected;
    let check = |key: &str, options: &Options| path_equals(key, &case, &case.fit(options), &e[key], options);
    check("alpha05", &Options { alpha: 0.5, ..Options::default() });
    check("standardize_false", &Options { standardize: false, ..Options::default() });
    let mut factors = vec![1.0; case.x.ncols()];
    factors[..2].fill(0.0);
    let free = Options { penalty_factors: Some(&factors), ..Options::default() };
    check("penalty_factor_first_two_zero", &free);
    let weights: Vec<f64> = case.y.iter().map(|y| 1.0 + y).collect();
    check("weights_events_double", &Options { weights: Some(&weights), ..Options::default() });
    let lambdas = list(&e["user_lambda"]["lambda"]);
    check("user_lambda", &Options { lambdas: Some(&lambdas), ..Options::default() });

    let between = &e["predict_lambda_between"];
    let s = between["s"].as_f64().unwrap();
    let interpolated = coefficients(&case.fit(&Options::default()), s, false);
    coefficients_close("interpolated", &interpolated, &list(&between["interpolated"]), 1e-4, 1e-5);
    let exact = coefficients(&case.fit(&Options { lambdas: Some(&[s]), ..Options::default() }), s, false);
    coefficients_close("exact", &exact, &list(&between["exact_refit"]), 1e-4, 1e-5);
}

#[test]
fn colon_cancer_path_and_curves_equal_glmnet() {
    let case = case("lasso_cox_colon");
    let e = &case.expected;
    let path = case.fit(&Options::default());
    path_equals("tight", &case, &path, &e["tight"], &Options::default());
    default_path_is_near(&path, &e["default"]);
    for (key, measure, grouped, label) in [
        ("cv_deviance_grouped", Measure::Deviance, true, "Partial Likelihood Deviance"),
        ("cv_deviance_ungrouped", Measure::Deviance, false, "Partial Likelihood Deviance"),
        ("cv_C", Measure::Concordance, true, "C-index"),
    ] {
        assert_eq!(e[key]["name"], label);
        curve_equals(key, &case, &case.cross_validate(measure, grouped), &e[key]);
    }
}
