//! GLCM of small boxes around many voxels: tables over the few levels of one box, sums in whole numbers, no logarithm per cell.

use super::discretize::{Levels, angles};
use super::eigen;
use super::glcm::{self, Matrix, N, pair_weight};
use super::settings::Settings;

/// First voxel and shape, (z, y, x).
type Region = ([usize; 3], [usize; 3]);

/// Counts up to this have their c log2 c in a table.
const LOGS: usize = 1 << 12;
/// Mutual information below this is noise of the sums, and PyRadiomics' noise decides what Imc2 is.
const INDEPENDENT: f64 = 1e-6;

/// What the kernels of one image share.
pub(super) struct GlcmKernel<'a> {
    levels: &'a Levels,
    angles: Vec<[i32; 3]>,
    /// Of each angle, where the angles are weighted.
    weights: Option<Vec<f64>>,
    symmetric: bool,
    /// c log2 c.
    logs: Vec<f64>,
    /// By difference of levels k: 1/(1 + k), 1/(1 + k^2), the same with k/Ng, 1/k^2 (0 for k = 0).
    over: Vec<[f64; 5]>,
}

/// Buffers of one thread.
pub(super) struct Workspace {
    /// Place of a level among those of the kernel.
    place: Vec<u16>,
    present: Vec<u16>,
    /// Places of the kernel's voxels; the number of levels stands for outside.
    cells: Vec<u16>,
    table: Vec<u32>,
    marginal: Vec<u32>,
    plus: Vec<u32>,
    minus: Vec<u32>,
    a: Vec<f64>,
    tridiagonal: eigen::Tridiagonal,
}

impl<'a> GlcmKernel<'a> {
    pub fn new(levels: &'a Levels, spacing: [f64; 3], settings: &Settings) -> GlcmKernel<'a> {
        let angles = angles(levels.shape, &settings.distances, settings.flat_axis());
        let weights =
            settings.weighting.map(|norm| angles.iter().map(|angle| pair_weight(norm, *angle, spacing)).collect());
        let ng = levels.ng as f64;
        let over = |k: usize| {
            let (k, q) = (k as f64, k as f64 / ng);
            let inverse = if k == 0.0 { 0.0 } else { 1.0 / (k * k) };
            [1.0 / (1.0 + k), 1.0 / (1.0 + k * k), 1.0 / (1.0 + k * k / (ng * ng)), 1.0 / (1.0 + q), inverse]
        };
        GlcmKernel {
            levels,
            angles,
            weights,
            symmetric: settings.symmetrical_glcm,
            logs: (0..LOGS).map(|c| c_log(c as f64)).collect(),
            over: (0..levels.ng.max(1)).map(over).collect(),
        }
    }
}

impl GlcmKernel<'_> {
    /// Columns of PyRadiomics' matrix, one per angle (or one, weighted), none of them filled.
    pub fn no_angles(&self) -> Vec<bool> {
        vec![false; if self.weights.is_some() { 1 } else { self.angles.len() }]
    }

    /// Number of columns that have pairs in a kernel; they are marked in `any` as well.
    pub fn filled(&self, region: Region, any: &mut [bool]) -> usize {
        let has_pairs = |angle: &[i32; 3]| {
            let step = self.levels.step(*angle);
            self.lines(region, *angle).any(|(from, n)| {
                let to = from.saturating_add_signed(step);
                let (a, b) = (&self.levels.data[from..from + n], &self.levels.data[to..to + n]);
                a.iter().zip(b).any(|(a, b)| *a != 0 && *b != 0)
            })
        };
        match &self.weights {
            Some(weights) => {
                let found = self.angles.iter().zip(weights).any(|(angle, weight)| *weight > 0.0 && has_pairs(angle));
                any[0] |= found;
                usize::from(found)
            }
            None => {
                let found = self.angles.iter().map(has_pairs);
                found.zip(any).filter(|(found, _)| *found).map(|(_, any)| *any = true).count()
            }
        }
    }

