//! Shape of the region: surface mesh by marching cubes, diameters over its vertices, axes of the voxel centers.

use super::mesh_table::{MIDDLES, TRIANGLES};
use super::table::{Definition, Offer, offered, usual};
use ndarray::{Array3, ArrayView3, s};
use std::f64::consts::PI;

/// The features of this family.
pub(super) const FEATURES: [Definition; 17] = [
    offered(Offer::Deprecated, usual("Compactness1", "", "SKGS")),
    offered(Offer::Deprecated, usual("Compactness2", "", "BQWJ")),
    usual("Elongation", "", "Q3CK"),
    usual("Flatness", "", "N17B"),
    usual("LeastAxisLength", "mm", "7J51"),
    usual("MajorAxisLength", "mm", "TDIC"),
    usual("Maximum2DDiameterColumn", "mm", ""),
    usual("Maximum2DDiameterRow", "mm", ""),
    usual("Maximum2DDiameterSlice", "mm", ""),
    usual("Maximum3DDiameter", "mm", "L0JK"),
    usual("MeshVolume", "mm3", "RNU0"),
    usual("MinorAxisLength", "mm", "P9VJ"),
    offered(Offer::Deprecated, usual("SphericalDisproportion", "", "KRCK")),
    usual("Sphericity", "", "QCFX"),
    usual("SurfaceArea", "mm2", "C0JK"),
    usual("SurfaceVolumeRatio", "1/mm", "2PR5"),
    usual("VoxelVolume", "mm3", "YEKZ"),
];

/// All features of this family for a mask of shape (z, y, x), cropped to the region; `spacing` in mm, (z, y, x).
pub(super) fn compute(mask: ArrayView3<bool>, spacing: [f64; 3]) -> Vec<(&'static str, f64)> {
    let mesh = Mesh::new(mask, spacing);
    let (area, volume) = (mesh.area, mesh.volume);
    let [slice, column, row, all] = diameters(&mesh.vertices, spacing);
    let [least, minor, major] = axes(mask, spacing);
    let length = |eigenvalue: f64| if eigenvalue < 0.0 { f64::NAN } else { eigenvalue.sqrt() * 4.0 };
    let ratio = |a: f64, b: f64| if a < 0.0 || b < 0.0 { f64::NAN } else { (a / b).sqrt() };
    let n = mask.iter().filter(|m| **m).count() as f64;
    let sphere = (36.0 * PI * volume * volume).powf(1.0 / 3.0);
    vec![
        ("Compactness1", volume / (area.powf(1.5) * PI.sqrt())),
        ("Compactness2", 36.0 * PI * volume * volume / area.powi(3)),
        ("Elongation", ratio(minor, major)),
        ("Flatness", ratio(least, major)),
        ("LeastAxisLength", length(least)),
        ("MajorAxisLength", length(major)),
        ("Maximum2DDiameterColumn", column),
        ("Maximum2DDiameterRow", row),
        ("Maximum2DDiameterSlice", slice),
        ("Maximum3DDiameter", all),
        ("MeshVolume", volume),
        ("MinorAxisLength", length(minor)),
        ("SphericalDisproportion", area / sphere),
        ("Sphericity", sphere / area),
        ("SurfaceArea", area),
        ("SurfaceVolumeRatio", area / volume),
        ("VoxelVolume", n * (spacing[0] * spacing[2] * spacing[1])),
    ]
}

pub(super) struct Mesh {
    pub area: f64,
    pub volume: f64,
    /// Vertices in half voxels, (z, y, x).
    pub vertices: Vec<[i32; 3]>,
}

