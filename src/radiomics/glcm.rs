//! GLCM: how often two gray levels are neighbors along an angle.

use super::discretize::{Levels, angles};
use super::settings::{Settings, Weighting};
use super::table::{Definition, Offer, offered, usual};
use rayon::prelude::*;

/// The features of this family, in the order of PyRadiomics' method names.
pub(super) const FEATURES: [Definition; 28] = [
    usual("Autocorrelation", "", "QWB0"),
    usual("ClusterProminence", "", "AE86"),
    usual("ClusterShade", "", "7NFM"),
    usual("ClusterTendency", "", "DG8W"),
    usual("Contrast", "", "ACUI"),
    usual("Correlation", "", "NI2N"),
    usual("DifferenceAverage", "", "TF7R"),
    usual("DifferenceEntropy", "bit", "NTRS"),
    usual("DifferenceVariance", "", "D3YU"),
    offered(Offer::Removed, usual("Dissimilarity", "", "8S9J")),
    offered(Offer::Removed, usual("Homogeneity1", "", "IB1Z")),
    offered(Offer::Removed, usual("Homogeneity2", "", "WF0Z")),
    usual("Id", "", "IB1Z"),
    usual("Idm", "", "WF0Z"),
    usual("Idmn", "", "1QCO"),
    usual("Idn", "", "NDRX"),
    usual("Imc1", "", "R8DG"),
    usual("Imc2", "", "JN9H"),
    usual("InverseVariance", "", "E8JP"),
    usual("JointAverage", "", "60VM"),
    usual("JointEnergy", "", "8ZQL"),
    usual("JointEntropy", "bit", "TU9B"),
    usual("MCC", "", ""),
    usual("MaximumProbability", "", "GYBY"),
    usual("SumAverage", "", "ZGXS"),
    usual("SumEntropy", "bit", "P6QZ"),
    usual("SumSquares", "", "UR99"),
    offered(Offer::Removed, usual("SumVariance", "", "OEEB")),
];

pub(super) const N: usize = 24;
/// The computed ones, in the order of [`features`].
pub(super) const NAMES: [&str; N] = [
    "Autocorrelation",
    "ClusterProminence",
    "ClusterShade",
    "ClusterTendency",
    "Contrast",
    "Correlation",
    "DifferenceAverage",
    "DifferenceEntropy",
    "DifferenceVariance",
    "Id",
    "Idm",
    "Idmn",
    "Idn",
    "Imc1",
    "Imc2",
    "InverseVariance",
    "JointAverage",
    "JointEnergy",
    "JointEntropy",
    "MCC",
    "MaximumProbability",
    "SumAverage",
    "SumEntropy",
    "SumSquares",
];

/// All features of this family: the mean over all angles that have pairs, or those of one weighted matrix.
/// `spacing` in mm, (z, y, x).
pub(super) fn compute(levels: &Levels, spacing: [f64; 3], settings: &Settings) -> Vec<(&'static str, f64)> {
    let angles = angles(levels.shape, &settings.distances, settings.flat_axis());
    let matrix = |angle: &[i32; 3]| Matrix::new(levels, levels.step(*angle), settings.symmetrical_glcm);
    let per_angle: Vec<[f64; N]> = match settings.weighting {
        None => {
            let of_angle = |angle: &[i32; 3]| {
                let matrix = matrix(angle);
                (matrix.sum > 0.0).then(|| features(matrix, &levels.present, levels.ng))
            };
            angles.par_iter().filter_map(of_angle).collect()
        }
        Some(norm) => {
            let matrices: Vec<Matrix> = angles.par_iter().map(matrix).collect();
            let n = levels.present.len();
            let mut merged = Matrix { n, p: vec![0.0; n * n], sum: 0.0 };
            for (matrix, angle) in matrices.iter().zip(&angles) {
                let weight = pair_weight(norm, *angle, spacing);
                merged.p.iter_mut().zip(&matrix.p).for_each(|(m, p)| *m += p * weight);
            }
            merged.sum = merged.p.iter().sum();
            if merged.sum > 0.0 { vec![features(merged, &levels.present, levels.ng)] } else { Vec::new() }
        }
    };
    NAMES.iter().enumerate().map(|(i, name)| (*name, mean(per_angle.iter().map(|f| f[i])))).collect()
}

