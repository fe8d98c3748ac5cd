//! `postmapd-follow once`: publishes the tables of the source once, for init containers.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use postmapd::os::printable::printable_path;
use tokio::time::timeout;

use super::error::Error;
use super::runtime::block_on;
use super::start::{FollowOptions, Start};
use crate::confinement;
use crate::systemd::summary;

#[derive(Args)]
#[command(after_help = "\
Writes the tables to the directory (setting dir) as `run` does, flushes them to the disk, and prints which ones they are. It tries \
again until --timeout if the source cannot be reached.

Exit codes: 0 the tables of the source are active, 1 they cannot be read or written, or a table has become empty, 2 usage, \
71 a system error, 75 the source cannot be reached, 78 the settings or a file that they name has errors.

Example:
  postmapd-follow once --timeout 30s --config /etc/postmapd/follow.toml
  revision 71, 20000 senders, 19800 logins, 2 bad rows: /var/lib/postmapd")]
pub(super) struct Once {
    /// How long to try: a number of seconds, or a text such as 500ms or 2min
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    timeout: Duration,

    #[command(flatten)]
    options: FollowOptions,
}

/// Parses a duration as the settings have it.
fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    match text.parse().ok().map(Duration::try_from_secs_f64) {
        Some(Ok(duration)) => Ok(duration),
        Some(Err(_)) | None => humantime::parse_duration(text),
    }
}

impl Once {
    pub(super) fn run(&self) -> ExitCode {
        let format = self.options.log.init();
        match self.publish() {
            Ok(line) => {
                // A closed pipe does not change the result.
                let _ = writeln!(io::stdout(), "{line}");
                ExitCode::SUCCESS
            }
            Err(error) => error.print_fatal(format),
        }
    }

    /// Publishes the tables, and returns the line to print.
    fn publish(&self) -> Result<String, Error> {
        let Start {
            settings,
            mut follower,
            status,
        } = self.options.start()?;
        let _ = confinement::enter(&settings);
        let published = block_on(async { timeout(self.timeout, follower.once()).await })?;
        let report = status.report();
        match published {
            Ok(published) => published?,
            Err(_) => {
                return Err(Error::TimedOut {
                    limit: self.timeout,
                    error: report.error().unwrap_or("no connection yet").to_owned(),
                });
            }
        }
        Ok(format!("{}: {}", summary(&report), printable_path(&settings.dir)))
    }
}
