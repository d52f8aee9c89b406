//! GLRLM: lengths of runs of equal gray levels along an angle.

use super::discretize::{Levels, angles};
use super::settings::{Settings, Weighting};
use super::size_matrix::{SizeFeatures, SizeMatrix};
use super::table::{Definition, usual};
use rayon::prelude::*;

/// The features of this family, in the order of PyRadiomics' method names.
pub(super) const FEATURES: [Definition; 16] = [
    usual("GrayLevelNonUniformity", "", "R5YN"),
    usual("GrayLevelNonUniformityNormalized", "", "OVBL"),
    usual("GrayLevelVariance", "", "8CE5"),
    usual("HighGrayLevelRunEmphasis", "", "G3QZ"),
    usual("LongRunEmphasis", "", "W4KF"),
    usual("LongRunHighGrayLevelEmphasis", "", "3KUM"),
    usual("LongRunLowGrayLevelEmphasis", "", "IVPO"),
    usual("LowGrayLevelRunEmphasis", "", "V3SW"),
    usual("RunEntropy", "bit", "HJ9O"),
    usual("RunLengthNonUniformity", "", "W92Y"),
    usual("RunLengthNonUniformityNormalized", "", "IC23"),
    usual("RunPercentage", "", "9ZK5"),
    usual("RunVariance", "", "SXLW"),
    usual("ShortRunEmphasis", "", "22OV"),
    usual("ShortRunHighGrayLevelEmphasis", "", "GD3A"),
    usual("ShortRunLowGrayLevelEmphasis", "", "HTZT"),
];

/// All features of this family: the mean over the angles in which some line holds two voxels, or those of one weighted
/// matrix. `spacing` in mm, (z, y, x).
pub(super) fn compute(levels: &Levels, spacing: [f64; 3], settings: &Settings) -> Vec<(&'static str, f64)> {
    let angles = angles(levels.shape, &[1], settings.flat_axis());
    let runs: Vec<Option<Runs>> = angles.par_iter().map(|a| Runs::new(levels, *a)).collect();
    let per_angle: Vec<SizeFeatures> = match settings.weighting {
        None => runs.iter().flatten().filter_map(|r| r.matrix(levels).features()).collect(),
        Some(norm) => weighted(levels, &angles, &runs, norm, spacing).features().into_iter().collect(),
    };
    let mean = |f: fn(&SizeFeatures) -> f64| per_angle.iter().map(f).sum::<f64>() / per_angle.len() as f64;
    vec![
        ("GrayLevelNonUniformity", mean(|f| f.level_non_uniformity)),
        ("GrayLevelNonUniformityNormalized", mean(|f| f.level_non_uniformity_normalized)),
        ("GrayLevelVariance", mean(|f| f.level_variance)),
        ("HighGrayLevelRunEmphasis", mean(|f| f.high)),
        ("LongRunEmphasis", mean(|f| f.large)),
        ("LongRunHighGrayLevelEmphasis", mean(|f| f.large_high)),
        ("LongRunLowGrayLevelEmphasis", mean(|f| f.large_low)),
        ("LowGrayLevelRunEmphasis", mean(|f| f.low)),
        ("RunEntropy", mean(|f| f.entropy)),
        ("RunLengthNonUniformity", mean(|f| f.size_non_uniformity)),
        ("RunLengthNonUniformityNormalized", mean(|f| f.size_non_uniformity_normalized)),
        ("RunPercentage", mean(|f| f.percentage)),
        ("RunVariance", mean(|f| f.size_variance)),
        ("ShortRunEmphasis", mean(|f| f.small)),
        ("ShortRunHighGrayLevelEmphasis", mean(|f| f.small_high)),
        ("ShortRunLowGrayLevelEmphasis", mean(|f| f.small_low)),
    ]
}

fn weighted(
    levels: &Levels,
    angles: &[[i32; 3]],
    runs: &[Option<Runs>],
    norm: Weighting,
    spacing: [f64; 3],
) -> SizeMatrix {
    let mut cells = std::collections::BTreeMap::new();
    for (angle, runs) in angles.iter().zip(runs) {
        let weight = if norm == Weighting::None { 1.0 } else { norm.distance(*angle, spacing) };
        for (i, j, count) in runs.iter().flat_map(|r| r.matrix(levels).cells) {
            *cells.entry((i as u32, j as u32)).or_insert(0.0) += count * weight;
        }
    }
    SizeMatrix { cells: cells.into_iter().map(|((i, j), count)| (f64::from(i), f64::from(j), count)).collect() }
}

/// For every level the number of voxels whose run, up to and with them, has a length.
struct Runs {
    /// `reached[level << bits | length]`.
    reached: Vec<u32>,
    bits: u32,
    longest: usize,
}

