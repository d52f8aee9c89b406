//! Resampling as ITK does it, bit for bit: integer images are truncated, so the last bit of a sum can decide a whole unit.

use super::inverse::inverse;
use super::region::{Bounds, Grid, Roi, crop, inside_image, missing};
use super::settings::{Interpolator, Settings};
use super::{RadiomicsError, bspline, kernels};
use crate::volume::{Geometry, Scalar};
use ndarray::{Array3, ArrayView3, Axis, CowArray};
use rayon::prelude::*;

/// More voxels than this in a new grid are refused.
pub(super) const GRID_MAX: u64 = 1 << 29;

/// Resamples image and region to `spacing` (mm, x y z; 0 keeps an axis), cropped to the region and `padDistance`.
/// The grid keeps the corner of the mask's grid.
pub(super) fn resample<T: Scalar>(
    image: &Grid<T>,
    roi: &Roi,
    spacing: [f64; 3],
    interpolator: Interpolator,
    settings: &Settings,
) -> Result<(Grid<'static, T>, Roi), RadiomicsError> {
    let bounds = inside_image(&image.geometry, roi, settings.label)?;
    let old = roi.geometry.spacing_mm;
    // A region of one slice is not resampled across it.
    let keep = |a: usize| spacing[a] == 0.0 || bounds.size[a] == 1;
    let new: [f64; 3] = std::array::from_fn(|a| if keep(a) { old[a] } else { spacing[a] });
    let close = |a: usize| (image.geometry.spacing_mm[a] - new[a]).abs() <= 1e-8 + 1e-5 * new[a].abs();
    if (0..3).all(close) {
        let moved = Roi { inside: mask(roi, &image.geometry), geometry: image.geometry.clone() };
        let (bounds, _) = missing(moved.bounds(), settings.label)?;
        return Ok(crop(image, &moved, bounds, settings.pad_distance));
    }
    let geometry = grid(&roi.geometry, bounds, new, settings.pad_distance)?;
    let voxels = sample(image.voxels.view(), &image.geometry, &geometry, interpolator);
    let inside = mask(roi, &geometry);
    Ok((Grid { voxels: CowArray::from(voxels), geometry: geometry.clone() }, Roi { inside, geometry }))
}

/// The new grid, in the mask's directions.
fn grid(mask: &Geometry, b: Bounds, new: [f64; 3], pad: usize) -> Result<Geometry, RadiomicsError> {
    let (mut size, mut index) = ([0usize; 3], [0.0; 3]);
    let mut voxels = 1.0f64;
    for a in 0..3 {
        let old = mask.spacing_mm[a];
        let ratio = old / new[a];
        let (first, n, pad) = (b.first[a] as f64, b.size[a] as f64, pad as f64);
        let lower = ((first - 0.5) * ratio - pad).floor().max(0.0);
        let last = (mask.size[a] as f64 * ratio).ceil() - 1.0;
        let upper = ((first + n - 0.5) * ratio + pad).ceil().min(last);
        voxels *= upper - lower + 1.0;
        if !(voxels >= 1.0 && voxels <= GRID_MAX as f64) {
            return Err(RadiomicsError::GridTooLarge { voxels: voxels as u64, limit: GRID_MAX });
        }
        size[a] = (upper - lower + 1.0) as usize;
        index[a] = 0.5 * (new[a] - old) / old + lower / ratio;
    }
    let steps = steps(mask);
    let origin_mm = std::array::from_fn(|r| {
        steps[r][0] * index[0] + steps[r][1] * index[1] + steps[r][2] * index[2] + mask.origin_mm[r]
    });
    Ok(Geometry { size, spacing_mm: new, origin_mm, direction: mask.direction })
}

/// The region on another grid, by the nearest voxel; nothing outside.
pub(super) fn mask(roi: &Roi, onto: &Geometry) -> Array3<bool> {
    let view = roi.inside.view();
    let mut out = Array3::from_elem(onto.shape_zyx(), false);
    rows(&roi.geometry, onto, &mut out, |row, line, (): &mut ()| nearest(&view, row, line));
    out
}

fn sample<T: Scalar>(view: ArrayView3<T>, from: &Geometry, onto: &Geometry, by: Interpolator) -> Array3<T> {
    let mut out = Array3::from_elem(onto.shape_zyx(), T::from_f64(0.0));
    match by {
        Interpolator::Nearest => rows(from, onto, &mut out, |row, line, (): &mut ()| nearest(&view, row, line)),
        Interpolator::Linear => rows(from, onto, &mut out, |row, line, (): &mut ()| linear(&view, row, line)),
        Interpolator::BSpline => {
            let spline = bspline::Spline::new(view, touched(from, onto));
            rows(from, onto, &mut out, |row, line, (): &mut ()| spline.evaluate(row, line));
        }
        _ => {
            let kernel = kernels::Kernel::new(view, by);
            rows(from, onto, &mut out, |row, line, memory| kernel.evaluate(row, line, memory));
        }
    }
    out
}

/// Columns of the matrix from index to position.
fn steps(g: &Geometry) -> [[f64; 3]; 3] {
    std::array::from_fn(|r| std::array::from_fn(|a| g.direction[r][a] * g.spacing_mm[a]))
}

/// Where a row of the new grid runs through the old one, as continuous indices (x, y, z).
#[derive(Clone, Copy)]
pub(super) struct Line {
    start: [f64; 3],
    /// From the first voxel to the one after the last.
    length: [f64; 3],
    n: f64,
}

impl Line {
    /// Index of the k-th voxel of the row, computed as ITK does.
    pub fn at(&self, k: usize) -> [f64; 3] {
        let alpha = k as f64 / self.n;
        std::array::from_fn(|a| self.start[a] + alpha * self.length[a])
    }

