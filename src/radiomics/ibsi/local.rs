//! Local intensity (9ST6): means over spheres of 1 cm3 around voxels of the region, whatever lies around it.

use super::prepare::Prepared;
use super::table::{Aggregation, Definition, Family, Table, define};
use ndarray::Array3;
use std::f64::consts::PI;

const DEFINITIONS: [Definition; 2] = [
    define("loc_peak_loc", "local_intensity_peak", "VJGA", "I"),
    define("loc_peak_glob", "global_intensity_peak", "0F91", "I"),
];

/// Appends both peaks.
pub(super) fn compute(prepared: &Prepared, table: &mut Table) {
    let highest = super::prepare::inside(&prepared.image, &prepared.intensity).fold(f64::NEG_INFINITY, f64::max);
    let sphere = Sphere::new(&prepared.image, prepared.spacing);
    let (mut local, mut global) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    for ((at, inside), v) in prepared.intensity.indexed_iter().zip(&prepared.image) {
        if *inside {
            let mean = sphere.mean(at);
            global = global.max(mean);
            if *v == highest {
                local = local.max(mean);
            }
        }
    }
    table.push(Family::LocalIntensity, &DEFINITIONS, Aggregation::VOLUME, &[local, global]);
}

/// A sphere as rows of voxels, over running sums along x: a mean costs two look-ups per row.
struct Sphere {
    /// `sums[z][y][x]`: of the row's voxels before x.
    sums: Array3<f64>,
    /// Offset (z, y) of a row and how far it reaches along x.
    rows: Vec<[isize; 3]>,
}

impl Sphere {
    fn new(image: &Array3<f64>, spacing: [f64; 3]) -> Sphere {
        let (nz, ny, nx) = image.dim();
        let mut sums = Array3::zeros((nz, ny, nx + 1));
        for (mut sums, row) in sums.rows_mut().into_iter().zip(image.rows()) {
            let mut sum = 0.0;
            for (s, v) in sums.iter_mut().skip(1).zip(row) {
                sum += v;
                *s = sum;
            }
        }
        let radius = (3.0 / (4.0 * PI)).cbrt() * 10.0; // of 1 cm3, in mm
        let reach = |a: usize, n: usize| ((radius / spacing[a]).floor() as usize).min(n) as isize;
        let (rz, ry) = (reach(0, nz), reach(1, ny));
        let mut rows = Vec::new();
        for z in -rz..=rz {
            for y in -ry..=ry {
                let (dz, dy) = (z as f64 * spacing[0], y as f64 * spacing[1]);
                let rest = radius * radius - dz * dz - dy * dy;
                if rest >= 0.0 {
                    rows.push([z, y, ((rest.sqrt() / spacing[2]).floor() as usize).min(nx) as isize]);
                }
            }
        }
        Sphere { sums, rows }
    }

    /// Mean around a voxel, over what the image holds of the sphere.
    fn mean(&self, (z, y, x): (usize, usize, usize)) -> f64 {
        let (nz, ny, nx) = self.sums.dim();
        let (mut sum, mut n) = (0.0, 0);
        for [dz, dy, reach] in &self.rows {
            let (Some(z), Some(y)) = (z.checked_add_signed(*dz), y.checked_add_signed(*dy)) else { continue };
            if z < nz && y < ny {
                let (first, end) = (x.saturating_add_signed(-reach), (x + 1).saturating_add_signed(*reach).min(nx - 1));
                sum += self.sums[[z, y, end]] - self.sums[[z, y, first]];
                n += end - first;
            }
        }
        sum / n as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spheres_hold_the_voxels_within_their_radius() {
        // 6.2 mm reach one voxel of 5 mm to each side, none diagonally (7.07 mm).
        let image = Array3::from_shape_fn((3, 3, 3), |(z, y, x)| (9 * z + 3 * y + x) as f64);
        let sphere = Sphere::new(&image, [5.0; 3]);
        assert_eq!(sphere.mean((1, 1, 1)), 13.0);
        assert_eq!(sphere.mean((0, 0, 0)), (0.0 + 1.0 + 3.0 + 9.0) / 4.0); // no voxels outside the image
        let fine = Sphere::new(&Array3::ones((13, 13, 13)), [1.0; 3]);
        let n: isize = fine.rows.iter().map(|row| 2 * row[2] + 1).sum();
        let counted =
            (-6i32..=6).flat_map(|z| (-6..=6).flat_map(move |y| (-6..=6).map(move |x| z * z + y * y + x * x)));
        assert_eq!(n, counted.filter(|d| f64::from(*d) <= 38.4853).count() as isize);
    }
}
