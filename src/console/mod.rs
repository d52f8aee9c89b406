//! wip
//! **Invariant:** wip
mod canvas;
mod picture;
pub use picture::{SOFT_TISSUE, View, key_pictures, overlay_png, picture_title};
