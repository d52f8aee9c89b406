//! Local binary patterns on a sphere, described by spherical harmonics, as PyRadiomics computes them with SciPy and trimesh.

use super::{FilterSettings, Filtered, Output};
use crate::radiomics::numpy::pairwise_sum;
use crate::radiomics::region::{Bounds, Grid, Roi, part};
use crate::volume::Scalar;
use ndarray::{Array3, Axis, Zip, s};
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
    let harmonics: Vec<Vec<Vec<Complex>>> = (0..orders as i32)
        .map(|n| {
            (-n..=n).map(|m| vertices.iter().map(|v| harmonic(m, n, *v, settings.lbp_3d_radius)).collect()).collect()
        })
        .collect();
    let samples = Samples::new(image, bounds, &vertices);
    let view = roi.inside.view();
    let inside: Vec<[usize; 3]> =
        part(&view, bounds).indexed_iter().filter(|(_, inside)| **inside).map(|((z, y, x), _)| [z, y, x]).collect();
    let found: Vec<Vec<f64>> = inside
        .par_iter()
        .map_init(
            || vec![0.0; vertices.len()],
            |values, at| {
                samples.around::<T>(*at, values);
                let [z, y, x]: [usize; 3] = std::array::from_fn(|a| at[a] + bounds.first[2 - a]);
                let center = image.voxels[[z, y, x]].as_f64();
                let set: Vec<bool> = values.iter().map(|v| *v >= center).collect();
                let mut found: Vec<f64> = harmonics.iter().map(|order| strength(order, &set)).collect();
                found.push(kurtosis::<T>(values));
                found
            },
        )
        .collect();
    let [nx, ny, nz] = bounds.size;
    let map = |level: usize| {
        let mut values = Array3::zeros((nz, ny, nx));
        inside.iter().zip(&found).for_each(|(at, found)| values[*at] = found[level]);
        let name = if level < orders { format!("lbp-3D-m{}", level + 1) } else { "lbp-3D-k".into() };
        Output::Image(Filtered { name, values, float32: false })
    };
    (0..=orders).map(map).collect()
}

type Complex = (f64, f64);

fn times(a: Complex, b: Complex) -> Complex {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}

fn plus(a: Complex, b: Complex) -> Complex {
    (a.0 + b.0, a.1 + b.1)
}

