//! Prometheus' text format, version 0.0.4. Numbers are also valid in OpenMetrics, so that every scraper accepts them.

use std::fmt::{Display, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The media type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The type of a metric family.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Any number.
    Gauge,
    /// Counts by upper bound, with their sum.
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
pub type Label<'a> = (&'static str, &'a str);

/// Metrics as text.
pub struct Exposition {
    text: String,
    family: &'static str,
}

impl Default for Exposition {
    fn default() -> Self {
        Self {
            text: String::with_capacity(8 * 1024),
            family: "",
        }
    }
}

impl Exposition {
    /// Begins the metric family `name`. The name of a counter ends in `_total`.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        self.family = name;
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {}", kind.name()));
    }

    /// Adds a sample to the current family.
    pub fn sample(&mut self, labels: &[Label<'_>], value: impl Display) {
        self.sample_with_suffix("", labels, value);
    }

    /// Adds a sample to the current family, with `suffix` after its name.
    pub fn sample_with_suffix(&mut self, suffix: &str, labels: &[Label<'_>], value: impl Display) {
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
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String never fails.
        let _ = self.text.write_fmt(line);
        self.text.push('\n');
    }
}

/// Returns a Unix time in seconds.
#[must_use]
pub fn timestamp(time: SystemTime) -> String {
    seconds(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Returns a duration in seconds.
#[must_use]
pub fn seconds(duration: Duration) -> String {
    format!("{}.{:09}", duration.as_secs(), duration.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::{Exposition, Kind};

    #[test]
    fn a_label_is_escaped() {
        let mut exposition = Exposition::default();
        exposition.family("a_total", Kind::Counter, "Some.");
        exposition.sample(&[("file", "/a\"b\\c\nd"), ("x", "y")], 3);
        assert_eq!(
            exposition.finish(),
            "# HELP a_total Some.\n# TYPE a_total counter\na_total{file=\"/a\\\"b\\\\c\\nd\",x=\"y\"} 3\n"
        );
    }
}
