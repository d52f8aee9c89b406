//! `metwatch model quantize`.

use crate::cli::{Failure, FileError, load_image, progress_bar, read_file, write_file};
use crate::segment::quantize::{self, Calibration, Figures, QuantizeError, Range};
use crate::segment::{Package, Segmenter};
use crate::service::read_package;
use crate::{DISCLAIMER, Explain, volume};
use ndarray::Array3;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Makes an int8 package from an f32 one, and measures what that costs in Dice (demonstration, not for clinical use)
///
/// Each volume of a folder is a NIfTI or NRRD file, a folder of DICOM files, or a folder with ct.nii.gz. A label map named NAME_labels.nii.gz
/// beside NAME.nii.gz, or labels.nii.gz beside ct.nii.gz, with the package's values, counts as truth.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the f32 segmenter package
    #[arg(value_name = "PACKAGE")]
    package: PathBuf,
    /// Folder of volumes on which the ranges of activations are found; some eight, as different from each other as the patients
    #[arg(long, value_name = "DIR")]
    calibrate: PathBuf,
    /// Folder of volumes on which both packages are compared; without it, those of --calibrate
    #[arg(long, value_name = "DIR")]
    validate: Option<PathBuf>,
    /// Dice points (hundredths) that a label may lose; above, no package is written
    #[arg(long, value_name = "POINTS", default_value_t = 0.5, value_parser = points)]
    max_dice_loss: f64,
    /// How the range of an activation is chosen
    #[arg(long, value_enum, default_value = "mse")]
    range: RangeName,
    /// Folder of the int8 package; must be new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Prints the figures as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum RangeName {
    /// From the 0.01st to the 99.99th percentile
    Percentile,
    /// The one with the least mean squared error
    Mse,
}

fn points(text: &str) -> Result<f64, String> {
    let wrong = || "expected Dice points from 0 to 100".to_string();
    text.parse().ok().filter(|v| (0.0..=100.0).contains(v)).ok_or_else(wrong)
}

/// A place for the package that is taken.
#[derive(Debug, thiserror::Error)]
#[error("the folder {} is not empty", .0.display())]
struct Taken(PathBuf);

impl Explain for Taken {
    fn code(&self) -> &'static str {
        "quantize.out-taken"
    }
    fn advice(&self) -> &'static str {
        "name a new folder with --out"
    }
}

