//! The reporting checklists, and what it takes to get the same result again.

use super::page::Page;
use crate::cohort::checklist::{self, Answer, Item};
use crate::cohort::drawing::escape;
use crate::cohort::fit::Fitted;

pub(super) fn appendix(page: &mut Page, fitted: &Fitted) {
    page.section("Appendix: reporting checklists");
    page.text("Filled from the data and the specification where they can be. Open lines are for the author.");
    for (name, list) in [
        ("TRIPOD+AI", checklist::tripod(fitted)),
        ("METRICS", checklist::metrics(fitted)),
        ("CLAIM", checklist::claim(fitted)),
    ] {
        page.heading(name);
        checklist_table(page, fitted, name, &list);
    }
    page.section("Appendix: reproducibility");
    let r = &fitted.results;
    let rows: Vec<Vec<String>> = r.inputs.iter().map(|(name, sha)| vec![name.clone(), sha.clone()]).collect();
    page.table(&format!("sha256 of the inputs. metwatch {}, seed {}; the result is the same for any number of threads. results.json holds every number.", r.version, r.seed), &["Input", "sha256"], &rows, "left");
}

fn checklist_table(page: &mut Page, fitted: &Fitted, name: &str, items: &[Item]) {
    page.tables += 1;
    let statements = fitted.spec.statement.entries();
    let open = "<span class=\"open\">to be written by the author</span>".to_owned();
    let answer = |item: &Item| match &item.answer {
        Answer::Filled(text) => escape(text),
        Answer::Stated(key) => match statements.get(key).map(|t| t.trim()).unwrap_or_default() {
            "" => open.clone(),
            text => escape(text),
        },
        Answer::Author => open.clone(),
    };
    let rows: String = items
        .iter()
        .map(|i| format!("<tr><td>{}</td><td>{}</td><td>{}</td></tr>\n", i.number, escape(i.text), answer(i)))
        .collect();
    page.body.push_str(&format!("<div class=\"scroll\"><table class=\"left\">\n<caption><b>Table {}.</b> {name}.</caption>\n<thead><tr><th scope=\"col\">Item</th><th scope=\"col\">Asked</th><th scope=\"col\">Answer</th></tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n", page.tables));
}