/// What PyRadiomics warns of when it computes the feature with this name.
pub(super) fn warning(name: &str, symmetrical: bool) -> Option<&'static str> {
    match (name.rsplit('_').next()?, symmetrical) {
        ("JointAverage", false) => {
            Some("The formula for GLCM - Joint Average assumes that the GLCM is symmetrical, but this is not the case.")
        }
        ("SumSquares", false) => Some(
            "The formula for GLCM - Sum of Squares assumes that the GLCM is symmetrical, but this is not the case.",
        ),
        ("SumAverage", true) => {
            Some("GLCM is symmetrical, therefore Sum Average = 2 * Joint Average, only 1 needs to be calculated")
        }
        _ => None,
    }
}

/// Mean of the values that are numbers; NaN if there are none.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (n, sum) = values.filter(|v| !v.is_nan()).fold((0usize, 0.0), |(n, sum), v| (n + 1, sum + v));
    if n == 0 { f64::NAN } else { sum / n as f64 }
}

pub(super) fn pair_weight(norm: Weighting, angle: [i32; 3], spacing: [f64; 3]) -> f64 {
    let d = norm.distance(angle, spacing);
    if norm == Weighting::None { 1.0 } else { (-d * d).exp() }
}

/// Pairs along one angle, over the levels that occur (rows: the voxel, columns: its neighbor).
pub(super) struct Matrix {
    pub n: usize,
    pub p: Vec<f64>,
    pub sum: f64,
}

impl Matrix {
    fn new(levels: &Levels, step: isize, symmetric: bool) -> Matrix {
        let bits = usize::BITS - levels.ng.leading_zeros();
        let table = count(levels, step, bits);
        let n = levels.present.len();
        let at = |i: u16, j: u16| f64::from(table[usize::from(i) << bits | usize::from(j)]);
        let mut p = Vec::with_capacity(n * n);
        for i in &levels.present {
            p.extend(levels.present.iter().map(|j| if symmetric { at(*i, *j) + at(*j, *i) } else { at(*i, *j) }));
        }
        let sum = p.iter().sum();
        Matrix { n, p, sum }
    }
}

/// Pairs (level << bits | level of the neighbor). Level 0, outside, falls into row and column 0, so no voxel is tested.
/// Small tables are kept four times, for an increment would wait for the one before it in the same cell.
fn count(levels: &Levels, step: isize, bits: u32) -> Vec<u32> {
    let size = 1usize << (2 * bits);
    let n: u64 = levels.counts.iter().sum();
    let copies = if bits <= 8 && size as u64 * 16 <= n { 4 } else { 1 };
    let mut table = vec![0u32; size * copies];
    let mask = table.len() - 1;
    for z in 0..levels.shape[0] {
        for row in levels.rows(z) {
            let (a, b) = levels.pair(&row, step);
            for (x, (i, j)) in a.iter().zip(b).enumerate() {
                let copy = (x & (copies - 1)) << (2 * bits);
                table[(copy | usize::from(*i) << bits | usize::from(*j)) & mask] += 1;
            }
        }
    }
    let (first, rest) = table.split_at_mut(size);
    for copy in rest.chunks_exact(size) {
        first.iter_mut().zip(copy).for_each(|(a, b)| *a += b);
    }
    table.truncate(size);
    table
}

fn entropy(p: &[f64]) -> f64 {
    -p.iter().map(|p| p * (p + f64::EPSILON).log2()).sum::<f64>()
}

