//! Edits of a table's text: sets or removes one key, and keeps every other line byte for byte.
//!
//! No file is read or written here. [`grammar`] and [`address`] alone decide what an entry is and which entries have a
//! key, as for a lookup. Each edit is parsed again before it is returned, so that what the format cannot represent is
//! [`NotRepresentable`] and never another entry.
//!
//! - An existing entry keeps its place, its indentation, the spelling of its key, the whitespace before its value and
//!   the comment after it. A new entry is appended, with the line end of the line before it.
//! - Later lines with the same key never answer, and every edit of their key removes them. Otherwise a removed key
//!   would still have an entry, and an old password would stay in the file after it was replaced.
//! - A text that would become empty becomes one line end: the server delays its trust in a file of zero bytes, which
//!   may be about to be written.
//!
//! Limit: a comment belongs to no entry. Comments above or after an entry stay, whether they still apply or not.

use std::ops::Range;
use std::path::Path;

use thiserror::Error;

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
    key_end: usize,
    value: Range<usize>,
}

/// Sets the value of a key. An empty value writes the key alone.
pub fn set(format: Format, text: &[u8], key: &[u8], value: &[u8]) -> Result<Edited, NotRepresentable> {
    let mut entries = entries(format, text, key).into_iter();
    let capacity = text.len() + key.len() + value.len() + 4;
    let mut new = Secret::with_capacity(capacity);
    let change = if let Some(first) = entries.next() {
        let later: Vec<Entry> = entries.collect();
        let old = slice(text, first.value.clone());
        let is_unchanged = old == value || (value.is_empty() && value::is_no_value(format.values, old));
        new.append(slice(text, 0..first.line.start));
        if is_unchanged {
            new.append(slice(text, first.line.clone()));
        } else {
            append_changed(text, &first, value, &mut new);
        }
        append_without(text, first.line.end, &later, &mut new);
        if is_unchanged && later.is_empty() {
            Change::None
        } else {
            Change::Replaced
        }
    } else {
        new.append(text);
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
    let entries = entries_and_invalid_lines(format, text, key);
    let mut new = Secret::with_capacity(text.len() + 1);
    append_without(text, 0, &entries, &mut new);
    if !entries_and_invalid_lines(format, new.expose(), key).is_empty() {
        // A byte order mark within the text was part of a key, and is not at the start of the text.
        let again = remove(format, new.expose(), key);
        return Edited {
            change: Change::Removed,
            ..again
        };
    }
    let is_empty_text = new.is_empty() || new.expose() == BYTE_ORDER_MARK;
    if is_empty_text && !entries.is_empty() {
        new.append(line_end(text));
    }
    Edited {
        text: new,
        change: if entries.is_empty() {
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

/// Appends a new line after `text`, which is in `new` already.
fn append_entry(text: &[u8], key: &[u8], value: &[u8], new: &mut Secret) {
    let end = line_end(text);
    let is_empty_text = text.is_empty() || text == BYTE_ORDER_MARK;
    if !is_empty_text && !text.ends_with(b"\n") {
        // A CR at the very end is half of a line end.
        new.append(if text.ends_with(b"\r") { b"\n" } else { end });
    }
    new.append(key);
    if !value.is_empty() {
        new.append(b" ");
        new.append(value);
    }
    new.append(end);
}

/// Appends the text from `start` on, without these lines.
fn append_without(text: &[u8], start: usize, entries: &[Entry], new: &mut Secret) {
    let mut from = start;
    for entry in entries {
        new.append(slice(text, from..entry.line.start));
        from = entry.line.end;
    }
    new.append(slice(text, from..text.len()));
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
