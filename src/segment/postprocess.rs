//! Cleaning on the network's grid: one liver, no crumbs. Works on the coarse classes, before they return to the scan's grid.

use ndarray::{Array3, Array4, s};
use std::collections::VecDeque;

/// What cleaning found.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cleaned {
    /// Share of the raw liver outside its largest component, 0 to 1.
    pub fragments: f64,
}

/// Tumor components below this are crumbs.
const TUMOR_MM3_MIN: f64 = 1500.0;
/// What a component of lesion needs so that it is no crumb.
#[derive(Debug, Clone, Copy)]
pub struct Least {
    /// Smallest volume.
    pub lesion_mm3: f64,
    /// Lowest mean probability of lesion, 0 to 1.
    pub lesion_probability: f64,
}

impl Default for Least {
    fn default() -> Self {
        Least { lesion_mm3: 200.0, lesion_probability: 0.0 }
    }
}

/// Background enclosed by the liver is liver up to this size (a vessel or a lesion that the network missed), else it is left alone.
const HOLE_MM3_MAX: f64 = 20_000.0;

/// Keeps the largest component of liver and lesions together with its holes filled, the largest tumor, and lesions that are no crumbs.
/// What is removed becomes background in `probabilities` (classes, z, y, x). `classes`: arg max of the same, cleaned in place.
/// Class numbers: `liver`, `lesion`, `tumor`, where the network has them.
pub fn clean(
    classes: &mut Array3<u8>,
    probabilities: &mut Array4<f32>,
    voxel_mm3: f64,
    [liver, lesion, tumor]: [Option<u8>; 3],
    least: Least,
) -> Cleaned {
    let mut cleaned = Cleaned::default();
    let of = |set: &[Option<u8>], v: u8| v != 0 && set.contains(&Some(v));
    let organ = components(&classes.mapv(|v| of(&[liver, lesion], v)));
    let total: usize = organ.iter().map(Vec::len).sum();
    if let Some(largest) = organ.iter().map(Vec::len).max() {
        cleaned.fragments = (total - largest) as f64 / total as f64;
        let mut kept = false;
        for part in &organ {
            if part.len() == largest && !kept {
                kept = true;
            } else {
                remove(part, classes, probabilities);
            }
        }
    }
    if let Some(liver) = liver {
        for hole in holes(&classes.mapv(|v| of(&[Some(liver), lesion], v))) {
            if (hole.len() as f64) * voxel_mm3 < HOLE_MM3_MAX && hole.iter().all(|at| classes[*at] == 0) {
                replace(&hole, classes, probabilities, liver);
            }
        }
    }
    for (class, least_mm3, only_largest) in [(lesion, least.lesion_mm3, false), (tumor, TUMOR_MM3_MIN, true)] {
        let parts = components(&classes.mapv(|v| of(&[class], v)));
        let largest = parts.iter().map(Vec::len).max().unwrap_or(0);
        let mut kept = false;
        for part in &parts {
            let faint = class.is_some_and(|class| {
                Some(class) == lesion && mean_probability(part, probabilities, class) < least.lesion_probability
            });
            let crumb = faint || (part.len() as f64) * voxel_mm3 < least_mm3;
            let second = only_largest && (part.len() < largest || kept);
            if crumb && class == lesion {
                // A crumb inside the liver is liver.
                replace(part, classes, probabilities, liver.unwrap_or(0));
            } else if crumb || second {
                remove(part, classes, probabilities);
            } else {
                kept = true;
            }
        }
    }
    cleaned
}

/// Mean probability of a class over voxels (z, y, x).
pub fn mean_probability(part: &[[usize; 3]], probabilities: &Array4<f32>, class: u8) -> f64 {
    let of = |[z, y, x]: &[usize; 3]| f64::from(probabilities[[usize::from(class), *z, *y, *x]]);
    part.iter().map(of).sum::<f64>() / part.len().max(1) as f64
}

fn remove(part: &[[usize; 3]], classes: &mut Array3<u8>, probabilities: &mut Array4<f32>) {
    replace(part, classes, probabilities, 0);
}

fn replace(part: &[[usize; 3]], classes: &mut Array3<u8>, probabilities: &mut Array4<f32>, by: u8) {
    let n_classes = probabilities.dim().0;
    for &[z, y, x] in part {
        classes[[z, y, x]] = by;
        for c in 0..n_classes {
            probabilities[[c, z, y, x]] = f32::from(u8::from(c == usize::from(by)));
        }
    }
}

/// Parts of the background (6 neighbors) that a mask encloses: those that touch no side of its box.
fn holes(mask: &Array3<bool>) -> Vec<Vec<[usize; 3]>> {
    // Only the mask's box is searched: what reaches its sides is outside.
    let (mut low, mut high) = ([usize::MAX; 3], [0; 3]);
    for ((z, y, x), _) in mask.indexed_iter().filter(|(_, inside)| **inside) {
        for (a, at) in [z, y, x].into_iter().enumerate() {
            (low[a], high[a]) = (low[a].min(at), high[a].max(at));
        }
    }
    if low[0] == usize::MAX {
        return Vec::new();
    }
    let outside = mask.slice(s![low[0]..=high[0], low[1]..=high[1], low[2]..=high[2]]).mapv(|inside| !inside);
    let last: [usize; 3] = std::array::from_fn(|a| high[a] - low[a]);
    let mut parts = connected(&outside, false);
    parts.retain(|part| part.iter().all(|at| (0..3).all(|a| at[a] > 0 && at[a] < last[a])));
    parts.iter_mut().flatten().for_each(|at| *at = std::array::from_fn(|a| at[a] + low[a]));
    parts
}

