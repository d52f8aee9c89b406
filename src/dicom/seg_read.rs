//! Masks from DICOM Segmentations (PS3.3 A.51, C.8.20, C.7.6.16), of this box or of others, on the voxels of an image.

use super::items::{Item, read_items};
use super::pixels::decode_frame;
use super::rtstruct::{check_frame_of_reference, check_grid, check_steps};
use super::walker::PixelSpan;
use super::{Identifier, MaskError, Object, PixelFormat, parse_object, rle, sop_class, syntax};
use crate::volume::Geometry;
use dicom_dictionary_std::tags;
use ndarray::Array3;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Read;

/// One segment of a segmentation.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Segment Number.
    pub number: u16,
    /// Segment Label.
    pub label: String,
    /// Its voxels: shape (z, y, x) of the grid. Segments may overlap; one without frames is empty.
    pub mask: Array3<bool>,
}

/// Reads the segments of a Segmentation (Part 10 file) onto the grid of an image, in the order of its Segment Sequence.
///
/// BINARY as it is; FRACTIONAL from half of the maximum on; LABELMAP without its background (segment 0, Pixel Padding Value).
/// Frames are placed by their position and orientation, whatever their order; they may be turned by right angles, mirrored or
/// smaller than the image, but each pixel has to be a voxel (within a quarter of one).
///
/// `frame_of_reference_uid` is that of the image; `None` or empty (NIfTI knows none) is not compared.
pub fn read_seg(
    bytes: &[u8],
    grid: &Geometry,
    frame_of_reference_uid: Option<&Identifier>,
) -> Result<Vec<Segment>, MaskError> {
    let object = parse_object(bytes)?;
    let header = &object.header;
    if ![sop_class::SEGMENTATION, sop_class::LABEL_MAP_SEGMENTATION].contains(&header.sop_class_uid.as_str()) {
        return Err(MaskError::NotSegmentation);
    }
    check_grid(grid, 1)?;
    check_frame_of_reference(&header.frame_of_reference_uid, frame_of_reference_uid)?;
    let root = read_items(&object.data_set, &header.transfer_syntax)?;
    let kind = Kind::of(&root, &object)?;
    let frames = frames(&root, &object, kind)?;
    let places: Vec<Place> =
        frames.iter().enumerate().map(|(index, frame)| place(index, frame, grid, &object)).collect::<Result<_, _>>()?;
    check_distances(&places, &frames, grid)?;
    let mut segments = described(&root, kind, grid)?;
    let mut index_of = vec![None; usize::from(u16::MAX) + 1];
    segments.iter().enumerate().for_each(|(index, segment)| index_of[usize::from(segment.number)] = Some(index));
    let (mut outside, mut all) = (0, 0);
    for (index, (frame, place)) in frames.iter().zip(&places).enumerate() {
        let columns = usize::from(header.pixels.columns);
        let numbers = segment_numbers(&object, kind, index, frame.segment)?;
        for (pixel, number) in numbers.iter().enumerate().filter(|(_, number)| !kind.is_background(**number)) {
            let segment = index_of[usize::from(*number)];
            let segment = segment.ok_or(MaskError::UnknownSegment { frame: index + 1, number: *number })?;
            all += 1;
            match place.voxel(pixel % columns, pixel / columns, grid).and_then(|v| segments[segment].mask.get_mut(v)) {
                Some(voxel) => *voxel = true,
                None => outside += 1,
            }
        }
    }
    if outside > 0 {
        return Err(MaskError::Outside { outside, all, what: "pixels of the segments" });
    }
    Ok(segments)
}

/// What the pixels mean.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// One segment a frame, one bit a pixel.
    Binary,
    /// One segment a frame; `maximum` is certainty or the whole pixel.
    Fractional { maximum: u16 },
    /// The pixel is the segment's number.
    LabelMap { padding: Option<u16> },
}

