//! The command line: a file for each command. Errors are on standard error, one a line, as `postmapd-follow: PLACE: error: …`.

mod check;
mod config;
mod dump;
mod error;
mod follow_thread;
mod init;
mod load;
mod log;
mod once;
mod run;
mod runtime;
mod start;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use postmapd::os::printable::printable;
use postmapd::os::{name_service, size_limit};

use error::Error;

/// Keep the tables of postmapd in step with a database
#[derive(Parser)]
#[command(
    name = "postmapd-follow",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Follow the source, in the foreground
    Run(run::Run),
    /// Publish the tables of the source once
    Once(once::Once),
    /// Check the settings, the source and every row
    Check(check::Check),
    /// Print or run the statements that create the tables of postmapd
    Init(init::Init),
    /// Make the tables of postmapd equal to the files of a directory
    Load(load::Load),
    /// Write the tables of the source as files
    Dump(dump::Dump),
}

/// Returns the definition of the command line, for the manual pages and completions.
#[must_use]
pub fn definition() -> clap::Command {
    CommandLine::command()
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    let CommandLine { command } = CommandLine::parse();
    // In the static program, which loads no module of the host.
    if let Err(error) = name_service::configure() {
        return Error::system("names of hosts cannot be looked up")(error).print();
    }
    size_limit::block_signal();
    match command {
        Command::Run(run) => run.run(),
        Command::Once(once) => once.run(),
        Command::Check(check) => check.run(),
        Command::Init(init) => init.run(),
        Command::Load(load) => load.run(),
        Command::Dump(dump) => dump.run(),
    }
}

/// Prints a text on standard output.
fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Error::system("cannot print"))
}

/// Prints a message on standard error.
fn print_message(text: impl fmt::Display) {
    // Standard error may be closed; the exit code tells the result all the same.
    let _ = writeln!(
        io::stderr(),
        "postmapd-follow: {}",
        printable(text.to_string().as_bytes())
    );
}
