//! First order: statistics of the region's values, without their places.

use super::discretize::Levels;
use super::numpy::pairwise_sum;
use super::table::{Definition, Offer, offered, usual};

/// The features of this family, in the order of PyRadiomics' method names.
pub(super) const FEATURES: [Definition; 19] = [
    usual("10Percentile", "I", "QG58"),
    usual("90Percentile", "I", "8DWT"),
    usual("Energy", "I^2", "N8CA"),
    usual("Entropy", "bit", "TLU2"),
    usual("InterquartileRange", "I", "SALO"),
    usual("Kurtosis", "", ""), // IBSI's (IPH6) is smaller by 3
    usual("Maximum", "I", "84IY"),
    usual("MeanAbsoluteDeviation", "I", "4FUA"),
    usual("Mean", "I", "Q4LE"),
    usual("Median", "I", "Y12H"),
    usual("Minimum", "I", "1GSF"),
    usual("Range", "I", "2OJQ"),
    usual("RobustMeanAbsoluteDeviation", "I", "1128"),
    usual("RootMeanSquared", "I", "5ZWQ"),
    usual("Skewness", "", "KE2A"),
    offered(Offer::Deprecated, usual("StandardDeviation", "I", "")),
    usual("TotalEnergy", "I^2 mm3", ""),
    usual("Uniformity", "", "BJ5W"),
    usual("Variance", "I^2", "ECT3"),
];

