//! The kernels of [`super::tile`] for x86-64. Each holds the sums of a few pixels in registers and reads every weight once for all of them.

use super::tile::{BLOCK, QUAD, Requantize, Results, Sums};
use std::arch::x86_64::*;

/// Bytes of weights per tap and quad of one block.
const STEP: usize = BLOCK * QUAD;

/// Four neighboring channels of a pixel as one 32-bit element.
///
/// # Safety
/// Four bytes must be readable at `from`.
#[inline(always)]
unsafe fn quad(from: *const u8) -> i32 {
    unsafe { from.cast::<i32>().read_unaligned() }
}

/// Starts of the next `M` windows; the last is repeated where there are fewer.
#[inline(always)]
fn starts<const M: usize>(input: &[u8], pixels: &[usize]) -> [*const u8; M] {
    std::array::from_fn(|m| input[pixels[m.min(pixels.len() - 1)]..].as_ptr())
}

/// AVX-512 with VNNI.
///
/// # Safety
/// The processor must have the features, and the slices must fit as [`super::tile::run`] checks.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn avx512_vnni(s: &Sums, r: &Requantize, channels: usize, places: &[usize], results: &mut Results) {
    let blocks = channels.div_ceil(BLOCK);
    let mut block = 0;
    // Three blocks of 9 pixels, two of 14 or one of 24 fill the 32 registers: 27, 28 and 24 sums.
    while block < blocks {
        unsafe {
            match blocks - block {
                1 => {
                    avx512_blocks::<1, 24>(s, r, block, channels, places, results);
                    block += 1;
                }
                2 | 4 => {
                    avx512_blocks::<2, 14>(s, r, block, channels, places, results);
                    block += 2;
                }
                _ => {
                    avx512_blocks::<3, 9>(s, r, block, channels, places, results);
                    block += 3;
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn avx512_blocks<const N: usize, const M: usize>(
    s: &Sums,
    r: &Requantize,
    block: usize,
    channels: usize,
    places: &[usize],
    results: &mut Results,
) {
    let size = s.taps.len() * s.quads * STEP;
    for (pixels, places) in s.pixels.chunks(M).zip(places.chunks(M)) {
        let starts = starts::<M>(s.input, pixels);
        let mut weights: [*const i8; N] = std::array::from_fn(|n| s.weights[(block + n) * size..].as_ptr());
        let mut sums = [[_mm512_setzero_si512(); N]; M];
        for tap in s.taps {
            let mut offset = *tap;
            for _ in 0..s.quads {
                // SAFETY: `run` checked the farthest window, and the number of weights.
                unsafe {
                    let w: [__m512i; N] = std::array::from_fn(|n| _mm512_loadu_si512(weights[n].cast()));
                    for m in 0..M {
                        let x = _mm512_set1_epi32(quad(starts[m].add(offset)));
                        for n in 0..N {
                            sums[m][n] = _mm512_dpbusd_epi32(sums[m][n], x, w[n]);
                        }
                    }
                    weights.iter_mut().for_each(|w| *w = w.add(STEP));
                }
                offset += QUAD;
            }
        }
        // Through memory: the sums stay in registers above only if nothing indexes them by a number known at run time (4 times slower).
        let mut stored = [[[0i32; BLOCK]; N]; M];
        for m in 0..M {
            for n in 0..N {
                // SAFETY: sixteen sums.
                unsafe { _mm512_storeu_si512(stored[m][n].as_mut_ptr().cast(), sums[m][n]) };
            }
        }
        for n in 0..N {
            avx512_store(r, block + n, channels, stored.iter().map(|sums| &sums[n]).zip(places), results);
        }
    }
}

/// [`Requantize::store`] for the sums of one block of some pixels.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn avx512_store<'a>(
    r: &Requantize,
    block: usize,
    channels: usize,
    pixels: impl Iterator<Item = (&'a [i32; BLOCK], &'a usize)>,
    results: &mut Results,
) {
    let first = block * BLOCK;
    let n = BLOCK.min(channels - first);
    let mask = u16::MAX >> (BLOCK - n);
    let (bias, multiplier) = (&r.bias[first..first + BLOCK], &r.multiplier[first..first + BLOCK]);
    // SAFETY: both slices hold a block.
    let (bias, multiplier) =
        unsafe { (_mm512_loadu_si512(bias.as_ptr().cast()), _mm512_loadu_ps(multiplier.as_ptr())) };
    let [slope, low, high] = [r.slope, r.bounds[0], r.bounds[1]].map(|v| _mm512_set1_ps(v));
    let zero = _mm512_set1_epi32(r.zero_point);
    for (sums, place) in pixels {
        // SAFETY: sixteen sums.
        let sums = unsafe { _mm512_loadu_si512(sums.as_ptr().cast()) };
        let v = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sums, bias)), multiplier);
        let v = _mm512_max_ps(v, _mm512_mul_ps(v, slope));
        match results {
            Results::Floats(out) => {
                // SAFETY: masked lanes are not written, the others lie in the slice.
                unsafe { _mm512_mask_storeu_ps(out[place + first..][..n].as_mut_ptr(), mask, v) }
            }
            Results::Bytes(out) => {
                let v = _mm512_min_ps(_mm512_max_ps(v, low), high);
                let rounded = _mm512_cvt_roundps_epi32::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v);
                let bytes = _mm512_cvtepi32_epi8(_mm512_add_epi32(rounded, zero));
                // SAFETY: as above.
                unsafe { _mm_mask_storeu_epi8(out[place + first..][..n].as_mut_ptr().cast(), mask, bytes) }
            }
        }
    }
}

