//! Shared helpers: the reference data and the shipped binary.

use std::path::PathBuf;

/// A file or folder of the shared data. Missing data is a failure with directions, never a quiet pass.
pub fn reference(path: &str) -> PathBuf {
    let root = std::env::var_os("METWATCH_TEST_DATA").map_or("../shared/data".into(), PathBuf::from);
    let file = root.join(path);
    assert!(file.exists(), "{} is missing: set METWATCH_TEST_DATA to the shared data folder", file.display());
    file
}
