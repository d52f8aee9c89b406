//! An int8 package from an f32 one: ranges of activations from volumes, the network rewritten, and what that costs in Dice.
//!
//! Weights are symmetric i8 per output channel. Activations have 7 bits (bytes 0 to 127, with a zero point): then products of pairs stay
//! within 16 bits, so that AVX2 needs one multiplication and all processors give the same integers at their full speed. The network's input
//! alone has 8 bits: it is one thin layer, and 127 steps of 4 HU would show. The result is ONNX in the QDQ form with a Clip where the upper
//! half of the bytes is not used, so onnxruntime computes the same.

mod loss;
mod write;

pub use loss::{Figures, Row, judge, metrics};

use super::int8::{self, IntegerNet, Isa};
use super::net::graph::{Graph, Operator, ValueId};
use super::net::{NetError, onnx};
use super::{Grid, GridPlan, Package, Plan, SegmentError, engine::golden_input};
use crate::Explain;
use crate::volume::Volume;
use ndarray::{Array3, ArrayD, Axis, IxDyn, s};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Values of an activation that one volume contributes at most.
const SAMPLES_PER_VOLUME: usize = 1 << 16;
/// More volumes than this add time and nothing else (8 were enough, `model.md` section 6).
pub const VOLUMES_MAX: usize = 64;
/// Of a larger grid the middle is taken.
const CALIBRATION_VOXELS_MAX: usize = 1 << 20;
/// Largest byte of an activation, and of the network's input.
const LEVELS: [u8; 2] = [127, 255];
/// The share of an activation's values that its range holds, in percent: 1 of 10,000 is cut off at each end.
const PERCENTILE: f64 = 99.99;

/// Why there is no int8 package.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// The package's own fault.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The network is not one for the own engine.
    #[error("the network cannot be quantized: {0}")]
    Network(#[from] NetError),
    /// There is nothing to do.
    #[error("the network of this package is quantized already")]
    Already,
    /// A model of nnU-Net, which normalizes and cuts its input in its own way.
    #[error("models imported from nnU-Net are not quantized here")]
    Nnunet,
    /// There is nothing to calibrate on.
    #[error("no volume was given to calibrate on")]
    NoVolume,
    /// Too many.
    #[error("{0} volumes are more than {VOLUMES_MAX}")]
    Volumes(usize),
    /// A manifest that is not as expected.
    #[error("the manifest cannot be rewritten: {0}")]
    Manifest(String),
    /// A truth on another grid.
    #[error("the labels of volume {0} do not have the volume's shape")]
    Truth(String),
    /// No label was found in any volume.
    #[error("neither network found a label in the volumes, so the loss cannot be measured")]
    NothingFound,
    /// Too much was lost.
    #[error("{label} loses {loss:.2} Dice points by int8 ({against}), more than {limit:.2}: no package was written")]
    Loss {
        /// Which label.
        label: String,
        /// In points (hundredths of Dice).
        loss: f64,
        /// What it was measured against.
        against: &'static str,
        /// The limit.
        limit: f64,
    },
}

impl Explain for QuantizeError {
    fn code(&self) -> &'static str {
        match self {
            Self::Segment(e) => e.code(),
            Self::Network(_) => "quantize.network",
            Self::Already => "quantize.already",
            Self::Nnunet => "quantize.nnunet",
            Self::NoVolume => "quantize.no-volume",
            Self::Volumes(_) => "quantize.too-many",
            Self::Manifest(_) => "quantize.manifest",
            Self::Truth(_) => "quantize.truth",
            Self::NothingFound => "quantize.nothing-found",
            Self::Loss { .. } => "quantize.loss",
        }
    }
    fn advice(&self) -> &'static str {
        match self {
            Self::Segment(e) => e.advice(),
            Self::Network(_) => {
                "export convolutions, normalization, ReLU or leaky ReLU, pooling and concatenation only, ending in logits"
            }
            Self::Already => "use it as it is, or quantize its f32 parent",
            Self::Nnunet => {
                "use the f32 package, or import an ONNX that onnxruntime's quantize_static made of the model"
            }
            Self::NoVolume => "name a folder with CT volumes: NIfTI or NRRD files, or folders of DICOM files",
            Self::Volumes(_) => "choose fewer, as different from each other as possible",
            Self::Manifest(_) => "install the package again from its source",
            Self::Truth(_) => "give labels on the grid of their volume",
            Self::NothingFound => "give volumes of what the package was made for",
            Self::Loss { .. } => {
                "calibrate on more volumes, try the other --range, keep the f32 package, or allow more with --max-dice-loss"
            }
        }
    }
}

