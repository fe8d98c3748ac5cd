//! Explains an answer of a snapshot: the keys that were tried, the line or variable that answered, what was withheld.
//!
//! The answer itself is that of [`Snapshot::answer`]. [`credentials`] follows Postfix through its lookups for one mail:
//! the sender, then the server's host name, then the next hop (`smtp_sasl_passwd_lookup` in smtp/smtp_sasl_glue.c),
//! until one is found.
//!
//! Limits: not known here is what Postfix gets elsewhere: the MX hosts of a next hop without brackets, and a next hop
//! from main.cf.

use crate::lookup::address::{Key, SenderKeys};
use crate::lookup::map::Map;
use crate::lookup::nexthop;
use crate::lookup::reason;
use crate::lookup::search::Scratch;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::spec::TableSpec;
use crate::lookup::table::{Hit, Table};
use crate::os::printable::printable;
use crate::protocol::answer::Answer;

/// The source of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A line of a table file, from 1.
    Line(&'static TableSpec, usize),
    /// An environment variable, or the file in its place.
    Variable(&'static str),
}

/// An answer and its explanation.
pub(crate) struct Explanation<'a> {
    /// The map.
    pub map: Map,
    /// The key as it was asked for.
    pub key: Vec<u8>,
    /// The answer.
    pub answer: Answer<'a>,
    /// The keys that were tried, in order, up to the one that answered.
    pub tried: Vec<Vec<u8>>,
    /// The source of the answer, if an entry or variable decided it.
    pub source: Option<Source>,
    /// The reason, as a sentence without credentials.
    pub reason: String,
}

/// Explains the answer of `map` for `key`. `scratch` is memory for the answer.
#[must_use]
pub(crate) fn explain<'a>(
    snapshot: &'a Snapshot,
    map: Map,
    key: &[u8],
    scratch: &'a mut Scratch,
) -> Explanation<'a> {
    let mut keys = SenderKeys::default();
    let answer = snapshot.answer(map, key, &mut keys, scratch);
    explain_answer(snapshot, map, key, &keys, answer)
}

/// Explains the next hop of a sender.
#[must_use]
pub(crate) fn next_hop<'a>(snapshot: &'a Snapshot, sender: &[u8]) -> Explanation<'a> {
    let mut keys = SenderKeys::default();
    let answer = snapshot.next_hop_for(sender, &mut keys);
    explain_answer(snapshot, Map::RELAYHOST, sender, &keys, answer)
}

/// Explains the login of a sender, a host or a next hop.
#[must_use]
pub(crate) fn login<'a>(snapshot: &'a Snapshot, key: &[u8]) -> Explanation<'a> {
    let mut keys = SenderKeys::default();
    let answer = snapshot.login_for(key, &mut keys);
    explain_answer(snapshot, Map::SASL, key, &keys, answer)
}

fn explain_answer<'a>(
    snapshot: &Snapshot,
    map: Map,
    key: &[u8],
    keys: &SenderKeys,
    answer: Answer<'a>,
) -> Explanation<'a> {
    let table = snapshot.table(map.table);
    let keys_in_order = map.search.keys(keys);
    let found = table.and_then(|table| table.locate(keys_in_order.iter().copied()));
    let entry = found.and_then(|(number, line)| Some(Entry::new(table?, *keys_in_order.get(number)?, line)));
    let why = map.search.explain(snapshot, key, keys, answer, entry);
    let last = found.map_or(keys_in_order.len(), |(number, _)| number + 1);
    Explanation {
        map,
        key: key.to_vec(),
        answer,
        tried: keys_in_order
            .iter()
            .take(last)
            .map(|key| key.bytes().to_vec())
            .collect(),
        source: why.source,
        reason: why.reason,
    }
}

/// Explains the credentials that Postfix finds for a mail from `sender` to `next_hop`, one element of a list: one
/// explanation for each lookup, up to the one that is answered.
#[must_use]
pub(crate) fn credentials<'a>(
    snapshot: &'a Snapshot,
    sender: &[u8],
    next_hop: Option<&[u8]>,
) -> Vec<Explanation<'a>> {
    let mut keys_in_order = Vec::new();
    let is_null_sender = {
        let keys = SenderKeys::of(sender, &snapshot.delimiters);
        keys.whole() == crate::lookup::address::NULL_SENDER
    };
    // Postfix never looks up the null sender (smtp_sender_dependent_authentication in postconf(5)).
    if !is_null_sender {
        keys_in_order.push(sender.to_vec());
    }
    if let Some(next_hop) = next_hop {
        if let Some(host) = nexthop::server_name(next_hop) {
            keys_in_order.push(host.to_vec());
        }
        if !keys_in_order.iter().any(|key| key == next_hop) {
            keys_in_order.push(next_hop.to_vec());
        }
    }
    let mut explanations = Vec::new();
    for key in keys_in_order {
        let explanation = login(snapshot, &key);
        let is_not_found = matches!(explanation.answer, Answer::NotFound);
        explanations.push(explanation);
        if !is_not_found {
            break;
        }
    }
    explanations
}

