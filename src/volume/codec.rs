//! What the two file formats share: errors, limits, and reading a run of voxels without trusting the header.

use super::image::{Scalar, Voxels};
use super::{Geometry, GeometryError, Image};
use crate::Explain;
use ndarray::Array3;
use std::io::Read;

/// More voxels than this are refused: 512 x 512 x 8192 is beyond any CT.
pub const VOXELS_MAX: u64 = 1 << 31;
/// Deflate cannot expand more than 1032:1, so a header that claims more than the file can hold is a lie.
const DEFLATE_RATIO_MAX: u64 = 1032;

/// Why bytes are not an image that metwatch can use.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Neither of the two formats.
    #[error("these bytes are neither a NIfTI-1 (.nii, .nii.gz) nor an NRRD file")]
    UnknownFormat,
    /// Something that the format allows and metwatch does not read.
    #[error("this {format} file has {what}, which is not read")]
    Unsupported {
        /// NIfTI or NRRD.
        format: &'static str,
        /// The feature, as the file names it.
        what: String,
    },
    /// A header that contradicts itself or the format.
    #[error("the {format} header is damaged: {what}")]
    Header {
        /// NIfTI or NRRD.
        format: &'static str,
        /// What is wrong.
        what: String,
    },
    /// The voxels end early.
    #[error("the voxels end after {read} of {expected} bytes: the file is truncated or its header wrong")]
    Truncated {
        /// Bytes that were there.
        read: u64,
        /// Bytes that the header promised.
        expected: u64,
    },
    /// A gzip stream that does not decompress.
    #[error("the compressed voxels are damaged")]
    Gzip(#[source] std::io::Error),
    /// More voxels than are plausible, or than the file could hold.
    #[error("the header claims {claimed} bytes of voxels, more than {limit} that are possible here")]
    TooLarge {
        /// Claimed by the header.
        claimed: u64,
        /// Allowed.
        limit: u64,
    },
    /// A grid that is not one.
    #[error("the grid of the image is unusable")]
    Geometry(#[from] GeometryError),
    /// A channel that is not in the file.
    #[error("channel {asked} is asked for (they count from 0), but the file has only {present}")]
    Channel {
        /// Asked for.
        asked: usize,
        /// Number of channels.
        present: usize,
    },
    /// NaN or infinity where Hounsfield units are needed.
    #[error("the voxel at x {x}, y {y}, z {z} is {value}: not a CT value")]
    NotFinite {
        /// Column.
        x: usize,
        /// Row.
        y: usize,
        /// Slice.
        z: usize,
        /// What was found there.
        value: f32,
    },
    /// A label map with a value that is not a label.
    #[error("the label map holds the value {value}: labels are whole numbers from 0 to 255")]
    NotALabel {
        /// What was found.
        value: f64,
    },
    /// An array that does not lie on the grid it is written with.
    #[error("the array has shape {shape:?} (z, y, x), the grid has {grid:?}")]
    Shape {
        /// Of the array.
        shape: (usize, usize, usize),
        /// Of the grid.
        grid: (usize, usize, usize),
    },
}

impl Explain for CodecError {
    fn code(&self) -> &'static str {
        match self {
            Self::UnknownFormat => "volume.unknown-format",
            Self::Unsupported { .. } => "volume.unsupported",
            Self::Header { .. } => "volume.header",
            Self::Truncated { .. } => "volume.truncated",
            Self::Gzip(_) => "volume.gzip",
            Self::TooLarge { .. } => "volume.too-large",
            Self::Geometry(_) => "volume.geometry",
            Self::Channel { .. } => "volume.channel",
            Self::NotFinite { .. } => "volume.not-finite",
            Self::NotALabel { .. } => "volume.not-a-label",
            Self::Shape { .. } => "volume.shape",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::UnknownFormat => "give a .nii, .nii.gz or .nrrd file",
            Self::Unsupported { .. } => "convert it to a three-dimensional scalar NIfTI or NRRD in one file",
            Self::Header { .. } | Self::Truncated { .. } | Self::Gzip(_) | Self::TooLarge { .. } => {
                "copy or export the file again"
            }
            Self::Geometry(_) => "export the image again with its orientation and spacing",
            Self::Channel { .. } => "choose a channel of the file",
            Self::NotFinite { .. } => "replace NaN and infinite values, for instance by -1024 HU",
            Self::NotALabel { .. } => "give a label map, not an image or a probability map",
            Self::Shape { .. } => "write the array with the grid it was computed on",
        }
    }
}

/// Reads a NIfTI-1 (`.nii`, `.nii.gz`) or NRRD image, whichever the bytes are.
pub fn decode_image(bytes: &[u8]) -> Result<Image, CodecError> {
    if bytes.starts_with(b"NRRD") { super::decode_nrrd(bytes) } else { super::decode_nifti(bytes) }
}

/// Reads a mask of which each voxel may hold several labels (PyRadiomics' `label_channel`): one channel, counted from 0. A file
/// with a single value per voxel is read as [`decode_image`] does.
pub fn decode_channel(bytes: &[u8], channel: usize) -> Result<Image, CodecError> {
    if bytes.starts_with(b"NRRD") { super::nrrd::decode_channel(bytes, channel) } else { super::decode_nifti(bytes) }
}

/// Pixel types that a file may name; the 64 bit integers become 32 bits where their values allow it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum PixelType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

