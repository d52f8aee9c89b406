//! The risk of metachronous liver metastasis, from features of the CT and values of the laboratory and pathology.
//!
//! A [`Nomogram`] is a package (`manifest.toml` and its files as bytes) that some fitting script wrote; nothing is typed in from
//! a paper. [`assess`] takes the measured features and the [`ClinicalValues`], chooses the most complete [`Variant`] of the
//! nomogram whose predictors are all known, and returns an [`Assessment`]: probability, points, group, survival, and what each
//! predictor contributed. A missing value is never replaced by a default: a variant that does without it is used and named.
//!
//! Flow: bytes -> [`Nomogram::from_files`] (hashes, plausibility, golden vectors) -> [`assess`] -> [`Assessment`].
//! [`clinical_from_json`] reads the values of one patient from text; [`Nomogram::to_files`] writes a package.
//!
//! Whoever shows an [`Assessment`] shows its [`Status`] and [`crate::DISCLAIMER`] too.
//!
//! **Invariant:** this room knows no path, clock, image or network, and names no other room; features arrive by name.

mod assess;
mod clinical;
mod error;
mod nomogram;
mod package;
#[cfg(test)]
mod testing;
mod write;

pub use assess::{Assessment, Contribution, Note, Points, assess, format_short};
pub use clinical::{AFP_NG_PER_ML_MAX, ClinicalKey, ClinicalValues, DISSECTED_LYMPH_NODES_MAX, clinical_from_json};
pub use error::RiskError;
pub use nomogram::{
    Baseline, Group, Link, Nomogram, Predictor, Prior, RadiomicsParameters, Source, Status, Term, Transform, Variant,
};
pub use write::GoldenPatient;
