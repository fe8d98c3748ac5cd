//! The text of a table, in blocks of whole lines that generations share.
//!
//! Most edits change a few lines. So a text is split into blocks of [`MIN_BLOCK`] to [`TARGET_BLOCK`] bytes, and an
//! unchanged block is not stored twice: two generations in memory differ in their changed blocks only. The end of a
//! block depends only on its lines, so that after an inserted line the later block boundaries are the same again
//! (content-defined chunking, as in rsync and backup programs).
//!
//! Blocks are compared byte by byte; digests only find candidates. How a block stores its lines is up to [`Block`].
//!
//! Limits: a text of up to [`crate::os::whole_file::MAX_FILE`] bytes has at most 2^15 blocks, and no line starts beyond
//! the first [`TARGET_BLOCK`] bytes of its block. A line is in one block. A line longer than [`MAX_LINE`] ends the
//! text: it is the last line, truncated, and still so long that the grammar rejects it. So a file that is not a table
//! costs no memory.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, ErrorKind, Read};
use std::sync::Arc;

use zeroize::Zeroizing;

pub use super::block::Block;
use super::block::Comparison;
use super::line::MAX_LINE;
use crate::os::secret::Secret;
use crate::os::whole_file::{self, Extent, try_with_capacity};

/// The minimum size of a block in bytes, except for the last one.
pub const MIN_BLOCK: usize = 32 * 1024;

/// The size in bytes at which a block ends, with the line that reaches it.
pub const TARGET_BLOCK: usize = 64 * 1024;

/// Between the two sizes, a block ends after one in this many lines on average.
const BOUNDARY_INTERVAL: u64 = 256;

/// The size of the read buffer in bytes.
const BUFFER: usize = 4 * TARGET_BLOCK;

/// The bytes of a text, in the order in which they were read.
#[derive(Default)]
pub struct Text {
    blocks: Vec<Arc<Block>>,
    len: usize,
    /// Whether it ends with a line that is too long.
    is_truncated: bool,
}

impl Text {
    /// Reads a text of about `expected` bytes to its end. Blocks that are in `previous` are shared with it; `hasher`
    /// must be the one with which those were read. The server's hasher has a key of its process, so that no client can
    /// write lines of which none ends a block. A hasher without a key makes the same blocks in every process.
    pub fn read(
        from: &mut dyn Read,
        expected: usize,
        previous: &[Arc<Block>],
        hasher: &impl BuildHasher,
    ) -> io::Result<Self> {
        let mut chunker = Chunker::new(expected, previous, hasher)?;
        loop {
            if chunker.text.is_truncated {
                return Ok(chunker.text);
            }
            match from.read(chunker.spare_capacity()) {
                Ok(0) => return chunker.finish(),
                Ok(read) => chunker.advance(read)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns whether it was read to the end, or up to a line that is too long.
    #[must_use]
    pub fn extent(&self) -> Extent {
        if self.is_truncated {
            Extent::Truncated
        } else {
            Extent::Whole
        }
    }

    /// Returns the blocks.
    #[must_use]
    pub fn blocks(&self) -> &[Arc<Block>] {
        &self.blocks
    }

    /// Returns the length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the text is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds the digests of all blocks, which distinguish texts that were read with the same hasher.
    pub fn digest(&self, digest: &mut impl Hasher) {
        digest.write_usize(self.blocks.len());
        for block in &self.blocks {
            digest.write_u64(block.digest());
        }
    }
}

/// The blocks of the text before the edit, as candidates.
struct Previous<'p> {
    blocks: &'p [Arc<Block>],
    /// The index of each block in `blocks` by its digest, once it is needed.
    by_digest: Option<HashMap<u64, usize>>,
    /// The index of the next block if nothing has changed here.
    next: usize,
}

impl<'p> Previous<'p> {
    /// Returns the next block if nothing has changed here. Never the last one, which ends with its text and not because
    /// of its lines: more may follow them now.
    fn next(&self) -> Option<&'p Arc<Block>> {
        let (_, all_but_last) = self.blocks.split_last()?;
        all_but_last.get(self.next)
    }

    /// Returns the block with these bytes.
    fn find(&mut self, digest: u64, bytes: &[u8]) -> Option<&'p Arc<Block>> {
        let blocks = self.blocks;
        let by_digest = self
            .by_digest
            .get_or_insert_with(|| blocks.iter().map(|block| block.digest()).zip(0..).collect());
        let at = *by_digest.get(&digest)?;
        let is_same =
            |block: &&Arc<Block>| block.len() == bytes.len() && block.compare(bytes) == Comparison::Whole;
        let block = blocks.get(at).filter(is_same)?;
        self.next = at + 1;
        Some(block)
    }
}

