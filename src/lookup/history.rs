//! The tables before the edits of the last minutes, for mail that is already on its way.
//!
//! Postfix looks up the next hop when a mail becomes active, and the login when it connects, seconds or minutes later.
//! Meanwhile an edit may have moved the sender to another next hop with another login. So a [`History`] returns the
//! entry of a key in an earlier generation ([`History::next_hop`], [`History::login`], [`History::default_relay`]).
//! With it, [`crate::lookup::moved_senders`] decides which login a sender has at which next hop.
//!
//! An edit is what differs between two successive generations. It is remembered as the keys whose entries it changed, each with its previous entry. An edit of more than
//! [`MAX_KEYS_OF_EDIT`] keys is remembered as the whole previous table, which shares unchanged text with the current
//! one. Edits of credentials alone are remembered only while an earlier edit that moved a sender is: without one, no
//! request needs an earlier entry.
//!
//! Limits: at most [`MAX_EDITS`] edits, [`MAX_KEYS`] keys and [`MAX_TABLES`] tables, each with at most
//! [`MAX_BYTES_OF_TABLE`] bytes of text that the current table does not share. Beyond that the oldest edits are
//! forgotten. Until they would have expired, every sender is treated as moved ([`History::is_truncated`]): its login is
//! answered at its current next hops, and mail on its way to another gets a temporary error. A restart forgets
//! everything.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::lookup::address::{Delimiters, Key, LookupKeys};
use crate::lookup::default_relay::DefaultRelay;
use crate::lookup::table::{Hit, Table};
use crate::os::secret::Secret;
use crate::protocol::answer::{Answer, Reason};

/// The maximum number of edits.
pub(crate) const MAX_EDITS: usize = 1024;

/// The maximum number of single keys, of both tables together.
pub(crate) const MAX_KEYS: usize = 65_536;

/// The maximum number of keys of one edit that are compared and remembered as single keys.
pub(crate) const MAX_KEYS_OF_EDIT: usize = 4096;

/// The maximum number of whole tables of each kind.
pub(crate) const MAX_TABLES: usize = 2;

/// The maximum bytes of text that a whole table does not share with the current one.
pub(crate) const MAX_BYTES_OF_TABLE: usize = 8 * 1024 * 1024;

/// The parts of a snapshot whose earlier states are remembered.
#[derive(Clone, Copy)]
pub struct TrackedTables<'a> {
    /// The relay map.
    pub relay_map: &'a Arc<Table>,
    /// The credentials.
    pub credentials: &'a Arc<Table>,
    /// The default relay.
    pub default: &'a Arc<DefaultRelay>,
}

/// The remembered edits. A clone copies the entries of single keys, and shares tables.
#[derive(Clone, Default)]
pub struct History {
    /// Oldest first.
    edits: VecDeque<Edit>,
    relay_map: Changes,
    credentials: Changes,
    /// Default relays, each with the last generation that had it.
    defaults: Vec<(u64, Arc<DefaultRelay>)>,
    /// Until when an edit that was forgotten early would have been remembered.
    truncated_until: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Edit {
    /// The last generation before the edit.
    last_generation: u64,
    at: Instant,
    /// Whether it may have given senders another next hop.
    changes_next_hops: bool,
}

/// Earlier states of one table.
#[derive(Clone, Default)]
struct Changes {
    /// By folded key.
    keys: HashMap<Arc<[u8]>, EarlierEntries>,
    /// By the key of subdomains, without its `@`.
    subdomains: HashMap<Arc<[u8]>, EarlierEntries>,
    /// Whole tables, each with its last generation, oldest first.
    tables: Vec<(u64, Arc<Table>)>,
    /// Why a miss was uncertain, if it was, each with the last generation of which that is true, oldest first.
    uncertainties: Vec<(u64, Option<Reason>)>,
}

/// The earlier entries of a key, oldest first, each with the last generation that had it.
type EarlierEntries = Vec<(u64, EarlierEntry)>;

/// The entry of a key before an edit.
#[derive(Clone)]
enum EarlierEntry {
    Absent,
    NoValue,
    Value(Arc<Secret>),
    CannotTell(Reason),
}

impl History {
    /// Whether nothing is remembered, so that the current tables answer alone.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.truncated_until.is_none()
    }

