//! One extraction, in PyRadiomics' order of steps: normalize, resample or crop, check, re-segment, shape, classes.

use super::diagnose::{Hash, Notes};
use super::discretize::discretize;
use super::filters::{self, Filtered, Output};
use super::neighborhood::Neighborhoods;
use super::region::{Bounds, Grid, Roi, Run, check, crop, normalize, part, resegment, runs};
use super::settings::{Bins, Class, Settings};
use super::table::{Diagnostics, Extraction, Feature, FeatureTable};
use super::voxel::{self, FeatureMap, Maps};
use super::{RadiomicsError, Value, firstorder, glcm, glrlm, glszm, resample, shape, shape2d};
use crate::volume::{Image, Scalar, Volume, for_voxels};
use ndarray::{Array3, ArrayView3, CowArray, s};
use rayon::prelude::*;
use std::collections::BTreeSet;

/// Features of the voxels of `mask` that hold the label of the settings. Image and mask may come in any pixel type; the
/// image's type matters where it is resampled.
pub fn extract(image: &Image, mask: &Image, settings: &Settings) -> Result<Extraction, RadiomicsError> {
    from_files(image, mask, Mode::Segment, settings).map(|(found, _)| found)
}

/// A map per feature (all classes but shape): its value in a box around every voxel of the region, as PyRadiomics'
/// voxel-based extraction computes it. [`Settings::voxel`] sizes the box.
pub fn extract_voxelwise(image: &Image, mask: &Image, settings: &Settings) -> Result<Maps, RadiomicsError> {
    let (found, maps) = from_files(image, mask, Mode::Voxel, settings)?;
    let Extraction { diagnostics, warnings, .. } = found;
    Ok(Maps { maps, diagnostics, warnings, settings_sha256: settings.maps_sha256() })
}

/// What a run computes: one value per feature, or a map.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Segment,
    Voxel,
}

type Found = (Extraction, Vec<FeatureMap>);

fn from_files(image: &Image, mask: &Image, mode: Mode, settings: &Settings) -> Result<Found, RadiomicsError> {
    for (what, voxels) in [(image, &image.voxels), (mask, &mask.voxels)] {
        if voxels.dim() != what.geometry.shape_zyx() {
            return Err(RadiomicsError::Shape { mask: voxels.dim(), grid: what.geometry.shape_zyx() });
        }
    }
    // As SimpleITK casts to uint32: the fraction is cut off.
    let inside = for_voxels!(&mask.voxels, a => a.mapv(|v| v as i64 as u32 == settings.label));
    if !inside.iter().any(|v| *v) {
        let labels: Array3<u32> = for_voxels!(&mask.voxels, a => a.mapv(|v| v as i64 as u32));
        let present: BTreeSet<u32> = labels.iter().copied().filter(|v| *v != 0).collect();
        if present.is_empty() {
            return Err(RadiomicsError::EmptyMask);
        }
        return Err(RadiomicsError::MissingLabel {
            label: settings.label,
            present: present.into_iter().take(100).collect(),
        });
    }
    if image.dimension != mask.dimension {
        return Err(RadiomicsError::Dimensions { image: image.dimension, mask: mask.dimension });
    }
    let settings = &Settings { planar: image.dimension == 2, ..settings.clone() };
    let roi = Roi { inside, geometry: mask.geometry.clone() };
    let mask_hash = || {
        let mut hash = Hash::default();
        for_voxels!(&mask.voxels, a => for row in a.rows() {
            hash.put(row.iter().map(|v| (*v as i64 as u32).to_le_bytes()));
        });
        hash.finish()
    };
    for_voxels!(&image.voxels, a => {
        let image = Grid { voxels: CowArray::from(a.view()), geometry: image.geometry.clone() };
        let image_hash = || {
            let mut hash = Hash::default();
            a.rows().into_iter().for_each(|row| hash.put(row.iter().map(|v| v.to_le_bytes())));
            hash.finish()
        };
        hashed(image_hash, mask_hash, settings, || run(image, roi, mode, settings))
    })
}

/// Runs an extraction, and meanwhile hashes image and mask: in a large image with a small region that takes as long.
fn hashed(
    image: impl FnOnce() -> String + Send,
    mask: impl FnOnce() -> String + Send,
    settings: &Settings,
    extraction: impl FnOnce() -> Result<Found, RadiomicsError> + Send,
) -> Result<Found, RadiomicsError> {
    if !settings.additional_info {
        return extraction();
    }
    let (found, hashes) = rayon::join(extraction, || rayon::join(image, mask));
    let mut found = found?;
    for (name, hash) in [(IMAGE_HASH, hashes.0), (MASK_HASH, hashes.1)] {
        let entries = &mut found.0.diagnostics.entries;
        entries.iter_mut().filter(|entry| entry.0 == name).for_each(|entry| entry.1 = Value::Text(hash.clone()));
    }
    Ok(found)
}

