//! Decodes the slices of a plan, in parallel, into one volume.

use super::apart::Decoder;
use super::pixels::{AIR_HU, PixelFault, decode_hu};
use super::series::in_plane;
use super::{Note, PlannedSlice, SeriesError, SeriesPlan, parse_object};
use crate::volume::Volume;
use ndarray::{Array3, ArrayView3};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Least share of soft tissue in a volume that shows a body, percent.
const TISSUE_PERCENT_MIN: f64 = 2.0;
/// Share of measured voxels near -1000 HU below which there is no air, percent.
const NO_AIR_PERCENT: f64 = 0.01;
/// Share of measured voxels near -1000 HU below which a reader should know, percent.
const LITTLE_AIR_PERCENT: f64 = 0.5;

/// A volume and what was found while it was made.
#[derive(Debug, Clone)]
pub struct Assembled {
    /// The volume, in HU.
    pub volume: Volume,
    /// Voxels where nothing was measured (padding, corners outside the reconstruction circle, beside sheared slices),
    /// as ranges of positions in `volume.hu` in memory order. They are air in the volume and belong to no region:
    /// [`leave_out`].
    pub unmeasured: Vec<Range<usize>>,
    /// The plan's notes and those on the voxels.
    pub notes: Vec<Note>,
    /// The plan's refusals and those on the voxels: not to be analyzed when there is any.
    pub refusals: Vec<Note>,
}

/// Takes voxels where nothing was measured ([`Assembled::unmeasured`]) out of every region of a label map of the same
/// volume.
pub fn leave_out(unmeasured: &[Range<usize>], labels: &mut Array3<u8>) {
    let (_, rows, columns) = labels.dim();
    for at in unmeasured.iter().cloned().flatten() {
        let place = [at / (rows * columns), at / columns % rows, at % columns];
        labels.get_mut(place).into_iter().for_each(|label| *label = 0);
    }
}

/// Makes the volume of a plan. `load` gives the bytes of the object with the index that [`super::plan_series`] saw it
/// under;
/// `progress` hears (slices done, slices in all), from several threads. Decodes on rayon's threads by `decoder`; a
/// decoder that fails is an error of its slice. Memory: the volume itself (4 bytes a voxel; twice when resampled) and
/// one object per thread.
pub fn assemble_volume(
    plan: &SeriesPlan,
    decoder: &Decoder,
    load: &(dyn Fn(usize) -> io::Result<Vec<u8>> + Sync),
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Assembled, SeriesError> {
    let Some(first) = plan.slices.first() else { return Err(SeriesError::Empty) };
    let n = plan.slices.len();
    let (rows, columns) = (usize::from(first.header.pixels.rows), usize::from(first.header.pixels.columns));
    let mut hu = Array3::<f32>::zeros((n, rows, columns));
    let done = AtomicUsize::new(0);
    let planes = hu.as_slice_mut().unwrap_or_default().chunks_mut((rows * columns).max(1));
    // The frames of a multi-frame object are decoded from one copy of it.
    let mut objects: BTreeMap<usize, Vec<Task<'_>>> = BTreeMap::new();
    for (index, (hu, slice)) in planes.zip(&plan.slices).enumerate() {
        objects.entry(slice.index).or_default().push(Task { index, slice, hu });
    }
    objects.into_par_iter().try_for_each(|(object, tasks)| {
        let Some(Task { index, slice, .. }) = tasks.first() else { return Ok(()) };
        let index = *index;
        let bytes = load(object).map_err(|e| SeriesError::Load { index, why: e.to_string() })?;
        let object = parse_object(&bytes).map_err(|_| SeriesError::Changed { index })?;
        if slice.header.content_sha256.is_some_and(|planned| object.header.content_sha256 != Some(planned)) {
            return Err(SeriesError::Changed { index });
        }
        tasks.into_par_iter().try_for_each(|Task { index, slice, hu }| {
            decode_hu(&object, &slice.header, slice.frame, decoder, hu).map_err(|fault| match fault {
                PixelFault::Short => SeriesError::ShortPixels { index },
                PixelFault::NoDecoder(kind) => {
                    SeriesError::Load { index, why: PixelFault::NoDecoder(kind).to_string() }
                }
                other => SeriesError::Decode { index, why: other.to_string() },
            })?;
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, n);
            Ok(())
        })
    })?;
    if plan.resampled {
        hu = resample(plan, hu.view());
    }
    let unmeasured = fill_unmeasured(&mut hu);
    let (mut notes, mut refusals) = (plan.notes.clone(), plan.refusals.clone());
    let n_unmeasured = unmeasured.iter().map(ExactSizeIterator::len).sum();
    judge_voxels(&hu, n_unmeasured, &mut notes, &mut refusals);
    Ok(Assembled { volume: Volume { hu, geometry: plan.geometry.clone() }, unmeasured, notes, refusals })
}

/// A slice of the plan and the plane of the volume that it fills.
struct Task<'a> {
    index: usize,
    slice: &'a PlannedSlice,
    hu: &'a mut [f32],
}

/// Makes air of what was not measured (NaN) and lists where it was.
fn fill_unmeasured(hu: &mut Array3<f32>) -> Vec<Range<usize>> {
    let plane = (hu.dim().1 * hu.dim().2).max(1);
    let planes = hu.as_slice_mut().unwrap_or_default().par_chunks_mut(plane).enumerate();
    let runs = planes.map(|(k, hu)| {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for (i, value) in hu.iter_mut().enumerate().filter(|(_, value)| value.is_nan()) {
            *value = AIR_HU;
            let at = k * plane + i;
            match runs.last_mut() {
                Some(run) if run.end == at => run.end += 1,
                _ => runs.push(at..at + 1),
            }
        }
        runs
    });
    runs.collect::<Vec<_>>().concat()
}

