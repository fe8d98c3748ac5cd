//! What is read belongs to one state.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use postmapd_follow::engine::{EngineErrorKind, Table};

use super::database::mariadb::MariaDb;
use super::follower::{Follower, Recorded};

const ROWS: usize = 200;

/// How many reads a test makes.
const READS: usize = 300;

/// Creates both tables with one generation of relays and passwords.
fn create(server: &MariaDb) {
    server.sql(
        "mail",
        &format!(
            "CREATE TABLE relay (k VARCHAR(99) PRIMARY KEY, v VARCHAR(99));
             CREATE TABLE credential (k VARCHAR(99) PRIMARY KEY, u VARCHAR(99), p VARCHAR(99));
             INSERT INTO relay SELECT CONCAT('@d', seq), '[r0]' FROM seq_1_to_{ROWS};
             INSERT INTO credential SELECT CONCAT('@d', seq), 'u', 'r0' FROM seq_1_to_{ROWS};"
        ),
    );
}

fn options(server: &MariaDb) -> OptsBuilder {
    OptsBuilder::default()
        .user(Some("root"))
        .db_name(Some("mail"))
        .socket(server.socket().to_str())
}

/// Runs `test` while another connection replaces all relays and all passwords together, again and again, with these
/// statements.
fn while_written(server: &MariaDb, statements: impl Fn(u32) -> Vec<String> + Sync, test: impl FnOnce()) {
    let ends = AtomicBool::new(false);
    let write = || async {
        let mut connection = Conn::new(options(server)).await.unwrap();
        let mut generation = 0;
        while !ends.load(Ordering::Relaxed) {
            generation += 1;
            for statement in statements(generation) {
                connection.query_drop(statement).await.unwrap();
            }
        }
        connection.disconnect().await.unwrap();
        generation
    };
    thread::scope(|scope| {
        let writer = scope.spawn(|| runtime().block_on(write()));
        {
            let _end = EndOnDrop(&ends);
            test();
        }
        assert!(writer.join().unwrap() > 10);
    });
}

/// Ends the writer, also after a panic.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// Whether a relay of one generation is with a password of another.
fn is_torn(relay: &[String], passwords: &[String]) -> bool {
    assert_eq!((relay.len(), passwords.len()), (ROWS, ROWS));
    let generation = relay[0].trim_matches(['[', ']']);
    let is_of_it = |text: &String| text.trim_matches(['[', ']']) == generation;
    !relay.iter().chain(passwords).all(is_of_it)
}

fn is_recorded_torn(read: &Recorded) -> bool {
    let column = |table: Table, index: usize| -> Vec<String> {
        let text = |row: &Vec<Option<Vec<u8>>>| String::from_utf8(row[index].clone().unwrap()).unwrap();
        read.rows[&table].iter().map(text).collect()
    };
    is_torn(&column(Table::Relay, 1), &column(Table::Credentials, 2))
}

fn follow(server: &MariaDb, relay: &str, credentials: &str) -> Follower {
    Follower::new(&format!(
        "source = \"{}\"\nhang = 60\nstale_after = 100\n[queries]\nrelay = \"{relay}\"\ncredentials = \"{credentials}\"",
        server.source("root")
    ))
}

#[test]
fn relays_and_passwords_are_of_one_transaction_and_with_read_committed_they_are_not() {
    let server = MariaDb::start();
    create(&server);
    let statements = |generation| {
        vec![
            "BEGIN".to_owned(),
            format!("UPDATE relay SET v = '[r{generation}]'"),
            format!("UPDATE credential SET p = 'r{generation}'"),
            "COMMIT".to_owned(),
        ]
    };
    while_written(&server, statements, || {
        let mut follower = follow(
            &server,
            "SELECT k, v FROM relay",
            "SELECT k, u, p FROM credential",
        );
        let mut connection = follower.connect();
        for _ in 0..READS {
            let (_, read) = follower.read(&mut connection);
            assert!(!is_recorded_torn(&read));
        }
        // The same reads with the isolation that most programs use: the writer does tear them.
        let torn = runtime().block_on(async {
            let mut connection = Conn::new(options(&server)).await.unwrap();
            let isolation = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
            connection.query_drop(isolation).await.unwrap();
            let mut torn = 0;
            for _ in 0..50 * READS {
                connection
                    .query_drop("START TRANSACTION READ ONLY")
                    .await
                    .unwrap();
                let relay: Vec<String> = connection.query("SELECT v FROM relay").await.unwrap();
                let passwords: Vec<String> = connection.query("SELECT p FROM credential").await.unwrap();
                connection.query_drop("COMMIT").await.unwrap();
                torn += usize::from(is_torn(&relay, &passwords));
                if torn > 0 {
                    break;
                }
            }
            connection.disconnect().await.unwrap();
            torn
        });
        assert!(torn > 0);
    });
}

#[test]
fn rows_of_tables_without_transactions_are_not_used_if_they_changed_while_they_were_read() {
    let server = MariaDb::start();
    server.sql(
        "mail",
        &format!(
            "CREATE TABLE both_of_them (k VARCHAR(99) PRIMARY KEY, v VARCHAR(99), u VARCHAR(99), p VARCHAR(99)) ENGINE = MyISAM;
             INSERT INTO both_of_them SELECT CONCAT('@d', seq), '[r0]', 'u', 'r0' FROM seq_1_to_{ROWS}"
        ),
    );
    let statement = |generation| {
        vec![format!(
            "UPDATE both_of_them SET v = '[r{generation}]', p = 'r{generation}'"
        )]
    };
    while_written(&server, statement, || {
        let mut follower = follow(
            &server,
            "SELECT k, v FROM both_of_them",
            "SELECT k, u, p FROM both_of_them",
        );
        let mut refused = 0;
        let mut torn = 0;
        let mut reads = 0;
        while reads < READS || refused == 0 || torn == 0 {
            reads += 1;
            let mut connection = follower.connect();
            let (reading, read) = follower.try_read(&mut connection);
            match reading {
                Ok(_) => assert!(!is_recorded_torn(&read)),
                Err(error) => {
                    assert_eq!(error.kind, EngineErrorKind::Changing);
                    assert!(error.kind.is_temporary());
                    refused += 1;
                    torn += usize::from(is_recorded_torn(&read));
                }
            }
        }
    });
}

#[test]
fn a_query_cannot_write() {
    let server = MariaDb::start();
    server.sql(
        "mail",
        "CREATE TABLE relay (k VARCHAR(99), v VARCHAR(99)); INSERT INTO relay VALUES ('@a', '[r1]');
         CREATE TABLE note (text VARCHAR(99));
         DELIMITER //
         CREATE FUNCTION written(t VARCHAR(99)) RETURNS VARCHAR(99) MODIFIES SQL DATA
         BEGIN INSERT INTO note VALUES (t); RETURN t; END//",
    );
    for queries in [
        "relay = \"SELECT k, written(v) FROM relay\"",
        "relay = \"SELECT k, v FROM relay; INSERT INTO note VALUES ('x')\"",
    ] {
        let mut follower = Follower::new(&format!(
            "source = \"{}\"\n[queries]\n{queries}",
            server.source("root")
        ));
        follower.error();
        assert_eq!(server.sql("mail", "SELECT COUNT(*) FROM note"), "0", "{queries}");
    }
}
