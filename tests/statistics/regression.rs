//! Logistic regression against R's glm, MASS and brglm2.

use super::{all_close, close, columns, expected, list, numbers};
use crate::common::reference;
use metwatch::statistics::StatisticsError;
use metwatch::statistics::logistic::{self, Logistic, Options};
use metwatch::statistics::stepwise::{Change, Direction};
use ndarray::{Array2, Axis};
use serde_json::Value as Json;

/// Columns side by side.
fn table(columns: &[Vec<f64>]) -> Array2<f64> {
    Array2::from_shape_fn((columns[0].len(), columns.len()), |(i, j)| columns[j][i])
}

/// MASS::birthwt as model.matrix writes it: names of the terms, their columns, the predictors, the outcome.
fn birthwt() -> (Vec<String>, Vec<Vec<usize>>, Array2<f64>, Vec<f64>) {
    let data = columns("logistic_birthwt", "data.csv");
    let indicator = |level: &str| data["race"].iter().map(|r| f64::from(u8::from(r == level))).collect();
    let (mut terms, mut groups, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for term in ["age", "lwt", "race", "smoke", "ptl", "ht", "ui", "ftv"] {
        let of = if term == "race" { vec![indicator("black"), indicator("other")] } else { vec![numbers(&data[term])] };
        groups.push((all.len()..all.len() + of.len()).collect());
        all.extend(of);
        terms.push(term.to_string());
    }
    (terms, groups, table(&all), numbers(&data["low"]))
}

/// The numbers of an object, in its order.
fn values(object: &Json) -> Vec<f64> {
    object.as_object().unwrap().values().map(|v| v.as_f64().unwrap()).collect()
}

fn texts(list: &Json) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
}

#[test]
fn birth_weight_equals_glm() {
    let e = expected("logistic_birthwt");
    let (_, _, x, y) = birthwt();
    let model = logistic::fit(x.view(), &y, &Options::default()).unwrap();
    all_close("coef", &model.coefficients.to_vec(), &list(&e["coef"]), 1e-10);
    all_close("se", &model.standard_errors.to_vec(), &list(&e["se"]), 1e-10);
    all_close("z", &model.z.to_vec(), &list(&e["z"]), 1e-10);
    all_close("p", &model.p.to_vec(), &list(&e["p"]), 1e-9);
    all_close("or", &model.coefficients.mapv(f64::exp).to_vec(), &list(&e["or"]), 1e-10);
    for (j, column) in e["vcov"].as_array().unwrap().iter().enumerate() {
        all_close("vcov", &model.covariance.column(j).to_vec(), &list(column), 1e-9);
    }
    close("deviance", model.deviance, e["deviance"].as_f64().unwrap(), 1e-12);
    close("null deviance", model.null_deviance, e["null_deviance"].as_f64().unwrap(), 1e-12);
    close("loglik", model.log_likelihood, e["loglik"].as_f64().unwrap(), 1e-12);
    close("aic", model.aic, e["aic"].as_f64().unwrap(), 1e-12);
    close("bic", model.bic, e["bic"].as_f64().unwrap(), 1e-12);
    assert_eq!(model.iterations as u64, e["iterations"].as_u64().unwrap());
    all_close("fitted", &model.probabilities.to_vec(), &list(&e["fitted"]), 1e-10);
    let predicted = model.predict(x.view()).unwrap().mapv(logistic::probability);
    all_close("predicted", &predicted.to_vec(), &list(&e["fitted"]), 1e-10);

    let (lower, upper): (Vec<f64>, Vec<f64>) = model.wald_intervals(0.95).into_iter().unzip();
    all_close("wald_lo", &lower, &list(&e["wald_lo"]), 1e-9);
    all_close("wald_hi", &upper, &list(&e["wald_hi"]), 1e-9);
    let profile = logistic::profile_intervals(x.view(), &y, &Options::default(), &model, 0.95).unwrap();
    let (lower, upper): (Vec<f64>, Vec<f64>) = profile.into_iter().unzip();
    all_close("profile_lo", &lower, &list(&e["profile_lo"]), 1e-6);
    all_close("profile_hi", &upper, &list(&e["profile_hi"]), 1e-6);
    all_close("vif", &model.variance_inflation().unwrap(), &values(&e["vif"]), 1e-9);

    let firth = logistic::firth(x.view(), &y, &Options::default()).unwrap();
    all_close("firth coef", &firth.coefficients.to_vec(), &list(&e["firth"]["coef"]), 1e-6);
    all_close("firth se", &firth.standard_errors.to_vec(), &list(&e["firth"]["se"]), 1e-6);
}