/// Slices at their true positions onto the plan's regular, upright grid: linear along the normal and within the planes,
/// NaN where a value that is needed was not measured.
fn resample(plan: &SeriesPlan, stack: ArrayView3<f32>) -> Array3<f32> {
    let g = &plan.geometry;
    let axis = |a: usize| [g.direction[0][a], g.direction[1][a], g.direction[2][a]];
    let shifts: Vec<[f64; 2]> = plan
        .slices
        .iter()
        .map(|s| in_plane(s, g.origin_mm, axis(0), axis(1)))
        .map(|[x, y]| [x / g.spacing_mm[0], y / g.spacing_mm[1]])
        .collect();
    let z: Vec<f64> = plan.slices.iter().map(|s| s.along_normal_mm).collect();
    let mut out = Array3::from_elem(g.shape_zyx(), f32::NAN);
    let (size_x, size_y) = (g.size[0], g.size[1]);
    let columns = stack.dim().2;
    let slices: Vec<_> = stack.outer_iter().collect();
    out.as_slice_mut().unwrap_or_default().par_chunks_mut((size_x * size_y).max(1)).enumerate().for_each(
        |(k, plane)| {
            let wanted = z[0] + k as f64 * g.spacing_mm[2];
            let above = z.partition_point(|z| *z < wanted - 1e-6).min(z.len() - 1);
            let below = above.saturating_sub(usize::from(z[above] > wanted + 1e-6));
            let weight = if above == below { 0.0 } else { (wanted - z[below]) / (z[above] - z[below]) };
            plane.fill(0.0);
            for (slice, weight) in [(below, 1.0 - weight), (above, weight)] {
                if weight > 0.0 {
                    add_shifted(
                        plane,
                        size_x,
                        slices[slice].as_slice().unwrap_or_default(),
                        columns,
                        shifts[slice],
                        weight,
                    );
                }
            }
        },
    );
    out
}

/// Adds `weight` times a slice (row by row, `columns` wide) that begins at `shift` (pixels, x and y) to a plane
/// (`size_x` wide); NaN outside.
fn add_shifted(plane: &mut [f32], size_x: usize, slice: &[f32], columns: usize, shift: [f64; 2], weight: f64) {
    let rows = slice.len() / columns.max(1);
    let at = |x: isize, y: isize| {
        let inside = x >= 0 && y >= 0 && (x as usize) < columns && (y as usize) < rows;
        f64::from(if inside { slice[y as usize * columns + x as usize] } else { f32::NAN })
    };
    for (index, value) in plane.iter_mut().enumerate() {
        let (x, y) = ((index % size_x) as f64 - shift[0], (index / size_x) as f64 - shift[1]);
        let (x0, y0) = (x.floor(), y.floor());
        let (fx, fy) = (x - x0, y - y0);
        let (x0, y0) = (x0 as isize, y0 as isize);
        let top = if fx > 0.0 { at(x0, y0) * (1.0 - fx) + at(x0 + 1, y0) * fx } else { at(x0, y0) };
        let mixed = match fy > 0.0 {
            true => {
                top * (1.0 - fy)
                    + (at(x0, y0 + 1) * (1.0 - fx) + if fx > 0.0 { at(x0 + 1, y0 + 1) * fx } else { 0.0 }) * fy
            }
            false => top,
        };
        *value += (mixed * weight) as f32;
    }
}

/// A body must be there, and air near -1000 HU around or in it. `unmeasured`: voxels that were made air and prove
/// nothing.
fn judge_voxels(hu: &Array3<f32>, unmeasured: usize, notes: &mut Vec<Note>, refusals: &mut Vec<Note>) {
    let values = hu.as_slice().unwrap_or_default();
    let count = |range: Range<f32>| values.par_iter().filter(|v| range.contains(v)).count();
    let (tissue, air) = (count(-200.0..300.0), count(-1100.0..-850.0).saturating_sub(unmeasured));
    let share = |count: usize, of: usize| 100.0 * count as f64 / of.max(1) as f64;
    let tissue_percent = share(tissue, values.len());
    if tissue_percent < TISSUE_PERCENT_MIN {
        let sentence =
            format!("only {tissue_percent:.1} % of the voxels are soft tissue: there is no body in the volume");
        refusals.push(Note::new("series.no-body", sentence));
    }
    // Air that the scanner stores at 0 instead of -1000 would pass for soft tissue: without any air, the scale is not
    // believed.
    let air_percent = share(air, values.len() - unmeasured);
    if air_percent < NO_AIR_PERCENT {
        let sentence = "no voxel is near -1000 HU, neither around the body nor in it: the values are not in HU";
        refusals.push(Note::new("series.no-air", sentence));
    } else if air_percent < LITTLE_AIR_PERCENT {
        let sentence = "next to no voxel is near -1000 HU: the scale of the values may be wrong";
        notes.push(Note::new("series.little-air", sentence));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_shifted_by_whole_and_half_pixels_with_nothing_around() {
        let slice = [0.0, 10.0, 20.0, 30.0];
        let mut plane = [0.0; 6];
        add_shifted(&mut plane, 3, &slice, 2, [1.0, 0.0], 1.0);
        assert!(plane[0].is_nan() && plane[3].is_nan());
        assert_eq!([plane[1], plane[2], plane[4], plane[5]], [0.0, 10.0, 20.0, 30.0]);
        let mut plane = [0.0; 2];
        add_shifted(&mut plane, 1, &slice, 2, [-0.5, -0.5], 1.0);
        assert!(plane[0] == 15.0 && plane[1].is_nan(), "{plane:?}");
    }
}
