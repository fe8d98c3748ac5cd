//! The PostgreSQL servers of the tests: what the other tests rely on.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod database;

use database::postgres::Postgres;

#[test]
fn a_server_of_the_tests_can_be_stopped_killed_frozen_and_copied() {
    let mut server = Postgres::start();
    server.psql("mail", "CREATE TABLE t (n int); INSERT INTO t VALUES (1)");
    server.stop();
    assert!(server.try_psql("mail", "SELECT n FROM t").is_err());
    server.start_again();
    server.kill();
    assert!(server.try_psql("mail", "SELECT n FROM t").is_err());
    server.start_again();
    assert_eq!(server.psql("mail", "SELECT n FROM t"), "1");

    server.freeze();
    let mut query = server.psql_command("postgres", "mail");
    let mut query = query.args(["-c", "SELECT n FROM t"]).spawn().unwrap();
    assert!(query.try_wait().unwrap().is_none());
    server.thaw();
    assert!(query.wait().unwrap().success());

    let standby = server.start_standby();
    assert_eq!(standby.psql("mail", "SELECT n FROM t"), "1");
    let error = standby.try_psql("mail", "INSERT INTO t VALUES (2)").unwrap_err();
    assert!(error.contains("read-only transaction"), "{error}");
    standby.promote();
    standby.psql("mail", "INSERT INTO t VALUES (2)");
}
