//! One table: the text of a `.cf` file, judged and indexed.
//!
//! The table is the text itself, as it was read, and an index of it: no key is copied, a value that comes again stands
//! once ([`text::Block`]), and there is no other place in memory that holds a password. A lookup reads the one line that
//! the index points at, with the same grammar that judged it.
//!
//! A table says of a key: this value, nothing on purpose, a wrong entry, absent for certain, or absent as far as
//! could be read ([`Hit`]). What each means for mail is decided in [`crate::routes`].
//!
//! A table can be built from nothing or, after an edit, from the one before ([`Table::rebuild`]). Then only the blocks
//! of the text that changed are judged and indexed, if there is nothing to say about the table before and after: no
//! error, no warning, no key twice. Findings have line numbers, and which of two lines wins depends on their order,
//! so anything of that kind is worked out from the whole text.

mod block;
mod blocks;
pub mod edit;
pub mod grammar;
mod index;
pub mod text;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::address::{self, Delimiters, Key, SenderKeys};
use crate::answer::{Map, Reason};
use crate::diagnostic::{Finding, Findings, Position};
use crate::secret::Secret;
use blocks::{Blocks, Location};
use grammar::{Content, Format, Reader, Record};
use index::{Index, Keys};
use text::{Block, Text};

/// What a table says of a key.
#[derive(Clone, Copy)]
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
    map: Map,
    entries: Entries,
    index: Index,
    /// How many of the entries are for a domain. A table of nothing else, as most are, is not searched for an address.
    domains: usize,
    /// The entries that are wrong. There are few: a table with any is served only where there never was one without.
    faults: HashSet<Location>,
    /// Why a miss is not certain, where it is not.
    incomplete: Option<Reason>,
    findings: Findings,
}

/// A text in blocks, and the grammar by which to read it.
struct Entries {
    format: Format,
    blocks: Blocks,
}

impl Entries {
    /// The key of the entry there, as written, and its value.
    fn at(&self, location: Location) -> Option<(&[u8], &[u8])> {
        let (block, lines) = self.blocks.from(location)?;
        let (key, value) = grammar::entry_at(self.format, lines)?;
        Some((key, block.value(value)))
    }

    /// The value of the entry there, if it has this key.
    #[inline]
    fn with_key(&self, location: Location, key: Key<'_>) -> Option<&[u8]> {
        let (block, lines) = self.blocks.from(location)?;
        if let Some(rest) = grammar::behind_key(lines, key) {
            let value = block.value_behind_key(rest);
            if let Some(value) = value.or_else(|| grammar::value_behind(self.format, rest)) {
                return Some(value);
            }
        }
        let (written, value) = self.at(location)?;
        address::is_key_of(written, key.bytes()).then_some(value)
    }
}

impl Keys for Entries {
    fn is(&self, location: Location, key: &[u8]) -> bool {
        self.with_key(location, key.into()).is_some()
    }

    fn with<T>(&self, location: Location, with: impl FnOnce(&[u8]) -> T) -> T {
        let mut keys = SenderKeys::default();
        let written = self.at(location).map_or(&[][..], |(written, _)| written);
        keys.read(written, &Delimiters::default());
        with(keys.whole())
    }
}

/// A table that grows. Entries are put into the index in batches: each falls somewhere else in memory, and only
/// several in a row let the processor wait for all of them at once.
struct Builder<'a> {
    entries: &'a Entries,
    path: &'a Path,
    index: Index,
    domains: usize,
    faults: HashSet<Location>,
    /// An entry could not be located.
    is_too_large: bool,
    batch: Vec<Pending>,
    keys: SenderKeys,
    no_extension: Delimiters,
}

struct Pending {
    hash: u64,
    location: Location,
    position: Position,
    is_domain: bool,
    is_fault: bool,
}

impl<'a> Builder<'a> {
    const BATCH: usize = 256;

    fn new(entries: &'a Entries, path: &'a Path, index: Index, domains: usize) -> Self {
        Self {
            entries,
            path,
            index,
            domains,
            faults: HashSet::new(),
            is_too_large: false,
            batch: Vec::with_capacity(Self::BATCH),
            keys: SenderKeys::default(),
            no_extension: Delimiters::default(),
        }
    }

    /// The hash of a key as written, and whether it is for a domain.
    fn hash(&mut self, key: &[u8]) -> (u64, bool) {
        self.keys.read(key, &self.no_extension);
        let key = self.keys.whole_key();
        (self.index.hash(key.bytes()), key.is_domain())
    }

    /// Takes an entry of the block with this number.
    fn take(&mut self, block: u32, record: &Record<'_>, findings: &mut Findings) {
        let Some(location) = Location::new(block, record.offset) else {
            self.is_too_large = true;
            return;
        };
        let (hash, is_domain) = self.hash(record.key);
        self.batch.push(Pending {
            hash,
            location,
            position: record.position,
            is_domain,
            is_fault: matches!(record.content, Content::Fault),
        });
        if self.batch.len() == Self::BATCH {
            self.flush(findings);
        }
    }

    fn flush(&mut self, findings: &mut Findings) {
        for pending in self.batch.drain(..) {
            match self.index.insert(pending.hash, pending.location, self.entries) {
                Ok(()) => {
                    self.domains += usize::from(pending.is_domain);
                    if pending.is_fault {
                        self.faults.insert(pending.location);
                    }
                }
                Err(first) => findings.push_with(
                    Finding::warning("duplicate-key", self.path, pending.position)
                        .help("remove one of the two lines"),
                    || {
                        let first = self.entries.blocks.line(first);
                        format!("line {first} has this key already, and the first wins")
                    },
                ),
            }
        }
    }
}

