//! Gray levels: bins of fixed width or number, as PyRadiomics cuts them, in a padded volume that kernels can scan.

use super::RadiomicsError;
use super::region::Run;
use super::resample::GRID_MAX;
use super::settings::{Bins, Settings};

/// The highest gray level that is computed: a co-occurrence matrix of this size still fits a small machine.
pub const LEVELS_MAX: usize = 8191;

/// The discretized region: level 0 is outside, levels 1..=`ng` inside.
pub(super) struct Levels {
    /// Shape (z, y, x) of the region's bounding box.
    pub shape: [usize; 3],
    /// Voxels of padding on every side.
    pub pad: usize,
    /// Levels, padded, x fastest; [`SLACK`] zeros follow, so that blocks may reach beyond the last row.
    pub data: Vec<u16>,
    /// Voxels per level; index 0 is unused.
    pub counts: Vec<u64>,
    /// Levels that occur, ascending.
    pub present: Vec<u16>,
    /// The highest level.
    pub ng: usize,
    /// For every row (z, y) the columns [start, end) that hold the region.
    spans: Vec<(usize, usize)>,
}

/// See [`Levels::data`].
pub(super) const SLACK: usize = 32;

/// One row of the region: where it starts in [`Levels::data`], and how long it is.
pub(super) struct Row {
    pub at: usize,
    pub len: usize,
}

impl Levels {
    /// Distance in [`Levels::data`] of an offset (z, y, x).
    pub fn step(&self, [dz, dy, dx]: [i32; 3]) -> isize {
        let [_, py, px] = self.padded();
        (dz as isize * py as isize + dy as isize) * px as isize + dx as isize
    }

    /// Padded shape (z, y, x).
    pub fn padded(&self) -> [usize; 3] {
        self.shape.map(|n| n + 2 * self.pad)
    }

    /// Place in [`Levels::data`] of a voxel (z, y, x).
    pub fn at(&self, [z, y, x]: [usize; 3]) -> usize {
        let [_, py, px] = self.padded();
        ((z + self.pad) * py + y + self.pad) * px + x + self.pad
    }

    /// `n` voxels of a row, from a voxel (z, y, x) on.
    pub fn line(&self, first: [usize; 3], n: usize) -> &[u16] {
        let at = self.at(first);
        &self.data[at..at + n]
    }

    /// No voxels yet, and room to [`Levels::cut`] boxes of a region with this highest level.
    pub fn empty(ng: usize) -> Levels {
        let (counts, data) = (vec![0; ng + 1], Vec::new());
        Levels { shape: [0; 3], pad: 0, data, counts, present: Vec::new(), ng, spans: Vec::new() }
    }

    /// Becomes the box of another region that starts at `low` and has a shape, both (z, y, x).
    pub fn cut(&mut self, whole: &Levels, low: [usize; 3], shape: [usize; 3], settings: &Settings) {
        self.present.drain(..).for_each(|level| self.counts[usize::from(level)] = 0);
        self.shape = shape;
        self.pad = padding(shape, settings);
        self.spans.clear();
        self.data.clear();
        self.data.resize(self.padded().iter().product::<usize>() + SLACK, 0);
        for z in 0..shape[0] {
            for y in 0..shape[1] {
                let line = whole.line([low[0] + z, low[1] + y, low[2]], shape[2]);
                for level in line.iter().filter(|level| **level != 0) {
                    let count = &mut self.counts[usize::from(*level)];
                    if *count == 0 {
                        self.present.push(*level);
                    }
                    *count += 1;
                }
                self.spans.push((0, shape[2]));
                let at = self.at([z, y, 0]);
                self.data[at..at + shape[2]].copy_from_slice(line);
            }
        }
        self.present.sort_unstable();
    }

    /// The rows of slice `z` that hold the region.
    pub fn rows(&self, z: usize) -> impl Iterator<Item = Row> + '_ {
        let [_, py, px] = self.padded();
        (0..self.shape[1]).filter_map(move |y| {
            let (start, end) = self.spans[z * self.shape[1] + y];
            let at = ((z + self.pad) * py + y + self.pad) * px + self.pad + start;
            (start < end).then(|| Row { at, len: end - start })
        })
    }

    /// The levels of a row, and those of the voxels at a step from them.
    pub fn pair(&self, row: &Row, step: isize) -> (&[u16], &[u16]) {
        // The padding is at least as wide as any offset, so the other row lies inside the data.
        let other = row.at.saturating_add_signed(step);
        (&self.data[row.at..row.at + row.len], &self.data[other..other + row.len])
    }
}

