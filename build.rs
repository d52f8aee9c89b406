//! Lists the files of the segmenters that travel inside the binary: a package that was trained again may have a second network, or none.
#![allow(clippy::disallowed_methods, reason = "a build script reads the folder and is told where by variables")]

use std::fmt::Write;
use std::path::{Path, PathBuf};

fn main() {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let mut code = String::new();
    for name in ["abdomen", "phantom"] {
        let folder = root.join("models").join(format!("segmenter-{name}"));
        println!("cargo::rerun-if-changed={}", folder.display());
        let _ = writeln!(code, "const {}: &[(&str, &[u8])] = &[", name.to_uppercase());
        for file in files(&folder) {
            let path = folder.join(&file).display().to_string();
            let _ = writeln!(code, "    ({file:?}, include_bytes!({path:?})),");
        }
        code += "];\n";
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    std::fs::write(out.join("built_in.rs"), code).expect("cargo's folder is writable");
}

fn files(folder: &Path) -> Vec<String> {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|e| panic!("the package {} is missing: {e}", folder.display()));
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
    let mut files: Vec<String> = entries.filter_map(name).filter(|name| !name.starts_with('.')).collect();
    files.sort();
    files
}
