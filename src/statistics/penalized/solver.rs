//! One penalized fit after the other along decreasing lambdas: Newton's method on the active set, exact at every lambda.
//!
//! The active columns with their signs are a smooth problem; its equations are solved with a Cholesky factor of their
//! information, kept from lambda to lambda while it still contracts well and renewed where it does not. A coefficient that
//! would cross zero stops there and leaves; columns whose gradient exceeds the penalty enter. The end is the optimality
//! (Karush-Kuhn-Tucker) conditions of *all* columns, so no screening rule can be wrong for long.

use super::design::Design;
use super::kernels::{BLOCK, Column, add_columns, dots, multiply, products};
use super::loss::Loss;
use rayon::prelude::*;

/// Steps for one lambda before it is given up (20 are many).
const STEPS_MAX: usize = 1000;
/// Below this part of the largest lambda, violations are relative to this part: rounding allows no more.
const SMALLEST: f64 = 1e-4;
/// The factor is renewed when a step leaves more of the force than this ...
const CONTRACTION: f64 = 0.5;
/// ... and at that pace the rest takes more steps than the active columns divided by this: what a new factor costs.
const COLUMNS_PER_STEP: f64 = 24.0;
/// No linear predictor moves further in one step: within it, Newton's step of either likelihood always descends.
const MOVE_MAX: f64 = 1.0;
/// A column whose part outside the active ones is smaller, in squares, depends on them.
const DEPENDENT: f64 = 1e-10;

/// Lower triangular factor L of a growing and shrinking matrix L L', by rows.
#[derive(Default)]
struct Factor {
    rows: Vec<Vec<f64>>,
}

impl Factor {
    /// Appends a row of the matrix (its last entry on the diagonal); if it depends on the rows before it, gives the
    /// combination instead.
    fn push(&mut self, mut row: Vec<f64>) -> Result<(), Vec<f64>> {
        let k = self.rows.len();
        for j in 0..k {
            let known = dot(&row[..j], &self.rows[j][..j]);
            row[j] = (row[j] - known) / self.rows[j][j];
        }
        let pivot = row[k] - dot(&row[..k], &row[..k]);
        if pivot > DEPENDENT * row[k] {
            row[k] = pivot.sqrt();
            self.rows.push(row);
            Ok(())
        } else {
            row.truncate(k);
            self.back(&mut row);
            Err(row)
        }
    }

    fn remove(&mut self, at: usize) {
        self.rows.remove(at);
        for c in at..self.rows.len() {
            let (a, b) = (self.rows[c][c], self.rows[c][c + 1]);
            let length = a.hypot(b);
            let (cos, sin) = (a / length, b / length);
            self.rows[c].truncate(c + 1);
            self.rows[c][c] = length;
            for row in &mut self.rows[c + 1..] {
                let (x, y) = (row[c], row[c + 1]);
                row[c] = cos * x + sin * y;
                row[c + 1] = cos * y - sin * x;
            }
        }
    }

    fn solve(&self, v: &mut [f64]) {
        for i in 0..v.len() {
            v[i] = (v[i] - dot(&self.rows[i][..i], &v[..i])) / self.rows[i][i];
        }
        self.back(v);
    }

