//! Checks how Postfix speaks TLS to the relays: next hops whose certificates cannot be verified, or whose policies apply
//! to other mail; ports that do not say when TLS begins; entries of the TLS file that have no effect, or a weak one.
//!
//! Each next hop is reported once, at the first line that has it.
//!
//! Limits: whether main.cf uses the maps `transport` and `tls` is not known here; `postconf --check` checks that.

use std::collections::HashSet;

use super::{excerpt, warning};
use crate::config::Sources;
use crate::diagnostics::{Code, Finding, Findings, Place};
use crate::lookup::address::{LookupKeys, fold_into};
use crate::lookup::nexthop::{self, HostKind};
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::Table;
use crate::lookup::table::grammar::Content;
use crate::lookup::table::spec::RELAY_TLS;
use crate::lookup::tls_policy::{self, Level, Mode, Policy};
use crate::os::printable::printable;
use crate::protocol::answer::Answer;

/// Adds the findings about TLS.
pub(super) fn examine(sources: &Sources, snapshot: &Snapshot, findings: &mut Findings) {
    let with_login = AddressesWithLogin::find(snapshot);
    let mut seen = NextHops::default();
    let relay_map = sources.relay_map();
    snapshot.relay_map.for_each(|record| {
        if let Content::Value(list) = record.content {
            seen.add(list, |next_hop| {
                let place = Place::File(relay_map.clone(), Some(record.position));
                check_next_hop(next_hop, snapshot, &with_login, &place, findings);
            });
        }
    });
    for (list, variable) in snapshot.default.next_hops() {
        seen.add(list, |next_hop| {
            let place = Place::Setting(variable);
            check_next_hop(next_hop, snapshot, &with_login, &place, findings);
        });
    }
    if let Some(tls) = snapshot.table(&RELAY_TLS) {
        check_entries(tls, &seen, sources, snapshot, findings);
    }
}

/// The elements of all next hops and their hosts, folded.
#[derive(Default)]
struct NextHops {
    lists: HashSet<Vec<u8>>,
    elements: HashSet<Vec<u8>>,
    hosts: HashSet<Vec<u8>>,
}

impl NextHops {
    /// Adds the elements of a list, and calls `handle` with those that are new.
    fn add(&mut self, list: &[u8], mut handle: impl FnMut(&[u8])) {
        if self.lists.contains(list) {
            return;
        }
        self.lists.insert(list.to_vec());
        for element in nexthop::elements(list) {
            let mut folded = Vec::new();
            fold_into(element, &mut folded);
            if !self.elements.contains(&folded) {
                self.hosts.insert(nexthop::host_and_port(&folded).0.to_vec());
                self.elements.insert(folded);
                handle(element);
            }
        }
    }
}

/// The next hops with an address, folded, through which mail goes with a login.
struct AddressesWithLogin(HashSet<Vec<u8>>);

impl AddressesWithLogin {
    fn find(snapshot: &Snapshot) -> Self {
        let mut found = HashSet::new();
        let defaults = snapshot.default.next_hops().map(|(list, _)| list);
        let mut lists = snapshot.relay_map.next_hops().map(AsRef::as_ref).chain(defaults);
        let is_address = |element: &[u8]| nexthop::host_kind(element) == HostKind::Address;
        if !lists.any(|list: &[u8]| nexthop::elements(list).any(is_address)) {
            return Self(found);
        }
        let mut add = |list: &[u8]| {
            for element in nexthop::elements(list) {
                if is_address(element) {
                    let mut folded = Vec::new();
                    fold_into(element, &mut folded);
                    found.insert(folded);
                }
            }
        };
        let mut keys = LookupKeys::default();
        snapshot.credentials.for_each(|record| {
            if !matches!(record.content, Content::Value(_)) {
                return;
            }
            keys.parse(record.key, &snapshot.delimiters);
            if !keys.is_sender() {
                add(record.key);
            } else if let Answer::Found(list) = snapshot.next_hop(&keys) {
                add(list.expose());
            }
        });
        if snapshot.default.login().is_some() {
            for (list, _) in snapshot.default.next_hops() {
                add(list);
            }
        }
        Self(found)
    }

    /// Whether mail goes through this folded next hop with a login. The login may be that of its host.
    fn has(&self, next_hop: &[u8]) -> bool {
        let (host, _) = nexthop::host_and_port(next_hop);
        self.0.contains(next_hop) || self.0.contains(host)
    }
}

