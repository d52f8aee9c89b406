//! LASSO and elastic net paths with cross-validation, binomial and Cox, on glmnet's grid.
//!
//! The fit minimizes -(weighted log-likelihood) / (sum of weights) + lambda (alpha sum v |b| + (1 - alpha) / 2 sum v b^2) on
//! columns of SD 1 (with n), v the penalty factors at mean 1: the definition, the grid of lambdas and the rules that end a path
//! are glmnet's. The solutions are exact (optimality conditions to 1e-9 of lambda), where glmnet's at its default threshold
//! are not: its late coefficients of collinear columns can be off by whole numbers.
//!
//! Two differences are deliberate. Of columns that are multiples of each other the first is chosen, where glmnet splits the
//! effect arbitrarily. Patients censored at the time of an event are at risk at it, whatever the order of rows; glmnet loses
//! some of them at times above 256, where its shift of 2e-14 vanishes (colon cancer, days: 1e-5 of lambda, 2e-4 of the curve).
//!
//! `x` has shape (rows, columns) everywhere; it is copied once, and folds share that copy. A large table whose columns lie
//! contiguously (Fortran order) is not copied, unless Cox's order of rows asks for it.

mod cross_validation;
mod design;
mod kernels;
mod loss;
mod solver;

pub use cross_validation::{CrossValidation, Measure, cross_validate};

use super::StatisticsError;
use design::Design;
use loss::{Loss, Sorted};
use ndarray::{Array1, ArrayView2};
use solver::{LimitMet, Penalty, Solver};

/// Violation of the optimality conditions that a solution may have, relative to lambda.
const TOLERANCE: f64 = 5e-10;
/// The same for fits without a fold, which are only read as predictions of that fold.
const TOLERANCE_FOLD: f64 = 1e-7;

/// What is predicted, one entry for each row.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// 0 or 1; the model has an intercept.
    Binary(&'a [f64]),
    /// Time above 0 to an event or to the end of observation; ties as Breslow; no intercept.
    Survival {
        /// In any unit.
        time: &'a [f64],
        /// Whether the time is that of an event.
        event: &'a [bool],
    },
}

impl Outcome<'_> {
    fn len(&self) -> usize {
        match self {
            Outcome::Binary(y) => y.len(),
            Outcome::Survival { time, .. } => time.len(),
        }
    }
}

/// How a path is made; the default is glmnet's.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// 1 is the LASSO, 0 ridge.
    pub alpha: f64,
    /// Penalize coefficients of columns at SD 1 instead of the columns as they are.
    pub standardize: bool,
    /// Weight of each row, at least 0.
    pub weights: Option<&'a [f64]>,
    /// Penalty factor of each column: 0 is never penalized, infinity never enters.
    pub penalty_factors: Option<&'a [f64]>,
    /// These lambdas instead of the grid.
    pub lambdas: Option<&'a [f64]>,
    /// Values of the grid.
    pub lambda_count: usize,
    /// Smallest over largest lambda of the grid; by default 1e-4, or 1e-2 where rows are fewer than columns.
    pub lambda_min_ratio: Option<f64>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            alpha: 1.0,
            standardize: true,
            weights: None,
            penalty_factors: None,
            lambdas: None,
            lambda_count: 100,
            lambda_min_ratio: None,
        }
    }
}

/// Solutions along decreasing lambdas. Each vector has one entry for each lambda.
#[derive(Debug, Clone)]
pub struct Path {
    /// Decreasing.
    pub lambdas: Vec<f64>,
    /// 0 for Cox.
    pub intercepts: Vec<f64>,
    /// (column, coefficient) of the columns that are not 0, in increasing order; in the units of `x`.
    pub coefficients: Vec<Vec<(usize, f64)>>,
    /// Explained part of the null deviance.
    pub deviance_ratios: Vec<f64>,
    /// Worst violation of the optimality conditions, relative to lambda.
    pub optimality: Vec<f64>,
    /// Deviance without predictors (for Cox against the saturated model), with the weights as given.
    pub null_deviance: f64,
    /// Number of columns of `x`.
    pub columns: usize,
    /// The iterations met their limit at the lambda after the last: near saturation there may be no finite answer.
    pub limit_met: bool,
}

