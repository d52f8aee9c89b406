//! Reliability of repeated measurements: intraclass correlation, Bland-Altman.

use super::StatisticsError;
use super::distributions::{f_quantile, f_upper_tail, t_quantile};
use super::sample::{check, mean, variance};
use ndarray::ArrayView2;

/// Mean squares of a two-way table of `targets` (patients) measured by `raters` (readers, scans, segmentations).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeanSquares {
    /// Rows, n.
    pub targets: usize,
    /// Columns, k.
    pub raters: usize,
    /// Between targets, n - 1 degrees of freedom.
    pub between_targets: f64,
    /// Within targets, n (k - 1).
    pub within_targets: f64,
    /// Between raters, k - 1.
    pub between_raters: f64,
    /// Residual of the two-way model, (n - 1) (k - 1).
    pub residual: f64,
}

/// The six forms of Shrout and Fleiss; McGraw and Wong's names in brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IccForm {
    /// ICC1 (ICC(1,1)): each target has raters of its own.
    OneWay,
    /// ICC2 (ICC(A,1)): absolute agreement with the same raters, who stand for others.
    Agreement,
    /// ICC3 (ICC(C,1)): consistency of these raters.
    Consistency,
    /// ICC1k (ICC(1,k)): of the mean of k raters.
    OneWayMean,
    /// ICC2k (ICC(A,k)).
    AgreementMean,
    /// ICC3k (ICC(C,k)).
    ConsistencyMean,
}

impl IccForm {
    /// All six in psych's order.
    pub const ALL: [IccForm; 6] = [
        IccForm::OneWay,
        IccForm::Agreement,
        IccForm::Consistency,
        IccForm::OneWayMean,
        IccForm::AgreementMean,
        IccForm::ConsistencyMean,
    ];
}

/// An intraclass correlation with the F test against 0 and its confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Icc {
    /// At most 1; may be negative.
    pub value: f64,
    /// F of the test that there is no correlation.
    pub f: f64,
    /// Degrees of freedom of F.
    pub df: (f64, f64),
    /// One-sided, as F tests are.
    pub p: f64,
    /// Lower end.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
}

impl MeanSquares {
    /// Of `ratings`: shape (targets, raters), without gaps.
    pub fn new(ratings: ArrayView2<f64>) -> Result<MeanSquares, StatisticsError> {
        let (n, k) = ratings.dim();
        if n < 2 || k < 2 {
            return Err(StatisticsError::Degenerate {
                what: format!("{n} targets and {k} raters: two of each are needed"),
            });
        }
        if let Some(row) = ratings.rows().into_iter().position(|row| row.iter().any(|v| !v.is_finite())) {
            return Err(StatisticsError::NotFinite { what: "the ratings", row });
        }
        Ok(MeanSquares::of(n, k, |i, j| ratings[[i, j]]))
    }

    fn of(n: usize, k: usize, rating: impl Fn(usize, usize) -> f64) -> MeanSquares {
        // Differences from the first rating keep the digits of features around 1e9.
        let origin = rating(0, 0);
        let (nf, kf) = (n as f64, k as f64);
        let mut target_means = vec![0.0; n];
        let mut rater_means = vec![0.0; k];
        for (i, target) in target_means.iter_mut().enumerate() {
            for (j, rater) in rater_means.iter_mut().enumerate() {
                let v = rating(i, j) - origin;
                *target += v / kf;
                *rater += v / nf;
            }
        }
        let grand = mean(&target_means);
        let squares = |means: &[f64]| means.iter().map(|m| (m - grand) * (m - grand)).sum::<f64>();
        let (between_targets, between_raters) = (kf * squares(&target_means), nf * squares(&rater_means));
        let (mut within, mut residual) = (0.0, 0.0);
        for (i, target) in target_means.iter().enumerate() {
            for (j, rater) in rater_means.iter().enumerate() {
                let d = rating(i, j) - origin - target;
                within += d * d;
                residual += (d - (rater - grand)).powi(2);
            }
        }
        MeanSquares {
            targets: n,
            raters: k,
            between_targets: between_targets / (nf - 1.0),
            within_targets: within / (nf * (kf - 1.0)),
            between_raters: between_raters / (kf - 1.0),
            residual: residual / ((nf - 1.0) * (kf - 1.0)),
        }
    }

