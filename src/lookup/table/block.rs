//! A block: consecutive lines of a table's text, in which short repeated values are interned.
//!
//! Half of a relay map is next hops, and few of them differ. In a line that is only a key, whitespace and a value, what
//! follows the first whitespace character is replaced by a reference of two bytes if the block has it already. All
//! other lines are kept as written, with comments, so that the text can be returned byte for byte ([`Block::pieces`]).
//! Keys are never replaced.
//!
//! Limits: at most [`MAX_VALUES`] values are interned; further values stay in their lines. A block that contains the
//! byte of a reference is kept as written.

use std::io;

use zeroize::Zeroizing;

use crate::os::secret::Secret;
use crate::os::whole_file::try_with_capacity;

/// The first byte of a reference. No valid key, next hop or credential has it.
const REFERENCE: u8 = 0x01;

/// The number of the first interned value. Numbers are printable, so that lines stay valid UTF-8 lines.
const FIRST_NUMBER: u8 = b'!';

/// The maximum number of interned values.
const MAX_VALUES: usize = (b'~' - FIRST_NUMBER + 1) as usize;

/// The minimum length of an interned value, and the maximum length of its line, in bytes.
const MIN_VALUE_LEN: usize = 4;
const MAX_INTERNED_LINE: usize = 1024;

/// Consecutive lines of a text.
pub struct Block {
    lines: Secret,
    /// The interned values.
    values: Box<[ValueRange]>,
    len: usize,
    digest: u64,
    newlines: usize,
    max_entries: usize,
}

/// The position of an interned value in the lines, with the whitespace before it.
struct ValueRange {
    start: u32,
    len: u16,
    /// The length of that whitespace.
    whitespace: u16,
}

/// The result of comparing a text with a block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// The text starts with the whole block.
    Whole,
    /// The text is a prefix of the block.
    Partial,
    /// The text differs.
    Differs,
}

impl Block {
    /// Creates the block of this text and its digest. `scratch` is memory for interning.
    pub(super) fn new(text: &[u8], digest: u64, scratch: &mut Zeroizing<Vec<u8>>) -> io::Result<Self> {
        scratch.clear();
        if scratch.capacity() < text.len() {
            *scratch = Zeroizing::new(try_with_capacity(text.len())?);
        }
        let values = intern_values(text, scratch);
        let lines = if values.is_empty() {
            text
        } else {
            scratch.as_slice()
        };
        let mut kept = try_with_capacity(lines.len())?;
        kept.extend_from_slice(lines);
        Ok(Self {
            lines: kept.into(),
            values: values.into(),
            len: text.len(),
            digest,
            newlines: memchr::memchr_iter(b'\n', text).count(),
            max_entries: count_entries(text),
        })
    }

    /// Returns the lines, each with its line end. Values may be references, which [`Block::value`] expands.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        self.lines.expose()
    }

    /// Expands the value of a line: to itself, or to what it refers to, with the whitespace before it.
    #[must_use]
    pub fn expand_value<'b>(&'b self, written: &'b [u8]) -> &'b [u8] {
        match written {
            [REFERENCE, number] => self.referenced(*number).unwrap_or(written),
            _ => written,
        }
    }

    /// Expands the value of a line without whitespace before it.
    #[must_use]
    pub fn value<'b>(&'b self, written: &'b [u8]) -> &'b [u8] {
        match written {
            [REFERENCE, number] => self.value_by_number(*number).unwrap_or(written),
            _ => written,
        }
    }

    /// Returns the value at the start of what follows a key, if it is a reference.
    #[inline]
    pub(super) fn referenced_value(&self, rest: &[u8]) -> Option<&[u8]> {
        match rest {
            [_, REFERENCE, number, ..] => self.value_by_number(*number),
            _ => None,
        }
    }

    #[inline]
    fn value_by_number(&self, number: u8) -> Option<&[u8]> {
        let range = self.range(number)?;
        self.referenced(number)?.get(usize::from(range.whitespace)..)
    }

    #[inline]
    fn referenced(&self, number: u8) -> Option<&[u8]> {
        let range = self.range(number)?;
        let start = usize::try_from(range.start).ok()?;
        self.lines().get(start..)?.get(..usize::from(range.len))
    }

    #[inline]
    fn range(&self, number: u8) -> Option<&ValueRange> {
        self.values.get(usize::from(number.checked_sub(FIRST_NUMBER)?))
    }

    /// Returns the text in pieces.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces_of(self.lines())
    }

    /// Returns the text of some of the lines in pieces.
    pub(super) fn pieces_of<'b>(&'b self, lines: &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
        let mut rest = lines;
        let mut value = None;
        std::iter::from_fn(move || {
            if let Some(value) = value.take() {
                return Some(value);
            }
            if rest.is_empty() {
                return None;
            }
            let reference = if self.values.is_empty() {
                None
            } else {
                memchr::memchr(REFERENCE, rest)
            };
            let piece = match reference.and_then(|at| rest.split_at_checked(at)) {
                Some((piece, [REFERENCE, number, after @ ..])) => {
                    value = self.referenced(*number);
                    rest = after;
                    piece
                }
                _ => std::mem::take(&mut rest),
            };
            Some(piece)
        })
    }

    /// Compares the block with `other`.
    pub(super) fn compare(&self, other: &[u8]) -> Comparison {
        let mut rest = other;
        for piece in self.pieces() {
            let common = piece.len().min(rest.len());
            let (Some(own), Some((others, after))) = (piece.get(..common), rest.split_at_checked(common))
            else {
                return Comparison::Differs;
            };
            if own != others {
                return Comparison::Differs;
            }
            if common < piece.len() {
                return Comparison::Partial;
            }
            rest = after;
        }
        Comparison::Whole
    }

    /// Returns the length of the text in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the text is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the digest of the text, by the hasher it was read with.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// Returns the number of line ends in the text.
    #[must_use]
    pub fn newlines(&self) -> usize {
        self.newlines
    }

    /// Returns the maximum number of entries: the lines that are neither empty nor a comment.
    #[must_use]
    pub(super) fn max_entries(&self) -> usize {
        self.max_entries
    }
}

