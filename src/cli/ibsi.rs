//! `metwatch ibsi`: every published value of IBSI 1 beside what metwatch computes.

use super::{Failure, progress_bar, read_file, write_file};
use crate::Explain;
use crate::radiomics::ibsi::{self, ComplianceRow, Settings};
use crate::volume::{Image, decode_image};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Arguments of `metwatch ibsi`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with IBSI's phantoms and reference values: digital_phantom/nifti, ct_phantom/nifti, reference/*.csv
    #[arg(value_name = "DIR")]
    data: PathBuf,
    /// Writes every row to this CSV file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Prints every row, not only counts and failures
    #[arg(long)]
    all: bool,
}

/// A configuration: name, file of reference values, whether the CT phantom is used, settings.
type Configuration = (&'static str, &'static str, bool, fn() -> Settings);

/// Configurations by name, with the file of reference values and whether the CT phantom is used.
const CONFIGURATIONS: [Configuration; 6] = [
    ("digital phantom", "ibsi_1_dig_phantom.csv", false, Settings::phantom),
    ("A", "ibsi_1_chest_config_a.csv", true, Settings::config_a),
    ("B", "ibsi_1_chest_config_b.csv", true, Settings::config_b),
    ("C", "ibsi_1_chest_config_c.csv", true, Settings::config_c),
    ("D", "ibsi_1_chest_config_d.csv", true, Settings::config_d),
    ("E", "ibsi_1_chest_config_e.csv", true, Settings::config_e),
];

#[derive(Debug, thiserror::Error)]
#[error("{failed} of {all} published values are not met")]
struct NotCompliant {
    failed: usize,
    all: usize,
}

impl Explain for NotCompliant {
    fn code(&self) -> &'static str {
        "ibsi.not-compliant"
    }
    fn advice(&self) -> &'static str {
        "compare the rows above, diagnostic rows first: they tell which step of the processing differs"
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let phantom = read_phantom(&args.data.join("digital_phantom/nifti"))?;
    let ct = read_phantom(&args.data.join("ct_phantom/nifti"))?;
    let bar = progress_bar("ibsi");
    let mut found: Vec<(&str, ComplianceRow)> = Vec::new();
    for (index, (name, reference, on_ct, settings)) in CONFIGURATIONS.iter().enumerate() {
        let reference = read_file(&args.data.join("reference").join(reference))?;
        let (image, mask) = if *on_ct { &ct } else { &phantom };
        let table = ibsi::extract(image, mask, &settings())?;
        let rows = ibsi::compliance(&String::from_utf8_lossy(&reference), &table);
        found.extend(rows.into_iter().map(|row| (*name, row)));
        bar.set_position(100 * (index as u64 + 1) / CONFIGURATIONS.len() as u64);
    }
    bar.finish_and_clear();
    if let Some(path) = &args.out {
        write_file(path, csv(&found).as_bytes())?;
    }
    print(&found, args.all);
    let failed = found.iter().filter(|(_, row)| !row.passes).count();
    if failed > 0 { Err(NotCompliant { failed, all: found.len() }.into()) } else { Ok(()) }
}

/// The image and the mask of a phantom's folder: `image/*.nii.gz` and `mask/*.nii.gz`.
fn read_phantom(folder: &Path) -> Result<(Image, Image), Failure> {
    let read = |kind: &str| -> Result<Image, Failure> {
        let folder = folder.join(kind);
        let entries = std::fs::read_dir(&folder).map_err(|e| super::FileError::read(&folder, e))?;
        let file = entries.filter_map(|e| Some(e.ok()?.path())).find(|p| p.display().to_string().ends_with(".nii.gz"));
        let file = file.ok_or_else(|| super::FileError::read(&folder, std::io::ErrorKind::NotFound.into()))?;
        Ok(decode_image(&read_file(&file)?)?)
    };
    Ok((read("image")?, read("mask")?))
}

fn csv(found: &[(&str, ComplianceRow)]) -> String {
    let mut text = String::from("configuration,tag,ibsi_code,value,reference,tolerance,passes\n");
    for (name, row) in found {
        let value = row.value.map_or(String::new(), |value| format!("{value:?}"));
        let ComplianceRow { tag, code, reference, tolerance, passes, .. } = row;
        text += &format!("{name},{tag},{code},{value},{reference:?},{tolerance:?},{passes}\n");
    }
    text
}

fn print(found: &[(&str, ComplianceRow)], all: bool) {
    for (name, row) in found.iter().filter(|(_, row)| all || !row.passes) {
        let value = row.value.map_or("missing".into(), |value| format!("{value:?}"));
        let verdict = if row.passes { "ok" } else { "DIFFERS" };
        println!(
            "{name:<16}{:<36}{:<6}{value:>24} {:>14} +- {:<10} {verdict}",
            row.tag, row.code, row.reference, row.tolerance
        );
    }
    // The prefix of a tag is its family.
    let mut counts: BTreeMap<(usize, &str), (usize, usize)> = BTreeMap::new();
    for (name, row) in found {
        let at = CONFIGURATIONS.iter().position(|(known, ..)| known == name).unwrap_or(0);
        let count = counts.entry((at, row.tag.split('_').next().unwrap_or(""))).or_default();
        count.0 += usize::from(row.passes);
        count.1 += 1;
    }
    println!("{:<16}{:<10}{:>8} of", "configuration", "family", "equal");
    for ((at, family), (passed, n)) in &counts {
        println!("{:<16}{family:<10}{passed:>8} {n}", CONFIGURATIONS[*at].0);
    }
    let passed = found.iter().filter(|(_, row)| row.passes).count();
    println!(
        "{passed} of {} published values of IBSI 1 are met (rounded to 3 digits, within the tolerance)",
        found.len()
    );
}
