//! The figures of the report, each a function from values to a drawing.

use super::chart::{Chart, DASHES, Layout, PALE, PALETTE, Range, staircase};
use super::drawing::{Anchor, Drawing, GRAY, INK};
use super::font::text_width;
use super::nomogram_axes::format_number;

/// A line with its name.
#[derive(Debug, Clone)]
pub struct Series {
    /// For the legend.
    pub name: String,
    /// Points (x, y), ascending in x.
    pub points: Vec<[f64; 2]>,
}

/// Color and dashes of the n-th series.
fn style(index: usize) -> (&'static str, &'static str) {
    (PALETTE[index % PALETTE.len()], DASHES[index % DASHES.len()])
}

fn legend(chart: &mut Chart, names: &[String], lower: bool) {
    let entries: Vec<(String, &str, &str)> =
        names.iter().enumerate().map(|(i, name)| (name.clone(), style(i).0, style(i).1)).collect();
    chart.legend(&entries, lower);
}

/// Receiver operating characteristic; points are (1 - specificity, sensitivity).
pub fn roc(series: &[Series]) -> Drawing {
    let unit = Range::linear(0.0, 1.0);
    let mut chart = Chart::new(Layout::SQUARE, unit, unit, "1 - specificity", "Sensitivity");
    chart.line(&[[0.0, 0.0], [1.0, 1.0]], GRAY, 1.0, "3 3");
    for (i, one) in series.iter().enumerate().rev() {
        chart.line(&one.points, style(i).0, 2.0, style(i).1);
    }
    legend(&mut chart, &series.iter().map(|s| s.name.clone()).collect::<Vec<_>>(), true);
    chart.drawing.titled("Receiver operating characteristic")
}

/// A group of patients in a calibration plot.
#[derive(Debug, Clone, Copy)]
pub struct CalibrationGroup {
    /// Mean predicted probability.
    pub predicted: f64,
    /// Share with the event, and its interval.
    pub observed: [f64; 3],
}

/// Calibration: smooth line, groups with intervals, and how the predictions are spread by outcome.
pub fn calibration(
    smooth: &[[f64; 2]],
    groups: &[CalibrationGroup],
    predicted: &[f64],
    event: &[bool],
    name: &str,
) -> Drawing {
    let layout = Layout { size: [440.0, 470.0], margin: [58.0, 16.0, 16.0, 100.0] };
    let unit = Range::linear(0.0, 1.0);
    let mut chart = Chart::new(layout, unit, unit, "", "Observed share");
    chart.line(&[[0.0, 0.0], [1.0, 1.0]], GRAY, 1.0, "3 3");
    chart.line(smooth, PALETTE[0], 2.2, "");
    for group in groups {
        chart.error_bar(group.predicted, group.observed[1], group.observed[2], PALETTE[1]);
        chart.dots(&[[group.predicted, group.observed[0]]], 3.5, PALETTE[1], 1.0);
    }
    let [left, _, right, bottom] = chart.frame;
    let base = bottom + 52.0;
    chart.drawing.line([left, base], [right, base], GRAY, 0.8, "");
    let bins = 40;
    for (class, sign) in [(true, -1.0), (false, 1.0)] {
        let mut counts = vec![0usize; bins];
        for (p, _) in predicted.iter().zip(event).filter(|(_, e)| **e == class) {
            counts[((p * bins as f64) as usize).min(bins - 1)] += 1;
        }
        let most = counts.iter().copied().max().unwrap_or(1).max(1) as f64;
        for (bin, count) in counts.iter().enumerate().filter(|(_, c)| **c > 0) {
            let x = left + (bin as f64 + 0.5) / bins as f64 * (right - left);
            let height = 18.0 * *count as f64 / most;
            chart.drawing.line(
                [x, base],
                [x, base + sign * height],
                if class { PALETTE[1] } else { PALETTE[0] },
                3.0,
                "",
            );
        }
    }
    chart.drawing.text([left - 6.0, base - 5.0], 11.0, Anchor::End, PALETTE[1], "event");
    chart.drawing.text([left - 6.0, base + 13.0], 11.0, Anchor::End, PALETTE[0], "none");
    chart.drawing.text([(left + right) / 2.0, bottom + 92.0], 13.0, Anchor::Middle, INK, "Predicted probability");
    chart.legend(
        &[
            ("smooth (lowess)".into(), PALETTE[0], ""),
            ("groups, 95 % CI".into(), PALETTE[1], ""),
            ("ideal".into(), GRAY, "3 3"),
        ],
        true,
    );
    chart.drawing.titled(&format!("Calibration, {name}"))
}

