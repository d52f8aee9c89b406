//! `metwatch model compare`: two segmenters on the same images.

use super::{Failure, compare_page};
use crate::cli::labels::{LabelFile, Mapping};
use crate::cli::{FileError, load_scan, load_segmenter, write_file};
use crate::console::{self, SOFT_TISSUE, View};
use crate::segment::{Segmentation, Segmenter};
use crate::volume::{LabelMap, Region, Volume, overlap};
use crate::{DISCLAIMER, Explain, dicom};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Compares two segmenters on images, with each other and with labels: Dice, HD95, volumes, time
#[derive(clap::Args)]
pub struct Args {
    /// Folder of a segmenter package, or the name of one in the program
    a: PathBuf,
    /// The other
    b: PathBuf,
    /// Folder of images: NIfTI or NRRD files, and folders of DICOM
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Folder of labels, named as their images (case.nii.gz, or case_labels.nii.gz)
    #[arg(long, value_name = "DIR")]
    labels: Option<PathBuf>,
    #[command(flatten)]
    mapping: Mapping,
    /// One HTML file with the tables and pictures
    #[arg(long, value_name = "REPORT.html")]
    out: Option<PathBuf>,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Why nothing can be compared.
#[derive(Debug, thiserror::Error)]
enum CompareError {
    #[error("there is no image in {}", .0.display())]
    NoImages(PathBuf),
    #[error("no labels in {} belong to an image", .0.display())]
    NoLabels(PathBuf),
}

impl Explain for CompareError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoImages(_) => "compare.no-images",
            Self::NoLabels(_) => "compare.no-labels",
        }
    }
    fn advice(&self) -> &'static str {
        match self {
            Self::NoImages(_) => "give a folder with NIfTI or NRRD files, or with a folder of DICOM files per case",
            Self::NoLabels(_) => "name each file of labels as its image, such as case1.nii.gz or case1_labels.nii.gz",
        }
    }
}

/// Two masks of one region of one case.
pub struct Pair {
    /// Which.
    pub region: Region,
    /// What is compared, such as `A - B`.
    pub what: &'static str,
    /// How much they agree.
    pub overlap: crate::volume::Overlap,
}

/// One image.
pub struct Case {
    /// Name of the file or folder.
    pub name: String,
    /// Seconds of A and of B.
    pub seconds: [f64; 2],
    /// The gate's words on A and on B.
    pub outcomes: [String; 2],
    /// Every comparison.
    pub pairs: Vec<Pair>,
    /// (title, PNG).
    pub pictures: Vec<(String, Vec<u8>)>,
}

/// Compares and prints.
pub fn run(args: Args) -> Result<(), Failure> {
    let segmenters = [load_segmenter(Some(&args.a))?, load_segmenter(Some(&args.b))?];
    let images = entries(&args.images)?;
    if images.is_empty() {
        return Err(CompareError::NoImages(args.images).into());
    }
    let labels = args.labels.as_deref().map(entries).transpose()?.unwrap_or_default();
    let with_labels = |image: &Path| labels.iter().find(|labels| belongs(labels, image));
    if let Some(folder) = args.labels.filter(|_| !images.iter().any(|image| with_labels(image).is_some())) {
        return Err(CompareError::NoLabels(folder).into());
    }
    let bar = crate::cli::progress_bar("comparing");
    let mut cases = Vec::new();
    for (index, image) in images.iter().enumerate() {
        bar.set_position((100 * index / images.len()) as u64);
        let truth = with_labels(image).map(|path| LabelFile::read(path)).transpose()?;
        cases.push(case(image, truth.as_ref(), &args.mapping, &segmenters, args.out.is_some())?);
    }
    bar.finish_and_clear();
    let names = segmenters.each_ref().map(|s| format!("{} {}", s.package().id, s.package().version));
    if let Some(out) = &args.out {
        write_file(out, compare_page::page(&names, &cases).as_bytes())?;
    }
    if args.json {
        println!("{:#}", as_json(&names, &cases));
    } else {
        print(&names, &cases);
    }
    Ok(())
}