/// How the range of an activation is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// From the percentile 0.01 to 99.99.
    Percentile,
    /// The one with the smallest mean squared error after quantization.
    SquaredError,
}

impl Range {
    /// As the manifest says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Percentile => "99.99 % range",
            Self::SquaredError => "range of least squared error",
        }
    }
}

/// How a value becomes a byte.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// One quantization step.
    pub step: f32,
    /// The byte that means 0.
    pub zero: u8,
    /// The largest byte in use.
    pub levels: u8,
}

impl Scale {
    /// For values between two numbers, of which 0 is made one if it is outside.
    fn over([low, high]: [f32; 2], levels: u8) -> Scale {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let step = ((high - low) / f32::from(levels)).max(1e-12);
        Scale { step, zero: (-low / step).round_ties_even() as u8, levels }
    }

    /// What a value is after quantization.
    fn through(self, value: f32) -> f32 {
        let zero = f32::from(self.zero);
        (value / self.step).round_ties_even().clamp(-zero, f32::from(self.levels) - zero) * self.step
    }
}

/// A package's network, and what its activations were on the volumes so far.
pub struct Calibration {
    plan: GridPlan,
    graph: Graph,
    net: IntegerNet,
    /// Values that become bytes, in groups of one scale: a concatenation and its parts.
    groups: Vec<Vec<ValueId>>,
    samples: BTreeMap<ValueId, Vec<f32>>,
    n_volumes: usize,
}

impl Calibration {
    /// Reads the network of a package.
    pub fn new(package: &Package) -> Result<Calibration, QuantizeError> {
        let Plan::Grid(plan) = &package.plan else { return Err(QuantizeError::Nnunet) };
        let graph = onnx::read(&package.onnx, &package.input, &package.output)?;
        if int8::is_quantized(&graph) {
            return Err(QuantizeError::Already);
        }
        let net = IntegerNet::new(&graph, Isa::best())?;
        let groups = groups(&graph);
        Ok(Calibration { plan: plan.clone(), graph, net, groups, samples: BTreeMap::new(), n_volumes: 0 })
    }

    /// Runs the network on a volume and keeps values of its activations.
    pub fn add(&mut self, volume: &Volume) -> Result<(), QuantizeError> {
        if self.n_volumes == VOLUMES_MAX {
            return Err(QuantizeError::Volumes(VOLUMES_MAX + 1));
        }
        let grid = Grid::over(&volume.geometry, self.plan.spacing_mm, self.plan.pad_multiple);
        if grid.n_voxels() > super::engine::GRID_VOXELS_MAX {
            return Err(SegmentError::TooLarge { voxels: grid.n_voxels() }.into());
        }
        let input = middle(grid.sample(volume), self.plan.pad_multiple).mapv(|hu| self.plan.input(hu));
        self.observe(input.insert_axis(Axis(0)).into_dyn())
    }

    /// As [`Calibration::add`], for an input of the network: shape (channels, [z,] y, x).
    pub fn observe(&mut self, input: ArrayD<f32>) -> Result<(), QuantizeError> {
        let wanted: Vec<ValueId> = self.groups.iter().flatten().copied().collect();
        let (samples, rank) = (&mut self.samples, self.graph.rank);
        self.net.observed(input.view(), &mut |value, view| {
            if wanted.contains(&value) {
                let values = view.planes(rank);
                // Odd, so that it does not follow rows of even length.
                let every = values.len().div_ceil(SAMPLES_PER_VOLUME) | 1;
                samples.entry(value).or_default().extend(values.iter().step_by(every));
            }
        })?;
        self.n_volumes += 1;
        Ok(())
    }

