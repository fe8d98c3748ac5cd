//! The maps as data: a [`MapSpec`] has everything that the rest of the server needs to know of a map.
//!
//! The server, metrics, status, commands and configuration take the maps from a [`Maps`] and name none. A further map
//! is a [`MapSpec`] with a [`Search`] and, if it has a file of its own, a [`TableSpec`]: see the test
//! `src/daemon/additional_map.rs`.

use std::fmt;
use std::ops::Deref;

use super::address::LookupKeys;
use super::peer::{Allowed, Peer};
use super::search::{LoginSearch, NextHopSearch, Scratch, Search};
use super::snapshot::Snapshot;
use super::table::spec::{CREDENTIALS, RELAY_MAP, RELAY_TLS, TableSpec};
use super::tls_search::{TlsPolicySearch, TransportSearch};
use crate::os::printable::enumeration;
use crate::protocol::answer::Answer;

/// The specification of a map.
pub struct MapSpec {
    /// The name of the map in main.cf.
    pub name: &'static str,
    /// The parameter of main.cf that uses it (postconf(5)).
    pub parameter: &'static str,
    /// The kind of its answers.
    pub answers: AnswerKind,
    /// The file with its entries.
    pub table: &'static TableSpec,
    /// The code that searches it.
    pub search: &'static dyn Search,
    /// The consequences of a wrong use in main.cf.
    pub misuse: Misuse,
}

/// The kind of the answers of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// A next hop, or a list of them.
    NextHop,
    /// `user:password`.
    Login,
    /// A service of master.cf and a next hop, or a list of them: `service:next hop`.
    Transport,
    /// A TLS policy.
    TlsPolicy,
}

impl MapSpec {
    /// Whether only allowed peers may query it ([`crate::lookup::peer`]), and its answers are never printed.
    #[inline]
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.answers == AnswerKind::Login
    }
}

/// The consequences of a main.cf parameter that uses other tables than its map.
pub struct Misuse {
    /// It uses the other map of this server.
    pub other_map: &'static str,
    /// It has another table after the map.
    pub table_after: &'static str,
    /// It does not use the map.
    pub not_used: &'static str,
}

/// A reference to the specification of a map.
#[derive(Clone, Copy)]
pub struct Map(&'static MapSpec);

impl Map {
    /// `sender_dependent_relayhost_maps`: from envelope sender to next hop.
    pub const RELAYHOST: Self = Self::new(&RELAYHOST);
    /// `smtp_sasl_password_maps`: from envelope sender, host or next hop to `user:password`.
    pub const SASL: Self = Self::new(&SASL);
    /// `sender_dependent_default_transport_maps`: from envelope sender to service and next hop.
    pub const TRANSPORT: Self = Self::new(&TRANSPORT);
    /// `smtp_tls_policy_maps`: from next hop to TLS policy.
    pub const TLS: Self = Self::new(&TLS);

    /// Returns the map of postmapd with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Maps::SERVED.named(name.as_bytes()).map(|(_, map)| map)
    }

    /// Creates a reference to this specification.
    #[must_use]
    pub const fn new(spec: &'static MapSpec) -> Self {
        Self(spec)
    }
}

impl Map {
    /// Returns the answer for `key` as received from Postfix. `keys` and `scratch` are memory for the lookup. For the login
    /// of a moved sender, see [`Snapshot::has_moved`].
    pub fn answer<'a>(
        self,
        snapshot: &'a Snapshot,
        key: &[u8],
        keys: &mut LookupKeys,
        scratch: &'a mut Scratch,
    ) -> Answer<'a> {
        keys.parse(key, &snapshot.delimiters);
        self.search.answer(snapshot, keys, scratch)
    }

    /// Whether this peer may query the map.
    #[inline]
    #[must_use]
    pub fn may_be_queried_by(self, peer: Peer, allowed: &Allowed) -> bool {
        if self.is_secret() {
            allowed.may_query_secrets(peer)
        } else {
            allowed.may_connect(peer)
        }
    }
}

impl Deref for Map {
    type Target = MapSpec;

    #[inline]
    fn deref(&self) -> &MapSpec {
        self.0
    }
}

