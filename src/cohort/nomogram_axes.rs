//! The axes of a nomogram as `rms::nomogram` (R) places them: ticks by `pretty`, 100 points for the longest axis, total points,
//! linear predictor, and scales of risk or survival.

use crate::statistics::spline::restricted_cubic_spline;

/// Ticks asked for on an axis (`nint` of rms::nomogram).
const TICKS: usize = 10;
/// A numeric predictor with at most this many different values has them as ticks (`n.unique` of rms::datadist).
const DISTINCT_MAX: usize = 10;
/// Grid on which rms::nomogram inverts a function of the linear predictor; its linear interpolation shows in the sixth digit.
const INVERSE_GRID: usize = 1000;

/// How a predictor enters the linear predictor.
#[derive(Debug, Clone, PartialEq)]
pub enum AxisTerm {
    /// Coefficient times value, or times its natural logarithm.
    Numeric {
        /// Per unit.
        coefficient: f64,
        /// Whether the logarithm enters.
        log: bool,
        /// Values at the ticks, see [`axis_values`].
        ticks: Vec<f64>,
    },
    /// Restricted cubic spline.
    Spline {
        /// One for the value and one for each further basis function.
        coefficients: Vec<f64>,
        /// Knots, ascending.
        knots: Vec<f64>,
        /// Values at the ticks.
        ticks: Vec<f64>,
    },
    /// Classes, each with its effect; the reference class has 0.
    Factor {
        /// Names and effects.
        levels: Vec<(String, f64)>,
    },
}

/// A model whose nomogram is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct NomogramInput {
    /// Predictors by name, in the order of the axes.
    pub terms: Vec<(String, AxisTerm)>,
    /// Intercept of a logistic model; minus the center of a Cox model (cph).
    pub intercept: f64,
    /// Smallest and largest linear predictor of the training data, intercept included.
    pub lp_range: [f64; 2],
}

/// The axis of a predictor.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Predictor.
    pub name: String,
    /// Text at each tick.
    pub labels: Vec<String>,
    /// Contribution to the linear predictor at each tick.
    pub x_beta: Vec<f64>,
    /// Points at each tick.
    pub points: Vec<f64>,
}

/// A scale below the total points.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaleAxis {
    /// What it shows.
    pub name: String,
    /// Value at each tick.
    pub values: Vec<f64>,
    /// Total points at each tick.
    pub points: Vec<f64>,
}

/// All axes of a nomogram.
#[derive(Debug, Clone, PartialEq)]
pub struct Nomogram {
    /// One for each predictor.
    pub axes: Vec<Axis>,
    /// Ticks of the total points.
    pub total_points: Vec<f64>,
    /// The linear predictor.
    pub lp: ScaleAxis,
    /// Points of one unit of the linear predictor.
    pub points_per_lp: f64,
    /// Linear predictor at 0 points.
    pub lp_at_zero: f64,
}

impl AxisTerm {
    /// Labels and contributions at the ticks.
    fn ticks(&self) -> (Vec<String>, Vec<f64>) {
        let labels = |ticks: &[f64]| ticks.iter().map(|v| format_number(*v)).collect();
        match self {
            AxisTerm::Numeric { coefficient, log, ticks } => {
                let effect = |v: &f64| coefficient * if *log { v.ln() } else { *v };
                (labels(ticks), ticks.iter().map(effect).collect())
            }
            AxisTerm::Spline { coefficients, knots, ticks } => {
                let effect = |v: &f64| {
                    let basis = restricted_cubic_spline(*v, knots);
                    basis.iter().zip(coefficients).map(|(b, c)| b * c).sum()
                };
                (labels(ticks), ticks.iter().map(effect).collect())
            }
            AxisTerm::Factor { levels } => levels.iter().cloned().unzip(),
        }
    }
}