    /// Whether an edit was forgotten before it expired.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.truncated_until.is_some()
    }

    /// Returns when the next edit expires, if edits are remembered for `window`.
    #[must_use]
    pub fn expires(&self, window: Duration) -> Option<Instant> {
        let oldest = self.edits.front().map(|edit| edit.at + window);
        oldest.into_iter().chain(self.truncated_until).min()
    }

    /// Returns the number of relay map entries, senders and domains, whose next hop changed within the window.
    #[must_use]
    pub fn moved_entries(&self) -> usize {
        let tables = self.relay_map.tables.iter().map(|(_, table)| table.len());
        self.relay_map.len() + tables.max().unwrap_or_default()
    }

    /// Returns the history after an edit at `now`, which followed generation `last_generation` and changed `before` to
    /// `after`.
    #[must_use]
    pub fn with_edit(
        &self,
        last_generation: u64,
        before: TrackedTables<'_>,
        after: TrackedTables<'_>,
        now: Instant,
        window: Duration,
    ) -> Self {
        let mut next = self.without_expired(now, window);
        if window.is_zero() {
            return next;
        }
        let relay_map = Difference::between(before.relay_map, after.relay_map);
        let default_changed = !before.default.has_same_next_hops(after.default);
        let changes_next_hops = default_changed || !relay_map.is_empty();
        if !changes_next_hops && next.is_empty() {
            return next;
        }
        let credentials = Difference::between(before.credentials, after.credentials);
        next.edits.push_back(Edit {
            last_generation,
            at: now,
            changes_next_hops,
        });
        if before.default != after.default {
            next.defaults.push((last_generation, Arc::clone(before.default)));
        }
        next.relay_map
            .add_uncertainty(last_generation, before.relay_map, after.relay_map);
        next.credentials
            .add_uncertainty(last_generation, before.credentials, after.credentials);
        let are_kept = next.relay_map.add(last_generation, relay_map)
            & next.credentials.add(last_generation, credentials);
        while !are_kept && !next.edits.is_empty() || next.is_too_large() {
            next.drop_oldest(window);
        }
        next.prune();
        next
    }

    /// Returns the history without the edits that were at least `window` ago at `now`.
    #[must_use]
    pub fn without_expired(&self, now: Instant, window: Duration) -> Self {
        let mut next = self.clone();
        next.truncated_until = next
            .truncated_until
            .filter(|until| *until > now && !window.is_zero());
        while next.edits.front().is_some_and(|edit| edit.at + window <= now) {
            next.edits.pop_front();
        }
        next.prune();
        next
    }

    fn is_too_large(&self) -> bool {
        self.edits.len() > MAX_EDITS
            || self.relay_map.len() + self.credentials.len() > MAX_KEYS
            || self.relay_map.tables.len().max(self.credentials.tables.len()) > MAX_TABLES
            || self.defaults.len() > MAX_EDITS
    }

    fn drop_oldest(&mut self, window: Duration) {
        if let Some(edit) = self.edits.pop_front() {
            self.truncated_until = self.truncated_until.max(Some(edit.at + window));
        }
        self.prune();
    }

    /// Drops earlier entries that no lookup refers to: only mail whose sender has another next hop since an edit gets
    /// earlier entries, and those that it gets are at most as old as the oldest such edit.
    fn prune(&mut self) {
        while self.edits.front().is_some_and(|edit| !edit.changes_next_hops) {
            self.edits.pop_front();
        }
        // Without such an edit, everything is dropped. The current entries are in the snapshot, not here.
        let oldest_needed = self.edits.front().map_or(u64::MAX, |edit| edit.last_generation);
        self.relay_map.drop_before(oldest_needed);
        self.credentials.drop_before(oldest_needed);
        self.defaults.retain(|(last, _)| *last >= oldest_needed);
    }

    /// Returns the hit of the relay map in `generation` for the first of these keys that has an entry. `current` is the
    /// table now.
    pub fn next_hop<'a, 'k>(
        &'a self,
        current: &'a Table,
        keys: impl IntoIterator<Item = Key<'k>>,
        generation: u64,
    ) -> Hit<'a> {
        self.relay_map.find(current, keys, generation)
    }

    /// Returns the hit of the credentials, as [`History::next_hop`] does for the relay map.
    pub fn login<'a, 'k>(
        &'a self,
        current: &'a Table,
        keys: impl IntoIterator<Item = Key<'k>>,
        generation: u64,
    ) -> Hit<'a> {
        self.credentials.find(current, keys, generation)
    }

    /// Returns the default relay in `generation`.
    #[must_use]
    pub fn default_relay<'a>(&'a self, current: &'a DefaultRelay, generation: u64) -> &'a DefaultRelay {
        let earlier = self.defaults.iter().find(|(last, _)| *last >= generation);
        earlier.map_or(current, |(_, default)| default)
    }

    /// Whether a host or next hop had a login before a remembered edit.
    #[must_use]
    pub fn had_login(&self, key: Key<'_>) -> bool {
        let entries = self.credentials.of_key(key).into_iter().flatten();
        let mut values = entries.map(|(_, before)| matches!(before, EarlierEntry::Value(_)));
        let mut tables = self.credentials.tables.iter();
        let mut defaults = self.defaults.iter();
        values.any(|is_value| is_value)
            || tables.any(|(_, table)| matches!(table.entry_hit(key), Some(Hit::Value(_))))
            || defaults.any(|(_, default)| matches!(default.credentials(key.bytes()), Answer::Found(_)))
    }

    /// Returns, in no order, the last generations before edits that may have moved the sender of these keys. Empty for
    /// nearly all senders, at the cost of one hash lookup for each key.
    pub fn generations<'a>(&'a self, keys: &'a LookupKeys) -> impl Iterator<Item = u64> + 'a {
        let has_keys = !self.relay_map.keys.is_empty();
        let single = has_keys.then(|| keys.of_postfix().chain(keys.any_sender()));
        let parents = (!self.relay_map.subdomains.is_empty()).then(|| keys.parents());
        let of_keys = (single.into_iter().flatten())
            .chain(parents.into_iter().flatten())
            .filter_map(|key| self.relay_map.of_key(key))
            .flat_map(|entries| entries.iter().map(|(last, _)| *last));
        let of_tables = self.relay_map.tables.iter().map(|(last, _)| *last);
        of_keys
            .chain(of_tables)
            .chain(self.defaults.iter().map(|(last, _)| *last))
    }
}

