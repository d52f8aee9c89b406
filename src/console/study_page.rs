//! The page of one study: the answer first, then why, then how it came about.

use super::html::{Text, capital, card, duration, group_class, message_page, moment, page, percent};
use super::view::{AlertState, AssessmentView, Remark, Status, StudyPage};
use super::{charts, form, sections};
use crate::DISCLAIMER;

/// How often the page of a study under way is loaded again.
const REFRESH_S: u32 = 4;

/// The page of one study, complete HTML. A study whose status allows no risk shows its reasons in the place of the risk,
/// whatever `assessment` holds.
pub fn study_page(s: &StudyPage) -> String {
    let risk = s.assessment.as_ref().filter(|_| s.status.allows_risk());
    let mut main = card("Pictures", "", &sections::pictures(s));
    let mut side = String::new();
    if let Some(a) = risk {
        main += &card("What drives this risk", "", &charts::contributions(&a.contributions));
        side += &card("Free of metastasis over time", "", &charts::survival(&a.survival, &a.group));
        side += &card("Nomogram points", "", &charts::points(a));
    }
    main += &card("Regions", "", &sections::regions(s));
    main += &card("Time per step", "", &sections::steps(s));
    main += &card("Files", "", &sections::files(s));
    main += &card("Sent to", "", &sections::deliveries(s));
    main += &sections::features(s);
    let quality = card("Quality gate", "", &sections::quality(s));
    let side =
        quality + &card("Clinical values", "", &clinical(s)) + &side + &card("Models", "", &sections::packages(s));
    let body = format!(
        "{}{}<div class=\"columns\"><div>{main}</div><div>{side}</div></div>{}",
        heading(s),
        hero(s, risk),
        card("Audit", "", &sections::audit(s))
    );
    page(&format!("Study {}", s.number), s.status.is_under_way().then_some(REFRESH_S), &body)
}

/// The page after a form was refused or accepted in doubt, with the way back to the study.
pub fn form_message(number: &str, title: &str, sentence: &str, advice: &str, code: &str) -> String {
    message_page(title, sentence, advice, code, Some(&format!("/study/{number}")))
}

fn heading(s: &StudyPage) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(s.patient.as_ref().map(|p| format!("Patient {}", Text(p))));
    parts.extend(s.description.as_ref().filter(|d| !d.is_empty()).map(|d| Text(d).to_string()));
    parts.extend(s.received_at_ms.map(|at| format!("received {}", moment(at))));
    parts.extend(s.n_objects.map(|n| format!("{n} objects")));
    parts.extend(s.size_xyz.map(|[x, y, z]| format!("{x} &#215; {y} &#215; {z} voxels")));
    parts.extend(s.spacing_mm.map(|[x, y, z]| format!("{x:.2} &#215; {y:.2} &#215; {z:.2} mm")));
    parts.extend(s.revision.filter(|r| *r > 1).map(|r| format!("revision {r}")));
    format!("<div class=\"heading\"><h1>Study {}</h1><p>{}</p></div>", Text(&s.number), parts.join(" &#183; "))
}

fn hero(s: &StudyPage, risk: Option<&AssessmentView>) -> String {
    let answer = match (risk, s.status) {
        (Some(a), _) => risk_answer(a, s),
        (None, Status::Refused) => no_risk("Not analysed: no risk is given", "refused", &s.reasons),
        (None, Status::Failed) => no_risk("The box could not analyse this study", "failed", &s.reasons),
        (None, Status::Receiving) => waiting("Receiving", "Objects are still arriving. This page reloads by itself."),
        (None, Status::Processing) => {
            let step = s.state.as_deref().map_or("Processing".into(), capital);
            waiting(&step, "The analysis runs. This page reloads by itself.")
        }
        (None, Status::Accepted | Status::AcceptedWithNotes) => {
            waiting("No risk yet", "The images were accepted, but there is no assessment for them.")
        }
    };
    let class = risk.map_or("neutral", |a| group_class(&a.group));
    format!("<section class=\"hero {class}\"><div class=\"answer\">{answer}</div><aside>{}</aside></section>", state(s))
}

fn risk_answer(a: &AssessmentView, s: &StudyPage) -> String {
    let within = a.horizon_months.map_or(String::new(), |m| format!(" within {m} months"));
    let n_notes = s.notes.len() + a.notes.len();
    let notes = match n_notes {
        0 => String::new(),
        1 => "<a class=\"badge attention\" href=\"#quality\">1 note on this result</a>".into(),
        n => format!("<a class=\"badge attention\" href=\"#quality\">{n} notes on this result</a>"),
    };
    format!(
        "<div class=\"risk-line\"><p class=\"group {class}\">{} risk</p><p class=\"probability\">{}</p></div>\
         <p class=\"outcome\">Estimated probability of metachronous liver metastasis{within}</p>{}\
         <p class=\"badges\"><span class=\"badge {certainty}\">{} result</span> <span class=\"badge\">Based on: {}</span> {notes}</p>\
         <p class=\"never\">{}. A physician decides, not this page.</p>",
        Text(capital(&a.group)),
        percent(a.probability),
        charts::scale(a),
        Text(capital(&a.certainty)),
        Text(&a.variant),
        Text(capital(DISCLAIMER)),
        class = group_class(&a.group),
        certainty = if a.certainty == "final" { "final" } else { "provisional" },
    )
}

