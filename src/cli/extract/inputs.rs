//! Images and masks from the formats that hospitals and scripts have: NIfTI, NRRD, DICOM series, RT Structure Sets, Segmentations.

use super::{Failure, read_file};
use crate::Explain;
use crate::cli::load_scan;
use crate::dicom::{self, Identifier};
use crate::radiomics::Settings;
use crate::volume::{Image, Voxels, decode_channel, decode_image};
use ndarray::Array3;
use std::path::Path;

/// An image, and the frame of reference that DICOM masks have to share.
pub struct Source {
    pub image: Image,
    frame_of_reference: Option<Identifier>,
}

/// A mask that cannot be used.
#[derive(Debug, thiserror::Error)]
enum MaskChoiceError {
    #[error("the mask has no region {wanted}; it holds {}", present.join(", "))]
    Absent { wanted: String, present: Vec<String> },
    #[error("the mask holds {} regions: {}", present.len(), present.join(", "))]
    Several { present: Vec<String> },
    #[error("{0} chooses by name, which only RT Structure Sets and Segmentations have")]
    NoNames(String),
    #[error("the DICOM object is neither an RT Structure Set nor a Segmentation")]
    Kind,
}

impl Explain for MaskChoiceError {
    fn code(&self) -> &'static str {
        match self {
            Self::Absent { .. } => "mask.absent",
            Self::Several { .. } => "mask.several",
            Self::NoNames(_) => "mask.no-names",
            Self::Kind => "mask.kind",
        }
    }
    fn advice(&self) -> &'static str {
        match self {
            Self::Absent { .. } | Self::Several { .. } => "choose one by --label (its number) or --roi (its name)",
            Self::NoNames(_) => "choose the region by --label",
            Self::Kind => "give an RTSTRUCT, a SEG, a NIfTI or an NRRD file as the mask",
        }
    }
}

/// An image in its stored pixel type; a DICOM series as GDCM reads it: whole Hounsfield units as 32-bit integers.
pub fn image(path: &Path) -> Result<Source, Failure> {
    if !path.is_dir() {
        let bytes = read_file(path)?;
        if !is_dicom(&bytes) {
            return Ok(Source { image: decode_image(&bytes)?, frame_of_reference: None });
        }
    }
    let scan = load_scan(&[path.to_path_buf()], &dicom::SeriesRules::default(), &|_, _| ())?;
    let volume = scan.volume;
    let whole = volume.hu.iter().all(|hu| hu.fract() == 0.0);
    let voxels =
        if whole { Voxels::I32(volume.hu.mapv(|hu| hu as i32)) } else { Voxels::F64(volume.hu.mapv(f64::from)) };
    let frame_of_reference =
        scan.plan.and_then(|plan| Some(plan.slices.first()?.header.frame_of_reference_uid.clone()));
    Ok(Source { image: Image { geometry: volume.geometry, voxels, dimension: 3 }, frame_of_reference })
}

/// A mask as its file holds it; a DICOM object needs the image's grid.
pub enum MaskFile {
    Image(Box<Image>),
    Dicom(Vec<u8>),
}

impl MaskFile {
    /// Reads a file; of a NRRD with channels one.
    pub fn read(path: &Path, channel: usize) -> Result<MaskFile, Failure> {
        let bytes = read_file(path)?;
        Ok(if is_dicom(&bytes) {
            MaskFile::Dicom(bytes)
        } else {
            MaskFile::Image(Box::new(decode_channel(&bytes, channel)?))
        })
    }
}

/// The mask of a region, and the settings with the region's label. In a DICOM object the label is the region's number;
/// without one (`chosen` false) and without a name, the only region is taken.
pub fn mask(
    file: MaskFile,
    source: &Source,
    settings: Settings,
    roi: Option<&str>,
    chosen: bool,
) -> Result<(Image, Settings), Failure> {
    let bytes = match (file, roi) {
        (MaskFile::Image(_), Some(name)) => return Err(MaskChoiceError::NoNames(name.into()).into()),
        (MaskFile::Image(image), None) => return Ok((*image, settings)),
        (MaskFile::Dicom(bytes), _) => bytes,
    };
    let (grid, frame) = (&source.image.geometry, source.frame_of_reference.as_ref());
    let class = dicom::parse_header(&bytes).map(|header| header.sop_class_uid.as_str().to_string()).unwrap_or_default();
    let (number, inside) = match class.as_str() {
        dicom::sop_class::RT_STRUCTURE_SET => {
            let structures = dicom::read_structures(&bytes)?;
            let names = structures.iter().map(|s| (i64::from(s.number), s.name.as_str()));
            let at = choose(&names.collect::<Vec<_>>(), roi, chosen.then_some(settings.label))?;
            (structures[at].number as u32, dicom::rasterize(&structures[at], grid, frame)?)
        }
        dicom::sop_class::SEGMENTATION | dicom::sop_class::LABEL_MAP_SEGMENTATION => {
            let mut segments = dicom::read_seg(&bytes, grid, frame)?;
            let names = segments.iter().map(|s| (i64::from(s.number), s.label.as_str()));
            let at = choose(&names.collect::<Vec<_>>(), roi, chosen.then_some(settings.label))?;
            let segment = segments.swap_remove(at);
            (u32::from(segment.number), segment.mask)
        }
        _ => return Err(MaskChoiceError::Kind.into()),
    };
    // A ROI number 0 is legal, a label 0 is background.
    let label = number.max(1);
    let voxels: Array3<u32> = inside.mapv(|inside| if inside { label } else { 0 });
    Ok((Image { geometry: grid.clone(), voxels: Voxels::U32(voxels), dimension: 3 }, settings.with_label(label)))
}

/// Where the wanted region is among numbers and names.
fn choose(present: &[(i64, &str)], name: Option<&str>, label: Option<u32>) -> Result<usize, MaskChoiceError> {
    let list = || present.iter().map(|(number, name)| format!("{number} \"{name}\"")).collect();
    let found = match (name, label) {
        (Some(name), _) => present.iter().position(|(_, other)| other.trim() == name.trim()),
        (None, Some(label)) => present.iter().position(|(number, _)| *number == i64::from(label)),
        (None, None) if present.len() == 1 => Some(0),
        (None, None) => return Err(MaskChoiceError::Several { present: list() }),
    };
    found.ok_or_else(|| MaskChoiceError::Absent {
        wanted: name.map_or_else(|| label.unwrap_or(0).to_string(), |name| format!("\"{name}\"")),
        present: list(),
    })
}

fn is_dicom(bytes: &[u8]) -> bool {
    bytes.get(128..132) == Some(b"DICM")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_chosen_by_name_number_or_being_alone() {
        let two = [(1, "Liver"), (4, "GTV-1 ")];
        assert_eq!(choose(&two, Some("GTV-1"), Some(1)).unwrap(), 1);
        assert_eq!(choose(&two, None, Some(1)).unwrap(), 0);
        let absent = choose(&two, None, Some(2)).unwrap_err().to_string();
        assert!(absent.contains("1 \"Liver\"") && absent.contains("no region 2"), "{absent}");
        assert!(choose(&two, None, None).is_err());
        assert_eq!(choose(&two[..1], None, None).unwrap(), 0);
    }
}
