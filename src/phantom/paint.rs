//! One slice of a phantom: every voxel is bent back into the drawn anatomy and painted, then blurred and given noise.

use super::anatomy::{Anatomy, Ball, Blob};
use super::noise::{value_noise, voxel_noise};
use crate::volume::Geometry;
use ndarray::{Array2, Array4, ArrayView1, ArrayView2, ArrayViewMut2, Zip, s};

/// Distance between the nodes of the bending field.
const NODE_MM: f32 = 12.0;
/// No displacement is longer, along any axis.
const BEND_MM_MAX: f32 = 12.0;

/// A smooth displacement of the whole anatomy.
pub struct Bend {
    /// Displacement in mm at the nodes, shape (3, z, y, x).
    nodes: Array4<f32>,
    low_mm: [f32; 3],
}

impl Bend {
    /// The bending field of an anatomy over a grid.
    pub fn new(anatomy: &Anatomy, geometry: &Geometry) -> Bend {
        let low_mm: [f32; 3] = geometry.origin_mm.map(|o| o as f32 - NODE_MM);
        let n: [usize; 3] =
            std::array::from_fn(|a| (geometry.size[a] as f32 * geometry.spacing_mm[a] as f32 / NODE_MM) as usize + 4);
        let nodes = Array4::from_shape_fn((3, n[2], n[1], n[0]), |(c, z, y, x)| {
            let p = [x, y, z].map(|k| k as f32 * NODE_MM);
            displacement_mm(anatomy, std::array::from_fn(|a| p[a] + low_mm[a]), c)
        });
        Bend { nodes, low_mm }
    }

    /// Cell and fraction between the nodes along an axis.
    fn cell(&self, axis: usize, at_mm: f32) -> (usize, f32) {
        let t = (at_mm - self.low_mm[axis]) / NODE_MM;
        let cell = t as usize;
        (cell, t - cell as f32)
    }

    /// Bends a row of voxels: their places in the anatomy, in mm, one list per axis. Trilinear between the nodes.
    fn row(&self, x_mm: &[f32], y_mm: f32, z_mm: f32) -> [Vec<f32>; 3] {
        let ((j, fy), (k, fz)) = (self.cell(1, y_mm), self.cell(2, z_mm));
        let cells: Vec<(usize, f32)> = x_mm.iter().map(|x| self.cell(0, *x)).collect();
        std::array::from_fn(|axis| {
            let [front, back, front_above, back_above] =
                [(k, j), (k, j + 1), (k + 1, j), (k + 1, j + 1)].map(|(k, j)| self.nodes.slice(s![axis, k, j, ..]));
            let bend = |x: &f32, (i, fx): (usize, f32)| {
                let along = |line: &ArrayView1<f32>| line[i] + (line[i + 1] - line[i]) * fx;
                let plane = |front: f32, back: f32| front + (back - front) * fy;
                let (low, high) = (plane(along(&front), along(&back)), plane(along(&front_above), along(&back_above)));
                [*x, y_mm, z_mm][axis] + low + (high - low) * fz
            };
            x_mm.iter().zip(&cells).map(|(x, cell)| bend(x, *cell)).collect()
        })
    }
}

/// Displacement along one axis at a place of the patient.
fn displacement_mm(anatomy: &Anatomy, place_mm: [f32; 3], axis: usize) -> f32 {
    let seed = anatomy.seeds[axis];
    8.0 * value_noise(seed, place_mm, 90.0) + 4.0 * value_noise(seed ^ 1, place_mm, 40.0)
}

/// Where a drawn place lies in the bent patient: the inverse of the bending, within a millimeter.
/// The field's slope is below 1, so stepping back by the displacement converges.
pub fn place_in_patient(anatomy: &Anatomy, drawn_mm: [f32; 3]) -> [f32; 3] {
    (0..12).fold(drawn_mm, |p, _| std::array::from_fn(|axis| drawn_mm[axis] - displacement_mm(anatomy, p, axis)))
}

/// What a voxel is made of.
struct Voxel {
    hu: f32,
    label: u8,
    /// Whether a tumor may grow into it: bowel and fat, not bone or another organ.
    soft: bool,
}

