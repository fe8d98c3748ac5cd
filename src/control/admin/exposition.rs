//! Prometheus' text format, version 0.0.4. Numbers are also valid in OpenMetrics, so that every scraper accepts them.

use std::fmt::{Display, Write};

/// The media type of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The type of a metric family.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A label and its value.
pub(super) type Label<'a> = (&'static str, &'a str);

/// Metrics as text.
pub(super) struct Exposition {
    text: String,
    family: &'static str,
}

impl Exposition {
    pub(super) fn new() -> Self {
        Self {
            text: String::with_capacity(8 * 1024),
            family: "",
        }
    }

    /// Begins the metric family `name`. The name of a counter ends in `_total`.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        self.family = name;
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {}", kind.name()));
    }

    /// Adds a sample to the current family.
    pub(super) fn sample(&mut self, labels: &[Label<'_>], value: impl Display) {
        self.sample_with_suffix("", labels, value);
    }

    /// Adds a sample to the current family, with `suffix` after its name.
    pub(super) fn sample_with_suffix(&mut self, suffix: &str, labels: &[Label<'_>], value: impl Display) {
        self.text.extend([self.family, suffix]);
        for (number, (name, value)) in labels.iter().enumerate() {
            self.text
                .extend([if number == 0 { "{" } else { "," }, name, "=\""]);
            for c in value.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        self.line(format_args!(" {value}"));
    }

    /// Returns the text.
    pub(super) fn finish(self) -> String {
        self.text
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String never fails.
        let _ = self.text.write_fmt(line);
        self.text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::{Exposition, Kind};

    #[test]
    fn a_label_is_escaped() {
        let mut exposition = Exposition::new();
        exposition.family("a_total", Kind::Counter, "Some.");
        exposition.sample(&[("file", "/a\"b\\c\nd"), ("x", "y")], 3);
        assert_eq!(
            exposition.finish(),
            "# HELP a_total Some.\n# TYPE a_total counter\na_total{file=\"/a\\\"b\\\\c\\nd\",x=\"y\"} 3\n"
        );
    }
}
