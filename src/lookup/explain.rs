//! Why a snapshot answers as it does: which keys were tried, which line or variable answered, what was withheld.
//!
//! The answer is that of [`Snapshot::answer`]; here it is only said how it came about. [`credentials`] follows Postfix
//! through the questions that it asks for one mail: the sender, then the server's host name, then the next hop
//! (`smtp_sasl_passwd_lookup` in smtp/smtp_sasl_glue.c), until one of them is answered.
//!
//! Limits: what Postfix finds by itself is not known here: the MX hosts of a next hop without brackets, and a next hop
//! that comes from main.cf.

use crate::lookup::address::{Key, SenderKeys};
use crate::lookup::nexthop;
use crate::lookup::routes::Snapshot;
use crate::lookup::table::{Hit, Table};
use crate::os::printable::printable;
use crate::protocol::answer::{Answer, Map, Reason};

/// What answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// This line of the map's file.
    Line(Map, usize),
    /// This variable, or the file that stands for it.
    Variable(&'static str),
}

/// An answer, and how it came about.
pub struct Explanation<'a> {
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

/// Explains the answer of `map` for `key`.
#[must_use]
pub fn explain<'a>(snapshot: &'a Snapshot, map: Map, key: &[u8]) -> Explanation<'a> {
    let mut keys = SenderKeys::default();
    let answer = snapshot.answer(map, key, &mut keys);
    let table = match map {
        Map::Relayhost => &snapshot.relay_map,
        Map::Sasl => &snapshot.credentials,
    };
    let asked: Vec<Key<'_>> = if map == Map::Sasl && !keys.is_sender() {
        vec![keys.whole_key()]
    } else {
        keys.in_order().collect()
    };
    let found = table.locate(asked.iter().copied());
    let entry = found.and_then(|(number, line)| Some(Entry::of(table, *asked.get(number)?, line)));
    let how = match map {
        Map::Relayhost => of_next_hop(snapshot, &keys, answer, entry),
        Map::Sasl if keys.is_sender() => of_sender(snapshot, key, answer, entry),
        Map::Sasl => of_host(answer, entry),
    };
    let last = found.map_or(asked.len(), |(number, _)| number + 1);
    Explanation {
        map,
        key: key.to_vec(),
        answer,
        tried: asked.iter().take(last).map(|key| key.bytes().to_vec()).collect(),
        source: match (how.variable, answer, entry) {
            // Being unsure about the route is being unsure about the credentials: it is the route that has to be mended.
            (_, Answer::CannotTell(_), _) if map == Map::Sasl && keys.is_sender() => {
                let route = explain(snapshot, Map::Relayhost, key);
                match route.answer {
                    Answer::CannotTell(_) => route.source,
                    _ => entry.map(|entry| Source::Line(map, entry.line)),
                }
            }
            (Some(variable), ..) => Some(Source::Variable(variable)),
            (None, _, Some(entry)) => Some(Source::Line(map, entry.line)),
            (None, _, None) => None,
        },
        reason: how.reason,
    }
}

/// The credentials that Postfix would find for a mail of `sender` that leaves by `next_hop`, one element of a list:
/// what it asks, up to the question that is answered.
#[must_use]
pub fn credentials<'a>(
    snapshot: &'a Snapshot,
    sender: &[u8],
    next_hop: Option<&[u8]>,
) -> Vec<Explanation<'a>> {
    let mut asked = Vec::new();
    let is_null_sender = {
        let mut keys = SenderKeys::default();
        keys.read(sender, &snapshot.delimiters);
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
        let explanation = explain(snapshot, Map::Sasl, &key);
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
struct Entry<'a> {
    key: &'a [u8],
    line: usize,
    has_value: bool,
}

impl<'a> Entry<'a> {
    fn of(table: &Table, key: Key<'a>, line: usize) -> Self {
        Self {
            key: key.bytes(),
            line,
            has_value: matches!(table.find([key]), Hit::Value(_)),
        }
    }

    fn name(&self) -> String {
        printable(self.key)
    }
}

struct How {
    reason: String,
    variable: Option<&'static str>,
}

impl How {
    fn because(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            variable: None,
        }
    }
}

fn of_next_hop(snapshot: &Snapshot, keys: &SenderKeys, answer: Answer<'_>, entry: Option<Entry<'_>>) -> How {
    match (answer, entry) {
        (Answer::CannotTell(reason), _) => How::because(reason.to_string()),
        (Answer::Found(_), Some(entry)) => {
            How::because(format!("the relay map has an entry for {}", entry.name()))
        }
        (Answer::Found(_), None) => {
            let variable = snapshot.default.variable(keys.has_domain());
            How {
                reason: format!("no entry; {variable} is the default relay"),
                variable: Some(variable),
            }
        }
        (Answer::NotFound, Some(entry)) => How::because(format!(
            "the entry for {} has no destination: mail is delivered directly, whatever the default relay is",
            entry.name()
        )),
        (Answer::NotFound, None) if !snapshot.default.is_set() => {
            How::because("no entry, and there is no default relay")
        }
        (Answer::NotFound, None) => {
            How::because("no entry, and RELAY_HOST is for senders that have a domain")
        }
    }
}

fn of_sender(snapshot: &Snapshot, sender: &[u8], answer: Answer<'_>, entry: Option<Entry<'_>>) -> How {
    match (answer, entry) {
        (Answer::CannotTell(reason), _) => How::because(reason.to_string()),
        (Answer::NotFound, Some(entry)) if entry.has_value => {
            let route = explain(snapshot, Map::Relayhost, sender);
            How::because(format!(
                "withheld: the credentials of {} are there, but the sender has no next hop ({}), and Postfix would \
                 offer them to the recipient's own server",
                entry.name(),
                route.reason
            ))
        }
        (Answer::NotFound, Some(entry)) => How::because(format!(
            "the entry for {} has no value: this sender has no credentials, on purpose",
            entry.name()
        )),
        (Answer::Found(_), Some(entry)) => {
            How::because(format!("the credentials file has an entry for {}", entry.name()))
        }
        (_, None) => How::because("no entry"),
    }
}

fn of_host(answer: Answer<'_>, entry: Option<Entry<'_>>) -> How {
    match (answer, entry) {
        (Answer::CannotTell(reason), _) => How {
            reason: reason.to_string(),
            // What has to be mended.
            variable: match reason {
                Reason::DefaultCredentialsUnreadable => Some("RELAY_USER"),
                _ => None,
            },
        },
        (Answer::Found(_), Some(entry)) => {
            How::because(format!("the credentials file has an entry for {}", entry.name()))
        }
        (Answer::Found(_), None) => How {
            reason: "no entry; this is the next hop of the default relay, whose credentials RELAY_USER and \
                     RELAY_PASSWORD are"
                .to_owned(),
            variable: Some("RELAY_USER"),
        },
        (Answer::NotFound, Some(entry)) => How::because(format!(
            "the entry for {} has no value: it has no credentials, on purpose",
            entry.name()
        )),
        (Answer::NotFound, None) => How::because("no entry"),
    }
}
