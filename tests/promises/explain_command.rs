//! Promise: `postmapd query --explain` reports which keys were tried, which line answered, why, and what Postfix does
//! then, and never a password.
//!
//! The cases in tests/cases/explain have what it prints.

use crate::harness::daemon::{CREDENTIALS, Daemon, Finished, RELAYMAP, Setup};
use crate::harness::eventually;
use crate::harness::postfix::{self, DEADLINE, Postfix, Release};
use crate::harness::smtp_server::{self, Journal, SmtpServer};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread;

fn explain_to_end(setup: &Setup, map: &str, keys: &[&str]) -> Finished {
    let args = [&["--explain", "--format", "json", map], keys].concat();
    setup.run_query(&args)
}

/// The JSON object about one key.
#[track_caller]
fn explain(setup: &Setup, map: &str, key: &str) -> Value {
    let finished = explain_to_end(setup, map, &[key]);
    finished.json()
}

fn text(setup: &Setup, map: &str, key: &str) -> String {
    setup.run_query(&["--explain", map, key]).stdout
}

#[track_caller]
fn word<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field} in {object}"))
}

fn words(object: &Value, field: &str) -> Vec<String> {
    let list = object[field].as_array().unwrap();
    list.iter()
        .map(|word| word.as_str().unwrap().to_owned())
        .collect()
}

/// A line of a file of the directory, as `source` has it.
fn line(setup: &Setup, file: &str, line: usize) -> Value {
    json!({"file": setup.dir().join(file), "line": line})
}

#[test]
fn every_documented_case_is_explained_with_the_answer_of_query() {
    let cases: Value = serde_json::from_str(include_str!("../relay-cases.json")).unwrap();
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 90);
    for case in cases {
        let (map, key) = (word(case, "map"), word(case, "key"));
        let setup = crate::relay_cases::setup(case);
        let (plain, explained) = (setup.run_query(&[map, key]), explain_to_end(&setup, map, &[key]));
        let object = explained.json();
        let context = format!("{}: {object}", case["id"]);
        assert_eq!(
            (explained.code, &explained.stderr),
            (plain.code, &plain.stderr),
            "{context}"
        );
        let (outcome, value) = match case["expect"]["ok"].as_str() {
            None if case["expect"]["temp"] == true => ("cannot_tell", Value::Null),
            None => ("not_found", Value::Null),
            Some(value) if map == "sasl" => {
                let (user, password) = value.split_once(':').unwrap();
                assert!(
                    password.is_empty() || !explained.stdout.contains(&format!(":{password}")),
                    "{context}"
                );
                ("found", json!(format!("{user}:********")))
            }
            Some(value) => ("found", json!(value)),
        };
        assert_eq!(
            (word(&object, "outcome"), &object["value"]),
            (outcome, &value),
            "{context}"
        );
        assert_eq!(
            (word(&object, "map"), word(&object, "key")),
            (map, key),
            "{context}"
        );
        assert!(
            !words(&object, "tried").is_empty() && !word(&object, "reason").is_empty(),
            "{context}"
        );
        assert!(!object["source"].is_null() || outcome == "not_found", "{context}");
        // The text has the same content.
        let text = text(&setup, map, key);
        assert!(text.starts_with(&format!("{map} {key}\n")), "{text}");
        let answer = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("answer"))
            .unwrap()
            .trim();
        let wanted = match value {
            Value::String(value) => format!("found: {value}"),
            _ => outcome.replace('_', " "),
        };
        assert_eq!(answer, wanted, "{context}");
    }
}

/// Both files, and the senders.
const RELAYS: &str = "# who goes where\n\n@a.test [domain.test]:1\nann@a.test [ann.test]:2\nANN@a.test [second.test]:3\n\
                      ann+x@a.test [x.test]:4\n\"j d\"@a.test [jd.test]:5\n<> [null.test]:6\n@direct.test\n";
