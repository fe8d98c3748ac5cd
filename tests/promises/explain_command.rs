//! Promise: `postmapd query --explain` says which keys were tried, which line answered, why, and what Postfix does then;
//! and never a password.

use crate::harness::daemon::{CREDENTIALS, Daemon, Finished, RELAYMAP, Setup, finish};
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
    setup.query(&args)
}

/// The object about one key.
#[track_caller]
fn explain(setup: &Setup, map: &str, key: &str) -> Value {
    let finished = explain_to_end(setup, map, &[key]);
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

fn text(setup: &Setup, map: &str, key: &str) -> String {
    setup.query(&["--explain", map, key]).stdout
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

/// A line of a file of the folder, as `source` names it.
fn line(setup: &Setup, file: &str, line: usize) -> Value {
    json!({"file": setup.dir().join(file), "line": line})
}

#[test]
fn every_case_of_the_page_is_explained_with_the_answer_that_query_gives() {
    let cases: Value = serde_json::from_str(include_str!("../relay-cases.json")).unwrap();
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 90);
    for case in cases {
        let (map, key) = (word(case, "map"), word(case, "key"));
        let setup = crate::relay_cases::setup(case);
        let (plain, explained) = (setup.query(&[map, key]), explain_to_end(&setup, map, &[key]));
        let object: Value = serde_json::from_str(&explained.stdout).unwrap();
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
        // For people it says the same.
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

/// What `trivial-rewrite -v` of Postfix 3.7 was seen to ask an indexed table, folded as the table folds it; the quoted
/// form of an address and the other one are one key here.
#[test]
fn the_keys_are_tried_in_the_order_of_postfix() {
    for (delimiter, key, expected) in [
        (
            "+",
            "User+Ext@One.Test",
            ["user+ext@one.test", "user@one.test", "@one.test"].as_slice(),
        ),
        ("+", "user@one.test", &["user@one.test", "@one.test"]),
        (
            "+",
            "\"a B+x\"@one.test",
            &["a b+x@one.test", "a b@one.test", "@one.test"],
        ),
        ("+", "Ünï@Exämple.test", &["ünï@exämple.test", "@exämple.test"]),
        ("+", "<>", &["<>"]),
        ("+", "\"<>\"", &["<>"]),
        ("+", "+u@one.test", &["+u@one.test", "@one.test"]),
        (
            "+",
            "postmaster+x@one.test",
            &["postmaster+x@one.test", "postmaster@one.test", "@one.test"],
        ),
        ("-", "owner-list@one.test", &["owner-list@one.test", "@one.test"]),
        (
            "-",
            "a-b-c@one.test",
            &["a-b-c@one.test", "a@one.test", "@one.test"],
        ),
        ("+", "straße@one.test", &["strasse@one.test", "@one.test"]),
        ("+", "a@sub.one.test", &["a@sub.one.test", "@sub.one.test"]),
    ] {
        let setup = Setup::new().env("POSTMAPD_RECIPIENT_DELIMITER", delimiter);
        for map in ["relayhost", "sasl"] {
            assert_eq!(
                words(&explain(&setup, map, key), "tried"),
                expected,
                "{map} {key}"
            );
        }
    }
    // A host is asked for as it is, and the search ends where something answers.
    let setup = Setup::new()
        .relaymap("u@a.test [r]\n@a.test [s]\n")
        .credentials("@a.test u:p\n");
    assert_eq!(
        words(&explain(&setup, "sasl", "[Relay.test]:587"), "tried"),
        ["[relay.test]:587"]
    );
    assert_eq!(
        words(&explain(&setup, "relayhost", "u+x@a.test"), "tried"),
        ["u+x@a.test", "u@a.test"]
    );
    assert_eq!(
        words(&explain(&setup, "relayhost", "v+x@a.test"), "tried"),
        ["v+x@a.test", "v@a.test", "@a.test"]
    );
}

/// Both files, and who asks.
const RELAYS: &str = "# who goes where\n\n@a.test [domain.test]:1\nann@a.test [ann.test]:2\nANN@a.test [second.test]:3\n\
                      ann+x@a.test [x.test]:4\n\"j d\"@a.test [jd.test]:5\n<> [null.test]:6\n@direct.test\n";
const PASSWORDS: &str = "@a.test domain:CANARY\n  ann@a.test ann:CANARY\nann+x@a.test x:CANARY\n\n[x.test]:4 hop:CANARY\n\
                         x.test host:CANARY\n";

#[test]
fn the_source_is_the_line_whose_change_changes_the_answer() {
    let setup = || {
        Setup::new()
            .relaymap(RELAYS)
            .credentials(PASSWORDS)
            .env("RELAY_HOST", "default.test")
    };
    for (map, file, text, keys) in [
        (
            "relayhost",
            RELAYMAP,
            RELAYS,
            [
                "ann+x@a.test",
                "ann+y@a.test",
                "Ann@A.test",
                "bob@a.test",
                "\"J D+z\"@a.test",
                "<>",
                "bob@direct.test",
            ]
            .as_slice(),
        ),
        (
            "sasl",
            CREDENTIALS,
            PASSWORDS,
            &[
                "ann+x@a.test",
                "ann+y@a.test",
                "bob@a.test",
                "[X.test]:4",
                "x.test",
            ],
        ),
    ] {
        for key in keys {
            let original = setup();
            let before = explain(&original, map, key);
            let number = usize::try_from(before["source"]["line"].as_u64().unwrap()).unwrap();
            assert_eq!(before["source"], line(&original, file, number), "{key}");
            let plain = |text: &str| {
                let setup = setup().file(file, text);
                let finished = setup.query(&[map, key]);
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
            let blank = if entry.starts_with('"') {
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
                plain(&with(Some(format!("{} {new}", &entry[..blank])))),
                (Some(0), format!("{new}\n")),
                "{key} is not answered by {file}:{number}"
            );
            // Without the line something else answers.
            assert_ne!(
                plain(&with(None)),
                plain(text),
                "{key} is answered without {file}:{number}"
            );
        }
    }
    // Without a line the variable answers.
    let setup = setup()
        .env("DEFAULT_RELAY_HOST", "[null.test]:7")
        .env("RELAY_USER", "u")
        .env("RELAY_PASSWORD", "CANARY");
    assert_eq!(
        explain(&setup, "relayhost", "u@else.test")["source"],
        json!({"variable": "RELAY_HOST"})
    );
    assert_eq!(
        explain(&setup, "relayhost", "nodomain")["source"],
        json!({"variable": "DEFAULT_RELAY_HOST"})
    );
    assert_eq!(
        explain(&setup, "sasl", "[default.test]:25")["source"],
        json!({"variable": "RELAY_USER"})
    );
    assert_eq!(explain(&setup, "sasl", "else.test")["source"], Value::Null);
}

#[test]
fn where_nothing_can_be_told_the_source_is_what_has_to_be_mended() {
    let setup = Setup::new()
        .relaymap("@a.test [r\n@b.test [r]\n")
        .credentials("@a.test u:CANARY\n@b.test CANARY\n");
    for (map, key, file, number) in [
        ("relayhost", "u@a.test", RELAYMAP, 1),
        ("sasl", "u@b.test", CREDENTIALS, 2),
        // The credentials are right; whether they may be used depends on the route.
        ("sasl", "u@a.test", RELAYMAP, 1),
    ] {
        let finished = explain_to_end(&setup, map, &[key]);
        assert_eq!(finished.code, Some(75));
        let object: Value = serde_json::from_str(&finished.stdout).unwrap();
        assert_eq!(
            (word(&object, "outcome"), &object["value"]),
            ("cannot_tell", &Value::Null)
        );
        assert_eq!(object["source"], line(&setup, file, number), "{map} {key}");
        assert!(word(&object, "reason").contains("error"), "{object}");
        let place = format!("{file}:{number}:");
        assert!(
            finished.stderr.contains(&place),
            "{place} is not in {}",
            finished.stderr
        );
        assert!(text(&setup, map, key).contains("keeps the mail"));
    }
    let setup = Setup::new().relaymap("\"open [r]\n");
    let object = explain(&setup, "relayhost", "u@a.test");
    assert_eq!(
        (word(&object, "outcome"), &object["source"]),
        ("cannot_tell", &Value::Null)
    );
}

#[test]
fn credentials_that_are_withheld_say_so() {
    let setup = Setup::new()
        .relaymap("@a.test [r]\n@direct.test\n")
        .credentials("@a.test u:CANARY\n@direct.test u:CANARY\n@else.test u:CANARY\n@none.test\n");
    for (key, because) in [
        ("u@direct.test", "no destination"),
        ("u@else.test", "no default relay"),
    ] {
        let object = explain(&setup, "sasl", key);
        assert_eq!(
            (word(&object, "outcome"), &object["value"]),
            ("not_found", &Value::Null)
        );
        let reason = word(&object, "reason");
        assert!(
            reason.contains("withheld") && reason.contains(because),
            "{reason}"
        );
        assert_eq!(word(&object["relayhost"], "outcome"), "not_found");
        let text = text(&setup, "sasl", key);
        assert!(text.contains("withheld") && !text.contains("CANARY"), "{text}");
    }
    for key in ["u@none.test", "u@never.test"] {
        let object = explain(&setup, "sasl", key);
        assert!(!word(&object, "reason").contains("withheld"), "{object}");
    }
}

#[test]
fn what_postfix_does_with_the_answer_is_said() {
    let setup = Setup::new()
        .relaymap("@a.test [r1.test]:587, r2.test\n@direct.test\n@tls.test [r]:465\n@bad.test [\n");
    for (map, key, said) in [
        (
            "relayhost",
            "u@a.test",
            &["connects to r1.test, port 587", "MX records of r2.test"][..],
        ),
        ("relayhost", "u@direct.test", &["recipient's own servers"]),
        ("relayhost", "u@tls.test", &["TLS begins at once"]),
        ("relayhost", "u@bad.test", &["keeps the mail"]),
        ("sasl", "u@a.test", &["server's host name next"]),
        ("sasl", "r1.test", &["next hop as it is written"]),
        ("sasl", "[r1.test]:587", &["the last thing it asks"]),
        ("sasl", "r2.test:25", &["the last thing it asks"]),
        // Without brackets it is the name of a server, and the next hop comes after it.
        ("sasl", "2001:db8::1", &["next hop as it is written"]),
    ] {
        let json = explain(&setup, map, key);
        let text = text(&setup, map, key);
        for part in said {
            assert!(word(&json, "postfix").contains(part), "{map} {key}: {json}");
            assert!(text.contains(part), "{map} {key}:\n{text}");
        }
    }
}

#[test]
fn several_keys_and_keys_from_standard_input_are_explained_one_by_one() {
    let setup = Setup::new().relaymap("@a.test [r]\n@bad.test [\n");
    let objects = |finished: &Finished| -> Vec<(String, String)> {
        let object = |line: &str| {
            let object: Value = serde_json::from_str(line).unwrap();
            (
                word(&object, "key").to_owned(),
                word(&object, "outcome").to_owned(),
            )
        };
        finished.stdout.lines().map(object).collect()
    };
    let pair = |key: &str, outcome: &str| (key.to_owned(), outcome.to_owned());
    let found = explain_to_end(&setup, "relayhost", &["u@a.test", "u@b.test"]);
    assert_eq!(
        (found.code, objects(&found)),
        (
            Some(0),
            vec![pair("u@a.test", "found"), pair("u@b.test", "not_found")]
        )
    );
    let unsure = explain_to_end(&setup, "relayhost", &["u@a.test", "u@bad.test"]);
    assert_eq!(unsure.code, Some(75));
    assert_eq!(objects(&unsure)[1], pair("u@bad.test", "cannot_tell"));
    assert_eq!(explain_to_end(&setup, "relayhost", &["u@b.test"]).code, Some(1));

    let mut command = setup.command("query");
    command.args([
        "--explain",
        "--format",
        "json",
        "relayhost",
        "x@a.test",
        "-",
        "y@a.test",
    ]);
    let finished = finish(&mut command, b"u@a.test\n\n\"a b\"@b.test");
    let keys: Vec<_> = objects(&finished).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["x@a.test", "u@a.test", "\"a b\"@b.test", "y@a.test"]);
}

#[test]
fn names_beyond_ascii_are_legible_and_a_terminal_is_safe() {
    let setup = Setup::new().relaymap("ünï@a.test [r]\n");
    let object = explain(&setup, "relayhost", "Ünï@a.test");
    assert!(word(&object, "reason").contains("ünï@a.test"), "{object}");
    let text = text(&setup, "relayhost", "a\u{1b}[31m@a.test");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn what_cannot_be_explained_is_an_error_of_usage() {
    let setup = Setup::new().relaymap("@a.test [r]\n");
    for args in [
        [
            "--explain",
            "--server",
            "socketmap:inet:127.0.0.1:1",
            "relayhost",
            "u@a.test",
        ]
        .as_slice(),
        &["--format", "json", "relayhost", "u@a.test"],
        &["--explain", "--format", "xml", "relayhost", "u@a.test"],
        &["--explain", "nosuchmap", "u@a.test"],
        &["--explain", "relayhost"],
    ] {
        let finished = setup.query(args);
        assert_eq!(
            (finished.code, finished.stdout.as_str()),
            (Some(2), ""),
            "{args:?}: {finished:?}"
        );
        assert!(!finished.stderr.is_empty(), "{args:?}");
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
        let asked = [
            "ann@a.test",
            "ann+x@a.test",
            "bob@a.test",
            "u@direct.test",
            "u@else.test",
            "<>",
            "x.test",
            "[x.test]:4",
            "[r]",
            "[default.test]:25",
        ];
        for map in ["relayhost", "sasl"] {
            for format in ["text", "json"] {
                let finished =
                    setup.query(&[&["--explain", "--format", format, map], asked.as_slice()].concat());
                let printed = finished.stdout + &finished.stderr;
                assert!(!printed.contains("CANARY"), "{printed}");
                assert!(printed.contains("ann@a.test"), "{printed}");
            }
        }
    }
}

/// Passes connections to `[::1]` on to a server at 127.0.0.1, and says at which port.
fn forward_from_v6(to: &SmtpServer) -> io::Result<u16> {
    let listener = TcpListener::bind("[::1]:0")?;
    let port = listener.local_addr()?.port();
    let target = (HOST, to.port());
    // Ends with the process: nobody connects to it after the test.
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

/// What was asked of a server whose log is JSON at debug level: maps and keys, in order.
fn questions(daemon: &Daemon) -> Vec<(String, String)> {
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

/// A server, and a real Postfix that asks it.
struct Scene {
    postfix: Postfix,
    daemon: Daemon,
    journal: Journal,
}

impl Scene {
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
fn the_chain_of_questions_for_credentials_is_that_of_a_real_postfix() {
    for release in Release::ALL {
        the_chain_of_questions_is_that_of(release);
    }
}

fn the_chain_of_questions_is_that_of(release: Release) {
    let journal = Journal::default();
    let server = smtp_server::Setup::new("relay", HOST)
        .journal(&journal)
        .start()
        .unwrap();
    let port = server.port();
    let v6 = forward_from_v6(&server).unwrap();
    // A port at which nobody listens, for the first element of a list.
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
    // Behind these, what Postfix asks depends on what it finds: MX hosts, and elements that answer.
    let open_ended = ["ann@d8.test", "ann@d9.test", "ann@d10.test"];
    let lines = hops.iter().enumerate();
    let lines: Vec<_> = lines.map(|(n, hop)| format!("@d{n}.test {hop}\n")).collect();
    let relaymap = lines.concat();
    let setup = Setup::new()
        .relaymap(format!(
            "{relaymap}<> [{HOST}]:{port}\n@known.test [{HOST}]:{port}\n"
        ))
        .credentials("@known.test user:CANARY\n");
    let scene = Scene::start(release, setup, &journal, port);
    let senders = (0..hops.len())
        .map(|n| format!("ann@d{n}.test"))
        .chain(["Ann+x@D0.test", "\"a b\"@d1.test", "u@known.test", ""].map(str::to_owned));
    for (n, sender) in senders.enumerate() {
        let before = questions(&scene.daemon).len();
        scene.deliver(&sender, &format!("r{n}@[127.0.0.9]"));
        let key = if sender.is_empty() { "<>" } else { &sender };
        let object = explain(&scene.daemon.setup(), "relayhost", key);
        let said: Vec<_> = object["credentials"]
            .as_array()
            .unwrap()
            .iter()
            .map(|question| word(question, "key").to_owned())
            .collect();
        // The log is read by another thread than this one.
        let asked = || -> Vec<String> {
            let all = questions(&scene.daemon);
            let sasl = all[before..].iter().filter(|(map, _)| map == "sasl");
            // Both forms of an address that needs quotes are one key, and Postfix asks twice for a host that is also
            // the whole next hop.
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
                asked.len() == 3 && (is_within(&said, asked) || is_within(asked, &said))
            });
        } else {
            eventually(asked, |asked| *asked == said);
        }
    }
}

#[test]
fn a_key_that_check_says_is_never_asked_is_not_asked_by_a_real_postfix() {
    for release in Release::ALL {
        a_key_that_check_says_is_never_asked_is_not_asked_by(release);
    }
}

fn a_key_that_check_says_is_never_asked_is_not_asked_by(release: Release) {
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
         ann@ {hop}\n* {hop}\n*@a.test {hop}\n@.test {hop}\n@.a.test {hop}\n<ann@a.test> {hop}\n{hop} {hop}\n"
    );
    let credentials = format!(
        "<> u:p\n{HOST}:{port} u:p\nlocalhost:{port} u:p\n[localhost]:1 u:p\n[{HOST}] u:p\nann@c.test. u:p\n\
         a.test u:p\n*@a.test u:p\n{HOST}:{port},{HOST} u:p\n"
    );
    let setup = Setup::new().relaymap(&relaymap).credentials(&credentials);
    let report = finish(setup.command("check").args(["--format", "json"]), b"");
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
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

    // No credentials are found, so Postfix asks for all that it ever would. Where a key is none, what is not found could
    // not be told.
    let is_right = |line: &&str| {
        let key = line.split(' ').next().unwrap().to_owned();
        !never.contains(&("relayhost".to_owned(), key))
    };
    let right: String = relaymap.split_inclusive('\n').filter(is_right).collect();
    let scene = Scene::start(release, Setup::new().relaymap(right), &journal, port);
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
            // It has no relay: its mail stays in the queue, and its key has been asked all the same.
            scene.postfix.submit(sender, "nobody@[127.0.0.9]").unwrap();
        } else {
            scene.deliver(sender, &format!("n{n}@[127.0.0.9]"));
            // By SMTP, smtpd(8) asks as well.
            scene.postfix.send(sender, &format!("s{n}@[127.0.0.9]")).unwrap();
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
        || questions(&scene.daemon),
        |asked| {
            expected
                .iter()
                .all(|(map, key)| asked.contains(&((*map).to_owned(), (*key).to_owned())))
        },
    );
    let asked: BTreeSet<_> = questions(&scene.daemon)
        .into_iter()
        .map(|(map, key)| (map, key.to_lowercase()))
        .collect();
    let surprises: Vec<_> = asked.intersection(&never).collect();
    assert!(surprises.is_empty(), "{surprises:?}");
}

#[test]
fn a_next_hop_that_check_says_is_shadowed_is_not_used_by_a_real_postfix() {
    for release in Release::ALL {
        a_next_hop_that_check_says_is_shadowed_is_not_used_by(release);
    }
}

fn a_next_hop_that_check_says_is_shadowed_is_not_used_by(release: Release) {
    let journal = Journal::default();
    let server = smtp_server::Setup::new("relay", HOST)
        .journal(&journal)
        .start()
        .unwrap();
    let hop = format!("[localhost]:{}", server.port());
    let setup = Setup::new()
        .relaymap(format!("@a.test {hop}\n"))
        .credentials(format!("{hop} hop:CANARY\nlocalhost host:CANARY\n"));
    let scene = Scene::start(release, setup, &journal, server.port());
    scene.deliver("ann@a.test", "shadow@[127.0.0.9]");
    let users: Vec<_> = journal
        .attempts()
        .into_iter()
        .map(|attempt| attempt.login.user)
        .collect();
    assert_eq!(users, ["host"]);
}
