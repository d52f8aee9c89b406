//! Survival against R's survival, cmprsk and maxstat, and against scikit-survival and lifelines.

use super::{all_close, close, columns, expected, list, numbers};
use metwatch::statistics::StatisticsError;
use metwatch::statistics::competing::{cumulative_incidence, fine_gray, gray_test};
use metwatch::statistics::concordance::{Concordance, PairWeight, concordance};
use metwatch::statistics::cox::{Cox, Test, Ties, TimeScale, cox, proportionality};
use metwatch::statistics::cut_off::cut_off;
use metwatch::statistics::kaplan_meier::{Band, kaplan_meier, log_rank, pairwise_log_rank};
use metwatch::statistics::time_dependent::{Censoring, brier_score, dynamic_auc, integrated_brier_score};
use ndarray::{Array2, Axis};
use serde_json::Value as Json;

const SURVIVAL_CASES: [&str; 3] = ["survival_colon", "survival_colon_heavy_ties", "survival_lung"];

/// Follow-up of a case, with its columns as text.
struct Cohort {
    columns: std::collections::BTreeMap<String, Vec<String>>,
    time: Vec<f64>,
    event: Vec<u8>,
}

fn cohort(case: &str, file: &str) -> Cohort {
    let columns = columns(case, file);
    let time = numbers(&columns["time"]);
    let event = numbers(&columns["status"]).iter().map(|&s| s as u8).collect();
    Cohort { columns, time, event }
}

/// Numbers of the values of `cells` in `levels`.
fn codes(cells: &[String], levels: &[&str]) -> Vec<usize> {
    cells.iter().map(|c| levels.iter().position(|l| l == c).unwrap()).collect()
}

/// Column of counts as numbers.
fn counts(values: &[usize]) -> Vec<f64> {
    values.iter().map(|&v| v as f64).collect()
}

fn or_nan(values: &[Option<f64>]) -> Vec<f64> {
    values.iter().map(|v| v.unwrap_or(f64::NAN)).collect()
}

/// Name of the grouping column, its levels in the order of the case, and the group of each row.
fn groups<'a>(wanted: &'a Json, data: &Cohort) -> (Vec<&'a str>, Vec<usize>) {
    let column = wanted["group"].as_str().unwrap();
    let names = wanted["km_log"]["strata_names"].as_array().unwrap();
    let levels: Vec<&str> = names.iter().map(|n| n.as_str().unwrap().split_once('=').unwrap().1).collect();
    let group = codes(&data.columns[column], &levels);
    (levels, group)
}

#[test]
fn kaplan_meier_curves_quantiles_and_means_equal_survfit() {
    for case in SURVIVAL_CASES {
        let wanted = expected(case);
        let data = cohort(case, "data.csv");
        let (levels, group) = groups(&wanted, &data);
        let last = data.time.iter().copied().fold(0.0, f64::max);
        for (key, band) in [("km_log", Band::Log), ("km_loglog", Band::LogLog), ("km_plain", Band::Plain)] {
            let wanted = &wanted[key];
            let mut start = 0;
            for (g, level) in levels.iter().enumerate() {
                let rows: Vec<usize> = (0..group.len()).filter(|&i| group[i] == g).collect();
                let time: Vec<f64> = rows.iter().map(|&i| data.time[i]).collect();
                let event: Vec<u8> = rows.iter().map(|&i| data.event[i]).collect();
                let curve = kaplan_meier(&time, &event, band, 0.95).unwrap();
                let end = start + list(&wanted["strata"])[g] as usize;
                let columns = [
                    ("time", curve.time.clone()),
                    ("n_risk", counts(&curve.n_risk)),
                    ("n_event", counts(&curve.n_event)),
                    ("n_censor", counts(&curve.n_censor)),
                    ("surv", curve.survival.clone()),
                    ("std_err_cumhaz_scale", curve.se_cumulative_hazard.clone()),
                    ("cumhaz", curve.cumulative_hazard.clone()),
                    ("lower", or_nan(&curve.lower)),
                    ("upper", or_nan(&curve.upper)),
                ];
                for (name, found) in columns {
                    let reference = &list(&wanted[name])[start..end];
                    all_close(&format!("{case} {key} {level} {name}"), &found, reference, 1e-10);
                }
                for (k, p) in [0.25, 0.5, 0.75].into_iter().enumerate() {
                    let quantile = curve.quantile(p).unwrap();
                    for (name, found) in [
                        ("quantile25_50_75", quantile.time),
                        ("quantile_lower", quantile.lower),
                        ("quantile_upper", quantile.upper),
                    ] {
                        // one list for each quantile, one value for each group
                        let reference = list(&wanted[name][k])[g];
                        close(&format!("{case} {key} {name} {p}"), found.unwrap_or(f64::NAN), reference, 1e-12);
                    }
                }
                close(&format!("{case} rmean"), curve.restricted_mean(last).0, list(&wanted["rmean"])[g], 1e-10);
                start = end;
            }
            assert_eq!(start, list(&wanted["time"]).len());
        }
    }
}

