//! The four loops that the path spends its time in, over contiguous columns.
//!
//! Each is written once, in eight fixed lanes, and compiled twice: plain, and with AVX2 where the processor has it. Lanes and
//! order are the same in both and nothing is fused, so the bits are the same on any processor.

/// Sums run in this many lanes; vectors have a multiple of it.
pub(super) const LANES: usize = 8;

/// Compiles a body twice and picks at run time.
macro_rules! twice {
    ($(#[$about:meta])* $name:ident => $plain:ident, ($($argument:ident: $kind:ty),*)) => {
        $(#[$about])*
        pub(super) fn $name($($argument: $kind),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn wide($($argument: $kind),*) {
                    $plain($($argument),*);
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2, and the body is safe code.
                    return unsafe { wide($($argument),*) };
                }
            }
            $plain($($argument),*);
        }
    };
}

twice! {
    /// `out[k]` = `columns[k]` · `v`.
    dots => dots_plain, (columns: &[&[f64]], v: &[f64], out: &mut [f64])
}
twice! {
    /// `out` += sum over k of `factors[k]` `columns[k]`.
    add_columns => add_columns_plain, (columns: &[&[f64]], factors: &[f64], out: &mut [f64])
}
twice! {
    /// `out` = `a` times `b`, entry by entry.
    multiply => multiply_plain, (a: &[f64], b: &[f64], out: &mut [f64])
}

#[inline(always)]
fn dots_plain(columns: &[&[f64]], v: &[f64], out: &mut [f64]) {
    let (fours, rest) = columns.as_chunks::<4>();
    let (out_fours, out_rest) = out.as_chunks_mut::<4>();
    for (out, four) in out_fours.iter_mut().zip(fours) {
        *out = dots_with(*four, v);
    }
    for (out, column) in out_rest.iter_mut().zip(rest) {
        [*out] = dots_with([*column], v);
    }
}

/// `N` columns against one vector, which is read once.
#[inline(always)]
fn dots_with<const N: usize>(columns: [&[f64]; N], v: &[f64]) -> [f64; N] {
    let v = v.as_chunks::<LANES>().0;
    let columns = columns.map(|column| &column.as_chunks::<LANES>().0[..v.len()]);
    let mut sums = [[0.0; LANES]; N];
    for i in 0..v.len() {
        for k in 0..N {
            for lane in 0..LANES {
                sums[k][lane] += columns[k][i][lane] * v[i][lane];
            }
        }
    }
    sums.map(|s| ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7])))
}

#[inline(always)]
fn add_columns_plain(columns: &[&[f64]], factors: &[f64], out: &mut [f64]) {
    let (fours, rest) = columns.as_chunks::<4>();
    let (four_factors, rest_factors) = factors.as_chunks::<4>();
    for ([a, b, c, d], f) in fours.iter().zip(four_factors) {
        for ((((out, a), b), c), d) in out.iter_mut().zip(*a).zip(*b).zip(*c).zip(*d) {
            *out += (f[0] * a + f[1] * b) + (f[2] * c + f[3] * d);
        }
    }
    for (column, f) in rest.iter().zip(rest_factors) {
        for (out, a) in out.iter_mut().zip(*column) {
            *out += f * a;
        }
    }
}

#[inline(always)]
fn multiply_plain(a: &[f64], b: &[f64], out: &mut [f64]) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = a * b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_compilations_give_the_same_bits() {
        let value = |i: usize| ((i * 7919) % 1000) as f64 / 37.0 - 13.0;
        let columns: Vec<Vec<f64>> = (0..7).map(|k| (0..48).map(|i| value(i + 61 * k)).collect()).collect();
        let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        let v: Vec<f64> = (0..48).map(|i| value(3 * i + 5)).collect();
        let (mut a, mut b) = ([0.0; 7], [0.0; 7]);
        dots(&columns, &v, &mut a);
        dots_plain(&columns, &v, &mut b);
        assert_eq!(a, b);
        let by_hand: f64 = columns[5].iter().zip(&v).map(|(a, b)| a * b).sum();
        assert!((a[5] - by_hand).abs() < 1e-9);
        let (mut left, mut right) = (v.clone(), v.clone());
        add_columns(&columns, &a, &mut left);
        add_columns_plain(&columns, &a, &mut right);
        assert_eq!(left, right);
        let (mut left, mut right) = (v.clone(), v.clone());
        multiply(columns[0], columns[1], &mut left);
        multiply_plain(columns[0], columns[1], &mut right);
        assert_eq!(left, right);
    }
}
