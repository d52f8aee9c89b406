//! Labels that a person made: NIfTI, NRRD (also 3D Slicer's .seg.nrrd), DICOM SEG and RT Structure Sets, on the grid of a scan.

use super::{Failure, read_file};
use crate::Explain;
use crate::dicom::{self, Identifier};
use crate::volume::{Geometry, Image, LabelMap, LabelScheme, Region, decode_channel};
use ndarray::Array3;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How a command takes labels.
#[derive(clap::Args)]
pub struct Mapping {
    /// What a value or a segment's name means, such as 5=liver or "GTV-1=colorectal_tumor"; may be repeated. Without it values are
    /// those of the model's own label map, and names are those of regions
    #[arg(long = "label", value_name = "VALUE_OR_NAME=REGION", value_parser = parse_pair)]
    pairs: Vec<(String, Region)>,
}

fn parse_pair(text: &str) -> Result<(String, Region), String> {
    let (name, region) = text.rsplit_once('=').ok_or("write VALUE=REGION, such as 5=liver")?;
    let known = || Region::all().map(Region::name).collect::<Vec<_>>().join(", ");
    let region = Region::from_name(region).ok_or_else(|| format!("{region} is no region; they are {}", known()))?;
    Ok((name.trim().to_string(), region))
}

/// Labels that cannot be used.
#[derive(Debug, thiserror::Error)]
enum LabelsError {
    #[error("the labels hold {}, which stand for no region", .0.join(", "))]
    Unknown(Vec<String>),
    #[error(
        "the labels do not lie on this scan: {on_file_ml:.1} mL in the file, {on_scan_ml:.1} mL of them on the scan"
    )]
    Elsewhere { on_file_ml: f64, on_scan_ml: f64 },
    #[error("the labels are empty")]
    Empty,
    #[error("the DICOM object is neither a Segmentation nor an RT Structure Set")]
    Kind,
}

impl Explain for LabelsError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "labels.unknown",
            Self::Elsewhere { .. } => "labels.elsewhere",
            Self::Empty => "labels.empty",
            Self::Kind => "labels.kind",
        }
    }
    fn advice(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "say what each means by --label VALUE_OR_NAME=REGION",
            Self::Elsewhere { .. } => "export the labels in the geometry of this study's scan",
            Self::Empty => "give labels with at least one region",
            Self::Kind => "give a NIfTI, an NRRD, a SEG or an RTSTRUCT file",
        }
    }
}

/// A file of labels and its SHA-256.
pub struct LabelFile {
    path: PathBuf,
    bytes: Vec<u8>,
    /// SHA-256 of the bytes.
    pub sha256: String,
}

impl LabelFile {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<LabelFile, Failure> {
        let bytes = read_file(path)?;
        let sha256 = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        Ok(LabelFile { path: path.into(), bytes, sha256 })
    }

    /// The file's name without its folder.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The labels on a scan's grid, with the values of `scheme`. `frame_of_reference`: of the scan, where it came as DICOM.
    pub fn on_scan(
        &self,
        mapping: &Mapping,
        grid: &Geometry,
        frame_of_reference: Option<&Identifier>,
        scheme: &LabelScheme,
    ) -> Result<LabelMap, Failure> {
        let mut parts = if self.bytes.get(128..132) == Some(b"DICM") {
            self.of_dicom(mapping, grid, frame_of_reference)?
        } else {
            self.of_image(mapping, grid, scheme)?
        };
        if parts.is_empty() {
            return Err(LabelsError::Empty.into());
        }
        // A lesion lies in the liver and a tumor in the colon: where segments overlap, the more special one is the label.
        parts.sort_by_key(|(region, _)| match region {
            Region::LiverLesion | Region::ColorectalTumor => 2,
            Region::Liver | Region::Colon => 1,
            _ => 0,
        });
        let mut labels = Array3::<u8>::zeros(grid.shape_zyx());
        for (region, mask) in &parts {
            // Regions that the model does not have are not what the study is about.
            let Some(value) = scheme.value_of(*region) else { continue };
            ndarray::Zip::from(&mut labels).and(mask).for_each(|label, inside| {
                if *inside {
                    *label = value;
                }
            });
        }
        Ok(LabelMap { labels, geometry: grid.clone(), scheme: scheme.clone() })
    }

