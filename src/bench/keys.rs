//! The requests: keys from a list, from the tables or synthetic, each with its expected reply if that is known.
//!
//! Everything is computed and encoded before the first request is sent. The same seed gives the same keys in the same
//! order. Of a credentials file, only keys that cannot be a misplaced password are used (entries with a value, and
//! senders), because the report prints keys with wrong replies.

use bytes::BytesMut;
use thiserror::Error;

use super::number::{ratio, round, to_f64, to_u64};
use super::tally::Outcome;
use super::target::Target;
use crate::lookup::address::LookupKeys;
use crate::lookup::map::Map;
use crate::lookup::search::Scratch;
use crate::lookup::snapshot::Snapshot;
use crate::lookup::table::grammar::Content;
use crate::os::secret::Secret;
use crate::protocol::answer::Answer;
use crate::protocol::{MAX_KEY, Protocol, netstring};

/// Why there are no keys.
#[derive(Debug, Error)]
pub(crate) enum KeysError {
    /// The list or the table is empty.
    #[error("no keys: {0}")]
    None(&'static str),
    /// A key is longer than the protocols of postmapd allow.
    #[error("key {0} is longer than {MAX_KEY} bytes")]
    TooLong(usize),
    /// A sender without an entry is not answered with *not found*.
    #[error("a sender without an entry gets the reply {0:?}, so --hits cannot add misses; omit it")]
    NoMisses(&'static str),
    /// There are too many keys to number.
    #[error("there are more than 4 294 967 295 keys")]
    TooMany,
}

/// A list of byte strings in one buffer. It is wiped, because some are credentials.
#[derive(Default)]
struct ByteStrings {
    bytes: Secret,
    ends: Vec<usize>,
}

impl ByteStrings {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.append(bytes);
        self.ends.push(self.bytes.len());
    }

    fn get(&self, number: usize) -> &[u8] {
        let start = number.checked_sub(1).and_then(|before| self.ends.get(before));
        let end = self.ends.get(number).copied().unwrap_or_default();
        let bytes = self.bytes.expose().get(start.copied().unwrap_or_default()..end);
        bytes.unwrap_or_default()
    }
}

/// Requests, encoded for one server, and their expected replies. They are sent in order, repeatedly.
pub(crate) struct RequestSet {
    keys: ByteStrings,
    requests: ByteStrings,
    /// The value, where the expected reply has one.
    values: ByteStrings,
    /// The complete expected reply as nearly every server sends it, so that one comparison suffices.
    replies: ByteStrings,
    /// The kind of the expected reply. `None` if there is nothing to compare with.
    expected: Vec<Option<Outcome>>,
}

impl RequestSet {
    /// Encodes requests to `target` for these keys. The answers of the snapshot, if given, are the expected ones.
    pub(crate) fn new(
        target: &Target,
        keys: &[Vec<u8>],
        expected: Option<(&Snapshot, Map)>,
    ) -> Result<Self, KeysError> {
        if u32::try_from(keys.len()).is_err() {
            return Err(KeysError::TooMany);
        }
        let mut set = Self {
            keys: ByteStrings::default(),
            requests: ByteStrings::default(),
            values: ByteStrings::default(),
            replies: ByteStrings::default(),
            expected: Vec::with_capacity(keys.len()),
        };
        let (mut sender_keys, mut scratch, mut bytes) =
            (LookupKeys::default(), Scratch::default(), BytesMut::new());
        for (number, key) in keys.iter().enumerate() {
            if key.len() > MAX_KEY {
                return Err(KeysError::TooLong(number + 1));
            }
            set.keys.push(key);
            bytes.clear();
            target.encode(key, &mut bytes);
            set.requests.push(&bytes);
            let answer =
                expected.map(|(snapshot, map)| map.answer(snapshot, key, &mut sender_keys, &mut scratch));
            bytes.clear();
            set.expected.push(match answer {
                None => None,
                Some(Answer::Found(value)) => {
                    target.protocol.encode_found(value.expose(), &mut bytes);
                    set.values.push(value.expose());
                    Some(Outcome::Found)
                }
                Some(Answer::NotFound) => {
                    if target.protocol == Protocol::Socketmap {
                        netstring::encode(&[b"NOTFOUND "], &mut bytes);
                    }
                    Some(Outcome::NotFound)
                }
                Some(Answer::CannotTell(_)) => Some(Outcome::CannotTell),
            });
            if set.values.ends.len() < set.expected.len() {
                set.values.push(b"");
            }
            set.replies.push(&bytes);
        }
        if set.expected.is_empty() {
            return Err(KeysError::None("the list is empty"));
        }
        Ok(set)
    }

    /// Returns the number of requests; at least one.
    pub(crate) fn len(&self) -> usize {
        self.expected.len()
    }

