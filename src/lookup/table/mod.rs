//! One table: the text of a `.cf` file, judged and indexed.
//!
//! The table is the text itself, as it was read, and an index of it: no key is copied, a value that comes again stands
//! once ([`text::Block`]), and there is no other place in memory that holds a password. A lookup reads the one line that
//! the index points at, with the same grammar that judged it.
//!
//! A table says of a key: this value, nothing on purpose, a wrong entry, absent for certain, or absent as far as
//! could be read ([`Hit`]). What each means for mail is decided in [`crate::lookup::routing`].
//!
//! A table can be built from nothing or, after an edit, from the one before ([`Table::rebuild`]). Then only the blocks
//! of the text that changed are judged and indexed, if there is nothing to say about the table before and after: no
//! error, no warning, no key twice. Findings have line numbers, and which of two lines wins depends on their order,
//! so anything of that kind is worked out from the whole text.

mod block;
mod blocks;
mod builder;
pub mod edit;
mod entries;
pub mod grammar;
mod index;
pub(crate) mod key;
pub mod line;
pub mod spec;
pub mod text;
mod value;

use std::collections::HashSet;
use std::hash::RandomState;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::diagnostics::{Code, Finding, Findings};
use crate::lookup::address::Key;
use crate::os::secret::Secret;
use crate::protocol::answer::Reason;
use blocks::{Blocks, Location};
use builder::Builder;
use entries::Entries;
use grammar::{Reader, Record};
use index::Index;
use spec::TableSpec;
use text::{Block, Text};

/// What a table says of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hit<'a> {
    /// An entry with this value.
    Value(&'a [u8]),
    /// An entry without value, on purpose.
    Nothing,
    /// No entry, for certain.
    Absent,
    /// An entry that is wrong, or no entry in a table that could not be read whole.
    Unsure(Reason),
}

/// A table, immutable once built.
pub struct Table {
    spec: &'static TableSpec,
    entries: Entries,
    index: Index,
    /// How many of the entries are for a domain. A table of nothing else, as most are, is not searched for an address.
    domains: usize,
    /// The entries that are wrong. There are few: a table with any is served only where there never was one without.
    faults: HashSet<Location>,
    /// Folded keys for which an entry was surely meant that is for no sender (`@@example.com`), where *not found* would
    /// make Postfix send without authenticating.
    meant: HashSet<Vec<u8>>,
    /// Why a miss is not certain, where it is not.
    incomplete: Option<Reason>,
    findings: Findings,
}

impl Table {
    /// The table of a file that is not there: empty, for certain.
    #[must_use]
    pub fn empty(spec: &'static TableSpec) -> Self {
        Self {
            spec,
            entries: Entries {
                format: spec.format,
                blocks: Blocks::default(),
            },
            index: Index::default(),
            domains: 0,
            faults: HashSet::new(),
            meant: HashSet::new(),
            incomplete: None,
            findings: Findings::default(),
        }
    }

    /// The table of a file that cannot be read: nothing is certain.
    #[must_use]
    pub fn unreadable(spec: &'static TableSpec) -> Self {
        Self {
            incomplete: Some(spec.unreadable),
            ..Self::empty(spec)
        }
    }

    /// Builds the table of this kind from the text of the file `path`.
    pub fn build(spec: &'static TableSpec, path: &Path, text: Secret, findings: &mut Findings) -> Self {
        let read = Text::read(&mut text.expose(), text.len(), &[], &RandomState::new());
        // The blocks are a copy.
        drop(text);
        let table = match read {
            Ok(text) => Self::of(spec, path, &text),
            Err(error) => Self::without_memory(spec, path, &error),
        };
        findings.append(&table.findings);
        table
    }