/// Counts the lines that are neither empty nor a comment.
fn count_entries(text: &[u8]) -> usize {
    let starts = memchr::memchr_iter(b'\n', text).map(|newline| newline + 1);
    let is_entry = |start: &usize| {
        let mut line = text.get(*start..).unwrap_or_default().iter();
        let first = line.find(|c| !matches!(c, b' ' | b'\t' | b'\r'));
        !matches!(first, None | Some(b'#' | b'\n'))
    };
    std::iter::once(0).chain(starts).filter(is_entry).count()
}

/// Writes the lines of `text` to `short`, with references, and returns the positions of the interned values. If it
/// returns none, `short` is not the text.
fn intern_values(text: &[u8], short: &mut Vec<u8>) -> Vec<ValueRange> {
    let mut values = Vec::new();
    if memchr::memchr(REFERENCE, text).is_some() {
        return values;
    }
    let mut cache = ValueCache::default();
    // Everything before is written.
    let mut written = 0;
    let mut start = 0;
    for newline in memchr::memchr_iter(b'\n', text) {
        let line = start..newline;
        start = newline + 1;
        let Some(key) = text.get(line.clone()).and_then(internable_key_len) else {
            continue;
        };
        let value_at = line.start + key + 1;
        let Some(value) = text.get(value_at..newline) else {
            continue;
        };
        // The position of the value in `short`, if it is written there.
        let offset = short.len() + (value_at - written);
        let Some(number) = cache.number(value, offset, &mut values) else {
            continue;
        };
        short.extend_from_slice(text.get(written..value_at).unwrap_or_default());
        short.extend_from_slice(&[REFERENCE, number]);
        written = newline;
    }
    short.extend_from_slice(text.get(written..).unwrap_or_default());
    values
}

/// Returns the length of the key of a line, if the line is only a plain key, whitespace and a value that both file
/// formats read alike.
fn internable_key_len(line: &[u8]) -> Option<usize> {
    if line.len() > MAX_INTERNED_LINE
        || memchr::memchr3(b'"', b'\\', b'#', line).is_some()
        || !line.is_ascii()
    {
        return None;
    }
    let key = memchr::memchr2(b' ', b'\t', line).filter(|key| *key > 0)?;
    let value = line.get(key + 1..)?;
    let is_trimmed = value.len() >= MIN_VALUE_LEN && !matches!(value.last(), Some(b' ' | b'\t' | b'\r'));
    is_trimmed.then_some(key)
}

/// The number of values that are remembered until they are repeated.
const CACHE_SLOTS: usize = 256;

/// A cache of recent values.
struct ValueCache<'t> {
    slots: [Option<CachedValue<'t>>; CACHE_SLOTS],
}

#[derive(Clone, Copy)]
struct CachedValue<'t> {
    value: &'t [u8],
    offset: usize,
    number: Option<u8>,
}

