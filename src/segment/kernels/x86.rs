//! AVX2 with FMA, and AVX-512.

use super::GROUP_MAX;
use super::tile::{Vector, tiles};
use std::arch::x86_64::*;

/// A block.
#[derive(Clone, Copy)]
struct Eight(__m256);

impl Vector for Eight {
    const N: usize = 8;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Eight(_mm256_loadu_ps(from)) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { Eight(_mm256_set1_ps(value)) }
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        unsafe { Eight(_mm256_fmadd_ps(a.0, b.0, self.0)) }
    }
    #[inline(always)]
    unsafe fn times(self, other: Self) -> Self {
        unsafe { Eight(_mm256_mul_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn larger(self, other: Self) -> Self {
        unsafe { Eight(_mm256_max_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn gather(from: &[*mut f32; GROUP_MAX], at: usize, number: usize) -> Self {
        unsafe { Self::load(from[number].add(at)) }
    }
    #[inline(always)]
    unsafe fn scatter(self, to: &[*mut f32; GROUP_MAX], at: usize, number: usize) {
        unsafe { _mm256_storeu_ps(to[number].add(at), self.0) }
    }
}

/// Two blocks.
#[derive(Clone, Copy)]
struct Sixteen(__m512);

impl Vector for Sixteen {
    const N: usize = 16;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Sixteen(_mm512_loadu_ps(from)) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { Sixteen(_mm512_set1_ps(value)) }
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        unsafe { Sixteen(_mm512_fmadd_ps(a.0, b.0, self.0)) }
    }
    #[inline(always)]
    unsafe fn times(self, other: Self) -> Self {
        unsafe { Sixteen(_mm512_mul_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn larger(self, other: Self) -> Self {
        unsafe { Sixteen(_mm512_max_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn gather(from: &[*mut f32; GROUP_MAX], at: usize, number: usize) -> Self {
        unsafe {
            let low = _mm256_loadu_ps(from[2 * number].add(at));
            let high = _mm256_loadu_ps(from[2 * number + 1].add(at));
            Sixteen(_mm512_insertf32x8::<1>(_mm512_castps256_ps512(low), high))
        }
    }
    #[inline(always)]
    unsafe fn scatter(self, to: &[*mut f32; GROUP_MAX], at: usize, number: usize) {
        unsafe {
            _mm256_storeu_ps(to[2 * number].add(at), _mm512_castps512_ps256(self.0));
            _mm256_storeu_ps(to[2 * number + 1].add(at), _mm512_extractf32x8_ps::<1>(self.0));
        }
    }
}

tiles!(
    /// Sixteen registers: 2 x 6 sums, 2 weights, 1 input.
    avx2, #[target_feature(enable = "avx2,fma")],
    (2, Eight, 2, [1 2 3 4 5 6]),
    (1, Eight, 1, [1 2 3 4 5 6 7 8 9 10])
);

tiles!(
    /// Thirty-two registers: 2 x 12 sums, 2 weights, 1 input. A single block uses the lower halves.
    avx512, #[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512dq")],
    (4, Sixteen, 2, [1 2 3 4 5 6 7 8 9 10 11 12]),
    (2, Sixteen, 1, [1 2 3 4 5 6 7 8 9 10 11 12]),
    (1, Eight, 1, [1 2 3 4 5 6 7 8 9 10 11 12])
);