impl Kind {
    fn of(root: &Item<'_>, object: &Object<'_>) -> Result<Self, MaskError> {
        let format = &object.header.pixels;
        let name = root.text(tags::SEGMENTATION_TYPE);
        let kind = match (name.as_str(), format.bits_allocated) {
            ("BINARY", 1) => Self::Binary,
            ("FRACTIONAL", 8) => {
                Self::Fractional { maximum: root.u16(tags::MAXIMUM_FRACTIONAL_VALUE).unwrap_or(255).max(1) }
            }
            ("LABELMAP", 8 | 16) => Self::LabelMap { padding: root.u16(tags::PIXEL_PADDING_VALUE) },
            (name, bits) => {
                let name: String = name.chars().filter(char::is_ascii_uppercase).take(16).collect();
                return Err(MaskError::PixelFormat(format!("of type {name} with {bits} bits a pixel")));
            }
        };
        if format.samples != 1 || format.rows == 0 || format.columns == 0 {
            return Err(MaskError::PixelFormat("of several samples a pixel or without rows or columns".into()));
        }
        let native = [syntax::EXPLICIT_LE, syntax::IMPLICIT_LE, syntax::DEFLATED, syntax::DEFLATED_FRAMES];
        let transfer_syntax = object.header.transfer_syntax.as_str();
        if !native.contains(&transfer_syntax) && !syntax::ACCEPTED.contains(&transfer_syntax) {
            return Err(MaskError::Codec(transfer_syntax.chars().filter(char::is_ascii_graphic).take(64).collect()));
        }
        Ok(kind)
    }

    fn is_background(self, number: u16) -> bool {
        match self {
            Self::Binary | Self::Fractional { .. } => number == 0,
            Self::LabelMap { padding } => number == 0 || padding == Some(number),
        }
    }
}

/// The segments that are described, with empty masks.
fn described(root: &Item<'_>, kind: Kind, grid: &Geometry) -> Result<Vec<Segment>, MaskError> {
    let charset = root.charset();
    let named = root.items(tags::SEGMENT_SEQUENCE).iter().filter_map(|item| {
        let number = item.u16(tags::SEGMENT_NUMBER)?;
        (!kind.is_background(number)).then(|| (number, item.text_in(tags::SEGMENT_LABEL, &charset)))
    });
    let named: Vec<(u16, String)> = named.collect();
    if named.is_empty() {
        return Err(MaskError::Empty);
    }
    check_grid(grid, named.len())?;
    let empty = |(number, label)| Segment { number, label, mask: Array3::from_elem(grid.shape_zyx(), false) };
    Ok(named.into_iter().map(empty).collect())
}

/// Where one frame lies in the patient and what it shows.
struct Frame {
    /// The segment of a BINARY or FRACTIONAL frame.
    segment: u16,
    position_mm: [f64; 3],
    row_cosines: [f64; 3],
    column_cosines: [f64; 3],
    /// (between rows, between columns), mm.
    pixel_spacing_mm: [f64; 2],
    slice_distance_mm: Option<f64>,
}

fn frames(root: &Item<'_>, object: &Object<'_>, kind: Kind) -> Result<Vec<Frame>, MaskError> {
    let frames = object.header.pixels.frames as usize;
    let own = root.items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
    let shared = root.items(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE).first();
    if own.len() != frames && (frames, own.len()) != (1, 0) {
        return Err(MaskError::FrameCount { frames, described: own.len() });
    }
    (0..frames).map(|index| frame(index, own.get(index), shared, kind)).collect()
}

/// A frame's functional groups: its own come before those that all share.
fn frame(index: usize, own: Option<&Item<'_>>, shared: Option<&Item<'_>>, kind: Kind) -> Result<Frame, MaskError> {
    let group = |tag| [own, shared].into_iter().flatten().find_map(|groups| groups.items(tag).first());
    let lies = || {
        let measures = group(tags::PIXEL_MEASURES_SEQUENCE)?;
        let [a, b, c, d, e, f] = group(tags::PLANE_ORIENTATION_SEQUENCE)?.numbers_n(tags::IMAGE_ORIENTATION_PATIENT)?;
        Some(Frame {
            segment: 0,
            position_mm: group(tags::PLANE_POSITION_SEQUENCE)?.numbers_n(tags::IMAGE_POSITION_PATIENT)?,
            row_cosines: [a, b, c],
            column_cosines: [d, e, f],
            pixel_spacing_mm: measures.numbers_n(tags::PIXEL_SPACING)?,
            slice_distance_mm: measures.numbers_n::<1>(tags::SPACING_BETWEEN_SLICES).map(|[mm]| mm),
        })
    };
    let frame = lies().ok_or(MaskError::NoPosition { frame: index + 1 })?;
    if matches!(kind, Kind::LabelMap { .. }) {
        return Ok(frame);
    }
    let segment = group(tags::SEGMENT_IDENTIFICATION_SEQUENCE).and_then(|g| g.u16(tags::REFERENCED_SEGMENT_NUMBER));
    match segment {
        Some(segment) if segment > 0 => Ok(Frame { segment, ..frame }),
        _ => Err(MaskError::UnknownSegment { frame: index + 1, number: 0 }),
    }
}

