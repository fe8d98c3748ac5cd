//! The snapshot: senders, next hops, credentials and the default relay as one thing, and the pointer to it.
//!
//! Here a hit or a miss of a table becomes an answer. The rules, each with its reason:
//!
//! - A relay map entry without destination ends the search: the default does not apply to an excluded sender.
//! - A sender's credentials need a route. Where this server routes at all and gives the sender no next hop, the
//!   credentials are withheld: Postfix would offer them to the recipient's own server.
//! - Being unsure about either the route or the credentials is being unsure about the credentials.
//! - The default relay's credentials are the last resort for a next hop that the file does not name.
//!
//! A [`Snapshot`] never changes. [`Routes`] swaps a whole one for a whole other, so that no lookup sees the next
//! hop of one generation and the credentials of another. Whoever holds a loaded snapshot keeps its memory, so load
//! one for a batch of lookups and let it go before waiting for anything.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::address::{Delimiters, SenderKeys};
use crate::answer::{Answer, Map, Value};
use crate::default_relay::DefaultRelay;
use crate::peer::Allowed;
use crate::table::{Hit, Table};

/// Everything that answers, as of one moment.
pub struct Snapshot {
    /// Which one this is, from 1, in the order of publication.
    pub generation: u64,
    /// The relay map.
    pub relay_map: Arc<Table>,
    /// The credentials.
    pub credentials: Arc<Table>,
    /// What senders without an entry get.
    pub default: DefaultRelay,
    /// What begins an address extension.
    pub delimiters: Delimiters,
    /// Who may ask. The answers here are for whoever asks; the server looks first.
    pub allowed: Allowed,
}

impl Snapshot {
    /// The answer of `map` for `key`, which is as it came from Postfix. `keys` lends its memory.
    pub fn answer(&self, map: Map, key: &[u8], keys: &mut SenderKeys) -> Answer<'_> {
        keys.read(key, &self.delimiters);
        match map {
            Map::Relayhost => self.next_hop(keys),
            Map::Sasl if keys.is_sender() => self.credentials_of_sender(keys),
            Map::Sasl => self.credentials_of_host(keys),
        }
    }

    fn next_hop(&self, keys: &SenderKeys) -> Answer<'_> {
        match self.relay_map.find(keys.in_order()) {
            Hit::Value(next_hop) => Answer::Found(Value::new(next_hop)),
            Hit::Nothing => Answer::NotFound,
            Hit::Unsure(reason) => Answer::CannotTell(reason),
            Hit::Absent => self.default.next_hop(keys.has_domain()),
        }
    }

    fn credentials_of_sender(&self, keys: &SenderKeys) -> Answer<'_> {
        let credentials = match self.credentials.find(keys.in_order()) {
            Hit::Value(credentials) => Answer::Found(Value::new(credentials)),
            Hit::Nothing | Hit::Absent => Answer::NotFound,
            Hit::Unsure(reason) => Answer::CannotTell(reason),
        };
        match (self.next_hop(keys), credentials) {
            (unsure @ Answer::CannotTell(_), _) | (_, unsure @ Answer::CannotTell(_)) => unsure,
            (Answer::NotFound, _) if self.routes_at_all() => Answer::NotFound,
            (_, credentials) => credentials,
        }
    }

    fn credentials_of_host(&self, keys: &SenderKeys) -> Answer<'_> {
        match self.credentials.find([keys.whole_key()]) {
            Hit::Value(credentials) => Answer::Found(Value::new(credentials)),
            Hit::Nothing => Answer::NotFound,
            Hit::Unsure(reason) => Answer::CannotTell(reason),
            Hit::Absent => self.default.credentials(keys.whole()),
        }
    }

    /// The table of a map.
    #[must_use]
    pub fn table(&self, map: Map) -> &Arc<Table> {
        match map {
            Map::Relayhost => &self.relay_map,
            Map::Sasl => &self.credentials,
        }
    }

    /// Whether next hops come from here: otherwise they come from main.cf, and credentials need none of ours.
    #[must_use]
    pub fn routes_at_all(&self) -> bool {
        !self.relay_map.is_empty() || self.default.is_set()
    }
}

/// The snapshot in force.
pub struct Routes {
    current: ArcSwap<Snapshot>,
}

impl Routes {
    /// Routes that begin with this snapshot.
    #[must_use]
    pub fn new(first: Snapshot) -> Self {
        Self {
            current: ArcSwap::from_pointee(first),
        }
    }

