//! `metwatch segment`: a CT into a label map.

use super::{Failure, load_image, load_segmenter, write_file};
use crate::DISCLAIMER;
use crate::volume::encode_nifti;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

/// Segments a CT into a label map (demonstration, not for clinical use)
#[derive(clap::Args)]
pub struct Args {
    /// A NIfTI or NRRD file, or a folder of DICOM files
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// The label map to write, on the image's own grid
    #[arg(long, value_name = "LABELS.nii.gz")]
    out: PathBuf,
    /// Folder of a segmenter package, or the name of one in the program (abdomen, phantom); without it, the first of these
    #[arg(long, value_name = "DIR_OR_NAME")]
    model: Option<PathBuf>,
    /// Prints volumes, the gate's answer and times as JSON
    #[arg(long)]
    json: bool,
}

/// Segments and writes.
pub fn run(args: Args) -> Result<(), Failure> {
    let segmenter = load_segmenter(args.model.as_deref())?;
    let bar = super::progress_bar("segmenting");
    let began = Instant::now();
    let volume = load_image(&args.image)?;
    let read_ms = began.elapsed().as_secs_f64() * 1000.0;
    let began = Instant::now();
    let segmentation = segmenter.segment(&volume, &|share| bar.set_position((share * 100.0) as u64))?;
    let segment_ms = began.elapsed().as_secs_f64() * 1000.0;
    bar.finish_and_clear();
    let labels = &segmentation.labels;
    write_file(&args.out, &encode_nifti(labels.labels.view(), &labels.geometry)?)?;
    let volumes: Vec<(&str, f64)> =
        labels.scheme.entries.iter().map(|(_, r, _)| (r.name(), labels.volume_ml(*r))).collect();
    let gate = &segmentation.gate;
    if args.json {
        let finding =
            |f: &crate::segment::Finding| json!({ "code": f.code, "sentence": f.sentence, "advice": f.advice });
        let number = |value: f64| value.is_finite().then_some(value);
        let certainty = |c: &crate::segment::Certainty| json!({ "region": c.region.name(), "entropy": c.entropy, "disagreement": c.disagreement, "expected_dice": c.expected_dice });
        let measures = &segmentation.measures;
        let image = &measures.on_grid.image;
        let report = json!({
            "disclaimer": DISCLAIMER,
            "accepted": gate.accepts(),
            "outcome": gate.outcome(),
            "reasons": gate.reasons.iter().map(finding).collect::<Vec<_>>(),
            "notes": gate.notes.iter().map(finding).collect::<Vec<_>>(),
            "volumes_ml": volumes.iter().map(|(n, v)| (n.to_string(), json!(v))).collect::<serde_json::Map<_, _>>(),
            "measures": {
                "liver_hu": number(measures.liver_hu),
                "aorta_hu": number(measures.aorta_hu),
                "phase": measures.phase().name(),
                "noise_hu": number(measures.noise_hu),
                "slice_spacing_mm": measures.slice_spacing_mm,
                "side_cut_cm2": measures.side_cut_cm2,
                "metal_ml": measures.metal_ml,
                "right_of_center_mm": measures.right_of_center_mm,
                "fat_share": number(image.fat_share),
                "dense_share": number(image.dense_share),
                "lung_ml": number(image.lung_ml),
                "lung_above_mm": number(image.lung_above_mm),
                "bone_behind_mm": number(image.bone_behind_mm),
                "bands_hu": number(image.bands_hu),
                "certainty": measures.on_grid.certainty.iter().map(certainty).collect::<Vec<_>>(),
                "entropy": measures.on_grid.entropy,
                "fragments": measures.on_grid.fragments,
                "between_share": measures.on_grid.between_share,
                "cut": measures.cut,
            },
            "read_ms": read_ms,
            "segment_ms": segment_ms,
        });
        println!("{report:#}");
        return Ok(());
    }
    for (name, ml) in volumes {
        println!("{name:<18} {ml:>9.1} mL");
    }
    for finding in gate.reasons.iter().chain(&gate.notes) {
        println!("{} [{}]", finding.sentence, finding.code);
    }
    println!(
        "{} in {segment_ms:.0} ms ({DISCLAIMER})",
        match gate.outcome() {
            "refuse" => "segmented, not fit for a risk",
            "accept" => "segmented",
            _ => "segmented, with notes",
        }
    );
    Ok(())
}
