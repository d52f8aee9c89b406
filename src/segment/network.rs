//! A network that runs: ONNX in, logits out, on the backend that was asked for.

use super::SegmentError;
use super::int8::{self, IntegerNet, Isa};
use super::kernels::InstructionSet;
use super::net::{Net, NetError, onnx};
use ndarray::{ArrayD, ArrayViewD, IxDyn};
use std::sync::Mutex;
use tract_onnx::prelude::*;

/// What computes a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The own engine: convolutional networks in f32 ([`super::net`]) or, where they are quantized, in integers ([`super::int8`]).
    Own,
    /// tract: whatever ONNX it loads.
    Tract,
}

impl Backend {
    /// All of them.
    pub const ALL: [Backend; 2] = [Self::Own, Self::Tract];

    /// As results record it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "metwatch",
            Self::Tract => "tract",
        }
    }
}

/// A loaded network. It takes inputs of any size that its layers can halve.
pub struct Network {
    runs: Runs,
    why_tract: Option<String>,
}

enum Runs {
    Own(Box<Net>),
    /// The own engine on a network with quantized activations.
    Integer(Box<IntegerNet>),
    Tract(Box<TractNetwork>),
}

impl Network {
    /// Loads an ONNX network; `input` and `output` name its tensors, whose first axis is the batch. The own engine runs
    /// it if it knows every operator, else tract.
    pub fn load(onnx: &[u8], input: &str, output: &str) -> Result<Network, SegmentError> {
        match own(onnx, input, output, InstructionSet::best()) {
            Ok(runs) => Ok(Network { runs, why_tract: None }),
            // tract takes such a network and gives something else: with softmax inside, the arg max of 1 % of the voxels agrees.
            Err(error) if onnx::has_operator(onnx, "QuantizeLinear") => Err(refused(error, true)),
            Err(error) => {
                let net = TractNetwork::load(onnx, input, output)?;
                Ok(Network { runs: Runs::Tract(Box::new(net)), why_tract: Some(error.to_string()) })
            }
        }
    }

    /// [`Network::load_on`] where a backend is asked for, else [`Network::load`].
    pub fn load_wanted(
        wanted: Option<Backend>,
        onnx: &[u8],
        input: &str,
        output: &str,
    ) -> Result<Network, SegmentError> {
        match wanted {
            Some(backend) => Self::load_on(backend, onnx, input, output),
            None => Self::load(onnx, input, output),
        }
    }

    /// Loads an ONNX network on one backend, or says why that is not possible.
    pub fn load_on(backend: Backend, onnx: &[u8], input: &str, output: &str) -> Result<Network, SegmentError> {
        match backend {
            Backend::Own => Self::load_with(InstructionSet::best(), onnx, input, output),
            Backend::Tract => {
                let net = TractNetwork::load(onnx, input, output)?;
                Ok(Network { runs: Runs::Tract(Box::new(net)), why_tract: None })
            }
        }
    }

    /// Loads an ONNX network on the own engine with an instruction set that may be less than the best (tests,
    /// measurements).
    pub fn load_with(set: InstructionSet, onnx: &[u8], input: &str, output: &str) -> Result<Network, SegmentError> {
        let quantized = onnx::has_operator(onnx, "QuantizeLinear");
        let runs = own(onnx, input, output, set).map_err(|error| refused(error, quantized))?;
        Ok(Network { runs, why_tract: None })
    }

    /// What computes it.
    pub fn backend(&self) -> Backend {
        match self.runs {
            Runs::Own(_) | Runs::Integer(_) => Backend::Own,
            Runs::Tract(_) => Backend::Tract,
        }
    }

