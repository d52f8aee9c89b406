//! The engine against the definitions (`reference`), over random layers and sizes.

use super::graph::{Constant, Graph, Node, Operator, Value, ValueId, Window};
use super::reference::evaluate;
use super::{Net, NetError};
use crate::segment::kernels::InstructionSet;
use ndarray::{Array4, ArrayD, Ix4, IxDyn};

/// A seeded stream of numbers (the generator of golden inputs).
pub struct Random(pub u64);

impl Random {
    /// In [-1, 1).
    pub fn value(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as f64 / f64::from(1u32 << 30) - 1.0) as f32
    }
    /// In low..=high.
    pub fn number(&mut self, low: usize, high: usize) -> usize {
        low + ((f64::from(self.value()) + 1.0) / 2.0 * (high - low + 1) as f64) as usize
    }
    pub fn array(&mut self, shape: &[usize]) -> ArrayD<f32> {
        ArrayD::from_shape_simple_fn(IxDyn(shape), || self.value())
    }
}

/// Builds graphs layer by layer.
pub struct Layers {
    pub graph: Graph,
    pub random: Random,
}

impl Layers {
    pub fn new(seed: u64, channels: usize) -> Layers {
        let values = vec![Value { name: "input".into(), constant: None }];
        let graph = Graph { rank: 3, channels, input: 0, output: 0, values, nodes: Vec::new() };
        Layers { graph, random: Random(seed) }
    }

    fn constant(&mut self, array: ArrayD<f32>) -> ValueId {
        let name = format!("constant {}", self.graph.values.len());
        self.graph.values.push(Value { name, constant: Some(Constant::F32(array)) });
        self.graph.values.len() - 1
    }

    /// A node whose output becomes the graph's.
    pub fn node(&mut self, operator: Operator, inputs: Vec<ValueId>) -> ValueId {
        self.graph.values.push(Value { name: format!("value {}", self.graph.values.len()), constant: None });
        self.graph.output = self.graph.values.len() - 1;
        self.graph.nodes.push(Node { operator, inputs, output: self.graph.output });
        self.graph.output
    }

    pub fn conv(&mut self, x: ValueId, channels: [usize; 2], window: Window) -> ValueId {
        let shape = [&[channels[1], channels[0]], &window.kernel[..]].concat();
        let (weights, bias) = (self.random.array(&shape), self.random.array(&channels[1..]));
        let inputs = vec![x, self.constant(weights), self.constant(bias)];
        self.node(Operator::Conv(window), inputs)
    }

    pub fn up(&mut self, x: ValueId, channels: [usize; 2], window: Window, padding: [usize; 3]) -> ValueId {
        let shape = [&channels[..], &window.kernel[..]].concat();
        let (weights, bias) = (self.random.array(&shape), self.random.array(&channels[1..]));
        let inputs = vec![x, self.constant(weights), self.constant(bias)];
        self.node(Operator::ConvTranspose(window, padding), inputs)
    }

    pub fn instance_norm(&mut self, x: ValueId, channels: usize) -> ValueId {
        let (scale, bias) = (self.random.array(&[channels]), self.random.array(&[channels]));
        let inputs = vec![x, self.constant(scale), self.constant(bias)];
        self.node(Operator::InstanceNormalization { epsilon: 1e-5 }, inputs)
    }

    pub fn batch_norm(&mut self, x: ValueId, channels: usize) -> ValueId {
        let mut inputs = vec![x];
        for k in 0..4 {
            let mut numbers = self.random.array(&[channels]);
            if k == 3 {
                numbers.mapv_inplace(|v| v.abs() + 0.1);
            }
            inputs.push(self.constant(numbers));
        }
        self.node(Operator::BatchNormalization { epsilon: 1e-3 }, inputs)
    }

    pub fn leaky(&mut self, x: ValueId, slope: f32) -> ValueId {
        self.node(Operator::LeakyRelu { slope }, vec![x])
    }

