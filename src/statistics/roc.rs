//! ROC curves, AUC with DeLong's variance and tests, cut-offs. Conventions of R's pROC 1.18.
//!
//! `outcome`: true for cases (the event happened), one value for each row; `scores`: the marker or the predicted risk.

use super::StatisticsError;
use super::distributions::{normal_quantile, normal_two_sided, t_two_sided};
use super::sample::{check, class_sizes, mid_ranks, quantile, sorted, variance};

/// Which side of a threshold speaks for the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Cases have higher values: positive at or above the threshold (pROC `<`).
    CasesHigher,
    /// Cases have lower values: positive at or below the threshold (pROC `>`).
    CasesLower,
}

impl Direction {
    /// pROC's `auto`: by the medians; cases count as higher where the medians are equal.
    pub fn by_medians(outcome: &[bool], scores: &[f64]) -> Result<Direction, StatisticsError> {
        class_sizes(outcome)?;
        check("the scores", scores, outcome.len())?;
        let median = |class: bool| {
            let values: Vec<f64> = outcome.iter().zip(scores).filter(|(y, _)| **y == class).map(|(_, s)| *s).collect();
            quantile(&sorted(&values), 0.5)
        };
        Ok(if median(false) <= median(true) { Direction::CasesHigher } else { Direction::CasesLower })
    }

    fn positive(self, score: f64, threshold: f64) -> bool {
        match self {
            Direction::CasesHigher => score >= threshold,
            Direction::CasesLower => score <= threshold,
        }
    }
}

/// Probability that a case has the higher score than a control, ties counting half. In O(n log n); never flipped.
pub fn auc(outcome: &[bool], scores: &[f64]) -> Result<f64, StatisticsError> {
    let (cases, controls) = class_sizes(outcome)?;
    check("the scores", scores, outcome.len())?;
    let (ranks, _) = mid_ranks(scores);
    let sum: f64 = ranks.iter().zip(outcome).filter(|(_, y)| **y).map(|(r, _)| r).sum();
    let (m, n) = (cases as f64, controls as f64);
    Ok((sum - 0.5 * m * (m + 1.0)) / (m * n))
}

/// AUC with what DeLong's variance and tests need (DeLong 1988, by mid-ranks after Sun and Xu 2014).
#[derive(Debug, Clone)]
pub struct DeLong {
    /// Area under the curve in the given direction.
    pub auc: f64,
    /// For each case, in order of the rows: the share of controls that it surpasses.
    pub cases: Vec<f64>,
    /// For each control: the share of cases that surpass it.
    pub controls: Vec<f64>,
}

impl DeLong {
    /// Structural components of the AUC of `scores` in `direction`.
    pub fn new(outcome: &[bool], scores: &[f64], direction: Direction) -> Result<DeLong, StatisticsError> {
        let (m, n) = class_sizes(outcome)?;
        check("the scores", scores, outcome.len())?;
        let signed: Vec<f64> = match direction {
            Direction::CasesHigher => scores.to_vec(),
            Direction::CasesLower => scores.iter().map(|s| -s).collect(),
        };
        let among_class = |class: bool, others: usize, at: fn(f64) -> f64, overall: &[f64]| -> Vec<f64> {
            let rows: Vec<usize> = (0..signed.len()).filter(|&i| outcome[i] == class).collect();
            let own: Vec<f64> = rows.iter().map(|&i| signed[i]).collect();
            let (own_ranks, _) = mid_ranks(&own);
            rows.iter().zip(own_ranks).map(|(&i, own)| at((overall[i] - own) / others as f64)).collect()
        };
        let (overall, _) = mid_ranks(&signed);
        let cases = among_class(true, n, |share| share, &overall);
        let controls = among_class(false, m, |share| 1.0 - share, &overall);
        Ok(DeLong { auc: cases.iter().sum::<f64>() / m as f64, cases, controls })
    }

    /// Variance of the AUC. A class of one row has none: infinite.
    pub fn variance(&self) -> f64 {
        let part = |v: &[f64]| if v.len() > 1 { variance(v) / v.len() as f64 } else { f64::INFINITY };
        part(&self.cases) + part(&self.controls)
    }

