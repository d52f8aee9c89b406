//! The network as a graph: what ONNX says, typed, before any decision on how to compute it.

use ndarray::{ArrayD, Axis};

/// Index of a [`Value`] in [`Graph::values`].
pub type ValueId = usize;

/// A network with one input, shape (1, channels, spatial axes), and one output of the same rank. Only what the output
/// needs is in it.
#[derive(Debug, Clone)]
pub struct Graph {
    /// Spatial axes of input and output: 3 for (z, y, x), 2 for (y, x).
    pub rank: usize,
    /// Channels of the input.
    pub channels: usize,
    /// The tensor that the caller gives.
    pub input: ValueId,
    /// The tensor that the caller gets.
    pub output: ValueId,
    /// Every tensor: the input, the constants and what nodes compute.
    pub values: Vec<Value>,
    /// In an order in which each node comes after those it reads.
    pub nodes: Vec<Node>,
}

/// A tensor of the graph.
#[derive(Debug, Clone)]
pub struct Value {
    /// As in the ONNX file.
    pub name: String,
    /// Weights and the like; `None` for what is computed.
    pub constant: Option<Constant>,
}

/// A constant tensor, in ONNX's shape (a convolution's weights: output channels, input channels, kernel).
#[derive(Debug, Clone)]
pub enum Constant {
    /// 32-bit float.
    F32(ArrayD<f32>),
    /// Quantized, signed (weights).
    I8(ArrayD<i8>),
    /// Quantized, unsigned (zero points of activations).
    U8(ArrayD<u8>),
    /// 32-bit integer (quantized bias).
    I32(ArrayD<i32>),
    /// 64-bit integer (shapes).
    I64(ArrayD<i64>),
}

/// One operation; every operator here has one output.
#[derive(Debug, Clone)]
pub struct Node {
    /// What is done.
    pub operator: Operator,
    /// What is read, in ONNX's order (a convolution: input, weights, bias if any).
    pub inputs: Vec<ValueId>,
    /// What is written.
    pub output: ValueId,
}

/// The operators that a graph may hold. Triples are in array order (z, y, x); a 2-D network has kernel 1, stride 1, no
/// padding along z.
#[derive(Debug, Clone, PartialEq)]
pub enum Operator {
    /// Inputs: x, weights (out, in, kernel), bias (optional). One group.
    Conv(Window),
    /// Inputs: x, weights (in, out, kernel), bias (optional). One group; `output_padding` as in ONNX.
    ConvTranspose(Window, [usize; 3]),
    /// Inputs: x, scale, bias; mean and population variance of each channel over its voxels.
    InstanceNormalization {
        /// Added to the variance.
        epsilon: f32,
    },
    /// Inputs: x, scale, bias, mean, variance (constants).
    BatchNormalization {
        /// Added to the variance.
        epsilon: f32,
    },
    /// max(x, slope * x); slope 0 is ReLU. At most 1.
    LeakyRelu {
        /// Factor of negative values.
        slope: f32,
    },
    /// Inputs: x, smallest, largest (constants, both optional, in this order).
    Clip,
    /// Along the channels.
    Concat,
    /// Of two tensors of one shape.
    Add,
    /// Mean over a window; `count_padding` divides by the whole window at borders as well.
    AveragePool {
        /// Where the windows lie.
        window: Window,
        /// ONNX's `count_include_pad`.
        count_padding: bool,
    },
    /// Largest value of a window.
    MaxPool(Window),
    /// Inputs: x, scale, zero point (optional). To 8 bits.
    QuantizeLinear {
        /// Axis of a scale that is a vector.
        axis: usize,
    },
    /// Inputs: x, scale, zero point (optional). From 8 bits (or 32, a bias).
    DequantizeLinear {
        /// Axis of a scale that is a vector.
        axis: usize,
    },
}

/// A window that slides over the voxels (ONNX: kernel_shape, strides, dilations, pads).
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Voxels of the window.
    pub kernel: [usize; 3],
    /// Voxels between windows.
    pub stride: [usize; 3],
    /// Voxels between taps.
    pub dilation: [usize; 3],
    /// Zeros before the first voxel.
    pub pad_low: [usize; 3],
    /// Zeros after the last voxel.
    pub pad_high: [usize; 3],
}

impl Window {
    /// Output voxels of a convolution or pooling along `axis` for `n` input voxels; `None` if the window does not fit.
    pub fn slid(&self, axis: usize, n: usize) -> Option<usize> {
        let reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
        let room = (n + self.pad_low[axis] + self.pad_high[axis]).checked_sub(reach)?;
        Some(room / self.stride[axis] + 1)
    }

    /// Output voxels of a transposed convolution along `axis` for `n` input voxels.
    pub fn spread(&self, axis: usize, n: usize, output_padding: usize) -> Option<usize> {
        let reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
        (self.stride[axis] * n.checked_sub(1)? + reach + output_padding)
            .checked_sub(self.pad_low[axis] + self.pad_high[axis])
            .filter(|n| *n > 0)
    }
}

impl Graph {
    /// The node that computes a value.
    pub fn producer(&self, value: ValueId) -> Option<&Node> {
        self.nodes.iter().find(|n| n.output == value)
    }

    /// Indices of the nodes that read a value.
    pub fn consumers(&self, value: ValueId) -> Vec<usize> {
        (0..self.nodes.len()).filter(|k| self.nodes[*k].inputs.contains(&value)).collect()
    }

    /// A constant as f32: one that is stored so, or a dequantized one.
    pub fn constant_f32(&self, value: ValueId) -> Option<ArrayD<f32>> {
        match &self.values[value].constant {
            Some(Constant::F32(found)) => Some(found.clone()),
            Some(_) => None,
            None => {
                let node = self.producer(value)?;
                let Operator::DequantizeLinear { axis } = node.operator else { return None };
                let (mut numbers, scale) = (self.integers(node.inputs[0])?, self.constant_f32(node.inputs[1])?);
                let zero = node.inputs.get(2).map_or(Some(ArrayD::zeros(scale.raw_dim())), |z| self.integers(*z))?;
                if scale.len() == 1 {
                    let (scale, zero) = (*scale.first()?, *zero.first()?);
                    numbers.mapv_inplace(|v| (v - zero) * scale);
                } else {
                    if axis >= numbers.ndim() || numbers.shape()[axis] != scale.len() || zero.len() != scale.len() {
                        return None;
                    }
                    for ((mut part, scale), zero) in numbers.axis_iter_mut(Axis(axis)).zip(&scale).zip(&zero) {
                        part.mapv_inplace(|v| (v - zero) * scale);
                    }
                }
                Some(numbers)
            }
        }
    }

    fn integers(&self, value: ValueId) -> Option<ArrayD<f32>> {
        match self.values[value].constant.as_ref()? {
            Constant::I8(found) => Some(found.mapv(f32::from)),
            Constant::U8(found) => Some(found.mapv(f32::from)),
            Constant::I32(found) => Some(found.mapv(|v| v as f32)),
            Constant::F32(_) | Constant::I64(_) => None,
        }
    }
}
