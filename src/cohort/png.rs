//! A drawing as PNG, for those who cannot take an SVG.

use super::drawing::{Anchor, CORNER, Drawing, Shape};
use super::font;
use tiny_skia::{Color, FillRule, LineJoin, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, StrokeDash, Transform};

/// Pixels for each px of the drawing: 288 dots per inch where the SVG has 96.
const SCALE: f64 = 3.0;
/// Longest side of an image in pixels; a drawing that would be longer gets a smaller scale.
const SIDE_MAX: f64 = 10_000.0;
/// Curves of a circle: distance of the control points for a radius of 1.
const ARC: f32 = 0.552_284_8;

/// The drawing as a PNG file, `None` if it has no area.
pub fn png(drawing: &Drawing) -> Option<Vec<u8>> {
    let [width, height] = drawing.size;
    let scale = SCALE.min(SIDE_MAX / width.max(height));
    let mut image = Pixmap::new((width * scale).ceil() as u32, (height * scale).ceil() as u32)?;
    image.fill(Color::WHITE);
    for shape in &drawing.shapes {
        draw(&mut image, shape, Transform::from_scale(scale as f32, scale as f32));
    }
    encode(&image, scale)
}

/// 8 bit RGB with its resolution: everything lies on white, so there is no transparency to keep.
fn encode(image: &Pixmap, scale: f64) -> Option<Vec<u8>> {
    let rgb: Vec<u8> = image.pixels().iter().flat_map(|p| [p.red(), p.green(), p.blue()]).collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, image.width(), image.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fast);
    let dots_per_meter = (96.0 * scale / 0.0254).round() as u32;
    let unit = png::Unit::Meter;
    encoder.set_pixel_dims(Some(png::PixelDimensions { xppu: dots_per_meter, yppu: dots_per_meter, unit }));
    encoder.write_header().ok()?.write_image_data(&rgb).ok()?;
    Some(file)
}

fn draw(image: &mut Pixmap, shape: &Shape, scale: Transform) {
    match shape {
        Shape::Line { points, color, width, dash } => {
            let Some(path) = lines(points, false) else { return };
            let dash = dash.split_whitespace().filter_map(|d| d.parse().ok()).collect();
            let dash = StrokeDash::new(dash, 0.0);
            let stroke = Stroke { width: *width as f32, line_join: LineJoin::Round, dash, ..Stroke::default() };
            with_paint(color, 1.0, |paint| image.stroke_path(&path, paint, &stroke, scale, None));
        }
        Shape::Area { points, color, opacity } => {
            let Some(path) = lines(points, true) else { return };
            with_paint(color, *opacity, |paint| image.fill_path(&path, paint, FillRule::Winding, scale, None));
        }
        Shape::Rect { at, size, fill, stroke } => {
            let Some(path) = rounded(*at, *size) else { return };
            with_paint(fill, 1.0, |paint| image.fill_path(&path, paint, FillRule::Winding, scale, None));
            with_paint(stroke, 1.0, |paint| image.stroke_path(&path, paint, &Stroke::default(), scale, None));
        }
        Shape::Dot { at, radius, color, opacity } => {
            let Some(path) = PathBuilder::from_circle(at[0] as f32, at[1] as f32, *radius as f32) else { return };
            with_paint(color, *opacity, |paint| image.fill_path(&path, paint, FillRule::Winding, scale, None));
        }
        Shape::Text { at, size, anchor, color, bold, upward, text } => {
            let mut builder = PathBuilder::new();
            font::outline(text, *size, *bold, &mut builder);
            let Some(path) = builder.finish() else { return };
            let back = match anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => 0.5,
                Anchor::End => 1.0,
            } * font::text_width(text, *size, *bold);
            let place = Transform::from_translate(at[0] as f32, at[1] as f32);
            let place = if *upward { place.pre_rotate(-90.0) } else { place };
            let place = place.pre_translate(-back as f32, 0.0).post_concat(scale);
            with_paint(color, 1.0, |paint| image.fill_path(&path, paint, FillRule::Winding, place, None));
        }
    }
}