    /// The network as ONNX in the QDQ form.
    pub fn finish(&self, range: Range) -> Result<Vec<u8>, QuantizeError> {
        if self.n_volumes == 0 {
            return Err(QuantizeError::NoVolume);
        }
        let mut scales = BTreeMap::new();
        for group in &self.groups {
            let levels = LEVELS[usize::from(group == &[self.graph.input])];
            let mut values: Vec<f32> = group.iter().filter_map(|v| self.samples.get(v)).flatten().copied().collect();
            if values.iter().any(|v| !v.is_finite()) {
                return Err(SegmentError::Shape.into());
            }
            values.sort_unstable_by(f32::total_cmp);
            let scale = scale(&values, range, levels);
            scales.extend(group.iter().map(|value| (*value, scale)));
        }
        let operators = || NetError::Unsupported(vec!["weights that are not constant".into()]);
        Ok(write::write(&self.graph, &scales).ok_or_else(operators)?)
    }
}

impl GridPlan {
    /// What the network is given for a voxel.
    pub fn input(&self, hu: f32) -> f32 {
        (hu.clamp(self.clip_hu[0], self.clip_hu[1]) - self.center_hu) / self.scale_hu
    }
}

/// What convolutions read, and the parts of concatenations among it; a concatenation and its parts have one scale, so that it costs nothing.
fn groups(graph: &Graph) -> Vec<Vec<ValueId>> {
    let mut of: BTreeMap<ValueId, usize> = BTreeMap::new();
    let read = |n: &&super::net::graph::Node| matches!(n.operator, Operator::Conv(_) | Operator::ConvTranspose(..));
    let mut todo: Vec<ValueId> = graph.nodes.iter().filter(read).map(|n| n.inputs[0]).collect();
    while let Some(value) = todo.pop() {
        let n = of.len();
        let group = *of.entry(value).or_insert(n);
        if let Some(node) = graph.producer(value).filter(|n| n.operator == Operator::Concat) {
            for part in &node.inputs {
                match of.insert(*part, group) {
                    // A part with a group of its own brings its group along.
                    Some(old) if old != group => of.values_mut().filter(|g| **g == old).for_each(|g| *g = group),
                    Some(_) => {}
                    None => todo.push(*part),
                }
            }
        }
    }
    let mut found: BTreeMap<usize, Vec<ValueId>> = BTreeMap::new();
    of.into_iter().for_each(|(value, group)| found.entry(group).or_default().push(value));
    found.into_values().collect()
}

/// The scale for sorted values.
fn scale(sorted: &[f32], range: Range, levels: u8) -> Scale {
    let (Some(least), Some(most)) = (sorted.first(), sorted.last()) else { return Scale::over([0.0, 0.0], levels) };
    match range {
        Range::Percentile => {
            let at = |percent: f64| sorted[(percent / 100.0 * (sorted.len() - 1) as f64).round() as usize];
            Scale::over([at(100.0 - PERCENTILE), at(PERCENTILE)], levels)
        }
        Range::SquaredError => {
            // Every 8th value is enough for a mean; 40 ranges from a tenth of the whole to the whole.
            let error = |scale: &Scale| {
                let error = |v: &f32| f64::from(v - scale.through(*v)).powi(2);
                sorted.iter().step_by(1 + sorted.len() / 65_536).map(error).sum::<f64>()
            };
            let shares = (4..=40).map(|k| k as f32 / 40.0);
            let scales = shares.map(|share| Scale::over([least * share, most * share], levels));
            let best = scales.map(|scale| (error(&scale), scale)).min_by(|a, b| a.0.total_cmp(&b.0));
            best.map_or(Scale::over([*least, *most], levels), |(_, scale)| scale)
        }
    }
}

/// The middle of a grid, halved along its longest side until it is small enough.
fn middle(grid: Array3<f32>, multiple: usize) -> Array3<f32> {
    let whole: [usize; 3] = grid.dim().into();
    let mut size = whole;
    while size.iter().product::<usize>() > CALIBRATION_VOXELS_MAX {
        let Some(longest) = (0..3).filter(|a| size[*a] >= 2 * multiple).max_by_key(|a| size[*a]) else { break };
        size[longest] = (size[longest] / 2).next_multiple_of(multiple);
    }
    let [z, y, x] = [0, 1, 2].map(|a| (whole[a] - size[a]) / 2..(whole[a] - size[a]) / 2 + size[a]);
    grid.slice(s![z, y, x]).to_owned()
}