#[test]
fn log_rank_tests_equal_survdiff() {
    for case in SURVIVAL_CASES {
        let wanted = expected(case);
        let data = cohort(case, "data.csv");
        let (levels, group) = groups(&wanted, &data);
        let strata = wanted["stratified_by"]
            .as_str()
            .map(|name| numbers(&data.columns[name]).iter().map(|&v| v as usize).collect::<Vec<_>>());
        for (key, rho, strata) in [("logrank", 0.0, None), ("peto_rho1", 1.0, None), ("stratified", 0.0, strata)] {
            if wanted[key].is_null() {
                assert!(key == "stratified" && strata.is_none());
                continue;
            }
            let test = log_rank(&data.time, &data.event, &group, strata.as_deref(), rho).unwrap();
            let what = format!("{case} {key}");
            all_close(&what, &counts(&test.n), &list(&wanted[key]["n"]), 0.0);
            all_close(&what, &test.observed, &list(&wanted[key]["obs"]), 1e-10);
            all_close(&what, &test.expected, &list(&wanted[key]["exp"]), 1e-10);
            close(&what, test.chi_squared, wanted[key]["chisq"].as_f64().unwrap(), 1e-10);
            close(&what, test.degrees_of_freedom as f64, wanted[key]["df"].as_f64().unwrap(), 0.0);
            close(&what, test.p, wanted[key]["p"].as_f64().unwrap(), 1e-9);
        }
        let Some(pairs) = wanted["pairwise"].as_array() else { continue };
        let found = pairwise_log_rank(&data.time, &data.event, &group, 0.0).unwrap();
        assert_eq!(found.len(), pairs.len());
        for pair in pairs {
            let mut names = [pair["a"].as_str().unwrap(), pair["b"].as_str().unwrap()];
            names.sort_by_key(|n| levels.iter().position(|l| l == n));
            let (_, _, test) = found.iter().find(|(a, b, _)| names == [levels[*a], levels[*b]]).unwrap();
            close(&format!("{case} {names:?}"), test.chi_squared, pair["chisq"].as_f64().unwrap(), 1e-10);
            close(&format!("{case} {names:?}"), test.p, pair["p"].as_f64().unwrap(), 1e-9);
        }
    }
}

/// Predictors as R's formula makes them from a table: `name` is a column, or a column followed by a level.
fn design(names: &[&str], data: &Cohort) -> Array2<f64> {
    let column = |name: &str| match data.columns.get(name) {
        Some(cells) => numbers(cells),
        None => {
            let (factor, level) =
                data.columns.keys().find_map(|c| name.strip_prefix(c.as_str()).map(|l| (c, l))).unwrap();
            data.columns[factor].iter().map(|cell| f64::from(u8::from(cell == level))).collect()
        }
    };
    let columns: Vec<Vec<f64>> = names.iter().map(|n| column(n)).collect();
    Array2::from_shape_fn((data.time.len(), names.len()), |(i, j)| columns[j][i])
}

fn texts(value: &Json) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
}

fn number(value: &Json) -> f64 {
    value.as_f64().unwrap()
}

fn same_test(what: &str, test: &Test, wanted: &Json, relative: f64) {
    close(what, test.chi_squared, number(&wanted["test"]), relative);
    assert_eq!(test.degrees_of_freedom as f64, number(&wanted["df"]), "{what}");
    close(what, test.p, number(&wanted["pvalue"]), 1e-8);
}

/// The fit of a case by Efron's or Breslow's ties with its predictors.
fn fit(wanted: &Json, data: &Cohort, key: &str) -> (Cox, Array2<f64>) {
    let ties = if key == "efron" { Ties::Efron } else { Ties::Breslow };
    let x = design(&texts(&wanted[key]["coef_names"]), data);
    (cox(x.view(), &data.time, &data.event, None, ties).unwrap(), x)
}

