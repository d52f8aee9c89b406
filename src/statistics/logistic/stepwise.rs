//! Terms left out one at a time, and stepwise selection.

use super::super::StatisticsError;
use super::super::distributions::chi_squared_upper_tail;
use super::{Logistic, Options, fit};
use ndarray::{ArrayView2, Axis};

/// What a model loses without one group of columns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropped {
    /// Columns of the group.
    pub df: usize,
    /// Deviance of the model without the group.
    pub deviance: f64,
    /// Akaike's criterion of the model without the group.
    pub aic: f64,
    /// Likelihood ratio statistic against the model with the group.
    pub likelihood_ratio: f64,
    /// Its p-value, chi-squared with `df` degrees of freedom.
    pub p: f64,
}

/// Likelihood ratio test of each group of columns (a factor is a group), as R's `drop1(test = "LRT")`.
pub fn drop1(
    x: ArrayView2<f64>,
    y: &[f64],
    options: &Options,
    groups: &[Vec<usize>],
) -> Result<Vec<Dropped>, StatisticsError> {
    check_groups(x, groups)?;
    let columns = |without: usize| -> Vec<usize> {
        (0..groups.len()).filter(|&g| g != without).flat_map(|g| groups[g].iter().copied()).collect()
    };
    let all = fit(x.select(Axis(1), &columns(groups.len())).view(), y, options)?;
    (0..groups.len())
        .map(|g| {
            let smaller = fit(x.select(Axis(1), &columns(g)).view(), y, options)?;
            let df = groups[g].len();
            let likelihood_ratio = (smaller.deviance - all.deviance).max(0.0);
            let p = chi_squared_upper_tail(likelihood_ratio, df as f64);
            Ok(Dropped { df, deviance: smaller.deviance, aic: smaller.aic, likelihood_ratio, p })
        })
        .collect()
}

/// Where a stepwise selection starts and what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From all groups, dropping.
    Backward,
    /// From none, adding.
    Forward,
    /// From all groups, dropping and adding.
    Both,
}

/// One step of a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The group was left out.
    Drop(usize),
    /// The group was put in.
    Add(usize),
}

/// A finished selection.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The criterion of the model at the start.
    pub start_criterion: f64,
    /// Each change with the criterion after it.
    pub steps: Vec<(Change, f64)>,
    /// The groups that stayed; those put in come last, in the order they came.
    pub groups: Vec<usize>,
    /// Columns of `x` in the model, in the order of its coefficients.
    pub columns: Vec<usize>,
    /// The model of these columns.
    pub model: Logistic,
}

/// Stepwise selection of groups of columns by deviance + `penalty` x coefficients, as R's `MASS::stepAIC`: each time the best
/// change is made, until none is better than staying. `penalty` 2 is AIC, the logarithm of the number of rows BIC.
pub fn step(
    x: ArrayView2<f64>,
    y: &[f64],
    options: &Options,
    groups: &[Vec<usize>],
    direction: Direction,
    penalty: f64,
) -> Result<Selection, StatisticsError> {
    check_groups(x, groups)?;
    let columns = |of: &[usize]| -> Vec<usize> { of.iter().flat_map(|&g| groups[g].iter().copied()).collect() };
    let model = |of: &[usize]| fit(x.select(Axis(1), &columns(of)).view(), y, options);
    let criterion = |m: &Logistic| m.deviance + penalty * m.coefficients.len() as f64;

    let mut inside: Vec<usize> = if direction == Direction::Forward { vec![] } else { (0..groups.len()).collect() };
    let mut current = model(&inside)?;
    let start_criterion = criterion(&current);
    let mut steps = Vec::new();
    loop {
        let mut changes = Vec::new();
        if direction != Direction::Forward {
            changes.extend(inside.iter().map(|&g| Change::Drop(g)));
        }
        if direction != Direction::Backward {
            changes.extend((0..groups.len()).filter(|g| !inside.contains(g)).map(Change::Add));
        }
        let mut best: Option<(Change, Vec<usize>, Logistic)> = None;
        for change in changes {
            let mut after = inside.clone();
            match change {
                Change::Drop(g) => after.retain(|&h| h != g),
                Change::Add(g) => after.push(g),
            }
            let candidate = model(&after)?;
            if criterion(&candidate) < criterion(best.as_ref().map_or(&current, |b| &b.2)) {
                best = Some((change, after, candidate));
            }
        }
        match best {
            Some((change, after, candidate)) => {
                (inside, current) = (after, candidate);
                steps.push((change, criterion(&current)));
            }
            None => {
                return Ok(Selection {
                    start_criterion,
                    steps,
                    columns: columns(&inside),
                    groups: inside,
                    model: current,
                });
            }
        }
    }
}

fn check_groups(x: ArrayView2<f64>, groups: &[Vec<usize>]) -> Result<(), StatisticsError> {
    match groups.iter().flatten().find(|&&j| j >= x.ncols()) {
        Some(&j) => Err(StatisticsError::Length { what: "a group's column", found: j, expected: x.ncols() }),
        None => Ok(()),
    }
}
