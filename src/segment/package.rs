//! A segmenter package: manifest, hashes, plan, gate limits. Bytes in, values out; folders are read elsewhere.

use super::{SegmentError, gate::Limits};
use crate::volume::{LabelScheme, Region};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The manifest schema that this program reads.
const SCHEMA: &str = "metwatch.segmenter/1";
/// Golden vectors are checked at every load: 2^20 voxels are a second of work.
const GOLDEN_VOXELS_MAX: usize = 1 << 20;
/// Logits differ by 1e-5 between machines; a larger tolerance than this would hide a wrong network.
const GOLDEN_TOLERANCE_MAX: f32 = 0.05;

/// How a volume becomes the network's input.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Spacing of the network's grid along x, y, z (axis-aligned LPS).
    pub spacing_mm: [f64; 3],
    /// Each axis of the input is padded to a multiple of this.
    pub pad_multiple: usize,
    /// HU are clipped to this range ...
    pub clip_hu: [f32; 2],
    /// ... then this is subtracted ...
    pub center_hu: f32,
    /// ... and the rest divided by this.
    pub scale_hu: f32,
}

/// The golden vectors: a seeded input and some of the logits that the network must give for it.
#[derive(Debug, Clone)]
pub struct Golden {
    /// Shape of the input (z, y, x).
    pub shape_zyx: [usize; 3],
    /// Seed of the input.
    pub seed: u64,
    /// Every `stride`-th logit is listed.
    pub stride: usize,
    /// Largest allowed difference.
    pub tolerance: f32,
    /// Expected logits.
    pub logits: Vec<f32>,
}