/// Net benefit over thresholds, with the policies "treat all" and "treat none".
pub fn decision_curve(series: &[Series], all: &[[f64; 2]]) -> Drawing {
    let top =
        series.iter().flat_map(|s| s.points.iter().map(|p| p[1])).chain(all.iter().map(|p| p[1])).fold(0.05, f64::max);
    let right = series.iter().flat_map(|s| s.points.iter().map(|p| p[0])).fold(0.1, f64::max);
    let (x, y) = (Range::linear(0.0, right), Range::linear(-0.15 * top, top * 1.08));
    let mut chart = Chart::new(Layout::WIDE, x, y, "Threshold probability", "Net benefit");
    let inside: Vec<[f64; 2]> = all.iter().copied().filter(|p| p[1] >= -0.15 * top).collect();
    chart.line(&inside, GRAY, 1.5, "");
    chart.line(&[[0.0, 0.0], [right, 0.0]], INK, 1.2, "");
    for (i, one) in series.iter().enumerate().rev() {
        chart.line(&one.points, style(i).0, 2.0, style(i).1);
    }
    let mut entries: Vec<(String, &str, &str)> =
        series.iter().enumerate().map(|(i, s)| (s.name.clone(), style(i).0, style(i).1)).collect();
    entries.extend([("treat all".into(), GRAY, ""), ("treat none".into(), INK, "")]);
    chart.legend(&entries, false);
    chart.drawing.titled("Decision curve")
}

/// A group of a survival plot.
#[derive(Debug, Clone)]
pub struct SurvivalGroup {
    /// For the legend.
    pub name: String,
    /// Time, survival, lower, upper; the first at time 0.
    pub curve: Vec<[f64; 4]>,
    /// (time, survival) of censored patients.
    pub censored: Vec<[f64; 2]>,
    /// Number at risk at each time of the table below.
    pub at_risk: Vec<usize>,
}

/// Kaplan-Meier curves (or cumulative incidences, `rising`) up to `last` months, with intervals, censor marks and a table of
/// numbers at risk at `times`.
pub fn survival(
    groups: &[SurvivalGroup],
    last: f64,
    times: &[f64],
    y_label: &str,
    note: &str,
    rising: bool,
) -> Drawing {
    let table = groups.len() as f64 * 17.0 + 24.0;
    let table = if groups.iter().all(|g| g.at_risk.is_empty()) { 0.0 } else { table };
    let layout = Layout { size: [560.0, 388.0 + table], margin: [96.0, 34.0, 20.0, 50.0 + table] };
    let top = if rising {
        groups.iter().flat_map(|g| g.curve.iter().map(|c| c[3].max(c[1]))).fold(0.1, f64::max).min(1.0)
    } else {
        1.0
    };
    let (x, y) = (Range::linear(0.0, last), Range::linear(0.0, top));
    let mut chart = Chart::new(layout, x, y, "Months", y_label);
    for (i, group) in groups.iter().enumerate() {
        let of = |k: usize| group.curve.iter().map(|c| [c[0], c[k]]).filter(|p| p[0] <= last).collect::<Vec<_>>();
        let (lower, upper) = (staircase(&of(2)), staircase(&of(3)));
        chart.band(&lower, &upper, style(i).0);
        chart.steps(&of(1), style(i).0, 2.0, style(i).1);
        for [time, level] in group.censored.iter().filter(|c| c[0] <= last) {
            let [px, py] = chart.at(*time, *level);
            chart.drawing.line([px, py - 3.5], [px, py + 3.5], style(i).0, 1.0, "");
        }
    }
    let [left, top_px, right, bottom] = chart.frame;
    let mut x = left;
    for (i, group) in groups.iter().enumerate() {
        chart.drawing.line([x, 16.0], [x + 24.0, 16.0], style(i).0, 2.2, style(i).1);
        chart.drawing.text([x + 30.0, 20.0], 12.0, Anchor::Start, INK, &group.name);
        x += 54.0 + text_width(&group.name, 12.0, false);
    }
    let corner = if rising { [left + 10.0, top_px + 16.0] } else { [left + 10.0, bottom - 12.0] };
    chart.drawing.text(corner, 12.0, Anchor::Start, INK, note);
    if table > 0.0 {
        chart.drawing.bold([left - 8.0, bottom + 62.0], 11.5, Anchor::End, INK, "At risk");
        for (i, group) in groups.iter().enumerate() {
            let y = bottom + 79.0 + 17.0 * i as f64;
            chart.drawing.text([left - 18.0, y], 11.5, Anchor::End, style(i).0, &group.name);
            for (time, n) in times.iter().zip(&group.at_risk) {
                let px = chart.at(*time, 0.0)[0].min(right);
                chart.drawing.text([px, y], 11.5, Anchor::Middle, INK, &n.to_string());
            }
        }
    }
    chart.drawing.titled(y_label)
}

