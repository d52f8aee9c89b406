//! The statistics against R itself on random data, where R is: what the stored cases cannot show, new data can.
//!
//! See [`super::r`] for what happens where R is not.

use super::{all_close, close, r};
use crate::common::Folder;
use metwatch::statistics::calibration::validate_probabilities;
use metwatch::statistics::concordance::{PairWeight, concordance};
use metwatch::statistics::cox::{Ties, cox};
use metwatch::statistics::kaplan_meier::{Band, kaplan_meier, log_rank};
use metwatch::statistics::penalized::{Measure, Options, Outcome, cross_validate};
use metwatch::statistics::{StatisticsError, logistic};
use ndarray::{Array2, Axis};
use std::collections::BTreeMap;
use std::path::Path;

/// A generator of random data; the same seed gives the same data.
struct Random(u64);

impl Random {
    /// 0..1.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (12 uniforms).
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// How a data set is drawn.
#[derive(Clone, Copy)]
struct Design {
    seed: u64,
    n: usize,
    p: usize,
    /// Share of a common factor in every predictor, 0..1.
    correlation: f64,
    /// Predictors and times have few distinct values; every third predictor is 0 or 1.
    coarse: bool,
    /// Size of the effects of the first five predictors, log odds.
    effect: f64,
}

struct Data {
    x: Array2<f64>,
    y: Vec<f64>,
    time: Vec<f64>,
    event: Vec<u8>,
    group: Vec<usize>,
    folds: Vec<usize>,
}

impl Design {
    fn draw(self) -> Data {
        let mut random = Random(self.seed);
        let mut x = Array2::zeros((self.n, self.p));
        let (mut y, mut time, mut event, mut group) = (vec![], vec![], vec![], vec![]);
        for mut row in x.rows_mut() {
            let common = random.normal();
            for (j, value) in row.iter_mut().enumerate() {
                *value = self.correlation.sqrt() * common + (1.0 - self.correlation).sqrt() * random.normal();
                if self.coarse {
                    *value = if j % 3 == 2 { f64::from(u8::from(*value > 0.4)) } else { (*value * 2.0).round() / 2.0 };
                }
                // Scales that differ, as those of features do.
                *value *= [1.0, 100.0, 1.0, 0.01][j % 4];
            }
            let unit = [1.0, 100.0, 1.0, 0.01];
            let lp: f64 = (0..5.min(self.p)).map(|j| [1.0, -0.8, 0.6, 0.5, -0.4][j] * row[j] / unit[j % 4]).sum();
            let lp = self.effect * lp;
            y.push(f64::from(u8::from(random.uniform() < 1.0 / (1.0 + (0.5 - lp).exp()))));
            let (death, end) = (-random.uniform().ln() * 30.0 * (-lp).exp(), 5.0 + 60.0 * random.uniform());
            let observed = death.min(end).max(0.01);
            time.push(if self.coarse { observed.ceil() } else { observed });
            event.push(u8::from(death <= end));
            group.push((random.uniform() * 3.0) as usize);
        }
        let folds = (0..self.n).map(|i| i % 5).collect();
        Data { x, y, time, event, group, folds }
    }
}

impl Data {
    /// R's numbers by name.
    fn ask(&self, test: &str, what: &[&str]) -> BTreeMap<String, Vec<f64>> {
        let folder = Folder::new(test);
        let names: Vec<String> = (0..self.x.ncols()).map(|j| format!("x{j}")).collect();
        let mut text = format!("{},y,time,event,group,fold\n", names.join(","));
        for i in 0..self.y.len() {
            self.x.row(i).iter().for_each(|v| text += &format!("{v:?},"));
            let (y, time, event, group, fold) = (self.y[i], self.time[i], self.event[i], self.group[i], self.folds[i]);
            text += &format!("{y},{time:?},{event},{group},{fold}\n");
        }
        std::fs::write(folder.join("data.csv"), text).unwrap();
        let words: Vec<&Path> = std::iter::once(folder.path()).chain(what.iter().map(Path::new)).collect();
        let text = r::run("statistics/live.R", &words);
        text.lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let name = words.next()?.to_owned();
                Some((name, words.map(|w| w.parse().unwrap_or(f64::NAN)).collect()))
            })
            .collect()
    }
}