/// Real part of the root of the sum of squares (not of magnitudes: as PyRadiomics has it) of the pattern's part of one order.
fn strength(order: &[Vec<Complex>], set: &[bool]) -> f64 {
    let weight =
        |y: &Vec<Complex>| y.iter().zip(set).filter(|(_, set)| **set).fold((0.0, 0.0), |sum, (y, _)| plus(sum, *y));
    let weights: Vec<Complex> = order.iter().map(weight).collect();
    let squares = (0..set.len()).map(|v| {
        let value = weights.iter().zip(order).fold((0.0, 0.0), |sum, (c, y)| plus(sum, times(*c, y[v])));
        times(value, value)
    });
    let (re, im) = squares.fold((0.0, 0.0), plus);
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
fn kurtosis<T: Scalar>(values: &[f64]) -> f64 {
    if T::BYTES == 4 && !T::INTEGER {
        let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        let n = values.len() as f32;
        let mean = pairwise_sum(&values) / n;
        let squares: Vec<f32> = values.iter().map(|v| (v - mean) * (v - mean)).collect();
        let m2 = pairwise_sum(&squares) / n;
        let m4 = pairwise_sum(&squares.iter().map(|s| s * s).collect::<Vec<_>>()) / n;
        let tiny = 1e-6 * mean;
        return if m2 <= tiny * tiny { f64::NAN } else { f64::from(m4 / (m2 * m2) - 3.0) };
    }
    let n = values.len() as f64;
    let mean = pairwise_sum(values) / n;
    let squares: Vec<f64> = values.iter().map(|v| (v - mean) * (v - mean)).collect();
    let m2 = pairwise_sum(&squares) / n;
    let m4 = pairwise_sum(&squares.iter().map(|s| s * s).collect::<Vec<_>>()) / n;
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
    /// For z, y, x: for every voxel of the box along the axis the supports of all vertices.
    supports: [Vec<Vec<Support>>; 3],
}

impl Samples {
    fn new<T: Scalar>(image: &Grid<T>, bounds: Bounds, vertices: &[[f64; 3]]) -> Samples {
        let reach = vertices.iter().flatten().fold(0.0f64, |reach, v| v.abs().max(reach)).ceil() as usize + 3;
        // PyRadiomics adds the x, y, z of the vertices to the indices z, y, x.
        let size: [usize; 3] = std::array::from_fn(|a| image.geometry.size[2 - a]);
        let first: [usize; 3] = std::array::from_fn(|a| bounds.first[2 - a].saturating_sub(reach));
        let end: [usize; 3] = std::array::from_fn(|a| (bounds.first[2 - a] + bounds.size[2 - a] + reach).min(size[a]));
        let coefficients = prefiltered(image, first, end);
        let supports = std::array::from_fn(|a| {
            let voxels = bounds.first[2 - a]..bounds.first[2 - a] + bounds.size[2 - a];
            let at = |i: usize| vertices.iter().map(|v| support(i as f64 + v[a], size[a], first[a], end[a])).collect();
            voxels.map(at).collect()
        });
        Samples { coefficients, supports }
    }

    /// The samples around a voxel (z, y, x of the box), in the pixel type of the image.
    fn around<T: Scalar>(&self, [z, y, x]: [usize; 3], values: &mut [f64]) {
        let supports = self.supports[0][z].iter().zip(&self.supports[1][y]).zip(&self.supports[2][x]);
        for (value, ((z, y), x)) in values.iter_mut().zip(supports) {
            *value = match (z, y, x) {
                (Some(z), Some(y), Some(x)) => stored::<T>(self.sum(z, y, x)),
                _ => 0.0,
            };
        }
    }

    fn sum(&self, z: &([usize; 4], [f64; 4]), y: &([usize; 4], [f64; 4]), x: &([usize; 4], [f64; 4])) -> f64 {
        let mut sum = 0.0;
        for (cz, wz) in z.0.iter().zip(z.1) {
            for (cy, wy) in y.0.iter().zip(y.1) {
                let row = self.coefficients.slice(s![*cz, *cy, ..]);
                let Some(row) = row.to_slice() else { continue };
                for (cx, wx) in x.0.iter().zip(x.1) {
                    sum += row[*cx] * wz * wy * wx;
                }
            }
        }
        sum
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
    let mut data = image.voxels.mapv(Scalar::as_f64);
    for a in 0..3 {
        Zip::from(data.lanes_mut(Axis(a))).par_for_each(|mut lane| {
            let mut line = lane.to_vec();
            prefilter(&mut line);
            lane.iter_mut().zip(line).for_each(|(v, l)| *v = l);
        });
        data.slice_axis_inplace(Axis(a), (first[a]..end[a]).into());
    }
    data.as_standard_layout().into_owned()
}

/// SciPy's recursive filter with mirrored borders.
fn prefilter(line: &mut [f64]) {
    let n = line.len();
    if n < 2 {
        return;
    }
    // sqrt(3) - 2; computed so it would be off in the last digits.
    let z = -0.2679491924311227;
    let gain = (1.0 - z) * (1.0 - 1.0 / z);
    line.iter_mut().for_each(|v| *v *= gain);
    let far = f64::powf(z, n as f64 - 1.0);
    let mut power = z;
    let mut sum = line[0] + far * line[n - 1];
    for i in 1..n - 1 {
        sum += power * (line[i] + far * line[n - 1 - i]);
        power *= z;
    }
    line[0] = sum / (1.0 - far * far);
    for i in 1..n {
        line[i] += z * line[i - 1];
    }
    line[n - 1] = (z * line[n - 2] + line[n - 1]) * z / (z * z - 1.0);
    for i in (0..n - 1).rev() {
        line[i] = z * (line[i + 1] - line[i]);
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
