//! The reports of an external evaluation and of repeats.

use super::page::{Page, document};
use super::performance::calibration_table;
use super::six;
use crate::cohort::figures::{self, Figure};
use crate::cohort::validate::{self, Scored};
use crate::cohort::validate_survival;
use crate::cohort::{Evaluation, Reliability, plot};

/// The report of an external evaluation.
pub fn evaluation_html(evaluation: &Evaluation, scored: &Scored) -> String {
    let mut page = Page::default();
    page.section("Patients");
    page.text(&format!(
        "{} rows, {} assessed, {} of them with the event. The package {} {} was applied as it is; nothing in it was changed.",
        evaluation.rows, evaluation.assessed, evaluation.events, evaluation.nomogram, evaluation.nomogram_version
    ));
    let mut rows: Vec<Vec<String>> =
        evaluation.refused.iter().map(|(why, n)| vec![why.clone(), n.to_string()]).collect();
    rows.extend(evaluation.variants.iter().map(|(name, n)| vec![format!("assessed by variant {name}"), n.to_string()]));
    page.table("What became of the rows.", &["", "Patients"], &rows, "");
    let drift: Vec<Vec<String>> = evaluation
        .outside_training
        .iter()
        .map(|(p, n)| {
            vec![p.clone(), n.to_string(), format!("{:.0} %", 100.0 * *n as f64 / evaluation.assessed.max(1) as f64)]
        })
        .collect();
    if !drift.is_empty() {
        page.table(
            "Values outside the 5th to 95th percentile of training; 10 % are expected.",
            &["Predictor", "Patients", "Share"],
            &drift,
            "",
        );
    }
    page.section("Performance");
    let p = std::slice::from_ref(&evaluation.performance);
    if let (None, Some([c, low, high])) = (evaluation.performance.auc, evaluation.performance.discrimination()) {
        page.text(&format!("Harrell's C {c:.3} (95 % CI {low:.3} to {high:.3})."));
    }
    if let Some([auc, low, high]) = evaluation.performance.auc {
        let c = evaluation
            .performance
            .c_index
            .map(|c| format!(", Harrell's C {:.3} (SE {:.3})", c[0], c[1]))
            .unwrap_or_default();
        page.text(&format!("AUC {auc:.3} (95 % CI {low:.3} to {high:.3}){c}."));
    }
    calibration_table(&mut page, "Calibration of the package as it is.", p);
    let points = match scored.scale.month() {
        Some(month) => validate_survival::roc(scored, month, None)
            .map(|curve| curve.iter().map(|p| [1.0 - p.specificity, p.sensitivity]).collect()),
        None => validate::roc_points(scored),
    };
    if let Ok(points) = points {
        let series = [plot::Series { name: "package".into(), points }];
        let at = scored.scale.month().map(|m| format!(" at {m} months")).unwrap_or_default();
        let roc = Figure { drawing: plot::roc(&series), caption: format!("ROC curve{at}.") };
        let calibration = Figure { drawing: figures::calibration_plot(scored), caption: "Calibration.".into() };
        page.pair(&[roc, calibration]);
    }
    page.section("Recalibration, offered and not applied");
    match &evaluation.recalibration {
        Some(r) => page.text(&format!(
            "L is the risk on the scale {}. A new intercept alone would shift it by {:+.4}. Intercept and slope together would be {:+.4} and {:.4} (SE {:.4} and {:.4}): L' = {:+.4} + {:.4} L. Whoever applies one makes a new package with a new version.",
            r.scale, r.shift, r.intercept, r.slope, r.standard_errors[0], r.standard_errors[1], r.intercept, r.slope
        )),
        None => page.text("These patients do not allow a recalibration (one class, or told apart completely)."),
    }
    let title = format!("External evaluation of {}", evaluation.nomogram);
    document(
        &title,
        &format!("outcome: {} · metwatch {}", evaluation.outcome, evaluation.version),
        evaluation.outcome.contains("SIMULATED"),
        "",
        page,
    )
}

/// The report of repeats.
pub fn reliability_html(found: &Reliability) -> String {
    let mut page = Page::default();
    page.section("Intraclass correlation");
    page.text(&format!(
        "{} patients, {} measurements of each. ICC(2,1) asks for agreement of the values, ICC(3,1) for their order; 95 % limits are exact.",
        found.patients, found.measurements
    ));
    let counts: Vec<Vec<String>> = [0.9, 0.75, 0.5]
        .iter()
        .map(|l| vec![format!("at least {l}"), found.features.iter().filter(|f| f.icc2[0] >= *l).count().to_string()])
        .collect();
    page.table("Features by ICC(2,1).", &["ICC(2,1)", "Features"], &counts, "");
    let three = |v: [f64; 3]| format!("{:.3} ({:.3}–{:.3})", v[0], v[1], v[2]);
    let rows: Vec<Vec<String>> = found
        .features
        .iter()
        .map(|f| {
            vec![
                f.name.clone(),
                three(f.icc2),
                three(f.icc3),
                six(f.bias),
                format!("{} to {}", six(f.limits[0]), six(f.limits[1])),
            ]
        })
        .collect();
    page.table(
        "All features; bias and limits of agreement of the second against the first measurement.",
        &["Feature", "ICC(2,1)", "ICC(3,1)", "Bias", "Limits of agreement"],
        &rows,
        "",
    );
    page.section("Bland-Altman plots");
    page.text("The features with the lowest ICC(2,1).");
    page.pair(&found.plots);
    document(
        "Reliability of repeated measurements",
        &format!("metwatch {}", env!("CARGO_PKG_VERSION")),
        false,
        "",
        page,
    )
}
