//! `postmapd-follow dump`: the tables of the source as plain files.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use postmapd::os::printable::printable_path;

use super::config::ConfigOption;
use super::error::Error;
use super::print_message;
use super::runtime::block_on;
use crate::dump::Dump as Files;
use crate::engine::any::AnyEngine;
use crate::engine::{Connection, Engine};

#[derive(Args)]
#[command(after_help = "\
Reads all tables as of one moment and writes them as files that postmapd reads, with mode 0600 and without source.json, so that \
`postmapd relay` can edit them. It creates the directory if it is missing, and replaces no file.

A row that cannot be an entry becomes an entry with an error, so that lookups of its key get a temporary error; it is reported.

Exit codes: 0 written, 1 written with bad rows or not written, 2 usage, 75 the source cannot be reached.

Example:
  postmapd-follow dump /var/backups/postmapd")]
pub(super) struct Dump {
    #[command(flatten)]
    config: ConfigOption,

    /// The directory for the files
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Dump {
    pub(super) fn run(&self) -> ExitCode {
        self.dump().unwrap_or_else(|error| error.print())
    }

    fn dump(&self) -> Result<ExitCode, Error> {
        let settings = self.config.read()?;
        let mut engine = AnyEngine::new(&settings)?;
        let mut files = Files::into_directory(&self.directory)?;
        let reading = block_on(async {
            let mut connection = engine.connect().await?;
            connection.read(None, &mut files).await
        })??;
        let bad_rows = files.bad_rows().clone();
        for (path, rows) in files.finish()? {
            // A closed pipe does not change the result.
            let _ = writeln!(io::stdout(), "{}: {rows} rows", printable_path(&path));
        }
        if let Some(revision) = reading.state.revision {
            let _ = writeln!(io::stdout(), "revision {revision}");
        }
        for row in bad_rows.first() {
            print_message(row);
        }
        let bad_rows = bad_rows.count();
        if bad_rows == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        print_message(format_args!(
            "{bad_rows} rows are entries with errors in these files"
        ));
        Ok(ExitCode::FAILURE)
    }
}
