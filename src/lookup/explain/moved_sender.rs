//! The lookups of a sender whose next hop changed within the last minutes ([`crate::lookup::moved_senders`]), as a server
//! answers them on one connection (`crate::server::exchange`).
//!
//! Limits: for a next hop without brackets, the host that Postfix looks up is one of its MX hosts and is unknown here; an
//! entry of the credentials for such a host is not considered.

use super::Explanation;
use crate::lookup::address::{Key, LookupKeys};
use crate::lookup::map::Map;
use crate::lookup::snapshot::Snapshot;
use crate::protocol::answer::Answer;

/// Explains the lookup of the sender, which must have moved.
pub(super) fn first_lookup<'a>(key: &[u8], keys: &LookupKeys) -> Explanation<'a> {
    Explanation {
        map: Map::SASL,
        key: key.to_vec(),
        answer: Answer::NotFound,
        tried: keys.of_credentials().map(Key::to_vec).collect(),
        source: None,
        reason: "the sender's next hop changed within reload.in_flight, so its login depends on the next hop, which \
                 Postfix looks up next on the same connection"
            .to_owned(),
    }
}

/// Explains the lookups for a mail from the sender of `keys`, which must have moved. `requests` are the keys that Postfix
/// looks up: the sender, the host if it is known, and the next hop.
pub(super) fn lookups<'a>(
    snapshot: &'a Snapshot,
    keys: &LookupKeys,
    requests: &[Vec<u8>],
) -> Vec<Explanation<'a>> {
    let Some((sender, rest)) = requests.split_first() else {
        return Vec::new();
    };
    let mut explanations = vec![first_lookup(sender, keys)];
    if let [host, _, ..] = rest {
        explanations.push(lookup(
            host,
            Answer::NotFound,
            "the login of a sender that has moved is answered for the next hop, and an entry for the host would hide that",
        ));
    }
    if let Some(next_hop) = rest.last() {
        let [host, hop] =
            [rest.first().unwrap_or(next_hop), next_hop].map(|key| LookupKeys::of(key, &snapshot.delimiters));
        let answer = snapshot.login_at(keys, host.whole_key(), hop.whole_key());
        explanations.push(lookup(
            next_hop,
            answer,
            match answer {
                Answer::Found(_) => {
                    "the login of this sender at this next hop, from the newest version of the files that had the pair"
                }
                Answer::NotFound => "this sender has no login at this next hop",
                Answer::CannotTell(reason) => reason.text(),
            },
        ));
    }
    explanations
}

fn lookup<'a>(key: &[u8], answer: Answer<'a>, reason: &str) -> Explanation<'a> {
    Explanation {
        map: Map::SASL,
        key: key.to_vec(),
        answer,
        tried: vec![key.to_vec()],
        source: None,
        reason: reason.to_owned(),
    }
}
