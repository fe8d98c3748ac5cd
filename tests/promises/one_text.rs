//! Promise: one text is read alike wherever it stands: in a flag, a variable or the settings file, as an argument or on
//! standard input.
//!
//! The texts are odd ones: with whitespace, line ends of another system, commas and characters that cannot be seen.

use crate::harness::daemon::{Finished, Setup, finish};

/// What a command comes to, less where it found what is wrong.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    errors: Vec<String>,
}

impl Outcome {
    fn new(finished: Finished) -> Self {
        let errors = finished
            .stderr
            .lines()
            .filter_map(|line| line.split_once("error: "));
        Self {
            code: finished.code,
            stdout: finished.stdout,
            errors: errors.map(|(_, message)| without_its_text(message)).collect(),
        }
    }
}

/// What may be a password in the settings file is not repeated, and a flag is.
fn without_its_text(message: &str) -> String {
    let quoted = message
        .strip_prefix('`')
        .and_then(|rest| rest.split_once("` is no"));
    quoted.map_or_else(|| message.to_owned(), |(_, rest)| format!("this is no{rest}"))
}

/// A command that reads all settings and asks no Postfix.
fn postconf(setup: &Setup, arguments: &[String]) -> Outcome {
    let mut command = setup.command("postconf");
    Outcome::new(finish(
        command.arg("--docker-mailserver=main").args(arguments),
        b"",
    ))
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "\"{}\"",
        text.replace('\r', "\\r")
            .replace('\n', "\\n")
            .replace('\t', "\\t")
    )
}

/// Each setting that all three have, with its odd texts, and whether each is right. A listener at a UNIX socket lets owner
/// and group matter.
const TEXTS: [(&str, &[(&str, bool)]); 9] = [
    (
        "listen",
        &[
            (" socketmap:inet:127.0.0.1:10451\r\n", true),
            (
                "\tsocketmap:inet:127.0.0.1:10451 , tcp:127.0.0.1:10452:sasl,",
                true,
            ),
            ("socketmap:inet:127.0.0.1:10451 tcp:127.0.0.1:10452:sasl", false),
            ("\u{feff}socketmap:inet:127.0.0.1:10451", false),
            ("socketmap:inet:127.0.0.1:10451\u{a0}", false),
            ("Socketmap:inet:127.0.0.1:10451", false),
            (" , ", false),
        ],
    ),
    (
        "admin",
        &[
            ("127.0.0.1:9451\r\n", true),
            (" unix:/run/admin ", true),
            ("127.0.0.1:9451,127.0.0.1:9452", false),
            ("127.0.0.1:9451\u{200b}", false),
            ("127.0.0.1:+9451", false),
        ],
    ),
    (
        "allow_users",
        &[
            ("root, 65534\r\n", true),
            (",root,,0 ", true),
            ("root 0", false),
            ("+0", false),
            ("4294967295", false),
            ("root;0", false),
            ("\u{a0}root", false),
        ],
    ),
    (
        "allow_networks",
        &[
            ("192.0.2.0/24 , 198.51.100.7\r\n", true),
            ("192.0.2.0/24 198.51.100.7", false),
            ("192.0.2.7/24", false),
            ("192.0.2.7\u{200b}", false),
        ],
    ),
    (
        "recipient_delimiter",
        &[
            ("+-\r\n", true),
            (" + ", true),
            ("", true),
            ("+ -", false),
            ("@", false),
            ("\u{2212}", false),
        ],
    ),
    (
        "socket_mode",
        &[
            (" 0660\r\n", true),
            ("660", true),
            ("0o660", false),
            ("1777", false),
            ("rw", false),
            ("", false),
        ],
    ),
    (
        "socket_owner",
        &[
            ("root\r\n", true),
            (" 0 ", true),
            ("+0", false),
            ("4294967295", false),
            ("root,0", false),
            ("", false),
        ],
    ),
    (
        "confinement",
        &[
            (" on\r\n", true),
            ("no", true),
            ("false", true),
            ("1", false),
            ("on off", false),
            ("", false),
        ],
    ),
    (
        "next_hops",
        &[
            (" main.cf\r\n", true),
            ("postmapd", true),
            ("main.cf,postmapd", false),
            ("", false),
        ],
    ),
];

