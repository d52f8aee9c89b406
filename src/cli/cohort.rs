//! `metwatch cohort`: from a table of features, clinical values and outcomes to a validated nomogram; evaluation and reliability.

use super::{Failure, load_nomogram, progress_bar, read_file, write_file};
use crate::cohort::{self, CohortError, EvaluationSpec, Spec, Texts};
use rayon::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Arguments of `metwatch cohort`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Fits and validates the models, writes results.json, report.html and the nomogram package
    Fit(FitArgs),
    /// Applies an existing package to new patients; recalibration is offered, never applied
    Evaluate(EvaluateArgs),
    /// ICC and Bland-Altman of repeated measurements
    Reliability(ReliabilityArgs),
    /// Makes a package of a published equation, marked external and unvalidated here
    Import(ImportArgs),
}

#[derive(clap::Args)]
struct FitArgs {
    /// Specification (TOML); the tables it names are relative to it
    #[arg(long, value_name = "SPEC.toml", required_unless_present = "example")]
    spec: Option<PathBuf>,
    /// Folder to write to
    #[arg(long, value_name = "DIR", required_unless_present = "example")]
    out: Option<PathBuf>,
    /// Center whose package is written, where features were harmonized by ComBat
    #[arg(long, value_name = "CENTER")]
    center: Option<String>,
    /// Writes every figure as SVG and PNG too, below DIR/figures
    #[arg(long)]
    figures: bool,
    /// Prints a specification with every key explained, and ends
    #[arg(long, exclusive = true)]
    example: bool,
    /// Prints a summary as JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct EvaluateArgs {
    /// Folder of the nomogram package
    #[arg(long, value_name = "DIR")]
    nomogram: PathBuf,
    /// Where the new patients are (TOML: clinical, features, id, event, time, values)
    #[arg(long, value_name = "SPEC.toml")]
    spec: PathBuf,
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Prints the evaluation as JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct ReliabilityArgs {
    /// Feature tables, one for each measurement
    #[arg(required = true, num_args = 2..)]
    tables: Vec<PathBuf>,
    /// Column of the patient
    #[arg(long, default_value = "patient_id")]
    id: String,
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Prints the table as JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct ImportArgs {
    /// The equation (TOML: terms, transform, cut_off, coefficient or odds_ratio, doi)
    equation: PathBuf,
    /// Folder of the package
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs one of the commands.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Fit(args) => fit(args),
        Command::Evaluate(args) => evaluate(args),
        Command::Reliability(args) => reliability(args),
        Command::Import(args) => import(args),
    }
}

fn text_of(path: &Path) -> Result<String, Failure> {
    Ok(String::from_utf8_lossy(&read_file(path)?).into_owned())
}

/// The tables that a specification names, relative to it.
fn tables<'a>(spec: &Path, names: impl Iterator<Item = &'a String>) -> Result<Texts, Failure> {
    let folder = spec.parent().unwrap_or(Path::new("."));
    names.map(|name| Ok((name.clone(), text_of(&folder.join(name))?))).collect()
}

fn write_package(folder: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<(), Failure> {
    for (name, bytes) in files {
        write_file(&folder.join(name), bytes)?;
    }
    Ok(())
}

fn fit(args: FitArgs) -> Result<(), Failure> {
    let (Some(path), Some(out)) = (&args.spec, &args.out) else {
        print!("{}", cohort::EXAMPLE_SPEC);
        return Ok(());
    };
    let text = text_of(path)?;
    let spec = Spec::parse(&text)?;
    let files = &spec.files;
    let texts = tables(path, std::iter::once(&files.clinical).chain(&files.features).chain(&files.stability))?;
    let parameters = match &files.parameters {
        Some(name) => Some(text_of(&path.parent().unwrap_or(Path::new(".")).join(name))?),
        None => None,
    };
    let bar = progress_bar("cohort");
    let step = Mutex::new("");
    let progress = |name: &'static str, share: f64| {
        if let Ok(mut before) = step.lock()
            && *before != name
        {
            *before = name;
            bar.set_message(name);
        }
        bar.set_position((share * 100.0) as u64);
    };
    let fitted = cohort::fit(&spec, &text, &texts, &progress)?;
    bar.finish_and_clear();
    let mut fitted = fitted;
    let package = match cohort::package_files(&fitted, parameters.as_deref(), args.center.as_deref()) {
        Ok(package) => {
            write_package(&out.join("nomogram"), &package.files)?;
            fitted.results.warnings.extend(package.notes);
            true
        }
        // A model that the box cannot use is still a result: the report says why there is no package.
        Err(error @ (CohortError::TooLittle { .. } | CohortError::Spec { .. })) => {
            fitted.results.warnings.push(format!("No nomogram package was written: {error}"));
            false
        }
        Err(error) => return Err(error.into()),
    };
    let results = serde_json::to_string_pretty(&fitted.results).unwrap_or_default();
    write_file(&out.join("results.json"), results.as_bytes())?;
    write_file(&out.join("report.html"), cohort::report_html(&fitted).as_bytes())?;
    if let Some(figure) = fitted.nomogram_figure() {
        write_figure(&out.join("nomogram"), &figure)?;
    }
    if args.figures {
        let figures = fitted.figures();
        figures.par_iter().try_for_each(|(name, figure)| write_figure(&out.join("figures").join(name), figure))?;
    }
    print_fit(&fitted, out, package, args.json);
    Ok(())
}

