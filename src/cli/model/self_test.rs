//! `metwatch model self-test`: does a segmenter on this machine find what it found when it was made?

use super::Failure;
use crate::cli::load_segmenter;
use crate::phantom::{self, Options};
use crate::segment::{SegmentError, Segmenter, SelfTest};
use crate::service::BUILT_IN;
use crate::volume::{Region, overlap};
use crate::{DISCLAIMER, Explain};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Runs the golden vectors and the golden self-test of a segmenter on this machine; ends with 1 if anything fails
#[derive(clap::Args)]
pub struct Args {
    /// Folder of a segmenter package, or the name of one in the program; without it, all in the program
    #[arg(value_name = "DIR_OR_NAME")]
    package: Option<PathBuf>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// A self-test that failed.
#[derive(Debug, thiserror::Error)]
#[error("{n_failed} of {n} checks of the self-test failed")]
struct Failed {
    n_failed: usize,
    n: usize,
}

impl Explain for Failed {
    fn code(&self) -> &'static str {
        "model.self-test"
    }
    fn advice(&self) -> &'static str {
        "do not use this package on this machine; report the lines above with the machine's processor"
    }
}

/// One line of the report.
struct Check {
    package: String,
    what: String,
    found: String,
    good: bool,
}

/// Tests and prints.
pub fn run(args: Args) -> Result<(), Failure> {
    let packages = args.package.map_or_else(|| BUILT_IN.iter().map(PathBuf::from).collect(), |one| vec![one]);
    let mut checks = Vec::new();
    for package in &packages {
        checks.extend(test(package)?);
    }
    let n_failed = checks.iter().filter(|check| !check.good).count();
    if args.json {
        let row = |c: &Check| json!({ "package": c.package, "check": c.what, "found": c.found, "good": c.good });
        let rows: Vec<_> = checks.iter().map(row).collect();
        println!("{:#}", json!({ "disclaimer": DISCLAIMER, "passed": n_failed == 0, "checks": rows }));
    } else {
        for c in &checks {
            println!("{:<4} {:<22} {:<44} {}", if c.good { "ok" } else { "FAIL" }, c.package, c.what, c.found);
        }
        println!("{} checks, {n_failed} failed ({DISCLAIMER})", checks.len());
    }
    if n_failed == 0 { Ok(()) } else { Err(Failed { n_failed, n: checks.len() }.into()) }
}

fn test(package: &Path) -> Result<Vec<Check>, Failure> {
    let asked = package.display().to_string();
    let segmenter = match load_segmenter(Some(package)) {
        Ok(segmenter) => segmenter,
        // Wrong logits are what this command looks for; a folder that is no package is an error of another kind.
        Err(failure) if failure.code() == "package.golden-mismatch" => {
            let found = failure.to_string().lines().next().unwrap_or_default().to_string();
            return Ok(vec![Check { package: asked, what: "golden vectors".into(), found, good: false }]);
        }
        Err(failure) => return Err(failure),
    };
    let name = format!("{} {}", segmenter.package().id, segmenter.package().version);
    let within = |tolerance: f32| format!("logits within {tolerance}");
    let golden = segmenter.package().golden.tolerance;
    let mut checks =
        vec![Check { package: name.clone(), what: "golden vectors".into(), found: within(golden), good: true }];
    if let Some(refine) = &segmenter.package().refine {
        let (what, found) = ("golden vectors of the second network".into(), within(refine.golden.tolerance));
        checks.push(Check { package: name.clone(), what, found, good: true });
    }
    match &segmenter.package().self_test {
        Some(test) => checks.extend(phantoms(&segmenter, &name, test)?),
        None => {
            let (what, found) = ("phantoms".into(), "the package states no self-test".into());
            checks.push(Check { package: name, what, found, good: true });
        }
    }
    Ok(checks)
}

fn phantoms(segmenter: &Segmenter, name: &str, test: &SelfTest) -> Result<Vec<Check>, SegmentError> {
    let mut checks = Vec::new();
    for seed in &test.phantom_seeds {
        let phantom = phantom::generate(&Options::small(*seed), &|_| ());
        let labels = segmenter.segment(&phantom.volume, &|_| ())?.labels;
        for row in &test.regions {
            let Some(region) = Region::from_name(&row.region) else { continue };
            let [found, truth] = [&labels, &phantom.labels].map(|labels| labels.mask(region));
            let o = overlap(&found, &truth, labels.geometry.spacing_mm);
            let [found_ml, truth_ml] = o.volume_ml;
            let good = o.dice >= row.dice_min && (found_ml - truth_ml).abs() <= row.volume_error_max * truth_ml;
            checks.push(Check {
                package: name.into(),
                what: format!("phantom {seed}, {}", row.region),
                found: format!(
                    "Dice {:.3} (at least {:.2}), {found_ml:.0} mL of {truth_ml:.0} (within {:.0} %)",
                    o.dice,
                    row.dice_min,
                    100.0 * row.volume_error_max
                ),
                good,
            });
        }
    }
    Ok(checks)
}
