//! A synthetic CT of an abdomen with known truth: for the demonstration, for tests and for training. No patient was scanned.
//!
//! [`generate`] draws an [`anatomy`] by seed (body, fat, muscle, spine, ribs, lungs, heart, vessels, liver with lesions, spleen, kidneys,
//! stomach, bowel, colon with a tumor on its wall), bends it by a smooth field and scans it with blur and noise. The result is a
//! [`Phantom`]: volume, labels and [`Truth`].
//!
//! **Invariant:** the same options give the same bits, for any number of threads; no clock, no file, no global state.

mod anatomy;
mod noise;
mod paint;

use crate::volume::{Geometry, LabelMap, LabelScheme, Region, Volume};
use ndarray::{Array3, Axis};
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Everything random follows from it.
    pub seed: u64,
    /// Number of voxels along x, y, z.
    pub size: [usize; 3],
    /// Spacing along x, y, z.
    pub spacing_mm: [f64; 3],
    /// Whether a colorectal tumor grows in it.
    pub with_tumor: bool,
}

impl Options {
    /// 512 x 512 x 128 voxels of 0.75 x 0.75 x 2.5 mm.
    pub fn new(seed: u64) -> Self {
        Options { seed, size: [512, 512, 128], spacing_mm: [0.75, 0.75, 2.5], with_tumor: true }
    }

    /// A quarter of the work for tests: 192 x 192 x 80 voxels of 2 x 2 x 4 mm.
    pub fn small(seed: u64) -> Self {
        Options { size: [192, 192, 80], spacing_mm: [2.0, 2.0, 4.0], ..Options::new(seed) }
    }
}

/// One lesion of the liver.
#[derive(Debug, Clone, PartialEq)]
pub struct LesionTruth {
    /// Center in the bent patient, LPS.
    pub center_mm: [f64; 3],
    /// Diameter of a ball of the drawn size.
    pub diameter_mm: f64,
}

/// Simulated laboratory and pathology values of the phantom patient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClinicalTruth {
    /// Alpha-fetoprotein.
    pub afp_ng_per_ml: f64,
    /// Number of dissected lymph nodes.
    pub dissected_lymph_nodes: u32,
    /// Perineural invasion.
    pub perineural_invasion: bool,
    /// Tumor nodules (deposits).
    pub tumor_nodules: bool,
}

/// What is known of a phantom because it was drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// Volume of the liver, lesions included.
    pub liver_ml: f64,
    /// Volume of the colorectal tumor; 0 without one.
    pub tumor_ml: f64,
    /// Diameter of a ball of the tumor's volume; 0 without one.
    pub tumor_diameter_mm: f64,
    /// Lesions of the liver as drawn; a scan that ends above or below may miss some, and neighbors may merge.
    pub lesions: Vec<LesionTruth>,
    /// How heterogeneous the liver is, 0 to 1.
    pub liver_texture: f64,
    /// How heterogeneous the tumor is, 0 to 1.
    pub tumor_texture: f64,
    /// Simulated clinical values.
    pub clinical: ClinicalTruth,
}

/// A phantom with its truth.
#[derive(Debug, Clone)]
pub struct Phantom {
    /// HU, rounded to integers as a scanner stores them.
    pub volume: Volume,
    /// 1 liver, 2 liver lesion, 3 colon, 4 colorectal tumor.
    pub labels: LabelMap,
    /// What was drawn.
    pub truth: Truth,
}

/// The label scheme of phantoms and of the network trained on them.
pub fn scheme() -> LabelScheme {
    let entry = |value, region, code: &str| (value, region, code.to_string());
    LabelScheme {
        entries: vec![
            entry(1, Region::Liver, "10200004"),
            entry(2, Region::LiverLesion, "108369006"),
            entry(3, Region::Colon, "71854001"),
            entry(4, Region::ColorectalTumor, "363406005"),
        ],
    }
}

/// Generates a phantom. `progress` is told the finished share, 0 to 1.
pub fn generate(options: &Options, progress: &(dyn Fn(f32) + Sync)) -> Phantom {
    let anatomy = anatomy::Anatomy::draw(options.seed, options.with_tumor);
    let geometry = Geometry {
        size: options.size,
        spacing_mm: options.spacing_mm,
        origin_mm: std::array::from_fn(|a| -(options.size[a] as f64 - 1.0) / 2.0 * options.spacing_mm[a]),
        direction: Geometry::IDENTITY,
    };
    let bend = paint::Bend::new(&anatomy, &geometry);
    let mut hu = Array3::<f32>::zeros(geometry.shape_zyx());
    let mut labels = Array3::<u8>::zeros(geometry.shape_zyx());
    let done = AtomicUsize::new(0);
    let slices = hu.axis_iter_mut(Axis(0)).into_par_iter().zip(labels.axis_iter_mut(Axis(0)).into_par_iter());
    slices.enumerate().for_each(|(z, (hu, labels))| {
        paint::slice(&anatomy, &bend, &geometry, z, hu, labels);
        progress((done.fetch_add(1, Ordering::Relaxed) + 1) as f32 / options.size[2] as f32);
    });
    let labels = LabelMap { labels, geometry: geometry.clone(), scheme: scheme() };
    let truth = truth(&anatomy, &labels);
    Phantom { volume: Volume { hu, geometry }, labels, truth }
}

