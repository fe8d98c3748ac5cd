//! Which kinds of keys a table has, so that a lookup skips keys that have no entry.
//!
//! Most tables have no entry for subdomains, and are not searched for any. In one that has some, each parent of the sender's
//! domain may have an entry, and nearly none has. So the table has a Bloom filter of the parents with entries, with one hash
//! function: a multiplication, where the hash of the index takes ten times as long. Before that it compares their lengths.
//!
//! The filter has [`BITS_PER_ENTRY`] bits for each entry that the index has room for, and is allocated with the first entry
//! for subdomains. Removed entries stay in both, which costs only time. When too many bits of the filter are set, the table is built from
//! its whole text ([`Kinds::is_full`]).
//!
//! Limits: parents that start with the same eight bytes and have the same length are one to the filter.

use std::io;

use crate::lookup::address::swar::{LANES, Lanes};
use crate::lookup::address::{Key, Scope};
use crate::os::whole_file::try_with_capacity;

/// The bits of the filter for each entry.
const BITS_PER_ENTRY: usize = 16;

/// One in so many bits may be set, and so one in so many parents without an entry is looked up.
const MIN_BITS_PER_SET_BIT: usize = 8;

/// The fewest entries that the filter is made for.
const MIN_ENTRIES: usize = 64;

const BITS_PER_WORD: usize = u64::BITS as usize;

/// The length from which parents are not told apart by it, in bytes: a name in ASCII has at most 255.
const LONG: usize = 256;

/// A key for the filter and the counts.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    scope: Scope,
    /// Of a key for subdomains.
    filter_hash: u64,
    length: usize,
}

impl Kind {
    pub(super) fn of(key: Key<'_>) -> Self {
        Self {
            scope: key.scope(),
            filter_hash: filter_hash(key.bytes()),
            length: key.bytes().len(),
        }
    }
}