#[test]
fn cox_models_equal_coxph() {
    for case in SURVIVAL_CASES {
        let wanted = expected(case);
        let data = cohort(case, "data.csv");
        for key in ["efron", "breslow"] {
            let (fit, _) = fit(&wanted, &data, key);
            let wanted = &wanted[key];
            let what = |name: &str| format!("{case} {key} {name}");
            all_close(&what("coef"), &fit.coefficients.to_vec(), &list(&wanted["coef"]), 1e-9);
            all_close(&what("hr"), &fit.coefficients.mapv(f64::exp).to_vec(), &list(&wanted["hr"]), 1e-9);
            all_close(&what("se"), &fit.standard_errors().to_vec(), &list(&wanted["se"]), 1e-9);
            all_close(&what("z"), &fit.z().to_vec(), &list(&wanted["z"]), 1e-9);
            all_close(&what("p"), &fit.p().to_vec(), &list(&wanted["p"]), 1e-7);
            let (lower, upper): (Vec<f64>, Vec<f64>) =
                fit.confidence_limits(0.95).iter().map(|(l, u)| (l.exp(), u.exp())).unzip();
            all_close(&what("ci_lo"), &lower, &list(&wanted["ci_lo"]), 1e-9);
            all_close(&what("ci_hi"), &upper, &list(&wanted["ci_hi"]), 1e-9);
            all_close(&what("loglik"), &fit.log_likelihood, &list(&wanted["loglik"]), 1e-12);
            same_test(&what("lr"), &fit.likelihood_ratio, &wanted["lr_test"], 1e-10);
            same_test(&what("score"), &fit.score, &wanted["score_test"], 1e-10);
            // R rounds this statistic to two digits when it prints it
            let rounded = Test { chi_squared: (fit.wald.chi_squared * 100.0).round() / 100.0, ..fit.wald };
            same_test(&what("wald"), &rounded, &wanted["wald_test"], 1e-12);
            all_close(&what("means"), &fit.means.to_vec(), &list(&wanted["means"]), 1e-12);
            let baseline = &fit.baselines[0];
            all_close(&what("time"), &baseline.time, &list(&wanted["basehaz_uncentered"]["time"]), 0.0);
            let uncentered = (-fit.means.dot(&fit.coefficients)).exp();
            let hazard: Vec<f64> = baseline.cumulative_hazard.iter().map(|h| h * uncentered).collect();
            all_close(&what("hazard"), &hazard, &list(&wanted["basehaz_uncentered"]["hazard"]), 1e-9);
            // the case gives the uncentered ones
            let lp: Vec<f64> =
                fit.linear_predictors.iter().map(|lp| lp + fit.means.dot(&fit.coefficients)).take(20).collect();
            all_close(&what("lp"), &lp, &list(&wanted["lp_head"]), 1e-9);
            all_close(&what("martingale"), &fit.martingale_residuals[..20], &list(&wanted["martingale_head"]), 1e-9);
            let c = harrell(&data, &fit);
            close(&what("C"), c.c, number(&wanted["concordance"]["C"]), 1e-10);
            close(&what("se(C)"), c.standard_error, number(&wanted["concordance"]["se(C)"]), 1e-9);
        }
    }
}

fn harrell(data: &Cohort, fit: &Cox) -> Concordance {
    concordance(&data.time, &data.event, &fit.linear_predictors, None, PairWeight::Equal, 0.0).unwrap()
}

#[test]
fn predicted_survival_equals_survfit_of_a_cox_model() {
    for case in SURVIVAL_CASES {
        let wanted = expected(case);
        let data = cohort(case, "data.csv");
        for key in ["efron", "breslow"] {
            let (fit, _) = fit(&wanted, &data, key);
            let new = design(&texts(&wanted[key]["coef_names"]), &cohort(case, "newdata.csv"));
            let wanted = &wanted[key]["newdata_survival"];
            for (k, &t) in list(&wanted["times"]).iter().enumerate() {
                for (i, x) in new.axis_iter(Axis(0)).enumerate() {
                    let found = fit.predict(x, 0, t).unwrap();
                    let (lower, upper) = found.limits(Band::Log, 0.95).unwrap();
                    let what = format!("{case} {key} patient {i} at {t}");
                    close(&what, found.survival, list(&wanted["surv"][i])[k], 1e-9);
                    close(&what, lower, list(&wanted["lower"][i])[k], 1e-9);
                    close(&what, upper, list(&wanted["upper"][i])[k], 1e-9);
                }
            }
        }
    }
}

#[test]
fn concordance_equals_r() {
    for case in SURVIVAL_CASES {
        let wanted = expected(case);
        let data = cohort(case, "data.csv");
        let (fit, _) = fit(&wanted, &data, "efron");
        let c = harrell(&data, &fit);
        let wanted = &wanted["concordance"];
        close(case, c.c, number(&wanted["concordance"]), 1e-12);
        close(case, c.standard_error, number(&wanted["se"]), 1e-10);
        let counts = [c.concordant, c.discordant, c.tied_risk, c.tied_time, c.tied_both];
        let names = ["concordant", "discordant", "tied.x", "tied.y", "tied.xy"];
        all_close(case, &counts, &names.map(|n| number(&wanted["counts"][n])), 0.0);
        let lp = &fit.linear_predictors;
        let uno = concordance(&data.time, &data.event, lp, None, PairWeight::InverseCensoring, 0.0).unwrap();
        close(&format!("{case} Uno"), uno.c, number(&wanted["uno_nG2"]), 1e-10);
        close(&format!("{case} se of Uno"), uno.standard_error, number(&wanted["uno_se"]), 1e-10);
    }
}