impl Mesh {
    /// Counts cubes by their corners, so that area and volume are sums over 128 kinds of cube: no rounding over the mesh.
    pub fn new(mask: ArrayView3<bool>, spacing: [f64; 3]) -> Mesh {
        let (nz, ny, nx) = mask.dim();
        let mut padded = Array3::from_elem((nz + 2, ny + 2, nx + 2), 0u8);
        padded.slice_mut(s![1..=nz, 1..=ny, 1..=nx]).zip_mut_with(&mask, |p, m| *p = u8::from(*m));
        let flat = padded.as_slice().unwrap_or(&[]);
        let (row, plane) = (nx + 2, (nx + 2) * (ny + 2));
        // Per kind of cube, as it is and turned: how many, and the sums of their positions.
        let mut counts = [[0i64; 4]; 256];
        let mut vertices = Vec::new();
        for z in 0..=nz {
            for y in 0..=ny {
                let at = z * plane + y * row;
                let corner = flat[at];
                let uniform = |at: usize| flat[at..at + row].iter().fold(true, |same, v| same & (*v == corner));
                if [at, at + row, at + plane, at + plane + row].into_iter().all(uniform) {
                    continue;
                }
                let column = |x: usize| {
                    let (a, b) = (flat[at + x], flat[at + row + x]);
                    let (c, d) = (flat[at + plane + x], flat[at + plane + row + x]);
                    (a, b, c, d)
                };
                let mut left = column(0);
                for x in 0..=nx {
                    let right = column(x + 1);
                    let ((p0, p3, p4, p7), (p1, p2, p5, p6)) = (left, right);
                    left = right;
                    let kind = p0 | p1 << 1 | p2 << 2 | p3 << 3 | p4 << 4 | p5 << 5 | p6 << 6 | p7 << 7;
                    if kind == 0 || kind == 255 {
                        continue;
                    }
                    let count = &mut counts[kind as usize];
                    [1, z as i64, y as i64, x as i64].iter().zip(count).for_each(|(add, sum)| *sum += add);
                    for (other, edge) in [(p6, 6), (p4, 7), (p3, 11)] {
                        if other != p7 {
                            let m: [i32; 3] = MIDDLES[edge];
                            vertices.push([2 * z as i32 + m[0], 2 * y as i32 + m[1], 2 * x as i32 + m[2]]);
                        }
                    }
                }
            }
        }
        let (area, volume) = measure(&counts, spacing);
        Mesh { area, volume, vertices }
    }
}

/// Area and enclosed volume of all cubes.
fn measure(counts: &[[i64; 4]; 256], spacing: [f64; 3]) -> (f64, f64) {
    let (mut area, mut volume) = (0.0, 0.0);
    for (kind, count) in counts.iter().enumerate().filter(|(_, count)| count[0] > 0) {
        let (index, sign) = if kind & 0x80 != 0 { (kind ^ 0xff, -1.0) } else { (kind, 1.0) };
        let n = count[0] as f64;
        let place: [f64; 3] = std::array::from_fn(|a| count[a + 1] as f64 * spacing[a]);
        for triangle in TRIANGLES[index] {
            let [a, b, c] =
                triangle.map(|edge| std::array::from_fn(|d| f64::from(MIDDLES[edge][d]) * 0.5 * spacing[d]));
            let normal = cross(minus(a, c), minus(b, c));
            area += n * 0.5 * dot(normal, normal).sqrt();
            // The tetrahedron to the origin of a triangle that is moved by p: det(a, b, c) + p . normal.
            volume += sign * (n * dot(cross(a, b), c) + dot(place, normal));
        }
    }
    (area, volume / 6.0)
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - b[1] * a[2], a[2] * b[0] - b[2] * a[0], a[0] * b[1] - b[0] * a[1]]
}

fn minus(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|d| a[d] - b[d])
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    (0..3).map(|d| a[d] * b[d]).sum()
}

