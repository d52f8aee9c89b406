//! Grids of voxels in the patient: geometry, CT volumes in HU, label maps.
//!
//! Main types: [`Geometry`], [`Volume`], [`LabelMap`], [`Region`]; [`Image`] is what a file holds, in its own pixel type
//! ([`decode_image`] reads NIfTI and NRRD, [`encode_nifti`] writes). Everything downstream of the DICOM and NIfTI readers
//! works on these and nothing else.
//!
//! **Invariant:** this room knows no file, socket or clock; codecs here take and return bytes.

mod codec;
mod distance;
mod geometry;
mod image;
mod labels;
mod nifti;
mod nrrd;
mod overlap;

pub use codec::{CodecError, VOXELS_MAX, decode_channel, decode_image};
pub use distance::squared_distance_mm2;
pub use geometry::{Geometry, GeometryError};
pub(crate) use image::for_voxels;
pub use image::{Image, Scalar, Voxels};
pub use labels::{LabelMap, LabelScheme, Region};
pub use nifti::{decode_nifti, encode_nifti, encode_nifti_channels};
pub use nrrd::{decode_nrrd, encode_nrrd};
pub use overlap::{Overlap, overlap};

use ndarray::Array3;

/// A CT volume.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Hounsfield units, shape (z, y, x) = [`Geometry::shape_zyx`].
    pub hu: Array3<f32>,
    /// Where the voxels lie in the patient (LPS, mm).
    pub geometry: Geometry,
}
