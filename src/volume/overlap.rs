//! How much two masks on one grid agree.

use super::squared_distance_mm2;
use ndarray::{Array3, ArrayView3, Zip, s};

/// Agreement of two masks. Distances are between the centers of surface voxels (those with a neighbor outside, of six).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overlap {
    /// 2 |A and B| / (|A| + |B|); 1 where both are empty.
    pub dice: f64,
    /// The larger of the two 95th percentiles of distances from one surface to the other (as in MONAI); NaN where a mask is empty.
    pub hd95_mm: f64,
    /// Mean of all distances from one surface to the other, both ways; NaN where a mask is empty.
    pub mean_surface_mm: f64,
    /// Volumes.
    pub volume_ml: [f64; 2],
}

/// Compares masks of shape (z, y, x); `spacing_mm` in voxel order (x, y, z).
pub fn overlap(a: &Array3<bool>, b: &Array3<bool>, spacing_mm: [f64; 3]) -> Overlap {
    let (mut both, mut n_a, mut n_b) = (0u64, 0u64, 0u64);
    Zip::from(a).and(b).for_each(|a, b| {
        both += u64::from(*a && *b);
        n_a += u64::from(*a);
        n_b += u64::from(*b);
    });
    let ml = spacing_mm.iter().product::<f64>() / 1000.0;
    let volume_ml = [n_a as f64 * ml, n_b as f64 * ml];
    let dice = if n_a + n_b == 0 { 1.0 } else { 2.0 * both as f64 / (n_a + n_b) as f64 };
    let (mut hd95_mm, mut mean_surface_mm) = (f64::NAN, f64::NAN);
    if n_a > 0 && n_b > 0 {
        let [z, y, x] = box_of(a, b);
        let part = |mask: &Array3<bool>| surface(mask.slice(s![z.0..=z.1, y.0..=y.1, x.0..=x.1]));
        let (a, b) = (part(a), part(b));
        let [from_a, from_b] = [distances(&a, &b, spacing_mm), distances(&b, &a, spacing_mm)];
        hd95_mm = percentile_95(&from_a).max(percentile_95(&from_b));
        mean_surface_mm = from_a.iter().chain(&from_b).sum::<f64>() / (from_a.len() + from_b.len()) as f64;
    }
    Overlap { dice, hd95_mm, mean_surface_mm, volume_ml }
}

/// First and last index along z, y, x of what either mask holds.
fn box_of(a: &Array3<bool>, b: &Array3<bool>) -> [(usize, usize); 3] {
    let mut found = [(usize::MAX, 0); 3];
    Zip::indexed(a).and(b).for_each(|(z, y, x), a, b| {
        if *a || *b {
            for (range, at) in found.iter_mut().zip([z, y, x]) {
                *range = (range.0.min(at), range.1.max(at));
            }
        }
    });
    found
}

/// Voxels of the mask with a neighbor outside it; beyond the array is outside.
fn surface(mask: ArrayView3<bool>) -> Array3<bool> {
    let (n_z, n_y, n_x) = mask.dim();
    Array3::from_shape_fn(mask.dim(), |(z, y, x)| {
        let inner = z > 0 && y > 0 && x > 0 && z + 1 < n_z && y + 1 < n_y && x + 1 < n_x;
        let enclosed = || {
            let around = [(z - 1, y, x), (z + 1, y, x), (z, y - 1, x), (z, y + 1, x), (z, y, x - 1), (z, y, x + 1)];
            around.into_iter().all(|at| mask[at])
        };
        mask[[z, y, x]] && !(inner && enclosed())
    })
}

/// Distances from the voxels of one surface to the other, ascending.
fn distances(from: &Array3<bool>, to: &Array3<bool>, spacing_mm: [f64; 3]) -> Vec<f64> {
    let squared = squared_distance_mm2(to, spacing_mm);
    let mut found: Vec<f64> = from.iter().zip(&squared).filter(|(on, _)| **on).map(|(_, d)| d.sqrt()).collect();
    found.sort_by(f64::total_cmp);
    found
}

/// Linear between order statistics, as numpy.
fn percentile_95(ascending: &[f64]) -> f64 {
    let place = 0.95 * (ascending.len() - 1) as f64;
    let low = place.floor() as usize;
    let high = (low + 1).min(ascending.len() - 1);
    ascending[low] + (place - low as f64) * (ascending[high] - ascending[low])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(x: std::ops::Range<usize>) -> Array3<bool> {
        let mut mask = Array3::from_elem((10, 10, 20), false);
        mask.slice_mut(s![2..8, 2..8, x]).fill(true);
        mask
    }

    #[test]
    fn a_block_and_the_same_moved_by_two_voxels() {
        let found = overlap(&block(4..10), &block(6..12), [1.5, 1.0, 1.0]);
        // 6 x 6 x 4 of twice 6 x 6 x 6 in common; the far faces lie two voxels of 1.5 mm apart.
        assert!((found.dice - 4.0 / 6.0).abs() < 1e-12);
        assert!((found.hd95_mm - 3.0).abs() < 1e-12, "{found:?}");
        assert!(found.mean_surface_mm > 0.0 && found.mean_surface_mm < 3.0);
        assert_eq!(found.volume_ml, [0.324, 0.324]);
        let same = overlap(&block(4..10), &block(4..10), [1.0; 3]);
        assert_eq!((same.dice, same.hd95_mm, same.mean_surface_mm), (1.0, 0.0, 0.0));
    }

    #[test]
    fn empty_masks() {
        let none = block(0..0);
        assert_eq!(overlap(&none, &none, [1.0; 3]).dice, 1.0);
        let found = overlap(&none, &block(1..2), [1.0; 3]);
        assert!(found.dice == 0.0 && found.hd95_mm.is_nan() && found.mean_surface_mm.is_nan());
    }

    #[test]
    fn percentiles_are_those_of_numpy() {
        // numpy.percentile([0, 1, 2, 3], 95) = 2.85
        assert!((percentile_95(&[0.0, 1.0, 2.0, 3.0]) - 2.85).abs() < 1e-12);
        assert_eq!(percentile_95(&[7.0]), 7.0);
    }
}
