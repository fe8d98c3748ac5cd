//! The constants of the model: what the requests of a follower cost the database. The requests are those of postmapd-follow's own
//! client, through a proxy that counts bytes.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use postmapd_follow::engine::postgres::{Postgres as Engine, PostgresConnection};
use postmapd_follow::engine::{Connection as _, Engine as _, Extent, Rows, State, Table};
use postmapd_follow::rows::Row as TableRow;
use postmapd_follow::settings::Settings;
use tokio::runtime::{self, Runtime};

use super::proxy::Proxy;
use super::report::{Row, milliseconds, point};
use crate::apparatus::fleet::{SERVER, connect, init};
use crate::apparatus::process::memory;
use crate::apparatus::senders;
use crate::apparatus::sql::Sql;
use crate::database::certificates::Authority;
use crate::database::postgres::Postgres;
use crate::database::server::write_private;
use crate::scenarios::cost::processor_time_of_database;

const POLLS: u32 = 2000;
const CONNECTIONS: u32 = 100;
const CHANGES: u32 = 200;
const NOTIFICATIONS: u32 = 200;

pub(crate) fn measure(few: u64, many: u64) -> Vec<Row> {
    let mut rows = Points::new(few).of_requests();
    for senders in [few, many] {
        rows.extend(Points::new(senders).of_everything(senders));
    }
    rows.push(connections_with_tls(few));
    rows
}

struct Points {
    postgres: Postgres,
    sql: Sql,
    runtime: Runtime,
    engine: Engine,
    proxy: Proxy,
    _directory: tempfile::TempDir,
}

impl Points {
    fn new(senders: u64) -> Self {
        let postgres = Postgres::start_with(SERVER);
        init(&postgres);
        let mut sql = connect(&postgres);
        senders::fill(&mut sql, "postmapd", senders);
        // The work of the statements above ends.
        sql.run("CHECKPOINT");
        let socket = postgres.sockets().join(format!(".s.PGSQL.{}", postgres.port()));
        let proxy = Proxy::start(socket);
        let directory = tempfile::tempdir_in("/tmp").unwrap();
        let source = format!("postgres://reader@127.0.0.1:{}/mail", proxy.port());
        let engine = engine(
            directory.path(),
            &format!("source = \"{source}\"\ntls = \"off\"\n"),
        );
        Self {
            postgres,
            sql,
            runtime: runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            engine,
            proxy,
            _directory: directory,
        }
    }

    /// Runs something, and returns the processor time of the database and the bytes on the wire.
    fn cost<T>(&mut self, what: impl FnOnce(&mut Self) -> T) -> (T, Duration, u64) {
        let (time, bytes) = (
            processor_time_of_database(self.postgres.pid()),
            self.proxy.bytes(),
        );
        let result = what(self);
        let time = processor_time_of_database(self.postgres.pid()).saturating_sub(time);
        (result, time, self.proxy.bytes() - bytes)
    }

    fn connect(&mut self) -> PostgresConnection {
        self.runtime.block_on(self.engine.connect()).unwrap()
    }

    fn state(&self, connection: &mut PostgresConnection) -> State {
        self.runtime.block_on(connection.state()).unwrap()
    }

    fn of_requests(mut self) -> Vec<Row> {
        let mut connection = self.connect();
        let ((), poll, poll_bytes) = self.cost(|points| {
            for _ in 0..POLLS {
                points.state(&mut connection);
            }
        });
        let ((), new, new_bytes) = self.cost(|points| {
            for _ in 0..CONNECTIONS {
                let mut connection = points.connect();
                points.state(&mut connection);
            }
            // The processes of the database end.
            std::thread::sleep(Duration::from_millis(300));
        });
        let (mut change, mut change_bytes) = (Duration::ZERO, 0);
        let mut known = self.state(&mut connection);
        for number in 0..u64::from(CHANGES) {
            self.sql
                .run(&format!("{}; COMMIT", senders::change_one(number, number + 1)));
            let (state, time, bytes) = self.cost(|points| points.read_changes(&mut connection, &known));
            (known, change, change_bytes) = (state, change + time, change_bytes + bytes);
        }
        let wake_up = self.wake_up();
        vec![
            point("a poll", per(poll, POLLS, poll_bytes)),
            point(
                "a connection with its first poll, without TLS",
                per(new, CONNECTIONS, new_bytes),
            ),
            point(
                "a read of one changed sender (both tables)",
                per(change, CHANGES, change_bytes),
            ),
            point("a wake-up of a connection by NOTIFY", microseconds(wake_up)),
            point(
                "private memory of a connection in the database",
                self.memory_of_backend(),
            ),
        ]
    }

    /// The processor time of a notification for each connection that waits for it.
    fn wake_up(&mut self) -> Duration {
        let waiting: Vec<PostgresConnection> = (0..50).map(|_| self.connect()).collect();
        let notify = |points: &mut Self| {
            for _ in 0..NOTIFICATIONS {
                points.sql.run("NOTIFY postmapd");
            }
            std::thread::sleep(Duration::from_millis(300));
        };
        let ((), all, _) = self.cost(notify);
        drop(waiting);
        std::thread::sleep(Duration::from_millis(300));
        let ((), none, _) = self.cost(notify);
        all.saturating_sub(none) / NOTIFICATIONS / 50
    }

