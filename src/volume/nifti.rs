//! NIfTI-1 in one file, plain or gzip. NIfTI is RAS: it turns to LPS here and nowhere else.

use super::codec::{Claim, CodecError, PixelType, checked};
use super::image::{Scalar, Voxels, matches_grid};
use super::{Geometry, Image};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use ndarray::{ArrayView3, ArrayView4, Axis};
use std::io::{Read, Write};

const HEADER: usize = 348;
/// Extensions between header and voxels are skipped up to this many bytes.
const OFFSET_MAX: f32 = (1 << 24) as f32;

fn header_error(what: impl Into<String>) -> CodecError {
    CodecError::Header { format: "NIfTI", what: what.into() }
}

/// Reads `.nii` or `.nii.gz`. The sform is preferred where it is set and has right angles, else the qform (as ITK does);
/// a scale slope or intercept turns the voxels into f64. Images with time, channels or a second file are refused.
pub fn decode_nifti(bytes: &[u8]) -> Result<Image, CodecError> {
    let gzip = bytes.starts_with(&[0x1f, 0x8b]);
    if gzip { decode(MultiGzDecoder::new(bytes), bytes.len(), true) } else { decode(bytes, bytes.len(), false) }
}

fn decode(mut source: impl Read, stored: usize, gzip: bool) -> Result<Image, CodecError> {
    let mut raw = [0u8; HEADER];
    source.read_exact(&mut raw).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof if gzip => header_error("it ends early"),
        std::io::ErrorKind::UnexpectedEof => CodecError::UnknownFormat,
        _ => CodecError::Gzip(e),
    })?;
    let header = Header::new(&raw)?;
    let offset = header.f32(108);
    if !(0.0..=OFFSET_MAX).contains(&offset) {
        return Err(header_error(format!("the voxels start at byte {offset}")));
    }
    let skip = (offset as u64).max(HEADER as u64) - HEADER as u64;
    let skipped = std::io::copy(&mut (&mut source).take(skip), &mut std::io::sink()).map_err(CodecError::Gzip)?;
    if skipped < skip {
        return Err(header_error("it ends before the voxels"));
    }
    let (dimension, size) = header.size()?;
    let claim = Claim { format: "NIfTI", size, pixel: header.pixel()?, big_endian: header.big_endian };
    let geometry = header.geometry(claim.size)?;
    let stored = if gzip { stored } else { stored.saturating_sub(HEADER + skip as usize) };
    let voxels = claim.read(source, stored, gzip)?;
    let (slope, inter) = (f64::from(header.f32(112)), f64::from(header.f32(116)));
    let scaled = slope.is_finite() && inter.is_finite() && slope != 0.0 && (slope != 1.0 || inter != 0.0);
    let voxels = if scaled { Voxels::F64(voxels.to_f64().mapv(|v| v * slope + inter)) } else { voxels };
    checked(geometry, voxels, dimension)
}

struct Header<'a> {
    raw: &'a [u8; HEADER],
    big_endian: bool,
}

