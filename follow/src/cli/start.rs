//! What `run` and `once` have in common: their options, and the steps until the source can be followed.

use std::sync::Arc;

use clap::Args;
use postmapd::os::printable::printable_path;
use postmapd::os::sandbox::disable_core_dumps;
use tracing::warn;

use super::config::ConfigOption;
use super::error::Error;
use super::log::LogOptions;
use crate::directory::Directory;
use crate::engine::Table;
use crate::engine::any::AnyEngine;
use crate::follow::{Follower, Options};
use crate::settings::{Empty, OpenFile, Settings};
use crate::status::Status;

#[derive(Args)]
pub(super) struct FollowOptions {
    #[command(flatten)]
    config: ConfigOption,

    /// Publish a table without rows even if the active one has rows. Without it, such a table is refused, unless the source
    /// has recorded that the rows were removed
    #[arg(long)]
    allow_empty: bool,

    #[command(flatten)]
    pub(super) log: LogOptions,
}

/// What is needed to follow the source.
pub(super) struct Start {
    pub(super) settings: Settings,
    pub(super) follower: Follower<AnyEngine>,
    pub(super) status: Arc<Status>,
}

impl FollowOptions {
    /// Reads the settings, and opens the directory: an existing generation is active afterwards.
    pub(super) fn start(&self) -> Result<Start, Error> {
        // Before the password is in memory.
        if let Err(error) = disable_core_dumps() {
            warn!(%error, "core dumps are possible, and may have the password");
        }
        let settings = self.config.read()?;
        for OpenFile { setting, path } in settings.open_files() {
            warn!(
                setting,
                file = printable_path(&path),
                "a file with a credential is open to all users; make it private with chmod 0600, or 0640 if only its group may read it"
            );
        }
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
