//! From a loaded image and mask to the grid that features are computed on, and the diagnostic rows of every step.

use super::settings::{Interpolation, Settings};
use super::table::{Aggregation, Definition, Family, Table, define};
use crate::radiomics::RadiomicsError;
use crate::radiomics::bspline::prefilter;
use crate::radiomics::resample::GRID_MAX;
use ndarray::{Array3, ArrayView3, Axis, Zip, s};

/// An image and its two masks on one grid; arrays have shape (z, y, x).
pub(super) struct Prepared {
    pub image: Array3<f64>,
    /// The region as it was drawn (G5KJ).
    pub morphological: Array3<bool>,
    /// The region after re-segmentation (SEFI).
    pub intensity: Array3<bool>,
    /// mm, (z, y, x).
    pub spacing: [f64; 3],
}

/// Where the region lies: first voxel and size of its smallest box, (z, y, x), and its number of voxels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Extent {
    pub first: [usize; 3],
    pub size: [usize; 3],
    pub n: usize,
}

/// Interpolates, rounds and re-segments. `spacing` in mm, (z, y, x).
pub(super) fn prepare(
    image: Array3<f64>,
    mask: Array3<bool>,
    spacing: [f64; 3],
    settings: &Settings,
    table: &mut Table,
) -> Result<Prepared, RadiomicsError> {
    let intensity = mask.clone();
    let mut now = Prepared { image, morphological: mask, intensity, spacing };
    describe_image(&now, "init_img", table);
    let mut masks = Table::default();
    describe_masks(&now, "init_roi", &mut masks);
    if let Some([x, y, z]) = settings.spacing_mm {
        let keep = |new: f64, old: f64| if new == 0.0 { old } else { new };
        now = interpolate(now, [keep(z, spacing[0]), keep(y, spacing[1]), keep(x, spacing[2])], settings)?;
    }
    if !now.morphological.iter().any(|inside| *inside) {
        return Err(RadiomicsError::EmptyMask);
    }
    describe_image(&now, "interp_img", table);
    describe_masks(&now, "interp_roi", &mut masks);
    resegment(&mut now, settings)?;
    describe_masks(&now, "reseg_roi", &mut masks);
    table.rows.append(&mut masks.rows);
    Ok(now)
}

/// Image and mask on a grid with another spacing and the same center.
fn interpolate(old: Prepared, spacing: [f64; 3], settings: &Settings) -> Result<Prepared, RadiomicsError> {
    let (nz, ny, nx) = old.image.dim();
    let size: [f64; 3] = std::array::from_fn(|a| grid_size([nz, ny, nx][a], old.spacing[a], spacing[a]));
    let voxels: f64 = size.iter().product();
    if voxels > GRID_MAX as f64 {
        return Err(RadiomicsError::GridTooLarge { voxels: voxels as u64, limit: GRID_MAX });
    }
    let mut image = on_grid(old.image, old.spacing, spacing, settings.image_interpolation);
    if settings.round_intensities {
        image.mapv_inplace(f64::round_ties_even);
    }
    let parts = old.morphological.mapv(|inside| f64::from(u8::from(inside)));
    let parts = on_grid(parts, old.spacing, spacing, settings.mask_interpolation);
    // A half that came out as 0.4999999999999999 is a half.
    let morphological = parts.mapv(|part| part >= settings.mask_threshold - 1e-9);
    Ok(Prepared { image, intensity: morphological.clone(), morphological, spacing })
}

/// Number of voxels that cover `n` old ones (026Q). A rounding error above a whole number does not open another voxel.
fn grid_size(n: usize, old: f64, new: f64) -> f64 {
    let exact = n as f64 * old / new;
    (exact * (1.0 - 1e-9)).ceil().max(1.0)
}

