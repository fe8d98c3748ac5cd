//! What postmapd-follow sees of a PostgreSQL server that is killed, stopped, frozen or blocked, and reads that are consistent
//! meanwhile.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod database;

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use database::follower::{Recorded, block_on, connect, init, read, settings, settings_of};
use database::postgres::Postgres;
use database::processes::{DEADLINE, wait_for};
use postmapd_follow::engine::postgres::PostgresConnection;
use postmapd_follow::engine::{Connection, EngineErrorKind, Table};
use postmapd_follow::settings::Settings;

fn server() -> Postgres {
    let server = Postgres::start();
    init(&server);
    server.psql("mail", "INSERT INTO postmapd.relay VALUES ('@a.example', '[r0]')");
    server.psql(
        "mail",
        "INSERT INTO postmapd.credential VALUES ('@a.example', 'u', 'p0')",
    );
    server
}

#[test]
fn a_server_that_is_killed_or_stopped_is_noticed_at_once_and_found_again() {
    let mut server = server();
    for kill in [true, false] {
        block_on(async {
            let mut connection = connect(&settings(&server, "")).await.unwrap();
            let before = connection.state().await.unwrap();
            if kill {
                server.kill();
            } else {
                server.stop();
            }
            // Without a deadline: the end of the connection is a hint.
            connection.hint().await;
            let error = connection.state().await.unwrap_err();
            assert!(matches!(error.kind, EngineErrorKind::Lost(_)), "{error}");
            let error = connect(&settings(&server, "")).await.err().unwrap();
            assert!(
                matches!(error.kind, EngineErrorKind::Connect(_)) && error.kind.is_temporary(),
                "{error}"
            );
            server.start_again();
            let mut connection = connect(&settings(&server, "")).await.unwrap();
            assert_eq!(connection.state().await.unwrap(), before);
        });
    }
}

/// Connects, with another attempt where a loaded machine is slower than `hang`.
async fn patiently(settings: &Settings) -> PostgresConnection {
    let start = Instant::now();
    loop {
        match connect(settings).await {
            Ok(connection) => return connection,
            Err(error) => assert!(start.elapsed() < DEADLINE, "{error}"),
        }
    }
}

#[test]
fn a_frozen_server_is_as_far_away_as_one_that_refuses() {
    let server = server();
    let settings = settings(&server, "hang = 2");
    block_on(async {
        let (mut idle, mut busy) = (patiently(&settings).await, patiently(&settings).await);
        server.freeze();
        let hangs = EngineErrorKind::Hang("2s".to_owned());
        assert_eq!(idle.state().await.unwrap_err().kind, hangs);
        let mut rows = Recorded::default();
        assert_eq!(busy.read(None, &mut rows).await.unwrap_err().kind, hangs);
        // The kernel accepts for the server, which does not answer.
        assert_eq!(connect(&settings).await.err().unwrap().kind, hangs);
        server.thaw();
    });
    wait_for("an answer of a server that continues", || {
        read(&settings, None).reading.ok()
    });
}

#[test]
fn a_table_that_is_locked_ends_the_read_and_leaves_no_query_behind() {
    let server = server();
    let lock = server.lock("postmapd.relay");
    let error = read(&settings(&server, "hang = 0.5"), None).reading.unwrap_err();
    assert!(
        matches!(
            error.kind,
            EngineErrorKind::Query { .. } | EngineErrorKind::Hang(_)
        ),
        "{error}"
    );
    wait_for("the end of the query", || {
        let others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'postmapd-follow' AND state <> 'idle'";
        (server.psql("mail", others) == "0").then_some(())
    });
    drop(lock);
    assert!(read(&settings(&server, ""), None).reading.is_ok());
}

/// Changes the next hop and the password to the same number, again and again, in one transaction each.
const WRITER: &str = "DO $$ BEGIN FOR i IN 1..10000000 LOOP
    UPDATE postmapd.relay SET nexthop = '[r' || i || ']'; UPDATE postmapd.credential SET password = 'p' || i; COMMIT;
  END LOOP; END $$";

#[test]
fn a_next_hop_never_comes_with_the_password_of_another_transaction() {
    let server = server();
    server.psql("mail", "ALTER SYSTEM SET log_statement = 'all'");
    server.set("");
    assert!(read(&settings(&server, ""), None).reading.is_ok());
    let log = server.log();
    let statements: Vec<_> = log
        .lines()
        .filter_map(|line| Some(line.split_once("statement: ")?.1))
        .skip_while(|statement| !statement.contains("REPEATABLE READ"))
        .take_while(|statement| *statement != "COMMIT")
        .collect();
    assert_eq!(statements.len(), 4, "{log}");
    server.psql("mail", "ALTER SYSTEM RESET log_statement");
    server.set("");

    let mut writer = server.psql_command("postgres", "mail");
    let mut writer = writer.args(["-c", WRITER]).stderr(Stdio::null()).spawn().unwrap();
    block_on(async {
        let mut connection = connect(&settings_of(&server.source("reader"), "")).await.unwrap();
        let (mut reads, mut versions, mut known) = (0, 0, None);
        let start = Instant::now();
        while reads < 2000 || versions <= 100 {
            assert!(
                start.elapsed() < 2 * DEADLINE,
                "{versions} versions in {reads} reads"
            );
            reads += 1;
            let mut rows = Recorded::default();
            let reading = connection.read(None, &mut rows).await.unwrap();
            let relay = rows.text(Table::Relay).replace("@a.example|[r", "");
            let password = rows.text(Table::Credentials).replace("@a.example|u|p", "");
            assert_eq!(relay.trim_end_matches(']'), password);
            versions +=
                usize::from(known.replace(reading.state.version.clone()) != Some(reading.state.version));
        }
    });

    // The same statements at the default level, as an oracle that this test can fail.
    let at_the_default_level = statements
        .join(";\n")
        .replace("REPEATABLE READ", "READ COMMITTED");
    let once = format!("{at_the_default_level};\nCOMMIT;\n");
    let start = Instant::now();
    loop {
        let text = server.psql("mail", &once.repeat(200));
        let numbers = |prefix: &'static str| {
            let lines = text.lines().filter_map(move |line| line.strip_prefix(prefix));
            lines
                .map(|line| line.trim_end_matches(']').to_owned())
                .collect::<Vec<_>>()
        };
        let (relays, passwords) = (numbers("@a.example|[r"), numbers("@a.example|u|p"));
        assert_eq!((relays.len(), passwords.len()), (200, 200));
        if relays != passwords {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "READ COMMITTED has no torn read");
        thread::sleep(Duration::from_millis(1));
    }
    server.psql(
        "mail",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'DO %'",
    );
    writer.wait().unwrap();
}
