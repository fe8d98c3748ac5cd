//! The log on standard error: text, JSON, or lines for journald.
//!
//! An event is one line, whatever the names in it contain ([`super::printable`]). No event contains a credential
//! ([`super::secret`]). A panic is logged with its location only, because its message may quote the data at fault.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::panic;
use std::str::FromStr;

use clap::ValueEnum;
use rustix::fs::fstat;
use thiserror::Error;
use tracing::{Event, Level, Subscriber, error};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt as fmt_layer};

use super::log_stream::LogStream;
use super::printable::{json, printable};

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Time, level, text and fields, for people.
    Text,
    /// An object for each event, for programs.
    Json,
    /// Priority, text and fields. journald adds the time.
    Journald,
}

impl LogFormat {
    /// Returns the format where none is set: for journald if it reads standard error, else text.
    #[must_use]
    pub fn detect() -> Self {
        if is_journal(&io::stderr()) {
            Self::Journald
        } else {
            Self::Text
        }
    }

    /// Prints the error that ends the program with the priority that this format needs before it. Returns whether the
    /// format needs one; otherwise it prints nothing.
    #[must_use]
    pub fn print_fatal(self, error: &impl ToString) -> bool {
        let Self::Journald = self else { return false };
        // Independent of the filter: an exit must always have a reason.
        let text: Vec<String> = error
            .to_string()
            .lines()
            .map(|line| printable(line.as_bytes()))
            .collect();
        let _ = io::stderr().write_all(with_priority(priority(Level::ERROR), &text.join("\n")).as_bytes());
        true
    }
}

/// Whether the stream is connected to the journal (JOURNAL_STREAM of systemd.exec(5)).
fn is_journal(stream: &impl AsFd) -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    fstat(stream).is_ok_and(|about| named == format!("{}:{}", about.st_dev, about.st_ino))
}

/// Which events are logged: a level, or levels of modules, as in `info,postmapd::server=debug`.
#[derive(Clone)]
pub struct LogFilter(Targets);

/// A text is no [`LogFilter`].
#[derive(Debug, Error)]
#[error("the value is not a log level; set it to off, error, warn, info, debug or trace")]
pub struct LogFilterError;

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, LogFilterError> {
        // `Targets` takes any other word for a module, and a misspelt level would silence the rest of the log.
        let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
        let is_directive = |part: &str| part.contains('=') || is_level(part);
        if !text.split(',').all(is_directive) {
            return Err(LogFilterError);
        }
        text.parse().map(Self).map_err(|_| LogFilterError)
    }
}

/// Starts logging, for the life of the process. Must be called once.
pub fn init(filter: LogFilter, format: LogFormat) {
    let to_stderr = fmt_layer::layer()
        .with_writer(LogStream::new(io::stderr()))
        .log_internal_errors(false);
    let layer = match format {
        LogFormat::Text => {
            let text = to_stderr.with_target(false).with_ansi(false);
            text.map_event_format(|format| OneLine(format, |_, line| printable(line.as_bytes()) + "\n"))
                .boxed()
        }
        LogFormat::Json => {
            let json = to_stderr.json().flatten_event(true);
            json.map_event_format(|format| OneLine(format, |_, line| json::escaped(line.as_bytes()) + "\n"))
                .boxed()
        }
        // With the priority in front (sd-daemon(3)), and without the time, which journald adds.
        LogFormat::Journald => {
            let plain = to_stderr.with_target(false).with_ansi(false);
            let plain = plain.without_time().with_level(false);
            let show = |level, line: &str| with_priority(priority(level), &printable(line.as_bytes()));
            plain.map_event_format(|format| OneLine(format, show)).boxed()
        }
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter.0))
        .init();
    panic::set_hook(Box::new(|panic| {
        error!(
            location = panic.location().map(display),
            "internal error (panic); please report it"
        );
    }));
}

/// A format that writes each event as one line. The function makes the text printable, and ends the line.
struct OneLine<F>(F, fn(Level, &str) -> String);

impl<S, N, F> FormatEvent<S, N> for OneLine<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let line = line.strip_suffix('\n').unwrap_or(&line);
        writer.write_str(&(self.1)(*event.metadata().level(), line))
    }
}

/// Returns the priority of a level, as in syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Returns the text with the priority before each line, since journald makes each line an entry of its own.
fn with_priority(priority: u8, text: &str) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        lines.extend(["<", &priority.to_string(), ">", line, "\n"]);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::LogFilter;

    #[test]
    fn a_misspelt_level_is_no_filter_although_it_could_be_a_module() {
        for text in [
            "off",
            "WARN",
            "trace",
            "info,postmapd::source=debug",
            "postmapd::source=debug",
        ] {
            assert!(text.parse::<LogFilter>().is_ok(), "{text}");
        }
        for text in ["loud", "", "info,loud", "inf", "postmapd", "info=loud", "info,"] {
            assert!(text.parse::<LogFilter>().is_err(), "{text}");
        }
    }
}
