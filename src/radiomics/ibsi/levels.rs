//! Gray levels in a padded box that kernels can scan: level 0 is outside, so no border is ever tested.

use super::settings::{Bins, Settings, refused};
use crate::radiomics::RadiomicsError;
use ndarray::{Array3, ArrayView3};

/// The highest gray level in this convention: some matrices of this size are kept at once.
pub const LEVELS_MAX: usize = 2048;

/// The discretized region: level 0 is outside, levels 1..=`ng` inside.
pub(super) struct Levels {
    /// Shape (z, y, x) of the region's box.
    pub shape: [usize; 3],
    /// Voxels of padding on every side.
    pad: usize,
    /// Levels, padded, x fastest.
    pub data: Vec<u16>,
    /// Number of levels: the highest one, or the fixed number of bins.
    pub ng: usize,
}

impl Levels {
    /// Cuts intensities into levels. `values` and `inside` have the shape of the box; all values inside are finite.
    pub fn new(
        values: ArrayView3<f64>,
        inside: ArrayView3<bool>,
        settings: &Settings,
    ) -> Result<Levels, RadiomicsError> {
        let known = || values.iter().zip(inside).filter(|(_, m)| **m).map(|(v, _)| *v);
        let lowest = known().fold(f64::INFINITY, f64::min);
        let highest = known().fold(f64::NEG_INFINITY, f64::max);
        let level = level(lowest, highest, settings);
        let ng = match settings.discretization {
            Bins::None if known().any(|v| v < 1.0 || v.fract() != 0.0) => {
                return Err(refused("without discretization intensities must be whole and positive"));
            }
            Bins::Number(n) => n as f64,
            _ => level(highest),
        };
        if ng > LEVELS_MAX as f64 {
            return Err(RadiomicsError::TooManyLevels { levels: ng as u64, limit: LEVELS_MAX });
        }
        let cells = Array3::from_shape_fn(values.dim(), |at| if inside[at] { level(values[at]) as u16 } else { 0 });
        Ok(Levels::from_cells(cells.view(), settings.distance, ng as usize))
    }

    /// Levels of a box, 0 outside.
    pub fn from_cells(cells: ArrayView3<u16>, pad: usize, ng: usize) -> Levels {
        let (nz, ny, nx) = cells.dim();
        let mut levels = Levels { shape: [nz, ny, nx], pad, data: Vec::new(), ng };
        let [pz, py, px] = levels.padded();
        levels.data = vec![0; pz * py * px];
        for (z, plane) in cells.outer_iter().enumerate() {
            for (y, row) in plane.outer_iter().enumerate() {
                let at = levels.row(z, y);
                levels.data[at..at + nx].iter_mut().zip(row).for_each(|(d, c)| *d = *c);
            }
        }
        levels
    }

    /// Padded shape (z, y, x).
    pub fn padded(&self) -> [usize; 3] {
        self.shape.map(|n| n + 2 * self.pad)
    }

    /// Where a row of the box starts in [`Levels::data`].
    pub fn row(&self, z: usize, y: usize) -> usize {
        let [_, py, px] = self.padded();
        ((z + self.pad) * py + y + self.pad) * px + self.pad
    }

    /// Starts of all rows of slice `z`.
    pub fn rows(&self, z: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.shape[1]).map(move |y| self.row(z, y))
    }

    /// Distance in [`Levels::data`] of an offset (z, y, x).
    pub fn step(&self, [dz, dy, dx]: [i32; 3]) -> isize {
        let [_, py, px] = self.padded();
        (dz as isize * py as isize + dy as isize) * px as isize + dx as isize
    }

    /// The levels of a row, and those of the voxels at a step from them. The padding is as wide as any offset.
    pub fn pair(&self, row: usize, step: isize) -> (&[u16], &[u16]) {
        let (n, other) = (self.shape[2], row.saturating_add_signed(step));
        (&self.data[row..row + n], &self.data[other..other + n])
    }
}

/// The way from an intensity to its level.
fn level(lowest: f64, highest: f64, settings: &Settings) -> impl Fn(f64) -> f64 {
    let bins = settings.discretization;
    let first = settings.range.map(|[low, _]| low).filter(|low| low.is_finite()).unwrap_or(lowest);
    move |v| match bins {
        Bins::None => v,
        Bins::Width(width) => ((v - first) / width).floor() + 1.0,
        Bins::Number(n) if v >= highest => n as f64,
        Bins::Number(n) => ((n as f64 * (v - lowest) / (highest - lowest)).floor() + 1.0).min(n as f64),
    }
}

/// Directions of which every pair of opposite ones is listed once (z, y, x): 4 in a slice, 13 in the volume, 9 of which
/// leave the slice. They are those of distance 1; IBSI multiplies them by the distance.
pub(super) fn directions(planar: bool) -> Vec<[i32; 3]> {
    let all = offsets(1, planar);
    all[all.len() / 2..].to_vec()
}

/// All offsets (z, y, x) within a Chebyshev distance, but for the voxel itself; the second half mirrors the first.
pub(super) fn offsets(distance: usize, planar: bool) -> Vec<[i32; 3]> {
    let d = distance as i32;
    let reach = if planar { 0 } else { d };
    let mut found = Vec::new();
    for z in -reach..=reach {
        for y in -d..=d {
            found.extend((-d..=d).map(|x| [z, y, x]).filter(|offset| *offset != [0, 0, 0]));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64], bins: Bins, range: Option<[f64; 2]>) -> (Vec<u16>, usize) {
        let values = Array3::from_shape_vec((1, 1, values.len()), values.to_vec()).unwrap();
        let settings = Settings { discretization: bins, range, ..Settings::default() };
        let inside = values.mapv(|_| true);
        let levels = Levels::new(values.view(), inside.view(), &settings).unwrap();
        let at = levels.row(0, 0);
        (levels.data[at..at + values.len()].to_vec(), levels.ng)
    }

    #[test]
    fn fixed_bins_start_at_the_lower_bound_and_hold_the_maximum() {
        assert_eq!(of(&[0.0, 24.0, 25.0, 60.0], Bins::Width(25.0), Some([-500.0, 400.0])), (vec![21, 21, 22, 23], 23));
        assert_eq!(of(&[1.0, 24.0, 26.0], Bins::Width(25.0), None), (vec![1, 1, 2], 2));
        assert_eq!(of(&[0.0, 1.9, 2.0, 8.0], Bins::Number(4), Some([-5.0, 10.0])), (vec![1, 1, 2, 4], 4));
        assert_eq!(of(&[3.0, 3.0], Bins::Number(4), None), (vec![4, 4], 4));
        assert_eq!(of(&[1.0, 6.0], Bins::None, None), (vec![1, 6], 6));
    }

    #[test]
    fn opposite_directions_count_once() {
        assert_eq!(directions(true), [[0, 0, 1], [0, 1, -1], [0, 1, 0], [0, 1, 1]]);
        assert_eq!(directions(false).len(), 13);
        assert_eq!(offsets(2, false).len(), 124);
    }
}
