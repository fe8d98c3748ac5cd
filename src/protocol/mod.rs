//! The two protocols over bytes, of the server ([`Codec`]) and of a client. No socket, no clock, no table.
//!
//! [`socketmap`] frames requests as netstrings, each with the name of a map. [`tcp_table`] has one request a line and
//! one map a port. A map is only a name here. Both decode to [`Request`] and encode a [`Reply`], and both are
//! incremental: a request may arrive in any pieces, and a decoder never reserves memory for a length that a peer
//! announces.
//!
//! A well-framed request that is not a lookup is [`Request::Invalid`], and the connection stays open. A
//! [`FramingError`] leaves the start of the next request unknown, so the session replies once more and closes the
//! connection.
//!
//! A request is decoded in place and borrows the input, which saves a copy and a reference count.
//!
//! [`Protocol`] lists the protocols. A third one is a module here, a variant with its arms below, and its prefix in
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

/// The maximum length of a key in bytes: Postfix's `socketmap_max_query_size` (3.12). The client of Postfix 3.11 and
/// older has no limit of its own, but `line_length_limit` keeps a real sender below 2 kB.
pub const MAX_KEY: usize = 10_000;

/// The protocol of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// socketmap_table(5): serves all maps, each by its name.
    Socketmap,
    /// tcp_table(5): serves the map of this name.
    TcpTable(&'static str),
}

impl Protocol {
    /// Returns the codec of one connection, on the server's side.
    #[must_use]
    pub fn codec(self) -> ProtocolCodec {
        ProtocolCodec {
            protocol: self,
            scanned: 0,
        }
    }

    /// Appends the request for `key` in the map of this name. Other servers may have maps that this one has not.
    pub fn encode_request(self, map: &str, key: &[u8], request: &mut BytesMut) {
        match self {
            Self::Socketmap => socketmap::encode_request(map, key, request),
            Self::TcpTable(_) => tcp_table::encode_request(key, request),
        }
    }

    /// Appends the reply *found* with `value`, without a limit on its length.
    pub(crate) fn encode_found(self, value: &[u8], reply: &mut BytesMut) {
        match self {
            Self::Socketmap => socketmap::encode_found(value, reply),
            Self::TcpTable(_) => tcp_table::encode_found(value, reply),
        }
    }

    /// Returns the first reply in `input` and its length in bytes, or `None` if it is incomplete. `buffer` is memory
    /// for the decoded reply.
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

/// The server's bytes are not a reply of the protocol, or longer than any reply that Postfix reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidReply;

/// The maximum length of a reply of either protocol in bytes, with its frame.
pub const MAX_REPLY: usize = socketmap::MAX_REPLY + 16;

/// The server's side of a protocol.
///
/// Not the traits of `tokio_util::codec`: there a request owns its bytes, which costs several atomic reference counts a
/// lookup (a tenth of its work outside the kernel; benches/runtime.md).
pub trait Codec {
    /// Returns the first request in `input` and its length in bytes, or `None` if it is incomplete; the next call must
    /// have the same bytes, followed by more.
    fn decode<'i>(&mut self, input: &'i mut [u8]) -> Result<Option<(Request<'i>, usize)>, FramingError>;

    /// Appends `reply` to `output`.
    fn encode(&mut self, reply: &Reply<'_>, output: &mut BytesMut);
}

/// The codec of one connection, on the server's side.
#[derive(Clone, Debug)]
pub struct ProtocolCodec {
    protocol: Protocol,
    /// The length of the input's prefix that is known to have no line end.
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

/// A complete request.
pub enum Request<'i> {
    /// A lookup of `key` in `map`.
    Lookup {
        /// The name of the map, as received.
        map: &'i [u8],
        /// The key, as received.
        key: &'i [u8],
    },
    /// A complete frame that is not a lookup.
    Invalid,
}

/// A reply of the server.
pub enum Reply<'a> {
    /// The answer of a map.
    Answer(Answer<'a>),
    /// The request is refused for this reason: it is not a lookup, the map does not exist, or the peer is not allowed
    /// to query it. Never encoded as *not found*.
    Refused(&'a str),
    /// The framing is broken. The connection closes after this reply.
    FramingError(&'a FramingError),
}

/// A reply as a client parses it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ParsedReply<'a> {
    /// The value. It may be a credential, so this type does not implement `Debug`.
    Found(&'a [u8]),
    /// The key has no value.
    NotFound,
    /// A temporary error or a refusal, with its reason.
    CannotTell(&'a [u8]),
}

/// Why a peer's bytes are not a request of the protocol.
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
