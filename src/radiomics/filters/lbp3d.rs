//! Local binary patterns on a sphere, described by spherical harmonics, as PyRadiomics computes them with SciPy and trimesh.

use super::{FilterSettings, Filtered, Output};
use crate::radiomics::numpy::pairwise_sum;
use crate::radiomics::region::{Bounds, Grid, Roi, Run, part, runs};
use crate::radiomics::wide::twice;
use crate::volume::Scalar;
use ndarray::{Array3, Axis, s};
use rayon::prelude::*;
use std::f64::consts::PI;

/// One image per order of the harmonics, then the kurtosis of the samples; values in the region, zero around it.
pub(super) fn transform<T: Scalar>(
    image: &Grid<T>,
    roi: &Roi,
    bounds: Bounds,
    settings: &FilterSettings,
) -> Vec<Output> {
    let orders = settings.lbp_3d_levels;
    let vertices = icosphere(settings.lbp_3d_subdivision, settings.lbp_3d_radius);
    let harmonics: Vec<Order> = (0..orders as i32)
        .map(|n| {
            (-n..=n).map(|m| vertices.iter().map(|v| harmonic(m, n, *v, settings.lbp_3d_radius)).collect()).collect()
        })
        .collect();
    let samples = Samples::new(image, bounds, &vertices);
    let view = roi.inside.view();
    let runs = runs(part(&view, bounds));
    let [x0, y0, z0] = bounds.first;
    // Per run its voxels' values of one level after the other.
    let found: Vec<Vec<f64>> = runs
        .par_iter()
        .map_init(Vec::new, |values: &mut Vec<f64>, run| {
            samples.around::<T>(run, values);
            let centers = image.voxels.slice(s![z0 + run.z, y0 + run.y, x0 + run.start..x0 + run.end]);
            let centers: Vec<f64> = centers.iter().map(|v| v.as_f64()).collect();
            let mut found = vec![0.0; (orders + 1) * run.len()];
            let (strengths, kurtoses) = found.split_at_mut(orders * run.len());
            for (order, strengths) in harmonics.iter().zip(strengths.chunks_exact_mut(run.len())) {
                strengths_of_order(order, values, &centers, strengths);
            }
            let mut own = vec![0.0; vertices.len()];
            for (x, kurtosis_of) in kurtoses.iter_mut().enumerate() {
                own.iter_mut().zip(values.chunks_exact(run.len())).for_each(|(own, row)| *own = row[x]);
                *kurtosis_of = kurtosis::<T>(&mut own);
            }
            found
        })
        .collect();
    let [nx, ny, nz] = bounds.size;
    let map = |level: usize| {
        let mut values = Array3::zeros((nz, ny, nx));
        for (run, found) in runs.iter().zip(&found) {
            let place = values.slice_mut(s![run.z, run.y, run.start..run.end]);
            place.into_iter().zip(&found[level * run.len()..]).for_each(|(value, found)| *value = *found);
        }
        let name = if level < orders { format!("lbp-3D-m{}", level + 1) } else { "lbp-3D-k".into() };
        Output::Image(Filtered { name, values, float32: false })
    };
    (0..=orders).map(map).collect()
}

type Complex = (f64, f64);

/// The harmonics of one order at all vertices.
type Order = Vec<Vec<Complex>>;

/// Voxels that are computed side by side.
const LANES: usize = 8;

twice! {
    /// Real part of the root of the sum of squares (not of magnitudes: as PyRadiomics has it) of the pattern's part of one
    /// order. `values`: row after row of samples, one row per vertex, of the voxels with these `centers`.
    strengths_of_order => strengths_plain, (order: &[Vec<Complex>], values: &[f64], centers: &[f64], found: &mut [f64])
}

