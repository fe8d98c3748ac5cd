//! What an administrator has to fix: each error says what, and none has a password or a value of a row.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod database;

use database::follower::{block_on, connect, init, read, settings, settings_of};
use database::ports::CLOSED;
use database::postgres::Postgres;
use postmapd_follow::engine::EngineErrorKind;
use postmapd_follow::schema::ddl;

fn error_of(source: &str, lines: &str) -> (EngineErrorKind, String) {
    let error = read(&settings_of(source, lines), None).reading.unwrap_err();
    (error.kind.clone(), error.to_string())
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    let server = Postgres::start();
    init(&server);
    let source = server.source("reader");
    let (kind, text) = error_of(&source.replace("/mail", "/mails"), "");
    assert!(
        matches!(kind, EngineErrorKind::Tables(..)) && !kind.is_temporary(),
        "{text}"
    );
    assert!(
        text.contains("\"mails\" does not exist") && text.contains("correct the database in source"),
        "{text}"
    );

    let (kind, text) = error_of(&source.replace("reader@", "readers@"), "");
    assert!(
        matches!(kind, EngineErrorKind::Login(_)) && !kind.is_temporary(),
        "{text}"
    );

    let (kind, text) = error_of(&source, "schema = \"other\"");
    assert!(matches!(kind, EngineErrorKind::Tables(..)), "{text}");
    assert!(
        text.contains("other.state") && text.contains("postmapd-follow init"),
        "{text}"
    );

    server.psql("mail", "REVOKE SELECT ON postmapd.credential FROM reader");
    let (kind, text) = error_of(&source, "");
    assert!(
        matches!(kind, EngineErrorKind::Rights(_)) && !kind.is_temporary(),
        "{text}"
    );
    assert!(text.contains("credential"), "{text}");

    server.psql("mail", "ALTER TABLE postmapd.relay RENAME nexthop TO hop");
    let (kind, text) = error_of(&source, "");
    assert!(
        matches!(kind, EngineErrorKind::Tables(..)) && text.contains("nexthop"),
        "{text}"
    );

    server.psql("mail", "UPDATE postmapd.state SET schema_version = 99");
    let (kind, text) = error_of(&source, "");
    assert!(
        matches!(kind, EngineErrorKind::Tables(..)) && text.contains("version 99"),
        "{text}"
    );

    server.psql("mail", "DELETE FROM postmapd.state");
    let (kind, text) = error_of(&source, "");
    assert!(matches!(kind, EngineErrorKind::Result { .. }), "{text}");
    let error = server.try_psql(
        "mail",
        "DELETE FROM postmapd.relay; INSERT INTO postmapd.relay VALUES ('@a.example', NULL)",
    );
    assert!(error.unwrap_err().contains("has no row"));
}

#[test]
fn a_server_that_has_no_place_or_is_not_ready_is_tried_again() {
    let mut server = Postgres::start();
    init(&server);
    server.psql("mail", "ALTER ROLE reader CONNECTION LIMIT 1");
    block_on(async {
        let first = connect(&settings(&server, "")).await.unwrap();
        let error = connect(&settings(&server, "")).await.err().unwrap();
        assert!(
            matches!(error.kind, EngineErrorKind::Connect(_)) && error.kind.is_temporary(),
            "{error}"
        );
        drop(first);
    });
    server.stop();
    let (kind, text) = error_of(&server.source("reader"), "");
    assert!(
        matches!(kind, EngineErrorKind::Connect(_)) && kind.is_temporary(),
        "{text}"
    );
    assert!(text.contains(".s.PGSQL."), "{text}");
    let (kind, text) = error_of(
        "postgres://reader@name.invalid/mail",
        "ca = \"/etc/ssl/certs/ca-certificates.crt\"",
    );
    assert!(
        matches!(kind, EngineErrorKind::NoAddress(_)) && kind.is_temporary(),
        "{text}"
    );
}

#[test]
fn the_next_host_is_tried_after_any_error() {
    let server = Postgres::start();
    init(&server);
    let unix = server.sockets().to_str().unwrap().replace('/', "%2F");
    let source = format!(
        "postgres://reader@127.0.0.1:{CLOSED},%2Fabsent,{unix}:{}/mail",
        server.port()
    );
    assert!(read(&settings_of(&source, "tls = \"off\""), None).reading.is_ok());
    // One that refuses the login, and one that may come back at any moment: it is tried again soon.
    let refusing = format!("{unix}:{}", server.port());
    let missing = "%2Fabsent".to_owned();
    for hosts in [[&missing, &refusing], [&refusing, &missing]] {
        let source = format!("postgres://readers@{},{}/mail", hosts[0], hosts[1]);
        let (kind, text) = error_of(&source, "");
        assert!(
            matches!(kind, EngineErrorKind::Connect(_)) && text.starts_with("/absent"),
            "{text}"
        );
    }
    let (kind, text) = error_of(&format!("postgres://readers@{refusing},{refusing}/mail"), "");
    assert!(matches!(kind, EngineErrorKind::Login(_)), "{text}");
}

