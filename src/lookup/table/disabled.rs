//! Disabled entries: comments that hold an entry, which has no effect until it is enabled.
//!
//! ```text
//! # postmapd:disabled [REASON] | ENTRY
//! ```
//!
//! ENTRY is the line as it was, without whitespace before it. Every program that reads the file sees a comment. All is on one
//! line, so that a person can move it, sort the file, or enable the entry by removing what precedes it. REASON has no `|`.
//!
//! Whether ENTRY is one is decided by [`grammar`] alone. Any other comment that starts with `postmapd:disable` is malformed:
//! `check` warns of it, and it is never enabled.
//!
//! A disabled entry of the credentials holds a password. Of a malformed one nothing is known, and nothing is shown.

use std::ops::Range;
use std::path::Path;

use super::grammar::{self, Content};
use super::line::{self, BYTE_ORDER_MARK, TrimWhitespace};
use super::spec::Format;
use crate::diagnostics::Findings;
use crate::lookup::address;

/// What a disabled entry starts with, after `#`.
const PREFIX: &[u8] = b"postmapd:";
const WORD: &[u8] = b"disabled";

/// What a comment starts with that was certainly meant as one, in upper or lower case.
const MEANT: &[u8] = b"disable";

/// What separates the reason from the entry.
pub const SEPARATOR: u8 = b'|';

/// A comment that starts with `postmapd:disable`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disabled<'t> {
    /// The number of its line, from 1.
    pub number: u32,
    /// The whole line in the text, with its line end.
    pub line: Range<usize>,
    /// The entry; `None` if the comment is malformed.
    pub entry: Option<DisabledEntry<'t>>,
}

/// The entry of such a comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisabledEntry<'t> {
    /// Why it is disabled; may be empty.
    pub reason: &'t [u8],
    /// The key as written.
    pub key: &'t [u8],
    /// The value; `None` if it has none on purpose.
    pub value: Option<&'t [u8]>,
    /// The position of the entry in the text, without the line end.
    pub range: Range<usize>,
}

/// Returns all comments that start with `postmapd:disable`, in the order of the text.
#[must_use]
pub fn find_all(format: Format, text: &[u8]) -> Vec<Disabled<'_>> {
    let mut found = Vec::new();
    let mut start = text.len() - line::without_byte_order_mark(text).len();
    let lines = text.get(start..).unwrap_or_default();
    for (number, line) in (1..).zip(lines.split_inclusive(|c| *c == b'\n')) {
        if let Some(rest) = after_prefix(line) {
            let rest_at = start + (line.len() - rest.len());
            found.push(Disabled {
                number,
                line: start..start + line.len(),
                entry: parse(format, rest, rest_at),
            });
        }
        start += line.len();
    }
    found
}

/// Returns what follows `# postmapd:` in a line.
fn after_prefix(line: &[u8]) -> Option<&[u8]> {
    let comment = line.trim_start_whitespace().strip_prefix(b"#")?;
    let comment = comment.trim_start_whitespace();
    let (prefix, rest) = comment.split_at_checked(PREFIX.len())?;
    let word = rest.trim_start_whitespace().get(..MEANT.len())?;
    (prefix.eq_ignore_ascii_case(PREFIX) && word.eq_ignore_ascii_case(MEANT)).then_some(rest)
}

/// Parses what follows `postmapd:`, at this offset of the text.
fn parse(format: Format, rest: &[u8], rest_at: usize) -> Option<DisabledEntry<'_>> {
    let rest = rest.strip_suffix(b"\n").unwrap_or(rest);
    let rest = rest.strip_suffix(b"\r").unwrap_or(rest);
    let (word, reason_and_entry) = rest.split_at_checked(WORD.len())?;
    let bar = memchr::memchr(SEPARATOR, reason_and_entry)?;
    let (reason, entry) = reason_and_entry.split_at_checked(bar)?;
    let is_word = word == WORD && reason.first().is_none_or(|c| matches!(c, b' ' | b'\t'));
    let entry = entry.get(1..)?.trim_start_whitespace();
    if !is_word || entry.starts_with(BYTE_ORDER_MARK) {
        return None;
    }
    let mut findings = Findings::default();
    let mut records = Vec::new();
    grammar::parse(format, Path::new(""), entry, &mut findings, |record, _| {
        records.push(record);
    });
    let [record] = records.as_slice() else {
        return None;
    };
    let at = rest_at + (rest.len() - entry.len());
    (findings.errors() == 0).then(|| DisabledEntry {
        reason: reason.trim_start_whitespace().trim_end_whitespace(),
        key: record.key,
        value: match record.content {
            Content::Value(value) => Some(value),
            Content::NoValue | Content::Invalid => None,
        },
        range: at..at + entry.len(),
    })
}

impl Disabled<'_> {
    /// Whether it holds an entry with this folded key.
    #[must_use]
    pub fn has_key(&self, folded: &[u8]) -> bool {
        let entry = self.entry.as_ref();
        entry.is_some_and(|entry| address::key_matches(entry.key, folded))
    }
}
