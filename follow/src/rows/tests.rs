use std::path::Path;

use postmapd::diagnostics::Findings;
use postmapd::lookup::table::Table;
use postmapd::lookup::table::grammar::Content;
use postmapd::lookup::table::spec::TableSpec;
use postmapd::os::secret::Secret;
use proptest::prelude::*;

use super::{BadRow, Column, Line, Row};

fn relay<'a>(key: &'a str, next_hop: Option<&'a str>) -> Row<'a> {
    Row::Relay {
        key: key.as_bytes(),
        next_hop: next_hop.map(str::as_bytes),
    }
}

fn credentials<'a>(key: &'a str, user: Option<&'a str>, password: Option<&'a str>) -> Row<'a> {
    Row::Credentials {
        key: key.as_bytes(),
        user: user.map(str::as_bytes),
        password: password.map(str::as_bytes),
    }
}

fn tls<'a>(key: &'a str, value: Option<&'a str>) -> Row<'a> {
    Row::Tls {
        key: key.as_bytes(),
        value: value.map(str::as_bytes),
    }
}

/// The text of the file of this row alone, and the error about it.
fn written(row: Row<'_>) -> (Vec<u8>, Option<BadRow>) {
    let line = Line::new(row, Some(1));
    (line.text.expose().to_vec(), line.error)
}

type Entries = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// The entries as the server reads them, `None` for no value, and whether there is any error.
fn read(spec: &'static TableSpec, text: &[u8]) -> (Entries, bool) {
    let mut findings = Findings::default();
    let secret = Secret::from(text.to_vec());
    let table = Table::build(spec, Path::new("file"), secret, &mut findings);
    let mut entries = Entries::new();
    table.for_each(|record| {
        let value = match record.content {
            Content::Value(value) => Some(value.to_vec()),
            Content::NoValue => None,
            Content::Invalid => Some(b"(invalid)".to_vec()),
        };
        entries.push((record.key.to_vec(), value));
    });
    (entries, findings.errors() > 0 || !table.is_complete())
}

#[test]
fn a_row_becomes_one_line() {
    for (row, line) in [
        (relay("@a.test", Some("[r.test]:587")), "@a.test [r.test]:587\n"),
        (
            relay("\"john doe\"@a.test", Some("r.test")),
            "\"john doe\"@a.test r.test\n",
        ),
        (
            relay("<>", Some("[r.test]:587, [s.test]:25")),
            "<> [r.test]:587, [s.test]:25\n",
        ),
        (relay("@.a.test", None), "@.a.test\n"),
        (relay("u@a.test", Some("")), "u@a.test\n"),
        (relay("u@a.test", Some("dunno")), "u@a.test dunno\n"),
        (credentials("@a.test", Some("u"), Some("p")), "@a.test u:p\n"),
        (
            credentials("[r.test]:587", Some("u"), Some("p:# \"q\\")),
            "[r.test]:587 u:p:# \"q\\\n",
        ),
        (credentials("u@a.test", None, None), "u@a.test\n"),
        (credentials("u@a.test", Some(""), Some("")), "u@a.test\n"),
        (tls("[r.test]:587", Some("implicit")), "[r.test]:587 implicit\n"),
        (tls("*", Some("secure match=nexthop")), "* secure match=nexthop\n"),
    ] {
        let (text, error) = written(row);
        assert_eq!(error, None, "{line}");
        assert_eq!(String::from_utf8(text).unwrap(), line);
    }
}

