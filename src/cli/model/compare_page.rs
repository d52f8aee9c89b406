//! The report of `metwatch model compare`: one HTML file, pictures inside.

use super::compare::{Case, means, number};
use crate::DISCLAIMER;
use std::fmt::Write;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;color:#1a1f26}\
    table{border-collapse:collapse;margin:1rem 0}th,td{padding:.2rem .8rem;border-bottom:1px solid #d5dbe3;text-align:right}\
    th:first-child,td:first-child,td.text,th.text{text-align:left}figure{display:inline-block;margin:.5rem;width:22rem}\
    img{width:100%}figcaption{color:#56606d}.warning{background:#fff3cd;padding:.4rem 1rem;border-radius:.3rem}";

/// The whole page.
pub fn page(names: &[String; 2], cases: &[Case]) -> String {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Comparison of segmenters</title>\
         <style>{STYLE}</style></head><body><h1>Comparison of segmenters</h1><p class=\"warning\">{}</p>\
         <p><b>A</b> {}<br><b>B</b> {}</p><h2>Means</h2>",
        escape(DISCLAIMER),
        escape(&names[0]),
        escape(&names[1])
    );
    html.push_str(
        "<table><tr><th>Region</th><th class=\"text\">Compared</th><th>Cases</th><th>Dice</th><th>HD95 mm</th></tr>",
    );
    for (region, what, n, dice, hd95) in means(cases) {
        let (dice, hd95) = (number(dice, 3), number(hd95, 1));
        let region = region.title();
        let _ = write!(
            html,
            "<tr><td>{region}</td><td class=\"text\">{what}</td><td>{n}</td><td>{dice}</td><td>{hd95}</td></tr>"
        );
    }
    html.push_str("</table>");
    for case in cases {
        one(&mut html, case);
    }
    html.push_str("</body></html>\n");
    html
}

fn one(html: &mut String, case: &Case) {
    let _ = write!(html, "<h2>{}</h2>", escape(&case.name));
    for (name, seconds, outcome) in
        [("A", case.seconds[0], &case.outcomes[0]), ("B", case.seconds[1], &case.outcomes[1])]
    {
        let _ = write!(html, "<p><b>{name}</b> {seconds:.2} s, gate: {}</p>", escape(outcome));
    }
    html.push_str(
        "<table><tr><th>Region</th><th class=\"text\">Compared</th><th>Dice</th><th>HD95 mm</th><th>Mean distance mm</th>\
         <th>mL</th><th>mL</th></tr>",
    );
    for p in &case.pairs {
        let o = &p.overlap;
        let _ = write!(
            html,
            "<tr><td>{}</td><td class=\"text\">{}</td><td>{:.3}</td><td>{}</td><td>{}</td><td>{:.1}</td><td>{:.1}</td></tr>",
            p.region.title(),
            p.what,
            o.dice,
            number(o.hd95_mm, 1),
            number(o.mean_surface_mm, 2),
            o.volume_ml[0],
            o.volume_ml[1]
        );
    }
    html.push_str("</table><div>");
    for (title, png) in &case.pictures {
        let title = escape(title);
        let data = base64(png);
        let _ = write!(
            html,
            "<figure><img alt=\"{title}\" src=\"data:image/png;base64,{data}\"><figcaption>{title}</figcaption></figure>"
        );
    }
    html.push_str("</div>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Base64 (RFC 4648) with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, k| bits << 8 | u32::from(part.get(k).copied().unwrap_or(0)));
        for k in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * k) & 63) as usize];
            text.push(if k <= part.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_rfc() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (text, expected) in cases {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    #[test]
    fn names_are_escaped() {
        let case = Case {
            name: "<script>".into(),
            seconds: [1.0, 2.0],
            outcomes: ["accept".into(), "refuse (\"x\")".into()],
            pairs: Vec::new(),
            pictures: vec![("A & B".into(), vec![1, 2, 3])],
        };
        let html = page(&["a".into(), "b<".into()], &[case]);
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script>") && html.contains("A &amp; B"));
        assert!(html.contains("data:image/png;base64,AQID"));
    }
}