const IMAGE_HASH: &str = "diagnostics_Image-original_Hash";
const MASK_HASH: &str = "diagnostics_Mask-original_Hash";

/// Features of one region of a CT volume; `mask` has shape (z, y, x) of the volume. The settings' label only names it.
pub fn extract_region(
    volume: &Volume,
    mask: ArrayView3<bool>,
    settings: &Settings,
) -> Result<Extraction, RadiomicsError> {
    let grid = volume.geometry.shape_zyx();
    for shape in [mask.dim(), volume.hu.dim()] {
        if shape != grid {
            return Err(RadiomicsError::Shape { mask: shape, grid });
        }
    }
    if !mask.iter().any(|v| *v) {
        return Err(RadiomicsError::EmptyMask);
    }
    let image_hash = || {
        let mut hash = Hash::default();
        volume.hu.rows().into_iter().for_each(|row| hash.put(row.iter().map(|v| v.to_le_bytes())));
        hash.finish()
    };
    let mask_hash = || {
        let mut hash = Hash::default();
        for row in mask.rows() {
            hash.put(row.iter().map(|v| if *v { settings.label } else { 0 }.to_le_bytes()));
        }
        hash.finish()
    };
    let roi = Roi { inside: mask.to_owned(), geometry: volume.geometry.clone() };
    let image = Grid { voxels: CowArray::from(volume.hu.view()), geometry: volume.geometry.clone() };
    hashed(image_hash, mask_hash, settings, || run(image, roi, Mode::Segment, settings)).map(|(found, _)| found)
}

fn run<T: Scalar>(image: Grid<T>, roi: Roi, mode: Mode, settings: &Settings) -> Result<Found, RadiomicsError> {
    let mut notes = Notes { entries: Vec::new(), on: settings.additional_info, axes: settings.axes() };
    // The five names are PyRadiomics' columns; what stands in them is what computed.
    let ours = concat!("metwatch ", env!("CARGO_PKG_VERSION"), " (as PyRadiomics 3.1.0)");
    notes.add("Versions_PyRadiomics", Value::Text(ours.into()));
    for other in ["Numpy", "SimpleITK", "PyWavelet", "Python"] {
        notes.add(format!("Versions_{other}"), Value::Text("not used".into()));
    }
    let mut reported = settings.reported.clone();
    if mode == Mode::Voxel {
        reported.push(("voxelBased".into(), Value::Bool(true)));
    }
    notes.add("Configuration_Settings", Value::Map(reported));
    notes.add("Configuration_EnabledImageTypes", settings.image_types());
    // The hashes are put in by [`hashed`].
    notes.add("Image-original_Hash", Value::Null);
    notes.image(&image, "original");
    notes.add("Mask-original_Hash", Value::Null);
    notes.mask::<T>(None, &roi, "original");
    if settings.normalize {
        let image = normalize(&image, settings)?;
        return prepared(image, roi, notes, mode, settings);
    }
    prepared(image, roi, notes, mode, settings)
}

/// From a loaded (and perhaps normalized) image on.
fn prepared<T: Scalar>(
    image: Grid<T>,
    roi: Roi,
    mut notes: Notes,
    mode: Mode,
    settings: &Settings,
) -> Result<Found, RadiomicsError> {
    let mut warnings = Vec::new();
    if matches!(settings.bins, Bins::Count(_)) {
        warnings.push(
            "radiomics.featureextractor: Fixed bin Count enabled! However, we recommend using a fixed bin Width. See \
             http://pyradiomics.readthedocs.io/en/latest/faq.html#radiomics-fixed-bin-width for more details"
                .into(),
        );
    }
    match (&settings.resampled_spacing, settings.interpolator) {
        (Some(listed), Some(interpolator)) => {
            let axes = settings.axes();
            if listed.len() != axes {
                return Err(RadiomicsError::Spacings { listed: listed.len(), axes });
            }
            // A plane is not resampled across itself.
            let spacing = std::array::from_fn(|a| listed.get(a).copied().unwrap_or(0.0));
            let (image, roi) = resample::resample(&image, &roi, spacing, interpolator, settings)?;
            notes.image(&image, "interpolated");
            notes.mask(Some(&image), &roi, "interpolated");
            measured(&image, roi, notes, warnings, mode, settings)
        }
        _ if settings.pre_crop => {
            let (bounds, corrected) = check(&image, &roi, settings, &mut warnings)?;
            let (image, roi) = crop(&image, corrected.as_ref().unwrap_or(&roi), bounds, settings.pad_distance);
            measured(&image, roi, notes, warnings, mode, settings)
        }
        _ => measured(&image, roi, notes, warnings, mode, settings),
    }
}

