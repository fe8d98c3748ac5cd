//! Promise: text that is no table never replaces a valid one, and a line for an unused key does not invalidate a table.

use crate::harness::client::{Both, Reply};
use crate::harness::daemon::{CREDENTIALS, RELAYMAP, Setup};
use crate::harness::names_place;
use std::fs;

const GOOD_RELAYMAP: &str = "@good.test [relay.test]:587\n";
const GOOD_CREDENTIALS: &str = "@good.test user:good\n";

/// Texts that are no table, as they end up in the directory, and how the message names each. Each is invalid as a relay
/// map and as credentials; `VALUE` is what belongs there.
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
    ("* VALUE", "wildcard"),
    ("*.example.com VALUE", "wildcard"),
    (".example.com VALUE", "wildcard"),
    ("user@* VALUE", "wildcard"),
    ("@.[192.0.2.1] VALUE", "domain name"),
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

#[test]
#[ignore = "takes long: tests/run-all"]
fn a_file_that_is_no_table_never_replaces_a_valid_one_and_the_log_names_its_place() {
    let setup = Setup::new().relaymap(GOOD_RELAYMAP).credentials(GOOD_CREDENTIALS);
    let (daemon, mut clients) = Both::start(setup);
    for (file, good) in [(RELAYMAP, GOOD_RELAYMAP), (CREDENTIALS, GOOD_CREDENTIALS)] {
        for (number, (text, named)) in NO_TABLES.iter().enumerate() {
            // Each is on another line, so that each is logged.
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
fn check_reports_a_file_that_is_no_table_and_relay_does_not_edit_it() {
    for (text, named) in NO_TABLES {
        for (file, command) in [
            (RELAYMAP, "relay add-domain new.test r.test"),
            (CREDENTIALS, "relay add-auth new.test u p"),
        ] {
            let content = format!("# first\n{}\n", with_value(text, file));
            let setup = Setup::new().file(file, &content);
            let checked = setup.run_line("check --format json");
            assert_eq!(checked.code, Some(1), "{text}: {}", checked.stdout);
            let report = checked.json();
            let findings = report["findings"].as_array().unwrap();
            let mut errors = findings.iter().filter(|finding| finding["severity"] == "error");
            let error = errors.next().unwrap();
            assert!(error["line"] == 2 && error["code"] == "bad-key", "{error}");
            assert!(error["file"].as_str().unwrap().ends_with(file), "{error}");
            assert!(error["column"].as_u64().is_some() && !error["help"].as_str().unwrap().is_empty());
            assert!(
                error["message"].as_str().unwrap().contains(named),
                "{text}: {error}"
            );
            let shown = setup.run_line("check");
            assert!(!shown.stdout.contains("SECRET"), "{}", shown.stdout);
            let refused = setup.run_line(command);
            assert_eq!(refused.code, Some(1), "{text}: {}", refused.stderr);
            assert_eq!(fs::read_to_string(setup.dir().join(file)).unwrap(), content);
            for command in ["relay list", "relay list --format json"] {
                let listed = setup.run_line(command);
                let all = listed.stdout + &listed.stderr;
                assert!(!all.contains("SECRET"), "{text}: {all}");
            }
        }
    }
}
