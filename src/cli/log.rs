//! Logs on standard error: text, JSON, or lines for journald.
//!
//! An event is one line, whatever the names in it ([`crate::os::printable`]). Nothing that is logged anywhere in this crate holds a credential; see [`crate::os::secret`]. A panic is logged by
//! its place alone, because its message may quote what went wrong.

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
use tracing_subscriber::{Layer, fmt as layer};

use super::{EX_CONFIG, Error};
use crate::config::options::ServeOptions;
use crate::config::setting::{self, Setting};
use crate::config::sourced::Sourced;
use crate::diagnostics::{Code, Finding, Findings, Place};
use crate::os::log_stream::LogStream;
use crate::os::printable::{json, printable};

/// The form of the log.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Form {
    Text,
    Json,
    Journald,
}

impl Form {
    /// The form that suits whoever reads standard error, where nobody chose one.
    fn of_standard_error() -> Self {
        if is_the_journal(&io::stderr()) {
            Self::Journald
        } else {
            Self::Text
        }
    }

    /// Says why the program ends, where its last words need a form; elsewhere `main` does.
    pub(super) fn say_last(self, error: Error) -> Result<ExitCode, Error> {
        let Self::Journald = self else { return Err(error) };
        // Whatever the filter: an end without a word helps nobody.
        let text: Vec<String> = error
            .to_string()
            .lines()
            .map(|line| printable(line.as_bytes()))
            .collect();
        let _ = io::stderr().write_all(with_priority(priority(Level::ERROR), &text.join("\n")).as_bytes());
        Ok(error.exit_code())
    }
}

/// Whether the journal reads what is written there (JOURNAL_STREAM of systemd.exec(5)).
fn is_the_journal(stream: &impl AsFd) -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    fstat(stream).is_ok_and(|about| named == format!("{}:{}", about.st_dev, about.st_ino))
}

/// Starts logging, for the life of the process.
pub(super) fn start(flags: &ServeOptions) -> Result<Form, Error> {
    let (targets, form) = targets(flags)
        .and_then(|targets| Ok((targets, form(flags)?)))
        .map_err(|finding| Error::of(finding, EX_CONFIG))?;
    let to_stderr = layer::layer()
        .with_writer(LogStream::new(io::stderr()))
        .log_internal_errors(false);
    let layer = match form {
        Form::Text => {
            let text = to_stderr.with_target(false).with_ansi(false);
            text.map_event_format(|format| OneLine(format, |_, line| printable(line.as_bytes()) + "\n"))
                .boxed()
        }
        Form::Json => {
            let json = to_stderr.json().flatten_event(true);
            json.map_event_format(|format| OneLine(format, |_, line| json::escaped(line.as_bytes()) + "\n"))
                .boxed()
        }
        // The priority in front (sd-daemon(3)), and no time, which journald knows better.
        Form::Journald => {
            let plain = to_stderr.with_target(false).with_ansi(false);
            let plain = plain.without_time().with_level(false);
            let show = |level, line: &str| with_priority(priority(level), &printable(line.as_bytes()));
            plain.map_event_format(|format| OneLine(format, show)).boxed()
        }
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(targets))
        .init();
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        error!(place, "a task panicked");
    }));
    Ok(form)
}

/// Says what is wrong, without logging anything.
pub(super) fn judge(flags: &ServeOptions, findings: &mut Findings) {
    for finding in [targets(flags).err(), form(flags).err()].into_iter().flatten() {
        findings.push(finding);
    }
}

fn targets(flags: &ServeOptions) -> Result<Targets, Finding> {
    let given = given(flags, &setting::LOG)?;
    let given =
        given.unwrap_or_else(|| Sourced::trimmed(setting::LOG.default.text(), Place::Setting("--log")));
    given.value.parse().map_err(|_| {
        wrong(given.place)
            .message("this is no log filter")
            .help("write off, error, warn, info, debug or trace")
    })
}

fn form(flags: &ServeOptions) -> Result<Form, Finding> {
    let Some(given) = given(flags, &setting::LOG_FORMAT)? else {
        return Ok(Form::of_standard_error());
    };
    Form::from_str(&given.value, true).map_err(|_| {
        wrong(given.place)
            .message("this is no log format")
            .help("write text, json or journald")
    })
}

/// What was said, if anything was, and where.
fn given(flags: &ServeOptions, setting: &Setting) -> Result<Option<Sourced>, Finding> {
    let mut findings = Findings::default();
    let given = flags.value(setting, &mut findings);
    match findings.iter().next() {
        Some(finding) => Err(finding.clone()),
        None => Ok(given),
    }
}

fn wrong(place: Place) -> Finding {
    Finding::new(Code::BadLogSetting, place)
}

/// A line of that format, with what others wrote in it as it may be shown, and with its end.
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

/// The priority of a level, as syslog(3) counts it.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// The text with the priority in front of each of its lines: journald takes each for an entry of its own.
fn with_priority(priority: u8, text: &str) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        lines.extend(["<", &priority.to_string(), ">", line, "\n"]);
    }
    lines
}