impl Path {
    /// Number of coefficients that are not 0, at each lambda.
    pub fn counts(&self) -> Vec<usize> {
        self.coefficients.iter().map(Vec::len).collect()
    }

    /// Intercept and all coefficients at `lambda`: linear between the two nearest lambdas of the path and constant beyond its
    /// ends, as glmnet's `coef(s = lambda)`.
    pub fn at(&self, lambda: f64) -> (f64, Array1<f64>) {
        let place = Place::of(&self.lambdas, lambda);
        let mut all = Array1::zeros(self.columns);
        let mut intercept = 0.0;
        for (k, part) in place.parts() {
            intercept += part * self.intercepts[k];
            for &(j, b) in &self.coefficients[k] {
                all[j] += part * b;
            }
        }
        (intercept, all)
    }

    /// Linear predictors of new rows at `lambda`, see [`Path::at`]. `x`: shape (rows, columns).
    pub fn predict(&self, x: ArrayView2<f64>, lambda: f64) -> Result<Array1<f64>, StatisticsError> {
        if x.ncols() != self.columns {
            return Err(StatisticsError::Length {
                what: "the columns of new rows",
                found: x.ncols(),
                expected: self.columns,
            });
        }
        let (intercept, coefficients) = self.at(lambda);
        Ok(x.dot(&coefficients) + intercept)
    }
}

/// Where a lambda lies among decreasing ones: `part` of `left` and the rest of `left + 1`.
#[derive(Debug, Clone, Copy)]
struct Place {
    left: usize,
    part: f64,
}

impl Place {
    fn of(lambdas: &[f64], lambda: f64) -> Place {
        let last = lambdas.len() - 1;
        let right = lambdas.partition_point(|&l| l > lambda);
        if right == 0 || right > last {
            return Place { left: right.min(last), part: 1.0 };
        }
        let (high, low) = (lambdas[right - 1], lambdas[right]);
        Place { left: right - 1, part: (lambda - low) / (high - low) }
    }

    /// (index, part) of what is to be added.
    fn parts(self) -> impl Iterator<Item = (usize, f64)> {
        [(self.left, self.part), (self.left + 1, 1.0 - self.part)].into_iter().filter(|(_, part)| *part != 0.0)
    }
}

/// The path, as glmnet's `glmnet(x, y, family = "binomial" or "cox")`.
pub fn fit(x: ArrayView2<f64>, outcome: &Outcome, options: &Options) -> Result<Path, StatisticsError> {
    let prepared = Prepared::new(x, outcome, options)?;
    let weights = prepared.weights.clone();
    Ok(prepared.path(&weights, x.nrows(), TOLERANCE)?.0)
}

/// A path, and for each of its lambdas the linear predictors of all rows in the solver's order.
type Fitted = (Path, Vec<Vec<f64>>);

/// Checked input in the order of the solver's rows.
struct Prepared<'a> {
    design: Design<'a>,
    outcome: Sorted,
    /// Row of the caller for each row here.
    order: Vec<usize>,
    weights: Vec<f64>,
    /// At mean 1; infinite for columns that never enter.
    factors: Vec<f64>,
    options: &'a Options<'a>,
}

