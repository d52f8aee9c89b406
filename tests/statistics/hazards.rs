//! Cox models against R: stepwise selection, comparison of C, calibration under censoring, Firth's penalty (`hazards.R`).

use super::{Json, all_close, close, columns, list, numbers, r};
use crate::common::reference;
use metwatch::statistics::calibration::{SurvivalCurve, survival_groups};
use metwatch::statistics::concordance::{PairWeight, concordance, paired_difference};
use metwatch::statistics::cox::{self, Cox, Ties};
use metwatch::statistics::stepwise::{Change, Direction};
use metwatch::statistics::time_dependent::{Censoring, dynamic_auc, dynamic_roc};
use ndarray::{Array2, ArrayView2};

const TERMS: [&str; 5] = ["age", "sex", "ph_ecog", "ph_karno", "wt_loss"];

/// The complete rows of the lung cancer data.
struct Lung {
    x: Array2<f64>,
    time: Vec<f64>,
    event: Vec<u8>,
}

fn lung() -> Lung {
    let columns = columns("survival_lung", "data.csv");
    let of = |name: &str| numbers(&columns[name]);
    let all: Vec<Vec<f64>> = TERMS.iter().map(|t| of(t)).collect();
    let (time, event) = (of("time"), of("status"));
    let rows: Vec<usize> = (0..time.len()).filter(|&i| all.iter().all(|c| c[i].is_finite())).collect();
    Lung {
        x: Array2::from_shape_fn((rows.len(), all.len()), |(i, j)| all[j][rows[i]]),
        time: rows.iter().map(|&i| time[i]).collect(),
        event: rows.iter().map(|&i| event[i] as u8).collect(),
    }
}

impl Lung {
    fn fit(&self, x: ArrayView2<f64>) -> Cox {
        cox::cox(x, &self.time, &self.event, None, Ties::Efron).unwrap()
    }
}

fn answers(test: &str) -> Vec<Json> {
    r::answers(test, "statistics/hazards.R", "data/r/hazards.json", &[&reference("stats/survival_lung/data.csv")])
}

#[test]
fn stepwise_selection_of_a_cox_model_equals_step() {
    let lung = lung();
    let groups: Vec<Vec<usize>> = (0..TERMS.len()).map(|j| vec![j]).collect();
    for r in answers("hazards-step") {
        for (name, direction) in
            [("backward", Direction::Backward), ("forward", Direction::Forward), ("both", Direction::Both)]
        {
            let wanted = &r[name];
            let found =
                cox::step(lung.x.view(), &lung.time, &lung.event, Ties::Efron, &groups, direction, 2.0).unwrap();
            let mut names: Vec<String> = vec![String::new()];
            names.extend(found.steps.iter().map(|(change, _)| match change {
                Change::Drop(g) => format!("- {}", TERMS[*g]),
                Change::Add(g) => format!("+ {}", TERMS[*g]),
            }));
            let texts = |v: &Json| -> Vec<String> {
                v.as_array().unwrap().iter().map(|t| t.as_str().unwrap_or_default().to_owned()).collect()
            };
            assert_eq!(names, texts(&wanted["steps"]), "{name}");
            assert_eq!(found.groups.iter().map(|g| TERMS[*g]).collect::<Vec<_>>(), texts(&wanted["terms"]), "{name}");
            let path: Vec<f64> =
                std::iter::once(found.start_criterion).chain(found.steps.iter().map(|s| s.1)).collect();
            all_close(name, &path, &list(&wanted["path"]), 1e-10);
        }
        let full = lung.fit(lung.x.view());
        all_close("variance inflation", &full.variance_inflation().unwrap(), &list(&r["vif"]), 1e-7);
    }
}

#[test]
fn the_difference_of_two_concordances_equals_that_of_concordance() {
    let lung = lung();
    let full = lung.fit(lung.x.view()).linear_predictors;
    let small = lung.fit(lung.x.select(ndarray::Axis(1), &[0, 4]).view()).linear_predictors;
    for r in answers("hazards-pair") {
        let found = paired_difference(&lung.time, &lung.event, [&full, &small]).unwrap();
        close("difference", found.difference, r["pair"]["difference"].as_f64().unwrap(), 1e-10);
        close("standard error", found.standard_error, r["pair"]["difference_se"].as_f64().unwrap(), 1e-10);
        let each = [&full, &small]
            .map(|risk| concordance(&lung.time, &lung.event, risk, None, PairWeight::Equal, 0.0).unwrap());
        all_close("C", &each.map(|c| c.c), &list(&r["pair"]["c"]), 1e-12);
        all_close("its error", &each.map(|c| c.standard_error), &list(&r["pair"]["se"]), 1e-10);
    }
    assert!(paired_difference(&lung.time, &lung.event, [&full, &full]).is_err(), "no difference has no error");
}

