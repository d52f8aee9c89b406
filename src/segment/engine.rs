//! The network on tract (f32 arithmetic; int8 weights are unfolded when it is loaded), guarded by golden vectors.

use super::{Package, SegmentError, package::Golden};
use ndarray::{Array3, Array4, Axis, s};
use std::sync::Mutex;
use tract_onnx::prelude::*;

/// More voxels than this in one pass would need over 1 GiB of activations; longer scans are cut into overlapping blocks along z.
const PASS_VOXELS_MAX: usize = 2_500_000;
/// Overlap of blocks on each side, in voxels of the network's grid: the network sees about 30.
const OVERLAP: usize = 32;

type Runnable = std::sync::Arc<TypedRunnableModel>;

/// A loaded network.
pub struct Engine {
    model: InferenceModel,
    /// The network made runnable for the shape seen last: a box sees few shapes.
    last: Mutex<Option<([usize; 3], Runnable)>>,
}

impl Engine {
    /// Loads the network and compares its answer to the golden input.
    pub fn load(package: &Package) -> Result<Engine, SegmentError> {
        let mut model = tract_onnx::onnx()
            .model_for_read(&mut std::io::Cursor::new(&package.onnx))
            .map_err(|e| network("parsing model.onnx", &e))?;
        model.set_input_names([&package.input]).map_err(|e| network("finding the input", &e))?;
        model.select_outputs_by_name([&package.output]).map_err(|e| network("finding the output", &e))?;
        let engine = Engine { model, last: Mutex::new(None) };
        engine.check(&package.golden)?;
        Ok(engine)
    }

    fn check(&self, golden: &Golden) -> Result<(), SegmentError> {
        let [z, y, x] = golden.shape_zyx;
        let input =
            Array3::from_shape_vec((z, y, x), golden_input(golden.seed, z * y * x)).map_err(|_| SegmentError::Shape)?;
        let logits = self.pass(input)?;
        let found: Vec<f32> = logits.iter().step_by(golden.stride).copied().collect();
        if found.len() != golden.logits.len() {
            let message =
                format!("golden.json lists {} logits, the network gives {}", golden.logits.len(), found.len());
            return Err(SegmentError::PackageInvalid { message });
        }
        let worst = found
            .iter()
            .zip(&golden.logits)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0f32, |w, d| if d.is_nan() { f32::INFINITY } else { w.max(d) });
        if worst <= golden.tolerance {
            Ok(())
        } else {
            Err(SegmentError::GoldenMismatch { worst, tolerance: golden.tolerance })
        }
    }

    /// Logits, shape (classes, z, y, x), of an input of shape (z, y, x); each axis a multiple that the network can halve.
    pub fn logits(&self, input: Array3<f32>, multiple: usize) -> Result<Array4<f32>, SegmentError> {
        let (n, rows, columns) = input.dim();
        let block = (PASS_VOXELS_MAX / (rows * columns).max(1)) / multiple * multiple;
        if n <= block.max(multiple) {
            return self.pass(input);
        }
        if block <= 2 * OVERLAP + multiple {
            return Err(SegmentError::TooLarge { voxels: n * rows * columns });
        }
        let mut whole: Option<Array4<f32>> = None;
        let mut from = 0;
        while from < n {
            let low = from.saturating_sub(OVERLAP) / multiple * multiple;
            let high = (low + block).min(n);
            let to = if high == n { n } else { high - OVERLAP };
            let part = self.pass(input.slice(s![low..high, .., ..]).to_owned())?;
            let whole = whole.get_or_insert_with(|| Array4::zeros((part.dim().0, n, rows, columns)));
            whole.slice_mut(s![.., from..to, .., ..]).assign(&part.slice(s![.., from - low..to - low, .., ..]));
            from = to;
        }
        whole.ok_or(SegmentError::Shape)
    }

    fn pass(&self, input: Array3<f32>) -> Result<Array4<f32>, SegmentError> {
        let (z, y, x) = input.dim();
        let runnable = self.runnable([z, y, x])?;
        let tensor: Tensor = Tensor::from_shape(&[1, 1, z, y, x], input.as_slice().ok_or(SegmentError::Shape)?)
            .map_err(|e| network("making the input", &e))?;
        let outputs = runnable.run(tvec!(tensor.into())).map_err(|e| network("running the network", &e))?;
        let view = outputs[0].to_plain_array_view::<f32>().map_err(|e| network("reading the logits", &e))?;
        let shape = view.shape().to_vec();
        if shape.len() != 5 || shape[0] != 1 || shape[2..] != [z, y, x] {
            return Err(SegmentError::Shape);
        }
        let values: Vec<f32> = view.iter().copied().collect();
        Array4::from_shape_vec((shape[1], z, y, x), values).map_err(|_| SegmentError::Shape)
    }

    fn runnable(&self, shape: [usize; 3]) -> Result<Runnable, SegmentError> {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((known, runnable)) = &*last
            && *known == shape
        {
            return Ok(runnable.clone());
        }
        let fact = InferenceFact::dt_shape(f32::datum_type(), [1, 1, shape[0], shape[1], shape[2]]);
        let runnable = self
            .model
            .clone()
            .with_input_fact(0, fact)
            .and_then(InferenceModelExt::into_optimized)
            .and_then(|m| m.into_runnable())
            .map_err(|e| network("preparing the network", &e))?;
        *last = Some((shape, runnable.clone()));
        Ok(runnable)
    }
}

/// Softmax over the classes of logits (classes, z, y, x), in place.
pub fn softmax(logits: &mut Array4<f32>) {
    for mut plane in logits.axis_iter_mut(Axis(1)) {
        for mut voxel in plane.lanes_mut(Axis(0)) {
            let top = voxel.fold(f32::NEG_INFINITY, |m, v| m.max(*v));
            voxel.mapv_inplace(|v| (v - top).exp());
            let sum = voxel.sum();
            voxel.mapv_inplace(|v| v / sum);
        }
    }
}

/// The seeded input of golden vectors: a 64-bit linear congruential generator (Knuth's MMIX), upper 31 bits, in [-1, 1).
fn golden_input(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as f64 / f64::from(1u32 << 30) - 1.0) as f32
    };
    (0..n).map(next).collect()
}

fn network(action: &'static str, error: &TractError) -> SegmentError {
    SegmentError::Network { action, message: format!("{error:#}") }
}