/// The path, its stops, coefficients and cross-validation.
fn path_equals(test: &str, design: Design, survival: bool, alpha: f64) {
    let data = design.draw();
    let mut what = vec![if survival { "cox_path" } else { "path" }];
    what.extend((alpha < 1.0).then_some("alpha"));
    let r = data.ask(test, &what);
    let event: Vec<bool> = data.event.iter().map(|e| *e == 1).collect();
    let outcome =
        if survival { Outcome::Survival { time: &data.time, event: &event } } else { Outcome::Binary(&data.y) };
    let lambda_min_ratio = (design.n <= design.p).then_some(0.1);
    let options = Options { alpha, lambda_min_ratio, ..Options::default() };
    let cv = cross_validate(data.x.view(), &outcome, &options, &data.folds, Measure::Deviance, true).unwrap();
    let seed = design.seed;
    all_close(&format!("{test}, seed {seed}: lambda"), &cv.path.lambdas, &r["lambda"], 1e-9);
    let sd = data.x.std_axis(Axis(0), 0.0);
    let count = cv.path.lambdas.len();
    for (k, &lambda) in cv.path.lambdas.iter().enumerate() {
        let what = format!("{test}, seed {seed}, lambda {k}");
        assert!(cv.path.optimality[k] < 1e-9, "{what}: {}", cv.path.optimality[k]);
        // What glmnet itself leaves open (README of the stored cases): 1e-3, in the first half of a path 1e-4.
        let (relative, of_largest) = if 2 * k < count { (1e-4, 5e-5) } else { (1e-3, 2e-4) };
        let explained = (cv.path.deviance_ratios[k] - r["dev_ratio"][k]).abs();
        assert!(explained < relative / 100.0, "{what}: deviance ratio differs by {explained:e}");
        let theirs = &r["beta"][k * design.p..(k + 1) * design.p];
        let ours = cv.path.at(lambda).1;
        let largest = theirs.iter().zip(&sd).map(|(b, s)| (b * s).abs()).fold(0.0, f64::max);
        for j in 0..design.p {
            let off = (ours[j] - theirs[j]).abs();
            let fine = off <= relative * theirs[j].abs() || off * sd[j] <= of_largest * largest;
            assert!(fine, "{what}, column {j}: {:?}, glmnet {:?}", ours[j], theirs[j]);
        }
    }
    let index: Vec<usize> = r["index"].iter().map(|v| *v as usize).collect();
    assert_eq!([cv.index_min, cv.index_1se], index[..], "{test}, seed {seed}: lambda.min and lambda.1se");
    // Beyond the choice a fold may be nearly saturated, where glmnet does not converge.
    let until = (cv.index_min + 10).min(count);
    all_close(&format!("{test}, seed {seed}: cvm"), &cv.mean[..until], &r["cvm"][..until], 1e-5);
    all_close(&format!("{test}, seed {seed}: cvsd"), &cv.standard_error[..until], &r["cvsd"][..until], 1e-4);
}

#[test]
fn binomial_paths_equal_glmnet_on_random_data() {
    if !r::is_there("binomial_paths_equal_glmnet_on_random_data") {
        return;
    }
    let design = Design { seed: 11, n: 150, p: 12, correlation: 0.3, coarse: false, effect: 0.8 };
    path_equals("live-more-rows", design, false, 1.0);
    path_equals("live-elastic-net", Design { seed: 12, correlation: 0.8, ..design }, false, 0.5);
    path_equals("live-factors", Design { seed: 13, coarse: true, p: 15, ..design }, false, 1.0);
    path_equals("live-more-columns", Design { seed: 14, n: 60, p: 100, ..design }, false, 1.0);
    path_equals("live-near-separation", Design { seed: 15, effect: 2.5, p: 6, ..design }, false, 1.0);
}

#[test]
fn cox_paths_equal_glmnet_on_random_data() {
    if !r::is_there("cox_paths_equal_glmnet_on_random_data") {
        return;
    }
    let design = Design { seed: 21, n: 150, p: 12, correlation: 0.3, coarse: false, effect: 0.8 };
    path_equals("live-cox", design, true, 1.0);
    path_equals("live-cox-ties", Design { seed: 22, coarse: true, ..design }, true, 1.0);
    path_equals("live-cox-columns", Design { seed: 23, n: 60, p: 80, ..design }, true, 1.0);
}

