//! Eigenvalues of small symmetric matrices: axes of a region, and the maximal correlation coefficient.

/// Eigenvalues of a symmetric 3 x 3 matrix, by Jacobi rotations; exact zeros stay exact.
pub(super) fn symmetric3(mut m: [[f64; 3]; 3]) -> [f64; 3] {
    for _ in 0..50 {
        let off = m[0][1].abs().max(m[0][2].abs()).max(m[1][2].abs());
        if off == 0.0 {
            break;
        }
        for (p, q) in [(0, 1), (0, 2), (1, 2)] {
            if m[p][q] == 0.0 {
                continue;
            }
            let theta = (m[q][q] - m[p][p]) / (2.0 * m[p][q]);
            let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
            let c = 1.0 / (t * t + 1.0).sqrt();
            let s = t * c;
            let (pq, r) = (m[p][q], 3 - p - q);
            m[p][p] -= t * pq;
            m[q][q] += t * pq;
            m[p][q] = 0.0;
            m[q][p] = 0.0;
            let (rp, rq) = (m[r][p], m[r][q]);
            m[r][p] = c * rp - s * rq;
            m[r][q] = s * rp + c * rq;
            m[p][r] = m[r][p];
            m[q][r] = m[r][q];
        }
    }
    [m[0][0], m[1][1], m[2][2]]
}

/// Largest eigenvalue of a symmetric matrix (row after row, n x n) and a unit vector of it.
/// Householder reduction to three diagonals, bisection by Sturm's count, inverse iteration, and the way back.
pub(super) fn largest(mut m: Vec<f64>, n: usize) -> (f64, Vec<f64>) {
    if n == 0 {
        return (f64::NAN, Vec::new());
    }
    let (mut diagonal, mut beside) = (vec![0.0; n], vec![0.0; n]);
    let mut mirrors: Vec<Vec<f64>> = Vec::new(); // mirror k acts on components k+1..n
    for k in 0..n {
        diagonal[k] = m[k * n + k];
        if k + 1 >= n {
            break;
        }
        let mut v: Vec<f64> = (k + 1..n).map(|i| m[i * n + k]).collect();
        let tail: f64 = v[1..].iter().map(|x| x * x).sum();
        if tail == 0.0 {
            beside[k] = v[0];
            mirrors.push(Vec::new());
            continue;
        }
        let length = (v[0] * v[0] + tail).sqrt();
        let alpha = if v[0] > 0.0 { -length } else { length };
        beside[k] = alpha;
        v[0] -= alpha;
        let norm = (v[0] * v[0] + tail).sqrt();
        v.iter_mut().for_each(|x| *x /= norm);
        // B <- (I - 2 v v') B (I - 2 v v') on the remaining block, with p = B v and q = p - (v.p) v.
        let size = v.len();
        let mut p = vec![0.0; size];
        for (i, p) in p.iter_mut().enumerate() {
            let row = &m[(k + 1 + i) * n + k + 1..(k + 1 + i) * n + n];
            *p = row.iter().zip(&v).map(|(a, b)| a * b).sum();
        }
        let inner: f64 = p.iter().zip(&v).map(|(a, b)| a * b).sum();
        let q: Vec<f64> = p.iter().zip(&v).map(|(p, v)| p - inner * v).collect();
        for i in 0..size {
            let row = &mut m[(k + 1 + i) * n + k + 1..(k + 1 + i) * n + n];
            let (vi, qi) = (2.0 * v[i], 2.0 * q[i]);
            row.iter_mut().zip(v.iter().zip(&q)).for_each(|(cell, (vj, qj))| *cell -= vi * qj + qi * vj);
        }
        mirrors.push(v);
    }
    let value = top_of_tridiagonal(&diagonal, &beside);
    let mut vector = inverse_iteration(&diagonal, &beside, value);
    for (k, v) in mirrors.iter().enumerate().rev().filter(|(_, v)| !v.is_empty()) {
        let tail = &mut vector[k + 1..];
        let inner: f64 = tail.iter().zip(v).map(|(a, b)| a * b).sum();
        tail.iter_mut().zip(v).for_each(|(a, b)| *a -= 2.0 * inner * b);
    }
    (value, vector)
}

