//! Pictures of what was found where: CT slices with the outlines of the regions, drawn as a radiologist expects them.
//! Pure functions: a volume and its labels go in, PNG bytes come out.

use super::canvas::{Canvas, Rgb, text_width};
use crate::DISCLAIMER;
use crate::volume::{Geometry, LabelMap, Region, Volume};
use rayon::prelude::*;

/// A slice of the volume. The index runs along the voxel axis nearest to the view's patient axis, so an axial view
/// is axial whatever the order in which the series was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Seen from the feet; voxel index nearest to the head-foot axis (a slice of an axial series).
    Axial(usize),
    /// Seen from the front; voxel index nearest to the front-back axis (a row of an axial series).
    Coronal(usize),
    /// Seen from the left; voxel index nearest to the right-left axis (a column of an axial series).
    Sagittal(usize),
}

/// Center and width of the gray window for soft tissue, in HU.
pub const SOFT_TISSUE: (f32, f32) = (40.0, 400.0);

const AREA_WIDTH_MAX: f64 = 880.0;
const AREA_HEIGHT_MAX: f64 = 720.0;
const CANVAS_WIDTH_MIN: usize = 520;
const MARGIN: usize = 12;
const HEADER: usize = 38;
const LINE: usize = 28;
const BACKGROUND: Rgb = [16, 20, 26];
const FRAME: Rgb = [0, 0, 0];
const INK: Rgb = [214, 221, 230];
const FAINT: Rgb = [140, 151, 165];
const AMBER: Rgb = [255, 193, 7];
const FILL_OPACITY: f32 = 0.22;

/// The color of a region's outline; they stay apart in the common color vision deficiencies (Okabe and Ito 2008).
pub fn region_color(region: Region) -> [u8; 3] {
    match region {
        Region::Liver => [86, 180, 233],
        Region::LiverLesion => [255, 120, 40],
        Region::Colon => [204, 121, 167],
        Region::ColorectalTumor => [240, 228, 66],
        _ => FAINT, // an organ for the gate: not drawn in results
    }
}

/// One slice with outlines, legend, orientation marks and scale, as an RGB PNG at most 904 pixels wide.
///
/// Radiological orientation by `geometry.direction`, for any patient position: the patient's right on the left of the
/// picture, front up (axial), head up (coronal, sagittal), front on the left (sagittal). An index beyond the volume
/// becomes the last. `window` is (center, width) in HU, usually [`SOFT_TISSUE`]. The disclaimer is burned in.
pub fn overlay_png(volume: &Volume, labels: &LabelMap, view: View, window: (f32, f32)) -> Vec<u8> {
    render(volume, labels, view, window).canvas.png()
}

/// One of the [`key_pictures`].
#[derive(Debug, Clone)]
pub struct KeyPicture {
    /// File name, such as `overlay_axial_tumor.png`.
    pub name: String,
    /// The picture, RGB.
    pub png: Vec<u8>,
    /// The slice of the volume (index along voxel axis z) that it shows; `None` for a plane across the slices.
    pub slice: Option<usize>,
    /// Where its rows and columns run in the patient: Patient Orientation (0020,0020), such as `L\\P`.
    pub patient_orientation: &'static str,
}

/// The pictures that go with a result: axial at the largest cross-section of the tumor and of the liver and at the upper
/// and the lower third of the liver, coronal and sagittal through the tumor, or through the liver where there is no tumor.
/// Without any region, the middle of the volume, so that a reader sees what was not recognized.
pub fn key_pictures(volume: &Volume, labels: &LabelMap) -> Vec<KeyPicture> {
    let draw = |(name, view): (&str, View)| {
        let plane = Plane::new(&volume.geometry, view);
        KeyPicture {
            name: name.to_owned(),
            png: overlay_png(volume, labels, view, SOFT_TISSUE),
            slice: (plane.fixed_axis == 2).then_some(plane.fixed_index),
            patient_orientation: match view {
                View::Axial(_) => "L\\P",
                View::Coronal(_) => "L\\F",
                View::Sagittal(_) => "P\\F",
            },
        }
    };
    key_views(volume, labels).into_par_iter().map(draw).collect()
}