    /// The table of this kind for the text of the file `path`, of which `previous` is the table before an edit.
    #[must_use]
    pub fn rebuild(
        previous: Option<&Arc<Self>>,
        spec: &'static TableSpec,
        path: &Path,
        text: &Text,
    ) -> Arc<Self> {
        // Nothing that could not be read is the table of a text.
        let previous = previous.filter(|table| table.spec == spec && table.incomplete.is_none());
        match previous {
            Some(table) if table.entries.blocks.are(text) => Arc::clone(table),
            Some(table) => Arc::new(
                table
                    .edited(path, text)
                    .unwrap_or_else(|| Self::of(spec, path, text)),
            ),
            None => Arc::new(Self::of(spec, path, text)),
        }
    }

    fn of(spec: &'static TableSpec, path: &Path, text: &Text) -> Self {
        let entries = Entries {
            format: spec.format,
            blocks: Blocks::of(text),
        };
        let most: usize = text.blocks().iter().map(|block| block.entries()).sum();
        let mut findings = Findings::default();
        let index = match Index::with_capacity(most) {
            Ok(index) => index,
            Err(error) => return Self::without_memory(spec, path, &error),
        };
        let mut reader = Reader::new(entries.format, path);
        let mut builder = Builder::new(&entries, path, index, 0);
        for (number, block) in entries.blocks.in_order() {
            reader.read_block(block, &mut findings, |record, findings| {
                builder.take(number, &record, findings);
            });
        }
        builder.flush(&mut findings);
        if let Some(error) = &builder.failed {
            return Self::without_memory(spec, path, error);
        }
        let mut incomplete = reader.reading().keys_unreadable.then_some(spec.unparsable_key);
        if builder.is_too_large {
            incomplete = Some(spec.unreadable);
            findings.push(
                Finding::in_file(Code::FileTooLarge, path, None)
                    .says("the file has more lines than can be indexed")
                    .help("split it between several servers"),
            );
        }
        let Builder {
            index,
            domains,
            faults,
            meant,
            ..
        } = builder;
        Self {
            spec,
            entries,
            index,
            domains,
            faults,
            meant,
            incomplete,
            findings,
        }
    }

    /// The table of a file for whose index there is no memory.
    fn without_memory(spec: &'static TableSpec, path: &Path, error: &io::Error) -> Self {
        let mut table = Self::unreadable(spec);
        table.findings.push(
            Finding::in_file(Code::FileUnreadable, path, None)
                .says(format!("the {} map cannot be read: {error}", spec.label))
                .help("make the file smaller, or give the server more memory"),
        );
        table
    }

    /// The table after an edit that made this text of its own. `None` where that has to be worked out from the whole
    /// text.
    fn edited(&self, path: &Path, text: &Text) -> Option<Self> {
        if !self.findings.is_empty() {
            return None;
        }
        let edit = self.entries.blocks.edit(text)?;
        let format = self.entries.format;
        let entries = Entries {
            format,
            blocks: edit.blocks,
        };
        let mut builder = Builder::new(&entries, path, self.index.try_clone().ok()?, self.domains);
        let mut findings = Findings::default();
        let mut all_removed = true;
        for (number, block) in &edit.removed {
            Reader::new(format, path).read_block(block, &mut findings, |record, _| {
                all_removed &= builder.remove(*number, &record, &self.entries);
            });
        }
        for number in edit.added {
            let block = entries.blocks.block(number)?;
            Reader::new(format, path).read_block(block, &mut findings, |record, findings| {
                builder.take(number, &record, findings);
            });
        }
        builder.flush(&mut findings);
        let begins = text.blocks().first().map(|block| block.lines());
        let is_sound = all_removed
            && !builder.is_too_large
            && builder.failed.is_none()
            && findings.is_empty()
            && !begins.is_some_and(line::begins_with_byte_order_mark);
        let Builder {
            mut index, domains, ..
        } = builder;
        index.shrink(&entries);
        is_sound.then(|| Self {
            spec: self.spec,
            entries,
            index,
            domains,
            faults: HashSet::new(),
            meant: HashSet::new(),
            incomplete: None,
            findings,
        })
    }