/// From the image that features are computed on.
fn measured<T: Scalar>(
    image: &Grid<T>,
    mut roi: Roi,
    mut notes: Notes,
    mut warnings: Vec<String>,
    mode: Mode,
    settings: &Settings,
) -> Result<Found, RadiomicsError> {
    let (mut bounds, corrected) = check(image, &roi, settings, &mut warnings)?;
    if let Some(corrected) = corrected {
        notes.mask(Some(image), &corrected, "corrected");
        roi = corrected;
    }
    let mut shape_roi = None;
    if let Some(range) = &settings.resegment_range {
        let kept = resegment(image, &roi, range, settings)?;
        (bounds, _) = check(image, &kept, settings, &mut warnings)?;
        notes.mask(Some(image), &kept, "resegmented");
        if !settings.resegment_shape {
            shape_roi = Some(roi);
        }
        roi = kept;
    }
    let values = || image.voxels.iter().zip(&roi.inside).filter(|(_, inside)| **inside);
    if !T::INTEGER && values().any(|(v, _)| !v.as_f64().is_finite()) {
        return Err(RadiomicsError::NotFinite { place: "inside the region" });
    }
    // Image and mask may differ within the tolerance; features take the image's spacing.
    roi.geometry = image.geometry.clone();
    shape_roi.iter_mut().for_each(|roi| roi.geometry = image.geometry.clone());
    let mut table = FeatureTable { rows: Vec::new(), settings_sha256: settings.sha256() };
    // PyRadiomics crops the mask of the shape to the box after re-segmentation as well.
    if mode == Mode::Voxel {
        let wide = voxel::widened(bounds, roi.geometry.size, settings);
        let mut maps = Vec::new();
        for (mut found, mut said) in filtered(image, &roi, wide, settings, voxel::maps)? {
            maps.append(&mut found);
            warnings.append(&mut said);
        }
        let diagnostics = Diagnostics { entries: notes.entries };
        return Ok((Extraction { features: table, diagnostics, warnings }, maps));
    }
    shapes(shape_roi.as_ref().unwrap_or(&roi), bounds, settings, &mut table, &mut warnings)?;
    for (mut rows, mut said) in filtered(image, &roi, bounds, settings, classes)? {
        table.rows.append(&mut rows);
        warnings.append(&mut said);
    }
    let diagnostics = Diagnostics { entries: notes.entries };
    Ok((Extraction { features: table, diagnostics, warnings }, Vec::new()))
}

/// Spacing in mm, (z, y, x).
pub(super) fn spacing_zyx(roi: &Roi) -> [f64; 3] {
    let [x, y, z] = roi.geometry.spacing_mm;
    [z, y, x]
}

fn shapes(
    roi: &Roi,
    bounds: Bounds,
    settings: &Settings,
    table: &mut FeatureTable,
    warnings: &mut Vec<String>,
) -> Result<(), RadiomicsError> {
    let view = roi.inside.view();
    let (mask, spacing) = (part(&view, bounds), spacing_zyx(roi));
    for (class, listed) in settings.classes.iter().filter(|(class, _)| *class == Class::Shape) {
        if settings.planar {
            warnings.push(
                "radiomics.featureextractor: Shape features are only available 3D input (for 2D input, use shape2D). \
                 Found 2D input"
                    .into(),
            );
            continue;
        }
        append("original", *class, listed, shape::compute(mask, spacing), &mut table.rows, warnings);
    }
    for (class, listed) in settings.classes.iter().filter(|(class, _)| *class == Class::Shape2D) {
        if let Some(values) = shape2d::compute(mask, spacing, settings, warnings)? {
            append("original", *class, listed, values, &mut table.rows, warnings);
        }
    }
    Ok(())
}

/// What was found on one image, and the warnings.
type WithWarnings<Found> = (Vec<Found>, Vec<String>);