impl Header<'_> {
    fn new(raw: &[u8; HEADER]) -> Result<Header<'_>, CodecError> {
        let big_endian = match [raw[0], raw[1], raw[2], raw[3]] {
            [0x5c, 1, 0, 0] => false,
            [0, 0, 1, 0x5c] => true,
            [0x1c, 2, 0, 0] | [0, 0, 2, 0x1c] => {
                return Err(CodecError::Unsupported { format: "NIfTI", what: "version 2".into() });
            }
            _ => return Err(CodecError::UnknownFormat),
        };
        match &raw[344..348] {
            b"n+1\0" => Ok(Header { raw, big_endian }),
            b"ni1\0" => Err(CodecError::Unsupported { format: "NIfTI", what: "its voxels in a second file".into() }),
            _ => Err(CodecError::UnknownFormat),
        }
    }

    fn value<T: Scalar>(&self, at: usize) -> T {
        let bytes = &self.raw[at..at + T::BYTES];
        if self.big_endian { T::from_be(bytes) } else { T::from_le(bytes) }
    }

    fn f32(&self, at: usize) -> f32 {
        self.value(at)
    }

    /// Number of axes and the size along x, y, z.
    fn size(&self) -> Result<(usize, [usize; 3]), CodecError> {
        let dim: [i16; 8] = std::array::from_fn(|i| self.value(40 + 2 * i));
        let n = usize::try_from(dim[0]).ok().filter(|n| (1..=7).contains(n));
        let n = n.ok_or_else(|| header_error(format!("{} dimensions", dim[0])))?;
        if let Some(extra) = (4..=n).find(|i| dim[*i] > 1) {
            let what = format!("{} values along dimension {extra}", dim[extra]);
            return Err(CodecError::Unsupported { format: "NIfTI", what });
        }
        let mut size = [1; 3];
        for a in 0..n.min(3) {
            let length = usize::try_from(dim[a + 1]).ok().filter(|s| *s > 0);
            size[a] = length.ok_or_else(|| header_error(format!("{} voxels along an axis", dim[a + 1])))?;
        }
        Ok((n.clamp(2, 3), size))
    }

    fn pixel(&self) -> Result<PixelType, CodecError> {
        Ok(match self.value::<i16>(70) {
            2 => PixelType::U8,
            4 => PixelType::I16,
            8 => PixelType::I32,
            16 => PixelType::F32,
            64 => PixelType::F64,
            256 => PixelType::I8,
            512 => PixelType::U16,
            768 => PixelType::U32,
            1024 => PixelType::I64,
            1280 => PixelType::U64,
            code => return Err(CodecError::Unsupported { format: "NIfTI", what: format!("datatype {code}") }),
        })
    }

    /// Grid in LPS; the directions are the columns of the affine matrix, at length 1.
    fn geometry(&self, size: [usize; 3]) -> Result<Geometry, CodecError> {
        let pixdim: [f64; 3] = std::array::from_fn(|a| {
            let d = f64::from(self.f32(80 + 4 * a)).abs();
            if d == 0.0 && size[a] == 1 { 1.0 } else { d }
        });
        let (qform, sform): (i16, i16) = (self.value(252), self.value(254));
        let from_s = (sform > 0).then(|| self.sform(size, pixdim));
        let from_q = (qform > 0).then(|| self.qform(size, pixdim));
        Ok(match (from_s, from_q) {
            (Some(s), Some(q)) => {
                if s.check().is_ok() {
                    s
                } else {
                    q
                }
            }
            (Some(s), None) => s,
            (None, Some(q)) => q,
            (None, None) => Geometry { size, spacing_mm: pixdim, origin_mm: [0.0; 3], direction: Geometry::IDENTITY },
        })
    }

    fn sform(&self, size: [usize; 3], pixdim: [f64; 3]) -> Geometry {
        let m: [[f64; 4]; 3] =
            std::array::from_fn(|r| std::array::from_fn(|c| f64::from(self.f32(280 + 16 * r + 4 * c))));
        let norm: [f64; 3] = std::array::from_fn(|a| (0..3).map(|r| m[r][a] * m[r][a]).sum::<f64>().sqrt());
        // pixdim is what ITK reports; a file whose two fields contradict each other is measured by its affine matrix.
        let near = (0..3).all(|a| (norm[a] - pixdim[a]).abs() <= 1e-3 * norm[a]);
        let direction = std::array::from_fn(|r| std::array::from_fn(|a| turn(r, m[r][a] / norm[a])));
        let spacing_mm = if near { pixdim } else { norm };
        Geometry { size, spacing_mm, origin_mm: std::array::from_fn(|r| turn(r, m[r][3])), direction }
    }

    fn qform(&self, size: [usize; 3], spacing_mm: [f64; 3]) -> Geometry {
        let [b, c, d]: [f64; 3] = std::array::from_fn(|i| f64::from(self.f32(256 + 4 * i)));
        let a = (1.0 - (b * b + c * c + d * d)).max(0.0).sqrt();
        let qfac = if self.f32(76) < 0.0 { -1.0 } else { 1.0 };
        let rotation = [
            [a * a + b * b - c * c - d * d, 2.0 * (b * c - a * d), qfac * 2.0 * (b * d + a * c)],
            [2.0 * (b * c + a * d), a * a + c * c - b * b - d * d, qfac * 2.0 * (c * d - a * b)],
            [2.0 * (b * d - a * c), 2.0 * (c * d + a * b), qfac * (a * a + d * d - b * b - c * c)],
        ];
        let direction = std::array::from_fn(|r| std::array::from_fn(|a| turn(r, rotation[r][a])));
        let origin_mm = std::array::from_fn(|r| turn(r, f64::from(self.f32(268 + 4 * r))));
        Geometry { size, spacing_mm, origin_mm, direction }
    }
}

