//! Measures a cohort of phantoms for `models/training/nomogram/fit_nomogram.py`: one row per seed with the latent textures, the
//! simulated clinical values and a choice of features of both regions, inside the true masks, by the calls that `analyze` makes.
//!
//! ```text
//! cargo run --release --example phantom_cohort -- 5000 5240 models/training/nomogram/params.yaml > cohort.csv
//! ```
#![expect(clippy::disallowed_methods, reason = "an example reads its arguments and a parameter file")]

use metwatch::phantom::{Options, Phantom, generate};
use metwatch::radiomics::{Settings, extract_region};
use metwatch::volume::Region;
use std::error::Error;
use std::io::Write;

const REGIONS: [Region; 2] = [Region::Liver, Region::ColorectalTumor];

/// What the choice of predictors was made from (README.md in models/training/nomogram).
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

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [first, end, parameters] = &arguments[..] else {
        return Err("usage: phantom_cohort FIRST_SEED END_SEED PARAMS.yaml > cohort.csv".into());
    };
    let settings = Settings::from_yaml(&std::fs::read_to_string(parameters)?)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", header())?;
    for seed in first.parse::<u64>()?..end.parse()? {
        let phantom = generate(&Options::new(seed), &|_| ());
        match row(seed, &phantom, &settings) {
            Ok(row) => writeln!(out, "{row}")?,
            // A tumor can hide wholly behind another organ; such a phantom is no row, and the fit says how many rows it had.
            Err(error) => eprintln!("seed {seed} left out: {error}"),
        }
    }
    Ok(())
}

fn header() -> String {
    let known = "seed,latent_tumor_texture,latent_liver_texture,tumor_ml,afp_ng_per_ml,dissected_lymph_nodes,perineural_invasion,tumor_nodules";
    let features = REGIONS.iter().flat_map(|r| FEATURES.iter().map(|f| format!(",{}_{f}", r.name())));
    known.chars().chain(features.collect::<String>().chars()).collect()
}

fn row(seed: u64, phantom: &Phantom, settings: &Settings) -> Result<String, Box<dyn Error>> {
    let (t, c) = (&phantom.truth, &phantom.truth.clinical);
    let mut row = format!(
        "{seed},{},{},{},{},{},{},{}",
        t.tumor_texture,
        t.liver_texture,
        t.tumor_ml,
        c.afp_ng_per_ml,
        c.dissected_lymph_nodes,
        u8::from(c.perineural_invasion),
        u8::from(c.tumor_nodules)
    );
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
