//! Splits received bytes into replies, and compares each with the expected reply.
//!
//! The framing of the protocols is checked as strictly as in the rest of postmapd. An expected value is compared byte
//! for byte. The texts of *not found* and *cannot tell* are free.

use bytes::BytesMut;

use super::keys::RequestSet;
use super::tally::{ErrorKind, Outcome};
use crate::protocol::{InvalidReply, ParsedReply, Protocol};

/// A decoded reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CheckedReply {
    /// Its length, in bytes.
    pub(super) length: usize,
    /// The kind of reply.
    pub(super) outcome: Outcome,
    /// The error, if it is not the expected reply.
    pub(super) error: Option<ErrorKind>,
}

/// Decodes the first reply in `input` and compares it with the one expected for request `number`. `None` if it is
/// incomplete. `buffer` is reused for decoding.
pub(super) fn check_reply(
    protocol: Protocol,
    input: &[u8],
    requests: &RequestSet,
    number: usize,
    buffer: &mut BytesMut,
) -> Result<Option<CheckedReply>, InvalidReply> {
    let expected = requests.expected(number);
    let expected_bytes = requests.reply(number);
    if let Some(outcome) = expected
        && !expected_bytes.is_empty()
        && input.starts_with(expected_bytes)
    {
        return Ok(Some(CheckedReply {
            length: expected_bytes.len(),
            outcome,
            error: None,
        }));
    }
    let Some((reply, length)) = protocol.decode_reply(input, buffer)? else {
        return Ok(None);
    };
    let (outcome, is_value) = match reply {
        ParsedReply::Found(value) => (Outcome::Found, value == requests.value(number)),
        ParsedReply::NotFound => (Outcome::NotFound, true),
        ParsedReply::CannotTell(_) => (Outcome::CannotTell, true),
    };
    let error = match expected {
        Some(expected) if expected == outcome && is_value => None,
        Some(_) => Some(ErrorKind::Wrong),
        None if outcome == Outcome::CannotTell => Some(ErrorKind::CannotTell),
        None => None,
    };
    Ok(Some(CheckedReply {
        length,
        outcome,
        error,
    }))
}