/// Calls `paint` with a color `#rrggbb`; `none` paints nothing.
fn with_paint(color: &str, opacity: f64, mut paint: impl FnMut(&Paint)) {
    let part = |from: usize| color.get(from..from + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    if let (Some(red), Some(green), Some(blue)) = (part(1), part(3), part(5)) {
        let mut with = Paint { anti_alias: true, ..Paint::default() };
        with.set_color_rgba8(red, green, blue, (opacity * 255.0).round() as u8);
        paint(&with);
    }
}

fn lines(points: &[[f64; 2]], closed: bool) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (i, [x, y]) in points.iter().map(|p| p.map(|v| v as f32)).enumerate() {
        if i == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
    }
    if closed {
        path.close();
    }
    path.finish()
}

/// A rectangle with round corners.
fn rounded(at: [f64; 2], size: [f64; 2]) -> Option<Path> {
    let [x, y, w, h] = [at[0], at[1], size[0], size[1]].map(|v| v as f32);
    let rect = Rect::from_xywh(x, y, w, h)?;
    let r = (CORNER as f32).min(w / 2.0).min(h / 2.0);
    let (left, top, right, bottom, c) = (rect.left(), rect.top(), rect.right(), rect.bottom(), r - r * ARC);
    let mut path = PathBuilder::new();
    path.move_to(left + r, top);
    path.line_to(right - r, top);
    path.cubic_to(right - c, top, right, top + c, right, top + r);
    path.line_to(right, bottom - r);
    path.cubic_to(right, bottom - c, right - c, bottom, right - r, bottom);
    path.line_to(left + r, bottom);
    path.cubic_to(left + c, bottom, left, bottom - c, left, bottom - r);
    path.line_to(left, top + r);
    path.cubic_to(left, top + c, left + c, top, left + r, top);
    path.close();
    path.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Width, height and RGB of a PNG.
    fn decoded(file: &[u8]) -> (usize, usize, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut pixels).expect("pixels");
        (info.width as usize, info.height as usize, pixels)
    }

    #[test]
    fn shapes_and_letters_lie_where_the_drawing_says() {
        let mut drawing = Drawing::new(100.0, 60.0);
        drawing.line([10.0, 10.0], [90.0, 10.0], "#0000ff", 2.0, "10 10");
        drawing.rect([10.0, 20.0], [20.0, 10.0], "#ff0000", "none");
        drawing.dot([50.0, 25.0], 5.0, "#000000", 0.5);
        // An H of 20 px: left stem 1.6 to 3.5 px from its start, bar 6.2 to 7.8 px above the baseline.
        drawing.text([60.0, 50.0], 20.0, Anchor::Start, "#000000", "H");
        let (width, height, pixels) = decoded(&png(&drawing).expect("an area"));
        assert_eq!((width, height), (300, 180));
        let at = |x: f64, y: f64| {
            let first = ((y * 3.0) as usize * width + (x * 3.0) as usize) * 3;
            [pixels[first], pixels[first + 1], pixels[first + 2]]
        };
        let white = [255, 255, 255];
        assert_eq!([at(15.0, 10.0), at(25.0, 10.0), at(35.0, 10.0)], [[0, 0, 255], white, [0, 0, 255]], "dashes");
        assert_eq!([at(20.0, 25.0), at(20.0, 31.0)], [[255, 0, 0], white], "a rectangle");
        assert!(at(50.0, 25.0).iter().all(|v| (126..=129).contains(v)), "half opaque: {:?}", at(50.0, 25.0));
        assert_eq!([at(62.4, 40.0), at(67.0, 40.0), at(67.0, 43.0)], [[0; 3], white, [0; 3]], "the letter H");
        assert_eq!(at(62.4, 52.0), white, "nothing below the baseline");
    }

    #[test]
    fn a_drawing_without_area_is_none() {
        assert!(png(&Drawing::new(0.0, 10.0)).is_none());
    }
}
