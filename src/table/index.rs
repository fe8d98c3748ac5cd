//! The compact index of one table: every record in one run of memory, found through one hash.
//!
//! A record is 9 bytes of head (kind, line, key length, value length), the folded key and the value. The hash
//! table holds the offset of each. So a table costs three allocations whatever its size, and is wiped and dropped
//! in one stroke.
//!
//! The hash is SipHash with a key of this process (`RandomState`): queries come from the network and keys from
//! files that customers may influence, so nobody shall be able to choose collisions.
//!
//! Limits: 4 GiB of records, 65 535 bytes for a key and for a value. What does not fit is refused
//! ([`Insertion::Full`]), never cut.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::secret::Secret;

/// What an entry stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stored<'a> {
    /// This value.
    Value(&'a [u8]),
    /// Nothing, on purpose.
    Nothing,
    /// An entry is there, and it is wrong.
    Fault,
}

/// An entry that was found.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// What it stands for.
    pub stored: Stored<'a>,
    /// The line of the file in which it stands.
    pub line: u32,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// It is in.
    Done,
    /// The key is there already, from this line, and stays as it is.
    Duplicate(u32),
    /// There is no room for it.
    Full,
}

/// The index.
#[derive(Default)]
pub struct Index {
    records: Secret,
    offsets: HashTable<u32>,
    hasher: RandomState,
}

/// Kind, line, key length, value length.
const HEAD: usize = 1 + 4 + 2 + 2;

impl Index {
    /// An index with room for `entries` entries of `bytes` bytes of keys and values.
    #[must_use]
    pub fn with_capacity(entries: usize, bytes: usize) -> Self {
        Self {
            records: Secret::with_capacity(bytes.saturating_add(entries.saturating_mul(HEAD))),
            offsets: HashTable::with_capacity(entries),
            hasher: RandomState::new(),
        }
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Adds an entry under a key that is folded already.
    pub fn insert(&mut self, key: &[u8], stored: Stored<'_>, line: u32) -> Insertion {
        if let Some(entry) = self.find(key) {
            return Insertion::Duplicate(entry.line);
        }
        let (kind, value): (u8, &[u8]) = match stored {
            Stored::Value(value) => (0, value),
            Stored::Nothing => (1, &[]),
            Stored::Fault => (2, &[]),
        };
        let (Ok(key_length), Ok(value_length), Ok(offset)) = (
            u16::try_from(key.len()),
            u16::try_from(value.len()),
            u32::try_from(self.records.len()),
        ) else {
            return Insertion::Full;
        };
        self.records.append(&[kind]);
        self.records.append(&line.to_le_bytes());
        self.records.append(&key_length.to_le_bytes());
        self.records.append(&value_length.to_le_bytes());
        self.records.append(key);
        self.records.append(value);
        let hash = self.hasher.hash_one(key);
        let (records, hasher) = (self.records.expose(), &self.hasher);
        self.offsets.insert_unique(hash, offset, |other| {
            hasher.hash_one(record(records, *other).map_or(&[][..], |(key, _)| key))
        });
        Insertion::Done
    }

    /// The entry under a key that is folded already.
    #[must_use]
    pub fn find(&self, key: &[u8]) -> Option<Entry<'_>> {
        let records = self.records.expose();
        let offset = self.offsets.find(self.hasher.hash_one(key), |offset| {
            record(records, *offset).is_some_and(|(other, _)| other == key)
        })?;
        record(records, *offset).map(|(_, entry)| entry)
    }
}

/// The key and the entry at `offset`. `None` only for an offset that no record begins at.
fn record(records: &[u8], offset: u32) -> Option<(&[u8], Entry<'_>)> {
    let rest = records.get(usize::try_from(offset).ok()?..)?;
    let (&[kind, l0, l1, l2, l3, k0, k1, v0, v1], rest) = rest.split_first_chunk::<HEAD>()?;
    let (key, rest) = rest.split_at_checked(u16::from_le_bytes([k0, k1]).into())?;
    let value = rest.get(..u16::from_le_bytes([v0, v1]).into())?;
    let stored = match kind {
        0 => Stored::Value(value),
        1 => Stored::Nothing,
        _ => Stored::Fault,
    };
    let line = u32::from_le_bytes([l0, l1, l2, l3]);
    Some((key, Entry { stored, line }))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::{Index, Insertion, Stored};

    proptest! {
        /// The same keys and values go into the index and into the standard library's map.
        #[test]
        fn it_answers_as_a_hash_map_does(
            entries in prop::collection::vec((prop::collection::vec(0_u8..4, 0..4), prop::option::of(".{0,9}")), 0..200),
            asked in prop::collection::vec(prop::collection::vec(0_u8..4, 0..4), 0..50),
        ) {
            let mut index = Index::default();
            let mut model: HashMap<Vec<u8>, (u32, Option<String>)> = HashMap::new();
            for (line, (key, value)) in (1..).zip(entries) {
                let stored = value.as_ref().map_or(Stored::Nothing, |value| Stored::Value(value.as_bytes()));
                let done = index.insert(&key, stored, line);
                let first = model.get(&key).map(|(line, _)| *line);
                prop_assert_eq!(done, first.map_or(Insertion::Done, Insertion::Duplicate));
                model.entry(key).or_insert((line, value));
            }
            prop_assert_eq!(index.len(), model.len());
            for key in asked.iter().chain(model.keys()) {
                let found = index.find(key).map(|entry| match entry.stored {
                    Stored::Value(value) => (entry.line, Some(value.to_vec())),
                    Stored::Nothing | Stored::Fault => (entry.line, None),
                });
                let expected = model.get(key).map(|(line, v)| (*line, v.as_ref().map(|v| v.as_bytes().to_vec())));
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut index = Index::default();
        assert_eq!(
            index.insert(&vec![b'k'; 65_536], Stored::Fault, 1),
            Insertion::Full
        );
        assert_eq!(
            index.insert(b"k", Stored::Value(&vec![b'v'; 65_536]), 1),
            Insertion::Full
        );
        assert_eq!(
            index.insert(&vec![b'k'; 65_535], Stored::Fault, 1),
            Insertion::Done
        );
        assert_eq!(index.len(), 1);
    }
}
