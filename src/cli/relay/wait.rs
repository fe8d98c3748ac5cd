//! `--wait`: waits until the running server has an edit active.
//!
//! The server reads a saved file within milliseconds, or at its next poll where the kernel reports no changes. This asks
//! its admin listener until it has read the present version of the file, and made it active or rejected it; no signal
//! is sent and nothing is requested. The present version is the edited one, or a later one with the edit: edits of
//! `postmapd relay` wait for each other.
//!
//! Limits: `--wait` bounds the time, and a request that has no response adds at most 10 seconds to it. An edit that does
//! not change the file waits, too. For a file with credentials on a file system that keeps no inode numbers, the end is
//! not detected.

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::super::admin::{AdminListener, PresentVersion, admin_help, table_status};
use super::super::{EX_TEMPFAIL, EXIT_REJECTED, Error, print_message};
use super::MAX_ERRORS_SHOWN;
use crate::config::options::Options;
use crate::config::setting;
use crate::control::admin::client::AdminError;
use crate::control::admin::status::{FileStatus, Status};
use crate::diagnostics::Severity;
use crate::lookup::table::spec::TableSpec;
use crate::os::printable::{printable, printable_path};

/// The pause after the first response, which doubles up to the second one.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Whether and where to wait.
#[derive(Args)]
pub(super) struct WaitOptions {
    /// Wait until the edit is active in the running server, for at most SECONDS; the default is 30
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "30",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    wait: Option<u64>,

    #[arg(long, value_name = setting::ADMIN.value, help = admin_help(), requires = "wait")]
    admin: Option<String>,
}

/// Why an edit is not active.
enum NotActive {
    /// The server has read and rejected it. The findings, one a line.
    Rejected(Vec<String>),
    /// No server has it active, as far as is known.
    Unknown(String),
}

impl WaitOptions {
    /// Returns the admin listener to wait for. An invalid address is a usage error, before anything is written.
    pub(super) fn listener(&self, options: &Options) -> Result<Option<Wait>, Error> {
        let Some(seconds) = self.wait else {
            return Ok(None);
        };
        Ok(Some(Wait {
            listener: AdminListener::find(options, self.admin.as_ref())?,
            timeout: Duration::from_secs(seconds),
        }))
    }
}

/// An admin listener, and for how long to wait.
pub(super) struct Wait {
    listener: AdminListener,
    timeout: Duration,
}

impl Wait {
    /// Waits until the file at `path` is active, and returns the exit code. Prints why if it is not.
    pub(super) fn run(&self, table: &TableSpec, path: &Path) -> ExitCode {
        match self.until_active(table, path) {
            Ok(()) => ExitCode::SUCCESS,
            Err(NotActive::Rejected(lines)) => {
                lines.iter().for_each(print_message);
                print_message(format_args!(
                    "{} is written, but the server at {} rejected it and keeps its active tables; fix the errors",
                    printable_path(path),
                    self.listener.address()
                ));
                ExitCode::from(EXIT_REJECTED)
            }
            Err(NotActive::Unknown(reason)) => {
                print_message(format_args!(
                    "{} is written, but it is unknown whether it is active: {reason}",
                    printable_path(path)
                ));
                ExitCode::from(EX_TEMPFAIL)
            }
        }
    }

    fn until_active(&self, table: &TableSpec, path: &Path) -> Result<(), NotActive> {
        let deadline = Instant::now() + self.timeout;
        let unreachable = |error: &AdminError| NotActive::Unknown(self.listener.describe(error));
        let mut pause = FIRST_PAUSE;
        let mut has_answered = false;
        loop {
            let status = self.listener.status();
            let is_late = Instant::now() >= deadline;
            match status {
                Ok(status) => {
                    has_answered = true;
                    let file = self.file(&status, table, path)?;
                    match PresentVersion::of(file, path) {
                        PresentVersion::Active => return Ok(()),
                        PresentVersion::Invalid => return Err(NotActive::Rejected(errors(&status, file))),
                        PresentVersion::Pending if is_late => return Err(self.late(file)),
                        PresentVersion::Pending => {}
                    }
                }
                // A server that has answered can be in a restart.
                Err(error) if !has_answered || is_late => return Err(unreachable(&error)),
                Err(_) => {}
            }
            thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Returns what the server says about the file, if it serves that file.
    fn file<'s>(
        &self,
        status: &'s Status,
        table: &TableSpec,
        path: &Path,
    ) -> Result<&'s FileStatus, NotActive> {
        let file = table_status(status, table).ok_or_else(|| {
            NotActive::Unknown(format!(
                "the server at {} does not serve {}",
                self.listener.address(),
                table.file
            ))
        })?;
        if is_of_another_directory(Path::new(&file.path), path) {
            return Err(NotActive::Unknown(format!(
                "the server at {} serves {}; set --admin to the server of this directory",
                self.listener.address(),
                printable(file.path.as_bytes())
            )));
        }
        Ok(file)
    }

    fn late(&self, file: &FileStatus) -> NotActive {
        let problem = match &file.problem {
            Some(problem) => format!(" ({})", printable(problem.as_bytes())),
            None => String::new(),
        };
        NotActive::Unknown(format!(
            "the server at {} has not read the present version of {} within {} seconds{problem}",
            self.listener.address(),
            printable(file.path.as_bytes()),
            self.timeout.as_secs()
        ))
    }
}

/// Whether two files are certainly in different directories. The server can see its own at a path that does not exist
/// here, and a relative path is relative to its working directory.
fn is_of_another_directory(server: &Path, own: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let directory = |path: &Path| {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let metadata = parent.unwrap_or(Path::new(".")).metadata().ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    match (directory(server), directory(own)) {
        (Some(server_directory), Some(own)) => server.is_absolute() && server_directory != own,
        _ => false,
    }
}

/// Returns the errors that a status has, or what it says about the file.
fn errors(status: &Status, file: &FileStatus) -> Vec<String> {
    let errors = status
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error);
    let lines: Vec<String> = errors
        .take(MAX_ERRORS_SHOWN)
        .map(|finding| printable(finding.to_line().as_bytes()))
        .collect();
    if lines.is_empty() {
        let problem = file.problem.iter();
        return problem.map(|problem| printable(problem.as_bytes())).collect();
    }
    lines
}
