//! The engine of a source, by its setting.

#[cfg(feature = "mysql")]
use super::mysql::{MariaDb, MariaDbConnection};
use super::postgres::{Postgres, PostgresConnection};
use super::{Connection, Engine, EngineError, EngineSettingsError, Reading, Rows, State};
use crate::settings::Settings;
use crate::settings::source::Database;

/// A database of any kind.
pub enum AnyEngine {
    /// PostgreSQL.
    Postgres(Postgres),
    /// MariaDB or MySQL.
    #[cfg(feature = "mysql")]
    MariaDb(MariaDb),
}

/// A connection to it.
pub enum AnyConnection {
    /// PostgreSQL.
    Postgres(PostgresConnection),
    /// MariaDB or MySQL.
    #[cfg(feature = "mysql")]
    MariaDb(MariaDbConnection),
}

impl AnyEngine {
    /// Reads the files that the settings name.
    pub fn new(settings: &Settings) -> Result<Self, EngineSettingsError> {
        match settings.source.kind {
            Database::PostgreSql => Ok(Self::Postgres(Postgres::new(settings)?)),
            #[cfg(feature = "mysql")]
            Database::MariaDb => Ok(Self::MariaDb(MariaDb::new(settings)?)),
            #[cfg(not(feature = "mysql"))]
            Database::MariaDb => Err(EngineSettingsError::NoMariaDb),
        }
    }
}

impl Engine for AnyEngine {
    type Connection = AnyConnection;

    async fn connect(&mut self) -> Result<AnyConnection, EngineError> {
        match self {
            Self::Postgres(engine) => engine.connect().await.map(AnyConnection::Postgres),
            #[cfg(feature = "mysql")]
            Self::MariaDb(engine) => engine.connect().await.map(AnyConnection::MariaDb),
        }
    }
}

impl Connection for AnyConnection {
    async fn state(&mut self) -> Result<State, EngineError> {
        match self {
            Self::Postgres(connection) => connection.state().await,
            #[cfg(feature = "mysql")]
            Self::MariaDb(connection) => connection.state().await,
        }
    }

    async fn read(&mut self, known: Option<&State>, rows: &mut dyn Rows) -> Result<Reading, EngineError> {
        match self {
            Self::Postgres(connection) => connection.read(known, rows).await,
            #[cfg(feature = "mysql")]
            Self::MariaDb(connection) => connection.read(known, rows).await,
        }
    }

    async fn hint(&mut self) {
        match self {
            Self::Postgres(connection) => connection.hint().await,
            #[cfg(feature = "mysql")]
            Self::MariaDb(connection) => connection.hint().await,
        }
    }
}
