//! Model packages in the binary: the demonstration packages travel inside it, so that the box works from the carton.

use crate::update::{Files, Identity, Kind};
pub use crate::update::{PackageReadError, read_package};
use std::path::Path;

macro_rules! shipped {
    ($folder:literal, $($file:literal),+) => {
        Files::from([$(($file.to_string(), include_bytes!(concat!("../../models/", $folder, "/", $file)).to_vec())),+])
    };
}

/// Segmenters inside the binary, by the name that stands for them where a package folder is asked for; the first is the one that is
/// used where nothing is said.
pub const BUILT_IN: [&str; 2] = ["abdomen", "phantom"];

// ABDOMEN and PHANTOM: (name, bytes) of every file, listed by build.rs.
include!(concat!(env!("OUT_DIR"), "/built_in.rs"));

/// The segmenter that is used where nothing is said.
pub fn shipped_segmenter() -> Files {
    named_segmenter(BUILT_IN[0]).expect("the names of BUILT_IN are those below")
}

/// A segmenter of the binary, by its name of [`BUILT_IN`].
fn named_segmenter(name: &str) -> Option<Files> {
    let files = match name {
        // Trained on synthetic anatomy, for real CT.
        "abdomen" => ABDOMEN,
        // Trained on phantoms only: for the demonstration and the tests.
        "phantom" => PHANTOM,
        _ => return None,
    };
    Some(files.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec())).collect())
}

/// The files of a segmenter: of the binary by name, else of a folder; the first of [`BUILT_IN`] where nothing is asked for.
pub fn segmenter_files(asked: Option<&Path>) -> Result<Files, PackageReadError> {
    let Some(asked) = asked else { return Ok(shipped_segmenter()) };
    match asked.to_str().and_then(named_segmenter) {
        Some(files) => Ok(files),
        None => read_package(asked),
    }
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
