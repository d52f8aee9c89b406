//! `metwatch segment`: a CT, or the channels of another model, into a label map.

use super::{Failure, load_image, load_segmenter_on, write_file};
use crate::segment::{Backend, Certainty, Estimate, Finding, Options, SegmentError, Segmentation, Segmenter, Step};
use crate::volume::{Image, LabelMap, Volume, Voxels, encode_nifti, encode_nifti_channels, encode_nrrd};
use crate::{DISCLAIMER, Explain};
use indicatif::ProgressBar;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

/// Segments a CT into a label map (demonstration, not for clinical use)
#[derive(clap::Args)]
pub struct Args {
    /// A NIfTI or NRRD file, or a folder of DICOM files; several are the channels of the model, in its order
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// One more channel of the model, on the grid of the first; may be given several times
    #[arg(long, value_name = "IMAGE")]
    channel: Vec<PathBuf>,
    /// The label map to write (.nii.gz or .nrrd), on the image's own grid
    #[arg(long, value_name = "LABELS.nii.gz", required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Folder of a segmenter package, or the name of one in the program (abdomen, phantom); without it, the first of these
    #[arg(long, value_name = "DIR_OR_NAME")]
    model: Option<PathBuf>,
    /// Writes the probability of each class as well: NIfTI with four axes, f32
    #[arg(long, value_name = "FILE.nii.gz")]
    probabilities: Option<PathBuf>,
    /// Threads to use; without it, all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// What runs the network: metwatch's own engine or tract; without it, the engine where it knows every operator
    #[arg(long, value_name = "NAME", value_parser = backend)]
    backend: Option<Backend>,
    /// Does not mirror patches, though the model was trained for it: several times as fast, a little less accurate
    #[arg(long)]
    no_mirror: bool,
    /// Says grid, patches and memory, and whether they fit into this machine, without segmenting
    #[arg(long)]
    dry_run: bool,
    /// Prints volumes, the gate's answer and times as JSON
    #[arg(long)]
    json: bool,
}

fn backend(text: &str) -> Result<Backend, String> {
    let known = || Backend::ALL.map(Backend::name).join(" or ");
    Backend::ALL.into_iter().find(|b| b.name() == text).ok_or_else(|| format!("{text:?} is not {}", known()))
}

/// A thread pool that the system refuses.
#[derive(Debug, thiserror::Error)]
#[error("starting {n} threads")]
struct ThreadsError {
    n: u16,
    source: rayon::ThreadPoolBuildError,
}

impl Explain for ThreadsError {
    fn code(&self) -> &'static str {
        "segment.threads"
    }
    fn advice(&self) -> &'static str {
        "give fewer --threads"
    }
}