/// Connected components (26 neighbors) as lists of indices (z, y, x), in the order of their first voxel.
pub fn components(mask: &Array3<bool>) -> Vec<Vec<[usize; 3]>> {
    connected(mask, true)
}

/// Components with 26 neighbors, or 6 without `corners`.
fn connected(mask: &Array3<bool>, corners: bool) -> Vec<Vec<[usize; 3]>> {
    let (n_z, n_y, n_x) = mask.dim();
    let mut seen = Array3::from_elem(mask.dim(), false);
    let mut found = Vec::new();
    for ((z, y, x), inside) in mask.indexed_iter() {
        if !inside || seen[[z, y, x]] {
            continue;
        }
        seen[[z, y, x]] = true;
        let mut part = Vec::new();
        let mut queue = VecDeque::from([[z, y, x]]);
        while let Some(center) = queue.pop_front() {
            part.push(center);
            let [z, y, x] = center;
            for z in z.saturating_sub(1)..(z + 2).min(n_z) {
                for y in y.saturating_sub(1)..(y + 2).min(n_y) {
                    for x in x.saturating_sub(1)..(x + 2).min(n_x) {
                        let moved = [z, y, x].iter().zip(&center).filter(|(a, b)| a != b).count();
                        if mask[[z, y, x]] && !seen[[z, y, x]] && (corners || moved == 1) {
                            seen[[z, y, x]] = true;
                            queue.push_back([z, y, x]);
                        }
                    }
                }
            }
        }
        found.push(part);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_liver_stays_and_crumbs_go() {
        let mut classes = Array3::<u8>::zeros((4, 4, 12));
        classes.slice_mut(ndarray::s![.., .., 0..4]).fill(1); // 64 voxels of liver
        classes[[1, 1, 1]] = 2; // a lesion of one voxel
        classes[[0, 0, 7]] = 1; // a fragment
        classes.slice_mut(ndarray::s![0..2, 0..4, 9..12]).fill(4); // 24 voxels of tumor
        let mut p = Array4::<f32>::zeros((5, 4, 4, 12));
        let cleaned = clean(&mut classes, &mut p, 64.0, [Some(1), Some(2), Some(4)], Least::default());
        assert!((cleaned.fragments - 1.0 / 65.0).abs() < 1e-12);
        assert_eq!(classes[[0, 0, 7]], 0);
        assert_eq!(classes[[1, 1, 1]], 1, "64 mm3 are no lesion");
        assert_eq!(p[[1, 1, 1, 1]], 1.0);
        assert_eq!(classes.iter().filter(|v| **v == 4).count(), 24);
    }

    #[test]
    fn holes_become_liver_but_other_organs_and_cavities_stay() {
        let mut classes = Array3::<u8>::zeros((9, 9, 9));
        classes.slice_mut(s![1..8, 1..8, 1..8]).fill(1);
        classes[[4, 4, 4]] = 0; // enclosed
        classes[[2, 2, 2]] = 3; // colon inside the liver: another organ, left to the reader
        classes[[1, 5, 5]] = 0; // a dent
        let mut p = Array4::<f32>::zeros((5, 9, 9, 9));
        let mut large = classes.clone();
        clean(&mut classes, &mut p, 64.0, [Some(1), Some(2), Some(4)], Least::default());
        assert_eq!([classes[[4, 4, 4]], classes[[2, 2, 2]], classes[[1, 5, 5]]], [1, 3, 0]);
        clean(&mut large, &mut p, 20_000.0, [Some(1), Some(2), Some(4)], Least::default());
        assert_eq!(large[[4, 4, 4]], 0, "a cavity of 20 mL is no missed vessel");
    }

    #[test]
    fn only_the_largest_tumor_and_lesions_of_the_liver_stay() {
        let mut classes = Array3::<u8>::zeros((8, 8, 32));
        classes.slice_mut(s![.., .., ..12]).fill(1);
        classes.slice_mut(s![2..4, 2..4, 2..4]).fill(2); // 8 voxels of lesion in the liver
        classes.slice_mut(s![0..2, 0..2, 14..16]).fill(2); // a lesion outside it
        classes.slice_mut(s![0..4, 0..4, 18..21]).fill(4); // 48 voxels
        classes.slice_mut(s![0..4, 0..4, 24..28]).fill(4); // 64 voxels
        let mut p = Array4::<f32>::zeros((5, 8, 8, 32));
        clean(&mut classes, &mut p, 64.0, [Some(1), Some(2), Some(4)], Least::default());
        assert_eq!([2, 4].map(|k| classes.iter().filter(|v| **v == k).count()), [8, 64]);
        assert_eq!(classes[[0, 0, 18]], 0);
        let mut empty = Array3::<u8>::zeros((2, 2, 2));
        assert_eq!(
            clean(&mut empty, &mut Array4::zeros((5, 2, 2, 2)), 64.0, [Some(1), None, None], Least::default()),
            Cleaned::default()
        );
    }

    #[test]
    fn corners_connect() {
        let mut mask = Array3::from_elem((2, 2, 4), false);
        (mask[[0, 0, 0]], mask[[1, 1, 1]], mask[[0, 0, 3]]) = (true, true, true);
        let sizes: Vec<usize> = components(&mask).iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 1]);
    }
}
