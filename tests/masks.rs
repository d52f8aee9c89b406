//! Masks for radiomics out of objects that others made: RT structure sets and segmentations.
#![allow(clippy::disallowed_methods, reason = "tests own files")]

use crate::common::reference;
use metwatch::Explain;
use metwatch::dicom::{Header, Identifier, Segment, parse_header, plan_series, rasterize, read_seg, read_structures};
use metwatch::volume::{Geometry, decode_image};

fn read(path: &str) -> Vec<u8> {
    std::fs::read(reference(path)).unwrap()
}

/// Grid and frame of reference of a folder of CT slices.
fn grid(folder: &str) -> (Geometry, Identifier) {
    let files =
        std::fs::read_dir(reference(folder)).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let headers: Vec<Header> = files.map(|bytes| parse_header(&bytes).unwrap()).collect();
    let plan = plan_series(&headers).unwrap();
    (plan.geometry.clone(), plan.slices[0].header.frame_of_reference_uid.clone())
}

/// The contours of the IBSI phantom give the very voxels of the mask that A. Zwanenburg made of them for the IBSI.
#[test]
fn the_contours_of_the_ibsi_phantom_give_its_mask() {
    let (geometry, frame) = grid("ibsi1/ct_phantom/dicom/image");
    let structures = read_structures(&read("ibsi1/ct_phantom/dicom/mask/DCM_RS_00060.dcm")).unwrap();
    assert_eq!(structures.len(), 1);
    let gtv = &structures[0];
    assert_eq!((gtv.number, gtv.name.as_str(), gtv.contours.len()), (1, "GTV-1", 26));
    assert!(gtv.notes.is_empty());
    let mask = rasterize(gtv, &geometry, Some(&frame)).unwrap();
    let theirs = decode_image(&read("ibsi1/ct_phantom/nifti/mask/mask.nii.gz")).unwrap();
    let theirs_labels = theirs.to_labels().unwrap();
    assert_eq!(mask.dim(), theirs_labels.dim());
    assert_eq!(mask.iter().filter(|inside| **inside).count(), 125_256);
    let differing = mask.iter().zip(&theirs_labels).filter(|(ours, theirs)| **ours != (**theirs != 0)).count();
    assert_eq!(differing, 0, "voxels differ");
    // The same on the NIfTI's own grid, whose axes come from its header.
    assert_eq!(rasterize(gtv, &theirs.geometry, None).unwrap(), mask);
}

#[test]
fn points_are_no_structure_and_another_frame_of_reference_is_refused() {
    let structures = read_structures(&read("pydicom/rtstruct.dcm")).unwrap();
    let shown: Vec<_> = structures.iter().map(|s| (s.number, s.name.as_str(), s.interpreted_type.as_str())).collect();
    assert_eq!(shown, [(1, "patient", "EXTERNAL"), (2, "Isocenter 1", "ISOCENTER"), (3, "Isocenter 2", "ISOCENTER")]);
    assert_eq!(structures.iter().map(|s| s.contours.len()).collect::<Vec<_>>(), [3, 0, 0]);
    assert_eq!(structures[1].notes[0].sentence, "1 contours of type POINT were left out: they enclose nothing");
    let (geometry, frame) = grid("ibsi1/ct_phantom/dicom/image");
    let code = |index: usize, frame| rasterize(&structures[index], &geometry, frame).unwrap_err().code();
    assert_eq!(code(0, Some(&frame)), "mask.frame-of-reference");
    assert_eq!(code(0, None), "mask.outside");
    assert_eq!(code(1, None), "mask.no-contours");
    let ct = read_structures(&read("highdicom/ct_image.dcm")).unwrap_err();
    assert_eq!(ct.code(), "mask.not-a-structure-set");
}