impl Runs {
    /// Every voxel looks one step back: L = L(back) + 1 where the levels are equal, else 1. No line is followed.
    /// `None` where no line along the angle holds two voxels of the region.
    fn new(levels: &Levels, angle: [i32; 3]) -> Option<Runs> {
        let [nz, _, _] = levels.shape;
        let [_, py, px] = levels.padded();
        let longest = levels.shape.into_iter().max().unwrap_or(0);
        let bits = usize::BITS - (longest + 1).leading_zeros();
        let size = (levels.ng + 1) << bits;
        // Small tables are kept four times, for an increment would wait for the one before it in the same cell.
        let n: u64 = levels.counts.iter().sum();
        let copies = if size <= 1 << 16 && size as u64 * 16 <= n { 4 } else { 1 };
        let mut counts = vec![0u32; size * copies];
        let plane = py * px;
        let (mut before, mut now) = (vec![0u16; plane], vec![0u16; plane]);
        let back = -levels.step(angle);
        let in_plane = back + angle[0] as isize * plane as isize;
        for z in 0..nz {
            std::mem::swap(&mut before, &mut now);
            let base = (z + levels.pad) * plane;
            for row in levels.rows(z) {
                let (level, level_back) = levels.pair(&row, back);
                let at = row.at - base;
                let from = at.saturating_add_signed(in_plane);
                if angle[0] == 0 && angle[1] == 0 {
                    let mut past = 0;
                    for (l, (g, h)) in now[at..at + row.len].iter_mut().zip(level.iter().zip(level_back)) {
                        past = run(*g, *h, past);
                        *l = past;
                    }
                } else {
                    // Rows further back end before this one starts.
                    let (earlier, rest) = now.split_at_mut(at);
                    let past =
                        if angle[0] == 1 { &before[from..from + row.len] } else { &earlier[from..from + row.len] };
                    let cells = rest[..row.len].iter_mut().zip(past);
                    for ((l, past), (g, h)) in cells.zip(level.iter().zip(level_back)) {
                        *l = run(*g, *h, *past);
                    }
                }
                let lanes = copies - 1;
                for (x, (g, l)) in level.iter().zip(&now[at..at + row.len]).enumerate() {
                    let place = (x & lanes) * size + (usize::from(*g) << bits) + usize::from(*l);
                    counts[place] += 1;
                }
            }
        }
        let (reached, rest) = counts.split_at_mut(size);
        for copy in rest.chunks_exact(size) {
            reached.iter_mut().zip(copy).for_each(|(a, b)| *a += b);
        }
        counts.truncate(size);
        let long_runs = (1..=levels.ng).any(|g| counts[(g << bits) + 2..(g + 1) << bits].iter().any(|n| *n > 0));
        (long_runs || two_on_a_line(levels, back)).then_some(Runs { reached: counts, bits, longest })
    }

    /// Runs that end at a length are those that reach it and not the next.
    fn matrix(&self, levels: &Levels) -> SizeMatrix {
        let mut cells = Vec::new();
        for level in &levels.present {
            let row = &self.reached[usize::from(*level) << self.bits..][..self.longest + 2];
            for length in 1..=self.longest {
                let ended = row[length] - row[length + 1];
                if ended > 0 {
                    cells.push((f64::from(*level), length as f64, f64::from(ended)));
                }
            }
        }
        SizeMatrix { cells }
    }
}

/// Length of the run up to a voxel of level `g`, behind which lies level `h` with a run of `past`; 0 outside.
fn run(g: u16, h: u16, past: u16) -> u16 {
    let length = if g == h { past.wrapping_add(1) } else { 1 };
    if g == 0 { 0 } else { length }
}

/// Whether any line along a step holds two voxels of the region, neighbors or not.
fn two_on_a_line(levels: &Levels, step: isize) -> bool {
    let [pz, py, px] = levels.padded();
    let inside = |i: isize| usize::try_from(i).ok().filter(|i| *i < pz * py * px);
    (0..levels.shape[0]).any(|z| {
        levels.rows(z).any(|row| {
            (row.at..row.at + row.len).filter(|i| levels.data[*i] != 0).any(|start| {
                // A line leaves the bounding box through the padding, where it is not followed further.
                let mut at = start as isize + step;
                while let Some(i) = inside(at) {
                    let x = i % px;
                    let y = i / px % py;
                    let z = i / (px * py);
                    let p = levels.pad;
                    let out = |v: usize, n: usize| v < p || v >= n - p;
                    if out(x, px) || out(y, py) || out(z, pz) {
                        return false;
                    }
                    if levels.data[i] != 0 {
                        return true;
                    }
                    at += step;
                }
                false
            })
        })
    })
}
