//! One pass, or passes in overlapping blocks, of a network over a whole grid, guarded by golden vectors.

use super::network::{Backend, Network};
use super::{Estimate, Grid, Package, SegmentError, package::Golden, refine::Refine};
use ndarray::{Array3, Array4, Axis, s};
use rayon::prelude::*;

/// More voxels than this in one pass would need over 1 GiB of activations; larger grids are cut into overlapping blocks.
const PASS_VOXELS_MAX: usize = 2_500_000;
/// More voxels than this in one grid (1 m x 1 m x 1 m at 4 mm) are no CT of an abdomen, and their probabilities alone need 320 MB.
pub const GRID_VOXELS_MAX: usize = 16_000_000;
/// What a block sees beyond the part that is kept of it, in voxels of the network's grid. A U-Net of three levels with two 3x3x3 convolutions
/// each sees at most 36 voxels to one side, so blocks give what one pass gives.
const OVERLAP: usize = 40;

/// A network that passed its golden vectors.
pub struct Engine {
    network: Network,
}

impl Engine {
    /// Loads the network and compares its answer to the golden input.
    pub fn load(package: &Package, wanted: Option<Backend>) -> Result<Engine, SegmentError> {
        let network = Network::load_wanted(wanted, &package.onnx, &package.input, &package.output)?;
        let engine = Engine { network };
        if engine.network.is_integer() != package.is_int8 {
            let [said, found] = if package.is_int8 { ["int8", "real"] } else { ["f32", "quantized"] };
            let message = format!("its manifest says {said} arithmetic, its network has {found} activations");
            return Err(SegmentError::PackageInvalid { message });
        }
        engine.check(&package.golden, 1)?;
        Ok(engine)
    }

    /// Loads the second network of a package likewise.
    pub fn load_refine(refine: &Refine, wanted: Option<Backend>) -> Result<Engine, SegmentError> {
        let network = Network::load_wanted(wanted, &refine.onnx, &refine.input, &refine.output)?;
        let engine = Engine { network };
        engine.check(&refine.golden, refine.channels())?;
        Ok(engine)
    }

    /// The network that runs.
    pub fn network(&self) -> &Network {
        &self.network
    }

    fn check(&self, golden: &Golden, channels: usize) -> Result<(), SegmentError> {
        let [z, y, x] = golden.shape_zyx;
        let input = Array4::from_shape_vec((channels, z, y, x), golden_input(golden.seed, channels * z * y * x))
            .map_err(|_| SegmentError::Shape)?;
        golden.compare(self.pass(input)?.iter().copied())
    }

    /// Logits, shape (classes, z, y, x), of an input of shape (channels, z, y, x); each axis but the first a multiple that the
    /// network can halve.
    pub fn logits(&self, input: Array4<f32>, multiple: usize) -> Result<Array4<f32>, SegmentError> {
        self.logits_in_blocks(input, multiple, PASS_VOXELS_MAX)
    }

    fn logits_in_blocks(
        &self,
        input: Array4<f32>,
        multiple: usize,
        voxels_max: usize,
    ) -> Result<Array4<f32>, SegmentError> {
        let (_, n_z, n_y, n_x) = input.dim();
        let voxels = n_z * n_y * n_x;
        if voxels > GRID_VOXELS_MAX {
            return Err(SegmentError::TooLarge { voxels });
        }
        if voxels <= voxels_max {
            return self.pass(input);
        }
        let size = block_size([n_z, n_y, n_x], multiple, voxels_max);
        let [along_z, along_y, along_x] =
            [(n_z, size[0]), (n_y, size[1]), (n_x, size[2])].map(|(n, block)| blocks(n, block));
        let mut whole: Option<Array4<f32>> = None;
        for z in &along_z {
            for y in &along_y {
                for x in &along_x {
                    let part = self.pass(input.slice(s![.., z.seen(), y.seen(), x.seen()]).to_owned())?;
                    let whole = whole.get_or_insert_with(|| Array4::zeros((part.dim().0, n_z, n_y, n_x)));
                    whole.slice_mut(s![.., z.kept(), y.kept(), x.kept()]).assign(&part.slice(s![
                        ..,
                        z.kept_of_block(),
                        y.kept_of_block(),
                        x.kept_of_block()
                    ]));
                }
            }
        }
        whole.ok_or(SegmentError::Shape)
    }

