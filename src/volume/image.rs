//! An image as a file holds it: voxels in their stored pixel type, on a grid in the patient.

use super::{CodecError, Geometry, Volume};
use ndarray::{Array3, ArrayView3};

/// An image of one channel as read from NIfTI or NRRD, in its file's pixel type (radiomics depends on that type).
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Where the voxels lie in the patient (LPS, mm).
    pub geometry: Geometry,
    /// Voxel values, shape (z, y, x) = [`Geometry::shape_zyx`].
    pub voxels: Voxels,
    /// Axes that the file counts: 3, or 2 for a plane, which is one slice of 1 mm here.
    pub dimension: usize,
}

/// Voxel values by pixel type; every array has shape (z, y, x).
#[derive(Debug, Clone, PartialEq)]
pub enum Voxels {
    /// Unsigned, 8 bits.
    U8(Array3<u8>),
    /// Signed, 8 bits.
    I8(Array3<i8>),
    /// Unsigned, 16 bits.
    U16(Array3<u16>),
    /// Signed, 16 bits.
    I16(Array3<i16>),
    /// Unsigned, 32 bits.
    U32(Array3<u32>),
    /// Signed, 32 bits.
    I32(Array3<i32>),
    /// Floating point, 32 bits.
    F32(Array3<f32>),
    /// Floating point, 64 bits; also what a NIfTI with a scale slope or intercept becomes.
    F64(Array3<f64>),
}

/// Runs one expression for whatever pixel type a [`Voxels`] holds.
macro_rules! for_voxels {
    ($voxels:expr, $a:ident => $body:expr) => {
        match $voxels {
            $crate::volume::Voxels::U8($a) => $body,
            $crate::volume::Voxels::I8($a) => $body,
            $crate::volume::Voxels::U16($a) => $body,
            $crate::volume::Voxels::I16($a) => $body,
            $crate::volume::Voxels::U32($a) => $body,
            $crate::volume::Voxels::I32($a) => $body,
            $crate::volume::Voxels::F32($a) => $body,
            $crate::volume::Voxels::F64($a) => $body,
        }
    };
}

pub(crate) use for_voxels;

/// A pixel type: how it lies in a file, and the way to and from f64.
pub trait Scalar: Copy + PartialOrd + Send + Sync + 'static {
    /// Bytes of one voxel.
    const BYTES: usize;
    /// NIfTI-1 datatype code.
    const NIFTI: i16;
    /// Integers are truncated toward zero where a filter writes into them.
    const INTEGER: bool;
    /// Value of [`Scalar::BYTES`] bytes, least significant first.
    fn from_le(bytes: &[u8]) -> Self;
    /// Value of [`Scalar::BYTES`] bytes, most significant first.
    fn from_be(bytes: &[u8]) -> Self;
    /// Appends the value, least significant byte first.
    fn put_le(self, out: &mut Vec<u8>);
    /// Exact for every type here.
    fn as_f64(self) -> f64;
    /// Truncates toward zero and saturates for integers, rounds for f32 (a static cast of C++ inside the range).
    fn from_f64(value: f64) -> Self;
    /// Wraps an array of this type.
    fn voxels(array: Array3<Self>) -> Voxels;
}