    /// The snapshot in force at this moment. Never waits, whatever a writer does.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// Likewise, to keep for longer: for whoever does not answer lookups.
    #[must_use]
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Puts `next` in force, and returns what was. Lookups that began before end with the snapshot with which they
    /// began.
    pub fn publish(&self, next: Snapshot) -> Arc<Snapshot> {
        self.current.swap(Arc::new(next))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Snapshot;
    use crate::address::{Delimiters, SenderKeys};
    use crate::answer::{Answer, Map, Reason};
    use crate::default_relay::{DefaultRelay, Known};
    use crate::diagnostic::Findings;
    use crate::peer::Allowed;
    use crate::secret::Secret;
    use crate::table::Table;

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
            generation: 1,
            relay_map: build(Map::Relayhost, relay_map).into(),
            credentials: build(Map::Sasl, credentials).into(),
            default,
            delimiters: Delimiters::default(),
            allowed: Allowed::default(),
        }
    }

    fn ask(snapshot: &Snapshot, map: Map, key: &str) -> String {
        match snapshot.answer(map, key.as_bytes(), &mut SenderKeys::default()) {
            Answer::Found(value) => String::from_utf8(value.expose().to_vec()).unwrap(),
            Answer::NotFound => "-".into(),
            Answer::CannotTell(reason) => format!("? {reason:?}"),
        }
    }

    fn default() -> DefaultRelay {
        let hop = |text: &str| Known::Is(text.as_bytes().to_vec());
        DefaultRelay::new(
            hop("[d.example]:587"),
            hop("[a]:25, B:26"),
            Known::Is(Secret::from(b"u:p".to_vec())),
        )
    }

    #[test]
    fn a_sender_without_a_route_gets_no_credentials_if_there_are_routes_at_all() {
        let credentials = "@routed s:1\n@excluded s:2\n@unknown s:3\n";
        let some = snapshot("@routed [r]\n@excluded\n", credentials, DefaultRelay::default());
        assert_eq!(ask(&some, Map::Sasl, "x@routed"), "s:1");
        assert_eq!(ask(&some, Map::Sasl, "x@excluded"), "-");
        assert_eq!(ask(&some, Map::Sasl, "x@unknown"), "-");
        let none = snapshot("", credentials, DefaultRelay::default());
        assert_eq!(ask(&none, Map::Sasl, "x@excluded"), "s:2");
        let all = snapshot("", credentials, default());
        assert_eq!(ask(&all, Map::Sasl, "x@unknown"), "s:3");
    }

    #[test]
    fn being_unsure_about_the_route_or_the_credentials_is_being_unsure() {
        let both = snapshot(
            "@a [\n@b [r]\n@c\n",
            "@a s:1\n@b s\n@c s\n",
            DefaultRelay::default(),
        );
        let relay = format!("? {:?}", Reason::EntryWithError(Map::Relayhost));
        let sasl = format!("? {:?}", Reason::EntryWithError(Map::Sasl));
        assert_eq!(ask(&both, Map::Sasl, "x@a"), relay);
        assert_eq!(ask(&both, Map::Sasl, "x@b"), sasl);
        assert_eq!(ask(&both, Map::Sasl, "x@c"), sasl);
    }

    #[test]
    fn the_default_relay_answers_by_its_own_next_hops_alone() {
        let routes = snapshot("@excluded\n", "b:26 file:1\n", default());
        assert_eq!(ask(&routes, Map::Relayhost, "x@any"), "[d.example]:587");
        assert_eq!(ask(&routes, Map::Relayhost, "x@excluded"), "-");
        assert_eq!(ask(&routes, Map::Relayhost, "<>"), "[a]:25, B:26");
        assert_eq!(ask(&routes, Map::Relayhost, "\"<>\""), "[a]:25, B:26");
        assert_eq!(ask(&routes, Map::Sasl, "[D.example]:587"), "u:p");
        assert_eq!(ask(&routes, Map::Sasl, "[a]:25"), "u:p");
        assert_eq!(ask(&routes, Map::Sasl, "B:26"), "file:1");
        for key in ["d.example", "[d.example]", "x@any", "<>", "[a]:25, B:26"] {
            assert_eq!(ask(&routes, Map::Sasl, key), "-", "{key}");
        }
    }

    #[test]
    fn a_default_that_cannot_be_read_is_not_no_default() {
        let user = Known::Is(Secret::from(b"u:p".to_vec()));
        let lost = DefaultRelay::new(Known::Unreadable, Known::Unset, user);
        let routes = snapshot("@a [r]\n", "", lost);
        let unsure = format!("? {:?}", Reason::DefaultUnreadable);
        assert_eq!(ask(&routes, Map::Relayhost, "x@any"), unsure);
        assert_eq!(ask(&routes, Map::Relayhost, "x@a"), "[r]");
        assert_eq!(ask(&routes, Map::Sasl, "x@any"), unsure);
        assert_eq!(ask(&routes, Map::Sasl, "[any]:25"), unsure);
    }

    #[test]
    fn a_key_that_cannot_be_read_makes_every_miss_unsure() {
        let routes = snapshot("\"open [r]\n@a [r]\n@x\n", "\"open s:1\n@a s:2\n", default());
        let unsure = |map| format!("? {:?}", Reason::LineWithoutKey(map));
        assert_eq!(ask(&routes, Map::Relayhost, "x@a"), "[r]");
        assert_eq!(ask(&routes, Map::Relayhost, "x@x"), "-");
        assert_eq!(ask(&routes, Map::Relayhost, "x@other"), unsure(Map::Relayhost));
        assert_eq!(ask(&routes, Map::Sasl, "x@a"), "s:2");
        assert_eq!(ask(&routes, Map::Sasl, "[a]:25"), unsure(Map::Sasl));
    }
}
