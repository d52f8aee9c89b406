//! To the network's grid and back.
//!
//! The grid is axis-aligned LPS, centered on the source's box. Each source axis is smoothed by a Gaussian of
//! 0.42 (target / spacing - 1) voxels where the target is coarser, then sampled linearly; both become one row of weights per target voxel.

use crate::volume::{Geometry, Volume};
use ndarray::{Array2, Array3, Array4, ArrayView3, Axis, s};
use rayon::prelude::*;

/// HU of air, of everything outside the scan, and of the scanner's padding.
pub const AIR_HU: f32 = -1000.0;
/// Values at or below this are padding (-2000, -3024), not tissue.
const PADDING_HU: f32 = -1500.0;

/// A longer axis of the grid is a broken header; the cap keeps sizes from overflowing until [`Grid::n_voxels`] is checked.
const AXIS_MAX: usize = 1 << 20;

/// The network's grid over one source volume.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// The voxels that cover the source.
    pub geometry: Geometry,
    /// Size along x, y, z after padding at the high ends.
    pub padded: [usize; 3],
}

impl Grid {
    /// The grid over a source: size = ceil(extent / spacing) along each axis of LPS, centered.
    pub fn over(source: &Geometry, spacing_mm: [f64; 3], multiple: usize) -> Grid {
        let middle = source.size.map(|n| (n as f64 - 1.0) / 2.0);
        let center = source.position_mm(middle);
        // Extent of the box along each axis of LPS: the sum of the projections of its edges.
        let extent: [f64; 3] = std::array::from_fn(|row| {
            (0..3).map(|a| (source.direction[row][a] * source.spacing_mm[a]).abs() * source.size[a] as f64).sum()
        });
        // An extent of 96.0000001 voxels is 96 voxels: the excess is rounding.
        let size: [usize; 3] =
            std::array::from_fn(|a| ((extent[a] / spacing_mm[a] - 1e-9).ceil() as usize).clamp(1, AXIS_MAX));
        let origin_mm = std::array::from_fn(|a| center[a] - (size[a] as f64 - 1.0) / 2.0 * spacing_mm[a]);
        let geometry = Geometry { size, spacing_mm, origin_mm, direction: Geometry::IDENTITY };
        Grid { geometry, padded: size.map(|n| n.div_ceil(multiple) * multiple) }
    }

    /// Voxels of the padded grid.
    pub fn n_voxels(&self) -> usize {
        self.padded.iter().product()
    }

    /// The volume on the padded grid, HU, shape (z, y, x).
    pub fn sample(&self, volume: &Volume) -> Array3<f32> {
        let n = &self.geometry.size;
        let inner = match axes_of(&volume.geometry) {
            Some(axes) => self.sample_aligned(volume, axes),
            None => self.sample_oblique(volume),
        };
        let mut padded = Array3::from_elem((self.padded[2], self.padded[1], self.padded[0]), AIR_HU);
        padded.slice_mut(s![..n[2], ..n[1], ..n[0]]).assign(&inner);
        padded
    }

    fn sample_aligned(&self, volume: &Volume, axes: [(usize, bool); 3]) -> Array3<f32> {
        let view = to_lps(volume.hu.view(), axes);
        let rows: [Vec<Row>; 3] = std::array::from_fn(|a| {
            rows(
                view.len_of(Axis(2 - a)),
                volume.geometry.spacing_mm[axes[a].0],
                self.geometry.size[a],
                self.geometry.spacing_mm[a],
            )
        });
        // In plane first, slice by slice: what remains for z is small.
        let planes: Vec<Array2<f32>> = view
            .axis_iter(Axis(0))
            .into_par_iter()
            .map(|plane| {
                let (n_y, _) = plane.dim();
                let mut narrow = Array2::<f32>::zeros((n_y, rows[0].len()));
                let mut line = vec![0.0f32; plane.ncols()];
                for (from, mut to) in plane.outer_iter().zip(narrow.outer_iter_mut()) {
                    for (l, v) in line.iter_mut().zip(from) {
                        *l = air_for_padding(*v);
                    }
                    for (out, row) in to.iter_mut().zip(&rows[0]) {
                        *out = row.apply(|k| line[k]);
                    }
                }
                Array2::from_shape_fn((rows[1].len(), rows[0].len()), |(y, x)| rows[1][y].apply(|k| narrow[[k, x]]))
            })
            .collect();
        let mut out = Array3::zeros((rows[2].len(), rows[1].len(), rows[0].len()));
        out.axis_iter_mut(Axis(0)).into_par_iter().zip(&rows[2]).for_each(|(mut to, row)| {
            to.indexed_iter_mut().for_each(|((y, x), v)| *v = row.apply(|k| planes[k][[y, x]]));
        });
        out
    }

