//! Runs a program.

use super::buffer::Buffer;
use super::program::{Program, Step, Work};
use super::tile::Isa;
use super::voxelwise::{Data, Form, Target, View, normalization};
use crate::segment::net::NetError;
use crate::segment::net::graph::{Graph, ValueId};
use ndarray::{ArrayD, ArrayViewD};
use rayon::prelude::*;
use std::sync::{Mutex, PoisonError};

/// A quantized network, on inputs of any size that its layers can halve.
pub struct IntegerNet {
    program: Program,
    isa: Isa,
    /// Memory of earlier runs: fresh memory costs a page fault per 4 KiB.
    spare: Mutex<Spare>,
}

#[derive(Default)]
struct Spare {
    bytes: Vec<Vec<u8>>,
    reals: Vec<Vec<f32>>,
}

impl IntegerNet {
    /// Prepares a graph; what is not quantized runs in f32.
    pub fn new(graph: &Graph, isa: Isa) -> Result<IntegerNet, NetError> {
        Ok(IntegerNet { program: Program::new(graph)?, isa, spare: Mutex::default() })
    }

    /// What its kernels use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// How many convolutions run in integers, and how many in f32.
    pub fn convolutions(&self) -> [usize; 2] {
        self.program.convolutions()
    }

    /// Bytes that [`IntegerNet::logits`] needs for an input of shape (channels, [z,] y, x): all tensors at their most, the result, the weights.
    pub fn memory_bytes(&self, shape: &[usize]) -> Result<usize, NetError> {
        let program = &self.program;
        let sizes = self.sizes(self.shape_zyx(shape)?)?;
        let last = self.last_use();
        // A voxel of rim on each side is what convolutions mostly read.
        let bytes = |t: usize| {
            let per_value = if program.tensors[t].form == Form::Real { 4 } else { 1 };
            sizes[t].iter().map(|n| n + 2).product::<usize>() * program.buffers[program.tensors[t].buffer] * per_value
        };
        let mut live = vec![0; program.buffers.len()];
        live[program.tensors[program.input].buffer] = bytes(program.input);
        let mut most = 0;
        for (k, step) in program.steps.iter().enumerate() {
            live[program.tensors[step.to].buffer] = bytes(step.to);
            let apart = match &step.work {
                Work::Real(real) => {
                    let shape = self.shape_of(step.from[0], &sizes);
                    real.net.memory_bytes(&shape)? + 4 * shape.iter().product::<usize>()
                }
                _ => 0,
            };
            most = most.max(live.iter().sum::<usize>() + apart);
            (0..live.len()).filter(|b| last[*b] == k).for_each(|b| live[b] = 0);
        }
        let result = 4 * sizes[program.output].iter().product::<usize>() * program.tensors[program.output].channels;
        let weights = program.steps.iter().map(|step| match &step.work {
            Work::Convolve(layer) => layer.memory_bytes(),
            _ => 0,
        });
        Ok(most + result + weights.sum::<usize>())
    }

    /// Multiply-adds of its convolutions for an input of shape (channels, [z,] y, x).
    pub fn multiplications(&self, shape: &[usize]) -> Result<usize, NetError> {
        let sizes = self.sizes(self.shape_zyx(shape)?)?;
        let of_steps = self.program.steps.iter().map(|step| match &step.work {
            Work::Convolve(layer) => Ok(sizes[step.to].iter().product::<usize>() * layer.products()),
            Work::Real(real) => real.net.multiplications(&self.shape_of(step.from[0], &sizes)),
            _ => Ok(0),
        });
        of_steps.sum()
    }

    /// Shape (channels, [z,] y, x) of a tensor.
    fn shape_of(&self, t: usize, sizes: &[[usize; 3]]) -> Vec<usize> {
        let spatial = &sizes[t][3 - self.program.rank..];
        std::iter::once(self.program.tensors[t].channels).chain(spatial.iter().copied()).collect()
    }

    fn shape_zyx(&self, shape: &[usize]) -> Result<[usize; 3], NetError> {
        let program = &self.program;
        if shape.len() != program.rank + 1 || shape[0] != program.tensors[program.input].channels {
            let message = format!("the input has shape {shape:?}, not (channels, {} axes)", program.rank);
            return Err(NetError::Shape(message));
        }
        let mut size = [1; 3];
        size[3 - program.rank..].copy_from_slice(&shape[1..]);
        Ok(size)
    }

    /// Output, shape (channels, [z,] y, x), for an input of shape (channels, [z,] y, x).
    pub fn logits(&self, input: ArrayViewD<f32>) -> Result<ArrayD<f32>, NetError> {
        self.observed(input, &mut |_, _| ())
    }

