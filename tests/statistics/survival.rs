//! Survival against R's survival, cmprsk and maxstat, and against scikit-survival and lifelines.

use super::{all_close, close, columns, expected, list, numbers};
use metwatch::statistics::StatisticsError;
use metwatch::statistics::kaplan_meier::{Band, kaplan_meier, log_rank, pairwise_log_rank};
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
            for g in 0..levels.len() {
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
                    all_close(&format!("{case} {key} {} {name}", levels[g]), &found, reference, 1e-10);
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

#[test]
fn follow_up_that_makes_no_sense_is_refused() {
    let degenerate = |result: Result<_, StatisticsError>| matches!(result, Err(StatisticsError::Degenerate { .. }));
    let curve = |time: &[f64], event: &[u8]| kaplan_meier(time, event, Band::Log, 0.95);
    assert!(degenerate(curve(&[-1.0, 2.0], &[1, 0])));
    assert!(degenerate(curve(&[1.0, 2.0], &[1, 2])));
    assert!(degenerate(curve(&[], &[])));
    assert!(degenerate(kaplan_meier(&[1.0], &[1], Band::Log, 1.0)));
    assert_eq!(curve(&[1.0], &[1, 0]).unwrap_err(), StatisticsError::Length { what: "events", found: 2, expected: 1 });
    assert_eq!(curve(&[1.0, f64::NAN], &[1, 0]).unwrap_err(), StatisticsError::NotFinite { what: "time", row: 1 });
    let degenerate = |result: Result<_, StatisticsError>| matches!(result, Err(StatisticsError::Degenerate { .. }));
    let test = |event: &[u8], group: &[usize]| log_rank(&[1.0, 2.0, 3.0], event, group, None, 0.0);
    assert!(degenerate(test(&[0, 0, 0], &[0, 1, 1])));
    assert!(degenerate(test(&[1, 1, 0], &[1, 1, 1])));
    assert!(test(&[1, 1, 0], &[0, 1, 1]).is_ok());
}
