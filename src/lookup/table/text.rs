//! The text of a table, in blocks of whole lines that one generation shares with the next.
//!
//! Most edits change a few lines. A text is therefore cut into blocks of some [`SMALLEST`] to [`LARGEST`] bytes, and a
//! block that reads as it did before is not kept twice: while two generations are in memory, they are there once but
//! for the blocks that differ. Where a block ends depends on the lines in it and on nothing else, so that after an
//! inserted line the blocks fall into step again (content-defined chunking, as rsync and backup programs do it).
//!
//! Blocks are compared byte by byte; the digests only lead to candidates. How a block holds its lines is its own business
//! ([`Block`]).
//!
//! Limits: a text of up to [`crate::os::whole_file::MAX_FILE`] bytes has at most 2^15 blocks, and no line begins beyond the first
//! [`LARGEST`] bytes of its block. A line is in one block. One that is longer than [`MAX_LINE`] ends the reading: it is the
//! last line of the text, cut off, and by its length the grammar knows it. So a text that is no table costs no memory.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, ErrorKind, Read};
use std::sync::Arc;

use zeroize::Zeroizing;

pub use super::block::Block;
use super::block::Comparison;
use super::line::MAX_LINE;
use crate::os::secret::Secret;
use crate::os::whole_file::{self, Extent, reserved};

/// The fewest bytes of a block, but for the last one.
pub const SMALLEST: usize = 32 * 1024;

/// A block ends with the line that reaches this size.
pub const LARGEST: usize = 64 * 1024;

/// Between the two, a block ends after one line of so many.
const LINES: u64 = 256;

/// How much is read at once.
const BUFFER: usize = 4 * LARGEST;

/// A text as it was read, in order.
#[derive(Default)]
pub struct Text {
    blocks: Vec<Arc<Block>>,
    len: usize,
    /// Whether a line that is too long ends it.
    is_cut: bool,
}

impl Text {
    /// Reads a text of about `expected` bytes to its end. Blocks that stand in `previous` as well are shared with it;
    /// `hasher` has to be the one with which those were read. The server's has a key of its process, so that nobody can
    /// write lines of which none ends a block; one without a key makes the same blocks in every process.
    pub fn read(
        from: &mut dyn Read,
        expected: usize,
        previous: &[Arc<Block>],
        hasher: &impl BuildHasher,
    ) -> io::Result<Self> {
        let mut cutter = Cutter::new(expected, previous, hasher)?;
        loop {
            if cutter.text.is_cut {
                return Ok(cutter.text);
            }
            match from.read(cutter.room()) {
                Ok(0) => return cutter.finish(),
                Ok(read) => cutter.filled(read)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether it was read to the end, or up to a line that is too long.
    #[must_use]
    pub fn extent(&self) -> Extent {
        if self.is_cut { Extent::Cut } else { Extent::Whole }
    }

    /// The blocks.
    #[must_use]
    pub fn blocks(&self) -> &[Arc<Block>] {
        &self.blocks
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds to a digest what tells this text from another that was read with the same hasher.
    pub fn digest(&self, digest: &mut impl Hasher) {
        digest.write_usize(self.blocks.len());
        for block in &self.blocks {
            digest.write_u64(block.digest());
        }
    }
}

/// The text before the edit, as far as it may come again.
struct Previous<'p> {
    blocks: &'p [Arc<Block>],
    /// Where `blocks` has which digest, once that is asked for.
    by_digest: Option<HashMap<u64, usize>>,
    /// Which block comes next if nothing has changed here.
    next: usize,
}

impl<'p> Previous<'p> {
    /// The block that comes next if nothing has changed here. The last one ends where its text did, and not because of
    /// its lines: more may follow them now.
    fn next(&self) -> Option<&'p Arc<Block>> {
        let (_, all_but_last) = self.blocks.split_last()?;
        all_but_last.get(self.next)
    }

    /// The block that reads like this.
    fn find(&mut self, digest: u64, bytes: &[u8]) -> Option<&'p Arc<Block>> {
        let blocks = self.blocks;
        let by_digest = self
            .by_digest
            .get_or_insert_with(|| blocks.iter().map(|block| block.digest()).zip(0..).collect());
        let at = *by_digest.get(&digest)?;
        let is_same =
            |block: &&Arc<Block>| block.len() == bytes.len() && block.compare(bytes) == Comparison::Begins;
        let block = blocks.get(at).filter(is_same)?;
        self.next = at + 1;
        Some(block)
    }
}

/// Cuts what arrives into blocks.
struct Cutter<'p, H> {
    hasher: &'p H,
    previous: Previous<'p>,
    text: Text,
    buffer: Secret,
    /// What is read and not cut off yet, within the buffer.
    start: usize,
    end: usize,
    /// How much of that was searched for the end of a block: whole lines.
    searched: usize,
    scratch: Zeroizing<Vec<u8>>,
    /// How many blocks were not there before.
    made: usize,
}

