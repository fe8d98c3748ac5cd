//! Splits received bytes into replies, and compares each with the expected reply.
//!
//! The framing of the protocols is checked as strictly as in the rest of postmapd. An expected value is compared byte
//! for byte. The texts of *not found* and *cannot tell* are free.

use bytes::BytesMut;

use super::keys::Questions;
use super::tally::{Fault, Outcome};
use crate::protocol::{InvalidReply, ParsedReply, Protocol};

/// A decoded reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    /// Its length, in bytes.
    pub(super) length: usize,
    /// The kind of reply.
    pub(super) outcome: Outcome,
    /// The error, if it is not the expected reply.
    pub(super) fault: Option<Fault>,
}

/// Decodes the first reply in `input` and compares it with the one expected for request `number`. `None` if it is
/// incomplete. `buffer` is reused for decoding.
pub(super) fn judge(
    protocol: Protocol,
    input: &[u8],
    questions: &Questions,
    number: usize,
    memory: &mut BytesMut,
) -> Result<Option<Judged>, InvalidReply> {
    let expected = questions.expected(number);
    let right = questions.reply(number);
    if let Some(outcome) = expected
        && !right.is_empty()
        && input.starts_with(right)
    {
        return Ok(Some(Judged {
            length: right.len(),
            outcome,
            fault: None,
        }));
    }
    let Some((told, length)) = protocol.decode_reply(input, memory)? else {
        return Ok(None);
    };
    let (outcome, is_value) = match told {
        ParsedReply::Found(value) => (Outcome::Found, value == questions.value(number)),
        ParsedReply::NotFound => (Outcome::NotFound, true),
        ParsedReply::CannotTell(_) => (Outcome::CannotTell, true),
    };
    let fault = match expected {
        Some(right) if right == outcome && is_value => None,
        Some(_) => Some(Fault::Wrong),
        None if outcome == Outcome::CannotTell => Some(Fault::CannotTell),
        None => None,
    };
    Ok(Some(Judged {
        length,
        outcome,
        fault,
    }))
}