/// Quantizes, compares and writes.
pub fn run(args: Args) -> Result<(), Failure> {
    if std::fs::read_dir(&args.out).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Taken(args.out).into());
    }
    let parent = read_package(&args.package)?;
    let package = Package::from_files(parent.clone())?;
    let mut calibration = Calibration::new(&package)?;
    let to_calibrate = cases(&args.calibrate)?;
    let to_validate = args.validate.as_deref().map(cases).transpose()?.unwrap_or_else(|| to_calibrate.clone());
    if to_calibrate.len() > quantize::VOLUMES_MAX {
        return Err(QuantizeError::Volumes(to_calibrate.len()).into());
    }
    let bar = progress_bar("calibrating");
    bar.set_length((to_calibrate.len() + to_validate.len()) as u64);
    for case in &to_calibrate {
        calibration.add(&load_image(&case.image)?)?;
        bar.inc(1);
    }
    let range = match args.range {
        RangeName::Percentile => Range::Percentile,
        RangeName::Mse => Range::SquaredError,
    };
    let how = format!("{} over {} volumes, 7-bit activations", range.name(), to_calibrate.len());
    let made = quantize::package(&parent, calibration.finish(range)?, &how)?;
    let (before, after) = (Segmenter::load(package)?, Segmenter::load(Package::from_files(made.files.clone())?)?);
    bar.set_message("comparing");
    let mut figures = Figures::default();
    for case in &to_validate {
        let volume = load_image(&case.image)?;
        let labels_of = |segmenter: &Segmenter| Ok::<_, Failure>(segmenter.segment(&volume, &|_| ())?.labels.labels);
        let truth = case.truth.as_deref().map(read_labels).transpose()?;
        figures.add(&labels_of(&before)?, &labels_of(&after)?, truth.as_ref()).map_err(|e| at(e, &case.image))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let rows = figures.rows(before.scheme());
    if args.json {
        let row = |r: &quantize::Row| json!({ "label": r.label, "int8_vs_f32": r.against_f32, "f32_vs_truth": r.truth.map(|t| t[0]), "int8_vs_truth": r.truth.map(|t| t[1]) });
        let report = json!({
            "disclaimer": DISCLAIMER, "calibration": how, "volumes_compared": to_validate.len(),
            "convolutions_int8": made.convolutions[0], "convolutions_f32": made.convolutions[1],
            "dice": rows.iter().map(row).collect::<Vec<_>>(),
        });
        println!("{report:#}");
    } else {
        println!("{:<18} {:>12} {:>13} {:>13}", "Dice", "int8 to f32", "f32 to truth", "int8 to truth");
        let cell = |v: Option<f64>| v.map_or("-".into(), |v| format!("{v:.4}"));
        for r in &rows {
            let [f32_dice, int8_dice] = [0, 1].map(|k| cell(r.truth.map(|t| t[k])));
            println!("{:<18} {:>12} {f32_dice:>13} {int8_dice:>13}", r.label, cell(Some(r.against_f32)));
        }
    }
    quantize::judge(&rows, args.max_dice_loss)?;
    let mut files = made.files;
    quantize::add_metrics(&mut files, &quantize::metrics(&rows, to_validate.len()))?;
    for (name, bytes) in &files {
        write_file(&args.out.join(name), bytes)?;
    }
    if !args.json {
        let [int8, f32_count] = made.convolutions;
        println!("{}: {int8} convolutions in int8, {f32_count} in f32; {how} ({DISCLAIMER})", args.out.display());
    }
    Ok(())
}

/// Names the volume in an error that concerns one.
fn at(error: QuantizeError, image: &Path) -> QuantizeError {
    match error {
        QuantizeError::Truth(_) => QuantizeError::Truth(image.display().to_string()),
        other => other,
    }
}

fn read_labels(path: &Path) -> Result<Array3<u8>, Failure> {
    Ok(volume::decode_image(&read_file(path)?)?.to_labels()?)
}

/// A volume, and the label map beside it.
#[derive(Clone)]
struct Case {
    image: PathBuf,
    truth: Option<PathBuf>,
}

const ENDINGS: [&str; 3] = [".nii.gz", ".nii", ".nrrd"];

/// The volumes of a folder in the order of their names; a folder that is itself one volume counts as that.
fn cases(folder: &Path) -> Result<Vec<Case>, Failure> {
    if let Some(case) = case_folder(folder) {
        return Ok(vec![case]);
    }
    let entries = std::fs::read_dir(folder).map_err(|e| FileError::read(folder, e))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(|e| FileError::read(folder, e))?.path());
    }
    paths.sort();
    let mut found = Vec::new();
    for path in &paths {
        if path.is_dir() {
            found.push(case_folder(path).unwrap_or_else(|| Case { image: path.clone(), truth: None }));
        } else if let Some(stem) = image_stem(path)
            && !stem.ends_with("_labels")
        {
            let beside = ENDINGS.map(|ending| folder.join(format!("{stem}_labels{ending}")));
            found.push(Case { image: path.clone(), truth: beside.into_iter().find(|p| p.is_file()) });
        }
    }
    match (found.is_empty(), paths.is_empty()) {
        (true, true) => Err(QuantizeError::NoVolume.into()),
        // Neither images nor folders: the DICOM files of one series.
        (true, false) => Ok(vec![Case { image: folder.into(), truth: None }]),
        (false, _) => Ok(found),
    }
}

/// A folder as `metwatch phantom` writes it.
fn case_folder(folder: &Path) -> Option<Case> {
    let named = |name: &str| Some(folder.join(name)).filter(|p| p.is_file());
    Some(Case { image: named("ct.nii.gz")?, truth: named("labels.nii.gz") })
}

fn image_stem(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).map(str::to_string)
}
