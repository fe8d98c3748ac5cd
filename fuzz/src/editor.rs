//! Edits of the two files: edit, read, compare.

use std::collections::HashMap;
use std::path::Path;

use postmapd::diagnostics::Findings;
use postmapd::lookup::table::Table;
use postmapd::lookup::table::edit::{self, Change, Edited};
use postmapd::lookup::table::line::MAX_LINE;
use postmapd::lookup::table::spec::{CREDENTIALS, Format, RELAY_MAP, TableSpec};

use super::input;
use super::plain::address;
use super::plain::table::{self, MARK, Meaning, Reading};

/// The first line has the file (`r` or `c`) and the operation (`s` or `d`), the second the key, the third the value,
/// and the rest is the text.
pub fn editor(data: &[u8]) {
    let data = input::expand(data);
    let (what, rest) = input::first_line(&data);
    let (key, rest) = input::first_line(rest);
    let (value, text) = input::first_line(rest);
    let spec = if what.first() == Some(&b'r') {
        &RELAY_MAP
    } else {
        &CREDENTIALS
    };
    let case = Case {
        spec,
        format: spec.format,
        key,
        text,
        before: table::read(spec.format, text),
    };
    if what.get(1) == Some(&b'd') {
        case.remove();
    } else {
        case.set(value);
    }
}

struct Case<'d> {
    spec: &'static TableSpec,
    format: Format,
    key: &'d [u8],
    text: &'d [u8],
    before: Reading,
}

