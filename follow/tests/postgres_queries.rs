//! Tables that are not postmapd's, read by the queries of the settings.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends where something fails"
)]

mod database;

use database::follower::{Recorded, block_on, connect, read, settings};
use database::pgbouncer::PgBouncer;
use database::postgres::Postgres;
use postmapd_follow::engine::{Connection, EngineErrorKind, Extent, Table};

const QUERIES: &str = "
[queries]
relay = \"SELECT sender, hop FROM relays -- all of them\"
credentials = \"SELECT sender, login, pass FROM logins ORDER BY id;\"
tls = \"VALUES ('[r.test]', 'encrypt')\"
";

/// The database of another program, with its own names and types.
fn server() -> Postgres {
    let server = Postgres::start();
    server.psql(
        "mail",
        "CREATE ROLE reader LOGIN;
         CREATE TYPE hop AS ENUM ('[r1.test]:587', '[r2.test]');
         CREATE TABLE relays (sender varchar(200), hop hop);
         CREATE TABLE logins (id serial, sender text, login text, pass text);
         GRANT SELECT ON relays, logins TO reader;
         INSERT INTO relays VALUES ('@a.example', '[r1.test]:587'), ('@b.example', NULL), (NULL, '[r2.test]');
         INSERT INTO logins (sender, login, pass) VALUES ('@a.example', 'u1', 'p1'), ('@a.example', 'u2', 'p2'), ('@b.example', '', NULL)",
    );
    server
}

#[test]
fn columns_are_taken_by_their_position_and_rows_in_their_order() {
    let read = read(&settings(&server(), QUERIES), None);
    let reading = read.reading.unwrap();
    assert_eq!(
        (read.rows.extent, reading.is_continuous),
        (Some(Extent::Everything), false)
    );
    assert_eq!(reading.state.revision, None);
    assert_eq!(read.rows.tables(), [Table::Relay, Table::Credentials, Table::Tls]);
    assert_eq!(
        read.rows.text(Table::Relay),
        "@a.example|[r1.test]:587\n@b.example|(null)\n|[r2.test]"
    );
    assert_eq!(
        read.rows.text(Table::Credentials),
        "@a.example|u1|p1\n@a.example|u2|p2\n@b.example||(null)"
    );
    assert_eq!(read.rows.text(Table::Tls), "[r.test]|encrypt");
}

#[test]
fn every_change_of_a_result_is_another_state_and_nothing_else_is() {
    let server = server();
    block_on(async {
        let engine = settings(&server, QUERIES);
        let mut connection = connect(&engine).await.unwrap();
        let mut before = connection.state().await.unwrap();
        for sql in [
            "UPDATE logins SET pass = 'p3' WHERE login = 'u1'",
            // Two values that are swapped.
            "UPDATE logins SET pass = CASE login WHEN 'u1' THEN 'p2' ELSE 'p3' END WHERE login <> ''",
            // A value that moves to another column.
            "UPDATE logins SET login = pass, pass = login WHERE login = 'u1'",
            "UPDATE logins SET login = NULL WHERE login = ''",
            // Two equal rows.
            "INSERT INTO relays VALUES ('@d.example', NULL), ('@d.example', NULL)",
            "DELETE FROM relays WHERE ctid IN (SELECT max(ctid) FROM relays WHERE sender = '@d.example')",
            // Only the order, in a query that has one.
            "UPDATE logins SET id = 100 - id",
            "TRUNCATE relays",
        ] {
            server.psql("mail", sql);
            let after = connection.state().await.unwrap();
            assert_ne!(after.version, before.version, "{sql}");
            assert!(after.version.starts_with("hmac-sha256:"), "{after:?}");
            before = after;
        }
        for sql in [
            "UPDATE logins SET pass = pass",
            "CREATE TABLE other (n int); INSERT INTO other VALUES (1)",
            "BEGIN; TRUNCATE logins; ROLLBACK",
            "VACUUM FULL logins",
        ] {
            server.psql("mail", sql);
            // Its time is that at which it was first seen.
            assert_eq!(connection.state().await.unwrap(), before, "{sql}");
        }
        let mut rows = Recorded::default();
        let reading = connection.read(Some(&before), &mut rows).await.unwrap();
        assert_eq!((reading.state, rows.extent), (before, Some(Extent::Everything)));
    });
}

#[test]
fn the_query_of_a_version_takes_the_place_of_the_fingerprint() {
    let server = server();
    server.psql(
        "mail",
        "CREATE TABLE v (n int, m text); INSERT INTO v VALUES (1, NULL); GRANT SELECT ON v TO reader",
    );
    let queries = format!("{QUERIES}version = \"TABLE v\"\n");
    block_on(async {
        let mut connection = connect(&settings(&server, &queries)).await.unwrap();
        let first = connection.state().await.unwrap();
        server.psql("mail", "TRUNCATE logins");
        assert_eq!(connection.state().await.unwrap(), first);
        for sql in [
            "UPDATE v SET m = ''",
            "UPDATE v SET n = 11, m = 'x'",
            "UPDATE v SET n = 1, m = '1x'",
            "INSERT INTO v VALUES (2, '')",
        ] {
            let before = connection.state().await.unwrap();
            server.psql("mail", sql);
            assert_ne!(connection.state().await.unwrap().version, before.version, "{sql}");
        }
    });
}

