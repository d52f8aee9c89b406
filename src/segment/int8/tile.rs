//! The inner product of an int8 convolution: sums of u8 activations times i8 weights for a list of output pixels, requantized.
//!
//! Every instruction set gives the same bytes. The sums are exact integers; the step after them is three f32 operations, each
//! rounded once (never fused), and a rounding half to even, which IEEE 754 fixes for all of them: see [`Requantize`].

use crate::segment::InstructionSet;

/// Output channels of one block: 16 i32 sums are one AVX-512 register, two of AVX2, four of NEON.
pub const BLOCK: usize = 16;
/// Channels that one 32-bit element of a dot product holds.
pub const QUAD: usize = 4;
/// Bytes that a kernel may read beyond the last pixel: the rest of a quad.
pub const SLACK: usize = QUAD;

/// The instruction sets that there are kernels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// Rust without intrinsics.
    Plain,
    /// `vpmaddubsw` and `vpmaddwd`, 256 bits.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// `vpdpbusd` in its VEX form, 256 bits.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// `vpdpbusd`, 512 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// `smull` and `sadalp`, 128 bits: any 64-bit ARM.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// `sdot`, 128 bits: ARMv8.2 with dot products (Jetson Orin, Graviton 2 and later).
    #[cfg(target_arch = "aarch64")]
    Sdot,
}

impl Isa {
    /// What this processor can run, the fastest first; `Plain` is always the last.
    pub fn available() -> Vec<Isa> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                found.push(Isa::Avx512Vnni);
            }
            if is_x86_feature_detected!("avxvnni") && is_x86_feature_detected!("avx2") {
                found.push(Isa::AvxVnni);
            }
            if is_x86_feature_detected!("avx2") {
                found.push(Isa::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                found.push(Isa::Sdot);
            }
            if std::arch::is_aarch64_feature_detected!("neon") {
                found.push(Isa::Neon);
            }
        }
        found.push(Isa::Plain);
        found
    }

    /// The fastest that this processor can run.
    pub fn best() -> Isa {
        Self::available()[0]
    }

    /// The fastest that this processor can run and that uses no more than the f32 kernels of `set`.
    pub fn within(set: InstructionSet) -> Isa {
        let fits = |isa: &Isa| match isa {
            Isa::Plain => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::AvxVnni => set != InstructionSet::Plain,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => set == InstructionSet::Avx512,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::Sdot => set != InstructionSet::Plain,
        };
        Self::available().into_iter().find(fits).unwrap_or(Isa::Plain)
    }

    /// Its name, for logs and benchmarks.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Plain => "plain int8",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "AVX2 int8",
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => "AVX-VNNI",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => "AVX512-VNNI",
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => "NEON int8",
            #[cfg(target_arch = "aarch64")]
            Isa::Sdot => "NEON SDOT",
        }
    }
}

/// Which inputs and weights make the sums of some pixels.
pub struct Sums<'a> {
    /// All activations.
    pub input: &'a [u8],
    /// Whether an activation may be over 127: `vpmaddubsw` must then be split to stay exact.
    pub wide: bool,
    /// Per output pixel, where its window starts in `input`.
    pub pixels: &'a [usize],
    /// Per tap, its distance from the window's start, in bytes.
    pub taps: &'a [usize],
    /// Groups of four channels per tap.
    pub quads: usize,
    /// Shape (blocks, taps, quads, 16 output channels, 4 input channels); zero where there is no channel.
    pub weights: &'a [i8],
    /// Per output channel (whole blocks), the sum of its weights: SDOT multiplies signed activations, `u - 128`, and adds it back.
    pub weight_sums: &'a [i32],
}

/// From an i32 sum to an output, per output channel (whole blocks):
/// `v = f32(sum + bias) * multiplier`, `v = max(v, v * slope)`, then `zero_point + round_half_even(clamp(v, low, high))`.
/// ONNX Runtime requantizes in the same way, so a quantized convolution of its making gives its bytes.
pub struct Requantize<'a> {
    /// Bias in units of the sum, the input's zero point already taken off.
    pub bias: &'a [i32],
    /// Scale of the input times that of the weights, over that of the output.
    pub multiplier: &'a [f32],
    /// 1: nothing; 0 < slope < 1: leaky ReLU; 0: ReLU.
    pub slope: f32,
    /// Bounds, relative to the zero point; with these a byte cannot overflow.
    pub bounds: [f32; 2],
    /// The output's zero point.
    pub zero_point: i32,
}

