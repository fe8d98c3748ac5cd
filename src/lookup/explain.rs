//! Explains an answer of a snapshot: the keys that were tried, the line or variable that answered, what was withheld.
//!
//! The answer itself is that of [`Map::answer`]. [`credentials`] follows Postfix through its lookups for one mail:
//! the sender, then the server's host name, then the next hop (`smtp_sasl_passwd_lookup` in smtp/smtp_sasl_glue.c),
//! until one is found. For a sender that has moved, that is what a running server answers on one connection
//! ([`moved_sender`]).
//!
//! - [`postfix_action`]: what Postfix does with an answer;
//! - [`object`]: explanations as text and JSON.
//!
//! Limits: of a list, the first [`MAX_NEXT_HOPS`] next hops are explained. Not known here is what Postfix gets elsewhere: the MX hosts of a next hop without brackets, and a next hop
//! from main.cf.

mod moved_sender;
pub(crate) mod object;
mod postfix_action;

use crate::lookup::address::LookupKeys;
use crate::lookup::map::{AnswerKind, Map};
use crate::lookup::nexthop;
use crate::lookup::rationale::{Entry, Source};
use crate::lookup::search::Scratch;
use crate::lookup::snapshot::Snapshot;
use crate::protocol::answer::Answer;

/// An answer and its explanation.
pub(crate) struct Explanation<'a> {
    /// The map.
    pub map: Map,
    /// The key as received.
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

impl<'a> Explanation<'a> {
    /// Returns the user of a login that was found.
    fn user(&self) -> Option<&'a [u8]> {
        match self.answer {
            Answer::Found(value) if self.map.is_secret() => {
                Some(value.expose().split(|c| *c == b':').next().unwrap_or_default())
            }
            _ => None,
        }
    }
}

/// Who reads an explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// The user of a command, who can read the files: of a login, the password is masked.
    Command,
    /// A client of the admin listener, which may query no secret map: the whole login is masked.
    AdminClient,
}

/// Looks up `key` in `map`, and explains the answer, which may borrow from `scratch`.
#[must_use]
pub(crate) fn explain<'a>(
    snapshot: &'a Snapshot,
    map: Map,
    key: &[u8],
    scratch: &'a mut Scratch,
) -> Explanation<'a> {
    if map == Map::SASL {
        return login(snapshot, key);
    }
    let mut keys = LookupKeys::default();
    let answer = map.answer(snapshot, key, &mut keys, scratch);
    explain_answer(snapshot, map, key, &keys, answer)
}

/// How many next hops of a list are explained. A line of the relay map has room for thousands.
pub(crate) const MAX_NEXT_HOPS: usize = 20;

/// Returns the rest of a sender's route: the credentials for its next hops, or their TLS policies, or its next hop.
#[must_use]
pub(crate) fn related<'a>(snapshot: &'a Snapshot, explanation: &Explanation<'a>) -> Vec<Explanation<'a>> {
    let keys = LookupKeys::of(&explanation.key, &snapshot.delimiters);
    match (explanation.map.answers, explanation.answer) {
        (AnswerKind::NextHop, Answer::Found(list)) => {
            let mut all: Vec<Explanation<'_>> = Vec::new();
            for next_hop in nexthop::elements(list.expose()).take(MAX_NEXT_HOPS) {
                for lookup in credentials(snapshot, &explanation.key, Some(next_hop)) {
                    if !all.iter().any(|known| known.key == lookup.key) {
                        all.push(lookup);
                    }
                }
            }
            all
        }
        (AnswerKind::NextHop, Answer::NotFound) => credentials(snapshot, &explanation.key, None),
        (AnswerKind::Transport, _) => match snapshot.next_hop(&keys) {
            Answer::Found(list) => nexthop::elements(list.expose())
                .take(MAX_NEXT_HOPS)
                .map(|next_hop| tls_policy(snapshot, next_hop))
                .collect(),
            Answer::NotFound | Answer::CannotTell(_) => Vec::new(),
        },
        (AnswerKind::Login, _) if keys.is_sender() => vec![next_hop(snapshot, &explanation.key)],
        _ => Vec::new(),
    }
}

/// Explains the next hop of a sender.
fn next_hop<'a>(snapshot: &'a Snapshot, sender: &[u8]) -> Explanation<'a> {
    let mut keys = LookupKeys::default();
    let answer = snapshot.next_hop_for(sender, &mut keys);
    explain_answer(snapshot, Map::RELAYHOST, sender, &keys, answer)
}

/// Explains the login of a sender, a host or a next hop.
fn login<'a>(snapshot: &'a Snapshot, key: &[u8]) -> Explanation<'a> {
    let mut keys = LookupKeys::default();
    let answer = snapshot.login_for(key, &mut keys);
    if keys.is_sender() && snapshot.has_moved(&keys) {
        return moved_sender::first_lookup(key, &keys);
    }
    explain_answer(snapshot, Map::SASL, key, &keys, answer)
}

/// Explains the TLS policy of a next hop.
fn tls_policy<'a>(snapshot: &'a Snapshot, next_hop: &[u8]) -> Explanation<'a> {
    let keys = LookupKeys::of(next_hop, &snapshot.delimiters);
    let answer = snapshot.relay_tls.policy(keys.whole());
    explain_answer(snapshot, Map::TLS, next_hop, &keys, answer)
}

fn explain_answer<'a>(
    snapshot: &Snapshot,
    map: Map,
    key: &[u8],
    keys: &LookupKeys,
    answer: Answer<'a>,
) -> Explanation<'a> {
    let keys_in_order = map.search.keys(snapshot, keys);
    let table = snapshot.table(map.table);
    let found = table.and_then(|table| Entry::find(table, &keys_in_order));
    let entry = found.map(|(_, entry)| entry);
    let why = map.search.explain(snapshot, keys, answer, entry);
    let last = found.map_or(keys_in_order.len(), |(number, _)| number + 1);
    Explanation {
        map,
        key: key.to_vec(),
        answer,
        tried: keys_in_order.iter().take(last).map(|key| key.to_vec()).collect(),
        source: why.source,
        reason: why.reason,
    }
}

/// Explains the credentials that Postfix finds for a mail from `sender` to `next_hop`, one element of a list: one
/// explanation for each lookup, up to the one that is answered.
fn credentials<'a>(snapshot: &'a Snapshot, sender: &[u8], next_hop: Option<&[u8]>) -> Vec<Explanation<'a>> {
    let keys = LookupKeys::of(sender, &snapshot.delimiters);
    let mut keys_in_order = Vec::new();
    // Postfix never looks up the null sender (smtp_sender_dependent_authentication in postconf(5)).
    if keys.whole() != crate::lookup::address::NULL_SENDER {
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
    if keys.is_sender() && snapshot.has_moved(&keys) {
        return moved_sender::lookups(snapshot, &keys, &keys_in_order);
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
