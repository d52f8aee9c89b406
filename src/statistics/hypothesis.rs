//! Tests between groups for table one, and corrections for many tests. Conventions of R's stats package.

use super::StatisticsError;
use super::distributions::{chi_squared_upper_tail, normal_quantile, normal_two_sided, normal_upper_tail, t_two_sided};
use super::linear::Cholesky;
use super::sample::{check, mean, mid_ranks, quantile, sorted, variance};
use ndarray::{Array1, Array2, ArrayView2};
use std::collections::{BTreeMap, HashMap};

/// A test's statistic, its degrees of freedom where it has some, and its two-sided p-value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// t, W, chi-squared, … as the function says.
    pub statistic: f64,
    /// Degrees of freedom of its reference distribution.
    pub df: Option<f64>,
    /// In [0, 1].
    pub p: f64,
}

/// What table one prints of a continuous variable.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs, reason = "the field's terms")]
pub struct Summary {
    pub n: usize,
    pub mean: f64,
    /// With n - 1; none for a single value.
    pub standard_deviation: Option<f64>,
    pub median: f64,
    /// 25th percentile (type 7).
    pub lower_quartile: f64,
    /// 75th percentile (type 7).
    pub upper_quartile: f64,
}

/// Describes a sample.
pub fn summarize(values: &[f64]) -> Result<Summary, StatisticsError> {
    need("the sample", values, 1)?;
    let ordered = sorted(values);
    Ok(Summary {
        n: values.len(),
        mean: mean(values),
        standard_deviation: (values.len() > 1).then(|| variance(values).sqrt()),
        median: quantile(&ordered, 0.5),
        lower_quartile: quantile(&ordered, 0.25),
        upper_quartile: quantile(&ordered, 0.75),
    })
}

fn need(what: &'static str, values: &[f64], at_least: usize) -> Result<(), StatisticsError> {
    if values.len() < at_least {
        return Err(StatisticsError::Length { what, found: values.len(), expected: at_least });
    }
    check(what, values, values.len())
}

/// Which t-test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variances {
    /// Student: pooled.
    Equal,
    /// Welch: each its own.
    Unequal,
}

/// t-test of two independent samples; t is positive where the first mean is larger.
pub fn t_test(first: &[f64], second: &[f64], variances: Variances) -> Result<Test, StatisticsError> {
    need("the first sample", first, 2)?;
    need("the second sample", second, 2)?;
    let (n, m) = (first.len() as f64, second.len() as f64);
    let (a, b) = (variance(first), variance(second));
    let (square, df) = match variances {
        Variances::Equal => {
            let df = n + m - 2.0;
            (((n - 1.0) * a + (m - 1.0) * b) / df * (1.0 / n + 1.0 / m), df)
        }
        Variances::Unequal => {
            let (a, b) = (a / n, b / m);
            (a + b, (a + b) * (a + b) / (a * a / (n - 1.0) + b * b / (m - 1.0)))
        }
    };
    let error = square.sqrt();
    if error < 10.0 * f64::EPSILON * mean(first).abs().max(mean(second).abs()) || error == 0.0 {
        return Err(StatisticsError::Degenerate { what: "both samples are constant".into() });
    }
    let t = (mean(first) - mean(second)) / error;
    Ok(Test { statistic: t, df: Some(df), p: t_two_sided(t, df) })
}

/// How a rank test gets its p-value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankMethod {
    /// As `wilcox.test` chooses: exact with fewer than 50 values in both samples and no ties, else normal.
    Auto,
    /// Normal approximation with continuity correction (`exact = FALSE`).
    Normal,
    /// Normal approximation without it (`exact = FALSE, correct = FALSE`).
    NormalUncorrected,
}

impl RankMethod {
    /// What the distance from the mean loses before it is compared with the normal distribution.
    pub(super) fn correction(self) -> f64 {
        if self == RankMethod::NormalUncorrected { 0.0 } else { 0.5 }
    }
}