#[inline(always)]
fn strengths_plain(order: &[Vec<Complex>], values: &[f64], centers: &[f64], found: &mut [f64]) {
    let n = centers.len();
    let mut weights = vec![[[0.0; LANES]; 2]; order.len()];
    for start in (0..n).step_by(LANES) {
        let lanes = LANES.min(n - start);
        weights.fill([[0.0; LANES]; 2]);
        let mut center = [f64::INFINITY; LANES];
        center[..lanes].copy_from_slice(&centers[start..start + lanes]);
        for (v, row) in values.chunks_exact(n).enumerate() {
            let mut value = [0.0; LANES];
            value[..lanes].copy_from_slice(&row[start..start + lanes]);
            for ([re, im], y) in weights.iter_mut().zip(order) {
                let (y_re, y_im) = y[v];
                for l in 0..LANES {
                    // A sum that began with zero is not changed by one.
                    let set = value[l] >= center[l];
                    re[l] += if set { y_re } else { 0.0 };
                    im[l] += if set { y_im } else { 0.0 };
                }
            }
        }
        let (mut sum_re, mut sum_im) = ([0.0; LANES], [0.0; LANES]);
        for v in 0..values.len() / n {
            let (mut re, mut im) = ([0.0; LANES], [0.0; LANES]);
            for ([c_re, c_im], y) in weights.iter().zip(order) {
                let (y_re, y_im) = y[v];
                for l in 0..LANES {
                    re[l] += c_re[l] * y_re - c_im[l] * y_im;
                    im[l] += c_re[l] * y_im + c_im[l] * y_re;
                }
            }
            for l in 0..LANES {
                sum_re[l] += re[l] * re[l] - im[l] * im[l];
                sum_im[l] += re[l] * im[l] + im[l] * re[l];
            }
        }
        for (found, (re, im)) in found[start..start + lanes].iter_mut().zip(sum_re.iter().zip(&sum_im)) {
            *found = real_root(*re, *im);
        }
    }
}

/// Real part of the square root of a complex number.
fn real_root(re: f64, im: f64) -> f64 {
    let size = re.hypot(im);
    if size == 0.0 {
        0.0
    } else if re >= 0.0 {
        ((re + size) * 0.5).sqrt()
    } else {
        im.abs() / (2.0 * ((size - re) * 0.5).sqrt())
    }
}

/// Spherical harmonic with the angles in the order in which PyRadiomics gives them: the polar angle as azimuth.
fn harmonic(m: i32, n: i32, [x, y, z]: [f64; 3], radius: f64) -> Complex {
    let (azimuth, polar) = ((z / radius).acos(), y.atan2(x));
    let order = m.abs();
    let mut value = legendre(order, n, polar.cos());
    let ratio: f64 = (n - order + 1..=n + order).map(f64::from).product();
    if m < 0 && order % 2 == 1 {
        value = -value;
    }
    value *= (f64::from(2 * n + 1) / 4.0 / PI).sqrt() / ratio.sqrt();
    let (sin, cos) = (f64::from(m) * azimuth).sin_cos();
    (value * cos, value * sin)
}

/// Associated Legendre function with the phase of Condon and Shortley.
fn legendre(m: i32, n: i32, x: f64) -> f64 {
    let root = ((1.0 - x) * (1.0 + x)).sqrt();
    let (mut below, mut value) = (0.0, (0..m).fold(1.0, |p, i| -p * f64::from(2 * i + 1) * root));
    for k in m + 1..=n {
        let next = (f64::from(2 * k - 1) * x * value - f64::from(k + m - 1) * below) / f64::from(k - m);
        (below, value) = (value, next);
    }
    value
}

/// Fisher's kurtosis in the precision of the samples (`scipy.stats.kurtosis`); NaN for samples that are all but equal.
/// The samples are overwritten.
fn kurtosis<T: Scalar>(values: &mut [f64]) -> f64 {
    if T::BYTES == 4 && !T::INTEGER {
        let mut values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        let n = values.len() as f32;
        let mean = pairwise_sum(&values) / n;
        values.iter_mut().for_each(|v| *v = (*v - mean) * (*v - mean));
        let m2 = pairwise_sum(&values) / n;
        values.iter_mut().for_each(|s| *s *= *s);
        let m4 = pairwise_sum(&values) / n;
        let tiny = 1e-6 * mean;
        return if m2 <= tiny * tiny { f64::NAN } else { f64::from(m4 / (m2 * m2) - 3.0) };
    }
    let n = values.len() as f64;
    let mean = pairwise_sum(values) / n;
    values.iter_mut().for_each(|v| *v = (*v - mean) * (*v - mean));
    let m2 = pairwise_sum(values) / n;
    values.iter_mut().for_each(|s| *s *= *s);
    let m4 = pairwise_sum(values) / n;
    let tiny = 1e-15 * mean;
    if m2 <= tiny * tiny { f64::NAN } else { m4 / (m2 * m2) - 3.0 }
}

