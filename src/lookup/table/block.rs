//! A block: some lines of a table's text in a row, in which a short value that comes again stands once.
//!
//! Half of a relay map is next hops, and there are few of them. Where a line is nothing but a key, blanks and a value, and
//! what follows its first blank stands in the block already, there is a reference of two bytes in place of that, to where it
//! stands first. Every other line is kept as it is written, comments and all, so that the text can be had back byte for
//! byte ([`Block::pieces`]), and a key stands in a line where it stood.
//!
//! Limits: there are at most [`VALUES`] values to refer to; the others stand in each of their lines. A block that has the
//! byte that begins a reference in it is kept as it is written.

use std::io;

use zeroize::Zeroizing;

use crate::os::secret::Secret;
use crate::os::whole_file::reserved;

/// The byte with which a reference begins. No key, no next hop and no credential that is right has it.
const REFERENCE: u8 = 0x01;

/// The number of the first value that is referred to. Numbers are letters, so that lines stay lines of UTF-8.
const FIRST: u8 = b'!';

/// How many values can be referred to.
const VALUES: usize = (b'~' - FIRST + 1) as usize;

/// The shortest value, and the longest line, for which there are references.
const SHORTEST_VALUE: usize = 4;
const LONGEST_LINE: usize = 1024;

/// Some lines in a row.
pub struct Block {
    lines: Secret,
    /// What is referred to.
    values: Box<[Place]>,
    len: usize,
    digest: u64,
    newlines: usize,
    entries: usize,
}

/// Where in the lines something stands that is referred to.
struct Place {
    begins: u32,
    len: u16,
    /// How many blanks it begins with, before the value.
    blanks: u16,
}

/// How a text goes on, compared with a block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// It begins with the whole block.
    Begins,
    /// It ends within the block, and reads like it up to there.
    Ends,
    /// It reads otherwise.
    Differs,
}

impl Block {
    /// The block of this text, which has this digest. `scratch` lends its memory.
    pub(super) fn new(text: &[u8], digest: u64, scratch: &mut Zeroizing<Vec<u8>>) -> io::Result<Self> {
        scratch.clear();
        if scratch.capacity() < text.len() {
            *scratch = Zeroizing::new(reserved(text.len())?);
        }
        let values = shorten(text, scratch);
        let lines = if values.is_empty() {
            text
        } else {
            scratch.as_slice()
        };
        let mut kept = reserved(lines.len())?;
        kept.extend_from_slice(lines);
        Ok(Self {
            lines: kept.into(),
            values: values.into(),
            len: text.len(),
            digest,
            newlines: memchr::memchr_iter(b'\n', text).count(),
            entries: count_entries(text),
        })
    }

    /// The lines, each with its end, and with references for values: what [`Block::value`] is for.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        self.lines.expose()
    }

    /// What a line says where this is written for its value: itself, or what it refers to, with the blanks before it.
    #[must_use]
    pub fn behind_first_blank<'b>(&'b self, written: &'b [u8]) -> &'b [u8] {
        match written {
            [REFERENCE, number] => self.referred_to(*number).unwrap_or(written),
            _ => written,
        }
    }

    /// The value for which this is written: itself, or what it refers to.
    #[must_use]
    pub fn value<'b>(&'b self, written: &'b [u8]) -> &'b [u8] {
        match written {
            [REFERENCE, number] => self.value_of(*number).unwrap_or(written),
            _ => written,
        }
    }

    /// The value at the beginning of what follows a key, if it is a reference.
    #[inline]
    pub(super) fn value_behind_key(&self, rest: &[u8]) -> Option<&[u8]> {
        match rest {
            [_, REFERENCE, number, ..] => self.value_of(*number),
            _ => None,
        }
    }

    #[inline]
    fn value_of(&self, number: u8) -> Option<&[u8]> {
        let place = self.place(number)?;
        self.referred_to(number)?.get(usize::from(place.blanks)..)
    }

    #[inline]
    fn referred_to(&self, number: u8) -> Option<&[u8]> {
        let place = self.place(number)?;
        let begins = usize::try_from(place.begins).ok()?;
        self.lines().get(begins..)?.get(..usize::from(place.len))
    }

    #[inline]
    fn place(&self, number: u8) -> Option<&Place> {
        self.values.get(usize::from(number.checked_sub(FIRST)?))
    }

    /// The text, in pieces.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces_of(self.lines())
    }

    /// The text of some of the lines, in pieces.
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
                    value = self.referred_to(*number);
                    rest = after;
                    piece
                }
                _ => std::mem::take(&mut rest),
            };
            Some(piece)
        })
    }

    /// Compares the text with `other`.
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
                return Comparison::Ends;
            }
            rest = after;
        }
        Comparison::Begins
    }

    /// How many bytes the text has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What tells the text from others, with the hasher of whoever read it.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// How many lines end in it.
    #[must_use]
    pub fn newlines(&self) -> usize {
        self.newlines
    }

    /// How many entries there are at most: lines that are neither blank nor a comment.
    #[must_use]
    pub(super) fn entries(&self) -> usize {
        self.entries
    }
}

/// How many lines of `text` are neither blank nor a comment.
fn count_entries(text: &[u8]) -> usize {
    let starts = memchr::memchr_iter(b'\n', text).map(|newline| newline + 1);
    let is_entry = |start: &usize| {
        let mut line = text.get(*start..).unwrap_or_default().iter();
        let first = line.find(|c| !matches!(c, b' ' | b'\t' | b'\r'));
        !matches!(first, None | Some(b'#' | b'\n'))
    };
    std::iter::once(0).chain(starts).filter(is_entry).count()
}