    /// What decides the x of all voxels of the row.
    pub fn along_x(&self) -> (f64, f64) {
        (self.start[0], self.length[0])
    }

    /// Whether y and z stay the same along the row.
    pub fn is_straight(&self) -> bool {
        self.length[1] == 0.0 && self.length[2] == 0.0
    }
}

/// Fills every row of `out`, slices in parallel; the rows of a slice share a memory.
fn rows<T: Send, M: Default>(
    from: &Geometry,
    onto: &Geometry,
    out: &mut Array3<T>,
    fill: impl Fn(&mut [T], Line, &mut M) + Sync,
) {
    let (forward, back) = (steps(onto), inverse(steps(from)));
    let index = |x: usize, y: usize, z: usize| -> [f64; 3] {
        let at = [x as f64, y as f64, z as f64];
        let offset: [f64; 3] = std::array::from_fn(|r| {
            let position = onto.origin_mm[r] + forward[r][0] * at[0] + forward[r][1] * at[1] + forward[r][2] * at[2];
            position - from.origin_mm[r]
        });
        std::array::from_fn(|r| back[r][0] * offset[0] + back[r][1] * offset[1] + back[r][2] * offset[2])
    };
    let nx = onto.size[0];
    let planes: Vec<_> = out.axis_iter_mut(Axis(0)).enumerate().collect();
    planes.into_par_iter().for_each(|(z, mut plane)| {
        let mut memory = M::default();
        for (y, mut row) in plane.rows_mut().into_iter().enumerate() {
            let (start, end) = (index(0, y, z), index(nx, y, z));
            let line = Line { start, length: std::array::from_fn(|a| end[a] - start[a]), n: nx as f64 };
            if let Some(row) = row.as_slice_mut() {
                fill(row, line, &mut memory);
            }
        }
    });
}

/// The voxels of the old grid, (first, end) for x, y, z, that any support on the new grid can touch.
fn touched(from: &Geometry, onto: &Geometry) -> [(usize, usize); 3] {
    let back = inverse(steps(from));
    let (mut low, mut high) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
    for corner in 0..8usize {
        let at: [f64; 3] = std::array::from_fn(|a| if corner >> a & 1 == 1 { onto.size[a] as f64 } else { 0.0 });
        let position = onto.position_mm(at);
        for a in 0..3 {
            let index: f64 = (0..3).map(|r| back[a][r] * (position[r] - from.origin_mm[r])).sum();
            low[a] = low[a].min(index);
            high[a] = high[a].max(index);
        }
    }
    std::array::from_fn(|a| {
        let n = from.size[a];
        // Four voxels for the support, mirrored at the border.
        let first = ((low[a].floor() - 4.0).max(0.0) as usize).min(n.saturating_sub(5));
        (first, ((high[a].ceil() + 5.0).max(5.0) as usize).min(n).max(first + 1))
    })
}

/// Whether an index lies within half a voxel of the image.
pub(super) fn is_inside(index: [f64; 3], size: [usize; 3]) -> bool {
    (0..3).all(|a| index[a] >= -0.5 && index[a] < size[a] as f64 - 0.5)
}

/// Size (x, y, z) of an array.
pub(super) fn size_of<T>(view: &ArrayView3<T>) -> [usize; 3] {
    let (nz, ny, nx) = view.dim();
    [nx, ny, nz]
}

fn nearest<T: Copy>(view: &ArrayView3<T>, row: &mut [T], line: Line) {
    let size = size_of(view);
    for (k, out) in row.iter_mut().enumerate() {
        let index = line.at(k);
        if is_inside(index, size) {
            let at: [usize; 3] = std::array::from_fn(|a| ((index[a] + 0.5).floor().max(0.0) as usize).min(size[a] - 1));
            *out = view[[at[2], at[1], at[0]]];
        }
    }
}

fn linear<T: Scalar>(view: &ArrayView3<T>, row: &mut [T], line: Line) {
    let size = size_of(view);
    for (k, out) in row.iter_mut().enumerate() {
        let index = line.at(k);
        if !is_inside(index, size) {
            continue;
        }
        let below: [usize; 3] = std::array::from_fn(|a| index[a].floor().max(0.0) as usize);
        let above: [usize; 3] = std::array::from_fn(|a| (below[a] + 1).min(size[a] - 1));
        let d: [f64; 3] = std::array::from_fn(|a| (index[a] - below[a] as f64).max(0.0));
        let along_x = |y: usize, z: usize| {
            let (a, b) = (view[[z, y, below[0]]].as_f64(), view[[z, y, above[0]]].as_f64());
            a + (b - a) * d[0]
        };
        let along_y = |z: usize| {
            let (a, b) = (along_x(below[1], z), along_x(above[1], z));
            a + (b - a) * d[1]
        };
        let (a, b) = (along_y(below[2]), along_y(above[2]));
        *out = T::from_f64(a + (b - a) * d[2]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_onto_itself_changes_nothing() {
        let (c, s) = (0.8, 0.6);
        let geometry = Geometry {
            size: [5, 4, 3],
            spacing_mm: [0.5, 2.0, 3.0],
            origin_mm: [1.0, -2.0, 3.0],
            direction: [[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, -1.0]],
        };
        let values = Array3::from_shape_fn((3, 4, 5), |(z, y, x)| (x * x + 10 * y + 100 * z) as f32);
        for by in [Interpolator::Nearest, Interpolator::Linear, Interpolator::BSpline, Interpolator::WelchSinc] {
            let found = sample(values.view(), &geometry, &geometry, by);
            for (a, b) in found.iter().zip(&values) {
                assert!((a - b).abs() < 1e-3, "{by:?}: {a} {b}");
            }
        }
    }
}
