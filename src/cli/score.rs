//! `metwatch score`: the risk from a feature table and the clinical values, without an image.

use super::Failure;
use crate::Explain;
use crate::risk::{self, Assessment, ClinicalValues, Contribution};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Computes the risk from features and clinical values (demonstration, not for clinical use)
#[derive(clap::Args)]
pub struct Args {
    /// Feature table as `metwatch extract` and `analyze` write it: one row per region, the first columns with `region`, then
    /// PyRadiomics' names; or one row with names such as `liver_original_glcm_Idm`
    #[arg(long, value_name = "FILE")]
    features: PathBuf,
    /// Clinical values as JSON: patient_id, afp_ng_per_ml (or afp with value and unit), dissected_lymph_nodes,
    /// perineural_invasion, tumor_nodules; leave out what is not known
    #[arg(long, value_name = "FILE")]
    clinical: Option<PathBuf>,
    /// Folder of a nomogram package; without it, the one that metwatch brings
    #[arg(long, value_name = "DIR")]
    nomogram: Option<PathBuf>,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Reads, assesses, prints.
pub fn run(args: Args) -> Result<(), Failure> {
    let nomogram = super::load_nomogram(args.nomogram.as_deref())?;
    let features = Features::from_csv(&String::from_utf8_lossy(&super::read_file(&args.features)?))?;
    let clinical = match &args.clinical {
        Some(path) => risk::clinical_from_json(&String::from_utf8_lossy(&super::read_file(path)?))?.1,
        None => ClinicalValues::default(),
    };
    let assessment = risk::assess(&nomogram, |region, name| features.get(region, name), &clinical)?;
    if args.json {
        println!("{:#}", to_json(&assessment));
    } else {
        print!("{}", to_table(&assessment));
    }
    Ok(())
}

/// What can be wrong with a feature table.
#[derive(Debug, thiserror::Error)]
pub enum FeaturesError {
    /// No header or no row.
    #[error("the feature table has no rows, so there is nothing to assess")]
    Empty,
    /// A row of another length than the header.
    #[error("line {line} of the feature table has {found} fields, its header {expected}")]
    Ragged {
        /// Line, from 1.
        line: usize,
        /// Fields of the line.
        found: usize,
        /// Fields of the header.
        expected: usize,
    },
    /// The rows do not say which region they belong to.
    #[error("the feature table has neither a column region nor columns that begin with liver_ or colorectal_tumor_")]
    NoRegion,
    /// Two rows for the same region.
    #[error("the feature table has more than one row for the region {region}, so it is not clear which one holds")]
    RegionTwice {
        /// The region.
        region: String,
    },
}

impl Explain for FeaturesError {
    fn code(&self) -> &'static str {
        match self {
            Self::Empty => "features.empty",
            Self::Ragged { .. } => "features.ragged",
            Self::NoRegion => "features.no-region",
            Self::RegionTwice { .. } => "features.region-twice",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::Empty | Self::Ragged { .. } => "write the table again with metwatch extract or analyze",
            Self::NoRegion => "add a column region with liver or colorectal_tumor in each row",
            Self::RegionTwice { .. } => "keep the rows of one patient only",
        }
    }
}

/// Features by region and PyRadiomics name.
#[derive(Debug, Default, PartialEq)]
pub struct Features(BTreeMap<String, BTreeMap<String, f64>>);

impl Features {
    /// The value of a feature, if it is in the table.
    pub fn get(&self, region: &str, name: &str) -> Option<f64> {
        self.0.get(region)?.get(name).copied()
    }