macro_rules! scalar {
    ($($t:ty, $variant:ident, $code:expr, $integer:expr;)*) => {$(
        impl Scalar for $t {
            const BYTES: usize = size_of::<$t>();
            const NIFTI: i16 = $code;
            const INTEGER: bool = $integer;
            fn from_le(bytes: &[u8]) -> Self {
                let mut raw = [0; size_of::<$t>()];
                raw.copy_from_slice(bytes);
                <$t>::from_le_bytes(raw)
            }
            fn from_be(bytes: &[u8]) -> Self {
                let mut raw = [0; size_of::<$t>()];
                raw.copy_from_slice(bytes);
                <$t>::from_be_bytes(raw)
            }
            fn put_le(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn as_f64(self) -> f64 {
                self as f64
            }
            fn from_f64(value: f64) -> Self {
                value as $t
            }
            fn voxels(array: Array3<Self>) -> Voxels {
                Voxels::$variant(array)
            }
        }
    )*};
}
scalar! {
    u8, U8, 2, true; i8, I8, 256, true; u16, U16, 512, true; i16, I16, 4, true;
    u32, U32, 768, true; i32, I32, 8, true; f32, F32, 16, false; f64, F64, 64, false;
}

impl Voxels {
    /// Shape (z, y, x).
    pub fn dim(&self) -> (usize, usize, usize) {
        for_voxels!(self, a => a.dim())
    }

    /// All values as f64, exactly.
    pub fn to_f64(&self) -> Array3<f64> {
        for_voxels!(self, a => a.mapv(Scalar::as_f64))
    }

    /// All values as f32, rounded to nearest.
    pub fn to_f32(&self) -> Array3<f32> {
        for_voxels!(self, a => a.mapv(|v| v.as_f64() as f32))
    }

    /// Whether the pixel type is an integer.
    pub fn is_integer(&self) -> bool {
        !matches!(self, Voxels::F32(_) | Voxels::F64(_))
    }

    /// Applies `f` to the raw bytes, little endian, x fastest, in pieces.
    pub fn for_bytes(&self, mut f: impl FnMut(&[u8])) {
        let mut buffer = Vec::new();
        for_voxels!(self, a => for row in a.rows() {
            buffer.clear();
            row.iter().for_each(|v| v.put_le(&mut buffer));
            f(&buffer);
        })
    }
}

impl Image {
    /// A CT volume of these values; a value that is NaN, infinite or beyond f32 is refused with its place.
    pub fn to_volume(&self) -> Result<Volume, CodecError> {
        let hu = self.voxels.to_f32();
        match hu.indexed_iter().find(|(_, v)| !v.is_finite()) {
            Some(((z, y, x), value)) => Err(CodecError::NotFinite { x, y, z, value: *value }),
            None => Ok(Volume { hu, geometry: self.geometry.clone() }),
        }
    }

    /// Label values 0..=255, shape (z, y, x); a value that is not a whole number in that range is refused.
    pub fn to_labels(&self) -> Result<Array3<u8>, CodecError> {
        let mut bad = None;
        let labels = for_voxels!(&self.voxels, a => a.mapv(|v| {
            let value = v.as_f64();
            let label = value as u8;
            if f64::from(label) != value {
                bad.get_or_insert(value);
            }
            label
        }));
        bad.map_or(Ok(labels), |value| Err(CodecError::NotALabel { value }))
    }

    /// An image of a volume's HU (f32).
    pub fn from_volume(volume: &Volume) -> Image {
        Image { geometry: volume.geometry.clone(), voxels: Voxels::F32(volume.hu.clone()), dimension: 3 }
    }
}

/// Whether an array of shape (z, y, x) lies on this grid.
pub(crate) fn matches_grid<T>(values: ArrayView3<T>, geometry: &Geometry) -> bool {
    values.dim() == geometry.shape_zyx()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(voxels: Voxels) -> Image {
        let (z, y, x) = voxels.dim();
        let direction = Geometry::IDENTITY;
        let geometry = Geometry { size: [x, y, z], spacing_mm: [1.0; 3], origin_mm: [0.0; 3], direction };
        Image { geometry, voxels, dimension: 3 }
    }

    #[test]
    fn infinite_values_do_not_become_a_volume() {
        let mut values = Array3::zeros((2, 3, 4));
        values[[1, 2, 3]] = f64::NAN;
        let error = image(Voxels::F64(values)).to_volume().unwrap_err();
        assert!(matches!(error, CodecError::NotFinite { x: 3, y: 2, z: 1, .. }), "{error}");
    }

    #[test]
    fn labels_are_whole_and_small() {
        let good = image(Voxels::I32(Array3::from_elem((1, 1, 2), 255)));
        assert_eq!(good.to_labels().unwrap()[[0, 0, 1]], 255);
        let bad = image(Voxels::F32(Array3::from_elem((1, 1, 2), 1.5)));
        assert!(matches!(bad.to_labels(), Err(CodecError::NotALabel { value: 1.5 })));
    }

    #[test]
    fn raw_bytes_are_little_endian_with_x_fastest() {
        let mut bytes = Vec::new();
        Voxels::I16(ndarray::arr3(&[[[1, -2]], [[3, 4]]])).for_bytes(|b| bytes.extend_from_slice(b));
        assert_eq!(bytes, [1, 0, 0xfe, 0xff, 3, 0, 4, 0]);
    }
}