    /// Covariance with the AUC of another marker of the same rows.
    pub fn covariance(&self, other: &DeLong) -> Result<f64, StatisticsError> {
        let part = |a: &[f64], b: &[f64]| {
            if a.len() != b.len() {
                let what = "the second marker's cases or controls";
                return Err(StatisticsError::Length { what, found: b.len(), expected: a.len() });
            }
            let n = a.len() as f64;
            let (ma, mb) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
            Ok(a.iter().zip(b).map(|(a, b)| (a - ma) * (b - mb)).sum::<f64>() / (n - 1.0) / n)
        };
        Ok(part(&self.cases, &other.cases)? + part(&self.controls, &other.controls)?)
    }

    /// Confidence interval of the AUC by the normal distribution, cut to [0, 1]. `level` such as 0.95.
    pub fn interval(&self, level: f64) -> (f64, f64) {
        let half = -normal_quantile(0.5 * (1.0 - level)) * self.variance().sqrt();
        ((self.auc - half).max(0.0), (self.auc + half).min(1.0))
    }
}

/// A test of the difference of two AUCs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AucTest {
    /// z (paired) or t (unpaired), positive where the first AUC is larger.
    pub statistic: f64,
    /// Degrees of freedom of t; none for z.
    pub df: Option<f64>,
    /// Two-sided.
    pub p: f64,
}

/// DeLong's test of two markers of the same rows.
pub fn paired_test(first: &DeLong, second: &DeLong) -> Result<AucTest, StatisticsError> {
    let variance = first.variance() + second.variance() - 2.0 * first.covariance(second)?;
    let difference = first.auc - second.auc;
    // Two markers of the same order differ by nothing, with no variance; rounding leaves some 1e-17.
    let statistic = if difference == 0.0 { 0.0 } else { difference / variance.max(0.0).sqrt() };
    Ok(AucTest { statistic, df: None, p: normal_two_sided(statistic) })
}

/// DeLong's test of markers of different patients (pROC: Welch's t).
pub fn unpaired_test(first: &DeLong, second: &DeLong) -> AucTest {
    let (va, vb) = (first.variance(), second.variance());
    let rows = |d: &DeLong| (d.cases.len() + d.controls.len()) as f64;
    let difference = first.auc - second.auc;
    let statistic = if difference == 0.0 { 0.0 } else { difference / (va + vb).sqrt() };
    let df = (va + vb) * (va + vb) / (va * va / (rows(first) - 1.0) + vb * vb / (rows(second) - 1.0));
    // Both curves perfect: no variance, and no difference to test.
    let df = if df.is_nan() { rows(first) + rows(second) - 2.0 } else { df };
    AucTest { statistic, df: Some(df), p: t_two_sided(statistic, df) }
}

/// What a cut-off makes of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the field's terms")]
pub struct Classification {
    pub true_positives: usize,
    pub false_positives: usize,
    pub true_negatives: usize,
    pub false_negatives: usize,
}

#[allow(missing_docs, reason = "the field's terms")]
impl Classification {
    /// Counts the rows on either side of `threshold`.
    pub fn at(
        outcome: &[bool],
        scores: &[f64],
        threshold: f64,
        direction: Direction,
    ) -> Result<Classification, StatisticsError> {
        check("the scores", scores, outcome.len())?;
        let count = |class: bool, side: bool| {
            let rows = outcome.iter().zip(scores);
            rows.filter(|(y, s)| **y == class && direction.positive(**s, threshold) == side).count()
        };
        Ok(Classification {
            true_positives: count(true, true),
            false_positives: count(false, true),
            true_negatives: count(false, false),
            false_negatives: count(true, false),
        })
    }

    pub fn sensitivity(&self) -> Option<f64> {
        share(self.true_positives, self.false_negatives)
    }

    pub fn specificity(&self) -> Option<f64> {
        share(self.true_negatives, self.false_positives)
    }

    /// Positive predictive value; none where nobody is positive.
    pub fn ppv(&self) -> Option<f64> {
        share(self.true_positives, self.false_positives)
    }

    /// Negative predictive value; none where nobody is negative.
    pub fn npv(&self) -> Option<f64> {
        share(self.true_negatives, self.false_negatives)
    }

    pub fn accuracy(&self) -> Option<f64> {
        share(self.true_positives + self.true_negatives, self.false_positives + self.false_negatives)
    }

    /// Harmonic mean of sensitivity and positive predictive value.
    pub fn f1(&self) -> Option<f64> {
        share(2 * self.true_positives, self.false_positives + self.false_negatives)
    }
}

fn share(of: usize, rest: usize) -> Option<f64> {
    (of + rest > 0).then(|| of as f64 / (of + rest) as f64)
}

