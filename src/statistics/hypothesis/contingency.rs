//! Tables of counts: the chi-squared test, and Fisher's exact test of tables of any size.

use super::super::StatisticsError;
use super::super::distributions::chi_squared_upper_tail;
use super::Test;
use ndarray::{Array2, ArrayView2};
use std::collections::{BTreeMap, HashMap};

/// Pearson's chi-squared test of a table of counts, with its smallest expected count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChiSquared {
    /// Statistic, degrees of freedom and p.
    pub test: Test,
    /// Below 5, Fisher's test is the better one.
    pub expected_min: f64,
}

/// Independence of rows and columns of `counts`. `yates`: continuity correction, used in 2 x 2 tables only (R's
/// default).
pub fn chi_squared(counts: ArrayView2<u64>, yates: bool) -> Result<ChiSquared, StatisticsError> {
    let (rows, columns, total) = margins(counts)?;
    let corrected = yates && counts.dim() == (2, 2);
    let expected = |i: usize, j: usize| rows[i] as f64 * columns[j] as f64 / total as f64;
    let gaps = counts.indexed_iter().map(|((i, j), &n)| (n as f64 - expected(i, j)).abs());
    let correction = if corrected { gaps.fold(0.5, f64::min) } else { 0.0 };
    let mut statistic = 0.0;
    let mut expected_min = f64::INFINITY;
    for ((i, j), &n) in counts.indexed_iter() {
        let e = expected(i, j);
        let gap = (n as f64 - e).abs() - correction;
        statistic += gap * gap / e;
        expected_min = expected_min.min(e);
    }
    let df = ((rows.len() - 1) * (columns.len() - 1)) as f64;
    let test = Test { statistic, df: Some(df), p: chi_squared_upper_tail(statistic, df) };
    Ok(ChiSquared { test, expected_min })
}

type Margins = (Vec<u64>, Vec<u64>, u64);

fn margins(counts: ArrayView2<u64>) -> Result<Margins, StatisticsError> {
    let rows: Vec<u64> = counts.rows().into_iter().map(|r| r.sum()).collect();
    let columns: Vec<u64> = counts.columns().into_iter().map(|c| c.sum()).collect();
    if rows.len() < 2 || columns.len() < 2 || rows.contains(&0) || columns.contains(&0) {
        let what = "a table needs two rows and two columns, none of them empty".into();
        return Err(StatisticsError::Degenerate { what });
    }
    let total = rows.iter().sum();
    Ok((rows, columns, total))
}

/// Fisher's exact test of a 2 x 2 table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fisher {
    /// Two-sided: tables as probable as the observed one, or less.
    pub p: f64,
    /// Conditional maximum likelihood estimate; may be 0 or infinite.
    pub odds_ratio: f64,
    /// Exact confidence interval of the odds ratio.
    pub interval: (f64, f64),
}

/// Tables count as equally probable within this share of the observed one, as in R.
const PROBABILITY_SLACK: f64 = 1.0 + 1e-7;

/// Fisher's exact test of `[[a, b], [c, d]]`; `level` of the interval such as 0.95.
pub fn fisher_2x2(counts: [[u64; 2]; 2], level: f64) -> Result<Fisher, StatisticsError> {
    let table = Array2::from_shape_fn((2, 2), |(i, j)| counts[i][j]);
    let (rows, columns, _) = margins(table.view())?;
    let x = counts[0][0];
    let low = columns[0].saturating_sub(rows[1]);
    let high = rows[0].min(columns[0]);
    let ln_factorial = ln_factorials(rows[0] + rows[1]);
    let ln_choose =
        |n: u64, k: u64| ln_factorial[n as usize] - ln_factorial[k as usize] - ln_factorial[(n - k) as usize];
    let ln_density: Vec<f64> =
        (low..=high).map(|k| ln_choose(rows[0], k) + ln_choose(rows[1], columns[0] - k)).collect();
    let at = (x - low) as usize;
    // Probabilities of all tables when the odds ratio is exp(ln_odds).
    let densities = |ln_odds: f64| -> Vec<f64> {
        let ln: Vec<f64> = ln_density.iter().enumerate().map(|(k, d)| d + ln_odds * (k as f64)).collect();
        let largest = ln.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let density: Vec<f64> = ln.iter().map(|d| (d - largest).exp()).collect();
        let sum: f64 = density.iter().sum();
        density.iter().map(|d| d / sum).collect()
    };
    let central = densities(0.0);
    let p: f64 = central.iter().filter(|d| **d <= central[at] * PROBABILITY_SLACK).sum();
    let last = ln_density.len() - 1;
    let mean = |l: f64| densities(l).iter().enumerate().map(|(k, d)| k as f64 * d).sum::<f64>();
    let alpha = 0.5 * (1.0 - level);
    let odds_ratio = match at {
        0 => 0.0,
        at if at == last => f64::INFINITY,
        at => root(|l| mean(l) - at as f64).exp(),
    };
    let lower = if at == 0 { 0.0 } else { root(|l| densities(l)[at..].iter().sum::<f64>() - alpha).exp() };
    let upper =
        if at == last { f64::INFINITY } else { root(|l| alpha - densities(l)[..=at].iter().sum::<f64>()).exp() };
    Ok(Fisher { p: p.min(1.0), odds_ratio, interval: (lower, upper) })
}

