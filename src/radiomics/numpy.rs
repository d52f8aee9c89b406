//! NumPy's order of summation, where the last bit of a sum decides something.

use ndarray::LinalgScalar;

/// The sum of consecutive values in the order in which NumPy adds them (pairwise, eight at a time).
pub(super) fn pairwise_sum<T: LinalgScalar>(values: &[T]) -> T {
    let n = values.len();
    if n < 8 {
        return values.iter().fold(T::zero(), |sum, v| sum + *v);
    }
    if n > 128 {
        let half = n / 2 - (n / 2) % 8;
        return pairwise_sum(&values[..half]) + pairwise_sum(&values[half..]);
    }
    let mut chunks = values.chunks_exact(8);
    let mut lanes = [T::zero(); 8];
    for chunk in &mut chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, v)| *lane = *lane + *v);
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    let sum = ((a + b) + (c + d)) + ((e + f) + (g + h));
    chunks.remainder().iter().fold(sum, |sum, v| sum + *v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_have_the_bits_of_numpy() {
        // numpy.sum of 1/(i + 1) as float32 and float64, i < 1000 (NumPy 1.26.4).
        let values: Vec<f32> = (0..1000).map(|i| 1.0 / (i as f32 + 1.0)).collect();
        assert_eq!(pairwise_sum(&values).to_bits(), SUM_32.to_bits());
        let values: Vec<f64> = (0..1000).map(|i| 1.0 / (f64::from(i) + 1.0)).collect();
        assert_eq!(pairwise_sum(&values).to_bits(), SUM_64.to_bits());
        assert_eq!(pairwise_sum(&values[..5]), 2.283333333333333);
    }
    const SUM_32: f32 = 7.485_471_7;
    const SUM_64: f64 = 7.485470860550345;
}