/// Splits the text that arrives into blocks.
struct Chunker<'p, H> {
    hasher: &'p H,
    previous: Previous<'p>,
    text: Text,
    buffer: Secret,
    /// The range of the buffer that is read and not split yet.
    start: usize,
    end: usize,
    /// The length of its start, in whole lines, that was searched for the end of a block.
    searched: usize,
    scratch: Zeroizing<Vec<u8>>,
    /// The number of blocks that are not shared.
    new_blocks: usize,
}

impl<'p, H: BuildHasher> Chunker<'p, H> {
    fn new(expected: usize, previous: &'p [Arc<Block>], hasher: &'p H) -> io::Result<Self> {
        let size = expected.saturating_add(1).min(BUFFER);
        let mut buffer = try_with_capacity(size)?;
        buffer.resize(size, 0);
        Ok(Self {
            hasher,
            previous: Previous {
                blocks: previous,
                by_digest: None,
                next: 0,
            },
            text: Text::default(),
            buffer: buffer.into(),
            start: 0,
            end: 0,
            searched: 0,
            scratch: Zeroizing::default(),
            new_blocks: 0,
        })
    }

    /// Returns the free part of the buffer.
    fn spare_capacity(&mut self) -> &mut [u8] {
        if self.end == self.buffer.len() {
            if self.start == 0 {
                // A small text that has grown meanwhile. Never larger: a block and a line fit into the buffer.
                let larger = self.buffer.len().saturating_mul(2).clamp(1, BUFFER);
                let more = larger.saturating_sub(self.buffer.len());
                self.buffer.append(&vec![0; more]);
            } else {
                self.buffer.expose_mut().copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
        }
        self.buffer.expose_mut().get_mut(self.end..).unwrap_or_default()
    }

    fn advance(&mut self, bytes: usize) -> io::Result<()> {
        self.end += bytes;
        self.split_off_blocks(false)
    }

    fn finish(mut self) -> io::Result<Text> {
        self.split_off_blocks(true)?;
        Ok(self.text)
    }

    /// Splits off all complete blocks, up to a line that is too long.
    fn split_off_blocks(&mut self, at_end: bool) -> io::Result<()> {
        while !self.text.is_truncated
            && let Some(block) = self.next_block(at_end)?
        {
            self.push(block);
        }
        Ok(())
    }

    fn push(&mut self, block: Arc<Block>) {
        let len = block.len();
        self.start += len;
        self.searched = 0;
        self.text.len += len;
        self.text.blocks.push(block);
    }

    /// Returns the next block, if it is complete.
    fn next_block(&mut self, at_end: bool) -> io::Result<Option<Arc<Block>>> {
        let pending = self.buffer.expose().get(self.start..self.end).unwrap_or_default();
        if let Some(next) = self.previous.next() {
            match next.compare(pending) {
                Comparison::Whole => {
                    self.previous.next += 1;
                    return Ok(Some(Arc::clone(next)));
                }
                Comparison::Partial if !at_end => return Ok(None),
                Comparison::Partial | Comparison::Differs => {}
            }
        }
        let bytes = match boundary(pending, self.searched, self.hasher) {
            Boundary::At(end) => pending.get(..end).unwrap_or_default(),
            Boundary::TooLong(line) => {
                self.text.is_truncated = true;
                // Enough for the grammar to find the line too long.
                pending.get(..line + MAX_LINE + 1).unwrap_or(pending)
            }
            Boundary::Beyond(_) if at_end && !pending.is_empty() => pending,
            Boundary::Beyond(searched) => {
                self.searched = searched;
                return Ok(None);
            }
        };
        let digest = self.hasher.hash_one(bytes);
        let known = self.previous.find(digest, bytes).cloned();
        if known.is_some() {
            return Ok(known);
        }
        self.new_blocks += 1;
        // Not for each block, because it is a system call.
        if self.new_blocks.is_multiple_of(16) {
            whole_file::check_headroom()?;
        }
        Ok(Some(Arc::new(Block::new(bytes, digest, &mut self.scratch)?)))
    }
}

/// The end of the first block of a text.
enum Boundary {
    /// The block ends here.
    At(usize),
    /// The block ends beyond the text. Everything before this offset, the end of a line, was searched.
    Beyond(usize),
    /// The line that starts here is too long.
    TooLong(usize),
}

/// Finds the end of the first block of `pending`. Everything before `searched`, the end of a line, was searched.
fn boundary(pending: &[u8], searched: usize, hasher: &impl BuildHasher) -> Boundary {
    let mut end = searched;
    if end < MIN_BLOCK {
        let Some(before) = pending.get(..MIN_BLOCK - 1) else {
            return Boundary::Beyond(searched);
        };
        // The block may end after the line that reaches this size, or after a later one.
        let start = memchr::memrchr(b'\n', before).map_or(0, |lf| lf + 1);
        match line_end(pending, start, before.len()) {
            Boundary::Beyond(_) => return Boundary::Beyond(searched),
            Boundary::At(line_end) => end = line_end,
            too_long @ Boundary::TooLong(_) => return too_long,
        }
    }
    while end < TARGET_BLOCK {
        let start = end;
        match line_end(pending, start, start) {
            Boundary::At(line_end) => end = line_end,
            other => return other,
        }
        let line = pending.get(start..end).unwrap_or_default();
        if hasher.hash_one(line) % BOUNDARY_INTERVAL == 0 {
            break;
        }
    }
    Boundary::At(end)
}

/// Finds the end of the line that starts at `start`, with its LF, which is not before `from`.
fn line_end(text: &[u8], start: usize, from: usize) -> Boundary {
    let lf = memchr::memchr(b'\n', text.get(from..).unwrap_or_default()).map(|lf| from + lf);
    match lf {
        _ if lf.unwrap_or(text.len()) - start > MAX_LINE => Boundary::TooLong(start),
        Some(lf) => Boundary::At(lf + 1),
        None => Boundary::Beyond(start),
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;
    use std::io::Read;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::{Block, Extent, MAX_LINE, MIN_BLOCK, TARGET_BLOCK, Text};

    /// A reader that returns at most this many bytes a call.
    struct SlowReader<'a>(&'a [u8], usize);

    impl Read for SlowReader<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let most = into.len().min(self.1);
            self.0.read(&mut into[..most])
        }
    }

    fn bytes_of(text: &Text) -> Vec<u8> {
        text.blocks()
            .iter()
            .flat_map(|block| block.pieces().collect::<Vec<_>>().concat())
            .collect()
    }

    fn shared(one: &[Arc<Block>], other: &[Arc<Block>]) -> usize {
        let is_in = |block: &&Arc<Block>| one.iter().any(|own| Arc::ptr_eq(own, block));
        other.iter().filter(is_in).count()
    }

    fn lines(from: u32, to: u32) -> Vec<u8> {
        (from..to)
            .flat_map(|n| format!("user{n}@domain{}.example [relay.example]:587\n", n / 7).into_bytes())
            .collect()
    }

    fn read(bytes: &[u8], max_read: usize, previous: &Text, hasher: &RandomState) -> Text {
        let expected = bytes.len();
        Text::read(
            &mut SlowReader(bytes, max_read),
            expected,
            previous.blocks(),
            hasher,
        )
        .unwrap()
    }

    #[test]
    fn blocks_are_whole_lines_within_the_size_limits() {
        let bytes = lines(0, 20_000);
        let text = read(&bytes, usize::MAX, &Text::default(), &RandomState::new());
        assert!(bytes_of(&text) == bytes);
        let (_, all_but_last) = text.blocks().split_last().unwrap();
        assert!(all_but_last.len() > 5);
        for block in all_but_last {
            let len = block.len();
            assert!((MIN_BLOCK..TARGET_BLOCK + 60).contains(&len), "{len}");
            assert!(block.lines().ends_with(b"\n"));
        }
    }

    #[test]
    fn a_line_over_the_limit_ends_the_text_wherever_it_is_and_however_it_is_read() {
        let hasher = RandomState::new();
        for before in [0, 1, 100, 900, 2_000, 5_000] {
            for (long, is_truncated) in [(MAX_LINE, false), (MAX_LINE + 1, true), (3_000_000, true)] {
                for end in ["\n", ""] {
                    let mut bytes = lines(0, before);
                    let start = bytes.len();
                    bytes.extend(vec![b'#'; long]);
                    bytes.extend(end.as_bytes());
                    if !end.is_empty() {
                        bytes.extend(lines(before, before + 2_000));
                    }
                    for max_read in [1000, 65_537, usize::MAX] {
                        let text = read(&bytes, max_read, &Text::default(), &hasher);
                        let expected = if is_truncated {
                            start + MAX_LINE + 1
                        } else {
                            bytes.len()
                        };
                        assert!(bytes_of(&text) == bytes[..expected], "{before} {long} {max_read}");
                        assert_eq!(text.extent() == Extent::Truncated, is_truncated);
                        let again = read(&bytes, max_read, &text, &hasher);
                        assert!(
                            bytes_of(&again) == bytes[..expected],
                            "{before} {long} {max_read}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn an_inserted_line_changes_a_few_blocks_at_most() {
        let hasher = RandomState::new();
        let before = read(&lines(0, 20_000), usize::MAX, &Text::default(), &hasher);
        let mut bytes = lines(0, 10_000);
        bytes.extend(b"a@new.line [r]\n");
        bytes.extend(lines(10_000, 20_000));
        let after = read(&bytes, usize::MAX, &before, &hasher);
        assert!(bytes_of(&after) == bytes);
        // Usually one or two. More if no line after it ends a block in time.
        assert!(after.blocks().len() - shared(before.blocks(), after.blocks()) <= 6);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// For any size of reads and any previous text. The same text read again shares all blocks and has the same
        /// digest.
        #[test]
        fn a_text_holds_the_bytes_that_were_read_and_shares_unchanged_blocks(
            cuts in prop::collection::vec((0_u32..9_000, 0_u32..3_000), 1..5),
            max_read in 1_usize..300_000,
            ends in any::<bool>(),
        ) {
            let hasher = RandomState::new();
            let before = read(&lines(0, 9_000), usize::MAX, &Text::default(), &hasher);
            let mut bytes: Vec<u8> = cuts.iter().flat_map(|&(from, some)| lines(from, from + some)).collect();
            if !ends {
                bytes.pop();
            }
            let after = read(&bytes, max_read.max(bytes.len() / 1000), &before, &hasher);
            prop_assert!(bytes_of(&after) == bytes);
            prop_assert_eq!(after.len(), bytes.len());
            let again = read(&bytes, usize::MAX, &after, &hasher);
            prop_assert_eq!(shared(after.blocks(), again.blocks()), after.blocks().len());
            let fresh = read(&bytes, usize::MAX, &Text::default(), &hasher);
            let digests = [&after, &again, &fresh].map(|text| {
                let mut digest = std::hash::BuildHasher::build_hasher(&hasher);
                text.digest(&mut digest);
                std::hash::Hasher::finish(&digest)
            });
            prop_assert!(digests.iter().all(|digest| *digest == digests[0]));
        }
    }
}
