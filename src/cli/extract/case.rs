//! One case: an image, a mask, and what is asked of them.

use super::inputs;
use super::list::records;
use super::log::Log;
use super::output::csv;
use super::{Failure, read_file};
use crate::Explain;
use crate::cli::{FileError, write_file};
use crate::radiomics::{Extraction, Maps, Settings, Value, extract, extract_voxelwise, ibsi, read_overrides};
use crate::volume::encode_nrrd;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Names and values in the order of columns.
pub type Row = Vec<(String, Value)>;

/// One case of a list, or the only one.
pub struct Case {
    pub image: PathBuf,
    pub mask: PathBuf,
    pub label: Option<String>,
    pub label_channel: Option<String>,
    pub roi: Option<String>,
    /// `NAME:VALUE`, from columns `setting:NAME`.
    pub settings: Vec<String>,
    /// What stands before the features: every column of the list.
    pub columns: Row,
}

impl Case {
    /// An image and a mask named on the command line.
    pub fn single(image: &Path, mask: &Path) -> Case {
        let text = |path: &Path| Value::Text(path.display().to_string());
        Case {
            image: image.into(),
            mask: mask.into(),
            label: None,
            label_channel: None,
            roi: None,
            settings: Vec::new(),
            columns: vec![("Image".into(), text(image)), ("Mask".into(), text(mask))],
        }
    }
}

/// What became of a case; without features where it failed.
pub struct Outcome {
    pub row: Row,
    /// The first of the row's values, which are the columns of the list.
    pub n_columns: usize,
    pub failure: Option<String>,
}

/// What is the same for all cases.
pub struct Work<'a> {
    pub parameters: Option<&'a str>,
    /// For IBSI's definitions in place of PyRadiomics'.
    pub ibsi: Option<ibsi::Settings>,
    pub overrides: &'a [(String, Value)],
    pub roi: Option<&'a str>,
    pub voxel: bool,
    pub out_dir: Option<&'a Path>,
    pub log: &'a Log,
}

/// The settings that a folder of results was computed with.
const STAMP: &str = "settings.sha256";

impl Work<'_> {
    /// Makes the folder for results. `true` if results in it may be taken as they are.
    pub fn begin(&self, cases: &[Case]) -> Result<bool, Failure> {
        let Some(folder) = self.out_dir else { return Ok(false) };
        std::fs::create_dir_all(folder).map_err(|e| Failure::error(FileError::write(folder, e)))?;
        if self.voxel {
            return Ok(false);
        }
        let text = format!("{:?}\n{:?}\n{:?}\n{:?}", self.parameters, self.ibsi, self.overrides, self.roi);
        let stamp: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        // A folder of `pyradiomics` has no stamp; its results are taken, as `pyradiomics` would.
        let path = folder.join(STAMP);
        let fits = std::fs::read_to_string(&path).map_or(true, |old| old == stamp);
        if !fits && (1..=cases.len()).any(|number| self.kept(number).is_some_and(|path| path.exists())) {
            self.log.warning("the results in --out-dir were computed with other settings and are computed again");
        }
        std::fs::write(&path, stamp).map_err(|e| Failure::error(FileError::write(&path, e)))?;
        Ok(fits)
    }

    fn kept(&self, number: usize) -> Option<PathBuf> {
        self.out_dir.filter(|_| !self.voxel).map(|folder| folder.join(format!("features_{number}.csv")))
    }

    /// One case, from the folder of results where it is there already. A failure is told in the outcome.
    pub fn run(&self, number: usize, case: &Case, reuse: bool) -> Outcome {
        let n_columns = case.columns.len();
        let kept = self.kept(number);
        if let Some(row) = kept.as_deref().filter(|_| reuse).and_then(|path| restore(path, case)) {
            self.log.info(&format!("Case {number} was there already"));
            return Outcome { row, n_columns, failure: None };
        }
        self.log.info(&format!("Processing case {number}"));
        let mut row = case.columns.clone();
        let failure = match self.extract(number, case) {
            Ok(entries) => {
                row.extend(entries);
                kept.and_then(|path| keep(&path, &row).err().map(|failure| failure.to_string()))
            }
            Err(failure) => Some(failure.to_string()),
        };
        Outcome { row, n_columns, failure }
    }

    fn extract(&self, number: usize, case: &Case) -> Result<Row, Failure> {
        let (own, warnings) = read_overrides(&case.settings);
        warnings.iter().for_each(|warning| self.log.warning(&format!("case {number}: {warning}")));
        let mut overrides = self.overrides.to_vec();
        overrides.retain(|(name, _)| own.iter().all(|(other, _)| other != name));
        overrides.extend(own);
        let parameters = self.parameters.filter(|_| self.ibsi.is_none());
        let mut settings = Settings::with_overrides(parameters, &overrides)?;
        if let Some(text) = &case.label {
            let label = text.trim().parse().ok().filter(|label| *label > 0);
            settings = settings.with_label(label.ok_or_else(|| CaseError::Label(text.clone()))?);
        }
        if let Some(text) = &case.label_channel {
            settings.label_channel = text.trim().parse().map_err(|_| CaseError::Channel(text.clone()))?;
        }
        let channel = settings.label_channel;
        let (source, mask) = rayon::join(|| inputs::image(&case.image), || inputs::MaskFile::read(&case.mask, channel));
        let (source, mask) = (source?, mask?);
        let roi = case.roi.as_deref().or(self.roi);
        // In a mask of named regions, label 1 without anyone having said so means nothing.
        let said = settings.label != 1 || overrides.iter().any(|(name, _)| name == "label");
        let chosen = case.label.is_some() || said;
        let (mask, settings) = inputs::mask(mask, &source, settings, roi, chosen)?;
        let image = source.image;
        if let Some(own) = &self.ibsi {
            // The row's label, else that of IBSI's own settings.
            let label = if case.label.is_some() || settings.label != 1 { settings.label } else { own.label };
            let table = ibsi::extract(&image, &mask, &ibsi::Settings { label, ..own.clone() })?;
            return Ok(table.rows.into_iter().map(|row| (row.tag, Value::Float(row.value))).collect());
        }
        if self.voxel {
            return self.maps(number, &extract_voxelwise(&image, &mask, &settings)?);
        }
        let extraction = extract(&image, &mask, &settings)?;
        self.warn(number, &extraction.warnings);
        Ok(entries(&extraction))
    }

    /// Writes the maps of a case; the row names their files, as `pyradiomics` does.
    fn maps(&self, number: usize, found: &Maps) -> Result<Row, Failure> {
        self.warn(number, &found.warnings);
        let folder = self.out_dir.unwrap_or(Path::new("."));
        let mut row = found.diagnostics.entries.clone();
        for map in &found.maps {
            let path = folder.join(format!("Case-{number}_{}.nrrd", map.name));
            write_file(&path, &encode_nrrd(&map.image)?)?;
            row.push((map.name.clone(), Value::Text(path.display().to_string())));
        }
        Ok(row)
    }

    fn warn(&self, number: usize, warnings: &[String]) {
        warnings.iter().for_each(|warning| self.log.warning(&format!("case {number}: {warning}")));
    }
}

