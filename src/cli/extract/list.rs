//! A list of cases: CSV with the columns Image and Mask.

use super::case::Case;
use super::log::Log;
use super::{ExtractError, Failure, read_file};
use crate::radiomics::Value;
use std::path::Path;

/// The cases of a list, in its order; rows without Image or Mask are left out with a warning, as `pyradiomics` does.
pub fn read(path: &Path, log: &Log) -> Result<Vec<Case>, Failure> {
    let text = read_file(path)?;
    let mut lines = records(&String::from_utf8_lossy(&text)).into_iter();
    let header = lines.next().unwrap_or_default();
    for name in ["Image", "Mask"] {
        if !header.iter().any(|h| h == name) {
            return Err(ExtractError::Column(name).into());
        }
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut cases = Vec::new();
    for (index, cells) in lines.enumerate() {
        let cell = |name: &str| header.iter().position(|h| h == name).and_then(|at| cells.get(at)).map(String::as_str);
        let (Some(image), Some(mask)) = (cell("Image"), cell("Mask")) else {
            log.warning(&format!("Batch L{}: Missing required Image or Mask, skipping this case...", index + 2));
            continue;
        };
        let (image, mask) = (absolute(&folder.join(image)), absolute(&folder.join(mask)));
        let setting = |(name, value): (&String, &String)| {
            name.strip_prefix("setting:").filter(|_| !value.is_empty()).map(|name| format!("{name}:{value}"))
        };
        cases.push(Case {
            label: cell("Label").map(String::from),
            label_channel: cell("Label_channel").map(String::from),
            roi: cell("ROI").filter(|name| !name.is_empty()).map(String::from),
            settings: header.iter().zip(&cells).filter_map(setting).collect(),
            columns: header
                .iter()
                .zip(cells.iter().map(Some).chain(std::iter::repeat(None)))
                .map(|(name, cell)| {
                    let value = match name.as_str() {
                        "Image" => Value::Text(image.display().to_string()),
                        "Mask" => Value::Text(mask.display().to_string()),
                        _ => cell.map_or(Value::Null, |cell| Value::Text(cell.clone())),
                    };
                    (name.clone(), value)
                })
                .collect(),
            image,
            mask,
        });
    }
    Ok(cases)
}

/// As Python's `os.path.abspath`: without `.` and `..`, whether or not it exists.
pub fn absolute(path: &Path) -> std::path::PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut clean = std::path::PathBuf::new();
    for part in whole.components() {
        match part {
            std::path::Component::ParentDir => _ = clean.pop(),
            std::path::Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

/// Records of a CSV text; quotes as in RFC 4180, any line end, lines without a cell left out.
pub fn records(text: &str) -> Vec<Vec<String>> {
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
    }

    #[test]
    fn paths_are_cleaned_as_python_does() {
        assert_eq!(absolute(Path::new("/a/b/../c/./d.nii")), Path::new("/a/c/d.nii"));
    }
}
