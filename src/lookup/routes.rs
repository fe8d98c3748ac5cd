//! The snapshot: senders, next hops, credentials and the default relay as one thing, and the pointer to it.
//!
//! Here a hit or a miss of a table becomes an answer. The rules, each with its reason:
//!
//! - A relay map entry without destination ends the search: the default does not apply to an excluded sender.
//! - A sender's credentials need a route ([`Routing`]). Without one Postfix would offer them to the recipient's own
//!   server. Where it is not known whether there is a route, it is not known whether there are credentials.
//! - Being unsure about either the route or the credentials is being unsure about the credentials.
//! - The default relay's credentials are the last resort for a next hop that the file does not name.
//! - A sender whose next hop changed within the last minutes has a login at a next hop, and none by itself
//!   ([`Snapshot::has_moved`], [`Snapshot::login_at`]): its mail may be on its way to either relay.
//! - While one of the two files is not used yet ([`Snapshot::last_pair`]), a next hop and a login of which one is new do not
//!   belong together for certain: *cannot tell*, and so is a relay without a login while the credentials are awaited.
//!   Limit: a relay that is written as a bare domain is not told from the domain of a recipient.
//!
//! A [`Snapshot`] never changes. [`Routes`] swaps a whole one for a whole other, so that no lookup sees the next
//! hop of one generation and the credentials of another. A loaded snapshot keeps its memory, so load one for
//! a batch of lookups and drop it before waiting for anything.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::lookup::address::{Delimiters, Key, SenderKeys, is_key_of};
use crate::lookup::default_relay::DefaultRelay;
use crate::lookup::history::{History, Parts};
use crate::lookup::nexthop;
use crate::lookup::peer::Allowed;
use crate::lookup::table::{Hit, Table};
use crate::protocol::answer::{Answer, Map, Reason, Value};

/// Where the next hops of senders come from. It decides about credentials of a sender for which there is no next hop here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// From here: there is a relay map file, even an empty one, or a default relay. The sender's mail is delivered
    /// directly, and its credentials are withheld.
    Here,
    /// From main.cf, as the setting `next_hops` says: the credentials are answered.
    MainCf,
    /// There is neither, which may be a file that was lost: *cannot tell*.
    Unknown,
}

/// Everything that answers, as of one moment.
pub struct Snapshot {
    /// Which one this is, from 1, in the order of publication.
    pub generation: u64,
    /// The relay map.
    pub relay_map: Arc<Table>,
    /// The credentials.
    pub credentials: Arc<Table>,
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
    pub last_pair: Option<Arc<Pair>>,
}

/// A relay map and credentials that were read as of one moment.
pub struct Pair {
    /// The relay map.
    pub relay_map: Arc<Table>,
    /// The credentials.
    pub credentials: Arc<Table>,
    /// The default relay.
    pub default: Arc<DefaultRelay>,
}

/// The tables as of a generation.
#[derive(Clone, Copy)]
enum State {
    /// As they are.
    Present,
    /// As they were in this generation ([`History`]).
    Past(u64),
}

