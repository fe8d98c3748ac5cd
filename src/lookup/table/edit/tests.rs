use std::collections::HashMap;

use proptest::prelude::*;

use super::{Change, NotRepresentable, disable, enable, get, remove, set};
use crate::lookup::address::{Delimiters, LookupKeys};
use crate::lookup::table::disabled;
use crate::lookup::table::grammar::{self, Content, Record};
use crate::lookup::table::key;
use crate::lookup::table::spec::{CREDENTIALS, Format, RELAY_MAP};

fn text_of(edited: &super::Edited) -> String {
    String::from_utf8(edited.text.expose().to_vec()).unwrap()
}

#[track_caller]
fn assert_set(format: Format, text: &str, key: &str, value: &str, change: Change, expected: &str) {
    let edited = set(format, text.as_bytes(), key.as_bytes(), value.as_bytes()).unwrap();
    assert_eq!((text_of(&edited).as_str(), edited.change), (expected, change));
    // A second edit changes nothing.
    let again = set(format, edited.text.expose(), key.as_bytes(), value.as_bytes()).unwrap();
    assert_eq!((text_of(&again).as_str(), again.change), (expected, Change::None));
    assert_eq!(again.line, edited.line);
}

#[test]
fn a_new_entry_goes_to_the_end_with_the_line_end_of_the_text() {
    let adds = |text, expected| {
        assert_set(
            RELAY_MAP.format,
            text,
            "@a.test",
            "[r]:25",
            Change::Added,
            expected,
        );
    };
    adds("", "@a.test [r]:25\n");
    adds("@b.test\n", "@b.test\n@a.test [r]:25\n");
    adds("@b.test", "@b.test\n@a.test [r]:25\n");
    adds("@b.test\r\n", "@b.test\r\n@a.test [r]:25\r\n");
    adds("@c.test\r\n@b.test", "@c.test\r\n@b.test\r\n@a.test [r]:25\r\n");
    adds("# c\r\n@b.test\r", "# c\r\n@b.test\r\n@a.test [r]:25\r\n");
    adds("# c\n\n", "# c\n\n@a.test [r]:25\n");
    adds("\u{feff}", "\u{feff}@a.test [r]:25\n");
    adds("\u{feff}@b.test x", "\u{feff}@b.test x\n@a.test [r]:25\n");
    assert_set(RELAY_MAP.format, "", "@a.test", "", Change::Added, "@a.test\n");
}

#[test]
fn an_existing_entry_keeps_everything_but_its_value() {
    let replaces = |text, expected| {
        assert_set(
            RELAY_MAP.format,
            text,
            "@a.test",
            "[r]:25",
            Change::Replaced,
            expected,
        );
    };
    replaces(
        "# 1\n  @A.Test\t\told  # why\r\n@b x\n",
        "# 1\n  @A.Test\t\t[r]:25  # why\r\n@b x\n",
    );
    replaces("@a.test", "@a.test [r]:25");
    replaces("@a.test\r\n", "@a.test [r]:25\r\n");
    replaces("@a.test  \n", "@a.test  [r]:25\n");
    replaces("@a.test # direct\n", "@a.test [r]:25 # direct\n");
    replaces("\u{feff}@a.test x\n", "\u{feff}@a.test [r]:25\n");
    replaces("@a.test [broken\n", "@a.test [r]:25\n");
    assert_set(
        CREDENTIALS.format,
        "@a.test  u:old # 1  \n",
        "@A.TEST",
        "u:\\1&/#: x",
        Change::Replaced,
        "@a.test  u:\\1&/#: x  \n",
    );
}

#[test]
fn an_entry_without_value_keeps_its_comment() {
    let excludes =
        |text, change, expected| assert_set(RELAY_MAP.format, text, "@a.test", "", change, expected);
    excludes("@a.test [r]:25\n", Change::Replaced, "@a.test\n");
    excludes("@a.test\t[r]:25 \t\r\n", Change::Replaced, "@a.test\r\n");
    excludes("@a.test [r]:25  # why\n", Change::Replaced, "@a.test  # why\n");
    excludes("@a.test [r]", Change::Replaced, "@a.test");
    for text in ["@a.test\n", "@a.test dunno\n", "@a.test  # why\n", "@A.TEST "] {
        excludes(text, Change::None, text);
    }
}