/// Vertices of a divided icosahedron, in the order of trimesh: each division appends the middles of the edges, those with
/// the lower second vertex first.
fn icosphere(divisions: usize, radius: f64) -> Vec<[f64; 3]> {
    let (a, b) = (0.5257311121191336, 0.85065080835204);
    let mut vertices: Vec<[f64; 3]> = Vec::new();
    for turn in 0..3 {
        for (long, short) in [(1.0, -1.0), (1.0, 1.0), (-1.0, -1.0), (-1.0, 1.0)] {
            // (short, long, 0), turned through the axes.
            let mut vertex = [0.0; 3];
            vertex[turn] = short * a;
            vertex[(turn + 1) % 3] = long * b;
            vertices.push(vertex);
        }
    }
    let length = |[x, y, z]: [f64; 3]| (x * x + y * y + z * z).sqrt();
    let distance = |p: &[f64; 3], q: &[f64; 3]| length(std::array::from_fn(|i| p[i] - q[i]));
    let mut edges: Vec<(usize, usize)> = Vec::new();
    for j in 0..12 {
        edges.extend((0..j).filter(|i| distance(&vertices[*i], &vertices[j]) < 1.1).map(|i| (i, j)));
    }
    let onto_sphere = |vertices: &mut Vec<[f64; 3]>| {
        for vertex in vertices {
            let r = length(*vertex);
            *vertex = vertex.map(|v| v + v / r * (radius - r));
        }
    };
    for _ in 0..divisions {
        let old = vertices.len();
        let middle = |i: usize, j: usize| std::array::from_fn(|a| (vertices[i][a] + vertices[j][a]) / 2.0);
        let middles: Vec<[f64; 3]> = edges.iter().map(|(i, j)| middle(*i, *j)).collect();
        vertices.extend(middles);
        edges = divided(&edges, old);
        onto_sphere(&mut vertices);
    }
    if divisions == 0 {
        onto_sphere(&mut vertices);
    }
    vertices
}

/// The edges after a division: halves of the old ones, and between the middles of a triangle's edges.
fn divided(edges: &[(usize, usize)], old: usize) -> Vec<(usize, usize)> {
    let find = |i: usize, j: usize| edges.iter().position(|e| *e == (i.min(j), i.max(j))).map(|k| old + k);
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (k, (i, j)) in edges.iter().enumerate() {
        found.extend([(*i, old + k), (*j, old + k)]);
        // Two edges that share a vertex, and whose other ends form an edge, bound a triangle.
        for (i2, j2) in &edges[k + 1..] {
            let ends = if i == i2 {
                (j, j2)
            } else if i == j2 {
                (j, i2)
            } else if j == i2 {
                (i, j2)
            } else if j == j2 {
                (i, i2)
            } else {
                continue;
            };
            if let (Some(a), Some(b), Some(_)) = (find(*i, *j), find(*i2, *j2), find(*ends.0, *ends.1)) {
                found.push((a.min(b), a.max(b)));
            }
        }
    }
    found.sort_unstable_by_key(|(i, j)| (*j, *i));
    found.dedup();
    found
}

/// Four coefficients that a sample reads along one axis, and their weights; none outside the image.
type Support = Option<([usize; 4], [f64; 4])>;