#[test]
fn tests_of_proportionality_equal_cox_zph() {
    for case in SURVIVAL_CASES {
        let wanted = expected(case);
        let data = cohort(case, "data.csv");
        let (fit, x) = fit(&wanted, &data, "efron");
        let names = texts(&wanted["efron"]["coef_names"]);
        for (key, scale) in [("zph_km", TimeScale::KaplanMeier), ("zph_identity", TimeScale::Identity)] {
            let wanted = &wanted[key];
            let rows = texts(&wanted["rows"]);
            let columns_of = |term: &str| {
                let level = |n: &str| n.strip_prefix(term).is_some_and(|l| data.columns[term].iter().any(|c| c == l));
                (0..names.len()).filter(|&j| names[j] == term || level(names[j])).collect::<Vec<_>>()
            };
            let terms: Vec<Vec<usize>> = rows[..rows.len() - 1].iter().map(|t| columns_of(t)).collect();
            assert_eq!(terms.concat().len(), names.len());
            let found = proportionality(&fit, x.view(), &data.time, &data.event, None, &terms, scale).unwrap();
            for (row, test) in rows.iter().zip(found.terms.iter().chain([&found.global])) {
                let what = format!("{case} {key} {row}");
                close(&what, test.chi_squared, number(&wanted["chisq"][row]), 1e-8);
                assert_eq!(test.degrees_of_freedom as f64, number(&wanted["df"][row]), "{what}");
                close(&what, test.p, number(&wanted["p"][row]), 1e-7);
            }
        }
    }
}

#[test]
fn scores_at_a_time_equal_scikit_survival() {
    let case = "time_dependent";
    let wanted = expected(case);
    let train = cohort(case, "train.csv");
    let test = cohort(case, "test.csv");
    let censoring = Censoring::new(&train.time, &train.event).unwrap();
    let times = list(&wanted["times"]);
    let lp = numbers(&test.columns["lp"]);
    let risk = Array2::from_shape_vec((lp.len(), 1), lp.clone()).unwrap();
    let (auc, mean) = dynamic_auc(&censoring, &test.time, &test.event, risk.view(), &times).unwrap();
    all_close("auc", &auc, &list(&wanted["auc_ipcw"]), 1e-10);
    close("mean auc", mean, number(&wanted["mean_auc"]), 1e-10);
    let c = |weight| concordance(&test.time, &test.event, &lp, None, weight, 1e-8).unwrap();
    let harrell = c(PairWeight::Equal);
    close("harrell", harrell.c, number(&wanted["harrell_c"]), 1e-12);
    let counts = [harrell.concordant, harrell.discordant, harrell.tied_risk, harrell.tied_with_censored];
    let names = ["concordant", "discordant", "tied_risk", "tied_time"];
    all_close("counts", &counts, &names.map(|n| number(&wanted["harrell_counts"][n])), 0.0);
    let horizon = number(&wanted["uno_c_tau"]);
    let uno = c(PairWeight::InverseTrainingCensoring { censoring: &censoring, horizon });
    close("uno", uno.c, number(&wanted["uno_c"]), 1e-10);
    let survival: Vec<Vec<f64>> = times.iter().map(|t| numbers(&test.columns[&format!("surv_{t}")])).collect();
    let survival = Array2::from_shape_fn((lp.len(), times.len()), |(i, k)| survival[k][i]);
    let brier = brier_score(&censoring, &test.time, &test.event, survival.view(), &times).unwrap();
    all_close("brier", &brier, &list(&wanted["brier"]), 1e-10);
}

#[test]
fn integrated_brier_score_of_a_model_equals_scikit_survival() {
    let case = "time_dependent";
    let wanted = expected(case);
    let train = cohort(case, "train.csv");
    let test = cohort(case, "test.csv");
    let names = ["age", "nodes", "extent", "surg"];
    let fit = cox(design(&names, &train).view(), &train.time, &train.event, None, Ties::Efron).unwrap();
    let stopped = ndarray::Array1::from(names.map(|n| number(&wanted["cox_coef_train"][n])).to_vec());
    for ((b, se), wanted) in fit.coefficients.iter().zip(fit.standard_errors()).zip(&stopped) {
        // lifelines takes 0.95 of each Newton step and stops when the likelihood moves by less than 1e-9 of itself
        assert!((b - wanted).abs() < 1e-3 * se);
    }
    // from here on with the coefficients where lifelines stopped
    let risk_of = |x: ndarray::ArrayView1<f64>| (&x - &fit.means).dot(&stopped).exp();
    // lifelines sums the baseline as Breslow does even after Efron, and draws straight lines between the steps
    let risk: Vec<f64> = design(&names, &train).axis_iter(Axis(0)).map(risk_of).collect();
    let at_risk = |t: f64| risk.iter().zip(&train.time).filter(|(_, s)| **s >= t).map(|(r, _)| r).sum::<f64>();
    let mut hazard = 0.0;
    let mut steps = Vec::new();
    for &t in &fit.baselines[0].time {
        let events = (0..risk.len()).filter(|&i| train.time[i] == t && train.event[i] == 1).count() as f64;
        hazard += events / at_risk(t);
        steps.push((t, hazard));
    }
    let cumulative = |t: f64| {
        let after = steps.partition_point(|s| s.0 <= t);
        let ((t0, h0), (t1, h1)) = (steps[after - 1], steps[after]);
        h0 + (h1 - h0) * (t - t0) / (t1 - t0)
    };
    let new = cohort_without_outcome(case, "test_covariates.csv", &names);
    let grid = list(&wanted["ibs_grid"]);
    let grid: Vec<f64> =
        (0..grid[2] as usize).map(|k| grid[0] + (grid[1] - grid[0]) * k as f64 / (grid[2] - 1.0)).collect();
    let survival =
        Array2::from_shape_fn((new.nrows(), grid.len()), |(i, k)| (-cumulative(grid[k]) * risk_of(new.row(i))).exp());
    for i in 0..5 {
        let reference = list(&wanted["surv_on_ibs_grid_first5"][i]);
        all_close(&format!("survival of patient {i}"), &survival.row(i).to_vec(), &reference, 1e-10);
    }
    let censoring = Censoring::new(&train.time, &train.event).unwrap();
    let found = integrated_brier_score(&censoring, &test.time, &test.event, survival.view(), &grid).unwrap();
    close("ibs", found, number(&wanted["ibs"]), 1e-10);
}

