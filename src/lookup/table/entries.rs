//! The entries of a table: its text, read line by line where the index points at.

use super::blocks::{Blocks, Location};
use super::index::Keys;
use super::line;
use super::spec::Format;
use crate::lookup::address::{self, Delimiters, Key, SenderKeys};

/// A text in blocks, and the grammar by which to read it.
pub(super) struct Entries {
    pub(super) format: Format,
    pub(super) blocks: Blocks,
}

impl Entries {
    /// The key of the entry there, as written, and its value.
    pub(super) fn at(&self, location: Location) -> Option<(&[u8], &[u8])> {
        let (block, lines) = self.blocks.from(location)?;
        let (key, value) = line::entry_at(self.format, lines)?;
        Some((key, block.value(value)))
    }

    /// The value of the entry there, if it has this key.
    #[inline]
    pub(super) fn with_key(&self, location: Location, key: Key<'_>) -> Option<&[u8]> {
        let (block, lines) = self.blocks.from(location)?;
        if let Some(rest) = line::behind_key(lines, key) {
            let value = block.value_behind_key(rest);
            if let Some(value) = value.or_else(|| line::value_behind(self.format, rest)) {
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