    pub fn input(&mut self, shape: [usize; 3]) -> ArrayD<f32> {
        self.random.array(&[&[self.graph.channels], &shape[..]].concat())
    }
}

/// A window with as much padding as keeps the size at stride 1.
pub fn same(kernel: [usize; 3], stride: [usize; 3]) -> Window {
    let pad = kernel.map(|k| k / 2);
    Window { kernel, stride, dilation: [1; 3], pad_low: pad, pad_high: pad }
}

/// kernel = stride.
pub fn patches(size: [usize; 3]) -> Window {
    Window { kernel: size, stride: size, dilation: [1; 3], pad_low: [0; 3], pad_high: [0; 3] }
}

fn wide(array: &ArrayD<f32>) -> Array4<f64> {
    array.mapv(f64::from).into_dimensionality::<Ix4>().expect("four axes")
}

/// The largest error of the engine on each instruction set, relative to the sum of absolute products behind a value.
fn worst(layers: &Layers, input: &ArrayD<f32>, set: InstructionSet) -> f64 {
    let mut absolute = layers.graph.clone();
    for value in &mut absolute.values {
        if let Some(Constant::F32(array)) = &mut value.constant {
            array.mapv_inplace(f32::abs);
        }
    }
    let expected = &evaluate(&layers.graph, &wide(input))[&layers.graph.output];
    let sums = &evaluate(&absolute, &wide(&input.mapv(f32::abs)))[&layers.graph.output];
    let net = Net::new(&layers.graph, set).expect("a graph that is known");
    let found = net.logits(input.view()).expect("an input that fits");
    assert_eq!(found.shape(), expected.shape());
    let errors = found.iter().zip(expected).zip(sums).map(|((a, b), sum)| (f64::from(*a) - b).abs() / sum.max(1e-30));
    errors.fold(0.0, |w, e| if e.is_nan() { f64::INFINITY } else { w.max(e) })
}

#[test]
fn random_convolutions_agree_with_the_definition_on_every_instruction_set() {
    for seed in 0..150 {
        let mut random = Random(seed);
        let channels = [random.number(1, 35), random.number(1, 70)];
        let mut layers = Layers::new(1000 + seed, channels[0]);
        let axis = |random: &mut Random| {
            let (kernel, dilation) = (random.number(1, 4), 1 + random.number(0, 5) / 5);
            let kernel = if random.number(0, 9) == 0 { 7 } else { kernel };
            let pads = [random.number(0, kernel - 1), random.number(0, kernel - 1)];
            let room = (dilation * (kernel - 1) + 1usize).saturating_sub(pads[0] + pads[1]).max(1);
            (kernel, random.number(1, 3), dilation, pads, room + random.number(0, 8))
        };
        let [z, y, x] = [0; 3].map(|_| axis(&mut random));
        // Rows up to three tiles long.
        let long = x.4 + random.number(0, 20);
        let window = Window {
            kernel: [z.0, y.0, x.0],
            stride: [z.1, y.1, x.1],
            dilation: [z.2, y.2, x.2],
            pad_low: [z.3[0], y.3[0], x.3[0]],
            pad_high: [z.3[1], y.3[1], x.3[1]],
        };
        layers.conv(0, channels, window.clone());
        let input = layers.input([z.4, y.4, long]);
        for set in InstructionSet::available() {
            // f32 sums of up to 35 * 343 products: the rounding of each is at most 6e-8 of the partial sum.
            let error = worst(&layers, &input, set);
            assert!(error < 1e-6, "seed {seed}, {set:?}: {error:e}, {channels:?}, {window:?}, {:?}", input.shape());
        }
    }
}

