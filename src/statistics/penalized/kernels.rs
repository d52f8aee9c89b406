//! The loops that the path spends its time in, over contiguous columns.
//!
//! Each is written once, in eight fixed lanes, and compiled twice: plain, and with AVX2 where the processor has it. Lanes and
//! order are the same in both and nothing is fused, so the bits are the same on any processor. Large ones are shared among
//! threads by column or by row, which changes no sum.

use rayon::prelude::*;

/// Sums run in this many lanes; vectors have a multiple of it, columns need not.
pub(super) const LANES: usize = 8;
/// Entries from which on threads share a loop; fewer take microseconds.
const SHARED_FROM: usize = 1 << 20;
/// Columns, and rows, of a thread's part.
const PART_COLUMNS: usize = 16;
const PART_ROWS: usize = 2048;
/// Most rows that [`products`] takes at once: four columns of them fit the first level of the cache.
pub(super) const BLOCK: usize = 512;

/// A column as it is stored; standardized it is (value - center) scale.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column<'a> {
    pub(super) values: &'a [f64],
    pub(super) center: f64,
    pub(super) scale: f64,
}

impl<'a> Column<'a> {
    pub(super) fn standardized(self) -> impl Iterator<Item = f64> + 'a {
        self.values.iter().map(move |v| (v - self.center) * self.scale)
    }

    /// Some of its rows; `to` may lie beyond the last.
    pub(super) fn rows(self, from: usize, to: usize) -> Column<'a> {
        let end = to.min(self.values.len());
        Column { values: &self.values[from.min(end)..end], ..self }
    }
}

/// `out[k]` = `columns[k]` · `v`.
pub(super) fn dots(columns: &[Column], v: &[f64], out: &mut [f64]) {
    if columns.len() * v.len() < SHARED_FROM {
        return dots_one(columns, v, out);
    }
    let parts = out.par_chunks_mut(PART_COLUMNS).zip(columns.par_chunks(PART_COLUMNS));
    parts.for_each(|(out, columns)| dots_one(columns, v, out));
}

/// `out` += sum over k of `factors[k]` `columns[k]`.
pub(super) fn add_columns(columns: &[Column], factors: &[f64], out: &mut [f64]) {
    if columns.len() * out.len() < SHARED_FROM {
        return add_columns_one(columns, factors, out);
    }
    out.par_chunks_mut(PART_ROWS).enumerate().for_each(|(k, out)| {
        let from = k * PART_ROWS;
        let columns: Vec<Column> = columns.iter().map(|c| c.rows(from, from + out.len())).collect();
        add_columns_one(&columns, factors, out);
    });
}

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
    /// [`dots`] in this thread.
    dots_one => dots_plain, (columns: &[Column], v: &[f64], out: &mut [f64])
}
twice! {
    /// [`add_columns`] in this thread.
    add_columns_one => add_columns_plain, (columns: &[Column], factors: &[f64], out: &mut [f64])
}
twice! {
    /// `out` = `a` times `b`, entry by entry; 0 beyond the last row of `a`.
    multiply => multiply_plain, (a: Column, b: &[f64], out: &mut [f64])
}
twice! {
    /// Entry c of row k of `out` += column k of `weighted` · `columns[c]`. `weighted`: an even number of columns of `rows`
    /// entries, a multiple of [`LANES`] up to [`BLOCK`]; `out`: as many rows of `columns.len()` entries.
    products => products_plain, (columns: &[Column], weighted: &[f64], rows: usize, out: &mut [f64])
}

#[inline(always)]
fn dots_plain(columns: &[Column], v: &[f64], out: &mut [f64]) {
    let (fours, rest) = columns.as_chunks::<4>();
    let (out_fours, out_rest) = out.as_chunks_mut::<4>();
    for (out, four) in out_fours.iter_mut().zip(fours) {
        // Copies are stored centered; they are spared the subtraction.
        *out = if four.iter().all(|c| c.center == 0.0) {
            dots_with::<4, false>(four, v)
        } else {
            dots_with::<4, true>(four, v)
        };
    }
    for (out, column) in out_rest.iter_mut().zip(rest) {
        [*out] = dots_with::<1, true>(&[*column], v);
    }
}

/// `N` columns against one vector, which is read once.
#[inline(always)]
fn dots_with<const N: usize, const CENTERED: bool>(columns: &[Column; N], v: &[f64]) -> [f64; N] {
    let rows = columns.iter().map(|c| c.values.len()).fold(v.len(), usize::min) / LANES;
    let chunks = columns.map(|column| &column.values.as_chunks::<LANES>().0[..rows]);
    let centers = columns.map(|column| column.center);
    let v_chunks = &v.as_chunks::<LANES>().0[..rows];
    let mut sums = [[0.0; LANES]; N];
    for i in 0..rows {
        for k in 0..N {
            for lane in 0..LANES {
                let value = chunks[k][i][lane];
                let value = if CENTERED { value - centers[k] } else { value };
                sums[k][lane] += value * v_chunks[i][lane];
            }
        }
    }
    let mut found = sums.map(|s| ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7])));
    for (found, column) in found.iter_mut().zip(columns) {
        for (value, v) in column.values.iter().zip(v).skip(rows * LANES) {
            *found += (value - column.center) * v;
        }
        *found *= column.scale;
    }
    found
}

