//! Model packages in the binary: the demonstration packages travel inside it, so that the box works from the carton.

use crate::update::{Files, Identity, Kind};
pub use crate::update::{PackageReadError, read_package};
use std::path::Path;

macro_rules! shipped {
    ($folder:literal, $($file:literal),+) => {
        Files::from([$(($file.to_string(), include_bytes!(concat!("../../models/", $folder, "/", $file)).to_vec())),+])
    };
}

/// The segmenter that ships: trained on phantoms only.
pub fn shipped_segmenter() -> Files {
    shipped!("segmenter-phantom", "manifest.toml", "model.onnx", "golden.json")
}

/// The nomogram that ships: fitted on a simulated phantom cohort.
pub fn shipped_nomogram() -> Files {
    shipped!("nomogram-phantom", "manifest.toml", "golden.json")
}

/// What the package of a kind in the binary says of itself.
pub fn built_in(kind: Kind) -> Identity {
    let files = match kind {
        Kind::Segmenter => shipped_segmenter(),
        Kind::Nomogram => shipped_nomogram(),
    };
    crate::update::identify(&files, Path::new("the program")).expect("the shipped packages are tested to load")
}
