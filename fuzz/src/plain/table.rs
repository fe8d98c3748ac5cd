//! The grammar of the two files, line by line.

use std::collections::HashMap;

use postmapd::diagnostics::Severity;
use postmapd::lookup::table::line::MAX_LINE;
use postmapd::lookup::table::spec::{CREDENTIALS, Format, ValueKind};

use super::key::{self, Evaluated};
use super::{address, next_hop, tls};

/// The meaning of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    Value(Vec<u8>),
    Nothing,
    Fault,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The line number, from 1.
    pub line: u32,
    pub column: u32,
    /// The offset of its key in the text.
    pub offset: usize,
    /// The key as written.
    pub written: Vec<u8>,
    /// The value as written, valid or not.
    pub raw: Vec<u8>,
    pub meaning: Meaning,
}

/// A finding: severity, code, line and column.
pub type Reported = (Severity, &'static str, u32, u32);

#[derive(Default)]
pub struct Reading {
    pub entries: Vec<Entry>,
    pub reported: Vec<Reported>,
    pub keys_unreadable: bool,
    /// The lines with an invalid key, and that key.
    pub no_keys: Vec<(u32, Vec<u8>)>,
    /// Keys for which entries with two @ were probably intended.
    pub meant: Vec<Vec<u8>>,
}

pub const MARK: &[u8] = b"\xEF\xBB\xBF";

/// The lines of a text, each with its end.
pub fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|c| *c == b'\n').collect()
}

pub fn read(format: Format, text: &[u8]) -> Reading {
    let mut reading = Reading::default();
    let mut offset = 0;
    if text.starts_with(MARK) {
        offset = MARK.len();
        reading
            .reported
            .push((Severity::Warning, "byte-order-mark", 1, 1));
    }
    for (number, line) in (1..).zip(lines(&text[offset..])) {
        read_line(format, line, number, offset, &mut reading);
        offset += line.len();
    }
    reading
}

/// The part of a file that is read: it ends in the first line that is too long, one byte after the limit of a line.
pub fn until_too_long(text: &[u8]) -> &[u8] {
    let mut begin = 0;
    for line in lines(text) {
        if line.strip_suffix(b"\n").unwrap_or(line).len() > MAX_LINE {
            return &text[..begin + MAX_LINE + 1];
        }
        begin += line.len();
    }
    text
}

fn is_space(c: u8) -> bool {
    c == b' ' || c == b'\t'
}

fn trimmed_end(mut text: &[u8]) -> &[u8] {
    while text.last().is_some_and(|c| is_space(*c)) {
        text = &text[..text.len() - 1];
    }
    text
}