/// Returns a hash of the first eight bytes and the length.
#[inline]
fn filter_hash(parent: &[u8]) -> u64 {
    let start = match parent.first_chunk() {
        Some(start) => u64::from_le_bytes(*start),
        None => parent.iter().fold(0, |word, c| word << 8 | u64::from(*c)),
    };
    let length = parent.len() as u64;
    // The constant of Fibonacci hashing: 2^64 divided by the golden ratio.
    (start ^ length << 56 ^ length).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The kinds of the keys of a table.
#[derive(Default)]
pub(super) struct Kinds {
    /// The number of entries for an address, a host or a next hop.
    single: usize,
    /// The number of entries for a domain.
    domains: usize,
    /// The number of entries for subdomains.
    subdomains: usize,
    /// Whether there is an entry for all senders.
    has_any_sender: bool,
    /// The lengths that entries for subdomains have or had, as bits.
    lengths: [u64; LONG / BITS_PER_WORD],
    filter: Vec<u64>,
    /// The number of bits that are set in the filter.
    set_bits: usize,
}

impl Kinds {
    /// Returns a copy. Fails if memory is short.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        let mut filter = try_with_capacity(self.filter.len())?;
        filter.extend_from_slice(&self.filter);
        Ok(Self { filter, ..*self })
    }

    /// Adds an entry of this kind to a table that can have `max_entries`. Fails if memory is short.
    pub(super) fn add(&mut self, kind: Kind, max_entries: usize) -> io::Result<()> {
        match kind.scope {
            Scope::Single => self.single += 1,
            Scope::Domain => self.domains += 1,
            Scope::AnySender => self.has_any_sender = true,
            Scope::Subdomains => {
                if self.filter.is_empty() {
                    let bits = max_entries.max(MIN_ENTRIES).saturating_mul(BITS_PER_ENTRY);
                    let words = bits.div_ceil(BITS_PER_WORD);
                    self.filter = try_with_capacity(words)?;
                    self.filter.resize(words, 0);
                }
                let (word, bit) = self.place(kind.filter_hash);
                if let Some(word) = self.filter.get_mut(word) {
                    self.set_bits += usize::from(*word & bit == 0);
                    *word |= bit;
                }
                if let Some(lengths) = self.lengths.get_mut(kind.length / BITS_PER_WORD) {
                    *lengths |= 1 << (kind.length % BITS_PER_WORD);
                }
                self.subdomains += 1;
            }
        }
        Ok(())
    }

    /// Removes an entry of this kind.
    pub(super) fn remove(&mut self, kind: Kind) {
        match kind.scope {
            Scope::Single => self.single -= 1,
            Scope::Domain => self.domains -= 1,
            Scope::AnySender => self.has_any_sender = false,
            Scope::Subdomains => self.subdomains -= 1,
        }
    }

    /// Hides the entry for all senders. Where a line cannot be read, it may be the entry of any sender that has no other.
    pub(super) fn hide_any_sender(&mut self) {
        self.has_any_sender = false;
    }

    /// Returns the numbers of entries of each kind.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize, usize, bool) {
        (self.single, self.domains, self.subdomains, self.has_any_sender)
    }

    /// Whether so many bits of the filter are set that it saves too little.
    pub(super) fn is_full(&self) -> bool {
        self.set_bits
            > self
                .filter
                .len()
                .saturating_mul(BITS_PER_WORD / MIN_BITS_PER_SET_BIT)
    }

    /// Whether there is an entry for subdomains or for all senders.
    #[inline]
    pub(super) fn has_wildcards(&self) -> bool {
        self.subdomains > 0 || self.has_any_sender
    }

    /// Whether there is an entry for all senders.
    #[inline]
    pub(super) fn has_any_sender(&self) -> bool {
        self.has_any_sender
    }

    /// Whether there may be an entry for `key`.
    #[inline]
    pub(super) fn may_have(&self, key: Key<'_>) -> bool {
        match key.scope() {
            Scope::Single => self.single > 0,
            Scope::Domain => self.domains > 0,
            Scope::AnySender => self.has_any_sender,
            Scope::Subdomains => self.subdomains > 0 && self.may_have_parent(key.bytes()),
        }
    }

    /// Returns the first result of `find` for a suffix of `labels` that starts with a dot and may have an entry for
    /// subdomains, from the longest to the shortest.
    #[inline]
    pub(super) fn find_parent<'l, T>(
        &self,
        labels: &'l [u8],
        mut find: impl FnMut(&'l [u8]) -> Option<T>,
    ) -> Option<T> {
        if self.subdomains == 0 {
            return None;
        }
        let (start, words) = labels.as_rchunks();
        for (at, c) in start.iter().enumerate() {
            if *c == b'.'
                && let Some(found) = self.candidate(labels, at).and_then(&mut find)
            {
                return Some(found);
            }
        }
        let mut word_at = start.len();
        for word in words {
            for lane in Lanes::of(*word, b'.') {
                if let Some(found) = self.candidate(labels, word_at + lane).and_then(&mut find) {
                    return Some(found);
                }
            }
            word_at += LANES;
        }
        None
    }

    /// Returns the parent that starts at `at`, if it may have an entry.
    #[inline]
    fn candidate<'l>(&self, labels: &'l [u8], at: usize) -> Option<&'l [u8]> {
        let parent = labels.get(at..)?;
        let of_length = self.lengths.get(parent.len() / BITS_PER_WORD);
        if of_length.is_some_and(|lengths| lengths >> (parent.len() % BITS_PER_WORD) & 1 == 0) {
            return None;
        }
        self.may_have_parent(parent).then_some(parent)
    }

    /// Whether this parent may have an entry, by the filter.
    #[inline]
    fn may_have_parent(&self, parent: &[u8]) -> bool {
        let (word, bit) = self.place(filter_hash(parent));
        self.filter.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Returns the word and the bit of a hash in the filter.
    #[inline]
    fn place(&self, hash: u64) -> (usize, u64) {
        // The position among the bits is that of the hash among all hashes.
        let bits = (self.filter.len() * BITS_PER_WORD) as u128;
        let position = usize::try_from((u128::from(hash) * bits) >> u64::BITS).unwrap_or_default();
        (position / BITS_PER_WORD, 1 << (position % BITS_PER_WORD))
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Kinds, MIN_ENTRIES};
    use crate::lookup::address::Key;

    #[test]
    fn a_parent_with_an_entry_is_never_skipped_and_few_without_one_are_looked_up() {
        let mut kinds = Kinds::default();
        let key = |number: usize| format!("@.{number}.customers.example").into_bytes();
        let absent = |number: usize| key(number + 1_000_000);
        for number in 0..10_000 {
            kinds.add(Kind::of(Key::from(&*key(number))), 10_000).unwrap();
        }
        assert!(!kinds.is_full());
        let may_have = |key: Vec<u8>| kinds.may_have(Key::from(&*key));
        assert!((0..10_000).all(|number| may_have(key(number))));
        let looked_up = (0..10_000).filter(|number| may_have(absent(*number))).count();
        assert!(looked_up < 2_000, "{looked_up}");
        for other in ["user@a.test", "@a.test", "@*", "relay.test"] {
            assert!(!may_have(other.into()), "{other}");
        }
    }

    #[test]
    fn a_filter_is_full_after_twice_as_many_other_entries_as_it_is_made_for() {
        let mut kinds = Kinds::default();
        let mut add_and_remove = |number: usize| {
            let key = format!("@.{number}.test").into_bytes();
            let kind = Kind::of(Key::from(&*key));
            kinds.add(kind, 1).unwrap();
            assert!(kinds.has_wildcards() && kinds.may_have(Key::from(&*key)));
            kinds.remove(kind);
            assert!(!kinds.has_wildcards() && !kinds.may_have(Key::from(&*key)));
            kinds.is_full()
        };
        // The same entry again sets no other bit.
        assert!((0..1000).all(|_| !add_and_remove(0)));
        assert!((1..=2 * MIN_ENTRIES).all(|number| !add_and_remove(number % (2 * MIN_ENTRIES))));
        assert!((0..3 * MIN_ENTRIES).any(|number| add_and_remove(1000 + number)));
    }
}