/// Pixels may lie this far from voxel centers, in voxels.
const BESIDE_VOXELS: f64 = 0.25;

/// Voxel indices (x, y, z) of a frame: those of its first pixel, and the steps to the next column and row.
struct Place {
    first: [i64; 3],
    across: [i64; 3],
    down: [i64; 3],
}

impl Place {
    /// Array index (z, y, x) of a pixel, if it lies on the grid.
    fn voxel(&self, column: usize, row: usize, grid: &Geometry) -> Option<(usize, usize, usize)> {
        let along = |axis: usize| {
            let index = self.first[axis] + column as i64 * self.across[axis] + row as i64 * self.down[axis];
            usize::try_from(index).ok().filter(|index| *index < grid.size[axis])
        };
        Some((along(2)?, along(1)?, along(0)?))
    }

    /// The voxel axis that the frame's plane does not run along.
    fn normal(&self) -> usize {
        (0..3).find(|axis| self.across[*axis] == 0 && self.down[*axis] == 0).unwrap_or(2)
    }
}

fn place(index: usize, frame: &Frame, grid: &Geometry, object: &Object<'_>) -> Result<Place, MaskError> {
    let first = grid.index_of(frame.position_mm);
    let step = |cosines: [f64; 3], mm: f64| {
        let next = grid.index_of(std::array::from_fn(|i| frame.position_mm[i] + cosines[i] * mm));
        [next[0] - first[0], next[1] - first[1], next[2] - first[2]]
    };
    let across = step(frame.row_cosines, frame.pixel_spacing_mm[1]);
    let down = step(frame.column_cosines, frame.pixel_spacing_mm[0]);
    // Far outside any grid is far enough: the sums of indices must not overflow.
    let whole = |v: [f64; 3]| v.map(|v| v.round().clamp(-1e12, 1e12));
    let (whole_first, whole_across, whole_down) = (whole(first), whole(across), whole(down));
    let one_axis = |v: [f64; 3]| v.iter().map(|v| v.abs()).sum::<f64>() == 1.0;
    let regular =
        one_axis(whole_across) && one_axis(whole_down) && (0..3).all(|a| whole_across[a] * whole_down[a] == 0.0);
    let (rows, columns) = (f64::from(object.header.pixels.rows), f64::from(object.header.pixels.columns));
    let off = |column: f64, row: f64| {
        let off = |a: usize| {
            first[a] - whole_first[a] + column * (across[a] - whole_across[a]) + row * (down[a] - whole_down[a])
        };
        [off(0), off(1), off(2)]
    };
    let corners = [(0.0, 0.0), (columns - 1.0, 0.0), (0.0, rows - 1.0), (columns - 1.0, rows - 1.0)];
    if !regular || !corners.iter().all(|(c, r)| off(*c, *r).iter().all(|off| off.abs() <= BESIDE_VOXELS)) {
        let how = how_it_differs(frame, grid, across, down, off(0.0, 0.0));
        return Err(MaskError::FrameGrid { frame: index + 1, how });
    }
    let whole = |v: [f64; 3]| v.map(|v| v as i64);
    Ok(Place { first: whole(whole_first), across: whole(whole_across), down: whole(whole_down) })
}