/// Values on a grid of another spacing, axis by axis (all three interpolations are products of one per axis).
fn on_grid(mut values: Array3<f64>, old: [f64; 3], new: [f64; 3], how: Interpolation) -> Array3<f64> {
    for axis in 0..3 {
        let n = values.len_of(Axis(axis));
        let size = grid_size(n, old[axis], new[axis]) as usize;
        if old[axis] == new[axis] {
            continue;
        }
        if how == Interpolation::Cubic {
            let mut line = vec![0.0; n];
            for mut lane in values.lanes_mut(Axis(axis)) {
                line.iter_mut().zip(&lane).for_each(|(l, v)| *l = *v);
                prefilter(&mut line);
                lane.iter_mut().zip(&line).for_each(|(v, l)| *v = *l);
            }
        }
        let step = new[axis] / old[axis];
        let first = 0.5 * (n as f64 - 1.0 - step * (size as f64 - 1.0)); // grids share their center (QCY4)
        let taps: Vec<Taps> = (0..size).map(|k| taps(first + k as f64 * step, n, how)).collect();
        values = along(&values, axis, &taps);
    }
    values
}

/// Voxels of a line that a value is made of, with their weights.
type Taps = Vec<(usize, f64)>;

/// For a continuous index into a line of `n` voxels; the line goes on beyond its ends with the values there.
fn taps(index: f64, n: usize, how: Interpolation) -> Taps {
    let last = n - 1;
    let index = index.clamp(0.0, last as f64);
    let below = (index.floor() as usize).min(last);
    let w = index - below as f64;
    match how {
        Interpolation::Nearest => vec![(((index + 0.5).floor() as usize).min(last), 1.0)],
        Interpolation::Linear => vec![(below, 1.0 - w), ((below + 1).min(last), w)],
        Interpolation::Cubic if n == 1 => vec![(0, 1.0)],
        Interpolation::Cubic => {
            // Cubic B-spline at distances 1 + w, w, 1 - w, 2 - w; coefficients are mirrored at the ends.
            let v = 1.0 - w;
            let center = |t: f64| 2.0 / 3.0 - t * t + 0.5 * t * t * t;
            let mirror = |i: i64| {
                let i = i.unsigned_abs() as usize;
                if i > last { (2 * last).saturating_sub(i) } else { i }
            };
            let at = below as i64;
            vec![
                (mirror(at - 1), v * v * v / 6.0),
                (mirror(at), center(w)),
                (mirror(at + 1), center(v)),
                (mirror(at + 2), w * w * w / 6.0),
            ]
        }
    }
}

fn along(values: &Array3<f64>, axis: usize, taps: &[Taps]) -> Array3<f64> {
    let mut shape = values.raw_dim();
    shape[axis] = taps.len();
    let mut out = Array3::zeros(shape);
    if axis == 2 {
        Zip::from(out.rows_mut()).and(values.rows()).for_each(|mut new, old| {
            for (v, taps) in new.iter_mut().zip(taps) {
                *v = taps.iter().map(|(i, w)| w * old[*i]).sum();
            }
        });
    } else {
        for (mut plane, taps) in out.axis_iter_mut(Axis(axis)).zip(taps) {
            for (i, w) in taps {
                plane.zip_mut_with(&values.index_axis(Axis(axis), *i), |sum, v| *sum += w * v);
            }
        }
    }
    out
}

/// Takes intensities outside the range and outliers out of the intensity mask. Both limits come from the whole region.
fn resegment(now: &mut Prepared, settings: &Settings) -> Result<(), RadiomicsError> {
    let values: Vec<f64> = inside(&now.image, &now.intensity).collect();
    if values.iter().any(|v| !v.is_finite()) {
        return Err(RadiomicsError::NotFinite { place: "inside the region" });
    }
    let [mut low, mut high] = settings.range.unwrap_or([f64::NEG_INFINITY, f64::INFINITY]);
    if let Some(factor) = settings.outliers_sd {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let sd = (values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n).sqrt();
        low = low.max(mean - factor * sd);
        high = high.min(mean + factor * sd);
    }
    now.intensity.zip_mut_with(&now.image, |inside, v| *inside &= low <= *v && *v <= high);
    if now.intensity.iter().any(|inside| *inside) {
        return Ok(());
    }
    Err(RadiomicsError::Resegmented { label: settings.label, retained: 0 })
}

