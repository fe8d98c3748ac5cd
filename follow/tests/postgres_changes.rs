//! The change log: what is read after a change, and when everything is read instead.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod database;

use std::process::Command;

use database::follower::{Read, Recorded, block_on, connect, init, read, settings, settings_of};
use database::pgbouncer::PgBouncer;
use database::postgres::{Postgres, programs};
use database::processes::{DEADLINE, run, wait_for};
use postmapd_follow::engine::{Connection, EngineErrorKind, Extent, State, Table};

const RELAYS: &str =
    "INSERT INTO postmapd.relay SELECT '@' || i || '.example', '[relay.test]' FROM generate_series(1, 200) i";

fn server() -> Postgres {
    let server = Postgres::start();
    init(&server);
    server.psql("mail", RELAYS);
    server
}

fn state(server: &Postgres) -> State {
    read(&settings(server, ""), None).reading.unwrap().state
}

/// What is read after SQL.
fn after(server: &Postgres, sql: &str) -> Read {
    let known = state(server);
    server.psql("mail", sql);
    read(&settings(server, ""), Some(&known))
}

fn extent(read: &Read) -> (Option<Extent>, bool) {
    let reading = read.reading.as_ref().unwrap();
    (read.rows.extent, reading.is_continuous)
}

const CHANGES: (Option<Extent>, bool) = (Some(Extent::Changes), true);
const EVERYTHING: (Option<Extent>, bool) = (Some(Extent::Everything), true);
const UNKNOWN: (Option<Extent>, bool) = (Some(Extent::Everything), false);

#[test]
fn each_statement_is_recorded_with_the_keys_that_it_changes() {
    let server = server();
    for (sql, expected) in [
        (
            "UPDATE postmapd.relay SET nexthop = '[b]' WHERE key = '@7.example'",
            "@7.example|[b]",
        ),
        // A key that another row takes.
        (
            "UPDATE postmapd.relay SET key = '@new.example' WHERE key = '@8.example'",
            "@8.example (removed)\n@new.example|[relay.test]",
        ),
        (
            "DELETE FROM postmapd.relay WHERE key IN ('@9.example', '@10.example')",
            "@10.example (removed)\n@9.example (removed)",
        ),
        (
            "INSERT INTO postmapd.relay VALUES ('@7.example', '[c]'), ('@z.example', NULL)
             ON CONFLICT (key) DO UPDATE SET nexthop = excluded.nexthop",
            "@7.example|[c]\n@z.example|(null)",
        ),
        (
            "MERGE INTO postmapd.relay r USING (VALUES ('@z.example')) v(key) ON r.key = v.key WHEN MATCHED THEN DELETE",
            "@z.example (removed)",
        ),
        // Bytes are in order, whatever the collation of the database is.
        (
            "INSERT INTO postmapd.relay VALUES ('@ä.example', NULL), ('Z@x.example', NULL), ('a@x.example', NULL), ('<>', NULL)",
            "<>|(null)\n@ä.example|(null)\nZ@x.example|(null)\na@x.example|(null)",
        ),
    ] {
        let read = after(&server, sql);
        assert_eq!(extent(&read), CHANGES, "{sql}");
        assert_eq!(read.rows.tables(), [Table::Relay], "{sql}");
        assert_eq!(read.rows.text(Table::Relay), expected, "{sql}");
    }
    for sql in [
        "UPDATE postmapd.relay SET nexthop = nexthop",
        "DELETE FROM postmapd.relay WHERE key = '@absent.example'",
        "INSERT INTO postmapd.relay VALUES ('@7.example', NULL) ON CONFLICT DO NOTHING",
        "BEGIN; DELETE FROM postmapd.relay; ROLLBACK",
    ] {
        let before = state(&server);
        server.psql("mail", sql);
        assert_eq!(state(&server), before, "{sql}");
    }
}

