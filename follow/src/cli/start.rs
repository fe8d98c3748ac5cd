//! What `run` and `once` have in common: their options, and the steps until the source can be followed.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use postmapd::net::bind::BindError;
use postmapd::os::log::LogFormat;
use postmapd::os::sandbox::disable_core_dumps;
use thiserror::Error;
use tracing::warn;

use super::log::{self, LogOptions};
use super::{ConfigOption, EX_CONFIG, EX_OSERR, EX_UNAVAILABLE};
use crate::directory::{Directory, DirectoryError};
use crate::engine::Table;
use crate::engine::any::{AnyEngine, EngineSettingsError};
use crate::follow::{Follower, OnceError, Options};
use crate::settings::{CredentialFileError, Empty, SettingError, Settings};
use crate::status::Status;

/// What [`EndError::System`] says if there is no runtime.
pub(super) const NO_RUNTIME: &str = "cannot start the runtime";

#[derive(Args)]
pub(super) struct FollowOptions {
    #[command(flatten)]
    pub(super) settings: ConfigOption,

    /// Publish a table without rows even if the active one has rows. Without it, such a table is refused, unless the source
    /// has recorded that the rows were removed
    #[arg(long)]
    allow_empty: bool,

    #[command(flatten)]
    pub(super) log: LogOptions,
}

/// Why the program ends.
#[derive(Debug, Error)]
pub(super) enum EndError {
    #[error("the settings have errors")]
    Settings(Vec<SettingError>),
    #[error("files that the settings name have errors")]
    Files(Vec<CredentialFileError>),
    #[error(transparent)]
    Engine(#[from] EngineSettingsError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error("the thread that follows the source failed")]
    Panicked,
    #[error(transparent)]
    Once(#[from] OnceError),
}

impl EndError {
    pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }

    /// Prints the error as the format of the log requires, and returns the exit code of the program.
    pub(super) fn print(&self, format: LogFormat) -> ExitCode {
        match self {
            Self::Settings(errors) => log::end(format, errors, EX_CONFIG),
            Self::Files(errors) => log::end(format, errors, EX_CONFIG),
            Self::Engine(_) => log::end(format, &[self], EX_CONFIG),
            Self::Bind(error) if !error.is_transient() => log::end(format, &[self], EX_CONFIG),
            Self::Bind(_) => log::end(format, &[self], EX_UNAVAILABLE),
            Self::System { .. } | Self::Panicked => log::end(format, &[self], EX_OSERR),
            Self::Directory(_) | Self::Once(_) => log::end(format, &[self], 1),
        }
    }
}

/// What is needed to follow the source.
pub(super) struct Start {
    pub(super) settings: Settings,
    pub(super) follower: Follower<AnyEngine>,
    pub(super) status: Arc<Status>,
}

impl FollowOptions {
    /// Reads the settings, and opens the directory: an existing generation is active afterwards.
    pub(super) fn start(&self) -> Result<Start, EndError> {
        // Before the password is in memory.
        if let Err(error) = disable_core_dumps() {
            warn!(%error, "core dumps are possible, and may have the password");
        }
        let settings = Settings::read(&self.settings.config).map_err(EndError::Settings)?;
        settings.check_files().map_err(EndError::Files)?;
        let engine = AnyEngine::new(&settings)?;
        let tables = tables(&settings);
        let directory = Directory::open(&settings.dir, &tables)?;
        let source = settings.source.to_string();
        let active = directory.active().map(|active| active.state.clone());
        let queries = settings.queries.as_ref();
        let options = Options {
            source: source.clone(),
            tables,
            interval: settings.interval(),
            allow_empty: self.allow_empty || queries.is_some_and(|queries| queries.empty == Empty::Allow),
        };
        let status = Arc::new(Status::new(source, active));
        Ok(Start {
            settings,
            follower: Follower::new(engine, directory, options, Arc::clone(&status)),
            status,
        })
    }
}

/// Returns the tables of the source. In the schema of postmapd, the one for TLS need not have rows, and its file may be a local one.
fn tables(settings: &Settings) -> Vec<Table> {
    let Some(queries) = &settings.queries else {
        return vec![Table::Relay, Table::Credentials];
    };
    let of_query = [
        (Table::Relay, &queries.relay),
        (Table::Credentials, &queries.credentials),
        (Table::Tls, &queries.tls),
    ];
    let with_query = of_query.into_iter().filter(|(_, query)| query.is_some());
    with_query.map(|(table, _)| table).collect()
}