fn cohort_without_outcome(case: &str, file: &str, names: &[&str]) -> Array2<f64> {
    let columns = columns(case, file);
    let columns: Vec<Vec<f64>> = names.iter().map(|n| numbers(&columns[*n])).collect();
    Array2::from_shape_fn((columns[0].len(), names.len()), |(i, j)| columns[j][i])
}

#[test]
fn competing_events_equal_cmprsk() {
    let case = "competing_mgus2";
    let wanted = expected(case);
    let data = cohort(case, "data.csv");
    let sex = codes(&data.columns["group"], &["F", "M"]);
    for cause in [1, 2] {
        let test = gray_test(&data.time, &data.event, &sex, None, cause, 0.0).unwrap();
        let gray = &wanted["gray_tests"];
        let row = cause.to_string();
        close(&format!("Gray {cause}"), test.chi_squared, number(&gray["stat"][&row]), 1e-10);
        close(&format!("Gray {cause}"), test.p, number(&gray["p"][&row]), 1e-9);
        assert_eq!(test.degrees_of_freedom as f64, number(&gray["df"][&row]));
    }
    let curves = texts(&wanted["curves"]);
    let mut compared = 0;
    for (k, curve) in curves.iter().enumerate() {
        let (group, cause) = curve.split_once(' ').unwrap();
        let rows: Vec<usize> = (0..sex.len()).filter(|&i| data.columns["group"][i] == group).collect();
        let time: Vec<f64> = rows.iter().map(|&i| data.time[i]).collect();
        let event: Vec<u8> = rows.iter().map(|&i| data.event[i]).collect();
        let found = cumulative_incidence(&time, &event, cause.parse().unwrap()).unwrap();
        for (j, &t) in list(&wanted["times"]).iter().enumerate() {
            let (incidence, variance) = found.at(t).unwrap();
            close(&format!("{curve} at {t}"), incidence, list(&wanted["est"][j])[k], 1e-10);
            close(&format!("variance of {curve} at {t}"), variance, list(&wanted["var"][j])[k], 1e-10);
            compared += 1;
        }
    }
    assert_eq!(compared, 12);
    let wanted = &wanted["fine_gray"];
    let fit = fine_gray(design(&texts(&wanted["names"]), &data).view(), &data.time, &data.event, 1).unwrap();
    all_close("Fine-Gray coef", &fit.coefficients.to_vec(), &list(&wanted["coef"]), 1e-6);
    all_close("Fine-Gray se", &fit.standard_errors().to_vec(), &list(&wanted["se"]), 1e-6);
    close("Fine-Gray loglik", fit.log_likelihood[1], number(&wanted["loglik"]), 1e-10);
}

/// Uniform numbers of R's generator "Marsaglia-Multicarry" after `set.seed(seed)`.
fn multicarry(seed: u32) -> impl FnMut() -> f64 {
    let mut scrambled = seed;
    let mut next_seed = || {
        scrambled = scrambled.wrapping_mul(69069).wrapping_add(1);
        scrambled
    };
    (0..50).for_each(|_| _ = next_seed());
    let (mut a, mut b) = (next_seed(), next_seed());
    move || {
        a = 36969u32.wrapping_mul(a & 0xffff).wrapping_add(a >> 16);
        b = 18000u32.wrapping_mul(b & 0xffff).wrapping_add(b >> 16);
        f64::from((a << 16) ^ (b & 0xffff)) * 2.328306437080797e-10
    }
}