impl Default for ValueCache<'_> {
    fn default() -> Self {
        Self {
            slots: [None; CACHE_SLOTS],
        }
    }
}

impl<'t> ValueCache<'t> {
    /// Returns the number of a repeated value, and interns it first if there is room in `values`.
    fn number(&mut self, value: &'t [u8], offset: usize, values: &mut Vec<ValueRange>) -> Option<u8> {
        // Values in the same slot replace each other. Then the block is larger than necessary.
        let slot = self.slots.get_mut(Self::slot_of(value))?;
        match slot {
            Some(cached) if cached.value == value => {
                if cached.number.is_none() && values.len() < MAX_VALUES {
                    cached.number = Some(FIRST_NUMBER + u8::try_from(values.len()).ok()?);
                    let is_whitespace = |c: &&u8| matches!(c, b' ' | b'\t');
                    values.push(ValueRange {
                        start: cached.offset.try_into().ok()?,
                        len: value.len().try_into().ok()?,
                        whitespace: value.iter().take_while(is_whitespace).count().try_into().ok()?,
                    });
                }
                cached.number
            }
            Some(CachedValue { number: Some(_), .. }) => None,
            _ => {
                *slot = Some(CachedValue {
                    value,
                    offset,
                    number: None,
                });
                None
            }
        }
    }

    fn slot_of(value: &[u8]) -> usize {
        let mixed = value.iter().fold(value.len(), |mixed, c| {
            mixed.wrapping_mul(0x0100_0193) ^ usize::from(*c)
        });
        (mixed ^ mixed >> 8 ^ mixed >> 16) % CACHE_SLOTS
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    use super::{Block, Comparison, MAX_VALUES};

    fn block(text: &[u8]) -> Block {
        Block::new(text, 0, &mut Zeroizing::default()).unwrap()
    }

    #[test]
    fn a_repeated_value_is_stored_once() {
        let line = |n: usize| format!("user{n}@a.test   [relay{}.test]:587\n", n % 4);
        let text = (0..100).map(line).collect::<Vec<_>>().concat();
        let block = block(text.as_bytes());
        assert_eq!(block.pieces().collect::<Vec<_>>().concat(), text.as_bytes());
        let times = |word: &[u8]| memchr::memmem::find_iter(block.lines(), word).count();
        assert_eq!(
            (times(b"[relay1.test]:587"), times(b"\n"), times(b"user")),
            (1, 100, 100)
        );
        assert_eq!((block.len(), block.newlines()), (text.len(), 100));
    }

    #[test]
    fn values_beyond_the_limit_stay_in_their_lines() {
        let line = |n: usize| format!("u{n}@a.test relay{:04}.test\n", n % (MAX_VALUES + 50));
        let text = (0..1000).map(line).collect::<Vec<_>>().concat();
        let block = block(text.as_bytes());
        assert_eq!(block.pieces().collect::<Vec<_>>().concat(), text.as_bytes());
        assert!(block.lines().len() < text.len());
    }

    #[test]
    fn empty_lines_and_comments_are_not_entries() {
        for (text, entries) in [
            ("", 0),
            ("\n\n \n\t\r\n", 0),
            ("# a b\n  # c d", 0),
            ("a b\n\n  c d\r\n#\n\"e f\" g", 3),
            ("a", 1),
        ] {
            assert_eq!(block(text.as_bytes()).max_entries(), entries, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_block_returns_its_text_byte_for_byte(
            lines in prop::collection::vec(
                "[a#\" \t]{0,3}(@a|b\\\\)?[ \t]{1,2}(\\[one\\]:5|two\\.test|three #x|four |five\r|s\u{e9}x|\u{1}!|abc)?\n?",
                0..60,
            ),
            other in "[a@ \n]{0,3}",
        ) {
            let text = lines.concat().into_bytes();
            let block = block(&text);
            let pieces: Vec<u8> = block.pieces().collect::<Vec<_>>().concat();
            prop_assert!(pieces == text);
            prop_assert_eq!(block.len(), text.len());
            prop_assert!(block.compare(&text) == Comparison::Whole);
            let more = [&text[..], other.as_bytes()].concat();
            prop_assert!(block.compare(&more) == Comparison::Whole);
            for end in 0..text.len() {
                prop_assert!(block.compare(&text[..end]) == Comparison::Partial);
                let mut otherwise = text.clone();
                otherwise[end] ^= 0x40;
                prop_assert!(block.compare(&otherwise) == Comparison::Differs);
            }
        }
    }
}
