//! Builds the index of a table entry by entry: from nothing, or from the table before an edit.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use super::blocks::Location;
use super::distinct_values::DistinctValues;
use super::entries::Entries;
use super::grammar::{Content, Record};
use super::index::Index;
use super::key;
use super::kinds::{Kind, Kinds};
use super::spec::ValueKind;
use crate::diagnostics::{Code, Finding, Findings, Position};
use crate::lookup::address::{Delimiters, LookupKeys};

/// The index under construction, and the counts that belong to it. Entries are inserted in batches: each hits another
/// cache line, and only independent inserts in a row let the processor overlap these cache misses.
pub(super) struct Builder<'a> {
    entries: &'a Entries,
    path: &'a Path,
    pub(super) index: Index,
    pub(super) kinds: Kinds,
    pub(super) invalid_entries: HashSet<Location>,
    /// The next hops, if the values are next hops.
    pub(super) next_hops: DistinctValues,
    /// See [`super::Table`].
    pub(super) intended_keys: HashSet<Vec<u8>>,
    /// Whether an entry was out of range for a location.
    pub(super) is_too_large: bool,
    /// The error of the last failed allocation.
    pub(super) out_of_memory: Option<io::Error>,
    batch: Vec<Pending>,
    keys: LookupKeys,
    no_extension: Delimiters,
}

struct Pending {
    hash: u64,
    location: Location,
    position: Position,
    kind: Kind,
    is_invalid: bool,
}

impl<'a> Builder<'a> {
    const BATCH: usize = 256;

    /// Starts from nothing, or from the index, the kinds of keys and the next hops of the table before an edit.
    pub(super) fn new(
        entries: &'a Entries,
        path: &'a Path,
        index: Index,
        kinds: Kinds,
        next_hops: DistinctValues,
    ) -> Self {
        Self {
            entries,
            path,
            index,
            kinds,
            next_hops,
            invalid_entries: HashSet::new(),
            intended_keys: HashSet::new(),
            is_too_large: false,
            out_of_memory: None,
            batch: Vec::with_capacity(Self::BATCH),
            keys: LookupKeys::default(),
            no_extension: Delimiters::default(),
        }
    }

    /// Returns the hash of a key as written, and its kind.
    fn hash(&mut self, key: &[u8]) -> (u64, Kind) {
        self.keys.parse(key, &self.no_extension);
        let key = self.keys.whole_key();
        (self.index.hash(key), Kind::of(key))
    }

    /// Returns the next hop of an entry, if it has one.
    fn next_hop<'r>(&self, record: &Record<'r>) -> Option<&'r [u8]> {
        match record.content {
            Content::Value(value) if self.entries.format.values == ValueKind::NextHop => Some(value),
            _ => None,
        }
    }

    /// Inserts an entry of the block with this number.
    pub(super) fn insert(&mut self, block: u32, record: &Record<'_>, findings: &mut Findings) {
        let Some(location) = Location::new(block, record.offset) else {
            self.is_too_large = true;
            return;
        };
        if let Some(key) = key::intended_key(self.entries.format, record.key) {
            self.keys.parse(key, &self.no_extension);
            self.intended_keys.insert(self.keys.whole().to_vec());
        }
        if let Some(next_hop) = self.next_hop(record) {
            self.next_hops.add(next_hop);
        }
        let (hash, kind) = self.hash(record.key);
        self.batch.push(Pending {
            hash,
            location,
            position: record.position,
            kind,
            is_invalid: matches!(record.content, Content::Invalid),
        });
        if self.batch.len() == Self::BATCH {
            self.flush(findings);
        }
    }

    /// Removes an entry of the block with this number, one of `before`. Returns whether it was indexed.
    pub(super) fn remove(&mut self, block: u32, record: &Record<'_>, before: &Entries) -> bool {
        if let Some(next_hop) = self.next_hop(record) {
            self.next_hops.remove(next_hop);
        }
        let (hash, kind) = self.hash(record.key);
        let location = Location::new(block, record.offset);
        let was_there = location.is_some_and(|location| self.index.remove(hash, location, before));
        if was_there {
            self.kinds.remove(kind);
        }
        was_there
    }

    /// Moves the batch into the index.
    pub(super) fn flush(&mut self, findings: &mut Findings) {
        for pending in self.batch.drain(..) {
            let inserted = match self.index.insert(pending.hash, pending.location, self.entries) {
                Ok(inserted) => inserted,
                Err(error) => {
                    self.out_of_memory = Some(error);
                    continue;
                }
            };
            match inserted {
                Ok(()) => {
                    if let Err(error) = self.kinds.add(pending.kind, self.index.max_entries()) {
                        self.out_of_memory = Some(error);
                    }
                    if pending.is_invalid {
                        self.invalid_entries.insert(pending.location);
                    }
                }
                Err(first) => findings.push_with(
                    Finding::in_file(Code::DuplicateKey, self.path, pending.position)
                        .help("remove one of the two lines"),
                    || {
                        let first = self.entries.blocks.line(first);
                        format!("line {first} already has this key, and the first entry takes effect")
                    },
                ),
            }
        }
    }
}
