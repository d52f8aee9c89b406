//! What a package keeps of an nnU-Net model: everything that its predictor takes from plans, data set and checkpoint.

use super::axis::Order;
use super::resample::Resampling;
use crate::volume::Region;
use serde::{Deserialize, Serialize};

/// An nnU-Net model without its networks.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Name of the configuration, as in `plans.json` (`2d`, `3d_fullres` ...).
    pub configuration: String,
    /// Name of the trainer's class.
    pub trainer: String,
    /// Input channels in the network's order.
    pub channels: Vec<Channel>,
    /// Whether the image is turned to RAS before anything else (readers `...WithReorient`).
    pub to_ras: bool,
    /// Which axis of the array (z, y, x) comes first, second, third in the network's order.
    pub transpose_forward: [usize; 3],
    /// Spacing of the network's grid in the network's order of axes; two numbers for a 2-D network, which keeps the
    /// slices.
    pub spacing_mm: Vec<f64>,
    /// The network's input, in the network's order; two numbers for a 2-D network.
    pub patch_size: Vec<usize>,
    /// How images go onto the network's grid.
    pub image_resampling: Resampling,
    /// How logits come back.
    pub logits_resampling: Resampling,
    /// Axes of the patch along which it is mirrored as well; empty: none.
    pub mirror_axes: Vec<usize>,
    /// How logits become labels.
    pub heads: Heads,
    /// What the labels are called.
    pub labels: Vec<Label>,
    /// Steps of postprocessing: of the union of these labels only the largest component stays.
    pub postprocessing: Vec<Vec<u8>>,
    /// Features of each stage of the network and its stride, for the estimate of memory.
    pub stages: Vec<Stage>,
}

/// An input channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    /// As `dataset.json` calls it (`CT`, `T1` ...).
    pub name: String,
    /// What its values become.
    pub normalization: Normalization,
}

/// What the values of a channel become before they are resampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Normalization {
    /// Clipped to percentiles of the training data, minus their mean, by their standard deviation.
    Ct {
        /// Mean of the foreground.
        mean: f64,
        /// Standard deviation of the foreground.
        std: f64,
        /// Lower clip.
        percentile_00_5: f64,
        /// Upper clip.
        percentile_99_5: f64,
    },
    /// Minus the image's own mean, by its own standard deviation; `masked`: of and in what is not 0 only.
    ZScore {
        /// `use_mask_for_norm`.
        masked: bool,
    },
    /// As they are.
    None,
    /// To 0..1 by the image's own range.
    RescaleTo01,
    /// By 255.
    RgbTo01,
}

/// How logits become labels.
#[derive(Debug, Clone, PartialEq)]
pub enum Heads {
    /// One logit per label value, 0 is background: the largest wins, the first of equal ones.
    Labels(usize),
    /// One logit per region: where its probability is above 0.5 it writes its value, later ones over earlier ones.
    Regions(Vec<u8>),
}

impl Heads {
    /// Number of logits.
    pub fn count(&self) -> usize {
        match self {
            Heads::Labels(n) => *n,
            Heads::Regions(values) => values.len(),
        }
    }
}

/// A label value and its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// Value in the label map.
    pub value: u8,
    /// Name in `dataset.json`.
    pub name: String,
    /// What it is to metwatch, if anything.
    pub region: Option<Region>,
}

/// One stage of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Feature channels.
    pub features: usize,
    /// Stride against the stage before.
    pub stride: Vec<usize>,
}

impl Recipe {
    /// Whether the network sees slices only.
    pub fn is_2d(&self) -> bool {
        self.patch_size.len() == 2
    }

    /// The patch as three axes; a 2-D network sees one slice.
    pub fn patch_3d(&self) -> [usize; 3] {
        match self.patch_size[..] {
            [y, x] => [1, y, x],
            [z, y, x, ..] => [z, y, x],
            _ => [1; 3],
        }
    }

    /// The spacing of the network's grid for an image of this spacing (in the network's order).
    pub fn grid_spacing_mm(&self, image_mm: [f64; 3]) -> [f64; 3] {
        match self.spacing_mm[..] {
            [y, x] => [image_mm[0], y, x],
            [z, y, x, ..] => [z, y, x],
            _ => image_mm,
        }
    }
}