    /// A tilted source: smoothed along its own axes in a copy, then sampled trilinearly.
    fn sample_oblique(&self, volume: &Volume) -> Array3<f32> {
        let (g, source) = (&self.geometry, &volume.geometry);
        let mut hu = volume.hu.mapv(air_for_padding);
        for axis in 0..3 {
            // The target spacing that counts is that of the LPS axis closest to this one.
            let row = (0..3)
                .max_by(|a, b| source.direction[*a][axis].abs().total_cmp(&source.direction[*b][axis].abs()))
                .unwrap_or(axis);
            smooth(&mut hu, 2 - axis, &kernel(source.spacing_mm[axis], g.spacing_mm[row]));
        }
        let mut out = Array3::zeros(g.shape_zyx());
        out.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(z, mut plane)| {
            plane.indexed_iter_mut().for_each(|((y, x), v)| {
                *v = trilinear(&hu, source.index_of(g.position_mm([x as f64, y as f64, z as f64])));
            });
        });
        out
    }

    /// Label of each source voxel: the class with the largest probability, interpolated linearly from the grid.
    /// `probabilities`: shape (classes, z, y, x) on the padded grid. The result has the source's shape.
    pub fn labels_on(&self, source: &Geometry, probabilities: &Array4<f32>) -> Array3<u8> {
        match axes_of(source) {
            Some(axes) => self.labels_aligned(source, axes, probabilities),
            None => self.labels_oblique(source, probabilities),
        }
    }

    /// Probabilities at each source voxel, interpolated linearly; shape (classes, z, y, x).
    pub fn probabilities_on(&self, source: &Geometry, p: &Array4<f32>) -> Array4<f32> {
        let (n_z, n_y, n_x) = source.shape_zyx();
        let mut out = Array4::zeros((p.dim().0, n_z, n_y, n_x));
        out.axis_iter_mut(Axis(1)).into_par_iter().enumerate().for_each(|(z, mut slice)| {
            for y in 0..n_y {
                for x in 0..n_x {
                    let at = self.geometry.index_of(source.position_mm([x as f64, y as f64, z as f64]));
                    let corners = Corners::of(at, self.geometry.size);
                    slice.slice_mut(s![.., y, x]).iter_mut().enumerate().for_each(|(c, to)| *to = corners.mix(p, c));
                }
            }
        });
        out
    }

    fn labels_aligned(&self, source: &Geometry, axes: [(usize, bool); 3], p: &Array4<f32>) -> Array3<u8> {
        let n_classes = p.dim().0;
        // Where the source's voxels lie on the grid, per axis of LPS: (lower node, fraction).
        let at: [Vec<(usize, f32)>; 3] = std::array::from_fn(|a| {
            let (axis, flipped) = axes[a];
            let n = source.size[axis];
            let place = |k: usize| {
                let k = if flipped { n - 1 - k } else { k };
                let mut index = source.size.map(|n| (n as f64 - 1.0) / 2.0);
                index[axis] = k as f64;
                let t = (source.position_mm(index)[a] - self.geometry.origin_mm[a]) / self.geometry.spacing_mm[a];
                let t = t.clamp(0.0, self.geometry.size[a] as f64 - 1.0);
                let low = (t as usize).min(self.geometry.size[a].saturating_sub(2));
                (low, (t - low as f64) as f32)
            };
            (0..n).map(place).collect()
        });
        // The other indices stay in the middle, where the grid is centered: a tilt below the tolerance of `axes_of` errs least.
        let (n_y, n_x) = (self.geometry.size[1], self.geometry.size[0]);
        let mut labels = Array3::<u8>::zeros(source.shape_zyx());
        let mut lps = to_lps_mut(&mut labels, axes);
        lps.axis_iter_mut(Axis(0)).into_par_iter().zip(&at[2]).for_each(|(mut to, &(z, f_z))| {
            let z_high = (z + 1).min(self.geometry.size[2] - 1);
            let plane = Array3::from_shape_fn((n_classes, n_y, n_x), |(c, y, x)| {
                p[[c, z, y, x]] * (1.0 - f_z) + p[[c, z_high, y, x]] * f_z
            });
            let mut line = Array2::<f32>::zeros((n_classes, n_x));
            for (mut to, &(y, f_y)) in to.outer_iter_mut().zip(&at[1]) {
                let y_high = (y + 1).min(n_y - 1);
                let (low, high) = (plane.slice(s![.., y, ..]), plane.slice(s![.., y_high, ..]));
                ndarray::Zip::from(&mut line).and(&low).and(&high).for_each(|l, a, b| *l = a * (1.0 - f_y) + b * f_y);
                if line.row(0).iter().all(|background| *background > 0.5) {
                    continue; // most rows: nothing can win against the background
                }
                for (to, &(x, f_x)) in to.iter_mut().zip(&at[0]) {
                    let x_high = (x + 1).min(n_x - 1);
                    *to = arg_max((0..n_classes).map(|c| line[[c, x]] * (1.0 - f_x) + line[[c, x_high]] * f_x));
                }
            }
        });
        labels
    }

    fn labels_oblique(&self, source: &Geometry, p: &Array4<f32>) -> Array3<u8> {
        let n = self.geometry.size;
        let mut labels = Array3::<u8>::zeros(source.shape_zyx());
        labels.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(z, mut plane)| {
            plane.indexed_iter_mut().for_each(|((y, x), to)| {
                let at = self.geometry.index_of(source.position_mm([x as f64, y as f64, z as f64]));
                let corners = Corners::of(at, n);
                *to = arg_max((0..p.dim().0).map(|c| corners.mix(p, c)));
            });
        });
        labels
    }
}