#[test]
fn later_lines_with_the_same_key_are_removed() {
    let text = "@a.test one\n# between\n@A.test two\n@b x\n  @a.TEST three";
    assert_set(
        RELAY_MAP.format,
        text,
        "@a.test",
        "new",
        Change::Replaced,
        "@a.test new\n# between\n@b x\n",
    );
    assert_set(
        RELAY_MAP.format,
        text,
        "@a.test",
        "one",
        Change::Replaced,
        "@a.test one\n# between\n@b x\n",
    );
    let edited = remove(RELAY_MAP.format, text.as_bytes(), b"@a.test");
    assert_eq!(
        (text_of(&edited).as_str(), edited.change),
        ("# between\n@b x\n", Change::Removed)
    );
}

#[test]
fn removing_the_last_entry_leaves_a_line_end() {
    for (text, expected) in [
        ("@a x\n", "\n"),
        ("@a x", "\n"),
        ("@a x\r\n", "\r\n"),
        ("\u{feff}@a x\n@A y", "\u{feff}\n"),
        ("# c\n@a x", "# c\n"),
        ("\n@a x\n", "\n"),
        ("@a x\n\u{feff}@a y\n@b z\n", "\u{feff}@b z\n"),
    ] {
        let edited = remove(RELAY_MAP.format, text.as_bytes(), b"@A");
        assert_eq!(
            (text_of(&edited).as_str(), edited.change),
            (expected, Change::Removed)
        );
    }
    let edited = remove(RELAY_MAP.format, b"", b"@a");
    assert_eq!((text_of(&edited).as_str(), edited.change), ("", Change::None));
}

#[test]
fn quoted_and_unquoted_keys_are_the_same() {
    let text = "\"john doe\"@a.test [x]\n";
    let edited = remove(RELAY_MAP.format, text.as_bytes(), b"John Doe@a.test");
    assert_eq!(edited.change, Change::Removed);
    assert_set(
        RELAY_MAP.format,
        text,
        "\"John Doe\"@a.test",
        "[r]",
        Change::Replaced,
        "\"john doe\"@a.test [r]\n",
    );
    assert_eq!(
        get(RELAY_MAP.format, text.as_bytes(), b"john doe@A.test"),
        Some(&b"[x]"[..])
    );
}

#[test]
fn an_entry_that_a_line_cannot_represent_is_refused() {
    let refused = |format, key: &[u8], value: &[u8]| {
        let result = set(format, b"@b x:y\n", key, value);
        assert_eq!(
            result.map(|edited| text_of(&edited)),
            Err(NotRepresentable),
            "{key:?}"
        );
    };
    for key in [
        &b""[..],
        b"#a",
        b"a b",
        b"a\n@c",
        b"\"open",
        b" @a",
        b"@a\0",
        b"\xEF\xBB\xBF@a\n",
    ] {
        refused(CREDENTIALS.format, key, b"u:p");
    }
    for value in [&b"u:p\n@c x:y"[..], b"u:p\r", b"u:p ", b"\tu:p"] {
        refused(CREDENTIALS.format, b"@a", value);
    }
    refused(RELAY_MAP.format, b"@a", b"x # y");
    refused(
        CREDENTIALS.format,
        b"@a",
        &vec![b'x'; crate::lookup::table::line::MAX_LINE],
    );
    assert!(set(CREDENTIALS.format, b"", b"@a", b"u:p # y").is_ok());
}

/// Generates one line of a table, or something close to it.
fn line() -> impl Strategy<Value = String> {
    let key = prop_oneof![key(), "\"open", "[a-z]{1,3}"];
    let value = "( |\t){1,2}([a-z]{1,4}(:[a-z #\\\\&/:]{0,5})?|\\[r\\]:25|DUNNO|)( |\t|  # c)?";
    let entry = (" {0,2}", key, value).prop_map(|(indent, key, value)| indent + &key + &value);
    prop_oneof![6 => entry, 1 => "[ \t]{0,2}(#[a-z@ ]{0,6})?", 1 => "@a"]
}

fn key() -> impl Strategy<Value = String> {
    "(\"[a-b ]{0,2}\"|[a-bA-Bß]{1,2})?@[a-cA-C]|<>|\\[r\\]:25"
}

fn text() -> impl Strategy<Value = String> {
    let lines = prop::collection::vec((line(), "\r?\n"), 0..12);
    let last = prop_oneof![Just(String::new()), line()];
    let mark = prop_oneof![9 => Just(""), 1 => Just("\u{feff}")];
    (mark, lines, last).prop_map(|(mark, lines, last)| {
        let lines: String = lines.into_iter().map(|(line, end)| line + &end).collect();
        mark.to_owned() + &lines + &last
    })
}

fn folded(key: &[u8]) -> Vec<u8> {
    let mut keys = LookupKeys::default();
    keys.parse(key, &Delimiters::default());
    keys.whole().to_vec()
}

