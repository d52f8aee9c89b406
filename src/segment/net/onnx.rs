//! ONNX bytes to a [`Graph`], or the operators that are not known.

use super::NetError;
use super::graph::{Constant, Graph, Node, Operator, Value, ValueId, Window};
use ndarray::{ArrayD, IxDyn};
use std::collections::{BTreeMap, BTreeSet};
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto, TensorProto, tensor_proto::DataType};
use tract_onnx::prelude::Framework;

/// Reads the part of an ONNX network that leads from the tensor `input` to the tensor `output`.
pub fn read(onnx: &[u8], input: &str, output: &str) -> Result<Graph, NetError> {
    let model: ModelProto = tract_onnx::onnx()
        .proto_model_for_read(&mut std::io::Cursor::new(onnx))
        .map_err(|e| NetError::Invalid(format!("it is not ONNX: {e:#}")))?;
    let proto = model.graph.ok_or_else(|| NetError::Invalid("it holds no graph".into()))?;
    let mut reader = Reader::default();
    let shape = proto.input.iter().find(|i| i.name == input).map(input_shape).unwrap_or_default();
    for tensor in &proto.initializer {
        let constant = constant(tensor)?;
        reader.add(&tensor.name, Some(constant));
    }
    let input = reader.add(input, None);
    for node in needed(&proto.node, output) {
        reader.node(node)?;
    }
    if !reader.unknown.is_empty() {
        return Err(NetError::Unsupported(reader.unknown.into_iter().collect()));
    }
    let output = reader.find(output)?;
    let (rank, channels) = reader.first_layer(input, &shape)?;
    Ok(Graph { rank, channels, input, output, values: reader.values, nodes: reader.nodes })
}

/// Whether a file has an operator anywhere, also in parts that the output does not need.
pub fn has_operator(onnx: &[u8], kind: &str) -> bool {
    let model = tract_onnx::onnx().proto_model_for_read(&mut std::io::Cursor::new(onnx));
    model.ok().and_then(|m| m.graph).is_some_and(|g| g.node.iter().any(|n| n.op_type == kind))
}

/// Sizes of an input; 0 where the file leaves them open.
fn input_shape(info: &tract_onnx::pb::ValueInfoProto) -> Vec<usize> {
    use tract_onnx::pb::{tensor_shape_proto::dimension::Value::DimValue, type_proto::Value::TensorType};
    let Some(TensorType(tensor)) = info.r#type.as_ref().and_then(|t| t.value.as_ref()) else { return Vec::new() };
    let size = |v: &Option<_>| match v {
        Some(DimValue(n)) => usize::try_from(*n).unwrap_or(0),
        _ => 0,
    };
    tensor.shape.as_ref().map_or(Vec::new(), |s| s.dim.iter().map(|d| size(&d.value)).collect())
}

/// The nodes that `output` depends on, in the file's order (ONNX demands that it is topological).
fn needed<'a>(nodes: &'a [NodeProto], output: &str) -> Vec<&'a NodeProto> {
    let mut wanted: BTreeSet<&str> = BTreeSet::from([output]);
    let mut found: Vec<&NodeProto> = Vec::new();
    for node in nodes.iter().rev() {
        if node.output.iter().any(|o| wanted.contains(o.as_str())) {
            wanted.extend(node.input.iter().map(String::as_str));
            found.push(node);
        }
    }
    found.reverse();
    found
}

#[derive(Default)]
struct Reader {
    values: Vec<Value>,
    nodes: Vec<Node>,
    by_name: BTreeMap<String, ValueId>,
    /// Spatial axes, once a node has told them.
    rank: Option<usize>,
    unknown: BTreeSet<String>,
}

impl Reader {
    fn add(&mut self, name: &str, constant: Option<Constant>) -> ValueId {
        self.values.push(Value { name: name.into(), constant });
        self.by_name.insert(name.into(), self.values.len() - 1);
        self.values.len() - 1
    }

    fn find(&self, name: &str) -> Result<ValueId, NetError> {
        let missing = || NetError::Invalid(format!("it has no tensor named {name:?}"));
        self.by_name.get(name).copied().ok_or_else(missing)
    }

