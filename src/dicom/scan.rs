//! Headers of many files, without their pixels.

use super::header::{parse_beginning, parse_header};
use super::walker::OBJECT_BYTES_MAX;
use super::{DicomError, Header};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

/// The header of a CT slice ends well before this.
const BEGINNING_BYTES: usize = 16 << 10;

/// The headers of files, in their order, read in parallel. Pixels are not read, and `content_sha256` is known only
/// where a SOP Instance UID repeats, so that it can be told whether the same object came twice.
pub fn scan_headers(files: &[PathBuf]) -> Vec<Result<Header, DicomError>> {
    let mut headers: Vec<_> = files.par_iter().map(|file| scan(file)).collect();
    let mut by_uid: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, header) in headers.iter().enumerate() {
        if let Ok(header) = header {
            by_uid.entry(header.sop_instance_uid.as_str()).or_default().push(index);
        }
    }
    let repeated: Vec<usize> = by_uid.into_values().filter(|same| same.len() > 1).flatten().collect();
    for index in repeated {
        headers[index] = read_whole(&files[index]);
    }
    headers
}

fn scan(path: &Path) -> Result<Header, DicomError> {
    let unreadable = |e: io::Error| DicomError::Unreadable(e.kind());
    let mut file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    if length > OBJECT_BYTES_MAX as u64 {
        return Err(DicomError::TooLarge { limit_mb: OBJECT_BYTES_MAX >> 20 });
    }
    let mut bytes = vec![0; BEGINNING_BYTES.min(length as usize)];
    file.read_exact(&mut bytes).map_err(unreadable)?;
    if let Some(header) = parse_beginning(&bytes, length as usize) {
        return Ok(header);
    }
    file.rewind().map_err(unreadable)?;
    bytes.clear();
    file.take(OBJECT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    parse_header(&bytes)
}

fn read_whole(path: &Path) -> Result<Header, DicomError> {
    parse_header(&std::fs::read(path).map_err(|e| DicomError::Unreadable(e.kind()))?)
}

/// The files of a folder and of the folders in it, sorted; hidden files, DICOMDIRs and links are left out. A file is
/// itself.
pub fn find_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    collect(path, &mut files)?;
    files.sort();
    Ok(files)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !std::fs::metadata(path)?.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.') || entry.file_name() == "DICOMDIR";
        if !hidden && !entry.file_type()?.is_symlink() {
            collect(&entry.path(), files)?;
        }
    }
    Ok(())
}