#[test]
fn a_row_that_is_another_line_or_several_is_bad_and_its_column_is_named() {
    for (row, column) in [
        (
            relay("@a.test\n@b.test [evil.test]:25", Some("r.test")),
            Column::Key,
        ),
        (
            relay("@a.test", Some("[r.test]:587\n@b.test [evil.test]:25")),
            Column::NextHop,
        ),
        (relay("@a.test", Some("[r.test]:587\n# comment")), Column::NextHop),
        (relay("@a.test", Some("r.test # comment")), Column::NextHop),
        (relay("@a.test", Some("r.test\r")), Column::NextHop),
        (relay("@a.test", Some("\0")), Column::NextHop),
        (relay("@a.test", Some(" r.test")), Column::NextHop),
        (relay("#@a.test", Some("r.test")), Column::Key),
        (relay(" @a.test", Some("r.test")), Column::Key),
        (relay("@a.test\t[evil.test]:25", Some("r.test")), Column::Key),
        (relay("\u{feff}@a.test", Some("r.test")), Column::Key),
        (relay("", Some("r.test")), Column::Key),
        (relay("", None), Column::Key),
        (relay("@a.test", Some("r.test:99999")), Column::NextHop),
        (credentials("@a.test", Some("u:v"), Some("p")), Column::User),
        (credentials("@a.test", Some(" u"), Some("p")), Column::User),
        (
            credentials("@a.test", Some("u\n@b.test x"), Some("p")),
            Column::User,
        ),
        (credentials("@a.test", Some("u"), Some("p ")), Column::Password),
        (
            credentials("@a.test", Some("u"), Some("p\n@b.test x:y")),
            Column::Password,
        ),
        (credentials("@a.test", Some("u"), Some("p\r")), Column::Password),
        (
            credentials("@a.test", Some("u"), Some("p\u{1}")),
            Column::Password,
        ),
        (credentials("@a.test", Some("u"), None), Column::Password),
        (credentials("@a.test", None, Some("p")), Column::User),
        (credentials("r.test", None, None), Column::User),
        (credentials("not a key", Some("u"), Some("p")), Column::Key),
        (credentials("@*", Some("u"), Some("p")), Column::Key),
        (tls("@a.test", Some("implicit")), Column::Key),
        (tls("r.test", Some("no-such-level")), Column::Value),
        (tls("r.test", None), Column::Value),
    ] {
        let (_, error) = written(row);
        let error = error.unwrap_or_else(|| panic!("{column}: a good row"));
        assert_eq!(error.column, column, "{error}");
    }
    let long = "p".repeat(100_000);
    let (_, error) = written(credentials("@a.test", Some("u"), Some(&long)));
    assert_eq!(error.unwrap().column, Column::Password);
}

#[test]
fn a_bad_row_with_a_valid_key_or_whitespace_around_one_becomes_an_invalid_entry_and_another_row_none() {
    for row in [
        relay("u@a.test", Some("[evil")),
        credentials("u@a.test", Some("u"), Some("line\nend")),
        tls("[r.test]:25", Some("nothing")),
    ] {
        let (text, error) = written(row);
        assert!(error.is_some());
        let key = row.key().to_vec();
        assert_eq!(read(row.spec(), &text).0, [(key, Some(b"(invalid)".to_vec()))]);
    }
    assert_eq!(written(relay("a b c", Some("r.test"))).0, b"");
    // As the type char(10) has it.
    for row in [relay("u@a.test  ", Some("r.test")), relay("\tu@a.test\r\n", None)] {
        let (text, error) = written(row);
        assert_eq!(error.unwrap().column, Column::Key);
        assert_eq!(text, b"u@a.test [bad-row\n");
    }
    assert_eq!(written(credentials("\n", Some("u"), Some("p"))).0, b"");
}

#[test]
fn an_error_names_table_row_key_and_column_and_no_value() {
    let error = |row| written(row).1.unwrap().to_string();
    let text = error(credentials("u@a.test", Some("hunter1"), Some("hunter2\n")));
    assert!(
        text.starts_with("credentials: row 1 (key u@a.test): column password: "),
        "{text}"
    );
    assert!(!text.contains("hunter"), "{text}");
    // A query with its columns in the wrong order.
    let text = error(credentials("hunter2 !", Some("u"), Some("p")));
    assert!(text.starts_with("credentials: row 1: column key: "), "{text}");
    assert!(!text.contains("hunter"), "{text}");
    let text = error(relay("@a\u{1b}[31m", Some("r.test")));
    assert!(
        text.starts_with("relay: row 1 (key @a\\u{1b}[31m): column key: "),
        "{text}"
    );
    assert!(error(relay(&"k".repeat(100_000), None)).len() < 1000);
    // A changed key has no number.
    let text = |row| Line::new(row, None).error.unwrap().to_string();
    let changed = text(tls("[r.test]:25", Some("nothing")));
    assert!(
        changed.starts_with("tls: key [r.test]:25: column value: "),
        "{changed}"
    );
    let changed = text(credentials("hunter2 !", Some("u"), Some("p")));
    assert!(changed.starts_with("credentials: column key: "), "{changed}");
}