/// Cubic spline samples around every voxel of a box (`scipy.ndimage.map_coordinates`, order 3, zero outside).
struct Samples {
    coefficients: Array3<f64>,
    /// For z, y, x: for every vertex the supports of all voxels of the box along the axis.
    supports: [Vec<Vec<Support>>; 3],
    /// For every vertex the columns whose supports along x are shifted copies of each other, and their weights.
    shifted: Vec<Shifted>,
}

/// Columns of the box whose supports follow each other.
struct Shifted {
    /// Ranges of columns, and the coefficient that the first one reads first.
    ranges: Vec<(usize, usize, usize)>,
    /// Of each of the four coefficients, by column.
    weights: [Vec<f64>; 4],
}

impl Shifted {
    fn new(supports: &[Support]) -> Shifted {
        let regular = |x: usize| {
            let (at, _) = supports[x].as_ref()?;
            (0..3).all(|k| at[k] + 1 == at[k + 1]).then_some(at[0])
        };
        let mut ranges: Vec<(usize, usize, usize)> = Vec::new();
        for x in 0..supports.len() {
            match (regular(x), ranges.last_mut()) {
                (Some(at), Some((start, end, first))) if *end == x && *first + x - *start == at => *end = x + 1,
                (Some(at), _) => ranges.push((x, x + 1, at)),
                (None, _) => {}
            }
        }
        let weight = |k: usize| supports.iter().map(|s| s.map_or(0.0, |(_, weights)| weights[k])).collect();
        Shifted { ranges, weights: std::array::from_fn(weight) }
    }
}

impl Samples {
    fn new<T: Scalar>(image: &Grid<T>, bounds: Bounds, vertices: &[[f64; 3]]) -> Samples {
        let reach = vertices.iter().flatten().fold(0.0f64, |reach, v| v.abs().max(reach)).ceil() as usize + 3;
        // PyRadiomics adds the x, y, z of the vertices to the indices z, y, x.
        let size: [usize; 3] = std::array::from_fn(|a| image.geometry.size[2 - a]);
        let first: [usize; 3] = std::array::from_fn(|a| bounds.first[2 - a].saturating_sub(reach));
        let end: [usize; 3] = std::array::from_fn(|a| (bounds.first[2 - a] + bounds.size[2 - a] + reach).min(size[a]));
        let coefficients = prefiltered(image, first, end);
        let supports: [Vec<Vec<Support>>; 3] = std::array::from_fn(|a| {
            let voxels = bounds.first[2 - a]..bounds.first[2 - a] + bounds.size[2 - a];
            let of =
                |v: &[f64; 3]| voxels.clone().map(|i| support(i as f64 + v[a], size[a], first[a], end[a])).collect();
            vertices.iter().map(of).collect()
        });
        let shifted = supports[2].iter().map(|supports| Shifted::new(supports)).collect();
        Samples { coefficients, supports, shifted }
    }

    /// The samples around the voxels of a run, in the pixel type of the image: a row of them per vertex.
    fn around<T: Scalar>(&self, run: &Run, values: &mut Vec<f64>) {
        values.clear();
        values.resize(self.shifted.len() * run.len(), 0.0);
        for (v, row) in values.chunks_exact_mut(run.len()).enumerate() {
            let (Some(z), Some(y)) = (&self.supports[0][v][run.z], &self.supports[1][v][run.y]) else { continue };
            let (_, ny, nx) = self.coefficients.dim();
            let all = self.coefficients.as_slice().unwrap_or(&[]); // in standard layout
            let lines: [&[f64]; 16] = std::array::from_fn(|k| &all[(z.0[k / 4] * ny + y.0[k % 4]) * nx..][..nx]);
            let mut done = run.start;
            let alone = |row: &mut [f64], to: usize, done: &mut usize| {
                for x in *done..to {
                    if let Some(x_support) = &self.supports[2][v][x] {
                        row[x - run.start] = sum(&lines, &z.1, &y.1, x_support);
                    }
                }
                *done = to.max(*done);
            };
            let shifted = &self.shifted[v];
            for (start, end, first) in &shifted.ranges {
                let (from, to) = ((*start).max(run.start), (*end).min(run.end));
                if from + LANES > to {
                    continue; // too short
                }
                alone(row, from, &mut done);
                let weights = [0, 1, 2, 3].map(|k| &shifted.weights[k][from..to]);
                let lines = lines.map(|line| &line[first + from - start..]);
                sums(&lines, &z.1, &y.1, weights, &mut row[from - run.start..to - run.start]);
                done = to;
            }
            alone(row, run.end, &mut done);
            row.iter_mut().for_each(|value| *value = stored::<T>(*value));
        }
    }
}