    fn node(&mut self, node: &NodeProto) -> Result<(), NetError> {
        let [output, ..] = &node.output[..] else { return Ok(()) };
        match node.op_type.as_str() {
            "Constant" => {
                let tensor = node.attribute.iter().find(|a| a.name == "value").and_then(|a| a.t.as_ref());
                match tensor {
                    Some(tensor) => drop(self.add(output, Some(constant(tensor)?))),
                    None => self.refuse(node, output, "Constant without a tensor"),
                }
                return Ok(());
            }
            "Identity" | "Dropout" if node.input.len() == 1 => {
                let same = self.find(&node.input[0])?;
                self.by_name.insert(output.clone(), same);
                return Ok(());
            }
            _ => {}
        }
        match self.operator(node) {
            Ok(operator) => {
                let named = node.input.iter().filter(|name| !name.is_empty());
                let inputs = named.map(|name| self.find(name)).collect::<Result<Vec<_>, _>>()?;
                let output = self.add(output, None);
                self.nodes.push(Node { operator, inputs, output });
            }
            Err(reason) => self.refuse(node, output, &reason),
        }
        Ok(())
    }

    /// Notes an operator that is not known and goes on, so that the message names all of them.
    fn refuse(&mut self, node: &NodeProto, output: &str, reason: &str) {
        self.unknown.insert(reason.into());
        for name in std::iter::once(output).chain(node.output.iter().skip(1).map(String::as_str)) {
            self.add(name, None);
        }
    }

    fn operator(&mut self, node: &NodeProto) -> Result<Operator, String> {
        let kind = node.op_type.as_str();
        if !node.domain.is_empty() && node.domain != "ai.onnx" {
            return Err(format!("{}.{kind}", node.domain));
        }
        if node.output.iter().skip(1).any(|o| !o.is_empty()) {
            return Err(format!("{kind} with more than one output"));
        }
        let at_least = |n: usize| {
            let there = node.input.len() >= n && node.input[..n].iter().all(|name| !name.is_empty());
            if there { Ok(()) } else { Err(format!("{kind} with fewer than {n} inputs")) }
        };
        at_least(1)?;
        let attribute = Attributes { kind, list: &node.attribute };
        match kind {
            "Conv" => {
                at_least(2)?;
                attribute.only_int("group", 1)?;
                Ok(Operator::Conv(self.window(&attribute, &node.input[1])?))
            }
            "ConvTranspose" => {
                at_least(2)?;
                attribute.only_int("group", 1)?;
                attribute.absent("output_shape")?;
                let window = self.window(&attribute, &node.input[1])?;
                let extra = attribute.ints("output_padding", &[0, 0, 0])?;
                if extra.iter().any(|n| *n > 1024) {
                    return Err(format!("{kind} with output_padding {extra:?}"));
                }
                Ok(Operator::ConvTranspose(window, triple(extra, 0)))
            }
            "MaxPool" | "AveragePool" => {
                attribute.only_int("ceil_mode", 0)?;
                attribute.only_int("storage_order", 0)?;
                let window = self.window(&attribute, "")?;
                let count_padding = attribute.int("count_include_pad", 0) == 1;
                match kind {
                    "MaxPool" => Ok(Operator::MaxPool(window)),
                    _ => Ok(Operator::AveragePool { window, count_padding }),
                }
            }
            "InstanceNormalization" => {
                at_least(3)?;
                Ok(Operator::InstanceNormalization { epsilon: attribute.float("epsilon", 1e-5) })
            }
            "BatchNormalization" => {
                at_least(5)?;
                attribute.only_int("training_mode", 0)?;
                Ok(Operator::BatchNormalization { epsilon: attribute.float("epsilon", 1e-5) })
            }
            "Relu" => Ok(Operator::LeakyRelu { slope: 0.0 }),
            "LeakyRelu" => match attribute.float("alpha", 0.01) {
                slope if slope <= 1.0 => Ok(Operator::LeakyRelu { slope }),
                slope => Err(format!("LeakyRelu with slope {slope}")),
            },
            // An empty name in the place of the smallest would move the largest there.
            "Clip" if node.input.get(1).is_none_or(|name| !name.is_empty()) => Ok(Operator::Clip),
            "Concat" => match (attribute.int("axis", 1), self.rank) {
                (1, _) => Ok(Operator::Concat),
                (axis, Some(rank)) if axis + rank as i64 + 2 == 1 => Ok(Operator::Concat),
                (axis, _) => Err(format!("Concat along axis {axis}")),
            },
            "Add" => {
                at_least(2)?;
                let constant = |name: &String| self.find(name).is_ok_and(|v| self.values[v].constant.is_some());
                if node.input.iter().any(constant) { Err("Add of a constant".into()) } else { Ok(Operator::Add) }
            }
            "QuantizeLinear" | "DequantizeLinear" => {
                at_least(2)?;
                attribute.only_int("block_size", 0)?;
                let axis = attribute.int("axis", 1);
                let axis = usize::try_from(axis).map_err(|_| format!("{kind} along axis {axis}"))?;
                match kind {
                    "QuantizeLinear" => Ok(Operator::QuantizeLinear { axis }),
                    _ => Ok(Operator::DequantizeLinear { axis }),
                }
            }
            _ => Err(kind.into()),
        }
    }

