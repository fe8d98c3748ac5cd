//! The engine of a source, by its setting.

use thiserror::Error;

use super::postgres::{Postgres, PostgresConnection, PostgresSettingsError};
use super::{Connection, Engine, EngineError, Reading, Rows, State};
use crate::settings::Settings;
use crate::settings::source::Database;

/// Why the settings of a source cannot be used.
#[derive(Debug, Error)]
pub enum EngineSettingsError {
    /// PostgreSQL.
    #[error(transparent)]
    Postgres(#[from] PostgresSettingsError),
    /// MariaDB or MySQL.
    #[error("this program has no client for MariaDB and MySQL")]
    MariaDb,
}

/// A database of any kind.
pub enum AnyEngine {
    /// PostgreSQL.
    Postgres(Postgres),
}

/// A connection to it.
pub enum AnyConnection {
    /// PostgreSQL.
    Postgres(PostgresConnection),
}

impl AnyEngine {
    /// Reads the files that the settings name.
    pub fn new(settings: &Settings) -> Result<Self, EngineSettingsError> {
        match settings.source.kind {
            Database::PostgreSql => Ok(Self::Postgres(Postgres::new(settings)?)),
            Database::MariaDb => Err(EngineSettingsError::MariaDb),
        }
    }
}

impl Engine for AnyEngine {
    type Connection = AnyConnection;

    async fn connect(&mut self) -> Result<AnyConnection, EngineError> {
        match self {
            Self::Postgres(engine) => engine.connect().await.map(AnyConnection::Postgres),
        }
    }
}

impl Connection for AnyConnection {
    async fn state(&mut self) -> Result<State, EngineError> {
        match self {
            Self::Postgres(connection) => connection.state().await,
        }
    }

    async fn read(&mut self, known: Option<&State>, rows: &mut dyn Rows) -> Result<Reading, EngineError> {
        match self {
            Self::Postgres(connection) => connection.read(known, rows).await,
        }
    }

    async fn hint(&mut self) {
        match self {
            Self::Postgres(connection) => connection.hint().await,
        }
    }
}
