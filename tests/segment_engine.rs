//! The own engine beside onnxruntime (kept logits, see models/training/engine_references.py) and beside tract (random networks).

use metwatch::Explain;
use metwatch::segment::{Backend, InstructionSet, Network, SegmentError};
use ndarray::{ArrayD, IxDyn};

const FOLDER: &str = "tests/data/segment_engine";

/// A 64-bit linear congruential generator, upper 31 bits in [-1, 1): the generator of golden inputs.
struct Random(u64);

impl Random {
    fn value(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as f64 / f64::from(1u32 << 30) - 1.0) as f32
    }
    fn number(&mut self, low: usize, high: usize) -> usize {
        low + ((f64::from(self.value()) + 1.0) / 2.0 * (high - low + 1) as f64) as usize
    }
    fn array(&mut self, shape: &[usize]) -> ArrayD<f32> {
        ArrayD::from_shape_simple_fn(IxDyn(shape), || self.value())
    }
}

/// Largest difference, relative to the largest expected value.
fn apart<'a>(found: impl IntoIterator<Item = &'a f32>, expected: &[f32]) -> f32 {
    let size = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let pairs = found.into_iter().zip(expected).map(|(a, b)| (a - b).abs());
    pairs.fold(0.0, |w: f32, d| if d.is_nan() { f32::INFINITY } else { w.max(d) }) / size
}

#[test]
fn networks_of_nnunet_give_the_logits_of_onnxruntime_on_every_instruction_set() {
    let names = ["plain_2d", "plain_3d_anisotropic", "plain_3d_batch_norm", "residual_3d", "int8_weights", "relu_2d"];
    let files = std::fs::read_dir(FOLDER).expect("the references are in the repository").count();
    assert_eq!(files, 2 * names.len(), "every reference is used");
    for name in names {
        let onnx = std::fs::read(format!("{FOLDER}/{name}.onnx")).expect("it is in the repository");
        let text = std::fs::read_to_string(format!("{FOLDER}/{name}.json")).expect("it is in the repository");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for set in InstructionSet::available() {
            let network = Network::load_with(set, &onnx, "input", "logits").expect("every operator is known");
            assert_eq!((network.backend(), network.instruction_set()), (Backend::Own, set.name()));
            for case in json["cases"].as_array().expect("cases") {
                let sizes = |key: &str| -> Vec<usize> {
                    case[key].as_array().expect("sizes").iter().map(|n| n.as_u64().expect("a size") as usize).collect()
                };
                let stride = case["stride"].as_u64().expect("a number") as usize;
                let expected: Vec<f32> = case["logits"]
                    .as_array()
                    .expect("logits")
                    .iter()
                    .map(|v| v.as_f64().expect("f32") as f32)
                    .collect();
                let input = Random(case["seed"].as_u64().expect("a number")).array(&sizes("shape"));
                let logits = network.logits(input.view()).expect("it runs");
                assert_eq!(logits.shape(), sizes("output"));
                assert_eq!(logits.iter().step_by(stride).count(), expected.len());
                let apart = apart(logits.iter().step_by(stride), &expected);
                // f32 sums in another order; instance norms over few voxels enlarge the difference.
                assert!(apart < 2e-5, "{name} {:?} {}: {apart:e}", sizes("shape"), set.name());
            }
        }
    }
}

#[test]
fn random_networks_give_what_tract_gives() {
    for seed in 1..=24 {
        let (onnx, mut random, shape) = random_network(seed);
        let own = Network::load(&onnx, "input", "logits").expect("it is valid");
        assert_eq!(own.backend(), Backend::Own, "seed {seed}: {:?}", own.why_tract());
        let tract = Network::load_on(Backend::Tract, &onnx, "input", "logits").expect("tract knows it");
        let input = random.array(&shape);
        let expected = tract.logits(input.view()).expect("it runs");
        let found = own.logits(input.view()).expect("it runs");
        assert_eq!(found.shape(), expected.shape());
        let apart = apart(&found, expected.as_standard_layout().as_slice().expect("standard"));
        assert!(apart < 3e-5, "seed {seed}, input {shape:?}: {apart:e}");
    }
}