/// Largest eigenvalue of a matrix with three diagonals.
fn top_of_tridiagonal(diagonal: &[f64], beside: &[f64]) -> f64 {
    let n = diagonal.len();
    let side = |i: usize| if i > 0 { beside[i - 1].abs() } else { 0.0 } + if i + 1 < n { beside[i].abs() } else { 0.0 };
    let mut low = (0..n).map(|i| diagonal[i] - side(i)).fold(f64::INFINITY, f64::min);
    let mut high = (0..n).map(|i| diagonal[i] + side(i)).fold(f64::NEG_INFINITY, f64::max);
    if !low.is_finite() || !high.is_finite() {
        return f64::NAN;
    }
    let tiny = f64::MIN_POSITIVE / f64::EPSILON;
    // All eigenvalues lie below x when every pivot of (T - x) is negative.
    let all_below = |x: f64| {
        let mut pivot = diagonal[0] - x;
        for i in 1..n {
            if pivot >= 0.0 {
                return false;
            }
            pivot = diagonal[i] - x - beside[i - 1] * beside[i - 1] / pivot.min(-tiny);
        }
        pivot < 0.0
    };
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if all_below(middle) { high = middle } else { low = middle }
    }
    0.5 * (low + high)
}

/// Unit eigenvector of a matrix with three diagonals for a known eigenvalue: three solves with row exchanges.
fn inverse_iteration(diagonal: &[f64], beside: &[f64], value: f64) -> Vec<f64> {
    let n = diagonal.len();
    let scale = diagonal.iter().chain(beside).fold(1e-200, |a, b| f64::max(a, b.abs()));
    let mut x: Vec<f64> = (0..n).map(|i| 1.0 + (i % 7) as f64 * 0.1).collect();
    for _ in 0..3 {
        // Rows of U: diagonal and two above it.
        let mut rows = vec![[0.0f64; 3]; n];
        let mut current = [diagonal[0] - value, if n > 1 { beside[0] } else { 0.0 }, 0.0];
        for i in 0..n {
            if i + 1 == n {
                rows[i] = current;
                break;
            }
            let next = [beside[i], diagonal[i + 1] - value, if i + 2 < n { beside[i + 1] } else { 0.0 }];
            let (pivot, other, swap) =
                if next[0].abs() > current[0].abs() { (next, current, true) } else { (current, next, false) };
            if swap {
                x.swap(i, i + 1);
            }
            let factor = if pivot[0] == 0.0 { 0.0 } else { other[0] / pivot[0] };
            rows[i] = pivot;
            let rest = x[i];
            x[i + 1] -= factor * rest;
            current = [other[1] - factor * pivot[1], other[2] - factor * pivot[2], 0.0];
        }
        for i in (0..n).rev() {
            let above = |k: usize| if i + k < n { rows[i][k] * x[i + k] } else { 0.0 };
            let rest = x[i] - above(1) - above(2);
            let smallest = scale * f64::EPSILON;
            x[i] = rest / if rows[i][0].abs() < smallest { smallest } else { rows[i][0] };
        }
        let norm = x.iter().fold(0.0f64, |a, b| a.max(b.abs()));
        x.iter_mut().for_each(|v| *v /= norm);
        let norm = x.iter().map(|v| v * v).sum::<f64>().sqrt();
        x.iter_mut().for_each(|v| *v /= norm);
    }
    x
}