/// The cross-validation curve of a penalized model: mean and standard error over ln lambda, and the two chosen penalties.
pub fn cv_curve(
    lambda: &[f64],
    mean: &[f64],
    se: &[f64],
    nonzero: &[usize],
    chosen: [usize; 2],
    y_label: &str,
) -> Drawing {
    let layout = Layout { size: [560.0, 390.0], margin: [62.0, 38.0, 18.0, 50.0] };
    let x = Range::around(lambda.iter().map(|l| l.ln()));
    let y = Range::around(mean.iter().zip(se).flat_map(|(m, s)| [m - s, m + s]));
    let mut chart = Chart::new(layout, x, y, "ln(lambda)", y_label);
    let [_, top, _, bottom] = chart.frame;
    for (index, dash) in chosen.iter().zip(["", "5 3"]) {
        if let Some(l) = lambda.get(*index) {
            let px = chart.at(l.ln(), y.low)[0];
            chart.drawing.line([px, top], [px, bottom], GRAY, 1.2, dash);
        }
    }
    for ((l, m), s) in lambda.iter().zip(mean).zip(se) {
        chart.error_bar(l.ln(), m - s, m + s, "#b9b9b9");
    }
    let points: Vec<[f64; 2]> = lambda.iter().zip(mean).map(|(l, m)| [l.ln(), *m]).collect();
    chart.dots(&points, 2.6, PALETTE[1], 1.0);
    for (l, n) in lambda.iter().zip(nonzero).step_by((lambda.len() / 10).max(1)) {
        let px = chart.at(l.ln(), y.low)[0];
        chart.drawing.text([px, top - 8.0], 11.0, Anchor::Middle, INK, &n.to_string());
    }
    chart.drawing.text(
        [chart.frame[2], top - 24.0],
        11.0,
        Anchor::End,
        INK,
        "features with a coefficient; solid: minimum, dashed: one standard error",
    );
    chart.drawing.titled("Cross-validation curve")
}

/// Coefficients over ln lambda, one line for each feature; `chosen` is the penalty taken.
pub fn coefficient_path(lambda: &[f64], coefficients: &[Vec<f64>], chosen: usize) -> Drawing {
    // The late, nearly unpenalized part of the path would flatten all before it.
    let until = (chosen + chosen / 3 + 5).min(lambda.len());
    let x = Range::around(lambda.iter().take(until).map(|l| l.ln()));
    let shown = coefficients.iter().flat_map(|c| c.iter().take(until).copied());
    let mut chart = Chart::new(Layout::WIDE, x, Range::around(shown), "ln(lambda)", "Standardized coefficient");
    let [_, top, _, bottom] = chart.frame;
    if let Some(l) = lambda.get(chosen) {
        let px = chart.at(l.ln(), 0.0)[0];
        chart.drawing.line([px, top], [px, bottom], GRAY, 1.2, "");
    }
    for (i, path) in coefficients.iter().enumerate() {
        let points: Vec<[f64; 2]> = lambda.iter().zip(path).take(until).map(|(l, c)| [l.ln(), *c]).collect();
        chart.line(&points, PALETTE[i % PALETTE.len()], 1.1, "");
    }
    chart.drawing.titled("Coefficient path")
}

/// SHAP values of a feature over the patients; the value decides the color, 0 low to 1 high.
#[derive(Debug, Clone)]
pub struct Swarm {
    /// Feature.
    pub name: String,
    /// (SHAP value, relative value) of each patient.
    pub points: Vec<[f64; 2]>,
}

