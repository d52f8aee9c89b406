//! What GLRLM, GLSZM and GLDM share: counts by gray level and size (of a run, a zone, a dependence), and their features.

use std::collections::BTreeMap;

/// Cells that are not empty: gray level, size, count.
pub(super) struct SizeMatrix {
    pub cells: Vec<(f64, f64, f64)>,
}

/// The features that these families have in common.
pub(super) struct SizeFeatures {
    pub small: f64,
    pub large: f64,
    pub level_non_uniformity: f64,
    pub level_non_uniformity_normalized: f64,
    pub size_non_uniformity: f64,
    pub size_non_uniformity_normalized: f64,
    /// Number of runs or zones, over voxels.
    pub percentage: f64,
    pub level_variance: f64,
    pub size_variance: f64,
    pub entropy: f64,
    pub low: f64,
    pub high: f64,
    pub small_low: f64,
    pub small_high: f64,
    pub large_low: f64,
    pub large_high: f64,
}

impl SizeMatrix {
    /// `None` for a matrix without counts.
    pub fn features(&self) -> Option<SizeFeatures> {
        let n: f64 = self.cells.iter().map(|c| c.2).sum();
        if n == 0.0 {
            return None;
        }
        let by_level = marginal(self.cells.iter().map(|c| (c.0, c.2)));
        let by_size = marginal(self.cells.iter().map(|c| (c.1, c.2)));
        let over = |m: &[(f64, f64)], f: &dyn Fn(f64) -> f64| m.iter().map(|(v, c)| c * f(*v)).sum::<f64>() / n;
        let cells =
            |f: &dyn Fn(f64, f64) -> f64| self.cells.iter().map(|(i, j, c)| c * f(i * i, j * j)).sum::<f64>() / n;
        let squares = |m: &[(f64, f64)]| m.iter().map(|(_, c)| c * c).sum::<f64>();
        let variance = |m: &[(f64, f64)]| {
            let mean = over(m, &|v| v);
            over(m, &|v| (v - mean) * (v - mean))
        };
        Some(SizeFeatures {
            small: over(&by_size, &|j| 1.0 / (j * j)),
            large: over(&by_size, &|j| j * j),
            level_non_uniformity: squares(&by_level) / n,
            level_non_uniformity_normalized: squares(&by_level) / (n * n),
            size_non_uniformity: squares(&by_size) / n,
            size_non_uniformity_normalized: squares(&by_size) / (n * n),
            percentage: 1.0 / over(&by_size, &|j| j),
            level_variance: variance(&by_level),
            size_variance: variance(&by_size),
            entropy: -self.cells.iter().map(|c| c.2 / n).map(|p| p * (p + f64::EPSILON).log2()).sum::<f64>(),
            low: over(&by_level, &|i| 1.0 / (i * i)),
            high: over(&by_level, &|i| i * i),
            small_low: cells(&|i, j| 1.0 / (i * j)),
            small_high: cells(&|i, j| i / j),
            large_low: cells(&|i, j| j / i),
            large_high: cells(&|i, j| i * j),
        })
    }
}

/// Sums of counts by one of the two, ascending. Levels and sizes are positive, so their bits sort as they do.
fn marginal(cells: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut sums: BTreeMap<u64, f64> = BTreeMap::new();
    cells.for_each(|(value, count)| *sums.entry(value.to_bits()).or_default() += count);
    sums.into_iter().map(|(bits, count)| (f64::from_bits(bits), count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_of_two_and_one_of_one() {
        let f = SizeMatrix { cells: vec![(1.0, 2.0, 1.0), (3.0, 1.0, 1.0)] }.features().unwrap();
        assert_eq!((f.small, f.large, f.percentage), (0.625, 2.5, 2.0 / 3.0));
        assert_eq!((f.level_variance, f.size_variance, f.large_high), (1.0, 0.25, 6.5));
        assert!((f.entropy - 1.0).abs() < 1e-12);
        assert!(SizeMatrix { cells: Vec::new() }.features().is_none());
    }
}