impl Nomogram {
    /// Places the axes (rms::nomogram with `maxscale = 100`). `None` if no predictor has an effect.
    pub fn new(input: &NomogramInput) -> Option<Nomogram> {
        let ticks: Vec<(Vec<String>, Vec<f64>)> = input.terms.iter().map(|(_, term)| term.ticks()).collect();
        let least = |v: &[f64]| v.iter().copied().fold(f64::INFINITY, f64::min);
        let most = |v: &[f64]| v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let longest = ticks.iter().map(|(_, effects)| most(effects) - least(effects)).fold(0.0, f64::max);
        if !(longest > 0.0 && longest.is_finite()) {
            return None;
        }
        let per_lp = 100.0 / longest;
        let lp_at_zero = input.intercept + ticks.iter().map(|(_, effects)| least(effects)).sum::<f64>();
        let axes: Vec<Axis> = input
            .terms
            .iter()
            .zip(ticks)
            .map(|((name, _), (labels, x_beta))| {
                let zero = least(&x_beta);
                let points = x_beta.iter().map(|x| (x - zero) * per_lp).collect();
                Axis { name: name.clone(), labels, x_beta, points }
            })
            .collect();
        let [low, high] = input.lp_range;
        let values = pretty(low, high, TICKS);
        let total = |lp: f64| (lp - lp_at_zero) * per_lp;
        let highest = if axes.len() == 1 { 100.0 } else { total(most(&values)).max(100.0) };
        let points = values.iter().map(|lp| total(*lp)).collect();
        let lp = ScaleAxis { name: "Linear predictor".into(), values, points };
        Some(Nomogram { axes, total_points: pretty(0.0, highest, TICKS), lp, points_per_lp: per_lp, lp_at_zero })
    }

    /// The scale of a monotone function of the linear predictor at `values`; those outside its range are left out.
    pub fn scale(&self, name: &str, values: &[f64], function: impl Fn(f64) -> f64) -> ScaleAxis {
        let [first, .., last] = self.lp.values[..] else {
            return ScaleAxis { name: name.into(), values: Vec::new(), points: Vec::new() };
        };
        let step = (last - first) / (INVERSE_GRID - 1) as f64;
        let mut grid: Vec<(f64, f64)> = (0..INVERSE_GRID)
            .map(|i| first + step * i as f64)
            .map(|lp| (function(lp), lp))
            .filter(|(value, _)| value.is_finite())
            .collect();
        grid.sort_by(|a, b| a.0.total_cmp(&b.0));
        let placed =
            values.iter().filter_map(|v| Some((*v, (interpolate(&grid, *v)? - self.lp_at_zero) * self.points_per_lp)));
        let (values, points) = placed.unzip();
        ScaleAxis { name: name.into(), values, points }
    }
}

/// Linear interpolation of sorted (x, y); points with the same x count as their mean; `None` outside.
fn interpolate(sorted: &[(f64, f64)], x: f64) -> Option<f64> {
    let mut merged: Vec<(f64, f64, f64)> = Vec::with_capacity(sorted.len());
    for (a, b) in sorted {
        match merged.last_mut() {
            Some((x, sum, n)) if x == a => (*sum, *n) = (*sum + b, *n + 1.0),
            _ => merged.push((*a, *b, 1.0)),
        }
    }
    let after = merged.partition_point(|(a, _, _)| *a < x);
    let y = |i: usize| merged[i].1 / merged[i].2;
    let (b, ..) = *merged.get(after)?;
    if b == x {
        return Some(y(after));
    }
    let before = after.checked_sub(1)?;
    let share = (x - merged[before].0) / (b - merged[before].0);
    Some(y(before) + share * (y(after) - y(before)))
}

/// Ticks for a numeric predictor: its different values if they are few, else round values over its range.
pub fn axis_values(data: &[f64]) -> Vec<f64> {
    let mut different = data.to_vec();
    different.sort_by(f64::total_cmp);
    different.dedup();
    match different[..] {
        [first, .., last] if different.len() > DISTINCT_MAX => pretty(first, last, TICKS),
        _ => different,
    }
}