impl<'p, H: BuildHasher> Cutter<'p, H> {
    fn new(expected: usize, previous: &'p [Arc<Block>], hasher: &'p H) -> io::Result<Self> {
        let size = expected.saturating_add(1).min(BUFFER);
        let mut buffer = reserved(size)?;
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
            made: 0,
        })
    }

    /// Where to put what comes next.
    fn room(&mut self) -> &mut [u8] {
        if self.end == self.buffer.len() {
            if self.start == 0 {
                // A small text that has grown meanwhile. Never more: a block and a line are smaller than the buffer.
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

    fn filled(&mut self, bytes: usize) -> io::Result<()> {
        self.end += bytes;
        self.cut(false)
    }

    fn finish(mut self) -> io::Result<Text> {
        self.cut(true)?;
        Ok(self.text)
    }

    /// Cuts off what is there whole, up to a line that is too long.
    fn cut(&mut self, at_end: bool) -> io::Result<()> {
        while !self.text.is_cut
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

    /// The next block, if it is there whole.
    fn next_block(&mut self, at_end: bool) -> io::Result<Option<Arc<Block>>> {
        let pending = self.buffer.expose().get(self.start..self.end).unwrap_or_default();
        if let Some(next) = self.previous.next() {
            match next.compare(pending) {
                Comparison::Begins => {
                    self.previous.next += 1;
                    return Ok(Some(Arc::clone(next)));
                }
                Comparison::Ends if !at_end => return Ok(None),
                Comparison::Ends | Comparison::Differs => {}
            }
        }
        let bytes = match boundary(pending, self.searched, self.hasher) {
            Boundary::At(end) => pending.get(..end).unwrap_or_default(),
            Boundary::TooLong(line) => {
                self.text.is_cut = true;
                // So much that the grammar finds it too long.
                pending.get(..line + MAX_LINE + 1).unwrap_or(pending)
            }
            Boundary::Ahead(_) if at_end && !pending.is_empty() => pending,
            Boundary::Ahead(searched) => {
                self.searched = searched;
                return Ok(None);
            }
        };
        let digest = self.hasher.hash_one(bytes);
        let known = self.previous.find(digest, bytes).cloned();
        if known.is_some() {
            return Ok(known);
        }
        self.made += 1;
        // Now and then: it is a call of the system.
        if self.made.is_multiple_of(16) {
            whole_file::has_headroom()?;
        }
        Ok(Some(Arc::new(Block::new(bytes, digest, &mut self.scratch)?)))
    }
}

/// Where the first block of a text ends.
enum Boundary {
    /// Here.
    At(usize),
    /// Behind what there is. Everything before this, which is the end of a line, was searched.
    Ahead(usize),
    /// In a line that is too long, and begins here.
    TooLong(usize),
}

/// Where the first block of `pending` ends, of which everything before `searched`, the end of a line, was searched.
fn boundary(pending: &[u8], searched: usize, hasher: &impl BuildHasher) -> Boundary {
    let mut end = searched;
    if end < SMALLEST {
        let Some(before) = pending.get(..SMALLEST - 1) else {
            return Boundary::Ahead(searched);
        };
        // Whatever line reaches this size, those after it are candidates.
        let start = memchr::memrchr(b'\n', before).map_or(0, |lf| lf + 1);
        match line_end(pending, start, before.len()) {
            Boundary::Ahead(_) => return Boundary::Ahead(searched),
            Boundary::At(line_end) => end = line_end,
            too_long @ Boundary::TooLong(_) => return too_long,
        }
    }
    while end < LARGEST {
        let start = end;
        match line_end(pending, start, start) {
            Boundary::At(line_end) => end = line_end,
            other => return other,
        }
        let line = pending.get(start..end).unwrap_or_default();
        if hasher.hash_one(line) % LINES == 0 {
            break;
        }
    }
    Boundary::At(end)
}

/// Where the line ends that begins at `start`, its LF included, which is not before `from`.
fn line_end(text: &[u8], start: usize, from: usize) -> Boundary {
    let lf = memchr::memchr(b'\n', text.get(from..).unwrap_or_default()).map(|lf| from + lf);
    match lf {
        _ if lf.unwrap_or(text.len()) - start > MAX_LINE => Boundary::TooLong(start),
        Some(lf) => Boundary::At(lf + 1),
        None => Boundary::Ahead(start),
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;
    use std::io::Read;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::{Block, Extent, LARGEST, MAX_LINE, SMALLEST, Text};

    /// Gives at most so many bytes at once.
    struct Dripping<'a>(&'a [u8], usize);

    impl Read for Dripping<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let most = into.len().min(self.1);
            self.0.read(&mut into[..most])
        }
    }

    fn whole(text: &Text) -> Vec<u8> {
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

    fn read(bytes: &[u8], drip: usize, previous: &Text, hasher: &RandomState) -> Text {
        let expected = bytes.len();
        Text::read(&mut Dripping(bytes, drip), expected, previous.blocks(), hasher).unwrap()
    }

    #[test]
    fn blocks_are_whole_lines_of_the_promised_sizes() {
        let bytes = lines(0, 20_000);
        let text = read(&bytes, usize::MAX, &Text::default(), &RandomState::new());
        assert!(whole(&text) == bytes);
        let (_, all_but_last) = text.blocks().split_last().unwrap();
        assert!(all_but_last.len() > 5);
        for block in all_but_last {
            let len = block.len();
            assert!((SMALLEST..LARGEST + 60).contains(&len), "{len}");
            assert!(block.lines().ends_with(b"\n"));
        }
    }

    #[test]
    fn a_line_that_is_too_long_ends_the_text_wherever_it_stands_and_however_it_arrives() {
        let hasher = RandomState::new();
        for before in [0, 1, 100, 900, 2_000, 5_000] {
            for (long, is_cut) in [(MAX_LINE, false), (MAX_LINE + 1, true), (3_000_000, true)] {
                for end in ["\n", ""] {
                    let mut bytes = lines(0, before);
                    let start = bytes.len();
                    bytes.extend(vec![b'#'; long]);
                    bytes.extend(end.as_bytes());
                    if !end.is_empty() {
                        bytes.extend(lines(before, before + 2_000));
                    }
                    for drip in [1000, 65_537, usize::MAX] {
                        let text = read(&bytes, drip, &Text::default(), &hasher);
                        let expected = if is_cut { start + MAX_LINE + 1 } else { bytes.len() };
                        assert!(whole(&text) == bytes[..expected], "{before} {long} {drip}");
                        assert_eq!(text.extent() == Extent::Cut, is_cut);
                        let again = read(&bytes, drip, &text, &hasher);
                        assert!(whole(&again) == bytes[..expected], "{before} {long} {drip}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_inserted_line_costs_a_few_blocks_at_most() {
        let hasher = RandomState::new();
        let before = read(&lines(0, 20_000), usize::MAX, &Text::default(), &hasher);
        let mut bytes = lines(0, 10_000);
        bytes.extend(b"a@new.line [r]\n");
        bytes.extend(lines(10_000, 20_000));
        let after = read(&bytes, usize::MAX, &before, &hasher);
        assert!(whole(&after) == bytes);
        // Mostly one or two. Where no line after it ends a block in time, it takes longer to fall into step.
        assert!(after.blocks().len() - shared(before.blocks(), after.blocks()) <= 6);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// However it arrives and whatever was there before, what is read is what stands there; and what was read
        /// before is shared whole with the same text read again, which has the same digest.
        #[test]
        fn a_text_is_what_was_read(
            cuts in prop::collection::vec((0_u32..9_000, 0_u32..3_000), 1..5),
            drip in 1_usize..300_000,
            ends in any::<bool>(),
        ) {
            let hasher = RandomState::new();
            let before = read(&lines(0, 9_000), usize::MAX, &Text::default(), &hasher);
            let mut bytes: Vec<u8> = cuts.iter().flat_map(|&(from, some)| lines(from, from + some)).collect();
            if !ends {
                bytes.pop();
            }
            let after = read(&bytes, drip.max(bytes.len() / 1000), &before, &hasher);
            prop_assert!(whole(&after) == bytes);
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