/// Values of shape (z, y, x) on one grid, at the voxels of another, linearly; beyond its ends the value at the end.
pub fn interpolate(values: &Array3<f32>, from: &Grid, at: &Grid) -> Array3<f32> {
    let places: [Vec<(usize, f32)>; 3] = std::array::from_fn(|a| {
        let n = values.len_of(Axis(2 - a));
        let place = |k: usize| {
            let mm = at.geometry.origin_mm[a] + k as f64 * at.geometry.spacing_mm[a];
            let t = ((mm - from.geometry.origin_mm[a]) / from.geometry.spacing_mm[a]).clamp(0.0, n as f64 - 1.0);
            let low = (t as usize).min(n.saturating_sub(2));
            (low, (t - low as f64) as f32)
        };
        (0..at.padded[a]).map(place).collect()
    });
    let high = |low: usize, axis: usize| (low + 1).min(values.len_of(Axis(axis)) - 1);
    let mut out = Array3::zeros((at.padded[2], at.padded[1], at.padded[0]));
    out.axis_iter_mut(Axis(0)).into_par_iter().zip(&places[2]).for_each(|(mut plane, &(z, f_z))| {
        let (below, above) = (values.index_axis(Axis(0), z), values.index_axis(Axis(0), high(z, 0)));
        let between = ndarray::Zip::from(&below).and(&above).map_collect(|a, b| a * (1.0 - f_z) + b * f_z);
        for (mut line, &(y, f_y)) in plane.outer_iter_mut().zip(&places[1]) {
            let y_high = high(y, 1);
            for (to, &(x, f_x)) in line.iter_mut().zip(&places[0]) {
                let at = |x: usize| between[[y, x]] * (1.0 - f_y) + between[[y_high, x]] * f_y;
                *to = at(x) * (1.0 - f_x) + at(high(x, 2)) * f_x;
            }
        }
    });
    out
}

