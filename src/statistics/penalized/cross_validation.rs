//! Cross-validation of a path, as glmnet's `cv.glmnet` with given folds.

use super::super::StatisticsError;
use super::loss::{Sorted, cox_deviance_of};
use super::{Options, Outcome, Path, Place, Prepared, TOLERANCE, TOLERANCE_FOLD};
use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

/// What the folds are judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Binomial deviance of a row, or partial likelihood deviance per event.
    Deviance,
    /// Area under the ROC curve of a fold; deviance where folds have fewer than 10 rows. Binary outcomes only.
    Auc,
    /// Share of rows on the wrong side of 1/2. Binary outcomes only.
    Misclassification,
    /// Harrell's concordance of a fold. Survival only.
    Concordance,
}

/// A path with its cross-validated curve; vectors have one entry for each lambda of the path.
#[derive(Debug, Clone)]
pub struct CrossValidation {
    /// The path of all rows.
    pub path: Path,
    /// What was measured, in the end.
    pub measure: Measure,
    /// Mean over folds (or rows), weighted.
    pub mean: Vec<f64>,
    /// Its standard error.
    pub standard_error: Vec<f64>,
    /// Index of the best lambda.
    pub index_min: usize,
    /// Index of the largest lambda within one standard error of the best.
    pub index_1se: usize,
    /// Linear predictor of each row from the fit without its fold, shape (rows, lambdas).
    pub out_of_fold: Array2<f64>,
}

impl CrossValidation {
    /// The best lambda.
    pub fn lambda_min(&self) -> f64 {
        self.path.lambdas[self.index_min]
    }

    /// The largest lambda within one standard error of the best.
    pub fn lambda_1se(&self) -> f64 {
        self.path.lambdas[self.index_1se]
    }
}

/// Cross-validation. `folds`: a number from 0 for each row, none left out.
///
/// Each fold is fitted on its own grid and its coefficients are interpolated at the lambdas of the whole. `grouped` measures
/// whole folds (for Cox the deviance of all rows less that of the others), instead of single rows (for Cox the deviance within
/// the fold); glmnet's default is true. Folds run in parallel; the result does not depend on how many at once.
pub fn cross_validate(
    x: ArrayView2<f64>,
    outcome: &Outcome,
    options: &Options,
    folds: &[usize],
    measure: Measure,
    grouped: bool,
) -> Result<CrossValidation, StatisticsError> {
    let n = x.nrows();
    if folds.len() != n {
        return Err(StatisticsError::Length { what: "the folds", found: folds.len(), expected: n });
    }
    let count = folds.iter().max().map_or(0, |f| f + 1);
    let refuse = |what: &str| Err(StatisticsError::Degenerate { what: what.into() });
    if count < 3 || (0..count).any(|f| !folds.contains(&f)) {
        return refuse("cross-validation needs at least 3 folds, numbered from 0 without a gap");
    }
    match (outcome, measure) {
        (Outcome::Binary(_), Measure::Concordance) => return refuse("the concordance needs survival times"),
        (Outcome::Survival { .. }, Measure::Auc | Measure::Misclassification) => {
            return refuse("this measure needs a binary outcome");
        }
        _ => {}
    }
    let prepared = Prepared::new(x, outcome, options)?;
    let small = n < 10 * count;
    let measure = if small && measure == Measure::Auc { Measure::Deviance } else { measure };
    let folds: Vec<usize> = prepared.order.iter().map(|&i| folds[i]).collect();

    let (path, _) = prepared.path(&prepared.weights, n, TOLERANCE)?;
    let held_out = HeldOut { prepared: &prepared, folds: &folds, lambdas: &path.lambdas };
    let predictors: Vec<Result<Vec<Vec<f64>>, StatisticsError>> = (0..count)
        .into_par_iter()
        .map(|fold| {
            let mut weights = prepared.weights.clone();
            weights.iter_mut().zip(&folds).filter(|(_, f)| **f == fold).for_each(|(w, _)| *w = 0.0);
            let rows = folds.iter().filter(|f| **f != fold).count();
            let (fold_path, predictors) = prepared.path(&weights, rows, TOLERANCE_FOLD)?;
            Ok(held_out.interpolate(&fold_path, &predictors))
        })
        .collect();
    let predictors = predictors.into_iter().collect::<Result<Vec<_>, _>>()?;
    let raw = match (&prepared.outcome, measure) {
        (Sorted::Survival { .. }, Measure::Deviance) => held_out.cox_deviances(&predictors, grouped || small)?,
        (_, Measure::Deviance | Measure::Misclassification) => {
            held_out.rows(&predictors, measure, grouped && n >= 3 * count)
        }
        _ => held_out.rankings(&predictors),
    };
    let (mean, standard_error) = raw.summarize()?;
    let (index_min, index_1se) = best(&mean, &standard_error, matches!(measure, Measure::Auc | Measure::Concordance));
    let mut out_of_fold = Array2::zeros((n, path.lambdas.len()));
    for (i, &row) in prepared.order.iter().enumerate() {
        for (k, predictors) in predictors[folds[i]].iter().enumerate() {
            out_of_fold[[row, k]] = predictors[i];
        }
    }
    Ok(CrossValidation { path, measure, mean, standard_error, index_min, index_1se, out_of_fold })
}

