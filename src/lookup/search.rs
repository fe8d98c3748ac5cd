//! The search of a map: from the keys of a request to an answer and its explanation.
//!
//! A [`Search`] is the code of a map. It chooses which keys are looked up where; the [`Snapshot`], which has the tables
//! and the rules between them, decides the answer.

use super::address::{ANY_SENDER, Key, LookupKeys};
use super::rationale::{Entry, Rationale};
use super::reason;
use super::snapshot::Snapshot;
use super::table::key;
use crate::os::printable::printable;
use crate::protocol::answer::{Answer, Value};

/// Memory that the caller lends for a value that no table has as it is answered. It keeps its capacity, so that lookups
/// do not allocate after the first few.
///
/// Not for secret values: it is not wiped.
#[derive(Default)]
pub struct Scratch(Vec<u8>);

impl Scratch {
    /// Concatenates these parts to a value.
    pub fn compose(&mut self, parts: &[&[u8]]) -> Value<'_> {
        self.0.clear();
        for part in parts {
            self.0.extend_from_slice(part);
        }
        Value::new(&self.0)
    }
}

/// The search of a map.
pub trait Search: Sync {
    /// Returns the answer for the parsed `keys`.
    fn answer<'a>(&self, snapshot: &'a Snapshot, keys: &LookupKeys, scratch: &'a mut Scratch) -> Answer<'a>;

    /// Returns the keys that are looked up in the table of the map, in order.
    fn keys<'k>(&self, snapshot: &Snapshot, keys: &'k LookupKeys) -> Vec<Key<'k>>;

    /// Explains this answer for `keys`. `entry` is the first entry that was found.
    fn explain(
        &self,
        snapshot: &Snapshot,
        keys: &LookupKeys,
        answer: Answer<'_>,
        entry: Option<Entry<'_>>,
    ) -> Rationale;
}

/// The search for the next hop of an envelope sender.
pub struct NextHopSearch;

impl Search for NextHopSearch {
    fn answer<'a>(&self, snapshot: &'a Snapshot, keys: &LookupKeys, _: &'a mut Scratch) -> Answer<'a> {
        snapshot.next_hop(keys)
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
        explain_next_hop(snapshot, keys, answer, entry)
    }
}

/// The search for the login of an envelope sender, a host or a next hop.
pub struct LoginSearch;

impl Search for LoginSearch {
    fn answer<'a>(&self, snapshot: &'a Snapshot, keys: &LookupKeys, _: &'a mut Scratch) -> Answer<'a> {
        snapshot.login(keys)
    }

    fn keys<'k>(&self, _: &Snapshot, keys: &'k LookupKeys) -> Vec<Key<'k>> {
        if keys.is_sender() {
            keys.of_credentials().collect()
        } else {
            vec![keys.whole_key()]
        }
    }

    fn explain(
        &self,
        snapshot: &Snapshot,
        keys: &LookupKeys,
        answer: Answer<'_>,
        entry: Option<Entry<'_>>,
    ) -> Rationale {
        if keys.is_sender() {
            explain_sender_login(snapshot, keys, answer, entry)
        } else {
            explain_host_login(answer, entry)
        }
    }
}