/// Writes the lines of `text` with references to `short`, and returns where the values stand. If there are none, what was
/// written is not the text.
fn shorten(text: &[u8], short: &mut Vec<u8>) -> Vec<Place> {
    let mut values = Vec::new();
    if memchr::memchr(REFERENCE, text).is_some() {
        return values;
    }
    let mut seen = Seen::default();
    // Everything before is written.
    let mut written = 0;
    let mut begins = 0;
    for newline in memchr::memchr_iter(b'\n', text) {
        let line = begins..newline;
        begins = newline + 1;
        let Some(key) = text.get(line.clone()).and_then(length_of_key) else {
            continue;
        };
        let value_at = line.start + key + 1;
        let Some(value) = text.get(value_at..newline) else {
            continue;
        };
        // Where the value comes to stand if it is written.
        let place = short.len() + (value_at - written);
        let Some(number) = seen.number(value, place, &mut values) else {
            continue;
        };
        short.extend_from_slice(text.get(written..value_at).unwrap_or_default());
        short.extend_from_slice(&[REFERENCE, number]);
        written = newline;
    }
    short.extend_from_slice(text.get(written..).unwrap_or_default());
    values
}

/// How long the key of a line is, if the line is nothing but a plain key, blanks and a value that reads the same in either
/// file.
fn length_of_key(line: &[u8]) -> Option<usize> {
    if line.len() > LONGEST_LINE || memchr::memchr3(b'"', b'\\', b'#', line).is_some() || !line.is_ascii() {
        return None;
    }
    let key = memchr::memchr2(b' ', b'\t', line).filter(|key| *key > 0)?;
    let value = line.get(key + 1..)?;
    let is_cut_close = value.len() >= SHORTEST_VALUE && !matches!(value.last(), Some(b' ' | b'\t' | b'\r'));
    is_cut_close.then_some(key)
}

/// How many values are remembered that came but once.
const PLACES: usize = 256;

/// Values that were seen lately.
struct Seen<'t> {
    places: [Option<SeenValue<'t>>; PLACES],
}

#[derive(Clone, Copy)]
struct SeenValue<'t> {
    value: &'t [u8],
    place: usize,
    number: Option<u8>,
}

impl Default for Seen<'_> {
    fn default() -> Self {
        Self {
            places: [None; PLACES],
        }
    }
}

impl<'t> Seen<'t> {
    /// The number of a value that was seen already, which it may get now; `values` are those that have one.
    fn number(&mut self, value: &'t [u8], place: usize, values: &mut Vec<Place>) -> Option<u8> {
        // Values that fall into one place drive each other out, and then the text is longer than it need be.
        let seen = self.places.get_mut(Self::place_of(value))?;
        match seen {
            Some(seen) if seen.value == value => {
                if seen.number.is_none() && values.len() < VALUES {
                    seen.number = Some(FIRST + u8::try_from(values.len()).ok()?);
                    let is_blank = |c: &&u8| matches!(c, b' ' | b'\t');
                    values.push(Place {
                        begins: seen.place.try_into().ok()?,
                        len: value.len().try_into().ok()?,
                        blanks: value.iter().take_while(is_blank).count().try_into().ok()?,
                    });
                }
                seen.number
            }
            Some(SeenValue { number: Some(_), .. }) => None,
            _ => {
                *seen = Some(SeenValue {
                    value,
                    place,
                    number: None,
                });
                None
            }
        }
    }

    fn place_of(value: &[u8]) -> usize {
        let mixed = value.iter().fold(value.len(), |mixed, c| {
            mixed.wrapping_mul(0x0100_0193) ^ usize::from(*c)
        });
        (mixed ^ mixed >> 8 ^ mixed >> 16) % PLACES
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    use super::{Block, Comparison, VALUES};

    fn block(text: &[u8]) -> Block {
        Block::new(text, 0, &mut Zeroizing::default()).unwrap()
    }

    #[test]
    fn a_value_that_comes_again_stands_once() {
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
    fn more_values_than_there_are_numbers_stand_in_their_lines() {
        let line = |n: usize| format!("u{n}@a.test relay{:04}.test\n", n % (VALUES + 50));
        let text = (0..1000).map(line).collect::<Vec<_>>().concat();
        let block = block(text.as_bytes());
        assert_eq!(block.pieces().collect::<Vec<_>>().concat(), text.as_bytes());
        assert!(block.lines().len() < text.len());
    }

    #[test]
    fn blank_lines_and_comments_are_no_entries() {
        for (text, entries) in [
            ("", 0),
            ("\n\n \n\t\r\n", 0),
            ("# a b\n  # c d", 0),
            ("a b\n\n  c d\r\n#\n\"e f\" g", 3),
            ("a", 1),
        ] {
            assert_eq!(block(text.as_bytes()).entries(), entries, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_block_gives_its_text_back(
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
            prop_assert!(block.compare(&text) == Comparison::Begins);
            let more = [&text[..], other.as_bytes()].concat();
            prop_assert!(block.compare(&more) == Comparison::Begins);
            for end in 0..text.len() {
                prop_assert!(block.compare(&text[..end]) == Comparison::Ends);
                let mut otherwise = text.clone();
                otherwise[end] ^= 0x40;
                prop_assert!(block.compare(&otherwise) == Comparison::Differs);
            }
        }
    }
}
