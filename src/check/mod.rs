//! Warnings about valid files: credentials that are withheld, shadowed or never queried, next hops that cannot work,
//! files that other users can read.
//!
//! The server serves such files as they are, and logs none of these warnings except those of [`directory`], because
//! each may be intended. Errors and the warnings about a single line come from [`crate::lookup::table::grammar`] and
//! [`crate::config`]; the server logs them too.
//!
//! Limits: of main.cf only `relayhost` is checked ([`main_cf`]); `postconf --check` checks the rest. Host names are
//! resolved on request only ([`dns`]).

pub(crate) mod changes;
mod default_relay;
pub(crate) mod directory;
mod disabled;
pub(crate) mod dns;
pub(crate) mod excerpt;
pub(crate) mod logins;
pub(crate) mod main_cf;
mod tls;
mod values;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::config::Sources;
use crate::diagnostics::{Code, Finding, Findings, Place, Position};
use crate::lookup::address::{Key, LookupKeys, NULL_SENDER};
use crate::lookup::nexthop;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::grammar::{Content, Record};
use crate::lookup::table::{Hit, Table};
use crate::os::printable::printable_path;
use crate::protocol::answer::Answer;

/// Adds the findings about the files of `sources` beyond those from reading them. `snapshot` is the result of reading.
pub(crate) fn examine(sources: &Sources, snapshot: &Snapshot, findings: &mut Findings) {
    let relay_map = sources.relay_map();
    let credentials = sources.credentials();
    let routes = RouteIndex::new(snapshot);
    let mut keys = LookupKeys::default();
    check_line_ends(&snapshot.relay_map, &relay_map, findings);
    snapshot.relay_map.for_each(|record| {
        keys.parse(record.key, &snapshot.delimiters);
        let at = |finding: Finding| finding.at(Place::File(relay_map.clone(), Some(record.position)));
        if let Some(finding) = wildcard(&keys) {
            findings.push(at(finding));
        }
        let others = [
            logins::list_of_several_operators(snapshot, &record),
            values::missing_domain_form(&snapshot.relay_map, &record),
            values::too_long_for_tcp_table(&record),
        ];
        for finding in others.into_iter().flatten() {
            findings.push(at(finding));
        }
    });
    default_relay::examine(snapshot, &relay_map, findings);
    values::check_default_login(snapshot, findings);
    tls::examine(sources, snapshot, findings);
    check_line_ends(&snapshot.credentials, &credentials, findings);
    let mut unmatched = logins::UnmatchedLogins::default();
    let at = |position: Position| Place::File(credentials.clone(), Some(position));
    snapshot.credentials.for_each(|record| {
        keys.parse(record.key, &snapshot.delimiters);
        let finding = if keys.is_sender() {
            wildcard(&keys)
                .or_else(|| null_sender_credentials(&keys))
                .or_else(|| withheld_credentials(snapshot, &routes, &record))
                .or_else(|| logins::login_for_several_operators(snapshot, &keys, &record))
        } else {
            let finding = never_queried_key(&keys, &routes, snapshot)
                .or_else(|| shadowed_credentials(&keys, snapshot, &record));
            if finding.is_none() {
                unmatched.add_if_unmatched(&keys, &routes, &record);
            }
            finding
        };
        let others = [
            values::suspicious_login(&record),
            values::missing_domain_form(&snapshot.credentials, &record),
            values::too_long_for_tcp_table(&record),
        ];
        for finding in finding.into_iter().chain(others.into_iter().flatten()) {
            findings.push(finding.at(at(record.position)));
        }
    });
    unmatched.report(snapshot, at, findings);
    check_permissions(&credentials, findings);
    for table in snapshot.tables() {
        disabled::examine(table, &sources.file(table.spec()), findings);
    }
    directory::examine(sources, snapshot, findings);
}

/// The senders and next hops of the relay map and the default relay, indexed.
struct RouteIndex {
    /// The less specific keys of the senders with a next hop of their own: without extension, `@domain`, `@.parent`.
    routed_keys: HashSet<Vec<u8>>,
    /// The elements of all next hops, in lower case.
    next_hops: HashSet<Vec<u8>>,
    /// The hosts of these elements as written, without brackets and port.
    hosts: HashSet<Vec<u8>>,
    /// For each of these hosts in canonical form ([`nexthop::canonical_host`]): the first of its next hops in
    /// alphabetical order.
    by_host: HashMap<Vec<u8>, Vec<u8>>,
}

impl RouteIndex {
    fn new(snapshot: &Snapshot) -> Self {
        let mut routed_keys = HashSet::new();
        let mut next_hops = HashSet::new();
        let mut keys = LookupKeys::default();
        let mut add = |list: &[u8]| {
            for element in nexthop::elements(list) {
                if !next_hops.contains(element) {
                    next_hops.insert(element.to_ascii_lowercase());
                }
            }
        };
        snapshot.relay_map.for_each(|record| {
            if let Content::Value(list) = record.content {
                add(list);
                keys.parse(record.key, &snapshot.delimiters);
                routed_keys.extend(keys.of_credentials().skip(1).map(Key::to_vec));
            }
        });
        for (list, _) in snapshot.default.next_hops() {
            add(list);
        }
        let mut by_host: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        let mut hosts = HashSet::new();
        for next_hop in &next_hops {
            let (host, _) = nexthop::host_and_port(next_hop);
            hosts.insert(nexthop::server_name(next_hop).unwrap_or(host).to_vec());
            let host = nexthop::canonical_host(next_hop);
            let first = by_host.entry(host).or_insert_with(|| next_hop.clone());
            if next_hop < first {
                first.clone_from(next_hop);
            }
        }
        Self {
            routed_keys,
            next_hops,
            hosts,
            by_host,
        }
    }
}

