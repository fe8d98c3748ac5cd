//! Edits of a table's text: one key set or removed, every other line left byte for byte as it is.
//!
//! Bytes in, bytes out: nothing is read or written here. What an entry is, and which entries have a key, is decided
//! by [`grammar`] and [`address`] alone, as for a lookup; and each edit is read back with them before it is handed
//! out, so that what the format cannot carry is [`Uncarriable`] and never a different entry.
//!
//! - An entry that is there keeps its place, its indentation, the way its key is written, the blanks before its value
//!   and the comment after it. A new one goes to the end, with the line end of the line before it.
//! - Later lines with the same key never answer, and are taken out by every edit that touches their key: otherwise a
//!   removed key would still be there, and an old password would stay in the file after it was replaced.
//! - A text of which nothing is left becomes one line end: the server does not believe at once a file that is cut to
//!   not one byte, because that is what a file looks like that somebody is about to write.
//!
//! Limit: a comment belongs to no entry. One above or behind an entry stays, whether it is still true or not.

use std::ops::Range;
use std::path::Path;

use thiserror::Error;

use super::grammar;
use super::line::{self, BYTE_ORDER_MARK};
use super::spec::Format;
use super::value;
use crate::diagnostics::Findings;
use crate::lookup::address::{self, Delimiters, SenderKeys};
use crate::os::secret::Secret;

/// The format cannot carry this key with this value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a line of the file cannot hold this: read again, it would be something else")]
pub struct Uncarriable;

/// What an edit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: it was so already.
    None,
    /// The key is new.
    Added,
    /// The key was there, with something else or several times.
    Replaced,
    /// The key was there, and is not any more.
    Removed,
}

/// A text after an edit.
pub struct Edited {
    /// All of it.
    pub text: Secret,
    /// What was done.
    pub change: Change,
    /// The line of the entry, from 1; of a key that is not there, 0.
    pub line: usize,
}

/// Where an entry stands in a text.
struct Entry {
    /// The whole line, with its line end.
    line: Range<usize>,
    key_end: usize,
    value: Range<usize>,
}

/// The text with this value for the key; an empty value writes the key alone.
pub fn set(format: Format, text: &[u8], key: &[u8], value: &[u8]) -> Result<Edited, Uncarriable> {
    let mut entries = entries(format, text, key).into_iter();
    let room = text.len() + key.len() + value.len() + 4;
    let mut new = Secret::with_capacity(room);
    let change = if let Some(first) = entries.next() {
        let later: Vec<Entry> = entries.collect();
        let old = slice(text, first.value.clone());
        let same = old == value || (value.is_empty() && value::is_nothing(format.values, old));
        new.append(slice(text, 0..first.line.start));
        if same {
            new.append(slice(text, first.line.clone()));
        } else {
            append_changed(text, &first, value, &mut new);
        }
        append_without(text, first.line.end, &later, &mut new);
        if same && later.is_empty() {
            Change::None
        } else {
            Change::Replaced
        }
    } else {
        new.append(text);
        append_entry(text, key, value, &mut new);
        Change::Added
    };
    let line = line_that_holds(format, &new, key, value).ok_or(Uncarriable)?;
    Ok(Edited {
        text: new,
        change,
        line,
    })
}

/// The text without the key.
#[must_use]
pub fn remove(format: Format, text: &[u8], key: &[u8]) -> Edited {
    let entries = lines(format, text, key);
    let mut new = Secret::with_capacity(text.len() + 1);
    append_without(text, 0, &entries, &mut new);
    if !lines(format, new.expose(), key).is_empty() {
        // A byte order mark within the text was a part of a key, and is none where it comes first.
        let again = remove(format, new.expose(), key);
        return Edited {
            change: Change::Removed,
            ..again
        };
    }
    let bare = new.is_empty() || new.expose() == BYTE_ORDER_MARK;
    if bare && !entries.is_empty() {
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

/// The value of the key, if it is there: empty where there is none on purpose.
#[must_use]
pub fn get<'t>(format: Format, text: &'t [u8], key: &[u8]) -> Option<&'t [u8]> {
    let first = entries(format, text, key).into_iter().next();
    let first = first.or_else(|| lines(format, text, key).into_iter().next())?;
    Some(slice(text, first.value))
}

