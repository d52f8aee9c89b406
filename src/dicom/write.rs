//! CT Image objects from a volume: the demo's and the tests' scanner.

use super::data_set::DataSet;
use super::{derive_uid, part10, sop_class, syntax};
use crate::DISCLAIMER;
use crate::volume::Volume;
use dicom_core::VR;
use dicom_dictionary_std::tags;

/// Who the objects of a written series say they are of. `Debug` would print it: it has none.
#[derive(Clone, Default)]
pub struct PatientInfo {
    /// Patient ID.
    pub patient_id: String,
    /// Patient's Name, `Family^Given`.
    pub name: String,
    /// Birth date, YYYYMMDD, or empty.
    pub birth_date: String,
    /// `M`, `F`, `O` or empty.
    pub sex: String,
    /// Accession Number.
    pub accession_number: String,
    /// Study Date, YYYYMMDD, or empty.
    pub study_date: String,
    /// Study Time, HHMMSS, or empty.
    pub study_time: String,
    /// Study Description.
    pub study_description: String,
}

/// One CT Image object per slice, in the order of the volume's slices, as (file name, Part 10 bytes). Stored values are
/// HU + 1024 in 12 bits (-1024 to 3071, rounded). UIDs derive from `seed`, the patient and the slice: the same call gives the
/// same bytes.
pub fn phantom_series(volume: &Volume, patient: &PatientInfo, seed: u64) -> Vec<(String, Vec<u8>)> {
    let ids = Ids::new(patient, seed);
    (0..volume.geometry.size[2])
        .map(|k| {
            let instance = ids.uid(b"instance", k);
            let data_set = slice(volume, patient, &ids, k, &instance).to_bytes();
            (
                format!("CT{:04}.dcm", k + 1),
                part10::file(&data_set, sop_class::CT, &instance, syntax::EXPLICIT_LE, None),
            )
        })
        .collect()
}

struct Ids<'a> {
    seed: [u8; 8],
    patient: &'a PatientInfo,
}

impl<'a> Ids<'a> {
    fn new(patient: &'a PatientInfo, seed: u64) -> Self {
        Self { seed: seed.to_be_bytes(), patient }
    }

    fn uid(&self, what: &[u8], k: usize) -> String {
        let p = self.patient;
        derive_uid(&[
            &self.seed,
            p.patient_id.as_bytes(),
            p.accession_number.as_bytes(),
            what,
            &(k as u64).to_be_bytes(),
        ])
    }
}

fn slice(volume: &Volume, patient: &PatientInfo, ids: &Ids<'_>, k: usize, instance: &str) -> DataSet {
    let g = &volume.geometry;
    let hu = volume.hu.index_axis(ndarray::Axis(0), k);
    let stored: Vec<u16> = hu.iter().map(|v| (v.round().clamp(-1024.0, 3071.0) + 1024.0) as u16).collect();
    let (smallest, largest) = stored.iter().fold((u16::MAX, 0), |(a, b), v| (a.min(*v), b.max(*v)));
    let position = g.position_mm([0.0, 0.0, k as f64]);
    let cosines: Vec<f64> = (0..2).flat_map(|a| (0..3).map(move |row| g.direction[row][a])).collect();
    identity(patient, ids)
        .text(tags::SPECIFIC_CHARACTER_SET, "ISO_IR 192")
        .text(tags::IMAGE_TYPE, "ORIGINAL\\PRIMARY\\AXIAL")
        .text(tags::SOP_CLASS_UID, sop_class::CT)
        .text(tags::SOP_INSTANCE_UID, instance)
        .text(tags::CONTENT_DATE, &patient.study_date)
        .text(tags::CONTENT_TIME, &patient.study_time)
        .text(tags::ACQUISITION_DATE, &patient.study_date)
        .text(tags::ACQUISITION_TIME, &patient.study_time)
        .text(tags::MODALITY, "CT")
        .text(tags::MANUFACTURER, "metwatch")
        .text(tags::MANUFACTURER_MODEL_NAME, "phantom")
        .text(tags::DEVICE_SERIAL_NUMBER, "0")
        .text(tags::SOFTWARE_VERSIONS, env!("CARGO_PKG_VERSION"))
        .text(tags::SERIES_DESCRIPTION, &format!("Phantom, {DISCLAIMER}"))
        .text(tags::BODY_PART_EXAMINED, "ABDOMEN")
        .text(tags::PATIENT_POSITION, "HFS")
        .decimals(tags::SLICE_THICKNESS, &[g.spacing_mm[2]])
        .decimals(tags::KVP, &[120.0])
        .text(tags::CONVOLUTION_KERNEL, "STANDARD")
        .text(tags::SERIES_NUMBER, "2")
        .text(tags::ACQUISITION_NUMBER, "1")
        .text(tags::INSTANCE_NUMBER, &(k + 1).to_string())
        .decimals(tags::IMAGE_POSITION_PATIENT, &position)
        .decimals(tags::IMAGE_ORIENTATION_PATIENT, &cosines)
        .text(tags::FRAME_OF_REFERENCE_UID, &ids.uid(b"frame of reference", 0))
        .text(tags::POSITION_REFERENCE_INDICATOR, "")
        .shorts(tags::SAMPLES_PER_PIXEL, &[1])
        .text(tags::PHOTOMETRIC_INTERPRETATION, "MONOCHROME2")
        .shorts(tags::ROWS, &[g.size[1] as u16])
        .shorts(tags::COLUMNS, &[g.size[0] as u16])
        .decimals(tags::PIXEL_SPACING, &[g.spacing_mm[1], g.spacing_mm[0]])
        .shorts(tags::BITS_ALLOCATED, &[16])
        .shorts(tags::BITS_STORED, &[12])
        .shorts(tags::HIGH_BIT, &[11])
        .shorts(tags::PIXEL_REPRESENTATION, &[0])
        .shorts(tags::SMALLEST_IMAGE_PIXEL_VALUE, &[smallest])
        .shorts(tags::LARGEST_IMAGE_PIXEL_VALUE, &[largest])
        .decimals(tags::WINDOW_CENTER, &[40.0])
        .decimals(tags::WINDOW_WIDTH, &[400.0])
        .decimals(tags::RESCALE_INTERCEPT, &[-1024.0])
        .decimals(tags::RESCALE_SLOPE, &[1.0])
        .text(tags::RESCALE_TYPE, "HU")
        .bytes(tags::PIXEL_DATA, VR::OW, stored.iter().flat_map(|v| v.to_le_bytes()).collect())
}

