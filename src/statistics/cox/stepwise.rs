//! Stepwise selection by partial likelihood.

use super::super::StatisticsError;
use super::super::stepwise::{self, Direction, Selection, check_groups};
use super::{Cox, Ties, cox};
use ndarray::{ArrayView2, Axis};

/// Stepwise selection of groups of columns by -2 log partial likelihood + `penalty` x coefficients, as R's `step` on a `coxph`.
/// `penalty` 2 is AIC, the logarithm of the number of events BIC (R's `nobs` of a `coxph`).
pub fn step(
    x: ArrayView2<f64>,
    time: &[f64],
    event: &[u8],
    ties: Ties,
    groups: &[Vec<usize>],
    direction: Direction,
    penalty: f64,
) -> Result<Selection<Cox>, StatisticsError> {
    check_groups(x, groups)?;
    stepwise::step(groups, direction, |columns| {
        let model = cox(x.select(Axis(1), columns).view(), time, event, None, ties)?;
        let criterion = -2.0 * model.log_likelihood[1] + penalty * columns.len() as f64;
        Ok((model, criterion))
    })
}