#[test]
fn random_transposed_convolutions_agree_with_the_definition_on_every_instruction_set() {
    for seed in 0..100 {
        let mut random = Random(seed);
        let channels = [random.number(1, 35), random.number(1, 40)];
        let mut layers = Layers::new(2000 + seed, channels[0]);
        let mut window = patches([random.number(1, 3), random.number(1, 3), random.number(1, 3)]);
        let mut extra = [0; 3];
        if seed % 3 == 0 {
            // Not only kernel = stride.
            for (a, extra) in extra.iter_mut().enumerate() {
                window.kernel[a] = random.number(1, 4);
                window.stride[a] = random.number(1, 3);
                window.pad_low[a] = random.number(0, (window.kernel[a] - 1) / 2);
                window.pad_high[a] = random.number(0, (window.kernel[a] - 1) / 2);
                *extra = random.number(0, window.stride[a] - 1);
            }
        }
        layers.up(0, channels, window.clone(), extra);
        let input = layers.input([random.number(1, 4), random.number(1, 5), random.number(1, 30)]);
        for set in InstructionSet::available() {
            let error = worst(&layers, &input, set);
            assert!(error < 1e-6, "seed {seed}, {set:?}: {error:e}, {channels:?}, {window:?}, {extra:?}");
        }
    }
}

/// A small network with everything: thin and odd channels, both norms, joins, sums, pooling, anisotropic strides.
fn everything(seed: u64) -> Layers {
    let mut l = Layers::new(seed, 1 + (seed % 5) as usize);
    let c = l.graph.channels;
    let a = l.conv(0, [c, 11], same([1, 3, 3], [1, 1, 1]));
    let a = l.instance_norm(a, 11);
    let a = l.leaky(a, 0.01);
    let b = l.conv(a, [11, 24], same([3, 3, 3], [1, 2, 2]));
    let b = l.instance_norm(b, 24);
    let b = l.leaky(b, 0.01);
    // A residual block whose skip is pooled and projected.
    let skip = l.node(Operator::AveragePool { window: patches([1, 2, 2]), count_padding: false }, vec![b]);
    let skip = l.conv(skip, [24, 20], same([1, 1, 1], [1, 1, 1]));
    let skip = l.instance_norm(skip, 20);
    let main = l.conv(b, [24, 20], same([3, 3, 3], [1, 2, 2]));
    let main = l.batch_norm(main, 20);
    let main = l.leaky(main, 0.0);
    let main = l.conv(main, [20, 20], same([3, 3, 3], [1, 1, 1]));
    let main = l.instance_norm(main, 20);
    let d = l.node(Operator::Add, vec![main, skip]);
    let d = l.leaky(d, 0.01);
    let m = l.node(Operator::MaxPool(same([3, 3, 3], [1, 1, 1])), vec![d]);
    let n = l.batch_norm(m, 20);
    let d = l.node(Operator::Add, vec![n, d]);
    let up = l.up(d, [20, 13], patches([1, 2, 2]), [0; 3]);
    // 13 + 24 channels: the second does not start at a block; read by a convolution and by pooling.
    let join = l.node(Operator::Concat, vec![up, b]);
    let e = l.conv(join, [37, 16], same([3, 3, 3], [1, 1, 1]));
    let e = l.leaky(e, 0.0);
    let f = l.node(Operator::AveragePool { window: same([3, 3, 3], [1, 1, 1]), count_padding: true }, vec![join]);
    let f = l.conv(f, [37, 16], same([1, 1, 1], [1, 1, 1]));
    let e = l.node(Operator::Add, vec![e, f]);
    let e = l.instance_norm(e, 16);
    let up = l.up(e, [16, 11], patches([1, 2, 2]), [0; 3]);
    let join = l.node(Operator::Concat, vec![a, up, a]);
    l.conv(join, [33, 5], same([1, 1, 1], [1, 1, 1]));
    l
}

#[test]
fn a_network_with_everything_agrees_with_the_definition() {
    for (seed, shape) in [(1, [3, 8, 12]), (2, [1, 4, 4]), (3, [2, 12, 20]), (4, [5, 4, 28]), (9, [4, 16, 8])] {
        let mut layers = everything(seed);
        let input = layers.input(shape);
        let expected = &evaluate(&layers.graph, &wide(&input))[&layers.graph.output];
        let size = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        for set in InstructionSet::available() {
            let net = Net::new(&layers.graph, set).expect("a graph that is known");
            // Twice: the second run uses the memory of the first.
            for _ in 0..2 {
                let found = net.logits(input.view()).expect("an input that fits");
                let error = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
                assert!(error < 2e-5 * size, "seed {seed}, {set:?}: {error:e} of {size}");
            }
        }
    }
}

