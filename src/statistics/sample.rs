//! Checks of what comes in, ranks and quantiles: what the files of this room share.

use super::StatisticsError;

/// One value for each row, each finite.
pub(super) fn check(what: &'static str, values: &[f64], rows: usize) -> Result<(), StatisticsError> {
    if values.len() != rows {
        return Err(StatisticsError::Length { what, found: values.len(), expected: rows });
    }
    match values.iter().position(|v| !v.is_finite()) {
        Some(row) => Err(StatisticsError::NotFinite { what, row }),
        None => Ok(()),
    }
}

/// Numbers of rows with and without the event; both must occur.
pub(super) fn class_sizes(outcome: &[bool]) -> Result<(usize, usize), StatisticsError> {
    let events = outcome.iter().filter(|&&y| y).count();
    let others = outcome.len() - events;
    if events == 0 || others == 0 {
        let what = format!("the outcome has {events} rows with and {others} without the event: both are needed");
        return Err(StatisticsError::Degenerate { what });
    }
    Ok((events, others))
}

/// Row numbers in increasing order of the values; ties in order of the rows.
pub(super) fn ascending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    order
}

/// A sorted copy.
pub(super) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// Ranks from 1, ties at their mean, and the sum of t^3 - t over groups of t tied values.
pub(super) fn mid_ranks(values: &[f64]) -> (Vec<f64>, f64) {
    let order = ascending(values);
    let mut ranks = vec![0.0; values.len()];
    let mut ties = 0.0;
    let mut first = 0;
    for group in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let t = group.len() as f64;
        for &row in group {
            ranks[row] = first as f64 + 0.5 * (t + 1.0);
        }
        ties += t * (t * t - 1.0);
        first += group.len();
    }
    (ranks, ties)
}

/// Quantile of sorted values as R's default (type 7) interpolates it, in R's own steps: groups are cut at quantiles,
/// where the last digit decides to which group a patient belongs.
pub(super) fn quantile(sorted: &[f64], p: f64) -> f64 {
    let index = 1.0 + (sorted.len() - 1) as f64 * p;
    let (below, above) = (sorted[index.floor() as usize - 1], sorted[(index.ceil() as usize).min(sorted.len()) - 1]);
    let share = index - index.floor();
    if share > 0.0 && above != below { (1.0 - share) * below + share * above } else { below }
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// With n - 1.
pub(super) fn variance(values: &[f64]) -> f64 {
    let center = mean(values);
    values.iter().map(|v| (v - center) * (v - center)).sum::<f64>() / (values.len() as f64 - 1.0)
}

/// Pearson's correlation of two columns.
pub(super) fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let (mx, my) = (mean(x), mean(y));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (a, b) in x.iter().zip(y) {
        xx += (a - mx) * (a - mx);
        yy += (b - my) * (b - my);
        xy += (a - mx) * (b - my);
    }
    xy / (xx * yy).sqrt()
}
