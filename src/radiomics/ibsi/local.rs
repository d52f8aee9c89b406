//! Local intensity (9ST6): means over spheres of 1 cm3 around voxels of the region, whatever lies around it.

use super::prepare::{Extent, Prepared, inside};
use super::table::{Aggregation, Definition, Family, Table, define};
use ndarray::{Array3, s};
use std::f64::consts::PI;

const DEFINITIONS: [Definition; 2] = [
    define("loc_peak_loc", "local_intensity_peak", "VJGA", "I"),
    define("loc_peak_glob", "global_intensity_peak", "0F91", "I"),
];

/// Appends both peaks.
pub(super) fn compute(prepared: &Prepared, table: &mut Table) {
    let highest = inside(&prepared.image, &prepared.intensity).fold(f64::NEG_INFINITY, f64::max);
    let (mut local, mut global) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    if let Some(extent) = Extent::new(prepared.intensity.view()) {
        let [z0, y0, x0] = extent.first;
        let sphere = Sphere::new(&prepared.image, prepared.spacing, extent);
        for z in z0..z0 + extent.size[0] {
            for y in y0..y0 + extent.size[1] {
                let means = sphere.means(z, y);
                for (x, mean) in (x0..).zip(means).filter(|(x, _)| prepared.intensity[[z, y, *x]]) {
                    global = global.max(mean);
                    if prepared.image[[z, y, x]] == highest {
                        local = local.max(mean);
                    }
                }
            }
        }
    }
    table.push(Family::LocalIntensity, &DEFINITIONS, Aggregation::VOLUME, &[local, global]);
}

/// A sphere as rows of voxels, over running sums along x: a mean costs one difference per row.
struct Sphere {
    /// Running sums of the image's rows around the region, and of their numbers of voxels; they begin `reach` voxels
    /// before the region and end as many behind it, whether the image does or not.
    sums: Array3<f64>,
    counts: Vec<f64>,
    reach: usize,
    /// The slice and row of the first sums.
    first: [usize; 2],
    /// Offset (z, y) of a row of the sphere, and how far it reaches along x.
    rows: Vec<([isize; 2], usize)>,
}

impl Sphere {
    fn new(image: &Array3<f64>, spacing: [f64; 3], extent: Extent) -> Sphere {
        let radius = (3.0 / (4.0 * PI)).cbrt() * 10.0; // of 1 cm3, in mm
        let (nz, ny, nx) = image.dim();
        let reach = [(0, nz), (1, ny), (2, nx)].map(|(a, n)| ((radius / spacing[a]).floor() as usize).min(n));
        let range = |a: usize, n: usize| {
            (extent.first[a].saturating_sub(reach[a]), (extent.first[a] + extent.size[a] + reach[a]).min(n))
        };
        let ((z0, z1), (y0, y1)) = (range(0, nz), range(1, ny));
        let width = extent.size[2] + 2 * reach[2] + 1;
        // Column k holds the sum of the voxels before x = first + k - reach.
        let column = |k: usize| (extent.first[2] + k).checked_sub(reach[2]).filter(|x| *x < nx);
        let mut sums = Array3::zeros((z1 - z0, y1 - y0, width));
        for (line, mut sums) in sums.rows_mut().into_iter().enumerate() {
            let row = image.slice(s![z0 + line / (y1 - y0), y0 + line % (y1 - y0), ..]);
            for k in 1..width {
                sums[k] = sums[k - 1] + column(k - 1).map_or(0.0, |x| row[x]);
            }
        }
        let mut counts = vec![0.0; width];
        for k in 1..width {
            counts[k] = counts[k - 1] + f64::from(u8::from(column(k - 1).is_some()));
        }
        let mut rows = Vec::new();
        for z in -(reach[0] as isize)..=reach[0] as isize {
            for y in -(reach[1] as isize)..=reach[1] as isize {
                let rest = radius * radius - (z as f64 * spacing[0]).powi(2) - (y as f64 * spacing[1]).powi(2);
                if rest >= 0.0 {
                    rows.push(([z, y], ((rest.sqrt() / spacing[2]).floor() as usize).min(nx)));
                }
            }
        }
        Sphere { sums, counts, reach: reach[2], first: [z0, y0], rows }
    }

    /// Means around the voxels of one row, from the first column of the region to its last, over what the image holds of
    /// the sphere.
    fn means(&self, z: usize, y: usize) -> Vec<f64> {
        let (nz, ny, width) = self.sums.dim();
        let n = width - 2 * self.reach - 1;
        let (mut sum, mut count) = (vec![0.0; n], vec![0.0; n]);
        for ([dz, dy], half) in &self.rows {
            let place = |v: usize, d: isize, first: usize, n: usize| {
                v.checked_add_signed(d).and_then(|v| v.checked_sub(first)).filter(|v| *v < n)
            };
            let (Some(z), Some(y)) = (place(z, *dz, self.first[0], nz), place(y, *dy, self.first[1], ny)) else {
                continue;
            };
            let row = self.sums.slice(s![z, y, ..]);
            let row = row.as_slice().expect("rows of a new array lie together");
            let (low, high) = (self.reach - half, self.reach + half + 1);
            sum.iter_mut().zip(&row[low..]).zip(&row[high..]).for_each(|((s, a), b)| *s += b - a);
            let numbers = self.counts[low..].iter().zip(&self.counts[high..]);
            count.iter_mut().zip(numbers).for_each(|(c, (a, b))| *c += b - a);
        }
        sum.iter().zip(count).map(|(s, c)| s / c).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spheres_hold_the_voxels_within_their_radius() {
        // 6.2 mm reach one voxel of 5 mm to each side, none diagonally (7.07 mm).
        let image = Array3::from_shape_fn((3, 3, 3), |(z, y, x)| (9 * z + 3 * y + x) as f64);
        let whole = Extent { first: [0; 3], size: [3; 3], n: 27 };
        let sphere = Sphere::new(&image, [5.0; 3], whole);
        assert_eq!(sphere.means(1, 1)[1], 13.0);
        assert_eq!(sphere.means(0, 0)[0], (0.0 + 1.0 + 3.0 + 9.0) / 4.0); // no voxels outside the image
        let one = Sphere::new(&image, [5.0; 3], Extent { first: [1, 1, 2], size: [1; 3], n: 1 });
        assert_eq!(one.means(1, 1), [(14.0 + 13.0 + 11.0 + 17.0 + 5.0 + 23.0) / 6.0]);
        let middle = Extent { first: [6; 3], size: [1; 3], n: 1 };
        let image = Array3::from_shape_fn((13, 13, 13), |(z, y, x)| {
            f64::from(u8::from([z, y, x].iter().map(|v| v.abs_diff(6).pow(2)).sum::<usize>() <= 38)) // 6.2^2 = 38.5
        });
        assert_eq!(Sphere::new(&image, [1.0; 3], middle).means(6, 6), [1.0]);
    }
}
