//! Prometheus's text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats): families with their samples.

use std::fmt::{Display, Write};

/// Text under construction.
#[derive(Default)]
pub struct Exposition(String);

/// The samples of one family are added through this.
pub struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Exposition {
    /// A family of values that rise and fall.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// A family of counts that only rise while the process lives; its name ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    /// A histogram: `counts` has one more entry than `bounds`, and is not cumulative.
    pub fn histogram(&mut self, name: &'static str, help: &str, bounds: &[f64], counts: &[u64], sum: f64) {
        let text = self.family(name, "histogram", help).text;
        let mut so_far = 0;
        let ends = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (end, count) in ends.zip(counts) {
            so_far += count;
            line(text, format_args!("{name}_bucket{{le=\"{end}\"}} {so_far}"));
        }
        line(text, format_args!("{name}_sum {sum}"));
        line(text, format_args!("{name}_count {so_far}"));
    }

    /// The whole text.
    pub fn finish(self) -> String {
        self.0
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        line(&mut self.0, format_args!("# HELP {name} {help}"));
        line(&mut self.0, format_args!("# TYPE {name} {kind}"));
        Family { text: &mut self.0, name }
    }
}

impl Family<'_> {
    /// A sample without labels.
    pub fn value(&mut self, value: impl Display) {
        line(self.text, format_args!("{} {value}", self.name));
    }

    /// A sample without labels, where there is a value: an absent one is not zero.
    pub fn maybe(&mut self, value: Option<impl Display>) {
        if let Some(value) = value {
            self.value(value);
        }
    }

    /// A sample with labels.
    pub fn labeled(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let escape = |text: &str| text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        let pairs: Vec<String> = labels.iter().map(|(name, text)| format!("{name}=\"{}\"", escape(text))).collect();
        line(self.text, format_args!("{}{{{}}} {value}", self.name, pairs.join(",")));
    }
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{content}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_as_the_format_wants_it() {
        let mut text = Exposition::default();
        text.gauge("a_celsius", "Heat.").labeled(&[("zone", "a\"b\\c\nd")], 1.5);
        text.gauge("b_bytes", "None.").maybe(None::<u64>);
        text.histogram("c_seconds", "Time.", &[1.0, 2.5], &[3, 0, 1], 7.25);
        let expected = "# HELP a_celsius Heat.\n# TYPE a_celsius gauge\na_celsius{zone=\"a\\\"b\\\\c\\nd\"} 1.5\n\
                        # HELP b_bytes None.\n# TYPE b_bytes gauge\n\
                        # HELP c_seconds Time.\n# TYPE c_seconds histogram\nc_seconds_bucket{le=\"1\"} 3\n\
                        c_seconds_bucket{le=\"2.5\"} 3\nc_seconds_bucket{le=\"+Inf\"} 4\nc_seconds_sum 7.25\nc_seconds_count 4\n";
        assert_eq!(text.finish(), expected);
    }
}