impl Changes {
    /// Returns the number of keys that have earlier entries.
    fn len(&self) -> usize {
        self.keys.len() + self.subdomains.len()
    }

    /// Returns the earlier entries of a key, if there are any.
    fn of_key(&self, key: Key<'_>) -> Option<&EarlierEntries> {
        let of_kind = if key.is_of_subdomains() {
            &self.subdomains
        } else {
            &self.keys
        };
        of_kind.get(key.bytes())
    }

    /// Adds what an edit changed. `false` if that is too much.
    fn add(&mut self, last_generation: u64, difference: Difference) -> bool {
        match difference {
            Difference::Keys(keys) => {
                for (folded, before) in keys {
                    let key = Key::from(&*folded);
                    let entries = if key.is_of_subdomains() {
                        self.subdomains.entry(key.bytes().into())
                    } else {
                        self.keys.entry(Arc::clone(&folded))
                    };
                    entries.or_default().push((last_generation, before));
                }
            }
            Difference::Table(table) => self.tables.push((last_generation, table)),
            Difference::TooLarge => return false,
        }
        true
    }

    fn add_uncertainty(&mut self, last_generation: u64, before: &Table, after: &Table) {
        if before.uncertainty() != after.uncertainty() {
            self.uncertainties.push((last_generation, before.uncertainty()));
        }
    }

    fn drop_before(&mut self, oldest: u64) {
        self.uncertainties.retain(|(last, _)| *last >= oldest);
        for of_kind in [&mut self.keys, &mut self.subdomains] {
            of_kind.retain(|_, entries| {
                entries.retain(|(last, _)| *last >= oldest);
                !entries.is_empty()
            });
        }
        self.tables.retain(|(last, _)| *last >= oldest);
    }

