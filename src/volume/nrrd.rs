//! NRRD with attached voxels, raw or gzip (<https://teem.sourceforge.net/nrrd/format.html>), read as ITK does.

use super::codec::{Claim, CodecError, PixelType, checked};
use super::{Geometry, Image, Scalar, for_voxels};
use flate2::read::MultiGzDecoder;
use flate2::{Compression, write::GzEncoder};
use ndarray::s;
use std::io::Write;

/// Headers longer than this are refused.
const HEADER_MAX: usize = 1 << 16;

fn header_error(what: impl Into<String>) -> CodecError {
    CodecError::Header { format: "NRRD", what: what.into() }
}

fn unsupported(what: impl Into<String>) -> CodecError {
    CodecError::Unsupported { format: "NRRD", what: what.into() }
}

/// Reads a `.nrrd` file. Vector images, more than three dimensions and detached voxels are refused.
pub fn decode_nrrd(bytes: &[u8]) -> Result<Image, CodecError> {
    read(bytes, None)
}

/// Reads one channel of a `.nrrd` file whose first axis are the channels (3D Slicer's overlapping segments); a file without
/// such an axis has one channel, whichever is asked for.
pub(super) fn decode_channel(bytes: &[u8], channel: usize) -> Result<Image, CodecError> {
    read(bytes, Some(channel))
}

fn read(bytes: &[u8], channel: Option<usize>) -> Result<Image, CodecError> {
    let (text, data) = split(bytes)?;
    let fields = Fields::new(text)?;
    let axes: usize = fields.number("dimension")?;
    let mut kinds: Vec<String> =
        fields.get("kinds").map(|k| k.split_whitespace().map(str::to_lowercase).collect()).unwrap_or_default();
    let is_vector = channel.is_some() && kinds.first().is_some_and(|k| ["vector", "list"].contains(&k.as_str()));
    let dimension = if is_vector { axes.saturating_sub(1) } else { axes };
    if !(2..=3).contains(&dimension) {
        return Err(unsupported(format!("{axes} dimensions")));
    }
    kinds.drain(..usize::from(is_vector));
    let scalar = ["domain", "space", "time", "none", "???"];
    if let Some(kind) = kinds.iter().find(|k| !scalar.contains(&k.as_str())) {
        return Err(unsupported(format!("an axis of kind {kind}")));
    }
    for field in ["line skip", "lineskip", "byte skip", "byteskip"] {
        if fields.get(field).is_some_and(|v| v.trim() != "0") {
            return Err(unsupported(format!("a {field}")));
        }
    }
    if fields.get("data file").or(fields.get("datafile")).is_some() {
        return Err(unsupported("its voxels in a second file"));
    }
    let (channels, size) = size(&fields, dimension, is_vector)?;
    // The channels of a voxel lie side by side, as a row that is so many times longer.
    let stored = [size[0].saturating_mul(channels), size[1], size[2]];
    let claim = Claim { format: "NRRD", size: stored, pixel: pixel(&fields)?, big_endian: big(&fields)? };
    let geometry = geometry(&fields, dimension, size)?;
    let voxels = match fields.required("encoding")?.to_lowercase().as_str() {
        "raw" => claim.read(data, data.len(), false)?,
        "gzip" | "gz" => claim.read(MultiGzDecoder::new(data), data.len(), true)?,
        other => return Err(unsupported(format!("encoding {other}"))),
    };
    match channel.filter(|_| is_vector) {
        Some(asked) if asked >= channels => Err(CodecError::Channel { asked, present: channels }),
        Some(asked) => {
            let one = for_voxels!(&voxels, a => Scalar::voxels(a.slice(s![.., .., asked..;channels]).to_owned()));
            checked(geometry, one, dimension)
        }
        None => checked(geometry, voxels, dimension),
    }
}