fn check_next_hop(
    next_hop: &[u8],
    snapshot: &Snapshot,
    with_login: &AddressesWithLogin,
    place: &Place,
    findings: &mut Findings,
) {
    let mut folded = Vec::new();
    fold_into(next_hop, &mut folded);
    let Ok(decision) = snapshot.tls_decision(&folded) else {
        return;
    };
    let (_, port) = nexthop::host_and_port(next_hop);
    let kind = nexthop::host_kind(next_hop);
    // A plain word may be a password.
    let name = if excerpt::is_name_or_port(next_hop) {
        printable(next_hop)
    } else {
        "the next hop".to_owned()
    };
    let mut report = |finding: Finding| findings.push(finding.at(place.clone()));
    // A mode that is written shows that the map transport is known.
    if decision.setting.mode.is_none() && Mode::of_port(&folded) == Mode::Implicit {
        report(
            warning(Code::ImplicitTls)
                .message(format!(
                    "TLS to {name} begins with the first byte, which a next hop alone cannot express"
                ))
                .help(
                    "use the map transport (postmapd postconf --services) and add the line `NEXT HOP implicit` to \
                     postfix-relay-tls.cf, or write port 587 (STARTTLS)",
                ),
        );
    }
    if port.is_some_and(is_ambiguous_port) && decision.setting.mode.is_none() {
        report(
            warning(Code::PortWithoutMode)
                .message(format!(
                    "the port of {name} does not say when TLS begins, and STARTTLS is assumed"
                ))
                .help(format!(
                    "add the line `{name} implicit` or `{name} starttls` to postfix-relay-tls.cf; Amazon SES has implicit \
                     TLS on 2465 and STARTTLS on 2587"
                )),
        );
    }
    if kind == HostKind::Name && port.is_none() && !next_hop.starts_with(b"[") {
        report(
            warning(Code::SharedPolicy)
                .message(format!(
                    "the TLS policy of {name} also applies to mail that goes directly to the domain of that name"
                ))
                .help("write the port, as in relay.example.com:25, or brackets if it is the name of a host"),
        );
    }
    if kind != HostKind::Name
        && decision
            .setting
            .policy
            .as_ref()
            .is_some_and(demands_name_of_address)
    {
        report(
            warning(Code::NeverVerified)
                .message(format!(
                    "the TLS entry for {name} demands a certificate with its name, and an address has none"
                ))
                .help(
                    "write the host name as the next hop, or add match=NAME to the entry, with a name in the certificate",
                ),
        );
    }
    if kind == HostKind::Address && with_login.has(&folded) && decision.setting.policy.is_none() {
        report(
            warning(Code::UnverifiableRelay)
                .message(format!(
                    "{name} is an address, so its certificate cannot be verified, and any server that answers there gets the \
                     password"
                ))
                .help(
                    "write the host name of the relay, or set a level in postfix-relay-tls.cf: secure match=NAME, with a \
                     name in the certificate",
                ),
        );
    }
}

/// Whether a policy demands a certificate, and names none that an address can have: `nexthop` and `hostname` are the
/// address itself.
fn demands_name_of_address(policy: &Policy) -> bool {
    const OF_NEXT_HOP: [&[u8]; 3] = [b"nexthop", b"dot-nexthop", b"hostname"];
    let words = policy.text.split(|c| matches!(c, b' ' | b'\t' | b','));
    let names = words
        .filter_map(|word| {
            let (name, value) = word.split_at_checked(b"match=".len())?;
            name.eq_ignore_ascii_case(b"match=").then_some(value)
        })
        .flat_map(|value| value.split(|c| *c == b':'));
    let mut names = names.filter(|name| !OF_NEXT_HOP.iter().any(|own| name.eq_ignore_ascii_case(own)));
    matches!(policy.level, Level::Verify | Level::Secure) && names.next().is_none()
}

/// Whether this is a port that providers use for implicit TLS or for STARTTLS, beside 465 and 587.
fn is_ambiguous_port(port: &[u8]) -> bool {
    matches!(port, b"2465" | b"2587")
}

/// Checks the entries of the TLS file.
fn check_entries(
    tls: &Table,
    next_hops: &NextHops,
    sources: &Sources,
    snapshot: &Snapshot,
    findings: &mut Findings,
) {
    let path = sources.file(&RELAY_TLS);
    // A next hop that cannot be read may be that of an entry.
    let are_all_known = snapshot.relay_map.is_complete() && snapshot.default.is_readable();
    tls.for_each(|record| {
        let Content::Value(value) = record.content else {
            return;
        };
        let mut report =
            |finding: Finding| findings.push(finding.at(Place::File(path.clone(), Some(record.position))));
        let policy = tls_policy::parse(value).ok().and_then(|setting| setting.policy);
        if record.key == b"*" {
            if policy.is_some_and(|policy| !policy.level.allows_implicit()) {
                report(
                    warning(Code::WeakTlsForAll)
                        .message("the level for all other next hops does not always require TLS")
                        .help(
                            "write encrypt or a stricter level, or remove the line: names then have secure; set a weaker \
                             level only for a next hop that needs it",
                        ),
                );
            }
            return;
        }
        let mut folded = Vec::new();
        fold_into(record.key, &mut folded);
        if are_all_known && !next_hops.elements.contains(&folded) && !next_hops.hosts.contains(&folded) {
            report(
                warning(Code::UnusedTlsEntry)
                    .message("no next hop of the relay map or the environment is written like this")
                    .help("write the key as in the relay map, or only the host, or remove the line"),
            );
        }
    });
}
