//! A program on inputs of one size: layouts, and which tensors take turns in the same memory.

use super::NetError;
use super::layout::Layout;
use super::program::{Program, Step};
use super::sweep::Sweep;

/// More voxels than this along an axis are no image.
const AXIS_MAX: usize = 1 << 20;

/// What a program needs to know about one input size.
pub struct Plan {
    /// Voxels of the input, (z, y, x).
    pub shape_zyx: [usize; 3],
    /// One per tensor.
    pub layouts: Vec<Layout>,
    /// The slot in which a tensor lies, one per tensor.
    pub slots: Vec<usize>,
    /// Values of each slot.
    pub slot_len: Vec<usize>,
    /// One per step; `None` for what is not a convolution.
    pub sweeps: Vec<Option<Sweep>>,
}

impl Plan {
    /// Plans for an input of `shape_zyx` voxels.
    pub fn new(program: &Program, shape_zyx: [usize; 3]) -> Result<Plan, NetError> {
        let layouts = layouts(program, shape_zyx)?;
        let (slots, slot_len) = slots(program, &layouts);
        let sweep = |step: &Step| match step {
            Step::Convolve { inputs, output, convolution, .. } => {
                let inputs: Vec<Layout> = inputs.iter().map(|t| layouts[*t]).collect();
                Some(convolution.sweep(&inputs, layouts[*output]))
            }
            _ => None,
        };
        let sweeps = program.steps.iter().map(sweep).collect();
        Ok(Plan { shape_zyx, layouts, slots, slot_len, sweeps })
    }
}

/// Bytes that a run on an input of `shape_zyx` voxels needs beside the input: tensors, the logits that are returned, and the weights.
pub fn memory_bytes(program: &Program, shape_zyx: [usize; 3]) -> Result<usize, NetError> {
    let layouts = layouts(program, shape_zyx)?;
    let (_, slot_len) = slots(program, &layouts);
    let output = layouts[program.output];
    let values = slot_len.iter().sum::<usize>() + output.channels * output.n_voxels();
    let weights = program.steps.iter().map(|step| match step {
        Step::Convolve { convolution, .. } => convolution.memory_bytes(),
        _ => 0,
    });
    Ok(values * size_of::<f32>() + weights.sum::<usize>())
}

/// Multiplications of all convolutions (a multiply-add counts once), those with padding included.
pub fn multiplications(program: &Program, shape_zyx: [usize; 3]) -> Result<usize, NetError> {
    let layouts = layouts(program, shape_zyx)?;
    let of_steps = program.steps.iter().map(|step| match step {
        Step::Convolve { convolution, output, .. } => convolution.multiplications(&layouts[*output]),
        _ => 0,
    });
    Ok(of_steps.sum())
}

fn layouts(program: &Program, shape_zyx: [usize; 3]) -> Result<Vec<Layout>, NetError> {
    if shape_zyx.iter().any(|n| !(1..=AXIS_MAX).contains(n)) {
        return Err(NetError::Shape(format!("an input of {} voxels is none", sizes(shape_zyx))));
    }
    let mut found: Vec<Layout> = program
        .tensors
        .iter()
        .map(|t| Layout { channels: t.channels, shape_zyx: [0; 3], block: t.block, halo: 0 })
        .collect();
    found[program.input].shape_zyx = shape_zyx;
    let too_small = |from| {
        let (input, from) = (sizes(shape_zyx), sizes(from));
        NetError::Shape(format!("an input of {input} voxels is too small: a layer would get {from}"))
    };
    for step in &program.steps {
        let output = match step {
            Step::Convolve { inputs, output, convolution, .. } => {
                let from = joined(&found, inputs, shape_zyx)?;
                found[*output].shape_zyx = convolution.output_shape(from).ok_or_else(|| too_small(from))?;
                let halo = convolution.halo(from, found[*output].shape_zyx);
                inputs.iter().for_each(|t| found[*t].halo = found[*t].halo.max(halo));
                *output
            }
            Step::Voxelwise { input, output, other, .. } => {
                let from = joined(&found, &[&[*input][..], other.as_slice()].concat(), shape_zyx)?;
                found[*output].shape_zyx = from;
                *output
            }
            Step::Pool { input, output, window, .. } => {
                let from = found[*input].shape_zyx;
                for a in 0..3 {
                    found[*output].shape_zyx[a] = window.slid(a, from[a]).ok_or_else(|| too_small(from))?;
                }
                *output
            }
            Step::Join { inputs, output } => {
                found[*output].shape_zyx = joined(&found, inputs, shape_zyx)?;
                *output
            }
        };
        let [z, y, x] = found[output].shape_zyx;
        let channels = found[output].channels;
        if [z, y, x, channels]
            .iter()
            .try_fold(1usize, |n, k| n.checked_mul(*k))
            .is_none_or(|n| n > isize::MAX as usize / 64)
        {
            return Err(NetError::Shape(format!(
                "an input of {} voxels needs more memory than there is",
                sizes(shape_zyx)
            )));
        }
    }
    Ok(found)
}

