//! How to speak TLS to every next hop that is named: the service that delivers, and the policy.
//!
//! Made with each snapshot from the relay map, the default relay and the TLS file, so that a lookup finds its answer
//! whole. The setting of a next hop is that of the most specific entry: the next hop as written, its host, then
//! `RELAY_TLS` for the default relay, then `*`. Where it has no policy, that is [`tls_policy::computed`]; where it has
//! no mode, that follows from the port.
//!
//! A next hop whose entry is invalid, or may be on a line that cannot be read, is *cannot tell* in both maps. So is a
//! list whose elements need different services, because an answer names one. A text that is not the next hop of any
//! sender has no policy: Postfix asks for the recipient's domain, and for its parents, as well.
//!
//! A next hop that an edit removed keeps its policy for `reload.in_flight`, because mail may be on its way there, and its
//! login is answered as long ([`crate::lookup::moved_senders`]): without the policy, Postfix would use the level of
//! main.cf, which may verify nothing.
//!
//! Limits: at most [`MAX_RETIRED`] removed next hops are remembered. If there are more, an unknown next hop is *cannot
//! tell* until the last of them would have expired, unless it is a bare domain, as is the key of direct delivery.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::lookup::address::{Key, fold_into};
use crate::lookup::default_relay::DefaultRelay;
use crate::lookup::nexthop;
use crate::lookup::reason;
use crate::lookup::table::{Hit, Table};
use crate::lookup::tls_policy::{self, Mode, ServiceName, TlsSetting};
use crate::protocol::answer::{Answer, Reason, Value};

/// The key of all next hops without a more specific entry.
pub(super) const ANY: &[u8] = b"*";

/// The services of master.cf that deliver where an entry does not name another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Services {
    /// For STARTTLS.
    pub starttls: ServiceName,
    /// For implicit TLS.
    pub implicit: ServiceName,
}

impl Default for Services {
    fn default() -> Self {
        Self {
            starttls: ServiceName::RELAY_STARTTLS,
            implicit: ServiceName::RELAY_IMPLICIT,
        }
    }
}

impl Services {
    fn of_mode(&self, mode: Mode) -> &ServiceName {
        match mode {
            Mode::Starttls => &self.starttls,
            Mode::Implicit => &self.implicit,
        }
    }
}

/// The TLS of one next hop.
#[derive(Clone)]
struct HopTls {
    service: ServiceName,
    mode: Mode,
    policy: Cow<'static, [u8]>,
}

/// The TLS of one next hop, for comparisons.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct HopDescription<'a> {
    /// How TLS begins.
    pub mode: Mode,
    /// The policy.
    pub policy: &'a [u8],
    /// The service of master.cf that delivers.
    pub service: &'a ServiceName,
}

/// The maximum number of removed next hops that are remembered.
pub(crate) const MAX_RETIRED: usize = 65_536;

/// The TLS of all next hops.
#[derive(Clone, Default)]
pub struct RelayTls {
    named: Arc<NamedHops>,
    /// Next hops that no sender has any more, folded.
    retired: HashMap<Box<[u8]>, RetiredHop>,
    /// Until when more next hops would be remembered than are.
    truncated_until: Option<Instant>,
}

/// A next hop that an edit removed.
#[derive(Clone)]
struct RetiredHop {
    tls: Result<HopTls, Reason>,
    until: Instant,
}

/// The TLS of the next hops that senders have.
#[derive(Default)]
struct NamedHops {
    /// By next hop, folded.
    hops: HashMap<Box<[u8]>, Result<HopTls, Reason>>,
    /// The service for each list of next hops, as written.
    services: HashMap<Box<[u8]>, Result<ServiceName, Reason>>,
    /// Why a next hop may be missing here, if so.
    missing: Option<Reason>,
}

/// A list whose elements need different services.
#[derive(Debug, PartialEq, Eq)]
pub struct MixedList {
    /// The list as written.
    pub next_hops: Arc<[u8]>,
}

/// An entry whose policy cannot be used with a next hop that it applies to.
#[derive(Debug, PartialEq, Eq)]
pub struct WeakPolicy {
    /// The key of the entry, folded; `None` for `RELAY_TLS`.
    pub key: Option<Vec<u8>>,
    /// The next hop, folded.
    pub next_hop: Vec<u8>,
}

/// Errors between the files, which no file shows alone.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Conflicts {
    /// The lists that need more than one service.
    pub mixed_lists: Vec<MixedList>,
    /// The entries whose level does not demand TLS, with next hops of implicit TLS.
    pub weak_policies: Vec<WeakPolicy>,
}