    /// Lines of voxels whose neighbors along an angle lie in the kernel: start in the levels' data, and length.
    fn lines(&self, (low, shape): Region, angle: [i32; 3]) -> impl Iterator<Item = (usize, usize)> + '_ {
        let (start, len) = overlap(shape, angle);
        let at = move |z: usize, y: usize| self.levels.at([low[0] + z, low[1] + y, low[2] + start[2]]);
        let rows = move |z: usize| (start[1]..start[1] + len[1]).map(move |y| (at(z, y), len[2]));
        (start[0]..start[0] + len[0]).filter(move |_| len[2] > 0).flat_map(rows)
    }

    pub fn workspace(&self) -> Workspace {
        Workspace {
            place: vec![UNSEEN; self.levels.ng + 1],
            present: Vec::new(),
            cells: Vec::new(),
            table: Vec::new(),
            marginal: Vec::new(),
            plus: Vec::new(),
            minus: Vec::new(),
            a: Vec::new(),
            tridiagonal: eigen::Tridiagonal::default(),
        }
    }

    /// The features of a kernel, in the order of [`glcm::NAMES`]: means over its angles with pairs. MCC only if wanted.
    pub fn features(&self, space: &mut Workspace, (low, shape): Region, with_mcc: bool) -> [f64; N] {
        space.cut(self.levels, low, shape);
        if self.weights.is_some() || !self.symmetric {
            return self.general(space, shape);
        }
        let (mut sums, mut n, mut n_imc2) = ([0.0; N], 0usize, 0usize);
        for angle in &self.angles {
            space.count(shape, *angle);
            if let Some(found) = self.of_angle(space, with_mcc) {
                n += 1;
                n_imc2 += usize::from(!found[IMC2].is_nan());
                sums.iter_mut().zip(found).filter(|(_, f)| !f.is_nan()).for_each(|(sum, f)| *sum += f);
            }
        }
        let mut means = sums.map(|sum| sum / n as f64);
        means[IMC2] = sums[IMC2] / n_imc2 as f64;
        means
    }

    /// Weighted or asymmetric matrices, as in a whole region.
    fn general(&self, space: &mut Workspace, shape: [usize; 3]) -> [f64; N] {
        let m = space.present.len();
        let mut merged = vec![0.0; m * m];
        let mut per_angle: Vec<[f64; N]> = Vec::new();
        let features = |p: Vec<f64>, space: &Workspace| {
            let sum: f64 = p.iter().sum();
            let matrix = Matrix { n: m, p, sum };
            (sum > 0.0).then(|| glcm::features(matrix, &space.present, self.levels.ng))
        };
        for (k, angle) in self.angles.iter().enumerate() {
            space.count(shape, *angle);
            let at = |i: usize, j: usize| f64::from(space.table[i * (m + 1) + j]);
            let cell = |c: usize| at(c / m, c % m) + if self.symmetric { at(c % m, c / m) } else { 0.0 };
            match &self.weights {
                Some(weights) => merged.iter_mut().enumerate().for_each(|(c, sum)| *sum += weights[k] * cell(c)),
                None => per_angle.extend(features((0..m * m).map(cell).collect(), space)),
            }
        }
        if self.weights.is_some() {
            per_angle.extend(features(merged, space));
        }
        let mut means = std::array::from_fn(|i| glcm::mean(per_angle.iter().map(|f| f[i])));
        if m == 1 && self.levels.present.len() > 1 {
            means[MCC] = 0.0;
        }
        means
    }

    /// Features of the counted angle; `None` without pairs.
    fn of_angle(&self, space: &mut Workspace, with_mcc: bool) -> Option<[f64; N]> {
        let m = space.present.len();
        let lowest = usize::from(space.present[0]);
        let span = usize::from(space.present[m - 1]) - lowest;
        refill(&mut space.marginal, m);
        refill(&mut space.plus, 2 * span + 1);
        refill(&mut space.minus, span + 1);
        let (mut log_sum, mut cells, mut energy, mut largest, mut product) = (0.0, 0u32, 0u64, 0u32, 0u64);
        for i in 0..m {
            let li = usize::from(space.present[i]);
            for j in i..m {
                let count = space.table[i * (m + 1) + j] + space.table[j * (m + 1) + i];
                if count == 0 {
                    continue;
                }
                let lj = usize::from(space.present[j]);
                let twice = if i == j { 1 } else { 2 };
                log_sum += f64::from(twice) * self.log(count);
                cells += twice;
                energy += u64::from(twice) * u64::from(count) * u64::from(count);
                largest = largest.max(count);
                product += u64::from(twice * count) * (li * lj) as u64;
                space.plus[li + lj - 2 * lowest] += twice * count;
                space.minus[lj - li] += twice * count;
                space.marginal[i] += count;
                if i != j {
                    space.marginal[j] += count;
                }
            }
        }
        let whole: u64 = space.marginal.iter().map(|c| u64::from(*c)).sum();
        if whole == 0 {
            return None;
        }
        let n = whole as f64;
        let log_n = n.log2();
        // One machine epsilon inside PyRadiomics' logarithms adds eps / ln 2 per cell that is not empty.
        let epsilon = f64::EPSILON / std::f64::consts::LN_2;
        let (mut sum, mut squares, mut marginal_log, mut levels) = (0u64, 0u64, 0.0, 0u32);
        for (count, level) in space.marginal.iter().zip(&space.present).filter(|(count, _)| **count > 0) {
            let (count, level, log) = (u64::from(*count), u64::from(*level), self.log(*count));
            sum += count * level;
            squares += count * level * level;
            marginal_log += log;
            levels += 1;
        }
        let hxy = log_n - log_sum / n;
        let hx = log_n - marginal_log / n;
        let mutual = 2.0 * hx - hxy;
        let spread = |squares: u64, sum: u64| {
            (i128::from(whole) * i128::from(squares) - i128::from(sum) * i128::from(sum)) as f64 / (n * n)
        };
        let (variance, covariance) = (spread(squares, sum), spread(product, sum));
        let mean = sum as f64 / n;
        let (mut difference_log, mut difference_cells) = (0.0, 0u32);
        let (mut differences, mut contrast, mut over) = (0u64, 0u64, [0.0; 5]);
        for (k, count) in space.minus.iter().enumerate().filter(|(_, count)| **count > 0) {
            difference_log += self.log(*count);
            difference_cells += 1;
            differences += u64::from(*count) * k as u64;
            contrast += u64::from(*count) * (k * k) as u64;
            over.iter_mut().zip(self.over[k]).for_each(|(sum, weight)| *sum += f64::from(*count) * weight);
        }
        let (mut sum_log, mut sum_cells, mut moments) = (0.0, 0u32, [0.0; 3]);
        for (s, count) in space.plus.iter().enumerate().filter(|(_, count)| **count > 0) {
            sum_log += self.log(*count);
            sum_cells += 1;
            let d = (s + 2 * lowest) as f64 - 2.0 * mean;
            let square = d * d * f64::from(*count);
            moments[0] += square;
            moments[1] += square * d;
            moments[2] += square * d * d;
        }
        let entropy = |log: f64, cells: u32| log_n - log / n - f64::from(cells) * epsilon;
        let imc2 = match mutual {
            _ if levels == 1 => 0.0,
            mutual if mutual < INDEPENDENT => space.imc2(n),
            mutual => (1.0 - (-2.0 * (mutual - f64::from(levels * levels - cells) * epsilon)).exp()).sqrt(),
        };
        Some([
            product as f64 / n,
            moments[2] / n,
            moments[1] / n,
            moments[0] / n,
            contrast as f64 / n,
            if variance == 0.0 { 1.0 } else { covariance / (variance + f64::EPSILON) },
            differences as f64 / n,
            entropy(difference_log, difference_cells),
            spread(contrast, differences),
            over[0] / n,
            over[1] / n,
            over[2] / n,
            over[3] / n,
            if levels == 1 { 0.0 } else { -mutual / hx },
            imc2,
            over[4] / n,
            mean,
            energy as f64 / (n * n),
            entropy(log_sum, cells),
            if with_mcc { space.maximal_correlation(levels as usize, self.levels.present.len()) } else { 0.0 },
            f64::from(largest) / n,
            2.0 * mean,
            entropy(sum_log, sum_cells),
            variance,
        ])
    }

    fn log(&self, count: u32) -> f64 {
        self.logs.get(count as usize).copied().unwrap_or_else(|| c_log(f64::from(count)))
    }
}

