//! From a CT volume to a label map, with a gate that says whether it may be used.
//!
//! A [`Package`] (bytes, hashes checked) becomes a [`Segmenter`] (network loaded, golden vectors checked). [`Segmenter::segment`]
//! resamples the volume onto the network's grid, runs it, cleans the classes, returns them to the scan's grid and judges the result;
//! or, for a model trained with nnU-Net, does what nnU-Net does ([`nnunet`]).
//!
//! **Invariant:** knows volumes only: no file, clock, socket or study; the same volume gives the same labels for any number of threads.

mod engine;
pub mod gate;
mod int8;
mod kernels;
mod net;
mod network;
pub mod nnunet;
mod package;
mod postprocess;
pub mod quantize;
mod refine;
mod resample;

pub use gate::{Certainty, Finding, Gate, Limits, Measures, Phase};
pub use kernels::InstructionSet;
pub use network::{Backend, Network};
pub use nnunet::Estimate;
pub use package::{GridPlan, Package, Plan, SelfTest};
pub use refine::{Candidate, Refine};
pub use resample::Grid;

use crate::Explain;
use crate::volume::{LabelMap, LabelScheme, Region, Volume};
use ndarray::{Array3, Array4, Axis};
use rayon::prelude::*;

/// More voxels than this (1024 x 1024 x 1024) are no CT of an abdomen.
const VOXELS_MAX: usize = 1 << 30;
/// The gate looks at the image on this grid where the network has none of its own.
const GATE_SPACING_MM: [f64; 3] = [4.0; 3];

/// Why there is no segmenter or no segmentation.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// A package that is not complete or not readable.
    #[error("the segmenter package is not valid: {message}")]
    PackageInvalid {
        /// What is wrong.
        message: String,
    },
    /// A file that differs from its hash.
    #[error("the file {file} of the segmenter package is not the one its manifest names (SHA-256 differs)")]
    HashMismatch {
        /// Which file.
        file: String,
    },
    /// The network does not give the logits it gave when it was made.
    #[error(
        "the network fails its golden vectors on this machine: logits differ by {worst:.4}, allowed {tolerance:.4}"
    )]
    GoldenMismatch {
        /// Largest difference.
        worst: f32,
        /// Largest allowed difference.
        tolerance: f32,
    },
    /// The network cannot be loaded or run.
    #[error("{action}: {message}")]
    Network {
        /// What was being done.
        action: &'static str,
        /// The backend's words.
        message: String,
    },
    /// The own engine was asked for and does not know what the network uses.
    #[error("the own engine cannot run this network; it does not know: {operators}")]
    OperatorsUnknown {
        /// By their ONNX names.
        operators: String,
    },
    /// More or fewer images than the model has channels.
    #[error("the model takes {expected} images of the same patient and grid ({names}), not {found}")]
    Channels {
        /// How many were given.
        found: usize,
        /// How many it takes.
        expected: usize,
        /// What they are called, in their order.
        names: String,
    },
    /// Not enough memory for what was asked.
    #[error("this needs {} MiB of memory, {} MiB are available", needed >> 20, available >> 20)]
    Memory {
        /// Bytes at the peak.
        needed: u64,
        /// Bytes that there are.
        available: u64,
    },
    /// A network with quantized activations that would not be computed as it was made.
    #[error("this quantized network cannot be run in integers; it uses: {operators}")]
    QuantizedUnknown {
        /// By their ONNX names.
        operators: String,
    },
    /// The network's output does not have the shape of its input.
    #[error("the network's output does not fit its input or its labels")]
    Shape,
    /// A volume that cannot be segmented.
    #[error("the volume cannot be segmented: {0}")]
    Volume(String),
    /// More voxels on the network's grid than memory allows for.
    #[error(
        "the scan needs a grid of {voxels} voxels for the network, more than {} are no CT of an abdomen",
        engine::GRID_VOXELS_MAX
    )]
    TooLarge {
        /// Voxels of the network's grid.
        voxels: usize,
    },
}

