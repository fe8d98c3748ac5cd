//! `postmapd check --against-server`: what the checked files would change in the running server.
//!
//! The server sends no entry of its tables and nothing from which a login could be guessed: over the admin listener, which
//! has no authentication, it only says which versions of which files it has active ([`super::admin`]). This command reads
//! those files itself, with the rights of its user, makes sure that they are the active versions, and compares the two
//! snapshots in its own memory ([`crate::check::changes`]).
//!
//! The alternatives are worse. A path that lists senders would tell every client of the admin listener who the customers
//! are. A digest of each login, whatever its salt, lets a client that receives it try passwords offline, and an answer
//! to "is this the digest?" lets it try them online. Lookups of the map `sasl` are answered to permitted users alone, but
//! say nothing about removed keys, and not the entry while a sender is in flight.
//!
//! Limits: memory for both versions of the tables. What the server has active and is no longer on disk, because a later
//! version was rejected or waits, cannot be compared: the exit code is 75. The server's own flags and variables other
//! than those of the default relay are not known. Another program that listens at the address can name any directory:
//! what is read there is printed to this user alone, and masked where it may be a password.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use super::admin::{AdminListener, PresentVersion, table_status};
use super::{EX_TEMPFAIL, Error, OutputFormat, print_message};
use crate::check::changes::Changes;
use crate::config::Sources;
use crate::config::options::Options;
use crate::control::admin::status::{FileStatus, Status};
use crate::diagnostics::{Findings, Severity};
use crate::lookup::table::spec::RELAY_MAP;
use crate::os::printable::printable;
use crate::source::evaluate::{self, LoadedConfig};

/// How long the active files may take to be those on disk: an edit may just be taking effect.
const SETTLE_TIME: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);

/// The most changes that are printed as text.
const MAX_SHOWN: usize = 1000;

/// The running server, which has answered.
pub(super) struct RunningServer {
    listener: AdminListener,
    sources: Sources,
}

/// What the checked files would change.
pub(super) enum Comparison {
    /// These changes.
    Known(Box<Changes>),
    /// Nothing: the server would reject the files.
    Rejected,
    /// It is unknown, for this reason.
    Unknown(String),
}

impl RunningServer {
    /// Asks the server for its files. The inner error is the reason why it is unknown what it has active.
    pub(super) fn ask(options: &Options, admin: Option<&String>) -> Result<Result<Self, String>, Error> {
        let listener = AdminListener::find(options, admin)?;
        let status = match listener.status() {
            Ok(status) => status,
            Err(error) => return Ok(Err(listener.describe(&error))),
        };
        let Some(relay_map) = table_status(&status, &RELAY_MAP) else {
            return Ok(Err(format!(
                "the server at {} has no relay map",
                listener.address()
            )));
        };
        // A path relative to another directory than ours leads to another file, or to none: then it is not the active one.
        let dir = Path::new(&relay_map.path).parent();
        let dir = dir.filter(|dir| !dir.as_os_str().is_empty());
        let sources = Sources::of_server(options, dir.unwrap_or(Path::new(".")), settings_file(&status));
        Ok(Ok(Self { listener, sources }))
    }

    /// Returns the sources of the files that are to replace those of the server.
    pub(super) fn candidate(&self, options: Options, findings: &mut Findings) -> Sources {
        Sources::to_replace(&self.sources, options, findings)
    }

    /// Compares `candidate` with what the server has active.
    pub(super) fn compare(&self, candidate: &LoadedConfig) -> Comparison {
        match self.load_active() {
            Ok((active, generation)) => {
                let changes = Changes::between(&active, candidate, generation);
                Comparison::Known(changes.into())
            }
            Err(reason) => Comparison::Unknown(reason),
        }
    }