/// Explains a next hop.
pub(super) fn explain_next_hop(
    snapshot: &Snapshot,
    keys: &LookupKeys,
    answer: Answer<'_>,
    entry: Option<Entry<'_>>,
) -> Rationale {
    match (answer, &entry) {
        (Answer::CannotTell(reason), _) => Rationale::from_entry(entry, reason.text()),
        (Answer::Found(_), Some(found)) => {
            let what = found.describe();
            Rationale::from_entry(entry, format!("the relay map has an entry for {what}"))
        }
        (Answer::Found(_), None) => {
            let variable = snapshot.default.variable(keys.has_domain());
            Rationale::from_variable(variable, format!("no entry; {variable} sets the default relay"))
        }
        (Answer::NotFound, Some(found)) => Rationale::from_entry(
            entry,
            format!(
                "the entry for {} has no destination: mail is delivered directly, regardless of the default relay",
                found.describe()
            ),
        ),
        (Answer::NotFound, None) => {
            let reason = if snapshot.default.is_set() {
                "no entry, and RELAY_HOST applies only to senders with a domain"
            } else if snapshot.relay_map.entry_hit(ANY_SENDER.into()).is_some() {
                "no entry, and @* applies only to senders with a domain"
            } else {
                "no entry, and there is no default relay"
            };
            let key = keys.whole();
            let is_domain = !keys.is_sender() && key::validate_domain(key).is_ok();
            Rationale::from_entry(
                None,
                if is_domain {
                    let domain = printable(key);
                    format!("{reason}; Postfix looks up sender addresses here: query someone@{domain}")
                } else {
                    reason.to_owned()
                },
            )
        }
    }
}

/// Explains the login of an envelope sender.
fn explain_sender_login(
    snapshot: &Snapshot,
    keys: &LookupKeys,
    answer: Answer<'_>,
    entry: Option<Entry<'_>>,
) -> Rationale {
    match (answer, &entry) {
        (Answer::CannotTell(reason), _) => {
            let (next_hop, route) = explain_route(snapshot, keys);
            match next_hop {
                // If the route is unknown, so are the credentials: the route must be fixed.
                Answer::CannotTell(_) => Rationale {
                    reason: reason.text().to_owned(),
                    source: route.source,
                },
                _ => Rationale::from_entry(entry, reason.text()),
            }
        }
        (Answer::NotFound, Some(found)) if found.has_value => {
            let (_, route) = explain_route(snapshot, keys);
            Rationale::from_entry(
                entry,
                format!(
                    "withheld: {} has credentials, but the sender has no next hop ({}), and Postfix would offer them \
                     to the recipient's own server",
                    found.name(),
                    route.reason
                ),
            )
        }
        (Answer::NotFound, Some(found)) => Rationale::from_entry(
            entry,
            format!(
                "the entry for {} has no value: this sender intentionally has no credentials",
                found.name()
            ),
        ),
        (Answer::Found(_), Some(found)) => Rationale::from_entry(
            entry,
            format!("the credentials file has an entry for {}", found.describe()),
        ),
        (_, None) => Rationale::from_entry(None, "no entry"),
    }
}

/// Explains the login of a host or a next hop.
fn explain_host_login(answer: Answer<'_>, entry: Option<Entry<'_>>) -> Rationale {
    match (answer, &entry) {
        // Names the variable to fix.
        (Answer::CannotTell(reason), _) if reason == reason::DEFAULT_CREDENTIALS_UNREADABLE => {
            Rationale::from_variable("RELAY_USER", reason.text())
        }
        (Answer::CannotTell(reason), _) => Rationale::from_entry(entry, reason.text()),
        (Answer::Found(_), Some(found)) => Rationale::from_entry(
            entry,
            format!("the credentials file has an entry for {}", found.name()),
        ),
        (Answer::Found(_), None) => Rationale::from_variable(
            "RELAY_USER",
            "no entry; this is the next hop of the default relay, whose credentials RELAY_USER and RELAY_PASSWORD set",
        ),
        (Answer::NotFound, Some(found)) => Rationale::from_entry(
            entry,
            format!(
                "the entry for {} has no value: it intentionally has no credentials",
                found.name()
            ),
        ),
        (Answer::NotFound, None) => Rationale::from_entry(None, "no entry"),
    }
}

/// Returns the next hop of a sender, and its rationale.
fn explain_route<'a>(snapshot: &'a Snapshot, keys: &LookupKeys) -> (Answer<'a>, Rationale) {
    let answer = snapshot.next_hop(keys);
    let in_order: Vec<Key<'_>> = keys.in_order().collect();
    let entry = Entry::find(&snapshot.relay_map, &in_order).map(|(_, entry)| entry);
    (answer, explain_next_hop(snapshot, keys, answer, entry))
}
