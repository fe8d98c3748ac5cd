//! Promise: `postmapd query` says what the server says, and its exit code says it to scripts.

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
fn one_key_prints_its_value_alone() {
    let setup = setup();
    check(
        &setup.query(&["relayhost", "ann@one.test"]),
        0,
        "[relay1.test]:587\n",
    );
    check(
        &setup.query(&["relayhost", "Ann+x@ONE.test"]),
        0,
        "[relay1.test]:587\n",
    );
    check(&setup.query(&["sasl", "ann@one.test"]), 0, "user1:pass word\n");
    check(&setup.query(&["sasl", "[relay1.test]:587"]), 0, "hop:secret\n");
}

#[test]
fn not_found_prints_nothing() {
    let setup = setup();
    for (map, key) in [
        ("relayhost", "ann@nowhere.test"),
        ("relayhost", "ann@direct.test"),
        ("sasl", "ann@two.test"),
    ] {
        let finished = setup.query(&[map, key]);
        check(&finished, 1, "");
    }
}

#[test]
fn cannot_tell_says_why_on_standard_error() {
    let setup = setup();
    for map in ["relayhost", "sasl"] {
        let finished = setup.query(&[map, "ann@bad.test"]);
        check(&finished, 75, "");
        assert!(!finished.stderr.trim().is_empty());
    }
}

#[test]
fn several_keys_print_a_line_each_as_postmap_does() {
    let setup = setup();
    check(
        &setup.query(&["relayhost", "ann@one.test", "x@nowhere.test", "ANN@two.test"]),
        0,
        "ann@one.test\t[relay1.test]:587\nANN@two.test\t[relay2.test]:2525\n",
    );
    check(
        &setup.query(&["relayhost", "x@nowhere.test", "y@direct.test"]),
        1,
        "",
    );
    check(
        &setup.query(&["relayhost", "ann@one.test", "ann@bad.test"]),
        75,
        "ann@one.test\t[relay1.test]:587\n",
    );
    check(
        &setup.query(&["relayhost", "x@nowhere.test", "ann@bad.test", "ann@one.test"]),
        75,
        "ann@one.test\t[relay1.test]:587\n",
    );
}

#[test]
fn a_dash_reads_keys_from_standard_input() {
    let setup = setup();
    let ask = |input: &str| setup.run_with("query", &["relayhost", "-"], input.as_bytes());
    check(&ask("ann@one.test\n"), 0, "ann@one.test\t[relay1.test]:587\n");
    check(
        &ask("ann@one.test\nx@nowhere.test\nann@two.test"),
        0,
        "ann@one.test\t[relay1.test]:587\nann@two.test\t[relay2.test]:2525\n",
    );
    check(&ask("x@nowhere.test\n"), 1, "");
    check(&ask(""), 1, "");
    // A blank line is no key: with a default for everyone it would be found.
    let mut command = setup.command("query");
    command
        .args(["relayhost", "-"])
        .env("DEFAULT_RELAY_HOST", "default.test");
    check(&finish(&mut command, b"\n\n"), 1, "");
    check(
        &ask("ann@bad.test\nann@one.test\n"),
        75,
        "ann@one.test\t[relay1.test]:587\n",
    );
    check(
        &ask("john doe@one.test\n\"a b\"@two.test\n<>\n"),
        0,
        "john doe@one.test\t[relay1.test]:587\n\"a b\"@two.test\t[relay2.test]:2525\n",
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

#[test]
fn what_is_no_question_is_an_error_of_usage() {
    let setup = setup();
    for args in [
        ["--nosuchflag", "relayhost", "ann@one.test"].as_slice(),
        &["relayhost"],
        &[],
        &["nosuchmap", "ann@one.test"],
        &["--server", "nonsense", "relayhost", "ann@one.test"],
        &[
            "--server",
            "socketmap:inet:127.0.0.1:x",
            "relayhost",
            "ann@one.test",
        ],
    ] {
        let finished = setup.query(args);
        check(&finished, 2, "");
        assert!(!finished.stderr.trim().is_empty(), "{args:?}");
    }
}

#[test]
fn the_environment_counts_as_it_does_for_the_server() {
    let setup = setup()
        .env("RELAY_HOST", "default.test")
        .env("RELAY_PORT", "2525")
        .env("RELAY_USER", "default")
        .env("RELAY_PASSWORD", "secret")
        .env("POSTMAPD_RECIPIENT_DELIMITER", "=");
    check(
        &setup.query(&["relayhost", "ann@nowhere.test"]),
        0,
        "[default.test]:2525\n",
    );
    check(
        &setup.query(&["sasl", "[default.test]:2525"]),
        0,
        "default:secret\n",
    );
}