#[test]
fn a_transaction_is_read_as_a_whole_and_its_tables_in_their_order() {
    let server = server();
    let read = after(
        &server,
        "BEGIN;
         INSERT INTO postmapd.relay_tls VALUES ('[relay.test]', 'encrypt');
         INSERT INTO postmapd.credential VALUES ('@1.example', 'u', 'p'), ('@2.example', NULL, NULL);
         UPDATE postmapd.relay SET nexthop = '[b]' WHERE key = '@1.example';
         UPDATE postmapd.relay SET nexthop = '[c]' WHERE key = '@1.example';
         UPDATE postmapd.credential SET password = 'q' WHERE key = '@1.example';
         COMMIT",
    );
    assert_eq!(extent(&read), CHANGES);
    assert_eq!(read.rows.tables(), [Table::Relay, Table::Credentials, Table::Tls]);
    assert_eq!(read.rows.text(Table::Relay), "@1.example|[c]");
    assert_eq!(
        read.rows.text(Table::Credentials),
        "@1.example|u|q\n@2.example|(null)|(null)"
    );
    assert_eq!(read.rows.text(Table::Tls), "[relay.test]|encrypt");
}

#[test]
fn a_transaction_is_one_revision_however_many_statements_it_has() {
    let server = server();
    let before = state(&server).revision.unwrap();
    let many = "DO $$ BEGIN FOR i IN 1..20000 LOOP INSERT INTO postmapd.relay VALUES ('@' || i || '.one.example', NULL); END LOOP; END $$";
    let read = after(&server, many);
    assert_eq!((extent(&read), read.rows.lines.len()), (CHANGES, 20_000));
    assert_eq!(state(&server).revision, Some(before + 1));
    // What is rolled back is no part of it.
    let read = after(
        &server,
        "BEGIN;
         SAVEPOINT s; INSERT INTO postmapd.relay VALUES ('@undone.example', NULL); ROLLBACK TO s;
         INSERT INTO postmapd.relay VALUES ('@kept.example', NULL);
         SAVEPOINT t; INSERT INTO postmapd.relay VALUES ('@undone.example', NULL); ROLLBACK TO t;
         COPY postmapd.relay FROM stdin;
@copied.example\t[relay.test]
\\.
         COMMIT",
    );
    assert_eq!(extent(&read), CHANGES);
    assert_eq!(
        read.rows.text(Table::Relay),
        "@copied.example|[relay.test]\n@kept.example|(null)"
    );
    assert_eq!(state(&server).revision, Some(before + 2));
}

#[test]
fn a_change_that_no_trigger_saw_can_be_made_known() {
    let server = server();
    let before = state(&server);
    server.psql(
        "mail",
        "SET session_replication_role = replica; DELETE FROM postmapd.relay WHERE key <> '@1.example'",
    );
    assert_eq!(state(&server), before);
    let read = after(&server, "SELECT postmapd.touch()");
    assert_eq!(extent(&read), EVERYTHING);
    assert_eq!(read.rows.text(Table::Relay), "@1.example|[relay.test]");
}

#[test]
fn a_table_that_is_emptied_or_changed_by_more_than_50000_rows_is_read_whole_and_the_next_change_alone() {
    let server = server();
    for sql in [
        "TRUNCATE postmapd.relay",
        "INSERT INTO postmapd.relay SELECT '@' || i || '.many.example', NULL FROM generate_series(1, 50001) i",
        "UPDATE postmapd.relay SET nexthop = '[b]'",
        "TRUNCATE postmapd.relay, postmapd.credential",
    ] {
        let read = after(&server, sql);
        assert_eq!(extent(&read), EVERYTHING, "{sql}");
        let count = server.psql("mail", "SELECT count(*) FROM postmapd.relay");
        assert_eq!(read.rows.lines.len().to_string(), count, "{sql}");
        let next = after(
            &server,
            "INSERT INTO postmapd.relay VALUES ('@next.example', NULL)",
        );
        assert_eq!(extent(&next), CHANGES, "{sql}");
        assert_eq!(next.rows.lines.len(), 1, "{sql}");
        server.psql("mail", "DELETE FROM postmapd.relay WHERE key = '@next.example'");
    }
    let log = server.psql("mail", "SELECT count(*) < 1000 FROM postmapd.change");
    assert_eq!(log, "t");
}

