//! The settings of the log ([`crate::os::log`]).

use std::process::ExitCode;

use clap::ValueEnum;

use super::{EX_CONFIG, Error};
use crate::config::options::ServeOptions;
use crate::config::setting::{self, Setting};
use crate::config::sourced::Sourced;
use crate::diagnostics::{Code, Finding, Findings, Place};
use crate::os::log::{self, LogFilter, LogFormat};

/// Starts logging, for the life of the process, and returns the format.
pub(super) fn init(flags: &ServeOptions) -> Result<LogFormat, Error> {
    let (filter, format) = filter(flags)
        .and_then(|filter| Ok((filter, log_format(flags)?)))
        .map_err(|finding| Error::from_finding(finding, EX_CONFIG))?;
    log::init(filter, format);
    Ok(format)
}

/// Prints the error that ends the program if the format needs a priority before it. Otherwise returns it, for
/// `main` to print.
pub(super) fn report_fatal(format: LogFormat, error: Error) -> Result<ExitCode, Error> {
    if format.print_fatal(&error) {
        return Ok(error.exit_code());
    }
    Err(error)
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

fn filter(flags: &ServeOptions) -> Result<LogFilter, Finding> {
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
