//! The objects that carry a result into a PACS: their names among a study's artifacts, and what they are made from.

use super::analysis::{FilesError, Models};
use super::features::Features;
use super::result::{AssessmentResult, PackageRef, Remark, ResultV1};
use crate::console::{self, KeyPicture};
use crate::dicom::{
    self, ContributionReport, FeatureReport, Header, PackageReport, Picture, RegionReport, RemarkReport, Report,
    ResultInfo, RiskReport, SegInfo, SeriesPlan,
};
use crate::radiomics;
use crate::risk::ClinicalKey;
use crate::volume::{LabelMap, Region};
use std::collections::BTreeMap;

/// The label map as DICOM SEG.
pub const SEGMENTATION: &str = "segmentation.dcm";
/// The structured report.
pub const MEASUREMENTS: &str = "measurements.dcm";
/// The page as Encapsulated PDF.
pub const REPORT: &str = "report.dcm";
/// The page itself.
pub const PAGE: &str = "report.pdf";
/// Secondary captures are called this, a number from 1 and `.dcm`.
const PICTURE: &str = "picture_";

/// Series numbers of ours: far from what a scanner counts to.
const SERIES_NUMBERS: [(&str, u32); 4] = [(SEGMENTATION, 9001), (MEASUREMENTS, 9002), (PICTURE, 9003), (REPORT, 9004)];

/// Pictures for the page, the most telling first; the first two that exist are shown.
const ON_PAGE: [&str; 6] = [
    "overlay_axial_tumor.png",
    "overlay_axial_liver.png",
    "overlay_coronal_tumor.png",
    "overlay_coronal_liver.png",
    "overlay_axial_center.png",
    "overlay_coronal_center.png",
];

/// Whether an artifact is one of the secondary captures.
pub fn is_picture(name: &str) -> bool {
    name.starts_with(PICTURE) && name.ends_with(".dcm")
}

fn series_number(name: &str) -> u32 {
    SERIES_NUMBERS.iter().find(|(own, _)| *own == name).map_or(9000, |(_, number)| *number)
}

/// The slices that a result is made from, and what makes the UIDs of its objects unique: the same seed and the same result
/// give the same objects again.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The plan of the series.
    pub plan: &'a SeriesPlan,
    /// Such as series UID, revision and time.
    pub seed: &'a str,
}

impl<'a> Source<'a> {
    fn headers(self) -> Vec<&'a Header> {
        self.plan.slices.iter().map(|slice| &slice.header).collect()
    }
}

/// What can be written once the labels are there: the SEG, unless nothing was found, and the key pictures.
pub fn label_objects(
    labels: &LabelMap,
    pictures: &[KeyPicture],
    models: &Models,
    source: Source<'_>,
    created_at: &str,
) -> Result<BTreeMap<String, Vec<u8>>, FilesError> {
    let mut files = BTreeMap::new();
    let package = models.segmenter.package();
    let digits: String = created_at.chars().filter(char::is_ascii_digit).collect();
    let info = SegInfo {
        algorithm: &package.id,
        version: &package.version,
        date: digits.get(..8).unwrap_or_default(),
        time: digits.get(8..14).unwrap_or_default(),
        series_number: series_number(SEGMENTATION),
        uid_seed: source.seed.as_bytes(),
    };
    match dicom::write_seg(labels, source.plan, &info) {
        Ok(seg) => _ = files.insert(SEGMENTATION.into(), seg.bytes),
        // Nothing was found: the result says so, and a SEG needs a frame.
        Err(dicom::SegError::Empty) => {}
        Err(error) => return Err(error.into()),
    }
    let picture = |picture: &KeyPicture| {
        let image = Picture::from_png(&console::picture_title(&picture.name), &picture.png)?;
        let (slice, patient_orientation) = (picture.slice, picture.patient_orientation);
        Ok::<_, dicom::ResultError>(Picture { slice, patient_orientation, ..image })
    };
    let images: Vec<Picture> = pictures.iter().map(picture).collect::<Result<_, _>>()?;
    let report = Report { created_at: created_at.into(), ..Report::default() };
    let headers = source.headers();
    let info = ResultInfo {
        source: &headers,
        report: &report,
        series_number: series_number(PICTURE),
        uid_seed: source.seed.as_bytes(),
    };
    for (index, capture) in dicom::write_captures(&info, &images)?.into_iter().enumerate() {
        files.insert(format!("{PICTURE}{}.dcm", index + 1), capture.bytes);
    }
    Ok(files)
}

/// The files of a revision that [`result_objects`] looks at.
pub fn looked_at() -> impl Iterator<Item = &'static str> {
    ON_PAGE.into_iter().chain([SEGMENTATION, MEASUREMENTS])
}

