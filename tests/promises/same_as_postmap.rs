//! Promise: the answers are those of Postfix's own tables, for every key that Postfix would have requested from them.
//!
//! The oracle is `postmap -q` on `texthash:` and `lmdb:` tables of the same generated files. For each sender the test
//! looks up the keys of `mail_addr_find` in order (the address, quoted where it needs quotes, then unquoted; both again
//! without the extension; the domain) and takes the first hit. The server is queried by `postmap` too, for the two keys
//! that Postfix sends to a socketmap or `tcp_table`.
//!
//! Where the grammar differs on purpose (contract, section 1), nothing is generated:
//! - an indented line: an entry here, a continuation of the line before it for Postfix;
//! - ` #` in the relay map: a comment here, a part of the value for Postfix;
//! - a key without a value: an exclusion here, ignored by Postfix;
//! - quotes that a key does not need, or two forms of one address: one key here, two for Postfix;
//! - the null sender's credentials: Postfix never requests them;
//! - `@.domain` and `@*`: wildcards here, of which Postfix finds nothing (`import_command` tests that);
//! - a key without a domain: Postfix requests it only where the domain is its own;
//! - control bytes and what is not UTF-8: an error here.
//!
//! `DUNNO` is generated: `postmap` prints it, and `trivial-rewrite` treats it as "not found", as the server does.

use crate::harness::daemon::{CREDENTIALS, Daemon, Finished, RELAYMAP, Setup, finish};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestError, TestRunner};
use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// A Postfix configuration that case-folds keys as SMTPUTF8 requires.
struct Postfix {
    directory: PathBuf,
}

impl Postfix {
    fn new(root: &Path) -> Self {
        let directory = root.join("postfix");
        fs::create_dir(&directory).unwrap();
        fs::write(
            directory.join("main.cf"),
            "compatibility_level = 3.6\nsmtputf8_enable = yes\n",
        )
        .unwrap();
        fs::write(directory.join("master.cf"), "").unwrap();
        Self { directory }
    }

    fn postmap(&self) -> Command {
        let mut command = Command::new("postmap");
        command.arg("-c").arg(&self.directory);
        command
    }

    /// Looks up all keys at once, and returns those that the table has.
    fn query(&self, table: &str, keys: &BTreeSet<String>) -> HashMap<String, String> {
        let lines: Vec<String> = keys.iter().map(|key| format!("{key}\n")).collect();
        let finished = run(self.postmap().args(["-q", "-", table]), lines.concat().as_bytes());
        // Exit code 1 means "none of them". It is also that of an error, which prints a message.
        assert!(
            matches!(finished.code, Some(0 | 1))
                && !finished.stderr.contains("error")
                && !finished.stderr.contains("fatal"),
            "postmap -q - {table}: {}",
            finished.stderr
        );
        let answers = finished
            .stdout
            .lines()
            .map(|line| line.split_once('\t').expect("key, tab, value"));
        answers
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    /// Copies a file next to the configuration, and makes both kinds of table of it.
    fn tables(&self, file: &Path) -> [String; 2] {
        let copy = self.directory.join(file.file_name().unwrap());
        fs::copy(file, &copy).unwrap();
        // Postfix waits where a texthash file is younger than a second.
        let past = SystemTime::now() - Duration::from_secs(60);
        File::options()
            .write(true)
            .open(&copy)
            .unwrap()
            .set_modified(past)
            .unwrap();
        let lmdb = format!("lmdb:{}", copy.display());
        let built = run(self.postmap().arg(&lmdb), b"");
        assert_eq!(
            built.code,
            Some(0),
            "postmap {lmdb} (is postfix-lmdb installed?): {}",
            built.stderr
        );
        [format!("texthash:{}", copy.display()), lmdb]
    }
}

/// Runs `postmap`. Fails the test with what is missing.
fn run(command: &mut Command, input: &[u8]) -> Finished {
    let there = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|directory| directory.join(command.get_program()).exists());
    assert!(
        there,
        "postmap is not in PATH (as root it is in /usr/sbin): apt-get install postfix postfix-lmdb"
    );
    finish(command, input)
}