/// Values of the voxels inside a mask, x fastest.
pub(super) fn inside<'a>(image: &'a Array3<f64>, mask: &'a Array3<bool>) -> impl Iterator<Item = f64> + 'a {
    image.iter().zip(mask).filter(|(_, inside)| **inside).map(|(v, _)| *v)
}

impl Extent {
    /// `None` for an empty mask.
    pub fn new(mask: ArrayView3<bool>) -> Option<Extent> {
        let (mut low, mut high, mut n) = ([usize::MAX; 3], [0; 3], 0);
        for (z, plane) in mask.outer_iter().enumerate() {
            for (y, row) in plane.outer_iter().enumerate() {
                for (x, _) in row.iter().enumerate().filter(|(_, inside)| **inside) {
                    n += 1;
                    for (a, v) in [z, y, x].into_iter().enumerate() {
                        low[a] = low[a].min(v);
                        high[a] = high[a].max(v);
                    }
                }
            }
        }
        (n > 0).then(|| Extent { first: low, size: std::array::from_fn(|a| high[a] + 1 - low[a]), n })
    }

    /// The part of an array inside the box.
    pub fn of<'a, T>(&self, array: &'a Array3<T>) -> ArrayView3<'a, T> {
        let ([z, y, x], [nz, ny, nx]) = (self.first, self.size);
        array.slice(s![z..z + nz, y..y + ny, x..x + nx])
    }
}

const IMAGE: [Definition; 9] = [
    define("img_dim_x", "image_dimension_x", "", ""),
    define("img_dim_y", "image_dimension_y", "", ""),
    define("img_dim_z", "image_dimension_z", "", ""),
    define("vox_dim_x", "voxel_dimension_x", "", "mm"),
    define("vox_dim_y", "voxel_dimension_y", "", "mm"),
    define("vox_dim_z", "voxel_dimension_z", "", "mm"),
    define("mean_int", "mean_intensity", "", "I"),
    define("min_int", "minimum_intensity", "", "I"),
    define("max_int", "maximum_intensity", "", "I"),
];

const MASKS: [Definition; 14] = [
    define("int_mask_dim_x", "intensity_mask_dimension_x", "", ""),
    define("int_mask_dim_y", "intensity_mask_dimension_y", "", ""),
    define("int_mask_dim_z", "intensity_mask_dimension_z", "", ""),
    define("int_mask_bb_dim_x", "intensity_mask_bounding_box_dimension_x", "", ""),
    define("int_mask_bb_dim_y", "intensity_mask_bounding_box_dimension_y", "", ""),
    define("int_mask_bb_dim_z", "intensity_mask_bounding_box_dimension_z", "", ""),
    define("morph_mask_bb_dim_x", "morphological_mask_bounding_box_dimension_x", "", ""),
    define("morph_mask_bb_dim_y", "morphological_mask_bounding_box_dimension_y", "", ""),
    define("morph_mask_bb_dim_z", "morphological_mask_bounding_box_dimension_z", "", ""),
    define("int_mask_vox_count", "number_of_voxels_in_the_intensity_mask", "", ""),
    define("morph_mask_vox_count", "number_of_voxels_in_the_morphological_mask", "", ""),
    define("int_mask_mean_int", "mean_roi_intensity", "", "I"),
    define("int_mask_min_int", "minimum_roi_intensity", "", "I"),
    define("int_mask_max_int", "maximum_roi_intensity", "", "I"),
];

fn describe_image(now: &Prepared, step: &'static str, table: &mut Table) {
    let (z, y, x) = now.image.dim();
    let [sz, sy, sx] = now.spacing;
    let [mean, low, high] = summary(now.image.iter().copied());
    let values = [x as f64, y as f64, z as f64, sx, sy, sz, mean, low, high];
    table.push(Family::Diagnostics, &IMAGE, Aggregation { suffix: step, ..Aggregation::NONE }, &values);
}