/// Writes a `.nrrd` file in the image's pixel type, gzip, in the space that ITK writes (left-posterior-superior).
pub fn encode_nrrd(image: &Image) -> Result<Vec<u8>, CodecError> {
    use super::Voxels::{F32, F64, I8, I16, I32, U8, U16, U32};
    let g = &image.geometry;
    g.check()?;
    if image.voxels.dim() != g.shape_zyx() {
        return Err(CodecError::Shape { shape: image.voxels.dim(), grid: g.shape_zyx() });
    }
    let pixel = match &image.voxels {
        U8(_) => "unsigned char",
        I8(_) => "signed char",
        U16(_) => "unsigned short",
        I16(_) => "short",
        U32(_) => "unsigned int",
        I32(_) => "int",
        F32(_) => "float",
        F64(_) => "double",
    };
    let n = image.dimension;
    let join = |parts: &mut dyn Iterator<Item = String>, by: &str| parts.collect::<Vec<_>>().join(by);
    let vector = |v: [f64; 3]| format!("({})", join(&mut v[..n].iter().map(f64::to_string), ","));
    let axis = |a: usize| vector(std::array::from_fn(|r| g.direction[r][a] * g.spacing_mm[a]));
    // A plane has no anatomical space, only two dimensions.
    let space = if n == 2 { "space dimension: 2" } else { "space: left-posterior-superior" };
    let mut out = format!(
        "NRRD0004\n# http://teem.sourceforge.net/nrrd/format.html\ntype: {pixel}\ndimension: {n}\n\
         {space}\nsizes: {}\nspace directions: {}\nkinds:{}\nendian: little\nencoding: gzip\nspace origin: {}\n\n",
        join(&mut g.size[..n].iter().map(usize::to_string), " "),
        join(&mut (0..n).map(axis), " "),
        " domain".repeat(n),
        vector(g.origin_mm)
    )
    .into_bytes();
    let mut packed = GzEncoder::new(&mut out, Compression::new(3));
    let mut written = Ok(());
    image.voxels.for_bytes(|bytes| {
        if written.is_ok() {
            written = packed.write_all(bytes);
        }
    });
    written.and_then(|()| packed.finish().map(drop)).map_err(CodecError::Gzip)?;
    Ok(out)
}

/// Header text and the bytes after the empty line.
fn split(bytes: &[u8]) -> Result<(&str, &[u8]), CodecError> {
    if !bytes.starts_with(b"NRRD") {
        return Err(CodecError::UnknownFormat);
    }
    let head = &bytes[..bytes.len().min(HEADER_MAX)];
    let mut start = 0;
    while let Some(n) = head[start..].iter().position(|b| *b == b'\n') {
        if matches!(&head[start..start + n], b"" | b"\r") {
            let text = std::str::from_utf8(&head[..start]).map_err(|_| header_error("it is not text"))?;
            return Ok((text, &bytes[start + n + 1..]));
        }
        start += n + 1;
    }
    Err(header_error("no empty line ends it"))
}

struct Fields<'a>(Vec<(String, &'a str)>);

impl<'a> Fields<'a> {
    fn new(text: &'a str) -> Result<Fields<'a>, CodecError> {
        let mut fields = Vec::new();
        for line in text.lines().skip(1) {
            if line.starts_with('#') || line.contains(":=") {
                continue; // comments and key/value pairs
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| header_error("a line is neither field nor comment"))?;
            fields.push((name.trim().to_lowercase(), value.trim()));
        }
        Ok(Fields(fields))
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| *v)
    }

    fn required(&self, name: &str) -> Result<&'a str, CodecError> {
        self.get(name).ok_or_else(|| header_error(format!("the field {name} is missing")))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, CodecError> {
        self.required(name)?.parse().map_err(|_| header_error(format!("the field {name} is not a number")))
    }
}

fn numbers<T: std::str::FromStr>(text: &str, name: &str) -> Result<Vec<T>, CodecError> {
    text.split_whitespace()
        .map(|n| n.parse().map_err(|_| header_error(format!("{name}: {n} is not a number"))))
        .collect()
}

/// Number of channels, and size along x, y, z.
fn size(fields: &Fields, dimension: usize, is_vector: bool) -> Result<(usize, [usize; 3]), CodecError> {
    let mut sizes: Vec<usize> = numbers(fields.required("sizes")?, "sizes")?;
    let channels = if is_vector && !sizes.is_empty() { sizes.remove(0) } else { 1 };
    if sizes.len() != dimension {
        return Err(header_error(format!("{} sizes for {dimension} dimensions", sizes.len())));
    }
    Ok((channels, std::array::from_fn(|a| sizes.get(a).copied().unwrap_or(1))))
}

