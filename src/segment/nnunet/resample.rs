//! Onto the network's grid: nnU-Net's `resample_data_or_seg_to_shape` for images (order 3 unless the plans say
//! otherwise).

use super::axis::{Axis1, Order, nearest};
use ndarray::{Array3, ArrayView2, ArrayView3, ArrayViewMut2, ArrayViewMut3, Axis, s};
use rayon::prelude::*;

/// How a resampling function is called by the plans.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resampling {
    /// Spline order in plane, and along the slices too unless they are resampled separately.
    pub order: Order,
    /// Order along the slices where they are resampled separately.
    pub order_z: Order,
    /// `force_separate_z`: yes, no, or by the spacing.
    pub separate_z: Option<bool>,
    /// Ratio of the largest to the smallest spacing above which slices are resampled separately.
    pub anisotropy: f64,
}

/// Voxels per axis after resampling: rounds half to even as Python does, in nnU-Net's order of operations.
pub fn target_shape(shape: [usize; 3], from_mm: [f64; 3], to_mm: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|a| (from_mm[a] / to_mm[a] * shape[a] as f64).round_ties_even())
}

impl Resampling {
    /// The axis that is resampled apart from the plane, if there is one: that of the largest spacing, which must stand
    /// alone.
    pub fn separate_axis(&self, from_mm: [f64; 3], to_mm: [f64; 3]) -> Option<usize> {
        let ratio = |mm: [f64; 3]| mm.iter().copied().fold(0.0, f64::max) / mm.iter().copied().fold(f64::MAX, f64::min);
        let of = match self.separate_z {
            Some(false) => return None,
            Some(true) => from_mm,
            None if ratio(from_mm) > self.anisotropy => from_mm,
            None if ratio(to_mm) > self.anisotropy => to_mm,
            None => return None,
        };
        let largest = of.iter().copied().fold(0.0, f64::max);
        let mut axes = (0..3).filter(|a| largest / of[*a] == 1.0);
        match (axes.next(), axes.next()) {
            (Some(axis), None) => Some(axis),
            _ => None,
        }
    }

