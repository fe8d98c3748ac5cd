//! The index of one table: which entry of the text has a key, found through one hash.
//!
//! The index holds nothing but the offset of each entry in the table's text, four bytes and a byte of the hash
//! each, so that a table needs little more memory than its file, whatever its size, and is wiped and dropped in
//! one stroke. A key is compared with the text itself.
//!
//! The hash is SipHash with a key of this process (`RandomState`): queries come from the network and keys from
//! files that customers may influence, so nobody shall be able to choose collisions.
//!
//! Limit: offsets have 32 bits, so that a text has up to 4 GiB. What lies beyond is refused ([`Insertion::Beyond`]).

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Insertion {
    /// It is in.
    Done,
    /// The key is there already, at this offset, and stays as it is.
    Duplicate(u32),
    /// It begins where no offset reaches.
    Beyond,
}

/// Keys of entries, as the text has them.
pub(super) trait Keys {
    /// Whether the entry at `offset` has this key, which is folded.
    fn is(&self, offset: u32, key: &[u8]) -> bool;

    /// Hands the folded key of the entry at `offset` to `hash`.
    fn hash(&self, offset: u32, hash: &dyn Fn(&[u8]) -> u64) -> u64;
}

/// The index.
#[derive(Default)]
pub(super) struct Index {
    offsets: HashTable<u32>,
    hasher: RandomState,
}

impl Index {
    /// An index with room for this many entries.
    pub(super) fn with_capacity(entries: usize) -> Self {
        Self {
            offsets: HashTable::with_capacity(entries),
            hasher: RandomState::new(),
        }
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Adds the entry at `offset`, whose folded key is `key`.
    pub(super) fn insert(&mut self, key: &[u8], offset: usize, keys: &impl Keys) -> Insertion {
        let Ok(offset) = u32::try_from(offset) else {
            return Insertion::Beyond;
        };
        let hasher = &self.hasher;
        let rehash = |other: &u32| keys.hash(*other, &|key| hasher.hash_one(key));
        match self
            .offsets
            .entry(hasher.hash_one(key), |other| keys.is(*other, key), rehash)
        {
            Entry::Occupied(first) => Insertion::Duplicate(*first.get()),
            Entry::Vacant(place) => {
                place.insert(offset);
                Insertion::Done
            }
        }
    }

    /// The offset of the entry that has this folded key.
    pub(super) fn find(&self, key: &[u8], keys: &impl Keys) -> Option<u32> {
        self.offsets
            .find(self.hasher.hash_one(key), |offset| keys.is(*offset, key))
            .copied()
    }
}