#[test]
fn logistic_models_and_validation_equal_r_on_random_data() {
    if !r::is_there("logistic_models_and_validation_equal_r_on_random_data") {
        return;
    }
    let design = Design { seed: 31, n: 200, p: 5, correlation: 0.4, coarse: false, effect: 0.8 };
    for design in [design, Design { seed: 32, coarse: true, ..design }, Design { seed: 33, effect: 2.0, ..design }] {
        let data = design.draw();
        let model = match logistic::fit(data.x.view(), &data.y, &logistic::Options::default()) {
            Err(StatisticsError::Separated { .. }) => panic!("seed {} is separated: choose another", design.seed),
            other => other.unwrap(),
        };
        let r = data.ask("live-logistic", &["logistic"]);
        let what = |name: &str| format!("seed {}: {name}", design.seed);
        all_close(&what("coef"), &model.coefficients.to_vec(), &r["coef"], 1e-6);
        all_close(&what("se"), &model.standard_errors.to_vec(), &r["se"], 1e-6);
        all_close(&what("z"), &model.z.to_vec(), &r["z"], 1e-6);
        all_close(&what("p"), &model.p.to_vec(), &r["p"], 1e-6);
        let likelihood = [model.deviance, model.null_deviance, model.aic, model.bic];
        all_close(&what("deviance"), &likelihood, &r["deviance"], 1e-9);
        let ratio = model.null_deviance - model.deviance;
        all_close(&what("lrm"), &[model.coefficients.to_vec(), vec![ratio]].concat(), &r["lrm"], 1e-6);
        let outcome: Vec<bool> = data.y.iter().map(|y| *y == 1.0).collect();
        let found = validate_probabilities(&outcome, &r["probabilities"]).unwrap();
        let ours = [
            found.auc_binned,
            found.r2,
            found.discrimination,
            found.discrimination_chi_squared,
            found.unreliability,
            found.unreliability_chi_squared,
            found.unreliability_p,
            found.quality,
            found.brier,
            found.intercept.value,
            found.slope.value,
            found.distances.emax,
            found.distances.e90,
            found.distances.ici,
            found.spiegelhalter_z,
            found.spiegelhalter_p,
        ];
        all_close(&what("val.prob"), &ours, &r["val.prob"], 1e-6);
    }
}

#[test]
fn survival_models_and_curves_equal_r_on_random_data() {
    if !r::is_there("survival_models_and_curves_equal_r_on_random_data") {
        return;
    }
    let design = Design { seed: 41, n: 200, p: 5, correlation: 0.4, coarse: false, effect: 0.6 };
    for design in [design, Design { seed: 42, coarse: true, ..design }, Design { seed: 43, n: 40, p: 3, ..design }] {
        let data = design.draw();
        let r = data.ask("live-survival", &["survival"]);
        let what = |name: &str| format!("seed {}: {name}", design.seed);
        for (name, ties) in [("efron", Ties::Efron), ("breslow", Ties::Breslow)] {
            let of = |part: &str| &r[&format!("{name}_{part}")];
            let model = cox(data.x.view(), &data.time, &data.event, None, ties).unwrap();
            all_close(&what("coef"), &model.coefficients.to_vec(), of("coef"), 1e-6);
            all_close(&what("se"), &model.standard_errors().to_vec(), of("se"), 1e-6);
            all_close(&what("loglik"), &model.log_likelihood, of("loglik"), 1e-9);
            let c = concordance(&data.time, &data.event, &model.linear_predictors, None, PairWeight::Equal, 0.0);
            let tests = [model.score.chi_squared, model.wald.chi_squared, c.unwrap().c];
            all_close(&what("tests"), &tests, of("tests"), 1e-6);
        }
        let curve = kaplan_meier(&data.time, &data.event, Band::Log, 0.95).unwrap();
        let or_nan = |v: &[Option<f64>]| v.iter().map(|v| v.unwrap_or(f64::NAN)).collect::<Vec<f64>>();
        all_close(&what("time"), &curve.time, &r["km_time"], 1e-12);
        all_close(&what("surv"), &curve.survival, &r["km_surv"], 1e-10);
        // After the last patient R has an infinite error; the curve says the same in its own way.
        let alive = curve.survival.iter().take_while(|s| **s > 0.0).count();
        all_close(&what("se"), &curve.se_cumulative_hazard[..alive], &r["km_se"][..alive], 1e-10);
        all_close(&what("lower"), &or_nan(&curve.lower)[..alive], &r["km_lower"][..alive], 1e-10);
        all_close(&what("upper"), &or_nan(&curve.upper)[..alive], &r["km_upper"][..alive], 1e-10);
        let test = log_rank(&data.time, &data.event, &data.group, None, 0.0).unwrap();
        let ours = [test.observed, test.expected, vec![test.chi_squared, test.p]].concat();
        all_close(&what("log-rank"), &ours, &r["log_rank"], 1e-6);
        close(&what("degrees of freedom"), test.degrees_of_freedom as f64, 2.0, 0.0);
    }
}