fn warning(code: Code) -> Finding {
    Finding::new(code, Place::Setting(""))
}

/// Warns of a key that looks like a wildcard, but is the address of one sender.
fn wildcard(keys: &LookupKeys) -> Option<Finding> {
    keys.whole().starts_with(b"*@").then(|| {
        warning(Code::NeverAsked)
            .message("this is no wildcard: the entry matches only the sender whose local part is `*`")
            .help("write @domain for all senders of a domain, @.domain for those of its subdomains")
    })
}

fn null_sender_credentials(keys: &LookupKeys) -> Option<Finding> {
    (keys.whole() == NULL_SENDER).then(|| {
        warning(Code::NeverAsked)
            .message("Postfix never looks up credentials of the null sender")
            .help("write the next hop of bounces as the key, exactly as in the relay map")
    })
}

/// Warns of a sender's credentials that are withheld.
fn withheld_credentials(snapshot: &Snapshot, routes: &RouteIndex, record: &Record<'_>) -> Option<Finding> {
    if !matches!(record.content, Content::Value(_)) || !snapshot.routes_senders() {
        return None;
    }
    let mut keys = LookupKeys::default();
    if !matches!(snapshot.next_hop_for(record.key, &mut keys), Answer::NotFound) {
        return None;
    }
    if routes.routed_keys.contains(keys.whole()) {
        return None;
    }
    let is_excluded = matches!(snapshot.relay_map.find_all(&keys), Hit::NoValue);
    Some(if is_excluded {
        warning(Code::ExcludedWithCredentials)
            .message("the relay map excludes this sender from relaying, so its credentials are never used")
            .help("remove the credentials, or give the sender a next hop")
    } else {
        warning(Code::CredentialsWithheld)
            .message("this sender has no next hop, so its credentials are withheld")
            .help("add the sender, or @* for all senders, to the relay map, or set RELAY_HOST")
    })
}

/// Warns of a host's or next hop's credentials that Postfix never queries by this key.
fn never_queried_key(keys: &LookupKeys, routes: &RouteIndex, snapshot: &Snapshot) -> Option<Finding> {
    let key = keys.whole();
    let is_address = nexthop::is_bare_ipv6(key);
    let is_next_hop = !is_address && (key.starts_with(b"[") || key.contains(&b':'));
    if routes.next_hops.contains(key) || (!is_next_hop && routes.hosts.contains(key)) {
        return None;
    }
    let likely = routes.by_host.get(&nexthop::canonical_host(key));
    if let Some(likely) = likely {
        // A plain word in it may be a password.
        let likely = if excerpt::is_name_or_port(likely) {
            String::from_utf8_lossy(likely)
        } else {
            "it exactly as in the relay map".into()
        };
        return Some(
            warning(Code::NeverAsked)
                .message("no next hop is written like this, and Postfix looks up a next hop as it is written")
                .help(format!("write {likely}, or only the host")),
        );
    }
    let domain = [b"@", key].concat();
    let is_domain = !is_next_hop
        && matches!(
            snapshot.relay_map.find([domain.as_slice().into()]),
            Hit::Value(_) | Hit::NoValue
        );
    is_domain.then(|| {
        warning(Code::BareDomain)
            .message("this key is a host, but the relay map has a sender domain of this name")
            .help("put an @ before it if these are the credentials of its senders")
    })
}

/// Warns of a next hop's credentials if there are others for the name of its server.
fn shadowed_credentials(keys: &LookupKeys, snapshot: &Snapshot, record: &Record<'_>) -> Option<Finding> {
    if !matches!(record.content, Content::Value(_)) {
        return None;
    }
    let server = nexthop::server_name(keys.whole()).filter(|server| *server != keys.whole())?;
    let (_, line) = snapshot.credentials.locate([server.into()])?;
    matches!(snapshot.credentials.find([server.into()]), Hit::Value(_)).then(|| {
        warning(Code::Shadowed)
            .message(format!(
                "line {line} has credentials for the name of this server, and they take precedence"
            ))
            .help("remove one of the two lines")
    })
}

/// Warns, once, of a file whose lines end in CR LF.
fn check_line_ends(table: &Table, path: &Path, findings: &mut Findings) {
    let mut number = 0;
    for block in table.blocks() {
        for line in block.lines().split_inclusive(|c| *c == b'\n') {
            number += 1;
            if line.ends_with(b"\r\n") {
                let position = Position {
                    line: number,
                    column: u32::try_from(line.len() - 1).unwrap_or(u32::MAX),
                };
                findings.push(
                    Finding::in_file(Code::Crlf, path, position)
                        .message("the lines end in CR LF, as on Windows; postmapd ignores the CR")
                        .help("save the file with UNIX line endings"),
                );
                return;
            }
        }
    }
}

fn check_permissions(path: &Path, findings: &mut Findings) {
    let mode = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
    let Ok(real_path) = path.canonicalize() else {
        return;
    };
    let mut directories = real_path.ancestors().skip(1);
    // A file in a directory that other users cannot enter is safe from them.
    if real_path.is_file()
        && mode(&real_path) & 0o004 != 0
        && directories.all(|directory| mode(directory) & 0o001 != 0)
    {
        findings.push(
            Finding::in_file(Code::ReadableByOthers, path, None)
                .message("every user of this machine can read the passwords in this file")
                .help(format!(
                    "give the file to the server's group, then close it to other users: chgrp GROUP {path} && chmod \
                     g=r,o= {path}",
                    path = printable_path(path)
                )),
        );
    }
}
