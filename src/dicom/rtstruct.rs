//! Masks from RT Structure Sets: contours (PS3.3 C.8.8.5, C.8.8.6, C.8.8.8) and their voxels.

use super::items::{Item, read_items};
use super::{Identifier, MaskError, Note, parse_object, sop_class};
use crate::volume::{Geometry, VOXELS_MAX};
use dicom_dictionary_std::tags;
use ndarray::{Array3, ArrayViewMut2, Axis};
use std::collections::{BTreeMap, BTreeSet};

/// One structure (ROI) of a structure set.
#[derive(Debug, Clone, PartialEq)]
pub struct Structure {
    /// ROI Number.
    pub number: i32,
    /// ROI Name.
    pub name: String,
    /// RT ROI Interpreted Type, such as `GTV` or `ORGAN`; often empty.
    pub interpreted_type: String,
    /// Frame of Reference that the points lie in.
    pub frame_of_reference_uid: Identifier,
    /// Closed planar contours of at least 3 points, in file order.
    pub contours: Vec<Contour>,
    /// What was left out.
    pub notes: Vec<Note>,
}

/// One closed planar contour.
#[derive(Debug, Clone, PartialEq)]
pub struct Contour {
    /// Corners (LPS, mm); the last is joined with the first.
    pub points_mm: Vec<[f64; 3]>,
    /// SOP Instance UID of the slice that it was drawn on; often empty.
    pub sop_instance_uid: Identifier,
}

/// Reads the structures of an RT Structure Set (Part 10 file), in the order of its Structure Set ROI Sequence. Contours that
/// enclose nothing (points, open lines, fewer than 3 corners) are left out with a note.
pub fn read_structures(bytes: &[u8]) -> Result<Vec<Structure>, MaskError> {
    let object = parse_object(bytes)?;
    if object.header.sop_class_uid != sop_class::RT_STRUCTURE_SET {
        return Err(MaskError::NotStructureSet);
    }
    let root = read_items(&object.data_set, &object.header.transfer_syntax)?;
    let rois = root.items(tags::STRUCTURE_SET_ROI_SEQUENCE);
    if rois.is_empty() {
        return Err(MaskError::Empty);
    }
    rois.iter().map(|roi| structure(&root, roi)).collect()
}

fn structure(root: &Item<'_>, roi: &Item<'_>) -> Result<Structure, MaskError> {
    let number_text = roi.text(tags::ROI_NUMBER);
    let refers = |item: &&Item<'_>| item.text(tags::REFERENCED_ROI_NUMBER) == number_text;
    let number = number_text.parse().unwrap_or(0);
    let observation = root.items(tags::RTROI_OBSERVATIONS_SEQUENCE).iter().find(refers);
    let mut contours = Vec::new();
    let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
    let drawn = root.items(tags::ROI_CONTOUR_SEQUENCE).iter().filter(refers);
    for (index, item) in drawn.flat_map(|roi| roi.items(tags::CONTOUR_SEQUENCE)).enumerate() {
        let kind = item.text(tags::CONTOUR_GEOMETRIC_TYPE);
        if !matches!(kind.as_str(), "CLOSED_PLANAR" | "CLOSEDPLANAR_XOR") {
            let kind: String = kind.chars().filter(|c| c.is_ascii_uppercase() || *c == '_').take(16).collect();
            *left_out.entry(format!("of type {kind}")).or_default() += 1;
            continue;
        }
        let points_mm = points(item).ok_or(MaskError::Points { structure: number, contour: index + 1 })?;
        if points_mm.len() < 3 {
            *left_out.entry("of fewer than 3 points".into()).or_default() += 1;
            continue;
        }
        let image = item.items(tags::CONTOUR_IMAGE_SEQUENCE).first();
        let sop_instance_uid = image.map(|i| i.text(tags::REFERENCED_SOP_INSTANCE_UID)).unwrap_or_default();
        contours.push(Contour { points_mm, sop_instance_uid: Identifier::new(sop_instance_uid) });
    }
    let note = |(what, count): (String, usize)| {
        Note::new("mask.contours-left-out", format!("{count} contours {what} were left out: they enclose nothing"))
    };
    Ok(Structure {
        number,
        name: roi.text_in(tags::ROI_NAME, &root.charset()),
        interpreted_type: observation.map(|o| o.text(tags::RTROI_INTERPRETED_TYPE)).unwrap_or_default(),
        frame_of_reference_uid: frame_of_reference(root, roi),
        contours,
        notes: left_out.into_iter().map(note).collect(),
    })
}