/// The common shape of tensors.
fn joined(layouts: &[Layout], tensors: &[usize], input: [usize; 3]) -> Result<[usize; 3], NetError> {
    let shape = layouts[tensors[0]].shape_zyx;
    match tensors.iter().map(|t| layouts[*t].shape_zyx).find(|s| *s != shape) {
        None => Ok(shape),
        Some(other) => Err(NetError::Shape(format!(
            "an input of {} voxels does not fit the network: a layer would join {} with {} voxels; \
             make each side a multiple of what the network halves it by",
            sizes(input),
            sizes(shape),
            sizes(other)
        ))),
    }
}

fn sizes([z, y, x]: [usize; 3]) -> String {
    format!("{z} x {y} x {x}")
}

/// Gives each tensor a slot that is free from its first writer to its last reader.
fn slots(program: &Program, layouts: &[Layout]) -> (Vec<usize>, Vec<usize>) {
    let n = program.tensors.len();
    let mut last = vec![0; n];
    for (k, step) in program.steps.iter().enumerate() {
        step.reads().chain([step.output()]).for_each(|t| last[t] = k);
    }
    last[program.output] = program.steps.len();
    let (mut slot_of, mut len): (Vec<Option<usize>>, Vec<usize>) = (vec![None; n], Vec::new());
    let mut free: Vec<usize> = Vec::new();
    let place = |tensor: usize, free: &mut Vec<usize>, len: &mut Vec<usize>| {
        let wanted = layouts[tensor].len();
        // The smallest that is large enough, else the largest, which grows.
        let fitting = (0..free.len()).filter(|k| len[free[*k]] >= wanted).min_by_key(|k| len[free[*k]]);
        let chosen = fitting.or_else(|| (0..free.len()).max_by_key(|k| len[free[*k]]));
        let slot = chosen.map_or(len.len(), |k| free.swap_remove(k));
        if slot == len.len() {
            len.push(0);
        }
        len[slot] = len[slot].max(wanted);
        slot
    };
    slot_of[program.input] = Some(place(program.input, &mut free, &mut len));
    for (k, step) in program.steps.iter().enumerate() {
        if slot_of[step.output()].is_none() {
            slot_of[step.output()] = Some(place(step.output(), &mut free, &mut len));
        }
        for t in 0..n {
            if last[t] == k
                && let Some(slot) = slot_of[t]
                && !free.contains(&slot)
                && is_last(&slot_of, &last, t, k)
            {
                free.push(slot);
            }
        }
    }
    (slot_of.into_iter().map(|s| s.unwrap_or(0)).collect(), len)
}

/// Whether no tensor that is still needed lies in the same slot.
fn is_last(slot_of: &[Option<usize>], last: &[usize], tensor: usize, step: usize) -> bool {
    (0..last.len()).all(|other| slot_of[other] != slot_of[tensor] || last[other] <= step)
}

impl Step {
    /// The tensors that it reads.
    pub fn reads(&self) -> impl Iterator<Item = usize> + '_ {
        let (many, one, other): (&[usize], _, _) = match self {
            Step::Convolve { inputs, .. } | Step::Join { inputs, .. } => (inputs, None, None),
            Step::Voxelwise { input, other, .. } => (&[], Some(*input), *other),
            Step::Pool { input, .. } => (&[], Some(*input), None),
        };
        many.iter().copied().chain(one).chain(other)
    }

    /// The tensor that it writes.
    pub fn output(&self) -> usize {
        match self {
            Step::Convolve { output, .. }
            | Step::Voxelwise { output, .. }
            | Step::Pool { output, .. }
            | Step::Join { output, .. } => *output,
        }
    }
}