    fn of_dicom(
        &self,
        mapping: &Mapping,
        grid: &Geometry,
        frame_of_reference: Option<&Identifier>,
    ) -> Result<Vec<(Region, Array3<bool>)>, Failure> {
        let class = dicom::parse_header(&self.bytes).map(|h| h.sop_class_uid.as_str().to_string()).unwrap_or_default();
        let mut unknown = Vec::new();
        let mut region = |number: String, name: &str| {
            let found = mapping.region(&[&number, name.trim()]).or_else(|| by_name(name));
            if found.is_none() {
                unknown.push(format!("{number} \"{name}\""));
            }
            found
        };
        let mut parts = Vec::new();
        match class.as_str() {
            dicom::sop_class::SEGMENTATION | dicom::sop_class::LABEL_MAP_SEGMENTATION => {
                for segment in dicom::read_seg(&self.bytes, grid, frame_of_reference)? {
                    let region = region(segment.number.to_string(), &segment.label);
                    parts.extend(region.map(|region| (region, segment.mask)));
                }
            }
            dicom::sop_class::RT_STRUCTURE_SET => {
                for structure in dicom::read_structures(&self.bytes)? {
                    if let Some(region) = region(structure.number.to_string(), &structure.name) {
                        parts.push((region, dicom::rasterize(&structure, grid, frame_of_reference)?));
                    }
                }
                // A plan holds more structures than the question: those that no name claims are left out, if any is known.
                if !parts.is_empty() {
                    unknown.clear();
                }
            }
            _ => return Err(LabelsError::Kind.into()),
        }
        if unknown.is_empty() { Ok(parts) } else { Err(LabelsError::Unknown(unknown).into()) }
    }

    fn of_image(
        &self,
        mapping: &Mapping,
        grid: &Geometry,
        scheme: &LabelScheme,
    ) -> Result<Vec<(Region, Array3<bool>)>, Failure> {
        let named = slicer_segments(&self.bytes);
        let layers = named.iter().map(|segment| segment.layer + 1).max().unwrap_or(1);
        let mut parts: BTreeMap<Region, Array3<bool>> = BTreeMap::new();
        let mut unknown = Vec::new();
        for layer in 0..layers {
            let image = decode_channel(&self.bytes, layer)?;
            let values = on_grid(&image, grid)?;
            let mut present = [false; 256];
            values.iter().for_each(|value| present[usize::from(*value)] = true);
            for value in (1..=u8::MAX).filter(|value| present[usize::from(*value)]) {
                let segment = named.iter().find(|s| s.layer == layer && s.value == value);
                let name = segment.map_or("", |s| s.name.as_str());
                let number = value.to_string();
                let region = mapping.region(&[&number, name]).or_else(|| by_name(name));
                let region = region.or_else(|| scheme.region_of(value).filter(|_| mapping.pairs.is_empty()));
                let Some(region) = region else {
                    unknown.push(if name.is_empty() { number } else { format!("{number} \"{name}\"") });
                    continue;
                };
                let mask = values.mapv(|v| v == value);
                match parts.get_mut(&region) {
                    Some(known) => known.zip_mut_with(&mask, |a, b| *a |= b),
                    None => _ = parts.insert(region, mask),
                }
            }
        }
        if unknown.is_empty() { Ok(parts.into_iter().collect()) } else { Err(LabelsError::Unknown(unknown).into()) }
    }
}

impl Mapping {
    fn region(&self, names: &[&str]) -> Option<Region> {
        self.pairs.iter().find(|(from, _)| !from.is_empty() && names.contains(&from.as_str())).map(|(_, to)| *to)
    }
}

/// A region by its name or title, in any case, with spaces for underscores.
fn by_name(name: &str) -> Option<Region> {
    let plain = |text: &str| text.trim().to_lowercase().replace([' ', '-'], "_").replace("tumour", "tumor");
    let name = plain(name);
    Region::all().find(|region| name == region.name() || name == plain(region.title()))
}

/// A segment that 3D Slicer describes in the header of its .seg.nrrd.
struct SlicerSegment {
    name: String,
    value: u8,
    layer: usize,
}

fn slicer_segments(bytes: &[u8]) -> Vec<SlicerSegment> {
    if !bytes.starts_with(b"NRRD") {
        return Vec::new();
    }
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(0).min(1 << 20);
    let header = String::from_utf8_lossy(&bytes[..end]);
    let fields: BTreeMap<&str, &str> =
        header.lines().filter_map(|line| line.split_once(":=")).map(|(key, value)| (key, value.trim())).collect();
    let field = |index: usize, key: &str| fields.get(format!("Segment{index}_{key}").as_str()).copied();
    (0..usize::from(u8::MAX))
        .map_while(|index| {
            Some(SlicerSegment {
                name: field(index, "Name")?.to_string(),
                value: field(index, "LabelValue").and_then(|v| v.parse().ok()).unwrap_or(1),
                layer: field(index, "Layer").and_then(|v| v.parse().ok()).unwrap_or(0),
            })
        })
        .collect()
}

