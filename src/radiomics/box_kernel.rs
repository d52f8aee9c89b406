//! GLDM, NGTDM and GLRLM of small boxes around many voxels: many neighbors at a time in bytes, sums over the cells that are
//! not empty, in whole numbers where they are whole.

use super::discretize::{Levels, SLACK, angles, padding};
use super::settings::Settings;
use super::wide::twice;

/// First voxel and shape, (z, y, x).
type Region = ([usize; 3], [usize; 3]);

/// Larger boxes are left to the general way.
const VOXELS_MAX: usize = 1 << 12;
/// Levels of a box are kept in bytes, relative to its lowest; 0 is outside.
const SPAN_MAX: u16 = 254;
const LANES: usize = SLACK;

/// What the boxes of one image share.
pub(super) struct BoxKernel<'a> {
    levels: &'a Levels,
    settings: &'a Settings,
    /// c log2 c.
    logs: Vec<f64>,
    /// 1 / k^2; 0 for k = 0.
    inverse: Vec<f64>,
}

/// Buffers of one thread, and the box that was read last.
#[derive(Default)]
pub(super) struct Workspace {
    shape: [usize; 3],
    /// From one row to the next and from one plane to the next: rows and planes share the zeros between them.
    stride: usize,
    plane: usize,
    /// The first voxel, and the distance to the one after the last.
    first: usize,
    len: usize,
    wide: Vec<u16>,
    cells: Vec<u8>,
    /// Levels are those of `cells` plus this.
    below: u16,
    span: usize,
    /// To all neighbors, and (forward) along the angles of distance 1.
    steps: Vec<isize>,
    angles: Vec<usize>,
    counts: Vec<[u8; LANES]>,
    sums: Vec<[u16; LANES]>,
    equal: Vec<u8>,
    table: Vec<u16>,
    touched: Vec<u32>,
    by_level: Vec<u32>,
    single: Vec<u32>,
    all: Vec<u32>,
    by_size: Vec<BySize>,
}

/// Of one size: how many, and the sums of squared levels and of their inverses.
#[derive(Clone, Copy, Default)]
struct BySize {
    n: u32,
    high: u64,
    low: f64,
}

/// Sums over a matrix of levels and sizes.
#[derive(Default)]
struct Sums {
    n: f64,
    by_level: u64,
    by_size: u64,
    level: u64,
    size: u64,
    high: u64,
    low: f64,
    large: u64,
    small: f64,
    large_high: u64,
    large_low: f64,
    small_high: f64,
    small_low: f64,
    entropy: f64,
}

impl Sums {
    /// (n sum(x^2) - sum(x)^2) / n^2 in whole numbers.
    fn variance(&self, squares: u64, sum: u64) -> f64 {
        // Below 2^53: a box has at most 2^12 voxels, levels and sizes at most 2^13.
        (self.n as u64 * squares - sum * sum) as f64 / (self.n * self.n)
    }
}

