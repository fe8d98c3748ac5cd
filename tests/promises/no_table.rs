//! Promise: text that is no table never replaces a good one, and a line that is for nobody stops nobody.

use crate::harness::client::{Both, Reply};
use crate::harness::daemon::{CREDENTIALS, Daemon, Finished, RELAYMAP, Setup, finish};
use crate::harness::names_place;
use std::fs;

const GOOD_RELAYMAP: &str = "@good.test [relay.test]:587\n";
const GOOD_CREDENTIALS: &str = "@good.test user:good\n";

/// What lands in the directory and is no table, and what the message names of it. Each is wrong as a relay map and as
/// credentials; `VALUE` is what belongs there.
const NO_TABLES: &[(&str, &str)] = &[
    ("@a.example,@b.example VALUE", "`,`"),
    ("mailto:u@e.example VALUE", "before the @"),
    ("'u@e.example' VALUE", "quotes"),
    ("<u@e.example> VALUE", "quotes or brackets"),
    ("@example..com VALUE", "domain name"),
    ("@example.com\u{a0}VALUE", "U+00A0 (no-break space)"),
    ("@example.com\u{a0} VALUE", "U+00A0 (no-break space)"),
    ("@example.com\u{200b} VALUE", "U+200B (zero width space)"),
    ("\u{feff}@example.com VALUE", "U+FEFF"),
    ("@example．com VALUE", "U+FF0E (fullwidth full stop)"),
    (
        "$ANSIBLE_VAULT;1.1;AES256\n66386439653236336462626566653063",
        "encrypted",
    ),
    ("-----BEGIN PGP MESSAGE-----", "encrypted"),
    ("QGRvbWFpbjEuY29tIFtyZWxheTEub3JnXTo1ODc=", ""),
    ("null", ""),
    ("<<<<<<< HEAD", "merge conflict"),
    ("=======", "merge conflict"),
    (">>>>>>> feature", "merge conflict"),
    ("@example.com:[relay]:587", "`:`"),
    ("@example.com: VALUE", "`:`"),
    ("@example.com,VALUE", "`,`"),
    ("\"@example.com\",\"VALUE\"", ""),
    ("- \"@example.com\": VALUE", ""),
    ("{\"@example.com\": \"VALUE\"}", ""),
    ("user:SECRET", ""),
    ("user@example.com:SECRET", "`:`"),
    ("@.example.com VALUE", "not supported yet"),
    ("@* VALUE", "not supported yet"),
    ("* VALUE", "not supported yet"),
    ("*.example.com VALUE", "not supported yet"),
    ("@example.com. VALUE", "dot"),
    ("@ VALUE", "domain"),
    ("<html>", ""),
];

fn with_value(text: &str, file: &str) -> String {
    let value = if file == RELAYMAP {
        "[relay]:587"
    } else {
        "user:SECRET"
    };
    text.replace("VALUE", value)
}

fn run(setup: &Setup, args: &[&str]) -> Finished {
    finish(setup.command(args[0]).args(&args[1..]), b"")
}

#[test]
#[ignore = "takes long: tests/run-all"]
fn what_is_no_table_never_replaces_a_good_file_and_the_log_names_its_place() {
    let setup = Setup::new().relaymap(GOOD_RELAYMAP).credentials(GOOD_CREDENTIALS);
    let (daemon, mut clients) = Both::start(setup);
    for (file, good) in [(RELAYMAP, GOOD_RELAYMAP), (CREDENTIALS, GOOD_CREDENTIALS)] {
        for (number, (text, named)) in NO_TABLES.iter().enumerate() {
            // Each on a line of its own, so that each is said.
            let before = "# comment\n".repeat(2 * number);
            daemon.replace(file, before + &with_value(text, file) + "\n");
            let line =
                daemon.wait_for_log(|line| line.contains("ERROR") && names_place(line, file, 2 * number + 1));
            assert!(line.contains(named), "{text}: {line}");
            assert!(!line.contains("SECRET"), "{line}");
            assert_eq!(clients.relayhost("x@good.test"), Reply::found("[relay.test]:587"));
            assert_eq!(clients.sasl("x@good.test"), Reply::found("user:good"));
            assert_eq!(clients.relayhost("x@example.com"), Reply::NotFound);
        }
        daemon.replace(file, good);
    }
}

