//! Gray level co-occurrence matrix (LFYI): how often two levels are neighbors along a direction. Symmetric.

use super::levels::{Levels, directions};
use super::settings::Settings;
use super::table::{Aggregation, Definition, Family, Table, average, define};
use rayon::prelude::*;
use std::ops::Range;

const N: usize = 25;
const DEFINITIONS: [Definition; N] = [
    define("cm_joint_max", "joint_maximum", "GYBY", ""),
    define("cm_joint_avg", "joint_average", "60VM", ""),
    define("cm_joint_var", "joint_variance", "UR99", ""),
    define("cm_joint_entr", "joint_entropy", "TU9B", "bit"),
    define("cm_diff_avg", "difference_average", "TF7R", ""),
    define("cm_diff_var", "difference_variance", "D3YU", ""),
    define("cm_diff_entr", "difference_entropy", "NTRS", "bit"),
    define("cm_sum_avg", "sum_average", "ZGXS", ""),
    define("cm_sum_var", "sum_variance", "OEEB", ""),
    define("cm_sum_entr", "sum_entropy", "P6QZ", "bit"),
    define("cm_energy", "angular_second_moment", "8ZQL", ""),
    define("cm_contrast", "contrast", "ACUI", ""),
    define("cm_dissimilarity", "dissimilarity", "8S9J", ""),
    define("cm_inv_diff", "inverse_difference", "IB1Z", ""),
    define("cm_inv_diff_norm", "normalised_inverse_difference", "NDRX", ""),
    define("cm_inv_diff_mom", "inverse_difference_moment", "WF0Z", ""),
    define("cm_inv_diff_mom_norm", "normalised_inverse_difference_moment", "1QCO", ""),
    define("cm_inv_var", "inverse_variance", "E8JP", ""),
    define("cm_corr", "correlation", "NI2N", ""),
    define("cm_auto_corr", "autocorrelation", "QWB0", ""),
    define("cm_clust_tend", "cluster_tendency", "DG8W", ""),
    define("cm_clust_shade", "cluster_shade", "7NFM", ""),
    define("cm_clust_prom", "cluster_prominence", "AE86", ""),
    define("cm_info_corr1", "information_correlation_1", "R8DG", ""),
    define("cm_info_corr2", "information_correlation_2", "JN9H", ""),
];

/// Appends all features in all aggregations of the approach.
pub(super) fn compute(levels: &Levels, settings: &Settings, table: &mut Table) {
    let count = |slices: Range<usize>, direction: &[i32; 3]| {
        Counts::new(levels, slices, direction.map(|d| d * settings.distance as i32))
    };
    let mut push = |how, values: [f64; N]| table.push(Family::Cooccurrence, &DEFINITIONS, how, &values);
    if settings.approach.has_planar() {
        let directions = directions(true);
        let mut merged = vec![Counts::empty(levels); directions.len()];
        let (mut single, mut per_slice) = (Vec::new(), Vec::new());
        for z in 0..levels.shape[0] {
            let counts: Vec<Counts> = directions.par_iter().map(|d| count(z..z + 1, d)).collect();
            single.extend(counts.iter().map(Counts::features));
            per_slice.push(Counts::merge(levels, &counts).features());
            merged.iter_mut().zip(&counts).for_each(|(sum, counts)| sum.add(counts));
        }
        let per_direction: Vec<[f64; N]> = merged.iter().map(Counts::features).collect();
        push(Aggregation::PLANAR_AVERAGE, average(&single));
        push(Aggregation::PLANAR_MERGED, average(&per_slice));
        push(Aggregation::SLICES_AVERAGE, average(&per_direction));
        push(Aggregation::SLICES_MERGED, Counts::merge(levels, &merged).features());
    }
    if settings.approach.has_volume() {
        let counts: Vec<Counts> = directions(false).par_iter().map(|d| count(0..levels.shape[0], d)).collect();
        let per_direction: Vec<[f64; N]> = counts.par_iter().map(Counts::features).collect();
        push(Aggregation::SPATIAL_AVERAGE, average(&per_direction));
        push(Aggregation::SPATIAL_MERGED, Counts::merge(levels, &counts).features());
    }
}

/// Pairs (level of a voxel, level of its neighbor along one direction), row after row; row and column 0 are pairs with
/// the outside and do not count.
#[derive(Clone)]
struct Counts {
    width: usize,
    pairs: Vec<u32>,
}

impl Counts {
    fn empty(levels: &Levels) -> Counts {
        let width = levels.ng + 1;
        Counts { width, pairs: vec![0; width * width] }
    }

    fn new(levels: &Levels, slices: Range<usize>, offset: [i32; 3]) -> Counts {
        let mut counts = Counts::empty(levels);
        let step = levels.step(offset);
        for row in slices.flat_map(|z| levels.rows(z)) {
            let (here, there) = levels.pair(row, step);
            for (i, j) in here.iter().zip(there) {
                counts.pairs[usize::from(*i) * counts.width + usize::from(*j)] += 1;
            }
        }
        counts
    }

    fn add(&mut self, other: &Counts) {
        self.pairs.iter_mut().zip(&other.pairs).for_each(|(a, b)| *a += b);
    }

    fn merge(levels: &Levels, all: &[Counts]) -> Counts {
        let mut sum = Counts::empty(levels);
        all.iter().for_each(|counts| sum.add(counts));
        sum
    }

