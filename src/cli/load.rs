//! Reading what commands take: files, images, model packages.

use super::Failure;
use crate::Explain;
use crate::dicom;
use crate::risk::Nomogram;
use crate::segment::{Gate, Segmenter};
use crate::service::analysis;
use crate::volume::{self, Volume};
use std::collections::BTreeMap;
use std::ops::Range;
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

/// A segmenter: from a package folder, else the one in the binary.
pub fn load_segmenter(folder: Option<&Path>) -> Result<Segmenter, Failure> {
    Ok(analysis::load_segmenter(folder)?)
}

/// A nomogram: from a package folder, else the one in the binary.
pub fn load_nomogram(folder: Option<&Path>) -> Result<Nomogram, Failure> {
    Ok(analysis::load_nomogram(folder)?)
}

/// A CT as it was found.
pub struct Scan {
    /// The volume.
    pub volume: Volume,
    /// Its slices, where it came as DICOM.
    pub plan: Option<dicom::SeriesPlan>,
    /// Voxels where nothing was measured; empty for other formats.
    pub unmeasured: Vec<Range<usize>>,
    /// The verdict of the series rules; empty for other formats.
    pub verdict: Gate,
}

/// Why paths hold no CT.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// Nothing there.
    #[error("there is no file in {}", .0.display())]
    Empty(PathBuf),
    /// Files, but none of them readable as DICOM.
    #[error("none of the {n} files is usable DICOM; the first one: {first}")]
    NotDicom {
        /// How many were looked at.
        n: usize,
        /// What is wrong with the first.
        first: String,
        /// The code of that.
        code: &'static str,
    },
    /// Several series that could be analysed.
    #[error("{} series here could be analysed: {}", .0.len(), .0.join("; "))]
    Several(Vec<String>),
}

impl Explain for ScanError {
    fn code(&self) -> &'static str {
        match self {
            Self::Empty(_) => "input.empty",
            Self::NotDicom { code, .. } => code,
            Self::Several(_) => "input.several-series",
        }
    }
    fn advice(&self) -> &'static str {
        match self {
            Self::Empty(_) => "give a folder of DICOM files, or a NIfTI or NRRD file",
            Self::NotDicom { .. } => "give DICOM files of a CT series, or a NIfTI (.nii, .nii.gz) or NRRD file",
            Self::Several(_) => "give the files of one series only",
        }
    }
}

/// Files above this are no images of one patient.
const FILE_BYTES_MAX: u64 = 8 << 30;

/// Reads a CT from a NIfTI or NRRD file, or from DICOM files and folders.
pub fn load_scan(paths: &[PathBuf], progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Scan, Failure> {
    if let [path] = paths
        && path.is_file()
    {
        let bytes = read_bounded(path)?;
        let is_dicom = bytes.get(128..132) == Some(b"DICM") || dicom::parse_header(&bytes).is_ok();
        if !is_dicom {
            let volume = volume::decode_image(&bytes)?.to_volume()?;
            return Ok(Scan { volume, plan: None, unmeasured: Vec::new(), verdict: Gate::default() });
        }
    }
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    files.sort();
    if files.is_empty() {
        return Err(ScanError::Empty(paths.first().cloned().unwrap_or_default()).into());
    }
    load_dicom(&files, progress)
}

/// Only the volume of [`load_scan`].
pub fn load_image(path: &Path) -> Result<Volume, Failure> {
    Ok(load_scan(&[path.to_path_buf()], &|_, _| ())?.volume)
}

fn load_dicom(files: &[PathBuf], progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Scan, Failure> {
    let mut series: BTreeMap<String, (Vec<PathBuf>, Vec<dicom::Header>)> = BTreeMap::new();
    let mut refused = None;
    for file in files {
        match dicom::parse_header(&read_bounded(file)?) {
            Ok(header) => {
                let (paths, headers) = series.entry(header.series_instance_uid.as_str().to_string()).or_default();
                paths.push(file.clone());
                headers.push(header);
            }
            Err(error) => _ = refused.get_or_insert(error),
        }
    }
    if series.is_empty() {
        let (first, code) = refused.map_or((String::new(), "input.empty"), |e| (e.to_string(), e.code()));
        return Err(ScanError::NotDicom { n: files.len(), first, code }.into());
    }
    // The only series that can be made into a volume, if it is the only one; else the reason of the largest.
    let mut plans: Vec<_> =
        series.into_values().map(|(paths, headers)| (dicom::plan_series(&headers), paths)).collect();
    plans.sort_by_key(|(_, paths)| std::cmp::Reverse(paths.len()));
    let mut usable: Vec<_> = Vec::new();
    let mut reason = None;
    for (plan, paths) in plans {
        match plan {
            Ok(plan) => usable.push((plan, paths)),
            Err(error) => _ = reason.get_or_insert(error),
        }
    }
    if usable.iter().filter(|(p, _)| p.refusals.is_empty()).count() == 1 {
        usable.retain(|(p, _)| p.refusals.is_empty());
    }
    match usable.len() {
        0 => Err(reason.unwrap_or(dicom::SeriesError::Empty).into()),
        1 => {
            let (plan, paths) = usable.swap_remove(0);
            let load =
                |index: usize| std::fs::read(paths.get(index).ok_or_else(|| std::io::Error::other("no such slice"))?);
            let assembled = dicom::assemble_volume(&plan, &load, progress)?;
            let verdict = analysis::series_gate(&assembled.notes, &assembled.refusals);
            Ok(Scan { volume: assembled.volume, plan: Some(plan), unmeasured: assembled.unmeasured, verdict })
        }
        _ => {
            let name = |(p, _): &(dicom::SeriesPlan, Vec<PathBuf>)| {
                let kernel = p.slices.first().map_or("", |s| s.header.kernel.as_str());
                format!("{} slices, kernel {kernel}", p.slices.len())
            };
            Err(ScanError::Several(usable.iter().map(name).collect()).into())
        }
    }
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let read = |e| FileError::read(path, e);
    if !std::fs::metadata(path).map_err(read)?.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(read)? {
        let entry = entry.map_err(read)?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.') || entry.file_name() == "DICOMDIR";
        if !hidden && !entry.file_type().map_err(read)?.is_symlink() {
            collect(&entry.path(), files)?;
        }
    }
    Ok(())
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, Failure> {
    let length = std::fs::metadata(path).map_err(|e| FileError::read(path, e))?.len();
    if length > FILE_BYTES_MAX {
        return Err(FileError::read(path, std::io::Error::other("larger than 8 GiB")).into());
    }
    read_file(path)
}