    /// As [`IntegerNet::logits`]; `observe` is shown every tensor that a step makes, by the graph's value.
    pub fn observed(
        &self,
        input: ArrayViewD<f32>,
        observe: &mut dyn FnMut(ValueId, View),
    ) -> Result<ArrayD<f32>, NetError> {
        let program = &self.program;
        let size = self.shape_zyx(input.shape())?;
        let sizes = self.sizes(size)?;
        let last = self.last_use();
        let mut memory: Vec<Option<Data>> = program.buffers.iter().map(|_| None).collect();
        let first = program.tensors[program.input].buffer;
        memory[first] = Some(self.fetch(first, size));
        fill_input(memory[first].as_mut(), input);
        if let Some(view) = self.view(&memory, program.input) {
            observe(program.tensors[program.input].value, view);
        }
        for (k, step) in program.steps.iter().enumerate() {
            let to = program.tensors[step.to].buffer;
            let mut data = memory[to].take().unwrap_or_else(|| self.fetch(to, sizes[step.to]));
            self.step(step, &memory, &mut data)?;
            memory[to] = Some(data);
            // A join is shown when its last part is there; one without a step of its own is not, but its parts are.
            let complete = program.steps[k + 1..].iter().all(|later| later.to != step.to);
            if let Some(view) = self.view(&memory, step.to).filter(|_| complete) {
                observe(program.tensors[step.to].value, view);
            }
            for (buffer, _) in last.iter().enumerate().filter(|(_, last)| **last == k) {
                self.give_back(memory[buffer].take());
            }
        }
        let output = self.view(&memory, program.output).ok_or_else(|| NetError::Invalid("it has no output".into()))?;
        let found = output.planes(program.rank);
        memory.into_iter().for_each(|data| self.give_back(data));
        Ok(found)
    }

    fn step(&self, step: &Step, memory: &[Option<Data>], data: &mut Data) -> Result<(), NetError> {
        let program = &self.program;
        let to = &program.tensors[step.to];
        let read_twice = || NetError::Invalid("a tensor is read where it is written".into());
        let from =
            step.from.iter().map(|t| self.view(memory, *t).ok_or_else(read_twice)).collect::<Result<Vec<_>, _>>()?;
        let channels = match step.work {
            // A copy into a join fills the part that it reads.
            Work::Copy => from[0].channels,
            _ => to.channels,
        };
        let first = to.first + step.first;
        let mut target = Target { data, first, channels, form: to.form };
        match &step.work {
            Work::Convolve(layer) => match (from[0].data, &mut *target.data) {
                (Data::Bytes(input), Data::Bytes(output)) => {
                    layer.to_bytes(self.isa, (input, from[0].first), (output, first));
                }
                (Data::Bytes(input), Data::Reals(output)) => {
                    layer.to_floats(self.isa, (input, from[0].first), (output, first));
                }
                (Data::Reals(_), _) => return Err(NetError::Invalid("a quantized layer reads real numbers".into())),
            },
            Work::Real(real) => {
                let found = real.net.logits(from[0].planes(program.rank).view())?;
                let values = found.as_slice().ok_or_else(|| NetError::Invalid("planes with gaps".into()))?;
                let size = size_of(target.data);
                let voxels = size.iter().product::<usize>();
                target.fill(step.finish, |[z, y], out| {
                    for c in 0..channels {
                        let row = &values[c * voxels + (z * size[1] + y) * size[2]..][..size[2]];
                        out[c..].iter_mut().step_by(channels).zip(row).for_each(|(o, v)| *o = *v);
                    }
                });
            }
            Work::Normalize { scale, bias, epsilon } => {
                let affine = normalization(from[0], scale, bias, *epsilon);
                target.fill(step.finish, |at, out| scaled(from[0], &affine, at, out));
            }
            Work::Affine(affine) => target.fill(step.finish, |at, out| scaled(from[0], affine, at, out)),
            Work::Copy if from.len() == 1 && target.translate(step.finish, from[0]).is_some() => {}
            Work::Copy => target.fill(step.finish, |at, out| {
                from[0].row(at, out);
                let mut other = vec![0.0; if from.len() > 1 { out.len() } else { 0 }];
                for view in &from[1..] {
                    view.row(at, &mut other);
                    out.iter_mut().zip(&other).for_each(|(o, v)| *o += v);
                }
            }),
        }
        if let (Data::Bytes(buffer), Form::Bytes(scale)) = (target.data, to.form) {
            buffer.fill_rim(first, channels, scale.zero);
        }
        Ok(())
    }

