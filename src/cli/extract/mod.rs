//! `metwatch extract`: radiomics of an image and a mask, or of a list of them; the command line of `pyradiomics`, flag for flag.

mod case;
mod inputs;
mod list;
mod log;
mod output;

use super::{Failure, read_file};
use crate::Explain;
use crate::radiomics::{Settings, ibsi, read_overrides};
use case::{Case, Outcome, Work};
use log::{Level, Log};
use output::{Format, PathStyle};
use rayon::prelude::*;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Arguments of `metwatch extract`.
#[derive(clap::Args)]
#[command(
    infer_long_args = true,
    version = concat!(env!("CARGO_PKG_VERSION"), " (as PyRadiomics 3.1.0)"),
    after_help = "Exit code: 0 done (also where cases failed: see stderr; with --json, 3 if the only case failed), \
                  1 input not recognized, 2 usage, 3 error."
)]
pub struct Args {
    /// Image (.nii, .nii.gz, .nrrd, a DICOM folder) or a list of cases (.csv with columns Image, Mask and, if wanted, Label,
    /// Label_channel, ROI and setting:NAME; paths relative to it, other columns are copied)
    #[arg(value_name = "IMAGE|LIST", required_unless_present = "batch")]
    input: Option<PathBuf>,
    /// Mask on the grid of the image: the same formats, a DICOM RT Structure Set or a DICOM Segmentation; ignored with a list
    #[arg(value_name = "MASK")]
    mask: Option<PathBuf>,
    /// A list of cases, whatever its name ends in
    #[arg(long, value_name = "LIST", conflicts_with = "input")]
    batch: Option<PathBuf>,
    /// Parameter file of PyRadiomics, YAML or JSON
    #[arg(long, short = 'p', visible_alias = "params", value_name = "FILE")]
    param: Option<PathBuf>,
    /// Whose definitions: those of PyRadiomics 3.1, or IBSI 1 with all its features (--param is then TOML, YAML or JSON with
    /// metwatch's own keys)
    #[arg(long, value_enum, default_value = "pyradiomics")]
    definitions: Definitions,
    /// One setting in place of the parameter file's; may be given several times, lists as NAME:1,2
    #[arg(long, short = 's', value_name = "NAME:VALUE")]
    setting: Vec<String>,
    /// Resamples a mask that lies on another grid to the image's, by nearest neighbor (setting correctMask)
    #[arg(long)]
    correct_mask: bool,
    /// Cases of a list computed at a time
    #[arg(long, short = 'j', default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// Only checks that the parameter file is valid and that the files of the cases exist
    #[arg(long)]
    validate: bool,
    /// Appends to this file instead of printing
    #[arg(long, short = 'o', value_name = "FILE")]
    out: Option<PathBuf>,
    /// Folder for one CSV per case, taken up again after an interruption; for maps with --mode voxel [short: -od]
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,
    /// Features of the region, or a map (NRRD) of each feature
    #[arg(long, short = 'm', value_enum, default_value = "segment")]
    mode: Mode,
    /// Leaves out features that are NaN
    #[arg(long)]
    skip_nans: bool,
    /// How to write; by default what the ending of --out says, else txt
    #[arg(long, short = 'f', value_enum)]
    format: Option<Format>,
    /// How the paths of images and masks are written
    #[arg(long, value_enum, default_value = "absolute")]
    format_path: PathStyle,
    /// Paths with / as separator, as they always are here [short: -up]
    #[arg(long)]
    unix_path: bool,
    /// One line of JSON per case: {"features": {...}}
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Label of the region in the mask; the ROI number in an RT Structure Set, the segment number in a Segmentation
    #[arg(long, short = 'l', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    label: Option<u32>,
    /// Name of the region in an RT Structure Set or a Segmentation
    #[arg(long, value_name = "NAME", conflicts_with = "label")]
    roi: Option<String>,
    /// Lowest level of what --log-file gets
    #[arg(long, value_enum, ignore_case = true, default_value = "warning", value_name = "LEVEL")]
    logging_level: Level,
    /// Appends the log to this file
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// 1 critical, 2 errors, 3 warnings, 4 information, 5 everything
    #[arg(long, short = 'v', num_args = 0..=1, default_value_t = 3, default_missing_value = "4",
          value_name = "1-5", value_parser = clap::value_parser!(u8).range(1..=5))]
    verbosity: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Definitions {
    #[value(name = "pyradiomics")]
    PyRadiomics,
    Ibsi,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    Segment,
    Voxel,
}