/// The features of one matrix over the levels `present`, of `ng` at most; in the order of [`NAMES`].
pub(super) fn features(matrix: Matrix, present: &[u16], ng: usize) -> [f64; N] {
    let Matrix { n, mut p, sum } = matrix;
    p.iter_mut().for_each(|v| *v /= sum);
    let level: Vec<f64> = present.iter().map(|l| f64::from(*l)).collect();
    let (mut px, mut py, mut ux, mut uy) = (vec![0.0; n], vec![0.0; n], 0.0, 0.0);
    let (mut plus, mut minus) = (vec![0.0; 2 * ng + 1], vec![0.0; ng]);
    let ng = ng as f64;
    for (i, row) in p.chunks_exact(n).enumerate() {
        let li = usize::from(present[i]);
        px[i] = row.iter().sum();
        for (j, v) in row.iter().enumerate() {
            let lj = usize::from(present[j]);
            // Cell by cell, as NumPy sums: where only one level occurs on a side, the last bit decides Correlation.
            ux += level[i] * v;
            uy += level[j] * v;
            py[j] += v;
            plus[li + lj] += v;
            minus[li.abs_diff(lj)] += v;
        }
    }
    let mut s = Sums::default();
    for (row, (px, i)) in p.chunks_exact(n).zip(px.iter().zip(&level)) {
        for (v, (py, j)) in row.iter().zip(py.iter().zip(&level)) {
            s.add(*v, px * py, *i, *j, ux, uy);
        }
    }
    let (hx, hy) = (entropy(&px), entropy(&py));
    let larger = hx.max(hy);
    let sigma = s.xx.sqrt() * s.yy.sqrt();
    let differences = || minus.iter().enumerate().map(|(k, v)| (k as f64, v));
    let over = |f: &dyn Fn(f64) -> f64| differences().map(|(k, v)| v / f(k)).sum::<f64>();
    let difference_average: f64 = differences().map(|(k, v)| k * v).sum();
    [
        s.product,
        s.fourth,
        s.third,
        s.second,
        s.contrast,
        if sigma == 0.0 { 1.0 } else { s.xy / (sigma + f64::EPSILON) },
        difference_average,
        entropy(&minus),
        differences().map(|(k, v)| v * (k - difference_average) * (k - difference_average)).sum(),
        over(&|k| 1.0 + k),
        over(&|k| 1.0 + k * k),
        over(&|k| 1.0 + k * k / (ng * ng)),
        over(&|k| 1.0 + k / ng),
        if larger == 0.0 { 0.0 } else { (s.hxy - s.hxy1) / larger },
        if s.hxy2 == s.hxy { 0.0 } else { (1.0 - (-2.0 * (s.hxy2 - s.hxy)).exp()).sqrt() },
        differences().skip(1).map(|(k, v)| v / (k * k)).sum(),
        ux,
        s.energy,
        s.hxy,
        maximal_correlation(&p, &px, &py),
        p.iter().copied().fold(0.0, f64::max),
        plus.iter().enumerate().map(|(k, v)| k as f64 * v).sum(),
        entropy(&plus),
        s.xx,
    ]
}

/// Sums over all cells of a matrix.
#[derive(Default)]
struct Sums {
    product: f64,
    second: f64,
    third: f64,
    fourth: f64,
    contrast: f64,
    xx: f64,
    yy: f64,
    xy: f64,
    energy: f64,
    hxy: f64,
    hxy1: f64,
    hxy2: f64,
}

impl Sums {
    fn add(&mut self, p: f64, pxpy: f64, i: f64, j: f64, ux: f64, uy: f64) {
        let (dx, dy, d) = (i - ux, j - uy, i + j - ux - uy);
        let log = (pxpy + f64::EPSILON).log2();
        self.hxy2 -= pxpy * log;
        if p == 0.0 {
            return; // every other term is a multiple of p
        }
        self.product += p * i * j;
        self.second += p * d * d;
        self.third += p * d * d * d;
        self.fourth += p * (d * d) * (d * d);
        self.contrast += p * (i - j) * (i - j);
        self.xx += p * (dx * dx);
        self.yy += p * (dy * dy);
        self.xy += p * dx * dy;
        self.energy += p * p;
        self.hxy -= p * (p + f64::EPSILON).log2();
        self.hxy1 -= p * log;
    }
}

