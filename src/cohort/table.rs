//! Tables as text: CSV with one header line, read by a small reader of our own that knows what hospitals export.

use super::CohortError;
use super::error::nearest;
use ndarray::Array2;
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

/// Texts that mean "no value".
const MISSING: [&str; 9] = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", ".", "#N/A"];

/// A CSV text cut into records. Fields are `,` or `;` separated (the header decides), `"` quotes a field and is doubled inside
/// one (RFC 4180); a byte order mark and blank lines are skipped.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Name for messages.
    pub file: String,
    /// Column names, trimmed, unique.
    pub header: Vec<String>,
    text: &'a str,
    separator: char,
    /// Line (from 1) and bytes of each record.
    records: Vec<(usize, Range<usize>)>,
}

/// A column with its name; `None` is missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Column<T> {
    /// Name in the header.
    pub name: String,
    /// One for each record.
    pub values: Vec<Option<T>>,
}

impl<'a> Frame<'a> {
    /// Cuts a text into records; each has to have as many fields as the header.
    pub fn parse(file: &str, text: &'a str) -> Result<Frame<'a>, CohortError> {
        let text = text.trim_start_matches('\u{feff}');
        let mut records = cut_records(text);
        let fault = |line: usize, what: String| CohortError::Csv { file: file.to_owned(), line, what };
        if records.is_empty() {
            return Err(fault(1, "the table is empty".into()));
        }
        let (header_line, range) = records.remove(0);
        let head = &text[range];
        let count = |c: char| head.matches(c).count();
        let separator = if count(';') > count(',') { ';' } else { ',' };
        let header: Vec<String> = split(head, separator).map(|name| name.trim().to_owned()).collect();
        let mut seen = HashMap::new();
        for (index, name) in header.iter().enumerate() {
            if seen.insert(name.as_str(), index).is_some() && !name.is_empty() {
                return Err(fault(header_line, format!("two columns are called {name}")));
            }
        }
        if records.is_empty() {
            return Err(fault(header_line, "there is a header, but no row".into()));
        }
        for (line, range) in &records {
            let found = split(&text[range.clone()], separator).count();
            if found != header.len() {
                let comma = separator == ',' && found > header.len();
                let hint =
                    if comma { "; numbers with decimal commas? Write points, or separate fields by ;" } else { "" };
                let what = format!("{found} fields where the header has {}{hint}", header.len());
                return Err(fault(*line, what));
            }
        }
        Ok(Frame { file: file.to_owned(), header, text, separator, records })
    }

    /// Number of records.
    pub fn n_rows(&self) -> usize {
        self.records.len()
    }

    /// Line (from 1) of a record.
    pub fn line(&self, row: usize) -> usize {
        self.records[row].0
    }

    /// Index of a column, or an error that names the nearest one.
    pub fn index(&self, column: &str) -> Result<usize, CohortError> {
        self.header.iter().position(|name| name == column).ok_or_else(|| CohortError::NoColumn {
            file: self.file.clone(),
            column: column.to_owned(),
            nearest: nearest(column, self.header.iter().map(String::as_str)),
        })
    }

    /// A column as trimmed text.
    pub fn texts(&self, column: &str) -> Result<Column<String>, CohortError> {
        let index = self.index(column)?;
        let value = |range: &Range<usize>| {
            let field = split(&self.text[range.clone()], self.separator).nth(index).unwrap_or_default();
            let field = field.trim();
            (!MISSING.contains(&field)).then(|| field.to_owned())
        };
        Ok(Column { name: column.to_owned(), values: self.records.iter().map(|(_, range)| value(range)).collect() })
    }

    /// A column as numbers; texts that mean yes and no are 1 and 0.
    pub fn numbers(&self, column: &str) -> Result<Column<f64>, CohortError> {
        let texts = self.texts(column)?;
        let comma = self.decimal_comma(&texts)?;
        let parsed = texts.values.iter().enumerate().map(|(row, text)| match text {
            None => Ok(None),
            Some(text) => number(text, comma).map(Some).map_err(|what| self.fault(row, column, what)),
        });
        Ok(Column { name: column.to_owned(), values: parsed.collect::<Result<_, _>>()? })
    }

    /// All columns whose name passes `wanted`, as numbers: shape (records, columns), NaN where missing. For feature tables.
    pub fn matrix(&self, wanted: impl Fn(&str) -> bool + Sync) -> Result<(Vec<String>, Array2<f64>), CohortError> {
        let keep: Vec<bool> = self.header.iter().map(|name| wanted(name)).collect();
        let names: Vec<String> = self.header.iter().zip(&keep).filter(|(_, k)| **k).map(|(n, _)| n.clone()).collect();
        let mut values = Array2::zeros((self.records.len(), names.len()));
        if names.is_empty() {
            return Ok((names, values));
        }
        let buffer = values.as_slice_mut().expect("a fresh array is contiguous");
        let rows = buffer.par_chunks_mut(names.len()).zip(&self.records);
        let plain = rows.map(|(row, (_, range))| self.fill(row, range, &keep)).reduce(|| true, |a, b| a && b);
        if !plain {
            // Some field is no plain number: column by column, so that a decimal comma is understood and a fault is named.
            for (index, name) in names.iter().enumerate() {
                for (row, value) in self.numbers(name)?.values.into_iter().enumerate() {
                    values[[row, index]] = value.unwrap_or(f64::NAN);
                }
            }
        }
        Ok((names, values))
    }

    /// Parses one record into `row`; false if a field is neither missing nor a plain number.
    fn fill(&self, row: &mut [f64], range: &Range<usize>, keep: &[bool]) -> bool {
        let fields = split(&self.text[range.clone()], self.separator).zip(keep).filter(|(_, keep)| **keep);
        let mut plain = true;
        for (value, (field, _)) in row.iter_mut().zip(fields) {
            let field = field.trim();
            *value = match field.parse::<f64>() {
                Ok(number) if number.is_finite() => number,
                _ => {
                    plain &= MISSING.contains(&field);
                    f64::NAN
                }
            };
        }
        plain
    }

    /// Row of each patient. Refuses a patient who is there twice and a row without identifier.
    pub fn rows_by_id(&self, column: &str) -> Result<Vec<String>, CohortError> {
        let ids = self.texts(column)?.values;
        let mut first: HashMap<&str, usize> = HashMap::new();
        for (row, id) in ids.iter().enumerate() {
            let Some(id) = id else {
                return Err(self.fault(row, column, "the patient identifier is missing".into()));
            };
            if let Some(before) = first.insert(id, row) {
                let (first, second) = (self.line(before), self.line(row));
                return Err(CohortError::Duplicate { file: self.file.clone(), first, second });
            }
        }
        Ok(ids.into_iter().flatten().collect())
    }

    /// An error about one field.
    pub fn fault(&self, row: usize, column: &str, what: String) -> CohortError {
        CohortError::Field { file: self.file.clone(), line: self.line(row), column: column.to_owned(), what }
    }

    /// Whether the numbers of a column have decimal commas. Refuses what can be read in two ways.
    fn decimal_comma(&self, texts: &Column<String>) -> Result<bool, CohortError> {
        let with = |c: char| texts.values.iter().position(|t| t.as_ref().is_some_and(|t| t.contains(c)));
        let Some(row) = with(',') else { return Ok(false) };
        if self.separator == ',' {
            return Err(self.fault(row, &texts.name, "a number with a decimal comma; write a decimal point".into()));
        }
        if with('.').is_some() {
            let what = "commas and points in the numbers of one column; write decimal points only";
            return Err(self.fault(row, &texts.name, what.into()));
        }
        // 1,234 may be a thousand: a column is only read with decimal commas if some number cannot be meant that way.
        let thousand = |text: &str| {
            text.split_once(',').is_none_or(|(whole, part)| {
                let whole = whole.trim_start_matches(['-', '+']);
                part.len() == 3 && (1..=3).contains(&whole.len()) && !whole.starts_with('0')
            })
        };
        if texts.values.iter().flatten().all(|t| thousand(t)) {
            let what = "a comma that may separate decimals or thousands; write decimal points and no thousands";
            return Err(self.fault(row, &texts.name, what.into()));
        }
        Ok(true)
    }
}

/// A number, or why it is none.
fn number(text: &str, decimal_comma: bool) -> Result<f64, String> {
    let text = if decimal_comma { Cow::Owned(text.replacen(',', ".", 1)) } else { Cow::Borrowed(text) };
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" => return Ok(1.0),
        "no" | "false" => return Ok(0.0),
        _ => {}
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => Err("an infinite number".into()),
        Err(_) if text.starts_with(['<', '>']) => {
            Err("a limit such as <0.5 is no number; decide which value stands for it".into())
        }
        Err(_) => Err("a text where a number is expected".into()),
    }
}