impl<'a> BoxKernel<'a> {
    pub fn new(levels: &'a Levels, settings: &'a Settings) -> BoxKernel<'a> {
        let log = |c: usize| if c > 0 { c as f64 * (c as f64).log2() } else { 0.0 };
        let inverse = |k: usize| if k > 0 { 1.0 / (k as f64 * k as f64) } else { 0.0 };
        BoxKernel {
            levels,
            settings,
            logs: (0..=VOXELS_MAX).map(log).collect(),
            inverse: (0..=levels.ng.max(VOXELS_MAX)).map(inverse).collect(),
        }
    }

    /// Reads a box; false for one that does not fit.
    pub fn read(&self, space: &mut Workspace, (low, shape): Region) -> bool {
        if shape.into_iter().fold(1usize, usize::saturating_mul) > VOXELS_MAX {
            return false;
        }
        if space.shape != shape {
            space.arrange(shape, self.settings);
        }
        if space.steps.len() >= usize::from(u8::MAX) {
            return false;
        }
        for z in 0..shape[0] {
            for y in 0..shape[1] {
                let at = space.first + z * space.plane + y * space.stride;
                let line = self.levels.line([low[0] + z, low[1] + y, low[2]], shape[2]);
                space.wide[at..at + shape[2]].iter_mut().zip(line).for_each(|(cell, level)| *cell = *level);
            }
        }
        space.narrow()
    }

    /// In the order of [`super::neighborhood::Neighborhoods::gldm`].
    pub fn gldm(&self, space: &mut Workspace) -> [f64; 14] {
        let alpha = self.settings.gldm_a.min(usize::from(u8::MAX)) as u8;
        dependents(&space.cells, space.first..space.first + space.len, &space.steps, alpha, &mut space.counts);
        let bits = usize::BITS - (space.steps.len() + 1).leading_zeros();
        space.clear(bits);
        space.touched.resize(space.len + 1, 0);
        let (table, touched, mut n_cells) = (&mut space.table[..], &mut space.touched[..], 0);
        let cells = space.cells[space.first..space.first + space.len].chunks(LANES).zip(&space.counts);
        for (cells, counts) in cells {
            for (cell, dependent) in cells.iter().zip(counts).filter(|(cell, _)| **cell != 0) {
                // The voxel itself is one of its dependents.
                let place = (usize::from(*cell) << bits) + usize::from(*dependent) + 1;
                // Kept only where the cell was empty; without a branch, for no one could guess it.
                touched[n_cells] = place as u32;
                n_cells += usize::from(table[place] == 0);
                table[place] += 1;
            }
        }
        let mut sums = Sums::default();
        let mut cell_logs = 0.0;
        for place in &touched[..n_cells] {
            let (cell, size) = (*place as usize >> bits, *place as usize & ((1 << bits) - 1));
            let count = std::mem::take(&mut table[*place as usize]);
            let level = cell + usize::from(space.below);
            cell_logs += self.logs[usize::from(count)];
            space.by_level[cell] += u32::from(count);
            let of_size = &mut space.by_size[size];
            of_size.n += u32::from(count);
            of_size.high += u64::from(count) * (level * level) as u64;
            of_size.low += f64::from(count) * self.inverse[level];
        }
        self.of_levels(&mut sums, &space.by_level, space.below);
        self.of_sizes(&mut sums, &space.by_size);
        self.finish(&mut sums, cell_logs, n_cells);
        let n = sums.n;
        [
            sums.entropy,
            sums.by_size as f64 / n,
            sums.by_size as f64 / (n * n),
            sums.variance(sums.large, sums.size),
            sums.by_level as f64 / n,
            sums.variance(sums.high, sums.level),
            sums.high as f64 / n,
            sums.large as f64 / n,
            sums.large_high as f64 / n,
            sums.large_low / n,
            sums.low / n,
            sums.small / n,
            sums.small_high / n,
            sums.small_low / n,
        ]
    }

    /// In the order of [`super::neighborhood::Neighborhoods::ngtdm`].
    pub fn ngtdm(&self, space: &mut Workspace) -> [f64; 5] {
        let (from, to) = (space.first, space.first + space.len);
        neighbors(&space.cells, from..to, &space.steps, &mut space.counts, &mut space.sums);
        let mut found = [(0u32, 0.0f64); SPAN_MAX as usize + 2];
        let mut n = 0.0;
        for ((cells, counts), sums) in space.cells[from..to].chunks(LANES).zip(&space.counts).zip(&space.sums) {
            for ((cell, m), sum) in cells.iter().zip(counts).zip(sums).filter(|((cell, _), _)| **cell != 0) {
                let (count, difference) = &mut found[usize::from(*cell)];
                *count += 1;
                n += 1.0;
                if *m > 0 {
                    let off = (u32::from(*cell) * u32::from(*m)).abs_diff(u32::from(*sum));
                    *difference += f64::from(off) / f64::from(*m);
                }
            }
        }
        let mut rows = [(0.0, 0.0, 0.0); SPAN_MAX as usize + 2];
        let mut present = 0;
        let (mut total, mut weighted) = (0.0, 0.0);
        for (cell, (count, s)) in found[..space.span + 2].iter().enumerate().filter(|(_, (count, _))| *count > 0) {
            let p = f64::from(*count) / n;
            rows[present] = ((cell + usize::from(space.below)) as f64, p, *s);
            present += 1;
            total += s;
            weighted += p * s;
        }
        // Both orders of a pair give the same; a level with itself gives nothing.
        let (mut contrast, mut spread, mut complexity, mut strength) = (0.0, 0.0, 0.0, 0.0);
        for (k, (i, pi, si)) in rows[..present].iter().enumerate() {
            for (j, pj, sj) in &rows[..k] {
                let d = i - j;
                contrast += pi * pj * d * d;
                spread += (i * pi - j * pj).abs();
                complexity += d * (pi * si + pj * sj) / (pi + pj);
                strength += (pi + pj) * d * d;
            }
        }
        let pairs = (present * (present - 1)) as f64;
        [
            if spread == 0.0 { 0.0 } else { weighted / (2.0 * spread) },
            if weighted == 0.0 { 1e6 } else { 1.0 / weighted },
            2.0 * complexity / n,
            if pairs == 0.0 { 0.0 } else { 2.0 * contrast * total / n / pairs },
            if total == 0.0 { 0.0 } else { 2.0 * strength / total },
        ]
    }

    /// Means over the angles, in the order of [`super::glrlm::compute`]; `None` where some angle has no two neighbors, which
    /// the general way decides.
    pub fn glrlm(&self, space: &mut Workspace) -> Option<[f64; 16]> {
        let longest = space.shape.into_iter().max().unwrap_or(0);
        let bits = usize::BITS - longest.leading_zeros();
        space.clear(bits);
        let (from, to) = (space.first, space.first + space.len);
        space.by_level.iter_mut().for_each(|n| *n = 0);
        for cell in &space.cells[from..to] {
            space.by_level[usize::from(*cell)] += 1;
        }
        space.by_level[0] = 0;
        space.touched.clear();
        let mut means = [0.0; 16];
        for k in 0..space.angles.len() {
            let step = space.angles[k];
            let mut any = 0;
            equal_pairs(&space.cells, from..to, step, &mut space.equal, &mut any);
            if any == 0 {
                return None;
            }
            // Every voxel is a run of its own, but for those that follow an equal one.
            space.single.copy_from_slice(&space.by_level);
            space.all.copy_from_slice(&space.by_level);
            space.by_size.fill(BySize::default());
            for block in (from..to).step_by(8) {
                let mut set = space.equal[block..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight));
                while set != 0 {
                    let at = block + set.trailing_zeros() as usize / 8;
                    set &= set - 1;
                    if space.equal[at - step] != 0 {
                        continue; // inside a run
                    }
                    let (mut length, mut next) = (2, at + step);
                    while space.equal[next] != 0 {
                        length += 1;
                        next += step;
                    }
                    let cell = usize::from(space.cells[at]);
                    space.single[cell] -= length as u32;
                    space.all[cell] -= length as u32 - 1;
                    let place = (cell << bits) + length;
                    if space.table[place] == 0 {
                        space.touched.push(place as u32);
                    }
                    space.table[place] += 1;
                }
            }
            let mut cell_logs = 0.0;
            let mut n_cells = space.touched.len();
            for place in space.touched.drain(..) {
                let (cell, size) = (place as usize >> bits, place as usize & ((1 << bits) - 1));
                let count = std::mem::take(&mut space.table[place as usize]);
                let level = cell + usize::from(space.below);
                cell_logs += self.logs[usize::from(count)];
                let of_size = &mut space.by_size[size];
                of_size.n += u32::from(count);
                of_size.high += u64::from(count) * (level * level) as u64;
                of_size.low += f64::from(count) * self.inverse[level];
            }
            for (cell, count) in space.single.iter().enumerate().filter(|(_, count)| **count > 0) {
                let level = cell + usize::from(space.below);
                cell_logs += self.logs[*count as usize];
                n_cells += 1;
                let of_size = &mut space.by_size[1];
                of_size.n += count;
                of_size.high += u64::from(*count) * (level * level) as u64;
                of_size.low += f64::from(*count) * self.inverse[level];
            }
            let mut sums = Sums::default();
            self.of_levels(&mut sums, &space.all, space.below);
            self.of_sizes(&mut sums, &space.by_size);
            self.finish(&mut sums, cell_logs, n_cells);
            let n = sums.n;
            let found = [
                sums.by_level as f64 / n,
                sums.by_level as f64 / (n * n),
                sums.variance(sums.high, sums.level),
                sums.high as f64 / n,
                sums.large as f64 / n,
                sums.large_high as f64 / n,
                sums.large_low / n,
                sums.low / n,
                sums.entropy,
                sums.by_size as f64 / n,
                sums.by_size as f64 / (n * n),
                n / sums.size as f64,
                sums.variance(sums.large, sums.size),
                sums.small / n,
                sums.small_high / n,
                sums.small_low / n,
            ];
            means.iter_mut().zip(found).for_each(|(sum, value)| *sum += value);
        }
        Some(means.map(|sum| sum / space.angles.len() as f64))
    }

    fn of_levels(&self, sums: &mut Sums, by_level: &[u32], below: u16) {
        let mut n = 0;
        for (cell, count) in by_level.iter().enumerate().filter(|(_, count)| **count > 0) {
            let level = cell + usize::from(below);
            let (count, square) = (u64::from(*count), (level * level) as u64);
            n += count;
            sums.by_level += count * count;
            sums.level += count * level as u64;
            sums.high += count * square;
            sums.low += count as f64 * self.inverse[level];
        }
        sums.n = n as f64;
    }

    fn of_sizes(&self, sums: &mut Sums, by_size: &[BySize]) {
        for (size, of_size) in by_size.iter().enumerate().filter(|(_, of_size)| of_size.n > 0) {
            let (count, square, inverse) = (u64::from(of_size.n), (size * size) as u64, self.inverse[size]);
            sums.by_size += count * count;
            sums.size += count * size as u64;
            sums.large += count * square;
            sums.small += count as f64 * inverse;
            sums.large_high += square * of_size.high;
            sums.large_low += square as f64 * of_size.low;
            sums.small_high += inverse * of_size.high as f64;
            sums.small_low += inverse * of_size.low;
        }
    }

    /// One machine epsilon inside PyRadiomics' logarithms adds eps / ln 2 per cell that is not empty.
    fn finish(&self, sums: &mut Sums, cell_logs: f64, n_cells: usize) {
        let epsilon = f64::EPSILON / std::f64::consts::LN_2;
        sums.entropy = sums.n.log2() - cell_logs / sums.n - n_cells as f64 * epsilon;
    }
}

