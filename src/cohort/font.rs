//! The letters of figures: their widths, which lay out a drawing, and their outlines, which draw it as PNG.
//!
//! Liberation Sans has the widths of Helvetica and Arial, which the SVG names first, so both come out alike (`fonts/OFL.txt`:
//! a subset with Latin and Greek; other letters are boxes in a PNG, while an SVG leaves them to the viewer).

use std::sync::LazyLock;
use ttf_parser::{Face, GlyphId, OutlineBuilder};

static REGULAR: LazyLock<Face<'static>> = LazyLock::new(|| face(include_bytes!("fonts/regular.ttf")));
static BOLD: LazyLock<Face<'static>> = LazyLock::new(|| face(include_bytes!("fonts/bold.ttf")));

fn face(bytes: &'static [u8]) -> Face<'static> {
    Face::parse(bytes, 0).expect("the font is part of the source")
}

/// A glyph and where it begins, in px from the start of the text.
struct Placed {
    glyph: GlyphId,
    x: f64,
}

/// Glyphs of a text in a size in px, and the width of the whole.
fn layout(face: &Face, text: &str, size: f64) -> (Vec<Placed>, f64) {
    let px = size / f64::from(face.units_per_em());
    let kerning = |left, right| {
        let tables = face.tables().kern.into_iter().flat_map(|kern| kern.subtables);
        tables.filter(|t| t.horizontal).find_map(|t| t.glyphs_kerning(left, right)).unwrap_or(0)
    };
    let (mut placed, mut x) = (Vec::<Placed>::new(), 0.0);
    for letter in text.chars() {
        let glyph = face.glyph_index(letter).unwrap_or_default();
        if let Some(before) = placed.last() {
            x += f64::from(kerning(before.glyph, glyph)) * px;
        }
        placed.push(Placed { glyph, x });
        x += f64::from(face.glyph_hor_advance(glyph).unwrap_or(0)) * px;
    }
    (placed, x)
}

fn face_of(bold: bool) -> &'static Face<'static> {
    if bold { &BOLD } else { &REGULAR }
}

/// Width of a text in px.
pub fn text_width(text: &str, size: f64, bold: bool) -> f64 {
    layout(face_of(bold), text, size).1
}

/// Draws the outlines of a text that begins at (0, 0), in px, y downward.
pub fn outline(text: &str, size: f64, bold: bool, path: &mut tiny_skia::PathBuilder) {
    let face = face_of(bold);
    let px = (size / f64::from(face.units_per_em())) as f32;
    for Placed { glyph, x } in layout(face, text, size).0 {
        face.outline_glyph(glyph, &mut Pen { path, x: x as f32, px });
    }
}

struct Pen<'a> {
    path: &'a mut tiny_skia::PathBuilder,
    x: f32,
    px: f32,
}

impl OutlineBuilder for Pen<'_> {
    fn move_to(&mut self, x: f32, y: f32) {
        self.path.move_to(self.x + x * self.px, -y * self.px);
    }
    fn line_to(&mut self, x: f32, y: f32) {
        self.path.line_to(self.x + x * self.px, -y * self.px);
    }
    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let px = self.px;
        self.path.quad_to(self.x + x1 * px, -y1 * px, self.x + x * px, -y * px);
    }
    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let (px, dx) = (self.px, self.x);
        self.path.cubic_to(dx + x1 * px, -y1 * px, dx + x2 * px, -y2 * px, dx + x * px, -y * px);
    }
    fn close(&mut self) {
        self.path.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Helvetica's widths (Adobe's AFM of the standard 14 fonts): A 667, i 222, space 278, 0 556 of 1000; AV kerned by about -70.
    #[test]
    fn widths_are_those_of_helvetica() {
        for (text, width) in [("A", 667.0), ("i", 222.0), (" ", 278.0), ("0", 556.0)] {
            assert!((text_width(text, 1000.0, false) - width).abs() < 1.0, "{text}");
        }
        assert!((text_width("AV", 1000.0, false) - 2.0 * 667.0 + 70.0).abs() < 8.0);
        assert!(text_width("Points", 12.0, true) > text_width("Points", 12.0, false));
    }
}