#[test]
fn a_first_layer_may_step() {
    for (channels, stride) in [(1, 2), (1, 3), (3, 2), (16, 3)] {
        let mut layers = Layers::new(5, channels);
        let down = layers.conv(0, [channels, 8], same([3; 3], [stride; 3]));
        layers.up(down, [8, 3], patches([stride; 3]), [0; 3]);
        let input = layers.input([2 * stride, 3 * stride, 5 * stride]);
        let expected = &evaluate(&layers.graph, &wide(&input))[&layers.graph.output];
        let size = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        for set in InstructionSet::available() {
            let net = Net::new(&layers.graph, set).expect("a graph that is known");
            let found = net.logits(input.view()).expect("an input that fits");
            let error = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            assert!(error < 2e-5 * size, "{channels} channels, stride {stride}, {set:?}: {error:e} of {size}");
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let mut layers = everything(6);
    let input = layers.input([6, 48, 52]);
    let net = Net::new(&layers.graph, InstructionSet::best()).expect("a graph that is known");
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| net.logits(input.view()).expect("an input that fits"))
    };
    let one = with(1);
    assert!([2, 3, 7].into_iter().all(|n| with(n) == one));
}

#[test]
fn sizes_that_cannot_be_joined_are_refused_in_words() {
    let layers = everything(6);
    let net = Net::new(&layers.graph, InstructionSet::best()).expect("a graph that is known");
    let refusal = |shape: &[usize]| match net.logits(ArrayD::zeros(IxDyn(shape)).view()) {
        Err(NetError::Shape(message)) => message,
        other => panic!("{other:?}"),
    };
    let message = refusal(&[2, 3, 8, 13]);
    assert!(message.contains("3 x 8 x 13 voxels") && message.contains("multiple"), "{message}");
    assert!(refusal(&[1, 3, 8, 12]).contains("(2, z, y, x)"));
    assert!(refusal(&[2, 8, 12]).contains("(2, z, y, x)"));
    assert!(refusal(&[2, 0, 8, 12]).contains("0 x 8 x 12"));
    assert_eq!(net.memory_bytes(&[2, 3, 8, 13]).map_err(|e| e.to_string()), Err(message));
}

#[test]
fn the_memory_is_what_tensors_logits_and_weights_take() {
    // 1 -> 8 -> 8 -> 3 channels on 4 x 6 x 10 voxels. First layer, read by 3 x 3 x 3, so with a zero column on each
    // side: 24 rows of 12 x 8 = 2304 values. Second, read by 1 x 1 x 1: 24 x 10 x 8 = 1920, where the input (one plane,
    // 288) was. Third: where the first was. Logits: 3 x 240 = 720. Weights: 27 x 1 x 8, 27 x 8 x 8, 8 x 8 (3 channels
    // are a block), and 3 x 8 biases.
    let mut l = Layers::new(1, 1);
    let a = l.conv(0, [1, 8], same([3, 3, 3], [1, 1, 1]));
    let b = l.conv(a, [8, 8], same([3, 3, 3], [1, 1, 1]));
    l.conv(b, [8, 3], same([1, 1, 1], [1, 1, 1]));
    let net = Net::new(&l.graph, InstructionSet::best()).expect("a graph that is known");
    let values = 2304 + 1920 + 720 + 27 * 8 + 27 * 64 + 64 + 24;
    assert_eq!(net.memory_bytes(&[1, 4, 6, 10]).expect("it fits"), 4 * values);
    assert_eq!(net.multiplications(&[1, 4, 6, 10]).expect("it fits"), 240 * (27 * 8 + 27 * 64 + 24));
}