#[test]
fn birth_weight_terms_equal_drop1_and_univariable_glm() {
    let e = expected("logistic_birthwt");
    let (terms, groups, x, y) = birthwt();
    let dropped = logistic::drop1(x.view(), &y, &Options::default(), &groups).unwrap();
    let reference = &e["drop1"];
    assert_eq!(texts(&reference["term"])[1..], terms);
    let of = |key: &str| list(&reference[key])[1..].to_vec();
    all_close("df", &dropped.iter().map(|d| d.df as f64).collect::<Vec<_>>(), &of("df"), 0.0);
    all_close("deviance", &dropped.iter().map(|d| d.deviance).collect::<Vec<_>>(), &of("deviance"), 1e-11);
    all_close("aic", &dropped.iter().map(|d| d.aic).collect::<Vec<_>>(), &of("aic"), 1e-11);
    all_close("lrt", &dropped.iter().map(|d| d.likelihood_ratio).collect::<Vec<_>>(), &of("lrt"), 1e-8);
    all_close("p", &dropped.iter().map(|d| d.p).collect::<Vec<_>>(), &of("p"), 1e-8);
    let full = logistic::fit(x.view(), &y, &Options::default()).unwrap();
    close("<none> deviance", full.deviance, list(&reference["deviance"])[0], 1e-12);
    close("<none> aic", full.aic, list(&reference["aic"])[0], 1e-12);

    let univariable = e["univariable"].as_array().unwrap();
    assert_eq!(univariable.len(), terms.len());
    for (reference, group) in univariable.iter().zip(&groups) {
        let x = x.select(Axis(1), group);
        let model = logistic::fit(x.view(), &y, &Options::default()).unwrap();
        all_close("coef", &model.coefficients.to_vec(), &list(&reference["coef"]), 1e-9);
        all_close("se", &model.standard_errors.to_vec(), &list(&reference["se"]), 1e-9);
        all_close("p", &model.p.to_vec(), &list(&reference["p"]), 1e-9);
        let alone = logistic::drop1(x.view(), &y, &Options::default(), &[(0..group.len()).collect()]).unwrap();
        close("lrt_p", alone[0].p, reference["lrt_p"].as_f64().unwrap(), 1e-8);
    }
}

#[test]
fn birth_weight_selection_equals_step_aic() {
    let e = expected("logistic_birthwt");
    let (terms, groups, x, y) = birthwt();
    let directions =
        [("step_backward", Direction::Backward), ("step_forward", Direction::Forward), ("step_both", Direction::Both)];
    for (key, direction) in directions {
        let selection = logistic::step(x.view(), &y, &Options::default(), &groups, direction, 2.0).unwrap();
        let mut names = vec![String::new()];
        let mut aic = vec![selection.start_criterion];
        for (change, after) in &selection.steps {
            names.push(match change {
                Change::Drop(g) => format!("- {}", terms[*g]),
                Change::Add(g) => format!("+ {}", terms[*g]),
            });
            aic.push(*after);
        }
        assert_eq!(names, texts(&e[key]["anova_steps"]), "{key}");
        all_close(key, &aic, &list(&e[key]["aic"]), 1e-11);
        let kept: Vec<&String> = selection.groups.iter().map(|&g| &terms[g]).collect();
        assert_eq!(kept, texts(&e[key]["final_terms"]), "{key}");
        all_close(key, &selection.model.coefficients.to_vec(), &values(&e[key]["coef"]), 1e-9);
    }
}

#[test]
fn complete_separation_is_refused_and_firth_answers() {
    let e = expected("logistic_separation");
    let data = columns("logistic_separation", "data.csv");
    let y = numbers(&data["y"]);
    let x = table(&[numbers(&data["x"]), numbers(&data["z"])]);
    for columns in [vec![0], vec![0, 1]] {
        let refused = logistic::fit(x.select(Axis(1), &columns).view(), &y, &Options::default()).unwrap_err();
        assert!(matches!(refused, StatisticsError::Separated { complete: true, columns } if columns == [0]));
    }
    let firth = logistic::firth(x.view(), &y, &Options::default()).unwrap();
    let reference = values_but_se(&e["firth_x_z"]["coef"]);
    all_close("coef", &firth.coefficients.to_vec(), &reference, 1e-6);
    all_close("se", &firth.standard_errors.to_vec(), &list(&e["firth_x_z"]["se"]), 1e-6);
}

