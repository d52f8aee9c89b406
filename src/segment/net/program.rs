//! From a [`Graph`] to steps: what can be joined to a convolution is, constants are folded, joins along the channels
//! vanish.

use super::NetError;
use super::graph::{Graph, Node, Operator, ValueId, Window};
use super::layout::BLOCK;
use super::sweep::{Convolution, Weights};
use super::voxelwise::{Affine, Pooling};
use crate::segment::kernels::Kernels;
use std::collections::BTreeMap;

/// A network as a list of steps over tensors.
pub struct Program {
    /// As in the graph.
    pub rank: usize,
    /// What steps read and write.
    pub tensors: Vec<Tensor>,
    /// The tensor that is filled from the caller's array.
    pub input: usize,
    /// The tensor that becomes the caller's array.
    pub output: usize,
    /// In order.
    pub steps: Vec<Step>,
}

/// A tensor of a program; its size depends on the input's.
#[derive(Debug, Clone, Copy)]
pub struct Tensor {
    /// Channels.
    pub channels: usize,
    /// Channels of a block.
    pub block: usize,
}

/// One step. Tensors by their index in [`Program::tensors`].
pub enum Step {
    /// The inputs, joined along the channels, convolved.
    Convolve {
        /// What is read.
        inputs: Vec<usize>,
        /// What is written.
        output: usize,
        /// How.
        convolution: Box<Convolution>,
        /// Whether the next step needs the moments of the output.
        statistics: bool,
    },
    /// Each channel normalized, or scaled and shifted, another tensor added, an activation. May be in place (`input ==
    /// output`).
    Voxelwise {
        /// What is read.
        input: usize,
        /// What is written.
        output: usize,
        /// Added.
        other: Option<usize>,
        /// Factors and shifts.
        scaling: Scaling,
    },
    /// Each channel pooled.
    Pool {
        /// What is read.
        input: usize,
        /// What is written.
        output: usize,
        /// Where.
        window: Window,
        /// How.
        pooling: Pooling,
    },
    /// Tensors one after the other along the channels. Only where something else than a convolution reads a join.
    Join {
        /// What is read.
        inputs: Vec<usize>,
        /// What is written.
        output: usize,
    },
}

/// Factors and shifts of a [`Step::Voxelwise`].
pub enum Scaling {
    /// Known beforehand.
    Fixed(Affine),
    /// By the moments of each channel (InstanceNormalization).
    Instance {
        /// One per channel, whole blocks.
        scale: Vec<f32>,
        /// One per channel, whole blocks.
        bias: Vec<f32>,
        /// Added to the variance.
        epsilon: f32,
        /// Of the activation.
        slope: f32,
        /// Whether the convolution before has the moments ready.
        ready: bool,
    },
}

impl Program {
    /// Plans a graph for the kernels of an instruction set.
    pub fn new(graph: &Graph, kernels: Kernels) -> Result<Program, NetError> {
        Builder::new(graph, kernels).build()
    }
}

struct Builder<'a> {
    graph: &'a Graph,
    kernels: Kernels,
    tensors: Vec<Tensor>,
    steps: Vec<Step>,
    /// The tensors that hold a value, joined along the channels.
    of_value: BTreeMap<ValueId, Vec<usize>>,
    done: Vec<bool>,
}

