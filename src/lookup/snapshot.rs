//! The snapshot: senders, next hops, credentials and the default relay as one thing, and the pointer to it.
//!
//! A [`Snapshot`] never changes. [`ActiveSnapshot`] swaps a whole one for a whole other, so that no lookup sees the next
//! hop of one generation and the credentials of another. A loaded snapshot keeps its memory, so load one for
//! a batch of lookups and drop it before waiting for anything.
//!
//! What it answers is decided in [`crate::lookup::routing`], and for senders that have moved in [`crate::lookup::moved_senders`].

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::lookup::address::{Delimiters, SenderKeys};
use crate::lookup::default_relay::DefaultRelay;
use crate::lookup::history::{History, TrackedTables};
use crate::lookup::map::{Map, Maps};
use crate::lookup::peer::Allowed;
use crate::lookup::routing::Routing;
use crate::lookup::search::Scratch;
use crate::lookup::table::Table;
use crate::lookup::table::spec::TableSpec;
use crate::protocol::answer::Answer;

/// Everything that answers, as of one moment.
pub struct Snapshot {
    /// Which one this is, from 1, in the order of publication.
    pub generation: u64,
    /// The maps that are answered.
    pub maps: Maps,
    /// The relay map.
    pub relay_map: Arc<Table>,
    /// The credentials.
    pub credentials: Arc<Table>,
    /// The tables of further maps.
    pub other_tables: Vec<Arc<Table>>,
    /// What senders without an entry get.
    pub default: Arc<DefaultRelay>,
    /// Where next hops come from.
    pub routing: Routing,
    /// What begins an address extension.
    pub delimiters: Delimiters,
    /// Who may ask. The answers here do not depend on it: the server checks it first.
    pub allowed: Allowed,
    /// What the tables said before the edits of the last minutes.
    pub history: History,
    /// The tables as they were when both were last known to belong together, where one of them is waited for since and
    /// anything else has changed.
    pub last_consistent: Option<Arc<ConsistentTables>>,
}

/// A relay map and credentials that were read as of one moment.
pub struct ConsistentTables {
    /// The relay map.
    pub relay_map: Arc<Table>,
    /// The credentials.
    pub credentials: Arc<Table>,
    /// The default relay.
    pub default: Arc<DefaultRelay>,
}

impl Snapshot {
    /// The first generation with these two tables, and nothing else: no default relay, no route elsewhere, no peer that may
    /// ask for credentials.
    #[must_use]
    pub fn new(relay_map: Arc<Table>, credentials: Arc<Table>) -> Self {
        Self {
            generation: 1,
            maps: Maps::SERVED,
            relay_map,
            credentials,
            other_tables: Vec::new(),
            default: Arc::default(),
            routing: Routing::Postmapd,
            delimiters: Delimiters::default(),
            allowed: Allowed::default(),
            history: History::default(),
            last_consistent: None,
        }
    }

    /// The answer of `map` for `key`, which is as it came from Postfix. `keys` and `scratch` lend their memory. For the login
    /// of a sender that has moved, see [`Snapshot::has_moved`].
    pub fn answer<'a>(
        &'a self,
        map: Map,
        key: &[u8],
        keys: &mut SenderKeys,
        scratch: &'a mut Scratch,
    ) -> Answer<'a> {
        keys.parse(key, &self.delimiters);
        map.search.answer(self, keys, scratch)
    }

    /// The next hop of the sender `key`, likewise.
    pub fn next_hop_for(&self, key: &[u8], keys: &mut SenderKeys) -> Answer<'_> {
        keys.parse(key, &self.delimiters);
        self.next_hop(keys)
    }

    /// The login of the sender, host or next hop `key`, likewise.
    pub fn login_for(&self, key: &[u8], keys: &mut SenderKeys) -> Answer<'_> {
        keys.parse(key, &self.delimiters);
        self.login(keys)
    }

    /// Every table.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        [&self.relay_map, &self.credentials]
            .into_iter()
            .chain(&self.other_tables)
    }

    /// The table of this file.
    #[must_use]
    pub fn table(&self, spec: &TableSpec) -> Option<&Arc<Table>> {
        self.tables().find(|table| table.spec() == spec)
    }

    /// The present tables, as the last that belong together for certain.
    #[must_use]
    pub fn consistent_tables(&self) -> Arc<ConsistentTables> {
        self.last_consistent.clone().unwrap_or_else(|| {
            ConsistentTables {
                relay_map: Arc::clone(&self.relay_map),
                credentials: Arc::clone(&self.credentials),
                default: Arc::clone(&self.default),
            }
            .into()
        })
    }

    /// The tracked_tables of which earlier states are remembered.
    #[must_use]
    pub fn tracked_tables(&self) -> TrackedTables<'_> {
        TrackedTables {
            relay_map: &self.relay_map,
            credentials: &self.credentials,
            default: &self.default,
        }
    }

    /// Likewise, as a later snapshot remembers them: a login that may not have been of its sender's next hop is none that
    /// it had there.
    #[must_use]
    pub fn tables_to_remember(&self) -> TrackedTables<'_> {
        let tables = self.last_consistent.as_deref();
        TrackedTables {
            credentials: tables.map_or(&self.credentials, |tables| &tables.credentials),
            ..self.tracked_tables()
        }
    }

    /// This snapshot with other memories.
    #[must_use]
    pub fn with_history(&self, history: History) -> Self {
        Self {
            generation: self.generation,
            maps: self.maps,
            relay_map: Arc::clone(&self.relay_map),
            credentials: Arc::clone(&self.credentials),
            other_tables: self.other_tables.clone(),
            default: Arc::clone(&self.default),
            routing: self.routing,
            delimiters: self.delimiters.clone(),
            allowed: self.allowed.clone(),
            history,
            last_consistent: self.last_consistent.clone(),
        }
    }
}

/// The snapshot in force.
pub struct ActiveSnapshot {
    active: ArcSwap<Snapshot>,
}

impl ActiveSnapshot {
    /// ActiveSnapshot that begin with this snapshot.
    #[must_use]
    pub fn new(first: Snapshot) -> Self {
        Self {
            active: ArcSwap::from_pointee(first),
        }
    }

    /// The snapshot in force at this moment. Never waits, whatever a writer does.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.active.load()
    }

    /// Likewise, to keep for longer: for threads that do not answer lookups.
    #[must_use]
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.active.load_full()
    }

    /// Puts `next` in force, and returns what was. Lookups that began before end with the snapshot with which they
    /// began.
    pub fn publish(&self, next: Snapshot) -> Arc<Snapshot> {
        self.active.swap(Arc::new(next))
    }
}