    /// The estimate alone; none where the ratings do not vary.
    pub fn value(&self, form: IccForm) -> Option<f64> {
        let (n, k) = (self.targets as f64, self.raters as f64);
        let (b, w, j, e) = (self.between_targets, self.within_targets, self.between_raters, self.residual);
        let (above, below) = match form {
            IccForm::OneWay => (b - w, b + (k - 1.0) * w),
            IccForm::Agreement => (b - e, b + (k - 1.0) * e + k * (j - e) / n),
            IccForm::Consistency => (b - e, b + (k - 1.0) * e),
            IccForm::OneWayMean => (b - w, b),
            IccForm::AgreementMean => (b - e, b + (j - e) / n),
            IccForm::ConsistencyMean => (b - e, b),
        };
        let value = above / below;
        value.is_finite().then_some(value)
    }

    /// Estimate, F test and exact interval (psych's `ICC`; for absolute agreement by Satterthwaite's degrees of
    /// freedom). `level` such as 0.95. Perfect agreement has an infinite F and both ends at 1.
    pub fn icc(&self, form: IccForm, level: f64) -> Result<Icc, StatisticsError> {
        let Some(value) = self.value(form) else {
            return Err(StatisticsError::Degenerate { what: "the ratings do not vary".into() });
        };
        let (n, k) = (self.targets as f64, self.raters as f64);
        let one_way = matches!(form, IccForm::OneWay | IccForm::OneWayMean);
        let (error, df2) =
            if one_way { (self.within_targets, n * (k - 1.0)) } else { (self.residual, (n - 1.0) * (k - 1.0)) };
        let df1 = n - 1.0;
        let f = self.between_targets / error;
        let p = f_upper_tail(f, df1, df2);
        let tail = 0.5 * (1.0 - level);
        // Upper quantiles as inverses of lower ones keep their digits.
        let upper_quantile = |a: f64, b: f64| 1.0 / f_quantile(tail, b, a);
        let (lower, upper) = if error <= 0.0 && (one_way || self.between_raters <= 0.0) {
            (1.0, 1.0)
        } else {
            let (low, high) = (f / upper_quantile(df1, df2), f * upper_quantile(df2, df1));
            match form {
                IccForm::OneWay | IccForm::Consistency => (single(low, k), single(high, k)),
                IccForm::OneWayMean | IccForm::ConsistencyMean => (1.0 - 1.0 / low, 1.0 - 1.0 / high),
                IccForm::Agreement => self.agreement_interval(upper_quantile),
                IccForm::AgreementMean => {
                    let (low, high) = self.agreement_interval(upper_quantile);
                    (spearman_brown(low, k), spearman_brown(high, k))
                }
            }
        };
        Ok(Icc { value, f, df: (df1, df2), p, lower, upper })
    }

    fn agreement_interval(&self, upper_quantile: impl Fn(f64, f64) -> f64) -> (f64, f64) {
        let (n, k) = (self.targets as f64, self.raters as f64);
        let (b, j, e) = (self.between_targets, self.between_raters, self.residual);
        let icc = self.value(IccForm::Agreement).unwrap_or(0.0);
        // Satterthwaite's degrees of freedom of the error, written in mean squares so that e = 0 is no special case.
        let (raters, rest) = (k * icc * j, (n * (1.0 + (k - 1.0) * icc) - k * icc) * e);
        let df = (k - 1.0) * (n - 1.0) * (raters + rest).powi(2) / ((n - 1.0) * raters * raters + rest * rest);
        let (above, below) = (upper_quantile(n - 1.0, df), upper_quantile(df, n - 1.0));
        let error = k * j + (k * n - k - n) * e;
        let lower = n * (b - above * e) / (above * error + n * b);
        let upper = n * (below * b - e) / (error + n * below * b);
        (lower, upper)
    }
}

/// (F - 1) / (F + k - 1), also for an infinite F.
fn single(f: f64, k: f64) -> f64 {
    if f.is_infinite() { 1.0 } else { (f - 1.0) / (f + k - 1.0) }
}

fn spearman_brown(icc: f64, k: f64) -> f64 {
    k * icc / (1.0 + (k - 1.0) * icc)
}