fn segments(path: &str, geometry: &Geometry) -> Vec<Segment> {
    read_seg(&read(path), geometry, None).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// SEG objects of dcmqi against the label maps that dcmqi makes of them.
#[test]
fn segmentations_of_dcmqi_give_their_label_maps() {
    // (object, label map, segment that is looked at, its label, its value in the map, voxels)
    let cases = [
        ("liver.dcm", "liver_seg.nrrd", 1, "Liver", 1, 107_098),
        ("partial_overlaps.dcm", "partial_overlaps-1.nrrd", 1, "GREEN", 1, 9_602),
        ("partial_overlaps.dcm", "partial_overlaps-2.nrrd", 2, "ORANGE", 2, 11_888),
        ("partial_overlaps.dcm", "partial_overlaps-3.nrrd", 3, "PURPLE", 3, 10_743),
        ("partial_overlaps.dcm", "partial_overlaps-1.nrrd", 4, "LIGHT_BLUE", 4, 6_693),
        ("partial_overlaps.dcm", "partial_overlaps-1.nrrd", 5, "DARK_BLUE", 5, 4_713),
        ("24x38x3/seg/label.seg", "24x38x3/nrrd/label.nrrd", 1, "Liver", 1, 315),
        ("23x38x3/seg/label.seg", "23x38x3/nrrd/label.nrrd", 1, "Liver", 1, 322),
        ("sparse-labelmap-noppv.dcm", "sparse_labelmap_noppv_seg.nrrd", 1, "Liver", 1, 630),
        ("sparse-labelmap-ppv5.dcm", "sparse_labelmap_ppv5_seg.nrrd", 1, "Liver", 1, 630),
    ];
    for (object, map, number, label, value, voxels) in cases {
        let map = decode_image(&read(&format!("dcmqi/segmentations/{map}"))).unwrap();
        let segments = segments(&format!("dcmqi/segmentations/{object}"), &map.geometry);
        let segment = segments.iter().find(|s| s.number == number).unwrap_or_else(|| panic!("{object}: no {number}"));
        assert_eq!(segment.label, label, "{object}");
        let theirs = map.to_labels().unwrap().mapv(|v| v == value);
        assert_eq!(theirs.iter().filter(|inside| **inside).count(), voxels, "{object}");
        assert!(segment.mask == theirs, "{object}, segment {number}: voxels differ");
    }
}

/// The same liver in other transfer syntaxes, and cropped to 510 x 510 pixels, whose frames are not whole bytes.
#[test]
fn every_transfer_syntax_gives_the_same_mask() {
    let map = decode_image(&read("dcmqi/segmentations/liver_seg.nrrd")).unwrap();
    let theirs = map.to_labels().unwrap().mapv(|v| v == 1);
    for name in ["", "_rle", "_deflate", "_j2k"] {
        for crop in ["", "_nonbyte_aligned"] {
            let segments = segments(&format!("pydicom_data/liver{crop}{name}.dcm"), &map.geometry);
            assert!(segments[0].mask == theirs, "liver{crop}{name}: voxels differ");
        }
    }
    let code = |path: &str| read_seg(&read(path), &map.geometry, None).unwrap_err().code();
    assert_eq!(code("pydicom_data/liver_expb.dcm"), "mask.codec");
    assert_eq!(code("pydicom/liver_1frame.dcm"), "mask.frame-count");
}

/// Voxels per slice by pydicom; the fractional objects at half of 255.
#[test]
fn segmentations_of_highdicom_are_read() {
    let geometry = |size: [usize; 3], spacing: f64, distance: f64, origin_mm: [f64; 3]| Geometry {
        size,
        spacing_mm: [spacing, spacing, distance],
        origin_mm,
        direction: Geometry::IDENTITY,
    };
    let three = geometry([16, 16, 3], 0.488281, 1.25, [-125.0, -128.100006, 103.019997]);
    let per_slice = |segment: &Segment| -> Vec<usize> {
        segment.mask.outer_iter().map(|slice| slice.iter().filter(|inside| **inside).count()).collect()
    };
    for name in ["binary", "binary_fractional", "true_fractional"] {
        let segments = segments(&format!("highdicom/seg_image_ct_{name}.dcm"), &three);
        assert_eq!((segments.len(), segments[0].label.as_str()), (1, "first segment"), "{name}");
        assert_eq!(per_slice(&segments[0]), [127, 256, 255], "{name}");
    }
    // A CT slice and its segmentation, joined by the frame of reference.
    let ct = parse_header(&read("highdicom/ct_image.dcm")).unwrap();
    let one = geometry([128, 128, 1], 0.661468, 5.0, ct.position_mm.unwrap());
    let bytes = read("highdicom/seg_image_ct_binary_single_frame.dcm");
    let segments = read_seg(&bytes, &one, Some(&ct.frame_of_reference_uid)).unwrap();
    assert_eq!(per_slice(&segments[0]), [1832]);
    let code = |bytes: &[u8], frame: Option<&Identifier>| read_seg(bytes, &three, frame).unwrap_err().code();
    assert_eq!(code(&bytes, Some(&"1.2.3".into())), "mask.frame-of-reference");
    assert_eq!(code(&bytes, None), "mask.frame-grid");
    // One of its four slices lies 20 cm below.
    assert_eq!(code(&read("highdicom/seg_image_ct_binary_overlap.dcm"), None), "mask.outside");
    // Microscope slides and projections have no place in the patient.
    for name in ["cr_binary", "sm_control", "sm_control_labelmap", "sm_numbers", "sm_dots"] {
        assert_eq!(code(&read(&format!("highdicom/seg_image_{name}.dcm")), None), "mask.no-position", "{name}");
    }
    assert_eq!(code(&read("highdicom/seg_image_sm_dots_tiled_full.dcm"), None), "mask.frame-count");
    assert_eq!(code(&read("highdicom/ct_image.dcm"), None), "mask.not-a-segmentation");
}

/// Coronal frames whose rows run downward. The object's spacing is wrong (1 mm for 2 mm), which is why the IBSI withdrew it:
/// on a grid of 1 mm it is the mask of the NIfTI, on the NIfTI's own it is refused.
#[test]
fn coronal_frames_of_the_ibsi_digital_phantom_give_its_mask() {
    let theirs = decode_image(&read("ibsi1/digital_phantom/nifti/mask/mask.nii.gz")).unwrap();
    let object = read("ibsi1/digital_phantom/dicom_deprecated/mask/mask.deprecated");
    let geometry = Geometry {
        size: [5, 4, 4],
        spacing_mm: [1.0; 3],
        origin_mm: [0.0; 3],
        direction: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]],
    };
    let segments = read_seg(&object, &geometry, None).unwrap();
    let mask = theirs.to_labels().unwrap().mapv(|v| v != 0);
    assert_eq!(mask.iter().filter(|inside| **inside).count(), 74);
    assert_eq!(segments[0].mask, mask);
    let refused = read_seg(&object, &theirs.geometry, None).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the pixels of frame 1 are not the voxels of the image: they measure 1.0000 x 1.0000 mm, those of the image 2.0000 x 2.0000 mm"
    );
}