/// RAS to LPS and back: the first two components change sign.
fn turn(row: usize, value: f64) -> f64 {
    if row < 2 { -value } else { value }
}

/// Writes `.nii.gz` of any pixel type (labels as u8, volumes as i16 or f32), with the grid in sform and qform.
/// `voxels` has shape (z, y, x) = [`Geometry::shape_zyx`]; the header holds the grid as f32.
pub fn encode_nifti<T: Scalar>(voxels: ArrayView3<T>, geometry: &Geometry) -> Result<Vec<u8>, CodecError> {
    geometry.check()?;
    if !matches_grid(voxels, geometry) {
        return Err(CodecError::Shape { shape: voxels.dim(), grid: geometry.shape_zyx() });
    }
    encode(&header::<T>(geometry, 1)?, std::iter::once(voxels))
}

/// Encodes several images on one grid as gzipped NIfTI-1 with four axes; `channels`: shape (channels, z, y, x).
pub fn encode_nifti_channels<T: Scalar>(channels: ArrayView4<T>, geometry: &Geometry) -> Result<Vec<u8>, CodecError> {
    geometry.check()?;
    let n = channels.len_of(Axis(0));
    if n == 0 || !matches_grid(channels.index_axis(Axis(0), 0), geometry) {
        let (_, z, y, x) = channels.dim();
        return Err(CodecError::Shape { shape: (z, y, x), grid: geometry.shape_zyx() });
    }
    encode(&header::<T>(geometry, n)?, channels.outer_iter())
}

fn encode<'a, T: Scalar>(
    header: &[u8],
    images: impl Iterator<Item = ArrayView3<'a, T>>,
) -> Result<Vec<u8>, CodecError> {
    let mut out = GzEncoder::new(Vec::new(), Compression::new(3));
    out.write_all(header).map_err(CodecError::Gzip)?;
    let mut buffer = Vec::new();
    for image in images {
        for row in image.rows() {
            buffer.clear();
            row.iter().for_each(|v| v.put_le(&mut buffer));
            out.write_all(&buffer).map_err(CodecError::Gzip)?;
        }
    }
    out.finish().map_err(CodecError::Gzip)
}