/// The cell round a place on the grid.
struct Corners {
    low: [usize; 3],
    high: [usize; 3],
    share: [f32; 3],
}

impl Corners {
    fn of(at: [f64; 3], n: [usize; 3]) -> Corners {
        let (low, share) = cell(at, n);
        Corners { low, high: std::array::from_fn(|a| (low[a] + 1).min(n[a] - 1)), share }
    }

    fn mix(&self, p: &Array4<f32>, c: usize) -> f32 {
        let corner = |k: usize| {
            let pick = |a: usize| {
                if k >> a & 1 == 1 { (self.high[a], self.share[a]) } else { (self.low[a], 1.0 - self.share[a]) }
            };
            let (x, y, z) = (pick(0), pick(1), pick(2));
            p[[c, z.0, y.0, x.0]] * x.1 * y.1 * z.1
        };
        (0..8).map(corner).sum()
    }
}

fn arg_max(values: impl Iterator<Item = f32>) -> u8 {
    let mut best = (f32::NEG_INFINITY, 0);
    for (class, value) in values.enumerate() {
        if value > best.0 {
            best = (value, class as u8);
        }
    }
    best.1
}

/// For each axis of LPS the source axis along it and whether it runs the other way; `None` for a tilted source.
fn axes_of(g: &Geometry) -> Option<[(usize, bool); 3]> {
    let mut axes = [(0, false); 3];
    for (row, axis) in axes.iter_mut().enumerate() {
        let a = (0..3).find(|a| g.direction[row][*a].abs() > 1.0 - 1e-6)?;
        *axis = (a, g.direction[row][a] < 0.0);
    }
    Some(axes)
}

/// The same voxels seen in the order z, y, x of LPS.
fn to_lps<T>(values: ArrayView3<'_, T>, axes: [(usize, bool); 3]) -> ArrayView3<'_, T> {
    let mut view = values.permuted_axes([2 - axes[2].0, 2 - axes[1].0, 2 - axes[0].0]);
    for (a, (_, flipped)) in axes.iter().enumerate() {
        if *flipped {
            view.invert_axis(Axis(2 - a));
        }
    }
    view
}

fn to_lps_mut(values: &mut Array3<u8>, axes: [(usize, bool); 3]) -> ndarray::ArrayViewMut3<'_, u8> {
    let mut view = values.view_mut().permuted_axes([2 - axes[2].0, 2 - axes[1].0, 2 - axes[0].0]);
    for (a, (_, flipped)) in axes.iter().enumerate() {
        if *flipped {
            view.invert_axis(Axis(2 - a));
        }
    }
    view
}

/// One target voxel as a weighted sum of source voxels along an axis.
struct Row {
    first: usize,
    weights: Vec<f32>,
}

impl Row {
    fn apply(&self, value: impl Fn(usize) -> f32) -> f32 {
        if self.weights.is_empty() {
            return AIR_HU; // outside the scan
        }
        self.weights.iter().enumerate().map(|(k, w)| w * value(self.first + k)).sum()
    }
}

