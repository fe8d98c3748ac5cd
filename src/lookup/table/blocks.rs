//! The blocks of one table, numbered, and the locations of entries in them.
//!
//! A block keeps its number while it is in the table, and so its entries keep their [`Location`]s, wherever in the file
//! the block moves: unchanged entries are not indexed again. Numbers of removed blocks are reused.

use std::collections::HashMap;
use std::sync::Arc;

use super::text::{Block, Text};

/// The start of an entry's line: the number of its block in 15 bits, the offset in the block in 17.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Location(u32);

const OFFSET_BITS: u32 = 17;
const MAX_BLOCKS: usize = 1 << (u32::BITS - OFFSET_BITS);

impl Location {
    /// Returns `None` for a location out of range, which needs a larger text than a table file may be.
    pub(super) fn new(block: u32, offset: usize) -> Option<Self> {
        let offset = u32::try_from(offset).ok()?;
        let is_within = offset >> OFFSET_BITS == 0 && usize::try_from(block).ok()? < MAX_BLOCKS;
        is_within.then_some(Self(block << OFFSET_BITS | offset))
    }

    fn block(self) -> u32 {
        self.0 >> OFFSET_BITS
    }

    fn offset(self) -> Option<usize> {
        usize::try_from(self.0 & ((1 << OFFSET_BITS) - 1)).ok()
    }
}

/// The blocks of one table.
#[derive(Clone, Default)]
pub(super) struct Blocks {
    by_number: Vec<Option<Arc<Block>>>,
    /// The numbers in the order of the file.
    order: Vec<u32>,
}

/// The difference between the blocks of a table before and after an edit.
pub(super) struct BlockDiff {
    /// All blocks after the edit.
    pub(super) blocks: Blocks,
    /// The removed blocks, with their numbers.
    pub(super) removed: Vec<(u32, Arc<Block>)>,
    /// The numbers of the new blocks.
    pub(super) added: Vec<u32>,
}

impl Blocks {
    /// Numbers the blocks of a text in its order.
    pub(super) fn from_text(text: &Text) -> Self {
        Self {
            by_number: text.blocks().iter().cloned().map(Some).collect(),
            order: (0..).zip(text.blocks()).map(|(number, _)| number).collect(),
        }
    }

    /// Returns the blocks with their numbers, in the order of the file.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (u32, &Arc<Block>)> {
        self.order
            .iter()
            .filter_map(|&number| Some((number, self.block(number)?)))
    }

    pub(super) fn block(&self, number: u32) -> Option<&Arc<Block>> {
        self.by_number.get(usize::try_from(number).ok()?)?.as_ref()
    }

    /// Whether these are the blocks of `text`, in its order.
    pub(super) fn matches(&self, text: &Text) -> bool {
        self.order.len() == text.blocks().len()
            && self
                .in_order()
                .zip(text.blocks())
                .all(|((_, own), other)| Arc::ptr_eq(own, other))
    }

    /// Returns the difference to the blocks of `text`. `None` if a block is repeated on either side, or if more than
    /// half of the text is new.
    pub(super) fn diff(&self, text: &Text) -> Option<BlockDiff> {
        let mut removed_numbers: HashMap<*const Block, u32> = self
            .in_order()
            .map(|(number, block)| (Arc::as_ptr(block), number))
            .collect();
        if removed_numbers.len() < self.order.len() {
            // A repeated block has two numbers, of which one would never be freed.
            return None;
        }
        let mut kept = HashMap::new();
        let mut new_bytes = 0;
        for block in text.blocks() {
            if let Some(number) = removed_numbers.remove(&Arc::as_ptr(block)) {
                kept.insert(Arc::as_ptr(block), number);
            } else if kept.contains_key(&Arc::as_ptr(block)) {
                return None;
            } else {
                new_bytes += block.len();
            }
        }
        if new_bytes > text.len() / 2 {
            return None;
        }
        let mut by_number = self.by_number.clone();
        let mut removed = Vec::new();
        for number in removed_numbers.into_values() {
            let block = by_number.get_mut(usize::try_from(number).ok()?)?.take()?;
            removed.push((number, block));
        }
        let mut added = Vec::new();
        let mut order = Vec::with_capacity(text.blocks().len());
        let mut free = 0;
        for block in text.blocks() {
            if let Some(number) = kept.get(&Arc::as_ptr(block)) {
                order.push(*number);
                continue;
            }
            while by_number.get(free).is_some_and(Option::is_some) {
                free += 1;
            }
            match by_number.get_mut(free) {
                Some(slot) => *slot = Some(Arc::clone(block)),
                None => by_number.push(Some(Arc::clone(block))),
            }
            let number = u32::try_from(free).ok()?;
            added.push(number);
            order.push(number);
        }
        Some(BlockDiff {
            blocks: Self { by_number, order },
            removed,
            added,
        })
    }

    /// Returns the block of a location, and its lines from there on.
    #[inline]
    pub(super) fn lines_from(&self, location: Location) -> Option<(&Block, &[u8])> {
        let block = self.block(location.block())?;
        Some((block, block.lines().get(location.offset()?..)?))
    }

    /// Returns the line number of a location, from 1.
    pub(super) fn line(&self, location: Location) -> usize {
        let before = self
            .in_order()
            .take_while(|(number, _)| *number != location.block());
        let lines_before: usize = before.map(|(_, block)| block.newlines()).sum();
        let within = self
            .block(location.block())
            .and_then(|block| block.lines().get(..location.offset()?));
        lines_before + memchr::memchr_iter(b'\n', within.unwrap_or_default()).count() + 1
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;
    use std::sync::Arc;

    use super::super::text::{Block, Text};
    use super::Blocks;

    #[test]
    fn a_repeated_block_is_freed_when_it_is_removed() {
        let hasher = RandomState::new();
        let read = |text: &str, previous: &Blocks| {
            let previous: Vec<Arc<Block>> = previous.in_order().map(|(_, block)| Arc::clone(block)).collect();
            Text::read(&mut text.as_bytes(), text.len(), &previous, &hasher).unwrap()
        };
        let comments = "# a comment\n".repeat(20_000);
        let mut entries = String::new();
        for n in 0..40_000 {
            entries.push_str("user");
            entries.push_str(&n.to_string());
            entries.push_str("@a.test [r.test]\n");
        }
        let first = Blocks::from_text(&read(&(comments.clone() + &entries), &Blocks::default()));
        // The repeated blocks share one `Block`.
        let text = read(&(comments.repeat(2) + &entries), &first);
        assert!(first.diff(&text).is_none());
        let second = Blocks::from_text(&text);
        let after = read(&entries, &second);
        let third = second
            .diff(&after)
            .map_or_else(|| Blocks::from_text(&after), |diff| diff.blocks);
        let held = third.by_number.iter().flatten().count();
        assert_eq!(held, after.blocks().len());
    }
}