/// Contour Data: x, y, z of every corner. `None` when they are damaged.
fn points(contour: &Item<'_>) -> Option<Vec<[f64; 3]>> {
    let values = contour.numbers(tags::CONTOUR_DATA)?;
    let (points, rest) = values.as_chunks::<3>();
    (rest.is_empty()).then(|| points.to_vec())
}

/// The structure's own frame of reference, else the only one that the object names.
fn frame_of_reference(root: &Item<'_>, roi: &Item<'_>) -> Identifier {
    let own = roi.text(tags::REFERENCED_FRAME_OF_REFERENCE_UID);
    match root.items(tags::REFERENCED_FRAME_OF_REFERENCE_SEQUENCE) {
        [only] if own.is_empty() => Identifier::new(only.text(tags::FRAME_OF_REFERENCE_UID)),
        [] if own.is_empty() => Identifier::new(root.text(tags::FRAME_OF_REFERENCE_UID)),
        _ => Identifier::new(own),
    }
}

/// Contours may reach this many voxels beyond the centers of the outermost ones: half a voxel beyond the image's edge.
const BEYOND_VOXELS: f64 = 1.0;
/// Contours on one slice may lie this far apart along the normal, in slices.
const SAME_PLANE_SLICES: f64 = 0.25;
/// Voxel indices of corners are rounded to this part of a voxel, so that a corner meant to lie on a voxel center does.
const INDEX_STEPS: f64 = 1e6;

/// The voxels of a structure: shape (z, y, x) of the grid, true where the voxel's center lies inside.
///
/// A contour belongs to the slice within half a slice of which all its points lie. On a slice, a center is inside when a ray
/// from it crosses the contours an odd number of times: a contour in a contour is a hole, and so is a keyhole, whose channel
/// is passed twice. A center exactly on the outline counts when the inside lies toward higher x (or y, on outlines along x), so
/// that of two structures that share an outline each center belongs to exactly one.
///
/// `frame_of_reference_uid` is that of the image; `None` or empty (NIfTI knows none) is not compared.
pub fn rasterize(
    structure: &Structure,
    grid: &Geometry,
    frame_of_reference_uid: Option<&Identifier>,
) -> Result<Array3<bool>, MaskError> {
    check_grid(grid, 1)?;
    check_frame_of_reference(&structure.frame_of_reference_uid, frame_of_reference_uid)?;
    if structure.contours.is_empty() {
        return Err(MaskError::NoContours { structure: structure.number });
    }
    let slices = by_slice(structure, grid)?;
    let mut mask = Array3::from_elem(grid.shape_zyx(), false);
    for (slice, polygons) in &slices {
        fill(mask.index_axis_mut(Axis(0), *slice), polygons);
    }
    if !mask.iter().any(|inside| *inside) {
        return Err(MaskError::NoVoxels { structure: structure.number });
    }
    Ok(mask)
}

/// A usable grid whose `masks` masks fit.
pub(super) fn check_grid(grid: &Geometry, masks: usize) -> Result<(), MaskError> {
    grid.check()?;
    let voxels = grid.size.iter().try_fold(masks, |product, size| product.checked_mul(*size));
    match voxels {
        Some(voxels) if voxels as u64 <= VOXELS_MAX => Ok(()),
        _ => Err(MaskError::TooLarge { limit_mb: (VOXELS_MAX >> 20) as usize }),
    }
}