/// The rows of one axis: smoothing (radius 3 sigma, edge repeated) and linear sampling in one.
fn rows(n_source: usize, spacing_mm: f64, n_target: usize, target_mm: f64) -> Vec<Row> {
    let kernel = kernel(spacing_mm, target_mm);
    let radius = (kernel.len() / 2) as i64;
    let last = n_source as i64 - 1;
    (0..n_target)
        .map(|k| {
            let at =
                (k as f64 - (n_target as f64 - 1.0) / 2.0) * target_mm / spacing_mm + (n_source as f64 - 1.0) / 2.0;
            if at < -0.5 - 1e-9 || at > last as f64 + 0.5 + 1e-9 {
                return Row { first: 0, weights: Vec::new() };
            }
            let low = (at.floor() as i64).clamp(0, last);
            let f = (at - low as f64).clamp(0.0, 1.0);
            let (first, end) = ((low - radius).clamp(0, last), (low + 1 + radius).clamp(0, last));
            let mut weights = vec![0.0f64; (end - first + 1) as usize];
            for (k, w) in kernel.iter().enumerate() {
                let shift = k as i64 - radius;
                weights[((low + shift).clamp(0, last) - first) as usize] += w * (1.0 - f);
                weights[(((low + 1).min(last) + shift).clamp(0, last) - first) as usize] += w * f;
            }
            Row { first: first as usize, weights: weights.into_iter().map(|w| w as f32).collect() }
        })
        .collect()
}

/// The Gaussian (radius 3 sigma, sum 1) that keeps a coarser target from aliasing; one weight of 1 where the target is not coarser.
fn kernel(spacing_mm: f64, target_mm: f64) -> Vec<f64> {
    let sigma = (0.42 * (target_mm / spacing_mm - 1.0)).max(0.0);
    let radius = (3.0 * sigma + 0.5) as i64;
    let weight = |k: i64| if radius == 0 { 1.0 } else { (-0.5 * (k as f64 / sigma).powi(2)).exp() };
    let sum: f64 = (-radius..=radius).map(weight).sum();
    (-radius..=radius).map(|k| weight(k) / sum).collect()
}

/// Convolves along one axis of the array, edge repeated, in place.
fn smooth(values: &mut Array3<f32>, array_axis: usize, kernel: &[f64]) {
    if kernel.len() == 1 {
        return;
    }
    let kernel: Vec<f32> = kernel.iter().map(|w| *w as f32).collect();
    let radius = kernel.len() / 2;
    // In parallel over planes that contain the axis.
    values.axis_iter_mut(Axis(if array_axis == 0 { 1 } else { 0 })).into_par_iter().for_each(|mut plane| {
        let along = Axis(if array_axis == 2 { 1 } else { 0 });
        let n = plane.len_of(along);
        let mut line = vec![0.0f32; n + 2 * radius];
        for mut lane in plane.lanes_mut(along) {
            for (k, v) in line.iter_mut().enumerate() {
                *v = lane[k.saturating_sub(radius).min(n - 1)];
            }
            for (k, v) in lane.iter_mut().enumerate() {
                *v = line[k..].iter().zip(&kernel).map(|(v, w)| v * w).sum();
            }
        }
    });
}

/// HU with the scanner's padding as air.
fn air_for_padding(hu: f32) -> f32 {
    if hu <= PADDING_HU { AIR_HU } else { hu }
}

/// Lower corner and fractions of the cell round a continuous index, clamped to the grid.
fn cell(at: [f64; 3], n: [usize; 3]) -> ([usize; 3], [f32; 3]) {
    let t: [f64; 3] = std::array::from_fn(|a| at[a].clamp(0.0, n[a] as f64 - 1.0));
    let low: [usize; 3] = std::array::from_fn(|a| (t[a] as usize).min(n[a].saturating_sub(2)));
    (low, std::array::from_fn(|a| (t[a] - low[a] as f64) as f32))
}

