//! Promise: `probe` finds out whether a relay works as Postfix would use it, and no password leaves it or reaches a server that
//! does not meet the TLS policy.
//!
//! The relays are fake servers on loopback, each with a fault. Every run is checked for the passwords: they are in no output.

mod dns;
mod faults;
mod relay;
mod tls;

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::bench_command::interrupt::shown_at_a_terminal;
use crate::harness::daemon::{Finished, RELAY_TLS, Setup};
use crate::harness::smtp_server::{Auth, Login, Setup as Relay, SmtpServer};
use relay::{HOST, Scripted};

/// The password of all senders, and its forms on the wire: PLAIN with the user [`USER`], and LOGIN.
const PASSWORD: &str = "s3cret-p:w";
const USER: &str = "relay_user";
const IN_BASE64: [&str; 2] = ["AHJlbGF5X3VzZXIAczNjcmV0LXA6dw==", "czNjcmV0LXA6dw=="];

/// Whether this is, or contains, the password.
fn has_password(text: &str) -> bool {
    text.contains(PASSWORD) || text.contains("s3cret") || IN_BASE64.iter().any(|form| text.contains(form))
}

/// An empty directory, on a machine without Postfix, or with one whose settings change nothing. postconf waits a second where
/// main.cf is missing, and until it has not changed for a second.
fn setup() -> Setup {
    let setup = Setup::new();
    let main_cf = "compatibility_level = 3.6\nsmtp_sasl_auth_enable = yes\nsmtp_sasl_security_options = noanonymous\n\
                   smtp_tls_policy_maps = static:none\nsmtp_tls_CApath = /\n";
    let file = setup.root().join("main.cf");
    fs::write(&file, main_cf).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    fs::write(setup.root().join("master.cf"), "smtp unix - - n - - smtp\n").unwrap();
    let directory = setup.root().to_path_buf();
    setup.env("MAIL_CONFIG", directory)
}

/// A directory in which `@a.test` has this next hop, a login, and a line of the TLS file for the next hop.
fn sender(next_hop: &str, tls: &str) -> Setup {
    let setup = setup()
        .relaymap(format!("@a.test {next_hop}\n"))
        .credentials(format!("@a.test {USER}:{PASSWORD}\n"));
    if tls.is_empty() {
        return setup;
    }
    setup.file(RELAY_TLS, format!("{next_hop} {tls}\n"))
}

/// Runs `probe` with these words, and checks its output for the password.
#[track_caller]
fn probe(setup: &Setup, line: &str) -> Finished {
    let done = setup.run("probe", &line.split_whitespace().collect::<Vec<_>>());
    assert!(!has_password(&done.stdout), "{done:?}");
    assert!(!has_password(&done.stderr), "{done:?}");
    done
}

/// The only object of the output, after an exit with this code.
#[track_caller]
fn object(setup: &Setup, line: &str, code: i32) -> Value {
    let all = probe(setup, &format!("{line} --format json")).exits(code).json();
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
    all[0].clone()
}

/// The reason of a failure.
#[track_caller]
fn error(object: &Value) -> &str {
    object["error"].as_str().unwrap_or_else(|| panic!("{object}"))
}

/// A relay that accepts the login of `@a.test`, and no other.
fn good() -> SmtpServer {
    let login = Login::new(USER, PASSWORD);
    Relay::new("good", HOST).accepting(login).start().unwrap()
}

#[test]
fn a_relay_that_works_is_reported_with_all_that_was_found() {
    let relay = good();
    let setup = sender(&relay.next_hop(), "");
    let mut object = object(&setup, "user@a.test", 0);
    assert!(object["warnings"].to_string().contains("without TLS"), "{object}");
    object["warnings"] = json!([]);
    assert_eq!(
        object,
        json!({
            "sender": "user@a.test", "nexthop": relay.next_hop(), "host": "127.0.0.1", "address": "127.0.0.1",
            "connected": true, "tls": null, "verified": null, "policy": "may", "auth": ["PLAIN", "LOGIN"],
            "login": "accepted", "ok": true, "error": null, "user": USER, "auth_before_tls": ["PLAIN", "LOGIN"],
            "days_left": null, "warnings": [], "attempts": [], "other_senders": 0,
        })
    );
    let text = probe(&setup, "@a.test").exits(0);
    assert!(text.stdout.starts_with("ok "), "{text:?}");
    assert!(text.stdout.contains("logged in as relay_user"), "{text:?}");
    assert_eq!(text.stdout.lines().count(), 1, "{text:?}");
    assert_eq!(relay.mails(), []);
    assert_eq!(relay.attempts().len(), 2);
}

