//! What `check` finds beyond what a file says by itself: next hops that no sender has, credentials that are withheld or
//! shadowed, next hops that cannot work, files that others can read.
//!
//! All of these are warnings. The server serves such files as they are, and says nothing of it, because each may be
//! meant; errors and the warnings of a single line come from [`crate::lookup::table::grammar`] and [`crate::config`], and are
//! in the log of the server too.
//!
//! Limits: of main.cf only `relayhost` is looked at ([`main_cf`]); the rest is for `postconf --check`. Host names are
//! resolved on demand only ([`dns`]).

pub(crate) mod directory;
pub(crate) mod dns;
pub(crate) mod excerpt;
pub(crate) mod logins;
pub(crate) mod main_cf;
mod values;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::config::Sources;
use crate::diagnostics::{Code, Finding, Findings, Place, Position};
use crate::lookup::address::{Key, NULL_SENDER, SenderKeys};
use crate::lookup::nexthop;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::grammar::{Content, Record};
use crate::lookup::table::{Hit, Table};
use crate::os::printable::printable_path;
use crate::protocol::answer::Answer;

/// What is to be said about the files of `sources` beyond what reading them said. `snapshot` is what they come to.
pub(crate) fn examine(sources: &Sources, snapshot: &Snapshot, findings: &mut Findings) {
    let relay_map = sources.relay_map();
    let credentials = sources.credentials();
    let routed = Routed::of(snapshot);
    let mut keys = SenderKeys::default();
    line_ends(&snapshot.relay_map, &relay_map, findings);
    snapshot.relay_map.for_each(|record| {
        keys.parse(record.key, &snapshot.delimiters);
        let at = |finding: Finding| finding.at(Place::File(relay_map.clone(), Some(record.position)));
        if let Some(finding) = star(&keys) {
            findings.push(at(finding));
        }
        if let Content::Value(list) = record.content
            && nexthop::elements(list).any(nexthop::uses_implicit_tls)
        {
            findings.push(at(implicit_tls()));
        }
        let others = [
            logins::of_list(snapshot, &record),
            values::other_form(&snapshot.relay_map, &record),
            values::too_long(&record),
        ];
        for finding in others.into_iter().flatten() {
            findings.push(at(finding));
        }
    });
    logins::bounces(snapshot, findings);
    values::of_default(snapshot, findings);
    for (list, variable) in snapshot.default.next_hops() {
        if nexthop::elements(list).any(nexthop::uses_implicit_tls) {
            findings.push(implicit_tls().at(Place::Setting(variable)));
        }
    }
    line_ends(&snapshot.credentials, &credentials, findings);
    let mut strangers = logins::Strangers::default();
    let at = |position: Position| Place::File(credentials.clone(), Some(position));
    snapshot.credentials.for_each(|record| {
        keys.parse(record.key, &snapshot.delimiters);
        let finding = if keys.is_sender() {
            star(&keys)
                .or_else(|| null_sender(&keys))
                .or_else(|| withheld(snapshot, &routed, &record))
                .or_else(|| logins::of_login(snapshot, &keys, &record))
        } else {
            let finding =
                never_asked_of_host(&keys, &routed, snapshot).or_else(|| shadowed(&keys, snapshot, &record));
            if finding.is_none() {
                strangers.consider(&keys, &routed, &record);
            }
            finding
        };
        let others = [
            values::of_login(&record),
            values::other_form(&snapshot.credentials, &record),
            values::too_long(&record),
        ];
        for finding in finding.into_iter().chain(others.into_iter().flatten()) {
            findings.push(finding.at(at(record.position)));
        }
    });
    strangers.report(snapshot, at, findings);
    readable_by_others(&credentials, findings);
    directory::examine(sources, snapshot, findings);
}

/// Who is routed where, in all.
struct Routed {
    /// The keys under which senders with a next hop of their own are looked for, too: without extension, and `@domain`.
    reached: HashSet<Vec<u8>>,
    /// The elements of all next hops, folded.
    next_hops: HashSet<Vec<u8>>,
    /// Their hosts as they are written, without brackets and port.
    hosts: HashSet<Vec<u8>>,
    /// For each host of these in one spelling ([`nexthop::canonical_host`]), the first of its next hops in the order of
    /// the alphabet.
    by_host: HashMap<Vec<u8>, Vec<u8>>,
}

impl Routed {
    fn of(snapshot: &Snapshot) -> Self {
        let mut reached = HashSet::new();
        let mut next_hops = HashSet::new();
        let mut keys = SenderKeys::default();
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
                for key in keys.in_order().skip(1).map(Key::bytes) {
                    if !reached.contains(key) {
                        reached.insert(key.to_vec());
                    }
                }
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
            reached,
            next_hops,
            hosts,
            by_host,
        }
    }
}

fn warning(code: Code) -> Finding {
    Finding::new(code, Place::Setting(""))
}

