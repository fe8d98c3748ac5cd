//! What holds for a sender or a next hop: the answers of a snapshot, put into words, and what to be warned of.
//!
//! The user is found as Postfix finds it: by the sender, then by the host of the next hop, then by the next hop. Of a
//! list of next hops it is that of the first, and no MX record is looked up.

use crate::check::logins;
use crate::lookup::address::{self, Delimiters, NULL_SENDER, SenderKeys};
use crate::lookup::nexthop;
use crate::lookup::routing::Routing;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::Hit;
use crate::lookup::table::grammar::Content;
use crate::lookup::table::spec::TableSpec;
use crate::os::printable::printable;
use crate::protocol::answer::{Answer, Reason};

/// What is said of one thing.
pub(super) enum Told {
    /// It is this.
    Is(Vec<u8>),
    /// There is none.
    None,
    /// A lookup is answered *cannot tell*.
    Unsure(Reason),
}

impl Told {
    fn of(answer: &Answer<'_>) -> Self {
        match answer {
            Answer::Found(value) => Self::Is(value.expose().to_vec()),
            Answer::NotFound => Self::None,
            Answer::CannotTell(reason) => Self::Unsure(*reason),
        }
    }

    /// The user of credentials.
    fn user_of(answer: &Answer<'_>) -> Self {
        match answer {
            Answer::Found(value) => {
                let credentials = value.expose();
                let end = memchr::memchr(b':', credentials).unwrap_or_default();
                Self::Is(credentials.get(..end).unwrap_or_default().to_vec())
            }
            other => Self::of(other),
        }
    }
}

/// What holds for one sender.
pub(super) struct Standing {
    /// Its next hop.
    pub(super) next_hop: Told,
    /// The user that its mail authenticates as.
    pub(super) user: Told,
}

impl Standing {
    /// What `snapshot` says of a sender.
    pub(super) fn of(sender: &[u8], snapshot: &Snapshot) -> Self {
        let mut keys = SenderKeys::default();
        let next_hop = Told::of(&snapshot.next_hop_for(sender, &mut keys));
        let own = if sender == NULL_SENDER {
            // Postfix does not ask.
            Told::None
        } else {
            Told::user_of(&snapshot.login_for(sender, &mut keys))
        };
        let user = match (own, &next_hop) {
            (Told::None, Told::Is(list)) => user_of_next_hop(list, snapshot),
            (own, _) => own,
        };
        Self { next_hop, user }
    }
}

fn user_of_next_hop(list: &[u8], snapshot: &Snapshot) -> Told {
    let Some(first) = nexthop::elements(list).next() else {
        return Told::None;
    };
    let mut keys = SenderKeys::default();
    let (host, _) = nexthop::host_and_port(first);
    match Told::user_of(&snapshot.login_for(host, &mut keys)) {
        Told::None => Told::user_of(&snapshot.login_for(first, &mut keys)),
        told => told,
    }
}

/// Whether the default relay decides about a sender: the relay map has no entry for it.
pub(super) fn needs_default(key: &[u8], snapshot: &Snapshot) -> bool {
    let keys = SenderKeys::of(key, &snapshot.delimiters);
    keys.is_sender() && matches!(snapshot.relay_map.find(keys.in_order()), Hit::Absent)
}

/// The user in the credentials file that a sender would have, used or not.
pub(super) fn user_in_file(sender: &[u8], snapshot: &Snapshot) -> Option<Vec<u8>> {
    let keys = SenderKeys::of(sender, &snapshot.delimiters);
    match snapshot.credentials.find(keys.in_order()) {
        Hit::Value(login) => {
            let end = memchr::memchr(b':', login)?;
            login.get(..end).map(<[u8]>::to_vec)
        }
        _ => None,
    }
}

/// What is said after an edit.
pub(super) struct AfterEdit {
    /// What holds, without the key.
    pub(super) line: String,
    /// What matters beside it.
    pub(super) warnings: Vec<String>,
}

/// What holds for `key`, after an edit of its entry in `map`.
pub(super) fn after_edit(table: &TableSpec, key: &[u8], snapshot: &Snapshot) -> AfterEdit {
    let keys = SenderKeys::of(key, &Delimiters::default());
    if keys.is_sender() {
        of_sender(table, key, snapshot)
    } else {
        of_next_hop(key, snapshot)
    }
}