    /// L' x = v.
    fn back(&self, v: &mut [f64]) {
        for i in (0..v.len()).rev() {
            let x = v[i] / self.rows[i][i];
            v[i] = x;
            for (v, l) in v[..i].iter_mut().zip(&self.rows[i][..i]) {
                *v -= l * x;
            }
        }
    }
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 4];
    let (left, right) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest: f64 = left.remainder().iter().zip(right.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in left.zip(right) {
        for lane in 0..4 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    (sums[0] + sums[2]) + (sums[1] + sums[3]) + rest
}

/// The penalty lambda (alpha l1 |b| + (1 - alpha) l2 b^2 / 2) of each standardized column.
pub(super) struct Penalty {
    pub(super) alpha: f64,
    pub(super) l1: Vec<f64>,
    pub(super) l2: Vec<f64>,
    /// Standardized coefficient times this is the penalized one.
    pub(super) unit: Vec<f64>,
    /// Columns that may enter.
    pub(super) usable: Vec<bool>,
}

/// The iterations of one lambda met their limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LimitMet;

/// What a step taught about the information: `y` is it times `s`.
struct Pair {
    s: Vec<f64>,
    y: Vec<f64>,
    sy: f64,
}

/// A path in progress: the solution at the last lambda.
pub(super) struct Solver<'a> {
    design: &'a Design<'a>,
    pub(super) loss: Loss<'a>,
    penalty: Penalty,
    /// In the order of the factor's rows; the intercept is column `p`.
    active: Vec<usize>,
    inside: Vec<bool>,
    /// +1 or -1 for an active column with a LASSO penalty, 0 for those that may have any sign.
    sign: Vec<f64>,
    /// Standardized coefficients, the intercept last.
    pub(super) beta: Vec<f64>,
    pub(super) eta: Vec<f64>,
    residual: Vec<f64>,
    /// Derivative of the log-likelihood by each column, when it was last looked at.
    gradient: Vec<f64>,
    /// How much the gradient of each column may have changed between that look and the residuals `seen`.
    slack: Vec<f64>,
    seen: Vec<f64>,
    curvature: Vec<f64>,
    factor: Factor,
    /// Cox: the risk set means of each active column, at the factor's linear predictors.
    means: Vec<Vec<f64>>,
    /// Steps (and the change of the force over each) since the active set or the factor changed, oldest first.
    pairs: Vec<Pair>,
    /// The factor belongs to the present linear predictors.
    fresh: bool,
    /// Optimality that is asked for, relative to lambda.
    tolerance: f64,
    lambda: f64,
    /// The first lambda at which nothing penalized is active.
    lambda_max: f64,
    /// lambda (1 - alpha) of the present iterations.
    ridge: f64,
}

