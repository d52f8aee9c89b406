//! Resampling along one axis as scipy's `zoom(mode="nearest", grid_mode=True)` does it: half-pixel coordinates, edges
//! repeated.

/// Pole of the cubic B-spline's prefilter, sqrt(3) - 2.
const POLE: f32 = -0.267_949_2;
/// Columns that are worked on together: 512 rows of 64 fit into the second cache.
const WIDTH: usize = 64;
/// Samples beyond each end that four taps can reach.
const BEYOND: usize = 2;

type Row = [f32; WIDTH];

/// Spline order of a resampling; nnU-Net's plans name it by these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// 0.
    Nearest,
    /// 1.
    Linear,
    /// 3.
    Cubic,
}

impl Order {
    /// The order with this number.
    pub fn from_number(n: i64) -> Option<Order> {
        match n {
            0 => Some(Order::Nearest),
            1 => Some(Order::Linear),
            3 => Some(Order::Cubic),
            _ => None,
        }
    }

    /// The number of this order.
    pub fn number(self) -> i64 {
        match self {
            Order::Nearest => 0,
            Order::Linear => 1,
            Order::Cubic => 3,
        }
    }
}

/// Where target voxel `k` lies among `n_source` voxels: half-pixel coordinates, in scipy's order of operations.
pub fn coordinate(k: usize, n_source: usize, n_target: usize) -> f64 {
    n_source as f64 / n_target as f64 * (k as f64 + 0.5) - 0.5
}

/// The source voxel of order 0.
pub fn nearest(k: usize, n_source: usize, n_target: usize) -> usize {
    (coordinate(k, n_source, n_target).clamp(0.0, n_source as f64 - 1.0) + 0.5).floor() as usize
}

/// The two source voxels of order 1 and the share of the second.
pub fn linear(k: usize, n_source: usize, n_target: usize) -> (usize, usize, f32) {
    let at = coordinate(k, n_source, n_target).clamp(0.0, n_source as f64 - 1.0);
    let low = at.floor() as usize;
    (low, (low + 1).min(n_source - 1), (at - low as f64) as f32)
}

/// One axis of a resampling, prepared: four taps per target voxel.
pub struct Axis1 {
    n_source: usize,
    cubic: bool,
    /// First of the four taps, counted from [`BEYOND`] samples before the first, and their weights.
    taps: Vec<(usize, [f32; 4])>,
}

impl Axis1 {
    /// From `n_source` to `n_target` voxels, neither 0.
    pub fn new(n_source: usize, n_target: usize, order: Order) -> Axis1 {
        let tap = |k: usize| match order {
            Order::Nearest => (nearest(k, n_source, n_target) + BEYOND, [1.0, 0.0, 0.0, 0.0]),
            Order::Linear => {
                let (low, _, share) = linear(k, n_source, n_target);
                (low + BEYOND, [1.0 - share, share, 0.0, 0.0])
            }
            Order::Cubic => {
                let at = coordinate(k, n_source, n_target);
                let low = at.floor();
                let t = at - low;
                let u = 1.0 - t;
                let weights = [
                    u * u * u / 6.0,
                    (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0,
                    (4.0 - 6.0 * u * u + 3.0 * u * u * u) / 6.0,
                    t * t * t / 6.0,
                ];
                // The lowest coordinate is just above -0.5, so the first tap is sample -2 at the least.
                ((low as i64 - 1 + BEYOND as i64).max(0) as usize, weights.map(|w| w as f32))
            }
        };
        // Order 0 and 1 may name taps past the end, with weight 0: the last start leaves room for four.
        let fits = |(first, weights): (usize, [f32; 4])| {
            let shift = (first + 4).saturating_sub(n_source + 2 * BEYOND);
            let mut moved = [0.0; 4];
            moved[shift..].copy_from_slice(&weights[..4 - shift]);
            (first - shift, moved)
        };
        Axis1 { n_source, cubic: order == Order::Cubic, taps: (0..n_target).map(tap).map(fits).collect() }
    }

    /// Number of target voxels.
    pub fn n_target(&self) -> usize {
        self.taps.len()
    }

    /// Resamples a block of columns: `source(k)` is row `k` (all columns), `put(k, columns, values)` takes a part of
    /// target row `k`.
    pub fn resample<'a>(
        &self,
        n_columns: usize,
        source: impl Fn(usize) -> &'a [f32],
        mut put: impl FnMut(usize, std::ops::Range<usize>, &[f32]),
        scratch: &mut Vec<Row>,
    ) {
        let mut out = [0.0; WIDTH];
        scratch.resize(self.n_source + 2 * BEYOND, [0.0; WIDTH]);
        for first in (0..n_columns).step_by(WIDTH) {
            let columns = first..(first + WIDTH).min(n_columns);
            for (k, row) in scratch[BEYOND..BEYOND + self.n_source].iter_mut().enumerate() {
                row[..columns.len()].copy_from_slice(&source(k)[columns.clone()]);
            }
            if self.cubic {
                prefilter(scratch)
            } else {
                extend(scratch)
            }
            for (k, (tap, weights)) in self.taps.iter().enumerate() {
                if let Some([a, b, c, d]) = scratch[*tap..].first_chunk::<4>() {
                    weigh(&mut out, [a, b, c, d], weights);
                }
                put(k, columns.clone(), &out[..columns.len()]);
            }
        }
    }
}

