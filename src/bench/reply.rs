//! Bytes from a server, cut into replies, and each judged.
//!
//! The framing is that of the protocols, as strictly as the rest of postmapd reads it. A value that is expected is
//! compared byte for byte; of *not found* and *cannot tell* the text is the server's own affair.

use bytes::BytesMut;

use super::keys::{Expected, Questions};
use super::tally::{Fault, Outcome};
use crate::protocol::{InvalidReply, ParsedReply, Protocol};

/// What the bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begins {
    /// A reply that is not whole.
    Partial,
    /// A reply.
    Reply {
        /// Its length.
        length: usize,
        /// What it says.
        outcome: Outcome,
        /// What is wrong with that.
        fault: Option<Fault>,
    },
    /// Not a reply.
    Malformed,
}

/// Judges the first reply in `input` as the answer to this question. `memory` is lent for decoding.
pub(super) fn judge(
    protocol: Protocol,
    input: &[u8],
    questions: &Questions,
    number: usize,
    memory: &mut BytesMut,
) -> Begins {
    let expected = questions.expected(number);
    let right = questions.reply(number);
    if let Expected::Is(outcome) = expected
        && !right.is_empty()
        && input.starts_with(right)
    {
        return Begins::Reply {
            length: right.len(),
            outcome,
            fault: None,
        };
    }
    let (told, length) = match protocol.decode_reply(input, memory) {
        Err(InvalidReply) => return Begins::Malformed,
        Ok(None) => return Begins::Partial,
        Ok(Some(reply)) => reply,
    };
    let (outcome, is_value) = match told {
        ParsedReply::Found(value) => (Outcome::Found, value == questions.value(number)),
        ParsedReply::NotFound => (Outcome::NotFound, true),
        ParsedReply::CannotTell(_) => (Outcome::CannotTell, true),
    };
    let fault = match expected {
        Expected::Is(right) if right == outcome && is_value => None,
        Expected::Is(_) => Some(Fault::Wrong),
        Expected::Unknown if outcome == Outcome::CannotTell => Some(Fault::CannotTell),
        Expected::Unknown => None,
    };
    Begins::Reply {
        length,
        outcome,
        fault,
    }
}
