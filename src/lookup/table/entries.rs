//! The entries of a table: its text, and the lines that the index points to.

use super::blocks::{Blocks, Location};
use super::index::KeySource;
use super::line;
use super::spec::Format;
use crate::lookup::address::{Delimiters, Key, LookupKeys};

/// A text in blocks, and its grammar.
pub(super) struct Entries {
    pub(super) format: Format,
    pub(super) blocks: Blocks,
}

impl Entries {
    /// Returns the key, as written, and the value of the entry at a location.
    pub(super) fn at(&self, location: Location) -> Option<(&[u8], &[u8])> {
        let (block, lines) = self.blocks.lines_from(location)?;
        let (key, value) = line::entry_at(self.format, lines)?;
        Some((key, block.value(value)))
    }

    /// Returns the value of the entry at a location, if it has this key.
    #[inline]
    pub(super) fn value_if_key(&self, location: Location, key: Key<'_>) -> Option<&[u8]> {
        let (block, lines) = self.blocks.lines_from(location)?;
        if let Some(rest) = line::after_key(lines, key) {
            let value = block.referenced_value(rest);
            if let Some(value) = value.or_else(|| line::value_after_key(self.format, rest)) {
                return Some(value);
            }
        }
        let (written, value) = self.at(location)?;
        key.matches(written).then_some(value)
    }
}

impl KeySource for Entries {
    fn has_key(&self, location: Location, key: Key<'_>) -> bool {
        self.value_if_key(location, key).is_some()
    }

    fn with_key<T>(&self, location: Location, use_key: impl FnOnce(Key<'_>) -> T) -> T {
        let mut keys = LookupKeys::default();
        let written = self.at(location).map_or(&[][..], |(written, _)| written);
        keys.parse(written, &Delimiters::default());
        use_key(keys.whole_key())
    }
}
