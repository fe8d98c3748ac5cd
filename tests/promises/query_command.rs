//! Promise: `postmapd query` says what the server says, and its exit code says it to scripts.
//!
//! What it prints for files of its own is in tests/cases/query.

use crate::harness::client::Both;
use crate::harness::daemon::{Daemon, Finished, Setup, finish};
use std::net::TcpListener;

fn setup() -> Setup {
    Setup::new()
        .relaymap(
            "@one.test [relay1.test]:587\n@two.test [relay2.test]:2525\n@direct.test\n@bad.test [relay\n",
        )
        .credentials("@one.test user1:pass word\n[relay1.test]:587 hop:secret\n")
        .env("POSTMAPD_LISTN", "a warning is not an error")
}

#[track_caller]
fn check(finished: &Finished, code: i32, stdout: &str) {
    assert_eq!(
        (finished.code, finished.stdout.as_str()),
        (Some(code), stdout),
        "{}",
        finished.stderr
    );
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
    // The asking side has no tables of its own.
    let elsewhere = Setup::new();
    let ask = |endpoint: usize, args: &[&str]| {
        elsewhere.query(&[&["--server", daemon.endpoint(endpoint)], args].concat())
    };
    for endpoint in [0, 1, 3] {
        check(
            &ask(endpoint, &["relayhost", "ann@one.test"]),
            0,
            "[relay1.test]:587\n",
        );
        check(&ask(endpoint, &["relayhost", "x@nowhere.test"]), 1, "");
        check(&ask(endpoint, &["relayhost", "ann@bad.test"]), 75, "");
        check(
            &ask(
                endpoint,
                &["relayhost", "ann@one.test", "x@nowhere.test", "\"a b\"@two.test"],
            ),
            0,
            "ann@one.test\t[relay1.test]:587\n\"a b\"@two.test\t[relay2.test]:2525\n",
        );
    }
    for endpoint in [0, 2, 3] {
        check(&ask(endpoint, &["sasl", "ann@one.test"]), 0, "user1:pass word\n");
        check(&ask(endpoint, &["sasl", "ann@direct.test"]), 1, "");
    }
    // A tcp_table serves one map; the answers of another are no answers.
    let other_map = ask(1, &["sasl", "ann@one.test"]);
    assert!(!matches!(other_map.code, Some(0 | 1)), "{other_map:?}");
    assert_eq!(other_map.stdout, "");
}

#[test]
fn keys_from_standard_input_go_to_a_server_too() {
    let daemon = Daemon::start(setup());
    let mut command = Setup::new().command("query");
    command.args(["--server", daemon.endpoint(0), "relayhost", "-"]);
    let keys: Vec<String> = (0..1000).map(|n| format!("user{n}@one.test\n")).collect();
    let lines: Vec<String> = (0..1000)
        .map(|n| format!("user{n}@one.test\t[relay1.test]:587\n"))
        .collect();
    check(
        &finish(&mut command, keys.concat().as_bytes()),
        0,
        &lines.concat(),
    );
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
        let finished = setup.query(&["--server", &endpoint, "relayhost", "ann@one.test"]);
        check(&finished, 75, "");
        assert!(!finished.stderr.trim().is_empty(), "{endpoint}");
    }
}