/// `at` with the endings svg and png.
fn write_figure(at: &Path, figure: &cohort::Figure) -> Result<(), Failure> {
    write_file(&at.with_extension("svg"), figure.drawing.svg().as_bytes())?;
    match cohort::png(&figure.drawing) {
        Some(png) => Ok(write_file(&at.with_extension("png"), &png)?),
        None => Ok(()),
    }
}

fn print_fit(fitted: &cohort::Fitted, out: &Path, package: bool, as_json: bool) {
    let r = &fitted.results;
    let main = r.models.last().map_or("", |m| m.name.as_str());
    let performance = || r.performance.iter().filter(|p| p.model == main);
    if as_json {
        println!(
            "{:#}",
            json!({"schema": "metwatch.cohort-summary/1", "disclaimer": crate::DISCLAIMER, "model": main, "out": out.display().to_string(),
                "package": package, "performance": performance().collect::<Vec<_>>(), "warnings": r.warnings})
        );
        return;
    }
    let measure = fitted.procedure.main().map_or("AUC", |m| m.scale.measure());
    println!("{main} model ({})", crate::DISCLAIMER);
    let out_of = |(why, n): &(String, usize)| format!("{n} {why}");
    if !r.flow.excluded.is_empty() {
        let reasons: Vec<String> = r.flow.excluded.iter().map(out_of).collect();
        println!("  left out of {} patients: {}", r.flow.in_clinical_table, reasons.join(", "));
    }
    for p in performance() {
        let found = p.discrimination().map_or("-".into(), |a| format!("{:.3} ({:.3} to {:.3})", a[0], a[1], a[2]));
        let slope = p.slope().map_or("-".into(), |slope| format!("{slope:.2}"));
        println!("  {:<14} n {:>5}  events {:>4}  {measure} {found}  slope {slope}", p.part, p.n, p.events);
    }
    for warning in &r.warnings {
        println!("  ! {warning}");
    }
    println!("written: {}", out.display());
}

fn evaluate(args: EvaluateArgs) -> Result<(), Failure> {
    let nomogram = load_nomogram(Some(&args.nomogram))?;
    let spec = EvaluationSpec::parse(&text_of(&args.spec)?)?;
    let texts = tables(&args.spec, std::iter::once(&spec.clinical).chain(&spec.features))?;
    let (evaluation, html) = cohort::evaluate(&nomogram, &spec, &texts)?;
    let text = serde_json::to_string_pretty(&evaluation).unwrap_or_default();
    write_file(&args.out.join("evaluation.json"), text.as_bytes())?;
    write_file(&args.out.join("evaluation.html"), html.as_bytes())?;
    if args.json {
        println!("{text}");
    } else {
        let measure = if evaluation.performance.auc.is_some() { "AUC" } else { "C-index" };
        let found = evaluation.performance.discrimination();
        let found = found.map_or("-".into(), |a| format!("{:.3} ({:.3} to {:.3})", a[0], a[1], a[2]));
        println!(
            "{}: {} of {} patients assessed, {measure} {found} ({})",
            evaluation.nomogram,
            evaluation.assessed,
            evaluation.rows,
            crate::DISCLAIMER
        );
        if let Some(r) = &evaluation.recalibration {
            println!("  offered, not applied: intercept {:+.3}, slope {:.3}", r.intercept, r.slope);
        }
    }
    Ok(())
}

fn reliability(args: ReliabilityArgs) -> Result<(), Failure> {
    let mut texts = Texts::new();
    let mut order = Vec::new();
    for path in &args.tables {
        let name = path.display().to_string();
        texts.insert(name.clone(), text_of(path)?);
        order.push(name);
    }
    let found = cohort::reliability(&texts, &order, &args.id)?;
    let text = serde_json::to_string_pretty(&found).unwrap_or_default();
    write_file(&args.out.join("reliability.json"), text.as_bytes())?;
    write_file(&args.out.join("reliability.html"), cohort::reliability_html(&found).as_bytes())?;
    if args.json {
        println!("{text}");
    } else {
        let stable = found.features.iter().filter(|f| f.icc2[0] >= 0.75).count();
        println!(
            "{} patients, {} measurements: {stable} of {} features with ICC(2,1) of 0.75 or more",
            found.patients,
            found.measurements,
            found.features.len()
        );
    }
    Ok(())
}

fn import(args: ImportArgs) -> Result<(), Failure> {
    let files = cohort::import_equation(&text_of(&args.equation)?)?;
    write_package(&args.out, &files)?;
    println!("{}: {}", args.out.display(), cohort::EXTERNAL);
    Ok(())
}
