//! GLDM and NGTDM: how a voxel compares with all its neighbors. Both come from one pass.

use super::discretize::{Levels, Row, SLACK, angles};
use super::settings::Settings;
use super::size_matrix::SizeMatrix;
use super::table::{Definition, Offer, offered, usual};
use super::wide::twice;
use rayon::prelude::*;
use std::ops::AddAssign;

/// The features of GLDM, in the order of PyRadiomics' method names.
pub(super) const GLDM: [Definition; 16] = [
    usual("DependenceEntropy", "bit", "FCBV"),
    usual("DependenceNonUniformity", "", "Z87G"),
    usual("DependenceNonUniformityNormalized", "", "OKJI"),
    offered(Offer::Removed, usual("DependencePercentage", "", "6XV8")),
    usual("DependenceVariance", "", "DNX2"),
    usual("GrayLevelNonUniformity", "", "FP8K"),
    offered(Offer::Removed, usual("GrayLevelNonUniformityNormalized", "", "5SPA")),
    usual("GrayLevelVariance", "", "1PFV"),
    usual("HighGrayLevelEmphasis", "", "OAE7"),
    usual("LargeDependenceEmphasis", "", "IMOQ"),
    usual("LargeDependenceHighGrayLevelEmphasis", "", "9QMG"),
    usual("LargeDependenceLowGrayLevelEmphasis", "", "NBZI"),
    usual("LowGrayLevelEmphasis", "", "TL9H"),
    usual("SmallDependenceEmphasis", "", "SODN"),
    usual("SmallDependenceHighGrayLevelEmphasis", "", "JA6D"),
    usual("SmallDependenceLowGrayLevelEmphasis", "", "EQ3F"),
];

/// The features of NGTDM.
pub(super) const NGTDM: [Definition; 5] = [
    usual("Busyness", "", "NQ30"),
    usual("Coarseness", "", "QCDE"),
    usual("Complexity", "", "HDEZ"),
    usual("Contrast", "", "65HE"),
    usual("Strength", "", "1X9X"),
];

/// Voxels that are looked at side by side.
const LANES: usize = SLACK;

/// Of neighboring voxels the number of dependent neighbors, that of neighbors, and the sum of their levels.
struct Block<Sum> {
    dependent: [u16; LANES],
    present: [u16; LANES],
    sum: [Sum; LANES],
}

twice! {
    blocks_16 => blocks::<u16>, (data: &[u16], row: &Row, steps: &[isize], alpha: u16, out: &mut Vec<Block<u16>>)
}
twice! {
    blocks_32 => blocks::<u32>, (data: &[u16], row: &Row, steps: &[isize], alpha: u16, out: &mut Vec<Block<u32>>)
}

/// The blocks of a row; the last one may reach beyond it.
#[inline(always)]
fn blocks<Sum: Copy + Default + From<u16> + AddAssign>(
    data: &[u16],
    row: &Row,
    steps: &[isize],
    alpha: u16,
    out: &mut Vec<Block<Sum>>,
) {
    out.clear();
    for at in (row.at..row.at + row.len).step_by(LANES) {
        let Some(center) = data[at..].first_chunk::<LANES>() else { continue };
        let (mut dependent, mut present, mut sum) = ([0u16; LANES], [0u16; LANES], [Sum::default(); LANES]);
        for step in steps {
            // The padding is at least as wide as any offset, and the slack as a block.
            let Some(other) = data[at.saturating_add_signed(*step)..].first_chunk::<LANES>() else { continue };
            for l in 0..LANES {
                let is = u16::from(other[l] != 0);
                dependent[l] += is & u16::from(center[l].abs_diff(other[l]) <= alpha);
                present[l] += is;
                sum[l] += Sum::from(other[l]);
            }
        }
        out.push(Block { dependent, present, sum });
    }
}

/// Counts over the neighborhoods of all voxels. All whole numbers, so the order of voxels (and threads) changes nothing.
pub(super) struct Neighborhoods {
    /// Neighbors that a voxel can have, plus one.
    width: usize,
    /// Voxels by level and number of dependent neighbors.
    dependent: Vec<u64>,
    /// Sums of |level x m - sum of the m neighbors' levels|, by level and m.
    differences: Vec<u64>,
}

impl Neighborhoods {
    /// One pass over the region: per row three accumulators (dependent, present, sum) over all offsets.
    pub fn new(levels: &Levels, settings: &Settings) -> Neighborhoods {
        let half = angles(levels.shape, &settings.distances, settings.flat_axis());
        let steps: Vec<isize> = half.iter().flat_map(|a| [levels.step(*a), -levels.step(*a)]).collect();
        let alpha = settings.gldm_a.min(usize::from(u16::MAX)) as u16;
        let width = steps.len() + 1;
        let empty = || Neighborhoods {
            width,
            dependent: vec![0; (levels.ng + 1) * width],
            differences: vec![0; (levels.ng + 1) * width],
        };
        let slices: Vec<usize> = (0..levels.shape[0]).collect();
        let chunk = slices.len().div_ceil(2 * rayon::current_num_threads().max(1)).max(1);
        let parts: Vec<Neighborhoods> = slices
            .par_chunks(chunk)
            .map(|slices| {
                let mut part = empty();
                slices.iter().for_each(|z| part.scan(levels, *z, &steps, alpha));
                part
            })
            .collect();
        let mut all = empty();
        for part in parts {
            all.dependent.iter_mut().zip(part.dependent).for_each(|(a, b)| *a += b);
            all.differences.iter_mut().zip(part.differences).for_each(|(a, b)| *a += b);
        }
        all
    }