/// Segments and writes.
pub fn run(args: Args) -> Result<(), Failure> {
    let Some(n) = args.threads else { return segment(&args) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(usize::from(n)).build();
    pool.map_err(|source| ThreadsError { n, source })?.install(|| segment(&args))
}

fn segment(args: &Args) -> Result<(), Failure> {
    let began = Instant::now();
    let segmenter = load_segmenter_on(args.model.as_deref(), args.backend)?;
    let load_ms = ms(began);
    let began = Instant::now();
    let paths: Vec<&PathBuf> = args.images.iter().chain(&args.channel).collect();
    let volumes: Vec<Volume> = paths.iter().map(|path| load_image(path)).collect::<Result<_, _>>()?;
    let channels: Vec<&Volume> = volumes.iter().collect();
    let read_ms = ms(began);
    let options = Options {
        mirror: !args.no_mirror,
        probabilities: args.probabilities.is_some(),
        memory_available: memory_available(),
        ..Options::default()
    };
    let estimate = segmenter.estimate(&channels, &options)?;
    // What is read already is in memory: only the rest must still fit.
    let held: u64 = volumes.iter().map(|v| 4 * v.hu.len() as u64).sum::<u64>() + segmenter.package().network_bytes();
    let options = Options { memory_available: options.memory_available.map(|free| free + held), ..options };
    if args.dry_run {
        return dry_run(args, &estimate, &options);
    }
    let bar = ProgressBar::new(estimate.patches as u64);
    bar.set_style(super::patch_style());
    let clock = Clock::start();
    let segmentation = segmenter.segment_channels(&channels, &options, &|step| {
        clock.note(step);
        if let Step::Patch { done, total } = step {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        }
    })?;
    bar.finish_and_clear();
    let began = Instant::now();
    let labels = &segmentation.labels;
    if let Some(out) = &args.out {
        write_labels(out, labels)?;
    }
    if let (Some(file), Some(p)) = (&args.probabilities, &segmentation.probabilities) {
        write_file(file, &encode_nifti_channels(p.view(), &labels.geometry)?)?;
    }
    let times = clock.times([("load_ms", load_ms), ("read_ms", read_ms)], ms(began));
    report(args, &segmenter, &segmentation, &estimate, times);
    Ok(())
}

/// Labels as the ending of the file's name says.
fn write_labels(out: &Path, labels: &LabelMap) -> Result<(), Failure> {
    let bytes = if out.extension().is_some_and(|e| e.eq_ignore_ascii_case("nrrd")) {
        let voxels = Voxels::U8(labels.labels.clone());
        encode_nrrd(&Image { geometry: labels.geometry.clone(), voxels, dimension: 3 })?
    } else {
        encode_nifti(labels.labels.view(), &labels.geometry)?
    };
    write_file(out, &bytes)
}

/// When the steps of a segmentation ended.
struct Clock {
    began: Instant,
    ends: Mutex<[Option<f64>; 3]>,
}

impl Clock {
    fn start() -> Clock {
        Clock { began: Instant::now(), ends: Mutex::new([None; 3]) }
    }

    fn note(&self, step: Step) {
        let at = match step {
            Step::Prepared => 0,
            Step::Patch { .. } => 1,
            Step::Labeled => 2,
        };
        self.ends.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[at] = Some(ms(self.began));
    }

    /// Milliseconds of each step; `segment_ms` is all between reading and writing.
    fn times(&self, before: [(&str, f64); 2], write_ms: f64) -> Map<String, Value> {
        let ends = self.ends.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let [prepared, patches, labeled] = *ends;
        let prepared = prepared.unwrap_or(0.0);
        let patches = patches.unwrap_or(prepared);
        let labeled = labeled.unwrap_or(patches);
        let steps = [
            ("prepare_ms", prepared),
            ("network_ms", patches - prepared),
            ("finish_ms", labeled - patches),
            ("segment_ms", labeled),
            ("write_ms", write_ms),
        ];
        before.into_iter().chain(steps).map(|(name, ms)| (name.to_string(), json!(ms))).collect()
    }
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// Memory that the system can give without swapping, bytes; `None` where it does not say.
fn memory_available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

fn dry_run(args: &Args, estimate: &Estimate, options: &Options) -> Result<(), Failure> {
    let available = options.memory_available;
    if let Some(available) = available.filter(|available| *available < estimate.bytes) {
        return Err(SegmentError::Memory { needed: estimate.bytes, available }.into());
    }
    if args.json {
        println!(
            "{:#}",
            json!({ "disclaimer": DISCLAIMER, "estimate": plan_json(estimate), "memory_available": available })
        );
        return Ok(());
    }
    let [z, y, x] = estimate.grid;
    let [mm_z, mm_y, mm_x] = estimate.spacing_mm;
    println!("grid of the network  {z} x {y} x {x} voxels of {mm_z:.3} x {mm_y:.3} x {mm_x:.3} mm");
    println!(
        "patches              {}, each passed {} times, {} at a time",
        estimate.patches, estimate.passes_per_patch, estimate.passes_at_a_time
    );
    println!("memory               about {} MiB at the peak", estimate.bytes >> 20);
    if let Some(available) = available {
        println!("available            {} MiB", available >> 20);
    }
    println!("nothing was segmented ({DISCLAIMER})");
    Ok(())
}

fn plan_json(estimate: &Estimate) -> Value {
    json!({
        "grid": estimate.grid,
        "spacing_mm": estimate.spacing_mm,
        "patches": estimate.patches,
        "passes_per_patch": estimate.passes_per_patch,
        "passes_at_a_time": estimate.passes_at_a_time,
        "memory_bytes": estimate.bytes,
    })
}

/// Each label of the model, its value and its volume.
fn volumes(segmenter: &Segmenter, segmentation: &Segmentation) -> Vec<(String, u8, f64)> {
    let labels = &segmentation.labels;
    let mut counts = [0u64; 256];
    labels.labels.iter().for_each(|v| counts[usize::from(*v)] += 1);
    let voxel_ml = labels.geometry.voxel_mm3() / 1000.0;
    let volume = |value: u8| match labels.scheme.region_of(value) {
        // The liver as an organ includes its lesions.
        Some(region) => labels.volume_ml(region),
        None => counts[usize::from(value)] as f64 * voxel_ml,
    };
    segmenter.package().label_names().into_iter().map(|(value, name)| (name, value, volume(value))).collect()
}

fn report(
    args: &Args,
    segmenter: &Segmenter,
    segmentation: &Segmentation,
    estimate: &Estimate,
    times: Map<String, Value>,
) {
    let (gate, volumes) = (&segmentation.gate, volumes(segmenter, segmentation));
    if args.json {
        let finding = |f: &Finding| json!({ "code": f.code, "sentence": f.sentence, "advice": f.advice });
        let by_name = |f: fn(&(String, u8, f64)) -> Value| -> Map<String, Value> {
            volumes.iter().map(|row| (row.0.clone(), f(row))).collect()
        };
        let number = |value: f64| value.is_finite().then_some(value);
        let certainty = |c: &Certainty| {
            json!({
                "region": c.region.name(), "entropy": c.entropy, "disagreement": c.disagreement,
                "expected_dice": c.expected_dice
            })
        };
        let measures = &segmentation.measures;
        let image = &measures.on_grid.image;
        let mut report = json!({
            "disclaimer": DISCLAIMER,
            "accepted": gate.accepts(),
            "outcome": gate.outcome(),
            "reasons": gate.reasons.iter().map(finding).collect::<Vec<_>>(),
            "notes": gate.notes.iter().map(finding).collect::<Vec<_>>(),
            "labels": by_name(|row| json!(row.1)),
            "volumes_ml": by_name(|row| json!(row.2)),
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
            "backend": segmenter.backend(),
            "estimate": plan_json(estimate),
        });
        if let Some(report) = report.as_object_mut() {
            report.extend(times);
        }
        println!("{report:#}");
        return;
    }
    for (name, value, ml) in volumes {
        println!("{value:>3} {name:<18} {ml:>9.1} mL");
    }
    for finding in gate.reasons.iter().chain(&gate.notes) {
        println!("{} [{}]", finding.sentence, finding.code);
    }
    println!(
        "{} in {:.0} ms ({DISCLAIMER})",
        match gate.outcome() {
            "refuse" => "segmented, not fit for a risk",
            "accept" => "segmented",
            _ => "segmented, with notes",
        },
        times.get("segment_ms").and_then(Value::as_f64).unwrap_or(0.0)
    );
}
