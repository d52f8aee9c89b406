//! How sure a network is of a region: its answer again for a slightly other image, and what Dice that lets one expect.

use ndarray::{Array3, Zip, s};
use serde::Deserialize;

/// The image is moved by so many voxels of the grid (z, y, x), odd against the network's strides, but no more than half of it. It is
/// never mirrored: the network must know on which side the liver lies.
const SHIFT: [usize; 3] = [3, 5, 7];
/// Standard deviation of the added noise.
const NOISE_HU: f32 = 12.0;
/// Weights of the blur along each axis: variance 0.36, that of a Gaussian of 0.6 voxels.
const BLUR: [f32; 3] = [0.18, 0.64, 0.18];

/// The same image moved, blurred and with noise, HU, shape (z, y, x) on the padded grid; what moves in is air.
pub fn disturbed(hu: &Array3<f32>) -> Array3<f32> {
    let mut blurred = hu.clone();
    for axis in 0..3 {
        for mut lane in blurred.lanes_mut(ndarray::Axis(axis)) {
            let mut before = lane[0];
            for k in 0..lane.len() {
                let (here, after) = (lane[k], lane[(k + 1).min(lane.len() - 1)]);
                lane[k] = BLUR[0] * before + BLUR[1] * here + BLUR[2] * after;
                before = here;
            }
        }
    }
    let mut moved = Array3::from_elem(hu.dim(), -1000.0);
    let ([dz, dy, dx], [z, y, x]) = shift(hu.dim());
    moved.slice_mut(s![dz.., dy.., dx..]).assign(&blurred.slice(s![..z, ..y, ..x]));
    let mut state = 20_261_125u64;
    // The sum of four uniform numbers of variance 1/12: near enough to a Gaussian, the same on every machine.
    moved.mapv_inplace(|hu| {
        let uniform = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u32 << 24) as f32 - 0.5
        };
        hu + NOISE_HU * 3f32.sqrt() * (0..4).map(uniform).sum::<f32>()
    });
    moved
}

/// By how many voxels a grid (z, y, x) is moved, and how many of each axis stay in it.
fn shift((n_z, n_y, n_x): (usize, usize, usize)) -> ([usize; 3], [usize; 3]) {
    let size = [n_z, n_y, n_x];
    let by: [usize; 3] = std::array::from_fn(|a| SHIFT[a].min(size[a] / 2));
    (by, std::array::from_fn(|a| size[a] - by[a]))
}

/// 1 - Dice between the classes of an image and those of the same image [`disturbed`], for the classes of one region; NaN if
/// neither has any.
pub fn disagreement(classes: &Array3<u8>, disturbed: &Array3<u8>, of: &[u8]) -> f64 {
    let ([dz, dy, dx], [z, y, x]) = shift(classes.dim());
    let moved = disturbed.slice(s![dz.., dy.., dx..]);
    let (mut both, mut sum) = (0u64, 0u64);
    Zip::from(classes.slice(s![..z, ..y, ..x])).and(moved).for_each(|a, b| {
        let (a, b) = (of.contains(a), of.contains(b));
        both += u64::from(a && b);
        sum += u64::from(a) + u64::from(b);
    });
    if sum == 0 { f64::NAN } else { 1.0 - 2.0 * both as f64 / sum as f64 }
}

/// From measures to the Dice that volumes with such measures had when the package was calibrated: a plane, fitted by
/// models/training on degraded volumes of known truth.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Dice where both measures are 0.
    pub intercept: f64,
    /// Dice per nat of mean entropy inside the region.
    pub per_nat: f64,
    /// Dice per 1 of disagreement.
    pub per_disagreement: f64,
}

impl Calibration {
    /// The Dice to expect, 0 to 1.
    pub fn dice(&self, entropy: f64, disagreement: f64) -> f64 {
        (self.intercept + self.per_nat * entropy + self.per_disagreement * disagreement).clamp(0.0, 1.0)
    }

    /// Whether it is a plane of numbers that falls as the network gets less sure.
    pub fn is_plausible(&self) -> bool {
        (0.0..=1.2).contains(&self.intercept)
            && [self.per_nat, self.per_disagreement].iter().all(|slope| (-100.0..=0.0).contains(slope))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disturbed_image_is_moved_blurred_and_noisy() {
        let mut hu = Array3::from_elem((16, 16, 16), 0.0);
        hu[[5, 5, 5]] = 1000.0;
        let found = disturbed(&hu);
        // The peak moves and keeps 0.64 cubed of its height.
        assert!((found[[8, 10, 12]] - 262.0).abs() < 50.0, "{}", found[[8, 10, 12]]);
        let flat: Vec<f32> = found.slice(s![11.., .., ..]).iter().copied().filter(|hu| *hu > -500.0).collect();
        let mean = flat.iter().sum::<f32>() / flat.len() as f32;
        let sd = (flat.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / flat.len() as f32).sqrt();
        assert!(mean.abs() < 3.0 && (sd - 12.0).abs() < 2.0, "{mean} {sd} of {}", flat.len());
    }

    #[test]
    fn an_answer_that_moves_with_the_image_agrees() {
        let mut classes = Array3::<u8>::zeros((12, 16, 20));
        classes.slice_mut(s![2..6, 3..8, 4..9]).fill(1);
        let mut moved = Array3::<u8>::zeros((12, 16, 20));
        moved.slice_mut(s![5..9, 8..13, 11..16]).fill(1);
        assert_eq!(disagreement(&classes, &moved, &[1]), 0.0);
        moved.slice_mut(s![5..7, .., ..]).fill(0); // half of it is lost: Dice 2/3
        assert!((disagreement(&classes, &moved, &[1, 2]) - 1.0 / 3.0).abs() < 1e-12);
        assert!(disagreement(&classes, &moved, &[3]).is_nan());
        let one = Array3::<u8>::ones((1, 1, 1));
        assert_eq!(disagreement(&one, &one, &[1]), 0.0, "a grid of one voxel is not moved");
    }

    #[test]
    fn the_expected_dice_is_a_plane_within_its_limits() {
        let plane = Calibration { intercept: 1.0, per_nat: -0.5, per_disagreement: -2.0 };
        assert!((plane.dice(0.1, 0.05) - 0.85).abs() < 1e-12);
        assert_eq!((plane.dice(3.0, 0.0), plane.dice(-1.0, 0.0)), (0.0, 1.0));
        assert!(plane.is_plausible() && !Calibration { per_nat: 0.1, ..plane }.is_plausible());
        assert!(!Calibration { intercept: f64::NAN, ..plane }.is_plausible());
    }
}
