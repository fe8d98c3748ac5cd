//! The commands. Errors are on standard error, one a line, as `postmapd-follow: PLACE: error: …`.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use postmapd::os::printable::printable;

use crate::settings::{Settings, Tls};

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
    /// Check the settings and the files that they name
    Check(Check),
}

#[derive(Args)]
#[command(after_help = "\
Reads no table and connects to no database.

Exit codes: 0 no errors, 1 errors, 2 usage.

Example:
  postmapd-follow check --config /etc/postmapd/follow.toml")]
struct Check {
    /// The settings file
    #[arg(
        long,
        value_name = "FILE",
        env = "POSTMAPD_FOLLOW_CONFIG",
        default_value = "/etc/postmapd/follow.toml"
    )]
    config: PathBuf,
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    let CommandLine { command } = CommandLine::parse();
    match command {
        Command::Check(check) => check.run(),
    }
}

impl Check {
    fn run(&self) -> ExitCode {
        let settings = match Settings::read(&self.config) {
            Ok(settings) => settings,
            Err(errors) => return fail(&errors),
        };
        if let Err(errors) = settings.check_files() {
            return fail(&errors);
        }
        let tables = if settings.queries.is_some() {
            "results of queries".to_owned()
        } else {
            format!("schema {}", settings.schema)
        };
        let tls = match settings.tls {
            Tls::VerifyFull => "verify-full",
            Tls::Off => "off",
        };
        // A closed pipe does not change the result.
        let _ = writeln!(
            io::stdout(),
            "{}: no errors\nsource: {}, {tables}, tls {tls}\ndirectory: {}",
            printable(self.config.as_os_str().as_bytes()),
            printable(settings.source.to_string().as_bytes()),
            printable(settings.dir.as_os_str().as_bytes()),
        );
        ExitCode::SUCCESS
    }
}

fn fail(errors: &[impl ToString]) -> ExitCode {
    for error in errors {
        // Standard error may be closed; the exit code tells it all the same.
        let _ = writeln!(
            io::stderr(),
            "postmapd-follow: {}",
            printable(error.to_string().as_bytes())
        );
    }
    ExitCode::FAILURE
}