/// What is wrong with the row of a case.
#[derive(Debug, thiserror::Error)]
enum CaseError {
    #[error("\"{0}\" in the column Label is not a label")]
    Label(String),
    #[error("\"{0}\" in the column Label_channel is not a channel")]
    Channel(String),
}

impl Explain for CaseError {
    fn code(&self) -> &'static str {
        "extract.case"
    }
    fn advice(&self) -> &'static str {
        "write a whole number, from 1 for labels and from 0 for channels, or leave the column out"
    }
}

/// Diagnostics first, then features.
fn entries(extraction: &Extraction) -> Row {
    let feature = |name: &str, value: f64| {
        // PyRadiomics gives the integer 1 for the maximal correlation of one gray level.
        if value == 1.0 && name.ends_with("_glcm_MCC") { Value::Int(1) } else { Value::Float(value) }
    };
    let features = extraction.features.rows.iter().map(|row| (row.name.clone(), feature(&row.name, row.value)));
    extraction.diagnostics.entries.iter().cloned().chain(features).collect()
}

/// Written aside first, so that an interruption leaves no half row.
fn keep(path: &Path, row: &Row) -> Result<(), Failure> {
    let part = path.with_extension("part");
    write_file(&part, csv([row].into_iter()).as_bytes())?;
    Ok(std::fs::rename(&part, path).map_err(|e| FileError::write(path, e))?)
}

/// The row that was kept of this case; `None` if it is of another one or without features.
fn restore(path: &Path, case: &Case) -> Option<Row> {
    let text = String::from_utf8(read_file(path).ok()?).ok()?;
    let [header, cells] = records(&text).try_into().ok()?;
    let row: Row = header
        .into_iter()
        .zip(cells)
        .enumerate()
        .map(|(at, (name, cell))| {
            let number =
                if at < case.columns.len() || name.starts_with("diagnostics_") { None } else { cell.parse().ok() };
            (name, number.map_or(Value::Text(cell), Value::Float))
        })
        .collect();
    let same = case.columns.iter().zip(&row).all(|(a, b)| a.0 == b.0 && cell_text(&a.1) == cell_text(&b.1));
    (row.len() > case.columns.len() && same).then_some(row)
}

/// What stands in a CSV cell.
pub fn cell_text(value: &Value) -> String {
    if *value == Value::Null { String::new() } else { value.to_python() }
}