/// Beeswarm of SHAP values, one row for each feature.
pub fn beeswarm(rows: &[Swarm], x_label: &str) -> Drawing {
    let left = label_width(rows.iter().map(|r| r.name.as_str()));
    let (width, step) = (left + 440.0, 30.0);
    let height = rows.len() as f64 * step + 62.0;
    let range = Range::around(rows.iter().flat_map(|r| r.points.iter().map(|p| p[0])));
    let layout = Layout { size: [width, height], margin: [left, 8.0, 54.0, 46.0] };
    let mut chart = bare(layout, range, x_label);
    let [_, top, right, _] = chart.frame;
    for (i, row) in rows.iter().enumerate() {
        let middle = top + step * (i as f64 + 0.5);
        chart.drawing.text([left - 8.0, middle + 4.0], 12.0, Anchor::End, INK, &row.name);
        let mut columns: std::collections::BTreeMap<i64, usize> = std::collections::BTreeMap::new();
        for [shap, value] in &row.points {
            let px = chart.at(*shap, 0.0)[0];
            let stacked = columns.entry((px / 3.0) as i64).or_default();
            let rank = *stacked as f64;
            *stacked += 1;
            // Alternating above and below the middle, at most to the edges of the row.
            let offset = (rank / 2.0).ceil() * 2.3 * if stacked.is_multiple_of(2) { 1.0 } else { -1.0 };
            let py = middle + offset.clamp(-step / 2.0 + 3.0, step / 2.0 - 3.0);
            chart.drawing.dot([px, py], 2.1, &blend(*value), 0.85);
        }
    }
    let (x, tall) = (right + 14.0, (rows.len() as f64 * step).min(150.0));
    for k in 0..30 {
        let share = k as f64 / 29.0;
        chart.drawing.rect(
            [x, top + tall * (1.0 - (k + 1) as f64 / 30.0)],
            [9.0, tall / 30.0 + 0.6],
            &blend(share),
            "none",
        );
    }
    chart.drawing.text([x + 12.0, top + 10.0], 11.0, Anchor::Start, INK, "high");
    chart.drawing.text([x + 12.0, top + tall], 11.0, Anchor::Start, INK, "low");
    chart.drawing.titled("SHAP values of all patients")
}

/// From blue (low) through gray to vermilion (high).
fn blend(share: f64) -> String {
    let share = share.clamp(0.0, 1.0);
    let (from, to, t) = if share < 0.5 {
        ([0.0, 114.0, 178.0], [190.0, 190.0, 190.0], share * 2.0)
    } else {
        ([190.0, 190.0, 190.0], [213.0, 94.0, 0.0], share * 2.0 - 1.0)
    };
    let mixed: Vec<u8> = (0..3).map(|i| (from[i] + (to[i] - from[i]) * t).round() as u8).collect();
    format!("#{:02x}{:02x}{:02x}", mixed[0], mixed[1], mixed[2])
}

fn label_width<'a>(names: impl Iterator<Item = &'a str>) -> f64 {
    names.map(|n| text_width(n, 12.0, false)).fold(60.0, f64::max) + 18.0
}

/// A chart with an x axis alone and a line at 0.
fn bare(layout: Layout, range: Range, x_label: &str) -> Chart {
    let Layout { size: [width, height], margin: [left, top, right, bottom] } = layout;
    let y = Range { low: 0.0, high: 1.0, log: false };
    let mut chart = Chart::empty(layout, range, y);
    let (right, bottom) = (width - right, height - bottom);
    for tick in range.ticks(6) {
        let px = chart.at(tick, 0.0)[0];
        chart.drawing.line([px, top], [px, bottom], PALE, 1.0, "");
        chart.drawing.text([px, bottom + 17.0], 12.0, Anchor::Middle, INK, &format_number(tick));
    }
    chart.drawing.line([left, bottom], [right, bottom], INK, 1.0, "");
    let zero = if range.log { 1.0 } else { 0.0 };
    if zero >= range.low && zero <= range.high {
        let px = chart.at(zero, 0.0)[0];
        chart.drawing.line([px, top], [px, bottom], GRAY, 1.2, "");
    }
    chart.drawing.text([(left + right) / 2.0, bottom + 36.0], 13.0, Anchor::Middle, INK, x_label);
    chart
}

