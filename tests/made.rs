//! CT slices made by hand, odd in one thing at a time.

use std::path::{Path, PathBuf};

/// A series: 40 slices of 64 x 64 pixels of 5 mm, 5 mm apart, a body of water in air. What is odd is changed.
#[derive(Clone)]
pub struct Made {
    pub syntax: &'static str,
    pub size: u16,
    pub slices: Vec<usize>,
    pub spacing_mm: f64,
    pub thickness: &'static str,
    /// How far each slice lies beside the one below it, along columns, mm.
    pub drift_mm: f64,
    pub orientation: &'static str,
    pub class: &'static str,
    pub modality: &'static str,
    pub image_type: &'static str,
    pub patient: &'static str,
    pub study: &'static str,
    pub series: &'static str,
    /// Part of the SOP Instance UIDs, so that a series can be made of two.
    pub part: u32,
    pub number: &'static str,
    pub description: &'static str,
    pub kernel: &'static str,
    pub slope: &'static str,
    pub lossy: bool,
    /// Pixel Data with its element header; `None` makes the body.
    pub pixels: Option<Vec<u8>>,
}

impl Default for Made {
    fn default() -> Self {
        Made {
            syntax: "1.2.840.10008.1.2.1",
            size: 64,
            slices: (0..40).collect(),
            spacing_mm: 5.0,
            thickness: "5",
            drift_mm: 0.0,
            orientation: "1\\0\\0\\0\\1\\0",
            class: "1.2.840.10008.5.1.4.1.1.2",
            modality: "CT",
            image_type: "ORIGINAL\\PRIMARY\\AXIAL",
            patient: "MADE",
            study: "1.2.3",
            series: "1.2.3.4",
            part: 1,
            number: "2",
            description: "Abdomen",
            kernel: "B30f",
            slope: "1",
            lossy: false,
            pixels: None,
        }
    }
}

/// An element in explicit little endian.
pub fn element(group: u16, number: u16, vr: &str, value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    value.resize(value.len().next_multiple_of(2), if vr == "UI" { 0 } else { b' ' });
    let head = [&group.to_le_bytes()[..], &number.to_le_bytes(), vr.as_bytes()].concat();
    [head, (value.len() as u16).to_le_bytes().to_vec(), value].concat()
}

impl Made {
    /// The objects, one per slice.
    pub fn objects(&self) -> Vec<Vec<u8>> {
        self.slices.iter().map(|k| self.object(*k)).collect()
    }

    /// Writes the objects into a folder, which may hold others.
    pub fn write(&self, folder: &Path) -> PathBuf {
        std::fs::create_dir_all(folder).unwrap();
        for (k, bytes) in self.slices.iter().zip(self.objects()) {
            std::fs::write(folder.join(format!("{}-{}-{k}.dcm", self.series, self.part)), bytes).unwrap();
        }
        folder.to_path_buf()
    }

    fn object(&self, k: usize) -> Vec<u8> {
        let text = |group, number, vr: &str, value: &str| element(group, number, vr, value.as_bytes());
        let short = |number, value: u16| element(0x28, number, "US", &value.to_le_bytes());
        let instance = format!("{}.{}.{}", self.series, self.part, k + 1);
        let position = format!("0\\{:.4}\\{:.4}", self.drift_mm * k as f64, self.spacing_mm * k as f64);
        let meta =
            [text(2, 2, "UI", self.class), text(2, 3, "UI", &instance), text(2, 0x10, "UI", self.syntax)].concat();
        [
            vec![0; 128],
            b"DICM".to_vec(),
            element(2, 0, "UL", &(meta.len() as u32).to_le_bytes()),
            meta,
            text(8, 8, "CS", self.image_type),
            text(8, 0x16, "UI", self.class),
            text(8, 0x18, "UI", &instance),
            text(8, 0x60, "CS", self.modality),
            text(8, 0x103E, "LO", self.description),
            text(0x10, 0x10, "PN", self.patient),
            text(0x10, 0x20, "LO", self.patient),
            text(0x18, 0x50, "DS", self.thickness),
            text(0x18, 0x1210, "SH", self.kernel),
            text(0x20, 0x0D, "UI", self.study),
            text(0x20, 0x0E, "UI", self.series),
            text(0x20, 0x11, "IS", self.number),
            text(0x20, 0x32, "DS", &position),
            text(0x20, 0x37, "DS", self.orientation),
            text(0x20, 0x52, "UI", "1.2.3.9"),
            short(2, 1),
            text(0x28, 4, "CS", "MONOCHROME2"),
            short(0x10, self.size),
            short(0x11, self.size),
            text(0x28, 0x30, "DS", "5\\5"),
            short(0x100, 16),
            short(0x101, 16),
            short(0x102, 15),
            short(0x103, 0),
            text(0x28, 0x1052, "DS", "-1024"),
            text(0x28, 0x1053, "DS", self.slope),
            text(0x28, 0x2110, "CS", if self.lossy { "01" } else { "00" }),
            self.pixels.clone().unwrap_or_else(|| self.body()),
        ]
        .concat()
    }

    /// Water within four fifths of the field, air around.
    fn body(&self) -> Vec<u8> {
        let size = i64::from(self.size);
        let inside = |x: i64, y: i64| (2 * x - size).pow(2) + (2 * y - size).pow(2) < (size * 4 / 5).pow(2);
        let value = |at: i64| if inside(at % size, at / size) { 1064u16 } else { 24 };
        let pixels: Vec<u8> = (0..size * size).flat_map(|at| value(at).to_le_bytes()).collect();
        [&[0xE0, 0x7F, 0x10, 0, b'O', b'W', 0, 0][..], &(pixels.len() as u32).to_le_bytes(), &pixels].concat()
    }
}

/// Pixel Data with one compressed frame.
pub fn encapsulated(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame.resize(frame.len().next_multiple_of(2), 0);
    [
        &[0xE0, 0x7F, 0x10, 0, b'O', b'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE, 0xFF, 0, 0xE0, 0, 0, 0, 0][..],
        &[0xFE, 0xFF, 0, 0xE0],
        &(frame.len() as u32).to_le_bytes(),
        &frame,
        &[0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0],
    ]
    .concat()
}
