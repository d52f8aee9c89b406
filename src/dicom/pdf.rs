//! A small writer of PDF (ISO 32000-1): one A4 page of text in the standard fonts, rectangles, lines and pictures.
//!
//! Positions are in points (1/72 inch) from the upper left corner; text is placed by its baseline.

use super::Picture;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use std::fmt::Write as _;
use std::io::Write as _;

/// Width of an A4 page, points.
pub const WIDTH: f64 = 595.28;
/// Height of an A4 page, points.
pub const HEIGHT: f64 = 841.89;

/// Red, green, blue.
pub type Rgb = [u8; 3];

/// A standard font that every reader has; none is embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Font {
    Regular,
    Bold,
}

/// A page that is being drawn.
#[derive(Default)]
pub struct Page {
    content: String,
    images: Vec<(u16, u16, Vec<u8>)>,
}

impl Page {
    /// One line of text. Characters beyond Windows code page 1252 become `?`.
    pub fn text(&mut self, (x, y): (f64, f64), font: Font, size: f64, color: Rgb, text: &str) {
        let name = if font == Font::Bold { "B" } else { "R" };
        let encoded: String = text.chars().map(|c| escaped(code_point(c))).collect();
        self.put(format_args!(
            "BT /{name} {size} Tf {} rg 1 0 0 1 {x:.2} {:.2} Tm ({encoded}) Tj ET",
            rgb(color),
            HEIGHT - y
        ));
    }

    /// A line of text that ends at `x`.
    pub fn text_right(&mut self, (x, y): (f64, f64), font: Font, size: f64, color: Rgb, text: &str) {
        self.text((x - text_width(font, size, text), y), font, size, color, text);
    }

    /// A filled rectangle with its upper left corner at (x, y).
    pub fn rectangle(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), color: Rgb) {
        self.put(format_args!("{} rg {x:.2} {:.2} {width:.2} {height:.2} re f", rgb(color), HEIGHT - y - height));
    }

    /// A filled polygon.
    pub fn polygon(&mut self, points: &[(f64, f64)], color: Rgb) {
        let path: Vec<String> = points
            .iter()
            .enumerate()
            .map(|(i, (x, y))| format!("{x:.2} {:.2} {}", HEIGHT - y, if i == 0 { "m" } else { "l" }))
            .collect();
        self.put(format_args!("{} rg {} h f", rgb(color), path.join(" ")));
    }

    /// A straight line.
    pub fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), width: f64, color: Rgb) {
        let (y1, y2) = (HEIGHT - y1, HEIGHT - y2);
        self.put(format_args!("{} RG {width} w {x1:.2} {y1:.2} m {x2:.2} {y2:.2} l S", rgb(color)));
    }

    /// A picture, stretched to the rectangle with its upper left corner at (x, y). Its bytes must be its size.
    pub fn image(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), picture: &Picture) {
        let number = self.images.len();
        self.put(format_args!("q {width:.2} 0 0 {height:.2} {x:.2} {:.2} cm /I{number} Do Q", HEIGHT - y - height));
        self.images.push((picture.width, picture.height, compressed(&picture.rgb)));
    }

    fn put(&mut self, operators: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.content.write_fmt(operators);
        self.content.push('\n');
    }

    /// The file. `date`: YYYYMMDDHHMMSS, UTC.
    pub fn finish(self, title: &str, date: &str) -> Vec<u8> {
        let mut file = File { bytes: b"%PDF-1.4\n%\xE2\xE3\xCF\xD3\n".to_vec(), offsets: Vec::new() };
        // Objects 1 to 7 are these; the images follow.
        let images: String = (0..self.images.len()).map(|i| format!("/I{i} {} 0 R ", i + 8)).collect();
        file.object("<< /Type /Catalog /Pages 2 0 R /Lang (en-US) /ViewerPreferences << /DisplayDocTitle true >> >>");
        file.object("<< /Type /Pages /Kids [3 0 R] /Count 1 >>");
        file.object(&format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {WIDTH} {HEIGHT}] /Contents 4 0 R \
             /Resources << /Font << /R 5 0 R /B 6 0 R >> /XObject << {images}>> >> >>"
        ));
        file.stream("", &compressed(self.content.as_bytes()));
        for font in ["Helvetica", "Helvetica-Bold"] {
            file.object(&format!("<< /Type /Font /Subtype /Type1 /BaseFont /{font} /Encoding /WinAnsiEncoding >>"));
        }
        let title: String = title.chars().map(|c| escaped(code_point(c))).collect();
        let producer = concat!("metwatch ", env!("CARGO_PKG_VERSION"));
        file.object(&format!("<< /Title ({title}) /Producer ({producer}) /CreationDate (D:{date}Z) >>"));
        for (width, height, data) in &self.images {
            let kind = format!(
                "/Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace /DeviceRGB \
                 /BitsPerComponent 8 /Interpolate true "
            );
            file.stream(&kind, data);
        }
        file.end()
    }
}

