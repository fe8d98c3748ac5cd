//! What a person types: a file for each command.
//!
//! A command either does its work and says how it ended ([`ExitCode`]), or fails with an [`enum@Error`], which `main`
//! prints once. Exit codes follow sysexits.h where the contract does not name one itself.

mod bench;
mod check;
mod explain;
mod import;
mod log;
mod password;
mod postconf;
mod query;
mod relay;
mod serve;
mod status;
mod tables;

use std::fmt;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use nix::sys::signal::{SigSet, Signal};
use thiserror::Error;

use crate::bench::BenchError;
use crate::config::Sources;
use crate::control::admin::client::AdminError;
use crate::daemon::DaemonError;
use crate::diagnostics::{Finding, Findings};
use crate::os::name_service;
use crate::postfix::config::ReadConfigError;

const EXAMPLES: &str = "\
From nothing to a live answer:
  postmapd relay add-domain example.com smtp.relay.example 587
  postmapd relay add-auth example.com relay-user
  postmapd check
  postmapd serve &
  postmap -q someone@example.com socketmap:inet:127.0.0.1:10451:relayhost
  postmapd postconf --commands | sh

Each command has examples of its own: postmapd COMMAND --help";

/// Live lookup tables for Postfix: sender-dependent relays and their credentials, over socketmap and tcp_table.
#[derive(Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true, after_help = EXAMPLES)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a folder of relay files to Postfix, in the foreground
    Serve(serve::Serve),
    /// Ask a running server how it and its files are
    Status(status::Status),
    /// Print what the tables, or a running server, answer for some keys
    Query(query::Query),
    /// Read everything and say what is wrong, where, why it matters, and what to do
    Check(check::Check),
    /// Add, change, remove and list relays and their credentials
    Relay(relay::Relay),
    /// Ask a server as many Postfix processes would, and say how fast it answers
    Bench(Box<bench::Bench>),
    /// Write the files and settings that answer as an existing Postfix's tables do
    Import(import::Import),
    /// Print the main.cf lines for the present settings, or check a live Postfix against them
    Postconf(postconf::Postconf),
}

/// How a command prints what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// For people
    Text,
    /// For machines
    Json,
}

/// A number of things in words: `1 error`, `2 errors`.
fn counted(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// Says something on standard error. That may be closed: the exit code tells how the command ended all the same.
fn say(text: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "postmapd: {text}");
}

/// Says whose environment the default relay is from.
fn say_environment(sources: &Sources) {
    say(format_args!("judged with {}", sources.environment));
}

/// The exit code of a command that says whether all is well.
fn exit_code(is_well: bool) -> ExitCode {
    if is_well {
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

/// Why a command could not do its work.
#[derive(Debug, Error)]
pub enum Error {
    /// Settings are wrong.
    #[error("{findings}")]
    Settings {
        /// What is wrong.
        findings: Findings,
        /// With which code to end.
        code: u8,
    },
    /// The server does not start, or has ended.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// A relay file is not edited.
    #[error(transparent)]
    Relay(#[from] relay::RelayError),
    /// A file is not replaced.
    #[error(transparent)]
    Replace(#[from] crate::os::replace_file::ReplaceError),
    /// Postfix cannot be read.
    #[error(transparent)]
    Postfix(#[from] ReadConfigError),
    /// A server cannot be measured.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// A server does not say how it is.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The system refuses something that it never should.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
}

impl Error {
    /// Whether it is only that nobody reads on, as in `postmapd check | head`.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::System { source, .. } if source.kind() == ErrorKind::BrokenPipe)
    }

    /// The exit code.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        if self.is_broken_pipe() {
            return ExitCode::from(BROKEN_PIPE);
        }
        ExitCode::from(match self {
            Self::Settings { code, .. } => *code,
            Self::Daemon(DaemonError::Bind(error)) if error.is_transient() => EX_UNAVAILABLE,
            Self::Bench(error) if error.is_unreachable() => EX_UNAVAILABLE,
            Self::Postfix(_) | Self::Admin(_) => EX_UNAVAILABLE,
            Self::Relay(_) | Self::Replace(_) => REFUSED,
            Self::Bench(_) | Self::System { .. } | Self::Daemon(DaemonError::System { .. }) => EX_OSERR,
            Self::Daemon(_) => EX_CONFIG,
        })
    }

    /// What was typed is wrong.
    fn usage(finding: Finding) -> Self {
        Self::of(finding, EX_USAGE)
    }

    /// One finding that ends the program with this code.
    fn of(finding: Finding, code: u8) -> Self {
        let mut findings = Findings::default();
        findings.push(finding);
        Self::Settings { findings, code }
    }

    /// The findings again, unless there are errors among them, which end the program with this code.
    fn if_any(findings: Findings, code: u8) -> Result<Findings, Self> {
        if findings.errors() > 0 {
            return Err(Self::Settings { findings, code });
        }
        Ok(findings)
    }

    fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// What a shell reports of a program that SIGPIPE ended.
const BROKEN_PIPE: u8 = 141;
/// An edit that is not made.
const REFUSED: u8 = 1;
/// Usage errors, as clap has them.
const EX_USAGE: u8 = 2;
/// Somebody else is in the way, or a program that is needed is not there.
const EX_UNAVAILABLE: u8 = 69;
/// The system is out of order.
const EX_OSERR: u8 = 71;
/// Nobody can tell now; later perhaps.
const EX_TEMPFAIL: u8 = 75;
/// The settings are wrong.
const EX_CONFIG: u8 = 78;

/// The definition of the command line, from which help, manual pages and completions are made.
#[must_use]
pub fn definition() -> clap::Command {
    CommandLine::command()
}

/// Makes a file that grows beyond a limit (RLIMIT_FSIZE) an error of that write, EFBIG, and not the end of the process: an
/// edit would leave a file with passwords behind, and a server would end because its log is full. To be called before a
/// second thread. Programs that we start get the signal again (std::process).
fn outlive_size_limit() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    // It cannot fail with a signal that there is.
    let _ = signals.thread_block();
}

/// Parses the command line of this process and does what it says.
pub fn run() -> Result<ExitCode, Error> {
    name_service::configure().map_err(Error::system("names of users and hosts cannot be looked up"))?;
    outlive_size_limit();
    let command_line = match CommandLine::try_parse() {
        Ok(command_line) => command_line,
        Err(error) => match relay::usage_without_words(&error) {
            Some(code) => return Ok(code),
            None => error.exit(),
        },
    };
    match command_line.command {
        Command::Serve(serve) => serve.run(),
        Command::Status(status) => status.run(),
        Command::Query(query) => query.run(),
        Command::Bench(bench) => bench.run(),
        Command::Check(check) => check.run(),
        Command::Relay(relay) => relay.run(),
        Command::Postconf(postconf) => postconf.run(),
        Command::Import(import) => import.run(),
    }
}
