//! The rules that turn a hit or a miss of a table into an answer:
//!
//! - A relay map entry without a destination ends the search: the default relay does not apply to an excluded sender.
//! - *Credentials need a route* ([`crate::lookup::routing`]).
//! - If the route or the credentials are *cannot tell*, so is the login.
//! - The credentials of the default relay are the last resort for a next hop without an entry.
//! - While one of the two files is not active yet ([`Snapshot::last_consistent`]), a new next hop and a login, or a new
//!   login and a next hop, do not certainly belong together: *cannot tell*. So is a relay without a login while the
//!   credentials are pending. Limit: a relay written as a bare domain is not distinguished from the domain of a
//!   recipient.

use std::sync::Arc;

use crate::lookup::address::{Key, LookupKeys};
use crate::lookup::default_relay::DefaultRelay;
use crate::lookup::nexthop;
use crate::lookup::reason;
use crate::lookup::routing::Routing;
use crate::lookup::snapshot::{ConsistentTables, Snapshot};
use crate::lookup::table::Hit;
use crate::protocol::answer::{Answer, Value};

/// A version of the tables.
#[derive(Clone, Copy)]
pub(super) enum Version {
    /// The tables of this snapshot.
    Current,
    /// The tables of an earlier generation ([`crate::lookup::history`]).
    Past(u64),
}

