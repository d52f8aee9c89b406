//! From a table of features, a clinical table and outcomes to a validated nomogram, its report and its package.
//!
//! A [`Spec`] (TOML) says which columns mean what and which steps to take; [`fit()`] takes it with the tables as texts, joins them
//! by patient, reduces the features, fits the clinical, the radiomic and the combined model and validates them as R would
//! (`../shared/design/statistics.md`). What comes out is one [`Fitted`]: [`Results`] (every number, `results.json`),
//! [`report_html`] (one file to attach to a paper) and [`package_files`] (what `risk` loads on the box).
//! [`evaluate()`] holds an existing package against new patients, [`reliability()`] measures repeats, [`import_equation`] makes a
//! package of a published equation. Figures are [`Drawing`]s: the report holds them as SVG, [`png()`] draws them as pictures.
//!
//! Flow: texts -> [`Frame`] -> [`Cohort`] (joined rows, flow, warnings) -> filters -> rad-score -> models -> validation -> report.
//!
//! **Invariant:** this room knows no file, clock or environment; the same texts and seed give the same bytes for any number of
//! threads. The statistics themselves live in `statistics`; here they are only put in order.

mod chart;
mod checklist;
mod clinical;
mod describe;
mod diagrams;
mod drawing;
mod error;
mod evaluate;
mod feature_table;
mod figures;
mod fit;
mod fit_nomogram;
mod font;
mod harmonize;
mod hazards;
mod import;
mod join;
mod models;
mod nomogram_axes;
mod package;
mod plot;
mod png;
mod procedure;
mod random;
mod reduce;
mod repeats;
mod report;
mod resample;
mod results;
mod scale;
mod spec;
mod spec_check;
mod table;
mod validate;
mod validate_survival;
mod warnings;

pub use crate::statistics::spline::{restricted_cubic_spline, spline_knots};
pub use drawing::Drawing;
pub use error::CohortError;
pub use evaluate::{Evaluation, EvaluationSpec, Recalibration, evaluate};
pub use figures::Figure;
pub use fit::{Fitted, Shap, fit};
pub use import::{EXTERNAL, import_equation};
pub use join::{ClinicalTerm, Cohort, Flow, Texts};
pub use models::Model;
pub use nomogram_axes::{Axis, AxisTerm, Nomogram, NomogramInput, ScaleAxis, axis_values, format_number, pretty};
pub use package::{Package, package_files, region_of};
pub use png::png;
pub use repeats::{FeatureReliability, Reliability, reliability};
pub use report::{reliability_html, report_html};
pub use results::Results;
pub use scale::Scale;
pub use spec::{
    Candidate, CutOffRule, EXAMPLE_SPEC, Family, Icc, Imputation, Kind, Known, LambdaChoice, Spec, SplitRule, Statement,
};
pub use table::{Column, Frame};