struct File {
    bytes: Vec<u8>,
    offsets: Vec<usize>,
}

impl File {
    fn begin(&mut self) {
        self.offsets.push(self.bytes.len());
        self.bytes.extend(format!("{} 0 obj\n", self.offsets.len()).bytes());
    }

    fn object(&mut self, text: &str) {
        self.begin();
        self.bytes.extend(text.bytes());
        self.bytes.extend(b"\nendobj\n");
    }

    fn stream(&mut self, entries: &str, data: &[u8]) {
        self.begin();
        self.bytes.extend(format!("<< {entries}/Filter /FlateDecode /Length {} >>\nstream\n", data.len()).bytes());
        self.bytes.extend(data);
        self.bytes.extend(b"\nendstream\nendobj\n");
    }

    fn end(mut self) -> Vec<u8> {
        let (start, n) = (self.bytes.len(), self.offsets.len() + 1);
        let entries: String = self.offsets.iter().map(|offset| format!("{offset:010} 00000 n \n")).collect();
        let table = format!("xref\n0 {n}\n0000000000 65535 f \n{entries}");
        let trailer = format!("trailer\n<< /Size {n} /Root 1 0 R /Info 7 0 R >>\nstartxref\n{start}\n%%EOF\n");
        self.bytes.extend((table + &trailer).bytes());
        self.bytes
    }
}

fn compressed(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).and_then(|()| encoder.finish()).expect("writing to memory cannot fail")
}

fn rgb(color: Rgb) -> String {
    color.map(|c| format!("{:.3}", f64::from(c) / 255.0)).join(" ")
}

/// Windows code page 1252, as far as texts here need it; `?` for the rest.
fn code_point(c: char) -> u8 {
    match c {
        ' '..='~' | '\u{A0}'..='\u{FF}' => c as u32 as u8,
        '\u{20AC}' => 0x80,
        '\u{2018}' => 0x91,
        '\u{2019}' => 0x92,
        '\u{201C}' => 0x93,
        '\u{201D}' => 0x94,
        '\u{2022}' => 0x95,
        '\u{2013}' => 0x96,
        '\u{2014}' => 0x97,
        '\u{2026}' => 0x85,
        _ => b'?',
    }
}

fn escaped(byte: u8) -> String {
    match byte {
        b'(' | b')' | b'\\' => format!("\\{}", char::from(byte)),
        0x20..=0x7E => char::from(byte).to_string(),
        _ => format!("\\{byte:03o}"),
    }
}

/// Width of a line of text, points.
pub fn text_width(font: Font, size: f64, text: &str) -> f64 {
    let widths = if font == Font::Bold { &BOLD } else { &REGULAR };
    let of = |c: char| {
        match (c, usize::from(code_point(c)).checked_sub(0x20).and_then(|place| widths.get(place))) {
            ('\u{2014}' | '\u{2026}', _) => 1000.0,
            (_, Some(width)) => f64::from(*width),
            // Beyond ASCII most letters are as wide as a digit.
            (_, None) => 556.0,
        }
    };
    text.chars().map(of).sum::<f64>() * size / 1000.0
}