impl Snapshot {
    /// The answer of `map` for `key`, which is as it came from Postfix. `keys` lends its memory. For a sender that has
    /// moved, see [`Snapshot::has_moved`].
    pub fn answer(&self, map: Map, key: &[u8], keys: &mut SenderKeys) -> Answer<'_> {
        keys.read(key, &self.delimiters);
        match map {
            Map::Relayhost => self.next_hop(keys, State::Present),
            Map::Sasl if keys.is_sender() => self.credentials_of_sender(keys, State::Present),
            Map::Sasl => self.credentials_of_host(keys.whole_key(), State::Present),
        }
    }

    /// Whether the sender of these keys had another next hop within the time for which edits are remembered, so that mail
    /// may be on its way to that one.
    #[must_use]
    pub fn has_moved(&self, keys: &SenderKeys) -> bool {
        if self.history.is_empty() {
            return false;
        }
        if self.history.forgot() {
            return true;
        }
        let mut generations = self.history.generations(keys).peekable();
        if generations.peek().is_none() {
            return false;
        }
        let present = self.next_hop(keys, State::Present);
        // With an answer that cannot tell, no mail is on its way.
        generations.any(|last| match (self.next_hop(keys, State::Past(last)), present) {
            (Answer::CannotTell(_), _) | (_, Answer::CannotTell(_)) => false,
            (past, present) => past != present,
        })
    }

    /// The login of `sender` at `next_hop`, where the server's host name is `host`: what the newest generation answers in
    /// which the sender had this next hop, asked for all three in this order, as Postfix does
    /// (`smtp_sasl_passwd_lookup` in smtp/smtp_sasl_glue.c). Not known, where the sender had it in none. Allocates.
    #[must_use]
    pub fn login_at(&self, sender: &SenderKeys, host: Key<'_>, next_hop: Key<'_>) -> Answer<'_> {
        let states = self.states_of(sender);
        let had_it = states
            .iter()
            .find(|state| self.is_routed(sender, **state, next_hop));
        // Delivered directly, its next hop is the recipient's domain: any, but no relay of a generation that is forgotten.
        let may_be_direct = !self.history.forgot() || nexthop::is_bare_domain(next_hop.bytes());
        let direct = || {
            let mut states = states.iter().filter(|_| may_be_direct);
            states.find(|state| self.next_hop(sender, **state) == Answer::NotFound)
        };
        let Some(&state) = had_it.or_else(direct) else {
            return Answer::CannotTell(Reason::NextHopOfAnotherTime);
        };
        match self.credentials_of_sender(sender, state) {
            Answer::NotFound => {}
            answer => return answer,
        }
        match self.credentials_of_host(host, state) {
            Answer::NotFound => self.credentials_of_host(next_hop, state),
            answer => answer,
        }
    }

    /// Whether the sender has this next hop, or had it as far as is remembered.
    #[must_use]
    pub fn had_next_hop(&self, sender: &SenderKeys, next_hop: Key<'_>) -> bool {
        let states = self.states_of(sender);
        states
            .iter()
            .any(|state| self.is_routed(sender, *state, next_hop))
    }

    /// Whether a host or next hop that has no login now may have had one when mail was put on its way to it.
    #[must_use]
    pub fn may_have_had_login(&self, key: Key<'_>) -> bool {
        // A bare domain is the next hop of mail that is delivered directly.
        self.history.had_login(key) || self.history.forgot() && !nexthop::is_bare_domain(key.bytes())
    }

    /// The states of the tables between which this sender may have moved, the newest first.
    fn states_of(&self, sender: &SenderKeys) -> Vec<State> {
        let mut generations: Vec<u64> = self.history.generations(sender).collect();
        generations.sort_unstable_by(|one, other| other.cmp(one));
        generations.dedup();
        let past = generations.into_iter().map(State::Past);
        [State::Present].into_iter().chain(past).collect()
    }

    fn is_routed(&self, sender: &SenderKeys, state: State, next_hop: Key<'_>) -> bool {
        match self.next_hop(sender, state) {
            Answer::Found(list) => {
                nexthop::elements(list.expose()).any(|element| is_key_of(element, next_hop.bytes()))
            }
            Answer::NotFound | Answer::CannotTell(_) => false,
        }
    }

    fn next_hop(&self, keys: &SenderKeys, state: State) -> Answer<'_> {
        match self.relay_map_hit(keys, state) {
            Hit::Value(next_hop) => Answer::Found(Value::new(next_hop)),
            Hit::Nothing => Answer::NotFound,
            Hit::Unsure(reason) => Answer::CannotTell(reason),
            Hit::Absent => self.default_relay(state).next_hop(keys.has_domain()),
        }
    }

    fn credentials_of_sender(&self, keys: &SenderKeys, state: State) -> Answer<'_> {
        if let (State::Present, Some(pair)) = (state, &self.last_pair)
            && !self.belongs_together(pair, keys)
        {
            return Answer::CannotTell(Reason::FileAwaited);
        }
        let hit = match state {
            State::Present => self.credentials.find(keys.in_order()),
            State::Past(last) => self
                .history
                .find(Map::Sasl, &self.credentials, keys.in_order(), last),
        };
        let credentials = match hit {
            Hit::Value(credentials) => Answer::Found(Value::new(credentials)),
            Hit::Nothing | Hit::Absent => Answer::NotFound,
            Hit::Unsure(reason) => Answer::CannotTell(reason),
        };
        match (self.next_hop(keys, state), credentials) {
            (unsure @ Answer::CannotTell(_), _) | (_, unsure @ Answer::CannotTell(_)) => unsure,
            (Answer::NotFound, found @ Answer::Found(_)) => match self.routing {
                Routing::Here => Answer::NotFound,
                Routing::Unknown => Answer::CannotTell(Reason::NoRouting),
                Routing::MainCf if matches!(self.relay_map_hit(keys, state), Hit::Nothing) => {
                    Answer::NotFound
                }
                Routing::MainCf => found,
            },
            (_, credentials) => credentials,
        }
    }

    /// Whether the sender's next hop and login are both as they were in `pair`. A login that was removed belongs to no next
    /// hop, and a sender without a next hop needs none.
    #[cold]
    fn belongs_together(&self, pair: &Pair, keys: &SenderKeys) -> bool {
        let next_hop = self.next_hop(keys, State::Present);
        let before = match pair.relay_map.find(keys.in_order()) {
            Hit::Value(next_hop) => Answer::Found(Value::new(next_hop)),
            Hit::Nothing => Answer::NotFound,
            Hit::Unsure(reason) => Answer::CannotTell(reason),
            Hit::Absent => pair.default.next_hop(keys.has_domain()),
        };
        let login = self.credentials.find(keys.in_order());
        let has_moved = matches!(next_hop, Answer::Found(_)) && next_hop != before;
        let is_new = matches!(login, Hit::Value(_)) && login != pair.credentials.find(keys.in_order());
        !has_moved && !is_new
    }

    /// The credentials of a host or a next hop.
    fn credentials_of_host(&self, key: Key<'_>, state: State) -> Answer<'_> {
        let hit = match state {
            State::Present => self.credentials.find([key]),
            State::Past(last) => self.history.find(Map::Sasl, &self.credentials, [key], last),
        };
        match hit {
            Hit::Value(credentials) => Answer::Found(Value::new(credentials)),
            Hit::Nothing => Answer::NotFound,
            Hit::Unsure(reason) => Answer::CannotTell(reason),
            Hit::Absent => match self.default_relay(state).credentials(key.bytes()) {
                Answer::NotFound if self.may_get_login(key) => Answer::CannotTell(Reason::FileAwaited),
                answer => answer,
            },
        }
    }

    /// Whether the credentials are awaited since the last pair, and this may be a next hop that is new since then. A bare
    /// domain is the next hop of mail that is delivered directly.
    fn may_get_login(&self, key: Key<'_>) -> bool {
        let pair = self.last_pair.as_deref();
        pair.is_some_and(|pair| {
            Arc::ptr_eq(&pair.credentials, &self.credentials) && !nexthop::is_bare_domain(key.bytes())
        })
    }

    fn relay_map_hit(&self, keys: &SenderKeys, state: State) -> Hit<'_> {
        match state {
            State::Present => self.relay_map.find(keys.in_order()),
            State::Past(last) => self
                .history
                .find(Map::Relayhost, &self.relay_map, keys.in_order(), last),
        }
    }

    fn default_relay(&self, state: State) -> &DefaultRelay {
        match state {
            State::Present => &self.default,
            State::Past(last) => self.history.default_relay(&self.default, last),
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

    /// The present tables, as the last that belong together for certain.
    #[must_use]
    pub fn pair(&self) -> Arc<Pair> {
        self.last_pair.clone().unwrap_or_else(|| {
            Pair {
                relay_map: Arc::clone(&self.relay_map),
                credentials: Arc::clone(&self.credentials),
                default: Arc::clone(&self.default),
            }
            .into()
        })
    }

    /// The parts of which earlier states are remembered.
    #[must_use]
    pub fn parts(&self) -> Parts<'_> {
        Parts {
            relay_map: &self.relay_map,
            credentials: &self.credentials,
            default: &self.default,
        }
    }

    /// Likewise, as a later snapshot remembers them: a login that may not have been of its sender's next hop is none that
    /// it had there.
    #[must_use]
    pub fn parts_to_remember(&self) -> Parts<'_> {
        let pair = self.last_pair.as_deref();
        Parts {
            credentials: pair.map_or(&self.credentials, |pair| &pair.credentials),
            ..self.parts()
        }
    }

    /// This snapshot with other memories.
    #[must_use]
    pub fn with_history(&self, history: History) -> Self {
        Self {
            generation: self.generation,
            relay_map: Arc::clone(&self.relay_map),
            credentials: Arc::clone(&self.credentials),
            default: Arc::clone(&self.default),
            routing: self.routing,
            delimiters: self.delimiters.clone(),
            allowed: self.allowed.clone(),
            history,
            last_pair: self.last_pair.clone(),
        }
    }

    /// Whether next hops come from here, so that a sender without one is delivered directly.
    #[must_use]
    pub fn routes_at_all(&self) -> bool {
        self.routing == Routing::Here
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

    /// Likewise, to keep for longer: for threads that do not answer lookups.
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

    use super::{Routing, Snapshot};
    use crate::diagnostics::Findings;
    use crate::lookup::address::{Delimiters, SenderKeys};
    use crate::lookup::default_relay::{DefaultRelay, Known};
    use crate::lookup::history::History;
    use crate::lookup::peer::Allowed;
    use crate::lookup::table::Table;
    use crate::os::secret::Secret;
    use crate::protocol::answer::{Answer, Map, Reason};

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
            routing: if default.is_set() || !relay_map.is_empty() {
                Routing::Here
            } else {
                Routing::Unknown
            },
            default: default.into(),
            delimiters: Delimiters::default(),
            allowed: Allowed::default(),
            history: History::default(),
            last_pair: None,
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
        let mut none = snapshot("", credentials, DefaultRelay::default());
        let unsure = format!("? {:?}", Reason::NoRouting);
        assert_eq!(ask(&none, Map::Sasl, "x@excluded"), unsure);
        assert_eq!(ask(&none, Map::Sasl, "x@stranger"), "-");
        none.routing = Routing::MainCf;
        assert_eq!(ask(&none, Map::Sasl, "x@excluded"), "s:2");
        let mut main_cf = snapshot("@excluded\n", credentials, DefaultRelay::default());
        main_cf.routing = Routing::MainCf;
        assert_eq!(ask(&main_cf, Map::Sasl, "x@excluded"), "-");
        assert_eq!(ask(&main_cf, Map::Sasl, "x@unknown"), "s:3");
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
    fn while_one_file_is_awaited_a_new_next_hop_and_a_login_are_no_pair() {
        let pair = snapshot(
            "@a [r1]\n@b [r1]\n@c [r1]\n@d [r1]\n",
            "@a a:1\n@b b:1\n@c c:1\n[h] h:1\n",
            default(),
        );
        let now = |relay_map, credentials| Snapshot {
            last_pair: Some(pair.pair()),
            ..snapshot(relay_map, credentials, default())
        };
        let awaited = format!("? {:?}", Reason::FileAwaited);
        // The relay map moves @a and @d, excludes @b, and the credentials are awaited.
        let moved = now(
            "@a [r2]\n@b\n@c [r1]\n@d [r2]\n",
            "@a a:1\n@b b:1\n@c c:1\n[h] h:1\n",
        );
        assert_eq!(ask(&moved, Map::Relayhost, "x@a"), "[r2]");
        assert_eq!(ask(&moved, Map::Sasl, "x@a"), awaited);
        assert_eq!(ask(&moved, Map::Sasl, "x@d"), awaited);
        assert_eq!(ask(&moved, Map::Sasl, "x@b"), "-");
        assert_eq!(ask(&moved, Map::Sasl, "x@c"), "c:1");
        assert_eq!(ask(&moved, Map::Sasl, "[h]"), "h:1");
        assert_eq!(ask(&moved, Map::Sasl, "[r2]"), "-");
        let awaited_credentials = Snapshot {
            credentials: std::sync::Arc::clone(&pair.credentials),
            ..now("@a [r2]\n", "")
        };
        assert_eq!(ask(&awaited_credentials, Map::Sasl, "[r2]"), awaited);
        assert_eq!(ask(&awaited_credentials, Map::Sasl, "recipient.test"), "-");
        assert_eq!(ask(&awaited_credentials, Map::Sasl, "[h]"), "h:1");
        // The credentials have another login for @a, none for @b and one for @d, and the relay map is awaited.
        let changed = now(
            "@a [r1]\n@b [r1]\n@c [r1]\n@d [r1]\n",
            "@a a:2\n@c c:1\n@d d:2\n[h] h:2\n",
        );
        assert_eq!(ask(&changed, Map::Sasl, "x@a"), awaited);
        assert_eq!(ask(&changed, Map::Sasl, "x@d"), awaited);
        assert_eq!(ask(&changed, Map::Sasl, "x@b"), "-");
        assert_eq!(ask(&changed, Map::Sasl, "x@c"), "c:1");
        assert_eq!(ask(&changed, Map::Sasl, "[h]"), "h:2");
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
