//! Every kernel against the definition of a convolution, voxel by voxel, at odd sizes.

use super::*;

/// Numbers that look like noise, the same in every run.
struct Noise(u64);

impl Noise {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

struct Case {
    shape: Shape,
    weights: Vec<i8>,
    rescale: Rescale,
    input: Buffer<u8>,
    first_in: usize,
    first_out: usize,
    out_channels: usize,
    input_bytes: [u8; 2],
}

fn case(noise: &mut Noise) -> Case {
    let flat = noise.below(3) == 0;
    let transposed = noise.below(4) == 0;
    let axis = |noise: &mut Noise, of: &[usize], a: usize| if flat && a == 0 { 1 } else { noise.pick(of) };
    let mut kernel = std::array::from_fn(|a| axis(noise, &[1, 3, 3, 2], a));
    let stride: [usize; 3] = std::array::from_fn(|a| axis(noise, &[1, 2], a));
    let dilation = std::array::from_fn(|a| if transposed { 1 } else { axis(noise, &[1, 1, 1, 2], a) });
    if transposed {
        kernel = stride;
    }
    let pads =
        std::array::from_fn(|a| if transposed || (flat && a == 0) { [0, 0] } else { [noise.below(2), noise.below(2)] });
    let shape = Shape {
        n_in: noise.pick(&[1, 2, 3, 4, 5, 8, 16, 19]),
        n_out: noise.pick(&[1, 3, 8, 15, 16, 17, 24, 33, 48, 50, 80]),
        kernel,
        stride,
        pads,
        dilation,
        transposed,
    };
    let size = std::array::from_fn(|a| if flat && a == 0 { 1 } else { 5 + noise.below(9) });
    let (first_in, more_in) = noise.pick(&[(0, 0), (0, 0), (4, 3), (1, 0)]);
    let (first_out, more_out) = noise.pick(&[(0, 0), (0, 0), (5, 2), (0, 1)]);
    let largest = noise.pick(&[127u8, 255]);
    let zero = noise.pick(&[0, 31, largest]);
    let rim = shape.pads.map(|p| p.map(|n| n + noise.below(2)));
    let mut input = Buffer::within(vec![77; 5], size, rim, first_in + shape.n_in + more_in);
    input.values.iter_mut().for_each(|v| *v = noise.below(usize::from(largest) + 1) as u8);
    input.fill_rim(first_in, shape.n_in, zero);
    let count = shape.n_in * shape.n_out * shape.kernel.iter().product::<usize>();
    let extreme = noise.below(4) == 0;
    let weights = (0..count).map(|_| if extreme { -128 } else { noise.below(256) as u8 as i8 }).collect();
    let rescale = Rescale {
        bias: (0..shape.n_out).map(|_| noise.below(20_001) as i32 - 10_000).collect(),
        multiplier: (0..shape.n_out).map(|_| 1e-4 + noise.below(1000) as f32 * 3e-6).collect(),
        slope: noise.pick(&[1.0, 0.0, 0.01, 0.3]),
        bytes: noise.pick(&[[0, 127, 0], [0, 127, 40], [0, 255, 128], [31, 127, 31]]),
    };
    let out_channels = first_out + shape.n_out + more_out;
    Case { shape, weights, rescale, input, first_in, first_out, out_channels, input_bytes: [zero, largest] }
}

/// The sum of a window in 64 bits, straight from the definition; outside the image there is 0, the zero point.
fn sum(case: &Case, at: [usize; 3], o: usize) -> i64 {
    let (s, size) = (&case.shape, case.input.size);
    let zero = i64::from(case.input_bytes[0]);
    let mut sum = i64::from(case.rescale.bias[o]);
    for kz in 0..s.kernel[0] {
        for ky in 0..s.kernel[1] {
            for kx in 0..s.kernel[2] {
                let k = [kz, ky, kx];
                let from: Option<Vec<usize>> = (0..3)
                    .map(|a| {
                        if s.transposed {
                            (at[a] % s.stride[a] == k[a]).then_some(at[a] / s.stride[a])
                        } else {
                            (at[a] * s.stride[a] + k[a] * s.dilation[a])
                                .checked_sub(s.pads[a][0])
                                .filter(|p| *p < size[a])
                        }
                    })
                    .collect();
                let Some(from) = from else { continue };
                for i in 0..s.n_in {
                    let index = case.input.index([from[0], from[1], from[2]], [0; 3]) + case.first_in + i;
                    let u = i64::from(case.input.values[index]) - zero;
                    sum += u * i64::from(case.weights[s.weight(o, i, k)]);
                }
            }
        }
    }
    sum
}

#[test]
fn every_kernel_gives_the_bytes_of_the_definition() {
    let mut noise = Noise(20_261_125);
    println!("{:?}", Isa::available());
    for number in 0..240 {
        let case = case(&mut noise);
        let Some(size) = case.shape.output(case.input.size) else { continue };
        let tight = case.input.channels == case.shape.n_in;
        let layer = Layer::new(case.shape.clone(), &case.weights, case.rescale.clone(), tight, case.input_bytes);
        let rim = [[0, 1], [1, 0], [2, 1]];
        let mut expected_bytes = Buffer::within(Vec::new(), size, rim, case.out_channels);
        expected_bytes.values.fill(99);
        let mut expected_floats = Buffer::within(Vec::new(), size, rim, case.out_channels);
        expected_floats.values.fill(-99.0f32);
        let [low, high, zero] = case.rescale.bytes.map(f32::from);
        for voxel in 0..size.iter().product() {
            let at = [voxel / (size[1] * size[2]), voxel / size[2] % size[1], voxel % size[2]];
            for o in 0..case.shape.n_out {
                let v = i32::try_from(sum(&case, at, o)).unwrap() as f32 * case.rescale.multiplier[o];
                let v = v.max(v * case.rescale.slope);
                let index = expected_bytes.index(at, [0; 3]) + case.first_out + o;
                expected_floats.values[index] = v;
                expected_bytes.values[index] = (v.clamp(low - zero, high - zero).round_ties_even() + zero) as u8;
            }
        }
        for isa in Isa::available() {
            let mut bytes = Buffer::within(vec![99; expected_bytes.values.len()], size, rim, case.out_channels);
            layer.to_bytes(isa, (&case.input, case.first_in), (&mut bytes, case.first_out));
            assert!(bytes.values == expected_bytes.values, "case {number}, {}: {:?}", isa.name(), case.shape);
            let mut floats = Buffer::within(vec![-99.0; expected_bytes.values.len()], size, rim, case.out_channels);
            layer.to_floats(isa, (&case.input, case.first_in), (&mut floats, case.first_out));
            assert!(floats.values == expected_floats.values, "case {number}, {}: {:?}", isa.name(), case.shape);
        }
    }
}