#[test]
fn a_state_whose_changes_are_forgotten_or_unknown_is_followed_by_everything() {
    let server = server();
    let known = state(&server);
    let other = State {
        version: known.version.replace(char::is_numeric, "0"),
        ..known.clone()
    };
    let of_another_kind = State {
        version: "x' OR true --".to_owned(),
        ..known.clone()
    };
    let later = State {
        revision: Some(known.revision.unwrap() + 1),
        ..known.clone()
    };
    for unknown in [other, of_another_kind, later] {
        assert_eq!(
            extent(&read(&settings(&server, ""), Some(&unknown))),
            UNKNOWN,
            "{unknown:?}"
        );
    }
    server.psql(
        "mail",
        "DO $$ BEGIN FOR i IN 1..5000 LOOP UPDATE postmapd.relay SET nexthop = '[r' || i || ']' WHERE key = '@1.example'; COMMIT; END LOOP; END $$",
    );
    assert_eq!(extent(&read(&settings(&server, ""), Some(&known))), UNKNOWN);
    let counts = server.psql(
        "mail",
        "SELECT count(*) BETWEEN 4096 AND 4096 + 256 AND count(DISTINCT revision) = count(*) AND min(revision) = (SELECT pruned FROM postmapd.state) \
         FROM postmapd.change",
    );
    assert_eq!(counts, "t");
    let oldest = server.psql(
        "mail",
        "SELECT revision || ' ' || version FROM postmapd.change WHERE revision = (SELECT pruned FROM postmapd.state)",
    );
    let (revision, version) = oldest.split_once(' ').unwrap();
    let oldest = State {
        revision: revision.parse().ok(),
        version: version.to_owned(),
        ..known
    };
    let read = read(&settings(&server, ""), Some(&oldest));
    assert_eq!(extent(&read), CHANGES);
    assert_eq!(read.rows.text(Table::Relay), "@1.example|[r5000]");
}