/// Mean squares of many features at once. `readings`: one table for each rater, all of shape (patients, features).
pub fn mean_squares_of_columns(readings: &[ArrayView2<f64>]) -> Result<Vec<MeanSquares>, StatisticsError> {
    let (n, features) = readings.first().map_or((0, 0), |first| first.dim());
    if n < 2 || readings.len() < 2 {
        let what = format!("{n} patients and {} raters: two of each are needed", readings.len());
        return Err(StatisticsError::Degenerate { what });
    }
    for reading in readings {
        for (what, found, expected) in
            [("a rater's patients", reading.nrows(), n), ("a rater's features", reading.ncols(), features)]
        {
            if found != expected {
                return Err(StatisticsError::Length { what, found, expected });
            }
        }
        if let Some(row) = reading.rows().into_iter().position(|row| row.iter().any(|v| !v.is_finite())) {
            return Err(StatisticsError::NotFinite { what: "a rater's readings", row });
        }
    }
    Ok((0..features).map(|f| MeanSquares::of(n, readings.len(), |i, j| readings[j][[i, f]])).collect())
}

/// Agreement of two methods (Bland and Altman 1986, 1999).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlandAltman {
    /// Mean of first - second.
    pub bias: f64,
    /// Of the differences, with n - 1.
    pub standard_deviation: f64,
    /// Bias - 1.96 standard deviations, and + 1.96.
    pub limits: (f64, f64),
    /// Confidence interval of the bias (t).
    pub bias_interval: (f64, f64),
    /// Of the lower limit; variance s^2 (1 / n + 1.96^2 / (2 (n - 1))).
    pub lower_limit_interval: (f64, f64),
    /// Of the upper limit.
    pub upper_limit_interval: (f64, f64),
}

/// Bias and limits of agreement of two measurements of the same targets; `level` of the intervals such as 0.95.
pub fn bland_altman(first: &[f64], second: &[f64], level: f64) -> Result<BlandAltman, StatisticsError> {
    check("the first measurements", first, first.len())?;
    check("the second measurements", second, first.len())?;
    if first.len() < 2 {
        return Err(StatisticsError::Length { what: "the measurements", found: first.len(), expected: 2 });
    }
    let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
    let n = first.len() as f64;
    let (bias, s) = (mean(&differences), variance(&differences).sqrt());
    let t = -t_quantile(0.5 * (1.0 - level), n - 1.0);
    let around = |center: f64, error: f64| (center - t * error, center + t * error);
    let reach = 1.96 * s;
    let limit_error = s * (1.0 / n + 1.96 * 1.96 / (2.0 * (n - 1.0))).sqrt();
    Ok(BlandAltman {
        bias,
        standard_deviation: s,
        limits: (bias - reach, bias + reach),
        bias_interval: around(bias, s / n.sqrt()),
        lower_limit_interval: around(bias - reach, limit_error),
        upper_limit_interval: around(bias + reach, limit_error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn perfect_raters_and_shifted_ones() {
        let perfect = MeanSquares::new(array![[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]].view()).unwrap();
        for form in IccForm::ALL {
            let icc = perfect.icc(form, 0.95).unwrap();
            assert_eq!((icc.value, icc.lower, icc.upper, icc.p), (1.0, 1.0, 1.0, 0.0), "{form:?}");
        }
        // A constant shift is consistent, but no agreement: targets 1 apart, raters 1 apart.
        let shifted = MeanSquares::new(array![[1.0, 2.0], [2.0, 3.0], [3.0, 4.0]].view()).unwrap();
        assert_eq!(shifted.value(IccForm::Consistency), Some(1.0));
        assert!((shifted.value(IccForm::Agreement).unwrap() - 2.0 / 3.0).abs() < 1e-15);
        let agreement = shifted.icc(IccForm::Agreement, 0.95).unwrap();
        assert!(agreement.lower < agreement.value && agreement.value < agreement.upper);
        let constant = MeanSquares::new(array![[1.0, 1.0], [1.0, 1.0]].view()).unwrap();
        assert!(constant.icc(IccForm::Agreement, 0.95).is_err());
    }

    #[test]
    fn limits_of_agreement_on_paper() {
        // Differences 1, 2, 3.
        let found = bland_altman(&[2.0, 4.0, 6.0], &[1.0, 2.0, 3.0], 0.95).unwrap();
        assert_eq!((found.bias, found.standard_deviation), (2.0, 1.0));
        assert!((found.limits.0 - 0.04).abs() < 1e-15);
        // t(0.975, 2) = 4.302653.
        assert!((found.bias_interval.1 - (2.0 + 4.302652729749464 / 3.0_f64.sqrt())).abs() < 1e-12);
    }
}