/// Places in [`glcm::NAMES`].
const IMC2: usize = 14;
const MCC: usize = 19;
const UNSEEN: u16 = u16::MAX;

fn c_log(c: f64) -> f64 {
    if c > 0.0 { c * c.log2() } else { 0.0 }
}

/// A buffer of zeros.
fn refill(buffer: &mut Vec<u32>, n: usize) {
    buffer.clear();
    buffer.resize(n, 0);
}

/// Of a box, the part whose neighbors along an angle lie in it as well: start and length, (z, y, x).
fn overlap(shape: [usize; 3], angle: [i32; 3]) -> ([usize; 3], [usize; 3]) {
    let start = angle.map(|d| if d < 0 { d.unsigned_abs() as usize } else { 0 });
    (start, std::array::from_fn(|a| shape[a].saturating_sub(angle[a].unsigned_abs() as usize)))
}

impl Workspace {
    /// Reads a kernel: its levels, ascending, and for every voxel the place of its level.
    fn cut(&mut self, levels: &Levels, low: [usize; 3], shape: [usize; 3]) {
        for level in self.present.drain(..) {
            self.place[usize::from(level)] = UNSEEN;
        }
        self.cells.clear();
        for z in 0..shape[0] {
            for y in 0..shape[1] {
                self.cells.extend_from_slice(levels.line([low[0] + z, low[1] + y, low[2]], shape[2]));
            }
        }
        for level in self.cells.iter().filter(|level| **level != 0) {
            if self.place[usize::from(*level)] == UNSEEN {
                self.place[usize::from(*level)] = 0;
                self.present.push(*level);
            }
        }
        self.present.sort_unstable();
        for (place, level) in self.present.iter().enumerate() {
            self.place[usize::from(*level)] = place as u16;
        }
        self.place[0] = self.present.len() as u16;
        self.cells.iter_mut().for_each(|cell| *cell = self.place[usize::from(*cell)]);
    }

