//! Integer inference: u8 activations times i8 weights, with the same integers on every processor.

pub mod buffer;
pub mod layer;
pub mod tile;

#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(target_arch = "x86_64")]
mod x86;
