//! Senders that have moved: mail of theirs may be on its way to the next hop that they had.
//!
//! A sender whose next hop changed within the last minutes has a login at a next hop, and none by itself
//! ([`Snapshot::has_moved`], [`Snapshot::login_at`]): its mail may be on its way to either relay. What the tables said
//! before is in [`crate::lookup::history`]; which of a client's requests belong together, the server knows.

use crate::lookup::address::{Key, SenderKeys, key_matches};
use crate::lookup::nexthop;
use crate::lookup::reason;
use crate::lookup::routing::Version;
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
        if self.history.is_truncated() {
            return true;
        }
        let mut generations = self.history.generations(keys).peekable();
        if generations.peek().is_none() {
            return false;
        }
        let current = self.next_hop_in(keys, Version::Current);
        // With an answer that cannot tell, no mail is on its way.
        generations.any(
            |last| match (self.next_hop_in(keys, Version::Past(last)), current) {
                (Answer::CannotTell(_), _) | (_, Answer::CannotTell(_)) => false,
                (past, current) => past != current,
            },
        )
    }

    /// The login of `sender` at `next_hop`, where the server's host name is `host`: what the newest generation answers in
    /// which the sender had this next hop, asked for all three in this order, as Postfix does
    /// (`smtp_sasl_passwd_lookup` in smtp/smtp_sasl_glue.c). Not known, where the sender had it in none. Allocates.
    #[must_use]
    pub fn login_at(&self, sender: &SenderKeys, host: Key<'_>, next_hop: Key<'_>) -> Answer<'_> {
        let versions = self.versions_of(sender);
        let had_it = versions
            .iter()
            .find(|version| self.uses_next_hop(sender, **version, next_hop));
        // Delivered directly, its next hop is the recipient's domain: any, but no relay of a generation that is forgotten.
        let may_be_direct = !self.history.is_truncated() || nexthop::is_bare_domain(next_hop.bytes());
        let direct = || {
            let mut versions = versions.iter().filter(|_| may_be_direct);
            versions.find(|version| self.next_hop_in(sender, **version) == Answer::NotFound)
        };
        let Some(&version) = had_it.or_else(direct) else {
            return Answer::CannotTell(reason::NEXT_HOP_CHANGED);
        };
        match self.sender_credentials(sender, version) {
            Answer::NotFound => {}
            answer => return answer,
        }
        match self.host_credentials(host, version) {
            Answer::NotFound => self.host_credentials(next_hop, version),
            answer => answer,
        }
    }

    /// Whether the sender has this next hop, or had it as far as is remembered.
    #[must_use]
    pub fn had_next_hop(&self, sender: &SenderKeys, next_hop: Key<'_>) -> bool {
        let versions = self.versions_of(sender);
        versions
            .iter()
            .any(|version| self.uses_next_hop(sender, *version, next_hop))
    }

    /// Whether a host or next hop that has no login now may have had one when mail was put on its way to it.
    #[must_use]
    pub fn may_have_had_login(&self, key: Key<'_>) -> bool {
        // A bare domain is the next hop of mail that is delivered directly.
        self.history.had_login(key) || self.history.is_truncated() && !nexthop::is_bare_domain(key.bytes())
    }

    /// The versions of the tables between which this sender may have moved, the newest first.
    fn versions_of(&self, sender: &SenderKeys) -> Vec<Version> {
        let mut generations: Vec<u64> = self.history.generations(sender).collect();
        generations.sort_unstable_by(|one, other| other.cmp(one));
        generations.dedup();
        let past = generations.into_iter().map(Version::Past);
        [Version::Current].into_iter().chain(past).collect()
    }

    fn uses_next_hop(&self, sender: &SenderKeys, version: Version, next_hop: Key<'_>) -> bool {
        match self.next_hop_in(sender, version) {
            Answer::Found(list) => {
                nexthop::elements(list.expose()).any(|element| key_matches(element, next_hop.bytes()))
            }
            Answer::NotFound | Answer::CannotTell(_) => false,
        }
    }
}