/// All offsets whose largest component is one of `distances`, in one direction, in PyRadiomics' order: (1,1,1), (1,1,0) ..
/// A `force2D` axis does not move; an axis moves less than its length (`shape`, z y x).
pub(super) fn angles(shape: [usize; 3], distances: &[usize], flat_axis: Option<usize>) -> Vec<[i32; 3]> {
    let far = distances.iter().copied().max().unwrap_or(0).min(i32::MAX as usize / 2) as i32;
    let reach = [0, 1, 2].map(|a| if flat_axis == Some(a) { 0 } else { far.min(shape[a] as i32 - 1) });
    let mut found = Vec::new();
    for z in (-reach[0]..=reach[0]).rev() {
        for y in (-reach[1]..=reach[1]).rev() {
            for x in (-reach[2]..=reach[2]).rev() {
                let distance = z.abs().max(y.abs()).max(x.abs()) as usize;
                if distances.contains(&distance) {
                    found.push([z, y, x]);
                }
            }
        }
    }
    // The second half mirrors the first.
    found.truncate(found.len() / 2);
    found
}

/// At least as wide as any offset between neighbors.
pub(super) fn padding(shape: [usize; 3], settings: &Settings) -> usize {
    let far = settings.distances.iter().copied().max().unwrap_or(1);
    far.min(shape.into_iter().max().unwrap_or(1)).max(1)
}

/// Cuts the region's values into levels. `inside`: the values of its runs; `shape` (z, y, x) of the bounding box. NaN, which
/// filters leave where they are not defined, comes above all levels; where PyRadiomics fails it is refused: in the first voxel
/// (Python's min() and max() keep it) and for a number of bins (a histogram's range). Infinite values are refused.
pub(super) fn discretize(
    inside: &[f64],
    runs: &[Run],
    shape: (usize, usize, usize),
    float32: bool,
    settings: &Settings,
) -> Result<Levels, RadiomicsError> {
    let (low, high, all_finite) = extremes(inside);
    let fatal =
        || low.is_infinite() || high.is_infinite() || inside[0].is_nan() || matches!(settings.bins, Bins::Count(_));
    if !all_finite && fatal() {
        return Err(RadiomicsError::NotFinite { place: "inside the region" });
    }
    let mut edges = Edges::new(low, high, &settings.bins, float32)?;
    if !all_finite {
        edges.ng = edges.at.len();
    }
    let (nz, ny, nx) = shape;
    let pad = padding([nz, ny, nx], settings);
    // Run lengths are counted in 16 bits, zones by 32 bit places.
    let voxels = (nz + 2 * pad) as u64 * (ny + 2 * pad) as u64 * (nx + 2 * pad) as u64;
    if voxels > GRID_MAX || nz.max(ny).max(nx) > usize::from(u16::MAX) {
        return Err(RadiomicsError::GridTooLarge { voxels, limit: GRID_MAX });
    }
    let mut levels = Levels {
        shape: [nz, ny, nx],
        pad,
        data: vec![0; (nz + 2 * pad) * (ny + 2 * pad) * (nx + 2 * pad) + SLACK],
        counts: vec![0; edges.ng + 1],
        present: Vec::new(),
        ng: edges.ng,
        spans: vec![(nx, 0); nz * ny],
    };
    let mut rest = inside;
    // Neighbors are counted apart: an increment would wait for the one before it in the same cell.
    let mut counts = vec![[0u64; 4]; edges.ng + 1];
    for run in runs {
        let span = &mut levels.spans[run.z * ny + run.y];
        *span = (span.0.min(run.start), run.end);
        let at = levels.at([run.z, run.y, run.start]);
        let (values, after) = rest.split_at(run.len());
        rest = after;
        for (x, (place, v)) in levels.data[at..at + run.len()].iter_mut().zip(values).enumerate() {
            let level = edges.level(*v);
            *place = level as u16;
            counts[level][x % 4] += 1;
        }
    }
    levels.counts.iter_mut().zip(&counts).for_each(|(count, four)| *count = four.iter().sum());
    levels.present = (1..=levels.ng as u16).filter(|l| levels.counts[*l as usize] > 0).collect();
    Ok(levels)
}

/// The lowest and the highest number, and whether all values are finite.
fn extremes(values: &[f64]) -> (f64, f64, bool) {
    const LANES: usize = 8;
    let (mut low, mut high) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
    let mut odd = [0.0; LANES];
    let mut take = |chunk: &[f64]| {
        for (l, v) in chunk.iter().enumerate() {
            low[l] = if *v < low[l] { *v } else { low[l] };
            high[l] = if *v > high[l] { *v } else { high[l] };
            odd[l] += *v * 0.0; // stays zero while all are finite
        }
    };
    let (chunks, rest) = values.as_chunks::<LANES>();
    chunks.iter().for_each(|chunk| take(chunk));
    take(rest);
    let least = low.into_iter().fold(f64::INFINITY, f64::min);
    let most = high.into_iter().fold(f64::NEG_INFINITY, f64::max);
    (least, most, odd.iter().sum::<f64>() == 0.0)
}

/// Lower edges of the bins, and the way from a value to its level.
struct Edges {
    at: Vec<f64>,
    /// About one over the width of a bin, for the first guess.
    per_width: f64,
    /// Level of the highest value.
    ng: usize,
}