/// What `measure` finds on every image, in order, each with its warnings. The images share nothing, so they are computed side
/// by side; inside one image the work is split as `measure` does it.
fn filtered<T: Scalar, Found: Send>(
    image: &Grid<T>,
    roi: &Roi,
    bounds: Bounds,
    settings: &Settings,
    measure: impl Fn(&Filtered, &Roi, Bounds, &Settings) -> Result<(Vec<Found>, Vec<String>), RadiomicsError> + Sync,
) -> Result<Vec<WithWarnings<Found>>, RadiomicsError> {
    let per_type = settings.images.par_iter().map(|(image_type, own)| {
        let settings = settings.with_own(own)?;
        let outputs = filters::apply(*image_type, image, roi, bounds, &settings)?;
        let found = outputs.into_par_iter().map(|output| match output {
            Output::Image(filtered) => measure(&filtered, roi, bounds, &settings),
            Output::Warning(text) => Ok((Vec::new(), vec![text])),
        });
        found.collect::<Result<Vec<_>, RadiomicsError>>()
    });
    Ok(per_type.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// All classes but shape on one image.
fn classes(
    image: &Filtered,
    roi: &Roi,
    bounds: Bounds,
    settings: &Settings,
) -> Result<(Vec<Feature>, Vec<String>), RadiomicsError> {
    let view = roi.inside.view();
    let mask = part(&view, bounds);
    let values = image.values.view();
    let (mut rows, mut warnings) = (Vec::new(), Vec::new());
    if settings.classes.iter().all(|(class, _)| matches!(class, Class::Shape | Class::Shape2D)) {
        return Ok((rows, warnings));
    }
    let runs = runs(mask);
    let mut inside = collect(values, &runs);
    let undefined = |error| match error {
        RadiomicsError::NotFinite { .. } => RadiomicsError::Undefined { image_type: image.name.clone() },
        error => error,
    };
    let spacing = spacing_zyx(roi);
    let levels = discretize(&inside, &runs, mask.dim(), image.float32, settings).map_err(undefined)?;
    inside.retain(|v| !v.is_nan());
    let needs_neighbors = settings.classes.iter().any(|(c, _)| matches!(c, Class::Gldm | Class::Ngtdm));
    let neighbors = needs_neighbors.then(|| Neighborhoods::new(&levels, settings));
    for (class, listed) in &settings.classes {
        let found = match (class, &neighbors) {
            (Class::FirstOrder, _) => {
                firstorder::compute(&inside, &levels, settings.voxel_array_shift, roi.geometry.voxel_mm3())
            }
            (Class::Glcm, _) => glcm::compute(&levels, spacing, settings),
            (Class::Glrlm, _) => glrlm::compute(&levels, spacing, settings),
            (Class::Glszm, _) => glszm::compute(&levels, settings),
            (Class::Gldm, Some(neighbors)) => neighbors.gldm(&levels),
            (Class::Ngtdm, Some(neighbors)) => neighbors.ngtdm(&levels),
            (Class::Gldm | Class::Ngtdm | Class::Shape | Class::Shape2D, _) => continue,
        };
        let before = rows.len();
        append(&image.name, *class, listed, found, &mut rows, &mut warnings);
        if *class == Class::Glcm {
            let told = rows[before..].iter().filter_map(|row| glcm::warning(&row.name, settings.symmetrical_glcm));
            warnings.extend(told.map(|text| format!("radiomics.glcm: {text}")));
        }
    }
    Ok((rows, warnings))
}

/// The values of runs, one after the other.
pub(super) fn collect(values: ArrayView3<f64>, runs: &[Run]) -> Vec<f64> {
    let mut found = Vec::with_capacity(runs.iter().map(Run::len).sum());
    for run in runs {
        let row = values.slice_move(s![run.z, run.y, ..]);
        match row.to_slice() {
            Some(row) => found.extend_from_slice(&row[run.start..run.end]),
            None => found.extend(row.iter().skip(run.start).take(run.len())),
        }
    }
    found
}

/// The wanted features of a class, in order; one that could not be computed is NaN.
fn append(
    image_type: &str,
    class: Class,
    listed: &[String],
    values: Vec<(&'static str, f64)>,
    rows: &mut Vec<Feature>,
    warnings: &mut Vec<String>,
) {
    let (wanted, mut deprecated) = Settings::wanted(class, listed);
    warnings.append(&mut deprecated);
    for definition in wanted {
        let value = values.iter().find(|(name, _)| *name == definition.name).map_or(f64::NAN, |(_, value)| *value);
        rows.push(Feature {
            region: None,
            name: format!("{image_type}_{}_{}", class.name(), definition.name),
            value,
            unit: definition.unit,
            ibsi: definition.ibsi,
        });
    }
}
