//! Rows to CSV, JSON and text, byte for byte as Python's `csv`, `json` and `str` write them.

use super::Failure;
use super::case::{Outcome, Row, cell_text};
use super::list::absolute;
use crate::cli::FileError;
use crate::radiomics::{Value, python_float};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};

/// How to write.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A header, then one row per case.
    Csv,
    /// One list of one object per case.
    Json,
    /// One feature per line: `Case-N_name: value`.
    Txt,
    /// One line per case: `{"features": {...}}`.
    #[value(skip)]
    Lines,
}

impl Format {
    /// By the ending of a file's name.
    pub fn of(path: &Path) -> Format {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("csv") => Format::Csv,
            Some("json") => Format::Json,
            _ => Format::Txt,
        }
    }
}

/// How paths of images and masks are written.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PathStyle {
    /// Absolute paths.
    Absolute,
    /// Relative to the list's folder, or to the working directory.
    Relative,
    /// Only the file's name.
    Basename,
}

/// Writes all cases. `start`: where relative paths start.
pub fn write(
    outcomes: &[Outcome],
    format: Format,
    style: PathStyle,
    skip_nans: bool,
    start: &Path,
    out: Option<&Path>,
) -> Result<(), Failure> {
    let start = absolute(start);
    let rows: Vec<Row> = outcomes.iter().map(|outcome| formatted(&outcome.row, style, &start, skip_nans)).collect();
    // The header is that of the whole first case, NaN or not.
    let text = match format {
        Format::Csv => csv_with(&header(outcomes.iter().map(|outcome| &outcome.row)), rows.iter()),
        Format::Json => {
            let list = Value::List(rows.into_iter().map(Value::Map).collect(), false);
            python_json(&list, 0)
        }
        Format::Txt => {
            let mut text = String::new();
            for (index, row) in rows.iter().enumerate() {
                for (name, value) in row {
                    text += &format!("Case-{}_{name}: {}\n", index + 1, value.to_python());
                }
            }
            text
        }
        Format::Lines => rows.iter().zip(outcomes).map(|(row, outcome)| line(row, outcome)).collect(),
    };
    let write = |sink: &mut dyn Write| sink.write_all(text.as_bytes()).and_then(|()| sink.flush());
    match out {
        Some(path) => {
            let error = |e| Failure::error(FileError::write(path, e));
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(error)?;
            }
            let mut file = std::fs::File::options().create(true).append(true).open(path).map_err(error)?;
            write(&mut file).map_err(error)
        }
        // A closed pipe (`| head`) is no error of ours.
        None => match write(&mut std::io::stdout().lock()) {
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Failure::error(FileError::write(Path::new("stdout"), e)))
            }
            _ => Ok(()),
        },
    }
}

fn formatted(row: &Row, style: PathStyle, start: &Path, skip_nans: bool) -> Row {
    let place = |value: &Value| {
        let path = absolute(Path::new(&cell_text(value)));
        let shown = match style {
            PathStyle::Absolute => path,
            PathStyle::Relative => relative(&path, start),
            PathStyle::Basename => path.file_name().map_or(path.clone(), PathBuf::from),
        };
        Value::Text(shown.display().to_string())
    };
    let is_nan = |value: &Value| matches!(value, Value::Float(v) if v.is_nan());
    row.iter()
        .filter(|(_, value)| !(skip_nans && is_nan(value)))
        .map(|(name, value)| {
            let value = if matches!(name.as_str(), "Image" | "Mask") { place(value) } else { value.clone() };
            (name.clone(), value)
        })
        .collect()
}

/// As Python's `os.path.relpath`.
fn relative(path: &Path, start: &Path) -> PathBuf {
    let shared = path.components().zip(start.components()).take_while(|(a, b)| a == b).count();
    let up = start.components().skip(shared).map(|_| std::path::Component::ParentDir);
    up.chain(path.components().skip(shared)).collect()
}

/// The first case's names, then those that only later cases have, sorted.
fn header<'a>(mut rows: impl Iterator<Item = &'a Row>) -> Vec<&'a str> {
    let names = |row: &'a Row| row.iter().map(|(name, _)| name.as_str());
    let mut header: Vec<&str> = rows.next().into_iter().flat_map(names).collect();
    let known: HashSet<&str> = header.iter().copied().collect();
    header.extend(rows.flat_map(names).filter(|name| !known.contains(name)).collect::<BTreeSet<_>>());
    header
}

