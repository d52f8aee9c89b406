//! Neighborhood gray tone difference and neighboring gray level dependence matrices (IPET, REK0): how a voxel compares
//! with all its neighbors.

use super::levels::{Levels, offsets};
use super::runs::size_features;
use super::settings::Settings;
use super::table::{Aggregation, Definition, Family, Table, average, define};
use crate::radiomics::size_matrix::SizeMatrix;
use rayon::prelude::*;

const TONES: [Definition; 5] = [
    define("ngt_coarseness", "coarseness", "QCDE", ""),
    define("ngt_contrast", "contrast", "65HE", ""),
    define("ngt_busyness", "busyness", "NQ30", ""),
    define("ngt_complexity", "complexity", "HDEZ", ""),
    define("ngt_strength", "strength", "1X9X", ""),
];
const DEPENDENCES: [Definition; 17] = [
    define("ngl_lde", "low_dependence_emphasis", "SODN", ""),
    define("ngl_hde", "high_dependence_emphasis", "IMOQ", ""),
    define("ngl_lgce", "low_grey_level_count_emphasis", "TL9H", ""),
    define("ngl_hgce", "high_grey_level_count_emphasis", "OAE7", ""),
    define("ngl_ldlge", "low_dependence_low_grey_level_emphasis", "EQ3F", ""),
    define("ngl_ldhge", "low_dependence_high_grey_level_emphasis", "JA6D", ""),
    define("ngl_hdlge", "high_dependence_low_grey_level_emphasis", "NBZI", ""),
    define("ngl_hdhge", "high_dependence_high_grey_level_emphasis", "9QMG", ""),
    define("ngl_glnu", "grey_level_non_uniformity", "FP8K", ""),
    define("ngl_glnu_norm", "normalised_grey_level_non_uniformity", "5SPA", ""),
    define("ngl_dcnu", "dependence_count_non_uniformity", "Z87G", ""),
    define("ngl_dcnu_norm", "normalised_dependence_count_non_uniformity", "OKJI", ""),
    define("ngl_dc_perc", "dependence_count_percentage", "6XV8", ""),
    define("ngl_gl_var", "grey_level_variance", "1PFV", ""),
    define("ngl_dc_var", "dependence_count_variance", "DNX2", ""),
    define("ngl_dc_entr", "dependence_count_entropy", "FCBV", "bit"),
    define("ngl_dc_energy", "dependence_count_energy", "CAS9", ""),
];

/// Appends all features of both matrices.
pub(super) fn compute(levels: &Levels, settings: &Settings, table: &mut Table) {
    let mut tones = Vec::new();
    let mut dependences = Vec::new();
    let mut add = |how: Aggregation, counts: &[Counts]| {
        tones.push((how, average(&counts.iter().map(Counts::tones).collect::<Vec<_>>())));
        dependences.push((how, average(&counts.iter().map(Counts::dependences).collect::<Vec<_>>())));
    };
    let slices = 0..levels.shape[0];
    if settings.approach.has_planar() {
        let offsets = offsets(settings.distance, true);
        let count = |z| Counts::new(levels, z, &offsets, settings.coarseness);
        let counts: Vec<Counts> = slices.clone().into_par_iter().map(count).collect();
        add(Aggregation::PLANAR, &counts);
        add(Aggregation::MERGED_SLICES, &counts.into_iter().reduce(Counts::merge).into_iter().collect::<Vec<_>>());
    }
    if settings.approach.has_volume() {
        let offsets = offsets(settings.distance, false);
        let count = |z| Counts::new(levels, z, &offsets, settings.coarseness);
        let counts = slices.into_par_iter().map(count).reduce_with(Counts::merge);
        add(Aggregation::SPATIAL, &counts.into_iter().collect::<Vec<_>>());
    }
    tones.iter().for_each(|(how, values)| table.push(Family::ToneDifference, &TONES, *how, values));
    dependences.iter().for_each(|(how, values)| table.push(Family::LevelDependence, &DEPENDENCES, *how, values));
}

/// Both matrices. All are whole numbers, so the order of sums changes nothing.
struct Counts {
    /// Number of neighbors that a voxel can have, plus one.
    width: usize,
    /// Voxels by level and number of dependent neighbors.
    dependent: Vec<u32>,
    /// Voxels by level and number of neighbors inside the region.
    present: Vec<u32>,
    /// Sums of |level x m - sum of the m neighbors' levels|, by level and m.
    differences: Vec<u64>,
}

