//! A table: the text of a `.cf` file, validated and indexed.
//!
//! A table is its text, as read, and an index. Keys are not copied, a repeated value is stored once
//! ([`text::Block`]), and no other place in memory holds a password. A lookup parses the one line that the index points
//! to, with the grammar that validated it.
//!
//! The result for a key is a [`Hit`]: a value, no value on purpose, absent for certain, or *cannot tell*. What each
//! means for mail is decided in [`crate::lookup::routing`].
//!
//! A table is built from nothing or, after an edit, from the previous one ([`Table::rebuild`]).

mod block;
mod blocks;
mod builder;
mod construction;
pub mod disabled;
mod distinct_values;
pub mod edit;
mod entries;
pub mod grammar;
mod index;
pub(crate) mod key;
mod kinds;
pub mod line;
pub mod spec;
pub mod text;
mod value;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::diagnostics::Findings;
use crate::lookup::address::{Key, LookupKeys};
use crate::os::secret::Secret;
use crate::protocol::answer::Reason;
use blocks::{Blocks, Location};
use distinct_values::DistinctValues;
use entries::Entries;
use grammar::{Parser, Record};
use index::Index;
use kinds::Kinds;
use spec::TableSpec;
use text::Block;

/// The result of a table for a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hit<'a> {
    /// An entry with this value.
    Value(&'a [u8]),
    /// An entry without a value, on purpose.
    NoValue,
    /// No entry, for certain.
    Absent,
    /// An invalid entry, or no entry in a table that could not be read completely.
    CannotTell(Reason),
}

/// A table, immutable once built.
pub struct Table {
    spec: &'static TableSpec,
    entries: Entries,
    index: Index,
    /// The kinds of keys. A table of domains only, as most are, is not searched for an address.
    kinds: Kinds,
    /// The invalid entries: few, but for a file that has been wrong since the start or is generated (`reload.errors`).
    invalid_entries: HashSet<Location>,
    /// The next hops, each once, if the values are next hops.
    next_hops: DistinctValues,
    /// Folded keys that were certainly intended by an entry that matches no sender (`@@example.com`), where *not found*
    /// would make Postfix send without authenticating.
    intended_keys: HashSet<Vec<u8>>,
    /// Why a key without an entry may have one, if lines or the whole file could not be read.
    incomplete: Option<Reason>,
    findings: Findings,
}

impl Table {
    /// Returns the table of a missing file: empty, for certain.
    #[must_use]
    pub fn empty(spec: &'static TableSpec) -> Self {
        Self {
            spec,
            entries: Entries {
                format: spec.format,
                blocks: Blocks::default(),
            },
            index: Index::default(),
            kinds: Kinds::default(),
            invalid_entries: HashSet::new(),
            next_hops: DistinctValues::default(),
            intended_keys: HashSet::new(),
            incomplete: None,
            findings: Findings::default(),
        }
    }

    /// Returns the table of an unreadable file: every miss is uncertain.
    #[must_use]
    pub fn unreadable(spec: &'static TableSpec) -> Self {
        Self {
            incomplete: Some(spec.unreadable),
            ..Self::empty(spec)
        }
    }

