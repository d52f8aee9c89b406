//! Logits back onto the image's grid, and labels from them, slice by slice as the sliding window gives them: two slices
//! are in memory.

use super::axis::{Order, linear, nearest};
use super::recipe::Heads;
use super::resample::Resampling;
use ndarray::{Array3, ArrayView3, ArrayViewMut2, ArrayViewMut3, ArrayViewMut4, Axis, s};
use rayon::prelude::*;
use std::ops::Range;

/// Where an output voxel lies along one axis: the lower and the upper source voxel and the share of the upper one.
type Place = (usize, usize, f32);

/// Takes logits of slices in their order and writes labels.
pub struct Restore<'a> {
    places: [Vec<Place>; 3],
    heads: &'a Heads,
    /// Values over which the entropy is averaged, if any.
    entropy_of: &'a [u8],
    /// Labels of the crop, in the network's order.
    labels: ArrayViewMut3<'a, u8>,
    /// Probabilities of the crop, shape (heads, ...), where they are wanted.
    probabilities: Option<ArrayViewMut4<'a, f32>>,
    before: Option<Array3<f32>>,
    next: usize,
    entropy: (f64, u64),
}

impl<'a> Restore<'a> {
    /// From the network's grid to that of `labels`.
    pub fn new(
        heads: &'a Heads,
        resampling: &Resampling,
        grid: [usize; 3],
        separate: Option<usize>,
        labels: ArrayViewMut3<'a, u8>,
        probabilities: Option<ArrayViewMut4<'a, f32>>,
        entropy_of: &'a [u8],
    ) -> Restore<'a> {
        let target: [usize; 3] = labels.dim().into();
        let places = std::array::from_fn(|a| {
            let order = if separate == Some(a) { resampling.order_z } else { resampling.order };
            let place = |k: usize| match order {
                _ if grid[a] == target[a] => (k, k, 0.0),
                Order::Nearest => {
                    let k = nearest(k, grid[a], target[a]);
                    (k, k, 0.0)
                }
                _ => linear(k, grid[a], target[a]),
            };
            (0..target[a]).map(place).collect()
        });
        Restore { places, heads, entropy_of, labels, probabilities, before: None, next: 0, entropy: (0.0, 0) }
    }

    /// Takes the logits of slice `z`, shape (heads, y, x), and writes every output slice that needs no later one.
    pub fn push(&mut self, z: usize, logits: Array3<f32>) {
        while let Some((low, high, share)) = self.places[0].get(self.next).copied().filter(|(_, high, _)| *high <= z) {
            // An output slice between this and the slice before is mixed; on a slice (share 0) it is that slice.
            let mixed;
            let of = |at: usize| if at == z { logits.view() } else { self.before.as_ref().unwrap_or(&logits).view() };
            let plane = if share == 0.0 || low == high {
                of(low)
            } else {
                let mut sum = of(low).to_owned();
                ndarray::Zip::from(&mut sum).and(of(high)).par_for_each(|a, b| *a = *a * (1.0 - share) + b * share);
                mixed = sum;
                mixed.view()
            };
            let entropy = write_slice(
                plane,
                [&self.places[1], &self.places[2]],
                self.heads,
                self.labels.index_axis_mut(Axis(0), self.next),
                self.probabilities.as_mut().map(|p| p.index_axis_mut(Axis(1), self.next)),
                self.entropy_of,
            );
            self.entropy = (self.entropy.0 + entropy.0, self.entropy.1 + entropy.1);
            self.next += 1;
        }
        self.before = Some(logits);
    }

    /// Mean entropy in nats over the voxels with one of the given labels; 0 without such voxels.
    pub fn mean_entropy(&self) -> f64 {
        self.entropy.0 / self.entropy.1.max(1) as f64
    }
}

/// One output slice from one of logits (heads, y, x); its sum of entropies and their number.
fn write_slice(
    plane: ArrayView3<f32>,
    [rows, columns]: [&[Place]; 2],
    heads: &Heads,
    mut labels: ArrayViewMut2<u8>,
    probabilities: Option<ArrayViewMut3<f32>>,
    entropy_of: &[u8],
) -> (f64, u64) {
    let (n_heads, _, n_x) = plane.dim();
    let work = |y: usize, mut to: ndarray::ArrayViewMut1<u8>, mut probabilities: Option<ArrayViewMut2<f32>>| {
        let (low, high, share) = rows[y];
        let mut line = ndarray::Array2::<f32>::zeros((n_heads, n_x));
        let (a, b) = (plane.slice(s![.., low, ..]), plane.slice(s![.., high, ..]));
        ndarray::Zip::from(&mut line).and(&a).and(&b).for_each(|l, a, b| *l = a * (1.0 - share) + b * share);
        let mut voxel = vec![0.0f32; n_heads];
        let mut entropy = (0.0, 0);
        for (x, (to, (low, high, share))) in to.iter_mut().zip(columns).enumerate() {
            for (c, v) in voxel.iter_mut().enumerate() {
                *v = line[[c, *low]] * (1.0 - share) + line[[c, *high]] * share;
            }
            *to = label(heads, &voxel);
            let measured = *to != 0 && entropy_of.contains(to);
            if measured || probabilities.is_some() {
                to_probabilities(heads, &mut voxel);
            }
            if measured {
                entropy = (entropy.0 + entropy_of_voxel(heads, &voxel), entropy.1 + 1);
            }
            if let Some(p) = &mut probabilities {
                p.column_mut(x).iter_mut().zip(&voxel).for_each(|(to, v)| *to = *v);
            }
        }
        entropy
    };
    let rows_of_labels = labels.outer_iter_mut().into_par_iter().enumerate();
    let sums: Vec<(f64, u64)> = match probabilities {
        None => rows_of_labels.map(|(y, to)| work(y, to, None)).collect(),
        Some(mut p) => rows_of_labels
            .zip(p.axis_iter_mut(Axis(1)).into_par_iter())
            .map(|((y, to), p)| work(y, to, Some(p)))
            .collect(),
    };
    sums.into_iter().fold((0.0, 0), |(sum, n), (s, k)| (sum + s, n + k))
}