/// What a picture of [`key_pictures`] shows, for people.
pub fn picture_title(name: &str) -> String {
    let words: Vec<&str> = name.trim_end_matches(".png").split('_').filter(|w| *w != "overlay").collect();
    match words[..] {
        [view, "center"] => format!("{}, middle of the volume", capital(view)),
        ["axial", "liver", third] => format!("Axial, {third} third of the liver"),
        ["axial", region] => format!("Axial, largest cross-section of the {region}"),
        [view, region] => format!("{}, through the {region}", capital(view)),
        _ => name.to_owned(),
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn key_views(volume: &Volume, labels: &LabelMap) -> Vec<(&'static str, View)> {
    let axes = patient_axes(&volume.geometry);
    let [tumor, liver] = largest_sections(labels);
    let at = |largest: [usize; 3], row: usize| largest[axes[row]];
    let axial = |l| View::Axial(at(l, 2));
    let coronal = |l| View::Coronal(at(l, 1));
    let sagittal = |l| View::Sagittal(at(l, 0));
    let thirds = liver.map_or(Vec::new(), |_| liver_thirds(volume, labels, axes[2]));
    let views = match (tumor, liver) {
        (Some(t), Some(l)) => vec![
            ("overlay_axial_tumor.png", axial(t)),
            ("overlay_axial_liver.png", axial(l)),
            ("overlay_coronal_tumor.png", coronal(t)),
            ("overlay_sagittal_tumor.png", sagittal(t)),
        ],
        (Some(t), None) => vec![
            ("overlay_axial_tumor.png", axial(t)),
            ("overlay_coronal_tumor.png", coronal(t)),
            ("overlay_sagittal_tumor.png", sagittal(t)),
        ],
        (None, Some(l)) => vec![
            ("overlay_axial_liver.png", axial(l)),
            ("overlay_coronal_liver.png", coronal(l)),
            ("overlay_sagittal_liver.png", sagittal(l)),
        ],
        (None, None) => {
            let middle = volume.geometry.size.map(|n| n / 2);
            vec![("overlay_axial_center.png", axial(middle)), ("overlay_coronal_center.png", coronal(middle))]
        }
    };
    views.into_iter().chain(thirds).collect()
}

/// Axial views at a third and two thirds of the liver's extent along a voxel axis.
fn liver_thirds(volume: &Volume, labels: &LabelMap, axis: usize) -> Vec<(&'static str, View)> {
    let is_liver = |value: u8| {
        let region = labels.scheme.region_of(value).filter(|_| value != 0);
        matches!(region, Some(Region::Liver | Region::LiverLesion))
    };
    let planes = labels.labels.axis_iter(ndarray::Axis(2 - axis));
    let with_liver: Vec<usize> =
        planes.enumerate().filter(|(_, plane)| plane.iter().any(|v| is_liver(*v))).map(|(index, _)| index).collect();
    let (Some(low), Some(high)) = (with_liver.first(), with_liver.last()) else { return Vec::new() };
    let thirds = [1, 2].map(|n| View::Axial(low + (high - low) * n / 3));
    let [upper, lower] = if volume.geometry.direction[2][axis] < 0.0 { thirds } else { [thirds[1], thirds[0]] };
    vec![("overlay_axial_liver_upper.png", upper), ("overlay_axial_liver_lower.png", lower)]
}

/// For the tumor and the liver: the index of the largest cross-section along each voxel axis (x, y, z), if there is any.
fn largest_sections(labels: &LabelMap) -> [Option<[usize; 3]>; 2] {
    let (nz, ny, nx) = labels.labels.dim();
    let mut areas =
        [[vec![0u32; nx], vec![0u32; ny], vec![0u32; nz]], [vec![0u32; nx], vec![0u32; ny], vec![0u32; nz]]];
    let target_of: [Option<usize>; 256] =
        std::array::from_fn(|value| match labels.scheme.region_of(u8::try_from(value).ok().filter(|v| *v != 0)?)? {
            Region::ColorectalTumor => Some(0),
            Region::Liver | Region::LiverLesion => Some(1),
            _ => None,
        });
    for (row, line) in labels.labels.rows().into_iter().enumerate() {
        let (z, y) = (row / ny, row % ny);
        // Most rows are empty; 79 million voxels are passed in a moment.
        for (x, value) in line.iter().enumerate().filter(|(_, value)| **value != 0) {
            let Some(target) = target_of[usize::from(*value)] else { continue };
            for (area, index) in areas[target].iter_mut().zip([x, y, z]) {
                area[index] += 1;
            }
        }
    }
    areas.map(|axes| {
        let found = axes[0].iter().any(|n| *n > 0);
        // The first of equals, so that a picture does not move between two runs.
        let best = |area: &Vec<u32>| (0..area.len()).rev().max_by_key(|i| area[*i]).unwrap_or(0);
        found.then(|| [best(&axes[0]), best(&axes[1]), best(&axes[2])])
    })
}

/// The voxel axis nearest to each patient axis (L, P, S), each voxel axis used once.
fn patient_axes(geometry: &Geometry) -> [usize; 3] {
    const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [1, 0, 2], [0, 2, 1], [2, 1, 0], [1, 2, 0], [2, 0, 1]];
    let fit = |order: &[usize; 3]| (0..3).map(|row| geometry.direction[row][order[row]].abs()).sum::<f64>();
    ORDERS.into_iter().reduce(|best, next| if fit(&next) > fit(&best) { next } else { best }).unwrap_or([0, 1, 2])
}

/// One direction of the picture: the voxel axis it follows, and whether it runs against the voxel order.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Run {
    axis: usize,
    reversed: bool,
    size: usize,
    spacing_mm: f64,
}

