//! Who was analysed, and how.

use super::page::Page;
use crate::cohort::Known;
use crate::cohort::fit::Fitted;
use crate::cohort::spec::{Family, Icc, Imputation, Kind, LambdaChoice};
use crate::statistics::stepwise::Direction;

pub(super) fn patients(page: &mut Page, fitted: &Fitted) {
    let r = &fitted.results;
    page.section("Patients");
    page.figure(&fitted.flow_figure());
    let mut head = vec![""];
    head.extend(r.table_one_groups.iter().map(String::as_str));
    head.push("SMD");
    let mut rows = Vec::new();
    let mut before = String::new();
    for row in &r.table_one {
        if !row.class.is_empty() && row.label != before {
            let mut heading = vec![String::new(); head.len()];
            heading[0] = row.label.clone();
            rows.push(heading);
        }
        let name = if row.class.is_empty() { row.label.clone() } else { format!("\t{}", row.class) };
        let mut cells = vec![name];
        cells.extend(row.cells.iter().cloned());
        cells.push(row.smd.map_or("–".into(), |v| format!("{:.2}", v.abs())));
        rows.push(cells);
        before.clone_from(&row.label);
    }
    page.table("Characteristics by part of the split, and in training by outcome. SMD: standardized difference between training and all other patients; above 0.1 the groups differ noticeably.", &head, &rows, "");
    let mut missing: Vec<Vec<String>> = r
        .flow
        .missing
        .iter()
        .map(|(column, n)| {
            let share = 100.0 * *n as f64 / r.flow.in_clinical_table.max(1) as f64;
            let imputed = r
                .flow
                .imputed
                .iter()
                .find(|(c, ..)| fitted.spec.candidates.iter().any(|k| k.name == *c && k.column() == column));
            vec![
                column.clone(),
                format!("{n} ({share:.1} %)"),
                imputed.map_or("patients left out".into(), |(_, n, v)| format!("{n} filled with {v}")),
            ]
        })
        .collect();
    missing.extend(
        r.flow
            .features_dropped
            .iter()
            .map(|(why, n)| vec![format!("{n} features"), why.clone(), "features left out".into()]),
    );
    if missing.is_empty() {
        page.text("No candidate and no feature had missing values.");
    } else {
        page.table(
            "Missing values among all patients of the clinical table, and features dropped.",
            &["Column", "Missing", "What was done"],
            &missing,
            "left",
        );
    }
    if r.flow.features_without_clinical > 0 {
        page.text(&format!(
            "{} patients of the feature tables are in no row of the clinical table and were not used.",
            r.flow.features_without_clinical
        ));
    }
}