/// Paints slice `z` (HU and labels, shape (y, x)).
pub fn slice(
    a: &Anatomy,
    bend: &Bend,
    g: &Geometry,
    z: usize,
    mut hu: ArrayViewMut2<f32>,
    mut labels: ArrayViewMut2<u8>,
) {
    let (rows, columns) = hu.dim();
    let z_mm = (g.origin_mm[2] + z as f64 * g.spacing_mm[2]) as f32;
    let near = |balls: &[Ball], axis: usize, at: f32| -> Vec<Ball> {
        balls.iter().filter(|b| (b.center[axis] - at).abs() < b.radius + BEND_MM_MAX).copied().collect()
    };
    let (colon_z, vessels_z) = (near(&a.colon, 2, z_mm), near(&a.vessels, 2, z_mm));
    let table_y = a.body[1] + 14.0;
    let x_mm: Vec<f32> = (0..columns).map(|x| (g.origin_mm[0] + x as f64 * g.spacing_mm[0]) as f32).collect();
    for y in 0..rows {
        let y_mm = (g.origin_mm[1] + y as f64 * g.spacing_mm[1]) as f32;
        for x in 0..columns {
            let table = (y_mm - table_y).abs() < 8.0 && x_mm[x].abs() < 210.0;
            hu[[y, x]] = if table { -420.0 } else { -1000.0 };
        }
        // More than half of a scan is air that no bending reaches: skipping it halves the time (2026-11-25).
        let reached =
            |x: &f32| (x / (a.body[0] + BEND_MM_MAX)).powi(2) + (y_mm / (a.body[1] + BEND_MM_MAX)).powi(2) < 1.0;
        let Some(first) = x_mm.iter().position(reached) else { continue };
        let last = x_mm.iter().rposition(reached).unwrap_or(first);
        let (colon, vessels) = (near(&colon_z, 1, y_mm), near(&vessels_z, 1, y_mm));
        let [px, py, pz] = bend.row(&x_mm[first..=last], y_mm, z_mm);
        for (k, x) in (first..=last).enumerate() {
            if let Some(voxel) = inside(a, [px[k], py[k], pz[k]], &vessels, &colon) {
                hu[[y, x]] = voxel.hu;
                labels[[y, x]] = voxel.label;
            }
        }
    }
    scan(a, g, z, hu);
}

/// The whole patient at one place of the anatomy; `None` outside the body.
fn inside(a: &Anatomy, p: [f32; 3], vessels: &[Ball], colon: &[Ball]) -> Option<Voxel> {
    let mut voxel = body(a, p)?;
    organs(a, p, vessels, &mut voxel);
    bowel(a, p, colon, &mut voxel);
    Some(voxel)
}

/// Body wall, skeleton and lungs; `None` outside the body. `p` in the anatomy's millimeters.
fn body(a: &Anatomy, p: [f32; 3]) -> Option<Voxel> {
    let [x, y, z] = p;
    let radius = (x / a.body[0]).powi(2) + (y / a.body[1]).powi(2);
    if radius >= 1.0 {
        return None;
    }
    let depth = (1.0 - radius.sqrt()) * a.body[1];
    let plain = |hu| Some(Voxel { hu, label: 0, soft: false });
    let spine = ((x / 21.0).powi(2) + ((y - a.spine_y) / 18.0).powi(2)).sqrt();
    if spine < 1.0 {
        let in_disc = (z + 400.0).rem_euclid(34.0) < 8.0;
        return plain(if in_disc {
            85.0
        } else if spine > 0.85 {
            a.hu.bone + 150.0
        } else {
            a.hu.bone * 0.6
        });
    }
    let behind = y - a.spine_y - 24.0;
    if behind.abs() < 9.0 && x.abs() < 9.0 {
        return plain(30.0); // spinal canal
    }
    if (behind - 16.0).abs() < 10.0
        && x.abs() < 6.0 + 22.0 * f32::from((z + 400.0).rem_euclid(34.0) > 20.0)
        && depth > 4.0
    {
        return plain(a.hu.bone);
    }
    let wall_end = a.fat_mm + a.wall_mm;
    if depth < 2.0 {
        return plain(10.0);
    }
    if depth < a.fat_mm {
        return plain(a.hu.fat);
    }
    if depth < wall_end {
        let rib = z > 8.0 && (z + 0.35 * y + 400.0).rem_euclid(27.0) < 9.0 && depth > wall_end - 7.0 && x.abs() > 40.0;
        return plain(if rib { a.hu.bone } else { a.hu.muscle });
    }
    // The psoas runs beside the spine, the iliac bones flank the pelvis.
    if z < 30.0 && ((x.abs() - 40.0) / 19.0).powi(2) + ((y - a.spine_y + 6.0) / 20.0).powi(2) < 1.0 {
        return plain(a.hu.muscle);
    }
    if z < -95.0 && depth < wall_end + 13.0 && y > -10.0 && x.abs() > 50.0 {
        return plain(if depth < wall_end + 4.0 { a.hu.bone + 200.0 } else { a.hu.bone });
    }
    let dome = a.dome_mm - ((x.abs() - 68.0).powi(2) + y * y) / 230.0;
    if z > dome && (x.abs() > 42.0 || y > 24.0) {
        return plain(-850.0 + 60.0 * value_noise(a.seeds[5], p, 8.0));
    }
    if z > a.dome_mm + 4.0 {
        return plain(a.hu.muscle - 10.0); // mediastinum; the heart is painted over it
    }
    Some(Voxel { hu: a.hu.fat + 6.0 * value_noise(a.seeds[5], p, 14.0), label: 0, soft: true })
}

