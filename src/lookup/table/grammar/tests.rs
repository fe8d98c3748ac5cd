use std::path::Path;

use proptest::prelude::*;

use super::{Content, Format, parse as grammar_parse};
use crate::diagnostics::{Code, Findings};
use crate::lookup::address::{Delimiters, LookupKeys, key_matches};
use crate::lookup::table::line::{after_key, entry_at, value_after_key};
use crate::lookup::table::spec::{CREDENTIALS, RELAY_MAP};

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    line: u32,
    key: Vec<u8>,
    /// `None` for an invalid value, empty for no value.
    value: Option<Vec<u8>>,
}

fn parse(format: Format, text: &[u8]) -> (Vec<Entry>, bool, Vec<String>) {
    let mut findings = Findings::default();
    let mut entries = Vec::new();
    let summary = grammar_parse(format, Path::new("t.cf"), text, &mut findings, |record, _| {
        entries.push(Entry {
            line: record.position.line,
            key: record.key.to_vec(),
            value: match record.content {
                Content::Value(value) => Some(value.to_vec()),
                Content::NoValue => Some(Vec::new()),
                Content::Invalid => None,
            },
        });
    });
    let messages = findings.iter().map(ToString::to_string).collect();
    (entries, summary.has_unreadable_keys, messages)
}

fn values(format: Format, text: &str) -> Vec<(String, Option<String>)> {
    let string = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let entries = parse(format, text.as_bytes()).0.into_iter();
    entries
        .map(|entry| (string(entry.key), entry.value.map(string)))
        .collect()
}

fn is(key: &str, value: &str) -> (String, Option<String>) {
    (key.into(), Some(value.into()))
}

#[test]
fn a_relay_map_has_comments_after_whitespace_and_keys_without_destination() {
    let text = "# c\n\n  # c\n@a\t[r]:587   # prod\r\n@b   \n@c # out\n@d DUNNO\n\"x y\"@e h:25 #\n  @f r";
    assert_eq!(
        values(RELAY_MAP.format, text),
        [
            is("@a", "[r]:587"),
            is("@b", ""),
            is("@c", ""),
            is("@d", ""),
            is("\"x y\"@e", "h:25"),
            is("@f", "r"),
        ]
    );
}

#[test]
fn credentials_are_literal_up_to_trailing_whitespace() {
    let text = "@a u:p#a:s\\s \"$w %o ü # x \t \r\n@b\n[r]:587\tu:p:\n";
    assert_eq!(
        values(CREDENTIALS.format, text),
        [
            is("@a", "u:p#a:s\\s \"$w %o ü # x"),
            is("@b", ""),
            is("[r]:587", "u:p:")
        ]
    );
}

#[test]
fn an_error_reports_its_position_and_never_its_text() {
    let (entries, unreadable, messages) = parse(RELAY_MAP.format, b"@a [r]:587\n@b  [hunter2\n");
    assert!(entries.get(1).unwrap().value.is_none() && !unreadable);
    assert_eq!(messages.len(), 1);
    assert!(
        messages
            .first()
            .unwrap()
            .starts_with("t.cf:2:5: error: this is not a next hop: "),
        "{messages:?}"
    );
    let (_, unreadable, messages) = parse(
        CREDENTIALS.format,
        b"\"hunter2 u:p\n@b hunter2\n@c u:hunt\0er2\n@d :hunter2\n@e hunter2:\nhunter2:hunter3\n[r]:25\n",
    );
    assert!(unreadable);
    let places: Vec<_> = messages
        .iter()
        .filter_map(|line| line.split_once(": error"))
        .map(|(place, _)| place)
        .collect();
    assert_eq!(
        places,
        [
            "t.cf:1:1",
            "t.cf:2:4",
            "t.cf:3:10",
            "t.cf:4:4",
            "t.cf:5:11",
            "t.cf:6:1",
            "t.cf:7:7"
        ]
    );
    assert!(!messages.concat().contains("hunt"), "{messages:?}");
}

#[test]
fn a_byte_order_mark_and_an_indented_entry_are_warnings() {
    let (entries, _, messages) = parse(RELAY_MAP.format, b"\xEF\xBB\xBF@a r\n @b r\n\xFC@c r\n");
    assert_eq!(entries.first().unwrap().key, b"@a");
    assert_eq!(
        messages
            .iter()
            .filter(|line| line.contains(": warning: "))
            .count(),
        3,
        "{messages:?}"
    );
}

