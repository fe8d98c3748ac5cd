//! The snapshot: relay map, credentials, default relay and settings as one value, and the pointer to the active one.
//!
//! A [`Snapshot`] is immutable. [`ActiveSnapshot`] replaces it as a whole, so that no lookup gets the next hop of one
//! generation and the credentials of another. A loaded snapshot keeps its memory, so load one for a batch of lookups
//! and drop it before blocking.
//!
//! The rules of its answers are in [`crate::lookup::rules`], those for moved senders in
//! [`crate::lookup::moved_senders`].

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::lookup::address::Delimiters;
use crate::lookup::default_relay::DefaultRelay;
use crate::lookup::directory_source::DirectorySource;
use crate::lookup::history::{History, TrackedTables};
use crate::lookup::peer::Allowed;
use crate::lookup::relay_tls::{self, Decision, RelayTls};
use crate::lookup::routing::Routing;
use crate::lookup::table::Table;
use crate::lookup::table::spec::{RELAY_TLS, TableSpec};
use crate::protocol::answer::Reason;

/// Everything that an answer depends on, as of one moment.
pub struct Snapshot {
    /// The number of the snapshot, from 1, in the order of publication.
    pub generation: u64,
    /// The relay map.
    pub relay_map: Arc<Table>,
    /// The credentials.
    pub credentials: Arc<Table>,
    /// The tables of further maps.
    pub other_tables: Vec<Arc<Table>>,
    /// The default relay of senders without an entry.
    pub default: Arc<DefaultRelay>,
    /// The TLS of all next hops.
    pub relay_tls: Arc<RelayTls>,
    /// Where next hops come from.
    pub routing: Routing,
    /// The characters that start an address extension.
    pub delimiters: Delimiters,
    /// The peers that may query secret maps. The server checks this before a lookup; the answers here do not depend on
    /// it.
    pub allowed: Allowed,
    /// The tables before the edits of the last minutes.
    pub history: History,
    /// The last tables that were known to belong together, if one file is pending since then and anything else has
    /// changed.
    pub last_consistent: Option<Arc<ConsistentTables>>,
    /// Where a program that generates the directory has its content from. No answer depends on it.
    pub directory_source: Option<Arc<DirectorySource>>,
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
    /// Creates the first generation with these two tables only: no default relay, no TLS of next hops, no routes in
    /// main.cf, no peer that may query credentials.
    #[must_use]
    pub fn new(relay_map: Arc<Table>, credentials: Arc<Table>) -> Self {
        Self {
            generation: 1,
            relay_map,
            credentials,
            other_tables: Vec::new(),
            default: Arc::default(),
            relay_tls: Arc::default(),
            routing: Routing::Postmapd,
            delimiters: Delimiters::default(),
            allowed: Allowed::default(),
            history: History::default(),
            last_consistent: None,
            directory_source: None,
        }
    }

    /// Returns all tables.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        [&self.relay_map, &self.credentials]
            .into_iter()
            .chain(&self.other_tables)
    }

    /// Returns the table of this file.
    #[must_use]
    pub fn table(&self, spec: &TableSpec) -> Option<&Arc<Table>> {
        self.tables().find(|table| table.spec() == spec)
    }

    /// Returns how to speak TLS to this folded next hop, and what decides it, whether a sender has it or not.
    pub(crate) fn tls_decision<'k>(&self, next_hop: &'k [u8]) -> Result<Decision<'k>, Reason> {
        match self.table(&RELAY_TLS) {
            Some(table) => relay_tls::decide(next_hop, &self.default, table),
            None => relay_tls::decide(next_hop, &self.default, &Table::empty(&RELAY_TLS)),
        }
    }

    /// Returns the latest tables that are known to belong together: those of this snapshot or, while a file is pending, the
    /// last ones before.
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

    /// Returns the parts whose earlier states are remembered.
    #[must_use]
    pub fn tracked_tables(&self) -> TrackedTables<'_> {
        TrackedTables {
            relay_map: &self.relay_map,
            credentials: &self.credentials,
            default: &self.default,
        }
    }

    /// Returns the parts as a later snapshot remembers them: the credentials of the last consistent tables, because a
    /// login that may not belong to its sender's next hop must not be remembered for it.
    #[must_use]
    pub fn tables_to_remember(&self) -> TrackedTables<'_> {
        let tables = self.last_consistent.as_deref();
        TrackedTables {
            credentials: tables.map_or(&self.credentials, |tables| &tables.credentials),
            ..self.tracked_tables()
        }
    }

    /// Returns a copy of this snapshot with another history, and this TLS of next hops.
    #[must_use]
    pub fn with_history(&self, history: History, relay_tls: RelayTls) -> Self {
        Self {
            generation: self.generation,
            relay_map: Arc::clone(&self.relay_map),
            credentials: Arc::clone(&self.credentials),
            other_tables: self.other_tables.clone(),
            default: Arc::clone(&self.default),
            relay_tls: relay_tls.into(),
            routing: self.routing,
            delimiters: self.delimiters.clone(),
            allowed: self.allowed.clone(),
            history,
            last_consistent: self.last_consistent.clone(),
            directory_source: self.directory_source.clone(),
        }
    }
}

/// The active snapshot.
pub struct ActiveSnapshot {
    active: ArcSwap<Snapshot>,
}

impl ActiveSnapshot {
    /// Creates it with the first snapshot.
    #[must_use]
    pub fn new(first: Snapshot) -> Self {
        Self {
            active: ArcSwap::from_pointee(first),
        }
    }

    /// Returns the snapshot that is active now. Never blocks, whatever a writer does.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.active.load()
    }

    /// Returns the active snapshot to keep for longer, in threads that do not answer lookups.
    #[must_use]
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.active.load_full()
    }

    /// Makes `next` active and returns the previous snapshot. A lookup that has started ends with the snapshot it
    /// started with.
    pub fn publish(&self, next: Snapshot) -> Arc<Snapshot> {
        self.active.swap(Arc::new(next))
    }
}
