//! The command line: a file for each command.
//!
//! A command returns its exit code ([`ExitCode`]), or fails with an [`enum@Error`], which `main` prints once. Exit
//! codes follow sysexits.h, unless the help of the command names another.

mod admin;
mod against_server;
mod bench;
mod check;
mod explain;
mod generated;
mod import;
mod log;
mod password;
mod postconf;
#[cfg(feature = "probe")]
mod probe;
mod query;
mod relay;
mod serve;
mod status;
mod tables;

use std::fmt;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use thiserror::Error;

use crate::bench::BenchError;
use crate::config::Sources;
use crate::control::admin::client::AdminError;
use crate::daemon::DaemonError;
use crate::diagnostics::{Finding, Findings};
use crate::os::{name_service, size_limit};
use crate::postfix::config::ReadConfigError;

const EXAMPLES: &str = "\
From nothing to a live answer:
  postmapd relay add-domain example.com smtp.relay.example 587
  postmapd relay add-auth example.com relay-user
  postmapd check
  postmapd serve &
  postmap -q someone@example.com socketmap:inet:127.0.0.1:10451:relayhost
  postmapd postconf --commands | sh

Each command has its own examples: postmapd COMMAND --help";

/// Live lookup tables for Postfix: sender-dependent relays and their credentials, over socketmap and tcp_table.
#[derive(Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true, after_help = EXAMPLES)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the tables of a directory to Postfix, in the foreground
    Serve(serve::Serve),
    /// Show the state of a running server and its files
    Status(status::Status),
    /// Look up keys in the tables, or on a running server
    Query(query::Query),
    /// Check tables, settings and environment, and report each problem with its fix
    Check(check::Check),
    /// Add, change, remove and list relays and their credentials
    Relay(relay::Relay),
    /// Try the relays as Postfix would use them, without sending mail
    #[cfg(feature = "probe")]
    Probe(probe::Probe),
    /// Measure how fast a server answers under the load of many Postfix processes
    Bench(Box<bench::Bench>),
    /// Convert the tables of an existing Postfix into files and settings that give the same answers
    Import(import::Import),
    /// Print the main.cf parameters for these settings, or check a live Postfix against them
    Postconf(postconf::Postconf),
}

/// The output format of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// Text for people
    Text,
    /// JSON for programs
    Json,
}

/// Returns a number with its noun: `1 error`, `2 errors`.
fn count_of(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// Prints a message on standard error. A failure is ignored: standard error may be closed, and the exit code tells the
/// result.
fn print_message(text: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "postmapd: {text}");
}

/// Prints the environment that the default relay comes from.
fn print_environment(sources: &Sources) {
    print_message(format_args!("evaluated with {}", sources.environment));
}

/// Returns the exit code of a command that checks something.
fn exit_code(is_ok: bool) -> ExitCode {
    if is_ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Prints a text on standard output.
fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Error::system("cannot print"))
}

/// The reason why a command failed.
#[derive(Debug, Error)]
pub enum Error {
    /// Settings or arguments are invalid.
    #[error("{findings}")]
    Settings {
        /// The findings, errors among them.
        findings: Findings,
        /// The exit code.
        code: u8,
    },
    /// The server did not start, or has failed.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// A table file was not edited.
    #[error(transparent)]
    Relay(#[from] relay::RelayError),
    /// A file was not replaced.
    #[error(transparent)]
    Replace(#[from] crate::os::replace_file::ReplaceError),
    /// The configuration of Postfix cannot be read.
    #[error(transparent)]
    Postfix(#[from] ReadConfigError),
    /// A server cannot be measured.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// The admin listener of a server returned no status.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A system call failed unexpectedly.
    #[error("{what}: {source}")]
    System {
        /// The operation that failed.
        what: &'static str,
        /// The error of the system.
        source: std::io::Error,
    },
}

impl Error {
    /// Whether the reader closed the output, as in `postmapd check | head`.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::System { source, .. } if source.kind() == ErrorKind::BrokenPipe)
    }

    /// Returns the exit code of the program.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        if self.is_broken_pipe() {
            return ExitCode::from(EXIT_BROKEN_PIPE);
        }
        ExitCode::from(match self {
            Self::Settings { code, .. } => *code,
            Self::Daemon(DaemonError::Bind(error)) if error.is_transient() => EX_UNAVAILABLE,
            Self::Bench(error) if error.is_unreachable() => EX_UNAVAILABLE,
            Self::Postfix(_) | Self::Admin(_) => EX_UNAVAILABLE,
            Self::Relay(_) | Self::Replace(_) => EXIT_REJECTED,
            Self::Bench(_) | Self::System { .. } | Self::Daemon(DaemonError::System { .. }) => EX_OSERR,
            Self::Daemon(_) => EX_CONFIG,
        })
    }

    /// Creates an error about an argument.
    fn usage(finding: Finding) -> Self {
        Self::from_finding(finding, EX_USAGE)
    }

    /// Creates an error from one finding and an exit code.
    fn from_finding(finding: Finding, code: u8) -> Self {
        let mut findings = Findings::default();
        findings.push(finding);
        Self::Settings { findings, code }
    }

    /// Returns the findings, or fails with this exit code if there are errors among them.
    fn fail_on_errors(findings: Findings, code: u8) -> Result<Findings, Self> {
        if findings.errors() > 0 {
            return Err(Self::Settings { findings, code });
        }
        Ok(findings)
    }

    fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// What a shell reports for a program that SIGPIPE ended.
const EXIT_BROKEN_PIPE: u8 = 141;
/// An edit was rejected.
const EXIT_REJECTED: u8 = 1;
/// A usage error, as in clap.
const EX_USAGE: u8 = 2;
/// Another process is in the way, or a required program is missing.
const EX_UNAVAILABLE: u8 = 69;
/// A system call failed unexpectedly.
const EX_OSERR: u8 = 71;
/// A lookup cannot tell; a later one may.
const EX_TEMPFAIL: u8 = 75;
/// Settings are invalid.
const EX_CONFIG: u8 = 78;

/// Returns the definition of the command line, from which help, manual pages and completions are generated.
#[must_use]
pub fn definition() -> clap::Command {
    CommandLine::command()
}

/// Parses the command line of this process and runs the command.
pub fn run() -> Result<ExitCode, Error> {
    name_service::configure().map_err(Error::system("names of users and hosts cannot be looked up"))?;
    size_limit::block_signal();
    let command_line = match CommandLine::try_parse() {
        Ok(command_line) => command_line,
        Err(error) => match relay::usage_without_arguments(&error) {
            Some(code) => return Ok(code),
            None => error.exit(),
        },
    };
    match command_line.command {
        Command::Serve(serve) => serve.run(),
        Command::Status(status) => status.run(),
        Command::Query(query) => query.run(),
        #[cfg(feature = "probe")]
        Command::Probe(probe) => probe.run(),
        Command::Bench(bench) => bench.run(),
        Command::Check(check) => check.run(),
        Command::Relay(relay) => relay.run(),
        Command::Postconf(postconf) => postconf.run(),
        Command::Import(import) => import.run(),
    }
}
