//! Runs a program.

use super::NetError;
use super::graph::Graph;
use super::layout::{BLOCK, Layout};
use super::plan::{self, Plan};
use super::program::{Program, Scaling, Step};
use super::sweep::Moments;
use super::voxelwise::{Affine, moments, pool};
use crate::segment::kernels::{InstructionSet, Kernels};
use ndarray::{ArrayD, ArrayViewD};
use std::sync::{Arc, Mutex, PoisonError};

/// A network that the own engine runs, on inputs of any size that its layers can halve.
pub struct Net {
    program: Program,
    kernels: Kernels,
    /// The plan for the size seen last, and the memory of the last run: a box sees few sizes, and fresh memory costs a page fault per 4 KiB.
    last: Mutex<(Option<Arc<Plan>>, Option<Memory>)>,
}

/// The slots of a plan.
type Memory = Vec<Vec<f32>>;

impl Net {
    /// Prepares a graph for an instruction set that this processor has.
    pub fn new(graph: &Graph, set: InstructionSet) -> Result<Net, NetError> {
        let missing = || NetError::Invalid(format!("this processor has no {}", set.name()));
        let kernels = Kernels::new(set).ok_or_else(missing)?;
        Ok(Net { program: Program::new(graph, kernels)?, kernels, last: Mutex::default() })
    }

    /// What its kernels use.
    pub fn instruction_set(&self) -> InstructionSet {
        self.kernels.set()
    }

    /// Bytes that [`Net::logits`] needs for an input of shape (channels, [z,] y, x): all tensors, the result and the weights.
    pub fn memory_bytes(&self, shape: &[usize]) -> Result<usize, NetError> {
        plan::memory_bytes(&self.program, self.shape_zyx(shape)?)
    }

    /// Multiply-adds of its convolutions for an input of shape (channels, [z,] y, x).
    pub fn multiplications(&self, shape: &[usize]) -> Result<usize, NetError> {
        plan::multiplications(&self.program, self.shape_zyx(shape)?)
    }

    /// Output, shape (channels, [z,] y, x), for an input of shape (channels, [z,] y, x).
    pub fn logits(&self, input: ArrayViewD<f32>) -> Result<ArrayD<f32>, NetError> {
        let plan = self.plan(self.shape_zyx(input.shape())?)?;
        let kept = self.lock().1.take();
        let fits = |memory: &Memory| memory.iter().map(Vec::len).eq(plan.slot_len.iter().copied());
        let mut memory = kept.filter(fits).unwrap_or_else(|| plan.slot_len.iter().map(|n| vec![0.0; *n]).collect());
        let layout = plan.layouts[self.program.input];
        layout.pack(input, &mut memory[plan.slots[self.program.input]], 0.0, |v| v);
        let mut known: Vec<Moments> = Vec::new();
        for (k, step) in self.program.steps.iter().enumerate() {
            known = self.step(&plan, k, step, &mut memory, &known);
        }
        let output = plan.layouts[self.program.output];
        let logits = output.unpack(&memory[plan.slots[self.program.output]], self.program.rank, |v| v);
        self.lock().1 = Some(memory);
        Ok(logits)
    }

    /// One step; gives the moments of a convolution's output if the next step needs them.
    fn step(&self, plan: &Plan, k: usize, step: &Step, memory: &mut Memory, known: &[Moments]) -> Vec<Moments> {
        let slot = plan.slots[step.output()];
        let layout = plan.layouts[step.output()];
        // Out of the list while it is written, so that the others can be read.
        let mut output = std::mem::take(&mut memory[slot]);
        let read = |t: usize| (plan.layouts[t], &memory[plan.slots[t]][..plan.layouts[t].len()]);
        let mut found = Vec::new();
        match step {
            Step::Convolve { inputs, convolution, statistics, .. } => {
                let inputs: Vec<&[f32]> = inputs.iter().map(|t| read(*t).1).collect();
                if let Some(sweep) = &plan.sweeps[k] {
                    found = convolution.run(self.kernels, sweep, &inputs, &mut output, *statistics);
                }
            }
            Step::Voxelwise { input, output: to, other, scaling } => {
                let other = other.map(read);
                let from = if input == to { (layout, &output[..]) } else { read(*input) };
                let affine = affine(scaling, from, known);
                let affine = affine.as_ref().unwrap_or_else(|fixed| fixed);
                if input == to {
                    affine.apply(layout, &mut output, other);
                } else {
                    affine.write(read(*input), layout, &mut output, other);
                }
            }
            Step::Pool { input, window, pooling, .. } => pool(window, *pooling, read(*input), layout, &mut output),
            Step::Join { inputs, .. } => {
                let inputs: Vec<_> = inputs.iter().map(|t| read(*t)).collect();
                join(&inputs, layout, &mut output);
            }
        }
        memory[slot] = output;
        found
    }

    fn plan(&self, shape_zyx: [usize; 3]) -> Result<Arc<Plan>, NetError> {
        if let Some(plan) = &self.lock().0
            && plan.shape_zyx == shape_zyx
        {
            return Ok(plan.clone());
        }
        let plan = Arc::new(Plan::new(&self.program, shape_zyx)?);
        self.lock().0 = Some(plan.clone());
        Ok(plan)
    }

    fn shape_zyx(&self, shape: &[usize]) -> Result<[usize; 3], NetError> {
        let channels = self.program.tensors[self.program.input].channels;
        match (shape, self.program.rank) {
            ([c, z, y, x], 3) if *c == channels => Ok([*z, *y, *x]),
            ([c, y, x], 2) if *c == channels => Ok([1, *y, *x]),
            (_, rank) => Err(NetError::Shape(format!(
                "an input of shape {shape:?} is not ({channels}, {}y, x)",
                if rank == 3 { "z, " } else { "" }
            ))),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Option<Arc<Plan>>, Option<Memory>)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Factors and shifts: as they are, or from the moments.
fn affine<'a>(scaling: &'a Scaling, from: (Layout, &[f32]), known: &[Moments]) -> Result<Affine, &'a Affine> {
    match scaling {
        Scaling::Fixed(affine) => Err(affine),
        Scaling::Instance { scale, bias, epsilon, slope, ready } => {
            let measured = if *ready { Vec::new() } else { moments(from.0, from.1) };
            let moments = if *ready { known } else { &measured };
            Ok(Affine::normalizing(moments, scale, bias, *epsilon, *slope))
        }
    }
}

/// Channels one after the other, wherever the blocks of the inputs end.
fn join(inputs: &[(Layout, &[f32])], layout: Layout, to: &mut [f32]) {
    to[..layout.len()].fill(0.0);
    let mut channel = 0;
    for (from, values) in inputs {
        for c in 0..from.channels {
            for z in 0..layout.shape_zyx[0] {
                for y in 0..layout.shape_zyx[1] {
                    let source = values[from.at(c / from.block, z, y) + c % from.block..].iter().step_by(from.block);
                    let start = layout.at(channel / BLOCK, z, y) + channel % BLOCK;
                    let voxels = to[start..].iter_mut().step_by(BLOCK).take(layout.shape_zyx[2]);
                    voxels.zip(source).for_each(|(to, v)| *to = *v);
                }
            }
            channel += 1;
        }
    }
}
