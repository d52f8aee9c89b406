//! Model packages on disk and in the binary: the demonstration packages travel inside it, so that the box works from the carton.

use crate::Explain;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A package as the pure rooms take it: file name -> bytes.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A package's files together are refused above this.
const PACKAGE_BYTES_MAX: u64 = 2 << 30;

macro_rules! shipped {
    ($folder:literal, $($file:literal),+) => {
        BTreeMap::from([$(($file.to_string(), include_bytes!(concat!("../../models/", $folder, "/", $file)).to_vec())),+])
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

/// A package folder that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PackageReadError {
    /// The folder or a file in it cannot be read.
    #[error("reading the model package {}", path.display())]
    Read {
        /// Which file or folder.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// More bytes than a package may have.
    #[error("the model package {} is larger than {} GiB", path.display(), PACKAGE_BYTES_MAX >> 30)]
    TooLarge {
        /// Which folder.
        path: PathBuf,
    },
}

impl Explain for PackageReadError {
    fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "package.read",
            Self::TooLarge { .. } => "package.too-large",
        }
    }
    fn advice(&self) -> &'static str {
        "give the folder that holds the package's manifest.toml, readable by the service's user"
    }
}

/// Reads the files of a package folder (one level; a package has no folders inside).
pub fn read_package(folder: &Path) -> Result<Files, PackageReadError> {
    let read_error = |path: &Path| {
        let path = path.to_path_buf();
        move |source| PackageReadError::Read { path, source }
    };
    let mut files = Files::new();
    let mut total = 0;
    for entry in std::fs::read_dir(folder).map_err(read_error(folder))? {
        let path = entry.map_err(read_error(folder))?.path();
        let size = std::fs::metadata(&path).map_err(read_error(&path))?.len();
        total += size;
        if total > PACKAGE_BYTES_MAX {
            return Err(PackageReadError::TooLarge { path: folder.into() });
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.insert(name, std::fs::read(&path).map_err(read_error(&path))?);
    }
    Ok(files)
}
