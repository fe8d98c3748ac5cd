//! Explains an answer of a snapshot: the keys that were tried, the line or variable that answered, what was withheld.
//!
//! The answer itself is that of [`Map::answer`]. [`credentials`] follows Postfix through its lookups for one mail:
//! the sender, then the server's host name, then the next hop (`smtp_sasl_passwd_lookup` in smtp/smtp_sasl_glue.c),
//! until one is found.
//!
//! Limits: not known here is what Postfix gets elsewhere: the MX hosts of a next hop without brackets, and a next hop
//! from main.cf.

use crate::lookup::address::LookupKeys;
use crate::lookup::map::Map;
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

/// Looks up `key` in `map`, and explains the answer, which may borrow from `scratch`.
#[must_use]
pub(crate) fn explain<'a>(
    snapshot: &'a Snapshot,
    map: Map,
    key: &[u8],
    scratch: &'a mut Scratch,
) -> Explanation<'a> {
    let mut keys = LookupKeys::default();
    let answer = map.answer(snapshot, key, &mut keys, scratch);
    explain_answer(snapshot, map, key, &keys, answer)
}

/// Explains the next hop of a sender.
#[must_use]
pub(crate) fn next_hop<'a>(snapshot: &'a Snapshot, sender: &[u8]) -> Explanation<'a> {
    let mut keys = LookupKeys::default();
    let answer = snapshot.next_hop_for(sender, &mut keys);
    explain_answer(snapshot, Map::RELAYHOST, sender, &keys, answer)
}

/// Explains the login of a sender, a host or a next hop.
#[must_use]
pub(crate) fn login<'a>(snapshot: &'a Snapshot, key: &[u8]) -> Explanation<'a> {
    let mut keys = LookupKeys::default();
    let answer = snapshot.login_for(key, &mut keys);
    explain_answer(snapshot, Map::SASL, key, &keys, answer)
}

/// Explains the TLS policy of a next hop.
#[must_use]
pub(crate) fn tls_policy<'a>(snapshot: &'a Snapshot, next_hop: &[u8]) -> Explanation<'a> {
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
        let keys = LookupKeys::of(sender, &snapshot.delimiters);
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