const PASSWORDS: &str = "@a.test domain:CANARY\n  ann@a.test ann:CANARY\nann+x@a.test x:CANARY\n\n[x.test]:4 hop:CANARY\n\
                         x.test host:CANARY\n";

#[test]
fn the_explained_source_is_the_line_that_decides_the_answer() {
    let setup = || {
        Setup::new()
            .relaymap(RELAYS)
            .credentials(PASSWORDS)
            .env("RELAY_HOST", "default.test")
    };
    let (senders, others) = (
        [
            "ann+x@a.test",
            "ann+y@a.test",
            "Ann@A.test",
            "bob@a.test",
            "\"J D+z\"@a.test",
            "<>",
            "bob@direct.test",
        ],
        [
            "ann+x@a.test",
            "ann+y@a.test",
            "bob@a.test",
            "[X.test]:4",
            "x.test",
        ],
    );
    for (map, file, text, keys) in [
        ("relayhost", RELAYMAP, RELAYS, &senders[..]),
        ("sasl", CREDENTIALS, PASSWORDS, &others),
    ] {
        for key in keys {
            let original = setup();
            let before = explain(&original, map, key);
            let number = usize::try_from(before["source"]["line"].as_u64().unwrap()).unwrap();
            assert_eq!(before["source"], line(&original, file, number), "{key}");
            let plain = |text: &str| {
                let setup = setup().file(file, text);
                let finished = setup.run_query(&[map, key]);
                (finished.code, finished.stdout)
            };
            let lines: Vec<_> = text.lines().collect();
            let with = |replacement: Option<String>| {
                let line = |(at, line): (usize, &&str)| {
                    if at + 1 == number {
                        replacement.clone()
                    } else {
                        Some((*line).to_owned())
                    }
                };
                let kept: Vec<_> = lines.iter().enumerate().filter_map(line).collect();
                kept.join("\n") + "\n"
            };
            // Another value on that line is the new answer.
            let entry = lines[number - 1].trim();
            let end_of_key = if entry.starts_with('"') {
                entry.rfind(' ').unwrap()
            } else {
                entry.find(' ').unwrap_or(entry.len())
            };
            let new = if map == "sasl" {
                "new:password"
            } else {
                "[new.test]:9"
            };
            assert_eq!(
                plain(&with(Some(format!("{} {new}", &entry[..end_of_key])))),
                (Some(0), format!("{new}\n")),
                "{key} is not answered by {file}:{number}"
            );
            // Without the line the answer is another one.
            assert_ne!(
                plain(&with(None)),
                plain(text),
                "{key} is answered without {file}:{number}"
            );
        }
    }
    // Without a line, the answer comes from the variable.
    let setup = setup()
        .env("DEFAULT_RELAY_HOST", "[null.test]:7")
        .env("RELAY_USER", "u")
        .env("RELAY_PASSWORD", "CANARY");
    for (map, key, source) in [
        ("relayhost", "u@else.test", json!({"variable": "RELAY_HOST"})),
        ("relayhost", "nodomain", json!({"variable": "DEFAULT_RELAY_HOST"})),
        ("sasl", "[default.test]:25", json!({"variable": "RELAY_USER"})),
        ("sasl", "else.test", Value::Null),
    ] {
        assert_eq!(explain(&setup, map, key)["source"], source, "{map} {key}");
    }
}

