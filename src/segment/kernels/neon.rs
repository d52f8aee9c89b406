//! aarch64: NEON, which every such processor has.

use super::GROUP_MAX;
use super::tile::{Vector, tiles};
use std::arch::aarch64::*;

/// Half a block.
#[derive(Clone, Copy)]
struct Four(float32x4_t);

impl Vector for Four {
    const N: usize = 4;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Four(vld1q_f32(from)) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { Four(vdupq_n_f32(value)) }
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        unsafe { Four(vfmaq_f32(self.0, a.0, b.0)) }
    }
    #[inline(always)]
    unsafe fn times(self, other: Self) -> Self {
        unsafe { Four(vmulq_f32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn larger(self, other: Self) -> Self {
        unsafe { Four(vmaxq_f32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn gather(from: &[*mut f32; GROUP_MAX], at: usize, number: usize) -> Self {
        unsafe { Self::load(from[number / 2].add(at + number % 2 * 4)) }
    }
    #[inline(always)]
    unsafe fn scatter(self, to: &[*mut f32; GROUP_MAX], at: usize, number: usize) {
        unsafe { vst1q_f32(to[number / 2].add(at + number % 2 * 4), self.0) }
    }
}

tiles!(
    /// Thirty-two registers: 4 x 6 sums, 4 weights, 1 input.
    neon, #[target_feature(enable = "neon")],
    (2, Four, 4, [1 2 3 4 5 6]),
    (1, Four, 2, [1 2 3 4 5 6 7 8 9 10])
);
