//! Why a command ends without having done its work, and with which exit code.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use humantime::format_duration;
use postmapd::net::bind::BindError;
use postmapd::os::log::LogFormat;
use postmapd::os::printable::printable_path;
use thiserror::Error;

use super::print_message;
use crate::directory::DirectoryError;
use crate::dump::DumpError;
use crate::engine::{EngineError, EngineErrorKind, EngineSettingsError};
use crate::follow::OnceError;
use crate::load::LoadError;
use crate::settings::source::SourceError;
use crate::settings::{CredentialFileError, SettingError};

/// Errors, or a refusal.
const EXIT_FAILURE: u8 = 1;
/// What a shell reports for a program that SIGPIPE ended.
const EXIT_BROKEN_PIPE: u8 = 141;
/// Another process is in the way.
const EX_UNAVAILABLE: u8 = 69;
/// A system call failed.
const EX_OSERR: u8 = 71;
/// A later attempt may succeed.
const EX_TEMPFAIL: u8 = 75;
/// The settings have errors.
const EX_CONFIG: u8 = 78;

/// The reason why a command failed.
#[derive(Debug, Error)]
pub(super) enum Error {
    #[error("the settings have errors")]
    Settings(Vec<SettingError>),
    #[error("files that the settings name have errors")]
    Files(Vec<CredentialFileError>),
    #[error("error: {0}")]
    EngineSettings(EngineSettingsError),
    #[error("error: {0}")]
    Bind(#[from] BindError),
    #[error("error: --source: {0}")]
    Source(#[from] SourceError),
    #[error(
        "error: there are no settings at {} with the user that reads the tables; name it with --reader",
        printable_path(.0)
    )]
    NoReader(PathBuf),
    #[error(
        "error: this command is for the schema of postmapd in PostgreSQL, and the source has tables of its own"
    )]
    NotOurSchema,
    #[error("error: {0}")]
    Engine(#[from] EngineError),
    #[error(
        "error: {host}: the user has no right to create or change the tables: {message}; name one that has it with --source"
    )]
    OwnerRights { host: String, message: String },
    #[error(
        "error: the source could not be read within {} (option --timeout): {error}",
        format_duration(*limit)
    )]
    TimedOut { limit: Duration, error: String },
    #[error("error: {0}")]
    Once(#[from] OnceError),
    #[error("error: {0}")]
    Directory(#[from] DirectoryError),
    #[error("error: {0}")]
    Dump(#[from] DumpError),
    #[error("{0}")]
    Load(LoadError),
    #[error("error: {what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error("error: the thread that follows the source failed")]
    Panicked,
}

impl From<LoadError> for Error {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Engine(error) => Self::Engine(error),
            other => Self::Load(other),
        }
    }
}

impl From<EngineSettingsError> for Error {
    fn from(error: EngineSettingsError) -> Self {
        match error {
            EngineSettingsError::File(error) => Self::Files(vec![error]),
            other => Self::EngineSettings(other),
        }
    }
}

impl Error {
    pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }

    /// Returns the error of a command that changes the tables. Its user needs other rights than one that reads them.
    pub(super) fn of_owner(self) -> Self {
        match self {
            Self::Engine(EngineError {
                host,
                kind: EngineErrorKind::Rights(message),
            }) => Self::OwnerRights { host, message },
            other => other,
        }
    }

    /// Whether the reader closed the output, as in `postmapd-follow init | head`.
    fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::System { source, .. } if source.kind() == ErrorKind::BrokenPipe)
    }

    /// Prints the error of a command of an administrator, and returns its exit code. As with `postmapd check`, errors in the
    /// settings are errors as any other.
    pub(super) fn print(&self) -> ExitCode {
        if !self.is_broken_pipe() {
            self.lines().iter().for_each(print_message);
        }
        ExitCode::from(match self.exit_code() {
            EX_CONFIG => EXIT_FAILURE,
            code => code,
        })
    }

    /// Prints the error that ends a service as the format of its log requires, and returns its exit code. As with
    /// `postmapd serve`, errors in the settings have a code of their own, after which systemd does not restart the service.
    pub(super) fn print_fatal(&self, format: LogFormat) -> ExitCode {
        for line in self.lines() {
            if !format.print_fatal(&line) {
                print_message(line);
            }
        }
        ExitCode::from(self.exit_code())
    }

    fn lines(&self) -> Vec<String> {
        match self {
            Self::Settings(errors) => errors.iter().map(ToString::to_string).collect(),
            Self::Files(errors) => errors.iter().map(ToString::to_string).collect(),
            Self::Load(error) => error.to_string().lines().map(ToOwned::to_owned).collect(),
            other => vec![other.to_string()],
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Bind(error) if error.is_transient() => EX_UNAVAILABLE,
            Self::Settings(_) | Self::Files(_) | Self::EngineSettings(_) | Self::Bind(_) => EX_CONFIG,
            Self::Engine(error) if error.kind.is_temporary() => EX_TEMPFAIL,
            Self::TimedOut { .. } => EX_TEMPFAIL,
            Self::System { .. } if self.is_broken_pipe() => EXIT_BROKEN_PIPE,
            Self::System { .. } | Self::Panicked => EX_OSERR,
            Self::Source(_)
            | Self::NoReader(_)
            | Self::NotOurSchema
            | Self::Engine(_)
            | Self::OwnerRights { .. }
            | Self::Once(_)
            | Self::Directory(_)
            | Self::Dump(_)
            | Self::Load(_) => EXIT_FAILURE,
        }
    }
}
