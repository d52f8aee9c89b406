//! Whole networks against onnxruntime: tests/data/segment_int8, made by models/training/quantized_cases.py.

use super::*;
use crate::Explain;
use crate::segment::engine::golden_input;
use crate::segment::net::{NetError, onnx};
use crate::segment::{Backend, Network};
use ndarray::{ArrayD, IxDyn};
use serde_json::Value as Json;

macro_rules! model {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../../tests/data/segment_int8/", $name, ".onnx")) as &[u8])
    };
}

/// Name and file.
type Model = (&'static str, &'static [u8]);

/// A network, and how many of its convolutions run in integers and in f32.
const CASES: [(Model, [usize; 2]); 8] = [
    (model!("unet_3d_channel"), [6, 0]),
    (model!("unet_3d_tensor"), [6, 0]),
    (model!("unet_2d_signed"), [6, 0]),
    (model!("nnunet_2d"), [6, 0]),
    (model!("nnunet_3d"), [6, 0]),
    (model!("residual_2d"), [6, 0]),
    (model!("first_layer_real"), [5, 1]),
    (model!("softmax_inside"), [6, 0]),
];

/// Standard base64.
fn base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u32> = text.trim_end_matches('=').bytes().map(|c| u32::from(digit(c))).collect();
    let bytes = digits.chunks(4).flat_map(|four| {
        let bits = four.iter().enumerate().fold(0, |bits, (k, d)| bits | d << (18 - 6 * k));
        bits.to_be_bytes()[1..four.len()].to_vec()
    });
    bytes.collect()
}

fn numbers(of: &Json) -> Vec<usize> {
    of.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
}

struct Case {
    input: ArrayD<f32>,
    logits: ArrayD<f32>,
    step: f32,
    output: String,
}

fn case(name: &str) -> Case {
    let all: Json = serde_json::from_str(include_str!("../../../tests/data/segment_int8/cases.json")).unwrap();
    let row = all["cases"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone();
    let shape: Vec<usize> = [vec![row["channels"].as_u64().unwrap() as usize], numbers(&row["size"])].concat();
    let input = golden_input(row["seed"].as_u64().unwrap(), shape.iter().product());
    let logits = base64(row["logits"].as_str().unwrap());
    let logits = logits.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    Case {
        input: ArrayD::from_shape_vec(IxDyn(&shape), input.iter().map(|v| v * 2.0).collect()).unwrap(),
        logits: ArrayD::from_shape_vec(IxDyn(&numbers(&row["shape"])), logits).unwrap(),
        step: row["step"].as_f64().unwrap() as f32,
        output: row["before_softmax"].as_str().unwrap_or("logits").into(),
    }
}

#[test]
fn networks_of_onnxruntime_give_its_logits_within_one_step() {
    for ((name, bytes), convolutions) in CASES {
        let case = case(name);
        let graph = onnx::read(bytes, "input", &case.output).unwrap();
        assert!(is_quantized(&graph));
        let mut first: Option<ArrayD<f32>> = None;
        for isa in Isa::available() {
            let net = IntegerNet::new(&graph, isa).unwrap();
            assert_eq!(net.convolutions(), convolutions, "{name}");
            let found = net.logits(case.input.view()).unwrap();
            assert_eq!(found.shape(), case.logits.shape());
            let steps = |(a, b): (&f32, &f32)| (a - b).abs() / case.step;
            let worst = found.iter().zip(&case.logits).map(steps).fold(0.0, f32::max);
            let equal = found.iter().zip(&case.logits).filter(|pair| steps((pair.0, pair.1)) < 0.5).count();
            println!("{name} on {}: {worst:.2} steps at most, {equal} of {} equal", isa.name(), found.len());
            assert!(worst < 1.01, "{name} on {}: {worst} steps", isa.name());
            assert!(equal * 100 >= found.len() * 95, "{name}: only {equal} of {} equal", found.len());
            assert!(*first.get_or_insert_with(|| found.clone()) == found, "{name}: {} differs", isa.name());
        }
    }
}

#[test]
fn a_second_run_at_another_size_is_not_disturbed_by_the_first() {
    let ((name, bytes), _) = CASES[0];
    let case = case(name);
    let net = IntegerNet::new(&onnx::read(bytes, "input", "logits").unwrap(), Isa::best()).unwrap();
    let first = net.logits(case.input.view()).unwrap();
    let larger = ArrayD::from_elem(IxDyn(&[1, 10, 8, 22]), 0.7f32);
    assert_eq!(net.logits(larger.view()).unwrap().shape(), [3, 10, 8, 22]);
    assert_eq!(net.logits(case.input.view()).unwrap(), first);
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    for n in [1, 2, 5] {
        assert_eq!(pool(n).install(|| net.logits(case.input.view()).unwrap()), first, "{n} threads");
    }
    let refused = |shape: &[usize]| net.logits(ArrayD::zeros(IxDyn(shape)).view());
    assert!(matches!(refused(&[2, 10, 8, 22]), Err(NetError::Shape(_))), "another number of channels");
    assert!(matches!(refused(&[1, 8, 22]), Err(NetError::Shape(_))), "another number of axes");
    assert!(matches!(refused(&[1, 7, 8, 22]), Err(NetError::Shape(_))), "7 slices cannot be halved and doubled");
}

#[test]
fn a_loaded_network_runs_in_integers_or_is_refused_by_name() {
    let ((name, bytes), _) = CASES[0];
    let network = Network::load(bytes, "input", "logits").unwrap();
    assert_eq!((network.backend(), network.instruction_set()), (Backend::Own, Isa::best().name()));
    let case = case(name);
    assert_eq!(network.logits(case.input.view()).unwrap(), case.logits);
    // 1 -> 8, 8 -> 12 at half the resolution, 12 -> 20, up to 8, 16 -> 10, 10 -> 3 (840 voxels, 105 at half).
    let by_hand = 840 * (27 * 8 + 20 * 8 + 27 * 16 * 10 + 30) + 105 * (27 * 8 * 12 + 27 * 12 * 20);
    assert_eq!(network.multiplications(case.input.shape()).unwrap(), Some(by_hand));
    // The join of 16 channels, its product of 10 and the logits are at least alive.
    let memory = network.memory_bytes(case.input.shape()).unwrap().unwrap();
    assert!((840 * (16 + 10)..400_000).contains(&memory), "{memory}");

    let ((_, bytes), _) = CASES[7];
    let error = Network::load(bytes, "input", "logits").err().unwrap();
    assert_eq!(error.code(), "segment.quantized-unknown");
    assert!(error.to_string().contains("Softmax"), "{error}");
    assert!(Network::load(bytes, "input", &super::tests::case("softmax_inside").output).is_ok());
}
