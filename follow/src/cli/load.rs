//! `postmapd-follow load`: the files of a directory as rows of the tables of postmapd.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::config::OwnerOptions;
use super::error::Error;
use super::print_message;
use super::runtime::block_on;
use crate::engine::postgres::Postgres;
use crate::engine::{Engine, Table};
use crate::load::{self, Difference, Entries, MAX_LISTED, Mode, Outcome};

/// How long a statement may work: a million rows take a minute.
const HANG: Duration = Duration::from_secs(30 * 60);

#[derive(Args)]
#[command(after_help = "\
Makes the tables relay, credential and relay_tls of the schema equal to the files postfix-relaymap.cf, postfix-sasl-password.cf and \
postfix-relay-tls.cf, in one transaction, and prints what differs. A table without a file keeps its rows. Rows are changed or \
removed only with --force. No value is printed, and none is in a log of the database.

The user in source needs to read only, so name the one that owns the tables with --source.

Exit codes: 0 loaded, or nothing differs, 1 errors, or rows would be changed or removed, 2 usage, 75 the source cannot be reached.

Examples:
  postmapd-follow load /etc/postmapd --dry-run --source postgres://owner@db.example.com/mail --password-file /etc/postmapd/owner-password
  postmapd-follow load /etc/postmapd --force --source postgres://owner@%2Frun%2Fpostgresql/mail")]
pub(super) struct Load {
    /// The directory with the files
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Print what would change, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Change and remove rows that differ from the files
    #[arg(long, conflicts_with = "dry_run")]
    force: bool,

    #[command(flatten)]
    owner: OwnerOptions,
}

impl Load {
    pub(super) fn run(&self) -> ExitCode {
        self.load().unwrap_or_else(|error| error.of_owner().print())
    }

    fn load(&self) -> Result<ExitCode, Error> {
        let settings = self.owner.read()?;
        let mut files = Vec::new();
        for table in Table::ALL {
            let entries = Entries::read(&self.directory, table).map_err(load::LoadError::from)?;
            files.extend(entries.map(|entries| (table, entries)));
        }
        if files.is_empty() {
            return Err(load::LoadError::NoFile(self.directory.clone()).into());
        }
        let mode = match (self.dry_run, self.force) {
            (true, _) => Mode::DryRun,
            (_, true) => Mode::Replace,
            _ => Mode::Add,
        };
        let mut engine = Postgres::new(&settings)?;
        let (differences, outcome) = block_on(async {
            let mut connection = engine.connect().await?;
            connection.set_hang(HANG);
            load::load(&mut connection, &settings.schema, &files, mode).await
        })??;
        for (difference, (_, entries)) in differences.iter().zip(&files) {
            // A closed pipe does not change the result.
            let _ = print(difference, entries);
        }
        match outcome {
            Outcome::Loaded => Ok(ExitCode::SUCCESS),
            Outcome::DryRun => {
                print_message("nothing was changed (--dry-run)");
                Ok(ExitCode::SUCCESS)
            }
            Outcome::Refused => {
                print_message(
                    "nothing was changed, because rows would be changed or removed; --force changes and removes them",
                );
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

fn print(difference: &Difference, entries: &Entries) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let Difference {
        table,
        listed,
        counts: [added, changed, removed],
    } = difference;
    for (key, kind) in listed {
        writeln!(out, "{table}: {key}: {}", kind.name())?;
    }
    let all = added + changed + removed;
    if let Some(more) = all.checked_sub(MAX_LISTED as u64).filter(|more| *more > 0) {
        writeln!(out, "{table}: {more} further changes not shown")?;
    }
    let unchanged = entries.count.saturating_sub(added + changed);
    write!(
        out,
        "{table}: {added} added, {changed} changed, {removed} removed, {unchanged} unchanged"
    )?;
    if entries.repeated > 0 {
        write!(
            out,
            "; {} entries have the key of an earlier one, and are left out",
            entries.repeated
        )?;
    }
    writeln!(out)
}