/// The entry that was found.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    key: &'a [u8],
    source: Source,
    has_value: bool,
}

impl<'a> Entry<'a> {
    fn new(table: &Table, key: Key<'a>, line: usize) -> Self {
        Self {
            key: key.bytes(),
            source: Source::Line(table.spec(), line),
            has_value: matches!(table.find([key]), Hit::Value(_)),
        }
    }

    fn name(&self) -> String {
        printable(self.key)
    }
}

/// The reason for an answer.
pub struct Rationale {
    /// The reason, as a sentence without credentials.
    pub reason: String,
    /// The source of the answer.
    pub source: Option<Source>,
}

impl Rationale {
    /// Creates a rationale for the entry that was found, or for its absence.
    pub fn from_entry(entry: Option<Entry<'_>>, reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            source: entry.map(|entry| entry.source),
        }
    }

    fn from_variable(variable: &'static str, reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            source: Some(Source::Variable(variable)),
        }
    }
}

/// Explains a next hop.
pub(super) fn explain_next_hop(
    snapshot: &Snapshot,
    keys: &SenderKeys,
    answer: Answer<'_>,
    entry: Option<Entry<'_>>,
) -> Rationale {
    match (answer, &entry) {
        (Answer::CannotTell(reason), _) => Rationale::from_entry(entry, reason.text()),
        (Answer::Found(_), Some(found)) => {
            Rationale::from_entry(entry, format!("the relay map has an entry for {}", found.name()))
        }
        (Answer::Found(_), None) => {
            let variable = snapshot.default.variable(keys.has_domain());
            Rationale::from_variable(variable, format!("no entry; {variable} is the default relay"))
        }
        (Answer::NotFound, Some(found)) => Rationale::from_entry(
            entry,
            format!(
                "the entry for {} has no destination: mail is delivered directly, whatever the default relay is",
                found.name()
            ),
        ),
        (Answer::NotFound, None) if !snapshot.default.is_set() => {
            Rationale::from_entry(None, "no entry, and there is no default relay")
        }
        (Answer::NotFound, None) => {
            Rationale::from_entry(None, "no entry, and RELAY_HOST is for senders that have a domain")
        }
    }
}

/// Explains the login of an envelope sender.
pub(super) fn explain_sender_login(
    snapshot: &Snapshot,
    sender: &[u8],
    answer: Answer<'_>,
    entry: Option<Entry<'_>>,
) -> Rationale {
    match (answer, &entry) {
        (Answer::CannotTell(reason), _) => {
            let route = next_hop(snapshot, sender);
            match route.answer {
                // If the route is unknown, so are the credentials: the route has to be fixed.
                Answer::CannotTell(_) => Rationale {
                    reason: reason.text().to_owned(),
                    source: route.source,
                },
                _ => Rationale::from_entry(entry, reason.text()),
            }
        }
        (Answer::NotFound, Some(found)) if found.has_value => {
            let route = next_hop(snapshot, sender);
            Rationale::from_entry(
                entry,
                format!(
                    "withheld: the credentials of {} are there, but the sender has no next hop ({}), and Postfix would \
                     offer them to the recipient's own server",
                    found.name(),
                    route.reason
                ),
            )
        }
        (Answer::NotFound, Some(found)) => Rationale::from_entry(
            entry,
            format!(
                "the entry for {} has no value: this sender has no credentials, on purpose",
                found.name()
            ),
        ),
        (Answer::Found(_), Some(found)) => Rationale::from_entry(
            entry,
            format!("the credentials file has an entry for {}", found.name()),
        ),
        (_, None) => Rationale::from_entry(None, "no entry"),
    }
}

/// Explains the login of a host or a next hop.
pub(super) fn explain_host_login(answer: Answer<'_>, entry: Option<Entry<'_>>) -> Rationale {
    match (answer, &entry) {
        // Names the variable that has to be fixed.
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
            "no entry; this is the next hop of the default relay, whose credentials RELAY_USER and RELAY_PASSWORD are",
        ),
        (Answer::NotFound, Some(found)) => Rationale::from_entry(
            entry,
            format!(
                "the entry for {} has no value: it has no credentials, on purpose",
                found.name()
            ),
        ),
        (Answer::NotFound, None) => Rationale::from_entry(None, "no entry"),
    }
}