    /// Voxels of each tensor.
    fn sizes(&self, input: [usize; 3]) -> Result<Vec<[usize; 3]>, NetError> {
        let program = &self.program;
        let mut sizes = vec![[0; 3]; program.tensors.len()];
        sizes[program.input] = input;
        let mut of_buffer: Vec<Option<[usize; 3]>> = vec![None; program.buffers.len()];
        for step in &program.steps {
            let from = sizes[step.from[0]];
            let found = match &step.work {
                Work::Convolve(layer) => layer.shape().output(from),
                Work::Real(real) => real.output(from),
                _ => Some(from),
            };
            let fits = |found: &[usize; 3]| step.from[1..].iter().all(|t| sizes[*t] == *found) && !found.contains(&0);
            let misfit = || NetError::Shape(format!("an input of {input:?} voxels (z, y, x) does not fit the layers"));
            let found = found.filter(fits).ok_or_else(misfit)?;
            let known = of_buffer[program.tensors[step.to].buffer].get_or_insert(found);
            if *known != found {
                return Err(misfit());
            }
            sizes[step.to] = found;
            // A join without a step of its own has the size of its parts.
            for (t, tensor) in program.tensors.iter().enumerate() {
                if tensor.buffer == program.tensors[step.to].buffer {
                    sizes[t] = found;
                }
            }
        }
        Ok(sizes)
    }

    /// Per buffer the step after which nothing reads it; the output's is kept.
    fn last_use(&self) -> Vec<usize> {
        let program = &self.program;
        let mut last = vec![usize::MAX; program.buffers.len()];
        for (k, step) in program.steps.iter().enumerate() {
            for t in step.from.iter().chain([&step.to]) {
                last[program.tensors[*t].buffer] = k;
            }
        }
        last[program.tensors[program.output].buffer] = usize::MAX;
        last
    }

    fn view<'a>(&self, memory: &'a [Option<Data>], t: usize) -> Option<View<'a>> {
        let tensor = &self.program.tensors[t];
        let data = memory[tensor.buffer].as_ref()?;
        Some(View { data, first: tensor.first, channels: tensor.channels, form: tensor.form })
    }

    fn fetch(&self, buffer: usize, size: [usize; 3]) -> Data {
        let tensors = self.program.tensors.iter().filter(|t| t.buffer == buffer);
        let mut rim = [[0; 2]; 3];
        let mut bytes = false;
        for tensor in tensors {
            bytes = tensor.form != Form::Real;
            (0..3).for_each(|a| (0..2).for_each(|e| rim[a][e] = rim[a][e].max(tensor.rim[a][e])));
        }
        let channels = self.program.buffers[buffer];
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let values = size.iter().product::<usize>() * channels;
        if bytes {
            Data::Bytes(Buffer::within(fitting(&mut spare.bytes, values), size, rim, channels))
        } else {
            Data::Reals(Buffer::within(fitting(&mut spare.reals, values), size, rim, channels))
        }
    }

    fn give_back(&self, data: Option<Data>) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        match data {
            Some(Data::Bytes(buffer)) => spare.bytes.push(buffer.values),
            Some(Data::Reals(buffer)) => spare.reals.push(buffer.values),
            None => {}
        }
    }
}

/// The smallest memory that has room for some values, else the largest: so that little is kept beyond what one run needs.
fn fitting<T>(spare: &mut Vec<Vec<T>>, values: usize) -> Vec<T> {
    let order = |k: &usize| match spare[*k].capacity() {
        enough if enough >= values => (0, enough),
        less => (1, usize::MAX - less),
    };
    (0..spare.len()).min_by_key(order).map(|k| spare.swap_remove(k)).unwrap_or_default()
}

fn size_of(data: &Data) -> [usize; 3] {
    match data {
        Data::Reals(buffer) => buffer.size,
        Data::Bytes(buffer) => buffer.size,
    }
}

fn scaled(from: View, affine: &[[f32; 2]], at: [usize; 2], out: &mut [f32]) {
    from.row(at, out);
    for voxel in out.chunks_exact_mut(affine.len()) {
        voxel.iter_mut().zip(affine).for_each(|(v, [factor, shift])| *v = *v * factor + shift);
    }
}

/// Planes of channels, as they come, to channels last.
fn fill_input(data: Option<&mut Data>, input: ArrayViewD<f32>) {
    let Some(Data::Reals(buffer)) = data else { return };
    let channels = buffer.channels;
    let input = input.as_standard_layout();
    let Some(from) = input.as_slice() else { return };
    let voxels = from.len() / channels;
    let (row, n) = (buffer.size[2], buffer.size[0] * buffer.size[1]);
    buffer.values[..voxels * channels].par_chunks_mut(row * channels).enumerate().take(n).for_each(|(k, out)| {
        for c in 0..channels {
            let plane = &from[c * voxels + k * row..][..row];
            out[c..].iter_mut().step_by(channels).zip(plane).for_each(|(o, v)| *o = *v);
        }
    });
}
