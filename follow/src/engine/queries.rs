//! `[queries]`: the query of each table, and which state the results are in.
//!
//! The results have no revision, so a state is identified by what the query `version` returns or, without one, by a
//! fingerprint of the result of each query, which the database computes: the number of rows, and sums of hashes of whole rows. Sums
//! do not depend on the order of the rows, and a hash is not linear, so that two rows that exchange a value change them.
//!
//! A fingerprint of few rows would allow passwords to be tried. So it is only shown as an HMAC with a random key of this
//! process: after a restart, the same rows are another state.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use postmapd::os::digest::{KeyedDigest, keyed_with};
use postmapd::os::secret::Secret;

use super::{State, Table};
use crate::random;
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
}

/// The digest of what the queries return that identify a state. Not their text, which may be long.
pub(super) struct Results {
    digest: Option<KeyedDigest>,
}

impl Default for Results {
    fn default() -> Self {
        // The key is for what is shown of it ([`States::version`]).
        Self {
            digest: KeyedDigest::new(b""),
        }
    }
}

impl Results {
    /// Appends a column of a row.
    pub(super) fn push(&mut self, column: Option<&[u8]>) {
        // The length comes before it, so that no other columns give the same bytes.
        let length = column.map_or(-1, |column| i64::try_from(column.len()).unwrap_or(i64::MAX));
        if let Some(digest) = &mut self.digest {
            digest.update(&length.to_ne_bytes());
            digest.update(column.unwrap_or_default());
        }
    }
}

/// The states that the results of queries were in.
#[derive(Clone)]
pub(super) struct States {
    /// The key that hides fingerprints.
    key: Arc<Secret>,
    /// The last state, which has the time when it was first seen, on whichever connection.
    seen: Arc<Mutex<Option<State>>>,
}

impl States {
    /// Creates those of a process.
    ///
    /// # Errors
    ///
    /// The system provides no random numbers.
    pub(super) fn new() -> io::Result<Self> {
        let mut key = Secret::default();
        key.append(&[0; 32]);
        random::fill(key.expose_mut())?;
        Ok(Self {
            key: Arc::new(key),
            seen: Arc::default(),
        })
    }

    /// Returns the version of these results.
    pub(super) fn version(&self, results: Results) -> String {
        // `None` never occurs.
        let digest = results.digest.map(KeyedDigest::finish).unwrap_or_default();
        keyed_with(self.key.expose(), [digest.as_bytes()]).unwrap_or_default()
    }

    /// Returns the state with this version.
    pub(super) fn state(&self, version: String) -> State {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let state = match seen.take() {
            Some(state) if state.version == version => state,
            _ => State {
                revision: None,
                version,
                committed: SystemTime::now(),
            },
        };
        *seen = Some(state.clone());
        state
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Results, States};

    #[test]
    fn a_version_tells_results_apart_and_hides_them() {
        let of = |columns: &[Option<&str>]| {
            let mut results = Results::default();
            for column in columns {
                results.push(column.map(str::as_bytes));
            }
            results
        };
        let states = States::new().unwrap();
        let columns = [
            &[Some("2:11"), Some("1:7")][..],
            &[Some("1:7"), Some("2:11")],
            &[Some("2:1"), Some("11:7")],
            &[Some(""), None],
            &[None, Some("")],
            &[None],
            &[],
        ];
        let versions: HashSet<String> = columns
            .iter()
            .map(|columns| states.version(of(columns)))
            .collect();
        assert_eq!(versions.len(), columns.len());
        assert!(versions.iter().all(|version| version.starts_with("hmac-sha256:")));
        let version = states.version(of(columns[0]));
        assert_eq!(states.version(of(columns[0])), version);
        assert_ne!(States::new().unwrap().version(of(columns[0])), version);
    }

    #[test]
    fn a_state_has_the_time_when_it_was_first_seen() {
        let states = States::new().unwrap();
        let first = states.state("a".to_owned());
        assert_eq!(states.clone().state("a".to_owned()), first);
        let second = states.state("b".to_owned());
        assert!(second.committed >= first.committed);
        assert_eq!((second.revision, second.version.as_str()), (None, "b"));
    }
}
