//! What the server answers from a directory of postmapd-follow. `postmapd query` answers as the server does.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod server;

use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use postmapd_follow::directory::{Directory, Provenance};
use postmapd_follow::engine::{Extent, Rows, State, Table};
use postmapd_follow::rows::Row;
use server::POSTMAPD;

const FOUND: i32 = 0;
const NOT_FOUND: i32 = 1;
const CANNOT_TELL: i32 = 75;

/// The exit code and the value of a lookup.
fn query(directory: &Path, map: &str, key: &str) -> (i32, String) {
    let mut program = Command::new(&*POSTMAPD);
    let output = program
        .env_clear()
        .args(["query", "--dir"])
        .arg(directory)
        .args([map, key])
        .output()
        .unwrap();
    let value = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), value.trim_end().to_owned())
}

fn relay<'a>(key: &'a str, next_hop: &'a str) -> Row<'a> {
    Row::Relay {
        key: key.as_bytes(),
        next_hop: Some(next_hop.as_bytes()),
    }
}

fn credentials<'a>(key: &'a str, user: &'a str, password: &'a str) -> Row<'a> {
    Row::Credentials {
        key: key.as_bytes(),
        user: Some(user.as_bytes()),
        password: Some(password.as_bytes()),
    }
}

fn provenance(revision: u64) -> Provenance {
    Provenance {
        source: "postgres://reader@db.test/mail".to_owned(),
        state: State {
            revision: Some(revision),
            version: revision.to_string(),
            committed: SystemTime::now(),
        },
    }
}

#[test]
fn before_the_first_state_the_server_cannot_tell_and_afterwards_it_answers() {
    let temp = tempfile::tempdir().unwrap();
    let mut directory = Directory::open(temp.path(), &[Table::Relay, Table::Credentials]).unwrap();
    for map in ["relayhost", "sasl"] {
        assert_eq!(query(temp.path(), map, "u@a.test").0, CANNOT_TELL, "{map}");
    }
    let mut staging = directory.stage().unwrap();
    staging.begin(Extent::Everything);
    staging.table(Table::Relay);
    staging.row(relay("@a.test", "[r.test]:587"));
    staging.row(relay("@bad.test", "[r.test]:587"));
    // These two senders would otherwise have the relay and the login of their domain.
    staging.row(relay("u@bad.test", "[r.test]:587\n@a.test [evil.test]"));
    staging.table(Table::Credentials);
    staging.row(credentials("@a.test", "user", "pass word"));
    staging.row(credentials("v@a.test", "user", "line\nend"));
    // No credentials, whatever its domain has.
    staging.row(credentials("w@a.test", "", ""));
    assert_eq!(staging.bad_rows(), 2);
    directory.publish(staging, &provenance(1)).unwrap();
    directory.sync().unwrap();
    for (map, key, code, value) in [
        ("relayhost", "u@a.test", FOUND, "[r.test]:587"),
        ("sasl", "u@a.test", FOUND, "user:pass word"),
        ("relayhost", "u@bad.test", CANNOT_TELL, ""),
        ("relayhost", "v@bad.test", FOUND, "[r.test]:587"),
        ("sasl", "v@a.test", CANNOT_TELL, ""),
        ("sasl", "w@a.test", NOT_FOUND, ""),
        ("relayhost", "u@other.test", NOT_FOUND, ""),
    ] {
        assert_eq!(
            query(temp.path(), map, key),
            (code, value.to_owned()),
            "{map} {key}"
        );
    }
}