/// Largest distances between vertices of the same z, y, x (slice, column, row) and of all.
/// Only corners of convex hulls can be farthest apart, so every plane is reduced to its hull before distances are taken; of
/// every line in it only the two ends count.
fn diameters(vertices: &[[i32; 3]], spacing: [f64; 3]) -> [f64; 4] {
    let end = |a: usize| vertices.iter().map(|v| v[a]).max().unwrap_or(0) as usize + 1; // none is negative
    let ends = [end(0), end(1), end(2)];
    let mut found = [0.0f64; 4];
    let mut corners = Vec::new();
    for axis in 0..3 {
        let (u, v) = ((axis + 1) % 3, (axis + 2) % 3);
        let mut lines = vec![(i32::MAX, i32::MIN); ends[axis] * ends[u]];
        for vertex in vertices {
            let (low, high) = &mut lines[vertex[axis] as usize * ends[u] + vertex[u] as usize];
            (*low, *high) = ((*low).min(vertex[v]), (*high).max(vertex[v]));
        }
        let (mut largest, mut hulls) = (0.0f64, Vec::new());
        let mut plane = Vec::new();
        for (at, lines) in lines.chunks_exact(ends[u]).enumerate() {
            plane.clear();
            for (line, (low, high)) in lines.iter().enumerate().filter(|(_, (low, high))| low <= high) {
                let place = |along: i32| {
                    let mut vertex = [0; 3];
                    (vertex[axis], vertex[u], vertex[v]) = (at as i32, line as i32, along);
                    vertex
                };
                plane.push(place(*low));
                if low < high {
                    plane.push(place(*high));
                }
            }
            let hull = hull(&plane, axis);
            if largest < 1.000001 * square_across(&hull, spacing) {
                largest = largest.max(farthest(&hull, spacing));
            }
            hulls.extend(hull);
        }
        found[axis] = largest.sqrt();
        if axis == 0 {
            corners = hulls;
        } else {
            // A corner of the hull in space is a corner in each of its three planes.
            let key = |v: &[i32; 3]| (v[0] as usize * ends[1] + v[1] as usize) * ends[2] + v[2] as usize;
            let mut keys: Vec<usize> = hulls.iter().map(key).collect();
            keys.sort_unstable();
            corners.retain(|c| keys.binary_search(&key(c)).is_ok());
        }
    }
    found[3] = farthest(&corners, spacing).sqrt();
    found
}

/// Squared diagonal of the box around points given in half voxels: no two of them lie farther apart.
fn square_across(points: &[[i32; 3]], spacing: [f64; 3]) -> f64 {
    let extent = |axis: usize| {
        let places = points.iter().map(|p| p[axis]);
        let (low, high) = places.fold((i32::MAX, i32::MIN), |(low, high), p| (low.min(p), high.max(p)));
        f64::from(high.saturating_sub(low).max(0)) * 0.5 * spacing[axis]
    };
    (0..3).map(extent).map(|mm| mm * mm).sum()
}

