//! From a CT volume to a label map, with a gate that says whether it may be used.
//!
//! A [`Package`] (bytes, hashes checked) becomes a [`Segmenter`] (network loaded, golden vectors checked). [`Segmenter::segment`]
//! resamples the volume onto the network's grid, runs it, cleans the classes, returns them to the scan's grid and judges the result.
//!
//! **Invariant:** knows volumes only: no file, clock, socket or study; the same volume gives the same labels for any number of threads.

mod engine;
pub mod gate;
mod int8;
mod kernels;
mod net;
mod network;
mod package;
mod postprocess;
pub mod quantize;
mod resample;

pub use gate::{Finding, Gate, Limits, Measures};
pub use kernels::InstructionSet;
pub use network::{Backend, Network};
pub use package::{Package, Plan};
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
            Self::QuantizedUnknown { .. } => {
                "export the network so that it ends in logits (softmax, sigmoid and arg max are computed here) and quantize that, \
                 name the tensor before them as the output, or quantize an f32 package with `metwatch model quantize`"
            }
            Self::Volume(_) => "send the series again or convert it again",
            Self::TooLarge { .. } => "check the voxel spacing in the image's header, or send the abdomen only",
        }
    }
}

/// A network that passed its golden vectors.
pub struct Segmenter {
    package: Package,
    engine: engine::Engine,
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
}

impl Segmenter {
    /// Loads the network of a package and checks its golden vectors on this machine.
    pub fn load(package: Package) -> Result<Segmenter, SegmentError> {
        let engine = engine::Engine::load(&package)?;
        Ok(Segmenter { package, engine })
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
        let mut input = grid.sample(volume);
        let between_share = gate::between_share(&input);
        input.mapv_inplace(|hu| plan.input(hu));
        progress(0.2);
        let mut probabilities = self.engine.logits(input, plan.pad_multiple)?;
        if probabilities.dim().0 != self.package.scheme.entries.len() + 1 {
            return Err(SegmentError::Shape);
        }
        engine::softmax(&mut probabilities);
        progress(0.8);
        let (_, n_z, n_y, n_x) = probabilities.dim();
        let mut classes = Array3::from_shape_fn((n_z, n_y, n_x), |(z, y, x)| {
            let at = |c: &usize| probabilities[[*c, z, y, x]];
            (0..probabilities.dim().0).fold(0, |best, c| if at(&c) > at(&best) { c } else { best }) as u8
        });
        let scheme = &self.package.scheme;
        let class = |region| scheme.value_of(region);
        let organ = [class(Region::Liver), class(Region::LiverLesion)];
        let voxel_mm3 = grid.geometry.voxel_mm3();
        let cleaned = postprocess::clean(
            &mut classes,
            &mut probabilities,
            voxel_mm3,
            [organ[0], organ[1], class(Region::ColorectalTumor)],
        );
        let entropy = mean_entropy(&classes, &probabilities, organ);
        let on_grid = gate::OnGrid { entropy, fragments: cleaned.fragments, between_share };
        let labels = grid.labels_on(&volume.geometry, &probabilities);
        let labels = LabelMap { labels, geometry: volume.geometry.clone(), scheme: scheme.clone() };
        let measures = gate::measure(volume, &labels, on_grid);
        let gate = gate::judge(&measures, &self.package.limits);
        progress(1.0);
        Ok(Segmentation { labels, measures, gate })
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

/// Mean entropy (nats) over the voxels of the given classes on the network's grid; 0 without such voxels.
fn mean_entropy(classes: &Array3<u8>, probabilities: &Array4<f32>, of: [Option<u8>; 2]) -> f64 {
    let (mut sum, mut n) = (0.0f64, 0u64);
    for ((z, y, x), class) in classes.indexed_iter() {
        if *class != 0 && of.contains(&Some(*class)) {
            n += 1;
            let at = |c| f64::from(probabilities[[c, z, y, x]]);
            sum -= (0..probabilities.dim().0).map(at).filter(|p| *p > 0.0).map(|p| p * p.ln()).sum::<f64>();
        }
    }
    sum / n.max(1) as f64
}

#[cfg(test)]
mod tests;