    /// What kind of table this is.
    #[must_use]
    pub fn spec(&self) -> &'static TableSpec {
        self.spec
    }

    /// What is to be said about the file.
    #[must_use]
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// The blocks of the text, in order.
    pub fn blocks(&self) -> impl Iterator<Item = &Arc<Block>> {
        self.entries.blocks.in_order().map(|(_, block)| block)
    }

    /// How many entries there are, those without a value and those with an error included.
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
    pub fn is_whole(&self) -> bool {
        self.incomplete.is_none()
    }

    /// Whether there is no entry, and it is certain that there is none.
    #[must_use]
    pub fn is_empty_for_certain(&self) -> bool {
        self.is_empty() && self.is_whole()
    }

    /// Hands every entry to `take`, in the order of the file.
    pub fn each(&self, mut take: impl FnMut(Record<'_>)) {
        let mut reader = Reader::new(self.entries.format, Path::new(""));
        for (_, block) in self.entries.blocks.in_order() {
            // What is wrong was found when the table was built.
            reader.read_block(block, &mut Findings::default(), |record, _| take(record));
        }
    }

    /// The text of a line, counted from 1, without its end and without the byte order mark of the file.
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

    /// Which of these keys is the first that has an entry, counted from 0, and the line of that entry.
    pub fn locate<'k>(&self, keys: impl IntoIterator<Item = Key<'k>>) -> Option<(usize, usize)> {
        let mut keys = keys.into_iter().enumerate();
        keys.find_map(|(number, key)| {
            let (location, _) = self.entry(key)?;
            Some((number, self.entries.blocks.line(location)))
        })
    }

    /// What the table says of the first of these keys that it has.
    pub fn find<'k>(&self, keys: impl IntoIterator<Item = Key<'k>>) -> Hit<'_> {
        let entry = keys.into_iter().find_map(|key| self.entry_hit(key));
        entry.unwrap_or_else(|| self.miss())
    }

    /// What the entry of this key says. `None` if there is no such entry, which need not be certain ([`Table::miss`]).
    #[inline]
    #[must_use]
    pub fn entry_hit(&self, key: Key<'_>) -> Option<Hit<'_>> {
        match self.entry(key) {
            None if self.meant.is_empty() => None,
            None => self.meant_hit(key),
            Some((location, _)) if !self.faults.is_empty() && self.faults.contains(&location) => {
                Some(Hit::Unsure(self.spec.invalid_entry))
            }
            Some((_, value)) if value::is_nothing(self.entries.format.values, value) => Some(Hit::Nothing),
            Some((_, value)) => Some(Hit::Value(value)),
        }
    }

    /// What the table says of a key that has no entry, and for which one may have been meant.
    #[cold]
    fn meant_hit(&self, key: Key<'_>) -> Option<Hit<'_>> {
        let is_meant = self.meant.contains(key.bytes());
        is_meant.then_some(Hit::Unsure(self.spec.invalid_entry))
    }

    /// Whether the entries alone decide what the table says of a key: every line could be read, and none was meant for
    /// another key than it has.
    #[must_use]
    pub fn is_told_by_its_entries(&self) -> bool {
        self.is_whole() && self.meant.is_empty()
    }

    /// What the table says of a key without an entry.
    #[must_use]
    pub fn miss(&self) -> Hit<'_> {
        self.incomplete.map_or(Hit::Absent, Hit::Unsure)
    }

    /// Hands the key of every entry to `take`, as written, that stands in a block of text which `other` does not share.
    /// A key whose entry differs between the two tables is among those of the one or of the other.
    pub fn keys_not_shared_with(&self, other: &Self, mut take: impl FnMut(&[u8])) {
        for block in self.blocks_not_shared_with(other) {
            Reader::new(self.entries.format, Path::new("")).read_block(
                block,
                &mut Findings::default(),
                |record, _| take(record.key),
            );
        }
    }

    /// How many bytes of text this table has that `other` does not share.
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
        let like_it = if key.is_domain() {
            self.domains
        } else {
            self.len() - self.domains
        };
        if like_it == 0 {
            return None;
        }
        let hash = self.index.hash(key.bytes());
        self.index
            .find(hash, |location| self.entries.with_key(location, key))
    }
}

#[cfg(test)]
mod tests;
