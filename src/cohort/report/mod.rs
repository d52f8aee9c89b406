//! The report: one HTML file without network, to read, print and attach.

mod appendix;
mod models;
mod others;
mod page;
mod patients;
mod performance;

use super::drawing::escape;
use super::figures::two;
use super::fit::Fitted;
use super::results::Results;
use super::validate::Performance;
use appendix::appendix;
use models::{equation, models, rad_score};
pub use others::{evaluation_html, reliability_html};
use page::{Page, document};
use patients::{methods, patients};
use performance::{calibration_table, discrimination, optimism, other_way, risk_groups, subgroups};

/// The whole report.
pub fn report_html(fitted: &Fitted) -> String {
    let mut page = Page::default();
    let r = &fitted.results;
    summary(&mut page, fitted);
    patients(&mut page, fitted);
    methods(&mut page, fitted);
    rad_score(&mut page, fitted);
    models(&mut page, fitted);
    equation(&mut page, fitted);
    discrimination(&mut page, fitted);
    page.section("Calibration");
    match fitted.scale().month() {
        Some(month) => {
            page.text(&format!("The risk is that of an event up to {month} months. Observed is 1 - Kaplan-Meier, so that patients who leave before count until they leave. A slope below 1 means predictions that are too extreme, above 1 too timid. ICI, E50 and E90 are mean, median and 90th percentile of the distance between the smooth curve and the diagonal; the Brier score is weighted for censoring by the training patients, scaled by that of the Kaplan-Meier estimate."));
        }
        None => page.text("A slope below 1 means predictions that are too extreme, above 1 too timid; calibration in the large is the shift of all risks on the log odds scale. ICI, E50 and E90 are mean, median and 90th percentile of the distance between the smooth curve and the diagonal."),
    }
    calibration_table(&mut page, "Calibration of all models.", &r.performance);
    page.pair(&fitted.calibration_figures());
    other_way(&mut page, fitted);
    page.section("Clinical use");
    page.text("Net benefit weighs true against false positives at the odds of each threshold probability; a model is worth using where its line lies above both simple policies.");
    page.pair(&fitted.decision_figures());
    risk_groups(&mut page, fitted);
    subgroups(&mut page, fitted);
    optimism(&mut page, fitted);
    page.section("Explanation");
    page.text(&format!("The models are linear in the {}, so SHAP values are exact: coefficient times distance from the training mean. They say what moved a prediction, not what causes the event.", fitted.scale().unit()));
    fitted.shap_figures().iter().for_each(|f| page.figure(f));
    appendix(&mut page, fitted);
    wrap(fitted, page)
}

/// Frame, style, contents, label.
fn wrap(fitted: &Fitted, page: Page) -> String {
    let r = &fitted.results;
    let mode = if r.paper_mode {
        "combined model on in-sample rad-scores (paper mode)"
    } else {
        "combined model on out-of-fold rad-scores"
    };
    let family = if fitted.scale().month().is_some() { "Cox models" } else { "logistic models" };
    let subtitle = format!(
        "Development and validation report · outcome: {} · {family} · {mode} · metwatch {}",
        r.outcome, r.version
    );
    document(&r.title, &subtitle, r.simulated, &format!("{}\n{}", facts(r), warnings(r)), page)
}

/// A p-value as journals print it.
pub fn p_text(p: f64) -> String {
    if p < 0.0001 { "P < 0.0001".into() } else { format!("P = {}", p_number(p)) }
}

fn p_number(p: f64) -> String {
    match p {
        p if p < 0.0001 => "< 0.0001".into(),
        p if p < 0.001 => format!("{p:.4}"),
        p => format!("{p:.3}"),
    }
}

fn ratio([value, low, high]: [f64; 3]) -> String {
    format!("{} ({}–{})", two(value), two(low), two(high))
}

/// Six significant digits.
fn six(v: f64) -> String {
    super::format_number(format!("{v:.5e}").parse().unwrap_or(v))
}

fn main_model(r: &Results) -> &str {
    r.models.last().map_or("", |m| m.name.as_str())
}

fn measure(p: &Performance) -> &'static str {
    if p.survival_calibration.is_some() || p.auc.is_none() { "C-index" } else { "AUC" }
}

fn main_performance(r: &Results) -> impl Iterator<Item = &Performance> {
    r.performance.iter().filter(|p| p.model == main_model(r))
}