/// Two known frames of reference have to be the same.
pub(super) fn check_frame_of_reference(of_mask: &Identifier, of_image: Option<&Identifier>) -> Result<(), MaskError> {
    match of_image {
        Some(of_image) if !of_image.is_empty() && !of_mask.is_empty() && of_image != of_mask => {
            Err(MaskError::FrameOfReference)
        }
        _ => Ok(()),
    }
}

/// When three or more slices of a mask follow each other at the same distance above one: that distance. The mask was then made
/// on thicker slices, and would be full of gaps.
pub(super) fn check_steps(slices: &BTreeSet<usize>, spacing_mm: f64) -> Result<(), MaskError> {
    let slices: Vec<usize> = slices.iter().copied().collect();
    let mut steps = slices.windows(2).map(|pair| pair[1] - pair[0]);
    match steps.next() {
        Some(step) if step >= 2 && slices.len() >= 3 && steps.all(|other| other == step) => {
            Err(MaskError::OtherSlices { of_mask_mm: step as f64 * spacing_mm, of_image_mm: spacing_mm })
        }
        _ => Ok(()),
    }
}

/// Corners in a slice, in voxel indices (x, y).
type Polygon = Vec<[f64; 2]>;

fn by_slice(structure: &Structure, grid: &Geometry) -> Result<BTreeMap<usize, Vec<Polygon>>, MaskError> {
    let mut slices: BTreeMap<usize, Vec<Polygon>> = BTreeMap::new();
    // Lowest and highest plane of the contours on a slice.
    let mut planes: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    let mut outside = 0;
    for (index, contour) in structure.contours.iter().enumerate() {
        let round = |v: f64| (v * INDEX_STEPS).round() / INDEX_STEPS;
        let points: Vec<[f64; 3]> = contour.points_mm.iter().map(|p| grid.index_of(*p).map(round)).collect();
        let plane = points.iter().map(|p| p[2] / points.len() as f64).sum::<f64>();
        let slice = (round(plane) + 0.5).floor();
        let off = points.iter().map(|p| (p[2] - slice).abs()).fold(0.0, f64::max);
        if off > 0.5 + 1.0 / INDEX_STEPS {
            let off_mm = off * grid.spacing_mm[2];
            return Err(MaskError::OutOfPlane { structure: structure.number, contour: index + 1, off_mm });
        }
        let beyond = |axis: usize| {
            let last = (grid.size[axis] - 1) as f64 + BEYOND_VOXELS;
            points.iter().any(|p| p[axis] < -BEYOND_VOXELS || p[axis] > last)
        };
        if slice < 0.0 || slice >= grid.size[2] as f64 || beyond(0) || beyond(1) {
            outside += 1;
            continue;
        }
        let slice = slice as usize;
        let (low, high) = planes.entry(slice).or_insert((plane, plane));
        (*low, *high) = (low.min(plane), high.max(plane));
        if *high - *low > SAME_PLANE_SLICES {
            let spacing = grid.spacing_mm[2];
            return Err(MaskError::OtherSlices { of_mask_mm: (*high - *low) * spacing, of_image_mm: spacing });
        }
        slices.entry(slice).or_default().push(points.iter().map(|p| [p[0], p[1]]).collect());
    }
    if outside > 0 {
        return Err(MaskError::Outside { outside, all: structure.contours.len(), what: "contours" });
    }
    check_steps(&slices.keys().copied().collect(), grid.spacing_mm[2])?;
    Ok(slices)
}