    /// An image on a grid of another shape, clipped to the range of its values. `value(at, v)` is what voxel `at` of
    /// the image counts as (its normalization), so that no normalized copy of the volume is needed.
    pub fn image(
        &self,
        image: ArrayView3<f32>,
        value: impl Fn([usize; 3], f32) -> f32 + Sync,
        mut out: ArrayViewMut3<f32>,
        separate: Option<usize>,
    ) {
        if image.dim() == out.dim() {
            out.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(z, mut to)| {
                let slice = image.index_axis(Axis(0), z);
                to.indexed_iter_mut().for_each(|((y, x), to)| *to = value([z, y, x], slice[[y, x]]));
            });
            return;
        }
        match separate {
            Some(axis) => self.slice_by_slice(image, value, out, axis),
            None => self.whole(image, value, out),
        }
    }

    fn whole(
        &self,
        image: ArrayView3<f32>,
        value: impl Fn([usize; 3], f32) -> f32 + Sync,
        mut out: ArrayViewMut3<f32>,
    ) {
        let (n_z, n_y, n_x) = image.dim();
        let target: [usize; 3] = out.dim().into();
        let plane = Plane::new([n_y, n_x], [target[1], target[2]], self.order);
        let in_plane = |mut to: ArrayViewMut3<f32>| {
            let slices = to.axis_iter_mut(Axis(0)).into_par_iter().enumerate();
            let ranges: Vec<[f32; 2]> = slices
                .map_init(Scratch::default, |scratch, (z, to)| {
                    let slice = load(image.index_axis(Axis(0), z), |y, x, v| value([z, y, x], v), &mut scratch.slice);
                    let range = range(slice);
                    plane.resample([n_y, n_x], to, scratch);
                    range
                })
                .collect();
            ranges.into_iter().fold([f32::INFINITY, f32::NEG_INFINITY], widest)
        };
        if n_z == target[0] {
            let [low, high] = in_plane(out.view_mut());
            out.par_mapv_inplace(|v| v.clamp(low, high));
            return;
        }
        let mut inner = Array3::zeros((n_z, target[1], target[2]));
        let [low, high] = in_plane(inner.view_mut());
        let clip = |v: f32| v.clamp(low, high);
        let along = Axis1::new(n_z, target[0], self.order);
        out.axis_iter_mut(Axis(1)).into_par_iter().enumerate().for_each_init(Vec::new, |rows, (y, mut to)| {
            let source = |z: usize| -> &[f32] { inner.slice(s![z, y, ..]).to_slice().unwrap_or_default() };
            let put = |z: usize, columns: std::ops::Range<usize>, values: &[f32]| {
                to.slice_mut(s![z, columns]).iter_mut().zip(values).for_each(|(to, v)| *to = clip(*v));
            };
            along.resample(target[2], source, put, rows);
        });
    }

    fn slice_by_slice(
        &self,
        image: ArrayView3<f32>,
        value: impl Fn([usize; 3], f32) -> f32 + Sync,
        mut out: ArrayViewMut3<f32>,
        axis: usize,
    ) {
        let target: [usize; 3] = out.dim().into();
        let [in_y, in_x] = in_plane(axis);
        let n = image.shape();
        let (n_z, plane_shape) = (n[axis], [n[in_y], n[in_x]]);
        let plane = Plane::new(plane_shape, [target[in_y], target[in_x]], self.order);
        let make = |z: usize, to: ArrayViewMut2<f32>, scratch: &mut Scratch| {
            let at = |y: usize, x: usize| {
                let mut at = [z; 3];
                (at[in_y], at[in_x]) = (y, x);
                at
            };
            let slice = load(image.index_axis(Axis(axis), z), |y, x, v| value(at(y, x), v), &mut scratch.slice);
            let [low, high] = range(slice);
            let mut to = to;
            plane.resample(plane_shape, to.view_mut(), scratch);
            to.mapv_inplace(|v| v.clamp(low, high));
        };
        if self.order_z == Order::Nearest || n_z == target[axis] {
            let slices = out.axis_iter_mut(Axis(axis)).into_par_iter().enumerate();
            slices.for_each_init(Scratch::default, |scratch, (k, to)| make(nearest(k, n_z, target[axis]), to, scratch));
            return;
        }
        // Another order along the slices: all of them first, then along each line.
        let mut shape = target;
        shape[axis] = n_z;
        let mut inner = Array3::zeros((shape[0], shape[1], shape[2]));
        let slices = inner.axis_iter_mut(Axis(axis)).into_par_iter().enumerate();
        slices.for_each_init(Scratch::default, |scratch, (z, to)| make(z, to, scratch));
        let along = Axis1::new(n_z, target[axis], self.order_z);
        let lines = out.axis_iter_mut(Axis(in_y)).into_par_iter().zip(inner.axis_iter(Axis(in_y)));
        lines.for_each_init(Vec::new, |rows, (to, from)| {
            // The plane of the axis and the other one in plane, whichever comes first in the array.
            let flip = axis > in_x;
            let from = if flip { from.t() } else { from }.as_standard_layout().into_owned();
            let mut to = if flip { to.reversed_axes() } else { to };
            let source =
                |z: usize| -> &[f32] { from.as_slice().map_or(&[], |v| &v[z * from.ncols()..][..from.ncols()]) };
            let put = |z: usize, columns: std::ops::Range<usize>, values: &[f32]| {
                to.slice_mut(s![z, columns]).iter_mut().zip(values).for_each(|(to, v)| *to = *v);
            };
            along.resample(from.ncols(), source, put, rows);
        });
    }
}

/// The two axes beside one, in order.
fn in_plane(axis: usize) -> [usize; 2] {
    match axis {
        0 => [1, 2],
        1 => [0, 2],
        _ => [0, 1],
    }
}

