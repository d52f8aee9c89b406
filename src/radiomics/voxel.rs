//! Voxel-based extraction: every feature as a map, computed in a box (the kernel) around each voxel of the region.

use super::box_kernel::{BoxKernel, Workspace};
use super::discretize::{Levels, discretize};
use super::extract::{collect, spacing_zyx};
use super::filters::Filtered;
use super::glcm_kernel::GlcmKernel;
use super::neighborhood::Neighborhoods;
use super::region::{Bounds, Roi, part, runs};
use super::settings::{Class, Settings};
use super::table::{Definition, Diagnostics, Offer};
use super::{RadiomicsError, firstorder, glcm, glrlm, glszm};
use crate::volume::{Geometry, Image, Voxels};
use ndarray::{Array3, ArrayView3};
use rayon::prelude::*;

/// One feature as a map.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureMap {
    /// As PyRadiomics writes it: `original_glcm_JointEntropy`.
    pub name: String,
    /// Unit, empty for a pure number; `I` stands for the unit of the image.
    pub unit: &'static str,
    /// IBSI code, where the definitions agree.
    pub ibsi: Option<&'static str>,
    /// Values (f64) on the region's box with `kernelRadius` voxels around it; `initValue` outside the region.
    pub image: Image,
}

/// Everything that one voxel-based extraction gives.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Maps {
    /// The maps, in PyRadiomics' order.
    pub maps: Vec<FeatureMap>,
    /// Where they come from; empty with `additionalInfo: false`.
    pub diagnostics: Diagnostics,
    /// PyRadiomics' warnings and errors, in order, with the name of its logger.
    pub warnings: Vec<String>,
    /// SHA-256 of the canonical text of the settings, in hexadecimal.
    pub settings_sha256: String,
}

impl Maps {
    /// The map with this name.
    pub fn get(&self, name: &str) -> Option<&FeatureMap> {
        self.maps.iter().find(|map| map.name == name)
    }
}

/// Voxels whose features are held before they are written into the maps.
const CHUNK: usize = 1 << 15;

/// The region's box with `kernelRadius` voxels around it, as far as the image (`size`, x y z) reaches.
pub(super) fn widened(b: Bounds, size: [usize; 3], settings: &Settings) -> Bounds {
    let radius = settings.voxel.kernel_radius;
    let first: [usize; 3] = std::array::from_fn(|a| b.first[a].saturating_sub(radius));
    let end: [usize; 3] = std::array::from_fn(|a| (b.first[a] + b.size[a] + radius).min(size[a]));
    Bounds { first, size: std::array::from_fn(|a| end[a] - first[a]) }
}

/// All classes but shape on one image, whose values have shape (z, y, x) of the widened box `bounds`.
pub(super) fn maps(
    image: &Filtered,
    roi: &Roi,
    bounds: Bounds,
    settings: &Settings,
) -> Result<(Vec<FeatureMap>, Vec<String>), RadiomicsError> {
    let Filtered { name: image_type, values, float32 } = image;
    let (values, float32) = (values.view(), *float32);
    let view = roi.inside.view();
    let mask = part(&view, bounds);
    let everywhere = Array3::from_elem(mask.dim(), true);
    let counted = if settings.voxel.masked_kernel { mask } else { everywhere.view() };
    let runs = runs(counted);
    let counted = collect(values, &runs);
    if counted.iter().any(|v| !v.is_finite()) {
        return Err(RadiomicsError::NotFinite { place: "inside the region" });
    }
    let levels = discretize(&counted, &runs, mask.dim(), float32, settings)?;
    let work = Work {
        values,
        levels: &levels,
        centers: mask.indexed_iter().filter(|(_, inside)| **inside).map(|((z, y, x), _)| [z, y, x]).collect(),
        spacing: spacing_zyx(roi),
        voxel_mm3: roi.geometry.voxel_mm3(),
        settings,
    };
    let geometry = Geometry {
        size: bounds.size,
        origin_mm: roi.geometry.position_mm(bounds.first.map(|v| v as f64)),
        ..roi.geometry.clone()
    };
    let (mut found, mut warnings) = (Vec::new(), Vec::new());
    for (class, listed) in &settings.classes {
        if matches!(class, Class::Shape | Class::Shape2D) {
            continue;
        }
        let (wanted, mut deprecated) = wanted(*class, listed);
        warnings.append(&mut deprecated);
        let mut arrays = vec![Array3::from_elem(mask.dim(), settings.voxel.init_value); wanted.len()];
        if *class == Class::Glcm {
            work.glcm(&wanted, &mut arrays, &mut warnings);
        } else {
            work.class(*class, &wanted, &mut arrays);
        }
        found.extend(wanted.iter().zip(arrays).map(|(definition, array)| FeatureMap {
            name: format!("{image_type}_{}_{}", class.name(), definition.name),
            unit: definition.unit,
            ibsi: definition.ibsi,
            image: Image {
                geometry: geometry.clone(),
                voxels: Voxels::F64(array),
                dimension: if settings.planar { 2 } else { 3 },
            },
        }));
    }
    Ok((found, warnings))
}

