//! What the tests do with the engine.

use std::collections::HashMap;
use std::path::Path;

use postmapd_follow::engine::mysql::{MariaDb as Engine, MariaDbConnection};
use postmapd_follow::engine::{
    Connection as _, Engine as _, EngineError, EngineErrorKind, Extent, Reading, Rows, State, Table,
};
use postmapd_follow::rows::Row;
use postmapd_follow::settings::Settings;
use tokio::runtime::Runtime;

use super::database::processes::wait_for;

/// The columns of a row.
pub type Columns = Vec<Option<Vec<u8>>>;

/// All that a connection has passed on.
#[derive(Default)]
pub struct Recorded {
    pub extents: Vec<Extent>,
    pub tables: Vec<Table>,
    pub rows: HashMap<Table, Vec<Columns>>,
}

impl Rows for Recorded {
    fn begin(&mut self, extent: Extent) {
        self.extents.push(extent);
    }

    fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    fn row(&mut self, row: Row<'_>) {
        let bytes = <[u8]>::to_vec;
        let (table, columns) = match row {
            Row::Relay { key, next_hop } => (Table::Relay, vec![Some(key), next_hop]),
            Row::Credentials { key, user, password } => (Table::Credentials, vec![Some(key), user, password]),
            Row::Tls { key, value } => (Table::Tls, vec![Some(key), value]),
        };
        assert_eq!(self.tables.last(), Some(&table));
        let columns = columns.into_iter().map(|column| column.map(bytes)).collect();
        self.rows.entry(table).or_default().push(columns);
    }

    fn removed(&mut self, _: &[u8]) {
        panic!("a key was removed");
    }
}

/// A runtime as the program has it, and an engine.
pub struct Follower {
    pub runtime: Runtime,
    engine: Engine,
}

impl Follower {
    /// Reads the settings, which are those of a file. `hang` is long unless it is set, because the machine may be slow.
    pub fn new(settings: &str) -> Self {
        let hang = if settings.contains("hang = ") {
            ""
        } else {
            "hang = 30\nstale_after = 600\n"
        };
        let text = format!("{hang}{settings}");
        let settings = Settings::parse(Path::new("follow.toml"), text.as_bytes()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            runtime,
            engine: Engine::new(&settings).unwrap(),
        }
    }

    pub fn try_connect(&mut self) -> Result<MariaDbConnection, EngineError> {
        let connected = self.runtime.block_on(self.engine.connect());
        // The library ends a connection that it drops with a task, which panics or waits after an error. It would not end here,
        // where nothing runs the runtime; the thread that has looked up a name does.
        let metrics = self.runtime.metrics();
        wait_for("the end of all tasks", || {
            (metrics.num_alive_tasks() == 0).then_some(())
        });
        connected
    }

    pub fn connect(&mut self) -> MariaDbConnection {
        self.try_connect().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Connects, with another attempt where a loaded machine is slower than `hang`.
    pub fn connect_patiently(&mut self) -> MariaDbConnection {
        wait_for("a connection", || match self.try_connect() {
            Ok(connection) => Some(connection),
            Err(error) => {
                assert!(matches!(error.kind, EngineErrorKind::Hang(_)), "{error}");
                None
            }
        })
    }

    pub fn connect_error(&mut self) -> EngineErrorKind {
        match self.try_connect() {
            Ok(_) => panic!("it connects"),
            Err(error) => error.kind,
        }
    }

    pub fn try_state(&self, connection: &mut MariaDbConnection) -> Result<State, EngineError> {
        self.runtime.block_on(connection.state())
    }

    pub fn state(&self, connection: &mut MariaDbConnection) -> State {
        self.try_state(connection)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn try_read(&self, connection: &mut MariaDbConnection) -> (Result<Reading, EngineError>, Recorded) {
        let mut recorded = Recorded::default();
        let reading = self.runtime.block_on(connection.read(None, &mut recorded));
        (reading, recorded)
    }

    pub fn read(&self, connection: &mut MariaDbConnection) -> (State, Recorded) {
        let (reading, recorded) = self.try_read(connection);
        let reading = reading.unwrap_or_else(|error| panic!("{error}"));
        assert!(!reading.is_continuous);
        assert_eq!(recorded.extents, [Extent::Everything]);
        (reading.state, recorded)
    }

    /// Reads into something else.
    pub fn read_into(&self, connection: &mut MariaDbConnection, rows: &mut dyn Rows) -> State {
        let reading = self.runtime.block_on(connection.read(None, rows));
        reading.unwrap_or_else(|error| panic!("{error}")).state
    }

    /// The error of a connection, of the state or of the rows, which must be the same for the last two.
    pub fn error(&mut self) -> EngineErrorKind {
        let mut connection = match self.try_connect() {
            Ok(connection) => connection,
            Err(error) => return error.kind,
        };
        let state = self.try_state(&mut connection).unwrap_err();
        let mut connection = self.connect();
        let (reading, _) = self.try_read(&mut connection);
        assert_eq!(reading.unwrap_err(), state);
        state.kind
    }
}
