//! For any processor.

use super::GROUP_MAX;
use super::tile::{Vector, tiles};

/// A block, as the compiler likes it.
#[derive(Clone, Copy)]
struct Eight([f32; 8]);

impl Eight {
    #[inline(always)]
    fn with(mut self, other: Self, of: impl Fn(f32, f32) -> f32) -> Self {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a = of(*a, b);
        }
        self
    }
}

impl Vector for Eight {
    const N: usize = 8;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Eight(from.cast::<[f32; 8]>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Eight([value; 8])
    }
    #[inline(always)]
    unsafe fn add_product(mut self, a: Self, b: Self) -> Self {
        for ((sum, a), b) in self.0.iter_mut().zip(a.0).zip(b.0) {
            *sum += a * b;
        }
        self
    }
    #[inline(always)]
    unsafe fn times(self, other: Self) -> Self {
        self.with(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn larger(self, other: Self) -> Self {
        self.with(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn gather(from: &[*mut f32; GROUP_MAX], at: usize, number: usize) -> Self {
        unsafe { Self::load(from[number].add(at)) }
    }
    #[inline(always)]
    unsafe fn scatter(self, to: &[*mut f32; GROUP_MAX], at: usize, number: usize) {
        unsafe { to[number].add(at).cast::<[f32; 8]>().write_unaligned(self.0) }
    }
}

tiles!(
    /// Few sums: SSE2, the least that x86-64 has, holds 16 vectors of 4.
    plain, , (1, Eight, 1, [1 2 3 4])
);