fn header<T: Scalar>(g: &Geometry, n_channels: usize) -> Result<[u8; 352], CodecError> {
    let mut h = [0u8; 352];
    let mut put = |at: usize, bytes: &[u8]| h[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &348i32.to_le_bytes());
    put(38, b"r");
    let n_axes = if n_channels == 1 { 3 } else { 4 };
    for (i, n) in [n_axes, g.size[0], g.size[1], g.size[2], n_channels, 1, 1, 1].into_iter().enumerate() {
        let n = i16::try_from(n).map_err(|_| CodecError::TooLarge { claimed: n as u64, limit: i16::MAX as u64 })?;
        put(40 + 2 * i, &n.to_le_bytes());
    }
    put(70, &T::NIFTI.to_le_bytes());
    put(72, &(8 * T::BYTES as i16).to_le_bytes());
    let ras: [[f64; 3]; 3] = std::array::from_fn(|r| std::array::from_fn(|a| turn(r, g.direction[r][a])));
    let (qfac, quaternion) = quaternion(ras);
    for (i, v) in [qfac, g.spacing_mm[0], g.spacing_mm[1], g.spacing_mm[2]].into_iter().enumerate() {
        put(76 + 4 * i, &(v as f32).to_le_bytes());
    }
    for (at, v) in [(108, 352.0f32), (112, 1.0), (116, 0.0)] {
        put(at, &v.to_le_bytes());
    }
    put(123, &[2]); // millimeters
    put(252, &1i16.to_le_bytes());
    put(254, &1i16.to_le_bytes());
    for r in 0..3 {
        put(256 + 4 * r, &(quaternion[r] as f32).to_le_bytes());
        put(268 + 4 * r, &(turn(r, g.origin_mm[r]) as f32).to_le_bytes());
        for (a, v) in ras[r].iter().enumerate() {
            put(280 + 16 * r + 4 * a, &((v * g.spacing_mm[a]) as f32).to_le_bytes());
        }
        put(292 + 16 * r, &(turn(r, g.origin_mm[r]) as f32).to_le_bytes());
    }
    put(344, b"n+1\0");
    Ok(h)
}

