//! The searches of the maps `transport` and `tls`: by which service of master.cf, and with which TLS policy, mail goes to a
//! next hop.
//!
//! Both answers are made with the snapshot ([`crate::lookup::relay_tls`]). An explanation repeats the decision, and names
//! the entry, the variable or the kind of host that made it.

use super::address::{Key, LookupKeys};
use super::nexthop::{self, HostKind};
use super::rationale::{Entry, Rationale};
use super::reason;
use super::relay_tls::{self, Decision, Origin};
use super::search::{Scratch, Search, explain_next_hop};
use super::snapshot::Snapshot;
use super::tls_policy::{Mode, ServiceName};
use crate::os::printable::printable;
use crate::protocol::answer::{Answer, Value};

/// The search for the service and the next hop of an envelope sender.
///
/// Found exactly where the next hop is, and never empty before the `:` ([`ServiceName`]), which would stop the mail of
/// all senders.
pub(super) struct TransportSearch;

impl Search for TransportSearch {
    fn answer<'a>(&self, snapshot: &'a Snapshot, keys: &LookupKeys, scratch: &'a mut Scratch) -> Answer<'a> {
        match snapshot.next_hop(keys) {
            Answer::Found(next_hops) => match snapshot.relay_tls.service(next_hops.expose()) {
                Ok(service) => Answer::Found(transport(service, next_hops, scratch)),
                Err(reason) => Answer::CannotTell(reason),
            },
            other => other,
        }
    }

    fn keys<'k>(&self, _: &Snapshot, keys: &'k LookupKeys) -> Vec<Key<'k>> {
        keys.in_order().collect()
    }

    fn explain(
        &self,
        snapshot: &Snapshot,
        keys: &LookupKeys,
        answer: Answer<'_>,
        entry: Option<Entry<'_>>,
    ) -> Rationale {
        let next_hop = snapshot.next_hop(keys);
        match (answer, next_hop) {
            (Answer::CannotTell(reason), Answer::Found(_)) => Rationale::from_entry(entry, reason.text()),
            (Answer::Found(_), Answer::Found(list)) => {
                let route = explain_next_hop(snapshot, keys, next_hop, entry);
                let service = nexthop::elements(list.expose())
                    .next()
                    .map_or_else(String::new, |first| explain_service(snapshot, first));
                Rationale {
                    reason: format!("{}; {service}", route.reason),
                    ..route
                }
            }
            _ => explain_next_hop(snapshot, keys, next_hop, entry),
        }
    }
}

/// Returns the answer for a service and next hops. A separator before the first next hop would be a part of it.
fn transport<'s>(service: &ServiceName, next_hops: Value<'_>, scratch: &'s mut Scratch) -> Value<'s> {
    let next_hops = next_hops.expose();
    let separators = next_hops
        .iter()
        .take_while(|c| nexthop::is_separator(**c))
        .count();
    let next_hops = next_hops.get(separators..).unwrap_or_default();
    scratch.compose(&[service.as_str().as_bytes(), b":", next_hops])
}

/// Explains why a next hop has its service.
fn explain_service(snapshot: &Snapshot, next_hop: &[u8]) -> String {
    let keys = LookupKeys::of(next_hop, &snapshot.delimiters);
    let Ok(Decision { origin, setting }) = snapshot.tls_decision(keys.whole()) else {
        return String::new();
    };
    let mode = match setting.mode_for(keys.whole()) {
        Mode::Starttls => "STARTTLS",
        Mode::Implicit => "implicit TLS",
    };
    let from = match origin {
        Origin::Entry(key) => format!("the TLS entry for {}", printable(key.bytes())),
        Origin::Variable => "RELAY_TLS".to_owned(),
        Origin::NextHop => "the port".to_owned(),
    };
    match (&setting.service, setting.mode) {
        (Some(_), _) => format!("{from} names the service"),
        (None, Some(_)) => format!("{from} sets {mode}"),
        (None, None) => format!("{mode} follows from the port"),
    }
}

/// The search for the TLS policy of a next hop.
pub(super) struct TlsPolicySearch;

