//! A segmenter package: manifest, hashes, plan, gate limits. Bytes in, values out; folders are read elsewhere.

use super::gate::{Expected, ImageLimits, Limits};
use super::{SegmentError, nnunet, refine::Refine};
use crate::volume::{LabelScheme, Region};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The manifest schema that this program reads.
pub(super) const SCHEMA: &str = "metwatch.segmenter/1";
/// Golden vectors are checked at every load: 2^20 voxels are a second of work.
const GOLDEN_VOXELS_MAX: usize = 1 << 20;
/// Logits differ by 1e-5 between machines; a larger tolerance than this would hide a wrong network.
const GOLDEN_TOLERANCE_MAX: f32 = 0.05;

/// How a volume becomes labels.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// One pass of a network over the whole volume on a coarse grid, as for the model that ships.
    Grid(GridPlan),
    /// As nnU-Net predicts.
    Nnunet(Box<nnunet::Recipe>),
}

/// How a volume becomes the input of a network that sees it whole.
#[derive(Debug, Clone, PartialEq)]
pub struct GridPlan {
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
    /// Shape of the input (z, y, x); a 2-D network of nnU-Net has one slice.
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
    /// How a volume becomes labels.
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
    /// What the model must find in phantoms.
    pub self_test: Option<SelfTest>,
    /// Regions whose marks are candidates for a person, never part of a risk by themselves.
    pub for_review: Vec<Region>,
    /// The second network, if there is one.
    pub refine: Option<Refine>,
    /// Networks of further folds (nnU-Net), whose logits are averaged with the first one's, and their golden vectors.
    pub more_folds: Vec<(Vec<u8>, Golden)>,
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
    plan: Option<PlanRow>,
    nnunet: Option<nnunet::RecipeRow>,
    quantization: Quantization,
    #[serde(default)]
    labels: Vec<LabelRow>,
    gate: GateRow,
    refine: Option<RefineRow>,
    self_test: Option<SelfTest>,
    #[serde(default)]
    metrics: BTreeMap<String, f64>,
}

/// `[refine]`: a second network that looks at the box round the liver which the first one found, for lesions and the liver's surface.
/// Both its files stand in `[files]`. All keys are required but the last.
///
/// ```toml
/// [refine]
/// file = "refine.onnx"                # x, y, z dynamic; shape (1, channels, z, y, x) -> (1, 1 + classes, z, y, x), logits
/// golden = "refine_golden.json"       # as golden.json: lcg input of channels * z * y * x values, every stride-th logit
/// input = "input"
/// output = "logits"
/// classes = ["liver", "liver_lesion"] # regions of logits 1 and 2 (logit 0: neither); each is also one of [[labels]]
/// spacing_mm = [2.0, 2.0, 2.0]        # its grid along x, y, z: axis-aligned LPS, centered on the box
/// pad_multiple = 8                    # each axis is padded at its high end with air (-1000 HU) to a multiple of this
/// margin_mm = 20.0                    # the box is that of the first network's liver (lesions included) and this on each side
/// band_mm = 10.0                      # it moves the liver's surface by at most this; further in is liver, further out is not
/// scale_hu = 40.0                     # input = (HU - median HU of the liver) / scale_hu ...
/// clip = 3.0                          # ... clipped to -clip..clip
/// lesion_ml_min = 0.2                 # operating point: smaller components of lesion are liver ...
/// lesion_probability_min = 0.5        # ... and those whose mean probability of lesion is lower
/// liver_channel = false               # true: a second input channel, the first network's probability of liver or lesion, 0 to 1
/// ```
///
/// The median is taken on the refine grid over voxels where the first network's probability of liver or lesion (cleaned, interpolated
/// linearly) is over 0.5; before sampling the scan is smoothed as for the first network (0.42 (target / spacing - 1) voxels).
/// `[[labels]]` lists the first network's classes in their order; a region that only the second network gives (a lesion) follows them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefineRow {
    file: String,
    golden: String,
    input: String,
    output: String,
    classes: Vec<String>,
    spacing_mm: [f64; 3],
    pad_multiple: usize,
    margin_mm: f64,
    band_mm: f64,
    scale_hu: f32,
    clip: f32,
    lesion_ml_min: f64,
    lesion_probability_min: f64,
    #[serde(default)]
    liver_channel: bool,
}

/// `[self_test]`: the golden self-test, what the model must find in phantoms (`metwatch phantom`, 192 x 192 x 80 voxels of 2 x 2 x 4 mm)
/// of these seeds on any machine.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTest {
    /// Seeds of the phantoms.
    pub phantom_seeds: Vec<u64>,
    /// `[[self_test.regions]]`.
    pub regions: Vec<SelfTestRegion>,
}

