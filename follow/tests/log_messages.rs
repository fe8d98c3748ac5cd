//! The log messages: constant text with fields, each in the code once and in postmapd-follow-run(1).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test ends where something fails"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// A message: its text, and its level and fields as in `warn: table, row`.
type Message = (String, String);

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.file_stem().is_some_and(|name| name == "tests") {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The arguments of a macro; `text` follows its opening parenthesis.
fn arguments(text: &str) -> Vec<String> {
    let (mut all, mut current, mut depth) = (Vec::new(), String::new(), 0);
    let (mut is_text, mut is_escaped) = (false, false);
    for c in text.chars() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_text => is_escaped = true,
            '"' => is_text = !is_text,
            _ if is_text => {}
            ')' if depth == 0 => break,
            ',' if depth == 0 => {
                all.push(std::mem::take(&mut current));
                continue;
            }
            _ => depth += i32::from("([{".contains(c)) - i32::from(")]}".contains(c)),
        }
        current.push(c);
    }
    all.push(current);
    let trimmed = all.iter().map(|argument| argument.trim().to_owned());
    trimmed.filter(|argument| !argument.is_empty()).collect()
}

/// The name of a field: `name` of `name = value`, `%name` and `?name`.
fn field(argument: &str) -> &str {
    let name = argument.split_once(" = ").map_or(argument, |(name, _)| name);
    name.trim_start_matches(['%', '?'])
}

/// The messages in the sources below a directory.
fn messages(directory: &str) -> Vec<Message> {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(directory), &mut files);
    let mut messages = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        let code = code.join("\n");
        for level in LEVELS {
            let call = format!("{level}!(");
            for (at, _) in code.match_indices(&call) {
                if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                    continue;
                }
                let mut arguments = arguments(&code[at + call.len()..]);
                let text = arguments.pop().unwrap();
                let Some(text) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
                    panic!(
                        "{}: {level}!({text}): the last argument is no text",
                        file.display()
                    );
                };
                let fields: Vec<&str> = arguments.iter().map(|argument| field(argument)).collect();
                let about = match fields.as_slice() {
                    [] => level.to_owned(),
                    fields => format!("{level}: {}", fields.join(", ")),
                };
                messages.push((text.to_owned(), about));
            }
        }
    }
    messages
}

/// The messages of the manual page.
fn documented() -> BTreeMap<String, String> {
    let page = include_str!("../manual/postmapd-follow-run.roff");
    let mut messages = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with(".BR \"")) {
        let line = line.replace("\\-", "-");
        let words: Vec<&str> = line.split('"').collect();
        let [_, text, " ", about, ""] = words[..] else {
            panic!("no message: {line}");
        };
        let about = about
            .strip_prefix(" (")
            .and_then(|about| about.strip_suffix(')'))
            .unwrap();
        assert_eq!(
            messages.insert(text.to_owned(), about.to_owned()),
            None,
            "{text} is listed twice"
        );
    }
    messages
}

#[test]
fn the_manual_lists_every_message_with_its_level_and_fields_and_no_other() {
    let (own, of_postmapd, mut documented) = (messages("src"), messages("../src"), documented());
    assert!(own.len() > 15, "{own:?}");
    for (text, about) in &own {
        let listed = documented.remove(text);
        assert_eq!(listed.as_ref(), Some(about), "{text}");
    }
    for (text, about) in documented {
        assert!(
            of_postmapd.contains(&(text.clone(), about)),
            "no code logs {text:?}"
        );
    }
}

#[test]
fn every_message_is_constant_text_and_in_the_code_once() {
    let mut counts = BTreeMap::new();
    for (text, about) in messages("src") {
        assert!(!text.contains('{') && !text.ends_with('.'), "{text}");
        for secret in ["password", "login", "value"] {
            assert!(
                !about.split([':', ',', ' ']).any(|field| field == secret),
                "{text}: {about}"
            );
        }
        *counts.entry(text).or_insert(0) += 1;
    }
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
}
