//! `metwatch extract`: radiomics of an image and a mask, or of a list of them, in PyRadiomics' columns.

use super::{Failure, read_file, write_file};
use crate::Explain;
use crate::radiomics::{Extraction, Settings, Value, extract};
use crate::volume::{Image, decode_image};
use rayon::prelude::*;
use serde_json::{Map, Value as Json};
use std::path::{Path, PathBuf};

/// Arguments of `metwatch extract`.
#[derive(clap::Args)]
pub struct Args {
    /// Image: .nii, .nii.gz or .nrrd
    #[arg(required_unless_present = "batch", requires = "mask")]
    image: Option<PathBuf>,
    /// Mask on the grid of the image
    #[arg(required_unless_present = "batch")]
    mask: Option<PathBuf>,
    /// Label of the region in the mask; by default that of the parameter file, or 1
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    label: Option<u32>,
    /// PyRadiomics parameter file, YAML or JSON
    #[arg(long, visible_alias = "param", value_name = "FILE")]
    params: Option<PathBuf>,
    /// Where to write: .csv or .json by the ending
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
    /// CSV with the columns Image, Mask and, if wanted, Label; paths are relative to it, other columns are copied
    #[arg(long, value_name = "LIST.csv", conflicts_with_all = ["image", "mask"])]
    batch: Option<PathBuf>,
    /// Cases computed at a time with --batch
    #[arg(long, default_value_t = 1, requires = "batch", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
}

/// What is wrong with a list of cases, or with the place to write to.
#[derive(Debug, thiserror::Error)]
enum ExtractError {
    #[error("{} is not a list of cases: {what}", path.display())]
    List { path: PathBuf, what: String },
    #[error("row {row} of the list: {what}")]
    Case { row: usize, what: String },
    #[error("{} ends neither in .csv nor in .json", .0.display())]
    Ending(PathBuf),
    #[error("the computing threads could not be started")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

impl Explain for ExtractError {
    fn code(&self) -> &'static str {
        match self {
            Self::List { .. } => "extract.list",
            Self::Case { .. } => "extract.case",
            Self::Ending(_) => "extract.ending",
            Self::Threads(_) => "extract.threads",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::List { .. } => "give a CSV file with a header that holds Image and Mask",
            Self::Case { .. } => "correct the row",
            Self::Ending(_) => "choose --out with the ending .csv or .json",
            Self::Threads(_) => "choose fewer --jobs",
        }
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let format = args.out.as_deref().map(Format::of).transpose()?;
    let settings = match &args.params {
        Some(path) => Settings::from_yaml(&String::from_utf8_lossy(&read_file(path)?))?,
        None => Settings::default(),
    };
    let settings = args.label.map_or(settings.clone(), |label| settings.with_label(label));
    let rows = match (&args.batch, &args.image, &args.mask) {
        (Some(list), _, _) => batch(list, &settings, usize::from(args.jobs))?,
        (None, Some(image), Some(mask)) => {
            let extraction = one(image, mask, &settings)?;
            extraction.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            if args.out.is_none() {
                print_one(&extraction, args.json);
                return Ok(());
            }
            let place = |path: &Path| Value::Text(path.display().to_string());
            let mut row = vec![("Image".to_string(), place(image)), ("Mask".to_string(), place(mask))];
            row.extend(entries(&extraction));
            vec![row]
        }
        _ => return Ok(()), // clap requires one or the other
    };
    match (args.out, format) {
        (Some(path), Some(format)) => write_file(&path, format.text(&rows).as_bytes()),
        _ => {
            print!("{}", if args.json { Format::Json } else { Format::Csv }.text(&rows));
            Ok(())
        }
    }
}

/// One case as names and values, in the order of columns.
type Row = Vec<(String, Value)>;

fn load(path: &Path) -> Result<Image, Failure> {
    Ok(decode_image(&read_file(path)?)?)
}

fn one(image: &Path, mask: &Path, settings: &Settings) -> Result<Extraction, Failure> {
    Ok(extract(&load(image)?, &load(mask)?, settings)?)
}

/// Diagnostics first, then features.
fn entries(extraction: &Extraction) -> Row {
    let features = extraction.features.rows.iter().map(|row| (row.name.clone(), Value::Float(row.value)));
    extraction.diagnostics.entries.iter().cloned().chain(features).collect()
}

fn print_one(extraction: &Extraction, as_json: bool) {
    if as_json {
        let features: Map<String, Json> = entries(extraction).into_iter().map(|(k, v)| (k, json(&v))).collect();
        println!("{}", Json::Object(Map::from_iter([("features".to_string(), Json::Object(features))])));
        return;
    }
    for row in &extraction.features.rows {
        let unit = row.unit.replace('I', "(image unit)");
        println!("{:<52} {:>24} {:<18} {}", row.name, format!("{:?}", row.value), unit, row.ibsi.unwrap_or(""));
    }
}

/// Full precision; JSON has no NaN, so it is the string.
fn json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(v) => Json::Bool(*v),
        Value::Int(v) => Json::from(*v),
        Value::Float(v) if v.is_nan() => Json::from("NaN"),
        Value::Float(v) if v.is_infinite() => Json::from(if *v > 0.0 { "Infinity" } else { "-Infinity" }),
        Value::Float(v) => Json::from(*v),
        Value::Text(text) => Json::from(text.as_str()),
        Value::List(items, _) => Json::Array(items.iter().map(json).collect()),
        Value::Map(entries) => Json::Object(entries.iter().map(|(k, v)| (k.clone(), json(v))).collect()),
    }
}

#[derive(Clone, Copy)]
enum Format {
    Csv,
    Json,
}

