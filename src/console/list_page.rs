//! The list of studies: which patient needs a look, at one glance.

use super::html::{Text, capital, group_class, moment, page, percent};
use super::study_page::alert_class;
use super::view::{Status, StudySummary};

/// How often the list is loaded again.
const REFRESH_S: u32 = 15;

/// The list of studies, complete HTML, in the order given. `notices`: what is wrong with the box now.
pub fn list_page(studies: &[StudySummary], notices: &[String]) -> String {
    let notices: String = notices
        .iter()
        .map(|n| format!("<p class=\"badge attention\" role=\"alert\">{}</p>", Text(capital(n))))
        .collect();
    let rows: String = studies.iter().map(row).collect();
    let table = if rows.is_empty() {
        "<section class=\"card message\"><h1>No study yet</h1><p>Send a CT series of the abdomen to this box. It appears here while it is being received.</p></section>".to_owned()
    } else {
        format!("<section class=\"card flush\"><ul class=\"studies\">{rows}</ul></section>")
    };
    let count = |wanted: fn(&StudySummary) -> bool| studies.iter().filter(|s| wanted(s)).count();
    let high = count(|s| s.status.allows_risk() && s.group.as_deref() == Some("high"));
    let under_way = count(|s| s.status.is_under_way());
    let none = count(|s| matches!(s.status, Status::Refused | Status::Failed));
    let body = format!(
        "<div class=\"heading\"><h1>Studies</h1><p class=\"counts\"><span><b>{}</b> in all</span><span><b>{high}</b> high risk</span>\
         <span><b>{under_way}</b> under way</span><span><b>{none}</b> without a result</span></p></div>{notices}{table}",
        studies.len()
    );
    page("Studies", Some(REFRESH_S), &body)
}

fn row(s: &StudySummary) -> String {
    let description = s.description.as_deref().filter(|d| !d.is_empty()).unwrap_or("CT series");
    let patient = s.patient.as_ref().map_or(String::new(), |p| format!("Patient {} &#183; ", Text(p)));
    let at = s.received_at_ms.map_or(String::new(), moment);
    let alert =
        s.alert.map_or(String::new(), |a| format!("<span class=\"badge {}\">{}</span>", alert_class(a), a.title()));
    format!(
        "<li><a href=\"/study/{number}\"><span class=\"who\"><b>{number}</b><span>{patient}{}</span><span class=\"faint\">{at}</span></span>\
         <span class=\"result\">{}</span><span class=\"badges\">{}{alert}</span></a></li>",
        Text(description),
        result(s),
        certainty(s),
        number = Text(&s.number)
    )
}

fn result(s: &StudySummary) -> String {
    match (&s.group, s.probability) {
        (Some(group), Some(probability)) if s.status.allows_risk() => format!(
            "<span class=\"group {}\">{} risk</span> <b class=\"figure\">{}</b>",
            group_class(group),
            Text(capital(group)),
            percent(probability)
        ),
        _ => {
            let class = match s.status {
                Status::Failed => "group failed",
                Status::Refused => "group none",
                _ => "group busy",
            };
            let reason = s
                .reason
                .as_ref()
                .map_or(String::new(), |r| format!("<span class=\"faint\">{}</span>", Text(capital(r))));
            let title = if s.status.allows_risk() { "No risk yet" } else { s.status.title() };
            format!("<span class=\"{class}\">{title}</span> {reason}")
        }
    }
}

fn certainty(s: &StudySummary) -> String {
    match &s.certainty {
        Some(certainty) if s.status.allows_risk() => {
            let class = if certainty == "final" { "final" } else { "provisional" };
            format!("<span class=\"badge {class}\">{}</span>", Text(capital(certainty)))
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check_html, summaries};
    use super::*;

    #[test]
    fn the_list_shows_each_study_and_no_risk_of_a_refused_one() {
        let mut studies = summaries();
        studies[0].description = Some("<script>alert(1)</script>".into());
        for study in studies.iter_mut().filter(|s| s.status == Status::Refused) {
            (study.group, study.probability) = (Some("high".into()), Some(0.77));
        }
        let html = list_page(&studies, &["the box is <hot>".into()]);
        check_html(&html);
        assert!(html.contains("High risk") && html.contains("href=\"/study/S000041\""));
        assert!(!html.contains("77&#8239;%") && !html.contains("<script"));
        assert!(html.contains("emonstration, not for clinical use"));
        assert!(html.contains("The box is &lt;hot&gt;"), "{html}");
        check_html(&list_page(&[], &[]));
    }
}