/// Every entry with this key, the one that answers first.
fn entries(format: Format, text: &[u8], key: &[u8]) -> Vec<Entry> {
    let (folded, mut found) = (folded(key), Vec::new());
    let mut ignored = Findings::default();
    grammar::read(format, Path::new(""), text, &mut ignored, |record, _| {
        if address::is_key_of(record.key, &folded) {
            found.extend(entry(format, text, record.offset));
        }
    });
    found
}

/// Likewise, with the lines whose key is written so that it is none: those can be taken out, too.
fn lines(format: Format, text: &[u8], key: &[u8]) -> Vec<Entry> {
    let (folded, mut found) = (folded(key), Vec::new());
    line::each_key(format, text, |offset, written| {
        if address::is_key_of(written, &folded) {
            found.extend(entry(format, text, offset));
        }
    });
    found
}

fn folded(key: &[u8]) -> Vec<u8> {
    let keys = SenderKeys::of(key, &Delimiters::default());
    keys.whole().to_vec()
}

/// The entry whose key begins at `offset`.
fn entry(format: Format, text: &[u8], offset: usize) -> Option<Entry> {
    let (key, value) = line::entry_at(format, text.get(offset..)?)?;
    let key_end = offset + key.len();
    let blanks = slice(text, key_end..text.len());
    let value_start = key_end + blanks.iter().take_while(|c| is_blank(**c)).count();
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

/// The line of `entry` with another value.
fn append_changed(text: &[u8], entry: &Entry, value: &[u8], new: &mut Secret) {
    let behind = slice(text, entry.value.end..entry.line.end);
    if value.is_empty() {
        new.append(slice(text, entry.line.start..entry.key_end));
        let blanks = behind.iter().take_while(|c| is_blank(**c)).count();
        let rest = slice(behind, blanks..behind.len());
        // Blanks at the end say nothing; those before a comment part it from the key.
        new.append(if rest.starts_with(b"#") { behind } else { rest });
        return;
    }
    new.append(slice(text, entry.line.start..entry.value.start));
    if entry.key_end == entry.value.start {
        new.append(b" ");
    }
    new.append(value);
    if behind.starts_with(b"#") {
        new.append(b" ");
    }
    new.append(behind);
}

/// A line of its own behind `text`, which has been appended already.
fn append_entry(text: &[u8], key: &[u8], value: &[u8], new: &mut Secret) {
    let end = line_end(text);
    let is_bare = text.is_empty() || text == BYTE_ORDER_MARK;
    if !is_bare && !text.ends_with(b"\n") {
        // A CR at the very end was half of a line end.
        new.append(if text.ends_with(b"\r") { b"\n" } else { end });
    }
    new.append(key);
    if !value.is_empty() {
        new.append(b" ");
        new.append(value);
    }
    new.append(end);
}

/// The text from `start` on, without these lines.
fn append_without(text: &[u8], start: usize, entries: &[Entry], new: &mut Secret) {
    let mut from = start;
    for entry in entries {
        new.append(slice(text, from..entry.line.start));
        from = entry.line.end;
    }
    new.append(slice(text, from..text.len()));
}

/// How the last line that ends, ends.
fn line_end(text: &[u8]) -> &'static [u8] {
    let last = memchr::memrchr(b'\n', text);
    let before = last.and_then(|at| at.checked_sub(1)).and_then(|at| text.get(at));
    if before == Some(&b'\r') { b"\r\n" } else { b"\n" }
}

/// The line of the one entry with this key, if it has this value.
fn line_that_holds(format: Format, text: &Secret, key: &[u8], value: &[u8]) -> Option<usize> {
    let text = text.expose();
    let entries = entries(format, text, key);
    let [only] = entries.as_slice() else { return None };
    let held = slice(text, only.value.clone());
    let holds = held == value || (value.is_empty() && value::is_nothing(format.values, held));
    holds.then(|| memchr::memchr_iter(b'\n', slice(text, 0..only.line.start)).count() + 1)
}

fn is_blank(c: u8) -> bool {
    matches!(c, b' ' | b'\t')
}

fn slice(text: &[u8], range: Range<usize>) -> &[u8] {
    text.get(range).unwrap_or_default()
}

#[cfg(test)]
mod tests;