#[test]
fn calibration_under_censoring_equals_rms() {
    let lung = lung();
    let rows: Vec<usize> = (0..lung.time.len()).step_by(2).collect();
    let time: Vec<f64> = rows.iter().map(|&i| lung.time[i]).collect();
    let event: Vec<u8> = rows.iter().map(|&i| lung.event[i]).collect();
    for r in answers("hazards-calibration") {
        let r = &r["calibration"];
        let (u, predicted) = (r["u"].as_f64().unwrap(), list(&r["predicted"]));
        for wanted in r["groups"].as_array().unwrap() {
            let wanted: Vec<Vec<f64>> = wanted.as_array().unwrap().iter().map(list).collect();
            let found = survival_groups(&time, &event, &predicted, u, wanted.len()).unwrap();
            assert_eq!(found.len(), wanted.len());
            for (found, wanted) in found.iter().zip(&wanted) {
                let numbers = [
                    found.predicted,
                    found.n as f64,
                    found.events as f64,
                    found.observed.unwrap(),
                    found.standard_error.unwrap(),
                ];
                all_close("group", &numbers, wanted, 1e-9);
            }
        }
        let risks: Vec<f64> = predicted.iter().map(|s| 1.0 - s).collect();
        let curve = SurvivalCurve::new(&time, &event, &risks, u).unwrap();
        let smooth: Vec<f64> = risks.iter().map(|risk| curve.observed(*risk).unwrap()).collect();
        all_close("smooth", &smooth, &list(&r["smooth"]), 1e-7);
        let d = curve.distances(&risks).unwrap();
        all_close("distances", &[d.ici, d.e50, d.e90, d.emax], &list(&r["distances"]), 1e-7);
        let lp = list(&r["lp"]);
        let lp = Array2::from_shape_fn((lp.len(), 1), |(i, _)| lp[i]);
        let slope = cox::cox(lp.view(), &time, &event, None, Ties::Efron).unwrap();
        all_close("slope", &[slope.coefficients[0], slope.standard_errors()[0]], &list(&r["slope"]), 1e-8);
    }
}

/// R's optimizer ends some 1e-6 from the maximum; the penalized likelihood there is flat, and agrees far better.
#[test]
fn firths_penalty_gives_a_separated_cox_model_the_largest_penalized_likelihood() {
    let lung = lung();
    let young = |i: usize| f64::from(u8::from(lung.x[[i, 0]] < 45.0 && lung.event[i] == 0));
    let x = Array2::from_shape_fn((lung.time.len(), 2), |(i, j)| if j == 0 { young(i) } else { lung.x[[i, 2]] });
    for r in answers("hazards-firth") {
        for (name, ties) in [("efron", Ties::Efron), ("breslow", Ties::Breslow)] {
            assert!(cox::cox(x.view(), &lung.time, &lung.event, None, ties).is_err(), "nobody young had the event");
            let found = cox::firth(x.view(), &lung.time, &lung.event, ties).unwrap();
            let wanted = &r["firth"][name];
            all_close(name, &found.coefficients.to_vec(), &list(&wanted["coef"]), 1e-4);
            all_close(name, &found.standard_errors().to_vec(), &list(&wanted["se"]), 1e-4);
            let likelihoods = [wanted["null"].as_f64().unwrap(), wanted["value"].as_f64().unwrap()];
            all_close(name, &found.log_likelihood, &likelihoods, 1e-9);
            assert!(found.log_likelihood[1] >= likelihoods[1] - 1e-9, "{name}: R found a larger likelihood");
        }
    }
}

#[test]
fn the_area_below_the_dynamic_roc_curve_is_the_dynamic_auc() {
    let lung = lung();
    let lp = lung.fit(lung.x.view()).linear_predictors;
    let censoring = Censoring::new(&lung.time, &lung.event).unwrap();
    let curve = dynamic_roc(&censoring, &lung.time, &lung.event, &lp, 365.0).unwrap();
    let (first, last) = (curve[0], curve[curve.len() - 1]);
    assert_eq!([first.sensitivity, first.specificity], [0.0, 1.0]);
    assert_eq!([last.sensitivity, last.specificity], [1.0, 0.0]);
    let area: f64 = curve
        .windows(2)
        .map(|w| (w[0].specificity - w[1].specificity) * (w[0].sensitivity + w[1].sensitivity) / 2.0)
        .sum();
    let risk = Array2::from_shape_fn((lp.len(), 1), |(i, _)| lp[i]);
    let (auc, _) = dynamic_auc(&censoring, &lung.time, &lung.event, risk.view(), &[365.0]).unwrap();
    close("area", area, auc[0], 1e-12);
    // Both shares by hand at one threshold.
    let p = curve[40];
    let above = |i: &usize| lp[*i] >= p.threshold;
    let late: Vec<usize> = (0..lp.len()).filter(|&i| lung.time[i] > 365.0).collect();
    let below = late.iter().filter(|i| !above(i)).count() as f64 / late.len() as f64;
    close("specificity", p.specificity, below, 1e-12);
}