/// Even-odd filling. Every edge flips all voxels of the rows that it crosses from the crossing on; flips are noted at their first
/// voxel and summed up along each row at the end.
fn fill(mut plane: ArrayViewMut2<'_, bool>, polygons: &[Polygon]) {
    let (rows, columns) = plane.dim();
    for polygon in polygons {
        let next = polygon.iter().cycle().skip(1);
        for (a, b) in polygon.iter().zip(next) {
            // Always upward: the two passes of a keyhole's channel then cross each row at the very same place.
            let ([x0, y0], [x1, y1]) = if a[1] <= b[1] { (*a, *b) } else { (*b, *a) };
            // Rows y0 <= row < y1, so that a corner on a row counts once. Negative numbers saturate to 0.
            for row in y0.ceil() as usize..(y1.ceil() as usize).min(rows) {
                let x = x0 + (row as f64 - y0) * (x1 - x0) / (y1 - y0);
                let first = x.ceil() as usize;
                if first < columns {
                    plane[(row, first)] ^= true;
                }
            }
        }
    }
    for mut row in plane.outer_iter_mut() {
        let mut inside = false;
        for voxel in &mut row {
            inside ^= *voxel;
            *voxel = inside;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Explain;
    use crate::dicom::data_set::DataSet;
    use crate::dicom::{part10, syntax};

    /// 8 x 6 x 5 voxels of 2 x 3 x 5 mm.
    fn grid() -> Geometry {
        Geometry {
            size: [8, 6, 5],
            spacing_mm: [2.0, 3.0, 5.0],
            origin_mm: [-10.0, 20.0, 100.0],
            direction: Geometry::IDENTITY,
        }
    }

    /// A structure of contours that are given in voxel indices (x, y) on slices.
    fn structure(grid: &Geometry, contours: &[(f64, &[[f64; 2]])]) -> Structure {
        let contour = |(z, corners): &(f64, &[[f64; 2]])| Contour {
            points_mm: corners.iter().map(|[x, y]| grid.position_mm([*x, *y, *z])).collect(),
            sop_instance_uid: Identifier::default(),
        };
        Structure {
            number: 3,
            name: "GTV".into(),
            interpreted_type: "GTV".into(),
            frame_of_reference_uid: "1.2".into(),
            contours: contours.iter().map(contour).collect(),
            notes: Vec::new(),
        }
    }

    fn drawn(grid: &Geometry, contours: &[(f64, &[[f64; 2]])]) -> Vec<String> {
        let mask = rasterize(&structure(grid, contours), grid, None).unwrap();
        let slice = contours[0].0.round() as usize;
        let elsewhere: usize = mask.iter().filter(|v| **v).count();
        let plane = mask.index_axis(Axis(0), slice);
        assert_eq!(plane.iter().filter(|v| **v).count(), elsewhere, "voxels in other slices");
        plane.outer_iter().map(|row| row.iter().map(|v| if *v { '#' } else { '.' }).collect()).collect()
    }

    const SQUARE: &[[f64; 2]] = &[[0.5, 0.5], [6.5, 0.5], [6.5, 4.5], [0.5, 4.5]];
    const HOLE: &[[f64; 2]] = &[[2.5, 1.5], [4.5, 1.5], [4.5, 3.5], [2.5, 3.5]];
    const WITH_HOLE: [&str; 6] = ["........", ".######.", ".##..##.", ".##..##.", ".######.", "........"];

    #[test]
    fn a_square_holds_the_voxel_centers_in_it() {
        let expected = ["........", ".######.", ".######.", ".######.", ".######.", "........"];
        assert_eq!(drawn(&grid(), &[(2.0, SQUARE)]), expected);
    }

    #[test]
    fn a_contour_in_a_contour_is_a_hole_and_one_in_the_hole_an_island() {
        assert_eq!(drawn(&grid(), &[(2.0, SQUARE), (2.0, HOLE)]), WITH_HOLE);
        let island: &[[f64; 2]] = &[[2.6, 1.6], [3.4, 1.6], [3.4, 2.4], [2.6, 2.4]];
        let drawn = drawn(&grid(), &[(2.0, SQUARE), (2.0, HOLE), (2.0, island)]);
        assert_eq!(drawn[2], ".###.##.");
        assert_eq!(drawn[3], ".##..##.");
    }

    /// Around the outside, along the channel to the hole, around the hole, and back through the channel, which passes the center
    /// of voxel (1, 2): it stays inside.
    #[test]
    fn a_keyhole_is_a_hole_and_its_channel_costs_no_voxel() {
        let keyhole: &[[f64; 2]] = &[
            [0.5, 2.0],
            [0.5, 0.5],
            [6.5, 0.5],
            [6.5, 4.5],
            [0.5, 4.5],
            [0.5, 2.0],
            [2.5, 2.0],
            [2.5, 3.5],
            [4.5, 3.5],
            [4.5, 1.5],
            [2.5, 1.5],
            [2.5, 2.0],
        ];
        assert_eq!(drawn(&grid(), &[(2.0, keyhole)]), WITH_HOLE);
        // A slanting channel that passes just beside centers.
        let slanting: Vec<[f64; 2]> = keyhole.iter().map(|p| if *p == [0.5, 2.0] { [0.5, 1.3] } else { *p }).collect();
        assert_eq!(drawn(&grid(), &[(2.0, &slanting)]), WITH_HOLE);
    }

    /// Two structures share the line x = 3; it passes through centers, each of which belongs to exactly one.
    #[test]
    fn a_center_on_a_shared_outline_belongs_to_one_side() {
        let left: &[[f64; 2]] = &[[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0]];
        let right: &[[f64; 2]] = &[[3.0, 1.0], [5.0, 1.0], [5.0, 3.0], [3.0, 3.0]];
        assert_eq!(drawn(&grid(), &[(1.0, left)])[1..4], [".##.....", ".##.....", "........"]);
        assert_eq!(drawn(&grid(), &[(1.0, right)])[1..4], ["...##...", "...##...", "........"]);
        assert_eq!(drawn(&grid(), &[(1.0, left), (1.0, right)])[1..4], [".####...", ".####...", "........"]);
    }

    /// The same outline, on a grid turned by 30 and 40 degrees: rounding in the turning must not move centers over the line.
    #[test]
    fn an_oblique_grid_gives_the_same_voxels() {
        let (s, c) = 30f64.to_radians().sin_cos();
        let (t, d) = 40f64.to_radians().sin_cos();
        let oblique = Geometry { direction: [[c, -s * d, s * t], [s, c * d, -c * t], [0.0, t, d]], ..grid() };
        oblique.check().unwrap();
        assert_eq!(drawn(&oblique, &[(2.0, SQUARE), (2.0, HOLE)]), WITH_HOLE);
        let on_centers: &[[f64; 2]] = &[[1.0, 1.0], [6.0, 1.0], [6.0, 4.0], [1.0, 4.0]];
        assert_eq!(drawn(&oblique, &[(3.0, on_centers)]), drawn(&grid(), &[(3.0, on_centers)]));
    }

    /// Random polygons, mostly crossing themselves, against rays along y, point by point.
    #[test]
    fn random_polygons_hold_what_rays_along_the_other_axis_say() {
        let mut state = 3u64;
        let mut random = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as f64 / (1u64 << 31) as f64
        };
        for _ in 0..300 {
            let corners = 3 + (random() * 12.0) as usize;
            let polygon: Polygon = (0..corners).map(|_| [random() * 13.0 - 2.0, random() * 11.0 - 2.0]).collect();
            let mut plane = ndarray::Array2::from_elem((8, 10), false);
            fill(plane.view_mut(), std::slice::from_ref(&polygon));
            for ((row, column), inside) in plane.indexed_iter() {
                let (x, y) = (column as f64, row as f64);
                let crosses = |i: &usize| {
                    let ([x0, y0], [x1, y1]) = (polygon[*i], polygon[(*i + 1) % corners]);
                    (x0 > x) != (x1 > x) && y0 + (x - x0) / (x1 - x0) * (y1 - y0) > y
                };
                assert_eq!(*inside, (0..corners).filter(crosses).count() % 2 == 1, "{polygon:?} at {x}, {y}");
            }
        }
    }

    #[test]
    fn a_contour_goes_to_the_slice_within_half_a_slice() {
        let mask = |z: f64| rasterize(&structure(&grid(), &[(z, SQUARE)]), &grid(), None).unwrap();
        for (z, slice) in [(1.51, 2), (2.0, 2), (2.49, 2), (-0.5, 0), (4.49, 4)] {
            assert!(mask(z)[(slice, 2, 2)], "{z}");
        }
    }

    fn error(grid: &Geometry, contours: &[(f64, &[[f64; 2]])]) -> MaskError {
        rasterize(&structure(grid, contours), grid, None).unwrap_err()
    }

    #[test]
    fn what_does_not_fit_the_grid_is_refused_by_name() {
        let g = grid();
        assert_eq!(error(&g, &[]), MaskError::NoContours { structure: 3 });
        let outside = |outside, all| MaskError::Outside { outside, all, what: "contours" };
        assert_eq!(error(&g, &[(5.0, SQUARE), (-2.0, SQUARE)]), outside(2, 2));
        assert_eq!(error(&g, &[(4.0, SQUARE), (5.0, SQUARE)]), outside(1, 2));
        let beside: &[[f64; 2]] = &[[20.0, 1.0], [22.0, 1.0], [22.0, 3.0]];
        assert_eq!(error(&g, &[(2.0, beside)]), outside(1, 1));
        let between: &[[f64; 2]] = &[[1.2, 1.2], [1.8, 1.2], [1.8, 1.8]];
        assert_eq!(error(&g, &[(2.0, between)]), MaskError::NoVoxels { structure: 3 });
        let mut tilted = structure(&g, &[(2.0, SQUARE)]);
        tilted.contours[0].points_mm[1][2] += 4.0;
        tilted.contours[0].points_mm[2][2] += 4.0;
        let refused = rasterize(&tilted, &g, None).unwrap_err();
        assert_eq!(refused.code(), "mask.out-of-plane");
        assert_eq!(
            refused.to_string(),
            "contour 1 of structure 3 leaves its slice by 4.00 mm: it lies in another plane"
        );
    }

    #[test]
    fn contours_of_thinner_or_thicker_slices_are_refused() {
        let g = grid();
        let thinner = error(&g, &[(1.0, SQUARE), (1.4, SQUARE), (1.8, SQUARE)]);
        assert_eq!(thinner.code(), "mask.other-slices");
        let thicker = error(&g, &[(0.0, SQUARE), (2.0, SQUARE), (4.0, SQUARE)]);
        assert_eq!(thicker, MaskError::OtherSlices { of_mask_mm: 10.0, of_image_mm: 5.0 });
        assert!(rasterize(&structure(&g, &[(0.0, SQUARE), (2.0, SQUARE), (3.0, SQUARE)]), &g, None).is_ok());
    }

    #[test]
    fn frames_of_reference_are_compared_when_both_are_known() {
        let (g, s) = (grid(), structure(&grid(), &[(2.0, SQUARE)]));
        assert!(rasterize(&s, &g, Some(&"1.2".into())).is_ok());
        assert!(rasterize(&s, &g, Some(&Identifier::default())).is_ok());
        assert_eq!(rasterize(&s, &g, Some(&"1.3".into())), Err(MaskError::FrameOfReference));
    }

    fn contour(kind: &str, data: &str) -> DataSet {
        let image = DataSet::default().text(tags::REFERENCED_SOP_INSTANCE_UID, "1.2.3.4");
        DataSet::default()
            .item(tags::CONTOUR_IMAGE_SEQUENCE, image)
            .text(tags::CONTOUR_GEOMETRIC_TYPE, kind)
            .text(tags::CONTOUR_DATA, data)
    }

    fn file(contours: Vec<DataSet>) -> Vec<u8> {
        let roi = DataSet::default()
            .text(tags::ROI_NUMBER, "7")
            .text(tags::REFERENCED_FRAME_OF_REFERENCE_UID, "1.2.9")
            .text(tags::ROI_NAME, "Lésion");
        let refers = |set: DataSet| set.text(tags::REFERENCED_ROI_NUMBER, "7");
        let object = DataSet::default()
            .text(tags::SPECIFIC_CHARACTER_SET, "ISO_IR 192")
            .text(tags::SOP_CLASS_UID, sop_class::RT_STRUCTURE_SET)
            .text(tags::MODALITY, "RTSTRUCT")
            .item(tags::STRUCTURE_SET_ROI_SEQUENCE, roi)
            .item(tags::ROI_CONTOUR_SEQUENCE, refers(DataSet::default().items(tags::CONTOUR_SEQUENCE, contours)))
            .item(
                tags::RTROI_OBSERVATIONS_SEQUENCE,
                refers(DataSet::default().text(tags::RTROI_INTERPRETED_TYPE, "GTV")),
            );
        part10::file(&object.to_bytes(), sop_class::RT_STRUCTURE_SET, "1.2.3", syntax::EXPLICIT_LE, None)
    }

    const TRIANGLE: &str = r"-10\20\100\-4.5\20\100\-4.5\2.9e1\100";

    #[test]
    fn a_structure_is_read_with_what_was_left_out() {
        let bytes = file(vec![
            contour("POINT", r"0\0\0"),
            contour("CLOSED_PLANAR", TRIANGLE),
            contour("CLOSED_PLANAR", r"0\0\0\1\1\1"),
            contour("POINT", r"0\0\0"),
        ]);
        let read = read_structures(&bytes).unwrap();
        let [structure] = &read[..] else { panic!("{read:?}") };
        assert_eq!(
            (structure.number, structure.name.as_str(), structure.interpreted_type.as_str()),
            (7, "Lésion", "GTV")
        );
        assert_eq!(structure.frame_of_reference_uid, "1.2.9".into());
        let points_mm = vec![[-10.0, 20.0, 100.0], [-4.5, 20.0, 100.0], [-4.5, 29.0, 100.0]];
        assert_eq!(structure.contours, [Contour { points_mm, sop_instance_uid: "1.2.3.4".into() }]);
        assert_eq!(
            structure.notes.iter().map(|n| n.sentence.as_str()).collect::<Vec<_>>(),
            [
                "1 contours of fewer than 3 points were left out: they enclose nothing",
                "2 contours of type POINT were left out: they enclose nothing"
            ]
        );
        assert!(rasterize(structure, &grid(), None).is_ok());
    }

    #[test]
    fn damaged_points_and_other_objects_are_refused() {
        for data in [r"0\0\0\1", r"0\0\x\1\1\1", r"0\0\nan\1\1\1", r"0\0\1e999"] {
            let refused = read_structures(&file(vec![contour("CLOSED_PLANAR", data)]));
            assert_eq!(refused, Err(MaskError::Points { structure: 7, contour: 1 }), "{data}");
        }
        let object = DataSet::default().text(tags::SOP_CLASS_UID, sop_class::CT).to_bytes();
        let other = part10::file(&object, sop_class::CT, "1.2.3", syntax::EXPLICIT_LE, None);
        assert_eq!(read_structures(&other), Err(MaskError::NotStructureSet));
        assert_eq!(read_structures(b"").unwrap_err().code(), "dicom.not-dicom");
    }

    /// Changed and cut bytes: structures, masks or errors, never a panic.
    #[test]
    fn no_bytes_make_the_reader_panic() {
        let original = file(vec![contour("CLOSED_PLANAR", TRIANGLE), contour("CLOSED_PLANAR", TRIANGLE)]);
        let mut state = 20261125u64;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize
        };
        let mut read = 0;
        for round in 0..20_000 {
            let mut bytes = original.clone();
            for _ in 0..1 + random() % 4 {
                let at = random() % bytes.len();
                bytes[at] = [0, 0xFF, 0x7F, 0x80, b'9', random() as u8][random() % 6];
            }
            if round % 2 == 0 {
                bytes.truncate(random() % (bytes.len() + 1));
            }
            for structure in read_structures(&bytes).unwrap_or_default() {
                read += 1;
                let _ = rasterize(&structure, &grid(), None);
            }
        }
        assert!(read > 1000, "only {read} structures were still read: the changes are too coarse to test anything");
    }
}