/// The local part as written by `quote_822_local`.
pub(crate) fn quoted(address: &str) -> String {
    let (local, domain) = match address.rfind('@') {
        Some(at) => address.split_at(at),
        None => (address, ""),
    };
    let special = |c: char| c == ' ' || c.is_ascii_control() || "()<>@,;:\\\"[]".contains(c);
    let dots = local.is_empty() || local.starts_with('.') || local.ends_with('.') || local.contains("..");
    if !dots && !local.contains(special) {
        return address.to_owned();
    }
    format!("\"{}\"{domain}", local.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The address without its extension, as by `strip_addr` with `recipient_delimiter = +`.
fn stripped(address: &str) -> Option<String> {
    let at = address.rfind('@')?;
    let local = &address[..at];
    let plus = local.find('+').filter(|&plus| plus > 0)?;
    Some(format!("{}{}", &local[..plus], &address[at..]))
}

/// The keys that Postfix requests from a table, in their order. The address is in internal form: without quotes.
fn keys(address: &str) -> Vec<String> {
    let mut keys = vec![quoted(address), address.to_owned()];
    if let Some(stripped) = stripped(address) {
        keys.extend([quoted(&stripped), stripped]);
    }
    if let Some(at) = address.rfind('@') {
        keys.push(address[at..].to_owned());
    }
    keys
}

/// The keys that Postfix sends to a server.
fn whole_keys(address: &str) -> [String; 2] {
    [quoted(address), address.to_owned()]
}

/// Words of addresses; only a few, so that senders match entries.
fn local() -> impl Strategy<Value = String> + Clone {
    select(vec![
        "ann",
        "Ann",
        "BOB",
        "bob.builder",
        "straße",
        "STRASSE",
        "stra\u{1e9e}e",
        "ΣΊΣΥΦΟΣ",
        "σίσυφος",
        "İlker",
        "i\u{307}lker",
        "ilker",
        "ılker",
        "ünï",
        "ÜNÏ",
        "ﬁn",
        "FIN",
        "ŉ",
        "Ꭰ",
        "ꭰ",
        "ԵՒ",
        "և",
        "\u{212a}elvin",
        "kelvin",
        "ſ",
        "postmaster",
        "MAILER-DAEMON",
        "double-bounce",
        "owner-list",
        "list-request",
        "SRS0=Uy8S=2V=abc.example=info",
        "o'neill",
        "a/b=c?d",
        "{x}~`|",
        "#hash",
        "a b",
        "A  B",
        "a@b",
        "a\"b",
        "a\\b",
        "a,b",
        "<x>",
        "(x)",
        ".dot",
        "dot.",
        "d..d",
        "a:b;c",
        "[x]",
    ])
    .prop_map(str::to_owned)
}

fn extension() -> impl Strategy<Value = String> + Clone {
    select(vec![
        "",
        "",
        "",
        "+",
        "+x",
        "+X",
        "+news+more",
        "+ü",
        "+a b",
        "+@",
        "++",
    ])
    .prop_map(str::to_owned)
}

fn domain() -> impl Strategy<Value = String> + Clone {
    select(vec![
        "one.test",
        "ONE.Test",
        "two.test",
        "sub.one.test",
        "straße.test",
        "strasse.TEST",
        "xn--strae-oqa.test",
        "münchen.test",
        "MÜNCHEN.test",
        "ΣΊΣΥΦΟΣ.gr",
        "σίσυφος.gr",
        "İ.test",
        "i.test",
        "[192.0.2.1]",
        "[IPv6:2001:db8::1]",
        "[ipv6:2001:DB8::1]",
        "пример.рф",
        "ПРИМЕР.РФ",
        "例え.test",
        "test",
    ])
    .prop_map(str::to_owned)
}

/// A sender in internal form.
fn sender() -> impl Strategy<Value = String> + Clone {
    prop_oneof![
        60 => (local(), extension(), domain()).prop_map(|(local, extension, domain)| format!("{local}{extension}@{domain}")),
        1 => Just("<>".to_owned()),
    ]
}

/// A key of a file, and the sender in internal form for which it is meant, if any.
fn key() -> impl Strategy<Value = (String, Option<String>)> + Clone {
    prop_oneof![
        3 => sender().prop_map(|sender| (file_key(&sender), Some(sender))),
        1 => domain().prop_map(|domain| (format!("@{domain}"), Some(format!("somebody@{domain}")))),
    ]
    // A line that begins with it is a comment.
    .prop_filter("a comment", |(key, _)| !key.starts_with('#'))
}

/// A sender as in a file: quoted only where Postfix would quote it.
fn file_key(sender: &str) -> String {
    if sender == "<>" {
        sender.to_owned()
    } else {
        quoted(sender)
    }
}

fn next_hop() -> impl Strategy<Value = String> + Clone {
    select(vec![
        "[relay1.test]:587",
        "[relay1.test]",
        "relay2.test:submission",
        "Relay2.Test",
        "[2001:db8::25]:25",
        "192.0.2.25:2525",
        "[relay1.test]:587, [relay2.test]:587",
        "[relay1.test]:587 relay2.test",
        "a.test,b.test",
        "DUNNO",
        "dunno",
    ])
    .prop_map(str::to_owned)
}

fn credential() -> impl Strategy<Value = String> + Clone {
    (
        "[a-zA-Z0-9._@ü-]{1,12}",
        "[!-~ßΣ€😀]([ -~ßΣ€😀]{0,20}[!-~ßΣ€😀])?",
    )
        .prop_map(|(user, password)| format!("{user}:{password}"))
}

/// A generated file, and the senders for which its keys are meant.
#[derive(Debug, Clone)]
struct Table {
    text: String,
    senders: Vec<String>,
}

/// Entries, comments and empty lines, with either line end, the last one possibly missing.
fn table(
    key: impl Strategy<Value = (String, Option<String>)>,
    value: impl Strategy<Value = String>,
) -> impl Strategy<Value = Table> {
    let separator = select(vec![" ", "\t", "   \t ", "          "]);
    let trailing = select(vec!["", "", " ", " \t"]);
    let entry = (key, separator, value, trailing).prop_map(|((key, sender), separator, value, trailing)| {
        (format!("{key}{separator}{value}{trailing}"), sender)
    });
    let other = select(vec![
        "",
        "   ",
        "# a comment",
        "   # indented",
        "#",
        "#@one.test [x]",
    ]);
    let line = prop_oneof![8 => entry, 1 => other.prop_map(|text| (text.to_owned(), None))];
    let lines = prop::collection::vec(line, 0..60);
    (lines, select(vec!["\n", "\r\n"]), any::<bool>()).prop_map(|(lines, end, last)| {
        let (lines, senders): (Vec<String>, Vec<Option<String>>) = lines.into_iter().unzip();
        let text = lines.join(end) + if last { end } else { "" };
        Table {
            text,
            senders: senders.into_iter().flatten().collect(),
        }
    })
}

/// All requests for one table: senders, and keys that are not split.
struct Requests {
    senders: BTreeSet<String>,
    whole: BTreeSet<String>,
}

/// Compares a map of the server with both tables of the same file, and returns how many keys were compared.
fn compare(
    postfix: &Postfix,
    daemon: &Daemon,
    file: &str,
    map: &str,
    requests: &Requests,
) -> Result<usize, TestCaseError> {
    let tried: BTreeSet<String> = requests
        .senders
        .iter()
        .flat_map(|sender| keys(sender))
        .chain(requests.whole.iter().cloned())
        .collect();
    let sent: BTreeSet<String> = requests
        .senders
        .iter()
        .flat_map(|sender| whole_keys(sender))
        .chain(requests.whole.iter().cloned())
        .collect();
    let endpoints = [
        format!("{}:{map}", daemon.endpoint(0)),
        format!("tcp:{}", daemon.address(1)),
    ];
    let answers: Vec<_> = endpoints
        .iter()
        .map(|endpoint| postfix.query(endpoint, &sent))
        .collect();
    for table in postfix.tables(&daemon.dir().join(file)) {
        let oracle = postfix.query(&table, &tried);
        let found = |key: &String| {
            oracle
                .get(key)
                .filter(|value| !value.eq_ignore_ascii_case("dunno"))
        };
        let expected = |sender: &String| {
            let first = keys(sender).into_iter().find(|key| oracle.contains_key(key));
            first.and_then(|key| found(&key)).cloned()
        };
        for (endpoint, answers) in endpoints.iter().zip(&answers) {
            for sender in &requests.senders {
                // Each form separately: Postfix sends the second where the first is not found.
                for form in whole_keys(sender) {
                    prop_assert_eq!(
                        answers.get(&form).cloned(),
                        expected(sender),
                        "{} and {} differ about {:?} of {:?}",
                        endpoint,
                        table,
                        form,
                        sender
                    );
                }
            }
            for key in &requests.whole {
                prop_assert_eq!(
                    answers.get(key),
                    found(key),
                    "{} and {} differ about {:?}",
                    endpoint,
                    table,
                    key
                );
            }
        }
    }
    Ok(tried.len())
}

/// The senders to request: any, and those of the file in other spellings and with extensions.
fn senders(table: &Table, others: Vec<String>, extensions: &[String]) -> BTreeSet<String> {
    let mut senders: BTreeSet<String> = others.into_iter().collect();
    for sender in &table.senders {
        senders.extend([sender.clone(), sender.to_uppercase(), sender.to_lowercase()]);
        if let Some((local, domain)) = sender.rsplit_once('@') {
            senders.insert(format!("nobody@{domain}"));
            senders.extend(
                extensions
                    .iter()
                    .map(|extension| format!("{local}{extension}@{domain}")),
            );
        }
    }
    senders
}

/// Tries some generated files; only a few, because each needs its own tables and its own server.
fn over_tables(
    table: impl Strategy<Value = Table>,
    try_it: impl Fn(&Table, BTreeSet<String>) -> Result<usize, TestCaseError>,
) {
    let compared = Cell::new(0);
    let config = Config {
        cases: 6,
        max_shrink_iters: 40,
        failure_persistence: None,
        ..Config::default()
    };
    let strategy = (
        table,
        prop::collection::vec(sender(), 100..200),
        prop::collection::vec(extension(), 1..4),
    );
    let result = TestRunner::new(config).run(&strategy, |(table, others, extensions)| {
        let senders = senders(&table, others, &extensions);
        compared.set(compared.get() + try_it(&table, senders)?);
        Ok(())
    });
    match result {
        // Of all generated data, only the file matters in the message; the reason names the sender.
        Err(TestError::Fail(reason, (table, ..))) => panic!("{reason}\nin this file:\n{}", table.text),
        result => result.unwrap(),
    }
    assert!(
        compared.get() > 1000,
        "only {} keys were compared",
        compared.get()
    );
}

const SOCKETMAP: &str = "socketmap:inet:127.0.0.1:0";

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn any_relay_map_is_answered_as_postmap_answers_it() {
    over_tables(table(key(), next_hop()), |table, senders| {
        let setup = Setup::new().relaymap(&table.text);
        let postfix = Postfix::new(setup.root());
        let daemon = Daemon::start(setup.listen(SOCKETMAP).listen("tcp:127.0.0.1:0:relayhost"));
        let requests = Requests {
            senders,
            whole: BTreeSet::new(),
        };
        compare(&postfix, &daemon, RELAYMAP, "relayhost", &requests)
    });
}

#[test]
#[ignore = "needs programs that tests/run-all installs"]
fn any_credentials_are_answered_as_postmap_answers_them() {
    let hops = [
        "[relay1.test]:587",
        "[RELAY1.test]:587",
        "relay1.test",
        "Relay1.TEST",
        "relay1.test:587",
        "[2001:db8::25]:25",
        "2001:db8::25",
        "strasse.test",
        "straße.test",
    ];
    let hop = select(hops.to_vec()).prop_map(|hop| (hop.to_owned(), None));
    let key = prop_oneof![9 => key(), 1 => hop].prop_filter("null", |(key, _)| key != "<>");
    // With the relays in main.cf, nothing is withheld (contract, section 3).
    over_tables(table(key, credential()), |table, mut senders| {
        senders.remove("<>");
        let setup = Setup::new()
            .settings("next_hops = \"main.cf\"\n")
            .credentials(&table.text);
        let postfix = Postfix::new(setup.root());
        let daemon = Daemon::start(setup.listen(SOCKETMAP).listen("tcp:127.0.0.1:0:sasl"));
        let whole = hops.into_iter().map(str::to_owned).collect();
        compare(
            &postfix,
            &daemon,
            CREDENTIALS,
            "sasl",
            &Requests { senders, whole },
        )
    });
}

#[test]
fn the_order_of_keys_is_the_one_observed_in_postfix() {
    assert_eq!(
        keys("User+Ext@One.Test"),
        [
            "User+Ext@One.Test",
            "User+Ext@One.Test",
            "User@One.Test",
            "User@One.Test",
            "@One.Test"
        ]
    );
    assert_eq!(
        keys("a B+x@one.test"),
        [
            "\"a B+x\"@one.test",
            "a B+x@one.test",
            "\"a B\"@one.test",
            "a B@one.test",
            "@one.test"
        ]
    );
    assert_eq!(keys("<>"), ["\"<>\"", "<>"]);
    assert_eq!(keys("+u@one.test"), ["+u@one.test", "+u@one.test", "@one.test"]);
    assert_eq!(quoted("a\"b\\c@one.test"), "\"a\\\"b\\\\c\"@one.test");
}