    /// Where the windows of a convolution or pooling lie. The kernel is an attribute or the shape of the weights.
    fn window(&mut self, attribute: &Attributes, weights: &str) -> Result<Window, String> {
        let kind = attribute.kind;
        match attribute.list.iter().find(|a| a.name == "auto_pad").map(|a| &a.s[..]) {
            None | Some(b"NOTSET" | b"VALID") => {}
            Some(other) => return Err(format!("{kind} with auto_pad {}", String::from_utf8_lossy(other))),
        }
        let of_weights = || {
            let value = self.find(weights).ok()?;
            let shape = match &self.values[value].constant {
                Some(constant) => constant.shape().to_vec(),
                // Quantized weights are dequantized by a node of their own.
                None => self
                    .nodes
                    .iter()
                    .find(|n| n.output == value)
                    .and_then(|n| self.values[*n.inputs.first()?].constant.as_ref().map(|c| c.shape().to_vec()))?,
            };
            shape.get(2..).map(<[usize]>::to_vec)
        };
        let kernel = attribute.ints("kernel_shape", &[])?;
        let kernel = if kernel.is_empty() { of_weights() } else { Some(kernel) };
        let kernel = kernel.ok_or_else(|| format!("{kind} with weights that are not constant"))?;
        let rank = kernel.len();
        if !(rank == 2 || rank == 3) || *self.rank.get_or_insert(rank) != rank {
            return Err(format!("{kind} with {rank} spatial axes"));
        }
        let stride = attribute.ints("strides", &vec![1; rank])?;
        let dilation = attribute.ints("dilations", &vec![1; rank])?;
        let pads = attribute.ints("pads", &vec![0; 2 * rank])?;
        let fits = stride.len() == rank && dilation.len() == rank && pads.len() == 2 * rank;
        // A window that lies in the padding as a whole is none.
        let inside = || (0..2 * rank).all(|k| pads[k] <= dilation[k % rank].saturating_mul(kernel[k % rank]));
        if !fits || !inside() || kernel.iter().chain(&stride).chain(&dilation).any(|n| !(1..=1024).contains(n)) {
            return Err(format!("{kind} with a kernel, strides, dilations or pads that do not fit together"));
        }
        Ok(Window {
            kernel: triple(kernel, 1),
            stride: triple(stride, 1),
            dilation: triple(dilation, 1),
            pad_low: triple(pads[..rank].to_vec(), 0),
            pad_high: triple(pads[rank..].to_vec(), 0),
        })
    }

    /// Spatial axes and channels of the input, from the file's shape or from the convolution that reads it.
    fn first_layer(&self, input: ValueId, shape: &[usize]) -> Result<(usize, usize), NetError> {
        let conv = self.nodes.iter().find(|n| n.inputs.first() == Some(&input) && n.inputs.len() > 1);
        let weights = conv.and_then(|n| match self.values[n.inputs[1]].constant.as_ref()? {
            constant if matches!(n.operator, Operator::Conv(_)) => constant.shape().get(1).copied(),
            _ => None,
        });
        let channels = weights.or(shape.get(1).copied()).filter(|n| *n > 0);
        let rank = self.rank.or(shape.len().checked_sub(2)).filter(|r| *r == 2 || *r == 3);
        match (rank, channels) {
            (Some(rank), Some(channels)) if shape.is_empty() || shape.len() == rank + 2 => Ok((rank, channels)),
            _ => Err(NetError::Invalid(format!("the shape of its input, {shape:?}, is not (1, channels, [z,] y, x)"))),
        }
    }
}