/// By name, which is unique.
impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Map {}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The maps of a server, in the order in which they are shown.
#[derive(Clone, Copy, Debug)]
pub struct Maps(&'static [Map]);

impl Maps {
    /// The maps of postmapd.
    pub const SERVED: Self = Self(&[Map::RELAYHOST, Map::SASL, Map::TRANSPORT, Map::TLS]);

    /// Creates a list of maps. Their tables must include the relay map and the credentials, which the answers of every
    /// map need.
    #[must_use]
    pub const fn new(maps: &'static [Map]) -> Self {
        Self(maps)
    }

    /// Returns the maps.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = Map> {
        self.0.iter().copied()
    }

    /// Returns the map with this name and its number in the list.
    #[inline]
    #[must_use]
    pub fn named(self, name: &[u8]) -> Option<(usize, Map)> {
        let mut numbered = self.iter().enumerate();
        numbered.find(|(_, map)| map.name.as_bytes() == name)
    }

    /// Returns the names of the maps.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        self.iter().map(|map| map.0.name).collect()
    }

    /// Returns the table files of the maps, each once.
    pub fn tables(self) -> impl Iterator<Item = &'static TableSpec> {
        let tables = self.iter().map(|map| map.0.table).enumerate();
        tables.filter_map(move |(number, table)| {
            let is_first = !self.iter().take(number).any(|map| map.table == table);
            is_first.then_some(table)
        })
    }

    /// Returns the reply to a request for an unknown map.
    #[must_use]
    pub fn no_such_map(self) -> String {
        format!(
            "there is no such map; the maps are {}",
            enumeration(&self.names(), "and")
        )
    }
}

static RELAYHOST: MapSpec = MapSpec {
    name: "relayhost",
    parameter: "sender_dependent_relayhost_maps",
    answers: AnswerKind::NextHop,
    table: &RELAY_MAP,
    search: &NextHopSearch,
    misuse: Misuse {
        other_map: "this list queries credentials: Postfix would use a password as a next hop, and log it",
        table_after: "another table is listed after postmapd's, and Postfix queries it for the senders that postmapd \
                      excludes",
        not_used: "mail does not go to the senders' next hops",
    },
};

static SASL: MapSpec = MapSpec {
    name: "sasl",
    parameter: "smtp_sasl_password_maps",
    answers: AnswerKind::Login,
    table: &CREDENTIALS,
    search: &LoginSearch,
    misuse: Misuse {
        other_map: "this list queries next hops: Postfix would send one as the user and password",
        table_after: "another table is listed after postmapd's, and Postfix queries it for the senders that have no \
                      credentials here",
        not_used: "it gets no passwords, and does not log in",
    },
};

static TRANSPORT: MapSpec = MapSpec {
    name: "transport",
    parameter: "sender_dependent_default_transport_maps",
    answers: AnswerKind::Transport,
    table: &RELAY_MAP,
    search: &TransportSearch,
    misuse: Misuse {
        other_map: "it does not query transports: Postfix would take another value for a service of master.cf",
        table_after: "another table follows postmapd's, and is queried for the senders that postmapd has delivered \
                      directly",
        not_used: "mail does not leave by the service of its relay",
    },
};

static TLS: MapSpec = MapSpec {
    name: "tls",
    parameter: "smtp_tls_policy_maps",
    answers: AnswerKind::TlsPolicy,
    table: &RELAY_TLS,
    search: &TlsPolicySearch,
    misuse: Misuse {
        other_map: "it does not query TLS policies: Postfix would take another value for one, and defer all mail",
        table_after: "another table follows postmapd's, and is queried for all other next hops",
        not_used: "Postfix does not verify the certificates of relays",
    },
};

#[cfg(test)]
mod tests {
    use super::{Map, Maps};

    #[test]
    fn a_map_is_found_only_by_its_whole_name() {
        let named = |name: &[u8]| Maps::SERVED.named(name);
        assert_eq!(named(b"relayhost"), Some((0, Map::RELAYHOST)));
        assert_eq!(named(b"sasl"), Some((1, Map::SASL)));
        for name in [&b""[..], b"relay", b"relayhosts", b"Sasl", b"sasl ", b"sasl\0"] {
            assert_eq!(named(name), None, "{}", name.escape_ascii());
        }
    }
}