/// R's list of named coefficients; a zero up to rounding is compared as zero.
fn values_but_se(object: &Json) -> Vec<f64> {
    values(object).into_iter().map(|v| if v.abs() < 1e-12 { 0.0 } else { v }).collect()
}

/// A column with its name.
type Named = (&'static str, Vec<f64>);

/// The clinical columns of the simulated cohort's training rows as its R script made them, and the outcome.
fn cohort() -> (Json, Vec<usize>, Vec<Named>, Vec<f64>) {
    let text = std::fs::read_to_string(reference("cohort/reference_R.json")).unwrap();
    let text_of_rows = std::fs::read_to_string(reference("cohort/clinical.csv")).unwrap();
    let mut lines = text_of_rows.lines().map(|l| l.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let rows: Vec<Vec<&str>> = lines.collect();
    let at = |name: &str| header.iter().position(|h| *h == name).unwrap();
    let train: Vec<usize> = (0..rows.len()).filter(|&i| rows[i][at("split")] == "train").collect();
    let cells = |name: &str| -> Vec<&str> { train.iter().map(|&i| rows[i][at(name)]).collect() };
    let number = |name: &str| -> Vec<f64> { cells(name).iter().map(|c| c.parse().unwrap()).collect() };
    let is = |name: &str, level: &str| -> Vec<f64> {
        cells(name).iter().map(|c| f64::from(u8::from(*c == level))).collect()
    };
    let columns = vec![
        ("age_years", number("age_years")),
        ("male", is("sex", "M")),
        ("log_afp", number("afp_ng_per_ml").iter().map(|v| v.ln()).collect()),
        ("t_stage", number("t_stage")),
        ("n_stage", number("n_stage")),
        ("dissected_lymph_nodes", number("dissected_lymph_nodes")),
        ("positive_lymph_nodes", number("positive_lymph_nodes")),
        ("perineural_invasion", number("perineural_invasion")),
        ("lymphovascular_invasion", number("lymphovascular_invasion")),
        ("tumor_nodules", number("tumor_nodules")),
        ("poor", is("differentiation", "poor")),
        ("adjuvant_chemo", number("adjuvant_chemo")),
    ];
    let y = number("mlm");
    (serde_json::from_str(&text).unwrap(), train, columns, y)
}

#[test]
fn clinical_and_combined_models_of_the_cohort_equal_glm() {
    let (e, train, columns, y) = cohort();
    let names: Vec<&str> = columns.iter().map(|c| c.0).collect();
    assert_eq!(names, texts(&e["univariable"]["term"]));
    let fit =
        |columns: &[Vec<f64>]| -> Logistic { logistic::fit(table(columns).view(), &y, &Options::default()).unwrap() };
    let single: Vec<Logistic> = columns.iter().map(|(_, c)| fit(std::slice::from_ref(c))).collect();
    let odds_ratios: Vec<f64> = single.iter().map(|m| m.coefficients[1].exp()).collect();
    let p: Vec<f64> = single.iter().map(|m| m.p[1]).collect();
    all_close("or", &odds_ratios, &list(&e["univariable"]["or"]), 1e-9);
    all_close("p", &p, &list(&e["univariable"]["p"]), 1e-8);

    let candidates: Vec<usize> = (0..p.len()).filter(|&j| p[j] < 0.05).collect();
    let x = table(&candidates.iter().map(|&j| columns[j].1.clone()).collect::<Vec<_>>());
    let groups: Vec<Vec<usize>> = (0..candidates.len()).map(|j| vec![j]).collect();
    let selection = logistic::step(x.view(), &y, &Options::default(), &groups, Direction::Backward, 2.0).unwrap();
    let terms: Vec<&str> = selection.columns.iter().map(|&j| names[candidates[j]]).collect();
    assert_eq!(terms, texts(&e["clinical_terms"]));
    all_close("clinical_coef", &selection.model.coefficients.to_vec(), &values(&e["clinical_coef"]), 1e-9);

    let chosen: Vec<Vec<f64>> = selection.columns.iter().map(|&j| columns[candidates[j]].1.clone()).collect();
    let with = |scores: Vec<f64>| fit(&[chosen.clone(), vec![scores]].concat());
    let rad_score = list(&e["rad_score"]);
    let combined = with(train.iter().map(|&i| rad_score[i]).collect());
    let reference = &e["combined"];
    all_close("coef", &combined.coefficients.to_vec(), &list(&reference["coef"]), 1e-9);
    all_close("se", &combined.standard_errors.to_vec(), &list(&reference["se"]), 1e-9);
    all_close("p", &combined.p.to_vec(), &list(&reference["p"]), 1e-8);
    all_close("or", &combined.coefficients.mapv(f64::exp).to_vec(), &list(&reference["or"]), 1e-9);
    let (lower, upper): (Vec<f64>, Vec<f64>) = combined.wald_intervals(0.95).into_iter().unzip();
    all_close("wald_lo", &lower.iter().map(|v| v.exp()).collect::<Vec<_>>(), &list(&reference["wald_lo"]), 1e-9);
    all_close("wald_hi", &upper.iter().map(|v| v.exp()).collect::<Vec<_>>(), &list(&reference["wald_hi"]), 1e-9);
    let lp = list(&e["lp_combined"]);
    let lp: Vec<f64> = train.iter().map(|&i| lp[i]).collect();
    all_close("lp_combined", &combined.linear_predictors.to_vec(), &lp, 1e-9);

    let prevalidated = with(list(&e["prevalidated"]["fit_preval_train"]));
    all_close("prevalidated coef", &prevalidated.coefficients.to_vec(), &values(&e["prevalidated"]["coef"]), 1e-9);
    all_close("prevalidated se", &prevalidated.standard_errors.to_vec(), &values(&e["prevalidated"]["se"]), 1e-9);
}

#[test]
fn the_order_of_rows_and_the_scale_of_columns_change_nothing() {
    let (_, _, x, y) = birthwt();
    let model = logistic::fit(x.view(), &y, &Options::default()).unwrap();
    let order: Vec<usize> = (0..y.len()).map(|i| i * 100 % y.len()).collect();
    let turned = logistic::fit(
        x.select(Axis(0), &order).view(),
        &order.iter().map(|&i| y[i]).collect::<Vec<_>>(),
        &Options::default(),
    );
    all_close("coef", &turned.unwrap().coefficients.to_vec(), &model.coefficients.to_vec(), 1e-9);
    let factors = [1e-6, 1e5, 3.0, 1.0, 1e9, 1e-3, 7.0, 2.0, 0.1];
    let mut scaled = x.clone();
    scaled.columns_mut().into_iter().zip(factors).for_each(|(mut c, f)| c.mapv_inplace(|v| v * f));
    let scaled = logistic::fit(scaled.view(), &y, &Options::default()).unwrap();
    let back: Vec<f64> = (0..10).map(|j| scaled.coefficients[j] * if j == 0 { 1.0 } else { factors[j - 1] }).collect();
    all_close("scaled coef", &back, &model.coefficients.to_vec(), 1e-9);
    // A weight of 2 is the row twice; an offset of half the linear predictor leaves the other half.
    let weights: Vec<f64> = (0..y.len()).map(|i| if i % 3 == 0 { 2.0 } else { 1.0 }).collect();
    let twice: Vec<usize> = (0..y.len()).chain((0..y.len()).step_by(3)).collect();
    let weighted = logistic::fit(x.view(), &y, &Options { weights: Some(&weights), offset: None }).unwrap();
    let repeated = logistic::fit(
        x.select(Axis(0), &twice).view(),
        &twice.iter().map(|&i| y[i]).collect::<Vec<_>>(),
        &Options::default(),
    );
    all_close("weighted", &weighted.coefficients.to_vec(), &repeated.unwrap().coefficients.to_vec(), 1e-6);
    let half = (&model.linear_predictors / 2.0).to_vec();
    let rest = logistic::fit(x.view(), &y, &Options { weights: None, offset: Some(&half) }).unwrap();
    all_close("offset", &rest.coefficients.to_vec(), &(&model.coefficients / 2.0).to_vec(), 1e-6);
}
