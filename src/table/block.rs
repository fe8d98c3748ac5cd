//! A block: some lines of a table's text in a row, as they are written.

use std::io;

use crate::secret::Secret;
use crate::whole_file::reserved;

/// Some lines in a row.
pub struct Block {
    lines: Secret,
    digest: u64,
    newlines: usize,
    entries: usize,
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
    /// The block of this text, which has this digest.
    pub(super) fn new(text: &[u8], digest: u64) -> io::Result<Self> {
        let mut lines = reserved(text.len())?;
        lines.extend_from_slice(text);
        Ok(Self {
            lines: lines.into(),
            digest,
            newlines: memchr::memchr_iter(b'\n', text).count(),
            entries: count_entries(text),
        })
    }

    /// The lines, each with its end.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        self.lines.expose()
    }

    /// Compares the text with `other`.
    pub(super) fn compare(&self, other: &[u8]) -> Comparison {
        let lines = self.lines();
        if other.starts_with(lines) {
            Comparison::Begins
        } else if lines.starts_with(other) {
            Comparison::Ends
        } else {
            Comparison::Differs
        }
    }

    /// How many bytes the text has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines().len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines().is_empty()
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Block, Comparison};

    fn block(text: &[u8]) -> Block {
        Block::new(text, 0).unwrap()
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
        fn a_block_is_told_from_what_reads_otherwise(text in "[a@ \n]{0,60}", more in "[a@ \n]{0,3}") {
            let text = text.into_bytes();
            let block = block(&text);
            prop_assert!(block.lines() == text);
            prop_assert!(block.compare(&[&text[..], more.as_bytes()].concat()) == Comparison::Begins);
            for end in 0..text.len() {
                prop_assert!(block.compare(&text[..end]) == Comparison::Ends);
                let mut otherwise = text.clone();
                otherwise[end] ^= 0x40;
                prop_assert!(block.compare(&otherwise) == Comparison::Differs);
            }
        }
    }
}