impl Edges {
    fn new(low: f64, high: f64, bins: &Bins, float32: bool) -> Result<Edges, RadiomicsError> {
        let (at, width) = match *bins {
            Bins::Width(width) => by_width(low, high, width)?,
            Bins::Count(n) => by_count(low, high, n, float32)?,
        };
        let mut edges = Edges { at, per_width: 1.0 / width, ng: 1 };
        edges.ng = edges.level(high);
        if edges.ng > LEVELS_MAX {
            return Err(RadiomicsError::TooManyLevels { levels: edges.ng as u64, limit: LEVELS_MAX });
        }
        Ok(edges)
    }

    /// Number of edges that are not above the value (`numpy.digitize`, which puts NaN above all).
    fn level(&self, value: f64) -> usize {
        if value.is_nan() {
            return self.at.len();
        }
        // The cast cuts off at 0; edges are looked at wherever the guess is off.
        let guess = ((value - self.at[0]) * self.per_width) as usize;
        let mut level = guess.min(self.at.len());
        while level < self.at.len() && self.at[level] <= value {
            level += 1;
        }
        while level > 0 && self.at[level - 1] > value {
            level -= 1;
        }
        level
    }
}

/// `numpy.arange(low - low % w, high + 2 w, w)`: the second edge is computed first, the rest are multiples of that difference.
fn by_width(low: f64, high: f64, width: f64) -> Result<(Vec<f64>, f64), RadiomicsError> {
    let first = low - low.rem_euclid(width);
    let n = ((high + 2.0 * width - first) / width).ceil();
    if n > (LEVELS_MAX + 2) as f64 || n.is_nan() {
        return Err(RadiomicsError::TooManyLevels { levels: n as u64, limit: LEVELS_MAX });
    }
    let step = (first + width) - first;
    let edges: Vec<f64> = (0..n as usize).map(|i| first + i as f64 * step).collect();
    Ok(if edges.len() < 2 { (vec![first - 0.5, first + 0.5], 1.0) } else { (edges, step) })
}

/// `numpy.histogram`'s edges, the last one raised by 1 so that the maximum falls into the last bin.
fn by_count(low: f64, high: f64, n: usize, float32: bool) -> Result<(Vec<f64>, f64), RadiomicsError> {
    if n > LEVELS_MAX {
        return Err(RadiomicsError::TooManyLevels { levels: n as u64, limit: LEVELS_MAX });
    }
    let (low, high) = if low == high { (low - 0.5, high + 0.5) } else { (low, high) };
    let step = (high - low) / n as f64;
    let mut edges: Vec<f64> = (0..=n).map(|i| if i == n { high } else { i as f64 * step + low }).collect();
    if float32 {
        edges.iter_mut().for_each(|e| *e = f64::from(*e as f32));
    }
    edges[n] = if float32 { f64::from(edges[n] as f32 + 1.0) } else { edges[n] + 1.0 };
    Ok((edges, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(low: f64, high: f64, bins: Bins, values: &[f64]) -> Vec<usize> {
        let edges = Edges::new(low, high, &bins, false).unwrap();
        values.iter().map(|v| edges.level(*v)).collect()
    }

    #[test]
    fn bins_of_a_width_start_at_multiples_and_the_top_multiple_opens_its_own() {
        // PyRadiomics' example: 54..166 by 25 has edges 50, 75, 100, 125, 150, 175.
        assert_eq!(levels(54.0, 166.0, Bins::Width(25.0), &[54.0, 74.9, 75.0, 166.0]), [1, 1, 2, 5]);
        assert_eq!(levels(-30.0, 50.0, Bins::Width(25.0), &[-30.0, -25.0, 0.0, 50.0]), [1, 2, 3, 5]);
        assert_eq!(levels(50.0, 50.0, Bins::Width(25.0), &[50.0]), [1]);
    }

    #[test]
    fn bins_of_a_number_hold_the_maximum_in_the_last() {
        assert_eq!(levels(0.0, 8.0, Bins::Count(4), &[0.0, 1.9, 2.0, 7.9, 8.0]), [1, 1, 2, 4, 4]);
        assert_eq!(levels(3.0, 3.0, Bins::Count(8), &[3.0]), [5]);
    }

    #[test]
    fn too_many_levels_are_an_error_and_not_a_full_memory() {
        let error = Edges::new(0.0, 1e9, &Bins::Width(1e-6), false).err();
        assert!(matches!(error, Some(RadiomicsError::TooManyLevels { .. })));
    }

    #[test]
    fn angles_come_in_the_order_of_pyradiomics() {
        let found = angles([5, 5, 5], &[1], None);
        assert_eq!(found.len(), 13);
        assert_eq!(found[..4], [[1, 1, 1], [1, 1, 0], [1, 1, -1], [1, 0, 1]]);
        assert_eq!(angles([1, 5, 5], &[1], None), [[0, 1, 1], [0, 1, 0], [0, 1, -1], [0, 0, 1]]);
        assert_eq!(angles([5, 5, 5], &[2], None).len(), (125 - 27) / 2);
        assert_eq!(angles([5, 5, 5], &[1], Some(1)), [[1, 0, 1], [1, 0, 0], [1, 0, -1], [0, 0, 1]]);
    }
}
