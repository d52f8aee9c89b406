//! The specification of an analysis, `SPEC.toml`.

use super::CohortError;
use super::spec_check::located;
use crate::statistics::stepwise::Direction;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What is analysed and how. Read by [`Spec::parse`]; [`EXAMPLE_SPEC`] explains every key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Names for report and package.
    pub study: Study,
    /// Which tables there are.
    pub files: Files,
    /// Which columns identify a row.
    pub columns: Columns,
    /// What is predicted.
    pub outcome: Outcome,
    /// Who trains the model and who tests it.
    pub split: SplitRule,
    /// Clinical values that the model may use, in the order of the tables.
    #[serde(default)]
    pub candidates: Vec<Candidate>,
    /// Filters before the penalized model.
    #[serde(default)]
    pub filters: Filters,
    /// ComBat over centers.
    #[serde(default)]
    pub harmonization: Harmonization,
    /// The penalized model that gives the rad-score.
    #[serde(default)]
    pub penalized: Penalized,
    /// How clinical values are selected.
    #[serde(default)]
    pub clinical_model: ClinicalModel,
    /// Choices for the whole analysis.
    #[serde(default)]
    pub analysis: Analysis,
    /// How the models are validated.
    #[serde(default)]
    pub validation: Validation,
    /// What the package says about itself.
    #[serde(default)]
    pub package: PackageText,
    /// Sentences for the report that no table holds.
    #[serde(default)]
    pub statement: Statement,
}

/// Names for report and package.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// Title of the report.
    pub title: String,
    /// The event in words.
    pub outcome: String,
    /// True for simulated data: the report then says so on every page.
    #[serde(default)]
    pub simulated: bool,
}

/// Names of the tables, relative to the specification.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// One row for each patient: identifier, split, outcome, clinical values.
    pub clinical: String,
    /// Feature tables, joined by patient.
    #[serde(default)]
    pub features: Vec<String>,
    /// The same features from a second segmentation of some patients.
    pub stability: Option<String>,
    /// Parameter file with which the features were extracted; goes into the package.
    pub parameters: Option<String>,
}

/// Columns that identify a row.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// Patient identifier, in every table.
    pub id: String,
    /// Center or scanner, in the clinical table.
    pub center: Option<String>,
    /// Columns of the feature tables that are no features.
    #[serde(default)]
    pub ignore: Vec<String>,
}

/// The outcome columns of the clinical table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// 1 event, 0 none; another code only if `competing_code` names it.
    pub event: String,
    /// Time to event or end of follow-up, in months.
    pub time: Option<String>,
    /// Code of a competing event, such as death without metastasis.
    pub competing_code: Option<u32>,
}

/// Who trains and who validates: exactly one of `column`, `center` and `date` in effect.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitRule {
    /// Column whose values name the parts.
    pub column: Option<String>,
    /// Column with dates (YYYY-MM-DD); training is before `before`.
    pub date: Option<String>,
    /// First day (YYYY-MM-DD) that is no training any more, with `date`.
    pub before: Option<String>,
    /// Values of `column` that are training.
    #[serde(default)]
    pub training: Vec<String>,
    /// Values of `column` that validate, each for itself, in this order. Empty: all others in order of appearance.
    #[serde(default)]
    pub validation: Vec<String>,
}

/// How a clinical value enters a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// As it is.
    Continuous,
    /// Its natural logarithm.
    Log,
    /// 1 from `at` on, else 0.
    Cut,
    /// Ordered classes as numbers, one slope.
    Ordinal,
    /// Unordered classes, one coefficient for each but the first of `levels`.
    Factor,
    /// 1 for `level`, else 0.
    Indicator,
    /// Restricted cubic spline with `knots` knots.
    Spline,
}

/// When a value is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Known {
    /// At the time of the scan.
    Laboratory,
    /// Only after surgery.
    #[default]
    Pathology,
}

/// A clinical value that a model may use.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// Short name of the term, unique.
    pub name: String,
    /// Column of the clinical table; by default `name`.
    pub column: Option<String>,
    /// For people; by default `name`.
    pub label: Option<String>,
    /// Unit, `yes/no` for 1 and 0.
    #[serde(default)]
    pub unit: String,
    /// How it enters the model.
    pub kind: Kind,
    /// With `cut`: the value from which the term is 1.
    pub at: Option<f64>,
    /// With `indicator`: the value that is 1.
    pub level: Option<String>,
    /// With `factor`: the classes, the reference first.
    #[serde(default)]
    pub levels: Vec<String>,
    /// With `spline`: 3, 4 or 5.
    pub knots: Option<usize>,
    /// Values outside are refused.
    pub range: Option<[f64; 2]>,
    /// When it is known; decides the variant of the package.
    #[serde(default)]
    pub known: Known,
}

impl Candidate {
    /// Column of the clinical table.
    pub fn column(&self) -> &str {
        self.column.as_deref().unwrap_or(&self.name)
    }

    /// For people.
    pub fn label(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.name)
    }
}

