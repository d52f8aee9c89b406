//! What an image of an abdomen looks like on the network's grid, whatever the network says about it: HU scale, fat, lungs, spine.

use crate::segment::Grid;
use ndarray::{Array3, Axis, s};

/// Facts about an image. Arrays here have shape (z, y, x) with z to the head, y to the back and x to the patient's left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Image {
    /// Share of the body (over -300 HU) between -140 and -50 HU.
    pub fat_share: f64,
    /// Share of the body over 300 HU: bone and contrast, or a wrong scale.
    pub dense_share: f64,
    /// Air-filled lung inside the body.
    pub lung_ml: f64,
    /// How far the middle of the lung lies above the middle of the liver; NaN without one of them.
    pub lung_above_mm: f64,
    /// How far the middle of the bones lies behind the middle of the body, in the slices that hold liver; NaN without one of them.
    pub bone_behind_mm: f64,
    /// Bands from side to side inside the liver: rms of what a row's mean differs from the mean of its two neighbors.
    pub bands_hu: f64,
}

impl Default for Image {
    fn default() -> Self {
        Image {
            fat_share: f64::NAN,
            dense_share: f64::NAN,
            lung_ml: f64::NAN,
            lung_above_mm: f64::NAN,
            bone_behind_mm: f64::NAN,
            bands_hu: f64::NAN,
        }
    }
}

/// A row of the liver with fewer voxels has no mean worth comparing.
const ROW_VOXELS_MIN: usize = 8;

/// Measures HU on the padded grid. `liver`: the network's liver, of the same shape.
pub fn image(hu: &Array3<f32>, liver: &Array3<bool>, grid: &Grid) -> Image {
    let [n_x, n_y, n_z] = grid.geometry.size;
    let (hu, liver) = (hu.slice(s![..n_z, ..n_y, ..n_x]), liver.slice(s![..n_z, ..n_y, ..n_x]));
    let spacing_mm = grid.geometry.spacing_mm;
    let lung = lung(&hu.to_owned());
    let (mut n_body, mut n_fat, mut n_dense) = (0u64, 0u64, 0u64);
    let (mut lung_z, mut liver_z) = (Middle::default(), Middle::default());
    let (mut bone_y, mut body_y) = (Middle::default(), Middle::default());
    for (z, plane) in hu.axis_iter(Axis(0)).enumerate() {
        let with_liver = liver.index_axis(Axis(0), z).iter().any(|inside| *inside);
        for ((y, x), hu) in plane.indexed_iter() {
            if *hu > -300.0 {
                n_body += 1;
                n_fat += u64::from((-140.0..-50.0).contains(hu));
                n_dense += u64::from(*hu > 300.0);
                if with_liver {
                    body_y.add(y);
                    if *hu > 200.0 {
                        bone_y.add(y);
                    }
                }
            }
            if lung[[z, y, x]] {
                lung_z.add(z);
            }
            if liver[[z, y, x]] {
                liver_z.add(z);
            }
        }
    }
    let share = |n: u64| n as f64 / n_body.max(1) as f64;
    Image {
        fat_share: share(n_fat),
        dense_share: share(n_dense),
        lung_ml: lung_z.n as f64 * grid.geometry.voxel_mm3() / 1000.0,
        lung_above_mm: (lung_z.at() - liver_z.at()) * spacing_mm[2],
        bone_behind_mm: (bone_y.at() - body_y.at()) * spacing_mm[1],
        bands_hu: bands(hu, inner(liver).view()),
    }
}

/// A mean index.
#[derive(Default)]
struct Middle {
    sum: u64,
    n: u64,
}

impl Middle {
    fn add(&mut self, index: usize) {
        self.sum += index as u64;
        self.n += 1;
    }
    /// NaN without any.
    fn at(&self) -> f64 {
        if self.n == 0 { f64::NAN } else { self.sum as f64 / self.n as f64 }
    }
}

/// Voxels of -950 to -450 HU whose six neighbors are likewise (the skin's partial volume is thinner), with body on both sides, in front
/// and behind.
fn lung(hu: &Array3<f32>) -> Array3<bool> {
    let mut airy = hu.mapv(|hu| (-950.0..-450.0).contains(&hu));
    for (plane, mut airy) in hu.axis_iter(Axis(0)).zip(airy.axis_iter_mut(Axis(0))) {
        for axis in [0, 1] {
            for (line, mut airy) in plane.lanes(Axis(axis)).into_iter().zip(airy.lanes_mut(Axis(axis))) {
                let first = line.iter().position(|hu| *hu > -300.0).unwrap_or(line.len());
                let last = line.iter().rposition(|hu| *hu > -300.0).unwrap_or(0);
                airy.indexed_iter_mut().filter(|(k, _)| *k < first || *k > last).for_each(|(_, a)| *a = false);
            }
        }
    }
    inner(airy.view())
}