#[test]
fn a_standby_is_followed_without_notifications_and_accepted_only_if_any_server_will_do() {
    let server = server();
    let standby = server.start_standby();
    let both = |attributes: &str| {
        let hosts: Vec<_> = [&standby, &server]
            .map(|server| {
                format!(
                    "{}:{}",
                    server.sockets().to_str().unwrap().replace('/', "%2F"),
                    server.port()
                )
            })
            .into();
        settings_of(
            &format!("postgres://reader@{}/mail{attributes}", hosts.join(",")),
            "",
        )
    };
    block_on(async {
        let mut connection = connect(&both("")).await.unwrap();
        assert!(connection.host().starts_with(standby.sockets().to_str().unwrap()));
        let before = connection.state().await.unwrap();
        server.psql(
            "mail",
            "UPDATE postmapd.relay SET nexthop = NULL WHERE key = '@1.example'",
        );
        let begun = std::time::Instant::now();
        while connection.state().await.unwrap() == before {
            assert!(begun.elapsed() < DEADLINE, "the standby is behind");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let mut rows = Recorded::default();
        connection.read(Some(&before), &mut rows).await.unwrap();
        assert_eq!(rows.text(Table::Relay), "@1.example|(null)");

        let connection = connect(&both("?target_session_attrs=read-write")).await.unwrap();
        assert!(connection.host().starts_with(server.sockets().to_str().unwrap()));
        let source = format!("{}?target_session_attrs=read-write", standby.source("reader"));
        let error = connect(&settings_of(&source, "")).await.err().unwrap();
        assert_eq!(error.kind, EngineErrorKind::ReadOnly);
    });
}

#[test]
fn a_failover_that_loses_a_commit_is_followed_by_everything_though_the_revision_is_the_same() {
    let mut server = server();
    let mut standby = server.start_standby();
    let caught_up = server.psql("mail", "SELECT pg_current_wal_lsn()");
    wait_for("replication", || {
        (standby.psql(
            "mail",
            &format!("SELECT pg_last_wal_replay_lsn() >= '{caught_up}'"),
        ) == "t")
            .then_some(())
    });
    standby.stop();
    server.psql(
        "mail",
        "UPDATE postmapd.relay SET nexthop = '[lost.test]' WHERE key = '@1.example'",
    );
    let known = state(&server);
    server.kill();
    standby.start_again();
    standby.promote();
    standby.psql(
        "mail",
        "UPDATE postmapd.relay SET nexthop = '[kept.test]' WHERE key = '@2.example'",
    );
    let read = read(&settings(&standby, ""), Some(&known));
    assert_eq!(extent(&read), UNKNOWN);
    let reading = read.reading.unwrap();
    assert_eq!(reading.state.revision, known.revision);
    assert_ne!(reading.state.version, known.version);
    let next_hop = |key| read.rows.values(Table::Relay, key).unwrap().remove(0).unwrap();
    assert_eq!(next_hop("@1.example"), b"[relay.test]");
    assert_eq!(next_hop("@2.example"), b"[kept.test]");
}

#[test]
fn a_restored_database_has_the_state_that_was_dumped_and_records_what_changes_then() {
    let server = server();
    let known = state(&server);
    let mut dump = Command::new(programs().join("pg_dump"));
    dump.args(["--username=postgres", "--dbname=mail", "--host"])
        .arg(server.sockets())
        .arg(format!("--port={}", server.port()));
    let dump = run(&mut dump);
    server.psql("postgres", "CREATE DATABASE restored");
    server.psql("restored", &dump);
    let restored = settings_of(&server.source("reader").replace("/mail", "/restored"), "");
    let everything = read(&restored, None);
    assert_eq!(everything.rows.lines.len(), 200);
    assert_eq!(everything.reading.unwrap().state, known);
    server.psql(
        "restored",
        "INSERT INTO postmapd.relay VALUES ('@new.example', NULL)",
    );
    let changes = read(&restored, Some(&known));
    assert_eq!(extent(&changes), CHANGES);
    assert_eq!(changes.rows.text(Table::Relay), "@new.example|(null)");
    let error = server.try_psql(
        "restored",
        "INSERT INTO postmapd.relay VALUES ('@@a.example', NULL)",
    );
    assert!(error.unwrap_err().contains("is_sender"));
}

#[test]
fn a_pooler_in_transaction_mode_is_a_server_like_any_other() {
    let server = server();
    let pooler = PgBouncer::start(&server, 2);
    let settings = settings_of(&pooler.source(), "tls = \"off\"");
    block_on(async {
        let mut connections = Vec::new();
        for _ in 0..6 {
            let mut connection = connect(&settings).await.unwrap();
            let state = connection.state().await.unwrap();
            connections.push((connection, state));
        }
        for i in 0..20 {
            server.psql(
                "mail",
                &format!(
                    "UPDATE postmapd.relay SET nexthop = '[r{i}]' WHERE key IN ('@1.example', '@2.example')"
                ),
            );
            // All at once, so that the pooler gives one connection to several clients.
            let reads = connections.iter_mut().map(|(connection, known)| async move {
                let before = connection.state().await.unwrap();
                let mut rows = Recorded::default();
                let reading = connection.read(Some(known), &mut rows).await.unwrap();
                assert_eq!(before, reading.state);
                *known = reading.state;
                rows
            });
            for rows in futures_util::future::join_all(reads).await {
                assert_eq!(rows.extent, Some(Extent::Changes));
                assert_eq!(
                    rows.text(Table::Relay),
                    format!("@1.example|[r{i}]\n@2.example|[r{i}]")
                );
            }
        }
    });
    assert!(!pooler.log().contains("prepared"), "{}", pooler.log());
}
