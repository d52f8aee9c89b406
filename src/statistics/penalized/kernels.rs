//! The four loops that the path spends its time in, over contiguous columns.
//!
//! Each is written once, in eight fixed lanes, and compiled twice: plain, and with AVX2 where the processor has it. Lanes and
//! order are the same in both and nothing is fused, so the bits are the same on any processor.

/// Sums run in this many lanes.
const LANES: usize = 8;

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
    let mut k = 0;
    while k + 4 <= columns.len() {
        let found = four_dots([columns[k], columns[k + 1], columns[k + 2], columns[k + 3]], v);
        out[k..k + 4].copy_from_slice(&found);
        k += 4;
    }
    while k < columns.len() {
        out[k] = four_dots([columns[k]], v)[0];
        k += 1;
    }
}

/// `N` columns against one vector: it is read once.
#[inline(always)]
fn four_dots<const N: usize>(columns: [&[f64]; N], v: &[f64]) -> [f64; N] {
    let n = v.len();
    let whole = n - n % LANES;
    let mut sums = [[0.0; LANES]; N];
    let mut i = 0;
    while i < whole {
        let part: &[f64; LANES] = v[i..i + LANES].try_into().expect("a slice of that length");
        for (sum, column) in sums.iter_mut().zip(&columns) {
            let column: &[f64; LANES] = column[i..i + LANES].try_into().expect("a slice of that length");
            for lane in 0..LANES {
                sum[lane] += column[lane] * part[lane];
            }
        }
        i += LANES;
    }
    let mut found = [0.0; N];
    for k in 0..N {
        let s = &sums[k];
        let mut total = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
        for i in whole..n {
            total += columns[k][i] * v[i];
        }
        found[k] = total;
    }
    found
}

#[inline(always)]
fn add_columns_plain(columns: &[&[f64]], factors: &[f64], out: &mut [f64]) {
    let mut k = 0;
    while k + 4 <= columns.len() {
        let (a, b, c, d) = (columns[k], columns[k + 1], columns[k + 2], columns[k + 3]);
        let f = &factors[k..k + 4];
        for ((((out, a), b), c), d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *out += (f[0] * a + f[1] * b) + (f[2] * c + f[3] * d);
        }
        k += 4;
    }
    while k < columns.len() {
        let f = factors[k];
        for (out, a) in out.iter_mut().zip(columns[k]) {
            *out += f * a;
        }
        k += 1;
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
        let columns: Vec<Vec<f64>> = (0..7).map(|k| (0..45).map(|i| value(i + 61 * k)).collect()).collect();
        let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        let v: Vec<f64> = (0..45).map(|i| value(3 * i + 5)).collect();
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