/// As [`Settings::wanted`], with the removed features: PyRadiomics makes their maps and never fills them.
fn wanted(class: Class, listed: &[String]) -> (Vec<&'static Definition>, Vec<String>) {
    let (usual, warnings) = Settings::wanted(class, listed);
    if listed.is_empty() {
        return (usual, warnings);
    }
    let mut found: Vec<&'static Definition> = Vec::new();
    for definition in listed.iter().filter_map(|name| class.definitions().iter().find(|d| d.name == name)) {
        if !found.iter().any(|d| d.name == definition.name) {
            found.push(definition);
        }
    }
    (found, warnings)
}

/// What all kernels of one image share.
struct Work<'a> {
    values: ArrayView3<'a, f64>,
    levels: &'a Levels,
    /// Voxels of the region, (z, y, x).
    centers: Vec<[usize; 3]>,
    spacing: [f64; 3],
    voxel_mm3: f64,
    settings: &'a Settings,
}

impl Work<'_> {
    /// First voxel and shape (z, y, x) of the kernel around a voxel; a `force2D` axis stays in its plane.
    fn kernel(&self, center: [usize; 3]) -> ([usize; 3], [usize; 3]) {
        let reach = |a: usize| if self.settings.flat_axis() == Some(a) { 0 } else { self.settings.voxel.kernel_radius };
        let low: [usize; 3] = std::array::from_fn(|a| center[a].saturating_sub(reach(a)));
        let end = |a: usize| center[a].saturating_add(reach(a) + 1).min(self.levels.shape[a]);
        (low, std::array::from_fn(|a| end(a) - low[a]))
    }

    fn batches(&self) -> impl Iterator<Item = &[[usize; 3]]> {
        self.centers.chunks(self.settings.voxel.batch.unwrap_or(usize::MAX).max(1))
    }

    /// A class whose voxels do not depend on each other: that of a region of the kernel's size, for each.
    fn class(&self, class: Class, wanted: &[&Definition], arrays: &mut [Array3<f64>]) {
        let kernels = BoxKernel::new(self.levels, self.settings);
        let of_class = || class.definitions().iter().filter(|d| d.offer != Offer::Removed);
        let order: Vec<Option<usize>> =
            wanted.iter().map(|wanted| of_class().position(|d| d.name == wanted.name)).collect();
        let of_voxel = |kernel: &mut Kernel, center: &[usize; 3]| -> Vec<f64> {
            let (low, shape) = self.kernel(*center);
            let space = &mut kernel.space;
            let ready = matches!(class, Class::Gldm | Class::Ngtdm)
                || (class == Class::Glrlm && self.settings.weighting.is_none());
            let quick = match class {
                _ if !ready || !kernels.read(space, (low, shape)) => None,
                Class::Gldm => Some(kernels.gldm(space).to_vec()),
                Class::Ngtdm => Some(kernels.ngtdm(space).to_vec()),
                _ => kernels.glrlm(space).map(|found| found.to_vec()),
            };
            if let Some(found) = quick {
                return order.iter().map(|k| k.map_or(f64::NAN, |k| found[k])).collect();
            }
            kernel.cut(self, low, shape);
            let levels = &kernel.levels;
            let found = match class {
                Class::FirstOrder => {
                    firstorder::compute(&kernel.values, levels, self.settings.voxel_array_shift, self.voxel_mm3)
                }
                Class::Glrlm => glrlm::compute(levels, self.spacing, self.settings),
                Class::Glszm => glszm::compute(levels, self.settings),
                Class::Gldm => Neighborhoods::new(levels, self.settings).gldm(levels),
                Class::Ngtdm => Neighborhoods::new(levels, self.settings).ngtdm(levels),
                Class::Glcm | Class::Shape | Class::Shape2D => Vec::new(),
            };
            let value = |d: &&Definition| found.iter().find(|(name, _)| *name == d.name).map_or(f64::NAN, |f| f.1);
            wanted.iter().map(value).collect()
        };
        for centers in self.centers.chunks(CHUNK) {
            let rows: Vec<Vec<f64>> =
                centers.par_iter().with_min_len(64).map_init(|| Kernel::new(self.levels), of_voxel).collect();
            write(centers, &rows, wanted, arrays);
        }
    }

    /// GLCM, where PyRadiomics lets the voxels of a batch meet: an angle that has pairs around some of them is kept for all.
    fn glcm(&self, wanted: &[&Definition], arrays: &mut [Array3<f64>], warnings: &mut Vec<String>) {
        let kernels = GlcmKernel::new(self.levels, self.spacing, self.settings);
        let place = |name: &str| wanted.iter().position(|d| d.name == name);
        let (mcc, average) = (place("MCC"), place("JointAverage"));
        let order: Vec<usize> =
            wanted.iter().map(|d| glcm::NAMES.iter().position(|n| *n == d.name).unwrap_or(usize::MAX)).collect();
        for batch in self.batches() {
            let (filled, kept) = self.filled(&kernels, batch);
            // An angle that is kept for others is NaN here: no eigenvalues for the whole batch, no plain mean for the voxel.
            let failed = filled.iter().any(|f| *f != kept);
            let with_mcc = mcc.is_some() && !failed;
            for (part, centers) in batch.chunks(CHUNK).enumerate() {
                let rows: Vec<[f64; glcm::N]> = centers
                    .par_iter()
                    .with_min_len(64)
                    .map_init(|| kernels.workspace(), |space, c| kernels.features(space, self.kernel(*c), with_mcc))
                    .collect();
                let of_batch = &filled[part * CHUNK..];
                for (i, array) in arrays.iter_mut().enumerate() {
                    if wanted[i].offer == Offer::Removed || (Some(i) == mcc && failed) {
                        continue;
                    }
                    for ((row, center), filled) in rows.iter().zip(centers).zip(of_batch) {
                        let plain = Some(i) == average && *filled != kept;
                        array[*center] = if plain { f64::NAN } else { row[order[i]] };
                    }
                }
            }
            let said = |d: &&Definition| match d.name {
                "MCC" if failed => Some("numpy.linalg.LinAlgError: Array must not contain infs or NaNs"),
                name => glcm::warning(name, self.settings.symmetrical_glcm),
            };
            warnings.extend(wanted.iter().filter_map(said).map(|text| format!("radiomics.glcm: {text}")));
        }
    }

    /// Around every voxel of a batch the number of angles that have pairs, and the number of those that PyRadiomics keeps.
    fn filled(&self, kernels: &GlcmKernel, batch: &[[usize; 3]]) -> (Vec<usize>, usize) {
        let parts: Vec<(Vec<usize>, Vec<bool>)> = batch
            .par_chunks(1024)
            .map(|centers| {
                let mut any = kernels.no_angles();
                (centers.iter().map(|c| kernels.filled(self.kernel(*c), &mut any)).collect(), any)
            })
            .collect();
        let mut any = kernels.no_angles();
        for (_, part) in &parts {
            any.iter_mut().zip(part).for_each(|(a, b)| *a |= b);
        }
        let kept = if any.len() == 1 { 1 } else { any.iter().filter(|a| **a).count() };
        (parts.into_iter().flat_map(|(counts, _)| counts).collect(), kept)
    }
}