#[test]
fn a_network_with_unknown_operators_runs_on_tract_and_is_named_if_the_own_engine_is_asked_for() {
    let mut file = Onnx::default();
    let weights = file.weights(&mut Random(5), &[4, 2, 3, 3, 3]);
    let x =
        file.node("Conv", &["input", &weights], &[("pads", &[1; 6]), ("kernel_shape", &[3; 3]), ("group", &[1])], &[]);
    let depthwise = file.weights(&mut Random(6), &[4, 1, 3, 3, 3]);
    let x = file.node("Conv", &[&x, &depthwise], &[("pads", &[1; 6]), ("group", &[4])], &[]);
    let x = file.node("Elu", &[&x], &[], &[]);
    let onnx = file.finish(3, 2, 4, &x);
    let network = Network::load(&onnx, "input", "logits").expect("tract knows it");
    assert_eq!(network.backend(), Backend::Tract);
    assert_eq!(network.why_tract(), Some("Conv with group 4, Elu"));
    assert_eq!(network.memory_bytes(&[2, 4, 6, 8]).expect("no error"), None);
    let logits = network.logits(Random(1).array(&[2, 4, 6, 8]).view()).expect("it runs");
    assert_eq!(logits.shape(), [4, 4, 6, 8]);
    match Network::load_on(Backend::Own, &onnx, "input", "logits") {
        Err(error @ SegmentError::OperatorsUnknown { .. }) => {
            assert!(error.to_string().contains("Conv with group 4, Elu"), "{error}");
            assert_eq!(error.code(), "segment.operators-unknown");
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was taken"),
    }
}

#[test]
fn damaged_networks_are_refused_without_a_panic() {
    let onnx = std::fs::read(format!("{FOLDER}/residual_3d.onnx")).expect("it is in the repository");
    let mut random = Random(1);
    for _ in 0..300 {
        let mut bytes = onnx.clone();
        bytes.truncate(random.number(0, onnx.len()));
        for _ in 0..random.number(0, 3) {
            // The graph's structure is at the start, weights follow.
            let at = random.number(0, bytes.len().saturating_sub(1).min(12_000));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.number(0, 255) as u8;
            }
        }
        if let Ok(network) = Network::load_on(Backend::Own, &bytes, "input", "logits") {
            let _ = network.logits(Random(1).array(&[2, 4, 8, 8]).view());
        }
    }
}

/// A U-Net of two levels with what the seed chooses: axes, channels, strides, norms, activations, pooling, residual sums.
fn random_network(seed: u64) -> (Vec<u8>, Random, Vec<usize>) {
    let mut random = Random(seed);
    let mut file = Onnx::default();
    let rank = random.number(2, 3);
    let (n_in, classes) = (random.number(1, 9), random.number(2, 5));
    let (a, b) = (random.number(3, 20), random.number(5, 40));
    let stride: Vec<usize> = (0..rank).map(|k| if k + 1 == rank { 2 } else { random.number(1, 2) }).collect();
    let kernel: Vec<usize> = (0..rank).map(|_| [1, 3, 3, 5][random.number(0, 3)]).collect();
    let full = file.block(&mut random, "input", [n_in, a], &kernel, &vec![1; rank]);
    let down = file.block(&mut random, &full, [a, b], &vec![3; rank], &stride);
    let pooled = file.node(
        if seed % 2 == 0 { "MaxPool" } else { "AveragePool" },
        &[&full],
        &[("kernel_shape", &stride), ("strides", &stride)],
        &[],
    );
    let skip = file.conv(&mut random, &pooled, [a, b], &vec![1; rank], &vec![1; rank]);
    let sum = file.node("Add", &[&skip, &down], &[], &[]);
    let sum = file.node("LeakyRelu", &[&sum], &[], &[("alpha", 0.2)]);
    let weights = file.weights(&mut random, &[&[b, a], &stride[..]].concat());
    let bias = file.weights(&mut random, &[a]);
    let up =
        file.node("ConvTranspose", &[&sum, &weights, &bias], &[("strides", &stride), ("kernel_shape", &stride)], &[]);
    let joined = file.node("Concat", &[&up, &full], &[("axis", &[1])], &[]);
    let last = file.block(&mut random, &joined, [2 * a, a], &kernel, &vec![1; rank]);
    let logits = file.conv(&mut random, &last, [a, classes], &vec![1; rank], &vec![1; rank]);
    let mut shape = vec![n_in];
    shape.extend((0..rank).map(|_| 2 * random.number(2, 11)));
    (file.finish(rank, n_in, classes, &logits), random, shape)
}

/// Writes ONNX: protobuf by hand, field numbers as in onnx.proto3 (IR version 8).
#[derive(Default)]
struct Onnx {
    nodes: Vec<u8>,
    weights: Vec<u8>,
    names: usize,
}

fn varint(mut value: u64, to: &mut Vec<u8>) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn number(field: u64, value: usize, to: &mut Vec<u8>) {
    varint(field << 3, to);
    varint(value as u64, to);
}

fn bytes(field: u64, value: &[u8], to: &mut Vec<u8>) {
    varint(field << 3 | 2, to);
    varint(value.len() as u64, to);
    to.extend(value);
}