/// Largest squared distance between points given in half voxels.
pub(super) fn farthest(points: &[[i32; 3]], spacing: [f64; 3]) -> f64 {
    let place = |p: &[i32; 3]| -> [f64; 3] { std::array::from_fn(|d| f64::from(p[d]) * 0.5 * spacing[d]) };
    let mut middle = [0.0; 3];
    for p in points {
        place(p).iter().zip(&mut middle).for_each(|(v, m)| *m += v / points.len() as f64);
    }
    // Far from the middle first: two points lie no farther apart than the sum of their distances to it.
    let mut ranked: Vec<(f64, [f64; 3])> =
        points.iter().map(place).map(|p| (dot(minus(p, middle), minus(p, middle)).sqrt(), p)).collect();
    ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let mut best = 0.0f64;
    for (i, (far, a)) in ranked.iter().enumerate() {
        let reach = best.sqrt() * (1.0 - 1e-12);
        if 2.0 * far < reach {
            break;
        }
        for (near, b) in &ranked[i + 1..] {
            if far + near < reach {
                break;
            }
            let d = minus(*a, *b);
            best = best.max(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
        }
    }
    best
}

/// Corners of the convex hull of points in one plane, sorted by the other two axes (monotone chain).
pub(super) fn hull(sorted: &[[i32; 3]], axis: usize) -> Vec<[i32; 3]> {
    let (u, v) = ((axis + 1) % 3, (axis + 2) % 3);
    let turn = |o: &[i32; 3], a: &[i32; 3], b: &[i32; 3]| {
        i64::from(a[u] - o[u]) * i64::from(b[v] - o[v]) - i64::from(a[v] - o[v]) * i64::from(b[u] - o[u])
    };
    let mut chain: Vec<[i32; 3]> = Vec::new();
    let mut half = |points: &mut dyn Iterator<Item = &[i32; 3]>| {
        let start = chain.len();
        for p in points {
            while chain.len() >= start + 2 && turn(&chain[chain.len() - 2], &chain[chain.len() - 1], p) <= 0 {
                chain.pop();
            }
            chain.push(*p);
        }
    };
    half(&mut sorted.iter());
    half(&mut sorted.iter().rev());
    chain.sort_unstable();
    chain.dedup();
    chain
}

/// Eigenvalues, ascending, of the covariance of the voxel centers in mm.
pub(super) fn axes(mask: ArrayView3<bool>, spacing: [f64; 3]) -> [f64; 3] {
    let (mut n, mut sum, mut products) = (0i64, [0i64; 3], [[0i64; 3]; 3]);
    for run in super::region::runs(mask) {
        // Sums of 1, x and x^2 over the columns of the run.
        let (len, before) = (run.len() as i64, run.start as i64);
        let below = |n: i64| (n * (n - 1) / 2, n * (n - 1) * (2 * n - 1) / 6);
        let ((x_end, xx_end), (x_start, xx_start)) = (below(before + len), below(before));
        let (z, y, x, xx) = (run.z as i64, run.y as i64, x_end - x_start, xx_end - xx_start);
        n += len;
        [z * len, y * len, x].iter().zip(&mut sum).for_each(|(v, sum)| *sum += v);
        let rows = [[z * z * len, z * y * len, z * x], [z * y * len, y * y * len, y * x], [z * x, y * x, xx]];
        for (row, add) in products.iter_mut().zip(rows) {
            row.iter_mut().zip(add).for_each(|(p, v)| *p += v);
        }
    }
    // n sum(ab) - sum(a) sum(b) in whole numbers: nothing cancels, and a flat region has exact zeros.
    let covariance: [[f64; 3]; 3] = std::array::from_fn(|a| {
        std::array::from_fn(|b| {
            let whole = i128::from(n) * i128::from(products[a][b]) - i128::from(sum[a]) * i128::from(sum[b]);
            whole as f64 / (n as f64 * n as f64) * (spacing[a] * spacing[b])
        })
    });
    let mut found = super::eigen::symmetric3(covariance);
    found.iter_mut().filter(|v| **v < 0.0 && **v > -1e-10).for_each(|v| *v = 0.0);
    found.sort_unstable_by(f64::total_cmp);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(mask: &Array3<bool>, name: &str) -> f64 {
        compute(mask.view(), [1.0, 1.0, 1.0]).into_iter().find(|(n, _)| *n == name).unwrap().1
    }

    #[test]
    fn one_voxel_is_an_octahedron() {
        // Vertices half a voxel from the center: volume 4/3 r^3, area 4 sqrt(3) r^2 with r = 0.5.
        let mask = Array3::from_elem((1, 1, 1), true);
        assert!((value(&mask, "MeshVolume") - 1.0 / 6.0).abs() < 1e-12);
        assert!((value(&mask, "SurfaceArea") - 3.0f64.sqrt()).abs() < 1e-12);
        assert!((value(&mask, "Maximum3DDiameter") - 1.0).abs() < 1e-12);
        assert_eq!(value(&mask, "MajorAxisLength"), 0.0);
    }

    #[test]
    fn diameters_by_hull_equal_those_by_all_pairs() {
        let mut seed = 7u64;
        let mask = Array3::from_shape_fn((6, 7, 8), |_| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33).is_multiple_of(3)
        });
        let spacing = [2.5, 0.9, 0.8];
        let vertices = Mesh::new(mask.view(), spacing).vertices;
        let mut expected = [0.0f64; 4];
        for a in &vertices {
            for b in &vertices {
                let d: [f64; 3] = std::array::from_fn(|i| f64::from(a[i] - b[i]) * 0.5 * spacing[i]);
                let distance = dot(d, d).sqrt();
                for axis in 0..3 {
                    if a[axis] == b[axis] {
                        expected[axis] = expected[axis].max(distance);
                    }
                }
                expected[3] = expected[3].max(distance);
            }
        }
        for (a, b) in diameters(&vertices, spacing).iter().zip(expected) {
            assert!((a - b).abs() < 1e-12);
        }
    }
}