#[test]
fn no_password_is_in_any_explanation() {
    let default = |setup: Setup| {
        setup
            .env("RELAY_HOST", "default.test")
            .env("RELAY_USER", "default")
            .env("RELAY_PASSWORD", "CANARY")
    };
    for setup in [
        Setup::new().relaymap(RELAYS).credentials(PASSWORDS),
        default(Setup::new().relaymap(RELAYS).credentials(PASSWORDS)),
        default(
            Setup::new()
                .relaymap("@a.test u:CANARY\nu:CANARY @a.test\n\"CANARY\n")
                .credentials("CANARY\n@a.test CANARY\n[r] :CANARY\n"),
        ),
        Setup::new()
            .relaymap(RELAYS)
            .credentials("@a.test u:CAN:CANARY CANARY\nx.test u:CANARY\n[x.test]:4 CANARY\n"),
    ] {
        let asked = "ann@a.test ann+x@a.test bob@a.test u@direct.test u@else.test <> x.test [x.test]:4 [r] [default.test]:25";
        for map in ["relayhost", "sasl"] {
            for format in ["text", "json"] {
                let finished = setup.run_line(&format!("query --explain --format {format} {map} {asked}"));
                let printed = finished.stdout + &finished.stderr;
                assert!(!printed.contains("CANARY"), "{printed}");
                assert!(printed.contains("ann@a.test"), "{printed}");
            }
        }
    }
}

/// Forwards connections from `[::1]` to a server at 127.0.0.1, and returns the port.
fn forward_from_v6(to: &SmtpServer) -> io::Result<u16> {
    let listener = TcpListener::bind("[::1]:0")?;
    let port = listener.local_addr()?.port();
    let target = (HOST, to.port());
    // The thread ends with the process: there are no connections after the test.
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(target) else {
                continue;
            };
            for (mut from, mut to) in [
                (client.try_clone().unwrap(), server.try_clone().unwrap()),
                (server, client),
            ] {
                thread::spawn(move || {
                    drop(io::copy(&mut from, &mut to));
                    drop(to.shutdown(Shutdown::Write));
                });
            }
        }
    });
    Ok(port)
}

/// The requests to a server whose log is JSON at debug level: maps and keys, in order.
fn requests(daemon: &Daemon) -> Vec<(String, String)> {
    let lookup = |line: &str| {
        let event: Value = serde_json::from_str(line).ok()?;
        let is_lookup = event["message"] == "lookup";
        is_lookup.then(|| {
            (
                word(&event, "map").to_owned(),
                word(&event, "key").replace("\\\"", "\""),
            )
        })
    };
    daemon.log().lines().filter_map(lookup).collect()
}

/// A server, and a real Postfix that queries it.
struct Fixture {
    postfix: Postfix,
    daemon: Daemon,
    journal: Journal,
}

impl Fixture {
    fn start(release: Release, setup: Setup, journal: &Journal, port: u16) -> Self {
        let setup = setup
            .env("POSTMAPD_LOG", "debug")
            .env("POSTMAPD_LOG_FORMAT", "json");
        let daemon = Daemon::start(setup);
        let maps = ["relayhost", "sasl"].map(|map| format!("{}:{map}", daemon.endpoint(0)));
        let postfix = postfix::Setup::release(release)
            .unwrap()
            .set("inet_protocols", "all")
            .set("smtp_tcp_port", port.to_string())
            .set("sender_dependent_relayhost_maps", &maps[0])
            .set("smtp_sasl_password_maps", &maps[1])
            .start()
            .unwrap();
        Self {
            postfix,
            daemon,
            journal: journal.clone(),
        }
    }

    /// Sends a mail and waits until it has arrived.
    fn deliver(&self, sender: &str, recipient: &str) {
        self.postfix.submit(sender, recipient).unwrap();
        let mail = self.journal.mail_to(recipient, DEADLINE);
        assert!(mail.is_some(), "the mail of <{sender}> does not arrive");
    }
}

const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

