//! Stepwise selection of groups of columns, for any model with a criterion.

use super::StatisticsError;
use ndarray::ArrayView2;

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

/// A finished selection of groups for a model `M`.
#[derive(Debug, Clone)]
pub struct Selection<M> {
    /// The criterion of the model at the start.
    pub start_criterion: f64,
    /// Each change with the criterion after it.
    pub steps: Vec<(Change, f64)>,
    /// The groups that stayed; those put in come last, in the order they came.
    pub groups: Vec<usize>,
    /// Columns of `x` in the model, in the order of its coefficients.
    pub columns: Vec<usize>,
    /// The model of these columns.
    pub model: M,
}

/// Selects among `groups` of columns as R's `step` and `MASS::stepAIC`: each time the best change is made, until none is better
/// than staying. `fit`: the model of some columns and its criterion, smaller being better.
pub fn step<M>(
    groups: &[Vec<usize>],
    direction: Direction,
    fit: impl Fn(&[usize]) -> Result<(M, f64), StatisticsError>,
) -> Result<Selection<M>, StatisticsError> {
    let columns = |of: &[usize]| -> Vec<usize> { of.iter().flat_map(|&g| groups[g].iter().copied()).collect() };
    let mut inside: Vec<usize> = if direction == Direction::Forward { vec![] } else { (0..groups.len()).collect() };
    let mut current = fit(&columns(&inside))?;
    let start_criterion = current.1;
    let mut steps = Vec::new();
    loop {
        let mut changes = Vec::new();
        if direction != Direction::Forward {
            changes.extend(inside.iter().map(|&g| Change::Drop(g)));
        }
        if direction != Direction::Backward {
            changes.extend((0..groups.len()).filter(|g| !inside.contains(g)).map(Change::Add));
        }
        let mut best: Option<(Change, Vec<usize>, (M, f64))> = None;
        for change in changes {
            let mut after = inside.clone();
            match change {
                Change::Drop(g) => after.retain(|&h| h != g),
                Change::Add(g) => after.push(g),
            }
            let candidate = fit(&columns(&after))?;
            if candidate.1 < best.as_ref().map_or(current.1, |b| b.2.1) {
                best = Some((change, after, candidate));
            }
        }
        match best {
            Some((change, after, candidate)) => {
                (inside, current) = (after, candidate);
                steps.push((change, current.1));
            }
            None => {
                let columns = columns(&inside);
                return Ok(Selection { start_criterion, steps, columns, groups: inside, model: current.0 });
            }
        }
    }
}

/// Fails if a group names a column that `x` does not have.
pub(super) fn check_groups(x: ArrayView2<f64>, groups: &[Vec<usize>]) -> Result<(), StatisticsError> {
    match groups.iter().flatten().find(|&&j| j >= x.ncols()) {
        Some(&j) => Err(StatisticsError::Length { what: "a group's column", found: j, expected: x.ncols() }),
        None => Ok(()),
    }
}
