//! The graph by its definitions, in f64 and without a thought of speed: what the tests hold the engine against.

use super::graph::{Graph, Node, Operator, ValueId, Window};
use ndarray::{Array4, ArrayD, Axis, concatenate};
use std::collections::BTreeMap;

/// Every computed tensor of the graph, shape (channels, z, y, x), and the sum of absolute products behind each value of
/// a convolution.
pub fn evaluate(graph: &Graph, input: &Array4<f64>) -> BTreeMap<ValueId, Array4<f64>> {
    let mut known = BTreeMap::from([(graph.input, input.clone())]);
    for node in &graph.nodes {
        if graph.constant_f32(node.output).is_none() {
            let found = one(graph, node, &known);
            known.insert(node.output, found);
        }
    }
    known
}

fn one(graph: &Graph, node: &Node, known: &BTreeMap<ValueId, Array4<f64>>) -> Array4<f64> {
    let x = &known[&node.inputs[0]];
    let constant = |k: usize| node.inputs.get(k).map(|v| graph.constant_f32(*v).expect("a constant").mapv(f64::from));
    match &node.operator {
        Operator::Conv(window) => convolve(x, &constant(1).unwrap(), constant(2), window),
        Operator::ConvTranspose(window, extra) => transpose(x, &constant(1).unwrap(), constant(2), window, *extra),
        Operator::InstanceNormalization { epsilon } => {
            let (scale, bias) = (constant(1).unwrap(), constant(2).unwrap());
            let mut y = x.clone();
            for ((mut channel, scale), bias) in y.axis_iter_mut(Axis(0)).zip(&scale).zip(&bias) {
                let mean = channel.mean().unwrap();
                let variance = channel.mapv(|v| (v - mean).powi(2)).mean().unwrap();
                channel.mapv_inplace(|v| (v - mean) / (variance + f64::from(*epsilon)).sqrt() * scale + bias);
            }
            y
        }
        Operator::BatchNormalization { epsilon } => {
            let [scale, bias, mean, variance] = [1, 2, 3, 4].map(|k| constant(k).unwrap());
            let mut y = x.clone();
            for (c, mut channel) in y.axis_iter_mut(Axis(0)).enumerate() {
                let factor = scale[c] / (variance[c] + f64::from(*epsilon)).sqrt();
                channel.mapv_inplace(|v| (v - mean[c]) * factor + bias[c]);
            }
            y
        }
        Operator::LeakyRelu { slope } => x.mapv(|v| if v < 0.0 { v * f64::from(*slope) } else { v }),
        Operator::Clip => {
            let [low, high] = [1, 2].map(|k| constant(k).unwrap().first().copied().unwrap());
            x.mapv(|v| v.clamp(low, high))
        }
        Operator::Concat => {
            let parts: Vec<_> = node.inputs.iter().map(|v| known[v].view()).collect();
            concatenate(Axis(0), &parts).unwrap()
        }
        Operator::Add => x + &known[&node.inputs[1]],
        Operator::MaxPool(window) => pool(x, window, |values, _| values.iter().copied().fold(f64::MIN, f64::max)),
        Operator::AveragePool { window, count_padding } => pool(x, window, |values, whole| {
            values.iter().sum::<f64>() / if *count_padding { whole } else { values.len() } as f64
        }),
        Operator::QuantizeLinear { .. } | Operator::DequantizeLinear { .. } => panic!("not f32"),
    }
}

fn shape(x: &Array4<f64>) -> [usize; 3] {
    [x.dim().1, x.dim().2, x.dim().3]
}

/// The taps of a window and where each reads for the output voxel `o`.
fn taps(window: &Window) -> Vec<[usize; 3]> {
    let [kz, ky, kx] = window.kernel;
    let all = (0..kz).flat_map(|z| (0..ky).flat_map(move |y| (0..kx).map(move |x| [z, y, x])));
    all.collect()
}

fn read_at(window: &Window, o: [usize; 3], tap: [usize; 3], n: [usize; 3]) -> Option<[usize; 3]> {
    let mut at = [0; 3];
    for a in 0..3 {
        at[a] = (o[a] * window.stride[a] + tap[a] * window.dilation[a]).checked_sub(window.pad_low[a])?;
        if at[a] >= n[a] {
            return None;
        }
    }
    Some(at)
}

fn convolve(x: &Array4<f64>, weights: &ArrayD<f64>, bias: Option<ArrayD<f64>>, window: &Window) -> Array4<f64> {
    let (n_out, n_in, n) = (weights.shape()[0], x.dim().0, shape(x));
    let size = [0, 1, 2].map(|a| window.slid(a, n[a]).unwrap());
    let weights = weights.as_slice().unwrap();
    let n_taps: usize = window.kernel.iter().product();
    let taps = taps(window);
    Array4::from_shape_fn((n_out, size[0], size[1], size[2]), |(o, z, y, x_)| {
        let mut sum = bias.as_ref().map_or(0.0, |b| b[o]);
        for (t, tap) in taps.iter().enumerate() {
            if let Some([a, b, c]) = read_at(window, [z, y, x_], *tap, n) {
                sum += (0..n_in).map(|i| x[[i, a, b, c]] * weights[(o * n_in + i) * n_taps + t]).sum::<f64>();
            }
        }
        sum
    })
}

fn transpose(
    x: &Array4<f64>,
    weights: &ArrayD<f64>,
    bias: Option<ArrayD<f64>>,
    window: &Window,
    extra: [usize; 3],
) -> Array4<f64> {
    let (n_out, n) = (weights.shape()[1], shape(x));
    let size = [0, 1, 2].map(|a| window.spread(a, n[a], extra[a]).unwrap());
    let weights = weights.as_slice().unwrap();
    let n_taps: usize = window.kernel.iter().product();
    let mut y = Array4::zeros((n_out, size[0], size[1], size[2]));
    if let Some(bias) = bias {
        y.axis_iter_mut(Axis(0)).zip(&bias).for_each(|(mut channel, b)| channel.fill(*b));
    }
    for ((i, a, b, c), value) in x.indexed_iter() {
        for (t, tap) in taps(window).iter().enumerate() {
            let at = [a, b, c];
            let to = [0, 1, 2].map(|k| {
                let to = (at[k] * window.stride[k] + tap[k] * window.dilation[k]).checked_sub(window.pad_low[k]);
                to.filter(|to| *to < size[k])
            });
            if let [Some(z), Some(y_), Some(x_)] = to {
                for o in 0..n_out {
                    y[[o, z, y_, x_]] += value * weights[(i * n_out + o) * n_taps + t];
                }
            }
        }
    }
    y
}

fn pool(x: &Array4<f64>, window: &Window, of: impl Fn(&[f64], usize) -> f64) -> Array4<f64> {
    let n = shape(x);
    let size = [0, 1, 2].map(|a| window.slid(a, n[a]).unwrap());
    let taps = taps(window);
    Array4::from_shape_fn((x.dim().0, size[0], size[1], size[2]), |(c, z, y, x_)| {
        let inside = taps.iter().filter_map(|tap| read_at(window, [z, y, x_], *tap, n));
        let values: Vec<f64> = inside.map(|[a, b, d]| x[[c, a, b, d]]).collect();
        of(&values, taps.len())
    })
}