    /// Returns the key of a request.
    pub(crate) fn key(&self, number: usize) -> &[u8] {
        self.keys.get(number)
    }

    pub(super) fn request(&self, number: usize) -> &[u8] {
        self.requests.get(number)
    }

    pub(super) fn value(&self, number: usize) -> &[u8] {
        self.values.get(number)
    }

    /// Returns the expected bytes of the reply. Empty if several encodings are valid.
    pub(super) fn reply(&self, number: usize) -> &[u8] {
        self.replies.get(number)
    }

    pub(super) fn expected(&self, number: usize) -> Option<Outcome> {
        self.expected.get(number).copied().flatten()
    }
}

/// A pseudo-random generator (SplitMix64): the same seed gives the same numbers.
pub(crate) struct Random(u64);

impl Random {
    /// Creates a generator with this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`, which must not be 0. The modulo bias of 64 bits is negligible.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % to_u64(end.max(1))).unwrap_or_default()
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            let other = self.below(last + 1);
            all.swap(last, other);
        }
    }
}

/// The minimum number of keys of a mix of hits and misses, so that a server that caches its last answers has no
/// advantage.
const MIN_MIXED_KEYS: usize = 1_000;

/// Returns keys that the tables have entries for, in random order, at most `max`: for `@domain` a sender in that
/// domain, otherwise the key as written. With `hits`, this share of the keys is found, and the others are senders
/// without an entry.
pub(crate) fn from_tables(
    snapshot: &Snapshot,
    map: Map,
    hits: Option<f64>,
    max: usize,
    random: &mut Random,
) -> Result<Vec<Vec<u8>>, KeysError> {
    let Some(table) = snapshot.table(map.table) else {
        return Ok(Vec::new());
    };
    // A key of a secret table may be a misplaced password.
    let is_secret = map.table.is_secret();
    let (mut sender_keys, mut scratch) = (LookupKeys::default(), Scratch::default());
    let (mut keys, mut seen) = (Vec::new(), 0);
    table.for_each(|record| {
        let is_sender = record.key.contains(&b'@') || record.key == b"<>";
        let is_sure_to_be_a_key = match record.content {
            Content::Value(_) => true,
            Content::NoValue => !is_secret || is_sender,
            Content::Invalid => !is_secret,
        };
        if !is_sure_to_be_a_key {
            return;
        }
        let key = match record.key.strip_prefix(b"@") {
            Some(domain) => [
                format!("user{}@", random.below(MIN_MIXED_KEYS)).as_bytes(),
                domain,
            ]
            .concat(),
            None => record.key.to_vec(),
        };
        let mut is_found = || {
            let answer = map.answer(snapshot, &key, &mut sender_keys, &mut scratch);
            matches!(answer, Answer::Found(_))
        };
        if hits.is_some() && !is_found() {
            return;
        }
        seen += 1;
        // Reservoir sampling: the n-th key is taken with probability max/n.
        if keys.len() < max {
            keys.push(key);
        } else if let Some(place) = keys.get_mut(random.below(seen)) {
            *place = key;
        }
    });
    random.shuffle(&mut keys);
    if let Some(hits) = hits {
        keys = mix_with_misses(keys, snapshot, map, hits, max, random)?;
    }
    if keys.is_empty() {
        return Err(KeysError::None(
            "the table of this map has no entry that can be looked up",
        ));
    }
    Ok(keys)
}

/// Returns `keys`, repeated or truncated so that they are the share `hits`, mixed with senders without an entry.
fn mix_with_misses(
    keys: Vec<Vec<u8>>,
    snapshot: &Snapshot,
    map: Map,
    hits: f64,
    max: usize,
    random: &mut Random,
) -> Result<Vec<Vec<u8>>, KeysError> {
    let total = round(ratio(to_f64(to_u64(keys.len())), hits));
    let all = usize::try_from(total)
        .unwrap_or(max)
        .clamp(MIN_MIXED_KEYS.min(max), max);
    let found = usize::try_from(round(to_f64(to_u64(all)) * hits)).unwrap_or(all);
    if found > 0 && keys.is_empty() {
        return Err(KeysError::None("the table of this map has no entry with a value"));
    }
    let mut mixed: Vec<_> = keys.into_iter().cycle().take(found).collect();
    let (mut sender_keys, mut scratch) = (LookupKeys::default(), Scratch::default());
    for key in synthetic(all - found, random) {
        match map.answer(snapshot, &key, &mut sender_keys, &mut scratch) {
            Answer::NotFound => mixed.push(key),
            other => return Err(KeysError::NoMisses(other.outcome())),
        }
    }
    random.shuffle(&mut mixed);
    Ok(mixed)
}