fn truth(anatomy: &anatomy::Anatomy, labels: &LabelMap) -> Truth {
    let tumor_ml = labels.volume_ml(Region::ColorectalTumor);
    let lesion = |blob: &anatomy::Blob| LesionTruth {
        center_mm: paint::place_in_patient(anatomy, blob.center).map(f64::from),
        diameter_mm: 2.0 * f64::from(blob.half.iter().product::<f32>()).cbrt(),
    };
    Truth {
        liver_ml: labels.volume_ml(Region::Liver),
        tumor_ml,
        tumor_diameter_mm: 2.0 * (tumor_ml * 1000.0 * 3.0 / (4.0 * std::f64::consts::PI)).cbrt(),
        lesions: anatomy.lesions.iter().map(lesion).collect(),
        liver_texture: f64::from(anatomy.liver_texture),
        tumor_texture: f64::from(anatomy.tumor_texture),
        clinical: anatomy.clinical,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HU_DIGEST: u64 = 1_994_515_361_168_891_064;
    const LABEL_DIGEST: u64 = 9_332_442_245_383_091_322;

    fn coarse(seed: u64) -> Options {
        Options { size: [96, 96, 40], spacing_mm: [4.0, 4.0, 8.0], ..Options::new(seed) }
    }

    #[test]
    fn the_same_seed_gives_the_same_bits_for_any_number_of_threads() {
        let in_pool = |n| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("a small pool");
            pool.install(|| generate(&coarse(5), &|_| ()))
        };
        let (one, two) = (in_pool(1), in_pool(2));
        assert_eq!(one.volume.hu, two.volume.hu);
        assert_eq!(one.labels.labels, two.labels.labels);
        assert_ne!(one.volume.hu, generate(&coarse(6), &|_| ()).volume.hu);
    }

    #[test]
    fn organs_have_plausible_sizes_and_attenuations() {
        for seed in 0..12 {
            let p = generate(&coarse(seed), &|_| ());
            assert!((900.0..2100.0).contains(&p.truth.liver_ml), "seed {seed}: liver {} mL", p.truth.liver_ml);
            assert!(
                (20.0..65.0).contains(&p.truth.tumor_diameter_mm),
                "seed {seed}: tumor {} mm",
                p.truth.tumor_diameter_mm
            );
            let liver =
                p.labels.labels.iter().zip(&p.volume.hu).filter(|(l, _)| **l == 1).map(|(_, hu)| f64::from(*hu));
            let (n, sum) = liver.fold((0.0, 0.0), |(n, s), hu| (n + 1.0, s + hu));
            assert!((80.0..150.0).contains(&(sum / n)), "seed {seed}: liver {} HU", sum / n);
            let center_x = p
                .labels
                .mask(Region::Liver)
                .indexed_iter()
                .filter(|(_, m)| **m)
                .map(|((_, _, x), _)| x as f64)
                .sum::<f64>();
            assert!(center_x / (p.truth.liver_ml * 1000.0 / 128.0) < 48.0, "the liver lies on the patient's right");
        }
    }

    #[test]
    fn lesions_lie_where_the_truth_says() {
        for seed in 0..8 {
            let p =
                generate(&Options { size: [128, 128, 80], spacing_mm: [3.0, 3.0, 4.0], ..Options::new(seed) }, &|_| ());
            for lesion in &p.truth.lesions {
                let [x, y, z] = p.volume.geometry.index_of(lesion.center_mm).map(|i| i.round() as usize);
                assert_eq!(p.labels.labels[[z, y, x]], 2, "seed {seed}, lesion at {:?}", lesion.center_mm);
            }
        }
    }

    #[test]
    fn a_phantom_keeps_its_bits() {
        // The shipped segmenter and nomogram were made from these phantoms: whoever changes them has to make both again.
        let p = generate(&coarse(5), &|_| ());
        let digest = |n: u64, v: u64| noise::hash(n, v);
        assert_eq!(p.volume.hu.iter().fold(0, |n, hu| digest(n, i64::from(*hu as i32) as u64)), HU_DIGEST);
        assert_eq!(p.labels.labels.iter().fold(0, |n, l| digest(n, u64::from(*l))), LABEL_DIGEST);
    }

    #[test]
    fn without_a_tumor_there_is_none() {
        let p = generate(&Options { with_tumor: false, ..coarse(3) }, &|_| ());
        assert_eq!(p.truth.tumor_ml, 0.0);
        assert!(!p.labels.labels.iter().any(|l| *l == 4));
    }
}