/// Quaternion (b, c, d) of a rotation, and the sign that makes a left-handed matrix one (NIfTI-1, method 2).
fn quaternion(mut r: [[f64; 3]; 3]) -> (f64, [f64; 3]) {
    let det = r[0][0] * (r[1][1] * r[2][2] - r[2][1] * r[1][2]) - r[1][0] * (r[0][1] * r[2][2] - r[2][1] * r[0][2])
        + r[2][0] * (r[0][1] * r[1][2] - r[1][1] * r[0][2]);
    let qfac = if det < 0.0 { -1.0 } else { 1.0 };
    r.iter_mut().for_each(|row| row[2] *= qfac);
    // The four ways to the same quaternion; the largest of its components is the safe one to divide by.
    let squares = [
        1.0 + r[0][0] + r[1][1] + r[2][2],
        1.0 + r[0][0] - r[1][1] - r[2][2],
        1.0 - r[0][0] + r[1][1] - r[2][2],
        1.0 - r[0][0] - r[1][1] + r[2][2],
    ];
    let largest = (0..4).fold(0, |best, i| if squares[i] > squares[best] { i } else { best });
    let s = 2.0 * squares[largest].max(0.0).sqrt();
    let q = match largest {
        0 => [s / 4.0, (r[2][1] - r[1][2]) / s, (r[0][2] - r[2][0]) / s, (r[1][0] - r[0][1]) / s],
        1 => [(r[2][1] - r[1][2]) / s, s / 4.0, (r[0][1] + r[1][0]) / s, (r[0][2] + r[2][0]) / s],
        2 => [(r[0][2] - r[2][0]) / s, (r[0][1] + r[1][0]) / s, s / 4.0, (r[1][2] + r[2][1]) / s],
        _ => [(r[1][0] - r[0][1]) / s, (r[0][2] + r[2][0]) / s, (r[1][2] + r[2][1]) / s, s / 4.0],
    };
    let sign = if q[0] < 0.0 { -1.0 } else { 1.0 };
    (qfac, [sign * q[1], sign * q[2], sign * q[3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    fn oblique() -> Geometry {
        let (c, s) = (0.8, 0.6);
        Geometry {
            size: [4, 3, 2],
            spacing_mm: [0.5, 2.0, 5.0],
            origin_mm: [-10.0, 20.0, 30.5],
            direction: [[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, -1.0]],
        }
    }

    fn near(a: &Geometry, b: &Geometry) {
        let flat = |g: &Geometry| [g.spacing_mm.to_vec(), g.origin_mm.to_vec(), g.direction.concat()].concat();
        for (a, b) in flat(a).iter().zip(flat(b)) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let values = Array3::from_shape_fn((2, 3, 4), |(z, y, x)| (x + 10 * y + 100 * z) as i16 - 50);
        let image = decode_nifti(&encode_nifti(values.view(), &oblique()).unwrap()).unwrap();
        assert_eq!(image.voxels, Voxels::I16(values));
        near(&image.geometry, &oblique());
    }

    #[test]
    fn the_qform_says_the_same_as_the_sform() {
        let bytes = encode_nifti(Array3::<u8>::zeros((2, 3, 4)).view(), &oblique()).unwrap();
        let mut plain = Vec::new();
        MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
        plain[254] = 0; // sform_code
        near(&decode_nifti(&plain).unwrap().geometry, &oblique());
    }

    #[test]
    fn slope_and_intercept_give_f64() {
        let bytes = encode_nifti(Array3::from_elem((2, 3, 4), 3u8).view(), &oblique()).unwrap();
        let mut plain = Vec::new();
        MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
        plain[112..116].copy_from_slice(&2.0f32.to_le_bytes());
        plain[116..120].copy_from_slice(&(-1024.0f32).to_le_bytes());
        assert_eq!(decode_nifti(&plain).unwrap().voxels, Voxels::F64(Array3::from_elem((2, 3, 4), -1018.0)));
    }

    #[test]
    fn truncations_and_mutations_are_errors_and_never_panics() {
        let bytes = encode_nifti(Array3::<i16>::zeros((2, 3, 4)).view(), &oblique()).unwrap();
        let mut plain = Vec::new();
        MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
        for n in 0..plain.len() {
            assert!(decode_nifti(&plain[..n]).is_err());
        }
        let whole = decode_nifti(&bytes).unwrap();
        for n in 0..bytes.len() - 8 {
            // A decoder may have all voxels before it has seen the last bits.
            let last_bits = n + 12 >= bytes.len();
            assert!(decode_nifti(&bytes[..n]).map_or(true, |image| last_bits && image == whole), "{n}");
        }
        let mut damaged = bytes.clone();
        let crc = damaged.len() - 8;
        damaged[crc] ^= 1;
        assert!(matches!(decode_nifti(&damaged), Err(CodecError::Gzip(_))), "a checksum that does not match");
        assert!(decode_nifti(&[&bytes[..], &[0; 9]].concat()).is_ok(), "padding after the member");
        for at in 0..352 {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut damaged = plain.clone();
                damaged[at] = value;
                let _ = decode_nifti(&damaged);
            }
        }
    }

    #[test]
    fn a_header_that_claims_the_world_is_refused_before_memory_is() {
        let mut plain = header::<f64>(&oblique(), 1).unwrap().to_vec();
        for at in [42, 44, 46] {
            plain[at..at + 2].copy_from_slice(&1200i16.to_le_bytes());
        }
        assert!(matches!(decode_nifti(&plain), Err(CodecError::Truncated { .. })));
        let mut gz = GzEncoder::new(Vec::new(), Compression::best());
        gz.write_all(&plain).unwrap();
        assert!(matches!(decode_nifti(&gz.finish().unwrap()), Err(CodecError::TooLarge { .. })));
        plain[42..44].copy_from_slice(&i16::MAX.to_le_bytes());
        assert!(matches!(decode_nifti(&plain), Err(CodecError::TooLarge { .. })));
    }

    #[test]
    fn time_series_are_refused_by_name() {
        let mut plain = header::<u8>(&oblique(), 1).unwrap().to_vec();
        plain[40] = 4;
        plain[48] = 7;
        let error = decode_nifti(&plain).unwrap_err();
        assert!(error.to_string().contains("7 values along dimension 4"), "{error}");
    }
}