impl Counts {
    /// Of the voxels of slice `z`, with all offsets of their neighborhoods.
    fn new(levels: &Levels, z: usize, offsets: &[[i32; 3]], coarseness: u16) -> Counts {
        let width = offsets.len() + 1;
        let cells = (levels.ng + 1) * width;
        let mut counts =
            Counts { width, dependent: vec![0; cells], present: vec![0; cells], differences: vec![0; cells] };
        let n = levels.shape[2];
        let (mut dependent, mut present, mut sum) = (vec![0u16; n], vec![0u16; n], vec![0u32; n]);
        for row in levels.rows(z) {
            dependent.fill(0);
            present.fill(0);
            sum.fill(0);
            for offset in offsets {
                let (center, neighbor) = levels.pair(row, levels.step(*offset));
                let counters = dependent.iter_mut().zip(&mut present).zip(&mut sum);
                for (((d, m), s), (c, h)) in counters.zip(center.iter().zip(neighbor)) {
                    let is = u16::from(*h != 0);
                    *d += is & u16::from(c.abs_diff(*h) <= coarseness);
                    *m += is;
                    *s += u32::from(*h);
                }
            }
            let center = &levels.data[row..row + n];
            for (x, level) in center.iter().enumerate().filter(|(_, level)| **level != 0) {
                let at = usize::from(*level) * width;
                let m = usize::from(present[x]);
                counts.dependent[at + usize::from(dependent[x])] += 1;
                counts.present[at + m] += 1;
                counts.differences[at + m] += u64::from((u32::from(*level) * m as u32).abs_diff(sum[x]));
            }
        }
        counts
    }

    fn merge(mut self, other: Counts) -> Counts {
        self.dependent.iter_mut().zip(other.dependent).for_each(|(a, b)| *a += b);
        self.present.iter_mut().zip(other.present).for_each(|(a, b)| *a += b);
        self.differences.iter_mut().zip(other.differences).for_each(|(a, b)| *a += b);
        self
    }

    /// NGTDM: only voxels with a neighbor count. NaN if there are none.
    fn tones(&self) -> [f64; 5] {
        let mut rows = Vec::new(); // level, n, s
        let cells = self.present.chunks_exact(self.width).zip(self.differences.chunks_exact(self.width));
        for (level, (present, differences)) in cells.enumerate() {
            let n: u64 = present.iter().skip(1).map(|n| u64::from(*n)).sum();
            let s: f64 = differences.iter().enumerate().skip(1).map(|(m, sum)| *sum as f64 / m as f64).sum();
            if n > 0 {
                rows.push((level as f64, n as f64, s));
            }
        }
        if rows.is_empty() {
            return [f64::NAN; 5];
        }
        let n: f64 = rows.iter().map(|row| row.1).sum();
        rows.iter_mut().for_each(|row| row.1 /= n);
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
        let pairs = (rows.len() * (rows.len() - 1)) as f64;
        [
            if weighted > 1e-6 { 1.0 / weighted } else { 1e6 }, // the manual's maximum
            if pairs == 0.0 { 0.0 } else { contrast / pairs * total / n },
            if pairs == 0.0 || spread == 0.0 { 0.0 } else { weighted / spread },
            complexity / n,
            if total == 0.0 { 0.0 } else { strength / total },
        ]
    }

    /// NGLDM: a voxel depends on itself, too. NaN if there are no voxels.
    fn dependences(&self) -> [f64; 17] {
        let cell = |(at, n): (usize, &u32)| ((at / self.width) as f64, (at % self.width + 1) as f64, f64::from(*n));
        let cells: Vec<_> = self.dependent.iter().enumerate().filter(|(_, n)| **n > 0).map(cell).collect();
        let n: f64 = cells.iter().map(|cell| cell.2).sum();
        let energy: f64 = cells.iter().map(|cell| (cell.2 / n) * (cell.2 / n)).sum();
        let shared = size_features(&SizeMatrix { cells });
        std::array::from_fn(|i| match i {
            12 if n > 0.0 => 1.0, // percentage: every voxel has a neighborhood
            16 if n > 0.0 => energy,
            16 => f64::NAN,
            _ => shared[i],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr3;

    fn counts(cells: &ndarray::Array3<u16>) -> Counts {
        let levels = Levels::from_cells(cells.view(), 1, 3);
        Counts::new(&levels, 0, &offsets(1, true), 0)
    }

    #[test]
    fn differences_to_the_mean_of_the_neighbors() {
        // 1 1 3: |1 - 1| + |1 - (1 + 3) / 2| = 1 for level 1, |3 - 1| = 2 for level 3.
        let [coarseness, contrast, busyness, complexity, strength] = counts(&arr3(&[[[1, 1, 3]]])).tones();
        let weighted = 2.0 / 3.0 * 1.0 + 1.0 / 3.0 * 2.0;
        assert!((coarseness - 1.0 / weighted).abs() < 1e-12);
        assert!((contrast - (2.0 * 2.0 / 9.0 * 4.0) / 2.0 * (3.0 / 3.0)).abs() < 1e-12);
        assert!((busyness - weighted / (2.0 * (2.0f64 / 3.0 - 1.0).abs())).abs() < 1e-12);
        assert!((complexity - 2.0 * 2.0 * weighted / 1.0 / 3.0).abs() < 1e-12);
        assert!((strength - 2.0 * 4.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_voxel_without_neighbors_counts_for_dependence_only() {
        let lone = counts(&arr3(&[[[2, 0, 1, 1]]]));
        assert_eq!(lone.tones()[0], 1e6); // the two neighbors are equal
        let found = lone.dependences();
        assert!((found[0] - (1.0 + 0.25 + 0.25) / 3.0).abs() < 1e-12);
        assert_eq!(found[12], 1.0);
        assert!((found[16] - (4.0 / 9.0 + 1.0 / 9.0)).abs() < 1e-12);
        assert!(counts(&arr3(&[[[2, 0]]])).tones()[0].is_nan());
    }
}