impl RelayTls {
    /// Creates the TLS of all next hops of `relay_map` and `default`. `tls` has the entries of the TLS file. Returns the
    /// conflicts between them as well.
    #[must_use]
    pub fn new(
        relay_map: &Table,
        default: &DefaultRelay,
        tls: &Table,
        services: &Services,
    ) -> (Self, Conflicts) {
        let mut conflicts = Conflicts::default();
        let mut all = NamedHops {
            missing: match relay_map.miss() {
                Hit::CannotTell(reason) => Some(reason),
                _ => default.unreadable(),
            },
            ..NamedHops::default()
        };
        let defaults = default.next_hops().map(|(next_hops, _)| Arc::from(next_hops));
        for next_hops in relay_map.next_hops().cloned().chain(defaults) {
            let service = all.add_list(&next_hops, default, tls, services, &mut conflicts);
            if service == Err(reason::MIXED_TLS) {
                conflicts.mixed_lists.push(MixedList {
                    next_hops: Arc::clone(&next_hops),
                });
            }
            all.services.insert((&*next_hops).into(), service);
        }
        conflicts
            .weak_policies
            .sort_by(|a, b| a.next_hop.cmp(&b.next_hop));
        let all = Self {
            named: all.into(),
            ..Self::default()
        };
        (all, conflicts)
    }

    /// Remembers the next hops of `previous` that this one does not have, for `window` from `now`.
    #[must_use]
    pub(crate) fn remembering(mut self, previous: &Self, now: Instant, window: Duration) -> Self {
        if window.is_zero() {
            return self;
        }
        let until = now + window;
        self.truncated_until = previous.truncated_until.filter(|until| *until > now);
        let earlier = previous.retired.iter();
        let earlier = earlier.map(|(hop, retired)| (hop, &retired.tls, retired.until));
        let removed = previous.named.hops.iter().map(|(hop, tls)| (hop, tls, until));
        for (hop, tls, until) in earlier.chain(removed).filter(|(_, _, until)| *until > now) {
            if self.named.hops.contains_key(hop) {
                continue;
            }
            if self.retired.len() >= MAX_RETIRED {
                self.truncated_until = self.truncated_until.max(Some(until));
                continue;
            }
            let tls = tls.clone();
            self.retired.insert(hop.clone(), RetiredHop { tls, until });
        }
        self
    }

    /// Returns a copy without the next hops whose time is over at `now`.
    #[must_use]
    pub(crate) fn without_expired(&self, now: Instant) -> Self {
        let mut next = self.clone();
        next.retired.retain(|_, retired| retired.until > now);
        next.truncated_until = next.truncated_until.filter(|until| *until > now);
        next
    }

    /// Returns when the time of the next remembered next hop is over.
    #[must_use]
    pub(crate) fn expires(&self) -> Option<Instant> {
        let retired = self.retired.values().map(|retired| retired.until);
        retired.chain(self.truncated_until).min()
    }

    /// Returns the service that delivers to these next hops, as written in the relay map or the environment.
    pub(crate) fn service(&self, next_hops: &[u8]) -> Result<&ServiceName, Reason> {
        match self.named.services.get(next_hops) {
            Some(Ok(service)) => Ok(service),
            Some(Err(reason)) => Err(*reason),
            None => Err(self.named.missing.unwrap_or(reason::NO_TLS)),
        }
    }

    /// Returns the service that delivers to each next hop that senders have, and how it begins TLS, in no order.
    pub(crate) fn services(&self) -> impl Iterator<Item = (&ServiceName, Mode)> {
        let hops = self.named.hops.values().filter_map(|hop| hop.as_ref().ok());
        hops.map(|hop| (&hop.service, hop.mode))
    }

    /// Returns mode, policy and service of a folded next hop that senders have.
    pub(crate) fn describe(&self, next_hop: &[u8]) -> Option<Result<HopDescription<'_>, Reason>> {
        let hop = self.named.hops.get(next_hop)?.as_ref();
        Some(hop.map_err(|reason| *reason).map(|hop| HopDescription {
            mode: hop.mode,
            policy: &hop.policy,
            service: &hop.service,
        }))
    }

    /// Whether the relay map or the environment has this folded next hop.
    #[must_use]
    pub(crate) fn has_next_hop(&self, next_hop: &[u8]) -> bool {
        self.named.hops.contains_key(next_hop)
    }

    /// Returns all next hops that senders have, folded, in no order.
    pub(crate) fn next_hops(&self) -> impl Iterator<Item = &[u8]> {
        self.named.hops.keys().map(AsRef::as_ref)
    }

    /// Returns the policy of this folded next hop.
    pub(super) fn policy(&self, next_hop: &[u8]) -> Answer<'_> {
        let retired = || self.retired.get(next_hop).map(|retired| &retired.tls);
        match self.named.hops.get(next_hop).or_else(retired) {
            Some(Ok(hop)) => Answer::Found(Value::new(&hop.policy)),
            Some(Err(reason)) => Answer::CannotTell(*reason),
            None if self.truncated_until.is_some() && !nexthop::is_bare_domain(next_hop) => {
                Answer::CannotTell(reason::NEXT_HOP_CHANGED)
            }
            None => self.named.missing.map_or(Answer::NotFound, Answer::CannotTell),
        }
    }
}

