//! Shape within one plane: outline by marching squares, largest diameter of its vertices, axes of the pixel centers.

use super::RadiomicsError;
use super::settings::Settings;
use super::shape::{axes, farthest, hull};
use super::table::{Definition, Offer, offered, usual};
use ndarray::{ArrayView3, Axis};
use std::f64::consts::PI;

/// The features of this family, in the order of PyRadiomics' method names.
pub(super) const FEATURES: [Definition; 10] = [
    usual("Elongation", "", ""),
    usual("MajorAxisLength", "mm", ""),
    usual("MaximumDiameter", "mm", ""),
    usual("MeshSurface", "mm2", ""),
    usual("MinorAxisLength", "mm", ""),
    usual("Perimeter", "mm", ""),
    usual("PerimeterSurfaceRatio", "1/mm", ""),
    usual("PixelSurface", "mm2", ""),
    offered(Offer::Deprecated, usual("SphericalDisproportion", "", "")),
    usual("Sphericity", "", ""),
];

/// All features of this family for a mask of shape (z, y, x), cropped to the region; `spacing` in mm, (z, y, x). `None`,
/// with PyRadiomics' warning, where it leaves the family out.
pub(super) fn compute(
    mask: ArrayView3<bool>,
    spacing: [f64; 3],
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> Result<Option<Vec<(&'static str, f64)>>, RadiomicsError> {
    let mut warn = |text: String| warnings.push(format!("radiomics.featureextractor: {text}"));
    if settings.planar {
        return Ok(Some(features(mask, [spacing[1], spacing[2]])));
    }
    let Some(axis) = settings.flat_axis() else {
        warn("parameter force2D must be set to True to enable shape2D extraction".into());
        return Ok(None);
    };
    // PyRadiomics looks up the length along this axis in a box that counts x, y, z (the setting counts z, y, x), and wants
    // it to be longer than a voxel. So axial (0) and sagittal planes (2) pass, coronal ones (1) do not.
    if mask.len_of(Axis(2 - axis)) <= 1 {
        warn(format!("Size in specified 2D dimension ({axis}) is greater than 1, cannot calculate 2D shape"));
        return Ok(None);
    }
    if mask.len_of(Axis(axis)) > 1 {
        return Err(RadiomicsError::NotOnePlane);
    }
    // The flat axis goes first; the other two keep their order.
    let [row, column] = [[1, 2], [0, 2], [0, 1]][axis];
    let plane = mask.permuted_axes([axis, row, column]);
    Ok(Some(features(plane, [spacing[row], spacing[column]])))
}

/// The features of a plane, shape (1, rows, columns); `spacing` in mm (between rows, between columns).
fn features(plane: ArrayView3<bool>, spacing: [f64; 2]) -> Vec<(&'static str, f64)> {
    let outline = Outline::new(plane, spacing);
    let (surface, perimeter) = (outline.surface, outline.perimeter);
    let [_, minor, major] = axes(plane, [1.0, spacing[0], spacing[1]]);
    let sphericity = 2.0 * (PI * surface).sqrt() / perimeter;
    let n = plane.iter().filter(|m| **m).count() as f64;
    vec![
        ("Elongation", (minor / major).sqrt()),
        ("MajorAxisLength", major.sqrt() * 4.0),
        ("MaximumDiameter", outline.diameter),
        ("MeshSurface", surface),
        ("MinorAxisLength", minor.sqrt() * 4.0),
        ("Perimeter", perimeter),
        ("PerimeterSurfaceRatio", perimeter / surface),
        ("PixelSurface", n * (spacing[1] * spacing[0])),
        ("SphericalDisproportion", 1.0 / sphericity),
        ("Sphericity", sphericity),
    ]
}

struct Outline {
    surface: f64,
    perimeter: f64,
    diameter: f64,
}

/// Corners of a square, clockwise from the upper left (row, column), and the middles of the edges that follow them, in
/// half pixels.
const CORNERS: [[usize; 2]; 4] = [[0, 0], [0, 1], [1, 1], [1, 0]];
const MIDDLES: [[i32; 2]; 4] = [[0, 1], [1, 2], [2, 1], [1, 0]];

impl Outline {
    /// Every run of corners inside the region, going round a square, is cut off by one line: from the edge before the run to
    /// the edge after it. Two opposite corners are two runs, so pixels that touch by a corner stay apart.
    fn new(plane: ArrayView3<bool>, spacing: [f64; 2]) -> Outline {
        let (_, rows, columns) = plane.dim();
        let inside =
            |y: usize, x: usize| (1..=rows).contains(&y) && (1..=columns).contains(&x) && plane[(0, y - 1, x - 1)];
        let place = |v: [i32; 2]| [f64::from(v[0]) * 0.5 * spacing[0], f64::from(v[1]) * 0.5 * spacing[1]];
        let (mut surface, mut perimeter, mut vertices) = (0.0, 0.0, Vec::new());
        for y in 0..=rows {
            for x in 0..=columns {
                let corner = CORNERS.map(|[dy, dx]| inside(y + dy, x + dx));
                let middle = |edge: usize| [2 * y as i32 + MIDDLES[edge][0], 2 * x as i32 + MIDDLES[edge][1]];
                for first in (0..4).filter(|k| corner[*k] && !corner[(k + 3) % 4]) {
                    let last = (first..first + 3).find(|k| !corner[(k + 1) % 4]).unwrap_or(first);
                    let (from, to) = (middle((first + 3) % 4), middle(last % 4));
                    let (a, b) = (place(from), place(to));
                    surface += a[0] * b[1] - b[0] * a[1];
                    perimeter += ((a[0] - b[0]) * (a[0] - b[0]) + (a[1] - b[1]) * (a[1] - b[1])).sqrt();
                    vertices.extend([[0, from[0], from[1]], [0, to[0], to[1]]]);
                }
            }
        }
        vertices.sort_unstable();
        let diameter = farthest(&hull(&vertices, 0), [0.0, spacing[0], spacing[1]]).sqrt();
        Outline { surface: surface / 2.0, perimeter, diameter }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    fn value(plane: &Array3<bool>, name: &str) -> f64 {
        features(plane.view(), [1.0, 2.0]).into_iter().find(|(n, _)| *n == name).unwrap().1
    }

    #[test]
    fn one_pixel_is_a_rhombus() {
        // Half diagonals 0.5 and 1 mm: surface 2 x 0.5 x 1, four sides of sqrt(0.25 + 1).
        let plane = Array3::from_elem((1, 1, 1), true);
        assert!((value(&plane, "MeshSurface") - 1.0).abs() < 1e-15);
        assert!((value(&plane, "Perimeter") - 4.0 * 1.25f64.sqrt()).abs() < 1e-15);
        assert_eq!(value(&plane, "MaximumDiameter"), 2.0);
        assert_eq!(value(&plane, "PixelSurface"), 2.0);
    }

    #[test]
    fn pixels_that_touch_by_a_corner_stay_apart() {
        let one = Array3::from_elem((1, 1, 1), true);
        let two = Array3::from_shape_vec((1, 2, 2), vec![true, false, false, true]).unwrap();
        assert!((value(&two, "Perimeter") - 2.0 * value(&one, "Perimeter")).abs() < 1e-14);
        assert!((value(&two, "MeshSurface") - 2.0 * value(&one, "MeshSurface")).abs() < 1e-14);
    }
}
