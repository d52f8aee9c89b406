//! The frame of every page, and how a value enters one: through [`Text`], which escapes it.

use crate::DISCLAIMER;
use std::fmt;

const STYLE: &str = include_str!("style.css");

/// A value in a page: `&`, `<`, `>`, `"` and `'` are escaped, control characters become spaces.
pub struct Text<T>(pub T);

impl<T: fmt::Display> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        struct Escape<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl Write for Escape<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                for letter in text.chars() {
                    match letter {
                        '&' => self.0.write_str("&amp;")?,
                        '<' => self.0.write_str("&lt;")?,
                        '>' => self.0.write_str("&gt;")?,
                        '"' => self.0.write_str("&quot;")?,
                        '\'' => self.0.write_str("&#39;")?,
                        c if c.is_control() && c != '\n' => self.0.write_char(' ')?,
                        c => self.0.write_char(c)?,
                    }
                }
                Ok(())
            }
        }
        write!(Escape(f), "{}", self.0)
    }
}

/// A whole page. `refresh_s`: the browser asks again after so many seconds.
pub fn page(title: &str, refresh_s: Option<u32>, body: &str) -> String {
    let refresh = refresh_s.map_or(String::new(), |s| format!("<meta http-equiv=\"refresh\" content=\"{s}\">"));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">{refresh}\
         <title>{title} &#183; metwatch</title><style>{STYLE}</style></head><body>\
         <div class=\"warning\" role=\"note\"><strong>{disclaimer}</strong></div>\
         <header class=\"top\"><div class=\"wide\"><a class=\"brand\" href=\"/\">{LOGO}<span>metwatch</span></a>\
         <span class=\"claim\">Liver and colorectal CT, from scanner to alert</span>\
         <nav><a href=\"/\">All studies</a></nav></div></header>\
         <main class=\"wide\">{body}</main>\
         <footer class=\"wide\">metwatch {version} &#183; {disclaimer}</footer></body></html>\n",
        title = Text(title),
        disclaimer = Text(capital(DISCLAIMER)),
        version = env!("CARGO_PKG_VERSION"),
    )
}

const LOGO: &str = "<svg class=\"logo\" viewBox=\"0 0 32 32\" aria-hidden=\"true\"><circle cx=\"16\" cy=\"16\" r=\"14\" \
    class=\"ring\"/><path class=\"beat\" d=\"M4 17h6l3-8 5 15 4-10 2 3h4\"/></svg>";

/// A page that says what went wrong and what to do.
pub fn message_page(title: &str, sentence: &str, advice: &str, code: &str, back: Option<&str>) -> String {
    let back = back.map_or(String::new(), |to| format!("<p><a class=\"button\" href=\"{}\">Back</a></p>", Text(to)));
    let body = format!(
        "<section class=\"card message\"><h1>{}</h1><p>{}</p><p class=\"advice\">{}</p>{back}<p class=\"code\">{}</p></section>",
        Text(title),
        Text(capital(sentence)),
        Text(capital(advice)),
        Text(code)
    );
    page(title, None, &body)
}

/// A card with a heading; empty when its body is, so that a page has no hollow boxes.
pub fn card(title: &str, class: &str, body: &str) -> String {
    if body.is_empty() {
        return String::new();
    }
    format!("<section class=\"card {class}\"><h2>{}</h2>{body}</section>", Text(title))
}

/// The first letter in upper case.
pub fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A moment in the machine's time zone, with the zone.
pub fn moment(at_ms: i64) -> String {
    let Some(utc) = chrono::DateTime::from_timestamp_millis(at_ms) else { return "unknown".into() };
    let local = utc.with_timezone(&chrono::Local);
    let zone = if local.offset().local_minus_utc() == 0 { "UTC".to_owned() } else { local.format("%:z").to_string() };
    format!(
        "<time datetime=\"{}\">{} <span class=\"zone\">{zone}</span></time>",
        utc.format("%Y-%m-%dT%H:%M:%SZ"),
        local.format("%-d %b %Y, %H:%M:%S")
    )
}

/// 0.624 becomes `62 %`; a probability that is none becomes a dash.
pub fn percent(probability: f64) -> String {
    if !(0.0..=1.0).contains(&probability) {
        return "&#8211;".into();
    }
    match probability * 100.0 {
        p if p < 0.5 => "&lt; 1&#8239;%".into(),
        p if p >= 99.5 => "&gt; 99&#8239;%".into(),
        p => format!("{p:.0}&#8239;%"),
    }
}

/// 12345.6 becomes `12,346`; below 10 one decimal stays.
pub fn quantity(value: f64) -> String {
    if !value.is_finite() {
        return "&#8211;".into();
    }
    if value.abs() < 9.95 { format!("{value:.1}") } else { grouped(value.round().max(0.0) as u64) }
}

/// 1234567 becomes `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Milliseconds as a person says them.
pub fn duration(ms: f64) -> String {
    match ms {
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms if ms < 99_950.0 => format!("{:.1} s", ms / 1000.0),
        ms => format!("{:.1} min", ms / 60_000.0),
    }
}

/// A length in bytes as a person says it.
pub fn bytes(length: u64) -> String {
    match length as f64 {
        n if n < 1e3 => format!("{length} B"),
        n if n < 1e6 => format!("{:.0} kB", n / 1e3),
        n => format!("{:.1} MB", n / 1e6),
    }
}

/// `low`, `intermediate`, `high` as a CSS class; anything else has no color.
pub fn group_class(group: &str) -> &'static str {
    match group {
        "low" => "low",
        "intermediate" => "intermediate",
        "high" => "high",
        _ => "neutral",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_leave_their_place() {
        assert_eq!(Text("<a href='x' b=\"y\">&\u{7}").to_string(), "&lt;a href=&#39;x&#39; b=&quot;y&quot;&gt;&amp; ");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([quantity(0.04), quantity(9.94), quantity(1412.4)], ["0.0", "9.9", "1,412"]);
        assert_eq!([duration(12.0), duration(3240.0), duration(240_000.0)], ["12 ms", "3.2 s", "4.0 min"]);
        assert_eq!([bytes(12), bytes(34_200), bytes(2_340_000)], ["12 B", "34 kB", "2.3 MB"]);
        assert_eq!(percent(0.624), "62&#8239;%");
        assert_eq!([percent(0.001), percent(f64::NAN)], ["&lt; 1&#8239;%", "&#8211;"]);
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
