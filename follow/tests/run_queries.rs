//! `postmapd-follow run` with the tables of another program, in PostgreSQL and in MariaDB.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends where something fails"
)]

mod database;

use database::mariadb::MariaDb;
use database::postgres::Postgres;
use database::processes::wait_for;
use database::program::Setup;

const SETTINGS: &str = "hang = 30\nstale_after = 60\n[queries]\nevery = \"200ms\"\nrelay = \"SELECT sender, hop FROM relays\"\n\
                        credentials = \"SELECT sender, login, pass FROM logins\"";

const TABLES: &str = "CREATE TABLE relays (sender varchar(200), hop varchar(200));
    CREATE TABLE logins (sender varchar(200), login varchar(200), pass varchar(200));
    INSERT INTO relays VALUES ('@a.test', '[r1.test]:587');
    INSERT INTO logins VALUES ('@a.test', 'user', 'of row 1');";

/// What a program does while the tables change, whichever database has them.
fn check(source: &str, sql: impl Fn(&str)) {
    let setup = Setup::new(source, SETTINGS);
    let mut program = setup.start();
    program.wait_until_ready();
    setup.wait_for_relay("@a.test [r1.test]:587\n");
    let status = program.status();
    assert!(
        status["state"]["revision"].is_null() && status["state"]["version"].is_string(),
        "{status}"
    );

    // A row that would be two lines blocks no other row, and its value is nowhere.
    sql(
        "INSERT INTO relays VALUES ('@bad.test', '[hunter2.test]\n@evil.test [evil.test]'), ('@b.test', '[r2.test]')",
    );
    setup.wait_for_relay("@b.test [r2.test]\n");
    program.wait_for_log("bad row; lookups of its key return a temporary error table=\"relay\" row=");
    let line = program.log_with("bad row;").remove(0);
    assert!(
        line.contains(" key=\"@bad.test\" column=nexthop reason="),
        "{line}"
    );
    let [relay, _] = setup.files().unwrap();
    assert!(!relay.contains("evil") && relay.contains("@bad.test "), "{relay}");
    // Once, whatever changes beside it.
    sql("UPDATE logins SET pass = 'of row 2'");
    wait_for("another password", || {
        setup.files().filter(|[_, logins]| logins.contains("of row 2"))
    });
    wait_for("the status", || (program.status()["bad_rows"] == 1).then_some(()));
    assert_eq!(program.log_with("bad row;").len(), 1, "{}", program.log());

    // A table that is empty is refused, and that is logged once.
    sql("DELETE FROM relays");
    program.wait_for_log("a table has become empty; keeping the active tables table=\"relay\"");
    sql("UPDATE logins SET pass = 'of row 3'");
    wait_for("another refusal", || {
        let (_, metrics) = program.get("/metrics");
        metrics.contains("{outcome=\"refused\"} 2\n").then_some(())
    });
    assert!(setup.files().unwrap()[0].contains("@b.test [r2.test]\n"));
    assert_eq!(program.log_with("has become empty").len(), 1, "{}", program.log());
    sql("INSERT INTO relays VALUES ('@c.test', '[r3.test]')");
    setup.wait_for_relay("@c.test [r3.test]\n");
    let shown = [
        program.log(),
        program.status().to_string(),
        program.get("/metrics").1,
    ]
    .concat();
    for secret in ["hunter2", "of row", "evil"] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
    assert_eq!(program.end("TERM"), 0);
}

#[test]
fn the_tables_of_another_program_in_postgresql_are_followed() {
    let server = Postgres::start();
    server.psql(
        "mail",
        &format!("CREATE ROLE reader LOGIN; {TABLES} GRANT SELECT ON relays, logins TO reader;"),
    );
    check(&server.source("reader"), |sql| {
        server.psql("mail", sql);
    });
}

#[test]
fn the_tables_of_another_program_in_mariadb_are_followed() {
    let server = MariaDb::start();
    server.sql(
        "mail",
        &format!("{TABLES} CREATE USER reader@localhost; GRANT SELECT ON mail.* TO reader@localhost;"),
    );
    check(&server.source("reader"), |sql| {
        server.sql("mail", sql);
    });
}
