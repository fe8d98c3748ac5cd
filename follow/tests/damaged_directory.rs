//! What a running server answers when another program removes or empties its tables, and when the directory is replaced.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends where something fails"
)]

mod server;

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use postmapd_follow::directory::{Directory, DirectoryErrorKind, Provenance, Restored};
use postmapd_follow::engine::{Extent, Rows, State, Table};
use postmapd_follow::rows::Row;
use server::POSTMAPD;
use server::admin::Admin;
use server::client::{Reply, Socketmap};
use server::daemon::{Daemon, Setup};
use server::eventually;

/// After this time, in seconds, a table that is empty or missing has no entries: later than any step of a test, or soon.
const LATE: u32 = 600;
const SOON: u32 = 1;

const FILES: [&str; 2] = ["postfix-relaymap.cf", "postfix-sasl-password.cf"];

fn publish(directory: &mut Directory, number: u64) {
    let (next_hop, password) = (format!("[r{number}.test]:587"), format!("p{number}"));
    let mut staging = directory.stage().unwrap();
    staging.begin(Extent::Everything);
    staging.table(Table::Relay);
    staging.row(Row::Relay {
        key: b"@a.test",
        next_hop: Some(next_hop.as_bytes()),
    });
    staging.table(Table::Credentials);
    staging.row(Row::Credentials {
        key: b"@a.test",
        user: Some(b"user"),
        password: Some(password.as_bytes()),
    });
    let provenance = Provenance {
        source: "postgres://reader@db.test/mail".to_owned(),
        state: State {
            revision: Some(number),
            version: number.to_string(),
            committed: SystemTime::now(),
        },
    };
    directory.publish(staging, &provenance).unwrap();
    directory.sync().unwrap();
}

fn start(empty_grace: u32) -> (Daemon, Admin, Directory) {
    let settings = format!("[reload]\nerrors = \"holes\"\nempty_grace = {empty_grace}\nin_flight = 0\n");
    let setup = Setup::new().binary(&*POSTMAPD).settings(&settings);
    let mut directory = Directory::open(setup.dir(), &[Table::Relay, Table::Credentials]).unwrap();
    publish(&mut directory, 1);
    let (daemon, admin) = Admin::start(setup);
    (daemon, admin, directory)
}

/// The relay and the login of a sender.
fn answers(socketmap: &mut Socketmap) -> [Reply; 2] {
    ["relayhost", "sasl"].map(|map| socketmap.query(map, "u@a.test"))
}

fn state(number: u64) -> [Reply; 2] {
    [format!("[r{number}.test]:587"), format!("user:p{number}")].map(|value| Reply::found(&value))
}

fn empty_in_place(directory: &Path) {
    for file in FILES {
        fs::write(directory.join(file), "").unwrap();
    }
}

fn remove_all_tables(directory: &Path) {
    let generation = fs::canonicalize(directory.join("..data")).unwrap();
    fs::remove_dir_all(generation).unwrap();
    for name in FILES.into_iter().chain(["source.json", "..data"]) {
        fs::remove_file(directory.join(name)).unwrap();
    }
}

#[test]
fn removed_tables_that_are_restored_change_no_answer_and_would_send_mail_directly_otherwise() {
    let (daemon, admin, mut directory) = start(LATE);
    let mut socketmap = Socketmap::to(&daemon, 0);
    assert_eq!(answers(&mut socketmap), state(1));
    for number in 2..5 {
        remove_all_tables(daemon.dir());
        assert_eq!(directory.restore().unwrap(), Restored::Changed);
        // A state after it is read, so this one was, or was left out.
        assert_eq!(answers(&mut socketmap), state(number - 1));
        publish(&mut directory, number);
        eventually(|| answers(&mut socketmap), |found| *found == state(number));
    }
    eventually(|| admin.get("/readyz").code, |code| *code == 200);
    let (daemon, _admin, _directory) = start(SOON);
    let mut socketmap = Socketmap::to(&daemon, 0);
    assert_eq!(answers(&mut socketmap), state(1));
    remove_all_tables(daemon.dir());
    eventually(
        || answers(&mut socketmap),
        |found| *found == [Reply::NotFound, Reply::NotFound],
    );
}

#[test]
fn tables_that_were_emptied_in_place_stay_as_the_server_has_read_them_until_the_source_is_back() {
    let (daemon, admin, mut directory) = start(LATE);
    let mut socketmap = Socketmap::to(&daemon, 0);
    for number in 2..4 {
        empty_in_place(daemon.dir());
        let error = directory.restore().unwrap_err();
        assert!(matches!(error.kind, DirectoryErrorKind::Lost), "{error}");
        eventually(|| admin.get("/readyz").code, |code| *code == 503);
        assert_eq!(answers(&mut socketmap), state(number - 1));
        publish(&mut directory, number);
        eventually(|| admin.get("/readyz").code, |code| *code == 200);
        eventually(|| answers(&mut socketmap), |found| *found == state(number));
    }
    let (daemon, _admin, _directory) = start(SOON);
    let mut socketmap = Socketmap::to(&daemon, 0);
    assert_eq!(answers(&mut socketmap), state(1));
    empty_in_place(daemon.dir());
    eventually(
        || answers(&mut socketmap),
        |found| *found == [Reply::NotFound, Reply::NotFound],
    );
}
