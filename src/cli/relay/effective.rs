//! The effective route of a sender or a next hop: the answers of a snapshot, in words, and the warnings about them.
//!
//! The user is looked up in Postfix's order: by the sender, then by the host of the next hop, then by the next hop. Of
//! a list of next hops only the first is used, and no MX record is looked up.

use super::tls::{self, HopTls};
use crate::check::logins;
use crate::lookup::address::{self, ANY_SENDER, Delimiters, LookupKeys, NULL_SENDER};
use crate::lookup::nexthop;
use crate::lookup::routing::Routing;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::Hit;
use crate::lookup::table::grammar::Content;
use crate::lookup::table::spec::{RELAY_TLS, TableSpec};
use crate::lookup::tls_policy::Mode;
use crate::os::printable::printable;
use crate::protocol::answer::{Answer, Reason};

/// The next hop or the user that lookups result in.
pub(super) enum Resolved {
    Value(Vec<u8>),
    None,
    CannotTell(Reason),
}

impl Resolved {
    fn from_answer(answer: &Answer<'_>) -> Self {
        match answer {
            Answer::Found(value) => Self::Value(value.expose().to_vec()),
            Answer::NotFound => Self::None,
            Answer::CannotTell(reason) => Self::CannotTell(*reason),
        }
    }

    /// Returns the user of credentials.
    fn user_from_answer(answer: &Answer<'_>) -> Self {
        match answer {
            Answer::Found(value) => {
                let credentials = value.expose();
                let end = memchr::memchr(b':', credentials).unwrap_or_default();
                Self::Value(credentials.get(..end).unwrap_or_default().to_vec())
            }
            other => Self::from_answer(other),
        }
    }
}

/// The effective route of one sender.
pub(super) struct EffectiveRoute {
    pub(super) next_hop: Resolved,
    /// The user that Postfix authenticates as.
    pub(super) user: Resolved,
}

impl EffectiveRoute {
    /// Looks up the route of a sender in `snapshot`.
    pub(super) fn find(sender: &[u8], snapshot: &Snapshot) -> Self {
        let mut keys = LookupKeys::default();
        let next_hop = Resolved::from_answer(&snapshot.next_hop_for(sender, &mut keys));
        let sender_user = if sender == NULL_SENDER {
            // Postfix queries no login for the null sender.
            Resolved::None
        } else {
            Resolved::user_from_answer(&snapshot.login_for(sender, &mut keys))
        };
        let user = match (sender_user, &next_hop) {
            (Resolved::None, Resolved::Value(list)) => user_of_next_hop(list, snapshot),
            (sender_user, _) => sender_user,
        };
        Self { next_hop, user }
    }
}

fn user_of_next_hop(list: &[u8], snapshot: &Snapshot) -> Resolved {
    let Some(first) = nexthop::elements(list).next() else {
        return Resolved::None;
    };
    let mut keys = LookupKeys::default();
    let (host, _) = nexthop::host_and_port(first);
    match Resolved::user_from_answer(&snapshot.login_for(host, &mut keys)) {
        Resolved::None => Resolved::user_from_answer(&snapshot.login_for(first, &mut keys)),
        user => user,
    }
}

/// Whether the default relay decides about a sender: the relay map has no entry for it.
pub(super) fn depends_on_default(key: &[u8], snapshot: &Snapshot) -> bool {
    let keys = LookupKeys::of(key, &snapshot.delimiters);
    keys.is_sender() && matches!(snapshot.relay_map.find_all(&keys), Hit::Absent)
}

/// Returns the user in the credentials file that a sender would have, used or not.
pub(super) fn stored_user(sender: &[u8], snapshot: &Snapshot) -> Option<Vec<u8>> {
    let keys = LookupKeys::of(sender, &snapshot.delimiters);
    match snapshot.credentials.find_all(&keys) {
        Hit::Value(login) => {
            let end = memchr::memchr(b':', login)?;
            login.get(..end).map(<[u8]>::to_vec)
        }
        _ => None,
    }
}

