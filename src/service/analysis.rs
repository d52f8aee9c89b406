//! The computation of a study, step by step: labels, features, risk, files. `analyze` and the service share it.

use super::features::Features;
use super::objects::{self, Source};
use super::packages::{PackageReadError, read_package, segmenter_files, shipped_nomogram};
use super::result::{
    AssessmentResult, ContributionResult, PackageRef, QualityResult, RESULT_SCHEMA, RegionResult, Remark, ResultV1,
    Status,
};
use crate::risk::{self, Assessment, ClinicalKey, ClinicalValues, Nomogram, RiskError};
use crate::segment::{self, Backend, Finding, Gate, Package, Segmentation, Segmenter};
use crate::volume::{self, LabelMap, Region, Volume};
use crate::{DISCLAIMER, Explain, console, dicom, radiomics, update};
use std::collections::BTreeMap;
use std::path::Path;

/// Regions whose features are computed.
const MEASURED: [Region; 2] = [Region::Liver, Region::ColorectalTumor];

/// Regions that may carry a risk: of the network's marks those that need no review, of labels that a person supplied or corrected all.
pub fn confirmed(models: &Models, by_person: bool) -> Vec<Region> {
    let for_review = &models.segmenter.package().for_review;
    MEASURED.into_iter().filter(|region| by_person || !for_review.contains(region)).collect()
}

/// The packages that compute a study.
pub struct Models {
    /// The network.
    pub segmenter: Segmenter,
    /// The risk model.
    pub nomogram: Nomogram,
    /// Radiomics settings of the nomogram.
    pub settings: radiomics::Settings,
    /// What computes: backend, arithmetic, instruction sets.
    pub backend: String,
}