fn implicit_tls() -> Finding {
    warning(Code::ImplicitTls)
        .message("this port speaks TLS from the first byte, which a next hop cannot ask for")
        .help(
            "use port 587 (STARTTLS), or give these senders a transport with smtp_tls_wrappermode = yes through \
             sender_dependent_default_transport_maps",
        )
}

/// A key that looks like a wildcard, and is the address of one sender.
fn star(keys: &SenderKeys) -> Option<Finding> {
    keys.whole().starts_with(b"*@").then(|| {
        warning(Code::NeverAsked)
            .message("there are no wildcards: this is the entry of the one sender whose local part is `*`")
            .help("write @domain for every sender of the domain")
    })
}

fn null_sender(keys: &SenderKeys) -> Option<Finding> {
    (keys.whole() == NULL_SENDER).then(|| {
        warning(Code::NeverAsked)
            .message("Postfix never asks for credentials by the null sender")
            .help("write the next hop of bounces as the key, as it stands in the relay map")
    })
}

/// Credentials of a sender that are withheld.
fn withheld(snapshot: &Snapshot, routed: &Routed, record: &Record<'_>) -> Option<Finding> {
    if !matches!(record.content, Content::Value(_)) || !snapshot.routes_senders() {
        return None;
    }
    let mut keys = SenderKeys::default();
    if !matches!(snapshot.next_hop_for(record.key, &mut keys), Answer::NotFound) {
        return None;
    }
    if routed.reached.contains(keys.whole()) {
        return None;
    }
    let is_excluded = matches!(snapshot.relay_map.find(keys.in_order()), Hit::NoValue);
    Some(if is_excluded {
        warning(Code::ExcludedWithCredentials)
            .message("the relay map excludes this sender from relaying, so its credentials are never used")
            .help("remove the credentials, or give the sender a next hop")
    } else {
        warning(Code::CredentialsWithheld)
            .message("this sender has no next hop, so its credentials are withheld")
            .help("add the sender to the relay map, or set RELAY_HOST")
    })
}

/// Credentials of a host or a next hop that Postfix never asks for by this key.
fn never_asked_of_host(keys: &SenderKeys, routed: &Routed, snapshot: &Snapshot) -> Option<Finding> {
    let key = keys.whole();
    let is_address = nexthop::is_bare_ipv6(key);
    let is_next_hop = !is_address && (key.starts_with(b"[") || key.contains(&b':'));
    if routed.next_hops.contains(key) || (!is_next_hop && routed.hosts.contains(key)) {
        return None;
    }
    let likely = routed.by_host.get(&nexthop::canonical_host(key));
    if let Some(likely) = likely {
        // A plain word there may be a password.
        let likely = if excerpt::is_name_or_port(likely) {
            String::from_utf8_lossy(likely)
        } else {
            "it exactly as the relay map has it".into()
        };
        return Some(
            warning(Code::NeverAsked)
                .message("no next hop is written like this, and Postfix asks for it as it is written")
                .help(format!("write {likely}, or the host alone")),
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
            .message("the key is a host here, but the relay map has a sender domain of this name")
            .help("put an @ before it, if these are the credentials of the senders")
    })
}

/// Credentials of a next hop whose server has some under its name.
fn shadowed(keys: &SenderKeys, snapshot: &Snapshot, record: &Record<'_>) -> Option<Finding> {
    if !matches!(record.content, Content::Value(_)) {
        return None;
    }
    let server = nexthop::server_name(keys.whole()).filter(|server| *server != keys.whole())?;
    let (_, line) = snapshot.credentials.locate([server.into()])?;
    matches!(snapshot.credentials.find([server.into()]), Hit::Value(_)).then(|| {
        warning(Code::Shadowed)
            .message(format!(
                "line {line} has credentials for the name of this server, and they win"
            ))
            .help("remove one of the two lines")
    })
}

/// Says once that the lines of a file end as they do on Windows.
fn line_ends(table: &Table, path: &Path, findings: &mut Findings) {
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
                        .message("the lines end in CR and LF, as on Windows; the CR is ignored")
                        .help("save the file with UNIX line ends"),
                );
                return;
            }
        }
    }
}

fn readable_by_others(path: &Path, findings: &mut Findings) {
    let mode = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
    let Ok(real_path) = path.canonicalize() else {
        return;
    };
    let mut folders = real_path.ancestors().skip(1);
    // What stands in a folder that others cannot enter is safe from them.
    if real_path.is_file() && mode(&real_path) & 0o004 != 0 && folders.all(|folder| mode(folder) & 0o001 != 0)
    {
        findings.push(
            Finding::in_file(Code::ReadableByOthers, path, None)
                .message("every user of this machine can read the passwords in it")
                .help(format!("chmod o= {}", printable_path(path))),
        );
    }
}