    fn scan(&mut self, levels: &Levels, z: usize, steps: &[isize], alpha: u16) {
        // Sums of levels mostly fit 16 bits, of which twice as many are added at once.
        if steps.len() * levels.ng < 1 << 16 {
            let mut blocks = Vec::new();
            for row in levels.rows(z) {
                blocks_16(&levels.data, &row, steps, alpha, &mut blocks);
                self.put(&levels.data[row.at..row.at + row.len], &blocks);
            }
        } else {
            let mut blocks = Vec::new();
            for row in levels.rows(z) {
                blocks_32(&levels.data, &row, steps, alpha, &mut blocks);
                self.put(&levels.data[row.at..row.at + row.len], &blocks);
            }
        }
    }

    fn put<Sum: Copy + Into<u32>>(&mut self, row: &[u16], blocks: &[Block<Sum>]) {
        for (center, block) in row.chunks(LANES).zip(blocks) {
            for (l, c) in center.iter().enumerate().filter(|(_, c)| **c != 0) {
                let at = usize::from(*c) * self.width;
                let m = block.present[l];
                self.dependent[at + usize::from(block.dependent[l])] += 1;
                let sum: u32 = block.sum[l].into();
                self.differences[at + usize::from(m)] += u64::from((u32::from(*c) * u32::from(m)).abs_diff(sum));
            }
        }
    }

    /// All features of GLDM.
    pub fn gldm(&self, levels: &Levels) -> Vec<(&'static str, f64)> {
        let cells = levels.present.iter().flat_map(|level| {
            let row = &self.dependent[usize::from(*level) * self.width..][..self.width];
            let cell = move |(k, n): (usize, &u64)| (f64::from(*level), (k + 1) as f64, *n as f64);
            row.iter().enumerate().map(cell).filter(|c| c.2 > 0.0)
        });
        let Some(f) = (SizeMatrix { cells: cells.collect() }).features() else { return Vec::new() };
        vec![
            ("DependenceEntropy", f.entropy),
            ("DependenceNonUniformity", f.size_non_uniformity),
            ("DependenceNonUniformityNormalized", f.size_non_uniformity_normalized),
            ("DependenceVariance", f.size_variance),
            ("GrayLevelNonUniformity", f.level_non_uniformity),
            ("GrayLevelVariance", f.level_variance),
            ("HighGrayLevelEmphasis", f.high),
            ("LargeDependenceEmphasis", f.large),
            ("LargeDependenceHighGrayLevelEmphasis", f.large_high),
            ("LargeDependenceLowGrayLevelEmphasis", f.large_low),
            ("LowGrayLevelEmphasis", f.low),
            ("SmallDependenceEmphasis", f.small),
            ("SmallDependenceHighGrayLevelEmphasis", f.small_high),
            ("SmallDependenceLowGrayLevelEmphasis", f.small_low),
        ]
    }

    /// All features of NGTDM. A voxel without neighbors counts, with the difference 0 (IBSI leaves it out).
    pub fn ngtdm(&self, levels: &Levels) -> Vec<(&'static str, f64)> {
        let n: f64 = levels.counts.iter().sum::<u64>() as f64;
        let difference = |level: u16| -> f64 {
            let row = &self.differences[usize::from(level) * self.width..][..self.width];
            row.iter().enumerate().skip(1).map(|(m, sum)| *sum as f64 / m as f64).sum()
        };
        let rows: Vec<(f64, f64, f64)> = levels
            .present
            .iter()
            .map(|l| (f64::from(*l), levels.counts[usize::from(*l)] as f64 / n, difference(*l)))
            .collect();
        let total: f64 = rows.iter().map(|(_, _, s)| s).sum();
        let weighted: f64 = rows.iter().map(|(_, p, s)| p * s).sum();
        let (mut contrast, mut spread, mut complexity, mut strength) = (0.0, 0.0, 0.0, 0.0);
        for (i, pi, si) in &rows {
            for (j, pj, sj) in &rows {
                let d = (i - j).abs();
                contrast += pi * pj * d * d;
                spread += (i * pi - j * pj).abs();
                complexity += d * (pi * si + pj * sj) / (pi + pj);
                strength += (pi + pj) * d * d;
            }
        }
        let pairs = (rows.len() * rows.len().saturating_sub(1)) as f64;
        vec![
            ("Busyness", if spread == 0.0 { 0.0 } else { weighted / spread }),
            ("Coarseness", if weighted == 0.0 { 1e6 } else { 1.0 / weighted }),
            ("Complexity", complexity / n),
            ("Contrast", if pairs == 0.0 { 0.0 } else { contrast * total / n / pairs }),
            ("Strength", if total == 0.0 { 0.0 } else { strength / total }),
        ]
    }
}