impl Format {
    fn of(path: &Path) -> Result<Format, ExtractError> {
        match path.extension().map(|e| e.to_ascii_lowercase()) {
            Some(e) if e == "csv" => Ok(Format::Csv),
            Some(e) if e == "json" => Ok(Format::Json),
            _ => Err(ExtractError::Ending(path.into())),
        }
    }

    fn text(self, rows: &[Row]) -> String {
        match self {
            Format::Csv => csv(rows),
            Format::Json => {
                let object = |row: &Row| Json::Object(row.iter().map(|(k, v)| (k.clone(), json(v))).collect());
                let all = Json::Array(rows.iter().map(object).collect());
                format!("{all:#}\n")
            }
        }
    }
}

/// PyRadiomics' table: the first case's columns, then those that only later cases have, sorted.
fn csv(rows: &[Row]) -> String {
    let mut header: Vec<&str> = rows.first().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let known: std::collections::HashSet<&str> = header.iter().copied().collect();
    let later = rows.iter().skip(1).flatten().map(|(name, _)| name.as_str()).filter(|name| !known.contains(name));
    header.extend(later.collect::<std::collections::BTreeSet<_>>());
    let line = |cells: &mut dyn Iterator<Item = String>| cells.map(|c| quoted(&c)).collect::<Vec<_>>().join(",") + "\n";
    let mut text = line(&mut header.iter().map(|name| name.to_string()));
    for row in rows {
        let cells: std::collections::HashMap<&str, &Value> = row.iter().map(|(k, v)| (k.as_str(), v)).collect();
        text += &line(&mut header.iter().map(|name| cells.get(name).map_or(String::new(), |v| v.to_python())));
    }
    text
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.into() }
}

/// All cases of a list, in its order. A case that fails keeps its own columns and is told on stderr.
fn batch(list: &Path, settings: &Settings, jobs: usize) -> Result<Vec<Row>, Failure> {
    let cases = read_list(list, &String::from_utf8_lossy(&read_file(list)?))?;
    let folder = list.parent().unwrap_or(Path::new(""));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs).build().map_err(ExtractError::from)?;
    let done: Vec<(Row, Result<Extraction, Failure>)> = pool.install(|| {
        let run = |(i, case): (usize, &Row)| (case.clone(), extract_case(i + 1, case, folder, settings));
        cases.par_iter().enumerate().map(run).collect()
    });
    let mut rows = Vec::new();
    for (i, (mut row, result)) in done.into_iter().enumerate() {
        match result {
            Ok(extraction) => row.extend(entries(&extraction)),
            Err(failure) => eprintln!("case {}: {failure}", i + 1),
        }
        rows.push(row);
    }
    Ok(rows)
}

fn extract_case(number: usize, case: &Row, folder: &Path, settings: &Settings) -> Result<Extraction, Failure> {
    let cell = |name: &str| case.iter().find(|(n, _)| n == name).map(|(_, v)| v.to_python()).unwrap_or_default();
    if !matches!(cell("Label_channel").as_str(), "" | "0") {
        let what = "masks of several channels are not read (Label_channel)".into();
        return Err(ExtractError::Case { row: number, what }.into());
    }
    let settings = match cell("Label").as_str() {
        "" => settings.clone(),
        text => match text.parse() {
            Ok(label) if label > 0 => settings.clone().with_label(label),
            _ => return Err(ExtractError::Case { row: number, what: format!("{text} is not a label") }.into()),
        },
    };
    one(&folder.join(cell("Image")), &folder.join(cell("Mask")), &settings)
}

/// Rows of a CSV file with a header; quotes as in RFC 4180.
fn read_list(path: &Path, text: &str) -> Result<Vec<Row>, ExtractError> {
    let refuse = |what: &str| ExtractError::List { path: path.into(), what: what.into() };
    let mut lines = records(text).into_iter();
    let header = lines.next().ok_or_else(|| refuse("it is empty"))?;
    if !["Image", "Mask"].iter().all(|name| header.iter().any(|h| h == name)) {
        return Err(refuse("its header lacks Image or Mask"));
    }
    Ok(lines.map(|cells| header.iter().cloned().zip(cells.into_iter().map(Value::Text)).collect()).collect())
}

fn records(text: &str) -> Vec<Vec<String>> {
    let (mut all, mut record, mut cell, mut inside) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.trim_start_matches('\u{feff}').chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if inside && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' => inside = !inside,
            ',' if !inside => record.push(std::mem::take(&mut cell)),
            '\r' if !inside => {}
            '\n' if !inside => {
                record.push(std::mem::take(&mut cell));
                all.push(std::mem::take(&mut record));
            }
            other => cell.push(other),
        }
    }
    if !cell.is_empty() || !record.is_empty() {
        record.push(cell);
        all.push(record);
    }
    all.retain(|record| record.iter().any(|cell| !cell.is_empty()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_with_quotes_and_any_line_end() {
        let found = records("Image,Mask,Note\r\na.nii,\"b, c.nii\",\"say \"\"no\"\"\"\n\nd,e,");
        assert_eq!(found, [vec!["Image", "Mask", "Note"], vec!["a.nii", "b, c.nii", "say \"no\""], vec!["d", "e", ""]]);
        assert!(read_list(Path::new("x.csv"), "Image,Patient\n").is_err());
    }

    #[test]
    fn the_header_is_the_first_case_then_new_columns_sorted() {
        let cell = |name: &str, text: &str| (name.to_string(), Value::Text(text.into()));
        let rows = [vec![cell("b", "1")], vec![cell("b", "2"), cell("z", "3"), cell("a", "x,y")]];
        assert_eq!(csv(&rows), "b,a,z\n1,,\n2,\"x,y\",3\n");
    }
}
