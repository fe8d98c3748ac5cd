//! Bytes from a server, cut into replies, and each judged.
//!
//! The framing is that of the protocols, as strictly as the rest of postmapd reads it. A value that is expected is
//! compared byte for byte; of *not found* and *cannot tell* the text is the server's own affair.

use bytes::BytesMut;

use super::keys::Questions;
use super::tally::{Fault, Outcome};
use crate::protocol::{InvalidReply, ParsedReply, Protocol};

/// A reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    /// Its length.
    pub(super) length: usize,
    /// What it says.
    pub(super) outcome: Outcome,
    /// What is wrong with that.
    pub(super) fault: Option<Fault>,
}

/// Judges the first reply in `input` as the answer to this question; `None` where it is not whole. `memory` is lent for decoding.
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