/// `[nnunet]` of a manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeRow {
    configuration: String,
    trainer: String,
    #[serde(default)]
    to_ras: bool,
    transpose_forward: [usize; 3],
    spacing_mm: Vec<f64>,
    patch_size: Vec<usize>,
    mirror_axes: Vec<usize>,
    /// Without it the logits are one per label value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    regions_class_order: Option<Vec<u8>>,
    #[serde(default)]
    postprocessing: Vec<Vec<u8>>,
    image_resampling: ResamplingRow,
    logits_resampling: ResamplingRow,
    channels: Vec<ChannelRow>,
    labels: Vec<LabelRow>,
    stages: Vec<Stage>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResamplingRow {
    order: i64,
    order_z: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    separate_z: Option<bool>,
    anisotropy: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChannelRow {
    name: String,
    /// As nnU-Net calls it, e.g. `CTNormalization`.
    normalization: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    use_mask_for_norm: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    intensity: Option<IntensityRow>,
}

/// nnU-Net's intensity properties of a channel, as far as they are used.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct IntensityRow {
    /// Mean of the foreground.
    pub mean: f64,
    /// Standard deviation of the foreground.
    pub std: f64,
    /// Lower clip.
    pub percentile_00_5: f64,
    /// Upper clip.
    pub percentile_99_5: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelRow {
    value: u8,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<String>,
}

impl Normalization {
    /// The scheme with nnU-Net's name; an error says what is missing or unknown.
    pub fn from_name(name: &str, masked: bool, intensity: Option<IntensityRow>) -> Result<Normalization, String> {
        match name {
            "CTNormalization" => {
                let p = intensity.ok_or("CTNormalization without intensity properties")?;
                let values = [p.mean, p.std, p.percentile_00_5, p.percentile_99_5];
                if !values.iter().all(|v| v.is_finite()) || p.percentile_00_5 > p.percentile_99_5 || p.std < 0.0 {
                    return Err(format!("the intensity properties {p:?} are no numbers of a CT"));
                }
                Ok(Normalization::Ct {
                    mean: p.mean,
                    std: p.std,
                    percentile_00_5: p.percentile_00_5,
                    percentile_99_5: p.percentile_99_5,
                })
            }
            "ZScoreNormalization" => Ok(Normalization::ZScore { masked }),
            "NoNormalization" => Ok(Normalization::None),
            "RescaleTo01Normalization" => Ok(Normalization::RescaleTo01),
            "RGBTo01Normalization" => Ok(Normalization::RgbTo01),
            _ => Err(format!("the normalization {name:?} is not known")),
        }
    }

    fn row(&self, name: &str) -> ChannelRow {
        let (normalization, use_mask_for_norm, intensity) = match *self {
            Normalization::Ct { mean, std, percentile_00_5, percentile_99_5 } => {
                ("CTNormalization", false, Some(IntensityRow { mean, std, percentile_00_5, percentile_99_5 }))
            }
            Normalization::ZScore { masked } => ("ZScoreNormalization", masked, None),
            Normalization::None => ("NoNormalization", false, None),
            Normalization::RescaleTo01 => ("RescaleTo01Normalization", false, None),
            Normalization::RgbTo01 => ("RGBTo01Normalization", false, None),
        };
        ChannelRow { name: name.into(), normalization: normalization.into(), use_mask_for_norm, intensity }
    }
}

impl From<&Recipe> for RecipeRow {
    fn from(r: &Recipe) -> RecipeRow {
        let resampling = |r: &Resampling| ResamplingRow {
            order: r.order.number(),
            order_z: r.order_z.number(),
            separate_z: r.separate_z,
            anisotropy: r.anisotropy,
        };
        let label =
            |l: &Label| LabelRow { value: l.value, name: l.name.clone(), region: l.region.map(|r| r.name().into()) };
        RecipeRow {
            configuration: r.configuration.clone(),
            trainer: r.trainer.clone(),
            to_ras: r.to_ras,
            transpose_forward: r.transpose_forward,
            spacing_mm: r.spacing_mm.clone(),
            patch_size: r.patch_size.clone(),
            mirror_axes: r.mirror_axes.clone(),
            regions_class_order: match &r.heads {
                Heads::Labels(_) => None,
                Heads::Regions(order) => Some(order.clone()),
            },
            postprocessing: r.postprocessing.clone(),
            image_resampling: resampling(&r.image_resampling),
            logits_resampling: resampling(&r.logits_resampling),
            channels: r.channels.iter().map(|c| c.normalization.row(&c.name)).collect(),
            labels: r.labels.iter().map(label).collect(),
            stages: r.stages.clone(),
        }
    }
}

impl TryFrom<RecipeRow> for Recipe {
    type Error = String;

    /// Checks every value: a manifest comes from outside.
    fn try_from(row: RecipeRow) -> Result<Recipe, String> {
        let resampling = |r: &ResamplingRow| -> Result<Resampling, String> {
            let order = |n: i64| Order::from_number(n).ok_or(format!("the resampling order {n} is not known"));
            let (order, order_z) = (order(r.order)?, order(r.order_z)?);
            Ok(Resampling { order, order_z, separate_z: r.separate_z, anisotropy: r.anisotropy })
        };
        let channel = |c: &ChannelRow| -> Result<Channel, String> {
            let normalization = Normalization::from_name(&c.normalization, c.use_mask_for_norm, c.intensity)?;
            Ok(Channel { name: c.name.clone(), normalization })
        };
        let label = |l: &LabelRow| -> Result<Label, String> {
            let region =
                l.region.as_deref().map(|name| Region::from_name(name).ok_or(format!("unknown region {name:?}")));
            Ok(Label { value: l.value, name: l.name.clone(), region: region.transpose()? })
        };
        let labels: Vec<Label> = row.labels.iter().map(label).collect::<Result<_, _>>()?;
        let heads = match row.regions_class_order {
            Some(order) => Heads::Regions(order),
            None => Heads::Labels(labels.len() + 1),
        };
        let recipe = Recipe {
            configuration: row.configuration,
            trainer: row.trainer,
            channels: row.channels.iter().map(channel).collect::<Result<_, _>>()?,
            to_ras: row.to_ras,
            transpose_forward: row.transpose_forward,
            spacing_mm: row.spacing_mm,
            patch_size: row.patch_size,
            image_resampling: resampling(&row.image_resampling)?,
            logits_resampling: resampling(&row.logits_resampling)?,
            mirror_axes: row.mirror_axes,
            heads,
            labels,
            postprocessing: row.postprocessing,
            stages: row.stages,
        };
        recipe.check()?;
        Ok(recipe)
    }
}

/// More logits than this are no label map of bytes.
const HEADS_MAX: usize = 255;
/// A patch beyond this many voxels fits into no memory.
const PATCH_VOXELS_MAX: usize = 1 << 27;

impl Recipe {
    /// Whether all values fit each other.
    pub fn check(&self) -> Result<(), String> {
        let dim = self.patch_size.len();
        let voxels = self.patch_size.iter().fold(1usize, |n, p| n.saturating_mul(*p));
        let mut axes = self.transpose_forward;
        axes.sort_unstable();
        let resamplings = [&self.image_resampling, &self.logits_resampling];
        let mut mirrored = self.mirror_axes.clone();
        mirrored.sort_unstable();
        mirrored.dedup();
        let known = |value: &u8| self.labels.iter().any(|l| l.value == *value);
        let rules: [(bool, &str); 12] = [
            (dim == 2 || dim == 3, "the patch must have two or three axes"),
            (self.spacing_mm.len() == dim, "spacing and patch must have equally many axes"),
            (self.spacing_mm.iter().all(|s| s.is_finite() && *s > 0.0), "the spacing must be positive"),
            (voxels > 0 && voxels <= PATCH_VOXELS_MAX, "the patch is empty or vast"),
            (axes == [0, 1, 2], "transpose_forward must name each axis once"),
            (resamplings.iter().all(|r| r.anisotropy.is_finite()), "the anisotropy threshold must be a number"),
            (self.logits_resampling.order != Order::Cubic, "logits must come back with order 0 or 1"),
            (self.logits_resampling.order_z != Order::Cubic, "logits must come back with order_z 0 or 1"),
            (
                mirrored.len() == self.mirror_axes.len() && mirrored.iter().all(|a| *a < dim),
                "mirror axes must be axes of the patch",
            ),
            (!self.channels.is_empty(), "there is no input channel"),
            ((1..=HEADS_MAX).contains(&self.heads.count()), "there are no labels, or more than 254"),
            (
                self.labels.iter().all(|l| l.value > 0)
                    && self.postprocessing.iter().flatten().all(known)
                    && match &self.heads {
                        Heads::Labels(n) => {
                            (1..*n).all(|v| u8::try_from(v).is_ok_and(|v| known(&v))) && self.labels.len() + 1 == *n
                        }
                        Heads::Regions(order) => order.iter().all(|v| *v == 0 || known(v)),
                    },
                "labels, heads and postprocessing do not name the same values",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, sentence)) => Err((*sentence).into()),
            None => Ok(()),
        }
    }
}