    /// Reads a table with a column `region`, or one row with the region before each name. Fields that are no finite number
    /// (PyRadiomics' diagnostics, an empty field, `nan`) are not features.
    pub fn from_csv(text: &str) -> Result<Features, FeaturesError> {
        let rows = csv_rows(text.trim_start_matches('\u{feff}'));
        let ((_, header), rows) = rows.split_first().ok_or(FeaturesError::Empty)?;
        if rows.is_empty() {
            return Err(FeaturesError::Empty);
        }
        let region_column = header.iter().position(|name| name.trim() == "region");
        let mut features = Features::default();
        for (line, row) in rows {
            if row.len() != header.len() {
                return Err(FeaturesError::Ragged { line: *line, found: row.len(), expected: header.len() });
            }
            let mut of_row: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
            for (name, field) in header.iter().zip(row) {
                let place = match region_column {
                    Some(column) => Some((row[column].trim(), name.trim())),
                    None => split_region(name.trim()),
                };
                let number = field.trim().parse::<f64>().ok().filter(|v| v.is_finite());
                if let (Some((region, name)), Some(number)) = (place, number) {
                    of_row.entry(region.to_owned()).or_default().insert(name.to_owned(), number);
                }
            }
            for (region, values) in of_row {
                if features.0.insert(region.clone(), values).is_some() {
                    return Err(FeaturesError::RegionTwice { region });
                }
            }
        }
        if features.0.is_empty() && region_column.is_none() {
            return Err(FeaturesError::NoRegion);
        }
        Ok(features)
    }
}

/// `liver_original_glcm_Idm` is `original_glcm_Idm` of the liver.
fn split_region(column: &str) -> Option<(&'static str, &str)> {
    let prefixes = [
        ("liver_lesion_", "liver_lesion"),
        ("liver_", "liver"),
        ("colorectal_tumor_", "colorectal_tumor"),
        ("tumor_", "colorectal_tumor"),
        ("tumour_", "colorectal_tumor"),
    ];
    prefixes.into_iter().find_map(|(prefix, region)| Some((region, column.strip_prefix(prefix)?)))
}

/// Records of a comma-separated text with the line on which each begins (RFC 4180: quotes may hold commas, line ends and doubled
/// quotes). Blank lines are skipped.
fn csv_rows(text: &str) -> Vec<(usize, Vec<String>)> {
    let (mut rows, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut line, mut begun) = (false, 1, 1);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        line += usize::from(c == '\n');
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => field.extend(characters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push((begun, std::mem::take(&mut row)));
                begun = line;
            }
            _ => field.push(c),
        }
    }
    row.push(field);
    rows.push((begun, row));
    rows.retain(|(_, row)| row.iter().any(|field| !field.trim().is_empty()));
    rows
}

/// The assessment as stable JSON (`metwatch.score/1`).
pub fn to_json(a: &Assessment) -> Value {
    // A Cox package's contributions are no log odds: their key says what they are.
    let key = a.link.unit().replace(' ', "_");
    let contributions = a.contributions.iter().map(|c| {
        json!({"predictor": c.predictor, "label": c.label, "value": c.value, "unit": c.unit, &key: c.log_odds, "points": c.points})
    });
    json!({
        "schema": "metwatch.score/1",
        "disclaimer": crate::DISCLAIMER,
        "nomogram": {"id": a.nomogram_id, "version": a.nomogram_version},
        "variant": a.variant,
        "status": a.status.name(),
        "outcome": a.outcome,
        "horizon_months": a.horizon_months,
        "probability": a.probability,
        "link": a.link.name(),
        "linear_predictor": a.linear_predictor,
        "base_linear_predictor": a.base_linear_predictor,
        "points": {"total": a.points.total, "max": a.points.max},
        "group": a.group.name(),
        "survival": a.survival.iter().map(|(month, s)| json!({"month": month, "event_free": s})).collect::<Vec<_>>(),
        "contributions": contributions.collect::<Vec<_>>(),
        "notes": a.notes.iter().map(|n| json!({"code": n.code(), "text": n.to_string()})).collect::<Vec<_>>(),
    })
}