/// What holds for one region in each phantom.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTestRegion {
    /// Name of the region.
    pub region: String,
    /// Least Dice with the truth.
    pub dice_min: f64,
    /// Largest difference of the volume from the truth, relative to the truth.
    pub volume_error_max: f64,
}

fn check_self_test(test: SelfTest) -> Result<SelfTest, SegmentError> {
    let fits = |row: &SelfTestRegion| {
        Region::from_name(&row.region).is_some()
            && row.dice_min > 0.0
            && row.dice_min <= 1.0
            && (0.0..1.0).contains(&row.volume_error_max)
    };
    let some = !test.phantom_seeds.is_empty() && !test.regions.is_empty() && test.phantom_seeds.len() <= 16;
    if some && test.regions.iter().all(fits) {
        Ok(test)
    } else {
        Err(invalid("[self_test] has no seed, an unknown region or a limit that cannot fail".into()))
    }
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
    /// What the network marks is a candidate: shown, never measured for a risk until a person has confirmed it.
    #[serde(default)]
    for_review: bool,
}

/// [`Limits`] as the manifest spells them; every key but the two tables is required.
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
    #[serde(default)]
    image: ImageLimits,
    expected_dice: Option<Expected>,
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
        let golden = files.get("golden.json").ok_or_else(|| missing("golden.json"))?;
        let (plan, scheme, goldens) = match (m.plan, m.nnunet) {
            (Some(row), None) => {
                let plan = grid_plan(&row)?;
                let golden = grid_golden(golden, "golden.json", plan.pad_multiple)?;
                (Plan::Grid(plan), scheme(&m.labels)?, vec![golden])
            }
            (None, Some(row)) => {
                let recipe = nnunet::Recipe::try_from(row).map_err(|e| invalid(format!("[nnunet]: {e}")))?;
                let scheme = nnunet::scheme(&recipe.labels).map_err(|e| invalid(e.to_string()))?;
                let goldens = nnunet::read_golden(golden, &recipe)?;
                (Plan::Nnunet(Box::new(recipe)), scheme, goldens)
            }
            _ => return Err(invalid("the manifest needs either [plan] or [nnunet]".into())),
        };
        let refine = m.refine.map(|row| refine(row, &scheme, &mut files)).transpose()?;
        let mut networks = nnunet::take_networks(&mut files, goldens)?.into_iter();
        let (onnx, golden) = networks.next().ok_or_else(|| missing("model.onnx"))?;
        Ok(Package {
            id: m.id,
            version: m.version,
            sha256: hex(&manifest_bytes),
            intended_use: m.intended_use,
            training: m.training,
            onnx,
            input: m.io.input,
            output: m.io.output,
            plan,
            scheme,
            is_int8: m.quantization.arithmetic == "int8",
            quantization: format!("{} weights, {} arithmetic", m.quantization.weights, m.quantization.arithmetic),
            limits: limits(m.gate)?,
            metrics: m.metrics,
            golden,
            for_review: m
                .labels
                .iter()
                .filter(|row| row.for_review)
                .filter_map(|row| Region::from_name(&row.region))
                .collect(),
            refine,
            self_test: m.self_test.map(check_self_test).transpose()?,
            more_folds: networks.collect(),
        })
    }
}

impl Package {
    /// The networks, one per fold, with their golden vectors.
    pub(super) fn folds(&self) -> impl Iterator<Item = (&[u8], &Golden)> {
        let more = self.more_folds.iter().map(|(onnx, golden)| (&onnx[..], golden));
        std::iter::once((&self.onnx[..], &self.golden)).chain(more)
    }

    /// Bytes of all networks.
    pub fn network_bytes(&self) -> u64 {
        self.folds().map(|(onnx, _)| onnx.len() as u64).sum()
    }

    /// Label values with their names, regions first as they are called here, then what else the model finds.
    pub fn label_names(&self) -> Vec<(u8, String)> {
        let mut names: Vec<(u8, String)> =
            self.scheme.entries.iter().map(|(value, region, _)| (*value, region.name().into())).collect();
        if let Plan::Nnunet(recipe) = &self.plan {
            names.extend(recipe.labels.iter().filter(|l| l.region.is_none()).map(|l| (l.value, l.name.clone())));
        }
        names
    }
}

impl Golden {
    /// Compares the logits of a network with those that are listed.
    pub(super) fn compare(&self, logits: impl Iterator<Item = f32>) -> Result<(), SegmentError> {
        let found: Vec<f32> = logits.step_by(self.stride).collect();
        if found.len() != self.logits.len() {
            let message = format!("golden.json lists {} logits, the network gives {}", self.logits.len(), found.len());
            return Err(SegmentError::PackageInvalid { message });
        }
        let worst = found
            .iter()
            .zip(&self.logits)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0f32, |w, d| if d.is_nan() { f32::INFINITY } else { w.max(d) });
        if worst <= self.tolerance {
            Ok(())
        } else {
            Err(SegmentError::GoldenMismatch { worst, tolerance: self.tolerance })
        }
    }
}