    /// Returns the hit in `generation` for the first of these keys that had an entry then.
    ///
    /// The first whole table that lasted until then answers, or the current one. An entry that lasted until then, but ended
    /// before that table did, takes precedence.
    fn find<'a, 'k>(
        &'a self,
        current: &'a Table,
        keys: impl IntoIterator<Item = Key<'k>>,
        generation: u64,
    ) -> Hit<'a> {
        let whole_table = self.tables.iter().find(|(last, _)| *last >= generation);
        let last_of_table = whole_table.map_or(u64::MAX, |(last, _)| *last);
        let table = whole_table.map_or(current, |(_, table)| table);
        for key in keys {
            let entries = self.of_key(key);
            let earlier = entries.and_then(|entries| {
                let is_of_generation =
                    |(last, _): &&(u64, EarlierEntry)| *last >= generation && *last < last_of_table;
                entries.iter().find(is_of_generation)
            });
            match earlier {
                Some((_, EarlierEntry::Absent)) => {}
                Some((_, EarlierEntry::NoValue)) => return Hit::NoValue,
                Some((_, EarlierEntry::Value(value))) => return Hit::Value(value.expose()),
                Some((_, EarlierEntry::CannotTell(reason))) => return Hit::CannotTell(*reason),
                None => {
                    if let Some(hit) = table.entry_hit(key) {
                        return hit;
                    }
                }
            }
        }
        let mut uncertainties = self.uncertainties.iter();
        match uncertainties.find(|(last, _)| *last >= generation && *last < last_of_table) {
            Some((_, uncertainty)) => uncertainty.map_or(Hit::Absent, Hit::CannotTell),
            None => table.miss(),
        }
    }
}

/// What an edit changed in a table.
enum Difference {
    /// The keys whose entries differ, with their entries before.
    Keys(Vec<(Arc<[u8]>, EarlierEntry)>),
    /// The table before, of an edit with too many keys.
    Table(Arc<Table>),
    /// Nothing: the table before is too large as well.
    TooLarge,
}

impl Difference {
    fn between(before: &Arc<Table>, after: &Arc<Table>) -> Self {
        if Arc::ptr_eq(before, after) {
            return Self::Keys(Vec::new());
        }
        let mut candidates = Vec::new();
        let mut keys = LookupKeys::default();
        let mut add_candidate = |written: &[u8]| {
            if candidates.len() <= 2 * MAX_KEYS_OF_EDIT {
                // Delimiters do not matter for the whole key.
                keys.parse(written, &Delimiters::default());
                candidates.push(Arc::<[u8]>::from(keys.whole()));
            }
        };
        let is_decided = before.is_decided_by_entries() && after.is_decided_by_entries();
        if is_decided {
            before.keys_not_shared_with(after, &mut add_candidate);
            after.keys_not_shared_with(before, &mut add_candidate);
            candidates.sort_unstable();
            candidates.dedup();
        }
        if is_decided && candidates.len() <= 2 * MAX_KEYS_OF_EDIT {
            let changed = candidates.into_iter().filter_map(|key| {
                let was = before.entry_hit(Key::from(&*key));
                let is = after.entry_hit(Key::from(&*key));
                (!is_same(was, is)).then(|| (key, EarlierEntry::from(was)))
            });
            let changed: Vec<_> = changed.collect();
            if changed.len() <= MAX_KEYS_OF_EDIT {
                return Self::Keys(changed);
            }
        }
        if before.bytes_not_shared_with(after) > MAX_BYTES_OF_TABLE {
            Self::TooLarge
        } else {
            Self::Table(Arc::clone(before))
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Keys(keys) if keys.is_empty())
    }
}

impl From<Option<Hit<'_>>> for EarlierEntry {
    fn from(hit: Option<Hit<'_>>) -> Self {
        match hit {
            None | Some(Hit::Absent) => Self::Absent,
            Some(Hit::NoValue) => Self::NoValue,
            Some(Hit::Value(value)) => Self::Value(Arc::new(Secret::from(value.to_vec()))),
            Some(Hit::CannotTell(reason)) => Self::CannotTell(reason),
        }
    }
}

fn is_same(one: Option<Hit<'_>>, other: Option<Hit<'_>>) -> bool {
    match (one, other) {
        (None, None) | (Some(Hit::NoValue), Some(Hit::NoValue)) => true,
        (Some(Hit::Value(one)), Some(Hit::Value(other))) => one == other,
        (Some(Hit::CannotTell(one)), Some(Hit::CannotTell(other))) => one == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
