//! What the commands that connect once have in common: settings, a runtime, and errors with their exit codes.

use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use postmapd::os::printable::printable;
use thiserror::Error;

use super::{ConfigOption, EX_TEMPFAIL, print_message, runtime};
use crate::dump::DumpError;
use crate::engine::any::EngineSettingsError;
use crate::engine::postgres::PostgresSettingsError;
use crate::engine::{EngineError, EngineErrorKind};
use crate::load::LoadError;
use crate::settings::source::{Database, Host, Source, SourceError};
use crate::settings::{CredentialFileError, SettingError, Settings, Tls};

/// Why a command did not do what it was asked for.
#[derive(Debug, Error)]
pub(super) enum CommandError {
    #[error("the settings have errors")]
    Settings(Vec<SettingError>),
    #[error("files that the settings name have errors")]
    Files(Vec<CredentialFileError>),
    #[error("error: --source: {0}")]
    Source(#[from] SourceError),
    #[error(
        "error: there are no settings at {} with the user that reads the tables; name it with --reader",
        printable(.0.as_os_str().as_bytes())
    )]
    NoReader(PathBuf),
    #[error("error: {0}")]
    EngineSettings(#[from] EngineSettingsError),
    #[error("error: {0}")]
    Postgres(#[from] PostgresSettingsError),
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
    #[error("error: {0}")]
    Dump(#[from] DumpError),
    #[error("{0}")]
    Load(LoadError),
    #[error("error: cannot start the runtime: {0}")]
    Runtime(io::Error),
    #[error("error: cannot print: {0}")]
    Output(io::Error),
}

impl From<LoadError> for CommandError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Engine(error) => Self::Engine(error),
            other => Self::Load(other),
        }
    }
}

impl CommandError {
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

    /// Prints the error, and returns the exit code.
    pub(super) fn print(&self) -> ExitCode {
        match self {
            Self::Settings(errors) => errors.iter().for_each(print_message),
            Self::Files(errors) => errors.iter().for_each(print_message),
            Self::Load(error) => error.to_string().lines().for_each(print_message),
            other => print_message(other),
        }
        match self {
            Self::Engine(error) if error.kind.is_temporary() => ExitCode::from(EX_TEMPFAIL),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Reads the settings and checks the files that they name.
pub(super) fn read_settings(path: &Path) -> Result<Settings, CommandError> {
    let settings = Settings::read(path).map_err(CommandError::Settings)?;
    settings.check_files().map_err(CommandError::Files)?;
    Ok(settings)
}

/// Runs a future to its end.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, CommandError> {
    runtime::block_on(future).map_err(CommandError::Runtime)
}

/// Who connects to change the tables: the user of the settings reads them, and needs no other right.
#[derive(Args)]
pub(super) struct OwnerOptions {
    #[command(flatten)]
    pub(super) settings: ConfigOption,

    /// The database and the user that owns the tables, instead of the setting source; without a password
    #[arg(long, value_name = "URL")]
    source: Option<String>,

    /// The file with the password of this user, instead of the setting password_file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl OwnerOptions {
    /// Returns the user of the setting source, which reads the tables.
    pub(super) fn reader(&self) -> Result<String, CommandError> {
        let path = &self.settings.config;
        if !path.exists() {
            return Err(CommandError::NoReader(path.clone()));
        }
        let settings = Settings::read(path).map_err(CommandError::Settings)?;
        Ok(settings.source.user)
    }

    /// Reads the settings, with the source and the password file of the options. On the host of the database there may be no
    /// settings file; the options are enough there.
    pub(super) fn read(&self) -> Result<Settings, CommandError> {
        let path = &self.settings.config;
        let settings = match &self.source {
            Some(source) if !path.exists() => {
                let source = Source::parse(source)?.to_string();
                Settings::parse(path, format!("source = {source:?}\n").as_bytes())
            }
            _ => Settings::read(path),
        };
        let mut settings = settings.map_err(CommandError::Settings)?;
        if settings.queries.is_some() {
            return Err(CommandError::NotOurSchema);
        }
        if let Some(source) = &self.source {
            settings.source = Source::parse(source)?;
            // The password of another user.
            settings.password_file = None;
            // `off` was for the hosts of the setting.
            if !settings.source.hosts.iter().all(Host::is_local) {
                settings.tls = Tls::VerifyFull;
            }
        }
        if settings.source.kind != Database::PostgreSql {
            return Err(CommandError::NotOurSchema);
        }
        if let Some(path) = &self.password_file {
            settings.password_file = Some(path.clone());
        }
        settings.check_files().map_err(CommandError::Files)?;
        Ok(settings)
    }
}