impl Snapshot {
    /// Returns the next hop of the sender of these keys.
    #[must_use]
    pub fn next_hop(&self, keys: &LookupKeys) -> Answer<'_> {
        self.next_hop_in(keys, Version::Current)
    }

    /// Returns the login of the sender, host or next hop of these keys.
    #[must_use]
    pub fn login(&self, keys: &LookupKeys) -> Answer<'_> {
        if keys.is_sender() {
            self.sender_credentials(keys, Version::Current)
        } else {
            self.host_credentials(keys.whole_key(), Version::Current)
        }
    }

    /// Returns the next hop of the sender `key` as received from Postfix.
    pub fn next_hop_for(&self, key: &[u8], keys: &mut LookupKeys) -> Answer<'_> {
        keys.parse(key, &self.delimiters);
        self.next_hop(keys)
    }

    /// Returns the login of the sender, host or next hop `key` as received from Postfix.
    pub fn login_for(&self, key: &[u8], keys: &mut LookupKeys) -> Answer<'_> {
        keys.parse(key, &self.delimiters);
        self.login(keys)
    }

    pub(super) fn next_hop_in(&self, keys: &LookupKeys, version: Version) -> Answer<'_> {
        match self.relay_map_hit(keys, version) {
            Hit::Value(next_hop) => Answer::Found(Value::new(next_hop)),
            Hit::NoValue => Answer::NotFound,
            Hit::CannotTell(reason) => Answer::CannotTell(reason),
            Hit::Absent => self.default_relay(version).next_hop(keys.has_domain()),
        }
    }

    pub(super) fn sender_credentials(&self, keys: &LookupKeys, version: Version) -> Answer<'_> {
        if let (Version::Current, Some(tables)) = (version, &self.last_consistent)
            && !self.is_consistent_with(tables, keys)
        {
            return Answer::CannotTell(reason::FILE_PENDING);
        }
        let hit = match version {
            Version::Current => self.credentials.find_all(keys),
            Version::Past(last) => self.history.login(&self.credentials, keys.of_credentials(), last),
        };
        let credentials = match hit {
            Hit::Value(credentials) => Answer::Found(Value::new(credentials)),
            Hit::NoValue | Hit::Absent => Answer::NotFound,
            Hit::CannotTell(reason) => Answer::CannotTell(reason),
        };
        match (self.next_hop_in(keys, version), credentials) {
            (cannot_tell @ Answer::CannotTell(_), _) | (_, cannot_tell @ Answer::CannotTell(_)) => {
                cannot_tell
            }
            (Answer::NotFound, Answer::Found(_)) => {
                let is_excluded = || matches!(self.relay_map_hit(keys, version), Hit::NoValue);
                self.routing
                    .credentials_without_next_hop(credentials, is_excluded)
            }
            (_, credentials) => credentials,
        }
    }

    /// Whether the sender's next hop and login are both those of `tables`. A removed login belongs to no next hop, and
    /// a sender without a next hop needs none.
    #[cold]
    fn is_consistent_with(&self, tables: &ConsistentTables, keys: &LookupKeys) -> bool {
        let next_hop = self.next_hop_in(keys, Version::Current);
        let before = match tables.relay_map.find_all(keys) {
            Hit::Value(next_hop) => Answer::Found(Value::new(next_hop)),
            Hit::NoValue => Answer::NotFound,
            Hit::CannotTell(reason) => Answer::CannotTell(reason),
            Hit::Absent => tables.default.next_hop(keys.has_domain()),
        };
        let login = self.credentials.find_all(keys);
        let has_moved = matches!(next_hop, Answer::Found(_)) && next_hop != before;
        let is_new = matches!(login, Hit::Value(_)) && login != tables.credentials.find_all(keys);
        !has_moved && !is_new
    }

    /// Returns the credentials of a host or a next hop.
    pub(super) fn host_credentials(&self, key: Key<'_>, version: Version) -> Answer<'_> {
        let hit = match version {
            Version::Current => self.credentials.find([key]),
            Version::Past(last) => self.history.login(&self.credentials, [key], last),
        };
        match hit {
            Hit::Value(credentials) => Answer::Found(Value::new(credentials)),
            Hit::NoValue => Answer::NotFound,
            Hit::CannotTell(reason) => Answer::CannotTell(reason),
            Hit::Absent => match self.default_relay(version).credentials(key.bytes()) {
                Answer::NotFound if self.may_have_pending_login(key) => {
                    Answer::CannotTell(reason::FILE_PENDING)
                }
                answer => answer,
            },
        }
    }

    /// Whether the credentials are pending since the last consistent tables, and `key` may be a next hop that is new
    /// since then. A bare domain is the next hop of direct delivery.
    fn may_have_pending_login(&self, key: Key<'_>) -> bool {
        let tables = self.last_consistent.as_deref();
        tables.is_some_and(|tables| {
            Arc::ptr_eq(&tables.credentials, &self.credentials) && !nexthop::is_bare_domain(key.bytes())
        })
    }

    fn relay_map_hit(&self, keys: &LookupKeys, version: Version) -> Hit<'_> {
        match version {
            Version::Current => self.relay_map.find_all(keys),
            Version::Past(last) => self.history.next_hop(&self.relay_map, keys.in_order(), last),
        }
    }

    fn default_relay(&self, version: Version) -> &DefaultRelay {
        match version {
            Version::Current => &self.default,
            Version::Past(last) => self.history.default_relay(&self.default, last),
        }
    }

    /// Whether postmapd routes senders, so that mail of one without a next hop is delivered directly.
    #[must_use]
    pub fn routes_senders(&self) -> bool {
        self.routing == Routing::Postmapd
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::diagnostics::Findings;
    use crate::lookup::address::LookupKeys;
    use crate::lookup::default_relay::{Configured, DefaultRelay};
    use crate::lookup::map::Map;
    use crate::lookup::reason;
    use crate::lookup::routing::Routing;
    use crate::lookup::search::Scratch;
    use crate::lookup::snapshot::Snapshot;
    use crate::lookup::table::Table;
    use crate::lookup::table::spec::{CREDENTIALS, RELAY_MAP};
    use crate::os::secret::Secret;

    fn snapshot(relay_map: &str, credentials: &str, default: DefaultRelay) -> Snapshot {
        let build = |map, text: &str| {
            Table::build(
                map,
                Path::new("t"),
                text.as_bytes().to_vec().into(),
                &mut Findings::default(),
            )
        };
        Snapshot {
            routing: if default.is_set() || !relay_map.is_empty() {
                Routing::Postmapd
            } else {
                Routing::Unknown
            },
            default: default.into(),
            ..Snapshot::new(
                build(&RELAY_MAP, relay_map).into(),
                build(&CREDENTIALS, credentials).into(),
            )
        }
    }

    fn lookup(snapshot: &Snapshot, map: Map, key: &str) -> String {
        map.answer(
            snapshot,
            key.as_bytes(),
            &mut LookupKeys::default(),
            &mut Scratch::default(),
        )
        .to_text()
    }

    fn default() -> DefaultRelay {
        let hop = |text: &str| Configured::Value(text.as_bytes().to_vec());
        DefaultRelay::new(
            hop("[d.example]:587"),
            hop("[a]:25, B:26"),
            Configured::Value(Secret::from(b"u:p".to_vec())),
        )
    }

    #[test]
    fn a_sender_without_a_next_hop_gets_no_credentials_if_postmapd_routes_senders() {
        let credentials = "@routed s:1\n@excluded s:2\n@unknown s:3\n";
        let some = snapshot("@routed [r]\n@excluded\n", credentials, DefaultRelay::default());
        assert_eq!(lookup(&some, Map::SASL, "x@routed"), "s:1");
        assert_eq!(lookup(&some, Map::SASL, "x@excluded"), "-");
        assert_eq!(lookup(&some, Map::SASL, "x@unknown"), "-");
        let mut none = snapshot("", credentials, DefaultRelay::default());
        let cannot_tell = format!("? {:?}", reason::NO_ROUTING);
        assert_eq!(lookup(&none, Map::SASL, "x@excluded"), cannot_tell);
        assert_eq!(lookup(&none, Map::SASL, "x@other"), "-");
        none.routing = Routing::MainCf;
        assert_eq!(lookup(&none, Map::SASL, "x@excluded"), "s:2");
        let mut main_cf = snapshot("@excluded\n", credentials, DefaultRelay::default());
        main_cf.routing = Routing::MainCf;
        assert_eq!(lookup(&main_cf, Map::SASL, "x@excluded"), "-");
        assert_eq!(lookup(&main_cf, Map::SASL, "x@unknown"), "s:3");
        let all = snapshot("", credentials, default());
        assert_eq!(lookup(&all, Map::SASL, "x@unknown"), "s:3");
    }

    #[test]
    fn an_invalid_entry_for_the_route_or_the_credentials_is_cannot_tell() {
        let both = snapshot(
            "@a [\n@b [r]\n@c\n",
            "@a s:1\n@b s\n@c s\n",
            DefaultRelay::default(),
        );
        let relay = format!("? {:?}", RELAY_MAP.invalid_entry);
        let sasl = format!("? {:?}", CREDENTIALS.invalid_entry);
        assert_eq!(lookup(&both, Map::SASL, "x@a"), relay);
        assert_eq!(lookup(&both, Map::SASL, "x@b"), sasl);
        assert_eq!(lookup(&both, Map::SASL, "x@c"), sasl);
    }

    #[test]
    fn default_credentials_are_answered_only_for_the_default_next_hops() {
        let routes = snapshot("@excluded\n", "b:26 file:1\n", default());
        assert_eq!(lookup(&routes, Map::RELAYHOST, "x@any"), "[d.example]:587");
        assert_eq!(lookup(&routes, Map::RELAYHOST, "x@excluded"), "-");
        assert_eq!(lookup(&routes, Map::RELAYHOST, "<>"), "[a]:25, B:26");
        assert_eq!(lookup(&routes, Map::RELAYHOST, "\"<>\""), "[a]:25, B:26");
        assert_eq!(lookup(&routes, Map::SASL, "[D.example]:587"), "u:p");
        assert_eq!(lookup(&routes, Map::SASL, "[a]:25"), "u:p");
        assert_eq!(lookup(&routes, Map::SASL, "B:26"), "file:1");
        for key in ["d.example", "[d.example]", "x@any", "<>", "[a]:25, B:26"] {
            assert_eq!(lookup(&routes, Map::SASL, key), "-", "{key}");
        }
    }

    #[test]
    fn an_unreadable_default_relay_is_cannot_tell() {
        let user = Configured::Value(Secret::from(b"u:p".to_vec()));
        let lost = DefaultRelay::new(Configured::Unreadable, Configured::Unset, user);
        let routes = snapshot("@a [r]\n", "", lost);
        let cannot_tell = format!("? {:?}", reason::DEFAULT_UNREADABLE);
        assert_eq!(lookup(&routes, Map::RELAYHOST, "x@any"), cannot_tell);
        assert_eq!(lookup(&routes, Map::RELAYHOST, "x@a"), "[r]");
        assert_eq!(lookup(&routes, Map::SASL, "x@any"), cannot_tell);
        assert_eq!(lookup(&routes, Map::SASL, "[any]:25"), cannot_tell);
    }

    #[test]
    fn while_one_file_is_pending_a_new_next_hop_gets_no_login() {
        let tables = snapshot(
            "@a [r1]\n@b [r1]\n@c [r1]\n@d [r1]\n",
            "@a a:1\n@b b:1\n@c c:1\n[h] h:1\n",
            default(),
        );
        let now = |relay_map, credentials| Snapshot {
            last_consistent: Some(tables.consistent_tables()),
            ..snapshot(relay_map, credentials, default())
        };
        let pending = format!("? {:?}", reason::FILE_PENDING);
        // The relay map moves @a and @d and excludes @b. The credentials are pending.
        let moved = now(
            "@a [r2]\n@b\n@c [r1]\n@d [r2]\n",
            "@a a:1\n@b b:1\n@c c:1\n[h] h:1\n",
        );
        assert_eq!(lookup(&moved, Map::RELAYHOST, "x@a"), "[r2]");
        assert_eq!(lookup(&moved, Map::SASL, "x@a"), pending);
        assert_eq!(lookup(&moved, Map::SASL, "x@d"), pending);
        assert_eq!(lookup(&moved, Map::SASL, "x@b"), "-");
        assert_eq!(lookup(&moved, Map::SASL, "x@c"), "c:1");
        assert_eq!(lookup(&moved, Map::SASL, "[h]"), "h:1");
        assert_eq!(lookup(&moved, Map::SASL, "[r2]"), "-");
        let without_credentials = Snapshot {
            credentials: std::sync::Arc::clone(&tables.credentials),
            ..now("@a [r2]\n", "")
        };
        assert_eq!(lookup(&without_credentials, Map::SASL, "[r2]"), pending);
        assert_eq!(lookup(&without_credentials, Map::SASL, "recipient.test"), "-");
        assert_eq!(lookup(&without_credentials, Map::SASL, "[h]"), "h:1");
        // The credentials have another login for @a, none for @b and one for @d. The relay map is pending.
        let changed = now(
            "@a [r1]\n@b [r1]\n@c [r1]\n@d [r1]\n",
            "@a a:2\n@c c:1\n@d d:2\n[h] h:2\n",
        );
        assert_eq!(lookup(&changed, Map::SASL, "x@a"), pending);
        assert_eq!(lookup(&changed, Map::SASL, "x@d"), pending);
        assert_eq!(lookup(&changed, Map::SASL, "x@b"), "-");
        assert_eq!(lookup(&changed, Map::SASL, "x@c"), "c:1");
        assert_eq!(lookup(&changed, Map::SASL, "[h]"), "h:2");
    }

    #[test]
    fn a_line_with_an_unreadable_key_makes_every_miss_cannot_tell() {
        let routes = snapshot("\"open [r]\n@a [r]\n@x\n", "\"open s:1\n@a s:2\n", default());
        let cannot_tell = |map: Map| format!("? {:?}", map.table.unparsable_key);
        assert_eq!(lookup(&routes, Map::RELAYHOST, "x@a"), "[r]");
        assert_eq!(lookup(&routes, Map::RELAYHOST, "x@x"), "-");
        assert_eq!(
            lookup(&routes, Map::RELAYHOST, "x@other"),
            cannot_tell(Map::RELAYHOST)
        );
        assert_eq!(lookup(&routes, Map::SASL, "x@a"), "s:2");
        assert_eq!(lookup(&routes, Map::SASL, "[a]:25"), cannot_tell(Map::SASL));
    }
}
