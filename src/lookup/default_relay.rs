//! The default relay: what `RELAY_*` and `DEFAULT_RELAY_HOST` say, for senders without an entry.
//!
//! `RELAY_HOST` is for senders that have a domain; `DEFAULT_RELAY_HOST` is for everyone, the null sender included,
//! where the other does not answer. Their credentials belong to their next hops exactly as served: never to a
//! sender, and never to a bare host name, which Postfix asks first and which would hide the file's entries.
//!
//! A part that should come from a file and could not be read is [`Configured::Unreadable`], and what depends on it is
//! *cannot tell*.

use crate::lookup::address::fold_into;
use crate::lookup::nexthop;
use crate::lookup::reason;
use crate::os::secret::Secret;
use crate::protocol::answer::{Answer, Value};

/// Something that is set, is not set, or should be and cannot be read.
#[derive(Clone, Default, PartialEq)]
pub enum Configured<T> {
    /// It is this.
    Value(T),
    /// It is not set.
    #[default]
    Unset,
    /// It is set, and to what is not known: it cannot be read, is wrong, or is not whole.
    Unreadable,
}

impl<T> Configured<T> {
    /// The same with the value changed.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Configured<U> {
        match self {
            Self::Value(value) => Configured::Value(change(value)),
            Self::Unset => Configured::Unset,
            Self::Unreadable => Configured::Unreadable,
        }
    }

    fn is_unset(&self) -> bool {
        matches!(self, Self::Unset)
    }

    fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable)
    }
}

/// The default next hops and their credentials.
#[derive(Default, PartialEq)]
pub struct DefaultRelay {
    /// `RELAY_HOST`.
    relay_host: Configured<Vec<u8>>,
    /// `DEFAULT_RELAY_HOST`.
    fallback_host: Configured<Vec<u8>>,
    credentials: Configured<Secret>,
    /// The elements of both next hops, folded: the keys of the credentials.
    keys: Vec<Vec<u8>>,
}

impl DefaultRelay {
    /// A default relay of next hops that were judged already ([`nexthop::validate`]) and of `user:password`.
    #[must_use]
    pub fn new(
        relay_host: Configured<Vec<u8>>,
        fallback_host: Configured<Vec<u8>>,
        credentials: Configured<Secret>,
    ) -> Self {
        let mut keys = Vec::new();
        for next_hop in [&relay_host, &fallback_host] {
            if let Configured::Value(list) = next_hop {
                for element in nexthop::elements(list) {
                    let mut key = Vec::with_capacity(element.len());
                    fold_into(element, &mut key);
                    keys.push(key);
                }
            }
        }
        Self {
            relay_host,
            fallback_host,
            credentials,
            keys,
        }
    }

    /// Whether there is a default at all, be it one that cannot be read.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !(self.relay_host.is_unset() && self.fallback_host.is_unset())
    }

    /// Whether `other` has the same next hops, with whatever credentials.
    #[must_use]
    pub fn has_same_next_hops(&self, other: &Self) -> bool {
        self.relay_host == other.relay_host && self.fallback_host == other.fallback_host
    }

    /// The next hop of a sender without an entry.
    #[must_use]
    pub fn next_hop(&self, has_domain: bool) -> Answer<'_> {
        let next_hop = if self.uses_relay_host(has_domain) {
            &self.relay_host
        } else {
            &self.fallback_host
        };
        match next_hop {
            Configured::Value(next_hop) => Answer::Found(Value::new(next_hop)),
            Configured::Unset => Answer::NotFound,
            Configured::Unreadable => Answer::CannotTell(reason::DEFAULT_UNREADABLE),
        }
    }

    /// The next hops that are known, each with the variable from which it comes.
    pub fn next_hops(&self) -> impl Iterator<Item = (&[u8], &'static str)> {
        let both = [
            (&self.relay_host, "RELAY_HOST"),
            (&self.fallback_host, "DEFAULT_RELAY_HOST"),
        ];
        both.into_iter()
            .filter_map(|(next_hop, variable)| match next_hop {
                Configured::Value(next_hop) => Some((next_hop.as_slice(), variable)),
                Configured::Unset | Configured::Unreadable => None,
            })
    }

    /// The login, if there is one that is known. A password, for whoever judges it.
    #[must_use]
    pub fn login(&self) -> Option<&[u8]> {
        match &self.credentials {
            Configured::Value(login) => Some(login.expose()),
            Configured::Unset | Configured::Unreadable => None,
        }
    }

    /// The variable from which the next hop of such a sender comes.
    #[must_use]
    pub fn variable(&self, has_domain: bool) -> &'static str {
        if self.uses_relay_host(has_domain) {
            "RELAY_HOST"
        } else {
            "DEFAULT_RELAY_HOST"
        }
    }

    /// Whether `RELAY_HOST` is what counts.
    fn uses_relay_host(&self, has_domain: bool) -> bool {
        has_domain && !self.relay_host.is_unset()
    }

    /// The credentials for a next hop without an entry, given as its folded key.
    #[must_use]
    pub fn credentials(&self, key: &[u8]) -> Answer<'_> {
        if self.credentials.is_unset() {
            return Answer::NotFound;
        }
        if !self.keys.iter().any(|own| own == key) {
            // It may be the one that could not be read.
            return if self.relay_host.is_unreadable() || self.fallback_host.is_unreadable() {
                Answer::CannotTell(reason::DEFAULT_UNREADABLE)
            } else {
                Answer::NotFound
            };
        }
        match &self.credentials {
            Configured::Value(credentials) => Answer::Found(Value::new(credentials.expose())),
            Configured::Unset => Answer::NotFound,
            Configured::Unreadable => Answer::CannotTell(reason::DEFAULT_CREDENTIALS_UNREADABLE),
        }
    }
}