fn describe_masks(now: &Prepared, step: &'static str, table: &mut Table) {
    let (z, y, x) = now.image.dim();
    let extent = |mask: &Array3<bool>| {
        let e = Extent::new(mask.view());
        e.map_or([0.0; 4], |e| [e.size[2] as f64, e.size[1] as f64, e.size[0] as f64, e.n as f64])
    };
    let ([ix, iy, iz, i], [mx, my, mz, m]) = (extent(&now.intensity), extent(&now.morphological));
    let [mean, low, high] = summary(inside(&now.image, &now.intensity));
    let values = [x as f64, y as f64, z as f64, ix, iy, iz, mx, my, mz, i, m, mean, low, high];
    table.push(Family::Diagnostics, &MASKS, Aggregation { suffix: step, ..Aggregation::NONE }, &values);
}

/// Mean, minimum and maximum.
fn summary(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let start = (0usize, 0.0, f64::INFINITY, f64::NEG_INFINITY);
    let (n, sum, low, high) =
        values.fold(start, |(n, sum, low, high), v| (n + 1, sum + v, f64::min(low, v), f64::max(high, v)));
    [sum / n as f64, low, high]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: &[f64]) -> Array3<f64> {
        Array3::from_shape_vec((1, 1, values.len()), values.to_vec()).unwrap()
    }

    #[test]
    fn grids_share_their_center() {
        // The manual's example: 4 voxels of 3 mm become 6 of 2 mm, the first 1 mm from the old corner.
        assert_eq!(grid_size(4, 3.0, 2.0), 6.0);
        assert_eq!(grid_size(30, 0.1, 0.3), 10.0); // 10.000000000000002 before rounding
        let found = on_grid(line(&[0.0, 3.0, 6.0, 9.0]), [1.0, 1.0, 3.0], [1.0, 1.0, 2.0], Interpolation::Linear);
        // Centers of the new voxels lie at -0.5, 1.5, 3.5, .. mm from the first old center; the ends are held.
        for (v, expected) in found.iter().zip([0.0, 1.5, 3.5, 5.5, 7.5, 9.0]) {
            assert!((v - expected).abs() < 1e-12, "{found}");
        }
        let nearest = on_grid(line(&[0.0, 3.0, 6.0, 9.0]), [1.0, 1.0, 3.0], [1.0, 1.0, 2.0], Interpolation::Nearest);
        assert_eq!(nearest.as_slice().unwrap(), [0.0, 3.0, 3.0, 6.0, 9.0, 9.0]);
    }

    #[test]
    fn splines_pass_through_voxels_and_reproduce_cubics_inside() {
        let values: Vec<f64> = (0..60).map(|i| f64::from(i) * f64::from(i) * 0.1).collect();
        let fine = on_grid(line(&values), [1.0, 1.0, 1.0], [1.0, 1.0, 0.5], Interpolation::Cubic);
        // 120 voxels at -0.25, 0.25, 0.75, ..: number 60 lies at 29.75.
        assert!((fine[[0, 0, 60]] - 29.75 * 29.75 * 0.1).abs() < 1e-9);
        let same = on_grid(line(&values[..3]), [1.0, 1.0, 1.0], [1.0, 1.0, 3.0], Interpolation::Cubic);
        assert!((same[[0, 0, 0]] - 0.1).abs() < 1e-12);
    }

    #[test]
    fn range_and_outliers_leave_the_morphological_mask_alone() {
        let mut image = Array3::from_elem((1, 1, 20), 1.0);
        image[[0, 0, 0]] = 100.0;
        image[[0, 0, 1]] = -2.0;
        let mask = Array3::from_elem((1, 1, 20), true);
        let settings = Settings { range: Some([0.0, f64::INFINITY]), outliers_sd: Some(3.0), ..Settings::default() };
        let found = prepare(image, mask, [1.0; 3], &settings, &mut Table::default()).unwrap();
        assert_eq!(found.morphological.iter().filter(|m| **m).count(), 20);
        assert_eq!(found.intensity.iter().filter(|m| **m).count(), 18);
    }
}