impl<'a> Builder<'a> {
    fn new(graph: &'a Graph, kernels: Kernels) -> Builder<'a> {
        // Few input channels stay planes if only convolutions of stride 1 read them: eight channels for one would be
        // eight times the memory.
        let plain = |k: usize| matches!(&graph.nodes[k].operator, Operator::Conv(w) if w.stride[2] == 1);
        let planes = graph.channels < BLOCK / 2 && graph.consumers(graph.input).into_iter().all(plain);
        let block = if planes && graph.input != graph.output { 1 } else { BLOCK };
        Builder {
            graph,
            kernels,
            tensors: vec![Tensor { channels: graph.channels, block }],
            steps: Vec::new(),
            of_value: BTreeMap::from([(graph.input, vec![0])]),
            done: vec![false; graph.nodes.len()],
        }
    }

    fn build(mut self) -> Result<Program, NetError> {
        let graph = self.graph;
        for k in 0..graph.nodes.len() {
            if !self.done[k] {
                self.node(&graph.nodes[k])?;
            }
        }
        let output = self.tensor(graph.output)?;
        Ok(Program { rank: graph.rank, tensors: self.tensors, input: 0, output, steps: self.steps })
    }

    fn node(&mut self, node: &Node) -> Result<(), NetError> {
        let x = node.inputs[0];
        match &node.operator {
            Operator::Conv(window) => self.convolution(node, window, None),
            Operator::ConvTranspose(window, padding) => self.convolution(node, window, Some(*padding)),
            Operator::InstanceNormalization { epsilon } => {
                let (scale, bias) = (self.vector(node, 1)?, self.vector(node, 2)?);
                let input = self.tensor(x)?;
                self.fits(node, &[&scale, &bias], self.tensors[input].channels)?;
                let ready = match self.steps.last_mut() {
                    Some(Step::Convolve { output, statistics, .. }) if *output == input => {
                        *statistics = true;
                        true
                    }
                    _ => false,
                };
                let (value, other, slope) = self.absorb(node.output, true);
                let (scale, bias) = (padded(scale), padded(bias));
                let scaling = Scaling::Instance { scale, bias, epsilon: *epsilon, slope, ready };
                self.voxelwise(x, value, other, scaling)
            }
            Operator::BatchNormalization { .. } => {
                let channels = self.tensor(x).map(|t| self.tensors[t].channels)?;
                let (factor, shift) = self.batch_norm(node, channels)?;
                let (value, other, slope) = self.absorb(node.output, true);
                let scaling = Scaling::Fixed(Affine { factor: padded(factor), shift: padded(shift), slope });
                self.voxelwise(x, value, other, scaling)
            }
            Operator::LeakyRelu { slope } => {
                let scaling = self.unscaled(x, *slope)?;
                self.voxelwise(x, node.output, None, scaling)
            }
            Operator::Add => {
                let (value, _, slope) = self.absorb(node.output, false);
                let other = self.tensor(node.inputs[1])?;
                let scaling = self.unscaled(x, slope)?;
                self.voxelwise(x, value, Some(other), scaling)
            }
            Operator::Concat => {
                let mut joined = Vec::new();
                for input in &node.inputs {
                    joined.extend(self.known(*input)?);
                }
                self.of_value.insert(node.output, joined);
                Ok(())
            }
            Operator::MaxPool(window) => self.pool(node, window, Pooling::Max),
            Operator::AveragePool { window, count_padding: false } => self.pool(node, window, Pooling::Mean),
            Operator::AveragePool { window, count_padding: true } => self.pool(node, window, Pooling::MeanWithPadding),
            Operator::DequantizeLinear { .. } if self.graph.constant_f32(node.output).is_some() => Ok(()),
            Operator::Clip => Err(NetError::Unsupported(vec!["Clip".into()])),
            Operator::QuantizeLinear { .. } => Err(NetError::Unsupported(vec!["QuantizeLinear of activations".into()])),
            Operator::DequantizeLinear { .. } => {
                Err(NetError::Unsupported(vec!["DequantizeLinear of activations".into()]))
            }
        }
    }

    fn convolution(&mut self, node: &Node, window: &Window, transposed: Option<[usize; 3]>) -> Result<(), NetError> {
        let graph = self.graph;
        let invalid = |what: &str| NetError::Invalid(format!("{what} of {:?}", graph.values[node.output].name));
        let inputs = self.known(node.inputs[0])?;
        let parts: Vec<_> = inputs.iter().map(|t| (self.tensors[*t].channels, self.tensors[*t].block)).collect();
        let n_in: usize = parts.iter().map(|p| p.0).sum();
        let values = graph.constant_f32(node.inputs[1]).ok_or_else(|| invalid("the weights are not constant"))?;
        let shape = values.shape().to_vec();
        let n_taps: usize = window.kernel.iter().product();
        let (axis_in, axis_out) = if transposed.is_some() { (0, 1) } else { (1, 0) };
        if shape.len() != graph.rank + 2 || shape[2..].iter().product::<usize>() != n_taps || shape[axis_in] != n_in {
            return Err(invalid(&format!("the weights {shape:?} do not fit {n_in} channels and the kernel")));
        }
        let n_out = shape[axis_out];
        let flat = values.to_shape((shape[0], shape[1], n_taps)).map_err(|_| invalid("the weights' shape"))?;
        let ordered = flat.permuted_axes(if transposed.is_some() { [1, 0, 2] } else { [0, 1, 2] });
        let bias = match node.inputs.get(2) {
            Some(_) => self.vector(node, 2)?,
            None => vec![0.0; n_out],
        };
        self.fits(node, &[&bias], n_out)?;
        let mut weights = Weights { outputs: n_out, inputs: n_in, values: ordered.iter().copied().collect(), bias };
        let mut value = node.output;
        while let Some((k, next)) = self.only_reader(value)
            && let Operator::BatchNormalization { .. } = next.operator
        {
            let (factor, shift) = self.batch_norm(next, n_out)?;
            for (o, of_output) in weights.values.chunks_exact_mut(n_in * n_taps).enumerate() {
                of_output.iter_mut().for_each(|w| *w *= factor[o]);
                weights.bias[o] = weights.bias[o] * factor[o] + shift[o];
            }
            self.done[k] = true;
            value = next.output;
        }
        if let Some((_, next)) = self.only_reader(value)
            && let Operator::InstanceNormalization { .. } = next.operator
        {
            // Subtracting the mean takes it off again.
            weights.bias.fill(0.0);
        }
        let (value, slope) = self.absorb_activation(value);
        let convolution = Convolution::new(self.kernels, window.clone(), transposed, &weights, parts, slope);
        let output = self.new_tensor(value, n_out);
        self.steps.push(Step::Convolve { inputs, output, convolution: Box::new(convolution), statistics: false });
        Ok(())
    }

    /// Factor and shift of each channel.
    fn batch_norm(&self, node: &Node, channels: usize) -> Result<(Vec<f32>, Vec<f32>), NetError> {
        let Operator::BatchNormalization { epsilon } = node.operator else { return Ok((Vec::new(), Vec::new())) };
        let [scale, bias, mean, variance] =
            [self.vector(node, 1)?, self.vector(node, 2)?, self.vector(node, 3)?, self.vector(node, 4)?];
        self.fits(node, &[&scale, &bias, &mean, &variance], channels)?;
        let factor = |c: usize| f64::from(scale[c]) / (f64::from(variance[c]) + f64::from(epsilon)).sqrt();
        let shift = |c: usize| (f64::from(bias[c]) - f64::from(mean[c]) * factor(c)) as f32;
        Ok(((0..channels).map(|c| factor(c) as f32).collect(), (0..channels).map(shift).collect()))
    }

    fn pool(&mut self, node: &Node, window: &Window, pooling: Pooling) -> Result<(), NetError> {
        let input = self.tensor(node.inputs[0])?;
        let output = self.new_tensor(node.output, self.tensors[input].channels);
        self.steps.push(Step::Pool { input, output, window: window.clone(), pooling });
        Ok(())
    }

    /// Nothing but an activation.
    fn unscaled(&mut self, x: ValueId, slope: f32) -> Result<Scaling, NetError> {
        let channels = self.tensor(x).map(|t| self.tensors[t].channels)?;
        let (factor, shift) = (padded(vec![1.0; channels]), padded(vec![0.0; channels]));
        Ok(Scaling::Fixed(Affine { factor, shift, slope }))
    }

    fn voxelwise(
        &mut self,
        x: ValueId,
        value: ValueId,
        other: Option<usize>,
        scaling: Scaling,
    ) -> Result<(), NetError> {
        let input = self.tensor(x)?;
        let channels = self.tensors[input].channels;
        if other.is_some_and(|other| self.tensors[other].channels != channels) {
            return Err(NetError::Invalid(format!("Add of different channels in {:?}", self.graph.values[value].name)));
        }
        // In place if nobody else reads it: neither another node nor a join that holds the same tensor.
        let shared = self.of_value.iter().filter(|(_, held)| held.contains(&input)).count() > 1;
        let only = self.graph.consumers(x).len() == 1 && x != self.graph.output && x != self.graph.input;
        let output = if only && !shared && other != Some(input) {
            self.of_value.remove(&x);
            self.of_value.insert(value, vec![input]);
            input
        } else {
            self.new_tensor(value, channels)
        };
        self.steps.push(Step::Voxelwise { input, output, other, scaling });
        Ok(())
    }

    /// What can be done in the same step after `value`: an addition of something that is there already, then an
    /// activation.
    fn absorb(&mut self, value: ValueId, addition: bool) -> (ValueId, Option<usize>, f32) {
        let mut found = (value, None);
        if addition
            && let Some((k, next)) = self.only_reader(value)
            && next.operator == Operator::Add
            && next.inputs[0] != next.inputs[1]
        {
            let other = if next.inputs[0] == value { next.inputs[1] } else { next.inputs[0] };
            if let Some([tensor]) = self.of_value.get(&other).map(Vec::as_slice)
                && self.tensors[*tensor].block == BLOCK
            {
                found = (next.output, Some(*tensor));
                self.done[k] = true;
            }
        }
        let (value, slope) = self.absorb_activation(found.0);
        (value, found.1, slope)
    }

    fn absorb_activation(&mut self, value: ValueId) -> (ValueId, f32) {
        if let Some((k, next)) = self.only_reader(value)
            && let Operator::LeakyRelu { slope } = next.operator
        {
            self.done[k] = true;
            return (next.output, slope);
        }
        (value, 1.0)
    }

    fn only_reader(&self, value: ValueId) -> Option<(usize, &'a Node)> {
        match self.graph.consumers(value)[..] {
            [k] if value != self.graph.output => Some((k, &self.graph.nodes[k])),
            _ => None,
        }
    }

    fn known(&self, value: ValueId) -> Result<Vec<usize>, NetError> {
        let missing = || NetError::Invalid(format!("{:?} is read before it is written", self.graph.values[value].name));
        self.of_value.get(&value).cloned().ok_or_else(missing)
    }

    /// The one tensor that holds a value; a join is carried out.
    fn tensor(&mut self, value: ValueId) -> Result<usize, NetError> {
        let inputs = self.known(value)?;
        if let [one] = inputs[..] {
            return Ok(one);
        }
        let channels = inputs.iter().map(|t| self.tensors[*t].channels).sum();
        let output = self.new_tensor(value, channels);
        self.steps.push(Step::Join { inputs, output });
        Ok(output)
    }

    fn new_tensor(&mut self, value: ValueId, channels: usize) -> usize {
        self.tensors.push(Tensor { channels, block: BLOCK });
        self.of_value.insert(value, vec![self.tensors.len() - 1]);
        self.tensors.len() - 1
    }

    fn vector(&self, node: &Node, k: usize) -> Result<Vec<f32>, NetError> {
        let name = || &self.graph.values[node.inputs[k]].name;
        let found = self.graph.constant_f32(node.inputs[k]);
        let found =
            found.ok_or_else(|| NetError::Invalid(format!("{:?} is not a constant of 32-bit floats", name())))?;
        Ok(found.iter().copied().collect())
    }

    fn fits(&self, node: &Node, vectors: &[&Vec<f32>], channels: usize) -> Result<(), NetError> {
        if vectors.iter().all(|v| v.len() == channels) {
            return Ok(());
        }
        let name = &self.graph.values[node.output].name;
        Err(NetError::Invalid(format!("the constants of {name:?} do not fit its {channels} channels")))
    }
}

/// Zeros up to a whole block.
fn padded(mut vector: Vec<f32>) -> Vec<f32> {
    vector.resize(vector.len().next_multiple_of(BLOCK), 0.0);
    vector
}