impl<'a> Prepared<'a> {
    fn new(x: ArrayView2<'a, f64>, outcome: &Outcome, options: &'a Options) -> Result<Prepared<'a>, StatisticsError> {
        let p = x.ncols();
        check(x, outcome, options)?;
        let order = Sorted::order(outcome);
        let mut weights: Vec<f64> = order.iter().map(|&i| options.weights.map_or(1.0, |w| w[i])).collect();
        let mut factors = options.penalty_factors.map_or_else(|| vec![1.0; p], <[f64]>::to_vec);
        // glmnet counts columns that never enter with factor 1 before it scales the factors to mean 1.
        let total: f64 = factors.iter().map(|f| if f.is_finite() { *f } else { 1.0 }).sum();
        factors.iter_mut().for_each(|f| *f *= p as f64 / total);
        let design = Design::new(x, &order, &weights)?;
        weights.resize(design.n, 0.0);
        let outcome = Sorted::new(outcome, &order, design.n);
        Ok(Prepared { design, outcome, order, weights, factors, options })
    }

    /// The path of some of the rows (weight 0 leaves a row out; `rows` is how many count for the grid), and the linear
    /// predictors of all rows at each lambda.
    fn path(&self, weights: &[f64], rows: usize, tolerance: f64) -> Result<Fitted, StatisticsError> {
        let Design { n: _, p, mean, sd, .. } = &self.design;
        let options = self.options;
        let loss = Loss::new(&self.outcome, weights)?;
        let survival = !loss.has_intercept();
        let total: f64 = weights.iter().sum();
        let mut solver = Solver::new(&self.design, loss, self.penalty(weights), tolerance)
            .map_err(|LimitMet| StatisticsError::NotConverged { what: "the columns without penalty", iterations: 0 })?;
        let null = solver.loss.deviance(&vec![solver.loss.start(); weights.len()]);
        let mut path = Path {
            lambdas: Vec::new(),
            intercepts: Vec::new(),
            coefficients: Vec::new(),
            deviance_ratios: Vec::new(),
            optimality: Vec::new(),
            null_deviance: null * total,
            columns: *p,
            limit_met: false,
        };
        let mut predictors = Vec::new();
        let lambda_max = solver.lambda_max();
        for (k, lambda) in self.grid(lambda_max, rows, survival).into_iter().enumerate() {
            // The first of a grid is that of infinite penalty, whatever alpha.
            let solved = if k == 0 && options.lambdas.is_none() { Ok(0.0) } else { solver.solve(lambda) };
            let Ok(violation) = solved else {
                path.limit_met = true;
                break;
            };
            let scaled = |j: usize| solver.beta[j] / sd[j];
            let coefficients: Vec<(usize, f64)> =
                (0..*p).filter(|&j| solver.beta[j] != 0.0).map(|j| (j, scaled(j))).collect();
            path.intercepts.push(solver.beta[*p] - coefficients.iter().map(|&(j, b)| b * mean[j]).sum::<f64>());
            path.coefficients.push(coefficients);
            path.lambdas.push(lambda);
            path.deviance_ratios.push(1.0 - solver.loss.deviance(&solver.eta) / null);
            path.optimality.push(violation);
            predictors.push(solver.eta.clone());
            if options.lambdas.is_none() && is_end(&path.deviance_ratios, options.lambda_count, survival) {
                break;
            }
        }
        if survival {
            path.intercepts.iter_mut().for_each(|b| *b = 0.0);
        }
        match path.lambdas.is_empty() {
            true => Err(StatisticsError::NotConverged { what: "the first lambda", iterations: 0 }),
            false => Ok((path, predictors)),
        }
    }

    fn grid(&self, lambda_max: f64, rows: usize, survival: bool) -> Vec<f64> {
        if let Some(given) = self.options.lambdas {
            let mut lambdas = given.to_vec();
            lambdas.sort_by(|a, b| b.total_cmp(a));
            return lambdas;
        }
        let default = if rows < self.design.p { 1e-2 } else { 1e-4 };
        let ratio = self.options.lambda_min_ratio.unwrap_or(default).max(1e-6);
        let count = self.options.lambda_count;
        let gaps = (count.max(2) - 1) as f64;
        // glmnet's Cox is Fortran, where `1.0 / gaps` is in single precision.
        let step = ratio.powf(if survival { f64::from(1.0 / gaps as f32) } else { 1.0 / gaps });
        (0..count).scan(lambda_max, |next, _| Some(std::mem::replace(next, *next * step))).collect()
    }

    /// The penalty in the design's standardized columns, for the SDs of the rows with a weight.
    fn penalty(&self, weights: &[f64]) -> Penalty {
        let total: f64 = weights.iter().sum();
        let all = weights == self.weights;
        let mut penalty = Penalty { alpha: self.options.alpha, l1: vec![], l2: vec![], unit: vec![], usable: vec![] };
        for (j, factor) in self.factors.iter().enumerate() {
            let column = self.design.column(j);
            let mut used = column.values.iter().zip(weights).filter(|(_, w)| **w > 0.0);
            let first = used.next().map(|(v, _)| *v);
            let varies = used.any(|(v, _)| Some(*v) != first);
            let unit = match self.options.standardize {
                false => 1.0 / self.design.sd[j],
                true if all => 1.0,
                true => {
                    let mean = column.standardized().zip(weights).map(|(v, w)| w * v).sum::<f64>() / total;
                    let squares: f64 =
                        column.standardized().zip(weights).map(|(v, w)| w * (v - mean) * (v - mean)).sum();
                    (squares / total).sqrt()
                }
            };
            let usable = varies && factor.is_finite();
            let factor = if factor.is_finite() { *factor } else { 1.0 };
            penalty.usable.push(usable);
            penalty.unit.push(unit);
            penalty.l1.push(factor * unit);
            penalty.l2.push(factor * unit * unit);
        }
        penalty
    }
}

