//! A chart: a frame with two axes over a [`Drawing`].

use super::drawing::{Anchor, Drawing, INK};
use super::font::text_width;
use super::nomogram_axes::{format_number, pretty};

/// The Okabe-Ito palette without yellow: told apart with any color vision and in gray print, together with dashes.
pub const PALETTE: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"];
/// Grid lines.
pub const PALE: &str = "#e4e4e4";
/// Dashes by series, so that lines differ without color.
pub const DASHES: [&str; 4] = ["", "7 3", "2 3", "9 3 2 3"];

/// One axis of a chart.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// Value at the left or lower end.
    pub low: f64,
    /// Value at the right or upper end.
    pub high: f64,
    /// Whether the scale is logarithmic.
    pub log: bool,
}

impl Range {
    /// A linear axis.
    pub fn linear(low: f64, high: f64) -> Range {
        let high = if high > low { high } else { low + 1.0 };
        Range { low, high, log: false }
    }

    /// A linear axis that covers all values, with a margin of 4 %.
    pub fn around(values: impl Iterator<Item = f64>) -> Range {
        let (low, high) =
            values.filter(|v| v.is_finite()).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        if low > high {
            return Range::linear(0.0, 1.0);
        }
        let margin = ((high - low) * 0.04).max(1e-9);
        Range::linear(low - margin, high + margin)
    }

    /// A logarithmic axis, both ends above 0.
    pub fn logarithmic(low: f64, high: f64) -> Range {
        Range { low: low.max(1e-12), high: high.max(low.max(1e-12) * 1.01), log: true }
    }

