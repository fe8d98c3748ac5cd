//! `postmapd-follow check`: the settings, the files that they name, the database, and every row.

use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use humantime::format_rfc3339_seconds;
use postmapd::os::printable::{printable, printable_path};

use super::config::ConfigOption;
use super::error::Error;
use super::runtime::block_on;
use super::{print, print_message};
use crate::engine::any::AnyEngine;
use crate::engine::{Connection, Engine, Reading};
use crate::inspection::Inspection;
use crate::settings::{Settings, Tls};

#[derive(Args)]
#[command(after_help = "\
Checks the settings and the files that they name, connects to the source as `run` does, and reads and checks every row. It writes \
nothing. A row that cannot be an entry is an error; its key and the wrong column are named, and no value.

Exit codes: 0 no errors, 1 errors, 2 usage, 75 the source cannot be reached.

Examples:
  postmapd-follow check --config /etc/postmapd/follow.toml
  postmapd-follow check --offline")]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigOption,

    /// Check the settings and the files that they name, and do not connect
    #[arg(long)]
    offline: bool,
}

impl Check {
    pub(super) fn run(&self) -> ExitCode {
        self.check().unwrap_or_else(|error| error.print())
    }

    fn check(&self) -> Result<ExitCode, Error> {
        let settings = self.config.read()?;
        settings.open_files().iter().for_each(print_message);
        if self.offline {
            print(&self.about(&settings, "no errors in the settings; not connected (--offline)"))?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut engine = AnyEngine::new(&settings)?;
        let mut rows = Inspection::default();
        let reading = block_on(async {
            let mut connection = engine.connect().await?;
            connection.read(None, &mut rows).await
        })??;
        for row in rows.bad_rows().first() {
            print_message(format_args!("error: {row}"));
        }
        let (result, code) = match rows.bad_rows().count() {
            0 => ("no errors".to_owned(), ExitCode::SUCCESS),
            1 => ("1 bad row".to_owned(), ExitCode::FAILURE),
            bad => (format!("{bad} bad rows"), ExitCode::FAILURE),
        };
        print(&(self.about(&settings, &result) + &read(&reading, &rows)))?;
        Ok(code)
    }

    fn about(&self, settings: &Settings, result: &str) -> String {
        let tables = if settings.queries.is_some() {
            "results of queries".to_owned()
        } else {
            format!("schema {}", settings.schema)
        };
        let tls = match settings.tls {
            Tls::VerifyFull => "verify-full",
            Tls::Off => "off",
        };
        format!(
            "{}: {result}\nsource: {}, {tables}, tls {tls}\ndirectory: {}\n",
            printable_path(&self.config.path),
            printable(settings.source.to_string().as_bytes()),
            printable_path(&settings.dir),
        )
    }
}

/// Returns the state that was read, and the number of rows of each table.
fn read(reading: &Reading, rows: &Inspection) -> String {
    let mut text = state(reading);
    let counts = rows
        .tables()
        .map(|(table, count)| format!("{}: {count} rows\n", table.label()));
    text.extend(counts);
    text
}

fn state(reading: &Reading) -> String {
    let committed = reading.state.committed.max(SystemTime::UNIX_EPOCH);
    match reading.state.revision {
        Some(revision) => format!(
            "state: revision {revision}, committed {}\n",
            format_rfc3339_seconds(committed)
        ),
        None => "state: without a number\n".to_owned(),
    }
}