/// What a thread reuses from slice to slice.
#[derive(Default)]
struct Scratch {
    slice: Vec<f32>,
    narrow: Vec<f32>,
    turned: Vec<f32>,
    rows: Vec<[f32; 64]>,
}

/// Both axes of a slice. An axis that keeps its length keeps its values.
struct Plane {
    rows: Option<Axis1>,
    columns: Option<Axis1>,
}

impl Plane {
    fn new(from: [usize; 2], to: [usize; 2], order: Order) -> Plane {
        let axis = |a: usize| (from[a] != to[a]).then(|| Axis1::new(from[a], to[a], order));
        Plane { rows: axis(0), columns: axis(1) }
    }

    /// Resamples `scratch.slice` (shape `from`) into `to`. Columns are resampled as rows of the transposed slice, where
    /// vectors reach.
    fn resample(&self, from: [usize; 2], mut to: ArrayViewMut2<f32>, scratch: &mut Scratch) {
        let Scratch { slice, narrow, turned, rows } = scratch;
        let [mut n_y, n_x] = from;
        let mut values = &*slice;
        if let Some(axis) = &self.rows {
            narrow.resize(axis.n_target() * n_x, 0.0);
            let source = |k: usize| &slice[k * n_x..][..n_x];
            let put = |k: usize, columns: std::ops::Range<usize>, v: &[f32]| {
                narrow[k * n_x..][columns].copy_from_slice(v);
            };
            axis.resample(n_x, source, put, rows);
            n_y = axis.n_target();
            values = &*narrow;
        }
        let Some(axis) = &self.columns else {
            to.iter_mut().zip(values).for_each(|(to, v)| *to = *v);
            return;
        };
        turned.resize(n_y * n_x, 0.0);
        transpose(values, [n_y, n_x], |x, y, v| turned[x * n_y + y] = v);
        let n_target = axis.n_target();
        narrow.resize(n_target * n_y, 0.0);
        let source = |k: usize| &turned[k * n_y..][..n_y];
        let put = |k: usize, columns: std::ops::Range<usize>, v: &[f32]| {
            narrow[k * n_y..][columns].copy_from_slice(v);
        };
        axis.resample(n_y, source, put, rows);
        transpose(&narrow[..n_target * n_y], [n_target, n_y], |y, x, v| to[[y, x]] = v);
    }
}

/// Gives `put(column, row, value)` every value of an array of shape (rows, columns), in blocks that stay in the first
/// cache.
fn transpose(from: &[f32], [n_rows, n_columns]: [usize; 2], mut put: impl FnMut(usize, usize, f32)) {
    const BLOCK: usize = 16;
    for y in (0..n_rows).step_by(BLOCK) {
        for x in (0..n_columns).step_by(BLOCK) {
            for y in y..(y + BLOCK).min(n_rows) {
                for x in x..(x + BLOCK).min(n_columns) {
                    put(x, y, from[y * n_columns + x]);
                }
            }
        }
    }
}

fn load<'a>(from: ArrayView2<f32>, value: impl Fn(usize, usize, f32) -> f32, slice: &'a mut Vec<f32>) -> &'a [f32] {
    slice.clear();
    for (y, row) in from.outer_iter().enumerate() {
        slice.extend(row.iter().enumerate().map(|(x, v)| value(y, x, *v)));
    }
    slice
}

/// In lanes, which a single running minimum would keep from being vectors.
fn range(values: &[f32]) -> [f32; 2] {
    let (mut low, mut high) = ([f32::INFINITY; 16], [f32::NEG_INFINITY; 16]);
    for part in values.chunks(16) {
        for ((v, low), high) in part.iter().zip(&mut low).zip(&mut high) {
            (*low, *high) = (low.min(*v), high.max(*v));
        }
    }
    low.into_iter().zip(high).fold([f32::INFINITY, f32::NEG_INFINITY], |all, (low, high)| widest(all, [low, high]))
}

fn widest(a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
    [a[0].min(b[0]), a[1].max(b[1])]
}
