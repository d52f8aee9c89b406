//! A graph with the scales of its activations, as ONNX in the QDQ form: any runtime computes it, ours in integers.

use super::Scale;
use crate::segment::net::graph::{Graph, Node, Operator, ValueId, Window};
use ndarray::ArrayD;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
};
use tract_onnx::pb::{TypeProto, ValueInfoProto, attribute_proto::AttributeType, type_proto};

/// QuantizeLinear has an axis since 13; 17 is what the exporters write.
const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

/// ONNX bytes; `scales` holds the values that become bytes. Nothing if a weight is not constant.
pub fn write(graph: &Graph, scales: &BTreeMap<ValueId, Scale>) -> Option<Vec<u8>> {
    let mut writer = Writer {
        graph,
        scales,
        proto: GraphProto { name: "metwatch".into(), ..Default::default() },
        there: BTreeSet::new(),
    };
    writer.quantize(graph.input);
    for node in &graph.nodes {
        if graph.constant_f32(node.output).is_none() {
            writer.node(node)?;
        }
    }
    let (name, rank) = (|v: ValueId| graph.values[v].name.clone(), graph.rank);
    writer.proto.input.push(info(name(graph.input), Some(graph.channels), rank));
    writer.proto.output.push(info(name(graph.output), None, rank));
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "metwatch model quantize".into(),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        graph: Some(writer.proto),
        ..Default::default()
    };
    Some(model.encode_to_vec())
}

struct Writer<'a> {
    graph: &'a Graph,
    scales: &'a BTreeMap<ValueId, Scale>,
    proto: GraphProto,
    /// Names of constants that are written.
    there: BTreeSet<String>,
}

impl Writer<'_> {
    /// The name by which a value is read: dequantized where it has a scale.
    fn read(&self, value: ValueId) -> String {
        let name = &self.graph.values[value].name;
        if self.scales.contains_key(&value) { format!("{name}_dequantized") } else { name.clone() }
    }

    fn push(&mut self, kind: &str, input: Vec<String>, output: String, attribute: Vec<AttributeProto>) {
        let name = format!("{kind}_{output}");
        let node =
            NodeProto { input, output: vec![output], name, op_type: kind.into(), attribute, ..Default::default() };
        self.proto.node.push(node);
    }

    fn tensor(&mut self, name: &str, dims: &[usize], kind: DataType, raw_data: Vec<u8>) -> String {
        if self.there.insert(name.into()) {
            let dims = dims.iter().map(|n| *n as i64).collect();
            let tensor =
                TensorProto { dims, data_type: kind as i32, name: name.into(), raw_data, ..Default::default() };
            self.proto.initializer.push(tensor);
        }
        name.into()
    }

    fn floats(&mut self, name: &str, dims: &[usize], values: impl IntoIterator<Item = f32>) -> String {
        let raw = values.into_iter().flat_map(f32::to_le_bytes).collect();
        self.tensor(name, dims, DataType::Float, raw)
    }

    /// Clip to the bytes that are used, QuantizeLinear and DequantizeLinear after a value that has a scale.
    fn quantize(&mut self, value: ValueId) {
        let Some(scale) = self.scales.get(&value).copied() else { return };
        let name = self.graph.values[value].name.clone();
        let mut from = name.clone();
        if scale.levels < 255 {
            let bounds = [("low", 0), ("high", scale.levels)].map(|(end, byte)| {
                let bound = (f32::from(byte) - f32::from(scale.zero)) * scale.step;
                self.floats(&format!("{name}_{end}"), &[], [bound])
            });
            from = format!("{name}_clipped");
            self.push("Clip", [vec![name.clone()], bounds.to_vec()].concat(), from.clone(), Vec::new());
        }
        let step = self.floats(&format!("{name}_scale"), &[], [scale.step]);
        let zero = self.tensor(&format!("{name}_zero"), &[], DataType::Uint8, vec![scale.zero]);
        let (bytes, real) = (format!("{name}_bytes"), format!("{name}_dequantized"));
        self.push("QuantizeLinear", vec![from, step.clone(), zero.clone()], bytes.clone(), Vec::new());
        self.push("DequantizeLinear", vec![bytes, step, zero], real, Vec::new());
    }

    fn node(&mut self, node: &Node) -> Option<()> {
        let graph = self.graph;
        let scale = self.scales.get(&node.inputs[0]).copied();
        let is_convolution = matches!(node.operator, Operator::Conv(_) | Operator::ConvTranspose(..));
        let inputs = match scale {
            Some(scale) if is_convolution => self.quantized_inputs(node, scale)?,
            _ => {
                let mut names = Vec::new();
                for input in &node.inputs {
                    names.push(match graph.constant_f32(*input) {
                        Some(values) => self.floats(&graph.values[*input].name, values.shape(), values.iter().copied()),
                        None => self.read(*input),
                    });
                }
                names
            }
        };
        let rank = graph.rank;
        let (kind, attributes) = match &node.operator {
            Operator::Conv(w) => ("Conv", window(w, rank, true)),
            Operator::ConvTranspose(w, extra) => {
                ("ConvTranspose", [window(w, rank, true), vec![ints("output_padding", &extra[3 - rank..])]].concat())
            }
            Operator::MaxPool(w) => ("MaxPool", window(w, rank, true)),
            // AveragePool has dilations since opset 19 only.
            Operator::AveragePool { window: w, count_padding } if w.dilation == [1; 3] => (
                "AveragePool",
                [window(w, rank, false), vec![int("count_include_pad", i64::from(*count_padding))]].concat(),
            ),
            Operator::AveragePool { .. } => return None,
            Operator::InstanceNormalization { epsilon } => ("InstanceNormalization", vec![float("epsilon", *epsilon)]),
            Operator::BatchNormalization { epsilon } => ("BatchNormalization", vec![float("epsilon", *epsilon)]),
            Operator::LeakyRelu { slope: 0.0 } => ("Relu", Vec::new()),
            Operator::LeakyRelu { slope } => ("LeakyRelu", vec![float("alpha", *slope)]),
            Operator::Clip => ("Clip", Vec::new()),
            Operator::Concat => ("Concat", vec![int("axis", 1)]),
            Operator::Add => ("Add", Vec::new()),
            // A graph with these on activations is quantized already.
            Operator::QuantizeLinear { .. } | Operator::DequantizeLinear { .. } => return None,
        };
        self.push(kind, inputs, graph.values[node.output].name.clone(), attributes);
        self.quantize(node.output);
        Some(())
    }

    /// Input, weights and bias of a convolution: weights symmetric in i8 per output channel, the bias in units of the sums.
    fn quantized_inputs(&mut self, node: &Node, input: Scale) -> Option<Vec<String>> {
        let graph = self.graph;
        let weights = graph.constant_f32(node.inputs[1])?;
        let bias = match node.inputs.get(2) {
            Some(bias) => Some(graph.constant_f32(*bias)?),
            None => None,
        };
        let axis = usize::from(matches!(node.operator, Operator::ConvTranspose(..)));
        let steps = weight_steps(&weights, bias.as_ref(), axis, input.step);
        let name = graph.values[node.inputs[1]].name.clone();
        let n = steps.len();
        let mut bytes = Vec::with_capacity(weights.len());
        for (at, w) in weights.indexed_iter() {
            bytes.push((w / steps[at[axis]]).round_ties_even().clamp(-127.0, 127.0) as i8 as u8);
        }
        let stored = self.tensor(&format!("{name}_int8"), weights.shape(), DataType::Int8, bytes);
        let step = self.floats(&format!("{name}_scale"), &[n], steps.iter().copied());
        let zero = self.tensor(&format!("{name}_zero"), &[n], DataType::Int8, vec![0; n]);
        let real = format!("{name}_dequantized");
        // Weights that two convolutions share have another bias scale, but are dequantized once.
        if self.there.insert(real.clone()) {
            self.push("DequantizeLinear", vec![stored, step, zero], real.clone(), vec![int("axis", axis as i64)]);
        }
        let mut inputs = vec![self.read(node.inputs[0]), real];
        if let Some(bias) = bias {
            let name = format!("{}_bias", graph.values[node.output].name);
            let units: Vec<f32> = steps.iter().map(|s| input.step * s).collect();
            let whole = bias.iter().zip(&units).map(|(b, u)| (f64::from(*b) / f64::from(*u)).round_ties_even() as i32);
            let raw = whole.flat_map(i32::to_le_bytes).collect();
            let stored = self.tensor(&format!("{name}_int32"), &[n], DataType::Int32, raw);
            let unit = self.floats(&format!("{name}_scale"), &[n], units);
            let real = format!("{name}_dequantized");
            self.push("DequantizeLinear", vec![stored, unit], real.clone(), vec![int("axis", 0)]);
            inputs.push(real);
        }
        Some(inputs)
    }
}

