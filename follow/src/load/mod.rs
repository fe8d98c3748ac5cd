//! The files of a directory as rows of the tables of postmapd in PostgreSQL: the reverse of [`crate::dump`].
//!
//! ```text
//! file ─► entries ─► COPY into a temporary table ─► what differs ─► DELETE, UPDATE, INSERT ─► COMMIT
//! ```
//!
//! All tables change in one transaction, which other writers wait for, so servers see all of it or nothing, and a load that changes
//! nothing makes no new state. Values are sent as the input of COPY: a server may log statements, and does not log that.
//!
//! A table without a file keeps its rows. The constraints of the tables reject some entries that a file may have
//! ([`crate::schema`]); these are reported by key.

mod entries;

use std::path::PathBuf;

use postmapd::os::printable::{printable, printable_path};
use thiserror::Error;

use crate::engine::postgres::{PostgresConnection, TableColumns};
use crate::engine::{EngineError, EngineErrorKind, Table};
pub(crate) use entries::{Entries, EntriesError};

/// The changes that are listed one by one.
pub(crate) const MAX_LISTED: usize = 1000;

/// The rejected entries that are reported.
const MAX_REJECTED: usize = 20;

/// What a load may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing: it says what it would do.
    DryRun,
    /// Add rows, if nothing else is needed.
    Add,
    /// Everything: change and remove rows, too.
    Replace,
}

/// What happens to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is new.
    Added,
    /// It has other values.
    Changed,
    /// No file has it.
    Removed,
}

impl Kind {
    /// Returns the word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Added, Self::Changed, Self::Removed]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// What differs in a table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The name of the table in the database.
    pub(crate) table: &'static str,
    /// The first changes, with the keys as they may be shown.
    pub(crate) listed: Vec<(String, Kind)>,
    /// The numbers of new, changed and removed rows.
    pub(crate) counts: [u64; 3],
}

/// The result of a load.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The tables are as the files.
    Loaded,
    /// Nothing was changed, because rows would have been changed or removed.
    Refused,
    /// Nothing was changed, as was asked for.
    DryRun,
}

/// Why nothing was loaded.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    /// A file.
    #[error(transparent)]
    Entries(#[from] EntriesError),
    /// The database.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The directory has none of the files.
    #[error("{}: error: the directory does not exist, or has no postfix-relaymap.cf, postfix-sasl-password.cf or postfix-relay-tls.cf", printable_path(.0))]
    NoFile(PathBuf),
    /// The tables reject entries.
    #[error("{}", .0.join("\n"))]
    Rejected(Vec<String>),
}

