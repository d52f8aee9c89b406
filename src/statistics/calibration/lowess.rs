//! Cleveland's locally weighted regression.

use super::super::StatisticsError;
use super::super::sample::{ascending, check, mean, sorted};

/// Cleveland's locally weighted regression as R's `lowess` computes it; sorted x and the smooth. `span`: share of
/// points in each local fit; `robustness`: reweighting rounds (R's `iter`, default 3); `delta`: points nearer than this
/// are interpolated, R's default is 1 % of the range.
pub fn lowess(
    x: &[f64],
    y: &[f64],
    span: f64,
    robustness: usize,
    delta: Option<f64>,
) -> Result<(Vec<f64>, Vec<f64>), StatisticsError> {
    check("x", x, x.len())?;
    check("y", y, x.len())?;
    if x.is_empty() {
        return Err(StatisticsError::Length { what: "x", found: 0, expected: 1 });
    }
    let order = ascending(x);
    let x: Vec<f64> = order.iter().map(|&i| x[i]).collect();
    let y: Vec<f64> = order.iter().map(|&i| y[i]).collect();
    let n = x.len();
    if n < 2 {
        return Ok((x, y));
    }
    let delta = delta.unwrap_or(0.01 * (x[n - 1] - x[0]));
    let near = ((span * n as f64 + 1e-7) as usize).clamp(2, n);
    let mut smooth = vec![0.0; n];
    let mut weights = vec![1.0; n];
    for round in 0..=robustness {
        smooth_once(&x, &y, near, delta, &weights, &mut smooth);
        if round == robustness {
            break;
        }
        let residuals: Vec<f64> = y.iter().zip(&smooth).map(|(y, s)| (y - s).abs()).collect();
        let scale = mean(&residuals);
        // Six times the median absolute residual.
        let ordered = sorted(&residuals);
        let cut = 3.0 * (ordered[n / 2] + ordered[n - 1 - n / 2]);
        if cut < 1e-7 * scale {
            break;
        }
        for (weight, r) in weights.iter_mut().zip(&residuals) {
            *weight = match *r {
                r if r <= 0.001 * cut => 1.0,
                r if r <= 0.999 * cut => (1.0 - (r / cut).powi(2)).powi(2),
                _ => 0.0,
            };
        }
    }
    Ok((x, smooth))
}

/// One pass: local fits at points some `delta` apart, straight lines between them.
fn smooth_once(x: &[f64], y: &[f64], near: usize, delta: f64, weights: &[f64], smooth: &mut [f64]) {
    let n = x.len();
    let (mut left, mut right) = (0, near - 1);
    let mut last: Option<usize> = None;
    let mut i = 0;
    loop {
        // The window of the `near` nearest points.
        while right + 1 < n && x[i] - x[left] > x[right + 1] - x[i] {
            left += 1;
            right += 1;
        }
        smooth[i] = local_fit(x, y, x[i], left, right, weights).unwrap_or(y[i]);
        if let Some(last) = last.filter(|&last| last + 1 < i) {
            let width = x[i] - x[last];
            for j in last + 1..i {
                let share = (x[j] - x[last]) / width;
                smooth[j] = share * smooth[i] + (1.0 - share) * smooth[last];
            }
        }
        // Tied points share the fit; the next one is fitted where it lies beyond the cut.
        let mut settled = i;
        let cut = x[i] + delta;
        let mut next = i + 1;
        while next < n && x[next] <= cut {
            if x[next] == x[settled] {
                smooth[next] = smooth[settled];
                settled = next;
            }
            next += 1;
        }
        last = Some(settled);
        i = (settled + 1).max(next - 1);
        if settled + 1 >= n {
            break;
        }
    }
}

/// Weighted straight line at `at`, tricube weights over the window; none where no point has weight.
fn local_fit(x: &[f64], y: &[f64], at: f64, left: usize, right: usize, robustness: &[f64]) -> Option<f64> {
    let n = x.len();
    let range = x[n - 1] - x[0];
    let h = (at - x[left]).max(x[right] - at);
    let (far, close) = (0.999 * h, 0.001 * h);
    let mut weights = Vec::with_capacity(right - left + 1);
    let mut sum = 0.0;
    // Beyond the window lie only ties of its right end.
    for j in left..n {
        let distance = (x[j] - at).abs();
        let mut weight = 0.0;
        if distance <= far {
            let tricube = if distance <= close { 1.0 } else { (1.0 - (distance / h).powi(3)).powi(3) };
            weight = tricube * robustness[j];
            sum += weight;
        } else if x[j] > at {
            break;
        }
        weights.push(weight);
    }
    if sum <= 0.0 {
        return None;
    }
    weights.iter_mut().for_each(|w| *w /= sum);
    let window = left..left + weights.len();
    if h > 0.0 {
        let center: f64 = weights.iter().zip(&x[window.clone()]).map(|(w, x)| w * x).sum();
        let spread: f64 = weights.iter().zip(&x[window.clone()]).map(|(w, x)| w * (x - center) * (x - center)).sum();
        // Points on one spot carry a mean, no slope.
        if spread.sqrt() > 0.001 * range {
            let slope = (at - center) / spread;
            weights.iter_mut().zip(&x[window.clone()]).for_each(|(w, x)| *w *= slope * (x - center) + 1.0);
        }
    }
    Some(weights.iter().zip(&y[window]).map(|(w, y)| w * y).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_line_is_its_own_smooth() {
        let x = [0.0, 1.0, 2.0, 2.0, 3.0, 5.0];
        let y = x.map(|v| 2.0 * v + 1.0);
        for robustness in [0, 3] {
            let (_, smooth) = lowess(&x, &y, 0.7, robustness, Some(0.0)).unwrap();
            assert!(smooth.iter().zip(y).all(|(s, y)| (s - y).abs() < 1e-12), "{smooth:?}");
        }
    }
}
