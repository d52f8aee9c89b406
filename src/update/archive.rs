//! Packages as one file: a tar of plain files, compressed with zstd (`ID-VERSION.tar.zst`).
//!
//! Unpacking trusts nothing: plain files with plain names only, every size and count bounded before it is written, so that a bomb,
//! a link or a path that climbs out ends in an error with nothing left behind.

use super::UpdateError;
use super::files::{make_folder, open_plain, remove_folder, require_space, sync_folder};
use super::package::{Files, PACKAGE_BYTES_MAX, PACKAGE_FILES_MAX};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path};

/// zstd may ask for a window of 2^n bytes; 8 MiB is what its levels up to 19 use, 128 MiB is what the tool itself accepts.
const WINDOW_LOG_MAX: u32 = 27;
/// A manifest or a list is small; only a network may be large. Headers between files are read within this.
const HEADERS_BYTES_MAX: u64 = 1 << 20;
const COMPRESSION_LEVEL: i32 = 19;

/// Unpacks an archive into a folder that is made anew; its files and names are on disk when this returns.
pub fn unpack(archive: &Path, into: &Path) -> Result<(), UpdateError> {
    remove_folder(into)?;
    make_folder(into)?;
    let done = unpack_into(archive, into).and_then(|()| sync_folder(into));
    if done.is_err() {
        remove_folder(into)?;
    }
    done
}

fn unpack_into(path: &Path, into: &Path) -> Result<(), UpdateError> {
    let refused = |why: String| UpdateError::Archive { path: path.into(), why };
    let broken = |e: io::Error| refused(format!("it cannot be read: {e}"));
    let file = open_plain(path).map_err(|e| UpdateError::io("opening", path, e))?;
    require_space(into, file.metadata().map_err(broken)?.len())?;
    let mut decoder = zstd::Decoder::new(file).map_err(broken)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(broken)?;
    // The whole stream is bounded too: a tar can hold headers (long names, padding) without an end.
    let mut tar = tar::Archive::new(decoder.take(PACKAGE_BYTES_MAX + HEADERS_BYTES_MAX));
    let (mut total, mut n_files) = (0u64, 0usize);
    for entry in tar.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name = entry.path().map_err(broken)?.into_owned();
        if entry.header().entry_type().is_dir() && is_here(&name) {
            continue; // `tar -C folder .` begins with it
        }
        if !entry.header().entry_type().is_file() {
            return Err(refused(format!("{} is no plain file", name.display())));
        }
        let name = plain_name(&name).ok_or_else(|| refused(format!("{} is no plain file name", name.display())))?;
        total = total.saturating_add(entry.size());
        n_files += 1;
        if total > PACKAGE_BYTES_MAX || n_files > PACKAGE_FILES_MAX {
            let limit = PACKAGE_BYTES_MAX >> 30;
            return Err(refused(format!("it has more than {limit} GiB or {PACKAGE_FILES_MAX} files")));
        }
        require_space(into, entry.size())?;
        let to = into.join(&name);
        // `create_new`: a second file of the same name is refused.
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&to);
        let mut out = made.map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => refused(format!("it has two files {name}")),
            _ => UpdateError::io("writing", &to, e),
        })?;
        copy(&mut entry, &mut out, path, &to)?;
        out.sync_all().map_err(|e| UpdateError::io("syncing", &to, e))?;
    }
    if n_files == 0 { Err(refused("it is empty".into())) } else { Ok(()) }
}

/// Copies, and tells a broken archive from a full disk.
fn copy(from: &mut impl Read, to: &mut File, archive: &Path, path: &Path) -> Result<(), UpdateError> {
    let mut buffer = vec![0; 1 << 17];
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) => {
                let why = format!("it cannot be read: {e}");
                return Err(UpdateError::Archive { path: archive.into(), why });
            }
        };
        to.write_all(&buffer[..n]).map_err(|e| UpdateError::io("writing", path, e))?;
    }
}

/// Whether a path is `.`.
fn is_here(path: &Path) -> bool {
    path.components().all(|c| c == Component::CurDir)
}

/// A name that is one plain file name, whether or not `./` stands before it.
fn plain_name(path: &Path) -> Option<String> {
    let mut parts = path.components().filter(|c| *c != Component::CurDir);
    let (Some(Component::Normal(name)), None) = (parts.next(), parts.next()) else { return None };
    let name = name.to_str()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (name.len() <= 100 && !name.starts_with('.') && name.bytes().all(plain)).then(|| name.into())
}