/// Why the packages cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// A folder that cannot be read.
    #[error(transparent)]
    Read(#[from] PackageReadError),
    /// The segmenter was refused.
    #[error(transparent)]
    Segmenter(#[from] segment::SegmentError),
    /// A model of something else.
    #[error("the segmenter {id} has no label for the liver, so no risk can be computed from its labels")]
    NoLiver {
        /// Its package id.
        id: String,
    },
    /// The nomogram was refused.
    #[error(transparent)]
    Nomogram(#[from] RiskError),
    /// The nomogram's radiomics settings were refused.
    #[error("the radiomics settings of the nomogram package: {0}")]
    Settings(#[from] radiomics::RadiomicsError),
    /// The slots that say which packages are active.
    #[error(transparent)]
    Slots(#[from] update::UpdateError),
}

impl Explain for ModelsError {
    fn code(&self) -> &'static str {
        match self {
            Self::Read(e) => e.code(),
            Self::Segmenter(e) => e.code(),
            Self::NoLiver { .. } => "package.no-liver",
            Self::Nomogram(e) => e.code(),
            Self::Settings(e) => e.code(),
            Self::Slots(e) => e.code(),
        }
    }
    fn advice(&self) -> &'static str {
        match self {
            Self::Read(e) => e.advice(),
            Self::Segmenter(e) => e.advice(),
            Self::NoLiver { .. } => {
                "use a model that finds the liver; if one of its labels is the liver, import it with --label NAME=liver"
            }
            Self::Nomogram(e) => e.advice(),
            Self::Settings(e) => e.advice(),
            Self::Slots(e) => e.advice(),
        }
    }
}

impl Models {
    /// Loads both packages, from folders or from the binary, hashes and golden vectors checked.
    pub fn load(segmenter: Option<&Path>, nomogram: Option<&Path>) -> Result<Models, ModelsError> {
        Models::of(load_segmenter(segmenter, None)?, load_nomogram(nomogram)?)
    }

    /// Both packages, loaded before.
    pub fn of(segmenter: Segmenter, nomogram: Nomogram) -> Result<Models, ModelsError> {
        if segmenter.scheme().value_of(Region::Liver).is_none() {
            return Err(ModelsError::NoLiver { id: segmenter.package().id.clone() });
        }
        let settings = radiomics::Settings::from_yaml(&nomogram.radiomics.yaml)?;
        let backend = segmenter.backend();
        Ok(Models { segmenter, nomogram, settings, backend })
    }
}

/// Loads a segmenter: a package folder, or the name of one in the binary ([`super::BUILT_IN`]); `None` is the first of those.
pub fn load_segmenter(asked: Option<&Path>, wanted: Option<Backend>) -> Result<Segmenter, ModelsError> {
    Ok(Segmenter::load_on(Package::from_files(segmenter_files(asked)?)?, wanted)?)
}

/// Loads a nomogram; without a folder the one of the binary.
pub fn load_nomogram(folder: Option<&Path>) -> Result<Nomogram, ModelsError> {
    let files = folder.map_or_else(|| Ok(shipped_nomogram()), read_package)?;
    Ok(Nomogram::from_files(&files)?)
}

/// Features of the given regions, and a remark for each that could not be measured.
pub fn measure(
    volume: &Volume,
    labels: &LabelMap,
    settings: &radiomics::Settings,
    regions: &[Region],
) -> (Features, Vec<Remark>) {
    let mut features = Features::default();
    let mut remarks = Vec::new();
    for region in regions {
        let mask = labels.mask(*region);
        if !mask.iter().any(|inside| *inside) {
            continue;
        }
        match radiomics::extract_region(volume, mask.view(), settings) {
            Ok(extraction) => {
                let rows = extraction.features.rows.iter().map(|row| (row.name.clone(), row.value)).collect();
                features.regions.insert(region.name().into(), rows);
            }
            Err(error) => remarks.push(Remark {
                code: error.code().into(),
                sentence: format!("{} was not measured: {error}", region.title()),
                advice: error.advice().into(),
            }),
        }
    }
    (features, remarks)
}

/// What a result is made of besides the features.
pub struct Context<'a> {
    /// The packages.
    pub models: &'a Models,
    /// Box-local study number, in the service.
    pub study: Option<String>,
    /// Revision of the study.
    pub revision: u32,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// Why no risk may be given, from the series rules and the gate.
    pub reasons: Vec<Remark>,
    /// Notes of the series rules, the gate and the measurement.
    pub notes: Vec<Remark>,
    /// The labels.
    pub labels: &'a LabelMap,
    /// Whether a person made or corrected them.
    pub by_person: bool,
    /// What the image is like and how sure the network is.
    pub quality: Option<QualityResult>,
    /// Clinical values and how often they came.
    pub clinical: (ClinicalValues, u32),
    /// Milliseconds per step so far.
    pub steps_ms: Vec<(String, f64)>,
}

/// Computes the risk where it may be computed, and puts the result together.
pub fn score(context: Context<'_>, features: &Features) -> ResultV1 {
    let Context { models, labels, .. } = context;
    let nomogram = &models.nomogram;
    let (mut reasons, mut notes) = (context.reasons, context.notes);
    let lesion_ml = labels.volume_ml(Region::LiverLesion);
    if lesion_ml > 0.0 {
        notes.push(Remark {
            code: "risk.lesions-present".into(),
            sentence: format!("{lesion_ml:.0} mL of the liver look like lesions: a risk of later metastasis does not fit a liver that may have some now"),
            advice: "have the marked lesions read before using the risk".into(),
        });
    }
    let tumor_ml = labels.volume_ml(Region::ColorectalTumor);
    if tumor_ml > 0.0 && !confirmed(models, context.by_person).contains(&Region::ColorectalTumor) {
        notes.push(Remark {
            code: "risk.tumor-unconfirmed".into(),
            sentence: format!("{tumor_ml:.0} mL are marked as colorectal tumor, but nobody has confirmed them: the risk is computed without tumor features"),
            advice: "confirm or correct the mark: `metwatch study reanalyze --labels`".into(),
        });
    }
    let mut assessment = None;
    if reasons.is_empty() {
        match risk::assess(nomogram, |region, name| features.get(region, name), &context.clinical.0) {
            Ok(assessed) => {
                notes.extend(assessed.notes.iter().map(|note| Remark {
                    code: note.code().into(),
                    sentence: note.to_string(),
                    advice: String::new(),
                }));
                assessment = Some(assessment_result(&assessed));
            }
            Err(e) => {
                reasons.push(Remark { code: e.code().into(), sentence: e.to_string(), advice: e.advice().into() })
            }
        }
    }
    let status = match (reasons.is_empty(), notes.is_empty()) {
        (false, _) => Status::Refused,
        (true, true) => Status::Accepted,
        (true, false) => Status::AcceptedWithNotes,
    };
    let known = |key: &ClinicalKey| context.clinical.0.get(*key);
    ResultV1 {
        schema: RESULT_SCHEMA.into(),
        disclaimer: DISCLAIMER.into(),
        study: context.study,
        revision: context.revision,
        created_at: context.created_at,
        software: concat!("metwatch ", env!("CARGO_PKG_VERSION")).into(),
        status,
        reasons,
        notes,
        size_xyz: labels.geometry.size,
        spacing_mm: labels.geometry.spacing_mm,
        regions: regions(labels),
        quality: context.quality,
        assessment,
        clinical: ClinicalKey::ALL.iter().filter_map(|k| Some((k.name().to_string(), known(k)?))).collect(),
        clinical_missing: ClinicalKey::ALL
            .iter()
            .filter(|k| known(k).is_none())
            .map(|k| k.name().to_string())
            .collect(),
        clinical_revision: context.clinical.1,
        segmenter: segmenter_ref(models),
        nomogram: PackageRef {
            id: nomogram.id.clone(),
            version: nomogram.version.clone(),
            sha256: nomogram.manifest_sha256.clone(),
        },
        radiomics_settings_sha256: nomogram.radiomics.sha256.clone(),
        backend: models.backend.clone(),
        steps_ms: context.steps_ms,
    }
}

/// The segmenter as results name it.
pub fn segmenter_ref(models: &Models) -> PackageRef {
    let package = models.segmenter.package();
    PackageRef { id: package.id.clone(), version: package.version.clone(), sha256: package.sha256.clone() }
}

/// Findings as they stand in a result.
pub fn remarks(findings: &[Finding]) -> Vec<Remark> {
    let remark = |f: &Finding| Remark { code: f.code.into(), sentence: f.sentence.clone(), advice: f.advice.into() };
    findings.iter().map(remark).collect()
}

/// The verdict of the series rules, in the gate's terms.
pub fn series_gate(notes: &[dicom::Note], refusals: &[dicom::Note]) -> Gate {
    let finding =
        |advice| move |note: &dicom::Note| Finding { code: note.code, sentence: note.sentence.clone(), advice };
    Gate {
        reasons: refusals.iter().map(finding("send the whole abdomen as the scanner reconstructed it")).collect(),
        notes: notes.iter().map(finding("")).collect(),
    }
}

fn regions(labels: &LabelMap) -> Vec<RegionResult> {
    let entry = |(_, region, snomed): &(u8, Region, String)| RegionResult {
        region: region.name().into(),
        snomed: snomed.clone(),
        n_voxels: labels.mask(*region).iter().filter(|m| **m).count(),
        volume_ml: labels.volume_ml(*region),
    };
    labels.scheme.entries.iter().filter(|(_, region, _)| region.is_target()).map(entry).collect()
}

/// What the gate measured, as it stands in a result.
pub fn quality(segmentation: &Segmentation) -> QualityResult {
    let m = &segmentation.measures;
    let number = |value: f64| value.is_finite().then_some(value);
    let of = |c: &segment::Certainty| Some((c.region.name().to_string(), number(c.expected_dice)?));
    QualityResult {
        phase: m.phase().name().into(),
        liver_hu: number(m.liver_hu),
        noise_hu: number(m.noise_hu),
        slice_spacing_mm: m.slice_spacing_mm,
        expected_dice: m.on_grid.certainty.iter().filter_map(of).collect(),
    }
}

fn assessment_result(a: &Assessment) -> AssessmentResult {
    AssessmentResult {
        probability: a.probability,
        linear_predictor: a.linear_predictor,
        points: a.points.total,
        points_max: a.points.max,
        group: a.group.name().into(),
        variant: a.variant.clone(),
        certainty: a.status.name().into(),
        horizon_months: a.horizon_months,
        survival: a.survival.clone(),
        contributions: a
            .contributions
            .iter()
            .map(|c| ContributionResult {
                predictor: c.predictor.clone(),
                label: c.label.clone(),
                value: match (c.unit.as_str(), c.value) {
                    ("yes/no", value) => if value > 0.5 { "yes" } else { "no" }.into(),
                    (unit, value) => format!("{} {unit}", risk::format_short(value)).trim().to_string(),
                },
                points: c.points,
                shap: c.log_odds,
            })
            .collect(),
    }
}

/// The files of a segmented study, by name: label map, overlay pictures and, where the source was DICOM, the SEG and the
/// pictures as secondary captures.
pub fn label_files(
    volume: &Volume,
    segmentation: &Segmentation,
    models: &Models,
    source: Option<Source<'_>>,
    created_at: &str,
) -> Result<BTreeMap<String, Vec<u8>>, FilesError> {
    let labels = &segmentation.labels.targets();
    let pictures = console::key_pictures(volume, labels);
    let mut files = match source {
        Some(source) => objects::label_objects(labels, &pictures, models, source, created_at)?,
        None => BTreeMap::new(),
    };
    files.extend(pictures.into_iter().map(|picture| (picture.name, picture.png)));
    let all = &segmentation.labels;
    files.insert("labels.nii.gz".into(), volume::encode_nifti(all.labels.view(), &all.geometry)?);
    Ok(files)
}

/// Why a file of the result could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The label map.
    #[error("writing the label map: {0}")]
    Labels(#[from] volume::CodecError),
    /// The DICOM SEG.
    #[error("writing the DICOM SEG: {0}")]
    Seg(#[from] dicom::SegError),
    /// The structured report, a picture or the page.
    #[error("writing the report: {0}")]
    Report(#[from] dicom::ResultError),
}

impl Explain for FilesError {
    fn code(&self) -> &'static str {
        match self {
            Self::Labels(e) => e.code(),
            Self::Seg(e) => e.code(),
            Self::Report(e) => e.code(),
        }
    }
    fn advice(&self) -> &'static str {
        match self {
            Self::Labels(e) => e.advice(),
            Self::Seg(e) => e.advice(),
            Self::Report(e) => e.advice(),
        }
    }
}
