//! The region of interest before features are computed: its box, its checks, its crop, its re-segmentation.

use super::settings::{ResegmentMode, Settings};
use super::{RadiomicsError, resample};
use crate::volume::{Geometry, Scalar};
use ndarray::{Array3, ArrayView3, CowArray, Ix3, s};

/// An image on its way through the steps; borrowed until a step changes it.
pub(super) struct Grid<'a, T> {
    pub voxels: CowArray<'a, T, Ix3>,
    pub geometry: Geometry,
}

/// The region on the grid of its mask.
#[derive(Clone)]
pub(super) struct Roi {
    /// Shape (z, y, x).
    pub inside: Array3<bool>,
    pub geometry: Geometry,
}

/// A bounding box in voxels: first and number, (x, y, z).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    pub first: [usize; 3],
    pub size: [usize; 3],
}

/// Voxels of the region that follow each other in a row: columns `start..end`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub z: usize,
    pub y: usize,
    pub start: usize,
    pub end: usize,
}

impl Run {
    pub fn len(&self) -> usize {
        self.end - self.start
    }
}

/// The runs of a mask of shape (z, y, x), row by row. A region of a million voxels has some ten thousand, so what is summed
/// over its voxels is summed over them.
pub(super) fn runs(mask: ArrayView3<bool>) -> Vec<Run> {
    let mut found = Vec::new();
    let (_, ny, nx) = mask.dim();
    for (line, row) in mask.rows().into_iter().enumerate() {
        let copy;
        let row = match row.as_slice() {
            Some(row) => row,
            None => {
                copy = row.to_vec();
                &copy
            }
        };
        let (z, y, mut start) = (line / ny, line % ny, next(row, 0, true));
        while start < nx {
            let end = next(row, start, false);
            found.push(Run { z, y, start, end });
            start = next(row, end, true);
        }
    }
    found
}

/// The first column from `at` on that is (or is not) in the region; the length of the row if there is none.
fn next(row: &[bool], at: usize, inside: bool) -> usize {
    const WIDE: usize = 32;
    // Most stretches are long: whole blocks are looked at first.
    let blocks = row[at..].as_chunks::<WIDE>().0;
    let none = |block: &&[bool; WIDE]| !block.iter().fold(false, |any, v| any | (*v == inside));
    let from = at + WIDE * blocks.iter().take_while(none).count();
    row[from..].iter().position(|v| *v == inside).map_or(row.len(), |n| from + n)
}

impl Roi {
    /// The smallest box around the region, and its number of voxels.
    pub fn bounds(&self) -> Option<(Bounds, usize)> {
        bounds(&runs(self.inside.view()))
    }
}

/// The smallest box around runs, and their number of voxels.
pub(super) fn bounds(runs: &[Run]) -> Option<(Bounds, usize)> {
    let (mut low, mut end, mut n) = ([usize::MAX; 3], [0; 3], 0);
    for run in runs {
        let (first, last) = ([run.start, run.y, run.z], [run.end, run.y + 1, run.z + 1]);
        low = std::array::from_fn(|a| low[a].min(first[a]));
        end = std::array::from_fn(|a| end[a].max(last[a]));
        n += run.len();
    }
    (n > 0).then(|| (Bounds { first: low, size: std::array::from_fn(|a| end[a] - low[a]) }, n))
}

/// The part of an array inside a box.
pub(super) fn part<'a, T>(array: &'a ArrayView3<T>, b: Bounds) -> ArrayView3<'a, T> {
    let [x, y, z] = b.first;
    let [nx, ny, nz] = b.size;
    array.slice(s![z..z + nz, y..y + ny, x..x + nx])
}