#[test]
#[ignore = "takes long: tests/run-all"]
fn check_reports_it_with_line_and_help_and_relay_does_not_write_beside_it() {
    for (text, named) in NO_TABLES {
        for (file, command) in [
            (RELAYMAP, &["relay", "add-domain", "new.test", "r.test"][..]),
            (CREDENTIALS, &["relay", "add-auth", "new.test", "u", "p"]),
        ] {
            let content = format!("# first\n{}\n", with_value(text, file));
            let setup = Setup::new().file(file, &content);
            let checked = run(&setup, &["check", "--format", "json"]);
            assert_eq!(checked.code, Some(1), "{text}: {}", checked.stdout);
            let report = checked.json();
            let findings = report["findings"].as_array().unwrap();
            let error = findings
                .iter()
                .find(|finding| finding["severity"] == "error")
                .unwrap();
            assert_eq!(
                (&error["line"], &error["code"]),
                (&2.into(), &"bad-key".into()),
                "{error}"
            );
            assert!(error["file"].as_str().unwrap().ends_with(file), "{error}");
            assert!(error["column"].as_u64().is_some() && !error["help"].as_str().unwrap().is_empty());
            assert!(
                error["message"].as_str().unwrap().contains(named),
                "{text}: {error}"
            );
            let shown = run(&setup, &["check"]);
            assert!(!shown.stdout.contains("SECRET"), "{}", shown.stdout);
            let refused = run(&setup, command);
            assert_eq!(refused.code, Some(1), "{text}: {}", refused.stderr);
            assert_eq!(fs::read_to_string(setup.dir().join(file)).unwrap(), content);
            for command in [&["relay", "list"][..], &["relay", "list", "--format", "json"]] {
                let listed = run(&setup, command);
                let all = listed.stdout + &listed.stderr;
                assert!(!all.contains("SECRET"), "{text}: {all}");
            }
        }
    }
}

#[test]
fn at_start_nothing_is_not_found_beside_a_line_that_may_be_for_anybody() {
    let (_daemon, mut clients) = Both::start(
        Setup::new()
            .relaymap(format!("{GOOD_RELAYMAP}@other.test\u{a0}[r]:25\n"))
            .credentials(format!("{GOOD_CREDENTIALS}user:SECRET\n")),
    );
    assert_eq!(clients.relayhost("x@good.test"), Reply::found("[relay.test]:587"));
    assert_eq!(clients.sasl("x@good.test"), Reply::found("user:good"));
    for key in ["x@other.test", "x@any.test", "<>"] {
        assert!(clients.relayhost(key).is_cannot_tell(), "{key}");
    }
    for key in ["x@any.test", "relay.test", "[relay.test]:587"] {
        assert!(clients.sasl(key).is_cannot_tell(), "{key}");
    }
}

#[test]
fn a_relay_map_that_docker_mailserver_wrote_with_two_ats_starts_and_stops_nobody() {
    let (daemon, mut clients) = Both::start(
        Setup::new()
            .relaymap(
                "@@two.test [relay.test]:587\n@good.test [relay.test]:587\n@routed.test [relay.test]:587\n",
            )
            .credentials("@good.test user:good\n@@routed.test user:SECRET\n"),
    );
    let line = daemon.wait_for_log(|line| line.contains("ERROR") && names_place(line, RELAYMAP, 1));
    assert!(line.contains("two @") && line.contains("with one @"), "{line}");
    assert_eq!(clients.relayhost("x@good.test"), Reply::found("[relay.test]:587"));
    assert_eq!(clients.relayhost("x@two.test"), Reply::NotFound);
    assert_eq!(clients.relayhost("x@any.test"), Reply::NotFound);
    assert_eq!(clients.sasl("x@good.test"), Reply::found("user:good"));
    assert_eq!(clients.sasl("[relay.test]:587"), Reply::NotFound);
    // Its login was surely meant for this domain, and without it Postfix would not authenticate.
    assert!(clients.sasl("x@routed.test").is_cannot_tell());
    let checked = run(&daemon.setup(), &["check"]);
    assert_eq!(checked.code, Some(1));
    assert!(checked.stdout.contains("error[two-ats]"), "{}", checked.stdout);
}

