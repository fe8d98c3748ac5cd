//! Checks whether the hosts of the next hops have an address, with the resolver of this machine.
//!
//! Each host is resolved once, [`MAX_CONCURRENT`] at a time, for as long as the resolver takes. MX records are not
//! looked up: a next hop without brackets may have MX records and no address.

use std::collections::{BTreeMap, VecDeque};
use std::net::ToSocketAddrs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::excerpt;
use crate::diagnostics::{Code, Finding, Findings, Place, Position};
use crate::lookup::nexthop;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::grammar::Content;

/// The number of hosts that are resolved at once.
const MAX_CONCURRENT: usize = 16;

/// A host name, and whether Postfix looks up its MX records first.
type Host = (String, bool);

/// Where a host is named, and whether the name can be shown: a plain word may be a password.
type Mention = (Place, bool);

/// Warns of each host in the next hops of `snapshot` that has no address. `relay_map` is the path of the relay map.
pub(crate) fn examine(snapshot: &Snapshot, relay_map: &Path, findings: &mut Findings) {
    let mut mentions: BTreeMap<Host, Mention> = BTreeMap::new();
    let mut add = |list: &[u8], is_table: bool, place: &dyn Fn() -> Place| {
        for element in nexthop::elements(list) {
            let (host, _) = nexthop::host_and_port(element);
            let has_mx = nexthop::server_name(element).is_none();
            let host = String::from_utf8_lossy(nexthop::server_name(element).unwrap_or(host)).into_owned();
            // The brackets around the value of a variable are not from the variable.
            let can_be_shown = if is_table {
                excerpt::is_name_or_port(element)
            } else {
                host.contains(['.', ':'])
            };
            let mention = mentions
                .entry((host, has_mx))
                .or_insert_with(|| (place(), can_be_shown));
            mention.1 |= can_be_shown;
        }
    };
    snapshot.relay_map.for_each(|record| {
        if let Content::Value(list) = record.content {
            let at = |position: Position| Place::File(relay_map.into(), Some(position));
            add(list, true, &|| at(record.position));
        }
    });
    for (list, variable) in snapshot.default.next_hops() {
        add(list, false, &|| Place::Setting(variable));
    }
    for ((host, has_mx), error) in hosts_without_address(mentions.keys().cloned().collect()) {
        let Some((place, can_be_shown)) = mentions.remove(&(host.clone(), has_mx)) else {
            continue;
        };
        let mx_note = if has_mx {
            "; MX records were not looked up"
        } else {
            ""
        };
        let name = if can_be_shown { host.as_str() } else { "a host" };
        findings.push(
            Finding::new(Code::HostWithoutAddress, place)
                .message(format!(
                    "{name} does not resolve to an address on this machine ({error}){mx_note}"
                ))
                .help("correct the name, or check the resolver of this machine"),
        );
    }
}

/// Returns the hosts without an address, each with the error of the resolver.
fn hosts_without_address(hosts: VecDeque<Host>) -> Vec<(Host, String)> {
    let waiting = Mutex::new(hosts);
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..MAX_CONCURRENT {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(host) = next else { return };
                    if let Err(error) = (host.0.as_str(), 25).to_socket_addrs() {
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.push((host, error.to_string()));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort();
    failed
}