/// A whole curve: every threshold with its sensitivity and specificity, the specificity ascending as in pROC.
#[derive(Debug, Clone)]
pub struct RocCurve {
    /// Which side speaks for the event.
    pub direction: Direction,
    /// Midpoints between neighboring values; the ends are infinite.
    pub thresholds: Vec<f64>,
    /// At each threshold.
    pub sensitivities: Vec<f64>,
    /// At each threshold.
    pub specificities: Vec<f64>,
}

/// The range over which a partial area is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartialAxis {
    /// Area over a range of specificities.
    Specificity,
    /// Area over a range of sensitivities.
    Sensitivity,
}

impl RocCurve {
    /// The empirical curve in a given direction.
    pub fn new(outcome: &[bool], scores: &[f64], direction: Direction) -> Result<RocCurve, StatisticsError> {
        let (m, n) = class_sizes(outcome)?;
        check("the scores", scores, outcome.len())?;
        let mut rows: Vec<(f64, bool)> = scores.iter().copied().zip(outcome.iter().copied()).collect();
        rows.sort_by(|a, b| match direction {
            Direction::CasesHigher => a.0.total_cmp(&b.0),
            Direction::CasesLower => b.0.total_cmp(&a.0),
        });
        // From the threshold at which all are positive on; `outer` is its value on the negative side.
        let (mut tp, mut tn) = (m, 0);
        let end = if direction == Direction::CasesHigher { f64::NEG_INFINITY } else { f64::INFINITY };
        let mut outer = end;
        let mut curve =
            RocCurve { direction, thresholds: Vec::new(), sensitivities: Vec::new(), specificities: Vec::new() };
        for group in rows.chunk_by(|a, b| a.0 == b.0) {
            curve.push(threshold_between(outer, group[0].0), tp as f64 / m as f64, tn as f64 / n as f64);
            let cases = group.iter().filter(|row| row.1).count();
            tp -= cases;
            tn += group.len() - cases;
            outer = group[0].0;
        }
        curve.push(-end, 0.0, 1.0);
        Ok(curve)
    }

    fn push(&mut self, threshold: f64, sensitivity: f64, specificity: f64) {
        self.thresholds.push(threshold);
        self.sensitivities.push(sensitivity);
        self.specificities.push(specificity);
    }

    /// Indices of the thresholds with the largest sensitivity + specificity; it can tie.
    pub fn youden(&self) -> Vec<usize> {
        self.best(|sensitivity, specificity| sensitivity + specificity)
    }

    /// Indices of the thresholds nearest to the corner of a perfect test.
    pub fn closest_top_left(&self) -> Vec<usize> {
        self.best(|sensitivity, specificity| -((1.0 - sensitivity).powi(2) + (1.0 - specificity).powi(2)))
    }

    fn best(&self, value: impl Fn(f64, f64) -> f64) -> Vec<usize> {
        let values: Vec<f64> =
            self.sensitivities.iter().zip(&self.specificities).map(|(se, sp)| value(*se, *sp)).collect();
        let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (0..values.len()).filter(|&i| values[i] == largest).collect()
    }

    /// Sensitivity at a specificity in [0, 1], interpolated linearly; the highest where the curve stands upright.
    pub fn sensitivity_at(&self, specificity: f64) -> f64 {
        interpolate(&self.specificities, &self.sensitivities, specificity)
    }

    /// Specificity at a sensitivity in [0, 1], interpolated linearly; the highest where the curve lies flat.
    pub fn specificity_at(&self, sensitivity: f64) -> f64 {
        let reversed = |v: &[f64]| v.iter().rev().copied().collect::<Vec<f64>>();
        interpolate(&reversed(&self.sensitivities), &reversed(&self.specificities), sensitivity)
    }

    /// Area over `from` <= specificity (or sensitivity) <= `to`.
    pub fn partial_area(&self, axis: PartialAxis, from: f64, to: f64) -> f64 {
        let (x, y): (Vec<f64>, Vec<f64>) = match axis {
            PartialAxis::Specificity => (self.specificities.clone(), self.sensitivities.clone()),
            PartialAxis::Sensitivity => {
                (self.sensitivities.iter().rev().copied().collect(), self.specificities.iter().rev().copied().collect())
            }
        };
        let mut area = 0.0;
        for (x, y) in x.windows(2).zip(y.windows(2)) {
            let (left, right) = (x[0].max(from), x[1].min(to));
            if left < right {
                let at = |v: f64| y[0] + (y[1] - y[0]) * (v - x[0]) / (x[1] - x[0]);
                area += 0.5 * (at(left) + at(right)) * (right - left);
            }
        }
        area
    }