#[test]
#[ignore = "needs root: tests/run-all"]
fn the_explained_lookups_for_credentials_are_those_of_a_real_postfix() {
    for release in Release::ALL {
        let journal = Journal::default();
        let server = smtp_server::Setup::new("relay", HOST)
            .journal(&journal)
            .start()
            .unwrap();
        let port = server.port();
        let v6 = forward_from_v6(&server).unwrap();
        // A port without a listener, for the first element of a list.
        let closed = TcpListener::bind((HOST, 0)).unwrap().local_addr().unwrap().port();
        let hops = [
            format!("[{HOST}]:{port}"),
            format!("{HOST}:{port}"),
            format!("[localhost]:{port}"),
            format!("[LocalHost]:{port}"),
            format!("[::1]:{v6}"),
            format!("[IPv6:::1]:{v6}"),
            format!("[{HOST}]"),
            format!("{HOST}"),
            format!("localhost:{port}"),
            format!("[{HOST}]:{closed}, [localhost]:{port}"),
            format!("[{HOST}]:{port} [localhost]:{port}"),
        ];
        // After these, Postfix's requests depend on what it finds: MX hosts, and elements that answer.
        let open_ended = ["ann@d8.test", "ann@d9.test", "ann@d10.test"];
        let lines = hops.iter().enumerate();
        let lines: Vec<_> = lines.map(|(n, hop)| format!("@d{n}.test {hop}\n")).collect();
        let relaymap = lines.concat();
        let setup = Setup::new()
            .relaymap(format!(
                "{relaymap}<> [{HOST}]:{port}\n@known.test [{HOST}]:{port}\n"
            ))
            .credentials("@known.test user:CANARY\n");
        let fixture = Fixture::start(release, setup, &journal, port);
        let senders = (0..hops.len())
            .map(|n| format!("ann@d{n}.test"))
            .chain(["Ann+x@D0.test", "\"a b\"@d1.test", "u@known.test", ""].map(str::to_owned));
        for (n, sender) in senders.enumerate() {
            let before = requests(&fixture.daemon).len();
            fixture.deliver(&sender, &format!("r{n}@[127.0.0.9]"));
            let key = if sender.is_empty() { "<>" } else { &sender };
            let object = explain(&fixture.daemon.setup(), "relayhost", key);
            let keys_explained: Vec<_> = object["credentials"]
                .as_array()
                .unwrap()
                .iter()
                .map(|request| word(request, "key").to_owned())
                .collect();
            // Another thread reads the log.
            let asked = || -> Vec<String> {
                let all = requests(&fixture.daemon);
                let sasl = all[before..].iter().filter(|(map, _)| map == "sasl");
                // Both forms of an address that needs quotes are one key, and Postfix requests a host twice that is
                // also the whole next hop.
                let mut keys: Vec<_> = sasl
                    .map(|(_, key)| key.clone())
                    .filter(|key| key != "a b@d1.test")
                    .collect();
                keys.dedup();
                keys
            };
            if open_ended.contains(&sender.as_str()) {
                let is_within = |outer: &[String], inner: &[String]| {
                    let mut rest = outer.iter();
                    inner.iter().all(|key| rest.any(|other| other == key))
                };
                eventually(asked, |asked| {
                    asked.len() == 3
                        && (is_within(&keys_explained, asked) || is_within(asked, &keys_explained))
                });
            } else {
                eventually(asked, |asked| *asked == keys_explained);
            }
        }
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_key_reported_as_never_queried_is_not_queried_by_a_real_postfix() {
    for release in Release::ALL {
        let journal = Journal::default();
        let server = smtp_server::Setup::new("relay", HOST)
            .journal(&journal)
            .start()
            .unwrap();
        let port = server.port();
        let hop = format!("[{HOST}]:{port}");
        let name = format!("[localhost]:{port}");
        let relaymap = format!(
            "@a.test {hop}\n@b.test {name}\n@mta.test {hop}\n<> {hop}\n@c.test. {hop}\n@c.test {hop}\na.test {hop}\nann {hop}\n\
         ann@ {hop}\n* {hop}\n*@a.test {hop}\nann@.test {hop}\nann@* {hop}\n<ann@a.test> {hop}\n{hop} {hop}\n"
        );
        let credentials = format!(
            "<> u:p\n{HOST}:{port} u:p\nlocalhost:{port} u:p\n[localhost]:1 u:p\n[{HOST}] u:p\nann@c.test. u:p\n\
         a.test u:p\n*@a.test u:p\n{HOST}:{port},{HOST} u:p\n"
        );
        let setup = Setup::new().relaymap(&relaymap).credentials(&credentials);
        let report = setup.run_line("check --format json");
        let report = report.json();
        let mut never = BTreeSet::new();
        for finding in report["findings"].as_array().unwrap() {
            if ["never-asked", "bare-domain", "bad-key"].contains(&word(finding, "code")) {
                let (map, text) = if word(finding, "file").ends_with(RELAYMAP) {
                    ("relayhost", &relaymap)
                } else {
                    ("sasl", &credentials)
                };
                let number = usize::try_from(finding["line"].as_u64().unwrap()).unwrap();
                let key = text.lines().nth(number - 1).unwrap().split(' ').next().unwrap();
                never.insert((map.to_owned(), key.to_owned()));
            }
        }
        assert_eq!(never.len(), 19, "{never:?}");

        // No credentials are found, so Postfix requests every key that it ever would. With an invalid key, *not found*
        // could not be answered.
        let is_right = |line: &&str| {
            let key = line.split(' ').next().unwrap().to_owned();
            !never.contains(&("relayhost".to_owned(), key))
        };
        let right: String = relaymap.split_inclusive('\n').filter(is_right).collect();
        let fixture = Fixture::start(release, Setup::new().relaymap(right), &journal, port);
        let senders = [
            "ann@a.test",
            "ann@b.test",
            "ann@c.test.",
            "ann@sub.a.test",
            "ann",
            "",
            "*@a.test+x@a.test",
        ];
        for (n, sender) in senders.iter().enumerate() {
            if *sender == "ann@sub.a.test" {
                // It has no relay: its mail stays in the queue, and its key has been requested still.
                fixture.postfix.submit(sender, "nobody@[127.0.0.9]").unwrap();
            } else {
                fixture.deliver(sender, &format!("n{n}@[127.0.0.9]"));
                // By SMTP, smtpd(8) sends requests as well.
                fixture
                    .postfix
                    .send(sender, &format!("s{n}@[127.0.0.9]"))
                    .unwrap();
            }
        }
        let expected = [
            ("relayhost", "ann@a.test"),
            ("relayhost", "ann@c.test"),
            ("relayhost", "ann@mta.test"),
            ("relayhost", "ann@sub.a.test"),
            ("relayhost", "\"<>\""),
            ("sasl", "ann@c.test"),
            ("sasl", "localhost"),
            ("sasl", name.as_str()),
            ("sasl", hop.as_str()),
        ];
        eventually(
            || requests(&fixture.daemon),
            |asked| {
                expected
                    .iter()
                    .all(|(map, key)| asked.contains(&((*map).to_owned(), (*key).to_owned())))
            },
        );
        let asked: BTreeSet<_> = requests(&fixture.daemon)
            .into_iter()
            .map(|(map, key)| (map, key.to_lowercase()))
            .collect();
        let surprises: Vec<_> = asked.intersection(&never).collect();
        assert!(surprises.is_empty(), "{surprises:?}");
    }
}

#[test]
#[ignore = "needs root: tests/run-all"]
fn a_next_hop_reported_as_shadowed_is_not_used_by_a_real_postfix() {
    for release in Release::ALL {
        let journal = Journal::default();
        let server = smtp_server::Setup::new("relay", HOST)
            .journal(&journal)
            .start()
            .unwrap();
        let hop = format!("[localhost]:{}", server.port());
        let setup = Setup::new()
            .relaymap(format!("@a.test {hop}\n"))
            .credentials(format!("{hop} hop:CANARY\nlocalhost host:CANARY\n"));
        let fixture = Fixture::start(release, setup, &journal, server.port());
        fixture.deliver("ann@a.test", "shadow@[127.0.0.9]");
        let users: Vec<_> = journal
            .attempts()
            .into_iter()
            .map(|attempt| attempt.login.user)
            .collect();
        assert_eq!(users, ["host"]);
    }
}
