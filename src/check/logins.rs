//! Checks which relay gets which login, over all entries together.
//!
//! - A relay has no login, and there are logins for hosts in no next hop: one may be meant for the other.
//! - Postfix offers a sender's login to every relay of its list, and the relays belong to different operators.

use super::{RouteIndex, warning};
use crate::diagnostics::{Code, Finding, Findings, Place, Position};
use crate::lookup::address::{self, LookupKeys, NULL_SENDER};
use crate::lookup::nexthop;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::Hit;
use crate::lookup::table::grammar::{Content, Record};
use crate::protocol::answer::Answer;

use super::excerpt;

/// Logins for hosts that are in no next hop, with the positions of their entries.
#[derive(Default)]
pub(super) struct UnmatchedLogins {
    entries: Vec<Entry>,
}

struct Entry {
    position: Position,
    /// Whether the key has neither brackets nor a port. Postfix may get such a name from an MX record.
    is_plain_host: bool,
}

impl UnmatchedLogins {
    /// Adds the login if its host is in no next hop. `keys` holds the parsed key, which is no sender.
    pub(super) fn add_if_unmatched(&mut self, keys: &LookupKeys, routes: &RouteIndex, record: &Record<'_>) {
        let key = keys.whole();
        if matches!(record.content, Content::Value(_))
            && !routes.by_host.contains_key(&nexthop::canonical_host(key))
        {
            self.entries.push(Entry {
                position: record.position,
                is_plain_host: !key.starts_with(b"[") && !key.contains(&b':'),
            });
        }
    }

    /// Warns of the logins if a relay has none. `at` turns a position into a place in the credentials file.
    pub(super) fn report(self, snapshot: &Snapshot, at: impl Fn(Position) -> Place, findings: &mut Findings) {
        if self.entries.is_empty() || !snapshot.routes_senders() {
            return;
        }
        let relays = RelaysWithoutLogin::find(snapshot);
        for entry in self.entries {
            // Where Postfix looks up MX records, it may query any host.
            let Some(relay) = relays.first(entry.is_plain_host) else {
                continue;
            };
            let (name, key) = if relay.can_be_shown() {
                let name = String::from_utf8_lossy(&relay.element).into_owned();
                (name.clone(), name)
            } else {
                let key = match relay.line {
                    Some(_) => "that next hop in the relay map",
                    None => "[RELAY_HOST]:RELAY_PORT",
                };
                ("a relay".to_owned(), key.to_owned())
            };
            let place = match relay.line {
                Some(line) => format!(" (line {line} of the relay map)"),
                None => " (the default relay)".to_owned(),
            };
            findings.push(
                warning(Code::NoSuchRelay)
                    .at(at(entry.position))
                    .message(format!(
                        "no next hop uses this host, and {name}{place} has no login"
                    ))
                    .help(format!(
                        "if these are the credentials of that relay, write the key as {key}"
                    )),
            );
        }
    }
}

/// A relay that a sender uses without a login.
struct Relay {
    element: Vec<u8>,
    /// The line of the relay map; `None` for the default relay.
    line: Option<u32>,
}

impl Relay {
    /// Whether the name can be shown, because it is no misplaced password. In `RELAY_HOST` a plain word may be one; the
    /// brackets around it are not from the variable.
    fn can_be_shown(&self) -> bool {
        let (host, _) = nexthop::host_and_port(&self.element);
        let is_plain_word = !host.iter().any(|c| b".:".contains(c));
        excerpt::is_name_or_port(&self.element) && !(self.line.is_none() && is_plain_word)
    }
}

/// The first relay without a login, and the first of these that Postfix connects to by name, without MX records.
#[derive(Default)]
struct RelaysWithoutLogin {
    any: Option<Relay>,
    without_mx: Option<Relay>,
}

impl RelaysWithoutLogin {
    fn find(snapshot: &Snapshot) -> Self {
        let mut found = Self::default();
        let mut keys = LookupKeys::default();
        snapshot.relay_map.for_each(|record| {
            if found.without_mx.is_none()
                && let Content::Value(list) = record.content
                && !has_login(snapshot, record.key, &mut keys)
            {
                found.add_list(list, Some(record.position.line), snapshot);
            }
        });
        for (list, _) in snapshot.default.next_hops() {
            found.add_list(list, None, snapshot);
        }
        found
    }

    fn add_list(&mut self, list: &[u8], line: Option<u32>, snapshot: &Snapshot) {
        let mut keys = LookupKeys::default();
        for element in nexthop::elements(list) {
            let host = nexthop::server_name(element);
            let is_known = has_login(snapshot, element, &mut keys)
                || host.is_some_and(|host| has_login(snapshot, host, &mut keys));
            if is_known {
                continue;
            }
            let relay = || Relay {
                element: element.to_vec(),
                line,
            };
            if host.is_some() {
                self.without_mx.get_or_insert_with(relay);
            }
            self.any.get_or_insert_with(relay);
        }
    }

    fn first(&self, is_plain_host: bool) -> Option<&Relay> {
        if is_plain_host {
            self.without_mx.as_ref()
        } else {
            self.any.as_ref()
        }
    }
}

/// Whether there is a login for `key`, or may be one.
fn has_login(snapshot: &Snapshot, key: &[u8], keys: &mut LookupKeys) -> bool {
    !matches!(snapshot.login_for(key, keys), Answer::NotFound)
}

/// Returns the warning that Postfix offers a sender's login to relays of several operators.
fn several_operators() -> Finding {
    warning(Code::LoginForSeveralRelays)
        .message("Postfix offers the login of this sender to every relay in its list, and they have different \
                  operators")
        .help(
            "give each relay its own login by next hop ([relay1.org]:587 user:password, one line each), and remove \
             the login of the sender",
        )
}

/// Warns of a list of several operators in the relay map whose sender has a login, its own or that of its domain.
pub(super) fn list_of_several_operators(snapshot: &Snapshot, record: &Record<'_>) -> Option<Finding> {
    let Content::Value(list) = record.content else {
        return None;
    };
    if !nexthop::has_several_operators(list) || is_null_sender(record.key) {
        return None;
    }
    has_login_by_sender(snapshot, record.key).then(several_operators)
}

/// Warns of a sender's login if the sender has such a list from its domain or the default relay.
pub(super) fn login_for_several_operators(
    snapshot: &Snapshot,
    keys: &LookupKeys,
    record: &Record<'_>,
) -> Option<Finding> {
    let is_login = matches!(record.content, Content::Value(_));
    // A list of its own has the warning already.
    let is_own = !matches!(snapshot.relay_map.find([keys.whole_key()]), Hit::Absent);
    if !is_login || is_own {
        return None;
    }
    let mut scratch = LookupKeys::default();
    match snapshot.next_hop_for(record.key, &mut scratch) {
        Answer::Found(list) => nexthop::has_several_operators(list.expose()).then(several_operators),
        Answer::NotFound | Answer::CannotTell(_) => None,
    }
}

/// Whether the credentials file has a login for the sender or for its domain.
pub(crate) fn has_login_by_sender(snapshot: &Snapshot, sender: &[u8]) -> bool {
    let keys = LookupKeys::of(sender, &snapshot.delimiters);
    matches!(snapshot.credentials.find_all(&keys), Hit::Value(_))
}

fn is_null_sender(key: &[u8]) -> bool {
    address::key_matches(key, NULL_SENDER)
}