/// Solid organs and vessels inside the cavity.
fn organs(a: &Anatomy, p: [f32; 3], vessels: &[Ball], v: &mut Voxel) {
    let mediastinum = p[2] > a.dome_mm + 4.0;
    if !v.soft && !mediastinum {
        return;
    }
    let set = |v: &mut Voxel, hu: f32| *v = Voxel { hu, label: 0, soft: false };
    if a.heart.level(p) < 1.0 && p[2] > a.dome_mm + 4.0 {
        return set(v, a.hu.aorta - 20.0);
    }
    let round = |x: f32, y: f32, r: f32| (p[0] - x).powi(2) + (p[1] - y).powi(2) < r * r;
    if round(10.0, a.spine_y - 30.0, 11.0) {
        return set(v, a.hu.aorta);
    }
    if round(-20.0, a.spine_y - 30.0, 11.5) {
        return set(v, a.hu.aorta - 25.0);
    }
    if mediastinum {
        return;
    }
    for kidney in &a.kidneys {
        let level = kidney.level(p);
        if level < 1.0 {
            return set(v, if level < 0.16 { 20.0 } else { a.hu.kidney });
        }
    }
    if a.spleen.level(p) < 1.0 {
        return set(v, a.hu.spleen);
    }
    if a.gallbladder.level(p) < 1.0 {
        return set(v, 8.0);
    }
    if a.liver.iter().any(|lobe| lobe.level(p) < 1.0) {
        return liver(a, p, vessels, v);
    }
    let stomach = a.stomach.level(p);
    if stomach < 1.0 {
        let contents = if p[1] < a.stomach.center[1] - 14.0 { -880.0 } else { 25.0 };
        return set(v, if stomach > 0.8 { a.hu.bowel_wall } else { contents });
    }
    if a.bladder.level(p) < 1.0 {
        set(v, 6.0);
    }
}

fn liver(a: &Anatomy, p: [f32; 3], vessels: &[Ball], v: &mut Voxel) {
    let coarse = (1.5 + 13.0 * a.liver_texture) * value_noise(a.seeds[3], p, 10.0);
    let fine = (1.0 + 9.0 * a.liver_texture) * value_noise(a.seeds[3] ^ 1, p, 4.5);
    let mut hu = a.hu.liver + coarse + fine;
    let mut label = 1;
    if vessels.iter().any(|ball| distance2(p, ball.center) < ball.radius * ball.radius) {
        hu += a.hu.vessel;
    }
    if a.lesions.iter().any(|lesion| blob_level(lesion, p) < 1.0) {
        hu = a.hu.liver + a.hu.lesion_minus_liver + 6.0 * value_noise(a.seeds[3] ^ 2, p, 6.0);
        label = 2;
    }
    *v = Voxel { hu, label, soft: false };
}

