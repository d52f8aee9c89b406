//! Reading what commands take: files, images, model packages.

use super::Failure;
use crate::Explain;
use crate::dicom;
use crate::risk::Nomogram;
use crate::segment::{Backend, Gate, Segmenter};
use crate::service::{Config, analysis};
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

/// A segmenter: from a package folder, or one in the binary by name; the first of these where nothing is asked for.
pub fn load_segmenter(asked: Option<&Path>) -> Result<Segmenter, Failure> {
    load_segmenter_on(asked, None)
}

/// The same on the backend that is wanted.
pub fn load_segmenter_on(asked: Option<&Path>, wanted: Option<Backend>) -> Result<Segmenter, Failure> {
    Ok(analysis::load_segmenter(asked, wanted)?)
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
    #[error("{n} series here could be made into a volume: {sentence}")]
    Several {
        /// How many.
        n: usize,
        /// Why none of them was chosen.
        sentence: String,
    },
}

impl Explain for ScanError {
    fn code(&self) -> &'static str {
        match self {
            Self::Empty(_) => "input.empty",
            Self::NotDicom { code, .. } => code,
            Self::Several { .. } => "input.several-series",
        }
    }
    fn advice(&self) -> &'static str {
        match self {
            Self::Empty(_) => "give a folder of DICOM files, or a NIfTI or NRRD file",
            Self::NotDicom { .. } => "give DICOM files of a CT series, or a NIfTI (.nii, .nii.gz) or NRRD file",
            Self::Several { .. } => {
                "give the files of one series, or choose by [[series.choose]] (--config); `metwatch series explain` lists them"
            }
        }
    }
}

/// Files above this are no images of one patient.
const FILE_BYTES_MAX: u64 = 8 << 30;

/// Reads a CT from a NIfTI or NRRD file, or from DICOM files and folders; of several series the one that `rules` choose.
pub fn load_scan(
    paths: &[PathBuf],
    rules: &dicom::SeriesRules,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Scan, Failure> {
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
    load_dicom(&find_files(paths)?, rules, progress)
}

/// Only the volume of [`load_scan`].
pub fn load_image(path: &Path) -> Result<Volume, Failure> {
    Ok(load_scan(&[path.to_path_buf()], &dicom::SeriesRules::default(), &|_, _| ())?.volume)
}

fn load_dicom(
    files: &[PathBuf],
    rules: &dicom::SeriesRules,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Scan, Failure> {
    let found = find_series(files, rules);
    if found.series.is_empty() {
        let first = found.refused.first().map(|(_, error)| error);
        let (sentence, code) = first.map_or((String::new(), "input.empty"), |e| (e.to_string(), e.code()));
        return Err(ScanError::NotDicom { n: files.len(), first: sentence, code }.into());
    }
    let usable: Vec<(&FoundSeries, &dicom::SeriesPlan)> =
        found.series.iter().filter_map(|s| Some((s, s.judgment.plan.as_ref().ok()?))).collect();
    let acceptable: Vec<_> = usable.iter().copied().filter(|(_, plan)| plan.refusals.is_empty()).collect();
    let candidates: Vec<_> = acceptable.iter().filter_map(|(s, _)| s.candidate()).collect();
    let chosen = match (dicom::choose_series(&candidates, rules), &usable[..]) {
        (dicom::Choice { index: Some(index), .. }, _) => acceptable[index],
        // A volume that must not be analyzed is still one: labels are made, a risk is not.
        (_, [only]) => *only,
        (choice, [_, _, ..]) => {
            return Err(ScanError::Several { sentence: choice.sentence, n: usable.len() }.into());
        }
        // The reason of the largest series.
        (_, []) => {
            let error = found.series.iter().find_map(|s| s.judgment.plan.as_ref().err());
            return Err(error.cloned().unwrap_or(dicom::SeriesError::Empty).into());
        }
    };
    chosen.0.assemble(chosen.1, progress)
}

/// A series among files.
pub struct FoundSeries {
    /// Its files.
    pub files: Vec<PathBuf>,
    /// Their headers.
    pub headers: Vec<dicom::Header>,
    /// What the series rules say.
    pub judgment: dicom::Judgment,
}

/// Everything among files.
pub struct Found {
    /// Series, those with the most files first.
    pub series: Vec<FoundSeries>,
    /// Files that are not DICOM, or damaged.
    pub refused: Vec<(PathBuf, dicom::DicomError)>,
}

impl FoundSeries {
    /// As the choice among the series of a study sees it, if it is acceptable.
    pub fn candidate(&self) -> Option<dicom::Candidate<'_>> {
        self.judgment.plan.as_ref().ok().and_then(dicom::Candidate::of)
    }

    /// Makes the volume of a plan of it.
    pub fn assemble(
        &self,
        plan: &dicom::SeriesPlan,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Scan, Failure> {
        let load =
            |index: usize| std::fs::read(self.files.get(index).ok_or_else(|| std::io::Error::other("no such slice"))?);
        let assembled = dicom::assemble_volume(plan, &decoder()?, &load, progress)?;
        let verdict = analysis::series_gate(&assembled.notes, &assembled.refusals);
        let (volume, unmeasured) = (assembled.volume, assembled.unmeasured);
        Ok(Scan { volume, plan: Some(plan.clone()), unmeasured, verdict })
    }
}

/// The series rules of a configuration; without one the default rules.
pub fn load_rules(config: Option<&Path>) -> Result<dicom::SeriesRules, Failure> {
    Ok(config.map(Config::read).transpose()?.map_or_else(dicom::SeriesRules::default, |config| config.series))
}

/// The decoder of a command: processes of this program.
pub fn decoder() -> Result<dicom::Decoder, Failure> {
    let named = dicom::Decoder::of_this_program();
    Ok(named.map_err(|e| FileError::read(Path::new("the program itself"), e))?)
}

/// Sorts files into series and judges each.
pub fn find_series(files: &[PathBuf], rules: &dicom::SeriesRules) -> Found {
    let mut found = Found { series: Vec::new(), refused: Vec::new() };
    let mut groups: BTreeMap<[String; 2], (Vec<PathBuf>, Vec<dicom::Header>)> = BTreeMap::new();
    for (file, header) in files.iter().zip(dicom::scan_headers(files)) {
        match header {
            Ok(header) => {
                let uids = [&header.study_instance_uid, &header.series_instance_uid];
                let (files, headers) = groups.entry(uids.map(|uid| uid.as_str().to_string())).or_default();
                files.push(file.clone());
                headers.push(header);
            }
            Err(error) => found.refused.push((file.clone(), error)),
        }
    }
    found.series = groups
        .into_values()
        .map(|(files, headers)| FoundSeries { judgment: dicom::judge_series(&headers, rules), files, headers })
        .collect();
    found.series.sort_by_key(|series| std::cmp::Reverse(series.files.len()));
    found
}

/// Every file below paths, sorted.
pub fn find_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        files.extend(dicom::find_files(path).map_err(|e| FileError::read(path, e))?);
    }
    files.sort();
    files.dedup();
    if files.is_empty() {
        return Err(ScanError::Empty(paths.first().cloned().unwrap_or_default()).into());
    }
    Ok(files)
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, Failure> {
    let length = std::fs::metadata(path).map_err(|e| FileError::read(path, e))?.len();
    if length > FILE_BYTES_MAX {
        return Err(FileError::read(path, std::io::Error::other("larger than 8 GiB")).into());
    }
    read_file(path)
}