#[test]
fn the_tables_are_created_in_any_schema_once_and_in_utf8_alone() {
    let server = Postgres::start();
    server.psql(
        "mail",
        "CREATE ROLE reader LOGIN; CREATE ROLE owner LOGIN; GRANT CREATE ON DATABASE mail TO owner",
    );
    block_on(async {
        let mut owner = connect(&settings_of(&server.source("owner"), "")).await.unwrap();
        owner
            .execute("the schema", &ddl("select", Some("reader")))
            .await
            .unwrap();
        owner
            .execute(
                "the tables",
                "INSERT INTO \"select\".relay VALUES ('@a.example', '[r.test]'), ('@b.example', NULL)",
            )
            .await
            .unwrap();
        let error = owner
            .execute(
                "the tables",
                "INSERT INTO \"select\".relay VALUES ('@a.example', NULL)",
            )
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("relay_pkey") && !error.to_string().contains("a.example"),
            "{error}"
        );

        let mut owner = connect(&settings_of(&server.source("owner"), "")).await.unwrap();
        let error = owner
            .execute("the schema", &ddl("select", Some("reader")))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("already exists"), "{error}");
    });
    let read = read(&settings(&server, "schema = \"select\""), None);
    assert_eq!(read.rows.lines.len(), 2, "{:?}", read.reading);
    server.psql(
        "postgres",
        "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0",
    );
    let error = server.try_psql("latin", &ddl("postmapd", None)).unwrap_err();
    assert!(error.contains("must be UTF8"), "{error}");
}

#[test]
fn a_reader_only_reads_and_a_writer_needs_no_right_to_the_log() {
    let server = Postgres::start();
    init(&server);
    server.psql(
        "mail",
        "CREATE ROLE writer LOGIN; GRANT USAGE ON SCHEMA postmapd TO writer;
         GRANT SELECT, INSERT, UPDATE, DELETE ON postmapd.relay TO writer",
    );
    let denied = |user: &str, sql: &str| {
        let error = server.try_psql_as(user, "mail", sql).unwrap_err();
        assert!(error.contains("permission denied"), "{sql}: {error}");
    };
    for sql in [
        "INSERT INTO postmapd.relay VALUES ('@a.example', NULL)",
        "UPDATE postmapd.state SET revision = 1",
        "TRUNCATE postmapd.change",
        "CREATE TABLE postmapd.t (n int)",
        "CREATE TRIGGER t AFTER TRUNCATE ON postmapd.relay EXECUTE FUNCTION postmapd.record_change('r')",
    ] {
        denied("reader", sql);
    }
    let before = server.psql("mail", "SELECT revision FROM postmapd.state");
    // Functions of the writer's own that have the names of those of the system are not used.
    server
        .try_psql_as(
            "writer",
            "mail",
            "CREATE FUNCTION pg_temp.array_agg(text) RETURNS text[] LANGUAGE sql AS $$ SELECT NULL::text[] $$;
             CREATE TEMPORARY TABLE state (revision bigint); SET search_path = pg_temp, postmapd;
             INSERT INTO postmapd.relay VALUES ('@a.example', '[r.test]')",
        )
        .unwrap();
    assert_ne!(server.psql("mail", "SELECT revision FROM postmapd.state"), before);
    denied("writer", "UPDATE postmapd.state SET revision = 1");
    denied("writer", "DELETE FROM postmapd.change");
}

#[test]
fn writers_of_the_same_rows_in_another_order_wait_and_do_not_fail() {
    let server = Postgres::start();
    init(&server);
    server.psql(
        "mail",
        "INSERT INTO postmapd.relay VALUES ('@1.example', '[r]'), ('@2.example', '[r]')",
    );
    let writers: Vec<_> = [(1, 2), (2, 1), (1, 2), (2, 1)]
        .into_iter()
        .enumerate()
        .map(|(writer, (first, second))| {
            let sql = format!(
                "DO $$ BEGIN FOR i IN 1..200 LOOP
                   UPDATE postmapd.relay SET nexthop = '[w{writer}-' || i || ']' WHERE key = '@{first}.example';
                   UPDATE postmapd.relay SET nexthop = '[w{writer}-' || i || ']' WHERE key = '@{second}.example';
                 COMMIT; END LOOP; END $$"
            );
            let mut psql = server.psql_command("postgres", "mail");
            psql.args(["-c", &sql]).spawn().unwrap()
        })
        .collect();
    for mut writer in writers {
        assert!(writer.wait().unwrap().success());
    }
    let revisions = server.psql("mail", "SELECT revision - 2 FROM postmapd.state");
    assert_eq!(revisions, "800");
    assert_eq!(
        server.psql("mail", "SELECT count(DISTINCT nexthop) FROM postmapd.relay"),
        "1"
    );
}