    /// McClish's correction of [`RocCurve::partial_area`]: 0.5 is chance, 1 perfect. None below chance, as in pROC.
    pub fn partial_area_corrected(&self, axis: PartialAxis, from: f64, to: f64) -> Option<f64> {
        let area = self.partial_area(axis, from, to);
        let chance = 0.5 * ((1.0 - from).powi(2) - (1.0 - to).powi(2));
        let perfect = to - from;
        (area >= chance && perfect > 0.0).then(|| 0.5 * (1.0 + (area - chance) / (perfect - chance)))
    }
}

/// The midpoint; where rounding or overflow lets it fall on a value, that of the positive side.
fn threshold_between(negative: f64, positive: f64) -> f64 {
    if negative.is_infinite() {
        return negative;
    }
    let middle =
        if (negative + positive).abs() > 1e100 { 0.5 * negative + 0.5 * positive } else { 0.5 * (negative + positive) };
    if middle == negative { positive } else { middle }
}

/// Linear between points of ascending `x`; of several points at the same x the highest.
fn interpolate(x: &[f64], y: &[f64], at: f64) -> f64 {
    let exact = x.iter().zip(y).filter(|(x, _)| **x == at).map(|(_, y)| *y).fold(f64::NEG_INFINITY, f64::max);
    if exact > f64::NEG_INFINITY {
        return exact;
    }
    let above = x.partition_point(|&x| x < at).clamp(1, x.len() - 1);
    y[above - 1] + (y[above] - y[above - 1]) * (at - x[above - 1]) / (x[above] - x[above - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_on_paper() {
        // Controls 1, 2, 3 and cases 2, 4: of six pairs 4.5 are in order.
        let outcome = [false, false, true, false, true];
        let scores = [1.0, 2.0, 2.0, 3.0, 4.0];
        assert_eq!(auc(&outcome, &scores).unwrap(), 0.75);
        let curve = RocCurve::new(&outcome, &scores, Direction::CasesHigher).unwrap();
        assert_eq!(curve.thresholds, [f64::NEG_INFINITY, 1.5, 2.5, 3.5, f64::INFINITY]);
        assert_eq!(curve.sensitivities, [1.0, 1.0, 0.5, 0.5, 0.0]);
        assert_eq!(curve.specificities, [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0, 1.0]);
        assert_eq!(curve.youden(), [3]);
        assert!((curve.partial_area(PartialAxis::Specificity, 0.0, 1.0) - 0.75).abs() < 1e-15);
        assert!((curve.partial_area(PartialAxis::Sensitivity, 0.0, 1.0) - 0.75).abs() < 1e-15);
        let lower: Vec<f64> = scores.iter().map(|s| -s).collect();
        let mirrored = RocCurve::new(&outcome, &lower, Direction::CasesLower).unwrap();
        assert_eq!(mirrored.sensitivities, curve.sensitivities);
        assert_eq!(mirrored.thresholds, [f64::INFINITY, -1.5, -2.5, -3.5, f64::NEG_INFINITY]);
        assert_eq!(DeLong::new(&outcome, &lower, Direction::CasesLower).unwrap().auc, 0.75);
    }

    /// pROC: `direction = "auto"` is "<" if median(controls) <= median(cases).
    #[test]
    fn the_direction_is_that_of_the_medians() {
        let outcome = [false, false, true, true];
        let direction = |scores: [f64; 4]| Direction::by_medians(&outcome, &scores).unwrap();
        // Medians of 2 and 2: equal, whatever lies around them.
        assert_eq!(direction([1.0, 3.0, 2.0, 2.0]), Direction::CasesHigher);
        assert_eq!(direction([2.0, 2.0, 1.0, 3.0]), Direction::CasesHigher);
        assert_eq!(direction([2.0, 2.0, 1.0, 2.9]), Direction::CasesLower);
        // The mean would say the contrary: controls 0, 0, 10, cases 1, 1, 1.
        let outcome = [false, false, false, true, true, true];
        let scores = [0.0, 0.0, 10.0, 1.0, 1.0, 1.0];
        assert_eq!(Direction::by_medians(&outcome, &scores).unwrap(), Direction::CasesHigher);
    }

    #[test]
    fn neighbors_without_a_number_between_keep_apart() {
        let next = 1.0_f64.next_up();
        let curve = RocCurve::new(&[false, true], &[1.0, next], Direction::CasesHigher).unwrap();
        assert_eq!(curve.thresholds[1], next);
    }
}