fn of_sender(table: &TableSpec, key: &[u8], snapshot: &Snapshot) -> AfterEdit {
    let mut warnings = Vec::new();
    let standing = Standing::of(key, snapshot);
    let stored = stored_credentials(key, snapshot);
    let routes_at_all = snapshot.routes_senders();
    let route = match &standing.next_hop {
        Told::Is(list) => {
            if nexthop::elements(list).any(nexthop::uses_implicit_tls) {
                warnings.push(IMPLICIT_TLS.to_owned());
            }
            if nexthop::has_several_operators(list) && logins::has_login_by_sender(snapshot, key) {
                warnings.push(SEVERAL_RELAYS.to_owned());
            }
            printable(list)
        }
        Told::None if routes_at_all => "delivered directly".to_owned(),
        Told::None if snapshot.routing == Routing::MainCf => "the next hop of main.cf".to_owned(),
        Told::None => "no next hop is known here".to_owned(),
        Told::Unsure(reason) => format!("the next hop cannot be told: {reason}"),
    };
    let line = match (&standing.user, &standing.next_hop) {
        (Told::Is(user), _) => format!("{route} as {}", printable(user)),
        (Told::None, Told::Is(_)) => format!("{route} without credentials"),
        (Told::Unsure(reason), Told::Is(_)) => {
            format!("{route}; the credentials cannot be told: {reason}")
        }
        (Told::None | Told::Unsure(_), _) => route,
    };
    match (&standing.next_hop, &standing.user, stored) {
        (Told::Is(_), Told::None, Stored::None) => warnings.push(format!(
            "warning: there are no credentials for {0} or its next hop, so its mail is sent without authenticating; if \
             the relay wants some: postmapd relay add-auth {0} USER",
            for_shell(key)
        )),
        (Told::None, _, Stored::Own) if routes_at_all => warnings.push(format!(
            "warning: the credentials for {0} are not used, because it has no next hop; postmapd relay {1}",
            for_shell(key),
            if table.is_secret() {
                format!("add-domain {} HOST PORT gives it one", for_shell(key))
            } else {
                format!("remove-auth {} removes them", for_shell(key))
            }
        )),
        (Told::None, _, Stored::Own) if table.is_secret() => warnings.push(
            if snapshot.routing == Routing::MainCf {
                "warning: no sender has a next hop here, so these credentials go to wherever main.cf sends the mail"
            } else {
                "warning: there is no relay map and no default relay, so a server answers these credentials with a temporary \
                 error and mail waits: give the sender a next hop (postmapd relay add-domain), or set next_hops = \"main.cf\" \
                 in postmapd.toml if main.cf has the relays"
            }
            .to_owned(),
        ),
        _ => {}
    }
    AfterEdit { line, warnings }
}

const IMPLICIT_TLS: &str = "warning: a relay on port 465 expects TLS from the first byte, which a next hop cannot ask for: without \
     smtp_tls_wrappermode=yes in main.cf, or in a transport of its own in master.cf, Postfix waits there for nothing; \
     most such relays have port 587 too";

const SEVERAL_RELAYS: &str = "warning: Postfix offers the login of this sender to every relay of its list, and they are of different \
     operators; give each relay its own (postmapd relay add-auth '[HOST]:PORT' USER), and remove that of the sender";

/// Whether the credentials file has an entry that is for a sender.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stored {
    /// One of its own.
    Own,
    /// One of its domain, or one that says that it has none.
    Other,
    None,
}

fn stored_credentials(key: &[u8], snapshot: &Snapshot) -> Stored {
    let keys = SenderKeys::of(key, &snapshot.delimiters);
    let table = &snapshot.credentials;
    match (table.locate(keys.in_order()), table.find(keys.in_order())) {
        (None, _) | (_, Hit::Absent) => Stored::None,
        (Some((0, _)), Hit::Value(_) | Hit::CannotTell(_)) => Stored::Own,
        _ => Stored::Other,
    }
}

fn of_next_hop(key: &[u8], snapshot: &Snapshot) -> AfterEdit {
    let mut warnings = Vec::new();
    let line = match user_of_next_hop(key, snapshot) {
        Told::Is(user) => {
            let (host, _) = nexthop::host_and_port(key);
            let of_host = snapshot.login_for(host, &mut SenderKeys::default());
            if host != key && matches!(of_host, Answer::Found(_)) {
                warnings.push(format!(
                    "warning: Postfix asks for the host {0} first, which has credentials, and never for those of {1}; \
                     postmapd relay remove-auth --next-hop {0} removes them",
                    printable(host),
                    for_shell(key)
                ));
            } else if routes_elsewhere(key, snapshot) {
                warnings.push(format!(
                    "warning: no sender has the next hop {}, so these credentials are not used; write it as the relay \
                     map has it, or give a domain that next hop",
                    printable(key)
                ));
            }
            format!("mail by it is sent as {}", printable(&user))
        }
        Told::None => "no credentials, except those that a sender has".to_owned(),
        Told::Unsure(reason) => format!("the credentials cannot be told: {reason}"),
    };
    AfterEdit { line, warnings }
}

/// Whether next hops come from here, and none of them is this one or is on this host.
fn routes_elsewhere(key: &[u8], snapshot: &Snapshot) -> bool {
    let mut folded = Vec::new();
    address::fold_into(key, &mut folded);
    let meets = |list: &[u8]| {
        nexthop::elements(list).any(|element| {
            let (host, _) = nexthop::host_and_port(element);
            address::key_matches(element, &folded) || address::key_matches(host, &folded)
        })
    };
    // A default that cannot be read may be this one.
    let mut may_meet = [true, false]
        .into_iter()
        .any(|has_domain| matches!(snapshot.default.next_hop(has_domain), Answer::CannotTell(_)))
        || snapshot.default.next_hops().any(|(list, _)| meets(list));
    snapshot.relay_map.for_each(|record| {
        if let Content::Value(list) = record.content {
            may_meet |= meets(list);
        }
    });
    snapshot.routes_senders() && !may_meet
}

/// A key as a shell wants it.
fn for_shell(key: &[u8]) -> String {
    let text = printable(key);
    let is_plain = text.chars().all(|c| c.is_alphanumeric() || "@.-_+=:".contains(c));
    if is_plain {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