/// What to print after an edit.
pub(super) struct EditSummary {
    /// What is effective, without the key.
    pub(super) line: String,
    pub(super) warnings: Vec<String>,
}

/// Returns what is effective for `key`, after an edit of its entry in `table`.
pub(super) fn summarize(table: &TableSpec, key: &[u8], snapshot: &Snapshot) -> EditSummary {
    if *table == RELAY_TLS {
        let (line, warning) = tls::summarize(key, snapshot);
        return EditSummary {
            line,
            warnings: warning.into_iter().collect(),
        };
    }
    let keys = LookupKeys::of(key, &Delimiters::default());
    if keys.is_sender() {
        sender_summary(table, key, snapshot)
    } else {
        next_hop_summary(key, snapshot)
    }
}

fn sender_summary(table: &TableSpec, key: &[u8], snapshot: &Snapshot) -> EditSummary {
    let mut warnings = Vec::new();
    let effective = EffectiveRoute::find(key, snapshot);
    let stored = stored_credentials(key, snapshot);
    let routes_senders = snapshot.routes_senders();
    let route = match &effective.next_hop {
        Resolved::Value(list) => {
            if HopTls::find_all(list, snapshot)
                .is_ok_and(|all| all.iter().any(|tls| tls.mode == Mode::Implicit))
            {
                warnings.push(IMPLICIT_TLS.to_owned());
            }
            if nexthop::has_several_operators(list) && logins::has_login_by_sender(snapshot, key) {
                warnings.push(SEVERAL_RELAYS.to_owned());
            }
            printable(list)
        }
        Resolved::None if routes_senders => "delivered directly".to_owned(),
        Resolved::None if snapshot.routing == Routing::MainCf => "the next hop of main.cf".to_owned(),
        Resolved::None => "no next hop is configured here".to_owned(),
        Resolved::CannotTell(reason) => format!("the next hop is unknown: {reason}"),
    };
    let line = match (&effective.user, &effective.next_hop) {
        (Resolved::Value(user), _) => format!("{route} as {}", printable(user)),
        (Resolved::None, Resolved::Value(_)) => format!("{route} without credentials"),
        (Resolved::CannotTell(reason), Resolved::Value(_)) => {
            format!("{route}; the credentials are unknown: {reason}")
        }
        (Resolved::None | Resolved::CannotTell(_), _) => route,
    };
    match (&effective.next_hop, &effective.user, stored) {
        (Resolved::Value(list), Resolved::None, StoredCredentials::None) => {
            // The credentials of these two are those of the next hop.
            let account = match nexthop::elements(list).next() {
                Some(first) if key == NULL_SENDER || key == ANY_SENDER => format!("--next-hop {}", shell_quoted(first)),
                _ => shell_quoted(key),
            };
            warnings.push(format!(
                "warning: neither {0} nor its next hop has credentials, so its mail is sent without authenticating; if \
                 the relay requires them: postmapd relay add-auth {account} USER",
                shell_quoted(key)
            ));
        }
        (Resolved::None, _, StoredCredentials::Own) if routes_senders => warnings.push(format!(
            "warning: the credentials for {0} are not used, because it has no next hop; {1}",
            shell_quoted(key),
            if table.is_secret() {
                format!("to add one: postmapd relay add-domain {} HOST PORT", shell_quoted(key))
            } else {
                format!("to remove them: postmapd relay remove-auth {}", shell_quoted(key))
            }
        )),
        (Resolved::None, _, StoredCredentials::Own) if table.is_secret() => warnings.push(
            if snapshot.routing == Routing::MainCf {
                "warning: no sender has a next hop here, so Postfix offers these credentials to any server that \
                 main.cf selects"
            } else {
                "warning: there is no relay map and no default relay, so lookups of these credentials return a \
                 temporary error and mail stays in the queue; add a next hop (postmapd relay add-domain), or set \
                 next_hops = \"main.cf\" in postmapd.toml if main.cf sets the relays"
            }
            .to_owned(),
        ),
        _ => {}
    }
    EditSummary { line, warnings }
}