/// Writes the features of voxels (one row each) into the maps; those of removed features stay as they are.
fn write(centers: &[[usize; 3]], rows: &[Vec<f64>], wanted: &[&Definition], arrays: &mut [Array3<f64>]) {
    for (i, array) in arrays.iter_mut().enumerate().filter(|(i, _)| wanted[*i].offer != Offer::Removed) {
        rows.iter().zip(centers).for_each(|(row, center)| array[*center] = row[i]);
    }
}

/// The kernel around one voxel as a small region of its own; reused from voxel to voxel.
struct Kernel {
    levels: Levels,
    /// Values of its voxels that count.
    values: Vec<f64>,
    space: Workspace,
}

impl Kernel {
    fn new(whole: &Levels) -> Kernel {
        Kernel { levels: Levels::empty(whole.ng), values: Vec::new(), space: Workspace::default() }
    }

    fn cut(&mut self, work: &Work, low: [usize; 3], shape: [usize; 3]) {
        self.levels.cut(work.levels, low, shape, work.settings);
        self.values.clear();
        for z in 0..shape[0] {
            for y in 0..shape[1] {
                let row = work.levels.line([low[0] + z, low[1] + y, low[2]], shape[2]);
                for (x, _) in row.iter().enumerate().filter(|(_, level)| **level != 0) {
                    self.values.push(work.values[[low[0] + z, low[1] + y, low[2] + x]]);
                }
            }
        }
    }
}