#[test]
fn the_login_is_that_of_the_sender_then_of_the_host_then_of_the_next_hop() {
    let relay = Relay::new("relay", HOST).start().unwrap();
    let next_hop = relay.next_hop();
    let by_next_hop = format!("{next_hop} hop:1\n");
    let by_host = format!("127.0.0.1 host:1\n{by_next_hop}");
    let by_sender = format!("@a.test sender:1\n{by_host}");
    for (credentials, user) in [(&by_next_hop, "hop"), (&by_host, "host"), (&by_sender, "sender")] {
        let setup = setup()
            .relaymap(format!("@a.test {next_hop}\n<> {next_hop}\n"))
            .credentials(credentials);
        assert_eq!(object(&setup, "@a.test", 0)["user"], user);
        let without_sender = if user == "hop" { "hop" } else { "host" };
        // Postfix queries no login of the null sender.
        assert_eq!(object(&setup, "<>", 0)["user"], without_sender);
        let by_hop = object(&setup, &format!("--next-hop {next_hop}"), 0);
        assert_eq!(
            (&by_hop["user"], &by_hop["sender"]),
            (&json!(without_sender), &Value::Null)
        );
    }
}

#[test]
fn the_default_relay_is_tried_with_its_own_login() {
    let relay = good();
    let setup = setup()
        .env("RELAY_HOST", "127.0.0.1")
        .env("RELAY_PORT", relay.port().to_string())
        .env("RELAY_USER", USER)
        .env("RELAY_PASSWORD", PASSWORD);
    for what in ["--all", "user@elsewhere.test"] {
        let object = object(&setup, what, 0);
        assert_eq!(
            (&object["login"], &object["user"]),
            (&json!("accepted"), &json!(USER))
        );
    }
}

