//! Reading what commands take: files, images, model packages.

use super::Failure;
use crate::Explain;
use crate::dicom;
use crate::risk::Nomogram;
use crate::segment::{Package, Segmenter};
use crate::volume::Volume;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A file or folder that a command could not read or write.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}", path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

impl FileError {
    /// While reading `path`.
    pub fn read(path: &Path, source: std::io::Error) -> Self {
        FileError { action: "reading", path: path.into(), source }
    }
    /// While writing `path`.
    pub fn write(path: &Path, source: std::io::Error) -> Self {
        FileError { action: "writing", path: path.into(), source }
    }
}

impl Explain for FileError {
    fn code(&self) -> &'static str {
        if self.action == "reading" { "file.read" } else { "file.write" }
    }
    fn advice(&self) -> &'static str {
        if self.action == "reading" {
            "check the path and that you may read it"
        } else {
            "check that the folder is writable and the disk not full"
        }
    }
}

/// The bytes of a file.
pub fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    Ok(std::fs::read(path).map_err(|e| FileError::read(path, e))?)
}

/// Writes a file, making the folders above it.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| FileError::write(folder, e))?;
    }
    Ok(std::fs::write(path, bytes).map_err(|e| FileError::write(path, e))?)
}