/// Form of the intraclass correlation, both for single measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Icc {
    /// Two-way random effects, absolute agreement (ICC2).
    #[default]
    #[serde(rename = "2,1")]
    Agreement,
    /// Two-way mixed effects, consistency (ICC3).
    #[serde(rename = "3,1")]
    Consistency,
}

/// Filters before the penalized model; a filter that is left out is not applied.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filters {
    /// Form of the intraclass correlation.
    pub icc: Icc,
    /// Features below this ICC are dropped (needs `files.stability`).
    pub icc_min: Option<f64>,
    /// Features at or above this Mann-Whitney p-value are dropped (Cox family: univariable Wald p-value).
    pub univariable_p_max: Option<f64>,
    /// Of two features with a larger |Spearman rho|, the one with the larger p-value is dropped.
    pub correlation_max: Option<f64>,
    /// At most this many features by minimum redundancy, maximum relevance.
    pub mrmr: Option<usize>,
}

/// ComBat over centers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Harmonization {
    /// Whether features are harmonized over `columns.center`. The parameters are fitted on training only.
    pub combat: bool,
}

/// Family of the penalized model, and with it of the clinical, the radiomic and the combined model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Logistic.
    Binomial,
    /// Proportional hazards.
    Cox,
}

/// Which penalty is taken from the cross-validation curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum LambdaChoice {
    /// The smallest deviance.
    #[serde(rename = "min")]
    Min,
    /// The largest within one standard error of it.
    #[serde(rename = "1se")]
    OneSe,
}

/// The penalized model, glmnet's terms.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Penalized {
    /// Model family.
    pub family: Family,
    /// 1 is LASSO, between 0 and 1 elastic net.
    pub alpha: f64,
    /// Number of folds, drawn by `analysis.seed`; without it, `fold_column`.
    pub folds: usize,
    /// Column of the clinical table with a fold number for each training patient.
    pub fold_column: Option<String>,
    /// Rule for the penalty.
    pub rule: LambdaChoice,
    /// Smallest penalty as a share of the largest; by default 0.01 if patients < features, else 0.0001.
    pub lambda_min_ratio: Option<f64>,
}

impl Default for Penalized {
    fn default() -> Penalized {
        Penalized {
            family: Family::Binomial,
            alpha: 1.0,
            folds: 10,
            fold_column: None,
            rule: LambdaChoice::Min,
            lambda_min_ratio: None,
        }
    }
}

/// Selection of clinical values.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClinicalModel {
    /// Candidates at or above this univariable p-value are dropped.
    pub univariable_p_max: f64,
    /// Whether the rest is reduced by AIC, leaving out one after the other.
    pub backward_aic: bool,
    /// Whether values are put in by AIC, one after the other: from none, or with `backward_aic` from all, dropping and adding.
    pub forward_aic: bool,
}

impl ClinicalModel {
    /// The stepwise selection, if there is one.
    pub fn direction(&self) -> Option<Direction> {
        match (self.backward_aic, self.forward_aic) {
            (true, true) => Some(Direction::Both),
            (true, false) => Some(Direction::Backward),
            (false, true) => Some(Direction::Forward),
            (false, false) => None,
        }
    }
}

impl Default for ClinicalModel {
    fn default() -> ClinicalModel {
        ClinicalModel { univariable_p_max: 0.05, backward_aic: true, forward_aic: false }
    }
}

/// What is done about missing values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Imputation {
    /// Patients with a missing value are left out and counted.
    None,
    /// The training median (most frequent class) is filled in and recorded.
    Median,
}

/// Choices for the whole analysis.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Analysis {
    /// True: the combined model is fitted on in-sample rad-scores, as the paper did. False: on out-of-fold ones.
    pub paper_mode: bool,
    /// Missing values.
    pub imputation: Imputation,
    /// Seed of folds and bootstrap.
    pub seed: u64,
}

impl Default for Analysis {
    fn default() -> Analysis {
        Analysis { paper_mode: false, imputation: Imputation::None, seed: 1 }
    }
}

/// Where the risk is cut into two groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CutOffRule {
    /// Largest sensitivity + specificity in training.
    Youden,
    /// Maximally selected log-rank statistic in training.
    Maxstat,
}

/// How the models are validated.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Validation {
    /// Bootstrap replicates of the whole procedure; 0 leaves it out.
    pub bootstrap: usize,
    /// Rule for the cut-off.
    pub cut_off: CutOffRule,
    /// Months for survival, time-dependent AUC and package.
    pub horizon_months: Vec<u32>,
    /// Cox family: the risk is that of an event up to this month, one of `horizon_months`; by default the last of them.
    pub risk_month: Option<u32>,
    /// Share of patients with the event where the nomogram will be used; shifts the intercept.
    pub local_incidence: Option<f64>,
    /// Columns of the clinical table by whose values performance is repeated.
    pub subgroups: Vec<String>,
    /// Whether the training part is refitted at smaller sizes.
    pub learning_curve: bool,
}

