//! The ends of a profile likelihood interval, read from a spline as R does.

/// Where the signed root `roots` crosses -`half` and +`half`: linear interpolation between 3 n points of a spline (R's
/// `spline` and `approx`). `values` increase.
pub(super) fn read_profile(values: &[f64], roots: &[f64], half: f64) -> (f64, f64) {
    let spline = Spline::new(values, roots);
    let points = 3 * values.len();
    let (first, last) = (values[0], values[values.len() - 1]);
    let xs: Vec<f64> = (0..points).map(|i| first + (last - first) * i as f64 / (points - 1) as f64).collect();
    let mut curve: Vec<(f64, f64)> = xs.iter().map(|&x| (spline.at(x), x)).collect();
    curve.sort_by(|a, b| a.0.total_cmp(&b.0));
    let crossing = |target: f64| {
        curve.windows(2).find(|w| w[0].0 <= target && target <= w[1].0).map(|w| {
            let fraction = if w[1].0 > w[0].0 { (target - w[0].0) / (w[1].0 - w[0].0) } else { 0.0 };
            w[0].1 + fraction * (w[1].1 - w[0].1)
        })
    };
    (crossing(-half).unwrap_or(f64::NEG_INFINITY), crossing(half).unwrap_or(f64::INFINITY))
}

/// Cubic spline whose ends follow the cubics through the first and the last four points (Forsythe, Malcolm and Moler 1977).
struct Spline<'a> {
    x: &'a [f64],
    y: &'a [f64],
    /// A sixth of the second derivative at each point.
    bend: Vec<f64>,
}

impl Spline<'_> {
    /// `x` increases strictly.
    fn new<'a>(x: &'a [f64], y: &'a [f64]) -> Spline<'a> {
        let n = x.len();
        let gap: Vec<f64> = x.windows(2).map(|w| w[1] - w[0]).collect();
        let slope: Vec<f64> = (0..n.saturating_sub(1)).map(|i| (y[i + 1] - y[i]) / gap[i]).collect();
        if n < 3 {
            return Spline { x, y, bend: vec![0.0; n] };
        }
        // Third divided difference of four neighbors, times 1: the constant third derivative / 6 at an end.
        let third = |i: usize| {
            let second = |i: usize| (slope[i + 1] - slope[i]) / (x[i + 2] - x[i]);
            (second(i + 1) - second(i)) / (x[i + 3] - x[i])
        };
        let mut diagonal = vec![0.0; n];
        let mut right = vec![0.0; n];
        diagonal[0] = -gap[0];
        diagonal[n - 1] = -gap[n - 2];
        if n > 3 {
            right[0] = gap[0] * gap[0] * third(0);
            right[n - 1] = -gap[n - 2] * gap[n - 2] * third(n - 4);
        }
        for i in 1..n - 1 {
            diagonal[i] = 2.0 * (gap[i - 1] + gap[i]);
            right[i] = slope[i] - slope[i - 1];
        }
        for i in 1..n {
            let factor = gap[i - 1] / diagonal[i - 1];
            diagonal[i] -= factor * gap[i - 1];
            right[i] -= factor * right[i - 1];
        }
        let mut bend = vec![0.0; n];
        bend[n - 1] = right[n - 1] / diagonal[n - 1];
        for i in (0..n - 1).rev() {
            bend[i] = (right[i] - gap[i] * bend[i + 1]) / diagonal[i];
        }
        Spline { x, y, bend }
    }

    fn at(&self, x: f64) -> f64 {
        let last = self.x.len() - 2;
        let i = self.x.partition_point(|&v| v <= x).saturating_sub(1).min(last);
        let gap = self.x[i + 1] - self.x[i];
        let (left, right) = (self.x[i + 1] - x, x - self.x[i]);
        (self.bend[i] * left.powi(3) + self.bend[i + 1] * right.powi(3)) / gap
            + (self.y[i] / gap - self.bend[i] * gap) * left
            + (self.y[i + 1] / gap - self.bend[i + 1] * gap) * right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spline_through_a_cubic_is_that_cubic() {
        let x = [-1.0, 0.0, 0.5, 2.0, 3.0];
        let cubic = |x: f64| 1.0 - 2.0 * x + 0.5 * x * x + 0.25 * x * x * x;
        let y = x.map(cubic);
        let spline = Spline::new(&x, &y);
        assert!([-0.7, 0.2, 1.3, 2.9].iter().all(|&v| (spline.at(v) - cubic(v)).abs() < 1e-12));
    }
}