/// Values that make a grid and a finite input (TOML can say `nan` and `inf`).
fn grid_plan(row: &PlanRow) -> Result<GridPlan, SegmentError> {
    let spacing_fits = row.spacing_mm.iter().all(|s| (0.5..=20.0).contains(s));
    let [low, high] = row.clip_hu;
    let clip_fits = low.is_finite() && high.is_finite() && low < high;
    let scale_fits = row.scale_hu.is_finite() && row.scale_hu > 0.0 && row.center_hu.is_finite();
    if !(spacing_fits && clip_fits && scale_fits && (1..=64).contains(&row.pad_multiple)) {
        return Err(invalid("[plan] has a value out of range".into()));
    }
    Ok(GridPlan {
        spacing_mm: row.spacing_mm,
        pad_multiple: row.pad_multiple,
        clip_hu: row.clip_hu,
        center_hu: row.center_hu,
        scale_hu: row.scale_hu,
    })
}

/// The second network with a plan that makes a grid and a finite input.
fn refine(row: RefineRow, scheme: &LabelScheme, files: &mut BTreeMap<String, Vec<u8>>) -> Result<Refine, SegmentError> {
    let mut classes = Vec::new();
    for name in &row.classes {
        let value = Region::from_name(name).and_then(|region| scheme.value_of(region));
        classes.push(value.ok_or_else(|| invalid(format!("[refine] names {name:?}, which is not in [[labels]]")))?);
    }
    let (liver, lesion) = (scheme.value_of(Region::Liver), scheme.value_of(Region::LiverLesion));
    let classes_fit = classes.first() == liver.as_ref()
        && match classes[1..] {
            [] => true,
            [second] => Some(second) == lesion,
            _ => false,
        };
    if !classes_fit {
        return Err(invalid("[refine] classes must be [\"liver\"] or [\"liver\", \"liver_lesion\"]".into()));
    }
    let within = |value: f64, low: f64, high: f64| (low..=high).contains(&value);
    let fits = row.spacing_mm.iter().all(|s| within(*s, 0.5, 20.0))
        && (1..=64).contains(&row.pad_multiple)
        && within(row.margin_mm, 0.0, 100.0)
        && within(row.band_mm, 0.0, row.margin_mm)
        && within(f64::from(row.scale_hu), 1.0, 1000.0)
        && within(f64::from(row.clip), 0.1, 100.0)
        && within(row.lesion_ml_min, 0.0, 100.0)
        && within(row.lesion_probability_min, 0.0, 1.0);
    if !fits {
        return Err(invalid("[refine] has a value out of range".into()));
    }
    Ok(Refine {
        golden: grid_golden(
            files.get(&row.golden).ok_or_else(|| missing(&row.golden))?,
            &row.golden,
            row.pad_multiple,
        )?,
        onnx: files.remove(&row.file).ok_or_else(|| missing(&row.file))?,
        input: row.input,
        output: row.output,
        classes,
        spacing_mm: row.spacing_mm,
        pad_multiple: row.pad_multiple,
        margin_mm: row.margin_mm,
        band_mm: row.band_mm,
        scale_hu: row.scale_hu,
        clip: row.clip,
        lesion_mm3_min: 1000.0 * row.lesion_ml_min,
        lesion_probability_min: row.lesion_probability_min,
        liver_channel: row.liver_channel,
    })
}

/// Golden vectors with an input that the network can take, and a tolerance that can fail.
fn grid_golden(bytes: &[u8], name: &str, multiple: usize) -> Result<Golden, SegmentError> {
    let golden: GoldenRow = serde_json::from_slice(bytes).map_err(|e| invalid(format!("{name}: {e}")))?;
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
        return Err(invalid(format!("{name} has a value out of range")));
    }
    Ok(Golden {
        shape_zyx: golden.shape_zyx,
        seed: golden.seed,
        stride: golden.stride,
        tolerance: golden.tolerance,
        logits: golden.logits,
    })
}

/// Limits that are numbers: a NaN would never refuse.
fn limits(row: GateRow) -> Result<Limits, SegmentError> {
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
        image: row.image,
        expected: row.expected_dice,
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

pub(super) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

pub(super) fn missing(file: &str) -> SegmentError {
    SegmentError::PackageInvalid { message: format!("the file {file} is missing") }
}

fn invalid(message: String) -> SegmentError {
    SegmentError::PackageInvalid { message }
}
