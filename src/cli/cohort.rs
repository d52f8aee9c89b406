//! `metwatch cohort`: fits, validates and reports a nomogram on a hospital's own tables.

use super::{Failure, progress_bar, read_file, write_file};
use crate::DISCLAIMER;
use crate::cohort::{self, EXAMPLE_SPEC, Fitted, Spec, Texts};
use std::path::{Path, PathBuf};

/// Arguments of `metwatch cohort`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Reduces features, fits clinical, radiomic and combined models, validates them, writes results.json and the package
    Fit(FitArgs),
}

#[derive(clap::Args)]
struct FitArgs {
    /// What the columns mean and which steps to take; its paths are relative to it
    #[arg(long, value_name = "SPEC.toml", required_unless_present = "example")]
    spec: Option<PathBuf>,
    /// Folder for results.json and package/
    #[arg(long, value_name = "DIR", required_unless_present = "example")]
    out: Option<PathBuf>,
    /// Prints results.json instead of a summary
    #[arg(long)]
    json: bool,
    /// The center whose measurements the box will make, where features were harmonized
    #[arg(long, value_name = "NAME")]
    box_center: Option<String>,
    /// Prints a commented specification to begin with
    #[arg(long, conflicts_with_all = ["spec", "out"])]
    example: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Fit(FitArgs { example: true, .. }) => {
            print!("{EXAMPLE_SPEC}");
            Ok(())
        }
        // clap requires both where no example is asked for.
        Command::Fit(FitArgs { spec: Some(spec), out: Some(out), json, box_center, .. }) => {
            fit(&spec, &out, json, box_center.as_deref())
        }
        Command::Fit(_) => Ok(()),
    }
}

fn fit(path: &Path, out: &Path, json: bool, box_center: Option<&str>) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(&read_file(path)?).into_owned();
    let spec = Spec::parse(&text)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let read = |name: &str| -> Result<String, Failure> {
        Ok(String::from_utf8_lossy(&read_file(&folder.join(name))?).into_owned())
    };
    let mut texts = Texts::new();
    for name in [&spec.files.clinical].into_iter().chain(&spec.files.features).chain(&spec.files.stability) {
        texts.insert(name.clone(), read(name)?);
    }
    let bar = progress_bar("cohort");
    let progress = |step: &'static str, share: f64| {
        bar.set_message(step);
        bar.set_position((share * 100.0) as u64);
    };
    let fitted = cohort::fit(&spec, &text, &texts, &progress)?;
    bar.finish_and_clear();
    let parameters = spec.files.parameters.as_deref().map(read).transpose()?;
    let package = cohort::package_files(&fitted, parameters.as_deref(), box_center)?;
    let results = serde_json::to_string_pretty(&fitted.results).expect("a struct of plain values always serializes") + "\n";
    write_file(&out.join("results.json"), results.as_bytes())?;
    for (name, bytes) in &package.files {
        write_file(&out.join("package").join(name), bytes)?;
    }
    if json {
        print!("{results}");
    } else {
        print_summary(&fitted);
    }
    package.notes.iter().for_each(|note| eprintln!("note on the package: {note}"));
    Ok(())
}

fn print_summary(fitted: &Fitted) {
    let results = &fitted.results;
    println!("{} ({DISCLAIMER})", results.title);
    for (step, n) in &results.features.steps {
        println!("  {step:<44}{n:>8}");
    }
    println!("{:<12}{:<14}{:>6}{:>8}  {:<24}{:<10}slope", "model", "part", "n", "events", "AUC (95 % limits)", "C");
    for row in &results.performance {
        let auc = row.auc.map_or("-".into(), |[auc, low, high]| format!("{auc:.3} ({low:.3} to {high:.3})"));
        let c = row.c_index.map_or("-".into(), |[c, _]| format!("{c:.3}"));
        let slope = row.calibration.as_ref().map_or("-".into(), |calibration| format!("{:.2}", calibration.slope));
        println!("{:<12}{:<14}{:>6}{:>8}  {auc:<24}{c:<10}{slope}", row.model, row.part, row.n, row.events);
    }
    results.warnings.iter().for_each(|warning| println!("warning: {warning}"));
}
