//! Terms left out one at a time, and stepwise selection.

use super::super::StatisticsError;
use super::super::distributions::chi_squared_upper_tail;
use super::super::stepwise::{self, Direction, Selection, check_groups};
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

/// Stepwise selection of groups of columns by deviance + `penalty` x coefficients, as R's `MASS::stepAIC`. `penalty` 2 is AIC, the
/// logarithm of the number of rows BIC.
pub fn step(
    x: ArrayView2<f64>,
    y: &[f64],
    options: &Options,
    groups: &[Vec<usize>],
    direction: Direction,
    penalty: f64,
) -> Result<Selection<Logistic>, StatisticsError> {
    check_groups(x, groups)?;
    stepwise::step(groups, direction, |columns| {
        let model = fit(x.select(Axis(1), columns).view(), y, options)?;
        let criterion = model.deviance + penalty * model.coefficients.len() as f64;
        Ok((model, criterion))
    })
}
