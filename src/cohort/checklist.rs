//! The reporting checklists: what the data answer, what the specification answered, and open lines for the author.
//!
//! Numbers and contents were held against the published lists on 2026-11-25: TRIPOD+AI and METRICS against the tables of the papers,
//! CLAIM against two independent transcriptions. The wording here is our own and short; a journal wants the official form.

use super::fit::Fitted;
use super::spec::Imputation;

/// How an item is answered.
pub enum Answer {
    /// By a part of the report or a fact.
    Filled(String),
    /// By a sentence of the specification; an empty one is an open line.
    Stated(&'static str),
    /// Only the author can.
    Author,
}

use Answer::{Author, Filled, Stated};

/// An item of a checklist.
pub struct Item {
    /// Number.
    pub number: &'static str,
    /// What is asked.
    pub text: &'static str,
    /// The answer.
    pub answer: Answer,
}

fn items(list: Vec<(&'static str, &'static str, Answer)>) -> Vec<Item> {
    list.into_iter().map(|(number, text, answer)| Item { number, text, answer }).collect()
}

fn see(section: &str) -> Answer {
    Filled(format!("See {section}."))
}

fn either(condition: bool, yes: &str, no: &str) -> Answer {
    Filled(if condition { yes.into() } else { no.into() })
}

/// Whether performance was repeated by center or subgroup.
fn examined(f: &Fitted) -> bool {
    !f.results.by_center.is_empty() || !f.results.by_subgroup.is_empty()
}

fn clusters(f: &Fitted) -> Answer {
    either(examined(f), "See Centers and subgroups.", "Not examined: no center and no subgroup was named.")
}

/// TRIPOD+AI (Collins et al. 2024, 10.1136/bmj-2023-078378): 27 items with 52 parts.
pub fn tripod(f: &Fitted) -> Vec<Item> {
    let r = &f.results;
    let missing = if f.spec.analysis.imputation == Imputation::Median {
        "Single imputation by the training median; counts in Patients."
    } else {
        "Complete cases; patients left out are counted by reason in Patients."
    };
    let groups =
        if examined(f) { "Discrimination, Centers and subgroups" } else { "Discrimination; no subgroup was named" };
    items(vec![
        ("1", "Title: development or evaluation, target population, outcome", Filled(r.title.clone())),
        ("2", "Abstract by TRIPOD+AI for Abstracts", see("Summary; to be edited by the author")),
        ("3a", "Healthcare context, diagnostic or prognostic, rationale, existing models", Author),
        ("3b", "Target population, intended purpose in the care pathway, intended users", Author),
        ("3c", "Known health inequalities between sociodemographic groups", Author),
        ("4", "Objectives: development, evaluation or both", Author),
        ("5a", "Sources of data, rationale, representativeness", Stated("sources")),
        ("5b", "Dates: start and end of accrual, end of follow-up", Stated("dates")),
        ("6a", "Setting, number and location of centers", Stated("setting")),
        ("6b", "Eligibility criteria", Stated("eligibility")),
        ("6c", "Treatments received and how they were handled", Stated("treatment")),
        ("7", "Preprocessing and quality checks, alike across groups or not", see("Methods; across groups: the author")),
        ("8a", "Outcome, time horizon, how and when assessed", Stated("outcome_assessment")),
        ("8b", "Outcome assessors, if judgment was needed", Author),
        ("8c", "Blinding of the assessment of the outcome", Author),
        ("9a", "Choice and preselection of predictors", see("Methods; the candidates are listed with unit and range")),
        ("9b", "Definition, time and blinding of predictors", see("Methods; blinding: the author")),
        ("9c", "Assessors of predictors, if judgment was needed (segmentation)", Stated("segmentation")),
        ("10", "How the study size was arrived at; whether it is enough", Stated("sample_size")),
        ("11", "Missing data", Filled(missing.into())),
        ("12a", "How the data were used, partitions", see("Methods")),
        ("12b", "Handling of predictors: form, scaling, transformation", see("Methods")),
        ("12c", "Type of model, all steps, tuning, internal validation", see("Methods and Rad-score")),
        ("12d", "Heterogeneity across clusters: handling", clusters(f)),
        ("12e", "Measures and plots of performance, comparison of models", see("Methods")),
        ("12f", "Model updating", see("Optimism, sample size and local incidence")),
        ("12g", "How predictions were calculated for the evaluation", see("Equation and nomogram")),
        (
            "13",
            "Class imbalance",
            Filled("Classes were not reweighted; a shift to the local incidence is given separately.".into()),
        ),
        ("14", "Approaches to fairness and their rationale", Author),
        ("15", "Output of the model, thresholds and how they were found", see("Risk groups")),
        ("16", "Differences between development and evaluation data", see("Patients, with standardized differences")),
        ("17", "Ethics committee, consent or waiver", Stated("ethics")),
        ("18a", "Funding and role of the funders", Stated("funding")),
        ("18b", "Conflicts of interest", Stated("conflicts")),
        ("18c", "Where the protocol can be read", Stated("registration")),
        ("18d", "Registration", Stated("registration")),
        ("18e", "Availability of the data", Stated("data_sharing")),
        ("18f", "Availability of the code", Stated("data_sharing")),
        ("19", "Patient and public involvement", Stated("public_involvement")),
        ("20a", "Flow of participants, outcomes, follow-up", see("Patients")),
        ("20b", "Characteristics overall and by source", see("Patients")),
        ("20c", "Comparison of evaluation with development data", see("Patients")),
        ("21", "Participants and events in each analysis", see("Patients and Discrimination")),
        ("22", "The full model, for new individuals", see("Equation and nomogram; the package holds it for software")),
        ("23a", "Performance with intervals, for key subgroups too", see(groups)),
        ("23b", "Heterogeneity in performance across clusters", clusters(f)),
        ("24", "Results of model updating", see("Optimism, sample size and local incidence")),
        ("25", "Interpretation, with issues of fairness", Author),
        ("26", "Limitations and their effects", Author),
        (
            "27a",
            "Poor or unavailable input when the model is used",
            Filled("A missing value is never replaced: the package has a variant for each state of knowledge, refuses values outside their permitted range and notes values outside the training range.".into()),
        ),
        ("27b", "Interaction and expertise that users need", Author),
        ("27c", "Next steps for research, applicability, generalizability", Author),
    ])
}

/// METRICS (Kocak et al. 2024, 10.1186/s13244-023-01572-w): 30 items.
pub fn metrics(f: &Fitted) -> Vec<Item> {
    let r = &f.results;
    let centers = f.cohort.center.as_ref().map_or(0, |c| c.iter().collect::<std::collections::BTreeSet<_>>().len());
    let stable = r.features.steps.iter().any(|s| s.0 == "stable");
    let parameters = "The parameter file is in the package, by sha256.";
    items(vec![
        ("1", "Adherence to radiomics or machine learning checklists", Filled("This appendix.".into())),
        ("2", "Eligibility criteria of a representative population", Stated("eligibility")),
        ("3", "High-quality reference standard, clearly defined", Stated("outcome_assessment")),
        ("4", "Multi-center", either(centers > 1, &format!("Yes, {centers} centers."), "Not by the tables given.")),
        ("5", "Clinical translatability of the imaging source", Stated("imaging")),
        ("6", "Imaging protocol with acquisition parameters", Stated("imaging")),
        ("7", "Interval between imaging and reference standard", Author),
        ("8", "Transparent description of the segmentation", Stated("segmentation")),
        ("9", "Formal evaluation of fully automated segmentation", Stated("segmentation")),
        ("10", "Masks of the test set by a single reader or automated tool", Stated("segmentation")),
        (
            "11",
            "Image preprocessing, appropriate and described",
            either(f.spec.files.parameters.is_some(), parameters, "The parameter file was not stated."),
        ),
        ("12", "Standardized feature extraction software", Author),
        (
            "13",
            "Feature extraction parameters reported",
            either(f.spec.files.parameters.is_some(), parameters, "The parameter file was not stated."),
        ),
        (
            "14",
            "Removal of non-robust features",
            either(stable, "By the intraclass correlation, see Rad-score.", "No repeat segmentations were given."),
        ),
        (
            "15",
            "Removal of redundant features",
            either(
                f.spec.filters.correlation_max.is_some(),
                "By Spearman's correlation, see Rad-score.",
                "No correlation filter.",
            ),
        ),
        ("16", "Dimensionality against data size", see("Optimism, sample size and local incidence")),
        ("17", "Robustness of end-to-end deep learning", Filled("Not applicable: hand-crafted features.".into())),
        (
            "18",
            "Proper data partitioning",
            Filled("Every filter, standardization and penalty was fitted on training alone.".into()),
        ),
        ("19", "Handling of confounding factors", Author),
        ("20", "Appropriate performance metrics", see("Discrimination, Calibration, Clinical use")),
        ("21", "Consideration of uncertainty", see("the intervals throughout and Optimism")),
        ("22", "Calibration assessment", see("Calibration")),
        ("23", "Uni-parametric imaging, or proof of its inferiority", Author),
        ("24", "Comparison with a non-radiomic approach, or added value", see("Discrimination and Clinical use")),
        (
            "25",
            "Comparison with simple or classical models",
            Filled("All models are logistic or proportional hazards.".into()),
        ),
        ("26", "Internal testing", internal(f)),
        ("27", "External testing", Author),
        ("28", "Data availability", Stated("data_sharing")),
        ("29", "Code availability", Stated("data_sharing")),
        ("30", "Model availability", Filled("The nomogram package beside this report holds the model.".into())),
    ])
}

fn internal(f: &Fitted) -> Answer {
    let bootstrap = match &f.results.bootstrap {
        Some(b) => format!("{} bootstrap replicates of the whole procedure", b.replicates),
        None => "no bootstrap was asked for".into(),
    };
    Filled(format!("Parts: {}; {bootstrap}.", f.cohort.parts[1..].join(", ")))
}

/// CLAIM (Tejani et al. 2024, 10.1148/ryai.240300): 44 items.
pub fn claim(f: &Fitted) -> Vec<Item> {
    items(vec![
        ("1", "Title: a study of AI, category of technology", Filled(f.results.title.clone())),
        ("2", "Abstract: design, methods, results, conclusions", see("Summary; to be edited by the author")),
        ("3", "Background, intended use, clinical role", Author),
        ("4", "Aims, objectives, hypotheses", Author),
        ("5", "Prospective or retrospective", Author),
        ("6", "Study goal", Author),
        ("7", "Data sources", Stated("sources")),
        ("8", "Inclusion and exclusion criteria", Stated("eligibility")),
        ("9", "Data preprocessing", see("Methods")),
        ("10", "Selection of data subsets", see("Patients")),
        (
            "11",
            "De-identification",
            Filled("This report and results.json hold no patient identifier; the data: the author.".into()),
        ),
        ("12", "Missing data", see("Patients and Methods")),
        ("13", "Image acquisition protocol", Stated("imaging")),
        ("14", "Reference standard: definition", Stated("outcome_assessment")),
        ("15", "Reference standard: rationale", Author),
        ("16", "Source of the annotations", Stated("segmentation")),
        ("17", "Annotation of the test set", Stated("segmentation")),
        (
            "18",
            "Variability within and between raters",
            either(
                f.cohort.repeats.is_some(),
                "By repeat segmentations, see Rad-score.",
                "No repeat segmentations were given.",
            ),
        ),
        ("19", "How data were assigned to partitions", see("Methods")),
        ("20", "Level at which partitions are disjoint", Filled("By patient; no patient is in two parts.".into())),
        ("21", "Intended sample size", Stated("sample_size")),
        ("22", "Description of the model", see("Equation and nomogram")),
        ("23", "Software and versions", Filled(format!("metwatch {}.", f.results.version))),
        ("24", "Initialization of parameters", Filled("Not applicable: the fits are convex.".into())),
        ("25", "Training: procedure and hyperparameters", see("Methods")),
        ("26", "Selection of the final model", see("Methods and Models")),
        ("27", "Ensembles", Filled("None.".into())),
        ("28", "Metrics of performance", see("Methods")),
        ("29", "Statistical significance and uncertainty", see("Discrimination")),
        ("30", "Robustness or sensitivity", see("Optimism, sample size and local incidence")),
        ("31", "Explainability", see("Explanation")),
        ("32", "Evaluation on internal data", see("Discrimination and Optimism")),
        ("33", "Testing on external data", Author),
        ("34", "Registration of a clinical trial", Stated("registration")),
        ("35", "Numbers included and excluded", see("Patients")),
        ("36", "Demographic and clinical characteristics by partition", see("Patients")),
        ("37", "Performance on all partitions", see("Discrimination and Calibration")),
        ("38", "Estimates with their precision", see("Discrimination and Risk groups")),
        ("39", "Failure analysis", Author),
        ("40", "Limitations", Author),
        ("41", "Implications for practice", Author),
        ("42", "Full protocol", Stated("registration")),
        ("43", "Availability of software, model and data", Stated("data_sharing")),
        ("44", "Funding and role of the funders", Stated("funding")),
    ])
}