/// The table of a file in the database.
struct Target(&'static TableColumns);

const WHAT: &str = "the load";

impl Target {
    fn of(table: Table) -> Self {
        Self(TableColumns::of(table))
    }

    /// Returns the name of the temporary table with the entries of the file.
    fn temporary(&self) -> String {
        format!("pg_temp.loaded_{}", self.0.name)
    }

    /// Returns the columns after the key.
    fn values(&self) -> String {
        self.0.values.join(", ")
    }

    /// Returns the columns after the key of this alias.
    fn values_of(&self, alias: &str) -> String {
        let columns: Vec<String> = self
            .0
            .values
            .iter()
            .map(|column| format!("{alias}.{column}"))
            .collect();
        columns.join(", ")
    }

    fn create(&self) -> String {
        format!(
            "CREATE TEMPORARY TABLE loaded_{} (key text COLLATE \"C\" PRIMARY KEY, {} text) ON COMMIT DROP",
            self.0.name,
            self.0.values.join(" text, ")
        )
    }

    fn copy(&self) -> String {
        format!("COPY {} (key, {}) FROM STDIN", self.temporary(), self.values())
    }

    /// Returns the condition that a row of the alias `t` has other values than that of the alias `l`.
    fn differs(&self) -> String {
        format!(
            "ROW({}) IS DISTINCT FROM ROW({})",
            self.values_of("t"),
            self.values_of("l")
        )
    }

    /// Returns the statement that writes down what differs: what happens, and the key.
    fn compare(&self, schema: &str) -> String {
        let (name, temporary, differs) = (self.0.name, self.temporary(), self.differs());
        format!(
            "CREATE TEMPORARY TABLE difference_{name} ON COMMIT DROP AS SELECT \
             CASE WHEN t.key IS NULL THEN 'added' WHEN l.key IS NULL THEN 'removed' ELSE 'changed' END AS kind, \
             coalesce(l.key, t.key::text) COLLATE \"C\" AS key \
             FROM {temporary} l FULL JOIN {schema}.{name} t ON t.key::text COLLATE \"C\" = l.key \
             WHERE t.key IS NULL OR l.key IS NULL OR {differs}"
        )
    }

    /// Returns the statements that make the table equal to the temporary one. Removed rows come first: a new key may differ from
    /// one of them in letter case only.
    fn apply(&self, schema: &str) -> String {
        let (name, temporary, values, differs) =
            (self.0.name, self.temporary(), self.values(), self.differs());
        let columns = self.0.values.iter();
        let assignments: Vec<String> = columns.map(|column| format!("{column} = l.{column}")).collect();
        let assignments = assignments.join(", ");
        format!(
            "DELETE FROM {schema}.{name} t WHERE t.key IN (SELECT key FROM difference_{name} WHERE kind = 'removed'); \
             UPDATE {schema}.{name} t SET {assignments} FROM {temporary} l WHERE t.key::text COLLATE \"C\" = l.key AND {differs}; \
             INSERT INTO {schema}.{name} (key, {values}) SELECT key, {values} FROM {temporary} \
             WHERE key IN (SELECT key FROM difference_{name} WHERE kind = 'added')"
        )
    }

    /// Returns the statements that find the rows that the table rejects, by a table like it.
    fn find_rejected(&self, schema: &str) -> String {
        let (name, temporary, values, fields) =
            (self.0.name, self.temporary(), self.values(), self.values_of("r"));
        format!(
            "CREATE TEMPORARY TABLE like_{name} (LIKE {schema}.{name} INCLUDING ALL) ON COMMIT DROP; \
             CREATE TEMPORARY TABLE rejected_{name} (key text, reason text) ON COMMIT DROP; \
             DO $do$ DECLARE r record; reason text; number integer := 0; BEGIN \
             FOR r IN SELECT * FROM {temporary} ORDER BY key LOOP BEGIN \
             INSERT INTO pg_temp.like_{name} (key, {values}) VALUES (r.key, {fields}); \
             EXCEPTION WHEN integrity_constraint_violation OR data_exception THEN \
             GET STACKED DIAGNOSTICS reason = CONSTRAINT_NAME; \
             INSERT INTO pg_temp.rejected_{name} VALUES (r.key, reason); number := number + 1; \
             EXIT WHEN number >= {MAX_REJECTED}; END; END LOOP; END $do$"
        )
    }
}

/// Makes the tables of the schema equal to the entries, as far as `mode` allows it. Returns what differs, or has differed.
///
/// # Errors
///
/// Nothing was changed.
pub(crate) async fn load(
    connection: &mut PostgresConnection,
    schema: &str,
    files: &[(Table, Entries)],
    mode: Mode,
) -> Result<(Vec<Difference>, Outcome), LoadError> {
    let schema = format!("\"{schema}\"");
    let begin = "BEGIN; SET LOCAL lock_timeout = '30s'; SET LOCAL statement_timeout = '30min'; SET LOCAL client_min_messages = error";
    connection.execute(WHAT, begin).await?;
    // Any client that writes waits for this row ([`crate::schema`]), so nothing changes between the comparison and the end.
    let lock = format!("SELECT revision FROM {schema}.state FOR UPDATE");
    connection.texts(WHAT, &lock, 1).await?;
    let mut differences = Vec::new();
    for (table, entries) in files {
        let target = Target::of(*table);
        connection.execute(WHAT, &target.create()).await?;
        connection.copy_in(WHAT, &target.copy(), &entries.rows).await?;
        connection.execute(WHAT, &target.compare(&schema)).await?;
        differences.push(difference(connection, *table, target.0.name).await?);
    }
    let only_adds = differences
        .iter()
        .all(|difference| matches!(difference.counts, [_, 0, 0]));
    let outcome = match mode {
        Mode::DryRun => Outcome::DryRun,
        Mode::Add if !only_adds => Outcome::Refused,
        Mode::Add | Mode::Replace => Outcome::Loaded,
    };
    if outcome == Outcome::Loaded {
        for (table, _) in files {
            let target = Target::of(*table);
            if let Err(error) = connection.execute(WHAT, &target.apply(&schema)).await {
                return Err(explain(connection, &schema, files, error).await);
            }
        }
    }
    let end = if outcome == Outcome::Loaded {
        "COMMIT"
    } else {
        "ROLLBACK"
    };
    connection.execute(WHAT, end).await?;
    Ok((differences, outcome))
}

async fn difference(
    connection: &mut PostgresConnection,
    table: Table,
    name: &'static str,
) -> Result<Difference, EngineError> {
    let counts = format!("SELECT kind, count(*) FROM pg_temp.difference_{name} GROUP BY kind");
    let mut difference = Difference {
        table: name,
        listed: Vec::new(),
        counts: [0; 3],
    };
    for row in connection.texts(WHAT, &counts, 2).await? {
        if let [kind, count] = row.as_slice()
            && let Some(kind) = Kind::parse(kind)
            && let Some(number) = difference.counts.get_mut(kind as usize)
        {
            *number = count.parse().unwrap_or_default();
        }
    }
    let keys = format!("SELECT kind, key FROM pg_temp.difference_{name} ORDER BY key LIMIT {MAX_LISTED}");
    for row in connection.texts(WHAT, &keys, 2).await? {
        if let [kind, key] = row.as_slice()
            && let Some(kind) = Kind::parse(kind)
        {
            difference.listed.push((shown_key(table, key), kind));
        }
    }
    Ok(difference)
}

/// Finds the entries that are the reason of an error, in another transaction.
async fn explain(
    connection: &mut PostgresConnection,
    schema: &str,
    files: &[(Table, Entries)],
    error: EngineError,
) -> LoadError {
    // The tables reject nothing for any other reason.
    if !matches!(error.kind, EngineErrorKind::Query { .. }) {
        return error.into();
    }
    match rejected(connection, schema, files).await {
        Ok(rejected) if !rejected.is_empty() => LoadError::Rejected(rejected),
        _ => error.into(),
    }
}

async fn rejected(
    connection: &mut PostgresConnection,
    schema: &str,
    files: &[(Table, Entries)],
) -> Result<Vec<String>, EngineError> {
    let mut rejected = Vec::new();
    connection
        .execute(WHAT, "ROLLBACK; BEGIN; SET LOCAL client_min_messages = error")
        .await?;
    for (table, entries) in files {
        let target = Target::of(*table);
        connection.execute(WHAT, &target.create()).await?;
        connection.copy_in(WHAT, &target.copy(), &entries.rows).await?;
        connection.execute(WHAT, &target.find_rejected(schema)).await?;
        let query = format!("SELECT key, reason FROM pg_temp.rejected_{}", target.0.name);
        for row in connection.texts(WHAT, &query, 2).await? {
            if let [key, reason] = row.as_slice() {
                rejected.push(format!(
                    "{}: the entry {} is rejected by the constraint {reason} of the table {}; change it in the file",
                    table.spec().file,
                    shown_key(*table, key),
                    target.0.name
                ));
            }
        }
    }
    connection.execute(WHAT, "ROLLBACK").await?;
    Ok(rejected)
}

/// Returns a key as it may be shown. One of the credentials that is a bare word may be a password in the wrong column.
fn shown_key(table: Table, key: &str) -> String {
    if table == Table::Credentials && !key.contains(['@', '.', ':', '[', '<']) {
        return "********".to_owned();
    }
    printable(key.as_bytes())
}