    /// Reads the files of the server, which must be its active versions before and after. Returns them with the number of
    /// the snapshot.
    fn load_active(&self) -> Result<(LoadedConfig, u64), String> {
        if self.sources.environment.is_uncertain() {
            return Err(format!(
                "the default relay of the server is unknown: {}",
                self.sources.environment
            ));
        }
        let deadline = Instant::now() + SETTLE_TIME;
        loop {
            let before = self.status()?;
            let mut problem = not_on_disk(&before);
            if problem.is_none() {
                let loaded = evaluate::load(&self.sources);
                let after = self.status()?;
                problem = not_on_disk(&after);
                if problem.is_none() && after.generation == before.generation {
                    return readable(loaded, &after).map(|loaded| (loaded, after.generation));
                }
            }
            let problem =
                problem.unwrap_or_else(|| "the files of the server keep changing; try again".to_owned());
            if Instant::now() >= deadline {
                return Err(problem);
            }
            thread::sleep(PAUSE);
        }
    }

    fn status(&self) -> Result<Status, String> {
        let status = self.listener.status();
        status.map_err(|error| self.listener.describe(&error))
    }
}

/// Returns the settings file of the server: the one before the tables, if it has one.
fn settings_file(status: &Status) -> Option<&Path> {
    let first = status.files.first()?;
    first.map.is_none().then_some(Path::new(&first.path))
}

/// Returns why the active version of a file is not the one on disk, if so.
fn not_on_disk(status: &Status) -> Option<String> {
    let is_active = |file: &&FileStatus| {
        let present = PresentVersion::of(file, Path::new(&file.path));
        present == PresentVersion::Active || (present == PresentVersion::Invalid && file.active)
    };
    let file = status.files.iter().find(|file| !is_active(file))?;
    let path = printable(file.path.as_bytes());
    let problem = file.problem.as_ref().map_or_else(
        || {
            if Path::new(&file.path).is_absolute() {
                "it was not read yet, or is in another mount".to_owned()
            } else {
                "the path is relative to the working directory of the server; run this there".to_owned()
            }
        },
        |problem| printable(problem.as_bytes()),
    );
    Some(format!(
        "the version of {path} that the server has active is no longer on disk: {problem}"
    ))
}

/// Returns the server's files if they could be read here as well as by the server.
fn readable(loaded: LoadedConfig, status: &Status) -> Result<LoadedConfig, String> {
    let errors = loaded.findings.errors();
    let first = loaded.findings.with_severity(Severity::Error).next();
    match first.filter(|_| errors > status.errors) {
        Some(error) => Err(format!(
            "the files of the server cannot be read here as the server reads them; run this as root: {error}"
        )),
        None => Ok(loaded),
    }
}

impl Comparison {
    /// Returns the changes, if they are known.
    pub(super) fn changes(&self) -> Option<&Changes> {
        match self {
            Self::Known(changes) => Some(changes),
            Self::Rejected | Self::Unknown(_) => None,
        }
    }

    /// Prints the comparison after the findings, except for changes in JSON, and returns the exit code. `checked` is the
    /// exit code of the findings.
    pub(super) fn finish(self, format: OutputFormat, checked: ExitCode) -> Result<ExitCode, Error> {
        match self {
            Self::Known(changes) => {
                if format == OutputFormat::Text {
                    print(&changes).map_err(Error::system("cannot print the changes"))?;
                }
                Ok(if changes.count() > 0 {
                    ExitCode::FAILURE
                } else {
                    checked
                })
            }
            Self::Rejected => {
                print_message("the server would reject these files and change nothing; fix the errors first");
                Ok(checked)
            }
            Self::Unknown(reason) => {
                print_message(format_args!("what would change is unknown: {reason}"));
                Ok(ExitCode::from(EX_TEMPFAIL))
            }
        }
    }
}

fn print(changes: &Changes) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let (count, generation) = (changes.count(), changes.generation);
    if count == 0 {
        writeln!(
            out,
            "the running server (generation {generation}): nothing changes"
        )?;
        return out.flush();
    }
    writeln!(
        out,
        "the running server (generation {generation}): {}",
        super::count_of(count, "change")
    )?;
    for line in changes.lines().take(MAX_SHOWN) {
        writeln!(out, "  {line}")?;
    }
    if let Some(more) = count.checked_sub(MAX_SHOWN).filter(|more| *more > 0) {
        writeln!(
            out,
            "  {} not shown; --format json has all",
            super::count_of(more, "further change")
        )?;
    }
    out.flush()
}