impl Workspace {
    /// Lays out boxes of a shape.
    fn arrange(&mut self, shape: [usize; 3], settings: &Settings) {
        let pad = padding(shape, settings);
        self.shape = shape;
        self.stride = shape[2] + pad;
        self.plane = (shape[1] + pad) * self.stride;
        let step =
            |a: &[i32; 3]| (a[0] as isize * self.plane as isize) + a[1] as isize * self.stride as isize + a[2] as isize;
        let flat = settings.flat_axis();
        self.angles = angles(shape, &[1], flat).iter().map(|angle| step(angle).unsigned_abs()).collect();
        let half: Vec<isize> = angles(shape, &settings.distances, flat).iter().map(step).collect();
        self.steps = half.iter().flat_map(|step| [*step, -step]).collect();
        let far = pad * (self.plane + self.stride + 1);
        self.first = far;
        self.len = (shape[0] - 1) * self.plane + (shape[1] - 1) * self.stride + shape[2];
        let total = far + self.len + far + 2 * LANES;
        self.wide.clear();
        self.wide.resize(total, 0);
        self.cells.clear();
        self.cells.resize(total, 0);
        self.equal.clear();
        self.equal.resize(total, 0);
    }

    /// Turns levels into bytes; false where they span too much.
    fn narrow(&mut self) -> bool {
        let voxels = &self.wide[self.first..self.first + self.len];
        let (mut least, mut most) = (u16::MAX, 0);
        for level in voxels {
            least = least.min(level.wrapping_sub(1)); // outside is 0, and wraps to the highest
            most = most.max(*level);
        }
        if most <= least || most - least > SPAN_MAX {
            return false;
        }
        (self.below, self.span) = (least, usize::from(most - least));
        let cells = &mut self.cells[self.first..self.first + self.len];
        cells.iter_mut().zip(voxels).for_each(|(cell, level)| *cell = level.saturating_sub(least) as u8);
        true
    }

