//! Files of the spool: written once, complete and synced before a row names them, named by their content.

use super::{SpoolFile, StoreError, sha256_hex};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The folder of the spool below the store's directory.
pub const FOLDER: &str = "spool";

/// The spool below a store's directory.
pub struct Spool {
    directory: PathBuf,
    /// Makes the names of unfinished files differ between threads.
    parts: AtomicU64,
}

impl Spool {
    pub fn new(directory: &Path) -> Self {
        Spool { directory: directory.into(), parts: AtomicU64::new(0) }
    }

    /// Writes a file of a study, durably: `.part`, fsync, rename, fsync of the folder. Same name and bytes, same file.
    pub fn write(&self, study: &str, name: &str, bytes: &[u8]) -> Result<SpoolFile, StoreError> {
        let (part, path, file) = self.place(study, name, bytes)?;
        write_synced(&part, &path, bytes)?;
        Ok(file)
    }

    /// Where a file goes: the path while it is unfinished, its path, and what names it. The folder is there.
    fn place(&self, study: &str, name: &str, bytes: &[u8]) -> Result<(PathBuf, PathBuf, SpoolFile), StoreError> {
        let sha256 = sha256_hex(bytes);
        let (stem, extension) = check_name(name)?.split_once('.').unwrap_or((name, ""));
        let dot = if extension.is_empty() { "" } else { "." };
        let name = format!("{stem}-{}{dot}{extension}", &sha256[..16]);
        let folder = self.directory.join(FOLDER).join(check_name(study)?);
        make_folder(&folder)?;
        let part = folder.join(format!("{name}.{}.part", self.parts.fetch_add(1, Ordering::Relaxed)));
        let file = SpoolFile { path: format!("{FOLDER}/{study}/{name}"), sha256, length: bytes.len() as u64 };
        Ok((part, folder.join(name), file))
    }

    /// The same without waiting for the disk: [`Spool::sync_all`] does that for many files at once.
    pub fn write_unsynced(&self, study: &str, name: &str, bytes: &[u8]) -> Result<SpoolFile, StoreError> {
        let (part, path, file) = self.place(study, name, bytes)?;
        let written = create(&part).and_then(|mut f| f.write_all(bytes)).and_then(|()| fs::rename(&part, &path));
        written.map_err(|e| {
            let _ = fs::remove_file(&part);
            StoreError::file("writing", &path, e)
        })?;
        Ok(file)
    }

    /// Everything that was written to the spool's file system is on disk when this returns.
    pub fn sync_all(&self) -> Result<(), StoreError> {
        let folder = self.directory.join(FOLDER);
        let synced = File::open(&folder).and_then(|f| rustix::fs::syncfs(f).map_err(io::Error::from));
        synced.map_err(|e| StoreError::file("syncing", &folder, e))
    }

    /// Room that the disk has left for an ordinary user, MiB.
    pub fn free_mb(&self) -> Result<u64, StoreError> {
        let stat = rustix::fs::statvfs(&self.directory);
        let stat = stat.map_err(|e| StoreError::file("measuring the disk of", &self.directory, e.into()))?;
        Ok((stat.f_bavail * stat.f_frsize) >> 20)
    }

    /// Reads a file and compares it with what was written.
    pub fn read(&self, file: &SpoolFile) -> Result<Vec<u8>, StoreError> {
        let path = self.path(file)?;
        let mut bytes = Vec::new();
        let missing = |e: io::Error| match e.kind() {
            io::ErrorKind::NotFound => StoreError::damaged(format!("{} is missing", file.path)),
            _ => StoreError::file("reading", &path, e),
        };
        // One byte more than expected shows a longer file without reading all of it.
        let input = File::open(&path).map_err(missing)?;
        input.take(file.length.saturating_add(1)).read_to_end(&mut bytes).map_err(missing)?;
        if bytes.len() as u64 != file.length || sha256_hex(&bytes) != file.sha256 {
            return Err(StoreError::damaged(format!("{} is not as it was written", file.path)));
        }
        Ok(bytes)
    }

    /// Where a file lies.
    pub fn path(&self, file: &SpoolFile) -> Result<PathBuf, StoreError> {
        let path = Path::new(&file.path);
        let inside = path.starts_with(FOLDER) && path.components().all(|c| matches!(c, Component::Normal(_)));
        if inside { Ok(self.directory.join(path)) } else { Err(StoreError::BadName { name: file.path.clone() }) }
    }

    /// Whether a file is there with its length.
    pub fn is_there(&self, file: &SpoolFile) -> bool {
        self.path(file)
            .and_then(|p| fs::metadata(&p).map_err(|e| StoreError::file("reading", &p, e)))
            .is_ok_and(|m| m.is_file() && m.len() == file.length)
    }