    fn pass(&self, input: Array4<f32>) -> Result<Array4<f32>, SegmentError> {
        let logits = self.network.logits(input.into_dyn().view())?;
        logits.into_dimensionality().map_err(|_| SegmentError::Shape)
    }
}

/// One block along an axis: what the network sees, and the part of it that is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Block {
    low: usize,
    high: usize,
    from: usize,
    to: usize,
}

impl Block {
    fn seen(&self) -> std::ops::Range<usize> {
        self.low..self.high
    }
    fn kept(&self) -> std::ops::Range<usize> {
        self.from..self.to
    }
    fn kept_of_block(&self) -> std::ops::Range<usize> {
        self.from - self.low..self.to - self.low
    }
}

/// Halves the longest side until a block has at most `voxels_max` voxels; sides stay multiples and keep room for both overlaps.
fn block_size(shape: [usize; 3], multiple: usize, voxels_max: usize) -> [usize; 3] {
    let least = (2 * OVERLAP + 2 * multiple).next_multiple_of(multiple);
    let mut size = shape;
    while size.iter().product::<usize>() > voxels_max {
        let Some(longest) = (0..3).filter(|a| size[*a] > least).max_by_key(|a| size[*a]) else { break };
        size[longest] =
            ((size[longest] / 2 + OVERLAP).next_multiple_of(multiple)).clamp(least, size[longest] - multiple);
    }
    size
}

/// Blocks of one size that cover `n` voxels; neighbors overlap by twice [`OVERLAP`], ends are kept up to the end.
/// `block` and `n` are multiples of the same number, more than twice the overlap apart from `block == n`.
fn blocks(n: usize, block: usize) -> Vec<Block> {
    let mut found = Vec::new();
    let mut from = 0;
    while from < n {
        // The last block lies at the end, whole: all blocks have one shape, so the network is prepared once.
        let low = from.saturating_sub(OVERLAP).min(n - block);
        let high = low + block;
        let to = if high == n { n } else { high - OVERLAP };
        found.push(Block { low, high, from, to });
        from = to;
    }
    found
}

/// What one pass over a grid, or its blocks, will need.
pub fn estimate(grid: &Grid, n_image: usize, heads: usize, probabilities: bool) -> Result<Estimate, SegmentError> {
    let n = grid.n_voxels();
    if n > GRID_VOXELS_MAX {
        return Err(SegmentError::TooLarge { voxels: n });
    }
    let [x, y, z] = grid.padded;
    let spacing = grid.geometry.spacing_mm;
    let kept = if probabilities { 4 * heads * n_image } else { 0 };
    // 430 bytes a voxel of activations: 2.5 million voxels are 1 GiB.
    let bytes = 5 * n_image + n * (4 + 8 * heads) + 430 * n.min(PASS_VOXELS_MAX) + kept + (64 << 20);
    Ok(Estimate {
        grid: [z, y, x],
        spacing_mm: [spacing[2], spacing[1], spacing[0]],
        patches: 1,
        passes_per_patch: 1,
        passes_at_a_time: 1,
        bytes: bytes as u64,
    })
}

/// Softmax over the classes of logits (classes, z, y, x), in place.
pub fn softmax(logits: &mut Array4<f32>) {
    logits.axis_iter_mut(Axis(1)).into_par_iter().for_each(|mut slice| {
        for mut voxel in slice.lanes_mut(Axis(0)) {
            let top = voxel.fold(f32::NEG_INFINITY, |m, v| m.max(*v));
            voxel.mapv_inplace(|v| (v - top).exp());
            let sum = voxel.sum();
            voxel.mapv_inplace(|v| v / sum);
        }
    });
}

