//! Restricted cubic splines as Hmisc and rms have them.

use super::sample::quantile;

/// Basis of a restricted cubic spline (Hmisc::rcspline.eval, `norm = 2`): the value itself, then one function for each knot but
/// the last two, divided by the squared distance of the outer knots. Linear beyond the outer knots.
pub fn restricted_cubic_spline(x: f64, knots: &[f64]) -> Vec<f64> {
    let [first, .., before, last] = knots[..] else { return vec![x] };
    let cube = |knot: f64| (x - knot).max(0.0).powi(3);
    let function = |knot: f64| {
        let outer = cube(last) * (before - knot) - cube(before) * (last - knot);
        (cube(knot) + outer / (last - before)) / (last - first).powi(2)
    };
    std::iter::once(x).chain(knots[..knots.len() - 2].iter().map(|knot| function(*knot))).collect()
}

/// Knots of a restricted cubic spline (Hmisc): quantiles .10 .50 .90, .05 .35 .65 .95 or .05 .275 .5 .725 .95 (type 7); below 100
/// values the outer ones are the fifth smallest and largest.
pub fn spline_knots(data: &[f64], n_knots: usize) -> Vec<f64> {
    let mut sorted = data.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    if n < 10 || n_knots < 3 {
        return Vec::new();
    }
    let outer = if n_knots == 3 { 0.1 } else { 0.05 };
    let share = |k: usize| outer + (1.0 - 2.0 * outer) * k as f64 / (n_knots - 1) as f64;
    let mut knots: Vec<f64> = (0..n_knots).map(|k| quantile(&sorted, share(k))).collect();
    if n < 100 {
        (knots[0], knots[n_knots - 1]) = (sorted[4], sorted[n - 5]);
    }
    knots
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Knots 0, 1, 2: f(3) = (27 - 8 * 2 + 1 * 1) / 4 = 3, and linear beyond: f(4) = (64 - 54 + 8) / 4 = 4.5, f(5) = 6.
    #[test]
    fn a_restricted_spline_is_straight_beyond_its_knots() {
        let at = |x: f64| restricted_cubic_spline(x, &[0.0, 1.0, 2.0]);
        assert_eq!(
            [at(-1.0), at(3.0), at(4.0), at(5.0)],
            [vec![-1.0, 0.0], vec![3.0, 3.0], vec![4.0, 4.5], vec![5.0, 6.0]]
        );
    }
}
