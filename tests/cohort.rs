//! The cohort room against R: nomogram axes, and the whole pipeline on the simulated cohort.

use crate::common::reference;
use metwatch::cohort::{self, AxisTerm, Frame, NomogramInput};
use serde_json::Value;
use std::collections::BTreeMap;

/// `expected.json` and `data.csv` of a statistics case.
fn case(name: &str) -> (Value, String) {
    let read = |file: &str| std::fs::read_to_string(reference(&format!("stats/{name}/{file}"))).expect("readable");
    (serde_json::from_str(&read("expected.json")).expect("JSON"), read("data.csv"))
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().map(|v| v.as_f64().expect("a number")).collect(),
        other => vec![other.as_f64().expect("a number")],
    }
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().expect("a list").iter().map(|v| v.as_str().expect("a text").to_owned()).collect()
}

#[track_caller]
fn close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: {found:?} is not {expected:?}");
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= tolerance * e.abs().max(1.0), "{what}: {f} is not {e}");
    }
}

/// The axis terms of a model by its R coefficients: `x`, `x'`, `x''` (spline) or `x=level` (factor).
fn terms(coefficients: &Value, axes: &Value, data: &Frame) -> Vec<(String, AxisTerm)> {
    let coefficient = |name: &str| coefficients.get(name).and_then(Value::as_f64);
    let names = axes.as_object().expect("axes by name").keys();
    let term = |name: &String| {
        if let Some(slope) = coefficient(name) {
            let values: Vec<f64> = data.numbers(name).expect("numeric").values.into_iter().flatten().collect();
            let ticks = cohort::axis_values(&values);
            let spline: Vec<f64> = (1..4).map_while(|k| coefficient(&format!("{name}{}", "'".repeat(k)))).collect();
            if spline.is_empty() {
                return AxisTerm::Numeric { coefficient: slope, log: false, ticks };
            }
            let knots = cohort::spline_knots(&values, spline.len() + 2);
            return AxisTerm::Spline { coefficients: [vec![slope], spline].concat(), knots, ticks };
        }
        let levels = texts(&axes[name]["label"]).into_iter();
        AxisTerm::Factor {
            levels: levels.map(|l| (l.clone(), coefficient(&format!("{name}={l}")).unwrap_or(0.0))).collect(),
        }
    };
    names.map(|name| (name.clone(), term(name))).collect()
}

fn range(values: &[f64]) -> [f64; 2] {
    [values.iter().copied().fold(f64::INFINITY, f64::min), values.iter().copied().fold(f64::NEG_INFINITY, f64::max)]
}

fn check_axes(nomogram: &cohort::Nomogram, expected: &Value) {
    let axes = expected["axes"].as_object().expect("axes");
    assert_eq!(nomogram.axes.len(), axes.len());
    for axis in &nomogram.axes {
        let want = &axes[&axis.name];
        assert_eq!(axis.labels, texts(&want["label"]), "{}", axis.name);
        close(&axis.name, &axis.points, &numbers(&want["points"]), 1e-6);
        close(&axis.name, &axis.x_beta, &numbers(&want["Xbeta"]), 1e-6);
    }
    close("total points", &nomogram.total_points, &numbers(&expected["total_points"]["x"]), 1e-6);
    close("lp", &nomogram.lp.values, &numbers(&expected["lp"]["lp"]), 1e-6);
    close("points of lp", &nomogram.lp.points, &numbers(&expected["lp"]["points"]), 1e-6);
}

#[test]
fn the_axes_of_a_logistic_nomogram_are_those_of_rms() {
    for name in ["nomogram_birthwt", "nomogram_birthwt_rcs", "nomogram_colon"] {
        let (expected, text) = case(name);
        let data = Frame::parse("data.csv", &text).expect("CSV");
        let input = NomogramInput {
            terms: terms(&expected["coef"], &expected["axes"], &data),
            intercept: expected["coef"]["Intercept"].as_f64().expect("intercept"),
            lp_range: range(&numbers(&expected["predicted_lp"])),
        };
        let nomogram = cohort::Nomogram::new(&input).expect("a predictor with an effect");
        check_axes(&nomogram, &expected);
        close("points per lp", &[nomogram.points_per_lp], &numbers(&expected["points_per_lp_unit"]), 1e-6);
        let at = [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99];
        let risk = nomogram.scale("risk", &at, |lp| 1.0 / (1.0 + (-lp).exp()));
        close("risk", &risk.values, &numbers(&expected["risk_axis"]["risk"]), 1e-12);
        close("points of risk", &risk.points, &numbers(&expected["risk_axis"]["points"]), 1e-6);
    }
}

#[test]
fn the_axes_of_a_cox_nomogram_are_those_of_rms() {
    let (expected, text) = case("nomogram_colon");
    let data = Frame::parse("data.csv", &text).expect("CSV");
    let cox = &expected["cox"];
    let terms = terms(&cox["coef"], &cox["axes"], &data);
    let center = cox["center"].as_f64().expect("center");
    let complete: Vec<BTreeMap<&str, f64>> = {
        let column = |name: &str| data.numbers(name).expect("numeric").values;
        let (age, nodes, extent) = (column("age"), column("nodes"), column("extent"));
        let rx = data.texts("rx").expect("texts").values;
        (0..data.n_rows())
            .filter_map(|i| {
                let effect = cox["coef"].get(format!("rx={}", rx[i].as_ref()?)).and_then(Value::as_f64).unwrap_or(0.0);
                Some(BTreeMap::from([("age", age[i]?), ("nodes", nodes[i]?), ("extent", extent[i]?), ("rx", effect)]))
            })
            .collect()
    };
    let b = |name: &str| cox["coef"][name].as_f64().expect("coefficient");
    let lp: Vec<f64> = complete
        .iter()
        .map(|r| b("age") * r["age"] + b("nodes") * r["nodes"] + b("extent") * r["extent"] + r["rx"] - center)
        .collect();
    let nomogram =
        cohort::Nomogram::new(&NomogramInput { terms, intercept: -center, lp_range: range(&lp) }).expect("effects");
    check_axes(&nomogram, cox);
    let at = [0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95];
    for (index, time) in numbers(&cox["times"]).iter().enumerate() {
        let want = &cox["survival_axes"][format!("S{time}")];
        // S(t | lp) = S0(t) ^ exp(lp): the baseline comes from the reference's own prediction of the first patient.
        let s0 = numbers(&cox["predicted_survival"][index])[0].powf((-lp[0]).exp());
        let axis = nomogram.scale("survival", &at, |lp| s0.powf(lp.exp()));
        close("survival", &axis.values, &numbers(&want["survival"]), 1e-12);
        close("points of survival", &axis.points, &numbers(&want["points"]), 1e-6);
    }
}
