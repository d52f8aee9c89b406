//! The files of `/proc`, `/sys` and `/etc` below a root: `/` on a machine, a folder made after one in tests.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Files of the kernel and small settings are shorter; a longer one is not what it should be, and its rest is left.
const BYTES_MAX: u64 = 64 * 1024;

/// A root with the kernel's files below it. Paths are absolute, as documentation writes them.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// The tree below a folder; `/` is this machine.
    pub fn new(root: impl Into<PathBuf>) -> Tree {
        Tree { root: root.into() }
    }

    /// Whether it is this machine, so that what is asked elsewhere than in files (NVML) speaks of the same one.
    pub fn is_this_machine(&self) -> bool {
        self.root == Path::new("/")
    }

    /// A file's text without NUL and white space at its ends; `None` where it is not there or cannot be read. (A zone that is
    /// powered down answers with an I/O error.)
    pub fn text(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        File::open(self.path(path)).ok()?.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        Some(text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned())
    }

    /// The strings of a list in the device tree: each ends with NUL.
    pub fn strings(&self, path: &str) -> Vec<String> {
        let text = self.text(path).unwrap_or_default();
        text.split('\0').filter(|t| !t.is_empty()).map(Into::into).collect()
    }

    /// A file that holds one number.
    pub fn number(&self, path: &str) -> Option<i64> {
        self.text(path)?.parse().ok()
    }

    /// Whether a file or folder is there.
    pub fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The paths in a folder whose names begin with `prefix`, `thermal_zone2` before `thermal_zone10`.
    pub fn list(&self, folder: &str, prefix: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(folder)) else { return Vec::new() };
        let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|n| n.starts_with(prefix)).collect();
        names.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
        names.iter().map(|name| format!("{folder}/{name}")).collect()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}