#[test]
fn an_error_in_a_query_names_it_and_has_no_value() {
    let server = server();
    server.psql(
        "mail",
        "UPDATE logins SET pass = 'hunter2' WHERE login = 'u1'; CREATE TABLE secret (n int)",
    );
    let error = |queries: &str| {
        let error = read(&settings(&server, &format!("[queries]\n{queries}")), None)
            .reading
            .unwrap_err();
        let text = error.to_string();
        assert!(!text.contains("hunter2"), "{text}");
        (error.kind, text)
    };
    for (query, columns) in [
        ("relay = \"SELECT sender FROM relays\"", "1 columns"),
        ("credentials = \"SELECT * FROM logins\"", "4 columns"),
    ] {
        let (kind, text) = error(query);
        assert!(matches!(kind, EngineErrorKind::Result { .. }), "{text}");
        assert!(text.contains(columns) && text.contains("[queries]"), "{text}");
    }
    let (kind, text) = error("relay = \"SELECT sender, hop FROM relais\"");
    assert!(matches!(kind, EngineErrorKind::Tables(..)), "{text}");
    assert!(text.contains("relais") && text.contains("follow.toml"), "{text}");
    let (kind, text) = error("relay = \"SELECT n, 'x' FROM secret\"");
    assert!(matches!(kind, EngineErrorKind::Rights(_)), "{text}");
    let (kind, text) = error("relay = \"SELECT sender hop 'hunter2' FROM relays\"");
    assert!(matches!(kind, EngineErrorKind::Tables(..)), "{text}");
    for query in [
        "relay = \"SELECT sender, pass::int FROM logins\"",
        "relay = \"SELECT sender, 1 / (id - id) FROM logins\"",
        "relay = \"WITH d AS (DELETE FROM logins RETURNING sender, login) SELECT * FROM d\"",
        "relay = \"SELECT sender, hop FROM relays FOR UPDATE\"",
    ] {
        let (kind, text) = error(query);
        assert!(
            matches!(kind, EngineErrorKind::Result { .. }) && !kind.is_temporary(),
            "{text}"
        );
    }
    // A query that writes, and two queries.
    for query in [
        "relay = \"SELECT 'a', 'b'; DELETE FROM logins\"",
        "relay = \"SELECT setval('logins_id_seq', 1), 'x'\"",
    ] {
        error(query);
    }
    assert_eq!(server.psql("mail", "SELECT count(*) FROM logins"), "3");
}

#[test]
fn any_bytes_of_a_row_arrive_as_they_are() {
    let server = server();
    server.psql(
        "postgres",
        "CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0",
    );
    server.psql(
        "bytes",
        "CREATE TABLE t (n serial, k text, v text); GRANT SELECT ON t TO reader;
         INSERT INTO t (k, v) VALUES (E'\\xff\\xfe', E'a\\xc3'), (E'a\\nb', E'c\\rd\\te'), ('#', '''\"\\'), ('', NULL), ('x', repeat('y', 100000))",
    );
    let lines = "[queries]\nrelay = \"SELECT k, v FROM t ORDER BY n\"";
    let source = server.source("reader").replace("/mail", "/bytes");
    let read = read(&database::follower::settings_of(&source, lines), None);
    read.reading.unwrap();
    let bytes: Vec<_> = read
        .rows
        .lines
        .iter()
        .map(|(_, key, values)| (key.clone(), values.clone().unwrap().remove(0)))
        .collect();
    let some = |text: &[u8]| Some(text.to_vec());
    assert_eq!(
        bytes[..4],
        [
            (b"\xff\xfe".to_vec(), some(b"a\xc3")),
            (b"a\nb".to_vec(), some(b"c\rd\te")),
            (b"#".to_vec(), some(b"'\"\\")),
            (vec![], None),
        ]
    );
    assert_eq!(bytes[4].1.as_ref().map(Vec::len), Some(100_000));
    // Another encoding arrives as UTF-8.
    server.psql(
        "postgres",
        "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0",
    );
    server.psql("latin", "CREATE TABLE t (n int, k text, v text); GRANT SELECT ON t TO reader; INSERT INTO t VALUES (1, E'\\xe4', E'\\xdf')");
    let source = server.source("reader").replace("/mail", "/latin");
    let read = database::follower::read(&database::follower::settings_of(&source, lines), None);
    assert_eq!(read.rows.text(Table::Relay), "ä|ß");
}

#[test]
fn a_row_that_no_memory_should_hold_ends_the_read() {
    let lines = "[queries]\nrelay = \"SELECT 'a', repeat('x', 20000000)\"";
    let error = read(&settings(&server(), lines), None).reading.unwrap_err();
    assert!(matches!(error.kind, EngineErrorKind::Result { .. }), "{error}");
}

#[test]
fn queries_work_through_a_pooler_in_transaction_mode() {
    let server = server();
    let pooler = PgBouncer::start(&server, 1);
    let settings = database::follower::settings_of(&pooler.source(), &format!("tls = \"off\"\n{QUERIES}"));
    block_on(async {
        let mut connections = [
            connect(&settings).await.unwrap(),
            connect(&settings).await.unwrap(),
        ];
        for i in 0..10 {
            server.psql("mail", &format!("UPDATE logins SET pass = 'p{i}'"));
            let reads = connections.iter_mut().map(|connection| async {
                let state = connection.state().await.unwrap();
                let mut rows = Recorded::default();
                assert_eq!(connection.read(None, &mut rows).await.unwrap().state, state);
                rows.text(Table::Credentials)
            });
            let read = futures_util::future::join_all(reads).await;
            assert_eq!(read[0], read[1]);
            assert!(read[0].contains(&format!("u1|p{i}")), "{read:?}");
        }
    });
}