/// What a header says about the voxels that follow.
pub(super) struct Claim {
    pub format: &'static str,
    pub size: [usize; 3],
    pub pixel: PixelType,
    pub big_endian: bool,
}

impl Claim {
    fn bytes(&self) -> Result<u64, CodecError> {
        let width = match self.pixel {
            PixelType::U8 | PixelType::I8 => 1,
            PixelType::U16 | PixelType::I16 => 2,
            PixelType::U32 | PixelType::I32 | PixelType::F32 => 4,
            PixelType::U64 | PixelType::I64 | PixelType::F64 => 8,
        };
        let voxels = self.size.iter().try_fold(1u64, |n, s| n.checked_mul(*s as u64)).unwrap_or(u64::MAX);
        if voxels > VOXELS_MAX {
            return Err(CodecError::TooLarge { claimed: voxels.saturating_mul(width), limit: VOXELS_MAX * width });
        }
        Ok(voxels * width)
    }

    /// Reads the claimed voxels from `source`, of which `stored` bytes exist (compressed if `gzip`).
    pub fn read(&self, source: impl Read, stored: usize, gzip: bool) -> Result<Voxels, CodecError> {
        let claimed = self.bytes()?;
        let limit = stored as u64 * if gzip { DEFLATE_RATIO_MAX } else { 1 };
        if claimed > limit {
            return Err(if gzip {
                CodecError::TooLarge { claimed, limit }
            } else {
                CodecError::Truncated { read: limit, expected: claimed }
            });
        }
        match self.pixel {
            PixelType::U8 => self.typed::<u8>(source),
            PixelType::I8 => self.typed::<i8>(source),
            PixelType::U16 => self.typed::<u16>(source),
            PixelType::I16 => self.typed::<i16>(source),
            PixelType::U32 => self.typed::<u32>(source),
            PixelType::I32 => self.typed::<i32>(source),
            PixelType::F32 => self.typed::<f32>(source),
            PixelType::F64 => self.typed::<f64>(source),
            PixelType::U64 | PixelType::I64 => self.narrowed(source),
        }
    }

    fn typed<T: Scalar>(&self, source: impl Read) -> Result<Voxels, CodecError> {
        // Two loops, so that each is plain enough to be vectorized.
        let values = if self.big_endian {
            self.collect(source, |b, out| {
                out.extend(b.chunks_exact(T::BYTES).map(T::from_be));
                Ok(())
            })
        } else {
            self.collect(source, |b, out| {
                out.extend(b.chunks_exact(T::BYTES).map(T::from_le));
                Ok(())
            })
        };
        Ok(T::voxels(values?))
    }

    fn narrowed(&self, source: impl Read) -> Result<Voxels, CodecError> {
        let (big, signed, format) = (self.big_endian, self.pixel == PixelType::I64, self.format);
        let values = self.collect(source, |piece, out| {
            for b in piece.chunks_exact(8) {
                let mut raw = [0; 8];
                raw.copy_from_slice(b);
                let value = if big { i64::from_be_bytes(raw) } else { i64::from_le_bytes(raw) };
                let fits = i32::try_from(value).ok().filter(|v| signed || *v >= 0);
                let what = || CodecError::Unsupported { format, what: "64 bit integers beyond 32 bits".into() };
                out.push(fits.ok_or_else(what)?);
            }
            Ok(())
        })?;
        Ok(Voxels::I32(values))
    }

    /// Reads in pieces of whole voxels, so that memory grows with the bytes that are there and not with the claim.
    fn collect<T>(
        &self,
        mut source: impl Read,
        decode: impl Fn(&[u8], &mut Vec<T>) -> Result<(), CodecError>,
    ) -> Result<Array3<T>, CodecError> {
        let expected = self.bytes()?;
        let [nx, ny, nz] = self.size;
        let mut values = Vec::new();
        let mut buffer = vec![0u8; 1 << 16];
        let mut read = 0u64;
        while read < expected {
            let want = (expected - read).min(buffer.len() as u64) as usize;
            let mut filled = 0;
            while filled < want {
                match source.read(&mut buffer[filled..want]) {
                    Ok(0) => return Err(CodecError::Truncated { read: read + filled as u64, expected }),
                    Ok(n) => filled += n,
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                        return Err(CodecError::Truncated { read: read + filled as u64, expected });
                    }
                    Err(e) => return Err(CodecError::Gzip(e)),
                }
            }
            decode(&buffer[..want], &mut values)?;
            read += want as u64;
        }
        // One byte more makes a decoder look at its checksum. All voxels are here, so what else stands at the end may be anything.
        match source.read(&mut [0]) {
            Err(e) if e.to_string().contains("checksum") => return Err(CodecError::Gzip(e)),
            _ => {}
        }
        let shape = (nz, ny, nx);
        let n = values.len();
        Array3::from_shape_vec(shape, values)
            .map_err(|_| CodecError::Header { format: self.format, what: format!("{n} voxels for {shape:?}") })
    }
}

/// An image whose grid has passed its checks. What a file of a plane says about a third axis does not count.
pub(super) fn checked(mut geometry: Geometry, voxels: Voxels, dimension: usize) -> Result<Image, CodecError> {
    if dimension == 2 {
        geometry.spacing_mm[2] = 1.0;
    }
    geometry.check()?;
    Ok(Image { geometry, voxels, dimension })
}
