//! Why a snapshot answers as it does: which keys were tried, which line or variable answered, what was withheld.
//!
//! The answer is that of [`Snapshot::answer`]; here it is only said how it came about. [`credentials`] follows Postfix
//! through the questions that it asks for one mail: the sender, then the server's host name, then the next hop
//! (`smtp_sasl_passwd_lookup` in smtp/smtp_sasl_glue.c), until one of them is answered.
//!
//! Limits: what Postfix finds by itself is not known here: the MX hosts of a next hop without brackets, and a next hop
//! that comes from main.cf.

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

/// What answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// This line of this file.
    Line(&'static TableSpec, usize),
    /// This variable, or the file that stands for it.
    Variable(&'static str),
}

/// An answer, and how it came about.
pub(crate) struct Explanation<'a> {
    /// Which map was asked.
    pub map: Map,
    /// What was asked, as it was asked.
    pub key: Vec<u8>,
    /// What is answered.
    pub answer: Answer<'a>,
    /// The keys that were looked for, in order, up to the one that answered.
    pub tried: Vec<Vec<u8>>,
    /// What answered.
    pub source: Option<Source>,
    /// Why, in a sentence for a person. Names no credential.
    pub reason: String,
}

/// Explains the answer of `map` for `key`. `scratch` lends its memory.
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
    let answer = snapshot.next_hop_of(sender, &mut keys);
    explain_answer(snapshot, Map::RELAYHOST, sender, &keys, answer)
}

/// Explains the login of a sender, a host or a next hop.
#[must_use]
pub(crate) fn login<'a>(snapshot: &'a Snapshot, key: &[u8]) -> Explanation<'a> {
    let mut keys = SenderKeys::default();
    let answer = snapshot.login_of(key, &mut keys);
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
    let asked = map.search.keys(keys);
    let found = table.and_then(|table| table.locate(asked.iter().copied()));
    let entry = found.and_then(|(number, line)| Some(Entry::new(table?, *asked.get(number)?, line)));
    let why = map.search.explain(snapshot, key, keys, answer, entry);
    let last = found.map_or(asked.len(), |(number, _)| number + 1);
    Explanation {
        map,
        key: key.to_vec(),
        answer,
        tried: asked.iter().take(last).map(|key| key.bytes().to_vec()).collect(),
        source: why.source,
        reason: why.reason,
    }
}

/// The credentials that Postfix would find for a mail of `sender` that leaves by `next_hop`, one element of a list:
/// what it asks, up to the question that is answered.
#[must_use]
pub(crate) fn credentials<'a>(
    snapshot: &'a Snapshot,
    sender: &[u8],
    next_hop: Option<&[u8]>,
) -> Vec<Explanation<'a>> {
    let mut asked = Vec::new();
    let is_null_sender = {
        let keys = SenderKeys::of(sender, &snapshot.delimiters);
        keys.whole() == crate::lookup::address::NULL_SENDER
    };
    // The null sender is never asked for (smtp_sender_dependent_authentication in postconf(5)).
    if !is_null_sender {
        asked.push(sender.to_vec());
    }
    if let Some(next_hop) = next_hop {
        if let Some(host) = nexthop::server(next_hop) {
            asked.push(host.to_vec());
        }
        if !asked.iter().any(|key| key == next_hop) {
            asked.push(next_hop.to_vec());
        }
    }
    let mut explanations = Vec::new();
    for key in asked {
        let explanation = login(snapshot, &key);
        let goes_on = matches!(explanation.answer, Answer::NotFound);
        explanations.push(explanation);
        if !goes_on {
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

/// Why an answer is given.
pub struct Rationale {
    /// In a sentence for a person. Names no credential.
    pub reason: String,
    /// What answered.
    pub source: Option<Source>,
}

impl Rationale {
    /// The entry that was found, or that there is none, for this reason.
    pub fn of_entry(entry: Option<Entry<'_>>, reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            source: entry.map(|entry| entry.source),
        }
    }

    fn of_variable(variable: &'static str, reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            source: Some(Source::Variable(variable)),
        }
    }
}