/// A segmenter package whose files match their hashes.
#[derive(Debug, Clone)]
pub struct Package {
    /// Package id.
    pub id: String,
    /// Package version.
    pub version: String,
    /// SHA-256 of the manifest, which names every other file by hash.
    pub sha256: String,
    /// What it may be used for.
    pub intended_use: String,
    /// What it was trained on.
    pub training: String,
    /// The network, ONNX.
    pub onnx: Vec<u8>,
    /// Name of the network's input.
    pub input: String,
    /// Name of the network's output (logits).
    pub output: String,
    /// How a volume becomes the input.
    pub plan: Plan,
    /// What the output's classes mean; class 0 is background.
    pub scheme: LabelScheme,
    /// Arithmetic and weights, for results.
    pub quantization: String,
    /// Whether the manifest promises integer arithmetic.
    pub is_int8: bool,
    /// Limits of the quality gate.
    pub limits: Limits,
    /// Measured figures, name -> value.
    pub metrics: BTreeMap<String, f64>,
    /// Golden vectors.
    pub golden: Golden,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    schema: String,
    id: String,
    version: String,
    disclaimer: String,
    intended_use: String,
    training: String,
    files: BTreeMap<String, String>,
    io: Io,
    plan: PlanRow,
    quantization: Quantization,
    labels: Vec<LabelRow>,
    gate: GateRow,
    #[serde(default)]
    metrics: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Io {
    input: String,
    output: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanRow {
    spacing_mm: [f64; 3],
    pad_multiple: usize,
    clip_hu: [f32; 2],
    center_hu: f32,
    scale_hu: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Quantization {
    weights: String,
    /// `f32`, or `int8` where activations are quantized as well.
    arithmetic: String,
    /// How the ranges of activations were found; for people.
    #[serde(default, rename = "calibration")]
    _calibration: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelRow {
    value: u8,
    region: String,
    snomed: String,
}

/// [`Limits`] as the manifest spells them; every key is required.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GateRow {
    liver_ml_refuse_under: f64,
    liver_ml_refuse_over: f64,
    liver_ml_note_under: f64,
    liver_ml_note_over: f64,
    entropy_refuse_over: f64,
    entropy_note_over: f64,
    fragments_refuse_over: f64,
    fragments_note_over: f64,
    liver_hu_refuse_under: f64,
    liver_hu_refuse_over: f64,
    liver_hu_note_under: f64,
    z_extent_mm_refuse_under: f64,
    cut_refuse_over: f64,
    cut_note_over: f64,
    tumor_ml_note_over: f64,
    between_share_refuse_over: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GoldenRow {
    shape_zyx: [usize; 3],
    seed: u64,
    input: String,
    stride: usize,
    tolerance: f32,
    logits: Vec<f32>,
}

impl Package {
    /// Reads a package from its files (name -> bytes) and checks every hash.
    pub fn from_files(mut files: BTreeMap<String, Vec<u8>>) -> Result<Package, SegmentError> {
        let manifest_bytes = files.remove("manifest.toml").ok_or_else(|| missing("manifest.toml"))?;
        let text = std::str::from_utf8(&manifest_bytes).map_err(|e| invalid(e.to_string()))?;
        let m: Manifest = toml::from_str(text).map_err(|e| invalid(e.to_string()))?;
        if m.schema != SCHEMA {
            return Err(invalid(format!("schema is {:?}, this program reads {SCHEMA:?}", m.schema)));
        }
        if m.disclaimer != crate::DISCLAIMER {
            return Err(invalid(format!("the disclaimer must read {:?}", crate::DISCLAIMER)));
        }
        for (name, expected) in &m.files {
            let bytes = files.get(name).ok_or_else(|| missing(name))?;
            if &hex(bytes) != expected {
                return Err(SegmentError::HashMismatch { file: name.clone() });
            }
        }
        if let Some(extra) = files.keys().find(|name| !m.files.contains_key(*name)) {
            return Err(invalid(format!("the file {extra} is not named in the manifest")));
        }
        let plan = plan(&m.plan)?;
        let golden: GoldenRow = serde_json::from_slice(files.get("golden.json").ok_or_else(|| missing("golden.json"))?)
            .map_err(|e| invalid(format!("golden.json: {e}")))?;
        check_golden(&golden, plan.pad_multiple)?;
        Ok(Package {
            id: m.id,
            version: m.version,
            sha256: hex(&manifest_bytes),
            intended_use: m.intended_use,
            training: m.training,
            onnx: files.remove("model.onnx").ok_or_else(|| missing("model.onnx"))?,
            input: m.io.input,
            output: m.io.output,
            plan,
            scheme: scheme(&m.labels)?,
            is_int8: m.quantization.arithmetic == "int8",
            quantization: format!("{} weights, {} arithmetic", m.quantization.weights, m.quantization.arithmetic),
            limits: limits(&m.gate)?,
            metrics: m.metrics,
            golden: Golden {
                shape_zyx: golden.shape_zyx,
                seed: golden.seed,
                stride: golden.stride,
                tolerance: golden.tolerance,
                logits: golden.logits,
            },
        })
    }
}

/// Values that make a grid and a finite input (TOML can say `nan` and `inf`).
fn plan(row: &PlanRow) -> Result<Plan, SegmentError> {
    let spacing_fits = row.spacing_mm.iter().all(|s| (0.5..=20.0).contains(s));
    let [low, high] = row.clip_hu;
    let clip_fits = low.is_finite() && high.is_finite() && low < high;
    let scale_fits = row.scale_hu.is_finite() && row.scale_hu > 0.0 && row.center_hu.is_finite();
    if !(spacing_fits && clip_fits && scale_fits && (1..=64).contains(&row.pad_multiple)) {
        return Err(invalid("[plan] has a value out of range".into()));
    }
    Ok(Plan {
        spacing_mm: row.spacing_mm,
        pad_multiple: row.pad_multiple,
        clip_hu: row.clip_hu,
        center_hu: row.center_hu,
        scale_hu: row.scale_hu,
    })
}

/// A golden input that the network can take, and a tolerance that can fail.
fn check_golden(golden: &GoldenRow, multiple: usize) -> Result<(), SegmentError> {
    let shape_fits = golden.shape_zyx.iter().all(|n| *n > 0 && n.is_multiple_of(multiple));
    let cells = golden.shape_zyx.iter().fold(1usize, |n, s| n.saturating_mul(*s));
    let tolerance_fits = golden.tolerance > 0.0 && golden.tolerance <= GOLDEN_TOLERANCE_MAX;
    if golden.input != "lcg"
        || golden.stride == 0
        || !shape_fits
        || cells > GOLDEN_VOXELS_MAX
        || !tolerance_fits
        || golden.logits.is_empty()
    {
        return Err(invalid("golden.json has a value out of range".into()));
    }
    Ok(())
}

/// Limits that are numbers: a NaN would never refuse.
fn limits(row: &GateRow) -> Result<Limits, SegmentError> {
    let limits = Limits {
        liver_ml_refuse_under: row.liver_ml_refuse_under,
        liver_ml_refuse_over: row.liver_ml_refuse_over,
        liver_ml_note_under: row.liver_ml_note_under,
        liver_ml_note_over: row.liver_ml_note_over,
        entropy_refuse_over: row.entropy_refuse_over,
        entropy_note_over: row.entropy_note_over,
        fragments_refuse_over: row.fragments_refuse_over,
        fragments_note_over: row.fragments_note_over,
        liver_hu_refuse_under: row.liver_hu_refuse_under,
        liver_hu_refuse_over: row.liver_hu_refuse_over,
        liver_hu_note_under: row.liver_hu_note_under,
        z_extent_mm_refuse_under: row.z_extent_mm_refuse_under,
        cut_refuse_over: row.cut_refuse_over,
        cut_note_over: row.cut_note_over,
        tumor_ml_note_over: row.tumor_ml_note_over,
        between_share_refuse_over: row.between_share_refuse_over,
    };
    if limits.are_ordered() {
        Ok(limits)
    } else {
        Err(invalid("[gate] has limits that exclude each other or are no numbers".into()))
    }
}

/// Label rows must count 1, 2, 3 ... as the output's classes do.
fn scheme(rows: &[LabelRow]) -> Result<LabelScheme, SegmentError> {
    let mut entries: Vec<(u8, Region, String)> = Vec::new();
    for (k, row) in rows.iter().enumerate() {
        let region =
            Region::from_name(&row.region).ok_or_else(|| invalid(format!("unknown region {:?}", row.region)))?;
        if usize::from(row.value) != k + 1 {
            return Err(invalid(format!("label {:?} has value {}, expected {}", row.region, row.value, k + 1)));
        }
        if entries.iter().any(|(_, known, _)| *known == region) {
            return Err(invalid(format!("the region {:?} has two labels", row.region)));
        }
        entries.push((row.value, region, row.snomed.clone()));
    }
    if !entries.iter().any(|(_, region, _)| *region == Region::Liver) {
        return Err(invalid("no label for the liver".into()));
    }
    Ok(LabelScheme { entries })
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn missing(file: &str) -> SegmentError {
    SegmentError::PackageInvalid { message: format!("the file {file} is missing") }
}

fn invalid(message: String) -> SegmentError {
    SegmentError::PackageInvalid { message }
}
