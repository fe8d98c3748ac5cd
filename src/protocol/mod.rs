//! The two protocols over bytes, on the server's side ([`Codec`]) and on the client's: no socket, no clock, no table.
//!
//! [`socketmap`] frames its requests as netstrings and names the map in each; [`tcp_table`] has a line a request
//! and a map a port. Which maps there are is not known here: a map is a name. Both decode to [`Request`] and encode a [`Reply`], and both are incremental: a request may
//! arrive in any pieces, and a decoder never reserves buffer because of a length that a peer announced.
//!
//! Well-framed nonsense is [`Request::Invalid`] and the connection goes on. Broken framing is a [`FramingError`]: where
//! the next request begins is then unknown, so the session answers once more and closes.
//!
//! A request is decoded in place and borrows the input, so that it costs neither a copy nor a count of references.
//!
//! [`Protocol`] is the one list of them. A third one is a module here, a variant with its arms below, and its prefix in
//! [`crate::protocol::endpoint`].

pub mod answer;
pub mod client;
pub mod endpoint;
pub mod netstring;
pub mod socketmap;
pub mod tcp_table;

use bytes::BytesMut;
use thiserror::Error;

use crate::protocol::answer::Answer;

/// The longest key, in bytes: Postfix's `socketmap_max_query_size` (3.12). Up to 3.11 its client has no limit of
/// its own, but `line_length_limit` keeps a real sender below 2 kB.
pub const MAX_KEY: usize = 10_000;

/// How maps are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// socketmap_table(5): every map, by its name.
    Socketmap,
    /// tcp_table(5): the map of this name.
    TcpTable(&'static str),
}

impl Protocol {
    /// The server's side of one connection.
    #[must_use]
    pub fn codec(self) -> ProtocolCodec {
        ProtocolCodec {
            protocol: self,
            scanned: 0,
        }
    }

    /// Appends the request for `key` in the map of this name, which other servers than ours may have.
    pub fn encode_request(self, map: &str, key: &[u8], request: &mut BytesMut) {
        match self {
            Self::Socketmap => socketmap::encode_request(map, key, request),
            Self::TcpTable(_) => tcp_table::encode_request(key, request),
        }
    }

    /// Appends the reply that has found `value`, however long it is.
    pub(crate) fn encode_found(self, value: &[u8], reply: &mut BytesMut) {
        match self {
            Self::Socketmap => socketmap::encode_found(value, reply),
            Self::TcpTable(_) => tcp_table::encode_found(value, reply),
        }
    }

    /// The first reply in `input`, and how many bytes it has. `None` where it has not arrived whole. `buffer` is lent for
    /// decoding.
    pub fn decode_reply<'a>(
        self,
        input: &'a [u8],
        buffer: &'a mut BytesMut,
    ) -> Result<Option<(ParsedReply<'a>, usize)>, InvalidReply> {
        match self {
            Self::Socketmap => socketmap::decode_reply(input),
            Self::TcpTable(_) => tcp_table::decode_reply(input, buffer),
        }
    }
}

/// The bytes of a server are not the protocol, or longer than any reply that Postfix reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidReply;

/// The longest reply of either protocol, with its frame.
pub const MAX_REPLY: usize = socketmap::MAX_REPLY + 16;

/// Either protocol, as the server speaks it.
///
/// Not the traits of `tokio_util::codec`: there, a request owns its bytes, and each lookup pays for that with several
/// atomic counts (a tenth of all that it does outside the kernel; benches/runtime.md).
pub trait Codec {
    /// The first request in `input`, and how many bytes it took. `None` where it has not arrived whole; call again with
    /// the same bytes and more behind them.
    fn decode<'i>(&mut self, input: &'i mut [u8]) -> Result<Option<(Request<'i>, usize)>, FramingError>;

    /// Appends a reply to `output`.
    fn encode(&mut self, reply: &Reply<'_>, output: &mut BytesMut);
}

/// The server's side of one connection.
#[derive(Clone, Debug)]
pub struct ProtocolCodec {
    protocol: Protocol,
    /// How much of the input is known to hold no end of a line.
    scanned: usize,
}

impl Codec for ProtocolCodec {
    #[inline]
    fn decode<'i>(&mut self, input: &'i mut [u8]) -> Result<Option<(Request<'i>, usize)>, FramingError> {
        match self.protocol {
            Protocol::Socketmap => socketmap::decode(input),
            Protocol::TcpTable(map) => tcp_table::decode(map, &mut self.scanned, input),
        }
    }

    #[inline]
    fn encode(&mut self, reply: &Reply<'_>, output: &mut BytesMut) {
        match self.protocol {
            Protocol::Socketmap => socketmap::encode(reply, output),
            Protocol::TcpTable(_) => tcp_table::encode(reply, output),
        }
    }
}

/// A whole request.
pub enum Request<'i> {
    /// What `map` says of `key`.
    Lookup {
        /// The name of the map, as it came.
        map: &'i [u8],
        /// The key, as it came.
        key: &'i [u8],
    },
    /// Something else in a whole frame.
    Invalid,
}

/// What is sent back.
pub enum Reply<'a> {
    /// An answer.
    Answer(Answer<'a>),
    /// The request is refused for this reason: it is none, there is no such map, or the peer may not ask for it. Never *not
    /// found*.
    Refused(&'a str),
    /// The framing was broken, and the connection ends after this reply.
    FramingError(&'a FramingError),
}

/// What a server said, as a client reads it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ParsedReply<'a> {
    /// This is it. It may be a credential, so this type cannot be printed.
    Found(&'a [u8]),
    /// There is none.
    NotFound,
    /// It cannot tell, or does not want to; with its reason.
    CannotTell(&'a [u8]),
}

/// Why the bytes of a peer are not the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FramingError {
    /// The length of a netstring is not a plain decimal number.
    #[error("the length of the netstring is not a decimal number without leading zeros")]
    Length,
    /// A netstring does not end in a comma.
    #[error("the netstring does not end in a comma")]
    Terminator,
    /// A request is longer than any that Postfix sends.
    #[error("the request is too long")]
    TooLong,
}
