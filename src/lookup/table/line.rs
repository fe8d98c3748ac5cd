//! The syntax of a line: what is a comment, where its key ends, and what its value is. Nothing is judged here.
//!
//! [`cut`] cuts any line. A lookup reads the one line that the index points at by [`behind_key`] and [`value_behind`], which
//! see nearly always without cutting the line that it is the right one, and what its value is.

use super::spec::{Format, ValueKind};
use crate::lookup::address::Key;

/// The most bytes that a line may have: a reply of socketmap holds 100 000 (Postfix's `socketmap_max_reply_size`), and
/// the offset of a key in its block must not need more bits than a location has.
pub const MAX_LINE: usize = 65_535;

pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Cuts `text` into its entries: hands the offset and the key of each to `take`, also where Postfix can ask for no such
/// key. Values are not judged.
pub fn each_key<'a>(format: Format, text: &'a [u8], mut take: impl FnMut(usize, &'a [u8])) {
    let mut offset = text.len() - without_byte_order_mark(text).len();
    for line in without_byte_order_mark(text).split_inclusive(|c| *c == b'\n') {
        let without_end = line.strip_suffix(b"\n").unwrap_or(line);
        if let Cut::Entry(entry) = cut(format, without_end)
            && without_end.len() <= MAX_LINE
            && !entry.key.iter().any(u8::is_ascii_control)
        {
            take(offset + entry.indent, entry.key);
        }
        offset += line.len();
    }
}

/// The entry with which `text` begins, which [`Reader::read`](super::grammar::Reader::read) reported there as
/// [`Record::offset`](super::grammar::Record::offset): its key, and its value as it would be if it is right.
#[must_use]
pub fn entry_at(format: Format, text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', text).unwrap_or(text.len());
    match cut(format, text.get(..end)?) {
        Cut::Entry(entry) => Some((entry.key, entry.value)),
        Cut::Nothing | Cut::Unclosed { .. } => None,
    }
}

/// What follows the key of the entry with which `text` begins, where that can be seen to have this folded key without
/// cutting the line into its parts: what a lookup finds nearly always. `None` says nothing; [`entry_at`] knows.
#[inline]
#[must_use]
pub fn behind_key<'t>(text: &'t [u8], key: Key<'_>) -> Option<&'t [u8]> {
    let (written, rest) = text.split_at_checked(key.bytes().len())?;
    // Quotes and backslashes may hide where a key ends, blanks and line ends show that it ended before, and only ASCII
    // is folded by letters. A key that is asked for may have any of them, if it is not plain.
    let is_key = (key.is_plain() && written == key.bytes()) || {
        let mut letters = written.iter().zip(key.bytes());
        letters.all(|(own, asked)| FOLDED.get(usize::from(*own)) == Some(asked))
    };
    (is_key && rest.first().is_some_and(|c| is_blank(*c))).then_some(rest)
}

/// The value in `rest`, which [`behind_key`] gave. `None` says nothing; [`entry_at`] knows.
#[must_use]
pub fn value_behind(format: Format, rest: &[u8]) -> Option<&[u8]> {
    let (value, is_whole) = match format.values {
        // A `#` need not begin a comment, and seldom is there one.
        ValueKind::NextHop => match memchr::memchr2(b'\n', b'#', rest) {
            Some(end) => (rest.get(..end)?, rest.get(end) == Some(&b'\n')),
            None => (rest, true),
        },
        ValueKind::Login => (
            rest.get(..memchr::memchr(b'\n', rest).unwrap_or(rest.len()))?,
            true,
        ),
    };
    let value = value.strip_suffix(b"\r").unwrap_or(value);
    is_whole.then(|| value.trim_start_blanks().trim_end_blanks())
}

/// The folded form of each byte that may stand in a plain key. Of the others one that is in no folded key: the form of
/// `A`.
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

/// Whether a text begins with a byte order mark.
#[must_use]
pub fn begins_with_byte_order_mark(text: &[u8]) -> bool {
    text.starts_with(BYTE_ORDER_MARK)
}

/// The text without the byte order mark that it may begin with: columns are counted from behind it, as editors do.
#[must_use]
pub fn without_byte_order_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// A line, cut into its parts and not judged yet.
pub(super) enum Cut<'a> {
    /// Blank, or a comment.
    Nothing,
    /// The key does not end.
    Unclosed { indent: usize },
    /// An entry.
    Entry(Entry<'a>),
}

pub(super) struct Entry<'a> {
    pub(super) indent: usize,
    pub(super) key: &'a [u8],
    /// Without the blanks around it and the comment after it.
    pub(super) value: &'a [u8],
    /// Where the value begins in the line.
    pub(super) value_at: usize,
}

/// Cuts a line without its LF; a CR may end it.
pub(super) fn cut(format: Format, line: &[u8]) -> Cut<'_> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = line.trim_start_blanks();
    let indent = line.len() - text.len();
    if text.is_empty() || text.starts_with(b"#") {
        return Cut::Nothing;
    }
    let Some((key, rest)) = key_end(text).and_then(|end| text.split_at_checked(end)) else {
        return Cut::Unclosed { indent };
    };
    let value = rest.trim_start_blanks();
    Cut::Entry(Entry {
        indent,
        key,
        value_at: line.len() - value.len(),
        value: match format.values {
            ValueKind::NextHop => without_comment(value),
            ValueKind::Login => value.trim_end_blanks(),
        },
    })
}

/// Where the key ends: at the first blank that stands neither in quotes nor after a backslash
/// (`postmap/postmap.c`). `None` where a quote is not closed, or a backslash has nothing after it.
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

/// A next hop without the comment that may follow it: a `#` counts after a blank, and `value` stands after one.
fn without_comment(value: &[u8]) -> &[u8] {
    let comment = memchr::memchr_iter(b'#', value).find(|&hash| {
        let before = hash.checked_sub(1).and_then(|before| value.get(before));
        before.is_none_or(|c| is_blank(*c))
    });
    let end = comment.unwrap_or(value.len());
    value.get(..end).unwrap_or(value).trim_end_blanks()
}

fn is_blank(c: u8) -> bool {
    matches!(c, b' ' | b'\t')
}

pub(super) trait TrimBlanks {
    fn trim_start_blanks(&self) -> &Self;
    fn trim_end_blanks(&self) -> &Self;
}

impl TrimBlanks for [u8] {
    fn trim_start_blanks(&self) -> &[u8] {
        let blanks = self.iter().take_while(|c| is_blank(**c)).count();
        self.get(blanks..).unwrap_or_default()
    }

    fn trim_end_blanks(&self) -> &[u8] {
        let blanks = self.iter().rev().take_while(|c| is_blank(**c)).count();
        self.get(..self.len() - blanks).unwrap_or_default()
    }
}
