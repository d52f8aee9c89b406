//! Intensity-based statistics (UHIW): the distribution of the intensities, without bins.

use super::table::{Aggregation, Definition, Family, Table, define};
use crate::radiomics::firstorder::percentile;

const DEFINITIONS: [Definition; 18] = [
    define("stat_mean", "mean_intensity", "Q4LE", "I"),
    define("stat_var", "intensity_variance", "ECT3", "I^2"),
    define("stat_skew", "intensity_skewness", "KE2A", ""),
    define("stat_kurt", "excess_intensity_kurtosis", "IPH6", ""),
    define("stat_median", "median_intensity", "Y12H", "I"),
    define("stat_min", "minimum_intensity", "1GSF", "I"),
    define("stat_p10", "10th_intensity_percentile", "QG58", "I"),
    define("stat_p90", "90th_intensity_percentile", "8DWT", "I"),
    define("stat_max", "maximum_intensity", "84IY", "I"),
    define("stat_iqr", "intensity_interquartile_range", "SALO", "I"),
    define("stat_range", "intensity_range", "2OJQ", "I"),
    define("stat_mad", "intensity_based_mean_absolute_deviation", "4FUA", "I"),
    define("stat_rmad", "intensity_based_robust_mean_absolute_deviation", "1128", "I"),
    define("stat_medad", "intensity_based_median_absolute_deviation", "N72L", "I"),
    define("stat_cov", "intensity_based_coefficient_of_variation", "7TET", ""),
    define("stat_qcod", "intensity_based_quartile_coefficient_of_dispersion", "9S40", ""),
    define("stat_energy", "intensity_based_energy", "N8CA", "I^2"),
    define("stat_rms", "root_mean_square_intensity", "5ZWQ", "I"),
];

/// Appends all features. `sorted`: the intensities of the region, ascending, at least one.
pub(super) fn compute(sorted: &[f64], table: &mut Table) {
    let d = Distribution::new(sorted);
    let energy: f64 = sorted.iter().map(|v| v * v).sum();
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
        d.quartiles_range,
        d.maximum - d.minimum,
        d.mean_deviation,
        d.robust_deviation,
        d.median_deviation,
        d.variation,
        d.dispersion,
        energy,
        (energy / sorted.len() as f64).sqrt(),
    ];
    table.push(Family::Statistics, &DEFINITIONS, Aggregation::VOLUME, &values);
}

/// What intensities and gray levels are described by alike.
pub(super) struct Distribution {
    pub mean: f64,
    pub variance: f64,
    pub skewness: f64,
    /// Smaller by 3 than the fourth moment: 0 for a normal distribution.
    pub kurtosis: f64,
    pub median: f64,
    pub minimum: f64,
    pub p10: f64,
    pub p90: f64,
    pub maximum: f64,
    pub quartiles_range: f64,
    pub mean_deviation: f64,
    /// Of the values from the 10th to the 90th percentile, from their mean.
    pub robust_deviation: f64,
    pub median_deviation: f64,
    pub variation: f64,
    pub dispersion: f64,
}

impl Distribution {
    /// `sorted`: ascending, at least one.
    pub fn new(sorted: &[f64]) -> Distribution {
        let n = sorted.len() as f64;
        let mean = sorted.iter().sum::<f64>() / n;
        let moment = |k: i32| sorted.iter().map(|v| (v - mean).powi(k)).sum::<f64>() / n;
        let deviation = |from: f64| sorted.iter().map(|v| (v - from).abs()).sum::<f64>() / n;
        let variance = moment(2);
        let flat = variance == 0.0; // then skewness and kurtosis are 0 by definition
        // Percentiles between voxels are linear: this gives all values that IBSI published.
        let [p10, p25, median, p75, p90] = [10.0, 25.0, 50.0, 75.0, 90.0].map(|q| percentile(sorted, q));
        let middle = &sorted[sorted.partition_point(|v| *v < p10)..sorted.partition_point(|v| *v <= p90)];
        let middle_mean = middle.iter().sum::<f64>() / middle.len() as f64;
        Distribution {
            mean,
            variance,
            skewness: if flat { 0.0 } else { moment(3) / variance.powf(1.5) },
            kurtosis: if flat { 0.0 } else { moment(4) / (variance * variance) - 3.0 },
            median,
            minimum: sorted[0],
            p10,
            p90,
            maximum: sorted[sorted.len() - 1],
            quartiles_range: p75 - p25,
            mean_deviation: deviation(mean),
            robust_deviation: middle.iter().map(|v| (v - middle_mean).abs()).sum::<f64>() / middle.len() as f64,
            median_deviation: deviation(median),
            variation: variance.sqrt() / mean,
            dispersion: (p75 - p25) / (p75 + p25),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_values_by_hand() {
        let d = Distribution::new(&[0.0, 0.0, 0.0, 4.0]);
        assert_eq!([d.mean, d.variance, d.median, d.mean_deviation, d.median_deviation], [1.0, 3.0, 0.0, 1.5, 1.0]);
        assert!((d.skewness - 6.0 / 3.0f64.powf(1.5)).abs() < 1e-12);
        assert!((d.kurtosis - (21.0 / 9.0 - 3.0)).abs() < 1e-12);
        let flat = Distribution::new(&[2.0, 2.0]);
        assert_eq!([flat.skewness, flat.kurtosis, flat.robust_deviation, flat.dispersion], [0.0; 4]);
    }
}