#[inline(always)]
fn add_columns_plain(columns: &[Column], factors: &[f64], out: &mut [f64]) {
    let (fours, rest) = columns.as_chunks::<4>();
    let (four_factors, rest_factors) = factors.as_chunks::<4>();
    for (four, f) in fours.iter().zip(four_factors) {
        let f: [f64; 4] = std::array::from_fn(|k| f[k] * four[k].scale);
        let c = four.map(|column| column.center);
        let [a, b, d, e] = four.map(|column| column.values);
        let rows = out.iter_mut().zip(a).zip(b).zip(d).zip(e);
        if c == [0.0; 4] {
            rows.for_each(|((((out, a), b), d), e)| *out += (f[0] * a + f[1] * b) + (f[2] * d + f[3] * e));
        } else {
            rows.for_each(|((((out, a), b), d), e)| {
                *out += (f[0] * (a - c[0]) + f[1] * (b - c[1])) + (f[2] * (d - c[2]) + f[3] * (e - c[3]));
            });
        }
    }
    for (column, f) in rest.iter().zip(rest_factors) {
        let (f, c) = (f * column.scale, column.center);
        out.iter_mut().zip(column.values).for_each(|(out, a)| *out += f * (a - c));
    }
}

#[inline(always)]
fn multiply_plain(a: Column, b: &[f64], out: &mut [f64]) {
    let (scale, center) = (a.scale, a.center);
    let (used, beyond) = out.split_at_mut(a.values.len());
    for ((out, a), b) in used.iter_mut().zip(a.values).zip(b) {
        *out = ((a - center) * scale) * b;
    }
    beyond.fill(0.0);
}

#[inline(always)]
fn products_plain(columns: &[Column], weighted: &[f64], rows: usize, out: &mut [f64]) {
    let mut four = [0.0; 4 * BLOCK];
    let four = &mut four[..4 * rows];
    for (c, quad) in columns.chunks(4).enumerate() {
        four.fill(0.0);
        for (column, to) in quad.iter().zip(four.chunks_exact_mut(rows)) {
            let (scale, center) = (column.scale, column.center);
            to.iter_mut().zip(column.values).for_each(|(to, v)| *to = (v - center) * scale);
        }
        for (pair, two) in weighted.chunks_exact(2 * rows).enumerate() {
            for (k, sums) in tile(four, two, rows).iter().enumerate() {
                let at = (2 * pair + k) * columns.len() + 4 * c;
                out[at..at + quad.len()].iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
            }
        }
    }
}

/// Two columns times four: eight sums in registers, each value loaded once.
#[inline(always)]
fn tile(four: &[f64], two: &[f64], rows: usize) -> [[f64; 4]; 2] {
    let chunks = rows / 4;
    let b: [&[[f64; 4]]; 4] = std::array::from_fn(|c| &four[c * rows..].as_chunks::<4>().0[..chunks]);
    let w: [&[[f64; 4]]; 2] = std::array::from_fn(|k| &two[k * rows..].as_chunks::<4>().0[..chunks]);
    let mut sums = [[[0.0; 4]; 4]; 2];
    for i in 0..chunks {
        for k in 0..2 {
            for c in 0..4 {
                for lane in 0..4 {
                    sums[k][c][lane] += b[c][i][lane] * w[k][i][lane];
                }
            }
        }
    }
    sums.map(|row| row.map(|s| (s[0] + s[2]) + (s[1] + s[3])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_compilations_give_the_same_bits() {
        let value = |i: usize| ((i * 7919) % 1000) as f64 / 37.0 - 13.0;
        let columns: Vec<Vec<f64>> = (0..7).map(|k| (0..45).map(|i| value(i + 61 * k)).collect()).collect();
        let v: Vec<f64> = (0..48).map(|i| value(3 * i + 5)).collect();
        for (center, scale) in [(0.0, 1.0), (3.0, 0.25)] {
            let columns: Vec<Column> = columns.iter().map(|values| Column { values, center, scale }).collect();
            let (mut a, mut b) = ([0.0; 7], [0.0; 7]);
            dots_one(&columns, &v, &mut a);
            dots_plain(&columns, &v, &mut b);
            assert_eq!(a, b);
            for k in 0..7 {
                let by_hand: f64 = columns[k].values.iter().zip(&v).map(|(a, b)| (a - center) * scale * b).sum();
                assert!((a[k] - by_hand).abs() < 1e-9);
            }
            let (mut left, mut right) = (v.clone(), v.clone());
            add_columns_one(&columns, &a, &mut left);
            add_columns_plain(&columns, &a, &mut right);
            assert_eq!(left, right);
            let (mut left, mut right) = (v.clone(), v.clone());
            multiply(columns[0], &v, &mut left);
            multiply_plain(columns[0], &v, &mut right);
            assert_eq!(left, right);
            let weighted: Vec<f64> = (0..96).map(|i| value(5 * i + 2)).collect();
            let (mut left, mut right) = ([0.0; 14], [0.0; 14]);
            products(&columns, &weighted, 48, &mut left);
            products_plain(&columns, &weighted, 48, &mut right);
            assert_eq!(left, right);
            let by_hand: f64 = columns[6].standardized().zip(&weighted[48..]).map(|(a, w)| a * w).sum();
            assert!((left[13] - by_hand).abs() < 1e-9);
        }
    }

    #[test]
    fn shared_loops_give_the_same_bits() {
        let values: Vec<f64> = (0..40 * 30_000).map(|i| ((i * 7919) % 1000) as f64 / 37.0).collect();
        let columns: Vec<Column> =
            values.chunks(30_000).map(|values| Column { values, center: 13.0, scale: 0.5 }).collect();
        let v: Vec<f64> = (0..30_000).map(|i| ((i * 31) % 77) as f64).collect();
        let (mut shared, mut alone) = ([0.0; 40], [0.0; 40]);
        dots(&columns, &v, &mut shared);
        dots_one(&columns, &v, &mut alone);
        assert_eq!(shared, alone);
        let (mut left, mut right) = (v.clone(), v.clone());
        add_columns(&columns, &alone, &mut left);
        add_columns_one(&columns, &alone, &mut right);
        assert_eq!(left, right);
    }
}