fn pixel(fields: &Fields) -> Result<PixelType, CodecError> {
    Ok(match fields.required("type")?.to_lowercase().as_str() {
        "signed char" | "int8" | "int8_t" => PixelType::I8,
        "uchar" | "unsigned char" | "uint8" | "uint8_t" => PixelType::U8,
        "short" | "short int" | "signed short" | "signed short int" | "int16" | "int16_t" => PixelType::I16,
        "ushort" | "unsigned short" | "unsigned short int" | "uint16" | "uint16_t" => PixelType::U16,
        "int" | "signed int" | "int32" | "int32_t" => PixelType::I32,
        "uint" | "unsigned int" | "uint32" | "uint32_t" => PixelType::U32,
        "longlong"
        | "long long"
        | "long long int"
        | "signed long long"
        | "signed long long int"
        | "int64"
        | "int64_t" => PixelType::I64,
        "ulonglong" | "unsigned long long" | "unsigned long long int" | "uint64" | "uint64_t" => PixelType::U64,
        "float" => PixelType::F32,
        "double" => PixelType::F64,
        other => return Err(unsupported(format!("the type {other}"))),
    })
}

fn big(fields: &Fields) -> Result<bool, CodecError> {
    match fields.get("endian").map(str::to_lowercase).as_deref() {
        None | Some("little") => Ok(false),
        Some("big") => Ok(true),
        Some(other) => Err(header_error(format!("endian {other}"))),
    }
}

/// Vectors such as `(1,0,0)`; `none` is refused, for it marks an axis that is not in space.
fn vectors(text: &str, name: &str) -> Result<Vec<Vec<f64>>, CodecError> {
    let mut found = Vec::new();
    for part in text.split(')').map(str::trim).filter(|p| !p.is_empty()) {
        let inner = part.strip_prefix('(').ok_or_else(|| header_error(format!("{name}: {part} is not a vector")))?;
        found.push(numbers(&inner.replace(',', " "), name)?);
    }
    Ok(found)
}

