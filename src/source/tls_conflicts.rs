//! Findings about TLS that no file shows alone: entries that do not fit the next hops that they apply to, and lists of
//! next hops that one service cannot deliver to.
//!
//! A list of both modes is an error only where TLS is configured, by the TLS file or `RELAY_TLS`. Without either, the map
//! `transport` is probably not in use, and a list that worked before must not stop a reload: it is a warning.

use std::collections::HashSet;

use crate::config::Sources;
use crate::diagnostics::{Code, Finding, Findings, Place, Position};
use crate::lookup::address::Key;
use crate::lookup::default_relay::DefaultRelay;
use crate::lookup::relay_tls::{Conflicts, WeakPolicy};
use crate::lookup::table::Table;
use crate::lookup::table::grammar::Content;
use crate::lookup::table::spec::{RELAY_MAP, RELAY_TLS};
use crate::lookup::tls_policy::TlsErrorKind;
use crate::os::printable::printable;

/// Reports these conflicts with their places.
pub(super) fn report(
    conflicts: &Conflicts,
    sources: &Sources,
    relay_map: &Table,
    default: &DefaultRelay,
    tls: &Table,
    findings: &mut Findings,
) {
    for conflict in &conflicts.weak_policies {
        findings.push(weak_policy(conflict, sources, tls));
    }
    if conflicts.mixed_lists.is_empty() {
        return;
    }
    let lists: HashSet<&[u8]> = conflicts
        .mixed_lists
        .iter()
        .map(|list| &*list.next_hops)
        .collect();
    let code = if tls.is_certainly_empty() && !default.has_tls() {
        Code::MixedModes
    } else {
        Code::MixedTls
    };
    let finding = |place| {
        Finding::new(code, place)
            .message("the list has next hops for different services: their modes of TLS or their TLS entries differ")
            .help("write next hops with the same port, or give them the same mode and the same via= in postfix-relay-tls.cf")
    };
    let path = sources.file(&RELAY_MAP);
    relay_map.for_each(|record| {
        if let Content::Value(value) = record.content
            && lists.contains(value)
        {
            findings.push(finding(Place::File(path.clone(), Some(record.position))));
        }
    });
    for (next_hops, variable) in default.next_hops() {
        if lists.contains(next_hops) {
            findings.push(finding(Place::Setting(variable)));
        }
    }
}

fn weak_policy(conflict: &WeakPolicy, sources: &Sources, tls: &Table) -> Finding {
    let key = conflict.key.as_ref().map(|key| Key::from(key.as_slice()));
    let line = key.and_then(|key| tls.locate([key]));
    let place = line.map_or(Place::Setting("RELAY_TLS"), |(_, line)| {
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        Place::File(sources.file(&RELAY_TLS), Some(Position { line, column: 1 }))
    });
    let kind = TlsErrorKind::ImplicitWithoutTls;
    Finding::new(Code::BadTls, place)
        .message(format!("for {}: {kind}", printable(&conflict.next_hop)))
        .help(kind.help())
}
