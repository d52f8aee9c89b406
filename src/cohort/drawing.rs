//! A drawing of a few kinds of shapes, and how it is written as SVG. No scripts, no styles from outside; dark on white.

use std::fmt::Write as _;

/// Text and axes.
pub const INK: &str = "#222222";
/// Secondary lines.
pub const GRAY: &str = "#8a8a8a";

/// Where a text is anchored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Anchor {
    /// Left end.
    Start,
    /// Center.
    Middle,
    /// Right end.
    End,
}

/// What a drawing is made of. Colors are `#rrggbb` or `none`; coordinates in px, y downward.
#[derive(Debug, Clone)]
pub enum Shape {
    /// Connected straight lines; `dash` as in stroke-dasharray, empty for none.
    Line { points: Vec<[f64; 2]>, color: String, width: f64, dash: String },
    /// A filled shape without border.
    Area { points: Vec<[f64; 2]>, color: String, opacity: f64 },
    /// A rectangle from its upper left corner, with a border of 1 px.
    Rect { at: [f64; 2], size: [f64; 2], fill: String, stroke: String },
    /// A filled circle.
    Dot { at: [f64; 2], radius: f64, color: String, opacity: f64 },
    /// Text at its baseline, to the right or upward.
    Text { at: [f64; 2], size: f64, anchor: Anchor, color: String, bold: bool, upward: bool, text: String },
}

/// Radius of the corners of a rectangle.
pub const CORNER: f64 = 1.5;

/// A drawing on white.
#[derive(Debug, Clone)]
pub struct Drawing {
    /// Width and height in px.
    pub(super) size: [f64; 2],
    /// What a screen reader says.
    title: String,
    /// In the order of drawing.
    pub(super) shapes: Vec<Shape>,
}

/// Text with the characters that XML reserves replaced.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Drawing {
    /// An empty drawing.
    pub fn new(width: f64, height: f64) -> Drawing {
        Drawing { size: [width, height], title: String::new(), shapes: Vec::new() }
    }

    /// A straight line.
    pub fn line(&mut self, from: [f64; 2], to: [f64; 2], color: &str, width: f64, dash: &str) {
        self.polyline(&[from, to], color, width, dash);
    }

    /// Connected straight lines; `dash` as in stroke-dasharray, empty for none.
    pub fn polyline(&mut self, points: &[[f64; 2]], color: &str, width: f64, dash: &str) {
        if points.len() >= 2 {
            let (points, color, dash) = (points.to_vec(), color.to_owned(), dash.to_owned());
            self.shapes.push(Shape::Line { points, color, width, dash });
        }
    }

    /// A filled shape without border.
    pub fn area(&mut self, points: &[[f64; 2]], color: &str, opacity: f64) {
        self.shapes.push(Shape::Area { points: points.to_vec(), color: color.to_owned(), opacity });
    }

    /// A rectangle from its upper left corner.
    pub fn rect(&mut self, at: [f64; 2], size: [f64; 2], fill: &str, stroke: &str) {
        let size = size.map(|v| v.max(0.0));
        self.shapes.push(Shape::Rect { at, size, fill: fill.to_owned(), stroke: stroke.to_owned() });
    }

    /// A dot.
    pub fn dot(&mut self, at: [f64; 2], radius: f64, color: &str, opacity: f64) {
        self.shapes.push(Shape::Dot { at, radius, color: color.to_owned(), opacity });
    }

    /// Text at its baseline.
    pub fn text(&mut self, at: [f64; 2], size: f64, anchor: Anchor, color: &str, text: &str) {
        let (color, text) = (color.to_owned(), text.to_owned());
        self.shapes.push(Shape::Text { at, size, anchor, color, bold: false, upward: false, text });
    }

    /// Bold text at its baseline.
    pub fn bold(&mut self, at: [f64; 2], size: f64, anchor: Anchor, color: &str, text: &str) {
        let (color, text) = (color.to_owned(), text.to_owned());
        self.shapes.push(Shape::Text { at, size, anchor, color, bold: true, upward: false, text });
    }

    /// Text that reads upward, centered.
    pub fn upward(&mut self, at: [f64; 2], size: f64, text: &str) {
        let (color, text) = (INK.to_owned(), text.to_owned());
        self.shapes.push(Shape::Text { at, size, anchor: Anchor::Middle, color, bold: false, upward: true, text });
    }

    /// The drawing with its title.
    pub fn titled(mut self, title: &str) -> Drawing {
        self.title = title.to_owned();
        self
    }

    /// The SVG element.
    pub fn svg(&self) -> String {
        let ([w, h], title) = (self.size, escape(&self.title));
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w:.0} {h:.0}\" width=\"{w:.0}\" height=\"{h:.0}\" role=\"img\" aria-label=\"{title}\" font-family=\"Helvetica, Arial, 'Liberation Sans', sans-serif\">\n<title>{title}</title>\n<rect width=\"{w:.0}\" height=\"{h:.0}\" fill=\"#ffffff\"/>\n"
        );
        for shape in &self.shapes {
            // Writing into a String cannot fail.
            let _ = write_shape(&mut text, shape);
        }
        text.push_str("</svg>\n");
        text
    }
}

fn write_shape(out: &mut String, shape: &Shape) -> std::fmt::Result {
    match shape {
        Shape::Line { points, color, width, dash } => {
            let dash = if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
            let points = coordinates(points);
            writeln!(
                out,
                "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"{dash} points=\"{points}\"/>"
            )
        }
        Shape::Area { points, color, opacity } => {
            let points = coordinates(points);
            writeln!(out, "<polygon fill=\"{color}\" fill-opacity=\"{opacity}\" points=\"{points}\"/>")
        }
        Shape::Rect { at: [x, y], size: [w, h], fill, stroke } => writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"{CORNER}\" fill=\"{fill}\" stroke=\"{stroke}\"/>"
        ),
        Shape::Dot { at: [x, y], radius, color, opacity } => writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{color}\" fill-opacity=\"{opacity}\"/>"
        ),
        Shape::Text { at: [x, y], size, anchor, color, bold, upward, text } => {
            let anchor = match anchor {
                Anchor::Start => "start",
                Anchor::Middle => "middle",
                Anchor::End => "end",
            };
            let weight = if *bold { " font-weight=\"600\"" } else { "" };
            let turn = if *upward { format!(" transform=\"rotate(-90 {x:.1} {y:.1})\"") } else { String::new() };
            let text = escape(text);
            writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"{color}\"{weight}{turn}>{text}</text>"
            )
        }
    }
}

fn coordinates(points: &[[f64; 2]]) -> String {
    let mut text = String::with_capacity(points.len() * 12);
    for [x, y] in points {
        let _ = write!(text, "{x:.1},{y:.1} ");
    }
    text.trim_end().to_owned()
}
