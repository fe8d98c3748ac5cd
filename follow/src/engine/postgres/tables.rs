//! The tables of postmapd: their state, all rows, or the rows whose keys have changed.
//!
//! The table `state` has one row, and `change` the keys that each revision changed, both written by triggers
//! (`schema.sql`). What has changed since a revision is read only if `change` has that revision with the same version: after a failover
//! that lost a commit, the same number may be another state.

use std::fmt::Write as _;
use std::time::Duration;

use super::messages::Columns;
use super::session::Session;
use super::{begin, time};
use crate::engine::{EngineErrorKind, Extent, Reading, Rows, State, Table};
use crate::rows::Row;
use crate::schema::SCHEMA_VERSION;

/// What the statements are called in errors.
const STATE: &str = "the table state";

/// A table of the schema.
pub(crate) struct TableColumns {
    table: Table,
    /// Its name.
    pub(crate) name: &'static str,
    /// Its columns after the key.
    pub(crate) values: &'static [&'static str],
    /// Its letter in `change`.
    letter: char,
}

impl TableColumns {
    pub(crate) fn of(table: Table) -> &'static Self {
        match table {
            Table::Relay => &Self {
                table: Table::Relay,
                name: "relay",
                values: &["nexthop"],
                letter: 'r',
            },
            Table::Credentials => &Self {
                table: Table::Credentials,
                name: "credential",
                values: &["\"user\"", "password"],
                letter: 'c',
            },
            Table::Tls => &Self {
                table: Table::Tls,
                name: "relay_tls",
                values: &["value"],
                letter: 't',
            },
        }
    }
}

fn all() -> impl Iterator<Item = &'static TableColumns> {
    Table::ALL.into_iter().map(TableColumns::of)
}

/// The tables in their schema.
#[derive(Clone)]
pub(super) struct Tables {
    schema: String,
}

/// What the first query of a read says.
struct Begun {
    state: State,
    /// Whether `change` has the known state.
    is_continuous: bool,
    /// Whether what has changed since is only "everything".
    is_whole: bool,
    /// The letters of the tables with changes.
    changed: String,
}

impl Tables {
    /// `schema` is a name that SQL accepts ([`crate::settings`]).
    pub(super) fn new(schema: &str) -> Self {
        Self {
            schema: format!("\"{schema}\""),
        }
    }

    /// Returns the state.
    pub(super) async fn state(&self, session: &mut Session) -> Result<State, EngineErrorKind> {
        let sql = format!("SELECT {} FROM {}.state s", columns(), self.schema);
        let mut found = None;
        session
            .query(STATE, &sql, Some(4), |row| found = Some(state(row)))
            .await?;
        found.ok_or_else(no_state)?
    }

    /// Reads all tables, or what has changed since `known`.
    pub(super) async fn read(
        &self,
        session: &mut Session,
        hang: Duration,
        known: Option<&State>,
        rows: &mut dyn Rows,
    ) -> Result<Reading, EngineErrorKind> {
        let known = known.and_then(|known| Some((known.revision?, known.version.as_str())));
        let begun = self.begin(session, hang, known).await?;
        match known {
            Some((revision, _)) if begun.is_continuous && !begun.is_whole => {
                rows.begin(Extent::Changes);
                for table in all().filter(|table| begun.changed.contains(table.letter)) {
                    rows.table(table.table);
                    let sql = self.changes(table, revision);
                    read(session, table, &sql, 2, rows).await?;
                }
            }
            _ => {
                rows.begin(Extent::Everything);
                for table in all() {
                    rows.table(table.table);
                    let sql = self.everything(table);
                    read(session, table, &sql, 1, rows).await?;
                }
            }
        }
        session.query("COMMIT", "COMMIT", None, |_| {}).await?;
        Ok(Reading {
            state: begun.state,
            is_continuous: begun.is_continuous,
        })
    }