fn identity(patient: &PatientInfo, ids: &Ids<'_>) -> DataSet {
    DataSet::default()
        .text(tags::STUDY_DATE, &patient.study_date)
        .text(tags::STUDY_TIME, &patient.study_time)
        .text(tags::SERIES_DATE, &patient.study_date)
        .text(tags::SERIES_TIME, &patient.study_time)
        .text(tags::ACCESSION_NUMBER, &patient.accession_number)
        .text(tags::REFERRING_PHYSICIAN_NAME, "")
        .text(tags::STUDY_DESCRIPTION, &patient.study_description)
        .text(tags::PATIENT_NAME, &patient.name)
        .text(tags::PATIENT_ID, &patient.patient_id)
        .text(tags::PATIENT_BIRTH_DATE, &patient.birth_date)
        .text(tags::PATIENT_SEX, &patient.sex)
        .text(tags::STUDY_INSTANCE_UID, &ids.uid(b"study", 0))
        .text(tags::SERIES_INSTANCE_UID, &ids.uid(b"series", 0))
        .text(tags::STUDY_ID, "1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::{assemble_volume, parse_header, plan_series};
    use crate::volume::Geometry;
    use ndarray::Array3;

    fn ramp() -> Volume {
        let geometry = Geometry {
            size: [5, 4, 50],
            spacing_mm: [0.7, 0.8, 2.5],
            origin_mm: [-10.0, -20.0, 1.0 / 3.0],
            direction: Geometry::IDENTITY,
        };
        Volume { hu: Array3::from_shape_fn((50, 4, 5), |(k, j, i)| (k * 20 + j * 5 + i) as f32 - 1000.0), geometry }
    }

    #[test]
    fn a_volume_comes_back_through_its_series() {
        let volume = ramp();
        let patient = PatientInfo { patient_id: "P1".into(), ..Default::default() };
        let files = phantom_series(&volume, &patient, 7);
        assert_eq!(files, phantom_series(&volume, &patient, 7));
        let headers: Vec<_> = files.iter().map(|(_, bytes)| parse_header(bytes).unwrap()).collect();
        let plan = plan_series(&headers).unwrap();
        assert!(plan.refusals.is_empty() && plan.notes.is_empty(), "{:?} {:?}", plan.refusals, plan.notes);
        let made =
            assemble_volume(&plan, &crate::dicom::Decoder::Here, &|i| Ok(files[i].1.clone()), &|_, _| {}).unwrap();
        assert_eq!(made.volume.hu, volume.hu);
        assert_eq!(made.volume.geometry.size, volume.geometry.size);
        assert!((made.volume.geometry.origin_mm[2] - 1.0 / 3.0).abs() < 1e-12);
    }
}
