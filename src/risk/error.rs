//! What can be wrong with a nomogram package, a clinical file or the values of a patient.

use crate::Explain;

/// Errors of the risk room. They name keys, files and limits, never a patient's value.
#[derive(Debug, thiserror::Error)]
pub enum RiskError {
    /// The package has no manifest.
    #[error("the nomogram package has no manifest.toml, so it cannot be read")]
    NoManifest,
    /// The manifest is no TOML of the expected shape.
    #[error("manifest.toml of the nomogram is not as expected")]
    Manifest(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The manifest is of another kind or version.
    #[error("manifest.toml has the schema {found:?}; this version of metwatch reads metwatch.nomogram/1")]
    Schema {
        /// What the manifest says.
        found: String,
    },
    /// A file is not what the manifest says.
    #[error("{file} of the nomogram package has another sha256 than manifest.toml states: it was changed or damaged")]
    Changed {
        /// File in the package.
        file: String,
    },
    /// A file of the manifest is not there.
    #[error("{file} is named in manifest.toml, but the nomogram package does not have it")]
    MissingFile {
        /// File in the package.
        file: String,
    },
    /// A file that the manifest does not name.
    #[error("{file} lies in the nomogram package, but manifest.toml does not name it")]
    UnlistedFile {
        /// File in the package.
        file: String,
    },
    /// The numbers of the package cannot be right.
    #[error("the nomogram package contradicts itself: {what}")]
    Implausible {
        /// Which numbers, in words.
        what: String,
    },
    /// The computation does not reproduce the package's own examples.
    #[error("golden vector {case} of the nomogram is not reproduced: {what}")]
    Golden {
        /// Index of the case in golden.json.
        case: usize,
        /// The quantity that differs.
        what: String,
    },
    /// A clinical value outside what is possible.
    #[error("{key} lies outside {low} to {high} {unit}: no risk was computed")]
    OutOfRange {
        /// The clinical value.
        key: &'static str,
        /// Lowest permitted value.
        low: f64,
        /// Highest permitted value.
        high: f64,
        /// Unit of the limits.
        unit: String,
    },
    /// No variant of the nomogram has all its predictors known.
    #[error(
        "too little is known for any variant of the nomogram; the smallest step is {variant}, which misses {missing}"
    )]
    NothingKnown {
        /// The variant with the fewest unknown predictors.
        variant: String,
        /// The unknown predictors of that variant.
        missing: String,
    },
    /// The clinical file is no JSON object.
    #[error("the clinical file is not a JSON object (line {line}, column {column})")]
    ClinicalSyntax {
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault.
        column: usize,
    },
    /// A key that the clinical file may not have.
    #[error("the clinical file has the unknown key {key:?}; nothing of it was used")]
    ClinicalKey {
        /// The key as written.
        key: String,
    },
    /// A key that says the same thing twice.
    #[error("the clinical file gives {key} twice; nothing of it was used")]
    ClinicalTwice {
        /// The key as written.
        key: String,
    },
    /// A value of the wrong type.
    #[error("{key} in the clinical file is not {expected}; nothing of it was used")]
    ClinicalType {
        /// The key as written.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A unit that is not known for this value.
    #[error(
        "{key} in the clinical file has the unit {unit:?}, which is not known for it; nothing of the file was used"
    )]
    ClinicalUnit {
        /// The key as written.
        key: &'static str,
        /// The unit as written.
        unit: String,
    },
}

impl Explain for RiskError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoManifest => "nomogram.no-manifest",
            Self::Manifest(_) => "nomogram.manifest",
            Self::Schema { .. } => "nomogram.schema",
            Self::Changed { .. } => "nomogram.changed",
            Self::MissingFile { .. } => "nomogram.missing-file",
            Self::UnlistedFile { .. } => "nomogram.unlisted-file",
            Self::Implausible { .. } => "nomogram.implausible",
            Self::Golden { .. } => "nomogram.golden",
            Self::OutOfRange { .. } => "risk.out-of-range",
            Self::NothingKnown { .. } => "risk.nothing-known",
            Self::ClinicalSyntax { .. } => "clinical.syntax",
            Self::ClinicalKey { .. } => "clinical.unknown-key",
            Self::ClinicalTwice { .. } => "clinical.twice",
            Self::ClinicalType { .. } => "clinical.type",
            Self::ClinicalUnit { .. } => "clinical.unit",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::NoManifest => "name a folder with a nomogram package, such as models/nomogram-phantom",
            Self::Manifest(_) => "correct the line named above, or install the package again",
            Self::Schema { .. } => "install a nomogram package made for this version of metwatch",
            Self::Changed { .. } | Self::MissingFile { .. } => "install the package again from its source",
            Self::UnlistedFile { .. } => "remove the file, or install the package again from its source",
            Self::Implausible { .. } => "have the package fitted and written again",
            Self::Golden { .. } => "do not use this package with this version of metwatch; install a matching pair",
            Self::OutOfRange { .. } => "check the value and its unit with the laboratory and send it again",
            Self::NothingKnown { .. } => "send the missing values, or have the missing regions measured",
            Self::ClinicalSyntax { .. } => "write a JSON object, for example {\"afp_ng_per_ml\": 4.2}",
            Self::ClinicalKey { .. } => {
                "use patient_id, afp_ng_per_ml or afp {value, unit}, dissected_lymph_nodes, perineural_invasion, tumor_nodules"
            }
            Self::ClinicalTwice { .. } => "give each value once",
            Self::ClinicalType { .. } => "correct the value; leave the key out, or write null, when it is not known",
            Self::ClinicalUnit { .. } => "give AFP in ng/mL, ug/L, IU/mL or kU/L",
        }
    }
}