const IMPLICIT_TLS: &str = "warning: this relay expects TLS from the first byte, which a next hop cannot express: main.cf \
                            needs the map transport and its services of master.cf (postmapd postconf --services), or \
                            delivery times out; most such relays also listen on port 587";

const SEVERAL_RELAYS: &str = "warning: Postfix offers the login of this sender to every relay in its list, and they \
                              have different operators; give each relay its own login (postmapd relay add-auth \
                              '[HOST]:PORT' USER), and remove the login of the sender";

/// Which entry of the credentials file is for a sender.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StoredCredentials {
    /// The sender's own.
    Own,
    /// That of its domain, or one without a value.
    Other,
    None,
}

fn stored_credentials(key: &[u8], snapshot: &Snapshot) -> StoredCredentials {
    let keys = LookupKeys::of(key, &snapshot.delimiters);
    let table = &snapshot.credentials;
    match (table.locate(keys.of_credentials()), table.find_all(&keys)) {
        (None, _) | (_, Hit::Absent) => StoredCredentials::None,
        (Some((0, _)), Hit::Value(_) | Hit::CannotTell(_)) => StoredCredentials::Own,
        _ => StoredCredentials::Other,
    }
}

fn next_hop_summary(key: &[u8], snapshot: &Snapshot) -> EditSummary {
    let mut warnings = Vec::new();
    let line = match user_of_next_hop(key, snapshot) {
        Resolved::Value(user) => {
            let (host, _) = nexthop::host_and_port(key);
            let host_login = snapshot.login_for(host, &mut LookupKeys::default());
            if host != key && matches!(host_login, Answer::Found(_)) {
                warnings.push(format!(
                    "warning: Postfix looks up the host {0} first, which has credentials, and never {1}; to remove \
                     those of the host: postmapd relay remove-auth --next-hop {0}",
                    printable(host),
                    shell_quoted(key)
                ));
            } else if is_unused_next_hop(key, snapshot) {
                warnings.push(format!(
                    "warning: no sender has the next hop {}, so these credentials are not used; write it as in the \
                     relay map, or give a domain this next hop",
                    printable(key)
                ));
            }
            format!("mail through it is sent as {}", printable(&user))
        }
        Resolved::None => "no credentials, except those of senders".to_owned(),
        Resolved::CannotTell(reason) => format!("the credentials are unknown: {reason}"),
    };
    EditSummary { line, warnings }
}

/// Whether next hops are configured here, and none of them is this one or is on this host.
fn is_unused_next_hop(key: &[u8], snapshot: &Snapshot) -> bool {
    let mut folded = Vec::new();
    address::fold_into(key, &mut folded);
    let is_used = |list: &[u8]| {
        nexthop::elements(list).any(|element| {
            let (host, _) = nexthop::host_and_port(element);
            address::key_matches(element, &folded) || address::key_matches(host, &folded)
        })
    };
    // A default relay that cannot be read may be this next hop.
    let mut may_be_used = [true, false]
        .into_iter()
        .any(|has_domain| matches!(snapshot.default.next_hop(has_domain), Answer::CannotTell(_)))
        || snapshot.default.next_hops().any(|(list, _)| is_used(list));
    snapshot.relay_map.for_each(|record| {
        if let Content::Value(list) = record.content {
            may_be_used |= is_used(list);
        }
    });
    snapshot.routes_senders() && !may_be_used
}

/// Returns a key quoted for a shell.
fn shell_quoted(key: &[u8]) -> String {
    let text = printable(key);
    let is_plain = text.chars().all(|c| c.is_alphanumeric() || "@.-_+=:".contains(c));
    if is_plain {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