/// The files as an archive: the same files give the same bytes (no times, no owners, sorted).
pub fn pack(files: &Files) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), COMPRESSION_LEVEL)?);
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        tar.append_data(&mut header, name, &bytes[..])?;
    }
    tar.into_inner()?.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store;

    struct Folder(std::path::PathBuf);
    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("metwatch-archive-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Folder(path)
        }
    }
    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn refused(name: &str, tar: Vec<u8>) -> String {
        let folder = Folder::new(name);
        let (archive, into) = (folder.0.join("a.tar.zst"), folder.0.join("out"));
        std::fs::write(&archive, zstd::encode_all(&tar[..], 1).unwrap()).unwrap();
        let error = unpack(&archive, &into).expect_err("it is refused");
        assert!(!into.exists(), "something is left");
        error.to_string()
    }

    /// A tar with one entry, its header set by hand: the builder refuses what an attacker writes.
    fn entry(name: &str, kind: tar::EntryType, bytes: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
            header.as_gnu_mut().unwrap().linkname[..11].copy_from_slice(b"/etc/passwd");
        }
        header.set_cksum();
        let mut tar = header.as_bytes().to_vec();
        tar.extend(bytes);
        tar.resize(tar.len().next_multiple_of(512), 0);
        tar
    }

    #[test]
    fn files_come_back_and_the_same_files_give_the_same_archive() {
        let folder = Folder::new("round");
        let files = Files::from([("manifest.toml".into(), b"a = 1".to_vec()), ("model.onnx".into(), vec![7; 300_000])]);
        let packed = pack(&files).unwrap();
        assert_eq!(store::sha256_hex(&packed), store::sha256_hex(&pack(&files).unwrap()));
        std::fs::write(folder.0.join("a"), packed).unwrap();
        unpack(&folder.0.join("a"), &folder.0.join("out")).unwrap();
        assert_eq!(super::super::read_package(&folder.0.join("out")).unwrap(), files);
    }

    #[test]
    fn dangerous_archives_are_refused_and_leave_nothing() {
        use tar::EntryType;
        for name in ["../x", "/etc/x", "a/b", "..", ".hidden", "a b", "x\u{1b}[2J"] {
            let said = refused("path", entry(name, EntryType::Regular, b"x"));
            assert!(said.contains("plain file name"), "{name}: {said}");
        }
        for kind in [EntryType::Symlink, EntryType::Link, EntryType::Char, EntryType::Fifo] {
            assert!(refused("kind", entry("x", kind, b"")).contains("no plain file"), "{kind:?}");
        }
        // The map of a sparse file is not there.
        assert!(refused("sparse", entry("x", EntryType::GNUSparse, b"")).contains("cannot be read"));
        let twice = [entry("x", EntryType::Regular, b"1"), entry("x", EntryType::Regular, b"2")].concat();
        assert!(refused("twice", twice).contains("two files x"));
        let many: Vec<u8> = (0..40).flat_map(|k| entry(&format!("f{k}"), EntryType::Regular, b"")).collect();
        assert!(refused("many", many).contains("32 files"));
        assert!(refused("cut", entry("x", EntryType::Regular, &[7; 2048])[..1024].to_vec()).contains("cannot be read"));
        assert!(refused("empty", vec![0; 1024]).contains("empty"));
    }

    #[test]
    fn a_bomb_is_refused_by_what_its_header_says_and_by_what_comes() {
        // A header that announces 3 GiB; nothing of it is written.
        let mut header = tar::Header::new_gnu();
        header.set_path("x").unwrap();
        header.set_size(3 << 30);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        assert!(refused("announced", header.as_bytes().to_vec()).contains("GiB"));
        // A frame that wants a window of 2 GiB.
        let folder = Folder::new("window");
        // Magic number, no flags, window descriptor 10 + 21, one empty last block (RFC 8878, 3.1.1).
        std::fs::write(folder.0.join("a"), [0x28, 0xB5, 0x2F, 0xFD, 0, 21 << 3, 1, 0, 0]).unwrap();
        let error = unpack(&folder.0.join("a"), &folder.0.join("out")).expect_err("it is refused");
        assert!(error.to_string().contains("memory") || error.to_string().contains("cannot be read"), "{error}");
    }
}
