//! Integer inference: u8 activations times i8 weights, with the same integers on every processor.
//!
//! `program` turns a graph with QuantizeLinear and DequantizeLinear into steps, `run` runs them. A quantized convolution is a [`layer::Layer`]
//! on the kernels of `tile` (definition, dispatch), `x86` and `arm`; all else is computed in f32 by `voxelwise`. Tensors lie channels last
//! ([`buffer::Buffer`]): four channels of a voxel are the 32 bits that a dot product takes, and a concatenation is two ranges of channels.
//!
//! **Invariant:** knows arrays only; the same input gives the same bits for any number of threads and, where integer, on any processor.

mod buffer;
mod layer;
mod program;
mod run;
mod tile;
mod voxelwise;

#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use program::is_quantized;
pub use run::IntegerNet;
pub use tile::Isa;

#[cfg(test)]
mod tests;