/// Root of an increasing function of the log odds ratio, by bisection to the last digit.
fn root(f: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (-700.0, 700.0);
    while high - low > 1e-14 * f64::max(1.0, f64::abs(low)) {
        let middle = 0.5 * (low + high);
        if f(middle) < 0.0 { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

fn ln_factorials(n: u64) -> Vec<f64> {
    let mut sum = 0.0;
    (0..=n)
        .map(|k| {
            sum += if k > 1 { (k as f64).ln() } else { 0.0 };
            sum
        })
        .collect()
}

/// Partial tables that [`fisher`] follows at most; beyond them the chi-squared test is good.
const PARTIAL_TABLES_MAX: usize = 4_000_000;

/// Two-sided p of Fisher's exact test of a table of any size, by Mehta and Patel's network: column by column, with the
/// partial tables of equal remaining row sums and equal probability held together, and cut off where all their
/// completions are in the tail or none is.
pub fn fisher(counts: ArrayView2<u64>) -> Result<f64, StatisticsError> {
    // Fewer rows make fewer states.
    let counts = if counts.nrows() > counts.ncols() { counts.reversed_axes() } else { counts };
    let (rows, columns, total) = margins(counts)?;
    let ln_factorial = ln_factorials(total);
    if rows.len() > STATE_ROWS || total >= 1 << STATE_BITS {
        return Err(too_large());
    }
    let observed: f64 = -counts.iter().map(|&n| ln_factorial[n as usize]).sum::<f64>();
    let limit = observed + PROBABILITY_SLACK.ln();
    let network = Network { rows: rows.len(), columns: &columns, ln_factorial: &ln_factorial };
    let mut known = HashMap::new();
    let start = pack(&mut rows.clone());
    let everything = network.ends(start, 0, &mut known)?.all;
    let mut tail = 0.0;
    // For each set of remaining row sums: logarithms of the probabilities so far, with their weights.
    let mut level: BTreeMap<u128, Vec<(f64, f64)>> = BTreeMap::from([(start, vec![(0.0, 1.0)])]);
    for column in 0..columns.len() {
        let mut next: BTreeMap<u128, Vec<(f64, f64)>> = BTreeMap::new();
        let mut followed = 0;
        for (&rest, pasts) in &level {
            for (after, ln_cells) in network.steps(rest, column) {
                let ends = network.ends(after, column + 1, &mut known)?;
                let mut undecided = Vec::new();
                for &(past, weight) in pasts {
                    let past = past + ln_cells;
                    if past + ends.most <= limit {
                        tail += weight * (past + ends.all - everything).exp();
                    } else if past + ends.least <= limit {
                        undecided.push((past, weight));
                    }
                }
                followed += undecided.len();
                if followed > PARTIAL_TABLES_MAX {
                    return Err(too_large());
                }
                if !undecided.is_empty() {
                    next.entry(after).or_default().append(&mut undecided);
                }
            }
        }
        next.values_mut().for_each(merge_equal);
        level = next;
    }
    Ok(tail.min(1.0))
}

/// Holds partial tables of equal probability together. Rounding parts them by some 1e-14, true differences by far more.
fn merge_equal(pasts: &mut Vec<(f64, f64)>) {
    pasts.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    pasts.dedup_by(|next, kept| {
        let equal = next.0 - kept.0 < 1e-10;
        if equal {
            kept.1 += next.1;
        }
        equal
    });
}

fn too_large() -> StatisticsError {
    StatisticsError::NotConverged { what: "Fisher's exact test of a large table", iterations: PARTIAL_TABLES_MAX }
}

/// Remaining row sums in one number: the order of the rows does not matter.
fn pack(rest: &mut [u64]) -> u128 {
    rest.sort_unstable();
    rest.iter().fold(0, |packed, &n| packed << STATE_BITS | u128::from(n))
}

const STATE_BITS: usize = 16;
const STATE_ROWS: usize = 128 / STATE_BITS;

struct Network<'a> {
    rows: usize,
    columns: &'a [u64],
    ln_factorial: &'a [f64],
}

/// Over all completions of a partial table, ln of 1 / product of the cells' factorials: largest, smallest, and of the
/// sum.
#[derive(Clone, Copy)]
struct Ends {
    most: f64,
    least: f64,
    all: f64,
}

impl Network<'_> {
    fn unpack(&self, rest: u128) -> [u64; STATE_ROWS] {
        let cell = |row: usize| (rest >> (STATE_BITS * row)) as u64 & ((1 << STATE_BITS) - 1);
        std::array::from_fn(|row| if row < self.rows { cell(row) } else { 0 })
    }

    /// Ways to fill `column` from the remaining row sums: the row sums after it, and ln 1 / product of factorials.
    fn steps(&self, rest: u128, column: usize) -> Vec<(u128, f64)> {
        let mut found = Vec::new();
        let mut after = self.unpack(rest);
        self.fill(&mut after, 0, self.columns[column], 0.0, &mut found);
        found
    }

    fn fill(&self, after: &mut [u64; STATE_ROWS], row: usize, left: u64, ln: f64, found: &mut Vec<(u128, f64)>) {
        if row == self.rows {
            found.push((pack(&mut { *after }[..self.rows]), ln));
            return;
        }
        let room: u64 = after[row + 1..self.rows].iter().sum();
        let available = after[row];
        for cell in left.saturating_sub(room)..=left.min(available) {
            after[row] = available - cell;
            self.fill(after, row + 1, left - cell, ln - self.ln_factorial[cell as usize], found);
        }
        after[row] = available;
    }

    fn ends(
        &self,
        rest: u128,
        column: usize,
        known: &mut HashMap<(usize, u128), Ends>,
    ) -> Result<Ends, StatisticsError> {
        if column == self.columns.len() {
            return Ok(Ends { most: 0.0, least: 0.0, all: 0.0 });
        }
        if let Some(ends) = known.get(&(column, rest)) {
            return Ok(*ends);
        }
        let (mut most, mut least) = (f64::NEG_INFINITY, f64::INFINITY);
        if column + 1 == self.columns.len() {
            // The last column takes what is left.
            most = -self.unpack(rest).iter().map(|&n| self.ln_factorial[n as usize]).sum::<f64>();
            least = most;
        } else {
            for (after, ln) in self.steps(rest, column) {
                let ends = self.ends(after, column + 1, known)?;
                most = most.max(ln + ends.most);
                least = least.min(ln + ends.least);
            }
        }
        // The sum has a closed form: n! / (row sums! column sums!).
        let rest_sums = self.unpack(rest);
        let left: u64 = rest_sums.iter().sum();
        let all = self.ln_factorial[left as usize]
            - rest_sums.iter().chain(&self.columns[column..]).map(|&n| self.ln_factorial[n as usize]).sum::<f64>();
        let ends = Ends { most, least, all };
        known.insert((column, rest), ends);
        if known.len() > PARTIAL_TABLES_MAX {
            return Err(too_large());
        }
        Ok(ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn near(value: f64, reference: f64) {
        assert!((value - reference).abs() < 1e-12 * reference.abs().max(1.0), "{value:?}, reference {reference:?}");
    }

    #[test]
    fn fisher_on_paper() {
        // Fisher's tea: 3 of 4 cups. 1/70 + 16/70 in each tail.
        let tea = fisher_2x2([[3, 1], [1, 3]], 0.95).unwrap();
        near(tea.p, 34.0 / 70.0);
        near(fisher(array![[3, 1], [1, 3]].view()).unwrap(), 34.0 / 70.0);
        // 2 x 3 with margins 2, 2 and 2, 1, 1: probabilities 1/6, 1/6 and 4/6.
        near(fisher(array![[2, 0, 0], [0, 1, 1]].view()).unwrap(), 2.0 / 6.0);
        near(fisher(array![[1, 1, 0], [1, 0, 1]].view()).unwrap(), 1.0);
        assert!(fisher(array![[1, 0], [1, 0]].view()).is_err());
    }
}
