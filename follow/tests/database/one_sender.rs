//! A source with one sender, whose relay and login have a number.

use super::follower::init;
use super::postgres::Postgres;
use super::processes::wait_for;
use super::program::Setup;

/// For a source whose answers may take long on a loaded machine.
pub const PATIENT: &str = "hang = 30\nstale_after = 60";

/// A server with the number 1.
pub fn server() -> Postgres {
    let server = Postgres::start();
    init(&server);
    set(&server, 1);
    server
}

/// Gives one sender a relay and a login with a number.
pub fn set(server: &Postgres, number: u32) {
    server.psql(
        "mail",
        &format!(
            "BEGIN; DELETE FROM postmapd.relay; DELETE FROM postmapd.credential;
             INSERT INTO postmapd.relay VALUES ('@one.test', '[r{number}.test]:587');
             INSERT INTO postmapd.credential VALUES ('@one.test', 'user', 'of row {number}'); COMMIT"
        ),
    );
}

/// The files of a number.
pub fn files(number: u32) -> [String; 2] {
    [
        format!("@one.test [r{number}.test]:587\n"),
        format!("@one.test user:of row {number}\n"),
    ]
}

/// Waits until the files of a number are active.
pub fn wait_for_files(setup: &Setup, number: u32) {
    wait_for("the tables of the source", || {
        setup.files().filter(|found| *found == files(number))
    });
}
