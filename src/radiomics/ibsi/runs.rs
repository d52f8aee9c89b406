//! Gray level run length matrix (TP0I): lengths of runs of equal levels along a direction.

use super::levels::{Levels, directions};
use super::settings::Settings;
use super::table::{Aggregation, Definition, Family, Table, average, define};
use crate::radiomics::size_matrix::SizeMatrix;
use rayon::prelude::*;
use std::ops::Range;

const N: usize = 16;
const DEFINITIONS: [Definition; N] = [
    define("rlm_sre", "short_runs_emphasis", "22OV", ""),
    define("rlm_lre", "long_runs_emphasis", "W4KF", ""),
    define("rlm_lgre", "low_grey_level_run_emphasis", "V3SW", ""),
    define("rlm_hgre", "high_grey_level_run_emphasis", "G3QZ", ""),
    define("rlm_srlge", "short_run_low_grey_level_emphasis", "HTZT", ""),
    define("rlm_srhge", "short_run_high_grey_level_emphasis", "GD3A", ""),
    define("rlm_lrlge", "long_run_low_grey_level_emphasis", "IVPO", ""),
    define("rlm_lrhge", "long_run_high_grey_level_emphasis", "3KUM", ""),
    define("rlm_glnu", "grey_level_non_uniformity", "R5YN", ""),
    define("rlm_glnu_norm", "normalised_grey_level_non_uniformity", "OVBL", ""),
    define("rlm_rlnu", "run_length_non_uniformity", "W92Y", ""),
    define("rlm_rlnu_norm", "normalised_run_length_non_uniformity", "IC23", ""),
    define("rlm_r_perc", "run_percentage", "9ZK5", ""),
    define("rlm_gl_var", "grey_level_variance", "8CE5", ""),
    define("rlm_rl_var", "run_length_variance", "SXLW", ""),
    define("rlm_rl_entr", "run_entropy", "HJ9O", "bit"),
];

/// Appends all features in all aggregations of the approach.
pub(super) fn compute(levels: &Levels, settings: &Settings, table: &mut Table) {
    let mut push = |how, values: [f64; N]| table.push(Family::RunLength, &DEFINITIONS, how, &values);
    if settings.approach.has_planar() {
        let directions = directions(true);
        let mut merged = vec![Counts::empty(levels); directions.len()];
        let (mut single, mut per_slice) = (Vec::new(), Vec::new());
        for z in 0..levels.shape[0] {
            let counts: Vec<Counts> = directions.par_iter().map(|d| Counts::of_runs(levels, z..z + 1, *d)).collect();
            single.extend(counts.iter().map(run_features));
            per_slice.push(run_features(&Counts::merge(levels, &counts)));
            merged.iter_mut().zip(&counts).for_each(|(sum, counts)| sum.add(counts));
        }
        let per_direction: Vec<[f64; N]> = merged.iter().map(run_features).collect();
        push(Aggregation::PLANAR_AVERAGE, average(&single));
        push(Aggregation::PLANAR_MERGED, average(&per_slice));
        push(Aggregation::SLICES_AVERAGE, average(&per_direction));
        push(Aggregation::SLICES_MERGED, run_features(&Counts::merge(levels, &merged)));
    }
    if settings.approach.has_volume() {
        let all = 0..levels.shape[0];
        let counts: Vec<Counts> =
            directions(false).par_iter().map(|d| Counts::of_runs(levels, all.clone(), *d)).collect();
        let per_direction: Vec<[f64; N]> = counts.par_iter().map(run_features).collect();
        push(Aggregation::SPATIAL_AVERAGE, average(&per_direction));
        push(Aggregation::SPATIAL_MERGED, run_features(&Counts::merge(levels, &counts)));
    }
}

/// Runs by level and length, row after row.
#[derive(Clone)]
struct Counts {
    /// Longest possible run, plus one.
    width: usize,
    runs: Vec<u32>,
}

impl Counts {
    fn empty(levels: &Levels) -> Counts {
        let width = levels.shape.into_iter().max().unwrap_or(0) + 1;
        Counts { width, runs: vec![0; (levels.ng + 1) * width] }
    }

    /// A run starts where the voxel before has another level (or is outside) and is followed to its end.
    fn of_runs(levels: &Levels, slices: Range<usize>, direction: [i32; 3]) -> Counts {
        let mut counts = Counts::empty(levels);
        let step = levels.step(direction);
        for row in slices.flat_map(|z| levels.rows(z)) {
            let (here, before) = levels.pair(row, -step);
            for (x, (level, before)) in here.iter().zip(before).enumerate() {
                if *level == 0 || level == before {
                    continue;
                }
                let (mut length, mut at) = (1, (row + x).saturating_add_signed(step));
                while levels.data[at] == *level {
                    length += 1;
                    at = at.saturating_add_signed(step);
                }
                counts.runs[usize::from(*level) * counts.width + length] += 1;
            }
        }
        counts
    }

    fn add(&mut self, other: &Counts) {
        self.runs.iter_mut().zip(&other.runs).for_each(|(a, b)| *a += b);
    }

    fn merge(levels: &Levels, all: &[Counts]) -> Counts {
        let mut sum = Counts::empty(levels);
        all.iter().for_each(|counts| sum.add(counts));
        sum
    }
}

fn run_features(counts: &Counts) -> [f64; N] {
    let cell = |(at, n): (usize, &u32)| ((at / counts.width) as f64, (at % counts.width) as f64, f64::from(*n));
    let cells = counts.runs.iter().enumerate().filter(|(_, n)| **n > 0).map(cell).collect();
    size_features(&SizeMatrix { cells })
}

/// The sixteen features that run lengths, zone sizes, zone distances and dependences share, in the order of their
/// definitions; NaN for an empty matrix. The percentage is that of runs and zones: their number over that of voxels.
pub(super) fn size_features(matrix: &SizeMatrix) -> [f64; N] {
    matrix.features().map_or([f64::NAN; N], |f| {
        [
            f.small,
            f.large,
            f.low,
            f.high,
            f.small_low,
            f.small_high,
            f.large_low,
            f.large_high,
            f.level_non_uniformity,
            f.level_non_uniformity_normalized,
            f.size_non_uniformity,
            f.size_non_uniformity_normalized,
            f.percentage,
            f.level_variance,
            f.size_variance,
            f.entropy,
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr3;

    #[test]
    fn runs_end_at_other_levels_and_at_the_border() {
        let levels = Levels::from_cells(arr3(&[[[1, 1, 2], [0, 1, 2]]]).view(), 1, 2);
        let runs = |direction| {
            let counts = Counts::of_runs(&levels, 0..1, direction);
            let at = |level: usize, length: usize| counts.runs[level * counts.width + length];
            [at(1, 1), at(1, 2), at(2, 1), at(2, 2)]
        };
        assert_eq!(runs([0, 0, 1]), [1, 1, 2, 0]);
        assert_eq!(runs([0, 1, 0]), [1, 1, 0, 1]);
        assert_eq!(runs([0, 1, 1]), [1, 1, 2, 0]);
        // Two runs of 1 and 2 voxels with level 1, two of one voxel with level 2: 4 runs of 5 voxels.
        let found = run_features(&Counts::of_runs(&levels, 0..1, [0, 0, 1]));
        assert!((found[12] - 0.8).abs() < 1e-12);
        assert!((found[0] - 3.25 / 4.0).abs() < 1e-12);
    }
}
