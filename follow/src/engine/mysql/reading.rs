//! The transactions of a connection: the state of the results, and their rows.

use std::sync::Arc;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};

use super::columns;
use super::connecting::discard;
use super::errors::error;
use super::fingerprint::fingerprint;
use super::within;
use crate::engine::queries::{Results, States, VERSION};
use crate::engine::{EngineErrorKind, Extent, Reading, Rows, State};
use crate::settings::Queries;

/// The statements of a transaction, as errors name them.
const TRANSACTION: &str = "the transaction";

/// How long the server may work on the rows of a query. It ends a query whose reader has gone away.
const MAX_ROWS_TIME: Duration = Duration::from_secs(600);

/// How often a snapshot is taken again because of a commit between the query `version` and the snapshot.
const MAX_SNAPSHOTS: usize = 10;

/// What all connections have in common.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) queries: Arc<Queries>,
    pub(super) hang: Duration,
    pub(super) states: States,
}

/// A connection, and what it is used for.
pub(super) struct Session {
    connection: Option<Conn>,
    shared: Shared,
    /// Whether no answer of the server is missing.
    is_idle: bool,
    /// How long the server may work on a query.
    limit: Option<Duration>,
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && !self.is_idle
        {
            discard(connection);
        }
    }
}

impl Session {
    pub(super) fn new(connection: Conn, shared: Shared) -> Self {
        Self {
            connection: Some(connection),
            shared,
            is_idle: true,
            limit: None,
        }
    }

    /// Returns the setting `hang`.
    pub(super) fn hang(&self) -> Duration {
        self.shared.hang
    }

    /// Sets what all transactions need.
    pub(super) async fn prepare(&mut self) -> Result<(), EngineErrorKind> {
        self.is_idle = false;
        // Texts are sent as UTF-8, and bytes as they are.
        self.execute("SET NAMES utf8mb4").await?;
        self.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            .await?;
        self.is_idle = true;
        Ok(())
    }

    /// Returns the state of the results.
    pub(super) async fn state(&mut self) -> Result<State, EngineErrorKind> {
        self.is_idle = false;
        self.limit(self.shared.hang).await?;
        self.begin().await?;
        let version = self.version().await?;
        self.execute("COMMIT").await?;
        self.is_idle = true;
        Ok(self.shared.states.state(version))
    }

    /// Reads all results as of one state.
    pub(super) async fn read(&mut self, rows: &mut dyn Rows) -> Result<Reading, EngineErrorKind> {
        self.is_idle = false;
        self.limit(self.shared.hang).await?;
        let version = self.begin_at_version().await?;
        self.limit(MAX_ROWS_TIME).await?;
        rows.begin(Extent::Everything);
        let queries = Arc::clone(&self.shared.queries);
        for query in queries.tables() {
            rows.table(query.table);
            let check = |number| columns::check(&query, number);
            self.select(query.name, query.sql, check, |row| {
                let all = [0, 1, 2].map(|index| column(row, index));
                if let Some(row) = columns::row(query.table, all.get(..row.len()).unwrap_or_default()) {
                    rows.row(row);
                }
            })
            .await?;
        }
        self.limit(self.shared.hang).await?;
        if self.version().await? != version {
            return Err(EngineErrorKind::Changing);
        }
        self.execute("COMMIT").await?;
        self.is_idle = true;
        Ok(Reading {
            state: self.shared.states.state(version),
            is_continuous: false,
        })
    }

    /// Begins a transaction, and returns the version of what it reads.
    ///
    /// What the query `version` returns need not belong to the snapshot (the change times of tables do not). So it must be the
    /// same before the snapshot and in it: then no row is older than the version says.
    async fn begin_at_version(&mut self) -> Result<String, EngineErrorKind> {
        for _ in 0..MAX_SNAPSHOTS {
            let before = match self.shared.queries.version {
                Some(_) => Some(self.version().await?),
                None => None,
            };
            self.begin().await?;
            let version = self.version().await?;
            if before.is_none_or(|before| before == version) {
                return Ok(version);
            }
            self.execute("COMMIT").await?;
        }
        Err(EngineErrorKind::Changing)
    }

    /// Sets how long the server may work on a query. This program waits no longer for it, and a server that is too slow must not
    /// get one more such query with each connection.
    async fn limit(&mut self, limit: Duration) -> Result<(), EngineErrorKind> {
        if self.limit == Some(limit) {
            return Ok(());
        }
        // A comment with M is for MariaDB alone, and MariaDB ignores one with a number from 50700 on.
        let sql = format!(
            "SET SESSION /*M!100100 max_statement_time = {} */ /*!50708 max_execution_time = {} */",
            limit.as_secs_f64(),
            limit.as_millis()
        );
        self.execute(&sql).await?;
        self.limit = Some(limit);
        Ok(())
    }

    async fn begin(&mut self) -> Result<(), EngineErrorKind> {
        self.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            .await
    }

    /// Returns the version of the state of the transaction.
    async fn version(&mut self) -> Result<String, EngineErrorKind> {
        let queries = Arc::clone(&self.shared.queries);
        let mut results = Results::default();
        let mut append = |row: &Row| (0..row.len()).for_each(|index| results.push(column(row, index)));
        if let Some(sql) = &queries.version {
            self.select(VERSION, sql, |_| Ok(()), append).await?;
        } else {
            for query in queries.tables() {
                self.select(query.name, &fingerprint(&query), |_| Ok(()), &mut append)
                    .await?;
            }
        }
        Ok(self.shared.states.version(results))
    }

    async fn execute(&mut self, sql: &str) -> Result<(), EngineErrorKind> {
        self.select(TRANSACTION, sql, |_| Ok(()), |_| {}).await
    }

    /// Runs a query, and passes each row to `on_row`.
    async fn select(
        &mut self,
        query: &'static str,
        sql: &str,
        check_columns: impl FnOnce(usize) -> Result<(), String>,
        mut on_row: impl FnMut(&Row),
    ) -> Result<(), EngineErrorKind> {
        let unusable = |reason| EngineErrorKind::Result { query, reason };
        let failed = |cause| error(query, &cause);
        let connection = self.connection.as_mut();
        let connection = connection.ok_or_else(|| EngineErrorKind::Lost("it was closed".to_owned()))?;
        let answer = async { connection.query_iter(sql).await.map_err(failed) };
        let mut result = within(self.shared.hang, answer).await?;
        check_columns(result.columns_ref().len()).map_err(unusable)?;
        while let Some(row) = within(self.shared.hang, async { result.next().await.map_err(failed) }).await? {
            on_row(&row);
        }
        if result.columns().is_some() {
            return Err(unusable("it is several statements; write one".to_owned()));
        }
        Ok(())
    }
}

/// Returns the bytes of a column; `None` for NULL. The text protocol has no other values.
fn column(row: &Row, index: usize) -> Option<&[u8]> {
    match row.as_ref(index) {
        Some(Value::Bytes(bytes)) => Some(bytes),
        _ => None,
    }
}
