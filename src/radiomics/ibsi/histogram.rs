//! Intensity histogram (ZVCW) and cumulative intensity-volume histogram (P88C).

use super::levels::Levels;
use super::settings::{Bins, Settings};
use super::statistics::Distribution;
use super::table::{Aggregation, Definition, Family, Table, define};

const HISTOGRAM: [Definition; 23] = [
    define("ih_mean", "mean_discretised_intensity", "X6K6", ""),
    define("ih_var", "discretised_intensity_variance", "CH89", ""),
    define("ih_skew", "discretised_intensity_skewness", "88K1", ""),
    define("ih_kurt", "excess_discretised_intensity_kurtosis", "C3I7", ""),
    define("ih_median", "median_discretised_intensity", "WIFQ", ""),
    define("ih_min", "minimum_discretised_intensity", "1PR8", ""),
    define("ih_p10", "10th_discretised_intensity_percentile", "GPMT", ""),
    define("ih_p90", "90th_discretised_intensity_percentile", "OZ0C", ""),
    define("ih_max", "maximum_discretised_intensity", "3NCY", ""),
    define("ih_mode", "intensity_histogram_mode", "AMMC", ""),
    define("ih_iqr", "discretised_intensity_interquartile_range", "WR0O", ""),
    define("ih_range", "discretised_intensity_range", "5Z3W", ""),
    define("ih_mad", "intensity_histogram_mean_absolute_deviation", "D2ZX", ""),
    define("ih_rmad", "intensity_histogram_robust_mean_absolute_deviation", "WRZB", ""),
    define("ih_medad", "intensity_histogram_median_absolute_deviation", "4RNL", ""),
    define("ih_cov", "intensity_histogram_coefficient_of_variation", "CWYJ", ""),
    define("ih_qcod", "intensity_histogram_quartile_coefficient_of_dispersion", "SLWD", ""),
    define("ih_entropy", "discretised_intensity_entropy", "TLU2", "bit"),
    define("ih_uniformity", "discretised_intensity_uniformity", "BJ5W", ""),
    define("ih_max_grad", "maximum_histogram_gradient", "12CE", ""),
    define("ih_max_grad_g", "maximum_histogram_gradient_intensity", "8E6O", ""),
    define("ih_min_grad", "minimum_histogram_gradient", "VQB3", ""),
    define("ih_min_grad_g", "minimum_histogram_gradient_intensity", "RHQZ", ""),
];

/// Appends the features of the histogram.
pub(super) fn compute(levels: &Levels, table: &mut Table) {
    let mut counts = vec![0usize; levels.ng + 1];
    levels.data.iter().for_each(|level| counts[usize::from(*level)] += 1);
    let counts = &counts[1..];
    let sorted: Vec<f64> =
        counts.iter().enumerate().flat_map(|(i, n)| std::iter::repeat_n((i + 1) as f64, *n)).collect();
    let d = Distribution::new(&sorted);
    let n = sorted.len() as f64;
    let p = || counts.iter().filter(|n| **n > 0).map(|count| *count as f64 / n);
    let [[steepest, steepest_at], [deepest, deepest_at]] = gradients(counts);
    let values = [
        d.mean,
        d.variance,
        d.skewness,
        d.kurtosis,
        d.median,
        d.minimum,
        d.p10,
        d.p90,
        d.maximum,
        mode(counts, d.mean),
        d.quartiles_range,
        d.maximum - d.minimum,
        d.mean_deviation,
        d.robust_deviation,
        d.median_deviation,
        d.variation,
        d.dispersion,
        -p().map(|p| p * p.log2()).sum::<f64>(),
        p().map(|p| p * p).sum(),
        steepest,
        steepest_at,
        deepest,
        deepest_at,
    ];
    table.push(Family::Histogram, &HISTOGRAM, Aggregation::VOLUME, &values);
}