/// Label values on another grid, the nearest voxel's: files of editors are turned, mirrored or cropped, seldom resampled.
fn on_grid(image: &Image, grid: &Geometry) -> Result<Array3<u8>, Failure> {
    let values = image.to_labels()?;
    if image.geometry == *grid {
        return Ok(values);
    }
    let from = &image.geometry;
    let labels = Array3::from_shape_fn(grid.shape_zyx(), |(z, y, x)| {
        let at = from.index_of(grid.position_mm([x as f64, y as f64, z as f64])).map(f64::round);
        let inside = (0..3).all(|a| at[a] >= 0.0 && at[a] < from.size[a] as f64);
        if inside { values[[at[2] as usize, at[1] as usize, at[0] as usize]] } else { 0 }
    });
    let ml =
        |labels: &Array3<u8>, g: &Geometry| labels.iter().filter(|v| **v != 0).count() as f64 * g.voxel_mm3() / 1000.0;
    let (on_file_ml, on_scan_ml) = (ml(&values, from), ml(&labels, grid));
    // Another voxel size changes a volume by a few percent; less than nine tenths of it means another place.
    if on_scan_ml < 0.9 * on_file_ml {
        return Err(LabelsError::Elsewhere { on_file_ml, on_scan_ml }.into());
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::{Voxels, encode_nifti, encode_nrrd};

    fn grid() -> Geometry {
        Geometry {
            size: [6, 5, 4],
            spacing_mm: [1.0, 1.0, 2.0],
            origin_mm: [10.0, 0.0, 0.0],
            direction: Geometry::IDENTITY,
        }
    }

    fn scheme() -> LabelScheme {
        let entry = |value, region: Region| (value, region, region.snomed().to_string());
        LabelScheme { entries: vec![entry(1, Region::Liver), entry(2, Region::Spleen)] }.with_targets()
    }

    fn file(bytes: Vec<u8>) -> LabelFile {
        LabelFile { path: "edited.nii.gz".into(), bytes, sha256: String::new() }
    }

    fn mapping(pairs: &[&str]) -> Mapping {
        Mapping { pairs: pairs.iter().map(|pair| parse_pair(pair).unwrap()).collect() }
    }

    fn drawn() -> Array3<u8> {
        let mut labels = Array3::zeros(grid().shape_zyx());
        labels[[1, 2, 3]] = 1;
        labels[[1, 2, 4]] = 3; // a lesion in the extended scheme
        labels
    }

    #[test]
    fn values_mean_what_the_scheme_says_or_what_the_user_says() {
        let bytes = encode_nifti(drawn().view(), &grid()).unwrap();
        let labels = file(bytes.clone()).on_scan(&mapping(&[]), &grid(), None, &scheme()).unwrap();
        assert_eq!(labels.labels, drawn());
        let mapped =
            file(bytes.clone()).on_scan(&mapping(&["1=colon", "3=colorectal_tumor"]), &grid(), None, &scheme());
        let mapped = mapped.unwrap();
        assert_eq!([mapped.volume_ml(Region::Colon), mapped.volume_ml(Region::Liver)], [0.002, 0.0]);
        // A value that nobody explained is not guessed once the user explains any.
        let error = file(bytes).on_scan(&mapping(&["1=liver"]), &grid(), None, &scheme()).unwrap_err();
        assert_eq!(error.code(), "labels.unknown");
        assert!(parse_pair("5=liverr").is_err() && parse_pair("5").is_err());
    }

    #[test]
    fn a_turned_grid_is_turned_back_and_another_place_is_refused() {
        // The same voxels, stored from right to left.
        let mut turned = drawn();
        turned.invert_axis(ndarray::Axis(2));
        let mut geometry = grid();
        geometry.direction[0][0] = -1.0;
        geometry.origin_mm[0] = 15.0;
        let bytes = encode_nifti(turned.view(), &geometry).unwrap();
        let labels = file(bytes).on_scan(&mapping(&[]), &grid(), None, &scheme()).unwrap();
        assert_eq!(labels.labels, drawn());
        let away = Geometry { origin_mm: [100.0, 0.0, 0.0], ..grid() };
        let bytes = encode_nifti(drawn().view(), &away).unwrap();
        assert_eq!(
            file(bytes).on_scan(&mapping(&[]), &grid(), None, &scheme()).unwrap_err().code(),
            "labels.elsewhere"
        );
    }

    #[test]
    fn segments_of_slicer_have_names() {
        let image = Image { geometry: grid(), voxels: Voxels::U8(drawn()), dimension: 3 };
        let plain = encode_nrrd(&image).unwrap();
        let end = plain.windows(2).position(|pair| pair == b"\n\n").unwrap() + 1;
        let header = "Segment0_Name:=Colorectal Tumour\nSegment0_LabelValue:=1\nSegment0_Layer:=0\n\
                      Segment1_Name:=Spleen\nSegment1_LabelValue:=3\nSegment1_Layer:=0\n";
        let bytes = [&plain[..end], header.as_bytes(), &plain[end..]].concat();
        let labels = file(bytes).on_scan(&mapping(&[]), &grid(), None, &scheme()).unwrap();
        assert_eq!([labels.volume_ml(Region::ColorectalTumor), labels.volume_ml(Region::Spleen)], [0.002, 0.002]);
        assert_eq!(labels.volume_ml(Region::Liver), 0.0);
    }
}
