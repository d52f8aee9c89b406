//! `metwatch phantom`: a synthetic CT with known truth, as NIfTI or as DICOM.

use super::{Failure, write_file};
use crate::dicom::{PatientInfo, phantom_series};
use crate::phantom::{self, Options, Phantom};
use crate::volume::encode_nifti;
use crate::{DISCLAIMER, Explain};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Writes a synthetic CT of an abdomen with known truth: ct.nii.gz, labels.nii.gz, truth.json, and DICOM on request
#[derive(clap::Args)]
pub struct Args {
    /// Everything random follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for the files
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Writes the DICOM series to OUT/dicom
    #[arg(long)]
    dicom: bool,
    /// Writes NIfTI (the default unless --dicom is given)
    #[arg(long)]
    nifti: bool,
    /// Voxels along x, y, z
    #[arg(long, value_delimiter = ',', num_args = 1, value_name = "X,Y,Z", default_values_t = [512, 512, 128])]
    size: Vec<usize>,
    /// Spacing along x, y, z in mm
    #[arg(long, value_delimiter = ',', num_args = 1, value_name = "X,Y,Z", default_values_t = [0.75, 0.75, 2.5])]
    spacing_mm: Vec<f64>,
    /// Without a colorectal tumor
    #[arg(long)]
    no_tumor: bool,
}

/// Options that make no phantom.
#[derive(Debug, thiserror::Error)]
#[error("--{name} needs three values, each from {low} to {high}")]
struct BadOption {
    name: &'static str,
    low: f64,
    high: f64,
}

impl Explain for BadOption {
    fn code(&self) -> &'static str {
        "phantom.option"
    }
    fn advice(&self) -> &'static str {
        "give three values with commas, such as --size 512,512,128 --spacing-mm 0.75,0.75,2.5"
    }
}

/// Generates and writes.
pub fn run(args: Args) -> Result<(), Failure> {
    let size = three(&args.size, "size", |n| *n as f64, 4.0, 2048.0)?;
    let spacing_mm = three(&args.spacing_mm, "spacing-mm", |s| *s, 0.2, 20.0)?;
    let options = Options { seed: args.seed, size, spacing_mm, with_tumor: !args.no_tumor };
    let bar = super::progress_bar("phantom");
    let phantom = phantom::generate(&options, &|share| bar.set_position((share * 100.0) as u64));
    bar.finish_and_clear();
    if args.nifti || !args.dicom {
        let stored = phantom.volume.hu.mapv(|hu| hu as i16);
        write_file(&args.out.join("ct.nii.gz"), &encode_nifti(stored.view(), &phantom.volume.geometry)?)?;
        write_file(
            &args.out.join("labels.nii.gz"),
            &encode_nifti(phantom.labels.labels.view(), &phantom.labels.geometry)?,
        )?;
    }
    write_file(&args.out.join("truth.json"), format!("{:#}\n", truth(&phantom, &options)).as_bytes())?;
    if args.dicom {
        for (name, bytes) in phantom_series(&phantom.volume, &patient(args.seed), args.seed) {
            write_file(&args.out.join("dicom").join(name), &bytes)?;
        }
    }
    eprintln!("phantom {} in {} ({DISCLAIMER})", args.seed, args.out.display());
    Ok(())
}

fn three<T: Copy>(
    values: &[T],
    name: &'static str,
    number: impl Fn(&T) -> f64,
    low: f64,
    high: f64,
) -> Result<[T; 3], BadOption> {
    let fine = values.len() == 3 && values.iter().all(|v| (low..=high).contains(&number(v)));
    if fine { Ok([values[0], values[1], values[2]]) } else { Err(BadOption { name, low, high }) }
}

/// The phantom patient of a seed: recognizable as nobody.
pub fn patient(seed: u64) -> PatientInfo {
    PatientInfo {
        patient_id: format!("PHANTOM-{seed}"),
        name: "Phantom^Synthetic".into(),
        accession_number: format!("ACC{seed:06}"),
        study_date: "20260101".into(),
        study_time: "120000".into(),
        study_description: "Synthetic abdomen, no patient".into(),
        ..PatientInfo::default()
    }
}

/// The truth as JSON; `clinical` is what `--clinical` of other commands reads.
pub fn truth(phantom: &Phantom, options: &Options) -> Value {
    let t = &phantom.truth;
    let lesion = |l: &phantom::LesionTruth| json!({ "center_mm": l.center_mm, "diameter_mm": l.diameter_mm });
    json!({
        "disclaimer": DISCLAIMER,
        "seed": options.seed,
        "liver_ml": t.liver_ml,
        "tumor_ml": t.tumor_ml,
        "tumor_diameter_mm": t.tumor_diameter_mm,
        "lesions": t.lesions.iter().map(lesion).collect::<Vec<_>>(),
        "liver_texture": t.liver_texture,
        "tumor_texture": t.tumor_texture,
        "clinical": clinical(phantom, options.seed),
    })
}

/// The simulated clinical values of a phantom patient as a clinical file.
pub fn clinical(phantom: &Phantom, seed: u64) -> Value {
    let c = &phantom.truth.clinical;
    json!({
        "patient_id": format!("PHANTOM-{seed}"),
        "afp_ng_per_ml": (c.afp_ng_per_ml * 100.0).round() / 100.0,
        "dissected_lymph_nodes": c.dissected_lymph_nodes,
        "perineural_invasion": c.perineural_invasion,
        "tumor_nodules": c.tumor_nodules,
    })
}