/// Wilcoxon's rank sum test (Mann-Whitney): W counts the pairs in which the first sample is larger, ties half.
pub fn wilcoxon(first: &[f64], second: &[f64], method: RankMethod) -> Result<Test, StatisticsError> {
    need("the first sample", first, 1)?;
    need("the second sample", second, 1)?;
    let (n, m) = (first.len(), second.len());
    let (ranks, ties) = mid_ranks(&[first, second].concat());
    let w = ranks[..n].iter().sum::<f64>() - 0.5 * (n * (n + 1)) as f64;
    let exact = method == RankMethod::Auto && n < 50 && m < 50 && ties == 0.0;
    let p =
        if exact { exact_rank_p(w, &rank_sum_tails(n, m)) } else { normal_rank_p(w, n, m, ties, method.correction()) };
    Ok(Test { statistic: w, df: None, p })
}

/// Two-sided p of `w` by the normal distribution, corrected for ties; 1 where all values are tied.
pub(super) fn normal_rank_p(w: f64, n: usize, m: usize, ties: f64, correction: f64) -> f64 {
    let (n, m) = (n as f64, m as f64);
    let all = n + m;
    let distance = (w - 0.5 * n * m).abs() - correction;
    let square = n * m / 12.0 * ((all + 1.0) - ties / (all * (all - 1.0)));
    if distance <= 0.0 || square <= 0.0 { 1.0 } else { normal_two_sided(distance / square.sqrt()) }
}

/// P(W <= w) for w = 0, 1, …, n m without ties.
pub(super) fn rank_sum_tails(n: usize, m: usize) -> Vec<f64> {
    // Orders of i and j values with u pairs in order: the largest value is one of the i (above all j) or one of the j.
    let size = n * m + 1;
    let mut before: Vec<Vec<f64>> = (0..=m).map(|_| unit(size)).collect();
    for i in 1..=n {
        let mut now: Vec<Vec<f64>> = vec![unit(size)];
        for j in 1..=m {
            let mut counts = now[j - 1].clone();
            for u in j..=i * j {
                counts[u] += before[j][u - j];
            }
            now.push(counts);
        }
        before = now;
    }
    let total: f64 = before[m].iter().sum();
    let mut sum = 0.0;
    before[m]
        .iter()
        .map(|count| {
            sum += count;
            sum / total
        })
        .collect()
}

fn unit(size: usize) -> Vec<f64> {
    let mut unit = vec![0.0; size];
    unit[0] = 1.0;
    unit
}

pub(super) fn exact_rank_p(w: f64, tails: &[f64]) -> f64 {
    // The distribution is symmetric, so the upper tail is read as a lower one and keeps its digits.
    let w = w.round() as usize;
    (2.0 * tails[w.min(tails.len() - 1 - w)]).min(1.0)
}

/// Kruskal and Wallis's test of two or more samples, corrected for ties.
pub fn kruskal_wallis(samples: &[&[f64]]) -> Result<Test, StatisticsError> {
    if samples.len() < 2 {
        return Err(StatisticsError::Degenerate { what: "fewer than two samples".into() });
    }
    for sample in samples {
        need("a sample", sample, 1)?;
    }
    let (ranks, ties) = mid_ranks(&samples.concat());
    let n = ranks.len() as f64;
    let mut first = 0;
    let mut sum = 0.0;
    for sample in samples {
        let own: f64 = ranks[first..first + sample.len()].iter().sum();
        sum += own * own / sample.len() as f64;
        first += sample.len();
    }
    let untied = 1.0 - ties / (n * n * n - n);
    if untied <= 0.0 || n < 2.0 {
        return Err(StatisticsError::Degenerate { what: "all values are equal".into() });
    }
    let h = (12.0 * sum / (n * (n + 1.0)) - 3.0 * (n + 1.0)) / untied;
    let df = samples.len() as f64 - 1.0;
    Ok(Test { statistic: h, df: Some(df), p: chi_squared_upper_tail(h, df) })
}

