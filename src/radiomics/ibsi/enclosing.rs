//! The smallest box and the smallest ellipsoid around the corners of a hull, and surfaces of ellipsoids.

use super::hull::Hull;
use super::morphology::{cross, dot, minus};
use crate::radiomics::eigen::symmetric3;
use std::collections::BTreeMap;
use std::f64::consts::PI;

/// Edges of the smallest box that has a face on one of the hull's (a close bound of the smallest box of all: that one has
/// two edges on the hull's faces, and finding it takes the cube of their number). `None` without faces.
pub(super) fn smallest_box(hull: &Hull) -> Option<[f64; 3]> {
    let corner = |i: usize| hull.corners[i];
    let normals: Vec<[f64; 3]> =
        hull.faces.iter().map(|[a, b, c]| turned(corner(*a), corner(*b), corner(*c))).collect();
    // Every edge belongs to two faces.
    let mut beside: BTreeMap<[usize; 2], Vec<usize>> = BTreeMap::new();
    for (face, [a, b, c]) in hull.faces.iter().enumerate() {
        for [a, b] in [[a, b], [b, c], [c, a]] {
            beside.entry([*a.min(b), *a.max(b)]).or_default().push(face);
        }
    }
    let boxes = hull.faces.iter().zip(&normals).filter_map(|([a, b, _], normal)| {
        let (normal, side) = (unit(*normal)?, unit(minus(corner(*b), corner(*a)))?);
        let other = cross(normal, side);
        let height = extent(hull.corners.iter().map(|p| dot(*p, normal)));
        // The outline that the hull has along the normal: edges between a face that looks up and one that does not.
        let up: Vec<bool> = normals.iter().map(|n| dot(*n, normal) > 0.0).collect();
        let outline = beside.iter().filter(|(_, faces)| faces.iter().any(|f| up[*f]) && faces.iter().any(|f| !up[*f]));
        let flat = |i: usize| [dot(corner(i), side), dot(corner(i), other)];
        let edges: Vec<[[f64; 2]; 2]> = outline.map(|(edge, _)| edge.map(flat)).collect();
        let [u, v] = smallest_rectangle(&edges)?;
        Some([height, u, v])
    });
    boxes.min_by(|a, b| a.iter().product::<f64>().total_cmp(&b.iter().product()))
}

/// The normal of a triangle, twice its area long.
fn turned(a: [f64; 3], b: [f64; 3], c: [f64; 3]) -> [f64; 3] {
    cross(minus(b, a), minus(c, a))
}

fn unit(v: [f64; 3]) -> Option<[f64; 3]> {
    let length = dot(v, v).sqrt();
    (length > 0.0).then(|| v.map(|x| x / length))
}

fn extent(values: impl Iterator<Item = f64>) -> f64 {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    high - low
}

/// Edges of the smallest rectangle around a closed outline: it has a side on one of the outline's.
fn smallest_rectangle(outline: &[[[f64; 2]; 2]]) -> Option<[f64; 2]> {
    let rectangles = outline.iter().filter_map(|[a, b]| {
        let length = (b[0] - a[0]).hypot(b[1] - a[1]);
        let (c, s) = ((b[0] - a[0]) / length, (b[1] - a[1]) / length);
        let along = extent(outline.iter().flatten().map(|p| c * p[0] + s * p[1]));
        let across = extent(outline.iter().flatten().map(|p| c * p[1] - s * p[0]));
        (length > 0.0).then_some([along, across])
    });
    rectangles.min_by(|a, b| (a[0] * a[1]).total_cmp(&(b[0] * b[1])))
}

/// Relative tolerance of the smallest ellipsoid (the manual's default).
const TOLERANCE: f64 = 0.001;
const STEPS_MAX: usize = 100_000;

/// Semi-axes of the smallest ellipsoid around points, the longest first, by Khachiyan's algorithm: weights of the points
/// move to the one that lies farthest outside. `None` if the points lie in a plane.
pub(super) fn smallest_ellipsoid(points: &[[f64; 3]]) -> Option<[f64; 3]> {
    let n = points.len();
    let d = 3.0;
    let mut weight = vec![1.0 / n as f64; n];
    let (mut center, mut spread) = moments(points, &weight);
    for _ in 0..STEPS_MAX {
        let back = inverse(spread)?;
        // In the space with one more coordinate, always 1, the distance is 1 + that to the center.
        let distance = |p: &[f64; 3]| {
            let offset = minus(*p, center);
            1.0 + dot(offset, back.map(|row| dot(row, offset)))
        };
        let far = points.iter().map(distance).enumerate();
        let (at, farthest) = far.max_by(|a, b| a.1.total_cmp(&b.1))?;
        if farthest <= (1.0 + TOLERANCE) * (d + 1.0) {
            break;
        }
        let step = (farthest - d - 1.0) / ((d + 1.0) * (farthest - 1.0));
        weight.iter_mut().for_each(|w| *w *= 1.0 - step);
        weight[at] += step;
        (center, spread) = moments(points, &weight);
    }
    let mut semi = symmetric3(spread).map(|eigenvalue| (d * eigenvalue.max(0.0)).sqrt());
    semi.sort_unstable_by(|a, b| b.total_cmp(a));
    Some(semi)
}