    /// The instruction set of its kernels, as results record it; tract decides for itself.
    pub fn instruction_set(&self) -> &'static str {
        match &self.runs {
            Runs::Own(net) => net.instruction_set().name(),
            Runs::Integer(net) => net.isa().name(),
            Runs::Tract(_) => "chosen by tract",
        }
    }

    /// Whether it has quantized activations and runs in integers.
    pub fn is_integer(&self) -> bool {
        matches!(self.runs, Runs::Integer(_))
    }

    /// Why [`Network::load`] took tract: the operators that the own engine does not have.
    pub fn why_tract(&self) -> Option<&str> {
        self.why_tract.as_deref()
    }

    /// Bytes that [`Network::logits`] needs for an input of shape (channels, [z,] y, x), result and weights included;
    /// `None` with tract, which does not tell.
    pub fn memory_bytes(&self, shape: &[usize]) -> Result<Option<usize>, SegmentError> {
        match &self.runs {
            Runs::Own(net) => net.memory_bytes(shape).map(Some).map_err(|e| running(&e)),
            Runs::Integer(net) => net.memory_bytes(shape).map(Some).map_err(|e| running(&e)),
            Runs::Tract(_) => Ok(None),
        }
    }

    /// Multiply-adds of the convolutions for an input of shape (channels, [z,] y, x); `None` with tract.
    pub fn multiplications(&self, shape: &[usize]) -> Result<Option<usize>, SegmentError> {
        match &self.runs {
            Runs::Own(net) => net.multiplications(shape).map(Some).map_err(|e| running(&e)),
            Runs::Integer(net) => net.multiplications(shape).map(Some).map_err(|e| running(&e)),
            Runs::Tract(_) => Ok(None),
        }
    }

    /// Logits, shape (classes, z, y, x), of an input of shape (channels, z, y, x); a 2-D network has no z on either
    /// side.
    pub fn logits(&self, input: ArrayViewD<f32>) -> Result<ArrayD<f32>, SegmentError> {
        let spatial = input.shape().get(1..).unwrap_or_default().to_vec();
        let logits = match &self.runs {
            Runs::Own(net) => net.logits(input).map_err(|e| running(&e))?,
            Runs::Integer(net) => net.logits(input).map_err(|e| running(&e))?,
            Runs::Tract(net) => net.logits(input)?,
        };
        if logits.shape().get(1..) == Some(&spatial[..]) { Ok(logits) } else { Err(SegmentError::Shape) }
    }
}

fn own(bytes: &[u8], input: &str, output: &str, set: InstructionSet) -> Result<Runs, NetError> {
    let graph = onnx::read(bytes, input, output)?;
    if int8::is_quantized(&graph) {
        return Ok(Runs::Integer(Box::new(IntegerNet::new(&graph, Isa::within(set))?)));
    }
    Ok(Runs::Own(Box::new(Net::new(&graph, set)?)))
}

fn refused(error: NetError, quantized: bool) -> SegmentError {
    match error {
        NetError::Unsupported(operators) if quantized => {
            SegmentError::QuantizedUnknown { operators: operators.join(", ") }
        }
        NetError::Unsupported(operators) => SegmentError::OperatorsUnknown { operators: operators.join(", ") },
        other => SegmentError::Network { action: "loading the network", message: other.to_string() },
    }
}

fn running(error: &NetError) -> SegmentError {
    SegmentError::Network { action: "running the network", message: error.to_string() }
}

type Runnable = std::sync::Arc<TypedRunnableModel>;

struct TractNetwork {
    model: InferenceModel,
    /// The network made runnable for the shape seen last: a box sees few shapes.
    last: Mutex<Option<(Vec<usize>, Runnable)>>,
}

impl TractNetwork {
    fn load(onnx: &[u8], input: &str, output: &str) -> Result<TractNetwork, SegmentError> {
        let mut model = tract_onnx::onnx()
            .model_for_read(&mut std::io::Cursor::new(onnx))
            .map_err(|e| network("parsing model.onnx", &e))?;
        model.set_input_names([input]).map_err(|e| network("finding the input", &e))?;
        model.select_outputs_by_name([output]).map_err(|e| network("finding the output", &e))?;
        Ok(TractNetwork { model, last: Mutex::new(None) })
    }

    fn logits(&self, input: ArrayViewD<f32>) -> Result<ArrayD<f32>, SegmentError> {
        let shape: Vec<usize> = std::iter::once(1).chain(input.shape().iter().copied()).collect();
        let runnable = self.runnable(&shape)?;
        let values = input.as_standard_layout();
        let values = values.as_slice().ok_or(SegmentError::Shape)?;
        let tensor = Tensor::from_shape(&shape, values).map_err(|e| network("making the input", &e))?;
        let outputs = runnable.run(tvec!(tensor.into())).map_err(|e| network("running the network", &e))?;
        let view = outputs[0].to_plain_array_view::<f32>().map_err(|e| network("reading the logits", &e))?;
        let found = view.shape().to_vec();
        if found.len() != shape.len() || found[0] != 1 {
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
