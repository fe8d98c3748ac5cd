//! `postmapd-follow once`, as a program with a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod database;

use database::follower::init;
use database::postgres::Postgres;
use database::program::Setup;

const ROWS: &str = "INSERT INTO postmapd.relay VALUES ('@one.test', '[r.test]:587'), ('@two.test', NULL);
                    INSERT INTO postmapd.credential VALUES ('@one.test', 'user', 'password')";

#[test]
fn it_publishes_the_tables_and_prints_which_ones_they_are() {
    let server = Postgres::start();
    init(&server);
    server.psql("mail", ROWS);
    let setup = Setup::new(&server.source("reader"), "hang = 30\nstale_after = 60");
    // A second time, nothing has changed.
    for _ in 0..2 {
        let ended = setup.run(&["once", "--timeout", "60s"]);
        let revision = server.psql("mail", "SELECT revision FROM postmapd.state");
        let directory = setup.directory();
        let line = format!(
            "revision {revision}, 2 senders, 1 login, 0 bad rows: {}\n",
            directory.to_str().unwrap()
        );
        assert_eq!((ended.code, ended.out), (Some(0), line), "{}", ended.err);
        let [relay, credentials] = setup.files().unwrap();
        assert_eq!(relay, "@one.test [r.test]:587\n@two.test\n");
        assert_eq!(credentials, "@one.test user:password\n");
        assert_eq!(setup.generations().len(), 1);
    }
    assert!(
        setup
            .run(&["once"])
            .err
            .contains("the active tables are those of the source")
    );
}

#[test]
fn a_source_that_cannot_be_reached_is_75_and_one_that_refuses_is_1() {
    let mut server = Postgres::start();
    let setup = Setup::new(&server.source("reader"), "hang = 30\nstale_after = 60");
    let ended = setup.run(&["once", "--timeout", "60s"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("the server rejects the user"), "{ended:?}");
    // The user exists, and the tables do not.
    server.psql("mail", "CREATE ROLE reader LOGIN");
    let ended = setup.run(&["once", "--timeout", "60s"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    server.stop();
    let ended = setup.run(&["once", "--timeout", "500ms"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(75), ""), "{ended:?}");
    let last = ended.err.lines().last().unwrap();
    assert!(
        last.contains("could not be read within 500ms (option --timeout)") && last.contains("cannot connect"),
        "{last}"
    );
    assert_eq!(setup.files(), None);
    let ended = setup.run(&["once", "--timeout", "soon"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
}
