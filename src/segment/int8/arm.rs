//! The kernels of [`super::tile`] for 64-bit ARM. They multiply signed activations, `u - 128`, and add `128 * sum of the weights` back.

use super::tile::{BLOCK, QUAD, Requantize, Results, Sums};
use std::arch::aarch64::*;
use std::arch::asm;

/// Bytes of weights per tap and quad of one block.
const STEP: usize = BLOCK * QUAD;

/// `sdot`: four products of bytes per 32-bit lane, added to it.
///
/// # Safety
/// The processor must have dot products.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn dot(mut sum: int32x4_t, weights: int8x16_t, x: int8x16_t) -> int32x4_t {
    // The intrinsic `vdotq_s32` is not in stable Rust 1.91.
    unsafe {
        asm!("sdot {sum:v}.4s, {w:v}.16b, {x:v}.16b", sum = inout(vreg) sum, w = in(vreg) weights, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// Four neighboring channels of a pixel, less 128, in each 32-bit lane.
///
/// # Safety
/// Four bytes must be readable at `from`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn quad(from: *const u8) -> int8x16_t {
    let bits = unsafe { from.cast::<u32>().read_unaligned() };
    vreinterpretq_s8_u32(vdupq_n_u32(bits ^ 0x8080_8080))
}

/// Starts of the next `M` windows; the last is repeated where there are fewer.
#[inline(always)]
fn starts<const M: usize>(input: &[u8], pixels: &[usize]) -> [*const u8; M] {
    std::array::from_fn(|m| input[pixels[m.min(pixels.len() - 1)]..].as_ptr())
}

/// Adds the activations' offset back, requantizes and stores the sums of one block of some pixels.
#[inline]
fn store(
    (s, r): (&Sums, &Requantize),
    sums: &mut [[i32; BLOCK]],
    block: usize,
    channels: usize,
    places: &[usize],
    results: &mut Results,
) {
    for (sums, place) in sums.iter_mut().zip(places) {
        for (sum, weights) in sums.iter_mut().zip(&s.weight_sums[block * BLOCK..]) {
            *sum = sum.wrapping_add(128 * weights);
        }
        r.store(sums, block, channels, *place, results);
    }
}

/// ARMv8.2 with dot products.
///
/// # Safety
/// The processor must have the features, and the slices must fit as [`super::tile::run`] checks.
#[target_feature(enable = "neon,dotprod")]
pub unsafe fn sdot(s: &Sums, r: &Requantize, channels: usize, places: &[usize], results: &mut Results) {
    const M: usize = 6; // 24 sums, four weights and a pixel in 32 registers
    let size = s.taps.len() * s.quads * STEP;
    for (block, block_weights) in s.weights.chunks_exact(size).enumerate() {
        for (pixels, places) in s.pixels.chunks(M).zip(places.chunks(M)) {
            let starts = starts::<M>(s.input, pixels);
            let mut weights = block_weights.as_ptr();
            let mut sums = [[vdupq_n_s32(0); 4]; M];
            for tap in s.taps {
                let mut offset = *tap;
                for _ in 0..s.quads {
                    // SAFETY: `run` checked the farthest window, and the number of weights.
                    unsafe {
                        let w: [int8x16_t; 4] = std::array::from_fn(|n| vld1q_s8(weights.add(16 * n)));
                        for m in 0..M {
                            let x = quad(starts[m].add(offset));
                            for n in 0..4 {
                                sums[m][n] = dot(sums[m][n], w[n], x);
                            }
                        }
                        weights = weights.add(STEP);
                    }
                    offset += QUAD;
                }
            }
            let mut stored = [[0i32; BLOCK]; M];
            for m in 0..M {
                for n in 0..4 {
                    // SAFETY: four of the sixteen sums.
                    unsafe { vst1q_s32(stored[m][4 * n..].as_mut_ptr(), sums[m][n]) };
                }
            }
            store((s, r), &mut stored, block, channels, places, results);
        }
    }
}

/// Any 64-bit ARM.
///
/// # Safety
/// The slices must fit as [`super::tile::run`] checks.
#[target_feature(enable = "neon")]
pub unsafe fn neon(s: &Sums, r: &Requantize, channels: usize, places: &[usize], results: &mut Results) {
    const M: usize = 2; // 16 sums of channel pairs, four weights, a pixel and a product
    let size = s.taps.len() * s.quads * STEP;
    for (block, block_weights) in s.weights.chunks_exact(size).enumerate() {
        for (pixels, places) in s.pixels.chunks(M).zip(places.chunks(M)) {
            let starts = starts::<M>(s.input, pixels);
            let mut weights = block_weights.as_ptr();
            // Per 16 weights (4 output x 4 input channels) two registers: [o0 i01, o0 i23, o1 i01, o1 i23] and the same of o2, o3.
            let mut sums = [[[vdupq_n_s32(0); 2]; 4]; M];
            for tap in s.taps {
                let mut offset = *tap;
                for _ in 0..s.quads {
                    // SAFETY: `run` checked the farthest window, and the number of weights.
                    unsafe {
                        let w: [int8x16_t; 4] = std::array::from_fn(|n| vld1q_s8(weights.add(16 * n)));
                        for m in 0..M {
                            let x = quad(starts[m].add(offset));
                            for n in 0..4 {
                                // A product is at most 128 * 128 and fits; pairs are added in 32 bits.
                                let low = vmull_s8(vget_low_s8(w[n]), vget_low_s8(x));
                                sums[m][n][0] = vpadalq_s16(sums[m][n][0], low);
                                sums[m][n][1] = vpadalq_s16(sums[m][n][1], vmull_high_s8(w[n], x));
                            }
                        }
                        weights = weights.add(STEP);
                    }
                    offset += QUAD;
                }
            }
            let mut stored = [[0i32; BLOCK]; M];
            for m in 0..M {
                for n in 0..4 {
                    let four = vpaddq_s32(sums[m][n][0], sums[m][n][1]);
                    // SAFETY: four of the sixteen sums.
                    unsafe { vst1q_s32(stored[m][4 * n..].as_mut_ptr(), four) };
                }
            }
            store((s, r), &mut stored, block, channels, places, results);
        }
    }
}