impl Explain for SegmentError {
    fn code(&self) -> &'static str {
        match self {
            Self::PackageInvalid { .. } => "package.invalid",
            Self::HashMismatch { .. } => "package.hash-mismatch",
            Self::GoldenMismatch { .. } => "package.golden-mismatch",
            Self::Network { .. } => "segment.network",
            Self::OperatorsUnknown { .. } => "segment.operators-unknown",
            Self::Channels { .. } => "segment.channels",
            Self::Memory { .. } => "segment.memory",
            Self::QuantizedUnknown { .. } => "segment.quantized-unknown",
            Self::Shape => "segment.shape",
            Self::Volume(_) => "segment.volume",
            Self::TooLarge { .. } => "segment.too-large",
        }
    }
    fn advice(&self) -> &'static str {
        match self {
            Self::PackageInvalid { .. } | Self::HashMismatch { .. } => "install the package again from its source",
            Self::GoldenMismatch { .. } => {
                "do not use this package on this machine; report it with the machine's processor"
            }
            Self::Network { .. } | Self::Shape => "use a package made for this version of metwatch",
            Self::OperatorsUnknown { .. } => "run it on the backend tract, or leave the choice to metwatch",
            Self::Channels { .. } => {
                "give one image per channel, in this order (`metwatch segment FIRST --channel SECOND`)"
            }
            Self::Memory { .. } => {
                "use a machine with more memory, cut the scan to the abdomen, or leave out probabilities"
            }
            Self::QuantizedUnknown { .. } => {
                "export the network so that it ends in logits (softmax, sigmoid and arg max are computed here) and quantize that, \
                 name the tensor before them as the output, or quantize an f32 package with `metwatch model quantize`"
            }
            Self::Volume(_) => "send the series again or convert it again",
            Self::TooLarge { .. } => "check the voxel spacing in the image's header, or send the abdomen only",
        }
    }
}

/// What may be asked of a segmentation.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether a model that was trained for it sees its patches mirrored as well.
    pub mirror: bool,
    /// Whether probabilities are kept.
    pub probabilities: bool,
    /// Passes of a network at a time, at most.
    pub passes: usize,
    /// Fewer passes at a time where they would need more memory (bytes) than this together with everything else.
    pub memory_limit: u64,
    /// Refuses what needs more memory (bytes) than there is.
    pub memory_available: Option<u64>,
}

impl Default for Options {
    fn default() -> Options {
        let passes = rayon::current_num_threads();
        Options { mirror: true, probabilities: false, passes, memory_limit: 2 << 30, memory_available: None }
    }
}

/// How far a segmentation is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// The image is on the network's grid.
    Prepared,
    /// So many patches are done.
    Patch {
        /// Finished.
        done: usize,
        /// All.
        total: usize,
    },
    /// Labels are there, the gate has judged.
    Labeled,
}

/// A network that passed its golden vectors.
pub struct Segmenter {
    package: Package,
    runner: Runner,
}

enum Runner {
    Grid {
        engine: engine::Engine,
        refine: Option<engine::Engine>,
    },
    /// One network per fold.
    Nnunet(Vec<Network>),
}

/// Labels and what belongs to them.
#[derive(Debug, Clone)]
pub struct Segmentation {
    /// On the volume's own grid.
    pub labels: LabelMap,
    /// What the gate measured.
    pub measures: Measures,
    /// What the gate says.
    pub gate: Gate,
    /// Lesions that the second network marked for review, largest first; empty without one.
    pub lesions: Vec<Candidate>,
    /// Shape (classes, z, y, x) on the volume's own grid, where they were asked for; of the first network.
    pub probabilities: Option<Array4<f32>>,
}

impl Segmenter {
    /// Loads the networks of a package on the own engine, or on tract what the engine does not know.
    pub fn load(package: Package) -> Result<Segmenter, SegmentError> {
        Segmenter::load_on(package, None)
    }