fn facts(r: &Results) -> String {
    let n: usize = r.flow.parts.iter().map(|p| p.1).sum();
    let events: usize = r.flow.parts.iter().map(|p| p.2).sum();
    let mut cells = vec![
        (n.to_string(), "patients analysed".to_owned()),
        (format!("{events} ({:.0} %)", 100.0 * events as f64 / n.max(1) as f64), "with the event".into()),
    ];
    for p in main_performance(r) {
        if let Some([found, low, high]) = p.discrimination() {
            let measure = measure(p);
            cells.push((
                format!("{found:.3}"),
                format!("{measure}, {} model, {} ({low:.3}–{high:.3})", p.model, p.part),
            ));
        }
    }
    if let Some(o) = r.bootstrap.as_ref().and_then(|b| b.models.iter().find(|m| m.model == main_model(r))) {
        cells.push((
            format!("{:.3}", o.apparent - o.optimism),
            format!("training {} less the optimism of the whole procedure", o.measure),
        ));
    }
    for p in main_performance(r).skip(1) {
        if let Some(slope) = p.slope() {
            cells.push((format!("{slope:.2}"), format!("calibration slope, {}", p.part)));
        }
    }
    if let Some(s) = &r.sample_size {
        cells.push((format!("{:.2}", s.events_per_candidate), "events per candidate parameter".into()));
    }
    cells.truncate(8);
    let cells: String =
        cells.iter().map(|(value, what)| format!("<div><b>{}</b>{}</div>", escape(value), escape(what))).collect();
    format!("<div class=\"facts\">{cells}</div>")
}

fn warnings(r: &Results) -> String {
    if r.warnings.is_empty() {
        return "<p class=\"small\">The analysis found nothing to warn of by its own rules.</p>".into();
    }
    let list: String = r.warnings.iter().map(|w| format!("<li>{}</li>\n", escape(w))).collect();
    format!("<div class=\"warnings\"><h3>What the analysis noticed about itself</h3><ul>\n{list}</ul></div>")
}

fn summary(page: &mut Page, fitted: &Fitted) {
    let r = &fitted.results;
    page.section("Summary");
    let parts: Vec<String> =
        r.flow.parts.iter().map(|(name, n, e)| format!("{name} ({n} patients, {e} events)")).collect();
    let mut text = format!(
        "Of {} patients in the clinical table, {} were analysed: {}. ",
        r.flow.in_clinical_table,
        r.flow.parts.iter().map(|p| p.1).sum::<usize>(),
        parts.join(", ")
    );
    if let (Some(first), Some(last)) = (r.features.steps.first(), r.features.steps.last()) {
        text += &format!("Of {} features, {} entered the rad-score. ", first.1, last.1);
    }
    if !r.clinical_selection.kept.is_empty() {
        let labels: Vec<String> = r.clinical_selection.kept.iter().map(|k| term_label(fitted, k)).collect();
        text += &format!("Clinical values selected: {}. ", labels.join(", "));
    }
    for p in main_performance(r) {
        if let Some([found, low, high]) = p.discrimination() {
            let article = if p.auc.is_some() { "an" } else { "a" };
            text += &format!(
                "In {} the {} model had {article} {} of {found:.3} (95 % CI {low:.3} to {high:.3})",
                p.part,
                p.model,
                measure(p)
            );
            if let (Some(_), Some([c, _])) = (p.auc, p.c_index) {
                text += &format!(", a C-index of {c:.3}");
            }
            if let (Some(slope), Some(brier)) = (p.slope(), p.brier()) {
                let at = p.survival_calibration.as_ref().map(|c| format!(" at {} months", c.month)).unwrap_or_default();
                text += &format!(", a calibration slope of {slope:.2} and a Brier score of {brier:.3}{at}");
            }
            text += ". ";
        }
    }
    if let Some(b) = r.bootstrap.as_ref().and_then(|b| Some((b, b.models.iter().find(|m| m.model == main_model(r))?))) {
        text += &format!(
            "Repeating the whole procedure on {} bootstrap samples showed an optimism of {:.3} in the training {}. ",
            b.0.replicates, b.1.optimism, b.1.measure
        );
    }
    page.text(&text);
}

fn term_label(fitted: &Fitted, name: &str) -> String {
    fitted
        .cohort
        .terms
        .iter()
        .find(|t| t.candidate.name == name)
        .map_or(name.to_owned(), |t| t.candidate.label().to_owned())
}