/// What keeps a frame's pixels from being voxels, in words: its directions, else its pixel spacing, else its position.
fn how_it_differs(frame: &Frame, grid: &Geometry, across: [f64; 3], down: [f64; 3], off: [f64; 3]) -> String {
    let in_mm = |v: [f64; 3]| -> [f64; 3] { std::array::from_fn(|a| (v[a] * grid.spacing_mm[a]).abs()) };
    let longest = |v: [f64; 3]| (0..3).max_by(|a, b| v[*a].total_cmp(&v[*b])).unwrap_or(0);
    let (across_mm, down_mm) = (in_mm(across), in_mm(down));
    let (x, y) = (longest(across_mm), longest(down_mm));
    let cosine = |v: [f64; 3], axis: usize| v[axis] / v.iter().map(|v| v * v).sum::<f64>().sqrt();
    // 0.9995 is the cosine of 1.8 degrees.
    let least = cosine(across_mm, x).min(cosine(down_mm, y));
    if x == y || least.is_nan() || least < 0.9995 {
        return "its rows and columns run in other directions than the axes of the image".into();
    }
    let [between_rows, between_columns] = frame.pixel_spacing_mm;
    let (theirs_x, theirs_y) = (grid.spacing_mm[x], grid.spacing_mm[y]);
    if (between_columns / theirs_x - 1.0).abs().max((between_rows / theirs_y - 1.0).abs()) > 1e-4 {
        return format!(
            "they measure {between_columns:.4} x {between_rows:.4} mm, those of the image {theirs_x:.4} x {theirs_y:.4} mm"
        );
    }
    let [x, y, z] = in_mm(off);
    format!("they lie {x:.2}, {y:.2} and {z:.2} mm (x, y, z) beside the nearest ones")
}

/// Frames that follow each other in every second or third slice only belong to thicker slices, unless they say otherwise.
fn check_distances(places: &[Place], frames: &[Frame], grid: &Geometry) -> Result<(), MaskError> {
    let Some(normal) = places.first().map(Place::normal) else { return Ok(()) };
    let spacing_mm = grid.spacing_mm[normal];
    let says_so = |frame: &Frame| frame.slice_distance_mm.is_some_and(|mm| (mm / spacing_mm - 1.0).abs() < 0.1);
    if frames.iter().all(says_so) {
        return Ok(());
    }
    let slices: BTreeSet<usize> = places.iter().filter_map(|p| p.first[normal].try_into().ok()).collect();
    check_steps(&slices, spacing_mm)
}

/// The segment number of every pixel of a frame, row by row; background is 0 or the padding value.
fn segment_numbers(object: &Object<'_>, kind: Kind, index: usize, segment: u16) -> Result<Vec<u16>, MaskError> {
    let format = &object.header.pixels;
    let pixels = usize::from(format.rows) * usize::from(format.columns);
    let raw = frame_bytes(object, index, pixels).ok_or(MaskError::Pixels { frame: index + 1 })?;
    let shown = |is_in: bool| if is_in { segment } else { 0 };
    let numbers: Vec<u16> = match kind {
        Kind::Binary => raw.bits(pixels).map(shown).collect(),
        Kind::Fractional { maximum } => {
            raw.bytes.iter().take(pixels).map(|v| shown(u32::from(*v) * 2 >= u32::from(maximum))).collect()
        }
        Kind::LabelMap { .. } if format.bits_allocated == 8 => {
            raw.bytes.iter().take(pixels).map(|v| u16::from(*v)).collect()
        }
        Kind::LabelMap { .. } => {
            raw.bytes.chunks_exact(2).take(pixels).map(|v| u16::from_le_bytes([v[0], v[1]])).collect()
        }
    };
    if numbers.len() == pixels { Ok(numbers) } else { Err(MaskError::Pixels { frame: index + 1 }) }
}

/// The bytes of a frame; those of one bit a pixel may begin within the first byte.
struct FrameBytes<'a> {
    bytes: Cow<'a, [u8]>,
    first_bit: usize,
    /// Decoders of JPEG 2000 give a byte for every pixel.
    byte_a_pixel: bool,
}

impl FrameBytes<'_> {
    fn bits(&self, pixels: usize) -> impl Iterator<Item = bool> {
        let bit = move |i: usize| match self.byte_a_pixel {
            true => self.bytes.get(i).map(|byte| *byte != 0),
            false => self.bytes.get((self.first_bit + i) / 8).map(|byte| byte >> ((self.first_bit + i) % 8) & 1 == 1),
        };
        (0..pixels).map_while(bit)
    }
}

