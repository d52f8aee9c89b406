//! R beside the tests. `tests/run` installs it; where it cannot, it sets `METWATCH_TEST_WITHOUT_R` and the live comparisons are left
//! out with a word. A missing R without that word is a failure: it must not pass for agreement.

use super::Json;
use crate::common::Folder;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const PACKAGES: &str = "for (p in c('glmnet', 'survival', 'rms', 'jsonlite')) library(p, character.only = TRUE)";

/// Whether R is there with its packages; a panic if it is not and nobody said so.
pub fn is_there(test: &str) -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    let found = *FOUND.get_or_init(|| {
        let found = Command::new("Rscript").args(["--vanilla", "-e", PACKAGES]).output();
        found.is_ok_and(|output| output.status.success())
    });
    let left_out = std::env::var_os("METWATCH_TEST_WITHOUT_R").is_some();
    assert!(
        found || left_out,
        "Rscript with glmnet, survival, rms and jsonlite is missing: apt-get install r-cran-glmnet r-cran-survival r-cran-rms \
         r-cran-jsonlite, or set METWATCH_TEST_WITHOUT_R to leave the comparison with it out"
    );
    if !found {
        println!("{test}: the live comparison with R is left out");
    }
    found
}

/// A file below `tests`.
pub fn beside(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

/// Runs a script below `tests`; what it printed.
pub fn run(script: &str, arguments: &[&Path]) -> String {
    let output =
        Command::new("Rscript").arg("--vanilla").arg(beside(script)).args(arguments).output().expect("R starts");
    assert!(output.status.success(), "{script} failed: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a script writes to its last argument: the stored answer, and that of the R at hand.
pub fn answers(test: &str, script: &str, stored: &str, arguments: &[&Path]) -> Vec<Json> {
    let read = |path: &Path| serde_json::from_str(&std::fs::read_to_string(path).expect("readable")).expect("JSON");
    let mut found = vec![read(&beside(stored))];
    if is_there(test) {
        let folder = Folder::new(test);
        let answer = folder.join("answer.json");
        run(script, &[arguments, &[&answer]].concat());
        found.push(read(&answer));
    }
    found
}
