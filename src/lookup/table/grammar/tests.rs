use std::path::Path;

use proptest::prelude::*;

use super::{Content, Format, read};
use crate::diagnostics::{Code, Findings};
use crate::lookup::address::{Delimiters, SenderKeys, is_key_of};
use crate::lookup::table::line::{behind_key, entry_at, value_behind};
use crate::lookup::table::spec::{CREDENTIALS, RELAY_MAP};

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    line: u32,
    key: Vec<u8>,
    /// `None` for a fault, empty for nothing.
    value: Option<Vec<u8>>,
}

fn parse(format: Format, text: &[u8]) -> (Vec<Entry>, bool, Vec<String>) {
    let mut findings = Findings::default();
    let mut entries = Vec::new();
    let reading = read(format, Path::new("t.cf"), text, &mut findings, |record, _| {
        entries.push(Entry {
            line: record.position.line,
            key: record.key.to_vec(),
            value: match record.content {
                Content::Value(value) => Some(value.to_vec()),
                Content::Nothing => Some(Vec::new()),
                Content::Fault => None,
            },
        });
    });
    let said = findings.iter().map(ToString::to_string).collect();
    (entries, reading.keys_unreadable, said)
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
fn a_relay_map_has_comments_behind_blanks_and_keys_without_destination() {
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
fn credentials_are_raw_up_to_the_trailing_blanks() {
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
fn an_error_names_its_place_and_never_its_text() {
    let (entries, unreadable, said) = parse(RELAY_MAP.format, b"@a [r]:587\n@b  [hunter2\n");
    assert!(entries.get(1).unwrap().value.is_none() && !unreadable);
    assert_eq!(said.len(), 1);
    assert!(
        said.first()
            .unwrap()
            .starts_with("t.cf:2:5: error: this is not a next hop: "),
        "{said:?}"
    );
    let (_, unreadable, said) = parse(
        CREDENTIALS.format,
        b"\"hunter2 u:p\n@b hunter2\n@c u:hunt\0er2\n@d :hunter2\n@e hunter2:\nhunter2:hunter3\n[r]:25\n",
    );
    assert!(unreadable);
    let places: Vec<_> = said
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
    assert!(!said.concat().contains("hunt"), "{said:?}");
}

#[test]
fn a_byte_order_mark_and_an_indented_entry_are_warnings() {
    let (entries, _, said) = parse(RELAY_MAP.format, b"\xEF\xBB\xBF@a r\n @b r\n\xFC@c r\n");
    assert_eq!(entries.first().unwrap().key, b"@a");
    assert_eq!(
        said.iter().filter(|line| line.contains(": warning: ")).count(),
        3,
        "{said:?}"
    );
}

#[test]
fn a_line_has_a_limit() {
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

/// As a lookup sees it, by a key that is known to be plain and by one that is not.
fn value_at<'t>(format: Format, text: &'t [u8], asked: &[u8]) -> Option<&'t [u8]> {
    let mut keys = SenderKeys::default();
    keys.read(asked, &Delimiters::default());
    let value_of = |key| behind_key(text, key).and_then(|rest| value_behind(format, rest));
    let value = value_of(asked.into());
    if keys.whole() == asked {
        assert_eq!(value_of(keys.whole_key()), value);
    }
    value
}

#[test]
fn a_key_that_is_asked_for_with_a_blank_is_not_the_beginning_of_a_line() {
    let at_once = |text: &str, asked: &str| {
        let format = CREDENTIALS.format;
        value_at(format, text.as_bytes(), asked.as_bytes()).map(<[u8]>::to_vec)
    };
    assert_eq!(at_once("john doe@x u:p\n", "john doe@x"), None);
    assert_eq!(at_once("john\tdoe@x u:p\n", "john\tdoe@x"), None);
    assert_eq!(at_once("@a u:p\n@b u:p\n", "@a u:p\n@b"), None);
    assert_eq!(at_once("john u:p\n", "john").as_deref(), Some(&b"u:p"[..]));
}

proptest! {
    /// Printed in the plainest form, what was read reads the same again.
    #[test]
    fn read_print_read_is_the_same(text in text(), relay in any::<bool>()) {
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

    /// What is seen at a glance is what cutting the line gives, whatever is asked for: also the beginning of the line.
    #[test]
    fn a_value_seen_at_once_is_that_of_the_entry(
        key in r#"[aB@"\\#é+]{1,5}"#,
        asked in prop::option::of(r#"[ab@"\\#é+]{1,5}"#),
        more in 0_usize..9,
        rest in "[ \t]{0,2}[a:#\"\\\\é \t]{0,8}\r?(\n@b c:d\n)?",
        relay in any::<bool>(),
    ) {
        let format = if relay { RELAY_MAP.format } else { CREDENTIALS.format };
        let text = key.clone() + &rest;
        // A location is always that of an entry.
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
        let at_once = value_at(format, text.as_bytes(), asked.as_bytes());
        if is_key_of(written, asked.as_bytes()) {
            prop_assert!(at_once.is_none_or(|at_once| at_once == value), "{text:?} {asked:?}");
        } else {
            prop_assert_eq!(at_once, None, "{:?} {:?}", text, asked);
        }
    }

    /// Every line is a comment, a record or an error: nothing is lost in silence.
    #[test]
    fn no_line_is_lost(text in text(), relay in any::<bool>()) {
        let format = if relay { RELAY_MAP.format } else { CREDENTIALS.format };
        let (entries, unreadable, _) = parse(format, &text);
        let bare = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&text);
        let lines = bare.split(|c| *c == b'\n').filter(|line| {
            let line = line.trim_ascii_end();
            let start = line.iter().position(|c| !matches!(c, b' ' | b'\t'));
            start.is_some_and(|start| line.get(start) != Some(&b'#'))
        }).count();
        let mut findings = Findings::default();
        read(format, Path::new("t.cf"), &text, &mut findings, |_, _| {});
        let bad_keys = findings.iter().filter(|finding| finding.code == Code::BadKey).count();
        prop_assert_eq!(unreadable, bad_keys > 0);
        prop_assert!(entries.len() + bad_keys >= lines);
    }
}