/// Why nothing was extracted at all.
#[derive(Debug, thiserror::Error)]
enum ExtractError {
    #[error("Input is not recognized as batch, no mask specified, cannot compute result!")]
    NoMask,
    #[error("Required column \"{0}\" not present in input, unable to extract features...")]
    Column(&'static str),
    #[error("the list holds no case")]
    NoCase,
    #[error("--setting and --mode voxel go with the definitions of PyRadiomics only")]
    OnlyPyRadiomics,
    #[error("no features were computed: see above")]
    Failed,
    #[error("the computing threads could not be started")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

impl Explain for ExtractError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoMask => "extract.no-mask",
            Self::Column(_) => "extract.column",
            Self::NoCase => "extract.no-case",
            Self::OnlyPyRadiomics => "extract.only-pyradiomics",
            Self::Failed => "extract.failed",
            Self::Threads(_) => "extract.threads",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::NoMask => "give an image and a mask, or a list of cases as .csv",
            Self::Column(_) => "give a CSV file whose header holds Image and Mask",
            Self::NoCase => "add a row with Image and Mask",
            Self::OnlyPyRadiomics => "write IBSI's settings into the file of --param",
            Self::Failed => "correct what the message above names",
            Self::Threads(_) => "choose fewer --jobs",
        }
    }
}

/// Two-letter short flags of `pyradiomics`, which no other command has, as the long ones that they stand for.
pub fn long_flags(arguments: impl Iterator<Item = std::ffi::OsString>) -> Vec<std::ffi::OsString> {
    let mut arguments: Vec<_> = arguments.collect();
    if arguments.get(1).is_some_and(|command| command == "extract") {
        for argument in arguments.iter_mut().skip(2) {
            match argument.to_str() {
                Some("-od") => *argument = "--out-dir".into(),
                Some("-up") => *argument = "--unix-path".into(),
                _ => {}
            }
        }
    }
    arguments
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let log = Log::new(args.verbosity, args.logging_level, args.log_file.as_deref())?;
    let list = args.batch.as_deref().or(args.input.as_deref().filter(|path| is_list(path)));
    let cases = match (list, &args.input, &args.mask) {
        (Some(list), _, _) => list::read(list, &log)?,
        (None, Some(image), Some(mask)) => vec![Case::single(image, mask)],
        _ => return Err(ExtractError::NoMask.into()),
    };
    let text = args.param.as_deref().map(read_file).transpose()?;
    let text = text.as_deref().map(String::from_utf8_lossy);
    if args.definitions == Definitions::Ibsi && (args.mode == Mode::Voxel || !args.setting.is_empty()) {
        return Err(ExtractError::OnlyPyRadiomics.into());
    }
    let ibsi = match (args.definitions, text.as_deref(), args.param.as_deref()) {
        (Definitions::PyRadiomics, ..) => None,
        (Definitions::Ibsi, None, _) => Some(ibsi::Settings::phantom()),
        (Definitions::Ibsi, Some(text), Some(path)) if path.extension().is_some_and(|e| e == "toml") => {
            Some(ibsi::Settings::from_toml(text).map_err(Failure::error)?)
        }
        (Definitions::Ibsi, Some(text), _) => Some(ibsi::Settings::from_yaml(text).map_err(Failure::error)?),
    };
    if args.validate {
        return validate(text.as_deref(), &cases, &log);
    }
    let mut texts = args.setting.clone();
    if let Some(label) = args.label {
        log.warning(
            "Argument \"label\" is deprecated. To specify a custom label, use argument \"setting\" as follows:\
             \"--setting=label:N\", where N is the a label value.",
        );
        texts.push(format!("label:{label}"));
    }
    if args.correct_mask {
        texts.push("correctMask:true".into());
    }
    let (overrides, warnings) = read_overrides(&texts);
    warnings.iter().for_each(|warning| log.warning(warning));
    // Said once, before the first case is read.
    if ibsi.is_none() {
        Settings::with_overrides(text.as_deref(), &overrides).map_err(Failure::error)?;
    }
    if cases.is_empty() {
        return Err(Failure::error(ExtractError::NoCase));
    }
    let work = Work {
        parameters: text.as_deref(),
        ibsi,
        overrides: &overrides,
        roi: args.roi.as_deref(),
        voxel: args.mode == Mode::Voxel,
        out_dir: args.out_dir.as_deref(),
        log: &log,
    };
    let outcomes = compute(&cases, usize::from(args.jobs), &work)?;
    let format = match args.format {
        Some(format) => format,
        None if args.json => Format::Lines,
        None => args.out.as_deref().map_or(Format::Txt, Format::of),
    };
    let start = list.and_then(Path::parent).unwrap_or(Path::new(""));
    output::write(&outcomes, format, args.format_path, args.skip_nans, start, args.out.as_deref())?;
    // A script that asks for JSON is ours, and learns it from the exit code too.
    match outcomes.as_slice() {
        [only] if args.json && only.failure.is_some() => Err(Failure::error(ExtractError::Failed)),
        _ => Ok(()),
    }
}