    /// Makes room for the levels of the box and sizes of some bits.
    fn clear(&mut self, bits: u32) {
        let cells = self.span + 2;
        let room = self.table.len().max(cells << bits);
        self.table.resize(room, 0); // it is empty between boxes
        for levels in [&mut self.by_level, &mut self.single, &mut self.all] {
            levels.clear();
            levels.resize(cells, 0);
        }
        self.by_size.clear();
        self.by_size.resize(1 << bits, BySize::default());
    }
}

twice! {
    /// Of every voxel the number of neighbors whose level is near enough.
    dependents => dependents_plain, (cells: &[u8], of: std::ops::Range<usize>, steps: &[isize], alpha: u8, out: &mut Vec<[u8; LANES]>)
}

#[inline(always)]
fn dependents_plain(cells: &[u8], of: std::ops::Range<usize>, steps: &[isize], alpha: u8, out: &mut Vec<[u8; LANES]>) {
    out.clear();
    for at in of.step_by(LANES) {
        let Some(center) = cells[at..].first_chunk::<LANES>() else { continue };
        let mut counts = [0u8; LANES];
        for step in steps {
            let Some(other) = cells[at.saturating_add_signed(*step)..].first_chunk::<LANES>() else { continue };
            for l in 0..LANES {
                counts[l] += u8::from(other[l] != 0) & u8::from(center[l].abs_diff(other[l]) <= alpha);
            }
        }
        out.push(counts);
    }
}

