//! The index of one table: which entry of the text has a key, found through one hash.
//!
//! The index holds nothing but the location of each entry in the table's text, four bytes and a byte of the hash
//! each, so that a table needs little more memory than its file, whatever its size, and is dropped in one stroke. A
//! key is compared with the text itself.
//!
//! The hash is SipHash-1-3 with a key of chance (from `RandomState`): queries come from the network and keys from
//! files that customers may influence, so nobody shall be able to choose collisions.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::{Entry, OccupiedEntry};
use siphasher::sip::SipHasher13;

use super::blocks::Location;

/// Keys of entries, as the text has them.
pub(super) trait Keys {
    /// Whether the entry at `location` has this key, which is folded.
    fn is(&self, location: Location, key: &[u8]) -> bool;

    /// Calls `with` with the folded key of the entry at `location`.
    fn with<T>(&self, location: Location, with: impl FnOnce(&[u8]) -> T) -> T;
}

/// The index.
#[derive(Clone)]
pub(super) struct Index {
    locations: HashTable<Location>,
    hasher: SipHasher13,
}

impl Default for Index {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl Index {
    /// An index with room for this many entries.
    pub(super) fn with_capacity(entries: usize) -> Self {
        Self {
            locations: HashTable::with_capacity(entries),
            hasher: keyed(),
        }
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.locations.len()
    }

    /// The hash of a folded key.
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash(key)
    }

    /// Adds the entry at `location`, whose folded key has this hash. Where the key is there already, it stays as it is,
    /// and the location of its entry is returned.
    pub(super) fn insert(&mut self, hash: u64, location: Location, keys: &impl Keys) -> Result<(), Location> {
        let same = |other: &Location| keys.with(location, |key| keys.is(*other, key));
        let rehash = rehash(&self.hasher, keys);
        match self.locations.entry(hash, same, rehash) {
            Entry::Occupied(first) => Err(*first.get()),
            Entry::Vacant(place) => {
                place.insert(location);
                Ok(())
            }
        }
    }

    /// Takes out the entry at `location`, whose folded key has this hash. Says whether it was there.
    pub(super) fn remove(&mut self, hash: u64, location: Location) -> bool {
        let entry = self.locations.find_entry(hash, |other| *other == location);
        entry.map(OccupiedEntry::remove).is_ok()
    }

    /// Gives back room that is needed no more.
    pub(super) fn shrink(&mut self, keys: &impl Keys) {
        if self.locations.len() < self.locations.capacity() / 4 {
            self.locations.shrink_to_fit(rehash(&self.hasher, keys));
        }
    }

    /// The entry with this folded key, of which `entry` says at a location whether it is that one.
    pub(super) fn find<T>(
        &self,
        key: &[u8],
        mut entry: impl FnMut(Location) -> Option<T>,
    ) -> Option<(Location, T)> {
        let mut found = None;
        let location = self.locations.find(self.hasher.hash(key), |location| {
            found = entry(*location);
            found.is_some()
        })?;
        Some((*location, found?))
    }
}

fn rehash(hasher: &SipHasher13, keys: &impl Keys) -> impl Fn(&Location) -> u64 {
    move |location| keys.with(*location, |key| hasher.hash(key))
}

/// A hasher with a key that nobody can know.
fn keyed() -> SipHasher13 {
    let chance = RandomState::new();
    SipHasher13::new_with_keys(chance.hash_one(0_u8), chance.hash_one(1_u8))
}
