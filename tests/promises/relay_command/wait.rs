//! `--wait`: a script that adds a relay and sends at once finds the edit active.
//!
//! The oracle is a lookup right after the command, without a second try.

use super::relay;
use crate::harness::admin::{Admin, exchange};
use crate::harness::client::{Reply, Socketmap};
use crate::harness::daemon::{CREDENTIALS, Daemon, RELAYMAP, Setup};
use crate::harness::eventually;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

fn setup() -> Setup {
    Setup::new()
        .relaymap("@one.test [relay1.test]:587\n")
        .credentials("@one.test user:CANARY1\n")
}

#[test]
fn after_wait_the_first_lookup_has_the_edit() {
    let (daemon, admin) = Admin::start(setup());
    let mut client = Socketmap::to(&daemon, 0);
    let setup = daemon.setup();
    let wait = format!("--wait --admin {}", admin.address);
    for number in 0..10 {
        relay(&setup, &format!("add-domain new{number}.test relay2.test {wait}")).exits(0);
        let answer = client.query("relayhost", &format!("x@new{number}.test"));
        assert_eq!(answer, Reply::found("[relay2.test]:25"));
        relay(&setup, &format!("add-auth one.test user CANARY{number} {wait}")).exits(0);
        let answer = client.query("sasl", "x@one.test");
        assert_eq!(answer, Reply::found(&format!("user:CANARY{number}")));
    }
    relay(&setup, &format!("exclude-domain new0.test {wait}")).exits(0);
    assert_eq!(client.query("relayhost", "x@new0.test"), Reply::NotFound);
    relay(&setup, &format!("remove-domain new1.test {wait}")).exits(0);
    assert_eq!(client.query("relayhost", "x@new1.test"), Reply::NotFound);
    relay(&setup, &format!("remove-auth one.test {wait}")).exits(0);
    assert_eq!(client.query("sasl", "x@one.test"), Reply::NotFound);
    relay(&setup, &format!("set-tls [relay1.test]:587 encrypt {wait}")).exits(0);
    assert_eq!(client.query("tls", "[relay1.test]:587"), Reply::found("encrypt"));
    relay(&setup, &format!("remove-tls [relay1.test]:587 {wait}")).exits(0);
    let computed = client.query("tls", "[relay1.test]:587");
    assert_ne!(computed, Reply::found("encrypt"));
    // An edit that changes nothing is active already.
    let same = relay(&setup, &format!("add-domain new2.test relay2.test {wait}")).exits(0);
    assert_eq!(same.stdout, "@new2.test: [relay2.test]:25 without credentials\n");
}

#[test]
fn wait_reaches_a_unix_socket_that_the_settings_name() {
    let setup = setup();
    let socket = setup.root().join("admin");
    let setup = setup.settings(format!("admin = \"unix:{}\"\n", socket.display()));
    let daemon = Daemon::start(setup);
    let mut client = Socketmap::to(&daemon, 0);
    relay(&daemon.setup(), "add-domain two.test relay2.test 587 --wait=20").exits(0);
    let answer = client.query("relayhost", "x@two.test");
    assert_eq!(answer, Reply::found("[relay2.test]:587"));
}

#[test]
fn wait_prints_the_errors_for_which_the_server_rejects_the_edit() {
    let (daemon, admin) = Admin::start(setup());
    daemon.replace(CREDENTIALS, "@one.test user:CANARY1\n@two.test CANARY2\n");
    eventually(|| admin.get("/readyz").code, |code| *code == 503);
    let line = format!("add-domain two.test relay2.test --wait --admin {}", admin.address);
    let rejected = relay(&daemon.setup(), &line).exits(1);
    let place = format!("{}:2:", daemon.dir().join(CREDENTIALS).display());
    assert!(
        rejected.stderr.contains(&place) && rejected.stderr.contains(&format!("{RELAYMAP} is written, but")),
        "{rejected:?}"
    );
    assert!(!format!("{rejected:?}").contains("CANARY"), "{rejected:?}");
    let text = fs::read_to_string(daemon.dir().join(RELAYMAP)).unwrap();
    assert!(text.contains("@two.test"), "{text}");
    let mut client = Socketmap::to(&daemon, 0);
    assert_eq!(client.query("relayhost", "x@two.test"), Reply::NotFound);
}

#[test]
fn without_a_server_of_the_directory_wait_exits_with_75_and_says_what_to_set() {
    let setup = setup();
    let ran = relay(
        &setup,
        "add-domain two.test relay2.test --wait --admin unix:/no/such",
    )
    .exits(75);
    assert!(ran.stderr.contains("/no/such: No such file"), "{ran:?}");
    let ran = relay(&setup, "add-auth two.test user CANARY --wait").exits(75);
    for part in [
        "no admin listener is configured",
        "set admin = \"127.0.0.1:9451\" (or \"unix:PATH\") in postmapd.toml",
        "POSTMAPD_ADMIN",
    ] {
        assert!(ran.stderr.contains(part), "{ran:?}");
    }
    let text = fs::read_to_string(setup.dir().join(RELAYMAP)).unwrap();
    assert!(text.contains("@two.test"), "{text}");
    let (daemon, admin) = Admin::start(self::setup());
    let other = relay(
        &setup,
        &format!(
            "add-domain three.test relay3.test --wait --admin {}",
            admin.address
        ),
    );
    let other = other.exits(75);
    let served = daemon.dir().join(RELAYMAP).display().to_string();
    assert!(
        other.stderr.contains(&format!("serves {served}; set --admin")),
        "{other:?}"
    );
}

/// A server that answers each request with this status.
fn frozen_server(status: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
                head.push(byte[0]);
            }
            let length = status.len();
            // The client may have ended.
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{status}"
            );
        }
    });
    address
}

#[test]
fn wait_ends_with_75_if_the_server_never_reads_the_edit() {
    let (daemon, admin) = Admin::start(setup());
    // Another version of the file was read last, as with a file system that reports no changes.
    let address = frozen_server(exchange(&admin.address, "GET /status HTTP/1.0\r\n\r\n").body);
    for (table, line) in [
        (RELAYMAP, "add-domain two.test relay2.test"),
        (CREDENTIALS, "add-auth two.test user CANARY"),
    ] {
        let ran = relay(&daemon.setup(), &format!("{line} --wait=1 --admin {address}")).exits(75);
        let path = daemon.dir().join(table).display().to_string();
        assert!(
            ran.stderr.contains(&format!(
                "has not read the present version of {path} within 1 seconds"
            )),
            "{ran:?}"
        );
    }
}

#[test]
fn text_of_a_foreign_server_cannot_control_the_terminal() {
    let (daemon, admin) = Admin::start(setup());
    let status = exchange(&admin.address, "GET /status HTTP/1.0\r\n\r\n").body;
    let directory = daemon.dir().to_str().unwrap();
    let address = frozen_server(status.replace(directory, "/no\\u001b[2J"));
    for line in [
        format!("relay add-domain two.test relay2.test --wait=1 --admin {address}"),
        format!("check --against-server --admin {address}"),
    ] {
        let ran = daemon.setup().run_line(&line).exits(75);
        let text = format!("{}{}", ran.stdout, ran.stderr);
        assert!(
            text.contains("/no\\u{1b}[2J/") && !text.contains('\u{1b}'),
            "{text:?}"
        );
    }
}
