//! A network on the processor: ONNX read into a [`graph::Graph`], computed in blocks of channels.
//!
//! `onnx` reads, `graph` holds what was read, `program` decides on steps, `plan` on memory for one size of input, `run` runs. The work is done
//! by `sweep` (convolutions, with `super::kernels`) and `voxelwise`; [`layout::Layout`] says how tensors lie in memory.
//!
//! **A further arithmetic** (8-bit integers) plugs in after the reader: the graph keeps `QuantizeLinear`, `DequantizeLinear` and integer
//! constants as ONNX has them ([`graph::Constant`], [`graph::Operator`]), and [`layout::Layout`] holds for any kind of number
//! (`pack`, `unpack` and `clear_halo` take the zero point that stands for 0).
//!
//! **Invariant:** knows arrays only; the same input gives the same bits for any number of threads.

pub mod graph;
pub mod layout;
pub mod onnx;
mod plan;
mod program;
#[cfg(test)]
mod reference;
mod run;
mod sweep;
#[cfg(test)]
mod tests;
mod voxelwise;

pub use run::Net;

/// Why a network does not run on the own engine.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// It uses what the engine does not have; each by its ONNX name and what is special about it.
    #[error("{}", .0.join(", "))]
    Unsupported(Vec<String>),
    /// The file is damaged or contradicts itself.
    #[error("{0}")]
    Invalid(String),
    /// The input has a size that the layers cannot take.
    #[error("{0}")]
    Shape(String),
}
