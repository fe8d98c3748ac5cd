//! The search of a map: from the keys of a request to an answer and its explanation.
//!
//! A [`Search`] is the code of a map. It chooses which keys are looked up where; the [`Snapshot`], which has the tables
//! and the rules between them, decides the answer.

use super::address::{Key, SenderKeys};
use super::explain::{Entry, Rationale, explain_host_login, explain_next_hop, explain_sender_login};
use super::snapshot::Snapshot;
use crate::protocol::answer::{Answer, Value};

/// Memory that the caller lends for a value that no table has as it is answered. It keeps its capacity, so that lookups
/// do not allocate after the first few.
///
/// Not for secret values: it is not wiped.
#[derive(Default)]
pub struct Scratch(Vec<u8>);

impl Scratch {
    /// Concatenates these parts to a value.
    pub fn compose(&mut self, parts: &[&[u8]]) -> Value<'_> {
        self.0.clear();
        for part in parts {
            self.0.extend_from_slice(part);
        }
        Value::new(&self.0)
    }
}

/// The search of a map.
pub trait Search: Sync {
    /// Returns the answer for the parsed `keys`.
    fn answer<'a>(&self, snapshot: &'a Snapshot, keys: &SenderKeys, scratch: &'a mut Scratch) -> Answer<'a>;

    /// Returns the keys that are looked up in the table of the map, in order.
    fn keys<'k>(&self, keys: &'k SenderKeys) -> Vec<Key<'k>>;

    /// Explains this answer for `key`. `entry` is the first entry that was found.
    fn explain(
        &self,
        snapshot: &Snapshot,
        key: &[u8],
        keys: &SenderKeys,
        answer: Answer<'_>,
        entry: Option<Entry<'_>>,
    ) -> Rationale;
}

/// The search for the next hop of an envelope sender.
pub struct NextHopSearch;

impl Search for NextHopSearch {
    fn answer<'a>(&self, snapshot: &'a Snapshot, keys: &SenderKeys, _: &'a mut Scratch) -> Answer<'a> {
        snapshot.next_hop(keys)
    }

    fn keys<'k>(&self, keys: &'k SenderKeys) -> Vec<Key<'k>> {
        keys.in_order().collect()
    }

    fn explain(
        &self,
        snapshot: &Snapshot,
        _: &[u8],
        keys: &SenderKeys,
        answer: Answer<'_>,
        entry: Option<Entry<'_>>,
    ) -> Rationale {
        explain_next_hop(snapshot, keys, answer, entry)
    }
}

/// The search for the login of an envelope sender, a host or a next hop.
pub struct LoginSearch;

impl Search for LoginSearch {
    fn answer<'a>(&self, snapshot: &'a Snapshot, keys: &SenderKeys, _: &'a mut Scratch) -> Answer<'a> {
        snapshot.login(keys)
    }

    fn keys<'k>(&self, keys: &'k SenderKeys) -> Vec<Key<'k>> {
        if keys.is_sender() {
            keys.in_order().collect()
        } else {
            vec![keys.whole_key()]
        }
    }

    fn explain(
        &self,
        snapshot: &Snapshot,
        key: &[u8],
        keys: &SenderKeys,
        answer: Answer<'_>,
        entry: Option<Entry<'_>>,
    ) -> Rationale {
        if keys.is_sender() {
            explain_sender_login(snapshot, key, answer, entry)
        } else {
            explain_host_login(answer, entry)
        }
    }
}
