//! From an nnU-Net v2 results folder (`plans.json`, `dataset.json`) and what its exporter wrote to a [`Recipe`].
//! Followed: nnunetv2 2.8.1. What is not run here is refused by its name, never guessed.

use super::axis::Order;
use super::package::Import;
use super::recipe::{Channel, Heads, IntensityRow, Label, Normalization, Recipe, Stage};
use super::resample::Resampling;
use crate::Explain;
use crate::volume::Region;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The exporter's format that this program reads.
const EXPORT_FORMAT: &str = "metwatch.nnunet-export/1";
/// The ratio of spacings above which nnU-Net resamples slices separately (`ANISO_THRESHOLD`).
const ANISOTROPY: f64 = 3.0;

/// Why a model cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file that is not what it should be.
    #[error("{file}: {message}")]
    File {
        /// Which file.
        file: String,
        /// What is wrong.
        message: String,
    },
    /// Something that metwatch does not run.
    #[error("the model cannot be taken over: {0}")]
    Unsupported(String),
    /// Parts that do not belong together.
    #[error("the model's parts do not fit together: {0}")]
    Mismatch(String),
    /// What only the checkpoint knows is not there.
    #[error("{0} is known to the checkpoint only, and there is no nnunet.json beside the network")]
    Unknown(&'static str),
}

impl Explain for ImportError {
    fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "nnunet.file",
            Self::Unsupported(_) => "nnunet.unsupported",
            Self::Mismatch(_) => "nnunet.mismatch",
            Self::Unknown(_) => "nnunet.unknown",
        }
    }
    fn advice(&self) -> &'static str {
        match self {
            Self::File { .. } => {
                "give a trained folder of nnU-Net v2 (plans.json, dataset.json) and the exporter's files"
            }
            Self::Unsupported(_) => "use another configuration of the model, or ask for this one to be supported",
            Self::Mismatch(_) => "export the networks of this very folder again with models/training/nnunet_export.py",
            Self::Unknown(_) => {
                "export with models/training/nnunet_export.py, or give --configuration and --mirror-axes (`none` for none)"
            }
        }
    }
}

/// What only the checkpoints know, as `models/training/nnunet_export.py` writes it.
#[derive(Deserialize)]
struct Sidecar {
    format: String,
    configuration: String,
    trainer: String,
    inference_allowed_mirroring_axes: Option<Vec<usize>>,
    input: String,
    output: String,
    /// One per fold.
    networks: Vec<NetworkFile>,
    #[serde(default)]
    postprocessing: Vec<Vec<LabelOrRegion>>,
    /// Logits that each network must give, as `golden.json` of a package.
    golden: Value,
    /// Versions of the packages that exported it.
    #[serde(default)]
    versions: BTreeMap<String, String>,
}

/// A network that the exporter wrote.
#[derive(Deserialize)]
struct NetworkFile {
    file: String,
    sha256: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum LabelOrRegion {
    Label(u8),
    Region(Vec<u8>),
}

impl Sidecar {
    fn from_json(bytes: &[u8]) -> Result<Sidecar, ImportError> {
        let file = |message: String| ImportError::File { file: "nnunet.json".into(), message };
        let sidecar: Sidecar = serde_json::from_slice(bytes).map_err(|e| file(e.to_string()))?;
        if sidecar.format != EXPORT_FORMAT {
            return Err(file(format!("its format is {:?}, this program reads {EXPORT_FORMAT:?}", sidecar.format)));
        }
        Ok(sidecar)
    }

    /// Golden vectors of these networks, in this order; each must be one that was exported.
    fn golden_of(&self, networks: &[(String, Vec<u8>)]) -> Result<Value, ImportError> {
        let mut golden = self.golden.clone();
        let logits = golden.get("logits").and_then(Value::as_array).cloned().unwrap_or_default();
        let of = |(name, onnx): &(String, Vec<u8>)| {
            let hash = crate::segment::package::hex(onnx);
            let known = self.networks.iter().position(|n| n.sha256 == hash);
            let missing = || {
                let names: Vec<&str> = self.networks.iter().map(|n| n.file.as_str()).collect();
                ImportError::Mismatch(format!("{name} is none of the networks of nnunet.json ({})", names.join(", ")))
            };
            logits.get(known.ok_or_else(missing)?).cloned().ok_or_else(missing)
        };
        golden["logits"] = networks.iter().map(of).collect::<Result<Vec<Value>, _>>()?.into();
        Ok(golden)
    }