fn label(heads: &Heads, logits: &[f32]) -> u8 {
    match heads {
        Heads::Labels(_) => {
            let first = logits.first().copied().unwrap_or(f32::NEG_INFINITY);
            let best =
                logits.iter().enumerate().fold((0, first), |best, (k, v)| if *v > best.1 { (k, *v) } else { best });
            best.0 as u8
        }
        // A probability above 0.5 is a logit above 0.
        Heads::Regions(values) => {
            values.iter().zip(logits).fold(0, |label, (value, logit)| if *logit > 0.0 { *value } else { label })
        }
    }
}

/// Softmax over labels, sigmoid of each region.
fn to_probabilities(heads: &Heads, logits: &mut [f32]) {
    match heads {
        Heads::Labels(_) => {
            let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            logits.iter_mut().for_each(|v| *v = (*v - top).exp());
            let sum: f32 = logits.iter().sum();
            logits.iter_mut().for_each(|v| *v /= sum);
        }
        Heads::Regions(_) => logits.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp())),
    }
}

/// In nats; of regions that of the least certain one.
fn entropy_of_voxel(heads: &Heads, probabilities: &[f32]) -> f64 {
    let term = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
    match heads {
        Heads::Labels(_) => probabilities.iter().map(|p| term(f64::from(*p))).sum(),
        Heads::Regions(_) => {
            probabilities.iter().map(|p| term(f64::from(*p)) + term(1.0 - f64::from(*p))).fold(0.0, f64::max)
        }
    }
}

/// Probabilities of everything outside the crop: background.
pub fn outside(heads: &Heads, probabilities: &mut ndarray::Array4<f32>) {
    if matches!(heads, Heads::Labels(_)) {
        probabilities.index_axis_mut(Axis(0), 0).fill(1.0);
    }
}

/// A part of an array with heads before its axes.
pub fn cut_heads<'a>(view: ArrayViewMut4<'a, f32>, at: &[Range<usize>; 3]) -> ArrayViewMut4<'a, f32> {
    view.slice_move(s![.., at[0].clone(), at[1].clone(), at[2].clone()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_logits_wins_and_later_regions_overwrite() {
        let labels = Heads::Labels(3);
        assert_eq!(label(&labels, &[1.0, 1.0, 0.5]), 0);
        assert_eq!(label(&labels, &[1.0, 2.0, 2.0]), 1);
        let regions = Heads::Regions(vec![1, 3, 2]);
        assert_eq!(label(&regions, &[0.1, -0.1, 0.1]), 2);
        assert_eq!(label(&regions, &[0.1, 5.0, 0.0]), 3);
        assert_eq!(label(&regions, &[-1.0, -1.0, 0.0]), 0, "0.5 is not above 0.5");
    }

    #[test]
    fn slices_come_back_between_their_neighbors() {
        // Two slices of logits for label 1: -1, then 3, onto four: at -0.25 (edge), 0.25, 0.75, 1.25 (edge): -1, 0, 2,
        // 3.
        let heads = Heads::Labels(2);
        let resampling =
            Resampling { order: Order::Linear, order_z: Order::Nearest, separate_z: None, anisotropy: 3.0 };
        let (mut labels, mut p) = (Array3::<u8>::zeros((4, 1, 1)), ndarray::Array4::<f32>::zeros((2, 4, 1, 1)));
        let mut restore =
            Restore::new(&heads, &resampling, [2, 1, 1], None, labels.view_mut(), Some(p.view_mut()), &[1]);
        for (z, v) in [-1.0, 3.0].into_iter().enumerate() {
            restore.push(z, Array3::from_shape_vec((2, 1, 1), vec![0.0, v]).unwrap());
        }
        assert!(restore.mean_entropy() > 0.0);
        assert_eq!(labels.iter().copied().collect::<Vec<u8>>(), [0, 0, 1, 1]);
        let expected = [-1.0f32, 0.0, 2.0, 3.0].map(|v| 1.0 / (1.0 + (-v).exp()));
        for (found, expected) in p.slice(s![1, .., 0, 0]).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6);
        }
        // The same axis resampled separately: the nearest slice.
        let mut labels = Array3::<u8>::zeros((4, 1, 1));
        let mut restore = Restore::new(&heads, &resampling, [2, 1, 1], Some(0), labels.view_mut(), None, &[]);
        for (z, v) in [-1.0, 3.0].into_iter().enumerate() {
            restore.push(z, Array3::from_shape_vec((2, 1, 1), vec![0.0, v]).unwrap());
        }
        assert_eq!(labels.iter().copied().collect::<Vec<u8>>(), [0, 0, 1, 1]);
    }
}