    async fn begin(
        &self,
        session: &mut Session,
        hang: Duration,
        known: Option<(u64, &str)>,
    ) -> Result<Begun, EngineErrorKind> {
        let mut sql = begin(session, hang);
        // A version comes from a file: only a UUID goes into a statement.
        let known = known.filter(|(_, version)| is_uuid(version));
        let schema = &self.schema;
        let since = match known {
            Some((revision, version)) => format!(
                "s.pruned <= {revision} AND EXISTS (SELECT FROM {schema}.change c WHERE c.revision = {revision} AND c.version::text = \
                 '{version}'), EXISTS (SELECT FROM {schema}.change c WHERE c.revision > {revision} AND c.key IS NULL), (SELECT \
                 string_agg(DISTINCT c.map::text, '') FROM {schema}.change c WHERE c.revision > {revision})"
            ),
            None => "false, false, NULL".to_owned(),
        };
        if known.is_some() {
            // Without statistics of `change`, which it has late, the planner would read all of a table for one changed key.
            sql.push_str("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; ");
        }
        // Writing to a String does not fail.
        let _ = write!(sql, "SELECT {}, {since} FROM {schema}.state s", columns());
        let mut found = None;
        let handle = |row: &Columns<'_>| {
            let is_true = |column| row.get(column) == Some(b"t");
            found = Some(state(row).map(|state| Begun {
                state,
                is_continuous: is_true(4),
                is_whole: is_true(5),
                changed: row.parsed(6).unwrap_or_default(),
            }));
        };
        session.query(STATE, &sql, Some(7), handle).await?;
        found.ok_or_else(no_state)?
    }

    /// Returns the query for all rows: key and values.
    fn everything(&self, table: &TableColumns) -> String {
        let TableColumns { name, values, .. } = table;
        let (schema, values) = (&self.schema, values.join(", "));
        format!("SELECT key, {values} FROM {schema}.{name} ORDER BY key COLLATE \"C\"")
    }

    /// Returns the query for the keys that have changed: key, whether there is a row, and values.
    fn changes(&self, table: &TableColumns, revision: u64) -> String {
        let TableColumns {
            name, values, letter, ..
        } = table;
        let (schema, values) = (&self.schema, values.join(", "));
        format!(
            "SELECT c.key, t.key IS NOT NULL, {values} FROM (SELECT DISTINCT key COLLATE \"C\" AS key FROM {schema}.change WHERE \
             revision > {revision} AND map = '{letter}') c LEFT JOIN {schema}.{name} t ON t.key = c.key ORDER BY c.key COLLATE \"C\""
        )
    }
}

/// Returns the columns of the state: schema version, revision, version, and time.
fn columns() -> &'static str {
    "s.schema_version, s.revision, s.version, (extract(epoch FROM s.at) * 1000000)::bigint"
}

fn state(row: &Columns<'_>) -> Result<State, EngineErrorKind> {
    let schema_version: u32 = row.parsed(0).unwrap_or_default();
    if schema_version != SCHEMA_VERSION {
        let found =
            format!("the schema has version {schema_version}, and this program reads {SCHEMA_VERSION}");
        let help = "install the postmapd-follow that belongs to it";
        return Err(EngineErrorKind::Tables(found, help));
    }
    let parts = row.parsed(1).zip(row.parsed::<String>(2)).zip(row.parsed(3));
    let parts = parts.filter(|((_, version), _)| is_uuid(version));
    let ((revision, version), microseconds) = parts.ok_or_else(no_state)?;
    Ok(State {
        revision: Some(revision),
        version,
        committed: time(microseconds),
    })
}

/// Whether a text can be that of a UUID.
fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-')
}

fn no_state() -> EngineErrorKind {
    EngineErrorKind::Result {
        query: STATE,
        reason: "there is not exactly one row with revision, version and time".to_owned(),
    }
}

/// Reads the rows of a table. The values begin at the column `first`; the one before is the key, or whether there is a row.
async fn read(
    session: &mut Session,
    table: &TableColumns,
    sql: &str,
    first: usize,
    rows: &mut dyn Rows,
) -> Result<(), EngineErrorKind> {
    let handle = |columns: &Columns<'_>| {
        let key = columns.get(0).unwrap_or_default();
        if first == 2 && columns.get(1) != Some(b"t") {
            rows.removed(key);
        } else {
            rows.row(row(table.table, key, columns, first));
        }
    };
    let columns = first + table.values.len();
    session
        .query(table_name(table.table), sql, Some(columns), handle)
        .await
}

/// Returns the name of a table in errors.
fn table_name(table: Table) -> &'static str {
    match table {
        Table::Relay => "the table relay",
        Table::Credentials => "the table credential",
        Table::Tls => "the table relay_tls",
    }
}

/// Returns a row of a table, whose values begin at the column `first`.
pub(super) fn row<'a>(table: Table, key: &'a [u8], columns: &Columns<'a>, first: usize) -> Row<'a> {
    match table {
        Table::Relay => Row::Relay {
            key,
            next_hop: columns.get(first),
        },
        Table::Credentials => Row::Credentials {
            key,
            user: columns.get(first),
            password: columns.get(first + 1),
        },
        Table::Tls => Row::Tls {
            key,
            value: columns.get(first),
        },
    }
}