    fn of_everything(mut self, senders: u64) -> Vec<Row> {
        let mut connection = self.connect();
        let postgres = self.postgres.pid();
        let before = processor_time_of_database(postgres);
        let begun = Instant::now();
        let (first, time, bytes) = self.cost(|points| {
            let mut count = Count {
                postgres,
                first: None,
            };
            points
                .runtime
                .block_on(connection.read(None, &mut count))
                .unwrap();
            count.first.unwrap()
        });
        let took = begun.elapsed();
        let plan = self
            .sql
            .run("EXPLAIN SELECT key, nexthop FROM postmapd.relay ORDER BY key COLLATE \"C\"");
        let plan = plan[0][0].split("  ").next().unwrap_or_default().to_owned();
        vec![
            point(
                &format!("a read of everything, {senders} senders ({plan})"),
                format!(
                    "{}, of which {} before the first row; {:.1} MB; {} in all",
                    milliseconds(time),
                    milliseconds(first.saturating_sub(before)),
                    bytes as f64 / 1e6,
                    milliseconds(took),
                ),
            ),
            point(
                "private memory of the connection after it",
                self.memory_of_backend(),
            ),
        ]
    }

    /// Reads what has changed, and returns the new state.
    fn read_changes(&self, connection: &mut PostgresConnection, known: &State) -> State {
        let mut begun = Begun(None);
        let reading = self.runtime.block_on(connection.read(Some(known), &mut begun));
        assert_eq!(begun.0, Some(Extent::Changes));
        reading.unwrap().state
    }

    /// The private memory of the process of the database for a connection of a follower.
    fn memory_of_backend(&mut self) -> String {
        let backend = "SELECT pid FROM pg_stat_activity WHERE usename = 'reader' LIMIT 1";
        let pid = self.sql.value(backend).parse().unwrap();
        format!("{:.2} MB", memory(pid, "smaps_rollup", "Pss_Anon") as f64 / 1e6)
    }
}

/// Returns the client of postmapd-follow for these settings.
fn engine(directory: &Path, settings: &str) -> Engine {
    let file = directory.join("follow.toml");
    fs::write(&file, settings).unwrap();
    match Settings::read(&file) {
        Ok(settings) => Engine::new(&settings).unwrap(),
        Err(errors) => panic!("{}", errors[0]),
    }
}

fn per(time: Duration, count: u32, bytes: u64) -> String {
    format!(
        "{}, {} bytes",
        microseconds(time / count),
        bytes / u64::from(count)
    )
}

fn microseconds(time: Duration) -> String {
    format!("{:.0} µs", time.as_secs_f64() * 1e6)
}

/// The processor time of a connection that begins with a TLS handshake.
fn connections_with_tls(senders: u64) -> Row {
    let mut points = Points::new(senders);
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let authority = Authority::new();
    let certificate = authority.issue("localhost", "DNS:localhost");
    for (name, file) in [
        ("server.key", &certificate.key),
        ("server.crt", &certificate.certificate),
    ] {
        points.postgres.write_private(name, &fs::read(file).unwrap());
    }
    points.sql.run("ALTER ROLE reader PASSWORD 'secret'");
    points.postgres.set("ssl = on");
    let password = directory.path().join("password");
    write_private(&password, b"secret");
    let source = format!("postgres://reader@localhost:{}/mail", points.postgres.port());
    points.engine = engine(
        directory.path(),
        &format!(
            "source = \"{source}\"\nca = \"{}\"\npassword_file = \"{}\"\n",
            authority.certificate().display(),
            password.display()
        ),
    );
    let ((), new, _) = points.cost(|points| {
        for _ in 0..CONNECTIONS {
            let mut connection = points.connect();
            points.state(&mut connection);
        }
        std::thread::sleep(Duration::from_millis(300));
    });
    point(
        "a connection with its first poll, with TLS and SCRAM",
        microseconds(new / CONNECTIONS),
    )
}

/// Notes the processor time of the database at the first row.
struct Count {
    postgres: u32,
    first: Option<Duration>,
}

impl Rows for Count {
    fn begin(&mut self, _: Extent) {}

    fn table(&mut self, _: Table) {}

    fn row(&mut self, _: TableRow<'_>) {
        if self.first.is_none() {
            self.first = Some(processor_time_of_database(self.postgres));
        }
    }

    fn removed(&mut self, _: &[u8]) {}
}

/// Notes what kind of a read it is.
struct Begun(Option<Extent>);

impl Rows for Begun {
    fn begin(&mut self, extent: Extent) {
        self.0 = Some(extent);
    }

    fn table(&mut self, _: Table) {}

    fn row(&mut self, _: TableRow<'_>) {}

    fn removed(&mut self, _: &[u8]) {}
}