/// Line and bytes of each record that is not blank.
fn cut_records(text: &str) -> Vec<(usize, Range<usize>)> {
    let mut records = Vec::new();
    let (mut start, mut begun, mut line, mut quoted) = (0, 1, 1, false);
    let mut push = |begun: usize, range: Range<usize>| {
        if !text[range.clone()].trim().is_empty() {
            let end = range.start + text[range.clone()].trim_end_matches('\r').len();
            records.push((begun, range.start..end));
        }
    };
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' => {
                line += 1;
                if !quoted {
                    push(begun, start..at);
                    (start, begun) = (at + 1, line);
                }
            }
            _ => {}
        }
    }
    push(begun, start..text.len());
    records
}

/// The fields of a record.
fn split(record: &str, separator: char) -> impl Iterator<Item = Cow<'_, str>> {
    let mut rest = Some(record);
    std::iter::from_fn(move || {
        let text = rest?;
        if !text.starts_with('"') {
            return Some(match text.split_once(separator) {
                Some((field, after)) => {
                    rest = Some(after);
                    Cow::Borrowed(field)
                }
                None => {
                    rest = None;
                    Cow::Borrowed(text)
                }
            });
        }
        let bytes = text.as_bytes();
        let mut end = 1;
        while end < bytes.len() && (bytes[end] != b'"' || bytes.get(end + 1) == Some(&b'"')) {
            end += if bytes[end] == b'"' { 2 } else { 1 };
        }
        let field = text[1..end.min(text.len())].replace("\"\"", "\"");
        let after = text.get(end + 1..).unwrap_or("");
        rest = after.split_once(separator).map(|(_, after)| after);
        Some(Cow::Owned(field))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Explain;

    #[test]
    fn quotes_marks_and_separators() {
        let frame =
            Frame::parse("t.csv", "\u{feff}id;note;x\r\na;\"two; \"\"lines\"\"\nhere\";1,5\r\n\r\nb;NA;2,25\r\n")
                .unwrap();
        assert_eq!(frame.header, ["id", "note", "x"]);
        assert_eq!(frame.texts("note").unwrap().values, [Some("two; \"lines\"\nhere".into()), None]);
        assert_eq!(frame.numbers("x").unwrap().values, [Some(1.5), Some(2.25)]);
        assert_eq!((frame.line(0), frame.line(1)), (2, 5));
    }

    #[test]
    fn decimal_commas_are_read_only_where_they_can_mean_nothing_else() {
        let code =
            |text: &str| Frame::parse("t.csv", text).and_then(|f| f.numbers("x").map(|_| ())).map_err(|e| e.code());
        assert_eq!(code("id,x\na,\"1,5\"\n"), Err("cohort.field"));
        assert_eq!(code("id,x\na,1,5\n"), Err("cohort.csv"));
        assert_eq!(code("id;x\na;1,234\nb;2,345\n"), Err("cohort.field"));
        assert_eq!(code("id;x\na;1,5\nb;2.5\n"), Err("cohort.field"));
        assert_eq!(code("id;x\na;1,234\nb;2,34\n"), Ok(()));
        assert_eq!(code("id;x\na;0,234\nb;2\n"), Ok(()));
        let error = Frame::parse("t.csv", "id,x\na,1,5\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("decimal commas"), "{error}");
    }

    #[test]
    fn faults_name_file_line_and_column_but_no_value() {
        let frame = Frame::parse("t.csv", "id,x\na,1\nb,high\n").unwrap();
        assert_eq!(
            frame.numbers("x").unwrap_err().to_string(),
            "t.csv, line 3, column x: a text where a number is expected"
        );
        assert_eq!(frame.index("X1").unwrap_err().to_string(), "t.csv has no column X1; the nearest is x");
        let twice = Frame::parse("t.csv", "id,x\na,1\nb,2\na,3\n").unwrap();
        let error = twice.rows_by_id("id").unwrap_err();
        assert_eq!((error.code(), error.to_string().contains("lines 2 and 4")), ("cohort.duplicate-patient", true));
        for (text, part) in [("", "empty"), ("id,x\n", "no row"), ("id,id\na,b\n", "two columns")] {
            let error = Frame::parse("t.csv", text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_matrix_of_features_is_read_with_its_gaps() {
        let frame = Frame::parse("t.csv", "id,a,b\nx,1,2\ny,,1e3\n").unwrap();
        let (names, values) = frame.matrix(|name| name != "id").unwrap();
        assert_eq!(names, ["a", "b"]);
        assert!(values[[1, 0]].is_nan() && values[[1, 1]] == 1000.0);
        assert!(
            Frame::parse("t.csv", "id,a\nx,<1\n")
                .unwrap()
                .matrix(|n| n == "a")
                .unwrap_err()
                .to_string()
                .contains("limit")
        );
    }

    #[test]
    fn damaged_texts_never_panic() {
        let text = "id;note;x\na;\"q;\"\"\n\";1,5\nb;ä;2,25\n";
        for cut in (0..=text.len()).filter(|c| text.is_char_boundary(*c)) {
            if let Ok(frame) = Frame::parse("t", &text[..cut]) {
                let _ = (frame.texts("note"), frame.numbers("x"), frame.matrix(|_| true), frame.rows_by_id("id"));
            }
        }
    }
}
