//! `[queries]`: the query of each table, the row of each result, and which state the results are in.
//!
//! The results have no revision, so a state is identified by what the query `version` returns or, without one, by a
//! fingerprint of the result of each query, which the database computes: the number of rows, and sums of parts of a digest of
//! each row. Sums do not depend on the order of the rows, and a digest is not linear, so that two rows that exchange a value
//! change them.
//!
//! A fingerprint of few rows would allow passwords to be tried. So it is only used in an HMAC with a
//! random key of this process: after a restart, the same rows are another state.

use postmapd::os::digest::keyed_with;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use super::Table;
use crate::rows::Row;
use crate::settings::Queries;

/// The query that identifies a state, as errors name it.
pub(super) const VERSION: &str = "[queries] version";

/// A query for a table.
#[derive(Clone, Copy)]
pub(super) struct TableQuery<'a> {
    /// The table that its result is for.
    pub(super) table: Table,
    /// The query, as errors name it.
    pub(super) name: &'static str,
    /// The columns that its result must have, by the meaning of their positions.
    pub(super) columns: &'static [&'static str],
    /// The text.
    pub(super) sql: &'a str,
}

impl Queries {
    /// Returns the queries for tables.
    pub(super) fn tables(&self) -> impl Iterator<Item = TableQuery<'_>> {
        [
            TableQuery::new(
                Table::Relay,
                "[queries] relay",
                &["key", "next hop"][..],
                self.relay.as_ref(),
            ),
            TableQuery::new(
                Table::Credentials,
                "[queries] credentials",
                &["key", "user", "password"][..],
                self.credentials.as_ref(),
            ),
            TableQuery::new(
                Table::Tls,
                "[queries] tls",
                &["key", "value"][..],
                self.tls.as_ref(),
            ),
        ]
        .into_iter()
        .flatten()
    }
}

impl<'q> TableQuery<'q> {
    fn new(
        table: Table,
        name: &'static str,
        columns: &'static [&'static str],
        sql: Option<&'q String>,
    ) -> Option<Self> {
        Some(Self {
            table,
            name,
            columns,
            sql: sql?,
        })
    }

    /// Returns what is wrong with the number of columns of a result.
    pub(super) fn check_columns(&self, number: usize) -> Result<(), String> {
        if number == self.columns.len() {
            return Ok(());
        }
        Err(format!(
            "it has {number} columns and must have {}: {}",
            self.columns.len(),
            self.columns.join(", ")
        ))
    }

    /// Returns the row with these columns; `None` if their number is wrong. A key that is NULL is empty, and so it is invalid.
    pub(super) fn row<'a>(&self, columns: &[Option<&'a [u8]>]) -> Option<Row<'a>> {
        let row = match (self.table, columns) {
            (Table::Relay, [key, next_hop]) => Row::Relay {
                key: key.unwrap_or_default(),
                next_hop: *next_hop,
            },
            (Table::Credentials, [key, user, password]) => Row::Credentials {
                key: key.unwrap_or_default(),
                user: *user,
                password: *password,
            },
            (Table::Tls, [key, value]) => Row::Tls {
                key: key.unwrap_or_default(),
                value: *value,
            },
            _ => return None,
        };
        Some(row)
    }
}

/// The random key that hides fingerprints.
#[derive(Clone)]
pub(super) struct StateKey([u8; 32]);

impl StateKey {
    /// Creates the key of a process.
    ///
    /// # Errors
    ///
    /// The system provides no random numbers.
    pub(super) fn random() -> Result<Self, Errno> {
        let mut key = [0; 32];
        let mut filled = 0;
        while let Some(rest) = key.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            filled += getrandom(rest, GetRandomFlags::empty())?;
        }
        Ok(Self(key))
    }

    /// Returns the version of a state in which queries return these texts.
    pub(super) fn version(&self, results: &[Option<Vec<u8>>]) -> String {
        // With its length before it, so that no other texts give the same bytes.
        let lengths: Vec<[u8; 8]> = results
            .iter()
            .map(|text| {
                let length = text
                    .as_ref()
                    .map_or(-1, |text| i64::try_from(text.len()).unwrap_or(i64::MAX));
                length.to_be_bytes()
            })
            .collect();
        let pieces = results
            .iter()
            .zip(&lengths)
            .flat_map(|(text, length)| [&length[..], text.as_deref().unwrap_or_default()]);
        // `None` never occurs.
        keyed_with(&self.0, pieces).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Queries, StateKey};

    #[test]
    fn each_query_has_the_columns_of_its_table() {
        let query = |name: &str| Some(format!("SELECT {name}"));
        let queries = Queries {
            relay: query("relay"),
            credentials: query("credentials"),
            tls: query("tls"),
            ..Queries::default()
        };
        let column = |text: &'static str| Some(text.as_bytes());
        let columns = [column("k"), column("a"), column("b"), column("c")];
        for query in queries.tables() {
            assert!(query.name.ends_with(query.sql.trim_start_matches("SELECT ")));
            for number in 0..=4 {
                let fits = number == query.columns.len();
                assert_eq!(query.check_columns(number).is_ok(), fits);
                assert_eq!(query.row(&columns[..number]).is_some(), fits);
            }
        }
        assert_eq!(queries.tables().count(), 3);
        assert_eq!(Queries::default().tables().count(), 0);
    }

    #[test]
    fn a_version_tells_results_apart_and_hides_them() {
        let key = StateKey::random().unwrap();
        let text = |text: &str| Some(text.as_bytes().to_vec());
        let results = [
            vec![text("2:11"), text("1:7")],
            vec![text("1:7"), text("2:11")],
            vec![text("2:1"), text("11:7")],
            vec![text(""), None],
            vec![None, text("")],
            vec![None],
            vec![],
        ];
        let versions: HashSet<String> = results.iter().map(|texts| key.version(texts)).collect();
        assert_eq!(versions.len(), results.len());
        assert!(versions.iter().all(|version| version.starts_with("hmac-sha256:")));
        assert_eq!(key.version(&results[0]), key.version(&results[0]));
        assert_ne!(
            key.version(&results[0]),
            StateKey::random().unwrap().version(&results[0])
        );
    }
}