/// Solves m x = b (row after row) by elimination with row exchanges, and scales x to length 1; `None` if m is singular.
pub(super) fn solve(mut m: Vec<f64>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let n = b.len();
    for k in 0..n {
        let pivot = (k..n).max_by(|i, j| m[i * n + k].abs().total_cmp(&m[j * n + k].abs()))?;
        if m[pivot * n + k] == 0.0 {
            return None;
        }
        if pivot != k {
            (0..n).for_each(|j| m.swap(pivot * n + j, k * n + j));
            b.swap(pivot, k);
        }
        let (top, below) = m.split_at_mut((k + 1) * n);
        let row = &top[k * n..];
        for (i, other) in below.chunks_exact_mut(n).enumerate() {
            let factor = other[k] / row[k];
            if factor != 0.0 {
                other[k..].iter_mut().zip(&row[k..]).for_each(|(o, r)| *o -= factor * r);
                b[k + 1 + i] -= factor * b[k];
            }
        }
    }
    for k in (0..n).rev() {
        let known: f64 = m[k * n + k + 1..(k + 1) * n].iter().zip(&b[k + 1..]).map(|(a, x)| a * x).sum();
        b[k] = (b[k] - known) / m[k * n + k];
    }
    let norm = b.iter().map(|x| x * x).sum::<f64>().sqrt();
    if !norm.is_finite() || norm == 0.0 {
        return None;
    }
    b.iter_mut().for_each(|x| *x /= norm);
    Some(b)
}

/// A symmetric matrix on its way to eigenvalues: its diagonal and the elements beside it. Reused from matrix to matrix.
#[derive(Default)]
pub(super) struct Tridiagonal {
    diagonal: Vec<f64>,
    beside: Vec<f64>,
    mirror: Vec<f64>,
    image: Vec<f64>,
}

impl Tridiagonal {
    /// Second largest absolute eigenvalue of a symmetric matrix (row after row, n x n, n >= 2) of norm 1; errors are
    /// absolute, some 1e-16. The matrix is overwritten.
    pub fn second_largest(&mut self, m: &mut [f64], n: usize) -> f64 {
        self.reduce(m, n);
        self.iterate(n);
        let (mut first, mut second) = (0.0f64, 0.0f64);
        for value in &self.diagonal {
            let value = value.abs();
            second = second.max(value.min(first));
            first = first.max(value);
        }
        second
    }

    /// Householder reduction to three diagonals.
    fn reduce(&mut self, m: &mut [f64], n: usize) {
        self.diagonal.clear();
        self.beside.clear();
        for k in 0..n {
            self.diagonal.push(m[k * n + k]);
            let v = &mut self.mirror;
            v.clear();
            v.extend_from_slice(&m[k * n + k + 1..(k + 1) * n]);
            let tail: f64 = v.iter().skip(1).map(|x| x * x).sum();
            let Some(first) = v.first().copied() else { break };
            if tail == 0.0 {
                self.beside.push(first);
                continue;
            }
            let length = (first * first + tail).sqrt();
            let alpha = if first > 0.0 { -length } else { length };
            self.beside.push(alpha);
            // (I - 2 v v') B (I - 2 v v') on the remaining block, with v = mirror / norm and p = B v, q = p - (v.p) v.
            v[0] = first - alpha;
            let scale = 1.0 / (v[0] * v[0] + tail).sqrt();
            v.iter_mut().for_each(|x| *x *= scale);
            let p = &mut self.image;
            p.clear();
            for i in k + 1..n {
                p.push(m[i * n + k + 1..(i + 1) * n].iter().zip(v.iter()).map(|(a, b)| a * b).sum());
            }
            let along: f64 = p.iter().zip(v.iter()).map(|(a, b)| a * b).sum();
            p.iter_mut().zip(v.iter()).for_each(|(p, v)| *p = 2.0 * (*p - along * v));
            for (i, row) in m.chunks_exact_mut(n).enumerate().skip(k + 1) {
                let (vi, pi) = (v[i - k - 1], p[i - k - 1]);
                for (cell, (v, p)) in row[k + 1..].iter_mut().zip(v.iter().zip(p.iter())) {
                    *cell -= vi * p + pi * v;
                }
            }
        }
        self.beside.resize(n, 0.0);
    }

