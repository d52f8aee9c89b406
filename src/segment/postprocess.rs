//! Cleaning on the network's grid: one liver, no crumbs. Works on the coarse classes, before they return to the scan's grid.

use ndarray::{Array3, Array4};
use std::collections::VecDeque;

/// What cleaning found.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cleaned {
    /// Share of the raw liver outside its largest component, 0 to 1.
    pub fragments: f64,
}

/// Tumor components below this are crumbs.
const TUMOR_MM3_MIN: f64 = 1500.0;
/// Lesion components below this are crumbs.
const LESION_MM3_MIN: f64 = 200.0;

/// Keeps the largest component of liver and lesions together, the largest tumor, and lesions that are no crumbs.
/// What is removed becomes background in `probabilities` (classes, z, y, x). `classes`: arg max of the same, cleaned in place.
/// Class numbers: `liver`, `lesion`, `tumor`, where the network has them.
pub fn clean(
    classes: &mut Array3<u8>,
    probabilities: &mut Array4<f32>,
    voxel_mm3: f64,
    [liver, lesion, tumor]: [Option<u8>; 3],
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
    for (class, least_mm3, only_largest) in [(lesion, LESION_MM3_MIN, false), (tumor, TUMOR_MM3_MIN, true)] {
        let parts = components(&classes.mapv(|v| of(&[class], v)));
        let largest = parts.iter().map(Vec::len).max().unwrap_or(0);
        let mut kept = false;
        for part in &parts {
            let crumb = (part.len() as f64) * voxel_mm3 < least_mm3;
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

/// Connected components (26 neighbors) as lists of indices (z, y, x), in the order of their first voxel.
pub fn components(mask: &Array3<bool>) -> Vec<Vec<[usize; 3]>> {
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
        while let Some([z, y, x]) = queue.pop_front() {
            part.push([z, y, x]);
            for z in z.saturating_sub(1)..(z + 2).min(n_z) {
                for y in y.saturating_sub(1)..(y + 2).min(n_y) {
                    for x in x.saturating_sub(1)..(x + 2).min(n_x) {
                        if mask[[z, y, x]] && !seen[[z, y, x]] {
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
        let cleaned = clean(&mut classes, &mut p, 64.0, [Some(1), Some(2), Some(4)]);
        assert!((cleaned.fragments - 1.0 / 65.0).abs() < 1e-12);
        assert_eq!(classes[[0, 0, 7]], 0);
        assert_eq!(classes[[1, 1, 1]], 1, "64 mm3 are no lesion");
        assert_eq!(p[[1, 1, 1, 1]], 1.0);
        assert_eq!(classes.iter().filter(|v| **v == 4).count(), 24);
    }

    #[test]
    fn corners_connect() {
        let mut mask = Array3::from_elem((2, 2, 4), false);
        (mask[[0, 0, 0]], mask[[1, 1, 1]], mask[[0, 0, 3]]) = (true, true, true);
        let sizes: Vec<usize> = components(&mask).iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 1]);
    }
}
