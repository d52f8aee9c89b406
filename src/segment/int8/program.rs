//! From a [`Graph`] to steps over bytes where it is quantized and over real numbers between.

use super::layer::{Layer, Rescale, Shape};
use super::voxelwise::{Finish, Form, Scale};
use crate::segment::InstructionSet;
use crate::segment::net::graph::{Constant, Graph, Node, Operator, Value, ValueId, Window};
use crate::segment::net::{Net, NetError};
use std::collections::BTreeMap;

/// Products of one output voxel at most: 2^15 of them are below 2^30, so a sum of them and a bias cannot overflow 32 bits.
const PRODUCTS_MAX: usize = 1 << 15;

/// A network as a list of steps over tensors.
pub struct Program {
    /// Spatial axes.
    pub rank: usize,
    /// What steps read and write.
    pub tensors: Vec<Tensor>,
    /// Channels of each buffer; tensors that are joined share one.
    pub buffers: Vec<usize>,
    /// The tensor that is filled from the caller's array.
    pub input: usize,
    /// The tensor that becomes the caller's array.
    pub output: usize,
    /// In order.
    pub steps: Vec<Step>,
}

/// A tensor of a program; its size depends on the input's.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// The graph's value that it holds.
    pub value: ValueId,
    /// Channels.
    pub channels: usize,
    /// Bytes or real numbers.
    pub form: Form,
    /// Largest byte that it can hold.
    pub largest: u8,
    /// Where it lies.
    pub buffer: usize,
    /// The first of its channels there.
    pub first: usize,
    /// Voxels of rim that convolutions read.
    pub rim: [[usize; 2]; 3],
}

/// One step: what is read, what is written (by index), and how.
pub struct Step {
    /// Tensors that are read.
    pub from: Vec<usize>,
    /// The tensor that is written ...
    pub to: usize,
    /// ... from this channel on.
    pub first: usize,
    /// What happens to each value at last; a byte convolution has it in its layer.
    pub finish: Finish,
    /// What is done.
    pub work: Work,
}

/// What a step does.
pub enum Work {
    /// Integers.
    Convolve(Box<Layer>),
    /// A window over real numbers, a convolution that is not quantized or pooling, by the f32 engine.
    Real(Box<Real>),
    /// Each channel by its moments.
    Normalize {
        /// One per channel.
        scale: Vec<f32>,
        /// One per channel.
        bias: Vec<f32>,
        /// Added to the variance.
        epsilon: f32,
    },
    /// Times and plus a number per channel (BatchNormalization).
    Affine(Vec<[f32; 2]>),
    /// Voxel by voxel; several inputs are added.
    Copy,
}

/// One operator for the f32 engine.
pub struct Real {
    /// A network of nothing else.
    pub net: Net,
    window: Window,
    /// ConvTranspose, with its output padding.
    extra: Option<[usize; 3]>,
    is_convolution: bool,
}

impl Real {
    /// Size of the output; nothing where a window does not fit.
    pub fn output(&self, size: [usize; 3]) -> Option<[usize; 3]> {
        let mut found = [0; 3];
        for a in 0..3 {
            found[a] = match self.extra {
                Some(extra) => self.window.spread(a, size[a], extra[a])?,
                None => self.window.slid(a, size[a])?,
            };
        }
        Some(found)
    }
}

impl Program {
    /// Plans a graph.
    pub fn new(graph: &Graph) -> Result<Program, NetError> {
        let mut builder = Builder {
            graph,
            tensors: Vec::new(),
            steps: Vec::new(),
            of_value: BTreeMap::new(),
            done: vec![false; graph.nodes.len()],
            joins: Vec::new(),
            layers: Vec::new(),
        };
        let input = builder.tensor(graph.input, graph.channels, Form::Real, 0);
        for k in 0..graph.nodes.len() {
            if !builder.done[k] && !constant(graph, graph.nodes[k].output) {
                builder.node(&graph.nodes[k])?;
            }
        }
        let output = builder.find(graph.output)?;
        let buffers = builder.place();
        builder.pack(&buffers);
        Ok(Program { rank: graph.rank, tensors: builder.tensors, buffers, input, output, steps: builder.steps })
    }

