//! The PostgreSQL engine of postmapd-follow against a server of the tests, and what it reads.

use std::path::Path;

use postmapd_follow::engine::postgres::{Postgres as Engine, PostgresConnection};
use postmapd_follow::engine::{Connection, Engine as _, EngineError, Extent, Reading, Rows, State, Table};
use postmapd_follow::rows::Row;
use postmapd_follow::schema::ddl;
use postmapd_follow::settings::Settings;

use super::postgres::Postgres;

/// Creates the tables of postmapd, and the user `reader` who may read them, with the password `of reader`.
pub fn init(server: &Postgres) {
    server.psql("mail", "CREATE ROLE reader LOGIN PASSWORD 'of reader'");
    server.psql("mail", &ddl("postmapd", Some("reader")));
}

/// The settings for the user `reader` at the UNIX socket of a server, with more lines.
pub fn settings(server: &Postgres, lines: &str) -> Settings {
    settings_of(&server.source("reader"), lines)
}

/// The settings for a source, with more lines. `hang` is long, because the machine may be slow.
pub fn settings_of(source: &str, lines: &str) -> Settings {
    let hang = if lines.contains("hang") { "" } else { "hang = 30\n" };
    let text = format!("source = \"{source}\"\n{hang}stale_after = 600\n{lines}\n");
    Settings::parse(Path::new("follow.toml"), text.as_bytes()).unwrap()
}

/// Runs a future as the program does, in one thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future)
}

/// Connects.
pub async fn connect(settings: &Settings) -> Result<PostgresConnection, EngineError> {
    Engine::new(settings).unwrap().connect().await
}

/// The result of a read, and what it returned before it ended.
#[derive(Debug)]
pub struct Read {
    pub reading: Result<Reading, EngineError>,
    pub rows: Recorded,
}

/// Connects and reads once.
pub fn read(settings: &Settings, known: Option<&State>) -> Read {
    block_on(async {
        let mut rows = Recorded::default();
        let reading = match connect(settings).await {
            Ok(mut connection) => connection.read(known, &mut rows).await,
            Err(error) => Err(error),
        };
        Read { reading, rows }
    })
}

/// A row, or a key without one.
pub type Line = (Table, Vec<u8>, Option<Vec<Option<Vec<u8>>>>);

/// What was read.
#[derive(Debug, Default)]
pub struct Recorded {
    pub extent: Option<Extent>,
    pub tables: Vec<Table>,
    pub lines: Vec<Line>,
}

impl Recorded {
    /// The tables that came, in their order.
    pub fn tables(&self) -> Vec<Table> {
        self.tables.clone()
    }

    /// The rows of a table as psql shows them, with `(null)` for NULL.
    pub fn text(&self, table: Table) -> String {
        let lines = self.lines.iter().filter(|(of, ..)| *of == table);
        let text = |(_, key, values): &Line| {
            let key = String::from_utf8_lossy(key).into_owned();
            let Some(values) = values else {
                return format!("{key} (removed)");
            };
            let values = values.iter().map(|value| match value {
                Some(value) => String::from_utf8_lossy(value).into_owned(),
                None => "(null)".to_owned(),
            });
            std::iter::once(key).chain(values).collect::<Vec<_>>().join("|")
        };
        lines.map(text).collect::<Vec<_>>().join("\n")
    }

    /// The values of a key, if it has a row.
    pub fn values(&self, table: Table, key: &str) -> Option<Vec<Option<Vec<u8>>>> {
        let mut lines = self.lines.iter();
        let line = lines.find(|(of, found, _)| *of == table && found == key.as_bytes());
        line.and_then(|(.., values)| values.clone())
    }
}

impl Rows for Recorded {
    fn begin(&mut self, extent: Extent) {
        assert_eq!(self.extent.replace(extent), None, "one begin");
    }

    fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    fn row(&mut self, row: Row<'_>) {
        let owned = |value: Option<&[u8]>| value.map(<[u8]>::to_vec);
        let (table, key, values) = match row {
            Row::Relay { key, next_hop } => (Table::Relay, key, vec![owned(next_hop)]),
            Row::Credentials { key, user, password } => {
                (Table::Credentials, key, vec![owned(user), owned(password)])
            }
            Row::Tls { key, value } => (Table::Tls, key, vec![owned(value)]),
        };
        assert_eq!(self.tables.last(), Some(&table), "a row after its table");
        self.lines.push((table, key.to_vec(), Some(values)));
    }

    fn removed(&mut self, key: &[u8]) {
        let table = *self.tables.last().unwrap();
        self.lines.push((table, key.to_vec(), None));
    }
}
