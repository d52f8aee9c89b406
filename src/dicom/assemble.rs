//! Decodes the slices of a plan, in parallel, into one volume.

use super::pixels::{AIR_HU, PixelFault, decode_hu};
use super::series::in_plane;
use super::{Note, SeriesError, SeriesPlan};
use crate::volume::Volume;
use ndarray::{Array3, ArrayView3};
use rayon::prelude::*;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A volume and what was found while it was made.
#[derive(Debug, Clone)]
pub struct Assembled {
    /// The volume, in HU.
    pub volume: Volume,
    /// The plan's notes and those on the voxels.
    pub notes: Vec<Note>,
    /// The plan's refusals and those on the voxels: not to be analyzed when there is any.
    pub refusals: Vec<Note>,
}

/// Makes the volume of a plan. `load` gives the bytes of the object with the index that [`super::plan_series`] saw it under;
/// `progress` hears (slices done, slices in all), from several threads. Decodes on rayon's threads; a decoder that panics is an
/// error of its slice. Memory: the volume itself (4 bytes a voxel; twice when resampled) and one object per thread.
pub fn assemble_volume(
    plan: &SeriesPlan,
    load: &(dyn Fn(usize) -> io::Result<Vec<u8>> + Sync),
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Assembled, SeriesError> {
    let Some(first) = plan.slices.first() else { return Err(SeriesError::Empty) };
    let n = plan.slices.len();
    let (rows, columns) = (usize::from(first.header.pixels.rows), usize::from(first.header.pixels.columns));
    let mut hu = Array3::<f32>::zeros((n, rows, columns));
    let done = AtomicUsize::new(0);
    let slices = hu.as_slice_mut().unwrap_or_default();
    slices.par_chunks_mut((rows * columns).max(1)).zip(&plan.slices).enumerate().try_for_each(
        |(index, (hu, slice))| {
            let bytes = load(slice.index).map_err(|e| SeriesError::Load { index, why: e.to_string() })?;
            decode_hu(&bytes, &slice.header, hu).map_err(|fault| match fault {
                PixelFault::Changed => SeriesError::Changed { index },
                PixelFault::Short => SeriesError::ShortPixels { index },
                PixelFault::Decode => SeriesError::Decode { index },
            })?;
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, n);
            Ok(())
        },
    )?;
    if plan.resampled {
        hu = resample(plan, hu.view());
    }
    let (mut notes, mut refusals) = (plan.notes.clone(), plan.refusals.clone());
    judge_voxels(&hu, &mut notes, &mut refusals);
    Ok(Assembled { volume: Volume { hu, geometry: plan.geometry.clone() }, notes, refusals })
}

/// Slices at their true positions onto the plan's regular, upright grid: linear along the normal and within the planes, air outside.
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
    let mut out = Array3::from_elem(g.shape_zyx(), AIR_HU);
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

/// Adds `weight` times a slice (row by row, `columns` wide) that begins at `shift` (pixels, x and y) to a plane (`size_x` wide);
/// air outside.
fn add_shifted(plane: &mut [f32], size_x: usize, slice: &[f32], columns: usize, shift: [f64; 2], weight: f64) {
    let rows = slice.len() / columns.max(1);
    let at = |x: isize, y: isize| {
        let inside = x >= 0 && y >= 0 && (x as usize) < columns && (y as usize) < rows;
        f64::from(if inside { slice[y as usize * columns + x as usize] } else { AIR_HU })
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

/// A body must be there, and air near -1000 HU around or in it.
fn judge_voxels(hu: &Array3<f32>, notes: &mut Vec<Note>, refusals: &mut Vec<Note>) {
    let values = hu.as_slice().unwrap_or_default();
    let (tissue, air) = values
        .par_chunks(1 << 16)
        .map(|part| {
            let tissue = part.iter().filter(|v| (-200.0..300.0).contains(*v)).count();
            (tissue, part.iter().filter(|v| (-1100.0..-850.0).contains(*v)).count())
        })
        .reduce(|| (0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    let share = |count: usize| 100.0 * count as f64 / values.len().max(1) as f64;
    if share(tissue) < 2.0 {
        let sentence =
            format!("only {:.1} % of the voxels are soft tissue: there is no body in the volume", share(tissue));
        refusals.push(Note::new("series.no-body", sentence));
    }
    if share(air) < 0.5 {
        notes.push(Note::new(
            "series.no-air",
            "next to no voxel is near -1000 HU: the scale of the values may be wrong",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_shifted_by_whole_and_half_pixels_with_air_around() {
        let slice = [0.0, 10.0, 20.0, 30.0];
        let mut plane = [0.0; 6];
        add_shifted(&mut plane, 3, &slice, 2, [1.0, 0.0], 1.0);
        assert_eq!(plane, [-1000.0, 0.0, 10.0, -1000.0, 20.0, 30.0]);
        let mut plane = [0.0; 2];
        add_shifted(&mut plane, 1, &slice, 2, [-0.5, -0.5], 1.0);
        assert_eq!(plane, [15.0, (25.0 - 1000.0) / 2.0]);
    }
}
