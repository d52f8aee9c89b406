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
        let (mut level, mut size) = (0.0, 0.0);
        for (i, j, c) in &self.cells {
            level += c * i;
            size += c * j;
        }
        (level, size) = (level / n, size / n);
        let mut sums = [0.0; 11];
        for (i, j, c) in &self.cells {
            let (i, j, c) = (*i, *j, *c);
            let (ii, jj) = (i * i, j * j);
            let p = c / n;
            let terms = [
                c * (1.0 / jj),
                c * jj,
                c * ((i - level) * (i - level)),
                c * ((j - size) * (j - size)),
                c * (1.0 / ii),
                c * ii,
                c * (1.0 / (ii * jj)),
                c * (ii / jj),
                c * (jj / ii),
                c * (ii * jj),
                p * (p + f64::EPSILON).log2(),
            ];
            sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
        }
        let by_level = squares(self.cells.iter().map(|c| (c.0, c.2)));
        let by_size = squares(self.cells.iter().map(|c| (c.1, c.2)));
        let [small, large, levels, sizes, low, high, small_low, small_high, large_low, large_high, entropy] = sums;
        Some(SizeFeatures {
            small: small / n,
            large: large / n,
            level_non_uniformity: by_level / n,
            level_non_uniformity_normalized: by_level / (n * n),
            size_non_uniformity: by_size / n,
            size_non_uniformity_normalized: by_size / (n * n),
            percentage: 1.0 / size,
            level_variance: levels / n,
            size_variance: sizes / n,
            entropy: -entropy,
            low: low / n,
            high: high / n,
            small_low: small_low / n,
            small_high: small_high / n,
            large_low: large_low / n,
            large_high: large_high / n,
        })
    }
}

/// Keys below this have their place in a table.
const TABLE: usize = 256;

/// Sum of squares of the counts that have the same level (or size).
fn squares(cells: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (mut table, mut rest) = ([0.0; TABLE], Vec::new());
    let mut end = 0;
    for (key, count) in cells {
        match table.get_mut(key as usize) {
            Some(sum) => {
                *sum += count;
                end = end.max(key as usize + 1);
            }
            None => rest.push((key, count)),
        }
    }
    rest.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let same = rest.chunk_by(|a, b| a.0 == b.0).map(|group| group.iter().map(|(_, count)| count).sum::<f64>());
    table[..end].iter().copied().chain(same).map(|count| count * count).sum()
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