/// Where results go: quantized bytes, or `v` itself as f32 (bounds and zero point unused).
pub enum Results<'a> {
    /// Quantized.
    Bytes(&'a mut [u8]),
    /// Real numbers.
    Floats(&'a mut [f32]),
}

impl Results<'_> {
    fn len(&self) -> usize {
        match self {
            Results::Bytes(out) => out.len(),
            Results::Floats(out) => out.len(),
        }
    }
}

/// Computes `channels` outputs of every pixel into `results`, at `places` (one per pixel, the first channel's index).
///
/// # Panics
/// If a window, a place or the weights do not fit: a kernel never reads or writes beyond its slices.
pub fn run(isa: Isa, sums: &Sums, requantize: &Requantize, channels: usize, places: &[usize], results: &mut Results) {
    let blocks = channels.div_ceil(BLOCK);
    assert_eq!(sums.pixels.len(), places.len());
    assert_eq!(sums.weights.len(), blocks * sums.taps.len() * sums.quads * BLOCK * QUAD);
    for length in [requantize.bias.len(), requantize.multiplier.len(), sums.weight_sums.len()] {
        assert_eq!(length, blocks * BLOCK);
    }
    let last = |offsets: &[usize]| offsets.iter().copied().max().unwrap_or(0);
    if sums.pixels.is_empty() || sums.taps.is_empty() {
        return;
    }
    assert!(last(sums.pixels) + last(sums.taps) + sums.quads * QUAD <= sums.input.len());
    assert!(last(places) + channels <= results.len());
    match isa {
        Isa::Plain => plain(sums, requantize, channels, places, results),
        // SAFETY: `Isa::available` found the features; the assertions above keep every access inside its slice.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { super::x86::avx2(sums, requantize, channels, places, results) },
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni => unsafe { super::x86::avx_vnni(sums, requantize, channels, places, results) },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => unsafe { super::x86::avx512_vnni(sums, requantize, channels, places, results) },
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => unsafe { super::arm::neon(sums, requantize, channels, places, results) },
        #[cfg(target_arch = "aarch64")]
        Isa::Sdot => unsafe { super::arm::sdot(sums, requantize, channels, places, results) },
    }
}

/// The definition that every other kernel is held against.
fn plain(sums: &Sums, requantize: &Requantize, channels: usize, places: &[usize], results: &mut Results) {
    let size = sums.taps.len() * sums.quads * BLOCK * QUAD;
    for (block, weights) in sums.weights.chunks_exact(size).enumerate() {
        for (pixel, place) in sums.pixels.iter().zip(places) {
            let mut acc = [0i32; BLOCK];
            let windows =
                sums.taps.iter().flat_map(|tap| sums.input[pixel + tap..][..sums.quads * QUAD].as_chunks::<QUAD>().0);
            for (quad, weights) in windows.zip(weights.chunks_exact(BLOCK * QUAD)) {
                for (sum, weights) in acc.iter_mut().zip(weights.as_chunks::<QUAD>().0) {
                    *sum += quad.iter().zip(weights).map(|(u, w)| i32::from(*u) * i32::from(*w)).sum::<i32>();
                }
            }
            requantize.store(&acc, block, channels, *place, results);
        }
    }
}

impl Requantize<'_> {
    /// Requantizes and stores the sums of one block of one pixel.
    #[inline(always)]
    pub fn store(&self, sums: &[i32; BLOCK], block: usize, channels: usize, place: usize, results: &mut Results) {
        let first = block * BLOCK;
        let n = BLOCK.min(channels - first);
        let (bias, multiplier) = (&self.bias[first..first + BLOCK], &self.multiplier[first..first + BLOCK]);
        let mut values = [0f32; BLOCK];
        for (k, value) in values.iter_mut().enumerate() {
            let v = sums[k].wrapping_add(bias[k]) as f32 * multiplier[k];
            *value = greater(v, v * self.slope);
        }
        match results {
            Results::Floats(out) => out[place + first..][..n].copy_from_slice(&values[..n]),
            Results::Bytes(out) => {
                let mut bytes = [0u8; BLOCK];
                for (byte, v) in bytes.iter_mut().zip(values) {
                    let v = greater(v, self.bounds[0]);
                    let v = if v < self.bounds[1] { v } else { self.bounds[1] };
                    *byte = (v.round_ties_even() as i32 + self.zero_point) as u8;
                }
                out[place + first..][..n].copy_from_slice(&bytes[..n]);
            }
        }
    }
}

/// As `vmaxps` has it; `f32::max` would also order NaN, which cannot occur here.
#[inline(always)]
fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}