    /// How many convolutions run in integers, and how many in f32.
    pub fn convolutions(&self) -> [usize; 2] {
        let count = |of: fn(&Work) -> bool| self.steps.iter().filter(|s| of(&s.work)).count();
        [count(|w| matches!(w, Work::Convolve(_))), count(|w| matches!(w, Work::Real(real) if real.is_convolution))]
    }
}

/// Whether a graph has quantized activations, not only weights.
pub fn is_quantized(graph: &Graph) -> bool {
    graph.nodes.iter().any(|n| matches!(n.operator, Operator::QuantizeLinear { .. }))
}

/// A layer to be packed once it is known how its input lies.
struct Unpacked {
    step: usize,
    shape: Shape,
    weights: Vec<i8>,
    rescale: Rescale,
}

struct Builder<'a> {
    graph: &'a Graph,
    tensors: Vec<Tensor>,
    steps: Vec<Step>,
    of_value: BTreeMap<ValueId, usize>,
    done: Vec<bool>,
    /// Concatenations: output and inputs.
    joins: Vec<(usize, Vec<usize>)>,
    layers: Vec<Unpacked>,
}

fn constant(graph: &Graph, value: ValueId) -> bool {
    graph.values[value].constant.is_some()
        || graph.producer(value).is_some_and(|n| {
            matches!(n.operator, Operator::DequantizeLinear { .. }) && graph.values[n.inputs[0]].constant.is_some()
        })
}