    /// Each step as the union of its labels.
    fn postprocessing(&self) -> Vec<Vec<u8>> {
        let values = |of: &LabelOrRegion| match of {
            LabelOrRegion::Label(value) => vec![*value],
            LabelOrRegion::Region(values) => values.clone(),
        };
        let union =
            |step: &Vec<LabelOrRegion>| step.iter().flat_map(values).collect::<BTreeSet<u8>>().into_iter().collect();
        self.postprocessing.iter().map(union).collect()
    }
}

/// What the checkpoint says beyond plans and data set.
#[derive(Debug, Clone, Default)]
pub struct Checkpoint {
    /// Name of the configuration.
    pub configuration: String,
    /// Name of the trainer's class.
    pub trainer: String,
    /// Axes along which the predictor mirrors.
    pub mirror_axes: Vec<usize>,
    /// Steps of postprocessing.
    pub postprocessing: Vec<Vec<u8>>,
}

/// The files of a model, as they were found.
#[derive(Default)]
pub struct Source {
    /// Name of the results folder, such as `nnUNetTrainer__nnUNetPlans__3d_fullres`.
    pub folder: String,
    /// `plans.json`.
    pub plans: Vec<u8>,
    /// `dataset.json`.
    pub dataset: Vec<u8>,
    /// The exporter's `nnunet.json`, if there is one.
    pub sidecar: Option<Vec<u8>>,
    /// The networks: file name and ONNX.
    pub networks: Vec<(String, Vec<u8>)>,
    /// Name of the configuration where there is no `nnunet.json`.
    pub configuration: Option<String>,
    /// Axes of mirroring where there is no `nnunet.json`.
    pub mirror_axes: Option<Vec<usize>>,
    /// What labels are to metwatch where their names do not say so.
    pub regions: BTreeMap<String, Region>,
}

impl Source {
    /// The model as it goes into a package. Without `nnunet.json` the configuration may come from the folder's name.
    pub fn take_over(self) -> Result<Import, ImportError> {
        let sidecar = self.sidecar.as_deref().map(Sidecar::from_json).transpose()?;
        let checkpoint = match &sidecar {
            Some(sidecar) => Checkpoint {
                configuration: sidecar.configuration.clone(),
                trainer: sidecar.trainer.clone(),
                mirror_axes: sidecar.inference_allowed_mirroring_axes.clone().unwrap_or_default(),
                postprocessing: sidecar.postprocessing(),
            },
            None => {
                let parts: Vec<&str> = self.folder.split("__").collect();
                let [trainer, of_folder] = match parts[..] {
                    [trainer, _, configuration] => [Some(trainer), Some(configuration)],
                    _ => [None, None],
                };
                let configuration = self.configuration.clone().or_else(|| of_folder.map(Into::into));
                Checkpoint {
                    configuration: configuration.ok_or(ImportError::Unknown("the name of the configuration"))?,
                    trainer: trainer.unwrap_or("unknown").into(),
                    mirror_axes: self.mirror_axes.ok_or(ImportError::Unknown("whether patches are mirrored"))?,
                    postprocessing: Vec::new(),
                }
            }
        };
        let recipe = recipe(&self.plans, &self.dataset, &checkpoint, &self.regions)?;
        super::scheme(&recipe.labels)?;
        let plans = Json::parse("plans.json", &self.plans)?;
        let name = plans.map.get("dataset_name").and_then(Value::as_str).unwrap_or("nnunet");
        let id = format!("{name}-{}", recipe.configuration).to_lowercase().replace('_', "-");
        let golden = sidecar.as_ref().map(|s| s.golden_of(&self.networks)).transpose()?;
        let versions = sidecar.as_ref().map_or(String::new(), |s| {
            s.versions.iter().map(|(name, version)| format!(", {name} {version}")).collect()
        });
        let training = format!(
            "nnU-Net v2, {name}, {} ({} folds, {}{versions}); trained and validated elsewhere",
            recipe.configuration,
            self.networks.len(),
            recipe.trainer
        );
        let [input, output] = sidecar.map_or(["image".into(), "logits".into()], |s| [s.input, s.output]);
        let networks = self.networks.into_iter().map(|(_, onnx)| onnx).collect();
        Ok(Import { id, recipe, networks, input, output, golden, training })
    }
}

/// A recipe from `plans.json`, `dataset.json` and the checkpoint. `regions` says what labels are, by name, where their
/// names do not.
pub fn recipe(
    plans: &[u8],
    dataset: &[u8],
    checkpoint: &Checkpoint,
    regions: &BTreeMap<String, Region>,
) -> Result<Recipe, ImportError> {
    let plans = Json::parse("plans.json", plans)?;
    let dataset = Json::parse("dataset.json", dataset)?;
    let configuration = configuration(&plans, &checkpoint.configuration)?;
    if let Some(stage) = configuration.map.get("previous_stage").and_then(Value::as_str) {
        return Err(ImportError::Unsupported(format!(
            "{} continues {stage}: cascades are not run here",
            checkpoint.configuration
        )));
    }
    named(&plans, "label_manager", &["LabelManager"])?;
    named(&configuration, "preprocessor_name", &["DefaultPreprocessor"])?;
    let readers = ["SimpleITKIO", "NibabelIO", "SimpleITKIOWithReorient", "NibabelIOWithReorient"];
    let reader = named(&plans, "image_reader_writer", &readers)?;
    let (heads, labels) = labels(&dataset, regions)?;
    let recipe = Recipe {
        configuration: checkpoint.configuration.clone(),
        trainer: checkpoint.trainer.clone(),
        channels: channels(&plans, &dataset, &configuration)?,
        to_ras: reader.ends_with("WithReorient"),
        transpose_forward: plans.get("transpose_forward")?,
        spacing_mm: configuration.get("spacing")?,
        patch_size: configuration.get("patch_size")?,
        image_resampling: resampling(&configuration, "resampling_fn_data")?,
        logits_resampling: resampling(&configuration, "resampling_fn_probabilities")?,
        mirror_axes: checkpoint.mirror_axes.clone(),
        heads,
        labels,
        postprocessing: checkpoint.postprocessing.clone(),
        stages: stages(&configuration),
    };
    recipe.check().map_err(ImportError::Mismatch)?;
    Ok(recipe)
}

/// An object of a JSON file, with the file's name for errors.
struct Json {
    file: &'static str,
    map: Map<String, Value>,
}

impl Json {
    fn parse(file: &'static str, bytes: &[u8]) -> Result<Json, ImportError> {
        let map = serde_json::from_slice(bytes)
            .map_err(|e| ImportError::File { file: file.into(), message: e.to_string() })?;
        Ok(Json { file, map })
    }