    /// The features of the symmetric matrix; NaN if there are no pairs.
    fn features(&self) -> [f64; N] {
        let (width, ng) = (self.width, (self.width - 1) as f64);
        let pairs: u64 =
            (1..width).flat_map(|i| &self.pairs[i * width + 1..(i + 1) * width]).map(|c| u64::from(*c)).sum();
        if pairs == 0 {
            return [f64::NAN; N];
        }
        let scale = 0.5 / pairs as f64;
        let p = |i: usize, j: usize| {
            f64::from(self.pairs[i * width + j]) * scale + f64::from(self.pairs[j * width + i]) * scale
        };
        let (mut px, mut minus, mut plus) = (vec![0.0; width], vec![0.0; width], vec![0.0; 2 * width]);
        let (mut highest, mut energy, mut hxy, mut product) = (0.0f64, 0.0, 0.0, 0.0);
        for i in 1..width {
            for j in 1..width {
                let p = p(i, j);
                if p > 0.0 {
                    px[i] += p;
                    minus[i.abs_diff(j)] += p;
                    plus[i + j] += p;
                    highest = highest.max(p);
                    energy += p * p;
                    hxy -= p * p.log2();
                    product += p * (i * j) as f64;
                }
            }
        }
        let mean =
            |p: &[f64], f: &dyn Fn(f64) -> f64| -> f64 { p.iter().enumerate().map(|(k, p)| p * f(k as f64)).sum() };
        let mu = mean(&px, &|i| i);
        let variance = mean(&px, &|i| (i - mu) * (i - mu));
        let (difference, sum) = (mean(&minus, &|k| k), mean(&plus, &|k| k));
        let hx = entropy(&px);
        // As px = py, HXY1 = -sum p log(px py) and HXY2 = -sum px py log(px py) are both 2 HX.
        let information = 2.0 * hx - hxy;
        let contrast = mean(&minus, &|k| k * k);
        let tendency = mean(&plus, &|k| (k - sum).powi(2));
        [
            highest,
            mu,
            variance,
            hxy,
            difference,
            mean(&minus, &|k| (k - difference).powi(2)),
            entropy(&minus),
            sum,
            tendency,
            entropy(&plus),
            energy,
            contrast,
            difference, // dissimilarity is the same
            mean(&minus, &|k| 1.0 / (1.0 + k)),
            mean(&minus, &|k| 1.0 / (1.0 + k / ng)),
            mean(&minus, &|k| 1.0 / (1.0 + k * k)),
            mean(&minus, &|k| 1.0 / (1.0 + (k / ng).powi(2))),
            mean(&minus, &|k| if k > 0.0 { 1.0 / (k * k) } else { 0.0 }),
            // Undefined for one level; equal voxels correlate fully.
            if variance > 0.0 { (product - mu * mu) / variance } else { 1.0 },
            product,
            tendency, // equal to the sum variance
            mean(&plus, &|k| (k - sum).powi(3)),
            mean(&plus, &|k| (k - sum).powi(4)),
            if hx > 0.0 { -information / hx } else { 1.0 },
            (1.0 - (-2.0 * information.max(0.0)).exp()).sqrt(),
        ]
    }
}

/// In bits.
fn entropy(p: &[f64]) -> f64 {
    -p.iter().filter(|p| **p > 0.0).map(|p| p * p.log2()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr3;

    fn value(features: [f64; N], tag: &str) -> f64 {
        features[DEFINITIONS.iter().position(|d| d.tag == tag).unwrap()]
    }

    #[test]
    fn two_levels_in_a_row() {
        // Pairs along x: (1,2), (2,2); symmetric: (1,2) and (2,1) once, (2,2) twice, of 4.
        let levels = Levels::from_cells(arr3(&[[[1, 2, 2]]]).view(), 1, 2);
        let found = Counts::new(&levels, 0..1, [0, 0, 1]).features();
        let expected = [
            ("cm_joint_max", 0.5),
            ("cm_joint_avg", 1.75),
            ("cm_joint_var", 0.1875),
            ("cm_joint_entr", 1.5),
            ("cm_contrast", 0.5),
            ("cm_auto_corr", 3.0),
            ("cm_inv_diff_norm", 0.5 + 0.5 / 1.5),
            ("cm_inv_diff_mom_norm", 0.5 + 0.5 / 1.25),
            ("cm_inv_var", 0.5),
            ("cm_corr", (3.0 - 1.75 * 1.75) / 0.1875),
            ("cm_clust_shade", 0.0),
        ];
        for (tag, value_expected) in expected {
            assert!((value(found, tag) - value_expected).abs() < 1e-12, "{tag}: {}", value(found, tag));
        }
        // Nothing lies beside the row.
        assert!(Counts::new(&levels, 0..1, [0, 1, 0]).features()[0].is_nan());
    }

    #[test]
    fn one_level_is_fully_correlated() {
        let levels = Levels::from_cells(arr3(&[[[2, 2]]]).view(), 1, 2);
        let found = Counts::new(&levels, 0..1, [0, 0, 1]).features();
        let of = |tag| value(found, tag);
        assert_eq!([of("cm_corr"), of("cm_info_corr1"), of("cm_info_corr2")], [1.0, 1.0, 0.0]);
    }
}