/// Changed and cut bytes of real objects: masks or errors, never a panic.
#[test]
fn damaged_objects_do_no_harm() {
    let mut state = 5u64;
    let mut random = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize
    };
    let map = decode_image(&read("dcmqi/segmentations/24x38x3/nrrd/label.nrrd")).unwrap();
    let liver = decode_image(&read("dcmqi/segmentations/liver_seg.nrrd")).unwrap();
    let phantom = grid("ibsi1/ct_phantom/dicom/image").0;
    let cases = [
        ("dcmqi/segmentations/24x38x3/seg/label.seg", &map.geometry, 1000),
        ("dcmqi/segmentations/sparse-labelmap-ppv5.dcm", &map.geometry, 1000),
        ("pydicom/rtstruct.dcm", &phantom, 1000),
        ("ibsi1/ct_phantom/dicom/mask/DCM_RS_00060.dcm", &phantom, 30),
        ("pydicom_data/liver_rle.dcm", &liver.geometry, 60),
        ("pydicom_data/liver_deflate.dcm", &liver.geometry, 60),
        ("pydicom_data/liver_j2k.dcm", &liver.geometry, 60),
    ];
    for (path, geometry, rounds) in cases {
        let original = read(path);
        for round in 0..rounds {
            let mut bytes = original.clone();
            // Most of a file may be pixels or points; half of the changes go to its header.
            let reach = if round % 2 == 0 { bytes.len() } else { bytes.len().min(4000) };
            for _ in 0..1 + random() % 4 {
                let at = random() % reach;
                bytes[at] = [0, 0xFF, 0x7F, 0x80, b'9', random() as u8][random() % 6];
            }
            if round % 3 == 0 {
                bytes.truncate(random() % (bytes.len() + 1));
            }
            let _ = read_seg(&bytes, geometry, None);
            for structure in read_structures(&bytes).unwrap_or_default() {
                let _ = rasterize(&structure, geometry, None);
            }
        }
    }
}