/// Exponential numbers as R makes them (Ahrens and Dieter 1972, algorithm SA).
fn exponential(uniform: &mut impl FnMut() -> f64) -> f64 {
    // sums of the first terms of exp(ln 2) - 1
    let (mut term, mut sum) = (1.0, 0.0);
    let q: Vec<f64> = (1..17)
        .map(|k| {
            term *= std::f64::consts::LN_2 / f64::from(k);
            sum += term;
            sum
        })
        .collect();
    let (mut whole, mut u) = (0.0, uniform());
    loop {
        u += u;
        if u > 1.0 {
            break;
        }
        whole += q[0];
    }
    u -= 1.0;
    if u <= q[0] {
        return whole + u;
    }
    let (mut least, mut k) = (uniform(), 0);
    loop {
        least = least.min(uniform());
        k += 1;
        if u <= q[k] {
            return whole + least * q[0];
        }
    }
}

#[test]
fn three_groups_in_strata_equal_the_printed_example_of_cmprsk() {
    // tests/test.R of cmprsk 2.2: RNGversion("1.6.2"); set.seed(2), printed with seven digits
    let mut uniform = multicarry(2);
    let time: Vec<f64> = (0..100).map(|_| exponential(&mut uniform)).collect();
    let mut sample = |n: usize| (0..100).map(|_| (n as f64 * uniform()) as usize).collect::<Vec<_>>();
    let group = sample(3);
    let event: Vec<u8> = sample(3).iter().map(|&c| c as u8).collect();
    let strata = sample(2);
    for (cause, wanted, p) in [(1, 3.393977, 0.1832345), (2, 1.989511, 0.3698139)] {
        let test = gray_test(&time, &event, &group, Some(&strata), cause, 0.0).unwrap();
        close("statistic", test.chi_squared, wanted, 2e-7);
        close("p", test.p, p, 3e-7);
    }
    let all = cumulative_incidence(&time, &event, 1).unwrap();
    for (t, incidence, variance) in [(1.0, 0.2352861, 0.002062112), (3.0, 0.4247898, 0.004170634)] {
        close("incidence", all.at(t).unwrap().0, incidence, 2e-7);
        close("variance", all.at(t).unwrap().1, variance, 3e-7);
    }
}

#[test]
fn cut_offs_equal_maxstat() {
    for case in SURVIVAL_CASES {
        let wanted = expected(case);
        let data = cohort(case, "data.csv");
        let (fit, _) = fit(&wanted, &data, "efron");
        let found = cut_off(&data.time, &data.event, &fit.linear_predictors, (0.1, 0.9)).unwrap();
        let wanted = &wanted["maxstat_on_lp"];
        close(&format!("{case} cut-off"), found.cut_off, number(&wanted["cutpoint"]), 1e-8);
        close(&format!("{case} statistic"), found.statistic, number(&wanted["statistic"]), 1e-8);
    }
}

#[test]
fn survival_behind_a_nomogram_equals_cph() {
    let case = "nomogram_colon";
    let wanted = expected(case);
    let data = cohort(case, "data.csv");
    let cox_part = &wanted["cox"];
    // rms writes a level as rx=Lev
    let names: Vec<&String> = cox_part["coef"].as_object().unwrap().keys().collect();
    let plain: Vec<String> = names.iter().map(|n| n.replace('=', "")).collect();
    let x = design(&plain.iter().map(String::as_str).collect::<Vec<_>>(), &data);
    let fit = cox(x.view(), &data.time, &data.event, None, Ties::Efron).unwrap();
    let coefficients: Vec<f64> = names.iter().map(|n| number(&cox_part["coef"][n.as_str()])).collect();
    // cph stops when the likelihood moves by less than 1e-4 of itself: one Newton step before coxph would.
    for ((b, se), wanted) in fit.coefficients.iter().zip(fit.standard_errors()).zip(&coefficients) {
        assert!((b - wanted).abs() < 0.01 * se, "{b} {wanted}");
    }
    for (k, &t) in list(&cox_part["times"]).iter().enumerate() {
        let found: Vec<f64> = x.axis_iter(Axis(0)).map(|x| fit.predict(x, 0, t).unwrap().survival).collect();
        for (found, wanted) in found.iter().zip(list(&cox_part["predicted_survival"][k])) {
            assert!((found - wanted).abs() < 2e-3, "survival at {t}: {found} {wanted}");
        }
    }
}

/// The colon cohort with its ties broken: predictors, times, strata by sex, and one predictor as groups.
fn untied() -> (Cohort, Array2<f64>, Vec<usize>, Vec<usize>) {
    let mut data = cohort("survival_colon", "data.csv");
    data.time.iter_mut().enumerate().for_each(|(i, t)| *t += i as f64 * 1e-3);
    let x = design(&["adhere"], &data);
    let sex = codes(&data.columns["sex"], &["0", "1"]);
    let adhere = codes(&data.columns["adhere"], &["0", "1"]);
    (data, x, sex, adhere)
}