/// Values of folds or rows with their weights: `values[unit][lambda]`.
struct Raw {
    values: Vec<Vec<f64>>,
    weights: Vec<f64>,
}

impl Raw {
    /// Weighted mean, and root of the weighted mean of squares over units less one; units that are not defined are left out.
    fn summarize(&self) -> Result<(Vec<f64>, Vec<f64>), StatisticsError> {
        let lambdas = self.values.first().map_or(0, Vec::len);
        let mut found = (Vec::new(), Vec::new());
        for k in 0..lambdas {
            let defined =
                || self.values.iter().zip(&self.weights).map(|(v, w)| (v[k], *w)).filter(|(v, _)| v.is_finite());
            let total: f64 = defined().map(|(_, w)| w).sum();
            let mean = defined().map(|(v, w)| w * v).sum::<f64>() / total;
            let squares = defined().map(|(v, w)| w * (v - mean) * (v - mean)).sum::<f64>() / total;
            let error = (squares / (self.values.len() as f64 - 1.0)).sqrt();
            if !(mean.is_finite() && error.is_finite()) {
                let what = "no fold has both classes (or a pair of patients whose order is known)".into();
                return Err(StatisticsError::Degenerate { what });
            }
            found.0.push(mean);
            found.1.push(error);
        }
        Ok(found)
    }
}

/// The first best value, and the first value within a standard error of it.
fn best(mean: &[f64], standard_error: &[f64], more_is_better: bool) -> (usize, usize) {
    let value = |k: usize| if more_is_better { -mean[k] } else { mean[k] };
    let lowest = (0..mean.len()).map(value).fold(f64::INFINITY, f64::min);
    let index_min = (0..mean.len()).position(|k| value(k) <= lowest).unwrap_or(0);
    let limit = value(index_min) + standard_error[index_min];
    (index_min, (0..mean.len()).position(|k| value(k) <= limit).unwrap_or(0))
}

/// What the folds are measured on.
struct HeldOut<'a> {
    prepared: &'a Prepared<'a>,
    folds: &'a [usize],
    lambdas: &'a [f64],
}

impl HeldOut<'_> {
    /// Linear predictors of all rows at the lambdas of the whole: linear in the coefficients, so these are interpolated.
    fn interpolate(&self, path: &Path, predictors: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let at = |&lambda: &f64| {
            let mut found = vec![0.0; self.folds.len()];
            for (k, part) in Place::of(&path.lambdas, lambda).parts() {
                found.iter_mut().zip(&predictors[k]).for_each(|(f, v)| *f += part * v);
            }
            found
        };
        self.lambdas.iter().map(at).collect()
    }

    fn fold_count(&self) -> usize {
        self.folds.iter().max().map_or(0, |f| f + 1)
    }

    fn rows_of(&self, fold: usize) -> Vec<usize> {
        (0..self.folds.len()).filter(|&i| self.folds[i] == fold).collect()
    }

    /// Binomial deviance or misclassification.
    fn rows(&self, predictors: &[Vec<Vec<f64>>], measure: Measure, grouped: bool) -> Raw {
        let Sorted::Binary(y) = &self.prepared.outcome else { return Raw { values: vec![], weights: vec![] } };
        let weights = &self.prepared.weights;
        let loss = |i: usize, eta: f64| {
            let p = 1.0 / (1.0 + (-eta).exp());
            let event = y[i] > 0.5;
            match measure {
                Measure::Misclassification => f64::from(u8::from((p > 0.5) != event)),
                _ => -2.0 * if event { p.clamp(1e-5, 1.0 - 1e-5) } else { 1.0 - p.clamp(1e-5, 1.0 - 1e-5) }.ln(),
            }
        };
        let row = |i: usize| -> Vec<f64> { predictors[self.folds[i]].iter().map(|eta| loss(i, eta[i])).collect() };
        if !grouped {
            return Raw {
                values: (0..self.folds.len()).map(row).collect(),
                weights: weights[..self.folds.len()].to_vec(),
            };
        }
        let fold = |fold: usize| {
            let rows = self.rows_of(fold);
            let total: f64 = rows.iter().map(|&i| weights[i]).sum();
            let at = |eta: &Vec<f64>| rows.iter().map(|&i| weights[i] * loss(i, eta[i])).sum::<f64>() / total;
            (predictors[fold].iter().map(at).collect(), total)
        };
        let (values, weights) = (0..self.fold_count()).map(fold).unzip();
        Raw { values, weights }
    }

    /// AUC or concordance of each fold.
    fn rankings(&self, predictors: &[Vec<Vec<f64>>]) -> Raw {
        let fold = |fold: usize| {
            let rows = self.rows_of(fold);
            let weights: Vec<f64> = rows.iter().map(|&i| self.prepared.weights[i]).collect();
            let order = Order::new(&self.prepared.outcome, &rows, &weights);
            let at = |eta: &Vec<f64>| order.concordance(&rows.iter().map(|&i| eta[i]).collect::<Vec<f64>>());
            (predictors[fold].iter().map(at).collect(), weights.iter().sum::<f64>())
        };
        let (values, weights) = (0..self.fold_count()).into_par_iter().map(fold).unzip();
        Raw { values, weights }
    }

    /// Partial likelihood deviance of each fold per event.
    fn cox_deviances(&self, predictors: &[Vec<Vec<f64>>], grouped: bool) -> Result<Raw, StatisticsError> {
        let Sorted::Survival { time, event } = &self.prepared.outcome else {
            return Ok(Raw { values: vec![], weights: vec![] });
        };
        let weights = &self.prepared.weights;
        // Weights at mean 1 among the rows of a deviance.
        let deviance = |rows: &[usize], eta: &[f64]| {
            let mean = rows.iter().map(|&i| weights[i]).sum::<f64>() / rows.len() as f64;
            let of = |v: &[f64]| -> Vec<f64> { rows.iter().map(|&i| v[i]).collect() };
            let events: Vec<bool> = rows.iter().map(|&i| event[i]).collect();
            let weights: Vec<f64> = rows.iter().map(|&i| weights[i] / mean).collect();
            cox_deviance_of(&of(time), &events, &weights, &of(eta))
        };
        let all: Vec<usize> = (0..self.folds.len()).collect();
        let (values, weights): (Vec<Vec<f64>>, Vec<f64>) = (0..self.fold_count())
            .into_par_iter()
            .map(|fold| {
                let own = self.rows_of(fold);
                let others: Vec<usize> = all.iter().copied().filter(|&i| self.folds[i] != fold).collect();
                let events: f64 = own.iter().filter(|&&i| event[i]).map(|&i| weights[i]).sum();
                let at = |eta: &Vec<f64>| match grouped {
                    true => (deviance(&all, eta) - deviance(&others, eta)) / events,
                    false => deviance(&own, eta) / events,
                };
                (predictors[fold].iter().map(at).collect(), events)
            })
            .unzip();
        match weights.contains(&0.0) {
            true => Err(StatisticsError::Degenerate { what: "a fold has no event: use fewer folds".into() }),
            false => Ok(Raw { values, weights }),
        }
    }
}

