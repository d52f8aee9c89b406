//! Maximally selected rank statistics: the cut-off of a predictor that separates survival best, and what its choice
//! costs.

use super::StatisticsError;
use super::distributions::normal_two_sided;
use super::kaplan_meier::{ascending, check, check_events, check_finite, check_length};

/// The best cut-off of a predictor.
#[derive(Debug, Clone, PartialEq)]
pub struct CutOff {
    /// Patients with values up to this one form the lower group.
    pub cut_off: f64,
    /// Largest standardized log-rank statistic over the cut-offs.
    pub statistic: f64,
    /// P value that allows for the choice among cut-offs, after Lausen and Schumacher 1992 (`Lau92`).
    pub p_lausen_1992: f64,
    /// The same after Lausen, Sauerbrei and Schumacher 1994 (`Lau94`), better for few cut-offs.
    pub p_lausen_1994: f64,
    /// Every cut-off that was tried, ascending, with its statistic.
    pub tried: Vec<(f64, f64)>,
}

/// Cut-off of `x` with the largest log-rank statistic (`maxstat.test(smethod = "LogRank")` of R's package maxstat, p
/// value methods `Lau92` and `Lau94`). `proportions`: the lower group holds at least the first and at most the second
/// share of patients, (0.1, 0.9) as a rule.
pub fn cut_off(time: &[f64], event: &[u8], x: &[f64], proportions: (f64, f64)) -> Result<CutOff, StatisticsError> {
    check(time, event, 1)?;
    check_events(event)?;
    check_length("values", x.len(), time.len())?;
    check_finite("x", x)?;
    let (from, to) = proportions;
    if !(0.0 < from && from < to && to < 1.0) {
        return Err(StatisticsError::Degenerate {
            what: format!("the proportions of a cut-off ascend within 0 and 1, unlike {from} and {to}"),
        });
    }
    let n = x.len() as f64;
    let (least, most) = ((n * from).floor().max(1.0), (n * to).floor());
    let scores = log_rank_scores(time, event);
    let total: f64 = scores.iter().sum();
    let squares: f64 = scores.iter().map(|s| s * s).sum();
    let (mut below, mut sum) = (0.0, 0.0);
    let (mut tried, mut sizes) = (Vec::new(), Vec::new());
    for block in ascending(x).chunk_by(|&a, &b| x[a] == x[b]) {
        below += block.len() as f64;
        sum += block.iter().map(|&i| scores[i]).sum::<f64>();
        if below < least || below > most || below == n {
            continue;
        }
        // Moments of a sum of scores drawn without replacement.
        let mean = below / n * total;
        let variance = below * (n - below) / (n * n * (n - 1.0)) * (n * squares - total * total);
        tried.push((x[block[0]], (sum - mean).abs() / variance.sqrt()));
        sizes.push(below);
    }
    let best = tried.iter().copied().reduce(|best, next| if next.1 > best.1 { next } else { best });
    let Some((cut_off, statistic)) = best else {
        return Err(StatisticsError::Degenerate {
            what: "no value of x splits the patients within the proportions".into(),
        });
    };
    Ok(CutOff {
        cut_off,
        statistic,
        p_lausen_1992: p_lausen_1992(statistic, proportions),
        p_lausen_1994: p_lausen_1994(statistic, &sizes, n),
        tried,
    })
}

/// Log-rank scores after Hothorn and Lausen 2003: event less the sum of 1 / (n - rank + 1) over events up to the time,
/// where tied times all have the largest of their ranks.
fn log_rank_scores(time: &[f64], event: &[u8]) -> Vec<f64> {
    let mut scores = vec![0.0; time.len()];
    let (mut hazard, mut rank) = (0.0, 0);
    for block in ascending(time).chunk_by(|&a, &b| time[a] == time[b]) {
        rank += block.len();
        let events: f64 = block.iter().map(|&i| f64::from(event[i])).sum();
        hazard += events / (time.len() - rank + 1) as f64;
        block.iter().for_each(|&i| scores[i] = f64::from(event[i]) - hazard);
    }
    scores
}

/// Tail of the largest value of a standardized Brownian bridge between two proportions (Miller and Siegmund 1982).
fn p_lausen_1992(b: f64, (from, to): (f64, f64)) -> f64 {
    // The approximation is one of the far tail.
    if b < 1.0 {
        return 1.0;
    }
    let density = (-b * b / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let odds = (to * (1.0 - from) / ((1.0 - to) * from)).ln();
    (4.0 * density / b + density * (b - 1.0 / b) * odds).clamp(0.0, 1.0)
}

/// Improved Bonferroni inequality over cut-offs with `sizes` patients in the lower group.
fn p_lausen_1994(b: f64, sizes: &[f64], n: f64) -> f64 {
    let neighbors = sizes.windows(2).map(|m| {
        let t = (1.0 - m[0] * (n - m[1]) / ((n - m[0]) * m[1])).sqrt();
        (-b * b / 2.0).exp() / std::f64::consts::PI * (t - (b * b / 4.0 - 1.0) * t.powi(3) / 6.0)
    });
    (normal_two_sided(b) + neighbors.sum::<f64>()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_three_patients() {
        // 1 - 1/3, then 0 - 1/3, then 1 - (1/3 + 1)
        let scores = log_rank_scores(&[1.0, 2.0, 3.0], &[1, 0, 1]);
        assert!(scores.iter().zip([2.0 / 3.0, -1.0 / 3.0, -1.0 / 3.0]).all(|(a, b)| (a - b).abs() < 1e-15));
    }

    #[test]
    fn the_cut_off_lies_where_survival_changes() {
        let time: Vec<f64> = (0..20).map(|i| if i < 8 { 100.0 + f64::from(i) } else { f64::from(i) }).collect();
        let x: Vec<f64> = (0..20).map(f64::from).collect();
        let found = cut_off(&time, &[1; 20], &x, (0.1, 0.9)).unwrap();
        assert_eq!(found.cut_off, 7.0);
        assert!(found.p_lausen_1994 < 0.05 && found.p_lausen_1992 < 0.05, "{found:?}");
        assert!(cut_off(&time, &[1; 20], &[1.0; 20], (0.1, 0.9)).is_err());
    }
}
