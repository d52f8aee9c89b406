//! A page that grows: sections, text, numbered figures and tables, and the frame around them.

use crate::cohort::drawing::escape;
use crate::cohort::figures::Figure;

/// Numbers figures and tables while the page grows.
#[derive(Default)]
pub struct Page {
    pub body: String,
    contents: Vec<(String, String)>,
    figures: usize,
    pub tables: usize,
}

impl Page {
    pub fn section(&mut self, title: &str) {
        let id = format!("s{}", self.contents.len() + 1);
        self.body.push_str(&format!("<h2 id=\"{id}\">{}. {}</h2>\n", self.contents.len() + 1, escape(title)));
        self.contents.push((id, title.to_owned()));
    }

    pub fn heading(&mut self, title: &str) {
        self.body.push_str(&format!("<h3>{}</h3>\n", escape(title)));
    }

    /// A paragraph of plain text.
    pub fn text(&mut self, text: &str) {
        self.body.push_str(&format!("<p>{}</p>\n", escape(text)));
    }

    pub fn figure(&mut self, figure: &Figure) {
        self.figures += 1;
        self.body.push_str(&format!(
            "<figure>\n{}<figcaption><b>Figure {}.</b> {}</figcaption>\n</figure>\n",
            figure.drawing.svg(),
            self.figures,
            escape(&figure.caption)
        ));
    }

    /// Two figures beside each other where the page is wide enough.
    pub fn pair(&mut self, figures: &[Figure]) {
        self.body.push_str("<div class=\"pair\">\n");
        figures.iter().for_each(|f| self.figure(f));
        self.body.push_str("</div>\n");
    }

    /// A table; a first cell that begins with a tab is indented.
    pub fn table(&mut self, caption: &str, head: &[&str], rows: &[Vec<String>], class: &str) {
        self.tables += 1;
        let cell = |text: &String| match text.strip_prefix('\t') {
            Some(text) => format!("<td class=\"indent\">{}</td>", escape(text)),
            None => format!("<td>{}</td>", escape(text)),
        };
        let head: String = head.iter().map(|h| format!("<th scope=\"col\">{}</th>", escape(h))).collect();
        let rows: String =
            rows.iter().map(|row| format!("<tr>{}</tr>\n", row.iter().map(cell).collect::<String>())).collect();
        self.body.push_str(&format!(
            "<div class=\"scroll\"><table class=\"{class}\">\n<caption><b>Table {}.</b> {}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n",
            self.tables,
            escape(caption)
        ));
    }
}

/// A whole page. `top`: elements between title and contents.
pub(super) fn document(title: &str, subtitle: &str, simulated: bool, top: &str, page: Page) -> String {
    let simulated = if simulated { " · SIMULATED DATA: no patient is behind any row" } else { "" };
    let label = escape(&format!("{}{simulated}", capitalized(crate::DISCLAIMER)));
    let title = escape(title);
    let contents: String = page
        .contents
        .iter()
        .enumerate()
        .map(|(i, (id, title))| format!("<a href=\"#{id}\">{}. {}</a>\n", i + 1, escape(title)))
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>\n{}</style>\n</head>\n<body>\n<div class=\"label\" role=\"note\">{label}</div>\n<main>\n<header>\n<h1>{title}</h1>\n<p class=\"sub\">{}</p>\n</header>\n{top}\n<nav aria-label=\"Contents\">\n{contents}</nav>\n{}</main>\n</body>\n</html>\n",
        include_str!("report.css"),
        escape(subtitle),
        page.body,
    )
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}