/// Texts of which many are nearly valid, and many would be several lines.
fn texts(valid: &'static str) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => Just(valid.to_owned()),
        1 => "[a-z@:.#\"\\\\ \t]{0,4}",
        1 => prop::sample::select(vec!["\n", "\r", "\r\n", "\0", "#", " ", "\t", "\u{feff}", "\u{a0}", "\\", "\"", ":", ","])
            .prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn keys() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(vec!["@a.test", "u@a.test", "<>", "@.a.test", "\"j d\"@a.test", "[r.test]:587", "r.test", "*"])
            .prop_map(str::to_owned),
        1 => texts("@a.test"),
    ]
}

#[derive(Debug, Clone)]
enum Owned {
    Relay(String, Option<String>),
    Credentials(String, Option<String>, Option<String>),
    Tls(String, Option<String>),
}

impl Owned {
    fn row(&self) -> Row<'_> {
        match self {
            Self::Relay(key, value) => relay(key, value.as_deref()),
            Self::Credentials(key, user, password) => credentials(key, user.as_deref(), password.as_deref()),
            Self::Tls(key, value) => tls(key, value.as_deref()),
        }
    }

    /// The entry that the row is, by the documentation of the files alone.
    fn expected(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (key, value) = match self {
            Self::Relay(key, value) if text(value).eq_ignore_ascii_case("dunno") => (key, String::new()),
            Self::Relay(key, value) | Self::Tls(key, value) => (key, text(value)),
            Self::Credentials(key, user, password) if text(user).is_empty() && text(password).is_empty() => {
                (key, String::new())
            }
            Self::Credentials(key, user, password) => (key, format!("{}:{}", text(user), text(password))),
        };
        let value = (!value.is_empty()).then(|| value.into_bytes());
        (key.clone().into_bytes(), value)
    }
}

fn optional(texts: impl Strategy<Value = String>) -> impl Strategy<Value = Option<String>> {
    prop::option::weighted(0.9, texts)
}

fn relays() -> impl Strategy<Value = Owned> {
    (keys(), optional(texts("[r.test]:587"))).prop_map(|(key, value)| Owned::Relay(key, value))
}

fn logins() -> impl Strategy<Value = Owned> {
    (keys(), optional(texts("user")), optional(texts("pass word")))
        .prop_map(|(key, user, password)| Owned::Credentials(key, user, password))
}

fn policies() -> impl Strategy<Value = Owned> {
    (keys(), optional(texts("encrypt"))).prop_map(|(key, value)| Owned::Tls(key, value))
}

fn check(rows: &[Owned]) -> Result<(), TestCaseError> {
    let Some(first) = rows.first() else { return Ok(()) };
    let mut text = Vec::new();
    let mut expected = Entries::new();
    let mut holes = 0;
    for (row, number) in rows.iter().zip(1..) {
        let line = Line::new(row.row(), Some(number));
        text.extend(line.text.expose());
        match line.error {
            None => expected.push(row.expected()),
            Some(error) => {
                prop_assert_eq!(error.row, Some(number));
                let key = row.expected().0;
                if line.text.is_empty() {
                    prop_assert_eq!(error.column, Column::Key);
                } else {
                    prop_assert!(error.column != Column::Key || key.trim_ascii() != key);
                    holes += 1;
                    expected.push((key.trim_ascii().to_vec(), Some(b"(invalid)".to_vec())));
                }
            }
        }
    }
    let (entries, has_errors) = read(first.row().spec(), &text);
    prop_assert_eq!(entries, expected);
    prop_assert_eq!(has_errors, holes > 0);
    Ok(())
}

proptest! {
    #[test]
    fn every_good_row_is_exactly_one_entry_and_every_bad_row_at_most_an_invalid_one(
        relays in prop::collection::vec(relays(), 0..6),
        logins in prop::collection::vec(logins(), 0..6),
        policies in prop::collection::vec(policies(), 0..6),
    ) {
        check(&relays)?;
        check(&logins)?;
        check(&policies)?;
    }
}