/// The class with the largest value at each voxel of (classes, z, y, x), the lower of equal ones.
pub fn arg_max(values: &Array4<f32>) -> Array3<u8> {
    let (n_classes, n_z, n_y, n_x) = values.dim();
    Array3::from_shape_fn((n_z, n_y, n_x), |(z, y, x)| {
        let at = |c: &usize| values[[*c, z, y, x]];
        (0..n_classes).fold(0, |best, c| if at(&c) > at(&best) { c } else { best }) as u8
    })
}

/// The seeded input of golden vectors: a 64-bit linear congruential generator (Knuth's MMIX), upper 31 bits, in [-1, 1).
pub fn golden_input(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as f64 / f64::from(1u32 << 30) - 1.0) as f32
    };
    (0..n).map(next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_an_axis_once_and_see_beyond_what_they_keep() {
        assert_eq!(blocks(96, 96), [Block { low: 0, high: 96, from: 0, to: 96 }]);
        // 200 voxels in blocks of 128: 128 - 40 = 88 are kept of the first; the last lies at the end.
        let [first, second, third] = [(0, 128, 0, 88), (48, 176, 88, 136), (72, 200, 136, 200)]
            .map(|(low, high, from, to)| Block { low, high, from, to });
        assert_eq!(blocks(200, 128), [first, second, third]);
        for (n, block) in [(96, 96), (104, 96), (200, 128), (1000, 96)] {
            let found = blocks(n, block);
            assert_eq!(found.iter().map(|b| b.to - b.from).sum::<usize>(), n);
            assert!(found.iter().all(|b| b.high - b.low == block
                && (b.low == 0 || b.from - b.low >= OVERLAP)
                && (b.high == n || b.high - b.to >= OVERLAP)));
        }
    }

    #[test]
    fn blocks_of_the_shipped_network_give_what_one_pass_gives() {
        let engine = Engine::load(&Package::from_files(super::super::tests::shipped()).expect("it ships"), None)
            .expect("it ships");
        let input = || Array4::from_shape_vec((1, 200, 16, 16), golden_input(11, 200 * 256)).expect("200 x 256 values");
        let whole = engine.logits(input(), 8).expect("one pass");
        let blocks = engine.logits_in_blocks(input(), 8, 30_000).expect("blocks of 112 slices");
        let worst = whole.iter().zip(&blocks).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-3, "{worst}");
    }

    #[test]
    fn blocks_fit_into_memory_for_every_scan() {
        // 780 mm of field and 1 m of body at 4 mm.
        let size = block_size([256, 200, 200], 8, PASS_VOXELS_MAX);
        assert!(size.iter().product::<usize>() <= PASS_VOXELS_MAX && size.iter().all(|n| n % 8 == 0), "{size:?}");
        assert_eq!(block_size([80, 96, 96], 8, PASS_VOXELS_MAX), [80, 96, 96]);
    }

    #[test]
    fn softmax_of_equal_and_of_large_logits() {
        let mut logits = Array4::from_shape_vec((2, 1, 1, 2), vec![1.0, 1000.0, 1.0, -1000.0]).expect("four values");
        softmax(&mut logits);
        assert_eq!(logits.as_slice(), Some(&[0.5, 1.0, 0.5, 0.0][..]));
    }

    #[test]
    fn the_golden_input_is_that_of_the_exporter() {
        // Seed 7: 7 * 6364136223846793005 + 1442695040888963407 = 9098160460397411210 (mod 2^64); its upper 31 bits / 2^30 - 1:
        assert_eq!(golden_input(7, 1), [-0.013_575_466]);
        assert!(golden_input(7, 1000).iter().all(|v| (-1.0..1.0).contains(v)));
    }
}
