//! Randomness that depends on the seed and the place only, so that threads and order of evaluation cannot change a phantom.

/// A 64-bit hash of a seed and a counter (the finalizer of SplitMix64, Steele et al. 2014).
pub fn hash(seed: u64, counter: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(counter.wrapping_mul(0xD1B5_4A32_D192_ED03));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A stream of draws for one phantom.
pub struct Draws {
    seed: u64,
    counter: u64,
}

impl Draws {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Draws { seed: hash(seed, 0x6D65_7477), counter: 0 }
    }

    /// Uniform in [low, high).
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        self.counter += 1;
        low + (high - low) * (hash(self.seed, self.counter) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normal with mean 0 and standard deviation 1 (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform(1e-12, 1.0).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform(0.0, 1.0)).cos()
    }

    /// A seed for one texture or field.
    pub fn seed(&mut self) -> u64 {
        self.counter += 1;
        hash(self.seed, self.counter)
    }
}

/// Nearly normal noise, standard deviation 1: the sum of four uniform 16-bit parts of one hash (Irwin and Hall), scaled.
pub fn voxel_noise(seed: u64, voxel: u64) -> f32 {
    let h = hash(seed, voxel);
    let sum = (h & 0xFFFF) + ((h >> 16) & 0xFFFF) + ((h >> 32) & 0xFFFF) + (h >> 48);
    // Four uniforms of 0..65535: mean 131070, variance 4 * 65536^2 / 12.
    (sum as f32 - 131_070.0) / 37_837.2
}

/// Smooth value noise in [-1, 1] on a lattice of `grain_mm`, trilinear between its nodes with eased fractions.
pub fn value_noise(seed: u64, position_mm: [f32; 3], grain_mm: f32) -> f32 {
    let mut base = [0i64; 3];
    let mut f = [0f32; 3];
    for a in 0..3 {
        let t = position_mm[a] / grain_mm;
        let floor = t.floor();
        base[a] = floor as i64;
        let x = t - floor;
        f[a] = x * x * (3.0 - 2.0 * x);
    }
    let node = |dx: i64, dy: i64, dz: i64| {
        let key = ((base[0] + dx) as u64 & 0x1F_FFFF)
            | (((base[1] + dy) as u64 & 0x1F_FFFF) << 21)
            | (((base[2] + dz) as u64 & 0x1F_FFFF) << 42);
        (hash(seed, key) >> 40) as f32 / 8_388_608.0 - 1.0
    };
    let mix = |a: f32, b: f32, t: f32| a + (b - a) * t;
    let plane = |dz| {
        let front = mix(node(0, 0, dz), node(1, 0, dz), f[0]);
        let back = mix(node(0, 1, dz), node(1, 1, dz), f[0]);
        mix(front, back, f[1])
    };
    mix(plane(0), plane(1), f[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voxel_noise_has_mean_0_and_deviation_1() {
        let n = 100_000;
        let values: Vec<f64> = (0..n).map(|k| f64::from(voxel_noise(3, k))).collect();
        let mean = values.iter().sum::<f64>() / n as f64;
        let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }

    #[test]
    fn value_noise_is_continuous_and_bounded() {
        for k in 0..200 {
            let x = k as f32 * 0.37 - 30.0;
            let here = value_noise(9, [x, -x, 2.0 * x], 10.0);
            let near = value_noise(9, [x + 0.001, -x, 2.0 * x], 10.0);
            assert!(here.abs() <= 1.0 && (here - near).abs() < 0.01);
        }
    }
}
