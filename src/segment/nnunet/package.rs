//! An nnU-Net model as a segmenter package: what its manifest and golden vectors say, and how they are written.

use super::import::ImportError;
use super::recipe::{Label, Recipe, RecipeRow};
use crate::segment::package::{Golden, hex, missing};
use crate::segment::{Backend, Network, SegmentError, engine::golden_input};
use crate::volume::{LabelScheme, Region};
use ndarray::{ArrayD, Axis, IxDyn};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// About so many logits of each network are listed when they are made here.
const GOLDEN_LOGITS: usize = 2000;
/// Of logits between machines; a network that computes something else differs by whole units.
const GOLDEN_TOLERANCE: f32 = 2e-3;
/// Voxels of a golden input: a second of work.
const GOLDEN_VOXELS_MAX: usize = 1 << 21;
const GOLDEN_SEED: u64 = 7;

/// A model to be written as a package.
pub struct Import {
    /// Package id.
    pub id: String,
    /// The model.
    pub recipe: Recipe,
    /// Its networks, ONNX, one per fold.
    pub networks: Vec<Vec<u8>>,
    /// Name of their input.
    pub input: String,
    /// Name of their output.
    pub output: String,
    /// Golden vectors of the exporter; without them they are made here, which cannot find an error of the export.
    pub golden: Option<serde_json::Value>,
    /// Where it comes from, for the manifest.
    pub training: String,
}

#[derive(Serialize)]
struct Manifest {
    schema: &'static str,
    id: String,
    version: &'static str,
    disclaimer: &'static str,
    intended_use: &'static str,
    training: String,
    files: BTreeMap<String, String>,
    io: Io,
    nnunet: RecipeRow,
    quantization: Quantization,
    gate: toml::Table,
}

#[derive(Serialize)]
struct Io {
    input: String,
    output: String,
}

#[derive(Serialize)]
struct Quantization {
    weights: &'static str,
    arithmetic: &'static str,
}

/// `golden.json` of a package with an nnU-Net model.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GoldenRow {
    /// What computed the logits: the exporter's torch, or this program.
    made_by: String,
    /// Channels, then the axes of the patch.
    shape: Vec<usize>,
    seed: u64,
    input: String,
    stride: usize,
    tolerance: f32,
    /// Of each network.
    logits: Vec<Vec<f32>>,
}

/// Name of the file of network `k`.
pub fn network_file(k: usize) -> String {
    if k == 0 { "model.onnx".into() } else { format!("model_{k}.onnx") }
}

/// The files of a package (name -> bytes).
pub fn files(import: Import) -> Result<BTreeMap<String, Vec<u8>>, SegmentError> {
    let golden = match import.golden {
        Some(value) => serde_json::to_vec(&value),
        None => serde_json::to_vec(&make_golden(&import)?),
    };
    let invalid = |e: &dyn std::fmt::Display| SegmentError::PackageInvalid { message: e.to_string() };
    let mut files = BTreeMap::from([("golden.json".to_string(), golden.map_err(|e| invalid(&e))?)]);
    files.extend(import.networks.into_iter().enumerate().map(|(k, onnx)| (network_file(k), onnx)));
    let manifest = Manifest {
        schema: crate::segment::package::SCHEMA,
        id: import.id,
        version: "1.0.0",
        disclaimer: crate::DISCLAIMER,
        intended_use: "As its makers trained it for. metwatch predicts as nnU-Net does; what that is worth on patients it does not know.",
        training: import.training,
        files: files.iter().map(|(name, bytes)| (name.clone(), hex(bytes))).collect(),
        io: Io { input: import.input, output: import.output },
        nnunet: RecipeRow::from(&import.recipe),
        quantization: Quantization { weights: "f32", arithmetic: "f32" },
        gate: gate(),
    };
    let text = toml::to_string(&manifest).map_err(|e| invalid(&e))?;
    files.insert("manifest.toml".into(), text.into_bytes());
    Ok(files)
}

/// The gate's limits where nobody has measured any for the model: those of anatomy and of the scan as for the shipped
/// one, looser ones for what depends on the network.
fn gate() -> toml::Table {
    let limits = [
        ("liver_ml_refuse_under", 400.0),
        ("liver_ml_refuse_over", 4000.0),
        ("liver_ml_note_under", 900.0),
        ("liver_ml_note_over", 2600.0),
        ("entropy_refuse_over", 0.35),
        ("entropy_note_over", 0.2),
        ("fragments_refuse_over", 0.15),
        ("fragments_note_over", 0.03),
        ("liver_hu_refuse_under", 0.0),
        ("liver_hu_refuse_over", 200.0),
        ("liver_hu_note_under", 80.0),
        ("z_extent_mm_refuse_under", 120.0),
        ("cut_refuse_over", 0.4),
        ("cut_note_over", 0.02),
        ("tumor_ml_note_over", 150.0),
        ("between_share_refuse_over", 0.5),
    ];
    limits.into_iter().map(|(name, v)| (name.to_string(), toml::Value::Float(v))).collect()
}