#[test]
fn the_score_test_of_one_factor_in_strata_is_the_stratified_log_rank_test() {
    let (data, x, sex, adhere) = untied();
    let fit = cox(x.view(), &data.time, &data.event, Some(&sex), Ties::Efron).unwrap();
    let test = log_rank(&data.time, &data.event, &adhere, Some(&sex), 0.0).unwrap();
    close("score", fit.score.chi_squared, test.chi_squared, 1e-10);
    assert_eq!(fit.baselines.iter().map(|b| b.stratum).collect::<Vec<_>>(), [0, 1]);
    // as many events expected as observed, in each stratum
    for stratum in [0, 1] {
        let rows = (0..sex.len()).filter(|&i| sex[i] == stratum);
        assert!(rows.map(|i| fit.martingale_residuals[i]).sum::<f64>().abs() < 1e-9);
    }
    // pairs within strata only: those of each stratum add up
    let pairs = |rows: &[usize]| {
        let time: Vec<f64> = rows.iter().map(|&i| data.time[i]).collect();
        let event: Vec<u8> = rows.iter().map(|&i| data.event[i]).collect();
        let risk: Vec<f64> = rows.iter().map(|&i| x[[i, 0]]).collect();
        concordance(&time, &event, &risk, None, PairWeight::Equal, 0.0).unwrap().concordant
    };
    let of = |stratum: usize| (0..sex.len()).filter(|&i| sex[i] == stratum).collect::<Vec<_>>();
    let risk = x.column(0).to_vec();
    let both = concordance(&data.time, &data.event, &risk, Some(&sex), PairWeight::Equal, 0.0).unwrap();
    assert_eq!(both.concordant, pairs(&of(0)) + pairs(&of(1)));
}

#[test]
fn scales_of_time_in_the_test_of_proportionality() {
    let (data, x, sex, _) = untied();
    let test = |time: &[f64], scale| {
        let fit = cox(x.view(), time, &data.event, Some(&sex), Ties::Efron).unwrap();
        proportionality(&fit, x.view(), time, &data.event, Some(&sex), &[vec![0]], scale).unwrap().global.chi_squared
    };
    // The fit depends on the order of the times alone, so each scale is the identity on times put on that scale.
    let logarithm: Vec<f64> = data.time.iter().map(|t| t.ln()).collect();
    close("log", test(&data.time, TimeScale::Log), test(&logarithm, TimeScale::Identity), 1e-9);
    let rank: Vec<f64> = data.time.iter().map(|t| data.time.iter().filter(|s| *s <= t).count() as f64).collect();
    close("rank", test(&data.time, TimeScale::Rank), test(&rank, TimeScale::Identity), 1e-9);
}

#[test]
fn counting_pairs_one_by_one_gives_the_same_concordance() {
    let data = cohort("survival_colon_heavy_ties", "data.csv");
    let risk = numbers(&data.columns["nodes"]);
    let found = concordance(&data.time, &data.event, &risk, None, PairWeight::Equal, 0.0).unwrap();
    let mut counts = [0.0; 6];
    for i in 0..risk.len() {
        for j in 0..risk.len() {
            let (ti, tj, ei, ej) = (data.time[i], data.time[j], data.event[i], data.event[j]);
            if ei == 1 && (ti < tj || (ti == tj && ej == 0)) {
                counts[if risk[i] > risk[j] {
                    0
                } else if risk[i] < risk[j] {
                    1
                } else {
                    2
                }] += 1.0;
                counts[5] += f64::from(u8::from(ti == tj));
            } else if i < j && ti == tj && ei == 1 && ej == 1 {
                counts[if risk[i] == risk[j] { 4 } else { 3 }] += 1.0;
            }
        }
    }
    let fast = [found.concordant, found.discordant, found.tied_risk, found.tied_time, found.tied_both];
    assert_eq!(fast, counts[..5]);
    assert_eq!(found.tied_with_censored, counts[5]);
}

fn degenerate<T>(result: Result<T, StatisticsError>) -> bool {
    matches!(result, Err(StatisticsError::Degenerate { .. }))
}