impl Builder<'_> {
    fn tensor(&mut self, value: ValueId, channels: usize, form: Form, largest: u8) -> usize {
        self.tensors.push(Tensor { value, channels, form, largest, buffer: 0, first: 0, rim: [[0; 2]; 3] });
        self.of_value.insert(value, self.tensors.len() - 1);
        self.tensors.len() - 1
    }

    fn name(&self, value: ValueId) -> &str {
        &self.graph.values[value].name
    }

    fn find(&self, value: ValueId) -> Result<usize, NetError> {
        let missing = || NetError::Invalid(format!("the tensor {:?} is read before it is computed", self.name(value)));
        self.of_value.get(&value).copied().ok_or_else(missing)
    }

    fn numbers(&self, node: &Node, input: usize) -> Result<Option<Vec<f32>>, NetError> {
        let Some(value) = node.inputs.get(input) else { return Ok(None) };
        let odd = || NetError::Unsupported(vec![format!("{:?}, which is not constant,", self.name(*value))]);
        Ok(Some(self.graph.constant_f32(*value).ok_or_else(odd)?.iter().copied().collect()))
    }

    /// As [`Builder::numbers`], one per channel.
    fn per_channel(&self, node: &Node, input: usize, channels: usize) -> Result<Vec<f32>, NetError> {
        let found = self.numbers(node, input)?.unwrap_or_default();
        if found.len() == channels { Ok(found) } else { Err(self.unfit(node)) }
    }

    fn unfit(&self, node: &Node) -> NetError {
        NetError::Invalid(format!("the sizes of what {:?} is computed from do not fit", self.name(node.output)))
    }

    /// Step and zero point of a QuantizeLinear or DequantizeLinear of activations, as bytes from 0 to 255 (signed ones plus 128).
    fn scale(&self, node: &Node) -> Result<Scale, NetError> {
        let refuse = |what: &str| {
            NetError::Unsupported(vec![format!("the quantization of {:?} {what}", self.name(node.inputs[0]))])
        };
        let [step] = self.numbers(node, 1)?.unwrap_or_default()[..] else {
            return Err(refuse("with a scale per channel"));
        };
        let zero = match node.inputs.get(2).map(|z| &self.graph.values[*z].constant) {
            None => Some(0),
            Some(Some(Constant::U8(zero))) if zero.len() == 1 => zero.first().copied(),
            Some(Some(Constant::I8(zero))) if zero.len() == 1 => zero.first().map(|z| (i16::from(*z) + 128) as u8),
            Some(_) => None,
        };
        let signed = matches!(node.inputs.get(2).map(|z| &self.graph.values[*z].constant), Some(Some(Constant::I8(_))));
        match zero {
            Some(zero) if step.is_finite() && step > 0.0 => Ok(Scale { step, zero, signed }),
            Some(_) => Err(refuse("with a scale that is not positive")),
            None => Err(refuse("to another type than 8 bits")),
        }
    }

    fn node(&mut self, node: &Node) -> Result<(), NetError> {
        let graph = self.graph;
        match &node.operator {
            Operator::DequantizeLinear { .. } => {
                let from = self.find(node.inputs[0])?;
                let scale = self.scale(node)?;
                if self.tensors[from].form != Form::Bytes(scale) {
                    let name = self.name(node.inputs[0]);
                    let message = format!("{name:?}, which is dequantized otherwise than it was quantized,");
                    return Err(NetError::Unsupported(vec![message]));
                }
                self.of_value.insert(node.output, from);
                Ok(())
            }
            Operator::Conv(window) => self.convolution(node, window, false),
            Operator::ConvTranspose(window, extra) => {
                let plain = *extra == [0; 3]
                    && (window.pad_low, window.pad_high, window.dilation) == ([0; 3], [0; 3], [1; 3])
                    && window.kernel == window.stride;
                if plain { self.convolution(node, window, true) } else { self.real(node, window, Some(*extra)) }
            }
            Operator::InstanceNormalization { epsilon } => {
                let from = self.find(node.inputs[0])?;
                let channels = self.tensors[from].channels;
                let (scale, bias) = (self.per_channel(node, 1, channels)?, self.per_channel(node, 2, channels)?);
                self.step(node, vec![from], channels, Work::Normalize { scale, bias, epsilon: *epsilon })
            }
            Operator::BatchNormalization { epsilon } => {
                let from = self.find(node.inputs[0])?;
                let channels = self.tensors[from].channels;
                let part = |k| self.per_channel(node, k, channels);
                let (scale, bias, mean, variance) = (part(1)?, part(2)?, part(3)?, part(4)?);
                let factor = |c: usize| scale[c] / (variance[c] + epsilon).sqrt();
                let affine = (0..channels).map(|c| [factor(c), bias[c] - mean[c] * factor(c)]).collect();
                self.step(node, vec![from], channels, Work::Affine(affine))
            }
            Operator::LeakyRelu { .. } | Operator::Clip | Operator::QuantizeLinear { .. } => {
                // Nothing before it could take it in: the graph's input, a value that others read as well, or bytes.
                let from = self.find(node.inputs[0])?;
                let channels = self.tensors[from].channels;
                let k = graph.nodes.iter().position(|n| n.output == node.output).ok_or_else(|| self.unfit(node))?;
                let mut tail = Tail::new(node.inputs[0]);
                if !self.take(&mut tail, k)? {
                    return Err(self.unfit(node));
                }
                self.follow(&mut tail)?;
                self.finish(tail, vec![from], channels, Work::Copy)
            }
            Operator::Add => {
                let from = node.inputs.iter().map(|v| self.find(*v)).collect::<Result<Vec<_>, _>>()?;
                let channels = self.tensors[from[0]].channels;
                if from.iter().any(|t| self.tensors[*t].channels != channels) {
                    return Err(self.unfit(node));
                }
                self.step(node, from, channels, Work::Copy)
            }
            Operator::MaxPool(window) | Operator::AveragePool { window, .. } => self.real(node, window, None),
            Operator::Concat => self.concat(node),
        }
    }

    /// A concatenation is nothing where its inputs lie side by side; inputs of another scale are requantized into their place.
    fn concat(&mut self, node: &Node) -> Result<(), NetError> {
        let parts = node.inputs.iter().map(|v| self.find(*v)).collect::<Result<Vec<_>, _>>()?;
        let channels = parts.iter().map(|t| self.tensors[*t].channels).sum();
        let tail = self.tail(node.output)?;
        let form = match tail.form {
            // Joined bytes stay bytes if all have one scale.
            Form::Real
                if parts.iter().all(|t| self.tensors[*t].form == self.tensors[parts[0]].form) && tail.is_nothing() =>
            {
                self.tensors[parts[0]].form
            }
            form => form,
        };
        let largest = match tail.form {
            Form::Real => parts.iter().map(|t| self.tensors[*t].largest).max().unwrap_or(0),
            Form::Bytes(scale) => scale.largest(tail.finish.bounds),
        };
        let output = self.tensor(tail.value, channels, form, largest);
        let mut alike = Vec::new();
        let mut first = 0;
        let repeated = parts.iter().enumerate().any(|(k, part)| parts[..k].contains(part));
        for part in parts {
            let channels = self.tensors[part].channels;
            let nothing_to_do =
                self.tensors[part].form == form && tail.finish.slope == 1.0 && tail.finish.is_unbounded();
            if repeated || !(nothing_to_do && self.may_join(part, &alike)) {
                let copy = Step { from: vec![part], to: output, first, finish: tail.finish, work: Work::Copy };
                self.steps.push(copy);
            } else {
                alike.push(part);
                self.tensors[part].first = first;
            }
            first += channels;
        }
        self.joins.push((output, alike));
        Ok(())
    }

    /// Whether a tensor may lie in a join: nowhere else yet, computed by a step, itself no join, and not from a neighbor there.
    fn may_join(&self, part: usize, neighbors: &[usize]) -> bool {
        let of_a_join = self.joins.iter().any(|(output, parts)| *output == part || parts.contains(&part));
        let from: Vec<usize> = self.steps.iter().filter(|s| s.to == part).flat_map(|s| s.from.clone()).collect();
        let feeds = |n: &usize| self.steps.iter().any(|s| s.to == *n && s.from.contains(&part));
        !of_a_join && !from.is_empty() && !neighbors.iter().any(|n| from.contains(n) || feeds(n))
    }

    /// A convolution in integers if both sides are quantized, otherwise in f32.
    fn convolution(&mut self, node: &Node, window: &Window, transposed: bool) -> Result<(), NetError> {
        let from = self.find(node.inputs[0])?;
        let Form::Bytes(scale) = self.tensors[from].form else {
            return self.real(node, window, transposed.then_some([0; 3]));
        };
        let Some((weights, shape, steps)) = self.integer_weights(node.inputs[1], transposed) else {
            return self.real(node, window, transposed.then_some([0; 3]));
        };
        let [n_out, n_in] = if transposed { [shape[1], shape[0]] } else { [shape[0], shape[1]] };
        if n_in != self.tensors[from].channels {
            return Err(self.unfit(node));
        }
        let products = if transposed { n_in } else { n_in * window.kernel.iter().product::<usize>() };
        if products > PRODUCTS_MAX {
            return self.real(node, window, transposed.then_some([0; 3]));
        }
        let steps: Vec<f32> = (0..n_out).map(|o| scale.step * steps[o % steps.len()]).collect();
        let bias = self.integer_bias(node, &steps)?;
        let tail = self.tail(node.output)?;
        let (multiplier, bytes) = match tail.form {
            Form::Real => (steps, [0; 3]),
            Form::Bytes(to) => {
                let [low, high] = to.bytes(tail.finish.bounds);
                (steps.iter().map(|s| s / to.step).collect(), [low, high, to.zero])
            }
        };
        let shape = Shape {
            n_in,
            n_out,
            kernel: window.kernel,
            stride: window.stride,
            pads: std::array::from_fn(|a| [window.pad_low[a], window.pad_high[a]]),
            dilation: window.dilation,
            transposed,
        };
        for (rim, pads) in self.tensors[from].rim.iter_mut().zip(&shape.pads) {
            *rim = [rim[0].max(pads[0]), rim[1].max(pads[1])];
        }
        let rescale = Rescale { bias, multiplier, slope: tail.finish.slope, bytes };
        self.layers.push(Unpacked { step: self.steps.len(), shape, weights, rescale });
        self.finish(tail, vec![from], n_out, Work::Copy)
    }

    /// Signed weights without zero point, and one step per output channel or one for all.
    fn integer_weights(&self, value: ValueId, transposed: bool) -> Option<(Vec<i8>, Vec<usize>, Vec<f32>)> {
        let graph = self.graph;
        let node = graph.producer(value)?;
        let Operator::DequantizeLinear { axis } = node.operator else { return None };
        let Some(Constant::I8(weights)) = &graph.values[node.inputs[0]].constant else { return None };
        let steps = graph.constant_f32(node.inputs[1])?;
        let zeros = match node.inputs.get(2).map(|z| &graph.values[*z].constant) {
            None => true,
            Some(Some(Constant::I8(zeros))) => zeros.iter().all(|z| *z == 0),
            Some(_) => false,
        };
        let out_axis = usize::from(transposed);
        let fits = steps.len() == 1 || (axis == out_axis && steps.len() == *weights.shape().get(out_axis)?);
        let usable = steps.iter().all(|s| s.is_finite() && *s >= 0.0) && weights.ndim() == graph.rank + 2;
        (zeros && fits && usable)
            .then(|| (weights.iter().copied().collect(), weights.shape().to_vec(), steps.iter().copied().collect()))
    }

    /// The bias in units of the sums. ONNX stores it so; a real one is rounded, by less than one unit of a sum of thousands.
    fn integer_bias(&self, node: &Node, steps: &[f32]) -> Result<Vec<i32>, NetError> {
        if node.inputs.len() < 3 {
            return Ok(vec![0; steps.len()]);
        }
        let real = self.per_channel(node, 2, steps.len())?;
        let whole = self.graph.producer(node.inputs[2]).and_then(|n| match &self.graph.values[n.inputs[0]].constant {
            Some(Constant::I32(whole)) => Some((whole, self.graph.constant_f32(n.inputs[1])?)),
            _ => None,
        });
        if let Some((whole, of)) = whole
            && whole.len() == steps.len()
            && steps
                .iter()
                .enumerate()
                .all(|(o, s)| (s - *of.iter().nth(o % of.len()).unwrap_or(&0.0)).abs() <= 1e-6 * s)
        {
            return Ok(whole.iter().copied().collect());
        }
        let quotient = |(b, s): (&f32, &f32)| if *s > 0.0 { f64::from(*b) / f64::from(*s) } else { 0.0 };
        Ok(real.iter().zip(steps).map(|pair| quotient(pair).round_ties_even().clamp(-1e9, 1e9) as i32).collect())
    }

    /// A convolution or pooling that the f32 engine does, as a network of its own.
    fn real(&mut self, node: &Node, window: &Window, extra: Option<[usize; 3]>) -> Result<(), NetError> {
        let graph = self.graph;
        let from = self.find(node.inputs[0])?;
        let channels = self.tensors[from].channels;
        let value = |name: &str, constant| Value { name: name.into(), constant };
        let mut values = vec![value(self.name(node.inputs[0]), None)];
        for input in &node.inputs[1..] {
            let constant = graph.constant_f32(*input).ok_or_else(|| {
                NetError::Unsupported(vec![format!("{:?}, which is not constant,", self.name(*input))])
            })?;
            values.push(value(self.name(*input), Some(Constant::F32(constant))));
        }
        let is_convolution = matches!(node.operator, Operator::Conv(_) | Operator::ConvTranspose(..));
        let n_out = match values.get(1).and_then(|w| w.constant.as_ref()) {
            Some(weights) => weights.shape().get(usize::from(extra.is_some())).copied().unwrap_or(0),
            None => channels,
        };
        values.push(value(self.name(node.output), None));
        let output = values.len() - 1;
        let alone = Node { operator: node.operator.clone(), inputs: (0..output).collect(), output };
        let alone = Graph { rank: graph.rank, channels, input: 0, output, values, nodes: vec![alone] };
        let net = Net::new(&alone, InstructionSet::best())?;
        let real = Real { net, window: window.clone(), extra, is_convolution };
        self.step(node, vec![from], n_out, Work::Real(Box::new(real)))
    }

    fn step(&mut self, node: &Node, from: Vec<usize>, channels: usize, work: Work) -> Result<(), NetError> {
        let tail = self.tail(node.output)?;
        self.finish(tail, from, channels, work)
    }

    fn finish(&mut self, tail: Tail, from: Vec<usize>, channels: usize, work: Work) -> Result<(), NetError> {
        let largest = match tail.form {
            Form::Real => 0,
            Form::Bytes(scale) => scale.largest(tail.finish.bounds),
        };
        let to = self.tensor(tail.value, channels, tail.form, largest);
        self.steps.push(Step { from, to, first: 0, finish: tail.finish, work });
        Ok(())
    }

    /// What may be done to a value in the step that computes it, because nobody else reads it.
    fn tail(&mut self, value: ValueId) -> Result<Tail, NetError> {
        let mut tail = Tail::new(value);
        self.follow(&mut tail)?;
        Ok(tail)
    }

    fn follow(&mut self, tail: &mut Tail) -> Result<(), NetError> {
        while tail.form == Form::Real && tail.value != self.graph.output {
            let [next] = self.graph.consumers(tail.value)[..] else { break };
            if self.graph.nodes[next].inputs[0] != tail.value || !self.take(tail, next)? {
                break;
            }
        }
        Ok(())
    }

    /// Adds node `k` to a tail, if it can be there: an activation, then bounds, then quantization.
    fn take(&mut self, tail: &mut Tail, k: usize) -> Result<bool, NetError> {
        let node = &self.graph.nodes[k];
        match node.operator {
            Operator::LeakyRelu { slope } if tail.is_nothing() => tail.finish.slope = slope,
            Operator::Clip => {
                let bound = |input, otherwise| {
                    let numbers = self.numbers(node, input)?;
                    Ok(numbers.and_then(|n| n.first().copied()).unwrap_or(otherwise))
                };
                let [low, high] = [bound(1, f32::NEG_INFINITY)?, bound(2, f32::INFINITY)?];
                if !tail.finish.is_unbounded() || low.is_nan() || high.is_nan() || high < low {
                    return Ok(false);
                }
                tail.finish.bounds = [low, high];
            }
            Operator::QuantizeLinear { .. } => tail.form = Form::Bytes(self.scale(node)?),
            _ => return Ok(false),
        }
        tail.value = node.output;
        self.done[k] = true;
        Ok(true)
    }

    /// Gives each tensor a buffer; joined ones share that of their join.
    fn place(&mut self) -> Vec<usize> {
        let mut buffers = Vec::new();
        for t in 0..self.tensors.len() {
            if !self.joins.iter().any(|(_, parts)| parts.contains(&t)) {
                self.tensors[t].buffer = buffers.len();
                buffers.push(self.tensors[t].channels);
            }
        }
        for (output, parts) in &self.joins {
            for part in parts {
                self.tensors[*part].buffer = self.tensors[*output].buffer;
            }
        }
        buffers
    }

    fn pack(&mut self, buffers: &[usize]) {
        for layer in std::mem::take(&mut self.layers) {
            let step = &mut self.steps[layer.step];
            let from = &self.tensors[step.from[0]];
            let Form::Bytes(scale) = from.form else { continue };
            let tight = buffers[from.buffer] == from.channels;
            let packed = Layer::new(layer.shape, &layer.weights, layer.rescale, tight, [scale.zero, from.largest]);
            step.work = Work::Convolve(Box::new(packed));
        }
    }
}

/// What follows a value within its step.
struct Tail {
    value: ValueId,
    finish: Finish,
    form: Form,
}

impl Tail {
    fn new(value: ValueId) -> Tail {
        Tail { value, finish: Finish::default(), form: Form::Real }
    }
    fn is_nothing(&self) -> bool {
        self.finish.slope == 1.0 && self.finish.is_unbounded() && self.form == Form::Real
    }
}