/// AVX-VNNI (VEX), 256 bits.
///
/// # Safety
/// The processor must have the features, and the slices must fit as [`super::tile::run`] checks.
#[target_feature(enable = "avx2,avxvnni")]
pub unsafe fn avx_vnni(s: &Sums, r: &Requantize, channels: usize, places: &[usize], results: &mut Results) {
    // SAFETY: as above; 12 sums, two weights and a pixel in 16 registers.
    unsafe {
        narrow_blocks::<6>(s, r, channels, places, results, |sum, x, w| _mm256_dpbusd_avx_epi32(sum, x, w));
    }
}

/// AVX2: products of pairs in 16 bits, exact for activations up to 127; larger ones are split into their low 7 bits and the eighth.
///
/// # Safety
/// The processor must have the features, and the slices must fit as [`super::tile::run`] checks.
#[target_feature(enable = "avx2")]
pub unsafe fn avx2(s: &Sums, r: &Requantize, channels: usize, places: &[usize], results: &mut Results) {
    let ones = _mm256_set1_epi16(1);
    // 127 * 127 * 2 = 32,258 and 127 * -128 * 2 = -32,512 fit into 16 bits.
    let dot = |x, w| _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), ones);
    // SAFETY: as above.
    unsafe {
        if s.wide {
            // 128 * 127 * 2 = 32,512 and 128 * -128 * 2 = -32,768 fit as well.
            let eighth = _mm256_set1_epi8(-128);
            narrow_blocks::<4>(s, r, channels, places, results, |sum, x, w| {
                let sum = _mm256_add_epi32(sum, dot(_mm256_andnot_si256(eighth, x), w));
                _mm256_add_epi32(sum, dot(_mm256_and_si256(eighth, x), w))
            });
        } else {
            narrow_blocks::<5>(s, r, channels, places, results, |sum, x, w| _mm256_add_epi32(sum, dot(x, w)));
        }
    }
}

/// One block of `M` pixels in `2 M` registers; `add` adds the products of eight quads to a sum.
#[inline(always)]
unsafe fn narrow_blocks<const M: usize>(
    s: &Sums,
    r: &Requantize,
    channels: usize,
    places: &[usize],
    results: &mut Results,
    add: impl Fn(__m256i, __m256i, __m256i) -> __m256i,
) {
    let size = s.taps.len() * s.quads * STEP;
    for (block, block_weights) in s.weights.chunks_exact(size).enumerate() {
        for (pixels, places) in s.pixels.chunks(M).zip(places.chunks(M)) {
            let starts = starts::<M>(s.input, pixels);
            let mut weights = block_weights.as_ptr();
            // SAFETY: `run` checked the farthest window, and the number of weights; the callers have AVX2.
            unsafe {
                let mut sums = [[_mm256_setzero_si256(); 2]; M];
                for tap in s.taps {
                    let mut offset = *tap;
                    for _ in 0..s.quads {
                        let w: [__m256i; 2] = std::array::from_fn(|n| _mm256_loadu_si256(weights.add(32 * n).cast()));
                        for m in 0..M {
                            let x = _mm256_set1_epi32(quad(starts[m].add(offset)));
                            for n in 0..2 {
                                sums[m][n] = add(sums[m][n], x, w[n]);
                            }
                        }
                        weights = weights.add(STEP);
                        offset += QUAD;
                    }
                }
                let mut stored = [[0i32; BLOCK]; M];
                for m in 0..M {
                    _mm256_storeu_si256(stored[m].as_mut_ptr().cast(), sums[m][0]);
                    _mm256_storeu_si256(stored[m][8..].as_mut_ptr().cast(), sums[m][1]);
                }
                for (sums, place) in stored.iter().zip(places) {
                    r.store(sums, block, channels, *place, results);
                }
            }
        }
    }
}
