//! Promise: one text is parsed alike wherever it is given: in a flag, a variable or the settings file, as an argument
//! or on standard input.
//!
//! The texts are unusual: with whitespace, line ends of another system, commas and invisible characters.

use crate::harness::daemon::{Finished, Setup};
use std::collections::BTreeMap;

/// The outcome of a command, without the place of the error.
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

/// Removes the text from a message: a flag's is printed, but one of the settings file may be a password and is not.
fn without_its_text(message: &str) -> String {
    let quoted = message
        .strip_prefix('`')
        .and_then(|rest| rest.split_once("` is no"));
    quoted.map_or_else(
        || message.to_owned(),
        |(_, rest)| format!("the value is no{rest}"),
    )
}

/// Runs a command that reads all settings and does not use Postfix.
fn postconf(setup: &Setup, arguments: &[String]) -> Outcome {
    let own = ["--docker-mailserver=main".to_owned()];
    Outcome::new(setup.run("postconf", &[&own, arguments].concat()))
}

/// A TOML string.
fn quoted(text: &str) -> String {
    let escaped = [
        ('\\', "\\\\"),
        ('"', "\\\""),
        ('\r', "\\r"),
        ('\n', "\\n"),
        ('\t', "\\t"),
    ];
    let text = escaped
        .iter()
        .fold(text.to_owned(), |text, (c, escape)| text.replace(*c, escape));
    format!("\"{text}\"")
}

/// Each setting that can be given in all three ways, with its unusual texts, and whether each is valid.
fn texts() -> BTreeMap<String, Vec<(String, bool)>> {
    type Texts = BTreeMap<String, BTreeMap<String, Vec<String>>>;
    let texts: Texts = basic_toml::from_str(include_str!("../settings-texts.toml")).unwrap();
    assert!(texts.len() >= 10 && texts.values().flat_map(|both| both.values().flatten()).count() >= 48);
    let of = |(key, both): (String, BTreeMap<String, Vec<String>>)| {
        let both = both.into_iter().flat_map(|(kind, texts)| {
            let is_right = kind == "right";
            texts.into_iter().map(move |text| (text, is_right))
        });
        (key, both.collect())
    };
    texts.into_iter().map(of).collect()
}

/// The variable of a key.
fn variable(key: &str) -> String {
    format!("POSTMAPD_{}", key.replace('.', "_").to_uppercase())
}

#[test]
fn a_setting_is_parsed_alike_from_a_flag_a_variable_and_the_settings_file() {
    let unix = "socketmap:unix:/run/postmapd/socketmap";
    for (key, texts) in texts() {
        for (text, is_right) in texts {
            let setup = |settings: &str| {
                let listen = format!("listen = {}\n", quoted(unix));
                Setup::new().settings(if key == "listen" {
                    settings.to_owned()
                } else {
                    format!("{listen}{settings}")
                })
            };
            let flag = format!("--{}={text}", key.replace(['_', '.'], "-"));
            let by_flag = postconf(&setup(""), &[flag]);
            let by_file = postconf(&setup(&format!("{key} = {}\n", quoted(&text))), &[]);
            assert_eq!(by_flag.code == Some(0), is_right, "{key} {text:?}: {by_flag:?}");
            assert_eq!(
                by_flag, by_file,
                "{key} {text:?}, in a flag and in the settings file"
            );
            // An empty variable is unset.
            if !text.is_empty() {
                let by_variable = postconf(&setup("").env(variable(&key), &text), &[]);
                assert_eq!(
                    by_flag, by_variable,
                    "{key} {text:?}, in a flag and in a variable"
                );
            }
        }
    }
}

#[test]
fn a_list_in_the_settings_file_equals_its_words_in_a_flag() {
    let listed = "listen = [\" socketmap:inet:127.0.0.1:10451\\r\", \"tcp:127.0.0.1:10452:sasl , \"]\n";
    let one = "listen = \"socketmap:inet:127.0.0.1:10451,tcp:127.0.0.1:10452:sasl\"\n";
    let print = |settings: &str| postconf(&Setup::new().settings(settings), &[]);
    assert_eq!(print(listed).code, Some(0));
    assert_eq!(print(listed), print(one));
    let nowhere = print("listen = []\n");
    assert!(
        nowhere.errors.concat().contains("the list of endpoints is empty"),
        "{nowhere:?}"
    );
}

/// Without a value in Compose, or in a file that was not filled in.
#[test]
fn an_empty_or_whitespace_variable_is_unset() {
    for value in ["", " ", "\r\n"] {
        for key in texts().keys() {
            let setup = Setup::new().settings("listen = \"socketmap:inet:127.0.0.1:10459\"\n");
            let with = postconf(&setup.clone().env(variable(key), value), &[]);
            assert_eq!(with.code, Some(0), "{key} {value:?}: {with:?}");
            assert_eq!(with, postconf(&setup, &[]), "{key} {value:?}");
        }
    }
}

#[test]
fn the_settings_file_may_have_crlf_line_ends_and_a_byte_order_mark() {
    let print = |settings: &str| postconf(&Setup::new().settings(settings), &[]);
    let plain = "listen = \"socketmap:inet:127.0.0.1:10459\"\nrecipient_delimiter = \"-\"\n";
    let wanted = print(plain);
    assert!(wanted.stdout.contains(":10459:sasl"), "{wanted:?}");
    assert_eq!(print(&format!("\u{feff}{}", plain.replace('\n', "\r\n"))), wanted);
}

#[test]
fn a_key_is_parsed_alike_from_an_argument_and_from_standard_input() {
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
        let argument = setup.run_query(&["relayhost", key]);
        let read = setup.run_with("query", &["relayhost", "-"], text.as_bytes());
        let value = read.stdout.strip_prefix(&format!("{key}\t"));
        assert_eq!(
            (read.code, value.unwrap_or(&read.stdout)),
            (argument.code, argument.stdout.as_str()),
            "{text:?}"
        );
    }
}