impl<'a> Solver<'a> {
    /// The solution without any penalized column.
    pub(super) fn new(
        design: &'a Design<'a>,
        loss: Loss<'a>,
        penalty: Penalty,
        tolerance: f64,
    ) -> Result<Solver<'a>, LimitMet> {
        let (n, p) = (design.n, design.p);
        let start = loss.start();
        let mut solver = Solver {
            design,
            active: Vec::new(),
            inside: vec![false; p + 1],
            sign: vec![0.0; p + 1],
            beta: vec![0.0; p + 1],
            eta: vec![start; n],
            residual: vec![0.0; n],
            gradient: vec![0.0; p],
            slack: vec![0.0; p],
            seen: vec![0.0; n],
            curvature: vec![0.0; n],
            factor: Factor::default(),
            means: Vec::new(),
            pairs: Vec::new(),
            fresh: false,
            tolerance,
            lambda: f64::INFINITY,
            lambda_max: 0.0,
            ridge: 0.0,
            loss,
            penalty,
        };
        solver.beta[p] = start;
        if solver.loss.has_intercept() {
            solver.active.push(p);
        }
        let free = (0..p).filter(|&j| solver.penalty.l1[j] == 0.0 && solver.penalty.usable[j]);
        solver.active.extend(free);
        solver.loss.residuals(&solver.eta, &mut solver.residual);
        solver.refresh();
        // The largest lambda is not known yet; it is of the order of the residuals, in the units of the coefficients.
        let scale = (0..p).filter(|&j| solver.inside[j]).map(|j| 1.0 / solver.penalty.unit[j]).fold(1.0, f64::max);
        let unit = scale * solver.residual.iter().map(|r| r.abs()).sum::<f64>();
        solver.iterate(0.0, unit, &[], false)?;
        solver.look();
        solver.lambda_max = solver.largest_lambda();
        solver.lambda = solver.lambda_max;
        Ok(solver)
    }

    pub(super) fn lambda_max(&self) -> f64 {
        self.lambda_max
    }

    /// The smallest lambda at which no penalized column is active (alpha below 1e-3 counts as 1e-3, as in glmnet).
    fn largest_lambda(&self) -> f64 {
        let largest = (0..self.design.p)
            .filter(|&j| self.penalty.usable[j] && self.penalty.l1[j] > 0.0)
            .map(|j| self.gradient[j].abs() / self.penalty.l1[j])
            .fold(0.0, f64::max);
        largest / self.penalty.alpha.max(1e-3)
    }

    /// Moves to the solution at `lambda`; gives the worst violation of optimality relative to it.
    pub(super) fn solve(&mut self, lambda: f64) -> Result<f64, LimitMet> {
        // Large steps go over others between, so that few columns enter at once.
        while lambda < 0.5 * self.lambda && self.lambda > SMALLEST * self.lambda_max {
            self.advance(0.5 * self.lambda)?;
        }
        self.advance(lambda)
    }

    fn advance(&mut self, lambda: f64) -> Result<f64, LimitMet> {
        let limit = self.penalty.alpha * (2.0 * lambda - self.lambda);
        let strong: Vec<usize> = (0..self.design.p)
            .filter(|&j| self.may_enter(j) && self.gradient[j].abs() >= limit * self.penalty.l1[j])
            .collect();
        let violation = self.iterate(lambda, lambda.max(SMALLEST * self.lambda_max), &strong, true)?;
        self.lambda = lambda;
        self.recompute();
        Ok(violation)
    }

    /// Linear predictors from the coefficients. Columns that came and went leave no rounding behind, so rows that differ
    /// only in inactive columns are tied to the last bit, as rankings need.
    fn recompute(&mut self) {
        let mut nonzero: Vec<usize> = self.active.iter().copied().filter(|&j| self.beta[j] != 0.0).collect();
        nonzero.sort_unstable();
        let factors: Vec<f64> = nonzero.iter().map(|&j| self.beta[j]).collect();
        self.eta.fill(0.0);
        add_columns(&self.design.columns(&nonzero), &factors, &mut self.eta);
        self.loss.residuals(&self.eta, &mut self.residual);
    }

    fn may_enter(&self, j: usize) -> bool {
        self.penalty.usable[j] && self.penalty.l1[j] > 0.0 && !self.inside[j]
    }

    /// Steps until the conditions hold to the tolerance in `unit`; `strong` columns are looked at early, all (if `enter`) at
    /// the end.
    fn iterate(&mut self, lambda: f64, unit: f64, strong: &[usize], enter: bool) -> Result<f64, LimitMet> {
        self.ridge = lambda * (1.0 - self.penalty.alpha);
        let mut early = !strong.is_empty();
        let mut before = f64::INFINITY;
        let mut last: Option<(Vec<f64>, Vec<f64>)> = None;
        self.pairs.clear();
        for _ in 0..STEPS_MAX {
            let mut force = self.force(lambda);
            let error = self.error(&force, unit);
            if let Some((s, old)) = last.take() {
                self.learn(s, old, &force);
            }
            if early && error < 1e-2 {
                early = false;
                self.look_at(strong);
                if self.admit(strong, lambda, unit) > 0 {
                    before = f64::INFINITY;
                    continue;
                }
            }
            if error <= self.tolerance {
                if !enter {
                    return Ok(error);
                }
                let all: Vec<usize> = (0..self.design.p).filter(|&j| self.may_enter(j)).collect();
                self.look_where_needed(&all, lambda);
                if self.admit(&all, lambda, unit) == 0 {
                    return Ok(error.max(self.worst_outside(&all, lambda, unit)));
                }
                before = f64::INFINITY;
                continue;
            }
            if error > CONTRACTION * before && !self.fresh && self.is_far(error, before) {
                self.refresh();
                force = self.force(lambda);
            }
            before = f64::INFINITY;
            match self.step(&mut force) {
                Some(step) => {
                    before = error;
                    last = Some((step, force));
                }
                None => self.pairs.clear(),
            }
        }
        Err(LimitMet)
    }

    /// Whether the end is further away than a new factor would take, if each step did as much as the last.
    fn is_far(&self, error: f64, before: f64) -> bool {
        let steps = (error / self.tolerance).ln() / (before / error).ln();
        error >= before || steps * COLUMNS_PER_STEP > self.active.len() as f64
    }

    fn learn(&mut self, s: Vec<f64>, mut y: Vec<f64>, force: &[f64]) {
        y.iter_mut().zip(force).for_each(|(y, f)| *y -= f);
        let sy = dot(&s, &y);
        if sy > 0.0 && s.len() == self.active.len() {
            self.pairs.push(Pair { s, y, sy });
        }
    }

    /// The step for a force: the factor's, corrected by what the last steps taught (BFGS, Nocedal's two loops).
    fn direction(&self, force: &[f64]) -> Vec<f64> {
        let mut direction = force.to_vec();
        let mut parts = vec![0.0; self.pairs.len()];
        for (pair, part) in self.pairs.iter().zip(&mut parts).rev() {
            *part = dot(&pair.s, &direction) / pair.sy;
            direction.iter_mut().zip(&pair.y).for_each(|(d, y)| *d -= *part * y);
        }
        self.factor.solve(&mut direction);
        for (pair, part) in self.pairs.iter().zip(parts) {
            let rest = part - dot(&pair.y, &direction) / pair.sy;
            direction.iter_mut().zip(&pair.s).for_each(|(d, s)| *d += rest * s);
        }
        direction
    }

    /// The derivative of the penalized likelihood by each active coefficient; 0 at the solution.
    fn force(&self, lambda: f64) -> Vec<f64> {
        let mut force = vec![0.0; self.active.len()];
        dots(&self.design.columns(&self.active), &self.residual, &mut force);
        let (l1, l2) = (lambda * self.penalty.alpha, self.ridge);
        for (force, &j) in force.iter_mut().zip(&self.active) {
            if j < self.design.p {
                *force -= l1 * self.penalty.l1[j] * self.sign[j] + l2 * self.penalty.l2[j] * self.beta[j];
            }
        }
        force
    }

    /// The largest force, in the units of penalized coefficients, relative to `unit`.
    fn error(&self, force: &[f64], unit: f64) -> f64 {
        let scaled = |(f, &j): (&f64, &usize)| {
            if j < self.design.p { f / (self.penalty.unit[j] * unit) } else { f / unit.min(1.0) }
        };
        force.iter().zip(&self.active).map(scaled).fold(0.0, |a: f64, f| a.max(f.abs()))
    }

    /// Looks at all columns.
    fn look(&mut self) {
        let columns: Vec<Column> = (0..self.design.p).map(|j| self.design.column(j)).collect();
        dots(&columns, &self.residual, &mut self.gradient);
        self.slack.fill(0.0);
        self.seen.copy_from_slice(&self.residual);
    }

    fn look_at(&mut self, which: &[usize]) {
        let mut found = vec![0.0; which.len()];
        dots(&self.design.columns(which), &self.residual, &mut found);
        let moved = distance(&self.residual, &self.seen);
        for (&j, g) in which.iter().zip(found) {
            self.gradient[j] = g;
            self.slack[j] = moved * self.design.norm[j];
        }
    }

    /// Looks at those of some columns whose gradient can exceed the penalty: it changes by no more than the residuals do,
    /// times the length of the column. Most columns are far below, for several lambdas.
    fn look_where_needed(&mut self, which: &[usize], lambda: f64) {
        let moved = distance(&self.residual, &self.seen);
        self.seen.copy_from_slice(&self.residual);
        self.slack.iter_mut().zip(&self.design.norm).for_each(|(slack, norm)| *slack += moved * norm);
        let can =
            |j: &usize| self.gradient[*j].abs() + self.slack[*j] > lambda * self.penalty.alpha * self.penalty.l1[*j];
        let needed: Vec<usize> = which.iter().copied().filter(can).collect();
        self.look_at(&needed);
    }

    /// How far the gradient of an inactive column exceeds its penalty, relative to `unit`.
    fn excess(&self, j: usize, lambda: f64, unit: f64) -> f64 {
        (self.gradient[j].abs() - lambda * self.penalty.alpha * self.penalty.l1[j]) / (self.penalty.unit[j] * unit)
    }

    fn worst_outside(&self, which: &[usize], lambda: f64, unit: f64) -> f64 {
        which.iter().filter(|&&j| self.may_enter(j)).map(|&j| self.excess(j, lambda, unit)).fold(0.0, f64::max)
    }

    /// Makes columns active whose gradient exceeds the penalty; how many changed the active set. In the order of the columns:
    /// of two that depend on each other the first is chosen, as glmnet does, whatever their rounding.
    fn admit(&mut self, which: &[usize], lambda: f64, unit: f64) -> usize {
        let enters = |j: &usize| self.may_enter(*j) && self.excess(*j, lambda, unit) > self.tolerance;
        let entering: Vec<usize> = which.iter().copied().filter(enters).collect();
        for &j in &entering {
            self.sign[j] = if self.penalty.alpha > 0.0 { self.gradient[j].signum() } else { 0.0 };
        }
        self.include_all(&entering)
    }

    /// [`Solver::include`] for each column; how many changed the active set.
    fn include_all(&mut self, which: &[usize]) -> usize {
        let mut rows = self.information(which).into_iter();
        let (mut changed, mut in_step) = (0, true);
        for &j in which {
            let row = rows.next().filter(|_| in_step);
            let before = self.active.len();
            changed += usize::from(self.include(j, row));
            // After an exchange the rows belong to other active columns.
            in_step &= self.active.len() == before + 1;
        }
        changed
    }

    /// The diagonal part of the information of each of `which` with the active columns and those of `which` up to itself.
    fn information(&self, which: &[usize]) -> Vec<Vec<f64>> {
        /// Columns of a thread's part.
        const PART: usize = 32;
        let (n, before) = (self.design.n, self.active.len());
        let mut columns = self.design.columns(&self.active);
        columns.extend(self.design.columns(which));
        let part = |part: usize| -> Vec<Vec<f64>> {
            let own = before + part * PART..columns.len().min(before + (part + 1) * PART);
            let padded = own.len().next_multiple_of(2);
            let mut weighted = vec![0.0; padded * BLOCK];
            let mut sums = vec![0.0; padded * own.end];
            for from in (0..n).step_by(BLOCK) {
                let to = n.min(from + BLOCK);
                let block: Vec<Column> = columns[..own.end].iter().map(|c| c.rows(from, to)).collect();
                let weighted = &mut weighted[..padded * (to - from)];
                let own_block = &block[own.clone()];
                for (column, out) in own_block.iter().zip(weighted.chunks_mut(to - from)) {
                    multiply(*column, &self.curvature[from..to], out);
                }
                weighted[own.len() * (to - from)..].fill(0.0);
                products(&block, weighted, to - from, &mut sums);
            }
            own.clone().zip(sums.chunks(own.end)).map(|(k, sums)| sums[..=k].to_vec()).collect()
        };
        let parts = which.len().div_ceil(PART);
        if parts <= 1 {
            return (0..parts).flat_map(part).collect();
        }
        (0..parts).into_par_iter().map(part).collect::<Vec<_>>().concat()
    }

    /// Appends a column to the factor. One that depends on the active ones is exchanged: along the combination the likelihood
    /// stays and the penalty falls until a coefficient is zero, and that one leaves.
    /// `row`: its information with the active columns, if it is known.
    fn include(&mut self, j: usize, mut row: Option<Vec<f64>>) -> bool {
        loop {
            let mut row = row.take().unwrap_or_else(|| self.information(&[j]).concat());
            let (others, own) = row.split_at_mut(self.active.len());
            let means = self.loss_means(j);
            if !means.is_empty() {
                for (entry, other) in others.iter_mut().zip(&self.means) {
                    *entry -= dot(&means, other);
                }
                own[0] -= dot(&means, &means);
            }
            if j < self.design.p {
                own[0] += self.ridge * self.penalty.l2[j];
            }
            let Err(combination) = self.factor.push(row) else {
                self.active.push(j);
                self.pairs.clear();
                self.inside[j] = true;
                self.means.push(means);
                return true;
            };
            let rate = |j: usize, s: f64| if j < self.design.p { self.penalty.l1[j] * s } else { 0.0 };
            let own = rate(j, self.sign[j]);
            let others: f64 = combination.iter().zip(&self.active).map(|(c, &k)| c * rate(k, self.sign[k])).sum();
            let scale =
                own.abs() + combination.iter().zip(&self.active).map(|(c, &k)| (c * rate(k, 1.0)).abs()).sum::<f64>();
            let leaving = self.beta[j] != 0.0;
            let direction = if own - others > 0.0 { -1.0 } else { 1.0 };
            let gains = (own - others).abs() > 1e-9 * scale && direction == self.sign[j];
            // The first coefficient to reach zero; `None` is column `j` itself.
            let mut first: Option<(f64, Option<usize>)> = None;
            if leaving && direction != self.sign[j] {
                first = Some((self.beta[j].abs(), None));
            }
            for (at, (c, &k)) in combination.iter().zip(&self.active).enumerate() {
                let towards_zero = self.sign[k] * direction * c > 0.0;
                let reach = (self.beta[k] / c).abs();
                if towards_zero && first.is_none_or(|(t, _)| reach < t) {
                    first = Some((reach, Some(at)));
                }
            }
            let (Some((length, who)), true) = (first, gains || leaving) else {
                (self.sign[j], self.inside[j]) = (0.0, false);
                return false;
            };
            let mut moved = self.active.clone();
            let mut by: Vec<f64> = combination.iter().map(|c| -c * direction * length).collect();
            moved.push(j);
            by.push(direction * length);
            self.shift(&moved, &by);
            match who {
                None => {
                    (self.beta[j], self.sign[j], self.inside[j]) = (0.0, 0.0, false);
                    return true;
                }
                Some(at) => self.drop_at(at),
            }
        }
    }

    fn loss_means(&self, j: usize) -> Vec<f64> {
        if self.loss.has_intercept() { Vec::new() } else { self.loss.risk_means(self.design.column(j).values) }
    }

    fn drop_at(&mut self, at: usize) {
        let j = self.active.remove(at);
        self.pairs.clear();
        self.means.remove(at);
        self.factor.remove(at);
        (self.beta[j], self.sign[j], self.inside[j]) = (0.0, 0.0, false);
    }

    /// Changes coefficients and with them linear predictors and residuals.
    fn shift(&mut self, which: &[usize], by: &[f64]) {
        add_columns(&self.design.columns(which), by, &mut self.eta);
        which.iter().zip(by).for_each(|(&j, by)| self.beta[j] += by);
        self.loss.residuals(&self.eta, &mut self.residual);
        self.fresh = false;
    }

    /// The factor anew, at the present linear predictors.
    fn refresh(&mut self) {
        self.loss.curvatures(&mut self.curvature);
        self.factor = Factor::default();
        self.pairs.clear();
        self.means.clear();
        self.fresh = true;
        let active = std::mem::take(&mut self.active);
        self.include_all(&active);
    }

    /// One step along the solution of the equations, given back unless it was cut short or the active set changed.
    fn step(&mut self, force: &mut Vec<f64>) -> Option<Vec<f64>> {
        let mut whole = true;
        let direction = loop {
            let direction = self.direction(force);
            // A column that just entered and would leave on the wrong side does not enter.
            let wrong = |(at, &j): (usize, &usize)| self.beta[j] == 0.0 && self.sign[j] * direction[at] < 0.0;
            match self.active.iter().enumerate().position(wrong) {
                Some(at) => {
                    self.drop_at(at);
                    force.remove(at);
                    whole = false;
                }
                None => break direction,
            }
        };
        let mut change = vec![0.0; self.design.n];
        add_columns(&self.design.columns(&self.active), &direction, &mut change);
        let weights = &self.loss.weights;
        let largest = change.iter().zip(weights).filter(|(_, w)| **w > 0.0).fold(0.0, |a: f64, (c, _)| a.max(c.abs()));
        let mut length = 1.0;
        if largest > MOVE_MAX {
            if !self.fresh {
                self.refresh();
                return None;
            }
            (length, whole) = (MOVE_MAX / largest, false);
        }
        let mut crossing = None;
        for (at, (&j, d)) in self.active.iter().zip(&direction).enumerate() {
            let reach = -self.beta[j] / d;
            if self.sign[j] * d < 0.0 && reach < length {
                (length, crossing, whole) = (reach, Some(at), false);
            }
        }
        for (eta, change) in self.eta.iter_mut().zip(&change) {
            *eta += length * change;
        }
        for (&j, d) in self.active.iter().zip(&direction) {
            self.beta[j] += length * d;
        }
        if let Some(at) = crossing {
            self.drop_at(at);
        }
        self.loss.residuals(&self.eta, &mut self.residual);
        self.fresh = false;
        whole.then_some(direction)
    }
}