impl Run {
    fn extent_mm(self) -> f64 {
        self.size as f64 * self.spacing_mm
    }

    /// The two voxels around a picture position and the weight of the second.
    fn voxels(self, pixel: usize, px_per_mm: f64) -> (usize, usize, f32) {
        let last = (self.size - 1) as f64;
        let along = (((pixel as f64 + 0.5) / px_per_mm) / self.spacing_mm - 0.5).clamp(0.0, last);
        let index = if self.reversed { last - along } else { along };
        let low = index.floor();
        (low as usize, (low as usize + 1).min(self.size - 1), (index - low) as f32)
    }
}

/// How a view lies in the voxel grid.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Plane {
    fixed_axis: usize,
    fixed_index: usize,
    across: Run,
    down: Run,
    /// Letters at the left, right, upper and lower edge.
    marks: [&'static str; 4],
    name: &'static str,
}

impl Plane {
    fn new(geometry: &Geometry, view: View) -> Plane {
        let axes = patient_axes(geometry);
        // Patient rows: 0 toward the left, 1 toward the back, 2 toward the head. `true`: the picture runs with the row.
        let run = |row: usize, with: bool| Run {
            axis: axes[row],
            reversed: (geometry.direction[row][axes[row]] > 0.0) != with,
            size: geometry.size[axes[row]],
            spacing_mm: geometry.spacing_mm[axes[row]],
        };
        let (row, index, across, down, marks, name) = match view {
            View::Axial(i) => (2, i, run(0, true), run(1, true), ["R", "L", "A", "P"], "Axial"),
            View::Coronal(i) => (1, i, run(0, true), run(2, false), ["R", "L", "H", "F"], "Coronal"),
            View::Sagittal(i) => (0, i, run(1, true), run(2, false), ["A", "P", "H", "F"], "Sagittal"),
        };
        let fixed_axis = axes[row];
        Plane { fixed_axis, fixed_index: index.min(geometry.size[fixed_axis] - 1), across, down, marks, name }
    }

    /// Array index (z, y, x) of the voxel at these indices along `across` and `down`.
    fn zyx(&self, across: usize, down: usize) -> (usize, usize, usize) {
        let mut xyz = [0; 3];
        xyz[self.fixed_axis] = self.fixed_index;
        xyz[self.across.axis] = across;
        xyz[self.down.axis] = down;
        (xyz[2], xyz[1], xyz[0])
    }
}