    /// Implicit QL steps with Wilkinson's shift, until nothing is left beside the diagonal.
    fn iterate(&mut self, n: usize) {
        let (d, e) = (&mut self.diagonal[..n], &mut self.beside[..n]);
        for l in 0..n {
            for _ in 0..STEPS_MAX {
                let small = |k: &usize| e[*k].abs() <= f64::EPSILON * (d[*k].abs() + d[*k + 1].abs() + 0.01);
                let end = (l..n - 1).find(small).unwrap_or(n - 1);
                if end == l {
                    break;
                }
                let g = (d[l + 1] - d[l]) / (2.0 * e[l]);
                let mut g = d[end] - d[l] + e[l] / (g + (g * g + 1.0).sqrt().copysign(g));
                let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
                let mut split = false;
                for i in (l..end).rev() {
                    let (f, b) = (s * e[i], c * e[i]);
                    let r = (f * f + g * g).sqrt();
                    e[i + 1] = r;
                    if r == 0.0 {
                        d[i + 1] -= p;
                        split = true;
                        break;
                    }
                    (s, c) = (f / r, g / r);
                    g = d[i + 1] - p;
                    let t = (d[i] - g) * s + 2.0 * c * b;
                    p = s * t;
                    d[i + 1] = g + p;
                    g = c * t - b;
                }
                if !split {
                    d[l] -= p;
                    e[l] = g;
                }
                e[end] = 0.0;
            }
        }
    }
}

/// Steps per eigenvalue; two or three are usual.
const STEPS_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvalues_of_three_by_three() {
        let mut found = symmetric3([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 5.0]]);
        found.sort_unstable_by(f64::total_cmp);
        for (a, b) in found.iter().zip([1.0, 3.0, 5.0]) {
            assert!((a - b).abs() < 1e-14);
        }
        assert_eq!(symmetric3([[0.0; 3], [0.0, 2.0, 0.0], [0.0; 3]]), [0.0, 2.0, 0.0]);
    }

    #[test]
    fn equations_are_solved_to_a_direction() {
        let x = solve(vec![0.0, 2.0, 1.0, 1.0], vec![8.0, 7.0]).unwrap(); // 2 y = 8, x + y = 7: (3, 4)
        assert!((x[0] - 0.6).abs() < 1e-14 && (x[1] - 0.8).abs() < 1e-14);
        assert_eq!(solve(vec![1.0, 1.0, 1.0, 1.0], vec![1.0, 2.0]), None);
    }

    #[test]
    fn the_largest_eigenpair_solves_its_equation() {
        for n in [1, 2, 3, 10, 40] {
            let cell = |i: usize, j: usize| ((i * j + i + j) as f64 * 0.7).sin() + if i == j { 1.0 } else { 0.0 };
            let m: Vec<f64> = (0..n * n).map(|k| cell(k / n, k % n)).collect();
            let (value, vector) = largest(m.clone(), n);
            for i in 0..n {
                let product: f64 = (0..n).map(|j| m[i * n + j] * vector[j]).sum();
                assert!(
                    (product - value * vector[i]).abs() < 1e-12 * n as f64,
                    "n {n}: {product} {}",
                    value * vector[i]
                );
            }
        }
        let (value, _) = largest(vec![0.0; 9], 3);
        assert!(value.abs() < 1e-300);
    }

    #[test]
    fn the_second_largest_eigenvalue_is_that_of_the_matrix() {
        // Eigenvalues of a ring of n with 1/2 beside the diagonal: cos(2 pi k / n).
        for n in 3..40 {
            let mut m = vec![0.0; n * n];
            for i in 0..n {
                m[i * n + (i + 1) % n] += 0.5;
                m[(i + 1) % n * n + i] += 0.5;
            }
            let mut values: Vec<f64> =
                (0..n).map(|k| (std::f64::consts::TAU * k as f64 / n as f64).cos().abs()).collect();
            values.sort_unstable_by(f64::total_cmp);
            let found = Tridiagonal::default().second_largest(&mut m, n);
            assert!((found - values[n - 2]).abs() < 1e-14, "n {n}: {found} {}", values[n - 2]);
        }
        assert_eq!(Tridiagonal::default().second_largest(&mut [0.0; 9], 3), 0.0);
    }
}
