//! Other tables, which the queries of the settings read.
//!
//! Their state is the result of the query `version` if there is one, otherwise a fingerprint of the result of each query: the
//! number of rows and two sums of hashes of whole rows, with random seeds. The server computes it, so the rows are sent only if it
//! has changed. It is shown only as a keyed digest: the difference of two sums would allow passwords to be tried.
//!
//! `NOTIFY postmapd`, or the name in the setting `schema`, is a hint here too: it ends the wait for the next poll.
//!
//! Limits: the fingerprint of a million rows takes a second or more, and has the deadline `hang`; a query `version` has none of this
//! cost. A change of nothing but the order of rows is seen only in a query with `ORDER BY`; without it, the order of rows with
//! equal keys has no meaning.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::begin;
use super::messages::Columns;
use super::session::Session;
use super::tables::row;
use crate::engine::queries::{Results, States, VERSION};
use crate::engine::{EngineErrorKind, Extent, Reading, Rows, State};
use crate::random;
use crate::settings::Queries;

/// The queries of the settings.
#[derive(Clone)]
pub(super) struct QuerySet {
    queries: Arc<Queries>,
    /// The seeds of the two sums. They are random so that rows with equal sums cannot be chosen.
    seeds: [i64; 2],
    states: States,
}

impl QuerySet {
    /// Takes the queries of the settings.
    pub(super) fn new(settings: &Queries) -> io::Result<Self> {
        let mut seeds = [[0; 8]; 2];
        for seed in &mut seeds {
            random::fill(seed)?;
        }
        Ok(Self {
            queries: Arc::new(settings.clone()),
            seeds: seeds.map(i64::from_ne_bytes),
            states: States::new()?,
        })
    }

    /// Returns the state.
    pub(super) async fn state(
        &self,
        session: &mut Session,
        hang: Duration,
    ) -> Result<State, EngineErrorKind> {
        let begin = begin(session, hang);
        // The caller waits no longer for it, and a server that is too slow must not get more and more of it.
        let limit = format!(
            "{begin}SET LOCAL statement_timeout = {}",
            hang.as_millis().clamp(1, 600_000)
        );
        session.query("BEGIN", &limit, None, |_| {}).await?;
        let state = self.state_in_transaction(session).await?;
        session.query("COMMIT", "COMMIT", None, |_| {}).await?;
        Ok(state)
    }

    /// Reads the results of all queries.
    pub(super) async fn read(
        &self,
        session: &mut Session,
        hang: Duration,
        rows: &mut dyn Rows,
    ) -> Result<Reading, EngineErrorKind> {
        let begin = begin(session, hang);
        session.query("BEGIN", &begin, None, |_| {}).await?;
        let state = self.state_in_transaction(session).await?;
        rows.begin(Extent::Everything);
        for query in self.queries.tables() {
            rows.table(query.table);
            let handle = |columns: &Columns<'_>| {
                rows.row(row(query.table, columns.get(0).unwrap_or_default(), columns, 1));
            };
            let sql = format!("SELECT * FROM ({}\n) AS postmapd_row", query.sql);
            session
                .query(query.name, &sql, Some(query.columns.len()), handle)
                .await?;
        }
        session.query("COMMIT", "COMMIT", None, |_| {}).await?;
        Ok(Reading {
            state,
            is_continuous: false,
        })
    }

    async fn state_in_transaction(&self, session: &mut Session) -> Result<State, EngineErrorKind> {
        let mut results = Results::default();
        let mut handle = |row: &Columns<'_>| row.all().iter().for_each(|value| results.push(*value));
        if let Some(version) = &self.queries.version {
            let sql = format!("SELECT * FROM ({version}\n) AS postmapd_row");
            session.query(VERSION, &sql, None, &mut handle).await?;
        } else {
            for query in self.queries.tables() {
                let sql = self.fingerprint(query.sql);
                session.query(query.name, &sql, Some(3), &mut handle).await?;
            }
        }
        Ok(self.states.state(self.states.version(results)))
    }

    /// Returns the query for the number of rows of a result and the sums of their hashes.
    fn fingerprint(&self, sql: &str) -> String {
        let row = if has_order(sql) {
            "row_number() OVER () || ' ' || postmapd_row::text"
        } else {
            "postmapd_row::text"
        };
        let mut fingerprint = "SELECT count(*)".to_owned();
        for seed in self.seeds {
            // Writing to a String does not fail.
            let _ = write!(
                fingerprint,
                ", coalesce(sum(pg_catalog.hashtextextended(postmapd_text, {seed})), 0)"
            );
        }
        let _ = write!(
            fingerprint,
            " FROM (SELECT {row} AS postmapd_text FROM ({sql}\n) AS postmapd_row) AS postmapd_rows"
        );
        fingerprint
    }
}

/// Whether a query seems to have `ORDER BY`. If it is in a subquery or a text only, another order is another state without need.
fn has_order(sql: &str) -> bool {
    let sql = sql.to_ascii_lowercase();
    let words = sql.split_ascii_whitespace();
    words
        .clone()
        .zip(words.skip(1))
        .any(|(word, next)| word.ends_with("order") && next.starts_with("by"))
}

#[cfg(test)]
mod tests {
    use super::has_order;

    #[test]
    fn a_query_has_an_order_only_with_order_by() {
        assert!(has_order("SELECT a, b FROM t\nORDER\n  BY id"));
        assert!(has_order("(select a from t)Order By 1"));
        assert!(!has_order("SELECT sender, hop FROM orders"));
        assert!(!has_order("SELECT order_id, by FROM t"));
    }
}
