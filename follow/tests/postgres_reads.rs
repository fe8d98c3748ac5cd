//! What postmapd-follow reads from the tables of postmapd in a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod database;

use database::follower::{Recorded, connect, init, read, settings};
use database::postgres::Postgres;
use postmapd_follow::engine::{Connection, Extent, Table};

#[test]
fn everything_is_read_as_psql_shows_it() {
    let server = Postgres::start();
    init(&server);
    server.psql(
        "mail",
        "INSERT INTO postmapd.relay SELECT '@' || md5(i::text) || '.example', CASE WHEN i % 7 > 0 THEN '[relay' || i || '.test]:587' END \
         FROM generate_series(1, 5000) i;
         INSERT INTO postmapd.credential VALUES ('a@b.example', NULL, NULL), ('[relay1.test]:587', 'u', $$ p#'\"\\ä$$);
         INSERT INTO postmapd.relay_tls VALUES ('*', 'secure');
         UPDATE postmapd.relay SET nexthop = '[moved.test]' WHERE key LIKE '@a%'",
    );
    let read = read(&settings(&server, ""), None);
    assert_eq!(read.rows.extent, Some(Extent::Everything));
    for (table, sql) in [
        (
            Table::Relay,
            "SELECT key, coalesce(nexthop, '(null)') FROM postmapd.relay",
        ),
        (
            Table::Credentials,
            "SELECT key, coalesce(\"user\", '(null)'), coalesce(password, '(null)') FROM postmapd.credential",
        ),
        (Table::Tls, "SELECT key, value FROM postmapd.relay_tls"),
    ] {
        let expected = server.psql("mail", &format!("{sql} ORDER BY key COLLATE \"C\""));
        assert_eq!(read.rows.text(table), expected, "{table:?}");
    }
    let state = server.psql("mail", "SELECT revision, version FROM postmapd.state");
    let reading = read.reading.unwrap();
    assert_eq!(
        format!("{}|{}", reading.state.revision.unwrap(), reading.state.version),
        state
    );
    assert!(!reading.is_continuous);
}

#[test]
fn a_change_is_read_alone_and_a_hint_precedes_it() {
    let server = Postgres::start();
    init(&server);
    server.psql(
        "mail",
        "INSERT INTO postmapd.relay VALUES ('@a.example', '[r]'), ('@b.example', '[r]'), ('@c.example', '[r]')",
    );
    database::follower::block_on(async {
        let mut connection = connect(&settings(&server, "")).await.unwrap();
        let state = connection.state().await.unwrap();
        server.psql(
            "mail",
            "BEGIN; DELETE FROM postmapd.relay WHERE key = '@b.example';
             UPDATE postmapd.relay SET nexthop = NULL WHERE key = '@a.example';
             INSERT INTO postmapd.relay VALUES ('@d.example', '[x]'); DELETE FROM postmapd.relay WHERE key = '@d.example'; COMMIT",
        );
        connection.hint().await;
        assert_ne!(connection.state().await.unwrap(), state);
        let mut rows = Recorded::default();
        let reading = connection.read(Some(&state), &mut rows).await.unwrap();
        assert!(reading.is_continuous);
        assert_eq!(rows.extent, Some(Extent::Changes));
        assert_eq!(rows.tables(), [Table::Relay]);
        assert_eq!(
            rows.text(Table::Relay),
            "@a.example|(null)\n@b.example (removed)\n@d.example (removed)"
        );
        let again = connection.state().await.unwrap();
        assert_eq!(again, reading.state);
        let mut rows = Recorded::default();
        connection.read(Some(&again), &mut rows).await.unwrap();
        assert_eq!((rows.extent, rows.tables()), (Some(Extent::Changes), vec![]));
    });
}
