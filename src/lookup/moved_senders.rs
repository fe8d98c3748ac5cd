//! Moved senders: their mail may still be on its way to their previous next hop.
//!
//! A sender whose next hop changed within the last minutes has a login only together with a next hop
//! ([`Snapshot::has_moved`], [`Snapshot::login_at`]), because its mail may go to either relay. Earlier entries are in
//! [`crate::lookup::history`]; the server tells which requests of a client belong together
//! (`crate::server::exchange`).

use crate::lookup::address::{Key, LookupKeys, key_matches};
use crate::lookup::nexthop;
use crate::lookup::reason;
use crate::lookup::rules::Version;
use crate::lookup::snapshot::Snapshot;
use crate::protocol::answer::Answer;

impl Snapshot {
    /// Whether the sender of these keys had another next hop within the window of the history, so that mail may be on
    /// its way there.
    #[must_use]
    pub fn has_moved(&self, keys: &LookupKeys) -> bool {
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
        // A temporary error sends no mail on its way.
        generations.any(
            |last| match (self.next_hop_in(keys, Version::Past(last)), current) {
                (Answer::CannotTell(_), _) | (_, Answer::CannotTell(_)) => false,
                (past, current) => past != current,
            },
        )
    }

    /// Returns the login of `sender` at `next_hop`, a server with the host name `host`: that of the newest generation
    /// in which the sender had this next hop, looked up for the sender, the host and the next hop, in the order of
    /// Postfix (`smtp_sasl_passwd_lookup` in smtp/smtp_sasl_glue.c). *Cannot tell* if there is no such generation.
    /// Allocates.
    #[must_use]
    pub fn login_at(&self, sender: &LookupKeys, host: Key<'_>, next_hop: Key<'_>) -> Answer<'_> {
        let versions = self.versions_of(sender);
        let routed = versions
            .iter()
            .find(|version| self.uses_next_hop(sender, **version, next_hop));
        // The next hop of direct delivery is any domain, but no relay of a forgotten generation.
        let may_be_direct = !self.history.is_truncated() || nexthop::is_bare_domain(next_hop.bytes());
        let direct = || {
            let mut versions = versions.iter().filter(|_| may_be_direct);
            versions.find(|version| self.next_hop_in(sender, **version) == Answer::NotFound)
        };
        let Some(&version) = routed.or_else(direct) else {
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

    /// Whether the sender has this next hop, or had it in a remembered generation.
    #[must_use]
    pub fn had_next_hop(&self, sender: &LookupKeys, next_hop: Key<'_>) -> bool {
        let versions = self.versions_of(sender);
        versions
            .iter()
            .any(|version| self.uses_next_hop(sender, *version, next_hop))
    }

    /// Whether a host or next hop without a login may have had one when mail was sent on its way there.
    #[must_use]
    pub fn may_have_had_login(&self, key: Key<'_>) -> bool {
        // A bare domain is the next hop of direct delivery.
        self.history.had_login(key) || self.history.is_truncated() && !nexthop::is_bare_domain(key.bytes())
    }

    /// Returns the versions of the tables between which this sender may have moved, newest first.
    fn versions_of(&self, sender: &LookupKeys) -> Vec<Version> {
        let mut generations: Vec<u64> = self.history.generations(sender).collect();
        generations.sort_unstable_by(|one, other| other.cmp(one));
        generations.dedup();
        let past = generations.into_iter().map(Version::Past);
        [Version::Current].into_iter().chain(past).collect()
    }

    fn uses_next_hop(&self, sender: &LookupKeys, version: Version, next_hop: Key<'_>) -> bool {
        match self.next_hop_in(sender, version) {
            Answer::Found(list) => {
                nexthop::elements(list.expose()).any(|element| key_matches(element, next_hop.bytes()))
            }
            Answer::NotFound | Answer::CannotTell(_) => false,
        }
    }
}
