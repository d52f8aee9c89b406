//! What GLRLM, GLSZM and GLDM share: counts by gray level and size (of a run, a zone, a dependence), and their features.

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
        let over = |f: &dyn Fn(f64, f64) -> f64| self.cells.iter().map(|(i, j, c)| c * f(*i, *j)).sum::<f64>() / n;
        let (level, size) = (over(&|i, _| i), over(&|_, j| j));
        let by_level = squares(self.cells.iter().map(|c| (c.0, c.2)).collect());
        let by_size = squares(self.cells.iter().map(|c| (c.1, c.2)).collect());
        Some(SizeFeatures {
            small: over(&|_, j| 1.0 / (j * j)),
            large: over(&|_, j| j * j),
            level_non_uniformity: by_level / n,
            level_non_uniformity_normalized: by_level / (n * n),
            size_non_uniformity: by_size / n,
            size_non_uniformity_normalized: by_size / (n * n),
            percentage: 1.0 / size,
            level_variance: over(&|i, _| (i - level) * (i - level)),
            size_variance: over(&|_, j| (j - size) * (j - size)),
            entropy: -self.cells.iter().map(|c| c.2 / n).map(|p| p * (p + f64::EPSILON).log2()).sum::<f64>(),
            low: over(&|i, _| 1.0 / (i * i)),
            high: over(&|i, _| i * i),
            small_low: over(&|i, j| 1.0 / (i * i * (j * j))),
            small_high: over(&|i, j| i * i / (j * j)),
            large_low: over(&|i, j| j * j / (i * i)),
            large_high: over(&|i, j| i * i * (j * j)),
        })
    }
}

/// Sum of squares of the counts that have the same level (or size).
fn squares(mut counts: Vec<(f64, f64)>) -> f64 {
    counts.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let same = counts.chunk_by(|a, b| a.0 == b.0).map(|group| group.iter().map(|(_, count)| count).sum::<f64>());
    same.map(|count| count * count).sum()
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