/// One sample from sixteen lines of coefficients (y fastest).
fn sum(lines: &[&[f64]; 16], wz: &[f64; 4], wy: &[f64; 4], x: &([usize; 4], [f64; 4])) -> f64 {
    let mut sum = 0.0;
    for (k, line) in lines.iter().enumerate() {
        for (cx, wx) in x.0.iter().zip(x.1) {
            sum += line[*cx] * wz[k / 4] * wy[k % 4] * wx;
        }
    }
    sum
}

twice! {
    /// Samples of at least [`LANES`] neighbors, each as [`sum`] adds it; the first one reads the first coefficients.
    sums => sums_plain, (lines: &[&[f64]; 16], wz: &[f64; 4], wy: &[f64; 4], wx: [&[f64]; 4], out: &mut [f64])
}

#[inline(always)]
fn sums_plain(lines: &[&[f64]; 16], wz: &[f64; 4], wy: &[f64; 4], wx: [&[f64]; 4], out: &mut [f64]) {
    let n = out.len();
    let mut start = 0;
    while start < n {
        // The last block overlaps the one before.
        let at = start.min(n.saturating_sub(LANES));
        let mut sums = [0.0; LANES];
        for (k, line) in lines.iter().enumerate() {
            let (wz, wy) = (wz[k / 4], wy[k % 4]);
            for (j, wx) in wx.iter().enumerate() {
                let (line, wx) = (&line[at + j..at + j + LANES], &wx[at..at + LANES]);
                for l in 0..LANES {
                    sums[l] += line[l] * wz * wy * wx[l];
                }
            }
        }
        out[at..at + LANES].copy_from_slice(&sums);
        start = at + LANES;
    }
}

/// SciPy rounds half away from zero where it stores integers, and keeps them in their range.
fn stored<T: Scalar>(value: f64) -> f64 {
    let value = if T::INTEGER { if value > 0.0 { value + 0.5 } else { value - 0.5 } } else { value };
    T::from_f64(value).as_f64()
}

fn support(at: f64, size: usize, first: usize, end: usize) -> Support {
    let last = size as i64 - 1;
    if at < 0.0 || at > last as f64 {
        return None;
    }
    let y = at - at.floor();
    let z = 1.0 - y;
    let middle = (y * y * (y - 2.0) * 3.0 + 4.0) / 6.0;
    let after = (z * z * (z - 2.0) * 3.0 + 4.0) / 6.0;
    let before = z * z * z / 6.0;
    let weights = [before, middle, after, 1.0 - before - middle - after];
    let places = std::array::from_fn(|k| {
        let mut i = at.floor() as i64 - 1 + k as i64;
        if last == 0 {
            i = 0;
        } else {
            i = i.abs().rem_euclid(2 * last);
            i = i.min(2 * last - i);
        }
        // Inside by construction.
        (i as usize).clamp(first, end - 1) - first
    });
    Some((places, weights))
}

/// Spline coefficients of the part `first`..`end` (z, y, x), filtered over whole lines along z, then y, then x.
fn prefiltered<T: Scalar>(image: &Grid<T>, first: [usize; 3], end: [usize; 3]) -> Array3<f64> {
    let mut data = image.voxels.as_standard_layout().mapv(Scalar::as_f64);
    let (_, _, nx) = data.dim();
    data.axis_iter_mut(Axis(1)).into_par_iter().for_each_init(Vec::new, |buffer, mut plane| {
        buffer.clear();
        buffer.extend(plane.iter());
        prefilter(buffer, nx);
        plane.iter_mut().zip(buffer.iter()).for_each(|(v, b)| *v = *b);
    });
    data.slice_axis_inplace(Axis(0), (first[0]..end[0]).into());
    data.axis_iter_mut(Axis(0)).into_par_iter().for_each(|mut plane| {
        if let Some(plane) = plane.as_slice_mut() {
            prefilter(plane, nx);
            let (_, kept) = plane.split_at_mut(first[1] * nx);
            kept.chunks_exact_mut(nx).take(end[1] - first[1]).for_each(|row| prefilter(row, 1));
        }
    });
    data.slice(s![.., first[1]..end[1], first[2]..end[2]]).as_standard_layout().into_owned()
}

