//! `metwatch model import-nnunet`: a trained folder of nnU-Net v2 and its exported networks into a segmenter package.

use crate::DISCLAIMER;
use crate::cli::{Failure, FileError, read_file, write_file};
use crate::segment::nnunet::{self, Source};
use crate::segment::{Package, Plan, Segmenter};
use crate::volume::Region;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Makes a segmenter package from a model trained with nnU-Net v2 (2d, 3d_fullres or 3d_lowres; no cascades)
///
/// The networks come from models/training/nnunet_export.py, which runs where the model was trained and writes
/// nnunet.json beside them.
#[derive(clap::Args)]
pub struct Args {
    /// The trained folder, e.g. nnUNet_results/Dataset003_Liver/nnUNetTrainer__nnUNetPlans__3d_fullres
    #[arg(value_name = "RESULTS_DIR")]
    results: PathBuf,
    /// The exported networks, one per fold, or the folder that holds them
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    onnx: Vec<PathBuf>,
    /// The package to write: a new folder
    #[arg(long, value_name = "PACKAGE")]
    out: PathBuf,
    /// What a label is where its name does not say so: liver, liver_lesion, colon or colorectal_tumor
    #[arg(long, value_name = "NAME=REGION", value_parser = label)]
    label: Vec<(String, Region)>,
    /// Name of the configuration, where there is no nnunet.json
    #[arg(long, value_name = "NAME")]
    configuration: Option<String>,
    /// Axes along which the predictor mirrors (`0,1,2`, or `none`), where there is no nnunet.json
    #[arg(long, value_name = "AXES", value_parser = mirror_axes)]
    mirror_axes: Option<Axes>,
}

#[derive(Debug, Clone)]
struct Axes(Vec<usize>);

fn mirror_axes(text: &str) -> Result<Axes, String> {
    if text == "none" {
        return Ok(Axes(Vec::new()));
    }
    let axis = |t: &str| t.trim().parse().ok().filter(|a| *a < 3).ok_or(format!("{t:?} is no axis: 0, 1 or 2"));
    text.split(',').map(axis).collect::<Result<_, _>>().map(Axes)
}

fn label(text: &str) -> Result<(String, Region), String> {
    let (name, region) = text.split_once('=').ok_or("give NAME=REGION")?;
    let known = || Region::all().map(Region::name).collect::<Vec<_>>().join(", ");
    let region = Region::from_name(region).ok_or_else(|| format!("{region:?} is none of {}", known()))?;
    Ok((name.into(), region))
}

/// Reads, makes the package, loads it as it will be loaded (hashes, golden vectors), writes it.
pub fn run(args: Args) -> Result<(), Failure> {
    let networks = network_files(&args.onnx)?;
    let sidecar = networks.first().and_then(|file| file.parent()).map(|folder| folder.join("nnunet.json"));
    let sidecar = sidecar.filter(|file| file.exists());
    let read = |file: &PathBuf| -> Result<(String, Vec<u8>), Failure> { Ok((file_name(file), read_file(file)?)) };
    let source = Source {
        folder: file_name(&args.results),
        plans: read_file(&args.results.join("plans.json"))?,
        dataset: read_file(&args.results.join("dataset.json"))?,
        sidecar: sidecar.as_deref().map(read_file).transpose()?,
        networks: networks.iter().map(read).collect::<Result<_, _>>()?,
        configuration: args.configuration,
        mirror_axes: args.mirror_axes.map(|axes| axes.0),
        regions: args.label.into_iter().collect::<BTreeMap<_, _>>(),
    };
    let exported = source.sidecar.is_some();
    let files = nnunet::files(source.take_over()?)?;
    let segmenter = Segmenter::load(Package::from_files(files.clone())?)?;
    for (name, bytes) in &files {
        write_file(&args.out.join(name), bytes)?;
    }
    describe(&args.out, segmenter.package(), exported);
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The networks that were named; of a folder all `*.onnx` in it.
fn network_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let [folder] = paths else { return Ok(paths.to_vec()) };
    if !folder.is_dir() {
        return Ok(paths.to_vec());
    }
    let entries = std::fs::read_dir(folder).map_err(|e| FileError::read(folder, e))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "onnx"))
        .collect();
    files.sort();
    if files.is_empty() {
        let none = std::io::Error::new(std::io::ErrorKind::NotFound, "no .onnx file in this folder");
        return Err(FileError::read(folder, none).into());
    }
    Ok(files)
}

fn describe(out: &Path, package: &Package, exported: bool) {
    let Plan::Nnunet(recipe) = &package.plan else { return };
    println!("{} -> {} ({DISCLAIMER})", package.training, out.display());
    let channels: Vec<&str> = recipe.channels.iter().map(|c| c.name.as_str()).collect();
    println!("channels        {}", channels.join(", "));
    println!("grid            {:?} mm, patch {:?}", recipe.spacing_mm, recipe.patch_size);
    println!(
        "mirroring       {}",
        if recipe.mirror_axes.is_empty() { "none".into() } else { format!("axes {:?}", recipe.mirror_axes) }
    );
    for label in &recipe.labels {
        let region = label.region.map_or("kept by its number and name", |region| region.name());
        println!("label {:>3}       {} = {region}", label.value, label.name);
    }
    for values in &recipe.postprocessing {
        println!("postprocessing  keeps the largest component of labels {values:?}");
    }
    println!(
        "golden vectors  {}",
        if exported {
            "the exporter's, right on this machine"
        } else {
            "made here: they cannot find an error of the export"
        }
    );
    if package.scheme.value_of(Region::Liver).is_none() {
        println!(
            "no label for the liver: `metwatch segment` can use this model, an analysis of risk cannot (--label NAME=liver)"
        );
    }
}