/// Horizontal bars, in the given order.
pub fn bars(items: &[(String, f64)], x_label: &str) -> Drawing {
    let left = label_width(items.iter().map(|i| i.0.as_str()));
    let (width, step) = (left + 400.0, 24.0);
    let layout = Layout { size: [width, items.len() as f64 * step + 58.0], margin: [left, 8.0, 56.0, 46.0] };
    let most = items.iter().map(|i| i.1).fold(1e-12, f64::max);
    let mut chart = bare(layout, Range::linear(0.0, most * 1.02), x_label);
    for (i, (name, value)) in items.iter().enumerate() {
        let y = 8.0 + step * i as f64;
        let [start, end] = [chart.at(0.0, 0.0)[0], chart.at(*value, 0.0)[0]];
        chart.drawing.rect([start, y + 4.0], [end - start, step - 8.0], PALETTE[0], "none");
        chart.drawing.text([left - 8.0, y + 16.0], 12.0, Anchor::End, INK, name);
        chart.drawing.text([end + 5.0, y + 16.0], 11.5, Anchor::Start, INK, &format!("{value:.2}"));
    }
    chart.drawing.titled(x_label)
}

/// How the contributions lead from the base to the prediction of one patient. Items: name with value, contribution.
pub fn waterfall(base: f64, items: &[(String, f64)], unit: &str) -> Drawing {
    let left = label_width(items.iter().map(|i| i.0.as_str()));
    let (width, step) = (left + 420.0, 25.0);
    let layout = Layout { size: [width, items.len() as f64 * step + 84.0], margin: [left, 24.0, 48.0, 46.0] };
    let mut sums = vec![base];
    for (_, value) in items {
        sums.push(sums.last().copied().unwrap_or(base) + value);
    }
    let mut chart = bare(layout, Range::around(sums.iter().copied()), unit);
    for (i, (name, value)) in items.iter().enumerate() {
        let y = 24.0 + step * i as f64;
        let [a, b] = [chart.at(sums[i], 0.0)[0], chart.at(sums[i + 1], 0.0)[0]];
        let color = if *value >= 0.0 { PALETTE[1] } else { PALETTE[0] };
        chart.drawing.rect([a.min(b), y + 4.0], [(a - b).abs().max(1.0), step - 8.0], color, "none");
        chart.drawing.line([b, y + 4.0], [b, y + step + 4.0], GRAY, 0.8, "2 2");
        chart.drawing.text([left - 8.0, y + 17.0], 12.0, Anchor::End, INK, name);
        chart.drawing.text([a.max(b) + 5.0, y + 17.0], 11.5, Anchor::Start, color, &format!("{value:+.2}"));
    }
    let last = sums.last().copied().unwrap_or(base);
    let (start, end) = (chart.at(base, 0.0)[0], chart.at(last, 0.0)[0]);
    chart.drawing.text([start, 16.0], 11.5, Anchor::Middle, INK, &format!("mean {base:.2}"));
    let y = 24.0 + step * items.len() as f64;
    chart.drawing.bold([end, y + 12.0], 11.5, Anchor::Middle, INK, &format!("{last:.2}"));
    chart.drawing.titled("How the prediction of one patient comes about")
}

/// An estimate with its interval.
#[derive(Debug, Clone)]
pub struct ForestRow {
    /// What was estimated.
    pub name: String,
    /// Estimate, lower, upper.
    pub estimate: [f64; 3],
    /// Text at the right.
    pub text: String,
}

/// Estimates with intervals; `log` for ratios.
pub fn forest(rows: &[ForestRow], x_label: &str, log: bool) -> Drawing {
    let left = label_width(rows.iter().map(|r| r.name.as_str()));
    let right = rows.iter().map(|r| text_width(&r.text, 12.0, false)).fold(40.0, f64::max) + 22.0;
    let step = 25.0;
    let layout =
        Layout { size: [left + 330.0 + right, rows.len() as f64 * step + 62.0], margin: [left, 8.0, right, 46.0] };
    let ends = rows.iter().flat_map(|r| r.estimate).filter(|v| v.is_finite());
    let range = if log {
        let (low, high) = ends.filter(|v| *v > 0.0).fold((1.0f64, 1.0f64), |(a, b), v| (a.min(v), b.max(v)));
        Range::logarithmic((low * 0.85).max(0.005), (high * 1.15).min(500.0))
    } else {
        Range::around(ends)
    };
    let mut chart = bare(layout, range, x_label);
    for (i, row) in rows.iter().enumerate() {
        let y = 8.0 + step * (i as f64 + 0.5);
        let [px, low, high] = row.estimate.map(|v| chart.at(v, 0.0)[0].clamp(left, chart.frame[2]));
        chart.drawing.line([low, y], [high, y], PALETTE[0], 1.6, "");
        chart.drawing.rect([px - 4.0, y - 4.0], [8.0, 8.0], PALETTE[0], "none");
        chart.drawing.text([left - 10.0, y + 4.0], 12.0, Anchor::End, INK, &row.name);
        chart.drawing.text([chart.frame[2] + 12.0, y + 4.0], 12.0, Anchor::Start, INK, &row.text);
    }
    chart.drawing.titled(x_label)
}

