//! From a CT volume to a label map, with a gate that says whether it may be used.
//!
//! A [`Package`] (bytes, hashes checked) becomes a [`Segmenter`] (network loaded, golden vectors checked). [`Segmenter::segment`]
//! resamples the volume onto the network's grid, runs it, cleans the classes, returns them to the scan's grid and judges the result.
//!
//! **Invariant:** knows volumes only: no file, clock, socket or study; the same volume gives the same labels for any number of threads.

mod engine;
pub mod gate;
mod kernels;
mod net;
mod network;
mod package;
mod postprocess;
mod refine;
mod resample;

pub use gate::{Certainty, Finding, Gate, Limits, Measures, Phase};
pub use kernels::InstructionSet;
pub use network::{Backend, Network};
pub use package::{Package, Plan, SelfTest};
pub use refine::{Candidate, Refine};
pub use resample::Grid;

use crate::Explain;
use crate::volume::{LabelMap, LabelScheme, Region, Volume};
use ndarray::{Array3, Array4, Axis};
use rayon::prelude::*;

/// More voxels than this (1024 x 1024 x 1024) are no CT of an abdomen.
const VOXELS_MAX: usize = 1 << 30;

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
            Self::Volume(_) => "send the series again or convert it again",
            Self::TooLarge { .. } => "check the voxel spacing in the image's header, or send the abdomen only",
        }
    }
}

/// A network that passed its golden vectors.
pub struct Segmenter {
    package: Package,
    engine: engine::Engine,
    refine: Option<engine::Engine>,
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
}

impl Segmenter {
    /// Loads the network of a package and checks its golden vectors on this machine.
    pub fn load(package: Package) -> Result<Segmenter, SegmentError> {
        let engine = engine::Engine::load(&package)?;
        let refine = package.refine.as_ref().map(engine::Engine::load_refine).transpose()?;
        Ok(Segmenter { package, engine, refine })
    }

    /// The package it was loaded from.
    pub fn package(&self) -> &Package {
        &self.package
    }

    /// What the labels mean.
    pub fn scheme(&self) -> &LabelScheme {
        &self.package.scheme
    }

    /// Segments a volume. `progress` is told the finished share, 0 to 1.
    pub fn segment(&self, volume: &Volume, progress: &(dyn Fn(f32) + Sync)) -> Result<Segmentation, SegmentError> {
        check(volume)?;
        let plan = &self.package.plan;
        let grid = Grid::over(&volume.geometry, plan.spacing_mm, plan.pad_multiple);
        if grid.n_voxels() > engine::GRID_VOXELS_MAX {
            return Err(SegmentError::TooLarge { voxels: grid.n_voxels() });
        }
        let hu = grid.sample(volume);
        progress(0.1);
        let mut probabilities = self.engine.logits(scaled(&hu, plan), plan.pad_multiple)?;
        self.check_classes(probabilities.dim().0)?;
        engine::softmax(&mut probabilities);
        progress(0.5);
        let mut classes = engine::arg_max(&probabilities);
        let scheme = &self.package.scheme;
        // Labels beyond the first network's classes are the second's alone.
        let n_classes = probabilities.dim().0;
        let class = |region| scheme.value_of(region).filter(|value| usize::from(*value) < n_classes);
        let organ = [class(Region::Liver), class(Region::LiverLesion)];
        let tumor = class(Region::ColorectalTumor);
        let voxel_mm3 = grid.geometry.voxel_mm3();
        let certainty = self.certainty(&hu, &classes, &probabilities)?;
        progress(0.7);
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
        let mut labels = LabelMap { labels, geometry: volume.geometry.clone(), scheme: scheme.clone() };
        let mut lesions = Vec::new();
        if let (Some(refine), Some(engine)) = (&self.package.refine, &self.refine) {
            let mut liver = Array3::zeros(classes.dim());
            for class in organ.into_iter().flatten() {
                liver += &probabilities.index_axis(Axis(0), usize::from(class));
            }
            let first = refine::FirstStage { grid: &grid, liver };
            lesions = refine.apply(engine, volume, &first, &mut labels)?;
        }
        let measures = gate::measure(volume, &labels, on_grid);
        let mut gate = gate::judge(&measures, &self.package.limits);
        gate.notes.extend(self.for_review(&labels, &lesions));
        progress(1.0);
        Ok(Segmentation { labels, measures, gate, lesions })
    }

    /// Judges labels that did not come from the network: the image and the anatomy, not how sure the network is.
    pub fn judge_labels(&self, volume: &Volume, labels: LabelMap) -> Result<Segmentation, SegmentError> {
        check(volume)?;
        let plan = &self.package.plan;
        let grid = Grid::over(&volume.geometry, plan.spacing_mm, plan.pad_multiple);
        if grid.n_voxels() > engine::GRID_VOXELS_MAX {
            return Err(SegmentError::TooLarge { voxels: grid.n_voxels() });
        }
        let liver = labels.mask(Region::Liver).mapv(|inside| f32::from(u8::from(inside)));
        let liver = grid.sample(&Volume { hu: liver, geometry: labels.geometry.clone() }).mapv(|share| share > 0.5);
        let on_grid = gate::OnGrid { image: gate::image(&grid.sample(volume), &liver, &grid), ..Default::default() };
        let measures = gate::measure(volume, &labels, on_grid);
        let gate = gate::judge(&measures, &self.package.limits);
        Ok(Segmentation { labels, measures, gate, lesions: Vec::new() })
    }

    /// How sure the network is of each region that the package is calibrated for: its entropy, and its answer to a disturbed image.
    fn certainty(
        &self,
        hu: &Array3<f32>,
        classes: &Array3<u8>,
        probabilities: &Array4<f32>,
    ) -> Result<Vec<gate::Certainty>, SegmentError> {
        let Some(expected) = &self.package.limits.expected else { return Ok(Vec::new()) };
        let plan = &self.package.plan;
        let again = engine::arg_max(&self.engine.logits(scaled(&gate::disturbed(hu), plan), plan.pad_multiple)?);
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
fn scaled(hu: &Array3<f32>, plan: &Plan) -> Array4<f32> {
    let [low, high] = plan.clip_hu;
    hu.mapv(|hu| (hu.clamp(low, high) - plan.center_hu) / plan.scale_hu).insert_axis(Axis(0))
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