    /// Loads the networks of a package and checks their golden vectors on this machine, on the backend that is wanted.
    pub fn load_on(package: Package, wanted: Option<Backend>) -> Result<Segmenter, SegmentError> {
        let runner = match &package.plan {
            Plan::Grid(_) => Runner::Grid {
                engine: engine::Engine::load(&package, wanted)?,
                refine: package.refine.as_ref().map(|r| engine::Engine::load_refine(r, wanted)).transpose()?,
            },
            Plan::Nnunet(recipe) => {
                let folds: Vec<(&[u8], &package::Golden)> = package.folds().collect();
                Runner::Nnunet(nnunet::load(recipe, &folds, [&package.input, &package.output], wanted)?)
            }
        };
        Ok(Segmenter { package, runner })
    }

    /// The package it was loaded from.
    pub fn package(&self) -> &Package {
        &self.package
    }

    /// What really runs, for results: the backend of each network, its instruction set, arithmetic.
    pub fn backend(&self) -> String {
        let networks: Vec<&Network> = match &self.runner {
            Runner::Grid { engine, refine } => {
                std::iter::once(engine).chain(refine.as_ref()).map(engine::Engine::network).collect()
            }
            Runner::Nnunet(folds) => folds.iter().collect(),
        };
        let mut names: Vec<String> =
            networks.iter().map(|n| format!("{} ({})", n.backend().name(), n.instruction_set())).collect();
        names.dedup();
        format!("{}, CPU, {}", names.join(" and "), self.package.quantization)
    }

    /// What the labels mean.
    pub fn scheme(&self) -> &LabelScheme {
        &self.package.scheme
    }

    /// What a segmentation will do and need, without doing it.
    pub fn estimate(&self, channels: &[&Volume], options: &Options) -> Result<Estimate, SegmentError> {
        match &self.package.plan {
            Plan::Grid(plan) => {
                let volume = self.only_channel(channels)?;
                check(volume)?;
                let grid = Grid::over(&volume.geometry, plan.spacing_mm, plan.pad_multiple);
                let heads = self.package.scheme.entries.len() + 1;
                engine::estimate(&grid, volume.hu.len(), heads, options.probabilities)
            }
            Plan::Nnunet(recipe) => nnunet::estimate(recipe, self.package.network_bytes(), channels, options),
        }
    }

    /// Segments a volume. `progress` is told the finished share, 0 to 1.
    pub fn segment(&self, volume: &Volume, progress: &(dyn Fn(f32) + Sync)) -> Result<Segmentation, SegmentError> {
        let share = |step| match step {
            Step::Prepared => progress(0.2),
            Step::Patch { done, total } => progress(0.2 + 0.6 * done as f32 / total.max(1) as f32),
            Step::Labeled => progress(1.0),
        };
        self.segment_channels(&[volume], &Options::default(), &share)
    }

    /// Segments a patient of whom there is one image per input channel, all on one grid.
    pub fn segment_channels(
        &self,
        channels: &[&Volume],
        options: &Options,
        progress: &(dyn Fn(Step) + Sync),
    ) -> Result<Segmentation, SegmentError> {
        let segmentation = match (&self.package.plan, &self.runner) {
            (Plan::Grid(plan), Runner::Grid { engine, refine }) => {
                self.on_grid(plan, (engine, refine.as_ref()), self.only_channel(channels)?, options, progress)
            }
            (Plan::Nnunet(recipe), Runner::Nnunet(networks)) => {
                self.as_nnunet(recipe, networks, channels, options, progress)
            }
            _ => unreachable!("`load` makes the runner from the plan"),
        }?;
        progress(Step::Labeled);
        Ok(segmentation)
    }

    /// What the networks of an nnU-Net model say on their own grid, shape (heads, z, y, x) in its order of axes, for comparisons; `None`
    /// for another kind of package.
    pub fn nnunet_logits(&self, channels: &[&Volume], options: &Options) -> Result<Option<Array4<f32>>, SegmentError> {
        let (Plan::Nnunet(recipe), Runner::Nnunet(networks)) = (&self.package.plan, &self.runner) else {
            return Ok(None);
        };
        let prepared = nnunet::prepare(recipe, channels)?;
        let (_, n_z, n_y, n_x) = prepared.image.dim();
        let mut all = Array4::zeros((recipe.heads.count(), n_z, n_y, n_x));
        nnunet::logits(recipe, networks, &prepared, options, options.passes, &|_| (), &mut |z, logits| {
            all.index_axis_mut(Axis(1), z).assign(&logits);
            Ok(())
        })?;
        Ok(Some(all))
    }

