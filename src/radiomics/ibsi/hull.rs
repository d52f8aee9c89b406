//! Convex hull of a mesh's vertices. These lie on a grid of half voxels, so every decision is made in whole numbers:
//! points in one plane, of which there are many, cannot confuse it.

use super::morphology::{cross, dot, minus};
use crate::radiomics::shape::hull as flat_hull;

/// A closed surface of triangles around all points.
pub(super) struct Hull {
    /// Corners in mm, (z, y, x).
    pub corners: Vec<[f64; 3]>,
    /// Triangles, as indices of corners, turned outward.
    pub faces: Vec<[usize; 3]>,
    /// mm3.
    pub volume: f64,
    /// mm2.
    pub area: f64,
}

impl Hull {
    /// Around points given in half voxels; `spacing` in mm, both (z, y, x). `None` if all points lie in one plane.
    pub fn new(points: Vec<[i32; 3]>, spacing: [f64; 3]) -> Option<Hull> {
        let points = candidates(points);
        let faces = wrap(&points)?;
        let mut used: Vec<usize> = faces.iter().flatten().copied().collect();
        used.sort_unstable();
        used.dedup();
        let mm = |i: &usize| -> [f64; 3] { std::array::from_fn(|a| f64::from(points[*i][a]) * 0.5 * spacing[a]) };
        let corners: Vec<[f64; 3]> = used.iter().map(mm).collect();
        let faces: Vec<[usize; 3]> =
            faces.iter().map(|face| face.map(|i| used.partition_point(|corner| *corner < i))).collect();
        let (mut volume, mut area) = (0.0, 0.0);
        for [a, b, c] in faces.iter().map(|face| face.map(|i| corners[i])) {
            let normal = cross(minus(b, a), minus(c, a));
            area += 0.5 * dot(normal, normal).sqrt();
            volume += dot(cross(a, b), c) / 6.0;
        }
        Some(Hull { corners, faces, volume: volume.abs(), area })
    }

    /// The largest distance between two corners, in mm.
    pub fn diameter(&self) -> f64 {
        let mut best = 0.0f64;
        for (i, a) in self.corners.iter().enumerate() {
            for b in &self.corners[i + 1..] {
                let d = minus(*a, *b);
                best = best.max(dot(d, d));
            }
        }
        best.sqrt()
    }
}

/// A corner of the hull is a corner of the flat hull in each of its three planes, so all others can go first.
fn candidates(mut points: Vec<[i32; 3]>) -> Vec<[i32; 3]> {
    for axis in 0..3 {
        points.sort_unstable_by_key(|p| (p[axis], p[(axis + 1) % 3], p[(axis + 2) % 3]));
        points = points.chunk_by(|a, b| a[axis] == b[axis]).flat_map(|plane| flat_hull(plane, axis)).collect();
    }
    points
}

/// How far `d` lies outside the plane of a triangle: six times the volume between them.
fn outside(points: &[[i32; 3]], [a, b, c]: [usize; 3], d: usize) -> i128 {
    let from = |p: usize| -> [i128; 3] { std::array::from_fn(|i| i128::from(points[p][i]) - i128::from(points[a][i])) };
    let (u, v, w) = (from(b), from(c), from(d));
    (u[1] * v[2] - u[2] * v[1]) * w[0] + (u[2] * v[0] - u[0] * v[2]) * w[1] + (u[0] * v[1] - u[1] * v[0]) * w[2]
}

/// Triangles around all points: every point that lies outside replaces the triangles that it sees by a cone to their rim.
fn wrap(points: &[[i32; 3]]) -> Option<Vec<[usize; 3]>> {
    let start = tetrahedron(points)?;
    let [a, b, c, d] = start;
    let mut faces = vec![[a, b, c], [a, c, d], [a, d, b], [b, d, c]];
    if outside(points, faces[0], d) > 0 {
        faces.iter_mut().for_each(|face| face.swap(1, 2));
    }
    for p in (0..points.len()).filter(|p| !start.contains(p)) {
        let mut seen: Vec<[usize; 2]> = Vec::new();
        faces.retain(|face| {
            let hidden = outside(points, *face, p) <= 0;
            if !hidden {
                let [a, b, c] = *face;
                seen.extend([[a, b], [b, c], [c, a]]);
            }
            hidden
        });
        for [a, b] in &seen {
            if !seen.contains(&[*b, *a]) {
                faces.push([*a, *b, p]);
            }
        }
    }
    Some(faces)
}

/// Four points that do not lie in one plane.
fn tetrahedron(points: &[[i32; 3]]) -> Option<[usize; 4]> {
    let square = |a: usize, b: usize| -> i64 {
        (0..3).map(|i| (i64::from(points[a][i]) - i64::from(points[b][i])).pow(2)).sum()
    };
    let all = || 0..points.len();
    let b = all().max_by_key(|i| square(0, *i)).filter(|b| square(0, *b) > 0)?;
    let off_line = |c: usize| -> f64 {
        let from = |p: usize| -> [f64; 3] { std::array::from_fn(|i| f64::from(points[p][i] - points[0][i])) };
        let normal = cross(from(b), from(c));
        dot(normal, normal)
    };
    let c = all().max_by(|i, j| off_line(*i).total_cmp(&off_line(*j))).filter(|c| off_line(*c) > 0.0)?;
    let off_plane = |d: usize| outside(points, [0, b, c], d).abs();
    let d = all().max_by_key(|i| off_plane(*i)).filter(|d| off_plane(*d) > 0)?;
    Some([0, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_of_points_is_a_box() {
        let points = (0..=4).flat_map(|z| (0..=2).flat_map(move |y| (0..=6).map(move |x| [z, y, x]))).collect();
        let hull = Hull::new(points, [2.0, 2.0, 1.0]).unwrap();
        // 4 x 2 x 3 mm.
        assert_eq!((hull.corners.len(), hull.faces.len()), (8, 12));
        assert!((hull.volume - 24.0).abs() < 1e-12 && (hull.area - 52.0).abs() < 1e-12);
        assert!((hull.diameter() - 29.0f64.sqrt()).abs() < 1e-12);
        assert!(Hull::new(vec![[0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]], [1.0; 3]).is_none());
    }

    #[test]
    fn nothing_lies_outside_and_every_edge_has_two_sides() {
        let mut seed = 11u64;
        let mut next = || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 40) as i32 % 12
        };
        let points: Vec<[i32; 3]> = (0..300).map(|_| [next(), next(), next()]).collect();
        let points = candidates(points);
        let faces = wrap(&points).unwrap();
        for face in &faces {
            assert!((0..points.len()).all(|p| outside(&points, *face, p) <= 0));
            let [a, b, c] = *face;
            for [a, b] in [[a, b], [b, c], [c, a]] {
                let twins = faces.iter().filter(|f| [[f[0], f[1]], [f[1], f[2]], [f[2], f[0]]].contains(&[b, a]));
                assert_eq!(twins.count(), 1);
            }
        }
    }
}