/// Small bowel, colon and the tumor on its wall.
fn bowel(a: &Anatomy, p: [f32; 3], colon: &[Ball], v: &mut Voxel) {
    if !v.soft {
        return;
    }
    let central = (p[0] / 85.0).powi(2) + ((p[1] + 8.0) / 52.0).powi(2) + ((p[2] + 72.0) / 58.0).powi(2);
    if central < 1.0 && value_noise(a.seeds[7], p, 24.0) > -0.05 {
        v.hu = a.hu.bowel_wall - 14.0 + 10.0 * value_noise(a.seeds[7] ^ 1, p, 12.0);
    }
    let mut level = f32::INFINITY;
    let mut along = 0.0;
    for ball in colon {
        let relative = distance2(p, ball.center) / (ball.radius * ball.radius);
        if relative < level {
            (level, along) = (relative, ball.along);
        }
    }
    if level < 1.0 {
        // A wall of some 3 mm; gas rises to the front where there is gas.
        let gas = value_noise(a.seeds[6], [along, 0.0, 0.0], 70.0) > -0.25;
        let center_y = colon.iter().fold((f32::INFINITY, 0.0), |best, b| {
            let d = distance2(p, b.center);
            if d < best.0 { (d, b.center[1]) } else { best }
        });
        let contents = if gas && p[1] < center_y.1 + 2.0 {
            -930.0
        } else {
            a.hu.stool + 28.0 * value_noise(a.seeds[6] ^ 1, p, 7.0) + 20.0 * value_noise(a.seeds[6] ^ 2, p, 3.5)
        };
        *v = Voxel { hu: if level > 0.72 { a.hu.bowel_wall } else { contents }, label: 3, soft: true };
    }
    if let Some(tumor) = &a.tumor
        && blob_level(tumor, p) < 1.0
    {
        let coarse = (2.0 + 20.0 * a.tumor_texture) * value_noise(a.seeds[4], p, 8.0);
        let fine = (1.0 + 12.0 * a.tumor_texture) * value_noise(a.seeds[4] ^ 1, p, 4.0);
        *v = Voxel { hu: a.hu.tumor + coarse + fine, label: 4, soft: false };
    }
}

fn distance2(p: [f32; 3], q: [f32; 3]) -> f32 {
    (0..3).map(|a| (p[a] - q[a]).powi(2)).sum()
}

/// Squared relative radius of a rough ball: below 1 inside.
fn blob_level(blob: &Blob, p: [f32; 3]) -> f32 {
    let smooth: f32 = (0..3).map(|a| ((p[a] - blob.center[a]) / blob.half[a]).powi(2)).sum();
    // The surface varies by 12 %, so only places near it need the noise.
    if !(0.7..=1.4).contains(&smooth) { smooth } else { smooth * (1.0 + 0.24 * value_noise(blob.seed, p, 11.0)) }
}

/// Blur in plane, noise (half of it correlated), integers.
fn scan(a: &Anatomy, g: &Geometry, z: usize, mut hu: ArrayViewMut2<f32>) {
    let (rows, columns) = hu.dim();
    let first = (z * rows * columns) as u64;
    let white =
        Array2::from_shape_fn((rows, columns), |(y, x)| voxel_noise(a.seeds[8], first + (y * columns + x) as u64));
    // A blur of about one voxel, only where voxels are fine enough that a scanner would blur them.
    if g.spacing_mm[0] < 1.5 {
        let blurred = blurred(hu.view());
        hu.assign(&blurred);
    }
    // The blurred white noise has a deviation of 6/16; both halves together have about 1.
    let noise = |white: f32, blurred: f32| 0.6 * white + 1.35 * blurred;
    Zip::from(&mut hu).and(&white).and(&blurred(white.view())).for_each(|hu, white, blurred| {
        *hu = (*hu + a.hu.noise * noise(*white, *blurred)).round().clamp(-1024.0, 3071.0);
    });
}

/// Weights 1 2 1 along x, then along y; at the edges a voxel is its own neighbor.
fn blurred(values: ArrayView2<f32>) -> Array2<f32> {
    let (rows, columns) = values.dim();
    let mut along_x = Array2::<f32>::zeros((rows, columns));
    for (line, mut out) in values.outer_iter().zip(along_x.outer_iter_mut()) {
        let sum = |x: usize| line[x.saturating_sub(1)] + 2.0 * line[x] + line[(x + 1).min(columns - 1)];
        (out[0], out[columns - 1]) = (sum(0), sum(columns - 1));
        if let (Some(out), Some(line)) = (out.as_slice_mut(), line.as_slice()) {
            for (out, v) in out[1..].iter_mut().zip(line.windows(3)) {
                *out = v[0] + 2.0 * v[1] + v[2];
            }
        }
    }
    let mut both = Array2::<f32>::zeros((rows, columns));
    for (y, out) in both.outer_iter_mut().enumerate() {
        let [above, own, below] = [y.saturating_sub(1), y, (y + 1).min(rows - 1)].map(|y| along_x.row(y));
        Zip::from(out)
            .and(above)
            .and(own)
            .and(below)
            .for_each(|out, above, own, below| *out = (above + 2.0 * own + below) / 16.0);
    }
    both
}