#[test]
fn follow_up_that_makes_no_sense_is_refused() {
    let curve = |time: &[f64], event: &[u8]| kaplan_meier(time, event, Band::Log, 0.95);
    assert!(degenerate(curve(&[-1.0, 2.0], &[1, 0])));
    assert!(degenerate(curve(&[1.0, 2.0], &[1, 2])));
    assert!(degenerate(curve(&[], &[])));
    assert!(degenerate(kaplan_meier(&[1.0], &[1], Band::Log, 1.0)));
    let unequal = StatisticsError::Length { what: "events", found: 2, expected: 1 };
    assert_eq!(curve(&[1.0], &[1, 0]).unwrap_err(), unequal);
    assert_eq!(curve(&[1.0, f64::NAN], &[1, 0]).unwrap_err(), StatisticsError::NotFinite { what: "time", row: 1 });

    let time = [1.0, 2.0, 3.0];
    let groups = |event: &[u8], group: &[usize]| log_rank(&time, event, group, None, 0.0);
    assert!(degenerate(groups(&[0, 0, 0], &[0, 1, 1])));
    assert!(degenerate(groups(&[1, 1, 0], &[1, 1, 1])));
    assert!(degenerate(groups(&[1, 1, 0], &[0, 1, usize::MAX])));
    assert!(degenerate(log_rank(&time, &[1, 1, 0], &[0, 1, 1], None, f64::NAN)));
    assert!(groups(&[1, 1, 0], &[0, 1, 1]).is_ok());
    assert!(degenerate(gray_test(&time, &[1, 2, 0], &[1, 1, 1], None, 1, 0.0)));
    assert!(degenerate(cumulative_incidence(&time, &[1, 2, 0], 0)));
    assert!(degenerate(cumulative_incidence(&[-1.0], &[1], 1)));

    let x = Array2::from_shape_vec((3, 1), vec![0.3, 0.1, 0.2]).unwrap();
    assert!(degenerate(cox(x.view(), &time, &[0, 0, 0], None, Ties::Efron)));
    assert!(degenerate(cox(x.view(), &time, &[1, 2, 0], None, Ties::Efron)));
    assert!(degenerate(fine_gray(x.view(), &time, &[0, 2, 2], 1)));
    let fit = cox(x.view(), &time, &[1, 1, 1], None, Ties::Efron).unwrap();
    assert!(degenerate(fit.predict(x.row(0), 0, 3.5)), "beyond the follow-up");
    assert!(degenerate(fit.predict(x.row(0), 1, 2.0)), "another stratum");
    assert!(matches!(fit.predict(x.column(0), 0, 2.0), Err(StatisticsError::Length { found: 3, expected: 1, .. })));
    let risk = x.column(0).to_vec();
    let c = |time: &[f64], event: &[u8]| concordance(time, event, &risk, None, PairWeight::Equal, 0.0);
    assert!(degenerate(c(&time, &[0, 0, 0])));
    assert!(degenerate(c(&time, &[0, 0, 1])));
    assert!(degenerate(c(&[1.0, -2.0, 3.0], &[1, 1, 1])));
    assert!(degenerate(cut_off(&time, &[0, 0, 0], &risk, (0.1, 0.9))));
    assert!(degenerate(cut_off(&time, &[1, 1, 1], &risk, (0.9, 0.1))));

    let censoring = Censoring::new(&time, &[1, 0, 1]).unwrap();
    let auc = |times: &[f64]| dynamic_auc(&censoring, &time, &[1, 1, 0], x.view(), times);
    assert!(degenerate(auc(&[3.0])), "no follow-up beyond the last time");
    assert!(degenerate(auc(&[2.5, 1.5])));
    assert!(degenerate(auc(&[])));
    assert!(auc(&[1.5]).is_ok());
    // an event where nobody of the training patients is left uncensored
    let censored = Censoring::new(&[1.0, 1.5], &[1, 0]).unwrap();
    assert!(degenerate(dynamic_auc(&censored, &time, &[1, 1, 0], x.view(), &[2.0])));
}

#[test]
fn predictors_without_a_finite_estimate_are_named() {
    let data = cohort("survival_lung", "data.csv");
    let mut x = design(&["age", "sex", "sex"], &data);
    let fit = |x: &Array2<f64>| cox(x.view(), &data.time, &data.event, None, Ties::Efron).map(|_| ());
    let singular = |result| match result {
        Err(StatisticsError::Singular { what }) => what,
        other => panic!("{other:?}"),
    };
    // the same column twice
    assert!(singular(fit(&x)).contains("column 2"));
    // nobody with a 0 ever had the event
    x.column_mut(2)
        .iter_mut()
        .zip(&data.event)
        .enumerate()
        .for_each(|(i, (v, &e))| *v = f64::from(e.max(u8::from(i % 9 == 0))));
    assert!(singular(fit(&x)).contains("coefficient of column 2"));
    let competing = fine_gray(x.view(), &data.time, &data.event, 1).map(|_| ());
    assert!(singular(competing).contains("coefficient of column 2"));
    // one patient has a 1, and is never seen with the event: a ridge that few patients feel
    x.column_mut(2).fill(0.0);
    let last =
        (0..data.time.len()).filter(|&i| data.event[i] == 0).max_by(|&a, &b| data.time[a].total_cmp(&data.time[b]));
    x[[last.unwrap(), 2]] = 1.0;
    assert!(singular(fit(&x)).contains("coefficient of column 2"));
    // a column that is the same for all
    x.column_mut(2).fill(1.0);
    assert!(singular(fit(&x)).contains("column 2"));
    x.column_mut(2)[4] = f64::NAN;
    assert!(matches!(fit(&x), Err(StatisticsError::NotFinite { what: "x", row: 4 })));
}
