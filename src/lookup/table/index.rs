//! The index of one table: finds the entry of a key through one hash.
//!
//! The index holds only the location of each entry in the text, four bytes, and one byte of its hash. So a table needs
//! little more memory than its file, and is dropped in a few calls whatever its size. Keys are compared with the text
//! itself.
//!
//! It is a hash table with open addressing and linear probing: an entry is in the first free slot from its home slot
//! on, and removing an entry closes the gap. Only a quarter of the slots is free, which is why `hashbrown` is not used:
//! it has a power of two of slots, up to twice as many.
//!
//! The hash is SipHash-1-3 with a random key (from `RandomState`): requests come from the network and keys from files
//! that customers may influence, so neither must be able to choose collisions.

use std::hash::{BuildHasher, RandomState};
use std::io;

use siphasher::sip::SipHasher13;

use super::blocks::Location;
use crate::lookup::address::Key;
use crate::os::whole_file::try_with_capacity;

/// Access to the keys of entries in the text.
pub(super) trait KeySource {
    /// Whether the entry at `location` has this folded key.
    fn has_key(&self, location: Location, key: Key<'_>) -> bool;

    /// Calls `use_key` with the folded key of the entry at `location`.
    fn with_key<T>(&self, location: Location, use_key: impl FnOnce(Key<'_>) -> T) -> T;
}

/// The tag of a free slot.
const FREE: u8 = 0;

/// The index.
pub(super) struct Index {
    /// One byte of the hash for each slot, which avoids most comparisons with other entries; never [`FREE`] in a used
    /// slot.
    tags: Vec<u8>,
    locations: Vec<Location>,
    len: usize,
    hasher: SipHasher13,
}

impl Default for Index {
    fn default() -> Self {
        Self::from_slots(vec![FREE; 2], vec![Location::default(); 2], random_hasher())
    }
}

fn random_hasher() -> SipHasher13 {
    let state = RandomState::new();
    SipHasher13::new_with_keys(state.hash_one(0_u8), state.hash_one(1_u8))
}

impl Index {
    /// Creates an index for this many entries. Fails if memory is short.
    pub(super) fn with_capacity(entries: usize) -> io::Result<Self> {
        Self::with_hasher(entries, random_hasher())
    }

    fn with_hasher(entries: usize, hasher: SipHasher13) -> io::Result<Self> {
        // At least one slot is free, which ends a search.
        let slots = entries.saturating_add(entries / 3).saturating_add(2);
        let (mut tags, mut locations) = (try_with_capacity(slots)?, try_with_capacity(slots)?);
        tags.resize(slots, FREE);
        locations.resize(slots, Location::default());
        Ok(Self::from_slots(tags, locations, hasher))
    }

    fn from_slots(tags: Vec<u8>, locations: Vec<Location>, hasher: SipHasher13) -> Self {
        Self {
            tags,
            locations,
            len: 0,
            hasher,
        }
    }

    /// Returns a copy. Fails if memory is short.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        let mut tags = try_with_capacity(self.tags.len())?;
        tags.extend_from_slice(&self.tags);
        let mut locations = try_with_capacity(self.locations.len())?;
        locations.extend_from_slice(&self.locations);
        Ok(Self {
            len: self.len,
            ..Self::from_slots(tags, locations, self.hasher)
        })
    }

    /// Returns the number of entries.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns the hash of a folded key.
    #[inline]
    pub(super) fn hash(&self, key: Key<'_>) -> u64 {
        self.hasher.hash(key.bytes())
    }

    /// Inserts the entry at `location`, whose folded key has this hash. If the key is there already, its entry stays,
    /// and its location is returned. Fails if memory is short.
    pub(super) fn insert(
        &mut self,
        hash: u64,
        location: Location,
        keys: &impl KeySource,
    ) -> io::Result<Result<(), Location>> {
        let is_same = |other| {
            keys.with_key(location, |key| keys.has_key(other, key))
                .then_some(())
        };
        if let Some((first, ())) = self.find(hash, is_same) {
            return Ok(Err(first));
        }
        if self.len >= self.max_entries() {
            self.resize(self.len.saturating_add(self.len / 4).saturating_add(4), keys)?;
        }
        self.insert_new(hash, location);
        Ok(Ok(()))
    }

    /// Removes the entry at `location`, whose folded key has this hash, by backward-shift deletion. Returns whether it was
    /// there.
    pub(super) fn remove(&mut self, hash: u64, location: Location, keys: &impl KeySource) -> bool {
        let found = self
            .slots_from(hash)
            .find(|slot| self.tag(*slot) == FREE || self.location(*slot) == location);
        let Some(mut gap) = found.filter(|slot| self.tag(*slot) != FREE) else {
            return false;
        };
        // An entry after the gap whose probe sequence passes through the gap moves into it.
        let mut slot = gap;
        loop {
            slot = self.next(slot);
            if self.tag(slot) == FREE || slot == gap {
                break;
            }
            let home = self.home(rehash(&self.hasher, self.location(slot), keys));
            if self.distance(home, slot) >= self.distance(gap, slot) {
                self.set(gap, self.tag(slot), self.location(slot));
                gap = slot;
            }
        }
        self.set(gap, FREE, Location::default());
        self.len -= 1;
        true
    }

    /// Frees capacity that is not needed any more.
    pub(super) fn shrink(&mut self, keys: &impl KeySource) {
        if self.len < self.max_entries() / 2 {
            // If memory is short, the index keeps its size.
            let _ = self.resize(self.len, keys);
        }
    }

    /// Finds the entry of a folded key with this hash. `entry` returns a result if the location is that entry.
    #[inline]
    pub(super) fn find<T>(
        &self,
        hash: u64,
        mut entry: impl FnMut(Location) -> Option<T>,
    ) -> Option<(Location, T)> {
        let tag = tag(hash);
        let mut slot = self.home(hash);
        loop {
            match self.tag(slot) {
                FREE => return None,
                own if own == tag => {
                    let location = self.location(slot);
                    if let Some(found) = entry(location) {
                        return Some((location, found));
                    }
                }
                _ => {}
            }
            slot = self.next(slot);
        }
    }

    /// Returns the maximum number of entries before it grows.
    pub(super) fn max_entries(&self) -> usize {
        self.tags.len() - self.tags.len() / 4 - 1
    }

    fn resize(&mut self, entries: usize, keys: &impl KeySource) -> io::Result<()> {
        let mut other = Self::with_hasher(entries, self.hasher)?;
        let used = self
            .tags
            .iter()
            .zip(&self.locations)
            .filter(|(tag, _)| **tag != FREE);
        for (_, location) in used {
            other.insert_new(rehash(&self.hasher, *location, keys), *location);
        }
        *self = other;
        Ok(())
    }

    /// Inserts a new entry into the first free slot.
    fn insert_new(&mut self, hash: u64, location: Location) {
        if let Some(slot) = self.slots_from(hash).find(|slot| self.tag(*slot) == FREE) {
            self.set(slot, tag(hash), location);
            self.len += 1;
        }
    }

    /// Returns all slots in the probe sequence of a hash.
    fn slots_from(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let (home, slots) = (self.home(hash), self.tags.len());
        (home..slots).chain(0..home)
    }

    /// Returns the first slot for a hash: its position among the slots is that of the hash among all hashes.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        let product = u128::from(hash) * self.tags.len() as u128;
        usize::try_from(product >> u64::BITS).unwrap_or_default()
    }

    #[inline]
    fn next(&self, slot: usize) -> usize {
        if slot + 1 < self.tags.len() { slot + 1 } else { 0 }
    }

    /// Returns the number of steps from one slot to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from {
            to - from
        } else {
            to + self.tags.len() - from
        }
    }

    #[inline]
    fn tag(&self, slot: usize) -> u8 {
        self.tags.get(slot).copied().unwrap_or(FREE)
    }

    #[inline]
    fn location(&self, slot: usize) -> Location {
        self.locations.get(slot).copied().unwrap_or_default()
    }

    fn set(&mut self, slot: usize, tag: u8, location: Location) {
        if let (Some(own_tag), Some(own_location)) = (self.tags.get_mut(slot), self.locations.get_mut(slot)) {
            (*own_tag, *own_location) = (tag, location);
        }
    }
}

