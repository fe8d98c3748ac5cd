//! The different values of a table, each with the number of its entries.
//!
//! For values that are few and of which the set matters: next hops. Kept up to date entry by entry, so that an edit
//! costs what it changes ([`super::Table::rebuild`]).
//!
//! Limits: values are copied and not wiped, so this is not for credentials. A table of which every entry has another
//! value takes some 100 bytes more for each.

use std::collections::HashMap;
use std::sync::Arc;

/// The different values, and how many entries have each.
#[derive(Clone, Default)]
pub(super) struct DistinctValues(HashMap<Arc<[u8]>, usize>);

impl DistinctValues {
    /// Counts an entry with this value.
    pub(super) fn add(&mut self, value: &[u8]) {
        match self.0.get_mut(value) {
            Some(entries) => *entries += 1,
            None => {
                self.0.insert(value.into(), 1);
            }
        }
    }

    /// Stops counting an entry with this value.
    pub(super) fn remove(&mut self, value: &[u8]) {
        match self.0.get_mut(value) {
            Some(entries) if *entries > 1 => *entries -= 1,
            _ => {
                self.0.remove(value);
            }
        }
    }

    /// Returns each value once, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<[u8]>> {
        self.0.keys()
    }
}