struct Attributes<'a> {
    kind: &'a str,
    list: &'a [AttributeProto],
}

impl Attributes<'_> {
    fn get(&self, name: &str) -> Option<&AttributeProto> {
        self.list.iter().find(|a| a.name == name)
    }
    fn int(&self, name: &str, otherwise: i64) -> i64 {
        self.get(name).map_or(otherwise, |a| a.i)
    }
    fn float(&self, name: &str, otherwise: f32) -> f32 {
        self.get(name).map_or(otherwise, |a| a.f)
    }
    fn only_int(&self, name: &str, only: i64) -> Result<(), String> {
        match self.int(name, only) {
            found if found == only => Ok(()),
            found => Err(format!("{} with {name} {found}", self.kind)),
        }
    }
    fn absent(&self, name: &str) -> Result<(), String> {
        if self.get(name).is_none() { Ok(()) } else { Err(format!("{} with {name}", self.kind)) }
    }
    fn ints(&self, name: &str, otherwise: &[usize]) -> Result<Vec<usize>, String> {
        let negative = || format!("{} with negative {name}", self.kind);
        match self.get(name) {
            None => Ok(otherwise.to_vec()),
            Some(a) => a.ints.iter().map(|n| usize::try_from(*n).map_err(|_| negative())).collect(),
        }
    }
}

/// Two or three numbers as (z, y, x), `missing` in place of a missing z.
fn triple(mut numbers: Vec<usize>, missing: usize) -> [usize; 3] {
    while numbers.len() < 3 {
        numbers.insert(0, missing);
    }
    [numbers[0], numbers[1], numbers[2]]
}

impl Constant {
    /// Sizes of its axes.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::F32(found) => found.shape(),
            Self::I8(found) => found.shape(),
            Self::U8(found) => found.shape(),
            Self::I32(found) => found.shape(),
            Self::I64(found) => found.shape(),
        }
    }
}

fn constant(tensor: &TensorProto) -> Result<Constant, NetError> {
    let invalid = |why: &str| NetError::Invalid(format!("its tensor {:?} {why}", tensor.name));
    if !tensor.external_data.is_empty() {
        return Err(invalid("lies in another file; export the network with its weights inside"));
    }
    let shape: Vec<usize> = tensor.dims.iter().map(|n| usize::try_from(*n).unwrap_or(usize::MAX)).collect();
    let (raw, ints) = (&tensor.raw_data[..], &tensor.int32_data);
    let little = |from: &[u8]| -> [u8; 4] { [from[0], from[1], from[2], from[3]] };
    let made = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) => {
            let stored = raw.chunks_exact(4).map(|b| f32::from_le_bytes(little(b))).collect();
            array(&shape, if raw.is_empty() { tensor.float_data.clone() } else { stored }).map(Constant::F32)
        }
        Ok(DataType::Int32) => {
            let stored = raw.chunks_exact(4).map(|b| i32::from_le_bytes(little(b))).collect();
            array(&shape, if raw.is_empty() { ints.clone() } else { stored }).map(Constant::I32)
        }
        Ok(DataType::Int8) => {
            let stored = raw.iter().map(|b| *b as i8).collect();
            array(&shape, if raw.is_empty() { ints.iter().map(|v| *v as i8).collect() } else { stored })
                .map(Constant::I8)
        }
        Ok(DataType::Uint8) => {
            let listed = ints.iter().map(|v| *v as u8).collect();
            array(&shape, if raw.is_empty() { listed } else { raw.to_vec() }).map(Constant::U8)
        }
        Ok(DataType::Int64) => {
            let wide = |b: &[u8]| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
            let stored = raw.chunks_exact(8).map(wide).collect();
            array(&shape, if raw.is_empty() { tensor.int64_data.clone() } else { stored }).map(Constant::I64)
        }
        _ => return Err(NetError::Unsupported(vec![format!("a tensor of ONNX type {}", tensor.data_type)])),
    };
    made.ok_or_else(|| invalid("has another number of values than its shape says"))
}

fn array<T>(shape: &[usize], values: Vec<T>) -> Option<ArrayD<T>> {
    ArrayD::from_shape_vec(IxDyn(shape), values).ok()
}