#[test]
fn all_relays_are_tried_once_for_each_login_and_one_that_fails_is_an_exit_code() {
    let (one, two) = (
        good(),
        Relay::new("two", HOST).auth(Auth::Unknown).start().unwrap(),
    );
    let refused = relay::closed_port();
    let setup = setup()
        .relaymap(format!(
            "@a.test {one}\n@b.test {one}\n@c.test {one}\n@d.test {two}\n@e.test {refused}\n@f.test {refused}\n@direct.test\n",
            one = one.next_hop(),
            two = two.next_hop(),
        ))
        .credentials(format!(
            "@a.test {USER}:{PASSWORD}\n@b.test {USER}:{PASSWORD}\n@c.test other:{PASSWORD}\n@f.test other:{PASSWORD}\n"
        ));
    let all = probe(&setup, "--all --format json").exits(1).json();
    let all: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|object| {
            (
                object["sender"].as_str().unwrap(),
                object["other_senders"].as_u64().unwrap(),
                object["login"].as_str().unwrap(),
                object["ok"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        all,
        [
            ("@a.test", 1, "accepted", true),
            ("@c.test", 0, "refused", false),
            ("@d.test", 0, "not_tried", true),
            ("@e.test", 0, "not_tried", false),
            ("@f.test", 0, "not_tried", false),
        ]
    );
    let text = probe(&setup, "--all").exits(1);
    let results: Vec<&str> = text
        .stdout
        .lines()
        .map(|line| line.split("  ").next().unwrap().trim())
        .collect();
    assert_eq!(results, ["ok", "failed", "ok", "failed", "failed"], "{text:?}");
}

#[test]
fn many_relays_are_tried_at_once_and_reported_in_order() {
    // All wait for the timeout: one after the other, they would take longer than the test may.
    let relays: Vec<Scripted> = (0..40).map(|_| relay::silent()).collect();
    let lines = relays.iter().enumerate();
    let lines: Vec<String> = lines
        .map(|(n, relay)| format!("@{n:02}.test {}\n", relay.next_hop()))
        .collect();
    let all = probe(
        &setup().relaymap(lines.concat()),
        "--all --timeout 1 --format json",
    )
    .exits(1)
    .json();
    let senders: Vec<&str> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|object| object["sender"].as_str().unwrap())
        .collect();
    let expected: Vec<String> = (0..40).map(|n| format!("@{n:02}.test")).collect();
    assert_eq!(senders, expected);
}

#[test]
fn without_any_relay_there_is_nothing_to_try() {
    let done = probe(&setup(), "--all --format json").exits(0);
    assert_eq!(done.json(), json!([]));
    assert!(done.stderr.contains("no sender has a relay"), "{done:?}");
}

#[test]
fn a_list_is_tried_in_order_up_to_the_first_next_hop_that_works() {
    let (busy, relay) = (relay::greeting("421 4.7.0 try later\r\n"), good());
    let unused = Relay::new("unused", HOST).start().unwrap();
    let list = format!("{}, {}, {}", busy.next_hop(), relay.next_hop(), unused.next_hop());
    let object = object(&sender(&list, ""), "@a.test", 0);
    assert_eq!(
        (&object["nexthop"], &object["login"]),
        (&json!(list), &json!("accepted"))
    );
    assert_eq!(object["attempts"].as_array().unwrap().len(), 1, "{object}");
    assert!(
        object["attempts"][0]["error"]
            .as_str()
            .unwrap()
            .contains("421 4.7.0 try later"),
        "{object}"
    );
    assert_eq!(unused.attempts(), []);
}

#[test]
fn what_cannot_be_tried_has_an_exit_code_of_its_own() {
    let relay = good();
    let next_hop = relay.next_hop();
    for (map, tls, sender, reason) in [
        (format!("@a.test {next_hop}\n"), "", "@other.test", "no next hop"),
        ("@a.test\n".to_owned(), "", "@a.test", "no next hop"),
        ("@a.test [relay\n".to_owned(), "", "@a.test", "unknown"),
        (
            format!("@a.test {next_hop}\n"),
            "secret\n",
            "@a.test",
            "TLS policy is unknown",
        ),
        (
            format!("@a.test {next_hop}\n"),
            "fingerprint match=00:11\n",
            "@a.test",
            "SHA-256",
        ),
    ] {
        let mut setup = setup()
            .relaymap(map)
            .credentials(format!("@a.test {USER}:{PASSWORD}\n"));
        if !tls.is_empty() {
            setup = setup.file(RELAY_TLS, format!("{next_hop} {tls}"));
        }
        let object = object(&setup, sender, 75);
        assert!(error(&object).contains(reason), "{object}");
        assert_eq!(
            (&object["ok"], &object["login"]),
            (&json!(false), &json!("not_tried"))
        );
    }
    assert_eq!(relay.attempts(), []);
}

#[test]
fn an_argument_that_makes_no_sense_is_a_usage_error() {
    for line in [
        "",
        "--all @a.test",
        "a.test",
        "[relay.test]:587",
        "--next-hop [relay",
        "--all --timeout 0",
        "--all --ca /nonexistent.pem",
        "--all --ca /dev/null",
    ] {
        probe(&setup(), line).exits(2);
    }
}

#[test]
fn progress_is_shown_on_a_terminal_and_not_on_a_pipe() {
    let (one, two) = (good(), good());
    let map = format!("@a.test {}\n@b.test {}\n", one.next_hop(), two.next_hop());
    let setup = setup().relaymap(map);
    let shown = shown_at_a_terminal(&setup, "probe", &["--all"], None);
    assert!(
        shown.contains("0 of 2 relays tried") && shown.contains("1 of 2 relays tried"),
        "{shown:?}"
    );
    // The line is removed at the end.
    assert!(
        !shown.rsplit_once("\r\u{1b}[K").unwrap().1.contains("tried"),
        "{shown:?}"
    );
    let piped = probe(&setup, "--all").exits(0);
    assert!(!piped.stderr.contains("tried"), "{piped:?}");
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn settings_of_postfix_that_change_the_result_are_named() {
    let relay = relay::replying("250-relay.test\r\n250 AUTH PLAIN\r\n", "235 2.7.0 ok\r\n");
    let directory = tempfile::tempdir().unwrap();
    let master_cf =
        "smtp unix - - n - - smtp\nrelay-starttls unix - - n - - smtp\n  -o smtp_sasl_auth_enable=no\n";
    fs::write(directory.path().join("master.cf"), master_cf).unwrap();
    let setup = sender(&relay.next_hop(), "").env("MAIL_CONFIG", directory.path());
    let logs_in = "smtp_sasl_auth_enable = yes\n";
    let plain_text = "smtp_sasl_security_options = noanonymous\n";
    let transport = "sender_dependent_default_transport_maps = socketmap:inet:127.0.0.1:1:transport\n";
    for (main_cf, notes) in [
        (format!("{logs_in}{plain_text}"), [].as_slice()),
        (
            plain_text.to_owned(),
            &["smtp/unix: smtp_sasl_auth_enable is off"],
        ),
        (logs_in.to_owned(), &["noplaintext in smtp_sasl_security_options"]),
        (
            format!("{logs_in}{plain_text}smtp_tls_wrappermode = yes\n"),
            &["smtp_tls_wrappermode is on"],
        ),
        // The service that the map transport names has its own settings.
        (
            format!("{logs_in}{plain_text}{transport}"),
            &["relay-starttls/unix: smtp_sasl_auth_enable is off"],
        ),
    ] {
        fs::write(
            directory.path().join("main.cf"),
            format!("compatibility_level = 3.6\n{main_cf}"),
        )
        .unwrap();
        let done = probe(&setup, "@a.test").exits(0);
        assert_eq!(done.stderr.lines().count(), notes.len(), "{main_cf}{done:?}");
        assert!(
            notes.iter().all(|note| done.stderr.contains(note)),
            "{main_cf}{done:?}"
        );
    }
}
