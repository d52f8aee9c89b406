//! Files that survive a loss of power: written aside, synced, renamed, and the folder synced.

use super::UpdateError;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Left free on the disk for the service itself.
const RESERVE_BYTES: u64 = 16 << 20;

/// Makes a folder and those above it, for nobody but its user.
pub fn make_folder(path: &Path) -> Result<(), UpdateError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| UpdateError::io("making", path, e))
}

/// What was created, renamed or removed in a folder is on disk when this returns.
pub fn sync_folder(path: &Path) -> Result<(), UpdateError> {
    File::open(path).and_then(|f| f.sync_all()).map_err(|e| UpdateError::io("syncing", path, e))
}

/// Replaces a file whole: after a crash it is the old or the new one. `mode` as in chmod.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), UpdateError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = folder.join(format!(".{name}.part"));
    let _ = fs::remove_file(&part);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&part)
        .and_then(|mut f| f.write_all(bytes).and_then(|()| f.sync_all()))
        .and_then(|()| fs::rename(&part, path));
    written.map_err(|e| {
        let _ = fs::remove_file(&part);
        UpdateError::io("writing", path, e)
    })?;
    sync_folder(folder)
}

/// The bytes of a plain file of at most `limit` bytes; `None` where it is not there.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, UpdateError> {
    let error = |e| UpdateError::io("reading", path, e);
    let file = match open_plain(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(error(e)),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(error)?;
    if bytes.len() as u64 > limit {
        return Err(UpdateError::TooLarge { what: format!("{} is larger than {limit} bytes", path.display()) });
    }
    Ok(Some(bytes))
}

/// Opens a plain file; a pipe or device on a stick, which could block for ever, is refused.
pub fn open_plain(path: &Path) -> std::io::Result<File> {
    let file =
        OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(std::io::Error::other("it is no plain file")) }
}

/// Removes a folder with everything in it; it is fine if it is not there.
pub fn remove_folder(path: &Path) -> Result<(), UpdateError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(UpdateError::io("removing", path, e)),
        _ => Ok(()),
    }
}

/// Refuses what would fill the disk of `folder`.
pub fn require_space(folder: &Path, bytes: u64) -> Result<(), UpdateError> {
    let stat = rustix::fs::statvfs(folder).map_err(|e| UpdateError::io("measuring the disk of", folder, e.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let needed = bytes.saturating_add(RESERVE_BYTES);
    if free < needed {
        let (needed_mib, free_mib) = (needed.div_ceil(1 << 20), free >> 20);
        return Err(UpdateError::NoSpace { path: folder.into(), needed_mib, free_mib });
    }
    Ok(())
}
