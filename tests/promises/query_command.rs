//! Promise: `postmapd query` prints what the server answers, and its exit code tells scripts.
//!
//! The cases in tests/cases/query have what it prints for files.

use crate::harness::client::Both;
use crate::harness::daemon::{Daemon, Setup};
use std::net::TcpListener;

fn setup() -> Setup {
    Setup::new()
        .relaymap(
            "@one.test [relay1.test]:587\n@two.test [relay2.test]:2525\n@direct.test\n@bad.test [relay\n",
        )
        .credentials("@one.test user1:pass word\n[relay1.test]:587 hop:secret\n")
        .env("POSTMAPD_LISTN", "a warning is not an error")
}

#[test]
fn a_running_server_answers_over_every_kind_of_endpoint() {
    let local = setup();
    let unix = format!("socketmap:unix:{}/socket", local.root().display());
    let daemon = Daemon::start(
        Both::ENDPOINTS
            .into_iter()
            .fold(local, Setup::listen)
            .listen(unix),
    );
    // The client has no tables.
    let without_tables = Setup::new();
    let socket = Both::ENDPOINTS.len();
    let expect = |endpoint: usize, request: &str, code: i32, answer: &str| {
        let line = format!("query --server {} {request}", daemon.endpoint(endpoint));
        let ran = without_tables.run_line(&line).exits(code);
        assert_eq!(ran.stdout, answer, "{line}: {}", ran.stderr);
    };
    for endpoint in [0, 1, socket] {
        expect(endpoint, "relayhost ann@one.test", 0, "[relay1.test]:587\n");
        expect(endpoint, "relayhost x@nowhere.test", 1, "");
        expect(endpoint, "relayhost ann@bad.test", 75, "");
        let keys = ["ann@one.test", "x@nowhere.test", "\"a b\"@two.test"];
        let args = ["--server", daemon.endpoint(endpoint), "relayhost"];
        let several = without_tables.run_query(&[&args, &keys[..]].concat()).exits(0);
        let answer = "ann@one.test\t[relay1.test]:587\n\"a b\"@two.test\t[relay2.test]:2525\n";
        assert_eq!(several.stdout, answer);
    }
    for endpoint in [0, 2, socket] {
        expect(endpoint, "sasl ann@one.test", 0, "user1:pass word\n");
        expect(endpoint, "sasl ann@direct.test", 1, "");
    }
    // A tcp_table serves one map; answers for another map would be wrong.
    let other_map = without_tables.run_line(&format!(
        "query --server {} sasl ann@one.test",
        daemon.endpoint(1)
    ));
    assert!(
        !matches!(other_map.code, Some(0 | 1)) && other_map.stdout.is_empty(),
        "{other_map:?}"
    );
}

#[test]
fn keys_from_standard_input_are_sent_to_a_server_too() {
    let daemon = Daemon::start(setup());
    let keys: Vec<String> = (0..1000).map(|n| format!("user{n}@one.test\n")).collect();
    let keys = keys.concat();
    let args = ["--server", daemon.endpoint(0), "relayhost", "-"];
    let ran = Setup::new().run_with("query", &args, &keys).exits(0);
    assert_eq!(ran.stdout, keys.replace('\n', "\t[relay1.test]:587\n"));
}

#[test]
fn a_server_that_is_down_cannot_tell() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let setup = Setup::new();
    let nothing = setup.root().join("nothing");
    for endpoint in [
        format!("socketmap:inet:{free}"),
        format!("tcp:{free}:relayhost"),
        format!("socketmap:unix:{}", nothing.display()),
    ] {
        let ran = setup.run_line(&format!("query --server {endpoint} relayhost ann@one.test"));
        assert!(
            ran.stdout.is_empty() && !ran.stderr.trim().is_empty(),
            "{endpoint}: {ran:?}"
        );
        ran.exits(75);
    }
}