impl Case<'_> {
    fn set(&self, value: &[u8]) {
        let edited = edit::set(self.format, self.text, self.key, value);
        let is_near_limit = self.text.len() + self.key.len() + value.len() > MAX_LINE - 10;
        // A CR before another CR is a part of a value; otherwise it is a part of the line end.
        if !is_near_limit && !value.ends_with(b"\r") {
            assert_eq!(edited.is_ok(), self.can_carry(value));
        }
        let Ok(edited) = edited else { return };
        let text = edited.text.expose();
        let after = table::read(self.format, text);
        let mut expected = self.meanings(&self.before);
        expected.insert(address::key(self.key), self.meaning_of(value));
        assert_eq!(self.meanings(&after), expected);
        assert_eq!(after.keys_unreadable, self.before.keys_unreadable);
        let [only] = self.own(&after)[..] else {
            panic!("the key is there several times");
        };
        assert_eq!(only as usize, edited.line);
        assert!(
            edit::get(self.format, text, self.key) == Some(value)
                || self.meaning_of(value) == Meaning::Nothing
        );
        assert_eq!(text.starts_with(MARK), self.text.starts_with(MARK));
        let expected = match self.own(&self.before).len() {
            0 => Change::Added,
            _ if text == self.text => Change::None,
            _ => Change::Replaced,
        };
        assert_eq!(edited.change, expected);
        if edited.change == Change::Added {
            self.only_a_line_was_added(text);
        } else {
            assert_eq!(self.others(text, &after), self.others(self.text, &self.before));
        }
        if self.meaning_of(value) != Meaning::Fault {
            self.is_accepted_as_before(&edited);
        }
        let again = edit::set(self.format, text, self.key, value).unwrap();
        assert!(again.change == Change::None && again.text == edited.text && again.line == edited.line);
    }

    fn remove(&self) {
        let edited = edit::remove(self.format, self.text, self.key);
        let text = edited.text.expose();
        let after = table::read(self.format, text);
        assert!(self.lines(&after).is_empty());
        assert_eq!(edit::get(self.format, text, self.key), None);
        let was_there = !self.lines(&self.before).is_empty();
        assert_eq!(
            edited.change,
            if was_there { Change::Removed } else { Change::None }
        );
        if !was_there {
            assert_eq!(text, self.text);
        }
        if !self.has_a_mark_within() {
            let mut expected = self.meanings(&self.before);
            expected.remove(&address::key(self.key));
            assert_eq!(self.meanings(&after), expected);
            assert_eq!(text.starts_with(MARK), self.text.starts_with(MARK));
            let others = self.but(self.text, &self.lines(&self.before));
            if was_there && others.is_empty() {
                // The text is not empty: the server would not apply an empty file at once.
                assert!([&b"\n"[..], b"\r\n"].contains(&text.strip_prefix(MARK).unwrap_or(text)));
            } else {
                assert_eq!(self.but(text, &self.lines(&after)), others);
            }
        }
        self.is_accepted_as_before(&edited);
    }

    /// Checks that the server accepts the edited text if it accepted the text before.
    fn is_accepted_as_before(&self, edited: &Edited) {
        let errors = |text: &[u8]| {
            let mut findings = Findings::default();
            Table::build(self.spec, Path::new("t"), text.to_vec().into(), &mut findings);
            findings.errors()
        };
        assert!(errors(edited.text.expose()) <= errors(self.text));
    }

    /// A byte order mark at the beginning of a line other than the first is a part of a key. It no longer is where that
    /// line becomes the first.
    fn has_a_mark_within(&self) -> bool {
        table::lines(self.text)
            .iter()
            .skip(1)
            .any(|line| line.starts_with(MARK))
            || self
                .text
                .strip_prefix(MARK)
                .is_some_and(|text| text.starts_with(MARK))
    }

    fn meanings(&self, reading: &Reading) -> HashMap<Vec<u8>, Meaning> {
        let table = table::table(reading);
        table
            .into_iter()
            .map(|(key, entry)| (key, entry.meaning.clone()))
            .collect()
    }

    fn meaning_of(&self, value: &[u8]) -> Meaning {
        // A CR at the end of a value belongs to it where another one follows.
        let end: &[u8] = if value.ends_with(b"\r") { b"\r\n" } else { b"\n" };
        let meaning = |key: &[u8]| {
            let text = [b"#\n".as_slice(), key, b" ", value, end].concat();
            match table::read(self.format, &text).entries.as_slice() {
                [only] => Some(only.meaning.clone()),
                _ => None,
            }
        };
        // The key itself may be invalid, as @@domain is.
        meaning(self.key)
            .or_else(|| meaning(self.some_key(value)))
            .unwrap()
    }

    /// A short key that may have the value.
    fn some_key(&self, value: &[u8]) -> &'static [u8] {
        if self.format == CREDENTIALS.format && !value.is_empty() {
            b"k"
        } else {
            b"@k"
        }
    }

    /// The lines of the entries with the key.
    fn own(&self, reading: &Reading) -> Vec<u32> {
        let own = address::key(self.key);
        let entries = reading.entries.iter();
        let with_key = entries.filter(|entry| address::key(&entry.written) == own);
        with_key.map(|entry| entry.line).collect()
    }

    /// The lines of the entries with the key, and those of its lines with an invalid key.
    fn lines(&self, reading: &Reading) -> Vec<u32> {
        let own = address::key(self.key);
        let no_keys = reading.no_keys.iter();
        let more = no_keys.filter(|(_, written)| address::key(written) == own);
        let mut lines = self.own(reading);
        lines.extend(more.map(|(line, _)| *line));
        lines
    }

    /// The lines, each with its end, that are not entries of the key.
    fn others<'t>(&self, text: &'t [u8], reading: &Reading) -> Vec<&'t [u8]> {
        self.but(text, &self.own(reading))
    }

    /// The lines except these.
    fn but<'t>(&self, text: &'t [u8], own: &[u32]) -> Vec<&'t [u8]> {
        let lines = table::lines(text.strip_prefix(MARK).unwrap_or(text));
        let others = (1..).zip(lines).filter(|(number, _)| !own.contains(number));
        others.map(|(_, line)| line).collect()
    }

    fn only_a_line_was_added(&self, text: &[u8]) {
        let added = text
            .strip_prefix(self.text)
            .expect("the existing text is unchanged");
        let is_whole = self.text.is_empty() || self.text == MARK || self.text.ends_with(b"\n");
        let line = if is_whole {
            added
        } else {
            let added = added.strip_prefix(b"\r").unwrap_or(added);
            added.strip_prefix(b"\n").expect("the last line was ended")
        };
        assert!(line.starts_with(self.key) && line.ends_with(b"\n"));
        assert_eq!(line.iter().filter(|c| **c == b'\n').count(), 1);
    }

    /// Whether a line can contain the value, and the key, unless the file already has it.
    fn can_carry(&self, value: &[u8]) -> bool {
        let holds = |key: &[u8]| {
            let line = [key, b" ", value, b"\n"].concat();
            // After another line, so that a byte order mark is not one.
            let text = if self.text.is_empty() {
                line
            } else {
                [b"#\n", line.as_slice()].concat()
            };
            let reading = table::read(self.format, &text);
            matches!(&reading.entries[..], [only] if only.written == key && only.raw == value)
                && !reading.keys_unreadable
        };
        if self.own(&self.before).is_empty() {
            holds(self.key)
        } else {
            holds(self.some_key(value))
        }
    }
}