/// Where the slice itself lies on the canvas.
#[derive(Debug, Clone, Copy)]
struct Area {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

struct Rendered {
    canvas: Canvas,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests look at the slice without its legend"))]
    area: Area,
}

fn render(volume: &Volume, labels: &LabelMap, view: View, window: (f32, f32)) -> Rendered {
    let plane = Plane::new(&volume.geometry, view);
    let px_per_mm = (AREA_WIDTH_MAX / plane.across.extent_mm()).min(AREA_HEIGHT_MAX / plane.down.extent_mm());
    let pixels = |run: Run| ((run.extent_mm() * px_per_mm).round() as usize).max(1);
    let (width, height) = (pixels(plane.across), pixels(plane.down));
    let canvas_width = (width + 2 * MARGIN).max(CANVAS_WIDTH_MIN);
    let area = Area { x: (canvas_width - width) / 2, y: HEADER, width, height };

    let slice = sample(volume, labels, &plane, px_per_mm, area);
    let legend = legend_lines(labels, &slice.label, canvas_width);
    let canvas_height = HEADER + height + 8 + legend.len() * LINE + 36;
    let mut canvas = Canvas::new(canvas_width, canvas_height, BACKGROUND);
    canvas.rectangle(0, HEADER, canvas_width, height, FRAME);
    draw_slice(&mut canvas, labels, &slice, window, area);
    draw_header(&mut canvas, volume, &plane, window);
    draw_marks(&mut canvas, &plane, area);
    draw_scale(&mut canvas, px_per_mm, area);
    draw_legend(&mut canvas, &legend, HEADER + height + 8);
    draw_disclaimer(&mut canvas);
    Rendered { canvas, area }
}

/// HU and label of every pixel of the slice, rows from the top.
struct Slice {
    hu: Vec<f32>,
    label: Vec<u8>,
}

fn sample(volume: &Volume, labels: &LabelMap, plane: &Plane, px_per_mm: f64, area: Area) -> Slice {
    let columns: Vec<_> = (0..area.width).map(|u| plane.across.voxels(u, px_per_mm)).collect();
    let mut slice = Slice { hu: Vec::with_capacity(area.width * area.height), label: Vec::new() };
    for v in 0..area.height {
        let (d0, d1, fd) = plane.down.voxels(v, px_per_mm);
        for &(a0, a1, fa) in &columns {
            let corners = [(a0, d0), (a1, d0), (a0, d1), (a1, d1)].map(|(a, d)| plane.zyx(a, d));
            let weights = [(1.0 - fa) * (1.0 - fd), fa * (1.0 - fd), (1.0 - fa) * fd, fa * fd];
            let hu = corners.map(|at| volume.hu.get(at).copied().unwrap_or(-1000.0));
            let label = corners.map(|at| labels.labels.get(at).copied().unwrap_or(0));
            slice.hu.push(hu.iter().zip(weights).map(|(hu, w)| hu * w).sum());
            slice.label.push(heaviest(label, weights));
        }
    }
    slice
}

/// The label with the largest summed weight: a smooth edge where nearest neighbors would give stairs.
fn heaviest(label: [u8; 4], weights: [f32; 4]) -> u8 {
    if label.iter().all(|l| *l == label[0]) {
        return label[0];
    }
    let weight_of = |value: u8| label.iter().zip(weights).filter(|(l, _)| **l == value).map(|(_, w)| w).sum::<f32>();
    label.into_iter().reduce(|best, next| if weight_of(next) > weight_of(best) { next } else { best }).unwrap_or(0)
}

fn draw_slice(canvas: &mut Canvas, labels: &LabelMap, slice: &Slice, (center, width): (f32, f32), area: Area) {
    let low = center - width / 2.0;
    let label_at = |u: usize, v: usize| slice.label[v * area.width + u];
    for v in 0..area.height {
        for u in 0..area.width {
            let gray = ((slice.hu[v * area.width + u] - low) / width * 255.0).clamp(0.0, 255.0);
            let label = label_at(u, v);
            let color = match labels.scheme.region_of(label).filter(|_| label != 0) {
                None => [gray as u8; 3],
                Some(region) => {
                    let around = |d: usize| {
                        let (left, right) = (u.saturating_sub(d), (u + d).min(area.width - 1));
                        let (up, below) = (v.saturating_sub(d), (v + d).min(area.height - 1));
                        [(left, v), (right, v), (u, up), (u, below)].into_iter().any(|(u, v)| label_at(u, v) != label)
                    };
                    let outline = around(1) || around(2);
                    let tint = region_color(region);
                    if outline { tint } else { tint.map(|c| (gray + (f32::from(c) - gray) * FILL_OPACITY) as u8) }
                }
            };
            canvas.set(area.x + u, area.y + v, color);
        }
    }
}

fn draw_header(canvas: &mut Canvas, volume: &Volume, plane: &Plane, (center, width): (f32, f32)) {
    let n = volume.geometry.size[plane.fixed_axis];
    canvas.text(MARGIN, 12, 2, INK, &format!("{} {} of {n}", plane.name, plane.fixed_index + 1));
    let window = format!("C {center:.0}  W {width:.0} HU");
    canvas.text(canvas.width - MARGIN - text_width(&window, 2), 12, 2, FAINT, &window);
}

fn draw_marks(canvas: &mut Canvas, plane: &Plane, area: Area) {
    const SCALE: usize = 3;
    let (letter, high) = (text_width("R", SCALE), 7 * SCALE);
    let middle = (canvas.width.saturating_sub(letter) / 2, area.y + area.height.saturating_sub(high) / 2);
    let places = [
        (MARGIN, middle.1),
        (canvas.width - MARGIN - letter, middle.1),
        (middle.0, area.y + 8),
        (middle.0, (area.y + area.height).saturating_sub(high + 8)),
    ];
    for (mark, (x, y)) in plane.marks.iter().zip(places) {
        canvas.text_on_image(x, y, SCALE, INK, mark);
    }
}

/// A bar of 5 cm at the lower right of the slice.
fn draw_scale(canvas: &mut Canvas, px_per_mm: f64, area: Area) {
    let length = (50.0 * px_per_mm).round() as usize;
    if length + 2 * MARGIN > canvas.width || area.height < 60 {
        return;
    }
    let (x, y) = (canvas.width - MARGIN - length, area.y + area.height - 14);
    canvas.rectangle(x - 1, y - 1, length + 2, 5, FRAME);
    canvas.rectangle(x, y, length, 3, INK);
    canvas.text_on_image(x + length.saturating_sub(text_width("5 cm", 2)), y - 20, 2, INK, "5 cm");
}

/// The regions of the slice in lines that fit, each with its x position.
fn legend_lines(labels: &LabelMap, shown: &[u8], width: usize) -> Vec<Vec<(usize, Region)>> {
    let mut present = [false; 256];
    shown.iter().for_each(|label| present[usize::from(*label)] = true);
    let mut lines = vec![Vec::new()];
    let mut x = MARGIN;
    for (_, region, _) in labels.scheme.entries.iter().filter(|(value, ..)| *value != 0 && present[usize::from(*value)])
    {
        let needed = 22 + text_width(region.title(), 2);
        if x + needed + MARGIN > width && x > MARGIN {
            lines.push(Vec::new());
            x = MARGIN;
        }
        lines.last_mut().expect("there is always a line").push((x, *region));
        x += needed + 22;
    }
    lines
}

fn draw_legend(canvas: &mut Canvas, lines: &[Vec<(usize, Region)>], top: usize) {
    if lines.iter().all(Vec::is_empty) {
        canvas.text(MARGIN, top + 6, 2, FAINT, "no region found in this slice");
    }
    for (line, entries) in lines.iter().enumerate() {
        let y = top + line * LINE + 6;
        for &(x, region) in entries {
            canvas.rectangle(x, y, 14, 14, region_color(region));
            canvas.text(x + 22, y, 2, INK, region.title());
        }
    }
}

fn draw_disclaimer(canvas: &mut Canvas) {
    let text = DISCLAIMER.to_uppercase();
    let top = canvas.height - 32;
    canvas.rectangle(0, top, canvas.width, 32, AMBER);
    let x = canvas.width.saturating_sub(text_width(&text, 2)) / 2;
    canvas.text(x, top + 9, 2, [24, 20, 0], &text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::LabelScheme;
    use ndarray::Array3;

    fn scheme() -> LabelScheme {
        let entry = |(value, region): (u8, Region)| (value, region, String::new());
        LabelScheme { entries: [1, 2, 3, 4].into_iter().zip(Region::TARGETS).map(entry).collect() }
    }

    /// A box of a liver at the patient's right front, toward the head, on a grid with the given direction.
    /// In LPS mm around the center: liver x in -80..-20 (right), y in -60..-10 (front), z in 20..60 (head).
    fn case(direction: [[f64; 3]; 3]) -> (Volume, LabelMap) {
        let (size, spacing_mm) = ([40, 32, 20], [5.0, 6.0, 10.0]);
        let mut geometry = Geometry { size, spacing_mm, origin_mm: [0.0; 3], direction };
        let middle = geometry.position_mm(std::array::from_fn(|a| (size[a] as f64 - 1.0) / 2.0));
        geometry.origin_mm = middle.map(|m| -m);
        let labels = Array3::from_shape_fn(geometry.shape_zyx(), |(z, y, x)| {
            let [l, p, s] = geometry.position_mm([x as f64, y as f64, z as f64]);
            u8::from((-80.0..-20.0).contains(&l) && (-60.0..-10.0).contains(&p) && (20.0..60.0).contains(&s))
        });
        let hu = labels.mapv(|v| if v == 1 { 110.0 } else { 40.0 });
        (Volume { hu, geometry: geometry.clone() }, LabelMap { labels, geometry, scheme: scheme() })
    }

    /// Mean position of the liver's outline inside the slice, as fractions of its width and height.
    fn center_of_liver(rendered: &Rendered) -> (f64, f64) {
        let area = rendered.area;
        let (mut n, mut across, mut down) = (0.0, 0.0, 0.0);
        for v in 0..area.height {
            for u in 0..area.width {
                if rendered.canvas.get(area.x + u, area.y + v) == region_color(Region::Liver) {
                    n += 1.0;
                    across += u as f64 / area.width as f64;
                    down += v as f64 / area.height as f64;
                }
            }
        }
        (across / n, down / n)
    }

    /// Head first supine, feet first supine, head first prone, feet first prone, and a series stored in coronal order.
    const POSITIONS: [[[f64; 3]; 3]; 5] = [
        Geometry::IDENTITY,
        [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]],
        [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]],
        [[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]],
        [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]],
    ];

    #[test]
    fn the_liver_lies_on_the_left_of_the_picture_in_every_patient_position() {
        for direction in POSITIONS {
            let (volume, labels) = case(direction);
            for (name, view) in key_views(&volume, &labels) {
                let (across, down) = center_of_liver(&render(&volume, &labels, view, SOFT_TISSUE));
                let right = match view {
                    View::Axial(_) => across < 0.5 && down < 0.5,
                    View::Coronal(_) => across < 0.5 && down < 0.5,
                    View::Sagittal(_) => across < 0.5 && down < 0.5, // front on the left, head up
                };
                assert!(right, "{name} with {direction:?}: center of the liver at ({across:.2}, {down:.2})");
            }
        }
    }

    #[test]
    fn a_picture_has_the_proportions_of_the_body() {
        let (volume, labels) = case(Geometry::IDENTITY);
        // 200 mm by 192 mm axial, 200 mm by 200 mm coronal.
        let axial = render(&volume, &labels, View::Axial(0), SOFT_TISSUE).area;
        assert_eq!((axial.width, axial.height), (750, 720));
        let coronal = render(&volume, &labels, View::Coronal(0), SOFT_TISSUE).area;
        assert_eq!((coronal.width, coronal.height), (720, 720));
    }

    #[test]
    fn sections_are_chosen_by_area() {
        let (volume, mut labels) = case(Geometry::IDENTITY);
        assert_eq!(key_views(&volume, &labels).len(), 5);
        labels.labels[[7, 20, 30]] = 4;
        labels.labels[[7, 21, 30]] = 4;
        labels.labels[[8, 20, 30]] = 4;
        let views = key_views(&volume, &labels);
        assert_eq!(views[0], ("overlay_axial_tumor.png", View::Axial(7)));
        assert_eq!(views[2], ("overlay_coronal_tumor.png", View::Coronal(20)));
        assert_eq!(views[3], ("overlay_sagittal_tumor.png", View::Sagittal(30)));
        // The liver has z from 20 to 60 mm: slices 12 to 15.
        let thirds =
            [("overlay_axial_liver_upper.png", View::Axial(14)), ("overlay_axial_liver_lower.png", View::Axial(13))];
        assert_eq!(views[4..], thirds);
        labels.labels.fill(0);
        assert_eq!(key_views(&volume, &labels)[0], ("overlay_axial_center.png", View::Axial(10)));
    }

    #[test]
    fn odd_input_still_makes_a_picture() {
        let (mut volume, mut labels) = case(Geometry::IDENTITY);
        volume.hu.fill(f32::NAN);
        labels.labels = Array3::from_elem((2, 2, 2), 77); // another grid, a value outside the scheme
        let bytes = overlay_png(&volume, &labels, View::Sagittal(10_000), SOFT_TISSUE);
        assert_eq!(&bytes[1..4], b"PNG");
        assert!(key_pictures(&volume, &labels).iter().all(|picture| picture.name.contains("center")));
    }

    #[test]
    fn names_become_titles() {
        assert_eq!(picture_title("overlay_axial_liver.png"), "Axial, largest cross-section of the liver");
        assert_eq!(picture_title("overlay_axial_liver_upper.png"), "Axial, upper third of the liver");
        assert_eq!(picture_title("overlay_coronal_center.png"), "Coronal, middle of the volume");
        assert_eq!(picture_title("other.png"), "other.png");
    }
}
