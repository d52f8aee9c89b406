//! Shared helpers: the reference data, the shipped binary, folders that clean up after themselves.
#![allow(dead_code, reason = "each capability uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A file or folder of the shared data. Missing data is a failure with directions, never a quiet pass.
pub fn reference(path: &str) -> PathBuf {
    let root = std::env::var_os("METWATCH_TEST_DATA").map_or("../shared/data".into(), PathBuf::from);
    let file = root.join(path);
    assert!(file.exists(), "{} is missing: set METWATCH_TEST_DATA to the shared data folder", file.display());
    file
}

/// The shipped binary.
pub fn metwatch() -> Command {
    Command::new(env!("CARGO_BIN_EXE_metwatch"))
}

/// Runs the shipped binary; (exit code, stdout, stderr).
pub fn run(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = metwatch().args(args).output().expect("the binary runs");
    let text = |b: Vec<u8>| String::from_utf8_lossy(&b).into_owned();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// A folder of its own, removed at the end unless the test failed.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes a folder for a test.
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("metwatch-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the temporary folder is writable");
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The path of a file in it as text.
    pub fn text(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