#[test]
fn a_line_over_the_limit_has_an_unreadable_key() {
    let long = |len: usize| [b"@a u:", vec![b'x'; len - 5].as_slice()].concat();
    assert_eq!(parse(CREDENTIALS.format, &long(super::MAX_LINE)).0.len(), 1);
    let (entries, unreadable, _) = parse(CREDENTIALS.format, &long(super::MAX_LINE + 1));
    assert!(entries.is_empty() && unreadable);
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "@a",
            "u@a",
            "\"x y\"@a",
            " ",
            "\t",
            "\n",
            "\r\n",
            "#",
            "[r]:587",
            "u:p",
            ":",
            "\"",
            "\\",
            "\u{feff}",
            "DUNNO",
            ",",
            "\0",
            "é",
            "[",
            "]",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Looks up `asked` at the start of `text`, by a key that is known to be plain and by one that is not.
fn value_at<'t>(format: Format, text: &'t [u8], asked: &[u8]) -> Option<&'t [u8]> {
    let mut keys = LookupKeys::default();
    keys.parse(asked, &Delimiters::default());
    let value_of = |key| after_key(text, key).and_then(|rest| value_after_key(format, rest));
    let value = value_of(asked.into());
    if keys.whole() == asked {
        assert_eq!(value_of(keys.whole_key()), value);
    }
    value
}

#[test]
fn a_key_with_whitespace_does_not_match_the_start_of_another_line() {
    let fast = |text: &str, asked: &str| {
        let format = CREDENTIALS.format;
        value_at(format, text.as_bytes(), asked.as_bytes()).map(<[u8]>::to_vec)
    };
    assert_eq!(fast("john doe@x u:p\n", "john doe@x"), None);
    assert_eq!(fast("john\tdoe@x u:p\n", "john\tdoe@x"), None);
    assert_eq!(fast("@a u:p\n@b u:p\n", "@a u:p\n@b"), None);
    assert_eq!(fast("john u:p\n", "john").as_deref(), Some(&b"u:p"[..]));
}

proptest! {
    /// Prints the entries in the plainest form.
    #[test]
    fn parsing_printed_entries_returns_the_same_entries(text in text(), relay in any::<bool>()) {
        let format = if relay { RELAY_MAP.format } else { CREDENTIALS.format };
        let (entries, _, _) = parse(format, &text);
        let right: Vec<_> = entries.into_iter().filter(|entry| entry.value.is_some()).collect();
        let mut printed = b"#\n".to_vec();
        for entry in &right {
            printed.extend_from_slice(&entry.key);
            printed.push(b'\t');
            printed.extend_from_slice(entry.value.as_deref().unwrap());
            printed.push(b'\n');
        }
        let (again, unreadable, _) = parse(format, &printed);
        prop_assert!(!unreadable);
        let bare = |entries: &[Entry]| entries.iter().map(|e| (e.key.clone(), e.value.clone())).collect::<Vec<_>>();
        prop_assert_eq!(bare(&again), bare(&right));
    }

    /// Includes a key that is the start of the line.
    #[test]
    fn the_fast_path_returns_the_value_of_the_entry(
        key in r#"[aB@"\\#é+]{1,5}"#,
        asked in prop::option::of(r#"[ab@"\\#é+]{1,5}"#),
        more in 0_usize..9,
        rest in "[ \t]{0,2}[a:#\"\\\\é \t]{0,8}\r?(\n@b c:d\n)?",
        relay in any::<bool>(),
    ) {
        let format = if relay { RELAY_MAP.format } else { CREDENTIALS.format };
        let text = key.clone() + &rest;
        // A location always points to an entry.
        let Some((written, value)) = entry_at(format, text.as_bytes()) else {
            return Ok(());
        };
        if text.starts_with('#') {
            return Ok(());
        }
        let asked = asked.unwrap_or_else(|| {
            let line: String = text.chars().take(key.chars().count() + more).collect();
            line.to_lowercase()
        });
        let fast = value_at(format, text.as_bytes(), asked.as_bytes());
        if key_matches(written, asked.as_bytes()) {
            prop_assert!(fast.is_none_or(|fast| fast == value), "{text:?} {asked:?}");
        } else {
            prop_assert_eq!(fast, None, "{:?} {:?}", text, asked);
        }
    }

    /// Nothing is skipped silently.
    #[test]
    fn every_line_is_an_entry_a_comment_or_an_error(text in text(), relay in any::<bool>()) {
        let format = if relay { RELAY_MAP.format } else { CREDENTIALS.format };
        let (entries, unreadable, _) = parse(format, &text);
        let bare = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&text);
        let lines = bare.split(|c| *c == b'\n').filter(|line| {
            let line = line.trim_ascii_end();
            let start = line.iter().position(|c| !matches!(c, b' ' | b'\t'));
            start.is_some_and(|start| line.get(start) != Some(&b'#'))
        }).count();
        let mut findings = Findings::default();
        grammar_parse(format, Path::new("t.cf"), &text, &mut findings, |_, _| {});
        let bad_keys = findings.iter().filter(|finding| finding.code == Code::BadKey).count();
        prop_assert_eq!(unreadable, bad_keys > 0);
        prop_assert!(entries.len() + bad_keys >= lines);
    }
}