/// A table of rows as Python's `csv.DictWriter` writes it.
pub fn csv<'a>(rows: impl Iterator<Item = &'a Row> + Clone) -> String {
    csv_with(&header(rows.clone()), rows)
}

fn csv_with<'a>(header: &[&str], rows: impl Iterator<Item = &'a Row>) -> String {
    let line = |cells: &mut dyn Iterator<Item = String>| cells.map(|c| quoted(&c)).collect::<Vec<_>>().join(",") + "\n";
    let mut text = line(&mut header.iter().map(|name| name.to_string()));
    for row in rows {
        let cells: HashMap<&str, &Value> = row.iter().map(|(k, v)| (k.as_str(), v)).collect();
        text += &line(&mut header.iter().map(|name| cells.get(name).map_or(String::new(), |v| cell_text(v))));
    }
    text
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.into() }
}

/// `json.dumps(value, indent=2)` of Python: ASCII, and NaN as it stands.
fn python_json(value: &Value, depth: usize) -> String {
    let (inner, outer) = ("  ".repeat(depth + 1), "  ".repeat(depth));
    let wrap = |open: char, parts: Vec<String>, close: char| {
        if parts.is_empty() {
            return format!("{open}{close}");
        }
        let parts: Vec<String> = parts.into_iter().map(|part| format!("{inner}{part}")).collect();
        format!("{open}\n{}\n{outer}{close}", parts.join(",\n"))
    };
    match value {
        Value::Null => "null".into(),
        Value::Bool(v) => v.to_string(),
        Value::Int(v) => v.to_string(),
        Value::Float(v) if v.is_nan() => "NaN".into(),
        Value::Float(v) if v.is_infinite() => if *v > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        Value::Float(v) => python_float(*v),
        Value::Text(text) => json_text(text),
        Value::List(items, _) => wrap('[', items.iter().map(|item| python_json(item, depth + 1)).collect(), ']'),
        Value::Map(entries) => {
            let entry = |(k, v): &(String, Value)| format!("{}: {}", json_text(k), python_json(v, depth + 1));
            wrap('{', entries.iter().map(entry).collect(), '}')
        }
    }
}

fn json_text(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            ' '..='~' => out.push(c),
            other => {
                let mut units = [0; 2];
                other.encode_utf16(&mut units).iter().for_each(|unit| out += &format!("\\u{unit:04x}"));
            }
        }
    }
    out + "\""
}

/// One case as a line: features (and diagnostics) with NaN as a string, the list's columns beside them.
fn line(row: &Row, outcome: &Outcome) -> String {
    use serde_json::{Map, Value as Json};
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
    let (columns, entries) = row.split_at(outcome.n_columns.min(row.len()));
    let map = |part: &[(String, Value)]| Json::Object(part.iter().map(|(k, v)| (k.clone(), json(v))).collect());
    let mut whole = Map::from_iter([("features".to_string(), map(entries)), ("case".to_string(), map(columns))]);
    if let Some(reason) = &outcome.failure {
        whole.insert("error".into(), Json::from(reason.as_str()));
    }
    format!("{}\n", Json::Object(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(name: &str, text: &str) -> (String, Value) {
        (name.to_string(), Value::Text(text.into()))
    }

    #[test]
    fn the_header_is_the_first_case_then_new_columns_sorted() {
        let rows = [vec![cell("b", "1")], vec![cell("b", "2"), cell("z", "3"), cell("a", "x,y")]];
        assert_eq!(csv(rows.iter()), "b,a,z\n1,,\n2,\"x,y\",3\n");
    }

    #[test]
    fn json_is_pythons() {
        let value = Value::List(
            vec![Value::Map(vec![
                cell("a", "\u{e9}\"\u{1f600}\u{7f}"),
                ("b".into(), Value::Float(1e-7)),
                ("c".into(), Value::List(Vec::new(), true)),
                ("d".into(), Value::Float(f64::NAN)),
            ])],
            false,
        );
        let expected = "[\n  {\n    \"a\": \"\\u00e9\\\"\\ud83d\\ude00\\u007f\",\n    \"b\": 1e-07,\n    \"c\": [],\n    \"d\": NaN\n  }\n]";
        assert_eq!(python_json(&value, 0), expected);
    }

    #[test]
    fn relative_paths_go_up_and_down() {
        assert_eq!(relative(Path::new("/a/b/c"), Path::new("/a/d/e")), Path::new("../../b/c"));
    }
}