/// Returns `number` senders without an entry, in domains below .invalid (RFC 2606).
pub(crate) fn synthetic(number: usize, random: &mut Random) -> Vec<Vec<u8>> {
    let sender = |_| {
        format!(
            "user{}@domain{}.invalid",
            random.below(1_000_000),
            random.below(100_000)
        )
    };
    (0..number).map(sender).map(String::into_bytes).collect()
}

/// Returns the keys in a text, one on each line. Empty lines are skipped.
pub(crate) fn from_lines(text: &[u8]) -> Vec<Vec<u8>> {
    text.split(|c| *c == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Random, RequestSet, Target, from_lines, from_tables};
    use crate::bench::tally::Outcome;
    use crate::diagnostics::Findings;
    use crate::lookup::address::LookupKeys;
    use crate::lookup::map::Map;
    use crate::lookup::table::spec::{CREDENTIALS, RELAY_MAP};

    use crate::lookup::snapshot::Snapshot;
    use crate::lookup::table::Table;
    use crate::protocol::answer::Answer;

    fn snapshot(relay_map: &str, credentials: &str) -> Snapshot {
        let build = |map, text: &str| {
            let mut findings = Findings::default();
            Table::build(
                map,
                Path::new("t"),
                text.as_bytes().to_vec().into(),
                &mut findings,
            )
            .into()
        };
        Snapshot::new(build(&RELAY_MAP, relay_map), build(&CREDENTIALS, credentials))
    }

    fn found(snapshot: &Snapshot, keys: &[Vec<u8>]) -> usize {
        let mut sender_keys = LookupKeys::default();
        keys.iter()
            .filter(|key| matches!(snapshot.next_hop_for(key, &mut sender_keys), Answer::Found(_)))
            .count()
    }

    #[test]
    fn the_share_of_hits_is_exact_and_a_seed_reproduces_the_keys() {
        let routes = snapshot("@a [r]\nb@b [r]\n@c\n", "");
        let keys =
            |hits, seed| from_tables(&routes, Map::RELAYHOST, hits, 10_000, &mut Random::new(seed)).unwrap();
        for (hits, expected) in [(0.75, 750), (1.0, 1000), (0.0, 0)] {
            let keys = keys(Some(hits), 1);
            assert_eq!((keys.len(), found(&routes, &keys)), (1000, expected));
        }
        assert_eq!(keys(None, 1).len(), 3);
        assert_eq!(keys(Some(0.5), 7), keys(Some(0.5), 7));
        assert_ne!(keys(Some(0.5), 7), keys(Some(0.5), 8));
    }

    #[test]
    fn a_large_table_is_sampled_without_repetition() {
        let lines: Vec<String> = (0..500).map(|n| format!("u{n}@a [r]\n")).collect();
        let routes = snapshot(&lines.concat(), "");
        let keys = from_tables(&routes, Map::RELAYHOST, None, 100, &mut Random::new(1)).unwrap();
        let different: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!((keys.len(), different.len()), (100, 100));
    }

    #[test]
    fn a_possibly_misplaced_password_is_never_a_key() {
        let routes = snapshot("", "user:secret @a\nsecret\n:secret\n[r]:25 u:p\n@b u:p\nx@b\n");
        let mut keys = from_tables(&routes, Map::SASL, None, 100, &mut Random::new(1)).unwrap();
        keys.sort();
        assert_eq!(keys.len(), 3);
        assert_eq!(
            (keys[0].as_slice(), keys[2].as_slice()),
            (&b"[r]:25"[..], &b"x@b"[..])
        );
        assert!(keys[1].starts_with(b"user") && keys[1].ends_with(b"@b"));
    }

    #[test]
    fn each_key_has_its_request_and_its_expected_reply() {
        let routes = snapshot("@a [r]\n@c [\n", "");
        let keys = from_lines(b"x@a\r\n\nx@b\nx@c");
        let requests_for = |target: &str| {
            let target = Target::new(target, "relayhost").unwrap();
            RequestSet::new(&target, &keys, Some((&routes, Map::RELAYHOST))).unwrap()
        };
        let requests = requests_for("socketmap:inet:h:1");
        assert_eq!(requests.request(0), b"13:relayhost x@a,");
        assert_eq!(
            (requests.reply(0), requests.value(0)),
            (&b"6:OK [r],"[..], &b"[r]"[..])
        );
        assert_eq!(
            (requests.reply(1), requests.value(1)),
            (&b"9:NOTFOUND ,"[..], &b""[..])
        );
        assert_eq!(requests.expected(2), Some(Outcome::CannotTell));
        let requests = requests_for("tcp:h:1");
        assert_eq!(
            (requests.request(1), requests.key(1)),
            (&b"get x@b\n"[..], &b"x@b"[..])
        );
        assert_eq!(
            (requests.reply(0), requests.reply(1)),
            (&b"200 [r]\n"[..], &b""[..])
        );
    }
}
