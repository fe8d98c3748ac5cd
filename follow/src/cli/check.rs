//! `postmapd-follow check`.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use clap::Args;
use postmapd::os::printable::printable;

use super::{ConfigOption, fail};
use crate::settings::{Settings, Tls};

#[derive(Args)]
#[command(after_help = "\
Reads no table and connects to no database.

Exit codes: 0 no errors, 1 errors, 2 usage.

Example:
  postmapd-follow check --config /etc/postmapd/follow.toml")]
pub(super) struct Check {
    #[command(flatten)]
    settings: ConfigOption,
}

impl Check {
    pub(super) fn run(&self) -> ExitCode {
        let path = &self.settings.config;
        let settings = match Settings::read(path) {
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
            printable(path.as_os_str().as_bytes()),
            printable(settings.source.to_string().as_bytes()),
            printable(settings.dir.as_os_str().as_bytes()),
        );
        ExitCode::SUCCESS
    }
}
