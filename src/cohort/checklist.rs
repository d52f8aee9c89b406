//! The reporting checklists: what the data answer, what the specification answered, and open lines for the author.

use super::fit::Fitted;

/// How an item is answered.
pub enum Answer {
    /// By a part of the report or a fact.
    Filled(String),
    /// By a sentence of the specification; an empty one is an open line.
    Stated(&'static str),
    /// Only the author can.
    Author,
}

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
    Answer::Filled(format!("See {section}."))
}

/// TRIPOD+AI (Collins et al. 2024, 10.1136/bmj-2023-078378).
pub fn tripod(f: &Fitted) -> Vec<Item> {
    use Answer::{Author, Filled, Stated};
    let r = &f.results;
    let missing = if f.spec.analysis.imputation == super::Imputation::Median {
        "Single imputation by the training median; counts in Patients."
    } else {
        "Complete cases; patients left out are counted by reason in Patients."
    };
    items(vec![
        ("1", "Title: development or evaluation of a prediction model, population, outcome", Filled(r.title.clone())),
        ("2", "Abstract (TRIPOD+AI for Abstracts)", see("Summary; to be edited by the author")),
        ("3", "Background: context, target population and purpose, health inequalities", Author),
        ("4", "Objectives", Author),
        ("5a", "Sources of data", Stated("sources")),
        ("5b", "Dates of data", Stated("dates")),
        ("6a", "Setting and number of centers", Stated("setting")),
        ("6b", "Eligibility", Stated("eligibility")),
        ("6c", "Treatments received", Stated("treatment")),
        ("7", "Data preparation", see("Methods")),
        ("8a", "Outcome and its assessment", Stated("outcome_assessment")),
        ("8b", "Qualifications of outcome assessors; blinding", Author),
        ("9a", "Choice of initial predictors", see("Methods; the candidates are listed with unit and range")),
        ("9b", "Definition and timing of predictors", see("Methods")),
        ("9c", "Qualifications of predictor assessors (segmentation)", Stated("segmentation")),
        ("10", "Sample size", Stated("sample_size")),
        ("11", "Missing data", Filled(missing.into())),
        ("12a", "How data were used (split, resampling)", see("Methods")),
        ("12b", "Handling of predictors in the analyses", see("Methods")),
        ("12c", "Type of model, building, hyperparameters, internal validation", see("Methods and Rad-score")),
        ("12d", "Heterogeneity between clusters", see("Centers and subgroups")),
        ("12e", "Measures and plots of performance", see("Discrimination, Calibration, Clinical use")),
        ("12f", "Model updating", see("Optimism and local incidence")),
        ("12g", "How predictions were calculated", see("Equation")),
        (
            "13",
            "Class imbalance",
            Filled("Classes were not reweighted; a shift to the local incidence is given separately.".into()),
        ),
        ("14", "Fairness", see("Centers and subgroups")),
        ("15", "Model output, thresholds and their rationale", see("Risk groups")),
        (
            "16",
            "Differences between training and evaluation data",
            see("Table of characteristics, with standardized differences"),
        ),
        ("17", "Ethical approval", Stated("ethics")),
        ("18a", "Funding", Stated("funding")),
        ("18b", "Conflicts of interest", Stated("conflicts")),
        ("18c-d", "Protocol and registration", Stated("registration")),
        ("18e-f", "Sharing of data and code", Stated("data_sharing")),
        ("19", "Patient and public involvement", Stated("public_involvement")),
        ("20a", "Flow of participants", see("Patients")),
        ("20b-c", "Characteristics; comparison of development and evaluation", see("Patients")),
        ("21", "Participants and events in each analysis", see("the tables of performance")),
        ("22", "Full model specification", see("Equation; the package holds it for software")),
        (
            "23a",
            "Performance with confidence intervals, subgroups",
            see("Discrimination, Calibration, Centers and subgroups"),
        ),
        ("23b", "Heterogeneity in performance", see("Centers and subgroups")),
        ("24", "Results of model updating", see("Optimism and local incidence")),
        ("25", "Interpretation", Author),
        ("26", "Limitations", Author),
        ("27", "Usability: poor input, user expertise, next steps", Author),
    ])
}

