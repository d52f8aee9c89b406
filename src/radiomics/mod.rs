//! Radiomics: numbers that describe a region of an image, equal to those of PyRadiomics 3.1.0 in name, order and value.
//!
//! Main types: [`Settings`] (a parameter file), [`FeatureTable`] (the features), [`Diagnostics`] (what they were computed
//! from). [`extract`] takes an image and a mask as files hold them, [`extract_region`] a CT volume and one region.
//! Data passes once: image and mask -> normalized, resampled, checked, re-segmented ([`extract`]'s steps) -> values of the
//! region's box -> gray levels -> one matrix per family -> features. Every family has its own file; what an image or a
//! setting asks for and is not computed is refused by name, never ignored. [`ibsi`] is the other convention, on its own.
//!
//! **Invariant:** this room knows no file, clock or thread count: the same bytes give the same numbers, however many
//! threads share the work (sums over voxels are whole numbers, or run in one order).

mod box_kernel;
mod bspline;
mod diagnose;
mod discretize;
mod eigen;
mod error;
mod extract;
mod filters;
mod firstorder;
mod glcm;
mod glcm_kernel;
mod glrlm;
mod glszm;
pub mod ibsi;
mod inverse;
mod kernels;
mod lines;
mod mesh_table;
mod neighborhood;
mod numpy;
mod overrides;
mod region;
mod resample;
mod schema;
mod settings;
mod shape;
mod shape2d;
mod size_matrix;
mod table;
mod value;
mod voxel;
mod wide;

pub use discretize::LEVELS_MAX;
pub use error::RadiomicsError;
pub use extract::{extract, extract_region, extract_voxelwise};
pub use filters::{FilterSettings, ImageType, Lbp2dMethod};
pub use overrides::read_overrides;
pub use settings::{Bins, Class, Interpolator, ResegmentMode, Settings, Voxelwise, Weighting, unit_and_ibsi};
pub use table::{Diagnostics, Extraction, Feature, FeatureTable};
pub use value::{Value, python_float};
pub use voxel::{FeatureMap, Maps};