/// Files and folders of a folder, sorted; hidden ones are none.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let read = |e| FileError::read(folder, e);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let image = [".nii", ".nii.gz", ".nrrd", ".nhdr"].iter().any(|end| name.ends_with(end)) || path.is_dir();
        if image && !name.starts_with('.') {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// A file's name without its ending.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let ends = [".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".dcm"];
    ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name).to_string()
}

fn belongs(labels: &Path, image: &Path) -> bool {
    let (labels, image) = (stem(labels), stem(image));
    // nnU-Net calls the first channel of a case CASE_0000.
    let case = image.strip_suffix("_0000").unwrap_or(&image);
    labels == case || ["_labels", "_label", "_seg", "_mask"].iter().any(|end| labels.strip_suffix(end) == Some(case))
}

fn case(
    image: &Path,
    truth: Option<&LabelFile>,
    mapping: &Mapping,
    segmenters: &[Segmenter; 2],
    with_pictures: bool,
) -> Result<Case, Failure> {
    let scan = load_scan(&[image.to_path_buf()], &dicom::SeriesRules::default(), &|_, _| ())?;
    let volume = &scan.volume;
    let mut seconds = [0.0; 2];
    let mut found: Vec<Segmentation> = Vec::new();
    for (segmenter, seconds) in segmenters.iter().zip(&mut seconds) {
        let began = Instant::now();
        found.push(segmenter.segment(volume, &|_| ())?);
        *seconds = began.elapsed().as_secs_f64();
    }
    let frame = scan.plan.as_ref().and_then(|plan| Some(&plan.slices.first()?.header.frame_of_reference_uid));
    let scheme = segmenters[0].scheme().with_targets();
    let truth = truth.map(|file| file.on_scan(mapping, &volume.geometry, frame, &scheme)).transpose()?;
    let [a, b] = [&found[0].labels, &found[1].labels];
    let mut pairs = Vec::new();
    let mut add = |what, one: &LabelMap, other: &LabelMap| {
        for region in Region::all() {
            let both = [one, other].map(|labels| labels.scheme.value_of(region).is_some());
            let masks = [one, other].map(|labels| labels.mask(region));
            if both == [true, true] && masks.iter().any(|mask| mask.iter().any(|inside| *inside)) {
                pairs.push(Pair { region, what, overlap: overlap(&masks[0], &masks[1], volume.geometry.spacing_mm) });
            }
        }
    };
    add("A - B", a, b);
    if let Some(truth) = &truth {
        add("A - labels", a, truth);
        add("B - labels", b, truth);
    }
    let mut pictures = Vec::new();
    if with_pictures {
        let views = views(volume, a, b);
        let shown = [("A", Some(a)), ("B", Some(b)), ("labels", truth.as_ref())];
        for view in views {
            for (name, labels) in &shown {
                if let Some(labels) = labels {
                    let png = console::overlay_png(volume, &labels.targets(), view, SOFT_TISSUE);
                    pictures.push((format!("{name}, {}", title(view)), png));
                }
            }
        }
    }
    let outcomes = [0, 1].map(|k| {
        let gate = &found[k].gate;
        let codes: Vec<&str> = gate.reasons.iter().chain(&gate.notes).map(|f| f.code).collect();
        if codes.is_empty() { gate.outcome().to_string() } else { format!("{} ({})", gate.outcome(), codes.join(", ")) }
    });
    Ok(Case { name: stem(image), seconds, outcomes, pairs, pictures })
}

/// Where both models together see most liver: one axial and one coronal slice, and the axial one where they differ most.
fn views(volume: &Volume, a: &LabelMap, b: &LabelMap) -> Vec<View> {
    let [a, b] = [a, b].map(|labels| labels.mask(Region::Liver));
    let (n_z, n_y, _) = a.dim();
    let (mut area_z, mut area_y, mut differ_z) = (vec![0u32; n_z], vec![0u32; n_y], vec![0u32; n_z]);
    ndarray::Zip::indexed(&a).and(&b).for_each(|(z, y, _), a, b| {
        area_z[z] += u32::from(*a || *b);
        area_y[y] += u32::from(*a || *b);
        differ_z[z] += u32::from(a != b);
    });
    let most = |counts: &[u32], middle: usize| {
        let (at, n) = counts.iter().enumerate().max_by_key(|(_, n)| **n).map_or((0, 0), |(at, n)| (at, *n));
        if n == 0 { middle } else { at }
    };
    let [_, y, z] = volume.geometry.size.map(|n| n / 2);
    let mut views = vec![View::Axial(most(&area_z, z)), View::Coronal(most(&area_y, y))];
    if differ_z.iter().any(|n| *n > 0) {
        views.push(View::Axial(most(&differ_z, z)));
    }
    views
}