/// The assessment for a person.
pub fn to_table(a: &Assessment) -> String {
    let mut text = String::new();
    let percent = 100.0 * a.probability;
    // Writing to a String cannot fail, so the results are dropped.
    let _ = writeln!(text, "{}", crate::DISCLAIMER.to_uppercase());
    let _ = writeln!(text, "{} within {} months", a.outcome, a.horizon_months);
    let _ = writeln!(text, "  probability  {percent:.1} % ({} group), {}", a.group.name(), a.status.name());
    let _ = writeln!(text, "  points       {:.0} of {:.0}", a.points.total, a.points.max);
    let _ = writeln!(text, "  variant      {} of nomogram {} {}", a.variant, a.nomogram_id, a.nomogram_version);
    let survival: Vec<String> = a.survival.iter().map(|(m, s)| format!("{m} months {:.0} %", 100.0 * s)).collect();
    let _ = writeln!(text, "  event-free   {}", survival.join(", "));
    let unit = a.link.unit();
    let _ = writeln!(text, "Contributions ({unit} against the average patient of the training data)");
    let width = a.contributions.iter().map(|c| c.label.chars().count()).max().unwrap_or(0);
    let longest = a.contributions.iter().map(|c| c.log_odds.abs()).fold(0.0, f64::max);
    for contribution in &a.contributions {
        let _ = writeln!(text, "  {}", contribution_line(contribution, width, longest));
    }
    for note in &a.notes {
        let _ = writeln!(text, "Note: {note}");
    }
    text
}

/// One predictor: label, value, log odds, a bar to the left (lowers the risk) or to the right (raises it), points.
fn contribution_line(c: &Contribution, width: usize, longest: f64) -> String {
    const BAR: usize = 12;
    let length = if longest > 0.0 { (c.log_odds.abs() / longest * BAR as f64).round() as usize } else { 0 };
    let bar = "#".repeat(length.min(BAR));
    let (left, right) = if c.log_odds < 0.0 { (bar.as_str(), "") } else { ("", bar.as_str()) };
    let value = match c.unit.as_str() {
        "yes/no" => if c.value == 0.0 { "no" } else { "yes" }.to_owned(),
        unit => format!("{} {unit}", risk::format_short(c.value)).trim_end().to_owned(),
    };
    format!("{:width$}  {value:>14}  {:+7.3}  {left:>BAR$}|{right:<BAR$}  {:5.1} points", c.label, c.log_odds, c.points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_per_region_with_quoted_diagnostics() {
        let text = "\u{feff}region,diagnostics_Mask,original_glcm_Idm\r\nliver,\"(1, 2, \"\"x\"\")\",0.25\r\n\r\ncolorectal_tumor,,0.5\r\n";
        let features = Features::from_csv(text).unwrap();
        assert_eq!(features.get("liver", "original_glcm_Idm"), Some(0.25));
        assert_eq!(features.get("colorectal_tumor", "original_glcm_Idm"), Some(0.5));
        assert_eq!(features.get("liver", "diagnostics_Mask"), None);
        assert_eq!(features.get("colon", "original_glcm_Idm"), None);
    }

    #[test]
    fn one_row_with_prefixed_columns() {
        let features = Features::from_csv("id,liver_original_glcm_Idm,tumour_original_glcm_Idm\n7,0.25,nan\n").unwrap();
        assert_eq!(features.get("liver", "original_glcm_Idm"), Some(0.25));
        assert_eq!(features.get("colorectal_tumor", "original_glcm_Idm"), None);
    }

    #[test]
    fn faulty_tables_have_codes() {
        let code = |text: &str| Features::from_csv(text).expect_err(text).code();
        assert_eq!(code(""), "features.empty");
        assert_eq!(code("region,a\n"), "features.empty");
        assert_eq!(code("region,a\nliver,1,2\n"), "features.ragged");
        assert_eq!(code("region,a\nliver,1\nliver,2\n"), "features.region-twice");
        assert_eq!(code("original_glcm_Idm\n1\n"), "features.no-region");
        assert_eq!(
            Features::from_csv("region,a\n\"x\ny\",1\nliver\n").unwrap_err().to_string(),
            "line 4 of the feature table has 1 fields, its header 2"
        );
    }

    #[test]
    fn bars_point_to_where_the_risk_goes() {
        let c = |log_odds| Contribution {
            predictor: "afp".into(),
            label: "AFP".into(),
            value: 4.0,
            unit: "ng/mL".into(),
            log_odds,
            points: 12.0,
        };
        assert_eq!(
            contribution_line(&c(-0.5), 3, 1.0),
            "AFP         4 ng/mL   -0.500        ######|               12.0 points"
        );
        assert_eq!(
            contribution_line(&c(1.0), 3, 1.0),
            "AFP         4 ng/mL   +1.000              |############   12.0 points"
        );
    }
}