/// Bland-Altman: difference over mean of two measurements, with the bias and the limits of agreement.
pub fn bland_altman(pairs: &[[f64; 2]], bias: f64, limits: [f64; 2], x_label: &str) -> Drawing {
    let points: Vec<[f64; 2]> = pairs.iter().map(|[a, b]| [(a + b) / 2.0, b - a]).collect();
    let x = Range::around(points.iter().map(|p| p[0]));
    let y = Range::around(points.iter().map(|p| p[1]).chain(limits));
    let mut chart = Chart::new(Layout::WIDE, x, y, x_label, "Second - first");
    for (level, color, dash) in [(bias, INK, ""), (limits[0], PALETTE[1], "6 3"), (limits[1], PALETTE[1], "6 3")] {
        chart.line(&[[x.low, level], [x.high, level]], color, 1.4, dash);
        let [_, py] = chart.at(x.high, level);
        chart.drawing.text(
            [chart.frame[2] - 4.0, py - 5.0],
            11.0,
            Anchor::End,
            color,
            &super::format_number((level * 1e4).round() / 1e4),
        );
    }
    chart.dots(&points, 3.0, PALETTE[0], 0.7);
    chart.drawing.titled("Bland-Altman plot")
}

/// Performance over the size of training.
pub fn learning_curve(series: &[Series], y_label: &str) -> Drawing {
    let x = Range::around(series.iter().flat_map(|s| s.points.iter().map(|p| p[0])));
    let y = Range::around(series.iter().flat_map(|s| s.points.iter().map(|p| p[1])));
    let mut chart = Chart::new(Layout::WIDE, x, y, "Training patients", y_label);
    for (i, one) in series.iter().enumerate() {
        chart.line(&one.points, style(i).0, 2.0, style(i).1);
        chart.dots(&one.points, 3.5, style(i).0, 1.0);
    }
    legend(&mut chart, &series.iter().map(|s| s.name.clone()).collect::<Vec<_>>(), true);
    chart.drawing.titled("Learning curve")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_hold_what_was_asked_and_no_number_that_is_none() {
        let line = Series { name: "combined".into(), points: vec![[0.0, 0.0], [0.2, 0.9], [1.0, 1.0]] };
        let group = SurvivalGroup {
            name: "high".into(),
            curve: vec![[0.0, 1.0, 1.0, 1.0], [10.0, 0.5, 0.3, 0.7]],
            censored: vec![[5.0, 1.0]],
            at_risk: vec![10, 4],
        };
        let figures = [
            roc(std::slice::from_ref(&line)),
            decision_curve(std::slice::from_ref(&line), &line.points),
            survival(&[group], 12.0, &[0.0, 12.0], "Survival", "log-rank P < 0.001", false),
            cv_curve(&[0.1, 0.01], &[1.0, 0.9], &[0.1, 0.1], &[0, 3], [1, 0], "Deviance"),
            coefficient_path(&[0.1, 0.01], &[vec![0.0, 0.4]], 1),
            beeswarm(&[Swarm { name: "AFP".into(), points: vec![[0.1, 0.0], [-0.2, 1.0]] }], "SHAP"),
            bars(&[("AFP".into(), 0.4)], "mean |SHAP|"),
            waterfall(-1.0, &[("AFP".into(), 0.5), ("nodes".into(), -0.2)], "log odds"),
            forest(
                &[ForestRow { name: "AFP".into(), estimate: [2.0, 1.1, 4.0], text: "2.00".into() }],
                "Odds ratio",
                true,
            ),
            bland_altman(&[[1.0, 1.1], [2.0, 1.9]], 0.0, [-0.2, 0.2], "Mean"),
            learning_curve(std::slice::from_ref(&line), "AUC"),
            calibration(&[[0.1, 0.2], [0.9, 0.8]], &[], &[0.1, 0.9], &[false, true], "test"),
        ];
        for figure in figures.map(|f| f.svg()) {
            assert!(figure.starts_with("<svg") && figure.ends_with("</svg>\n"));
            assert!(!figure.contains("NaN") && !figure.contains("inf"), "{figure}");
        }
    }
}