/// Shapiro and Wilk's test of normality for 3 to 5000 values (Royston 1995, AS R94).
pub fn shapiro_wilk(values: &[f64]) -> Result<Test, StatisticsError> {
    need("the sample", values, 3)?;
    let x = sorted(values);
    let n = x.len();
    let range = x[n - 1] - x[0];
    if n > 5000 {
        return Err(StatisticsError::Length { what: "the sample", found: n, expected: 5000 });
    }
    if range <= 0.0 {
        return Err(StatisticsError::Degenerate { what: "all values are equal".into() });
    }
    let weights = shapiro_weights(n);
    let center = x.iter().map(|v| v / range).sum::<f64>() / n as f64;
    let (mut aa, mut xx, mut ax) = (0.0, 0.0, 0.0);
    for (i, v) in x.iter().enumerate() {
        let a = match i.cmp(&(n - 1 - i)) {
            std::cmp::Ordering::Less => -weights[i],
            std::cmp::Ordering::Equal => 0.0,
            std::cmp::Ordering::Greater => weights[n - 1 - i],
        };
        let d = v / range - center;
        aa += a * a;
        xx += d * d;
        ax += a * d;
    }
    // 1 - W without cancellation.
    let root = (aa * xx).sqrt();
    let rest = (root - ax) * (root + ax) / (aa * xx);
    Ok(Test { statistic: 1.0 - rest, df: None, p: shapiro_p(rest, n) })
}

/// Weights of the lower half of the order statistics, positive.
fn shapiro_weights(n: usize) -> Vec<f64> {
    if n == 3 {
        return vec![0.5_f64.sqrt()];
    }
    let m: Vec<f64> = (1..=n / 2).map(|i| normal_quantile((i as f64 - 0.375) / (n as f64 + 0.25))).collect();
    let square = 2.0 * m.iter().map(|v| v * v).sum::<f64>();
    let u = 1.0 / (n as f64).sqrt();
    let a1 = polynomial(&[0.0, 0.221157, -0.147981, -2.07119, 4.434685, -2.706056], u) - m[0] / square.sqrt();
    let mut weights = vec![a1];
    let rest = if n > 5 {
        let a2 = polynomial(&[0.0, 0.042981, -0.293762, -1.752461, 5.682633, -3.582633], u) - m[1] / square.sqrt();
        weights.push(a2);
        (square - 2.0 * (m[0] * m[0] + m[1] * m[1])) / (1.0 - 2.0 * (a1 * a1 + a2 * a2))
    } else {
        (square - 2.0 * m[0] * m[0]) / (1.0 - 2.0 * a1 * a1)
    };
    let from = weights.len();
    weights.extend(m[from..].iter().map(|v| -v / rest.sqrt()));
    weights
}

fn shapiro_p(rest: f64, n: usize) -> f64 {
    let n_f = n as f64;
    if n == 3 {
        return (6.0 / std::f64::consts::PI * ((1.0 - rest).sqrt().asin() - 0.75_f64.sqrt().asin())).max(0.0);
    }
    let (y, center, deviation) = if n <= 11 {
        let gamma = polynomial(&[-2.273, 0.459], n_f);
        if rest.ln() >= gamma {
            return 1e-99;
        }
        let center = polynomial(&[0.544, -0.39978, 0.025054, -6.714e-4], n_f);
        let deviation = polynomial(&[1.3822, -0.77857, 0.062767, -0.0020322], n_f).exp();
        (-(gamma - rest.ln()).ln(), center, deviation)
    } else {
        let l = n_f.ln();
        let center = polynomial(&[-1.5861, -0.31082, -0.083751, 0.0038915], l);
        (rest.ln(), center, polynomial(&[-0.4803, -0.082676, 0.0030302], l).exp())
    };
    normal_upper_tail((y - center) / deviation)
}

fn polynomial(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

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

/// How p-values are corrected for their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Correction {
    /// False discovery rate (Benjamini and Hochberg).
    BenjaminiHochberg,
    /// Family-wise, stepwise.
    Holm,
    /// Family-wise, times their number.
    Bonferroni,
}