pub(super) fn methods(page: &mut Page, fitted: &Fitted) {
    let spec = &fitted.spec;
    let r = &fitted.results;
    page.section("Methods");
    let split = match (&spec.split.column, &spec.split.date) {
        (Some(column), _) => format!(
            "Patients were split by the column {column}: {} trained the models, {} validated them.",
            spec.split.training.join(", "),
            fitted.cohort.parts[1..].join(", ")
        ),
        (None, date) => format!(
            "Patients were split by the date in {}: training before {}.",
            date.clone().unwrap_or_default(),
            spec.split.before.clone().unwrap_or_default()
        ),
    };
    page.text(&format!("{split} Everything below was fitted on training patients alone."));
    if spec.harmonization.combat {
        page.text("Features were harmonized over centers by ComBat (parametric empirical Bayes) with parameters fitted on training patients. The bootstrap and the learning curve repeat this step on each sample.");
    }
    let mut steps = Vec::new();
    if let (Some(limit), Some([first, _])) = (spec.filters.icc_min, &fitted.cohort.repeats) {
        let form =
            if spec.filters.icc == Icc::Agreement { "ICC(2,1), absolute agreement" } else { "ICC(3,1), consistency" };
        steps.push(format!("stability over {} repeat segmentations ({form}, at least {limit})", first.nrows()));
    }
    if let Some(limit) = spec.filters.univariable_p_max {
        let test = if spec.penalized.family == Family::Cox {
            "univariable Cox models"
        } else {
            "Mann-Whitney tests (normal approximation with correction)"
        };
        steps.push(format!("{test} with p below {limit}"));
    }
    if let Some(limit) = spec.filters.correlation_max {
        steps.push(format!(
            "Spearman correlation, by increasing p, keeping a feature if |rho| is at most {limit} to all kept before"
        ));
    }
    if let Some(most) = spec.filters.mrmr {
        steps.push(format!("minimum redundancy, maximum relevance, at most {most}"));
    }
    if !r.features.steps.is_empty() {
        let offered = if steps.is_empty() {
            "All features were standardized".to_owned()
        } else {
            format!("Features passed these filters: {}. They were then standardized", steps.join("; "))
        };
        let family = if spec.penalized.family == Family::Cox { "proportional hazards" } else { "logistic" };
        let penalty = if spec.penalized.alpha == 1.0 {
            "LASSO".into()
        } else {
            format!("elastic net (alpha {})", spec.penalized.alpha)
        };
        let rule = if spec.penalized.rule == LambdaChoice::Min {
            "the smallest cross-validated deviance"
        } else {
            "the largest penalty within one standard error of the smallest cross-validated deviance"
        };
        let folds = fitted.training.folds.iter().max().map_or(0, |f| f + 1);
        let drawn = spec
            .penalized
            .fold_column
            .as_ref()
            .map_or_else(|| format!("drawn with seed {}", spec.analysis.seed), |c| format!("given in the column {c}"));
        page.text(&format!("{offered} by training mean and SD and offered to a {family} {penalty} over 100 penalties (glmnet's grid; each fold on its own grid). The penalty was that of {rule} over {folds} folds ({drawn}). The linear predictor is the rad-score."));
    }
    let candidates: Vec<Vec<String>> = spec
        .candidates
        .iter()
        .map(|c| {
            let kind = match c.kind {
                Kind::Continuous => "continuous".into(),
                Kind::Log => "natural logarithm".into(),
                Kind::Cut => format!("cut at {}", c.at.unwrap_or(0.0)),
                Kind::Ordinal => "ordinal".into(),
                Kind::Factor => format!("factor, reference {}", c.levels[0]),
                Kind::Indicator => format!("{} or not", c.level.clone().unwrap_or_default()),
                Kind::Spline => format!("restricted cubic spline, {} knots", c.knots.unwrap_or(0)),
            };
            let range = c.range.map_or("–".into(), |[a, b]| format!("{a} to {b}"));
            let known = if c.known == Known::Laboratory { "at the scan" } else { "after surgery" };
            vec![
                c.label().to_owned(),
                c.column().to_owned(),
                if c.unit.is_empty() { "–".into() } else { c.unit.clone() },
                kind,
                range,
                known.into(),
            ]
        })
        .collect();
    if !candidates.is_empty() {
        let backward = match spec.clinical_model.direction() {
            Some(Direction::Backward) => ", the rest reduced backward by Akaike's criterion",
            Some(Direction::Forward) => ", of them chosen forward by Akaike's criterion",
            Some(Direction::Both) => ", the rest reduced stepwise (both ways) by Akaike's criterion",
            None => "",
        };
        let kept = match spec.clinical_model.univariable_p_max {
            p if p < 1.0 => format!("Clinical candidates with a univariable p below {p} were kept"),
            _ => "All clinical candidates were offered, without a univariable test".into(),
        };
        page.text(&format!("{kept}{backward}. Wald tests are used; where an outcome was separated, Firth's penalty."));
        page.table(
            "Clinical candidates.",
            &["Value", "Column", "Unit", "Enters as", "Permitted", "Known"],
            &candidates,
            "left",
        );
    }
    let cox = spec.penalized.family == Family::Cox;
    let form = if cox { "a proportional hazards model" } else { "logistic" };
    let combined = if r.paper_mode {
        format!(
            "The combined model is {form} in the selected clinical values and the rad-score as fitted on the same patients (paper mode), which makes it look better in training than it is."
        )
    } else {
        format!(
            "The combined model is {form} in the selected clinical values and the rad-score; it was fitted on out-of-fold rad-scores (each patient's from the fit without that patient's fold) and is applied with the full rad-score."
        )
    };
    let imputation = if spec.analysis.imputation == Imputation::Median {
        "Missing values were filled with the training median or the most frequent class."
    } else {
        "Patients with a missing candidate or feature were left out."
    };
    if cox {
        let month = spec.risk_month();
        page.text(&format!("{combined} {imputation} All models are Cox models with Efron's ties, centered at the training means; their risk is that of an event up to {month} months by the baseline survival. The C-index is Harrell's; models are compared by its infinitesimal jackknife; time-dependent AUC, ROC curves and Brier scores are weighted by the inverse probability of censoring; calibration is by Kaplan-Meier in groups and by a Cox model in a restricted cubic spline of ln(-ln(1 - risk)); decision curves take the Kaplan-Meier risk above each threshold; survival bands are log-log."));
        return;
    }
    page.text(&format!("{combined} {imputation} AUC intervals and tests are DeLong's; the C-index is Harrell's for the linear predictor against time; smooth calibration curves are lowess without robustness; survival bands are log-log; hazard ratios use Efron's ties."));
}