fn no_risk(title: &str, class: &str, reasons: &[Remark]) -> String {
    let list = if reasons.is_empty() {
        "<p>No reason was recorded. Look at the audit below and at the log of the box.</p>".to_owned()
    } else {
        sections::remarks(reasons)
    };
    format!("<p class=\"no-risk {class}\">{}</p><div class=\"reasons\">{list}</div>", Text(title))
}

fn waiting(title: &str, sentence: &str) -> String {
    format!("<p class=\"no-risk\">{}</p><p>{}</p>", Text(title), Text(sentence))
}

/// The column beside the answer: status, alert, times.
fn state(s: &StudyPage) -> String {
    let status = match s.status {
        Status::Accepted => "good",
        Status::AcceptedWithNotes | Status::Refused => "attention",
        Status::Failed => "bad",
        Status::Receiving | Status::Processing => "busy",
    };
    let fact = |what: &str, value: &str| format!("<div><dt>{what}</dt><dd>{value}</dd></div>");
    let mut html = fact("Status", &format!("<span class=\"badge {status}\">{}</span>", s.status.title()));
    html += &fact("Alert", &alert(s));
    if let Some(at) = s.computed_at_ms {
        html += &fact("Computed", &moment(at));
    }
    let total: f64 = s.steps.iter().map(|step| step.ms).filter(|ms| ms.is_finite()).sum();
    if total > 0.0 {
        html += &fact("Computing time", &duration(total));
    }
    format!("<dl>{html}</dl>")
}

fn alert(s: &StudyPage) -> String {
    let Some(alert) = &s.alert else { return "<span class=\"faint\">none raised for this study</span>".into() };
    let by = alert.by.as_ref().map_or(String::new(), |by| format!("by <b>{}</b> ", Text(by)));
    let at = alert.at_ms.map_or(String::new(), moment);
    let (class, title) = (alert_class(alert.state), alert.state.title());
    format!("<span class=\"badge {class}\">{title}</span><div class=\"faint\">{by}{at}</div>")
}

/// The color of an alert's state.
pub fn alert_class(state: AlertState) -> &'static str {
    match state {
        AlertState::Acknowledged => "good",
        AlertState::Queued | AlertState::AtBroker => "attention",
        AlertState::Escalated | AlertState::Expired => "bad",
    }
}

fn clinical(s: &StudyPage) -> String {
    if s.status.is_under_way() && s.clinical.is_empty() && !s.clinical_form {
        return String::new();
    }
    let table = sections::clinical(s);
    if s.clinical_form { table + &form::html(&s.number, &s.clinical) } else { table }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check_html, hostile_study, refused_study, scored_study};
    use super::*;

    #[test]
    fn a_scored_study_leads_with_its_risk_and_the_disclaimer() {
        let html = study_page(&scored_study());
        check_html(&html);
        for expected in ["High risk", "68&#8239;%", "Provisional result", "Acknowledged", "ward-3", "within 36 months"]
        {
            assert!(html.contains(expected), "{expected}");
        }
        assert!(html.matches("emonstration, not for clinical use").count() >= 3);
    }

    #[test]
    fn a_refused_study_shows_reasons_and_never_a_risk() {
        let mut study = refused_study();
        study.assessment = scored_study().assessment;
        let html = study_page(&study);
        check_html(&html);
        assert!(html.contains("gate.liver-volume") && html.contains("Send the whole abdomen"));
        for forbidden in [
            "High risk",
            "68&#8239;%",
            "class=\"probability\"",
            "class=\"curve\"",
            "Nomogram points",
            "raises the risk",
        ] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn nothing_that_is_shown_can_become_markup() {
        let html = study_page(&hostile_study());
        check_html(&html);
        assert!(!html.contains("<script") && !html.contains("\"x'y"), "a value got into the page unescaped");
        assert!(html.contains("&lt;script&gt;"));
    }

    #[test]
    fn an_empty_study_is_a_page_too_and_reloads() {
        let html = study_page(&StudyPage { number: "S000001".into(), ..StudyPage::default() });
        check_html(&html);
        assert!(html.contains("http-equiv=\"refresh\"") && html.contains("still arriving"));
    }
}
