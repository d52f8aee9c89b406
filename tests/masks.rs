//! Masks for radiomics out of objects that others made: RT structure sets and segmentations.
#![allow(clippy::disallowed_methods, reason = "tests own files")]

use crate::common::reference;
use metwatch::Explain;
use metwatch::dicom::{Header, Identifier, parse_header, plan_series, rasterize, read_structures};
use metwatch::volume::{Geometry, decode_image};

fn read(path: &str) -> Vec<u8> {
    std::fs::read(reference(path)).unwrap()
}

/// Grid and frame of reference of a folder of CT slices.
fn grid(folder: &str) -> (Geometry, Identifier) {
    let files = std::fs::read_dir(reference(folder)).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
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