/// An int8 package.
pub struct Quantized {
    /// Its files.
    pub files: BTreeMap<String, Vec<u8>>,
    /// How many convolutions run in integers, and how many in f32.
    pub convolutions: [usize; 2],
}

/// The files of a parent with another network, golden vectors of that, and a manifest that says so.
/// `calibration` says how, for the manifest.
pub fn package(
    parent: &BTreeMap<String, Vec<u8>>,
    onnx: Vec<u8>,
    calibration: &str,
) -> Result<Quantized, QuantizeError> {
    let checked = Package::from_files(parent.clone())?;
    let graph = onnx::read(&onnx, &checked.input, &checked.output)?;
    let net = IntegerNet::new(&graph, Isa::best())?;
    let golden = &checked.golden;
    let shape: Vec<usize> = std::iter::once(graph.channels).chain(golden.shape_zyx).collect();
    let input = ArrayD::from_shape_vec(IxDyn(&shape), golden_input(golden.seed, shape.iter().product()))
        .map_err(|_| SegmentError::Shape)?;
    let logits = net.logits(input.view())?;
    let logits: Vec<f64> = logits.iter().step_by(golden.stride).map(|v| (f64::from(*v) * 1e6).round() / 1e6).collect();
    let row = serde_json::json!({
        "shape_zyx": golden.shape_zyx, "seed": golden.seed, "input": "lcg", "stride": golden.stride,
        "tolerance": f64::from(golden.tolerance), "logits": logits,
    });
    let mut files = parent.clone();
    files.insert("golden.json".into(), row.to_string().into_bytes());
    files.insert("model.onnx".into(), onnx);
    let digests: Vec<(&str, String)> = ["model.onnx", "golden.json"]
        .map(|name| (name, Sha256::digest(&files[name]).iter().map(|b| format!("{b:02x}")).collect()))
        .to_vec();
    edit_manifest(&mut files, |manifest| {
        let id = manifest.get("id").and_then(toml::Value::as_str).unwrap_or_default();
        let id = format!("{id}-int8");
        manifest.insert("id".into(), id.into());
        let listed = manifest.get_mut("files")?.as_table_mut()?;
        listed.extend(digests.into_iter().map(|(name, digest)| (name.to_string(), digest.into())));
        let quantization = manifest.get_mut("quantization")?.as_table_mut()?;
        quantization.insert("weights".into(), "int8 per channel".into());
        quantization.insert("arithmetic".into(), "int8".into());
        quantization.insert("calibration".into(), calibration.into());
        Some(())
    })?;
    Ok(Quantized { files, convolutions: net.convolutions() })
}

/// Adds figures to the manifest's `[metrics]`.
pub fn add_metrics(files: &mut BTreeMap<String, Vec<u8>>, figures: &[(String, f64)]) -> Result<(), QuantizeError> {
    edit_manifest(files, |manifest| {
        let metrics = manifest.entry("metrics").or_insert_with(|| toml::Table::new().into()).as_table_mut()?;
        metrics.extend(figures.iter().map(|(name, value)| (name.clone(), ((value * 1e5).round() / 1e5).into())));
        Some(())
    })
}

fn edit_manifest(
    files: &mut BTreeMap<String, Vec<u8>>,
    edit: impl FnOnce(&mut toml::Table) -> Option<()>,
) -> Result<(), QuantizeError> {
    let odd = |what: &dyn std::fmt::Display| QuantizeError::Manifest(what.to_string());
    let bytes = files.get("manifest.toml").ok_or_else(|| odd(&"it is missing"))?;
    let text = std::str::from_utf8(bytes).map_err(|e| odd(&e))?;
    let mut manifest: toml::Table = toml::from_str(text).map_err(|e| odd(&e))?;
    edit(&mut manifest).ok_or_else(|| odd(&"a table is missing"))?;
    let text = toml::to_string(&manifest).map_err(|e| odd(&e))?;
    files.insert("manifest.toml".into(), text.into_bytes());
    Ok(())
}

#[cfg(test)]
mod tests;