/// The most frequent level (1 is the first); of several the nearest to the mean, of two as near the lower one.
fn mode(counts: &[usize], mean: f64) -> f64 {
    let most = counts.iter().max().copied().unwrap_or(0);
    let levels = counts.iter().enumerate().filter(|(_, n)| **n == most).map(|(i, _)| (i + 1) as f64);
    levels.min_by(|a, b| (a - mean).abs().total_cmp(&(b - mean).abs())).unwrap_or(f64::NAN)
}

/// Largest and smallest slope of the histogram, each with its (first) level.
fn gradients(counts: &[usize]) -> [[f64; 2]; 2] {
    let last = counts.len() - 1;
    let slope = |i: usize| {
        let (before, after) = (i.saturating_sub(1), (i + 1).min(last));
        (counts[after] as f64 - counts[before] as f64) / (after - before).max(1) as f64
    };
    let (mut largest, mut smallest) = ([f64::NEG_INFINITY, 0.0], [f64::INFINITY, 0.0]);
    for (i, slope) in (0..=last).map(slope).enumerate() {
        if slope > largest[0] {
            largest = [slope, (i + 1) as f64];
        }
        if slope < smallest[0] {
            smallest = [slope, (i + 1) as f64];
        }
    }
    [largest, smallest]
}

const VOLUME: [Definition; 7] = [
    define("ivh_v10", "volume_at_intensity_fraction_10", "NK6P", ""),
    define("ivh_v90", "volume_at_intensity_fraction_90", "4279", ""),
    define("ivh_i10", "intensity_at_volume_fraction_10", "PWN1", "I"),
    define("ivh_i90", "intensity_at_volume_fraction_90", "BOHI", "I"),
    define("ivh_diff_v10_v90", "volume_fraction_difference_between_intensity_fractions_10_90", "WITY", ""),
    define("ivh_diff_i10_i90", "intensity_fraction_difference_between_volume_fractions_10_90", "JXJA", "I"),
    define("ivh_auc", "area_under_the_ivh_curve", "9CMM", ""),
];

/// Appends the features of the intensity-volume histogram. `sorted`: the intensities of the region, ascending.
pub(super) fn compute_volume(sorted: &[f64], settings: &Settings, table: &mut Table) {
    let curve = Curve::new(sorted, settings);
    let ([v10, v90], [i10, i90]) = ([10.0, 90.0].map(|x| curve.volume(x)), [10, 90].map(|x| curve.intensity(x)));
    let values = [v10, v90, i10, i90, v10 - v90, i10 - i90, curve.area()];
    table.push(Family::VolumeHistogram, &VOLUME, Aggregation::VOLUME, &values);
}

/// The volume that has at least an intensity, at `first`, `first + step`, .. `first + last * step`.
struct Curve {
    first: f64,
    step: f64,
    last: f64,
    /// For every voxel, ascending, the number of the highest grid intensity that it reaches; -1 for none.
    reached: Vec<f64>,
}

impl Curve {
    fn new(sorted: &[f64], settings: &Settings) -> Curve {
        let (lowest, highest) = (sorted[0], sorted[sorted.len() - 1]);
        let [low, high] = settings.range.unwrap_or([lowest, highest]);
        let low = if low.is_finite() { low } else { lowest };
        let high = if high.is_finite() { high } else { highest };
        let (first, step, last, start): (f64, f64, f64, f64) = match settings.ivh {
            Bins::None => (low, 1.0, (high - low).floor(), low),
            // Bins are known by their centers, from half a bin above the lower bound to half a bin below the upper one.
            Bins::Width(width) => (low + 0.5 * width, width, ((high - low) / width).ceil() - 1.0, low),
            // Bins are known by their numbers, whatever the range.
            Bins::Number(n) => (1.0, 1.0, n as f64 - 1.0, lowest),
        };
        let last = last.max(0.0);
        let reached = |v: f64| match settings.ivh {
            Bins::Number(n) if highest > lowest => (n as f64 * (v - start) / (highest - start)).floor(),
            Bins::Number(_) => last,
            _ => ((v - start) / step).floor(),
        };
        let reached = sorted.iter().map(|v| reached(*v).clamp(-1.0, last)).collect();
        Curve { first, step, last, reached }
    }

