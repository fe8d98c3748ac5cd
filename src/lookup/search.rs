//! How a map is searched: a request to an answer, and why.
//!
//! A [`Search`] is the part of a map that is code. What it may say of a key is decided by the [`Snapshot`], which has
//! the tables and the rules between them; the search chooses which keys are looked up where.

use super::address::{Key, SenderKeys};
use super::explain::{Entry, Rationale, explain_host_login, explain_next_hop, explain_sender_login};
use super::snapshot::Snapshot;
use crate::protocol::answer::{Answer, Value};

/// Memory that the caller lends for a value that stands in no table as it is answered. It keeps its size from one lookup
/// to the next, so that a lookup allocates nothing once the first few have passed.
///
/// For values that are not secret: it is not wiped.
#[derive(Default)]
pub struct Scratch(Vec<u8>);

impl Scratch {
    /// A value that is made of these parts.
    pub fn compose(&mut self, parts: &[&[u8]]) -> Value<'_> {
        self.0.clear();
        for part in parts {
            self.0.extend_from_slice(part);
        }
        Value::new(&self.0)
    }
}

/// How a map is searched.
pub trait Search: Sync {
    /// The answer for the key that `keys` has read.
    fn answer<'a>(&self, snapshot: &'a Snapshot, keys: &SenderKeys, scratch: &'a mut Scratch) -> Answer<'a>;

    /// The keys that it looks up in the table of the map, in order.
    fn keys<'k>(&self, keys: &'k SenderKeys) -> Vec<Key<'k>>;

    /// Why it gives this answer for `key`, where `entry` is the first that was found.
    fn explain(
        &self,
        snapshot: &Snapshot,
        key: &[u8],
        keys: &SenderKeys,
        answer: Answer<'_>,
        entry: Option<Entry<'_>>,
    ) -> Rationale;
}

/// The next hop of an envelope sender.
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

/// The login of an envelope sender, of a host or of a next hop.
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