twice! {
    /// SciPy's recursive filter with mirrored borders down the columns of a plane of this width.
    prefilter => prefilter_plain, (plane: &mut [f64], width: usize)
}

#[inline(always)]
fn prefilter_plain(plane: &mut [f64], width: usize) {
    let n = plane.len() / width;
    if n < 2 {
        return;
    }
    // sqrt(3) - 2; computed so it would be off in the last digits.
    let z = -0.2679491924311227;
    let gain = (1.0 - z) * (1.0 - 1.0 / z);
    plane.iter_mut().for_each(|v| *v *= gain);
    let far = f64::powf(z, n as f64 - 1.0);
    let mut power = z;
    let (first, rest) = plane.split_at_mut(width);
    let row = |i: usize| &rest[(i - 1) * width..i * width];
    first.iter_mut().zip(row(n - 1)).for_each(|(sum, last)| *sum += far * last);
    for i in 1..n - 1 {
        let pairs = row(i).iter().zip(row(n - 1 - i));
        first.iter_mut().zip(pairs).for_each(|(sum, (a, b))| *sum += power * (a + far * b));
        power *= z;
    }
    first.iter_mut().for_each(|sum| *sum /= 1.0 - far * far);
    for i in 1..n {
        let (before, rest) = plane.split_at_mut(i * width);
        rest[..width].iter_mut().zip(&before[(i - 1) * width..]).for_each(|(v, before)| *v += z * before);
    }
    let (before, last) = plane.split_at_mut((n - 1) * width);
    last.iter_mut().zip(&before[(n - 2) * width..]).for_each(|(v, b)| *v = (z * b + *v) * z / (z * z - 1.0));
    for i in (0..n - 1).rev() {
        let (rest, after) = plane.split_at_mut((i + 1) * width);
        rest[i * width..].iter_mut().zip(&after[..width]).for_each(|(v, after)| *v = z * (after - *v));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sphere_has_the_vertices_of_trimesh_in_its_order() {
        let close = |a: [f64; 3], b: [f64; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-15);
        assert!(close(icosphere(0, 1.0)[4], [0.0, -0.5257311121191336, 0.85065080835204]));
        let one = icosphere(1, 1.0);
        assert_eq!(one.len(), 42);
        assert!(close(one[14], [-0.3090169943749474, -0.8090169943749473, 0.5]));
        assert_eq!(icosphere(2, 1.5).len(), 162);
        assert_eq!(icosphere(3, 1.0).len(), 642);
    }

    #[test]
    fn harmonics_are_orthonormal_where_the_angles_are_not_swapped() {
        // Y(1, 1) at azimuth 0.3, polar angle 1.1: -sqrt(3 / 8 pi) sin(1.1) exp(0.3 i).
        let at = |azimuth: f64, polar: f64| [f64::cos(polar), f64::sin(polar), f64::cos(azimuth)];
        let size = -(3.0 / 8.0 / PI).sqrt() * 1.1f64.sin();
        let (re, im) = harmonic(1, 1, at(0.3, 1.1), 1.0);
        assert!((re - size * 0.3f64.cos()).abs() < 1e-15 && (im - size * 0.3f64.sin()).abs() < 1e-15);
        let (re, im) = harmonic(-1, 1, at(0.3, 1.1), 1.0);
        assert!((re + size * 0.3f64.cos()).abs() < 1e-15 && (im - size * 0.3f64.sin()).abs() < 1e-15);
    }
}