fn title(view: View) -> String {
    match view {
        View::Axial(index) => format!("axial {}", index + 1),
        View::Coronal(index) => format!("coronal {}", index + 1),
        View::Sagittal(index) => format!("sagittal {}", index + 1),
    }
}

/// Mean over the cases, per region and comparison: (region, what, number of cases, Dice, HD95 mm).
pub fn means(cases: &[Case]) -> Vec<(Region, &'static str, usize, f64, f64)> {
    let mut rows = Vec::new();
    for region in Region::all() {
        for what in ["A - B", "A - labels", "B - labels"] {
            let of: Vec<&Pair> =
                cases.iter().flat_map(|c| &c.pairs).filter(|p| p.region == region && p.what == what).collect();
            let mean = |value: &dyn Fn(&Pair) -> f64| {
                let known: Vec<f64> = of.iter().map(|p| value(p)).filter(|v| v.is_finite()).collect();
                known.iter().sum::<f64>() / known.len() as f64
            };
            if !of.is_empty() {
                rows.push((region, what, of.len(), mean(&|p| p.overlap.dice), mean(&|p| p.overlap.hd95_mm)));
            }
        }
    }
    rows
}

/// A number with so many digits; a dash where there is none.
pub fn number(value: f64, digits: usize) -> String {
    if value.is_finite() { format!("{value:.digits$}") } else { "-".into() }
}

fn print(names: &[String; 2], cases: &[Case]) {
    println!("A {}\nB {}", names[0], names[1]);
    println!("{:<22} {:<18} {:<11} {:>6} {:>8} {:>10} {:>10}", "case", "region", "", "Dice", "HD95 mm", "mL", "mL");
    for case in cases {
        for p in &case.pairs {
            let [a, b] = p.overlap.volume_ml;
            println!(
                "{:<22} {:<18} {:<11} {:>6.3} {:>8} {a:>10.1} {b:>10.1}",
                case.name,
                p.region.name(),
                p.what,
                p.overlap.dice,
                number(p.overlap.hd95_mm, 1)
            );
        }
        println!("{:<22} A {:.2} s, {}", case.name, case.seconds[0], case.outcomes[0]);
        println!("{:<22} B {:.2} s, {}", "", case.seconds[1], case.outcomes[1]);
    }
    for (region, what, n, dice, hd95) in means(cases) {
        let mean = format!("mean of {n}");
        println!("{mean:<22} {:<18} {what:<11} {dice:>6.3} {:>8}", region.name(), number(hd95, 1));
    }
    println!("({DISCLAIMER})");
}

fn as_json(names: &[String; 2], cases: &[Case]) -> Value {
    let finite = |value: f64| value.is_finite().then_some(value);
    let pair = |p: &Pair| {
        json!({
            "region": p.region.name(),
            "compared": p.what,
            "dice": p.overlap.dice,
            "hd95_mm": finite(p.overlap.hd95_mm),
            "mean_surface_mm": finite(p.overlap.mean_surface_mm),
            "volume_ml": p.overlap.volume_ml,
        })
    };
    let case = |c: &Case| {
        let pairs: Vec<Value> = c.pairs.iter().map(pair).collect();
        json!({ "case": c.name, "seconds": c.seconds, "outcomes": c.outcomes, "pairs": pairs })
    };
    let mean = |(region, what, n, dice, hd95): (Region, &str, usize, f64, f64)| json!({ "region": region.name(), "compared": what, "n": n, "dice": dice, "hd95_mm": finite(hd95) });
    json!({
        "disclaimer": DISCLAIMER,
        "a": names[0],
        "b": names[1],
        "cases": cases.iter().map(case).collect::<Vec<_>>(),
        "means": means(cases).into_iter().map(mean).collect::<Vec<_>>(),
    })
}
