//! The table files: their records, and the tables made of them.

use std::path::Path;

use postmapd::diagnostics::{Finding, Findings, Place};
use postmapd::lookup::address::LookupKeys;
use postmapd::lookup::table::grammar::{self, Content, Parser, Record};
use postmapd::lookup::table::spec::{CREDENTIALS, RELAY_MAP, RELAY_TLS, TableSpec};
use postmapd::lookup::table::{Hit, Table};

use super::input;
use super::plain::address;
use super::plain::table::{self, Entry, MARK, Meaning, Reading, Reported};

/// `postfix-relaymap.cf`, compared with the plain reader of the contract.
pub fn relaymap(data: &[u8]) {
    check(&RELAY_MAP, &input::expand(data));
}

/// `postfix-sasl-password.cf`, compared with the plain reader of the contract.
pub fn credentials(data: &[u8]) {
    check(&CREDENTIALS, &input::expand(data));
}

/// `postfix-relay-tls.cf`, compared with the plain reader of the contract.
pub fn relay_tls(data: &[u8]) {
    check(&RELAY_TLS, &input::expand(data));
}

fn check(spec: &'static TableSpec, text: &[u8]) {
    let plain = table::read(spec.format, text);
    check_records(spec, text, &plain);
    check_records_in_blocks(spec, text, &plain);
    check_table(spec, text);
}

fn path() -> &'static Path {
    Path::new("t")
}

/// Code and place of a finding.
pub fn reported(finding: &Finding) -> Reported {
    let Place::File(_, at) = &finding.place else {
        panic!("of no file: {finding}")
    };
    let at = at.map_or((0, 0), |at| (at.line, at.column));
    (finding.severity, finding.code.as_str(), at.0, at.1)
}

fn assert_same(record: &Record<'_>, offset: usize, entry: &Entry) {
    let meaning = match record.content {
        Content::Value(value) => Meaning::Value(value.to_vec()),
        Content::NoValue => Meaning::Nothing,
        Content::Invalid => Meaning::Fault,
    };
    assert_eq!(
        (
            record.position.line,
            record.position.column,
            record.offset + offset,
            record.key,
            meaning
        ),
        (
            entry.line,
            entry.column,
            entry.offset,
            entry.written.as_slice(),
            entry.meaning.clone()
        )
    );
}

fn check_records(spec: &'static TableSpec, text: &[u8], plain: &Reading) {
    let mut findings = Findings::default();
    let mut expected = plain.entries.iter();
    let reading = grammar::parse(spec.format, path(), text, &mut findings, |record, _| {
        let entry = expected.next().expect("an entry that is none");
        assert_same(&record, 0, entry);
        let (key, value) =
            postmapd::lookup::table::line::entry_at(spec.format, &text[record.offset..]).unwrap();
        assert_eq!((key, value), (entry.written.as_slice(), entry.raw.as_slice()));
    });
    assert_eq!(expected.next(), None);
    assert_eq!(reading.has_unreadable_keys, plain.keys_unreadable);
    // The first of each kind are kept, and all are counted.
    let mut kept = [0; 2];
    let is_kept = |reported: &&Reported| {
        let kept = &mut kept[reported.0 as usize];
        *kept += 1;
        *kept <= Findings::MAX_KEPT
    };
    let expected: Vec<&Reported> = plain.reported.iter().filter(is_kept).collect();
    let found: Vec<Reported> = findings.iter().map(reported).collect();
    assert_eq!(found.iter().collect::<Vec<_>>(), expected);
    assert_eq!(findings.errors() + findings.warnings(), plain.reported.len());
    assert_eq!(findings.dropped(), plain.reported.len() - found.len());
}

/// Checks that a text in blocks of whole lines is read as it is in one piece.
fn check_records_in_blocks(spec: &'static TableSpec, text: &[u8], plain: &Reading) {
    let lines = table::lines(text);
    let first: usize = lines
        .iter()
        .take(lines.len().div_ceil(2))
        .map(|line| line.len())
        .sum();
    let mut findings = Findings::default();
    let mut expected = plain.entries.iter();
    let mut reader = Parser::new(spec.format, path());
    for (block, offset) in [(&text[..first], 0), (&text[first..], first)] {
        reader.parse(
            block,
            |value| value,
            &mut findings,
            |record, _| assert_same(&record, offset, expected.next().unwrap()),
        );
    }
    assert_eq!(expected.next(), None);
    assert_eq!(reader.summary().has_unreadable_keys, plain.keys_unreadable);
    assert_eq!(findings.errors() + findings.warnings(), plain.reported.len());
}

