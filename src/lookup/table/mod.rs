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
use grammar::{Parser, Record};
use index::Index;
use spec::TableSpec;
use text::{Block, Text};

/// What a table says of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hit<'a> {
    /// An entry with this value.
    Value(&'a [u8]),
    /// An entry without value, on purpose.
    NoValue,
    /// No entry, for certain.
    Absent,
    /// An entry that is wrong, or no entry in a table that could not be read whole.
    CannotTell(Reason),
}

/// A table, immutable once built.
pub struct Table {
    spec: &'static TableSpec,
    entries: Entries,
    index: Index,
    /// How many of the entries are for a domain. A table of nothing else, as most are, is not searched for an address.
    domains: usize,
    /// The entries that are wrong. There are few: a table with any is served only where there never was one without.
    invalid_entries: HashSet<Location>,
    /// Folded keys for which an entry was surely intended_keys that is for no sender (`@@example.com`), where *not found* would
    /// make Postfix send without authenticating.
    intended_keys: HashSet<Vec<u8>>,
    /// Why a miss is not certain, where it is not.
    miss_reason: Option<Reason>,
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
            invalid_entries: HashSet::new(),
            intended_keys: HashSet::new(),
            miss_reason: None,
            findings: Findings::default(),
        }
    }

    /// The table of a file that cannot be read: nothing is certain.
    #[must_use]
    pub fn unreadable(spec: &'static TableSpec) -> Self {
        Self {
            miss_reason: Some(spec.unreadable),
            ..Self::empty(spec)
        }
    }

    /// Builds the table of this kind from the text of the file `path`.
    pub fn build(spec: &'static TableSpec, path: &Path, text: Secret, findings: &mut Findings) -> Self {
        let read = Text::read(&mut text.expose(), text.len(), &[], &RandomState::new());
        // The blocks are a copy.
        drop(text);
        let table = match read {
            Ok(text) => Self::from_text(spec, path, &text),
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
        let previous = previous.filter(|table| table.spec == spec && table.miss_reason.is_none());
        match previous {
            Some(table) if table.entries.blocks.matches(text) => Arc::clone(table),
            Some(table) => Arc::new(
                table
                    .apply_edit(path, text)
                    .unwrap_or_else(|| Self::from_text(spec, path, text)),
            ),
            None => Arc::new(Self::from_text(spec, path, text)),
        }
    }

    fn from_text(spec: &'static TableSpec, path: &Path, text: &Text) -> Self {
        let entries = Entries {
            format: spec.format,
            blocks: Blocks::from_text(text),
        };
        let most: usize = text.blocks().iter().map(|block| block.max_entries()).sum();
        let mut findings = Findings::default();
        let index = match Index::with_capacity(most) {
            Ok(index) => index,
            Err(error) => return Self::without_memory(spec, path, &error),
        };
        let mut parser = Parser::new(entries.format, path);
        let mut builder = Builder::new(&entries, path, index, 0);
        for (number, block) in entries.blocks.in_order() {
            parser.parse_block(block, &mut findings, |record, findings| {
                builder.insert(number, &record, findings);
            });
        }
        builder.flush(&mut findings);
        if let Some(error) = &builder.out_of_memory {
            return Self::without_memory(spec, path, error);
        }
        let mut miss_reason = parser
            .summary()
            .has_unreadable_keys
            .then_some(spec.unparsable_key);
        if builder.is_too_large {
            miss_reason = Some(spec.unreadable);
            findings.push(
                Finding::in_file(Code::FileTooLarge, path, None)
                    .says("the file has more lines than can be indexed")
                    .help("split it between several servers"),
            );
        }
        let Builder {
            index,
            domains,
            invalid_entries,
            intended_keys,
            ..
        } = builder;
        Self {
            spec,
            entries,
            index,
            domains,
            invalid_entries,
            intended_keys,
            miss_reason,
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
    fn apply_edit(&self, path: &Path, text: &Text) -> Option<Self> {
        if !self.findings.is_empty() {
            return None;
        }
        let diff = self.entries.blocks.diff(text)?;
        let format = self.entries.format;
        let entries = Entries {
            format,
            blocks: diff.blocks,
        };
        let mut builder = Builder::new(&entries, path, self.index.try_clone().ok()?, self.domains);
        let mut findings = Findings::default();
        let mut all_removed = true;
        for (number, block) in &diff.removed {
            Parser::new(format, path).parse_block(block, &mut findings, |record, _| {
                all_removed &= builder.remove(*number, &record, &self.entries);
            });
        }
        for number in diff.added {
            let block = entries.blocks.block(number)?;
            Parser::new(format, path).parse_block(block, &mut findings, |record, findings| {
                builder.insert(number, &record, findings);
            });
        }
        builder.flush(&mut findings);
        let first_lines = text.blocks().first().map(|block| block.lines());
        let is_clean = all_removed
            && !builder.is_too_large
            && builder.out_of_memory.is_none()
            && findings.is_empty()
            && !first_lines.is_some_and(line::begins_with_byte_order_mark);
        let Builder {
            mut index, domains, ..
        } = builder;
        index.shrink(&entries);
        is_clean.then(|| Self {
            spec: self.spec,
            entries,
            index,
            domains,
            invalid_entries: HashSet::new(),
            intended_keys: HashSet::new(),
            miss_reason: None,
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
    pub fn is_complete(&self) -> bool {
        self.miss_reason.is_none()
    }

    /// Whether there is no entry, and it is certain that there is none.
    #[must_use]
    pub fn is_certainly_empty(&self) -> bool {
        self.is_empty() && self.is_complete()
    }

    /// Hands every entry to `take`, in the order of the file.
    pub fn for_each(&self, mut handle: impl FnMut(Record<'_>)) {
        let mut parser = Parser::new(self.entries.format, Path::new(""));
        for (_, block) in self.entries.blocks.in_order() {
            // What is wrong was found when the table was built.
            parser.parse_block(block, &mut Findings::default(), |record, _| handle(record));
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

    /// What the table says of a key that has no entry, and for which one may have been intended_keys.
    #[cold]
    fn intended_hit(&self, key: Key<'_>) -> Option<Hit<'_>> {
        let is_intended = self.intended_keys.contains(key.bytes());
        is_intended.then_some(Hit::CannotTell(self.spec.invalid_entry))
    }

    /// Whether the entries alone decide what the table says of a key: every line could be read, and none was intended_keys for
    /// another key than it has.
    #[must_use]
    pub fn is_decided_by_entries(&self) -> bool {
        self.is_complete() && self.intended_keys.is_empty()
    }

    /// What the table says of a key without an entry.
    #[must_use]
    pub fn miss(&self) -> Hit<'_> {
        self.miss_reason.map_or(Hit::Absent, Hit::CannotTell)
    }

    /// Hands the key of every entry to `take`, as written, that stands in a block of text which `other` does not share.
    /// A key whose entry differs between the two tables is among those of the one or of the other.
    pub fn keys_not_shared_with(&self, other: &Self, mut handle: impl FnMut(&[u8])) {
        for block in self.blocks_not_shared_with(other) {
            Parser::new(self.entries.format, Path::new("")).parse_block(
                block,
                &mut Findings::default(),
                |record, _| handle(record.key),
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
        let of_same_kind = if key.is_domain() {
            self.domains
        } else {
            self.len() - self.domains
        };
        if of_same_kind == 0 {
            return None;
        }
        let hash = self.index.hash(key.bytes());
        self.index
            .find(hash, |location| self.entries.value_if_key(location, key))
    }
}

#[cfg(test)]
mod tests;