twice! {
    /// Of every voxel the number of neighbors, and the sum of their levels.
    neighbors => neighbors_plain, (
        cells: &[u8],
        of: std::ops::Range<usize>,
        steps: &[isize],
        counts: &mut Vec<[u8; LANES]>,
        sums: &mut Vec<[u16; LANES]>
    )
}

#[inline(always)]
fn neighbors_plain(
    cells: &[u8],
    of: std::ops::Range<usize>,
    steps: &[isize],
    counts: &mut Vec<[u8; LANES]>,
    sums: &mut Vec<[u16; LANES]>,
) {
    counts.clear();
    sums.clear();
    for at in of.step_by(LANES) {
        let (mut count, mut sum) = ([0u8; LANES], [0u16; LANES]);
        for step in steps {
            let Some(other) = cells[at.saturating_add_signed(*step)..].first_chunk::<LANES>() else { continue };
            for l in 0..LANES {
                count[l] += u8::from(other[l] != 0);
            }
            for l in 0..LANES {
                sum[l] += u16::from(other[l]);
            }
        }
        counts.push(count);
        sums.push(sum);
    }
}

twice! {
    /// 1 for every voxel that equals the one a step ahead, else 0; `any` is not 0 where two voxels are neighbors at all.
    equal_pairs => equal_pairs_plain, (cells: &[u8], of: std::ops::Range<usize>, step: usize, equal: &mut [u8], any: &mut u8)
}

#[inline(always)]
fn equal_pairs_plain(cells: &[u8], of: std::ops::Range<usize>, step: usize, equal: &mut [u8], any: &mut u8) {
    let mut seen = [0u8; LANES];
    for at in of.step_by(LANES) {
        let (Some(center), Some(other), Some(equal)) = (
            cells[at..].first_chunk::<LANES>(),
            cells[at + step..].first_chunk::<LANES>(),
            equal[at..].first_chunk_mut::<LANES>(),
        ) else {
            continue;
        };
        for l in 0..LANES {
            let inside = u8::from(center[l] != 0) & u8::from(other[l] != 0);
            seen[l] |= inside;
            equal[l] = inside & u8::from(center[l] == other[l]);
        }
    }
    *any = seen.iter().fold(0, |any, v| any | v);
}

#[cfg(test)]
mod tests {
    use super::super::neighborhood::Neighborhoods;
    use super::super::{glrlm, region::Run};
    use super::*;

    #[test]
    fn boxes_have_the_features_of_regions() {
        let shape = [4, 5, 6];
        let mut seed = 11u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        for (text, alpha) in
            [("setting: {binWidth: 1}", 0), ("setting: {binWidth: 1, gldm_a: 2, distances: [1, 2]}", 2)]
        {
            let settings = Settings::from_yaml(text).ok().unwrap();
            assert_eq!(settings.gldm_a, alpha);
            let mut runs = Vec::new();
            for z in 0..4 {
                for y in 0..5 {
                    runs.extend((0..6).filter(|_| random(5) > 0).map(|x| Run { z, y, start: x, end: x + 1 }));
                }
            }
            let values: Vec<f64> = runs.iter().map(|_| 300.0 + random(4) as f64 * random(3) as f64).collect();
            let levels = super::super::discretize::discretize(&values, &runs, (4, 5, 6), false, &settings).unwrap();
            let kernels = BoxKernel::new(&levels, &settings);
            let (mut space, mut own) = (Workspace::default(), Levels::empty(levels.ng));
            for low in [[0, 0, 0], [1, 1, 1], [1, 2, 3]] {
                let shape = std::array::from_fn(|a| 3.min(shape[a] - low[a]));
                assert!(kernels.read(&mut space, (low, shape)));
                own.cut(&levels, low, shape, &settings);
                let general = Neighborhoods::new(&own, &settings);
                let near = |ours: &[f64], theirs: Vec<(&'static str, f64)>| {
                    assert_eq!(ours.len(), theirs.len());
                    for (a, (name, b)) in ours.iter().zip(theirs) {
                        assert!((a - b).abs() <= 1e-12 * b.abs() + 1e-13, "{name}: {a:?}, {b:?}");
                    }
                };
                near(&kernels.gldm(&mut space), general.gldm(&own));
                near(&kernels.ngtdm(&mut space), general.ngtdm(&own));
                let found = kernels.glrlm(&mut space).unwrap();
                near(&found, glrlm::compute(&own, [1.0; 3], &settings));
            }
        }
    }
}