/// About `n` round values that cover `low..=high` (R: `pretty`, `min.n = n / 3`, `high.u.bias = 1.5`).
pub fn pretty(low: f64, high: f64, n: usize) -> Vec<f64> {
    const H: f64 = 1.5;
    const H5: f64 = 0.5 + 1.5 * H;
    const EPS: f64 = 1e-10;
    let range = high - low;
    let size = low.abs().max(high.abs());
    let least = (n / 3) as f64;
    let tiny = size == 0.0 || range < size * (1.0 + 1.0 / (1.0 + H)) * n.max(1) as f64 * f64::EPSILON * 3.0;
    let cell = if tiny {
        let size = if size == 0.0 { 1.0 } else { size };
        let cell = 0.75 * if size > 10.0 { 9.0 + size / 10.0 } else { size };
        if least > 1.0 { cell / least } else { cell }
    } else {
        range / n.max(1) as f64
    };
    let base = 10f64.powf(cell.log10().floor());
    let mut unit = base;
    // The next rounder unit is taken while it is nearer by the bias.
    for (factor, bias) in [(2.0, H), (5.0, H5), (10.0, H)] {
        if factor * base - cell < bias * (cell - unit) {
            unit = factor * base;
        } else {
            break;
        }
    }
    let (mut first, mut last) = ((low / unit + EPS).floor(), (high / unit - EPS).ceil());
    while first * unit > low + EPS * unit {
        first -= 1.0;
    }
    while last * unit < high - EPS * unit {
        last += 1.0;
    }
    let lacking = (least - (last - first)).max(0.0);
    if low == 0.0 && first == 0.0 && high != 0.0 {
        last += lacking;
    } else if high == 0.0 && last == 0.0 && low != 0.0 {
        first -= lacking;
    } else if first >= 0.0 {
        last += (lacking / 2.0).floor();
        first -= (lacking / 2.0).ceil();
    } else {
        first -= (lacking / 2.0).floor();
        last += (lacking / 2.0).ceil();
    }
    (0..=(last - first) as usize).map(|i| (first + i as f64) * unit).collect()
}

/// Quantile of sorted values (R type 7). `sorted` must not be empty.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let below = (at + 4.0 * f64::EPSILON).floor().min((sorted.len() - 1) as f64);
    let above = sorted[(below as usize + 1).min(sorted.len() - 1)];
    let part = (at - below).max(0.0);
    if part < 1e-12 { sorted[below as usize] } else { sorted[below as usize] * (1.0 - part) + above * part }
}

/// A number with up to seven significant digits, as R's `format` writes a single one.
pub fn format_number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".into() } else { value.to_string() };
    }
    let scientific = format!("{value:.6e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
    let digits = (6 - exponent).max(0) as usize;
    let fixed = format!("{value:.digits$}");
    let fixed = if fixed.contains('.') { fixed.trim_end_matches('0').trim_end_matches('.') } else { &fixed };
    let sign = if exponent < 0 { '-' } else { '+' };
    let scientific = format!("{mantissa}e{sign}{:02}", exponent.abs());
    if fixed.len() <= scientific.len() { fixed.to_owned() } else { scientific }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checked against R 4.2: pretty(c(80, 250), 10), pretty(c(0, 1), 10), pretty(c(-1.2, 3.4), 10), pretty(c(5, 5), 10).
    #[test]
    fn ticks_are_round() {
        assert_eq!(pretty(80.0, 250.0, 10), [80., 100., 120., 140., 160., 180., 200., 220., 240., 260.]);
        assert_eq!(pretty(0.0, 1.0, 10).len(), 11);
        assert_eq!(pretty(-1.2, 3.4, 10), [-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]);
    }

    #[test]
    fn numbers_are_written_as_r_does() {
        let written = [0.1 + 0.2, 100.0, 100000.0, 123456.0, -0.5, 1e-5, 1234567.8].map(format_number);
        assert_eq!(written, ["0.3", "100", "1e+05", "123456", "-0.5", "1e-05", "1234568"]);
    }
}
