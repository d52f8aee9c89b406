//! Connected components (26 neighbors) of label maps, as runs along x: 512 x 512 x 300 voxels need no second volume.

use ndarray::{Array3, ArrayView3, Axis, s};
use rayon::prelude::*;
use std::ops::Range;

/// Runs of a mask and the component of each.
pub struct Components {
    runs: Vec<Run>,
    component: Vec<u32>,
    /// Voxels of each component, in the order of their first voxel.
    pub sizes: Vec<u64>,
}

struct Run {
    z: usize,
    y: usize,
    x: Range<usize>,
}

impl Components {
    /// Of all voxels whose label is one of `values`.
    pub fn of(labels: ArrayView3<u8>, values: &[u8]) -> Components {
        let mut wanted = [false; 256];
        values.iter().for_each(|v| wanted[usize::from(*v)] = true);
        let slices: Vec<Vec<Run>> = labels
            .axis_iter(Axis(0))
            .into_par_iter()
            .enumerate()
            .map(|(z, slice)| runs_of(z, slice, &wanted))
            .collect();
        let runs: Vec<Run> = slices.into_iter().flatten().collect();
        let mut parent: Vec<u32> = (0..runs.len() as u32).collect();
        // The first run of each row, to find the rows before.
        let (n_z, n_y, _) = labels.dim();
        let mut first = vec![0usize; n_z * n_y + 1];
        runs.iter().for_each(|r| first[r.z * n_y + r.y + 1] += 1);
        (1..first.len()).for_each(|k| first[k] += first[k - 1]);
        let row = |z: usize, y: usize| first[z * n_y + y]..first[z * n_y + y + 1];
        for z in 0..n_z {
            for y in 0..n_y {
                if row(z, y).is_empty() {
                    continue;
                }
                let above = (z > 0).then(|| (y.saturating_sub(1)..(y + 2).min(n_y)).map(move |y| (z - 1, y)));
                let beside = (y > 0).then_some((z, y - 1));
                for (z_other, y_other) in above.into_iter().flatten().chain(beside) {
                    join_rows(&runs, row(z, y), row(z_other, y_other), &mut parent);
                }
            }
        }
        let mut number = vec![u32::MAX; runs.len()];
        let mut sizes = Vec::new();
        let component = (0..runs.len())
            .map(|k| {
                let root = find(&mut parent, k as u32) as usize;
                if number[root] == u32::MAX {
                    number[root] = sizes.len() as u32;
                    sizes.push(0);
                }
                sizes[number[root] as usize] += runs[k].x.len() as u64;
                number[root]
            })
            .collect();
        Components { runs, component, sizes }
    }

    /// Sets the voxels of every component that is not the largest (of equal ones all stay) to 0.
    pub fn keep_largest(&self, labels: &mut Array3<u8>) {
        let largest = self.sizes.iter().copied().max().unwrap_or(0);
        for (run, component) in self.runs.iter().zip(&self.component) {
            if self.sizes[*component as usize] < largest {
                labels.slice_mut(s![run.z, run.y, run.x.clone()]).fill(0);
            }
        }
    }

    /// Share of voxels outside the largest component, 0 to 1.
    pub fn fragments(&self) -> f64 {
        let (all, largest) = (self.sizes.iter().sum::<u64>(), self.sizes.iter().copied().max().unwrap_or(0));
        if all == 0 { 0.0 } else { (all - largest) as f64 / all as f64 }
    }
}

fn runs_of(z: usize, slice: ndarray::ArrayView2<u8>, wanted: &[bool; 256]) -> Vec<Run> {
    let mut runs = Vec::new();
    for (y, row) in slice.outer_iter().enumerate() {
        let mut start = None;
        for (x, v) in row.iter().enumerate() {
            match (wanted[usize::from(*v)], start) {
                (true, None) => start = Some(x),
                (false, Some(from)) => {
                    runs.push(Run { z, y, x: from..x });
                    start = None;
                }
                _ => {}
            }
        }
        if let Some(from) = start {
            runs.push(Run { z, y, x: from..row.len() });
        }
    }
    runs
}

/// Joins runs of two rows that touch, corners included; both rows ascend, so one walk is enough.
fn join_rows(runs: &[Run], mine: Range<usize>, other: Range<usize>, parent: &mut [u32]) {
    let (mut a, mut b) = (mine.start, other.start);
    while a < mine.end && b < other.end {
        let (x, y) = (&runs[a].x, &runs[b].x);
        if x.start <= y.end && y.start <= x.end {
            let (a, b) = (find(parent, a as u32), find(parent, b as u32));
            parent[a.max(b) as usize] = a.min(b);
        }
        if x.end < y.end { a += 1 } else { b += 1 }
    }
}

fn find(parent: &mut [u32], mut k: u32) -> u32 {
    while parent[k as usize] != k {
        parent[k as usize] = parent[parent[k as usize] as usize];
        k = parent[k as usize];
    }
    k
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::postprocess;

    #[test]
    fn components_are_those_of_the_flood_fill() {
        // A third of the voxels at random: parts of every size and shape. The other room's flood fill is the reference.
        for (seed, shape) in [(1u64, [9, 14, 17]), (2, [1, 30, 30]), (3, [20, 1, 40]), (4, [6, 50, 1])] {
            let mut state = seed;
            let labels = Array3::from_shape_simple_fn(shape, || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                [0u8, 0, 0, 0, 0, 0, 0, 0, 1, 2][(state >> 33) as usize % 10]
            });
            let found = Components::of(labels.view(), &[1, 2]);
            let reference = postprocess::components(&labels.mapv(|v| v > 0));
            let sizes: Vec<u64> = reference.iter().map(|p| p.len() as u64).collect();
            assert_eq!(found.sizes, sizes, "seed {seed}");
            let mut kept = labels.clone();
            found.keep_largest(&mut kept);
            let largest = sizes.iter().max().unwrap();
            assert_eq!(
                kept.iter().filter(|v| **v > 0).count() as u64,
                largest * sizes.iter().filter(|s| *s == largest).count() as u64
            );
        }
    }

    #[test]
    fn other_labels_are_left_alone() {
        let mut labels = ndarray::arr3(&[[[1u8, 1, 0, 2, 0, 1]]]);
        let found = Components::of(labels.view(), &[1]);
        assert!((found.fragments() - 1.0 / 3.0).abs() < 1e-12);
        found.keep_largest(&mut labels);
        assert_eq!(labels, ndarray::arr3(&[[[1u8, 1, 0, 2, 0, 0]]]));
    }
}
