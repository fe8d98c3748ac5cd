//! The maps that are served, as data: a [`MapSpec`] says everything that the rest of the server needs to know of a map.
//!
//! The server, the metrics, the status, the commands and the configuration take the maps from a [`Maps`] and name none.
//! A further map is a [`MapSpec`] with a [`Search`] and, if it answers from a file of its own, a [`TableSpec`]: see
//! `src/daemon/further_map.rs`, the test that adds one.

use std::fmt;
use std::ops::Deref;

use super::search::{LoginSearch, NextHopSearch, Search};
use super::table::spec::{CREDENTIALS, RELAY_MAP, TableSpec, ValueKind};

/// A map.
pub struct MapSpec {
    /// The name under which main.cf asks for it.
    pub name: &'static str,
    /// The parameter of main.cf that asks for it (postconf(5)).
    pub parameter: &'static str,
    /// What its values are.
    pub values: ValueKind,
    /// Whether its values are for allowed peers alone ([`crate::lookup::peer`]), and shown nowhere.
    pub is_secret: bool,
    /// The file with its entries.
    pub table: &'static TableSpec,
    /// How a key is searched for.
    pub search: &'static dyn Search,
    /// What goes wrong where main.cf does not ask for it as it should.
    pub misuse: Misuse,
}

/// What comes of a parameter of main.cf that asks other tables than the map that belongs there.
pub struct Misuse {
    /// It asks the other map of this server.
    pub other_map: &'static str,
    /// It asks a further table after the map.
    pub table_after: &'static str,
    /// It does not ask the map.
    pub not_asked: &'static str,
}

/// A reference to the specification of a map.
#[derive(Clone, Copy)]
pub struct Map(&'static MapSpec);

impl Map {
    /// `sender_dependent_relayhost_maps`: an envelope sender to its next hop.
    pub const RELAYHOST: Self = Self::new(&RELAYHOST);
    /// `smtp_sasl_password_maps`: an envelope sender, a host or a next hop to `user:password`.
    pub const SASL: Self = Self::new(&SASL);

    /// The map of that name, if postmapd has it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Maps::SERVED.named(name.as_bytes()).map(|(_, map)| map)
    }

    /// The map of this specification.
    #[must_use]
    pub const fn new(spec: &'static MapSpec) -> Self {
        Self(spec)
    }
}

impl Deref for Map {
    type Target = MapSpec;

    #[inline]
    fn deref(&self) -> &MapSpec {
        self.0
    }
}

/// By name, of which each map has its own.
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

/// The maps that a server has, in the order in which they are shown.
#[derive(Clone, Copy, Debug)]
pub struct Maps(&'static [Map]);

impl Maps {
    /// Those of postmapd.
    pub const SERVED: Self = Self(&[Map::RELAYHOST, Map::SASL]);

    /// These maps. The answers of each need the relay map and the credentials, so both have to be among their tables.
    #[must_use]
    pub const fn new(maps: &'static [Map]) -> Self {
        Self(maps)
    }

    /// The maps.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = Map> {
        self.0.iter().copied()
    }

    /// The map of that name, and its number among these.
    #[inline]
    #[must_use]
    pub fn named(self, name: &[u8]) -> Option<(usize, Map)> {
        let mut numbered = self.iter().enumerate();
        numbered.find(|(_, map)| map.name.as_bytes() == name)
    }

    /// The names of the maps.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        self.iter().map(|map| map.0.name).collect()
    }

    /// The table files from which they answer, each once.
    pub fn tables(self) -> impl Iterator<Item = &'static TableSpec> {
        let tables = self.iter().map(|map| map.0.table).enumerate();
        tables.filter_map(move |(number, table)| {
            let is_first = !self.iter().take(number).any(|map| map.table == table);
            is_first.then_some(table)
        })
    }

    /// What is answered to a request that names another map.
    #[must_use]
    pub fn no_such_map(self) -> String {
        format!(
            "there is no such map; the maps are {}",
            self.names().join(" and ")
        )
    }
}

static RELAYHOST: MapSpec = MapSpec {
    name: "relayhost",
    parameter: "sender_dependent_relayhost_maps",
    values: ValueKind::NextHop,
    is_secret: false,
    table: &RELAY_MAP,
    search: &NextHopSearch,
    misuse: Misuse {
        other_map: "it asks for credentials: Postfix would take a password for a next hop, and log it",
        table_after: "another table stands after postmapd's, and is asked about the senders that postmapd has \
                      deliver directly",
        not_asked: "mail does not leave by the senders' next hops",
    },
};

static SASL: MapSpec = MapSpec {
    name: "sasl",
    parameter: "smtp_sasl_password_maps",
    values: ValueKind::Login,
    is_secret: true,
    table: &CREDENTIALS,
    search: &LoginSearch,
    misuse: Misuse {
        other_map: "it asks for next hops: Postfix would offer one as a user and a password",
        table_after: "another table stands after postmapd's, and is asked about the senders that have no \
                      credentials here",
        not_asked: "Postfix does not get the passwords, and does not log in",
    },
};

#[cfg(test)]
mod tests {
    use super::{Map, Maps};

    #[test]
    fn a_map_is_named_by_its_whole_name_alone() {
        let named = |name: &[u8]| Maps::SERVED.named(name);
        assert_eq!(named(b"relayhost"), Some((0, Map::RELAYHOST)));
        assert_eq!(named(b"sasl"), Some((1, Map::SASL)));
        for name in [&b""[..], b"relay", b"relayhosts", b"Sasl", b"sasl ", b"sasl\0"] {
            assert_eq!(named(name), None, "{}", name.escape_ascii());
        }
    }
}