/// Breaks text at spaces into lines no wider than `width`; a longer word stands alone and is cut.
pub fn wrapped(font: Font, size: f64, width: f64, text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        if text_width(font, size, &longer) <= width || line.is_empty() {
            line = longer;
        } else {
            lines.push(std::mem::replace(&mut line, word.to_owned()));
        }
    }
    lines.push(line);
    lines.into_iter().map(|line| clipped(font, size, width, &line)).collect()
}

/// The text, or its beginning and an ellipsis where it is wider than `width`.
pub fn clipped(font: Font, size: f64, width: f64, text: &str) -> String {
    if text_width(font, size, text) <= width {
        return text.to_owned();
    }
    let mut kept: Vec<char> = text.chars().collect();
    while kept.pop().is_some() {
        let shorter: String = kept.iter().collect::<String>().trim_end().to_owned() + "\u{2026}";
        if text_width(font, size, &shorter) <= width {
            return shorter;
        }
    }
    String::new()
}

/// Widths of Helvetica, ASCII 0x20..=0x7E, in thousandths of the size (Adobe's font metrics).
#[rustfmt::skip]
const REGULAR: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556, 556, 556, 556, 556,
    556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778, 667, 778,
    722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222,
    500, 222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];

/// The same of Helvetica-Bold.
#[rustfmt::skip]
const BOLD: [u16; 95] = [
    278, 333, 474, 556, 556, 889, 722, 238, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556, 556, 556, 556, 556,
    556, 333, 333, 584, 584, 584, 611, 975, 722, 722, 722, 722, 667, 611, 778, 722, 278, 556, 722, 611, 833, 722, 778, 667, 778,
    722, 667, 611, 722, 667, 944, 667, 667, 611, 333, 278, 333, 584, 556, 333, 556, 611, 556, 611, 556, 333, 611, 611, 278, 278,
    556, 278, 889, 611, 611, 611, 611, 389, 556, 333, 611, 556, 778, 556, 556, 500, 389, 280, 389, 584,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_measured_wrapped_and_clipped() {
        // "AV" in Helvetica: 667 + 667.
        assert_eq!(text_width(Font::Regular, 10.0, "AV"), 13.34);
        assert_eq!(wrapped(Font::Regular, 10.0, 20.0, "AV AV  A"), ["AV", "AV", "A"]);
        assert_eq!(wrapped(Font::Regular, 10.0, 35.0, "AV AV A"), ["AV AV", "A"]);
        assert_eq!(clipped(Font::Bold, 10.0, 100.0, "AV"), "AV");
        // The ellipsis is 1000 wide: "A" and it fit 17, "AA" and it do not.
        assert_eq!(clipped(Font::Regular, 10.0, 17.0, "AAAA"), "A\u{2026}");
    }

    #[test]
    fn offsets_point_at_objects() {
        let mut page = Page::default();
        page.text((40.0, 40.0), Font::Bold, 12.0, [0, 0, 0], "J\u{FC}rgen (1) \u{3042}");
        let picture = Picture { title: String::new(), width: 2, height: 1, rgb: vec![7; 6], ..Default::default() };
        page.image((40.0, 60.0), (20.0, 10.0), &picture);
        assert!(page.content.contains(r"(J\374rgen \(1\) ?) Tj"), "{}", page.content);
        let file = page.finish("t", "20260102030405");
        // From the table on, all is ASCII.
        let table = file.windows(6).rposition(|w| w == b"xref\n0").unwrap();
        let end = String::from_utf8(file[table..].to_vec()).unwrap();
        assert!(end.contains(&format!("startxref\n{table}\n")), "{end}");
        let entries: Vec<&str> = end.lines().skip(3).take(8).collect();
        for (index, entry) in entries.iter().enumerate() {
            let offset: usize = entry[..10].parse().unwrap();
            assert!(file[offset..].starts_with(format!("{} 0 obj", index + 1).as_bytes()), "{entry}");
        }
    }
}