impl Onnx {
    fn name(&mut self) -> String {
        self.names += 1;
        format!("t{}", self.names)
    }

    /// A node with integer and float attributes; one integer is INT, more are INTS (kernel sizes and the like always are).
    fn node(&mut self, kind: &str, inputs: &[&str], ints: &[(&str, &[usize])], floats: &[(&str, f32)]) -> String {
        let (name, mut node) = (self.name(), Vec::new());
        inputs.iter().for_each(|input| bytes(1, input.as_bytes(), &mut node));
        bytes(2, name.as_bytes(), &mut node);
        bytes(4, kind.as_bytes(), &mut node);
        for (key, values) in ints {
            let mut attribute = Vec::new();
            bytes(1, key.as_bytes(), &mut attribute);
            if matches!(*key, "axis" | "group") {
                number(3, values[0], &mut attribute);
                number(20, 2, &mut attribute);
            } else {
                values.iter().for_each(|v| number(8, *v, &mut attribute));
                number(20, 7, &mut attribute);
            }
            bytes(5, &attribute, &mut node);
        }
        for (key, value) in floats {
            let mut attribute = Vec::new();
            bytes(1, key.as_bytes(), &mut attribute);
            varint(2 << 3 | 5, &mut attribute);
            attribute.extend(value.to_le_bytes());
            number(20, 1, &mut attribute);
            bytes(5, &attribute, &mut node);
        }
        bytes(1, &node, &mut self.nodes);
        name
    }

    fn weights(&mut self, random: &mut Random, shape: &[usize]) -> String {
        let (name, mut tensor) = (self.name(), Vec::new());
        shape.iter().for_each(|n| number(1, *n, &mut tensor));
        number(2, 1, &mut tensor);
        bytes(8, name.as_bytes(), &mut tensor);
        let raw: Vec<u8> = random.array(shape).iter().flat_map(|v| v.to_le_bytes()).collect();
        bytes(9, &raw, &mut tensor);
        bytes(5, &tensor, &mut self.weights);
        name
    }

    fn conv(&mut self, random: &mut Random, x: &str, n: [usize; 2], kernel: &[usize], stride: &[usize]) -> String {
        let weights = self.weights(random, &[&[n[1], n[0]], kernel].concat());
        let bias = self.weights(random, &[n[1]]);
        let pads: Vec<usize> = kernel.iter().chain(kernel).map(|k| k / 2).collect();
        self.node("Conv", &[x, &weights, &bias], &[("pads", &pads), ("strides", stride), ("kernel_shape", kernel)], &[])
    }

    /// Convolution, a norm or none, an activation.
    fn block(&mut self, random: &mut Random, x: &str, n: [usize; 2], kernel: &[usize], stride: &[usize]) -> String {
        let x = self.conv(random, x, n, kernel, stride);
        let [scale, bias] = [(); 2].map(|()| self.weights(random, &n[1..]));
        let x = match random.number(0, 1) {
            0 => x,
            _ => self.node("InstanceNormalization", &[&x, &scale, &bias], &[], &[("epsilon", 1e-4)]),
        };
        self.node("Relu", &[&x], &[], &[])
    }

    fn finish(mut self, rank: usize, n_in: usize, n_out: usize, last: &str) -> Vec<u8> {
        let mut identity = Vec::new();
        bytes(1, last.as_bytes(), &mut identity);
        bytes(2, b"logits", &mut identity);
        bytes(4, b"Identity", &mut identity);
        bytes(1, &identity, &mut self.nodes);
        let mut graph = self.nodes;
        bytes(2, b"random", &mut graph);
        graph.extend(self.weights);
        for (field, name, channels) in [(11, "input", n_in), (12, "logits", n_out)] {
            let (mut shape, mut tensor, mut kind, mut info) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for axis in 0..rank + 2 {
                let mut size = Vec::new();
                match axis {
                    0 => number(1, 1, &mut size),
                    1 => number(1, channels, &mut size),
                    _ => bytes(2, format!("n{axis}").as_bytes(), &mut size),
                }
                bytes(1, &size, &mut shape);
            }
            number(1, 1, &mut tensor);
            bytes(2, &shape, &mut tensor);
            bytes(1, &tensor, &mut kind);
            bytes(1, name.as_bytes(), &mut info);
            bytes(2, &kind, &mut info);
            bytes(field, &info, &mut graph);
        }
        let (mut opset, mut model) = (Vec::new(), Vec::new());
        number(2, 17, &mut opset);
        number(1, 8, &mut model);
        bytes(8, &opset, &mut model);
        bytes(7, &graph, &mut model);
        model
    }
}