/// METRICS (Kocak et al. 2024, 10.1186/s13244-023-01572-w), by its items.
pub fn metrics(f: &Fitted) -> Vec<Item> {
    use Answer::{Author, Filled, Stated};
    let r = &f.results;
    let yes =
        |condition: bool, text: &str, otherwise: &str| Filled(if condition { text.into() } else { otherwise.into() });
    let centers = f.cohort.center.as_ref().map_or(0, |c| c.iter().collect::<std::collections::BTreeSet<_>>().len());
    let step = |name: &str| r.features.steps.iter().any(|s| s.0 == name);
    items(vec![
        ("1", "Adherence to radiomics or machine learning checklists", Filled("This appendix.".into())),
        ("2", "Eligibility criteria of a representative population", Stated("eligibility")),
        ("3", "High-quality reference standard", Stated("outcome_assessment")),
        ("4", "Multi-center", yes(centers > 1, &format!("Yes, {centers} centers."), "Not by the tables given.")),
        ("5", "Clinical translatability of the imaging source", Stated("imaging")),
        ("6", "Imaging protocol with acquisition parameters", Stated("imaging")),
        ("7-9", "Segmentation: description, automation, one set-up for the test set", Stated("segmentation")),
        (
            "10-12",
            "Image processing and feature extraction with parameters",
            yes(
                f.spec.files.parameters.is_some(),
                "The parameter file is in the package, by sha256.",
                "The parameter file was not stated.",
            ),
        ),
        (
            "13",
            "Removal of non-robust features",
            yes(step("stable"), "By the intraclass correlation, see Rad-score.", "No repeat segmentations were given."),
        ),
        (
            "14",
            "Removal of redundant features",
            yes(
                f.spec.filters.correlation_max.is_some(),
                "By Spearman's correlation, see Rad-score.",
                "No correlation filter.",
            ),
        ),
        ("15", "Appropriateness of dimensionality", see("Sample size")),
        (
            "17",
            "Proper data partitioning",
            Filled("Every filter, standardization and penalty was fitted on training alone.".into()),
        ),
        ("18", "Handling of confounding factors", Author),
        ("19", "Appropriate performance metrics", see("Discrimination, Calibration, Clinical use")),
        (
            "20",
            "Consideration of uncertainty",
            Filled("Intervals throughout; bootstrap of the whole procedure.".into()),
        ),
        ("21", "Calibration assessment", see("Calibration")),
        ("22", "Uni-parametric imaging or proof of its inferiority", Author),
        (
            "23",
            "Comparison with a non-radiomic approach",
            see("Discrimination: the clinical model, DeLong tests, NRI and IDI"),
        ),
        ("24", "Comparison with simple models", Filled("All models are logistic or proportional hazards.".into())),
        (
            "25",
            "Internal testing",
            yes(r.bootstrap.is_some(), "Bootstrap of the whole procedure.", "No bootstrap was asked for."),
        ),
        ("26", "External testing", Filled(format!("Parts: {}.", f.cohort.parts[1..].join(", ")))),
        ("27-29", "Availability of data, code and model", Stated("data_sharing")),
    ])
}

/// CLAIM (2024 update, 10.1148/ryai.240300), by its items.
pub fn claim(f: &Fitted) -> Vec<Item> {
    use Answer::{Author, Filled, Stated};
    items(vec![
        ("1-2", "Title and abstract name the methodology", see("Title and Summary")),
        ("3-4", "Background; aims and hypotheses", Author),
        ("5", "Prospective or retrospective", Author),
        ("6", "Study goal", Author),
        ("7", "Data sources", Stated("sources")),
        ("8", "Inclusion and exclusion criteria", Stated("eligibility")),
        ("9", "Preprocessing", see("Methods")),
        ("10", "Selection of data subsets", see("Patients")),
        ("11", "De-identification", Filled("This report and results.json hold no patient identifier.".into())),
        ("12", "Missing data", see("Patients")),
        ("13", "Image acquisition protocol", Stated("imaging")),
        ("14-16", "Reference standard: definition, rationale, source", Stated("outcome_assessment")),
        ("17-18", "Annotation of the test set; variability of readers", Stated("segmentation")),
        ("19-20", "Partitions and their level", Filled("By patient; no patient is in two parts.".into())),
        ("21", "Intended sample size", Stated("sample_size")),
        ("22", "Model description", see("Equation")),
        ("23", "Software", Filled(format!("metwatch {}.", f.results.version))),
        ("24-26", "Initialization, training, selection of the final model", see("Methods")),
        ("28", "Metrics of performance", see("Discrimination, Calibration")),
        ("29", "Significance and uncertainty", see("Discrimination")),
        ("30", "Robustness or sensitivity", see("Optimism, Learning curve")),
        ("31", "Explainability", see("Explanation")),
        ("32-33", "Internal and external evaluation", see("Discrimination")),
        ("34, 42", "Registration", Stated("registration")),
        ("35-36", "Numbers, flow, demographics", see("Patients")),
        ("37-38", "Performance on all partitions with precision", see("Discrimination")),
        ("39", "Failure analysis", Author),
        ("40-41", "Limitations; implications for practice", Author),
        ("43", "Protocol", Stated("registration")),
        ("44", "Funding", Stated("funding")),
    ])
}