    fn error(&self, message: String) -> ImportError {
        ImportError::File { file: self.file.into(), message }
    }

    fn get<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<T, ImportError> {
        let value = self.map.get(key).ok_or_else(|| self.error(format!("{key} is missing")))?;
        serde_json::from_value(value.clone()).map_err(|e| self.error(format!("{key}: {e}")))
    }
}

/// A name that must be one of those that are followed; its absence is the first of them.
fn named(json: &Json, key: &str, known: &[&'static str]) -> Result<&'static str, ImportError> {
    let Some(value) = json.map.get(key) else { return Ok(known[0]) };
    let found = value.as_str().unwrap_or_default();
    let same = known.iter().find(|k| **k == found);
    same.copied().ok_or_else(|| ImportError::Unsupported(format!("{key} is {value}, known are {}", known.join(", "))))
}

/// A configuration with everything that it inherits.
fn configuration(plans: &Json, name: &str) -> Result<Json, ImportError> {
    let all: Map<String, Value> = plans.get("configurations")?;
    let (mut map, mut next, mut seen) = (Map::new(), Some(name.to_string()), BTreeSet::new());
    while let Some(name) = next {
        if !seen.insert(name.clone()) {
            return Err(plans.error(format!("the configuration {name} inherits from itself")));
        }
        let Some(found) = all.get(&name).and_then(Value::as_object) else {
            let names: Vec<&str> = all.keys().map(String::as_str).collect();
            return Err(plans.error(format!("there is no configuration {name:?}, only {}", names.join(", "))));
        };
        for (key, value) in found {
            map.entry(key.clone()).or_insert_with(|| value.clone());
        }
        next = found.get("inherits_from").and_then(Value::as_str).map(Into::into);
    }
    Ok(Json { file: plans.file, map })
}

fn resampling(configuration: &Json, key: &str) -> Result<Resampling, ImportError> {
    named(configuration, key, &["resample_data_or_seg_to_shape"])?;
    let keywords: Map<String, Value> = configuration.get(&format!("{key}_kwargs"))?;
    let order = |name: &str, default: i64| {
        let number = keywords.get(name).map_or(Some(default), Value::as_i64);
        let unknown = || ImportError::Unsupported(format!("{key} with {name} {}", keywords[name]));
        number.and_then(Order::from_number).ok_or_else(unknown)
    };
    let handled = ["is_seg", "order", "order_z", "force_separate_z", "separate_z_anisotropy_threshold"];
    if let Some((name, value)) = keywords.iter().find(|(name, _)| !handled.contains(&name.as_str())) {
        return Err(ImportError::Unsupported(format!("{key} with {name} {value}")));
    }
    if keywords.get("is_seg").and_then(Value::as_bool) == Some(true) {
        return Err(ImportError::Unsupported(format!("{key} with is_seg true")));
    }
    Ok(Resampling {
        order: order("order", 3)?,
        order_z: order("order_z", 0)?,
        // The function's own default is false; plans name it, mostly as null: by the spacing.
        separate_z: keywords.get("force_separate_z").map_or(Some(false), Value::as_bool),
        anisotropy: keywords.get("separate_z_anisotropy_threshold").and_then(Value::as_f64).unwrap_or(ANISOTROPY),
    })
}

fn channels(plans: &Json, dataset: &Json, configuration: &Json) -> Result<Vec<Channel>, ImportError> {
    // `modality` is the older name, as is `..._by_modality`.
    let key = if dataset.map.contains_key("modality") { "modality" } else { "channel_names" };
    let names: Map<String, Value> = dataset.get(key)?;
    let schemes: Vec<String> = configuration.get("normalization_schemes")?;
    let masked: Vec<bool> = configuration.get("use_mask_for_norm")?;
    if schemes.len() != names.len() || masked.len() != names.len() {
        let n = names.len();
        return Err(ImportError::Mismatch(format!(
            "{n} channels, {} normalization schemes, {} masks",
            schemes.len(),
            masked.len()
        )));
    }
    let properties: Map<String, Value> = plans
        .get("foreground_intensity_properties_per_channel")
        .or_else(|_| plans.get("foreground_intensity_properties_by_modality"))?;
    let channel = |k: usize| {
        let number = k.to_string();
        let intensity: Option<IntensityRow> =
            properties.get(&number).and_then(|v| serde_json::from_value(v.clone()).ok());
        let normalization =
            Normalization::from_name(&schemes[k], masked[k], intensity).map_err(ImportError::Unsupported)?;
        let name = names.get(&number).and_then(Value::as_str).unwrap_or(&number).to_string();
        Ok(Channel { name, normalization })
    };
    (0..names.len()).map(channel).collect()
}

fn labels(dataset: &Json, regions: &BTreeMap<String, Region>) -> Result<(Heads, Vec<Label>), ImportError> {
    let labels: Map<String, Value> = dataset.get("labels")?;
    let values = |value: &Value| -> Result<Vec<u8>, ImportError> {
        let one = |v: &Value| v.as_u64().and_then(|v| u8::try_from(v).ok()).filter(|v| *v < u8::MAX);
        let list = value.as_array().map_or_else(|| vec![value.clone()], Clone::clone);
        let all: Option<Vec<u8>> = list.iter().map(one).collect();
        all.ok_or_else(|| dataset.error(format!("the label {value} is no number from 0 to 254")))
    };
    if let Some(unknown) = regions.keys().find(|name| !labels.contains_key(*name)) {
        return Err(ImportError::Mismatch(format!("there is no label {unknown:?} in dataset.json")));
    }
    if labels.get("background").and_then(Value::as_u64) != Some(0) {
        return Err(dataset.error("the label background is missing or not 0".into()));
    }
    let has_regions = labels.values().any(|v| v.as_array().is_some_and(|v| v.len() > 1));
    let mut named: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, value) in labels.iter().filter(|(name, _)| *name != "ignore") {
        let values = values(value)?;
        if values.iter().any(|v| *v != 0) {
            named.push((name.clone(), values));
        }
    }
    let label = |name: &str, value: u8| {
        let region = regions.get(name).copied().or_else(|| region_of(name, named.iter().map(|(n, _)| n.as_str())));
        Label { value, name: name.into(), region }
    };
    if has_regions {
        let order: Vec<u8> = dataset.get("regions_class_order")?;
        if order.len() != named.len() {
            return Err(ImportError::Mismatch(format!("{} regions, but regions_class_order {order:?}", named.len())));
        }
        let labels = named.iter().zip(&order).map(|((name, _), value)| label(name, *value)).collect();
        return Ok((Heads::Regions(order), labels));
    }
    let mut labels: Vec<Label> = named.iter().flat_map(|(name, v)| v.iter().map(|v| label(name, *v))).collect();
    labels.sort_by_key(|l| l.value);
    if let Some((k, l)) = labels.iter().enumerate().find(|(k, l)| usize::from(l.value) != k + 1) {
        return Err(dataset.error(format!(
            "the label {:?} is {}, expected {}: values must count 1, 2, 3",
            l.name,
            l.value,
            k + 1
        )));
    }
    Ok((Heads::Labels(labels.len() + 1), labels))
}

/// What a label is to metwatch, by its name. A tumor or lesion is one of the liver where the model knows the liver and
/// no colon.
fn region_of<'a>(name: &str, all: impl Iterator<Item = &'a str>) -> Option<Region> {
    let words = |name: &str| -> Vec<String> {
        let lower = name.to_lowercase().replace("tumour", "tumor").replace("tumors", "tumor");
        let lower = lower.replace("lesions", "lesion").replace("metastases", "lesion").replace("metastasis", "lesion");
        lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(Into::into).collect()
    };
    let has = |words: &[String], any: &[&str]| words.iter().any(|w| any.contains(&w.as_str()));
    let (mine, mut liver, mut colon) = (words(name), false, false);
    for other in all {
        let other = words(other);
        liver |= has(&other, &["liver", "hepatic"]);
        colon |= has(&other, &["colon", "colorectal", "rectum", "rectal"]);
    }
    let sick = has(&mine, &["tumor", "lesion", "cancer", "carcinoma"]);
    let (of_liver, of_colon) =
        (has(&mine, &["liver", "hepatic"]), has(&mine, &["colon", "colorectal", "rectum", "rectal"]));
    match (sick, of_liver, of_colon) {
        (false, true, false) if mine.len() == 1 => Some(Region::Liver),
        (false, false, true) if mine.len() == 1 => Some(Region::Colon),
        (true, true, false) => Some(Region::LiverLesion),
        (true, false, true) => Some(Region::ColorectalTumor),
        (true, false, false) if mine.len() == 1 && liver && !colon => Some(Region::LiverLesion),
        (true, false, false) if mine.len() == 1 && colon && !liver => Some(Region::ColorectalTumor),
        _ => None,
    }
}

/// Features and strides of the network, from either form of the plans; they serve the estimate of memory only.
fn stages(configuration: &Json) -> Vec<Stage> {
    let number = |v: &Value| v.as_u64().map(|v| v as usize);
    let list = |v: &Value, dim: usize| match v.as_array() {
        Some(v) => v.iter().filter_map(number).collect(),
        None => vec![number(v).unwrap_or(1); dim],
    };
    let dim = configuration.map.get("patch_size").and_then(Value::as_array).map_or(3, Vec::len);
    let arguments = configuration.map.get("architecture").and_then(|a| a.get("arch_kwargs"));
    let (strides, features) = match arguments {
        Some(arguments) => (
            arguments.get("strides").and_then(Value::as_array),
            arguments
                .get("features_per_stage")
                .and_then(Value::as_array)
                .map(|f| f.iter().filter_map(number).collect()),
        ),
        None => {
            let get = |key: &str| configuration.map.get(key).and_then(number);
            let (base, most) =
                (get("UNet_base_num_features").unwrap_or(32), get("unet_max_num_features").unwrap_or(320));
            let strides = configuration.map.get("pool_op_kernel_sizes").and_then(Value::as_array);
            (strides, strides.map(|s| (0..s.len()).map(|k| (base << k.min(16)).min(most)).collect()))
        }
    };
    let strides: Vec<Vec<usize>> = strides.map(|s| s.iter().map(|v| list(v, dim)).collect()).unwrap_or_default();
    let features: Vec<usize> = features.unwrap_or_default();
    features.into_iter().zip(strides).map(|(features, stride)| Stage { features, stride }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str, all: &[&str]) -> Option<Region> {
        region_of(name, all.iter().copied())
    }

    #[test]
    fn names_of_the_usual_data_sets_find_their_regions() {
        let lits = ["background", "liver", "tumor"];
        assert_eq!(lits.map(|n| region(n, &lits)), [None, Some(Region::Liver), Some(Region::LiverLesion)]);
        assert_eq!(region("cancer", &["background", "colon"]), Some(Region::ColorectalTumor));
        assert_eq!(region("colon_cancer_primaries", &["background"]), Some(Region::ColorectalTumor));
        let both = ["liver", "colon", "Tumour", "liver lesions", "colorectal_tumour"];
        let expected =
            [Some(Region::Liver), Some(Region::Colon), None, Some(Region::LiverLesion), Some(Region::ColorectalTumor)];
        assert_eq!(both.map(|n| region(n, &both)), expected);
        assert_eq!(region("hepatic vessel", &lits), None);
        assert_eq!(region("spleen", &lits), None);
    }
}
