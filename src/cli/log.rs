//! The log on standard error: text, JSON, or lines for journald.
//!
//! An event is one line, whatever the names in it contain ([`crate::os::printable`]). No event contains a credential
//! ([`crate::os::secret`]). A panic is logged with its location only, because its message may quote the data at fault.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::panic;
use std::process::ExitCode;

use clap::ValueEnum;
use rustix::fs::fstat;
use tracing::{Event, Level, Subscriber, error};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt as fmt_layer};

use super::{EX_CONFIG, Error};
use crate::config::options::ServeOptions;
use crate::config::setting::{self, Setting};
use crate::config::sourced::Sourced;
use crate::diagnostics::{Code, Finding, Findings, Place};
use crate::os::log_stream::LogStream;
use crate::os::printable::{json, printable};

/// The format of the log.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
    Journald,
}

impl LogFormat {
    /// Returns the format where none is set: for journald if it reads standard error, else text.
    fn detect() -> Self {
        if is_journal(&io::stderr()) {
            Self::Journald
        } else {
            Self::Text
        }
    }

    /// Prints the error that ends the program if the format needs a priority before it. Otherwise returns it, for
    /// `main` to print.
    pub(super) fn report_fatal(self, error: Error) -> Result<ExitCode, Error> {
        let Self::Journald = self else { return Err(error) };
        // Independent of the filter: an exit must always have a reason.
        let text: Vec<String> = error
            .to_string()
            .lines()
            .map(|line| printable(line.as_bytes()))
            .collect();
        let _ = io::stderr().write_all(with_priority(priority(Level::ERROR), &text.join("\n")).as_bytes());
        Ok(error.exit_code())
    }
}

/// Whether the stream is connected to the journal (JOURNAL_STREAM of systemd.exec(5)).
fn is_journal(stream: &impl AsFd) -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    fstat(stream).is_ok_and(|about| named == format!("{}:{}", about.st_dev, about.st_ino))
}

/// Starts logging, for the life of the process, and returns the format.
pub(super) fn init(flags: &ServeOptions) -> Result<LogFormat, Error> {
    let (filter, log_format) = filter(flags)
        .and_then(|filter| Ok((filter, log_format(flags)?)))
        .map_err(|finding| Error::from_finding(finding, EX_CONFIG))?;
    let to_stderr = fmt_layer::layer()
        .with_writer(LogStream::new(io::stderr()))
        .log_internal_errors(false);
    let layer = match log_format {
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
        .with(layer.with_filter(filter))
        .init();
    panic::set_hook(Box::new(|panic| {
        error!(
            location = panic.location().map(display),
            "internal error (panic); please report it"
        );
    }));
    Ok(log_format)
}

/// Adds the findings about the log settings, without logging anything.
pub(super) fn check_settings(flags: &ServeOptions, findings: &mut Findings) {
    for finding in [filter(flags).err(), log_format(flags).err()]
        .into_iter()
        .flatten()
    {
        findings.push(finding);
    }
}

fn filter(flags: &ServeOptions) -> Result<Targets, Finding> {
    let sourced = read_setting(flags, &setting::LOG)?;
    let sourced =
        sourced.unwrap_or_else(|| Sourced::trimmed(setting::LOG.default.text(), Place::Setting("--log")));
    sourced.value.parse().map_err(|_| {
        invalid_setting(sourced.place)
            .message("the value is not a log level")
            .help("set it to off, error, warn, info, debug or trace")
    })
}

fn log_format(flags: &ServeOptions) -> Result<LogFormat, Finding> {
    let Some(sourced) = read_setting(flags, &setting::LOG_FORMAT)? else {
        return Ok(LogFormat::detect());
    };
    LogFormat::from_str(&sourced.value, true).map_err(|_| {
        invalid_setting(sourced.place)
            .message("the value is not a log format")
            .help("set it to text, json or journald")
    })
}

/// Returns the value of a setting and where it is set; `None` if it is not.
fn read_setting(flags: &ServeOptions, setting: &Setting) -> Result<Option<Sourced>, Finding> {
    let mut findings = Findings::default();
    let sourced = flags.value(setting, &mut findings);
    match findings.iter().next() {
        Some(finding) => Err(finding.clone()),
        None => Ok(sourced),
    }
}

fn invalid_setting(place: Place) -> Finding {
    Finding::new(Code::BadLogSetting, place)
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