/// Root of the second largest eigenvalue of Q(i, j) = sum over k of p(i,k) p(j,k) / (px(i) py(k)).
fn maximal_correlation(p: &[f64], px: &[f64], py: &[f64]) -> f64 {
    let n = px.len();
    if n < 2 {
        return 1.0;
    }
    // Q is similar to A A' with A = p / sqrt(px py), whose largest eigenvalue is 1 with the vector sqrt(px): take it away.
    let rx: Vec<f64> = px.iter().map(|v| if *v > 0.0 { 1.0 / v.sqrt() } else { 0.0 }).collect();
    let ry: Vec<f64> = py.iter().map(|v| if *v > 0.0 { 1.0 / v.sqrt() } else { 0.0 }).collect();
    let a: Vec<f64> = (0..n * n).map(|k| p[k] * rx[k / n] * ry[k % n]).collect();
    let mut m = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let (left, right) = (&a[i * n..(i + 1) * n], &a[j * n..(j + 1) * n]);
            let inner: f64 = left.iter().zip(right).map(|(x, y)| x * y).sum();
            let v = inner - (px[i] * px[j]).sqrt();
            m[i * n + j] = v;
            m[j * n + i] = v;
        }
    }
    let (top, vector) = super::eigen::largest(m, n);
    if top < 1e-13 {
        return 0.0; // independent levels; the vector could be any, the one taken away included
    }
    // PyRadiomics adds an epsilon to px(i) py(k), which shows where a level is rare. The quotient of the exact Q between
    // the left and right vectors of the plain one is wrong only by the square of that change.
    let right: Vec<f64> = vector.iter().zip(&rx).map(|(v, r)| v * r).collect();
    let left: Vec<f64> = vector.iter().zip(px).map(|(v, p)| v * p.sqrt()).collect();
    let value = quotient(p, px, py, &left, &right);
    let rarest = |p: &[f64]| p.iter().copied().filter(|v| *v > 0.0).fold(1.0, f64::min);
    let value = if rarest(px) * rarest(py) > 1e-10 { value } else { refine(p, px, py, value, left, right) };
    value.max(0.0).sqrt() // Q has no negative eigenvalues; rounding can give one
}

/// left' Q right / left' right.
fn quotient(p: &[f64], px: &[f64], py: &[f64], left: &[f64], right: &[f64]) -> f64 {
    let n = px.len();
    let mut value = 0.0;
    for k in 0..n {
        let column: f64 = (0..n).map(|j| p[j * n + k] * right[j]).sum();
        let row: f64 = (0..n).map(|i| left[i] * p[i * n + k] / (px[i] * py[k] + f64::EPSILON)).sum();
        value += column * row;
    }
    value / left.iter().zip(right).map(|(a, b)| a * b).sum::<f64>()
}

/// One step of inverse iteration on the exact Q from both sides, for regions so large that the square counts as well
/// (a level with one voxel in a million: 2e-8).
fn refine(p: &[f64], px: &[f64], py: &[f64], value: f64, left: Vec<f64>, right: Vec<f64>) -> f64 {
    let n = px.len();
    let scaled: Vec<f64> = (0..n * n).map(|c| p[c] / (px[c / n] * py[c % n] + f64::EPSILON)).collect();
    let mut q = vec![0.0; n * n];
    for (i, row) in scaled.chunks_exact(n).enumerate() {
        for (j, other) in p.chunks_exact(n).enumerate() {
            q[i * n + j] = row.iter().zip(other).map(|(a, b)| a * b).sum();
        }
        q[i * n + i] -= value;
    }
    let turned: Vec<f64> = (0..n * n).map(|c| q[c % n * n + c / n]).collect();
    match (super::eigen::solve(q, right), super::eigen::solve(turned, left)) {
        (Some(right), Some(left)) => quotient(p, px, py, &left, &right),
        _ => value, // an exact eigenvalue already
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_has_a_maximal_correlation_of_one() {
        let found = maximal_correlation(&[0.0, 0.5, 0.5, 0.0], &[0.5, 0.5], &[0.5, 0.5]);
        assert!((found - 1.0).abs() < 1e-12);
    }

    #[test]
    fn independent_levels_have_none() {
        let (px, py) = ([0.2, 0.8], [0.5, 0.5]);
        let p: Vec<f64> = px.iter().flat_map(|x| py.iter().map(move |y| x * y)).collect();
        assert_eq!(maximal_correlation(&p, &px, &py), 0.0);
    }
}
