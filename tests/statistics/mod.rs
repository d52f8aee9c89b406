//! The statistics against R and Python (../shared/data/stats), case by case.

mod hazards;
mod live_r;
mod penalized;
pub mod r;
mod regression;
mod survival;
mod validation;
mod validation_features;
mod validation_tests;

use crate::common::reference;
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// `expected.json` of a case.
pub fn expected(case: &str) -> Json {
    let path = reference("stats").join(case).join("expected.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Columns of a CSV of a case, by name, as text.
pub fn columns(case: &str, file: &str) -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(reference("stats").join(case).join(file)).unwrap();
    let mut lines = text.lines();
    let names: Vec<String> = lines.next().unwrap().split(',').map(|n| n.trim_matches('"').to_string()).collect();
    let mut found: BTreeMap<String, Vec<String>> = names.iter().map(|n| (n.clone(), Vec::new())).collect();
    for line in lines {
        for (name, cell) in names.iter().zip(line.split(',')) {
            found.get_mut(name).unwrap().push(cell.trim_matches('"').to_string());
        }
    }
    found
}

/// A column as numbers; `NA` and empty cells are NaN.
pub fn numbers(cells: &[String]) -> Vec<f64> {
    cells.iter().map(|c| c.parse().unwrap_or(f64::NAN)).collect()
}

/// A list of numbers of `expected.json`; null is NaN, a bare number a list of one.
pub fn list(value: &Json) -> Vec<f64> {
    match value {
        Json::Array(values) => values.iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect(),
        other => vec![other.as_f64().unwrap_or(f64::NAN)],
    }
}

/// Fails unless `a` is within `relative` of `b` (with an absolute floor of 1e-12, 1e-300 for probabilities below it).
#[track_caller]
pub fn close(what: &str, a: f64, b: f64, relative: f64) {
    let floor = if b != 0.0 && b.abs() < 1e-9 { 1e-300 } else { 1e-12 };
    let fine = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= relative * b.abs() + floor;
    assert!(fine, "{what}: {a:?}, reference {b:?}, relative {:e}", (a - b).abs() / b.abs());
}

/// [`close`], element by element.
#[track_caller]
pub fn all_close(what: &str, a: &[f64], b: &[f64], relative: f64) {
    assert_eq!(a.len(), b.len(), "{what}: lengths");
    for (k, (a, b)) in a.iter().zip(b).enumerate() {
        close(&format!("{what}[{k}]"), *a, *b, relative);
    }
}
