//! One extraction in this convention, step by step.

use super::levels::Levels;
use super::prepare::{Extent, inside, prepare};
use super::settings::Settings;
use super::table::Table;
use super::{cooccurrence, histogram, local, morphology, neighborhood, runs, statistics, zones};
use crate::radiomics::RadiomicsError;
use crate::volume::{Image, Volume};
use ndarray::{Array3, ArrayView3};

/// All features of the voxels of `mask` that hold the label of the settings; the mask lies on the grid of the image.
pub fn extract(image: &Image, mask: &Image, settings: &Settings) -> Result<Table, RadiomicsError> {
    let labels = mask.voxels.to_f64();
    let (grid, shape) = (image.geometry.shape_zyx(), image.voxels.dim());
    if image.geometry.size != mask.geometry.size {
        return Err(RadiomicsError::SizeMismatch { image: image.geometry.size, mask: mask.geometry.size });
    }
    for shape in [shape, labels.dim()] {
        if shape != grid {
            return Err(RadiomicsError::Shape { mask: shape, grid });
        }
    }
    let region = labels.mapv(|v| v == f64::from(settings.label));
    if !region.iter().any(|v| *v) {
        let mut present: Vec<u32> = labels.iter().map(|v| *v as u32).filter(|v| *v != 0).collect();
        present.sort_unstable();
        present.dedup();
        present.truncate(100);
        return Err(match present.is_empty() {
            true => RadiomicsError::EmptyMask,
            false => RadiomicsError::MissingLabel { label: settings.label, present },
        });
    }
    run(image.voxels.to_f64(), region, image.geometry.spacing_mm, settings)
}

/// All features of one region of a CT volume; `mask` has shape (z, y, x) of the volume.
pub fn extract_region(volume: &Volume, mask: ArrayView3<bool>, settings: &Settings) -> Result<Table, RadiomicsError> {
    let grid = volume.geometry.shape_zyx();
    for shape in [mask.dim(), volume.hu.dim()] {
        if shape != grid {
            return Err(RadiomicsError::Shape { mask: shape, grid });
        }
    }
    if !mask.iter().any(|v| *v) {
        return Err(RadiomicsError::EmptyMask);
    }
    run(volume.hu.mapv(f64::from), mask.to_owned(), volume.geometry.spacing_mm, settings)
}

/// `spacing_mm`: (x, y, z), as geometries have it.
fn run(
    image: Array3<f64>,
    mask: Array3<bool>,
    spacing_mm: [f64; 3],
    settings: &Settings,
) -> Result<Table, RadiomicsError> {
    let settings = &settings.clone().checked()?;
    let [x, y, z] = spacing_mm;
    let mut table = Table::default();
    let prepared = prepare(image, mask, [z, y, x], settings, &mut table)?;
    // Not empty: `prepare` has seen to it.
    let extent = Extent::new(prepared.morphological.view()).ok_or(RadiomicsError::EmptyMask)?;
    let values = extent.of(&prepared.image);
    let (region, measured) = (extent.of(&prepared.morphological), extent.of(&prepared.intensity));
    let mut sorted: Vec<f64> = inside(&prepared.image, &prepared.intensity).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let levels = Levels::new(values, measured, settings)?;
    morphology::compute(values, region, measured, prepared.spacing, &mut table);
    local::compute(&prepared, &mut table);
    statistics::compute(&sorted, &mut table);
    histogram::compute(&levels, &mut table);
    histogram::compute_volume(&sorted, settings, &mut table);
    cooccurrence::compute(&levels, settings, &mut table);
    runs::compute(&levels, settings, &mut table);
    zones::compute(&levels, region, settings, &mut table);
    neighborhood::compute(&levels, settings, &mut table);
    Ok(table)
}
