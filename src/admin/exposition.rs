//! The two text formats of metrics: Prometheus' 0.0.4 and OpenMetrics 1.0.0, written from one description.
//!
//! No library writes both. They differ in the names of counters, in the unit, and in how they end; what either asks for
//! more than the other (canonical numbers, a counter's `_total`) is done in both.

use std::fmt::{Display, Write};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus, text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The one that an `Accept` header prefers. Who does not name OpenMetrics gets the older one.
    pub(super) fn preferred(accept: &str) -> Self {
        let ranges: Vec<Range<'_>> = accept.split(',').map(Range::parse).collect();
        let quality = |is_it: &dyn Fn(&Range<'_>) -> bool| {
            let qualities = ranges
                .iter()
                .filter(|range| is_it(range))
                .map(|range| range.quality);
            qualities.max_by(f64::total_cmp)
        };
        let open = quality(&|range| {
            range
                .media_type
                .eq_ignore_ascii_case("application/openmetrics-text")
                && range.version.is_none_or(|version| version == "1.0.0")
        });
        let text = quality(&|range| range.media_type.eq_ignore_ascii_case("text/plain"))
            .or_else(|| quality(&|range| range.media_type.eq_ignore_ascii_case("text/*")))
            .or_else(|| quality(&|range| range.media_type == "*/*"))
            .unwrap_or_default();
        match open {
            Some(open) if open > 0.0 && open >= text => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A media range of an `Accept` header.
struct Range<'a> {
    media_type: &'a str,
    version: Option<&'a str>,
    quality: f64,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let mut range = Self {
            media_type: parts.next().unwrap_or_default(),
            version: None,
            quality: 1.0,
        };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim() {
                "q" | "Q" => range.quality = value.trim().parse().unwrap_or_default(),
                "version" => range.version = Some(value.trim().trim_matches('"')),
                _ => {}
            }
        }
        range
    }
}

/// What kind of numbers a family has.
#[derive(Clone, Copy, PartialEq, Eq)]
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

/// A label with its value.
pub(super) type Label<'a> = (&'static str, &'a str);

/// Metrics as text.
pub(super) struct Exposition {
    format: Format,
    text: String,
    family: &'static str,
}

impl Exposition {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            text: String::with_capacity(8 * 1024),
            family: "",
        }
    }

    /// Begins the family `name`, a counter's with its `_total`.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        self.family = name;
        let name = match (self.format, kind) {
            (Format::OpenMetrics, Kind::Counter) => name.trim_end_matches("_total"),
            _ => name,
        };
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {}", kind.name()));
        if self.format == Format::OpenMetrics && name.ends_with("_seconds") {
            self.line(format_args!("# UNIT {name} seconds"));
        }
    }

    /// A number of the family that was begun last.
    pub(super) fn sample(&mut self, labels: &[Label<'_>], value: impl Display) {
        self.sample_of("", labels, value);
    }

    /// A number of the family that was begun last, under its name with `suffix`.
    pub(super) fn sample_of(&mut self, suffix: &str, labels: &[Label<'_>], value: impl Display) {
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

    /// The whole text.
    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String does not fail.
        let _ = self.text.write_fmt(line);
        self.text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::{Exposition, Format, Kind};

    #[test]
    fn the_format_is_the_one_that_is_accepted() {
        for accept in [
            "application/openmetrics-text",
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "text/plain;q=0.2, Application/OpenMetrics-text; version=\"1.0.0\"; charset=utf-8; q=0.3",
            "*/*;q=0.1,application/openmetrics-text;q=0.1",
        ] {
            assert_eq!(Format::preferred(accept), Format::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/plain",
            "text/html,*/*;q=0.8",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;q=0.4,text/plain;q=0.5",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=x",
            ";;q=,=",
        ] {
            assert_eq!(Format::preferred(accept), Format::Prometheus, "{accept}");
        }
    }

    #[test]
    fn a_label_is_escaped_and_a_counter_is_named_as_its_format_wants() {
        let write = |format| {
            let mut exposition = Exposition::new(format);
            exposition.family("a_total", Kind::Counter, "Some.");
            exposition.sample(&[("file", "/a\"b\\c\nd"), ("x", "y")], 3);
            exposition.finish()
        };
        let sample = "a_total{file=\"/a\\\"b\\\\c\\nd\",x=\"y\"} 3\n";
        assert_eq!(
            write(Format::Prometheus),
            format!("# HELP a_total Some.\n# TYPE a_total counter\n{sample}")
        );
        assert_eq!(
            write(Format::OpenMetrics),
            format!("# HELP a Some.\n# TYPE a counter\n{sample}# EOF\n")
        );
    }
}