    fn only_channel<'a>(&self, channels: &[&'a Volume]) -> Result<&'a Volume, SegmentError> {
        match channels {
            [volume] => Ok(volume),
            _ => Err(SegmentError::Channels { found: channels.len(), expected: 1, names: "CT".into() }),
        }
    }

    fn on_grid(
        &self,
        plan: &GridPlan,
        (engine, refine): (&engine::Engine, Option<&engine::Engine>),
        volume: &Volume,
        options: &Options,
        progress: &(dyn Fn(Step) + Sync),
    ) -> Result<Segmentation, SegmentError> {
        check(volume)?;
        let grid = Grid::over(&volume.geometry, plan.spacing_mm, plan.pad_multiple);
        if grid.n_voxels() > engine::GRID_VOXELS_MAX {
            return Err(SegmentError::TooLarge { voxels: grid.n_voxels() });
        }
        let hu = grid.sample(volume);
        progress(Step::Prepared);
        let mut probabilities = engine.logits(scaled(&hu, plan), plan.pad_multiple)?;
        self.check_classes(probabilities.dim().0)?;
        engine::softmax(&mut probabilities);
        let mut classes = engine::arg_max(&probabilities);
        let scheme = &self.package.scheme;
        // Labels beyond the first network's classes are the second's alone.
        let n_classes = probabilities.dim().0;
        let class = |region| scheme.value_of(region).filter(|value| usize::from(*value) < n_classes);
        let organ = [class(Region::Liver), class(Region::LiverLesion)];
        let tumor = class(Region::ColorectalTumor);
        let voxel_mm3 = grid.geometry.voxel_mm3();
        let certainty = self.certainty(plan, engine, &hu, &classes, &probabilities)?;
        let cleaned = postprocess::clean(
            &mut classes,
            &mut probabilities,
            voxel_mm3,
            [organ[0], organ[1], tumor],
            postprocess::Least::default(),
        );
        let entropy = mean_entropy(&classes, &probabilities, &values(&organ));
        let liver = classes.mapv(|class| class != 0 && organ.contains(&Some(class)));
        let on_grid = gate::OnGrid {
            entropy,
            fragments: cleaned.fragments,
            between_share: gate::between_share(&hu),
            image: gate::image(&hu, &liver, &grid),
            certainty,
        };
        let labels = grid.labels_on(&volume.geometry, &probabilities);
        let on_image = options.probabilities.then(|| grid.probabilities_on(&volume.geometry, &probabilities));
        let mut labels = LabelMap { labels, geometry: volume.geometry.clone(), scheme: scheme.clone() };
        let mut lesions = Vec::new();
        if let (Some(refine), Some(engine)) = (&self.package.refine, refine) {
            let mut liver = Array3::zeros(classes.dim());
            for class in organ.into_iter().flatten() {
                liver += &probabilities.index_axis(Axis(0), usize::from(class));
            }
            let first = refine::FirstStage { grid: &grid, liver };
            lesions = refine.apply(engine, volume, &first, &mut labels)?;
        }
        progress(Step::Patch { done: 1, total: 1 });
        Ok(self.judge(volume, labels, on_grid, lesions, on_image))
    }

    fn as_nnunet(
        &self,
        recipe: &nnunet::Recipe,
        networks: &[Network],
        channels: &[&Volume],
        options: &Options,
        progress: &(dyn Fn(Step) + Sync),
    ) -> Result<Segmentation, SegmentError> {
        let scheme = &self.package.scheme;
        let organ = [Region::Liver, Region::LiverLesion].map(|region| scheme.value_of(region));
        let organ: Vec<u8> = organ.into_iter().flatten().collect();
        let bytes = self.package.network_bytes();
        let mut found = nnunet::predict(recipe, networks, bytes, channels, &organ, options, progress)?;
        let fragments = nnunet::Components::of(found.labels.view(), &organ).fragments();
        nnunet::postprocess(recipe, &mut found.labels);
        let volume = channels[0];
        let labels = LabelMap { labels: found.labels, geometry: volume.geometry.clone(), scheme: scheme.clone() };
        let on_grid = gate::OnGrid {
            entropy: found.entropy,
            fragments,
            between_share: gate::between_share(&volume.hu),
            ..self.image_of(volume, &labels)?
        };
        Ok(self.judge(volume, labels, on_grid, Vec::new(), found.probabilities))
    }

    fn judge(
        &self,
        volume: &Volume,
        labels: LabelMap,
        on_grid: gate::OnGrid,
        lesions: Vec<Candidate>,
        probabilities: Option<Array4<f32>>,
    ) -> Segmentation {
        let measures = gate::measure(volume, &labels, on_grid);
        let mut gate = match labels.scheme.value_of(Region::Liver) {
            Some(_) => gate::judge(&measures, &self.package.limits),
            None => gate::without_liver(),
        };
        gate.notes.extend(self.for_review(&labels, &lesions));
        Segmentation { labels, measures, gate, lesions, probabilities }
    }

    /// What the gate wants to know of the image, with labels that lie on the scan's own grid.
    fn image_of(&self, volume: &Volume, labels: &LabelMap) -> Result<gate::OnGrid, SegmentError> {
        let (spacing_mm, pad_multiple) = match &self.package.plan {
            Plan::Grid(plan) => (plan.spacing_mm, plan.pad_multiple),
            Plan::Nnunet(_) => (GATE_SPACING_MM, 1),
        };
        let grid = Grid::over(&volume.geometry, spacing_mm, pad_multiple);
        if grid.n_voxels() > engine::GRID_VOXELS_MAX {
            return Err(SegmentError::TooLarge { voxels: grid.n_voxels() });
        }
        let liver = labels.mask(Region::Liver).mapv(|inside| f32::from(u8::from(inside)));
        let liver = grid.sample(&Volume { hu: liver, geometry: labels.geometry.clone() }).mapv(|share| share > 0.5);
        Ok(gate::OnGrid { image: gate::image(&grid.sample(volume), &liver, &grid), ..Default::default() })
    }

    /// Judges labels that did not come from the network: the image and the anatomy, not how sure the network is.
    pub fn judge_labels(&self, volume: &Volume, labels: LabelMap) -> Result<Segmentation, SegmentError> {
        check(volume)?;
        let on_grid = self.image_of(volume, &labels)?;
        let measures = gate::measure(volume, &labels, on_grid);
        let gate = gate::judge(&measures, &self.package.limits);
        Ok(Segmentation { labels, measures, gate, lesions: Vec::new(), probabilities: None })
    }

    /// How sure the network is of each region that the package is calibrated for: its entropy, and its answer to a disturbed image.
    fn certainty(
        &self,
        plan: &GridPlan,
        engine: &engine::Engine,
        hu: &Array3<f32>,
        classes: &Array3<u8>,
        probabilities: &Array4<f32>,
    ) -> Result<Vec<gate::Certainty>, SegmentError> {
        let Some(expected) = &self.package.limits.expected else { return Ok(Vec::new()) };
        let again = engine::arg_max(&engine.logits(scaled(&gate::disturbed(hu), plan), plan.pad_multiple)?);
        let scheme = &self.package.scheme;
        let of = |row: &gate::ExpectedRegion| {
            let region = Region::from_name(&row.region)?;
            let inner = (region == Region::Liver).then_some(Region::LiverLesion);
            let classes_of = values(&[scheme.value_of(region), inner.and_then(|inner| scheme.value_of(inner))]);
            let disagreement = gate::disagreement(classes, &again, &classes_of);
            let entropy = mean_entropy(classes, probabilities, &classes_of);
            let expected_dice = row.plane.dice(entropy, disagreement);
            (!disagreement.is_nan()).then_some(gate::Certainty { region, entropy, disagreement, expected_dice })
        };
        Ok(expected.regions.iter().filter_map(of).collect())
    }

    /// Notes on what a person has to look at before it counts.
    fn for_review(&self, labels: &LabelMap, lesions: &[Candidate]) -> Vec<Finding> {
        const ADVICE: &str = "look at the marks; `metwatch study reanalyze --labels` takes the corrected ones";
        let mut notes = Vec::new();
        if let (Some(largest), Some(refine)) = (lesions.first(), &self.package.refine) {
            let sentence = format!(
                "{} liver lesions are marked for review, the largest of {:.1} mL with a mean probability of {:.2} (marked from {:.1} mL and {:.2})",
                lesions.len(),
                largest.volume_ml,
                largest.probability,
                refine.lesion_mm3_min / 1000.0,
                refine.lesion_probability_min
            );
            notes.push(Finding { code: "gate.lesions-for-review", sentence, advice: ADVICE });
        }
        for region in &self.package.for_review {
            let ml = labels.volume_ml(*region);
            if ml > 0.0 && (*region != Region::LiverLesion || lesions.is_empty()) {
                let sentence =
                    format!("{}: {ml:.1} mL are marked for review; nobody has confirmed them", region.title());
                notes.push(Finding { code: "gate.for-review", sentence, advice: ADVICE });
            }
        }
        notes
    }

    /// The first network has a class per label, but for labels that only the second gives.
    fn check_classes(&self, n_classes: usize) -> Result<(), SegmentError> {
        let entries = &self.package.scheme.entries;
        let of_second = |value: &u8| self.package.refine.as_ref().is_some_and(|refine| refine.classes.contains(value));
        let fits = (2..=entries.len() + 1).contains(&n_classes)
            && entries.iter().skip(n_classes - 1).all(|(value, ..)| of_second(value));
        if fits { Ok(()) } else { Err(SegmentError::Shape) }
    }
}

