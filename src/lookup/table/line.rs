//! The syntax of a line: comments, where the key ends, and what the value is. Nothing is validated here.
//!
//! [`parse_line`] splits any line. A lookup reads the one line that the index points to with [`after_key`] and
//! [`value_after_key`], which nearly always match the key and find the value without splitting the line.

use super::spec::Format;
use crate::lookup::address::Key;

/// The maximum length of a line in bytes: a reply of socketmap has at most 100,000 (Postfix's
/// `socketmap_max_reply_size`), and the offset of a key in its block must fit into a location.
pub const MAX_LINE: usize = 65_535;

pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Calls `handle` with the offset and the key of each entry of `text`, including keys that Postfix cannot look up.
/// Values are not validated.
pub fn for_each_key<'a>(format: Format, text: &'a [u8], mut handle: impl FnMut(usize, &'a [u8])) {
    let mut offset = text.len() - without_byte_order_mark(text).len();
    for line in without_byte_order_mark(text).split_inclusive(|c| *c == b'\n') {
        let without_end = line.strip_suffix(b"\n").unwrap_or(line);
        if let ParsedLine::Entry(entry) = parse_line(format, without_end)
            && without_end.len() <= MAX_LINE
            && !entry.key.iter().any(u8::is_ascii_control)
        {
            handle(offset + entry.indent, entry.key);
        }
        offset += line.len();
    }
}

/// Returns the key and the value of the entry at the start of `text`, where
/// [`Record::offset`](super::grammar::Record::offset) points to. The value is not validated.
#[must_use]
pub fn entry_at(format: Format, text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', text).unwrap_or(text.len());
    match parse_line(format, text.get(..end)?) {
        ParsedLine::Entry(entry) => Some((entry.key, entry.value)),
        ParsedLine::Ignored | ParsedLine::Unclosed { .. } => None,
    }
}

/// Returns what follows the key of the entry at the start of `text`, if the entry has this folded key and the line need
/// not be split to see it, as is nearly always the case. After `None`, use [`entry_at`].
#[inline]
#[must_use]
pub fn after_key<'t>(text: &'t [u8], key: Key<'_>) -> Option<&'t [u8]> {
    let text = if key.is_of_subdomains() {
        text.strip_prefix(b"@")?
    } else {
        text
    };
    let (written, rest) = text.split_at_checked(key.bytes().len())?;
    // Quotes and backslashes may hide the end of a key, whitespace and line ends show that it ended before, and only
    // ASCII is folded bytewise. A key that is looked up may have any of them unless it is plain.
    let is_key = (key.is_plain() && written == key.bytes()) || {
        let mut bytes = written.iter().zip(key.bytes());
        bytes.all(|(own, asked)| FOLDED.get(usize::from(*own)) == Some(asked))
    };
    (is_key && rest.first().is_some_and(|c| is_whitespace(*c))).then_some(rest)
}

/// Returns the value in `rest`, the result of [`after_key`]. After `None`, use [`entry_at`].
#[must_use]
pub fn value_after_key(format: Format, rest: &[u8]) -> Option<&[u8]> {
    let (value, is_whole) = if format.values.allows_comments() {
        // A `#` need not start a comment, and is rare.
        match memchr::memchr2(b'\n', b'#', rest) {
            Some(end) => (rest.get(..end)?, rest.get(end) == Some(&b'\n')),
            None => (rest, true),
        }
    } else {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        (rest.get(..end)?, true)
    };
    let value = value.strip_suffix(b"\r").unwrap_or(value);
    is_whole.then(|| value.trim_start_whitespace().trim_end_whitespace())
}

/// The folded form of each byte that a plain key can have. All others map to `A`, which no folded key has.
static FOLDED: [u8; 256] = folded();

#[allow(clippy::indexing_slicing, reason = "the compiler does it, once")]
const fn folded() -> [u8; 256] {
    let mut folded = [b'A'; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        if byte != b'"' && byte != b'\\' {
            folded[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    folded
}

/// Whether a text starts with a byte order mark.
#[must_use]
pub fn has_byte_order_mark(text: &[u8]) -> bool {
    text.starts_with(BYTE_ORDER_MARK)
}

/// Returns the text without a byte order mark at its start. Columns are counted from there, as editors do.
#[must_use]
pub fn without_byte_order_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// A line, split into its parts and not validated.
pub(super) enum ParsedLine<'a> {
    /// An empty line, or a comment.
    Ignored,
    /// A line whose key does not end.
    Unclosed { indent: usize },
    /// An entry.
    Entry(Entry<'a>),
}

pub(super) struct Entry<'a> {
    pub(super) indent: usize,
    pub(super) key: &'a [u8],
    /// The value without the whitespace around it and the comment after it.
    pub(super) value: &'a [u8],
    /// The offset of the value in the line.
    pub(super) value_at: usize,
}

/// Splits a line without its LF; it may end in CR.
pub(super) fn parse_line(format: Format, line: &[u8]) -> ParsedLine<'_> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = line.trim_start_whitespace();
    let indent = line.len() - text.len();
    if text.is_empty() || text.starts_with(b"#") {
        return ParsedLine::Ignored;
    }
    let Some((key, rest)) = key_end(text).and_then(|end| text.split_at_checked(end)) else {
        return ParsedLine::Unclosed { indent };
    };
    let value = rest.trim_start_whitespace();
    ParsedLine::Entry(Entry {
        indent,
        key,
        value_at: line.len() - value.len(),
        value: if format.values.allows_comments() {
            without_comment(value)
        } else {
            value.trim_end_whitespace()
        },
    })
}

/// Returns the end of the key: the first whitespace that is neither in quotes nor after a backslash
/// (`postmap/postmap.c`). `None` if a quote is not closed, or nothing follows a backslash.
fn key_end(text: &[u8]) -> Option<usize> {
    let plain_end = memchr::memchr2(b' ', b'\t', text).unwrap_or(text.len());
    if text
        .get(..plain_end)
        .is_some_and(|key| memchr::memchr2(b'"', b'\\', key).is_none())
    {
        return Some(plain_end);
    }
    let mut quoted = false;
    let mut escaped = false;
    for (at, &c) in text.iter().enumerate() {
        match c {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b' ' | b'\t' if !quoted => return Some(at),
            _ => {}
        }
    }
    (!quoted && !escaped).then_some(text.len())
}

/// Returns a next hop without the comment after it. A `#` starts a comment after whitespace, which precedes `value`.
fn without_comment(value: &[u8]) -> &[u8] {
    let comment = memchr::memchr_iter(b'#', value).find(|&hash| {
        let before = hash.checked_sub(1).and_then(|before| value.get(before));
        before.is_none_or(|c| is_whitespace(*c))
    });
    let end = comment.unwrap_or(value.len());
    value.get(..end).unwrap_or(value).trim_end_whitespace()
}

fn is_whitespace(c: u8) -> bool {
    matches!(c, b' ' | b'\t')
}

pub(super) trait TrimWhitespace {
    fn trim_start_whitespace(&self) -> &Self;
    fn trim_end_whitespace(&self) -> &Self;
}

impl TrimWhitespace for [u8] {
    fn trim_start_whitespace(&self) -> &[u8] {
        let whitespace = self.iter().take_while(|c| is_whitespace(**c)).count();
        self.get(whitespace..).unwrap_or_default()
    }

    fn trim_end_whitespace(&self) -> &[u8] {
        let whitespace = self.iter().rev().take_while(|c| is_whitespace(**c)).count();
        self.get(..self.len() - whitespace).unwrap_or_default()
    }
}