/// The grammar of a map's file.
#[must_use]
pub fn format(map: Map) -> Format {
    match map {
        Map::Relayhost => Format::RelayMap,
        Map::Sasl => Format::Credentials,
    }
}

impl Table {
    /// The table of a file that is not there: empty, for certain.
    #[must_use]
    pub fn empty(map: Map) -> Self {
        Self {
            map,
            entries: Entries {
                format: format(map),
                blocks: Blocks::default(),
            },
            index: Index::default(),
            domains: 0,
            faults: HashSet::new(),
            incomplete: None,
            findings: Findings::default(),
        }
    }

    /// The table of a file that cannot be read, for this reason: nothing is certain.
    #[must_use]
    pub fn unreadable(map: Map, reason: Reason) -> Self {
        Self {
            incomplete: Some(reason),
            ..Self::empty(map)
        }
    }

    /// Builds the table of `map` from the text of the file `path`.
    pub fn build(map: Map, path: &Path, text: Secret, findings: &mut Findings) -> Self {
        let table = Self::of(map, path, &Text::from(text));
        findings.append(&table.findings);
        table
    }

    /// The table of `map` for the text of the file `path`, of which `previous` is the table before an edit.
    #[must_use]
    pub fn rebuild(previous: Option<&Arc<Self>>, map: Map, path: &Path, text: &Text) -> Arc<Self> {
        // Nothing that could not be read is the table of a text.
        let previous = previous.filter(|table| table.map == map && table.incomplete.is_none());
        match previous {
            Some(table) if table.entries.blocks.are(text) => Arc::clone(table),
            Some(table) => Arc::new(
                table
                    .edited(path, text)
                    .unwrap_or_else(|| Self::of(map, path, text)),
            ),
            None => Arc::new(Self::of(map, path, text)),
        }
    }

    fn of(map: Map, path: &Path, text: &Text) -> Self {
        let entries = Entries {
            format: format(map),
            blocks: Blocks::of(text),
        };
        let lines: usize = text.blocks().iter().map(|block| block.newlines()).sum();
        let mut findings = Findings::default();
        let mut reader = Reader::new(entries.format, path);
        let mut builder = Builder::new(&entries, path, Index::with_capacity(lines + 1), 0);
        for (number, block) in entries.blocks.in_order() {
            reader.read(
                block.lines(),
                |value| block.behind_first_blank(value),
                &mut findings,
                |record, findings| {
                    builder.take(number, &record, findings);
                },
            );
        }
        builder.flush(&mut findings);
        let mut incomplete = reader
            .reading()
            .keys_unreadable
            .then_some(Reason::LineWithoutKey(map));
        if builder.is_too_large {
            incomplete = Some(Reason::FileUnreadable(map));
            findings.push(
                Finding::error("file-too-large", path, None)
                    .says("the file has more lines than can be indexed")
                    .help("split it between several servers"),
            );
        }
        let Builder {
            index,
            domains,
            faults,
            ..
        } = builder;
        Self {
            map,
            entries,
            index,
            domains,
            faults,
            incomplete,
            findings,
        }
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
        let mut builder = Builder::new(&entries, path, self.index.clone(), self.domains);
        let mut findings = Findings::default();
        let mut all_removed = true;
        for (number, block) in &edit.removed {
            Reader::new(format, path).read(
                block.lines(),
                |value| block.behind_first_blank(value),
                &mut findings,
                |record, _| {
                    let (hash, is_domain) = builder.hash(record.key);
                    let location = Location::new(*number, record.offset);
                    all_removed &=
                        location.is_some_and(|location| builder.index.remove(hash, location, &self.entries));
                    builder.domains = builder.domains.saturating_sub(usize::from(is_domain));
                },
            );
        }
        for number in edit.added {
            let block = entries.blocks.block(number)?;
            Reader::new(format, path).read(
                block.lines(),
                |value| block.behind_first_blank(value),
                &mut findings,
                |record, findings| {
                    builder.take(number, &record, findings);
                },
            );
        }
        builder.flush(&mut findings);
        let begins = text.blocks().first().map(|block| block.lines());
        let is_sound = all_removed
            && !builder.is_too_large
            && findings.is_empty()
            && !begins.is_some_and(grammar::begins_with_byte_order_mark);
        let Builder {
            mut index, domains, ..
        } = builder;
        index.shrink(&entries);
        is_sound.then(|| Self {
            map: self.map,
            entries,
            index,
            domains,
            faults: HashSet::new(),
            incomplete: None,
            findings,
        })
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
            reader.read(
                block.lines(),
                |value| block.behind_first_blank(value),
                &mut Findings::default(),
                |record, _| take(record),
            );
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
            grammar::without_byte_order_mark(line)
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
        match keys.into_iter().find_map(|key| self.entry(key)) {
            None => self.incomplete.map_or(Hit::Absent, Hit::Unsure),
            Some((location, _)) if !self.faults.is_empty() && self.faults.contains(&location) => {
                Hit::Unsure(Reason::EntryWithError(self.map))
            }
            Some((_, value)) if grammar::is_nothing(self.entries.format, value) => Hit::Nothing,
            Some((_, value)) => Hit::Value(value),
        }
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
