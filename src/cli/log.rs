//! Logs on standard error: text, JSON, or lines for journald.
//!
//! Nothing that is logged anywhere in this crate holds a credential; see [`crate::secret`]. A panic is logged by
//! its place alone, because its message may quote what went wrong.

use std::fmt;
use std::io;
use std::panic;

use clap::{Args, ValueEnum};
use tracing::{Event, Level, Subscriber, error};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt as layer};

use super::{EX_CONFIG, Error};
use crate::config::setting::{self, Setting};
use crate::diagnostic::{Finding, Findings, Place, Severity};

/// How much is logged, and in which form.
#[derive(Args, Default)]
pub(super) struct LogOptions {
    #[arg(long, value_name = setting::LOG.value, help = setting::LOG.help())]
    log: Option<String>,

    #[arg(long, value_name = setting::LOG_FORMAT.value, help = setting::LOG_FORMAT.help())]
    log_format: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    Text,
    Json,
    Journald,
}

impl LogOptions {
    /// Starts logging, for the life of the process.
    pub(super) fn start(&self) -> Result<(), Error> {
        let (targets, form) = self
            .targets()
            .and_then(|targets| Ok((targets, self.form()?)))
            .map_err(|finding| {
                let mut findings = Findings::default();
                findings.push(finding);
                Error::Settings {
                    findings,
                    code: EX_CONFIG,
                }
            })?;
        let to_stderr = layer::layer().with_writer(io::stderr).log_internal_errors(false);
        let layer = match form {
            Form::Text => to_stderr.with_target(false).with_ansi(false).boxed(),
            Form::Json => to_stderr.json().flatten_event(true).boxed(),
            Form::Journald => to_stderr.event_format(Journald).boxed(),
        };
        tracing_subscriber::registry()
            .with(layer.with_filter(targets))
            .init();
        panic::set_hook(Box::new(|panic| {
            let place = panic.location().map_or_else(String::new, ToString::to_string);
            error!(place, "a task panicked");
        }));
        Ok(())
    }

    /// Says what is wrong, without logging anything.
    pub(super) fn judge(&self, findings: &mut Findings) {
        for finding in [self.targets().err(), self.form().err()].into_iter().flatten() {
            findings.push(finding);
        }
    }

    fn targets(&self) -> Result<Targets, Finding> {
        let (filter, place) = given(self.log.as_ref(), &setting::LOG);
        filter.parse().map_err(|_| {
            wrong(place)
                .says("this is no log filter")
                .help("write off, error, warn, info, debug or trace")
        })
    }

    fn form(&self) -> Result<Form, Finding> {
        let (text, place) = given(self.log_format.as_ref(), &setting::LOG_FORMAT);
        Form::from_str(&text, true).map_err(|_| {
            wrong(place)
                .says("this is no log format")
                .help("write text, json or journald")
        })
    }
}

fn given(flag: Option<&String>, setting: &Setting) -> (String, Place) {
    let variable = || {
        let value = std::env::var(setting.variable?).ok();
        value.filter(|value| !value.is_empty())
    };
    let named = |name: Option<&'static str>| Place::Setting(name.unwrap_or_default());
    match (flag, variable()) {
        (Some(value), _) => (value.clone(), named(setting.flag)),
        (None, Some(value)) => (value, named(setting.variable)),
        (None, None) => (setting.default.to_owned(), named(setting.flag)),
    }
}

fn wrong(place: Place) -> Finding {
    Finding::new(Severity::Error, "bad-log-setting", place)
}

/// A line for journald: the priority in front (sd-daemon(3)), and no time, which journald knows better.
struct Journald;

impl<S, N> FormatEvent<S, N> for Journald
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