/// Returns the entries in a plain map; the value is `None` for an invalid entry.
fn model(format: Format, text: &[u8]) -> HashMap<Vec<u8>, Option<Vec<u8>>> {
    let mut model = HashMap::new();
    let path = std::path::Path::new("t");
    let collect = |record: Record<'_>, _: &mut _| {
        model.entry(folded(record.key)).or_insert(match record.content {
            Content::Value(value) => Some(value.to_vec()),
            Content::NoValue => Some(Vec::new()),
            Content::Invalid => None,
        });
    };
    grammar::parse(
        format,
        path,
        text,
        &mut crate::diagnostics::Findings::default(),
        collect,
    );
    model
}

/// Returns the lines that are not entries of this key, without their line ends.
fn others(format: Format, text: &[u8], key: &[u8]) -> Vec<Vec<u8>> {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let mut lines: Vec<_> = text
        .split(|c| *c == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec())
        .filter(|line| !model(format, line).contains_key(&folded(key)))
        .collect();
    // After the last line end there is no line, and an empty text may become a line end.
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_edit_changes_only_the_entry_of_its_key(
        text in text(),
        key in key(),
        value in "([a-z]{1,3}:[a-z #&\\\\/:]{0,4}[a-z])|\\[r\\]:25|",
        is_relay_map in any::<bool>(),
        removes in any::<bool>(),
    ) {
        let format = if is_relay_map { RELAY_MAP.format } else { CREDENTIALS.format };
        let (text, key, value) = (text.as_bytes(), key.as_bytes(), value.as_bytes());
        prop_assume!(key::validate(format, key).is_ok());
        let mut expected = model(format, text);
        let edited = if removes {
            expected.remove(&folded(key));
            remove(format, text, key)
        } else if let Ok(edited) = set(format, text, key, value) {
            let set = model(format, &[key, b" ", value].concat());
            expected.insert(folded(key), set[&folded(key)].clone());
            edited
        } else {
            // A `#` after whitespace starts a comment in the relay map, and is part of the value in the credentials.
            prop_assert!(is_relay_map && value.windows(2).any(|two| two == b" #"));
            return Ok(());
        };
        let after = edited.text.expose();
        prop_assert_eq!(model(format, after), expected);
        prop_assert_eq!(others(format, after, key), others(format, text, key));
        prop_assert_eq!(edited.change == Change::None, after == text);
        let read_back = get(format, after, key);
        if removes {
            prop_assert_eq!(read_back, None);
        } else {
            prop_assert!(read_back == Some(value) || (value.is_empty() && read_back == Some(b"DUNNO")));
        }
    }

    #[test]
    fn an_edit_of_arbitrary_bytes_reads_back_or_is_refused(
        text in prop::collection::vec(prop::sample::select(&b"@a\"\\ \t\r\n#:\0\xEF\xBB\xBF\xFFx"[..]), 0..40),
        key in prop::collection::vec(prop::sample::select(&b"@a\"\\ #\n\xEF\xBB\xBF"[..]), 0..5),
        value in prop::collection::vec(prop::sample::select(&b"a: \t\r\n#\xFF"[..]), 0..5),
    ) {
        for format in [RELAY_MAP.format, CREDENTIALS.format] {
            if let Ok(edited) = set(format, &text, &key, &value) {
                let held = get(format, edited.text.expose(), &key).unwrap();
                prop_assert!(held == value);
            }
            let removed = remove(format, &text, &key);
            prop_assert_eq!(get(format, removed.text.expose(), &key), None);
        }
    }
}