/// Checks that image and mask share a grid (else corrects the mask, if asked), and that the region is large enough.
/// Gives the box, and the corrected mask where there was one.
pub(super) fn check<T>(
    image: &Grid<T>,
    roi: &Roi,
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> Result<(Bounds, Option<Roi>), RadiomicsError> {
    let corrected = match same_grid(&image.geometry, &roi.geometry, settings.geometry_tolerance) {
        Ok(()) => None,
        Err(error) if !settings.correct_mask => return Err(error),
        Err(_) => {
            warnings.push("radiomics.imageoperations: Image/Mask geometry mismatch, attempting to correct Mask".into());
            inside_image(&image.geometry, roi, settings.label)?;
            Some(Roi { inside: resample::mask(roi, &image.geometry), geometry: image.geometry.clone() })
        }
    };
    let roi = corrected.as_ref().unwrap_or(roi);
    let (bounds, n) = missing(roi.bounds(), settings.label)?;
    let dimensions = bounds.size.iter().filter(|n| **n > 1).count();
    if dimensions == 0 {
        return Err(RadiomicsError::OneVoxel);
    }
    if dimensions < settings.minimum_dimensions {
        return Err(RadiomicsError::TooFewDimensions { found: dimensions, minimum: settings.minimum_dimensions });
    }
    match settings.minimum_size {
        Some(minimum) if n <= minimum => Err(RadiomicsError::TooSmall { found: n, minimum }),
        _ => Ok((bounds, corrected)),
    }
}

/// An empty region as the missing label that it is.
pub(super) fn missing<T>(found: Option<T>, label: u32) -> Result<T, RadiomicsError> {
    found.ok_or(RadiomicsError::MissingLabel { label, present: Vec::new() })
}

/// ITK's test that two images occupy the same physical space: origin and spacing within a part of the first spacing.
fn same_grid(image: &Geometry, mask: &Geometry, tolerance: f64) -> Result<(), RadiomicsError> {
    if image.size != mask.size {
        return Err(RadiomicsError::SizeMismatch { image: image.size, mask: mask.size });
    }
    let apart = |a: &[f64; 3], b: &[f64; 3]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let length = tolerance * image.spacing_mm[0];
    let origin_mm = apart(&image.origin_mm, &mask.origin_mm);
    let spacing_mm = apart(&image.spacing_mm, &mask.spacing_mm);
    let cosine = image.direction.iter().zip(&mask.direction).map(|(a, b)| apart(a, b)).fold(0.0, f64::max);
    if origin_mm > length || spacing_mm > length || cosine > tolerance {
        return Err(RadiomicsError::GeometryMismatch { tolerance, origin_mm, spacing_mm, cosine });
    }
    Ok(())
}

/// The region's box, if it lies inside the image (within 1e-3 of a voxel).
pub(super) fn inside_image(image: &Geometry, roi: &Roi, label: u32) -> Result<Bounds, RadiomicsError> {
    let (bounds, _) = missing(roi.bounds(), label)?;
    let corner = |far: bool| {
        let index = |a: usize| bounds.first[a] as f64 - 0.5 + if far { bounds.size[a] as f64 } else { 0.0 };
        image.index_of(roi.geometry.position_mm([index(0), index(1), index(2)]))
    };
    let (a, b) = (corner(false), corner(true));
    let lower: [f64; 3] = std::array::from_fn(|i| a[i].min(b[i]));
    let upper: [f64; 3] = std::array::from_fn(|i| a[i].max(b[i]));
    if (0..3).any(|i| lower[i] < -0.5 - 1e-3 || upper[i] > image.size[i] as f64 - 0.5 + 1e-3) {
        return Err(RadiomicsError::OutsideImage { lower, upper, size: image.size });
    }
    Ok(bounds)
}

/// Image and region cut to a box with `pad` voxels around it, as far as the image reaches.
pub(super) fn crop<T: Scalar>(image: &Grid<T>, roi: &Roi, b: Bounds, pad: usize) -> (Grid<'static, T>, Roi) {
    let first: [usize; 3] = std::array::from_fn(|a| b.first[a].saturating_sub(pad));
    let end: [usize; 3] = std::array::from_fn(|a| (b.first[a] + b.size[a] + pad).min(roi.geometry.size[a]));
    let size: [usize; 3] = std::array::from_fn(|a| end[a] - first[a]);
    let wide = Bounds { first, size };
    let moved = |g: &Geometry| {
        let origin_mm = g.position_mm(first.map(|v| v as f64));
        Geometry { size, spacing_mm: g.spacing_mm, origin_mm, direction: g.direction }
    };
    let voxels = CowArray::from(part(&image.voxels.view(), wide).to_owned());
    let inside = part(&roi.inside.view(), wide).to_owned();
    (Grid { voxels, geometry: moved(&image.geometry) }, Roi { inside, geometry: moved(&roi.geometry) })
}

/// Keeps the voxels of the region whose value lies in `resegmentRange` (closed).
pub(super) fn resegment<T: Scalar>(
    image: &Grid<T>,
    roi: &Roi,
    range: &[f64],
    settings: &Settings,
) -> Result<Roi, RadiomicsError> {
    let values = || image.voxels.iter().zip(&roi.inside).filter(|(_, inside)| **inside).map(|(v, _)| v.as_f64());
    let limit: Box<dyn Fn(f64) -> f64> = match settings.resegment_mode {
        ResegmentMode::Absolute => Box::new(|v| v),
        ResegmentMode::Relative => {
            let highest = values().fold(f64::NEG_INFINITY, f64::max);
            Box::new(move |v| highest * v)
        }
        ResegmentMode::Sigma => {
            let n = values().count() as f64;
            let mean = values().sum::<f64>() / n;
            let sd = (values().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n).sqrt();
            Box::new(move |v| mean + sd * v)
        }
    };
    let low = range.first().map_or(f64::NEG_INFINITY, |v| limit(*v));
    let high = range.get(1).map_or(f64::INFINITY, |v| limit(*v));
    let mut kept = roi.clone();
    kept.inside.zip_mut_with(&image.voxels, |inside, v| *inside &= v.as_f64() >= low && v.as_f64() <= high);
    let retained = kept.inside.iter().filter(|inside| **inside).count();
    if retained <= 1 {
        return Err(RadiomicsError::Resegmented { label: settings.label, retained });
    }
    Ok(kept)
}

/// SimpleITK's `Normalize` over the whole image (standard deviation with N - 1), outliers clamped, then scaled.
pub(super) fn normalize<T: Scalar>(image: &Grid<T>, settings: &Settings) -> Result<Grid<'static, f64>, RadiomicsError> {
    let n = image.voxels.len() as f64;
    // ITK's formula, over compensated sums; the last bit of the deviation is that of every voxel.
    let sum = compensated(image.voxels.iter().map(|v| v.as_f64()));
    let squares = compensated(image.voxels.iter().map(|v| v.as_f64() * v.as_f64()));
    let mean = sum / n;
    let sd = ((squares - (sum * sum / n)) / (n - 1.0)).sqrt();
    if !sd.is_finite() {
        return Err(RadiomicsError::NotFinite { place: "somewhere" });
    }
    let limit = settings.remove_outliers.unwrap_or(f64::INFINITY);
    // ITK shifts, then scales; a flat image has nothing to scale by.
    let scale = 1.0 / sd;
    let voxels = image.voxels.mapv(|v| {
        let z = (v.as_f64() - mean) * scale;
        (if z > limit {
            limit
        } else if z < -limit {
            -limit
        } else {
            z
        }) * settings.normalize_scale
    });
    Ok(Grid { voxels: CowArray::from(voxels), geometry: image.geometry.clone() })
}

/// Kahan's sum.
fn compensated(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut lost) = (0.0, 0.0);
    for value in values {
        let value = value - lost;
        let next = sum + value;
        lost = (next - sum) - value;
        sum = next;
    }
    sum
}
