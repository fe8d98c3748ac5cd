//! The default relay of the environment, for senders without an entry: the values of `RELAY_*` and `DEFAULT_RELAY_HOST`.
//!
//! An entry for `@*` in the relay map precedes it.
//!
//! `RELAY_HOST` applies to senders with a domain. `DEFAULT_RELAY_HOST` applies to all senders, including the null
//! sender, that `RELAY_HOST` does not cover. The credentials belong to these next hops, exactly as they are served:
//! never to a sender, and never to a bare host name, which Postfix looks up first and which would hide the entries of
//! the file.
//!
//! A value that comes from a file that cannot be read is [`Configured::Unreadable`], and answers that depend on it are
//! *cannot tell*.

use crate::lookup::address::fold_into;
use crate::lookup::nexthop;
use crate::lookup::reason;
use crate::lookup::tls_policy::TlsSetting;
use crate::os::secret::Secret;
use crate::protocol::answer::{Answer, Reason, Value};

/// A value that is set, unset, or set but unreadable.
#[derive(Clone, Default, PartialEq)]
pub enum Configured<T> {
    /// The value.
    Value(T),
    /// Not set.
    #[default]
    Unset,
    /// Set, but its value is unknown: unreadable, invalid or incomplete.
    Unreadable,
}

impl<T> Configured<T> {
    /// Applies `change` to the value, if there is one.
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
    /// `RELAY_TLS`.
    tls: Configured<TlsSetting>,
    /// The elements of both next hops, folded: the keys of the credentials.
    keys: Vec<Vec<u8>>,
}

impl DefaultRelay {
    /// Creates a default relay of next hops that are valid ([`nexthop::validate`]) and of `user:password`.
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
            tls: Configured::Unset,
            keys,
        }
    }

    /// Sets how to speak TLS to these next hops where the TLS file has no entry for them.
    #[must_use]
    pub fn with_tls(self, tls: Configured<TlsSetting>) -> Self {
        Self { tls, ..self }
    }

    /// Whether `RELAY_TLS` is set, readable or not.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        !self.tls.is_unset()
    }

    /// Returns how to speak TLS to this folded next hop, if it is one of the default relay and `RELAY_TLS` is set.
    pub(super) fn tls(&self, key: &[u8]) -> Result<Option<&TlsSetting>, Reason> {
        match &self.tls {
            Configured::Value(setting) if self.has_next_hop(key) => Ok(Some(setting)),
            Configured::Unreadable if self.has_next_hop(key) => Err(reason::DEFAULT_TLS_UNREADABLE),
            Configured::Value(_) | Configured::Unset | Configured::Unreadable => Ok(None),
        }
    }

    /// Returns why a next hop of the default relay may be unknown, if so.
    pub(super) fn unreadable(&self) -> Option<Reason> {
        let is_unreadable = self.relay_host.is_unreadable() || self.fallback_host.is_unreadable();
        is_unreadable.then_some(reason::DEFAULT_UNREADABLE)
    }

    fn has_next_hop(&self, key: &[u8]) -> bool {
        self.keys.iter().any(|own| own == key)
    }

    /// Whether there is a default relay, readable or not.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !(self.relay_host.is_unset() && self.fallback_host.is_unset())
    }

    /// Whether all next hops that are set are known.
    #[must_use]
    pub(crate) fn is_readable(&self) -> bool {
        self.unreadable().is_none()
    }

    /// Whether `other` has the same next hops. The credentials may differ.
    #[must_use]
    pub fn has_same_next_hops(&self, other: &Self) -> bool {
        self.relay_host == other.relay_host && self.fallback_host == other.fallback_host
    }

    /// Returns the default next hop, for a sender that has no entry and has a domain or not.
    #[must_use]
    pub fn next_hop(&self, sender_has_domain: bool) -> Answer<'_> {
        let next_hop = if self.uses_relay_host(sender_has_domain) {
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

    /// Returns the known next hops, each with the name of its variable.
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

    /// Returns the login if it is known, for checks. It has a password.
    #[must_use]
    pub fn login(&self) -> Option<&[u8]> {
        match &self.credentials {
            Configured::Value(login) => Some(login.expose()),
            Configured::Unset | Configured::Unreadable => None,
        }
    }

    /// Returns the name of the variable that has the next hop of such a sender.
    #[must_use]
    pub fn variable(&self, has_domain: bool) -> &'static str {
        if self.uses_relay_host(has_domain) {
            "RELAY_HOST"
        } else {
            "DEFAULT_RELAY_HOST"
        }
    }

    /// Whether `RELAY_HOST` applies.
    fn uses_relay_host(&self, has_domain: bool) -> bool {
        has_domain && !self.relay_host.is_unset()
    }

    /// Returns the credentials of a next hop without an entry, by its folded key.
    #[must_use]
    pub fn credentials(&self, key: &[u8]) -> Answer<'_> {
        if self.credentials.is_unset() {
            return Answer::NotFound;
        }
        if !self.has_next_hop(key) {
            // The key may be that of the unreadable one.
            return self.unreadable().map_or(Answer::NotFound, Answer::CannotTell);
        }
        match &self.credentials {
            Configured::Value(credentials) => Answer::Found(Value::new(credentials.expose())),
            Configured::Unset => Answer::NotFound,
            Configured::Unreadable => Answer::CannotTell(reason::DEFAULT_CREDENTIALS_UNREADABLE),
        }
    }
}