/// Whether glmnet ends a path after its last deviance ratio: nearly all is explained, or little was gained.
fn is_end(ratios: &[f64], lambda_count: usize, survival: bool) -> bool {
    let least = lambda_count.min(5);
    let last = ratios.len() - 1;
    if ratios.len() < least {
        return false;
    }
    if survival {
        (ratios[last] - ratios[last + 1 - least]) / ratios[last] < 1e-3 || ratios[last] > 0.99
    } else {
        ratios[last] - if last > 0 { ratios[last - 1] } else { 0.0 } < 1e-5 || ratios[last] > 0.999
    }
}

fn check(x: ArrayView2<f64>, outcome: &Outcome, options: &Options) -> Result<(), StatisticsError> {
    let (n, p) = x.dim();
    let length = |what, found, expected| {
        if found == expected { Ok(()) } else { Err(StatisticsError::Length { what, found, expected }) }
    };
    let finite = |what, values: &[f64]| match values.iter().position(|v| !v.is_finite()) {
        Some(row) => Err(StatisticsError::NotFinite { what, row }),
        None => Ok(()),
    };
    let refuse = |wrong: bool, what: &str| {
        if wrong { Err(StatisticsError::Degenerate { what: what.into() }) } else { Ok(()) }
    };
    refuse(p == 0, "there is no column to choose from")?;
    length("the outcome", outcome.len(), n)?;
    match outcome {
        Outcome::Binary(y) => {
            finite("the outcome", y)?;
            refuse(y.iter().any(|y| *y != 0.0 && *y != 1.0), "an outcome is neither 0 nor 1")?;
        }
        Outcome::Survival { time, event } => {
            finite("the times", time)?;
            length("the events", event.len(), n)?;
            refuse(time.iter().any(|t| *t <= 0.0), "a time is not above 0")?;
        }
    }
    if let Some(weights) = options.weights {
        length("the weights", weights.len(), n)?;
        finite("the weights", weights)?;
        refuse(weights.iter().any(|w| *w < 0.0), "a weight is negative")?;
    }
    refuse(options.weights.is_some_and(|w| w.iter().sum::<f64>() <= 0.0) || n == 0, "no row has a weight")?;
    if let Some(factors) = options.penalty_factors {
        length("the penalty factors", factors.len(), p)?;
        refuse(factors.iter().any(|f| f.is_nan() || *f < 0.0), "a penalty factor is negative or no number")?;
        refuse(factors.iter().all(|f| *f == 0.0), "all penalty factors are 0")?;
    }
    refuse(!(0.0..=1.0).contains(&options.alpha), "alpha is not between 0 and 1")?;
    match options.lambdas {
        Some(lambdas) => {
            finite("the lambdas", lambdas)?;
            refuse(lambdas.is_empty() || lambdas.iter().any(|l| *l < 0.0), "lambdas are missing or negative")
        }
        None => refuse(
            options.lambda_count == 0 || options.lambda_min_ratio.is_some_and(|r| !(r > 0.0 && r < 1.0)),
            "the grid of lambdas is empty or its ratio not between 0 and 1",
        ),
    }
}
