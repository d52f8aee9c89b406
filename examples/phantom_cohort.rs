//! The simulated cohort of `models/training/nomogram`: what `metwatch cohort fit` gets there. No patient is behind any row.
//!
//! ```text
//! cargo run --release --example phantom_cohort -- clinical 5000 5171 > clinical.csv
//! cargo run --release --example phantom_cohort -- features 5000 5171 params.yaml > features.csv
//! ```
//! `clinical`: simulated laboratory and pathology, and an outcome drawn from the known truth (README.md there says how).
//! `features`: a choice of features of both regions inside the true masks, by the calls that `metwatch extract` makes.
#![expect(clippy::disallowed_methods, reason = "an example reads its arguments and a parameter file")]

use metwatch::phantom::{Options, Truth, generate};
use metwatch::radiomics::{Settings, extract_region};
use metwatch::volume::Region;
use std::error::Error;
use std::io::Write;
use std::ops::Range;

const REGIONS: [Region; 2] = [Region::Liver, Region::ColorectalTumor];

/// What the selection of the fit chooses from, in each region.
const FEATURES: [&str; 9] = [
    "original_shape_MeshVolume",
    "original_firstorder_InterquartileRange",
    "original_firstorder_Mean",
    "original_firstorder_Variance",
    "original_firstorder_Entropy",
    "original_glcm_Contrast",
    "original_glcm_Correlation",
    "original_glcm_Idm",
    "original_glcm_JointEntropy",
];

/// Everybody is followed for so long; the event counts only within it.
const FOLLOW_UP_MONTHS: f64 = 60.0;
/// Log hazard per month where every standardized value is 0: with it 45 % have the event within the follow-up.
const LOG_HAZARD: f64 = -5.42;
/// Of the random numbers of the outcome.
const OUTCOME_SEED: u64 = 20_260_731;
/// Smaller tumors (mostly hidden behind an organ) leave too few voxels for a texture: they are in no part of the split.
const TUMOR_ML_MIN: f64 = 4.0;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seeds = |first: &str, end: &str| Ok::<_, Box<dyn Error>>(first.parse::<u64>()?..end.parse()?);
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["clinical", first, end] => clinical(seeds(first, end)?),
        ["features", first, end, parameters] => {
            features(seeds(first, end)?, &Settings::from_yaml(&std::fs::read_to_string(parameters)?)?)
        }
        _ => {
            Err("usage: phantom_cohort clinical FIRST_SEED END_SEED | features FIRST_SEED END_SEED PARAMS.yaml".into())
        }
    }
}

fn clinical(seeds: Range<u64>) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "patient_id,part,event,time_months,afp_ng_per_ml,dissected_lymph_nodes,perineural_invasion,tumor_nodules,true_log_hazard"
    )?;
    for seed in seeds {
        // Truth and anatomy do not depend on the grid, but for the volume of the tumor.
        let truth = generate(&Options::small(seed), &|_| ()).truth;
        let part = match seed % 3 {
            _ if truth.tumor_ml < TUMOR_ML_MIN => "small tumor",
            2 => "held out",
            _ => "training",
        };
        let log_hazard = log_hazard(&truth);
        // A random number for each phantom: its outcome does not depend on which other seeds are in the table.
        let onset = -(1.0 - uniform(OUTCOME_SEED ^ seed << 32)).ln() / log_hazard.exp();
        let c = &truth.clinical;
        writeln!(
            out,
            "{seed},{part},{},{:.2},{:.3},{},{},{},{log_hazard:.4}",
            u8::from(onset <= FOLLOW_UP_MONTHS),
            onset.min(FOLLOW_UP_MONTHS),
            c.afp_ng_per_ml,
            c.dissected_lymph_nodes,
            u8::from(c.perineural_invasion),
            u8::from(c.tumor_nodules)
        )?;
    }
    Ok(())
}

/// The simulated truth, per standard deviation of what the phantom draws. Fewer dissected nodes: more is overlooked.
fn log_hazard(truth: &Truth) -> f64 {
    let of_uniform = |level: f64| (level - 0.5) * 12f64.sqrt();
    let c = &truth.clinical;
    LOG_HAZARD
        + 1.1 * of_uniform(truth.tumor_texture)
        + 0.8 * of_uniform(truth.liver_texture)
        + 0.7 * (c.afp_ng_per_ml.ln() - 1.3) / 0.7
        - 0.5 * (f64::from(c.dissected_lymph_nodes) - 19.5) / 9.23
        + 0.9 * f64::from(u8::from(c.perineural_invasion))
        + 1.1 * f64::from(u8::from(c.tumor_nodules))
}

/// A number from 0 up to but not including 1: one step of SplitMix64 (Steele, Lea and Flood 2014).
fn uniform(seed: u64) -> f64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

fn features(seeds: Range<u64>, settings: &Settings) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    let names = REGIONS.iter().flat_map(|r| FEATURES.iter().map(|f| format!(",{}_{f}", r.name())));
    writeln!(out, "patient_id{}", names.collect::<String>())?;
    for seed in seeds {
        match row(seed, settings) {
            Ok(row) => writeln!(out, "{seed}{row}")?,
            // A tumor can hide wholly behind another organ; such a phantom has no row, and the report counts it.
            Err(error) => eprintln!("seed {seed} left out: {error}"),
        }
    }
    Ok(())
}

fn row(seed: u64, settings: &Settings) -> Result<String, Box<dyn Error>> {
    let phantom = generate(&Options::new(seed), &|_| ());
    let mut row = String::new();
    for region in REGIONS {
        let extraction = extract_region(&phantom.volume, phantom.labels.mask(region).view(), settings)?;
        for name in FEATURES {
            let value =
                extraction.features.value(name).ok_or_else(|| format!("{name} is not in the parameter file"))?;
            row.push_str(&format!(",{value:?}"));
        }
    }
    Ok(row)
}