    /// Removes a file that no row names, as well as it can: the next start sweeps again.
    pub fn forget(&self, file: &SpoolFile) {
        if let Ok(path) = self.path(file) {
            let _ = fs::remove_file(path);
        }
    }

    /// Files that no row names, relative to the store's directory: unfinished ones and finished ones.
    pub fn orphans(&self, named: &BTreeSet<String>) -> Result<(Vec<String>, Vec<String>), StoreError> {
        let (mut unfinished, mut finished) = (Vec::new(), Vec::new());
        for folder in list(&self.directory.join(FOLDER))? {
            for file in list(&folder)? {
                let Ok(relative) = file.strip_prefix(&self.directory) else { continue };
                let relative = relative.to_string_lossy().into_owned();
                if relative.ends_with(".part") {
                    unfinished.push(relative);
                } else if !named.contains(&relative) {
                    finished.push(relative);
                }
            }
        }
        Ok((unfinished, finished))
    }
}

/// A name of one plain file: it cannot leave its folder.
fn check_name(name: &str) -> Result<&str, StoreError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let good = !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(plain);
    if good { Ok(name) } else { Err(StoreError::BadName { name: name.chars().take(100).collect() }) }
}

/// The entries of a folder, sorted; nothing for a folder that does not exist.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(StoreError::file("listing", folder, e)),
    };
    let paths = entries.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>();
    let mut paths = paths.map_err(|e| StoreError::file("listing", folder, e))?;
    paths.sort();
    Ok(paths)
}

/// Makes a folder (mode 0700) and those above it; each new one is synced into its parent.
pub fn make_folder(folder: &Path) -> Result<(), StoreError> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent().filter(|p| !p.as_os_str().is_empty()) {
        make_folder(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => sync_folder(folder.parent().unwrap_or(folder)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(StoreError::file("creating", folder, e)),
    }
}

/// Brings the names in a folder to disk.
pub fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| StoreError::file("syncing", folder, e))
}

/// A new file of mode 0600.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Writes `part` (mode 0600), brings it to disk, renames it to `path` and brings the name to disk.
pub fn write_synced(part: &Path, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let written = create(part).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(e) = written.and_then(|()| fs::rename(part, path)) {
        let _ = fs::remove_file(part);
        return Err(StoreError::file("writing", path, e));
    }
    sync_folder(path.parent().unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::Folder;

    #[test]
    fn a_file_is_read_as_written_or_refused() {
        let folder = Folder::new("spool");
        let spool = Spool::new(&folder.0);
        let file = spool.write("S000001", "labels.nii.gz", b"abc").unwrap();
        assert_eq!(file.path, "spool/S000001/labels-ba7816bf8f01cfea.nii.gz");
        assert_eq!(spool.write("S000001", "labels.nii.gz", b"abc").unwrap(), file);
        assert_eq!(spool.read(&file).unwrap(), b"abc");
        for damaged in [&b"abd"[..], b"ab", b"abcd", b""] {
            fs::write(folder.0.join(&file.path), damaged).unwrap();
            assert!(matches!(spool.read(&file), Err(StoreError::Damaged { .. })));
        }
        fs::remove_file(folder.0.join(&file.path)).unwrap();
        assert!(matches!(spool.read(&file), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn a_name_cannot_leave_its_folder() {
        let folder = Folder::new("spool-names");
        let spool = Spool::new(&folder.0);
        for name in ["", "..", "../x", "a/b", ".hidden", "a\0b", "ü"] {
            assert!(matches!(spool.write("S000001", name, b""), Err(StoreError::BadName { .. })), "{name:?}");
            assert!(matches!(spool.write(name, "a", b""), Err(StoreError::BadName { .. })), "{name:?}");
        }
        for path in ["/etc/passwd", "spool/../../x", "sled/db", "spool/./x/../../y"] {
            let file = SpoolFile { path: path.into(), sha256: String::new(), length: 0 };
            assert!(matches!(spool.read(&file), Err(StoreError::BadName { .. })), "{path}");
        }
    }

    #[test]
    fn orphans_are_told_apart() {
        let folder = Folder::new("orphans");
        let spool = Spool::new(&folder.0);
        let kept = spool.write("S000001", "a.dcm", b"1").unwrap();
        let orphan = spool.write("S000002", "b.dcm", b"2").unwrap();
        fs::write(folder.0.join("spool/S000001/c.dcm.7.part"), b"3").unwrap();
        let (unfinished, finished) = spool.orphans(&BTreeSet::from([kept.path])).unwrap();
        assert_eq!((unfinished, finished), (vec!["spool/S000001/c.dcm.7.part".to_string()], vec![orphan.path]));
    }
}
