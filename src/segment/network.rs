//! A network that runs: ONNX in, logits out, on the backend that was asked for.

use super::SegmentError;
use ndarray::{ArrayD, ArrayViewD, IxDyn};
use std::sync::Mutex;
use tract_onnx::prelude::*;

type Runnable = std::sync::Arc<TypedRunnableModel>;

/// A loaded network. It takes inputs of any size that its layers can halve.
pub struct Network {
    model: InferenceModel,
    /// The network made runnable for the shape seen last: a box sees few shapes.
    last: Mutex<Option<(Vec<usize>, Runnable)>>,
}

impl Network {
    /// Loads an ONNX network; `input` and `output` name its tensors, whose first axis is the batch.
    pub fn load(onnx: &[u8], input: &str, output: &str) -> Result<Network, SegmentError> {
        let mut model = tract_onnx::onnx()
            .model_for_read(&mut std::io::Cursor::new(onnx))
            .map_err(|e| network("parsing model.onnx", &e))?;
        model.set_input_names([input]).map_err(|e| network("finding the input", &e))?;
        model.select_outputs_by_name([output]).map_err(|e| network("finding the output", &e))?;
        Ok(Network { model, last: Mutex::new(None) })
    }

    /// Logits, shape (classes, z, y, x), of an input of shape (channels, z, y, x); a 2-D network has no z on either side.
    pub fn logits(&self, input: ArrayViewD<f32>) -> Result<ArrayD<f32>, SegmentError> {
        let shape: Vec<usize> = std::iter::once(1).chain(input.shape().iter().copied()).collect();
        let runnable = self.runnable(&shape)?;
        let values = input.as_standard_layout();
        let values = values.as_slice().ok_or(SegmentError::Shape)?;
        let tensor = Tensor::from_shape(&shape, values).map_err(|e| network("making the input", &e))?;
        let outputs = runnable.run(tvec!(tensor.into())).map_err(|e| network("running the network", &e))?;
        let view = outputs[0].to_plain_array_view::<f32>().map_err(|e| network("reading the logits", &e))?;
        let found = view.shape().to_vec();
        if found.len() != shape.len() || found[0] != 1 || found[2..] != shape[2..] {
            return Err(SegmentError::Shape);
        }
        let values: Vec<f32> = view.iter().copied().collect();
        ArrayD::from_shape_vec(IxDyn(&found[1..]), values).map_err(|_| SegmentError::Shape)
    }

    fn runnable(&self, shape: &[usize]) -> Result<Runnable, SegmentError> {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((known, runnable)) = &*last
            && known == shape
        {
            return Ok(runnable.clone());
        }
        let runnable = self
            .model
            .clone()
            .with_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), shape))
            .and_then(InferenceModelExt::into_optimized)
            .and_then(|m| m.into_runnable())
            .map_err(|e| network("preparing the network", &e))?;
        *last = Some((shape.to_vec(), runnable.clone()));
        Ok(runnable)
    }
}

fn network(action: &'static str, error: &TractError) -> SegmentError {
    SegmentError::Network { action, message: format!("{error:#}") }
}
