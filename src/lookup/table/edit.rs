//! Edits of a table's text: sets or removes one key, and keeps every other line byte for byte.
//!
//! No file is read or written here. [`grammar`] and [`address`] alone decide what an entry is and which entries have a
//! key, as for a lookup. Each edit is parsed again before it is returned, so that what the format cannot represent is
//! [`NotRepresentable`] and never another entry.
//!
//! - An existing entry keeps its place, its indentation, the spelling of its key, the whitespace before its value and
//!   the comment after it. A new entry is appended, with the line end of the line before it.
//! - Later lines with the same key never answer, and every edit of their key removes them. Otherwise a removed key
//!   would still have an entry, and an old password would stay in the file after it was replaced. The same holds for a
//!   disabled entry of the key ([`super::disabled`]).
//! - A text that would become empty becomes one line end: the server delays its trust in a file of zero bytes, which
//!   may be about to be written.
//!
//! Limit: a comment belongs to no entry. Comments above or after an entry stay, whether they still apply or not.

use std::ops::Range;
use std::path::Path;

use thiserror::Error;

use super::disabled;
use super::grammar;
use super::line::{self, BYTE_ORDER_MARK};
use super::spec::Format;
use super::value;
use crate::diagnostics::Findings;
use crate::lookup::address::{self, Delimiters, LookupKeys};
use crate::os::secret::Secret;

/// The format cannot represent this key with this value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the file format cannot represent this: the line would be read as something else")]
pub struct NotRepresentable;

mod disable;

pub use disable::{disable, enable};

/// The effect of an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// None: the entry was there already.
    None,
    /// The key is new.
    Added,
    /// The key had another value or several lines.
    Replaced,
    /// The key was removed.
    Removed,
}

/// The result of an edit.
pub struct Edited {
    /// The whole text after the edit.
    pub text: Secret,
    /// The effect.
    pub change: Change,
    /// The line of the entry, from 1; 0 after a removal.
    pub line: usize,
}

/// The position of an entry in a text.
struct Entry {
    /// The whole line, with its line end.
    line: Range<usize>,
    key_start: usize,
    key_end: usize,
    value: Range<usize>,
}

/// Sets the value of a key. An empty value writes the key alone.
pub fn set(format: Format, text: &[u8], key: &[u8], value: &[u8]) -> Result<Edited, NotRepresentable> {
    let mut entries = entries(format, text, key).into_iter();
    let capacity = text.len() + key.len() + value.len() + 4;
    let mut new = Secret::with_capacity(capacity);
    let disabled = disabled_lines(format, text, key);
    let change = if let Some(first) = entries.next() {
        let mut others: Vec<Range<usize>> = entries.map(|entry| entry.line).chain(disabled).collect();
        others.sort_by_key(|line| line.start);
        let (before, after): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|line| line.start < first.line.start);
        let old = slice(text, first.value.clone());
        let is_unchanged = old == value || (value.is_empty() && value::is_no_value(format.values, old));
        append_without(text, 0..first.line.start, &before, &mut new);
        if is_unchanged {
            new.append(slice(text, first.line.clone()));
        } else {
            append_changed(text, &first, value, &mut new);
        }
        append_without(text, first.line.end..text.len(), &after, &mut new);
        if is_unchanged && before.is_empty() && after.is_empty() {
            Change::None
        } else {
            Change::Replaced
        }
    } else {
        append_without(text, 0..text.len(), &disabled, &mut new);
        append_entry(text, key, value, &mut new);
        Change::Added
    };
    let line = line_of_entry(format, &new, key, value).ok_or(NotRepresentable)?;
    Ok(Edited {
        text: new,
        change,
        line,
    })
}

/// Removes a key.
#[must_use]
pub fn remove(format: Format, text: &[u8], key: &[u8]) -> Edited {
    let mut lines = disabled_lines(format, text, key);
    lines.extend(
        entries_and_invalid_lines(format, text, key)
            .into_iter()
            .map(|entry| entry.line),
    );
    lines.sort_by_key(|line| line.start);
    let mut new = Secret::with_capacity(text.len() + 1);
    append_without(text, 0..text.len(), &lines, &mut new);
    if !entries_and_invalid_lines(format, new.expose(), key).is_empty() {
        // A byte order mark within the text was part of a key, and is not at the start of the text.
        let again = remove(format, new.expose(), key);
        return Edited {
            change: Change::Removed,
            ..again
        };
    }
    let is_empty_text = new.is_empty() || new.expose() == BYTE_ORDER_MARK;
    if is_empty_text && !lines.is_empty() {
        new.append(line_end(text));
    }
    Edited {
        text: new,
        change: if lines.is_empty() {
            Change::None
        } else {
            Change::Removed
        },
        line: 0,
    }
}

/// Returns the value of a key, if it has an entry; empty for an entry without value.
#[must_use]
pub fn get<'t>(format: Format, text: &'t [u8], key: &[u8]) -> Option<&'t [u8]> {
    let first = entries(format, text, key).into_iter().next();
    let first = first.or_else(|| entries_and_invalid_lines(format, text, key).into_iter().next())?;
    Some(slice(text, first.value))
}