/// Explains a next hop.
pub(super) fn of_next_hop(
    snapshot: &Snapshot,
    keys: &SenderKeys,
    answer: Answer<'_>,
    entry: Option<Entry<'_>>,
) -> Rationale {
    match (answer, &entry) {
        (Answer::CannotTell(reason), _) => Rationale::of_entry(entry, reason.text()),
        (Answer::Found(_), Some(found)) => {
            Rationale::of_entry(entry, format!("the relay map has an entry for {}", found.name()))
        }
        (Answer::Found(_), None) => {
            let variable = snapshot.default.variable(keys.has_domain());
            Rationale::of_variable(variable, format!("no entry; {variable} is the default relay"))
        }
        (Answer::NotFound, Some(found)) => Rationale::of_entry(
            entry,
            format!(
                "the entry for {} has no destination: mail is delivered directly, whatever the default relay is",
                found.name()
            ),
        ),
        (Answer::NotFound, None) if !snapshot.default.is_set() => {
            Rationale::of_entry(None, "no entry, and there is no default relay")
        }
        (Answer::NotFound, None) => {
            Rationale::of_entry(None, "no entry, and RELAY_HOST is for senders that have a domain")
        }
    }
}

/// Explains the login of an envelope sender.
pub(super) fn of_sender(
    snapshot: &Snapshot,
    sender: &[u8],
    answer: Answer<'_>,
    entry: Option<Entry<'_>>,
) -> Rationale {
    match (answer, &entry) {
        (Answer::CannotTell(reason), _) => {
            let route = next_hop(snapshot, sender);
            match route.answer {
                // Being unsure about the route is being unsure about the credentials: it is the route that has to be fixed.
                Answer::CannotTell(_) => Rationale {
                    reason: reason.text().to_owned(),
                    source: route.source,
                },
                _ => Rationale::of_entry(entry, reason.text()),
            }
        }
        (Answer::NotFound, Some(found)) if found.has_value => {
            let route = next_hop(snapshot, sender);
            Rationale::of_entry(
                entry,
                format!(
                    "withheld: the credentials of {} are there, but the sender has no next hop ({}), and Postfix would \
                     offer them to the recipient's own server",
                    found.name(),
                    route.reason
                ),
            )
        }
        (Answer::NotFound, Some(found)) => Rationale::of_entry(
            entry,
            format!(
                "the entry for {} has no value: this sender has no credentials, on purpose",
                found.name()
            ),
        ),
        (Answer::Found(_), Some(found)) => Rationale::of_entry(
            entry,
            format!("the credentials file has an entry for {}", found.name()),
        ),
        (_, None) => Rationale::of_entry(None, "no entry"),
    }
}

/// Explains the login of a host or a next hop.
pub(super) fn of_host(answer: Answer<'_>, entry: Option<Entry<'_>>) -> Rationale {
    match (answer, &entry) {
        // What has to be fixed is named.
        (Answer::CannotTell(reason), _) if reason == reason::DEFAULT_CREDENTIALS_UNREADABLE => {
            Rationale::of_variable("RELAY_USER", reason.text())
        }
        (Answer::CannotTell(reason), _) => Rationale::of_entry(entry, reason.text()),
        (Answer::Found(_), Some(found)) => Rationale::of_entry(
            entry,
            format!("the credentials file has an entry for {}", found.name()),
        ),
        (Answer::Found(_), None) => Rationale::of_variable(
            "RELAY_USER",
            "no entry; this is the next hop of the default relay, whose credentials RELAY_USER and RELAY_PASSWORD are",
        ),
        (Answer::NotFound, Some(found)) => Rationale::of_entry(
            entry,
            format!(
                "the entry for {} has no value: it has no credentials, on purpose",
                found.name()
            ),
        ),
        (Answer::NotFound, None) => Rationale::of_entry(None, "no entry"),
    }
}