fn is_list(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "csv")
}

/// All cases, in their order whatever the number of jobs.
fn compute(cases: &[Case], jobs: usize, work: &Work) -> Result<Vec<Outcome>, Failure> {
    let began = work.begin(cases)?;
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(jobs.min(cases.len())).build().map_err(ExtractError::from)?;
    let bar = bar(cases.len() as u64);
    let said = Mutex::new(());
    let outcomes = pool.install(|| {
        let run = |(index, case): (usize, &Case)| {
            let outcome = work.run(index + 1, case, began);
            if let Some(reason) = &outcome.failure {
                let _whole_lines = said.lock();
                bar.suspend(|| work.log.error(&format!("Feature extraction failed! case {}: {reason}", index + 1)));
            }
            bar.inc(1);
            outcome
        };
        cases.par_iter().enumerate().map(run).collect()
    });
    bar.finish_and_clear();
    Ok(outcomes)
}

/// A bar with rate and time left for lists on a terminal.
fn bar(n_cases: u64) -> indicatif::ProgressBar {
    if n_cases < 2 || !std::io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let bar = indicatif::ProgressBar::new(n_cases);
    let template = "extract [{bar:40}] {pos}/{len} cases, {per_sec}, {eta} left";
    if let Ok(style) = indicatif::ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

fn validate(parameters: Option<&str>, cases: &[Case], log: &Log) -> Result<(), Failure> {
    if let Some(error) = parameters.and_then(|text| Settings::from_yaml(text).err()) {
        log.error(&format!("Parameter validation failed! {error}"));
    }
    let mut n_wrong = 0;
    for (index, case) in cases.iter().enumerate() {
        let missing: Vec<_> =
            [("Image", &case.image), ("Mask", &case.mask)].into_iter().filter(|(_, path)| !path.exists()).collect();
        for (what, _) in &missing {
            log.error(&format!("{what} path for case ({}/{}) does not exist!", index + 1, cases.len()));
        }
        n_wrong += usize::from(!missing.is_empty());
    }
    log.info(&format!("Validation complete, errors found in {n_wrong} case(s)"));
    Ok(())
}
