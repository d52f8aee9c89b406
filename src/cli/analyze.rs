//! `metwatch analyze`: the whole computation on files, without network.

use super::labels::{LabelFile, Mapping};
use super::{Failure, Scan, load_rules, load_scan, read_file, write_file};
use crate::alert::payload::rfc3339;
use crate::risk::{ClinicalValues, clinical_from_json};
use crate::segment::Segmentation;
use crate::service::analysis::{self, Context, Models};
use crate::service::objects::{self, Source};
use crate::service::{Remark, ResultV1, Status};
use crate::{DISCLAIMER, dicom};
use std::path::PathBuf;
use std::time::Instant;

/// Analyses a CT (DICOM folder, NIfTI or NRRD) without network; exit 0 also when the gate refuses: that is a result
#[derive(clap::Args)]
pub struct Args {
    /// A folder of DICOM files, DICOM files, or one NIfTI or NRRD file
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Folder for labels.nii.gz, features.csv, result.json, report.pdf, overlay pictures and, from DICOM, the objects for a
    /// PACS: segmentation.dcm, measurements.dcm, report.dcm and picture_1.dcm onwards
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Clinical values as JSON: afp_ng_per_ml, dissected_lymph_nodes, perineural_invasion, tumor_nodules
    #[arg(long, value_name = "FILE")]
    clinical: Option<PathBuf>,
    /// Folder of a segmenter package, or the name of one in the program (abdomen, phantom); without it, the first of these
    #[arg(long, value_name = "DIR_OR_NAME")]
    model: Option<PathBuf>,
    /// Labels of a person instead of the network's: NIfTI, NRRD, DICOM SEG or RTSTRUCT on this scan
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    #[command(flatten)]
    mapping: Mapping,
    /// Folder of a nomogram package; without it, the demonstration package
    #[arg(long, value_name = "DIR")]
    nomogram: Option<PathBuf>,
    /// The service's configuration: its [series] part chooses among several series
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Prints result.json instead of a summary
    #[arg(long)]
    json: bool,
}

/// Reads, computes, writes, prints.
pub fn run(args: Args) -> Result<(), Failure> {
    let clinical = match &args.clinical {
        Some(path) => clinical_from_json(&String::from_utf8_lossy(&read_file(path)?))?.1,
        None => ClinicalValues::default(),
    };
    let rules = load_rules(args.config.as_deref())?;
    let models = Models::load(args.model.as_deref(), args.nomogram.as_deref())?;
    let mut steps_ms = Vec::new();
    let bar = super::progress_bar("reading");
    let mut began = Instant::now();
    let mut step = |name: &str, bar: &indicatif::ProgressBar, next: &'static str| {
        steps_ms.push((name.to_string(), began.elapsed().as_secs_f64() * 1000.0));
        began = Instant::now();
        bar.set_message(next);
        bar.set_position(0);
    };
    let scan = load_scan(&args.paths, &rules, &|done, of| bar.set_position((100 * done / of.max(1)) as u64))?;
    step("read", &bar, "segmenting");
    let supplied = args.labels.as_deref().map(LabelFile::read).transpose()?;
    let mut segmentation = match &supplied {
        Some(file) => judge(file, &args.mapping, &scan, &models)?,
        None => models.segmenter.segment(&scan.volume, &|share| bar.set_position((share * 100.0) as u64))?,
    };
    dicom::leave_out(&scan.unmeasured, &mut segmentation.labels.labels);
    step("segment", &bar, "measuring");
    let regions = analysis::confirmed(&models, supplied.is_some());
    let (features, remarks) = analysis::measure(&scan.volume, &segmentation.labels, &models.settings, &regions);
    step("radiomics", &bar, "writing");
    let created_at = rfc3339(chrono::Utc::now().timestamp_millis());
    let source = scan.plan.as_ref().map(|plan| Source { plan, seed: &created_at });
    let mut files = analysis::label_files(&scan.volume, &segmentation, &models, source, &created_at)?;
    step("label files", &bar, "risk");
    let context = Context {
        models: &models,
        study: None,
        revision: 1,
        created_at: created_at.clone(),
        quality: Some(analysis::quality(&segmentation)),
        reasons: analysis::remarks(&[scan.verdict.reasons, segmentation.gate.reasons].concat()),
        notes: [
            supplied.iter().map(supplied_remark).collect(),
            analysis::remarks(&[scan.verdict.notes, segmentation.gate.notes].concat()),
            remarks,
        ]
        .concat(),
        labels: &segmentation.labels,
        by_person: supplied.is_some(),
        clinical: (clinical, 0),
        steps_ms,
    };
    let result = analysis::score(context, &features);
    files.extend(objects::result_objects(&result, &features, &models, source, &files)?);
    files.insert("features.csv".into(), features.to_csv().into_bytes());
    files.insert("result.json".into(), result.to_json().into_bytes());
    for (name, bytes) in &files {
        write_file(&args.out.join(name), bytes)?;
    }
    bar.finish_and_clear();
    if args.json {
        println!("{}", result.to_json())
    } else {
        print(&result)
    }
    eprintln!("results in {}", args.out.display());
    Ok(())
}

/// The labels of a file, judged by the gate.
fn judge(file: &LabelFile, mapping: &Mapping, scan: &Scan, models: &Models) -> Result<Segmentation, Failure> {
    let frame = scan.plan.as_ref().and_then(|plan| Some(&plan.slices.first()?.header.frame_of_reference_uid));
    let scheme = models.segmenter.scheme().with_targets();
    let labels = file.on_scan(mapping, &scan.volume.geometry, frame, &scheme)?;
    Ok(models.segmenter.judge_labels(&scan.volume, labels)?)
}

fn supplied_remark(file: &LabelFile) -> Remark {
    Remark {
        code: "labels.supplied".into(),
        sentence: format!(
            "the labels were supplied ({}, sha256 {}), not made by the network",
            file.name(),
            file.sha256
        ),
        advice: String::new(),
    }
}

/// The summary for a person.
pub fn print(result: &ResultV1) {
    match (&result.assessment, result.status) {
        (Some(a), _) => println!(
            "Risk of metachronous liver metastasis within {} months: {:.1} % ({} risk, {}, variant {}, {:.0} of {:.0} points)\n*** {DISCLAIMER} ***",
            a.horizon_months,
            100.0 * a.probability,
            a.group,
            a.certainty,
            a.variant,
            a.points,
            a.points_max
        ),
        (None, Status::Refused) => println!("NOT ANALYSED: no risk is given ({DISCLAIMER})"),
        (None, _) => println!("no risk was computed ({DISCLAIMER})"),
    }
    for reason in &result.reasons {
        println!("  reason  {} [{}]\n          what to do: {}", reason.sentence, reason.code, reason.advice);
    }
    for note in &result.notes {
        println!("  note    {} [{}]", note.sentence, note.code);
    }
    for region in result.regions.iter().filter(|r| r.n_voxels > 0) {
        println!("  {:<18} {:>9.1} mL", region.region, region.volume_ml);
    }
    let steps: Vec<String> = result.steps_ms.iter().map(|(name, ms)| format!("{name} {ms:.0} ms")).collect();
    println!("  time    {}", steps.join(", "));
}
