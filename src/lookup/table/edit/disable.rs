//! Disables and enables the entry of a key: turns its line into a comment ([`disabled`]), and back.
//!
//! - Of several lines with the key the first is kept, and of several disabled entries as well.
//! - The line keeps its place, its line end, and all that follows its key. Whitespace before the key is lost.

use std::ops::Range;

use super::{Change, Edited, NotRepresentable, append_without, entries, folded, slice};
use crate::lookup::table::disabled::{self, Disabled};
use crate::lookup::table::spec::Format;
use crate::os::secret::Secret;

/// Disables the entry of a key. `None` if it has none.
///
/// # Errors
///
/// [`NotRepresentable`] for a reason that the comment cannot have, and for an invalid entry.
pub fn disable(
    format: Format,
    text: &[u8],
    key: &[u8],
    reason: &[u8],
) -> Result<Option<Edited>, NotRepresentable> {
    let mut entries = entries(format, text, key).into_iter();
    let Some(first) = entries.next() else {
        return Ok(None);
    };
    let others = entries
        .map(|entry| entry.line)
        .chain(super::disabled_lines(format, text, key));
    let space: &[u8] = if reason.is_empty() { b"" } else { b" " };
    let entry = slice(text, first.key_start..first.line.end);
    let comment = [&b"# postmapd:disabled "[..], reason, space, b"| "];
    let edited = replace_line(text, first.line, &comment, entry, others.collect());
    let folded = folded(key);
    let all = disabled::find_all(format, edited.text.expose());
    let [only] = own(&all, &folded)[..] else {
        return Err(NotRepresentable);
    };
    let is_same = only.entry.as_ref().is_some_and(|entry| entry.reason == reason);
    let is_gone = super::entries(format, edited.text.expose(), key).is_empty();
    if !is_same || !is_gone {
        return Err(NotRepresentable);
    }
    Ok(Some(edited))
}

/// Enables the disabled entry of a key. `None` if it has none, or has an entry that is not disabled.
#[must_use]
pub fn enable(format: Format, text: &[u8], key: &[u8]) -> Option<Edited> {
    if !entries(format, text, key).is_empty() {
        return None;
    }
    let folded = folded(key);
    let all = disabled::find_all(format, text);
    let mut own = own(&all, &folded).into_iter();
    let first = own.next()?;
    let entry = slice(text, first.entry.as_ref()?.range.start..first.line.end);
    let others = own.map(|disabled| disabled.line.clone()).collect();
    Some(replace_line(text, first.line.clone(), &[], entry, others))
}

/// Returns those that have this folded key.
fn own<'d, 't>(all: &'d [Disabled<'t>], folded: &[u8]) -> Vec<&'d Disabled<'t>> {
    all.iter().filter(|disabled| disabled.has_key(folded)).collect()
}

/// Returns the text with this line instead of the one at `line`, and without `others`.
fn replace_line(
    text: &[u8],
    line: Range<usize>,
    before: &[&[u8]],
    entry: &[u8],
    mut others: Vec<Range<usize>>,
) -> Edited {
    others.sort_by_key(|other| other.start);
    let (earlier, later): (Vec<_>, Vec<_>) = others.into_iter().partition(|other| other.start < line.start);
    let length: usize = before.iter().map(|part| part.len()).sum();
    let mut new = Secret::with_capacity(text.len() + length);
    append_without(text, 0..line.start, &earlier, &mut new);
    let number = memchr::memchr_iter(b'\n', new.expose()).count() + 1;
    for part in before {
        new.append(part);
    }
    new.append(entry);
    append_without(text, line.end..text.len(), &later, &mut new);
    Edited {
        text: new,
        change: Change::Replaced,
        line: number,
    }
}