#[test]
fn a_setting_is_read_alike_in_a_flag_a_variable_and_the_settings_file() {
    let unix = "socketmap:unix:/run/postmapd/socketmap";
    for (key, texts) in TEXTS {
        for (text, is_right) in texts {
            let setup = |settings: &str| {
                let listen = format!("listen = {}\n", quoted(unix));
                Setup::new().settings(if key == "listen" {
                    settings.to_owned()
                } else {
                    format!("{listen}{settings}")
                })
            };
            let flag = format!("--{}={text}", key.replace('_', "-"));
            let by_flag = postconf(&setup(""), &[flag]);
            let by_file = postconf(&setup(&format!("{key} = {}\n", quoted(text))), &[]);
            assert_eq!(by_flag.code == Some(0), *is_right, "{key} {text:?}: {by_flag:?}");
            assert_eq!(
                by_flag, by_file,
                "{key} {text:?}, in a flag and in the settings file"
            );
            // A variable that is empty is not set.
            if !text.is_empty() {
                let name = format!("POSTMAPD_{}", key.to_uppercase());
                let by_variable = postconf(&setup("").env(name, text), &[]);
                assert_eq!(
                    by_flag, by_variable,
                    "{key} {text:?}, in a flag and in a variable"
                );
            }
        }
    }
}

#[test]
fn a_list_of_the_settings_file_is_its_words() {
    let listed = "listen = [\" socketmap:inet:127.0.0.1:10451\\r\", \"tcp:127.0.0.1:10452:sasl , \"]\n";
    let one = "listen = \"socketmap:inet:127.0.0.1:10451,tcp:127.0.0.1:10452:sasl\"\n";
    let print = |settings: &str| postconf(&Setup::new().settings(settings), &[]);
    assert_eq!(print(listed).code, Some(0));
    assert_eq!(print(listed), print(one));
    let nowhere = print("listen = []\n");
    assert!(
        nowhere
            .errors
            .concat()
            .contains("no endpoint to listen at is named"),
        "{nowhere:?}"
    );
}

/// Without a value in Compose, or in a file that somebody forgot to fill in.
#[test]
fn a_variable_that_is_empty_or_blank_is_not_set() {
    for value in ["", " ", "\r\n"] {
        for (key, _) in TEXTS {
            let setup = Setup::new().settings("listen = \"socketmap:inet:127.0.0.1:10459\"\n");
            let name = format!("POSTMAPD_{}", key.to_uppercase());
            let with = postconf(&setup.clone().env(name, value), &[]);
            assert_eq!(with.code, Some(0), "{key} {value:?}: {with:?}");
            assert_eq!(with, postconf(&setup, &[]), "{key} {value:?}");
        }
    }
}

#[test]
fn the_settings_file_may_have_line_ends_of_another_system_and_a_byte_order_mark() {
    let print = |settings: &str| postconf(&Setup::new().settings(settings), &[]);
    let plain = "listen = \"socketmap:inet:127.0.0.1:10459\"\nrecipient_delimiter = \"-\"\n";
    let wanted = print(plain);
    assert!(wanted.stdout.contains(":10459:sasl"), "{wanted:?}");
    assert_eq!(print(&format!("\u{feff}{}", plain.replace('\n', "\r\n"))), wanted);
}

#[test]
fn a_key_is_read_alike_as_an_argument_and_on_standard_input() {
    let setup = Setup::new().relaymap("ann@one.test [relay1.test]\n\"a b\"@one.test [relay2.test]\n");
    for (text, key) in [
        ("ann@one.test\n", "ann@one.test"),
        ("ann@one.test\r\n", "ann@one.test"),
        ("ann@one.test", "ann@one.test"),
        ("\u{feff}ann@one.test\r\n", "ann@one.test"),
        ("\r\n\nANN@One.test\r\n", "ANN@One.test"),
        ("\"a b\"@one.test\r\n", "\"a b\"@one.test"),
        ("a b@one.test\n", "a b@one.test"),
        (" ann@one.test\n", " ann@one.test"),
        ("ann@one.test\u{200b}\n", "ann@one.test\u{200b}"),
        ("\u{feff}\u{feff}ann@one.test\n", "\u{feff}ann@one.test"),
    ] {
        let argument = setup.query(&["relayhost", key]);
        let read = setup.run_with("query", &["relayhost", "-"], text.as_bytes());
        let value = read.stdout.strip_prefix(&format!("{key}\t"));
        assert_eq!(
            (read.code, value.unwrap_or(&read.stdout)),
            (argument.code, argument.stdout.as_str()),
            "{text:?}"
        );
    }
}