    fn share(&self, value: f64) -> f64 {
        if self.log {
            (value.max(1e-300) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// Round values within the axis.
    pub fn ticks(&self, n: usize) -> Vec<f64> {
        let inside = |v: &f64| (-1e-9..=1.0 + 1e-9).contains(&self.share(*v));
        if !self.log {
            return pretty(self.low, self.high, n).into_iter().filter(inside).collect();
        }
        let decades = (self.low.log10().floor() as i32)..=(self.high.log10().ceil() as i32);
        let steps: &[f64] = if self.high / self.low > 200.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        decades.flat_map(|d| steps.iter().map(move |s| s * 10f64.powi(d))).filter(inside).collect()
    }
}

/// A chart: a frame with two axes, drawn over a [`Drawing`].
#[derive(Debug)]
pub struct Chart {
    /// The drawing, for what the chart has no method for.
    pub drawing: Drawing,
    /// Left, top, right, bottom of the frame in px.
    pub frame: [f64; 4],
    x: Range,
    y: Range,
}

/// Sizes of a chart and its margins.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Width and height in px.
    pub size: [f64; 2],
    /// Left, top, right, bottom.
    pub margin: [f64; 4],
}

impl Layout {
    /// A square plot of one column.
    pub const SQUARE: Layout = Layout { size: [440.0, 420.0], margin: [58.0, 16.0, 16.0, 50.0] };
    /// A wide plot of one column.
    pub const WIDE: Layout = Layout { size: [560.0, 380.0], margin: [62.0, 18.0, 18.0, 50.0] };
}

impl Chart {
    /// Axes with ticks, grid and labels.
    pub fn new(layout: Layout, x: Range, y: Range, x_label: &str, y_label: &str) -> Chart {
        let mut chart = Chart::empty(layout, x, y);
        let frame = chart.frame;
        let [left, top, ..] = frame;
        for tick in y.ticks(6) {
            let at = chart.at(x.low, tick)[1];
            chart.drawing.line([left, at], [frame[2], at], PALE, 1.0, "");
            chart.drawing.text([left - 7.0, at + 4.0], 12.0, Anchor::End, INK, &format_number(tick));
        }
        for tick in x.ticks(6) {
            let at = chart.at(tick, y.low)[0];
            chart.drawing.line([at, frame[3]], [at, frame[3] + 5.0], INK, 1.0, "");
            chart.drawing.text([at, frame[3] + 18.0], 12.0, Anchor::Middle, INK, &format_number(tick));
        }
        chart.drawing.line([left, top], [left, frame[3]], INK, 1.0, "");
        chart.drawing.line([left, frame[3]], [frame[2], frame[3]], INK, 1.0, "");
        chart.drawing.text([(left + frame[2]) / 2.0, frame[3] + 38.0], 13.0, Anchor::Middle, INK, x_label);
        chart.drawing.upward([16.0, (top + frame[3]) / 2.0], 13.0, y_label);
        chart
    }

    /// Only the frame's geometry, nothing drawn yet.
    pub fn empty(layout: Layout, x: Range, y: Range) -> Chart {
        let Layout { size: [width, height], margin: [left, top, right, bottom] } = layout;
        Chart { drawing: Drawing::new(width, height), frame: [left, top, width - right, height - bottom], x, y }
    }

    /// Where a point of the data lies in px.
    pub fn at(&self, x: f64, y: f64) -> [f64; 2] {
        let [left, top, right, bottom] = self.frame;
        let (x, y) = (self.x.share(x).clamp(-0.5, 1.5), self.y.share(y).clamp(-0.5, 1.5));
        [left + x * (right - left), bottom - y * (bottom - top)]
    }

    fn clipped(&self, points: &[[f64; 2]]) -> Vec<[f64; 2]> {
        let [left, top, right, bottom] = self.frame;
        let points = points.iter().filter(|p| p[0].is_finite() && p[1].is_finite()).map(|p| self.at(p[0], p[1]));
        points.map(|[x, y]| [x.clamp(left, right), y.clamp(top, bottom)]).collect()
    }

    /// A line through points of the data.
    pub fn line(&mut self, points: &[[f64; 2]], color: &str, width: f64, dash: &str) {
        let points = self.clipped(points);
        self.drawing.polyline(&points, color, width, dash);
    }

    /// Steps: each value holds until the next x.
    pub fn steps(&mut self, points: &[[f64; 2]], color: &str, width: f64, dash: &str) {
        let points = staircase(points);
        self.line(&points, color, width, dash);
    }

    /// The band between two lines over the same x.
    pub fn band(&mut self, lower: &[[f64; 2]], upper: &[[f64; 2]], color: &str) {
        let mut points = self.clipped(lower);
        points.extend(self.clipped(upper).into_iter().rev());
        self.drawing.area(&points, color, 0.15);
    }

    /// Dots.
    pub fn dots(&mut self, points: &[[f64; 2]], radius: f64, color: &str, opacity: f64) {
        for point in self.clipped(points) {
            self.drawing.dot(point, radius, color, opacity);
        }
    }

    /// A vertical bar of uncertainty with caps.
    pub fn error_bar(&mut self, x: f64, low: f64, high: f64, color: &str) {
        let ends = self.clipped(&[[x, low], [x, high]]);
        if let [a, b] = ends[..] {
            self.drawing.line(a, b, color, 1.2, "");
            for [px, py] in [a, b] {
                self.drawing.line([px - 3.0, py], [px + 3.0, py], color, 1.2, "");
            }
        }
    }

    /// Names of the series: lower right (`true`) or upper right corner.
    pub fn legend(&mut self, entries: &[(String, &str, &str)], lower: bool) {
        let longest = entries.iter().map(|(t, ..)| text_width(t, 12.0, false)).fold(0.0, f64::max);
        let width = longest + 44.0;
        let height = entries.len() as f64 * 17.0 + 8.0;
        let [_, top, right, bottom] = self.frame;
        let corner = [right - width - 6.0, if lower { bottom - height - 8.0 } else { top + 4.0 }];
        self.drawing.rect(corner, [width, height], "#ffffff", "#dddddd");
        for (i, (text, color, dash)) in entries.iter().enumerate() {
            let y = corner[1] + 17.0 * i as f64 + 14.0;
            self.drawing.line([corner[0] + 8.0, y - 1.0], [corner[0] + 32.0, y - 1.0], color, 2.2, dash);
            self.drawing.text([corner[0] + 38.0, y + 3.0], 12.0, Anchor::Start, INK, text);
        }
    }
}

/// The corners of a step function.
pub fn staircase(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let mut corners = Vec::with_capacity(points.len() * 2);
    for point in points {
        if let Some(last) = corners.last().copied() {
            let [_, y]: [f64; 2] = last;
            corners.push([point[0], y]);
        }
        corners.push(*point);
    }
    corners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_is_xml_without_scripts() {
        let mut chart =
            Chart::new(Layout::SQUARE, Range::linear(0.0, 1.0), Range::logarithmic(0.01, 10.0), "a < b & c", "y");
        chart.steps(&[[0.0, 1.0], [0.5, 0.5], [f64::NAN, 1.0]], PALETTE[0], 2.0, "");
        chart.legend(&[("model \"x\"".into(), PALETTE[0], "")], true);
        let text = chart.drawing.titled("chart").svg();
        assert!(text.contains("a &lt; b &amp; c") && text.contains("model &quot;x&quot;"));
        assert!(!text.contains("NaN") && !text.contains("<script"));
        assert_eq!(text.matches("<text").count(), text.matches("</text>").count());
    }

    #[test]
    fn a_staircase_holds_each_value_until_the_next() {
        assert_eq!(staircase(&[[0.0, 1.0], [2.0, 0.5]]), [[0.0, 1.0], [2.0, 1.0], [2.0, 0.5]]);
    }
}