fn read_line(format: Format, line: &[u8], number: u32, begin: usize, reading: &mut Reading) {
    let without_lf = line.strip_suffix(b"\n").unwrap_or(line);
    let line = without_lf.strip_suffix(b"\r").unwrap_or(without_lf);
    let column = |at: usize| u32::try_from(at).unwrap() + 1;
    let mut unreadable = |at| {
        reading.keys_unreadable = true;
        reading
            .reported
            .push((Severity::Error, "bad-key", number, column(at)));
    };
    if without_lf.len() > MAX_LINE {
        return unreadable(0);
    }
    let Some(indent) = line.iter().position(|c| !is_space(*c)) else {
        return;
    };
    if line[indent] == b'#' {
        return;
    }
    // The key, with quotes and backslashes as postmap reads them.
    let mut at = indent;
    let mut in_quotes = false;
    while at < line.len() && (in_quotes || !is_space(line[at])) {
        if line[at] == b'"' {
            in_quotes = !in_quotes;
        }
        at += if line[at] == b'\\' { 2 } else { 1 };
    }
    if in_quotes || at > line.len() {
        return unreadable(indent);
    }
    let written = &line[indent..at];
    if let Some(bad) = written.iter().position(|c| *c < 32 || *c == 127) {
        return unreadable(indent + bad);
    }
    while at < line.len() && is_space(line[at]) {
        at += 1;
    }
    let value_at = at;
    let mut value = &line[value_at..];
    if format != CREDENTIALS.format {
        for hash in 0..value.len() {
            if value[hash] == b'#' && (hash == 0 || is_space(value[hash - 1])) {
                value = &value[..hash];
                break;
            }
        }
    }
    let value = trimmed_end(value);
    if indent > 0 {
        reading
            .reported
            .push((Severity::Warning, "indented-entry", number, 1));
    }
    if std::str::from_utf8(line).is_err() {
        reading.reported.push((Severity::Warning, "not-utf-8", number, 1));
    }
    let checked = key::evaluate(format, written, value.is_empty());
    let (meaning, reported) = match (checked, format.values) {
        (Evaluated::None(bad), _) => {
            reading.keys_unreadable = true;
            reading
                .reported
                .push((Severity::Error, "bad-key", number, column(indent + bad)));
            reading.no_keys.push((number, written.to_vec()));
            return;
        }
        (Evaluated::TwoAts, _) => {
            if format == CREDENTIALS.format {
                reading.meant.push(address::key(&written[1..]));
            }
            reading
                .reported
                .push((Severity::Error, "two-ats", number, column(indent)));
            (Meaning::Fault, None)
        }
        (Evaluated::Key, ValueKind::NextHop) => of_relay_map(value),
        (Evaluated::Key, ValueKind::Login) => of_credentials(written, value),
        (Evaluated::Key, ValueKind::Tls) => match tls::first_fault(written, value) {
            None => (Meaning::Value(value.to_vec()), None),
            Some(at) => (Meaning::Fault, Some((Severity::Error, "bad-tls", at))),
        },
    };
    if let Some((severity, code, bad)) = reported {
        reading
            .reported
            .push((severity, code, number, column(value_at + bad)));
    }
    reading.entries.push(Entry {
        line: number,
        column: column(indent),
        offset: begin + indent,
        written: written.to_vec(),
        raw: value.to_vec(),
        meaning,
    });
}

type Meant = (Meaning, Option<(Severity, &'static str, usize)>);

fn of_relay_map(value: &[u8]) -> Meant {
    if value.is_empty() || value.eq_ignore_ascii_case(b"dunno") {
        return (Meaning::Nothing, None);
    }
    match next_hop::first_fault(value) {
        None => (Meaning::Value(value.to_vec()), None),
        // The column is that of the invisible character.
        Some(at) if !value.is_ascii() => {
            let at = postmapd::os::invisible::Invisible::first(value).map_or(at, |found| found.offset);
            (Meaning::Fault, Some((Severity::Error, "bad-next-hop", at)))
        }
        Some(at) => (Meaning::Fault, Some((Severity::Error, "bad-next-hop", at))),
    }
}

fn of_credentials(written: &[u8], value: &[u8]) -> Meant {
    let is_sender = written.contains(&b'@') || written == b"<>" || written == b"\"<>\"";
    if value.is_empty() && is_sender {
        return (Meaning::Nothing, Some((Severity::Warning, "no-credentials", 0)));
    }
    let wrong = |at| (Meaning::Fault, Some((Severity::Error, "bad-credentials", at)));
    if let Some(bad) = value.iter().position(|c| (*c < 32 && *c != b'\t') || *c == 127) {
        return wrong(bad);
    }
    match value.iter().position(|c| *c == b':') {
        None | Some(0) => wrong(0),
        Some(colon) if colon + 1 == value.len() => wrong(colon),
        Some(_) => (Meaning::Value(value.to_vec()), None),
    }
}

/// The entry of each key; the first of duplicates wins.
pub fn table(reading: &Reading) -> HashMap<Vec<u8>, &Entry> {
    let mut table = HashMap::new();
    for entry in &reading.entries {
        table.entry(address::key(&entry.written)).or_insert(entry);
    }
    table
}