/// What says the whole result: the page and, where the source was DICOM, the structured report and the page as an object.
/// `files`: what [`label_objects`] and [`console::key_pictures`] made for this revision, by name, and the structured report
/// that this one takes the place of, if there is one; see [`looked_at`].
pub fn result_objects(
    result: &ResultV1,
    features: &Features,
    models: &Models,
    source: Option<Source<'_>>,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<BTreeMap<String, Vec<u8>>, FilesError> {
    let picture = |name: &str| Some(Picture::from_png(&console::picture_title(name), files.get(name)?));
    let pictures: Vec<Picture> = ON_PAGE.into_iter().filter_map(picture).collect::<Result<_, _>>()?;
    let report = &report(result, features, models);
    let headers = source.map_or(Vec::new(), |s| s.headers());
    let page = dicom::write_page(report, &headers, &pictures)?;
    let mut objects = BTreeMap::new();
    if let Some(source) = source {
        let info = |name| ResultInfo {
            source: &headers,
            report,
            series_number: series_number(name),
            uid_seed: source.seed.as_bytes(),
        };
        let [segmentation, earlier] = [SEGMENTATION, MEASUREMENTS].map(|name| files.get(name).map(Vec::as_slice));
        objects.insert(MEASUREMENTS.into(), dicom::write_sr(&info(MEASUREMENTS), segmentation, earlier)?.bytes);
        objects.insert(REPORT.into(), dicom::write_document(&info(REPORT), &page)?.bytes);
    }
    objects.insert(PAGE.into(), page);
    Ok(objects)
}

fn report(result: &ResultV1, features: &Features, models: &Models) -> Report {
    let known = |key: &ClinicalKey| Some((*key, *result.clinical.get(key.name())?));
    let risk = result.assessment.as_ref().map(|a| {
        let variant = models.nomogram.variants.iter().find(|v| v.name == a.variant);
        RiskReport { cut_offs: variant.map(|v| [v.intermediate_from, v.high_from]), ..risk_report(a) }
    });
    Report {
        created_at: result.created_at.clone(),
        study: result.study.clone().unwrap_or_default(),
        revision: result.revision,
        device: dicom::DeviceReport::default(),
        regions: regions(result, features),
        risk,
        reasons: remarks(&result.reasons),
        notes: remarks(&result.notes),
        known: ClinicalKey::ALL.iter().filter_map(known).collect(),
        missing: result.clinical_missing.iter().filter_map(|name| ClinicalKey::from_name(name)).collect(),
        segmenter: package(&result.segmenter),
        nomogram: package(&result.nomogram),
        radiomics_settings_sha256: result.radiomics_settings_sha256.clone(),
        backend: result.backend.clone(),
    }
}

fn regions(result: &ResultV1, features: &Features) -> Vec<RegionReport> {
    let feature = |(name, value): &(String, f64)| {
        let (unit, ibsi) = radiomics::unit_and_ibsi(name).unwrap_or_default();
        FeatureReport { name: name.clone(), value: *value, unit: unit.into(), ibsi: ibsi.map(Into::into) }
    };
    let of_region = |name: &str| features.regions.get(name).map_or(Vec::new(), |f| f.iter().map(feature).collect());
    let found = result.regions.iter().filter_map(|r| Some((r, Region::from_name(&r.region)?)));
    found
        .map(|(r, region)| RegionReport {
            region,
            snomed: r.snomed.clone(),
            n_voxels: r.n_voxels,
            volume_ml: r.volume_ml,
            color: console::region_color(region),
            features: of_region(&r.region),
        })
        .collect()
}

fn risk_report(a: &AssessmentResult) -> RiskReport {
    let part = |c: &super::ContributionResult| ContributionReport {
        predictor: c.predictor.clone(),
        label: c.label.clone(),
        value: c.value.clone(),
        log_odds: c.shap,
    };
    RiskReport {
        probability: a.probability,
        linear_predictor: a.linear_predictor,
        points: a.points,
        points_max: a.points_max,
        group: a.group.clone(),
        cut_offs: None,
        variant: a.variant.clone(),
        certainty: a.certainty.clone(),
        horizon_months: a.horizon_months,
        survival: a.survival.clone(),
        contributions: a.contributions.iter().map(part).collect(),
    }
}

fn remarks(remarks: &[Remark]) -> Vec<RemarkReport> {
    let remark =
        |r: &Remark| RemarkReport { code: r.code.clone(), sentence: r.sentence.clone(), advice: r.advice.clone() };
    remarks.iter().map(remark).collect()
}

fn package(package: &PackageRef) -> PackageReport {
    PackageReport { id: package.id.clone(), version: package.version.clone(), sha256: package.sha256.clone() }
}
