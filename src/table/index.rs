//! The index of one table: which entry of the text has a key, found through one hash.
//!
//! The index holds nothing but the offset of each entry in the table's text, four bytes and a byte of the hash
//! each, so that a table needs little more memory than its file, whatever its size, and is wiped and dropped in
//! one stroke. A key is compared with the text itself.
//!
//! The hash is SipHash with a key of this process (`RandomState`): queries come from the network and keys from
//! files that customers may influence, so nobody shall be able to choose collisions.
//!
//! Limit: offsets have 32 bits, so that a text has up to 4 GiB.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Keys of entries, as the text has them.
pub(super) trait Keys {
    /// Whether the entry at `offset` has this key, which is folded.
    fn is(&self, offset: u32, key: &[u8]) -> bool;

    /// Calls `with` with the folded key of the entry at `offset`.
    fn with<T>(&self, offset: u32, with: impl FnOnce(&[u8]) -> T) -> T;
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

    /// The hash of a folded key.
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Adds the entry at `offset`, whose folded key has this hash. Where the key is there already, it stays as it is,
    /// and the offset of its entry is returned.
    pub(super) fn insert(&mut self, hash: u64, offset: u32, keys: &impl Keys) -> Result<(), u32> {
        let hasher = &self.hasher;
        let same = |other: &u32| keys.with(offset, |key| keys.is(*other, key));
        let rehash = |other: &u32| keys.with(*other, |key| hasher.hash_one(key));
        match self.offsets.entry(hash, same, rehash) {
            Entry::Occupied(first) => Err(*first.get()),
            Entry::Vacant(place) => {
                place.insert(offset);
                Ok(())
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