impl NamedHops {
    /// Adds the elements of a list. Returns the service that delivers to all of them.
    fn add_list(
        &mut self,
        next_hops: &[u8],
        default: &DefaultRelay,
        tls: &Table,
        services: &Services,
        conflicts: &mut Conflicts,
    ) -> Result<ServiceName, Reason> {
        let mut service: Option<ServiceName> = None;
        let mut result = Ok(());
        for element in nexthop::elements(next_hops) {
            let mut folded = Vec::with_capacity(element.len());
            fold_into(element, &mut folded);
            let hop = self
                .hops
                .entry(folded.into())
                .or_insert_with_key(|folded| hop_tls(folded, element, default, tls, services, conflicts));
            match hop {
                Ok(hop) if service.as_ref().is_none_or(|service| *service == hop.service) => {
                    service = Some(hop.service.clone());
                }
                Ok(_) => result = result.and(Err(reason::MIXED_TLS)),
                Err(reason) => result = Err(*reason),
            }
        }
        result?;
        service.ok_or(reason::NO_TLS)
    }
}

/// Returns the keys of a folded next hop in the TLS file, most specific first, without `*`.
pub(super) fn keys(next_hop: &[u8]) -> impl Iterator<Item = Key<'_>> {
    let (host, _) = nexthop::host_and_port(next_hop);
    let host = host.strip_prefix(b"ipv6:").unwrap_or(host);
    let host = (host != next_hop).then_some(host);
    [Some(next_hop), host].into_iter().flatten().map(Key::from)
}

fn hop_tls(
    folded: &[u8],
    next_hop: &[u8],
    default: &DefaultRelay,
    tls: &Table,
    services: &Services,
    conflicts: &mut Conflicts,
) -> Result<HopTls, Reason> {
    let Decision { origin, setting } = decide(folded, default, tls)?;
    let mode = setting.mode_for(folded);
    if setting.conflicts_with(mode) {
        conflicts.weak_policies.push(WeakPolicy {
            key: match origin {
                Origin::Entry(key) => Some(key.bytes().to_vec()),
                Origin::Variable | Origin::NextHop => None,
            },
            next_hop: folded.to_vec(),
        });
        return Err(reason::WEAK_TLS);
    }
    Ok(HopTls {
        mode,
        service: setting.service.unwrap_or_else(|| services.of_mode(mode).clone()),
        policy: match setting.policy {
            Some(policy) => Cow::Owned(policy.text.into()),
            None => Cow::Borrowed(tls_policy::computed(next_hop, mode)),
        },
    })
}

/// What decides how to speak TLS to a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin<'a> {
    /// The entry of this key in the TLS file.
    Entry(Key<'a>),
    /// `RELAY_TLS`.
    Variable,
    /// Neither: the port and the host.
    NextHop,
}

/// How to speak TLS to a next hop.
pub(crate) struct Decision<'a> {
    /// What decides.
    pub origin: Origin<'a>,
    /// The setting of the entry or the variable; else nothing is set.
    pub setting: TlsSetting,
}

/// Returns the setting for a folded next hop, from the most specific entry.
pub(super) fn decide<'a>(
    folded: &'a [u8],
    default: &DefaultRelay,
    tls: &Table,
) -> Result<Decision<'a>, Reason> {
    let from_entry = |key: Key<'a>| match tls.entry_hit(key) {
        Some(Hit::Value(value)) => match tls_policy::parse(value) {
            Ok(setting) => Some(Ok(Decision {
                origin: Origin::Entry(key),
                setting,
            })),
            Err(_) => Some(Err(tls.spec().invalid_entry)),
        },
        Some(Hit::CannotTell(reason)) => Some(Err(reason)),
        Some(Hit::NoValue | Hit::Absent) | None => None,
    };
    if let Some(decision) = keys(folded).find_map(from_entry) {
        return decision;
    }
    if let Hit::CannotTell(reason) = tls.miss() {
        return Err(reason);
    }
    if let Some(setting) = default.tls(folded)? {
        return Ok(Decision {
            origin: Origin::Variable,
            setting: setting.clone(),
        });
    }
    from_entry(ANY.into()).unwrap_or_else(|| {
        Ok(Decision {
            origin: Origin::NextHop,
            setting: TlsSetting::default(),
        })
    })
}

#[cfg(test)]
mod tests;