    /// Returns the specification of the table.
    #[must_use]
    pub fn spec(&self) -> &'static TableSpec {
        self.spec
    }

    /// Returns the errors and warnings about the file.
    #[must_use]
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// Returns the blocks of the text, in order.
    pub fn blocks(&self) -> impl Iterator<Item = &Arc<Block>> {
        self.entries.blocks.in_order().map(|(_, block)| block)
    }

    /// Returns the number of entries, including those without a value and invalid ones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether every line could be read, so that a miss is certain.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.incomplete.is_none()
    }

    /// Whether the file could be read, apart from lines with errors.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.incomplete != Some(self.spec.unreadable)
    }

    /// Whether it is certain that there is no entry.
    #[must_use]
    pub fn is_certainly_empty(&self) -> bool {
        self.is_empty() && self.is_complete()
    }

    /// Returns the next hops of the entries, each once, in no order; none if the values are not next hops.
    pub fn next_hops(&self) -> impl Iterator<Item = &Arc<[u8]>> {
        self.next_hops.iter()
    }

    /// Calls `handle` with every entry, in the order of the file.
    pub fn for_each(&self, mut handle: impl FnMut(Record<'_>)) {
        let mut parser = Parser::new(self.entries.format, Path::new(""));
        for (_, block) in self.entries.blocks.in_order() {
            // Findings were reported when the table was built.
            parser.parse_block(block, &mut Findings::default(), |record, _| handle(record));
        }
    }

    /// Returns the whole text.
    #[must_use]
    pub fn text(&self) -> Secret {
        let length = self.blocks().map(|block| block.len()).sum();
        let mut text = Secret::with_capacity(length);
        for block in self.blocks() {
            block.pieces().for_each(|piece| text.append(piece));
        }
        text
    }

    /// Returns the text of a line, from 1, without its line end and without the byte order mark of the file.
    #[must_use]
    pub fn line(&self, number: u32) -> Option<Secret> {
        let mut before = usize::try_from(number).ok()?.checked_sub(1)?;
        let block = self.blocks().find(|block| {
            let is_here = before < block.newlines() || !block.lines().ends_with(b"\n");
            if !is_here {
                before -= block.newlines();
            }
            is_here
        })?;
        let line = block.lines().split(|c| *c == b'\n').nth(before)?;
        let line = if number == 1 {
            line::without_byte_order_mark(line)
        } else {
            line
        };
        let mut whole = Secret::default();
        block.pieces_of(line).for_each(|piece| whole.append(piece));
        if let Some(len) = whole.expose().strip_suffix(b"\r").map(<[u8]>::len) {
            whole.truncate(len);
        }
        Some(whole)
    }

    /// Returns which of these keys, from 0, is the first with an entry, and the line number of that entry.
    pub fn locate<'k>(&self, keys: impl IntoIterator<Item = Key<'k>>) -> Option<(usize, usize)> {
        let mut keys = keys.into_iter().enumerate();
        keys.find_map(|(number, key)| {
            let (location, _) = self.entry(key)?;
            Some((number, self.entries.blocks.line(location)))
        })
    }

    /// Returns the hit for the first of these keys that has an entry.
    pub fn find<'k>(&self, keys: impl IntoIterator<Item = Key<'k>>) -> Hit<'_> {
        let entry = keys.into_iter().find_map(|key| self.entry_hit(key));
        entry.unwrap_or_else(|| self.miss())
    }

    /// Returns the hit for a sender, host or next hop: for the first of all its keys that has an entry.
    #[inline]
    #[must_use]
    pub fn find_all(&self, keys: &LookupKeys) -> Hit<'_> {
        let entry = keys.of_postfix().find_map(|key| self.entry_hit(key));
        entry.unwrap_or_else(|| {
            if self.kinds.has_wildcards() || !self.intended_keys.is_empty() {
                self.find_wildcard(keys)
            } else {
                self.miss()
            }
        })
    }

    /// Returns the hit for a sender that has no entry of its own, and whose domain has none.
    #[inline(never)]
    fn find_wildcard(&self, keys: &LookupKeys) -> Hit<'_> {
        if !self.intended_keys.is_empty() {
            return self.find(keys.parents().chain(keys.any_sender()));
        }
        let parent = self.kinds.find_parent(keys.labels(), |parent| {
            self.entry_hit(Key::of_subdomains(parent, keys.is_plain()))
        });
        parent.unwrap_or_else(|| {
            if self.kinds.has_any_sender() {
                self.find(keys.any_sender())
            } else {
                self.miss()
            }
        })
    }

    /// Returns the hit for this key. `None` if it has no entry, which need not be certain ([`Table::miss`]).
    #[inline]
    #[must_use]
    pub fn entry_hit(&self, key: Key<'_>) -> Option<Hit<'_>> {
        match self.entry(key) {
            None if self.intended_keys.is_empty() => None,
            None => self.intended_hit(key),
            Some((location, _))
                if !self.invalid_entries.is_empty() && self.invalid_entries.contains(&location) =>
            {
                Some(Hit::CannotTell(self.spec.invalid_entry))
            }
            Some((_, value)) if value::is_no_value(self.entries.format.values, value) => Some(Hit::NoValue),
            Some((_, value)) => Some(Hit::Value(value)),
        }
    }

    /// Returns the hit for a key without an entry that an entry may have intended.
    #[cold]
    fn intended_hit(&self, key: Key<'_>) -> Option<Hit<'_>> {
        let is_intended = self.intended_keys.contains(&key.to_vec());
        is_intended.then_some(Hit::CannotTell(self.spec.invalid_entry))
    }

    /// Whether the entries and [`Table::miss`] decide the hit for a key: no entry intended another key than it has.
    #[must_use]
    pub fn is_decided_by_entries(&self) -> bool {
        self.intended_keys.is_empty()
    }

    /// Returns why a miss is uncertain, if it is.
    #[must_use]
    pub fn uncertainty(&self) -> Option<Reason> {
        self.incomplete
    }

    /// Returns the hit for a key without an entry.
    #[must_use]
    pub fn miss(&self) -> Hit<'_> {
        self.incomplete.map_or(Hit::Absent, Hit::CannotTell)
    }

    /// Calls `handle` with the key, as written, of every entry in a block that `other` does not share. A key whose
    /// entry differs between the two tables is among those of one or the other.
    pub fn keys_not_shared_with(&self, other: &Self, mut handle: impl FnMut(&[u8])) {
        for block in self.blocks_not_shared_with(other) {
            Parser::new(self.entries.format, Path::new("")).parse_block(
                block,
                &mut Findings::default(),
                |record, _| handle(record.key),
            );
        }
    }

    /// Returns the bytes of text in blocks that `other` does not share.
    #[must_use]
    pub fn bytes_not_shared_with(&self, other: &Self) -> usize {
        self.blocks_not_shared_with(other).map(|block| block.len()).sum()
    }

    fn blocks_not_shared_with<'t>(&'t self, other: &Self) -> impl Iterator<Item = &'t Arc<Block>> {
        let shared: HashSet<*const Block> = other.blocks().map(Arc::as_ptr).collect();
        self.blocks()
            .filter(move |block| !shared.contains(&Arc::as_ptr(block)))
    }

    #[inline]
    fn entry(&self, key: Key<'_>) -> Option<(Location, &[u8])> {
        if !self.kinds.may_have(key) {
            return None;
        }
        let hash = self.index.hash(key);
        self.index
            .find(hash, |location| self.entries.value_if_key(location, key))
    }
}

#[cfg(test)]
mod tests;