#[track_caller]
fn assert_disabled(format: Format, text: &str, key: &str, reason: &str, expected: &str) {
    let disabled = disable(format, text.as_bytes(), key.as_bytes(), reason.as_bytes());
    let disabled = disabled.unwrap().unwrap();
    assert_eq!(text_of(&disabled), expected);
    assert!(
        disable(format, disabled.text.expose(), key.as_bytes(), b"again")
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_disabled_entry_is_a_comment_in_its_place_and_enabled_as_it_was() {
    for (text, key, disabled) in [
        (
            "@a.test [r]  # why\r\n@b.test\r\n",
            "@A.test",
            "# postmapd:disabled | @a.test [r]  # why\r\n@b.test\r\n",
        ),
        ("@a.test", "@a.test", "# postmapd:disabled | @a.test"),
        (
            "\u{feff}@a.test [r]\n",
            "@a.test",
            "\u{feff}# postmapd:disabled | @a.test [r]\n",
        ),
        (
            "# c\n\"a b\"@a.test\t[r]\n",
            "a b@a.test",
            "# c\n# postmapd:disabled | \"a b\"@a.test\t[r]\n",
        ),
        (
            "@* [r]\n@.a.test [s]\n",
            "@.a.test",
            "@* [r]\n# postmapd:disabled | @.a.test [s]\n",
        ),
    ] {
        assert_disabled(RELAY_MAP.format, text, key, "", disabled);
        let enabled = enable(RELAY_MAP.format, disabled.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(text_of(&enabled), text);
    }
    assert_disabled(
        CREDENTIALS.format,
        "[r]:25 u:p | # q\n",
        "[r]:25",
        "for a day",
        "# postmapd:disabled for a day | [r]:25 u:p | # q\n",
    );
    // Later lines of the key have no effect, and neither has an older comment.
    assert_disabled(
        RELAY_MAP.format,
        "# postmapd:disabled | @a.test [r0]\n @a.test [r1]\n@b.test\n@A.test [r2]\n",
        "@a.test",
        "",
        "# postmapd:disabled | @a.test [r1]\n@b.test\n",
    );
    let both = "# postmapd:disabled | @a.test [r0]\n@a.test [r1]\n";
    assert!(enable(RELAY_MAP.format, both.as_bytes(), b"@a.test").is_none());
    for (edited, expected) in [
        (
            set(RELAY_MAP.format, both.as_bytes(), b"@a.test", b"[r1]").unwrap(),
            "@a.test [r1]\n",
        ),
        (remove(RELAY_MAP.format, both.as_bytes(), b"@a.test"), "\n"),
    ] {
        assert_eq!(text_of(&edited), expected);
    }
    // No comment can hold these.
    assert!(disable(RELAY_MAP.format, b"@a.test [\n", b"@a.test", b"").is_err());
    for reason in ["a | b", " a", "a\nb"] {
        let disabled = disable(RELAY_MAP.format, b"@a.test [r]\n", b"@a.test", reason.as_bytes());
        assert!(disabled.is_err(), "{reason:?}");
    }
}

proptest! {
    /// Any lines, comments of this form among them: disabling a key takes its entry away and no other, and enabling it
    /// brings it back.
    #[test]
    fn disabling_and_enabling_a_key_changes_no_other(
        lines in prop::collection::vec(
            (
                prop::sample::select(vec!["", "# postmapd:disabled | ", "# postmapd:disabled x y | ", "#", "  "]),
                prop::sample::select(vec!["@a.test", "@A.test", "\"u\"@a.test", "u@a.test", "@.a.test", "[r]:25"]),
                prop::sample::select(vec![" u:p", "\tu:|# q ", "", " \\"]),
                prop::sample::select(vec!["\n", "\r\n"]),
            ),
            0..8,
        ),
        key in prop::sample::select(vec!["@a.test", "u@a.test", "@.a.test", "[r]:25"]),
        reason in prop::sample::select(vec!["", "why", "a: b"]),
    ) {
        let text: Vec<String> = lines.iter().map(|(a, b, c, d)| [*a, b, c, d].concat()).collect();
        let text = text.concat();
        let format = CREDENTIALS.format;
        let entries = |text: &[u8]| {
            let mut entries: HashMap<Vec<u8>, Option<Vec<u8>>> = HashMap::new();
            grammar::parse(format, std::path::Path::new(""), text, &mut crate::diagnostics::Findings::default(), |record, _| {
                let value = match record.content {
                    Content::Value(value) => Some(value.to_vec()),
                    Content::NoValue => None,
                    Content::Invalid => Some(b"invalid".to_vec()),
                };
                let keys = LookupKeys::of(record.key, &Delimiters::default());
                entries.entry(keys.whole().to_vec()).or_insert(value);
            });
            entries
        };
        let before = entries(text.as_bytes());
        match disable(format, text.as_bytes(), key.as_bytes(), reason.as_bytes()) {
            Err(NotRepresentable) => prop_assert_eq!(&before[key.as_bytes()], &Some(b"invalid".to_vec())),
            Ok(None) => prop_assert!(!before.contains_key(key.as_bytes())),
            Ok(Some(edited)) => {
                let mut others = before.clone();
                others.remove(key.as_bytes());
                prop_assert_eq!(entries(edited.text.expose()), others);
                let all = disabled::find_all(format, edited.text.expose());
                let own: Vec<_> = all.iter().filter(|one| one.has_key(key.as_bytes())).collect();
                prop_assert_eq!(own.len(), 1);
                let line = edited.text.expose().split(|c| *c == b'\n').nth(edited.line - 1);
                prop_assert!(line.is_some_and(|line| line.starts_with(b"# postmapd:disabled ")));
                let enabled = enable(format, edited.text.expose(), key.as_bytes()).unwrap();
                prop_assert_eq!(entries(enabled.text.expose()), before);
                prop_assert_eq!(enabled.line, edited.line);
            }
        }
    }
}