/// All features of this family. `values`: those of the region that are numbers, in the order of its voxels; `levels` counts all
/// its voxels; `shift`: `voxelArrayShift`.
pub(super) fn compute(values: &[f64], levels: &Levels, shift: f64, voxel_mm3: f64) -> Vec<(&'static str, f64)> {
    let n = values.len() as f64;
    // In NumPy's order: in a flat region the last bit of the mean decides whether anything deviates from it.
    let mean = pairwise_sum(values) / n;
    let (mut m2, mut m3, mut m4, mut absolute, mut energy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for v in values.iter() {
        let d = v - mean;
        let square = d * d;
        m2 += square;
        m3 += square * d;
        m4 += square * square;
        absolute += d.abs();
        energy += (v + shift) * (v + shift);
    }
    (m2, m3, m4) = (m2 / n, m3 / n, m4 / n);
    let spread = if m2 == 0.0 { 1.0 } else { m2 };
    let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
    let [p10, p25, p50, p75, p90] = percentiles(values, low, high, [10.0, 25.0, 50.0, 75.0, 90.0]);
    let robust = robust_deviation(values, p10, p90);
    let count = |level: &u16| levels.counts[usize::from(*level)] as f64;
    let n_voxels: f64 = levels.present.iter().map(count).sum();
    let p: Vec<f64> = levels.present.iter().map(|level| count(level) / n_voxels).collect();
    vec![
        ("10Percentile", p10),
        ("90Percentile", p90),
        ("Energy", energy),
        // One machine epsilon inside the logarithm, as PyRadiomics has it in all entropies.
        ("Entropy", -p.iter().map(|p| p * (p + f64::EPSILON).log2()).sum::<f64>()),
        ("InterquartileRange", p75 - p25),
        ("Kurtosis", m4 / (spread * spread)),
        ("Maximum", high),
        ("MeanAbsoluteDeviation", absolute / n),
        ("Mean", mean),
        ("Median", p50),
        ("Minimum", low),
        ("Range", high - low),
        ("RobustMeanAbsoluteDeviation", robust),
        ("RootMeanSquared", (energy / n).sqrt()),
        ("Skewness", m3 / spread.powf(1.5)),
        ("StandardDeviation", m2.sqrt()),
        ("TotalEnergy", energy * voxel_mm3),
        ("Uniformity", p.iter().map(|p| p * p).sum()),
        ("Variance", m2),
    ]
}

/// Mean distance from the mean of the values from `low` to `high`. As in PyRadiomics the others are zeros in both sums.
fn robust_deviation(values: &[f64], low: f64, high: f64) -> f64 {
    let among = |v: f64| (v - low >= 0.0) & (v - high <= 0.0);
    let n = values.iter().map(|v| u64::from(among(*v))).sum::<u64>() as f64;
    let mut held: Vec<f64> = values.iter().map(|v| if among(*v) { *v } else { 0.0 }).collect();
    let mean = pairwise_sum(&held) / n;
    held.iter_mut().zip(values).for_each(|(held, v)| *held = if among(*v) { (v - mean).abs() } else { 0.0 });
    pairwise_sum(&held) / n
}

/// Percentile of sorted values, linear between neighbors (`numpy.percentile`).
pub(super) fn percentile(sorted: &[f64], q: f64) -> f64 {
    let place = q / 100.0 * (sorted.len() - 1) as f64;
    let (below, t) = (place.floor() as usize, place.fract());
    let (a, b) = (sorted[below], sorted[(below + 1).min(sorted.len() - 1)]);
    if t >= 0.5 { b - (b - a) * (1.0 - t) } else { a + (b - a) * t }
}

/// Values from this number on are put into bins before they are ranked.
const MANY: usize = 1 << 12;
const BINS: usize = 1 << 12;

/// Percentiles, ascending, linear between neighbors (`numpy.percentile`), of values from `low` to `high`. Few values are
/// ranked in a copy; of many only those bins that hold a wanted rank.
fn percentiles<const N: usize>(values: &[f64], low: f64, high: f64, wanted: [f64; N]) -> [f64; N] {
    let last = values.len() - 1;
    let per_width = (BINS - 1) as f64 / (high - low);
    if values.len() < MANY || !per_width.is_finite() {
        let (mut values, mut sorted_to) = (values.to_vec(), 0); // everything before is smaller than everything after
        return ranked(last, wanted, |k| {
            let from = sorted_to.min(k);
            sorted_to = k;
            *values[from..].select_nth_unstable_by(k - from, f64::total_cmp).1
        });
    }
    // The bin never falls where the value rises. Added to 2^52 a number is rounded, and is what its last bits say.
    let bin = |v: f64| (((v - low) * per_width + 4503599627370496.0).to_bits() as usize & 0xffff).min(BINS - 1);
    let mut counts = vec![[0usize; 2]; BINS];
    for pair in values.chunks(2) {
        pair.iter().enumerate().for_each(|(lane, v)| counts[bin(*v)][lane] += 1);
    }
    let mut starts = vec![0; BINS + 1];
    (0..BINS).for_each(|k| starts[k + 1] = starts[k] + counts[k][0] + counts[k][1]);
    let of_rank = |k: usize| starts.partition_point(|start| *start <= k) - 1;
    let ranks = wanted.iter().map(|q| (q / 100.0 * last as f64).floor() as usize);
    let mut bins: Vec<usize> = ranks.flat_map(|k| [of_rank(k), of_rank((k + 1).min(last))]).collect();
    bins.dedup(); // the ranks rise
    let mut is_held = vec![false; BINS];
    bins.iter().for_each(|bin| is_held[*bin] = true);
    let mut held = vec![Vec::new(); bins.len()];
    for (v, bin) in values.iter().map(|v| (*v, bin(*v))).filter(|(_, bin)| is_held[*bin]) {
        held[bins.partition_point(|other| *other < bin)].push(v);
    }
    ranked(last, wanted, |k| {
        let bin = of_rank(k);
        let own: &mut Vec<f64> = &mut held[bins.partition_point(|other| *other < bin)];
        *own.select_nth_unstable_by(k - starts[bin], f64::total_cmp).1
    })
}

/// Percentiles from the values of ranks, which are asked for in rising order.
fn ranked<const N: usize>(last: usize, wanted: [f64; N], mut rank: impl FnMut(usize) -> f64) -> [f64; N] {
    wanted.map(|q| {
        let place = q / 100.0 * last as f64;
        let (below, t) = (place.floor() as usize, place.fract());
        let a = rank(below);
        let b = if below < last { rank(below + 1) } else { a };
        if t >= 0.5 { b - (b - a) * (1.0 - t) } else { a + (b - a) * t }
    })
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_linear_between_values() {
        let found = percentiles(&[30.0, 10.0, 0.0, 20.0], 0.0, 30.0, [10.0, 50.0, 100.0]);
        assert!((found[0] - 3.0).abs() < 1e-14);
        assert_eq!(found[1..], [15.0, 30.0]);
        assert_eq!(percentiles(&[7.0], 7.0, 7.0, [10.0, 90.0]), [7.0, 7.0]);
    }

    #[test]
    fn percentiles_of_many_values_are_those_of_the_sorted_ones() {
        let mut values: Vec<f64> =
            (0..20_001u32).map(|i| f64::from(i.wrapping_mul(2654435761) % 9973) * 0.37).collect();
        values[7] = -1e5; // nearly all values share a bin
        let mut sorted = values.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let wanted = [10.0, 25.0, 50.0, 75.0, 90.0];
        let found = percentiles(&values, sorted[0], sorted[20_000], wanted);
        assert_eq!(found, wanted.map(|q| percentile(&sorted, q)));
    }
}