/// HU at a continuous index (x, y, z); air outside the scan.
fn trilinear(hu: &Array3<f32>, at: [f64; 3]) -> f32 {
    let (n_z, n_y, n_x) = hu.dim();
    let n = [n_x, n_y, n_z];
    if (0..3).any(|a| at[a] < -0.5 || at[a] > n[a] as f64 - 0.5) {
        return AIR_HU;
    }
    let (low, f) = cell(at, n);
    let mut sum = 0.0;
    for k in 0..8 {
        let pick = |a: usize| if k >> a & 1 == 1 { ((low[a] + 1).min(n[a] - 1), f[a]) } else { (low[a], 1.0 - f[a]) };
        let (x, y, z) = (pick(0), pick(1), pick(2));
        sum += hu[[z.0, y.0, x.0]] * x.1 * y.1 * z.1;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ball(direction: [[f64; 3]; 3], size: [usize; 3], spacing_mm: [f64; 3]) -> (Volume, Array3<bool>) {
        let mut geometry = Geometry { size, spacing_mm, origin_mm: [0.0; 3], direction };
        let middle = geometry.position_mm(size.map(|n| (n as f64 - 1.0) / 2.0));
        geometry.origin_mm = middle.map(|m| -m); // centered on 0
        let center = [12.0, -8.0, 5.0];
        let mask = Array3::from_shape_fn(geometry.shape_zyx(), |(z, y, x)| {
            let p = geometry.position_mm([x as f64, y as f64, z as f64]);
            (0..3).map(|a| (p[a] - center[a]).powi(2)).sum::<f64>() < 40.0 * 40.0
        });
        (Volume { hu: mask.mapv(|m| if m { 100.0 } else { -1000.0 }), geometry }, mask)
    }

    fn round_trip_dice(direction: [[f64; 3]; 3], size: [usize; 3], spacing_mm: [f64; 3]) -> f64 {
        let (volume, mask) = ball(direction, size, spacing_mm);
        let grid = Grid::over(&volume.geometry, [4.0; 3], 8);
        let sampled = grid.sample(&volume);
        let inside = sampled.mapv(|hu| ((hu + 1000.0) / 1100.0).clamp(0.0, 1.0));
        let p = ndarray::stack(Axis(0), &[inside.mapv(|v| 1.0 - v).view(), inside.view()]).expect("equal shapes");
        let labels = grid.labels_on(&volume.geometry, &p);
        let both = labels.iter().zip(&mask).filter(|(l, m)| **l == 1 && **m).count() as f64;
        2.0 * both / (labels.iter().filter(|l| **l == 1).count() + mask.iter().filter(|m| **m).count()) as f64
    }

    #[test]
    fn a_ball_survives_the_way_to_4_mm_and_back_for_any_orientation() {
        let id = Geometry::IDENTITY;
        let feet_first = [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]];
        let coronal = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]];
        let (c, s) = (0.2f64.cos(), 0.2f64.sin());
        let oblique = [[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]];
        for direction in [id, feet_first, coronal, oblique] {
            let dice = round_trip_dice(direction, [128, 120, 60], [1.0, 1.0, 2.5]);
            assert!(dice > 0.98, "{direction:?}: {dice}");
        }
    }

    #[test]
    fn a_tilt_of_nothing_gives_the_samples_and_labels_of_the_fast_path() {
        let (volume, _) = ball(Geometry::IDENTITY, [90, 80, 40], [1.0, 1.0, 2.5]);
        let grid = Grid::over(&volume.geometry, [4.0; 3], 8);
        let axes = axes_of(&volume.geometry).expect("the axes of LPS");
        let (fast, general) = (grid.sample_aligned(&volume, axes), grid.sample_oblique(&volume));
        let worst = fast.iter().zip(&general).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 0.01, "{worst} HU");
        let inside = grid.sample(&volume).mapv(|hu| (hu + 1000.0) / 1100.0);
        let p = ndarray::stack(Axis(0), &[inside.mapv(|v| 1.0 - v).view(), inside.view()]).expect("equal shapes");
        let differ = ndarray::Zip::from(&grid.labels_aligned(&volume.geometry, axes, &p))
            .and(&grid.labels_oblique(&volume.geometry, &p))
            .fold(0, |n, a, b| n + usize::from(a != b));
        assert!(differ < 5, "{differ} labels");
    }

    #[test]
    fn a_tilted_scan_of_the_same_ball_looks_the_same() {
        // 0.2 rad about x; both grids are axis-aligned and cover the ball: their values at the same places agree.
        let (c, s) = (0.2f64.cos(), 0.2f64.sin());
        let (straight, _) = ball(Geometry::IDENTITY, [128, 120, 60], [1.0, 1.0, 2.5]);
        let (tilted, _) = ball([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]], [128, 120, 60], [1.0, 1.0, 2.5]);
        let grid = Grid::over(&straight.geometry, [4.0; 3], 8);
        let (a, b) = (grid.sample(&straight), grid.sample(&tilted));
        let volume_ml = |v: &Array3<f32>| v.iter().map(|hu| f64::from(hu + 1000.0) / 1100.0).sum::<f64>() * 0.064;
        assert!((volume_ml(&a) / volume_ml(&b) - 1.0).abs() < 0.01, "{} mL, {} mL", volume_ml(&a), volume_ml(&b));
        let mean = a.iter().zip(&b).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / a.len() as f64;
        assert!(mean < 5.0, "{mean} HU");
    }

    #[test]
    fn a_scan_of_one_voxel_and_a_broken_header_have_a_grid() {
        let one =
            Geometry { size: [1; 3], spacing_mm: [0.7, 0.7, 5.0], origin_mm: [3.0; 3], direction: Geometry::IDENTITY };
        let grid = Grid::over(&one, [4.0; 3], 8);
        assert_eq!((grid.geometry.size, grid.padded), ([1, 1, 2], [8, 8, 8]));
        let volume = Volume { hu: Array3::from_elem((1, 1, 1), 40.0), geometry: one.clone() };
        assert_eq!(grid.sample(&volume)[[0, 0, 0]], 40.0);
        assert_eq!(grid.labels_on(&one, &Array4::from_elem((2, 8, 8, 8), 0.5)).dim(), (1, 1, 1));
        let vast = Geometry { spacing_mm: [1e300; 3], ..one };
        assert_eq!(Grid::over(&vast, [4.0; 3], 8).geometry.size, [AXIS_MAX; 3]);
    }

    #[test]
    fn the_grid_covers_the_source_and_is_centered() {
        let g = Geometry {
            size: [100, 50, 10],
            spacing_mm: [1.0, 1.0, 5.0],
            origin_mm: [0.0; 3],
            direction: Geometry::IDENTITY,
        };
        let grid = Grid::over(&g, [4.0; 3], 8);
        assert_eq!(grid.geometry.size, [25, 13, 13]); // 100/4, ceil(50/4), ceil(50/4)
        assert_eq!(grid.padded, [32, 16, 16]);
        assert_eq!(grid.geometry.origin_mm, [49.5 - 48.0, 24.5 - 24.0, 22.5 - 24.0]);
    }

    #[test]
    fn rows_sum_to_one_and_air_lies_outside() {
        for row in rows(50, 0.75, 10, 4.0) {
            assert!(row.weights.is_empty() || (row.weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
        // 3 voxels of 1 mm under 2 of 4 mm: the target centers lie at -2 and +2 mm, half a voxel outside is still the scan's edge.
        assert!(rows(3, 1.0, 2, 4.0).iter().all(|r| r.weights.is_empty()));
    }

    #[test]
    fn padding_counts_as_air() {
        let g = Geometry { size: [8, 8, 8], spacing_mm: [4.0; 3], origin_mm: [0.0; 3], direction: Geometry::IDENTITY };
        let volume = Volume { hu: Array3::from_elem((8, 8, 8), -3024.0), geometry: g.clone() };
        assert!(Grid::over(&g, [4.0; 3], 8).sample(&volume).iter().all(|hu| *hu == AIR_HU));
    }
}