/// One step per output channel: the largest weight is 127, and the bias stays below 2^29 units of a sum.
fn weight_steps(weights: &ArrayD<f32>, bias: Option<&ArrayD<f32>>, axis: usize, input: f32) -> Vec<f32> {
    const BIAS_MAX: f32 = 536_870_912.0;
    let channels = weights.axis_iter(ndarray::Axis(axis)).enumerate();
    let step = |(o, channel): (usize, ndarray::ArrayViewD<f32>)| {
        let largest = channel.iter().fold(0.0f32, |m, w| m.max(w.abs()));
        let bias = bias.and_then(|b| b.iter().nth(o)).map_or(0.0, |b| b.abs());
        (largest / 127.0).max(bias / (input * BIAS_MAX)).max(1e-12)
    };
    channels.map(step).collect()
}

fn window(w: &Window, rank: usize, dilations: bool) -> Vec<AttributeProto> {
    let from = 3 - rank;
    let pads = [&w.pad_low[from..], &w.pad_high[from..]].concat();
    let mut found =
        vec![ints("kernel_shape", &w.kernel[from..]), ints("strides", &w.stride[from..]), ints("pads", &pads)];
    if dilations {
        found.push(ints("dilations", &w.dilation[from..]));
    }
    found
}

fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let ints = values.iter().map(|n| *n as i64).collect();
    AttributeProto { name: name.into(), r#type: AttributeType::Ints as i32, ints, ..Default::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i, ..Default::default() }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Float as i32, f, ..Default::default() }
}

/// Shape (1, channels, [z,] y, x) of f32; sizes that are not known have a name.
fn info(name: String, channels: Option<usize>, rank: usize) -> ValueInfoProto {
    let axis = |value| Dimension { denotation: String::new(), value: Some(value) };
    let open = |name: &str| axis(dimension::Value::DimParam(name.into()));
    let mut dim = vec![axis(dimension::Value::DimValue(1))];
    dim.push(channels.map_or_else(|| open("channels"), |n| axis(dimension::Value::DimValue(n as i64))));
    dim.extend(["z", "y", "x"][3 - rank..].iter().map(|name| open(name)));
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(TensorShapeProto { dim }) };
    let kind = TypeProto { denotation: String::new(), value: Some(type_proto::Value::TensorType(tensor)) };
    ValueInfoProto { name, r#type: Some(kind), doc_string: String::new() }
}
