//! The two protocols as codecs over bytes: no socket, no clock, no table.
//!
//! [`socketmap`] frames its requests as netstrings and names the map in each; [`tcp_table`] has a line a request
//! and a map a port. Both decode to [`Asked`] and encode a [`Reply`], and both are incremental: a request may
//! arrive in any pieces, and a decoder never reserves memory because of a length that a peer announced.
//!
//! Well-framed nonsense is [`Asked::Refused`] and the connection goes on. Broken framing is a [`Violation`]: where
//! the next request begins is then unknown, so the session answers once more and closes.
//!
//! A decoder takes its request out of the buffer with `split_to`, which shares memory; so let the request go
//! before reading on, and the buffer is used again in place.

pub mod netstring;
pub mod socketmap;
pub mod tcp_table;

use std::io;

use bytes::BytesMut;
use thiserror::Error;

use crate::answer::{Answer, Map};

/// The longest key, in bytes: Postfix's `socketmap_max_query_size` (3.12). Up to 3.11 its client has no limit of
/// its own, but `line_length_limit` keeps a real sender below 2 kB.
pub const MAX_KEY: usize = 10_000;

/// A whole request.
pub enum Asked {
    /// What `map` says of `key`.
    Lookup {
        /// The map.
        map: Map,
        /// The key, as it came.
        key: BytesMut,
    },
    /// Something that is not answered.
    Refused(Refusal),
}

/// Why a well-framed request is not answered. The text goes to the peer and into its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The request names a map that is not served.
    #[error("there is no such map; the maps are relayhost and sasl")]
    NoSuchMap,
    /// The request is not a lookup.
    #[error("this is not a lookup request")]
    NotARequest,
}

/// What is sent back.
pub enum Reply<'a> {
    /// An answer.
    Answer(Answer<'a>),
    /// The request was refused.
    Refused(Refusal),
    /// The framing was broken, and the connection ends after this reply.
    Broken(&'a Violation),
}

/// What a server said, as a client reads it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Told<'a> {
    /// This is it. It may be a credential, so this type cannot be printed.
    Found(&'a [u8]),
    /// There is none.
    NotFound,
    /// It cannot tell, or does not want to; with its reason.
    CannotTell(&'a [u8]),
}

/// Why the bytes of a peer are not the protocol.
#[derive(Debug, Error)]
pub enum Violation {
    /// The length of a netstring is not a plain decimal number.
    #[error("the length of the netstring is not a decimal number without leading zeros")]
    Length,
    /// A netstring does not end in a comma.
    #[error("the netstring does not end in a comma")]
    Terminator,
    /// A request is longer than any that Postfix sends.
    #[error("the request is too long")]
    TooLong,
    /// Reading failed. Never made here; the trait of the decoders asks for it.
    #[error("reading failed: {0}")]
    Io(#[from] io::Error),
}