/// Twice the network's whole stride per axis, at most the patch: every layer works, in a second.
fn golden_shape(recipe: &Recipe) -> Vec<usize> {
    let axis = |(a, patch): (usize, &usize)| {
        let stride: usize = recipe.stages.iter().map(|s| s.stride.get(a).copied().unwrap_or(1)).product();
        if recipe.stages.is_empty() { *patch } else { (2 * stride).min(*patch) }
    };
    std::iter::once(recipe.channels.len()).chain(recipe.patch_size.iter().enumerate().map(axis)).collect()
}

fn make_golden(import: &Import) -> Result<GoldenRow, SegmentError> {
    let shape = golden_shape(&import.recipe);
    let mut row = GoldenRow {
        made_by: "metwatch, at import".into(),
        shape: shape.clone(),
        seed: GOLDEN_SEED,
        input: "lcg".into(),
        stride: 1,
        tolerance: GOLDEN_TOLERANCE,
        logits: Vec::new(),
    };
    for onnx in &import.networks {
        let network = Network::load(onnx, &import.input, &import.output)?;
        let logits = network.logits(input(&shape, GOLDEN_SEED)?.view())?;
        row.stride = (logits.len() / GOLDEN_LOGITS).max(1);
        let largest = logits.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        row.tolerance = row.tolerance.max(1e-4 * largest);
        row.logits.push(logits.iter().step_by(row.stride).copied().collect());
    }
    Ok(row)
}

fn input(shape: &[usize], seed: u64) -> Result<ArrayD<f32>, SegmentError> {
    let values = golden_input(seed, shape.iter().product());
    ArrayD::from_shape_vec(IxDyn(shape), values).map_err(|_| SegmentError::Shape)
}

/// Golden vectors of each network, from `golden.json`.
pub fn read_golden(bytes: &[u8], recipe: &Recipe) -> Result<Vec<Golden>, SegmentError> {
    let invalid = |message: String| SegmentError::PackageInvalid { message };
    let row: GoldenRow = serde_json::from_slice(bytes).map_err(|e| invalid(format!("golden.json: {e}")))?;
    let voxels = row.shape.iter().fold(1usize, |n, s| n.saturating_mul(*s));
    // Logits of some hundred need a tolerance of some hundredths; a wrong network is off by the logits themselves.
    let largest = row.logits.iter().flatten().fold(1.0f32, |m, v| m.max(v.abs()));
    let fits = row.input == "lcg"
        && row.stride > 0
        && row.shape.len() == recipe.patch_size.len() + 1
        && row.shape.first() == Some(&recipe.channels.len())
        && (1..=GOLDEN_VOXELS_MAX).contains(&voxels)
        && row.tolerance > 0.0
        && row.tolerance <= 0.01 * largest
        && row.logits.iter().all(|l| !l.is_empty());
    if !fits {
        return Err(invalid("golden.json has a value out of range".into()));
    }
    let shape_zyx = match row.shape[1..] {
        [y, x] => [1, y, x],
        [z, y, x] => [z, y, x],
        _ => return Err(invalid("golden.json has a value out of range".into())),
    };
    let golden =
        |logits: Vec<f32>| Golden { shape_zyx, seed: row.seed, stride: row.stride, tolerance: row.tolerance, logits };
    Ok(row.logits.into_iter().map(golden).collect())
}

/// Loads the networks of a package and checks the golden vectors of each on this machine.
pub fn load(
    recipe: &Recipe,
    networks: &[(&[u8], &Golden)],
    io: [&str; 2],
    wanted: Option<Backend>,
) -> Result<Vec<Network>, SegmentError> {
    let load = |(onnx, golden): &(&[u8], &Golden)| {
        let network = Network::load_wanted(wanted, onnx, io[0], io[1])?;
        let spatial = &golden.shape_zyx[usize::from(recipe.is_2d())..];
        let shape: Vec<usize> = std::iter::once(recipe.channels.len()).chain(spatial.iter().copied()).collect();
        let logits = network.logits(input(&shape, golden.seed)?.view())?;
        let heads = logits.len_of(Axis(0));
        if heads != recipe.heads.count() {
            let message = format!("the network gives {heads} logits, the labels need {}", recipe.heads.count());
            return Err(SegmentError::PackageInvalid { message });
        }
        golden.compare(logits.iter().copied())?;
        Ok(network)
    };
    networks.iter().map(load).collect()
}

/// The networks of a package's files, with their golden vectors, in the order of folds.
pub fn take_networks(
    files: &mut BTreeMap<String, Vec<u8>>,
    goldens: Vec<Golden>,
) -> Result<Vec<(Vec<u8>, Golden)>, SegmentError> {
    let take = |(k, golden)| {
        let name = network_file(k);
        Ok((files.remove(&name).ok_or_else(|| missing(&name))?, golden))
    };
    goldens.into_iter().enumerate().map(take).collect()
}

/// The scheme of those labels that metwatch knows.
pub fn scheme(labels: &[Label]) -> Result<LabelScheme, ImportError> {
    let mut entries: Vec<(u8, Region, String)> = Vec::new();
    for label in labels {
        let Some(region) = label.region else { continue };
        if let Some((value, ..)) = entries.iter().find(|(_, known, _)| *known == region) {
            return Err(ImportError::Mismatch(format!(
                "the labels {value} and {} are both the {}",
                label.value,
                region.title()
            )));
        }
        entries.push((label.value, region, region.snomed().into()));
    }
    entries.sort_by_key(|(value, ..)| *value);
    Ok(LabelScheme { entries })
}