/// Returns all entries with this key; the first one answers.
fn entries(format: Format, text: &[u8], key: &[u8]) -> Vec<Entry> {
    let (folded, mut found) = (folded(key), Vec::new());
    let mut ignored = Findings::default();
    grammar::parse(format, Path::new(""), text, &mut ignored, |record, _| {
        if address::key_matches(record.key, &folded) {
            found.extend(entry(format, text, record.offset));
        }
    });
    found
}

/// Returns the lines with this key, including those that are not valid entries: they can be removed, too.
fn entries_and_invalid_lines(format: Format, text: &[u8], key: &[u8]) -> Vec<Entry> {
    let (folded, mut found) = (folded(key), Vec::new());
    line::for_each_key(format, text, |offset, written| {
        if address::key_matches(written, &folded) {
            found.extend(entry(format, text, offset));
        }
    });
    found
}

fn folded(key: &[u8]) -> Vec<u8> {
    let keys = LookupKeys::of(key, &Delimiters::default());
    keys.whole().to_vec()
}

/// Returns the entry whose key starts at `offset`.
fn entry(format: Format, text: &[u8], offset: usize) -> Option<Entry> {
    let (key, value) = line::entry_at(format, text.get(offset..)?)?;
    let key_end = offset + key.len();
    let whitespace = slice(text, key_end..text.len());
    let value_start = key_end + whitespace.iter().take_while(|c| is_whitespace(**c)).count();
    let before = slice(text, 0..offset);
    let after_mark = if before.starts_with(BYTE_ORDER_MARK) {
        BYTE_ORDER_MARK.len()
    } else {
        0
    };
    let line_start = memchr::memrchr(b'\n', before).map_or(after_mark, |newline| newline + 1);
    let rest = slice(text, key_end..text.len());
    let line_length = memchr::memchr(b'\n', rest).map_or(rest.len(), |newline| newline + 1);
    Some(Entry {
        line: line_start..key_end + line_length,
        key_start: offset,
        key_end,
        value: value_start..value_start + value.len(),
    })
}

/// Appends the line of `entry` with another value.
fn append_changed(text: &[u8], entry: &Entry, value: &[u8], new: &mut Secret) {
    let rest_of_line = slice(text, entry.value.end..entry.line.end);
    if value.is_empty() {
        new.append(slice(text, entry.line.start..entry.key_end));
        let whitespace = rest_of_line.iter().take_while(|c| is_whitespace(**c)).count();
        let rest = slice(rest_of_line, whitespace..rest_of_line.len());
        // Whitespace at the end of the line is dropped; before a comment it separates the key.
        new.append(if rest.starts_with(b"#") {
            rest_of_line
        } else {
            rest
        });
        return;
    }
    new.append(slice(text, entry.line.start..entry.value.start));
    if entry.key_end == entry.value.start {
        new.append(b" ");
    }
    new.append(value);
    if rest_of_line.starts_with(b"#") {
        new.append(b" ");
    }
    new.append(rest_of_line);
}

/// Appends a new line to `new`, which has as much of `text` as stays.
fn append_entry(text: &[u8], key: &[u8], value: &[u8], new: &mut Secret) {
    let end = line_end(text);
    let before = new.expose();
    let is_empty_text = before.is_empty() || before == BYTE_ORDER_MARK;
    if !is_empty_text && !before.ends_with(b"\n") {
        // A CR at the very end is half of a line end.
        let missing = if before.ends_with(b"\r") { b"\n" } else { end };
        new.append(missing);
    }
    new.append(key);
    if !value.is_empty() {
        new.append(b" ");
        new.append(value);
    }
    new.append(end);
}

/// Appends a part of the text without these lines, which are in its order.
fn append_without(text: &[u8], part: Range<usize>, lines: &[Range<usize>], new: &mut Secret) {
    let mut from = part.start;
    for line in lines {
        new.append(slice(text, from..line.start));
        from = line.end;
    }
    new.append(slice(text, from..part.end));
}

/// Returns the lines of the disabled entries with this key.
fn disabled_lines(format: Format, text: &[u8], key: &[u8]) -> Vec<Range<usize>> {
    let folded = folded(key);
    let all = disabled::find_all(format, text).into_iter();
    let own = all.filter(|disabled| disabled.has_key(&folded));
    own.map(|disabled| disabled.line).collect()
}

/// Returns the last line end of a text, or LF.
fn line_end(text: &[u8]) -> &'static [u8] {
    let last = memchr::memrchr(b'\n', text);
    let before = last.and_then(|at| at.checked_sub(1)).and_then(|at| text.get(at));
    if before == Some(&b'\r') { b"\r\n" } else { b"\n" }
}

/// Returns the line number of the only entry with this key, if it has this value.
fn line_of_entry(format: Format, text: &Secret, key: &[u8], value: &[u8]) -> Option<usize> {
    let text = text.expose();
    let entries = entries(format, text, key);
    let [only] = entries.as_slice() else { return None };
    let current = slice(text, only.value.clone());
    let has_value = current == value || (value.is_empty() && value::is_no_value(format.values, current));
    has_value.then(|| memchr::memchr_iter(b'\n', slice(text, 0..only.line.start)).count() + 1)
}

fn is_whitespace(c: u8) -> bool {
    matches!(c, b' ' | b'\t')
}

fn slice(text: &[u8], range: Range<usize>) -> &[u8] {
    text.get(range).unwrap_or_default()
}

#[cfg(test)]
mod tests;
