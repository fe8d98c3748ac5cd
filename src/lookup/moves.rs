//! Senders that have moved: mail of theirs may be on its way to the next hop that they had.
//!
//! A sender whose next hop changed within the last minutes has a login at a next hop, and none by itself
//! ([`Snapshot::has_moved`], [`Snapshot::login_at`]): its mail may be on its way to either relay. What the tables said
//! before is in [`crate::lookup::history`]; which of a client's requests belong together, the server knows.

use crate::lookup::address::{Key, SenderKeys, is_key_of};
use crate::lookup::nexthop;
use crate::lookup::reason;
use crate::lookup::routing::State;
use crate::lookup::snapshot::Snapshot;
use crate::protocol::answer::Answer;

impl Snapshot {
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
        let present = self.next_hop_in(keys, State::Present);
        // With an answer that cannot tell, no mail is on its way.
        generations.any(
            |last| match (self.next_hop_in(keys, State::Past(last)), present) {
                (Answer::CannotTell(_), _) | (_, Answer::CannotTell(_)) => false,
                (past, present) => past != present,
            },
        )
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
            states.find(|state| self.next_hop_in(sender, **state) == Answer::NotFound)
        };
        let Some(&state) = had_it.or_else(direct) else {
            return Answer::CannotTell(reason::NEXT_HOP_OF_ANOTHER_TIME);
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
        match self.next_hop_in(sender, state) {
            Answer::Found(list) => {
                nexthop::elements(list.expose()).any(|element| is_key_of(element, next_hop.bytes()))
            }
            Answer::NotFound | Answer::CannotTell(_) => false,
        }
    }
}