/// The mask without voxels that have a neighbor (of six) outside it: at the edge other tissue mixes in.
fn inner(mask: ndarray::ArrayView3<bool>) -> Array3<bool> {
    let (n_z, n_y, n_x) = mask.dim();
    Array3::from_shape_fn(mask.dim(), |(z, y, x)| {
        let near = |at: usize, n: usize| [at.saturating_sub(1), (at + 1).min(n - 1)];
        mask[[z, y, x]]
            && near(z, n_z).iter().all(|z| mask[[*z, y, x]])
            && near(y, n_y).iter().all(|y| mask[[z, *y, x]])
            && near(x, n_x).iter().all(|x| mask[[z, y, *x]])
    })
}

/// See [`Image::bands_hu`]; NaN where no three rows follow each other.
fn bands(hu: ndarray::ArrayView3<f32>, liver: ndarray::ArrayView3<bool>) -> f64 {
    let (mut squares, mut n) = (0.0, 0u64);
    for (hu, liver) in hu.outer_iter().zip(liver.outer_iter()) {
        let means: Vec<Option<f64>> = hu
            .outer_iter()
            .zip(liver.outer_iter())
            .map(|(hu, liver)| {
                let inside = || hu.iter().zip(&liver).filter(|(_, inside)| **inside).map(|(hu, _)| f64::from(*hu));
                let count = inside().count();
                (count >= ROW_VOXELS_MIN).then(|| inside().sum::<f64>() / count as f64)
            })
            .collect();
        for rows in means.windows(3) {
            if let [Some(before), Some(row), Some(after)] = rows {
                squares += (row - (before + after) / 2.0).powi(2);
                n += 1;
            }
        }
    }
    if n == 0 { f64::NAN } else { (squares / n as f64).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Geometry;

    /// A body of 40 HU with a rim of fat, a lung in the upper half, bone at the back, and a liver below the lung.
    fn drawn() -> (Array3<f32>, Array3<bool>, Grid) {
        let mut hu = Array3::from_elem((24, 24, 24), -1000.0);
        hu.slice_mut(s![.., 3..21, 3..21]).fill(-100.0);
        hu.slice_mut(s![.., 5..19, 5..19]).fill(40.0);
        hu.slice_mut(s![12.., 8..14, 7..17]).fill(-850.0);
        hu.slice_mut(s![.., 16..18, 10..14]).fill(400.0);
        let mut liver = Array3::from_elem((24, 24, 24), false);
        liver.slice_mut(s![2..10, 7..15, 6..18]).fill(true);
        let geometry =
            Geometry { size: [24; 3], spacing_mm: [4.0; 3], origin_mm: [0.0; 3], direction: Geometry::IDENTITY };
        (hu, liver, Grid { geometry, padded: [24; 3] })
    }

    #[test]
    fn fat_bone_lung_and_liver_have_their_places() {
        let (hu, liver, grid) = drawn();
        let found = image(&hu, &liver, &grid);
        // Per slice 324 voxels of body, 128 of them fat, 8 bone; in 12 of 24 slices 60 are lung.
        assert!((found.fat_share - 128.0 / 294.0).abs() < 1e-9, "{found:?}");
        assert!((found.dense_share - 8.0 / 294.0).abs() < 1e-9);
        // Without its surface the lung has 11 (the last slice is its own neighbor) x 4 x 8 voxels of 0.064 mL.
        assert!((found.lung_ml - 352.0 * 0.064).abs() < 1e-9, "{found:?}");
        assert!((found.lung_above_mm - (18.0 - 5.5) * 4.0).abs() < 1e-9);
        assert!((found.bone_behind_mm - (16.5 - 11.5) * 4.0).abs() < 1e-9);
        assert_eq!(found.bands_hu, 0.0);
    }

    #[test]
    fn upside_down_is_seen_and_bands_are_measured() {
        let (mut hu, mut liver, grid) = drawn();
        hu.invert_axis(Axis(0));
        liver.invert_axis(Axis(0));
        assert!(image(&hu, &liver, &grid).lung_above_mm < -40.0);
        // Every other row is 10 HU brighter: it differs from its neighbors by 10.
        for ((_, y, _), hu) in hu.indexed_iter_mut() {
            *hu += if y % 2 == 0 { 10.0 } else { 0.0 };
        }
        let found = image(&hu, &liver, &grid);
        assert!((found.bands_hu - 10.0).abs() < 1e-4, "{found:?}");
        let none = image(&Array3::from_elem((24, 24, 24), -1000.0), &Array3::from_elem((24, 24, 24), false), &grid);
        assert!(none.fat_share == 0.0 && none.lung_above_mm.is_nan() && none.bands_hu.is_nan());
    }
}