impl Search for TlsPolicySearch {
    fn answer<'a>(&self, snapshot: &'a Snapshot, keys: &LookupKeys, _: &'a mut Scratch) -> Answer<'a> {
        snapshot.relay_tls.policy(keys.whole())
    }

    /// A text that is not the next hop of any sender is not looked up in the file, and `RELAY_TLS` precedes `*`.
    fn keys<'k>(&self, snapshot: &Snapshot, keys: &'k LookupKeys) -> Vec<Key<'k>> {
        if !snapshot.relay_tls.has_next_hop(keys.whole()) {
            return vec![keys.whole_key()];
        }
        let any = match snapshot.tls_decision(keys.whole()) {
            Ok(Decision {
                origin: Origin::Variable,
                ..
            })
            | Err(reason::DEFAULT_TLS_UNREADABLE) => None,
            _ => Some(Key::from(relay_tls::ANY)),
        };
        relay_tls::keys(keys.whole()).chain(any).collect()
    }

    fn explain(
        &self,
        snapshot: &Snapshot,
        keys: &LookupKeys,
        answer: Answer<'_>,
        entry: Option<Entry<'_>>,
    ) -> Rationale {
        let next_hop = keys.whole();
        let decision = snapshot.tls_decision(next_hop);
        match (answer, decision) {
            (Answer::NotFound, _) => Rationale::from_entry(
                None,
                "neither the relay map nor the environment has this next hop",
            ),
            (Answer::Found(_), _) if !snapshot.relay_tls.has_next_hop(next_hop) => Rationale::from_entry(
                None,
                "no sender has this next hop any more, and mail may still be on its way there",
            ),
            (Answer::CannotTell(reason), _) if !snapshot.relay_tls.has_next_hop(next_hop) => {
                Rationale::from_entry(None, reason.text())
            }
            (Answer::CannotTell(reason), Ok(decision)) if decision.origin == Origin::Variable => {
                Rationale::from_variable("RELAY_TLS", reason.text())
            }
            (Answer::CannotTell(reason), Err(reason::DEFAULT_TLS_UNREADABLE)) => {
                Rationale::from_variable("RELAY_TLS", reason.text())
            }
            (Answer::Found(_), Ok(decision)) => explain_policy(next_hop, &decision, entry),
            (Answer::CannotTell(reason), _) | (Answer::Found(_), Err(reason)) => {
                Rationale::from_entry(entry, reason.text())
            }
        }
    }
}

/// Explains why a next hop has its policy.
fn explain_policy(next_hop: &[u8], decision: &Decision<'_>, entry: Option<Entry<'_>>) -> Rationale {
    let computed = computed_reason(next_hop, decision.setting.mode_for(next_hop));
    let has_policy = decision.setting.policy.is_some();
    match decision.origin {
        Origin::Entry(key) => {
            let key = printable(key.bytes());
            Rationale::from_entry(
                entry,
                if has_policy {
                    format!("the TLS file has an entry for {key}")
                } else {
                    format!("the TLS file has an entry for {key} without a level, and {computed}")
                },
            )
        }
        Origin::Variable if has_policy => {
            Rationale::from_variable("RELAY_TLS", "no entry; RELAY_TLS is for the default relay")
        }
        Origin::Variable => Rationale::from_variable(
            "RELAY_TLS",
            format!("no entry; RELAY_TLS is for the default relay and has no level, and {computed}"),
        ),
        Origin::NextHop => Rationale::from_entry(None, format!("no entry, and {computed}")),
    }
}

/// Returns why [`crate::lookup::tls_policy::computed`] returns its policy.
fn computed_reason(next_hop: &[u8], mode: Mode) -> &'static str {
    match (nexthop::host_kind(next_hop), mode) {
        (HostKind::Name, _) if next_hop.starts_with(b"[") => {
            "the certificate can be verified by the host name"
        }
        (HostKind::Name, _) => "the certificates of its MX hosts can be verified by the domain",
        (HostKind::Address, _) => {
            "the certificate of an address cannot be verified: Postfix ignores addresses in certificates"
        }
        (HostKind::Loopback, Mode::Implicit) => {
            "the host is this machine, and its port needs TLS; the certificate is not verified"
        }
        (HostKind::Loopback, Mode::Starttls) => "the host is this machine, so TLS is optional",
    }
}