/// Corrected p-values in the given order (R's `p.adjust`).
pub fn adjust(p: &[f64], correction: Correction) -> Result<Vec<f64>, StatisticsError> {
    check("the p-values", p, p.len())?;
    let n = p.len();
    let order = super::sample::ascending(p);
    let mut adjusted = vec![0.0; n];
    let mut bound: f64 = if correction == Correction::BenjaminiHochberg { 1.0 } else { 0.0 };
    match correction {
        Correction::Bonferroni => adjusted.iter_mut().zip(p).for_each(|(a, p)| *a = (p * n as f64).min(1.0)),
        Correction::Holm => {
            for (k, &i) in order.iter().enumerate() {
                bound = bound.max(p[i] * (n - k) as f64).min(1.0);
                adjusted[i] = bound;
            }
        }
        Correction::BenjaminiHochberg => {
            for (k, &i) in order.iter().enumerate().rev() {
                bound = bound.min(p[i] * n as f64 / (k + 1) as f64);
                adjusted[i] = bound;
            }
        }
    }
    Ok(adjusted)
}

/// Standardized difference of means: over the root of the mean variance (Austin 2009). Positive where the first is
/// larger.
pub fn standardized_mean_difference(first: &[f64], second: &[f64]) -> Result<f64, StatisticsError> {
    need("the first sample", first, 2)?;
    need("the second sample", second, 2)?;
    let deviation = (0.5 * (variance(first) + variance(second))).sqrt();
    if deviation == 0.0 {
        return Err(StatisticsError::Degenerate { what: "both samples are constant".into() });
    }
    Ok((mean(first) - mean(second)) / deviation)
}

/// Standardized difference of the shares of categories, not negative (Yang and Dalton 2012); for two categories
/// |p1 - p2| / sqrt((p1 q1 + p2 q2) / 2). `counts`: shape (2 groups, categories).
pub fn standardized_share_difference(counts: ArrayView2<u64>) -> Result<f64, StatisticsError> {
    if counts.nrows() != 2 {
        return Err(StatisticsError::Length { what: "the groups", found: counts.nrows(), expected: 2 });
    }
    let kept: Vec<usize> = (0..counts.ncols()).filter(|&j| counts.column(j).sum() > 0).collect();
    let totals = [counts.row(0).sum() as f64, counts.row(1).sum() as f64];
    if totals.contains(&0.0) || kept.len() < 2 {
        let what = "two groups and two categories that occur are needed".into();
        return Err(StatisticsError::Degenerate { what });
    }
    let share = |group: usize, j: usize| counts[[group, kept[j]]] as f64 / totals[group];
    let k = kept.len() - 1;
    let covariance = Array2::from_shape_fn((k, k), |(i, j)| {
        let own = |g: usize| if i == j { share(g, i) * (1.0 - share(g, i)) } else { -share(g, i) * share(g, j) };
        0.5 * (own(0) + own(1))
    });
    let difference = Array1::from_shape_fn(k, |j| share(0, j) - share(1, j));
    Ok(difference.dot(&Cholesky::new(covariance.view())?.solve(difference.view())).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn near(value: f64, reference: f64) {
        assert!((value - reference).abs() < 1e-12 * reference.abs().max(1.0), "{value:?}, reference {reference:?}");
    }

    #[test]
    fn exact_rank_tests_on_paper() {
        // Of the 20 orders of three and three values one is the extreme: 2 / 20.
        let test = wilcoxon(&[4.0, 5.0, 6.0], &[1.0, 2.0, 3.0], RankMethod::Auto).unwrap();
        assert_eq!((test.statistic, test.p), (9.0, 0.1));
        let tails = rank_sum_tails(2, 2);
        assert_eq!(tails, [1.0 / 6.0, 2.0 / 6.0, 4.0 / 6.0, 5.0 / 6.0, 1.0]);
        assert_eq!(wilcoxon(&[1.0, 1.0], &[1.0], RankMethod::Auto).unwrap().p, 1.0);
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

    #[test]
    fn differences_of_shares_agree_for_two_categories() {
        // p = 0.3 and 0.5: 0.2 / sqrt((0.21 + 0.25) / 2)
        let two = standardized_share_difference(array![[3, 7], [5, 5]].view()).unwrap();
        near(two, 0.2 / 0.23_f64.sqrt());
        near(standardized_share_difference(array![[3, 0, 7], [5, 0, 5]].view()).unwrap(), two);
        near(standardized_mean_difference(&[1.0, 3.0], &[0.0, 2.0]).unwrap(), 1.0 / 2.0_f64.sqrt());
    }
}
