//! `result.json`: what the box found about one study, as it leaves the box. Versioned here, beside the code that writes it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The schema that [`ResultV1`] follows.
pub const RESULT_SCHEMA: &str = "metwatch.result/1";

/// Whether the analysis may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The gate found nothing.
    Accepted,
    /// Usable, with remarks that belong to it.
    AcceptedWithNotes,
    /// The gate refused: labels and features are kept, no risk is given.
    Refused,
}

/// A reason or a note: a stable code, a sentence for a person, and what to do where something can be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// Stable code such as `gate.liver-volume`.
    pub code: String,
    /// What was found.
    pub sentence: String,
    /// What to do; empty where nothing can be done.
    pub advice: String,
}

/// One model package, as every result names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageRef {
    /// Package id.
    pub id: String,
    /// Package version.
    pub version: String,
    /// SHA-256 of its manifest, which names all its files by hash.
    pub sha256: String,
}

/// One region that was segmented.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegionResult {
    /// Name as in the package.
    pub region: String,
    /// SNOMED CT code.
    pub snomed: String,
    /// Number of voxels on the source's grid.
    pub n_voxels: usize,
    /// Volume in milliliters.
    pub volume_ml: f64,
}

/// What the image is like, and how sure the network is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityResult {
    /// Contrast phase that blood and liver show: `native`, `arterial`, `portal-venous`, `late` or `unknown`.
    pub phase: String,
    /// Median HU of the liver.
    pub liver_hu: Option<f64>,
    /// Noise of one voxel inside the liver.
    pub noise_hu: Option<f64>,
    /// Distance between slices along the body axis.
    pub slice_spacing_mm: f64,
    /// Region name -> Dice that volumes had on which the network was as sure as here; empty where the package was not calibrated.
    pub expected_dice: BTreeMap<String, f64>,
}

/// One predictor's part in the risk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContributionResult {
    /// Predictor as the nomogram names it.
    pub predictor: String,
    /// The same for people.
    pub label: String,
    /// Its value, with unit.
    pub value: String,
    /// Nomogram points (0 to 100 for the strongest predictor's range).
    pub points: f64,
    /// SHAP value on the scale of the linear predictor: coefficient times distance from the training mean.
    pub shap: f64,
}

/// The risk, where one may be given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AssessmentResult {
    /// Probability of metachronous liver metastasis, 0 to 1.
    pub probability: f64,
    /// Log odds, or the log hazard of a Cox package.
    pub linear_predictor: f64,
    /// Total nomogram points.
    pub points: f64,
    /// Total points of a patient at the worse end of every axis.
    pub points_max: f64,
    /// Risk group: `low`, `intermediate` or `high`.
    pub group: String,
    /// Which variant of the nomogram, by what is known.
    pub variant: String,
    /// `provisional` or `final`.
    pub certainty: String,
    /// Months to which `probability` refers.
    pub horizon_months: u32,
    /// (month, probability of being free of metastasis).
    pub survival: Vec<(u32, f64)>,
    /// What each predictor adds.
    pub contributions: Vec<ContributionResult>,
}

/// What the box found about one study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultV1 {
    /// [`RESULT_SCHEMA`].
    pub schema: String,
    /// [`crate::DISCLAIMER`].
    pub disclaimer: String,
    /// Box-local study number; absent outside the service.
    pub study: Option<String>,
    /// 1, or more when slices or clinical values came later.
    pub revision: u32,
    /// When it was computed (RFC 3339, UTC).
    pub created_at: String,
    /// Program and version.
    pub software: String,
    /// Whether it may be used.
    pub status: Status,
    /// Why it was refused; empty unless `status` is `refused`.
    pub reasons: Vec<Remark>,
    /// Remarks that belong to the result.
    pub notes: Vec<Remark>,
    /// Columns, rows, slices of the analysed volume.
    pub size_xyz: [usize; 3],
    /// Voxel spacing along x, y, z.
    pub spacing_mm: [f64; 3],
    /// What was segmented.
    pub regions: Vec<RegionResult>,
    /// What the image is like; absent in results of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<QualityResult>,
    /// The risk; `null` when the study was refused.
    pub assessment: Option<AssessmentResult>,
    /// Clinical values that are known; yes is 1, no is 0. The unit is in the name.
    pub clinical: BTreeMap<String, f64>,
    /// Clinical predictors that nobody has told yet.
    pub clinical_missing: Vec<String>,
    /// How many times clinical values came for this patient before this result; 0 for never.
    pub clinical_revision: u32,
    /// The network.
    pub segmenter: PackageRef,
    /// The nomogram.
    pub nomogram: PackageRef,
    /// SHA-256 of the radiomics settings.
    pub radiomics_settings_sha256: String,
    /// What computed it: backend, arithmetic, instruction sets.
    pub backend: String,
    /// Milliseconds per step, in order.
    pub steps_ms: Vec<(String, f64)>,
}

impl ResultV1 {
    /// Indented JSON, as written to `result.json`.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a struct of plain values always serializes")
    }

    /// Reads what [`ResultV1::to_json`] wrote.
    pub fn from_json(text: &str) -> Result<ResultV1, serde_json::Error> {
        serde_json::from_str(text)
    }
}