impl Default for Validation {
    fn default() -> Validation {
        Validation {
            bootstrap: 200,
            cut_off: CutOffRule::Youden,
            horizon_months: vec![12, 24, 36, 60],
            risk_month: None,
            local_incidence: None,
            subgroups: Vec::new(),
            learning_curve: true,
        }
    }
}

/// What the package says about itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PackageText {
    /// Name of the package.
    pub id: String,
    /// Its version.
    pub version: String,
    /// For what it is meant.
    pub intended_use: String,
}

impl Default for PackageText {
    fn default() -> PackageText {
        PackageText {
            id: "mlm-cohort".into(),
            version: "0.1.0".into(),
            intended_use: "Research. Demonstration, not for clinical use.".into(),
        }
    }
}

/// Sentences for the report (TRIPOD+AI, METRICS, CLAIM); an empty one becomes an open line for the author.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Statement {
    /// Where the data come from.
    pub sources: String,
    /// Setting, country, number and kind of centers.
    pub setting: String,
    /// First and last dates of accrual and follow-up.
    pub dates: String,
    /// Who was eligible.
    pub eligibility: String,
    /// How and when the outcome was determined, and by whom.
    pub outcome_assessment: String,
    /// Treatments received.
    pub treatment: String,
    /// How images were acquired.
    pub imaging: String,
    /// How regions were segmented.
    pub segmentation: String,
    /// Why this sample size.
    pub sample_size: String,
    /// Ethics approval.
    pub ethics: String,
    /// Funding.
    pub funding: String,
    /// Conflicts of interest.
    pub conflicts: String,
    /// Protocol and registration.
    pub registration: String,
    /// Whether data and code can be had.
    pub data_sharing: String,
    /// Involvement of patients and public.
    pub public_involvement: String,
}

impl Spec {
    /// The month of the Cox family's risk.
    pub fn risk_month(&self) -> u32 {
        let months = &self.validation.horizon_months;
        self.validation.risk_month.or(months.last().copied()).unwrap_or_default()
    }

    /// Reads and checks a specification. A misspelt key is named with its line and the key that is nearest.
    pub fn parse(text: &str) -> Result<Spec, CohortError> {
        let spec: Spec = toml::from_str(text).map_err(|error| located(&error, text))?;
        spec.check()?;
        Ok(spec)
    }
}

/// Values of the statement by the item they answer, empty ones included.
impl Statement {
    /// (key, text) in the order of the fields.
    pub fn entries(&self) -> BTreeMap<&'static str, &str> {
        BTreeMap::from([
            ("sources", self.sources.as_str()),
            ("setting", &self.setting),
            ("dates", &self.dates),
            ("eligibility", &self.eligibility),
            ("outcome_assessment", &self.outcome_assessment),
            ("treatment", &self.treatment),
            ("imaging", &self.imaging),
            ("segmentation", &self.segmentation),
            ("sample_size", &self.sample_size),
            ("ethics", &self.ethics),
            ("funding", &self.funding),
            ("conflicts", &self.conflicts),
            ("registration", &self.registration),
            ("data_sharing", &self.data_sharing),
            ("public_involvement", &self.public_involvement),
        ])
    }
}

/// A specification with every key explained, as `metwatch cohort fit --example` prints it.
pub const EXAMPLE_SPEC: &str = include_str!("example_spec.toml");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Explain;

    #[test]
    fn the_example_is_read_and_says_what_the_defaults_are() {
        let spec = Spec::parse(EXAMPLE_SPEC).unwrap();
        assert_eq!(spec.candidates.len(), 12);
        assert_eq!((spec.filters.icc, spec.filters.icc_min), (Icc::Agreement, Some(0.75)));
        assert_eq!(spec.penalized.rule, LambdaChoice::Min);
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_line_and_the_nearest_key() {
        let text = EXAMPLE_SPEC.replace("\nalpha = ", "\nalhpa = ");
        let line = text.lines().position(|l| l.starts_with("alhpa")).unwrap() + 1;
        let error = Spec::parse(&text).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("line {line} of the specification: the key alhpa is not known; did you mean alpha?")
        );
        assert_eq!(error.code(), "cohort.spec-line");
    }

    #[test]
    fn contradictions_are_refused() {
        for (from, to, part) in [
            ("kind = \"log\"", "kind = \"cut\"", "needs the key at"),
            ("paper_mode = false", "paper_mode = \"no\"", "invalid type"),
            ("training = [\"train\"]", "training = []", "split.training"),
            ("folds = 10", "folds = 1", "penalized.folds"),
            ("horizon_months = [12, 36, 60]", "horizon_months = [36, 12]", "horizon_months"),
            ("combat = false", "combat = true", ""),
            ("alpha = 1.0", "alpha = 0.0", "penalized.alpha"),
        ] {
            let text = EXAMPLE_SPEC.replacen(from, to, 1);
            assert_ne!(text, EXAMPLE_SPEC, "{from}");
            match Spec::parse(&text) {
                Err(error) => assert!(error.to_string().contains(part), "{to}: {error}"),
                Ok(_) => assert!(part.is_empty(), "{to} passed"),
            }
        }
    }
}