    /// Number of voxels that reach grid intensity `k`.
    fn count(&self, k: f64) -> usize {
        self.reached.len() - self.reached.partition_point(|r| *r < k)
    }

    /// The largest volume fraction at an intensity fraction of at least `x` percent.
    fn volume(&self, x: f64) -> f64 {
        self.count((x * self.last / 100.0).ceil()) as f64 / self.reached.len() as f64
    }

    /// The lowest intensity that at most `x` percent of the volume have; one step above the range if there is none in it.
    fn intensity(&self, x: usize) -> f64 {
        // So many voxels may reach it: it lies above what the one before them reaches.
        let allowed = x * self.reached.len() / 100;
        let blocking = self.reached[self.reached.len() - 1 - allowed.min(self.reached.len() - 1)];
        self.first + (blocking + 1.0) * self.step
    }

    /// By trapezoids over the intensity fraction; 0 for one intensity.
    fn area(&self) -> f64 {
        if self.last == 0.0 {
            return 0.0;
        }
        let n = self.reached.len() as f64;
        // Voxels at each of the grid's intensities, added up: a voxel counts at all that it reaches.
        let sum: f64 = self.reached.iter().map(|r| r + 1.0).sum::<f64>() / n;
        let ends = (self.count(0.0) + self.count(self.last)) as f64 / n;
        (sum - 0.5 * ends) / self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_and_slopes_of_the_digital_phantom() {
        // 50 voxels of level 1, 1 of 3, 16 of 4, 7 of 6.
        let counts = [50, 0, 1, 16, 0, 7];
        assert_eq!(gradients(&counts), [[8.0, 3.0], [-50.0, 1.0]]);
        assert_eq!(mode(&counts, 2.15), 1.0);
        assert_eq!(mode(&[3, 0, 3], 2.0), 1.0);
        assert_eq!(mode(&[3, 0, 3], 2.1), 3.0);
        assert_eq!(gradients(&[5]), [[0.0, 1.0], [0.0, 1.0]]);
    }

    #[test]
    fn volumes_of_the_digital_phantom() {
        let sorted: Vec<f64> = [(1.0, 50), (3.0, 1), (4.0, 16), (6.0, 7)]
            .into_iter()
            .flat_map(|(v, n)| std::iter::repeat_n(v, n))
            .collect();
        let curve = Curve::new(&sorted, &Settings::phantom());
        assert_eq!([curve.volume(10.0), curve.volume(90.0)], [24.0 / 74.0, 7.0 / 74.0]);
        assert_eq!([curve.intensity(10), curve.intensity(90)], [5.0, 2.0]);
        // Volumes 74, 24, 24, 23, 7, 7 of 74 at 1 to 6.
        assert!((curve.area() - (159.0 - 0.5 * 81.0) / 74.0 / 5.0).abs() < 1e-12);
    }

    #[test]
    fn bins_have_centers_or_numbers() {
        let with = |ivh, range| Settings { ivh, range, ..Settings::default() };
        // Two bins in [0, 10]: centers 2.5 and 7.5.
        let curve = Curve::new(&[1.0, 2.0, 7.0, 10.0], &with(Bins::Width(5.0), Some([0.0, 10.0])));
        assert_eq!(
            [curve.volume(0.0), curve.volume(50.0), curve.intensity(50), curve.intensity(49)],
            [1.0, 0.5, 7.5, 12.5]
        );
        let curve = Curve::new(&[1.0, 2.0, 7.0, 10.0], &with(Bins::Number(3), Some([0.0, 10.0])));
        // Levels 1, 1, 3, 3.
        assert_eq!([curve.intensity(50), curve.volume(90.0)], [2.0, 0.5]);
        // All alike: everything reaches the only level, nothing the next.
        let curve = Curve::new(&[4.0, 4.0], &with(Bins::None, None));
        assert_eq!([curve.volume(90.0), curve.intensity(10), curve.area()], [1.0, 5.0, 0.0]);
    }
}