#[test]
fn every_kind_of_key_that_postfix_asks_for_is_an_entry() {
    let senders = [
        ("<>", "<>"),
        ("@domain.test", "x@domain.test"),
        ("@localhost", "x@localhost"),
        ("@under_score.test", "x@under_score.test"),
        ("@xn--mnchen-3ya.test", "x@xn--mnchen-3ya.test"),
        ("@münchen.test", "x@MÜNCHEN.test"),
        ("@例え.テスト", "x@例え.テスト"),
        ("@[192.0.2.9]", "x@[192.0.2.9]"),
        ("user@own.test", "user@own.test"),
        ("o'neill+x@own.test", "o'neill+x@own.test"),
        ("üser@own.test", "üser@own.test"),
        ("*@own.test", "*@own.test"),
        ("user@[192.0.2.1]", "user@[192.0.2.1]"),
        ("user@[IPv6:2001:db8::1]", "user@[ipv6:2001:db8::1]"),
        ("\"john doe\"@own.test", "\"john doe\"@own.test"),
        ("\"a@b:c,d\"@own.test", "a@b:c,d@own.test"),
    ];
    let hosts = [
        "relay.test",
        "relay",
        "192.0.2.1",
        "2001:db8::1",
        "[relay.test]",
        "[relay.test]:587",
        "relay.test:587",
        "[2001:db8::1]:25",
        "[IPv6:2001:db8::1]:25",
        "relay.test:submission",
    ];
    let line = |key: &str, value: &str| format!("{key} {value}\n");
    let relaymap: String = senders
        .iter()
        .map(|(key, _)| line(key, "[relay.test]:587"))
        .collect();
    let of_senders = senders.iter().skip(1).map(|(key, _)| line(key, "user:sender"));
    let credentials: String = of_senders
        .chain(hosts.iter().map(|key| line(key, "user:host")))
        .collect();
    let (daemon, mut clients) = Both::start(Setup::new().relaymap(relaymap).credentials(credentials));
    for (number, (key, asked)) in senders.iter().enumerate() {
        assert_eq!(
            clients.relayhost(asked),
            Reply::found("[relay.test]:587"),
            "{key}"
        );
        if number > 0 {
            assert_eq!(clients.sasl(asked), Reply::found("user:sender"), "{key}");
        }
    }
    for key in hosts {
        assert_eq!(clients.sasl(key), Reply::found("user:host"), "{key}");
    }
    assert!(!daemon.log().contains("ERROR"), "{}", daemon.log());
}

#[test]
fn a_password_behind_a_colon_in_place_of_the_blank_is_never_listed() {
    let setup = Setup::new()
        .relaymap(GOOD_RELAYMAP)
        .credentials("@good.test user:good\nuser@gmail.example:SECRET\n@a.example:SECRET\n");
    for form in ["text", "json"] {
        let listed = run(&setup, &["relay", "list", "--format", form]);
        assert_eq!(listed.code, Some(1), "{}", listed.stdout);
        assert!(listed.stdout.contains("@good.test"), "{}", listed.stdout);
        assert!(listed.stderr.contains(":2:19: error"), "{}", listed.stderr);
        let all = listed.stdout + &listed.stderr;
        assert!(!all.contains("SECRET"), "{all}");
    }
}

#[test]
fn an_empty_password_is_an_error_and_its_key_cannot_tell() {
    let (daemon, mut clients) = Both::start(
        Setup::new()
            .relaymap("@a.test [relay.test]:587\n@good.test [relay.test]:587\n")
            .credentials("@a.test user:\n@good.test user:good\n[other.test]:25\n"),
    );
    daemon.wait_for_log(|line| line.contains("ERROR") && names_place(line, CREDENTIALS, 1));
    assert!(clients.sasl("x@a.test").is_cannot_tell());
    assert!(clients.sasl("[other.test]:25").is_cannot_tell());
    assert_eq!(clients.sasl("x@good.test"), Reply::found("user:good"));
    assert_eq!(clients.sasl("[relay.test]:587"), Reply::NotFound);
}

#[test]
fn a_directory_in_which_nothing_routes_or_a_name_is_misspelt_is_a_warning_of_check_and_at_start() {
    let warned = |setup: Setup, wanted: &str| {
        let checked = run(&setup, &["check", "--strict"]);
        assert_eq!(checked.code, Some(1), "{}", checked.stdout);
        assert!(checked.stdout.contains(wanted), "{wanted}: {}", checked.stdout);
        let daemon = Daemon::start(setup);
        daemon.wait_for_log(|line| line.contains("WARN") && line.contains(wanted));
    };
    warned(Setup::new(), "nothing here routes mail");
    warned(
        Setup::new().relaymap("# nothing yet\n"),
        "nothing here routes mail",
    );
    let misspelt = "the file is not read: its name is nearly postfix-relaymap.cf";
    warned(Setup::new().file("postfix-relay-map.cf", GOOD_RELAYMAP), misspelt);
    warned(
        Setup::new().file("postfix-relaymap.cf.txt", GOOD_RELAYMAP),
        misspelt,
    );
    warned(
        Setup::new()
            .relaymap(GOOD_RELAYMAP)
            .file("postfix-sasl-passwd.cf", GOOD_CREDENTIALS),
        "the file is not read: its name is nearly postfix-sasl-password.cf",
    );
    let copies = Setup::new()
        .relaymap(GOOD_RELAYMAP)
        .file("postfix-relaymap.cf~", "x")
        .file("postfix-relaymap.cf.bak", "x");
    let checked = run(&copies, &["check", "--strict"]);
    assert_eq!(checked.code, Some(0), "{}", checked.stdout);
    let default = Setup::new().env("RELAY_HOST", "r.test");
    let daemon = Daemon::start(default);
    assert!(!daemon.log().contains("WARN"), "{}", daemon.log());
}