/// Concordance of predictors with outcomes, in n log n: those known to fare worse should have the higher predictor.
struct Order {
    /// (time, event, weight), latest first and events after censored rows of their time; with the row in `rows`.
    rows: Vec<(f64, bool, f64)>,
    index: Vec<usize>,
}

impl Order {
    fn new(outcome: &Sorted, rows: &[usize], weights: &[f64]) -> Order {
        // A binary outcome is an event before everyone else's end of observation.
        let row = |i: usize| match outcome {
            Sorted::Binary(y) => (1.0 - y[i], y[i] > 0.5),
            Sorted::Survival { time, event } => (time[i], event[i]),
        };
        let mut index: Vec<usize> = (0..rows.len()).collect();
        index.sort_by(|&a, &b| {
            let ((time_a, event_a), (time_b, event_b)) = (row(rows[a]), row(rows[b]));
            time_b.total_cmp(&time_a).then(event_a.cmp(&event_b))
        });
        let rows = index.iter().map(|&k| (row(rows[k]).0, row(rows[k]).1, weights[k])).collect();
        Order { rows, index }
    }

    /// Weighted share of pairs in the right order, ties one half; NaN without pairs. `predictor`: one for each row.
    fn concordance(&self, predictor: &[f64]) -> f64 {
        let mut sorted: Vec<f64> = predictor.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted.dedup();
        let rank = |k: usize| sorted.partition_point(|v| *v < predictor[self.index[k]]);
        let mut seen = Sums::new(sorted.len());
        let (mut right, mut pairs, mut total) = (0.0, 0.0, 0.0);
        let mut from = 0;
        while from < self.rows.len() {
            // Events of one time are compared with those seen before, not with each other.
            let (time, event, _) = self.rows[from];
            let to = from + self.rows[from..].iter().take_while(|r| r.0 == time && r.1 == event).count();
            for k in from..to {
                if event {
                    let (below, upto) = (seen.below(rank(k)), seen.below(rank(k) + 1));
                    right += self.rows[k].2 * (below + 0.5 * (upto - below));
                    pairs += self.rows[k].2 * total;
                }
            }
            for k in from..to {
                seen.add(rank(k), self.rows[k].2);
                total += self.rows[k].2;
            }
            from = to;
        }
        right / pairs
    }
}

/// Sums of weights below a rank (a Fenwick tree).
struct Sums(Vec<f64>);

impl Sums {
    fn new(ranks: usize) -> Sums {
        Sums(vec![0.0; ranks + 1])
    }

    fn add(&mut self, rank: usize, weight: f64) {
        let mut k = rank + 1;
        while k < self.0.len() {
            self.0[k] += weight;
            k += k & k.wrapping_neg();
        }
    }

    fn below(&self, rank: usize) -> f64 {
        let (mut k, mut sum) = (rank, 0.0);
        while k > 0 {
            sum += self.0[k];
            k -= k & k.wrapping_neg();
        }
        sum
    }
}