    /// Counts pairs along an angle by the places of their levels; those with outside fall into the last row and column.
    fn count(&mut self, shape: [usize; 3], angle: [i32; 3]) {
        let width = self.present.len() + 1;
        refill(&mut self.table, width * width);
        let (start, len) = overlap(shape, angle);
        let [_, ny, nx] = shape;
        let step = (angle[0] as isize * ny as isize + angle[1] as isize) * nx as isize + angle[2] as isize;
        for z in start[0]..start[0] + len[0] {
            for y in start[1]..start[1] + len[1] {
                let from = (z * ny + y) * nx + start[2];
                let to = from.saturating_add_signed(step);
                let (a, b) = (&self.cells[from..from + len[2]], &self.cells[to..to + len[2]]);
                for (i, j) in a.iter().zip(b) {
                    self.table[usize::from(*i) * width + usize::from(*j)] += 1;
                }
            }
        }
    }

    /// Symmetric count of two places.
    fn pairs(&self, i: usize, j: usize) -> f64 {
        let width = self.present.len() + 1;
        f64::from(self.table[i * width + j] + self.table[j * width + i])
    }

    /// Imc2 with the sums in PyRadiomics' order, where levels are (nearly) independent: whether it is 0, NaN or the root of a
    /// rounding error depends on that order.
    fn imc2(&self, n: f64) -> f64 {
        let m = self.present.len();
        let p = |i: usize, j: usize| self.pairs(i, j) / n;
        let marginal: Vec<f64> = (0..m).map(|i| (0..m).map(|j| p(i, j)).sum()).collect();
        let (mut hxy, mut hxy2) = (0.0, 0.0);
        for i in 0..m {
            for j in 0..m {
                let (p, q) = (p(i, j), marginal[i] * marginal[j]);
                hxy -= p * (p + f64::EPSILON).log2();
                hxy2 -= q * (q + f64::EPSILON).log2();
            }
        }
        if hxy2 == hxy { 0.0 } else { (1.0 - (-2.0 * (hxy2 - hxy)).exp()).sqrt() }
    }

    /// Root of the second largest eigenvalue of Q. A symmetric matrix P has Q similar to the square of P(i,j) / sqrt(p(i) p(j)),
    /// so the second largest absolute eigenvalue of that is it. `levels` occur along the angle, `all` in the region: the others
    /// have the eigenvalue 0.
    fn maximal_correlation(&mut self, levels: usize, all: usize) -> f64 {
        if levels == 1 {
            return if all == 1 { 1.0 } else { 0.0 };
        }
        let used: Vec<usize> = (0..self.marginal.len()).filter(|i| self.marginal[*i] > 0).collect();
        let root: Vec<f64> = used.iter().map(|i| 1.0 / f64::from(self.marginal[*i]).sqrt()).collect();
        let width = self.present.len() + 1;
        self.a.clear();
        for (i, ri) in used.iter().zip(&root) {
            for (j, rj) in used.iter().zip(&root) {
                let count = self.table[i * width + j] + self.table[j * width + i];
                self.a.push(f64::from(count) * ri * rj);
            }
        }
        if levels == 2 {
            return (self.a[0] + self.a[3] - 1.0).abs(); // the other eigenvalue is 1
        }
        self.tridiagonal.second_largest(&mut self.a, levels)
    }
}