/// Weighted mean and covariance.
fn moments(points: &[[f64; 3]], weight: &[f64]) -> ([f64; 3], [[f64; 3]; 3]) {
    let mut center = [0.0; 3];
    for (p, w) in points.iter().zip(weight) {
        center.iter_mut().zip(p).for_each(|(c, p)| *c += w * p);
    }
    let mut spread = [[0.0; 3]; 3];
    for (p, w) in points.iter().zip(weight) {
        let d = minus(*p, center);
        for (row, a) in spread.iter_mut().zip(d) {
            row.iter_mut().zip(d).for_each(|(s, b)| *s += w * a * b);
        }
    }
    (center, spread)
}

fn inverse(m: [[f64; 3]; 3]) -> Option<[[f64; 3]; 3]> {
    let columns = [cross(m[1], m[2]), cross(m[2], m[0]), cross(m[0], m[1])];
    let det = dot(m[0], columns[0]);
    // The matrix is symmetric, so its inverse is, and columns are rows.
    (det > 0.0).then(|| columns.map(|row| row.map(|v| v / det)))
}

/// Surface of an ellipsoid with semi-axes a >= b >= c: 21 terms of the manual's series of Legendre polynomials (RDD2).
/// The series is not the true surface (17.3 instead of 21.5 for semi-axes 2, 1, 1), but what the published values rest on.
pub(super) fn ellipsoid_area([a, b, c]: [f64; 3]) -> f64 {
    let (alpha2, beta2) = ((1.0 - b * b / (a * a)).max(0.0), (1.0 - c * c / (a * a)).max(0.0));
    // Terms (alpha beta)^n P_n((alpha^2 + beta^2) / (2 alpha beta)), by the recurrence of P_n: no division by alpha.
    let (half, product) = (0.5 * (alpha2 + beta2), alpha2 * beta2);
    let (mut before, mut term, mut sum) = (0.0, 1.0, 0.0);
    for n in 0..=20 {
        let k = f64::from(n);
        sum += term / (1.0 - 4.0 * k * k);
        let next = ((2.0 * k + 1.0) * half * term - k * product * before) / (k + 1.0);
        (before, term) = (term, next);
    }
    4.0 * PI * a * b * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surfaces_of_known_ellipsoids() {
        assert!((ellipsoid_area([2.0; 3]) - 16.0 * PI).abs() < 1e-12);
        // For b = c the series is sum(e^2n / (1 - 4 n^2)) = (1 + (1 - e^2) / e artanh e) / 2, with e^2 = 3/4 here.
        let e = 0.75f64.sqrt();
        let limit = 4.0 * PI * 2.0 * 0.5 * (1.0 + 0.25 / e * e.atanh());
        assert!((ellipsoid_area([2.0, 1.0, 1.0]) / limit - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_turned_box_is_found() {
        // A box of 2 x 4 x 6 half voxels along the diagonals of a plane.
        let mut points = Vec::new();
        for z in [0, 2] {
            points.extend([[z, 0, 0], [z, 4, 4], [z, 10, -2], [z, 6, -6]]);
        }
        let hull = Hull::new(points, [2.0; 3]).unwrap();
        let mut edges = smallest_box(&hull).unwrap();
        edges.sort_unstable_by(f64::total_cmp);
        for (edge, expected) in edges.iter().zip([2.0, 4.0 * 2.0f64.sqrt(), 6.0 * 2.0f64.sqrt()]) {
            assert!((edge - expected).abs() < 1e-12, "{edges:?}");
        }
    }

    #[test]
    fn the_ellipsoid_of_a_box_passes_its_corners() {
        // Semi-axes sqrt(3) x half the edges.
        let corner = |i: usize| [(i & 1) as f64 * 2.0, (i >> 1 & 1) as f64 * 4.0, (i >> 2) as f64 * 6.0];
        let points: Vec<[f64; 3]> = (0..8).map(corner).collect();
        let semi = smallest_ellipsoid(&points).unwrap();
        for (found, half) in semi.iter().zip([3.0, 2.0, 1.0]) {
            assert!((found / (half * 3.0f64.sqrt()) - 1.0).abs() < 1e-3, "{semi:?}");
        }
        assert!(smallest_ellipsoid(&points[..4]).is_none());
    }
}
