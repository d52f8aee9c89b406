//! Every number of an analysis, as `results.json` and the report show it.

use super::clinical::ClinicalSelection;
use super::describe::{PriorCorrection, SampleSize, TableOneRow};
use super::join::Flow;
use super::models::Model;
use super::resample::{Bootstrap, LearningPoint};
use super::validate::{AucComparison, NetBenefit, Performance, SurvivalGroups};
use serde::Serialize;

/// Every number of the analysis (`results.json`, `metwatch.cohort/1`).
#[derive(Debug, Clone, Serialize)]
pub struct Results {
    /// `metwatch.cohort/1`.
    pub schema: &'static str,
    /// [`crate::DISCLAIMER`].
    pub disclaimer: &'static str,
    /// Version of metwatch.
    pub version: &'static str,
    /// Title of the study.
    pub title: String,
    /// The event.
    pub outcome: String,
    /// Whether no patient is behind the data.
    pub simulated: bool,
    /// Whether the combined model was fitted on in-sample rad-scores.
    pub paper_mode: bool,
    /// Seed of folds and resampling.
    pub seed: u64,
    /// sha256 of each table by name, and of the specification.
    pub inputs: Vec<(String, String)>,
    /// Who came in and who was left out.
    pub flow: Flow,
    /// Headings of table one.
    pub table_one_groups: Vec<String>,
    /// Table one.
    pub table_one: Vec<TableOneRow>,
    /// The way of the features.
    pub features: FeatureResults,
    /// The penalized model.
    pub penalized: Option<PenalizedResults>,
    /// Selection of clinical values.
    pub clinical_selection: ClinicalSelection,
    /// The models.
    pub models: Vec<Model>,
    /// Each model in each part.
    pub performance: Vec<Performance>,
    /// The main model in each center.
    pub by_center: Vec<Performance>,
    /// The main model in each subgroup of the validation patients.
    pub by_subgroup: Vec<Performance>,
    /// The main model fitted the other way (paper mode or not).
    pub other_way: Vec<Performance>,
    /// Tests of AUC or C-index, NRI and IDI.
    pub comparisons: Vec<AucComparison>,
    /// Cut-off of the main model.
    pub cut_off: Option<CutOff>,
    /// Survival of the risk groups.
    pub survival_groups: Vec<SurvivalGroups>,
    /// Decision curves.
    pub decision_curves: Vec<NetBenefit>,
    /// Cumulative incidence by risk group.
    pub competing: Vec<CompetingResult>,
    /// Optimism of the whole procedure.
    pub bootstrap: Option<Bootstrap>,
    /// Performance over training size.
    pub learning_curve: Vec<LearningPoint>,
    /// Needed patients.
    pub sample_size: Option<SampleSize>,
    /// Correction to the local incidence.
    pub prior: Option<PriorCorrection>,
    /// Mean |SHAP| in training, largest first.
    pub shap_importance: Vec<(String, f64)>,
    /// Axes of the nomogram.
    pub nomogram: Vec<NomogramAxis>,
    /// What the analysis noticed about itself.
    pub warnings: Vec<String>,
}

/// Ticks of a nomogram axis.
#[derive(Debug, Clone, Serialize)]
pub struct NomogramAxis {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Vec<String>,
    /// Points.
    pub points: Vec<f64>,
}

/// The way of the features through the filters; names in the order of the table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FeatureResults {
    /// (step, features left).
    pub steps: Vec<(String, usize)>,
    /// (feature, ICC), absent where it could not be computed.
    pub icc: Vec<(String, Option<f64>)>,
    /// (feature, p) of the stable ones.
    pub p: Vec<(String, f64)>,
    /// After the univariable filter.
    pub after_univariable: Vec<String>,
    /// After the correlation filter.
    pub after_correlation: Vec<String>,
    /// After mRMR.
    pub after_mrmr: Vec<String>,
}

/// The penalized model.
#[derive(Debug, Clone, Serialize)]
pub struct PenalizedResults {
    /// `binomial` or `cox`.
    pub family: &'static str,
    /// Penalties, decreasing.
    pub lambda: Vec<f64>,
    /// Cross-validated deviance.
    pub mean: Vec<f64>,
    /// Its standard error.
    pub standard_error: Vec<f64>,
    /// Coefficients that are not 0.
    pub nonzero: Vec<usize>,
    /// Explained share of the deviance.
    pub deviance_ratio: Vec<f64>,
    /// Worst violation of the optimality conditions relative to lambda.
    pub optimality: f64,
    /// Index of the smallest deviance.
    pub index_min: usize,
    /// Index of the largest penalty within one standard error.
    pub index_1se: usize,
    /// Index taken.
    pub index: usize,
    /// Intercept of the rad-score.
    pub intercept: f64,
    /// Features of the rad-score.
    pub coefficients: Vec<RadTerm>,
    /// Fold of each training patient, from 0.
    pub folds: Vec<usize>,
}

/// A feature of the rad-score: coefficient x (value - center) / scale.
#[derive(Debug, Clone, Serialize)]
pub struct RadTerm {
    /// Feature.
    pub name: String,
    /// Log odds per SD.
    pub coefficient: f64,
    /// Training mean.
    pub center: f64,
    /// Training SD (n - 1).
    pub scale: f64,
}

/// The cut-off of the main model.
#[derive(Debug, Clone, Serialize)]
pub struct CutOff {
    /// `youden` or `maxstat`.
    pub rule: &'static str,
    /// High from this linear predictor on.
    pub lp: f64,
    /// The same as a probability.
    pub probability: f64,
    /// Sensitivity in training; of a Cox model for events up to its month.
    pub sensitivity: f64,
    /// Specificity in training.
    pub specificity: f64,
    /// Corrected p-value (Lausen and Schumacher 1992) of a maximally selected statistic.
    pub p: Option<f64>,
}

/// Cumulative incidence of the event where another can come first.
#[derive(Debug, Clone, Serialize)]
pub struct CompetingResult {
    /// Part.
    pub part: String,
    /// Gray's test of the risk groups: chi-squared and p.
    pub gray: Option<[f64; 2]>,
    /// (months, incidence) at the horizons: low risk, high risk.
    pub incidence: [Vec<(u32, f64)>; 2],
}