fn weigh(out: &mut Row, [a, b, c, d]: [&Row; 4], weights: &[f32; 4]) {
    let [w_a, w_b, w_c, w_d] = *weights;
    for ((((out, a), b), c), d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
        *out = w_a * a + w_b * b + w_c * c + w_d * d;
    }
}

/// Repeats the end rows.
fn extend(rows: &mut [Row]) {
    let last = rows.len() - BEYOND - 1;
    (rows[0], rows[1]) = (rows[BEYOND], rows[BEYOND]);
    (rows[last + 1], rows[last + 2]) = (rows[last], rows[last]);
}

/// Samples to B-spline coefficients, down the columns, as if the end samples went on forever. scipy pads 12 of them and
/// reflects, which differs by pole^24 = 2e-14.
fn prefilter(rows: &mut [Row]) {
    // Of the causal pass c+[k] = 6 s[k] + pole c+[k-1]: a constant s settles at 6 s / (1 - pole).
    const SETTLED: f32 = 6.0 / (1.0 - POLE);
    let last = rows.len() - BEYOND - 1;
    let settled_low = rows[BEYOND].map(|s| SETTLED * s);
    let settled_high = rows[last].map(|s| SETTLED * s);
    rows[BEYOND] = settled_low;
    for k in BEYOND + 1..=last {
        let [before, row] = &mut rows[k - 1..=k] else { return };
        row.iter_mut().zip(&*before).for_each(|(v, before)| *v = 6.0 * *v + POLE * before);
    }
    let end = last + BEYOND;
    for k in last + 1..=end {
        let [before, row] = &mut rows[k - 1..=k] else { return };
        for ((v, before), settled) in row.iter_mut().zip(&*before).zip(&settled_high) {
            *v = settled * (1.0 - POLE) + POLE * before; // the sample goes on: 6 s = settled (1 - pole)
        }
    }
    // The anticausal pass c[k] = pole (c[k+1] - c+[k]) from infinity, where c+ differs from settled by powers of the pole.
    for (v, settled) in rows[end].iter_mut().zip(&settled_high) {
        let away = *v - settled;
        *v = -POLE / (1.0 - POLE) * settled - POLE / (1.0 - POLE * POLE) * away;
    }
    for k in (BEYOND..end).rev() {
        let [row, after] = &mut rows[k..=k + 1] else { return };
        row.iter_mut().zip(&*after).for_each(|(v, after)| *v = POLE * (after - *v));
    }
    for k in (0..BEYOND).rev() {
        let [row, after] = &mut rows[k..=k + 1] else { return };
        for ((v, after), settled) in row.iter_mut().zip(&*after).zip(&settled_low) {
            *v = POLE * (after - settled);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: &[f32], n: usize, order: Order) -> Vec<f32> {
        let mut out = vec![0.0; n];
        Axis1::new(values.len(), n, order).resample(1, |k| &values[k..=k], |k, _, v| out[k] = v[0], &mut Vec::new());
        out
    }

    #[test]
    fn lines_are_those_of_scipy() {
        // scipy 1.17.1: scipy.ndimage.zoom(line, n / 7, order=order, mode="nearest", grid_mode=True)
        let values = [1.0, 4.0, -2.0, 0.5, 3.0, 3.0, -1.0];
        let cases: [(usize, Order, &[f32]); 6] = SCIPY;
        for (n, order, expected) in cases {
            for (found, expected) in line(&values, n, order).iter().zip(expected) {
                assert!((found - expected).abs() < 2e-6, "{n} {order:?}: {found} {expected}");
            }
        }
    }

    #[test]
    fn one_voxel_and_constants_stay_themselves() {
        for order in [Order::Nearest, Order::Linear, Order::Cubic] {
            for (n, m) in [(1, 1), (1, 5), (2, 7), (9, 2), (100, 33)] {
                for v in line(&vec![3.5; n], m, order) {
                    assert!((v - 3.5).abs() < 1e-5, "{n} -> {m} {order:?}: {v}");
                }
            }
        }
    }

    const SCIPY: [(usize, Order, &[f32]); 6] = [
        (11, Order::Nearest, &[1.0, 1.0, 4.0, -2.0, -2.0, 0.5, 3.0, 3.0, 3.0, -1.0, -1.0]),
        (
            11,
            Order::Linear,
            &[1.0, 2.363636, 3.454545, -0.3636364, -1.090909, 0.5, 2.090909, 3.0, 3.0, 0.8181818, -1.0],
        ),
        (
            11,
            Order::Cubic,
            &[
                0.6120917, 2.953656, 3.716345, -0.5771703, -2.054508, 0.5, 2.372045, 3.370221, 3.219144, 0.7512387,
                -1.319155,
            ],
        ),
        (3, Order::Nearest, &[4.0, 0.5, 3.0]),
        (3, Order::Linear, &[3.0, 0.5, 1.666667]),
        (3, Order::Cubic, &[3.774795, 0.5, 1.736831]),
    ];
}
