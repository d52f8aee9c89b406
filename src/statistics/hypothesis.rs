//! Tests between groups for table one, and corrections for many tests. Conventions of R's stats package.

mod contingency;

pub use contingency::{ChiSquared, Fisher, chi_squared, fisher, fisher_2x2};

use super::StatisticsError;
use super::distributions::{chi_squared_upper_tail, normal_quantile, normal_two_sided, normal_upper_tail, t_two_sided};
use super::linear::Cholesky;
use super::sample::{check, mean, mid_ranks, quantile, sorted, variance};
use ndarray::{Array1, Array2, ArrayView2};

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
    fn differences_of_shares_agree_for_two_categories() {
        // p = 0.3 and 0.5: 0.2 / sqrt((0.21 + 0.25) / 2)
        let two = standardized_share_difference(array![[3, 7], [5, 5]].view()).unwrap();
        near(two, 0.2 / 0.23_f64.sqrt());
        near(standardized_share_difference(array![[3, 0, 7], [5, 0, 5]].view()).unwrap(), two);
        near(standardized_mean_difference(&[1.0, 3.0], &[0.0, 2.0]).unwrap(), 1.0 / 2.0_f64.sqrt());
    }
}
