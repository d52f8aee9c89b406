//! Grids of voxels in the patient: geometry, CT volumes in HU, label maps.
//!
//! Main types: [`Geometry`], [`Volume`], [`LabelMap`], [`Region`]. Everything downstream of the DICOM and NIfTI readers
//! works on these and nothing else.
//!
//! **Invariant:** this room knows no file, socket or clock; codecs here take and return bytes.

mod geometry;
mod labels;

pub use geometry::{Geometry, GeometryError};
pub use labels::{LabelMap, LabelScheme, Region};

use ndarray::Array3;

/// A CT volume.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Hounsfield units, shape (z, y, x) = [`Geometry::shape_zyx`].
    pub hu: Array3<f32>,
    /// Where the voxels lie in the patient (LPS, mm).
    pub geometry: Geometry,
}