/// Finding a line takes time in proportion to its number; of many entries, not each is looked up.
const MANY: usize = 200;

fn check_table(spec: &'static TableSpec, text: &[u8]) {
    let text = table::until_too_long(text);
    let plain = &table::read(spec.format, text);
    let mut findings = Findings::default();
    let table = Table::build(spec, path(), text.to_vec().into(), &mut findings);
    let expected = table::table(plain);
    assert_eq!(table.len(), expected.len());
    assert_eq!(table.is_complete(), !plain.keys_unreadable);
    for (number, (key, entry)) in expected.iter().enumerate() {
        if key == address::ANY_SENDER && plain.keys_unreadable {
            // The line that cannot be read may be the entry of any sender that has no other.
            assert!(
                matches!(table.find([key.as_slice().into()]), Hit::CannotTell(reason) if reason == spec.unparsable_key)
            );
            continue;
        }
        found(spec, &table, key, &entry.meaning);
        if number > MANY {
            continue;
        }
        assert_eq!(
            table.locate([key.as_slice().into()]),
            Some((0, entry.line as usize))
        );
        // In other case, and after keys that do not exist.
        let mut keys = LookupKeys::default();
        keys.parse(
            &entry.written.to_ascii_uppercase(),
            &postmapd::lookup::address::Delimiters::default(),
        );
        if keys.whole() == key {
            let location = table.locate([keys.whole_key()]);
            assert_eq!(location, Some((0, entry.line as usize)));
        }
        // A key in a request may contain whitespace and line ends, and is then not the beginning of a line.
        for end in 1..20 {
            let begun = text.get(entry.offset..entry.offset + entry.written.len() + end);
            if let Some(begun) = begun.map(<[u8]>::to_ascii_lowercase) {
                let line = expected.get(&begun).map(|entry| (0, entry.line as usize));
                assert_eq!(table.locate([begun.as_slice().into()]), line);
            }
        }
        let absent = b"\0 is in no key".as_slice();
        assert_eq!(
            table.locate([absent.into(), key.as_slice().into()]),
            Some((1, entry.line as usize))
        );
    }
    let absent = match table.find([b"\0 is in no key".as_slice().into()]) {
        Hit::Absent => !plain.keys_unreadable,
        Hit::CannotTell(reason) => plain.keys_unreadable && reason == spec.unparsable_key,
        Hit::Value(_) | Hit::NoValue => false,
    };
    assert!(absent);
    let mut entries = plain.entries.iter();
    table.for_each(|record| assert_eq!(record.key, entries.next().unwrap().written));
    assert_eq!(entries.next(), None);
    check_lines(&table, text);
    duplicates(&findings, plain);
}

/// Looks one key up.
pub fn found(spec: &'static TableSpec, table: &Table, key: &[u8], meaning: &Meaning) {
    match (table.find([key.into()]), meaning) {
        (Hit::Value(value), Meaning::Value(expected)) => assert_eq!(value, expected),
        (Hit::NoValue, Meaning::Nothing) => {}
        (Hit::CannotTell(reason), Meaning::Fault) => assert_eq!(reason, spec.invalid_entry),
        _ => panic!("{} is not {meaning:?}", key.escape_ascii()),
    }
}

fn check_lines(table: &Table, text: &[u8]) {
    let text = text.strip_prefix(MARK).unwrap_or(text);
    let lines = table::lines(text);
    let last = lines.len().saturating_sub(1);
    for (number, line) in (1..)
        .zip(lines.iter().copied())
        .take(MANY)
        .chain((u32::try_from(last + 1).unwrap()..).zip(lines.get(last).copied()))
    {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let own = table.line(number).unwrap();
        assert_eq!(own.expose(), line.strip_suffix(b"\r").unwrap_or(line));
    }
    assert!(table.line(0).is_none());
}

/// Checks that the table's findings are those of the grammar, and one for each duplicate key.
fn duplicates(findings: &Findings, plain: &Reading) {
    let first = table::table(plain);
    let is_later = |entry: &&Entry| first[&address::key(&entry.written)].line != entry.line;
    let again = plain.entries.iter().filter(is_later).map(|entry| {
        let severity = postmapd::diagnostics::Severity::Warning;
        (severity, "duplicate-key", entry.line, entry.column)
    });
    let mut expected: Vec<Reported> = plain.reported.iter().copied().chain(again).collect();
    assert_eq!(findings.errors() + findings.warnings(), expected.len());
    if findings.dropped() == 0 {
        let mut found: Vec<Reported> = findings.iter().map(reported).collect();
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected);
    }
}