/// Returns the byte of a hash that a slot keeps. It does not influence the home slot.
#[inline]
fn tag(hash: u64) -> u8 {
    let [lowest, ..] = hash.to_le_bytes();
    lowest.max(FREE + 1)
}

fn rehash(hasher: &SipHasher13, location: Location, keys: &impl KeySource) -> u64 {
    keys.with_key(location, |key| hasher.hash(key.bytes()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::blocks::Location;
    use super::{Index, KeySource};
    use crate::lookup::address::Key;

    /// The key of a location is its number modulo 1000, so that two locations share a key.
    struct Numbers;

    fn location(number: u32) -> Location {
        Location::new(number / 100, usize::try_from(number % 100).unwrap()).unwrap()
    }

    fn key(number: u32) -> Vec<u8> {
        (number % 1000).to_be_bytes().to_vec()
    }

    impl Numbers {
        fn number(at: Location) -> u32 {
            (0..2000).find(|number| location(*number) == at).unwrap()
        }
    }

    impl KeySource for Numbers {
        fn has_key(&self, location: Location, folded: Key<'_>) -> bool {
            key(Self::number(location)) == folded.bytes()
        }

        fn with_key<T>(&self, location: Location, use_key: impl FnOnce(Key<'_>) -> T) -> T {
            use_key(Key::from(&*key(Self::number(location))))
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        /// Compares it with a map of the standard library after random insertions and removals.
        #[test]
        fn it_behaves_like_a_hash_map(
            room in 0_usize..50,
            edits in prop::collection::vec((any::<bool>(), 0_u32..2000), 0..300),
        ) {
            let mut index = Index::with_capacity(room).unwrap();
            let mut model: HashMap<Vec<u8>, Location> = HashMap::new();
            for (is_insert, number) in edits {
                // Few keys, so that some are repeated.
                let number = number / 40 * 40 + number % 2 * 1000 % 2000;
                let number = number % 2000;
                let (key, at) = (key(number), location(number));
                let hash = index.hash(Key::from(&*key));
                if is_insert {
                    let first = model.get(&key).copied();
                    prop_assert_eq!(index.insert(hash, at, &Numbers).unwrap(), first.map_or(Ok(()), Err));
                    model.entry(key).or_insert(at);
                } else {
                    let is_present = model.get(&key) == Some(&at);
                    prop_assert_eq!(index.remove(hash, at, &Numbers), is_present);
                    if is_present {
                        model.remove(&key);
                    }
                    index.shrink(&Numbers);
                }
                prop_assert_eq!(index.len(), model.len());
            }
            for number in 0..2000 {
                let key = key(number);
                let asked = Key::from(&*key);
                let found = index.find(index.hash(asked), |location| Numbers.has_key(location, asked).then_some(()));
                prop_assert_eq!(found.map(|(location, ())| location), model.get(&key).copied());
            }
        }
    }
}