fn geometry(fields: &Fields, dimension: usize, size: [usize; 3]) -> Result<Geometry, CodecError> {
    let mut g = Geometry { size, spacing_mm: [1.0; 3], origin_mm: [0.0; 3], direction: Geometry::IDENTITY };
    let Some(directions) = fields.get("space directions") else {
        if let Some(text) = fields.get("spacings") {
            let spacings: Vec<f64> = numbers(text, "spacings")?;
            (0..dimension.min(spacings.len())).for_each(|a| g.spacing_mm[a] = spacings[a]);
        }
        return Ok(g);
    };
    let turn = match fields.get("space").map(str::to_lowercase).as_deref() {
        Some("left-posterior-superior" | "lps") => [1.0, 1.0, 1.0],
        Some("right-anterior-superior" | "ras") => [-1.0, -1.0, 1.0],
        Some("left-anterior-superior" | "las") => [1.0, -1.0, 1.0],
        None => [1.0, 1.0, 1.0],
        Some(other) => return Err(unsupported(format!("the space {other}"))),
    };
    // An axis of channels comes first and has no direction.
    let directions = directions.trim_start();
    let axes = vectors(directions.strip_prefix("none").unwrap_or(directions), "space directions")?;
    if axes.len() != dimension || axes.iter().any(|v| v.len() != dimension) {
        return Err(header_error(format!("space directions are not {dimension} vectors of {dimension}")));
    }
    for (a, axis) in axes.iter().enumerate() {
        g.spacing_mm[a] = axis.iter().map(|v| v * v).sum::<f64>().sqrt();
        for (row, v) in axis.iter().enumerate() {
            g.direction[row][a] = turn[row] * (v * (1.0 / g.spacing_mm[a]));
        }
    }
    if let Some(text) = fields.get("space origin") {
        let origin = vectors(text, "space origin")?;
        let origin = origin.first().filter(|o| o.len() == dimension);
        let origin = origin.ok_or_else(|| header_error(format!("space origin is not a vector of {dimension}")))?;
        origin.iter().enumerate().for_each(|(row, v)| g.origin_mm[row] = turn[row] * v);
    }
    Ok(g)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Voxels;

    fn file(changes: &[(&str, &str)]) -> Vec<u8> {
        let mut head =
            "NRRD0004\n# made for a test\ntype: short\ndimension: 3\nspace: right-anterior-superior\nsizes: 3 2 1\n\
            space directions: (0.5,0,0) (0,2,0) (0,0,3)\nkinds: domain domain domain\nendian: big\nencoding: raw\n\
            space origin: (1,2,3)\n\n"
                .to_string();
        for (from, to) in changes {
            assert!(head.contains(from));
            head = head.replace(from, to);
        }
        let mut bytes = head.into_bytes();
        (1i16..=6).for_each(|v| bytes.extend_from_slice(&v.to_be_bytes()));
        bytes
    }

    #[test]
    fn right_anterior_superior_turns_to_lps() {
        let image = decode_nrrd(&file(&[])).unwrap();
        assert_eq!(image.voxels, Voxels::I16(ndarray::arr3(&[[[1, 2, 3], [4, 5, 6]]])));
        assert_eq!(image.geometry.origin_mm, [-1.0, -2.0, 3.0]);
        assert_eq!(image.geometry.spacing_mm, [0.5, 2.0, 3.0]);
        assert_eq!(image.geometry.direction, [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]]);
    }

    #[test]
    fn a_channel_is_read_alone() {
        let vector = file(&[
            ("dimension: 3", "dimension: 4"),
            ("sizes: 3 2 1", "sizes: 3 1 2 1"),
            ("(0.5,0,0) (", "none (0.5,0,0) ("),
            ("kinds: domain", "kinds: vector domain"),
        ]);
        let image = decode_channel(&vector, 1).unwrap();
        assert_eq!(image.voxels, Voxels::I16(ndarray::arr3(&[[[2], [5]]])));
        assert_eq!(image.geometry.spacing_mm, [0.5, 2.0, 3.0]);
        assert!(decode_channel(&vector, 3).unwrap_err().to_string().contains("only 3"));
        assert!(decode_nrrd(&vector).is_err());
        assert_eq!(decode_channel(&file(&[]), 7).unwrap().voxels, decode_nrrd(&file(&[])).unwrap().voxels);
    }

    #[test]
    fn truncations_and_mutations_are_errors_and_never_panics() {
        let bytes = file(&[]);
        for n in 0..bytes.len() {
            assert!(decode_nrrd(&bytes[..n]).is_err());
        }
        for at in 0..bytes.len() {
            for value in [0, b'\n', b'9', b'-', 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                let _ = decode_nrrd(&damaged);
            }
        }
    }

    #[test]
    fn what_is_not_read_is_refused_by_name() {
        let said = |changes: &[(&str, &str)]| decode_nrrd(&file(changes)).unwrap_err().to_string();
        assert!(said(&[("dimension: 3", "dimension: 4")]).contains("4 dimensions"));
        assert!(said(&[("kinds: domain", "kinds: vector")]).contains("vector"));
        assert!(said(&[("encoding: raw", "encoding: bzip2")]).contains("bzip2"));
        assert!(said(&[("endian: big", "endian: big\ndata file: a.raw")]).contains("second file"));
        assert!(said(&[("sizes: 3 2 1", "sizes: 99999 99999 99999")]).contains("more than"));
        assert!(said(&[("(0,2,0)", "(0,0,3)")]).contains("grid"));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let voxels = ndarray::Array3::from_shape_fn((2, 3, 4), |(z, y, x)| z as f64 * 0.1 + y as f64 - x as f64 / 3.0);
        let geometry = Geometry {
            size: [4, 3, 2],
            spacing_mm: [0.800000011920929, 0.9, 2.5],
            origin_mm: [-12.5, 1e-7, 3.25],
            direction: [[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]],
        };
        let image = Image { geometry, voxels: crate::volume::Voxels::F64(voxels), dimension: 3 };
        assert_eq!(decode_nrrd(&encode_nrrd(&image).unwrap()).unwrap(), image);
        let mut plane = image;
        plane.voxels = Voxels::U8(ndarray::Array3::from_shape_fn((1, 3, 4), |(_, y, x)| (y * 4 + x) as u8));
        plane.geometry.size[2] = 1;
        plane.geometry.spacing_mm[2] = 1.0;
        plane.geometry.origin_mm[2] = 0.0;
        plane.dimension = 2;
        let bytes = encode_nrrd(&plane).unwrap();
        assert!(bytes.windows(13).any(|w| w == b"dimension: 2\n"));
        assert_eq!(decode_nrrd(&bytes).unwrap(), plane);
    }
}