fn frame_bytes<'a>(object: &'a Object<'_>, index: usize, pixels: usize) -> Option<FrameBytes<'a>> {
    let format = &object.header.pixels;
    let bits = pixels * usize::from(format.bits_allocated);
    let length = bits.div_ceil(8);
    let whole = |bytes| FrameBytes { bytes, first_bit: 0, byte_a_pixel: false };
    match object.pixels.as_ref()? {
        PixelSpan::Native(range) => {
            // Frames of single bits follow each other without gaps, so one may begin anywhere in a byte (PS3.5 8.1.1).
            let all = object.data_set.get(range.clone())?;
            let (first, last) = (index * bits, (index + 1) * bits);
            let bytes = Cow::Borrowed(all.get(first / 8..last.div_ceil(8))?);
            Some(FrameBytes { bytes, first_bit: first % 8, byte_a_pixel: false })
        }
        PixelSpan::Fragments(ranges) => {
            let fragments: Vec<&[u8]> = ranges.iter().filter_map(|r| object.data_set.get(r.clone())).collect();
            // Without an offset table fragments can only be told apart when every frame has one, or all belong to one frame.
            let frame = match format.frames as usize {
                1 => Cow::Owned(fragments.concat()),
                frames if frames == fragments.len() => Cow::Borrowed(*fragments.get(index)?),
                _ => return None,
            };
            match object.header.transfer_syntax.as_str() {
                syntax::DEFLATED_FRAMES => {
                    let mut bytes = Vec::new();
                    flate2::read::DeflateDecoder::new(&frame[..]).take(length as u64).read_to_end(&mut bytes).ok()?;
                    Some(whole(Cow::Owned(bytes)))
                }
                syntax::RLE if format.bits_allocated == 1 => Some(whole(Cow::Owned(rle::decode(&frame, length, 1)?))),
                other => {
                    // The decoder knows no single bits, but gives each of them a byte when it is told so.
                    let bytes_allocated = format.bits_allocated.div_ceil(8);
                    let format = PixelFormat { bits_allocated: bytes_allocated * 8, ..format.clone() };
                    let bytes = Cow::Owned(decode_frame(&frame, &format, other)?);
                    Some(FrameBytes { byte_a_pixel: true, ..whole(bytes) })
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Explain;
    use crate::dicom::data_set::DataSet;
    use crate::dicom::{PatientInfo, SegInfo, parse_header, part10, phantom_series, plan_series, write_seg};
    use crate::volume::{LabelMap, LabelScheme, Region, Volume};
    use dicom_core::VR;

    /// 5 x 3 x 4 voxels of 2 x 3 x 5 mm.
    fn grid() -> Geometry {
        Geometry {
            size: [5, 3, 4],
            spacing_mm: [2.0, 3.0, 5.0],
            origin_mm: [-10.0, 20.0, 100.0],
            direction: Geometry::IDENTITY,
        }
    }

    /// A frame to write: segment, position, the bits or values of its pixels.
    struct Shown {
        segment: u16,
        position_mm: [f64; 3],
        pixels: Vec<u8>,
    }

    struct Written {
        kind: &'static str,
        bits: u16,
        size: [u16; 2],
        cosines: [f64; 6],
        /// (between rows, between columns), mm.
        spacing_mm: [f64; 2],
        slice_distance_mm: Option<f64>,
        segments: Vec<u16>,
        frames: Vec<Shown>,
    }

    impl Written {
        /// Axial frames of the size of [`grid`] in its slices; `z` is the slice.
        fn axial(kind: &'static str, bits: u16, frames: Vec<(u16, f64, [u8; 15])>) -> Self {
            let shown = |(segment, z, pixels): (u16, f64, [u8; 15])| Shown {
                segment,
                position_mm: grid().position_mm([0.0, 0.0, z]),
                pixels: pixels.to_vec(),
            };
            Self {
                kind,
                bits,
                size: [3, 5],
                cosines: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
                spacing_mm: [3.0, 2.0],
                slice_distance_mm: None,
                segments: vec![1, 2],
                frames: frames.into_iter().map(shown).collect(),
            }
        }

        fn file(&self) -> Vec<u8> {
            let label = |n: &u16| {
                DataSet::default().shorts(tags::SEGMENT_NUMBER, &[*n]).text(tags::SEGMENT_LABEL, &format!("S{n}"))
            };
            let measures = DataSet::default().decimals(tags::PIXEL_SPACING, &self.spacing_mm);
            let measures = match self.slice_distance_mm {
                Some(mm) => measures.decimals(tags::SPACING_BETWEEN_SLICES, &[mm]),
                None => measures,
            };
            let shared = DataSet::default().item(tags::PIXEL_MEASURES_SEQUENCE, measures).item(
                tags::PLANE_ORIENTATION_SEQUENCE,
                DataSet::default().decimals(tags::IMAGE_ORIENTATION_PATIENT, &self.cosines),
            );
            let frame = |f: &Shown| {
                let position = DataSet::default().decimals(tags::IMAGE_POSITION_PATIENT, &f.position_mm);
                let segment = DataSet::default().shorts(tags::REFERENCED_SEGMENT_NUMBER, &[f.segment]);
                DataSet::default()
                    .item(tags::PLANE_POSITION_SEQUENCE, position)
                    .item(tags::SEGMENT_IDENTIFICATION_SEQUENCE, segment)
            };
            let values: Vec<u8> = self.frames.iter().flat_map(|f| f.pixels.clone()).collect();
            let mut pixels = values.clone();
            if self.bits == 1 {
                pixels = vec![0; values.len().div_ceil(8)];
                values.iter().enumerate().for_each(|(i, v)| pixels[i / 8] |= v << (i % 8));
            }
            let object = DataSet::default()
                .text(tags::SOP_CLASS_UID, sop_class::SEGMENTATION)
                .text(tags::FRAME_OF_REFERENCE_UID, "1.2.9")
                .shorts(tags::SAMPLES_PER_PIXEL, &[1])
                .text(tags::NUMBER_OF_FRAMES, &self.frames.len().to_string())
                .shorts(tags::ROWS, &self.size[..1])
                .shorts(tags::COLUMNS, &self.size[1..])
                .shorts(tags::BITS_ALLOCATED, &[self.bits])
                .shorts(tags::PIXEL_PADDING_VALUE, &[9])
                .text(tags::SEGMENTATION_TYPE, self.kind)
                .shorts(tags::MAXIMUM_FRACTIONAL_VALUE, &[200])
                .items(tags::SEGMENT_SEQUENCE, self.segments.iter().map(label).collect())
                .item(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, shared)
                .items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, self.frames.iter().map(frame).collect())
                .bytes(tags::PIXEL_DATA, VR::OB, pixels);
            part10::file(&object.to_bytes(), sop_class::SEGMENTATION, "1.2.3", syntax::EXPLICIT_LE, None)
        }

        fn read(&self) -> Result<Vec<Segment>, MaskError> {
            read_seg(&self.file(), &grid(), None)
        }
    }

    /// (z, y, x) of the voxels of a mask.
    fn voxels(segment: &Segment) -> Vec<(usize, usize, usize)> {
        segment.mask.indexed_iter().filter(|(_, inside)| **inside).map(|(index, _)| index).collect()
    }

    fn pixels(set: &[(usize, u8)]) -> [u8; 15] {
        let mut pixels = [0; 15];
        set.iter().for_each(|(i, value)| pixels[*i] = *value);
        pixels
    }

    /// 15 bits a frame: the second begins within a byte. Frames in any order, segments overlap.
    #[test]
    fn bits_are_unpacked_over_byte_borders() {
        let frames = vec![
            (2, 3.0, pixels(&[(0, 1), (14, 1)])),
            (1, 0.0, pixels(&[(1, 1), (5, 1)])),
            (1, 3.0, pixels(&[(14, 1)])),
        ];
        let read = Written::axial("BINARY", 1, frames).read().unwrap();
        assert_eq!(read.iter().map(|s| (s.number, s.label.as_str())).collect::<Vec<_>>(), [(1, "S1"), (2, "S2")]);
        assert_eq!(voxels(&read[0]), [(0, 0, 1), (0, 1, 0), (3, 2, 4)]);
        assert_eq!(voxels(&read[1]), [(3, 0, 0), (3, 2, 4)]);
    }

    #[test]
    fn fractions_count_from_half_of_the_maximum_on() {
        let frames = vec![(1, 1.0, pixels(&[(0, 99), (1, 100), (2, 200), (3, 1)]))];
        let read = Written::axial("FRACTIONAL", 8, frames).read().unwrap();
        assert_eq!(voxels(&read[0]), [(1, 0, 1), (1, 0, 2)]);
        assert!(voxels(&read[1]).is_empty());
    }

    #[test]
    fn a_label_map_holds_segment_numbers_and_its_padding_none() {
        let frames = vec![(0, 1.0, pixels(&[(0, 1), (1, 2), (2, 9)]))];
        let mut written = Written::axial("LABELMAP", 8, frames);
        written.segments = vec![0, 2, 1, 9];
        let read = written.read().unwrap();
        assert_eq!(read.iter().map(|s| s.number).collect::<Vec<_>>(), [2, 1]);
        assert_eq!((voxels(&read[0]), voxels(&read[1])), (vec![(1, 0, 1)], vec![(1, 0, 0)]));
        // 16 bits a pixel: 0x0102 in the third, little endian.
        let mut wide = Written::axial("LABELMAP", 16, vec![(0, 1.0, [0; 15])]);
        wide.frames[0].pixels = vec![0; 30];
        wide.frames[0].pixels[4..6].copy_from_slice(&[2, 1]);
        wide.segments = vec![0x0102];
        assert_eq!(voxels(&wide.read().unwrap()[0]), [(1, 0, 2)]);
        written.segments = vec![2];
        assert_eq!(written.read(), Err(MaskError::UnknownSegment { frame: 1, number: 1 }));
    }

    /// A coronal frame, mirrored, 2 columns by 3 rows: columns run along -x from voxel 3, rows along -z from slice 2.
    #[test]
    fn turned_and_smaller_frames_are_placed_by_their_position() {
        let mut written = Written::axial("BINARY", 1, vec![]);
        written.size = [3, 2];
        written.cosines = [-1.0, 0.0, 0.0, 0.0, 0.0, -1.0];
        written.spacing_mm = [5.0, 2.0];
        let position_mm = grid().position_mm([3.0, 1.0, 2.0]);
        written.frames = vec![Shown { segment: 1, position_mm, pixels: vec![1, 0, 0, 0, 0, 1] }];
        assert_eq!(voxels(&written.read().unwrap()[0]), [(0, 1, 2), (2, 1, 3)]);
    }

    #[test]
    fn frames_that_are_not_on_the_voxels_are_refused_with_how() {
        let written = || Written::axial("BINARY", 1, vec![(1, 2.0, pixels(&[(7, 1)]))]);
        let how = |change: &dyn Fn(&mut Written)| {
            let mut written = written();
            change(&mut written);
            match written.read() {
                Err(MaskError::FrameGrid { frame: 1, how }) => how,
                other => panic!("{other:?}"),
            }
        };
        let spacing = how(&|w| w.spacing_mm = [3.0, 2.4]);
        assert_eq!(spacing, "they measure 2.4000 x 3.0000 mm, those of the image 2.0000 x 3.0000 mm");
        let beside = how(&|w| w.frames[0].position_mm[2] += 2.0);
        assert_eq!(beside, "they lie 0.00, 0.00 and 2.00 mm (x, y, z) beside the nearest ones");
        let turned = how(&|w| w.cosines = [0.8, 0.6, 0.0, -0.6, 0.8, 0.0]);
        assert_eq!(turned, "its rows and columns run in other directions than the axes of the image");
        how(&|w| w.cosines = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
        how(&|w| w.cosines = [0.0; 6]);
        // A rounded position is near enough.
        let mut rounded = written();
        rounded.frames[0].position_mm[0] += 0.01;
        assert_eq!(voxels(&rounded.read().unwrap()[0]), [(2, 1, 2)]);
    }

    #[test]
    fn what_cannot_be_a_mask_of_the_image_is_refused_by_name() {
        let written = || Written::axial("BINARY", 1, vec![(1, 2.0, pixels(&[(7, 1)])), (1, 3.0, pixels(&[(2, 1)]))]);
        let code = |change: &dyn Fn(&mut Written)| {
            let mut written = written();
            change(&mut written);
            written.read().unwrap_err().code()
        };
        assert_eq!(code(&|w| w.frames[1].segment = 3), "mask.unknown-segment");
        assert_eq!(code(&|w| w.frames[1].segment = 0), "mask.unknown-segment");
        assert_eq!(code(&|w| w.segments.clear()), "mask.empty");
        assert_eq!(code(&|w| w.kind = "SURFACE"), "mask.pixel-format");
        assert_eq!(code(&|w| w.frames[1].pixels.clear()), "mask.pixels");
        let mut outside = written();
        outside.frames[1].position_mm[2] = 120.0;
        let expected = MaskError::Outside { outside: 1, all: 2, what: "pixels of the segments" };
        assert_eq!(outside.read(), Err(expected));
        let file = written().file();
        assert_eq!(read_seg(&file, &grid(), Some(&"1.2.8".into())), Err(MaskError::FrameOfReference));
        assert!(read_seg(&file, &grid(), Some(&"1.2.9".into())).is_ok());
    }

    /// Frames in slices 0, 2 and 4 of thinner slices; where Spacing Between Slices says that nothing is missing, nothing is.
    #[test]
    fn frames_of_thicker_slices_are_refused() {
        let grid = Geometry { size: [5, 3, 5], ..grid() };
        let one = pixels(&[(7, 1)]);
        let mut written = Written::axial("BINARY", 1, vec![(1, 0.0, one), (1, 2.0, one), (1, 4.0, one)]);
        let refused = MaskError::OtherSlices { of_mask_mm: 10.0, of_image_mm: 5.0 };
        assert_eq!(read_seg(&written.file(), &grid, None), Err(refused));
        written.slice_distance_mm = Some(5.0);
        assert!(read_seg(&written.file(), &grid, None).is_ok());
    }

    fn random_numbers(mut state: u64) -> impl FnMut() -> usize {
        move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize
        }
    }

    /// Our own SEG of an oblique phantom, with random labels, comes back voxel by voxel.
    #[test]
    fn what_the_box_writes_it_reads_again() {
        let (s, c) = 20f64.to_radians().sin_cos();
        let geometry = Geometry {
            size: [13, 7, 60],
            spacing_mm: [0.7, 0.8, 2.5],
            origin_mm: [-50.0, 30.0, -400.0],
            direction: [[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]],
        };
        let volume = Volume { hu: Array3::zeros(geometry.shape_zyx()), geometry };
        let files = phantom_series(&volume, &PatientInfo { patient_id: "P1".into(), ..Default::default() }, 1);
        let plan = plan_series(&files.iter().map(|(_, b)| parse_header(b).unwrap()).collect::<Vec<_>>()).unwrap();
        let entries = vec![(1, Region::Liver, "10200004".into()), (4, Region::ColorectalTumor, "363406005".into())];
        let mut random = random_numbers(7);
        let labels = Array3::from_shape_fn(plan.geometry.shape_zyx(), |_| [0, 1, 4][random() % 3]);
        let map = LabelMap { labels, geometry: plan.geometry.clone(), scheme: LabelScheme { entries } };
        let info = SegInfo {
            algorithm: "test",
            version: "1",
            date: "20260101",
            time: "120000",
            series_number: 900,
            uid_seed: b"x",
        };
        let file = write_seg(&map, &plan, &info).unwrap();
        let frame_of_reference = &plan.slices[0].header.frame_of_reference_uid;
        let read = read_seg(&file.bytes, &plan.geometry, Some(frame_of_reference)).unwrap();
        let shown: Vec<_> = read.iter().map(|s| (s.number, s.label.as_str())).collect();
        assert_eq!(shown, [(1, Region::Liver.title()), (2, Region::ColorectalTumor.title())]);
        assert_eq!(read[0].mask, map.labels.mapv(|v| v == 1));
        assert_eq!(read[1].mask, map.labels.mapv(|v| v == 4));
    }

    /// Changed and cut bytes: masks or errors, never a panic.
    #[test]
    fn no_bytes_make_the_reader_panic() {
        let mut random = random_numbers(20261125);
        let one = pixels(&[(7, 1)]);
        let originals = [
            Written::axial("BINARY", 1, vec![(1, 0.0, one), (2, 1.0, one)]).file(),
            Written::axial("FRACTIONAL", 8, vec![(1, 0.0, one), (2, 1.0, one)]).file(),
            Written::axial("LABELMAP", 8, vec![(1, 0.0, one)]).file(),
        ];
        let mut read = 0;
        for round in 0..30_000 {
            let mut bytes = originals[round % 3].clone();
            for _ in 0..1 + random() % 4 {
                let at = random() % bytes.len();
                bytes[at] = [0, 0xFF, 0x7F, 0x80, b'9', random() as u8][random() % 6];
            }
            if round % 2 == 0 {
                bytes.truncate(random() % (bytes.len() + 1));
            }
            read += usize::from(read_seg(&bytes, &grid(), None).is_ok());
        }
        assert!(read > 1000, "only {read} objects were still read: the changes are too coarse to test anything");
    }
}