/// Refuses what no network can answer.
fn check(volume: &Volume) -> Result<(), SegmentError> {
    volume.geometry.check().map_err(|e| SegmentError::Volume(e.to_string()))?;
    if volume.hu.dim() != volume.geometry.shape_zyx() {
        return Err(SegmentError::Volume("its array does not have the shape of its grid".into()));
    }
    if volume.hu.len() > VOXELS_MAX {
        return Err(SegmentError::Volume(format!("{} voxels are more than {VOXELS_MAX}", volume.hu.len())));
    }
    let slices = volume.hu.axis_iter(Axis(0)).into_par_iter();
    match slices.map(|slice| slice.iter().filter(|hu| !hu.is_finite()).count()).sum::<usize>() {
        0 => Ok(()),
        n => Err(SegmentError::Volume(format!("{n} voxels are NaN or infinite"))),
    }
}

/// HU as the first network takes them, shape (1, z, y, x).
fn scaled(hu: &Array3<f32>, plan: &GridPlan) -> Array4<f32> {
    hu.mapv(|hu| plan.input(hu)).insert_axis(Axis(0))
}

fn values(of: &[Option<u8>]) -> Vec<u8> {
    of.iter().flatten().copied().collect()
}

/// Mean entropy (nats) over the voxels of the given classes on the network's grid; 0 without such voxels.
fn mean_entropy(classes: &Array3<u8>, probabilities: &Array4<f32>, of: &[u8]) -> f64 {
    let (mut sum, mut n) = (0.0f64, 0u64);
    for ((z, y, x), class) in classes.indexed_iter() {
        if of.contains(class) {
            n += 1;
            let at = |c| f64::from(probabilities[[c, z, y, x]]);
            sum -= (0..probabilities.dim().0).map(at).filter(|p| *p > 0.0).map(|p| p * p.ln()).sum::<f64>();
        }
    }
    sum / n.max(1) as f64
}

#[cfg(test)]
mod tests;
