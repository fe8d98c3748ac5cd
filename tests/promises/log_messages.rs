//! Promise: each log message has a constant text, one level and one set of fields, and postmapd-log(7) lists all of
//! them. The line of a listener has its endpoint as main.cf names it, in every format.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::daemon::{Daemon, Setup};

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// A finding, whose text is `FILE:LINE:COLUMN: severity: message; help`.
const FINDING: &str = "{finding}";

/// A place that logs a message.
#[derive(Debug)]
struct Event {
    file: PathBuf,
    level: &'static str,
    text: String,
    /// The names of the fields, in their order.
    fields: Vec<String>,
}

fn source_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The length of the string literal with which this text begins, quotes included.
fn literal_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    panic!("the literal does not end: {text}");
}

/// The arguments of a macro; `text` follows its opening parenthesis.
fn arguments(text: &str) -> Vec<String> {
    let (mut all, mut current, mut depth, mut at) = (Vec::new(), String::new(), 0, 0);
    while let Some(c) = text[at..].chars().next() {
        let length = if c == '"' {
            literal_length(&text[at..])
        } else {
            c.len_utf8()
        };
        match c {
            ')' if depth == 0 => break,
            ',' if depth == 0 => all.push(std::mem::take(&mut current)),
            _ => {
                depth += i32::from("([{".contains(c)) - i32::from(")]}".contains(c));
                current.push_str(&text[at..at + length]);
            }
        }
        at += length;
    }
    all.push(current);
    let trimmed = all.iter().map(|argument| argument.trim().to_owned());
    trimmed.filter(|argument| !argument.is_empty()).collect()
}

/// The value of a string literal that may continue on further lines.
fn value_of(literal: &str) -> String {
    let inner = literal.trim_matches('"');
    let lines: Vec<&str> = inner.split("\\\n").collect();
    let rest = lines[1..].iter().map(|line| line.trim_start());
    [lines[0]].into_iter().chain(rest).collect()
}

/// The name of a field: `name` of `name = value`, `%name` and `?name`.
fn field_name(argument: &str) -> String {
    let name = argument.split_once(" = ").map_or(argument, |(name, _)| name);
    name.trim_start_matches(['%', '?']).to_owned()
}

fn events_of(file: &Path, text: &str) -> Vec<Event> {
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let text: Vec<&str> = text.lines().filter(is_code).collect();
    let text = text.join("\n");
    let mut events = Vec::new();
    for level in LEVELS {
        let call = format!("{level}!(");
        for (at, _) in text.match_indices(&call) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let mut arguments = arguments(&text[at + call.len()..]);
            let message = arguments.pop().expect("a message");
            assert!(
                message.starts_with('"'),
                "{}: {level}!({message}): the last argument is no text",
                file.display()
            );
            events.push(Event {
                file: file.to_owned(),
                level,
                text: value_of(&message),
                fields: arguments.iter().map(|argument| field_name(argument)).collect(),
            });
        }
    }
    events
}

/// All places that log a message.
fn events() -> Vec<Event> {
    let mut files = Vec::new();
    source_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let of_file = |file: &PathBuf| events_of(file, &fs::read_to_string(file).unwrap());
    files.iter().flat_map(of_file).collect()
}

/// The messages of the manual page: by text, level and fields, as in `warn: peer, connections`.
fn documented() -> BTreeMap<String, String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/man/postmapd-log.7");
    let page = fs::read_to_string(page).unwrap();
    let mut messages = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with(".BR \"")) {
        let line = line.replace("\\-", "-").replace("\\(aq", "'");
        let words: Vec<&str> = line.split('"').collect();
        let [_, text, " ", about, ""] = words[..] else {
            panic!("no message: {line}");
        };
        let about = about.strip_prefix(" (").and_then(|about| about.strip_suffix(')'));
        let about = about.unwrap_or_else(|| panic!("no level: {line}")).to_owned();
        let before = messages.insert(text.to_owned(), about);
        assert_eq!(before, None, "{text} is listed twice");
    }
    messages
}

#[test]
fn every_message_is_constant_text_in_lower_case() {
    for event in events().iter().filter(|event| event.text != FINDING) {
        assert!(!event.text.contains('{'), "a value belongs in a field: {event:?}");
        let first = event.text.chars().next().unwrap();
        assert!(first.is_ascii_lowercase(), "{event:?}");
        assert!(!event.text.ends_with('.'), "{event:?}");
    }
}

#[test]
fn every_message_is_in_the_code_once() {
    let mut places: BTreeMap<(&str, String), Vec<PathBuf>> = BTreeMap::new();
    for event in events() {
        // A finding has the level of its severity.
        let level = if event.text == FINDING { event.level } else { "" };
        places.entry((level, event.text)).or_default().push(event.file);
    }
    for (message, files) in places {
        assert_eq!(files.len(), 1, "{message:?}: {files:?}");
    }
}

#[test]
fn the_manual_lists_every_message_with_its_level_and_fields_and_no_other() {
    let mut documented = documented();
    for event in events().iter().filter(|event| event.text != FINDING) {
        let fields = match event.fields.join(", ") {
            fields if fields.is_empty() => String::new(),
            fields => format!(": {fields}"),
        };
        let about = format!("{}{fields}", event.level);
        let listed = documented.remove(&event.text);
        assert_eq!(listed, Some(about), "{event:?}");
    }
    assert!(documented.is_empty(), "no code logs {documented:?}");
}

#[test]
fn keys_are_logged_at_debug_at_most_and_no_field_has_a_credential() {
    for event in events() {
        let has = |name: &str| event.fields.iter().any(|field| field == name);
        assert!(
            !has("key") || ["debug", "trace"].contains(&event.level),
            "{event:?}"
        );
        for secret in ["password", "login", "credentials", "value"] {
            assert!(!has(secret), "{event:?}");
        }
    }
}

#[test]
fn the_line_of_a_listener_names_its_endpoint_in_every_format() {
    for (format, before) in [
        ("text", "listening endpoint="),
        ("json", "\"message\":\"listening\",\"endpoint\":\""),
        ("journald", "<6>listening endpoint="),
    ] {
        let setup = Setup::new()
            .relaymap("@one.test [relay1.test]\n")
            .env("POSTMAPD_LOG_FORMAT", format)
            .arg("--admin=127.0.0.1:0");
        let socket = setup.root().join("socket");
        let setup = setup
            .listen("socketmap:inet:127.0.0.1:0")
            .listen("tcp:127.0.0.1:0:relayhost")
            .listen(format!("socketmap:unix:{}", socket.display()));
        let daemon = Daemon::start(setup);
        let log = daemon.log();
        for number in 0..3 {
            let endpoint = daemon.endpoint(number);
            let wanted = format!("{before}{endpoint}");
            let is_its_line = |line: &&str| {
                let rest = line.split_once(&wanted).map(|(_, rest)| rest.trim_end());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('"'))
            };
            assert_eq!(log.lines().filter(is_its_line).count(), 1, "{wanted}: {log}");
        }
        daemon.wait_for_log(|line| {
            let address = line
                .split_once("listening for admin requests")
                .map(|(_, rest)| rest);
            address.is_some_and(|rest| rest.contains("127.0.0.1:") && !rest.contains("127.0.0.1:0"))
        });
    }
}
